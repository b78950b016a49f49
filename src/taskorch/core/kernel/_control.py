"""
Commands of people and timers on tasks: cancel, suspend, expire, lose, connect.

Decision: workers-elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from heapq import heappop
from itertools import cycle
from types import MappingProxyType
from typing import Any, Final, NoReturn

from taskorch.core.kernel import (
    _attempts,
    _breakers,
    _dependencies,
    _ends,
    _queue,
    _units,
)
from taskorch.core.kernel._application import (
    ALLOWED,
    CONTINUED,
    GONE,
    is_under_way,
    state_after_resume,
    tell,
    terms_of_wait,
)
from taskorch.core.kernel._deciders import Again
from taskorch.core.kernel._history import (
    HoldAttempt,
    ReleaseAttempt,
    past_of,
    row_extra,
)
from taskorch.core.kernel._rows import (
    GOING,
    AttemptOutcome,
    RetainedEvent,
    Spec,
    Stop,
    TaskRow,
    Timer,
    WindowRow,
    WorkerRow,
)
from taskorch.core.kernel._shortages import vetoed
from taskorch.core.kernel._state import GRACE, LEASE, TIMEOUT, KernelState
from taskorch.errors import CycleError, InvalidTransitionError
from taskorch.events import (
    AgentJoined,
    AgentLost,
    AgentReturned,
    AnswerRefused,
    AttemptStopping,
    EventEmitted,
    QuestionAnswered,
    QuestionReminded,
    TaskDue,
    TaskParentsAdded,
    TaskRepointed,
    TaskReprioritised,
    TaskResumed,
    TaskSuspended,
    TaskUnblocked,
)
from taskorch.model import TERMINAL, Agent, TaskState

# -- control from outside: cancel, suspend, resume, move, expire, decide ---------------


_S: Final = TaskState
#: The state that a waiting task has after each verdict.
VERDICTS: Final = {
    "complete": _S.COMPLETED,
    "fail": _S.FAILED,
    "retry": _S.QUEUED,
}
_NOTHING: Final[Mapping[Any, Any]] = MappingProxyType({})
_BY_USER: Final = "suspended by the user"
#: A function cannot be stopped in place, unlike a program.
_AT_CHECKPOINT: Final = (
    f"{_BY_USER}: at its next checkpoint; without one it runs to its end"
)


def _ask(
    kernel: KernelState, row: TaskRow, after: TaskState, why: str, now: int
) -> None:
    """
    Ask the user's StateMachine.

    Raises:
        InvalidTransitionError: The StateMachine forbids the transition.
    """
    veto = vetoed(kernel, row, row.state, after, why, now)
    if veto is not None:
        msg = f"task {row.id} may not go from {row.state} to {after}: {veto}"
        raise refusal(row, msg, "the state machine said so")


def refusal(row: TaskRow, msg: str, hint: str = "") -> InvalidTransitionError:
    """Return the error that *row* cannot do what is asked for, with its history."""
    story = tuple((state.value, ns / 1e9) for state, ns, _ in past_of(row))
    return InvalidTransitionError(msg, task_id=row.id, story=story, hint=hint)


def _stop_attempt(
    kernel: KernelState, row: TaskRow, why: Stop, reason: str, now: int
) -> bool:
    """Ask the attempt of *row* to stop; return False if none is under way."""
    if not is_under_way(row):
        return False
    if row.state is _S.SUSPENDED:
        # A stopped program must continue, so that it sees the request to end.
        _continue(kernel, row, now)
    _attempts.stop(kernel, row, why, reason, now)
    return True


def cancel(kernel: KernelState, row: TaskRow, now: int, reason: str) -> bool:
    """Cancel *row*; return False if the task has ended."""
    if row.state in TERMINAL:
        return False
    if row.extra is not None and row.extra.stop == "cancel":
        return True
    _ask(kernel, row, _S.CANCELLED, reason, now)
    if _stop_attempt(kernel, row, "cancel", reason, now):
        return True
    _ends.cancel(kernel, row, reason, now)
    _ends.decide(kernel, now)
    _queue.ask_again(kernel)
    return True


def suspend(kernel: KernelState, row: TaskRow, now: int, *, holdable: bool) -> bool:
    """Suspend *row*; return False if it has ended or is suspended already."""
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
            # Its timeout is over, so it is suspended only if there is to be another
            # attempt.
            tell(kernel, AttemptStopping, row, now, row.attempt, "suspend", _BY_USER)
        elif extra.yielded or extra.returned_ns or not holdable:
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
    """Resume *row*; return False if the task is not suspended."""
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
        _ends.block(kernel, row, now)
    elif row.links is not None and row.links.terms is not None:
        kernel.undecided.append((row, ""))
    _ends.decide(kernel, now)
    _queue.ask_again(kernel)
    return True


def set_priority(kernel: KernelState, row: TaskRow, priority: int, now: int) -> bool:
    """Move *row* in the queue; return False if it has ended."""
    if row.state in TERMINAL:
        return False
    key = key_of(kernel, row, priority, row.submitted_ns)
    tell(kernel, TaskReprioritised, row, now, priority, key)
    _queue.ask_again(kernel)
    return True


def key_of(kernel: KernelState, row: TaskRow, priority: int, submitted_ns: int) -> Any:
    """
    Return the key of *row* in the queue, reckoned from its submission.

    Raises:
        PolicyFault: The queue failed.
    """
    aging = kernel.deciders.aging_ns
    if aging is None:
        return kernel.deciders.order(row, priority, submitted_ns)
    return submitted_ns - priority * aging


def expire(kernel: KernelState, older_than_ns: int, now: int) -> list[TaskRow]:
    """Fail and return every task that has been queued for longer."""
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
    _ends.decide(kernel, now)
    _queue.ask_again(kernel)


def miss_deadline(kernel: KernelState, row: TaskRow, now: int) -> None:
    """Act on the deadline of *row*, which has passed."""
    if _stop_attempt(kernel, row, "deadline", "the deadline has passed", now):
        return
    error = ("TaskTimeoutError", "the deadline passed before it could run", "deadline")
    _ends.fail(kernel, row, error, now)
    _ends.decide(kernel, now)
    _queue.ask_again(kernel)


def miss(kernel: KernelState, row: TaskRow, reason: str, now: int) -> None:
    """Put a QUEUED *row* on hold, since its worker or function is missing."""
    _ends.hold(kernel, row, ("UnknownCapabilityError", reason, GONE), now)


def is_unresolvable(row: TaskRow) -> bool:
    """Return whether *row* is on hold because a thing that it needs was gone."""
    extra = row.extra
    return (
        extra is not None
        and extra.decision
        and extra.error is not None
        and extra.error[2] == GONE
    )


def release_denied(kernel: KernelState, row: TaskRow, now: int, reason: str) -> None:
    """Let *row*, which rules kept from starting, ask the rules again.

    Its history says so, with the *reason*, if there is one: people have not answered.
    """
    why = f"{ALLOWED}: {reason}" if reason else ALLOWED
    tell(kernel, TaskUnblocked, row, now, why)
    _ends.decide(kernel, now)
    _queue.ask_again(kernel)


def judge_starts(kernel: KernelState, *, judged: bool) -> None:
    """Note that rules for starts were added, replaced or removed."""
    kernel.judged = judged
    # The direct routes of buckets were chosen under other rules.
    for bucket in kernel.buckets.values():
        bucket.route = bucket.quota_route = None
        bucket.route_version = -1


def decide(
    kernel: KernelState, row: TaskRow, verdict: str, now: int, reason: str = ""
) -> bool:
    """
    Settle *row*, which is on hold or waits; return False if it has ended.

    The *verdict* is `retry`, `fail` or `complete`; the *reason* is for its history.

    Raises:
        InvalidTransitionError: It is not on hold, or cannot be run.
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
    _ends.decide(kernel, now)
    _queue.ask_again(kernel)
    return True


