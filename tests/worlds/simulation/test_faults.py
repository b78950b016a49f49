"""Each kind of fault happens, is on the schedule, and breaks no promise."""

import os
import subprocess
import sys
from random import Random

import attrs
import pytest
from tests.house.tools.examples import seeds
from tests.house.tools.explore import explore

from taskorch.errors import InternalError
from taskorch.events import AgentLost, LateResultIgnored, TaskRetrying
from taskorch.model import Program, RetryPolicy, Task, TaskState
from taskorch.testing import Faults, Outcome, Simulation
from taskorch.testing._faults import KINDS, Dice

S = TaskState


def workload(simulation):
    """Twenty tasks on workers of both kinds, in two waves."""
    simulation.agent("near", capabilities={"x"}, max_concurrency=2)
    simulation.agent("far", capabilities={"x"}, max_concurrency=2, lease=2.0)
    simulation.work("x", lambda task, attempt, random: 2 * random.random())
    for wave in range(2):
        tasks = [
            Task("x", id=f"{'ab'[wave]}{n}", retry=RetryPolicy(5)) for n in range(10)
        ]
        simulation.at(5.0 * wave, lambda tasks=tasks: simulation.submit_tasks(tasks))
    return simulation


def ended(simulation):
    return {status.task_id: status.state for status in simulation.tasks()}


ALL_WELL = {f"{wave}{n}": S.COMPLETED for wave in "ab" for n in range(10)}


@pytest.mark.parametrize("rate", [-0.1, 1.5, "often", None])
def test_a_rate_is_a_probability(rate):
    with pytest.raises(ValueError, match="lose"):
        Faults(lose=rate)


def test_no_faults_are_no_faults():
    simulation = workload(Simulation(faults=Faults.none())).run()
    assert len(simulation.schedule) == 0
    assert ended(simulation) == ALL_WELL


def test_all_faults_are_all_of_them():
    faults = Faults.all()
    assert all(getattr(faults, kind) > 0 for kind in KINDS)


def test_some_faults_are_about_half_of_them():
    """Each kind of fault is on in some worlds, and off in some."""
    drawn = [Faults.some(Random(seed)) for seed in range(40)]
    for kind in KINDS:
        assert 5 < sum(getattr(faults, kind) > 0 for faults in drawn) < 35


def test_a_lost_order_is_given_again():
    """The first message to the worker is lost; it says so by not naming the attempt."""
    simulation = Simulation(faults=Faults(lose=1.0))
    simulation.agent("far", capabilities={"x"}, lease=3.0)
    task_id = simulation.submit_task(Task("x"), 1.0)
    simulation.run(until=0.5)
    simulation.nature.on = False

    simulation.run()

    assert str(simulation.schedule).count("start far") == 1
    assert simulation.get_task_status(task_id).attempts == 1
    assert simulation.get_task_status(task_id).state is S.COMPLETED


def test_a_doubled_message_does_nothing_twice():
    simulation = Simulation(faults=Faults(double=1.0))
    simulation.agent("far", capabilities={"x"}, lease=3.0)
    simulation.submit_task(Task("x", id="t"), 1.0)

    simulation.run()

    assert len(simulation.attempts) == 1
    late = [e for e in simulation.events if isinstance(e, LateResultIgnored)]
    assert {e.task_id for e in late} <= {"t"}
    assert simulation.get_task_status("t").state is S.COMPLETED


def test_a_zombie_comes_back_with_a_result_that_nobody_wants():
    simulation = Simulation(seed=2, faults=Faults(zombie=1.0))
    simulation.agent("far", capabilities={"x"}, lease=1.0)
    simulation.agent("near", capabilities={"x"}, max_concurrency=2)
    simulation.work("x", 5.0)
    simulation.submit_tasks([Task("x") for _ in range(3)])
    simulation.run(until=1.0)
    simulation.nature.on = False

    simulation.run()

    assert any(isinstance(e, AgentLost) for e in simulation.events)
    assert any(isinstance(e, LateResultIgnored) for e in simulation.events)
    assert simulation.get_stats().state_machine.completed == 3


