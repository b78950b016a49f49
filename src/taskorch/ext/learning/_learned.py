"""
Policies that learn which of several policies does best.

Decision: learning-and-jobs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import count
from typing import TYPE_CHECKING, Any, Final, Literal

import attrs

from taskorch.errors import InvalidTaskError
from taskorch.events import Event
from taskorch.ext.learning._arms import FLOOR, Learning
from taskorch.ext.learning._estimates import Value
from taskorch.ext.learning._learner import Learner
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
    Policy that learns which of its *arms* to ask; or value that is learnt.

    All arms are routers, or queues, or allocators, or values for `pick` (numbers or
    texts): so it is a `LearnedRouter`, a `LearnedQueue`, a `LearnedAllocator` or a
    `LearnedValue`. For each task, a bandit decides which arm to ask, from the rewards
    of earlier tasks. It becomes part of one orchestrator and hears its events. After
    each hundred rewards the journal stores what it has learnt, as an event from which a
    later incarnation continues.

    `TaskStarted.choice` has the chosen arm and its probability. The reason of a route
    or an allocation has them too, and so has `explain`.

    Args:
        arms: The policies, at least two.
        algorithm: `"thompson"`, `"ucb1"` or `"linucb"`. The first does well if rewards
            come late, and if the world changes.
        context: Names of properties that tell tasks apart: `"type"`, `"priority"`,
            `"owner"`, or keys of the metadata. It learns separately for each
            combination. A number counts by its power of two, or, with LinUCB, as a
            feature.
        baseline: The index of the arm that is the static default, from 0.
        floor: The part of the baseline's rewards that learning may cost. Another arm is
            only chosen if the rewards, counted from the worst possible one, stay above
            the rest, whatever the running attempts bring. So this part of all tasks may
            try unknown arms, from the first task on. 1 is without a floor. It assumes
            that the baseline goes on to bring its mean so far; if the baseline gets
            better, the floor follows as it is chosen.
        explore: The share of choices at random, within the floor.
        memory: About how many rewards count, for a changing world; None is all.
        reward: `"outcome"`: the reward follows from the end and the latency of an
            attempt; `"given"`: only `reward_task` gives rewards.
        sources: The sources whose rewards count; None is all.
        name: The name that tells it from other learners, in journals and reasons.
        options: More arguments of the bandit. UCB1 has a `width` of 0.1 here, and not
            of 2 as in the paper: arms that are policies differ by little, and all of
            them do the work.
        keep: Whether the journal stores what was learnt, for the next incarnation.

    Raises:
        InvalidTaskError: An argument is out of its range, or the arms are not alike.
    """

    #: The kind of its arms; "" as long as there are none.
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
            # The arms decide which of the four classes it becomes.
            self.__class__ = learned
        elif not isinstance(self, learned):
            msg = f"arms of a {type(self).__name__} are no {learned.kind}s"
            raise InvalidTaskError(msg)
        names = _names(self.arms)
        #: The learner that chooses the arms.
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
        # A type checker does not know which of the four classes it becomes, so it sees
        # the methods of all.
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
        Return the answer of the arm for *task*, and why it was asked.

        An arm that fails gets the worst reward; then the baseline and the others are
        asked.

        Raises:
            Exception: All arms have failed; it is the error of the last.
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
        Reward the choice for *subject*, from -1 to 1; only the first reward counts.

        Raises:
            InvalidTaskError: *value* is no number from -1 to 1.
        """
        self.learner.give(subject, value)

    # -- what was learnt -----------------------------------------------------------

    def learned(self) -> tuple[Learning, ...]:
        """Return the rewards learnt of each arm in each context."""
        return self.learner.learned()

    @property
    def rewards(self) -> int:
        """Number of rewards that it has learnt from."""
        return self.learner.rewards

    def reset(self) -> None:
        """Forget all that was learnt, and record that in the journal."""
        self.learner.reset()

    def snapshot(self) -> dict[str, Any]:
        """Return the learnt state as a JSON object."""
        return self.learner.snapshot()

    def save(self, orchestrator: Any = None) -> None:
        """Store a snapshot in the journal, for the next incarnation."""
        self.learner.save(orchestrator)

    def evaluate(self, events: Iterable[Event]) -> dict[str, Value]:
        """
        Estimate the mean reward of each arm, if always chosen, from a journal's events.

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
    """TaskRouter that learns which of several routers to ask."""

    kind = "router"
    waits_for_better: bool = False

    def route(
        self, task: Task, candidates: Sequence[AgentView], context: Context
    ) -> Route:
        """Return the worker that the router chosen for *task* names."""
        if len(candidates) == 1:
            name = candidates[0].name
            return Route(name, "the only candidate", reusable=LearnedRouter)
        route: Route
        route, why = self._ask(
            task, context.random, lambda arm: arm.route(task, candidates, context)
        )
        return Route(route.agent, f"{route.reason}; {why}")


