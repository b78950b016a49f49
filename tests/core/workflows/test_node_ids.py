"""Graphs whose nodes are anything that can be hashed."""

from __future__ import annotations

import pickle
import re
import subprocess
import sys
from enum import Enum
from fractions import Fraction

import networkx as nx
import pytest
from hypothesis import given, strategies as st

from taskorch import (
    DuplicateTaskError,
    InvalidTaskError,
    Task,
    TaskOrchestrator,
    Workflow,
)
from taskorch.model.ids import id_problem


class Colour(Enum):
    RED = 1


class Plain:
    pass


class Shown:
    """It has a text of its own, by one of the two ways to have one."""

    def __repr__(self):
        return "shown"


def graph_of(*nodes):
    graph = nx.DiGraph()
    for node in nodes:
        graph.add_node(node, task=Task.call(repr, str(node)))
    return graph


@pytest.mark.parametrize(
    ("node", "name"),
    [
        (Shown(), "shown"),
        ("a", "a"),
        ("a/b", "a/b"),
        (1, "1"),
        (-1.5, "1.5"),
        ((None,), "None"),
        (True, "True"),
        ((1, "b"), "1-b"),
        (("load", (2024, 1)), "load-2024-1"),
        (frozenset({"b", "a", "c"}), "a-b-c"),
        (Colour.RED, "RED"),
        (Fraction(1, 3), "1-3"),
        ("two words", "two-words"),
        ("a~2", "a-2"),
        ("../etc", "etc"),
        ("", "node"),
        ("é", "node"),
        ((), "node"),
        (b"x", "b-x"),
        ("x" * 300, "x" * 100),
    ],
)
def test_a_node_says_what_it_is(node, name):
    wf = Workflow.from_networkx(graph_of(node))
    assert wf.ids == {node: name}
    assert list(wf) == [name]
    assert id_problem(name) is None


def test_an_object_without_a_text_of_its_own_has_its_class():
    """Its address would be another one in every run."""
    first, second = Plain(), Plain()
    wf = Workflow.from_networkx(graph_of(first, second))
    assert wf.ids == {first: "Plain", second: "Plain-2"}


def test_no_two_have_one_id_and_what_is_an_id_keeps_it():
    nodes = [1, (1,), "1", "1-2", ("1",), frozenset({1})]
    wf = Workflow.from_networkx(graph_of(*nodes))
    assert wf.ids["1"] == "1"
    assert wf.ids["1-2"] == "1-2"
    assert wf.ids[1] == "1-3"
    assert len(set(wf.ids.values())) == len(wf.ids)


def test_results_are_found_by_the_nodes():
    graph = graph_of((0, 0), (0, 1), Colour.RED)
    graph.add_edge((0, 0), (0, 1))
    graph.add_edge((0, 1), Colour.RED)
    wf = Workflow.from_networkx(graph)
    assert wf.dependencies["RED"] == ("0-1",)
    with TaskOrchestrator() as orch:
        results = orch.workflows.start(wf).result()
    assert {node: results[wf.ids[node]] for node in graph} == {
        node: repr(str(node)) for node in graph
    }


def test_a_task_may_bring_its_id():
    graph = nx.DiGraph()
    graph.add_node((1, 2), task=Task.call(int, id="first"))
    assert Workflow.from_networkx(graph).ids == {(1, 2): "first"}
    graph.add_node("first", task=int)
    with pytest.raises(DuplicateTaskError):
        Workflow.from_networkx(graph)
    other = nx.DiGraph()
    other.add_node("a", task=Task.call(int, id="b"))
    with pytest.raises(InvalidTaskError, match="another id"):
        Workflow.from_networkx(other)


def test_ids_are_the_same_in_every_run():
    """Whatever the seed of the hashes is."""
    code = """
import networkx as nx
from taskorch import Workflow
graph = nx.DiGraph()
for node in [frozenset("abcdef"), ("x", frozenset({"p", "q", "r"})), 7, object()]:
    graph.add_node(node, task=int)
print(list(Workflow.from_networkx(graph)))
"""
    said = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONHASHSEED": str(seed)},
            capture_output=True,
            check=True,
            text=True,
        ).stdout
        for seed in (1, 2, 3)
    }
    assert said == {"['a-b-c-d-e-f', 'x-p-q-r', '7', 'object']\n"}


atoms = st.one_of(st.integers(), st.text(max_size=5), st.none(), st.booleans())
anything = st.recursive(
    atoms, lambda inner: st.tuples(inner, inner) | st.frozensets(inner), max_leaves=5
)


@given(
    st.lists(
        anything.filter(lambda n: n is not None),
        unique_by=lambda node: (type(node), node),
        max_size=12,
    )
)
def test_whatever_the_nodes_are_each_has_an_id_of_its_own(nodes):
    graph = graph_of(*nodes)
    wf = Workflow.from_networkx(graph)
    assert list(wf.ids) == list(graph)
    assert len(set(wf.ids.values())) == len(graph)
    assert all(id_problem(name) is None for name in wf.ids.values())
    assert Workflow.from_networkx(graph).ids == wf.ids
    assert all(
        wf.ids[node] == node
        for node in graph
        if isinstance(node, str) and re.fullmatch(r"[a-z0-9]+", node)
    )


def test_a_workflow_of_such_a_graph_can_be_pickled():
    wf = Workflow.from_networkx(graph_of((1, 2), "a"))
    assert pickle.loads(pickle.dumps(wf)).ids == wf.ids
