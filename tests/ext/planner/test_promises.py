"""What a plan promises: it keeps its constraints, is of now, and nobody waits for it."""

from __future__ import annotations

import json
import threading

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from tests.ext.planner.tools import do, release
from tests.house.tools.examples import examples

from taskorch import Resources, Task, TaskOrchestrator, Workflow
from taskorch.errors import InvalidTaskError, PlanningError
from taskorch.ext.planner import (
    Deadline,
    Domain,
    ExecutionPlan,
    MaxCost,
    MaxPeak,
    Schedule,
    TaskRequest,
)

PARTS = [str(number) for number in range(10)]


def two_ways():
    """Ten builds that share 4 cpu, 150 s; or one elsewhere, 20 s, which costs more."""
    domain = Domain("release")

    @domain.operator(duration=30, cost=1, resources=Resources(cpu=2), run=do)
    def build(state, part):
        return state.set(("built", part), True)

    @domain.operator(duration=20, cost=15, run=do)
    def remote(state, parts):
        return state.set("remote", True)

    @domain.method("ship", cost=1)
    def here(state, parts):
        return [("build", part) for part in parts]

    @domain.method("ship", cost=2)
    def there(state, parts):
        return [("remote", parts)]

    @domain.method("stay")
    def only_here(state, parts):
        return here(state, parts)

    return domain


def asked(kind, *constraints, parts=PARTS, **fields):
    context = {"args": [parts]}
    return TaskRequest("r", kind, context=context, constraints=constraints, **fields)


@pytest.fixture
def orch():
    orch = TaskOrchestrator(resources={"cpu": 4}, concurrency=8)
    orch.planner.domain(two_ways())
    return orch


# -- deadlines -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("constraints", "names"),
    [
        ([], ["build"]),
        ([Deadline(150)], ["build"]),
        ([Deadline(149)], ["remote"]),
        ([Deadline(60)], ["remote"]),
        ([Deadline(29)], ["remote"]),
        ([Deadline(60), MaxPeak("cpu", 4)], ["remote"]),
    ],
)
def test_a_way_that_the_pools_make_late_is_left_for_another(orch, constraints, names):
    plan = orch.planner.plan(asked("ship", *constraints))

    assert {task.type for task in plan.tasks} == set(names)
    assert orch.planner.validate(plan).ok
    assert orch.planner.validate(orch.planner.optimize(plan, seconds=0.05)).ok


@pytest.mark.parametrize("field", ["constraint", "deadline"])
def test_a_deadline_that_no_way_keeps_is_refused_with_the_earliest_end(orch, field):
    if field == "constraint":
        request = asked("stay", Deadline(100), MaxCost(1000))
    else:
        request = asked("stay", MaxCost(1000), deadline=100)

    with pytest.raises(PlanningError) as caught:
        orch.planner.plan(request)

    assert caught.value.conflict == ("the deadline of 100 s",)
    assert "the earliest end that was found is 150 s" in str(caught.value)


def test_a_plan_that_is_late_as_it_is_is_put_in_an_order_that_is_not():
    orch = TaskOrchestrator(resources={"cpu": 2}, concurrency=8)

    @orch.planner.template("w")
    def w():
        flow = Workflow("w")
        flow.task(do, 1, id="first", expected=1, resources={"cpu": 1})
        flow.task(do, 1, id="wide", expected=5, resources={"cpu": 2}, after=["first"])
        flow.task(do, 1, id="tail", expected=20, after=["wide"])
        flow.task(do, 1, id="long", expected=10, resources={"cpu": 1})
        return flow

    plan = orch.planner.plan(TaskRequest("r", "w"))
    assert float(plan.estimated_duration) == 35
    plan = orch.planner.plan(TaskRequest("r", "w", constraints=[Deadline(30)]))
    assert orch.simulate(plan).makespan == 26
    assert orch.planner.validate(plan).ok
    with pytest.raises(PlanningError, match="earliest end that was found is 26 s"):
        orch.planner.plan(TaskRequest("r", "w", constraints=[Deadline(25)]))


# -- agents that differ ----------------------------------------------------------------


def with_workers(count, needs=()):
    orch = TaskOrchestrator()
    for name in ("fast", "cheap"):
        orch.agent(name, capabilities={"w"}, max_concurrency=1)(lambda task, context: 1)

    @orch.planner.template("job")
    def job():
        flow = Workflow("job")
        for number in range(count):
            after = [f"t{up}" for up in needs if up < number]
            flow.add(Task("w", id=f"t{number}", expected=10, after=after))
        return flow

    return orch


