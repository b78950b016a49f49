"""
Pools: how much there is, who has it, and what becomes of that in another incarnation.
"""

import asyncio
import threading
from contextlib import closing
from datetime import UTC, timedelta
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
from tests.api.tools import PATIENCE, eventually, pass_time

from taskorch import (
    InvalidTaskError,
    NotRunningError,
    Resources,
    Task,
    TaskOrchestrator,
    Workflow,
)
from taskorch.api import _aio
from taskorch.api.journal import SqliteJournal
from taskorch.core import resources as _resources
from taskorch.core.engine import _reports
from taskorch.errors import (
    AllocationError,
    ResourcesTakenError,
    UnsatisfiableError,
    WouldBlockError,
)
from taskorch.events import PoolsChanged, ResourcesReleased, make
from taskorch.model import Quota


@pytest.fixture
def path(tmp_path):
    return tmp_path / "runs.db"


def totals(orch):
    return {name: pool.total for name, pool in orch.get_stats().resources.items()}


def facts(path, cls):
    """What a journal says of a kind of event."""
    with closing(SqliteJournal(path)) as journal:
        journal.claim()
        return [make(event) for event, _ in journal.read() if event[0] is cls]


def test_a_new_incarnation_has_the_pools_of_the_last_and_what_it_is_given_wins(path):
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


def test_the_limit_of_a_phase_goes_once_no_task_needs_it(path):
    wf = Workflow("w")
    wf.phase("p", max_parallel=1).task(int, id="one")
    with TaskOrchestrator(journal=path, resources={"cpu": 1}) as orch:
        orch.workflows.start(wf, id="r").result(timeout=PATIENCE)
        assert totals(orch) == {"cpu": 1, "r/p:1": 1}
    with TaskOrchestrator(journal=path, resources={"cpu": 1}) as orch:
        assert totals(orch) == {"cpu": 1}


# -- how much there is ---------------------------------------------------------------


def holding(orch, **amounts):
    """A task that holds so much until its gate opens."""
    gate = threading.Event()
    task = Task.call(gate.wait, PATIENCE, resources=Resources(**amounts))
    handle = orch.submit_task(task)
    eventually(lambda: orch.get_task_status(handle.task_id).attempts == 1)
    return handle, gate


@pytest.fixture
def orch():
    with TaskOrchestrator(resources={"cpu": 4, "gpu": 1}) as made:
        yield made


def test_a_pool_grows_and_who_waits_starts(orch):
    _, gate = holding(orch, cpu=4)
    waits = orch.submit_task(Task.call(pow, 2, 3, resources={"cpu": 2}))
    orch.resources.resize(Resources(cpu=6))
    assert waits.result(timeout=PATIENCE) == 8
    gate.set()


def test_a_pool_shrinks_below_what_is_held(orch):
    _, gate = holding(orch, cpu=4)
    orch.resources.resize({"cpu": 1})
    usage = orch.resources.usage()["cpu"]
    assert (usage.total, usage.used, usage.free) == (1, 4, 0)
    waits = orch.submit_task(Task.call(pow, 2, 3, resources={"cpu": 1}))
    assert not waits.done()
    gate.set()
    assert waits.result(timeout=PATIENCE) == 8


def test_usage_says_who_holds_what(orch):
    handle, gate = holding(orch, cpu=1)
    orch.resources.allocate({"cpu": 2}, owner="ann", id="lab")
    usage = orch.resources.usage(holders=True)
    assert usage["cpu"].holders == {handle.task_id: 1, "allocation lab (of ann)": 2}
    said = f"3 of 4 in use ({handle.task_id}: 1, allocation lab (of ann): 2)"
    assert str(usage["cpu"]) == said
    assert (usage["gpu"].used, usage["gpu"].holders) == (0, {})
    assert str(orch.resources.usage()["gpu"]) == "0 of 1 in use"
    assert orch.resources.usage()["cpu"].holders == {}
    gate.set()


def test_what_was_resized_is_there_in_the_next_incarnation(path):
    with TaskOrchestrator(journal=path, resources={"cpu": 1}) as orch:
        orch.resources.resize({"cpu": 7, "gpu": 3})
    with TaskOrchestrator(journal=path, resources={"cpu": 1}) as orch:
        assert totals(orch) == {"cpu": 1, "gpu": 3}


# -- by hand -------------------------------------------------------------------------


