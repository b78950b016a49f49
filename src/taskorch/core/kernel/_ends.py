"""
Ends of tasks, and their effects on the tasks that wait for them.

Decision: joins-and-stale-tasks.
"""

from __future__ import annotations

from typing import Any, Final

from taskorch.core.kernel import _application, _dependencies, _queue
from taskorch.core.kernel._application import EVENT, GONE, tell, terms_of_wait
from taskorch.core.kernel._deciders import PolicyFault, PolicyGone
from taskorch.core.kernel._history import row_extra
from taskorch.core.kernel._rows import (
    DEPENDENCY,
    SKIPPED,
    Awaited,
    Links,
    RetainedEvent,
    TaskRow,
    Terms,
)
from taskorch.core.kernel._state import KernelState
from taskorch.events import (
    ComponentFailed,
    TaskBlocked,
    TaskCancelled,
    TaskCompleted,
    TaskFailed,
    TaskRecalled,
    TaskReleased,
    TaskUnblocked,
)
from taskorch.kit.visible import masked
from taskorch.kit.words import some
from taskorch.model import TaskState, Units

# -- faults of policies: how they are told ---------------------------------------------


def note_fault(
    kernel: KernelState, task_id: str | None, fault: PolicyFault, now: int
) -> None:
    """Announce that a policy failed."""
    many = kernel.faults.get(fault.component, (0, 0, ""))[0]
    kernel.faults[fault.component] = many + 1, now, describe(fault.error)
    kernel.note(
        ComponentFailed,
        now,
        fault.component,
        type(fault.error).__name__,
        describe(fault.error),
        task_id,
    )


def describe(error: BaseException) -> str:
    """Return *error* in a line, even if it cannot be printed."""
    try:
        message = masked(str.__str__(str(error)))
    except BaseException:  # noqa: BLE001 - its __str__ is the user's
        return f"{type(error).__name__} (which cannot be printed)"
    return f"{type(error).__name__}: {message}"


# -- ends and holds of tasks, told in the same way whatever their cause ----------------

# Dependents with terms of their own are decided about later: the caller that ends a
# task calls `decide` once the state is consistent.


#: `(type, message, cause)` of a failure.
Error = tuple[str, str, str]


#: The resource usage that was measured for an attempt, and the kind of its failure.
Measured = tuple[Units, str]
NOT_MEASURED: Measured = ((), "")


def complete(
    kernel: KernelState,
    row: TaskRow,
    now: int,
    cause: str = "",
    reason: str = "",
    usage: Units = (),
) -> None:
    """Complete *row*, with a *reason*, and a *cause* if no attempt ended it.

    *usage* is the resource usage that was measured for its attempt.
    """
    name = "" if row.worker is None else row.worker.name
    latency = 0
    if row.state is TaskState.RUNNING:
        latency = (row_extra(row).returned_ns or now) - row.started_ns
    if kernel.tell_completed:
        fields = row.id, row.attempt, name, latency, cause, reason, usage
        kernel.note(TaskCompleted, now, *fields, cargo=row.cargo)
    else:
        kernel.seq += 1
    _application.complete(kernel, row, latency, reason, now)


def fail(
    kernel: KernelState,
    row: TaskRow,
    error: Error,
    now: int,
    reason: str = "",
    *,
    charged: bool = False,
    roots: tuple[str, ...] = (),
    measured: Measured = NOT_MEASURED,
) -> None:
    """Fail *row* for good; *reason* says why it is not tried again.

    If *charged*, the last attempt counts as a try. *roots* are the tasks where the
    failure began, if its terms end it because of its parents.
    """
    worker = None if row.worker is None else row.worker.name
    fields = row.attempt, worker, *error, reason, charged, roots, *measured
    others = {"allowed": True} if row.bucket.spec.allow_failure else {}
    tell(kernel, TaskFailed, row, now, *fields, **others)


def cancel(
    kernel: KernelState,
    row: TaskRow,
    reason: str,
    now: int,
    roots: tuple[str, ...] = (),
) -> None:
    """Cancel *row*; if it was skipped, *roots* are the first causes."""
    tell(kernel, TaskCancelled, row, now, reason, roots)


def hold(
    kernel: KernelState, row: TaskRow, error: Error, now: int, reason: str = ""
) -> None:
    """Put *row* on hold for a person, because of *reason* or else of *error*."""
    kind, message, cause = error
    why = reason or message
    tell(kernel, TaskBlocked, row, now, (), (), why, cause, kind, message)


def fail_by(kernel: KernelState, row: TaskRow, fault: PolicyFault, now: int) -> None:
    """Fail *row*, and no other task, since a policy raised an error about it."""
    note_fault(kernel, row.id, fault, now)
    message = f"the {fault.component} failed: {describe(fault.error)}"
    error = ("ComponentError", message, "component")
    fail(kernel, row, error, now, fault.component)


# -- waits for events from outside, without a thread and without a slot ----------------

# A waiting task is BLOCKED, as a task on hold is. A decision can end its wait, and so
# can its event, or the end of its time.


