"""
OpenTelemetry metrics: present counts, and how long attempts and commits took.

Most values are computed when a reader collects, and cost nothing in between; only
durations are recorded at events. Attributes have values of closed sets, or names, of
which only the first hundred are distinguished. Ids are never among them.

Decision: followers-of-events.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from threading import Lock
from typing import Any, Final, TypeAlias
from weakref import WeakKeyDictionary, WeakSet

from opentelemetry.metrics import (
    CallbackOptions,
    Histogram,
    Meter,
    MeterProvider,
    Observation,
)

from taskorch.events import (
    Event,
    TaskBlocked,
    TaskCancelled,
    TaskCompleted,
    TaskEvent,
    TaskFailed,
    TaskRetrying,
    TaskStarted,
    TaskSuspended,
    signal_name,
)
from taskorch.ext.telemetry import _conventions as names
from taskorch.ext.telemetry._conventions import AnySignals
from taskorch.kit.fence import is_values, log_of
from taskorch.kit.limits import NS
from taskorch.model import PoolStats, Stats
from taskorch.model.ids import PHASE_LIMIT

_LOG: Final = log_of(__name__)
#: Names of one kind that are distinguished: an attribute with more of them would make a
#: time series of each.
MANY: Final = 100
OTHER: Final = "other"
#: Bounds in seconds, from a function call to a build.
_BOUNDS: Final = (
    *(0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5),
    *(1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0, 3600.0),
)
#: States of unfinished tasks, and of ended ones.
_LIVE: Final = ("pending", "queued", "running", "retrying", "blocked", "suspended")
_ENDED: Final = ("completed", "failed", "cancelled")

#: A value, and its attributes.
_Told: TypeAlias = tuple[Mapping[str, str], float]


def _tasks(stats: Stats) -> Iterator[_Told]:
    for state in _LIVE:
        yield {names.STATE: state}, getattr(stats.state_machine, state)


def _tasks_ended(stats: Stats) -> Iterator[_Told]:
    for state in _ENDED:
        yield {names.STATE: state}, getattr(stats.state_machine, state)


def _failures(stats: Stats) -> Iterator[_Told]:
    for cause, count in stats.failures.items():
        yield {names.CAUSE: cause}, count


def _retries(stats: Stats) -> Iterator[_Told]:
    for outcome in ("scheduled", "recovered", "exhausted", "repaired"):
        yield {names.OUTCOME: outcome}, getattr(stats.retries, outcome)


def _pool_usage(stats: Stats) -> Iterator[_Told]:
    return _by_pool((name, pool.used) for name, pool in _pools(stats))


def _pool_limit(stats: Stats) -> Iterator[_Told]:
    return _by_pool((name, pool.total) for name, pool in _pools(stats))


def _pools(stats: Stats) -> Iterator[tuple[str, PoolStats]]:
    for name, pool in stats.resources.items():
        if pool.spent is None:
            yield name, pool


def _budget_spent(stats: Stats) -> Iterator[_Told]:
    for attributes, pool in _budgets(stats):
        yield attributes, pool.spent or 0.0


def _budget_left(stats: Stats) -> Iterator[_Told]:
    for attributes, pool in _budgets(stats):
        yield attributes, pool.free


def _budgets(stats: Stats) -> Iterator[tuple[dict[str, str], PoolStats]]:
    for name, pool in stats.resources.items():
        if pool.spent is not None:
            budget, _, resource = name.removeprefix("budget ").partition(": ")
            yield {names.BUDGET: budget, names.RESOURCE: resource}, pool


def _by_pool(amounts: Iterable[tuple[str, float]]) -> Iterator[_Told]:
    """Yield amounts by pool; limits of a phase over all runs are `phase/NAME`."""
    amount_of: dict[str, float] = {}
    for name, amount in amounts:
        limit = PHASE_LIMIT.fullmatch(name)
        pool = name if limit is None else f"phase/{limit['phase']}"
        amount_of[pool] = amount_of.get(pool, 0.0) + amount
    for pool, amount in amount_of.items():
        yield {names.RESOURCE: pool}, amount


def _worker_usage(stats: Stats) -> Iterator[_Told]:
    for name, worker in stats.agents.items():
        yield {names.WORKER: name}, worker.running


def _worker_limit(stats: Stats) -> Iterator[_Told]:
    for name, worker in stats.agents.items():
        if worker.max_concurrency is not None:
            yield {names.WORKER: name}, worker.max_concurrency


def _leaked(stats: Stats) -> Iterator[_Told]:
    yield {}, stats.leaked


def _events_lost(stats: Stats) -> Iterator[_Told]:
    yield {}, stats.events_lost


def _oldest(stats: Stats) -> Iterator[_Told]:
    yield {}, stats.queue.oldest or 0.0


def _active_workers(stats: Stats) -> Iterator[_Told]:
    yield {}, sum(worker.is_active for worker in stats.agents.values())


def _share_of(name: str) -> Callable[[Stats], Iterator[_Told]]:
    """Return a function for the held share of the pool *name*, if there is one."""

    def ask(stats: Stats) -> Iterator[_Told]:
        pool = stats.resources.get(name)
        if pool is not None and pool.total:
            yield {}, pool.used / pool.total

    return ask


def _queue_length(stats: Stats) -> Iterator[_Told]:
    yield {}, stats.queue.queued


def _completed(stats: Stats) -> Iterator[_Told]:
    yield {}, stats.work("completed")


def _failed(stats: Stats) -> Iterator[_Told]:
    yield {}, stats.work("failed")


def _execution_time(stats: Stats) -> Iterator[_Told]:
    for name, kind in stats.types.items():
        if kind.running is not None:
            yield {names.TASK_NAME: name}, kind.running.p50


def _success_rate(stats: Stats) -> Iterator[_Told]:
    for name, kind in stats.types.items():
        if kind.completed + kind.failed:
            rate = kind.completed / (kind.completed + kind.failed)
            yield {names.TASK_NAME: name}, rate


def _worker_health(stats: Stats) -> Iterator[_Told]:
    for name, worker in stats.agents.items():
        yield {names.WORKER: name}, int(not worker.lost)


def _violations(stats: Stats) -> Iterator[_Told]:
    for severity, policies in stats.violations.items():
        for policy, count in policies.items():
            yield {names.SEVERITY: severity, names.POLICY: policy}, count


def _worker_errors(stats: Stats) -> Iterator[_Told]:
    for name, worker in stats.agents.items():
        if worker.completed + worker.failed:
            yield (
                {names.WORKER: name},
                worker.failed / (worker.completed + worker.failed),
            )


def _round_trip(stats: Stats) -> Iterator[_Told]:
    for name, worker in stats.agents.items():
        if worker.round_trip is not None:
            yield {names.WORKER: name}, worker.round_trip


#: Values computed at a collection: name, unit, description, function.
COUNTERS: Final = (
    ("taskorch.tasks.ended", "{task}", "Tasks that have ended.", _tasks_ended),
    ("taskorch.failures", "{failure}", "Tasks that failed, by cause.", _failures),
    (
        "taskorch.policy.violations",
        "{violation}",
        "Violations of policies, by severity and policy.",
        _violations,
    ),
    ("taskorch.retries", "{retry}", "What the retry handler did.", _retries),
    ("taskorch.events.lost", "{event}", "Lost by slow receivers.", _events_lost),
)
LEVELS: Final = (
    ("taskorch.tasks", "{task}", "Tasks that have not ended, by state.", _tasks),
    ("taskorch.pool.usage", "1", "What is held of a pool.", _pool_usage),
    ("taskorch.pool.limit", "1", "What there is of a pool.", _pool_limit),
    ("taskorch.budget.spent", "1", "What is spent of a budget.", _budget_spent),
    ("taskorch.budget.left", "1", "What is neither spent nor reserved.", _budget_left),
    (
        "taskorch.agent.usage",
        "{attempt}",
        "Attempts that an agent runs.",
        _worker_usage,
    ),
    ("taskorch.agent.limit", "{attempt}", "The most of them.", _worker_limit),
    ("taskorch.slots.leaked", "{slot}", "Held by what would not stop.", _leaked),
    # Metrics under the names that `orch.metrics()` has for them.
    ("active_agents_count", "{agent}", "Workers that are there.", _active_workers),
    ("total_memory_usage", "1", "Of memory_mb, what is held.", _share_of("memory_mb")),
    ("total_cpu_utilization", "1", "Of cpu, what is held.", _share_of("cpu")),
    ("task_queue_length", "{task}", "Tasks that wait for room.", _queue_length),
    ("completed_tasks_count", "{task}", "Tasks that have completed.", _completed),
    ("failed_tasks_count", "{task}", "Tasks that have failed.", _failed),
    ("task_execution_time", "{second}", "Median, lately.", _execution_time),
    ("task_success_rate", "1", "Of tasks, what completed.", _success_rate),
    ("agent_health_status", "1", "1, or 0: the worker is lost.", _worker_health),
    ("agent_error_rate", "1", "Of its attempts, what failed.", _worker_errors),
    ("agent_communication_latency", "{second}", "There and back.", _round_trip),
)
_UNITS_OF_ONE: Final = ("1", "{second}")
AGE: Final = (
    "taskorch.queue.age",
    "s",
    "How long the oldest queued task has waited.",
    _oldest,
)


class _Process:
    """
    The instruments of one provider.

    An instrument may be made once, so all orchestrators of the process share it: their
    values for the same attributes are added up.
    """

    def __init__(self, meter: Meter) -> None:
        self.sources: WeakSet[Metrics] = WeakSet()
        self._lock = Lock()
        self._known: dict[str, dict[str, None]] = {}
        for name, unit, words, ask in COUNTERS:
            meter.create_observable_counter(name, [self._asking(ask, sum)], unit, words)
        for name, unit, words, tell in LEVELS:
            # Shares and times of several orchestrators have no sum.
            if unit in _UNITS_OF_ONE and not name.startswith("taskorch."):
                asked = [self._asking(tell, max)]
                meter.create_observable_gauge(name, asked, unit, words)
                continue
            asked = [self._asking(tell, sum)]
            meter.create_observable_up_down_counter(name, asked, unit, words)
        name, unit, words, ask = AGE
        meter.create_observable_gauge(name, [self._asking(ask, max)], unit, words)
        self.attempts = _histogram(
            meter, "taskorch.attempt.duration", "How long attempts took."
        )
        self.commits = _histogram(
            meter, "taskorch.journal.commit.duration", "How long commits took."
        )

    def _asking(
        self,
        ask: Callable[[Stats], Iterable[_Told]],
        combine: Callable[[list[float]], float],
    ) -> Callable[[CallbackOptions], Iterable[Observation]]:
        def observe(_: CallbackOptions) -> Iterable[Observation]:
            values: dict[tuple[tuple[str, str], ...], list[float]] = {}
            for source in list(self.sources):
                for attributes, value in ask(source.totals()):
                    key = tuple(
                        (name, self.name(name, text))
                        for name, text in attributes.items()
                    )
                    values.setdefault(key, []).append(value)
            return [
                Observation(combine(all_), dict(key)) for key, all_ in values.items()
            ]

        return observe

    def name(self, attribute: str, text: str) -> str:
        """Return *text*, or `other` if the attribute has too many values already."""
        with self._lock:
            texts = self._known.setdefault(attribute, {})
            if text not in texts:
                if len(texts) >= MANY:
                    return OTHER
                texts[text] = None
        return text


def _histogram(meter: Meter, name: str, words: str) -> Histogram:
    try:
        return meter.create_histogram(
            name, "s", words, explicit_bucket_boundaries_advisory=_BOUNDS
        )
    except TypeError:  # pragma: no cover - an older API: a view of the user's says it
        return meter.create_histogram(name, "s", words)


_PROCESSES: Final[WeakKeyDictionary[MeterProvider, _Process]] = WeakKeyDictionary()
_MAKING: Final = Lock()


class Metrics:
    """
    Measures of one orchestrator.

    Its *totals* are those of `get_stats`.
    """

    def __init__(
        self,
        provider: MeterProvider,
        totals: Callable[[], Stats],
        type_of: Callable[[str], str],
    ) -> None:
        with _MAKING:
            process = _PROCESSES.get(provider)
            if process is None:
                process = _Process(provider.get_meter("taskorch", names.version()))
                _PROCESSES[provider] = process
        self._process = process
        self.totals = totals
        self._type_of = type_of
        #: The type and the begin of each running attempt, by task.
        self._begun: dict[str, tuple[str, int]] = {}
        self._takes: dict[type[Event], Callable[[Any], str | None]] = {
            TaskCompleted: lambda _: names.SUCCESS,
            TaskFailed: lambda event: names.result_of(event.cause),
            TaskRetrying: lambda event: names.result_of(event.cause),
            TaskBlocked: lambda _: names.ERROR,
            TaskCancelled: lambda _: names.CANCELLATION,
            # A program that is stopped where it stands goes on in the same attempt.
            TaskSuspended: lambda event: None if event.held else names.CANCELLATION,
        }
        process.sources.add(self)

    def connect(self, signals: AnySignals) -> None:
        wanted: tuple[type[Event], ...] = (TaskStarted, *self._takes)
        for cls in wanted:
            getattr(signals, signal_name(cls)).connect(self.take)

    def take(self, event: TaskEvent) -> None:
        """Receive an event that begins or ends an attempt."""
        task_id = event.task_id
        if isinstance(event, TaskStarted):
            self._begun[task_id] = self._type_of(task_id), event.at_ns
            return
        result = self._takes[type(event)](event)
        begun = None if result is None else self._begun.pop(task_id, None)
        if begun is None or result is None:
            return
        kind, at = begun
        attributes = {
            names.TASK_NAME: self._process.name(names.TASK_NAME, kind or OTHER),
            names.TASK_RESULT: result,
        }
        self._process.attempts.record(max(0, event.at_ns - at) / NS, attributes)

    def committed(self, seconds: float) -> None:
        """Record the duration of a commit."""
        try:
            self._process.commits.record(seconds)
        except BaseException as error:
            # A view of the user's has failed; the commit is kept all the same.
            if not is_values(error):
                raise
            _LOG.warning("the duration of a commit was not noted", exc_info=True)
