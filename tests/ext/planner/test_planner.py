"""From a request to a plan, and what is asked of it."""

from __future__ import annotations

import asyncio
import json
import math
import sys
from contextlib import suppress
from datetime import UTC, datetime

import attrs
import jsonschema
import pytest
from tests.ext.planner.tools import do, release, request

from taskorch import Program, Task, TaskOrchestrator, Workflow
from taskorch.errors import (
    InvalidTaskError,
    PlanningError,
    TaskorchError,
    ValidationFailedError,
)
from taskorch.events import TaskRewarded, TaskStarted
from taskorch.ext.planner import (
    Bandit,
    Before,
    Deadline,
    ExecutionPlan,
    InterferenceResolver,
    LibraryDecomposer,
    MaxCost,
    MaxPeak,
    RuleParser,
    Schedule,
    SearchOptimizer,
    SimulatedValidator,
    TaskRequest,
    off_policy,
    plan_schema,
    request_schema,
)
from taskorch.ext.views import JournalReader
from taskorch.model._task import OPTIONS

FUNCTIONS = {"do": do}


@pytest.fixture
def orch():
    made = TaskOrchestrator(resources={"cpu": 4}, concurrency=4)
    made.planner.domain(release())
    return made


def test_a_request_becomes_a_plan_that_runs(orch):
    plan = orch.planner.plan(request("a", "b", "c", priority=5))

    assert plan.workflow["build-a"].after == ("fetch-a",)
    assert plan.estimated_cost == 33
    assert float(plan.estimated_duration) == orch.simulate(plan).makespan == 66
    assert plan.critical_path == ("fetch-a", "build-a", "publish")
    assert {plan.workflow[name].task.priority for name in plan.workflow} == {5}
    with orch:
        assert orch.workflows.start(plan).result()["publish"] == ["a", "b", "c"]


def test_it_says_why_this_way_and_not_the_other(orch):
    plan = orch.planner.plan(request("a"))

    assert "not from_here: build('a') cannot be done" in plan.explain()
    assert {d.reason for d in plan.dependencies} == {
        "reads ('src', 'a')",
        "reads ('built', 'a')",
    }


@pytest.mark.parametrize(
    ("constraints", "conflict"),
    [
        ([MaxCost(100), Deadline(10)], ("the deadline of 10 s",)),
        (
            [MaxCost(100), Deadline(70), MaxPeak("cpu", 2)],
            ("the deadline of 70 s", "at most 2 cpu at once"),
        ),
        ([Before("publish", "build")], ("publish before build",)),
        ([MaxPeak("cpu", 1)], ("at most 1 cpu at once",)),
        ([MaxCost(3)], ("the cost of at most 3",)),
    ],
)
def test_what_cannot_be_is_named_by_the_fewest_constraints(orch, constraints, conflict):
    with pytest.raises(PlanningError) as caught:
        orch.planner.plan(request("a", "b", "c", constraints=constraints))

    assert caught.value.conflict == conflict


def test_a_way_that_breaks_a_constraint_is_left_for_one_that_does_not():
    orch = TaskOrchestrator()
    domain = orch.planner.domain("d")
    for name, seconds, cost in (("walk", 100, 0), ("fly", 10, 50)):
        domain.operator(
            lambda s: s.set("there", True), name=name, duration=seconds, cost=cost
        )
        domain.method("go", name=f"by_{name}")(lambda _s, name=name: [(name,)])

    asked = TaskRequest("r", "go", constraints=[Deadline(20)])
    plan = orch.planner.plan(asked)

    assert list(plan.workflow) == ["fly"]
    assert "not way 1: its longest chain takes 100 s" in plan.explain()


def test_constraints_hold_of_what_is_carried_out(orch):
    asked = request(
        "a", "b", "c", constraints=[MaxPeak("cpu", 2), Before("fetch-c", "build-a")]
    )

    plan = orch.planner.plan(asked)
    for each in (plan, orch.planner.optimize(plan, seconds=0.2)):
        assert orch.planner.validate(each).ok
        assert orch.simulate(each).peak.resources["cpu"] == 2
    assert "the constraint fetch-c before build-a" in {
        d.reason for d in plan.dependencies
    }


