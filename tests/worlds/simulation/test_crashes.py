"""The orchestrator dies, at every event and at every stage, and goes on."""

import pytest

from taskorch.errors import UsageError
from taskorch.events import LateResultIgnored, OrchestratorStarted, TaskRetrying
from taskorch.model import RetryPolicy, Task, TaskState
from taskorch.testing import Faults, Outcome, Simulation

S = TaskState
STAGES = ("made", "sent", "kept", "told")


def small(**options):
    """A simulation with a small workload of many kinds, which begins in `run`."""
    simulation = Simulation(seed=3, concurrency=3, **options)
    simulation.agent("near", capabilities={"x"}, max_concurrency=2)
    simulation.agent("far", capabilities={"y"}, lease=1.0)

    def work(task, attempt, random):
        error = ValueError("no") if task.type == "flaky" and attempt == 1 else None
        return Outcome(1.0 + random.random(), result=task.id, error=error)

    for name in ("x", "y", "flaky"):
        simulation.work(name, work)
    simulation.at(
        0.5,
        lambda: simulation.submit_tasks(
            [
                Task("x", id="a"),
                Task("y", id="b", after=["a"]),
                Task("flaky", id="c", requires={"x"}, retry=RetryPolicy(3)),
                Task("x", id="d", after=["b", "c"], idempotency_key="key"),
            ]
        ),
    )
    simulation.at(1.0, lambda: simulation.submit_task(Task("y", id="e", not_before=3)))
    return simulation


def facts():
    simulation = small().run()
    return simulation.events[-1].seq


NUMBER = facts()


@pytest.mark.parametrize("stage", STAGES)
def test_a_crash_at_any_event_loses_nothing_that_was_acknowledged(stage):
    """And all of it comes to the same end, whichever event it is."""
    for event in range(1, NUMBER + 1):
        simulation = small()
        told = {}
        simulation.world.died = lambda s=simulation, t=told: t.update(s.acknowledged)
        simulation.crash_at(event, stage)

        simulation.run()

        assert simulation.world.crashes == 1
        for task_id, state in told.items():
            now = simulation.get_task_status(task_id).state
            assert state in (None, now)
        assert simulation.acknowledged == dict.fromkeys("abcde", S.COMPLETED)
        simulation.check()


def test_a_crash_on_top_of_a_crash():
    simulation = small()
    simulation.crash_at(8, downtime=0.5)
    simulation.run(until=3.0)
    simulation.crash(downtime=0.0)
    simulation.crash_at(NUMBER, "kept")

    simulation.run()

    assert simulation.world.crashes == 3
    assert simulation.acknowledged == dict.fromkeys("abcde", S.COMPLETED)
    epochs = [e.epoch for e in simulation.events if isinstance(e, OrchestratorStarted)]
    assert epochs == [1, 2, 3, 4]


def test_what_ran_in_our_process_is_tried_again_uncharged():
    simulation = Simulation()
    simulation.agent("a", capabilities={"x"})
    task_id = simulation.submit_task(Task("x"), 2.0)
    simulation.run(until=1.0)
    simulation.crash(downtime=4.0)

    simulation.run()

    assert [(a.start, a.end, a.outcome) for a in simulation.attempts] == [
        (0.0, 1.0, "died"),
        (5.0, 7.0, "completed"),
    ]
    (retry,) = [e for e in simulation.events if isinstance(e, TaskRetrying)]
    assert (retry.cause, retry.charged) == ("interrupted", False)
    assert simulation.get_task_status(task_id).state is S.COMPLETED


def test_what_may_not_run_twice_is_held_for_a_decision():
    simulation = Simulation()
    simulation.agent("a", capabilities={"x"})
    task_id = simulation.submit_task(Task("x", idempotent=False), 2.0)
    simulation.run(until=1.0)
    simulation.crash()

    simulation.run()

    assert simulation.get_task_status(task_id).state is S.BLOCKED
    simulation.decide(task_id, "complete", "seen to")
    assert simulation.get_task_status(task_id).result == "seen to"


def test_what_may_not_run_twice_begins_only_once_its_start_is_kept():
    """A commit takes a tenth of a second; all submissions are kept long before."""
    simulation = Simulation(faults=Faults(commit_seconds=0.1))
    for name in ("a", "b"):
        simulation.agent(name, capabilities={name})
        simulation.submit_task(Task(name, id=f"first-{name}"), 1.0)
    simulation.submit_task(Task("a", id="often"), 1.0)
    simulation.submit_task(Task("b", id="once", idempotent=False), 1.0)

    simulation.run()

    starts = {a.task_id: a.start for a in simulation.attempts}
    ends = {a.task_id: a.end for a in simulation.attempts}
    assert starts["first-a"] > 0.0
    assert starts["often"] == ends["first-a"]
    assert starts["once"] == pytest.approx(ends["first-b"] + 0.1)


