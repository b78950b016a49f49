"""
Dependencies as counters: a task knows how many of its parents have not completed.

No graph is searched while work goes on, and nothing here recurses.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, cast

from taskorch.core.kernel import _queue
from taskorch.core.kernel._history import row_extra
from taskorch.core.kernel._rows import Links, RowExtra, TaskRow, Terms
from taskorch.core.kernel._state import KernelState
from taskorch.model import TERMINAL, TaskState

_PENDING: Final = TaskState.PENDING
_QUEUED: Final = TaskState.QUEUED
_BLOCKED: Final = TaskState.BLOCKED
_COMPLETED: Final = TaskState.COMPLETED
_FAILED: Final = TaskState.FAILED
#: The states of a task whose join holds and that has not begun.
_EARLY: Final = (TaskState.PENDING, TaskState.QUEUED, TaskState.SUSPENDED)


def links_of(row: TaskRow) -> Links:
    """Return the links of *row*, made if need be."""
    if row.links is None:
        row.links = Links()
    return row.links


def is_broken(parent: TaskRow) -> bool:
    """Return whether *parent* will not complete unless something is run again."""
    state = parent.state
    if state is _BLOCKED:
        # A task that waits for a decision may complete after all.
        return parent.extra is not None and not parent.extra.decision
    return state in TERMINAL and state is not _COMPLETED


def is_forgiven(parent: TaskRow, links: Links | None = None) -> bool:
    """Return whether tasks that need all their parents ignore a failure of *parent*.

    For a child whose *links* ask for a number of parents, or for all to end, the
    failure counts as any other.
    """
    if parent.state is not _FAILED or not parent.bucket.spec.allow_failure:
        return False
    return links is None or links.terms is None or links.terms.join == "all"


def is_waiting(row: TaskRow) -> bool:
    """Return whether *row* waits for other tasks."""
    links = row.links
    if links is None:
        return False
    return links.waiting > 0 if links.terms is None else not links.terms.joined


def may_wait(row: TaskRow) -> bool:
    """Return whether *row* waits for other tasks, or may do so again in this run."""
    return row.state is not _COMPLETED and (
        is_waiting(row) or (row.links is not None and has_only_ended_parents(row))
    )


def may_wait_for(row: TaskRow) -> Sequence[TaskRow]:
    """Return the parents that *row* waits for, or may wait for again in this run."""
    return row.links.parents if row.links is not None and may_wait(row) else ()


def awaits(row: TaskRow) -> bool:
    """Return whether *row* waits for an event from outside now."""
    return (
        row.links is not None and row.links.terms is not None and row.links.terms.awaits
    )


def is_delayed(row: TaskRow) -> bool:
    """Return whether *row* waits for a time, or for its event until that time."""
    if row.extra is None or not row.extra.due_ns:
        return False
    return (
        row.state is TaskState.RETRYING
        or (row.state is _PENDING and not is_waiting(row))
        or (row.state is _BLOCKED and awaits(row))
    )


def least(terms: Terms) -> int:
    """Return the least number of parents that must complete, by a join of a number."""
    return 1 if isinstance(terms.join, str) else terms.join


def is_lost(row: TaskRow) -> bool:
    """Return whether the join of *row* can never hold, unless something is undone."""
    broken = 0 if row.extra is None else len(row.extra.blocked_by)
    links = row.links
    terms = None if links is None else links.terms
    if links is None or terms is None or terms.joined or terms.join == "all":
        return broken > 0
    total = len(links.parents)
    if terms.join == "finished":
        return False
    if terms.join == "asked":
        return total - links.waiting + broken >= total
    return total - broken < least(terms)


def blame(row: TaskRow, parent: TaskRow) -> None:
    """
    Enter *parent*, which will not complete, in the `blocked_by` of *row*.

    While *row* is on hold for another reason, `blocked_by` stays empty.
    """
    extra = row_extra(row)
    if extra.decision:
        return
    if not extra.blocked_by:
        extra.blocked_by = {}
    cast("dict[str, TaskRow]", extra.blocked_by)[parent.id] = parent


def blame_anew(row: TaskRow) -> None:
    """Look again at the parents of *row*, which is no longer on hold."""
    for parent in () if row.links is None else row.links.parents:
        if is_broken(parent) and not is_forgiven(parent, row.links):
            blame(row, parent)


def hangs_on(row: TaskRow) -> bool:
    """Return whether *row* still depends on how its parents end."""
    terms = links_of(row).terms
    if row.state in TERMINAL:
        return False
    return terms is None or not terms.joined or has_only_ended_parents(row)


def has_only_ended_parents(row: TaskRow) -> bool:
    """Return whether *row* was released since all its parents ended, and is early."""
    terms = links_of(row).terms
    if terms is None or terms.join != "finished" or not terms.joined:
        return False
    return terms.wait is None and not row.attempt and row.state in _EARLY


def attach(row: TaskRow, parents: Sequence[TaskRow]) -> None:
    """Link *row* to parents that are new to it; some may have ended."""
    links = links_of(row)
    # Terms count parents, so each is there once.
    fresh = tuple(parents if links.terms is None else dict.fromkeys(parents))
    links.parents = (*links.parents, *fresh) if links.parents else fresh
    for parent in fresh:
        state = parent.state
        if state is _COMPLETED or (state is _FAILED and is_forgiven(parent, links)):
            continue
        links.waiting += 1
        above = parent.links
        if above is None:
            above = parent.links = Links()
        above.add_dependent(row)
        if state is not _PENDING and state is not _QUEUED and is_broken(parent):
            blame(row, parent)


def release(kernel: KernelState, row: TaskRow, now: int) -> None:
    """Count one parent less for each dependent of *row*, which has completed.

    Effects on dependents that are blocked, or have terms, are decided later.
    """
    links = links_of(row)
    dependents, links.dependents = links.dependents, ()
    for child in dependents:
        below: Links = child.links  # type: ignore[assignment]  # it has a parent
        below.waiting -= 1
        if below.terms is not None:
            _one_less(kernel, child, row)
        elif child.state is not _PENDING:
            # A person may decide that a blocked or failed task is complete.
            absolve(kernel, child, row.id, _decided(row))
        elif not below.waiting:
            if child.extra is not None:
                ready(kernel, child, now)
                continue
            # This is `ready`, written out for a row without extra fields.
            kernel.pending -= 1
            child.state = _QUEUED
            child.ready_ns = now
            _queue.enqueue(kernel, child)


def _decided(parent: TaskRow) -> str:
    return f"{parent.id} is complete by decision"


def _one_less(kernel: KernelState, child: TaskRow, parent: TaskRow) -> None:
    """Count one ended *parent* for *child*, which has terms: see `release`."""
    links = links_of(child)
    terms = links.terms
    if terms is not None and terms.joined:
        links.waiting = 0
        return
    absolve(kernel, child, parent.id, _decided(parent))
    if child.state is _PENDING:
        kernel.undecided.append((child, ""))


def detach(row: TaskRow) -> None:
    """Make *row* independent of its parents from now on."""
    links = row.links
    if links is not None and links.terms is not None:
        links.terms.joined = True
        links.waiting = 0
        if row.extra is not None:
            row.extra.blocked_by = {}


def ready(kernel: KernelState, row: TaskRow, now: int) -> None:
    """Queue *row*, which waits for no other task any more, or delay it if too early."""
    extra = row.extra
    if extra is not None and extra.due_ns > now:
        kernel.delayed += 1
        return
    if extra is not None:
        extra.due_ns = 0
    terms = row.links.terms if row.links is not None else None
    if terms is not None and terms.wait is not None:
        # A wait is never queued: it begins when `decide` handles `undecided`.
        kernel.undecided.append((row, ""))
        return
    row.ready_ns = now
    if extra is None or extra.past is None:
        # This is `move` without a history entry, since the usual history implies this
        # one.
        kernel.pending -= 1
        row.state = _QUEUED
    else:
        kernel.move(row, _QUEUED, now)
    _queue.enqueue(kernel, row)


def roots_of(extra: RowExtra) -> tuple[str, ...]:
    """Return the ids of the tasks whose failure is the first cause of `blocked_by`."""
    roots: dict[str, None] = {}
    for parent in extra.blocked_by.values():
        above = parent.extra
        if above is not None and (parent.state is _BLOCKED or above.passed_on):
            # The property `roots` would walk up a long chain for each task.
            roots.update(dict.fromkeys(above.first_roots))
        else:
            roots[parent.id] = None
    return tuple(roots)


def broke(kernel: KernelState, row: TaskRow, now: int) -> None:
    """Note for each dependent of *row* that it will not complete."""
    if row.links is not None and is_forgiven(row):
        children = row.links.dependents
        row.links.dependents = [c for c in children if is_forgiven(row, c.links)]
        release(kernel, row, now)
        row.links.dependents = [c for c in children if not is_forgiven(row, c.links)]
    for child in () if row.links is None else row.links.dependents:
        if child.state in TERMINAL:
            continue
        if child.extra is not None and row.id in child.extra.blocked_by:
            continue
        terms = links_of(child).terms
        if terms is not None and terms.joined:
            continue
        blame(child, row)
        if child.state is _PENDING:
            kernel.undecided.append((child, ""))


def absolve(kernel: KernelState, row: TaskRow, parent_id: str, why: str) -> None:
    """Undo the effect of *parent_id* on *row*, which may no longer be blocked then."""
    extra = row.extra
    if extra is None or parent_id not in extra.blocked_by:
        return
    del cast("dict[str, TaskRow]", extra.blocked_by)[parent_id]
    if row.state is _BLOCKED:
        kernel.undecided.append((row, why))


def unblock(kernel: KernelState, row: TaskRow, why: str, now: int) -> None:
    """Return *row* to PENDING, as nothing blocks it; unblock its dependents."""
    row_extra(row).first_roots = ()
    kernel.move(row, _PENDING, now, "unblocked")
    if not is_waiting(row):
        ready(kernel, row, now)
    else:
        kernel.undecided.append((row, ""))
    for child in links_of(row).dependents:
        absolve(kernel, child, row.id, why)
        if has_only_ended_parents(child):
            kernel.undecided.append((child, why))
