"""A run of a workflow, as a value that can be waited for."""

from __future__ import annotations

import graphlib
from collections.abc import Collection, Generator, Mapping
from contextlib import suppress
from datetime import timedelta
from itertools import islice
from time import monotonic
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, Protocol, cast

from taskorch.core.engine import (
    Latch,
    Staleness,
    added_by,
    blockade,
    current_or_none,
    error_of,
    failed_earlier,
    has_result,
    is_left_out,
    is_outdated,
    is_skipped,
    names_above,
    note_given,
    result_of,
    row_of,
    told_row,
    unresolvable_root,
)
from taskorch.core.handles.handles import TaskHandle
from taskorch.core.runs import _members, _progress
from taskorch.core.runs._gates import rules_of
from taskorch.core.runs._members import blockers, is_below
from taskorch.core.workflows import WorkflowReport, WorkflowStatus
from taskorch.core.workflows._graph import Parents, order
from taskorch.core.workflows._phases import (
    approval_of,
    gate_of,
    is_gate_id,
    is_same_end,
    phase_of,
)
from taskorch.core.workflows._pictures import drawing, page
from taskorch.errors import (
    NotRunningError,
    WorkflowFailedError,
    WouldBlockError,
    WouldDeadlockError,
)
from taskorch.kit.checks import to_patience
from taskorch.kit.fence import log_of
from taskorch.kit.limits import NS
from taskorch.kit.visible import counted
from taskorch.kit.vocabulary import other_attribute
from taskorch.kit.words import moment, some
from taskorch.model import TERMINAL, TaskState
from taskorch.model.ids import in_run, name_of, names_in_run, run_of, without_last

if TYPE_CHECKING:
    from taskorch.core.engine import Runtime
    from taskorch.core.kernel import TaskRow

_LOG: Final = log_of(__name__)
#: Seconds after which the wait looks again, whatever it has heard.
_SLICE: Final = 0.5
#: The most failures that a message shows.
_SHOWN: Final = 3
#: Events after which an attempt may be over.
_ENDS: Final = (
    "task_suspended",
    "task_completed",
    "task_failed",
    "task_cancelled",
    "task_retrying",
    "task_blocked",
    "task_resumed",
    "attempt_waiting",
)


class Pauses(Protocol):
    """Protocol: the manager that a run asks whether it is paused."""

    rt: Runtime

    def is_paused(self, run_id: str) -> bool:
        """Return whether all of a run was paused, and not resumed since."""
        ...