def test_by_hand_and_in_a_block(orch):
    with orch.resources.allocate({"gpu": 1}, owner="ann") as lab:
        assert (lab.owner, lab.resources) == ("ann", Resources(gpu=1))
        assert lab.since.tzinfo is UTC
        waits = orch.submit_task(Task.call(pow, 2, 3, resources={"gpu": 1}))
        told = orch.explain(waits.task_id)
        assert f"allocation {lab.id} (of ann)" in str(told)
        (group,) = orch.stuck()
        assert (group.kind, group.tasks) == ("allocation", (waits.task_id,))
    assert waits.result(timeout=PATIENCE) == 8
    assert orch.resources.allocations() == []


def test_what_is_taken_is_refused_at_once_or_waited_for(orch):
    lab = orch.resources.allocate({"gpu": 1}, owner="ann", id="lab")
    for timeout in (0, 0.01):
        with pytest.raises(ResourcesTakenError) as caught:
            orch.resources.allocate({"gpu": 1}, owner="bob", timeout=timeout)
        assert (caught.value.resource, caught.value.free) == ("gpu", 0)
        assert caught.value.holders == ("allocation lab (of ann)",)
    found = []
    thread = threading.Thread(
        target=lambda: found.append(
            orch.resources.allocate({"gpu": 1}, owner="bob", timeout=None)
        )
    )
    thread.start()
    eventually(lambda: orch._rt.kernel.claims)
    lab.release()
    thread.join(PATIENCE)
    assert found[0].owner == "bob"


def test_more_than_there_is_is_refused_with_the_most_there_is(orch):
    with pytest.raises(UnsatisfiableError) as caught:
        orch.resources.allocate({"gpu": 2}, owner="ann", timeout=None)
    assert (caught.value.resource, caught.value.most) == ("gpu", 1)
    assert "resize({'gpu': 2})" in caught.value.hint
    with pytest.raises(UnsatisfiableError):
        orch.resources.allocate({"unicorn": 1}, owner="ann")
    with pytest.raises(InvalidTaskError):
        orch.resources.allocate({"gpu": 0}, owner="ann")


def test_it_is_released_once_and_by_its_tenant(orch):
    lab = orch.resources.allocate({"gpu": 1}, owner="ann", id="lab")
    with pytest.raises(AllocationError, match="is of 'ann', not of 'bob'"):
        orch.resources.release(lab, owner="bob")
    with pytest.raises(InvalidTaskError, match="owner"):
        orch.resources.release("lab")
    orch.resources.release("lab", owner="ann")
    with pytest.raises(AllocationError, match="there is no allocation 'lab'") as caught:
        lab.release()
    assert caught.value.allocation_id == "lab"
    assert "released before" in caught.value.hint


def test_the_same_again_is_what_there_is(orch):
    lab = orch.resources.allocate({"gpu": 1}, owner="ann", id="lab")
    again = orch.resources.allocate({"gpu": 1}, owner="ann", id="lab")
    assert (again.id, again.since) == (lab.id, lab.since)
    assert repr(again) == "<HeldResources 'lab', owner='ann', {'gpu': 1.0}>"
    with pytest.raises(AllocationError, match="'ann' holds"):
        orch.resources.allocate({"cpu": 1}, owner="ann", id="lab")


def test_who_has_held_for_long_is_listed(orch):
    orch.resources.allocate({"gpu": 1}, owner="ann")
    orch.resources.allocate({"cpu": 1}, owner="bob")
    tenants = [each.owner for each in orch.resources.allocations()]
    assert tenants == ["ann", "bob"]
    assert [each.owner for each in orch.resources.allocations(owner="bob")] == ["bob"]
    assert orch.resources.allocations(older_than=timedelta(hours=1)) == []


def test_health_names_a_leak_once_tasks_wait_for_it(orch, monkeypatch):
    assert "resources" not in [check.component for check in orch.health().checks]
    lab = orch.resources.allocate({"gpu": 1}, owner="ann", id="lab")
    orch.resources.allocate({"cpu": 1}, owner="bob")
    monkeypatch.setattr(_reports, "HELD_SECONDS", 0.0)
    (check,) = [each for each in orch.health().checks if each.component == "resources"]
    assert check.status == "ok"
    waits = orch.submit_task(Task.call(pow, 2, 3, resources={"gpu": 1}))
    eventually(lambda: orch.health().status == "degraded")
    (check,) = [each for each in orch.health().checks if each.component == "resources"]
    said = "allocation lab has been held by ann for 0.0 h, and tasks wait for gpu"
    assert check.detail == said
    now = orch._rt.now() + 1_000 * 3_600 * 10**9
    later: Any = SimpleNamespace(kernel=orch._rt.kernel, now=lambda: now)
    (check,) = _reports.held_for_long(later)
    assert check.detail == said.replace("0.0 h", "1000.0 h")
    lab.release()
    assert waits.result(timeout=PATIENCE) == 8


