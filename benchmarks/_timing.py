"""How time is measured: contestants in turn, round after round, in one process."""

from __future__ import annotations

import gc
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from time import perf_counter

from benchmarks._figures import Samples, Unit

Contestant = Callable[[], object]


@dataclass(frozen=True, slots=True)
class Rounds:
    """The seconds that each contestant took in each round."""

    seconds: Mapping[str, tuple[float, ...]]

    def each(self, name: str, count: int) -> Samples:
        """The seconds that one of `count` things took the contestant."""
        return Samples.of((taken / count for taken in self.seconds[name]), Unit.SECONDS)

    def speed(self, name: str, peer: str) -> Samples:
        """How many times as fast as the peer, round by round."""
        return self.cost(peer, name)

    def cost(self, name: str, peer: str) -> Samples:
        """How many times as long as the peer, round by round."""
        return self.each(name, 1).over(self.each(peer, 1))


def interleave(
    contestants: Mapping[str, Contestant], *, rounds: int, warmups: int = 1
) -> Rounds:
    """
    Time the contestants in turn, A B A B, so that drift meets all alike.

    The garbage collector runs before each turn and stays on during it: what a
    contestant costs it is part of what the contestant costs.

    Args:
        contestants: What to call, by name, in order.
        rounds: How often each is timed.
        warmups: How often each is called before that, untimed.

    Returns:
        The seconds taken.
    """
    for _ in range(warmups):
        for contestant in contestants.values():
            contestant()
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, contestant in contestants.items():
            seconds[name].append(time_once(contestant))
    return Rounds({name: tuple(taken) for name, taken in seconds.items()})


def time_once(contestant: Contestant) -> float:
    """Collect garbage, then time one call."""
    gc.collect()
    began = perf_counter()
    contestant()
    return perf_counter() - began


def time_calls(contestant: Contestant, count: int) -> list[float]:
    """Time each of `count` calls by itself."""
    gc.collect()
    seconds: list[float] = []
    for _ in range(count):
        began = perf_counter()
        contestant()
        seconds.append(perf_counter() - began)
    return seconds


def percentile(values: list[float], percent: float) -> float:
    """The smallest value that at least `percent` of all do not exceed."""
    ranked = sorted(values)
    return ranked[max(0, math.ceil(len(ranked) * percent / 100) - 1)]
