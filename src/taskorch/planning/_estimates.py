"""
How long tasks take, what memory they need and what they cost: from what was measured.

Of each type there are three models, each on a logarithmic scale: the latest fifty
runs, the latest few, and those of the fifty about a line over the size of the payload.
P50 and P90 are quantiles of what such a model has seen, each of the model that was off
least for it of late. While little is known of a type, what others were off counts, too.

Decision: 0154.
"""

from __future__ import annotations

import math
import sys
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from statistics import median
from threading import get_ident
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from taskorch.events import BudgetSpent, Event, TaskCompleted, TaskSubmitted
from taskorch.kit.limits import NS
from taskorch.model import Call, Program, Task, TaskState
from taskorch.planning._values import COST, Quantity
from taskorch.protocols import Projection
from taskorch.runtime import task_of

if TYPE_CHECKING:
    from taskorch.runtime import Runtime

#: Measurements of a type that are counted, and what a type is thought to take of which
#: nothing at all is known.
_KEPT: Final = 500
_POOLED: Final = 300
_UNKNOWN: Final = 1.0
#: The latest measurements, of which quantiles are taken; the fewest, after a change.
_RECENT: Final = 50
_FEW: Final = 5
#: Measurements before there is a line over the size.
_ENOUGH: Final = 8
#: How much of what a model was off counts after each measurement.
_FADES: Final = 0.95
#: Measurements of use that wait to be taken in, and facts of the past that are read.
_WAITING: Final = 10_000
PAST: Final = 200_000
_SCALE: Final = 1_000_000
#: Sizes whose squared distances, on the logarithmic scale, are less say nothing.
_FLAT: Final = 0.01
#: The latest errors that are looked at for a drift; what share of them is on one side.
_LATEST: Final = 12
_ONE_SIDE: Final = 11
#: By how much, on the logarithmic scale, they must be off for that.
_OFF: Final = 0.25
#: How much wider than what was measured a guess from few of them is.
_WIDE: Final = 2.0
#: Below so many measurements, what others were off counts as much as these of a type;
#: and what may be larger than all as so many. Of recorded runs, nine in ten then held.
_OWN: Final = 15
_BORROWED: Final = 4
_LARGER: Final = 0.25
#: What is estimated.
_HALF: Final = 0.5
_MOST: Final = 0.9
#: Of a duration that is stated, the latest runs that are looked at, how many there must
#: be, and how many times as long all of them took, or as short, for it to be wrong.
_STATED: Final = 5
_SURE: Final = 3
_WRONG: Final = 2.0


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
    pending = [("", payload)]
    seen = 0
    while pending and seen < 10_000:  # noqa: PLR2004 - a payload may be large
        name, value = pending.pop()
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
            pending += [(str(key), each) for key, each in value.items()]
        elif isinstance(value, list | tuple | set):
            total += len(value)
            pending += [(name, each) for each in value]
        elif isinstance(value, str | bytes):
            total += len(value)
    return named or total


#: What each model says, and in order what is to be added to it.
_Models: TypeAlias = list[tuple[float, list[float]]]


