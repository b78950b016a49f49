"""
Going through all tasks, a page at a time, while they change.

Decision: 0121.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from datetime import datetime
from fnmatch import fnmatchcase
from itertools import islice
from operator import eq
from typing import Any, Final

from taskorch._limits import NS
from taskorch.kernel import TaskRow
from taskorch.model import FILTERS, OPTIONS, TERMINAL, TaskFilter, TaskState, TaskStatus
from taskorch.model._ids import stem_of
from taskorch.model._plain import ns_of
from taskorch.runtime._reports import since_when, status_of
from taskorch.runtime._runtime import Runtime
from taskorch.runtime._stale import Staleness
from taskorch.runtime._work import Work

#: Tasks that are looked at under the lock at once.
_PAGE: Final = 200


class _Wanted:
    """What a filter comes to in one orchestrator, when it is asked."""

    def __init__(self, runtime: Runtime, which: TaskFilter) -> None:
        fields = dict(which.fields)
        self.state: TaskState | None = fields.pop("state", None)
        self.mended: bool | None = fields.pop("mended", None)
        self._pattern: str | None = fields.get("id")
        since, longer = fields.pop("since", None), fields.pop("older_than", None)
        #: Submitted then or later.
        self._since_ns = 0 if since is None else _since_ns(runtime, since)
        #: In their state since before then.
        self._in_state_ns = None if longer is None else runtime.now() - int(longer * NS)
        self._tests = [
            (_MATCHES[FILTERS[name].how], _VALUE_OF.get(name, _option(name)), value)
            for name, value in fields.items()
        ]

    def has(self, row: TaskRow) -> bool:
        """Under the lock: whether all but the state holds of the task of *row*."""
        return (
            all(matches(take(row), value) for matches, take, value in self._tests)
            and row.submitted_ns >= self._since_ns
            and (self._in_state_ns is None or since_when(row) < self._in_state_ns)
        )

    def may_be(self, task_id: str) -> bool:
        """Whether a task of this id that has left memory may be among them."""
        return (self.state is None or self.state in TERMINAL) and (
            self._pattern is None or fnmatchcase(task_id, self._pattern)
        )


def _since_ns(runtime: Runtime, since: datetime | float) -> int:
    if isinstance(since, datetime):
        return ns_of(since)
    return runtime.now() - int(since * NS)


def _option(name: str) -> Callable[[TaskRow], Any]:
    """What finds the value of an option of the task of a row."""
    usual = OPTIONS[name].default if name in OPTIONS else None

    def take(row: TaskRow) -> Any:
        task = row.cargo._task
        return usual if task is None else getattr(task, name)

    return take


#: What is known without the task itself, of which a plain call has none.
_VALUE_OF: Final[dict[str, Callable[[TaskRow], Any]]] = {
    "type": lambda row: row.bucket.spec.type,
    "id": lambda row: row.id,
    "agent": lambda row: None if row.agent is None else row.agent.name,
}


def _contains(found: Mapping[str, Any] | None, wanted: Mapping[str, Any]) -> bool:
    return found is not None and all(
        name in found and found[name] == value for name, value in wanted.items()
    )


def _is_like(found: str, pattern: str) -> bool:
    return fnmatchcase(found, pattern)


_MATCHES: Final[dict[str, Callable[[Any, Any], bool]]] = {
    "equal": eq,
    "pattern": _is_like,
    "contains": _contains,
}


def listed(runtime: Runtime, asked: TaskFilter) -> Iterator[TaskStatus]:
    """
    The statuses of the tasks that are *asked* for, the first submitted first.

    What was submitted when this was called is looked at once each, and later
    submissions are not. Each status is of the moment at which its page was made.
    """
    kernel, which = runtime.kernel, _Wanted(runtime, asked)
    with runtime.lock:
        # One copy at C's speed; the ids only, so that tasks may leave memory meanwhile.
        ids = dict.fromkeys(kernel.tasks)
        ever = (
            *(kernel.pending, kernel.queued, kernel.active, kernel.retrying),
            *(kernel.blocked, kernel.suspended),
            *(kernel.completed, kernel.failed, kernel.cancelled),
        )
    if runtime.directory.recovered is not None and sum(ever) > len(ids):
        return _through_journal(runtime, which, ids)
    return _through_memory(runtime, which, iter(ids))


def _through_memory(
    runtime: Runtime, which: _Wanted, ids: Iterator[str]
) -> Iterator[TaskStatus]:
    while page := list(islice(ids, _PAGE)):
        yield from _statuses(runtime, which, page)


def _through_journal(
    runtime: Runtime, which: _Wanted, ids: dict[str, None]
) -> Iterator[TaskStatus]:
    """In the order of the journal, which knows those that have left memory, too."""
    recovered = runtime.directory.recovered
    assert recovered is not None  # noqa: S101 - the caller looked
    after, until = 0, runtime.committed
    while page := recovered.submitted(after, until, _PAGE):
        after = page[-1][0]
        names = [task_id for _, task_id in page]
        for name in names:
            ids.pop(name, None)
        yield from _statuses(runtime, which, names)
    # What is on its way into the journal; all, if it cannot be asked.
    yield from _through_memory(runtime, which, iter(ids))


def _statuses(
    runtime: Runtime, which: _Wanted, ids: Collection[str]
) -> list[TaskStatus]:
    """Statuses of the tasks of one page, in the order of *ids*."""
    found: dict[str, TaskStatus | None] = dict.fromkeys(ids)
    with runtime.lock:
        # Under it: the kernel takes another dict when many have left memory.
        tasks = runtime.kernel.tasks
        rows = [row for task_id in ids if (row := tasks.get(task_id)) is not None]
        staleness = Staleness(runtime)
        for row in rows:
            _add(runtime, which, row.cargo, found, staleness)
    present = {row.id for row in rows}
    gone = [name for name in ids if name not in present and which.may_be(name)]
    if gone and runtime.directory.recovered is not None:
        works = runtime.directory.recovered.recollect_all(gone)
        # Of what has left memory it may not be known that it was run again.
        ended = [work._row for work in works.values()]
        badly = [row.id for row in ended if row.state is not TaskState.COMPLETED]
        runtime.directory.recall(map(stem_of, badly), runtime.lock)
        with runtime.lock:
            staleness = Staleness(runtime)
            for work in works.values():
                if work._row.state in TERMINAL:
                    _add(runtime, which, work, found, staleness)
                # Nobody has it after this: see `recollect`.
                work._row.cargo = None
    return [status for status in found.values() if status is not None]


def _add(
    runtime: Runtime,
    which: _Wanted,
    work: Work,
    found: dict[str, TaskStatus | None],
    staleness: Staleness,
) -> None:
    """Under the lock: the status of *work*, if it is among those of *which*."""
    state, row = which.state, work._row
    # An end that is not kept yet is not told yet, so the state is asked for twice.
    if state is not None and row.state is not state and row.state not in TERMINAL:
        return
    if which.has(row):
        status = status_of(runtime, row, work, staleness)
        is_mended = bool(status.mended_by)
        if state in (None, status.state) and which.mended in (None, is_mended):
            found[row.id] = status