def test_a_late_result_does_not_replace_what_a_person_decided():
    """The worker was given up, a person said what came of it, and then it returns."""
    simulation = Simulation()
    simulation.agent("far", capabilities={"x"}, lease=1.0)
    task_id = simulation.submit_task(
        Task("x", idempotent=False), Outcome(10.0, result="its own")
    )
    simulation.run(until=0.5)
    far = simulation.world.workers["far"]
    far._freeze((1, 60 * 10**9))
    simulation.run(until=5.0)
    assert simulation.get_task_status(task_id).state is S.BLOCKED
    simulation.decide(task_id, "complete", "by hand")

    simulation.run()

    assert simulation.attempts[0].outcome == "completed"
    assert any(isinstance(e, LateResultIgnored) for e in simulation.events)
    assert simulation.get_task_status(task_id).result == "by hand"


def test_a_worker_that_dies_for_ever_is_given_up_after_its_lease():
    simulation = Simulation(faults=Faults(agent_death=1.0, for_ever=1.0))
    simulation.agent("far", capabilities={"x"}, lease=2.0)
    task_id = simulation.submit_task(Task("x"), 1.0)

    simulation.run()

    assert simulation.attempts[0].outcome == "died"
    (lost,) = [e for e in simulation.events if isinstance(e, AgentLost)]
    assert lost.agent_id == "far"
    assert 2.0 <= simulation.now < 4.0
    assert simulation.get_task_status(task_id).state is S.QUEUED


def test_a_worker_that_returns_as_another_instance_has_lost_what_it_ran():
    """It says so at once: nobody waits for the lease."""
    faults = Faults(agent_death=1.0, for_ever=0.0, dead_seconds=(0.1, 0.1))
    simulation = Simulation(faults=faults)
    simulation.agent("far", capabilities={"x"}, lease=100.0)
    task_id = simulation.submit_task(Task("x"), 1.0)
    simulation.run(until=0.01)
    simulation.nature.on = False

    simulation.run(until=10.0)

    assert [a.outcome for a in simulation.attempts] == ["died", "completed"]
    (retry,) = [e for e in simulation.events if isinstance(e, TaskRetrying)]
    assert (retry.cause, retry.charged) == ("lost", False)
    assert simulation.get_task_status(task_id).state is S.COMPLETED


def test_while_nothing_can_be_kept_nothing_new_starts():
    simulation = Simulation(faults=Faults(commit_failure=1.0))
    simulation.agent("a", capabilities={"x"})
    simulation.submit_task(Task("x", id="t"), 1.0)
    simulation.run(until=10.0)

    assert simulation.attempts == []
    assert simulation.acknowledged == {}
    assert simulation.explain("t").state in (S.QUEUED, S.RUNNING)
    simulation.nature.on = False
    simulation.run()

    assert simulation.acknowledged == {"t": S.COMPLETED}


def test_a_run_under_watch_finds_what_breaks_a_promise():
    """A worker reports the end of an attempt that goes on."""
    simulation = Simulation()
    simulation.agent("a", capabilities={"x"})
    task_id = simulation.submit_task(Task("x"), 5.0)

    def lie():
        incarnation = simulation.world.incarnation
        row = incarnation.kernel.tasks[task_id]
        incarnation.kernel.complete(row, 1, incarnation.now())

    simulation.at(1.0, lambda: simulation.world.do(lie))
    with pytest.raises((AssertionError, InternalError)):
        simulation.run()


# -- dice ------------------------------------------------------------------------------


def test_a_draw_depends_on_its_name_and_on_nothing_else():
    one, other = Dice(7), Dice(7)
    other.draw("something else")
    assert [one.draw("it"), one.draw("it")] == [other.draw("it"), other.draw("it")]
    assert one.draw("it") != Dice(8).draw("it")


