"""
Taking tasks in, in which order, and changing what they say.

Decisions: 0023, 0049, 0164.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from graphlib import TopologicalSorter
from operator import attrgetter
from typing import Any, Final, TypeVar

import attrs

from taskorch.errors import (
    InvalidTaskError,
    InvalidTransitionError,
    QueueFullError,
    UnknownCapabilityError,
    UnsatisfiableError,
)
from taskorch.events import TaskOptionsChanged, TaskSubmitted
from taskorch.kernel import _control, _dependencies, _ends, _limits, _queue
from taskorch.kernel._application import tell
from taskorch.kernel._history import row_extra
from taskorch.kernel._rows import Bucket, TaskRow, Terms
from taskorch.kernel._shortages import match, vetoed
from taskorch.kernel._state import KernelState
from taskorch.kit.vocabulary import meant
from taskorch.model import TERMINAL, TaskState, is_label, levels_of
from taskorch.model.ids import run_beside

# -- accepting a task: first every policy is asked, then the state is changed ----------


_PENDING: Final = TaskState.PENDING
_QUEUED: Final = TaskState.QUEUED
_BLOCKED: Final = TaskState.BLOCKED
_COMPLETED: Final = TaskState.COMPLETED


@attrs.define(eq=False)
class Admitted:
    """A task that everybody agreed to, about to be accepted."""

    row: TaskRow
    priority: int
    key: Any
    parents: Sequence[TaskRow]
    not_before_ns: int | None
    deadline_ns: int | None
    max_age_ns: int | None
    rerun_of: TaskRow | None
    terms: Terms | None = None


def terms_of(fact: TaskSubmitted) -> Terms | None:
    """The terms of the task of *fact*; None: those of most."""
    if fact.join == "all" and fact.on_parent_failure == "block" and fact.wait is None:
        return None
    # The words are checked where a task is made.
    join: Any = fact.join
    on_failure: Any = fact.on_parent_failure
    if fact.wait is None:
        return Terms(join, on_failure)
    event, timeout, completes, *remind = fact.wait
    wait = event, timeout, completes
    return Terms(join, on_failure, wait=wait, remind_ns=remind[0] if remind else 0)


def submit(
    kernel: KernelState,
    task_id: str,
    bucket: Bucket,
    cargo: Any,
    now: int,
    *,
    priority: int = 0,
    parents: Sequence[TaskRow] = (),
    not_before_ns: int | None = None,
    deadline_ns: int | None = None,
    rerun_of: TaskRow | None = None,
    terms: Terms | None = None,
    run: str = "",
) -> TaskRow:
    """
    Accept a task of any kind.

    Raises:
        UsageError: It is refused; nothing has changed.
    """
    row = TaskRow(task_id, kernel.submissions, bucket, cargo, now)
    row.run = run
    admitted = consider(
        kernel,
        row,
        now,
        priority=priority,
        parents=parents,
        not_before_ns=not_before_ns,
        deadline_ns=deadline_ns,
        rerun_of=rerun_of,
        terms=terms,
    )
    accept(kernel, admitted, now)
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
    Ask all who must agree to *row*; nothing changes.

    A re-run is of the run that the task is of. *beside* tasks of the same batch were
    considered before: the queue is as much longer. Without *terms*, it may run once all
    its parents have completed.

    Raises:
        UnknownCapabilityError: Nobody can do it.
        UnsatisfiableError: It asks for more than there will ever be.
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
    Refuse *row* if nobody will ever do it, as far as is known now.

    Raises:
        UnknownCapabilityError: Nobody can do it.
        UnsatisfiableError: It asks for more than there will ever be.
        PolicyFault: The registry failed.
    """
    bucket = row.bucket
    if bucket.forgotten:
        bucket = row.bucket = _queue.bucket_of(kernel, bucket.spec)
    if kernel.workflows:
        bucket = row.bucket = _queue.bucket_for(kernel, row.run, bucket)
    if bucket.checked != kernel.agents_version:
        if bucket.agents_version != kernel.agents_version:
            match(kernel, bucket, row, now)
        check_possible(kernel, bucket, row)
        bucket.checked = bucket.agents_version