def answer(
    kernel: KernelState,
    rows: Sequence[TaskRow],
    vote: tuple[str, str, str, Any],
    verdict: str,
    now: int,
    reason: str = "",
    others: Mapping[TaskRow, tuple[Again, Spec]] = _NOTHING,
) -> None:
    """
    Record the *vote* of somebody on *rows*: `(by, choice, note, changes)`.

    *rows* are a question, or all tasks on hold for one. If the vote decides, *verdict*
    is that of `decide`, and *others* has new specs for the next attempts of some; else
    *verdict* is empty.

    Raises:
        InvalidTransitionError: The state machine forbids the transition of any of them:
            then nothing has changed.
    """
    for row in rows if verdict else ():
        _ask(kernel, row, VERDICTS[verdict], "decided", now)
    for row in rows:
        tell(kernel, QuestionAnswered, row, now, *vote)
        if row in others:
            _attempts.change(kernel, row, *others[row], now)
        if verdict:
            decide(kernel, row, verdict, now, reason)


def refuse_answer(
    kernel: KernelState, row: TaskRow, by: str, choice: str, why: str, now: int
) -> None:
    """Record that an answer to *row*, a question, does not count."""
    tell(kernel, AnswerRefused, row, now, by, choice, why)


def emit(kernel: KernelState, name: str, cargo: Any, keep_ns: int, now: int) -> int:
    """End the waits for an event from outside; return how many there were.

    If no task waits, the event is kept for *keep_ns* for later ones. The *cargo* is the
    driver's own, for `hand_over`.
    """
    rows = list(kernel.awaited.get(name, ()))
    until = now + keep_ns if keep_ns and not rows else 0
    kernel.note(EventEmitted, now, name, len(rows), until, cargo=cargo)
    if until:
        _ends.retain(kernel, RetainedEvent(name, kernel.seq, until, cargo))
    for row in rows:
        _ends.deliver(kernel, row, name, cargo, now)
        _ends.decide(kernel, now)
    _queue.ask_again(kernel)
    return len(rows)


