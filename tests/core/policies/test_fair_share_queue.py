"""FairShareQueue."""

from __future__ import annotations

import pytest
from hypothesis import strategies as st

from taskorch import Task, TaskOrchestrator
from taskorch.errors import InvalidTaskError
from taskorch.model import Resources
from taskorch.policies import FairShareQueue
from taskorch.protocols import TaskQueue

MANY = 10_000


def shared(tenants, pools, weights=None, *, by_demand=False, slots=MANY):
    """How many tasks each owner has at once: `{name: (how many, what one needs)}`."""
    tasks = [
        Task.call(print, id=f"{name}/{number}", owner=name, resources=need)
        for name, (count, need) in tenants.items()
        for number in range(count)
    ]
    queue = FairShareQueue(weights, by_demand=by_demand)
    orch = TaskOrchestrator(queue=queue, resources=pools, concurrency=slots)
    first = [one for one in orch.simulate(tasks, 1).schedule if one.start == 0]
    found = dict.fromkeys(tenants, 0)
    for one in first:
        found[one.task_id.partition("/")[0]] += 1
    return found


# -- what others say -------------------------------------------------------------------


def test_the_example_of_the_drf_paper():
    """9 CPU and 18 GB: A's tasks take ⟨1 CPU, 4 GB⟩, and B's ⟨3 CPU, 1 GB⟩."""
    a, b = {"cpu": 1, "memory_gb": 4}, {"cpu": 3, "memory_gb": 1}
    found = shared({"a": (9, a), "b": (9, b)}, {"cpu": 9, "memory_gb": 18})
    assert found == {"a": 3, "b": 2}


# -- what it promises ------------------------------------------------------------------

TOTAL = 60
LARGEST = 5
needs = st.tuples(st.integers(1, LARGEST), st.integers(1, LARGEST))


def of(needs, names="abcd"):
    vectors = [{"cpu": cpu, "gpu": gpu} for cpu, gpu in needs]
    pairs = zip(names[: len(vectors)], vectors, strict=True)
    return {name: (TOTAL, vector) for name, vector in pairs}


def test_what_a_policy_sees_of_a_tenant():
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
