"""Requests of one shape, under other names, get the plan that they would get anew."""

from __future__ import annotations

from typing import Any

import attrs
import pytest
from hypothesis import given, settings, strategies as st
from tests.house.tools.examples import examples

from taskorch import Resources, Task, TaskOrchestrator, Workflow
from taskorch.errors import PlanningError
from taskorch.ext.planner import Before, Deadline, MaxPeak, TaskRequest

#: Of each task: its type, seconds, cpus, priority, and places that it waits for.
_SHAPES = st.lists(
    st.tuples(
        st.sampled_from("abc"),
        st.integers(1, 9),
        st.integers(0, 2),
        st.integers(0, 1),
        st.sets(st.integers(0, 6)),
    ),
    min_size=1,
    max_size=7,
)
_CONSTRAINTS = st.sampled_from(
    [(), (Deadline(1000),), (Before("a", "b"), Deadline(24)), (MaxPeak("cpu", 2),)]
)


def build(rows: Any, names: list[str], metadata: Any = None) -> Workflow:
    made = Workflow("made")
    for number, (kind, seconds, cpus, priority, after) in enumerate(rows):
        made.add(
            Task(
                kind,
                names[number],
                id=names[number],
                expected=seconds,
                priority=priority,
                resources=Resources(cpu=cpus) if cpus else Resources(),
                after=[names[place] for place in sorted(after) if place < number],
                metadata=metadata,
            )
        )
    return made


def planner() -> Any:
    return of_three().planner


def of_three(slots: int = 3) -> TaskOrchestrator:
    orch = TaskOrchestrator(resources={"cpu": 3}, concurrency=slots)
    orch.agent("all", capabilities={"a", "b", "c"}, max_concurrency=3)(
        lambda task, context: task.payload
    )
    orch.planner.template("made")(build)
    return orch


def asked(rows: Any, names: Any, constraints: Any = (), **context: Any) -> TaskRequest:
    context |= {"rows": rows, "names": names}
    return TaskRequest("r", "made", context=context, constraints=constraints)


@settings(max_examples=examples(60), deadline=None)
@given(_SHAPES, _CONSTRAINTS, st.permutations([f"n{n}" for n in range(7)]))
def test_other_names_of_one_shape_hit_and_get_the_plan_that_they_would_get_anew(
    rows: Any, constraints: Any, names: list[str]
) -> None:
    plans = planner()
    try:
        plans.plan(asked(rows, [f"m{n}" for n in range(7)], constraints), cache=True)
    except PlanningError:
        return
    request = asked(rows, names, constraints)
    hit = plans.plan(request, cache=True)

    assert hit.cache == "hit"
    assert hit.request is request
    anew = planner().plan(asked(rows, [f"n{n}" for n in range(7)], constraints))
    assert hit.estimated_duration == anew.estimated_duration
    assert hit.estimated_cost == anew.estimated_cost
    assert plans.validate(hit).ok == plans.validate(anew).ok
    places = {name: f"n{number}" for number, name in enumerate(names)}
    assert [places[task.id] for task in hit.tasks] == [task.id for task in anew.tasks]
    for task in hit.tasks:
        assert task.after == hit.workflow[task.id].after
        assert hit.workflow[task.id].task.payload == task.id
        above = {places[name] for name in task.after}
        assert above == {*anew.workflow[places[task.id]].after}
    assert [places[name] for name in hit.critical_path] == [*anew.critical_path]


ROWS = [("a", 2, 1, 0, set()), ("b", 3, 1, 0, {0}), ("c", 4, 0, 0, set())]
NAMES, OTHERS = ["x1", "x2", "x3"], ["y1", "y2", "y3"]


