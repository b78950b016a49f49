"""Submitting: one, many, functions, batches, maps."""

import asyncio
import functools
import itertools
import operator
from collections.abc import Iterator
from contextlib import aclosing
from pathlib import Path

import pytest
from tests.api.tools import PATIENCE, Hold

from taskorch import (
    Task,
    TaskOrchestrator,
    as_completed,
    current_context,
    task,
)


@pytest.fixture
def orch() -> Iterator[TaskOrchestrator]:
    with TaskOrchestrator() as orch:
        yield orch


class Counter:
    """Things that can be called."""

    def __init__(self, start: int) -> None:
        self.value = start

    def add(self, n: int) -> int:
        return self.value + n

    @classmethod
    def make(cls, n: int) -> int:
        return n * 10

    @staticmethod
    def double(n: int) -> int:
        return 2 * n

    def __call__(self, n: int) -> int:
        return self.value * n


class AsyncCallable:
    async def __call__(self, n: int) -> int:
        return n + 1


async def async_add(a: int, b: int) -> int:
    return a + b


@pytest.mark.parametrize(
    ("fn", "args", "result"),
    [
        (pow, (2, 10), 1024),
        (lambda: 7, (), 7),
        (functools.partial(pow, 2), (3,), 8),
        (Counter(1).add, (2,), 3),
        (Counter.make, (4,), 40),
        (Counter.double, (4,), 8),
        (Counter(3), (5,), 15),
        (operator.itemgetter(1), (["a", "b"],), "b"),
        (str, (12,), "12"),
        (async_add, (1, 2), 3),
        (functools.partial(async_add, 1), (5,), 6),
        (AsyncCallable(), (1,), 2),
    ],
)
def test_anything_that_can_be_called_can_be_submitted(orch, fn, args, result) -> None:
    """Functions, partials, methods, objects, classes and coroutine functions run."""
    assert orch.submit(fn, *args).result(PATIENCE) == result
    assert orch.submit_task(Task.call(fn, *args)).result(PATIENCE) == result


def test_handles_and_tasks_among_the_arguments_become_results(orch) -> None:
    """A handle or a task, direct, in a container or as a keyword, is a dependency."""
    two, three = orch.submit(int, "2"), Task.call(int, "3")
    orch.submit_task(three)

    def collect(*args, **kwargs):
        return args, kwargs

    handle = orch.submit(collect, two, [two, 5, three], three, (two,), key=two)
    assert handle.result(PATIENCE) == ((2, [2, 5, 3], 3, (2,)), {"key": 2})
    keyed = Task.call(collect, kwargs={"a": [two, three]})
    assert orch.submit_task(keyed).result(PATIENCE) == ((), {"a": [2, 3]})
    # The list in which results are put is a copy, and plain lists pass as they are.
    plain, mixed = [1, 2], [two, 1]
    assert orch.submit(lambda x: x, plain).result(PATIENCE) is plain
    assert orch.submit(lambda x: x, mixed).result(PATIENCE) == [2, 1]
    assert mixed == [two, 1]


def test_context_has_all_results_by_id(orch) -> None:
    """`context.results` names every dependency, `after` and arguments alike."""
    a = orch.submit_task(Task.call(int, "1", id="a"))
    orch.submit_task(Task.call(int, "2", id="b"))
    c = orch.submit(int, "3")

    def look(_):
        return dict(current_context().results)

    task = Task.call(look, c, after=["a", "b", a, "a"])
    assert orch.submit_task(task).result(PATIENCE) == {"a": 1, "b": 2, c.task_id: 3}


def test_submission_waits_for_the_start() -> None:
    """What is submitted before `start` runs after it, and not before."""
    orch = TaskOrchestrator()
    ran: list[int] = []
    handle = orch.submit(ran.append, 1)
    other = orch.submit(pow, 2, 3)
    assert not handle.done()
    assert orch.get_task_status(handle.task_id).state == "queued"
    with pytest.raises(TimeoutError):
        handle.result(0.02)
    assert ran == []
    with orch:
        assert other.result(PATIENCE) == 8
        handle.result(PATIENCE)
    assert ran == [1]


