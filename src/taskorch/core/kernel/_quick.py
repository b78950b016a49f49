"""
The usual path of a task, written out for speed, and turns by shares.

Decisions: kernel, queue-and-routing.
"""

from __future__ import annotations

from functools import partial
from heapq import heappop, heappush, heapreplace
from typing import Any, Final

from taskorch.core.kernel import (
    _admission,
    _application,
    _attempts,
    _dependencies,
    _dispatch,
    _ends,
    _limits,
    _queue,
    _reservation,
)
from taskorch.core.kernel._deciders import PolicyFault
from taskorch.core.kernel._rows import (
    Bucket,
    Entry,
    RowExtra,
    Share,
    SharedTime,
    TaskRow,
    WorkerRow,
    budgeting,
)
from taskorch.core.kernel._state import KernelState
from taskorch.events import TaskCompleted
from taskorch.kit.limits import EWMA_WEIGHT
from taskorch.model import TaskState

# -- choice of the next tenant, if the queue ranks them --------------------------------

# A queue with a method `standing` ranks each tenant by the resources held for it. The
# lowest standing is served first, and of equals the tenant that was served longest ago,
# so that none waits for ever. Keys order the tasks of one tenant, as always. The queue
# is asked about a tenant once something has changed for it, and not before a choice is
# to be made.


_QUEUED: Final = TaskState.QUEUED


def dispatch_by_shares(kernel: KernelState, now: int) -> None:
    """Start all that can start, one of the lowest tenant at a time."""
    if kernel.returning:
        _attempts.serve_returning(kernel, now)
    heap = kernel.open
    order = partial(_place, kernel, now)
    while (heap and kernel.running < kernel.concurrency and not kernel.paused) or (
        kernel.above and _limits.turn(kernel, order)
    ):
        entry: Entry = heap[0]
        share: Share = entry[2]
        if share.entry is not entry:
            heappop(heap)
            continue
        row = _head(kernel, share)
        if row is None:
            heappop(heap)
            share.entry = None
            continue
        place = _place(kernel, now, row)
        if row.state is not _QUEUED:
            continue
        if (place, row.seq) != entry[:2]:
            entry = (place, row.seq, share)
            share.entry = entry
            heapreplace(heap, entry)
            continue
        _dispatch.place(kernel, row.bucket, row, now)
    if kernel.growing and not kernel.paused:
        _dispatch.grow(kernel, now)


def _place(kernel: KernelState, now: int, row: TaskRow) -> tuple[float, int, Any]:
    """Return the sort key of *row*, first of its tenant; fail it if the queue fails."""
    share = row.bucket.share
    assert share is not None  # noqa: S101 - tenants share
    if not share.is_ranked:
        try:
            share.standing = kernel.deciders.standing(share, now)
            share.is_ranked = True
        except PolicyFault as fault:
            _dispatch.component_failed(kernel, row, fault, now)
    return share.standing, share.served, row.key


def _head(kernel: KernelState, share: Share) -> TaskRow | None:
    """Return the first task of *share* that may start, as in `_quick.dispatch`."""
    heap = share.open
    while heap:
        entry: Entry = heap[0]
        bucket: Bucket = entry[2]
        if bucket.entry is not entry:
            heappop(heap)
            continue
        row: TaskRow | None = bucket.head()
        if row is None:
            heappop(heap)
            bucket.entry = None
        elif row.seq == entry[1] and row.key is entry[0]:
            return row
        else:
            # The head of the bucket differs from the entered one, so it is entered
            # anew.
            entry = (row.key, row.seq, bucket)
            bucket.entry = entry
            heapreplace(heap, entry)
        if bucket.caller is not None:
            _queue.pass_on(kernel, bucket)
    return None


# -- the usual path of a task, written out for speed -----------------------------------

# `tests/core/kernel/test_quick.py` compares each with its definition: `submit` with
# `_admission.submit`, `complete` with `_attempts.end`, `dispatch` with a call of
# `_dispatch.place` for every task, and `complete_for_next` with the latter two.


_PENDING: Final = TaskState.PENDING
_RUNNING: Final = TaskState.RUNNING
_COMPLETED: Final = TaskState.COMPLETED