class _Type:
    """What is known of one type of task, in one respect."""

    def __init__(self) -> None:
        #: The logarithms of size and amount, the latest last.
        self.points: deque[tuple[float, float]] = deque(maxlen=_RECENT)
        #: How many there were, since the latest drift.
        self.count = 0
        self.drifts = 0
        #: How far the median was off, of late: a drift is seen by that.
        self.off: deque[float] = deque(maxlen=2 * _LATEST)
        #: How far each model was off in what it said of a share, the latest most.
        self.losses = {share: [0.0, 0.0, 0.0] for share in (_HALF, _MOST)}

    def _models(self, size: float) -> _Models:
        """What each model says of this size, and in order what is to be added to it."""
        points = list(self.points)
        count = len(points)
        level = sorted(y for _, y in points)
        latest = sorted(y for _, y in points[-_FEW:])
        if count < _ENOUGH:
            return [(0.0, level), (0.0, latest), (0.0, level)]
        mean_x = sum(x for x, _ in points) / count
        mean_y = sum(level) / count
        xx = sum((x - mean_x) ** 2 for x, _ in points)
        xy = sum((x - mean_x) * (y - mean_y) for x, y in points)
        # Pulled towards no slope, by as much as one measurement says.
        slope = xy / (xx + max(xx / count, _FLAT))
        low, high = min(x for x, _ in points), max(x for x, _ in points)
        near = min(max(size, low - 1), high + 1)
        rest = sorted(y - slope * x for x, y in points)
        return [(0.0, level), (0.0, latest), (slope * near, rest)]

    def _said(
        self, models: _Models, share: float, others: Sequence[float]
    ) -> list[float]:
        """The logarithm of what each model says is at most taken in this share."""
        _, level = models[0]
        return [
            # No further from what was measured than the base of the logarithms.
            min(max(base + _quantile(rest, share, others), level[0] - 1), level[-1] + 1)
            for base, rest in models
        ]

    def quantile(self, size: float, share: float, others: Sequence[float]) -> float:
        """
        What is at most taken in this share of the cases.

        With few measurements of its own, what *others* were off counts, too.
        """
        losses = self.losses[share]
        best = min(range(len(losses)), key=losses.__getitem__)
        return math.exp(self._said(self._models(size), share, others)[best])

    def add(self, size: float, amount: float, others: deque[float]) -> None:
        """Take in a measurement; if all are off of late, what was before is left."""
        y = math.log(amount)
        if self.points:
            models = self._models(size)
            for share, losses in self.losses.items():
                guesses = self._said(models, share, others)
                for n, each in enumerate(guesses):
                    losses[n] = _FADES * losses[n] + _loss(
                        amount, math.exp(each), share
                    )
                if share == _HALF:
                    self.off.append(y - guesses[0])
            others.append(self.off[-1])
        self.points.append((size, y))
        self.count = min(self.count + 1, _KEPT)
        latest = list(self.off)[-_LATEST:]
        if len(self.off) < 2 * _LATEST:
            return
        off = sum(error > 0 for error in latest)
        center = median(latest)
        if max(off, _LATEST - off) >= _ONE_SIDE and abs(center) > _OFF:
            self.drifts += 1
            self.off.clear()
            kept = list(self.points)[-_LATEST:]
            self.points = deque(kept, maxlen=_RECENT)
            self.count = len(kept)