SPEEDS = {"fast": 2.0, "cheap": 0.5}
PRICES = {"fast": 1.0, "cheap": 0.1}


def cheapest(orch, limit, seconds):
    """A plan of the job that ends in time, and for which a cheaper order was sought."""
    plan = orch.planner.plan(TaskRequest("r", "job", constraints=[Deadline(limit)]))
    return orch.planner.optimize(
        plan, seconds=seconds, speeds=SPEEDS, prices=PRICES, aims=["cost"]
    )


def test_the_cheapest_that_keeps_the_deadline():
    orch = with_workers(6)

    better = cheapest(orch, 31, seconds=0.3)

    # By hand: five by the fast one, one by the cheap one.
    assert float(better.estimated_duration) == 25
    assert better.estimated_cost == pytest.approx(27)
    verdict = orch.planner.validate(better)
    assert verdict.ok
    assert verdict.makespan == 25


def test_validation_knows_the_speeds_that_a_plan_was_made_with():
    orch = with_workers(6)
    cheap = cheapest(orch, 121, seconds=0.1)
    assert float(cheap.estimated_duration) == 120
    document = cheap.to_dict()
    document["request"]["constraints"] = [{"kind": "deadline", "seconds": 31}]
    late = ExecutionPlan.from_dict(json.loads(json.dumps(document)))

    verdict = orch.planner.validate(late)

    assert (late.speeds, late.prices) == (SPEEDS, PRICES)
    assert not verdict.ok
    assert "120" in str(verdict)
    # What is asked for next is judged by the same speeds and prices.
    assert orch.planner.validate(orch.planner.optimize(late, seconds=0.3)).ok


def worth_of(plan, aims):
    parts = {"makespan": float(plan.estimated_duration), "cost": plan.estimated_cost}
    return [parts[name] for name in aims]


@settings(max_examples=examples(15), deadline=None)
@given(
    count=st.integers(2, 6),
    needs=st.lists(st.integers(0, 4), max_size=2, unique=True),
    speeds=st.fixed_dictionaries(
        {name: st.sampled_from([0.5, 1.0, 2.0, 3.0]) for name in SPEEDS}
    ),
    limit=st.integers(10, 120),
    aims=st.sampled_from([("makespan", "cost"), ("cost", "makespan")]),
)
def test_no_order_is_worse_by_its_aim_or_breaks_what_was_kept(
    count, needs, speeds, limit, aims
):
    orch = with_workers(count, needs)
    try:
        plan = orch.planner.plan(TaskRequest("r", "job", constraints=[Deadline(limit)]))
    except PlanningError:
        return
    first, then = aims
    options = {"seconds": 0.02, "speeds": speeds, "prices": PRICES}
    one = orch.planner.optimize(plan, aims=[first], **options)
    kept = orch.planner.validate(one).ok
    assert kept == (float(one.estimated_duration) <= limit)
    two = orch.planner.optimize(one, aims=[then], **options)
    three = orch.planner.optimize(two, aims=[then], seed=9, **options)

    assert worth_of(three, [then]) <= worth_of(two, [then])
    if kept:
        assert worth_of(two, [then]) <= worth_of(one, [then])
        assert orch.planner.validate(two).ok
        assert orch.planner.validate(three).ok


@settings(max_examples=examples(15), deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(1, 9), st.integers(1, 3), st.lists(st.integers(0, 5))),
        min_size=2,
        max_size=7,
    ),
    st.sampled_from([["makespan"], ["peak"], {"makespan": 1, "peak": 3}]),
    st.integers(0, 30),
)
def test_no_order_in_pools_is_worse_by_its_aim_or_late(tasks, aims, slack):
    orch = TaskOrchestrator(resources={"cpu": 4}, concurrency=5)

    @orch.planner.template("job")
    def job():
        flow = Workflow("job")
        for number, (seconds, cpu, needs) in enumerate(tasks):
            after = sorted({f"t{up}" for up in needs if up < number})
            resources = {"cpu": cpu}
            flow.task(
                do,
                1,
                id=f"t{number}",
                expected=seconds,
                after=after,
                resources=resources,
            )
        return flow

    free = orch.planner.plan(TaskRequest("r", "job"))
    limit = orch.simulate(free).makespan + slack
    plan = orch.planner.plan(TaskRequest("r", "job", constraints=[Deadline(limit)]))
    assert orch.planner.validate(plan).ok

    better = orch.planner.optimize(plan, aims=aims, seconds=0.02)

    assert orch.planner.validate(better).ok
    before, after = orch.simulate(plan), orch.simulate(better)
    if aims == ["makespan"]:
        assert after.makespan <= before.makespan
    if aims == ["peak"]:
        # The mean of both shares, of what could be used at once.
        most = [min(5, len(tasks)), min(4, sum(cpu for _, cpu, _ in tasks))]
        shares = [
            one.peak.slots / most[0] + one.peak.resources["cpu"] / most[1]
            for one in (after, before)
        ]
        assert shares[0] <= shares[1] + 1e-9


