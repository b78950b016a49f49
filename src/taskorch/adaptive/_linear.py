"""
A bandit whose rewards are linear in features of what is done.

Decision: 0134.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt
from operator import mul
from typing import TYPE_CHECKING, ClassVar

from taskorch.adaptive._bandits import Counting, certain

if TYPE_CHECKING:
    from random import Random


class LinUCB(Counting):
    """
    As UCB1, with a reward that is linear in the features of what is done.

    Source: L. Li, W. Chu, J. Langford and R. Schapire, *A Contextual-Bandit Approach to
    Personalized News Article Recommendation*, WWW 2010; the disjoint model.

    Args:
        arms: How many there are.
        features: How many numbers describe what is done.
        memory: About how many pulls are remembered; None is all of them.
        alpha: How many standard deviations wide the doubt about an arm is.
    """

    name: ClassVar[str] = "linucb"

    def __init__(
        self,
        arms: int,
        features: int,
        *,
        memory: int | None = None,
        alpha: float = 0.7,
    ) -> None:
        super().__init__(arms, memory=memory)
        self._size = features + 1
        self._alpha = alpha
        #: Of each arm the inverse of its matrix: the upper triangle, row after row.
        self._inverses: list[list[float]] = []
        self._sums_of_features: list[list[float]] = []
        self._weights: list[list[float]] = []
        for _ in range(arms):
            self._inverses.append(self._identity())
            self._sums_of_features.append([0.0] * self._size)
            self._weights.append([0.0] * self._size)

    def _identity(self) -> list[float]:
        size = range(self._size)
        return [1.0 if i == j else 0.0 for i in size for j in size if j >= i]

    def chances(self, features: Sequence[float], random: Random) -> Sequence[float]:
        """See `Bandit.chances`: one arm is certain."""
        del random
        point = (1.0, *features)
        # What each entry of the triangle counts for: those off the diagonal twice.
        squares: list[float] = []
        for place, one in enumerate(point):
            squares.append(one * one)
            twice = 2.0 * one
            squares.extend([twice * other for other in point[place + 1 :]])
        best, arm, alpha = -1e300, 0, self._alpha
        both = zip(self._weights, self._inverses, strict=True)
        for place, (weights, inverse) in enumerate(both):
            doubt = sum(map(mul, inverse, squares))
            bound = sum(map(mul, weights, point)) + alpha * sqrt(max(0.0, doubt))
            if bound > best:
                best, arm = bound, place
        return certain(len(self._weights), arm)

    def learn(self, arm: int, features: Sequence[float], reward: float) -> None:
        """See `Bandit.learn`."""
        super().learn(arm, features, reward)
        point = (1.0, *features)
        size, flat = self._size, self._inverses[arm]
        keep = self._keep
        # What is forgotten makes the doubt grow, but not beyond that of the beginning.
        if keep < 1 and max(flat) < 1:
            flat = [entry / keep for entry in flat]
        full = self._full(flat)
        moved = [sum(map(mul, row, point)) for row in full]
        scale = 1.0 + sum(map(mul, moved, point))
        self._inverses[arm] = [
            full[i][j] - moved[i] * moved[j] / scale
            for i in range(size)
            for j in range(i, size)
        ]
        sums = self._sums_of_features[arm]
        self._sums_of_features[arm] = sums = [
            keep * total + reward * one for total, one in zip(sums, point, strict=True)
        ]
        full = self._full(self._inverses[arm])
        self._weights[arm] = [sum(map(mul, row, sums)) for row in full]

    def _full(self, flat: Sequence[float]) -> list[list[float]]:
        size = self._size
        rows = [[0.0] * size for _ in range(size)]
        entries = iter(flat)
        for i in range(size):
            for j in range(i, size):
                rows[i][j] = rows[j][i] = next(entries)
        return rows

    def state(self) -> list[list[float]]:
        """See `Bandit.state`."""
        parts = zip(
            super().state(), self._inverses, self._sums_of_features, strict=True
        )
        return [[*counts, *inverse, *sums] for counts, inverse, sums in parts]

    def restore(self, arm: int, numbers: Sequence[float]) -> None:
        """
        See `Bandit.restore`.

        Raises:
            ValueError: It is of another number of features.
        """
        size = self._size
        entries = size * (size + 1) // 2
        if len(numbers) != 2 + entries + size:
            msg = "it was learnt of another number of features"
            raise ValueError(msg)
        super().restore(arm, numbers[:2])
        self._inverses[arm] = [float(entry) for entry in numbers[2 : 2 + entries]]
        self._sums_of_features[arm] = [float(one) for one in numbers[2 + entries :]]
        full = self._full(self._inverses[arm])
        sums = self._sums_of_features[arm]
        self._weights[arm] = [sum(map(mul, row, sums)) for row in full]
