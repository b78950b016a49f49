"""
Choices that are learnt: bandits that keep a floor, and what facts say of them.

Decisions: 0100, 0109.
"""

from __future__ import annotations

import math
import threading
from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from random import Random
from typing import TYPE_CHECKING, Any, Final

import attrs

from taskorch._base._limits import NS
from taskorch.adaptive import Thompson, Value
from taskorch.adaptive._learned import estimate
from taskorch.errors import InvalidTaskError, NotRunningError
from taskorch.events import (
    Event,
    TaskCompleted,
    TaskRewarded,
    TaskStarted,
)
from taskorch.model import Task, check_fraction
from taskorch.planning._estimates import begin_of_past, task_in
from taskorch.planning._scheduling import RULES
from taskorch.runtime._work import task_of

if TYPE_CHECKING:
    from taskorch.runtime._runtime import Runtime

#: In the metadata of the first task of a plan: what was chosen for it.
MARK: Final = "taskorch.plan"
#: With this begins for what a rule was chosen.
_RULE: Final = "rule of "
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
        learner = self._known.get(context)
        best: Sequence[float] = [1.0] + [0.0] * (len(self.arms) - 1)
        if learner is not None:
            best = learner.chances((), self._random)
        rest = 1 - self.floor * len(self.arms)
        return {
            arm: self.floor + rest * chance
            for arm, chance in zip(self.arms, best, strict=True)
        }

    def choose(self, context: str = "") -> Chosen:
        """An arm, drawn by these probabilities."""
        chances = self.probabilities(context)
        (arm,) = self._random.choices(list(chances), list(chances.values()))
        return Chosen(context, arm, chances[arm])

    def reward(self, chosen: Chosen, value: float) -> None:
        """
        Say what came of a choice.

        Raises:
            InvalidTaskError: *value* is not from 0 to 1.
        """
        check_fraction("a reward", value)
        self.log.append(attrs.evolve(chosen, reward=value))
        if chosen.arm in self.arms:
            learner = self._known.setdefault(chosen.context, Thompson(len(self.arms)))
            learner.learn(self.arms.index(chosen.arm), (), value)


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


#: What is chosen for the plan that is made now, and by whom; None: as without learning.
_CHOSEN: Final[ContextVar[tuple[Any, list[tuple[str, Chosen]]] | None]] = ContextVar(
    "_CHOSEN", default=None
)


