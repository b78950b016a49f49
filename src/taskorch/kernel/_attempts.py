"""
The end of an attempt: results, failures, retries, and work that would not stop.

The fence is (epoch, row, attempt number): what is not from the current attempt is noted
and changes nothing but the books.
"""

from __future__ import annotations

from typing import Final

from taskorch.events import (
    AttemptReturned,
    AttemptStopping,
    AttemptWaiting,
    LateResultIgnored,
    SlotLeaked,
    SlotRecovered,
    TaskResumed,
    TaskRetrying,
    TaskSuspended,
)
from taskorch.kernel import (
    _books,
    _ends,
    _joins,
    _parking,
    _queue,
    _timers,
)
from taskorch.kernel._deciders import PolicyFault
from taskorch.kernel._effects import ReturnSlot, StopAttempt
from taskorch.kernel._faults import describe, note_fault
from taskorch.kernel._history import more_of
from taskorch.kernel._rows import AgentRow, Leak, TaskRow
from taskorch.kernel._state import KernelState
from taskorch.model import TaskState, Units
from taskorch.model._limits import NS

#: How long a task steps aside that the system had no room for: others may have more
#: luck.
_UNSTARTED_NS: Final = NS // 4

_RUNNING: Final = TaskState.RUNNING
_SUSPENDED: Final = TaskState.SUSPENDED

#: Reasons to stop: a stronger one replaces a weaker.
_STRENGTH: Final = {"": 0, "suspend": 1, "timeout": 2, "deadline": 3, "cancel": 4}

#: Outcomes that leave open what an attempt has done, and how they are told.
_GONE: Final = {
    "lost": "its worker died",
    "missing": "its agent does not know of it",
    "interrupted": "the orchestrator stopped while it ran",
    _ends.GONE: "what it needs is gone",
}


def end(
    kernel: KernelState,
    row: TaskRow,
    attempt: int,
    outcome: str,
    now: int,
    error: BaseException | None = None,
    described: tuple[str, str] = ("", ""),
) -> bool:
    """
    An attempt has ended; whether that counts.

    Args:
        kernel: The state.
        row: Its task.
        attempt: Its number: with the row, the fence.
        outcome: `completed`, `failed`, `stopped` (as it was asked to), `lost` (its
            worker died) or `unstarted` (the system had no room for it).
        now: The time in ns.
        error: What it raised; handed to the retry handler, not kept.
        described: The error's type and message.
    """
    more = more_of(row)
    if row.attempt == attempt and row.state is _SUSPENDED and more.held:
        # It was killed, or had just ended when it was to be stopped where it stands.
        why = "it ended while it was suspended"
        kernel.move(row, _RUNNING, now, why)
        kernel.note(TaskResumed, now, row.id, True, why, cargo=row.cargo)  # noqa: FBT003
    if row.attempt != attempt or row.state is not _RUNNING:
        late(kernel, row, attempt, outcome, now)
        return False
    free(kernel, row)
    if more.stop == "cancel":
        _ends.call_off(kernel, row, more.stop_reason, now)
    elif more.stop in ("timeout", "deadline"):
        _timed_out(kernel, row, now)
    elif outcome == "completed":
        _ends.complete(kernel, row, now)
    elif more.stop == "suspend" and outcome == "stopped":
        _put_aside(kernel, row, now)
    elif outcome == "stopped":
        # It was asked to, and resumed before it had.
        why = "it was resumed meanwhile"
        _retry(kernel, row, (*described, "stopped"), 0, why, now, charged=False)
    elif outcome == "unstarted":
        why = "the system had no room for it"
        more.error = (*described, outcome)
        _retry(kernel, row, more.error, _UNSTARTED_NS, why, now, charged=False)
    elif outcome in _GONE:
        _gone(kernel, row, (*described, outcome), now)
    else:
        _after_failure(kernel, row, error, (*described, "error"), now)
    _joins.decide(kernel, now)
    return True


def _put_aside(kernel: KernelState, row: TaskRow, now: int) -> None:
    """Suspend *row*, whose attempt has ended."""
    put_aside(kernel, row, now)
    kernel.note(TaskSuspended, now, row.id, False, cargo=row.cargo)  # noqa: FBT003


def put_aside(kernel: KernelState, row: TaskRow, now: int) -> None:
    """Suspend *row*, whose attempt has ended; not the fact."""
    more = more_of(row)
    more.aside = False
    asked = "as it was asked to while it ran"
    detail = "at a checkpoint" if row.state is _RUNNING else asked
    more.stop = ""
    kernel.move(row, _SUSPENDED, now, detail)


def is_under_way(row: TaskRow) -> bool:
    """Whether an attempt of *row* holds a slot: it runs, or is stopped in it."""
    if row.state is _SUSPENDED:
        return row.more is not None and row.more.held
    return row.state is _RUNNING


