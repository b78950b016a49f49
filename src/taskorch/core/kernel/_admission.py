"""
Submission of tasks, its order, and changes of their options.

Decisions: joins-and-stale-tasks, kernel, queue-and-routing.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from graphlib import TopologicalSorter
from operator import attrgetter
from typing import Any, Final, TypeVar

import attrs

from taskorch.core.kernel import _control, _dependencies, _ends, _limits, _queue
from taskorch.core.kernel._application import tell
from taskorch.core.kernel._history import row_extra
from taskorch.core.kernel._rows import Bucket, TaskRow, Terms
from taskorch.core.kernel._shortages import match, vetoed
from taskorch.core.kernel._state import KernelState
from taskorch.errors import (
    InvalidTaskError,
    InvalidTransitionError,
    QueueFullError,
    UnknownCapabilityError,
    UnsatisfiableError,
)
from taskorch.events import TaskOptionsChanged, TaskSubmitted
from taskorch.kit.vocabulary import meant
from taskorch.model import TERMINAL, TaskState, is_label, levels_of
from taskorch.model.ids import run_beside

# -- accepting a task: all policies are asked before the state changes -----------------


_PENDING: Final = TaskState.PENDING
_QUEUED: Final = TaskState.QUEUED
_BLOCKED: Final = TaskState.BLOCKED
_COMPLETED: Final = TaskState.COMPLETED


@attrs.define(eq=False)
class Admitted:
    """A task that passed all checks and is about to be accepted."""

    row: TaskRow
    priority: int
    key: Any
    parents: Sequence[TaskRow]
    not_before_ns: int | None
    deadline_ns: int | None
    max_age_ns: int | None
    rerun_of: TaskRow | None
    terms: Terms | None = None


def terms_of(submitted: TaskSubmitted) -> Terms | None:
    """Return the terms of the task of *submitted*, or None for the usual ones."""
    if (
        submitted.join == "all"
        and submitted.on_parent_failure == "block"
        and submitted.wait is None
    ):
        return None
    # The values were checked when the task was made.
    join: Any = submitted.join
    on_failure: Any = submitted.on_parent_failure
    if submitted.wait is None:
        return Terms(join, on_failure)
    event, timeout, completes, *remind = submitted.wait
    wait = event, timeout, completes
    return Terms(join, on_failure, wait=wait, remind_ns=remind[0] if remind else 0)


def submit(
    kernel: KernelState,
    task_id: str,
    bucket: Bucket,
    cargo: Any,
    now: int,
    *,
    run: str = "",
    **terms: Any,
) -> TaskRow:
    """
    Accept a task of any kind, with *terms* as `consider` takes them.

    Raises:
        UsageError: The task is refused; nothing has changed.
    """
    row = TaskRow(task_id, kernel.submissions, bucket, cargo, now)
    row.run = run
    accept(kernel, consider(kernel, row, now, **terms), now)
    return row


def consider(
    kernel: KernelState,
    row: TaskRow,
    now: int,
    *,
    priority: int = 0,
    parents: Sequence[TaskRow] = (),
    not_before_ns: int | None = None,
    deadline_ns: int | None = None,
    rerun_of: TaskRow | None = None,
    terms: Terms | None = None,
    beside: int = 0,
) -> Admitted:
    """
    Check *row* and ask each policy that may refuse it; change nothing.

    A re-run belongs to the run of the task. *beside* tasks of the same batch were
    considered before, so the queue is that much longer. Without *terms*, it may run
    once all its parents have completed.

    Raises:
        UnknownCapabilityError: No worker can run it.
        UnsatisfiableError: It asks for more than exists.
        QueueFullError: The queue does not admit it.
        InvalidTransitionError: The StateMachine forbids it.
        PolicyFault: A policy failed.
    """
    if rerun_of is not None:
        row.run = rerun_of.run
    deciders = kernel.deciders
    kernel.admitting = beside
    try:
        check_doable(kernel, row, now)
        key, max_age = ask_queue(kernel, row, priority, now)
        after = _PENDING if terms else _first_state(parents, not_before_ns, now)
        veto = None
        if kernel.watched:
            veto = vetoed(kernel, row, None, after, "submitted", now)
    finally:
        kernel.admitting = 0
    if terms is not None and terms.wait is not None:
        # A wait is never queued, so the limit for queued tasks does not apply.
        max_age = None
    if veto is not None:
        msg = f"task {row.id} was refused by the state machine: {veto}"
        raise InvalidTransitionError(msg, task_id=row.id)
    kernel.plain = (
        deciders.aging_ns is not None
        and deciders.admits_all
        and deciders.max_age_ns is None
        and not kernel.watched
        and kernel.shares is None
    )
    return Admitted(
        row,
        priority,
        key,
        parents if terms is None else list(dict.fromkeys(parents)),
        not_before_ns,
        deadline_ns,
        max_age,
        rerun_of,
        terms,
    )


def check_doable(kernel: KernelState, row: TaskRow, now: int) -> None:
    """
    Refuse *row* if no worker will ever run it, as far as is known now.

    Raises:
        UnknownCapabilityError: No worker can run it.
        UnsatisfiableError: It asks for more than exists.
        PolicyFault: The registry failed.
    """
    bucket = row.bucket
    if bucket.forgotten:
        bucket = row.bucket = _queue.bucket_of(kernel, bucket.spec)
    if kernel.workflows:
        bucket = row.bucket = _queue.bucket_for(kernel, row.run, bucket)
    if bucket.checked != kernel.workers_version:
        if bucket.workers_version != kernel.workers_version:
            match(kernel, bucket, row, now)
        check_possible(kernel, bucket, row)
        bucket.checked = bucket.workers_version


def ask_queue(
    kernel: KernelState, row: TaskRow, priority: int, now: int
) -> tuple[Any, int | None]:
    """
    Ask the queue for the key of *row*, and its largest age in ns.

    Raises:
        QueueFullError: The queue does not admit it.
        PolicyFault: The queue failed.
    """
    deciders = kernel.deciders
    max_age = deciders.max_age_ns
    if not deciders.admits_all:
        refused, max_age = deciders.admit(row, now)
        if refused is not None:
            msg = f"task {row.id} was not admitted: {refused}"
            raise QueueFullError(msg, task_id=row.id)
    aging = deciders.aging_ns
    if aging is None:
        return deciders.order(row, priority, now), max_age
    return now - priority * aging, max_age


def _first_state(
    parents: Sequence[TaskRow], not_before_ns: int | None, now: int
) -> TaskState:
    if not parents and not_before_ns is None:
        return _QUEUED
    if any(
        _dependencies.is_broken(parent) and not _dependencies.is_forgiven(parent)
        for parent in parents
    ):
        return _BLOCKED
    waits = any(
        parent.state is not _COMPLETED and not _dependencies.is_forgiven(parent)
        for parent in parents
    )
    early = not_before_ns is not None and not_before_ns > now
    return _PENDING if waits or early else _QUEUED


def accept(kernel: KernelState, admitted: Admitted, now: int) -> None:
    """Accept a task that was considered, without asking a policy again."""
    row = admitted.row
    enter(kernel, admitted, now)
    kernel.seq += 1
    if kernel.tell_submitted:
        tell_of_submission(
            kernel, row, now, admitted.priority, admitted.max_age_ns, admitted
        )
    set_first_state(kernel, row, now)
    if admitted.terms is not None or (row.extra is not None and row.extra.blocked_by):
        kernel.undecided.append((row, ""))
        _ends.decide(kernel, now)
    if (
        admitted.deadline_ns is not None
        and admitted.deadline_ns <= now
        and row.state not in TERMINAL
    ):
        _control.miss_deadline(kernel, row, now)


def tell_of_submission(
    kernel: KernelState,
    row: TaskRow,
    now: int,
    priority: int,
    max_age: int | None = None,
    admitted: Admitted | None = None,
    parents: Sequence[TaskRow] = (),
) -> None:
    """Announce a submission to the sinks of events.

    If it was *admitted* with dates or terms, its parents are known from there.
    """
    spec = row.bucket.spec
    join: str | int = "all"
    on_failure = "block"
    wait: tuple[Any, ...] | None = None
    rerun_of = not_before_ns = deadline_ns = None
    if admitted is not None:
        terms = admitted.terms
        if terms is not None:
            join, on_failure, wait = terms.join, terms.on_failure, terms.wait
            if wait is not None and terms.remind_ns:
                wait = *wait, terms.remind_ns
        parents = admitted.parents
        rerun_of = None if admitted.rerun_of is None else admitted.rerun_of.id
        not_before_ns = admitted.not_before_ns
        deadline_ns = admitted.deadline_ns
    event = TaskSubmitted(
        kernel.seq,
        now,
        row.id,
        spec.type,
        priority,
        tuple([parent.id for parent in parents]) if parents else (),
        spec.requires,
        spec.resources,
        rerun_of,
        spec.timeout_ns,
        spec.idempotent,
        row.key,
        not_before_ns,
        deadline_ns,
        None if max_age is None else now + max_age,
        row.named,
        join,
        on_failure,
        wait,
        None,
        spec.owner,
        spec.elastic,
        run_beside(row.id, row.run),
        spec.writes,
        spec.budget,
        spec.spends,
        kernel.caller,
        spec.allow_failure,
    )
    assert kernel.sink is not None  # noqa: S101 - set with tell_submitted
    kernel.sink.append((event, row.cargo))


def enter(kernel: KernelState, admitted: Admitted, now: int) -> None:
    """Link *row* to the tasks that it depends on, and set its timers."""
    row = admitted.row
    row.key = admitted.key
    row.seq = kernel.submissions
    kernel.submissions += 1
    kernel.tasks[row.id] = row
    if row.run:
        join_run(kernel, row)
    if admitted.priority:
        row_extra(row).priority = admitted.priority
    if admitted.terms is not None:
        _dependencies.links_of(row).terms = admitted.terms
        admitted.terms.joined = not admitted.parents
    if admitted.parents:
        _dependencies.attach(row, admitted.parents)
    not_before = admitted.not_before_ns
    if not_before is not None and not_before > now:
        row_extra(row).due_ns = not_before
        _queue.arm(kernel, not_before, _queue.DUE, row)
    if admitted.deadline_ns is not None:
        row_extra(row).deadline_ns = admitted.deadline_ns
        _queue.arm(kernel, admitted.deadline_ns, _queue.DEADLINE, row)
    if admitted.max_age_ns is not None:
        _queue.arm(kernel, now + admitted.max_age_ns, _queue.EXPIRE, row)
    origin = admitted.rerun_of
    if origin is not None:
        row_extra(row).rerun_of = origin.id
        row_extra(origin).rerun_id = row.id


def join_run(kernel: KernelState, row: TaskRow) -> None:
    """Add a task that is accepted to the tasks of its run."""
    ids = kernel.runs.get(row.run)
    if ids is None:
        kernel.runs[row.run] = [row.id]
    else:
        ids.append(row.id)


def shared_run(kernel: KernelState, run: str) -> str:
    """Return *run* as the string that the rows of its tasks share, if one exists."""
    ids = kernel.runs.get(run)
    latest = kernel.tasks.get(ids[-1]) if ids else None
    return run if latest is None else latest.run


def set_first_state(kernel: KernelState, row: TaskRow, now: int) -> None:
    """Give a task that has just been accepted its first state, unless it is BLOCKED."""
    extra = row.extra
    waits = row.links is not None and _dependencies.is_waiting(row)
    early = extra is not None and extra.due_ns > now
    if not waits and not early:
        terms = None if row.links is None else row.links.terms
        if terms is None or terms.wait is None:
            _queue.enqueue(kernel, row)
            return
    row.state = _PENDING
    row.ready_ns = 0
    kernel.pending += 1
    if early and not waits:
        kernel.delayed += 1


def check_possible(kernel: KernelState, bucket: Bucket, row: TaskRow) -> None:
    """
    Refuse a task whose needs no worker and no pool can ever meet.

    Raises:
        UnknownCapabilityError: No worker matches.
        InvalidTaskError: No worker will match: the level of a capability is invalid.
        UnsatisfiableError: Every worker that matches, or a pool, is too small.
    """
    if not bucket.matching:
        if kernel.config.refuse_unknown:
            raise _unknown_capability(kernel, bucket, row)
        _refuse_no_level(kernel, bucket, row)
        return
    if bucket.workers:
        return
    shorts = []
    for worker in bucket.matching:
        short = _limits.too_small(kernel, bucket, worker)
        if short is None:
            # The worker is large enough. It is lost, and may return.
            return
        shorts.append(short)
    # The worker that has the most is named.
    short = max(shorts, key=attrgetter("have"))
    name, need, most = short.name, short.need, short.have
    where = _limits.place_of(short)
    if where == "in any pool" and short.worker and short.worker.capacity:
        where += f" or on worker {short.worker.name}"
    msg = (
        f"task {row.id} asks for {need / 1e6:g} {name}, "
        f"and the most there is, {where}, is {most / 1e6:g}"
    )
    hint = "ask for less, or give TaskOrchestrator(resources=…) or the worker more"
    if need <= most:
        msg = (
            f"task {row.id} asks for {need / 1e6:g} {name}, and units with names are "
            "had whole, or one of them in part"
        )
        hint = f"ask for whole {name}, or for less than 1"
    unknown = _limits.of_no_pool(kernel, name)
    if unknown:
        msg = f"task {row.id} asks for {need / 1e6:g} {name}, and {unknown}"
        hint = f"if it is a resource of your own, TaskOrchestrator(resources={{{name!r}"
        hint += ": …}) says how much there is"
    if name in kernel.config.unknown and name not in kernel.pools:
        hint = f"how much {name} this machine has is unknown: TaskOrchestrator("
        hint += f"resources={{{name!r}: …}}) says it"
    raise UnsatisfiableError(
        msg,
        resource=name,
        need=need / 1e6,
        most=most / 1e6,
        hint=hint,
        task_id=row.id,
    )


def _refuse_no_level(kernel: KernelState, bucket: Bucket, row: TaskRow) -> None:
    """
    Refuse a task with an invalid level of a capability: it would wait for ever.

    Raises:
        InvalidTaskError: The level is invalid.
    """
    spec = bucket.spec
    levels = [name for name in spec.requires or () if ":" in name]
    if not levels:
        return
    # A type may have a colon, and so may a capability of a worker.
    whole = {spec.type}
    for worker in kernel.workers.values():
        whole.update(worker.info.capabilities, worker.info.labels)
    try:
        levels_of(levels, whole)
    except InvalidTaskError as error:
        msg = f"task {row.id}: {error.message}"
        raise InvalidTaskError(msg, hint=error.hint, task_id=row.id) from None


def _unknown_capability(
    kernel: KernelState, bucket: Bucket, row: TaskRow
) -> UnknownCapabilityError:
    spec = bucket.spec
    needs = spec.needs
    has = {
        name: is_own
        for worker in kernel.workers.values()
        for names, is_own in (
            (worker.info.labels, False),
            (worker.info.capabilities, True),
        )
        for name in names
    }
    missing = next((need for need in needs if need not in has), (*needs, "")[0])
    # Labels of machines are only suggested to a task that asks for a machine.
    is_place = is_label(missing)
    known = sorted(name for name, is_own in has.items() if is_own or is_place)
    everything = ", ".join(known) or "none at all"
    if not needs:
        msg = f"task {row.id} can be done by any worker, and there is none"
    else:
        # No other machine is suggested: a label names exactly one.
        near = "" if is_place else meant(missing, known)
        guess = f" ({near})" if near else ""
        msg = (
            f"task {row.id} needs the capabilities {', '.join(map(repr, needs))}, and "
            f"no worker has {'all of them' if missing in has else repr(missing)}"
            f"{guess}. Known: {everything}"
        )
    return UnknownCapabilityError(
        msg,
        capability=missing,
        known=tuple(known),
        hint="add the worker first, or use unknown_capability='wait'",
        task_id=row.id,
    )


# -- order in which the tasks of a batch are accepted: latest finish times first -------

# All tasks of a batch are submitted at one instant, so the order of acceptance decides
# among tasks of one priority. If durations are known, the task comes first that must
# have ended first for the whole batch to end as early as possible: a task on the
# critical path, or with many dependents. Of equals the longest comes first, since short
# ones then fill the gaps at the end.
#
# The rule is known as LFT in a parallel schedule generation scheme (R. Kolisch, *Serial
# and parallel resource-constrained project scheduling methods revisited*, European
# Journal of Operational Research 90, 1996); for tasks that do not wait for each other
# it is LPT (R. L. Graham, 1969).


N = TypeVar("N", bound=Hashable)


def assumed(lengths: Sequence[float | None]) -> list[float] | None:
    """Return *lengths* with each unknown one replaced by the mean of the others.

    Return None if no length is known.
    """
    if not any(lengths):
        return None
    known = [length for length in lengths if length is not None]
    mean = sum(known) / len(known)
    return [mean if length is None else length for length in lengths]


def latest_finish_first(
    nodes: Sequence[N],
    parents: Sequence[Iterable[N]],
    lengths: Sequence[float],
    order: Iterable[int] | None = None,
) -> list[int]:
    """
    Return the indexes of *nodes* in the order in which to accept them.

    Each node comes after its parents among *nodes*; ties keep their order. *lengths*
    are in ns. *order* has the indexes with each node after its parents; None means that
    *nodes* have such an order.
    """
    count = len(nodes)
    #: For each task, the longest way from its end to the end of the batch.
    ways = dict.fromkeys(nodes, 0.0)
    after = [0.0] * count
    for number in reversed(range(count) if order is None else list(order)):
        after[number] = way = ways.pop(nodes[number])
        way += lengths[number]
        for parent in parents[number]:
            if ways.get(parent, way) < way:
                ways[parent] = way
    # Two sorts are faster than one by pairs.
    places = sorted(range(count), key=lengths.__getitem__, reverse=True)
    places.sort(key=after.__getitem__, reverse=True)
    return places


def in_order(
    kernel: KernelState, batch: list[Admitted], known: Sequence[float | None]
) -> list[Admitted]:
    """Return the considered *batch* in the order in which to accept it.

    *known* has the durations that are known, in ns.
    """
    # With a queue that has a rule of its own, or is first in, first out, the order of
    # submission counts.
    if len(batch) < 2 or not kernel.deciders.aging_ns:  # noqa: PLR2004 - no batch
        return batch
    lengths = assumed(known)
    if lengths is None:
        return batch
    rows = [admitted.row for admitted in batch]
    parents = [admitted.parents for admitted in batch]
    places = {row: place for place, row in enumerate(rows)}
    above = [[places[p] for p in them if p in places] for them in parents]
    order: Iterable[int] | None = None
    if any(max(them, default=-1) > place for place, them in enumerate(above)):
        # Within a batch, a task may stand before its parents.
        order = TopologicalSorter(dict(enumerate(above))).static_order()
    found = latest_finish_first(rows, parents, lengths, order)
    return [batch[place] for place in found]


# -- other options for a task that has not ended: only how it runs may change ----------

# They hold from its next attempt. Its place in the queue, its deadline, and whether it
# may run twice change at once. A `not_before` counts only while the task waits for it.


@attrs.define(eq=False)
class Change:
    """Checked new options of one task that are not applied yet."""

    row: TaskRow
    bucket: Bucket
    #: The names of the changed options.
    names: tuple[str, ...]
    priority: int
    key: Any
    #: These two values count only if they are among the names.
    not_before_ns: int | None
    deadline_ns: int | None


def consider_change(
    kernel: KernelState,
    row: TaskRow,
    seen: TaskRow,
    now: int,
    *,
    names: tuple[str, ...],
    priority: int,
    not_before_ns: int | None = None,
    deadline_ns: int | None = None,
) -> Change:
    """
    Check new options of *row* and ask each policy that may refuse; change nothing.

    *seen* is a row outside the kernel, with the new options, for the policies. The
    priority and the dates count only if they are among *names*, the changed options.

    Raises:
        UsageError: The options are refused: the task has ended, or no worker could run
            it.
    """
    if row.state in TERMINAL:
        msg = f"task {row.id} is {row.state}: its options do not matter any more"
        raise _control.refusal(row, msg)
    check_doable(kernel, seen, now)
    if "priority" not in names:
        # `set_priority` may have changed it since the task was submitted.
        priority = 0 if row.extra is None else row.extra.priority
    key = _control.key_of(kernel, seen, priority, row.submitted_ns)
    return Change(row, seen.bucket, names, priority, key, not_before_ns, deadline_ns)


def apply(kernel: KernelState, change: Change, now: int) -> None:
    """Apply the options that this step has checked."""
    row, names = change.row, change.names
    extra, spec = row_extra(row), change.bucket.spec
    deadline_ns = change.deadline_ns if "deadline" in names else extra.deadline_ns
    due_ns = None
    if "not_before" in names and row.attempt == 0 and row.state is TaskState.PENDING:
        wanted = change.not_before_ns or 0
        if extra.due_ns or wanted > now:
            due_ns = max(wanted, now)
    tell(
        kernel,
        TaskOptionsChanged,
        row,
        now,
        names,
        change.priority,
        change.key,
        spec.requires,
        spec.resources,
        spec.timeout_ns,
        spec.idempotent,
        due_ns,
        deadline_ns,
        spec.owner,
        spec.elastic,
        (),
        "",
        spec.spends,
    )
    # The new `not_before` or deadline may have passed already.
    _control.tick(kernel, now)
    _ends.decide(kernel, now)
    _queue.ask_again(kernel)
