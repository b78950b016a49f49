"""
The differences of two runs, as causes of a longer time or a failure, with scores.

A score is the share of the difference that a cause can account for, times how often a
difference of its kind is the cause. Three observations change it. A size, or a number,
that grew as much as the time did is likely; one that grew while the time fell is not. A
cause that touches many tasks is unlikely if most of them took no longer. And where the
result of another task has grown, the differences of that task come first.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Final

import attrs

from taskorch.ext.comparing._chain import ChainPart
from taskorch.ext.comparing._definitions import TaskChange
from taskorch.ext.comparing._facts import RunFacts, TaskFacts

# They are chosen by hand, and by the planted differences of the tests: only the order
# of the scores matters.
#: How often a difference of a kind is the cause, if nothing else is known. A deploy is
#: mostly why a night is bad; another machine mostly is like the one before.
_LIKELY: Final = {
    "code": 0.9,
    "options": 0.6,
    "arguments": 0.5,
    "machine": 0.4,
    "data": 0.3,
}
#: Another timeout, of a task that timed out: it comes before code, which a deploy
#: changes for many tasks.
_TIMED_OUT: Final = 0.95
#: Data ten times as large, for a task that failed; larger by less, accordingly less.
_TEN_TIMES: Final = 0.8
#: A size that grew while the time fell, or the other way round.
_AGAINST: Final = 0.05
#: The least score of what counts as a cause.
LEAST: Final = 0.05
#: For time without a known reason: below all causes that act on as much of it. Where
#: the run took longer by less than _MUCH, and for waiting, it may be chance.
_UNKNOWN: Final = 0.25
_MUCH: Final = 0.3
_BY_CHANCE: Final = 0.6
#: A run that is shorter by this part is looked at for what took less time.
_SHORTER: Final = 0.1
#: For differences without an effect that is known: below those that have one.
NO_EFFECT: Final = 0.1
#: The part for a cause above the task that is worse, if that has none of its own.
_ABOVE: Final = 0.3
#: What makes a cause of a larger result likelier than the size of this result.
_FEEDS: Final = 0.25
#: A task is worse if its work grew by this part, and by so many seconds.
_WORSE: Final = 0.25
_SECONDS: Final = 0.05


@attrs.frozen
class LikelyCause:
    """
    Differences that the same tasks have in common.

    Attributes:
        tasks: The tasks.
        changes: The differences, the likeliest cause first.
        score: How likely, and of how much, it is the cause: from 0 to 1.
        has_effect: Whether it accounts for enough of the difference to be a cause.
        is_above: Whether it acts on other tasks alone, which use its results.
    """

    tasks: tuple[str, ...]
    changes: tuple[TaskChange, ...]
    score: float
    has_effect: bool
    is_above: bool = False

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of the differences: see `TaskChange.what`."""
        return tuple(dict.fromkeys(each.what for each in self.changes))


def reached(name: str, edges: Mapping[str, Collection[str]]) -> set[str]:
    """A task, and all that *edges* lead to from it, however indirectly."""
    todo, seen = [name], {name}
    while todo:
        fresh = [each for each in edges.get(todo.pop(), ()) if each not in seen]
        seen.update(fresh)
        todo += fresh
    return seen


