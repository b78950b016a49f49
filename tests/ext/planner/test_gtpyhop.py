"""Domains of GTPyhop give the plans of GTPyhop, and their tasks wait for enough."""

from __future__ import annotations

import copy
import io
import threading
from collections import OrderedDict, defaultdict
from concurrent.futures import ThreadPoolExecutor
from contextlib import redirect_stdout, suppress
from random import Random

import pytest
from hypothesis import given, settings, strategies as st
from tests.house.tools.examples import examples

from taskorch import TaskOrchestrator
from taskorch.errors import InvalidTaskError, PlanningError
from taskorch.ext.planner import Deadline, GtpyhopDomain, TaskRequest
from taskorch.ext.planner._domain import interference

with redirect_stdout(io.StringIO()):
    gtpyhop = pytest.importorskip("gtpyhop")

KEYS = ("a", "b", "c")


def names(found):
    return [(step.operator.name, *step.args) for step in found.steps]


def theirs(domain, state, todo):
    """The plan of GTPyhop; None: there is none; a text: it has failed."""
    with redirect_stdout(io.StringIO()):
        session = gtpyhop.PlannerSession(
            domain=domain,
            strategy="iterative_dfs_backtracking",
            structured_logging=False,
        )
        result = session.find_plan(copy.deepcopy(state), copy.deepcopy(todo))
    if result.success:
        return [tuple(item) for item in result.plan]
    return None if result.error == "No plan found" else result.error


# -- random domains ------------------------------------------------------------------

#: What an action does to a state, by a key and a number.
EFFECTS = {
    "set": lambda s, k, n: s.at.__setitem__(k, n),
    "count": lambda s, k, n: s.at.__setitem__(k, s.at.get(k, 0) + n),
    "nested": lambda s, k, n: s.deep.setdefault(k, {}).__setitem__("n", n),
    "deeper": lambda s, k, n: s.deep[k]["in"].append(n),
    "drop": lambda s, k, n: s.at.pop(k),
    "del": lambda s, k, n: s.deep.__delitem__(k),
    "copy": lambda s, k, n: s.at.__setitem__(k, s.at["b"]),
    "sum": lambda s, k, n: s.at.__setitem__(k, sum(s.at.values())),
    "count keys": lambda s, k, n: s.other.__setitem__(k, len(s.at)),
    "merge": lambda s, k, n: setattr(s, "other", s.at | {k: n}),
    "new": lambda s, k, n: setattr(s, f"made_{k}", {k: n}),
    "list": lambda s, k, n: s.log.append((k, n)),
    "alias": lambda s, k, n: setattr(s, "other", s.at),
    "clear": lambda s, k, n: s.at.clear(),
    "default": lambda s, k, n: s.counts.__setitem__(k, s.counts[k] + n),
    "look": lambda s, k, n: s.other.__setitem__(k, f"made_{k}" in vars(s)),
    "ordered": lambda s, k, n: s.ordered.__setitem__(k, n),
    "last": lambda s, k, n: s.other.__setitem__(k, [*reversed(s.at)]),
    "idle": lambda s, k, n: None,
}
GUARDS = {
    "always": lambda s, k, n: True,
    "is": lambda s, k, n: s.at.get(k) == n,
    "has": lambda s, k, n: k in s.at,
    "not": lambda s, k, n: s.at[k] != n,
    "deep": lambda s, k, n: s.deep[k].get("n", 0) < n,
    "any": lambda s, k, n: any(v == n for v in s.at.values()),
    "new": lambda s, k, n: hasattr(s, f"made_{k}"),
    "list": lambda s, k, n: len(s.log) < n,
}
numbers = st.integers(0, 2)
keys = st.sampled_from(KEYS)
actions = st.lists(
    st.tuples(
        st.sampled_from([*GUARDS, "always", "always"]),
        st.lists(st.sampled_from(list(EFFECTS)), min_size=1, max_size=2),
        st.sampled_from([None, None, False, "no"]),
    ),
    min_size=2,
    max_size=5,
)


def begin():
    state = gtpyhop.State("begin")
    state.at = {"a": 0, "b": 1}
    state.deep = {"a": {"n": 0, "in": []}, "b": {"in": [1]}}
    state.other = {}
    state.ordered = OrderedDict()
    state.counts = defaultdict(int)
    state.log = []
    return state


def action_of(name, guard, effects, no):
    def action(state, key, number):
        if not GUARDS[guard](state, key, number):
            return no
        for effect in effects:
            EFFECTS[effect](state, key, number)
        return state

    action.__name__ = name
    return action


