"""Control from outside: cancel, suspend, resume, move, expire, decide."""

from __future__ import annotations

from typing import Any, Final

from taskorch.errors import InvalidTransitionError
from taskorch.events import (
    AttemptStopping,
    EventEmitted,
    TaskReprioritised,
    TaskResumed,
    TaskSuspended,
    TaskUnblocked,
)
from taskorch.kernel import (
    _attempts,
    _dependencies,
    _ends,
    _joins,
    _queue,
    _timers,
    _waits,
)
from taskorch.kernel._dispatch import vetoed
from taskorch.kernel._effects import HoldAttempt, ReleaseAttempt
from taskorch.kernel._history import more_of, past_of
from taskorch.kernel._rows import Kept, More, TaskRow
from taskorch.kernel._state import KernelState
from taskorch.model import TERMINAL, TaskState

_S: Final = TaskState
_BY_USER: Final = "suspended by the user"
#: Why a stopped program runs again, mostly.
CONTINUED: Final = "continued"


def _ask(
    kernel: KernelState, row: TaskRow, after: TaskState, why: str, now: int
) -> None:
    """
    Ask the user's StateMachine.

    Raises:
        InvalidTransitionError: It forbids the transition.
    """
    veto = vetoed(kernel, row, row.state, after, why, now)
    if veto is not None:
        msg = f"task {row.id} may not go from {row.state} to {after}: {veto}"
        raise InvalidTransitionError(
            msg, task_id=row.id, story=story(row), hint="the state machine said so"
        )


def story(row: TaskRow) -> tuple[tuple[str, float], ...]:
    """The history of *row*, for an error."""
    return tuple((state.value, ns / 1e9) for state, ns, _ in past_of(row))


def take_out(kernel: KernelState, row: TaskRow) -> None:
    """Take a QUEUED task out of the queue, wherever it stands."""
    if row in kernel.vetoed:
        del kernel.vetoed[row]
        _queue.unveto(kernel, row)
    else:
        _queue.dequeue(kernel, row)


def cancel(kernel: KernelState, row: TaskRow, now: int, reason: str) -> bool:
    """Call *row* off; False if it has ended."""
    if row.state in TERMINAL:
        return False
    if row.more is not None and row.more.stop == "cancel":
        return True
    _ask(kernel, row, _S.CANCELLED, reason, now)
    if row.state is _S.RUNNING:
        _attempts.stop(kernel, row, "cancel", reason, now)
        return True
    if row.state is _S.QUEUED:
        take_out(kernel, row)
    if row.state is _S.SUSPENDED and more_of(row).held:
        # A stopped program: it must be continued to see that it is to end.
        _continue(kernel, row, now)
        _attempts.stop(kernel, row, "cancel", reason, now)
        return True
    _ends.call_off(kernel, row, reason, now)
    _joins.decide(kernel, now)
    _queue.stir(kernel)
    return True


def suspend(kernel: KernelState, row: TaskRow, now: int, *, holdable: bool) -> bool:
    """Put *row* aside; False if it has ended or is suspended already."""
    state = row.state
    if state in TERMINAL or state is _S.SUSPENDED:
        return False
    more = more_of(row)
    if more.aside:
        return True
    if more.stop in ("cancel", "deadline"):
        return False
    if state is _S.BLOCKED and not _dependencies.awaits(row):
        msg = f"task {row.id} is blocked: there is nothing to suspend"
        raise InvalidTransitionError(msg, task_id=row.id, story=story(row))
    _ask(kernel, row, _S.SUSPENDED, "suspended", now)
    if state is _S.RUNNING:
        more.aside = True
        if more.stop:
            # Its timeout is over; it is put aside if there is to be another attempt.
            kernel.note(
                AttemptStopping,
                now,
                row.id,
                row.attempt,
                "suspend",
                _BY_USER,
                cargo=row.cargo,
            )
            return True
        if more.yielded or not holdable:
            _attempts.stop(kernel, row, "suspend", _BY_USER, now)
            return True
        _hold(kernel, row, now)
        return True
    kernel.note(TaskSuspended, now, row.id, False, cargo=row.cargo)  # noqa: FBT003
    lay_aside(kernel, row, now)
    _queue.stir(kernel)
    return True