@pytest.mark.parametrize("aims", [["peak"], {"makespan": 1, "peak": 9}])
def test_a_smaller_peak_breaks_no_deadline(orch, aims):
    parts = ["a", "b", "c"]
    free = orch.planner.plan(asked("stay", parts=parts))
    narrow = orch.planner.optimize(free, seconds=0.05, aims=aims)
    assert orch.simulate(narrow).makespan == 90

    plan = orch.planner.plan(asked("stay", Deadline(89), parts=parts))
    better = orch.planner.optimize(plan, seconds=0.05, aims=aims)

    assert orch.simulate(better).makespan == 60
    assert orch.planner.validate(better).ok


class Worst:
    """An optimizer that puts one after another, the shortest first."""

    def optimize(self, problem, seconds, seed):
        starts, ends = [0] * len(problem), [0] * len(problem)
        now = 0
        for number in sorted(range(len(problem)), key=lambda n: problem.durations[n]):
            starts[number] = now
            now = ends[number] = now + problem.durations[number]
        return Schedule(starts, ends, [None] * len(problem), "the worst"), 0


@pytest.mark.parametrize("aims", [["makespan"], {"makespan": 1, "peak": 0.01}])
def test_what_is_worse_is_not_given_back(aims):
    orch = TaskOrchestrator(concurrency=2)

    @orch.planner.template("job")
    def job():
        flow = Workflow("job")
        for seconds in (6, 2, 2, 2):
            flow.task(do, seconds, expected=seconds)
        return flow

    plan = orch.planner.plan(TaskRequest("r", "job"))
    assert orch.simulate(plan).makespan == 6
    orch.planner.optimizer = Worst()

    better = orch.planner.optimize(plan, seconds=0.01, aims=aims)

    assert orch.simulate(better).makespan == 6
    assert float(better.estimated_duration) == 6
    assert "nothing better was found" in better.explain()


# -- searches --------------------------------------------------------------------------


def test_nobody_waits_for_a_search(orch):
    entered, go = threading.Event(), threading.Event()
    slow = orch.planner.domain("slow")

    @slow.method("think")
    def think(state):
        entered.set()
        assert go.wait(60)
        return []

    plans = []

    def plan():
        plans.append(orch.planner.plan(TaskRequest("r", "think")))

    thread = threading.Thread(target=plan)
    thread.start()
    try:
        assert entered.wait(60)
        # All of these would wait for the search, if it held the lock.
        one = orch.planner.plan(asked("ship"))
        assert orch.planner.validate(orch.planner.optimize(one, seconds=0.01)).ok
        assert orch.planner.estimate(one).cost == 10
    finally:
        go.set()
        thread.join()
    assert len(plans) == 1


def test_a_search_that_goes_on_for_ever_ends():
    orch = TaskOrchestrator()
    domain = orch.planner.domain("d")
    domain.operator(lambda state, n: state.set(n, True), name="step", duration=1)
    domain.method("deeper", cost=1)(lambda state, n=0: [("deeper", n + 1)])
    domain.method("more")(lambda state, n=0: [("step", n), ("more", n + 1)])
    domain.method("out", cost=1)(lambda state, n=0: [("out", n + 1)])
    domain.method("out", cost=2)(lambda state, n=0: [("step", 1)] if n == 0 else None)

    with pytest.raises(PlanningError, match="10,000 levels deep"):
        orch.planner.plan(TaskRequest("r", "deeper"))
    assert list(orch.planner.plan(TaskRequest("r", "out")).workflow) == ["step-1"]
    with pytest.raises(PlanningError, match="given up after 101 steps"):
        orch.planner.plan(TaskRequest("r", "more"), max_steps=100)
    with pytest.raises(PlanningError, match="given up") as caught:
        orch.planner.plan(TaskRequest("r", "more"), max_seconds=0.05)
    assert "max_seconds=" in str(caught.value)
    for wrong in ({"max_seconds": 0}, {"max_steps": 0}, {"max_seconds": float("inf")}):
        with pytest.raises(InvalidTaskError):
            orch.planner.plan(TaskRequest("r", "out"), **wrong)


