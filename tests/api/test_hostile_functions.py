"""Whatever a function does, its task ends with a clear error and the rest goes on."""

# pyright: basic, reportArgumentType=false, reportAttributeAccessIssue=false
# pyright: reportCallIssue=false, reportOptionalMemberAccess=false
# pyright: reportAssignmentType=false
# What does not fit is the point here.

from __future__ import annotations

import asyncio
import functools
import gc
import pickle
import sys
import threading
import time
from concurrent.futures import wait as wait_for_futures

import pytest
from tests.api.tools import PATIENCE, Hold, pass_time, short_grace

from taskorch import (
    MemoryJournal,
    Permanent,
    RetryPolicy,
    Task,
    TaskCancelledError,
    TaskFailedError,
    TaskOrchestrator,
    TaskState,
    TaskTimeoutError,
    ValidationFailedError,
    current_context,
)
from taskorch.errors import WouldBlockError, WouldDeadlockError


def goes_on(orch: TaskOrchestrator) -> None:
    """Threads and coroutines still do their work."""

    async def double(x):
        await asyncio.sleep(0)
        return 2 * x

    assert orch.submit(pow, 2, 5).result(PATIENCE) == 32
    assert orch.submit(double, 16).result(PATIENCE) == 32


@pytest.fixture
def orch():
    with short_grace(TaskOrchestrator()) as orch:
        before = orch.submit(pow, 2, 3)
        yield orch
        assert before.result(PATIENCE) == 8
        goes_on(orch)


class Latch:
    """Counts, and wakes who waits for a count."""

    def __init__(self):
        self.changed = threading.Condition()
        self.count = 0

    def hit(self, *_):
        with self.changed:
            self.count += 1
            self.changed.notify_all()

    def wait(self, count=1):
        with self.changed:
            assert self.changed.wait_for(lambda: self.count >= count, PATIENCE)


# -- functions that never return ---------------------------------------------------


def test_a_thread_that_never_returns_times_out_and_its_slot_is_said_to_leak(orch):
    """The task fails in time; health, statistics and explain tell of the slot."""
    deaf = Hold()
    leaked, recovered = Latch(), Latch()
    orch.signals.slot_leaked.connect(leaked.hit)
    orch.signals.slot_recovered.connect(recovered.hit)
    handle = orch.submit_task(Task.call(deaf, timeout=3600, id="deaf"))
    deaf.wait()
    pass_time(orch, 3600)
    with pytest.raises(TaskTimeoutError, match=r"attempt 1 .* timeout of 3600 s"):
        handle.result(PATIENCE)
    leaked.wait()
    stats = orch.get_stats()
    assert stats.leaked == 1
    assert stats.agents["local"].leaked == 1
    assert stats.failures == {"timeout": 1}
    health = orch.health()
    assert health.status == "degraded"
    assert health.ready
    assert "1 held by work that would not stop" in [c.detail for c in health.checks]
    goes_on(orch)
    deaf.release()
    recovered.wait()
    assert orch.get_stats().leaked == 0
    assert orch.health().status == "ok"
    # The late result changes nothing.
    assert orch.get_task_status("deaf").state is TaskState.FAILED


def test_work_that_leaks_holds_what_others_wait_for_and_explain_says_so():
    """With every slot leaked nothing starts, and why is named."""
    deaf = Hold()
    leaked = Latch()
    with short_grace(TaskOrchestrator(concurrency=1)) as orch:
        orch.signals.slot_leaked.connect(leaked.hit)
        handle = orch.submit_task(Task.call(deaf, timeout=3600, id="deaf"))
        deaf.wait()
        pass_time(orch, 3600)
        with pytest.raises(TaskTimeoutError):
            handle.result(PATIENCE)
        leaked.wait()
        waiting = orch.submit(pow, 2, 5)
        explanation = orch.explain(waiting.task_id)
        assert [b.kind for b in explanation.blockers] == ["slot"]
        assert not orch.health().ready
        deaf.release()
        assert waiting.result(PATIENCE) == 32


