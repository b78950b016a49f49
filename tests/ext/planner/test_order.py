"""Laws of the order of tasks: always right, and never worse."""

from __future__ import annotations

from itertools import pairwise, permutations, product
from random import Random
from time import process_time

import pytest
from hypothesis import given, settings, strategies as st
from tests.house.tools.examples import examples

from taskorch import Task, TaskOrchestrator, Workflow
from taskorch.ext.planner import Problem, SearchOptimizer, TaskRequest, _solver
from taskorch.ext.planner._job_shop import best_order
from taskorch.ext.planner._scheduling import (
    heft,
    improve,
    improve_workers,
    lower_bound,
    parallel,
    serial,
)
from taskorch.ext.planner._waits import order_edges


@st.composite
def problems(draw, *, most=7, workers=False):
    count = draw(st.integers(1, most))
    durations = draw(st.lists(st.integers(0, 6), min_size=count, max_size=count))
    parents = [
        draw(st.lists(st.integers(0, n - 1), unique=True, max_size=2)) if n else []
        for n in range(count)
    ]
    demands = [[draw(st.integers(0, 3)), draw(st.integers(0, 2))] for _ in range(count)]
    lengths = None
    if workers:
        demands = [[] for _ in range(count)]
        lengths = [
            draw(st.dictionaries(st.integers(0, 2), st.integers(1, 9), min_size=1))
            for _ in range(count)
        ]
    return Problem(durations, parents, demands, [] if workers else [3, 2], lengths)


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
@settings(deadline=None, max_examples=examples(25))
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


@given(problems(workers=True))
@settings(deadline=None)
def test_of_workers_that_differ_it_is_never_worse_than_heft(problem):
    found, bound = improve_workers(problem, 0.01)

    assert bound <= found.makespan <= heft(problem).makespan
    busy = {}
    for n, worker in enumerate(found.workers):
        assert found.ends[n] - found.starts[n] == problem.lengths[n][worker]
        assert all(found.starts[n] >= found.ends[up] for up in problem.parents[n])
        busy.setdefault(worker, []).append((found.starts[n], found.ends[n]))
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


@st.composite
def shops(draw):
    """Tasks that have a machine for themselves; a few need none, or slots besides."""
    count = draw(st.integers(2, 9))
    durations = draw(st.lists(st.integers(0, 6), min_size=count, max_size=count))
    parents = [
        draw(st.lists(st.integers(0, n - 1), unique=True, max_size=2)) if n else []
        for n in range(count)
    ]
    demands = [[1, 0, 0, 0] for _ in range(count)]
    for need in demands:
        machine = draw(st.integers(0, 3))
        if machine:
            need[machine] = 2
    slots = draw(st.sampled_from([count, 3, 2, 1]))
    return Problem(durations, parents, demands, [slots, 2, 3, 3])


@given(shops())
@settings(deadline=None, max_examples=examples(150))
def test_an_order_of_a_shop_is_right_and_no_worse_than_any(problem):
    found, bound = best_order(problem, 3_600, stop=after(60))

    check(problem, found.starts, found.ends)
    assert bound <= found.makespan <= improve(problem, 0.0)[0].makespan


@given(shops())
@settings(deadline=None, max_examples=examples(25))
def test_a_way_along_the_critical_path_is_the_best_of_a_small_shop(problem):
    found, _ = best_order(problem, 3_600, stop=after(400))
    other, bound = improve(problem, 0.03)

    assert found.makespan <= other.makespan
    assert found.makespan >= bound


@st.composite
def open_shops(draw):
    """Jobs that need each machine once, in any order, and perhaps a slot besides."""
    jobs, machines = draw(st.integers(1, 4)), draw(st.integers(2, 4))
    pairs = [(job, machine) for job in range(jobs) for machine in range(machines)]
    lengths = st.lists(st.integers(0, 9), min_size=len(pairs), max_size=len(pairs))
    return open_shop(draw(lengths), pairs, draw(st.sampled_from([len(pairs), 3, 1])))


