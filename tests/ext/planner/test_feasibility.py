"""What is planned keeps its constraints; what is refused cannot be; or it was given up."""

from __future__ import annotations

from time import sleep

import pytest
from tests.ext.planner.feasible import faults_of
from tests.ext.planner.tools import do

from taskorch import Task, TaskOrchestrator, Workflow
from taskorch.errors import PlanningError
from taskorch.ext.planner import (
    Before,
    Deadline,
    MaxCost,
    MaxPeak,
    Problem,
    TaskRequest,
)
from taskorch.ext.planner._feasibility import in_time
from taskorch.ext.planner._scheduling import parallel
from taskorch.ext.planner._waits import waits_that_keep


def test_what_is_said_of_small_requests_is_so():
    faults = {seed: faults_of(seed) for seed in range(15)}
    assert not {seed: each for seed, each in faults.items() if each}


@pytest.mark.slow("what is rare among random requests")
@pytest.mark.parametrize("block", range(20))
def test_what_is_said_of_two_thousand_small_requests_is_so(block):
    seeds = range(100 * block, 100 * block + 100)
    faults = {seed: faults_of(seed) for seed in seeds}
    assert not {seed: each for seed, each in faults.items() if each}


def chain(parts, *, slow=(10, 1), quick=(1, 5)):
    """One part after the other, each in a slow or in a quick way."""
    orch = TaskOrchestrator()
    domain = orch.planner.domain("d")
    for name, (seconds, cost) in {"slow": slow, "quick": quick}.items():

        def apply(state, part):
            return state.set(part, True) if not part or state.get(part - 1) else None

        domain.operator(apply, name=name, duration=seconds, cost=cost, run=do)
        domain.method("part", name=f"by {name}")(
            lambda _state, part, name=name: [(name, part)]
        )
    domain.method("go", name="all")(
        lambda _state: [("part", part) for part in range(parts)]
    )
    return orch


def asked(*constraints, kind="go", **fields):
    return TaskRequest("r", kind, constraints=constraints, **fields)


def refused(orch, *constraints, **options):
    with pytest.raises(PlanningError) as caught:
        orch.planner.plan(asked(*constraints), **options)
    return caught.value


@pytest.mark.parametrize("parts", [8, 30])
def test_the_only_way_of_many_is_found(parts):
    plan = chain(parts).planner.plan(asked(Deadline(parts)))
    assert [task.type for task in plan.tasks] == ["quick"] * parts


def test_of_many_ways_the_earliest_end_is_said():
    refusal = refused(chain(10), Deadline(9))
    assert refusal.conflict == ("the deadline of 9 s",)
    assert "the earliest end that was found is 10 s" in str(refusal)


def test_limits_that_conflict_only_together_are_named_together():
    refusal = refused(chain(6), MaxPeak("cpu", 1), Deadline(20), MaxCost(10))
    assert refusal.conflict == ("the deadline of 20 s", "the cost of at most 10")
    assert "is 6 s after it begins, and 51 s with the cost of at most 10" in str(
        refusal
    )


@pytest.mark.parametrize(
    "options", [{"max_seconds": 0.2}, {"max_steps": 2_000, "max_seconds": 60}]
)
def test_a_search_that_is_cut_short_is_no_proof(options):
    # Half of the parts quick is too dear, and too slow by one second.
    refusal = refused(chain(40), Deadline(219), MaxCost(120), **options)
    assert refusal.conflict == ()
    assert "given up" in str(refusal)
    assert "cannot" not in str(refusal)
    assert "max_seconds=" in str(refusal)


def shared(*rows, cpu=6, **options):
    """Tasks that share processors: seconds and cpu of each."""
    orch = TaskOrchestrator(resources={"cpu": cpu}, concurrency=8, **options)

    @orch.planner.template("go")
    def go():
        flow = Workflow("w")
        for number, (seconds, need, *after) in enumerate(rows):
            flow.task(
                do,
                1,
                id=f"t{number}",
                expected=seconds,
                resources={"cpu": need},
                after=after,
            )
        return flow

    return orch


def test_a_peak_is_kept_however_long_tasks_take():
    orch = shared((10, 3), (10, 2), (10, 2), (5, 1), (7, 2, "t3"), (3, 1, "t1"))
    plan = orch.planner.plan(asked(MaxPeak("cpu", 3)))
    for number in range(6):
        durations = {task.id: 5.0 for task in plan.tasks} | {f"t{number}": 40.0}
        assert orch.simulate(plan, durations=durations).peak.resources["cpu"] <= 3


def test_a_deadline_and_a_peak_hold_together_or_are_named_together():
    orch = shared((10, 3), (10, 2), (10, 2))
    for limit in (Deadline(25), MaxPeak("cpu", 3)):
        assert orch.planner.validate(orch.planner.plan(asked(limit))).ok
    plan = orch.planner.plan(asked(Deadline(30), MaxPeak("cpu", 3)))
    assert orch.simulate(plan).makespan == 30
    refusal = refused(orch, Deadline(25), MaxPeak("cpu", 3))
    assert refusal.conflict == ("the deadline of 25 s", "at most 3 cpu at once")
    assert "30 s with at most 3 cpu at once" in str(refusal)


def test_an_order_that_no_rule_finds_is_found_or_it_is_sure_that_there_is_none():
    orch = shared(*((seconds, 1) for seconds in (3, 3, 2, 2, 2)), cpu=2)
    assert orch.simulate(orch.planner.plan(asked(Deadline(6)))).makespan == 6
    assert refused(orch, Deadline(5.9)).conflict == ("the deadline of 5.9 s",)
    orch = shared(*((3 - number % 2 / 10, 1) for number in range(7)), cpu=2)
    assert refused(orch, Deadline(11.5)).conflict == ("the deadline of 11.5 s",)