def test_a_plan_is_read_as_it_was_written(orch):
    asked = request("a", "b", constraints=[Deadline(100)], deadline=1_000)
    plan = orch.planner.optimize(orch.planner.plan(asked), seconds=0.1)

    document = json.loads(json.dumps(plan.to_dict(FUNCTIONS)))
    again = ExecutionPlan.from_dict(document, FUNCTIONS)

    jsonschema.validate(document, plan_schema())
    jsonschema.validate(document["request"], request_schema())
    assert again.to_dict(FUNCTIONS) == document
    assert "estimatedDuration" in document
    assert TaskRequest.from_dict(asked.to_dict()) == asked


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda d: d["tasks"].pop(), "tasks: not those of the workflow"),
        (lambda d: d["dependencies"].clear(), "dependencies: not those"),
        (lambda d: d.update(estimatedCost="dear"), "estimatedCost: a number from 0"),
        (lambda d: d.update(estimatedcost=1), "did you mean 'estimatedCost'"),
        (lambda d: d.pop("workflow"), "workflow: it is missing"),
        (lambda d: d.update(format=9), "reads format 1"),
        (lambda d: d.update(speeds={"ada": 0}), "speeds.ada: a number above 0"),
        (lambda d: d["tasks"][0].update(id=None), r"tasks\[0\].id: a text is needed"),
        (
            lambda d: d["request"]["constraints"].append({"kind": "dedline"}),
            r"constraints\[\d\].kind: .* did you mean 'deadline'",
        ),
    ],
)
def test_a_document_that_is_no_plan_says_where(orch, change, said):
    document = orch.planner.plan(request("a")).to_dict(FUNCTIONS)
    change(document)

    with pytest.raises(ValidationFailedError, match=said):
        ExecutionPlan.from_dict(document, FUNCTIONS)


@pytest.mark.parametrize(
    "fields",
    [
        {"id": ""},
        {"requirements": "python"},
        {"constraints": ["soon"]},
        {"priority": 1.5},
        {"deadline": datetime(2020, 1, 1)},  # noqa: DTZ001 - without a zone
        {"deadline": float("nan")},
        {"context": [1]},
    ],
)
def test_a_request_that_is_none_is_refused(fields):
    with pytest.raises(InvalidTaskError):
        TaskRequest(**{"id": "r", "type": "ship", **fields})


def test_what_is_past_or_unknown_is_refused(orch):
    with pytest.raises(PlanningError, match=r"was .* s ago"):
        orch.planner.plan(request("a", deadline=datetime(2020, 1, 1, tzinfo=UTC)))
    with pytest.raises(PlanningError, match="did you mean 'ship'"):
        orch.planner.plan(TaskRequest("r", "shp"))
    orch.agent("ada", capabilities={"python"})(lambda task, context: None)
    with pytest.raises(PlanningError, match="did you mean 'python'"):
        orch.planner.plan(request("a", requirements=["pyhton"]))


def test_a_text_is_read_by_rules_and_nothing_in_it_is_done(orch):
    orch.planner.template("clean up")(lambda request: Workflow("w"))
    text = (
        "Please clean up within 2 hours, urgently. Ignore that; run `rm -rf /` as root."
    )

    asked = orch.planner.plan(text).request

    assert (asked.type, asked.priority) == ("clean up", 10)
    assert asked.constraints == (Deadline(7200),)
    assert asked.description == text
    with pytest.raises(PlanningError, match="names none of"):
        orch.planner.plan("import os; os.system('true')")


def test_a_template_takes_the_context_by_names():
    orch = TaskOrchestrator()

    @orch.planner.template("press")
    def press(pages, request):
        wf = Workflow("press")
        wf.chain(*(wf.task(do, n, expected=2, id=f"p{n}") for n in range(pages)))
        return wf

    assert (
        float(
            orch.planner.plan(
                TaskRequest("r", "press", context={"pages": 3})
            ).estimated_duration
        )
        == 6
    )
    with pytest.raises(PlanningError, match="takes pages"):
        orch.planner.plan(TaskRequest("r", "press"))
    with pytest.raises(InvalidTaskError, match="version"):
        orch.planner.template("press")(press)


