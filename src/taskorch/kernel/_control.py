"""Control from outside: cancel, suspend, resume, move, expire, decide."""

from __future__ import annotations

from typing import Any, Final

from taskorch.errors import InvalidTransitionError
from taskorch.events import (
    AnswerRefused,
    AttemptStopping,
    EventEmitted,
    QuestionAnswered,
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
    _waits,
)
from taskorch.kernel._application import (
    CONTINUED,
    GONE,
    is_under_way,
    state_after_resume,
    tell,
)
from taskorch.kernel._dispatch import vetoed
from taskorch.kernel._effects import HoldAttempt, ReleaseAttempt
from taskorch.kernel._history import past_of, row_extra
from taskorch.kernel._rows import RetainedEvent, Stop, TaskRow
from taskorch.kernel._state import KernelState
from taskorch.model import TERMINAL, TaskState

_S: Final = TaskState
#: The state into which a verdict brings what waits.
VERDICTS: Final = {"complete": _S.COMPLETED, "fail": _S.FAILED}
_BY_USER: Final = "suspended by the user"
#: A function cannot be stopped where it stands.
_AT_CHECKPOINT: Final = (
    f"{_BY_USER}: at its next checkpoint; without one it runs to its end"
)


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
        raise refusal(row, msg, "the state machine said so")


def refusal(row: TaskRow, msg: str, hint: str = "") -> InvalidTransitionError:
    """The error that *row* cannot do what is asked for, with its history."""
    story = tuple((state.value, ns / 1e9) for state, ns, _ in past_of(row))
    return InvalidTransitionError(msg, task_id=row.id, story=story, hint=hint)


def _stop_attempt(
    kernel: KernelState, row: TaskRow, why: Stop, reason: str, now: int
) -> bool:
    """Ask the attempt of *row* to stop; False if none is under way."""
    if not is_under_way(row):
        return False
    if row.state is _S.SUSPENDED:
        # A stopped program: it must be continued to see that it is to end.
        _continue(kernel, row, now)
    _attempts.stop(kernel, row, why, reason, now)
    return True


def cancel(kernel: KernelState, row: TaskRow, now: int, reason: str) -> bool:
    """Cancel *row*; False if the task has ended."""
    if row.state in TERMINAL:
        return False
    if row.extra is not None and row.extra.stop == "cancel":
        return True
    _ask(kernel, row, _S.CANCELLED, reason, now)
    if _stop_attempt(kernel, row, "cancel", reason, now):
        return True
    _ends.cancel(kernel, row, reason, now)
    _joins.decide(kernel, now)
    _queue.ask_again(kernel)
    return True


def suspend(kernel: KernelState, row: TaskRow, now: int, *, holdable: bool) -> bool:
    """Put *row* aside; False if it has ended or is suspended already."""
    state = row.state
    if state in TERMINAL or state is _S.SUSPENDED:
        return False
    extra = row_extra(row)
    if extra.suspending:
        return True
    if extra.stop in ("cancel", "deadline"):
        return False
    if state is _S.BLOCKED and not _dependencies.awaits(row):
        msg = f"task {row.id} is blocked: there is nothing to suspend"
        raise refusal(row, msg)
    _ask(kernel, row, _S.SUSPENDED, "suspended", now)
    if state is _S.RUNNING:
        if extra.stop:
            # Its timeout is over; it is suspended if there is to be another attempt.
            tell(kernel, AttemptStopping, row, now, row.attempt, "suspend", _BY_USER)
        elif extra.yielded or not holdable:
            _attempts.stop(kernel, row, "suspend", _AT_CHECKPOINT, now)
        else:
            tell(kernel, TaskSuspended, row, now, True)  # noqa: FBT003
            kernel.effects.append(HoldAttempt(row, row.attempt))
        return True
    tell(kernel, TaskSuspended, row, now, False)  # noqa: FBT003
    _queue.ask_again(kernel)
    return True


def _continue(kernel: KernelState, row: TaskRow, now: int) -> None:
    """Resume an attempt of *row* that was stopped in place."""
    tell(kernel, TaskResumed, row, now, True, CONTINUED)  # noqa: FBT003
    kernel.effects.append(ReleaseAttempt(row, row.attempt))


def resume(kernel: KernelState, row: TaskRow, now: int) -> bool:
    """Resume *row*; False if the task is not suspended."""
    extra = row.extra
    if extra is None:
        return False
    if row.state is _S.RUNNING and extra.suspending:
        if extra.stop == "suspend":
            kernel.effects.append(ReleaseAttempt(row, row.attempt))
        tell(kernel, TaskResumed, row, now, False)  # noqa: FBT003
        return True
    if row.state is not _S.SUSPENDED:
        return False
    if extra.held:
        _ask(kernel, row, _S.RUNNING, "resumed", now)
        _continue(kernel, row, now)
        return True
    state = state_after_resume(row, extra)
    _ask(kernel, row, state, "resumed", now)
    tell(kernel, TaskResumed, row, now, False)  # noqa: FBT003
    if state is _S.BLOCKED and extra.blocked_by:
        _joins.block(kernel, row, now)
    elif row.links is not None and row.links.terms is not None:
        kernel.undecided.append((row, ""))
    _joins.decide(kernel, now)
    _queue.ask_again(kernel)
    return True


