"""
Metrics by name, and conditions over them: `failure_rate > 0.2`.

It also finds tasks that take longer than usual. Tasks of one type are compared with
earlier ones of it, by the mean of the logarithms of their durations, so that one long
call among short ones weighs little. The spread of the durations tells how far that mean
may go by chance, so a mixture of short and long calls is slower only if all of it is.
"""

from __future__ import annotations

import ast
import math
import operator
import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import pairwise, product
from math import exp, log, sqrt
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, TypeAlias

import attrs

from taskorch.errors import InvalidTaskError
from taskorch.kit.visible import is_text, show
from taskorch.kit.vocabulary import meant
from taskorch.model import AgentStats, Stats, TypeStats

#: Numbers of the latest attempts, each of which is compared with the earlier ones.
_WINDOWS: Final = (10, 20, 40, 80)
#: The fewest earlier attempts for a comparison.
_BEFORE: Final = 10
#: Standard errors by which a mean differs by chance once in 3,000,000 times.
_SURE: Final = 5.0
#: The least standard deviation of the logarithms of durations.
_SPREAD: Final = 0.1
#: Seconds: a smaller delay is ignored, and a shorter duration is noise of the clock.
LEAST: Final = 0.02
SHORTEST: Final = 1e-6


@attrs.frozen
class Pace:
    """
    Recent and usual duration of the tasks of a type.

    Attributes:
        lately: The geometric mean of the latest durations, in seconds.
        usual: The earlier mean, in seconds; or half of what so many of them may take by
            chance, if that is more.
    """

    lately: float
    usual: float

    @property
    def ratio(self) -> float:
        """Recent duration divided by the usual one."""
        return self.lately / self.usual


def paces(durations: Mapping[str, Sequence[float]]) -> dict[str, Pace]:
    """Return the pace of each type with enough of the latest *durations*."""
    every = {name: _pace(seconds) for name, seconds in durations.items()}
    return {name: pace for name, pace in every.items() if pace is not None}


def _pace(seconds: Sequence[float]) -> Pace | None:
    logs = [log(max(each, SHORTEST)) for each in seconds]
    every = _sums(logs)
    candidates: list[Pace] = []
    for count in _WINDOWS:
        before = len(logs) - count
        if before < _BEFORE:
            break
        part = _sums(logs[before:])
        usual, spread = _spread(every[0] - part[0], every[1] - part[1], before)
        now, other = _spread(*part, count)
        chance = max(spread, other, _SPREAD) * sqrt(1 / before + 1 / count)
        most = exp(usual + _SURE * chance)
        if exp(now) - exp(usual) < LEAST:
            most = max(most, 2 * exp(now))
        candidates.append(Pace(exp(now), max(exp(usual), most / 2)))
    return max(candidates, key=lambda pace: pace.ratio, default=None)


def _sums(values: Sequence[float]) -> tuple[float, float]:
    """Return the sum and the sum of the squares."""
    return sum(values), sum(each * each for each in values)


def _spread(total: float, squares: float, count: int) -> tuple[float, float]:
    """Return the mean and the standard deviation, from sums."""
    mean = total / count
    return mean, sqrt(max(0.0, squares / count - mean * mean))


#: The metrics by name, each with its unit and its meaning.
METRICS: Final[Mapping[str, tuple[str, str]]] = MappingProxyType(
    {
        "orchestrator_status": ("", "ok, degraded or failed"),
        "active_agents_count": (
            "{agent}",
            "Workers that are there, but for those that stand by for others.",
        ),
        "total_memory_usage": ("1", "Share of the memory that is used: see the next."),
        "total_memory_usage_is": (
            "",
            "`measured`, while alerts are watched; or what tasks have `reserved`.",
        ),
        "total_cpu_utilization": ("1", "Share of the cpu that is held."),
        "task_queue_length": ("{task}", "Tasks that wait for room."),
        "completed_tasks_count": ("{task}", "Tasks that have completed."),
        "failed_tasks_count": ("{task}", "Tasks that have failed."),
        "repaired_attempts_count": ("{attempt}", "Those that a repair had run again."),
        "policy_violations": ("{violation}", "Violations of policies, by severity."),
        "task_execution_time": ("s", "Median of the latest attempts, by type."),
        "task_success_rate": ("1", "Of what has ended, what completed, by type."),
        "resource_utilization_per_task": ("1", "What is held, for each that runs."),
        "test_coverage_percentage": ("%", "Latest of a test suite, by type."),
        "performance_benchmarks": ("s", "95 % of the latest are not longer, by type."),
        "agent_health_status": ("", "ok or lost, by worker."),
        "agent_resource_usage": ("1", "What its tasks hold of it, by worker."),
        "agent_task_history": ("{attempt}", "Attempts that have ended, by worker."),
        "agent_error_rate": ("1", "Of these, what ended badly, by worker."),
        "agent_communication_latency": (
            "s",
            "Its latest sign of life, there and back, by worker; None: not known.",
        ),
    }
)


