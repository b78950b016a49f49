"""Laws that hold for every plan, exactly, in nanoseconds."""

from fractions import Fraction
from itertools import pairwise

import pytest
from hypothesis import given, settings, strategies as st
from tests.ext.simulation.plans.plans import (
    check_schedule,
    critical_ns,
    ns,
    work,
    workflows,
)
from tests.house.tools.examples import examples

from taskorch import Resources, Task, TaskOrchestrator
from taskorch.core.worlds import PlanRun
from taskorch.policies import PriorityQueue

slots = st.integers(1, 6)
few = settings(max_examples=examples(25))


@few
@given(workflows())
def test_on_one_slot_a_plan_takes_the_sum_of_its_parts(plan):
    wf, lengths = plan
    report = TaskOrchestrator(concurrency=1).simulate(wf, lengths)
    assert ns(report.makespan) == sum(map(ns, lengths.values()))
    check_schedule(report, wf, lengths)


@few
@given(workflows())
def test_with_plenty_of_slots_it_takes_its_critical_path(plan):
    wf, lengths = plan
    report = TaskOrchestrator(concurrency=len(wf)).simulate(wf, lengths)
    critical = critical_ns(wf, lengths)
    assert ns(report.makespan) == ns(report.critical_length) == critical
    assert ns(report.lower_bound) == critical
    assert report.savings == ()
    path = report.critical_path
    assert sum(ns(lengths[name]) for name in path) == critical
    for above, name in pairwise(path):
        assert above in wf.dependencies[name]


@few
@given(workflows(), slots)
def test_no_schedule_is_worse_than_grahams_bound(plan, count):
    """It never idles on purpose: (2 - 1/P) times the lower bound is its worst."""
    wf, lengths = plan
    report = TaskOrchestrator(concurrency=count).simulate(wf, lengths)
    work = sum(map(ns, lengths.values()))
    bound = max(Fraction(critical_ns(wf, lengths)), Fraction(work, count))
    assert bound <= ns(report.makespan) <= (2 - Fraction(1, count)) * bound
    assert ns(report.lower_bound) == -(-bound.numerator // bound.denominator)
    check_schedule(report, wf, lengths)


@few
@given(workflows(), slots)
def test_what_takes_twice_as_long_takes_twice_as_long(plan, count):
    wf, lengths = plan
    orch = TaskOrchestrator(concurrency=count)
    double = {name: 2 * seconds for name, seconds in lengths.items()}
    once, twice = orch.simulate(wf, lengths), orch.simulate(wf, double)
    assert ns(twice.makespan) == 2 * ns(once.makespan)


@few
@given(workflows(resources=True), slots)
def test_no_pool_is_over_committed_and_use_adds_up(plan, count):
    """At no instant do the attempts under way hold more than there is."""
    wf, lengths = plan
    orch = TaskOrchestrator(concurrency=count, resources={"cpu": 3})
    report = orch.simulate(wf, lengths)
    check_schedule(report, wf, lengths)
    cpu = {name: wf[name].task.resources["cpu"] for name in wf}
    most = {"slots": 0, "cpu": 0.0}
    for one in report.schedule:
        now = [
            other.task_id
            for other in report.schedule
            if other.start <= one.start < other.end
        ]
        most["slots"] = max(most["slots"], len(now))
        most["cpu"] = max(most["cpu"], sum(cpu[name] for name in now))
    assert most["slots"] <= report.peak.slots <= count
    assert most["cpu"] <= report.peak.resources["cpu"] <= 3
    area = sum(lengths.values())
    assert abs(report.mean.slots * report.makespan - area) < 1e-6
    held = sum(cpu[name] * seconds for name, seconds in lengths.items())
    assert abs(report.mean.resources["cpu"] * report.makespan - held) < 1e-6
    assert ns(report.lower_bound) <= ns(report.makespan)


@st.composite
def lists_of_tasks(draw):
    """Tasks of a few kinds, as nearly all are or not."""
    size = draw(st.integers(0, 8))
    is_plain = draw(st.booleans())
    kinds = draw(st.lists(st.sampled_from(KINDS[: 3 if is_plain else None])))
    tasks = []
    for number in range(size):
        options = kinds[number % len(kinds)] if kinds else {}
        many = st.sets(st.integers(0, max(0, number - 1)), max_size=number and 2)
        above = [tasks[place] for place in sorted(draw(many))]
        tasks.append(Task.call(work, after=above, **options))
    return tasks if is_plain else draw(st.permutations(tasks))


KINDS = (
    {},
    {"priority": 2},
    {"resources": Resources(cpu=1)},
    {"resources": Resources(cpu=9)},
    {"not_before": 1.5},
    {"deadline": 1.0},
    {"timeout": 0.5},
    {"expected": 2.0},
    {"on_parent_failure": "skip"},
    {"join": "finished"},
)


@given(
    lists_of_tasks(),
    slots,
    st.sampled_from([None, 10.0, 0.0]),
    st.sampled_from([1.0, {"work": 1.0}, lambda task, dice: dice.expovariate(1.0)]),
    st.booleans(),
)
def test_the_quick_way_in_is_the_general_one(tasks, count, aging, durations, fails):
    """Whatever there is to ask about, and in whatever order they come."""
    options = {} if aging is None else {"queue": PriorityQueue(aging=aging)}
    failures = {"work": 0.3} if fails else {}

    def simulate():
        orch = TaskOrchestrator(concurrency=count, resources={"cpu": 3}, **options)
        report = orch.simulate(tasks, durations, failures=failures)
        return report.schedule, report.never, report.failed, report.peak

    quick = simulate()
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(PlanRun, "submit_plain", lambda _: False)
        assert simulate() == quick


@settings(max_examples=examples(8))
@given(workflows(), st.integers(0, 3))
def test_the_same_seed_gives_the_same_report(plan, seed):
    wf, _ = plan

    def simulate():
        return TaskOrchestrator(concurrency=2).simulate(
            wf,
            lambda task, random: random.expovariate(1.0),
            failures=dict.fromkeys(wf, 0.3),
            draws=3,
            seed=seed,
        )

    one, other = simulate(), simulate()
    assert one.schedule == other.schedule
    assert one.makespans == other.makespans
    assert one.failed == other.failed
    assert str(one) == str(other)
