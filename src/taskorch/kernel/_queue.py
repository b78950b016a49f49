"""
The queue: tasks come into their buckets and leave them.

What a policy put off is asked about again when something changes.

Decisions: 0060, 0073.
"""

from __future__ import annotations

from typing import Final

import attrs

from taskorch.events import TaskReady
from taskorch.kernel import _parking
from taskorch.kernel._rows import Bucket, Share, Spec, TaskRow, without_quotas
from taskorch.kernel._state import MANY, KernelState
from taskorch.model import TaskState, Units
from taskorch.model._ids import run_of

_QUEUED: Final = TaskState.QUEUED


def bucket_of(kernel: KernelState, spec: Spec) -> Bucket:
    """The bucket of like tasks."""
    if kernel.points is not None and kernel.points.hit("buckets.forget"):
        _forget_idle(kernel)
    found = kernel.buckets.get(spec)
    if found is None:
        if len(kernel.buckets) > kernel.most_buckets:
            _forget_idle(kernel)
            kernel.most_buckets = MANY + 2 * len(kernel.buckets)
        kernel.bucket_no += 1
        type_row = kernel.type_row(spec.type)
        found = kernel.buckets[spec] = Bucket(spec, type_row, kernel.bucket_no)
        if spec.elastic is not None:
            kernel.elastic[found] = None
        found.open = kernel.open
        if kernel.shares is not None:
            found.share = share_of(kernel, spec.owner)
            found.share.buckets[found] = None
            found.open = found.share.open
    return found


def bucket_for(kernel: KernelState, task_id: str, bucket: Bucket) -> Bucket:
    """*bucket*, or that of like tasks of the same run, if that has a quota."""
    run_id = run_of(task_id)
    workflow = run_id if run_id in kernel.workflows else None
    if workflow == bucket.spec.workflow:
        return bucket
    return bucket_of(kernel, attrs.evolve(bucket.spec, workflow=workflow))


def share_of(kernel: KernelState, owner: str | None) -> Share:
    """The share of *owner*, where owners share."""
    assert kernel.shares is not None  # noqa: S101 - the queue ranks them
    found = kernel.shares.get(owner)
    if found is None:
        kernel.share_no += 1
        found = kernel.shares[owner] = Share(owner, kernel.share_no)
    return found


def _forget_idle(kernel: KernelState) -> None:
    for spec, bucket in list(kernel.buckets.items()):
        if not bucket.size and bucket.parked is None and bucket.entry is None:
            del kernel.buckets[spec]
            kernel.elastic.pop(bucket, None)
            bucket.forgotten = True
            # A caller that still has this bucket must not take the quick path.
            bucket.checked = -1
            if bucket.share is not None:
                del bucket.share.buckets[bucket]
    if kernel.shares is not None:
        kernel.shares = {
            share.owner: share
            for share in kernel.shares.values()
            if not _is_idle(kernel, share)
        }


def _is_idle(kernel: KernelState, share: Share) -> bool:
    """Whether *share* has nothing, wants nothing, and was served long ago."""
    return not (
        share.buckets
        or share.running
        or any(share.held.values())
        # One that is forgotten counts as never served: it would come before others.
        or kernel.served - share.served < MANY
    )


def hold(
    kernel: KernelState, share: Share, units: Units, slots: int, sign: int = 1
) -> None:
    """Charge *share* with units and slots, or discharge it (*sign* -1)."""
    share.running += sign * slots
    held = share.held
    for name, many in without_quotas(units):
        held[name] = held.get(name, 0) + sign * many
    _parking.look_again(kernel, share)


def tell_of_ready(kernel: KernelState, row: TaskRow) -> None:
    """
    Say that *row* is about to be queued, to those who listen.

    It has the number of the latest fact, of which it follows: what is numbered does not
    depend on who listens.
    """
    assert kernel.sink is not None  # noqa: S101 - set with tell_ready
    kernel.sink.append((TaskReady(kernel.seq, row.ready_ns, row.id), row.cargo))


def enqueue(kernel: KernelState, row: TaskRow, *, again: bool = False) -> None:
    """Put *row*, which is QUEUED, into its bucket; *again*, if it was queued before."""
    if kernel.tell_ready and not again:
        tell_of_ready(kernel, row)
    kernel.queued += 1
    bucket = row.bucket
    if bucket.forgotten:
        bucket = row.bucket = bucket_of(kernel, bucket.spec)
    first = bucket.push(row)
    if bucket.parked is not None:
        if first:
            _parking.head_came(kernel, bucket, row)
    elif first or bucket.entry is None:
        _parking.open_bucket(kernel, bucket, row)
    if bucket.share is not None:
        _parking.look_again(kernel, bucket.share)


def dequeue(kernel: KernelState, row: TaskRow) -> None:
    """Remove *row* from its bucket, though it is not the head."""
    kernel.queued -= 1
    if kernel.holders:
        # It may have contended with these.
        kernel.growing = True
    if kernel.under_way is not None:
        # It may have kept others from passing.
        ask_again(kernel)
    bucket = row.bucket
    bucket.leave(row)
    if kernel.points is not None and kernel.points.hit("bucket.compact"):
        bucket.compact()
    if bucket.parked is not None and (
        not bucket.size or _parking.waits_for_policy(bucket)
    ):
        _parking.reopen(kernel, bucket)


def remove(kernel: KernelState, row: TaskRow) -> None:
    """Remove a QUEUED task from the queue, wherever it stands."""
    if row in kernel.vetoed:
        del kernel.vetoed[row]
        unveto(kernel, row)
    else:
        dequeue(kernel, row)


def requeue(kernel: KernelState, row: TaskRow, now: int, detail: str = "") -> None:
    """Put a task that has left the queue into it again, at its old place."""
    row.ready_ns = now
    kernel.move(row, _QUEUED, now, detail)
    row.ticket += 1
    enqueue(kernel, row)


def ask_again(kernel: KernelState) -> None:
    """Have the policies that deferred or vetoed a start asked again."""
    if kernel.parked_any:
        _parking.reopen_all(kernel, kernel.parked_any)
    if not kernel.vetoed:
        return
    vetoed, kernel.vetoed = kernel.vetoed, {}
    for row in vetoed:
        unveto(kernel, row)
        enqueue(kernel, row, again=True)


def unveto(kernel: KernelState, row: TaskRow) -> None:
    """Lift the veto from *row*, which is in no queue then."""
    assert row.extra is not None  # noqa: S101 - the veto stands there
    row.extra.veto = ""
    kernel.queued -= 1


def unpark_all(kernel: KernelState) -> None:
    """An agent has joined, or was lost: try everything again."""
    for bucket in list(kernel.parked):
        _parking.reopen(kernel, bucket)
    kernel.growing = bool(kernel.holders)
    for share in (kernel.shares or {}).values():
        _parking.look_again(kernel, share)
    ask_again(kernel)
