"""
How long tasks take, what memory they need and what they cost: from what was measured.

Of each type there are three models on a logarithmic scale: the median, that of the
latest runs, and a line over the size of the payload; the one counts that was off least.
The quantiles come from how far it was off before, for
this type and, while little is known of it, for all. So they are right however the
errors are distributed (conformal prediction: V. Vovk and others, *Algorithmic Learning
in a Random World*, 2005).
"""

from __future__ import annotations

import math
import sys
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from statistics import median
from typing import TYPE_CHECKING, Any, Final

from taskorch._limits import NS
from taskorch.events import Event, TaskCompleted, TaskSubmitted
from taskorch.model import Call, Program, Task, TaskState
from taskorch.planning._values import Quantity
from taskorch.protocols import DurableJournal
from taskorch.runtime._work import task_of

if TYPE_CHECKING:
    from taskorch.runtime._runtime import Runtime

#: Measurements of a type that are kept, and what a type is thought to take of which
#: nothing at all is known.
_KEPT: Final = 500
_POOLED: Final = 300
_UNKNOWN: Final = 1.0
#: Measurements before there is a line over the size; those that are the latest.
_ENOUGH: Final = 8
_FEW: Final = 5
#: How much of what a model was off counts after each measurement.
_FADES: Final = 0.9
#: Measurements of use that wait to be taken in, and facts of the past that are read.
_WAITING: Final = 10_000
_PAST: Final = 200_000
_SCALE: Final = 1_000_000
#: Below this, all sizes or all amounts are the same.
_FLAT: Final = 1e-9
#: The latest errors that are looked at for a drift; what share of them is on one side.
_LATEST: Final = 12
_ONE_SIDE: Final = 11
#: By how much, on the logarithmic scale, they must be off for that.
_OFF: Final = 0.25
#: How much wider than what was measured a guess from few of them is.
_WIDE: Final = 2.0
#: How many errors of its own a type has to have before those of others count less.
_BORROWED: Final = 4.0


def size_of(payload: Any) -> float:
    """
    The size of a payload: the sum of its numbers, and of the lengths of the rest.

    Under names such as `size` and `bytes` only those numbers count.
    """
    if isinstance(payload, Call):
        payload = [*payload.args, dict(payload.kwargs)]
    elif isinstance(payload, Program):
        payload = list(payload.args)
    total, named = 0.0, 0.0
    left = [("", payload)]
    seen = 0
    while left and seen < 10_000:  # noqa: PLR2004 - a payload may be large
        name, value = left.pop()
        seen += 1
        if isinstance(value, bool) or value is None:
            continue
        if isinstance(value, int | float):
            # Not `isfinite`, which cannot take every int.
            is_finite = abs(value) <= sys.float_info.max
            amount = abs(float(value)) if is_finite else 0.0
            total += amount
            if any(word in name.lower() for word in ("size", "bytes", "rows", "count")):
                named += amount
        elif isinstance(value, Mapping):
            left += [(str(key), each) for key, each in value.items()]
        elif isinstance(value, list | tuple | set):
            total += len(value)
            left += [(name, each) for each in value]
        elif isinstance(value, str | bytes):
            total += len(value)
    return named or total


