"""The managers behind the orchestrator: `orch.workflows`."""

from __future__ import annotations

import threading
import weakref
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from functools import partial
from itertools import islice
from time import monotonic
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, cast

from taskorch._handles import TaskHandle
from taskorch.errors import (
    DuplicateTaskError,
    InvalidTaskError,
    InvalidTransitionError,
    NotRunningError,
    UnknownTaskError,
    WorkflowFailedError,
)
from taskorch.model import TERMINAL, TaskState
from taskorch.model._show import show
from taskorch.runtime._context import result_of
from taskorch.runtime._waiting import blockade
from taskorch.runtime._work import error_of
from taskorch.workflows import Workflow, WorkflowStatus
from taskorch.workflows._graph import Parents, longest_path, order
from taskorch.workflows._names import check_name
from taskorch.workflows._pictures import page
from taskorch.workflows._status import state_of

if TYPE_CHECKING:
    from taskorch._orchestrator import TaskOrchestrator
    from taskorch.kernel import TaskRow
    from taskorch.runtime._runtime import Runtime

__all__ = ("WorkflowManager", "WorkflowRun")

#: Tasks that are controlled in one step: the lock is held for a few milliseconds.
_SLICE: Final = 500
#: Failures that a message shows.
_SHOWN: Final = 3


class WorkflowRun:
    """
    A run of a workflow: wait for it, await it, look at it.

    Made by `orch.workflows`. It keeps the handles of its tasks, and with them their
    results, while somebody keeps it.
    """

    __slots__ = ("__weakref__", "_parents", "_rt", "_works", "workflow_id")

    def __init__(
        self,
        # Any: the public type does not drag the runtime along.
        runtime: Any,
        workflow_id: str,
        works: dict[str, TaskHandle[Any]],
        parents: Parents,
    ) -> None:
        self._rt: Runtime = runtime
        #: The id of the run; those of its tasks are this, a slash, and the id of the
        #: task in the workflow.
        self.workflow_id: str = workflow_id
        self._works = works
        self._parents = parents

    @property
    def handles(self) -> Mapping[str, TaskHandle[Any]]:
        """
        The handles of its tasks, by their ids in the workflow.

        Of a task that was run again it is that of the latest run.
        """
        rt = self._rt
        for name, work in self._works.items():
            again = _next_id(work.task_id)
            while _is_known(rt, again):
                # What has ended may be on its way to where it will be read.
                rt.recall((again,))
                self._works[name] = cast("TaskHandle[Any]", rt.known(again))
                again = _next_id(again)
        return MappingProxyType(self._works)

    def result(self, timeout: float | None = None) -> dict[str, Any]:
        """
        Wait until all tasks have ended, and return their results by id.

        A task that fails does not end this wait while others can still proceed.

        Args:
            timeout: Seconds to wait; None is for ever.

        Raises:
            TimeoutError: The caller's patience is over; the workflow goes on.
            WorkflowFailedError: It cannot complete.
            NotRunningError: The orchestrator has stopped before the end.
            ResultGoneError: A result left memory before anybody kept the run.
            WouldBlockError: The caller is on the loop that must do the work.
            WouldDeadlockError: The wait could never end.
        """
        end = None if timeout is None else monotonic() + timeout
        while True:
            for work in list(self.handles.values()):
                left = None if end is None else max(0.0, end - monotonic())
                if not self._rt.waiting.wait(work, left):
                    msg = f"workflow {self.workflow_id} has not ended in {timeout:g} s"
                    raise TimeoutError(msg)
            results = self._results()
            if results is not None:
                return results

    def __await__(self) -> Generator[Any, None, dict[str, Any]]:
        while True:
            for work in list(self.handles.values()):
                yield from self._rt.waiting.wait_async(work).__await__()
            results = self._results()
            if results is not None:
                return results

    def status(self) -> WorkflowStatus:
        """How far it is, at one instant."""
        rt = self._rt
        rt.look_up()
        handles = self.handles
        with rt.lock:
            states = {name: work._row.state for name, work in handles.items()}
            stuck = sum(_blockers(work._row) != () for work in handles.values())
        count = Counter(states.values())
        counts = {state: count[state] for state in TaskState if count[state]}
        left = {n for n, state in states.items() if state is not TaskState.COMPLETED}
        return WorkflowStatus(
            self.workflow_id,
            state_of(counts, stuck),
            MappingProxyType(states),
            MappingProxyType(counts),
            longest_path(self._parents, left),
        )

    def __repr__(self) -> str:
        states = [work._row.state for work in self._works.values()]
        done = f"{states.count(TaskState.COMPLETED)} of {len(states)}"
        return f"<WorkflowRun {self.workflow_id!r}: {done} tasks completed>"

    def _repr_html_(self) -> str:
        rows = {name: work._row for name, work in self.handles.items()}
        return page(
            str(self.status()),
            self._parents,
            {name: row.bucket.spec.type for name, row in rows.items()},
            {name: row.state.value for name, row in rows.items()},
        )

    def _results(self) -> dict[str, Any] | None:
        """
        The results; None if it has not ended after all.

        Raises:
            WorkflowFailedError: It cannot complete.
            NotRunningError: Nobody will go on with it in this life.
            ResultGoneError: A result has left memory.
        """
        rt = self._rt
        results: dict[str, Any] = {}
        failures: dict[str, BaseException] = {}
        blocked: dict[str, TaskRow] = {}
        handles = self.handles
        with rt.lock:
            for name, work in handles.items():
                row = work._row
                told = work._settled <= rt.committed
                if told and row.state is TaskState.COMPLETED:
                    results[name] = result_of(work)
                elif told and row.state in TERMINAL:
                    error = error_of(work) or work._error
                    assert error is not None  # noqa: S101 - it did not complete
                    failures[name] = error
                elif told and _blockers(row):
                    blocked[name] = row
                elif rt.halted:
                    msg = (
                        f"the orchestrator has stopped, and workflow "
                        f"{self.workflow_id} has not ended: {name} is {row.state}"
                    )
                    hint = "it goes on when the journal is opened again"
                    raise NotRunningError(msg, hint=hint, task_id=row.id)
                else:
                    return None
            ours = {work._row.id for work in handles.values()}
            for name, row in blocked.items():
                if not ours.issuperset(_blockers(row)):
                    # It began outside of the workflow.
                    failures[name] = blockade(row)
        if not failures:
            return results
        raise self._failed(failures, len(blocked)) from next(iter(failures.values()))

    def _failed(
        self, failures: Mapping[str, BaseException], blocked: int
    ) -> WorkflowFailedError:
        shown = [
            f"{name} ({type(error).__name__}: {show(str(error)).strip(chr(39))})"
            for name, error in islice(failures.items(), _SHOWN)
        ]
        if len(failures) > _SHOWN:
            shown.append("…")
        msg = (
            f"workflow {self.workflow_id} cannot complete: {len(failures)} of its "
            f"{len(self._works)} tasks failed: {', '.join(shown)}"
        )
        if blocked:
            msg += f"; blocked by that: {blocked}"
        return WorkflowFailedError(msg, failures=failures)