def test_a_workflow_and_the_plans_of_it_grow_each_by_itself(orch):
    """What a plan waits for besides is in no other plan, and not in what it was made of."""
    wf = Workflow("flow")
    first, then, free, last = (wf.task(do, n, expected=2, id=n) for n in "abcd")
    wf.chain(first, then)
    orch.planner.template("flow")(lambda: wf)
    known = {"a": (), "b": ("a",), "c": (), "d": ()}

    free_first = TaskRequest("r", "flow", constraints=[Before("c", "b")])
    bound, plain = map(orch.planner.plan, (free_first, TaskRequest("s", "flow")))
    assert dict(wf.dependencies) == dict(plain.workflow.dependencies) == known
    assert dict(bound.workflow.dependencies) == {**known, "b": ("a", "c")}

    plain.workflow.chain("d", "c")
    wf.chain(last, free)
    wf.chain(last, then)
    assert dict(bound.workflow.dependencies) == {**known, "b": ("a", "c")}
    assert dict(plain.workflow.dependencies) == {**known, "c": ("d",)}
    assert dict(wf.dependencies) == {**known, "b": ("a", "d"), "c": ("d",)}


def test_each_stage_can_be_another(orch):
    seen = []
    planner = orch.planner

    class Noted:
        def __init__(self, inner):
            self.inner = inner

        def __getattr__(self, name):
            seen.append(name)
            return getattr(self.inner, name)

    planner.parser = Noted(RuleParser())
    planner.decomposer = Noted(LibraryDecomposer(planner))
    planner.resolver = Noted(InterferenceResolver())
    planner.optimizer = Noted(SearchOptimizer(solver=False))
    planner.validator = Noted(SimulatedValidator(planner))
    plan = planner.optimize(planner.plan(request("a")), seconds=0.01)
    planner.validate(plan)

    assert seen == ["parse", "decompose", "resolve", "optimize", "validate"]


def test_a_stage_that_gives_what_it_must_not_is_named(orch):
    planner = orch.planner
    plan = planner.plan(request("a"))

    class Nothing:
        def __getattr__(self, name):
            return lambda *_: None

    planner.optimizer = Nothing()
    with pytest.raises(PlanningError, match="the optimizer gave None"):
        planner.optimize(plan)
    planner.resolver = Nothing()
    with pytest.raises(PlanningError, match="the resolver gave None"):
        planner.plan(request("b"))
    planner.parser = Nothing()
    with pytest.raises(PlanningError, match="the parser gave None"):
        planner.plan(request("b"))


class Given:
    """An optimizer of the user's that gives something for some tasks."""

    def __init__(self, change):
        self.change = change

    def optimize(self, problem, seconds, seed):
        starts, now = [], 0
        for time in problem.durations:
            starts.append(now)
            now += time
        ends = [s + t for s, t in zip(starts, problem.durations, strict=True)]
        fields = {"starts": starts, "ends": ends, "workers": [None] * len(starts)}
        fields |= {"bound": 0} | self.change(fields)
        bound = fields.pop("bound")
        return Schedule(**fields), bound


TOO_SHORT_OR_LONG = [
    (lambda f, n=name, c=change: {n: c(f[n])})
    for name in ("starts", "ends", "workers")
    for change in (
        lambda values: [*values, 0],
        lambda values: values[:-1],
        lambda _values: None,
        lambda _values: [math.nan] * 3,
        lambda _values: ["0", "1", "2"],
    )
]
NO_ANSWERS = [
    *TOO_SHORT_OR_LONG,
    lambda f: {"starts": [-1, *f["starts"][1:]]},
    lambda f: {"ends": [math.inf, *f["ends"][1:]]},
    lambda f: {"ends": [f["starts"][1] + 1, *f["ends"][1:]]},
    lambda f: {"workers": [0, None, None]},
    lambda f: {"workers": [-1, None, None]},
    *(
        lambda f, bound=bound: {"bound": bound}
        for bound in (None, "0", -1, math.nan, math.inf, 10**400)
    ),
    lambda f: {"bound": f["ends"][-1] * 2},
]


@pytest.mark.parametrize("change", NO_ANSWERS)
def test_what_an_optimizer_gives_is_looked_at_before_it_is_used(orch, change):
    planner = orch.planner
    plan = planner.plan(request("a"))
    assert len(plan.tasks) == 3

    planner.optimizer = Given(change)
    with pytest.raises(PlanningError, match=r"the optimizer (gave|let)"):
        planner.optimize(plan, seconds=0.01)
    planner.optimizer = Given(lambda _fields: {})
    assert planner.optimize(plan, seconds=0.01).lower_bound == 0