# -- what is no amount, and no name ----------------------------------------------------


@pytest.mark.parametrize("value", [float("inf"), float("nan"), 1e300, -1, "soon", True])
@pytest.mark.parametrize("field", ["duration", "cost"])
@pytest.mark.parametrize("is_function", [False, True])
def test_an_amount_that_is_none_is_refused(field, value, is_function):
    orch = TaskOrchestrator()
    domain = orch.planner.domain("d")
    options = {field: (lambda: value) if is_function else value}

    def planned():
        domain.operator(lambda state: state, name="go", **options)
        orch.planner.plan(TaskRequest("r", "go"))

    with pytest.raises(InvalidTaskError, match=f"operator 'go': .*{field}"):
        planned()


@pytest.mark.parametrize("name", ["../x y", "a b", "a/b", "..", "", "x\n", 5])
def test_an_id_that_no_run_can_have_is_refused(name):
    with pytest.raises(InvalidTaskError, match="the id of a request"):
        TaskRequest(name, "ship")


# -- texts -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("ship parts=a,b within 2 hours, urgently", ["a", "b"]),
        ('ship it, parts=["a", "b c"], at most 60 cost', ["a", "b c"]),
        ('ship parts=["a"].', ["a"]),
    ],
)
def test_a_text_gives_arguments_by_their_names(text, parts):
    orch = TaskOrchestrator(resources={"cpu": 4})
    orch.planner.domain(release())

    plan = orch.planner.plan(text)

    builds = [task.id for task in plan.tasks if task.type == "build"]
    assert builds == [f"build-{part.replace(' ', '-')}" for part in parts]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("ship parts=a, b", "a part of it"),
        ("ship parts=a ,b within 2 hours", "a part of it"),
        ("ship parts=a, b, urgently", "a part of it"),
        ("ship parts=a parts=b", "twice"),
    ],
)
def test_a_text_whose_values_are_not_clear_is_refused(text, said):
    orch = TaskOrchestrator(resources={"cpu": 4})
    orch.planner.domain(release())

    with pytest.raises(PlanningError, match=said):
        orch.planner.plan(text)


def test_defaults_are_those_of_each_method():
    orch = TaskOrchestrator()
    domain = orch.planner.domain("d")
    domain.operator(lambda state, a, k: state, name="step", duration=1)
    domain.method("go", cost=1)(lambda state, a, k=1: None)
    domain.method("go", cost=2)(lambda state, a, k=2: [("step", a, k)])

    for text, name in (("go a=x", "step-x-2"), ("go a=x k=7", "step-x-7")):
        assert [*orch.planner.plan(text).workflow] == [name]


def test_a_text_without_an_argument_says_which_is_needed():
    orch = TaskOrchestrator(resources={"cpu": 4})
    orch.planner.domain(release())
    for text in ("ship it within 2 hours, urgently", "ship pats=a"):
        with pytest.raises(PlanningError, match="'ship' takes parts") as caught:
            orch.planner.plan(text)
        assert "name=value" in str(caught.value)


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("3", 3),
        ("007", "007"),
        ("1.10", "1.10"),
        ("0.5", 0.5),
        ("true", True),
        ("nan", "nan"),
        ("x.csv.", "x.csv"),
        ("[1, [2]]", [1, [2]]),
        ("1,b", [1, "b"]),
    ],
)
def test_values_in_a_text(word, value):
    orch = TaskOrchestrator()
    seen = []

    @orch.planner.template("press")
    def press(pages):
        seen.append(pages)
        return Workflow("w")

    orch.planner.plan(f"press pages={word}; urgently")
    assert seen == [value]
    assert type(seen[0]) is type(value)


# -- plans that are kept ---------------------------------------------------------------