class _Type:
    """What is known of one type of task, in one respect."""

    def __init__(self) -> None:
        #: The logarithms of size and amount, the latest last.
        self.points: deque[tuple[float, float]] = deque(maxlen=_KEPT)
        #: How far what was foretold was off, on that scale.
        self.errors: deque[float] = deque(maxlen=_KEPT)
        self.drifts = 0
        #: How far the median was off, of late: a drift is seen by that.
        self.off: deque[float] = deque(maxlen=2 * _LATEST)
        #: Of each model, how far it was off, the latest most.
        self.misses = [0.0, 0.0, 0.0]

    def middle(self, size: float) -> float:
        """The logarithm of what is thought to be taken at this size."""
        models = self._models(size)
        best = min(range(len(models)), key=lambda n: self.misses[n])
        return models[best]

    def _models(self, size: float) -> tuple[float, ...]:
        """What each model says: the median, the latest ones, a line over the size."""
        points = self.points
        level = median([y for _, y in points])
        latest = median([y for _, y in list(points)[-_FEW:]])
        if len(points) < _ENOUGH:
            return level, latest, level
        mean_x = math.fsum(x for x, _ in points) / len(points)
        mean_y = math.fsum(y for _, y in points) / len(points)
        xx = math.fsum((x - mean_x) ** 2 for x, _ in points)
        xy = math.fsum((x - mean_x) * (y - mean_y) for x, y in points)
        if xx < _FLAT:
            return level, latest, level
        # Pulled towards no slope, by as much as one measurement says.
        slope = xy / (xx + xx / len(points))
        low, high = min(x for x, _ in points), max(x for x, _ in points)
        near = min(max(size, low - 1), high + 1)
        line = median([y - slope * x for x, y in points]) + slope * near
        return level, latest, line

    def quantile(self, size: float, share: float, others: Sequence[float]) -> float:
        """
        What is at most taken in this share of the cases.

        With few errors of its own, those of *others* count, too.
        """
        middle = self.middle(size)
        if share == 0.5:  # noqa: PLR2004 - the median
            return math.exp(middle)
        own = list(self.errors)
        if not own and not others:
            return math.exp(middle + _WIDE * (share - 0.5))
        weight = _BORROWED / len(others) if others else 0.0
        errors = sorted([(e, 1.0) for e in own] + [(e, weight) for e in others])
        # The next error may be larger than all. It counts as a quarter of one: of
        # recorded runs, nine in ten then held.
        left = share * (math.fsum(w for _, w in errors) + 0.25)
        for error, each in errors:
            left -= each
            if left <= 0:
                return math.exp(middle + error)
        return math.exp(middle + errors[-1][0])

    def add(self, size: float, amount: float, others: deque[float]) -> None:
        """Take in a measurement; if all are off of late, what was before is left."""
        y = math.log(amount)
        if self.points:
            models = self._models(size)
            error = y - self.middle(size)
            self.errors.append(error)
            others.append(error)
            self.off.append(y - models[0])
            self.misses = [
                _FADES * was + abs(y - said)
                for was, said in zip(self.misses, models, strict=True)
            ]
        self.points.append((size, y))
        latest = list(self.off)[-_LATEST:]
        if len(self.off) < 2 * _LATEST:
            return
        off = sum(error > 0 for error in latest)
        center = median(latest)
        if max(off, _LATEST - off) >= _ONE_SIDE and abs(center) > _OFF:
            self.drifts += 1
            self.off.clear()
            kept = list(self.points)[-_LATEST:]
            self.points = deque(kept, maxlen=_KEPT)
            level = median([y for _, y in kept])
            self.errors = deque([y - level for _, y in kept], maxlen=_KEPT)