def test_a_remote_worker_survives_our_crash_and_its_late_result_is_ignored():
    simulation = Simulation()
    simulation.agent("far", capabilities={"x"}, lease=1.0, max_concurrency=None)
    task_id = simulation.submit_task(Task("x"), Outcome(5.0, stubborn=True))
    simulation.run(until=1.0)
    simulation.crash(downtime=1.0)

    simulation.run()

    assert [(a.epoch, a.attempt, a.outcome) for a in simulation.attempts] == [
        (1, 1, "completed"),
        (2, 2, "completed"),
    ]
    (late,) = [e for e in simulation.events if isinstance(e, LateResultIgnored)]
    assert (late.task_id, late.attempt) == (task_id, 1)


def test_a_remote_worker_is_told_to_stop_what_an_earlier_incarnation_began():
    simulation = Simulation()
    simulation.agent("far", capabilities={"x"}, lease=1.0)
    simulation.submit_task(Task("x"), 50.0)
    simulation.run(until=1.0)
    simulation.crash(downtime=1.0)

    simulation.run()

    first, second = simulation.attempts
    assert (first.outcome, second.outcome) == ("stopped", "completed")
    assert first.end < 3.0


def test_results_and_dependencies_survive():
    simulation = Simulation()
    first = Task.call(pow, 2, 5, id="first")
    second = Task.call(divmod, first, 10, id="second", not_before=5.0)
    simulation.submit_tasks([first, second])
    simulation.run(until=1.0)
    simulation.crash()

    simulation.run()

    assert simulation.get_task_status("first").result == 32
    assert simulation.get_task_status("second").result == (3, 2)


def test_a_submission_in_doubt_is_made_again():
    """Its events never reached the journal; the caller was not told, and asks again."""
    simulation = Simulation()
    simulation.agent("a", capabilities={"x"})
    simulation.crash_at(simulation.events[-1].seq + 1)
    task_id = simulation.submit_task(Task("x"))
    assert simulation.acknowledged == {}

    simulation.run()

    assert simulation.acknowledged == {task_id: S.COMPLETED}
    assert simulation.submit_task(Task("x")) != task_id


def test_finished_tasks_that_have_left_memory_are_known_after_a_crash():
    simulation = Simulation(keep_finished=0)
    simulation.agent("a", capabilities={"x"})
    simulation.submit_task(Task("x", 1, id="t"))
    simulation.run()
    simulation.crash()
    simulation.run()

    assert simulation.get_task_status("t").state is S.COMPLETED
    assert simulation.submit_task(Task("x", 1, id="t")) == "t"
    with pytest.raises(UsageError):
        simulation.submit_task(Task("x", 2, id="t"))


def test_time_that_passed_while_we_were_down_is_never_negative():
    """The wall clock is set back an hour: events still do not go back."""
    faults = Faults(clock_jump=1.0, jump_seconds=(-3600.0, -3600.0))
    simulation = small(faults=faults)
    simulation.crash_at(9)

    simulation.run()

    times = [event.at_ns for event in simulation.events]
    assert times == sorted(times)
    assert simulation.schedule.kinds() == {"clock_jump": 1}
    assert simulation.acknowledged == dict.fromkeys("abcde", S.COMPLETED)


def test_a_deadline_that_passed_meanwhile_has_passed():
    simulation = Simulation(concurrency=1)
    simulation.agent("a", capabilities={"x"})
    simulation.submit_task(Task("x", id="long"), 100.0)
    simulation.submit_task(Task("x", id="soon", deadline=10.0))
    simulation.run(until=1.0)
    simulation.crash(downtime=20.0)

    simulation.run()

    assert simulation.get_task_status("soon").state is S.FAILED
    assert simulation.get_task_status("long").state is S.COMPLETED


def test_a_crash_inside_of_what_is_done_comes_at_its_end():
    simulation = small()
    simulation.at(2.0, simulation.crash)

    simulation.run()

    assert simulation.world.crashes == 1
    assert simulation.acknowledged == dict.fromkeys("abcde", S.COMPLETED)


def test_a_dead_orchestrator_cannot_die():
    simulation = small()
    simulation.crash()
    with pytest.raises(UsageError):
        simulation.crash()
