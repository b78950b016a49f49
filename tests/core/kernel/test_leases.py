"""Workers that live elsewhere: signs of life, and what follows when there are none."""

import hypothesis.strategies as st
import pytest
from hypothesis import given
from tests.core.kernel.harness import SEC, Twin

from taskorch.core.kernel import check_invariants
from taskorch.events import (
    AgentJoined,
    AgentLost,
    AgentReturned,
    SlotRecovered,
    TaskRetrying,
)
from taskorch.model import Resources

LEASE = 5 * SEC


def machine(**config):
    """One worker elsewhere, which can do `x`."""
    made = Twin(pools=Resources(cpu=4), **config)
    made.worker("far", "x", lease=5.0)
    return made


def submit(m, *ids, **options):
    return m.submit_all(*ids, requires=("x",), **options)


def far(m):
    return m.kernel.workers["far"]


def live(m, ns, *attempts):
    """So long there is a sign of life every second, which names *attempts*."""
    for _ in range(ns // SEC):
        m.after(SEC)
        m.beat("far", *attempts)


# -- silence -----------------------------------------------------------------------


@given(st.lists(st.integers(1, 3 * LEASE), max_size=12))
def test_lost_if_and_only_if_silent(gaps):
    """A worker is lost when a lease has passed since the latest sign, and only then."""
    m = machine()
    lost = 0
    for gap in gaps:
        m.after(gap)
        lost += gap >= LEASE
        assert far(m).lost is (gap >= LEASE)
        m.beat("far")
        assert not far(m).lost
    assert len(m.told(AgentLost)) == len(m.told(AgentReturned)) == lost


# -- what would not stop -----------------------------------------------------------


def test_a_leak_that_another_worker_names():
    """Only the worker where it leaks can say that it still runs."""
    m = machine()
    m.worker("other", "y", lease=5.0)
    submit(m, "t")
    m.cancel("t")
    for second in range(30):
        m.after(SEC)
        m.beat("far", *([("t", 1)] if second < 10 else []))
        m.beat("other", ("t", 1))
    assert m.told(SlotRecovered) == [("t", 1, "far")]


# -- starting anew -----------------------------------------------------------------


def test_a_worker_that_starts_anew():
    """What it had is lost, and it is what it says now."""
    m = machine()
    submit(m, "t", "u", resources=Resources(cpu=1))
    m.now += SEC
    m.worker("far", "x", "y", lease=7.0, max_concurrency=1)
    assert m.told(AgentLost) == [("far", "it has started anew")]
    assert m.told(TaskRetrying)[0][4:6] == (
        "worker far is lost: it has started anew",
        "lost",
    )
    assert [event[0].max_concurrency for event in m.told(AgentJoined)][1:] == [None, 1]
    assert m.settle() == ["t"]
    assert m.kinds("u") == ["agent"]
    assert m.submit("v", requires=("y",)) == []
    m.after(7 * SEC - 1)
    assert not far(m).lost
    m.after(1)
    assert far(m).lost


# -- the law -----------------------------------------------------------------------

BENT = [
    (
        lambda m: far(m).seen.clear(),
        "far runs [<TaskRow t running attempt 1>], and is to",
    ),
    (lambda m: setattr(far(m), "lost", True), "far is lost, and runs 1"),
]


@pytest.mark.parametrize(("bend", "said"), BENT)
def test_what_is_bent_is_found(bend, said):
    """What a worker is to name, and that a lost one runs nothing, is counted again."""
    m = machine()
    submit(m, "t")
    bend(m)
    with pytest.raises(Exception, match="this is a bug") as caught:
        check_invariants(m.kernel)
    assert said in str(caught.value)