def lay_aside(kernel: KernelState, row: TaskRow, now: int) -> None:
    """Suspend *row*, which does not run."""
    if row.state is _S.QUEUED:
        take_out(kernel, row)
    more = more_of(row)
    due = more.due_ns
    _ends.forget_delay(kernel, row)
    # Its delay stops, and so does its wait: of both, the rest comes afterwards.
    more.resume_ns = max(1, due - now) if due else 0
    kernel.move(row, _S.SUSPENDED, now, "by the user")


def _hold(kernel: KernelState, row: TaskRow, now: int) -> None:
    """Stop a program where it stands."""
    kernel.note(TaskSuspended, now, row.id, True, cargo=row.cargo)  # noqa: FBT003
    kernel.effects.append(HoldAttempt(row, row.attempt))
    hold(kernel, row, now)


def hold(kernel: KernelState, row: TaskRow, now: int) -> None:
    """*row* is suspended in its attempt: it keeps what it holds, its timeout stops."""
    more = more_of(row)
    more.aside = True
    more.held = True
    more.left_ns = max(1, more.timer - now) if more.timer else 0
    more.timer = 0
    kernel.move(row, _S.SUSPENDED, now, "stopped where it stands")


def _continue(kernel: KernelState, row: TaskRow, now: int) -> None:
    kernel.note(TaskResumed, now, row.id, True, CONTINUED, cargo=row.cargo)  # noqa: FBT003
    kernel.effects.append(ReleaseAttempt(row, row.attempt))
    go_on(kernel, row, now)


def go_on(kernel: KernelState, row: TaskRow, now: int) -> None:
    """*row*, which was stopped where it stood, runs again, in the same attempt."""
    more = more_of(row)
    more.held = more.aside = False
    kernel.move(row, _S.RUNNING, now, CONTINUED)
    if more.left_ns:
        more.timer = now + more.left_ns
        _timers.arm(kernel, more.timer, _timers.TIMEOUT, row, row.attempt)
        more.left_ns = 0


def resume(kernel: KernelState, row: TaskRow, now: int) -> bool:
    """Let *row* go on; False if it is not suspended."""
    more = row.more
    if more is None:
        return False
    if row.state is _S.RUNNING and more.aside:
        kernel.note(TaskResumed, now, row.id, False, cargo=row.cargo)  # noqa: FBT003
        if more.stop == "suspend":
            kernel.effects.append(ReleaseAttempt(row, row.attempt))
        take_back(row)
        return True
    if row.state is not _S.SUSPENDED:
        return False
    if more.held:
        _ask(kernel, row, _S.RUNNING, "resumed", now)
        _continue(kernel, row, now)
        return True
    state = _resumed_state(row, more)
    _ask(kernel, row, state, "resumed", now)
    kernel.note(TaskResumed, now, row.id, False, cargo=row.cargo)  # noqa: FBT003
    take_up(kernel, row, now)
    if state is _S.BLOCKED and more.blocked_by:
        _dependencies.block(kernel, row, now)
    elif row.links is not None and row.links.terms is not None:
        kernel.undecided.append((row, ""))
    _joins.decide(kernel, now)
    _queue.stir(kernel)
    return True


def take_back(row: TaskRow) -> None:
    """*row* has not reached a checkpoint yet: it is not to be suspended any more."""
    more = more_of(row)
    more.aside = False
    if more.stop == "suspend":
        more.stop = ""