class WorkflowRun:
    """
    A run of a workflow, to wait for, to await, and to look at.

    Made by `orch.workflows`. It keeps the handles of its tasks, and with them their
    results, while somebody keeps it.
    """

    __slots__ = (
        "__weakref__",
        "_gates",
        "_known",
        "_more",
        "_parents",
        "_rt",
        "_works",
        "plan",
        "workflow_id",
    )

    def __init__(
        self,
        # Any: the public type must not import the runtime.
        known: Any,
        workflow_id: str,
        works: dict[str, TaskHandle[Any]],
        parents: Parents,
    ) -> None:
        self._known: Pauses = known
        self._rt: Runtime = known.rt
        #: The id of the run; those of its tasks are this, a slash, and the id of the
        #: task in the workflow.
        self.workflow_id: str = workflow_id
        #: The `ExecutionPlan` of `orch.planner` that started it in this incarnation, or
        #: None.
        self.plan: Any = None
        self._works = works
        #: The parents of each task. It may be the mapping of a workflow: parents added
        #: since the start are in `_more`.
        self._parents = parents
        self._more: dict[str, tuple[str, ...]] = {}
        #: Its gates: the gate or approval before each, and the effect if it fails.
        self._gates: dict[str, tuple[str | None, str]] = {}
        for name, work in works.items():
            if is_gate_id(name):
                self._note_gate(name, work)

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            return other_attribute(self, name)

    @property
    def handles(self) -> Mapping[str, TaskHandle[Any]]:
        """
        The handles of its tasks, by their ids in the workflow, as they are now.

        A task that was run again has the handle of its latest run.
        """
        self._follow_reruns()
        return MappingProxyType(self._works.copy())

    def _follow_reruns(self) -> None:
        """Replace the run's handles by those of the latest runs of its tasks."""
        rt = self._rt
        if rt.directory.reruns.is_empty:
            return
        for name, work in list(self._works.items()):
            latest = rt.directory.reruns.latest(in_run(self.workflow_id, name))
            if latest != work.task_id:
                self._works[name] = cast("TaskHandle[Any]", rt.directory.known(latest))
        with rt.lock:
            staleness = Staleness(rt)
            left_out = [
                name
                for name, work in self._works.items()
                if is_left_out(staleness, work)
            ]
        for name in left_out:
            self._works.pop(name, None)

    @property
    def dependencies(self) -> Mapping[str, tuple[str, ...]]:
        """The parents of each of its tasks now, by ids in the workflow."""
        return self._above(self.handles)

    @property
    def last(self) -> list[TaskHandle[Any]]:
        """
        The handles of the last tasks: no other task of the run waits for them.

        A task that comes after these comes after the whole run. `after=[run]` in a
        workflow means them.
        """
        handles = self.handles
        above = {parent for name in handles for parent in self._needs(name)}
        return [work for name, work in handles.items() if name not in above]

    def result(self, timeout: float | timedelta | None = None) -> dict[str, Any]:
        """
        Wait until all tasks have ended, and return their results by id.

        Of a task whose failure is allowed, the result is its `TaskFailedError`. Another
        that fails does not end this wait while others can still proceed. A
        task that was skipped has no result, and is left out.

        Args:
            timeout: Seconds, or a timedelta, to wait; None is for ever.

        Raises:
            TimeoutError: The caller's patience is over; the workflow goes on.
            WorkflowFailedError: It cannot complete.
            NotRunningError: The orchestrator has stopped before the end.
            ResultGoneError: A result left memory before anybody kept the run.
            WouldBlockError: The caller is on the loop that must do the work.
            WouldDeadlockError: The wait could never end.
        """
        patience = to_patience(timeout)
        end = None if patience is None else monotonic() + patience
        while True:
            self._follow_reruns()
            # The last first: once it has ended, most others have, and need no wait.
            for work in reversed(list(self._works.values())):
                seconds_left = None if end is None else max(0.0, end - monotonic())
                if not self._rt.waiting.wait(work, seconds_left):
                    msg = f"workflow {self.workflow_id} has not ended in {patience:g} s"
                    raise TimeoutError(msg)
            results = self._results()
            if results is not None:
                return results

    def __await__(self) -> Generator[Any, None, dict[str, Any]]:
        while True:
            self._follow_reruns()
            for work in reversed(list(self._works.values())):
                yield from self._rt.waiting.wait_async(work).__await__()
            results = self._results()
            if results is not None:
                return results

    def status(self) -> WorkflowStatus:
        """Return the progress of the run, at one instant."""
        self._rt.look_up()
        return _progress.status(self, self._known.is_paused(self.workflow_id))

    def report(self) -> WorkflowReport:
        """Return a report so far: phases, verdicts, tasks, failures, times."""
        self._rt.look_up()
        return _progress.report(self)

    def _needs(self, name: str) -> tuple[str, ...]:
        """Return the names of the parents of task *name*."""
        return (*self._parents.get(name, ()), *self._more.get(name, ()))

    def _above(self, among: Collection[str]) -> dict[str, tuple[str, ...]]:
        """Return the parents of each task in *among*, as far as they are in it."""
        # Tasks may be added at any moment.
        return {
            name: tuple([above for above in self._needs(name) if above in among])
            for name in among
        }

    def _phases(self) -> dict[str, list[str]]:
        """Return the phases of the run, and the tasks of each, with its gate."""
        phases: dict[str, list[str]] = {}
        for gate, (before, _) in self._gates.items():
            phase = phase_of(gate)
            phases[phase] = [
                name
                for name in self._needs(gate)
                if before is None or not is_same_end(name, before)
            ]
            phases[phase] += [n for n in (gate, approval_of(phase)) if n in self._works]
        if not self._rt.directory.reruns.is_empty:
            # A task that is to be added again belongs to its phase from then on.
            phases = {
                phase: [n for n in names if not self._is_outdated(n)]
                for phase, names in phases.items()
            }
        return phases

    def _is_outdated(self, name: str) -> bool:
        work = self._works.get(name)
        return work is not None and is_outdated(self._rt, work)

    def wait_paused(self, timeout: float | timedelta | None = None) -> bool:
        """
        Wait until none of its attempts is under way, as after `pause`.

        An attempt that waits for another task does not count as under way.

        Args:
            timeout: Seconds, or a timedelta, to wait; None is for ever.

        Returns:
            Whether it came to that in time.

        Raises:
            WouldBlockError: The caller is on the loop that must do the work.
            WouldDeadlockError: The caller is a task of the run.
        """
        rt = self._rt
        inside = current_or_none()
        mine = None if inside is None else rt.kernel.tasks.get(inside.task_id)
        if inside is not None and mine is not None and mine.run == self.workflow_id:
            msg = f"task {inside.task_id} would wait for itself to be paused"
            hint = "call it from outside of the workflow"
            raise WouldDeadlockError(msg, hint=hint, task_id=inside.task_id)
        if rt.loops.is_mine() and self._under_way():
            msg = f"wait_paused() of workflow {self.workflow_id} would block the loop"
            hint = "use await orch.aio.workflows.wait_paused(id)"
            raise WouldBlockError(msg, hint=hint)
        patience = to_patience(timeout)
        end = None if patience is None else monotonic() + patience
        latch = Latch()

        def wake(_event: object) -> None:
            latch.set()

        signals = [getattr(rt.signals, name) for name in _ENDS]
        for signal in signals:
            signal.connect(wake)
        try:
            while self._under_way():
                seconds_left = _SLICE if end is None else min(_SLICE, end - monotonic())
                if rt.halted or seconds_left < 0:
                    return False
                latch.wait(seconds_left)
        finally:
            for signal in signals:
                signal.disconnect(wake)
        return True

    def _under_way(self) -> int:
        """Return how many of its attempts do more than wait for other tasks."""
        handles = self.handles
        with self._rt.lock:
            return sum(_progress.under_way(row_of(w)) for w in handles.values())

    def __repr__(self) -> str:
        states = [row_of(work).state for work in list(self._works.values())]
        done = f"{states.count(TaskState.COMPLETED)} of {counted(len(states), 'task')}"
        return f"<WorkflowRun {self.workflow_id!r}: {done} completed>"

    def picture(self) -> str:
        """Return the graph of its tasks with their states, as SVG."""
        return drawing(*self._drawn()).svg

    def _repr_html_(self) -> str:
        return page(str(self.status()), *self._drawn())

    def _drawn(self) -> tuple[Parents, dict[str, str], dict[str, str]]:
        """Return the parents, types and states of its tasks, to draw them."""
        handles = self.handles
        rows = {name: row_of(work) for name, work in handles.items()}
        waits = self._above(rows)
        above = dict(waits)
        for name, work in handles.items():
            adder = without_last(name)
            # A map stands for its calls: it takes their results.
            if adder in rows and not waits[name] and _members.is_added(work):
                above[name] = waits[adder]
                above[adder] = (*above[adder], name)
        return (
            above,
            {name: row.bucket.spec.type for name, row in rows.items()},
            {name: row.state.value for name, row in rows.items()},
        )

    def _enter(self, work: TaskHandle[Any]) -> None:
        """Take in a task and its parents, unless it is known; hold the lock."""
        name = name_of(work.task_id)
        above = names_in_run(self.workflow_id, names_above(work))
        self._connect(name, tuple(above))
        self._works.setdefault(name, work)
        self._note_gate(name, work)

    def _note_gate(self, name: str, work: TaskHandle[Any]) -> None:
        rules = rules_of(work) if is_gate_id(name) else None
        if rules is not None:
            self._gates[name] = rules

    def _connect(self, name: str, parents: tuple[str, ...]) -> None:
        """Add parents of a task; hold the lock."""
        needed = self._needs(name)
        fresh = [parent for parent in parents if parent not in needed]
        if fresh:
            self._more[name] = (*self._more.get(name, ()), *fresh)

    def _backwards(self) -> list[tuple[str, TaskHandle[Any]]]:
        """Return its tasks, each before its parents and the task that added it."""
        handles = self.handles
        parents = self._above(handles)
        adders = {n: name_of(added_by(work)) for n, work in handles.items()}
        with_adders = {
            name: (*above, adders[name]) if adders[name] in handles else above
            for name, above in parents.items()
        }
        # A task that adds one of its own parents again makes no ring.
        with suppress(graphlib.CycleError):
            return [(name, handles[name]) for name in reversed(order(with_adders))]
        return [(name, handles[name]) for name in reversed(order(parents))]

    def _below(self, part: str) -> dict[str, TaskHandle[Any]]:
        """Return its tasks below a name, or in a phase of that name; "" is all."""
        handles = self.handles
        if not part:
            return dict(handles)
        chosen = {name for name in handles if is_below(name, part)}
        for phase, members in self._phases().items():
            if is_below(phase, part):
                chosen.update(members)
        return {name: work for name, work in handles.items() if name in chosen}

    def _say_stale(self) -> None:
        with self._rt.lock:
            stale = Staleness(self._rt).among(self._works)
        if stale:
            _LOG.warning(
                "workflow %s has results that are stale, of %s: what they depend on "
                "was run again since; orch.workflows.restart(%r) runs them again",
                self.workflow_id,
                some(stale),
                self.workflow_id,
            )

    def _results(self) -> dict[str, Any] | None:
        """
        Return the results; None if it has not ended after all.

        Raises:
            WorkflowFailedError: It cannot complete.
            NotRunningError: Nobody will go on with it in this incarnation.
            ResultGoneError: A result has left memory.
        """
        rt = self._rt
        self._follow_reruns()
        # The dict is copied at once: one that grows takes half as much again for a
        # moment.
        results: dict[str, Any] = dict.fromkeys(self._works)
        failures: dict[str, BaseException] = {}
        blocked: dict[str, tuple[TaskRow, tuple[str, ...]]] = {}
        completed: list[str] = []
        with rt.lock:
            for name, work in self._works.items():
                row = told_row(work)
                if row is not None and row.state is TaskState.COMPLETED:
                    completed.append(name)
                elif row is not None and row.state in TERMINAL:
                    _note_end(work, name, results, failures)
                elif held_by := _held_by(work):
                    blocked[name] = row_of(work), held_by
                elif rt.halted:
                    row = row_of(work)
                    msg = (
                        f"the orchestrator has stopped, and workflow "
                        f"{self.workflow_id} has not ended: {name} is {row.state}"
                    )
                    hint = "it goes on when the journal is opened again"
                    raise NotRunningError(msg, hint=hint, task_id=row.id)
                else:
                    return None
            # A task is the first cause if another than those that are listed blocks it:
            # one outside of the workflow, or one whose failure is allowed.
            bad = {self._works[name].task_id for name in (*failures, *blocked)}
            failures |= {
                name: blockade(row)
                for name, (row, held_by) in blocked.items()
                if row.id in held_by or not bad.issuperset(held_by)
            }
        if not (results or failures):
            # Every task was skipped, for what came before the workflow.
            works = self._works.items()
            failures = {n: e for n, work in works if (e := error_of(work)) is not None}
        if not failures:
            # The lock is not held, as a result may be read from far away.
            results |= {n: result_of(self._works[n]) for n in completed}
            rt.waiting.used(list(self._works.values()))
            self._say_stale()
            return results
        for name, each in failures.items():
            note_given(self._works[name], each)
        error = self._failed(failures, blocked.keys())
        raise error from next(iter(error.failures.values()))

    def _failed(
        self, failed: Mapping[str, BaseException], blocked: Collection[str]
    ) -> WorkflowFailedError:
        # A task that failed only because of others is no root cause.
        bad = {*failed, *blocked}
        failures = {
            name: error
            for name, error in failed.items()
            if not any(
                run_of(root) == self.workflow_id
                and name_of(root) != name
                and name_of(root) in bad
                for root in _progress.roots_of(self._works[name])
            )
        }
        others = len(bad) - len(failures)
        shown = [
            _members.with_error(name, error)
            for name, error in islice(failures.items(), _SHOWN)
        ]
        if len(failures) > _SHOWN:
            shown.append("…")
        msg = (
            f"workflow {self.workflow_id} cannot complete: {len(failures)} of its "
            f"{counted(len(self._works), 'task')} failed: {', '.join(shown)}"
        )
        if others:
            msg += f"; blocked by that: {others}"
        hint = None
        ended = [self._works[n] for n in failures if failed_earlier(self._works[n])]
        if ended:
            when = moment(max(row_of(work).ended_ns for work in ended) // NS)
            msg += f" (in an earlier incarnation, on {when})"
            hint = (
                f"orch.workflows.restart({self.workflow_id!r}) runs again what failed, "
                "orch.rerun_task(id) one task of it, and TaskOrchestrator("
                "rerun_failed=True) all of it when the workflow is started again"
            )
        return WorkflowFailedError(msg, failures=failures, hint=hint)


def _note_end(
    work: TaskHandle[Any],
    name: str,
    results: dict[str, Any],
    failures: dict[str, BaseException],
) -> None:
    """Enter how the task of *work*, which did not complete, ended."""
    if is_skipped(row_of(work)):
        del results[name]
    elif has_result(work):
        results[name] = result_of(work)
    else:
        error = error_of(work)
        assert error is not None  # noqa: S101 - it did not complete
        failures[name] = error


def _held_by(work: TaskHandle[Any]) -> tuple[str, ...]:
    """Return the ids of the tasks that block *work*; hold the lock."""
    row = told_row(work)
    if row is not None and (holders := blockers(row)):
        return holders
    root = unresolvable_root(work)
    return () if root is None else (root.id,)


def is_stopped_by(run: WorkflowRun, phase: str) -> bool:
    """Return whether *run* does not go on if *phase* does not pass."""
    return run._gates.get(gate_of(phase), (None, "stop"))[1] != "continue"
