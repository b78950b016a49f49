"""
What is measured, by its names: of the system, of types of tasks, of agents.

And whether tasks take longer than usual: like compared with like. Tasks of one type are
compared with earlier ones of it, by the mean of the logarithms of their durations: one
long call among short ones weighs little. How far that mean may go by chance follows
from how much they differ; so a mixture of short and long calls is slower only if all of
it is.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from math import exp, log, sqrt
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import attrs

from taskorch.model import AgentStats, Stats, TypeStats

#: Attempts that are compared with those before: each of these numbers of the latest.
_WINDOWS: Final = (10, 20, 40, 80)
#: How many there must be before.
_BEFORE: Final = 10
#: By how many standard errors a mean may differ by chance: once in 3,000,000 times.
_SURE: Final = 5.0
#: The least by which durations differ, as a standard deviation of their logarithms.
_SPREAD: Final = 0.1
#: Seconds: what is slower by less is not looked at, nor told from the noise of a clock.
_LEAST: Final = 0.02
_SHORTEST: Final = 1e-6


@attrs.frozen
class Pace:
    """
    How long tasks of a type take.

    Attributes:
        lately: What they take lately, in seconds: the geometric mean.
        usual: What they took before; or half of what so many of them may take by
            chance, if that is more.
    """

    lately: float
    usual: float

    @property
    def ratio(self) -> float:
        """By what they are slower."""
        return self.lately / self.usual


def paces(durations: Mapping[str, Sequence[float]]) -> dict[str, Pace]:
    """The pace of each type of which enough is known; *durations* are the latest."""
    every = {name: _pace(seconds) for name, seconds in durations.items()}
    return {name: pace for name, pace in every.items() if pace is not None}


def _pace(seconds: Sequence[float]) -> Pace | None:
    logs = [log(max(each, _SHORTEST)) for each in seconds]
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
        if exp(now) - exp(usual) < _LEAST:
            most = max(most, 2 * exp(now))
        candidates.append(Pace(exp(now), max(exp(usual), most / 2)))
    return max(candidates, key=lambda pace: pace.ratio, default=None)


def _sums(values: Sequence[float]) -> tuple[float, float]:
    """The sum, and the sum of the squares."""
    return sum(values), sum(each * each for each in values)


def _spread(total: float, squares: float, count: int) -> tuple[float, float]:
    """The mean and the standard deviation, from sums."""
    mean = total / count
    return mean, sqrt(max(0.0, squares / count - mean * mean))


#: The names, with their units and what they are.
METRICS: Final[Mapping[str, tuple[str, str]]] = MappingProxyType(
    {
        "orchestrator_status": ("", "ok, degraded or failed"),
        "active_agents_count": (
            "{agent}",
            "Agents that are there, but for those that stand by for others.",
        ),
        "total_memory_usage": ("1", "Share of the memory_mb that is held."),
        "total_cpu_utilization": ("1", "Share of the cpu that is held."),
        "task_queue_length": ("{task}", "Tasks that wait for room."),
        "completed_tasks_count": ("{task}", "Tasks that have completed."),
        "failed_tasks_count": ("{task}", "Tasks that have failed."),
        "task_execution_time": ("s", "Median of the latest attempts, by type."),
        "task_success_rate": ("1", "Of what has ended, what completed, by type."),
        "resource_utilization_per_task": ("1", "What is held, for each that runs."),
        "test_coverage_percentage": ("%", "Latest of a test suite, by type."),
        "performance_benchmarks": ("s", "95 % of the latest are not longer, by type."),
        "agent_health_status": ("", "ok or lost, by agent."),
        "agent_resource_usage": ("1", "What its tasks hold of it, by agent."),
        "agent_task_history": ("{attempt}", "Attempts that have ended, by agent."),
        "agent_error_rate": ("1", "Of these, what ended badly, by agent."),
        "agent_communication_latency": (
            "s",
            "Its latest sign of life, there and back, by agent; None: not known.",
        ),
    }
)


def metrics_of(orchestrator: Any) -> dict[str, Any]:
    """What is measured of *orchestrator*, by the names of `METRICS`."""
    measured = from_stats(orchestrator.get_stats())
    measured["orchestrator_status"] = orchestrator.health().status
    measured["test_coverage_percentage"] = orchestrator._latest_coverage()  # noqa: SLF001 - a look at the results, which no other question has
    return {name: measured[name] for name in METRICS}


def from_stats(stats: Stats) -> dict[str, Any]:
    """What the statistics say, by the names of `METRICS`; the rest is empty."""
    types, agents = stats.types, stats.agents
    running = sum(agent.running for agent in agents.values())
    return {
        "orchestrator_status": None,
        "active_agents_count": sum(agent.is_active for agent in agents.values()),
        "total_memory_usage": _held(stats, "memory_mb"),
        "total_cpu_utilization": _held(stats, "cpu"),
        "task_queue_length": stats.queue.queued,
        "completed_tasks_count": stats.work("completed"),
        "failed_tasks_count": stats.work("failed"),
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
            name: "lost" if agent.lost else "ok" for name, agent in agents.items()
        },
        "agent_resource_usage": {name: _used(agent) for name, agent in agents.items()},
        "agent_task_history": {
            name: {"completed": agent.completed, "failed": agent.failed}
            for name, agent in agents.items()
        },
        "agent_error_rate": {
            name: agent.failed / (agent.completed + agent.failed)
            for name, agent in agents.items()
            if agent.completed + agent.failed
        },
        "agent_communication_latency": {
            name: agent.round_trip
            for name, agent in agents.items()
            if agent.silent is not None
        },
    }


def _ended(one: TypeStats) -> int:
    return one.completed + one.failed


def _held(stats: Stats, name: str) -> float | None:
    pool = stats.resources.get(name)
    return None if pool is None or not pool.total else pool.used / pool.total


def _used(agent: AgentStats) -> dict[str, float]:
    """Shares of what *agent* has: of its capacity, and of its slots."""
    shares = {
        name: agent.used.get(name, 0.0) / total
        for name, total in (agent.capacity or {}).items()
        if total
    }
    if agent.max_concurrency:
        shares["slots"] = agent.running / agent.max_concurrency
    return shares


def of_machine() -> dict[str, float]:
    """Shares of the memory and the processors of this machine that are in use."""
    shares: dict[str, float] = {}
    # What nobody says is no data.
    with suppress(OSError, ValueError, KeyError, IndexError):
        lines = dict(
            line.split(":", 1)
            for line in Path("/proc/meminfo").read_text("ascii").splitlines()
        )
        total, free = (
            float(lines[name].split()[0]) for name in ("MemTotal", "MemAvailable")
        )
        shares["machine_memory_usage"] = 1 - free / total
    # Windows has no such function.
    with suppress(OSError, AttributeError):
        shares["machine_cpu_load"] = os.getloadavg()[0] / (os.cpu_count() or 1)
    return shares


def used_mb() -> tuple[float, float] | None:
    """
    The memory of this process, and of all that it has started, in MB.

    What several processes share counts once in all. None: the system does not say.
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
