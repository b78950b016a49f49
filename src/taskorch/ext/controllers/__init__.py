"""
The controllers, which are asked by time: `orch.drivers`, also of a simulation.

Decision: schedules.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from copy import deepcopy
from typing import TYPE_CHECKING, Any, Final

import attrs

from taskorch.core.engine import NEVER
from taskorch.core.kernel import PolicyFault
from taskorch.errors import InvalidTaskError, NotRunningError, UnknownTaskError
from taskorch.events import Event, TaskReady, signal_name
from taskorch.kit.clock import wall
from taskorch.kit.fence import is_values
from taskorch.kit.interrupts import begin_thread, defers_interrupts
from taskorch.kit.limits import NS
from taskorch.kit.visible import as_text, show
from taskorch.kit.vocabulary import meant
from taskorch.model import TaskState
from taskorch.model.ids import check_id
from taskorch.protocols import Driver, commands_of

if TYPE_CHECKING:
    from taskorch.core.engine import Runtime
    from taskorch.model import Agent, AgentTemplate, Explanation, Stats, TaskStatus
    from taskorch.protocols import AgentView

#: The longest time between two questions, in s: no clock of ours notices that the
#: system's clock was set, or that the machine slept.
_LONGEST: Final = 10.0
#: All controllers are asked if the system's clock moves so far against ours, in ns.
_JUMP: Final = NS
#: The least time, in ns, so that a controller with a past time is not asked without
#: end.
_LEAST: Final = NS // 1_000
#: The seconds until a failed controller is asked again: more each time.
_AGAIN: Final = (1, 2, 5, 15, 60)


class View:
    """The view of a controller: see `taskorch.protocols.DriverView`."""

    def __init__(
        self,
        orchestrator: Any,
        clock: Callable[[], float],
        runtime: Runtime | None = None,
    ) -> None:
        self._orch = orchestrator
        self._clock = clock
        #: The runtime; None: the orchestrator is simulated.
        self._rt = runtime

    @property
    def wall(self) -> float:
        """Seconds since the epoch that the system's clock shows."""
        return self._clock()

    def tasks(self, *args: Any, **fields: Any) -> Iterable[TaskStatus]:
        """See `TaskOrchestrator.tasks`."""
        return self._orch.tasks(*args, **fields)  # type: ignore[no-any-return]

    def get_task_status(self, task_id: str) -> TaskStatus:
        """See `TaskOrchestrator.get_task_status`."""
        return self._orch.get_task_status(task_id)  # type: ignore[no-any-return]

    def get_stats(self) -> Stats:
        """See `TaskOrchestrator.get_stats`."""
        return self._orch.get_stats()  # type: ignore[no-any-return]

    def explain(self, task_id: str) -> Explanation:
        """See `TaskOrchestrator.explain`."""
        return self._orch.explain(task_id)  # type: ignore[no-any-return]

    def agents(self) -> list[AgentView]:
        """Return all workers that have ever joined, lost ones, too."""
        with self._kernel() as kernel:
            return [row.view for row in kernel.workers.values()]

    def waiting(
        self, template: AgentTemplate | None = None
    ) -> dict[tuple[str, ...] | None, int]:
        """See `taskorch.protocols.DriverView`."""
        counts: dict[tuple[str, ...] | None, int] = {}
        with self._kernel() as kernel:
            workers = None if template is None else self._such_as(kernel, template)
            for spec, bucket in kernel.buckets.items():
                if bucket.size and _may_fit(kernel, bucket, workers):
                    needs = None if spec.requires is None else spec.needs
                    counts[needs] = counts.get(needs, 0) + bucket.size
        return counts

    def _such_as(self, kernel: Any, template: AgentTemplate) -> list[Agent] | None:
        """Return workers with the capacity of a template's; None: nobody knows it."""
        if template.executor != "service" or template.capacity is not None:
            return [template.agent(template.name)]
        # Each says its own capacity when it joins.
        joined = [r for r in kernel.workers.values() if self.is_of(r.name, template)]
        present = [row for row in joined if not row.lost]
        return [row.info for row in present or joined] or None

    def is_of(self, agent_id: str, template: AgentTemplate) -> bool:
        """Return whether a worker belongs to a template, by its id."""
        if not template.has_named(agent_id):
            return False
        fleet = self._fleet
        spawned = None if fleet is None else fleet.spawned.get(agent_id)
        # A worker that was not spawned here is known by its name only.
        return spawned is None or spawned.template.name in ("", template.name)

    def agent_totals(self, template: AgentTemplate) -> tuple[int, float | None]:
        """Return the ended attempts of workers of a template, and their latency."""
        ended, weight, sum_ns = 0, 0, 0.0
        with self._kernel() as kernel:
            for name, row in kernel.workers.items():
                if self.is_of(name, template):
                    ended += row.completed + row.failed
                    for record in row.records.values():
                        weight += record.completed
                        sum_ns += record.completed * record.latency_ns
        return ended, sum_ns / weight / NS if weight else None

    def ended(self, types: Iterable[str]) -> dict[str, list[tuple[float, float]]]:
        """Return the ends and the seconds of the latest attempts, by type."""
        latest: dict[str, list[tuple[int, int, int, int]]] = {}
        with self._kernel() as kernel:
            for name in types:
                row = kernel.types.get(name)
                if row is not None:
                    latest[name] = list(row.samples)
        return {
            name: [
                (ended / NS, (ended - started) / NS) for *_, started, ended in samples
            ]
            for name, samples in latest.items()
        }

    def under_way(self) -> list[tuple[str, int, str, float]]:
        """Return the running attempts: their tasks, types and starts."""
        running: list[tuple[str, int, str, float]] = []
        with self._kernel() as kernel:
            most = kernel.running
            for row in kernel.tasks.values() if most else ():
                if row.state is TaskState.RUNNING:
                    spec, started = row.bucket.spec, row.started_ns / NS
                    running.append((row.id, row.attempt, spec.type, started))
                    if len(running) == most:
                        break
        return running

    def starting(self, template: str) -> list[str]:
        """Ids of workers of a template that were started and have not joined yet."""
        fleet = self._fleet
        return [] if fleet is None else list(fleet.starting(template))

    def given_up(self, template: str) -> str:
        """Return why no more workers of a template are spawned, or ""."""
        fleet = self._fleet
        return "" if fleet is None else str(fleet.failing.why(template))

    def kept(self, extension: str) -> Mapping[str, Any]:
        """The documents of an extension: see `TaskOrchestrator.kept`."""
        documents: Mapping[str, Any] = self._orch.kept(extension)
        return documents

    @property
    def _fleet(self) -> Any:
        return None if self._rt is None else self._rt.fleet

    @contextmanager
    def _kernel(self) -> Iterator[Any]:
        """Yield the kernel, which nobody changes meanwhile."""
        if self._rt is None:
            yield self._orch.world.living().kernel
            return
        with self._rt.lock:
            yield self._rt.kernel

    def state_of(self, task_id: str) -> TaskState | None:
        """The state of a task, or None if it is not known."""
        try:
            return self.get_task_status(task_id).state
        except UnknownTaskError:
            return None