def test_who_has_held_for_an_hour_what_tasks_wait_for_is_named(orch):
    orch.resources.allocate({"gpu": 1}, owner="ann", id="lab")
    waits = orch.submit_task(Task.call(pow, 2, 3, resources={"gpu": 1}))
    eventually(lambda: "gpu" in str(orch.explain(waits.task_id)))

    def status() -> str:
        (check,) = [c for c in orch.health().checks if c.component == "resources"]
        return check.status

    pass_time(orch, 3_500)
    assert status() == "ok"
    pass_time(orch, 200)
    assert status() == "degraded"
    orch.resources.release("lab", owner="ann")


def test_it_survives_the_process_until_it_is_released(path):
    with TaskOrchestrator(journal=path, resources={"gpu": 1}) as orch:
        orch.resources.allocate({"gpu": 1}, owner="ann", id="lab")
    with TaskOrchestrator(journal=path, resources={"gpu": 1}) as orch:
        with pytest.raises(ResourcesTakenError):
            orch.resources.allocate({"gpu": 1}, owner="bob")
        # The script that took it is run again.
        orch.resources.allocate({"gpu": 1}, owner="ann", id="lab").release()
    with TaskOrchestrator(journal=path, resources={"gpu": 1}) as orch:
        assert orch.resources.allocations() == []
    (told,) = facts(path, ResourcesReleased)
    assert (told.owner, told.resources) == ("ann", (("gpu", 1_000_000),))


def test_who_waits_when_it_ends_is_told(orch):
    orch.resources.allocate({"gpu": 1}, owner="ann")
    found = []

    def wait():
        with pytest.raises(NotRunningError) as caught:
            orch.resources.allocate({"gpu": 1}, owner="bob", timeout=None)
        found.append(caught.value)

    thread = threading.Thread(target=wait)
    thread.start()
    eventually(lambda: orch._rt.kernel.claims)
    orch.stop()
    thread.join(PATIENCE)
    assert found
    with pytest.raises(NotRunningError):
        orch.resources.allocate({"gpu": 1}, owner="bob")


def test_who_is_interrupted_while_they_wait_takes_nothing(orch, monkeypatch):
    lab = orch.resources.allocate({"gpu": 1}, owner="ann")

    def interrupted(self, timeout=None):
        # It is granted in the very moment in which the wait is broken off.
        lab.release()
        raise KeyboardInterrupt

    monkeypatch.setattr(_resources.Latch, "wait", interrupted)
    with pytest.raises(KeyboardInterrupt):
        orch.resources.allocate({"gpu": 1}, owner="bob", timeout=None)
    assert orch.resources.usage()["gpu"].used == 0
    assert not orch._rt.kernel.claims


# -- for coroutines ------------------------------------------------------------------


@pytest.mark.parametrize("durable", [False, True])
def test_the_same_for_coroutines(path, durable):
    async def main():
        journal = path if durable else None
        async with TaskOrchestrator(journal=journal, resources={"gpu": 1}) as orch:
            resources = orch.aio.resources
            await resources.resize({"gpu": 2})
            lab = await resources.allocate({"gpu": 2}, owner="ann")
            with pytest.raises(WouldBlockError, match="block"):
                orch.resources.allocate({"gpu": 1}, owner="bob", timeout=None)
            waiting = asyncio.ensure_future(
                resources.allocate({"gpu": 1}, owner="bob", timeout=None)
            )
            called_off = asyncio.ensure_future(
                resources.allocate({"gpu": 1}, owner="eve", timeout=None)
            )
            claims = orch._rt.kernel.claims
            await asyncio.to_thread(eventually, lambda: len(claims) == 2)
            called_off.cancel()
            with pytest.raises(asyncio.CancelledError):
                await called_off
            usage = await resources.usage(holders=True)
            assert usage["gpu"].holders == {f"allocation {lab.id} (of ann)": 2}
            await resources.release(lab)
            assert (await waiting).owner == "bob"

            def is_bobs():
                return [held.owner for held in orch.resources.allocations()] == ["bob"]

            await asyncio.to_thread(eventually, is_bobs)
            (held,) = await resources.allocations(owner="bob")
            assert held.resources == Resources(gpu=1)

    asyncio.run(asyncio.wait_for(main(), PATIENCE))


def test_what_was_granted_too_late_is_let_go(orch):
    """The coroutine was cancelled after the grant, and before it was told."""

    async def main():
        lab = orch.resources.allocate({"gpu": 1}, owner="ann")
        future = asyncio.get_running_loop().create_future()
        future.set_result(lab)
        _aio._release_unwanted(future)
        gone = partial(eventually, lambda: not orch.resources.allocations())
        await asyncio.to_thread(gone)

    asyncio.run(asyncio.wait_for(main(), PATIENCE))


