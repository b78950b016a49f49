"""
Next runs of tasks: a later run takes the place of an earlier one.

Tasks that waited for the earlier run wait for the later one, which the id means from
then on. Tasks that the earlier run has added to its workflow are cancelled, or stay.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol

import attrs

from taskorch.core.engine._stale import (
    Known,
    KnowsRuns,
    Staleness,
    added_below,
    is_due,
    is_outdated,
    parents_of,
)
from taskorch.core.engine._translation import bare, id_of, unchecked_terms, when
from taskorch.core.engine._work import (
    Work,
    added_by,
    after_of,
    extra_of,
    names_above,
    note_cache,
    note_given,
    place_under,
    since_of,
    task_of,
    turn,
)
from taskorch.core.kernel import TaskRow, hangs_on, refuse_rerun
from taskorch.errors import InvalidTransitionError, UnknownTaskError
from taskorch.events import TaskRenewed
from taskorch.model import TERMINAL, Call, Reference, Task, TaskState
from taskorch.model.ids import stem_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from taskorch.core.engine._committer import Committer
    from taskorch.core.kernel import Spec


class FindsRuns(KnowsRuns, Protocol):
    """Protocol: finds the runs of tasks."""

    def is_known(self, task_id: str) -> bool:
        """Return whether such a run of a task exists, or did."""
        ...

    def known(self, task_id: str) -> Work:
        """Return the work of a run, by the id of the run."""
        ...

    def latest(self, task_id: str) -> Work:
        """Return the work of the run that *task_id* means."""
        ...

    def recall(self, names: Iterable[str]) -> None:
        """Look in the journal for tasks of *names* that have left memory."""
        ...

    def bring_back(self, work: Work) -> None:
        """Give *work* the functions that were missing and are here now."""
        ...


class Prepares(Protocol):
    """Protocol: makes the spec and the document of a task."""

    def spec_of(self, task: Task) -> Spec:
        """Return the spec of *task* in the queue."""
        ...

    def document(self, task: Task, name_of: Callable[[Any], Reference]) -> Any:
        """Return the document of *task*, with references of *name_of* for handles."""
        ...


class RunsAgain(Known, Protocol):
    """
    Protocol: a runtime or a simulated one, as far as re-runs need it.

    Attributes:
        committer: Keeps events; None: nothing outlives the process.
    """

    committer: Committer | None

    @property
    def directory(self) -> FindsRuns:
        """Finds the runs of tasks."""
        ...


class Succession:
    """Runs tasks again, and lets a new task succeed an earlier run."""

    def __init__(self, rt: RunsAgain, preparation: Prepares) -> None:
        self._rt = rt
        self._preparation = preparation

    def rerun(
        self, task_id: str, now: int, *, live: bool = False, anew: bool = False
    ) -> Work:
        """
        Run a finished task again; *live*: one that has not ended; hold the lock.

        Tasks that it adds to its run are made anew if its parents have been run again,
        or, with *anew*, if it had completed; else it goes on with those that exist.

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
        # Its parents may have been run again since, and the latest runs count.
        above = names_above(old)
        rt.directory.recall(map(stem_of, above))
        newest = self._without_outdated(
            {name: rt.directory.latest(stem_of(name)) for name in above}
        )
        args, kwargs = old._args, old._kwargs
        if isinstance(task.payload, Call) and newest:
            # There is one run of each among them, which its bare id finds.
            task = bare(task)
            args, kwargs = task.payload.args, task.payload.kwargs
        work = type(old)(rt, old._fn, args, kwargs, old._executor, old._ctx)
        work._task = task
        note_cache(work)
        if old._extra is not None and old._extra.trace is not None:
            extra_of(work).trace = old._extra.trace
        place_under(work, {parent._row.id: parent for parent in newest.values()})
        parents = [parent._row for parent in work._above]
        is_here = row.id in kernel.tasks
        bucket = (
            row.bucket if is_here else kernel.bucket(self._preparation.spec_of(task))
        )
        if bucket.spec.avoid:
            # A new run may go to any worker: those to avoid are no part of it.
            bucket = kernel.bucket(attrs.evolve(bucket.spec, avoid=()))
        priority = task.priority
        if is_here:
            # Its priority may have been changed.
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
            document = self._preparation.document(
                task, lambda ref: Reference(id_of(ref))
            )
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
        Let *new*, which was accepted, take the place of *old*; hold the lock.

        It depends on *parents*, and tasks that wait for *rows* wait for it. Tasks that
        it adds are made anew if *is_anew*, or if *old* had other parents.
        """
        is_anew = is_anew or {row.id for row in parents} != set(parents_of(old))
        self._renew(old, new, now, is_anew=is_anew)
        self._replace(old, new, rows, now)

    def _without_outdated(self, above: dict[str, Work]) -> dict[str, Work]:
        """
        Return *above* without parents that another of them adds again.

        The task that adds them again lets their dependents wait for the new ones: a
        gate, for example, must not be skipped for those that were cancelled.
        """
        stems = {stem_of(work._row.id) for work in above.values()}
        return {
            name: work
            for name, work in above.items()
            if stem_of(added_by(work)) not in stems or not is_outdated(self._rt, work)
        }

    def _renew(self, old: Work, new: Work, now: int, *, is_anew: bool) -> None:
        """
        Note from which run on the tasks that it adds count: see `TaskRenewed`.

        If all are made anew, unfinished tasks that earlier runs have added are
        cancelled.
        """
        task_id = new._row.id
        since = task_id if is_anew else since_of(old)
        if not since or not new._row.run:
            return
        extra_of(new).since = since
        self._rt.kernel.note(TaskRenewed, now, task_id, since, cargo=new)
        for work in added_below(self._rt, new) if is_anew else ():
            self.give_up(work, new, now)

    def _latest(self, task_id: str, *, live: bool) -> Work:
        """Return the latest run of a task, which is to be run again."""
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
        """Return the rows that tasks waiting for *old* have among their parents."""
        tasks = self._rt.kernel.tasks
        if old._row.id in tasks:
            return (old._row,)
        # It has left memory, so tasks that wait for it have a stand-in.
        return _standing_for(old._row.id, tasks.values())

    def _replace(self, old: Work, new: Work, rows: Iterable[TaskRow], now: int) -> None:
        """
        Make *new*, which was accepted, the run that the id of *old* means.

        Tasks that wait for *rows* wait for it.
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

    def rerun_stale(
        self, old: Work, now: int, staleness: Staleness | None = None
    ) -> Work | None:
        """
        Run *old* again if a task that it depends on has a later run; hold the lock.

        If it has not ended, it is cancelled.

        Returns:
            The new run; None if there is none.

        Raises:
            UsageError: As `rerun`.
        """
        if not is_due(staleness or self._rt, old):
            return None
        new = self.rerun(old._row.id, now, live=True)
        self.give_up(old, new, now)
        return new

    def give_up(self, old: Work, new: Work, now: int) -> None:
        """Cancel *old*, if it has not ended, as *new* replaces it; hold the lock."""
        if old._row.state not in TERMINAL:
            # If the state machine forbids it, the run goes on, and its result is not
            # used.
            with suppress(InvalidTransitionError):
                self._rt.kernel.cancel(old._row, now, f"{new._row.id} runs instead")


def _standing_for(task_id: str, rows: Iterable[TaskRow]) -> list[TaskRow]:
    """Return the stand-ins that waiting *rows* have for a parent out of memory."""
    found: dict[TaskRow, None] = {}
    for row in rows:
        if row.links is not None and row.state not in TERMINAL:
            found |= {p: None for p in row.links.parents if p.id == task_id}
    return list(found)