def test_a_plan_is_of_now_unless_the_same_is_asked_for(tmp_path):
    orch = TaskOrchestrator()

    @orch.planner.template("folder")
    def folder():
        flow = Workflow("w")
        for file in sorted(tmp_path.iterdir()):
            flow.task(do, file.name, id=file.name)
        return flow

    def planned(**options):
        plan = orch.planner.plan(TaskRequest("r", "folder"), **options)
        return sorted(plan.workflow), plan.cache

    for name in ("a", "b"):
        (tmp_path / name).touch()
        kept = planned(cache=True)
        now = planned()
    assert now == (["a", "b"], "not asked")
    assert kept == (["a"], "hit")


def test_different_requests_have_different_plans():
    orch = TaskOrchestrator()

    class Order:
        def __init__(self, number):
            self.number = number

        def __repr__(self):
            return "Order()"

    @orch.planner.template("total")
    def total(x):
        flow = Workflow("w")
        flow.task(do, 1, id=f"n-{x.number if isinstance(x, Order) else x.sum()}")
        return flow

    many, other = np.zeros(5000, int), np.zeros(5000, int)
    other[2500] = 7
    # Their shape is the same, their tasks are not.
    first = "missed: no such request was planned yet"
    for x, name, first_answer in [
        (Order(1), "n-1", first),
        (Order(2), "n-2", "hit"),
        (many, "n-0", "hit"),
        (other, "n-7", "hit"),
    ]:
        for answer in (first_answer, "hit"):
            request = TaskRequest("r", "total", context={"x": x})
            plan = orch.planner.plan(request, cache=True)
            assert ([*plan.workflow], plan.cache) == ([name], answer)

    order = Order(3)
    order.lock = threading.Lock()
    request = TaskRequest("r", "total", context={"x": order})
    for _ in range(2):
        assert "not kept" in orch.planner.plan(request, cache=True).cache


def test_a_helper_that_changes_makes_another_plan(monkeypatch):
    orch = TaskOrchestrator()
    scope = {"do": do, "Workflow": Workflow}
    exec("def helper():\n    return 'flat'", scope)
    exec(
        "def build():\n    w = Workflow('w')\n    w.task(do, 1, id=helper())\n    return w",
        scope,
    )
    orch.planner.template("helped")(scope["build"])

    def planned():
        plan = orch.planner.plan(TaskRequest("r", "helped"), cache=True)
        return [*plan.workflow], plan.cache

    assert planned()[0] == ["flat"]
    assert planned() == (["flat"], "hit")
    exec("def helper():\n    return 'deep'", scope)
    assert planned() == (["deep"], "missed: its template has changed")


def test_plans_that_are_kept_are_bounded():
    orch = TaskOrchestrator()

    @orch.planner.template("one")
    def one(number):
        flow = Workflow("w")
        flow.task(do, number, id="only", expected=number + 1)
        return flow

    def planned(number):
        request = TaskRequest("r", "one", context={"number": number})
        return orch.planner.plan(request, cache=True).cache

    for number in range(258):
        planned(number)
        # What is asked for again stays.
        assert number % 50 != 1 or planned(1) == "hit"
    assert repr(orch.planner).endswith("256 plans>")
    assert "missed" in planned(0)


# -- rewards ---------------------------------------------------------------------------


def test_a_plan_is_rewarded_when_its_last_task_has_ended():
    begun, go = threading.Event(), threading.Event()

    def waits(*_):
        begun.set()
        assert go.wait(60)

    rewards, ends = [], []
    with TaskOrchestrator() as orch:
        orch.planner.learns = True
        orch.signals.task_rewarded.connect(rewards.append)
        orch.signals.task_completed.connect(ends.append)
        domain = orch.planner.domain("d")

        @domain.operator(duration=1e-6, run=do)
        def first(state, n):
            return state.set("first", True)

        @domain.operator(duration=1e-6, run=waits)
        def last(state, n):
            return state.set("last", state.get("first"))

        for name in ("one", "other"):
            domain.method("go", name=name)(lambda _s: [("first", 1), ("last", 1)])
        run = orch.workflows.start(orch.planner.plan(TaskRequest("r", "go")))
        assert begun.wait(60)
        go.set()
        run.result()
        orch.wait()
    assert [one.task_id.partition("/")[2] for one in rewards] == ["first-1"]
    assert [one.task_id.partition("/")[2] for one in ends] == ["first-1", "last-1"]
    assert rewards[0].at_ns >= ends[1].at_ns
    # All of it took far more than was foretold.
    assert rewards[0].value < -0.5