def test_what_other_libraries_have_for_lists_is_taken_from_an_optimizer(orch):
    planner = orch.planner
    planner.optimizer = Given(
        lambda f: {"starts": tuple(f["starts"]), "workers": (), "bound": f["ends"][-1]}
    )
    best = planner.optimize(planner.plan(request("a")), seconds=0.01)
    assert best.lower_bound == float(best.estimated_duration)


def test_what_other_stages_give_is_looked_at_too(orch):
    planner = orch.planner
    plan = planner.plan(request("a"))

    class Draws:
        def __init__(self, **fields):
            self.fields = fields

        def resolve(self, decomposition, request):
            draft = InterferenceResolver().resolve(decomposition, request)
            return attrs.evolve(draft, **self.fields)

    (task, *_) = plan.workflow
    for cost in (math.nan, -1, "2"):
        planner.resolver = Draws(costs={task: cost})
        with pytest.raises(InvalidTaskError, match="a cost is a number from 0"):
            planner.plan(request("a"))
    planner.resolver = Draws(workflow=None)
    with pytest.raises(PlanningError, match="the resolver gave Draft"):
        planner.plan(request("b"))

    class Nothing:
        def __getattr__(self, name):
            return lambda *_: None

    planner.decomposer = Nothing()
    with pytest.raises(PlanningError, match="the decomposer gave None"):
        planner.plan(request("b"))
    planner.validator = Nothing()
    with pytest.raises(PlanningError, match="the validator gave None"):
        planner.validate(plan)


@pytest.mark.parametrize(
    ("types", "text", "named"),
    [
        # Types that are written alike are all named, however the text writes them.
        (["build-app", "build_app"], "build app, please", ["build-app", "build_app"]),
        (
            ["build-app", "build_app"],
            "build_app within 1 hour",
            ["build-app", "build_app"],
        ),
        (["Ship", "ship", "SHIP it"], "ship", ["Ship", "ship"]),
        (["Ship", "ship", "SHIP it"], "ship it", ["SHIP it"]),
        (
            ["build app", "build  app", "build"],
            "build app",
            ["build app", "build  app"],
        ),
        # Of one that is a part of another, the longer is meant, by whole words.
        (["build", "build-app"], "build the build app", ["build-app"]),
        (["art", "start"], "start art", ["art", "start"]),
        (["art", "start"], "start", ["start"]),
        (["art", "start"], "smart", []),
    ],
)
def test_a_text_names_one_type_or_it_is_said_how_many(types, text, named):
    parser = RuleParser()
    for known in (types, types[::-1]):
        if len(named) == 1:
            assert parser.parse(text, known).type == named[0]
            continue
        words = [each for each in known if each in named]
        refusal = f"several: {', '.join(words)}" if words else "none of the types"
        with pytest.raises(PlanningError, match=f"the text names {refusal}"):
            parser.parse(text, known)


def test_each_step_of_a_plan_has_an_id_of_its_own(orch):
    """Also where a step is called as the second of another is."""
    domain = orch.planner.domain("steps")

    @domain.operator(run=do)
    def a(state, *args):
        return state.set(args, True)

    domain.operator(a, name="a-2", run=do)
    domain.method("all", name="mixed")(
        lambda state: [("a",), ("a", 2), ("a",), ("a-2",), ("a", "2")]
    )
    plan = orch.planner.plan(TaskRequest("r", "all"))
    assert [*plan.workflow] == ["a", "a-2", "a-3", "a-2-2", "a-2-3"]


def test_the_cache_says_hit_or_why_not(orch):
    planner = orch.planner

    def planned(name="r1"):
        asked = TaskRequest(name, "ship", context={"args": [["a"]]})
        return planner.plan(asked, cache=True).cache

    said = [planned(), planned("r2")]
    with orch:
        orch.resources.resize({"cpu": 3})
        said.append(planned())
        orch.planner.domains["release"].operator(lambda s: s, name="rest")
        said.append(planned())
        for _ in range(3):
            orch.submit_task(Task.call(do, 1, type="build")).result()
        said.append(planned())

    assert said == [
        "missed: no such request was planned yet",
        "hit",
        "missed: the pools have changed",
        "missed: the code of its domain has changed",
        "missed: what tasks take has changed",
    ]


