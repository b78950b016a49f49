"""Chains, groups and chords, nested and empty, with errors inside; and sorting."""

import graphlib

import pytest
from hypothesis import given, strategies as st
from tests.integration.tools import PATIENCE
from tests.workflows.functions import BROKEN, CALLS, add, echo, step, total, zero
from tests.workflows.tools import failures

from taskorch import CycleError, Workflow, WorkflowFailedError
from taskorch.workflows import _graph


def results_of(orch, wf: Workflow) -> dict:
    return orch.workflows.start(wf).result(PATIENCE)


def failures_of(orch, wf: Workflow) -> list[str]:
    return sorted(failures(orch.workflows.start(wf)))


# ----------------------------------------------------------------------- canvas


@pytest.mark.parametrize("n", [1, 2, 30])
def test_a_chain_of_any_length(orch, n):
    wf = Workflow("w")
    last = 0
    for k in range(n):
        last = wf.task(add, last, 1, id=f"t{k}")
    assert results_of(orch, wf)[f"t{n - 1}"] == n


def test_chains_of_groups_and_empty_groups():
    wf = Workflow("w")
    a, b, c, d = [wf.task(zero, id=n) for n in "abcd"]
    wf.chain([a, b], [], [c], d)
    wf.chain()
    wf.chain([])
    assert dict(wf.dependencies) == {"a": (), "b": (), "c": ("a", "b"), "d": ("c",)}


@pytest.mark.parametrize("n", [0, 1, 2, 20])
def test_a_chord_with_a_header_of_any_size(orch, n):
    """The body has all results of the header, in its order, if it is empty too."""
    wf = Workflow("w")
    wf.task(echo, [wf.task(add, k) for k in range(n)], id="body")
    assert results_of(orch, wf)["body"] == list(range(n))


def test_a_chord_as_the_header_of_a_chord(orch):
    wf = Workflow("w")

    def chord(numbers: range, name: str):
        return wf.task(total, [wf.task(add, n) for n in numbers], id=name)

    inner = [chord(range(n), f"inner{n}") for n in range(4)]
    wf.task(total, inner, id="outer")
    assert results_of(orch, wf)["outer"] == 0 + 0 + 1 + 3


def test_a_group_in_a_group_is_a_group(orch):
    wf = Workflow("w")
    groups = [wf.gather([wf.task(add, n) for n in range(k)]) for k in range(3)]
    wf.gather(groups, id="all")
    assert results_of(orch, wf)["all"] == [[], [0], [0, 1]]


def test_a_group_into_a_group_waits_for_all(orch):
    wf = Workflow("w")
    first = [wf.task(step, f"a{n}") for n in range(3)]
    second = [wf.task(step, f"b{n}") for n in range(3)]
    wf.chain(first, second)
    results_of(orch, wf)
    assert {name[0] for name in CALLS[:3]} == {"a"}


def test_an_empty_workflow_within_a_chain(orch):
    wf = Workflow("w")
    a = wf.task(step, "a", id="a")
    last = wf.include(Workflow("nothing"), after=[a])
    wf.chain(last, wf.task(step, "b", id="b"))
    results_of(orch, wf)
    assert CALLS == ["a", "b"]


def test_an_error_in_a_header_blocks_the_body_only(orch):
    BROKEN.add("h1")
    wf = Workflow("w")
    header = [wf.task(step, f"h{n}", id=f"h{n}") for n in range(3)]
    body = wf.task(echo, header, id="body")
    wf.task(echo, body, id="after")
    wf.task(step, "beside", header[0], id="beside")
    assert failures_of(orch, wf) == ["h1"]
    assert sorted(CALLS) == ["beside", "h0", "h1", "h2"]


def test_a_body_that_runs_without_what_failed(orch):
    """What did not complete is None among its arguments."""
    BROKEN.add("h1")
    wf = Workflow("w")
    header = [wf.task(step, f"h{n}", id=f"h{n}") for n in range(3)]
    wf.task(echo, header, id="body", join="finished")
    run = orch.workflows.start(wf)
    assert run.handles["body"].result(PATIENCE) == ["h0()", None, "h2()"]
    with pytest.raises(WorkflowFailedError):
        run.result(PATIENCE)


