"""Search for tasks that can never proceed, in slices, each task looked at once.

It also has a check that a task above a soft quota did not start before one within.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import chain
from typing import Final, TypeAlias

from taskorch.core.kernel import _breakers, _limits, _scopes
from taskorch.core.kernel._application import is_under_way, worker_of
from taskorch.core.kernel._control import is_unresolvable
from taskorch.core.kernel._dependencies import awaits, is_broken, is_waiting, least
from taskorch.core.kernel._explain._explanation import answers, explain
from taskorch.core.kernel._explain._holders import (
    Share,
    leaked_shares,
    share_of,
    shares_by_hand,
)
from taskorch.core.kernel._explain._parents import reruns
from taskorch.core.kernel._explain._people import (
    call_of_answer,
    sentence,
    wait_of,
    why_held,
)
from taskorch.core.kernel._explain._words import Wording
from taskorch.core.kernel._limits import exceeded
from taskorch.core.kernel._rows import Bucket, RowExtra, TaskRow, WorkerRow, of_quotas
from taskorch.core.kernel._shortages import impossible, match
from taskorch.core.kernel._state import KernelState
from taskorch.core.kernel._units import book
from taskorch.kit.frozen import frozen
from taskorch.kit.words import some
from taskorch.model import ANSWER_TO, TERMINAL, Remedy, Stuck, TaskState, is_for_people


def passed_over(
    kernel: KernelState, last: TaskRow, firsts: Iterable[TaskRow], now: int
) -> TaskRow | None:
    """Return a task of *firsts* that could have started before *last*, or None.

    It is within its soft quotas. The last event of the step was the start of *last*,
    above its soft quota. For the check, the resources of *last* are given back for a
    moment. *firsts* are the heads of the buckets.
    """
    elastic = last.bucket.spec.elastic is not None
    if elastic or kernel.reserving is not None:
        # Elastic grants and reservations would turn out differently, so nothing can be
        # compared.
        return None
    _take(kernel, last, -1)
    try:
        for row in firsts:
            if row.bucket.spec.elastic is None and _could_start(kernel, row, now):
                return row
    finally:
        _take(kernel, last, 1)
    return None


def _could_start(kernel: KernelState, row: TaskRow, now: int) -> bool:
    told = explain(kernel, row, now)
    return told.runnable and exceeded(kernel, row.bucket) is None


def _take(kernel: KernelState, row: TaskRow, sign: int) -> None:
    worker = worker_of(row)
    kernel.running += sign
    worker.running += sign
    for name, units in row.alloc:
        if name in kernel.beside:
            book(kernel, kernel.beside[name], sign * units)
            continue
        worker.used[name] += sign * units
        if name in kernel.pools:
            kernel.pools[name].used += sign * units


_S: Final = TaskState
#: The number of tasks that are looked at in one slice.
SLICE: Final = 1_000

#: What an attempt waits for: pairs of tasks, and how many of them.
Waits: TypeAlias = Sequence[tuple[int, Sequence[TaskRow]]]
#: Makes the sentence and the remedies, given the tasks that have a cause themselves.
_Tell: TypeAlias = Callable[[tuple[str, ...]], tuple[str, tuple[Remedy, ...]]]


@frozen(eq=False)
class _Cause:
    """Cause for which a group of tasks is stuck."""

    kind: str
    tell: _Tell
    outside: bool


class Search:
    """A search for stuck tasks.

    Iterate over `slices()` to its end, with the lock held for each step only; `groups`
    has the findings. Tasks that moved on meanwhile are left out. *waits* has, for each
    attempt that waits inside, the tasks that it waits for; those in *left* keep each
    other from going on, by what they hold.
    """

    def __init__(
        self,
        kernel: KernelState,
        now: int,
        waits: Mapping[TaskRow, Waits],
        left: Sequence[TaskRow] = (),
    ) -> None:
        self._kernel = kernel
        self._now = now
        #: The causes, by kind and subject.
        self._causes: dict[tuple[str, tuple[str, ...]], _Cause] = {}
        #: The cause for which each task is stuck, the state that it was in, and whether
        #: the cause is its own: else it waits for a stuck task.
        self._stuck: dict[TaskRow, tuple[_Cause, TaskState, bool]] = {}
        #: The findings, once the search has ended.
        self.groups: tuple[Stuck, ...] = ()
        #: Stuck tasks whose dependents have not been looked at yet.
        self._todo: list[TaskRow] = []
        self._buckets: dict[Bucket, _Cause | None] = {}
        self._roots: dict[TaskRow, tuple[str, ...]] = {}
        #: Buckets with queued tasks that are not stuck so far.
        self._queued: dict[Bucket, list[TaskRow]] = {}
        #: For each task, how many of its parents are stuck.
        self._parents: Counter[TaskRow] = Counter()
        self._held = _Held(kernel)
        #: Resources that people hold; filled once no attempt holds anything up.
        self._by_hand: list[Share] = []
        #: True if a deadline may end a task, and so release tasks that wait for its
        #: end.
        deciders = kernel.deciders
        self._mortal = not deciders.admits_all or deciders.max_age_ns is not None
        self._waits = waits
        self._left = left
        self._awaited: dict[TaskRow, dict[TaskRow, None]] = {}
        for row, every in waits.items():
            for target in {row: None for _, rows in every for row in rows}:
                self._awaited.setdefault(target, {})[row] = None

    def slices(self) -> Iterator[None]:
        """
        Look at everything, a slice at a time.

        Raises:
            PolicyFault: The registry failed.
        """
        rows = list(self._kernel.tasks.values())
        for share in leaked_shares(self._kernel):
            self._held.add(share)
        names = tuple(row.id for row in self._left)
        for row in self._left:
            cause = self._cause("waiting", names, partial(_free_holders, names))
            self._mark(row, cause, own=True)
        yield
        for start in range(0, len(rows), SLICE):
            for row in rows[start : start + SLICE]:
                if row.state not in TERMINAL:
                    self._classify(row)
            yield
        while self._todo or self._hold_up() or self._take_hands():
            for _ in range(min(SLICE, len(self._todo))):
                self._follow(self._todo.pop())
            yield
        yield from self._gather()

    def _take_hands(self) -> bool:
        """Add the resources that people hold, a last step; return if there are any."""
        if self._by_hand:
            return False
        for share in shares_by_hand(self._kernel):
            self._by_hand.append(share)
            self._held.add(share)
        return bool(self._by_hand)

    # -- causes --------------------------------------------------------------------

    def _classify(self, row: TaskRow) -> None:
        """Find the cause for which *row* itself is stuck, if there is one."""
        cause = None
        extra = row.extra
        if extra is not None and extra.deadline_ns is not None:
            self._mortal = True
        if row.state is _S.BLOCKED and extra is not None:
            cause = self._blocked(row, extra)
        elif row.state is _S.SUSPENDED:
            cause = self._cause("suspended", (), _resume, outside=True)
        elif row.state is not _S.RUNNING and wait_of(row) is None:
            bucket = row.bucket
            cause = self._impossible(bucket, row)
            if cause is None and row.state is _S.QUEUED:
                self._queued.setdefault(bucket, []).append(row)
        if cause is not None:
            self._mark(row, cause, own=True)

    def _mark(self, row: TaskRow, cause: _Cause, *, own: bool = False) -> None:
        self._stuck[row] = cause, row.state, own
        self._todo.append(row)
        if is_under_way(row):
            self._held.add(share_of(row))

    def _cause(
        self, kind: str, what: tuple[str, ...], tell: _Tell, *, outside: bool = False
    ) -> _Cause:
        """Return the cause of this kind that is about *what*, made if need be."""
        found = self._causes.get((kind, what))
        if found is None:
            found = self._causes[kind, what] = _Cause(kind, tell, outside)
        return found

    def _blocked(self, row: TaskRow, extra: RowExtra) -> _Cause | None:
        if extra.blocked_by:
            roots = self._roots_of(row)
            return self._cause("dependency", roots, lambda _: self._failed(roots))
        wait = wait_of(row)
        if wait is not None and awaits(row):
            # A wait for a time, or with a timeout, ends by itself.
            name = wait[0]
            if name is None or extra.due_ns:
                return None
            whom = self._kernel.whom(row.cargo)
            tell_event = partial(self._event, name, whom)
            return self._cause("event", (name, whom), tell_event, outside=True)
        why = why_held(row)
        kind = "gone" if is_unresolvable(row) else "decision"

        def tell(ids: tuple[str, ...]) -> tuple[str, tuple[Remedy, ...]]:
            verdicts = "'retry' | 'fail' | 'complete'"
            words = f"Call orch.decide({ids[0]!r}, {verdicts}){_and_so_on(ids)}."
            remedies = (*answers(self._kernel, row), Remedy("decide", words, ids))
            return sentence(f"A person must decide: {why}"), remedies

        return self._cause(kind, (why,), tell, outside=True)

    def _event(
        self, name: str, whom: str, ids: tuple[str, ...]
    ) -> tuple[str, tuple[Remedy, ...]]:
        if not is_for_people(name):
            remedy = Remedy("emit", f"Call orch.emit({name!r}, …).", name=name)
            return f"They wait for the event {name!r}.", (remedy,)
        call = call_of_answer(self._kernel, self._kernel.tasks[ids[0]])
        asks = "They wait for somebody to approve"
        if name.startswith(ANSWER_TO):
            asks = f"They ask: {name.removeprefix(ANSWER_TO)}"
        asks = sentence(f"{asks} ({whom})" if whom else asks)
        return asks, (Remedy("decide", f"{call[:-1]}{_and_so_on(ids)}.", ids),)

    def _roots_of(self, row: TaskRow) -> tuple[str, ...]:
        """Return the ids of the first failures above *row*, kept for later calls."""
        known = self._roots
        stack = [row]
        while stack:
            top = stack[-1]
            parents = [] if top.extra is None else [*top.extra.blocked_by.values()]
            new = [p for p in parents if p not in known and _is_blocked(p)]
            if new:
                stack += new
                continue
            stack.pop()
            found = [known[p] if p in known else _root(p) for p in parents]
            # Mostly all parents have the same roots: then one tuple serves for all.
            same = found.count(found[0]) == len(found)
            known[top] = found[0] if same else tuple(dict.fromkeys(chain(*found)))
        return known[row]

    def _failed(self, roots: tuple[str, ...]) -> tuple[str, tuple[Remedy, ...]]:
        kernel = self._kernel
        rows = [kernel.tasks[name] for name in roots if name in kernel.tasks]
        told = [_end(row) for row in rows]
        gone = [name for name in roots if name not in kernel.tasks]
        told += [f"{name} did not complete, and has left memory" for name in gone]
        remedies = () if gone else reruns(kernel, rows)
        return f"They need what did not complete: {some(told)}.", remedies

    def _impossible(self, bucket: Bucket, row: TaskRow) -> _Cause | None:
        """Return the cause why no worker can do the tasks of *bucket*, or None."""
        if bucket in self._buckets:
            return self._buckets[bucket]
        kernel = self._kernel
        if bucket.workers_version != kernel.workers_version:
            match(kernel, bucket, row, self._now)
        cause = None
        workers = bucket.workers or _breakers.for_now(kernel, bucket)
        if (
            not workers
            or (bucket.workers and self._is_beyond_quota(bucket))
            or any(
                short.is_hopeless
                for limit in bucket.limits
                for short in limit.shortages(kernel, row, self._now)
            )
        ):
            words = Wording(kernel, row, self._now)
            found = [words.of(s) for s in impossible(kernel, row, self._now)]
            detail = " ".join(dict.fromkeys(blocker.detail for blocker in found))
            remedies = tuple(dict.fromkeys(r for b in found for r in b.remedies))
            cause = self._cause(found[0].kind, (detail,), lambda _: (detail, remedies))
        if bucket.workers_version >= 0:
            self._buckets[bucket] = cause
        elif row is not bucket.head():
            # The registry may answer differently for the next task.
            return None
        return cause

    def _is_beyond_quota(self, bucket: Bucket) -> bool:
        """Return whether every task of *bucket* exceeds its whole quota."""
        needs = [of_quotas(_limits.wanted(bucket, worker)) for worker in bucket.workers]
        return all(
            any(short.is_hopeless for short in _limits.of_pools(self._kernel, need))
            for need in needs
        )

    # -- effects on other tasks ----------------------------------------------------

    def _follow(self, row: TaskRow) -> None:
        """Mark the tasks that need the stuck *row* as stuck too."""
        cause = self._stuck[row][0]
        # Dependents of a broken task are blocked by it already.
        links = None if is_broken(row) else row.links
        for child in () if links is None else links.dependents:
            if child.state is _S.PENDING and child not in self._stuck:
                self._parents[child] += 1
                if self._needs(child):
                    self._mark(child, cause)
        for other in self._awaited.get(row, ()):
            every = self._waits[other]
            # It may have ended meanwhile.
            runs = other.state is _S.RUNNING and other not in self._stuck
            if runs and any(
                sum(target not in self._stuck for target in rows) < least
                for least, rows in every
            ):
                self._mark(other, cause)

    def _needs(self, child: TaskRow) -> bool:
        """Return whether *child* cannot go on without its parents that are stuck."""
        links = child.links
        if links is None or not is_waiting(child):
            return False
        terms = links.terms
        if terms is None:
            return True
        by_end = terms.join in ("finished", "asked") or terms.on_failure == "run"
        if by_end and self._mortal:
            return False
        if terms.join in ("all", "finished"):
            return True
        broken = 0 if child.extra is None else len(child.extra.blocked_by)
        left = len(links.parents) - broken - self._parents[child]
        done = len(links.parents) - links.waiting
        return left <= done if terms.join == "asked" else left < least(terms)

    def _hold_up(self) -> bool:
        """Mark queued tasks that need what stuck ones hold; return whether any do."""
        held = self._held
        if not held.holders:
            return False
        found = False
        for bucket, rows in list(self._queued.items()):
            if held.has_room_for(bucket):
                continue
            found = True
            del self._queued[bucket]
            cause = self._held_by_hand(bucket)
            if cause is None:
                names = tuple(held.holders)
                cause = self._cause("waiting", names, partial(_free_holders, names))
            for row in rows:
                # It may have started meanwhile.
                if row.state is _S.QUEUED:
                    self._mark(row, cause)
        return found

    def _held_by_hand(self, bucket: Bucket) -> _Cause | None:
        """Return the cause of the tasks of *bucket*, if people hold their resources."""
        wants = {
            name
            for worker in bucket.workers
            for name, _ in _limits.wanted(bucket, worker)
        }
        names = tuple(
            holder
            for holder, _, _, alloc in self._by_hand
            if any(name in wants for name, _ in alloc)
        )
        if not names:
            return None
        return self._cause("allocation", names, lambda _: _release(names), outside=True)

    # -- the answer ----------------------------------------------------------------

    def _gather(self) -> Iterator[None]:
        names: dict[_Cause, list[str]] = {}
        owners: dict[_Cause, list[str]] = {}
        stuck = enumerate(self._stuck.items(), 1)
        for number, (row, (cause, state, own)) in stuck:
            if row.state is state:
                names.setdefault(cause, []).append(row.id)
                if own:
                    owners.setdefault(cause, []).append(row.id)
            if not number % SLICE:
                yield
        groups = []
        for cause, ids in names.items():
            detail, remedies = cause.tell(tuple(owners.get(cause, ids)))
            found = Stuck(cause.kind, detail, tuple(ids), remedies, cause.outside)
            groups.append(found)
        # Groups that wait for something outside come last, and large groups first.
        groups.sort(key=lambda group: (group.outside, -len(group.tasks)))
        self.groups = tuple(groups)


class _Held:
    """Slots and resources of stuck attempts that will not be free again."""

    def __init__(self, kernel: KernelState) -> None:
        self._kernel = kernel
        self.holders: list[str] = []
        self._slots: Counter[WorkerRow] = Counter()
        self._units: Counter[str] = Counter()
        self._of_worker: Counter[tuple[WorkerRow, str]] = Counter()

    def add(self, share: Share) -> None:
        """Add the slots and resources that one attempt holds, and will keep."""
        name, worker, slots, alloc = share
        if slots or alloc:
            self.holders.append(name)
        self._slots[worker] += slots
        self._units.update(_scopes.held_in(self._kernel, alloc))
        for resource, units in alloc:
            self._of_worker[worker, resource] += units

    def has_room_for(self, bucket: Bucket) -> bool:
        """Return whether a task of *bucket* could start once all other attempts end."""
        kernel = self._kernel
        if self._slots.total() >= kernel.config.concurrency:
            return False
        for limit in bucket.limits:
            if not limit.leaves(kernel, bucket, self._units):
                return False
        return not bucket.workers or any(
            self._slots[worker] < worker.limit
            and all(
                self._fits(worker, name, units)
                for name, units in _limits.wanted(bucket, worker)
            )
            for worker in bucket.workers
        )

    def _fits(self, worker: WorkerRow, name: str, units: int) -> bool:
        pool, own = self._kernel.pools.get(name), worker.capacity.get(name)
        if pool is not None and pool.total - self._units[name] < units:
            return False
        return own is None or own - self._of_worker[worker, name] >= units


def _is_blocked(row: TaskRow) -> bool:
    return (
        row.state is _S.BLOCKED and row.extra is not None and bool(row.extra.blocked_by)
    )


def _root(parent: TaskRow) -> tuple[str, ...]:
    """Return the ids of the tasks that failed first above *parent*, or its own."""
    extra = parent.extra
    return extra.first_roots if extra is not None and extra.passed_on else (parent.id,)


def _end(row: TaskRow) -> str:
    """Describe how *row*, which did not complete, ended."""
    extra = row.extra
    if row.state is _S.FAILED and extra is not None and extra.error is not None:
        kind, message, _ = extra.error
        return f"{row.id} failed ({kind}: {message})"
    return f"{row.id} is {row.state}"


def _resume(ids: tuple[str, ...]) -> tuple[str, tuple[Remedy, ...]]:
    words = f"Call orch.resume_task({ids[0]!r}){_and_so_on(ids)}."
    detail = "They were suspended, or wait for what was."
    return detail, (Remedy("resume", words, ids),)


def _and_so_on(ids: tuple[str, ...]) -> str:
    return f", and so on for {some(ids[1:])}" if len(ids) > 1 else ""


def _release(names: tuple[str, ...]) -> tuple[str, tuple[Remedy, ...]]:
    detail = f"They need what was taken by hand: {some(names)}."
    words = "Release it, by orch.resources.release(…)."
    return detail, (Remedy("release", words, names),)


def _free_holders(
    ids: tuple[str, ...], _: tuple[str, ...]
) -> tuple[str, tuple[Remedy, ...]]:
    detail = (
        f"They need what {some(ids)} hold{'s' * (len(ids) == 1)}, which cannot end."
    )
    words = f"Help {ids[0]} to its end, or end it from outside."
    return detail, (Remedy("free", words, ids),)