def free(kernel: KernelState, row: TaskRow) -> None:
    """The current attempt is over: give back its slot and its resources."""
    more, agent = more_of(row), agent_of(row)
    if row.attempt == 1:
        more.first_ns = row.started_ns
    if agent.seen:
        agent.seen.pop(row, None)
    slots = 0 if more.yielded else 1
    more.yielded = more.held = False
    alloc, row.alloc = row.alloc, ()
    give_back(kernel, agent, alloc, slots)


def agent_of(row: TaskRow) -> AgentRow:
    """The agent of *row*, which runs or has run."""
    assert row.agent is not None  # noqa: S101 - `start` sets it
    return row.agent


def give_back(kernel: KernelState, agent: AgentRow, alloc: Units, slots: int) -> None:
    """Free what an attempt has held, and wake who waits for it."""
    kernel.running -= slots
    agent.running -= slots
    _books.release(kernel, agent, alloc)
    if slots and agent.slots.heap:
        _parking.wake(kernel, agent.slots)
    _queue.stir(kernel)


def late(
    kernel: KernelState, row: TaskRow, attempt: int, outcome: str, now: int
) -> None:
    """Nothing comes of an attempt that is not the current one, but what it held."""
    kernel.note(LateResultIgnored, now, row.id, attempt, outcome, cargo=row.cargo)
    leak = kernel.leaked.get((row.id, attempt))
    if leak is not None:
        mend_leak(kernel, leak, attempt, now)


def mend_leak(kernel: KernelState, leak: Leak, attempt: int, now: int) -> None:
    """What would not stop has ended after all."""
    row, agent = leak.row, leak.agent
    del kernel.leaked[row.id, attempt]
    agent.leaked -= 1
    kernel.note(SlotRecovered, now, row.id, attempt, agent.name, cargo=row.cargo)
    give_back(kernel, agent, leak.alloc, leak.slots)


def failed_on_agent(kernel: KernelState, row: TaskRow) -> None:
    """One more that failed, in the record of the agent."""
    agent = agent_of(row)
    agent.failed += 1
    kernel.record(agent, row.bucket.spec.type).failed += 1


def _after_failure(
    kernel: KernelState,
    row: TaskRow,
    raised: BaseException | None,
    error: _ends.Error,
    now: int,
) -> None:
    """Retry or fail; the attempt is charged."""
    more = more_of(row)
    more.charged += 1
    more.error = error
    failed_on_agent(kernel, row)
    try:
        again, delay, reason = kernel.deciders.retry(
            row, raised, error[2], now - more.first_ns, now
        )
    except PolicyFault as fault:
        note_fault(kernel, row.id, fault, now)
        message = (
            f"{error[0]}: {error[1]}; and then the {fault.component} failed: "
            f"{describe(fault.error)}"
        )
        error = ("ComponentError", message, "component")
        _ends.fail(kernel, row, error, now, charged=True)
        return
    if again:
        more.last_delay_ns = delay
        kernel.retries_scheduled += 1
        _retry(kernel, row, error, delay, reason, now, charged=True)
    else:
        if more.charged > 1:
            kernel.retries_exhausted += 1
        _ends.fail(kernel, row, error, now, reason, charged=True)


def _retry(
    kernel: KernelState,
    row: TaskRow,
    error: _ends.Error,
    delay: int,
    reason: str,
    now: int,
    *,
    charged: bool,
) -> None:
    kernel.note(
        TaskRetrying,
        now,
        row.id,
        row.attempt,
        agent_of(row).name,
        *error,
        delay,
        charged,
        reason,
        cargo=row.cargo,
    )
    wait_to_retry(kernel, row, delay, reason, now)
    if more_of(row).aside:
        _put_aside(kernel, row, now)


def wait_to_retry(
    kernel: KernelState, row: TaskRow, delay: int, reason: str, now: int
) -> None:
    """Move *row* to RETRYING for so many ns, or through it; or prepare its aside."""
    more = more_of(row)
    more.stop = ""
    kernel.move(row, TaskState.RETRYING, now, reason)
    if more.aside:
        more.resume_ns = delay
    elif delay:
        more.due_ns = now + delay
        kernel.delayed += 1
        _timers.arm(kernel, more.due_ns, _timers.DUE, row, row.attempt)
    else:
        _queue.requeue(kernel, row, now)


def _timed_out(kernel: KernelState, row: TaskRow, now: int) -> None:
    more = more_of(row)
    why, more.stop = more.stop, ""
    if why == "deadline":
        failed_on_agent(kernel, row)
        error = ("TaskTimeoutError", "the deadline has passed", "deadline")
        _ends.fail(kernel, row, error, now)
        return
    seconds = more.limit_ns / 1e9
    message = f"attempt {row.attempt} ran longer than its timeout of {seconds:g} s"
    _after_failure(kernel, row, None, ("TaskTimeoutError", message, "timeout"), now)