class Chooser:
    """
    Chooses rules and methods for plans by what came of them, once it `learns`.

    A choice stands in the metadata of the first task of a plan, from there in
    `TaskStarted.choice`, and what came of it is a `TaskRewarded` of that attempt.
    `rule` and `take_in` are called under the lock of the planner.

    Args:
        runtime: Of the orchestrator.
        lock: That of the planner.
    """

    def __init__(self, runtime: Any, lock: threading.RLock) -> None:
        self._rt: Runtime = runtime
        self._lock = lock
        self._learns = False
        #: What was learnt of the rules of order, and of the methods of each task.
        self.rules: Bandit = Bandit(list(RULES))
        self.methods: dict[str, Bandit] = {}
        #: Rewards of earlier lives, of what nobody has asked about yet.
        self._past: dict[str, list[tuple[str, float]]] = {}
        #: Rewards that wait to be taken in: for what, the arm, and from 0 to 1.
        self._rewards: deque[tuple[str, str, float]] = deque(maxlen=_KEPT)
        #: Of attempts whose reward is awaited, the arms and their probability.
        self._begun: OrderedDict[tuple[str, int], tuple[str, float]] = OrderedDict()
        #: Of runs, how many tasks have completed.
        self._completed: OrderedDict[str, int] = OrderedDict()
        #: Of the runs of plans, their first task and what its mark says.
        self._plans: OrderedDict[str, tuple[TaskStarted, Mapping[str, Any]]] = (
            OrderedDict()
        )

    # -- choosing ------------------------------------------------------------------

    @contextmanager
    def choosing(self, *, learn: bool) -> Iterator[list[tuple[str, Chosen]] | None]:
        """Note what is chosen for one plan; None: nothing is."""
        chosen: list[tuple[str, Chosen]] | None = [] if learn and self._learns else None
        token = _CHOSEN.set(None if chosen is None else (self, chosen))
        try:
            yield chosen
        finally:
            _CHOSEN.reset(token)

    def method(self, task: str, methods: Sequence[str]) -> str | None:
        """Which method of a task is tried first; None: as they stand."""
        chooser, chosen = _CHOSEN.get() or (None, None)
        if chooser is not self or chosen is None:
            return None
        subject = f"method of {task}"
        with self._lock:
            bandit = self.methods.get(subject)
            if bandit is None or bandit.arms != tuple(methods):
                bandit = Bandit(methods, floor=min(0.05, 0.5 / len(methods)))
                self.methods[subject] = bandit
                for arm, value in self._past.pop(subject, ()):
                    bandit.reward(Chosen("", arm, 1.0), value)
            choice: Chosen = bandit.choose()
        chosen.append((subject, choice))
        return choice.arm

    def rule(self, context: str) -> tuple[str, Chosen]:
        """By which rule a search begins, and for what that was chosen."""
        self.take_in()
        return _RULE + context, self.rules.choose(context)

    # -- rewards -------------------------------------------------------------------

    def note(self, arms: str | None, value: float) -> None:
        """Note what came of a choice, from -1 to 1, for `take_in`."""
        self._rewards += [(*each, (value + 1) / 2) for each in arms_of(arms)]

    def take_in(self) -> None:
        """Let bandits hear of the rewards that have come."""
        while self._rewards:
            subject, arm, value = self._rewards.popleft()
            if subject.startswith(_RULE):
                self.rules.reward(Chosen(subject.removeprefix(_RULE), arm, 1.0), value)
            elif subject in self.methods:
                self.methods[subject].reward(Chosen("", arm, 1.0), value)
            else:
                self._past.setdefault(subject, []).append((arm, value))

    @property
    def learns(self) -> bool:
        """Whether rules and methods are chosen by what came of them."""
        return self._learns

    @learns.setter
    def learns(self, learns: bool) -> None:
        rt = self._rt
        with self._lock:
            was, self._learns = self._learns, learns
            if learns and not was:
                for memory in (self._begun, self._completed, self._plans):
                    memory.clear()
                if rt.committer is not None:
                    for fact, _ in rt.committer.journal.read(begin_of_past(rt)):
                        self._hear(fact)
                with rt.lock:
                    rt.deciders.ask_of_choices(self._choice_of)
                    rt.kernel.learns = True
                rt.signals.task_started.connect(self._on_start)
                rt.signals.task_rewarded.connect(self._on_reward)
                rt.signals.task_completed.connect(self._on_completion)

    def _choice_of(self, task_id: str, _attempt: int) -> tuple[str, float] | None:
        """Under the lock: what was chosen for the plan whose first task begins."""
        mark = mark_of(task_of(self._rt.kernel.tasks[task_id]))
        return None if mark is None else (mark["choice"], mark["chance"])

    def _hear(self, event: Event) -> None:
        """Learn from *event*, if it says what came of a choice."""
        if isinstance(event, TaskStarted):
            if event.choice is not None and _OURS in event.choice[0]:
                self._begun[event.task_id, event.attempt] = event.choice
                _bound(self._begun, _KEPT)
        elif isinstance(event, TaskRewarded):
            arms, _ = self._begun.pop((event.task_id, event.attempt), (None, 0.0))
            self.note(arms, event.value)

    # These are called by the thread that publishes: it waits for no planning.

    def _on_reward(self, event: Event) -> None:
        if self._learns:
            self._hear(event)

    def _on_start(self, event: Event) -> None:
        assert isinstance(event, TaskStarted)  # noqa: S101 - of that signal
        if not self._learns:
            return
        self._hear(event)
        run = self._rt.directory.run_of(event.task_id)
        mark = mark_of(task_in(self._rt, event.task_id)) if run else None
        if mark is not None:
            self._plans[run] = event, mark
            _bound(self._plans, _RUNS)

    def _on_completion(self, event: Event) -> None:
        """Reward the first attempt of a plan once its run has completed."""
        assert isinstance(event, TaskCompleted)  # noqa: S101 - of that signal
        run = self._rt.directory.run_of(event.task_id)
        if not self._learns or not run:
            return
        count = self._completed[run] = self._completed.pop(run, 0) + 1
        _bound(self._completed, _RUNS)
        first, mark = self._plans.get(run, (None, {}))
        if first is None or count < mark["tasks"]:
            return
        del self._plans[run], self._completed[run]
        rt, row = self._rt, self._rt.kernel.tasks.get(first.task_id)
        if row is None:
            return
        value = worth(mark["seconds"], (event.at_ns - first.at_ns) / NS)
        fields = first.task_id, first.attempt, value, "planner"
        # It may have stopped since: then nobody is told.
        with suppress(NotRunningError):
            rt.step(
                lambda now: rt.kernel.note(TaskRewarded, now, *fields, cargo=row.cargo),
                keep=True,
            )


def mark_of(task: Task | None) -> Mapping[str, Any] | None:
    """What the first task of a plan says of what was chosen for it."""
    return None if task is None else (task.metadata or {}).get(MARK)


def worth(foretold: float, seconds: float) -> float:
    """The reward, from -1 to 1, of what took *seconds*; 0 is as it was foretold."""
    both = foretold + seconds
    return (foretold - seconds) / both if both else 0.0


def choice_of(chosen: Iterable[tuple[str, Chosen]]) -> tuple[str, float]:
    """What was chosen for a plan, as `TaskStarted.choice` has it."""
    every = list(chosen)
    arms = " + ".join(f"{_OURS}{subject}:{each.arm}" for subject, each in every)
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
            for subject, arm in arms_of(arms):
                of_arm = pairs.setdefault(subject, {}).setdefault(arm, [])
                of_arm.append((1 / max(chance, 1e-6), event.value))
    return {
        subject: {arm: estimate(weighted) for arm, weighted in arms.items()}
        for subject, arms in pairs.items()
    }


def arms_of(arms: str | None) -> list[tuple[str, str]]:
    """What planners have chosen, of all arms of a choice: for what, and which arm."""
    pairs = []
    for part in (arms or "").split(" + "):
        if part.startswith(_OURS):
            subject, _, arm = part.removeprefix(_OURS).rpartition(":")
            pairs.append((subject, arm))
    return pairs


def _bound(table: OrderedDict[Any, Any], most: int) -> None:
    while len(table) > most:
        table.popitem(last=False)