def submit(  # noqa: C901, PLR0912 - written out for speed
    kernel: KernelState,
    task_id: str,
    bucket: Bucket,
    cargo: Any,
    now: SharedTime,
    priority: int = 0,
    parents: tuple[TaskRow, ...] = (),
    *,
    named: bool = False,
    not_before_ns: int | None = None,
    deadline_ns: int | None = None,
    run: str = "",
) -> TaskRow:
    """
    Accept a task that may start as soon as all its parents have completed.

    *parents* has no duplicates. The task is *named* if the user chose its id or a key;
    *run* is its run of a workflow, or "".

    Raises:
        UsageError: The task is refused; nothing has changed.
    """
    row = TaskRow(task_id, kernel.submissions, bucket, cargo, now)
    row.named = named
    row.run = run
    known = (
        bucket.checked == kernel.workers_version
        and not kernel.watched
        and not kernel.workflows
        and bucket.share is None
    )
    max_age = None
    has_dates = not_before_ns is not None or deadline_ns is not None
    if known and not (kernel.plain or priority or parents or has_dates):
        # Only the user's own queue is to be asked.
        row.key, max_age = _admission.ask_queue(kernel, row, 0, now)
        if max_age is not None:
            _queue.arm(kernel, now + max_age, _queue.EXPIRE, row)
    elif has_dates or not (known and kernel.plain):
        admitted = _admission.consider(
            kernel,
            row,
            now,
            priority=priority,
            parents=parents,
            not_before_ns=not_before_ns,
            deadline_ns=deadline_ns,
        )
        _admission.accept(kernel, admitted, now)
        return row
    if priority:
        row.key = now - priority * (kernel.deciders.aging_ns or 0)
        row.extra = RowExtra()
        row.extra.priority = priority
    kernel.submissions += 1
    kernel.tasks[task_id] = row
    if run:
        _admission.join_run(kernel, row)
    if parents:
        _dependencies.attach(row, parents)
    kernel.seq += 1
    if kernel.tell_submitted:
        _admission.tell_of_submission(
            kernel, row, now, priority, max_age, parents=parents
        )
    if parents and row.links is not None and row.links.waiting:
        # This is the body of `_admission.set_first_state`.
        row.state = _PENDING
        row.ready_ns = 0
        kernel.pending += 1
        if row.extra is not None and row.extra.blocked_by:
            kernel.undecided.append((row, ""))
            _ends.decide(kernel, now)
        return row
    # This is the body of `_queue.enqueue`.
    if kernel.tell_ready:
        _queue.tell_of_ready(kernel, row)
    kernel.queued += 1
    first = bucket.push(row)
    if bucket.parked is not None:
        if first:
            _queue.head_came(kernel, bucket, row)
    elif bucket.entry is None:
        entry: Entry = (row.key, row.seq, bucket)
        bucket.entry = entry
        heappush(kernel.open, entry)
    elif first:
        _queue.open_bucket(kernel, bucket, row)
    return row


def complete(  # noqa: C901, PLR0912, PLR0915 - written out for speed
    kernel: KernelState, row: TaskRow, attempt: int, now: int
) -> bool:
    """Complete a successful attempt; return whether that counts.

    A late result, of an attempt that is not the current one, does not count.
    """
    extra, worker = row.extra, row.worker
    if (
        row.attempt != attempt
        or row.state is not _RUNNING
        or worker is None
        or row.bucket.limits
        or (extra is not None and _changes_more(kernel, extra, worker))
    ):
        return _attempts.end(kernel, row, attempt, "completed", now)
    kernel.running -= 1
    kernel.active -= 1
    kernel.completed += 1
    worker.running -= 1
    worker.completed += 1
    if worker.watched:
        kernel.moved.append(worker)
    row.state = _COMPLETED
    row.ended_ns = now
    bucket = row.bucket
    started = row.started_ns
    if extra is not None and extra.priority:
        extra.first_ns = started
    elif extra is not None:
        # The extra fields were for a timeout, a date or the like: nobody asks for them
        # now.
        row.extra = None
    record = worker.records.get(bucket.spec.type)
    if record is None:
        record = kernel.record(worker, bucket.spec.type)
    # This is the body of `Record.add`.
    if record.completed:
        record.latency_ns += EWMA_WEIGHT * (now - started - record.latency_ns)
    else:
        record.latency_ns = float(now - started)
    record.completed += 1
    type_row = bucket.type_row
    type_row.completed += 1
    type_row.samples.append((row.submitted_ns, row.ready_ns, started, now))
    if row.alloc:
        kernel.holders.pop(row, None)
        _limits.release(kernel, worker, row.alloc)
        row.alloc = ()
    if worker.slots.heap:
        _queue.wake(kernel, worker.slots)
    if kernel.vetoed or kernel.parked_any:
        _queue.ask_again(kernel)
    kernel.seq += 1
    if kernel.tell_completed:
        assert kernel.sink is not None  # noqa: S101 - set with tell_completed
        event = TaskCompleted(
            kernel.seq, now, row.id, attempt, worker.name, now - started
        )
        kernel.sink.append((event, row.cargo))
    links = row.links
    if links is not None:
        links.parents = ()
        if links.dependents:
            _dependencies.release(kernel, row, now)
    finished = kernel.finished
    finished.append(row)
    if len(finished) > kernel.keep:
        _application.evict(kernel)
    if kernel.undecided:
        _ends.decide(kernel, now)
    return True


def _changes_more(kernel: KernelState, extra: RowExtra, worker: WorkerRow) -> bool:
    """Return whether the end of a running attempt has more effects because of *extra*.

    The history of a task before its attempt is in its `past`, and any further duty of
    the attempt is a reason to `stop`: see `check_attempts`.
    """
    if kernel.has_accounts or kernel.leaked or not worker.is_plain:
        return True
    return bool(
        extra.past is not None
        or extra.stop
        or extra.yielded
        or extra.returned_ns
        or extra.rerun_of is not None
    )