def _quantile(ordered: list[float], share: float, others: Sequence[float]) -> float:
    """What is at most so much in this share of *ordered*, and as others were off."""
    count = len(ordered)
    middle = (ordered[(count - 1) // 2] + ordered[count // 2]) / 2
    if share == _HALF:
        return middle
    if count >= _OWN:
        others = ()
    elif count == 1 and not others:
        return middle + _WIDE * (share - _HALF)
    times = max(1, len(others) // _BORROWED)
    every = sorted([*ordered * times, *(middle + error for error in others)])
    rank = math.ceil(share * (len(every) + _LARGER * times))
    return every[min(rank, len(every)) - 1]


def _loss(amount: float, foretold: float, share: float) -> float:
    """How far what was said of a share of the cases was off (pinball loss)."""
    return max(share * (amount - foretold), (share - 1) * (amount - foretold))


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
        #: Of each type, how many times as long as was stated the latest runs took.
        self._times: dict[str, deque[float]] = {}
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
        stated: float | None = None,
    ) -> bool:
        """
        Take in what a task took; False if *seconds* is no duration.

        Args:
            type: Its type.
            seconds: How long it ran.
            payload: What it was about: its size counts.
            memory_mb: What it needed at its peak, if that is known.
            cost: What it cost, if that is known.
            stated: How long it was said to take.
        """
        if _is_amount(seconds) and _is_amount(stated):
            times = self._times.setdefault(type, deque(maxlen=_STATED))
            times.append(seconds / float(stated or 1.0))
        size = math.log1p(size_of(payload))
        for quantity, amount in (("memory_mb", memory_mb), ("cost", cost)):
            if amount is not None:
                self._take(quantity, type, size, amount)
        return self._take("seconds", type, size, seconds)

    def _take(self, quantity: str, kind: str, size: float, amount: float) -> bool:
        if not _is_amount(amount):
            self.refused += 1
            return False
        history = self._types.setdefault((quantity, kind), _Type())
        others = self._errors.setdefault(quantity, deque(maxlen=_POOLED))
        self._measured.add(quantity)
        if quantity == "seconds" and history.count > 1:
            self._foretold += 1
            self._held += amount <= history.quantile(size, _MOST, others)
        history.add(size, float(amount), others)
        return True

    def observe_usage(
        self,
        type: str,  # noqa: A002 - the name that tasks have for it
        payload: Any,
        used: Mapping[str, float],
    ) -> None:
        """Take in what an attempt was seen to use: its `memory_mb`, and its `cost`."""
        size = math.log1p(size_of(payload))
        for quantity in ("memory_mb", "cost"):
            if quantity in used:
                self._take(quantity, type, size, used[quantity])

    def duration(
        self,
        type: str,  # noqa: A002 - the name that tasks have for it
        payload: Any = None,
    ) -> Quantity:
        """Seconds that a task of *type* takes, or else one that is named like it."""
        estimate = self._estimate("seconds", type, payload)
        if estimate is None:
            return Quantity(_UNKNOWN, 10 * _UNKNOWN, "a guess: nothing is known")
        return estimate

    def known(self, type: str) -> Quantity | None:  # noqa: A002
        """Seconds that a task of *type* takes, if one of that type was measured."""
        if ("seconds", type) not in self._types:
            return None
        return self._estimate("seconds", type, None)

    def stated(self, type: str, seconds: float) -> Quantity:  # noqa: A002
        """Seconds that a task takes of which *seconds* are stated, by earlier runs."""
        times = sorted(self._times.get(type, ()))
        if len(times) >= _SURE and (times[0] > _WRONG or times[-1] < 1 / _WRONG):
            source = f"{seconds:g} s are stated, of which the latest {len(times)} runs "
            source += f"took {median(times):.2g} times as much"
            return Quantity(seconds * median(times), seconds * times[-1], source)
        measured = self.known(type)
        wide = measured.p90 / float(measured) if measured else 1.0
        return Quantity(seconds, seconds * wide, "said")

    def memory(self, type: str, payload: Any = None) -> Quantity | None:  # noqa: A002
        """MB that a task of *type* needs at its peak; None: nothing is known."""
        return self._estimate("memory_mb", type, payload)

    def cost(self, type: str, payload: Any = None) -> Quantity | None:  # noqa: A002
        """What a task of *type* costs; None: nothing is known."""
        return self._estimate("cost", type, payload)

    def _estimate(self, quantity: str, kind: str, payload: Any) -> Quantity | None:
        if quantity not in self._measured:
            return None
        history = self._types.get((quantity, kind))
        size = math.log1p(size_of(payload))
        others = self._errors[quantity]
        if history is not None:
            count = history.count
            source = f"history of {count} run{'s' * (count != 1)}"
            if history.drifts:
                source += " since it drifted"
            half, high = (
                round(history.quantile(size, share, others), 9)
                for share in (_HALF, _MOST)
            )
            return Quantity(half, max(half, high), source)
        near = self._similar(quantity, kind)
        if not near:
            return None
        halves = [
            self._types[quantity, name].quantile(size, _HALF, others) for name in near
        ]
        highs = [
            self._types[quantity, name].quantile(size, _MOST, others) for name in near
        ]
        source = f"as {', '.join(near)}, which it is named like"
        return Quantity(round(median(halves), 9), _WIDE * max(highs), source)

    def _similar(self, quantity: str, kind: str) -> list[str]:
        """The types whose names share most words with *kind*."""
        words = _words(kind)
        scores = {
            name: len(words & _words(name)) / len(words | _words(name))
            for measured, name in self._types
            if measured == quantity
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
            name: history.drifts
            for (quantity, name), history in self._types.items()
            if quantity == "seconds" and history.drifts
        }

    def version(self, types: Iterable[str]) -> str:
        """What changes when another plan may be better: a drift, or the first runs."""
        parts = []
        for name in sorted(set(types)):
            history = self._types.get(("seconds", name))
            if history is not None:
                parts.append(f"{name}:{history.drifts}:{history.count.bit_length()}")
                parts.append(f"{float(self.stated(name, 1.0)):.1g}")
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


class Measurements(Projection):
    """
    What tasks took, in this incarnation and in earlier ones, for an estimator.

    Args:
        runtime: Of the orchestrator.
    """

    wants: frozenset[type[Event]] | None = frozenset(
        {TaskSubmitted, BudgetSpent, TaskCompleted}
    )
    past = PAST

    def __init__(self, runtime: Any) -> None:
        self._rt: Runtime = runtime
        #: What attempts were seen to use of late: the type, the payload, and how much.
        self._used: deque[tuple[str, Any, dict[str, float]]] = deque(maxlen=_WAITING)
        #: Of tasks that have not completed, what they have spent as `cost`.
        self._costs: dict[str, int] = {}
        #: Of each type, the end of the latest measurement that was taken in.
        self._learnt: dict[str, int] = {}
        #: While the past is taken: who reads it, and for whom; and tasks of then.
        self._reader: tuple[int, Estimator] | None = None
        self._tasks: dict[str, Task] = {}
        self._follows = runtime.committer is None
        if self._follows:
            runtime.signals.follow(self)

    def take(self, event: Event, document: Any) -> None:
        """See `Projection`: the thread that publishes waits for no planning."""
        reader = self._reader
        is_past = reader is not None and reader[0] == get_ident()
        if isinstance(event, BudgetSpent):
            # What a task costs is what all its attempts have spent.
            _add_cost(self._costs, event)
        elif isinstance(event, TaskSubmitted):
            if is_past and document is not None:
                self._tasks[event.task_id] = document
        elif isinstance(event, TaskCompleted):
            amounts = _amounts(event, self._costs.pop(event.task_id, 0))
            if reader is not None and is_past:
                self._take_past(event, amounts, reader[1])
            elif amounts and (task := task_in(self._rt, event.task_id)) is not None:
                self._used.append((task.type, task.payload, amounts))

    def _take_past(
        self, event: TaskCompleted, amounts: dict[str, float], estimator: Estimator
    ) -> None:
        task = self._tasks.pop(event.task_id, None)
        # What a wait or a decision completes has no attempt, and no length.
        if task is not None and event.attempt:
            kind, payload, seconds = task.type, task.payload, event.latency
            estimator.observe(kind, seconds, payload, stated=task.expected)
            estimator.observe_usage(kind, payload, amounts)
            self._learnt[kind] = event.at_ns

    def tell(self, estimator: Estimator) -> None:
        """Tell *estimator* what was measured since one was told last."""
        rt = self._rt
        if rt.started and not (rt.closed or self._follows):
            self._follows, self._reader = True, (get_ident(), estimator)
            try:
                rt.signals.follow(self)
            finally:
                self._reader = None
                self._tasks.clear()
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
            payload, stated = payloads.get(key, (None, None))
            seconds = (ended - started) / NS
            estimator.observe(kind, seconds, payload, stated=stated)
            self._learnt[kind] = max(self._learnt.get(kind, 0), ended)

    def _payloads(
        self, fresh: Sequence[tuple[int, int, str]]
    ) -> dict[tuple[int, int, str], tuple[Any, float | None]]:
        """
        Under the lock: what these tasks were about, and how long they were to take.

        As far as it is in memory.
        """
        if not fresh:
            return {}
        wanted = set(fresh)
        payloads: dict[tuple[int, int, str], tuple[Any, float | None]] = {}
        for row in self._rt.kernel.tasks.values():
            key = row.ended_ns, row.started_ns, row.bucket.spec.type
            if row.state is TaskState.COMPLETED and key in wanted:
                task = task_of(row)
                payloads[key] = task.payload, task.expected
        return payloads


def _add_cost(costs: dict[str, int], event: BudgetSpent) -> None:
    """Add what was spent as `cost`; the tasks longest unheard of are forgotten."""
    cost = dict(event.spent).get(COST, 0)
    if cost:
        costs[event.task_id] = costs.pop(event.task_id, 0) + cost
        if len(costs) > _WAITING:
            del costs[next(iter(costs))]


def _amounts(event: TaskCompleted, cost: int) -> dict[str, float]:
    """What was used and what it cost, by name; *cost* is in millionths."""
    amounts = {name: units / _SCALE for name, units in event.usage}
    return {**amounts, COST: cost / _SCALE} if cost else amounts