def test_a_thread_that_never_returns_does_not_hold_up_the_end():
    """`stop` ends after the grace, and its report names the attempt."""
    free = threading.Event()
    begun = Latch()

    def deaf():
        begun.hit()
        free.wait()

    orch = short_grace(TaskOrchestrator())
    orch.start()
    handle = orch.submit_task(Task.call(deaf, id="deaf"))
    begun.wait()
    began = time.monotonic()
    report = orch.stop(drain=False)
    assert time.monotonic() - began < PATIENCE / 2
    assert report.leaked == ("deaf (attempt 1)",)
    assert [left.task_id for left in report.left] == ["deaf"]
    assert handle.cancelled()
    free.set()


def test_a_timeout_is_retried_while_the_old_attempt_still_hangs(orch):
    """The late end of the first attempt does not disturb the second."""
    deaf = Hold()
    attempts = []
    ignored = Latch()
    orch.signals.late_result_ignored.connect(ignored.hit)

    def sometimes():
        attempts.append(current_context().attempt)
        return deaf("late") if len(attempts) == 1 else "second"

    retry = RetryPolicy(max_attempts=2, base=0)
    handle = orch.submit_task(Task.call(sometimes, timeout=3600, retry=retry))
    deaf.wait()
    pass_time(orch, 3600)
    assert handle.result(PATIENCE) == "second"
    deaf.release()
    ignored.wait()
    assert handle.result(0) == "second"
    assert attempts == [1, 2]


def test_a_coroutine_that_never_returns_is_cancelled_at_its_timeout(orch):
    """A coroutine that does not resist ends at once, and nothing leaks."""

    async def forever():
        await asyncio.Event().wait()

    handle = orch.submit_task(Task.call(forever, timeout=0.02))
    with pytest.raises(TaskTimeoutError):
        handle.result(PATIENCE)
    assert orch.get_stats().leaked == 0


def test_a_coroutine_that_swallows_its_cancellation_leaks_and_is_reported(orch):
    """After the grace the task is over, and the coroutine is told of."""
    leaked, recovered = Latch(), Latch()
    orch.signals.slot_leaked.connect(leaked.hit)
    orch.signals.slot_recovered.connect(recovered.hit)
    begun, caught = threading.Event(), threading.Event()
    loops = []

    async def stubborn():
        loop, free = asyncio.get_running_loop(), asyncio.Event()
        loops.append((loop, free))
        begun.set()
        while not free.is_set():
            try:
                await free.wait()
            except asyncio.CancelledError:
                caught.set()
        return "anyway"

    handle = orch.submit_task(Task.call(stubborn))
    assert begun.wait(PATIENCE)
    assert handle.cancel()
    with pytest.raises(TaskCancelledError):
        handle.result(PATIENCE)
    leaked.wait()
    assert caught.is_set()
    assert orch.health().status == "degraded"
    goes_on(orch)
    loop, free = loops[0]
    loop.call_soon_threadsafe(free.set)
    recovered.wait()
    assert orch.health().status == "ok"


def test_a_coroutine_that_cleans_up_in_its_grace_is_cancelled_properly(orch):
    """A `finally` that awaits runs to its end."""
    short_grace(orch, 10)
    begun, cleaned = threading.Event(), threading.Event()

    async def tidy():
        try:
            begun.set()
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0.01)
            cleaned.set()

    handle = orch.submit(tidy)
    assert begun.wait(PATIENCE)
    assert orch.cancel_task(handle.task_id)
    with pytest.raises(TaskCancelledError):
        handle.result(PATIENCE)
    assert cleaned.is_set()
    assert orch.get_stats().leaked == 0


def test_a_coroutine_that_blocks_the_loop_does_not_hold_up_threads(orch):
    """Only coroutines wait for it; its timeout counts all the same."""
    begun, free = threading.Event(), threading.Event()

    async def block():
        begun.set()
        free.wait(PATIENCE)

    async def quick():
        return "quick"

    short_grace(orch, 3600)
    timed_out = Latch()
    orch.signals.task_timed_out.connect(timed_out.hit)
    handle = orch.submit_task(Task.call(block, timeout=600))
    assert begun.wait(PATIENCE)
    pass_time(orch, 601)
    behind = orch.submit(quick)
    assert orch.submit(pow, 2, 5).result(PATIENCE) == 32
    assert not behind.done()
    timed_out.wait()
    free.set()
    assert behind.result(PATIENCE) == "quick"
    with pytest.raises(TaskTimeoutError):
        handle.result(PATIENCE)