def test_draws_are_within_their_bounds():
    dice = Dice(1)
    values = [dice.integer("i", 2, 4) for _ in range(100)]
    assert set(values) == {2, 3, 4}
    assert {dice.choice("c", "ab") for _ in range(50)} == {"a", "b"}
    assert all(1.0 <= dice.uniform("u", 1.0, 2.0) < 2.0 for _ in range(50))
    assert not any(dice.chance("never", 0.0, "x") for _ in range(50))
    assert all(dice.chance("always", 1.0, "x") for _ in range(50))


def test_at_most_one_of_several_kinds_happens():
    dice = Dice(1)
    kinds = [("a", 0.5), ("b", 0.3)]
    drawn = [dice.one_of(str(n), kinds) for n in range(200)]
    assert set(drawn) == {"a", "b", None}
    assert dice.schedule.kinds() == {"a": drawn.count("a"), "b": drawn.count("b")}


def test_what_is_left_out_does_not_happen_and_moves_nothing_else():
    whole = Dice(3)
    happened = [n for n in range(50) if whole.chance("fault", 0.5, str(n))]
    names = [hit.name for hit in whole.hits]
    part = Dice(3, keep=names[::2])
    assert [n for n in range(50) if part.chance("fault", 0.5, str(n))] == happened[::2]


def test_a_schedule_has_a_line_for_each_thing():
    dice = Dice(3)
    dice.clock = lambda: 1.5
    dice.chance("lose", 1.0, "beat a")
    dice.remark("for good")
    (line,) = str(dice.schedule).splitlines()
    assert line.split(maxsplit=3) == ["1.500000", "s", "lose", "beat a: for good"]


# -- the same again --------------------------------------------------------------------


def test_the_same_seed_gives_the_same_trace():
    one = workload(Simulation(seed=9, faults=Faults.all())).run(until=40.0).trace()
    two = workload(Simulation(seed=9, faults=Faults.all())).run(until=40.0).trace()
    other = workload(Simulation(seed=8, faults=Faults.all())).run(until=40.0).trace()
    assert one == two
    assert one != other


@pytest.mark.parametrize("seed", seeds(3, 8))
def test_being_watched_changes_nothing(seed):
    """Though the watch asks the policies, and they draw."""
    faults = attrs.evolve(Faults.all(), points=0.0)
    watched = explore(seed, faults=faults)
    assert watched.trace() == explore(seed, faults=faults, check=False).trace()


def test_a_run_is_the_same_to_the_byte_in_any_process(capsys):
    """Two processes, two hash seeds, one trace."""
    code = (
        "import sys; from tests.house.tools.explore import explore\n"
        "for seed in (3, 4): sys.stdout.write(explore(seed, check=False).trace())"
    )
    elsewhere = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONHASHSEED": "4242", "PYTHONPATH": f"src{os.pathsep}."},
        capture_output=True,
        check=True,
        text=True,
    ).stdout
    exec(code, {})
    assert elsewhere.count("\n") > 100
    assert capsys.readouterr().out == elsewhere


def test_what_is_decided_about_an_attempt_is_done_late_and_in_order():
    """A program that was stopped and continued goes on, however late it is told."""
    faults = Faults(late_effect=1.0, late_seconds=(0.1, 5.0))
    for seed in range(20):
        simulation = Simulation(seed, faults=faults)
        simulation.work("program", 60.0)
        program = Task("program", Program(("true",)), id="p")
        simulation.submit_task(program)
        for second in range(1, 9):
            simulation.at(second, lambda s=simulation: s.suspend_task("p"))
            simulation.at(second + 0.5, lambda s=simulation: s.resume_task("p"))
        simulation.run()
        assert simulation.get_task_status("p").state is S.COMPLETED
        assert len(simulation.attempts) == 1
        assert simulation.schedule.kinds()["late_effect"] == 16
