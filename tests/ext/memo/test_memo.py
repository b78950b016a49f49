"""Results that like tasks have."""

from __future__ import annotations

import asyncio
import math
import threading
from dataclasses import dataclass
from datetime import timedelta

import pytest

from taskorch import Task, TaskOrchestrator, TaskState
from taskorch.errors import InvalidTaskError, UsageError
from taskorch.events import ResultRemembered, ResultReused
from taskorch.model import Cache
from taskorch.testing import Simulation

CALLS: list = []
ONE = Cache(version="1")


def noted(value, verbose=False):
    CALLS.append(value)
    return [value]


def failing(value):
    CALLS.append(value)
    raise ValueError(value)


@pytest.fixture(autouse=True)
def _calls():
    CALLS.clear()


def cached(fn, *args, id=None, cache=True, kwargs=None, **options):  # noqa: A002
    return Task.call(fn, *args, id=id, cache=cache, kwargs=kwargs, **options)


def test_a_hundred_like_tasks_at_once_run_it_once():
    entered, go = threading.Event(), threading.Event()

    def slow(value):
        CALLS.append(value)
        entered.set()
        assert go.wait(60)
        return value

    with TaskOrchestrator(concurrency=4) as orch:
        handles = [orch.submit_task(cached(slow, 1, cache=ONE)) for _ in range(100)]
        assert entered.wait(60)
        go.set()
        assert {handle.result() for handle in handles} == {1}
        assert CALLS == [1]


def test_coroutines_join_as_well():
    async def slow(value):
        CALLS.append(value)
        await asyncio.sleep(0)
        return value

    async def main():
        async with TaskOrchestrator() as orch:
            tasks = [orch.submit_task(cached(slow, 1)) for _ in range(20)]
            assert [await each for each in tasks] == [1] * 20

    asyncio.run(main())
    assert CALLS == [1]


def test_with_one_slot_and_a_source_that_is_tried_again_nobody_waits_for_ever():
    def flaky(value):
        CALLS.append(value)
        if len(CALLS) == 1:
            raise ValueError
        return value

    with TaskOrchestrator(concurrency=1) as orch:
        options = {"cache": True, "retry": 2}
        handles = [orch.submit_task(Task.call(flaky, 1, **options)) for _ in range(5)]
        assert [handle.result() for handle in handles] == [1] * 5


def test_what_fails_is_not_remembered():
    with TaskOrchestrator() as orch:
        for _ in range(3):
            assert orch.submit_task(cached(failing, 1)).exception() is not None
        assert CALLS == [1, 1, 1]


def test_it_expires_and_can_be_cleared():
    sim = Simulation()
    hour = Cache(expires=timedelta(hours=1))
    for number, seconds in enumerate((0, 3_599, 3_600, 3_700)):
        again = cached(noted, 1, id=f"t{number}", cache=hour)
        sim.at(seconds, lambda again=again: sim.submit_task(again))
    sim.run(until=4_000)
    assert CALLS == [1, 1]

    with TaskOrchestrator() as orch:
        orch.submit_task(cached(noted, 7, id="a")).result()
        orch.submit_task(cached(abs, -7, id="x")).result()
        assert len(orch.memo) == 2
        assert orch.memo.clear(type="noted") == 1
        assert orch.memo.clear(task="a") == 0
        orch.submit_task(cached(noted, 7, id="b")).result()
        assert CALLS == [1, 1, 7, 7]
        assert orch.memo.clear() == 2
        with pytest.raises(InvalidTaskError):
            orch.memo.clear(type=5)


@dataclass
class Place:
    name: str
    size: float = 1.0


@pytest.mark.parametrize(
    ("one", "other", "alike"),
    [
        (1, True, False),
        (1, 1.0, False),
        (0.0, -0.0, False),
        (math.nan, float("nan"), True),
        ("a", b"a", False),
        ([1], (1,), False),
        ({1, 2, 3}, {3, 2, 1}, True),
        ({1}, frozenset({1}), False),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}, True),
        (["ab", "c"], ["a", "bc"], False),
        ([[1], 2], [1, [2]], False),
        (Place("x"), Place("x", 1.0), True),
        (Place("x"), Place("x", 2.0), False),
        (timedelta(1), timedelta(hours=24), True),
        (TaskState.FAILED, TaskState.QUEUED, False),
        (int, float, False),
        (None, 0, False),
        (1 + 2j, 1 - 2j, False),
        ("x" * 10_000_000, "x" * 9_999_999 + "y", False),
    ],
)
def test_arguments_are_alike_if_they_have_the_same_document(one, other, alike):
    with TaskOrchestrator() as orch:
        for value in (one, other):
            orch.submit_task(cached(noted, value)).result()
        assert len(CALLS) == 2 - alike