def metrics_of(orchestrator: Any) -> dict[str, Any]:
    """Return the metrics of *orchestrator*, by the names of `METRICS`."""
    measured = from_stats(orchestrator.get_stats())
    # Access to `orch.alerts` would start to watch the default rules.
    measured |= getattr(vars(orchestrator).get("alerts"), "memory", {})
    measured["orchestrator_status"] = orchestrator.health().status
    measured["test_coverage_percentage"] = orchestrator._latest_coverage()  # noqa: SLF001 - a look at the results, which no other question has
    return {name: measured[name] for name in METRICS}


def from_stats(stats: Stats) -> dict[str, Any]:
    """Return the metrics from the statistics, by the names of `METRICS`."""
    types, workers = stats.types, stats.agents
    running = sum(worker.running for worker in workers.values())
    return {
        "orchestrator_status": None,
        "active_agents_count": sum(worker.is_active for worker in workers.values()),
        "total_memory_usage": _held(stats, "memory_mb"),
        "total_memory_usage_is": (
            None if _held(stats, "memory_mb") is None else "reserved"
        ),
        "total_cpu_utilization": _held(stats, "cpu"),
        "task_queue_length": stats.queue.queued,
        "completed_tasks_count": stats.work("completed"),
        "repaired_attempts_count": stats.retries.repaired,
        "failed_tasks_count": stats.work("failed"),
        "policy_violations": {
            severity: sum(policies.values())
            for severity, policies in stats.violations.items()
        },
        "task_execution_time": {
            name: one.running.p50 for name, one in types.items() if one.running
        },
        "task_success_rate": {
            name: one.completed / _ended(one)
            for name, one in types.items()
            if _ended(one)
        },
        "resource_utilization_per_task": {
            name: pool.used / running
            for name, pool in stats.resources.items()
            if running and not name.startswith("quota:")
        },
        "test_coverage_percentage": {},
        "performance_benchmarks": {
            name: one.running.p95 for name, one in types.items() if one.running
        },
        "agent_health_status": {
            name: "lost" if worker.lost else "ok" for name, worker in workers.items()
        },
        "agent_resource_usage": {
            name: _used(worker) for name, worker in workers.items()
        },
        "agent_task_history": {
            name: {"completed": worker.completed, "failed": worker.failed}
            for name, worker in workers.items()
        },
        "agent_error_rate": {
            name: worker.failed / (worker.completed + worker.failed)
            for name, worker in workers.items()
            if worker.completed + worker.failed
        },
        "agent_communication_latency": {
            name: worker.round_trip
            for name, worker in workers.items()
            if worker.silent is not None
        },
    }


def _ended(one: TypeStats) -> int:
    return one.completed + one.failed


def _held(stats: Stats, name: str) -> float | None:
    pool = stats.resources.get(name)
    return None if pool is None or not pool.total else pool.used / pool.total


def _used(worker: AgentStats) -> dict[str, float]:
    """Return the shares of the capacity and the slots of *worker* that are in use."""
    shares = {
        name: worker.used.get(name, 0.0) / total
        for name, total in (worker.capacity or {}).items()
        if total
    }
    if worker.max_concurrency:
        shares["slots"] = worker.running / worker.max_concurrency
    return shares


def of_machine() -> dict[str, float]:
    """Return the shares of this machine's memory and processors that are in use."""
    shares: dict[str, float] = {}
    # A value that is not reported is no data.
    with suppress(OSError, ValueError, KeyError, IndexError):
        lines = dict(
            line.split(":", 1)
            for line in Path("/proc/meminfo").read_text("ascii").splitlines()
        )
        total, free = (
            float(lines[name].split()[0]) for name in ("MemTotal", "MemAvailable")
        )
        shares["machine_memory_usage"] = 1 - free / total
    # Windows has no `getloadavg`.
    with suppress(OSError, AttributeError):
        shares["machine_cpu_load"] = os.getloadavg()[0] / (os.cpu_count() or 1)
    return shares


