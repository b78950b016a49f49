"""An orchestrator in virtual time, in a perfect world."""

import pytest

from taskorch import current_context
from taskorch.errors import (
    CycleError,
    DuplicateTaskError,
    InvalidTaskError,
    InvalidTransitionError,
    NotRunningError,
    UnknownCapabilityError,
    UnknownTaskError,
    ValidationFailedError,
)
from taskorch.events import (
    SlotLeaked,
    SlotRecovered,
    TaskCompleted,
    TaskProgressed,
    TaskStarted,
)
from taskorch.model import Call, Resources, RetryPolicy, Task, TaskState
from taskorch.policies import FifoQueue, PerformanceRouter
from taskorch.testing import Outcome, Simulation

S = TaskState


def world(**options):
    """A simulation with one worker, which does `x` in two seconds, two at a time."""
    simulation = Simulation(**options)
    simulation.agent("a", capabilities={"x"}, max_concurrency=2)
    simulation.work("x", 2.0)
    return simulation


def state(simulation, task_id):
    return simulation.get_task_status(task_id).state


def ran(simulation):
    """What workers did: `(task id, agent, start, end, outcome)`."""
    return [
        (a.task_id, a.worker, a.start, a.end, a.outcome) for a in simulation.attempts
    ]


# -- time ------------------------------------------------------------------------------


def test_time_passes_from_one_event_to_the_next():
    """Five tasks of two seconds, two at a time, take six."""
    simulation = world()
    ids = simulation.submit_tasks([Task("x") for _ in range(5)])

    simulation.run()

    assert simulation.now == 6.0
    assert [state(simulation, i) for i in ids] == [S.COMPLETED] * 5
    assert [a.start for a in simulation.attempts] == [0, 0, 2, 2, 4]
    assert [a.end for a in simulation.attempts] == [2, 2, 4, 4, 6]


def test_run_until_a_time_goes_no_further():
    simulation = world()
    task_id = simulation.submit_task(Task("x"))

    assert simulation.run(until=1.5).now == 1.5
    assert state(simulation, task_id) is S.RUNNING
    assert simulation.run(until=2.0).get_stats().state_machine.completed == 1


def test_a_run_ends_where_nothing_proceeds_by_itself():
    """A blocked or suspended task, or a heartbeat, is no reason to go on."""
    simulation = world()
    simulation.agent("far", capabilities={"y"}, lease=1.0)
    bad = simulation.submit_task(Task("x"), Outcome(1.0, error=ValueError("no")))
    after = simulation.submit_task(Task("x", after=[bad]))
    aside = simulation.submit_task(Task("x", not_before=50.0))
    simulation.suspend_task(aside)

    simulation.run()

    assert simulation.now == 1.0
    assert state(simulation, after) is S.BLOCKED
    assert state(simulation, aside) is S.SUSPENDED


def test_a_timer_of_the_kernel_is_a_reason_to_go_on():
    """A deadline ends a task that nobody can do."""
    simulation = Simulation(unknown_capability="wait")
    task_id = simulation.submit_task(Task("x", deadline=30.0))

    simulation.run()

    assert simulation.now == 30.0
    assert state(simulation, task_id) is S.FAILED


def test_what_comes_at_one_instant_is_one_step():
    """What an end lets go comes before what was submitted at that very instant."""
    simulation = Simulation(queue=FifoQueue(), concurrency=1)
    simulation.agent("a", capabilities={"x"})
    simulation.work("x", 1.0)
    first = simulation.submit_task(Task("x", id="first"))
    simulation.submit_task(Task("x", id="early", after=[first]))
    simulation.at(1.0, lambda: simulation.submit_task(Task("x", id="late")))
    simulation.at(1.0, lambda: simulation.set_priority("late", 0))

    simulation.run()

    assert [a.task_id for a in simulation.attempts] == ["first", "early", "late"]
    names = [type(event).__name__ for event in simulation.events if event.seq > 6]
    assert names[:4] == [
        "TaskCompleted",
        "TaskSubmitted",
        "TaskReprioritised",
        "TaskStarted",
    ]


def test_something_can_be_done_at_a_time():
    simulation = world()
    seen = []
    simulation.at(3.0, lambda: seen.append(simulation.now))
    simulation.at(1.0, lambda: seen.append(simulation.submit_task(Task("x", id="t"))))

    simulation.run()

    assert seen == ["t", 3.0]
    assert simulation.attempts[0].start == 1.0