# -- what functions raise ----------------------------------------------------------


class Mine(BaseException):
    pass


@pytest.mark.parametrize(
    "error",
    [
        SystemExit(3),
        KeyboardInterrupt("by hand"),
        GeneratorExit("gen"),
        asyncio.CancelledError("self-made"),
        Mine("mine"),
        BaseExceptionGroup("many", [KeyboardInterrupt()]),
        StopIteration("stop"),
        StopAsyncIteration("stop"),
    ],
    ids=lambda e: type(e).__name__,
)
@pytest.mark.parametrize("kind", ["thread", "coroutine", "agent"])
def test_what_would_end_more_than_the_task_arrives_wrapped(orch, error, kind):
    """The asker gets a TaskFailedError with the type, and the original as cause."""

    def plain():
        raise error

    async def coroutine():
        raise error

    if kind == "agent":
        orch.agent("rude", capabilities={"rude"})(lambda task, context: plain())
        handle = orch.submit_task(Task("rude"))
    else:
        handle = orch.submit(plain if kind == "thread" else coroutine)
    if kind == "coroutine" and isinstance(error, StopIteration):
        # That is what Python itself makes of it.
        with pytest.raises(RuntimeError, match="coroutine raised StopIteration"):
            handle.result(PATIENCE)
        return
    with pytest.raises(TaskFailedError) as caught:
        handle.result(PATIENCE)
    seen = caught.value
    assert seen.type == type(error).__name__
    assert seen.__cause__ is error
    assert handle.task_id in str(seen)
    assert type(error).__name__ in str(seen)
    assert orch.get_task_status(handle.task_id).state is TaskState.FAILED


def test_a_stop_iteration_does_not_end_the_loop_of_the_asker(orch):
    """Results are asked for in loops, which a StopIteration would end in silence."""

    def stop():
        raise StopIteration

    def ask_for(handle):
        return handle.result(PATIENCE)

    handles = [orch.submit(stop), orch.submit(pow, 2, 3)]
    with pytest.raises(TaskFailedError):
        list(map(ask_for, handles))

    async def ask():
        return await asyncio.wait_for(
            asyncio.wrap_future(handles[0].future()), PATIENCE
        )

    with pytest.raises(TaskFailedError):
        asyncio.run(ask())


def test_a_retry_policy_sees_what_was_raised_and_not_its_wrapping(orch):
    """`retry_on=Exception` does not cover SystemExit, and naming it does."""
    calls = []

    def leave():
        calls.append(1)
        raise SystemExit(1)

    with pytest.raises(TaskFailedError):
        orch.submit_task(
            Task.call(leave, retry=RetryPolicy(max_attempts=3, base=0))
        ).result(PATIENCE)
    assert len(calls) == 1
    retry = RetryPolicy(max_attempts=3, base=0, retry_on=SystemExit)
    with pytest.raises(TaskFailedError):
        orch.submit_task(Task.call(leave, retry=retry)).result(PATIENCE)
    assert len(calls) == 4


class NoStr(Exception):
    def __str__(self):
        raise RuntimeError("not even that")

    __repr__ = __str__


class ExitStr(Exception):
    def __str__(self):
        raise SystemExit(7)

    __repr__ = __str__


class NoTextStr(Exception):
    def __str__(self):
        return 5  # noqa: PLE0307 - the point

    __repr__ = __str__


class NeedsArgs(Exception):
    def __init__(self, a, b):
        super().__init__(f"{a} and {b}")


class BadReduce(Exception):
    def __reduce__(self):
        raise pickle.PicklingError("no")


class Slotted(Exception):
    __slots__ = ()