class Estimator:
    """
    What tasks of a type take, learnt from what others of the type took.

    It is told by `observe`, or reads what an orchestrator has measured. What is not a
    positive number that is finite is left out, and counted in `refused`.
    """

    def __init__(self) -> None:
        self._types: dict[tuple[str, str], _Type] = {}
        #: In which respects anything was measured.
        self._measured: set[str] = set()
        #: In each respect, the latest errors of all types.
        self._errors: dict[str, deque[float]] = {}
        #: Measurements that are none: negative, NaN, infinite.
        self.refused: int = 0
        self._held = 0
        self._foretold = 0

    def observe(
        self,
        type: str,  # noqa: A002 - the name that tasks have for it
        seconds: float,
        payload: Any = None,
        *,
        memory_mb: float | None = None,
        cost: float | None = None,
    ) -> bool:
        """
        Take in what a task took; False if *seconds* is no duration.

        Args:
            type: Its type.
            seconds: How long it ran.
            payload: What it was about: its size counts.
            memory_mb: What it needed at its peak, if that is known.
            cost: What it cost, if that is known.
        """
        size = math.log1p(size_of(payload))
        for what, amount in (("memory_mb", memory_mb), ("cost", cost)):
            if amount is not None:
                self._take(what, type, size, amount)
        return self._take("seconds", type, size, seconds)

    def _take(self, what: str, kind: str, size: float, amount: float) -> bool:
        if not _is_amount(amount):
            self.refused += 1
            return False
        known = self._types.setdefault((what, kind), _Type())
        others = self._errors.setdefault(what, deque(maxlen=_POOLED))
        self._measured.add(what)
        if what == "seconds" and len(known.points) > 1:
            self._foretold += 1
            self._held += amount <= known.quantile(size, 0.9, others)
        known.add(size, float(amount), others)
        return True

    def observe_usage(
        self,
        type: str,  # noqa: A002 - the name that tasks have for it
        payload: Any,
        used: Mapping[str, float],
    ) -> None:
        """Take in what an attempt was seen to use: its `memory_mb`, and its `cost`."""
        size = math.log1p(size_of(payload))
        for what in ("memory_mb", "cost"):
            if what in used:
                self._take(what, type, size, used[what])

    def duration(
        self,
        type: str,  # noqa: A002 - the name that tasks have for it
        payload: Any = None,
    ) -> Quantity:
        """Seconds that a task of *type* takes, or else one that is named like it."""
        found = self._estimate("seconds", type, payload)
        if found is None:
            return Quantity(_UNKNOWN, 10 * _UNKNOWN, "a guess: nothing is known")
        return found

    def known(self, type: str) -> Quantity | None:  # noqa: A002
        """Seconds that a task of *type* takes, if one of that type was measured."""
        if ("seconds", type) not in self._types:
            return None
        return self._estimate("seconds", type, None)

    def memory(self, type: str, payload: Any = None) -> Quantity | None:  # noqa: A002
        """MB that a task of *type* needs at its peak; None: nothing is known."""
        return self._estimate("memory_mb", type, payload)

    def cost(self, type: str, payload: Any = None) -> Quantity | None:  # noqa: A002
        """What a task of *type* costs; None: nothing is known."""
        return self._estimate("cost", type, payload)

    def _estimate(self, what: str, kind: str, payload: Any) -> Quantity | None:
        if what not in self._measured:
            return None
        known = self._types.get((what, kind))
        size = math.log1p(size_of(payload))
        others = self._errors[what]
        if known is not None:
            count = len(known.points)
            source = f"history of {count} run{'s' * (count != 1)}"
            if known.drifts:
                source += " since it drifted"
            half, high = (
                round(known.quantile(size, share, others), 9) for share in (0.5, 0.9)
            )
            return Quantity(half, high, source)
        near = self._similar(what, kind)
        if not near:
            return None
        halves = [self._types[what, name].quantile(size, 0.5, others) for name in near]
        highs = [self._types[what, name].quantile(size, 0.9, others) for name in near]
        source = f"as {', '.join(near)}, which it is named like"
        return Quantity(round(median(halves), 9), _WIDE * max(highs), source)

    def _similar(self, what: str, kind: str) -> list[str]:
        """The types whose names share most words with *kind*."""
        words = _words(kind)
        scores = {
            name: len(words & _words(name)) / len(words | _words(name))
            for known, name in self._types
            if known == what
        }
        best = max(scores.values(), default=0.0)
        return sorted(n for n, score in scores.items() if best and score == best)[:3]

    @property
    def calibration(self) -> tuple[float | None, int]:
        """Which share of durations was at most the P90 foretold, and of how many."""
        share = self._held / self._foretold if self._foretold else None
        return share, self._foretold

    @property
    def drifted(self) -> Mapping[str, int]:
        """Types whose durations have changed at once, and how often."""
        return {
            name: known.drifts
            for (what, name), known in self._types.items()
            if what == "seconds" and known.drifts
        }

    def version(self, types: Iterable[str]) -> str:
        """What changes when another plan may be better: a drift, or the first runs."""
        parts = []
        for name in sorted(set(types)):
            known = self._types.get(("seconds", name))
            if known is not None:
                parts.append(f"{name}:{known.drifts}:{len(known.points).bit_length()}")
        return ",".join(parts)


