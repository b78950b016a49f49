"""
Comparison of tasks with earlier ones of their type, and evidence of all types.

A task is slow once it has taken twice the usual time of its type, even while it still
runs, and it counts once. Evidence is stronger if tasks of the type were rarely slow, or
rarely failed, before. One slow task of each of ten types counts as much as ten of one.

Decision: alerts-and-messages.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from math import exp, inf, log, sqrt
from statistics import median
from typing import Any, Final, NamedTuple

import attrs

from taskorch.ext.recovery._metrics import LEAST, SHORTEST, Pace

#: Seconds within which chance alone should raise no alert: two weeks.
_QUIET: Final = 14 * 86_400.0
#: The least evidence, in natural logarithms of odds, that counts as sure.
_SURE: Final = 11.0
#: The share of bad tasks of a type that has become bad.
_OFTEN: Final = 0.75
#: The least share of bad tasks that counts as usual.
_RARE: Final = 0.003
#: Earlier tasks of a type that weigh as much as the share of all types.
_WEIGHT: Final = 20
#: Tasks, and bad ones among them, that are assumed before there are any.
_BEGINNING: Final = (20, 2)
#: The fewest tasks to judge a type alone, and to know its usual duration.
_KNOWN: Final = 10
_TIMED: Final = 3
#: The latest tasks of a type from which the usual duration follows.
_USUAL: Final = 63
#: The most tasks that evidence remembers.
_SINCE: Final = 60
#: The number of the latest tasks from which the recent duration follows.
_LATELY: Final = 12
#: The most by which one task counts as slower, as a logarithm.
_FARTHEST: Final = log(8)
_TWICE: Final = log(2)
#: The share of failures among other types above which the cause is not one type.
_WIDELY: Final = 0.2
#: The most tasks of a type that count in one call of `note`.
_OF_LOOK: Final = 200
#: The most types that are remembered.
_TYPES: Final = 10_000


class UnderWay(NamedTuple):
    """Running attempt: its task, number, type and start."""

    task_id: str
    number: int
    type: str
    since: float


@attrs.define(eq=False)
class _ComparedTask:
    """Task compared with those of its type: whether it is bad, and its duration."""

    name: str
    is_bad: bool
    #: Logarithms of seconds.
    usual: float = 0.0
    taken: float = 0.0


@attrs.define(eq=False)
class _TypeMemory:
    """Record of the earlier tasks of a type."""

    completed: int = 0
    failed: int = 0
    #: The usual duration, as a logarithm of seconds; None: it is unknown.
    usual: float | None = None
    #: The end of the latest task that was recorded.
    until: float = -inf
    #: Whether each of the latest failed.
    outcomes: deque[bool] = attrs.field(factory=lambda: deque(maxlen=_KNOWN))


class _Evidence:
    """
    Log odds that the latest tasks are bad more often than earlier ones.

    Source: E. S. Page, *Continuous Inspection Schemes*, Biometrika 41(1/2), 1954.
    """

    def __init__(self) -> None:
        self.odds: float = 0.0
        #: The tasks in evidence, which do not count as usual.
        self.since: deque[_ComparedTask] = deque()
        self.counts: Counter[tuple[str, bool]] = Counter()
        #: The limit of the odds in this evaluation, since a single moment proves
        #: nothing.
        self._most = inf

    def begin(self, sure: float) -> None:
        """Start an evaluation, in which odds of *sure* suffice."""
        self._most = min(2 * sure, self.odds + 0.7 * sure)

    def note(self, seen: _ComparedTask, usual: float) -> None:
        """Add a task of a type whose usual share of bad tasks is *usual*."""
        says = log(_OFTEN / usual if seen.is_bad else (1 - _OFTEN) / (1 - usual))
        self.odds = min(self._most, self.odds + says)
        if self.odds <= 0:
            self.odds = 0.0
            self.since.clear()
            self.counts.clear()
            return
        self.since.append(seen)
        self.counts[seen.name, seen.is_bad] += 1
        if len(self.since) > _SINCE:
            oldest = self.since.popleft()
            self.counts[oldest.name, oldest.is_bad] -= 1

    @property
    def bad(self) -> dict[str, int]:
        """Count of the bad tasks of each type, the most first."""
        counts = Counter({name: n for (name, bad), n in self.counts.items() if bad})
        return dict(counts.most_common())

    def is_general(self, sure: float) -> bool:
        """Return whether the evidence is *sure* and no single type gives most of it."""
        bad = self.bad.values()
        return self.odds >= sure and 2 * max(bad, default=0) <= sum(bad)

    def ended(self) -> tuple[int, int]:
        """Count the good tasks and the bad ones."""
        bad = sum(seen.is_bad for seen in self.since)
        return len(self.since) - bad, bad


class _Shares:
    """Shares of bad tasks by type, and the evidence that they have grown."""

    def __init__(self) -> None:
        self.together = _Evidence()
        self.alone: dict[str, _Evidence] = {}
        self._all: list[int] = [*_BEGINNING]
        self._of: dict[str, tuple[int, int]] = {}

    def begin(self, sure: float) -> None:
        """See `_Evidence.begin`."""
        for evidence in (self.together, *self.alone.values()):
            evidence.begin(sure)

    def know(self, name: str, ended: int, bad: int) -> None:
        """Add tasks of a type to the usual counts."""
        before = self._of.get(name, (0, 0))
        self._of[name] = before[0] + ended, before[1] + bad
        self._all[0] += ended
        self._all[1] += bad

    def note(self, seen: _ComparedTask, *, alone: bool = True) -> None:
        """Add a task, for all types together and for its own type."""
        name = seen.name
        self.together.note(seen, self._usual(name))
        if alone:
            evidence = self.alone.get(name)
            evidence = _Evidence() if evidence is None else evidence
            usual = self.usual_of(name)
            if usual is not None:
                evidence.note(seen, usual)
            if evidence.odds:
                self.alone[name] = evidence
            else:
                self.alone.pop(name, None)
        self.know(name, 1, seen.is_bad)

    def forget(self, name: str) -> None:
        """Forget a type."""
        self._of.pop(name, None)
        self.alone.pop(name, None)

    def _before(self, name: str, evidence: _Evidence | None) -> tuple[int, int]:
        ended, bad = self._of.get(name, (0, 0))
        if evidence is not None:
            counts = evidence.counts
            ended -= counts[name, False] + counts[name, True]
            bad -= counts[name, True]
        return max(0, ended), max(0, bad)

    def _usual(self, name: str) -> float:
        """Return a type's share of bad tasks; with few, mostly that of all types."""
        ended, bad = self._before(name, self.together)
        good, too_bad = self.together.ended()
        share = (self._all[1] - too_bad) / (self._all[0] - good - too_bad)
        return _within((bad + _WEIGHT * share) / (ended + _WEIGHT))

    def usual_of(self, name: str) -> float | None:
        """Return the highest likely share of bad tasks; None: too little is known."""
        ended, bad = self._before(name, self.alone.get(name))
        if ended < _KNOWN:
            return None
        share = bad / ended
        spread = sqrt(share * (1 - share) / ended + 1 / (4 * ended * ended))
        return _within((share + 1 / (2 * ended) + spread) / (1 + 1 / ended))


