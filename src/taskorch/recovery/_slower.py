"""
Whether tasks take longer than usual: like compared with like.

Tasks of one type are compared with earlier ones of it, by the mean of the logarithms of
their durations: one long call among short ones weighs little. How far that mean may go
by chance follows from how much they differ; so a mixture of short and long calls is
slower only if all of it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import exp, log, sqrt
from typing import Final

import attrs

#: Attempts that are compared with those before: each of these numbers of the latest.
_WINDOWS: Final = (10, 20, 40, 80)
#: How many there must be before.
_BEFORE: Final = 10
#: By how many standard errors a mean may differ by chance: once in 3,000,000 times.
_SURE: Final = 5.0
#: The least by which durations differ, as a standard deviation of their logarithms.
_SPREAD: Final = 0.1
#: Seconds: what is slower by less is not looked at, nor told from the noise of a clock.
_LEAST: Final = 0.02
_SHORTEST: Final = 1e-6


@attrs.frozen
class Pace:
    """
    How long tasks of a type take.

    Attributes:
        lately: What they take lately, in seconds: the geometric mean.
        usual: What they took before; or half of what so many of them may take by
            chance, if that is more.
    """

    lately: float
    usual: float

    @property
    def ratio(self) -> float:
        """By what they are slower."""
        return self.lately / self.usual


def paces(durations: Mapping[str, Sequence[float]]) -> dict[str, Pace]:
    """The pace of each type of which enough is known; *durations* are the latest."""
    every = {name: _pace(seconds) for name, seconds in durations.items()}
    return {name: pace for name, pace in every.items() if pace is not None}


def _pace(seconds: Sequence[float]) -> Pace | None:
    logs = [log(max(each, _SHORTEST)) for each in seconds]
    every = _sums(logs)
    candidates: list[Pace] = []
    for count in _WINDOWS:
        before = len(logs) - count
        if before < _BEFORE:
            break
        part = _sums(logs[before:])
        usual, spread = _spread(every[0] - part[0], every[1] - part[1], before)
        now, other = _spread(*part, count)
        chance = max(spread, other, _SPREAD) * sqrt(1 / before + 1 / count)
        most = exp(usual + _SURE * chance)
        if exp(now) - exp(usual) < _LEAST:
            most = max(most, 2 * exp(now))
        candidates.append(Pace(exp(now), max(exp(usual), most / 2)))
    return max(candidates, key=lambda pace: pace.ratio, default=None)


def _sums(values: Sequence[float]) -> tuple[float, float]:
    """The sum, and the sum of the squares."""
    return sum(values), sum(each * each for each in values)


def _spread(total: float, squares: float, count: int) -> tuple[float, float]:
    """The mean and the standard deviation, from sums."""
    mean = total / count
    return mean, sqrt(max(0.0, squares / count - mean * mean))