# -- workers in other processes: signs of life, and the end of their leases ------------

# A worker with a lease names, in every sign of life, the attempts that it runs. A
# worker that is silent for its lease is lost, with all its attempts. An attempt that a
# living worker has not named for as long is missing. The lease is renewed as long as
# there are signs of life: a long duration is no sign of death.


def add(
    kernel: KernelState, info: Agent, now: int, *, goes_on: bool = False
) -> WorkerRow:
    """Add a worker; waiting tasks may start.

    A known name means that the worker has restarted: its attempts are lost, unless it
    *goes_on* and only changes its description.
    """
    row = kernel.workers.get(info.name)
    if row is None:
        row = kernel.workers[info.name] = WorkerRow(info)
    elif not goes_on:
        lose(kernel, row, now, "it has started anew")
    kernel.note(AgentJoined, now, info)
    row.describe(info)
    _units.of_worker(kernel, row)
    if row.watched:
        # The worker may have more capacity than before, or less.
        kernel.moved.append(row)
    row.round_trip = None
    if row.draining == GOING:
        row.draining = ""
    heard(kernel, row, now)
    return row


def heard(kernel: KernelState, worker: WorkerRow, now: int) -> None:
    """Note that *worker* has joined, for the first time or again."""
    worker.lost = False
    worker.heard_ns = now
    worker.lease_due_ns = 0
    kernel.workers_version += 1
    if worker.lease_ns:
        _check_at(kernel, worker, now + worker.lease_ns)
    _queue.unpark_all(kernel)


def go(kernel: KernelState, worker: WorkerRow) -> None:
    """Remove *worker*, which gets no work from now on."""
    worker.lost = True
    kernel.workers_version += 1
    _queue.unpark_all(kernel)


def beat(
    kernel: KernelState,
    name: str,
    attempts: Iterable[tuple[str, int]],
    now: int,
    round_trip: float | None = None,
) -> list[tuple[str, int]]:
    """Note a sign of life of a worker with a lease, and all its *attempts*.

    They are of this epoch, each a task and a number. Those that are no longer current
    are returned: the worker must stop them. *round_trip* is the time in seconds that an
    earlier sign took there and back, if known.
    """
    worker = kernel.workers[name]
    worker.heard_ns = now
    if round_trip is not None:
        worker.round_trip = round_trip
    if worker.lost:
        kernel.note(AgentReturned, now, worker.name)
        heard(kernel, worker, now)
    abandoned = []
    for task_id, attempt in attempts:
        row = kernel.tasks.get(task_id)
        leak = kernel.leaked.get((task_id, attempt))
        if leak is not None and leak.worker is worker:
            leak.seen_ns = now
        if row is None or row.attempt != attempt or row not in worker.seen:
            abandoned.append((task_id, attempt))
        else:
            worker.seen[row] = now
    return abandoned


