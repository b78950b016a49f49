"""
Learner from rewards, for policies, jobs and plans.

Decision: learning-and-jobs.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from copy import deepcopy
from math import prod
from threading import Lock
from typing import TYPE_CHECKING, Any, Final, Literal, TypeGuard

import attrs

from taskorch.errors import InvalidTaskError
from taskorch.events import (
    Event,
    TaskCancelled,
    TaskCompleted,
    TaskEvent,
    TaskFailed,
    TaskRetrying,
    TaskRewarded,
    TaskStarted,
    TaskSubmitted,
)
from taskorch.ext.learning._arms import AWAITED, BANDITS, Arms, Chosen, Learning
from taskorch.ext.learning._estimates import (
    OutcomeRewards,
    Reward,
    Value,
    is_lost,
    values_of,
)
from taskorch.kit.checks import (
    check_count,
    check_fraction,
    check_reward,
    check_word,
    is_number,
)
from taskorch.kit.fence import log_of
from taskorch.model import Task
from taskorch.model.ids import stem_of
from taskorch.protocols import Projection

if TYPE_CHECKING:
    from random import Random

_LOG: Final = log_of(__name__)
#: The version of snapshots, which rises when their form changes.
_VERSION: Final = 1
#: The name of the documents with snapshots, a word of the adaptive jobs.
SNAPSHOTS: Final = "population_state.judgement_snapshots"
#: Rewards after which the journal keeps a snapshot.
_UNKEPT: Final = 100
#: Events after which the journal does so too, so that a restart has few to read.
_UNREAD: Final = 10_000
_NO_END: Final = 1 << 62
#: Events from which a reward may follow.
_WORDS: Final = (TaskCompleted, TaskFailed, TaskRetrying, TaskRewarded)
#: Events for a learner that only learns from given rewards. A start only tells it how
#: far it has heard.
_TOLD: Final[frozenset[type[Event]]] = frozenset({TaskStarted, TaskRewarded})
#: The text between the arms of several learners, in `TaskStarted.choice`.
_AND: Final = " + "


class Learner(Projection):
    """
    Chooser among arms that learns from rewards; it `Learns` and `Hears`.

    It learns separately in each context. Its choices stand in `TaskStarted.choice`, so
    that its state is a `Projection` of events, and a snapshot has the number of the
    last one. All rewards of events are from -1 to 1, those of `learn` from 0
    to 1.

    Args:
        arms: Their names, all different. None: each context has arms of its own, which
            `choose` gets, and events have the context beside the arm.
        name: The name that tells it from other learners, in journals.
        algorithm: See `Learned`, as for all below.
        context: Names of properties that tell tasks apart.
        baseline: The index of the arm that is the static default, from 0.
        floor: The part of the baseline's rewards that learning may cost, whatever the
            running attempts bring. 1 is without a floor.
        explore: The share of choices at random, within the floor.
        memory: About how many rewards count; None is all.
        reward: `"outcome"` or `"given"`: rewards follow from outcomes, or are given.
        sources: The sources whose rewards count; None is all.
        options: More arguments of the bandit.
        keep: Whether the journal keeps snapshots.
        once: Whether a choice holds for all attempts and re-runs of a task.
        begins: The arm with which a context begins: `"any"`, or the `"baseline"`.
        log: The number of latest choices in `log`.

    Raises:
        InvalidTaskError: An argument is out of its range.
    """

    wants: frozenset[type[Event]] | None = frozenset(
        {TaskSubmitted, TaskStarted, TaskCancelled, *_WORDS}
    )
    past: int
    position: int

    def __init__(
        self,
        arms: Iterable[str] | None = None,
        *,
        name: str,
        algorithm: str = "thompson",
        context: Iterable[str] = (),
        baseline: int = 0,
        floor: float = 0.05,
        explore: float = 0.02,
        memory: int | None = 1_000,
        reward: str = "outcome",
        sources: Iterable[str] | None = None,
        options: Mapping[str, Any] | None = None,
        keep: bool = True,
        once: bool = False,
        begins: Literal["any", "baseline"] = "any",
        log: int = 0,
    ) -> None:
        check_word("algorithm", algorithm, tuple(BANDITS))
        check_word("reward", reward, ("outcome", "given"))
        check_fraction("floor", floor)
        check_fraction("explore", explore)
        check_count("baseline", baseline, least=0)
        names = None if arms is None else tuple(arms)
        if names is not None and baseline >= len(names):
            msg = f"baseline is the number of an arm, below {len(names)}"
            raise InvalidTaskError(msg)
        if memory is not None:
            check_count("memory", memory, least=2)
        self.name: str = name
        self.context: tuple[str, ...] = tuple(context)
        self.rewarded_by: str = reward
        self.sources: frozenset[str] | None = (
            None if sources is None else frozenset(sources)
        )
        self.keep: bool = bool(keep)
        self._once = once
        #: Whether a choice stays known until its reward is given, so that other events
        #: of its task do not matter.
        self._is_told = once and reward == "given"
        if self._is_told:
            self.wants = _TOLD
        self._arms = Arms(
            names=names,
            algorithm=algorithm,
            features=len(self.context),
            baseline=baseline,
            floor=floor,
            explore=explore,
            memory=memory,
            begins=begins,
            options=dict(options or {}),
            log=deque(maxlen=log),
        )
        #: The present and the earlier names of arms.
        self._known: set[str] = {*(names or ())}
        #: The contexts of picked values, by type of their subjects.
        self._kinds: dict[str, tuple[str, tuple[float, ...]]] = {}
        self._lock = Lock()
        self._orch: Any = None
        #: The journal with the events of earlier incarnations, if there is one.
        self._journal: Any = None
        self._clear()

    def _clear(self) -> None:
        self._arms.clear()
        self._outcomes = OutcomeRewards()
        self._rewards = 0
        self._unlearnt = 0
        #: The tasks that were submitted and have not ended, for their contexts.
        self._tasks: OrderedDict[str, Task] = OrderedDict()
        #: The number of the last event in the stored snapshot.
        self._kept = 0

    @property
    def arms(self) -> tuple[str, ...] | None:
        """Names of the arms; None: each context has its own."""
        return self._arms.names

    @property
    def log(self) -> list[Chosen]:
        """Latest choices with their rewards, in order."""
        with self._lock:
            return list(self._arms.log)

    def change(self, arms: Iterable[str]) -> None:
        """Choose among other arms from now on; arms that stay keep their rewards."""
        with self._lock:
            self._arms.change(arms)
            self._known.update(self.arms or ())

    # -- choosing ------------------------------------------------------------------

    def chances(
        self,
        context: str,
        random: Random,
        *,
        arms: Sequence[str] | None = None,
        explore: float | None = None,
    ) -> dict[str, float]:
        """
        Return the probability of each arm to be chosen now.

        Args:
            context: The context.
            random: What chance is drawn from.
            arms: The arms of this context, if each has its own.
            explore: As of the class; None: the value of the class.
        """
        with self._lock:
            return self._arms.chances(context, (), random, arms, explore)

    def choose(
        self,
        context: str,
        random: Random,
        *,
        arms: Sequence[str] | None = None,
        explore: float | None = None,
    ) -> Chosen:
        """Draw an arm by `chances`, which has the same arguments."""
        with self._lock:
            return self._arms.draw(context, (), random, arms, explore)

    def choose_for(self, task: Task, random: Random) -> Chosen:
        """
        Return the choice for *task*, which stays the same until it begins.

        A task that must not run twice gets no experiment.
        """
        task_id, arms = task.id or "", self._arms
        with self._lock:
            chosen = arms.waiting.get(task_id, 0)
            if chosen is None:
                key, features = self._context_of(task)
                if task.idempotent is False:
                    chosen = arms.surely(key, features)
                else:
                    chosen = arms.draw(key, features, random)
                arms.waiting.put(task_id, 0, chosen)
            return chosen

    def pick(self, subject: str, kind: str, random: Random) -> Chosen:
        """Pick an arm for *subject*, of that type, and await its reward."""
        arms = self._arms
        with self._lock:
            context = self._kinds.get(kind)
            if context is None:
                context = self._kinds[kind] = self._context_of(Task(kind, id=subject))
            chosen = arms.draw(*context, random)
            arms.begun.put(*self._subject(subject, 1), chosen)
            return chosen

    def record(self, chosen: Chosen) -> tuple[float, float]:
        """Return how many rewards of that arm are known, and their mean, -1 to 1."""
        with self._lock:
            pulls, mean = self._arms.mean(chosen.context, chosen.arm)
        return pulls, mean * 2 - 1

    def failed(self, task: Task, arm: str, instead: str | None) -> None:
        """Give *arm* the worst reward: it failed for *task*; *instead* does it."""
        task_id, arms = task.id or "", self._arms
        with self._lock:
            for failed in arms.waiting.pop(task_id, 0):
                self._count(attrs.evolve(failed, arm=arm), 0.0)
                if instead is not None:
                    context = failed.context, failed.features
                    arms.waiting.put(task_id, 0, arms.chosen(*context, instead, 1.0))

    def begin(self, task_id: str, attempt: int) -> Chosen | None:
        """Return the choice for an attempt that begins, and await its reward."""
        arms, subject = self._arms, self._subject(task_id, attempt)
        with self._lock:
            for chosen in arms.waiting.pop(task_id, 0):
                arms.begun.put(*subject, chosen)
                return chosen
            # One choice may hold for all attempts of the task.
            return arms.begun.get(*subject) if self._once else None

    def _context_of(self, task: Task) -> tuple[str, tuple[float, ...]]:
        """Return the context of *task*: the key of its bandit, and its features."""
        if not self.context:
            return "", ()
        metadata = task.metadata or {}
        own = {"type": task.type, "priority": task.priority, "owner": task.owner}
        values = [own.get(name, metadata.get(name)) for name in self.context]
        if self._arms.algorithm != "linucb":
            return ", ".join(map(_bucket, values)), ()
        # Texts tell tasks apart; numbers tell how similar they are.
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

    # -- choices in events ---------------------------------------------------------

    def choice(self, choices: Iterable[Chosen]) -> tuple[str, float]:
        """Return the choices for one attempt in the form of `TaskStarted.choice`."""
        every = list(choices)
        texts = [
            f"{self.name}:{one.arm}"
            if self.arms is not None
            else f"{self.name} {one.context}:{one.arm}"
            for one in every
        ]
        return _AND.join(texts), prod(one.propensity for one in every)

    def choices_in(self, text: str) -> list[tuple[str, str]]:
        """Parse its own choices from a choice: each a context and an arm."""
        if self.arms is not None:
            # A name may contain another one, so the longest match is the right one.
            padded, begin = f"{_AND}{text}{_AND}", f"{_AND}{self.name}:"
            names = [arm for arm in self._known if f"{begin}{arm}{_AND}" in padded]
            return [("", max(names, key=len))] if names else []
        parts = [part.partition(f"{self.name} ") for part in text.split(_AND)]
        pairs = [rest.rpartition(":") for before, _, rest in parts if not before]
        return [(key, arm) for key, colon, arm in pairs if colon]

    # -- rewards -------------------------------------------------------------------

    def learn(self, chosen: Chosen, reward: float) -> None:
        """
        Learn the reward of a choice, from 0 to 1.

        Raises:
            InvalidTaskError: *reward* is no such number.
        """
        check_fraction("a reward", reward)
        with self._lock:
            self._count(chosen, reward)

    def give(self, task_id: str, value: float, attempt: int = 1) -> None:
        """
        Reward the choice for an attempt, from -1 to 1; only the first reward counts.

        Raises:
            InvalidTaskError: *value* is no number from -1 to 1.
        """
        check_reward(value, "give")
        with self._lock:
            self._learn(task_id, attempt, value)

    def _learn(self, task_id: str, attempt: int, value: float) -> None:
        # Only the first reward counts: a second one finds no choice.
        for chosen in self._arms.begun.pop(*self._subject(task_id, attempt)):
            self._count(chosen, (value + 1) / 2)

    def _count(self, chosen: Chosen, reward: float) -> None:
        if self._arms.count(chosen, reward):
            self._rewards += 1
            self._unlearnt += 1

    def _subject(self, task_id: str, attempt: int) -> tuple[str, int]:
        """Return the key by which a choice is stored."""
        return (stem_of(task_id), 0) if self._once else (task_id, attempt)

    # -- events --------------------------------------------------------------------

    def attach(self, orchestrator: Any) -> None:
        """
        Hear the events of *orchestrator*, which calls this.

        Raises:
            InvalidTaskError: It is part of another orchestrator already.
        """
        if self._orch is not None:
            msg = f"{self!r} learns for another orchestrator already"
            raise InvalidTaskError(msg, hint="make a Learned for each")
        self._orch, self._journal = orchestrator, orchestrator.journal
        if self.position or not self.keep:
            # A copy with learnt state continues with the events from now on.
            self.past = self.position = 0
        orchestrator.signals.follow(self)

    def choice_of(self, task_id: str, attempt: int) -> tuple[str, float] | None:
        """Return arm and probability of an attempt that begins, if one was chosen."""
        chosen = self.begin(task_id, attempt)
        return None if chosen is None else self.choice([chosen])

    def hear(self, event: Event) -> None:
        """Learn from *event*, if it says how good an attempt was."""
        self.take(event, None)

    def take(self, event: Event, document: Any) -> None:
        """Learn from *event*, of this or an earlier incarnation; see `Projection`."""
        recalled: Sequence[tuple[Event, Any]] = ()
        if self._is_unknown(event):
            recalled = self._entries({event.task_id})
        with self._lock:
            self._replay(recalled, event.seq - 1, until=event.seq)
            if isinstance(event, TaskSubmitted):
                self._note(event.task_id, document)
            elif isinstance(event, TaskStarted) and self.arms is not None:
                self._know_again(event, self._tasks.get(event.task_id))
            self._take_in(event)
            self.position = event.seq
            unkept = event.seq - self._kept
            is_due = self._unlearnt >= _UNKEPT or unkept >= _UNREAD
        if is_due:
            self.save()

    def _note(self, task_id: str, task: Any) -> None:
        if self.arms is not None and isinstance(task, Task):
            self._tasks[task_id] = task
            if len(self._tasks) > AWAITED:
                self._tasks.popitem(last=False)

    def _take_in(self, event: Event) -> None:
        if isinstance(event, TaskStarted):
            if self.arms is None:
                self._know_again(event, None)
            return
        if isinstance(event, TaskRewarded):
            if self._counts(event):
                self._learn(event.task_id, event.attempt, event.value)
            return
        reward = self._outcomes.reward(event)
        if reward is not None and self._is_by_outcome:
            self._learn(*reward)
        self._let_go(event)

    @property
    def _is_by_outcome(self) -> bool:
        return self.rewarded_by == "outcome"

    def _let_go(self, event: Event) -> None:
        """Stop waiting for rewards of attempts that are lost or ended without one."""
        if isinstance(event, TaskCompleted | TaskCancelled | TaskFailed):
            self._tasks.pop(event.task_id, None)
        if isinstance(event, TaskCancelled | TaskFailed):
            self._arms.waiting.forget(event.task_id)
            if self._is_by_outcome and not self._once:
                self._arms.begun.forget(event.task_id)
        elif isinstance(event, TaskRetrying) and is_lost(event) and not self._once:
            self._arms.begun.pop(event.task_id, event.attempt)

    def _counts(self, event: TaskRewarded) -> bool:
        return self.sources is None or event.source in self.sources

    # -- earlier incarnations ------------------------------------------------------

    def replay(
        self,
        entries: Iterable[tuple[Event, Any]],
        since: int = 0,
        last: int = _NO_END,
    ) -> None:
        """
        Learn from events of earlier incarnations.

        Args:
            entries: Events with their data in the journal, which for `TaskSubmitted` is
                the task.
            since: The number of the last event that was learnt before. From events up
                to it, only choices are restored.
            last: The number of the last event that counts.
        """
        with self._lock:
            self._replay(entries, since, until=last + 1)

    def _is_unknown(self, event: Event) -> TypeGuard[TaskEvent]:
        """Return whether only the journal may know the choice for the attempt."""
        if self._journal is None or not isinstance(event, (TaskStarted, *_WORDS)):
            return False
        with self._lock:
            if not isinstance(event, TaskRewarded):
                # With given rewards, it asks the journal only once there is a reward.
                return not (self._is_told or self._outcomes.knows(event.task_id))
            return self._counts(event) and not self._arms.begun.get(
                *self._subject(event.task_id, event.attempt)
            )

    def _entries(self, ids: Collection[str]) -> Sequence[tuple[Event, Any]]:
        """Return the events about tasks, with their data in the journal."""
        if not ids:
            return ()
        wanted = {*ids, *map(stem_of, ids)}
        return list(self._journal.select(wanted, _NO_END))

    def _replay(
        self, entries: Iterable[tuple[Event, Any]], since: int, *, until: int
    ) -> None:
        tasks: dict[str, Task] = {}
        for event, value in entries:
            if event.seq >= until:
                continue
            if isinstance(event, TaskSubmitted):
                tasks[event.task_id] = value
                self._note(event.task_id, value)
                self._outcomes.reward(event)
            elif isinstance(event, TaskStarted):
                self._know_again(event, tasks.get(event.task_id))
            elif event.seq <= since:
                # This event was learnt before, or had no reward.
                self._forget(event)
            else:
                self._take_in(event)

    def _know_again(self, event: TaskStarted, task: Task | None) -> None:
        """Restore a choice from a start event, with the context of its task."""
        subject = self._subject(event.task_id, event.attempt)
        if event.choice is None or self._arms.begun.get(*subject):
            return
        text, chance = event.choice
        pairs = self.choices_in(text)
        features: tuple[float, ...] = ()
        if self.arms is not None:
            if task is None:
                return
            key, features = self._context_of(task)
            pairs = [(key, arm) for _, arm in pairs]
        arms = self._arms
        choices = [arms.chosen(key, features, arm, chance) for key, arm in pairs]
        arms.begun.put(*subject, *choices)

    def _forget(self, event: Event) -> None:
        """Forget the choices that *event* needs no more, and learn nothing."""
        reward = self._outcomes.reward(event, is_new=False)
        if isinstance(event, TaskRewarded):
            if self._counts(event):
                self._arms.begun.pop(*self._subject(event.task_id, event.attempt))
        elif reward is not None and self._is_by_outcome:
            self._arms.begun.pop(*self._subject(*reward[:2]))
        self._let_go(event)

    # -- what was learnt -----------------------------------------------------------

    def learned(self) -> tuple[Learning, ...]:
        """Return the rewards learnt of each arm in each context."""
        with self._lock:
            return self._arms.learned()

    @property
    def rewards(self) -> int:
        """Number of rewards that it has learnt from."""
        return self._rewards

    def reset(self) -> None:
        """Forget all that was learnt, and record that in the journal."""
        with self._lock:
            self._clear()
        self.save()

    def snapshot(self) -> dict[str, Any]:
        """Return the learnt state as a JSON object."""
        with self._lock:
            self._unlearnt = 0
            self._kept = self.position
            return {
                "version": _VERSION,
                "algorithm": self._arms.algorithm,
                "context": list(self.context),
                "arms": list(self.arms or ()),
                "rewards": self._rewards,
                "gained": list(self._arms.gained),
                "baseline": list(self._arms.usual),
                "heard": self.position,
                "usual": self._outcomes.usual(),
                "learnt": self._arms.states(),
            }

    def save(self, orchestrator: Any = None) -> None:
        """Store a snapshot in the journal, for the next incarnation."""
        orch = self._orch if orchestrator is None else orchestrator
        if orch is not None and self.keep:
            try:
                orch.kept(SNAPSHOTS)[self.name] = self.snapshot()
            except Exception as error:  # noqa: BLE001 - what was learnt is no work
                _LOG.warning("what %s has learnt is not kept: %s", self.name, error)

    def restore(self, kept: Callable[[str], Mapping[str, Any]]) -> None:
        """
        Take over the learnt state of an earlier incarnation, at the start.

        Arms are matched by name: one that is gone is forgotten, a new one is untried.
        State of another version, algorithm or context is ignored, with a warning.
        """
        snapshot = kept(SNAPSHOTS).get(self.name) if self.keep else None
        if snapshot is None:
            return
        try:
            same = snapshot["version"], snapshot["algorithm"], list(snapshot["context"])
            if same != (_VERSION, self._arms.algorithm, list(self.context)):
                reason = f"it is of version, algorithm and context {same}"
                raise ValueError(reason)  # noqa: TRY301 - one warning for all
            with self._lock:
                self._take(snapshot)
        except (LookupError, TypeError, ValueError) as error:
            with self._lock:
                self._clear()
                self.past = 0
            _LOG.warning("what %s had learnt is left out: %s", self.name, error)

    def _take(self, snapshot: Mapping[str, Any]) -> None:
        names = [name if name in self._known else "" for name in snapshot["arms"]]
        self._arms.take(names, snapshot["learnt"])
        self._rewards = int(snapshot["rewards"])
        self.position = self._kept = int(snapshot["heard"])
        self.past = Projection.past
        self._outcomes = OutcomeRewards(snapshot.get("usual", {}))
        if self.arms is not None and self.arms[self._arms.baseline] in names:
            gained, number = snapshot["gained"]
            self._arms.gained = float(gained), float(number)
            gained, number = snapshot["baseline"]
            self._arms.usual = float(gained), float(number)

    def values(self, events: Iterable[Event]) -> dict[tuple[str, str], Value]:
        """
        Estimate the mean reward of each arm, if always chosen: see `values_of`.

        Rewards are those that it learns from.

        Args:
            events: Such as `JournalReader(path).happened()`.

        Returns:
            The values by arm; if contexts have arms of their own, by context and arm.
        """
        outcomes = OutcomeRewards()

        def reward_of(event: Event) -> Reward | None:
            if isinstance(event, TaskRewarded):
                reward = event.task_id, event.attempt, event.value
                return reward if self._counts(event) else None
            outcome = outcomes.reward(event)
            return outcome if self._is_by_outcome else None

        return values_of(events, self.choices_in, reward_of)

    def __getstate__(self) -> dict[str, Any]:
        # A simulation uses a copy, which stores nothing.
        alone: dict[str, Any] = {"_lock": None, "_orch": None, "_journal": None}
        alone["_tasks"] = OrderedDict()
        with self._lock:
            return deepcopy({**vars(self), **alone})

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, _lock=Lock())

    def __repr__(self) -> str:
        arms = "" if self.arms is None else f"{', '.join(self.arms)}; "
        return f"Learner {self.name}({arms}{self._arms.algorithm})"


def _bucket(value: object) -> str:
    if isinstance(value, int | float) and not isinstance(value, bool):
        if not -1e300 < value < 1e300:  # noqa: PLR2004 - infinite, or NaN
            return "?"
        size = 1 << max(0, int(abs(value))).bit_length()
        return f"<{size}" if value >= 0 else f">-{size}"
    return str(value)