def _gone(kernel: KernelState, row: TaskRow, error: _ends.Error, now: int) -> None:
    """Nobody knows the end of the attempt: not charged; a dead worker is counted."""
    more = more_of(row)
    more.error = error
    kind, message, outcome = error
    what = _GONE[outcome]
    if outcome == "lost":
        more.crashes += 1
    if outcome == "lost" and more.crashes >= kernel.config.poison_attempts:
        message = f"{more.crashes} attempts killed their worker; the last: {message}"
        _ends.fail(kernel, row, (kind, message, "poisoned"), now)
    elif outcome == _ends.GONE:
        _ends.hold_because(kernel, row, error, message, now)
    elif not row.bucket.spec.idempotent:
        reason = f"{what}, and it is not safe to run twice: decide()"
        _ends.hold_because(kernel, row, error, reason, now)
    else:
        _retry(kernel, row, error, 0, what, now, charged=False)


# -- stopping ----------------------------------------------------------------------


def stop(kernel: KernelState, row: TaskRow, why: str, reason: str, now: int) -> None:
    """Ask the running attempt of *row* to stop."""
    more = more_of(row)
    if _STRENGTH[why] <= _STRENGTH[more.stop]:
        return
    kernel.note(AttemptStopping, now, row.id, row.attempt, why, reason, cargo=row.cargo)
    kernel.effects.append(StopAttempt(row, row.attempt, why))
    ask_to_stop(kernel, row, why, reason, now)


def ask_to_stop(
    kernel: KernelState, row: TaskRow, why: str, reason: str, now: int
) -> None:
    """Remember that the running attempt of *row* is to stop, if it is a better why."""
    more = more_of(row)
    if _STRENGTH[why] <= _STRENGTH[more.stop]:
        return
    more.stop = why
    more.stop_reason = reason
    if why != "suspend":
        when = now + kernel.config.grace_ns
        _timers.arm(kernel, when, _timers.GRACE, row, row.attempt)


def give_up(kernel: KernelState, row: TaskRow, now: int) -> None:
    """The grace is over and the work has not ended: its slot leaks."""
    more = more_of(row)
    kernel.note(
        SlotLeaked, now, row.id, row.attempt, agent_of(row).name, cargo=row.cargo
    )
    leak(kernel, row, now)
    if more.stop == "cancel":
        _ends.call_off(kernel, row, more.stop_reason, now)
    else:
        _timed_out(kernel, row, now)
    _joins.decide(kernel, now)


def leak(kernel: KernelState, row: TaskRow, now: int) -> None:
    """What the current attempt of *row* holds stays taken, and is not its own."""
    agent = agent_of(row)
    more = more_of(row)
    if row.attempt == 1:
        more.first_ns = row.started_ns
    if agent.seen:
        agent.seen.pop(row, None)
    # One that waits for another task holds no slot, but its resources.
    slots = 0 if more.yielded else 1
    more.yielded = False
    agent.leaked += 1
    alloc, row.alloc = row.alloc, ()
    kernel.leaked[row.id, row.attempt] = Leak(agent, alloc, row, slots, now)


# -- waiting inside a task ---------------------------------------------------------


def yield_slot(kernel: KernelState, row: TaskRow, attempt: int, now: int) -> bool:
    """The attempt waits for another task: its slot is free meanwhile."""
    if row.attempt != attempt or row.state is not _RUNNING:
        return False
    more = more_of(row)
    if more.yielded:
        return False
    more.yielded = True
    kernel.note(AttemptWaiting, now, row.id, attempt, cargo=row.cargo)
    give_back(kernel, agent_of(row), (), 1)
    return True


def reclaim_slot(kernel: KernelState, row: TaskRow, attempt: int, now: int) -> bool:
    """The wait is over; True if the attempt has its slot at once."""
    if row.attempt != attempt or row.more is None or not row.more.yielded:
        return True
    kernel.returning.append(row)
    serve_returning(kernel, now)
    if row.more.yielded:
        return False
    kernel.effects = [
        e
        for e in kernel.effects
        if not (isinstance(e, ReturnSlot) and e.row is row and e.attempt == attempt)
    ]
    return True


def serve_returning(kernel: KernelState, now: int) -> None:
    """Give slots to attempts that waited, before anything new starts."""
    kept: list[TaskRow] = []
    while kernel.returning and kernel.running < kernel.concurrency:
        row = kernel.returning.popleft()
        more, agent = more_of(row), agent_of(row)
        if not more.yielded:
            # The attempt has ended meanwhile.
            continue
        if not _books.has_slot(agent):
            kept.append(row)
            continue
        more.yielded = False
        kernel.running += 1
        agent.running += 1
        kernel.note(AttemptReturned, now, row.id, row.attempt, cargo=row.cargo)
        kernel.effects.append(ReturnSlot(row, row.attempt))
    kernel.returning.extendleft(reversed(kept))