class WorkflowManager:
    """
    `orch.workflows`: starts workflows, and controls their runs.

    The id of a run is one word; the ids of its tasks are this, a slash, and their ids
    in the workflow.
    """

    def __init__(self, orchestrator: TaskOrchestrator) -> None:
        self._orch = orchestrator
        self._rt: Runtime = orchestrator._rt
        self._runs: weakref.WeakValueDictionary[str, WorkflowRun] = (
            weakref.WeakValueDictionary()
        )
        #: How many tasks each run of this life has: their ids tell the rest.
        self._sizes: dict[str, int] = {}
        self._starting = threading.Lock()

    def start(
        self,
        workflow: Workflow,
        id: str | None = None,  # noqa: A002 - the contract's name
    ) -> WorkflowRun:
        """
        Run a workflow: all its tasks are submitted, or none.

        Args:
            workflow: The workflow, as it is now.
            id: The id of the run: the same workflow under the same id is the same run,
                in a later life of a durable orchestrator too. None makes up a new one.

        Raises:
            InvalidTaskError: It is no workflow, or *id* is no safe word.
            DuplicateTaskError: *id* is that of a run of another workflow.
            UsageError: A task was refused: see `submit_tasks`.
        """
        rt = self._rt
        if not isinstance(workflow, Workflow):
            msg = f"a Workflow is started, not {show(workflow)}"
            raise InvalidTaskError(msg, hint="orch.submit_tasks takes single tasks")
        if id is not None:
            check_name("the id of a run", id)
        rt.look_up()
        if id is None:
            return self._start(workflow, f"{workflow.name}-{rt.new_id()}")
        with self._starting:
            self._check_same(workflow, id)
            return self._start(workflow, id)

    def _start(self, workflow: Workflow, run_id: str) -> WorkflowRun:
        handles = self._orch.submit_tasks(workflow.tasks(run_id))
        run = self._runs.get(run_id)
        if run is None:
            works = dict(zip(workflow, handles, strict=True))
            run = self._made(run_id, works, dict(workflow.dependencies))
            self._sizes[run_id] = len(works)
        return run

    def _check_same(self, workflow: Workflow, run_id: str) -> None:
        """
        Whether all tasks of *workflow* are there already, or none; nothing else is.

        What they are is compared when they are submitted.
        """
        rt = self._rt
        names = [f"{run_id}/{name}" for name in workflow]
        rt.recall(names)
        fresh = [name for name in names if not _is_known(rt, name)]
        size = self._sizes.get(run_id)
        if size is None:
            # Of an earlier life: there is what was submitted then, or nothing.
            size = 0 if len(fresh) == len(names) else len(self._find(run_id))
        if size == 0 and len(fresh) == len(names):
            return
        if fresh or size != len(names):
            what = (
                f"which has no task {fresh[0]}" if fresh else f"which has {size} tasks"
            )
            msg = f"the id {run_id!r} is that of a run of another workflow, {what}"
            raise DuplicateTaskError(msg, hint="choose another id for the run")

    def get(self, run_id: str) -> WorkflowRun:
        """
        The run with an id.

        Raises:
            UnknownTaskError: No workflow runs, or ran, under this id.
        """
        self._rt.look_up()
        run = self._runs.get(run_id)
        if run is not None:
            return run
        works = self._find(run_id)
        if not works and self._sizes.get(run_id) != 0:
            msg = f"no workflow has been started with the id {show(run_id)}"
            raise UnknownTaskError(msg, hint="orch.workflows.start(workflow, id=…)")
        parents = {
            name: tuple(_names(run_id, _after(work))) for name, work in works.items()
        }
        return self._made(run_id, works, parents)

    def _made(
        self, run_id: str, works: dict[str, TaskHandle[Any]], parents: Parents
    ) -> WorkflowRun:
        rt = self._rt
        again = [_next_id(work.task_id) for work in works.values()]
        while again and rt.recovered is not None:
            # Of an earlier life, re-runs that have ended are in the journal only.
            rt.recall(again)
            again = [_next_id(task_id) for task_id in again if _is_known(rt, task_id)]
        run = WorkflowRun(rt, run_id, works, parents)
        return self._runs.setdefault(run_id, run)

    def _find(self, run_id: str) -> dict[str, TaskHandle[Any]]:
        """The tasks of a run that are known, by their ids in the workflow."""
        rt = self._rt
        kernel = rt.kernel
        with rt.lock:
            everything = [*kernel.retired, *kernel.tasks]
        names = _names(run_id, everything)
        seen = set(names)
        found: dict[str, TaskHandle[Any]] = {}
        while names:
            rt.recall([f"{run_id}/{name}" for name in names])
            above: list[str] = []
            for name in names:
                if _is_known(rt, f"{run_id}/{name}"):
                    work = cast("TaskHandle[Any]", rt.known(f"{run_id}/{name}"))
                    found[name] = work
                    above += _after(work)
            # Of an earlier life, what has ended is known by those who wait for it.
            names = [name for name in _names(run_id, above) if name not in seen]
            seen.update(names)
        return found

    # -- control -------------------------------------------------------------------

    def status(self, run_id: str) -> WorkflowStatus:
        """
        How far a run is.

        Raises:
            UnknownTaskError: No workflow runs, or ran, under this id.
        """
        return self.get(run_id).status()

    def cancel(self, run_id: str) -> bool:
        """
        Call off all tasks of a run that have not ended; False if there are none.

        Raises:
            UnknownTaskError: No workflow runs, or ran, under this id.
            InvalidTransitionError: The state machine forbids it for a task; those
                that it allows are cancelled.
        """
        kernel = self._rt.kernel
        why = f"workflow {run_id} was cancelled"
        done, vetoes = self._each(run_id, lambda row, now: kernel.cancel(row, now, why))
        if vetoes:
            raise vetoes[0]
        return done

    def pause(self, run_id: str) -> bool:
        """
        Put aside all tasks of a run that can be; False if there are none.

        Programs are stopped where they stand, running functions at their next
        checkpoint, and what has not begun does not begin. What is blocked stays so.

        Raises:
            UnknownTaskError: No workflow runs, or ran, under this id.
        """
        rt = self._rt

        def suspend(row: TaskRow, now: int) -> bool:
            holdable = rt.attempts.holdable(row)
            return rt.kernel.suspend(row, now, holdable=holdable)

        return self._each(run_id, suspend)[0]

    def resume(self, run_id: str) -> bool:
        """
        Let all tasks of a run that are put aside go on; False if there are none.

        Raises:
            UnknownTaskError: No workflow runs, or ran, under this id.
        """
        return self._each(run_id, self._rt.kernel.resume)[0]

    def restart(self, run_id: str) -> WorkflowRun:
        """
        Run again what failed or was cancelled, as `id~2`; nothing that completed is.

        What waits for these tasks waits for the new ones from then on.

        Returns:
            The run, which is the same as before.

        Raises:
            UnknownTaskError: No workflow runs, or ran, under this id; or a task of it
                that failed has left memory.
        """
        rt = self._rt
        run = self.get(run_id)
        failed = [
            (name, work.task_id)
            for name, work in _backwards(run)
            if work._row.state in (TaskState.FAILED, TaskState.CANCELLED)
        ]
        for _, task_id in failed:
            if task_id not in rt.kernel.tasks:
                msg = f"task {task_id} has left memory, and cannot be run again"
                raise UnknownTaskError(msg, hint="raise keep_finished", task_id=task_id)

        def rerun(part: Sequence[tuple[str, str]], now: int) -> None:
            rt.refuse_submission()
            for name, task_id in part:
                # Another thread may have been faster.
                if run._works[name].task_id == task_id:
                    work = rt.submission.rerun(task_id, now)
                    run._works[name] = cast("TaskHandle[Any]", work)

        # What waits comes before what it waits for, and is handed on to its re-run.
        for part in _slices(failed):
            rt.step(partial(rerun, part), keep=True)
        return run

    def _each(
        self, run_id: str, act: Callable[[Any, int], bool]
    ) -> tuple[bool, list[InvalidTransitionError]]:
        """
        Do *act* to every task of a run, what waits before what it waits for.

        Returns:
            Whether it did something, and what the state machine had against it.
        """
        run = self.get(run_id)
        vetoes: list[InvalidTransitionError] = []

        def change(rows: Iterable[TaskRow], now: int) -> bool:
            done = False
            for row in rows:
                try:
                    done = act(row, now) or done
                except InvalidTransitionError as veto:
                    vetoes.append(veto)
            return done

        done = False
        for part in _slices([work._row for _, work in _backwards(run)]):
            done |= self._rt.step(partial(change, part), keep=True)
        return done, vetoes


