"""Measured: what is granted is what earlier tasks of a type have used."""

from __future__ import annotations

import copy
import math

import pytest
from hypothesis import given, strategies as st
from tests.unit.policies.fakes import FakeAgent, FakeContext, FakePool, FakeView

from taskorch import TaskOrchestrator
from taskorch.adaptive import Learned
from taskorch.errors import InvalidTaskError
from taskorch.events import (
    TaskCancelled,
    TaskCompleted,
    TaskFailed,
    TaskRetrying,
    TaskSubmitted,
)
from taskorch.model import Program, Resources, Task
from taskorch.policies import Measured, PoolAllocator, ProportionalAllocator
from taskorch.protocols import Allocation, AllocationRequest
from taskorch.testing.laws import check_resource_allocator

MB = 1_000_000


def taught(*used: float, type: str = "t", **options):  # noqa: A002
    measured = Measured(**options)
    for memory_mb in used:
        measured.observe(type, memory_mb)
    return measured


def ask(measured, memory_mb=4000, *, free=8000, task=None, **options):
    """What is asked for by a task of *memory_mb*, and a cpu; with the reason."""
    wanted = Resources(cpu=1, memory_mb=memory_mb)
    request = AllocationRequest(task or Task("t"), FakeAgent(), wanted, **options)
    pools = {
        "cpu": FakePool("cpu", 8, 8),
        "memory_mb": FakePool("memory_mb", 8000, free),
    }
    answer = measured.allocate(request, pools, FakeContext(view=FakeView()))
    granted = None if answer.granted is None else answer.granted["memory_mb"]
    return granted, answer.reason


# -- what is granted ----------------------------------------------------------------


def test_a_task_gets_what_others_of_its_type_have_used():
    measured = taught(*[400] * 19, 500)
    # A fiftieth more, and 1 + 5/20 standard deviations of 22.4.
    assert measured.sizes == {"t": 538}
    assert ask(measured) == (
        538,
        "538 of 4,000 memory_mb, since 20 tasks of its type used 500 or less",
    )
    assert ask(measured, task=Task("other"))[0] == 4000


def test_a_quantile_leaves_out_the_largest():
    measured = taught(*[400] * 19, 3000, quantile=0.95)
    granted, reason = ask(measured)
    assert granted == 408
    assert "since 95 % of 20 tasks of its type used 400 or less" in reason
    assert ask(taught(*[400] * 19, 3000))[0] == 3787


def test_few_measurements_say_nothing():
    measured = taught(400, 400, 400, 400)
    assert measured.sizes == {}
    assert ask(measured) == (4000, "all of it was free")
    measured.observe("t", 400)
    assert ask(measured)[0] == 408


def test_the_margin_is_that_of_the_type():
    """The same each time needs little; what scatters, more; the less is known, too."""
    few, many = [390, 410] * 3, [390, 410] * 30
    assert ask(taught(*[410] * 60))[0] == 419
    assert ask(taught(*[100, 410] * 30))[0] == 588
    assert ask(taught(*few))[0] == 439
    assert ask(taught(*many))[0] == 430


def test_the_latest_hundred_count():
    measured = taught(3000, *[400] * 100)
    assert ask(measured)[0] == 408


@pytest.mark.parametrize(
    "options",
    [
        {"attempt": 2},
        {"least": Resources(cpu=1, memory_mb=256)},
        {"task": Task("t", idempotent=False)},
    ],
)
def test_what_is_not_sized_gets_all_that_it_asks_for(options):
    assert ask(taught(*[400] * 9), **options) == (4000, "all of it was free")


def test_what_is_tiny_gets_what_a_process_needs():
    assert ask(taught(*[0.5] * 9))[0] == 64
    assert ask(taught(*[0.5] * 9), 32)[0] == 32


def test_the_base_says_whether_it_is_there():
    measured = taught(*[400] * 20, base=PoolAllocator())
    assert ask(measured, free=408)[0] == 408
    assert ask(measured, free=407) == (
        None,
        "memory_mb: needs 408, has 407 free of 8,000",
    )