@pytest.mark.parametrize(
    "make",
    [
        NoStr,
        ExitStr,
        NoTextStr,
        lambda: NeedsArgs(1, 2),
        BadReduce,
        Slotted,
        lambda: Exception("x" * 10_000_000),
        lambda: Exception("\ud800"),
        lambda: Exception("a: b: c\n\x1b[31m"),
        lambda: UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad"),
        lambda: ExceptionGroup("many", [ValueError(1), NoStr()]),
        MemoryError,
        RecursionError,
        lambda: Permanent("never"),
        OSError,
        AssertionError,
    ],
)
def test_the_original_exception_arrives_whatever_it_is_like(orch, make):
    """`result` raises the very object; events, status and explain survive it."""
    error = make()
    failed = []
    orch.signals.task_failed.connect(failed.append)

    def fail():
        raise error

    handle = orch.submit(fail)
    with pytest.raises(type(error)) as caught:
        handle.result(PATIENCE)
    assert caught.value is error
    assert handle.exception(0) is error
    assert orch.get_task_status(handle.task_id).error is error
    assert str(orch.explain(handle.task_id))
    assert orch.wait(PATIENCE)
    assert [event.error_type for event in failed] == [type(error).__name__]
    assert all(str(event) for event in failed)


def test_what_a_dependency_raised_blocks_only_what_needs_it(orch):
    """Hostile exceptions pass through blocked tasks too."""

    def fail():
        raise NoStr

    parent = orch.submit(fail)
    child = orch.submit(abs, parent)
    with pytest.raises(Exception, match="blocked") as caught:
        child.result(PATIENCE)
    assert caught.value.root_causes == (parent.task_id,)


def test_endless_recursion_fails_that_task_alone(orch):
    """A RecursionError is an error like others."""

    def deep(n):
        return deep(n + 1)

    with pytest.raises(RecursionError):
        orch.submit(deep, 0).result(PATIENCE)


def test_a_memory_error_of_a_real_allocation_fails_that_task_alone(orch):
    """Too large an allocation is an error like others."""

    def greedy():
        return bytearray(1 << 62)

    with pytest.raises((MemoryError, OverflowError)):
        orch.submit(greedy).result(PATIENCE)


@pytest.mark.parametrize("args", [(), (1, 2, 3)])
def test_wrong_arguments_fail_the_task_with_pythons_own_words(orch, args):
    """The function and what is wrong stand in the TypeError."""

    def two(a, b):
        return a, b

    with pytest.raises(TypeError, match=r"two\(\)"):
        orch.submit(two, *args).result(PATIENCE)

    async def three(a, b):
        return a, b

    with pytest.raises(TypeError, match=r"three\(\)"):
        orch.submit(three, *args).result(PATIENCE)
    with pytest.raises(TypeError, match="nonsense"):
        orch.submit(two, 1, nonsense=2).result(PATIENCE)


def test_a_handler_that_hides_its_wrong_arity_fails_its_tasks(orch):
    """The handler is named. One that says its arguments is refused when it is added."""

    def narrow(task):
        return task

    @orch.agent("narrow", capabilities={"narrow"})
    def hidden(*given):
        return narrow(*given)

    with pytest.raises(TypeError, match=r"narrow\(\)"):
        orch.submit_task(Task("narrow")).result(PATIENCE)


# -- what functions return ---------------------------------------------------------


def test_what_cannot_be_pickled_or_printed_is_a_result_like_others(orch):
    """Threads hand over the very object."""

    class Odd:
        def __reduce__(self):
            raise pickle.PicklingError

        def __repr__(self):
            raise RuntimeError

        def __eq__(self, other):
            raise RuntimeError

        def __bool__(self):
            raise RuntimeError

        __hash__ = None

    odd, lock = Odd(), threading.Lock()
    completed = []
    orch.signals.task_completed.connect(completed.append)
    handle = orch.submit(lambda: odd)
    assert handle.result(PATIENCE) is odd
    assert orch.get_task_status(handle.task_id).result is odd
    assert orch.submit(lambda: lock).result(PATIENCE) is lock
    # As an argument of another, likewise.
    assert orch.submit(lambda x: [x], handle).result(PATIENCE)[0] is odd
    assert orch.wait(PATIENCE)
    assert len(completed) == 3


