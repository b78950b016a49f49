"""Why a task does not run, or how it ended.

The functions call the predicates that schedule, so an explanation is what happens: the
task starts when all named obstacles are removed, and not before.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from taskorch.core.kernel import _limits
from taskorch.core.kernel._application import GONE, rules_ask
from taskorch.core.kernel._control import is_unresolvable
from taskorch.core.kernel._dependencies import awaits
from taskorch.core.kernel._explain._estimate import estimate
from taskorch.core.kernel._explain._holders import FAR, ahead
from taskorch.core.kernel._explain._parents import HEIGHT, reruns, waits_for
from taskorch.core.kernel._explain._people import (
    asks,
    call_of_answer,
    sentence,
    wait_of,
    why_held,
)
from taskorch.core.kernel._explain._words import NOT_STARTED, Wording
from taskorch.core.kernel._history import moves_of
from taskorch.core.kernel._reservation import reservation
from taskorch.core.kernel._rows import (
    LESS,
    Awaited,
    PoolRow,
    Reservation,
    RowExtra,
    Share,
    TaskRow,
    without_quotas,
)
from taskorch.core.kernel._shortages import shortages
from taskorch.core.kernel._standing import meaning_of, so_many
from taskorch.core.kernel._state import KernelState
from taskorch.core.kernel._units import told as units_told
from taskorch.kit.frozen import ReadOnly
from taskorch.kit.limits import NS
from taskorch.kit.words import in_words, some
from taskorch.model import (
    TERMINAL,
    Blocker,
    Explanation,
    Remedy,
    TaskState,
    Units,
    is_for_people,
)

_S: Final = TaskState
#: The most tasks through which a failure is followed up when many tasks are explained.
_NEAR: Final = 5
#: The most workers without room that are named; any one of them is enough.
_MOST_WORKERS: Final = 5
_NO_UNITS: Final[Mapping[str, Sequence[str]]] = ReadOnly({})


def explain(
    kernel: KernelState,
    row: TaskRow,
    now: int,
    *,
    whole: bool = False,
    estimates: bool = False,
    paused: Blocker = NOT_STARTED,
    inside: Sequence[str] = (),
) -> Explanation:
    """
    Explain why *row* does not run now.

    A QUEUED task without blockers starts as soon as it is first in its order. The
    explanation is for its turn, but does not ask the router: any worker with room
    counts.

    No loop goes over all tasks, so the cost hardly depends on how many wait. Holders
    are looked for among the oldest and the youngest 20,000 tasks, the position is
    counted up to 5,000, and a failure is followed up through 2,000 tasks.

    If *whole*, it also names the obstacles that would come next, once the present ones
    are removed. With *estimates*, it estimates the start and counts the position
    however far back it is; both may look at all queued tasks. *paused* is the reason
    why nothing starts, if there is one. The attempt of *row* waits for the tasks
    *inside*.

    Raises:
        PolicyFault: A policy failed.
    """
    blockers = _now(kernel, row, now, inside, HEIGHT if whole else _NEAR)
    then: list[Blocker] = []
    position = guess = None
    more_agents = 0
    extra, wait = row.extra, wait_of(row)
    waits = row.state not in TERMINAL and row.state is not _S.RUNNING
    suspended = row.state is _S.SUSPENDED
    held = suspended and extra is not None and extra.held
    if waits and not held and (whole or row.state is _S.QUEUED):
        if suspended:
            then = waits_for(kernel, row, now) + _delay(row, now)
        if wait is None:
            shorts = shortages(kernel, row, now)
            workers = [*dict.fromkeys(s.worker for s in shorts if s.worker is not None)]
            more_agents = max(0, len(workers) - _MOST_WORKERS)
            of_all = (None, *workers[:_MOST_WORKERS])
            words = Wording(kernel, row, now, paused)
            then += [words.of(short) for short in shorts if short.worker in of_all]
        elif suspended or not awaits(row):
            then += _event(kernel, row, wait, now)
    if row.state is _S.QUEUED:
        blockers, then = then, []
        before = ahead(row.bucket, row, None if estimates else FAR)
        position = None if before is None else before + 1
    if estimates and waits and wait is None:
        guess = estimate(kernel, row, now, [*blockers, *then])
    kind = message = cause = ""
    if extra is not None and extra.error is not None:
        kind, message, cause = extra.error
    return Explanation(
        row.id,
        row.state,
        tuple(blockers),
        position,
        row.reason.partition(LESS)[0],
        tuple(then),
        more_agents,
        guess,
        "" if row.worker is None else row.worker.name,
        _granted(kernel, row),
        row.attempt,
        f"{kind}: {message}" if kind else "",
        cause,
        _retries(row),
        order="" if position is None else _order(kernel, row, position, now),
    )


def _order(kernel: KernelState, row: TaskRow, position: int, now: int) -> str:
    """Explain the position of the queued *row*, unless age alone explains it."""
    kept = reservation(kernel, now)
    if kept is not None and kept.row is row:
        return _kept(kept, now)
    above = _limits.exceeded(kernel, row.bucket)
    if above is not None:
        return _above(*above)
    share = row.bucket.share
    if share is not None and (before := _tenants_before(kernel, share, now)):
        return (
            f"owners share what there is, and {_named(share)} has more for its weight "
            f"than {some(list(map(_named, before)))}, whose tasks come first"
        )
    return "" if position == 1 else _batch_order(kernel, row)


def _above(pool: PoolRow, units: int) -> str:
    """Explain why tasks come last that would exceed the soft quota of *pool*."""
    kind, who, what = meaning_of(pool)
    limit = so_many(pool.total - pool.beyond, what)
    return (
        f"The soft quota of {kind} {who!r} is {limit} at once: {pool.used / 1e6:g} is "
        f"in use, and it needs {units / 1e6:g}. So it starts when nothing that stays "
        "within its quotas can use what is free"
    )


def _kept(kept: Reservation, now: int) -> str:
    """Describe the reservation for a task and the time at which it begins."""
    when = "when it is free, and nobody knows when that is"
    if kept.start_ns is not None and kept.worker is not None:
        left = (kept.start_ns - now) / NS
        when = f"in about {in_words(left)}" if left > 0 else "now, and others are late"
        when = f"on {kept.worker.name} {when}"
    return (
        f"It is the first that cannot start: what it needs is reserved for it, {when}; "
        "others pass it only if that does not put it off"
    )


def _tenants_before(kernel: KernelState, share: Share, now: int) -> list[Share]:
    """Return the tenants whose tasks are served before those of *share*."""
    assert kernel.shares is not None  # noqa: S101 - tenants share
    standing = kernel.deciders.standing(share, now)
    return [
        other
        for other in kernel.shares.by_tenant.values()
        if other is not share
        and other.queued
        and kernel.deciders.standing(other, now) < standing
    ]


def _named(share: Share) -> str:
    return "what has no owner" if share.owner is None else share.owner


def _batch_order(kernel: KernelState, row: TaskRow) -> str:
    """Explain why *row* comes after a task that came at the same time, if one did."""
    head = row.bucket.head()
    if head is None or head.key != row.key or not kernel.deciders.aging_ns:
        return ""
    return (
        f"{head.id} came at the same time: of such tasks that one is first which must "
        "end first, where it is known how long they take, and then the longest"
    )


def _now(
    kernel: KernelState, row: TaskRow, now: int, inside: Sequence[str], height: int
) -> list[Blocker]:
    """Return the reasons for the current state of *row*, unless it is QUEUED."""
    if row.state in TERMINAL:
        return [_terminal(kernel, row)]
    if row.state is _S.SUSPENDED:
        words = f"Call orch.resume_task({row.id!r})."
        remedy = Remedy("resume", words, (row.id,))
        detail = "It is suspended: it waits to be resumed."
        return [Blocker("suspended", detail, remedies=(remedy,))]
    if row.state is _S.RUNNING:
        return _running(kernel, row, inside)
    if row.state is _S.QUEUED:
        return []
    extra, wait = row.extra, wait_of(row)
    if wait is not None and awaits(row):
        return _event(kernel, row, wait, now)
    if row.state is _S.BLOCKED and extra is not None and not extra.blocked_by:
        return [_held(kernel, row, extra), *_delay(row, now)]
    return waits_for(kernel, row, now, height) + _delay(row, now)


def _event(kernel: KernelState, row: TaskRow, wait: Awaited, now: int) -> list[Blocker]:
    """Return the event or time that the wait *row* waits for after its parents."""
    name, timeout, completes = wait
    extra = row.extra
    if awaits(row) and timeout is not None and extra is not None:
        timeout = extra.due_ns - now if extra.due_ns else extra.resume_ns
    kept = None if name is None else kernel.retained.get(name)
    is_there = not awaits(row) and kept is not None and kept.until_ns > now
    if is_there or (timeout == 0 and completes):
        return []
    left = None if timeout is None else timeout / NS
    remedies: list[Remedy] = []
    if name is None:
        detail = "It waits for its time only"
    elif is_for_people(name):
        detail = f"It {asks(kernel, row)}"
    else:
        detail = f"It waits for the event {name!r}"
        remedies.append(Remedy("emit", f"Call orch.emit({name!r}, …).", name=name))
    if left is not None:
        end = "complete" if completes else "fail"
        if awaits(row) and left < 0:
            # No dispatch has looked at it since its time was over.
            detail += f", and its time is over: it is about to {end}."
            return [Blocker("event", detail, name or "", until=0.0)]
        detail += f", for another {in_words(left)}: then it {end}s"
        if completes:
            words = f"Wait for {in_words(left)}."
            remedies.append(Remedy("wait", words, seconds=left))
    if awaits(row):
        words = call_of_answer(kernel, row)
        remedies.append(Remedy("decide", words, (row.id,)))
    found = tuple(remedies)
    return [Blocker("event", sentence(detail), name or "", until=left, remedies=found)]


def _held(kernel: KernelState, row: TaskRow, extra: RowExtra) -> Blocker:
    verdicts = "'retry' | 'fail' | 'complete'"
    remedy = Remedy("decide", f"Call orch.decide({row.id!r}, {verdicts}).", (row.id,))
    if is_unresolvable(row) and extra.error is not None:
        detail = f"What it needs is gone: {extra.error[1]}."
        back = Remedy("agent_back", "It goes on when that is back.", name=GONE)
        return Blocker("decision", detail, remedies=(back, remedy))
    words = "It goes on when a waiver covers it, or the policies allow it."
    other = Remedy("policy", words, (row.id,), "governance")
    if row in kernel.denied:
        detail = f"Policies deny its start: {why_held(row)}."
        return Blocker("policy", detail, "governance", remedies=(other, remedy))
    detail = sentence(f"A person must decide: {why_held(row)}")
    others = (other,) if rules_ask(row) else ()
    remedies = (*answers(kernel, row), *others, remedy)
    return Blocker("decision", detail, remedies=remedies)


def answers(kernel: KernelState, row: TaskRow) -> tuple[Remedy, ...]:
    """Return the calls that answer, if people are asked about the failure of *row*."""
    if row not in kernel.asked:
        return ()
    return (Remedy("decide", call_of_answer(kernel, row), (row.id,)),)


def _terminal(kernel: KernelState, row: TaskRow) -> Blocker:
    detail = "It has ended."
    extra = row.extra
    if extra is None:
        return Blocker("terminal", detail)
    if row.state is _S.CANCELLED and extra.stop_reason:
        detail = f"It has ended: {extra.stop_reason}."
    remedies: tuple[Remedy, ...] = ()
    if row.state is not _S.COMPLETED and extra.rerun_id is None:
        # A parent that did not complete either must run again first.
        # A journal that can give a task back says when it was submitted.
        remedies = reruns(kernel, [row], known=[row.id] if row.submitted_ns else ())
    if row.state is _S.FAILED and extra.error is not None:
        kind, message, cause = extra.error
        many = f" after {row.attempt} attempts" if row.attempt > 1 else ""
        detail = f"It failed{many} ({cause}): {kind}: {message}."
        if row.attempt > 1 and cause in ("error", "timeout"):
            detail += " Its retry policy allowed no more."
    if extra.rerun_id is not None:
        detail += f" It was run again, as {extra.rerun_id}."
    return Blocker("terminal", detail, remedies=remedies)


def _running(kernel: KernelState, row: TaskRow, inside: Sequence[str]) -> list[Blocker]:
    name = "" if row.worker is None else row.worker.name
    extra = row.extra
    if extra is not None and extra.stop:
        detail = f"It runs on {name}, and was asked to stop: {extra.stop_reason}."
        return [Blocker("stopping", detail, name=name)]
    if extra is not None and extra.returned_ns:
        detail = "Its function has returned, and its value is on its way to a store."
        return [Blocker("store", detail, name=name)]
    if extra is None or not extra.yielded:
        return []
    detail = "It has given its slot back, and waits"
    if row in kernel.returning:
        return [Blocker("slot", f"{detail} for a free one to go on.", name=name)]
    # Only the driver knows whether it waits for a task of another orchestrator, or a
    # time.
    detail += f" for another task: {some(inside)}." if inside else "."
    words = f"{some(inside)} must complete: orch.explain(…) says how."
    remedies = (Remedy("complete", words, tuple(inside)),) if inside else ()
    return [Blocker("dependency", detail, some(inside), remedies=remedies)]


def _delay(row: TaskRow, now: int) -> list[Blocker]:
    extra = row.extra
    if extra is None:
        return []
    due = extra.due_ns
    if row.state is _S.SUSPENDED:
        # The rest of the delay at the suspension counts; for a wait, the rest of its
        # timeout.
        due = now + (0 if awaits(row) else extra.resume_ns)
    if due <= now:
        return []
    left = (due - now) / NS
    why = "Its next attempt" if row.attempt else "It"
    detail = f"{why} may not start for another {in_words(left)}."
    remedy = Remedy("wait", f"Wait for {in_words(left)}.", seconds=left)
    found = [Blocker("delay", detail, until=left, remedies=(remedy,))]
    if extra.deadline_ns is not None and extra.deadline_ns <= due:
        over = max(0, extra.deadline_ns - now) / NS
        detail = f"It will fail before: its deadline is in {in_words(over)}."
        found.append(Blocker("deadline", detail, until=over))
    return found


# -- end of a task -----------------------------------------------------------------


def _granted(kernel: KernelState, row: TaskRow) -> str:
    """Describe the resources and units that *row* holds or held, and why."""
    if row.worker is None:
        return ""
    spec = row.bucket.spec
    need = spec.resources or row.worker.request
    if not need or (spec.elastic is not None and not row.alloc):
        # The allocation of an elastic request is not kept after its end.
        return ""
    less = row.reason.partition(LESS)[2]
    if less and not row.alloc:
        return f"It was given less than it asked for: {less}."
    # Other parts of the explanation name write paths, quotas and budgets.
    granted = without_quotas(row.alloc) or need
    units: dict[str, list[str]] = {}
    for resource, unit, _, is_own in units_told(kernel, row.alloc):
        whose = f"{unit} of worker {row.worker.name}" if is_own else unit
        units.setdefault(resource, []).append(whose)
    told = f"It {'holds' if row.alloc else 'was given'} {_amounts(granted, units)}"
    why = f"as worker {row.worker.name} says of tasks that do not say"
    if spec.resources:
        why = "as it asked for"
    if less and spec.elastic is None:
        return f"{told}, less than it asked for: {less}."
    if granted != need:
        by = f"by the latest grant: {less}" if less else "that is what was granted"
        return f"{told}: of {_amounts(need)}, {by}."
    return f"{told}, {why}."


def _amounts(amounts: Units, units: Mapping[str, Sequence[str]] = _NO_UNITS) -> str:
    """Write *amounts* by resource, with the names of their *units*."""
    return some(
        [
            f"{many / 1e6:g} {name}"
            + (f" ({some(units[name])})" if name in units else "")
            for name, many in amounts
        ]
    )


def _retries(row: TaskRow) -> tuple[str, ...]:
    """Return the reason of each attempt after the first."""
    return tuple(
        detail or "no reason given"
        for state, _, detail in moves_of(row)
        if state is _S.RETRYING
    )
