"""Choices that are learnt: a bandit whose arms keep a floor, and what it is worth."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from random import Random

import attrs

from taskorch.errors import InvalidTaskError
from taskorch.model import check_fraction


@attrs.frozen
class Chosen:
    """
    What was chosen, and how likely that was.

    Attributes:
        context: Where.
        arm: What.
        propensity: Its probability at that moment.
        reward: What came of it, from 0 to 1; None: nobody has said yet.
    """

    context: str
    arm: str
    propensity: float
    reward: float | None = None


class Bandit:
    """
    Chooses among arms by what came of them, and never forgets one.

    Each arm has at least the probability *floor*; the rest goes by a softmax of the
    mean rewards (R. S. Sutton and A. G. Barto, *Reinforcement Learning*, 2nd ed., 2018,
    section 2.8), which sharpens as more is known. The first arm is the one without
    learning.

    Args:
        arms: Their names.
        floor: The least probability of each.
        seed: Repeats what is drawn.

    Raises:
        InvalidTaskError: There is no arm, or the floor is too high for so many.
    """

    def __init__(
        self, arms: Sequence[str], *, floor: float = 0.05, seed: int = 0
    ) -> None:
        check_fraction("floor", floor)
        if not arms or floor * len(arms) > 1:
            msg = f"{len(arms)} arms cannot have a floor of {floor:g} each"
            raise InvalidTaskError(msg)
        self.arms: tuple[str, ...] = tuple(arms)
        self.floor = floor
        #: All that was chosen, and what came of it, in order.
        self.log: list[Chosen] = []
        self._random = Random(seed)  # noqa: S311 - for chance, not for secrets
        self._known: dict[tuple[str, str], tuple[int, float]] = {}

    def probabilities(self, context: str = "") -> dict[str, float]:
        """By arm, how likely it is to be chosen in this context."""
        known = [self._known.get((context, arm), (0, 0.0)) for arm in self.arms]
        total = sum(count for count, _ in known)
        if not total:
            rest = 1 - self.floor * len(self.arms)
            weights = [1.0] + [0.0] * (len(self.arms) - 1)
        else:
            # An arm that nobody has tried is worth what is best so far.
            best = max(mean for count, mean in known if count)
            sharp = math.sqrt(total) * 2
            means = [mean if count else best for count, mean in known]
            powers = [math.exp(sharp * (mean - max(means))) for mean in means]
            weights = [power / sum(powers) for power in powers]
            rest = 1 - self.floor * len(self.arms)
        return {
            arm: self.floor + rest * weight
            for arm, weight in zip(self.arms, weights, strict=True)
        }

    def choose(self, context: str = "") -> Chosen:
        """An arm, drawn by these probabilities."""
        found = self.probabilities(context)
        (arm,) = self._random.choices(list(found), list(found.values()))
        return Chosen(context, arm, found[arm])

    def reward(self, chosen: Chosen, value: float) -> None:
        """
        Say what came of a choice.

        Raises:
            InvalidTaskError: *value* is not from 0 to 1.
        """
        check_fraction("a reward", value)
        self.log.append(attrs.evolve(chosen, reward=value))
        count, mean = self._known.get((chosen.context, chosen.arm), (0, 0.0))
        count += 1
        self._known[chosen.context, chosen.arm] = count, mean + (value - mean) / count


def off_policy(log: Iterable[Chosen], policy: Mapping[str, float]) -> float | None:
    """
    What *policy*, probabilities by arm, would have been worth: from what others chose.

    The rewards are weighed by how much likelier a choice is by this policy, and by the
    sum of the weights (self-normalised importance sampling). None: nothing is known.
    """
    weights = total = 0.0
    for each in log:
        if each.reward is not None and each.propensity > 0:
            weight = policy.get(each.arm, 0.0) / each.propensity
            weights += weight
            total += weight * each.reward
    return total / weights if weights else None
