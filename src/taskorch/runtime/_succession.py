"""
The next runs of tasks: a later run takes the place of an earlier one.

What waited for the earlier run waits for the later one, which is meant by the id from
then on; what the earlier run has added to its workflow is given up with it, or stays.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol

import attrs

from taskorch.errors import InvalidTransitionError, UnknownTaskError
from taskorch.events import TaskRenewed
from taskorch.kernel import TaskRow, hangs_on, refuse_rerun
from taskorch.model import TERMINAL, Call, Reference, Task, TaskState
from taskorch.model.ids import stem_of
from taskorch.runtime._stale import Known, KnowsRuns, is_outdated, parents_of, replaced
from taskorch.runtime._translation import bare, id_of, unchecked_terms, when
from taskorch.runtime._work import (
    Work,
    added_by,
    after_of,
    extra_of,
    is_gone,
    names_above,
    note_cache,
    note_given,
    place_under,
    since_of,
    task_of,
    turn,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from contextvars import Context
    from typing import Any

    from taskorch.kernel import Spec
    from taskorch.protocols import AttemptExecutor
    from taskorch.runtime._committer import Committer


class FindsRuns(KnowsRuns, Protocol):
    """What finds the runs of tasks."""

    def is_known(self, task_id: str) -> bool:
        """Whether there is, or was, such a run of a task."""
        ...

    def known(self, task_id: str) -> Work:
        """The work of a run, by the id of the run."""
        ...

    def latest(self, task_id: str) -> Work:
        """The work of the run that *task_id* means."""
        ...

    def recall(self, names: Iterable[str]) -> None:
        """Look in the journal for tasks of *names* that have left memory."""
        ...

    def bring_back(self, work: Work) -> None:
        """Have *work* call what was missing, if that is here by now."""
        ...


class Prepares(Protocol):
    """What says of a task where it waits, and what is kept of it."""

    def spec_of(self, task: Task) -> Spec:
        """What is known of *task* where it waits."""
        ...

    def document(self, task: Task, name_of: Callable[[Any], Reference]) -> Any:
        """What is kept of *task*, with what *name_of* says for handles."""
        ...


class TakesIn(Protocol):
    """What takes tasks in."""

    @property
    def preparation(self) -> Prepares:
        """Does what comes before the lock."""
        ...


class RunsAgain(Known, Protocol):
    """
    What runs tasks again asks this of a runtime, or of a simulated life.

    Attributes:
        committer: Keeps facts; None: nothing outlives the process.
    """

    committer: Committer | None

    @property
    def directory(self) -> FindsRuns:
        """Finds the runs of tasks."""
        ...

    @property
    def submission(self) -> TakesIn:
        """Takes tasks in."""
        ...

    def new_work(
        self,
        fn: Callable[..., Any] | None,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        executor: AttemptExecutor[Any] | None,
        ctx: Context,
    ) -> Work:
        """The work of a task."""
        ...


class Succession:
    """Runs tasks again, and lets what was taken in succeed an earlier run."""

    def __init__(self, rt: RunsAgain) -> None:
        self._rt = rt

    def rerun(
        self, task_id: str, now: int, *, live: bool = False, anew: bool = False
    ) -> Work:
        """
        Under the lock: run a finished task again; *live*, one that has not ended.

        What it adds to its run is made anew if what it comes after has been run again,
        or *anew*, if it had completed; else it goes on with what is there.

        Raises:
            UnknownTaskError: It is not known; or it has left memory, and no journal
                has it.
            InvalidTransitionError: It has not ended, though it is not said to be
                *live*; or there was a later run.
            CycleError: It would wait for a task that is to wait for it.
            PolicyFault: A policy failed; nothing has changed.
        """
        rt = self._rt
        kernel = rt.kernel
        old = self._latest(task_id, live=live)
        rt.directory.bring_back(old)
        row = old._row
        again = rt.directory.reruns.next_id(row.id)
        task = task_of(row, old)
        task = attrs.evolve(task, id=again, idempotency_key=None, after=())
        # What it waited for may have been run again since: these are what counts.
        above = names_above(old)
        rt.directory.recall(map(stem_of, above))
        newest = self._without_outdated(
            {name: rt.directory.latest(stem_of(name)) for name in above}
        )
        args, kwargs = old._args, old._kwargs
        if isinstance(task.payload, Call) and newest:
            # Of each there is one run among them: the bare ids find it.
            task = bare(task)
            args, kwargs = task.payload.args, task.payload.kwargs
        work = rt.new_work(old._fn, args, kwargs, old._executor, old._ctx)
        work._task = task
        note_cache(work)
        if old._extra is not None and old._extra.trace is not None:
            extra_of(work).trace = old._extra.trace
        place_under(work, {parent._row.id: parent for parent in newest.values()})
        parents = [parent._row for parent in work._above]
        is_here = row.id in kernel.tasks
        preparation = rt.submission.preparation
        bucket = row.bucket if is_here else kernel.bucket(preparation.spec_of(task))
        if bucket.spec.avoid:
            # A new run goes wherever it can: which agents to avoid is no part of it.
            bucket = kernel.bucket(attrs.evolve(bucket.spec, avoid=()))
        priority = task.priority
        if is_here:
            # It may have been moved.
            priority = 0 if row.extra is None else row.extra.priority
        rows = self.rows_of(old)
        refuse_rerun(rows, again, parents)
        work._row = TaskRow(again, 0, bucket, work, now)
        work._row.named = row.named
        admitted = kernel.consider(
            work._row,
            now,
            priority=priority,
            parents=parents,
            not_before_ns=when(task.not_before, now),
            deadline_ns=when(task.deadline, now),
            rerun_of=row,
            terms=unchecked_terms(task),
        )
        if rt.committer is not None:
            document = preparation.document(task, lambda ref: Reference(id_of(ref)))
            rt.committer.documents[work] = document
        kernel.accept(admitted, now)
        anew = anew and row.state is TaskState.COMPLETED
        self.succeed(old, work, parents, rows, now, is_anew=anew)
        return work

    def succeed(
        self,
        old: Work,
        new: Work,
        parents: Sequence[TaskRow],
        rows: Iterable[TaskRow],
        now: int,
        *,
        is_anew: bool,
    ) -> None:
        """
        Under the lock: *new*, which was accepted, takes the place of *old*.

        It comes after *parents*, and is waited for in the place of *rows*. What it adds
        is made anew if that is said, or if *old* came after other runs.
        """
        is_anew = is_anew or {row.id for row in parents} != set(parents_of(old))
        self._renew(old, new, now, is_anew=is_anew)
        self._replace(old, new, rows, now)

    def _without_outdated(self, above: dict[str, Work]) -> dict[str, Work]:
        """
        Of the parents *above*, those that are not to be added again by another of them.

        What adds them again lets their dependents wait for the new ones: a gate, say,
        must not be skipped for those that were cancelled.
        """
        stems = {stem_of(work._row.id) for work in above.values()}
        return {
            name: work
            for name, work in above.items()
            if stem_of(added_by(work)) not in stems or not is_outdated(self._rt, work)
        }

    def _renew(self, old: Work, new: Work, now: int, *, is_anew: bool) -> None:
        """
        Note from which run on what the task adds is its own: see `TaskRenewed`.

        If all is made anew, what lives of what the runs before have added is cancelled.
        """
        task_id = new._row.id
        since = task_id if is_anew else since_of(old)
        if not since or not new._row.run:
            return
        extra_of(new).since = since
        self._rt.kernel.note(TaskRenewed, now, task_id, since, cargo=new)
        for work in self._left_of(new) if is_anew else ():
            self.give_up(work, new, now)

    def _left_of(self, new: Work) -> list[Work]:
        """What lives of what earlier runs have added, and that in its turn."""
        rt, run_id = self._rt, new._row.run
        below: dict[str, list[Work]] = {}
        for row in rt.kernel.tasks.values():
            adder = added_by(row.cargo)
            if adder and row.run == run_id:
                below.setdefault(stem_of(adder), []).append(row.cargo)
        found: list[Work] = []
        todo = [stem_of(new._row.id)]
        while todo:
            added = below.pop(todo.pop(), [])
            todo += [stem_of(work._row.id) for work in added]
            found += [work for work in added if work._row.state not in TERMINAL]
        return found

    def _latest(self, task_id: str, *, live: bool) -> Work:
        """The latest run of a task, which is to be run again."""
        rt = self._rt
        run_id = rt.directory.reruns.latest(task_id)
        if run_id not in rt.kernel.tasks and rt.directory.recovered is None:
            msg = f"no task in memory has the id {task_id!r}"
            raise UnknownTaskError(msg, task_id=str(task_id))
        old = rt.directory.known(run_id)
        if not rt.directory.reruns.is_latest(run_id):
            latest = rt.directory.reruns.latest(stem_of(run_id))
            msg = f"task {task_id} has been run again since, as {latest}"
            hint = f"orch.rerun_task({stem_of(run_id)!r}) runs the latest again"
            raise InvalidTransitionError(msg, hint=hint, task_id=task_id)
        if old._row.state not in TERMINAL and not live:
            msg = f"task {run_id} is {old._row.state}: only what has ended is run again"
            raise InvalidTransitionError(msg, task_id=task_id)
        return old

    def rows_of(self, old: Work) -> Sequence[TaskRow]:
        """The rows that those have among their parents who wait for *old*."""
        tasks = self._rt.kernel.tasks
        if old._row.id in tasks:
            return (old._row,)
        # It has left memory: who waits for it has what stands for it.
        return _standing_for(old._row.id, tasks.values())

    def _replace(self, old: Work, new: Work, rows: Iterable[TaskRow], now: int) -> None:
        """
        *new*, which was accepted, is the run that the id of *old* means now.

        It is waited for in the place of *rows*.
        """
        rt, kernel = self._rt, self._rt.kernel
        rt.directory.reruns.note(new._row.id)
        note_given(old, None)
        for row in rows:
            for child in () if row.links is None else row.links.dependents:
                if hangs_on(child):
                    below: Work = child.cargo
                    below._after = after_of(below)
                    turn(below, row.id, new._row.id)
                    below._above = tuple(
                        [new if w._row.id == row.id else w for w in below._above]
                    )
            kernel.repoint(row, new._row, now)

    def rerun_stale(self, old: Work, now: int) -> Work | None:
        """
        Under the lock: run *old* again if one that it depends on has a later run.

        If it has not ended, it is cancelled.

        Returns:
            The new run; None if there is none.

        Raises:
            UsageError: As `rerun`.
        """
        is_latest = self._rt.directory.reruns.is_latest
        if is_gone(old._row):
            return None
        if not (is_latest(old._row.id) and replaced(self._rt, old)):
            return None
        if is_outdated(self._rt, old):
            # What has added it does so again, with what there is then.
            return None
        new = self.rerun(old._row.id, now, live=True)
        self.give_up(old, new, now)
        return new

    def give_up(self, old: Work, new: Work, now: int) -> None:
        """Under the lock: *new* runs in the place of *old*: cancel that if it lives."""
        if old._row.state not in TERMINAL:
            # If the state machine forbids it, it goes on, and nobody listens.
            with suppress(InvalidTransitionError):
                self._rt.kernel.cancel(old._row, now, f"{new._row.id} runs instead")


def _standing_for(task_id: str, rows: Iterable[TaskRow]) -> list[TaskRow]:
    """What *rows* that wait have in the place of a parent that has left memory."""
    found: dict[TaskRow, None] = {}
    for row in rows:
        if row.links is not None and row.state not in TERMINAL:
            found |= {p: None for p in row.links.parents if p.id == task_id}
    return list(found)