def test_what_asks_for_nothing_costs_nothing():
    """The answer of the base holds on, as if that were asked itself."""
    request = AllocationRequest(Task("t"), FakeAgent(), Resources())
    context = FakeContext(view=FakeView())
    assert Measured().allocate(request, {}, context).reusable is Measured

    class Own(PoolAllocator):
        def allocate(self, request, pools, context):
            return Allocation(request.resources, "own")

    answer = Measured(Own()).allocate(request, {}, context)
    assert (answer.reason, answer.reusable) == ("own", False)


amounts = st.floats(0.001, 1e6)


@given(
    st.lists(amounts, max_size=120),
    amounts,
    st.floats(0.01, 1),
    st.floats(1, 5),
    st.integers(1, 3),
)
def test_never_above_the_request_and_never_below_the_quantile(
    used, asked, quantile, safety, attempt
):
    measured = taught(*used, quantile=quantile, safety=safety)
    request = AllocationRequest(
        Task("t"), FakeAgent(), Resources(memory_mb=asked), attempt=attempt
    )
    pools = {"memory_mb": FakePool("memory_mb", 1e7, 1e7)}
    answer = measured.allocate(request, pools, FakeContext(view=FakeView()))
    assert answer.granted is not None
    granted, asked = answer.granted["memory_mb"], request.resources["memory_mb"]
    assert granted <= asked
    latest = sorted(used[-100:])
    if attempt > 1 or len(latest) < 5:
        assert granted == asked
    else:
        had_enough = sum(each <= granted * 1.000_001 for each in latest)
        assert granted == asked or had_enough >= quantile * len(latest) - 1e-6
        if granted < asked:
            assert f"{len(latest)} tasks of its type" in answer.reason


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


@pytest.mark.parametrize(
    "event",
    [
        failed(2, "a", 300, "assertion_error"),
        retrying(2, "a", 300, "error"),
        retrying(2, "a", 300, "lost"),
        TaskCompleted(2, 0, "a", 1, "a", MB),
        completed(2, "b", 300),
        completed(2, "other", 300),
    ],
)
def test_what_says_nothing_of_it_is_left_out(event):
    assert heard(submitted(1, "a"), submitted(1, "other", "u"), event) is None


def test_a_task_that_has_ended_is_forgotten():
    over = TaskCancelled(2, 0, "a", "no")
    assert heard(submitted(1, "a"), over, completed(3, "a", 300)) is None
    over = failed(2, "a", 300, "")
    assert heard(submitted(1, "a"), over, completed(3, "a", 300)) is None
    over = completed(2, "a", 50)
    assert heard(submitted(1, "a"), over, completed(3, "a", 300)) == 147


def test_of_a_long_past_the_end_is_read():
    assert Measured.past == 200_000
    assert heard(submitted(1, "a"), completed(2, "b", 300)) is None


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


def test_it_says_what_it_is():
    assert repr(Measured()) == (
        "Measured(ProportionalAllocator(), quantile=1, safety=1.02)"
    )
    assert Measured().chunks is ProportionalAllocator().chunks
    assert Measured(PoolAllocator()).chunks is None
    base = PoolAllocator()
    assert Measured(base).asks == (base,)


def test_an_arm_that_measures_would_hear_nothing():
    with pytest.raises(InvalidTaskError, match="learns by itself"):
        Learned([Measured(), PoolAllocator()])


def test_elastic_requests_are_divided_as_the_base_divides_them():
    pool = FakePool("cpu", 8, 4)
    request = AllocationRequest(
        Task("t"), FakeAgent(), Resources(cpu=8), Resources(cpu=1)
    )
    context = FakeContext(view=FakeView())
    answers = [
        one.allocate(request, {"cpu": pool}, context)
        for one in (Measured(), ProportionalAllocator())
    ]
    assert answers[0] == answers[1]


def test_a_program_is_a_task_like_others():
    task = Task("t", Program(["true"]))
    assert ask(taught(*[400] * 20), task=task)[0] == 408