def test_learning_that_is_turned_off_and_on_again_learns_nothing_twice(tmp_path):
    """
    Of one incarnation and the next: each reward counts once, and a choice is said once.
    """
    path, events = tmp_path / "runs.db", []

    def incarnation():
        orch = TaskOrchestrator(journal=path)
        orch.signals.task_started.connect(events.append)
        orch.planner.learns = True
        domain = orch.planner.domain("d")
        for name in ("one", "other"):
            domain.operator(lambda s, _: s.set("there", 1), name=name, run=do)
            domain.method("go", name=name)(lambda _s, name=name: [(name, 1)])
        return orch

    def run(orch, name):
        plan = orch.planner.plan(TaskRequest(name, "go"))
        orch.workflows.start(plan).result()
        orch.wait()

    def pulls(orch):
        return sum(one.pulls for one in orch.planner.learned())

    with incarnation() as orch:
        for number in range(3):
            run(orch, f"r{number}")
            orch.planner.learns = False
            orch.planner.learns = True
            assert pulls(orch) == number + 1
        assert len(events) == 3
        for event in events:
            assert event.choice[0] in (
                "planner method of go:one",
                "planner method of go:other",
            )
            assert 0.04 < event.choice[1] < 0.96
        # Without learning nothing is learnt, and nothing is chosen.
        orch.planner.learns = False
        run(orch, "plain")
        assert events[-1].choice is None
    with incarnation() as orch:
        assert pulls(orch) == 3
        orch.planner.learns = True
        assert pulls(orch) == 3


def test_what_was_learnt_of_a_method_stays_when_another_is_added():
    with TaskOrchestrator() as orch:
        planner = orch.planner
        planner.learns = True
        domain = planner.domain("d")
        for name in ("slow", "fast"):
            domain.operator(lambda s: s.set("there", 1), name=name, duration=1)
            domain.method("go", name=name)(lambda _s, name=name: [(name,)])
        for number in range(20):
            plan = planner.plan(TaskRequest(f"r{number}", "go"))
            planner.reward(plan, 100 if "slow" in plan.workflow else 0.1)
        before = {one.arm: one for one in planner.learned()}
        domain.operator(lambda s: s.set("there", 1), name="third", duration=1)
        domain.method("go", name="third")(lambda _s: [("third",)])
        planner.plan(TaskRequest("r", "go"))
        assert {one.arm: one for one in planner.learned()} == before
        # (foretold - taken) / (foretold + taken)
        assert before["fast"].mean == pytest.approx(0.9 / 1.1, abs=0.001)
        assert before["slow"].mean == pytest.approx(-99 / 101, abs=0.001)


def test_a_bandit_says_with_what_chance_each_rule_was_chosen():
    with TaskOrchestrator() as orch:
        planner = orch.planner
        planner.learns = True
        flow = Workflow("w")
        for name in "abcdef":
            flow.add(Task.call(do, id=name, expected=1, resources={"cpu": 3}))
        planner.template("w")(lambda: flow)
        plan = planner.plan(TaskRequest("r", "w"))
        for _ in range(5):
            planner.optimize(plan, seconds=0.01)
        assert len(planner.rules.log) == 5
        for one in planner.rules.log:
            assert one.arm in planner.rules.arms
            assert 0 < one.propensity < 1
            assert 0 <= one.reward <= 1
            chances = planner.rules.probabilities(one.context)
            assert min(chances.values()) >= 0.049


def test_what_was_read_before_it_was_published_counts_once(tmp_path):
    """Learning begins while somebody keeps those who hear of facts waiting."""
    go, begun = threading.Event(), threading.Event()

    def hold(event):
        begun.set()
        assert go.wait(60)

    with TaskOrchestrator(journal=tmp_path / "runs.db") as orch:
        planner = orch.planner
        domain = planner.domain("d")
        for name in ("one", "other"):
            domain.operator(lambda s, _: s.set("there", 1), name=name, run=do)
            domain.method("go", name=name)(lambda _s, name=name: [(name, 1)])
        orch.signals.task_submitted.connect(hold)
        planner.learns = True
        run = orch.workflows.start(planner.plan(TaskRequest("r", "go")))
        run.result()
        assert begun.wait(60)
        (task_id,) = (handle.task_id for handle in run.handles.values())
        assert orch.reward_task(task_id, 0.5)
        planner.learns = False
        planner.learns = True
        assert [one.mean for one in planner.learned()] == [0.5]
        go.set()
        orch.wait()
        assert [(one.pulls, one.mean) for one in planner.learned()] == [(1, 0.5)]
