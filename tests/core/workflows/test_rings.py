"""Graphs as such: order, layers, the shortest ring, the longest chain."""

import itertools

import networkx as nx
import pytest
from hypothesis import given, strategies as st

from taskorch import CycleError
from taskorch.core.workflows import _graph

#: Graphs with rings, and the length of the shortest.
RINGS = {
    "itself": ({"a": ["a"]}, 1),
    "itself, beside others": ({"a": [], "b": ["a", "b"], "c": ["b"]}, 1),
    "two": ({"a": ["b"], "b": ["a"]}, 2),
    "three": ({"a": ["b"], "b": ["c"], "c": ["a"]}, 3),
    "three, hanging on others": (
        {"x": [], "a": ["b", "x"], "b": ["c"], "c": ["a"], "y": ["a"]},
        3,
    ),
    "two rings, the shorter last": (
        {"a": ["b"], "b": ["c"], "c": ["a"], "x": ["y"], "y": ["x"]},
        2,
    ),
    "one inside another": (
        {"a": ["b"], "b": ["c"], "c": ["d", "b"], "d": ["a"]},
        2,
    ),
    "a figure of eight": (
        {"m": ["a", "x"], "a": ["b"], "b": ["m"], "x": ["y"], "y": ["z"], "z": ["m"]},
        3,
    ),
    "all with all": ({n: [m for m in "abcde" if m != n] for n in "abcde"}, 2),
    "a ring behind a long tail": (
        {"t0": ["r0"], **{f"t{i}": [f"t{i - 1}"] for i in range(1, 50)}}
        | {f"r{i}": [f"r{(i + 1) % 7}"] for i in range(7)},
        7,
    ),
}


@pytest.mark.parametrize(("parents", "length"), RINGS.values(), ids=RINGS)
def test_the_shortest_ring_is_named(parents, length):
    with pytest.raises(CycleError) as caught:
        _graph.refuse_rings(parents)

    ring = caught.value.cycle
    assert len(ring) == length
    assert_ring(parents, ring)


def assert_ring(parents, ring):
    """Each needs the next, the last the first, and none stands there twice."""
    assert len(set(ring)) == len(ring)
    pairs = zip(ring, ring[1:] + ring[:1], strict=True)
    assert all(needed in parents[name] for name, needed in pairs)


@pytest.mark.slow("50,000 tasks")
def test_a_huge_ring_with_shortcuts_is_found_in_bounds():
    """Somewhere in 50,000 tasks there is a ring of two."""
    size = 50_000
    parents = {str(i): [str((i + 1) % size)] for i in range(size)}
    parents["40000"].append("39999")
    with pytest.raises(CycleError) as caught:
        _graph.refuse_rings(parents)
    assert_ring(parents, caught.value.cycle)


NAMES = [f"n{i}" for i in range(8)]


@st.composite
def graphs(draw):
    names = NAMES[: draw(st.integers(1, len(NAMES)))]
    pairs = st.tuples(st.sampled_from(names), st.sampled_from(names))
    parents = {name: [] for name in names}
    for parent, child in draw(st.lists(pairs, unique=True, max_size=16)):
        parents[child].append(parent)
    return parents


@given(graphs())
def test_whether_there_is_a_ring_and_how_short_it_is_networkx_says_too(parents):
    cycles = list(nx.simple_cycles(_graph.digraph(parents)))
    if not cycles:
        _graph.refuse_rings(parents)
        return
    with pytest.raises(CycleError) as caught:
        _graph.refuse_rings(parents)
    assert_ring(parents, caught.value.cycle)
    assert len(caught.value.cycle) == min(map(len, cycles))


@given(graphs(), st.sets(st.sampled_from(NAMES)))
def test_the_longest_chain_is_one_and_is_as_long_as_networkx_finds_it(parents, among):
    graph = _graph.digraph(parents)
    if not nx.is_directed_acyclic_graph(graph):
        return
    chain = _graph.longest_path(parents, among)

    left = graph.subgraph(among)
    assert set(chain) <= among
    assert all(a in parents[b] for a, b in itertools.pairwise(chain))
    assert len(chain) == len(nx.dag_longest_path(left))
