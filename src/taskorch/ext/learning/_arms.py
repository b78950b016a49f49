"""
Arms in contexts: their choice above a floor, and their rewards.

Decision: learning-and-jobs.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterable, Mapping, Sequence
from math import log, sqrt
from typing import TYPE_CHECKING, Any, Final, Literal

import attrs

from taskorch.ext.learning._bandits import UCB1, Bandit, LinUCB, Thompson

if TYPE_CHECKING:
    from random import Random

#: The width of the confidence interval of UCB1, for arms that are policies.
_WIDTH: Final = 0.1
#: The default for the part of the baseline's rewards that learning may cost.
FLOOR: Final = 0.5
#: The most choices that await a reward: older ones are forgotten.
AWAITED: Final = 10_000
BANDITS: Final[Mapping[str, Any]] = {
    each.name: each for each in (UCB1, Thompson, LinUCB)
}


@attrs.frozen
class Learning:
    """
    Learnt rewards of one arm in one context.

    Attributes:
        context: The context, as text; "" where there is none.
        arm: The name of the arm.
        pulls: The number of known rewards; older ones count less.
        mean: Their mean, from -1 to 1.
    """

    context: str
    arm: str
    pulls: float
    mean: float


@attrs.frozen
class Chosen:
    """
    Choice of an arm, with its probability.

    Attributes:
        context: The context.
        arm: The name of the arm.
        propensity: Its probability at that moment.
        reward: Its reward, from 0 to 1; None: there is none yet.
        features: The features of the task as numbers, for LinUCB.
        least: The assumed reward for the floor until there is one; None: it is the
            baseline, for which its mean is assumed.
    """

    context: str
    arm: str
    propensity: float
    reward: float | None = None
    features: tuple[float, ...] = ()
    least: float | None = None


@attrs.define(kw_only=True, eq=False)
class Arms:
    """
    Arms and their learnt rewards; the caller holds a lock.

    Attributes:
        names: The arms; None: each context has its own.
        algorithm: The bandit of each context.
        features: The number of features of a choice.
        baseline: The index of the arm that is the static default.
        floor: The part of the rewards of the baseline that learning may cost.
        explore: How often an arm is drawn at random.
        memory: About how many rewards are remembered; None is all.
        begins: The arm with which a context begins.
        options: More arguments of the bandit.
        waiting: Choices for tasks that have not begun.
        begun: Choices for attempts whose reward is awaited.
        gained: The sum of all rewards from 0 to 1, and their number.
        usual: The same for the baseline.
        log: The latest choices with their rewards.
    """

    names: tuple[str, ...] | None
    algorithm: str
    features: int
    baseline: int
    floor: float
    explore: float
    memory: int | None
    begins: Literal["any", "baseline"]
    options: Mapping[str, Any]
    log: deque[Chosen]
    waiting: Awaited = attrs.field(init=False)
    begun: Awaited = attrs.field(init=False)
    gained: tuple[float, float] = attrs.field(init=False)
    usual: tuple[float, float] = attrs.field(init=False)
    _contexts: dict[str, _ContextArms] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Forget all rewards and choices."""
        self._contexts = {}
        self.waiting, self.begun = Awaited(), Awaited()
        self.gained = self.usual = 0.0, 0.0

    def change(self, names: Iterable[str]) -> None:
        """Choose among other arms from now on; arms that stay keep their rewards."""
        self.names = tuple(names)
        for key in self._contexts:
            self._context(key)

    # -- choosing ------------------------------------------------------------------

    def chances(
        self,
        key: str,
        features: tuple[float, ...],
        random: Random,
        own: Sequence[str] | None = None,
        explore: float | None = None,
    ) -> dict[str, float]:
        """Return the probability of each arm to be chosen; see `Learner.chances`."""
        context = self._context(key, own)
        chances = self._chances(context, features, random, explore)
        return dict(zip(context.names, chances, strict=True))

    def _chances(
        self,
        context: _ContextArms,
        features: tuple[float, ...],
        random: Random,
        explore: float | None,
    ) -> list[float]:
        size, means = len(context.names), context.bandit.means()
        explore = self.explore if explore is None else explore
        if self.begins == "baseline" and not any(pulls for pulls, _ in means):
            best: Sequence[float] = [float(arm == self.baseline) for arm in range(size)]
        else:
            best = context.bandit.chances(features, random)
        chances = [chance * (1 - explore) + explore / size for chance in best]
        # The baseline takes the probability of the arms that the floor forbids.
        needed = self._needed()
        if needed > 0:
            for arm, chance in enumerate(chances):
                is_usual = arm == self.baseline
                if chance and not is_usual and self._low(means[arm]) < needed:
                    chances[self.baseline] += chance
                    chances[arm] = 0.0
        return chances

    def draw(
        self,
        key: str,
        features: tuple[float, ...],
        random: Random,
        own: Sequence[str] | None = None,
        explore: float | None = None,
    ) -> Chosen:
        """Draw an arm by `chances`."""
        context = self._context(key, own)
        chances = self._chances(context, features, random, explore)
        drawn, last = random.random(), self.baseline
        for arm, chance in enumerate(chances):
            drawn -= chance
            if chance and drawn < 0:
                last = arm
                break
        chance = min(1.0, chances[last])
        return self.chosen(key, features, context.names[last], chance)

    def surely(self, key: str, features: tuple[float, ...]) -> Chosen:
        """Return the best arm if it is known to be good, or the baseline."""
        context = self._context(key)
        means = context.bandit.means()
        best = max(range(len(means)), key=lambda arm: (means[arm][1], -arm))
        is_good = means[best][0] > 0 and self._low(means[best]) >= self._needed()
        arm = best if is_good else self.baseline
        return self.chosen(key, features, context.names[arm], 1.0)

    def chosen(
        self, key: str, features: tuple[float, ...], name: str, chance: float
    ) -> Chosen:
        """Return the choice of an arm, with what the floor counts for it so far."""
        least = None
        if self.floor < 1:
            names = self._context(key).names
            if name not in names[self.baseline : self.baseline + 1]:
                least = self._low(self.mean(key, name)) if name in names else 0.0
        return Chosen(key, name, chance, None, features, least)

    def _needed(self) -> float:
        """Return the reward that another arm must bring to stay above the floor."""
        total, count = self.usual
        if self.floor >= 1:
            return 0.0
        # An unknown baseline counts as the best possible one: then the floor allows the
        # same share of other arms, whatever the baseline brings.
        usual = total / count if count else 1.0
        gained, number = self.gained
        # Each running attempt may bring as little as the lower bound of its arm.
        for awaited in (self.waiting, self.begun):
            gained += awaited.least + usual * awaited.usual
            number += len(awaited)
        return (1 - self.floor) * usual * (number + 1) - gained

    def _low(self, mean: tuple[float, float]) -> float:
        """Return a lower bound for the reward of an arm; 0 if nothing is known."""
        pulls, value = mean
        if not pulls:
            return 0.0
        return max(0.0, value - sqrt(log(self.gained[1] + 2) / (2 * pulls)))

    # -- what came of it -----------------------------------------------------------

    def count(self, chosen: Chosen, reward: float) -> bool:
        """Record the reward of a choice, 0 to 1; return False if the arm is gone."""
        context = self._context(chosen.context)
        if chosen.arm not in context.names:
            if self.names is not None:
                return False
            context = self._context(chosen.context, (*context.names, chosen.arm))
        arm = context.names.index(chosen.arm)
        context.bandit.learn(arm, chosen.features, reward)
        if self.log.maxlen:
            self.log.append(attrs.evolve(chosen, reward=reward))
        self.gained = self.gained[0] + reward, self.gained[1] + 1
        if arm == self.baseline:
            self.usual = self.usual[0] + reward, self.usual[1] + 1
        return True

    def mean(self, key: str, name: str) -> tuple[float, float]:
        """Return how many rewards of an arm are known, and their mean, 0 to 1."""
        context = self._context(key)
        return context.bandit.means()[context.names.index(name)]

    def learned(self) -> tuple[Learning, ...]:
        """Return the rewards learnt of each arm in each context."""
        return tuple(
            Learning(key, arm, round(pulls, 3), round(mean * 2 - 1, 4))
            for key, context in self._contexts.items()
            for arm, (pulls, mean) in zip(
                context.names, context.bandit.means(), strict=True
            )
            if pulls
        )

    def states(self) -> dict[str, list[list[float]]]:
        """Return the learnt state of each arm by context, for `take`."""
        return {key: context.bandit.state() for key, context in self._contexts.items()}

    def take(
        self, names: Sequence[str], states: Mapping[str, Sequence[Sequence[float]]]
    ) -> None:
        """
        Take over the learnt rewards of the arms that still exist.

        Raises:
            ValueError: The state has another number of arms, or another bandit's form.
        """
        for key, each in states.items():
            self._context(key).take(names, each)

    def _context(self, key: str, own: Sequence[str] | None = None) -> _ContextArms:
        """Return the arms of a context; they are *own*, if it has its own."""
        context, names = self._contexts.get(key), self.names or tuple(own or ())
        if context is not None and (not names or context.names == names):
            return context
        options: dict[str, Any] = {"memory": self.memory, **self.options}
        if self.algorithm == LinUCB.name:
            options["features"] = self.features
        elif self.algorithm == UCB1.name:
            options.setdefault("width", _WIDTH)
        bandit: Bandit = BANDITS[self.algorithm](len(names), **options)
        changed = self._contexts[key] = _ContextArms(names, bandit)
        if context is not None:
            changed.take(context.names, context.bandit.state())
        return changed


