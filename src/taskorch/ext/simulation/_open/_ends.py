"""The end of some tasks, in each of many draws."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from time import thread_time
from typing import Final

import attrs

from taskorch.ext.simulation._open._course import NO_END, OpenRun
from taskorch.ext.simulation._open._draws import OpenChance
from taskorch.ext.simulation._open._work import OpenWork
from taskorch.model import TaskState

#: The largest number of draws.
DRAWS: Final = 100


@attrs.frozen
class Ends:
    """
    The end of some tasks.

    Attributes:
        ends: The end of the last task in each draw, in ns, sorted.
        endless: The places of tasks that end in no draw.
        attempts: The number of ended attempts in a draw that was cut short.
        reached_ns: The virtual time that this draw has reached.
        failed: In how many draws one of them fails for good.
        faulty: In how many draws a policy raises an error about an attempt.
    """

    ends: Sequence[int]
    endless: Sequence[int] = ()
    attempts: int = 0
    reached_ns: int = 0
    failed: int = 0
    faulty: int = 0

    @property
    def is_never(self) -> bool:
        """True if it ends in no draw."""
        return bool(self.endless)

    @property
    def lost(self) -> int:
        """In how many draws a failure keeps one of them from ending."""
        return sum(end == NO_END for end in self.ends)

    def share_after(self, ns: int) -> float:
        """Return the share of the draws in which it ends later than *ns*."""
        return sum(end > ns for end in self.ends) / len(self.ends)


def drawn(
    work: OpenWork,
    places: Collection[int],
    budget: float,
    most: int = DRAWS,
    *,
    of_run: bool = False,
) -> Ends:
    """
    Draw the end of the last task at *places*, within *budget* seconds of CPU time.

    It makes *most* draws at most. For *of_run*, see `OpenRun.ended_ns`.

    Raises:
        ComponentError: A policy failed.
    """
    ends: list[int] = []
    failed = faulty = 0
    for times, run in each_drawn(work, places, budget, most, of_run=of_run):
        if run.is_cut:
            return Ends((), attempts=run.ended, reached_ns=run.reached_ns)
        endless = [p for p, end in times.items() if end == NO_END and p not in run.lost]
        if endless and not run.is_stuck and ends.count(NO_END) == len(ends):
            return Ends((), endless)
        ends.append(max(times.values()))
        # A failure that a run allows does not make it fail.
        failed += any(
            row.state is TaskState.FAILED
            and not (of_run and row.bucket.spec.allow_failure)
            for row in [run.rows[place] for place in places]
        )
        faulty += "component" in run.kernel.causes
    return Ends(sorted(ends), failed=failed, faulty=faulty)


def each_drawn(
    work: OpenWork,
    places: Collection[int],
    budget: float,
    most: int = DRAWS,
    *,
    of_run: bool = False,
) -> Iterator[tuple[dict[int, int], OpenRun]]:
    """
    Draw the end of each task at *places*, in ns, within *budget*.

    A draw that is cut short is left out, but for the first one, which shows that.

    Raises:
        ComponentError: A policy failed.
    """
    until = thread_time() + budget
    for draw in range(most):
        chance = OpenChance(work, f"0/{draw}")
        run = OpenRun(work, chance, places, lambda: thread_time() >= until)
        run.carry_out()
        if run.is_cut:
            if not draw:
                yield {}, run
            return
        ends = {place: run.ended_ns(place, of_run=of_run) for place in places}
        yield {p: NO_END if end is None else end for p, end in ends.items()}, run
        if thread_time() >= until:
            return
