"""Quotas of runs of workflows."""

import pytest
from tests.kernel.harness import Policies, Twin

from taskorch.kernel import Spec, take_snapshot
from taskorch.model import Quota, Resources, TaskState

ONE = Resources(cpu=1)


@pytest.fixture
def machine():
    return Twin(policies=Policies(rigid=True), pools=Resources(cpu=8), concurrency=8)


def quotas_of(machine, name):
    return [pool for pool, _ in machine.row(name).alloc if pool.startswith("quota:")]


def test_it_is_set_changed_and_lifted_while_the_run_goes_on(machine):
    machine.submit_all("r/a", "r/b", "r/c", "s/a", type="build", resources=ONE)
    machine.submit("r/late", type="build", after=["r/a"])
    machine.change_quotas(Quota(workflow="r", max_parallel=2))
    assert quotas_of(machine, "r/a") == ["quota:workflow=r:tasks"]
    assert quotas_of(machine, "s/a") == []
    assert machine.submit("r/d", type="build", resources=ONE) == []
    assert machine.end("r/a") == []
    # It was moved before its parent had ended.
    assert machine.end("r/b") == ["r/late"]
    assert machine.row("r/late").bucket.spec.workflow == "r"
    assert machine.change_quotas(Quota(workflow="r")) == ["r/d"]
    assert quotas_of(machine, "r/c") == []
    assert machine.row("r/late").bucket.spec.workflow is None
    assert machine.kernel.workflows == {}


def test_a_soft_one_lets_other_runs_go_first(machine):
    machine.change_quotas(Quota(workflow="r", max_parallel=1, soft=True))
    machine.kernel.paused = True
    machine.submit_all("r/a", "r/b", "s/a", "s/b", type="build")
    machine.kernel.paused = False
    assert machine.settle() == ["r/a", "s/a", "s/b", "r/b"]
    assert machine.kernel.workflows == {"r": None}


def test_other_options_a_re_run_and_a_retry_leave_it_in_its_run(machine):
    machine.change_quotas(Quota(workflow="r", max_parallel=1))
    machine.submit_all("r/a", "r/b", type="build")
    machine.change("r/b", resources=ONE)
    assert machine.row("r/b").bucket.spec.workflow == "r"
    assert machine.end("r/a") == ["r/b"]
    again = machine.rerun("r/a")
    assert machine.state(again) is TaskState.QUEUED
    assert machine.row(again).bucket.spec.workflow == "r"
    assert machine.end("r/b") == [again]


def test_later_lives_know_it(machine):
    machine.change_quotas(Quota(workflow="r", max_parallel=1))
    machine.submit_all("r/a", "r/b", "s/a", type="build", resources=ONE)
    machine.restart()
    assert machine.reopen() == ["r/a", "s/a"]
    assert machine.row("r/b").bucket.spec.workflow == "r"
    assert machine.end("r/a") == ["r/b"]
    told = take_snapshot(machine.kernel, machine.now)
    assert told["quotas"] == [["workflow", "r", [["tasks", 1_000_000]]]]


def test_a_task_that_only_looks_like_one_of_the_run_is_not_bounded(machine):
    machine.change_quotas(Quota(workflow="r", max_parallel=1))
    kernel = machine.kernel
    assert machine.submit_all("r/a", "r/b", type="build") == ["r/a"]
    kernel.submit("r/alone", kernel.bucket(Spec("build")), None, machine.now)
    kernel.submit("other", kernel.bucket(Spec("build")), None, machine.now, run="r")
    assert machine.settle() == ["r/alone"]
    assert machine.end("r/a") == ["r/b"]
    assert machine.end("r/b") == ["other"]