@attrs.frozen(eq=False)
class _ContextArms:
    """Arms of one context, and their bandit."""

    names: tuple[str, ...]
    bandit: Bandit

    def take(self, names: Sequence[str], states: Sequence[Sequence[float]]) -> None:
        """See `Arms.take`."""
        for name, numbers in zip(names, states, strict=True):
            if name in self.names:
                self.bandit.restore(self.names.index(name), numbers)


class Awaited:
    """
    Choices whose reward is awaited, by task and attempt; the oldest are forgotten.

    Attributes:
        usual: The number of choices of the baseline.
        least: The sum of the assumed rewards of the others.
    """

    def __init__(self) -> None:
        self._tasks: OrderedDict[str, dict[int, tuple[Chosen, ...]]] = OrderedDict()
        self._size = 0
        self.usual = 0
        self.least = 0.0

    def __len__(self) -> int:
        return self._size

    def get(self, task_id: str, attempt: int) -> Chosen | None:
        """Return the first choice for an attempt, or None."""
        choices = self._tasks.get(task_id, {}).get(attempt)
        return choices[0] if choices else None

    def put(self, task_id: str, attempt: int, *choices: Chosen) -> None:
        """Await the reward of an attempt for which *choices* were made."""
        if task_id in self._tasks:
            self.pop(task_id, attempt)
        if choices:
            self._tasks.setdefault(task_id, {})[attempt] = choices
            self._add(choices, 1)
        while self._size > AWAITED:
            oldest = next(iter(self._tasks))
            self.pop(oldest, next(iter(self._tasks[oldest])))

    def pop(self, task_id: str, attempt: int) -> tuple[Chosen, ...]:
        """Remove the choices for an attempt and return them."""
        attempts = self._tasks.get(task_id)
        choices = () if attempts is None else attempts.pop(attempt, ())
        if choices:
            if not attempts:
                del self._tasks[task_id]
            self._add(choices, -1)
        return choices

    def forget(self, task_id: str) -> None:
        """Forget all attempts of a task."""
        for choices in self._tasks.pop(task_id, {}).values():
            self._add(choices, -1)

    def _add(self, choices: tuple[Chosen, ...], sign: int) -> None:
        self._size += sign * len(choices)
        for chosen in choices:
            if chosen.least is None:
                self.usual += sign
            else:
                self.least += sign * chosen.least
        if not self._size:
            self.least = 0.0