def test_a_plan_for_pools_that_shrank_does_not_hold(orch):
    plan = orch.planner.plan(request("a"))
    with orch:
        orch.resources.resize({"cpu": 1})
        found = orch.planner.validate(plan)

    assert not found.ok
    assert "build-a would never run" in str(found)


def test_a_coroutine_asks_the_same():
    async def ask():
        async with TaskOrchestrator(resources={"cpu": 4}) as orch:
            orch.planner.domain(release())
            planner = orch.aio.planner
            plan = await planner.optimize(
                await planner.plan(request("a")), seconds=0.01
            )
            assert (await planner.validate(plan)).ok
            assert (await planner.estimate(plan)).cost == 13
            return await (await orch.aio.workflows.start(plan))

    assert asyncio.run(ask())["publish"] == ["a"]


def test_what_only_looks_like_runs_by_its_ids_is_not_proposed():
    with TaskOrchestrator() as orch:
        for number in range(3):
            above = orch.submit_task(
                Task.call(do, 1, id=f"day{number}/x", type="fetch")
            )
            orch.submit_task(
                Task.call(do, above, id=f"day{number}/y", type="build")
            ).result()
        assert orch.planner.propose(least=3) == []


def test_what_came_back_in_runs_is_proposed_and_people_accept_it():
    wf = Workflow("night")
    wf.task(do, wf.task(do, 1, id="x", type="fetch"), id="y", type="build")
    with TaskOrchestrator() as orch:
        for _ in range(3):
            orch.workflows.start(wf).result()
        (found,) = orch.planner.propose(least=3)
        assert (found.types, found.after, found.runs) == (
            ("fetch", "build"),
            ((), (0,)),
            3,
        )
        asked = orch.planner.ask(found, "nightly")
        with pytest.raises(PlanningError, match="nobody knows"):
            orch.planner.plan(TaskRequest("r", "nightly"))
        orch.answer(asked, "approve", by="ada")
        orch.handle(asked).result()

        plan = orch.planner.plan(TaskRequest("r", "nightly"))

    assert [t.type for t in plan.tasks] == ["fetch", "build"]


def test_a_bandit_learns_and_keeps_its_floor():
    bandit = Bandit(["a", "b", "c"], floor=0.1, seed=3)
    assert bandit.probabilities() == pytest.approx({"a": 0.8, "b": 0.1, "c": 0.1})

    for _ in range(300):
        chosen = bandit.choose()
        bandit.reward(chosen, 0.9 if chosen.arm == "b" else 0.2)
    now = bandit.probabilities()

    assert now["b"] > 0.7
    assert min(now.values()) >= 0.1
    assert off_policy(bandit.log, {"b": 1.0}) == pytest.approx(0.9)
    assert off_policy(bandit.log, {"a": 1.0}) == pytest.approx(0.2)


def test_methods_are_learnt_from_what_plans_really_took():
    orch = TaskOrchestrator()
    planner = orch.planner
    planner.learns = True
    domain = planner.domain("d")
    for name in ("slow", "fast"):
        domain.operator(lambda s: s.set("there", True), name=name, duration=1)
        domain.method("go", name=name)(lambda _s, name=name: [(name,)])
    for number in range(60):
        plan = planner.plan(TaskRequest(f"r{number}", "go"), cache=False)
        planner.reward(plan, 100 if "slow" in plan.workflow else 0.1)

    names = [
        list(planner.plan(TaskRequest("r", "go"), cache=False).workflow)
        for _ in range(20)
    ]

    assert names.count(["fast"]) >= 12


def test_several_aims_are_weighed(orch):
    planner = orch.planner
    plan = planner.plan(request("a", "b", "c"))

    soon = planner.optimize(plan, seconds=0.1)
    narrow = planner.optimize(plan, seconds=0.1, aims={"makespan": 1, "peak": 5})

    assert float(soon.estimated_duration) == 66
    assert float(narrow.estimated_duration) > 66
    peaks = [orch.simulate(one).peak.resources["cpu"] for one in (soon, narrow)]
    assert peaks == [4, 2]
    told = planner.optimize(plan, seconds=0.01, aims=["makespan", "cost"])
    assert "the cost is the same in any order" in told.explain()
    for bad in ({"makespam": 1}, {"cost": -1}, {"peak": 0}, 4):
        with pytest.raises(InvalidTaskError):
            planner.optimize(plan, aims=bad)
    with pytest.raises(InvalidTaskError, match="the price of 'ada'"):
        planner.optimize(plan, prices={"ada": float("nan")})


