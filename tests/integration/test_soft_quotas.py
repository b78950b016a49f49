"""Soft quotas as a user meets them: who comes last, what is said of it, other lives."""

import threading

import pytest
from tests.integration.tools import PATIENCE, eventually

from taskorch import InvalidTaskError, Task, TaskOrchestrator
from taskorch.model import Quota, Resources

SOFT = Quota(type="sweep", max_parallel=0, soft=True)


@pytest.fixture
def gate():
    opened = threading.Event()
    yield opened
    opened.set()


def sweep(name, fn, *args):
    return Task.call(fn, *args, id=name, type="sweep")


def test_who_is_above_runs_when_nobody_else_wants_the_slot(gate):
    order, started = [], threading.Event()
    with TaskOrchestrator(concurrency=1) as orch:
        orch.resources.set_quotas(SOFT)
        # Nobody else is there, so it runs.
        orch.submit_task(sweep("s0", lambda: (started.set(), gate.wait())))
        started.wait(PATIENCE)
        sweeps = [sweep(f"s{n}", order.append, f"s{n}") for n in (1, 2)]
        calls = [Task.call(order.append, f"c{n}", id=f"c{n}") for n in range(3)]
        handles = orch.submit_tasks([*sweeps, *calls])
        told = str(orch.explain("s1"))
        assert "The soft quota of type 'sweep' is 0 tasks at once: 1 is in use" in told
        (usage,) = orch.resources.quotas()
        assert (usage.quota, usage.running) == (SOFT, 1)
        gate.set()
        for handle in handles:
            handle.result(timeout=PATIENCE)
    assert order == ["c0", "c1", "c2", "s1", "s2"]


def test_it_is_said_once_when_it_is_exceeded_and_when_that_is_over():
    heard = []
    with TaskOrchestrator(resources={"cpu": 20}) as orch:
        for signal in (orch.signals.quota_exceeded, orch.signals.quota_relieved):
            signal.connect(heard.append)
        quota = Quota(owner="ann", resources={"cpu": 10}, soft=True)
        orch.resources.set_quotas(quota)
        ten = orch.resources.allocate({"cpu": 9}, owner="ann")
        orch.resources.allocate({"cpu": 1}, owner="ann")
        orch.wait()
        assert heard == []
        # What hovers around it is no news.
        for _ in range(3):
            with orch.resources.allocate({"cpu": 1}, owner="ann"):
                pass
        orch.wait()
        ten.release()
        orch.wait()
        eventually(lambda: len(heard) == 2)
    said = [(type(e).__name__, e.kind, e.subject, e.resource) for e in heard]
    assert said == [
        ("QuotaExceeded", "owner", "ann", "cpu"),
        ("QuotaRelieved", "owner", "ann", "cpu"),
    ]
    assert [(e.used, e.limit) for e in heard] == [
        (11_000_000, 10_000_000),
        (1_000_000, 10_000_000),
    ]


def test_it_is_there_in_the_next_life(tmp_path):
    path = tmp_path / "runs.db"
    both = [
        Quota(type="sweep", max_parallel=4, starts_per_second=2, burst=9),
        Quota(type="sweep", max_parallel=1, resources={"cpu": 2}, soft=True),
    ]
    with TaskOrchestrator(journal=path) as orch:
        orch.resources.set_quotas(*both)
    with TaskOrchestrator(journal=path) as orch:
        assert [usage.quota for usage in orch.resources.quotas()] == both
        # Each is lifted by itself.
        orch.resources.set_quotas(Quota(type="sweep", soft=True))
        assert [usage.quota for usage in orch.resources.quotas()] == both[:1]


def test_a_simulated_plan_knows_it():
    orch = TaskOrchestrator(concurrency=1, resources={"cpu": 1})
    sweeps = [sweep(f"s{n}", pow, 2, n) for n in range(3)]
    calls = [Task.call(pow, 2, n, id=f"c{n}") for n in range(3)]
    orch.resources.set_quotas(Quota(type="sweep", max_parallel=0, soft=True))
    report = orch.simulate([*sweeps, *calls], 1.0)
    assert report.makespan == 6
    assert [one.task_id for one in report.schedule] == [
        "c0",
        "c1",
        "c2",
        "s0",
        "s1",
        "s2",
    ]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"soft": 1}, "soft is True or False, not 1"),
        ({"soft": True, "starts_per_second": 2}, "a rate cannot be soft"),
    ],
)
def test_what_is_no_soft_quota_is_refused(wrong, said):
    with pytest.raises(InvalidTaskError, match=said):
        Quota(type="sweep", **wrong)


def test_as_a_value():
    quota = Quota(owner="ann", resources=Resources(cpu=2), max_parallel=3, soft=True)
    assert quota.subject == ("soft owner", "ann")
    assert Quota.of_limits(quota.subject, quota.limits) == quota
