"""
Dependencies as counters: a task knows how many of its parents have not completed.

No graph is searched while work goes on, and nothing here recurses.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, cast

from taskorch.kernel import _queue
from taskorch.kernel._history import row_extra
from taskorch.kernel._rows import Links, RowExtra, TaskRow, Terms
from taskorch.kernel._state import KernelState
from taskorch.model import TERMINAL, TaskState

_PENDING: Final = TaskState.PENDING
_QUEUED: Final = TaskState.QUEUED
_BLOCKED: Final = TaskState.BLOCKED
_COMPLETED: Final = TaskState.COMPLETED
_FAILED: Final = TaskState.FAILED
#: The states of a task whose join holds, and that has not begun.
_EARLY: Final = (TaskState.PENDING, TaskState.QUEUED, TaskState.SUSPENDED)


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
        return parent.extra is not None and not parent.extra.decision
    return state in TERMINAL and state is not _COMPLETED


def is_forgiven(parent: TaskRow, links: Links | None = None) -> bool:
    """
    Whether the failure of *parent* is allowed to those that need all of their parents.

    Where a child's *links* say how many must complete, or that all must end, it counts
    as any other failure.
    """
    if parent.state is not _FAILED or not parent.bucket.spec.allow_failure:
        return False
    return links is None or links.terms is None or links.terms.join == "all"


def is_waiting(row: TaskRow) -> bool:
    """Whether *row* waits for other tasks."""
    links = row.links
    if links is None:
        return False
    return links.waiting > 0 if links.terms is None else not links.terms.joined


def may_wait(row: TaskRow) -> bool:
    """Whether *row* waits for other tasks, or may do so again as the same run."""
    return row.state is not _COMPLETED and (
        is_waiting(row) or (row.links is not None and has_only_ended_parents(row))
    )


def may_wait_for(row: TaskRow) -> Sequence[TaskRow]:
    """What *row* waits for, or may wait for again as the same run."""
    return row.links.parents if row.links is not None and may_wait(row) else ()


def awaits(row: TaskRow) -> bool:
    """Whether *row* waits for an event from outside now."""
    return (
        row.links is not None and row.links.terms is not None and row.links.terms.awaits
    )


def is_delayed(row: TaskRow) -> bool:
    """Whether *row* waits for a time: for that alone, or for its event until then."""
    if row.extra is None or not row.extra.due_ns:
        return False
    return (
        row.state is TaskState.RETRYING
        or (row.state is _PENDING and not is_waiting(row))
        or (row.state is _BLOCKED and awaits(row))
    )


def least(terms: Terms) -> int:
    """How many parents must complete at the least, where the join says only that."""
    return 1 if isinstance(terms.join, str) else terms.join


def is_lost(row: TaskRow) -> bool:
    """Whether the join of *row* cannot hold any more, unless something is undone."""
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

    While it is held for something else, nothing stands there.
    """
    extra = row_extra(row)
    if extra.decision:
        return
    if not extra.blocked_by:
        extra.blocked_by = {}
    cast("dict[str, TaskRow]", extra.blocked_by)[parent.id] = parent


def blame_anew(row: TaskRow) -> None:
    """*row* was held, and is not any more: see what has become of its parents."""
    for parent in () if row.links is None else row.links.parents:
        if is_broken(parent) and not is_forgiven(parent, row.links):
            blame(row, parent)


def hangs_on(row: TaskRow) -> bool:
    """Whether the fate of its parents still matters to *row*."""
    terms = links_of(row).terms
    if row.state in TERMINAL:
        return False
    return terms is None or not terms.joined or has_only_ended_parents(row)


def has_only_ended_parents(row: TaskRow) -> bool:
    """Whether *row*, whose join is that its parents have ended, has not begun yet."""
    terms = links_of(row).terms
    if terms is None or terms.join != "finished" or not terms.joined:
        return False
    return terms.wait is None and not row.attempt and row.state in _EARLY


def attach(row: TaskRow, parents: Sequence[TaskRow]) -> None:
    """Link *row* to parents that are new to it; some may have ended."""
    links = links_of(row)
    # Terms count them, so each is there once.
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
    """
    *row* has completed: one less to wait for, for each dependent.

    What that changes for those that are blocked, or have terms, is decided later.
    """
    links = links_of(row)
    dependents, links.dependents = links.dependents, ()
    for child in dependents:
        below: Links = child.links  # type: ignore[assignment]  # it has a parent
        below.waiting -= 1
        if below.terms is not None:
            _one_less(kernel, child, row)
        elif child.state is not _PENDING:
            # Where a person decided that what was blocked, or failed, is complete.
            absolve(kernel, child, row.id, _decided(row))
        elif not below.waiting:
            if child.extra is not None:
                ready(kernel, child, now)
                continue
            # `ready`, written out for a row without extra fields.
            kernel.pending -= 1
            child.state = _QUEUED
            child.ready_ns = now
            _queue.enqueue(kernel, child)


def _decided(parent: TaskRow) -> str:
    return f"{parent.id} is complete by decision"


def _one_less(kernel: KernelState, child: TaskRow, parent: TaskRow) -> None:
    """Release *child*, which has terms, from one ended *parent*: see `release`."""
    links = links_of(child)
    terms = links.terms
    if terms is not None and terms.joined:
        links.waiting = 0
        return
    absolve(kernel, child, parent.id, _decided(parent))
    if child.state is _PENDING:
        kernel.undecided.append((child, ""))


def detach(row: TaskRow) -> None:
    """What becomes of the parents of *row* does not matter to it any more."""
    links = row.links
    if links is not None and links.terms is not None:
        links.terms.joined = True
        links.waiting = 0
        if row.extra is not None:
            row.extra.blocked_by = {}


def ready(kernel: KernelState, row: TaskRow, now: int) -> None:
    """*row* waits for no other task any more: queue it, unless it is too early."""
    extra = row.extra
    if extra is not None and extra.due_ns > now:
        kernel.delayed += 1
        return
    if extra is not None:
        extra.due_ns = 0
    terms = row.links.terms if row.links is not None else None
    if terms is not None and terms.wait is not None:
        # A wait is never queued: it begins when `undecided` is worked off.
        kernel.undecided.append((row, ""))
        return
    row.ready_ns = now
    if extra is None or extra.past is None:
        # `move` without a history entry: the plain history implies this one.
        kernel.pending -= 1
        row.state = _QUEUED
    else:
        kernel.move(row, _QUEUED, now)
    _queue.enqueue(kernel, row)


def roots_of(extra: RowExtra) -> tuple[str, ...]:
    """Ids of the tasks whose failure is the first cause of `blocked_by` in *extra*."""
    roots: dict[str, None] = {}
    for parent in extra.blocked_by.values():
        above = parent.extra
        if above is not None and (parent.state is _BLOCKED or above.passed_on):
            # Not its `roots`: down a long chain, that would be a walk for each.
            roots.update(dict.fromkeys(above.first_roots))
        else:
            roots[parent.id] = None
    return tuple(roots)


def broke(kernel: KernelState, row: TaskRow, now: int) -> None:
    """*row* will not complete: that is to be decided about, for each dependent."""
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
    """What *parent_id* did to *row* is undone: perhaps it is not blocked any more."""
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