def excuse(kernel: KernelState, now: int) -> None:
    """Give each worker a new lease, after a time in which no sign could be heard.

    The driver calls this before `tick` when it has not run for a while: it was stopped,
    or something delayed it. Workers that are lost already stay lost.
    """
    for worker in kernel.workers.values():
        if worker.lease_ns and not worker.lost:
            worker.heard_ns = now
            # Its attempts, and leaked ones, are not checked before that time either.
            _check_at(kernel, worker, now + worker.lease_ns)


def check(kernel: KernelState, worker: WorkerRow, now: int) -> None:
    """Check the lease of *worker*, or of an attempt there."""
    lease = worker.lease_ns
    if now - worker.heard_ns >= lease:
        lose(kernel, worker, now, f"no sign of life for {lease / 1e9:g} s")
        return
    for row, seen in list(worker.seen.items()):
        if now - seen >= lease:
            why = f"worker {worker.name} has not named it for {lease / 1e9:g} s"
            described = ("AttemptLostError", why)
            _attempts.end(kernel, row, row.attempt, "missing", now, None, described)
    oldest = min([worker.heard_ns, *worker.seen.values()])
    for (_, attempt), leak in list(kernel.leaked.items()):
        if leak.worker is worker and now - leak.seen_ns >= lease:
            _attempts.mend_leak(kernel, leak, attempt, now)
        elif leak.worker is worker:
            oldest = min(oldest, leak.seen_ns)
    _check_at(kernel, worker, oldest + lease)


def _check_at(kernel: KernelState, worker: WorkerRow, when: int) -> None:
    worker.lease_due_ns = when
    _queue.arm(kernel, when, LEASE, worker)


def lose(kernel: KernelState, worker: WorkerRow, now: int, why: str) -> None:
    """Apply that *worker* is lost: end its attempts, and give it no new work."""
    if not worker.lost:
        _end_all(kernel, worker, now, why, f"is lost: {why}", lambda _: "lost")


def leave(
    kernel: KernelState, name: str, unbegun: Collection[tuple[str, int]], now: int
) -> bool:
    """Remove a worker with a lease; return whether it was there.

    Its unfinished attempts go to other workers. It has never begun the attempts
    *unbegun* of this epoch, each a task and a number.
    """
    worker = kernel.workers[name]
    if worker.lost:
        return False

    def how(row: TaskRow) -> AttemptOutcome:
        # It has ended what it had begun, in order, so its leave counts as no crash.
        return "returned" if (row.id, row.attempt) in unbegun else "missing"

    _end_all(kernel, worker, now, "it has left", "has left", how)
    return True


def _end_all(
    kernel: KernelState,
    worker: WorkerRow,
    now: int,
    why: str,
    told: str,
    how: Callable[[TaskRow], AttemptOutcome],
) -> None:
    """End all attempts of *worker*, which is away, in the way *how*."""
    described = ("AttemptLostError", f"worker {worker.name} {told}")
    kernel.note(AgentLost, now, worker.name, why)
    go(kernel, worker)
    there = worker.seen if worker.lease_ns else kernel.tasks.values()
    for row in [row for row in there if row.worker is worker and is_under_way(row)]:
        _attempts.end(kernel, row, row.attempt, how(row), now, None, described)
    for (_, attempt), leak in list(kernel.leaked.items()):
        if leak.worker is worker:
            _attempts.mend_leak(kernel, leak, attempt, now)


# -- dependencies added later: a task waits for more parents than it was submitted with


_PENDING: Final = TaskState.PENDING
_BLOCKED: Final = TaskState.BLOCKED


