"""
A policy that learns which of several policies does best.

Decisions: 0088, 0099.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from copy import deepcopy
from itertools import chain, count
from math import log, sqrt
from threading import Lock
from typing import TYPE_CHECKING, Any, Final, Literal

import attrs

from taskorch.adaptive._bandits import ALGORITHMS, Bandit, make_bandit
from taskorch.errors import InvalidTaskError
from taskorch.events import (
    Event,
    TaskCancelled,
    TaskCompleted,
    TaskFailed,
    TaskRetrying,
    TaskRewarded,
    TaskStarted,
    TaskSubmitted,
)
from taskorch.model import Task, check_count, check_fraction
from taskorch.model._checks import check_word, is_number
from taskorch.model._show import show
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
from taskorch.protocols._members import check_policy, has

if TYPE_CHECKING:
    from random import Random

_LOG: Final = logging.getLogger(__name__)
#: Of snapshots; it rises when what they say changes.
_VERSION: Final = 1
#: The name under which the journal keeps snapshots, as the adaptive jobs call it.
SNAPSHOTS: Final = "population_state.judgement_snapshots"
_TEN_YEARS: Final = 10 * 365 * 86_400.0
#: How wide the doubt of a UCB1 is, where arms are policies.
_WIDTH: Final = 0.1
#: Attempts whose reward is waited for, at the most: the oldest are forgotten.
_AWAITED: Final = 10_000
#: Rewards after which the journal keeps a snapshot.
_UNKEPT: Final = 100
#: Facts after which it does, so that a later life has few to read.
_UNREAD: Final = 10_000
_NO_END: Final = 1 << 62
#: Standard deviations within which 95 of 100 cases are.
_SURE: Final = 1.96
#: How much the latest latency counts in the usual latency of a type.
_LATEST: Final = 0.05

#: What arms may be.
_KINDS: Final[Mapping[str, type]] = {
    "router": TaskRouter,
    "queue": TaskQueue,
    "allocator": ResourceAllocator,
}
#: Facts that may say how good an attempt was.
_WORDS: Final = (TaskCompleted, TaskFailed, TaskRetrying, TaskRewarded)
#: Causes of a failure for which the choice may be to blame.
_OWN_FAULTS: Final = ("error", "timeout", "deadline")

#: What was chosen: the context, the features, the arm and its probability.
_Choice = tuple[str, tuple[float, ...], int, float]


@attrs.frozen
class Learning:
    """
    What was learnt of one arm in one context.

    Attributes:
        context: The context, as text; "" where there is none.
        arm: The name of the arm.
        pulls: How many rewards are remembered; older ones count less.
        mean: Their mean, from -1 to 1.
    """

    context: str
    arm: str
    pulls: float
    mean: float


@attrs.frozen
class Value:
    """
    What would have come of one arm, if it had been chosen always.

    Attributes:
        mean: The mean reward, from -1 to 1.
        low: The lower end of an interval that covers it in 95 of 100 cases.
        high: Its upper end.
        attempts: How many attempts the estimate rests on.
    """

    mean: float
    low: float
    high: float
    attempts: int


class OutcomeRewards:
    """
    Rewards that follow from what becomes of attempts: a projection of events.

    A failure is worth -1. A completion is worth (usual - latency) / (usual + latency),
    where the usual latency is that of the type of late: 0 as usual, 1/3 in half the
    time, near -1 where it takes far longer.
    """

    def __init__(self, usual: Mapping[str, float] | None = None) -> None:
        self._types: dict[str, str] = {}
        self._usual: dict[str, float] = dict(usual or {})

    def usual(self) -> dict[str, float]:
        """The usual latency of each type: as `__init__` takes it."""
        return dict(self._usual)

    def reward(
        self, event: Event, *, is_new: bool = True
    ) -> tuple[str, int, float] | None:
        """
        The task, the attempt and its reward, if *event* says so.

        Args:
            event: The next one.
            is_new: Whether it counts in the usual latency; it has, before.
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
            # One that was lost through no fault of the task's says nothing.
            return (event.task_id, event.attempt, -1.0) if event.charged else None
        elif isinstance(event, TaskFailed):
            self._types.pop(event.task_id, None)
            is_own = event.attempt and event.cause in _OWN_FAULTS
            return (event.task_id, event.attempt, -1.0) if is_own else None
        elif isinstance(event, TaskCancelled):
            self._types.pop(event.task_id, None)
        return None


