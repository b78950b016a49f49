"""Laws of the order of tasks: always right, and never worse."""

from __future__ import annotations

from itertools import pairwise, permutations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taskorch import Task, TaskOrchestrator, Workflow
from taskorch.planning import Problem, SearchOptimizer, TaskRequest, _solver
from taskorch.planning._problems import order_edges
from taskorch.planning._scheduling import (
    heft,
    improve,
    improve_agents,
    lower_bound,
    parallel,
    serial,
)


@st.composite
def problems(draw, *, most=7, agents=False):
    count = draw(st.integers(1, most))
    durations = draw(st.lists(st.integers(0, 6), min_size=count, max_size=count))
    parents = [
        draw(st.lists(st.integers(0, n - 1), unique=True, max_size=2)) if n else []
        for n in range(count)
    ]
    demands = [[draw(st.integers(0, 3)), draw(st.integers(0, 2))] for _ in range(count)]
    lengths = None
    if agents:
        demands = [[] for _ in range(count)]
        lengths = [
            draw(st.dictionaries(st.integers(0, 2), st.integers(1, 9), min_size=1))
            for _ in range(count)
        ]
    return Problem(durations, parents, demands, [] if agents else [3, 2], lengths)


def check(problem, starts, ends):
    for n, above in enumerate(problem.parents):
        assert all(starts[n] >= ends[up] for up in above)
        assert ends[n] == starts[n] + problem.durations[n]
    for moment in starts:
        for r, capacity in enumerate(problem.capacities):
            used = sum(
                problem.demands[n][r]
                for n in range(len(problem))
                if starts[n] <= moment < ends[n]
            )
            assert used <= capacity


@given(problems())
@settings(deadline=None)
def test_what_is_found_is_right_and_between_the_bound_and_any_order(problem):
    found, bound = improve(problem, 0.01)

    check(problem, found.starts, found.ends)
    assert bound == lower_bound(problem) <= found.makespan
    for make in (serial, parallel):
        starts, ends = make(problem, range(len(problem)))
        check(problem, starts, ends)
        assert found.makespan <= max(ends)


@given(problems(most=5))
@settings(deadline=None, max_examples=25)
def test_of_a_few_tasks_the_best_is_found(problem):
    legal = [
        order
        for order in permutations(range(len(problem)))
        if all(
            order.index(up) < order.index(n)
            for n, a in enumerate(problem.parents)
            for up in a
        )
    ]
    best = min(max(serial(problem, order)[1]) for order in legal)

    assert improve(problem, 0.2)[0].makespan == best


@given(problems())
@settings(deadline=None)
def test_an_order_with_its_waits_gives_the_schedule(problem):
    found, _ = improve(problem, 0.01)
    edges = order_edges(problem, found)
    parents = [[*above] for above in problem.parents]
    for up, n in edges:
        assert found.ends[up] <= found.starts[n]
        parents[n].append(up)
    waits = Problem(problem.durations, parents, problem.demands, problem.capacities)

    starts, ends = parallel(waits, found.order())

    check(problem, starts, ends)
    if edges:
        assert max(ends) <= found.makespan


@given(problems(agents=True))
@settings(deadline=None)
def test_of_agents_that_differ_it_is_never_worse_than_heft(problem):
    found, bound = improve_agents(problem, 0.01)

    assert bound <= found.makespan <= heft(problem).makespan
    busy = {}
    for n, agent in enumerate(found.agents):
        assert found.ends[n] - found.starts[n] == problem.lengths[n][agent]
        assert all(found.starts[n] >= found.ends[up] for up in problem.parents[n])
        busy.setdefault(agent, []).append((found.starts[n], found.ends[n]))
    for spans in busy.values():
        spans.sort()
        assert all(a[1] <= b[0] for a, b in pairwise(spans))


def planned(solver):
    """Priorities alone do not suffice here: the long one would begin too late."""
    orch = TaskOrchestrator(resources={"cpu": 2}, concurrency=8)
    orch.planner.optimizer = SearchOptimizer(solver=solver)

    @orch.planner.template("w")
    def w():
        wf = Workflow("w")
        wf.task(print, id="first", expected=1, resources={"cpu": 1})
        wf.task(print, id="wide", expected=5, resources={"cpu": 2}, after=["first"])
        wf.task(print, id="tail", expected=20, after=["wide"])
        wf.task(print, id="long", expected=10, resources={"cpu": 1})
        return wf

    return orch, orch.planner.plan(TaskRequest("w", "w"))


@pytest.mark.parametrize("solver", [False, None])
def test_a_task_waits_where_it_is_worth_it(solver):
    orch, plan = planned(solver)

    better = orch.planner.optimize(plan, seconds=0.5)

    assert float(plan.estimated_duration) == orch.simulate(plan).makespan == 35
    assert float(better.estimated_duration) == orch.simulate(better).makespan == 26
    assert [d.needs for d in better.dependencies if d.reason == "the order"] != []
    without = orch.planner.optimize(plan, seconds=0.1, waits=False)
    assert float(without.estimated_duration) <= 35
    with orch:
        assert len(orch.workflows.start(better).result()) == 4


@pytest.mark.skipif(not _solver.is_there(), reason="ortools is not installed")
def test_a_solver_finds_what_is_as_good_as_can_be():
    problem = Problem([3, 2, 2, 4], [[], [], [0], [1]], [[1]] * 4, [2])
    hint, _ = improve(problem, 0.0, rules=["shortest first"])

    found, is_best = _solver.solve(problem, 10, hint)

    check(problem, found.starts, found.ends)
    assert is_best
    assert found.makespan == 6


def test_a_plan_pins_tasks_to_the_agents_that_are_fast():
    orch = TaskOrchestrator()
    did = []
    for name in ("slow", "fast"):
        orch.agent(name, capabilities={"dig"}, max_concurrency=1)(
            lambda task, context, name=name: did.append((task.payload, name))
        )

    @orch.planner.template("ditch")
    def ditch():
        wf = Workflow("ditch")
        wf.chain(*(wf.add(Task("dig", n, id=f"d{n}", expected=10)) for n in range(3)))
        return wf

    plan = orch.planner.plan(TaskRequest("r", "ditch"))
    plan = orch.planner.optimize(plan, seconds=0.1, speeds={"slow": 0.5, "fast": 2})

    assert float(plan.estimated_duration) == 15
    assert {task.agent for task in plan.tasks} == {"fast"}
    with orch:
        orch.workflows.start(plan).result()
    assert did == [(0, "fast"), (1, "fast"), (2, "fast")]
