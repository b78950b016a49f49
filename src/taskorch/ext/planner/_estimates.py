"""
Estimates of the duration, memory and cost of tasks, from measurements.

Each type has three models, all on a logarithmic scale: the latest fifty runs, the
latest few, and those of the fifty about a line over the size of the payload. P50 and
P90 are quantiles of what such a model has seen, each of the model with the least error
of late. While few tasks of a type were measured, the errors of other types count, too.

Decision: forecasts.
"""

from __future__ import annotations

import math
import sys
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from statistics import median
from threading import get_ident
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from taskorch.core.engine import task_of
from taskorch.events import BudgetSpent, Event, TaskCompleted, TaskSubmitted
from taskorch.ext.planner._values import COST, Quantity
from taskorch.kit.limits import NS
from taskorch.model import Call, Program, Task, TaskState
from taskorch.protocols import Projection

if TYPE_CHECKING:
    from taskorch.core.engine import Runtime

#: So many measurements of a type count. A type of which nothing is known is taken for
#: so many seconds.
_KEPT: Final = 500
_POOLED: Final = 300
_UNKNOWN: Final = 1.0
#: Quantiles are taken of the latest so many measurements; after a change, of fewer.
_RECENT: Final = 50
_FEW: Final = 5
#: The least number of measurements for a line over the size.
_ENOUGH: Final = 8
#: The factor by which the loss of a model fades with each measurement.
_FADES: Final = 0.95
#: At most so many measurements of usage wait to be taken in, and so many events of the
#: past are read.
_WAITING: Final = 10_000
PAST: Final = 200_000
_SCALE: Final = 1_000_000
#: The least variance of sizes, on the logarithmic scale, that gives a slope.
_FLAT: Final = 0.01
#: The latest errors among which a drift is looked for, and how many of them must lie on
#: one side.
_LATEST: Final = 12
_ONE_SIDE: Final = 11
#: The least median of these errors, on the logarithmic scale, that is a drift.
_OFF: Final = 0.25
#: The width of a guess from a single measurement, on the logarithmic scale.
_WIDE: Final = 2.0
#: Below so many measurements of a type, the errors of others count as much as its own.
#: A larger amount than all measured counts as so many measurements: of recorded runs,
#: nine in ten then stayed within the P90.
_OWN: Final = 15
_BORROWED: Final = 4
_LARGER: Final = 0.25
#: The two quantiles that are estimated.
_HALF: Final = 0.5
_MOST: Final = 0.9
#: A stated duration is wrong if at least so many of the latest so many runs all took so
#: many times as long, or as short.
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
            # `isfinite` raises an error for a very large int.
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


#: The forecast of each model, and its sorted residuals.
_Models: TypeAlias = list[tuple[float, list[float]]]


class _Type:
    """The measurements of one type of task in one respect, such as seconds."""

    def __init__(self) -> None:
        #: The logarithms of size and amount, the latest last.
        self.points: deque[tuple[float, float]] = deque(maxlen=_RECENT)
        #: The number of measurements since the latest drift.
        self.count = 0
        self.drifts = 0
        #: The latest errors of the median, which show a drift.
        self.off: deque[float] = deque(maxlen=2 * _LATEST)
        #: The loss of each model for each quantile; the latest errors count most.
        self.losses = {share: [0.0, 0.0, 0.0] for share in (_HALF, _MOST)}

    def _models(self, size: float) -> _Models:
        """Return each model: its forecast for *size*, and its sorted residuals."""
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
        # The slope is pulled towards zero by as much as one measurement counts.
        slope = xy / (xx + max(xx / count, _FLAT))
        low, high = min(x for x, _ in points), max(x for x, _ in points)
        near = min(max(size, low - 1), high + 1)
        rest = sorted(y - slope * x for x, y in points)
        return [(0.0, level), (0.0, latest), (slope * near, rest)]

    def _said(
        self, models: _Models, share: float, others: Sequence[float]
    ) -> list[float]:
        """Return the logarithm of the quantile *share* by each model."""
        _, level = models[0]
        return [
            # An estimate stays within a factor of e of all that was measured.
            min(max(base + _quantile(rest, share, others), level[0] - 1), level[-1] + 1)
            for base, rest in models
        ]

    def quantile(self, size: float, share: float, others: Sequence[float]) -> float:
        """
        Return the amount that this share of the tasks does not exceed.

        With few measurements of its own, the errors of *others* count, too.
        """
        losses = self.losses[share]
        best = min(range(len(losses)), key=losses.__getitem__)
        return math.exp(self._said(self._models(size), share, others)[best])

    def add(self, size: float, amount: float, others: deque[float]) -> None:
        """Take in a measurement; drop the old ones if the latest show a drift."""
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
    """Return the quantile *share* of *ordered*, widened by the errors of *others*."""
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
    """Return the pinball loss of the quantile *foretold* for *share*."""
    return max(share * (amount - foretold), (share - 1) * (amount - foretold))