class Learned:
    """
    A TaskRouter, TaskQueue or ResourceAllocator that learns which of its *arms* to ask.

    All arms are routers, or queues, or allocators, or values for `pick` (numbers or
    texts), and each does what it does by itself; which is asked for a task is decided
    by a bandit, from the rewards of earlier tasks. It becomes part of one orchestrator,
    hears its events, and has its journal keep what it has learnt, each hundred rewards,
    as an event from which a later life goes on.

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
            baseline less this part of them. 1 is without a floor.
        explore: How often an arm is drawn at random, within the floor.
        memory: About how many rewards are remembered, for what changes; None is all.
        reward: `"outcome"`: what becomes of an attempt, and how soon, is its reward;
            `"given"`: only what `reward_task` says.
        sources: Whose rewards count; None is everybody's.
        name: Tells it from other parts that learn, in journals and reasons.
        options: More arguments of the bandit. UCB1 has a `width` of 0.1 here, and not
            of 2 as in the paper: arms that are policies differ by little, and all of
            them do the work.
        keep: Whether the journal keeps what was learnt, for the next life.

    Raises:
        InvalidTaskError: An argument is out of its range, or the arms are not alike.
    """

    def __init__(
        self,
        arms: Iterable[Any],
        *,
        algorithm: Literal["ucb1", "thompson", "linucb"] = "thompson",
        context: Iterable[str] = (),
        baseline: int = 0,
        floor: float = 0.05,
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
        self.kind: str = _kind(self.arms)
        check_word("algorithm", algorithm, ALGORITHMS)
        check_word("reward", reward, ("outcome", "given"))
        check_fraction("floor", floor)
        check_fraction("explore", explore)
        check_count("baseline", baseline, least=0)
        if baseline >= len(self.arms):
            msg = f"baseline is the number of an arm, below {len(self.arms)}"
            raise InvalidTaskError(msg)
        if memory is not None:
            check_count("memory", memory, least=2)
        self.context: tuple[str, ...] = tuple(context)
        self.algorithm = algorithm
        self.baseline: int = baseline
        self.floor: float = floor
        self.explore: float = explore
        self.memory: int | None = memory
        self.rewarded_by = reward
        self.sources: frozenset[str] | None = (
            None if sources is None else frozenset(sources)
        )
        self.name: str = name or self.kind
        self.keep: bool = bool(keep)
        self._options = dict(options or {})
        if algorithm == "ucb1":
            self._options.setdefault("width", _WIDTH)
        self.names: tuple[str, ...]
        self.names, earlier = _names(self.arms)
        #: The numbers of arms by their names, and by those that they had before.
        self._places: dict[str, int] = {
            name: place
            for names in (earlier, self.names)
            for place, name in enumerate(names)
        }
        #: As what reads arms would have it of them.
        if self.kind == "allocator":
            self.rigid: bool = all(
                has(arm, GrantsWhole) and arm.rigid for arm in self.arms
            )
            self.chunks: Mapping[str, float] = _chunks_of(self.arms[0])
        self.waits_for_better: bool = False
        self._lock = Lock()
        self._orch: Any = None
        #: What has the facts of earlier lives, if anything has.
        self._journal: Any = None
        self._clear()

    def _clear(self) -> None:
        self._bandits: dict[str, Bandit] = {}
        #: What was chosen for tasks that have not begun, and for attempts.
        self._chosen: OrderedDict[str, _Choice] = OrderedDict()
        self._begun: OrderedDict[tuple[str, int], _Choice] = OrderedDict()
        self._outcomes = OutcomeRewards()
        self._rewards = 0
        self._unlearnt = 0
        #: The number of the last fact of which it has heard, and that which the
        #: snapshot that is kept says.
        self._heard = self._kept = 0
        #: The number of the last fact of earlier lives that it has learnt from. Of its
        #: own life it may have heard before it is asked to recall those.
        self._learnt_to = 0
        #: The sum of rewards from 0 to 1, and of those of the baseline; and how many.
        self._gained = self._baseline_gained = 0.0
        self._counted = self._baseline_counted = 0.0

    # -- choosing ------------------------------------------------------------------

    def route(
        self, task: Task, candidates: Sequence[AgentView], context: Context
    ) -> Route:
        """The agent that the router chosen for *task* names."""
        if len(candidates) == 1:
            return Route(candidates[0].name, "the only candidate", reusable=Learned)
        route: Route
        route, why = self._ask(
            task, context.random, lambda arm: arm.route(task, candidates, context)
        )
        return Route(route.agent, f"{route.reason}; {why}")

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
        arm, why = self._choose(task, random)
        remaining = [*dict.fromkeys((arm, self.baseline, *range(len(self.arms))))]
        while True:
            try:
                return ask(self.arms[arm]), why
            except Exception as error:
                remaining.remove(arm)
                with self._lock:
                    choice = self._chosen.get(task.id or "")
                    if choice is not None:
                        key, features, _, _ = choice
                        self._count(key, features, arm, 0.0)
                        if remaining:
                            self._chosen[task.id or ""] = (
                                key,
                                features,
                                remaining[0],
                                1.0,
                            )
                if not remaining:
                    raise
                _LOG.warning("%s of %s has failed: %s", self.names[arm], self, error)
                why = (
                    f"by {self.names[remaining[0]]}, since {self.names[arm]} has failed"
                )
                arm = remaining[0]

    def _choose(self, task: Task, random: Random) -> tuple[int, str]:
        """The arm for *task*, the same until it begins, and why."""
        task_id = task.id or ""
        with self._lock:
            choice = self._chosen.get(task_id)
            if choice is None:
                key, features = self._context_of(task)
                arm, chance = self._pull(key, features, task, random)
                choice = self._chosen[task_id] = key, features, arm, chance
                _bound(self._chosen)
            key, _, arm, chance = choice
            pulls, mean = self._bandit(key).means()[arm]
        record = (
            f"mean reward {mean * 2 - 1:.2f} of {pulls:.0f}" if pulls else "untried"
        )
        return arm, f"by {self.names[arm]} ({record}, chance {chance:.2f})"

    def _pull(
        self, key: str, features: tuple[float, ...], task: Task, random: Random
    ) -> tuple[int, float]:
        bandit = self._bandit(key)
        means, count = bandit.means(), len(self.arms)
        if task.idempotent is False:
            # What cannot be repeated is no subject of experiments.
            best = max(range(count), key=lambda arm: (means[arm][1], -arm))
            tried = means[best][0] > 0 and self._is_above_floor(means, best)
            return (best if tried else self.baseline), 1.0
        chances = [
            chance * (1 - self.explore) + self.explore / count
            for chance in bandit.chances(features, random)
        ]
        # What the floor forbids is done by the baseline.
        allowed = [
            arm == self.baseline or self._is_above_floor(means, arm)
            for arm in range(count)
        ]
        kept = [
            chance if is_allowed else 0.0
            for chance, is_allowed in zip(chances, allowed, strict=True)
        ]
        kept[self.baseline] += sum(chances) - sum(kept)
        drawn, last = random.random(), self.baseline
        for arm, chance in enumerate(kept):
            drawn -= chance
            if chance and drawn < 0:
                last = arm
                break
        return last, min(1.0, kept[last])

    def _is_above_floor(self, means: Sequence[tuple[float, float]], arm: int) -> bool:
        """Whether *arm* can be pulled, and the rewards stay above the floor."""
        if self.floor >= 1:
            return True
        if not self._baseline_counted:
            return False
        usual = self._baseline_gained / self._baseline_counted
        pulls, mean = means[arm]
        low = 0.0
        if pulls:
            low = max(0.0, mean - sqrt(log(self._counted + 2) / (2 * pulls)))
        # Those under way may yet bring nothing.
        under_way = len(self._begun) + 1
        gained = self._gained + low + usual * (1 - self.floor) * (under_way - 1)
        return gained >= (1 - self.floor) * usual * (self._counted + under_way)

    def _bandit(self, key: str) -> Bandit:
        bandit = self._bandits.get(key)
        if bandit is None:
            size = len(self.context)
            bandit = self._bandits[key] = make_bandit(
                self.algorithm, len(self.arms), size, self.memory, self._options
            )
        return bandit

    def _context_of(self, task: Task) -> tuple[str, tuple[float, ...]]:
        """The context of *task*: the key of its bandit, and its features."""
        if not self.context:
            return "", ()
        metadata = task.metadata or {}
        own = {"type": task.type, "priority": task.priority, "owner": task.owner}
        values = [own.get(name, metadata.get(name)) for name in self.context]
        if self.algorithm != "linucb":
            return ", ".join(map(_bucket, values)), ()
        # Texts are told apart; numbers say how alike tasks are.
        numbers = [
            float(value) if is_number(value, -1e300, 1e300) else None
            for value in values
        ]
        key = ", ".join(
            str(value) if number is None else "#"
            for value, number in zip(values, numbers, strict=True)
        )
        return key, tuple(
            0.0 if number is None else number / (1 + abs(number)) for number in numbers
        )

    def pick(self, subject: str, kind: str, random: Random) -> Any:
        """
        Where the arms are plain values, one of them, for *subject*.

        Args:
            subject: The id of what it is for, by which `give` rewards it; if that is a
                task, by which `reward_task` does.
            kind: Its type, for the context.
            random: What chance is drawn from.
        """
        arm, _ = self._choose(Task(kind, id=subject), random)
        with self._lock:
            self._begun[_stem(subject), 0] = self._chosen.pop(subject)
            _bound(self._begun)
        return self.arms[arm]

    def give(self, subject: str, value: float) -> None:
        """
        Reward what was picked for *subject*, from -1 to 1: the first word counts.

        Raises:
            InvalidTaskError: *value* is no number from -1 to 1.
        """
        if not is_number(value, -1, 1):
            msg = f"a reward is a number from -1 to 1, not {show(value)}"
            raise InvalidTaskError(msg)
        with self._lock:
            self._learn(subject, 1, value)

    # -- learning ------------------------------------------------------------------

    def attach(self, orchestrator: Any) -> None:
        """
        Called by the orchestrator of which it becomes a part: hear its events.

        Raises:
            InvalidTaskError: It is part of another one already.
        """
        if self._orch is not None:
            msg = f"{self!r} learns for another orchestrator already"
            raise InvalidTaskError(msg, hint="make a Learned for each")
        self._orch = orchestrator
        self._learnt_to = self._heard
        signals = orchestrator.signals
        names = ["task_retrying", "task_failed", "task_cancelled", "task_rewarded"]
        # Of starts nothing is learnt; who hears of them has choices told.
        names += ["task_submitted", "task_started", "task_completed"]
        for name in names:
            getattr(signals, name).connect(self.hear)

    def choice_of(self, task_id: str, attempt: int) -> tuple[str, float] | None:
        """Called as an attempt begins: the arm that was chosen, and its probability."""
        with self._lock:
            if self.kind == "value":
                # It was picked before, and is the same for all attempts.
                choice = self._begun.get((_stem(task_id), 0))
            else:
                choice = self._chosen.pop(task_id, None)
            if choice is None:
                return None
            if self.kind != "value":
                self._begun[task_id, attempt] = choice
                _bound(self._begun)
        return f"{self.name}:{self.names[choice[2]]}", choice[3]

    def hear(self, event: Event) -> None:
        """Learn from *event*, if it says how good an attempt was."""
        recalled: Sequence[tuple[Event, Any]] = ()
        if isinstance(event, TaskRewarded) and self._is_unknown(event):
            recalled = self._entries({event.task_id})
        with self._lock:
            self._replay(recalled, event.seq - 1)
            self._take_in(event)
            self._heard = event.seq
            unkept = event.seq - self._kept
            is_due = self._unlearnt >= _UNKEPT or unkept >= _UNREAD
        if is_due:
            self.save()

    def _take_in(self, event: Event) -> None:
        if isinstance(event, TaskRewarded):
            if self._counts(event):
                self._learn(event.task_id, event.attempt, event.value)
            return
        reward = self._outcomes.reward(event)
        if reward is not None and self.rewarded_by == "outcome":
            self._learn(*reward)
        elif isinstance(event, TaskRetrying) and not event.charged:
            self._begun.pop((event.task_id, event.attempt), None)
        elif isinstance(event, TaskCancelled | TaskFailed):
            self._chosen.pop(event.task_id, None)

    def _counts(self, event: TaskRewarded) -> bool:
        return self.sources is None or event.source in self.sources

    def _learn(self, task_id: str, attempt: int, value: float) -> None:
        # The first word counts: a second one finds nothing.
        choice = self._begun.pop(self._subject(task_id, attempt), None)
        if choice is None:
            return
        key, features, arm, _ = choice
        self._count(key, features, arm, (value + 1) / 2)

    def _count(
        self, key: str, features: tuple[float, ...], arm: int, reward: float
    ) -> None:
        self._bandit(key).learn(arm, features, reward)
        self._rewards += 1
        self._unlearnt += 1
        self._gained += reward
        self._counted += 1
        if arm == self.baseline:
            self._baseline_gained += reward
            self._baseline_counted += 1

    def _subject(self, task_id: str, attempt: int) -> tuple[str, int]:
        """By which a choice is known: that of a value is one for all attempts."""
        return (_stem(task_id), 0) if self.kind == "value" else (task_id, attempt)

    # -- what earlier lives have left ------------------------------------------------

    def recall(self, journal: Any, last: int) -> None:
        """
        Called at the start, after `restore`: learn what the snapshot has not yet.

        Args:
            journal: The facts of earlier lives, a `DurableJournal`.
            last: The number of the last of them.
        """
        self._journal = journal
        since = self._learnt_to if self.keep else last
        ids: OrderedDict[str, None] = OrderedDict()
        for fact, _ in journal.read(since) if since < last else ():
            if fact.seq > last:
                break
            if isinstance(fact, _WORDS):
                ids[fact.task_id] = None
                _bound(ids)
        entries = self._entries(ids)
        with self._lock:
            self._replay(
                (entry for entry in entries if entry[0].seq <= last),
                since,
                learns=True,
            )
            self._heard = max(self._heard, last)
            self._kept = min(self._kept, last)

    def _is_unknown(self, event: TaskRewarded) -> bool:
        """Whether only the journal may know what was chosen for the attempt."""
        if self._journal is None or self.rewarded_by == "outcome":
            return False
        with self._lock:
            is_begun = self._subject(event.task_id, event.attempt) in self._begun
        return not is_begun and self._counts(event)

    def _entries(self, ids: Collection[str]) -> Sequence[tuple[Event, Any]]:
        """The facts about tasks, with what the journal has beside them."""
        if not ids:
            return ()
        wanted = {*ids, *map(_stem, ids)}
        return list(self._journal.select(wanted, _NO_END))

    def _replay(
        self,
        entries: Iterable[tuple[Event, Any]],
        since: int,
        *,
        learns: bool = False,
    ) -> None:
        """Under the lock: know again what was chosen, and learn from facts after."""
        tasks: dict[str, Task] = {}
        for event, value in entries:
            if isinstance(event, TaskSubmitted):
                tasks[event.task_id] = value
                self._outcomes.reward(event)
            elif isinstance(event, TaskStarted):
                self._know_again(event, tasks.get(event.task_id))
            elif event.seq <= since:
                # That was learnt before, or was nobody's word.
                self._forget(event)
            elif learns:
                self._take_in(event)

    def _know_again(self, event: TaskStarted, task: Task | None) -> None:
        arms = "" if event.choice is None else event.choice[0]
        subject = self._subject(event.task_id, event.attempt)
        for arm in arms.split(" + "):
            name = arm.removeprefix(f"{self.name}:")
            place = self._places.get(name)
            if name != arm and place is not None and task is not None:
                key, features = self._context_of(task)
                self._begun.setdefault(subject, (key, features, place, 1.0))
                _bound(self._begun)

    def _forget(self, event: Event) -> None:
        """Under the lock: what *event* says was learnt."""
        reward = self._outcomes.reward(event, is_new=False)
        if isinstance(event, TaskRewarded):
            if self._counts(event):
                self._begun.pop(self._subject(event.task_id, event.attempt), None)
        elif reward is not None and self.rewarded_by == "outcome":
            self._begun.pop(reward[:2], None)

    # -- what was learnt -----------------------------------------------------------

    def learned(self) -> tuple[Learning, ...]:
        """What was learnt of each arm in each context."""
        with self._lock:
            return tuple(
                Learning(key, self.names[arm], round(pulls, 3), round(mean * 2 - 1, 4))
                for key, bandit in self._bandits.items()
                for arm, (pulls, mean) in enumerate(bandit.means())
                if pulls
            )

    def reset(self) -> None:
        """Forget all that was learnt; the journal keeps that it was forgotten."""
        with self._lock:
            heard = self._heard
            self._clear()
            self._heard = heard
        self.save()

    def snapshot(self) -> dict[str, Any]:
        """What was learnt, as JSON has it."""
        with self._lock:
            self._unlearnt = 0
            self._kept = self._heard
            return {
                "version": _VERSION,
                "algorithm": self.algorithm,
                "context": list(self.context),
                "arms": list(self.names),
                "rewards": self._rewards,
                "gained": [self._gained, self._counted],
                "baseline": [self._baseline_gained, self._baseline_counted],
                "heard": self._heard,
                "usual": self._outcomes.usual(),
                "learnt": {
                    key: bandit.state() for key, bandit in self._bandits.items()
                },
            }

    @property
    def rewards(self) -> int:
        """From how many rewards it has learnt."""
        return self._rewards

    def save(self, orchestrator: Any = None) -> None:
        """Have the journal keep a snapshot, for the next life."""
        orch = self._orch if orchestrator is None else orchestrator
        if orch is not None and self.keep:
            try:
                orch.emit(f"{SNAPSHOTS}/{self.name}", self.snapshot(), keep=_TEN_YEARS)
            except Exception as error:  # noqa: BLE001 - what was learnt is no work
                _LOG.warning("what %s has learnt is not kept: %s", self.name, error)

    def restore(self, kept: Callable[[str], Any]) -> None:
        """
        Called at the start: go on with what an earlier life has learnt.

        Arms are known again by their names: one that is gone is forgotten, a new one is
        untried. What was learnt otherwise (by another version, algorithm or context) is
        left out, with a warning.
        """
        snapshot = kept(f"{SNAPSHOTS}/{self.name}") if self.keep else None
        if snapshot is None:
            return
        try:
            same = snapshot["version"], snapshot["algorithm"], list(snapshot["context"])
            if same != (_VERSION, self.algorithm, list(self.context)):
                reason = f"it is of version, algorithm and context {same}"
                raise ValueError(reason)  # noqa: TRY301 - one warning for all
            with self._lock:
                self._take(snapshot)
        except (LookupError, TypeError, ValueError) as error:
            with self._lock:
                self._clear()
                self._learnt_to = _NO_END
            _LOG.warning("what %s had learnt is left out: %s", self.name, error)

    def _take(self, snapshot: Mapping[str, Any]) -> None:
        for key, states in snapshot["learnt"].items():
            for name, numbers in zip(snapshot["arms"], states, strict=True):
                place = self._places.get(name)
                if place is not None:
                    self._bandit(key).restore(place, numbers)
        self._rewards = int(snapshot["rewards"])
        # Snapshots of earlier versions do not say it: then all counts as heard.
        self._learnt_to = self._kept = int(snapshot.get("heard", _NO_END))
        self._outcomes = OutcomeRewards(snapshot.get("usual", {}))
        if self.baseline in map(self._places.get, snapshot["arms"]):
            self._gained, self._counted = snapshot["gained"]
            self._baseline_gained, self._baseline_counted = snapshot["baseline"]

    def evaluate(self, events: Iterable[Event]) -> dict[str, Value]:
        """
        What would have come of each arm, chosen always: from the facts of a journal.

        An estimate by the method of self-normalised inverse propensities: a reward
        counts the more, the less probable its choice was; its interval is Wilson's,
        for as many attempts as its weights are worth. Rewards are those that it
        learns from. An arm that was never chosen is not named.

        Args:
            events: Such as `JournalReader(path).happened()`.
        """
        outcomes = OutcomeRewards()
        chosen: dict[tuple[str, int], tuple[str, float]] = {}
        pairs: dict[str, list[tuple[float, float]]] = {}
        for event in events:
            if isinstance(event, TaskStarted) and event.choice is not None:
                chosen[event.task_id, event.attempt] = event.choice
            reward = outcomes.reward(event)
            if isinstance(event, TaskRewarded):
                reward = event.task_id, event.attempt, event.value
            elif self.rewarded_by == "given":
                reward = None
            choice = None if reward is None else chosen.pop(reward[:2], None)
            if reward is not None and choice is not None:
                for arm in choice[0].split(" + "):
                    name = arm.removeprefix(f"{self.name}:")
                    if name != arm:
                        place = self._places.get(name)
                        name = name if place is None else self.names[place]
                        weight = 1 / max(choice[1], 1e-6)
                        pairs.setdefault(name, []).append((weight, reward[2]))
        return {name: estimate(reward) for name, reward in pairs.items()}

    def __getstate__(self) -> dict[str, Any]:
        # A simulation asks a copy, which keeps nothing.
        alone = {"_lock": None, "_orch": None, "_journal": None}
        with self._lock:
            return deepcopy({**vars(self), **alone})

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, _lock=Lock())

    def __repr__(self) -> str:
        return f"Learned({', '.join(self.names)}; {self.algorithm})"


