"""What comes in: tasks, runs of workflows, re-runs, dependencies, and events."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Final, Protocol

from taskorch.errors import InvalidTaskError, UnknownTaskError
from taskorch.kernel import Kernel
from taskorch.model import Task, TaskState
from taskorch.model._ids import earlier_ids, number_of, stem_of
from taskorch.model._show import show
from taskorch.runtime._committer import Committer
from taskorch.runtime._context import AttemptContext, current_or_none
from taskorch.runtime._deciders import PolicyDeciders
from taskorch.runtime._directory import Directory
from taskorch.runtime._documents import document_of
from taskorch.runtime._stale import dependents, is_earlier, parents_of, used_by
from taskorch.runtime._submission import Submission
from taskorch.runtime._work import Emitted, Work, add_above, is_to_be_redone, task_of

#: Tasks that are run again in one step: the lock is held for a few milliseconds.
_SLICE: Final = 500


class IntakeHost(Protocol):
    """What taking something in asks of a runtime, or of what stands for one."""

    kernel: Kernel
    deciders: PolicyDeciders
    directory: Directory

    @property
    def submission(self) -> Submission:
        """What makes rows of tasks."""
        ...

    def durable(self) -> Committer | None:
        """What keeps the facts, if they are kept and it can be used now."""
        ...

    def recall(self, names: Sequence[str]) -> None:
        """Look in the journal for tasks of *names* that have left memory."""
        ...

    def refuse_submission(self) -> None:
        """Under the lock: raise if nothing comes in any more."""
        ...

    def refuse_new(self) -> None:
        """Under the lock: raise if no new task comes in from the caller any more."""
        ...

    def step(self, change: Callable[[int], Any], *, keep: bool = False) -> Any:
        """Make *change* under the lock, and do what follows from it."""
        ...


def submit_tasks(
    host: IntakeHost, tasks: Iterable[Task], *, replace: bool = False
) -> list[Work]:
    """
    Submit tasks, all or none.

    Raises:
        UsageError: One was refused; none is accepted.
    """
    host.deciders.refuse_reentry()
    if not isinstance(tasks, Iterable):
        msg = f"a list of tasks is submitted, not {show(tasks)}"
        raise InvalidTaskError(msg, hint="use submit_task(task) for one task")
    host.durable()
    tasks = tasks if isinstance(tasks, list | tuple) else list(tasks)
    submission = host.submission
    batch = submission.preparation.prepare(tasks)
    renewing: _OfEarlierRuns | None = None
    if batch.needs_more or batch.ids or batch.refs or batch.have_keys:
        host.recall(submission.names(batch))
        inside = current_or_none()
        if inside is not None and number_of(inside.task_id) > 1:
            host.recall(earlier_ids(inside.task_id))
            renewing = _OfEarlierRuns(host, inside)

    def change(now: int) -> list[Work]:
        host.refuse_new()
        return submission.admit(batch, now, replace=replace, renewing=renewing)

    works: list[Work] = host.step(change, keep=True)
    return works


class _OfEarlierRuns:
    """
    Which of the tasks that a re-run submits are made again, though they are there.

    They are those that came while an earlier run was under way, which has asked for
    their results: all of them if it had completed, or had come after other runs; else
    those that did not complete, and questions.
    """

    def __init__(self, host: IntakeHost, inside: AttemptContext) -> None:
        self._host = host
        self._inside = inside

    def is_due(self, work: Work, *, is_other: bool) -> bool:
        """Whether *work* is made again; *is_other*: another task is submitted now."""
        host, ours = self._host, self._inside.task_id
        name = stem_of(work._row.id)
        if not is_earlier(host, work, ours):
            return False
        for earlier_id in earlier_ids(ours):
            if not host.directory.is_known(earlier_id):
                continue
            earlier = host.directory.known(earlier_id)
            used = map(stem_of, used_by(earlier))
            came_since = name in used and not is_earlier(host, work, earlier_id)
            if came_since and (is_other or self._is_to_be(work, earlier)):
                return True
        return False

    def _is_to_be(self, work: Work, earlier: Work) -> bool:
        return (
            earlier._row.state is TaskState.COMPLETED
            or parents_of(earlier) != parents_of(self._inside._work)
            or is_to_be_redone(work)
        )

    def is_anew(self, work: Work) -> bool:
        """Whether what it has added in its turn is made again, too."""
        return work._row.state is TaskState.COMPLETED


def submit_run(
    host: IntakeHost,
    run_id: str,
    tasks: Mapping[str, Task],
    above: Mapping[str, Iterable[str]],
) -> dict[str, Work] | None:
    """
    Submit the tasks of a workflow as they stand in it, under the ids of a new run.

    The *tasks* are by their ids in the workflow; *above* has, of each, the ids of those
    that it waits for.

    Returns:
        Their works by the same ids; None if some task has options: submit all as
        `submit_tasks` takes them.
    """
    host.deciders.refuse_reentry()
    host.durable()
    prepared = host.submission.preparation.prepare_run(run_id, tasks, above)
    if prepared is None:
        return None
    batch, works = prepared

    def change(now: int) -> bool:
        host.refuse_new()
        return host.submission.place(batch, now) is not None

    return works if host.step(change, keep=True) else None


def rerun(
    host: IntakeHost, task_id: str, below: Callable[[str], bool] | None = None
) -> Work:
    """
    Run a finished task again.

    Then run again what depends on it, of the ids that are *below*; what has not ended
    of that is cancelled, unless it waits for the task.

    Raises:
        UnknownTaskError: There is none, or it has left memory, and no journal has
            it.
        InvalidTransitionError: It has not ended; or it was run again, and this is
            not the latest run.
        CycleError: It would wait for a task that is to wait for it.
    """
    host.recall((task_id,))

    works: list[Work] = []

    def change(now: int) -> Work:
        host.refuse_new()
        again = host.submission.rerun(task_id, now, anew=True)
        if below is not None:
            rows = dependents(host, again._row)
            works.extend(row.cargo for row in rows if below(row.id))
        return again

    result: Work = host.step(change, keep=True)

    def go_on(part: Sequence[Work], now: int) -> None:
        host.refuse_submission()
        for work in part:
            host.submission.rerun_stale(work, now)

    for start in range(0, len(works), _SLICE):
        host.step(partial(go_on, works[start : start + _SLICE]), keep=True)
    return result


def add_parents(host: IntakeHost, task_id: str, parent_ids: Iterable[str]) -> None:
    """
    Make a waiting task wait for more tasks, all of them or none.

    Their results are in its `context.results`. Those that it waits for already, or
    that have completed, do no harm.

    Raises:
        UnknownTaskError: There is no such task, or it has left memory; or one of
            the others is unknown.
        InvalidTransitionError: It does not wait for other tasks any more.
        CycleError: One of them waits for it, however indirectly.
    """
    names = tuple(parent_ids)

    def change(now: int) -> None:
        host.refuse_submission()
        row = host.kernel.tasks.get(host.directory.reruns.latest(task_id))
        if row is None:
            msg = f"no task in memory has the id {task_id!r}"
            raise UnknownTaskError(msg, task_id=str(task_id))
        works = [host.directory.find(name, task_of(row)) for name in names]
        rows = [work._row for work in works]
        fresh = host.kernel.add_parents(row, rows, now)
        found = {work._row.id: work for work in works}
        add_above(row.cargo, {parent.id: found[parent.id] for parent in fresh})

    host.recall((task_id, *names))
    host.step(change, keep=True)


def emit(host: IntakeHost, name: str, payload: Any, keep_ns: int) -> int:
    """
    Emit an event from outside: release the tasks that wait for it; their number.

    Raises:
        InvalidTaskError: The journal cannot keep *payload*.
    """
    host.deciders.refuse_reentry()
    committer = host.durable()
    document = None
    if committer is not None:
        document = document_of(committer.journal.document, "payload", payload)
    emitted = Emitted(payload, document)

    def change(now: int) -> int:
        host.refuse_submission()
        if committer is not None and keep_ns and name not in host.kernel.awaited:
            # Nobody waits for it: it is kept itself.
            committer.documents[emitted] = document
        return host.kernel.emit(name, emitted, keep_ns, now)

    let_go: int = host.step(change, keep=True)
    return let_go