class LearnedQueue(Learned):
    """TaskQueue that learns by which of several queues to order."""

    kind = "queue"

    def order(self, task: Task, context: Context) -> Order:
        """Return the place by the queue chosen for *task*: a time."""
        order: Order
        order, _ = self._ask(task, context.random, lambda arm: arm.order(task, context))
        if order.aging is None:
            return Order(order.key)
        return Order(context.now - task.priority * order.aging)

    def admit(self, task: Task, context: Context) -> Admission:
        """Return whether the baseline admits *task*."""
        admission: Admission = self.arms[self.baseline].admit(task, context)
        return attrs.evolve(admission, reusable=False)


class LearnedAllocator(Learned):
    """ResourceAllocator that learns which of several allocators to ask."""

    kind = "allocator"

    @property
    def rigid(self) -> bool:
        """True if all arms are rigid: see `GrantsWhole`."""
        return all(has(arm, GrantsWhole) and arm.rigid for arm in self.arms)

    @property
    def chunks(self) -> Mapping[str, float]:
        """Chunks of the allocators, the same for all: see `GrantsChunks`."""
        return _chunks_of(self.arms[0])

    def allocate(
        self,
        request: AllocationRequest,
        pools: Mapping[str, PoolView],
        context: Context,
    ) -> Allocation:
        """Return the grant of the allocator that is chosen for the task."""
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
    """Choice among several numbers or texts, which learns the best."""

    kind = "value"

    def pick(self, subject: str, kind: str, random: Random) -> Any:
        """
        Pick one of the values, for *subject*.

        Args:
            subject: The id by which `give` rewards it, or `reward_task` if it is that
                of a task.
            kind: Its type, for the context.
            random: The source of random numbers.
        """
        chosen = self.learner.pick(subject, kind, random)
        return self.arms[self.names.index(chosen.arm)]

    def change(self, arms: Iterable[Any]) -> None:
        """
        Pick among other values from now on; those that stay keep their rewards.

        Raises:
            InvalidTaskError: They are invalid, or too few for the baseline.
        """
        arms = tuple(arms)
        if len(arms) <= self.baseline or _class_of(arms) is not LearnedValue:
            msg = f"arms of {self} are more than {self.baseline} numbers or texts"
            raise InvalidTaskError(msg)
        names = _names(arms)
        self.arms: tuple[Any, ...] = arms
        self.names: tuple[str, ...] = names
        self.learner.change(names)


#: The class for each kind of arms.
_CLASSES: Final[Mapping[type, Any]] = {
    TaskRouter: LearnedRouter,
    TaskQueue: LearnedQueue,
    ResourceAllocator: LearnedAllocator,
}


def _class_of(arms: Sequence[Any]) -> Any:
    """
    Return the class for *arms*.

    Raises:
        InvalidTaskError: They are of different kinds, or cannot be arms.
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
    """Name the arms uniquely; equal names get numbers."""
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
