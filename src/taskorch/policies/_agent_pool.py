"""
Worker pools: more workers of a type under load, fewer when they are idle.

Decision: worker-pools.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Collection, Iterable
from itertools import count, islice
from typing import Any, Final

from taskorch.errors import InvalidTaskError
from taskorch.events import AgentJoined, Event, TaskReady
from taskorch.kit.checks import check_count, check_fraction, check_seconds, is_number
from taskorch.kit.frozen import frozen
from taskorch.kit.limits import MAX_SECONDS
from taskorch.kit.visible import counted, show
from taskorch.model import AgentTemplate, ScalingDecision, is_label, level_names
from taskorch.policies._rhythm import FORESIGHT, Rhythm

#: The number of decisions that are kept.
_KEPT: Final = 100
#: The least seconds between two looks while tasks are queued.
_APART: Final = 0.1
#: The number of workers whose start times are kept: the longest counts.
_STARTS: Final = 20
_MINUTE: Final = 60.0
#: Of a promise: the share of tasks that may begin later; the part of that share that is
#: used for the latest tasks, since the next ones differ; the seconds of these; and the
#: number of kept looks at which tasks had come.
_LATE: Final = 0.05
_LEFT: Final = 0.03
_LATELY: Final = 1_800.0
_FOUND: Final = 20_000


@frozen
class PoolSample:
    """
    Sample of a worker pool at one time.

    Attributes:
        at: The time in seconds.
        agents: The number of workers, with those that are starting.
        running: The number of attempts that they run.
        waiting: The number of queued tasks that they can do.
        arrived: The number of attempts so far, begun or waiting.
        latency: The duration of an attempt in seconds, or None if not known yet.
    """

    at: float
    agents: int
    running: int
    waiting: int
    arrived: int = 0
    latency: float | None = None


@frozen
class Spawn:
    """
    Command of a controller: spawn a worker.

    Attributes:
        template: The template of the worker.
        agent_id: Its id.
    """

    template: AgentTemplate
    agent_id: str

    def apply(self, orchestrator: Any, /) -> object:
        """Spawn the worker; in a simulation it is there at once."""
        workers = getattr(orchestrator, "agents", None)
        if workers is not None:
            return workers.spawn(self.template.name, {"id": self.agent_id})
        info = self.template.agent(self.agent_id)
        return orchestrator.agent(
            info.name,
            capabilities=info.capabilities,
            max_concurrency=info.max_concurrency,
            capacity=info.capacity,
            request=info.request,
            breaker=info.breaker,
        )


@frozen
class Terminate:
    """
    Command of a controller: end a worker once it has no work.

    Attributes:
        agent_id: Its id.
    """

    agent_id: str

    def apply(self, orchestrator: Any, /) -> object:
        """Terminate the worker."""
        workers = getattr(orchestrator, "agents", None)
        return (orchestrator if workers is None else workers).terminate(self.agent_id)


@frozen
class KeepLoad:
    """
    Command of a controller: keep the load of a day in the journal.

    Attributes:
        key: The key of the document.
        document: The load; None drops a day that is too old.
    """

    key: str
    document: Any

    def apply(self, orchestrator: Any, /) -> object:
        """Keep the documents in the journal."""
        return orchestrator.kept(FORESIGHT).update({self.key: self.document})


class _Starts:
    """Start times of workers, from the command until they join."""

    def __init__(self) -> None:
        #: The times of spawns that have not joined yet, and the start times of others.
        self.spawned: dict[str, float] = {}
        self.latest: deque[float] = deque(maxlen=_STARTS)

    @property
    def longest(self) -> float | None:
        """Longest of the latest start times; None if no worker has joined yet."""
        return max(self.latest, default=None)

    def note(self, view: Any, now: float) -> None:
        """Note the start times of workers that have joined."""
        if not self.spawned:
            return
        joined = {worker.name for worker in view.agents() if not worker.is_lost}
        for name in joined.intersection(self.spawned):
            self.latest.append(now - self.spawned.pop(name))


class _Promise:
    """
    The number of slots with which nearly all tasks begin in the promised time.

    A worker that takes longer to start does not help the task that it is started for.
    So there are as many slots as were needed lately when tasks came.
    """

    def __init__(self, seconds: float, starts: _Starts) -> None:
        self._seconds = seconds
        self._starts = starts
        #: Samples `(time, tasks that came, slots that these needed, with the others)`.
        self._found: deque[tuple[float, int, int]] = deque(maxlen=_FOUND)
        self._arrived: int | None = None

    def note(self, sample: PoolSample) -> None:
        """Note the tasks that have come since the last look."""
        before, self._arrived = self._arrived, sample.arrived
        if before is not None and sample.arrived > before:
            needed = sample.running + sample.waiting
            self._found.append((sample.at, sample.arrived - before, needed))
        while self._found and self._found[0][0] < sample.at - _LATELY:
            self._found.popleft()

    def slots(self) -> int:
        """Return how many slots to keep; 0 if a new worker starts soon enough."""
        start = self._starts.longest
        if start is not None and start <= self._seconds:
            return 0
        may_be_late = _LEFT * sum(came for _, came, _ in self._found)
        for _, came, needed in sorted(self._found, key=lambda found: -found[2]):
            may_be_late -= came
            if may_be_late < 0:
                return needed
        return 0

    def words(self, kept: int, needed: int) -> str:
        """Explain why so many workers are kept when the work needs fewer."""
        share, more = f"{1 - _LATE:.0%}", kept - needed
        price = f"{more:,} more than the work needs"
        return f"keeps {kept:,}, {price}: {share} of tasks begin in {self._seconds:g} s"


class _Foresight:
    """Expectation of a pool, from past needs and start times of workers."""

    def __init__(self, pool: str, zone: str, interval: float, starts: _Starts) -> None:
        self._rhythm = Rhythm(pool, zone)
        #: The key of the document with the start time of workers.
        self._start_key = f"{pool}/start"
        self._interval = interval
        self._starts = starts
        self._has_recalled = False

    def note(self, view: Any, now: float, needed: int) -> list[KeepLoad]:
        """Note how many workers are needed now; return documents for the journal."""
        if not self._has_recalled:
            self._has_recalled = True
            kept = view.kept(FORESIGHT)
            self._rhythm.recall(kept, view.wall)
            start = kept.get(self._start_key)
            if is_number(start, 0, MAX_SECONDS):
                self._starts.latest.append(start)
        self._rhythm.note(view.wall, needed)
        documents = self._rhythm.to_keep(now)
        start = self._starts.longest
        if documents and start is not None:
            documents.append((self._start_key, start))
        return [KeepLoad(key, document) for key, document in documents]

    def wish(
        self, wall: float, before: int, after: int, most: int, why: str
    ) -> tuple[int, str]:
        """Return how many workers to have, and why, beside the number without it."""
        ahead = (self._starts.longest or 0.0) + self._interval
        # A worker stays if it is needed again before another one could start.
        for seconds, bound in ((ahead, most), (2 * ahead, min(before, most))):
            expected = self._rhythm.expects(wall, seconds)
            if expected is not None and min(bound, expected.level) > after:
                words = f"expects {counted(expected.level, 'worker')} {expected.words}"
                return min(bound, expected.level), f"{words}; {why}"
        return after, why


def _in_order(samples: Iterable[PoolSample], now: float) -> list[PoolSample]:
    """Return *samples* up to *now* whose times rise."""
    seen: list[PoolSample] = []
    for sample in samples:
        while seen and seen[-1].at > sample.at:
            seen.pop()
        if sample.at <= now:
            seen.append(sample)
    return seen


def _rate(first: PoolSample, last: PoolSample) -> float:
    """Return how many attempts came per second between two samples."""
    seconds = last.at - first.at
    return max(0, last.arrived - first.arrived) / seconds if seconds > 0 else 0.0


class AgentPool:
    """
    A controller that keeps as many workers of a template as there is work for.

    It looks at intervals, and when a task finds no slot. All tasks that run, wait or
    come in the next `wait` seconds must begin in that time. The need is the number of
    slots for that, by the duration of an attempt, or one slot for each task if the
    duration is unknown. The load is the need divided by the present slots.

    If the load is above `scale_up_threshold`, the pool starts as many workers at once
    as bring it there, but never more slots than tasks that run and wait. It shrinks
    when workers were needed too seldom: a worker stays if it was needed for at least
    the share `scale_down_threshold` of the settling time. A lower threshold means fewer
    starts and ends, and longer idle times. It ends no worker that runs an attempt.

    None leaves before the pool has looked for the settling time, also after a restart,
    nor if its tasks find no other slot. Once a worker has joined, tasks that require
    another machine start no further ones; tasks that ask for more resources than a
    worker has start none at all.

    With `foresee`, it starts workers ahead of a load that recurs by the time of day,
    early by the start time of a worker plus an interval, and ends none that is needed
    again within twice that time. `Rhythm` finds the recurring load; without one,
    nothing changes. The past load is kept in the journal every quarter of an hour.

    A minute is compared with the last four days of the same weekday, and with the last
    four from Monday to Friday, or of weekends. The need on three of four days, or on
    all of three, is usual. Of the hour that clocks show twice, the higher load counts;
    the one that they leave out, and minutes in which the orchestrator was off, are
    unknown. A load that is three minutes late is no longer expected. If less than half
    of it is there, as on a holiday, no further rise is expected that day. A rhythm that
    has changed is forgotten within two weeks.

    With `promise`, it keeps room for tasks that come while a worker would start: 95 of
    100 tasks find a slot within so many seconds, if the load is as in the latest half
    hour. It measures how long its workers take to start; if that is within the promise,
    it keeps no spare worker. `decisions` have the reasons and the price.

    It keeps the slots that 97 of 100 tasks needed in that half hour. So a load that
    doubles within minutes waits for its workers, and so do the first half hour after a
    start, and crowds that come less often. If a workflow releases dozens of tasks at
    once each quarter of an hour, the p95 is 20 s, at seven times the worker-hours that
    the tasks run. Tasks of four seconds cost three times what they run, since a wave of
    a few tasks needs as many slots.

    Args:
        template: The type of its workers.
        min_agents: The least number of workers.
        max_agents: The largest number of workers.
        scale_up_threshold: The load above which it grows.
        scale_down_threshold: The share of the settling time in which a worker must be
            needed to stay.
        settle: The settling time: seconds before it shrinks.
        interval: The most seconds between two looks.
        wait: Seconds within which a waiting task should begin.
        foresee: The time zone of the recurring load, such as `"Europe/Berlin"`; None
            turns foresight off.
        promise: Seconds within which 95 of 100 tasks should begin; None lets tasks wait
            for workers that start.

    Raises:
        InvalidTaskError: A number is out of its range, or they contradict each other.
    """

    def __init__(
        self,
        template: AgentTemplate,
        *,
        min_agents: int = 0,
        max_agents: int = 1,
        scale_up_threshold: float = 0.8,
        scale_down_threshold: float = 0.3,
        settle: float = 300.0,
        interval: float = 10.0,
        wait: float = 10.0,
        foresee: str | None = None,
        promise: float | None = None,
    ) -> None:
        if not isinstance(template, AgentTemplate):
            msg = f"a pool is of an AgentTemplate, not of {show(template)}"
            raise InvalidTaskError(msg)
        check_count("min_agents", min_agents, least=0)
        check_count("max_agents", max_agents, least=1)
        if min_agents > max_agents:
            msg = f"min_agents={min_agents} is above max_agents={max_agents}"
            raise InvalidTaskError(msg, hint="swap them, or raise max_agents")
        check_fraction("scale_up_threshold", scale_up_threshold)
        check_fraction("scale_down_threshold", scale_down_threshold)
        if scale_down_threshold >= scale_up_threshold:
            msg = (
                f"scale_down_threshold={scale_down_threshold} is not below "
                f"scale_up_threshold={scale_up_threshold}: the pool would never rest"
            )
            raise InvalidTaskError(msg, hint="scale up at 0.8, and down at 0.3")
        if template.max_concurrency is None:
            msg = f"workers of {template.name!r} have no limit: one is enough"
            raise InvalidTaskError(msg, hint="template(…, max_concurrency=1)")
        self.template = template
        self.min_agents = min_agents
        self.max_agents = max_agents
        self.scale_up_threshold = scale_up_threshold
        self.scale_down_threshold = scale_down_threshold
        self.settle: float = check_seconds("settle", settle)
        self.interval: float = check_seconds("interval", interval, zero=False)
        self.wait: float = check_seconds("wait", wait)
        self.foresee = foresee
        self.promise: float | None = None
        self._starts = _Starts()
        self._promise: _Promise | None = None
        if promise is not None:
            self.promise = check_seconds("promise", promise)
            self._promise = _Promise(self.promise, self._starts)
        self._foresight: _Foresight | None = None
        if foresee is not None:
            self._foresight = _Foresight(
                self.name, foresee, self.interval, self._starts
            )
            if self.interval > _MINUTE:
                msg = f"interval={self.interval:g}: foresee needs a look each minute"
                raise InvalidTaskError(msg, hint="interval=10")
        template.has_named("")
        self._slots = template.max_concurrency
        self._names = frozenset(level_names(template.capabilities))
        #: The labels of its workers' machines; None if there was none yet.
        self._labels: frozenset[str] | None = None
        #: The samples of the looks at intervals, and the latest of all.
        self._samples: deque[PoolSample] = deque()
        self._began: float | None = None
        #: The time of the next look at the interval, and of the latest wake-up.
        self._due = -math.inf
        self._woken = -math.inf
        #: True if the latest sample is of an early look.
        self._is_passing = False
        #: The wishes at the looks at intervals, each with its time.
        self._wishes: deque[tuple[float, int]] = deque(maxlen=4096)
        self.decisions: deque[ScalingDecision] = deque(maxlen=_KEPT)

    @property
    def name(self) -> str:
        """Name of the controller: there is one pool of a template."""
        return f"pool/{self.template.name}"

    @property
    def watches(self) -> Collection[type[Event]]:
        """Events after which it is asked: a task is queued, a worker has joined."""
        return (TaskReady, AgentJoined) if self._measures_starts else (TaskReady,)

    @property
    def _measures_starts(self) -> bool:
        return self.foresee is not None or self.promise is not None

    def demand(self, samples: Iterable[PoolSample]) -> float:
        """
        Return the number of slots that the work needs, by *samples*, oldest first.

        In `wait` seconds n slots begin n * wait / latency tasks, beside the n that they
        run.
        """
        seen = list(samples)
        last = seen[-1]
        todo = last.running + last.waiting
        if not last.latency:
            return float(todo)
        coming = _rate(seen[0], last) * self.wait
        return min(todo, (todo + coming) / (1 + self.wait / last.latency))

    def desired(self, samples: Iterable[PoolSample], now: float) -> tuple[int, str]:
        """
        Return the number of workers to have, and why, from *samples* alone.

        Args:
            samples: The samples, oldest first; at least one.
            now: Seconds, on the clock of the samples. A sample that is later than this,
                or than the next one, is left out: a clock went back.
        """
        seen = _in_order(samples, now)
        if not seen:
            return self.min_agents, "nothing was seen yet"
        last, demand = seen[-1], self.demand(seen)
        slots = last.agents * self._slots
        load = demand / slots if slots else (math.inf if demand else 0.0)
        words = (
            f"load {load:.2f}: {last.running} running and {last.waiting} waiting "
            f"need {demand:.3g} of {counted(slots, 'slot')}"
        )
        needed = self._needed(seen)
        least = self._workers(needed)
        least = min(self.max_agents, max(self.min_agents, least))
        if last.agents < self.min_agents:
            return least, f"fewer than min_agents; {words}"
        if last.agents > self.max_agents:
            return self.max_agents, f"more than max_agents; {words}"
        if least > last.agents:
            return least, f"{words}: above {self.scale_up_threshold:g}"
        if least == self.max_agents and needed > least * self._slots:
            words += ", and there are max_agents"
        return least, words

    def _needed(self, seen: list[PoolSample]) -> float:
        """Return how many slots to have, at most one for each task."""
        last = seen[-1]
        return min(
            last.running + last.waiting, self.demand(seen) / self.scale_up_threshold
        )

    def _workers(self, slots: float) -> int:
        return math.ceil(round(slots / self._slots, 6))

    def tick(self, view: Any, now: float) -> tuple[list[Any], float | None]:
        """Return the commands that are due: see `taskorch.protocols.Driver`."""
        self._starts.note(view, now)
        is_due = now >= self._due
        again = self._next_look(view, now)
        if again > now:
            return [], again
        every = [worker for worker in view.agents() if not worker.is_lost]
        mine = [worker for worker in every if view.is_of(worker.name, self.template)]
        active = [worker for worker in mine if not worker.is_draining]
        if mine:
            labels = self._labels or frozenset()
            self._labels = labels.union(*(worker.labels for worker in mine))
        starting = view.starting(self.template.name)
        if self._is_passing:
            self._samples.pop()
        self._is_passing = not is_due
        sample = self._sample(view, mine, active, len(active) + len(starting), now)
        self._samples.append(sample)
        while now - self._samples[0].at > self.settle:
            self._samples.popleft()
        after, why = self.desired(self._samples, now)
        before = sample.agents
        after, why = self._promised(sample, after, why)
        if is_due:
            after, why = self._settled(before, after, why, now)
        elif after < before:
            after = before
        commands: list[Any] = []
        if self._foresight is not None:
            needed = self._workers(self._needed(_in_order(self._samples, now)))
            commands = self._foresight.note(view, now, needed)
            if is_due:
                most = self.max_agents
                after, why = self._foresight.wish(view.wall, before, after, most, why)
        after = self._decided(view, before, after, why, now)
        names = {worker.name for worker in every}.union(starting)
        commands += self._spawns(names, after - before, now)
        # The workers with the fewest attempts go first; of equals, the latest.
        active.reverse()
        active.sort(key=lambda worker: worker.running)
        gone = active[: max(0, before - after)]
        return [*commands, *(Terminate(worker.name) for worker in gone)], self._due

    def _promised(self, sample: PoolSample, after: int, why: str) -> tuple[int, str]:
        """Return how many workers to have if the work needs *after*, and why."""
        if self._promise is not None:
            self._promise.note(sample)
            kept = min(self.max_agents, self._workers(self._promise.slots()))
            if kept > after:
                return kept, f"{self._promise.words(kept, after)}; {why}"
        return after, why

    def _decided(self, view: Any, before: int, after: int, why: str, now: float) -> int:
        """Return how many workers to have, and note the decision; none if given up."""
        given_up = view.given_up(self.template.name)
        if given_up and after > before:
            why = f"no more are spawned: {given_up}"
            if not self.decisions or self.decisions[-1].reason != why:
                self._note(now, before, before, why)
            return before
        if after != before:
            self._note(now, before, after, why)
        return after

    def _spawns(self, used_names: set[str], many: int, now: float) -> list[Spawn]:
        """Return commands that spawn so many workers, with unused ids."""
        free = (self.template.id_of(number) for number in count(1))
        names = (name for name in free if name not in used_names)
        spawned = [*islice(names, max(0, many))]
        if self._measures_starts:
            self._starts.spawned.update(dict.fromkeys(spawned, now))
        return [Spawn(self.template, name) for name in spawned]

    def _next_look(self, view: Any, now: float) -> float:
        """Return the time of the next look: *now* if due or if a task finds no slot."""
        if now >= self._due:
            missed = (now - self._due) // self.interval
            self._due += (1 + missed) * self.interval
            if not self._due > now:  # the first one, or a matter of rounding
                self._due = now + self.interval
            return now
        again = self._woken + _APART
        if now < again:
            return again
        self._woken = now
        return now if self._waiting(view) else self._due

    def _settled(self, before: int, wish: int, why: str, now: float) -> tuple[int, str]:
        """Return how many workers to keep while fewer are wished for."""
        while self._wishes and self._wishes[0][0] < now - self.settle:
            self._wishes.popleft()
        self._wishes.append((now, wish))
        if self._began is None:
            self._began = now
        if wish >= before or now - self._began < self.settle:
            return max(wish, before), why
        highest = sorted((many for _, many in self._wishes), reverse=True)
        looks = math.ceil(self.scale_down_threshold * len(highest))
        busy = math.ceil(self._samples[-1].running / self._slots)
        kept = max(wish, busy, highest[max(0, looks - 1)])
        share = f"{self.scale_down_threshold:.0%} of {self.settle:g} s"
        return min(before, kept), f"{why}; {kept} were needed in {share}"

    def _waiting(self, view: Any) -> int:
        """Return how many queued tasks its workers can do."""
        return sum(
            many
            for requires, many in view.waiting(self.template).items()
            if requires and self._can_do(requires)
        )

    def _can_do(self, requires: Iterable[str]) -> bool:
        others = [need for need in requires if need not in self._names]
        if self._labels is None:
            # The first worker will show the labels of their machines.
            return all(map(is_label, others))
        return self._labels.issuperset(others)

    def _sample(
        self, view: Any, mine: list[Any], active: list[Any], workers: int, now: float
    ) -> PoolSample:
        waiting = self._waiting(view)
        ended, latency = view.agent_totals(self.template)
        return PoolSample(
            now,
            workers,
            sum(worker.running for worker in active),
            waiting,
            ended + sum(worker.running for worker in mine) + waiting,
            latency,
        )

    def _note(self, now: float, before: int, after: int, why: str) -> None:
        sample = self._samples[-1]
        slots = sample.agents * self._slots
        load = self.demand(self._samples) / slots if slots else math.inf
        decision = ScalingDecision(now, self.template.name, before, after, why, load)
        self.decisions.append(decision)

    def __deepcopy__(self, memo: Any) -> AgentPool:
        """Return an unused copy: a simulation begins each incarnation with one."""
        copy = AgentPool(
            self.template,
            min_agents=self.min_agents,
            max_agents=self.max_agents,
            scale_up_threshold=self.scale_up_threshold,
            scale_down_threshold=self.scale_down_threshold,
            settle=self.settle,
            interval=self.interval,
            wait=self.wait,
            foresee=self.foresee,
            promise=self.promise,
        )
        copy.decisions = self.decisions
        return copy

    def __repr__(self) -> str:
        return (
            f"AgentPool({self.template.name!r}, min_agents={self.min_agents}, "
            f"max_agents={self.max_agents})"
        )
