"""Runs, and many tasks, are paused, resumed, cancelled and run again."""

import threading
from pathlib import Path

import pytest
from tests.api.tools import PATIENCE, Hold, in_loop, pass_time
from tests.core.workflows.functions import add, step, zero

from taskorch import (
    InvalidTaskError,
    NotRunningError,
    Task,
    TaskOrchestrator,
    TaskState,
    UnknownTaskError,
    Workflow,
    current_context,
)
from taskorch.errors import WouldBlockError


@pytest.fixture
def orch():
    orch = TaskOrchestrator(concurrency=4)
    orch.start()
    yield orch
    orch.stop(drain=False)


def later(name: str) -> Workflow:
    """Three tasks that wait for an hour."""
    wf = Workflow(name)
    for n in "abc":
        wf.task(step, n, id=n, not_before=3600)
    return wf


def states(run) -> set[str]:
    return {str(state) for state in run.status().tasks.values()}


# ---------------------------------------------------------------------- pausing


def test_a_pause_says_when_what_was_running_has_drained(orch):
    """Pausing while something still runs, paused once it has reached its checkpoint."""
    began, go = threading.Event(), threading.Event()

    def work() -> int:
        began.set()
        assert go.wait(PATIENCE)
        current_context().checkpoint()
        return 1

    wf = Workflow("w")
    a = wf.task(work, id="a")
    wf.task(add, a, 1, id="b")
    run = orch.workflows.start(wf, id="x")
    assert began.wait(PATIENCE)
    assert run.status().pause == ""

    assert orch.workflows.pause("x")

    status = run.status()
    assert status.pause == "pausing"
    assert str(status).startswith("x is pausing, 1 still running: 0 of 2 tasks")
    assert run.wait_paused(0) is False
    assert run.wait_paused(0.01) is False
    go.set()
    assert run.wait_paused(PATIENCE)
    assert run.status().pause == "paused"
    assert str(run.status()).startswith("x is paused: ")
    assert orch.workflows.resume("x")
    assert run.result(PATIENCE) == {"a": 1, "b": 2}
    assert run.status().pause == ""
    assert not orch.workflows.pause("x")
    assert run.wait_paused()


def test_many_runs_by_a_pattern(orch):
    runs = {i: orch.workflows.start(later("w"), id=i) for i in ("n-1", "n-2", "d-1")}
    orch.submit_task(Task.call(zero, id="other/a", not_before=3600))

    assert orch.workflows.pause("n-*")
    assert [run.status().pause for run in runs.values()] == ["paused", "paused", ""]
    assert orch.workflows.pause("*")
    assert {run.status().pause for run in runs.values()} == {"paused"}
    assert orch.get_task_status("other/a").state is TaskState.PENDING
    assert orch.workflows.resume("[nx]-[12]")
    assert states(runs["n-1"]) == {"pending"}
    assert states(runs["d-1"]) == {"suspended"}
    assert orch.workflows.cancel("d-*")
    assert states(runs["d-1"]) == {"cancelled"}
    assert not orch.workflows.cancel("d-*")
    assert not orch.workflows.pause("nothing-*")
    assert [run.workflow_id for run in orch.workflows.find("n*")] == ["n-1", "n-2"]
    with pytest.raises(InvalidTaskError):
        orch.workflows.find(1)


def test_a_part_of_a_run_by_its_name(orch):
    """What was included is a part, however deep; so is one task."""
    inner = Workflow("inner")
    inner.include(later("leaf"))
    wf = Workflow("w")
    wf.include(inner, name="left")
    wf.include(inner, name="right")
    wf.task(zero, id="leftover", not_before=3600)
    run = orch.workflows.start(wf, id="x")

    assert orch.workflows.pause("x/left")
    assert run.status().counts == {TaskState.SUSPENDED: 3, TaskState.PENDING: 4}
    assert run.status().pause == ""
    assert orch.workflows.cancel("x/right/leaf/a")
    assert orch.workflows.cancel("x/*/leaf/b")
    assert run.status().counts == {
        TaskState.PENDING: 2,
        TaskState.SUSPENDED: 2,
        TaskState.CANCELLED: 3,
    }
    assert orch.workflows.resume("x")
    assert run.status().counts[TaskState.PENDING] == 4
    for unknown in ("x/lef", "y", "y/left", "y/"):
        with pytest.raises(UnknownTaskError):
            orch.workflows.pause(unknown)