# -- maps ----------------------------------------------------------------------------


def test_async_map_over_what_has_no_end() -> None:
    async def main() -> list[int]:
        async with TaskOrchestrator() as orch:
            found = []
            async with aclosing(
                orch.aio.map(abs, itertools.count(), buffersize=2)
            ) as m:
                async for number in m:
                    found.append(number)
                    if number == 200:
                        break
            return found

    assert asyncio.run(main()) == list(range(201))


def test_map_has_few_large_results_ahead() -> None:
    """Nobody has said how many: as many as do not fill the memory."""
    begun = []

    def large(number: int) -> bytes:
        begun.append(number)
        return bytes(1 << 20)

    with TaskOrchestrator() as orch:
        results = orch.map(large, itertools.count())
        for _ in range(200):
            next(results)
        assert len(begun) < 300


@pytest.mark.parametrize("asked", [0, 1])
@pytest.mark.parametrize("end", ["goes", "waits", "drains"])
def test_all_calls_of_a_map_with_an_end_are_made(end: str, asked: int) -> None:
    """Also if nobody takes the results, as with an Executor."""
    if asked and end == "goes":
        # Then what has not begun is cancelled.
        return
    done: list[int] = []
    with TaskOrchestrator() as orch:
        results = orch.map(done.append, range(1_000))
        for _ in range(asked):
            next(results)
        if end == "goes":
            del results
        if end == "waits":
            assert orch.wait(PATIENCE)
            assert len(done) == 1_000
    assert sorted(done) == list(range(1_000))
    if end == "drains":
        assert list(results) == [None] * (1_000 - asked)


def test_a_map_on_a_journal_is_accepted_at_once(tmp_path: Path) -> None:
    orch = TaskOrchestrator(journal=tmp_path / "runs.db")
    orch.map(abs, range(1_000))
    assert orch.get_stats().queue.queued == 1_000
    orch.stop(drain=False)


# -- as_completed --------------------------------------------------------------------


def test_as_completed_runs_out_of_patience(orch) -> None:
    """What has not ended in time raises the builtin TimeoutError with a count."""
    hold = Hold()
    handles = [orch.submit(hold), orch.submit(int)]
    assert handles[1].result(PATIENCE) == 0
    done = as_completed(handles, timeout=0.05)
    assert next(done).result() == 0
    with pytest.raises(TimeoutError, match="1 of 2"):
        next(done)
    hold.release()


def test_an_abandoned_as_completed_leaves_nothing_behind(orch) -> None:
    """Leaving the loop early takes the waiters away again."""
    hold = Hold()
    handle = orch.submit(hold)
    for _ in range(3):
        for _done in as_completed([orch.submit(int), handle], timeout=PATIENCE):
            break
    assert not handle._waiters
    hold.release()


# -- what is around it ---------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:Assigning a code object")
def test_what_is_said_of_a_function_between_two_calls_counts():
    def work() -> object:
        return "on a thread"

    async def on_a_loop() -> object:
        asyncio.get_running_loop()
        return "on a loop"

    def priority_of(handle):
        handle.result()
        return orch.get_task_status(handle.task_id).priority

    with TaskOrchestrator() as orch:
        assert orch.submit(work).result() == "on a thread"
        assert priority_of(orch.submit(work)) == 0

        task(priority=7)(work)
        assert priority_of(orch.submit(work)) == 7
        work.__dict__.clear()
        assert priority_of(orch.submit(work)) == 0

        work.__code__ = on_a_loop.__code__
        assert orch.submit(work).result() == "on a loop"

        work.__qualname__ = "renamed"
        again = orch.submit(work)
        assert orch.get_task_status(again.task_id).type == "renamed"
        assert again.result() == "on a loop"
