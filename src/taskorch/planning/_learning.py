"""Choices that are learnt: bandits that keep a floor, and what facts say of them."""

from __future__ import annotations

import math
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from random import Random
from typing import Any, Final

import attrs

from taskorch.adaptive import Thompson, Value
from taskorch.adaptive._learned import estimate
from taskorch.errors import InvalidTaskError
from taskorch.events import (
    Event,
    TaskCompleted,
    TaskRewarded,
    TaskStarted,
)
from taskorch.model import Task, check_fraction

#: In the metadata of the first task of a plan: what was chosen for it.
MARK: Final = "taskorch.plan"
#: With this the arms of planners begin in `TaskStarted.choice`.
_OURS: Final = "planner "
#: Choices and rewards that are remembered.
_KEPT: Final = 10_000
_RUNS: Final = 1_000


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

    Each arm has at least the probability *floor*; the rest is how likely each is the
    best (`taskorch.adaptive.Thompson`). The first arm is the one without learning.

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
        #: What was chosen of late, and what came of it, in order.
        self.log: deque[Chosen] = deque(maxlen=_KEPT)
        self._random = Random(seed)  # noqa: S311 - for chance, not for secrets
        self._known: dict[str, Thompson] = {}

    def probabilities(self, context: str = "") -> dict[str, float]:
        """By arm, how likely it is to be chosen in this context."""
        known = self._known.get(context)
        best: Sequence[float] = [1.0] + [0.0] * (len(self.arms) - 1)
        if known is not None:
            best = known.chances((), self._random)
        rest = 1 - self.floor * len(self.arms)
        return {
            arm: self.floor + rest * chance
            for arm, chance in zip(self.arms, best, strict=True)
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
        if chosen.arm in self.arms:
            known = self._known.setdefault(chosen.context, Thompson(len(self.arms)))
            known.learn(self.arms.index(chosen.arm), (), value)


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


class Choices:
    """
    What was chosen for plans, and what came of it: a projection of facts.

    A choice stands in the metadata of the first task of a plan, from there in
    `TaskStarted.choice`, and what came of it is a `TaskRewarded` of that attempt.

    Args:
        learn: Called with what was to be chosen, what was, and a reward from 0 to 1.
    """

    def __init__(self, learn: Callable[[str, str, float], object]) -> None:
        self._learn = learn
        #: Of attempts whose reward is awaited, the arms and their probability.
        self._begun: OrderedDict[tuple[str, int], tuple[str, float]] = OrderedDict()
        #: Of runs, how many tasks have completed.
        self._completed: OrderedDict[str, int] = OrderedDict()
        #: Of the runs of plans, their first task and what its mark says.
        self._plans: OrderedDict[str, tuple[TaskStarted, Mapping[str, Any]]] = (
            OrderedDict()
        )

    def hear(self, event: Event) -> None:
        """Learn from *event*, if it says what came of a choice."""
        if isinstance(event, TaskStarted):
            if event.choice is not None and _OURS in event.choice[0]:
                self._begun[event.task_id, event.attempt] = event.choice
                _bound(self._begun, _KEPT)
        elif isinstance(event, TaskRewarded):
            choice = self._begun.pop((event.task_id, event.attempt), None)
            for what, arm in arms_of(None if choice is None else choice[0]):
                self._learn(what, arm, (event.value + 1) / 2)

    def ended(
        self, event: TaskStarted | TaskCompleted, task: Task | None
    ) -> tuple[str, int, float] | None:
        """
        Follow the runs of plans: the attempt that is to be rewarded now, and how.

        Args:
            event: What has happened in a run.
            task: The task, if it is in memory.
        """
        run, slash, _ = event.task_id.partition("/")
        if not slash:
            return None
        if isinstance(event, TaskStarted):
            mark = (task.metadata or {}).get(MARK) if task is not None else None
            if mark is not None:
                self._plans[run] = event, mark
                _bound(self._plans, _RUNS)
            return None
        count = self._completed[run] = self._completed.pop(run, 0) + 1
        _bound(self._completed, _RUNS)
        first, mark = self._plans.get(run, (None, {}))
        if first is None or count < mark["tasks"]:
            return None
        del self._plans[run], self._completed[run]
        seconds = (event.at_ns - first.at_ns) / 1e9
        return first.task_id, first.attempt, worth(mark["seconds"], seconds)


def worth(foretold: float, seconds: float) -> float:
    """The reward, from -1 to 1, of what took *seconds*; 0 is as it was foretold."""
    both = foretold + seconds
    return (foretold - seconds) / both if both else 0.0


def choice_of(chosen: Iterable[tuple[str, Chosen]]) -> tuple[str, float]:
    """What was chosen for a plan, as `TaskStarted.choice` has it."""
    every = list(chosen)
    arms = " + ".join(f"{_OURS}{what}:{each.arm}" for what, each in every)
    return arms, math.prod(each.propensity for _, each in every)


def evaluate(events: Iterable[Event]) -> dict[str, dict[str, Value]]:
    """
    What each arm would have come to, chosen always: from the facts of a journal.

    Returns:
        By what was to be chosen and by arm, as of `taskorch.adaptive.Learned.evaluate`.
    """
    begun: dict[tuple[str, int], tuple[str, float]] = {}
    pairs: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for event in events:
        if isinstance(event, TaskStarted) and event.choice is not None:
            begun[event.task_id, event.attempt] = event.choice
        elif isinstance(event, TaskRewarded):
            choice = begun.pop((event.task_id, event.attempt), None)
            arms, chance = choice or ("", 1.0)
            for what, arm in arms_of(arms):
                known = pairs.setdefault(what, {}).setdefault(arm, [])
                known.append((1 / max(chance, 1e-6), event.value))
    return {
        what: {arm: estimate(found) for arm, found in arms.items()}
        for what, arms in pairs.items()
    }


def arms_of(arms: str | None) -> list[tuple[str, str]]:
    """What planners have chosen, of all arms of a choice: for what, and which arm."""
    found = []
    for said in (arms or "").split(" + "):
        if said.startswith(_OURS):
            what, _, arm = said.removeprefix(_OURS).rpartition(":")
            found.append((what, arm))
    return found


def _bound(found: OrderedDict[Any, Any], most: int) -> None:
    while len(found) > most:
        found.popitem(last=False)