def ask_queue(
    kernel: KernelState, row: TaskRow, priority: int, now: int
) -> tuple[Any, int | None]:
    """
    The key of *row*, and its largest age in ns.

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
    """Accept a task that was considered; ask nobody."""
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
    """
    The fact of a submission, for those who listen.

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
    fact = TaskSubmitted(
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
    kernel.sink.append((fact, row.cargo))


def enter(kernel: KernelState, admitted: Admitted, now: int) -> None:
    """Link *row* to all that it depends on, and set its timers."""
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
    """Enter a task that is taken in among those of its run."""
    ids = kernel.runs.get(row.run)
    if ids is None:
        kernel.runs[row.run] = [row.id]
    else:
        ids.append(row.id)


def shared_run(kernel: KernelState, run: str) -> str:
    """*run*, as the text that the rows of its tasks share, if one is in memory."""
    ids = kernel.runs.get(run)
    latest = kernel.tasks.get(ids[-1]) if ids else None
    return run if latest is None else latest.run


def set_first_state(kernel: KernelState, row: TaskRow, now: int) -> None:
    """Give a task that has just been accepted its first state, but for BLOCKED."""
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
    Refuse what no agent and no pool can ever meet.

    Raises:
        UnknownCapabilityError: No agent matches.
        InvalidTaskError: No agent will: a level of a capability is none.
        UnsatisfiableError: Every agent that matches, or a pool, is too small.
    """
    if not bucket.matching:
        if kernel.config.refuse_unknown:
            raise _unknown_capability(kernel, bucket, row)
        _refuse_no_level(kernel, bucket, row)
        return
    if bucket.agents:
        return
    shorts = []
    for agent in bucket.matching:
        short = _limits.too_small(kernel, bucket, agent)
        if short is None:
            # The agent is large enough. It is lost, and may return.
            return
        shorts.append(short)
    # Of all agents, the one that has the most.
    short = max(shorts, key=attrgetter("have"))
    name, need, most = short.name, short.need, short.have
    where = _limits.place_of(short)
    if where == "in any pool" and short.agent and short.agent.capacity:
        where += f" or on agent {short.agent.name}"
    msg = (
        f"task {row.id} asks for {need / 1e6:g} {name}, "
        f"and the most there is, {where}, is {most / 1e6:g}"
    )
    hint = "ask for less, or give TaskOrchestrator(resources=…) or the agent more"
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
    Refuse what asks for a level of a capability that is none, and would wait for ever.

    Raises:
        InvalidTaskError: It does.
    """
    spec = bucket.spec
    levels = [name for name in spec.requires or () if ":" in name]
    if not levels:
        return
    # A type may have a colon, and so may what an agent calls what it can do.
    whole = {spec.type}
    for agent in kernel.agents.values():
        whole.update(agent.info.capabilities, agent.info.labels)
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
        for agent in kernel.agents.values()
        for names, is_own in (
            (agent.info.labels, False),
            (agent.info.capabilities, True),
        )
        for name in names
    }
    missing = next((need for need in needs if need not in has), (*needs, "")[0])
    # What machines are, is known to whom asks for a machine.
    is_place = is_label(missing)
    known = sorted(name for name, is_own in has.items() if is_own or is_place)
    everything = ", ".join(known) or "none at all"
    if not needs:
        msg = f"task {row.id} can be done by any agent, and there is none"
    else:
        # Another machine is none that was meant.
        near = "" if is_place else meant(missing, known)
        guess = f" ({near})" if near else ""
        msg = (
            f"task {row.id} needs the capabilities {', '.join(map(repr, needs))}, and "
            f"no agent has {'all of them' if missing in has else repr(missing)}"
            f"{guess}. Known: {everything}"
        )
    return UnknownCapabilityError(
        msg,
        capability=missing,
        known=tuple(known),
        hint="add the agent first, or use unknown_capability='wait'",
        task_id=row.id,
    )


# -- in which order the tasks of one batch are taken in: by their latest finish times --

# All tasks of a batch are submitted at one instant, so among those of one priority
# the order in which they are taken in decides. Where it is known how long they take,
# the one comes first that must have ended first if the whole batch is to end as early
# as it could: what is on the critical path, and what much waits for. Of equals the
# longest comes first, as that leaves the short ones to fill the gaps at the end.
#
# The rule that is meant is known as LFT in a parallel schedule generation scheme (R.
# Kolisch, *Serial and parallel resource-constrained project scheduling methods
# revisited*, European Journal of Operational Research 90, 1996); for tasks that do
# not wait for each other it is LPT (R. L. Graham, 1969).


N = TypeVar("N", bound=Hashable)


def assumed(lengths: Sequence[float | None]) -> list[float] | None:
    """
    *lengths* with the mean of the known ones for the others.

    None: of none is it known that it takes any time.
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
    The places of *nodes* in the order in which they are to be taken in.

    Each comes after those of its parents that are among them; ties stay as they are.
    *lengths* are in ns. In *order*, the places, each comes after its parents; None:
    they stand in such an order.
    """
    count = len(nodes)
    #: Of each task, the longest way from its end to the end of the batch.
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
    """
    *batch*, which was considered, in the order in which it is to be accepted.

    Of some it is *known* how long they take, in ns.
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
        # Within a batch, a task may come before what it waits for.
        order = TopologicalSorter(dict(enumerate(above))).static_order()
    found = latest_finish_first(rows, parents, lengths, order)
    return [batch[place] for place in found]


# -- other options for a task that has not ended: what it is stays, how it runs may
# change

# They hold from its next attempt; its place in the queue, its deadline, and whether
# it may run twice, at once. A date before which it is not to start counts while it
# waits for that.


@attrs.define(eq=False)
class Change:
    """New options of one task, checked and not yet applied."""

    row: TaskRow
    bucket: Bucket
    #: The names of the options that are others.
    names: tuple[str, ...]
    priority: int
    key: Any
    #: Of these two, what was said is of use only if they are among the names.
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
    Ask all who must agree to other options of *row*; nothing changes.

    *seen* is a row that is in no kernel, for the policies: as it will be then. The
    priority and the dates count only if they are among the *names* of the options that
    are others.

    Raises:
        UsageError: They are refused: it has ended, or nobody could do it.
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
    """Apply options that were checked in this step."""
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
    # The new `not_before` or deadline may have come already.
    _control.tick(kernel, now)
    _ends.decide(kernel, now)
    _queue.ask_again(kernel)
