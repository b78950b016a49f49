"""The end of an attempt: results, failures, retries, and work that does not stop.

The fence is (epoch, row, attempt number). A message that is not from the current
attempt is noted, and changes nothing but the amounts in use.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Final

from taskorch.core.kernel import _breakers, _ends, _limits, _queue
from taskorch.core.kernel._application import (
    ASKED,
    GONE,
    began_ns,
    is_stronger,
    is_under_way,
    tell,
    worker_of,
)
from taskorch.core.kernel._deciders import Again, PolicyFault
from taskorch.core.kernel._ends import describe, note_fault
from taskorch.core.kernel._history import ReturnSlot, StopAttempt, past_of, row_extra
from taskorch.core.kernel._rows import (
    LEFT_RUNNING,
    AttemptOutcome,
    Leak,
    Spec,
    Stop,
    TaskRow,
)
from taskorch.core.kernel._state import KernelState
from taskorch.events import (
    AttemptReturned,
    AttemptStopping,
    AttemptWaiting,
    BudgetSpent,
    LateResultIgnored,
    SlotLeaked,
    SlotRecovered,
    TaskOptionsChanged,
    TaskResumed,
    TaskRetrying,
    TaskSuspended,
)
from taskorch.model import TaskState, Units

#: Outcomes of attempts that never began, each with its text.
_UNBEGUN: Final = {
    "unstarted": "the system had no room for it",
    "returned": "its worker gave it back before it began",
}

#: The kind of a failure about which no policy is asked, by its cause.
_KIND: Final = {
    "deadline": "timeout_error",
    "lost": "system_error",
    "missing": "system_error",
    "poisoned": "system_error",
}

_RUNNING: Final = TaskState.RUNNING
_SUSPENDED: Final = TaskState.SUSPENDED

#: Outcomes that leave the effect of an attempt unknown, each with its text.
_GONE: Final = {
    "lost": "its worker died",
    "missing": "its worker does not know of it",
    "interrupted": LEFT_RUNNING,
    GONE: "what it needs is gone",
}

#: The error of an attempt that itself reports an unknown outcome.
_SAYS_WHY: Final = "OutcomeUnknownError"
#: Why a task is on hold whose attempt was out of time and must not run twice.
_OUT_OF_TIME: Final = "it was out of time, and nobody knows what it has done"
#: Why a task that was to be suspended has completed.
_UNSUSPENDED: Final = "it ended before it came to a checkpoint, to be suspended there"


def end(
    kernel: KernelState,
    row: TaskRow,
    attempt: int,
    outcome: AttemptOutcome,
    now: int,
    error: BaseException | None = None,
    described: tuple[str, str] = ("", ""),
    usage: Units = (),
) -> bool:
    """End an attempt; return whether that counts.

    The error that it raised goes to the retry handler and is not kept; only its type
    and message, *described*, are. *usage* is the resource usage that was measured.
    """
    extra, worker = row_extra(row), row.worker
    if row.attempt == attempt and row.state is _SUSPENDED and extra.held:
        # The program was killed, or had ended by itself, before it could be held.
        why = "it ended while it was suspended"
        tell(kernel, TaskResumed, row, now, True, why)  # noqa: FBT003
    if row.attempt != attempt or row.state is not _RUNNING:
        _late(kernel, row, attempt, outcome, described, now)
        return False
    if extra.stop == "cancel":
        _ends.cancel(kernel, row, extra.stop_reason, now)
    elif extra.stop in ("timeout", "deadline"):
        _timed_out(kernel, row, now, usage, (*described, outcome))
    elif outcome == "completed":
        why = _UNSUSPENDED if extra.suspending else ""
        _ends.complete(kernel, row, now, reason=why, usage=usage)
    elif extra.stop == "suspend" and outcome == "stopped":
        tell(kernel, TaskSuspended, row, now, False)  # noqa: FBT003
    elif outcome == "stopped":
        # The attempt stopped as asked, but the task had been resumed meanwhile.
        why = "it was resumed meanwhile"
        _retry_uncharged(kernel, row, (*described, "stopped"), 0, why, now)
    elif outcome in _UNBEGUN:
        # If the system had no room for the start, other tasks may have more luck first.
        delay = kernel.aside_ns if outcome == "unstarted" else 0
        why = _UNBEGUN[outcome]
        _retry_uncharged(kernel, row, (*described, outcome), delay, why, now)
    elif outcome in _GONE:
        _gone(kernel, row, (*described, outcome), now)
    else:
        _after_failure(kernel, row, error, (*described, "error"), now, usage)
    _breakers.judge(kernel, worker, row, now)
    _ends.decide(kernel, now)
    return True


def awaits_end(row: TaskRow, attempt: int) -> bool:
    """Return whether the end of *attempt* is unknown, and no other attempt follows yet.

    It was under way when its orchestrator died, and its worker may have gone on.
    """
    if row.attempt != attempt or row.state not in (TaskState.QUEUED, TaskState.BLOCKED):
        return False
    under_way = (TaskState.RUNNING, TaskState.RETRYING)
    moves = [(state, why) for state, _, why in past_of(row) if state in under_way]
    return bool(moves) and moves[-1] == (TaskState.RETRYING, LEFT_RUNNING)


def fail_late(
    kernel: KernelState,
    row: TaskRow,
    error: BaseException,
    now: int,
    described: tuple[str, str],
    usage: Units = (),
) -> None:
    """Fail an attempt whose end was unknown (see `awaits_end`)."""
    _after_failure(kernel, row, error, (*described, "error"), now, usage)
    _ends.decide(kernel, now)


def end_reported(
    kernel: KernelState,
    fence: tuple[int | None, str, int],
    outcome: AttemptOutcome,
    now: int,
    error: BaseException | None = None,
    usage: Units = (),
) -> None:
    """
    End the attempt that *fence* names: see `end`.

    Its *fence* is the incarnation of the orchestrator that began it (None is this one),
    the id of its task and its number. An attempt of another incarnation changes
    nothing.
    """
    epoch, task_id, attempt = fence
    # The task of an attempt that did not stop may have left memory.
    leak = kernel.leaked.get((task_id, attempt))
    row = kernel.tasks.get(task_id) if leak is None else leak.row
    if row is None or epoch not in (None, kernel.epoch):
        kernel.note(LateResultIgnored, now, task_id, attempt, outcome)
        return
    described = ("", "")
    if error is not None:
        described = (type(error).__name__, describe(error).partition(": ")[2])
    end(kernel, row, attempt, outcome, now, error, described, usage)


def _late(
    kernel: KernelState,
    row: TaskRow,
    attempt: int,
    outcome: AttemptOutcome,
    described: tuple[str, str],
    now: int,
) -> None:
    """Free the leak of an attempt that ended after another had replaced it."""
    error = described if described[0] else ("", "")
    fields = row.id, attempt, outcome, *error
    kernel.note(LateResultIgnored, now, *fields, cargo=row.cargo)
    leak = kernel.leaked.get((row.id, attempt))
    if leak is not None:
        mend_leak(kernel, leak, attempt, now)


def mend_leak(kernel: KernelState, leak: Leak, attempt: int, now: int) -> None:
    """Free the slot that an attempt had leaked, since it has ended after all."""
    tell(kernel, SlotRecovered, leak.row, now, attempt, leak.worker.name)


def _after_failure(
    kernel: KernelState,
    row: TaskRow,
    raised: BaseException | None,
    error: _ends.Error,
    now: int,
    usage: Units,
) -> None:
    """Retry, ask a person or fail; count a try if the task is to blame."""
    extra = row_extra(row)
    extra.error, extra.usage = error, usage
    elapsed = now - began_ns(row)
    try:
        answer = kernel.deciders.retry(row, raised, error[2], elapsed, now)
    except PolicyFault as fault:
        note_fault(kernel, row.id, fault, now)
        message = (
            f"{error[0]}: {error[1]}; and then the {fault.component} failed: "
            f"{describe(fault.error)}"
        )
        error = ("ComponentError", message, "component")
        _ends.fail(kernel, row, error, now, charged=True, measured=(usage, ""))
        return
    measured, reason = (usage, answer.kind), answer.reason
    if not (answer.retry or answer.ask):
        _ends.fail(kernel, row, error, now, reason, charged=True, measured=measured)
        return
    spec = answer.spec
    if spec is not None and spec.resources != row.bucket.spec.resources:
        refusal = too_much(kernel, row, spec)
        if refusal:
            reason = "; ".join(filter(None, (reason, refusal)))
            spec = None
    delay = answer.delay_ns
    if answer.ask:
        delay, reason = 0, reason or "a person is asked"
        if extra.suspending:
            tell(kernel, TaskResumed, row, now, False, reason)  # noqa: FBT003
    charged = not answer.blameless
    error = (error[0], error[1], answer.blameless or error[2])
    _again(kernel, row, error, delay, reason, now, charged=charged, measured=measured)
    if spec is not None:
        change(kernel, row, answer, spec, now)
    if answer.ask:
        _ends.hold(kernel, row, (error[0], error[1], ASKED), now, answer.ask)
    elif extra.suspending:
        tell(kernel, TaskSuspended, row, now, False)  # noqa: FBT003


def _again(
    kernel: KernelState,
    row: TaskRow,
    error: _ends.Error,
    delay: int,
    reason: str,
    now: int,
    *,
    charged: bool,
    measured: _ends.Measured,
) -> None:
    """Announce another attempt; a later event may withdraw it."""
    fields = row.attempt, worker_of(row).name, *error, delay, charged, reason
    tell(kernel, TaskRetrying, row, now, *fields, *measured)


def _retry_uncharged(
    kernel: KernelState,
    row: TaskRow,
    error: _ends.Error,
    delay: int,
    reason: str,
    now: int,
) -> None:
    measured = (), _KIND.get(error[2], "")
    _again(kernel, row, error, delay, reason, now, charged=False, measured=measured)
    if row_extra(row).suspending:
        tell(kernel, TaskSuspended, row, now, False)  # noqa: FBT003


def too_much(kernel: KernelState, row: TaskRow, spec: Spec) -> str:
    """Return why *row* cannot have new resources and keeps the old; "" if it can."""
    bucket = _queue.bucket_of(kernel, spec)
    workers = row.bucket.matching
    shorts = [short for a in workers if (short := _limits.too_small(kernel, bucket, a))]
    if len(shorts) < len(workers) or not shorts:
        return ""
    most = max(short.have for short in shorts)
    if shorts[0].need <= most:
        much = f"{shorts[0].need / 1e6:g} {shorts[0].name}"
        return f"it keeps what it had, since units are had whole, and not {much}"
    return (
        "it keeps what it had, since no worker that can do it has more "
        f"{shorts[0].name} than {most / 1e6:g}"
    )


def change(
    kernel: KernelState, row: TaskRow, answer: Again, spec: Spec, now: int
) -> None:
    """Give *row* the spec *spec* from its next attempt."""
    before = row.bucket.spec
    changed = [
        name
        for name, one, other in (
            ("resources", before.resources, spec.resources),
            ("timeout", before.timeout_ns, spec.timeout_ns),
            ("avoid", before.avoid, spec.avoid),
        )
        if one != other
    ]
    if not changed:
        return
    reason = answer.reason or "the retry handler chose them"
    _tell_options(kernel, row, tuple(changed), spec, reason, now)
    kernel.deciders.changed(row, answer)


def _tell_options(
    kernel: KernelState,
    row: TaskRow,
    changed: tuple[str, ...],
    spec: Spec,
    reason: str,
    now: int,
) -> None:
    """Announce that *row* has *spec* from its next attempt, and what has *changed*."""
    extra = row_extra(row)
    tell(
        kernel,
        TaskOptionsChanged,
        row,
        now,
        changed,
        extra.priority,
        row.key,
        spec.requires,
        spec.resources,
        spec.timeout_ns,
        spec.idempotent,
        None,
        extra.deadline_ns,
        spec.owner,
        spec.elastic,
        spec.avoid,
        reason,
        spec.spends,
    )


def _timed_out(
    kernel: KernelState,
    row: TaskRow,
    now: int,
    usage: Units = (),
    ended: _ends.Error = ("", "", ""),
) -> None:
    """End an attempt whose time is over; *ended* is its own end, if it has one."""
    extra = row_extra(row)
    if extra.stop == "deadline":
        error = ("TaskTimeoutError", "the deadline has passed", "deadline")
        _ends.fail(kernel, row, error, now, measured=(usage, _KIND["deadline"]))
        return
    if ended[2] in _GONE and not row.bucket.spec.idempotent:
        _gone(kernel, row, ended, now, _OUT_OF_TIME)
        return
    seconds = extra.limit_ns / 1e9
    message = f"attempt {row.attempt} ran longer than its timeout of {seconds:g} s"
    error = ("TaskTimeoutError", message, "timeout")
    _after_failure(kernel, row, None, error, now, usage)


def _gone(
    kernel: KernelState, row: TaskRow, error: _ends.Error, now: int, what: str = ""
) -> None:
    """End an attempt whose own end is unknown, without a try; count a dead worker."""
    kind, message, outcome = error
    what = what or (message if kind == _SAYS_WHY else _GONE[outcome])
    crashes = row_extra(row).crashes + 1
    if outcome == "lost" and crashes >= kernel.config.poison_attempts:
        message = f"{crashes} attempts killed their worker; the last: {message}"
        measured = (), _KIND["poisoned"]
        _ends.fail(kernel, row, (kind, message, "poisoned"), now, measured=measured)
    elif outcome == GONE:
        _ends.hold(kernel, row, error, now)
    elif not row.bucket.spec.idempotent:
        reason = f"{what}, and it is not safe to run twice: decide()"
        _ends.hold(kernel, row, error, now, reason)
    else:
        _retry_uncharged(kernel, row, error, 0, what, now)


# -- stopping ----------------------------------------------------------------------


def stop(kernel: KernelState, row: TaskRow, why: Stop, reason: str, now: int) -> None:
    """Ask the running attempt of *row* to stop."""
    if is_stronger(why, row_extra(row).stop):
        tell(kernel, AttemptStopping, row, now, row.attempt, why, reason)
        kernel.effects.append(StopAttempt(row, row.attempt, why))


def give_up(kernel: KernelState, row: TaskRow, now: int) -> None:
    """Leak the slot of an attempt that has not stopped within its grace."""
    extra = row_extra(row)
    tell(kernel, SlotLeaked, row, now, row.attempt, worker_of(row).name)
    if extra.stop == "cancel":
        _ends.cancel(kernel, row, extra.stop_reason, now)
    else:
        _timed_out(kernel, row, now)
    _ends.decide(kernel, now)


def spend(
    kernel: KernelState, row: TaskRow, attempt: int, units: Units, now: int
) -> bool:
    """Note that the attempt has spent *units* more; return False if it has ended."""
    if row.attempt != attempt or not _runs(row):
        return False
    tell(kernel, BudgetSpent, row, now, attempt, units)
    return True


# -- waiting inside a task ---------------------------------------------------------


def _runs(row: TaskRow) -> bool:
    return row.state is _RUNNING and is_under_way(row)


def yield_slot(
    kernel: KernelState, row: TaskRow, attempt: int, now: int, *, returned: bool = False
) -> bool:
    """
    Free the slot of an attempt that waits for another task.

    If its function has *returned*, and only its value is to be kept, free its resources
    and end its time limit, too; return False if it was asked to stop.
    """
    if row.attempt != attempt or not _runs(row):
        return False
    extra = row_extra(row)
    if extra.stop not in ("", "suspend") if returned else extra.yielded:
        return False
    tell(kernel, AttemptWaiting, row, now, attempt, returned)
    if returned:
        _breakers.judge(kernel, row.worker, row, now)
    return True


def reclaim_slot(kernel: KernelState, row: TaskRow, attempt: int, now: int) -> bool:
    """End the wait of an attempt; return whether it has its slot at once."""
    if row.attempt != attempt or row.extra is None or not row.extra.yielded:
        return True
    kernel.returning.append(row)
    serve_returning(kernel, now)
    if row.extra.yielded:
        return False
    kernel.effects = [
        e
        for e in kernel.effects
        if not (isinstance(e, ReturnSlot) and e.row is row and e.attempt == attempt)
    ]
    return True


def forgo_slot(kernel: KernelState, row: TaskRow) -> None:
    """End the wait for a slot of the attempt of *row*, which goes on without one."""
    with suppress(ValueError):
        kernel.returning.remove(row)


def serve_returning(kernel: KernelState, now: int) -> None:
    """Give slots to attempts that waited, before any new one starts."""
    kept: list[TaskRow] = []
    while kernel.returning and kernel.running < kernel.concurrency:
        row = kernel.returning.popleft()
        extra, worker = row_extra(row), worker_of(row)
        if not extra.yielded:
            # The attempt has ended meanwhile.
            continue
        if _limits.of_slots(worker) is not None:
            kept.append(row)
            continue
        tell(kernel, AttemptReturned, row, now, row.attempt)
        kernel.effects.append(ReturnSlot(row, row.attempt))
    kernel.returning.extendleft(reversed(kept))
