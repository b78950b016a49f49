"""What the numbers say when they are printed."""

import attrs

from taskorch import Resources
from taskorch.model import (
    AgentStats,
    Health,
    HealthCheck,
    PoolStats,
    QueueStats,
    RetryStats,
    StateStats,
    Stats,
)


def states(**counts):
    names = StateStats.__attrs_attrs__
    return StateStats(**{field.name: counts.get(field.name, 0) for field in names})


def stats(tasks, **more):
    worker = AgentStats(1, 4, 1200, 3, Resources(), None, {}, 0)
    return Stats(
        QueueStats(0, 0, None),
        tasks,
        RetryStats(0, 0, 0),
        {"cpu": PoolStats(4.0, 0.5)},
        {"local": worker},
        {},
        more.get("failures", {}),
        more.get("leaked", 0),
        more.get("events_lost", 0),
    )


def test_stats_say_what_is_wrong():
    said = str(stats(states(), failures={"timeout": 2}, leaked=1, events_lost=1000))
    assert said.splitlines()[0] == "0 tasks: none yet"
    assert said.splitlines()[-3:] == [
        "  causes of failures: timeout 2",
        "  slots held by work that would not stop: 1",
        "  events that slow receivers lost: 1,000",
    ]


def test_stats_say_what_was_violated():
    violations = {"low": {"names": 1}, "critical": {"no-danger": 1_200, "limits": 3}}
    said = str(attrs.evolve(stats(states()), violations=violations)).splitlines()
    assert said[-2:] == [
        "  low violations of policies: names 1",
        "  critical violations of policies: no-danger 1,200, limits 3",
    ]


def test_health_says_which_part_is_ill():
    checks = (
        HealthCheck("slots", "ok"),
        HealthCheck("journal", "degraded", "disk full"),
    )
    assert str(Health("degraded", True, False, checks)).splitlines() == [
        "degraded, not ready",
        "  slots ok",
        "  journal degraded: disk full",
    ]
    assert str(Health("ok", True, True, ())) == "ok"
    assert str(Health("failed", False, False, ())) == "failed, not ready, not live"
