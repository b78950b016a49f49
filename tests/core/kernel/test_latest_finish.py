"""In which order the tasks of one batch are taken in."""

from itertools import pairwise
from types import SimpleNamespace

import pytest
from hypothesis import given, strategies as st

from taskorch.core.kernel import TypeRow, assumed, latest_finish_first, typical_ns
from taskorch.core.kernel._admission import in_order

SEC = 1_000_000_000


def row_of(*lengths):
    row = TypeRow()
    row.samples += [(0, 0, 5, 5 + length) for length in lengths]
    return row


# -- what is known -----------------------------------------------------------------


def test_a_type_takes_the_median_of_its_latest():
    assert typical_ns(row_of()) is None
    assert typical_ns(row_of(2 * SEC)) == 2 * SEC
    assert typical_ns(row_of(9 * SEC, *[SEC] * 7, 9 * SEC)) == SEC
    # A hundred old ones do not count against fifteen new ones.
    assert typical_ns(row_of(*[9 * SEC] * 100, *[SEC] * 15)) == SEC
    assert typical_ns(row_of(*[9 * SEC] * 100, *[SEC] * 7)) == 9 * SEC


def test_lengths_that_are_about_the_same_are_the_same():
    assert typical_ns(row_of(51 * SEC)) == typical_ns(row_of(54 * SEC)) == 50 * SEC
    assert typical_ns(row_of(10_000_000)) == 10_000_000
    assert typical_ns(row_of(9_999_999)) == 0


def test_what_is_not_known_is_taken_to_be_the_mean():
    assert assumed([]) is None
    assert assumed([None, None]) is None
    assert assumed([None, 0]) is None
    assert assumed([4, None, 0]) == [4, 2, 0]


# -- the order ---------------------------------------------------------------------


def test_tasks_that_wait_for_none_go_the_longest_first():
    assert latest_finish_first("abcd", [()] * 4, [1, 3, 2, 3]) == [1, 3, 2, 0]


def test_the_critical_path_comes_first():
    # a (1) → d (9); b (5) alone; c (1) → e (1); what stands outside is no matter.
    parents = [(), (), ("outside",), ("a",), ("c",)]
    order = latest_finish_first("abcde", parents, [1, 5, 1, 9, 1])
    assert order == [0, 2, 3, 1, 4]


@st.composite
def batches(draw):
    lengths = draw(st.lists(st.sampled_from([0, 0, 1, 2, 3]), max_size=9))
    parents = [
        draw(st.lists(st.sampled_from(range(place)), unique=True)) if place else []
        for place in range(len(lengths))
    ]
    return lengths, parents


@given(batches())
def test_the_order_is_that_of_latest_finish_times(batch):
    lengths, parents = batch
    nodes = range(len(lengths))

    order = latest_finish_first(nodes, parents, lengths)

    def way(node):
        """By definition: the longest way from its end to the end of the batch."""
        below = [child for child in nodes if node in parents[child]]
        return max((lengths[child] + way(child) for child in below), default=0)

    assert sorted(order) == list(nodes)
    place = {node: number for number, node in enumerate(order)}
    assert all(place[p] < place[node] for node in nodes for p in parents[node])
    ranks = [(-way(node), -lengths[node], node) for node in order]
    assert all(one < other for one, other in pairwise(ranks))


# -- what was considered -----------------------------------------------------------


class Row(SimpleNamespace):
    __hash__ = object.__hash__
    __eq__ = object.__eq__


def consents(*pairs):
    rows = {name: Row(id=name) for name, _ in pairs}
    return [
        SimpleNamespace(row=rows[name], parents=[rows[p] for p in above if p in rows])
        for name, above in pairs
    ]


def kernel(aging=60 * SEC):
    return SimpleNamespace(deciders=SimpleNamespace(aging_ns=aging))


def names(batch):
    return "".join(consent.row.id for consent in batch)


def test_a_task_may_come_before_what_it_waits_for():
    batch = consents(("d", "a"), ("b", ""), ("a", "c"), ("c", ""))
    assert names(in_order(kernel(), batch, [9, 5, 1, 1])) == "cadb"
    assert names(in_order(kernel(), batch, [None, 5, 1, 1])) == "cabd"


def test_two_tasks_are_a_batch():
    batch = consents(("a", ""), ("b", ""))
    assert names(in_order(kernel(), batch, [1, 2])) == "ba"


@pytest.mark.parametrize("above", ["ac", "ca"])
def test_a_task_may_come_between_those_that_it_waits_for(above):
    batch = consents(("a", ""), ("b", above), ("c", ""), ("d", ""))
    assert names(in_order(kernel(), batch, [1, 1, 2, 1])) == "cabd"
