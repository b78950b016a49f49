"""How tasks are decomposed, and what a domain may not do."""

from __future__ import annotations

import re
from contextlib import suppress
from itertools import product

import pytest
from hypothesis import given, settings, strategies as st

from taskorch.errors import InvalidTaskError, PlanningError
from taskorch.ext.planner import Domain, GtpyhopDomain, read_hddl
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


HDDL = """
(define (domain d) (:requirements :typing)
  (:types place thing - object van - thing)
  (:predicates (at ?x - thing ?p - place) (road ?a ?b - place))
  (:task go :parameters (?v - van ?to - place))
  (:method there :parameters (?v - van ?to - place) :task (go ?v ?to)
    :precondition (at ?v ?to) :ordered-subtasks ())
  (:method on :parameters (?v - van ?a ?b ?to - place) :task (go ?v ?to)
    :precondition (and (at ?v ?a) (road ?a ?b))
    :ordered-subtasks (and (drive ?v ?a ?b) (go ?v ?to)))
  (:action drive :parameters (?v - van ?a ?b - place)
    :precondition (and (at ?v ?a) (road ?a ?b))
    :effect (and (not (at ?v ?a)) (at ?v ?b))))
"""
PROBLEM = """
(define (problem p) (:domain d)
  (:objects v - van a b c - place)
  (:htn :parameters () :subtasks (and (t1 (go v c)) (t2 (go v a))) :ordering (and (< t1 t2)))
  (:init (at v a) (road a b) (road b a) (road b c) (road c b))
  (:goal (at v a)))
"""


def test_a_problem_of_hddl_is_solved_and_its_plan_is_checked():
    problem = read_hddl(HDDL, PROBLEM)

    plan = names(problem.solve())

    assert ("drive", "v", "b", "c") in plan
    assert problem.check(plan) == []
    assert problem.check(plan[1:])[0].startswith("step 1, (drive")
    assert problem.check([("drive", "a", "v", "b")])
    assert problem.check([("fly", "v")]) == [
        "step 1, (fly v): there is no such action",
    ]
    assert problem.check(plan[:1]) == ["at the end, the goal does not hold"]


ATOMS = (
    "(p ?x ?y)",
    "(p ?y ?x)",
    "(p ?y ?z)",
    "(q ?x)",
    "(q ?z)",
    "(p ?x ?x)",
    "(q a)",
)
CHECKS = (
    *("(not (q ?y))", "(= ?x ?z)", "(not (= ?x ?y))", "(or (q ?x) (p ?y ?y))"),
    *(
        "(forall (?w - small) (p ?w ?x))",
        "(exists (?w) (p ?w ?y))",
        "(imply (q ?x) (q ?y))",
    ),
)


@given(
    st.lists(st.sampled_from(ATOMS), max_size=3),
    st.lists(st.sampled_from(CHECKS), max_size=2),
    st.sets(st.tuples(st.sampled_from("abcd"), st.sampled_from("abcd"))),
    st.sets(st.sampled_from("abcd")),
    st.booleans(),
)
@settings(deadline=None)
def test_a_method_of_hddl_fits_where_its_condition_holds_and_nowhere_else(
    atoms, checks, pairs, singles, is_bound
):
    needs = f"(and {' '.join([*atoms, *checks])})"
    domain = f"""(define (domain d) (:types small - object)
      (:predicates (p ?a ?b) (q ?a) (did ?a ?b ?c))
      (:task all :parameters (?x - small))
      (:method one :parameters (?x - small ?y - object ?z - small) :task (all ?x)
        :precondition {needs} :ordered-subtasks (and (do ?x ?y ?z)))
      (:action do :parameters (?x ?y ?z - object)
        :precondition {needs} :effect (did ?x ?y ?z)))"""
    facts = " ".join([*(f"(p {a} {b})" for a, b in sorted(pairs))])
    facts += " ".join(f"(q {a})" for a in sorted(singles))
    problem = read_hddl(
        domain,
        f"""(define (problem p) (:objects a b c - small d - object)
          (:htn :parameters ({"" if is_bound else "?v - small"})
            :subtasks (and (t (all {"b" if is_bound else "?v"}))))
          (:init {facts}))""",
    )

    found = set()
    with suppress(PlanningError):
        for way in problem.domain.decompositions(("__top",), problem.state):
            found.update(names(way))

    assert found == {
        ("do", x, y, z)
        for x, y, z in product("b" if is_bound else "abc", "abcd", "abc")
        if not problem.check([("do", x, y, z)])
    }