def _backwards(run: WorkflowRun) -> list[tuple[str, TaskHandle[Any]]]:
    handles = run.handles
    return [(name, handles[name]) for name in reversed(order(run._parents))]


def _slices(items: Sequence[Any]) -> Iterable[Sequence[Any]]:
    return (items[i : i + _SLICE] for i in range(0, len(items), _SLICE))


def _is_known(runtime: Runtime, task_id: str) -> bool:
    return task_id in runtime.kernel.tasks or task_id in runtime.kernel.retired


def _after(work: TaskHandle[Any]) -> tuple[str, ...]:
    return () if work._extra is None else work._extra.after


def _names(run_id: str, task_ids: Iterable[str]) -> list[str]:
    """Of those of *task_ids* that are of a run, the ids in the workflow, each once."""
    prefix = f"{run_id}/"
    found = {
        task_id.removeprefix(prefix).partition("~")[0]: None
        for task_id in task_ids
        if task_id.startswith(prefix)
    }
    return list(found)


def _next_id(task_id: str) -> str:
    """The id of the next run of a task."""
    stem, _, number = task_id.partition("~")
    return f"{stem}~{int(number or 1) + 1}"


def _blockers(row: TaskRow) -> tuple[str, ...]:
    """The ids of what *row* waits for and will not complete, if it is blocked."""
    if row.state is not TaskState.BLOCKED or row.more is None:
        return ()
    return tuple(row.more.blocked_by)
