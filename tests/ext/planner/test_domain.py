"""How tasks are decomposed, and what a domain may not do."""

from __future__ import annotations

import pytest

from taskorch.errors import InvalidTaskError, PlanningError
from taskorch.ext.planner import Domain
from taskorch.ext.planner._domain import interference


def names(found):
    return [(step.operator.name, *step.args) for step in found.steps]


def first(domain, task, state=None, **limits):
    return names(next(domain.decompositions(task, state, **limits)))


def test_it_turns_back_where_a_step_cannot_be_done():
    d = Domain("d")
    d.operator(lambda s, to: s.set("at", to), name="go")
    d.operator(lambda s: s if s.get("at") == "b" else None, name="take")
    d.method("move")(lambda _s: [("go", "a")])
    d.method("move")(lambda _s: [("go", "b")])
    d.method("fetch")(lambda _s: [("move",), ("take",)])

    assert first(d, ("fetch",)) == [("go", "b"), ("take",)]


def test_goals_are_reached_one_after_another():
    d = Domain("d")
    d.operator(lambda s, n: s.set(("done", n), True), name="do")
    d.method("achieve done")(lambda _s, name, _value: [("do", name[1])])
    goals = {("done", 1): True, ("done", 2): True}

    assert first(d, ("achieve", goals), {("done", 2): True}) == [("do", 1)]


@pytest.mark.parametrize(
    ("method", "said"),
    [
        (lambda _s: [("top",)], "comes to itself, and nothing has changed"),
        (lambda _s: [("stpe",)], "did you mean 'step'"),
        (lambda _s: "step", "a list of tasks is needed"),
        (lambda _s: [7], "is no task"),
        (lambda _s: 1 / 0, "ZeroDivisionError"),
        (lambda _s: [("spoil",)], "has changed the state that it was given"),
        (lambda _s: [("assign",)], "a state never changes"),
        (lambda _s: [("odd",)], "a state is needed, or None"),
        (lambda _s: None, "no method fits"),
    ],
)
def test_what_a_function_does_wrong_is_said(method, said):
    d = Domain("d")
    d.operator(lambda s: s.set("x", 1), name="step")
    d.operator(lambda s: s["xs"].append(1) or s, name="spoil")
    d.operator(lambda s: s.__setitem__("x", 1), name="assign")
    d.operator(lambda s: 5, name="odd")
    d.method("top")(method)

    with pytest.raises(PlanningError, match=said):
        first(d, ("top",), {"xs": []})


def test_a_search_without_end_is_given_up_and_says_where():
    d = Domain("d")
    d.operator(lambda s, n: s.set("n", n), name="count")
    d.method("on", name="on")(lambda _s, n: [("count", n), ("on", n + 1)])

    with pytest.raises(PlanningError, match="1000 were on") as caught:
        first(d, ("on", 0), max_steps=10_000)
    assert caught.value.trace


def test_a_name_means_one_thing():
    d = Domain("d")
    d.operator(lambda s: s, name="x")
    with pytest.raises(InvalidTaskError):
        d.operator(lambda s: s, name="x")
    with pytest.raises(InvalidTaskError):
        d.method("x")


def test_methods_that_were_never_used_are_named():
    d = Domain("d")
    d.operator(lambda s: s.set("x", 1), name="x")
    d.method("go", name="one")(lambda _s: [("x",)])
    d.method("go", name="two")(lambda _s: [("x",)])
    first(d, ("go",))

    assert d.unused == ("two",)


def test_a_step_that_looks_which_variables_there_are_waits_for_each():
    d = Domain("d")
    d.operator(lambda s: s.set("count", len(s)), name="count")
    d.operator(lambda s: s.set("names", [*s]), name="list")
    d.operator(lambda s: s.set("x", 1), name="put")
    d.method("all")(lambda _s: [("count",), ("put",), ("list",)])

    found = next(d.decompositions(("all",)))

    assert [sorted(waits) for waits in interference(found.steps)] == [[], [0], [1]]


def test_a_way_that_another_planner_found_is_found():
    """GTPyhop has it: of the ways of a task, the first that can be gone."""
    d = Domain("vans")
    d.operator(lambda s, van, to: s.set(van, to), name="drive")
    d.operator(lambda s, x, van: s.set(x, van) if s[x] == s[van] else None, name="load")
    d.method("collect", name="at")(lambda _s, x, van: [("load", x, van)])
    d.method("collect", name="on")(
        lambda s, x, van: [("drive", van, s[x]), ("load", x, van)]
    )
    d.method("both")(lambda _s: [("collect", "x", "v1"), ("collect", "y", "v2")])

    assert first(d, ("both",), {"v1": "a", "v2": "a", "x": "b", "y": "c"}) == [
        ("drive", "v1", "b"),
        ("load", "x", "v1"),
        ("drive", "v2", "c"),
        ("load", "y", "v2"),
    ]