def open_shop(durations, pairs, slots):
    jobs, machines = (max(each) + 1 for each in zip(*pairs, strict=True))
    demands = [[1] + [0] * (jobs + machines) for _ in pairs]
    for need, (job, machine) in zip(demands, pairs, strict=True):
        need[1 + job] = need[1 + jobs + machine] = 1
    capacities = [slots] + [1] * (jobs + machines)
    return Problem(durations, [()] * len(pairs), demands, capacities)


@given(open_shops())
@settings(deadline=None, max_examples=examples(100))
def test_an_order_of_an_open_shop_is_right_and_no_worse_than_any(problem):
    found, bound = best_order(problem, 3_600, stop=after(60))

    check(problem, found.starts, found.ends)
    assert bound <= found.makespan <= improve(problem, 0.0)[0].makespan


#: An open shop of E. Taillard (see `taillard`): 435 is the best that there can be.
OPEN_SHOP = """71 39 89 54 56 92 34
91 19 13 73 46 81 27
66 95 96 18 14 48 24
78 48 19 68 63 46 94
52 9 91 28 75 60 7
11 37 30 2 98 38 33
52 83 88 45 37 52 77"""


def test_an_open_shop_comes_near_the_best_that_there_is():
    pairs = [(job, machine) for job in range(7) for machine in range(7)]
    problem = open_shop([*map(int, OPEN_SHOP.split())], pairs, 49)
    found, bound = best_order(problem, 3_600, stop=after(2_000))
    assert bound == 435 <= found.makespan <= 1.01 * 435
    assert improve(problem, 3_600, stop=after(100))[0].makespan > 1.02 * 435


def test_a_task_of_a_small_open_shop_waits_though_it_could_begin():
    # Taillard's second of 16 tasks: what begins as soon as it can comes to 241.
    lengths = [45, 83, 70, 5, 80, 45, 58, 24, 29, 56, 29, 61, 74, 45, 64, 43]
    problem = open_shop(lengths, [*product(range(4), repeat=2)], 16)
    found, _ = best_order(problem, 3_600, stop=after(5_000))
    check(problem, found.starts, found.ends)
    assert found.makespan == 236


def after(count):
    """Stops a search that asks so often."""
    asked = iter(range(count))
    return lambda: next(asked, None) is None


#: Machine and duration of each step of each job, and the least that they take together.
FT06 = """2 1 0 3 1 6 3 7 5 3 4 6
1 8 2 5 4 10 5 10 0 10 3 4
2 5 3 4 5 8 0 9 1 1 4 7
1 5 0 5 2 5 3 3 4 8 5 9
2 9 1 3 4 5 5 4 0 3 3 1
1 3 3 3 5 9 0 10 4 4 2 1"""


def job_shop(lines, unit=1):
    durations, parents, demands = [], [], []
    for line in lines:
        steps = list(zip(line[::2], line[1::2], strict=True))
        for place, (machine, length) in enumerate(steps):
            parents.append([len(durations) - 1] if place else [])
            durations.append(length * unit)
            demands.append([1, *(int(machine == m) for m in range(len(steps)))])
    return Problem(
        durations, parents, demands, [len(durations), *[1] * len(demands[0][1:])]
    )


def taillard(jobs, machines, time_seed, machine_seed):
    """An instance as E. Taillard draws them (European J. Oper. Res. 64, 1993)."""

    def uniform(seed, low, high):
        seed = (16_807 * seed) % (2**31 - 1)
        return seed, low + int(seed / (2**31 - 1) * (high - low + 1))

    lengths = [[0] * machines for _ in range(jobs)]
    for job in lengths:
        for place in range(machines):
            time_seed, job[place] = uniform(time_seed, 1, 99)
    lines = []
    for job in lengths:
        order = list(range(machines))
        for place in range(machines):
            machine_seed, other = uniform(machine_seed, place, machines - 1)
            order[place], order[other] = order[other], order[place]
        lines.append([each for pair in zip(order, job, strict=True) for each in pair])
    return job_shop(lines)