class Estimator:
    """
    Estimates of time, memory and cost, learnt from earlier tasks of the type.

    It uses quantiles of the latest fifty runs, of the latest five, or of fifty around a
    line over payload size (numbers named `size`, `bytes`, `rows`, …): those that were
    most accurate lately. After a sudden change it drops the old runs: see `drifted`.

    It learns by `observe`, or from the measurements of an orchestrator. It leaves out
    amounts that are not positive and finite, and counts them in `refused`.
    """

    def __init__(self) -> None:
        self._types: dict[tuple[str, str], _Type] = {}
        #: The respects in which anything was measured.
        self._measured: set[str] = set()
        #: The latest errors of all types, by respect.
        self._errors: dict[str, deque[float]] = {}
        #: The measured duration of the latest runs over the stated one, by type.
        self._times: dict[str, deque[float]] = {}
        #: The number of amounts that were left out: negative, NaN, infinite.
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
        Take in the measurements of a task; return False if *seconds* is no duration.

        Args:
            type: Its type.
            seconds: Its duration.
            payload: Its payload, of which the size counts.
            memory_mb: Its peak of memory in MB, if that is known.
            cost: Its cost, if that is known.
            stated: The seconds that the task stated beforehand.
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
        """Take in the measured usage of an attempt: its `memory_mb`, and its `cost`."""
        size = math.log1p(size_of(payload))
        for quantity in ("memory_mb", "cost"):
            if quantity in used:
                self._take(quantity, type, size, used[quantity])

    def duration(
        self,
        type: str,  # noqa: A002 - the name that tasks have for it
        payload: Any = None,
    ) -> Quantity:
        """Return the seconds of a task of *type*, or of a type with a similar name."""
        estimate = self._estimate("seconds", type, payload)
        if estimate is None:
            return Quantity(_UNKNOWN, 10 * _UNKNOWN, "a guess: nothing is known")
        return estimate

    def known(self, type: str) -> Quantity | None:  # noqa: A002
        """Return the seconds of a task of *type*, if such a task was measured."""
        if ("seconds", type) not in self._types:
            return None
        return self._estimate("seconds", type, None)

    def stated(self, type: str, seconds: float) -> Quantity:  # noqa: A002
        """Return *seconds*, corrected by how earlier runs kept what they stated."""
        times = sorted(self._times.get(type, ()))
        if len(times) >= _SURE and (times[0] > _WRONG or times[-1] < 1 / _WRONG):
            source = f"{seconds:g} s are stated, of which the latest {len(times)} runs "
            source += f"took {median(times):.2g} times as much"
            return Quantity(seconds * median(times), seconds * times[-1], source)
        measured = self.known(type)
        wide = measured.p90 / float(measured) if measured else 1.0
        return Quantity(seconds, seconds * wide, "said")

    def memory(self, type: str, payload: Any = None) -> Quantity | None:  # noqa: A002
        """Return the peak of memory of *type* in MB; None: nothing is known."""
        return self._estimate("memory_mb", type, payload)

    def cost(self, type: str, payload: Any = None) -> Quantity | None:  # noqa: A002
        """Return the cost of a task of *type*; None: nothing is known."""
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
        """Return the types whose names share most words with *kind*."""
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
        """The share of durations within the P90 foretold, and their number."""
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
        """Return a text that changes when another plan may be better."""
        parts = []
        for name in sorted(set(types)):
            history = self._types.get(("seconds", name))
            if history is not None:
                parts.append(f"{name}:{history.drifts}:{history.count.bit_length()}")
                parts.append(f"{float(self.stated(name, 1.0)):.1g}")
        return ",".join(parts)


