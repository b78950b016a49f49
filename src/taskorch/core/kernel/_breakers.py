"""Reasons why a worker gets no work: one list, for matching and for explanations.

A breaker is one of them, for a whole worker or for one of its capabilities. It is
closed, open until a time, or half-open with a number of probes. A change of it is an
event. The ends that it counts follow from the events of the attempts.

Decisions: start-decisions, workers-elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final, Literal

from taskorch.core.kernel import _limits, _queue
from taskorch.core.kernel._history import row_extra
from taskorch.core.kernel._rows import (
    AttemptEnd,
    BreakerRow,
    Bucket,
    Shortage,
    TaskRow,
    WorkerRow,
)
from taskorch.core.kernel._state import KernelState
from taskorch.events import AgentDraining, AgentProbed, AgentRestored, AgentTripped
from taskorch.kit.limits import NS
from taskorch.model import Breaker, TaskState

#: The longest open time of a breaker, as a multiple of the first one.
_LONGEST: Final = 16

#: The breaker settings for a worker without its own, when another is compared with it.
_ANY: Final = Breaker()


def shut_out(worker: WorkerRow, requires: tuple[str, ...] | None) -> list[Shortage]:
    """Return all reasons why *worker* gets no task that *requires* these."""
    reasons = []
    if worker.lost:
        reasons.append(Shortage("lost", worker=worker, is_hopeless=True))
    if worker.draining:
        reasons.append(Shortage("draining", worker=worker, is_hopeless=True))
    if worker.breakers:
        reasons += _by_breakers(worker, requires or ())
    return reasons


def _by_breakers(worker: WorkerRow, requires: tuple[str, ...]) -> Iterator[Shortage]:
    for name, one in worker.breakers.items():
        if name and name not in requires:
            continue
        if one.state == "open":
            yield Shortage("breaker open", name, worker=worker, until_ns=one.until_ns)
        elif _is_full(worker, one):
            yield Shortage("breaker half-open", name, worker=worker)


def _is_full(worker: WorkerRow, one: BreakerRow) -> bool:
    """Return whether a half-open breaker has no probe left for now."""
    breaker = worker.info.breaker
    most = 1 if breaker is None else breaker.probes
    return one.state == "half-open" and len(one.probes) + one.passed >= most


def for_now(kernel: KernelState, bucket: Bucket) -> list[WorkerRow]:
    """Return the matching workers that only a breaker keeps from tasks of *bucket*."""
    return [
        worker
        for worker in bucket.matching
        if worker.breakers
        and worker not in bucket.workers
        and all(
            short.kind.startswith("breaker")
            for short in shut_out(worker, bucket.spec.requires)
        )
        and _limits.too_small(kernel, bucket, worker) is None
    ]


# -- effects of attempts on a breaker ------------------------------------------------


def began(kernel: KernelState, worker: WorkerRow, row: TaskRow) -> None:
    """Note that an attempt of *row* begins on *worker*, perhaps as a probe."""
    requires = row.bucket.spec.requires or ()
    for name, one in worker.breakers.items():
        if one.state == "half-open" and (not name or name in requires):
            one.probes[row] = None
            if _is_full(worker, one):
                _changed(kernel)


def let_go(kernel: KernelState, worker: WorkerRow, row: TaskRow) -> None:
    """Note that an attempt of *row* is no longer under way on *worker*."""
    for one in worker.breakers.values():
        if row in one.probes:
            del one.probes[row]
            _changed(kernel)


def ended(worker: WorkerRow, row: TaskRow, now: int, *, failed: bool) -> None:
    """Note that an attempt of *row* has ended on *worker*, which has a breaker."""
    requires = row.bucket.spec.requires or ()
    if failed:
        extra = row_extra(row)
        if worker.name not in extra.failed_on:
            extra.failed_on = (*extra.failed_on, worker.name)
    else:
        for one in worker.breakers.values():
            if row in one.probes:
                one.passed += 1
    worker.ends.append((now, failed, row.id, requires))


def avoided(bucket: Bucket, row: TaskRow, worker: WorkerRow, now: int) -> bool:
    """Return whether *row*, which failed on *worker*, waits for another one instead.

    It does if most attempts on *worker* failed lately, and another worker may take it.
    """
    failed_on = () if row.extra is None else row.extra.failed_on
    if worker.name not in failed_on or worker.info.breaker is None:
        return False
    if not _mostly_fails(worker, "", now):
        return False
    return any(
        other.limit > other.leaked and other.name not in failed_on
        for other in bucket.workers
    )


# -- decisions to open or close ------------------------------------------------------


def judge(
    kernel: KernelState, worker: WorkerRow | None, row: TaskRow, now: int
) -> None:
    """Open or close breakers of *worker* after the end of an attempt of *row*."""
    if worker is None or worker.info.breaker is None or not worker.ends:
        return
    breaker = worker.info.breaker
    end = worker.ends[-1]
    if end[2] != row.id or end[0] != now:
        # The end of the attempt says nothing about the worker.
        return
    began_ns = row.started_ns
    for name in _kinds(worker, end[3]):
        one = worker.breakers.get(name)
        if one is None or one.state == "closed":
            if end[1] and (one is None or began_ns >= one.since_ns):
                _consider(kernel, worker, name, now)
        elif one.state == "half-open" and began_ns >= one.since_ns:
            if end[1]:
                _trip(kernel, worker, name, "a probe has failed", now)
            elif one.passed >= breaker.probes:
                why = f"{one.passed} of {breaker.probes} probes ended well"
                kernel.note(AgentRestored, now, worker.name, name, why)
                closed(kernel, worker, name, now)


def _kinds(worker: WorkerRow, requires: Iterable[str]) -> list[str]:
    """Return the breakers for which an end counts: each capability, and the worker."""
    if len(worker.info.capabilities) < 2:  # noqa: PLR2004 - there is nothing to tell apart
        return [""]
    return [*(name for name in requires if name in worker.info.capabilities), ""]


def _counted(worker: WorkerRow, name: str, now: int) -> list[AttemptEnd]:
    """Return the ends on *worker* that its breaker for *name* looks at."""
    breaker = worker.info.breaker or Breaker()
    one = worker.breakers.get(name)
    since = now - int(breaker.within * NS)
    if one is not None:
        since = max(since, one.since_ns)
    return [
        end for end in worker.ends if end[0] >= since and (not name or name in end[3])
    ]


def fell(worker: WorkerRow, row: TaskRow, now: int) -> None:
    """Note that an attempt of *row* has failed on *worker*, which has no breaker."""
    worker.falls.append((now, worker.completed, row.bucket.spec.requires or ()))


def _ended_lately(worker: WorkerRow, name: str, now: int) -> tuple[int, int]:
    """Count attempts that failed on *worker* lately, for *name*, and all that ended.

    A worker without a breaker keeps its failures, each with the number of completed
    attempts at that time. So its completed attempts count from the first failure on, or
    all of them.
    """
    breaker = worker.info.breaker
    if breaker is not None:
        ends = _counted(worker, name, now)
        return sum(end[1] for end in ends), len(ends)
    since = now - int(_ANY.within * NS)
    falls = [f for f in worker.falls if f[0] >= since and (not name or name in f[2])]
    before = falls[0][1] if falls else 0
    return len(falls), len(falls) + worker.completed - before


def _mostly_fails(worker: WorkerRow, name: str, now: int) -> bool:
    """Return whether enough recent attempts failed on *worker* to open the breaker."""
    failed, ended = _ended_lately(worker, name, now)
    breaker = worker.info.breaker or _ANY
    return failed >= max(breaker.rate * ended, 1)


def _consider(kernel: KernelState, worker: WorkerRow, name: str, now: int) -> None:
    """Open the breaker of *worker* for *name*, if that is due."""
    breaker = worker.info.breaker or Breaker()
    ends = [end for end in _counted(worker, name, now) if end[1]]
    tasks = {end[2] for end in ends}
    if len(tasks) < breaker.failures or not _mostly_fails(worker, name, now):
        return
    if not name and len(worker.info.capabilities) > 1 and len({e[3] for e in ends}) < 2:  # noqa: PLR2004
        # All failures are of one capability: the breaker of that capability is for
        # them.
        return
    peers = [
        other
        for other in kernel.workers.values()
        if other is worker
        or (
            not (other.lost or other.draining)
            and (name in other.info.capabilities if name else _are_alike(worker, other))
        )
    ]
    seen = [
        other
        for other in peers
        if other is not worker and _ended_lately(other, name, now)[1]
    ]
    if 2 * sum(_mostly_fails(other, name, now) for other in seen) > len(seen):
        # The task fails on most of these workers, so the tasks are at fault.
        return
    shut = sum(_is_shut(other, name) for other in peers)
    # One breaker may always open if another worker can do the work: a small share of a
    # few workers would be none.
    most = max(breaker.most_open * len(peers), 1 if len(peers) > 1 else 0)
    if shut + 1 > most:
        return
    why = f"{len(tasks)} tasks have failed there in {breaker.within:g} s"
    _trip(kernel, worker, name, why, now)


def _are_alike(worker: WorkerRow, other: WorkerRow) -> bool:
    """Return whether *other* has a capability that *worker* has."""
    return not set(worker.info.capabilities).isdisjoint(other.info.capabilities)


def _is_shut(worker: WorkerRow, name: str) -> bool:
    """Return whether a breaker keeps *worker* from most or all work for *name*."""
    return any(
        one.state != "closed" and (not key or key == name)
        for key, one in worker.breakers.items()
    )


def _trip(
    kernel: KernelState, worker: WorkerRow, name: str, why: str, now: int
) -> None:
    breaker = worker.info.breaker or Breaker()
    one = worker.breakers.get(name)
    times = 1 if one is None else min(_LONGEST, 1 << min(one.trips, 10))
    until = now + int(breaker.open * NS) * times
    kernel.note(AgentTripped, now, worker.name, name, until, why)
    opened(kernel, worker, name, until, now)


def probe(kernel: KernelState, worker: WorkerRow, now: int) -> None:
    """Half-open the breakers of *worker* whose time is over."""
    for name, one in list(worker.breakers.items()):
        if one.state == "open" and one.until_ns <= now:
            kernel.note(AgentProbed, now, worker.name, name)
            half_opened(kernel, worker, name, now)


def drain(kernel: KernelState, name: str, why: str, now: int) -> bool:
    """Stop new work for worker *name*, or, with *why* "", allow it; return if new."""
    worker = kernel.workers[name]
    before = worker.draining
    if before != why:
        kernel.note(AgentDraining, now, name, bool(why), why)
        drained(kernel, worker, why)
    return bool(before) != bool(why)


# -- effects of events ----------------------------------------------------------------


def opened(
    kernel: KernelState, worker: WorkerRow, name: str, until_ns: int, now: int
) -> None:
    """Apply that the breaker of *worker* for *name* is open."""
    one = worker.breakers.setdefault(name, BreakerRow())
    worker.is_plain = False
    one.trips += 1
    one.until_ns = until_ns
    _turn(kernel, one, "open", now)
    _queue.arm(kernel, until_ns, _queue.BREAKER, worker)


def half_opened(kernel: KernelState, worker: WorkerRow, name: str, now: int) -> None:
    """Apply that the breaker of *worker* for *name* lets probes through."""
    _turn(kernel, worker.breakers[name], "half-open", now)


def closed(kernel: KernelState, worker: WorkerRow, name: str, now: int) -> None:
    """Apply that the breaker of *worker* for *name* is closed."""
    one = worker.breakers[name]
    one.trips = 0
    _turn(kernel, one, "closed", now)


def drained(kernel: KernelState, worker: WorkerRow, why: str) -> None:
    """Apply that *worker* gets no new work because of *why*; with "", it does again."""
    worker.draining = why
    _changed(kernel)


def _turn(
    kernel: KernelState,
    one: BreakerRow,
    state: Literal["closed", "open", "half-open"],
    now: int,
) -> None:
    one.state = state
    one.since_ns = now
    one.passed = 0
    one.probes = {}
    _changed(kernel)


def _changed(kernel: KernelState) -> None:
    kernel.workers_version += 1
    _queue.unpark_all(kernel)


def restore(kernel: KernelState, worker: WorkerRow, told: Iterable[Any]) -> None:
    """Set the breakers of *worker* from a snapshot; its attempts are known."""
    for name, state, since_ns, until_ns, trips, passed in told:
        one = worker.breakers[name] = BreakerRow()
        worker.is_plain = False
        one.state, one.since_ns, one.until_ns = state, since_ns, until_ns
        one.trips, one.passed = trips, passed
        if state == "open":
            _queue.arm(kernel, until_ns, _queue.BREAKER, worker)
        elif state == "half-open":
            one.probes = {
                row: None
                for row in kernel.tasks.values()
                if row.worker is worker
                and row.state is TaskState.RUNNING
                and row.started_ns >= since_ns
                and (not name or name in (row.bucket.spec.requires or ()))
            }
    _changed(kernel)