def estimate(pairs: Sequence[tuple[float, float]]) -> Value:
    """An estimate from pairs of a weight and a reward."""
    weights = sum(weight for weight, _ in pairs)
    mean = sum(weight * value for weight, value in pairs) / weights
    # As many attempts of equal weight would say as much.
    count = weights**2 / sum(weight**2 for weight, _ in pairs)
    part = (mean + 1) / 2
    spread = sum(w * ((value + 1) / 2 - part) ** 2 for w, value in pairs) / weights
    widest = part * (1 - part)
    # Wilson's interval is for rewards of all or nothing. Those that vary less say more;
    # that they do is believed as if one of all or nothing had come besides.
    if widest:
        count *= widest / ((count * spread + widest) / (count + 1))
    square = _SURE**2 / count
    middle = (part + square / 2) / (1 + square)
    wide = sqrt(square * widest + square**2 / 4) / (1 + square)
    low, high = middle - wide, middle + wide
    return Value(mean, max(-1.0, 2 * low - 1), min(1.0, 2 * high - 1), len(pairs))


def _kind(arms: Sequence[Any]) -> str:
    if all(isinstance(arm, int | float | str) for arm in arms):
        return "value"
    kinds = [
        kind
        for kind, protocol in _KINDS.items()
        if all(has(arm, protocol) for arm in arms)
    ]
    if len(kinds) != 1:
        msg = "arms are all routers, all queues, or all allocators"
        raise InvalidTaskError(msg, hint="see taskorch.protocols")
    kind = kinds[0]
    for arm in arms:
        check_policy("arms", arm, _KINDS[kind])
    if kind == "queue" and any(
        has(arm, RanksOwners) or (has(arm, Backfills) and arm.backfill) for arm in arms
    ):
        msg = "a queue with standing() or backfill orders all tasks: it is no arm"
        raise InvalidTaskError(msg)
    if kind == "allocator":
        chunks = list(map(_chunks_of, arms))
        if any(each != chunks[0] for each in chunks):
            msg = "allocators that are arms have the same chunks"
            raise InvalidTaskError(msg)
    return kind