def used_mb() -> tuple[float, float] | None:
    """
    Return the memory of this process and of all that it has started, in MB.

    Shared memory counts once. None: the system does not report it.
    """
    own = _memory_of("self")
    if own is None:
        return None
    others, seen, todo = 0.0, {os.getpid()}, [os.getpid()]
    while todo:
        for child in _children_of(todo.pop()):
            if child not in seen:
                seen.add(child)
                todo.append(child)
                others += _memory_of(str(child)) or 0.0
    return own, others


def _children_of(pid: int) -> list[int]:
    children: list[int] = []
    # It, or a thread of it, may end meanwhile.
    with suppress(OSError):
        for thread in Path(f"/proc/{pid}/task").iterdir():
            with suppress(OSError):
                text = (thread / "children").read_text("ascii")
                children += map(int, text.split())
    return children


def _memory_of(pid: str) -> float | None:
    """The memory of a process in MB, of what is shared its part; None: it is gone."""
    with suppress(OSError, ValueError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text("ascii").splitlines():
            name, _, rest = line.partition(":")
            if name == "Pss":
                return int(rest.split()[0]) / 1024
    return None


#: Metrics by name; None: there is no data.
Measured: TypeAlias = Mapping[str, Any]

_MOST: Final = 1_000
#: The most names in a condition that is compared with its end.
_NAMES: Final = 3
_OPERATORS: Final[Mapping[type, Callable[[Any, Any], Any]]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
}


class NoData(Exception):  # noqa: N818 - no fault
    """Lack of a measurement that a condition needs."""


class _Asked(Mapping[str, Any]):
    """Metrics for a function; they note whether it read one without data."""

    def __init__(self, measured: Measured) -> None:
        self._measured = measured
        self.is_short = False

    def __getitem__(self, name: str) -> Any:
        if name not in self._measured:
            raise KeyError(_unknown(name, self._measured))
        value = self._measured[name]
        self.is_short |= value is None
        return value

    def __iter__(self) -> Iterator[str]:
        return iter(self._measured)

    def __len__(self) -> int:
        return len(self._measured)


def _unknown(name: object, names: Collection[str]) -> str:
    hint = meant(str(name), names, ", ".join(names))
    return f"nothing that is measured is called {name!r}: {hint}"


@attrs.frozen
class Condition:
    """
    Condition on metrics, which holds, does not hold, or lacks data.

    Attributes:
        text: Its text.
    """

    text: str
    _tree: ast.expr | None = None
    _function: Callable[[Any], object] | None = None

    @classmethod
    def of(
        cls,
        condition: str | Callable[[Any], object],
        names: Collection[str],
        field: str,
    ) -> Condition:
        """
        Make a condition from a text over *names*, or from a function of the metrics.

        Raises:
            InvalidTaskError: It is neither; the message names the fault.
        """
        if callable(condition):
            return cls(getattr(condition, "__name__", "a function"), None, condition)
        hint = f"{field}='failure_rate > 0.2', or a function of the metrics"
        candidate: object = condition
        if not is_text(candidate) or len(candidate) > _MOST:
            msg = f"{field}: {show(candidate, 60)} is no condition"
            raise InvalidTaskError(msg, hint=hint)
        try:
            tree = ast.parse(condition.strip(), mode="eval").body
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            msg = f"{field}: {condition!r} cannot be read: {error}"
            raise InvalidTaskError(msg, hint=hint) from None
        _check(tree, names, field, condition)
        return cls(condition, tree)

    @property
    def is_function(self) -> bool:
        """True if the condition is a function of the user."""
        return self._function is not None

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the metrics in the expression, each once; none for a function."""
        if self._tree is None:
            return ()
        return tuple(
            dict.fromkeys(
                node.id for node in ast.walk(self._tree) if isinstance(node, ast.Name)
            )
        )

    @property
    def numbers(self) -> tuple[float, ...]:
        """Numbers in the condition."""
        nodes = () if self._tree is None else ast.walk(self._tree)
        return tuple(node.value for node in nodes if isinstance(node, ast.Constant))  # type: ignore[misc]

    def holds(self, measured: Measured) -> bool | None:
        """Return whether the condition holds; None: there is no data."""
        if self._function is not None:
            return self._asked(measured)
        assert self._tree is not None  # noqa: S101 - one of the two
        try:
            return bool(_value(self._tree, measured))
        except (NoData, ZeroDivisionError):
            return None

    def _asked(self, measured: Measured) -> bool | None:
        """Call the user's function and return its answer; None: no data."""
        assert self._function is not None  # noqa: S101 - it is one
        asked = _Asked(measured)
        try:
            answer = self._function(asked)
            return None if answer is None else bool(answer)
        except ZeroDivisionError:
            return None
        except TypeError:
            if asked.is_short:
                # The function used None in arithmetic or a comparison, so data is
                # missing.
                return None
            raise

    def shown(self, measured: Measured) -> str:
        """Return the condition as text, with the values of its metrics."""
        if self._tree is None:
            return self.text
        phrases = [f"{name} is {_number(measured.get(name))}" for name in self.names]
        return f"{self.text}: {', '.join(phrases)}"


def _number(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, int | float) else "not known"


def check_apart(begin: Condition, end: Condition) -> None:
    """
    Refuse an alert whose end may hold while its beginning does: it would flap.

    Raises:
        InvalidTaskError: There are values with which both hold.
    """
    names = begin.names
    if not set(end.names) <= set(names) or not 0 < len(names) <= _NAMES:
        # A function does not name its metrics, and different metrics are independent.
        return
    points = sorted({0.0, *map(abs, (*begin.numbers, *end.numbers))})
    between = [(one + other) / 2 for one, other in pairwise(points)]
    beyond = [points[-1] * 2 + 1, points[-1] * 4 + 3]
    for values in product(*[[*points, *between, *beyond]] * len(names)):
        measured = dict(zip(names, values, strict=True))
        if begin.holds(measured) and end.holds(measured):
            at = ", ".join(f"{name} is {value:.4g}" for name, value in measured.items())
            msg = f"until: {end.text!r} holds while {begin.text!r} does, as where {at}"
            hint = "let it be over below the value at which it is raised"
            raise InvalidTaskError(msg, hint=hint)


def _check(node: ast.expr, names: Collection[str], field: str, text: str) -> None:
    """Refuse an expression that is not a comparison of names and numbers."""
    if isinstance(node, ast.BoolOp):
        for each in node.values:
            _check(each, names, field, text)
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        _check(node.operand, names, field, text)
    elif isinstance(node, ast.Compare) and all(type(o) in _OPERATORS for o in node.ops):
        for each in (node.left, *node.comparators):
            _check_amount(each, names, field, text)
    else:
        # An expression that is not even an amount gets another error message.
        _check_amount(node, names, field, text)
        msg = f"{field}: {text!r} is an amount, and compares it with nothing"
        raise InvalidTaskError(msg, hint=f"{field}='{text} > 10'")


def _check_amount(
    node: ast.expr, names: Collection[str], field: str, text: str
) -> None:
    """Refuse an expression other than an amount of names and finite numbers."""
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        _check_amount(node.operand, names, field, text)
    elif isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
        _check_amount(node.left, names, field, text)
        _check_amount(node.right, names, field, text)
    elif isinstance(node, ast.Name):
        if node.id not in names:
            msg = f"{field}: nothing that is measured is called {node.id!r}"
            hint = meant(node.id, names, ", ".join(names))
            raise InvalidTaskError(msg, hint=hint)
    elif not (isinstance(node, ast.Constant) and type(node.value) in (int, float)):
        msg = f"{field}: {text!r} compares names and numbers, and nothing else"
        raise InvalidTaskError(msg, hint=f"{field}='failure_rate > 0.2'")
    elif not _is_finite(node.value):
        msg = f"{field}: {text!r} has a number that is none, or without end"
        raise InvalidTaskError(msg, hint=f"{field}='failure_rate > 0.2'")


def _is_finite(value: Any) -> bool:
    try:
        return math.isfinite(float(value))
    except OverflowError:
        return False


def _value(node: ast.expr, measured: Measured) -> Any:
    value: Any = None
    if isinstance(node, ast.BoolOp):
        every = all if isinstance(node.op, ast.And) else any
        value = every(_value(each, measured) for each in node.values)
    elif isinstance(node, ast.UnaryOp):
        value = _value(node.operand, measured)
        value = not value if isinstance(node.op, ast.Not) else -value
    elif isinstance(node, ast.BinOp):
        first, second = _value(node.left, measured), _value(node.right, measured)
        value = _OPERATORS[type(node.op)](first, second)
    elif isinstance(node, ast.Compare):
        values = [_value(each, measured) for each in (node.left, *node.comparators)]
        value = all(
            _OPERATORS[type(op)](one, other)
            for op, (one, other) in zip(node.ops, pairwise(values), strict=True)
        )
    elif isinstance(node, ast.Name):
        value = measured.get(node.id)
        if value is None:
            raise NoData(node.id)
    elif isinstance(node, ast.Constant):
        value = node.value
    return value