@pytest.mark.parametrize("value", [None, False, 0, "", (), NotImplemented, ...])
def test_results_that_are_false_are_results(orch, value):
    """Nothing is taken for "no result"."""
    handle = orch.submit(lambda: value)
    assert handle.result(PATIENCE) is value
    assert handle.exception(0) is None


def test_an_exception_that_is_returned_is_a_result(orch):
    """Only what is raised is a failure."""
    error = ValueError("returned")
    handle = orch.submit(lambda: error)
    assert handle.result(PATIENCE) is error
    assert handle.exception(0) is None


def test_a_huge_result_is_handed_over_as_it_is_and_let_go(orch):
    """A result is not copied, and leaves with its handle."""
    size = 64 << 20
    handle = orch.submit(bytearray, size)
    assert len(handle.result(PATIENCE)) == size


def test_a_generator_is_a_result(orch):
    """It is not run: whoever asked does that."""

    def numbers():
        return (number for number in range(3))

    assert list(orch.submit(numbers).result(PATIENCE)) == [0, 1, 2]


def test_an_async_generator_is_a_result(orch):
    """Likewise, where a function returns one."""

    async def numbers():
        for i in range(3):
            yield i

    async def read(agen):
        return [i async for i in agen]

    agen = orch.submit(lambda: numbers()).result(PATIENCE)  # noqa: PLW0108 - as above
    assert orch.submit(read, agen).result(PATIENCE) == [0, 1, 2]


def test_a_plain_function_that_returns_a_coroutine_is_not_run_in_silence(orch):
    """Nobody would ever await it: the task fails, and says what to do."""

    async def inner():
        return 5

    def outer():
        return inner()

    for fn in (outer, functools.partial(outer)):
        with pytest.raises(TypeError, match="coroutine") as caught:
            orch.submit(fn).result(PATIENCE)
        assert "async def" in str(caught.value)
    gc.collect()

    @orch.agent("lazy", capabilities={"lazy"})
    def lazy(task, context):
        return inner()

    with pytest.raises(TypeError, match="coroutine"):
        orch.submit_task(Task("lazy")).result(PATIENCE)


def test_partials_methods_and_objects_of_coroutine_functions_run_on_the_loop(orch):
    """Looking through the wrapping is the orchestrator's work."""

    class Caller:
        async def __call__(self, x):
            return x + 1

        async def method(self, x):
            return x + 2

    async def plain(x, y):
        return x + y

    assert orch.submit(Caller(), 1).result(PATIENCE) == 2
    assert orch.submit(Caller().method, 1).result(PATIENCE) == 3
    assert orch.submit(functools.partial(plain, 1), 3).result(PATIENCE) == 4


def test_callables_without_a_name_are_run(orch):
    """Classes, objects and partials need no `__qualname__`."""

    class Nameless:
        def __call__(self):
            return "nameless"

        def __getattr__(self, name):
            raise AttributeError(name)

    class Rude:
        def __getattr__(self, name):
            return 5

        def __call__(self):
            return "rude"

    assert orch.submit(Nameless()).result(PATIENCE) == "nameless"
    assert orch.submit(Rude()).result(PATIENCE) == "rude"
    assert orch.submit(dict, a=1).result(PATIENCE) == {"a": 1}
    assert orch.submit(functools.partial(pow, 2), 3).result(PATIENCE) == 8
    assert orch.submit("abc".upper).result(PATIENCE) == "ABC"


@pytest.mark.parametrize("name", ["", " ", "a\nb", "x" * 5_000, "\ud800"])
def test_a_function_with_an_odd_name_is_refused_by_its_type(orch, name):
    """`__qualname__` is anybody's to write, and the type of a call."""

    def fn():
        return "ran"

    fn.__qualname__ = name
    with pytest.raises(ValidationFailedError, match="type"):
        orch.submit(fn)
    assert orch.submit_task(Task.call(fn, type="mine")).result(PATIENCE) == "ran"


# -- what functions do -------------------------------------------------------------


