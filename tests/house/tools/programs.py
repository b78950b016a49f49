"""
What a program has around an orchestrator that is simulated: jobs, and who is told.

Both are the code that runs in production; each life of the orchestrator gets them anew,
as a program that is started again makes them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import attrs

from taskorch.core.engine._notices import error_to_tell
from taskorch.errors import DuplicateTaskError, NotRunningError
from taskorch.events import (
    KEPT,
    Event,
    TaskEvent,
    TaskFailed,
    TaskRewarded,
    TaskSubmitted,
    signal_name,
)
from taskorch.ext.notices.troubles import TroubleTeller
from taskorch.model import HealthCheck
from taskorch.protocols import DriverView, Entry, Projection, Tick

if TYPE_CHECKING:
    from taskorch.core.worlds._incarnation import Incarnation
    from taskorch.ext.jobs import JobSystem
    from taskorch.testing import SimulatedJournal
    from taskorch.testing._simulation import Simulation

#: A message, as `orch.notify` sends it.
Message = dict[str, Any]


class _Orchestrator:
    """One incarnation of a simulation, by the names that an orchestrator has for it."""

    def __init__(self, simulation: Simulation) -> None:
        self._simulation = simulation
        self._incarnation = simulation.world.living()
        self._rt = _Runtime(self._incarnation, simulation)
        self.resources = SimpleNamespace(
            usage=self._usage, set_saturation=lambda threshold, relief: None
        )
        self.drivers = SimpleNamespace(add=lambda _: None)
        simulation.signals.begins = self._follow
        #: Projections that follow from the start of this incarnation on; None: it has
        #: begun.
        self._early: list[Projection] | None = []
        self.journal: Any = None
        if simulation.world.journal is not None:
            self.journal = _Journal(simulation.world.journal)

    def _follow(self, projection: Projection) -> Callable[[], None]:
        """See `Signals.follow`: what the world tells is kept already."""
        if self._early is not None:
            self._early.append(projection)
            return _nothing
        wants = projection.wants or KEPT
        for event, document in self.journal.read(projection.position):
            if type(event) in wants:
                projection.take(event, document)
        for cls in wants:
            signal = getattr(self._simulation.signals, signal_name(cls))
            signal.connect(partial(_take, projection))
        return _nothing

    def begin(self) -> None:
        """Have all follow that are to."""
        early, self._early = self._early or [], None
        for projection in early:
            self._follow(projection)

    def __getattr__(self, name: str) -> Any:
        if self._simulation.world.incarnation is not self._incarnation:
            msg = "this life of the orchestrator is over: it has crashed"
            raise NotRunningError(msg)
        return getattr(self._simulation, name)

    def _usage(self) -> Any:
        return self._simulation.get_stats().resources

    def agent(self, name: str, **options: Any) -> Callable[[Any], Any]:
        """
        A worker that is there in all incarnations; what does its work is the world's.
        """
        if name not in self._simulation.world.workers:
            del options["executor"]
            self._simulation.agent(name, **options)
        return lambda handler: handler

    def reward_task(self, task_id: str, value: float, *, source: str) -> bool:
        """See `TaskOrchestrator.reward_task`, for a task that is in memory."""
        latest = self._incarnation.directory.reruns.latest(task_id)
        row = self._incarnation.kernel.tasks[latest]
        if row.attempt < 1:
            return False

        def change(now: int) -> bool:
            fields = row.id, row.attempt, value, source
            self._incarnation.kernel.note(TaskRewarded, now, *fields, cargo=row.cargo)
            return True

        return bool(self._incarnation.step(change))


def _nothing() -> None:
    """Nothing is ended before the incarnation is."""


def _take(projection: Projection, event: Event) -> None:
    projection.take(event, None)


class _Runtime:
    """What a runtime has besides what an incarnation of a simulation has."""

    def __init__(self, life: Incarnation, simulation: Simulation) -> None:
        self._incarnation = life
        self.signals = simulation.signals
        self.notices = SimpleNamespace(teller=None)
        self.health_checks: list[Any] = []
        #: What is told is told at once: no thread is begun.
        self.started = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._incarnation, name)


class _Journal:
    """A simulated journal, with what an index would answer."""

    def __init__(self, journal: SimulatedJournal) -> None:
        self.read = journal.read

    def ids(self, prefix: str) -> list[str]:
        """The ids of tasks that begin with *prefix*."""
        events = (event for event, _ in self.read())
        names = [event.task_id for event in events if isinstance(event, TaskSubmitted)]
        return [name for name in names if name.startswith(prefix)]

    def select(self, ids: Sequence[str], until: int) -> Iterator[Entry]:
        """The entries about these tasks, up to a number."""
        names = set(ids)
        for event, cargo in self.read():
            is_one = isinstance(event, TaskEvent) and event.task_id in names
            if is_one and event.seq <= until:
                yield event, cargo


class Jobs:
    """
    A driver: jobs of a `JobSystem`, which is made anew in each incarnation.

    Args:
        simulation: Where they are done.
        make: Makes the system, with its objectives.
    """

    name: str = "jobs"
    watches: tuple[()] = ()

    def __init__(self, simulation: Simulation, make: Callable[[], JobSystem]) -> None:
        self._simulation = simulation
        self._make = make
        self._epoch = 0
        self._system: JobSystem | None = None

    def __deepcopy__(self, _memo: object) -> Jobs:
        return self

    @property
    def system(self) -> JobSystem:
        """
        That of this incarnation.

        Raises:
            NotRunningError: The orchestrator is dead.
        """
        incarnation = self._simulation.world.living()
        if self._system is None or self._epoch != incarnation.epoch:
            self._epoch = incarnation.epoch
            self._system = self._begun()
        return self._system

    def _begun(self) -> JobSystem:
        """As `JobSystem.orchestrator` does it, and the start of that."""
        system, journal = self._make(), self._simulation.world.journal
        assert journal is not None
        orchestrator: Any = _Orchestrator(self._simulation)
        queue: Any = system._queue
        system._random.seed(self._epoch)
        queue.attach(orchestrator)
        system._join(orchestrator)
        queue.restore(orchestrator.kept)
        orchestrator.begin()
        queue.recall(_Journal(journal), journal.last)
        return system

    def tick(self, view: DriverView, now: float) -> Tick:
        """See `Driver.tick`."""
        return self.system.cycles.tick(view, now)

    def make_others(self, job_id: str) -> None:
        """Make all units but the first, as the attempt of that one does in a program."""
        # If it is dead, the next attempt does it; if it is done, nothing is left to do.
        with suppress(NotRunningError, DuplicateTaskError):
            system = self.system
            record = system._book.known(job_id)
            tasks = system._tasks_of(record, range(1, record.units))
            self._simulation.submit_tasks(
                attrs.evolve(task, id=name)
                for task, name in zip(tasks, record.unit_ids[1:], strict=True)
            )


class _AtOnce(TroubleTeller):
    """What people are told, without a thread."""

    def __init__(self, simulation: Simulation, take: Callable[[Message], None]) -> None:
        orchestrator: Any = _Orchestrator(simulation)
        super().__init__(orchestrator, orchestrator._rt)
        receiver: Any = SimpleNamespace(tell=take)
        self.add(receiver)
        simulation.signals.task_failed.connect(self._has_failed)

    def _put(self, take: Callable[..., object], subject: Any) -> None:
        self._guarded(take, subject)

    def _has_failed(self, event: TaskFailed) -> None:
        """Nobody in this world has a handle, and so nobody was given the error."""
        row = self._rt.kernel.tasks.get(event.task_id)
        error = None if row is None else error_to_tell(self._rt.kernel, row)
        if error is not None:
            self.failed(event.task_id, error, event.at_ns)


def tell(
    simulation: Simulation, take: Callable[[Message], None]
) -> Callable[[str], HealthCheck]:
    """
    Have *take* called with what `orch.notify` sends of troubles, in each incarnation.

    Returns:
        What says how a part of the health is, by its name, in the incarnation at hand.
    """
    lives: list[_AtOnce] = []
    simulation.each_incarnation(lambda: lives.append(_AtOnce(simulation, take)))

    def health(component: str) -> HealthCheck:
        checks = [check() for check in lives[-1]._rt.health_checks]
        return next(check for check in checks if check.component == component)

    return health