def _may_fit(kernel: Any, bucket: Any, workers: list[Agent] | None) -> bool:
    """Return whether one of *workers* may have enough for a task of *bucket*."""
    return workers is None or any(
        kernel.too_small(bucket, worker) is None for worker in workers
    )


@attrs.define(eq=False)
class Driven:
    """A controller, and when it is asked next."""

    controller: Driver
    name: str
    watches: tuple[type[Event], ...]
    due: int = 0
    #: The number of its failures in a row.
    failures: int = 0
    #: Whether an event that it watches has happened since the last question.
    woken: bool = False

    def ask(
        self, orchestrator: Any, view: View, now: int, fault: Callable[..., None]
    ) -> None:
        """
        Ask the controller, carry out its commands, and note when to ask again.

        Errors are reported to *fault*, with the name of the controller.

        Raises:
            NotRunningError: The orchestrator stops, or has died.
        """
        self.woken = False
        try:
            commands, when = commands_of(self.controller.tick(view, now / NS))
            due = NEVER if when is None or when == math.inf else int(when * NS)
        except NotRunningError:
            raise
        except BaseException as error:
            # The controller belongs to the user, so that its error ends nothing.
            if not is_values(error):
                raise
            self._failed(now, error, fault)
            return
        self.due = max(due, now + _LEAST)
        refused = False
        for command in commands:
            try:
                command.apply(orchestrator)
            except NotRunningError:
                raise
            except BaseException as error:
                # The other commands are carried out.
                if not is_values(error):
                    raise
                refused = True
                fault(f"driver {self.name}", error)
        if not refused:
            self.failures = 0

    def _failed(
        self, now: int, error: BaseException, fault: Callable[..., None]
    ) -> None:
        seconds = _AGAIN[min(self.failures, len(_AGAIN) - 1)]
        self.failures += 1
        self.due = now + seconds * NS
        fault(f"driver {self.name}", error)


