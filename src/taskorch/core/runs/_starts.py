"""Starts of runs: tasks are submitted after a check of what exists of the run."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, Final, cast

import attrs

from taskorch.core.engine import is_gone, row_of, workflow_span
from taskorch.core.runs import _limits, _members, _progress
from taskorch.core.runs._gates import gate
from taskorch.core.runs._mapping import mapped
from taskorch.core.runs._members import RunRecord
from taskorch.core.workflows import Workflow, WorkflowFunction, _steps
from taskorch.core.workflows._parameters import as_json, by_names, kept
from taskorch.core.workflows._workflow import drafts_of
from taskorch.errors import DuplicateTaskError
from taskorch.kit.visible import show
from taskorch.model import TERMINAL, Call, MadeFor, Task
from taskorch.model.ids import in_run

if TYPE_CHECKING:
    from taskorch.core.engine import Runtime
    from taskorch.core.engine._submission import Renewing
    from taskorch.core.handles.handles import TaskHandle
    from taskorch.core.runs._known import KnownRuns
    from taskorch.core.runs._run import WorkflowRun
    from taskorch.core.workflows._graph import Parents

#: The functions of steps of a workflow that must know their run.
_REAL: Final[dict[Any, Callable[..., Any]]] = {_steps.gate: gate, _steps.mapped: mapped}
#: The number of runs with limits above which those of ended runs are removed.
_MANY: Final = 64
#: The most names that a message shows.
_SHOWN: Final = 5
#: The advice for a run whose workflow has changed.
_OTHER_RUN: Final = (
    "choose another id for the run; tasks may be added to a workflow that has been "
    "started, and their options may change"
)


class Starts:
    """
    The starts of runs.

    Attributes:
        lock: Held from the check of what exists of a run until it is submitted.
    """

    def __init__(self, known: KnownRuns) -> None:
        self._known = known
        self._rt: Runtime = known.rt
        self.lock: threading.Lock = threading.Lock()
        #: Runs that have pools of their own.
        self._limited: dict[str, None] = {}

    def begin(
        self,
        workflow: Workflow,
        run_id: str,
        max_added: int,
        note: Mapping[str, Any] | None,
        more: Mapping[str, Any] | None,
    ) -> WorkflowRun:
        """Submit a new run; keep *more* of it, and *note* with its tasks."""
        if more or self._rt.committer is not None:
            self._note_begun(workflow, run_id, more)
        return self.submit(workflow, run_id, max_added, is_new=True, note=note)

    def submit(
        self,
        workflow: Workflow,
        run_id: str,
        max_added: int,
        *,
        is_new: bool,
        note: Mapping[str, Any] | None,
        renewing: Renewing | None = None,
    ) -> WorkflowRun:
        """
        Submit the tasks of a run: all of a new one, else the missing ones.

        Raises:
            UsageError: A task was refused, and none was submitted.
        """
        rt, book = self._rt, self._known
        drafts, parents, has_limits = drafts_of(workflow, run_id)
        drafts = _noted(_all_real(drafts), note)
        if has_limits:
            self.limit(run_id, _limits.of_tasks(drafts.values()))
        # This comes before its tasks begin, and add some.
        record = RunRecord() if is_new else book.record(run_id)
        book.records[run_id] = record
        record.size, record.max_added = len(parents), max_added
        begun = workflow_span(rt, workflow.name, run_id) if is_new else nullcontext()
        try:
            with begun:
                works = rt.submit_run(run_id, drafts, parents) if is_new else None
                if works is None:
                    # A journal, or a value in it, needs more than the bare task.
                    del drafts
                    tasks = [real_task(task) for task in workflow.tasks(run_id)]
                    noted = _noted(dict(zip(workflow, tasks, strict=True)), note)
                    handles = rt.submit_tasks(
                        [*noted.values()], run=run_id, renewing=renewing
                    )
                    works = dict(zip(noted, handles, strict=True))
        except BaseException as error:
            if is_new:
                del book.records[run_id]
            if isinstance(error, DuplicateTaskError):
                raise _is_another(run_id, error) from None
            raise
        run = book.runs.get(run_id)
        by_name = cast("dict[str, TaskHandle[Any]]", works)
        if run is None:
            run = book.made(run_id, by_name, parents)
        else:
            with rt.lock:
                for name in by_name.keys() - run._works.keys():
                    run._enter(by_name[name])
        return run

    def _note_begun(
        self, workflow: Workflow, run_id: str, more: Mapping[str, Any] | None
    ) -> None:
        """Note the code that a run begins with, and its recipe."""
        from taskorch.core.runs import _versions  # noqa: PLC0415 - when needed

        tasks = drafts_of(workflow, run_id).tasks
        _versions.note(self._rt, run_id, tasks.values(), _versions.BEGUN, more=more)

    def submittable(
        self, workflow: Workflow, run_id: str, note: Mapping[str, Any] | None
    ) -> tuple[dict[str, Task], Parents]:
        """Return the tasks of a workflow as submitted for a run, and their parents."""
        tasks = [real_task(task) for task in workflow.tasks(run_id)]
        by_name = dict(_noted(dict(zip(workflow, tasks, strict=True)), note))
        return by_name, dict(workflow.dependencies)

    def begin_part(
        self, run_id: str, tasks: Iterable[Task], values: Mapping[str, Any]
    ) -> list[TaskHandle[Any]]:
        """
        Submit some tasks of a workflow as a run, to which they may add others.

        *values* are the parameters of the run.
        """
        self._known.record(run_id)
        note = {MadeFor.PARAMETERS: values} if values else None
        named = {str(task.id): task for task in map(real_task, tasks)}
        tasks = _noted(named, note).values()
        works = self._rt.submit_tasks(tasks, run=run_id)
        return cast("list[TaskHandle[Any]]", works)

    def is_new(self, workflow: Workflow, run_id: str) -> bool:
        """
        Check that *workflow* has all tasks that were submitted under the id of a run.

        Tasks are compared when they are submitted; new ones join the run.

        Returns:
            Whether there is no such run.

        Raises:
            DuplicateTaskError: It lacks some; or there are tasks under these ids that
                are of no run.
        """
        rt, rows = self._rt, self._rt.kernel.tasks
        names = {in_run(run_id, name): name for name in workflow}
        rt.recall(tuple(names))
        submitted = [
            n for n in names if rt.directory.is_known(rt.directory.reruns.latest(n))
        ]
        record = self._known.records.get(run_id)
        size = None if record is None else record.size
        if size is None:
            # The run is of an earlier incarnation: it has the tasks submitted then, or
            # none.
            is_here = submitted or rt.committer is not None
            works = _members.find(rt, run_id) if is_here else {}
        elif len(submitted) == size:
            return size == 0 and record is None
        else:
            works = dict(self._known.get(run_id).handles)
        own = _members.of_run(run_id, works) if works else {}
        here = {names[n]: rows.get(rt.directory.reruns.latest(n)) for n in submitted}
        alone = [name for name, row in here.items() if row and row.run != run_id]
        if not own:
            alone += [name for name in works if name not in alone]
        if alone:
            msg = (
                f"the ids of tasks that are of no workflow begin with the id "
                f"{run_id!r} of the run and a slash: {_some_of(alone)}"
            )
            raise DuplicateTaskError(msg, hint=_OTHER_RUN)
        gone = [
            name
            for name, work in own.items()
            if not (_members.is_added(work) or is_gone(row_of(work)))
            and in_run(run_id, name) not in names
        ]
        if gone:
            msg = (
                f"the id {run_id!r} is that of a run of another workflow, with tasks "
                f"that this one has not: {_some_of(gone)}"
            )
            raise DuplicateTaskError(msg, hint=_OTHER_RUN)
        return not own and record is None

    def refuse_others(
        self, run_id: str, values: Mapping[str, Any], explicit: set[str]
    ) -> None:
        """
        Refuse values that differ from those of the existing run.

        Raises:
            DuplicateTaskError: One is another: one that it has, or that is *explicit*.
        """
        own = _progress.parameters_of(self._known.get(run_id))
        others = [
            f"{name} is {show(own.get(name))}, not {show(value)}"
            for name, value in values.items()
            if (name in own or name in explicit)
            and (name not in own or own[name] != value)
        ]
        if others:
            msg = f"the run {run_id!r} has other parameters: {', '.join(others)}"
            raise DuplicateTaskError(msg, hint="choose another id for the run")

    def limit(self, run_id: str, pools: Iterable[str]) -> None:
        """Add the pools of a run, and remove those of ended runs."""
        rt = self._rt
        _limits.ensure(rt, pools)
        self._limited[run_id] = None
        if len(self._limited) > _MANY:
            with rt.lock:
                rows = rt.kernel.tasks.values()
                live = {row.run for row in rows if row.state not in TERMINAL}
            over = [i for i in self._limited if i not in live and i != run_id]
            del over[_MANY // 2 :]
            _limits.forget(rt, over)
            for each in over:
                del self._limited[each]


def _some_of(names: Sequence[str]) -> str:
    """Return the first of *names*, and how many more there are."""
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(map(repr, names[:_SHOWN])) + more


def _is_another(run_id: str, error: DuplicateTaskError) -> DuplicateTaskError:
    """Return the error about tasks of a run as one about the run."""
    lines = [
        f"task {task_id!r}: {field} was {was}, and is {now}".replace(in_run(run_id), "")
        for task_id, field, was, now in error.differences
    ]
    if len(lines) > _SHOWN:
        lines[_SHOWN:] = [f"and {len(lines) - _SHOWN} more"]
    reason = "; ".join(lines) or "what that was has left memory"
    msg = f"the id {run_id!r} is that of a run of another workflow: {reason}"
    return DuplicateTaskError(
        msg, differences=error.differences, hint=_OTHER_RUN, task_id=run_id
    )


def real_task(task: Task) -> Task:
    """Return *task* with the function that the placeholder of its call stands for."""
    payload = task.payload
    if isinstance(payload, Call) and payload.fn in _REAL:
        return attrs.evolve(task, payload=attrs.evolve(payload, fn=_REAL[payload.fn]))
    return task


def _noted(
    tasks: Mapping[str, Task], note: Mapping[str, Any] | None
) -> Mapping[str, Task]:
    """Return *tasks*, each with *note* in its metadata."""
    if note is None:
        return tasks
    return {
        name: attrs.evolve(task, metadata={**(task.metadata or {}), **note})
        for name, task in tasks.items()
    }


def _all_real(tasks: Mapping[str, Task]) -> Mapping[str, Task]:
    """Return *tasks* without placeholders; a copy only if there are any."""
    changed = {
        n: real for n, task in tasks.items() if (real := real_task(task)) is not task
    }
    return {**tasks, **changed} if changed else tasks


def recipe_of(
    flow: Workflow | WorkflowFunction[...], parameters: Mapping[str, Any] | None
) -> dict[str, Any]:
    """Return the recipe of a run of *flow*: its function's place and its arguments."""
    if isinstance(flow, Workflow):
        return {}
    from taskorch.core.runs import _versions  # noqa: PLC0415 - when needed

    values = as_json(kept(by_names(parameters)))
    return {"flow": _versions.flow_name(flow), "given": values}
