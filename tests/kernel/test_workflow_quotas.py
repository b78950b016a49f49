"""Quotas of runs of workflows."""

import pytest
from tests.kernel.harness import SEC, Policies, Twin
from tests.kernel.test_elastic import elastic, machine_of

from taskorch.kernel import Spec, take_snapshot
from taskorch.model import Quota, Resources, TaskState

ONE = Resources(cpu=1)


@pytest.fixture
def machine():
    return Twin(policies=Policies(rigid=True), pools=Resources(cpu=8), concurrency=8)


def quotas_of(machine, name):
    return [pool for pool, _ in machine.row(name).alloc if pool.startswith("quota:")]


def test_what_would_exceed_it_waits_and_other_runs_go_on(machine):
    machine.change_quotas(Quota(workflow="r", max_parallel=2, resources={"cpu": 3}))
    assert machine.submit_all("r/a", "r/b", "r/c", type="build") == ["r/a", "r/b"]
    others = ["r2/a", "build", "x/r/a"]
    assert machine.submit_all(*others, type="build") == others
    assert machine.end("build") == []
    assert machine.end("r/a") == ["r/c"]
    assert machine.submit("r/d", type="test", resources=Resources(cpu=4)) == []
    assert machine.why("r/d").blockers[0].detail == (
        "The quota of workflow 'r' is 3 cpu at once: 0 is in use, and it needs 4."
    )


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


def test_the_queue_keeps_its_order_when_tasks_move(machine):
    machine.allocate("lab", cpu=8)
    for number in range(4):
        machine.submit(f"r/{number}", type="build", resources=ONE)
        machine.submit(f"s/{number}", type="build", resources=ONE)
    machine.cancel("r/0")
    machine.suspend("r/1")
    machine.change_quotas(Quota(workflow="r", max_parallel=1))
    machine.resume("r/1")
    assert machine.release("lab") == ["s/0", "r/1", "s/1", "s/2", "s/3"]
    assert machine.end("r/1") == ["r/2"]
    assert machine.change_quotas(Quota(workflow="r")) == ["r/3"]


def test_with_quotas_of_a_type_and_an_owner_all_hold(machine):
    machine.change_quotas(
        Quota(workflow="r", max_parallel=3),
        Quota(owner="ann", max_parallel=2),
        Quota(type="build", max_parallel=1),
    )
    mine = {"owner": "ann"}
    assert machine.submit_all("r/a", "r/b", type="build", **mine) == ["r/a"]
    assert machine.submit_all("r/c", "r/d", type="test", **mine) == ["r/c"]
    assert machine.submit_all("r/e", "r/f", type="test") == ["r/e"]
    assert machine.end("r/c") == ["r/d"]


def test_a_soft_one_lets_other_runs_go_first(machine):
    machine.change_quotas(Quota(workflow="r", max_parallel=1, soft=True))
    machine.kernel.paused = True
    machine.submit_all("r/a", "r/b", "s/a", "s/b", type="build")
    machine.kernel.paused = False
    assert machine.settle() == ["r/a", "s/a", "s/b", "r/b"]
    assert machine.kernel.workflows == {"r": None}


def test_a_rate_of_a_run(machine):
    machine.change_quotas(Quota(workflow="r", starts_per_second=1))
    assert machine.submit_all("r/a", "r/b", "s/a", type="fetch") == ["r/a", "s/a"]
    assert machine.why("r/b").blockers[0].detail.startswith("The quota of workflow 'r'")
    assert machine.after(SEC) == ["r/b"]


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


def test_what_a_leaked_attempt_holds_counts(machine):
    machine.submit("r/a", type="build", resources=ONE)
    machine.cancel("r/a")
    machine.after(10 * SEC)
    machine.change_quotas(Quota(workflow="r", resources={"cpu": 1}))
    assert machine.submit("r/b", type="build", resources=ONE) == []
    assert machine.end("r/a", attempt=1) == ["r/b"]


def test_of_elastic_requests_a_part_is_granted():
    machine = machine_of(cpu=8)
    machine.submit("r/a", type="fit", resources=elastic(cpu=4))
    machine.change_quotas(Quota(workflow="r", resources={"cpu": 5}))
    machine.submit("r/b", type="fit", resources=elastic(cpu=4))
    held = [dict(machine.row(name).alloc)["cpu"] for name in ("r/a", "r/b")]
    assert held == [4_000_000, 1_000_000]
    machine.change_quotas(Quota(workflow="r"))
    machine.checkpoint("r/b")
    assert dict(machine.row("r/b").alloc)["cpu"] == 4_000_000


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