def test_an_error_of_what_is_done_reaches_the_caller_of_run():
    simulation = world()
    simulation.at(1.0, lambda: simulation.cancel_task("unknown"))
    simulation.submit_task(Task("x", id="t"))

    with pytest.raises(UnknownTaskError):
        simulation.run()
    assert state(simulation.run(), "t") is S.COMPLETED


# -- the work --------------------------------------------------------------------------


def test_work_takes_seconds_divided_by_the_speed_of_the_worker():
    simulation = Simulation()
    simulation.agent("fast", capabilities={"x"}, speed=4.0)
    simulation.submit_task(Task("x"), 2.0)

    assert simulation.run().now == 0.5


def test_work_can_be_a_function_of_task_attempt_and_chance():
    simulation = world()
    seen = []

    def work(task, attempt, random):
        seen.append((task.id, attempt, random.random()))
        return Outcome(1.0, error=ValueError("no")) if attempt == 1 else 3.0

    simulation.work("x", work)
    policy = RetryPolicy(2, base=1.0, jitter=0.0)
    simulation.submit_task(Task("x", id="t", retry=policy))

    assert simulation.run().now == 5.0
    assert [a.outcome for a in simulation.attempts] == ["failed", "completed"]
    assert [call[:2] for call in seen] == [("t", 1), ("t", 2)]
    assert seen[0][2] != seen[1][2]


def test_work_knows_its_task_by_the_id_that_it_was_given():
    simulation = world()
    seen = []
    simulation.work("x", lambda task, attempt, random: seen.append(task.id) or 1.0)
    task_id = simulation.submit_task(Task("x"))

    simulation.run()

    assert seen == [task_id]


def test_an_outcome_has_a_result_or_an_error():
    simulation = world()
    good = simulation.submit_task(Task("x"), Outcome(1.0, result={"answer": 42}))
    error = KeyError("no")
    bad = simulation.submit_task(Task("x"), Outcome(1.0, error=error))

    simulation.run()

    assert simulation.get_task_status(good).result == {"answer": 42}
    assert simulation.get_task_status(bad).error is error
    assert [e.result for e in simulation.events if isinstance(e, TaskCompleted)] == [
        {"answer": 42}
    ]


def test_a_call_of_which_nothing_is_known_is_made():
    """With the results of others in the place of their tasks."""
    simulation = Simulation()
    first = Task.call(pow, 2, 5)
    ids = simulation.submit_tasks([first, Task.call(divmod, first, 10)])

    simulation.run()

    assert simulation.now == 0.0
    assert simulation.get_task_status(ids[1]).result == (3, 2)


def test_a_call_that_raises_fails():
    simulation = Simulation()
    task_id = simulation.submit_task(Task.call(divmod, 1, 0))

    simulation.run()

    assert isinstance(simulation.get_task_status(task_id).error, ZeroDivisionError)


def test_a_call_whose_work_is_known_is_not_made():
    simulation = Simulation()
    simulation.work("pow", Outcome(3.0, result="simulated"))
    task_id = simulation.submit_task(Task.call(pow, "not", "numbers"))

    assert simulation.run().now == 3.0
    assert simulation.get_task_status(task_id).result == "simulated"


def test_a_call_whose_work_is_given_with_it_is_not_made():
    simulation = Simulation()
    task_id = simulation.submit_task(Task.call(pow, "not", "numbers"), 3.0)

    simulation.run()

    assert simulation.get_task_status(task_id).state is S.COMPLETED
    assert simulation.now == 3.0


def test_work_reports_progress_on_the_way():
    simulation = world()
    task_id = simulation.submit_task(Task("x"), Outcome(3.0, progress=(0.3, 0.6)))

    simulation.run()

    told = [e for e in simulation.events if isinstance(e, TaskProgressed)]
    assert [e.value for e in told] == [0.3, 0.6]
    assert [e.at_ns - told[0].at_ns for e in told] == [0, 10**9]
    assert simulation.get_task_status(task_id).progress == 0.6


def test_a_worker_that_dies_is_not_charged_to_the_task():
    simulation = world()
    simulation.work("x", lambda task, n, random: Outcome(1.0, crash=n == 1))
    task_id = simulation.submit_task(Task("x"))

    simulation.run()

    assert state(simulation, task_id) is S.COMPLETED
    assert [a.outcome for a in simulation.attempts] == ["lost", "completed"]


def test_work_that_hangs_ends_when_it_is_stopped():
    simulation = world()
    task_id = simulation.submit_task(Task("x", timeout=5.0), Outcome(hang=True))

    simulation.run()

    assert simulation.now == 5.0
    assert state(simulation, task_id) is S.FAILED
    assert [a.outcome for a in simulation.attempts] == ["stopped"]