def test_a_phase_is_a_part_of_its_run(orch):
    """With its gate, and with what is added to it meanwhile."""
    hold = Hold()

    def adder() -> None:
        hold()
        run = current_context().workflow
        assert run is not None
        run.task(zero, id="added")

    wf = Workflow("w")
    one = wf.phase("one")
    one.task(zero, id="a", not_before=3600)
    one.task(adder, id="adder")
    wf.phase("two").task(zero, id="b")
    run = orch.workflows.start(wf, id="x")
    hold.wait()
    assert orch.workflows.pause("x/one")
    assert run.status().tasks["a"] is TaskState.SUSPENDED
    assert run.status().tasks["b"] is TaskState.PENDING
    hold.release()
    assert run.handles["adder"].result(PATIENCE) is None
    assert run.status().tasks["added"] is TaskState.SUSPENDED
    assert orch.workflows.resume("*/o?e")
    assert run.handles["added"].result(PATIENCE) == 0
    assert orch.workflows.cancel("x/two")
    assert run.status().counts[TaskState.CANCELLED] == 2


def test_what_was_put_aside_by_hand_is_no_pause(tmp_path: Path):
    with TaskOrchestrator(journal=tmp_path / "runs.db", durability="process") as orch:
        orch.workflows.start(later("w"), id="x")
        orch.suspend_task("x/a")
        orch.stop(timeout=0)
    with TaskOrchestrator(journal=tmp_path / "runs.db", durability="process") as orch:
        assert orch.workflows.status("x").pause == ""
        assert orch.workflows.cancel("x")


def test_a_pause_outlives_the_process(tmp_path: Path):
    with TaskOrchestrator(journal=tmp_path / "runs.db", durability="process") as orch:
        orch.workflows.start(later("w"), id="x")
        orch.workflows.pause("x")
    with TaskOrchestrator(journal=tmp_path / "runs.db", durability="process") as orch:
        assert [run.workflow_id for run in orch.workflows.find()] == ["x"]
        assert states(orch.workflows.get("x")) == {"suspended"}
        assert orch.workflows.status("x").pause == "paused"
        assert orch.workflows.resume("*")
        assert orch.workflows.status("x").pause == ""
        assert states(orch.workflows.get("x")) == {"pending"}
        assert orch.workflows.cancel("x")


@in_loop
async def test_waiting_for_the_pause_on_a_loop():
    hold = Hold()
    async with TaskOrchestrator() as orch:
        aio = orch.aio.workflows
        wf = Workflow("w")
        wf.task(hold, 1, id="a")
        run = await aio.start(wf, id="x", max_added=3)
        hold.wait()
        await aio.pause("x")
        with pytest.raises(WouldBlockError, match="wait_paused"):
            run.wait_paused()
        assert not await aio.wait_paused("x", 0.01)
        hold.release()
        assert await aio.wait_paused("x")
        assert await aio.find("y*") == []
        assert await orch.aio.change_tasks("cancel") == []


# ------------------------------------------------------------------- many tasks


def test_the_same_for_many_tasks(orch):
    orch.workflows.start(later("w"), id="x")
    orch.workflows.start(later("w"), id="y")
    change = orch.change_tasks

    assert sorted(change("suspend", ids="x/*")) == ["x/a", "x/b", "x/c"]
    assert change("suspend", ids="x/*") == []
    assert change("resume", state="suspended", ids="*/a") == ["x/a"]
    assert len(change("set_priority", priority=5, state=TaskState.PENDING)) == 4
    assert orch.get_task_status("y/b").priority == 5
    assert change("cancel", type="step", older_than=3600) == []
    assert change("cancel", type="nothing") == []
    # All of them have been there for longer than no time.
    assert change("set_priority", type="step", priority=1, older_than=0) != []
    assert len(change("cancel", type="step")) == 6
    assert change("cancel") == []
    assert sorted(change("rerun", ids="x/[ab]")) == ["x/a", "x/b"]
    assert change("rerun", ids="x/[ab]") == []
    assert orch.get_task_status("x/a~2").state is TaskState.PENDING
    assert len(change("cancel")) == 2


def test_those_that_were_run_again_are_not_run_again_by_many(orch):
    """What has only completed is: one of many makes no difference to the others."""
    wf = Workflow("w")
    wf.task(step, "a", id="a")
    wf.task(step, "b", id="b")
    orch.workflows.start(wf, id="x").result(PATIENCE)
    assert orch.change_tasks("rerun", ids="x/a") == ["x/a"]
    assert orch.change_tasks("rerun", ids="x/[ab]") == ["x/b"]
    assert orch.change_tasks("rerun", ids="x/[ab]") == []