def take_up(kernel: KernelState, row: TaskRow, now: int) -> None:
    """*row*, which is suspended, goes on; a fact follows if its parents block it."""
    more = more_of(row)
    state = _resumed_state(row, more)
    left, more.resume_ns = more.resume_ns, 0
    if left:
        more.due_ns = now + left
        _timers.arm(kernel, more.due_ns, _timers.DUE, row, row.attempt)
    if state is _S.QUEUED:
        _queue.requeue(kernel, row, now)
    elif state is not _S.BLOCKED or _dependencies.awaits(row):
        kernel.move(row, state, now, "resumed")
        kernel.delayed += 1 if left and not _dependencies.is_waiting(row) else 0


def _resumed_state(row: TaskRow, more: More) -> TaskState:
    """Where *row*, which is suspended, goes on."""
    terms = None if row.links is None else row.links.terms
    if terms is not None and terms.awaits:
        return _S.BLOCKED
    if terms is not None and terms.wait is not None:
        return _S.PENDING
    if more.blocked_by and terms is None:
        return _S.BLOCKED
    if row.attempt and more.resume_ns:
        return _S.RETRYING
    if _dependencies.is_waiting(row) or more.resume_ns:
        return _S.PENDING
    return _S.QUEUED


def set_priority(kernel: KernelState, row: TaskRow, priority: int, now: int) -> bool:
    """Move *row* in the queue; False if it has ended."""
    if row.state in TERMINAL:
        return False
    key = key_of(kernel, row, priority, row.submitted_ns)
    kernel.note(TaskReprioritised, now, row.id, priority, key, cargo=row.cargo)
    reorder(kernel, row, priority, key)
    _queue.stir(kernel)
    return True


def key_of(kernel: KernelState, row: TaskRow, priority: int, submitted_ns: int) -> Any:
    """
    The place of *row* in the queue: from its submission, whenever it is moved.

    Raises:
        PolicyFault: The queue failed.
    """
    aging = kernel.deciders.aging_ns
    if aging is None:
        return kernel.deciders.order(row, priority, submitted_ns)
    return submitted_ns - priority * aging


def reorder(kernel: KernelState, row: TaskRow, priority: int, key: Any) -> None:
    """*row* has another place in the queue."""
    more_of(row).priority = priority
    if row.state is _S.QUEUED:
        take_out(kernel, row)
        row.key = key
        _queue.enqueue(kernel, row)
    else:
        row.key = key


def expire(kernel: KernelState, older_than_ns: int, now: int) -> list[TaskRow]:
    """Fail every task that has been queued for longer; which ones."""
    stale = [
        row
        for row in kernel.tasks.values()
        if row.state is _S.QUEUED and now - row.ready_ns > older_than_ns
    ]
    for row in stale:
        seconds = (now - row.ready_ns) / 1e9
        expire_one(kernel, row, now, f"it was queued for {seconds:.3g} s")
    if stale:
        _queue.stir(kernel)
    return stale


def expire_one(kernel: KernelState, row: TaskRow, now: int, reason: str) -> None:
    """*row* has waited for too long: it fails."""
    if row.state is _S.QUEUED:
        take_out(kernel, row)
    error = ("TaskExpiredError", reason, "expired")
    _ends.fail(kernel, row, error, now)
    _joins.decide(kernel, now)


def miss_deadline(kernel: KernelState, row: TaskRow, now: int) -> None:
    """The deadline of *row* has passed."""
    if row.state is _S.RUNNING:
        _attempts.stop(kernel, row, "deadline", "the deadline has passed", now)
        return
    if row.state is _S.SUSPENDED and more_of(row).held:
        _continue(kernel, row, now)
        _attempts.stop(kernel, row, "deadline", "the deadline has passed", now)
        return
    if row.state is _S.QUEUED:
        take_out(kernel, row)
    error = ("TaskTimeoutError", "the deadline passed before it could run", "deadline")
    _ends.fail(kernel, row, error, now)
    _joins.decide(kernel, now)


def miss(kernel: KernelState, row: TaskRow, reason: str, now: int) -> None:
    """What *row*, which is QUEUED, needs is gone: it is held until that is back."""
    take_out(kernel, row)
    _ends.block_gone(kernel, row, reason, now)


