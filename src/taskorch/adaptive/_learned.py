"""
Policies that learn which of several policies does best.

Decisions: 0088, 0099, 0193.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import count
from typing import TYPE_CHECKING, Any, Final, Literal

import attrs

from taskorch.adaptive._arms import FLOOR, Learning
from taskorch.adaptive._facts import Value
from taskorch.adaptive._learner import Learner
from taskorch.errors import InvalidTaskError
from taskorch.events import Event
from taskorch.kit.fence import log_of
from taskorch.kit.members import has
from taskorch.kit.visible import show
from taskorch.model import Task
from taskorch.protocols import (
    Admission,
    AgentView,
    Allocation,
    AllocationRequest,
    Backfills,
    Context,
    GrantsChunks,
    GrantsWhole,
    Named,
    Order,
    PoolView,
    RanksOwners,
    ResourceAllocator,
    Route,
    TaskQueue,
    TaskRouter,
)
from taskorch.protocols._optional import check_asked

if TYPE_CHECKING:
    from random import Random

_LOG: Final = log_of(__name__)


class Learned:
    """
    A policy that learns which of its *arms* to ask; or a value that is learnt.

    All arms are routers, or queues, or allocators, or values for `pick` (numbers or
    texts): by them it is a `LearnedRouter`, a `LearnedQueue`, a `LearnedAllocator` or a
    `LearnedValue`. Each arm does what it does by itself; which is asked for a task is
    decided by a bandit, from the rewards of earlier tasks. It becomes part of one
    orchestrator, hears its events, and has its journal keep what it has learnt, each
    hundred rewards, as an event from which a later incarnation goes on.

    `TaskStarted.choice` says which arm was chosen and how probable that was; the reason
    of a route or an allocation says it, too, so `explain` does.

    Args:
        arms: The policies, at least two.
        algorithm: `"thompson"`, `"ucb1"` or `"linucb"`. The first does well where
            rewards come late, and where the world changes.
        context: Names of what a task is told apart by: `"type"`, `"priority"`,
            `"owner"`, or what is in its metadata. It learns for each combination by
            itself; a number counts by its power of two, or, with LinUCB, as a feature.
        baseline: Which of the arms is the static default, from 0.
        floor: An arm other than the baseline is only chosen while the rewards so far,
            counted from the worst that there can be, are at least those of the
            baseline less this part of them, whatever comes of what is under way. So
            that part of all tasks is for arms of which nothing is known, from the
            first. 1 is without a floor. The condition: the baseline brings what it
            has brought so far; if it gets better, the floor follows as it is chosen.
        explore: How often an arm is drawn at random, within the floor.
        memory: About how many rewards are remembered, for what changes; None is all.
        reward: `"outcome"`: what becomes of an attempt, and how soon, is its reward;
            `"given"`: only what `reward_task` says.
        sources: Whose rewards count; None is everybody's.
        name: Tells it from other parts that learn, in journals and reasons.
        options: More arguments of the bandit. UCB1 has a `width` of 0.1 here, and not
            of 2 as in the paper: arms that are policies differ by little, and all of
            them do the work.
        keep: Whether the journal keeps what was learnt, for the next incarnation.

    Raises:
        InvalidTaskError: An argument is out of its range, or the arms are not alike.
    """

    #: What its arms are; "" as long as they are none.
    kind: str = ""

    def __init__(
        self,
        arms: Iterable[Any],
        *,
        algorithm: Literal["ucb1", "thompson", "linucb"] = "thompson",
        context: Iterable[str] = (),
        baseline: int = 0,
        floor: float = FLOOR,
        explore: float = 0.02,
        memory: int | None = 1_000,
        reward: Literal["outcome", "given"] = "outcome",
        sources: Iterable[str] | None = None,
        name: str = "",
        options: Mapping[str, Any] | None = None,
        keep: bool = True,
    ) -> None:
        self.arms: tuple[Any, ...] = tuple(arms)
        if len(self.arms) < 2:  # noqa: PLR2004 - there is something to choose
            msg = f"arms: two policies at least, not {len(self.arms)}"
            raise InvalidTaskError(msg)
        learned = _class_of(self.arms)
        if type(self) is Learned:
            # Its arms say which of the four it is.
            self.__class__ = learned
        elif not isinstance(self, learned):
            msg = f"arms of a {type(self).__name__} are no {learned.kind}s"
            raise InvalidTaskError(msg)
        names = _names(self.arms)
        #: What learns which arm to choose.
        self.learner: Learner = Learner(
            names,
            name=name or self.kind,
            algorithm=algorithm,
            context=context,
            baseline=baseline,
            floor=floor,
            explore=explore,
            memory=memory,
            reward=reward,
            sources=sources,
            options=options,
            keep=keep,
            once=self.kind == LearnedValue.kind,
        )
        self.names: tuple[str, ...] = names
        self.name: str = self.learner.name
        self.context: tuple[str, ...] = self.learner.context
        self.algorithm: str = algorithm
        self.baseline: int = baseline
        self.floor: float = floor
        self.explore: float = explore
        self.memory: int | None = memory
        self.rewarded_by: str = reward
        self.sources: frozenset[str] | None = self.learner.sources
        self.keep: bool = self.learner.keep

    if TYPE_CHECKING:
        # A checker does not know which of the four it is: it has the methods of all.
        def route(
            self, task: Task, candidates: Sequence[AgentView], context: Context
        ) -> Route:
            """See `LearnedRouter.route`."""
            ...

        def order(self, task: Task, context: Context) -> Order:
            """See `LearnedQueue.order`."""
            ...

        def admit(self, task: Task, context: Context) -> Admission:
            """See `LearnedQueue.admit`."""
            ...

        def allocate(
            self,
            request: AllocationRequest,
            pools: Mapping[str, PoolView],
            context: Context,
        ) -> Allocation:
            """See `LearnedAllocator.allocate`."""
            ...

        def pick(self, subject: str, kind: str, random: Random) -> Any:
            """See `LearnedValue.pick`."""
            ...

    def _ask(
        self, task: Task, random: Random, ask: Callable[[Any], Any]
    ) -> tuple[Any, str]:
        """
        What the arm for *task* answers, and why it was asked.

        One that fails has the worst reward, and then the baseline is asked, and the
        others.

        Raises:
            Exception: All have failed; of the last.
        """
        chosen = self.learner.choose_for(task, random)
        pulls, mean = self.learner.record(chosen)
        record = f"mean reward {mean:.2f} of {pulls:.0f}" if pulls else "untried"
        why = f"by {chosen.arm} ({record}, chance {chosen.propensity:.2f})"
        remaining = [
            *dict.fromkeys((chosen.arm, self.names[self.baseline], *self.names))
        ]
        while True:
            name = remaining.pop(0)
            try:
                return ask(self.arms[self.names.index(name)]), why
            except Exception as error:
                instead = remaining[0] if remaining else None
                self.learner.failed(task, name, instead)
                if instead is None:
                    raise
                _LOG.warning("%s of %s has failed: %s", name, self, error)
                why = f"by {instead}, since {name} has failed"

    @property
    def asks(self) -> tuple[Any, ...]:
        """The arms: see `AsksOthers`."""
        return self.arms

    # -- learning ------------------------------------------------------------------

    def attach(self, orchestrator: Any) -> None:
        """See `Learner.attach`."""
        self.learner.attach(orchestrator)

    def choice_of(self, task_id: str, attempt: int) -> tuple[str, float] | None:
        """See `Learner.choice_of`."""
        return self.learner.choice_of(task_id, attempt)

    def restore(self, kept: Callable[[str], Mapping[str, Any]]) -> None:
        """See `Learner.restore`."""
        self.learner.restore(kept)

    def hear(self, event: Event) -> None:
        """See `Learner.hear`."""
        self.learner.hear(event)

    def give(self, subject: str, value: float) -> None:
        """
        Reward what was chosen for *subject*, from -1 to 1: the first word counts.

        Raises:
            InvalidTaskError: *value* is no number from -1 to 1.
        """
        self.learner.give(subject, value)

    # -- what was learnt -----------------------------------------------------------

    def learned(self) -> tuple[Learning, ...]:
        """What was learnt of each arm in each context."""
        return self.learner.learned()

    @property
    def rewards(self) -> int:
        """From how many rewards it has learnt."""
        return self.learner.rewards

    def reset(self) -> None:
        """Forget all that was learnt; the journal keeps that it was forgotten."""
        self.learner.reset()

    def snapshot(self) -> dict[str, Any]:
        """What was learnt, as JSON has it."""
        return self.learner.snapshot()

    def save(self, orchestrator: Any = None) -> None:
        """Have the journal keep a snapshot, for the next incarnation."""
        self.learner.save(orchestrator)

    def evaluate(self, events: Iterable[Event]) -> dict[str, Value]:
        """
        What would have come of each arm, chosen always: from the events of a journal.

        An estimate by the method of self-normalised inverse propensities: a reward
        counts the more, the less probable its choice was; its interval is Wilson's,
        for as many attempts as its weights are worth. Rewards are those that it
        learns from. An arm that was never chosen is not named.

        Args:
            events: Such as `JournalReader(path).happened()`.
        """
        return {arm: value for (_, arm), value in self.learner.values(events).items()}

    def __repr__(self) -> str:
        return f"Learned({', '.join(self.names)}; {self.algorithm})"


class LearnedRouter(Learned):
    """A TaskRouter that learns which of several to ask."""

    kind = "router"
    waits_for_better: bool = False

    def route(
        self, task: Task, candidates: Sequence[AgentView], context: Context
    ) -> Route:
        """The worker that the router chosen for *task* names."""
        if len(candidates) == 1:
            name = candidates[0].name
            return Route(name, "the only candidate", reusable=LearnedRouter)
        route: Route
        route, why = self._ask(
            task, context.random, lambda arm: arm.route(task, candidates, context)
        )
        return Route(route.agent, f"{route.reason}; {why}")


class LearnedQueue(Learned):
    """A TaskQueue that learns by which of several to order."""

    kind = "queue"

    def order(self, task: Task, context: Context) -> Order:
        """The place that the queue chosen for *task* gives it: a time."""
        order: Order
        order, _ = self._ask(task, context.random, lambda arm: arm.order(task, context))
        if order.aging is None:
            return Order(order.key)
        return Order(context.now - task.priority * order.aging)

    def admit(self, task: Task, context: Context) -> Admission:
        """Whether the baseline admits *task*."""
        admission: Admission = self.arms[self.baseline].admit(task, context)
        return attrs.evolve(admission, reusable=False)


class LearnedAllocator(Learned):
    """A ResourceAllocator that learns which of several to ask."""

    kind = "allocator"

    @property
    def rigid(self) -> bool:
        """Whether all arms grant whole: see `GrantsWhole`."""
        return all(has(arm, GrantsWhole) and arm.rigid for arm in self.arms)

    @property
    def chunks(self) -> Mapping[str, float]:
        """Those of all arms: see `GrantsChunks`."""
        return _chunks_of(self.arms[0])

    def allocate(
        self,
        request: AllocationRequest,
        pools: Mapping[str, PoolView],
        context: Context,
    ) -> Allocation:
        """What the allocator chosen for the task grants."""
        if not request.resources.units:
            allocation: Allocation = self.arms[self.baseline].allocate(
                request, pools, context
            )
            return Allocation(allocation.granted, allocation.reason)
        allocation, why = self._ask(
            request.task,
            context.random,
            lambda arm: arm.allocate(request, pools, context),
        )
        return Allocation(allocation.granted, f"{allocation.reason}; {why}")


class LearnedValue(Learned):
    """One of several numbers, or texts; which does best is learnt."""

    kind = "value"

    def pick(self, subject: str, kind: str, random: Random) -> Any:
        """
        One of the values, for *subject*.

        Args:
            subject: The id of what it is for, by which `give` rewards it; if that is a
                task, by which `reward_task` does.
            kind: Its type, for the context.
            random: What chance is drawn from.
        """
        chosen = self.learner.choose_for(Task(kind, id=subject), random)
        self.learner.begin(subject, 1)
        return self.arms[self.names.index(chosen.arm)]

    def change(self, arms: Iterable[Any]) -> None:
        """
        Pick among other values from now on: those that stay are known.

        Raises:
            InvalidTaskError: They are no values, or too few for the baseline.
        """
        arms = tuple(arms)
        if len(arms) <= self.baseline or _class_of(arms) is not LearnedValue:
            msg = f"arms of {self} are more than {self.baseline} numbers or texts"
            raise InvalidTaskError(msg)
        names = _names(arms)
        self.arms: tuple[Any, ...] = arms
        self.names: tuple[str, ...] = names
        self.learner.change(names)


#: By what arms may be, the class that learns which does best.
_CLASSES: Final[Mapping[type, Any]] = {
    TaskRouter: LearnedRouter,
    TaskQueue: LearnedQueue,
    ResourceAllocator: LearnedAllocator,
}


def _class_of(arms: Sequence[Any]) -> Any:
    """
    The class for *arms*.

    Raises:
        InvalidTaskError: They are not alike, or cannot be asked as arms are.
    """
    if all(isinstance(arm, int | float | str) for arm in arms):
        return LearnedValue
    protocols = [
        protocol for protocol in _CLASSES if all(has(arm, protocol) for arm in arms)
    ]
    if len(protocols) != 1:
        msg = "arms are all routers, all queues, or all allocators"
        raise InvalidTaskError(msg, hint="see taskorch.protocols")
    (protocol,) = protocols
    for arm in arms:
        check_asked("arms", arm, protocol)
    if protocol is TaskQueue and any(
        has(arm, RanksOwners) or (has(arm, Backfills) and arm.backfill) for arm in arms
    ):
        msg = "a queue with standing() or backfill orders all tasks: it is no arm"
        raise InvalidTaskError(msg)
    if protocol is ResourceAllocator:
        chunks = list(map(_chunks_of, arms))
        if any(each != chunks[0] for each in chunks):
            msg = "allocators that are arms have the same chunks"
            raise InvalidTaskError(msg)
    return _CLASSES[protocol]


def _chunks_of(arm: object) -> dict[str, float]:
    return dict(arm.chunks) if has(arm, GrantsChunks) else {}


def _names(arms: Sequence[Any]) -> tuple[str, ...]:
    """Name arms, each by another name; those that are alike have numbers."""
    own: list[str] = []
    for arm in arms:
        name = type(arm).__name__
        if has(arm, Named):
            if not isinstance(arm.name, str):
                msg = f"arms: the name of {show(arm)} is a text, not {show(arm.name)}"
                raise InvalidTaskError(msg)
            name = arm.name or name
        if isinstance(arm, int | float):
            name = f"{arm:g}"
        elif isinstance(arm, str):
            name = arm
        own.append(name)
    names: list[str] = []
    for name in own:
        numbered = (f"{name}~{number}" for number in count(2))
        free = (each for each in numbered if each not in (*names, *own))
        names.append(name if name not in names else next(free))
    return tuple(names)