def test_work_that_does_not_stop_leaks_its_slot_until_it_ends():
    simulation = world()
    task_id = simulation.submit_task(Task("x"), Outcome(60.0, stubborn=True))
    simulation.at(1.0, lambda: simulation.cancel_task(task_id))

    simulation.run(until=30.0)
    assert state(simulation, task_id) is S.CANCELLED
    assert simulation.get_stats().leaked == 1
    simulation.run()

    assert simulation.get_stats().leaked == 0
    kinds = [type(event) for event in simulation.events]
    assert kinds.index(SlotLeaked) < kinds.index(SlotRecovered)


def test_work_that_waits_gives_its_slot_back_meanwhile():
    """Two tasks that wait for half of their time share one slot in three quarters."""
    simulation = Simulation(concurrency=1)
    simulation.work("pow", Outcome(4.0, waits=2.0))
    simulation.submit_tasks([Task.call(pow, 2, 2), Task.call(pow, 3, 3)])

    simulation.run()

    assert simulation.now == 5.0
    assert [(a.start, a.end) for a in simulation.attempts] == [(0, 4), (1, 5)]


def test_a_program_is_stopped_where_it_stands():
    simulation = Simulation()
    simulation.work("program", 10.0)
    task_id = simulation.submit_task(Task.program(["sleep", "10"], timeout=12.0))
    simulation.at(4.0, lambda: simulation.suspend_task(task_id))
    simulation.at(20.0, lambda: simulation.resume_task(task_id))

    simulation.run()

    assert simulation.now == 26.0
    assert simulation.get_task_status(task_id).attempts == 1


def test_what_is_no_work_is_refused():
    simulation = world()
    with pytest.raises(InvalidTaskError, match="seconds"):
        simulation.work("x", "soon")


# -- submitting ------------------------------------------------------------------------


def test_a_batch_may_name_later_tasks_and_is_taken_whole():
    simulation = world()
    simulation.submit_tasks([Task("x", id="b", after=["a"]), Task("x", id="a")])

    simulation.run()

    assert [a.task_id for a in simulation.attempts] == ["a", "b"]


@pytest.mark.parametrize(
    ("tasks", "error"),
    [
        ([Task("x", id="a", after=["b"]), Task("x", id="b", after=["a"])], CycleError),
        ([Task("x", id="a"), Task("x", id="a")], DuplicateTaskError),
        ([Task("x", id="a"), Task("y")], UnknownCapabilityError),
        ([Task("x", id="a"), Task("x", after=["gone"])], UnknownTaskError),
        ([Task("x", id="a"), Task("x", timeout=-1.0)], ValidationFailedError),
        ([Task("x", id="a"), "x"], InvalidTaskError),
    ],
)
def test_a_batch_is_refused_whole(tasks, error):
    simulation = world()
    with pytest.raises(error):
        simulation.submit_tasks(tasks)
    assert simulation.tasks() == []


def test_the_same_again_is_answered_and_other_content_refused():
    simulation = world()
    assert simulation.submit_task(Task("x", id="t")) == "t"
    assert simulation.submit_task(Task("x", id="t")) == "t"
    with pytest.raises(DuplicateTaskError):
        simulation.submit_task(Task("x", "other", id="t"))
    assert len(simulation.run().attempts) == 1


def test_a_submission_is_acknowledged_and_so_is_its_end():
    simulation = world()
    simulation.submit_task(Task("x", id="t"))

    assert simulation.acknowledged == {"t": None}
    assert simulation.run().acknowledged == {"t": S.COMPLETED}


# -- control ---------------------------------------------------------------------------


def test_tasks_can_be_cancelled_moved_decided_rerun_and_expired():
    simulation = Simulation(concurrency=1)
    simulation.agent("a", capabilities={"x"})
    simulation.work("x", 2.0)
    crash = simulation.submit_task(
        Task("x", id="crash", idempotent=False), Outcome(crash=True)
    )
    simulation.submit_task(Task("x", id="gone"))
    simulation.submit_task(Task("x", id="last"))
    simulation.submit_task(Task("x", id="first"))
    assert simulation.set_priority("first", 5)
    assert simulation.cancel_task("gone")
    simulation.run()
    assert [a.task_id for a in simulation.attempts] == ["crash", "first", "last"]

    assert state(simulation, crash) is S.BLOCKED
    assert simulation.decide(crash, "complete", "by hand")
    assert simulation.get_task_status(crash).result == "by hand"

    assert simulation.rerun_task("last") == "last~2"
    with pytest.raises(InvalidTransitionError):
        simulation.rerun_task("last~2")
    simulation.submit_task(Task("x", id="old"))
    simulation.run(until=simulation.now + 1.5)
    assert simulation.expire_tasks(1.0) == ["old"]
    assert simulation.run().get_stats().state_machine.failed == 1
    assert state(simulation, "last~2") is S.COMPLETED