def driven(driver: Any, names: Iterable[str]) -> Driven:
    """
    A driver that was checked.

    Raises:
        InvalidTaskError: It is none, or there is one of its name.
    """
    if not callable(getattr(driver, "tick", None)) or isinstance(driver, type):
        msg = f"a driver has a name and a method tick(view, now), not {show(driver)}"
        raise InvalidTaskError(msg, hint="see taskorch.protocols.Driver")
    name = check_id(driver.name if hasattr(driver, "name") else "")
    if name in names:
        msg = f"there is a driver {name!r} already"
        raise InvalidTaskError(msg, hint="remove it first, or give this another name")
    watches = tuple(getattr(driver, "watches", ()))
    for cls in watches:
        if not (isinstance(cls, type) and issubclass(cls, Event)):
            msg = f"driver {name!r} watches classes of events, not {show(cls)}"
            raise InvalidTaskError(msg, hint="see taskorch.events")
    return Driven(driver, name, watches)


class _Controllers:
    """The controllers of an orchestrator or a simulation, by their names."""

    def __init__(self) -> None:
        self._driven: dict[str, Driven] = {}

    def say(self, name: str, error: Exception) -> None:
        """Report an error of a controller, as the errors of its commands."""
        self._fault(f"driver {name}", error)

    def _fault(self, component: str, error: Exception) -> None:
        raise NotImplementedError

    def _find(self, name: str) -> Driven:
        entry = self._driven.get(as_text(name))
        if entry is None:
            msg = f"there is no driver {show(name)}"
            names = [*self._driven]
            hint = meant(name, names, f"there are {', '.join(names)}")
            raise InvalidTaskError(msg, hint=hint)
        return entry


class ControllerManager(_Controllers):
    """
    `orch.drivers`: the controllers, which are asked by time for commands.

    They are asked on one thread of their own while the orchestrator runs, and not any
    more once it is about to stop. `orch.wait()` does not wait for their later commands.
    A driver that fails, and a command that is refused, is said as the event
    `ComponentFailed` and in `orch.health()`; it is asked again after a while.
    """

    def __init__(self, runtime: Any, orchestrator: Any) -> None:
        super().__init__()
        self._rt: Runtime = runtime
        self._orch = orchestrator
        self._view = View(orchestrator, wall, runtime)
        self._receivers: dict[str, Callable[[Event], None]] = {}
        #: Guards the two; nothing else is done under it.
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None
        self._closing = False

    @defers_interrupts
    def add(self, driver: Driver) -> None:
        """
        Add a driver; it is asked at once, or as soon as the orchestrator runs.

        Raises:
            InvalidTaskError: It is no driver, or there is one of its name.
            NotRunningError: The caller is a child of the process that began it.
        """
        self._rt.deciders.refuse_forked()
        with self._lock:
            added = driven(driver, self._driven)
            self._driven[added.name] = added

        def woken(_event: Event) -> None:
            self._rouse(added)

        self._receivers[added.name] = woken
        for cls in added.watches:
            getattr(self._rt.signals, signal_name(cls)).connect(woken)
        if self._rt.started:
            self.begin()

    def remove(self, name: str) -> bool:
        """Ask a driver no more; False if there is none of this name."""
        with self._lock:
            gone = self._driven.pop(name, None)
            receiver = self._receivers.pop(name, None)
        if gone is None:
            return False
        for cls in gone.watches:
            getattr(self._rt.signals, signal_name(cls)).disconnect(receiver)
        return True

    def list(self) -> list[str]:
        """Return the names of all controllers, in the order of their addition."""
        with self._lock:
            return [*self._driven]

    def of_class(self, cls: type) -> tuple[Any, ...]:
        """Return the controllers of a class, in the order in which they were added."""
        with self._lock:
            controllers = [each.controller for each in self._driven.values()]
        return tuple(
            controller for controller in controllers if isinstance(controller, cls)
        )

    def wake(self, name: str) -> None:
        """
        Ask a driver now.

        Raises:
            InvalidTaskError: There is none of this name.
        """
        with self._lock:
            entry = self._find(name)
        self._rouse(entry)

    def begin(self) -> None:
        """Begin to ask, once the orchestrator runs."""
        with self._lock:
            if self._thread is None and self._driven and not self._closing:
                self._thread = begin_thread(self._loop, f"{self._rt.name}-drivers")
        self._wake.set()

    def close(self, timeout: float = 0.0) -> None:
        """Ask no more, and wait for running commands."""
        self._closing = True
        self._wake.set()
        thread = self._thread
        if timeout and thread is not None and thread is not threading.current_thread():
            thread.join(timeout)

    def _rouse(self, entry: Driven) -> None:
        if not entry.woken:
            entry.woken = True
            self._wake.set()

    def _loop(self) -> None:
        ahead = self._ahead()
        with suppress(NotRunningError):
            while not self._closing:
                self._wake.clear()
                with self._lock:
                    every = list(self._driven.values())
                before, ahead = ahead, self._ahead()
                if abs(ahead - before) > _JUMP:
                    # The clock was set, or the machine slept: schedules may be due,
                    # whatever our own clock shows.
                    for each in every:
                        each.woken = True
                for each in every:
                    now = self._rt.now()
                    if self._is_over():
                        return
                    if each.woken or each.due <= now:
                        with self.patience():
                            each.ask(self._orch, self._view, now, self._fault)
                due = min((each.due for each in every), default=NEVER)
                pause = (due - self._rt.now()) / NS
                if pause > 0:
                    self._wake.wait(min(pause, _LONGEST))

    def patience(self) -> AbstractContextManager[None]:
        """Let calls in the block wait for a slow journal, as those of drivers do."""
        return self._rt.patience(self._is_over)

    def _ahead(self) -> int:
        """Return how far the system's clock is ahead of ours, in ns."""
        return int(wall() * NS) - self._rt.now()

    def _is_over(self) -> bool:
        return self._closing or self._rt.draining or self._rt.closed

    def _fault(self, component: str, error: Exception) -> None:
        rt = self._rt
        fault = PolicyFault(component, error)
        with suppress(NotRunningError):
            rt.step(lambda now: rt.kernel.note_fault(None, fault, now))


