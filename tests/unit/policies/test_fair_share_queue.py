"""FairShareQueue."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from hypothesis import given, settings, strategies as st
from tests.tools.examples import examples
from tests.unit.policies.fakes import FakeContext

from taskorch import Task, TaskOrchestrator
from taskorch.errors import InvalidTaskError
from taskorch.kernel import Share, ShareView
from taskorch.model import Resources
from taskorch.policies import FairShareQueue
from taskorch.protocols import TaskQueue

MANY = 10_000


def shared(owners, pools, weights=None, *, by_demand=False, slots=MANY):
    """How many tasks each owner has at once: `{name: (how many, what one needs)}`."""
    tasks = [
        Task.call(print, id=f"{name}/{number}", owner=name, resources=need)
        for name, (count, need) in owners.items()
        for number in range(count)
    ]
    queue = FairShareQueue(weights, by_demand=by_demand)
    orch = TaskOrchestrator(queue=queue, resources=pools, concurrency=slots)
    first = [one for one in orch.simulate(tasks, 1).schedule if one.start == 0]
    found = dict.fromkeys(owners, 0)
    for one in first:
        found[one.task_id.partition("/")[0]] += 1
    return found


# -- what others say -------------------------------------------------------------------


def test_the_example_of_the_drf_paper():
    """9 CPU and 18 GB: A's tasks take ⟨1 CPU, 4 GB⟩, and B's ⟨3 CPU, 1 GB⟩."""
    a, b = {"cpu": 1, "memory_gb": 4}, {"cpu": 3, "memory_gb": 1}
    found = shared({"a": (9, a), "b": (9, b)}, {"cpu": 9, "memory_gb": 18})
    assert found == {"a": 3, "b": 2}


@pytest.mark.parametrize(
    ("demands", "weights", "total", "shares"),
    [
        ([MANY] * 4, [1, 1, 1, 1], 40, [10, 10, 10, 10]),
        ([100, 50, 11, 3], [1, 1, 1, 1], 40, [13, 13, 11, 3]),
        ([60, 60, 60, 60], [2, 1, 1, 0.5], 45, [20, 10, 10, 5]),
        ([10, 11, 30, 20], [2, 1, 1, 0.5], 45, [10, 11, 16, 8]),
    ],
    ids=["equal", "small demands", "weights", "weights and small demands"],
)
def test_the_fair_shares_of_hadoop(demands, weights, total, shares):
    """One resource: who wants little has it, and the rest is shared by weight."""
    names = "abcd"
    owners = {
        name: (min(demand, 60), {"memory": 1})
        for name, demand in zip(names, demands, strict=True)
    }
    found = shared(owners, {"memory": total}, dict(zip(names, weights, strict=True)))
    assert list(found.values()) == shares


def in_order(held, weights=None):
    """Owners, the first to be served first; each holds `(cpus, mem)` of 100."""
    pools = {name: SimpleNamespace(total=100) for name in ("cpus", "mem")}
    kernel = SimpleNamespace(concurrency=MANY, pools=pools)
    queue = FairShareQueue(weights)

    def standing(name):
        share = Share(name, 1)
        share.held = dict(zip(("cpus", "mem"), held[name], strict=True))
        return queue.standing(ShareView(kernel, share), FakeContext())

    return "".join(sorted(held, key=standing))


def test_the_orders_of_the_sorters_of_mesos():
    """DRF, and weighted DRF: the steps of its own tests."""
    held = {"a": (5, 5), "b": (6, 6)}
    assert in_order(held) == "ab"
    held |= {"c": (1, 1), "d": (3, 1)}
    assert in_order(held) == "cdab"
    del held["a"]
    held["b"] = (2, 2)
    assert in_order(held) == "cbd"
    assert in_order(held | {"e": (1, 5)}) == "cbde"

    weights = {"b": 2}
    held = {"a": (5, 5), "b": (6, 6)}
    assert in_order(held, weights) == "ba"
    held["c"] = (4, 4)
    assert in_order(held, weights) == "bca"
    held["d"], weights["d"] = (10, 20), 10
    assert in_order(held, weights) == "dbca"


# -- what it promises ------------------------------------------------------------------

TOTAL = 60
LARGEST = 5
needs = st.tuples(st.integers(1, LARGEST), st.integers(1, LARGEST))
crowds = st.lists(needs, min_size=2, max_size=4)


def of(needs, names="abcd"):
    vectors = [{"cpu": cpu, "gpu": gpu} for cpu, gpu in needs]
    pairs = zip(names[: len(vectors)], vectors, strict=True)
    return {name: (TOTAL, vector) for name, vector in pairs}


def dominant(count, need):
    return count * max(need.values()) / TOTAL


@settings(max_examples=examples(25))
@given(crowds)
def test_its_laws(needs):
    """On tasks that are small beside what there is, up to one task."""
    owners = of(needs)
    pools = {"cpu": TOTAL, "gpu": TOTAL}
    found = shared(owners, pools)
    left = {
        name: TOTAL - sum(found[o] * owners[o][1][name] for o in owners)
        for name in pools
    }
    assert min(left.values()) >= 0
    for name, (_, need) in owners.items():
        # Pareto efficiency, which is work conservation: nobody could have more.
        assert any(left[what] < units for what, units in need.items())
        # Sharing incentive: no less than of a part of one's own.
        assert dominant(found[name], need) + LARGEST / TOTAL >= 1 / len(owners)
        for other, (_, theirs) in owners.items():
            # No envy: what the other has would do for no more tasks.
            has = {what: (found[other] - 1) * units for what, units in theirs.items()}
            assert min(has[what] // need[what] for what in need) <= found[name]


@settings(max_examples=examples(25))
@given(crowds, needs)
def test_it_does_not_pay_to_ask_for_more_than_one_needs(needs, lie):
    """Strategy-proofness: who asks for more has no more tasks for it, up to one."""
    said = (max(needs[0][0], lie[0]), max(needs[0][1], lie[1]))
    pools = {"cpu": TOTAL, "gpu": TOTAL}
    honest = shared(of(needs), pools)["a"]
    assert shared(of([said, *needs[1:]]), pools)["a"] <= honest + 1


def test_by_demand_who_wants_more_has_more():
    """In proportion to all that they hold and ask for."""
    owners = {"a": (10, {"cpu": 1}), "b": (30, {"cpu": 1})}
    assert shared(owners, {"cpu": 20}) == {"a": 10, "b": 10}
    assert shared(owners, {"cpu": 20}, by_demand=True) == {"a": 5, "b": 15}
    twice = shared(owners, {"cpu": 20}, {"a": 3}, by_demand=True)
    assert twice == {"a": 10, "b": 10}


def test_slots_are_shared_like_any_resource():
    owners = {"a": (30, None), "b": (30, None)}
    owners = {name: (count, {}) for name, (count, _) in owners.items()}
    assert shared(owners, {"cpu": 1}, {"b": 3}, slots=8) == {"a": 2, "b": 6}


def test_what_a_policy_sees_of_an_owner():
    seen = []

    class Noting(FairShareQueue):
        def standing(self, owner, context):
            fields = (owner.name, owner.running, owner.queued, owner.held, owner.wanted)
            seen.append((*fields, owner.share, owner.demand))
            return super().standing(owner, context)

    tasks = [Task.call(print, owner="ann", resources={"cpu": 1}) for _ in range(3)]
    queue = Noting()
    orch = TaskOrchestrator(queue=queue, resources={"cpu": 2}, concurrency=8)
    orch.simulate(tasks, 1)
    assert seen[0] == ("ann", 0, 3, Resources(), Resources(cpu=3), 0.0, 1.5)
    assert ("ann", 2, 1, Resources(cpu=2), Resources(cpu=3), 1.0, 1.5) in seen


# -- the rest --------------------------------------------------------------------------


@pytest.mark.parametrize("answer", [None, "1", True, float("nan")])
def test_a_standing_is_a_number(answer):
    class Silent(FairShareQueue):
        def standing(self, owner, context):
            return answer

    with TaskOrchestrator(queue=Silent()) as orch:
        handle = orch.submit_task(Task.call(print, owner="ann"))
        assert "a standing is a number, not " in str(handle.exception())


def test_it_is_a_task_queue():
    assert isinstance(FairShareQueue(), TaskQueue)
    assert repr(FairShareQueue({"a": 2}, aging=1, max_queued=3)) == (
        "FairShareQueue({'a': 2}, by_demand=False, aging=1, max_queued=3, max_age=None)"
    )


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"weights": ["a"]}, "weights is a mapping of owners to numbers"),
        ({"weights": {1: 1}}, "weights: an owner is a text, or None, not 1"),
        ({"weights": {"a": 0}}, r"weights\['a'\] is a number above 0, not 0"),
        ({"weights": {"a": -1}}, "not -1"),
        ({"weights": {None: True}}, "not True"),
        ({"weights": {"a": float("nan")}}, "not nan"),
        ({"weights": {"a": float("inf")}}, "not inf"),
        ({"weights": {"a": "1"}}, "not '1'"),
        ({"aging": -1}, "aging"),
    ],
)
def test_options_out_of_range_are_refused(options, why):
    with pytest.raises(InvalidTaskError, match=why):
        FairShareQueue(**options)