def test_after_the_stop_nothing_is_run_again(orch):
    orch.submit(zero).result(PATIENCE)
    orch.stop()
    with pytest.raises(NotRunningError, match="has stopped"):
        orch.change_tasks("rerun")


@pytest.mark.parametrize("part", ["part", "part/*", "p?rt", "[p]art", "*t"])
def test_a_pattern_is_of_a_name_and_of_what_is_below_it(orch, part):
    wf = Workflow("w")
    for name in ("part/one", "part/two", "other/one"):
        wf.task(step, name, id=name, not_before=3600)
    run = orch.workflows.start(wf, id="x")
    orch.workflows.pause(f"x/{part}")
    found = run.status().tasks
    assert [name for name in found if found[name] is TaskState.SUSPENDED] == [
        "part/one",
        "part/two",
    ]
    orch.workflows.cancel("x")


def test_misuse_of_many(orch):
    for action, which in (
        ("remove", {}),
        ("cancel", {"state": "gone"}),
        ("cancel", {"ids": 1}),
        ("cancel", {"type": 1}),
        ("cancel", {"older_than": -1}),
        ("cancel", {"priority": 1}),
        ("set_priority", {}),
        ("set_priority", {"priority": "high"}),
    ):
        with pytest.raises(InvalidTaskError):
            orch.change_tasks(action, **which)


# ---------------------------------------------------------------------- finding


# -------------------------------------------------------------------- estimates


def measured(orch, kind: str, seconds: float) -> None:
    """As if attempts of a type had taken so long."""
    row = orch._rt.kernel.type_row(kind)
    row.samples.append((0, 0, 0, int(seconds * 1e9)))


def test_an_estimate_of_the_time_that_is_left():
    """The longest chain, or all work shared by the slots: whichever is longer."""
    with TaskOrchestrator(concurrency=2, stop_timeout=5) as orch:
        measured(orch, "step", 100)
        measured(orch, "slow", 4_000)
        wf = Workflow("w")
        wf.chain(*[wf.task(step, n, id=n, not_before=3600) for n in "abc"])
        run = orch.workflows.start(wf, id="chain")
        assert run.status().eta == pytest.approx(300)
        assert str(run.status()).endswith(" About 5 min left, by estimate.")
        for n in range(9):
            wf.task(step, n, id=f"beside{n}", not_before=3600)
        wide = orch.workflows.start(wf, id="wide")
        assert wide.status().eta == pytest.approx(600)
        wf.task(zero, id="slow", type="slow", not_before=3600)
        slow = orch.workflows.start(wf, id="slow")
        assert str(slow.status()).endswith(" About 1 h 7 min left, by estimate.")
        wf.task(zero, id="unknown", type="unknown", not_before=3600)
        unknown = orch.workflows.start(wf, id="unknown").status()
        assert unknown.eta is None
        assert unknown.eta_unknown == "no task of type 'unknown' has completed yet"
        orch.workflows.pause("wide")
        assert wide.status().eta is None
        assert wide.status().eta_unknown.endswith(" is suspended")
        orch.workflows.cancel("*")


def test_the_longest_of_several_ways_decides(orch):
    measured(orch, "short", 1)
    measured(orch, "long", 1_000)
    wf = Workflow("w")
    late = {"not_before": 3600}
    parents = [wf.task(zero, id=n, type=n, **late) for n in ("short", "long")]
    wf.gather(parents, id="join", type="short", **late)
    run = orch.workflows.start(wf)
    assert run.status().eta == pytest.approx(1_001)
    orch.workflows.cancel("*")


def test_what_runs_has_less_left(orch):
    hold = Hold()
    wf = Workflow("w")
    wf.task(hold, id="a", type="held")
    wf.gather([wf["a"]], id="b")
    measured(orch, "held", 1_000)
    run = orch.workflows.start(wf)
    hold.wait()
    pass_time(orch, 400)
    assert 0 < run.status().eta <= 600
    pass_time(orch, 1_000)
    assert run.status().eta == 0
    hold.release()
    run.result(PATIENCE)
    assert run.status().eta == 0
    assert "estimate" not in str(run.status())