class SimulatedControllers(_Controllers):
    """
    The controllers of a simulation, in virtual time.

    Each incarnation of the orchestrator begins with the controllers as they were added,
    as a program that starts again would make them.
    """

    def __init__(self, simulation: Any) -> None:
        super().__init__()
        self._sim = simulation
        #: The controllers as they were added; these copies are never asked.
        self._added: dict[str, Driver] = {}
        self._view = View(simulation, self._seconds)

    def _seconds(self) -> float:
        wall_ns: int = self._sim.world.living().wall()
        return wall_ns / NS

    def add(self, driver: Driver) -> None:
        """
        Add a driver; it is asked at once.

        Raises:
            InvalidTaskError: It is no driver, or there is one of its name.
        """
        entry = driven(driver, self._added)
        self._driven[entry.name] = entry
        self._added[entry.name] = deepcopy(driver)
        self._listen()
        self._at(entry, 0)

    def remove(self, name: str) -> bool:
        """Ask a driver no more; False if there is none of this name."""
        self._driven.pop(name, None)
        was_there = self._added.pop(name, None) is not None
        self._listen()
        return was_there

    def _listen(self) -> None:
        """Let `TaskReady` be told, if a controller watches it."""
        world = self._sim.world
        world.tells_ready = any(
            TaskReady in one.watches for one in self._driven.values()
        )
        if world.incarnation is not None:
            world.incarnation.listen()

    def list(self) -> list[str]:
        """Return the names of all controllers, in the order of their addition."""
        return [*self._added]

    def wake(self, name: str) -> None:
        """
        Ask a driver now.

        Raises:
            InvalidTaskError: There is none of this name.
        """
        entry = self._find(name)
        entry.woken = True
        self._at(entry, 0)

    def wake_all(self) -> None:
        """Ask all controllers now."""
        for name in self._driven:
            self.wake(name)

    def begin(self) -> None:
        """Begin an incarnation, with all controllers as they were added."""
        self._driven = {
            name: driven(deepcopy(controller), ())
            for name, controller in self._added.items()
        }
        for each in self._driven.values():
            self._at(each, 0)

    def told(self, classes: set[type[Event]]) -> None:
        """Events of these classes have happened."""
        for each in self._driven.values():
            if not each.woken and not classes.isdisjoint(each.watches):
                each.woken = True
                self._at(each, 0)

    def _at(self, each: Driven, due: int) -> None:
        """Ask *each* at *due*, on the clock of the process."""
        world = self._sim.world
        if due == NEVER:
            return
        shift = world.incarnation.shift_ns if world.incarnation is not None else 0
        when = max(due - shift, world.timeline.now)
        world.timeline.at(when, self._ask, each, idle=True)

    def _ask(self, each: Driven) -> None:
        incarnation = self._sim.world.incarnation
        if incarnation is None or self._driven.get(each.name) is not each:
            return
        now = incarnation.now()
        if each.due > now and not each.woken and each.due:
            return
        before = each.due
        with suppress(NotRunningError):
            each.ask(self._sim, self._view, now, self._fault)
        if each.due != before:
            self._at(each, each.due)

    def _fault(self, component: str, error: Exception) -> None:
        incarnation = self._sim.world.incarnation
        if incarnation is not None:
            fault = PolicyFault(component, error)
            incarnation.kernel.note_fault(None, fault, incarnation.now())


def controllers_of(rt: Any, orch: Any) -> ControllerManager:
    """Return the controllers of an orchestrator, which the first call makes."""
    if rt.driven is None:
        rt.driven = rt.first_made.setdefault("drivers", ControllerManager(rt, orch))
    manager: ControllerManager = rt.driven
    return manager
