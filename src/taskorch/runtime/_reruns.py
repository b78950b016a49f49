"""
Runs of one task: what its id stands for once it was run again, and how long they stay.

Decision: 0051.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from taskorch._base.limits import NS
from taskorch.errors import CycleError, UnknownTaskError
from taskorch.events import (
    Fact,
    TaskCancelled,
    TaskCompleted,
    TaskEvent,
    TaskFailed,
    TaskParentsAdded,
    TaskRepointed,
    TaskSubmitted,
)
from taskorch.kernel import without_tasks
from taskorch.model import (
    Retention,
    Task,
    has_number,
    next_id,
    number_of,
    numbered,
    run_id_of,
    stem_of,
)
from taskorch.protocols import DurableJournal

# -- runs of one task: what its id stands for once it was run again --------------------

# The first run has the id that was given, and the others that with a number: `x`,
# `x~2`, `x~3`. The bare id means the latest of them, and `x~1` the first.


def refuse_itself(parent_id: str, by: Task) -> None:
    """
    Refuse a dependency of a task on a run of its own.

    The next run of *by* would wait for that which it replaces, and so for itself.

    Raises:
        CycleError: *parent_id* is a run of *by*.
    """
    if by.id is None or stem_of(parent_id) != stem_of(by.id):
        return
    name = stem_of(by.id)
    msg = f"task {name!r} waits for itself: {parent_id} is a run of it"
    hint = (
        "leave the dependency out, and hand over what that run has made instead: "
        f"orch.handle({parent_id!r}).result()"
    )
    raise CycleError(msg, cycle=(name,), hint=hint)


class Reruns:
    """Latest known run of each task that was run again."""

    __slots__ = ("_latest",)

    def __init__(self) -> None:
        self._latest: dict[str, int] = {}

    @property
    def is_empty(self) -> bool:
        """Whether no task is known to have been run again."""
        return not self._latest

    def note(self, task_id: str) -> None:
        """Note that the run *task_id* exists."""
        if not has_number(task_id):
            return
        stem, number = stem_of(task_id), number_of(task_id)
        if number > self._latest.get(stem, 1):
            self._latest[stem] = number

    def latest(self, task_id: str) -> str:
        """
        The run that *task_id* means: the latest, if it does not say which.

        Raises:
            UnknownTaskError: It is a handle.
        """
        if not isinstance(task_id, str):
            handle_id = getattr(task_id, "task_id", None)
            if isinstance(handle_id, str):
                msg = f"{task_id!r} is a handle, and no id"
                raise UnknownTaskError(msg, hint="handle.task_id", task_id=handle_id)
            # A look-up reports that there is none.
            return task_id
        if has_number(task_id):
            return run_id_of(task_id)
        number = self._latest.get(task_id)
        return task_id if number is None else numbered(task_id, number)

    def is_latest(self, task_id: str) -> bool:
        """Whether no later run than this one is known."""
        return self.latest(stem_of(task_id)) == task_id

    def later_than(self, task_id: str) -> list[str]:
        """The ids of the known runs of its task after this one."""
        stem = stem_of(task_id)
        last = self._latest.get(stem, 1)
        return [numbered(stem, n) for n in range(number_of(task_id) + 1, last + 1)]

    def next_id(self, task_id: str) -> str:
        """The id of the next run of the task of which this is one."""
        return next_id(self.latest(stem_of(task_id)))


# -- retention: what has ended long ago leaves the journal, if nothing that stays
# needs it

# Tasks that are bound together stay or go together: those that wait for each other,
# in however many steps, and the runs of one task. So whatever stays finds what it was
# given, and a new life folds what is left as if the rest had never been.


_ENDS: Final = (TaskCompleted, TaskFailed, TaskCancelled)


def prune(journal: DurableJournal, epoch: int, retention: Retention, now: int) -> int:
    """
    Remove from *journal* what *retention* does not keep; number of tasks removed.

    This life has claimed it as its *epoch*, and nobody works with what it keeps.

    Raises:
        JournalError: It cannot be read or written.
    """
    if retention == Retention():
        return 0
    saved = journal.snapshot()
    facts = (fact for fact, _ in journal.read())
    from taskorch.journal._beside import without_files  # noqa: PLC0415 - seldom needed

    with without_files():
        ids = forgettable(facts, retention, now)
    if saved is not None:
        # Of these, something still holds slots: its end is to come.
        ids = ids.difference(saved[1].get("gone", ()))
    if not ids or not journal.forget(epoch, ids):
        return 0
    if saved is not None and journal.snapshot() is None:
        # It holds the sums over all that was, which facts no longer say.
        seq, state = saved
        journal.save(epoch, seq, without_tasks(state, ids))
    return len(ids)


def forgettable(facts: Iterable[Fact], retention: Retention, now: int) -> set[str]:
    """The ids of the tasks that *retention* does not keep, and nothing needs."""
    bound = _Bound()
    ended: dict[str, int] = {}
    for fact in facts:
        if not isinstance(fact, TaskEvent):
            continue
        task_id = fact.task_id
        if type(fact) is TaskSubmitted:
            bound.bind(task_id, stem_of(task_id), *fact.after)
            ended.pop(task_id, None)
        elif type(fact) is TaskParentsAdded:
            bound.bind(task_id, *fact.after)
        elif type(fact) is TaskRepointed:
            bound.bind(task_id, *fact.dependents)
        elif type(fact) in _ENDS:
            ended[task_id] = fact.at_ns
    groups: dict[str, list[str]] = {}
    for task_id in bound.names():
        groups.setdefault(bound.root(task_id), []).append(task_id)
    over = [
        (max(ended[name] for name in names), names)
        for names in groups.values()
        if all(name in ended for name in names)
    ]
    # The latest first.
    over.sort(key=lambda one: -one[0])
    found: set[str] = set()
    kept = 0
    before = None if retention.age is None else now - int(retention.age * NS)
    for at, names in over:
        kept += len(names)
        is_old = before is not None and at < before
        is_many = retention.most is not None and kept > retention.most
        if is_old or is_many:
            found.update(names)
    return found


class _Bound:
    """Groups of tasks that must be kept or removed together."""

    def __init__(self) -> None:
        self._above: dict[str, str] = {}
        #: Stems that no task may have, and parents that are gone, are only names.
        self._tasks: dict[str, None] = {}

    def bind(self, task_id: str, *others: str) -> None:
        """The task is bound to *others*."""
        self._tasks[task_id] = None
        root = self.root(task_id)
        for other in others:
            self._above[self.root(other)] = root

    def root(self, name: str) -> str:
        """The name that stands for all that *name* is bound to."""
        above = self._above.setdefault(name, name)
        while above != name:
            # Halve the way for those who come later.
            self._above[name] = above = self._above[above]
            name, above = above, self._above[above]
        return name

    def names(self) -> list[str]:
        return list(self._tasks)
