"""Foresight in a whole orchestrator: what is kept, in lives that end anyhow."""

import threading
import time
from datetime import UTC, datetime, timedelta

import pytest
from tests.api.tools import PATIENCE, eventually

from taskorch import (
    Elastic,
    Resources,
    Task,
    TaskOrchestrator,
    TaskState,
    current_context,
)
from taskorch.model import AgentTemplate
from taskorch.policies import AgentPool, ForeseeingAllocator
from taskorch.testing import Faults, Simulation

DAY = 86_400


def cpus():
    return current_context().allocation["cpu"]


#: Until it is set, `waits` runs.
GO = threading.Event()


def waits():
    GO.wait(PATIENCE)
    return cpus()


WORKER = AgentTemplate("worker", capabilities={"x": 1}, handler=print)


def mornings(sim, days, many=6):
    """Tasks at nine, in a simulation whose clock begins on a Monday."""
    sim.work("t", 300)
    sim.set_clock(4 * DAY)
    for day in range(days):
        sim.at(
            day * DAY + 9 * 3_600,
            lambda day=day: sim.submit_tasks(
                [Task("t", id=f"{day}-{n}", requires=["x"]) for n in range(many)]
            ),
        )


def test_each_incarnation_knows_what_the_one_before_it_has_learnt():
    """It is killed each morning while the tasks run, and each night."""
    sim = Simulation(1, unknown_capability="wait", check=False)
    pool = AgentPool(WORKER, max_agents=9, interval=60, foresee="UTC")
    sim.drivers.add(pool)
    mornings(sim, 4)
    for day in range(3):
        for hour in (9.05, 9.6, 23):
            sim.at(day * DAY + hour * 3_600, lambda: sim.crash(30))
    sim.run(3 * DAY + 10 * 3_600)
    ahead = [each for each in pool.decisions if "expects 6 workers" in each.reason]
    assert [each.after for each in ahead] == [6]
    assert "at 09:00, as on 3 of 3 days" in ahead[0].reason
    # Simulations begin with 2026.
    assert ahead[0].at < datetime(2026, 1, 8, 9, tzinfo=UTC).timestamp()


@pytest.mark.slow("four days with faults")
@pytest.mark.parametrize("seed", range(3))
def test_it_holds_the_guarantees_under_faults(seed):
    sim = Simulation(seed, unknown_capability="wait", faults=Faults())
    pool = AgentPool(WORKER, max_agents=4, interval=60, foresee="UTC")
    sim.drivers.add(pool)
    mornings(sim, 5)
    sim.run(4 * DAY + 12 * 3_600)
    assert sim.get_stats().state_machine.queued == 0
    assert max(each.after for each in pool.decisions) <= 4


def same_every_day(level, minutes=30):
    """A day on which so much is needed from two minutes from now on."""
    now = datetime.now(UTC)
    begin = now.hour * 60 + now.minute + 2
    levels = [0] * 1_440
    for minute in range(begin, begin + minutes):
        levels[minute % 1_440] = level
    return [[each, 1] for each in levels]


def past(prefix):
    today = datetime.now(UTC).date()
    return [f"{prefix}/{today - timedelta(day)}" for day in range(28, 0, -1)]


def test_a_pool_starts_workers_by_what_the_journal_has(tmp_path):
    """No task has come, and none will."""
    path = tmp_path / "journal.db"
    with TaskOrchestrator(journal=path) as orch:
        kept = orch.kept("foresight")
        kept.update(dict.fromkeys(past("pool/checker"), same_every_day(4)))
        kept["pool/checker/start"] = 200.0
    with TaskOrchestrator(journal=path) as orch:
        orch.agents.template("checker", capabilities=["check"], handler=print)
        # A minute after midnight, what was needed before it is not known yet today.
        orch.agents.pool("checker", max_agents=3, interval=0.1, foresee="UTC")
        eventually(lambda: len(orch.agents.list()) == 1 + 3)
        (said,) = orch.agents.explain_scaling("checker")
        assert said.reason.startswith("expects 4 workers at ")
        # The present day is kept, too.
        today = datetime.fromtimestamp(time.time(), UTC).date()
        eventually(lambda: f"pool/checker/{today}" in orch.kept("foresight"))


def test_an_allocator_leaves_room_by_what_the_journal_has(tmp_path):
    def orchestrator():
        return TaskOrchestrator(
            journal=tmp_path / "journal.db",
            resources={"cpu": 8},
            allocator=ForeseeingAllocator(),
        )

    kept = []
    with orchestrator() as orch:
        orch.signals.extension_kept.connect(lambda event: kept.append(event.key))
        orch.submit_task(Task.call(print, resources=Resources(cpu=1))).result()
        eventually(lambda: kept)
        assert kept[0].startswith("allocator/cpu/")
        days = dict.fromkeys(past("allocator/cpu"), same_every_day(5))
        orch.kept("foresight").update(days)
    with orchestrator() as orch:
        wants = Elastic(Resources(cpu=8), min={"cpu": 1})
        handle = orch.submit_task(Task.call(waits, resources=wants))
        eventually(lambda: handle.status.state is TaskState.RUNNING)
        told = str(orch.explain(handle.task_id))
        GO.set()
        assert handle.result() == 3
    assert "It holds 3 cpu: of 8 cpu, by the latest grant: " in told
    assert "5 cpu left free, at " in told
