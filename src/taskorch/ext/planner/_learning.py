"""
Choices of plans that are learnt: rules and methods, by their rewards.

Decisions: learning-and-jobs, planner.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from random import Random
from typing import TYPE_CHECKING, Any, Final

import attrs

from taskorch.core.engine import task_of
from taskorch.errors import InvalidTaskError, NotRunningError
from taskorch.events import (
    Event,
    TaskCompleted,
    TaskRewarded,
    TaskStarted,
)
from taskorch.ext.learning import Chosen, Learner, Value
from taskorch.ext.planner._estimates import PAST, task_in
from taskorch.ext.planner._scheduling import RULES
from taskorch.kit.checks import check_fraction
from taskorch.kit.limits import NS
from taskorch.model import Task
from taskorch.protocols import Projection

if TYPE_CHECKING:
    from taskorch.core.engine import Runtime

#: The key in the metadata of the first task of a plan for its choices.
MARK: Final = "taskorch.plan"
#: The name of each choice of a rule begins with this.
_RULE: Final = "rule of "
#: The least probability of each rule and method, and of all together if there are many.
_FLOOR: Final = 0.05
_FLOORS: Final = 0.5
#: The number of rewards, and of runs, that are kept.
_KEPT: Final = 10_000
_RUNS: Final = 1_000


def _learner(name: str) -> Learner:
    """Return the learner for plans, which never forgets a reward."""
    return Learner(
        name=name,
        floor=1.0,
        memory=None,
        reward="given",
        keep=False,
        begins="baseline",
        log=_KEPT,
    )


class Bandit:
    """
    A chooser among arms (alternatives) by their rewards, which it never forgets.

    Each arm has at least the probability *floor*. The remaining probability is shared
    by how likely each arm is the best (`taskorch.ext.learning.Learner`). The first arm
    stands for the way without learning.

    Args:
        arms: The names of the arms.
        floor: The least probability of each arm.
        seed: The seed of random draws.

    Raises:
        InvalidTaskError: There is no arm, or the floor is too high for so many.
    """

    def __init__(
        self, arms: Sequence[str], *, floor: float = _FLOOR, seed: int = 0
    ) -> None:
        check_fraction("floor", floor)
        if not arms or floor * len(arms) > 1:
            msg = f"{len(arms)} arms cannot have a floor of {floor:g} each"
            raise InvalidTaskError(msg)
        self.arms: tuple[str, ...] = tuple(arms)
        self.floor = floor
        self._random = Random(seed)  # noqa: S311 - for chance, not for secrets
        self._learner = _learner("bandit")
        #: The prefix of its contexts in a learner that it shares.
        self._prefix = ""

    @property
    def log(self) -> deque[Chosen]:
        """The latest choices and their rewards, in order."""
        size = len(self._prefix)
        return deque(
            attrs.evolve(one, context=one.context[size:])
            for one in self._learner.log
            if one.context.startswith(self._prefix)
        )

    def probabilities(self, context: str = "") -> dict[str, float]:
        """Return the probability of each arm in *context*."""
        return self._learner.chances(self._prefix + context, self._random, **self._own)

    def choose(self, context: str = "") -> Chosen:
        """Draw an arm by these probabilities."""
        key = self._prefix + context
        chosen = self._learner.choose(key, self._random, **self._own)
        return attrs.evolve(chosen, context=context)

    @property
    def _own(self) -> dict[str, Any]:
        return {"arms": self.arms, "explore": self.floor * len(self.arms)}

    def reward(self, chosen: Chosen, value: float) -> None:
        """
        Reward a choice.

        Raises:
            InvalidTaskError: *value* is not from 0 to 1.
        """
        key = self._prefix + chosen.context
        self._learner.learn(attrs.evolve(chosen, context=key), value)


#: The chooser and the choices for the plan that is made now; None: nothing is learnt.
_CHOSEN: Final[ContextVar[tuple[Any, list[Chosen]] | None]] = ContextVar(
    "_CHOSEN", default=None
)


class Chooser(Projection):
    """
    A chooser of rules and methods for plans by their rewards, once it `learns`.

    A choice stands in the metadata of the first task of a plan, from there in
    `TaskStarted.choice`, and its reward is a `TaskRewarded` of that attempt.

    Args:
        runtime: The runtime of the orchestrator.
    """

    wants: frozenset[type[Event]] | None = frozenset(
        {TaskStarted, TaskRewarded, TaskCompleted}
    )
    past = PAST

    def __init__(self, runtime: Any) -> None:
        self._rt: Runtime = runtime
        self._learns = False
        self._random = Random(0)  # noqa: S311 - for chance, not for secrets
        #: The learner of the rules of order, and of the methods of each task.
        self.learner: Learner = _learner("planner")
        #: The part of the learner that has the rules.
        self.rules: Bandit = Bandit(list(RULES))
        self.rules._learner, self.rules._prefix = self.learner, _RULE
        #: The number of the last event before it began to learn.
        self._since = 0
        #: Ends its subscription to events.
        self._end: Callable[[], None] = _nothing
        #: Whether the kernel asks it for the choices when a task starts.
        self._is_asked = False
        #: The number of completed tasks, by run.
        self._completed: OrderedDict[str, int] = OrderedDict()
        #: The first task of each run of a plan, and its mark.
        self._plans: OrderedDict[str, tuple[TaskStarted, Mapping[str, Any]]] = (
            OrderedDict()
        )

    # -- choosing ------------------------------------------------------------------

    @contextmanager
    def choosing(self, *, learn: bool) -> Iterator[list[Chosen] | None]:
        """Note the choices for one plan; None: nothing is chosen."""
        chosen: list[Chosen] | None = [] if learn and self._learns else None
        token = _CHOSEN.set(None if chosen is None else (self, chosen))
        try:
            yield chosen
        finally:
            _CHOSEN.reset(token)

    def method(self, task: str, methods: Sequence[str]) -> str | None:
        """Return the method of a task to try first; None: keep their order."""
        chooser, chosen = _CHOSEN.get() or (None, None)
        if chooser is not self or chosen is None:
            return None
        choice: Chosen = self._choose(f"method of {task}", methods)
        chosen.append(choice)
        return choice.arm

    def rule(self, context: str) -> Chosen:
        """Choose the rule by which a search begins."""
        return self._choose(_RULE + context, self.rules.arms)

    def _choose(self, subject: str, arms: Sequence[str]) -> Chosen:
        explore = min(_FLOORS, _FLOOR * len(arms))
        return self.learner.choose(subject, self._random, arms=arms, explore=explore)

    # -- rewards -------------------------------------------------------------------

    def reward(self, mark: Mapping[str, Any], value: float) -> None:
        """Reward the choices of a plan with this mark by *value*, from -1 to 1."""
        for subject, arm in self.learner.choices_in(mark["choice"]):
            self.learner.learn(Chosen(subject, arm, mark["chance"]), (value + 1) / 2)

    @property
    def learns(self) -> bool:
        """True if rules and methods are chosen by their rewards."""
        return self._learns

    @learns.setter
    def learns(self, learns: bool) -> None:
        rt, is_new = self._rt, learns and not self._learns
        self._learns = learns
        if not learns:
            self._end()
            self._end = _nothing
        if is_new:
            self._completed.clear()
            self._plans.clear()
            with rt.lock:
                if not self._is_asked:
                    self._is_asked = True
                    rt.deciders.ask_of_choices(self._choice_of)
                    rt.kernel.learns = True
                self._since = 0 if rt.committer is None else rt.committer.last
            self._end = rt.signals.follow(self)

    def _choice_of(self, task_id: str, _attempt: int) -> tuple[str, float] | None:
        """Return the choices for the plan whose first task begins, under the lock."""
        mark = mark_of(task_of(self._rt.kernel.tasks[task_id]))
        return None if mark is None else (mark["choice"], mark["chance"])

    def take(self, event: Event, document: Any) -> None:
        """Learn, and reward plans that end in this incarnation (see `Projection`)."""
        del document
        self.learner.hear(event)
        if event.seq > self._since:
            if isinstance(event, TaskStarted):
                self._on_start(event)
            elif isinstance(event, TaskCompleted):
                self._on_completion(event)

    def _on_start(self, event: TaskStarted) -> None:
        run = self._rt.directory.run_of(event.task_id)
        mark = mark_of(task_in(self._rt, event.task_id)) if run else None
        if mark is not None:
            self._plans[run] = event, mark
            _bound(self._plans)

    def _on_completion(self, event: TaskCompleted) -> None:
        """Reward the first attempt of a plan once its run has completed."""
        run = self._rt.directory.run_of(event.task_id)
        if not run:
            return
        count = self._completed[run] = self._completed.pop(run, 0) + 1
        _bound(self._completed)
        first, mark = self._plans.get(run, (None, {}))
        if first is None or count < mark["tasks"]:
            return
        del self._plans[run], self._completed[run]
        rt, row = self._rt, self._rt.kernel.tasks.get(first.task_id)
        if row is None:
            return
        value = worth(mark["seconds"], (event.at_ns - first.at_ns) / NS)
        fields = first.task_id, first.attempt, value, "planner"
        # The orchestrator may have stopped since; then the reward is dropped.
        with suppress(NotRunningError):
            rt.step(
                lambda now: rt.kernel.note(TaskRewarded, now, *fields, cargo=row.cargo),
                keep=True,
            )


def _nothing() -> None:
    """Do nothing, as long as there is no subscription to end."""


def mark_of(task: Task | None) -> Mapping[str, Any] | None:
    """Return the mark of choices on the first task of a plan, if it has one."""
    return None if task is None else (task.metadata or {}).get(MARK)


def worth(foretold: float, seconds: float) -> float:
    """Return the reward, from -1 to 1, of a plan that took *seconds*."""
    both = foretold + seconds
    return (foretold - seconds) / both if both else 0.0


def evaluate(learner: Learner, events: Iterable[Event]) -> dict[str, dict[str, Value]]:
    """
    Estimate the reward of always choosing each arm, from the events of a journal.

    Returns:
        By choice and by arm, as from `taskorch.ext.learning.Learned.evaluate`.
    """
    values: dict[str, dict[str, Value]] = {}
    for (subject, arm), value in learner.values(events).items():
        values.setdefault(subject, {})[arm] = value
    return values


def _bound(table: OrderedDict[Any, Any]) -> None:
    while len(table) > _RUNS:
        table.popitem(last=False)