def test_a_way_without_the_task_that_must_come_first_is_left_for_another():
    orch = TaskOrchestrator()
    domain = orch.planner.domain("d")
    for name in ("write", "check", "send"):
        domain.operator(
            lambda state, name=name: state.set(name, True), name=name, run=do
        )
    domain.method("go", name="at once")(lambda _state: [("write",), ("send",)])
    domain.method("go", name="with care")(
        lambda _state: [("write",), ("check",), ("send",)]
    )
    plan = orch.planner.plan(asked(Before("check", "send")))
    assert len(plan.tasks) == 3
    assert "not way 1: it has no task 'check'" in plan.explain()


def test_what_is_held_by_hand_is_not_there():
    with shared((10, 2), (10, 2), (10, 2), (10, 2), cpu=8) as orch:
        assert float(orch.planner.plan(asked()).estimated_duration) == 10
        six = orch.resources.allocate({"cpu": 6}, owner="ada")
        plan = orch.planner.plan(asked(Deadline(40)))
        assert float(plan.estimated_duration) == 40
        assert orch.planner.validate(plan).makespan == 40
        assert refused(orch, Deadline(39)).conflict == ("the deadline of 39 s",)
        orch.resources.allocate({"cpu": 1}, owner="ada")
        refusal = refused(orch, Deadline(1000))
        assert "alone needs 2 cpu, and there is no more than 1" in str(refusal)
        assert not orch.planner.validate(plan).ok
        six.release()
        assert orch.planner.validate(plan).ok


def test_a_pool_of_workers_has_as_many_as_it_may_have():
    orch = TaskOrchestrator(concurrency=8, unknown_capability="wait")
    orch.agents.template("w", capabilities=["w"], handler=lambda task, context: None)
    orch.agents.pool("w", min_agents=0, max_agents=2, interval=0.2)

    @orch.planner.template("go")
    def go():
        flow = Workflow("w")
        for number in range(10):
            flow.add(Task("w", id=f"t{number}", requires=["w"], expected=10))
        return flow

    def told():
        assert refused(orch, Deadline(49)).conflict == ("the deadline of 49 s",)
        plan = orch.planner.plan(asked(Deadline(50)))
        assert float(plan.estimated_duration) == 50
        assert orch.planner.validate(plan).makespan == 50

    told()
    with orch:
        told()
        for _ in (1, 2):
            orch.agents.spawn("w")
            told()


def test_a_plan_of_the_same_shape_keeps_its_own_deadline():
    """Three on two workers: no bound says that it is late, only the order does."""
    orch = TaskOrchestrator(concurrency=2)

    @orch.planner.template("go")
    def go(day):
        flow = Workflow("w")
        for name in "abc":
            flow.add(Task("step", day, id=name))
        return flow

    def planned(day):
        return orch.planner.plan(asked(Deadline(100), context={"day": day}), cache=True)

    for _ in range(65):
        orch.planner.estimator.observe("step", 49.8)
    assert float(planned(1).estimated_duration) == pytest.approx(99.6)
    for _ in range(60):
        orch.planner.estimator.observe("step", 50.2)
    with pytest.raises(PlanningError, match="takes 100"):
        planned(2)


def test_ways_that_nobody_had_time_for_are_no_proof():
    """The third would do: of what was not looked at, nothing is said."""
    orch = TaskOrchestrator()

    class Slow:
        def decompose(self, request):
            for seconds in (50, 40, 5):
                flow = Workflow(f"w{seconds}")
                flow.task(do, 1, id="only", expected=seconds)
                yield flow
                sleep(0.05)

    orch.planner.decomposer = Slow()
    refusal = refused(orch, Deadline(10), max_seconds=0.01)
    assert refusal.conflict == ()
    assert "given up" in str(refusal)
    assert "cannot" not in str(refusal)
    assert "max_seconds=" in str(refusal)
    assert len(orch.planner.plan(asked(Deadline(10)), max_seconds=60).tasks) == 1


def test_orders_that_nobody_had_time_for_are_no_proof():
    """Five slots are full from the first moment to the last, in some order."""
    seconds = 390, 595, 356, 379, 133, 378, 439, 46, 134, 59, 424, 559, 244, 486, 363
    assert sum(seconds) == 5 * 997
    orch = shared(*((each, 1) for each in seconds), cpu=5)
    conflict: tuple[str, ...] = ()
    try:
        plan = orch.planner.plan(asked(Deadline(997)))
        assert orch.simulate(plan).makespan == 997
    except PlanningError as refusal:
        conflict = refusal.conflict
    assert conflict == ()
    assert refused(orch, Deadline(996.9)).conflict == ("the deadline of 996.9 s",)


def test_the_last_waits_give_the_schedule_whatever_there_is():
    """With as much of all as one likes, each task begins as the schedule says."""
    durations, capacities = [3, 3, 2, 2, 2], [2]
    problem = Problem(durations, [[] for _ in durations], [[1]] * 5, capacities)
    order = in_time(problem, 6)
    schedule = order.schedule
    assert schedule is not None
    *_, last = waits_that_keep(problem, schedule, (), problem)
    parents = [[up for up, then in last if then == number] for number in range(5)]
    without = Problem(durations, parents, [[0]] * 5, capacities)
    starts, _ = parallel(without, range(5))
    assert starts == list(schedule.starts)
