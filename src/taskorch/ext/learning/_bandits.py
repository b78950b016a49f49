"""
Bandits: which of a few arms is pulled next, by the rewards of earlier pulls.

A reward is a number from 0 to 1. Chance comes from a generator that is handed in, and
all that is learnt is plain numbers in lists, for a snapshot in JSON. The rewards of one
of them are linear in features of what is done.

Decision: learning-and-jobs.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite, log, sqrt
from operator import mul
from typing import TYPE_CHECKING, ClassVar, Final, Protocol

from taskorch.errors import InvalidTaskError
from taskorch.kit.visible import show

if TYPE_CHECKING:
    from random import Random


#: The factor by which older pulls count less among the latest, so that about 4 and
#: about 33 count, and the standard deviations by which these must differ from the
#: others.
_LATE: Final = ((0.75, 4.0), (0.97, 3.5))
#: The fewest earlier pulls of an arm to compare its latest ones with.
_BEFORE: Final = 3.0
#: Pulls of other arms that still count once one arm has changed.
_LITTLE: Final = 2.0
#: The weight of the variance of all arms in that of one arm, as a number of rewards.
_ALIKE: Final = 4.0
#: The parameters above which a beta distribution is nearly normal (skewness below 0.2),
#: and is drawn as such, at a tenth of the time.
_NARROW: Final = 100.0
#: The least variance of rewards, and the largest factor by which a reward counts more
#: than one of 0 or 1.
_FINEST: Final = 1e-6
_SHARPEST: Final = 100.0


class Bandit(Protocol):
    """Protocol: an algorithm that chooses among arms by rewards from 0 to 1."""

    #: The name by which it is asked for.
    name: ClassVar[str]

    def chances(self, features: Sequence[float], random: Random) -> Sequence[float]:
        """Return the probability of each arm to be pulled now; the sum is 1."""
        ...

    def learn(self, arm: int, features: Sequence[float], reward: float) -> None:
        """
        Learn that a pull of *arm* brought *reward*.

        Raises:
            InvalidTaskError: *reward* is no number from 0 to 1, or a feature is none.
        """
        ...

    def means(self) -> list[tuple[float, float]]:
        """Return for each arm how many pulls are known, and their mean reward."""
        ...

    def state(self) -> list[list[float]]:
        """Return the learnt state, one list for each arm."""
        ...

    def restore(self, arm: int, numbers: Sequence[float]) -> None:
        """Take over the state of one arm."""
        ...


class Counting:
    """Weighted counts of the pulls of each arm, and sums of their rewards."""

    def __init__(self, arms: int, *, memory: int | None = None) -> None:
        # Each pull reduces the weight of all earlier ones a little.
        self._keep: float = 1.0 if memory is None else 1.0 - 1.0 / memory
        self.counts: list[float] = [0.0] * arms
        self.sums: list[float] = [0.0] * arms

    def learn(self, arm: int, features: Sequence[float], reward: float) -> None:
        """See `Bandit.learn`."""
        if not 0 <= reward <= 1 or not all(map(isfinite, features)):
            numbers = f"{show(reward)} and {show(list(features))}"
            msg = (
                f"a reward is a number from 0 to 1, features are numbers, not {numbers}"
            )
            raise InvalidTaskError(msg)
        if self._keep < 1:
            keep = self._keep
            self.counts = [count * keep for count in self.counts]
            self.sums = [total * keep for total in self.sums]
        self.counts[arm] += 1
        self.sums[arm] += reward

    def means(self) -> list[tuple[float, float]]:
        """See `Bandit.means`."""
        return [
            (count, total / count if count else 0.0)
            for count, total in zip(self.counts, self.sums, strict=True)
        ]

    def state(self) -> list[list[float]]:
        """See `Bandit.state`."""
        return [list(pair) for pair in zip(self.counts, self.sums, strict=True)]

    def restore(self, arm: int, numbers: Sequence[float]) -> None:
        """See `Bandit.restore`."""
        self.counts[arm], self.sums[arm] = map(float, numbers)


def certain(arms: int, arm: int) -> list[float]:
    chances = [0.0] * arms
    chances[arm] = 1.0
    return chances


def _beta(a: float, b: float, random: Random) -> float:
    """Draw from a beta distribution; a narrow one is drawn as a normal one."""
    if min(a, b) < _NARROW:
        return random.betavariate(a, b)
    total = a + b
    return random.gauss(a / total, sqrt(a * b / (total + 1)) / total)


class UCB1(Counting):
    """
    Bandit that pulls the arm with the highest upper confidence bound.

    Source: P. Auer, N. Cesa-Bianchi and P. Fischer, *Finite-time Analysis of the
    Multiarmed Bandit Problem*, Machine Learning 47, 2002.

    Args:
        arms: How many there are.
        memory: About how many pulls are remembered; None is all of them.
        width: The squared width of the confidence bound in standard deviations;
            the paper has 2.
    """

    name: ClassVar[str] = "ucb1"

    def __init__(
        self, arms: int, *, memory: int | None = None, width: float = 2.0
    ) -> None:
        super().__init__(arms, memory=memory)
        self._width = width

    def chances(self, features: Sequence[float], random: Random) -> Sequence[float]:
        """See `Bandit.chances`: one arm is certain."""
        del features, random
        counts, sums = self.counts, self.sums
        best, arm = -1.0, 0
        doubt = self._width * log(max(2.0, sum(counts)))
        for place, count in enumerate(counts):
            if count < 0.5:  # noqa: PLR2004 - never pulled, or hardly remembered
                return certain(len(counts), place)
            bound = sums[place] / count + sqrt(doubt / count)
            if bound > best:
                best, arm = bound, place
        return certain(len(counts), arm)


class Thompson(Counting):
    """
    Bandit that pulls each arm with its probability to be the best.

    It estimates that probability by draws from a beta distribution of each arm, and
    again when enough was learnt since. So the probability of a pull is known exactly,
    as off-policy estimates need it. If rewards come late, it still tries unknown arms.
    The less the rewards of an arm scatter, the more each of them counts.

    The world may change: the latest rewards of an arm may differ from the earlier ones
    so much that another arm is the best. Then only these latest rewards count, and
    little of those of the other arms.

    Source: S. Agrawal and N. Goyal, *Analysis of Thompson Sampling for the Multi-armed
    Bandit Problem*, COLT 2012.

    Args:
        arms: How many there are.
        memory: About how many pulls are remembered; None is all of them.
        draws: The number of draws for the probabilities.
        trust: The weight of each reward of 0 or 1: above 1, one arm prevails sooner.
    """

    name: ClassVar[str] = "thompson"

    def __init__(
        self,
        arms: int,
        *,
        memory: int | None = None,
        draws: int = 16,
        trust: float = 4.0,
    ) -> None:
        super().__init__(arms, memory=memory)
        self._draws = draws
        self._trust = trust
        self._chances: list[float] | None = None
        self._learnt = 0
        #: The sum of the squared rewards of each arm.
        self._squares: list[float] = [0.0] * arms
        #: The weighted latest pulls of each arm and their rewards, for each of `_LATE`.
        self._late: list[list[tuple[float, float]]] = [
            [(0.0, 0.0)] * len(_LATE) for _ in range(arms)
        ]

    def chances(self, features: Sequence[float], random: Random) -> Sequence[float]:
        """See `Bandit.chances`."""
        del features
        chances = self._chances
        if chances is None or self._learnt > sum(self.counts) / 32:
            shapes = list(map(self._shape, range(len(self.counts))))
            wins = [0] * len(shapes)
            for _ in range(self._draws):
                drawn = [_beta(a, b, random) for a, b in shapes]
                wins[drawn.index(max(drawn))] += 1
            chances = self._chances = [won / self._draws for won in wins]
            self._learnt = 0
        return chances

    def _shape(self, arm: int) -> tuple[float, float]:
        """Return the two parameters of the beta distribution of an arm."""
        count, total = self.counts[arm], self.sums[arm]
        if not count:
            return 1.0, 1.0
        # Half a success is added, so that an arm that never failed may fail once.
        mean = (total + 0.5) / (count + 1)
        sharper = mean * (1 - mean) / max(_FINEST, self._variance(arm))
        trust = self._trust * max(1.0, min(_SHARPEST, sharper))
        return 1 + trust * total, 1 + trust * max(0.0, count - total)

    def _variance(self, arm: int) -> float:
        """Estimate the variance of an arm's rewards; with few, that of all arms."""
        parts = [
            (max(0.0, squares - total * total / count), max(0.0, count - 1))
            if count
            else (0.0, 0.0)
            for count, total, squares in zip(
                self.counts, self.sums, self._squares, strict=True
            )
        ]
        spread, free = map(sum, zip(*parts, strict=True))
        # The variance starts from two assumed rewards with that of 0 and 1.
        usual = (spread + 0.5) / (free + 2)
        own, degrees = parts[arm]
        return (own + _ALIKE * usual) / (degrees + _ALIKE)

    def learn(self, arm: int, features: Sequence[float], reward: float) -> None:
        """See `Bandit.learn`."""
        variance = self._variance(arm)
        super().learn(arm, features, reward)
        self._learnt += 1
        if self._keep < 1:
            self._squares = [squares * self._keep for squares in self._squares]
        self._squares[arm] += reward * reward
        for place, (keep, unlikely) in enumerate(_LATE):
            number, total = self._late[arm][place]
            latest = number * keep + 1, total * keep + reward
            self._late[arm][place] = latest
            if self._is_another(arm, latest, unlikely, variance):
                self._begin_anew(arm, latest)

    def _is_another(
        self,
        arm: int,
        latest: tuple[float, float],
        unlikely: float,
        variance: float,
    ) -> bool:
        """Return whether the latest rewards of an arm change which arm is best."""
        number, total = latest
        before = self.counts[arm] - number
        if before < max(_BEFORE, number):
            return False
        now, usual = total / number, (self.sums[arm] - total) / before
        others = [mean for place, (_, mean) in enumerate(self.means()) if place != arm]
        best = max(others, default=0.0)
        if (now >= best) is (usual >= best):
            return False
        spread = max(variance, _FINEST) * (1 / number + 1 / before)
        return abs(now - usual) > unlikely * sqrt(spread)

    def _begin_anew(self, changed: int, latest: tuple[float, float]) -> None:
        """Keep the latest rewards of one arm, and little of the others."""
        for arm, (count, total) in enumerate(zip(self.counts, self.sums, strict=True)):
            number, rewards = latest
            if arm != changed:
                number = min(count, _LITTLE)
                rewards = total / count * number if count else 0.0
            variance = self._variance(arm)
            self.counts[arm], self.sums[arm] = number, rewards
            self._squares[arm] = rewards * rewards / number if number else 0.0
            self._squares[arm] += variance * max(0.0, number - 1)
            self._late[arm] = [(number, rewards)] * len(_LATE)
        self._chances = None

    def state(self) -> list[list[float]]:
        """See `Bandit.state`."""
        return [
            [*counts, *(one for pair in late for one in pair), squares]
            for counts, late, squares in zip(
                super().state(), self._late, self._squares, strict=True
            )
        ]

    def restore(self, arm: int, numbers: Sequence[float]) -> None:
        """See `Bandit.restore`; earlier versions have kept fewer numbers."""
        super().restore(arm, numbers[:2])
        count, total = self.counts[arm], self.sums[arm]
        size = 2 + 2 * len(_LATE)
        if len(numbers) > size:
            latest = list(map(float, numbers[2:size]))
            self._late[arm] = list(zip(latest[::2], latest[1::2], strict=True))
            self._squares[arm] = float(numbers[size])
        else:
            # The largest variance is assumed, that of rewards of 0 or 1.
            self._late[arm] = [(0.0, 0.0)] * len(_LATE)
            self._squares[arm] = min(total, count)
        self._chances = None


class LinUCB(Counting):
    """
    Bandit as UCB1, for a reward that is linear in the features of the task.

    Source: L. Li, W. Chu, J. Langford and R. Schapire, *A Contextual-Bandit Approach to
    Personalized News Article Recommendation*, WWW 2010; the disjoint model.

    Args:
        arms: How many there are.
        features: The number of features of a task.
        memory: About how many pulls are remembered; None is all of them.
        alpha: The width of the confidence bound in standard deviations.
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
        #: The inverse matrix of each arm: the upper triangle, row after row.
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
        # Entries off the diagonal count twice, since the triangle has them once.
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
        # Forgetting widens the confidence bound, but not beyond its initial width.
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
