"""
Choices and rewards from events, and estimates for other choices.

Decision: learning-and-jobs.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from math import sqrt
from typing import Final, TypeVar

import attrs

from taskorch.events import (
    Event,
    TaskCancelled,
    TaskCompleted,
    TaskFailed,
    TaskRetrying,
    TaskStarted,
    TaskSubmitted,
)
from taskorch.ext.learning._arms import Chosen

#: Standard deviations that cover 95 of 100 cases.
_SURE: Final = 1.96
#: The number of assumed attempts with rewards of all or nothing.
_DOUBT: Final = 0.6
#: The weight of the latest latency in the usual latency of a type.
_LATEST: Final = 0.05
#: Causes of a failure for which the choice may be to blame.
_OWN_FAULTS: Final = ("error", "timeout", "deadline")
#: The least probability that counts, so that weights stay finite.
_LEAST: Final = 1e-6

H = TypeVar("H", bound=Hashable)
#: A task, its attempt, and the reward of that from -1 to 1.
Reward = tuple[str, int, float]


@attrs.frozen
class Value:
    """
    Estimated mean reward of one arm, if it had always been chosen.

    Attributes:
        mean: The mean reward, from -1 to 1.
        low: The lower end of an interval that covers it in 95 of 100 cases.
        high: Its upper end.
        attempts: The number of attempts on which the estimate rests.
    """

    mean: float
    low: float
    high: float
    attempts: int


class OutcomeRewards:
    """
    Projection of events that derives rewards from the outcomes of attempts.

    A failure is worth -1. A completion is worth (usual - latency) / (usual + latency),
    where the usual latency is the recent one of the type: 0 for the usual time, 1/3 for
    half of it, near -1 for a far longer one.
    """

    def __init__(self, usual: Mapping[str, float] | None = None) -> None:
        self._types: dict[str, str] = {}
        self._usual: dict[str, float] = dict(usual or {})

    def usual(self) -> dict[str, float]:
        """Return the usual latency of each type, as `__init__` takes it."""
        return dict(self._usual)

    def knows(self, task_id: str) -> bool:
        """Return whether the submission of a task that still runs was recorded."""
        return task_id in self._types

    def reward(self, event: Event, *, is_new: bool = True) -> Reward | None:
        """
        Return the task, the attempt and its reward, if *event* is an outcome.

        Args:
            event: The next one.
            is_new: Whether to count it in the usual latency; False if it was counted
            before.
        """
        if isinstance(event, TaskSubmitted):
            self._types[event.task_id] = event.type
        elif isinstance(event, TaskCompleted):
            kind = self._types.pop(event.task_id, "")
            latency = max(event.latency, 1e-9)
            usual = self._usual.get(kind, latency)
            if is_new:
                self._usual[kind] = usual + _LATEST * (latency - usual)
            return event.task_id, event.attempt, (usual - latency) / (usual + latency)
        elif isinstance(event, TaskRetrying):
            return (event.task_id, event.attempt, -1.0) if event.charged else None
        elif isinstance(event, TaskFailed):
            self._types.pop(event.task_id, None)
            is_own = event.attempt and event.cause in _OWN_FAULTS
            return (event.task_id, event.attempt, -1.0) if is_own else None
        elif isinstance(event, TaskCancelled):
            self._types.pop(event.task_id, None)
        return None


def is_lost(event: Event) -> bool:
    """Return whether *event* is about a lost attempt, which teaches nothing."""
    return isinstance(event, TaskRetrying) and not event.charged


def values_of(
    events: Iterable[Event],
    arms_in: Callable[[str], Iterable[H]],
    reward_of: Callable[[Event], Reward | None],
) -> dict[H, Value]:
    """
    Estimate the mean reward of each arm, if it had always been chosen.

    An estimate by the method of self-normalised inverse propensities: a reward
    counts the more, the less probable its choice was. Of each attempt the first reward
    counts. An arm that was never chosen is not named.

    Args:
        events: Those of a journal, in order.
        arms_in: Returns the arms that a text of `TaskStarted.choice` names.
        reward_of: Returns the reward of an event.
    """
    choices: dict[tuple[str, int], tuple[str, float]] = {}
    pairs: dict[H, list[tuple[float, float]]] = {}
    for event in events:
        if isinstance(event, TaskStarted) and event.choice is not None:
            choices[event.task_id, event.attempt] = event.choice
        elif isinstance(event, TaskRetrying) and is_lost(event):
            choices.pop((event.task_id, event.attempt), None)
        reward = reward_of(event)
        choice = None if reward is None else choices.pop(reward[:2], None)
        if reward is not None and choice is not None:
            for arm in arms_in(choice[0]):
                weight = 1 / max(choice[1], _LEAST)
                pairs.setdefault(arm, []).append((weight, reward[2]))
    return {arm: estimate(weighted) for arm, weighted in pairs.items()}


def _weighted_mean(pairs: Iterable[tuple[float, float]]) -> float | None:
    """Return the mean reward of pairs of a weight and a reward; None: no pairs."""
    weights = total = 0.0
    for weight, reward in pairs:
        weights += weight
        total += weight * reward
    return total / weights if weights else None


def estimate(pairs: Sequence[tuple[float, float]]) -> Value:
    """
    Estimate a mean reward, with an interval, from pairs of a weight and a reward.

    The interval is Wilson's, for as many attempts of all or nothing as these say as
    much as. His is near its level for small means, too, where one about the mean is not
    (Brown, Cai and DasGupta, *Interval Estimation for a Binomial Proportion*, 2001).
    Jeffreys', Clopper and Pearson's and the mid-p one are for counts alone; that of
    empirical Bernstein bounds (Maurer and Pontil, 2009) is several times as wide, and
    covers all but always. An effective count is what surveys use (Korn and Graubard,
    *Confidence Intervals for Proportions With Small Expected Number of Positive
    Counts*, 1998). Where few rewards say nearly all of a small mean, their spread seems
    smaller than it is. So it is believed by the number of attempts that have said
    something, beside a share of one of all or nothing, `_DOUBT`.
    """
    weights = sum(weight for weight, _ in pairs)
    # Rounding may bring the mean a little above 1 or below -1.
    mean = min(1.0, max(-1.0, _weighted_mean(pairs) or 0.0))
    # This is the effective count: so many attempts of equal weight tell as much.
    count = weights**2 / sum(weight**2 for weight, _ in pairs)
    part = (mean + 1) / 2
    spread = sum(w * ((value + 1) / 2 - part) ** 2 for w, value in pairs) / weights
    widest = part * (1 - part)
    if widest:
        # Rewards that vary less than all or nothing count as more attempts.
        said = count * min(part, 1 - part)
        ratio = max(spread / widest, 1 / count)
        count *= (said / ratio + _DOUBT) / (said + _DOUBT)
    square = _SURE**2 / count
    middle = (part + square / 2) / (1 + square)
    wide = sqrt(square * widest + square**2 / 4) / (1 + square)
    low, high = middle - wide, middle + wide
    return Value(mean, max(-1.0, 2 * low - 1), min(1.0, 2 * high - 1), len(pairs))


def off_policy(log: Iterable[Chosen], policy: Mapping[str, float]) -> float | None:
    """
    Estimate the mean reward of *policy*, probabilities by arm, from others' choices.

    The rewards are weighed by how much likelier a choice is by this policy, and by the
    sum of the weights (self-normalised importance sampling). None: nothing is known.
    """
    return _weighted_mean(
        (policy.get(each.arm, 0.0) / each.propensity, each.reward)
        for each in log
        if each.reward is not None and each.propensity > 0
    )
