"""Going through all tasks, a page at a time, while they change."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from datetime import datetime
from fnmatch import fnmatchcase
from itertools import islice
from typing import Any, Final

import attrs

from taskorch._frozen import frozen
from taskorch._limits import NS
from taskorch.errors import InvalidTaskError
from taskorch.kernel import TaskRow
from taskorch.model import TERMINAL, TaskState, TaskStatus, check_seconds
from taskorch.model._show import show
from taskorch.runtime._reports import since as since_when
from taskorch.runtime._reports import status_of
from taskorch.runtime._runtime import Runtime
from taskorch.runtime._stale import Staleness
from taskorch.runtime._work import Work

#: Tasks that are looked at under the lock at once.
_PAGE: Final = 200


@frozen
class Wanted:
    """Which tasks are asked for: all of which all that is said holds."""

    state: TaskState | None = None
    type: str | None = None
    #: A pattern.
    id: str | None = None
    agent: str | None = None
    owner: str | None = None
    metadata: Mapping[str, Any] = attrs.field(factory=dict[str, Any])
    #: Submitted then or later.
    since_ns: int = 0
    #: In their state for longer.
    older_than: float | None = None

    def has(self, row: TaskRow, now: int) -> bool:
        """Under the lock: whether the task of *row* is among them."""
        return (
            (self.type is None or row.bucket.spec.type == self.type)
            and (self.id is None or fnmatchcase(row.id, self.id))
            and (
                self.agent is None
                or (row.agent is not None and row.agent.name == self.agent)
            )
            and (self.owner is None or row.bucket.spec.owner == self.owner)
            and row.submitted_ns >= self.since_ns
            and (
                self.older_than is None
                or (now - since_when(row)) / NS > self.older_than
            )
            and (not self.metadata or self._has_metadata(row.cargo))
        )

    def may_be(self, task_id: str) -> bool:
        """Whether a task of this id that has left memory may be among them."""
        return (self.state is None or self.state in TERMINAL) and (
            self.id is None or fnmatchcase(task_id, self.id)
        )

    def _has_metadata(self, work: Work) -> bool:
        found = None if work._task is None else work._task.metadata
        return found is not None and all(
            name in found and found[name] == value
            for name, value in self.metadata.items()
        )


def wanted(
    runtime: Runtime,
    state: TaskState | str | None,
    *,
    type: str | None,  # noqa: A002 - the facade's names
    id: str | None,  # noqa: A002
    agent: str | None,
    owner: str | None,
    metadata: Mapping[str, Any] | None,
    since: object,
    older_than: object,
) -> Wanted:
    """
    What the facade was asked for.

    Raises:
        InvalidTaskError: An argument is not well formed.
    """
    texts = {"type": type, "id": id, "agent": agent, "owner": owner}
    for what, value in texts.items():
        if value is not None and not isinstance(value, str):
            msg = f"{what}: a text is needed, not {show(value)}"
            raise InvalidTaskError(msg)
    given: object = metadata
    if given is not None and not isinstance(given, Mapping):
        msg = f"metadata: a mapping is needed, not {show(metadata)}"
        raise InvalidTaskError(msg, hint="metadata={'customer': 'acme'}")
    return Wanted(
        state=state_named(state),
        type=type,
        id=id,
        agent=agent,
        owner=owner,
        metadata=dict(metadata or {}),
        since_ns=0 if since is None else _since_ns(runtime, since),
        older_than=(
            None if older_than is None else check_seconds("older_than", older_than)
        ),
    )


def state_named(state: TaskState | str | None) -> TaskState | None:
    """
    The state that was named.

    Raises:
        InvalidTaskError: There is none of that name.
    """
    if state is None:
        return None
    try:
        return TaskState(state)
    except ValueError:
        names = ", ".join(TaskState)
        msg = f"there is no state {show(state)}: there are {names}"
        raise InvalidTaskError(msg) from None


def _since_ns(runtime: Runtime, since: object) -> int:
    if not isinstance(since, datetime):
        return runtime.now() - int(check_seconds("since", since) * NS)
    if since.utcoffset() is None:
        msg = f"since: {since} has no time zone, so nobody knows when that is"
        raise InvalidTaskError(msg, hint="datetime.now(UTC), or value.astimezone()")
    return int(since.timestamp() * NS)


def listed(runtime: Runtime, which: Wanted) -> Iterator[TaskStatus]:
    """
    The statuses of those of *which*, the first submitted first.

    What was submitted when this was called is looked at once each, and later
    submissions are not. Each status is of the moment at which its page was made.
    """
    kernel = runtime.kernel
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
    runtime: Runtime, which: Wanted, ids: Iterator[str]
) -> Iterator[TaskStatus]:
    while page := list(islice(ids, _PAGE)):
        yield from _statuses(runtime, which, page)


def _through_journal(
    runtime: Runtime, which: Wanted, ids: dict[str, None]
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
    runtime: Runtime, which: Wanted, ids: Collection[str]
) -> list[TaskStatus]:
    """Those of one page, in its order."""
    found: dict[str, TaskStatus | None] = dict.fromkeys(ids)
    now = runtime.now()
    with runtime.lock:
        # Under it: the kernel takes another dict when many have left memory.
        tasks = runtime.kernel.tasks
        rows = [row for task_id in ids if (row := tasks.get(task_id)) is not None]
        staleness = Staleness(runtime)
        for row in rows:
            _add(runtime, which, row.cargo, now, found, staleness)
    present = {row.id for row in rows}
    gone = [name for name in ids if name not in present and which.may_be(name)]
    if gone and runtime.directory.recovered is not None:
        works = runtime.directory.recovered.recollect_all(gone)
        with runtime.lock:
            staleness = Staleness(runtime)
            for work in works.values():
                if work._row.state in TERMINAL:
                    _add(runtime, which, work, now, found, staleness)
                # Nobody has it after this: see `recollect`.
                work._row.cargo = None
    return [status for status in found.values() if status is not None]


def _add(
    runtime: Runtime,
    which: Wanted,
    work: Work,
    now: int,
    found: dict[str, TaskStatus | None],
    staleness: Staleness,
) -> None:
    """Under the lock: the status of *work*, if it is among those of *which*."""
    state, row = which.state, work._row
    # An end that is not kept yet is not told yet, so the state is asked for twice.
    if state is not None and row.state is not state and row.state not in TERMINAL:
        return
    if which.has(row, now):
        status = status_of(runtime, row, work, staleness)
        if state is None or status.state is state:
            found[row.id] = status