def _is_amount(value: object) -> bool:
    """Whether it is a positive number, and finite."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return 0 < value < math.inf


def _words(name: str) -> set[str]:
    text = "".join(c if c.isalnum() else " " for c in name)
    return {word.lower() for word in text.split() if not word.isdigit()} or {name}


# -- what an orchestrator has measured ------------------------------------------------


def task_in(rt: Runtime, task_id: str) -> Task | None:
    """A task, if it is in memory."""
    with rt.lock:
        row = rt.kernel.tasks.get(task_id)
        return None if row is None else task_of(row)


def begin_of_past(rt: Runtime) -> int:
    """The number of the fact after which the past is read: it has an end."""
    return max(0, rt.committed - _PAST)


class Measurements:
    """
    What tasks took, in this life and in earlier ones, for an estimator.

    Args:
        runtime: Of the orchestrator.
    """

    def __init__(self, runtime: Any) -> None:
        self._rt: Runtime = runtime
        #: What attempts were seen to use of late: the type, the payload, and how much.
        self._used: deque[tuple[str, Any, dict[str, float]]] = deque(maxlen=_WAITING)
        #: Of each type, the end of the latest measurement that was taken in.
        self._learnt: dict[str, int] = {}
        self._has_read = False
        runtime.signals.task_completed.connect(self._completed)

    def _completed(self, event: Event) -> None:
        """On the thread that publishes, which waits for no planning."""
        assert isinstance(event, TaskCompleted)  # noqa: S101 - of that signal
        task = task_in(self._rt, event.task_id) if event.usage else None
        if task is not None:
            self._used.append((task.type, task.payload, _amounts(event)))

    def tell(self, estimator: Estimator) -> None:
        """Tell *estimator* what was measured since one was told last."""
        rt = self._rt
        if rt.committer is not None and not self._has_read:
            self._has_read = True
            self._read_past(rt.committer.journal, estimator)
            self._used.clear()
        while self._used:
            estimator.observe_usage(*self._used.popleft())
        if not rt.opened:
            return
        fresh: list[tuple[int, int, str]] = []
        with rt.lock:
            for kind, row in rt.kernel.types.items():
                since = self._learnt.get(kind, 0)
                for *_, started, ended in reversed(row.samples):
                    if ended <= since:
                        break
                    fresh.append((ended, started, kind))
            payloads = self._payloads(fresh)
        for key in sorted(fresh):
            ended, started, kind = key
            estimator.observe(kind, (ended - started) / NS, payloads.get(key))
            self._learnt[kind] = max(self._learnt.get(kind, 0), ended)

    def _read_past(self, journal: DurableJournal, estimator: Estimator) -> None:
        """What a journal has measured, so far as it reaches back."""
        tasks: dict[str, tuple[str, Any]] = {}
        for fact, task in journal.read(begin_of_past(self._rt)):
            if type(fact) is TaskSubmitted:
                tasks[fact.task_id] = fact.type, task.payload
            elif type(fact) is TaskCompleted and fact.attempt:
                # What a wait or a decision completes has no attempt, and no length.
                kind, payload = tasks.pop(fact.task_id, ("", None))
                if kind:
                    estimator.observe(kind, fact.latency, payload)
                    estimator.observe_usage(kind, payload, _amounts(fact))
                    self._learnt[kind] = fact.at_ns

    def _payloads(
        self, fresh: Sequence[tuple[int, int, str]]
    ) -> dict[tuple[int, int, str], Any]:
        """Under the lock: what these tasks were about, as far as it is in memory."""
        if not fresh:
            return {}
        wanted = set(fresh)
        found: dict[tuple[int, int, str], Any] = {}
        for row in self._rt.kernel.tasks.values():
            key = row.ended_ns, row.started_ns, row.bucket.spec.type
            if row.state is TaskState.COMPLETED and key in wanted:
                found[key] = task_of(row).payload
        return found


def _amounts(event: TaskCompleted) -> dict[str, float]:
    return {name: units / _SCALE for name, units in event.usage}