@st.composite
def items(draw, level, acts, *, goals=True):
    """Something to be done by what stands on a lower level: no search is endless."""
    kinds = ["action", "action"] + ["task"] * (level < 3) + ["goal", "goals"] * goals
    kind = draw(st.sampled_from(kinds))
    if kind == "action":
        return (f"do{draw(st.integers(0, acts - 1))}", draw(keys), draw(numbers))
    if kind == "task":
        return (f"task{draw(st.integers(level + 1, 3))}", draw(keys), draw(numbers))
    if kind == "goal":
        return ("at", draw(keys), draw(numbers))
    goal = gtpyhop.Multigoal("goal")
    goal.at = draw(st.dictionaries(keys, numbers, max_size=2))
    return goal


def method_of(name, guard, ways):
    def method(state, key, number):
        if not GUARDS[guard](state, key, number):
            return None if number else False
        return copy.deepcopy(ways)

    method.__name__ = name
    return method


@st.composite
def domains(draw):
    acts = draw(actions)
    with redirect_stdout(io.StringIO()):
        domain = gtpyhop.Domain("random")
    for number, each in enumerate(acts):
        domain._action_dict[f"do{number}"] = action_of(f"do{number}", *each)
    domain._action_dict["put"] = action_of("put", "always", ["set"], None)
    for level in range(4):
        methods = [
            method_of(
                f"m{level}{n}",
                draw(st.sampled_from([*GUARDS, *["always"] * 5])),
                draw(st.lists(items(level, len(acts)), max_size=3)),
            )
            for n in range(draw(st.integers(1, 3)))
        ]
        # The same method may be declared twice.
        domain._task_method_dict[f"task{level}"] = methods + methods[: draw(numbers)]
    reach = [
        lambda s, k, n: [("put", k, n)],
        lambda s, k, n: [("do0", k, n)],
        lambda s, k, n: None if k == "a" else [("put", k, n)],
    ]
    domain._unigoal_method_dict["at"] = draw(
        st.lists(st.sampled_from(reach), max_size=3)
    )
    split = [
        gtpyhop.m_split_multigoal,
        lambda s, goal: [("at", k, n) for k, n in goal.at.items()],
        lambda s, goal: False,
    ]
    domain._multigoal_method_list += draw(st.lists(st.sampled_from(split), max_size=2))
    return domain, draw(st.lists(items(-1, len(acts)), min_size=1, max_size=3))


def checked(domain, todo, seed=0):
    state = begin()
    expected = theirs(domain, state, todo)
    before, asked = copy.deepcopy(state), copy.deepcopy(todo)
    plan = None
    with suppress(PlanningError):
        plan = GtpyhopDomain(domain).solve(todo, state, max_seconds=60)
    assert vars(state) == vars(before)
    assert [vars(t) if hasattr(t, "at") else t for t in todo] == [
        vars(t) if hasattr(t, "at") else t for t in asked
    ]
    assert (plan is None) is (not isinstance(expected, list))
    if plan is not None:
        assert names(plan) == expected
        in_any_order(domain, plan, seed)


def in_any_order(domain, plan, seed, orders=3):
    """Carried out in any order that its tasks allow, a plan comes to the same."""
    waits = interference(plan.steps)
    random = Random(seed)
    ends = []
    for _ in range(orders):
        now, left, done = begin(), list(range(len(plan.steps))), set()
        while left:
            ready = [n for n in left if done.issuperset(waits[n])]
            number = random.choice(ready) if ends else ready[0]
            step = plan.steps[number]
            now = domain._action_dict[step.operator.name](now, *step.args)
            assert isinstance(now, gtpyhop.State)
            left.remove(number)
            done.add(number)
        ends.append({k: v for k, v in vars(now).items() if k != "__name__"})
    assert all(end == ends[0] for end in ends)


@given(domains(), st.integers(0, 99))
@settings(deadline=None, max_examples=examples(60))
def test_it_plans_as_gtpyhop_does_and_changes_nothing(made, seed):
    checked(*made, seed)