def test_a_function_that_changes_its_arguments_changes_its_callers_objects(orch):
    """In a thread, arguments are the very objects, as in any call."""
    items = [1]
    orch.submit(items.append, 2).result(PATIENCE)
    assert items == [1, 2]
    # What was a list of dependencies is a new list, so that is left alone.
    handle = orch.submit(pow, 2, 3)
    mixed = [handle, 1]
    orch.submit(lambda xs: xs.clear(), mixed).result(PATIENCE)
    assert mixed == [handle, 1]


def test_a_dependencys_result_is_the_same_object_for_all(orch):
    """Results are handed on, not copied."""
    parent = orch.submit(list)
    children = [orch.submit(id, parent) for _ in range(3)]
    assert {c.result(PATIENCE) for c in children} == {id(parent.result(PATIENCE))}


def test_threads_that_a_task_starts_are_its_own_affair(orch):
    """They may outlive it, submit more, and know no current task."""
    seen, done = [], threading.Event()

    def outside():
        seen.append(orch.submit(pow, 2, 4).result(PATIENCE))
        try:
            current_context()
        except Exception as error:
            seen.append(error.code)
        done.set()

    def spawn():
        thread = threading.Thread(target=outside)
        thread.start()
        return thread

    orch.submit(spawn).result(PATIENCE).join(PATIENCE)
    assert done.is_set()
    assert seen == [16, "not_running"]


def test_a_task_may_submit_and_wait_for_more(orch):
    """Nested work has its slot given back while it waits, so it cannot fill up."""

    def fib(n):
        if n < 2:
            return n
        a, b = orch.submit(fib, n - 1), orch.submit(fib, n - 2)
        return a.result() + b.result()

    assert orch.submit(fib, 8).result(PATIENCE) == 21


def test_a_task_that_cancels_itself_is_cancelled(orch):
    """It goes on to its next checkpoint, or to its end, and is CANCELLED."""

    def plain():
        return orch.cancel_task(current_context().task_id)

    def checked():
        context = current_context()
        orch.cancel_task(context.task_id)
        context.checkpoint()
        raise AssertionError("unreachable")

    async def coroutine():
        orch.cancel_task(current_context().task_id)
        await asyncio.sleep(PATIENCE)

    for fn in (plain, checked, coroutine):
        handle = orch.submit(fn)
        with pytest.raises(TaskCancelledError):
            handle.result(PATIENCE)
        assert handle.cancelled()


def test_a_task_that_waits_for_itself_is_told(orch):
    """A wait that can never end is an error and no hang."""
    box = []
    ready = threading.Event()

    def narcissus():
        ready.wait(PATIENCE)
        return box[0].result()

    box.append(orch.submit(narcissus))
    ready.set()
    with pytest.raises(WouldDeadlockError):
        box[0].result(PATIENCE)


@pytest.mark.parametrize(
    ("method", "options"),
    [("stop", {}), ("stop", {"drain": False}), ("wait", {})],
)
def test_waiting_for_all_work_inside_a_task_is_told_and_no_hang(orch, method, options):
    """It would wait for the very task that asks."""

    def ask():
        return getattr(orch, method)(**options)

    async def ask_async():
        return await getattr(orch.aio, method)(**options)

    for fn in (ask, ask_async):
        with pytest.raises(WouldDeadlockError, match=rf"{method}\(\)") as caught:
            orch.submit(fn).result(PATIENCE)
        assert "from outside" in caught.value.hint


def test_a_task_may_have_everything_ended_by_a_receiver():
    """What a task cannot do itself it can ask for: the emergency stop."""
    begun = threading.Event()
    reports = []
    stopped = threading.Event()
    with short_grace(TaskOrchestrator(), 10) as orch:

        async def other():
            begun.set()
            await asyncio.sleep(PATIENCE)

        def stop(event):
            if event.value == "fire":
                reports.append(orch.stop(drain=False))
                stopped.set()

        def emergency():
            current_context().progress("fire")
            while not current_context().cancelled:
                time.sleep(0.001)

        orch.signals.task_progressed.connect(stop)
        long = orch.submit(other)
        assert begun.wait(PATIENCE)
        mine = orch.submit(emergency)
        for handle in (long, mine):
            with pytest.raises(TaskCancelledError):
                handle.result(PATIENCE)
        report = orch.stop()
    assert {left.task_id for left in report.left} == {long.task_id, mine.task_id}
    # Two stops at once have one report, and return in any order.
    assert stopped.wait(PATIENCE)
    assert reports == [report]


