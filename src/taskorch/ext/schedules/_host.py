"""
The interface of schedules to an orchestrator, or to a simulation.

Decision: schedules.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, TypeVar

from taskorch.core.runs import restarts_of
from taskorch.core.runs._versions import AS_IT_WAS, Deployed
from taskorch.core.workflows import Workflow
from taskorch.errors import UnknownTaskError
from taskorch.kit.clock import wall
from taskorch.kit.interrupts import defers_interrupts
from taskorch.kit.plain import VERSIONS
from taskorch.model import TERMINAL, HealthCheck, MadeFor, Task, TaskState
from taskorch.model.ids import first_of, has_segments, in_run, stem_of

if TYPE_CHECKING:
    from taskorch.core.engine import Runtime
    from taskorch.core.kernel import Kernel

T = TypeVar("T")

#: The name of the driver of schedules.
CONTROLLER: Final = "schedules"


class ScheduleHost(ABC):
    """The interface of schedules to an orchestrator, or to a simulation."""

    orch: Any

    @property
    @abstractmethod
    def rt(self) -> Any:
        """The runtime, or its counterpart in a simulation."""
        ...

    @abstractmethod
    def wall(self) -> int:
        """Return the time in ns that the system's clock shows."""
        ...

    @abstractmethod
    def step(self, change: Callable[[Kernel, int], None], *, keep: bool) -> None:
        """Make *change* in one step."""
        ...

    @abstractmethod
    def submit(self, tasks: Sequence[Task]) -> None:
        """Submit tasks: all, or none."""
        ...

    @abstractmethod
    def act(self, act: Callable[[], Any]) -> Any:
        """Do something that no user does, so that no user repeats it after a crash."""
        ...

    @abstractmethod
    def states(self, task_ids: Sequence[str]) -> dict[str, TaskState]:
        """Return the known states of the latest runs of tasks."""
        ...

    @abstractmethod
    def again(self, task_id: str, *, downstream: bool) -> str:
        """Run a task again that has ended; return the id of the new run."""
        ...

    def declare(self, act: Callable[[], T]) -> T | None:
        """Carry out *act*, or return None: it is carried out at the opening."""
        return act()

    @contextmanager
    def kernel(self) -> Iterator[Kernel]:
        """Return the kernel, which nobody changes meanwhile."""
        self.rt.look_up()
        with self.rt.lock:
            yield self.rt.kernel

    def now(self) -> int:
        """Return the time of events in ns, which never goes back."""
        now: int = self.rt.now()
        return now

    def start(
        self,
        workflow: Workflow,
        run_id: str,
        note: Mapping[str, Any],
        given: Mapping[str, Any],
    ) -> None:
        """Run a workflow, with *note* among the metadata of its tasks."""
        start = restarts_of(self.orch.workflows).start_noted
        self.act(lambda: start(workflow, run_id, note, given))

    @defers_interrupts
    def unfinished(self) -> list[tuple[str, Mapping[str, Any] | None]]:
        """Return the ids and metadata of all tasks that have not ended."""
        with self.rt.lock:
            rows = list(self.rt.kernel.tasks.values())
        return [
            (row.id, None if row.cargo._task is None else row.cargo._task.metadata)
            for row in rows
            if row.state not in TERMINAL
        ]

    def held(self) -> set[str]:
        """Return the blocked tasks that wait for a decision, and their runs."""
        return set()

    def declares(self) -> bool:
        """Return whether the program declares schedules; a command does not."""
        return True

    def known(self, made_ids: Sequence[str]) -> set[str]:
        """Return the ids that exist, from any incarnation."""
        return {*self.states_of_all(made_ids)}

    def ended(self, made_ids: Sequence[str]) -> set[str]:
        """Return the ids that have ended, or are unknown."""
        states = self.states_of_all(made_ids)
        return {
            made_id
            for made_id in made_ids
            if states.get(made_id, TaskState.COMPLETED) in TERMINAL
        }

    def parameters_of(self, made_id: str) -> Mapping[str, Any]:
        """
        Return the parameters that are noted with a task, or with a run.

        Raises:
            UnknownTaskError: There is none.
        """
        if is_run(made_id):
            noted: Mapping[str, Any] = self.orch.workflows.status(made_id).parameters
            return noted
        return MadeFor(self.orch.get_task_status(made_id).metadata).parameters

    def is_made_by(self, made_id: str, schedule: str) -> bool:
        """Return whether *schedule* has made this task or run."""
        try:
            names = self.orch.workflows.status(made_id).tasks if is_run(made_id) else ()
            task_id = next((in_run(made_id, each) for each in names), made_id)
            status = self.orch.get_task_status(task_id)
        except UnknownTaskError:
            return False
        return MadeFor(status.metadata).schedule == schedule

    def had_ended(self, made_id: str, at_ns: int) -> bool:
        """Return whether an ended task, or run, had ended by a time in ns."""
        ids = [made_id]
        if is_run(made_id):
            names = self.orch.workflows.status(made_id).tasks
            ids = [in_run(made_id, name) for name in names]
        at = _as_status_says(at_ns)
        ends = [self.orch.get_task_status(each).ended for each in ids]
        return all(ended is None or ended <= at for ended in ends)

    def latest(self, made_id: str) -> str:
        """Return the id of the latest run of a task; the id of a run stays the same."""
        if is_run(made_id):
            return made_id
        latest: str = self.orch.get_task_status(made_id).task_id
        return latest

    def states_of_all(self, made_ids: Sequence[str]) -> dict[str, TaskState]:
        """Return the known states of tasks and of runs."""
        states = self.states([each for each in made_ids if not is_run(each)])
        for run_id in filter(is_run, made_ids):
            with suppress(UnknownTaskError):
                states[run_id] = self.orch.workflows.status(run_id).state
        return states

    def made_for(self, made_id: str) -> MadeFor:
        """Return the schedule and the tick for which a task, or run, was made."""
        names: Iterable[str] = ()
        # A task that no schedule has made may have such an id, too.
        with suppress(UnknownTaskError):
            names = self.orch.workflows.status(made_id).tasks if is_run(made_id) else ()
        task_id = next((in_run(made_id, each) for each in names), made_id)
        return MadeFor(self.orch.get_task_status(task_id).metadata)

    def given_to(self, made_id: str) -> Mapping[str, Any] | None:
        """Return its parameters besides the schedule's own; None: unknown."""
        with self.kernel() as kernel:
            text = kernel.kept.get(VERSIONS, {}).get(made_id)
        values: Mapping[str, Any] | None = None
        if text is not None:
            values = json.loads(text).get("given", {})
        return values

    def go_over(self, made_id: str, deployed: Deployed, since_ns: int) -> bool:
        """
        Repeat a run by its deployed definition, without tasks run since *since_ns*.

        Returns:
            Whether the definition has changed; else nothing is done.
        """
        return restarts_of(self.orch.workflows).repeat_as(made_id, deployed, since_ns)

    def run_again(self, run_id: str, since_ns: int) -> None:
        """Run all tasks of a run again that have not run since a time, in ns."""
        run = self.orch.workflows.get(run_id)
        since = _as_status_says(since_ns)
        for name, above in run.dependencies.items():
            if above:
                continue
            status = self.orch.get_task_status(in_run(run_id, name))
            submitted = status.submitted
            if submitted is None or submitted < since:
                self.again(in_run(run_id, name), downstream=True)

    def refused(self, name: str, text: str, error: Exception) -> None:
        """Report to people that a tick of a schedule was, or will be, refused."""
        # In a simulation there is nobody.
        del name, text, error

    def failing(self, name: str) -> str:  # noqa: ARG002 - as an orchestrator knows it
        """Return the failure in the latest runs of a schedule, or ""."""
        return ""