class Blame:
    """
    Weighs the differences between two runs.

    Args:
        earlier: The run that is compared with.
        later: The run that is asked about.
        changed: The differences of each task.
        notable: The tasks that account for the difference of the end.
        little: The tasks of which each accounts for little, and all for much.
        turns: The seconds for which these waited longer for the turns of others.
        failed: The tasks that failed by themselves in the later run alone.
    """

    def __init__(
        self,
        earlier: RunFacts,
        later: RunFacts,
        changed: Mapping[str, Sequence[TaskChange]],
        notable: Mapping[str, ChainPart],
        little: Mapping[str, ChainPart],
        turns: float,
        failed: Sequence[str],
    ) -> None:
        self._runs = earlier, later
        self._changed = changed
        self._notable = notable
        self._little = little
        self._failed = failed
        seconds = [each.seconds for each in notable.values()]
        seconds.append(self.little_of(little))
        took = earlier.seconds or 0.0
        longer = (later.seconds or 0.0) - took
        #: 1: longer times are looked for; -1: the later run was shorter by much.
        self.sign = -1.0 if longer < -_SHORTER * took else 1.0
        #: The seconds that there are to explain.
        self.whole = (
            sum(max(0.0, self.sign * each) for each in (*seconds, turns)) or 1.0
        )
        self._turns = max(0.0, self.sign * turns)
        self._severity = min(1.0, abs(longer) / (_MUCH * took or 1.0))
        #: The seconds by which tasks beside the chain kept their workers longer.
        self.beside = {
            name: self.sign * (task.work - earlier.tasks[name].work)
            for name, task in later.tasks.items()
            if self._turns and name in earlier.tasks and name not in notable
            if self._is_worse(earlier.tasks[name], task)
        }
        needs = {name: task.needs for name, task in later.tasks.items()}
        worse = failed[:1] or [*notable]
        #: What comes before each task that is worse.
        self._before = {name: reached(name, needs) - {name} for name in worse}

    def unexplained(self, seconds: float, *, is_wait: bool = False) -> float:
        """Return the score of so many seconds without any known reason."""
        # It is also chance which task waits, and how long.
        unknown = _UNKNOWN * (_BY_CHANCE if is_wait else 1.0)
        return unknown * self._severity * self.part(seconds)

    def little_of(self, names: Iterable[str]) -> float:
        """Return the seconds of tasks of which each accounts for little."""
        little = self._little
        return sum(little[each].seconds for each in names if each in little)

    def part(self, seconds: float) -> float:
        """Return their part of the difference; 0: they went the other way round."""
        return min(1.0, max(0.0, self.sign * seconds) / self.whole)

    def causes(self) -> list[LikelyCause]:
        """
        Return all differences, the likeliest cause first.

        Differences without an effect that is known have a low score: if hardly anything
        is worse, there are no others.
        """
        causes = [self._cause(*each) for each in self._by_tasks()]
        return sorted(causes, key=lambda each: (-each.score, each.tasks))

    def _by_tasks(self) -> Iterator[tuple[tuple[str, ...], list[TaskChange]]]:
        """Yield tasks, with the differences that they have in common."""
        tasks_of: dict[tuple[str, ...], list[str]] = {}
        change_of: dict[tuple[str, ...], TaskChange] = {}
        for name, changes in self._changed.items():
            for each in changes:
                # Of several tasks that use one result, each may take longer or not.
                whose = name if each.source else ""
                key: tuple[str, ...] = (each.what, each.text, whose)
                tasks_of.setdefault(key, []).append(name)
                change_of.setdefault(key, each)
        common: dict[tuple[str, ...], list[TaskChange]] = {}
        for key, names in tasks_of.items():
            common.setdefault(tuple(names), []).append(change_of[key])
        yield from common.items()

    def _cause(
        self, names: tuple[str, ...], changes: Iterable[TaskChange]
    ) -> LikelyCause:
        weighed = sorted(
            ((self._score(names, each), each) for each in changes),
            key=lambda each: (-each[0][0], each[1]),
        )
        return LikelyCause(names, tuple(each for _, each in weighed), *weighed[0][0])

    def _score(
        self, names: tuple[str, ...], change: TaskChange
    ) -> tuple[float, bool, bool]:
        """Return the score of a change of these tasks: see `LikelyCause`."""
        here = self._likely(names, change) * self._felt(names, change)
        here *= self._share(names, change)
        above = self._score_below(names, change)
        if max(here, above) < LEAST:
            return NO_EFFECT * _likely(change, None), False, False
        return max(here, above), True, above > here

    # -- how likely ----------------------------------------------------------------

    def _likely(self, names: Collection[str], change: TaskChange) -> float:
        """Return how often such a difference is the cause of what these tasks took."""
        if self._failed and self._failed[0] in names:
            return self._likely_failure(change)
        return _likely(change, self._times(names))

    def _likely_failure(self, change: TaskChange) -> float:
        """Return how often such a difference is the cause of a failure."""
        if change.what == "data" and change.ratio is not None:
            return _TEN_TIMES * min(1.0, abs(math.log10(change.ratio)))
        error = type(self._runs[1].tasks[self._failed[0]].status.error).__name__
        if change.text.startswith("timeout ") and "Timeout" in error:
            return _TIMED_OUT
        return _likely(change, None)

    def _times(self, names: Collection[str]) -> float | None:
        """Return how many times as long these tasks took; None: unknown."""
        earlier, later = self._runs
        was = sum(earlier.tasks[each].work for each in names)
        now = sum(later.tasks[each].work for each in names)
        return now / was if was > 0 and now > 0 else None

    def _felt(self, names: Collection[str], change: TaskChange) -> float:
        """Return the part of these tasks that are worse; of all, if none should be."""
        if change.acts_on == "wait" or len(names) == 1 or self._failed:
            return 1.0
        earlier, later = self._runs
        both = [(earlier.tasks[each], later.tasks[each]) for each in names]
        weights = [min(was.work, now.work) for was, now in both]
        worse = sum(
            weight
            for weight, (was, now) in zip(weights, both, strict=True)
            if self._is_worse(was, now)
        )
        return worse / (sum(weights) or 1.0)

    def _is_worse(self, was: TaskFacts, now: TaskFacts) -> bool:
        more = self.sign * (now.work - was.work)
        return more > max(_SECONDS, _WORSE * min(was.work, now.work))

    # -- of how much ---------------------------------------------------------------

    def _share(self, names: Collection[str], change: TaskChange) -> float:
        """Return the part of the difference that is of these tasks."""
        if self._failed:
            return float(self._failed[0] in names)
        on_chain = sum(
            max(0.0, self.sign * self._part(self._notable[each], change))
            for each in names
            if each in self._notable
        )
        # The chance in each task alone cancels out.
        by_little = sum(
            self._part(self._little[each], change)
            for each in names
            if each in self._little
        )
        on_chain += max(0.0, self.sign * by_little)
        if change.acts_on == "wait":
            longer = sum(max(0.0, self.sign * self._queued(each)) for each in names)
            return (on_chain + min(self._turns, longer)) / self.whole
        return (on_chain + self.kept_waiting(names)) / self.whole

    def _queued(self, name: str) -> float:
        """Return for how much longer a task waited once it was ready."""
        waits = [run.tasks[name].queued for run in self._runs]
        return 0.0 if None in waits else (waits[1] or 0.0) - (waits[0] or 0.0)

    def kept_waiting(self, names: Iterable[str]) -> float:
        """Return for how long others waited for these tasks, beside the chain."""
        mine = sum(self.beside.get(each, 0.0) for each in names)
        return self._turns * mine / (sum(self.beside.values()) or 1.0)

    def _part(self, share: ChainPart, change: TaskChange) -> float:
        """Return the seconds of a task that a change can account for."""
        work = share.worked + share.between
        by_kind = {"wait": share.waited, "work": work, "both": share.seconds}
        return by_kind.get(change.acts_on, 0.0)

    def _score_below(self, names: tuple[str, ...], change: TaskChange) -> float:
        """Return the score of a change for the worse tasks that come after these."""
        if change.acts_on != "work" or change.what == "data":
            return 0.0
        score = 0.0
        for each, before in self._before.items():
            if each in names or before.isdisjoint(names):
                continue
            by_data = max(
                (
                    self._likely((each,), fed) * (_likely(change, fed.ratio) + _FEEDS)
                    for fed in self._changed.get(each, ())
                    if fed.source in names
                ),
                default=0.0,
            )
            likely = max(by_data, _likely(change, None) * self._unexplained(each))
            score += likely * self._share((each,), change)
        return score

    def _unexplained(self, name: str) -> float:
        """Return the part for a cause above a task, which may have one of its own."""
        own = (
            self._likely((name,), each) * self._felt((name,), each)
            for each in self._changed.get(name, ())
        )
        return _ABOVE * (1 - max(own, default=0.0))


def _likely(change: TaskChange, times: float | None) -> float:
    """Return how often such a difference makes a task take so many times as long."""
    likely = _LIKELY[change.what]
    if change.ratio is None or times is None:
        return likely
    grew, took = math.log(change.ratio), math.log(times)
    if grew * took < 0:
        return min(likely, _AGAINST)
    # Time may grow faster than data do, or less.
    alike = 1 - abs(grew - took) / (abs(grew) + abs(took) or 1.0)
    if change.what == "data":
        return max(alike, _AGAINST)
    return max(likely, alike)
