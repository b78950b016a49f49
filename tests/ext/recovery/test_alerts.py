"""Alerts of a real orchestrator: what hangs or raises holds up nothing else."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from tests.api.tools import PATIENCE, Hold, Started, eventually, part

from taskorch import Task, TaskOrchestrator
from taskorch.ext.recovery import Alerts


def alert(orch: TaskOrchestrator, name: str) -> Any:
    return next(each for each in orch.alerts.list() if each.name == name)


@pytest.fixture
def watched() -> Iterator[TaskOrchestrator]:
    with TaskOrchestrator(concurrency=4) as orch:
        orch.watch_alerts(Alerts(interval=0.05))
        yield orch


@pytest.mark.parametrize(
    "what",
    [
        "action",
        pytest.param("when", marks=pytest.mark.slow("the same, of a condition")),
    ],
)
def test_what_hangs_holds_up_neither_schedules_nor_other_rules(
    watched: TaskOrchestrator, what: str
) -> None:
    hold, came = Hold(), threading.Semaphore(0)
    if what == "action":
        watched.alerts.rule("slow", when="running >= 0", action=lambda *_: hold())
    else:
        watched.alerts.rule("slow", when=lambda _: hold())
    hold.wait()
    watched.schedules.add("beat", 0.1, came.release)
    for _ in range(3):
        assert came.acquire(timeout=PATIENCE)
    # What is left when it fires waits, as all does.
    for _ in range(12):
        watched.submit(divmod, 1, 0)
    eventually(lambda: alert(watched, "high_failure_rate").state == "firing")
    eventually(lambda: "of slow hangs for" in part(watched, "alerts").detail)
    assert part(watched, "alerts").status == "degraded"
    hold.release()
    eventually(lambda: "hangs" not in part(watched, "alerts").detail)
    watched.schedules.remove("beat")
    watched.alerts.remove("high_failure_rate")
    watched.alerts.remove("slow")
    eventually(lambda: watched.submit(int).result(PATIENCE) == 0)


def test_an_action_that_hung_is_undone_once_it_has_ended(
    watched: TaskOrchestrator,
) -> None:
    hold, steps, is_bad = Hold(), [], [True]

    def act(_orch: Any, _alert: Any) -> Any:
        hold()
        steps.append("done")
        return lambda *_: steps.append("undone")

    watched.alerts.rule("mine", when=lambda _: is_bad[0], hold=0, action=act)
    hold.wait()
    is_bad[0] = False
    eventually(lambda: alert(watched, "mine").state == "ok")
    assert steps == []
    hold.release()
    eventually(lambda: steps == ["done", "undone"])


@pytest.mark.parametrize("how", ["remove", "rule"])
def test_what_a_rule_holds_is_released_as_it_is_removed_or_replaced(how: str) -> None:
    """Not at the next look, which is an hour off."""
    with TaskOrchestrator(concurrency=1) as orch:
        orch.watch_alerts(Alerts(interval=3_600, rules=()))
        orch.alerts.rule("mine", when=lambda _: True, action="pause_new_tasks")
        orch.drivers.wake("alerts")
        # Its action has a thread of its own, and holds starts soon after it fires.
        eventually(lambda: bool(orch.get_stats().holds))
        held = orch.submit(int)
        assert not held.done()
        if how == "remove":
            assert orch.alerts.remove("mine")
        else:
            orch.alerts.rule("mine", when=lambda _: False)
        assert held.result(PATIENCE) == 0


@pytest.mark.parametrize("by", ["itself", "the one before it"])
def test_a_rule_that_is_removed_during_a_look_holds_nothing(by: str) -> None:
    with TaskOrchestrator(concurrency=1) as orch:
        orch.watch_alerts(Alerts(interval=3_600, rules=()))

        def gone(_: Any) -> bool:
            return orch.alerts.remove("mine")

        if by != "itself":
            orch.alerts.rule("first", when=lambda _: gone(_) is None)
        when = gone if by == "itself" else lambda _: True
        orch.alerts.rule("mine", when=when, action="pause_new_tasks")
        orch.drivers.wake("alerts")
        eventually(lambda: "mine" not in {one.name for one in orch.alerts.list()})
        for _ in range(20):
            assert orch.submit(int).result(PATIENCE) == 0


@pytest.mark.needs("notices")
def test_an_action_that_raises_is_told_by_the_name_of_its_rule(
    watched: TaskOrchestrator, caplog: Any
) -> None:
    def act(_orch: Any, _alert: Any) -> None:
        raise LookupError("the pager is gone")

    watched.alerts.rule("mine", when="running >= 0", action=act)
    eventually(lambda: "action of mine raised LookupError" in caplog.text)
    assert "the pager is gone" in part(watched, "driver alerts").detail


def test_a_rule_that_raises_stands_in_the_health_until_it_is_mended(
    watched: TaskOrchestrator,
) -> None:
    is_broken = [True]

    def when(_measured: Any) -> bool:
        if is_broken[0]:
            raise LookupError("gone")
        return False

    watched.alerts.rule("mine", when=when)
    eventually(
        lambda: "rule mine cannot be looked at" in part(watched, "alerts").detail
    )
    assert alert(watched, "mine").state == "no data"
    is_broken[0] = False
    eventually(lambda: part(watched, "alerts").status == "ok")
    assert alert(watched, "mine").state == "ok"


@pytest.mark.skipif(sys.platform != "linux", reason="Linux says what is used")
def test_memory_counts_as_it_is_used_and_not_as_it_is_reserved() -> None:
    hold = Hold()
    # Programs that other tests have started may still be there: they take less than this.
    with TaskOrchestrator(resources={"memory_mb": 800}) as orch:
        assert orch.metrics()["total_memory_usage_is"] == "reserved"
        orch.watch_alerts(Alerts(interval=0.05))
        all_of_it = Task.call(hold, id="all", resources={"memory_mb": 800})
        orch.submit_task(all_of_it)
        hold.wait()
        eventually(lambda: alert(orch, "memory_exhaustion").has_data)
        assert orch.metrics()["total_memory_usage"] < 0.9
        assert alert(orch, "memory_exhaustion").state == "ok"
        code = "import sys; kept = b'1' * (850 << 20); sys.stdin.read()"
        with Started([sys.executable, "-c", code], stdin=subprocess.PIPE) as process:
            eventually(lambda: alert(orch, "memory_exhaustion").state == "firing")
            # One number of one thing: not the share that is reserved, which is 1.
            eventually(lambda: orch.metrics()["total_memory_usage"] > 1)
            assert orch.metrics()["total_memory_usage_is"] == "measured"
            process.communicate(b"")
        orch.alerts.remove("memory_exhaustion")
        hold.release()
