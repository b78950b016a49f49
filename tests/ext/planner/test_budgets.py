"""Plans that draw on budgets: what they need, whether it is left, and what is learnt."""

from __future__ import annotations

import attrs
import pytest
from hypothesis import given, settings, strategies as st
from tests.api.tools import PATIENCE, Hold, eventually
from tests.house.tools.examples import examples

from taskorch import (
    Resources,
    RetryPolicy,
    Task,
    TaskOrchestrator,
    current_context,
)
from taskorch.errors import InvalidTaskError, PlanningError
from taskorch.ext.planner import (
    Domain,
    DrawsOn,
    ExecutionPlan,
    MaxCost,
    TaskRequest,
)


def pay(amount):
    current_context().spent(cost=amount)
    return amount


def domain(cost=10.0, spends=10.0, **options):
    """Parts are built, each at this cost."""
    release = Domain("release")

    @release.operator(duration=0, cost=cost, run=pay_of(spends), **options)
    def build(state, part):
        return state.set(("built", part), True)

    @release.method("ship")
    def one_by_one(state, parts):
        return [("build", part) for part in parts]

    return release


def pay_of(amount):
    def paid(*_):
        return pay(amount)

    return paid


def asked(*parts, budget="release", **fields):
    limits = [DrawsOn(budget)] if budget else []
    context = {"args": [list(parts)]}
    return TaskRequest("r", "ship", context=context, constraints=limits, **fields)


@pytest.fixture
def orch():
    with TaskOrchestrator() as orch:
        orch.planner.domain(domain())
        yield orch


def codes(orch, plan):
    return [each.code for each in orch.planner.validate(plan).findings if each.is_fatal]


def test_a_plan_needs_no_more_than_is_left(orch):
    budget = orch.budget("release", cost=25)
    with pytest.raises(PlanningError) as refused:
        orch.planner.plan(asked("a", "b", "c"))
    assert refused.value.conflict == ("the budget release (25 cost left)",)
    assert "its tasks need 30 cost" in str(refused.value)
    budget.raise_to(cost=30)
    plan = orch.planner.plan(asked("a", "b", "c"))
    assert plan.estimated_cost == 30
    assert "the budget release (30 cost left): 30 is taken" in plan.explain()


def test_its_tasks_draw_on_it_and_reserve_what_they_cost(orch):
    budget = orch.budget("release", cost=25)
    plan = orch.planner.plan(asked("a", "b"))
    tasks = [plan.workflow[name].task for name in plan.workflow]
    assert [(task.budget, task.resources["cost"]) for task in tasks] == [
        ("release", 10),
        ("release", 10),
    ]
    orch.workflows.start(plan).result(timeout=PATIENCE)
    assert budget.usage.spent == {"cost": 20}
    # Here and now, it could not be carried out again.
    assert codes(orch, plan) == ["budget"]
    budget.raise_to(cost=40)
    assert orch.planner.validate(plan)
    functions = {"paid": plan.workflow["build-a"].task.payload.fn}
    again = ExecutionPlan.from_dict(plan.to_dict(functions), functions)
    assert orch.planner.validate(again)
    assert again.workflow["build-a"].task.resources["cost"] == 10


def test_what_runs_meanwhile_has_taken_its_part(orch):
    budget = orch.budget("release", cost=25)
    plan = orch.planner.plan(asked("a", "b"))
    hold = Hold()
    with budget:
        orch.submit(pay, 4).result(PATIENCE)
        orch.submit_task(Task.call(hold, resources={"cost": 2}))
    hold.wait()
    needs = "20 cost is needed: it breaks the budget release (19 cost left)"
    assert needs in str(orch.planner.validate(plan))
    hold.release()


def test_a_whole_bounds_what_its_part_needs(orch):
    orch.budget("whole", cost=15)
    orch.budget("release", parent="whole", cost=100)
    with pytest.raises(PlanningError, match=r"whole \(15 cost left\)"):
        orch.planner.plan(asked("a", "b"))


def test_tasks_of_a_part_reserve_the_cost_of_a_whole(orch):
    """What only the whole has is not spent twice, either."""
    whole = orch.budget("whole", cost=25)
    orch.budget("release", parent="whole", tokens=100)
    plan = orch.planner.plan(asked("a", "b"))
    assert plan.workflow["build-a"].task.resources["cost"] == 10
    orch.workflows.start(plan).result(timeout=PATIENCE)
    assert whole.usage.spent == {"cost": 20}
    more = Task.call(int, budget="release", resources={"cost": 10})
    assert "Of budget whole, 5 cost are left" in str(orch.simulate([more], durations=1))


def test_of_other_resources_tasks_need_what_they_reserve():
    release = domain(cost=0, resources=Resources(tokens=40))
    with TaskOrchestrator() as orch:
        orch.planner.domain(release)
        budget = orch.budget("release", tokens=100)
        orch.planner.plan(asked("a", "b"))
        with pytest.raises(PlanningError, match="its tasks need 120 tokens"):
            orch.planner.plan(asked("a", "b", "c"))
        # It keeps nobody waiting any more.
        with budget:
            orch.submit_task(Task.call(abs, 1, resources={"tokens": 90})).result()
        orch.submit_task(Task.call(abs, 1, resources={"tokens": 90}, budget="release"))
        eventually(orch.questions)
        orch.answer(orch.questions()[0].id, "finish", by="ann")
        eventually(lambda: budget.usage.is_open)
        orch.planner.plan(asked("a", "b", "c"))