def test_an_error_callback_is_a_task_that_runs_when_another_has_failed(orch):
    BROKEN.add("work")
    wf = Workflow("w")
    work = wf.task(step, "work", id="work")
    wf.task(step, "clean up", id="clean-up", after=[work], join="finished")
    wf.task(step, "if it went well", id="ok", after=[work], on_parent_failure="skip")
    assert failures_of(orch, wf) == ["work"]
    assert CALLS == ["work", "clean up"]


@pytest.mark.parametrize("how", ["skip", "fail"])
def test_what_a_failure_takes_with_it_is_no_failure_of_its_own(orch, how):
    """Down a chain; and a restart runs it all again."""
    BROKEN.add("t0")
    wf = Workflow("w")
    last = wf.task(step, "t0", id="t0")
    for n in range(1, 5):
        last = wf.task(step, f"t{n}", last, id=f"t{n}", on_parent_failure=how)
    run = orch.workflows.start(wf, id="x")
    assert list(failures(run)) == ["t0"]
    assert {t.root_causes for t in run.report().held_up} == {("t0",)}
    assert len(run.report().held_up) == 4
    BROKEN.clear()
    orch.workflows.restart("x")
    assert run.result(PATIENCE)["t4"] == "t4(t3(t2(t1(t0()))))"


def test_an_error_in_what_was_included(orch):
    BROKEN.add("b")
    inner = Workflow("inner")
    inner.chain(*[inner.task(step, n, id=n) for n in "abc"])
    wf = Workflow("w")
    wf.chain(wf.include(inner, name="one"), wf.task(step, "end", id="end"))
    wf.include(inner, name="two")
    assert failures_of(orch, wf) == ["one/b", "two/b"]


# ---------------------------------------------------------------------- sorting

#: Of each task, what it waits for; and the layers that come of that.
GRAPHS = [
    ({}, []),
    ({"a": ()}, ["a"]),
    ({"d": "bc", "b": "a", "c": "a", "a": ""}, ["a", "bc", "d"]),
    (
        {"2": "bi", "9": "bh", "h": "g", "b": "ei", "e": "", "i": "", "g": ""},
        ["eig", "hb", "29"],
    ),
    ({"1": "", "2": "", "3": ""}, ["123"]),
    ({"b": "a", "d": "c", "a": "", "c": ""}, ["ac", "bd"]),
]

#: Rings, alone and with tails and neighbours.
RINGS = [
    {"a": "a"},
    {"a": "b", "b": "a"},
    {"a": "b", "b": "c", "c": "a"},
    {"a": "c", "b": "a", "c": "b", "d": "a", "e": "d"},
    {"a": "", "b": "ac", "c": "d", "d": "b"},
    {"a": "b", "b": "a", "c": "d", "d": "c"},
]


@pytest.mark.parametrize(("graph", "layers"), GRAPHS)
def test_layers_of_small_graphs(graph, layers):
    found = _graph.layers({name: tuple(above) for name, above in graph.items()})
    assert [set(layer) for layer in found] == [set(layer) for layer in layers]


@pytest.mark.parametrize("graph", RINGS)
def test_rings_are_named(graph):
    """Each member of the ring that is named needs the next."""
    parents = {name: tuple(above) for name, above in graph.items()}
    with pytest.raises(CycleError) as caught:
        _graph.refuse_rings(parents)
    ring = caught.value.cycle
    for name, needed in zip(ring, (*ring[1:], ring[0]), strict=True):
        assert needed in parents[name]


def test_the_order_of_the_same_graph_is_the_same():
    """Whatever the order in which its edges were said, as long as its tasks were not."""
    one = _graph.order({"a": (), "b": ("a",), "c": ("a",), "d": ("b", "c")})
    two = _graph.order({"a": (), "b": ("a",), "c": ("a",), "d": ("b", "c", "b")})
    assert one == two == ["a", "b", "c", "d"]


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=25))
def test_whatever_comes_is_sorted_or_refused(edges):
    """As graphlib says; and nothing comes before what it waits for."""
    parents: dict[str, set[str]] = {str(n): set() for n in range(10)}
    for child, parent in edges:
        parents[str(child)].add(str(parent))
    try:
        list(graphlib.TopologicalSorter(parents).static_order())
    except graphlib.CycleError:
        with pytest.raises(CycleError):
            _graph.refuse_rings(parents)
        return
    _graph.refuse_rings(parents)
    order = _graph.order(parents)
    assert sorted(order) == sorted(parents)
    place = {name: n for n, name in enumerate(order)}
    assert all(place[p] < place[n] for n, above in parents.items() for p in above)
