"""When what is asked for ends, in each of many draws."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from time import thread_time
from typing import Final

import attrs

from taskorch.simulation._open._course import OpenRun
from taskorch.simulation._open._draws import OpenChance
from taskorch.simulation._open._work import OpenWork

#: Draws at the most.
DRAWS: Final = 100
#: The time of an end that does not come.
NO_END: Final = 1 << 62


@attrs.frozen
class Ends:
    """
    When what is asked for ends.

    Attributes:
        ends: The end of the last of it, in each draw, in ns, the first one first.
        endless: The places of what does not end, whatever is drawn.
        attempts: In a draw for which there was no time: how many attempts had ended.
        reached_ns: In that draw, how far it came.
    """

    ends: Sequence[int]
    endless: Sequence[int] = ()
    attempts: int = 0
    reached_ns: int = 0

    @property
    def is_never(self) -> bool:
        """Whether it does not end, whatever is drawn."""
        return bool(self.endless)

    def share_after(self, ns: int) -> float:
        """In what share of the draws it ends later than *ns*."""
        return sum(end > ns for end in self.ends) / len(self.ends)


def drawn(
    work: OpenWork, places: Collection[int], budget: float, most: int = DRAWS
) -> Ends:
    """
    Draw when the last of those at *places* ends, within *budget* seconds of processor.

    There are *most* draws at the most.

    Raises:
        ComponentError: A policy failed.
    """
    until = thread_time() + budget
    ends: list[int] = []
    for draw in range(most):
        chance = OpenChance(work, f"0/{draw}")
        run = OpenRun(work, chance, places, lambda: thread_time() >= until)
        run.carry_out()
        if run.is_cut:
            if ends:
                break
            return Ends((), attempts=run.ended, reached_ns=run.reached_ns)
        times = {place: run.ended_ns(place) for place in places}
        endless = [place for place, end in times.items() if end is None]
        if endless and not draw:
            return Ends((), endless)
        ends.append(max(NO_END if end is None else end for end in times.values()))
        if thread_time() >= until:
            break
    return Ends(sorted(ends))