class RuntimeHost(ScheduleHost):
    """The interface of schedules to an orchestrator."""

    def __init__(self, runtime: Any, orch: Any) -> None:
        self._rt: Runtime = runtime
        self.orch = orch

    @property
    def rt(self) -> Runtime:
        """The runtime."""
        return self._rt

    def refused(self, name: str, text: str, error: Exception) -> None:
        """Report to people that a tick of a schedule was, or will be, refused."""
        teller = self.orch._rt.notices.teller
        if teller is not None:
            teller.refused(name, text, error)

    def failing(self, name: str) -> str:
        """Return the sentence of the health check on a schedule, or ""."""
        teller = self.orch._rt.notices.teller
        return "" if teller is None else str(teller.failing(name))

    def declare(self, act: Callable[[], T]) -> T | None:
        """See `ScheduleHost.declare`."""
        return self._rt.declare(act)

    def wall(self) -> int:
        """Return the time in ns that the system's clock shows."""
        return int(wall() * 1_000_000) * 1_000

    def step(self, change: Callable[[Kernel, int], None], *, keep: bool) -> None:
        """Make *change* in one step."""
        rt = self._rt
        rt.step(lambda now: change(rt.kernel, now), keep=keep)

    def submit(self, tasks: Sequence[Task]) -> None:
        """Submit tasks: all, or none."""
        self.orch.submit_tasks(tasks)

    def act(self, act: Callable[[], Any]) -> Any:
        """Carry out *act*."""
        return act()

    @defers_interrupts
    def states(self, task_ids: Sequence[str]) -> dict[str, TaskState]:
        """Return the known states of the latest runs of tasks."""
        rt = self._rt
        directory, states = rt.directory, dict[str, TaskState]()
        with rt.lock:
            rows = rt.kernel.tasks
            for task_id in task_ids:
                row = rows.get(directory.reruns.latest(task_id))
                if row is not None:
                    states[task_id] = row.state
        others = [task_id for task_id in task_ids if task_id not in states]
        if others:
            rt.recall(others)
            with rt.lock:
                for task_id in others:
                    latest = directory.reruns.latest(task_id)
                    if directory.is_known(latest):
                        states[task_id] = directory.row(latest).state
        return states

    def again(self, task_id: str, *, downstream: bool) -> str:
        """Run a task again that has ended; return the id of the new run."""
        # A run whose definition has changed takes the new one: see `go_over`.
        rerun_id: str = self.orch.rerun_task(
            task_id, downstream=downstream, definition=AS_IT_WAS
        ).task_id
        return rerun_id

    def declares(self) -> bool:
        """Return whether the program declares schedules; a command does not."""
        return self._rt.takes_up

    @defers_interrupts
    def held(self) -> set[str]:
        """Return the blocked tasks that wait for a decision, and their runs."""
        kernel = self._rt.kernel
        if not kernel.blocked:
            return set()
        with self._rt.lock:
            rows = list(kernel.tasks.values())
        stems = {
            stem_of(row.id)
            for row in rows
            if row.state is TaskState.BLOCKED and row.extra and row.extra.decision
        }
        return stems | {first_of(stem) for stem in stems}

    def add_check(self, check: Callable[[], HealthCheck]) -> None:
        """Add *check* to the health of the orchestrator, once its journal was read."""
        unread = HealthCheck("schedules", "ok", "")
        self._rt.health_checks.append(lambda: check() if self._rt.opened else unread)