def is_missing(row: TaskRow) -> bool:
    """Whether *row* is held because what it needs was gone."""
    more = row.more
    return (
        row.state is _S.BLOCKED
        and more is not None
        and more.decision
        and more.error is not None
        and more.error[2] == _ends.GONE
    )


def decide(
    kernel: KernelState, row: TaskRow, verdict: str, now: int, reason: str = ""
) -> bool:
    """
    Settle *row*, which is held for a person, or waits; False if it has ended.

    Args:
        kernel: The state.
        row: The task.
        verdict: `retry`, `fail` or `complete`.
        now: The time in ns.
        reason: Why, for its history.

    Raises:
        InvalidTransitionError: It is not held, or cannot be run.
    """
    if row.state in TERMINAL:
        return False
    more = more_of(row)
    if row.state is not _S.BLOCKED:
        msg = f"task {row.id} is {row.state}: there is nothing to decide"
        raise InvalidTransitionError(
            msg,
            task_id=row.id,
            story=story(row),
            hint="orch.tasks('blocked') lists the tasks that are held",
        )
    if verdict == "retry":
        if more.blocked_by:
            msg = f"task {row.id} is blocked by {', '.join(more.blocked_by)}"
            raise InvalidTransitionError(
                msg,
                task_id=row.id,
                story=story(row),
                hint="orch.rerun_task(id) of what failed unblocks it",
            )
        if _dependencies.awaits(row):
            msg = f"task {row.id} waits for what comes from outside: it does not run"
            raise InvalidTransitionError(
                msg,
                task_id=row.id,
                story=story(row),
                hint="orch.emit(event) completes it; so does a decision to complete it",
            )
        _ask(kernel, row, _S.QUEUED, "decided", now)
        reason = reason or "it runs again by decision"
        kernel.note(TaskUnblocked, now, row.id, reason, cargo=row.cargo)
        let_run(kernel, row, reason, now)
    elif verdict == "complete":
        _ask(kernel, row, _S.COMPLETED, "decided", now)
        _ends.complete(kernel, row, now, "decision", reason)
    else:
        _ask(kernel, row, _S.FAILED, "decided", now)
        kind, message, _ = more.error or ("TaskFailedError", "", "")
        why = "; ".join(filter(None, (reason, message)))
        text = f"failed by decision{': ' if why else ''}{why}"
        _ends.fail(kernel, row, (kind, text, "decision"), now)
    _joins.decide(kernel, now)
    _queue.stir(kernel)
    return True


def let_run(kernel: KernelState, row: TaskRow, reason: str, now: int) -> None:
    """*row*, which was held for a decision, may run again, or run at all."""
    more = more_of(row)
    more.decision = False
    if more.error is not None and more.error[2] == _ends.GONE:
        more.error = None
    if row.attempt or row.links is None or row.links.terms is None:
        _queue.requeue(kernel, row, now, reason)
    else:
        # It may be too early for it; or it is a wait, and is never queued.
        kernel.move(row, _S.PENDING, now, reason)
        if not _dependencies.is_waiting(row):
            _dependencies.ready(kernel, row, now)
            return
        _dependencies.blame_anew(row)
        kernel.undecided.append((row, ""))


def emit(kernel: KernelState, name: str, cargo: Any, keep_ns: int, now: int) -> int:
    """
    An event has come: let go all who wait for it; how many.

    Args:
        kernel: The state.
        name: Its name.
        cargo: The driver's own, for `hand_over`.
        keep_ns: If nobody waits for it, how long it is kept for those who come.
        now: The time in ns.
    """
    rows = list(kernel.awaited.get(name, ()))
    until = now + keep_ns if keep_ns and not rows else 0
    kernel.note(EventEmitted, now, name, len(rows), until, cargo=cargo)
    if until:
        _waits.keep(kernel, Kept(name, kernel.seq, until, cargo))
    for row in rows:
        _waits.come(kernel, row, name, cargo, now)
        _joins.decide(kernel, now)
    _queue.stir(kernel)
    return len(rows)
