"""
How long attempts take, as far as the measured ones say.

Of *n* that were measured, the next one is as likely to fall into any of the *n* + 1
gaps between them, before them and after them. How likely each gap is, is drawn once a
draw: what few measurements leave open is open for all tasks of a type together, and
does not average out over them.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from itertools import accumulate
from math import exp, log
from random import Random
from typing import Final

from taskorch.simulation._open._work import OpenWork, known_lengths
from taskorch.simulation._plans._chance import Chance

#: What takes as long as this has no end that is known.
NEVER: Final = 1 << 61
#: Beyond the longest that was measured, lengths grow by factors. Of few measurements
#: nobody knows which: then it is this, in logarithms.
_TAIL: Final = 0.5
_FEW: Final = 5
#: Nothing takes less, in ns: what is measured as nothing has a logarithm, too.
_LEAST: Final = 1_000


class Lengths:
    """How long attempts of one type take, in one draw."""

    def __init__(self, measured: Sequence[int], random: Random) -> None:
        self._ordered = measured
        self._logs = [log(max(_LEAST, length)) for length in measured]
        gaps = [random.expovariate(1.0) for _ in range(len(measured) + 1)]
        total = sum(gaps)
        #: How likely one is not longer than each of the measured ones.
        self._shares: list[float] = [s / total for s in accumulate(gaps[:-1])]
        self._tail = _tail_of(self._logs)

    def draw(self, random: Random, elapsed: int = 0) -> int:
        """How long one takes, in ns, of which *elapsed* are over."""
        below = self._share(elapsed) if elapsed else 0.0
        share = below + (1.0 - below) * random.random()
        # Each draw takes two numbers: the next one sees the same chance in any case.
        beyond = -log(1.0 - random.random())
        at = bisect_left(self._shares, share)
        if at == len(self._logs):
            longest = max(self._logs[-1], log(max(_LEAST, elapsed)))
            return int(exp(longest + beyond * self._tail))
        upper = self._logs[at]
        lower = self._logs[at - 1] if at else upper - self._tail
        before = self._shares[at - 1] if at else 0.0
        part = (share - before) / ((self._shares[at] - before) or 1.0)
        return max(elapsed, int(exp(lower + (upper - lower) * part)))

    def _share(self, elapsed: int) -> float:
        """How likely one takes no longer than *elapsed*."""
        at = bisect_left(self._ordered, elapsed)
        if at == len(self._ordered):
            return self._shares[-1]
        before = self._shares[at - 1] if at else 0.0
        upper = self._logs[at]
        lower = self._logs[at - 1] if at else upper - self._tail
        part = (log(max(_LEAST, elapsed)) - lower) / ((upper - lower) or 1.0)
        return before + (self._shares[at] - before) * min(1.0, max(0.0, part))


def _tail_of(logs: Sequence[float]) -> float:
    """By what lengths grow beyond the longest, in logarithms: as at the upper end."""
    many = len(logs)
    if many < _FEW:
        return max(_TAIL, logs[-1] - logs[0])
    upper = logs[-max(_FEW, many // 10) :]
    excess = [each - upper[0] for each in upper[1:]]
    return max(0.02, sum(excess) / len(excess))


class OpenChance(Chance):
    """What chance brings to what is open, in one draw."""

    def __init__(self, work: OpenWork, seed: str) -> None:
        self.seed = seed
        self.may_fail = False
        random = Random(seed)  # noqa: S311 - for chance, not for secrets
        by_type: dict[str, Lengths] = {}
        self._lengths: list[Lengths | int] = []
        self.first = []
        expected: list[int] = []
        for each, measured in zip(work.tasks, known_lengths(work), strict=True):
            lengths: Lengths | int
            if not measured:
                lengths = NEVER if measured is None else 0
                self.first.append(lengths)
                expected.append(0)
            else:
                kind = each.spec.type
                if kind not in by_type:
                    shared = Random(f"{seed}//{kind}")  # noqa: S311 - likewise
                    by_type[kind] = Lengths(measured, shared)
                lengths = by_type[kind]
                elapsed = each.elapsed_ns
                self.first.append(max(0, lengths.draw(random, elapsed) - elapsed))
                expected.append(measured[len(measured) // 2])
            self._lengths.append(lengths)
        self.expected = expected
        self._again = random

    def again(self, number: int, attempt: int) -> int:
        """How long a later attempt of a task takes, in ns."""
        lengths = self._lengths[number]
        return lengths if isinstance(lengths, int) else lengths.draw(self._again)