class SimulationHost(ScheduleHost):
    """The interface of schedules to a simulation."""

    def __init__(self, simulation: Any) -> None:
        self.orch = simulation

    @property
    def rt(self) -> Any:
        """The counterpart of the runtime."""
        return self.orch.world.living()

    def wall(self) -> int:
        """Return the time in ns that the system's clock shows."""
        wall_ns: int = self.rt.wall()
        return wall_ns

    def step(self, change: Callable[[Kernel, int], None], *, keep: bool) -> None:
        """Make *change* in one step."""
        del keep
        incarnation = self.rt
        self.act(lambda: change(incarnation.kernel, incarnation.now()))

    def submit(self, tasks: Sequence[Task]) -> None:
        """Submit tasks: all, or none."""
        self.act(lambda: self.rt.submit(tasks))

    def act(self, act: Callable[[], Any]) -> Any:
        """Carry out *act* in a step of its own."""
        return self.orch.world.do_apart(act)

    def states(self, task_ids: Sequence[str]) -> dict[str, TaskState]:
        """Return the known states of the latest runs of tasks."""
        incarnation = self.rt
        latest = incarnation.directory.reruns.latest
        states = {each: incarnation.state_of(latest(each)) for each in task_ids}
        return {each: state for each, state in states.items() if state is not None}

    def again(self, task_id: str, *, downstream: bool) -> str:
        """Run a task again that has ended; return the id of the new run."""
        again = self.act(lambda: self.rt.rerun(task_id, downstream=downstream))
        rerun_id: str = again.task_id
        return rerun_id


def is_run(made_id: str) -> bool:
    """Return whether the id is one of a run of a workflow, not of a task."""
    return not has_segments(made_id)


def _as_status_says(ns: int) -> datetime:
    """Return the time of an event as a status shows it: in whole microseconds."""
    return datetime.fromtimestamp(0, UTC) + timedelta(microseconds=ns // 1_000)
