"""Quotas of runs of workflows, as a user meets them."""

import threading

import pytest
from tests.api.tools import PATIENCE, eventually

from taskorch import InvalidTaskError, Task, TaskOrchestrator, Workflow
from taskorch.model import Quota

BOUND = Quota(workflow="night", max_parallel=1)


class Crowd:
    """Counts how many are in it at once, until it may end."""

    def __init__(self):
        self.lock = threading.Lock()
        self.now = self.most = 0
        self.gate = threading.Event()

    def enter(self, name):
        with self.lock:
            self.now += 1
            self.most = max(self.most, self.now)
        self.gate.wait(PATIENCE)
        with self.lock:
            self.now -= 1
        return name


def workflow(crowd, many=3):
    wf = Workflow("build")
    for number in range(many):
        wf.task(crowd.enter, number, id=f"part{number}")
    return wf


def test_one_run_is_bounded_and_another_of_the_same_workflow_is_not():
    night, day = Crowd(), Crowd()
    with TaskOrchestrator(concurrency=8) as orch:
        # Before the run is there.
        orch.resources.set_quotas(BOUND)
        bounded = orch.workflows.start(workflow(night), id="night")
        free = orch.workflows.start(workflow(day), id="day")
        eventually(lambda: day.now == 3 and night.now == 1)
        told = str(orch.explain("night/part2"))
        assert "The quota of workflow 'night' is 1 task at once: 1 is in use" in told
        assert "night/part0" in told
        (usage,) = orch.resources.quotas()
        assert (usage.quota, usage.running) == (BOUND, 1)
        # It is raised while the run goes on.
        orch.resources.set_quotas(Quota(workflow="night", max_parallel=2))
        eventually(lambda: night.now == 2)
        for crowd in (night, day):
            crowd.gate.set()
        for run in (bounded, free):
            run.result(timeout=PATIENCE)
    assert (night.most, day.most) == (2, 3)


def test_a_simulation_bounds_no_task_by_its_id():
    """As in a run: what is submitted alone is of no run, whatever its id."""
    orch = TaskOrchestrator(concurrency=8)
    orch.resources.set_quotas(BOUND, Quota(type="slow", max_parallel=1))
    own = [Task.call(pow, 2, n, id=f"night/own{n}") for n in range(3)]
    report = orch.simulate(own, 10)
    assert report.makespan == 10
    assert "The quotas of runs, night, bound nothing" in str(report)
    slow = [Task.call(pow, 2, n, id=f"night/{n}", type="slow") for n in range(3)]
    assert orch.simulate(slow, 10).makespan == 30


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"workflow": "night/part0"}, "the id of a run has no slash"),
        ({"workflow": "night", "type": "call"}, "give one of the three"),
        ({"workflow": 3}, "the workflow that the quota is for"),
        ({}, "give one of the three"),
    ],
)
def test_what_is_no_quota_of_a_run_is_refused(wrong, said):
    with pytest.raises(InvalidTaskError, match=said):
        Quota(**wrong)
