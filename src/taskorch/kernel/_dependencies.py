"""
Dependencies as counters: a task knows how many of its parents have not completed.

No graph is searched while work goes on, and nothing here recurses.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final, cast

from taskorch.events import TaskBlocked, TaskRepointed, TaskUnblocked
from taskorch.kernel._history import more_of
from taskorch.kernel._state import Links, More, TaskRow
from taskorch.model import TERMINAL, TaskState

if TYPE_CHECKING:
    from taskorch.kernel._kernel import Kernel

_PENDING: Final = TaskState.PENDING
_QUEUED: Final = TaskState.QUEUED
_BLOCKED: Final = TaskState.BLOCKED
_COMPLETED: Final = TaskState.COMPLETED


def links_of(row: TaskRow) -> Links:
    """The links of *row*, made if need be."""
    if row.links is None:
        row.links = Links()
    return row.links


def is_broken(parent: TaskRow) -> bool:
    """Whether *parent* will not complete unless something is run again."""
    state = parent.state
    if state is _BLOCKED:
        # One that waits for a person's decision may complete after all.
        return parent.more is not None and not parent.more.decision
    return state in TERMINAL and state is not _COMPLETED


def is_waiting(row: TaskRow) -> bool:
    """Whether *row* waits for other tasks."""
    return row.links is not None and row.links.waiting > 0


def _blame(row: TaskRow, parent: TaskRow) -> More:
    """Enter *parent*, which will not complete, in the `blocked_by` of *row*."""
    more = more_of(row)
    if not more.blocked_by:
        more.blocked_by = {}
    cast("dict[str, TaskRow]", more.blocked_by)[parent.id] = parent
    return more


def find_ring(parents: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    """
    Some tasks that wait for each other in a ring, or nothing.

    Args:
        parents: Of each task, what it waits for; what is no key of this waits for
            nothing.
    """
    waiting = {name: sum(p in parents for p in of) for name, of in parents.items()}
    children: dict[str, list[str]] = {}
    for name, of in parents.items():
        for parent in of:
            if parent in parents:
                children.setdefault(parent, []).append(name)
    # Kahn's algorithm: what is left when nobody is free any more hangs on a ring.
    free = [name for name, count in waiting.items() if not count]
    while free:
        name = free.pop()
        del waiting[name]
        for child in children.get(name, ()):
            waiting[child] -= 1
            if not waiting[child]:
                free.append(child)
    if not waiting:
        return ()
    path: dict[str, int] = {}
    name = next(iter(waiting))
    while name not in path:
        path[name] = len(path)
        name = next(parent for parent in parents[name] if parent in waiting)
    return tuple(path)[path[name] :]


def attach(row: TaskRow, parents: Sequence[TaskRow]) -> None:
    """Link *row*, which is new, to its parents; some may have ended."""
    links = links_of(row)
    for parent in parents:
        links.parents.append(parent)
        if parent.state is _COMPLETED:
            continue
        links.waiting += 1
        links_of(parent).dependents.append(row)
        if is_broken(parent):
            _blame(row, parent)


def release(kernel: Kernel, row: TaskRow, now: int) -> None:
    """*row* has completed: one less to wait for, for each dependent."""
    links = links_of(row)
    dependents, links.dependents = links.dependents, []
    for child in dependents:
        below = links_of(child)
        below.waiting -= 1
        if child.state is not _PENDING:
            # Where a person decided that what was blocked, or failed, is complete.
            mend(kernel, child, row.id, f"{row.id} is complete by decision", now)
        elif not below.waiting:
            ready(kernel, child, now)


def ready(kernel: Kernel, row: TaskRow, now: int) -> None:
    """*row* waits for no other task any more: queue it, unless it is too early."""
    more = row.more
    if more is not None and more.due_ns > now:
        kernel.delayed += 1
        return
    if more is not None:
        more.due_ns = 0
    row.ready_ns = now
    if more is None or more.past is None:
        # As `move`, of a kind that the plain history shows by itself.
        kernel.pending -= 1
        row.state = _QUEUED
    else:
        kernel.move(row, _QUEUED, now)
    kernel.enqueue(row)


def block(kernel: Kernel, row: TaskRow, now: int) -> None:
    """Move *row* to BLOCKED, because of what stands in its `blocked_by`."""
    more = more_of(row)
    roots: dict[str, None] = {}
    for parent in more.blocked_by.values():
        if parent.state is _BLOCKED:
            # Not its `roots`: down a long chain, that would be a walk for each.
            roots.update(dict.fromkeys(more_of(parent).first_roots))
        else:
            roots[parent.id] = None
    more.first_roots = tuple(roots)
    by = tuple(more.blocked_by)
    kernel.move(row, _BLOCKED, now, blocked_detail(by))
    kernel.note(
        TaskBlocked,
        now,
        row.id,
        by,
        more.first_roots,
        "a dependency did not complete",
        cargo=row.cargo,
    )
    kernel.touched.append((row, row.cargo))


def blocked_detail(by: Sequence[str]) -> str:
    """What the history says of a task that *by* block."""
    return f"{', '.join(by)} did not complete"


def broke(kernel: Kernel, row: TaskRow, now: int) -> None:
    """
    *row* will not complete: block what depends on it, however far.

    In a fold, what is blocked by it says so in a fact of its own.
    """
    stack = [row]
    while stack:
        parent = stack.pop()
        if parent.links is None:
            continue
        for child in parent.links.dependents:
            if child.state in TERMINAL:
                continue
            if child.more is not None and parent.id in child.more.blocked_by:
                continue
            _blame(child, parent)
            if child.state is _PENDING and not kernel.folding:
                block(kernel, child, now)
                stack.append(child)


def mend(kernel: Kernel, row: TaskRow, parent_id: str, why: str, now: int) -> None:
    """What *parent_id* did to *row* is undone: unblock it, and what it blocked."""
    stack = [(row, parent_id)]
    while stack:
        child, broken = stack.pop()
        more = child.more
        if more is None or broken not in more.blocked_by:
            continue
        del cast("dict[str, TaskRow]", more.blocked_by)[broken]
        if child.state is not _BLOCKED or more.blocked_by or kernel.folding:
            continue
        kernel.note(TaskUnblocked, now, child.id, why, cargo=child.cargo)
        kernel.touched.append((child, child.cargo))
        unblock(kernel, child, now)
        stack.extend((below, child.id) for below in links_of(child).dependents)


def unblock(kernel: Kernel, row: TaskRow, now: int) -> None:
    """Nothing blocks *row* any more: it waits as before."""
    more_of(row).first_roots = ()
    kernel.move(row, _PENDING, now, "unblocked")
    if not links_of(row).waiting:
        ready(kernel, row, now)


def repoint(kernel: Kernel, row: TaskRow, rerun: TaskRow, now: int) -> None:
    """Let what depends on *row*, which has ended, depend on *rerun* instead."""
    if row.links is None or not row.links.dependents:
        return
    dependents, row.links.dependents = row.links.dependents, []
    live = [child for child in dependents if child.state not in TERMINAL]
    for child in live:
        links = links_of(child)
        links.parents = [rerun if p is row else p for p in links.parents]
        links_of(rerun).dependents.append(child)
        if is_broken(rerun):
            _blame(child, rerun)
    kernel.note(
        TaskRepointed,
        now,
        row.id,
        rerun.id,
        tuple(child.id for child in live),
        cargo=row.cargo,
    )
    for child in live:
        mend(kernel, child, row.id, f"{row.id} runs again", now)