def test_what_leads_to_the_same_place_is_searched_once():
    """Twenty doors, each by two ways that come to the same, before one that is shut."""
    doors = " ".join(f"d{n}" for n in range(20))
    problem = read_hddl(
        """(define (domain d) (:predicates (open ?d) (shut ?d) (key))
          (:task pass :parameters (?d))
          (:method left :parameters (?d) :task (pass ?d) :ordered-subtasks (and (go ?d)))
          (:method right :parameters (?d) :task (pass ?d) :ordered-subtasks (and (go ?d)))
          (:action go :parameters (?d) :precondition (not (shut ?d)) :effect (open ?d)))""",
        f"""(define (problem p) (:objects {doors} end)
          (:htn :ordered-subtasks (and {" ".join(f"(pass {d})" for d in doors.split())} (pass end)))
          (:init (shut end)))""",
    )

    with pytest.raises(PlanningError, match="cannot be done"):
        problem.solve(max_steps=1_000)


@pytest.mark.parametrize(
    ("domain", "problem", "said"),
    [
        (HDDL[:-3], PROBLEM, "brackets are left open"),
        (HDDL + ")", PROBLEM, "was not opened"),
        ("(domain)", PROBLEM, r"begins with \(define"),
        (
            HDDL.replace("(drive ?v ?a ?b) (go", "(drvie ?v ?a ?b) (go"),
            PROBLEM,
            "did you mean 'drive'",
        ),
        (
            HDDL.replace("(:types", "(:functions (cost)) (:types"),
            PROBLEM,
            ":functions, which is not read",
        ),
        (HDDL, PROBLEM.replace(":htn", ":goals"), "which is not read"),
        (
            HDDL.replace(":effect (and", ":efect (and"),
            PROBLEM,
            "action drive has :efect, which is not read; did you mean ':effect'",
        ),
        (
            HDDL.replace(
                ":precondition (at", ":precondition (at v a) :precondition (at"
            ),
            PROBLEM,
            "one form stands after :precondition, once",
        ),
        (HDDL, PROBLEM.replace("(t2 (go", "(t1 (go"), "two subtasks are called t1"),
        (HDDL, PROBLEM.replace("(< t1 t2)", "(< t1)"), r"\(< t1\) is no order"),
        (HDDL, PROBLEM.replace("(t2 (go v a))", "(t2 ())"), r"\(\), which is no task"),
    ],
)
def test_a_text_of_hddl_that_is_none_is_refused(domain, problem, said):
    with pytest.raises(InvalidTaskError, match=said):
        read_hddl(domain, problem)