def test_workers_have_prices():
    orch = TaskOrchestrator()
    for name in ("dear", "cheap"):
        orch.agent(name, capabilities={"draw"})(lambda task, context: None)
    flow = Workflow("pictures")
    for number in range(4):
        flow.add(Task("draw", number, id=f"p{number}", expected=10))
    orch.planner.template("pictures")(lambda: flow)
    plan = orch.planner.plan(TaskRequest("r", "pictures"))
    given = {"speeds": {"dear": 2}, "prices": {"dear": 5, "cheap": 1}, "seconds": 0.1}

    made = {
        name: orch.planner.optimize(plan, aims=[name], **given)
        for name in ("makespan", "cost")
    }

    assert {task.agent for task in made["cost"].tasks} == {"cheap"}
    assert made["cost"].estimated_cost == 40 < made["makespan"].estimated_cost
    assert float(made["makespan"].estimated_duration) < 40


def test_what_was_learnt_of_methods_is_in_the_journal(tmp_path):
    path = tmp_path / "runs.db"

    def incarnation():
        orch = TaskOrchestrator(journal=path)
        orch.planner.learns = True
        domain = orch.planner.domain("d")
        for name in ("first", "second"):
            domain.operator(
                lambda s, _: s.set("there", True), name=name, run=do, duration=1
            )
            domain.method("go", name=name)(lambda _s, name=name: [(name, 1)])
        return orch

    with incarnation() as orch:
        for number in range(12):
            plan = orch.planner.plan(TaskRequest(f"r{number}", "go"), cache=False)
            run = orch.workflows.start(plan)
            run.result()
            orch.wait()
    events = list(JournalReader(path).happened())
    starts = [e.choice for e in events if isinstance(e, TaskStarted)]
    assert all(choice[0].startswith("planner method of go:") for choice in starts)
    rewards = [e for e in events if isinstance(e, TaskRewarded)]
    assert len(rewards) == 12
    # All were done in far less than the second that was foretold.
    assert all(one.value > 0 and one.source == "planner" for one in rewards)

    with incarnation() as orch:
        values = orch.planner.evaluate(events)["method of go"]
        assert sum(one.attempts for one in values.values()) == 12
        # Chosen in the first incarnation, known in the second, and off by one argument.
        orch.planner.plan(TaskRequest("r", "go"), cache=False)
        learned = {one.arm: one for one in orch.planner.learned()}
        assert {one.context for one in learned.values()} == {"method of go"}
        assert sum(one.pulls for one in learned.values()) == 12
        assert all(one.mean > 0 for one in learned.values())
        plan = orch.planner.plan(TaskRequest("r", "go"), cache=False, learn=False)
        assert list(plan.workflow) == ["first-1"]
        assert "taskorch.plan" not in (plan.workflow["first-1"].task.metadata or {})


def test_memory_is_estimated_from_what_programs_were_seen_to_use():
    with TaskOrchestrator() as orch:
        planner = orch.planner
        code = "x = b'x' * 200_000_000"
        task = Task("big", Program([sys.executable, "-c", code]))
        used = orch.submit_task(task).result().memory_mb
        orch.wait()
        flow = Workflow("w")
        flow.add(task)
        planner.template("big")(lambda: flow)
        plan = planner.plan(TaskRequest("r", "big"))

    found = planner.estimate(plan).memory_mb
    assert (None if found is None else round(float(found))) == (
        None if used is None else round(used)
    )


WRONG = (None, -1, float("nan"), "no such", [1], {"a": "b"}, object(), True)


@pytest.mark.parametrize("option", [each for each in OPTIONS if each != "payload"])
def test_a_wrong_option_of_a_task_in_a_template_is_an_error_that_names_it(orch, option):
    for wrong in WRONG:
        flow = Workflow("flow")
        with suppress(TaskorchError):
            flow.add(Task(**{"type": "t", "id": "a", option: wrong}))
        planner = TaskOrchestrator().planner
        planner.template("press")(lambda made=flow: made)
        said = option
        try:
            planner.plan(TaskRequest("r", "press"))
        except TaskorchError as error:
            said = str(error)
        assert option in said
