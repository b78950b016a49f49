"""
Runs of workflows in a simulated world.

`orch.workflows` itself runs there, over crashes, and what becomes of a run is held
against a second opinion: what its plan alone says.
"""

import pytest
from tests.house.tools import workflow_runs as runs
from tests.house.tools.explore import explore, find_failure
from tests.house.tools.opinion import ScriptedWorkflow

from taskorch import Approval, NotRunningError, TaskState, Workflow, current_context
from taskorch.errors import UsageError, WouldDeadlockError
from taskorch.events import TaskParentsAdded, TaskStarted, TaskSuspended
from taskorch.testing import Breach, Faults, Outcome, Simulation

LONG = Outcome(2.0, calls=True)


def one() -> int:
    return 1


def add(*values: int) -> int:
    return sum(values)


def adds() -> str:
    return current_context().workflow.task(one, id="extra", type="long").task_id


def build() -> Workflow:
    wf = Workflow("w")
    first = wf.phase("first", max_parallel=1, gate=Approval())
    x = first.task(one, id="x", type="long")
    y = first.task(one, id="y", type="long")
    first.task(add, x, y, id="sum", type="long")
    wf.phase("second").task(adds, id="adder", type="long")
    return wf


@pytest.fixture
def simulation() -> Simulation:
    made = Simulation(1)
    made.work("long", LONG)
    return made


@pytest.mark.slow("160 random runs")
@pytest.mark.parametrize("block", range(8))
def test_random_runs_become_what_their_plans_say(block):
    """With pauses, decisions, restarts, added tasks, and crashes at any event."""
    for seed in range(20 * block, 20 * (block + 1)):
        explore(seed, 30, workflows=True)


@pytest.mark.slow("forty random runs")
def test_the_random_runs_do_all_that_they_are_to_try():
    """Refusals are borne in silence: so each kind of thing must happen somewhere."""
    found = [explore(seed, 30, workflows=True) for seed in range(40)]
    kinds = {kind for run in found for kind in run.schedule.kinds()}
    assert kinds >= {"start", "pause", "resume", "decide", "restart", "look", "crash"}
    events = {type(event) for run in found for event in run.events}
    assert events >= {TaskParentsAdded, TaskSuspended}
    ids = {e.task_id for run in found for e in run.events if isinstance(e, TaskStarted)}
    assert any("~3" in task_id for task_id in ids)
    assert any("/t0a/" in task_id for task_id in ids)
    assert sum(run.world.crashes for run in found) > 5


def test_a_run_is_the_same_run_byte_for_byte():
    assert explore(6, workflows=True).trace() == explore(6, workflows=True).trace()


def test_what_goes_wrong_is_told_with_the_few_things_that_it_takes(monkeypatch):
    """A plan that says of each task that it completes is soon wrong."""

    def hopeful(plan: ScriptedWorkflow, known: object) -> dict[str, TaskState]:
        return {
            name: TaskState.COMPLETED
            for phase in plan.phases
            for name in (*(task.name for task in phase.tasks), f"{phase.name}/gate")
        }

    monkeypatch.setattr(runs, "predict", hopeful)
    found = next(filter(None, (find_failure(s, 8, workflows=True) for s in range(9))))
    assert "Breach: verdict" in found.error
    assert "workflows=True, keep={" in str(found)
    names = [hit.name for hit in found.schedule.hits]
    with pytest.raises(Breach, match="verdict"):
        explore(found.seed, 8, keep=names, workflows=True)


# -- by hand ---------------------------------------------------------------------------


def test_a_workflow_runs_in_virtual_time(simulation):
    """Its limit, its gate, its approval and what its tasks add are those of a real run."""
    run = simulation.workflows.start(build(), id="r")
    with pytest.raises(WouldDeadlockError, match="nothing proceeds by itself"):
        run.result()
    assert simulation.now == 6.0
    assert run.status().asks == ("first/approval",)
    assert simulation.workflows.approve("r", "first", by="ann")
    results = run.result()
    assert (results["sum"], results["adder"], results["extra"]) == (2, "r/extra", 1)
    assert simulation.now == 10.0
    simulation.check()


def test_a_run_goes_on_after_a_crash(simulation):
    run = simulation.workflows.start(build(), id="r")
    simulation.run(until=3.0)
    simulation.crash()
    with pytest.raises(NotRunningError, match="it has crashed"):
        run.result()
    simulation.run()
    # Whoever had it before the crash has a run of an incarnation that is over.
    with pytest.raises(
        NotRunningError, match="this incarnation of the orchestrator is over"
    ):
        run.result()
    workflows = simulation.workflows
    assert workflows.approve("r", "first", by="ann")
    assert workflows.get("r").result()["extra"] == 1
    starts = [e for e in simulation.events if isinstance(e, TaskStarted)]
    assert [e.task_id for e in starts].count("r/y") == 2
    assert [e.task_id for e in starts].count("r/x") == 1
    simulation.check()


def test_a_gate_that_asks_about_what_is_blocked_no_longer_asks_again(simulation):
    """The phase before it has failed, and is run again meanwhile."""

    def fails_once() -> None:
        assert "~2" in current_context().task_id

    wf = Workflow("w")
    wf.phase("first").task(fails_once, id="a", type="long")
    wf.phase("second", on_failure="continue").task(one, id="b", type="long")
    simulation.work("gate", LONG)
    run = simulation.workflows.start(wf, id="r")
    simulation.run(until=3.0)
    status = run.status()
    assert status.tasks["second/gate"] is TaskState.RUNNING
    assert status.tasks["b"] is TaskState.BLOCKED
    simulation.workflows.restart("r")
    assert run.result()["b"] == 1
    assert run.handles["second/gate"].task_id == "r/second/gate~2"
    simulation.check()


def test_a_wait_has_no_timeout(simulation):
    run = simulation.workflows.start(build(), id="r")
    with pytest.raises(UsageError, match="has no timeout"):
        run.result(timeout=3.0)


def test_a_task_is_told_what_it_is_part_of(simulation):
    """A function that is called in a simulation has its context."""
    seen = []

    def look() -> None:
        context = current_context()
        seen.append((context.task_id, context.attempt, context.workflow.workflow_id))

    wf = Workflow("w")
    wf.task(look, id="look")
    simulation.workflows.start(wf, id="r").result()
    assert seen == [("r/look", 1, "r")]


def test_a_crash_in_the_step_of_a_caller_is_told_to_it():
    """It does not know what is kept, and asks the next incarnation."""
    simulation = Simulation(1, faults=Faults(crash=1.0))
    wf = Workflow("w")
    wf.task(one, id="one")
    with pytest.raises(NotRunningError):
        simulation.workflows.start(wf, id="r")
    assert not simulation.is_up
    simulation.nature.on = False
    simulation.run()
    assert simulation.workflows.start(wf, id="r").result() == {"one": 1}
