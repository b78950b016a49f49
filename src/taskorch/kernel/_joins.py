"""
What is decided about a task when the fate of a parent changes.

Whether it is blocked, unblocked or released by its join, or never will be, is decided
here and recorded as a fact. Code that changes the fate of a parent only puts the
dependents into `undecided`; one loop works that list off, so that a long chain of
consequences does not recurse. A fold does not decide: it drops the list, since the
facts that follow record the decisions.

Decision: 0018.
"""

from __future__ import annotations

from typing import Final

from taskorch.events import TaskBlocked, TaskRecalled, TaskReleased, TaskUnblocked
from taskorch.kernel import _dependencies, _ends, _waits
from taskorch.kernel._application import GONE, tell
from taskorch.kernel._deciders import PolicyFault, PolicyGone
from taskorch.kernel._history import row_extra
from taskorch.kernel._rows import DEPENDENCY, SKIPPED, Links, TaskRow, Terms
from taskorch.kernel._state import KernelState
from taskorch.model import TaskState
from taskorch.model._explanation import some

_PENDING: Final = TaskState.PENDING
_BLOCKED: Final = TaskState.BLOCKED
_COMPLETED: Final = TaskState.COMPLETED

#: The cause of a blockade: nothing has failed, and yet the join does not hold.
JOIN: Final = "join"


def decide(kernel: KernelState, now: int) -> None:
    """Decide about all that is `undecided`, and what comes to it meanwhile."""
    if kernel.deciding:
        return
    kernel.deciding = True
    try:
        while kernel.undecided:
            _decide_one(kernel, *kernel.undecided.popleft(), now)
    finally:
        kernel.deciding = False


def _decide_one(kernel: KernelState, row: TaskRow, why: str, now: int) -> None:
    """The fate of a parent of *row* has changed."""
    links = _dependencies.links_of(row)
    terms = links.terms
    if row.state is _BLOCKED:
        _reconsider(kernel, row, why, now)
    elif _dependencies.has_only_ended_parents(row):
        _recall(kernel, row, links, why, now)
    elif row.state is not _PENDING:
        pass
    elif terms is None:
        if _dependencies.is_lost(row):
            block(kernel, row, now)
    elif not terms.joined:
        _judge(kernel, row, links, terms, now)
    elif terms.wait is not None and not (row.extra is not None and row.extra.due_ns):
        _waits.begin(kernel, row, terms.wait, now)


def _reconsider(kernel: KernelState, row: TaskRow, why: str, now: int) -> None:
    """Unblock *row*, which is BLOCKED, if its parents do not block it any more."""
    held_for_a_person = row_extra(row).decision
    if held_for_a_person or _dependencies.is_lost(row):
        return
    kernel.touched.append((row, row.cargo))
    tell(kernel, TaskUnblocked, row, now, why)


def _recall(
    kernel: KernelState, row: TaskRow, links: Links, why: str, now: int
) -> None:
    """*row* was released since all its parents had ended: recall it if one has not."""
    if all(p.state is _COMPLETED or _dependencies.is_broken(p) for p in links.parents):
        return
    tell(kernel, TaskRecalled, row, now, why)


def _judge(
    kernel: KernelState, row: TaskRow, links: Links, terms: Terms, now: int
) -> None:
    """Whether the join of *row*, which has terms, holds now, or never will."""
    try:
        verdict = holds(kernel, row, links, terms, now)
    except PolicyGone as gone:
        error = ("InvalidTaskError", str(gone.error), GONE)
        _ends.hold(kernel, row, error, now)
        return
    except PolicyFault as fault:
        _ends.fail_by(kernel, row, fault, now)
        return
    if verdict:
        done, total = _count(links), len(links.parents)
        reason = f"{done} of {total} completed"
        tell(kernel, TaskReleased, row, now, reason)
    elif verdict is False:
        _give_up(kernel, row, terms, now)


def _count(links: Links) -> int:
    """How many parents have completed."""
    return len(links.parents) - links.waiting


def holds(
    kernel: KernelState, row: TaskRow, links: Links, terms: Terms, now: int
) -> bool | None:
    """
    Whether the join of *row* holds; None: not yet; False: it never will.

    Raises:
        PolicyFault: It is a function of the user's, and failed.
    """
    total, done = len(links.parents), _count(links)
    broken = 0 if row.extra is None else len(row.extra.blocked_by)
    over = done + broken >= total
    if terms.join == "all":
        met = done == total
    elif terms.join == "finished":
        met = over
    elif terms.join == "asked":
        states = {parent.id: parent.state for parent in links.parents}
        met = done + broken > 0 and kernel.deciders.join(row, states, now)
    else:
        met = done >= _dependencies.least(terms)
    if met:
        return True
    if not _dependencies.is_lost(row):
        return None
    if terms.on_failure == "run":
        return over or None
    return False


def block(kernel: KernelState, row: TaskRow, now: int) -> None:
    """What stands in the `blocked_by` of *row* blocks it."""
    extra = row_extra(row)
    by, roots = tuple(extra.blocked_by), _dependencies.roots_of(extra)
    why = "a dependency did not complete"
    tell(kernel, TaskBlocked, row, now, by, roots, why)


def _give_up(kernel: KernelState, row: TaskRow, terms: Terms, now: int) -> None:
    """The join of *row* will never hold."""
    extra = row_extra(row)
    if terms.on_failure == "block":
        if extra.blocked_by:
            block(kernel, row, now)
        else:
            reason = "its join does not hold, though nothing has failed"
            _ends.hold(kernel, row, ("TaskFailedError", reason, JOIN), now)
        return
    roots = _dependencies.roots_of(extra)
    if terms.on_failure == "skip":
        _ends.cancel(kernel, row, SKIPPED, now, roots)
        return
    began = f"; it began with {some(roots)}" if roots else ""
    message = f"what it needs did not complete{began}"
    error = ("DependencyFailedError", message, DEPENDENCY)
    _ends.fail(kernel, row, error, now, roots=roots)