def complete_for_next(  # noqa: C901 - written out for speed
    kernel: KernelState, row: TaskRow, attempt: int, now: int
) -> TaskRow | None:
    """
    Complete an attempt and start the next of a backlog of like tasks in its slot.

    Returns:
        The next task, which is not among the `starts`; None if this short way does not
    apply, and then nothing has been done.
    """
    bucket, worker, heap = row.bucket, row.worker, kernel.open
    if (
        len(heap) != 1
        or heap[0] is not bucket.entry
        or bucket.heap
        or bucket.caller is not None
        or bucket.route is not worker
        or bucket.route_version != kernel.workers_version
        or bucket.spec.timeout_ns is not None
    ):
        # The short way does not apply: the start of the next task may have more
        # effects than a start on the same worker.
        return None
    if (
        row.extra is not None
        or row.links is not None
        or row.alloc
        or row.attempt != attempt
        or row.state is not _RUNNING
    ):
        # The end of this one has more effects, as in `complete`.
        return None
    assert worker is not None  # noqa: S101 - it runs
    if worker.slots.heap or worker.running > worker.limit:
        return None
    if (
        kernel.running != kernel.concurrency
        or kernel.paused
        or kernel.parked_any
        or kernel.returning
        or kernel.growing
        or kernel.above
    ):
        # Other tasks may start as well, or in its place.
        return None
    fifo = bucket.fifo
    if not fifo:
        return None
    following = fifo[0]
    if following.ticket or following.extra is not None:
        return None
    # This follows `complete`.
    kernel.completed += 1
    worker.completed += 1
    row.state = _COMPLETED
    row.ended_ns = now
    started = row.started_ns
    record = worker.records.get(bucket.spec.type)
    if record is None:
        record = kernel.record(worker, bucket.spec.type)
    if record.completed:
        record.latency_ns += EWMA_WEIGHT * (now - started - record.latency_ns)
    else:
        record.latency_ns = float(now - started)
    record.completed += 1
    type_row = bucket.type_row
    type_row.completed += 1
    type_row.samples.append((row.submitted_ns, row.ready_ns, started, now))
    kernel.seq += 1
    if kernel.tell_completed and kernel.sink is not None:
        event = TaskCompleted(
            kernel.seq, now, row.id, attempt, worker.name, now - started
        )
        kernel.sink.append((event, row.cargo))
    finished = kernel.finished
    finished.append(row)
    if len(finished) > kernel.keep:
        _application.evict(kernel)
    # This follows `dispatch`.
    bucket.size -= 1
    fifo.popleft()
    kernel.queued -= 1
    following.state = _RUNNING
    following.started_ns = now
    following.attempt += 1
    following.worker = worker
    following.reason = bucket.route_reason
    kernel.seq += 1
    if kernel.tell_started:
        _dispatch.tell_of_start(kernel, following, now)
    return following


def dispatch(  # noqa: C901, PLR0912 - written out for speed
    kernel: KernelState, now: int
) -> None:
    """Start all that can start, the first in order first."""
    if kernel.moved:
        _limits.forget_moves(kernel)
    if kernel.spent:
        budgeting().review(kernel, now)
    if kernel.shares is not None:
        dispatch_by_shares(kernel, now)
        return
    if kernel.returning:
        _attempts.serve_returning(kernel, now)
    heap = kernel.open
    concurrency = kernel.concurrency
    reserving = kernel.reserving
    # (mypyc 2.4 fails to compile this as the condition of the loop.)
    while True:
        if not (
            (reserving is not None and _reservation.again(kernel, reserving, now))
            or (heap and kernel.running < concurrency and not kernel.paused)
            or (kernel.above and _limits.turn(kernel))
        ):
            break
        entry: Entry = heap[0]
        bucket: Bucket = entry[2]
        if bucket.entry is not entry:
            heappop(heap)
            continue
        row = bucket.head()
        if row is None:
            heappop(heap)
            bucket.entry = None
            if bucket.caller is not None:
                _queue.pass_on(kernel, bucket)
            continue
        if (row.seq != entry[1] or row.key is not entry[0]) and (
            len(heap) > 1 or bucket.caller is not None
        ):
            # The head of the bucket differs from the entered one, so it is entered
            # anew.
            entry = (row.key, row.seq, bucket)
            bucket.entry = entry
            heapreplace(heap, entry)
            if bucket.caller is not None:
                _queue.pass_on(kernel, bucket)
            continue
        worker = bucket.route
        if worker is None or bucket.route_version != kernel.workers_version:
            _dispatch.place(kernel, bucket, row, now)
            continue
        if worker.running >= worker.limit:
            _queue.park(kernel, bucket, row, (worker.slots,))
            continue
        _dispatch.start(kernel, row, worker, (), now, bucket.route_reason)
    if kernel.growing and not kernel.paused:
        _dispatch.grow(kernel, now)