@given(
    st.lists(
        st.tuples(
            st.sampled_from([*GUARDS, *["always"] * 8]),
            st.lists(st.sampled_from(list(EFFECTS)), min_size=1, max_size=2),
            keys,
            numbers,
        ),
        min_size=2,
        max_size=6,
    ),
    st.integers(0, 99),
)
@settings(deadline=None, max_examples=examples(250))
def test_its_tasks_wait_for_all_that_they_look_at(steps, seed):
    with redirect_stdout(io.StringIO()):
        domain = gtpyhop.Domain("random")
    todo = []
    for number, (guard, effects, key, amount) in enumerate(steps):
        name = f"do{number}"
        domain._action_dict[name] = action_of(name, guard, effects, None)
        todo.append((name, key, amount))
    try:
        plan = GtpyhopDomain(domain).solve(todo, begin())
    except PlanningError:
        return
    in_any_order(domain, plan, seed, orders=6)


@pytest.mark.slow("many random domains")
@given(domains(), st.integers(0, 99))
@settings(deadline=None, max_examples=examples(1500))
def test_it_plans_as_gtpyhop_does_at_length(made, seed):
    checked(*made, seed)


@pytest.mark.parametrize(
    "look",
    [
        len,
        list,
        sorted,
        dict,
        bool,
        copy.copy,
        copy.deepcopy,
        repr,
        lambda at: at == {"a": 0, "b": 1},
        lambda at: at | {},
        lambda at: {**at},
        lambda at: sum(at.values()),
        lambda at: at.copy(),
        lambda at: [*reversed(at)],
        lambda at: [*at.items()],
        lambda at: at.get("c"),
        lambda at: "c" in at,
        lambda at: at.pop("c", None),
    ],
)
def test_who_looks_at_a_table_is_done_before_a_key_comes_to_it(look):
    def count(state):
        state.other["seen"] = repr(look(state.at))
        return state

    with redirect_stdout(io.StringIO()):
        domain = gtpyhop.Domain("tables")
    domain._action_dict |= {
        "count": count,
        "put": action_of("put", "always", ["set"], None),
    }

    plan = GtpyhopDomain(domain).solve(
        [("count",), ("put", "c", 5), ("count",)], begin()
    )

    assert interference(plan.steps)[1].keys() == {0}


# -- by hand -------------------------------------------------------------------------


def domain_of(*actions, **methods):
    with redirect_stdout(io.StringIO()):
        made = gtpyhop.Domain("by-hand")
    made._action_dict |= {each.__name__: each for each in actions}
    made._task_method_dict |= methods
    return made


def put(state, key, value):
    state.at[key] = value
    return state


def test_who_makes_a_table_or_a_variable_anew_comes_between():
    def look(state):
        state.other["seen"] = hasattr(state, "fresh")
        return state

    def make(state):
        state.fresh = 1
        return state

    def empty(state):
        state.at = {}
        return state

    ours = GtpyhopDomain(domain_of(put, look, make, empty))
    for todo in (
        [("look",), ("make",)],
        [("make",), ("look",)],
        [("empty",), ("put", "c", 1)],
        [("put", "c", 1), ("empty",)],
    ):
        plan = ours.solve(todo, begin())
        assert interference(plan.steps)[1].keys() == {0}


def test_what_methods_do_to_a_state_never_reaches_the_caller():
    def spoils(state, key):
        state.at["b"] = "spoilt"
        state.deep["a"]["in"].append(key)
        return [("put", key, 5)]

    domain = domain_of(put, spoil=[spoils])
    state = begin()

    with pytest.raises(PlanningError, match="does something else when it is done"):
        GtpyhopDomain(domain).solve([("spoil", "a")], state)
    assert state == begin()


def test_a_goal_that_a_method_empties_is_whole_afterwards():
    def one_by_one(_state, goal):
        return [("put", *goal.at.popitem()), goal] if goal.at else []

    domain = domain_of(put)
    domain._multigoal_method_list.append(one_by_one)
    goal = gtpyhop.Multigoal("goal", at={"a": 5, "b": 6})

    plan = GtpyhopDomain(domain).solve([goal], begin())

    assert sorted(names(plan)) == [("put", "a", 5), ("put", "b", 6)]
    assert goal.at == {"a": 5, "b": 6}


def test_a_state_that_cannot_be_copied_is_refused_by_name():
    state = begin()
    state.lock = threading.Lock()

    with pytest.raises(PlanningError, match="variable 'lock' cannot be copied"):
        GtpyhopDomain(domain_of(put)).solve([("put", "a", 1)], state)


def test_a_value_that_cannot_be_compared_lets_steps_wait():
    class Odd:
        pass

    state = begin()
    state.odd = Odd()

    plan = GtpyhopDomain(domain_of(put)).solve(
        [("put", "a", 1), ("put", "b", 2)], state
    )

    assert interference(plan.steps)[1].keys() == {0}