def add_parents(
    kernel: KernelState, row: TaskRow, parents: Sequence[TaskRow], now: int
) -> tuple[TaskRow, ...]:
    """
    Make *row* wait for *parents* too; return the new ones.

    If it was cancelled while it waited, the new parents are for its next run.

    Raises:
        InvalidTransitionError: The task does not wait for other tasks any more.
        CycleError: One of *parents* waits for it, however indirectly.
    """
    _refuse_late(row)
    links = row.links
    # Parents are compared by id: a parent that has left memory gets another row each
    # time that it is named.
    known = {} if links is None else {parent.id: None for parent in links.parents}
    found = {parent.id: parent for parent in parents if parent.id not in known}
    fresh = tuple(found.values())
    way = _way(fresh, (row,))
    if way:
        _refuse((row.id, *[member.id for member in way[:-1]]))
    if not fresh:
        return ()
    ids = tuple(parent.id for parent in fresh)
    kernel.note(TaskParentsAdded, now, row.id, ids, cargo=row.cargo)
    extend(kernel, row, fresh)
    kernel.undecided.append((row, "it waits for more tasks now"))
    _ends.decide(kernel, now)
    return fresh


def extend(kernel: KernelState, row: TaskRow, parents: Sequence[TaskRow]) -> None:
    """Make *row* wait for *parents* too, and leave the effects to a later decision."""
    was_delayed = row.state is _PENDING and not _dependencies.is_waiting(row)
    links = _dependencies.links_of(row)
    if links.terms is not None:
        links.terms.joined = False
    _dependencies.attach(row, parents)
    if was_delayed and _dependencies.is_waiting(row):
        kernel.delayed -= 1


def can_wait(row: TaskRow) -> bool:
    """Return whether *row* waits for other tasks, or was cancelled while it did."""
    over = row.state in TERMINAL and row.state is not TaskState.CANCELLED
    return _dependencies.is_waiting(row) and not over


def _refuse_late(row: TaskRow) -> None:
    """
    Refuse a task that does not wait for others any more.

    Raises:
        InvalidTransitionError: The task does not wait.
    """
    if can_wait(row):
        return
    links = row.links
    was_let_go = links is not None and links.terms is not None and links.parents
    if row.state is _PENDING and not was_let_go:
        return
    msg = f"task {row.id} is {row.state}, and does not wait for other tasks any more"
    hint = "dependencies can be added while a task is pending"
    raise InvalidTransitionError(msg, hint=hint, task_id=row.id)


def refuse_rerun(
    rows: Iterable[TaskRow], rerun_id: str, parents: Sequence[TaskRow]
) -> None:
    """
    Refuse a re-run that would wait for a task that is to wait for it.

    For example, a clean-up may have run although a task above it was blocked. Once that
    task is no longer blocked, it may be made to wait for the clean-up.

    Args:
        rows: The run before, as it is listed among the parents of its dependents.
        rerun_id: The id of the re-run.
        parents: The tasks that it would wait for.

    Raises:
        CycleError: One of these waits for the task that is run again, however
            indirectly.
    """
    children = [child for row in rows for child in _hanging_on(row)]
    way = _way(parents, children)
    if way:
        hint = f"orch.cancel_task({way[-1].id!r}) first: it waits for what is run again"
        _refuse((rerun_id, *[member.id for member in way]), hint)


def _hanging_on(row: TaskRow) -> list[TaskRow]:
    """Return the dependents of *row* that will wait for its next run instead."""
    dependents = () if row.links is None else row.links.dependents
    return [child for child in dependents if _dependencies.hangs_on(child)]


def _refuse(ring: tuple[str, ...], hint: str | None = None) -> NoReturn:
    msg = f"tasks would wait for each other: {' → '.join((*ring, ring[0]))}"
    raise CycleError(msg, cycle=ring, hint=hint, task_id=ring[0])


def _way(starts: Sequence[TaskRow], goals: Sequence[TaskRow]) -> tuple[TaskRow, ...]:
    """Return a chain of tasks from one of *starts* to one of *goals*, or nothing.

    Each waits for the next, or may do so again. One search goes up from *starts*,
    another down from *goals*, by turns. The first that has seen all its tasks decides,
    so the cost is that of the smaller side.
    """
    ends = set(goals)
    for row in starts:
        if row in ends:
            return (row,)
    up = _search(starts, goals, _dependencies.may_wait_for)
    down = _search(goals, starts, _below)
    for search in cycle((up, down)):
        found = next(search)
        if found is not None:
            return found if search is up else found[::-1]
    raise AssertionError  # pragma: no cover - a search ends


