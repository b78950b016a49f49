"""Submitting: one, many, functions, batches, maps."""

import asyncio
import contextvars
import functools
import itertools
import operator
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from pathlib import Path

import pytest
from tests.integration.tools import PATIENCE, Hold, eventually, fail

from taskorch import (
    InvalidTaskError,
    Resources,
    RetryPolicy,
    Task,
    TaskorchError,
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


def test_keyword_arguments_are_passed_on(orch) -> None:
    """`submit` takes the function's keywords, `Task.call` takes them in kwargs."""
    assert orch.submit(int, "ff", base=16).result(PATIENCE) == 255
    task = Task.call(int, "ff", kwargs={"base": 16}, priority=3)
    assert orch.submit_task(task).result(PATIENCE) == 255


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


def test_after_takes_ids_handles_and_tasks_with_repeats(orch) -> None:
    """All three kinds of reference wait, and naming one twice changes nothing."""
    hold = Hold()
    first = Task.call(hold, id="first")
    handle = orch.submit_task(first)
    ran = []
    later = orch.submit_task(
        Task.call(ran.append, 1, after=("first", handle, first, "first"))
    )
    hold.wait()
    assert orch.get_task_status(later.task_id).state == "pending"
    assert ran == []
    hold.release()
    later.result(PATIENCE)
    assert ran == [1]


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


# -- batches -------------------------------------------------------------------------


def test_a_batch_may_refer_forward(orch) -> None:
    """Ids and task objects of later tasks are dependencies, and arguments with results."""
    order: list[str] = []
    last = Task.call(order.append, "last", id="last", after=["middle"])
    first = Task.call(order.append, "first")
    middle = Task.call(order.append, "middle", id="middle", after=[first])
    handles = orch.submit_tasks([last, middle, first])
    assert [h.task_id for h in handles[:2]] == ["last", "middle"]
    handles[0].result(PATIENCE)
    assert order == ["first", "middle", "last"]
    two = Task.call(int, "2")
    square = Task.call(pow, two, 2)
    total = Task.call(sum, [two, square])
    # Any iterable of tasks will do.
    handles = orch.submit_tasks(each for each in (total, square, two))
    assert [h.result(PATIENCE) for h in handles] == [6, 4, 2]
    assert orch.submit_tasks([]) == []


@pytest.mark.parametrize(
    ("bad", "code"),
    [
        (Task("nobody-can-do-this"), "unknown_capability"),
        (Task.call(int, after=["missing"]), "unknown_task"),
        (Task.call(int, id="no good"), "validation_failed"),
        (Task.call(int, resources=Resources(unicorns=1)), "unsatisfiable"),
        (Task.call(int, "7", id="known"), "duplicate_task"),
        (Task.call(int, id="twin"), "duplicate_task"),
    ],
)
def test_a_batch_is_accepted_whole_or_not_at_all(orch, bad, code) -> None:
    """One task at fault, and none of the batch exists."""
    orch.submit_task(Task.call(int, id="known")).result(PATIENCE)
    before = orch.get_stats().state_machine.total
    ran: list[int] = []
    good = [Task.call(ran.append, n, id=f"good-{n}") for n in range(3)]
    twin = Task.call(int, id="twin", priority=1)
    with pytest.raises(TaskorchError) as caught:
        orch.submit_tasks([*good, twin, bad])
    assert caught.value.code == code
    assert orch.get_stats().state_machine.total == before
    assert orch.wait(PATIENCE)
    assert ran == []
    # The names are free: the same can be submitted without the fault.
    for handle in orch.submit_tasks(good):
        handle.result(PATIENCE)
    assert sorted(ran) == [0, 1, 2]


def test_a_full_queue_refuses_the_whole_batch() -> None:
    """Admission counts the batch as one: all or none."""
    with TaskOrchestrator(concurrency=1, max_queued=3) as orch:
        hold = Hold()
        orch.submit(hold)
        hold.wait()
        with pytest.raises(Exception, match="not admitted") as caught:
            orch.submit_tasks([Task.call(int) for _ in range(4)])
        assert caught.value.code == "queue_full"  # type: ignore[attr-defined]
        assert orch.get_stats().queue.queued == 0
        orch.submit_tasks([Task.call(int) for _ in range(3)])
        assert orch.get_stats().queue.queued == 3
        hold.release()


# -- maps ----------------------------------------------------------------------------


def test_map_keeps_the_order(orch) -> None:
    """Results come in the order of the arguments, whatever ends first."""
    hold = Hold()

    def work(n: int) -> int:
        if n == 0:
            hold()
        elif n == 3:
            hold.release()
        return n * n

    assert list(orch.map(work, range(6))) == [0, 1, 4, 9, 16, 25]
    assert list(orch.map(pow, [2, 3, 4], [2, 2])) == [4, 9]
    assert list(orch.map(int, [])) == []
    # Handles among the items are dependencies as well.
    handles = [orch.submit(int, str(n)) for n in range(3)]
    assert list(orch.map(pow, handles, [2, 2, 2])) == [0, 1, 4]


def test_map_submits_at_once_and_raises_late(orch) -> None:
    """All calls are submitted before the first result is asked for; errors come in turn."""
    results = orch.map(lambda n: 10 // n, [5, 0, 2])
    assert orch.wait(PATIENCE)
    stats = orch.get_stats().state_machine
    assert (stats.completed, stats.failed) == (2, 1)
    assert next(results) == 2
    with pytest.raises(ZeroDivisionError):
        next(results)


def test_map_over_what_has_no_end() -> None:
    """Calls are ahead of the results by some, and by no more than is asked for."""
    taken = []

    def numbers() -> Iterator[int]:
        for number in itertools.count():
            taken.append(number)
            yield number

    with TaskOrchestrator() as orch:
        results = orch.map(abs, numbers())
        assert list(itertools.islice(results, 5_000)) == list(range(5_000))
        assert len(taken) < 20_000
        taken.clear()
        results = orch.map(pow, numbers(), itertools.repeat(2), buffersize=3)
        assert [next(results) for _ in range(9)] == [n * n for n in range(9)]
        assert len(taken) <= 9 + 3
        for wrong in (0, -1, 1.5, True):
            with pytest.raises(InvalidTaskError, match="buffersize is an integer of 1"):
                orch.map(abs, [1], buffersize=wrong)  # type: ignore[arg-type]


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


def test_map_runs_out_of_patience(orch) -> None:
    """`timeout` is for all of it, and raises the builtin TimeoutError."""
    hold = Hold()
    results = orch.map(lambda n: hold() if n else "first", [0, 1], timeout=0.05)
    # What has ended is given out, however late.
    eventually(lambda: orch.get_stats().state_machine.completed)
    assert next(results) == "first"
    with pytest.raises(TimeoutError):
        next(results)
    hold.release()


# -- as_completed --------------------------------------------------------------------


def test_as_completed_yields_in_order_of_the_ends(orch) -> None:
    """The first to end comes first, each comes once, and so does what is blocked."""
    slow, fast = Hold(), Hold()
    a, b = orch.submit(slow, "slow"), orch.submit(fast, "fast")
    done = as_completed([a, b, a], timeout=PATIENCE)
    fast.release()
    assert next(done) is b
    slow.release()
    assert list(done) == [a]
    assert list(as_completed([])) == []
    bad = orch.submit(fail, ValueError())
    child = orch.submit(abs, bad)
    assert set(as_completed([child, bad], timeout=PATIENCE)) == {bad, child}
    assert not child.done()
    # They need not be of one orchestrator.
    with TaskOrchestrator() as other:
        handles = [orch.submit(int, "1"), other.submit(int, "2")]
        results = [h.result() for h in as_completed(handles, timeout=PATIENCE)]
        assert sorted(results) == [1, 2]


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


def test_context_variables_are_copied_into_tasks() -> None:
    """A task sees the variables of its submitter, and its changes stay its own."""
    name = contextvars.ContextVar("name", default="nobody")

    def change(value: str) -> str:
        old = name.get()
        name.set(value)
        return old

    async def read() -> str:
        return name.get()

    with TaskOrchestrator() as orch:
        name.set("caller")
        assert orch.submit(change, "task").result(PATIENCE) == "caller"
        assert orch.submit(read).result(PATIENCE) == "caller"
        assert list(orch.map(change, ["x", "y"])) == ["caller", "caller"]
        assert name.get() == "caller"


@pytest.mark.parametrize("how", ["plain", "with a dependency", "async", "executor"])
def test_every_attempt_begins_with_the_submitters_variables(how) -> None:
    """What an attempt or another task sets is not there in the next."""
    name = contextvars.ContextVar("name", default="nobody")
    seen: list[str] = []

    def change(*_: object) -> None:
        seen.append(name.get())
        name.set("changed")
        if len(seen) % 2:
            fail(ValueError())

    async def change_async() -> None:
        change()

    with ThreadPoolExecutor(1) as pool:
        with TaskOrchestrator(executors={"pool": pool}, concurrency=1) as orch:
            call = {
                "plain": functools.partial(Task.call, change),
                "with a dependency": functools.partial(
                    Task.call, change, orch.submit(int)
                ),
                "async": functools.partial(Task.call, change_async),
                "executor": functools.partial(Task.call, change, executor="pool"),
            }[how]
            name.set("caller")
            policy = RetryPolicy(2, base=0)
            for handle in orch.submit_tasks([call(retry=policy) for _ in range(2)]):
                handle.result(PATIENCE)
        assert seen == ["caller"] * 4
        assert name.get() == "caller"


def test_many_threads_submit_at_once(orch) -> None:
    """Nothing is lost or doubled where several threads submit."""
    results: list[int] = []

    def submit(base: int) -> None:
        handles = [orch.submit(operator.add, base, n) for n in range(200)]
        results.extend(h.result(PATIENCE) for h in handles)

    threads = [threading.Thread(target=submit, args=(n * 1000,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert sorted(results) == [b * 1000 + n for b in range(4) for n in range(200)]
    assert orch.get_stats().state_machine.completed == 800


def test_ids_are_the_users_or_made_up(orch) -> None:
    """A given id is kept, a missing one is made, and both find the task."""
    named = orch.submit_task(Task.call(int, id="folder/name"))
    unnamed = orch.submit(int)
    assert named.task_id == "folder/name"
    assert unnamed.task_id
    assert unnamed.task_id != orch.submit(int).task_id
    assert orch.handle("folder/name") is named
    assert orch.handle(unnamed.task_id) is unnamed


def test_priority_comes_first_and_equal_ones_keep_their_order() -> None:
    """Higher runs first; among equals the first submitted."""
    with TaskOrchestrator(concurrency=1) as orch:
        hold = Hold()
        orch.submit(hold)
        hold.wait()
        order: list[str] = []
        orch.submit_tasks(
            [
                Task.call(order.append, "low", priority=-1),
                Task.call(order.append, "first"),
                Task.call(order.append, "second"),
                Task.call(order.append, "high", priority=9),
            ]
        )
        hold.release()
        assert orch.wait(PATIENCE)
        assert order == ["high", "first", "second", "low"]


def test_concurrency_is_the_limit() -> None:
    """No more attempts run at once than `concurrency` says, and as many as that do."""
    with TaskOrchestrator(concurrency=3) as orch:
        lock = threading.Lock()
        now, most = 0, 0
        barrier = threading.Barrier(3)

        def work() -> None:
            nonlocal now, most
            with lock:
                now += 1
                most = max(most, now)
            barrier.wait(PATIENCE)
            with lock:
                now -= 1

        for _ in range(9):
            orch.submit(work)
        assert orch.wait(PATIENCE)
        assert most == 3


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