def set_priority(kernel: KernelState, row: TaskRow, priority: int, now: int) -> bool:
    """Move *row* in the queue; False if it has ended."""
    if row.state in TERMINAL:
        return False
    key = key_of(kernel, row, priority, row.submitted_ns)
    tell(kernel, TaskReprioritised, row, now, priority, key)
    _queue.ask_again(kernel)
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
    return stale


def expire_one(kernel: KernelState, row: TaskRow, now: int, reason: str) -> None:
    """Fail *row*, which has waited for too long."""
    error = ("TaskExpiredError", reason, "expired")
    _ends.fail(kernel, row, error, now)
    _joins.decide(kernel, now)
    _queue.ask_again(kernel)


def miss_deadline(kernel: KernelState, row: TaskRow, now: int) -> None:
    """The deadline of *row* has passed."""
    if _stop_attempt(kernel, row, "deadline", "the deadline has passed", now):
        return
    error = ("TaskTimeoutError", "the deadline passed before it could run", "deadline")
    _ends.fail(kernel, row, error, now)
    _joins.decide(kernel, now)
    _queue.ask_again(kernel)


def miss(kernel: KernelState, row: TaskRow, reason: str, now: int) -> None:
    """What *row*, which is QUEUED, needs is gone: it is held until that is back."""
    _ends.hold(kernel, row, ("UnknownCapabilityError", reason, GONE), now)


def is_unresolvable(row: TaskRow) -> bool:
    """Whether *row* is held because what it needs was gone."""
    extra = row.extra
    return (
        extra is not None
        and extra.decision
        and extra.error is not None
        and extra.error[2] == GONE
    )


def decide(
    kernel: KernelState, row: TaskRow, verdict: str, now: int, reason: str = ""
) -> bool:
    """
    Settle *row*, which is held for a person, or waits; False if it has ended.

    The *verdict* is `retry`, `fail` or `complete`; the *reason* is for its history.

    Raises:
        InvalidTransitionError: It is not held, or cannot be run.
    """
    if row.state in TERMINAL:
        return False
    extra = row_extra(row)
    if row.state is not _S.BLOCKED:
        msg = f"task {row.id} is {row.state}: there is nothing to decide"
        raise refusal(row, msg, "orch.tasks('blocked') lists the tasks that are held")
    if verdict == "retry":
        if extra.blocked_by:
            msg = f"task {row.id} is blocked by {', '.join(extra.blocked_by)}"
            raise refusal(row, msg, "orch.rerun_task(id) of what failed unblocks it")
        if _dependencies.awaits(row):
            msg = f"task {row.id} waits for what comes from outside: it does not run"
            hint = "orch.emit(event) completes it; so does a decision to complete it"
            raise refusal(row, msg, hint)
        _ask(kernel, row, _S.QUEUED, "decided", now)
        reason = reason or "it runs again by decision"
        tell(kernel, TaskUnblocked, row, now, reason)
    elif verdict == "complete":
        _ask(kernel, row, _S.COMPLETED, "decided", now)
        _ends.complete(kernel, row, now, "decision", reason)
    else:
        _ask(kernel, row, _S.FAILED, "decided", now)
        kind, message, _ = extra.error or ("TaskFailedError", "", "")
        why = "; ".join(filter(None, (reason, message)))
        text = f"failed by decision{': ' if why else ''}{why}"
        _ends.fail(kernel, row, (kind, text, "decision"), now)
    _joins.decide(kernel, now)
    _queue.ask_again(kernel)
    return True


def answer(
    kernel: KernelState,
    row: TaskRow,
    vote: tuple[str, str, str, Any],
    verdict: str,
    now: int,
    reason: str = "",
) -> None:
    """
    Record the *vote* of somebody on *row*, a question: `(by, choice, note, changes)`.

    If it decides, the *verdict* is that of `decide`; else it is empty.

    Raises:
        InvalidTransitionError: The state machine forbids what follows.
    """
    if verdict:
        _ask(kernel, row, VERDICTS[verdict], "decided", now)
    tell(kernel, QuestionAnswered, row, now, *vote)
    if verdict:
        decide(kernel, row, verdict, now, reason)


def refuse_answer(
    kernel: KernelState, row: TaskRow, by: str, choice: str, why: str, now: int
) -> None:
    """Record that an answer to *row*, a question, does not count."""
    tell(kernel, AnswerRefused, row, now, by, choice, why)


def emit(kernel: KernelState, name: str, cargo: Any, keep_ns: int, now: int) -> int:
    """
    An event has come from outside: end the waits for it; how many there were.

    If nobody waits, it is kept for *keep_ns*, for those who come. The *cargo* is the
    driver's own, for `hand_over`.
    """
    rows = list(kernel.awaited.get(name, ()))
    until = now + keep_ns if keep_ns and not rows else 0
    kernel.note(EventEmitted, now, name, len(rows), until, cargo=cargo)
    if until:
        _waits.retain(kernel, RetainedEvent(name, kernel.seq, until, cargo))
    for row in rows:
        _waits.deliver(kernel, row, name, cargo, now)
        _joins.decide(kernel, now)
    _queue.ask_again(kernel)
    return len(rows)
