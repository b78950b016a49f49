"""Effects of each event about a task on the state, each written once.

A command decides and calls `tell`; a fold reads an event. Both call the functions in
`APPLY`. An effect on other tasks is only noted, in `undecided`: see `_ends`.

`_quick` has the usual path of a task, written out for speed. Functions that get rows
apply a submission and events that name other tasks: `_admission.enter` and `settle`,
`_control.extend` and `turn`.

Decisions: events-and-recovery, test-suites.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection
from typing import Any, Final, cast

from taskorch.core.kernel import (
    _breakers,
    _dependencies,
    _limits,
    _queue,
)
from taskorch.core.kernel._history import remember, row_extra
from taskorch.core.kernel._rows import (
    DEPENDENCY,
    LESS,
    Awaited,
    Bucket,
    Leak,
    RowExtra,
    Share,
    Spec,
    Stop,
    TaskRow,
    Terms,
    WorkerRow,
    beside,
    budgeting,
    without_beside,
)
from taskorch.core.kernel._state import GRACE, MANY, TIMEOUT, KernelState
from taskorch.events import (
    AllocationChanged,
    AnswerRefused,
    AttemptReturned,
    AttemptStopping,
    AttemptWaiting,
    BudgetSpent,
    Event,
    QuestionAnswered,
    QuestionReminded,
    SlotLeaked,
    SlotRecovered,
    TaskBlocked,
    TaskCancelled,
    TaskCompleted,
    TaskDue,
    TaskFailed,
    TaskOptionsChanged,
    TaskRecalled,
    TaskReleased,
    TaskReprioritised,
    TaskResumed,
    TaskRetrying,
    TaskSuspended,
    TaskUnblocked,
    make,
)
from taskorch.model import Elasticity, TaskState, Units, is_for_people

_S: Final = TaskState

#: The usual reason why a stopped program runs again.
CONTINUED: Final = "continued"
#: The cause of a block: the worker or function of the task is missing.
GONE: Final = "gone"
#: The cause of a block, and of its end: the task waits for an event.
EVENT: Final = "event"
#: The cause of a block: the retry handler, or a policy, asks a person.
ASKED: Final = "asked"
#: The cause of a block: policies deny the start of the task.
DENIED: Final = "policy"
#: The type of the error of a task about whose start people are asked, and the beginning
#: of the question.
ASKS: Final = "PolicyAskedError"
ASKING: Final = "policies ask whether it may start: "
#: The beginning of the reason with which rules, not people, release a task on hold.
ALLOWED: Final = "policies allow it to start"
#: Causes of a failure that count against the record of the worker, if the task ran.
_WORKERS_FAULT: Final = ("error", "timeout", "deadline", "component")
#: Causes of a failure that say how often attempts of a type fail.
_SAMPLED: Final = ("error", "timeout")
#: Errors that are a result of the work and no fault of its worker, such as the failed
#: criteria of a test suite.
_RESULTS: Final = ("CriteriaNotMetError",)
#: Reasons to stop: a stronger one replaces a weaker.
_STRENGTH: Final[dict[Stop, int]] = {
    "": 0,
    "suspend": 1,
    "timeout": 2,
    "deadline": 3,
    "cancel": 4,
}


def tell(
    kernel: KernelState,
    cls: type[Event],
    row: TaskRow,
    now: int,
    *fields: Any,
    **others: Any,
) -> None:
    """
    Record an event about *row*, and let the state follow it.

    *others* are fields for listeners only.
    """
    kernel.note(cls, now, row.id, *fields, cargo=row.cargo, **others)
    APPLY[cls](kernel, row, make((cls, kernel.seq, now, row.id, *fields)))


# -- an attempt --------------------------------------------------------------------


def begin(
    kernel: KernelState,
    row: TaskRow,
    worker: WorkerRow,
    alloc: Units,
    reason: str,
    now: int,
    units: Units = (),
) -> None:
    """Begin an attempt of *row*, which has left the queue, on *worker*.

    It holds *alloc*, and *units* of the resources with named units.
    """
    row.state = _S.RUNNING
    row.started_ns = now
    row.attempt += 1
    row.worker = worker
    row.reason = reason
    worker.running += 1
    if worker.watched:
        kernel.moved.append(worker)
    kernel.running += 1
    kernel.active += 1
    share = row.bucket.share
    if share is not None:
        # Its end takes the general path, which gives back to the share.
        row_extra(row).share = share
        assert kernel.shares is not None  # noqa: S101 - there is a share
        kernel.shares.served += 1
        share.served = kernel.shares.served
        _queue.hold(kernel, share, alloc, 1)
    if kernel.reserving is not None:
        # A reservation must know the resources of each elastic task.
        row_extra(row)
        kernel.reserving.under_way[row] = None
    for limit in row.bucket.limits:
        alloc += limit.begins(kernel, row)
    alloc += units
    if alloc:
        row.alloc = alloc
        _limits.acquire(kernel, worker, alloc)
        if row.bucket.spec.elastic is not None:
            kernel.holders[row] = False
    if (
        row.extra is not None
        or row.bucket.spec.timeout_ns is not None
        or worker.lease_ns
        or worker.info.breaker is not None
    ):
        watch(kernel, row, worker, now)


def watch(kernel: KernelState, row: TaskRow, worker: WorkerRow, now: int) -> None:
    """Note the parts of a start that few tasks have: history, timeout and lease."""
    timeout = row.bucket.spec.timeout_ns
    extra = row_extra(row)
    extra.returned_ns = 0
    if worker.lease_ns:
        worker.seen[row] = now
    if worker.breakers:
        _breakers.began(kernel, worker, row)
    if extra.past is not None:
        extra.past.append((_S.RUNNING, now, worker.name))
    if timeout is not None:
        extra.limit_ns = timeout
        extra.timer = now + timeout
        _queue.arm(kernel, extra.timer, TIMEOUT, row, row.attempt)


def _stays(kernel: KernelState, row: TaskRow, attempt: int) -> None:
    for limit in row.bucket.limits:
        limit.stays(kernel, row, attempt)


def _goes_on(kernel: KernelState, row: TaskRow, attempt: int) -> None:
    for limit in row.bucket.limits:
        limit.goes_on(kernel, row, attempt)


def _hold(kernel: KernelState, row: TaskRow) -> None:
    """Update the holders of elastic resources, since *row* has another bucket."""
    learns = kernel.holders.pop(row, False)
    if row.bucket.spec.elastic is not None and row.alloc:
        kernel.holders[row] = learns


def is_under_way(row: TaskRow) -> bool:
    """Return whether an attempt of *row* is under way: it runs, or is stopped in it."""
    if row.state is _S.SUSPENDED:
        return row.extra is not None and row.extra.held
    return row.state is _S.RUNNING and not (row.extra and row.extra.returned_ns)


def worker_of(row: TaskRow) -> WorkerRow:
    """Return the worker on which *row* runs or has run."""
    assert row.worker is not None  # noqa: S101 - `begin` sets it
    return row.worker


def began_ns(row: TaskRow) -> int:
    """Return the time at which the first attempt of the running *row* began."""
    return row.started_ns if row.attempt == 1 else row_extra(row).first_ns


def _free(kernel: KernelState, row: TaskRow, cause: str = "") -> None:
    """Free the resources of *row*, if one of its attempts is under way.

    The *cause* of the end decides how much counts as spent.
    """
    if not is_under_way(row) or (row.id, row.attempt) in kernel.leaked:
        return
    alloc, slots, share = _take_away(kernel, row)
    row_extra(row).held = False
    for limit in row.bucket.limits:
        limit.ends(kernel, row, alloc, cause)
    _give_back(kernel, worker_of(row), alloc, slots, share)


def _take_away(kernel: KernelState, row: TaskRow) -> tuple[Units, int, Share | None]:
    """Take from *row* all that it holds; return it, its slots and its share."""
    kernel.holders.pop(row, None)
    if kernel.reserving is not None:
        del kernel.reserving.under_way[row]
    extra, worker = row_extra(row), worker_of(row)
    extra.first_ns = began_ns(row)
    if worker.seen:
        worker.seen.pop(row, None)
    if worker.breakers:
        _breakers.let_go(kernel, worker, row)
    # An attempt that waits for another task has given its slot back, and keeps its
    # resources.
    slots = 0 if extra.yielded else 1
    extra.yielded = False
    for limit in row.bucket.limits:
        limit.goes_on(kernel, row, row.attempt)
    alloc, row.alloc = row.alloc, ()
    share, extra.share = extra.share, None
    return alloc, slots, share


def _give_back(
    kernel: KernelState,
    worker: WorkerRow,
    alloc: Units,
    slots: int,
    share: Share | None,
) -> None:
    """Free the resources of an attempt, and wake the tasks that wait for them."""
    kernel.running -= slots
    worker.running -= slots
    if worker.watched:
        kernel.moved.append(worker)
    if share is not None:
        _queue.hold(kernel, share, alloc, slots, -1)
    _limits.release(kernel, worker, alloc)
    if slots and worker.slots.heap:
        _queue.wake(kernel, worker.slots)
    if slots and "" in worker.short:
        _queue.wake_some(kernel, worker.short[""])
    _queue.ask_again(kernel)


def _failed_on_worker(
    kernel: KernelState, row: TaskRow, error_type: str, now: int
) -> None:
    """Count a failed attempt of *row*, against its worker if that may be to blame."""
    worker = worker_of(row)
    worker.failed += 1
    if worker.watched:
        kernel.moved.append(worker)
    is_result = error_type in _RESULTS
    if worker.info.breaker is not None:
        _breakers.ended(worker, row, now, failed=not is_result)
    elif not is_result:
        _breakers.fell(worker, row, now)
    if not is_result:
        kernel.record(worker, row.bucket.spec.type).failed += 1


def _note_failing(row: TaskRow, cause: str, now: int, *, retried: bool) -> None:
    """Note how long the attempt of *row* took to fail, unless it was lost before."""
    if row.state is _S.RUNNING and cause in _SAMPLED:
        tries = row_extra(row).charged
        row.bucket.type_row.note_failing(row.started_ns, now, tries, retried=retried)


def retrying(kernel: KernelState, row: TaskRow, event: TaskRetrying) -> None:
    """Apply that *row* is tried again: after a delay, at once, or when resumed."""
    now = event.at_ns
    extra = row_extra(row)
    if row.state is _S.QUEUED:
        _queue.remove(kernel, row)
    if event.charged:
        extra.charged += 1
        extra.last_delay_ns = event.delay_ns
        kernel.retries_scheduled += 1
        _failed_on_worker(kernel, row, event.error_type, now)
        _note_failing(row, event.cause, now, retried=True)
    if event.cause == "lost":
        extra.crashes += 1
    if event.cause != "stopped":
        extra.error = (event.error_type, event.message, event.cause)
        extra.failure_class, extra.usage = event.failure_class, event.usage
    _free(kernel, row, event.cause)
    extra.stop = ""
    kernel.move(row, _S.RETRYING, now, event.reason)
    if extra.suspending:
        extra.resume_ns = event.delay_ns
    elif event.delay_ns:
        extra.due_ns = now + event.delay_ns
        kernel.delayed += 1
        _queue.arm(kernel, extra.due_ns, _queue.DUE, row)
    else:
        _queue.requeue(kernel, row, now)


def stopping(kernel: KernelState, row: TaskRow, event: AttemptStopping) -> None:
    """Apply that the attempt of *row* is to stop, if the new reason is stronger."""
    why, now = cast("Stop", event.why), event.at_ns
    extra = row_extra(row)
    if why == "suspend":
        extra.suspending = True
    if not is_stronger(why, extra.stop):
        return
    extra.stop = why
    extra.stop_reason = event.reason
    if why != "suspend":
        when = now + kernel.config.grace_ns
        _queue.arm(kernel, when, GRACE, row, row.attempt)


def is_stronger(why: Stop, other: Stop) -> bool:
    """Return whether the reason to stop *why* replaces *other*."""
    return _STRENGTH[why] > _STRENGTH[other]


def waiting(kernel: KernelState, row: TaskRow, event: AttemptWaiting) -> None:
    """Apply that the attempt waits and gives up its slot, or all that it holds."""
    extra = row_extra(row)
    if event.returned:
        if (worker := worker_of(row)).info.breaker is not None:
            _breakers.ended(worker, row, event.at_ns, failed=False)
        _free(kernel, row)
        extra.returned_ns, extra.timer = event.at_ns, 0
        return
    extra.yielded = True
    _stays(kernel, row, row.attempt)
    _give_back(kernel, worker_of(row), (), 1, extra.share)


def returned(kernel: KernelState, row: TaskRow, _event: AttemptReturned) -> None:
    """Apply that the attempt of *row* has a slot again."""
    extra = row_extra(row)
    extra.yielded = False
    _goes_on(kernel, row, row.attempt)
    if extra.share is not None:
        _queue.hold(kernel, extra.share, (), 1)
    kernel.running += 1
    worker = worker_of(row)
    worker.running += 1
    if worker.watched:
        kernel.moved.append(worker)


def slot_leaked(kernel: KernelState, row: TaskRow, event: SlotLeaked) -> None:
    """Keep all that the attempt holds in use, apart from the row of its task."""
    worker = worker_of(row)
    worker.leaked += 1
    alloc, slots, share = _take_away(kernel, row)
    leak = Leak(worker, alloc, row, slots, event.at_ns, share)
    kernel.leaked[row.id, event.attempt] = leak
    _stays(kernel, row, event.attempt)
    if kernel.config.waits_for_better:
        # Tasks that wait for a slot of this worker might wait in vain: its attempt
        # may never end.
        _queue.unpark_all(kernel)


def slot_recovered(kernel: KernelState, row: TaskRow, event: SlotRecovered) -> None:
    """Free a leaked slot, since its attempt has ended after all."""
    leak = kernel.leaked.pop((row.id, event.attempt))
    for limit in row.bucket.limits:
        limit.ends(kernel, row, leak.alloc, "leaked")
    _goes_on(kernel, row, event.attempt)
    leak.worker.leaked -= 1
    _give_back(kernel, leak.worker, leak.alloc, leak.slots, leak.share)


def allocation_changed(
    kernel: KernelState, row: TaskRow, event: AllocationChanged
) -> None:
    """Apply that the attempt holds more or less, and wake tasks that can use it."""
    worker, after = worker_of(row), dict(event.after)
    # The present amounts differ from `before` if events of quotas are not folded.
    before = dict(without_beside(row.alloc))
    row.alloc = (*event.after, *beside(row.alloc))
    # Of what it holds, the latest reason counts.
    row.reason = row.reason.partition(LESS)[0]
    if any(after.get(name, 0) < units for name, units in row.bucket.spec.resources):
        row.reason += f"{LESS}{event.reason or 'no reason given'}"
    more, less = _above(after, before), _above(before, after)
    share = None if row.extra is None else row.extra.share
    if share is not None:
        _queue.hold(kernel, share, more, 0)
        _queue.hold(kernel, share, less, 0, -1)
    if worker.watched:
        kernel.moved.append(worker)
    _limits.acquire(kernel, worker, more)
    if less:
        _limits.release(kernel, worker, less)
        _queue.ask_again(kernel)


def _above(one: dict[str, int], other: dict[str, int]) -> Units:
    """Return the units by which *one* exceeds *other*, of each resource."""
    more = [(name, units - other.get(name, 0)) for name, units in one.items()]
    return tuple([pair for pair in more if pair[1] > 0])


# -- the end -----------------------------------------------------------------------


def completed(kernel: KernelState, row: TaskRow, event: TaskCompleted) -> None:
    """Apply the event: see `complete`."""
    complete(kernel, row, event.latency_ns, event.reason, event.at_ns)


def complete(
    kernel: KernelState, row: TaskRow, latency_ns: int, reason: str, now: int
) -> None:
    """Complete *row*."""
    extra = row_extra(row)
    ran = row.state is _S.RUNNING
    if ran and is_under_way(row) and worker_of(row).info.breaker is not None:
        _breakers.ended(worker_of(row), row, now, failed=False)
    _free(kernel, row)
    extra.stop = ""
    extra.suspending = extra.decision = False
    if ran:
        worker = worker_of(row)
        worker.completed += 1
        kernel.record(worker, row.bucket.spec.type).add(latency_ns)
        row.bucket.type_row.samples.append(
            (
                row.submitted_ns,
                row.ready_ns,
                row.started_ns,
                row.started_ns + latency_ns,
            )
        )
        if extra.charged:
            kernel.retries_recovered += 1
    row.bucket.type_row.completed += 1
    _end_waits(kernel, row)
    row.ended_ns = now
    if extra.past is None and not reason:
        # This is `move` without a history entry, since the usual history implies this
        # one.
        kernel.active -= 1
        kernel.completed += 1
        row.state = _S.COMPLETED
    else:
        kernel.move(row, _S.COMPLETED, now, reason)
    if row.links is not None:
        row.links.parents = ()
        _dependencies.release(kernel, row, now)
    is_told = extra.priority or extra.rerun_of or extra.paid is not None
    if extra.past is None and not is_told:
        # The extra fields were for a timeout, a date or the like: nobody asks for them
        # now.
        row.extra = None
    _finish(kernel, row)


def failed(kernel: KernelState, row: TaskRow, event: TaskFailed) -> None:
    """Apply that *row* is FAILED."""
    cause, message = event.cause, event.message
    extra = row_extra(row)
    if row.state is _S.QUEUED:
        _queue.remove(kernel, row)
    if row.state is _S.RUNNING and cause in _WORKERS_FAULT:
        _failed_on_worker(kernel, row, event.error_type, event.at_ns)
    if event.charged:
        extra.charged += 1
        if extra.charged > 1 and cause != "component":
            kernel.retries_exhausted += 1
        _note_failing(row, cause, event.at_ns, retried=False)
    if cause == "poisoned":
        extra.crashes += 1
    _free(kernel, row, event.cause)
    extra.error = (event.error_type, message, cause)
    extra.failure_class, extra.usage = event.failure_class, event.usage
    extra.stop = ""
    pass_on(extra, event.root_causes)
    type_row = row.bucket.type_row
    type_row.failed += 1
    failures = type_row.failures
    failures[event.error_type] = failures.get(event.error_type, 0) + 1
    kernel.causes[cause] = kernel.causes.get(cause, 0) + 1
    _end_badly(kernel, row, _S.FAILED, message, event.at_ns)


def cancelled(kernel: KernelState, row: TaskRow, event: TaskCancelled) -> None:
    """Apply that *row* is CANCELLED; for a skipped one, *roots* are first causes."""
    extra = row_extra(row)
    if row.state is _S.QUEUED:
        _queue.remove(kernel, row)
    _free(kernel, row, "cancelled")
    extra.stop = ""
    extra.stop_reason = event.reason
    pass_on(extra, event.root_causes)
    row.bucket.type_row.cancelled += 1
    _end_badly(kernel, row, _S.CANCELLED, event.reason, event.at_ns)


def pass_on(extra: RowExtra, roots: tuple[str, ...]) -> None:
    """Note that a task ends because of its parents, and keep only the *roots*."""
    if roots:
        extra.first_roots = roots
        extra.blocked_by = {}


def _end_badly(
    kernel: KernelState, row: TaskRow, state: TaskState, detail: str, now: int
) -> None:
    row_extra(row).decision = False
    _end_waits(kernel, row)
    row.ended_ns = now
    kernel.move(row, state, now, detail)
    _dependencies.broke(kernel, row, now)
    _finish(kernel, row)


def _end_waits(kernel: KernelState, row: TaskRow) -> None:
    """Clear all waits of *row*, which ends: for a time, an event or an answer."""
    kernel.asked.pop(row, None)
    kernel.denied.pop(row, None)
    _forget_delay(kernel, row)
    if not _dependencies.awaits(row):
        return
    terms, (name, _, _) = terms_of_wait(row)
    terms.awaits = False
    if name is not None:
        rows = kernel.awaited[name]
        del rows[row]
        if not rows:
            del kernel.awaited[name]


def _forget_delay(kernel: KernelState, row: TaskRow) -> None:
    """Clear a delay of *row*, or the time limit of its wait."""
    if _dependencies.is_delayed(row):
        kernel.delayed -= 1
    row_extra(row).due_ns = 0


def _finish(kernel: KernelState, row: TaskRow) -> None:
    kernel.touched.append((row, row.cargo))
    kernel.finished.append(row)
    if len(kernel.finished) > kernel.keep:
        evict(kernel)


def evict(kernel: KernelState) -> None:
    """Remove the oldest finished task from memory."""
    _leave(kernel, kernel.finished.popleft())


def evict_rows(kernel: KernelState, rows: Collection[TaskRow]) -> None:
    """Remove finished tasks from memory, wherever they stand among the others."""
    kernel.finished = deque(row for row in kernel.finished if row not in rows)
    for row in rows:
        _leave(kernel, row)


def _leave(kernel: KernelState, row: TaskRow) -> None:
    tasks = kernel.tasks
    if len(tasks) > kernel.most_tasks:
        kernel.most_tasks = len(tasks)
    elif len(tasks) < kernel.most_tasks >> 3 and kernel.most_tasks > MANY:
        # A dict keeps its size after removals, so it is made anew; with few tasks that
        # is cheap.
        kernel.tasks = tasks = dict(tasks)
        kernel.most_tasks = max(MANY, len(tasks))
    del tasks[row.id]
    kernel.evicted.add(row.id, row.state, named=row.named)
    if row.links is not None or row.named:
        # The driver may have to drop its cargo, or to record something.
        kernel.dropped.append(row)
    else:
        row.cargo = None


# -- on hold, and released ----------------------------------------------------------


def blocked(kernel: KernelState, row: TaskRow, event: TaskBlocked) -> None:
    """Apply that *row* is BLOCKED: by its parents, by an event, or until a decision."""
    cause, reason, now = event.cause, event.reason, event.at_ns
    extra = row_extra(row)
    kernel.touched.append((row, row.cargo))
    if cause == DEPENDENCY:
        extra.first_roots = event.root_causes
        by = ", ".join(event.blocked_by)
        kernel.move(row, _S.BLOCKED, now, f"{by} did not complete")
        _dependencies.broke(kernel, row, now)
        return
    if cause == EVENT:
        _await(kernel, row, reason, now)
        return
    if row.state is _S.QUEUED:
        _queue.remove(kernel, row)
    if cause == "lost":
        extra.crashes += 1
    extra.error = (event.error_type, event.message, cause)
    _free(kernel, row, cause)
    extra.decision = True
    extra.suspending = False
    extra.stop = ""
    # It may have waited for parents until now. A missing worker or function may return,
    # and then the task waits as before.
    if cause in (GONE, DENIED) or event.error_type == ASKS:
        extra.blocked_by = {}
    else:
        _dependencies.detach(row)
    if cause == ASKED:
        kernel.asked[row] = None
    elif cause == DENIED:
        kernel.denied[row] = None
    kernel.move(row, _S.BLOCKED, now, reason)


def _await(kernel: KernelState, row: TaskRow, reason: str, now: int) -> None:
    """Move *row* to BLOCKED until its event comes or its time is over."""
    terms, (name, timeout, _) = terms_of_wait(row)
    terms.awaits = True
    extra = row_extra(row)
    extra.decision = True
    if name is not None:
        kernel.awaited.setdefault(name, {})[row] = None
        if is_for_people(name):
            kernel.asked[row] = None
    kernel.move(row, _S.BLOCKED, now, reason)
    if timeout is not None:
        extra.due_ns = now + timeout
        kernel.delayed += 1
        _queue.arm(kernel, extra.due_ns, _queue.DUE, row)
    _arm_reminder(kernel, row, terms, now)


def _arm_reminder(kernel: KernelState, row: TaskRow, terms: Terms, now: int) -> None:
    if terms.remind_ns:
        terms.remind_at_ns = now + terms.remind_ns
        _queue.arm(kernel, terms.remind_at_ns, _queue.REMIND, row)


def reminded(kernel: KernelState, row: TaskRow, event: QuestionReminded) -> None:
    """Apply that people were reminded of the question *row*, and set the next time."""
    terms, _ = terms_of_wait(row)
    terms.reminded = event.times
    _arm_reminder(kernel, row, terms, event.at_ns)


def answered(kernel: KernelState, row: TaskRow, event: QuestionAnswered) -> None:
    """Apply an answer to the question *row*, or about a task on hold."""
    if _dependencies.awaits(row):
        terms, _wait = terms_of_wait(row)
        terms.votes += ((event.by, event.choice),)
        # A live event has no caller in its fields; a folded one has no caller in the
        # kernel.
        if who := event.caller or kernel.caller:
            terms.proved += (who,)
    remember(row, row.state, event.at_ns, f"{event.choice!r} by {event.by}")


def answer_refused(_: KernelState, row: TaskRow, event: AnswerRefused) -> None:
    """Apply that an answer to the question *row* does not count."""
    said = f"{event.choice!r} by {event.by} does not count: {event.why}"
    remember(row, row.state, event.at_ns, said)


def terms_of_wait(row: TaskRow) -> tuple[Terms, Awaited]:
    """Return the terms of the wait *row*, and the event that it waits for."""
    terms = _dependencies.links_of(row).terms
    assert terms is not None  # noqa: S101 - a wait has terms
    assert terms.wait is not None  # noqa: S101 - of this kind
    return terms, terms.wait


def rules_ask(row: TaskRow) -> bool:
    """Return whether *row*, which asks people, was put on hold by a rule."""
    error = None if row.extra is None else row.extra.error
    # The type alone is not enough: an error of the user may have the same name.
    return error is not None and error[0] == ASKS and error[1].startswith(ASKING)


def unblocked(kernel: KernelState, row: TaskRow, event: TaskUnblocked) -> None:
    """Apply that no parent blocks *row*: it may run, or waits as before."""
    extra, reason, now = row_extra(row), event.reason, event.at_ns
    if not extra.decision:
        _dependencies.unblock(kernel, row, reason, now)
        return
    extra.decision = False
    kernel.asked.pop(row, None)
    kernel.denied.pop(row, None)
    error = extra.error
    if error is not None and error[0] == ASKS and not reason.startswith(ALLOWED):
        extra.permitted = error[1].removeprefix(ASKING)
    if error is not None and (error[2] in (GONE, DENIED) or error[0] == ASKS):
        extra.error = None
    if row.attempt or row.links is None or row.links.terms is None:
        _queue.requeue(kernel, row, now, reason)
        return
    # It is not queued at once: its `not_before` may be to come, or it may be a wait.
    kernel.move(row, _S.PENDING, now, reason)
    if not _dependencies.is_waiting(row):
        _dependencies.ready(kernel, row, now)
        return
    _dependencies.blame_anew(row)
    kernel.undecided.append((row, ""))


def released(kernel: KernelState, row: TaskRow, event: TaskReleased) -> None:
    """Apply that the join of *row*, which has terms, holds."""
    _dependencies.detach(row)
    _dependencies.ready(kernel, row, event.at_ns)


def recalled(kernel: KernelState, row: TaskRow, event: TaskRecalled) -> None:
    """Apply that *row*, released since all parents ended, waits for them again."""
    links = _dependencies.links_of(row)
    if row.state is _S.QUEUED:
        _queue.remove(kernel, row)
        kernel.move(row, _S.PENDING, event.at_ns, event.reason)
    elif row.state is _S.PENDING:
        # It waited only for its `not_before`, and so was counted as delayed.
        kernel.delayed -= 1
    assert links.terms is not None  # noqa: S101 - that is its join
    links.terms.joined = False
    links.waiting = sum(parent.state is not _S.COMPLETED for parent in links.parents)
    _dependencies.blame_anew(row)


def due(kernel: KernelState, row: TaskRow, event: TaskDue) -> None:
    """Apply that a delay of *row* is over."""
    _forget_delay(kernel, row)
    if row.state is _S.RETRYING:
        _queue.requeue(kernel, row, event.at_ns)
    elif row.state is _S.PENDING and not _dependencies.is_waiting(row):
        _dependencies.ready(kernel, row, event.at_ns)


# -- by a person -------------------------------------------------------------------


def suspended(kernel: KernelState, row: TaskRow, event: TaskSuspended) -> None:
    """Apply that *row* is suspended: before, during or after an attempt."""
    now = event.at_ns
    extra = row_extra(row)
    if event.held:
        # It keeps its slot and resources, and its timeout stops running.
        extra.suspending = extra.held = True
        extra.left_ns = max(1, extra.timer - now) if extra.timer else 0
        extra.timer = 0
        _stays(kernel, row, row.attempt)
        kernel.move(row, _S.SUSPENDED, now, "stopped where it stands")
    elif row.state is _S.RUNNING or extra.suspending:
        asked = "as it was asked to while it ran"
        detail = "at a checkpoint" if row.state is _S.RUNNING else asked
        _free(kernel, row)
        extra.suspending = False
        extra.stop = ""
        kernel.move(row, _S.SUSPENDED, now, detail)
    else:
        if row.state is _S.QUEUED:
            _queue.remove(kernel, row)
        when = extra.due_ns
        _forget_delay(kernel, row)
        # Its delay and its wait stop running; `resume_ns` keeps the time that is left.
        extra.resume_ns = max(1, when - now) if when else 0
        kernel.move(row, _S.SUSPENDED, now, "by the user")


def resumed(kernel: KernelState, row: TaskRow, event: TaskResumed) -> None:
    """Apply that *row* is resumed; another event follows if its parents block it."""
    extra = row_extra(row)
    if event.held:
        _continue_attempt(kernel, row, event.reason, event.at_ns)
    elif row.state is _S.RUNNING:
        # It has not reached a checkpoint yet, so it is simply no longer to be
        # suspended.
        extra.suspending = False
        if extra.stop == "suspend":
            extra.stop = ""
    else:
        _resume_unstarted(kernel, row, event.at_ns)


def _continue_attempt(kernel: KernelState, row: TaskRow, reason: str, now: int) -> None:
    """Continue the attempt of *row* that was stopped in place."""
    extra = row_extra(row)
    kernel.move(row, _S.RUNNING, now, reason)
    if reason != CONTINUED:
        # The attempt ended while it was held: another event follows.
        return
    extra.held = extra.suspending = False
    _goes_on(kernel, row, row.attempt)
    if extra.left_ns:
        extra.timer = now + extra.left_ns
        _queue.arm(kernel, extra.timer, TIMEOUT, row, row.attempt)


def _resume_unstarted(kernel: KernelState, row: TaskRow, now: int) -> None:
    extra = row_extra(row)
    state = state_after_resume(row, extra)
    left, extra.resume_ns = extra.resume_ns, 0
    if left:
        extra.due_ns = now + left
        _queue.arm(kernel, extra.due_ns, _queue.DUE, row)
    if state is _S.QUEUED:
        _queue.requeue(kernel, row, now)
    elif state is not _S.BLOCKED or _dependencies.awaits(row):
        kernel.move(row, state, now, "resumed")
        kernel.delayed += 1 if left and not _dependencies.is_waiting(row) else 0


def state_after_resume(row: TaskRow, extra: RowExtra) -> TaskState:
    """Return the state that the suspended *row* has after it is resumed."""
    terms = None if row.links is None else row.links.terms
    if terms is not None and terms.awaits:
        return _S.BLOCKED
    if terms is not None and terms.wait is not None:
        return _S.PENDING
    if extra.blocked_by and terms is None:
        return _S.BLOCKED
    if row.attempt and extra.resume_ns:
        return _S.RETRYING
    if _dependencies.is_waiting(row) or extra.resume_ns:
        return _S.PENDING
    return _S.QUEUED


def reprioritised(kernel: KernelState, row: TaskRow, event: TaskReprioritised) -> None:
    """Apply that *row* has another place in the queue."""
    row_extra(row).priority = event.priority
    replace(kernel, row, event.key)


def options_changed(
    kernel: KernelState, row: TaskRow, event: TaskOptionsChanged
) -> None:
    """Apply the new options of *row*; their effects are events of their own."""
    extra = row_extra(row)
    before = row.bucket.spec.timeout_ns
    if "timeout" in event.changed:
        # A timeout that follows a failure is the choice of a policy; any other is
        # stated.
        is_chosen = bool(event.reason) and row.state is not _S.BLOCKED
        first = extra.first_timeout_ns or before or 0
        extra.first_timeout_ns = first if is_chosen else 0
    spec = Spec(
        row.bucket.spec.type,
        event.requires,
        event.resources,
        event.timeout_ns,
        event.idempotent,
        event.owner,
        cast("Elasticity | None", event.elastic),
        avoid=event.avoid,
        # The paths that it may write, and its budget, cannot change.
        writes=row.bucket.spec.writes,
        budget=row.bucket.spec.budget,
        spends=event.spends,
        allow_failure=row.bucket.spec.allow_failure,
    )
    extra.priority = event.priority
    replace(kernel, row, event.key, _queue.bucket_of(kernel, spec))
    if event.due_ns is not None:
        extra.due_ns = event.due_ns
        _queue.arm(kernel, event.due_ns, _queue.DUE, row)
    if event.deadline_ns != extra.deadline_ns:
        extra.deadline_ns = event.deadline_ns
        if event.deadline_ns is not None:
            _queue.arm(kernel, event.deadline_ns, _queue.DEADLINE, row)
    changed = ", ".join(event.changed)
    why = f" ({event.reason})" if event.reason else ""
    remember(row, row.state, event.at_ns, f"options changed: {changed}{why}")


def replace(
    kernel: KernelState, row: TaskRow, key: Any, bucket: Bucket | None = None
) -> None:
    """Give *row* its place in the queue, or in that of other tasks."""
    is_queued = row.state is _S.QUEUED
    if is_queued:
        _queue.remove(kernel, row)
    row.key = key
    if bucket is not None:
        row.bucket = _queue.bucket_for(kernel, row.run, bucket)
        _hold(kernel, row)
    if is_queued:
        _queue.enqueue(kernel, row, again=True)


def spent(kernel: KernelState, row: TaskRow, event: BudgetSpent) -> None:
    """Apply the amounts that the attempt of *row* has spent."""
    budgeting().count(kernel, row, event.spent)


#: The functions, by the class of the event.
APPLY: Final[dict[type[Event], Callable[..., None]]] = {
    AllocationChanged: allocation_changed,
    AnswerRefused: answer_refused,
    QuestionAnswered: answered,
    QuestionReminded: reminded,
    AttemptReturned: returned,
    AttemptStopping: stopping,
    AttemptWaiting: waiting,
    BudgetSpent: spent,
    SlotLeaked: slot_leaked,
    SlotRecovered: slot_recovered,
    TaskBlocked: blocked,
    TaskCancelled: cancelled,
    TaskCompleted: completed,
    TaskDue: due,
    TaskFailed: failed,
    TaskOptionsChanged: options_changed,
    TaskRecalled: recalled,
    TaskReleased: released,
    TaskReprioritised: reprioritised,
    TaskResumed: resumed,
    TaskRetrying: retrying,
    TaskSuspended: suspended,
    TaskUnblocked: unblocked,
}