def _is_amount(value: object) -> bool:
    """Return whether *value* is a positive and finite number."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return 0 < value < math.inf


def _words(name: str) -> set[str]:
    text = "".join(c if c.isalnum() else " " for c in name)
    return {word.lower() for word in text.split() if not word.isdigit()} or {name}


# -- measurements of an orchestrator --------------------------------------------------


def task_in(rt: Runtime, task_id: str) -> Task | None:
    """Return a task, if it is in memory."""
    with rt.lock:
        row = rt.kernel.tasks.get(task_id)
        return None if row is None else task_of(row)


class Measurements(Projection):
    """
    Measurements of tasks, from this incarnation and earlier ones, for an estimator.

    Args:
        runtime: The runtime of the orchestrator.
    """

    wants: frozenset[type[Event]] | None = frozenset(
        {TaskSubmitted, BudgetSpent, TaskCompleted}
    )
    past = PAST

    def __init__(self, runtime: Any) -> None:
        self._rt: Runtime = runtime
        #: The latest usage of attempts: the type, the payload, and the amounts.
        self._used: deque[tuple[str, Any, dict[str, float]]] = deque(maxlen=_WAITING)
        #: The `cost` that tasks have spent so far that have not completed.
        self._costs: dict[str, int] = {}
        #: The end of the latest measurement that was taken in, by type.
        self._learnt: dict[str, int] = {}
        #: While the past is read: the thread that reads it, its estimator, and its
        #: tasks.
        self._reader: tuple[int, Estimator] | None = None
        self._tasks: dict[str, Task] = {}
        self._follows = runtime.committer is None
        if self._follows:
            runtime.signals.follow(self)

    def take(self, event: Event, document: Any) -> None:
        """Note an event (see `Projection`), so that no publisher waits for planning."""
        reader = self._reader
        is_past = reader is not None and reader[0] == get_ident()
        if isinstance(event, BudgetSpent):
            # The cost of a task is the sum of its attempts.
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
        # A task that a wait or a decision has completed had no attempt to measure.
        if task is not None and event.attempt:
            kind, payload, seconds = task.type, task.payload, event.latency
            estimator.observe(kind, seconds, payload, stated=task.expected)
            estimator.observe_usage(kind, payload, amounts)
            self._learnt[kind] = event.at_ns

    def tell(self, estimator: Estimator) -> None:
        """Tell *estimator* all measurements since the last call."""
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
        Return the payloads and stated durations of these tasks, under the lock.

        Tasks that are no longer in memory are left out.
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
    """Add the `cost` that was spent; forget the tasks longest without news."""
    cost = dict(event.spent).get(COST, 0)
    if cost:
        costs[event.task_id] = costs.pop(event.task_id, 0) + cost
        if len(costs) > _WAITING:
            del costs[next(iter(costs))]


def _amounts(event: TaskCompleted, cost: int) -> dict[str, float]:
    """Return the usage and the cost of a task by name; *cost* is in millionths."""
    amounts = {name: units / _SCALE for name, units in event.usage}
    return {**amounts, COST: cost / _SCALE} if cost else amounts