@pytest.mark.parametrize(
    ("rows", "context", "constraints"),
    [
        ([("b", 2, 1, 0, set()), *ROWS[1:]], {}, ()),
        ([("c", 2, 1, 0, set()), ROWS[1], ("a", 4, 0, 0, set())], {}, ()),
        ([("a", 9, 1, 0, set()), *ROWS[1:]], {}, ()),
        ([("a", 2, 2, 0, set()), *ROWS[1:]], {}, ()),
        ([("a", 2, 1, 1, set()), *ROWS[1:]], {}, ()),
        ([*ROWS[:2], ("c", 4, 0, 0, {0})], {}, ()),
        (ROWS, {"metadata": {"tier": "gold"}}, ()),
        (ROWS, {}, (Deadline(90),)),
        (ROWS, {}, (Before("y3", "y1"),)),
    ],
)
def test_another_shape_is_planned_anew(
    rows: Any, context: Any, constraints: Any
) -> None:
    plans = planner()
    plans.plan(asked(ROWS, NAMES), cache=True)
    plan = plans.plan(asked(rows, OTHERS, constraints, **context), cache=True)
    assert plan.cache == "missed: no such request was planned yet"


#: Rows that keep a deadline in another order only, and with waits in it.
SLOTS = [("a", 3, 0, 0, ())] * 2 + [("b", 2, 0, 0, ())] * 3
CPUS = [
    ("a", 1, 2, 0, ()),
    ("b", 2, 1, 0, (0,)),
    ("a", 4, 2, 0, (1,)),
    ("a", 3, 1, 0, (2,)),
    ("c", 2, 1, 0, ()),
    ("a", 2, 2, 0, ()),
]


@pytest.mark.parametrize(("rows", "seconds"), [(SLOTS, 6), (CPUS, 10)])
def test_the_order_that_keeps_a_deadline_is_shared_too(
    rows: Any, seconds: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # On a busy machine, too, the search has the time that it needs.
    monkeypatch.setattr("taskorch.ext.planner._feasibility.IN_TIME", 30.0)
    orch = of_three(slots=2 if rows is SLOTS else 3)
    names, others = "ABCDEF"[: len(rows)], "uvwxyz"[: len(rows)]
    limits = (Deadline(seconds),)
    first = orch.planner.plan(asked(rows, [*names], limits), cache=True)
    plan = orch.planner.plan(asked(rows, [*others], limits), cache=True)

    assert plan.cache == "hit"
    assert first.estimated_duration == plan.estimated_duration == seconds
    assert orch.simulate(plan).makespan == seconds
    places = dict(zip(names, others, strict=True))
    for name, other in places.items():
        node, alike = first.workflow[name], plan.workflow[other]
        assert [places[up] for up in node.after] == [*alike.after]
        assert node.task.priority == alike.task.priority
    assert {(d.task, d.needs, d.reason) for d in plan.dependencies} == {
        (places[d.task], places[d.needs], d.reason) for d in first.dependencies
    }


def test_a_constraint_on_a_name_holds_for_the_name_that_it_says() -> None:
    plans = planner()
    first = (Before("x3", "x1"),)
    plans.plan(asked(ROWS, NAMES, first), cache=True)
    same = plans.plan(asked(ROWS, OTHERS, (Before("y3", "y1"),)), cache=True)
    swapped = plans.plan(asked(ROWS, OTHERS, (Before("y3", "y2"),)), cache=True)
    assert same.cache == "hit"
    assert same.workflow["y1"].after == ("y3",)
    assert swapped.cache.startswith("missed")
    assert set(swapped.workflow["y2"].after) == {"y1", "y3"}


def test_a_request_of_another_priority_and_one_after_a_change_are_planned_anew() -> (
    None
):
    orch = of_three()
    orch.planner.plan(asked(ROWS, NAMES), cache=True)
    urgent = attrs.evolve(asked(ROWS, OTHERS), priority=7)
    assert orch.planner.plan(urgent, cache=True).cache.startswith("missed")
    with orch:
        orch.resources.resize({"cpu": 2})
        plan = orch.planner.plan(asked(ROWS, OTHERS), cache=True)
    assert plan.cache.startswith("missed")
