"""One draw: the open tasks, carried out in virtual time from their present state."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

import attrs

from taskorch.core.kernel import (
    Again,
    Bucket,
    Spec,
    TaskRow,
)
from taskorch.core.worlds import Ending, Means, PlanDeciders, PlanRun, SimulatedPlan
from taskorch.errors import UsageError
from taskorch.ext.simulation._open._draws import NEVER, OpenChance
from taskorch.ext.simulation._open._work import OpenTask, OpenWork, OutsideParent
from taskorch.model import TERMINAL, Agent, TaskState, Units

#: States of tasks that have not begun.
_ASIDE: Final = frozenset({TaskState.PENDING, TaskState.QUEUED, TaskState.RETRYING})
_BLOCKED: Final = TaskState.BLOCKED
_SKIPPED: Final = "the run before has not ended"
#: The time of an end that never comes.
NO_END: Final = 1 << 62
#: A task with more attempts than this does not end.
_MOST_ATTEMPTS: Final = 1_000
#: The time is checked after so many ends.
_LOOKS: Final = 256


@attrs.frozen
class Tried:
    """
    Changes that are tried.

    Attributes:
        priorities: The new priority of a task, by its place.
        more: The additional units of a pool, in millionths, by its name.
        slots: The number of additional attempts at once.
        workers: The number of additional workers like one, by its name.
        later: The places of tasks that are suspended.
        until: The places of tasks after which they go on; empty: they stay suspended.
    """

    priorities: Mapping[int, int] = attrs.field(factory=dict)
    more: Mapping[str, int] = attrs.field(factory=dict)
    slots: int = 0
    workers: Mapping[str, int] = attrs.field(factory=dict)
    later: Sequence[int] = ()
    until: Sequence[int] = ()

    def __or__(self, other: Tried) -> Tried:
        """Return both changes as one; what waits, waits as in *self*."""
        return attrs.evolve(
            self,
            priorities={**self.priorities, **other.priorities},
            more={**self.more, **other.more},
            slots=self.slots + other.slots,
            workers={**self.workers, **other.workers},
        )

    def means(self, means: Means) -> Means:
        """Return *means* with the more slots, workers and units that a change tries."""
        means = means.more_slots(self.slots)
        records = dict(means.records)
        joining: list[Agent] = []
        for worker in means.workers:
            for number in range(self.workers.get(worker.name, 0)):
                # No worker of a user has a plus in its name: it is no safe id.
                name = f"{worker.name}+{number + 1}"
                joining.append(attrs.evolve(worker, name=name))
                records[joining[-1].name] = records.get(worker.name, {})
        workers = (*means.workers, *joining)
        # A pool that is too small for a task would refuse it.
        pools = tuple([(name, n + self.more.get(name, 0)) for name, n in means.pools])
        return attrs.evolve(means, workers=workers, records=records, pools=pools)


class _OverError(Exception):
    """The end of a draw: all wanted tasks have ended, or the time is over."""


class _OpenPlan(SimulatedPlan):
    """The open work, as a plan for policies and the kernel."""

    __slots__ = ("_open",)

    def __init__(self, work: OpenWork) -> None:
        super().__init__()
        self._open = work.tasks
        self.ids = [each.id for each in work.tasks]
        self.tasks = [each.task for each in work.tasks]


class _OpenDeciders(PlanDeciders):
    """Deciders that know the workers of the running tasks."""

    def __init__(
        self,
        means: Means,
        plan: SimulatedPlan,
        expected: Sequence[int],
        work: OpenWork,
    ) -> None:
        super().__init__(means, plan, expected)
        self._open = work.tasks
        #: The tries of tasks before the draw, until their first failure in it.
        self._tries = {p: each.tries for p, each in enumerate(work.tasks) if each.tries}
        #: Whether just the running tasks are begun, and nothing else.
        self.resumes: bool = False

    def route(self, row: TaskRow, candidates: Any, now: int) -> tuple[Any, str, bool]:
        """See `Deciders.route`."""
        if self.resumes:
            worker = self.kernel.workers.get(self._open[row.cargo].worker)
            if worker is not None and worker in candidates:
                return worker, "it runs there", False
        return super().route(row, candidates, now)

    def allocate(
        self,
        row: TaskRow,
        worker: Any,
        request: Units,
        now: int,
        least: Units | None = None,
        held: Units | None = None,
    ) -> tuple[Units | None, str, bool]:
        """See `Deciders.allocate`."""
        if self.resumes and held is None:
            holds = dict(self._open[row.cargo].alloc)
            granted = tuple((name, holds.get(name, n)) for name, n in request)
            return granted, "", False
        return super().allocate(row, worker, request, now, least, held)

    def retry(
        self,
        row: TaskRow,
        error: BaseException | None,
        cause: str,
        elapsed_ns: int,
        now: int,
    ) -> Again:
        """See `Deciders.retry`; the tries before the draw count, too."""
        if row.extra is not None:
            row.extra.charged += self._tries.pop(row.cargo, 0)
        return super().retry(row, error, cause, elapsed_ns, now)


def _with_room(means: Means, work: OpenWork) -> Means:
    """Return *means* without quotas, and with room for all that runs already."""
    running = [each for each in work.tasks if each.worker]
    held: Counter[str] = Counter()
    for each in running:
        held.update(dict(each.alloc))
    for name, _ in means.named:
        del held[name]
    pools = tuple([(name, max(units, held[name])) for name, units in means.pools])
    config = means.config
    config = attrs.evolve(config, concurrency=max(config.concurrency, len(running)))
    return attrs.evolve(means, pools=pools, quotas=(), config=config)


class OpenRun(PlanRun):
    """
    One simulated future of open tasks, with one draw of random durations and failures.

    Args:
        work: The open work.
        chance: The random durations and failures.
        wanted: The places of the tasks whose end is asked for; the draw is over when
            they have ended.
        is_late: Says whether the time is over.
        tried: The changes to the present state.
        horizon_ns: Later ends do not matter; None: all matter.
    """

    def __init__(
        self,
        work: OpenWork,
        chance: OpenChance,
        wanted: Collection[int],
        is_late: Callable[[], bool],
        tried: Tried | None = None,
        horizon_ns: int | None = None,
    ) -> None:
        self._tried = Tried() if tried is None else tried
        self._awaited = dict.fromkeys(self._tried.until)
        self._horizon_ns = NEVER + work.now_ns if horizon_ns is None else horizon_ns
        self._work = work
        self._left = dict.fromkeys(wanted)
        self._is_late = is_late
        #: The number of attempts that have ended.
        self.ended: int = 0
        #: Whether it was cut short because the time was over.
        self.is_cut: bool = False
        #: The virtual time at its end, in ns.
        self.reached_ns: int = work.now_ns
        #: By the places of tasks that a failure keeps from ending: since when, or None
        #: if a person is asked about the failure, or the task fails for ever.
        self.lost: dict[int, int | None] = {}
        #: Whether a person is asked about a failure, or a task fails for ever.
        self.is_stuck: bool = False
        self.rows: dict[int, TaskRow] = {}
        self._buckets: dict[tuple[Spec, bool], Bucket] = {}
        self._means = self._tried.means(work.means)
        self._roomy = _with_room(self._means, work)
        super().__init__(self._roomy, _OpenPlan(work), chance)

    def deciders(self, means: Means) -> PlanDeciders:
        expected = self.chance.expected
        self._asked = _OpenDeciders(means, self.plan, expected, self._work)
        return self._asked

    def carry_out(self) -> None:
        """
        Carry out the simulation until the wanted tasks have ended, or it is cut short.

        Raises:
            ComponentError: A policy failed when it was asked about a submission.
        """
        with suppress(_OverError):
            self.go()

    def ended_ns(self, place: int, *, of_run: bool = False) -> int | None:
        """
        Return when the task at *place* ended, in ns; None: it did not.

        If the end *of_run* is asked for, a task that a failure blocks has ended: a run
        whose other tasks have ended has failed.
        """
        row = self.rows[place]
        if row.state in TERMINAL:
            return row.ended_ns
        return self.lost.get(place) if of_run else None

    def last_ns(self, places: Iterable[int], *, of_run: bool) -> int:
        """Return when the last of *places* ended, or `NO_END`; see `ended_ns`."""
        ends = [self.ended_ns(place, of_run=of_run) for place in places]
        return max(NO_END if end is None else end for end in ends)

    # -- the present state ---------------------------------------------------------

    def submit_plain(self) -> bool:
        work, kernel, now = self._work, self.kernel, self.begins
        # Running tasks get their present workers before anything else is placed.
        self._asked.resumes = True
        for place, each in enumerate(work.tasks):
            if each.worker:
                self._enter(place, each)
        kernel.unpause()
        self.settle()
        kernel.pause()
        self._asked.resumes = False
        self._limit(now)
        for place, each in enumerate(work.tasks):
            if not each.worker:
                self._enter(place, each)
        for name, why in work.draining.items():
            if name in kernel.workers:
                kernel.drain(name, why, now)
        for who, (most, reason, lasts) in work.holds.items():
            kernel.hold_starts(who, most, reason, now, lasts=lasts)
        for at, places, before in work.skipped:
            self.timeline.at(at - 1, self._come, (places, before))
        self._try(now)
        return True

    def _come(self, tick: tuple[Sequence[int], Sequence[int]]) -> None:
        """Let a tick of a schedule come; skip it if a run before it goes on."""
        places, before = tick
        if any(self.ended_ns(place, of_run=True) is None for place in before):
            for place in places:
                if self.rows[place].state not in TERMINAL:
                    self.kernel.cancel(self.rows[place], self.timeline.now, _SKIPPED)

    def _limit(self, now: int) -> None:
        """Set the limits that no running task must wait for, but later ones."""
        work, kernel = self._work, self.kernel
        if self._means.pools != self._roomy.pools:
            kernel.change_pools(self._means.pools, now, named=self._means.named)
        kernel.change_quotas(self._means.quotas, now)
        for limit in kernel.limits:
            limit.back(work.tokens)
        for name, breakers in work.breakers.items():
            if name in kernel.workers:
                kernel.restore_breakers(kernel.workers[name], breakers)
        concurrency = self._means.config.concurrency
        kernel.limit(concurrency if work.room is None else work.room)
        for place, each in enumerate(work.tasks):
            if each.waits_inside:
                kernel.yield_slot(self.rows[place], 1, now)

    def _try(self, now: int) -> None:
        """Make the changes that are tried, by the methods of the kernel."""
        kernel, tried = self.kernel, self._tried
        for place, priority in tried.priorities.items():
            row = self.rows[place]
            if row.id in kernel.tasks:
                kernel.set_priority(row, priority, now)
        for place in tried.later:
            row = self.rows[place]
            # Running tasks go on: only tasks that have not begun are suspended.
            if row.id in kernel.tasks and row.state in _ASIDE:
                kernel.suspend(row, now, holdable=False)

    def _go_on(self) -> None:
        """Resume the suspended tasks."""
        for place in self._tried.later:
            row = self.rows[place]
            if row.state is TaskState.SUSPENDED:
                self.kernel.resume(row, row.ended_ns or self.reached_ns)

    def _enter(self, place: int, each: OpenTask) -> None:
        """Take in one task; leave out one that nobody can do now, which never ends."""
        kernel = self.kernel
        bucket = self._bucket(place, each.spec)
        parents = [self._parent(above) for above in each.parents]
        deadline_ns = each.deadline_ns
        if each.worker and deadline_ns is not None and deadline_ns <= self.begins:
            # It runs on although it was asked to stop.
            deadline_ns = None
        if self.chance.first[place] == NEVER:
            # It may end long before its deadline.
            deadline_ns = None
        aging = kernel.deciders.aging_ns
        try:
            if each.is_plain and aging is not None and place not in self.rows:
                self.rows[place] = kernel.submit(
                    each.id,
                    bucket,
                    place,
                    each.key + each.priority * aging,
                    each.priority,
                    tuple(parents),
                    run=each.run,
                )
                return
            row = self._entered(place)
            admitted = self.considered(
                row,
                priority=each.priority,
                parents=parents,
                not_before_ns=each.due_ns or None,
                deadline_ns=deadline_ns,
                terms=each.terms,
            )
        except UsageError:
            self._entered(place)
            return
        if each.key is not None:
            admitted.key = each.key
        kernel.accept(admitted, self.begins)

    def _entered(self, place: int) -> TaskRow:
        """Return the row of a task, and make it if there is none."""
        row = self.rows.get(place)
        if row is None:
            each = self._work.tasks[place]
            bucket = self._bucket(place, each.spec)
            row = TaskRow(each.id, place, bucket, place, each.submitted_ns)
            row.run = each.run
            self.rows[place] = row
        return row

    def _bucket(self, place: int, spec: Spec) -> Bucket:
        """Return the bucket of a task with *spec*."""
        is_unknown = self.chance.first[place] == NEVER
        bucket = self._buckets.get((spec, is_unknown))
        if bucket is None:
            # A task of unknown duration may end long before its timeout.
            timeout_ns = None if is_unknown else spec.timeout_ns
            bucket = self.kernel.bucket(attrs.evolve(spec, timeout_ns=timeout_ns))
            self._buckets[spec, is_unknown] = bucket
        return bucket

    def _parent(self, above: int | OutsideParent) -> TaskRow:
        if isinstance(above, int):
            return self._entered(above)
        bucket = self.kernel.bucket(Spec("", allow_failure=above.allow_failure))
        row = TaskRow(above.id, 0, bucket, None, self.begins)
        # A parent whose end nobody knows counts as pending.
        row.state = above.state if above.state in TERMINAL else TaskState.PENDING
        return row

    # -- until the wanted tasks have ended -------------------------------------------

    def again(self, row: TaskRow) -> int:
        if row.attempt <= _MOST_ATTEMPTS:
            return super().again(row)
        self.is_stuck = True
        self.lost[row.cargo] = None
        self._leave(row)
        return NEVER

    def end(self, ending: Ending) -> None:
        super().end(ending)
        self._look(ending[0])

    def note_end(self, row: TaskRow, outcome: str, now: int) -> None:
        if now >= NEVER or now > self._horizon_ns:
            raise _OverError
        self.reached_ns = now
        self.ended += 1
        if self.ended % _LOOKS == 0 and self._is_late():
            self.is_cut = True
            raise _OverError

    def tidy(self) -> None:
        """See `PlanRun.tidy`; note also which tasks go on no more."""
        now, touched = self.timeline.now, self.kernel.touched
        if touched:
            super().tidy()
        for row, _ in touched:
            # What is blocked from the start would not end in any draw.
            if row.state is _BLOCKED and now > self.begins:
                terms = None if row.links is None else row.links.terms
                if terms is None or not terms.awaits:
                    is_lost = row.extra is not None and bool(row.extra.blocked_by)
                    self.is_stuck = self.is_stuck or not is_lost
                    self.lost[row.cargo] = now if is_lost else None
                    self._leave(row)
            self._look(row)

    def _look(self, row: TaskRow) -> None:
        if row.state in TERMINAL:
            self._leave(row)

    def _leave(self, row: TaskRow) -> None:
        """Note that *row* goes on no more; end the draw if it was the last wanted."""
        if row.cargo in self._awaited:
            del self._awaited[row.cargo]
            if not self._awaited:
                self._go_on()
        if row.cargo in self._left:
            del self._left[row.cargo]
            if not self._left:
                raise _OverError

    def finish(self, now: int) -> None:
        """Do nothing: the caller explains tasks that do not end."""
