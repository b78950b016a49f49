"""Measured: what is granted is what earlier tasks of a type have used."""

from __future__ import annotations

import copy
import math

import pytest
from hypothesis import strategies as st
from tests.core.policies.fakes import FakeContext, FakeView, FakeWorker

from taskorch import TaskOrchestrator
from taskorch.errors import InvalidTaskError
from taskorch.events import (
    TaskCancelled,
    TaskCompleted,
    TaskFailed,
    TaskRetrying,
    TaskSubmitted,
)
from taskorch.ext.learning import Learned
from taskorch.model import Resources, Task
from taskorch.policies import Measured, PoolAllocator, ProportionalAllocator
from taskorch.protocols import Allocation, AllocationRequest
from taskorch.testing.laws import check_resource_allocator

MB = 1_000_000


def taught(*used: float, type: str = "t", **options):  # noqa: A002
    measured = Measured(**options)
    for memory_mb in used:
        measured.observe(type, memory_mb)
    return measured


# -- what is granted ----------------------------------------------------------------


def test_what_asks_for_nothing_costs_nothing():
    """The answer of the base holds on, as if that were asked itself."""
    request = AllocationRequest(Task("t"), FakeWorker(), Resources())
    context = FakeContext(view=FakeView())
    assert Measured().allocate(request, {}, context).reusable is Measured

    class Own(PoolAllocator):
        def allocate(self, request, pools, context):
            return Allocation(request.resources, "own")

    answer = Measured(Own()).allocate(request, {}, context)
    assert (answer.reason, answer.reusable) == ("own", False)


amounts = st.floats(0.001, 1e6)


def test_its_answers_keep_the_laws():
    check_resource_allocator(lambda: taught(*[100] * 20), examples=300)
    check_resource_allocator(
        lambda: Measured(ProportionalAllocator({"cpu": 0.5, "gpu": 2})), examples=300
    )


# -- what is measured ---------------------------------------------------------------


def submitted(seq, task_id, type="t"):  # noqa: A002
    return TaskSubmitted(seq, 0, task_id, type, 0, (), None)


def completed(seq, task_id, memory_mb):
    usage = (("cpu_seconds", MB), ("memory_mb", int(memory_mb * MB)))
    return TaskCompleted(seq, 0, task_id, 1, "a", MB, usage=usage)


def failed(seq, task_id, memory_mb, kind):
    usage = (("memory_mb", int(memory_mb * MB)),)
    error = ("E", "no", "error")
    return TaskFailed(seq, 0, task_id, 1, "a", *error, usage=usage, failure_class=kind)


def retrying(seq, task_id, memory_mb, cause):
    usage = (("memory_mb", int(memory_mb * MB)),)
    error = ("MemoryLimitError", "no", cause)
    return TaskRetrying(seq, 0, task_id, 1, "a", *error, 0, False, usage=usage)


def heard(*events):
    measured = taught(100, 100, 100, 100)
    for event in events:
        measured.hear(event)
    return measured.sizes.get("t")


def test_events_say_what_was_used():
    assert heard(submitted(1, "a"), completed(2, "a", 300)) == 485
    # What needed more than it had needs that at least.
    assert heard(submitted(1, "a"), retrying(2, "a", 300, "undersized")) == 485
    assert heard(submitted(1, "a"), failed(2, "a", 300, "memory_error")) == 485
    both = retrying(2, "a", 200, "undersized"), completed(3, "a", 600)
    assert heard(submitted(1, "a"), *both) == 979


def test_a_task_that_has_ended_is_forgotten():
    over = TaskCancelled(2, 0, "a", "no")
    assert heard(submitted(1, "a"), over, completed(3, "a", 300)) is None
    over = failed(2, "a", 300, "")
    assert heard(submitted(1, "a"), over, completed(3, "a", 300)) is None
    over = completed(2, "a", 50)
    assert heard(submitted(1, "a"), over, completed(3, "a", 300)) == 147


# -- what it is ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"quantile": 0}, "quantile is a number from 0.01 to 1, not 0"),
        ({"quantile": 1.01}, "quantile"),
        ({"quantile": math.nan}, "not nan"),
        ({"quantile": "0.9"}, "quantile"),
        ({"quantile": True}, "quantile"),
        ({"safety": 0.99}, "safety is a number from 1 to 100, not 0.99"),
        ({"safety": math.inf}, "safety"),
        ({"safety": math.nan}, "safety"),
        ({"base": 5}, "has no method allocate"),
        ({"base": PoolAllocator}, "call it"),
        ({"base": Measured()}, "learns"),
        ({"base": Learned([PoolAllocator(), PoolAllocator()])}, "learns"),
    ],
)
def test_what_it_is_made_of_is_checked(options, words):
    with pytest.raises(InvalidTaskError, match=words):
        Measured(**options)


@pytest.mark.parametrize("memory_mb", [0, -1, math.nan, math.inf, "5", None, 1e-9])
def test_what_is_no_measurement_is_refused(memory_mb):
    with pytest.raises(InvalidTaskError):
        Measured().observe("t", memory_mb)


def test_it_is_part_of_one_orchestrator():
    measured = taught(*[100] * 9)
    TaskOrchestrator(allocator=measured)
    with pytest.raises(InvalidTaskError, match="another orchestrator already"):
        TaskOrchestrator(allocator=measured)
    again = copy.deepcopy(measured)
    TaskOrchestrator(allocator=again)
    again.observe("t", 900)
    assert again.sizes != measured.sizes
    assert again.choice_of("a", 1) is None


def test_an_arm_that_measures_would_hear_nothing():
    with pytest.raises(InvalidTaskError, match="learns by itself"):
        Learned([Measured(), PoolAllocator()])