def test_an_id_means_the_latest_run_whatever_is_done():
    simulation = world()
    for name in "abcd":
        simulation.submit_task(Task("x", id=name))
    simulation.run()
    for name in "abcd":
        simulation.rerun_task(name)
    assert simulation.cancel_task("a")
    assert simulation.suspend_task("b")
    assert simulation.set_priority("c", 3)
    simulation.run()
    ended = {name: state(simulation, f"{name}~2") for name in "abcd"}
    assert ended == {"a": S.CANCELLED, "b": S.SUSPENDED} | dict.fromkeys(
        "cd", S.COMPLETED
    )
    assert simulation.resume_task("b")
    simulation.run()
    assert state(simulation, "b~2") is S.COMPLETED


def test_a_result_that_is_worth_a_retry_is_tried_again():
    simulation = world()
    again = RetryPolicy(max_attempts=3, retry_if_result=lambda value: True)
    kept = RetryPolicy(max_attempts=3, retry_if_result=lambda value: False)
    simulation.submit_task(Task("x", id="again", retry=again))
    simulation.submit_task(Task("x", id="kept", retry=kept))
    simulation.run()
    tries = [attempt.task_id for attempt in simulation.attempts]
    assert (tries.count("again"), tries.count("kept")) == (3, 1)
    assert state(simulation, "again") is S.FAILED
    assert state(simulation, "kept") is S.COMPLETED


def test_errors_of_earlier_attempts_are_in_the_status():
    simulation = world()
    work = Outcome(error=ValueError("no such row"))
    retry = RetryPolicy(max_attempts=2)
    simulation.submit_task(Task("x", id="x", retry=retry), work)
    simulation.run()
    earlier = simulation.get_task_status("x").earlier_errors
    assert list(earlier) == [1]
    assert "no such row" in str(earlier[1])


def test_a_function_tells_its_progress_and_leaves_a_checkpoint():
    def counts():
        context = current_context()
        context.progress(0.5)
        had = context.restored
        context.checkpoint({"row": 7})
        if had is None:
            raise ValueError("once more")
        return had

    simulation = Simulation()
    retry = RetryPolicy(max_attempts=2)
    simulation.submit_task(Task("count", payload=Call(counts), id="c", retry=retry))
    simulation.run()
    status = simulation.get_task_status("c")
    assert (status.state, status.result) == (S.COMPLETED, {"row": 7})
    assert status.progress == 0.5
    told = [e for e in simulation.events if isinstance(e, TaskProgressed)]
    assert [event.attempt for event in told] == [1, 2]


@pytest.mark.parametrize("waits_for", [{"after": ["before"]}, {"not_before": 98.0}])
def test_what_expires_was_queued_for_so_long_whenever_it_was_submitted(waits_for):
    simulation = Simulation()
    simulation.agent("a", capabilities={"x"}, max_concurrency=1)
    simulation.submit_task(Task("x", id="before"), Outcome(98.0))
    simulation.submit_task(Task("x", id="long", priority=9), Outcome(1_000.0))
    simulation.submit_task(Task("x", id="t", **waits_for))
    simulation.run(until=150.0)
    assert simulation.expire_tasks(60.0) == []
    simulation.run(until=160.0)
    assert simulation.expire_tasks(60.0) == ["t"]


def test_workers_that_die_are_counted_from_decision_to_decision():
    """A person may let it run again, and not for ever."""
    simulation = Simulation()
    simulation.agent("a", capabilities={"x"})
    task = Task("x", id="t", idempotent=False)
    crash = simulation.submit_task(task, Outcome(crash=True))
    for _ in range(2):
        assert state(simulation.run(), crash) is S.BLOCKED
        assert simulation.decide(crash, "retry")
    assert state(simulation.run(), crash) is S.FAILED
    assert simulation.get_stats().failures == {"poisoned": 1}


