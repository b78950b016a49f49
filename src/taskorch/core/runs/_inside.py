"""
`context.workflow`: actions of a running task on the run that it is part of.

Decision: workflows.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, Unpack, cast

import attrs

from taskorch.core.engine import (
    ADDED,
    Work,
    add_above,
    added_by,
    adder_of,
    is_due,
    is_earlier,
    is_outdated,
    is_to_be_redone,
    names_above,
    row_of,
    since_of,
    work_of,
)
from taskorch.core.handles.handles import TaskHandle
from taskorch.core.kernel import can_wait
from taskorch.core.runs import _limits, _members
from taskorch.core.runs._gates import is_gate
from taskorch.core.workflows import _graph
from taskorch.core.workflows._names import stem_of, unused
from taskorch.core.workflows._phases import phase_of
from taskorch.errors import (
    InvalidTaskError,
    InvalidTransitionError,
    NotRunningError,
    QueueFullError,
    UnknownTaskError,
)
from taskorch.kit.visible import show
from taskorch.model import (
    DEFAULT_ENV,
    Task,
    TaskOptions,
    TaskState,
    ids as task_ids,
    inherited,
)
from taskorch.model.ids import check_task_id, ids_in_run, in_run, name_of, run_of

if TYPE_CHECKING:
    import os

    from taskorch.core.engine import AttemptContext, Entry, Runtime
    from taskorch.core.runs._known import KnownRuns
    from taskorch.core.runs._members import RunRecord
    from taskorch.core.runs._run import WorkflowRun
    from taskorch.model import Enforce, InheritEnv


class WorkflowContext:
    """
    The run that a running task is part of: the task can add tasks to it.

    Added tasks belong to the run as all others do: their results are among those of the
    run, and they are paused, cancelled and restarted with it. An attempt that adds a
    task which an earlier attempt of its task has added gets that one, and no new one.

    A new run of the task adds its tasks again; questions among them are always asked
    again.
    """

    __slots__ = ("_inside", "_known", "workflow_id")

    def __init__(self, known: Any, inside: Any) -> None:
        # Any: the public type must not import the runtime.
        self._known: KnownRuns = known
        self._inside: AttemptContext = inside
        #: The id of the run.
        self.workflow_id: str = row_of(work_of(inside)).run

    def task(
        self,
        fn: Callable[..., Any],
        /,
        *args: Any,
        kwargs: Mapping[str, Any] | None = None,
        executor: str | None = None,
        before: Iterable[Any] = (),
        **task_options: Unpack[TaskOptions],
    ) -> TaskHandle[Any]:
        """
        Add a task that calls *fn*: see `add`, and `Task.call`.

        Raises:
            UsageError: As for `add`.
        """
        task = Task.call(fn, *args, kwargs=kwargs, executor=executor, **task_options)
        return self.add(task, before=before)

    def program(
        self,
        args: Iterable[str | bytes | os.PathLike[str]],
        *,
        env: Mapping[str, str] | None = None,
        inherit_env: InheritEnv = DEFAULT_ENV,
        cwd: str | os.PathLike[str] | None = None,
        stdin: str | bytes | None = None,
        check: bool = True,
        limits: Mapping[str, float] | None = None,
        reads: Iterable[str | os.PathLike[str]] | None = None,
        network: bool | None = None,
        enforce: Enforce = None,
        before: Iterable[Any] = (),
        **task_options: Unpack[TaskOptions],
    ) -> TaskHandle[Any]:
        """
        Add a task that runs a program: see `add`, and `Task.program`.

        Raises:
            ValueError, TypeError: The program is not well formed.
            UsageError: As for `add`.
        """
        task = Task.program(
            args,
            env=env,
            inherit_env=inherit_env,
            cwd=cwd,
            stdin=stdin,
            check=check,
            limits=limits,
            reads=reads,
            network=network,
            enforce=enforce,
            **task_options,
        )
        return self.add(task, before=before)

    def add(self, task: Task, *, before: Iterable[Any] = ()) -> TaskHandle[Any]:
        """
        Add a task to the run.

        Its id in the workflow is the one that it has, or else made of those of the task
        that adds it and of its function: `crawl/fetch`, `crawl/fetch-2`. In `after` and
        *before*, a text is the id of a task of this run. The gate of the phase waits
        for it, unless that has given its verdict already, as it may have after a
        restart: then the task belongs to no phase.

        Args:
            task: The task.
            before: Tasks of the run that have not begun, and are to wait for this one.

        Raises:
            CycleError: Tasks would wait for each other; nothing has changed.
            DuplicateTaskError: The run has another task with this id.
            InvalidTransitionError: A task of *before* has begun.
            QueueFullError: The run has as many added tasks as it may: see `max_added`.
            NotRunningError: The attempt that adds it is over.
            UsageError: The task was refused: see `submit_task`.
        """
        return self.add_all([task], before=before)[0]

    def add_all(
        self, tasks: Iterable[Task], *, before: Iterable[Any] = ()
    ) -> list[TaskHandle[Any]]:
        """
        Add tasks to the run, all or none: see `add`.

        Raises:
            UsageError: As for `add`.
        """
        named = [self._named(task) for task in tasks]
        rt = self._rt
        rt.deciders.refuse_reentry()
        rt.durable()
        batch = rt.submission.preparation.prepare(named, self.workflow_id)
        rt.recall(rt.submission.names(batch))
        entries = batch.entries()
        later = [self._found(ref) for ref in _listed("before", before)]
        record = self._known.record(self.workflow_id)
        add = partial(self._admit, entries, later, record)
        works: list[Work] = rt.step(add, keep=True)
        return cast("list[TaskHandle[Any]]", works)

    @property
    def aio(self) -> AsyncWorkflowContext:
        """The methods as awaitables, for a coroutine: `context.aio.workflow`."""
        return AsyncWorkflowContext(self)

    def handle(self, name: str) -> TaskHandle[Any]:
        """
        Return the handle of a task of the run, by its id in the workflow.

        Raises:
            UnknownTaskError: There is none.
        """
        return cast("TaskHandle[Any]", self._found(name))

    def barrier(
        self, name: str, parties: int, timeout: float | timedelta | None = None
    ) -> int:
        """
        Wait until *parties* tasks of the run have come to the barrier *name*.

        The attempt waits without its slot, as for a task. If somebody who waits stops,
        or too few are left who could come, all who wait are told; so they are if the
        others need resources that those here hold. A meeting that was held counts for
        a later attempt of the task, which does not wait, and for a re-run unless all
        who met run again. Meetings are in memory: after a crash the attempts meet
        again.

        Args:
            name: One word; once all have met, it is free for the next time.
            parties: How many are to come, this one included.
            timeout: Seconds, or a timedelta, to wait; None is for ever.

        Returns:
            How many had come before.

        Raises:
            TimeoutError: They have not all come in time.
            threading.BrokenBarrierError: Somebody else's time was over, or has stopped;
                or too few tasks of the run are left.
            WouldDeadlockError: The others cannot start before those here end.
            InvalidTaskError: An argument is not well formed.
            WouldBlockError: The caller is on the loop: `context.aio.workflow`.
        """
        return self._meet(name, parties, None, timeout)[0]

    def exchange(
        self, name: str, value: Any, timeout: float | timedelta | None = None
    ) -> Any:
        """
        Meet one other task of the run, and swap values with it.

        Args:
            name: One word; it is free again once two have met.
            value: What the other one gets, as it is.
            timeout: Seconds, or a timedelta, to wait; None is for ever.

        Returns:
            The value that the other task brought.

        Raises:
            TimeoutError: Nobody has come in time.
            threading.BrokenBarrierError: Nobody is left who could come.
            WouldDeadlockError: Nobody else can start before those here end.
            InvalidTaskError: An argument is not well formed.
            WouldBlockError: The caller is on the loop: `context.aio.workflow`.
        """
        place, values = self._meet(name, 2, value, timeout)
        return values[1 - place]

    def __repr__(self) -> str:
        return f"<WorkflowContext of {self._inside.task_id}>"

    # -- how -----------------------------------------------------------------------

    def _meet(
        self, name: str, parties: int, value: Any, timeout: float | timedelta | None
    ) -> tuple[int, list[Any]]:
        meetings = self._known.meetings
        return meetings.meet(self._inside, name, parties, value, timeout)

    async def _meet_async(
        self,
        name: str,
        parties: int,
        value: Any,
        timeout: float | timedelta | None,  # noqa: ASYNC109 - the name that it has there
    ) -> tuple[int, list[Any]]:
        meetings = self._known.meetings
        return await meetings.meet_async(self._inside, name, parties, value, timeout)

    @property
    def _rt(self) -> Runtime:
        return self._known.rt

    def _named(self, task: Task) -> Task:
        """Return *task* with its id, marked as added."""
        if not isinstance(task, Task):
            msg = f"a Task is added, not {show(task)}"
            hint = "context.workflow.task(function, …) adds a call"
            raise InvalidTaskError(msg, hint=hint)
        if task.idempotency_key is not None:
            msg = f"task {task.id!r} has an idempotency key"
            hint = "a task of a workflow is known by its id and that of the run"
            raise InvalidTaskError(msg, hint=hint, task_id=task.id)
        if task.id is None:
            counts = self._known.counts_of(self._inside)
            ours = name_of(self._inside.task_id)
            name = unused(f"{ours}/{stem_of(task)}", (), counts)
        else:
            name = check_task_id(task.id)
        refs = _listed("after", task.after)
        return attrs.evolve(
            task,
            id=in_run(self.workflow_id, name),
            after=tuple(self._found(r) if isinstance(r, str) else r for r in refs),
            metadata={
                **(task.metadata or {}),
                **self._of_schedule(),
                ADDED: self._inside.task_id,
            },
            resources=_limits.shared(work_of(self._inside), task.resources),
        )

    def _of_schedule(self) -> dict[str, Any]:
        """Return the metadata about the schedule of the run, for added tasks."""
        task = work_of(self._inside)._task
        return {} if task is None else inherited(task.metadata)

    def _found(self, ref: Any) -> Work:
        """
        Return the latest run of the task of this run that *ref* means.

        Raises:
            UnknownTaskError: There is none.
        """
        if isinstance(ref, Work) and ref._rt is self._rt:
            return _members.newest(self._rt, row_of(ref).id)
        name = in_run(self.workflow_id, str(ref))
        self._rt.recall((name,))
        if isinstance(ref, str) and self._rt.directory.is_known(
            self._rt.directory.reruns.latest(name)
        ):
            work = _members.newest(self._rt, name)
            if row_of(work).run == self.workflow_id:
                return work
        msg = f"workflow {self.workflow_id} has no task {show(ref)}"
        raise UnknownTaskError(msg, hint="an id in the workflow, or a handle")

    def _admit(
        self,
        entries: Sequence[Entry],
        later: Sequence[Work],
        record: RunRecord,
        now: int,
    ) -> list[Work]:
        """Take in tasks, all or none; hold the lock."""
        rt, row = self._rt, row_of(work_of(self._inside))
        rt.refuse_submission()
        if row.attempt != self._inside.attempt or row.state is not TaskState.RUNNING:
            msg = f"attempt {self._inside.attempt} of task {row.id} is over"
            hint = "tasks are added by an attempt that is under way"
            raise NotRunningError(msg, hint=hint, task_id=row.id)
        renewing = _Renewing(rt, self._inside)
        fresh, again = renewing.sort(entries)
        # The gate of its phase waits for tasks added in that phase: one that was
        # skipped does so when it runs again, unless it does already. One that has given
        # its verdict does not.
        dependents = () if row.links is None else row.links.dependents
        gates = [
            child.cargo
            for child in dependents
            if is_gate(child.cargo) and can_wait(child)
            if child.id in rt.kernel.tasks and rt.directory.reruns.is_latest(child.id)
        ]
        later = [*gates, *(work for work in later if work not in gates)]
        self._check(fresh, again, later, record, now)
        works = rt.submission.admit_entries(entries, now, renewing=renewing)
        rt.directory.reruns.adders.add(task_ids.stem_of(row.id))
        record.added += len(fresh)
        run = self._known.runs.get(self.workflow_id)
        for entry in entries:
            if entry.existing is not None:
                continue
            work = cast("TaskHandle[Any]", entry.work)
            if run is not None:
                run._enter(work)
            phases = [phase_of(name_of(row_of(g).id)) for g in gates]
            parts = [name_of(work.task_id), *phases]
            if any(map(record.is_paused_at, parts)):
                # The task may be blocked, or the state machine forbids it.
                with suppress(InvalidTransitionError):
                    rt.kernel.suspend(row_of(work), now, holdable=False)
        names = tuple(name_of(row_of(work).id) for work in works)
        for target in later:
            _precede(rt, works, target, now)
            if run is not None:
                run._connect(name_of(row_of(target).id), names)
        return works

    def _check(
        self,
        fresh: Sequence[Entry],
        again: Sequence[Entry],
        later: Sequence[Work],
        record: RunRecord,
        now: int,
    ) -> None:
        """
        Refuse tasks that are too many or too late, and rings; hold the lock.

        Raises:
            QueueFullError: It would be more than the run may have.
            InvalidTransitionError: A task that is to wait has begun.
            CycleError: Something would wait for itself.
        """
        if fresh and record.added + len(fresh) > record.max_added:
            msg = (
                f"task {self._inside.task_id} adds a task too many: workflow "
                f"{self.workflow_id} may have {record.max_added:,} added tasks"
            )
            hint = "orch.workflows.start(workflow, max_added=…) sets the limit"
            raise QueueFullError(msg, hint=hint, task_id=self._inside.task_id)
        if not (fresh or again):
            return
        for target in later:
            if fresh or not _comes_after(target, again):
                # With nothing to add, this only checks whether tasks could be added.
                self._rt.kernel.add_parents(row_of(target), (), now)
        run = self._known.runs.get(self.workflow_id)
        way = _way(self._rt, run, [*fresh, *again], later)
        if way:
            error = _graph.ring_error(tuple(name_of(task_id) for task_id in way))
            error.hint = "nothing was added; leave out one of after= and before="
            raise error


class AsyncWorkflowContext:
    """`context.aio.workflow`: the methods of a WorkflowContext as awaitables."""

    __slots__ = ("_context",)

    def __init__(self, context: WorkflowContext) -> None:
        self._context = context

    @property
    def workflow_id(self) -> str:
        """The id of the run."""
        return self._context.workflow_id

    async def task(
        self, fn: Callable[..., Any], /, *args: Any, **options: Any
    ) -> TaskHandle[Any]:
        """See `WorkflowContext.task`."""
        return await asyncio.to_thread(self._context.task, fn, *args, **options)

    async def program(self, args: Iterable[Any], **options: Any) -> TaskHandle[Any]:
        """See `WorkflowContext.program`."""
        return await asyncio.to_thread(self._context.program, args, **options)

    async def add(self, task: Task, *, before: Iterable[Any] = ()) -> TaskHandle[Any]:
        """See `WorkflowContext.add`."""
        return await asyncio.to_thread(self._context.add, task, before=before)

    async def add_all(
        self, tasks: Iterable[Task], *, before: Iterable[Any] = ()
    ) -> list[TaskHandle[Any]]:
        """See `WorkflowContext.add_all`."""
        add_all = partial(self._context.add_all, before=before)
        return await asyncio.to_thread(add_all, list(tasks))

    async def handle(self, name: str) -> TaskHandle[Any]:
        """See `WorkflowContext.handle`."""
        return await asyncio.to_thread(self._context.handle, name)

    async def barrier(
        self,
        name: str,
        parties: int,
        timeout: float | timedelta | None = None,  # noqa: ASYNC109 - the same name
    ) -> int:
        """See `WorkflowContext.barrier`."""
        return (await self._context._meet_async(name, parties, None, timeout))[0]

    async def exchange(
        self,
        name: str,
        value: Any,
        timeout: float | timedelta | None = None,  # noqa: ASYNC109 - the same name
    ) -> Any:
        """See `WorkflowContext.exchange`."""
        place, values = await self._context._meet_async(name, 2, value, timeout)
        return values[1 - place]


def _listed(name: str, refs: Any) -> list[Any]:
    if isinstance(refs, str | bytes | Work) or not isinstance(refs, Iterable):
        msg = f"{name} is a list of handles and ids, not {show(refs)}"
        raise InvalidTaskError(msg, hint=f"put it in a list: {name}=[…]")
    return list(refs)


class _Renewing:
    """
    The rule for tasks that an attempt adds although they exist: which are made again.

    A task that an earlier attempt of the same run has added exists already. A later run
    makes anew the tasks from before `since`; of the later ones, it makes again those
    that did not complete and those that are stale, and asks questions again.
    """

    decides: bool = False

    def admitted(self, now: int) -> None:
        """Do nothing."""

    def __init__(self, runtime: Runtime, inside: AttemptContext) -> None:
        self._rt = runtime
        self._task_id: str = inside.task_id
        self._since: str = since_of(work_of(inside))

    def sort(self, entries: Iterable[Entry]) -> tuple[list[Entry], list[Entry]]:
        """Return which of *entries* are new to the run, and which are made again."""
        directory = self._rt.directory
        fresh: list[Entry] = []
        again: list[Entry] = []
        for entry in entries:
            latest = directory.reruns.latest(str(entry.task.id))
            existing = directory.known(latest) if directory.is_known(latest) else None
            if existing is None:
                fresh.append(entry)
            elif self.is_due(existing, is_other=False):
                again.append(entry)
            else:
                _keep_adder(entry, existing)
        return fresh, again

    def is_due(self, work: Work, *, is_other: bool) -> bool:
        """Return whether *work* is made again; *is_other*: the task differs."""
        adder, ours = added_by(work), self._task_id
        if self.is_anew(work):
            return True
        is_first = task_ids.number_of(ours) == 1
        if adder == ours or is_first or not _members.is_added(work):
            return False
        if is_other:
            return not adder or task_ids.stem_of(adder) == task_ids.stem_of(ours)
        is_undone = is_to_be_redone(work) or is_due(self._rt, work)
        return is_undone and is_earlier(self._rt, work, ours)

    def is_anew(self, work: Work) -> bool:
        """Return whether *work* is older than this run of the task."""
        adder, since = added_by(work), self._since
        if adder and is_outdated(self._rt, work):
            return True
        if not since or task_ids.stem_of(adder) == task_ids.stem_of(since):
            return False
        return _members.is_added(work) and is_earlier(self._rt, work, since)


def _keep_adder(entry: Entry, existing: Work) -> None:
    """Keep the adder of existing tasks, so that their metadata does not change."""
    adder = adder_of(existing)
    if adder is not None:
        mine = {**(entry.given.metadata or {}), ADDED: adder}
        entry.given = attrs.evolve(entry.given, metadata=mine)


def _comes_after(target: Work, entries: Iterable[Entry]) -> bool:
    """Return whether *target* comes after runs of all of *entries* already."""
    above = {task_ids.stem_of(name) for name in names_above(target)}
    return all(entry.task.id in above for entry in entries)


def _precede(runtime: Runtime, works: Sequence[Work], target: Work, now: int) -> None:
    """Let *target* wait for *works*, too, where it does not yet; hold the lock."""
    row = row_of(target)
    parents = () if row.links is None else row.links.parents
    parent_ids = {*names_above(target), *(parent.id for parent in parents)}
    if not can_wait(row):
        # The target had results of earlier runs of them, so it is stale.
        parent_ids |= {task_ids.stem_of(name) for name in parent_ids}
        works = [w for w in works if task_ids.stem_of(row_of(w).id) not in parent_ids]
    fresh = {
        row_of(work).id: work for work in works if row_of(work).id not in parent_ids
    }
    if not fresh:
        return
    rows = [row_of(work) for work in fresh.values()]
    added = runtime.kernel.add_parents(row, rows, now)
    add_above(target, {parent.id: fresh[parent.id] for parent in added})


def _way(
    runtime: Runtime,
    run: WorkflowRun | None,
    fresh: Sequence[Entry],
    later: Sequence[Work],
) -> tuple[str, ...]:
    """
    Return the path from one of *fresh* to one of *later*, if the first comes after it.

    Each task comes after the next. The path may go through completed tasks: they may be
    run again, and the status of *run* sorts all its tasks, which a ring forbids.
    """
    goals = {task_ids.stem_of(row_of(work).id) for work in later}
    # The older tasks name none of *fresh*.
    came: dict[str, str] = {}
    for entry in fresh if goals else ():
        works = [runtime.directory.find(ref, entry.task) for ref in entry.refs]
        for work in works:
            came.setdefault(task_ids.stem_of(row_of(work).id), str(entry.task.id))
    above = _above(runtime, run)
    todo = list(came)
    while todo:
        name = todo.pop()
        if name in goals:
            way = [name]
            while way[-1] in came:
                way.append(came[way[-1]])
            return tuple(reversed(way))
        for parent in above(name):
            if parent not in came:
                came[parent] = name
                todo.append(parent)
    return ()


def _above(runtime: Runtime, run: WorkflowRun | None) -> Callable[[str], Iterable[str]]:
    """Return a function that gives the names of the parents of a task's latest run."""
    tasks, reruns = runtime.kernel.tasks, runtime.directory.reruns
    stem_of, first_only = task_ids.stem_of, reruns.is_empty

    def above(task_id: str) -> Iterable[str]:
        row = tasks.get(task_id if first_only else reruns.latest(task_id))
        if row is not None:
            names = names_above(row.cargo)
            return names if first_only else map(stem_of, names)
        if run is None or run_of(task_id) != run.workflow_id:
            return ()
        # The task has left memory; the run still knows its parents.
        needs = run._needs(name_of(task_id))
        return ids_in_run(run.workflow_id, needs)

    return above