# -- quotas --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"type": "render", "owner": "ann"},
        {"type": 3},
        {"type": "a\nb"},
        {"type": "render", "max_parallel": -1},
        {"type": "render", "max_parallel": 1.5},
        {"type": "render", "max_parallel": True},
        {"type": "render", "resources": {"cpu": -1}},
        {"type": "render", "resources": {"tasks": 1}},
        {"type": "render", "resources": {"tasks": 0}},
        {"type": "render", "resources": {"burst": 1}},
        {"type": "render", "resources": {"starts_per_second": 0}},
        {"type": "render", "starts_per_second": 0},
        {"type": "render", "starts_per_second": -1},
        {"type": "render", "starts_per_second": 1e-9},
        {"type": "render", "starts_per_second": float("nan")},
        {"type": "render", "starts_per_second": float("inf")},
        {"type": "render", "starts_per_second": "2"},
        {"type": "render", "starts_per_second": True},
        {"type": "render", "starts_per_second": 1, "burst": 0},
        {"type": "render", "starts_per_second": 1, "burst": 1.5},
        {"type": "render", "starts_per_second": 1, "burst": True},
        {"type": "render", "starts_per_second": 1, "burst": 10**13},
        {"type": "render", "burst": 2},
    ],
)
def test_what_is_no_quota_is_refused(wrong):
    with pytest.raises(InvalidTaskError):
        Quota(**wrong)


def test_who_waits_for_a_token_of_hours_is_told_and_goes_on_when_it_may(orch):
    orch.resources.set_quotas(Quota(type="fetch", starts_per_second=1e-4))
    tasks = [Task.call(pow, 2, n, type="fetch") for n in range(3)]
    handles = orch.submit_tasks(tasks)
    assert handles[0].result(timeout=PATIENCE) == 1
    told = orch.explain(handles[2].task_id)
    assert "lets 0.0001 start in a second: the next may in" in str(told)
    assert not orch.stuck()
    assert not orch.wait(timeout=0.01)
    orch.resources.set_quotas(Quota(type="fetch"))
    assert [handle.result(timeout=PATIENCE) for handle in handles] == [1, 2, 4]


def test_only_quotas_are_set(orch):
    with pytest.raises(InvalidTaskError, match="takes quotas"):
        orch.resources.set_quotas("render")
    with pytest.raises(InvalidTaskError, match="a quota has no 'render'"):
        orch.resources.set_quotas({"render": 1})
    with pytest.raises(InvalidTaskError, match="no pool has a name"):
        orch.resources.resize({"quota:type=render:cpu": 1})


# -- saturation ----------------------------------------------------------------------


@pytest.fixture
def heard(orch):
    found = []
    for signal in (orch.signals.pool_saturated, orch.signals.pool_relieved):
        signal.connect(lambda event: found.append((type(event).__name__, event.pool)))
    return found


def test_limits_are_there_to_be_used_up(orch, heard):
    orch.resources.set_quotas(Quota(owner="ann", resources={"cpu": 1}))
    orch.resources.allocate({"cpu": 1}, owner="ann")
    wf = Workflow("w")
    wf.phase("p", max_parallel=1).task(int, id="one")
    orch.workflows.start(wf, id="r").result(timeout=PATIENCE)
    orch.wait()
    assert heard == []


def test_a_soft_quota_is_relieved_below_nine_tenths_of_it(orch):
    heard: list[str] = []
    for signal in (orch.signals.quota_exceeded, orch.signals.quota_relieved):
        signal.connect(lambda event: heard.append(type(event).__name__), weak=False)
    orch.resources.resize({"cpu": 40})
    orch.resources.set_quotas(Quota(owner="ann", resources={"cpu": 10}, soft=True))
    held = [
        orch.resources.allocate({"cpu": cpu}, owner="ann") for cpu in (8.9, 0.1, 1, 0.1)
    ]
    orch.wait()
    assert heard == ["QuotaExceeded"]
    for _ in range(2):  # 10 and 9 are in use
        held.pop().release()
        orch.wait()
        assert heard == ["QuotaExceeded"]
    held.pop().release()
    orch.wait()
    assert heard == ["QuotaExceeded", "QuotaRelieved"]


@pytest.mark.parametrize(
    "wrong", [(1.5,), (-1,), ("x",), (0.5, 0.5), (0.5, 2), (True,)]
)
def test_what_is_no_share_is_refused(orch, wrong):
    with pytest.raises(InvalidTaskError):
        orch.resources.set_saturation(*wrong)