def test_a_task_says_why_it_waits():
    simulation = Simulation(resources=Resources(cpu=1))
    simulation.agent("a", capabilities={"x"}, max_concurrency=None)
    cpu = Resources(cpu=1)
    ids = simulation.submit_tasks([Task("x", resources=cpu), Task("x", resources=cpu)])

    (blocker,) = simulation.explain(ids[1]).blockers

    assert (blocker.kind, blocker.name) == ("resource", "cpu")
    assert blocker.holders == (ids[0],)


def test_tasks_are_listed_by_state():
    simulation = world()
    simulation.submit_tasks([Task("x", id=f"t{n}") for n in range(3)])

    assert [s.task_id for s in simulation.tasks("running")] == ["t0", "t1"]
    assert [s.task_id for s in simulation.tasks(S.QUEUED)] == ["t2"]


def test_a_name_of_a_worker_is_taken_once():
    simulation = world()
    with pytest.raises(InvalidTaskError, match="already"):
        simulation.agent("a")


# -- remote workers --------------------------------------------------------------------


def test_a_remote_worker_does_its_work_by_messages():
    simulation = Simulation()
    simulation.agent("far", capabilities={"x"}, lease=3.0)
    simulation.work("x", 2.0)
    task_id = simulation.submit_task(Task("x"))

    simulation.run()

    assert state(simulation, task_id) is S.COMPLETED
    latency = simulation.nature.latency_ns / 1e9
    assert ran(simulation) == [
        (task_id, "far", latency, pytest.approx(2 + latency), "completed")
    ]


def test_a_remote_worker_stops_when_it_is_told_to():
    simulation = Simulation()
    simulation.agent("far", capabilities={"x"}, lease=3.0)
    task_id = simulation.submit_task(Task("x"), 60.0)
    simulation.at(5.0, lambda: simulation.cancel_task(task_id))

    simulation.run()

    assert state(simulation, task_id) is S.CANCELLED
    assert simulation.now < 6.0
    assert simulation.attempts[0].outcome == "stopped"


def test_long_work_on_a_remote_worker_is_not_taken_for_lost():
    """The lease is renewed by signs of life, however long something takes."""
    simulation = Simulation()
    simulation.agent("far", capabilities={"x"}, lease=1.0)
    task_id = simulation.submit_task(Task("x"), 100.0)

    simulation.run()

    assert simulation.get_task_status(task_id).attempts == 1
    assert state(simulation, task_id) is S.COMPLETED


def test_nothing_can_be_asked_of_a_dead_orchestrator():
    simulation = world()
    simulation.crash(downtime=5.0)

    assert not simulation.is_up
    with pytest.raises(NotRunningError):
        simulation.cancel_task("t")
    assert simulation.submit_task(Task("x", id="t")) == "t"
    assert simulation.acknowledged == {}
    simulation.run()
    assert simulation.acknowledged == {"t": S.COMPLETED}
    assert simulation.attempts[0].start == 5.0


def test_a_trace_names_what_is_not_as_it_mostly_is():
    simulation = world()
    simulation.submit_task(Task("x", id="t"))

    last = simulation.run().trace().splitlines()[-2:]

    assert [line.split(maxsplit=2)[::2] for line in last] == [
        [
            "0.000000",
            "TaskStarted task_id='t' attempt=1 agent_id='a' reason='the only candidate'",
        ],
        [
            "2.000000",
            "TaskCompleted task_id='t' attempt=1 agent_id='a' latency_ns=2000000000",
        ],
    ]


class FailingRouter(PerformanceRouter):
    """It raises for one task."""

    def route(self, task, candidates, context):
        if task.id == "fails":
            raise ValueError("a mistake in it")
        return super().route(task, candidates, context)


@pytest.mark.parametrize(
    "wait",
    [
        Task.wait_for("go", id="waits", after=["fails"], join="finished"),
        Task.wait_for(
            None, timeout=0, default=7, id="waits", after=["fails"], join="finished"
        ),
    ],
)
def test_a_wait_is_over_in_the_step_in_which_a_router_failed_what_it_was_behind(wait):
    """After the start of another: no check takes it for a completion that is late."""
    simulation = world(router=FailingRouter())
    simulation.emit("go", keep=60.0)
    simulation.submit_tasks([Task("x", id="t"), Task("x", id="fails"), wait])

    simulation.run()

    (started,) = (e for e in simulation.events if type(e) is TaskStarted)
    ended = [e for e in simulation.events if type(e) is TaskCompleted]
    assert [e.task_id for e in ended] == ["waits", "t"]
    assert ended[0].seq > started.seq
    assert ended[0].timestamp == started.timestamp
    assert state(simulation, "fails") is S.FAILED