def _within(share: float) -> float:
    return min(0.5, max(_RARE, share))


class OwnType:
    """Comparison of ended and running tasks with earlier ones of the same type."""

    def __init__(self) -> None:
        self._slow = _Shares()
        self._failed = _Shares()
        self._known: dict[str, _TypeMemory] = {}
        self._is_first = True
        #: The types with ends in the latest call of `note`.
        self.changed: frozenset[str] = frozenset()
        self._began: float | None = None
        self._count = 0
        self._sure = _SURE
        #: Running attempts that are slow already.
        self._early: dict[tuple[str, int], _ComparedTask] = {}
        self._latest: deque[_ComparedTask] = deque(maxlen=_LATELY)
        #: The type of each of the latest tasks, and whether it failed.
        self._outcomes: deque[tuple[str, bool]] = deque(maxlen=_SINCE)

    def note(
        self,
        counts: Mapping[str, tuple[int, int]],
        latest: Mapping[str, Sequence[tuple[float, float]]],
        running: Iterable[UnderWay],
        now: float,
    ) -> None:
        """
        Record the tasks that have ended since the last call, and those that run.

        Args:
            counts: For each type with news, how many tasks have completed, and failed.
            latest: For each of these types, the ends and durations of its latest
            completed tasks, in seconds.
            running: The attempts that run.
            now: The time in seconds, on the same clock.
        """
        if self._began is None:
            self._began = now
        weeks = _QUIET / max(1.0, now - self._began)
        self._sure = max(_SURE, log(max(1.0, self._count * weeks)))
        self._slow.begin(self._sure)
        self._failed.begin(self._sure)
        gone = self._note_running(running, now)
        for name, (completed, failed) in counts.items():
            memory = self._known.pop(name, None) or _TypeMemory()
            # The type moves to the end, since the first types are forgotten first.
            self._known[name] = memory
            self._note_durations(name, memory, latest.get(name, ()), gone[name])
            good, bad = completed - memory.completed, failed - memory.failed
            memory.completed, memory.failed = completed, failed
            self._note_outcomes(name, memory.outcomes, max(0, good), max(0, bad))
        self._is_first = False
        self.changed = frozenset(counts)
        for name in [*islice(self._known, max(0, len(self._known) - _TYPES))]:
            del self._known[name]
            self._slow.forget(name)
            self._failed.forget(name)

    def _note_outcomes(
        self, name: str, outcomes: deque[bool], good: int, bad: int
    ) -> None:
        if self._is_first:
            # The ends before the first call have no known time.
            self._failed.know(name, good + bad, bad)
            return
        count = good + bad
        self._count += count
        few = min(count, _OF_LOOK)
        failed = round(few * bad / max(1, count))
        for number in range(few):
            # Their order between two calls is unknown, so failures are spread evenly.
            is_bad = (number + 1) * failed // few > number * failed // few
            self._failed.note(_ComparedTask(name, is_bad))
            outcomes.append(is_bad)
            self._outcomes.append((name, is_bad))
        self._failed.know(name, count - few, bad - failed)

    def _note_durations(
        self,
        name: str,
        memory: _TypeMemory,
        latest: Sequence[tuple[float, float]],
        gone: int,
    ) -> None:
        logs = [log(max(seconds, SHORTEST)) for _, seconds in latest]
        new = sum(ended > memory.until for ended, _ in latest)
        if latest:
            memory.until = latest[-1][0]
        if self._is_first:
            memory.usual = _middle(logs)
            if memory.usual is not None:
                slow = sum(_is_slow(each, memory.usual) for each in logs)
                self._slow.know(name, len(logs), slow)
            return
        before = self._usual(name, logs[: len(logs) - new])
        memory.usual = memory.usual if before is None else before
        for log_seconds in logs[len(logs) - new :][-_OF_LOOK:]:
            if memory.usual is not None:
                is_slow = _is_slow(log_seconds, memory.usual)
                if is_slow and gone:
                    # The task counted already while it ran.
                    gone -= 1
                else:
                    self._note_slow(
                        _ComparedTask(name, is_slow, memory.usual, log_seconds)
                    )
        after = self._usual(name, logs)
        memory.usual = memory.usual if after is None else after

    def _usual(self, name: str, logs: Sequence[float]) -> float | None:
        """Return the usual duration of a type, without the tasks in evidence."""
        counts = self._slow.together.counts
        new = counts[name, False] + counts[name, True]
        return _middle(logs[: max(_TIMED, len(logs) - new)])

    def _note_slow(self, seen: _ComparedTask) -> None:
        # If one type alone is slow, `paces` judges it by its whole durations.
        self._slow.note(seen, alone=False)
        self._latest.append(seen)

    def _note_running(self, running: Iterable[UnderWay], now: float) -> Counter[str]:
        """Count attempts that are slow already; return the types of ended ones."""
        early: dict[tuple[str, int], _ComparedTask] = {}
        for attempt in running:
            memory = self._known.get(attempt.type)
            if memory is None or memory.usual is None:
                continue
            key = attempt.task_id, attempt.number
            log_seconds = log(max(now - attempt.since, SHORTEST))
            seen = self._early.get(key)
            if seen is not None:
                seen.taken = log_seconds
            elif _is_slow(log_seconds, memory.usual):
                seen = _ComparedTask(
                    attempt.type, is_bad=True, usual=memory.usual, taken=log_seconds
                )
                self._note_slow(seen)
            if seen is not None:
                early[key] = seen
        ended = self._early.keys() - early.keys()
        gone = Counter(self._early[key].name for key in ended)
        self._early = early
        return gone

    # -- what follows --------------------------------------------------------------

    def pace(self) -> Pace | None:
        """Return the recent pace of all types together, beside the usual one."""
        evidence = self._slow.together
        latest = [*evidence.since][-_LATELY:] or [*self._latest]
        if not latest:
            return None
        usual = exp(sum(seen.usual for seen in latest) / len(latest))
        farther = sum(
            max(-_FARTHEST, min(_FARTHEST, seen.taken - seen.usual)) for seen in latest
        )
        ratio = exp(farther / len(latest))
        if not evidence.is_general(self._sure):
            # If one type alone is slow, `paces` judges it.
            ratio = min(ratio, 2.0)
        return Pace(usual * ratio, usual)

    def failing(self) -> tuple[int, int]:
        """Count latest good and bad tasks if surely more fail than usual, or (0, 0)."""
        evidence = self._failed.together
        return evidence.ended() if evidence.is_general(self._sure) else (0, 0)

    @property
    def has_data(self) -> bool:
        """True if any task has been recorded."""
        return bool(self._known)

    def measured(self, name: str) -> dict[str, Any] | None:
        """Return the failure metrics of a type; None: no task of it is known."""
        memory = self._known.get(name)
        if memory is None:
            return None
        outcomes, evidence = memory.outcomes, self._failed.alone.get(name)
        others = [has_failed for other, has_failed in self._outcomes if other != name]
        # If other types fail, too, or there are none, the type is not the cause.
        is_of_type = sum(others) < _WIDELY * len(others)
        is_sure = evidence is not None and evidence.odds >= self._sure
        counts = evidence.ended() if evidence and is_sure and is_of_type else (0, 0)
        return {
            "failure_rate": sum(outcomes) / len(outcomes) if outcomes else None,
            "sure_failures": counts,
            "completed": memory.completed,
            "failed": memory.failed,
        }

    def slowed(self) -> dict[str, int]:
        """Count the recent slow tasks of each type, the most first."""
        return self._slow.together.bad


def _middle(logs: Sequence[float]) -> float | None:
    return median(logs[-_USUAL:]) if len(logs) >= _TIMED else None


def _is_slow(taken: float, usual: float) -> bool:
    return taken > usual + _TWICE and exp(taken) - exp(usual) >= LEAST