@pytest.mark.parametrize(
    ("old", "new", "refusal"),
    [
        # In what the problem asks for, in a method, and in what a method is for.
        ("(go v c)", "(go v)", "(go v), and go takes ?v ?to (2, and not 1)"),
        ("(go v c)", "(go v c a)", "(go v c a), and go takes ?v ?to (2, and not 3)"),
        ("(go ?v ?to)))", "(go ?to)))", "(go ?to), and go takes ?v ?to"),
        ("(drive ?v ?a ?b) (go", "(drive ?v ?a) (go", "and drive takes ?v ?a ?b"),
        (":task (go ?v ?to)", ":task (go ?v)", "(go ?v), and go takes ?v ?to"),
        (":task (go ?v ?to)", ":task (goo ?v ?to)", "did you mean 'go'"),
        # And of what holds: at first, at the end, in conditions and in effects.
        ("(at v a) (road", "(at v) (road", "(at v), and at takes ?x ?p"),
        ("(:goal (at v a))", "(:goal (at a))", "(at a), and at takes ?x ?p"),
        (":precondition (at ?v ?to)", ":precondition (not (at ?to))", "at takes ?x ?p"),
        ("(not (at ?v ?a))", "(not (at ?v))", "(at ?v), and at takes ?x ?p"),
        ("(not (at ?v ?a))", "(when (in ?v) (at ?v ?a))", "in, which is no predicate"),
        (
            "(road ?a ?b))\n    :o",
            "(forall (?c) (road ?c)))\n    :o",
            "and road takes ?a ?b",
        ),
        (
            "(road ?a ?b))\n    :o",
            "(imply (road ?a ?b)))\n    :o",
            "which is no condition",
        ),
        # A name that stands for nothing would be a thing of its own.
        ("(go ?v ?to)))", "(go ?v ?too)))", "?too in (go ?v ?too)"),
        ("(at ?v ?b))))", "(at ?v ?c))))", "?c in (at ?v ?c)"),
    ],
)
def test_what_hddl_says_of_a_name_that_takes_something_else_is_refused(
    old, new, refusal
):
    assert (old in HDDL) + (old in PROBLEM) == 1
    with pytest.raises(InvalidTaskError, match=re.escape(refusal)):
        read_hddl(HDDL.replace(old, new), PROBLEM.replace(old, new))


def test_a_task_of_hddl_that_is_asked_for_with_too_few_things_is_refused():
    domain = read_hddl(HDDL, PROBLEM).domain
    with pytest.raises(PlanningError, match=r"go takes \?v \?to, not 1 arguments"):
        next(domain.decompositions(("go", "v"), {}))


def test_a_method_of_hddl_for_one_thing_or_for_twice_the_same_is_for_no_other():
    text = HDDL.replace("(:types", "(:constants v w - van b - place) (:types")
    text = text.replace(":precondition (at ?v ?to)", ":precondition ()")
    problem = "(define (problem p) (:init) (:htn :parameters () :subtasks ()))"
    for task, fit, other in (
        ("(go w ?to)", ("w", "b"), ("v", "b")),
        ("(go ?v ?v)", ("v", "v"), ("v", "w")),
    ):
        domain = read_hddl(text.replace("(go ?v ?to)", task, 1), problem).domain
        assert first(domain, ("go", *fit), {}) == []
        with pytest.raises(PlanningError):
            first(domain, ("go", *other), {})


def test_a_domain_of_gtpyhop_becomes_a_plan(capsys):
    gtpyhop = pytest.importorskip("gtpyhop")

    def drive(state, van, to):
        state.at[van] = to
        return state

    def load(state, what, van):
        if state.at[what] == state.at[van]:
            state.at[what] = van
            return state
        return None

    domain = gtpyhop.Domain("vans")
    domain._action_dict |= {"drive": drive, "load": load}
    domain._task_method_dict["collect"] = [
        lambda _s, what, van: [("load", what, van)],
        lambda s, what, van: [("drive", van, s.at[what]), ("load", what, van)],
    ]
    ours = GtpyhopDomain(domain, {"drive": {"duration": 60}})
    capsys.readouterr()
    at = {"at": {"v1": "a", "v2": "a", "x": "b", "y": "c"}}
    found = ours.solve([("collect", "x", "v1"), ("collect", "y", "v2")], at)

    assert names(found) == [
        ("drive", "v1", "b"),
        ("load", "x", "v1"),
        ("drive", "v2", "c"),
        ("load", "y", "v2"),
    ]
    assert at["at"]["x"] == "b"
    assert capsys.readouterr().out == ""
    with pytest.raises(PlanningError, match="cannot be done"):
        ours.solve([("load", "x", "v1")], at)