def test_more_moves_come_near_the_best_that_is_known():
    small = job_shop([[*map(int, line.split())] for line in FT06.splitlines()])
    assert best_order(small, 3_600, stop=after(3_000))[0].makespan == 55

    # ta01: 1,231 is proven; what rules alone find is a quarter above.
    large = taillard(15, 15, 840_612_802, 398_197_754)
    spans = [best_order(large, 3_600, stop=after(n))[0].makespan for n in (0, 1_500)]
    assert spans[0] > 1.1 * 1_231
    assert 1_231 <= spans[1] < 1.06 * 1_231


def test_a_plan_of_machines_is_carried_out_as_it_was_found():
    orch = TaskOrchestrator(resources={f"m{m}": 1 for m in range(6)}, concurrency=50)
    orch.planner.optimizer = SearchOptimizer(solver=False)
    wf = Workflow("shop")
    for job, line in enumerate(FT06.splitlines()):
        steps = [*map(int, line.split())]
        wf.chain(
            *(
                wf.task(print, id=f"j{job}-{m}", expected=d, resources={f"m{m}": 1})
                for m, d in zip(steps[::2], steps[1::2], strict=True)
            )
        )
    orch.planner.template("shop")(lambda: wf)
    plan = orch.planner.plan(TaskRequest("shop", "shop"))

    better = orch.planner.optimize(plan, seconds=1)

    assert float(better.estimated_duration) == orch.simulate(better).makespan >= 55
    assert better.estimated_duration < plan.estimated_duration


@given(problems(most=9), st.integers(2, 4))
@settings(deadline=None)
def test_waits_hold_back_what_would_use_more_than_may_be(problem, more):
    """With more of all than may be used, as under a MaxPeak."""
    found, _ = improve(problem, 0.0)
    loose = Problem(
        problem.durations,
        problem.parents,
        problem.demands,
        [more * capacity for capacity in problem.capacities],
    )
    edges = order_edges(problem, found, loose)
    parents = [[*above] for above in problem.parents]
    for up, n in edges:
        parents[n].append(up)
    waits = Problem(problem.durations, parents, problem.demands, loose.capacities)

    starts, ends = parallel(waits, found.order())

    if edges:
        check(problem, starts, ends)
        assert max(ends) <= found.makespan


def test_a_large_plan_is_put_in_order_in_about_the_time_that_is_said():
    """Waits were sought by a simulation each: minutes of processor for such a one."""
    random = Random(1)
    orch = TaskOrchestrator(resources={"cpu": 8}, concurrency=10_000)
    orch.planner.optimizer = SearchOptimizer(solver=False)
    wf = Workflow("large")
    for n in range(1_500):
        above = [f"t{random.randrange(max(0, n - 60), n)}"] if n else []
        span, cpu = random.randint(1, 50), random.randint(1, 4)
        wf.task(print, id=f"t{n}", expected=span, resources={"cpu": cpu}, after=above)
    orch.planner.template("large")(lambda: wf)
    plan = orch.planner.plan(TaskRequest("large", "large"))
    spent = process_time()

    better = orch.planner.optimize(plan, seconds=0.5)
    hurried = orch.planner.optimize(plan, seconds=0.0)

    assert process_time() - spent < 8
    assert better.estimated_duration <= plan.estimated_duration
    assert "too short for so many tasks" in hurried.optimizer
    assert hurried.estimated_duration == plan.estimated_duration


@pytest.mark.skipif(not _solver.is_there(), reason="ortools is not installed")
def test_a_solver_finds_what_is_as_good_as_can_be():
    problem = Problem([3, 2, 2, 4], [[], [], [0], [1]], [[1]] * 4, [2])
    hint, _ = improve(problem, 0.0, rules=["shortest first"])

    found, is_best = _solver.solve(problem, 10, hint)

    check(problem, found.starts, found.ends)
    assert is_best
    assert found.makespan == 6


def test_a_plan_pins_tasks_to_the_workers_that_are_fast():
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