@pytest.mark.parametrize(
    ("todo", "said"),
    [
        ([("fly", "a")], "has no action, task or goal"),
        ([()], "has no action, task or goal"),
        ([("way", "a")], "a list of tasks is needed"),
        ([("fail", "a")], "ZeroDivisionError"),
        ([("at", "a")], "is no .variable, key, value. of a table"),
        ([("gone", "a", 1)], "is no .variable, key, value. of a table"),
        ([("at", "a", 7)], "didn't achieve"),
        ([("on", 1)], "given up after"),
    ],
)
def test_what_is_wrong_with_a_domain_is_said(todo, said):
    domain = domain_of(
        put,
        way=[lambda _s, key: "put"],
        fail=[lambda _s, key: 1 / 0],
        on=[lambda _s, n: [("put", "a", n), ("on", n + 1)]],
    )
    domain._unigoal_method_dict |= {"at": [lambda *_: []], "gone": [lambda *_: []]}

    with pytest.raises(PlanningError, match=said):
        GtpyhopDomain(domain).solve(todo, begin(), max_steps=300)


def vans():
    def drive(state, van, to):
        state.at[van] = to
        return state

    def load(state, what, van):
        if state.at[what] == state.at[van]:
            state.at[what] = van
            return state
        return None

    return domain_of(
        drive,
        load,
        collect=[
            lambda _s, what, van: [("load", what, van)],
            lambda s, what, van: [("drive", van, s.at[what]), ("load", what, van)],
        ],
    )


AT = {"at": {"v1": "a", "v2": "a", "x": "b", "y": "b"}}


def test_threads_plan_at_once():
    orch = TaskOrchestrator()
    orch.planner.domain(GtpyhopDomain(vans(), {"drive": {"duration": 60}}))

    def planned(number):
        context = {"args": ["x", f"v{number}"], "state": AT}
        plan = orch.planner.plan(TaskRequest("r", "collect", context=context))
        return [task.type for task in plan.tasks], float(plan.estimated_duration)

    with ThreadPoolExecutor(4) as pool:
        both = list(pool.map(planned, [1, 2] * 10))

    assert {tuple(types) for types, _ in both} == {("drive", "load")}
    assert {seconds >= 60 for _, seconds in both} == {True}


def test_arguments_have_the_names_of_its_methods_in_a_text_too():
    orch = TaskOrchestrator()
    orch.planner.domain(GtpyhopDomain(vans()))

    plan = orch.planner.plan(
        {
            "id": "r",
            "type": "collect",
            "context": {"what": "x", "van": "v1", "state": AT},
        }
    )

    assert [task.id for task in plan.tasks] == ["drive-v1-b", "load-x-v1"]
    with pytest.raises(PlanningError, match="takes what, van"):
        orch.planner.plan("collect what=x")


def test_what_is_there_already_is_a_plan_without_tasks():
    domain = domain_of(put, be=[lambda s, k, v: [] if s.at[k] == v else None])
    orch = TaskOrchestrator()
    orch.planner.domain(GtpyhopDomain(domain))
    context = {"args": ["a", 0], "state": {"at": {"a": 0}}}

    plan = orch.planner.plan(TaskRequest("r", "be", context=context))

    assert (plan.tasks, float(plan.estimated_duration)) == ((), 0)
    assert orch.planner.validate(plan)
    assert orch.planner.optimize(plan, seconds=0.1).tasks == ()
    with orch:
        assert orch.workflows.start(plan).result() == {}


def test_another_way_is_taken_where_the_first_one_is_late():
    domain = domain_of(
        put,
        go=[
            lambda _s: [("put", "a", 7), ("put", "a", 8)],
            lambda _s: [("put", "a", 9)],
        ],
    )
    orch = TaskOrchestrator()
    orch.planner.domain(GtpyhopDomain(domain, {"put": {"duration": 10}}))
    context = {"state": {"at": {}}}

    plan = orch.planner.plan(
        TaskRequest("r", "go", context=context, constraints=[Deadline(15)])
    )

    assert [task.id for task in plan.tasks] == ["put-a-9"]


@pytest.mark.parametrize(
    ("actions", "error"),
    [({"fly": {}}, PlanningError), ({"put": {"duration": -1}}, InvalidTaskError)],
)
def test_options_of_actions_are_looked_at_when_it_is_made(actions, error):
    with pytest.raises(error):
        GtpyhopDomain(domain_of(put), actions)