def _chunks_of(arm: object) -> dict[str, float]:
    return dict(arm.chunks) if has(arm, GrantsChunks) else {}


def _names(arms: Sequence[Any]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """
    What arms are called, each by another name, and how earlier versions called them.

    Snapshots and facts of those say `r`, `r~2`, `r~2'`, `r~2''` where arms are alike.
    """
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
    earlier: list[str] = []
    for name in own:
        earlier.append(f"{name}~2" if name in earlier else name)
        while earlier.count(earlier[-1]) > 1:
            earlier[-1] += "'"
        numbered = (f"{name}~{number}" for number in count(3))
        free = (each for each in numbered if each not in (*names, *own))
        choices = chain((name, f"{name}~2"), free)
        names.append(next(each for each in choices if each not in names))
    return tuple(names), tuple(earlier)


def _bucket(value: object) -> str:
    if isinstance(value, int | float) and not isinstance(value, bool):
        if not -1e300 < value < 1e300:  # noqa: PLR2004 - infinite, or NaN
            return "?"
        size = 1 << max(0, int(abs(value))).bit_length()
        return f"<{size}" if value >= 0 else f">-{size}"
    return str(value)


def _stem(task_id: str) -> str:
    """The id that all runs of a task have."""
    return task_id.partition("~")[0]


def _bound(table: OrderedDict[Any, Any]) -> None:
    if len(table) > _AWAITED:
        table.popitem(last=False)