def test_defaults_names_and_ignored_arguments_make_no_difference():
    cache = Cache(ignore={"verbose"})
    with TaskOrchestrator() as orch:
        for kwargs in ({}, {"verbose": True}, {"verbose": False}):
            orch.submit_task(cached(noted, 1, kwargs=kwargs, cache=cache)).result()
        orch.submit_task(cached(noted, kwargs={"value": 1}, cache=cache)).result()
        assert CALLS == [1]


def test_what_has_no_document_is_refused_by_its_name():
    lock = threading.Lock()

    def closing(x):
        with lock:
            return x

    with TaskOrchestrator() as orch:
        error = orch.submit_task(cached(closing, 1)).exception()
        assert isinstance(error, InvalidTaskError)
        assert "'lock'" in str(error)
        error = orch.submit_task(cached(noted, object())).exception()
        assert "argument 'value'" in str(error)
        assert "ignore={'value'}" in str(error)
        good = cached(closing, 1, cache=Cache(version="1"))
        assert orch.submit_task(good).result() == 1


def test_programs_and_bad_caches_are_refused():
    with TaskOrchestrator() as orch:
        with pytest.raises(UsageError, match="cache: it is for calls"):
            orch.submit_task(Task.program(["true"], cache=True))
        with pytest.raises(UsageError, match="cache: a Cache is needed"):
            orch.submit_task(Task.call(abs, 1, cache="yes"))
    for wrong in ({"expires": -1}, {"version": 2}, {"ignore": "x"}, {"ignore": [1]}):
        with pytest.raises(InvalidTaskError):
            Cache(**wrong)


def test_a_result_that_has_left_memory_is_made_again():
    with TaskOrchestrator(keep_finished=1) as orch:
        orch.submit_task(cached(noted, 1)).result()
        for number in range(10):
            orch.submit(abs, number).result()
        orch.submit_task(cached(noted, 1, id="again")).result()
        assert CALLS == [1, 1]
        assert "not there any more" in orch.explain("again").cache


def test_a_worker_has_the_results_of_like_tasks_and_a_worker_process_too():
    with TaskOrchestrator() as orch:

        @orch.agent("painter", capabilities=["paint"])
        def paint(task, context):
            CALLS.append(task.payload)
            return task.payload["colour"]

        for colour in ("red", "red", "blue"):
            done = orch.submit_task(Task("paint", {"colour": colour}, cache=True))
            assert done.result() == colour
        assert len(CALLS) == 2
        for number in range(2):
            task = cached(math.factorial, 5, id=f"p{number}", executor="process")
            assert orch.submit_task(task).result() == 120
        assert orch.explain("p1").cache.startswith("hit")


def test_a_run_that_was_asked_for_is_made():
    with TaskOrchestrator() as orch:
        orch.submit_task(cached(noted, 1, id="a")).result()
        orch.rerun_task("a").result()
    assert CALLS == [1, 1]


def test_hits_and_misses_are_events():
    sim = Simulation()
    for name in ("a", "b"):
        sim.submit_task(cached(noted, 1, id=name))
        sim.run()
    events = [
        event
        for event in sim.events
        if isinstance(event, ResultRemembered | ResultReused)
    ]
    assert [type(event) for event in events] == [ResultRemembered, ResultReused]
    assert events[1].source_id == "a"


@pytest.mark.slow("a hundred thousand results")
def test_of_many_results_the_latest_are_remembered():
    """Of more than a hundred thousand, the oldest go."""
    with TaskOrchestrator() as orch:
        kept = orch.kept("memo")
        kept.update({f"k{n}": ["call", "t", 1, {}] for n in range(100_000)})
        task = Task.call(len, "abc", cache=Cache())
        assert orch.submit_task(task).result(timeout=30) == 3
        assert len(orch.memo) == 100_000
        assert ("k0" in kept, "k1" in kept) == (False, True)
