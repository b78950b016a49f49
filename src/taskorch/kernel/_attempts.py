"""
The end of an attempt: results, failures, retries, and work that would not stop.

The fence is (epoch, row, attempt number): what is not from the current attempt is noted
and changes nothing but the books.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from taskorch.events import (
    AttemptReturned,
    AttemptStopping,
    AttemptWaiting,
    LateResultIgnored,
    SlotLeaked,
    SlotRecovered,
    TaskBlocked,
    TaskCancelled,
    TaskCompleted,
    TaskFailed,
    TaskResumed,
    TaskRetrying,
    TaskSuspended,
)
from taskorch.kernel import _books, _dependencies, _parking, _timers, _waits
from taskorch.kernel._deciders import PolicyFault
from taskorch.kernel._effects import ReturnSlot, StopAttempt
from taskorch.kernel._faults import describe, note_fault
from taskorch.kernel._history import more_of
from taskorch.kernel._state import AgentRow, Leak, More, TaskRow
from taskorch.model import TaskState, Units

if TYPE_CHECKING:
    from taskorch.kernel._kernel import Kernel

_RUNNING: Final = TaskState.RUNNING
_SUSPENDED: Final = TaskState.SUSPENDED

#: Reasons to stop: a stronger one replaces a weaker.
_STRENGTH: Final = {"": 0, "suspend": 1, "timeout": 2, "deadline": 3, "cancel": 4}

#: Outcomes that leave open what an attempt has done, and how they are told.
#: The cause of a blockade: there is no agent, or no function, for the task any more.
GONE: Final = "gone"
_GONE: Final = {
    "lost": "its worker died",
    "missing": "its agent does not know of it",
    "interrupted": "the orchestrator stopped while it ran",
    GONE: "what it needs is gone",
}

#: `(type, message, cause)` of a failure.
Error = tuple[str, str, str]


def end(
    kernel: Kernel,
    row: TaskRow,
    attempt: int,
    outcome: str,
    now: int,
    error: BaseException | None = None,
    described: tuple[str, str] = ("", ""),
) -> bool:
    """See `Kernel.end_attempt`."""
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
        call_off(kernel, row, more.stop_reason, now)
    elif more.stop in ("timeout", "deadline"):
        _timed_out(kernel, row, now)
    elif outcome == "completed":
        complete(kernel, row, now)
    elif more.stop == "suspend" and outcome == "stopped":
        _put_aside(kernel, row, now)
    elif outcome == "stopped":
        # It was asked to, and resumed before it had.
        why = "it was resumed meanwhile"
        _retry(kernel, row, (*described, "stopped"), 0, why, now, charged=False)
    elif outcome in _GONE:
        _gone(kernel, row, (*described, outcome), now)
    else:
        _after_failure(kernel, row, error, (*described, "error"), now)
    return True


def complete(
    kernel: Kernel, row: TaskRow, now: int, cause: str = "", reason: str = ""
) -> None:
    """
    *row* ended well, on a path that is not the plain one.

    Args:
        kernel: The state.
        row: The task.
        now: The time in ns.
        cause: What ended it, if no attempt did.
        reason: And why, for its history.
    """
    more = more_of(row)
    more.stop = ""
    more.aside = more.decision = False
    agent = row.agent
    latency = 0
    if agent is not None and row.state is _RUNNING:
        latency = now - row.started_ns
        agent.completed += 1
        kernel.record(agent, row.bucket.spec.type).add(latency)
        row.bucket.type_row.samples.append(
            (row.submitted_ns, row.ready_ns, row.started_ns, now)
        )
        if more.charged:
            kernel.retries_recovered += 1
    row.bucket.type_row.completed += 1
    _end_waits(kernel, row)
    row.ended_ns = now
    if more.past is None:
        # As `move`, of a kind that the plain history shows by itself.
        kernel.active -= 1
        kernel.completed += 1
        row.state = TaskState.COMPLETED
    else:
        kernel.move(row, TaskState.COMPLETED, now, reason)
    kernel.seq += 1
    if kernel.tell_completed and kernel.sink is not None:
        name = "" if agent is None else agent.name
        because = (cause, reason) if cause else ()
        fact = (
            TaskCompleted,
            kernel.seq,
            now,
            row.id,
            row.attempt,
            name,
            latency,
            *because,
        )
        kernel.sink.append((fact, row.cargo))
    if row.links is not None:
        row.links.parents = ()
        _dependencies.release(kernel, row, now)
    if more.past is None and not (more.priority or more.rerun_of):
        # A timeout or a date, and nothing that anybody could still want to know.
        row.more = None
    _finish(kernel, row, now)


def _finish(kernel: Kernel, row: TaskRow, now: int) -> None:
    kernel.touched.append((row, row.cargo))
    kernel.finished.append(row)
    if len(kernel.finished) > kernel.keep:
        kernel.retire()
    if kernel.changed:
        kernel.look(now)


def fail(
    kernel: Kernel,
    row: TaskRow,
    error: Error,
    now: int,
    reason: str = "",
    *,
    charged: bool = False,
    roots: tuple[str, ...] = (),
) -> None:
    """
    *row* ends badly, for good. It holds nothing any more.

    Args:
        kernel: The state.
        row: The task.
        error: The type, message and cause of the failure.
        now: The time in ns.
        reason: Why it is not tried again.
        charged: Whether the last attempt counts against the retry policy.
        roots: Where it began, if its terms end it because of its parents.
    """
    more = more_of(row)
    more.error = error
    more.stop = ""
    pass_on(more, roots)
    cause = error[2]
    type_row = row.bucket.type_row
    type_row.failed += 1
    type_row.failures[error[0]] = type_row.failures.get(error[0], 0) + 1
    kernel.causes[cause] = kernel.causes.get(cause, 0) + 1
    more.decision = False
    _end_waits(kernel, row)
    row.ended_ns = now
    kernel.move(row, TaskState.FAILED, now, error[1])
    agent = None if row.agent is None else row.agent.name
    kernel.note(
        TaskFailed,
        now,
        row.id,
        row.attempt,
        agent,
        *error,
        reason,
        charged,
        *((roots,) if roots else ()),
        cargo=row.cargo,
    )
    _dependencies.broke(kernel, row, now)
    _finish(kernel, row, now)


def pass_on(more: More, roots: tuple[str, ...]) -> None:
    """It ends because of its parents: of these, only where it began is kept."""
    if roots:
        more.first_roots = roots
        more.blocked_by = {}


def call_off(
    kernel: Kernel, row: TaskRow, reason: str, now: int, roots: tuple[str, ...] = ()
) -> None:
    """*row* is CANCELLED, for *roots* if it was skipped. It holds nothing any more."""
    more = more_of(row)
    more.stop = ""
    more.stop_reason = reason
    pass_on(more, roots)
    row.bucket.type_row.cancelled += 1
    more.decision = False
    _end_waits(kernel, row)
    row.ended_ns = now
    kernel.move(row, TaskState.CANCELLED, now, reason)
    because = (roots,) if roots else ()
    kernel.note(TaskCancelled, now, row.id, reason, *because, cargo=row.cargo)
    _dependencies.broke(kernel, row, now)
    _finish(kernel, row, now)


def _end_waits(kernel: Kernel, row: TaskRow) -> None:
    """*row* ends: it waits for no time and no event any more."""
    forget_delay(kernel, row)
    if row.links is not None:
        _waits.leave(kernel, row)


def forget_delay(kernel: Kernel, row: TaskRow) -> None:
    """*row* leaves a delay, or a wait, before its end."""
    more = row.more
    if more is None or not more.due_ns:
        return
    if (
        row.state is TaskState.RETRYING
        or (row.state is TaskState.PENDING and not _dependencies.is_waiting(row))
        or (row.state is TaskState.BLOCKED and _dependencies.awaits(row))
    ):
        kernel.delayed -= 1
    more.due_ns = 0


def _put_aside(kernel: Kernel, row: TaskRow, now: int) -> None:
    """Suspend *row*, whose attempt has ended."""
    put_aside(kernel, row, now)
    kernel.note(TaskSuspended, now, row.id, False, cargo=row.cargo)  # noqa: FBT003


def put_aside(kernel: Kernel, row: TaskRow, now: int) -> None:
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


def free(kernel: Kernel, row: TaskRow) -> None:
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


def give_back(kernel: Kernel, agent: AgentRow, alloc: Units, slots: int) -> None:
    """Free what an attempt has held, and wake who waits for it."""
    kernel.running -= slots
    agent.running -= slots
    _books.release(kernel, agent, alloc)
    if slots and agent.slots.heap:
        _parking.wake(kernel, agent.slots)
    _parking.stir(kernel)


def late(kernel: Kernel, row: TaskRow, attempt: int, outcome: str, now: int) -> None:
    """Nothing comes of an attempt that is not the current one, but what it held."""
    kernel.note(LateResultIgnored, now, row.id, attempt, outcome, cargo=row.cargo)
    leak = kernel.leaked.get((row.id, attempt))
    if leak is not None:
        mend_leak(kernel, leak, attempt, now)


def mend_leak(kernel: Kernel, leak: Leak, attempt: int, now: int) -> None:
    """What would not stop has ended after all."""
    row, agent = leak.row, leak.agent
    del kernel.leaked[row.id, attempt]
    agent.leaked -= 1
    kernel.note(SlotRecovered, now, row.id, attempt, agent.name, cargo=row.cargo)
    give_back(kernel, agent, leak.alloc, leak.slots)


def failed_on_agent(kernel: Kernel, row: TaskRow) -> None:
    """One more that failed, in the record of the agent."""
    agent = agent_of(row)
    agent.failed += 1
    kernel.record(agent, row.bucket.spec.type).failed += 1


def _after_failure(
    kernel: Kernel, row: TaskRow, raised: BaseException | None, error: Error, now: int
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
        fail(kernel, row, error, now, charged=True)
        return
    if again:
        more.last_delay_ns = delay
        kernel.retries_scheduled += 1
        _retry(kernel, row, error, delay, reason, now, charged=True)
    else:
        if more.charged > 1:
            kernel.retries_exhausted += 1
        fail(kernel, row, error, now, reason, charged=True)


def _retry(
    kernel: Kernel,
    row: TaskRow,
    error: Error,
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
    kernel: Kernel, row: TaskRow, delay: int, reason: str, now: int
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
        kernel.requeue(row, now)


def _timed_out(kernel: Kernel, row: TaskRow, now: int) -> None:
    more = more_of(row)
    why, more.stop = more.stop, ""
    if why == "deadline":
        failed_on_agent(kernel, row)
        error = ("TaskTimeoutError", "the deadline has passed", "deadline")
        fail(kernel, row, error, now)
        return
    seconds = more.limit_ns / 1e9
    message = f"attempt {row.attempt} ran longer than its timeout of {seconds:g} s"
    _after_failure(kernel, row, None, ("TaskTimeoutError", message, "timeout"), now)


def _gone(kernel: Kernel, row: TaskRow, error: Error, now: int) -> None:
    """Nobody knows the end of the attempt: not charged; a dead worker is counted."""
    more = more_of(row)
    more.error = error
    kind, message, outcome = error
    what = _GONE[outcome]
    if outcome == "lost":
        more.crashes += 1
    if outcome == "lost" and more.crashes >= kernel.config.poison_attempts:
        message = f"{more.crashes} attempts killed their worker; the last: {message}"
        fail(kernel, row, (kind, message, "poisoned"), now)
    elif outcome == GONE:
        _block(kernel, row, error, message, now)
    elif not row.bucket.spec.idempotent:
        reason = f"{what}, and it is not safe to run twice: decide()"
        _block(kernel, row, error, reason, now)
    else:
        _retry(kernel, row, error, 0, what, now, charged=False)


def _block(kernel: Kernel, row: TaskRow, error: Error, reason: str, now: int) -> None:
    kind, message, cause = error
    kernel.note(
        TaskBlocked,
        now,
        row.id,
        (),
        (),
        reason,
        cause,
        kind,
        message,
        cargo=row.cargo,
    )
    hold_for_decision(kernel, row, reason, now)
    kernel.touched.append((row, row.cargo))


def block_gone(kernel: Kernel, row: TaskRow, reason: str, now: int) -> None:
    """*row*, which waits for nothing else, is held: what it needs is gone."""
    block(kernel, row, ("UnknownCapabilityError", reason, GONE), now)


def block(kernel: Kernel, row: TaskRow, error: Error, now: int) -> None:
    """*row*, of which no attempt is under way, is held for the reason in *error*."""
    more_of(row).error = error
    _block(kernel, row, error, error[1], now)


def hold_for_decision(kernel: Kernel, row: TaskRow, reason: str, now: int) -> None:
    """Move *row* to BLOCKED until a person decides."""
    more = more_of(row)
    more.decision = True
    more.aside = False
    more.stop = ""
    # It may be that it waited for others until now. What was gone may return, and then
    # it waits as before.
    if more.error is not None and more.error[2] == GONE:
        more.blocked_by = {}
    else:
        _dependencies.detach(row)
    kernel.move(row, TaskState.BLOCKED, now, reason)


# -- stopping ----------------------------------------------------------------------


def stop(kernel: Kernel, row: TaskRow, why: str, reason: str, now: int) -> None:
    """Ask the running attempt of *row* to stop."""
    more = more_of(row)
    if _STRENGTH[why] <= _STRENGTH[more.stop]:
        return
    kernel.note(AttemptStopping, now, row.id, row.attempt, why, reason, cargo=row.cargo)
    kernel.effects.append(StopAttempt(row, row.attempt, why))
    ask_to_stop(kernel, row, why, reason, now)


def ask_to_stop(kernel: Kernel, row: TaskRow, why: str, reason: str, now: int) -> None:
    """Remember that the running attempt of *row* is to stop, if it is a better why."""
    more = more_of(row)
    if _STRENGTH[why] <= _STRENGTH[more.stop]:
        return
    more.stop = why
    more.stop_reason = reason
    if why != "suspend":
        when = now + kernel.config.grace_ns
        _timers.arm(kernel, when, _timers.GRACE, row, row.attempt)


def give_up(kernel: Kernel, row: TaskRow, now: int) -> None:
    """The grace is over and the work has not ended: its slot leaks."""
    more = more_of(row)
    kernel.note(
        SlotLeaked, now, row.id, row.attempt, agent_of(row).name, cargo=row.cargo
    )
    leak(kernel, row, now)
    if more.stop == "cancel":
        call_off(kernel, row, more.stop_reason, now)
    else:
        _timed_out(kernel, row, now)


def leak(kernel: Kernel, row: TaskRow, now: int) -> None:
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


def yield_slot(kernel: Kernel, row: TaskRow, attempt: int, now: int) -> bool:
    """See `Kernel.yield_slot`."""
    if row.attempt != attempt or row.state is not _RUNNING:
        return False
    more = more_of(row)
    if more.yielded:
        return False
    more.yielded = True
    kernel.note(AttemptWaiting, now, row.id, attempt, cargo=row.cargo)
    give_back(kernel, agent_of(row), (), 1)
    return True


def reclaim_slot(kernel: Kernel, row: TaskRow, attempt: int, now: int) -> bool:
    """See `Kernel.reclaim_slot`."""
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


def serve_returning(kernel: Kernel, now: int) -> None:
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