def test_the_loop_is_not_blocked_by_the_end(orch):
    """In a coroutine, `stop` and `result` say that they would block the loop."""

    async def ask(call):
        return call()

    for call in (
        lambda: orch.stop(drain=False),
        orch.wait,
        lambda: orch.submit(time.sleep, 0.01).result(),
    ):
        with pytest.raises((WouldBlockError, WouldDeadlockError)) as caught:
            orch.submit(ask, call).result(PATIENCE)
        assert "await" in caught.value.hint or "outside" in caught.value.hint


def test_a_coroutine_task_may_submit_and_await_more(orch):
    """Awaiting inside a task gives back its slot too."""

    async def leaf(n):
        return n

    async def tree(n):
        if n == 0:
            return await orch.submit(leaf, 1)
        left, right = orch.submit(tree, n - 1), orch.submit(tree, n - 1)
        return sum(await asyncio.gather(left, right))

    assert orch.submit(tree, 4).result(PATIENCE) == 16


def test_a_background_task_of_asyncio_that_outlives_its_task_may_call_in(orch):
    """It carries the context of a task that has ended, and is not taken for it."""
    done = threading.Event()
    seen = []

    async def background():
        await asyncio.sleep(0.01)
        seen.append(await orch.submit(pow, 2, 4))
        seen.append(await orch.aio.wait(PATIENCE))
        done.set()

    keep = []

    async def spawn():
        keep.append(asyncio.get_running_loop().create_task(background()))
        return "spawned"

    assert orch.submit(spawn).result(PATIENCE) == "spawned"
    assert done.wait(PATIENCE)
    assert seen == [16, True]


def test_a_function_that_spoils_the_interpreters_settings_harms_only_itself(orch):
    """The recursion limit, the switch interval and hooks are put to bad use."""
    limit = sys.getrecursionlimit()

    def spoil():
        sys.settrace(None)
        threading.current_thread().name = "mine now"
        sys.setswitchinterval(0.1)
        raise ValueError

    try:
        with pytest.raises(ValueError):
            orch.submit(spoil).result(PATIENCE)
        goes_on(orch)
    finally:
        sys.setswitchinterval(0.005)
    assert sys.getrecursionlimit() == limit


def test_many_hostile_tasks_at_once_end_all(orch):
    """A crowd of failures of all kinds leaves nothing behind."""

    def raiser(kind):
        raise kind("no")

    async def araiser(kind):
        raise kind("no")

    kinds = [ValueError, SystemExit, KeyboardInterrupt, NoStr, StopIteration, Mine]
    handles = [
        orch.submit(fn, kind)
        for _ in range(20)
        for kind in kinds
        for fn in (raiser, araiser)
    ]
    done, waiting = wait_for_futures([h.future() for h in handles], PATIENCE)
    assert not waiting
    assert all(future.exception() is not None for future in done)
    assert orch.wait(PATIENCE)
    stats = orch.get_stats()
    assert stats.state_machine.failed == len(handles)
    assert stats.agents["local"].running == 0


def test_failed_tasks_do_not_hold_their_arguments_for_ever():
    """Beyond `keep_finished` even a failure with a traceback leaves memory."""
    import weakref

    class Big:
        pass

    def fail(big):
        raise ValueError(big)

    with TaskOrchestrator(keep_finished=2, journal=MemoryJournal()) as orch:
        big = Big()
        ref = weakref.ref(big)
        handle = orch.submit(fail, big)
        assert isinstance(handle.exception(PATIENCE), ValueError)
        del big, handle
        for n in range(4):
            assert orch.submit(abs, n).result(PATIENCE) == n
        assert orch.wait(PATIENCE)
        gc.collect()
        assert ref() is None
