"""Pools: how much there is, who has it, and what becomes of that in another life."""

from contextlib import closing

import pytest
from tests.integration.tools import PATIENCE

from taskorch import Resources, Task, TaskOrchestrator, Workflow
from taskorch.events import PoolsChanged, make
from taskorch.journal import SqliteJournal


@pytest.fixture
def path(tmp_path):
    return tmp_path / "runs.db"


def totals(orch):
    return {name: pool.total for name, pool in orch.get_stats().resources.items()}


def facts(path, cls):
    """What a journal says of a kind of event."""
    with closing(SqliteJournal(path)) as journal:
        journal.claim()
        return [make(fact) for fact, _ in journal.read() if fact[0] is cls]


def test_a_new_life_has_the_pools_of_the_last_and_what_it_is_given_wins(path):
    with TaskOrchestrator(journal=path, resources={"cpu": 2, "gpu": 1}) as orch:
        assert totals(orch) == {"cpu": 2, "gpu": 1}
    with TaskOrchestrator(journal=path, resources={"cpu": 3}) as orch:
        assert totals(orch) == {"cpu": 3, "gpu": 1}
    with TaskOrchestrator(journal=path, resources={"cpu": 3}) as orch:
        assert totals(orch) == {"cpu": 3, "gpu": 1}
    told = [(each.totals, each.before) for each in facts(path, PoolsChanged)]
    assert told == [
        ((("cpu", 2_000_000), ("gpu", 1_000_000)), ()),
        ((("cpu", 3_000_000),), (("cpu", 2_000_000),)),
    ]


def test_what_has_become_too_large_waits_for_a_life_with_more(path):
    task = Task.call(pow, 2, 3, id="large", resources=Resources(cpu=4))
    orch = TaskOrchestrator(journal=path, resources={"cpu": 4})
    orch.submit_task(task)
    orch.stop(drain=False, timeout=0)
    with TaskOrchestrator(journal=path, resources={"cpu": 2}) as orch:
        assert not orch.explain("large").runnable
        assert "asks for 4 cpu, and the most there is" in str(orch.explain("large"))
    with TaskOrchestrator(journal=path, resources={"cpu": 4}) as orch:
        assert orch.handle("large").result(timeout=PATIENCE) == 8


def test_the_limit_of_a_phase_goes_once_no_task_needs_it(path):
    wf = Workflow("w")
    wf.phase("p", max_parallel=1).task(int, id="one")
    with TaskOrchestrator(journal=path, resources={"cpu": 1}) as orch:
        orch.workflows.start(wf, id="r").result(timeout=PATIENCE)
        assert totals(orch) == {"cpu": 1, "r/p:1": 1}
    with TaskOrchestrator(journal=path, resources={"cpu": 1}) as orch:
        assert totals(orch) == {"cpu": 1}


def test_the_limit_of_a_phase_is_a_fact(path):
    """It is there in the next life before any task is looked at."""
    wf = Workflow("w")
    wf.phase("p", max_parallel=1).task(int, id="one")
    orch = TaskOrchestrator(journal=path, resources={"cpu": 1})
    orch.workflows.start(wf, id="r")
    orch.stop(drain=False, timeout=0)
    orch = TaskOrchestrator(journal=path, resources={"cpu": 1})
    assert totals(orch) == {"cpu": 1, "r/p:1": 1}
    orch.stop(drain=False, timeout=0)
