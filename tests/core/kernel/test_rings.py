"""`find_ring`: tasks that wait for each other are found before they are accepted."""

import hypothesis.strategies as st
import networkx as nx
import pytest
from hypothesis import given

from taskorch.kit.checks import find_ring

NAMES = st.sampled_from("abcdefg")
GRAPHS = st.dictionaries(NAMES, st.lists(NAMES, max_size=4))


def is_ring(ring, parents):
    """Whether each of *ring* waits for the next, and the last for the first."""
    after = (*ring[1:], *ring[:1])
    return all(p in parents[name] for name, p in zip(ring, after, strict=True))


NO_RINGS = [
    {},
    {"a": ()},
    {"a": ("b",)},
    {"a": ("b", "c"), "b": ("d",), "c": ("d",), "d": ()},
    {"a": ("b", "b"), "b": ("c", "c")},
]


@pytest.mark.parametrize("parents", NO_RINGS)
def test_no_ring(parents):
    """Neither a diamond is a ring, nor a parent that is named twice or not here."""
    assert find_ring(parents) == ()


RINGS = [
    ({"a": ("a",)}, {"a"}),
    ({"a": ("b",), "b": ("a",)}, {"a", "b"}),
    ({"a": ("b", "b"), "b": ("a", "a")}, {"a", "b"}),
    # What hangs on a ring, and what a ring hangs on, is no part of it.
    (
        {
            "head": (),
            "a": ("head", "b"),
            "b": ("c",),
            "c": ("elsewhere", "a"),
            "tail": ("a",),
            "tip": ("tail",),
        },
        {"a", "b", "c"},
    ),
]


@pytest.mark.parametrize(("parents", "members"), RINGS)
def test_a_ring(parents, members):
    """The ring is found, in order, whichever task is looked at first."""
    for names in (list(parents), list(parents)[::-1]):
        graph = {name: parents[name] for name in names}
        ring = find_ring(graph)
        assert (len(ring), set(ring)) == (len(members), members)
        assert is_ring(ring, graph)


@given(GRAPHS)
def test_rings_of_any_graph(parents):
    """What is found is a ring of the graph; networkx finds one if and only if we do."""
    edges = [(name, p) for name, of in parents.items() for p in of]
    try:
        nx.find_cycle(nx.DiGraph(edges))
    except nx.NetworkXNoCycle:
        assert find_ring(parents) == ()
    else:
        ring = find_ring(parents)
        assert ring
        assert len(set(ring)) == len(ring)
        assert is_ring(ring, parents)


@pytest.mark.parametrize("closed", [False, True])
def test_a_long_chain(closed):
    """Twenty thousand in a row are looked at without recursion."""
    many = 20_000
    parents = {f"t{n}": (f"t{n - 1}",) for n in range(many)}
    if closed:
        parents["t0"] = (f"t{many - 1}",)
    assert len(find_ring(parents)) == (many if closed else 0)
