"""One draw: what is open, carried out in virtual time from where it stands."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

import attrs

from taskorch.errors import ComponentError, UsageError
from taskorch.kernel import (
    AttemptOutcome,
    Bucket,
    PolicyFault,
    Spec,
    TaskRow,
    describe,
)
from taskorch.model import TERMINAL, TaskState, Units
from taskorch.policies._kinds import Policies
from taskorch.simulation._open._draws import NEVER, OpenChance
from taskorch.simulation._open._work import OpenTask, OpenWork, OutsideParent
from taskorch.simulation._plans._chance import Chance
from taskorch.simulation._plans._plan import Means, SimulatedPlan
from taskorch.simulation._plans._run import PlanDeciders, PlanRun

#: What has not begun.
_ASIDE: Final = frozenset({TaskState.PENDING, TaskState.QUEUED, TaskState.RETRYING})
#: After so many ends somebody looks whether there is time left.
_LOOKS: Final = 256


@attrs.frozen
class Tried:
    """
    Changes that are tried.

    Attributes:
        priorities: By the place of a task, the priority that it has instead.
        more: By the pool, how much more it has, in millionths.
        later: The places of tasks that are put aside.
        until: The places of those that they wait for; none: they stay aside.
    """

    priorities: Mapping[int, int] = attrs.field(factory=dict)
    more: Mapping[str, int] = attrs.field(factory=dict)
    later: Sequence[int] = ()
    until: Sequence[int] = ()


class _OverError(Exception):
    """All has ended that was asked for, or there is no time left."""


class _OpenPlan(SimulatedPlan):
    """What is open, as far as policies and the kernel ask a plan."""

    __slots__ = ("_open",)

    def __init__(self, work: OpenWork) -> None:
        super().__init__()
        self._open = work.tasks
        self.ids = [each.id for each in work.tasks]
        self.tasks = [each.task for each in work.tasks]


class _OpenDeciders(PlanDeciders):
    """Deciders that know where what runs already runs."""

    def __init__(
        self, parts: Policies, plan: SimulatedPlan, chance: Chance, work: OpenWork
    ) -> None:
        super().__init__(parts, plan, chance)
        self._open = work.tasks
        #: Whether what runs already is begun, and nothing else.
        self.resumes: bool = False

    def route(self, row: TaskRow, candidates: Any, now: int) -> tuple[Any, str, bool]:
        """See `Deciders.route`."""
        if self.resumes:
            agent = self.kernel.agents.get(self._open[row.cargo].agent)
            if agent is not None and agent in candidates:
                return agent, "it runs there", False
        return super().route(row, candidates, now)

    def allocate(
        self,
        row: TaskRow,
        agent: Any,
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
        return super().allocate(row, agent, request, now, least, held)


class OpenRun(PlanRun):
    """
    One draw.

    Args:
        work: What is open.
        chance: What chance brings.
        wanted: The places of those whose end is asked for; when they have ended, the
            draw is over.
        is_late: Whether there is no time left.
        tried: What is otherwise than it stands.
        horizon_ns: What ends later is not asked for; None: all is.
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
        #: How many attempts have ended.
        self.ended: int = 0
        #: Whether it was cut short since there was no time left.
        self.is_cut: bool = False
        #: The time at its end, in ns.
        self.reached_ns: int = work.now_ns
        self.rows: dict[int, TaskRow] = {}
        self._buckets: dict[Spec, Bucket] = {}
        super().__init__(work.means, _OpenPlan(work), chance)

    def _deciders(
        self, means: Means, plan: SimulatedPlan, chance: Chance
    ) -> PlanDeciders:
        self._asked = _OpenDeciders(means.fresh_parts(), plan, chance, self._work)
        return self._asked

    def carry_out(self) -> None:
        """
        Carry it out as far as is asked.

        Raises:
            ComponentError: A policy failed when it was asked about a submission.
        """
        with suppress(_OverError):
            self.go()

    def ended_ns(self, place: int) -> int | None:
        """When the task at *place* ended, in ns; None: it did not."""
        row = self.rows[place]
        return row.ended_ns if row.state in TERMINAL else None

    # -- from where it stands ------------------------------------------------------

    def _submit_plain(self) -> bool:
        work, kernel, now = self._work, self.kernel, self.begins
        # What runs already stands where it runs before anything else is asked for.
        self._asked.resumes = True
        for place, each in enumerate(work.tasks):
            if each.agent:
                self._enter(place, each)
        kernel.unpause()
        kernel.dispatch(now)
        self._begin(now)
        kernel.pause()
        self._asked.resumes = False
        for place, each in enumerate(work.tasks):
            if not each.agent:
                self._enter(place, each)
        for name, why in work.draining.items():
            if name in kernel.agents:
                kernel.drain(name, why, now)
        for who, (most, reason, lasts) in work.holds.items():
            kernel.hold_starts(who, most, reason, now, lasts=lasts)
        self._try(now)
        return True

    def _try(self, now: int) -> None:
        """Make the changes that are tried, as their verbs make them."""
        kernel, tried = self.kernel, self._tried
        for place, priority in tried.priorities.items():
            row = self.rows[place]
            if row.id in kernel.tasks:
                kernel.set_priority(row, priority, now)
        if tried.more:
            totals = [
                (name, pool.total + tried.more[name])
                for name, pool in kernel.pools.items()
                if name in tried.more
            ]
            kernel.change_pools(totals, now)
        for place in tried.later:
            row = self.rows[place]
            # What runs goes on: only what has not begun is put aside.
            if row.id in kernel.tasks and row.state in _ASIDE:
                kernel.suspend(row, now, holdable=False)

    def _go_on(self) -> None:
        """What was put aside goes on."""
        for place in self._tried.later:
            row = self.rows[place]
            if row.state is TaskState.SUSPENDED:
                self.kernel.resume(row, row.ended_ns or self.reached_ns)

    def _enter(self, place: int, each: OpenTask) -> None:
        """Take in one task; what nobody can do now is left out, and never ends."""
        kernel = self.kernel
        bucket = self._buckets.get(each.spec)
        if bucket is None:
            bucket = self._buckets[each.spec] = kernel.bucket(each.spec)
        parents = [self._parent(above) for above in each.parents]
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
            admitted = kernel.consider(
                row,
                self.begins,
                priority=each.priority,
                parents=parents,
                not_before_ns=each.due_ns or None,
                deadline_ns=each.deadline_ns,
                terms=None if each.terms is None else attrs.evolve(each.terms),
            )
        except UsageError:
            self._entered(place)
            return
        except PolicyFault as fault:
            why = f"the {fault.component} failed: {describe(fault.error)}"
            raise ComponentError(
                why, component=fault.component, task_id=each.id
            ) from fault.error
        if each.key is not None:
            admitted.key = each.key
        kernel.accept(admitted, self.begins)

    def _entered(self, place: int) -> TaskRow:
        """The row of a task, made when it is asked for first."""
        row = self.rows.get(place)
        if row is None:
            each = self._work.tasks[place]
            bucket = self.kernel.bucket(each.spec)
            row = TaskRow(each.id, place, bucket, place, each.submitted_ns)
            row.run = each.run
            self.rows[place] = row
        return row

    def _parent(self, above: int | OutsideParent) -> TaskRow:
        if isinstance(above, int):
            return self._entered(above)
        bucket = self.kernel.bucket(Spec("", allow_failure=above.allow_failure))
        row = TaskRow(above.id, 0, bucket, None, self.begins)
        # What nobody knows the end of stands there as what is still to come.
        row.state = above.state if above.state in TERMINAL else TaskState.PENDING
        return row

    # -- until what is asked for has ended -------------------------------------------

    def _end(
        self,
        row: TaskRow,
        attempt: int,
        end: BaseException | AttemptOutcome | None,
        now: int,
    ) -> None:
        if now >= NEVER or now > self._horizon_ns:
            raise _OverError
        self.reached_ns = now
        super()._end(row, attempt, end, now)
        self.ended += 1
        if self.ended % _LOOKS == 0 and self._is_late():
            self.is_cut = True
            raise _OverError
        self._look(row)

    def _note_waits(self, now: int) -> None:
        touched = [row for row, _ in self.kernel.touched]
        super()._note_waits(now)
        for row in touched:
            self._look(row)

    def _look(self, row: TaskRow) -> None:
        if self._awaited and row.state in TERMINAL and row.cargo in self._awaited:
            del self._awaited[row.cargo]
            if not self._awaited:
                self._go_on()
        if row.state in TERMINAL and row.cargo in self._left:
            del self._left[row.cargo]
            if not self._left:
                raise _OverError

    def _note(self, row: TaskRow, attempt: int, outcome: str, now: int) -> None:
        """Keep nothing of the attempt: only ends are asked for."""

    def _finish(self, now: int) -> None:
        """Explain nothing: whoever asks knows what stands in the way."""