def test_the_fewest_constraints_that_conflict_are_named(orch):
    orch.budget("release", cost=25)
    request = asked("a", "b", "c")
    limits = [*request.constraints, MaxCost(1000)]
    request = attrs.evolve(request, constraints=limits)
    with pytest.raises(PlanningError) as refused:
        orch.planner.plan(request)
    assert refused.value.conflict == ("the budget release (25 cost left)",)


@pytest.mark.parametrize(
    "limits",
    [
        lambda: [DrawsOn("a"), DrawsOn("b")],
        lambda: [DrawsOn("")],
        lambda: [DrawsOn(7)],
        lambda: [DrawsOn(None)],
    ],
)
def test_what_names_no_budget_is_refused(limits):
    with pytest.raises(InvalidTaskError):
        TaskRequest("r", "ship", constraints=limits())


def test_a_budget_that_is_not_there_is_named(orch):
    orch.budget("release", cost=25)
    with pytest.raises(PlanningError, match="did you mean 'release'"):
        orch.planner.plan(asked("a", budget="relaese"))
    plan = orch.planner.plan(asked("a"))
    with TaskOrchestrator() as other:
        assert codes(other, plan)[0] == "no_budget"


def test_a_kept_plan_is_not_given_if_less_is_left(orch):
    budget = orch.budget("release", cost=25)
    assert orch.planner.plan(asked("a", "b"), cache=True).cache != "hit"
    assert orch.planner.plan(asked("a", "b"), cache=True).cache == "hit"
    with budget:
        orch.submit(pay, 1).result(PATIENCE)
    plan = orch.planner.plan(asked("a", "b"), cache=True)
    assert plan.cache == "missed: what is left of its budget has changed"
    # One of the same shape reserves, too.
    plan = orch.planner.plan(asked("c", "d"), cache=True)
    names = list(plan.workflow)
    assert all(plan.workflow[name].task.resources["cost"] == 10 for name in names)
    budget.raise_to(cost=20)
    with pytest.raises(PlanningError):
        orch.planner.plan(asked("a", "b"), cache=True)


def fails_once(amount):
    current_context().spent(cost=amount)
    if current_context().attempt == 1:
        raise ConnectionError
    return amount


def test_what_tasks_have_spent_is_what_they_cost(tmp_path):
    """In this incarnation and in the next one; what a retry pays counts, too."""
    again = RetryPolicy(max_attempts=2, delays=[0.001])
    for incarnation in range(2):
        with TaskOrchestrator(journal=tmp_path / "runs.db") as orch:
            orch.planner.domain(domain())
            orch.planner.plan(asked("a", budget=None))
            if not incarnation:
                for amount in (4, 5, 6):
                    orch.submit(pay, amount).result(PATIENCE)
                task = Task.call(fails_once, 7, retry=again)
                orch.submit_task(task).result(PATIENCE)

            def learnt(orch=orch):
                # What an operator says holds.
                assert orch.planner.plan(asked("b", budget=None)).estimated_cost == 10
                cost = orch.planner.estimator.cost
                return (cost("pay"), cost("fails_once")) == (5, 14)

            eventually(learnt)


def test_a_plan_reserves_what_was_learnt(orch):
    budget = orch.budget("release", cost=100)
    for amount in (4, 5, 6):
        orch.planner.estimator.observe("build", 1.0, cost=amount)
    orch.planner.domain(domain(cost=0))
    plan = orch.planner.plan(asked("a", "b"))
    assert plan.estimated_cost == 10
    assert plan.workflow["build-a"].task.resources["cost"] == 5
    budget.raise_to(cost=9)
    assert codes(orch, plan) == ["budget"]


@settings(max_examples=examples(30), deadline=None)
@given(
    st.integers(1, 60),
    st.integers(0, 40),
    st.lists(st.integers(1, 20), min_size=1, max_size=6),
)
def test_a_plan_is_made_exactly_if_enough_is_left(total, spent, costs):
    release = Domain("release")
    for number, cost in enumerate(costs):
        release.operator(name=f"s{number}", duration=0, cost=cost, run=pay_of(cost))(
            lambda state, number=number: state.set(number, True)
        )
    release.method("ship")(
        lambda state, parts: [(f"s{number}",) for number in range(len(costs))]
    )
    with TaskOrchestrator() as orch:
        orch.planner.domain(release)
        budget = orch.budget("release", cost=total)
        with budget:
            orch.submit(pay, spent).result(PATIENCE)
        left = max(0, total - spent)
        if sum(costs) > left:
            with pytest.raises(PlanningError, match="the budget release"):
                orch.planner.plan(asked())
            return
        plan = orch.planner.plan(asked())
        orch.workflows.start(plan).result(timeout=PATIENCE)
        assert budget.usage.spent["cost"] == spent + sum(costs)