def _below(row: TaskRow) -> Iterable[TaskRow]:
    """Return the tasks that wait for *row*, or will if they run again."""
    if row.links is None:
        return ()
    return filter(_dependencies.may_wait, row.links.dependents)


def _search(
    starts: Sequence[TaskRow],
    goals: Sequence[TaskRow],
    step: Callable[[TaskRow], Iterable[TaskRow]],
) -> Iterator[tuple[TaskRow, ...] | None]:
    """
    Look for a way from one of *starts* to one of *goals*.

    Yields:
        None for each task that was looked at, and at last the chain, or an empty one.
    """
    came: dict[TaskRow, TaskRow | None] = dict.fromkeys(starts)
    sought = dict.fromkeys(goals)
    todo = list(starts)
    while todo:
        row = todo.pop()
        for following in step(row):
            if following in came:
                continue
            came[following] = row
            if following in sought:
                way: list[TaskRow] = []
                last: TaskRow | None = following
                while last is not None:
                    way.append(last)
                    last = came[last]
                yield tuple(way[::-1])
            todo.append(following)
        yield None
    yield ()


def repoint(kernel: KernelState, row: TaskRow, rerun: TaskRow, now: int) -> None:
    """Make the dependents of *row*, which ended, depend on *rerun*."""
    if row.links is None or not row.links.dependents:
        return
    live = _hanging_on(row)
    names = tuple(child.id for child in live)
    kernel.note(TaskRepointed, now, row.id, rerun.id, names, cargo=row.cargo)
    turn(kernel, row, rerun, live, now)
    _ends.decide(kernel, now)


def turn(
    kernel: KernelState,
    row: TaskRow,
    rerun: TaskRow,
    dependents: Iterable[TaskRow],
    now: int,
) -> None:
    """Make the *dependents* of *row*, which has ended, depend on *rerun*."""
    _dependencies.links_of(row).dependents = ()
    for child in dependents:
        below = _dependencies.links_of(child)
        below.parents = tuple([rerun if p is row else p for p in below.parents])
        _dependencies.links_of(rerun).add_dependent(child)
        if _dependencies.has_only_ended_parents(child):
            kernel.undecided.append((child, f"{row.id} runs again"))
            continue
        if _dependencies.is_broken(rerun):
            _dependencies.blame(child, rerun)
        _dependencies.absolve(kernel, child, row.id, f"{row.id} runs again")
        if child.state is TaskState.PENDING:
            kernel.undecided.append((child, ""))
    if rerun.state is TaskState.COMPLETED:
        # The re-run is a wait whose event had come already.
        _dependencies.release(kernel, rerun, now)


# -- timers that are due ---------------------------------------------------------------


def tick(kernel: KernelState, now: int) -> None:
    """Fire the timers that are due by *now*, in order of time."""
    timers = kernel.timers
    while timers and timers[0][0] <= now:
        timer = heappop(timers)
        if _queue.is_alive(timer):
            _fire(kernel, timer, now)
        timers = kernel.timers


def _fire(kernel: KernelState, timer: Timer, now: int) -> None:
    _, _, kind, row, _ = timer
    if isinstance(row, WorkerRow):
        act = check if kind == LEASE else _breakers.probe
        act(kernel, row, now)
    elif isinstance(row, RetainedEvent):
        _ends.forget(kernel, row)
    elif isinstance(row, WindowRow):
        row.limit.wake(kernel, row, now)
    elif kind == TIMEOUT:
        _attempts.stop(kernel, row, "timeout", "the timeout is over", now)
    elif kind == GRACE:
        _attempts.give_up(kernel, row, now)
    elif kind == _queue.DUE:
        tell(kernel, TaskDue, row, now)
        if _dependencies.awaits(row):
            _ends.time_out(kernel, row, now)
        _ends.decide(kernel, now)
    elif kind == _queue.REMIND:
        terms, _ = terms_of_wait(row)
        tell(kernel, QuestionReminded, row, now, terms.reminded + 1)
    elif kind == _queue.DEADLINE:
        miss_deadline(kernel, row, now)
    else:
        expire_one(kernel, row, now, "it waited for longer than it may")
