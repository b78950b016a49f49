"""One draw: what is open, carried out in virtual time from where it stands."""

from __future__ import annotations

from collections.abc import Callable, Collection
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

#: After so many ends somebody looks whether there is time left.
_LOOKS: Final = 256


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
    """

    def __init__(
        self,
        work: OpenWork,
        chance: OpenChance,
        wanted: Collection[int],
        is_late: Callable[[], bool],
    ) -> None:
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
        return True

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
        if now - self.begins >= NEVER:
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
        if row.state in TERMINAL and row.cargo in self._left:
            del self._left[row.cargo]
            if not self._left:
                raise _OverError

    def _note(self, row: TaskRow, attempt: int, outcome: str, now: int) -> None:
        """Keep nothing of the attempt: only ends are asked for."""

    def _finish(self, now: int) -> None:
        """Explain nothing: whoever asks knows what stands in the way."""