def begin(kernel: KernelState, row: TaskRow, wait: Awaited, now: int) -> None:
    """Let *row*, which waits for nothing else, wait for its event from now on."""
    name, timeout, _ = wait
    reason = "it waits for its time" if name is None else f"it waits for {name}"
    tell(kernel, TaskBlocked, row, now, (), (), reason, EVENT)
    known = None if name is None else kernel.retained.get(name)
    if known is not None and known.until_ns > now:
        deliver(kernel, row, known.id, known.cargo, now)
    elif timeout == 0:
        time_out(kernel, row, now)


def retain(kernel: KernelState, event: RetainedEvent) -> None:
    """Keep *event* for tasks that wait for it later; the latest one counts."""
    forget(kernel, kernel.retained.get(event.id))
    kernel.retained[event.id] = event
    _queue.arm(kernel, event.until_ns, _queue.RETAINED, event)


def forget(kernel: KernelState, event: RetainedEvent | None) -> None:
    """Drop the kept *event*."""
    if event is not None:
        event.until_ns = 0
        del kernel.retained[event.id]


def deliver(kernel: KernelState, row: TaskRow, name: str, cargo: Any, now: int) -> None:
    """Give *row* the event that it waits for."""
    kernel.hand_over(row.cargo, cargo)
    complete(kernel, row, now, EVENT, f"{name} came")


def time_out(kernel: KernelState, row: TaskRow, now: int) -> None:
    """End the wait of *row* for its event, since its time is over."""
    _, (name, timeout, completes) = terms_of_wait(row)
    if completes:
        kernel.hand_over(row.cargo, None)
        complete(kernel, row, now, "timeout", "its time is over")
    else:
        message = f"{name} did not come within {(timeout or 0) / 1e9:g} s"
        fail(kernel, row, ("TaskTimeoutError", message, "timeout"), now)


# -- decisions about a task when the end of a parent changes ---------------------------

# `decide` finds whether a task is blocked, unblocked or released by its join, or never
# will be, and records that as an event. Code that changes how a parent ends only adds
# the dependents to `undecided`; one loop handles that list, so that a long chain of
# consequences does not recurse. A fold does not decide: it clears the list, since the
# events that follow record the decisions.


_PENDING: Final = TaskState.PENDING
_BLOCKED: Final = TaskState.BLOCKED
_COMPLETED: Final = TaskState.COMPLETED

#: The cause of a block: nothing has failed, and yet the join does not hold.
JOIN: Final = "join"


def decide(kernel: KernelState, now: int) -> None:
    """Decide about all `undecided` tasks, and those added meanwhile."""
    if kernel.deciding:
        return
    kernel.deciding = True
    try:
        while kernel.undecided:
            _decide_one(kernel, *kernel.undecided.popleft(), now)
    finally:
        kernel.deciding = False


def _decide_one(kernel: KernelState, row: TaskRow, why: str, now: int) -> None:
    """Decide about *row*, since a parent has ended or may complete again."""
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
        begin(kernel, row, terms.wait, now)


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
    """Recall *row*, released when all its parents had ended, if one runs again."""
    if all(p.state is _COMPLETED or _dependencies.is_broken(p) for p in links.parents):
        return
    tell(kernel, TaskRecalled, row, now, why)


def _judge(
    kernel: KernelState, row: TaskRow, links: Links, terms: Terms, now: int
) -> None:
    """Release *row* if its join holds, or give it up if that never will."""
    try:
        verdict = holds(kernel, row, links, terms, now)
    except PolicyGone as gone:
        error = ("InvalidTaskError", str(gone.error), GONE)
        hold(kernel, row, error, now)
        return
    except PolicyFault as fault:
        fail_by(kernel, row, fault, now)
        return
    if verdict:
        done, total = _count(links), len(links.parents)
        reason = f"{done} of {total} completed"
        tell(kernel, TaskReleased, row, now, reason)
    elif verdict is False:
        _give_up(kernel, row, terms, now)


def _count(links: Links) -> int:
    """Return the number of parents that have completed."""
    return len(links.parents) - links.waiting


def holds(
    kernel: KernelState, row: TaskRow, links: Links, terms: Terms, now: int
) -> bool | None:
    """
    Return True if the join of *row* holds, None if not yet, False if never.

    Raises:
        PolicyFault: The join is a function of the user, and failed.
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
    """Block *row* because of the parents in its `blocked_by`."""
    extra = row_extra(row)
    by, roots = tuple(extra.blocked_by), _dependencies.roots_of(extra)
    why = "a dependency did not complete"
    tell(kernel, TaskBlocked, row, now, by, roots, why)


def _give_up(kernel: KernelState, row: TaskRow, terms: Terms, now: int) -> None:
    """Act on a join of *row* that will never hold."""
    extra = row_extra(row)
    if terms.on_failure == "block":
        if extra.blocked_by:
            block(kernel, row, now)
        else:
            reason = "its join does not hold, though nothing has failed"
            hold(kernel, row, ("TaskFailedError", reason, JOIN), now)
        return
    roots = _dependencies.roots_of(extra)
    if terms.on_failure == "skip":
        cancel(kernel, row, SKIPPED, now, roots)
        return
    began = f"; it began with {some(roots)}" if roots else ""
    message = f"what it needs did not complete{began}"
    error = ("DependencyFailedError", message, DEPENDENCY)
    fail(kernel, row, error, now, roots=roots)
