"""Executors of the user's: threads, processes, broken pools, and odd ones."""

# pyright: basic, reportArgumentType=false, reportAttributeAccessIssue=false
# pyright: reportCallIssue=false, reportOptionalMemberAccess=false
# pyright: reportAssignmentType=false
# What does not fit is the point here.

from __future__ import annotations

import asyncio
import contextvars
import multiprocessing
import os
import pickle
import signal
import threading
from concurrent.futures import (
    Future,
    ProcessPoolExecutor,
    ThreadPoolExecutor,
)

import pytest
from tests.api.tools import PATIENCE

import taskorch
from taskorch import (
    InvalidTaskError,
    NotRunningError,
    Resources,
    RetryPolicy,
    Task,
    TaskCancelledError,
    TaskFailedError,
    TaskOrchestrator,
    TaskState,
    TaskTimeoutError,
    current_context,
)
from taskorch.api.executors.remote import RemoteEnd, end_of

#: Not `fork`: this process has threads.
PROCESSES = multiprocessing.get_context("forkserver")
# What every worker would import for itself.
PROCESSES.set_forkserver_preload(["pytest", "taskorch.api._orchestrator"])
VARIABLE: contextvars.ContextVar[str] = contextvars.ContextVar("VARIABLE", default="")


# -- what processes can find by its name ---------------------------------------------


def whereabouts():
    return os.getpid()


def look(task, context):
    return (
        os.getpid(),
        task.payload,
        task.id,
        tuple(task.after),
        context.task_id,
        context.attempt,
        context.fence,
        dict(context.results),
        context.allocation,
        context.restored,
        context.cancelled,
    )


def report(task, context):
    getattr(context, task.payload)(1)


def raise_it(error):
    raise error


def raise_exit():
    raise SystemExit(3)


class NeedsArgs(Exception):
    def __init__(self, a, b):
        super().__init__(f"{a} and {b}")


class BadReduce(Exception):
    def __reduce__(self):
        raise RuntimeError("reduce")


class BadRebuild(Exception):
    def __reduce__(self):
        return _explode, ()


class NoStr(Exception):
    def __str__(self):
        raise RuntimeError

    __repr__ = __str__


class Changeling(Exception):
    def __reduce__(self):
        return ValueError, ("changed",)


def _explode():
    raise RuntimeError("rebuild")


def raise_needs_args():
    raise NeedsArgs(1, 2)


def raise_bad_reduce():
    raise BadReduce("reduced")


def raise_bad_rebuild():
    raise BadRebuild("rebuilt")


def raise_no_str():
    raise NoStr


def raise_changeling():
    raise Changeling("mine")


def return_lock():
    return threading.Lock()


class Trap:
    """Can be pickled, and not unpickled."""

    def __reduce__(self):
        return _explode, ()


def return_trap():
    return Trap()


def return_coroutine_function():
    async def coroutine():
        return 5

    return coroutine()


def die(path, times):
    """Kill the worker, as often as *times*, counted in a file."""
    with open(path, "a") as file:  # noqa: PTH123
        file.write("x")
    with open(path) as file:  # noqa: PTH123
        count = len(file.read())
    if count <= times:
        os.kill(os.getpid(), signal.SIGKILL)
    return count


def leave():
    os._exit(5)


# -- helpers -------------------------------------------------------------------------


class Phoenix:
    """An executor that has a new process pool whenever the old one is broken."""

    def __init__(self, workers=1):
        self.workers = workers
        self.pools = []
        self.lock = threading.Lock()

    def submit(self, fn, /, *args, **kwargs):
        with self.lock:
            if not self.pools or self.pools[-1]._broken:
                self.pools.append(
                    ProcessPoolExecutor(self.workers, mp_context=PROCESSES)
                )
            return self.pools[-1].submit(fn, *args, **kwargs)

    def shutdown(self):
        for pool in self.pools:
            pool.shutdown()


@pytest.fixture(scope="module")
def workers():
    with ProcessPoolExecutor(1, mp_context=PROCESSES) as pool:
        pool.submit(whereabouts).result(PATIENCE)
        yield pool


@pytest.fixture
def orch(workers):
    with (
        ThreadPoolExecutor(2, "mine") as threads,
        TaskOrchestrator(executors={"cpu": workers, "mine": threads}) as orch,
    ):
        yield orch
        # The pool is whole, and so are we.
        remote = orch.submit_task(Task.call(whereabouts, executor="cpu"))
        assert remote.result(PATIENCE) != os.getpid()
        assert orch.submit(pow, 2, 5).result(PATIENCE) == 32


def remotely(orch, fn, *args, **options):
    return orch.submit_task(Task.call(fn, *args, executor="cpu", **options))


# -- threads of the user's -----------------------------------------------------------


def test_a_thread_pool_of_the_users_gets_a_full_context(orch):
    """The call is a task like on our own threads: context, variables, waiting."""
    VARIABLE.set("set")
    seen = []

    def inside():
        context = current_context()
        context.progress("half")
        seen.append(
            (context.task_id, VARIABLE.get(), threading.current_thread().name[:4])
        )
        return orch.submit(pow, 2, 6).result(PATIENCE)

    handle = orch.submit_task(Task.call(inside, executor="mine", id="t"))
    assert handle.result(PATIENCE) == 64
    assert seen == [("t", "set", "mine")]
    assert orch.get_task_status("t").progress == "half"


def test_a_task_on_a_thread_pool_can_be_cancelled_before_and_while_it_runs(orch):
    """Waiting in the pool it never starts; running, it is asked to stop."""
    begun, free = threading.Event(), threading.Event()

    def loop():
        begun.set()
        context = current_context()
        while not context.cancelled:
            free.wait(0.001)
        context.checkpoint()

    handles = [orch.submit_task(Task.call(loop, executor="mine")) for _ in range(4)]
    assert begun.wait(PATIENCE)
    for handle in reversed(handles):
        assert handle.cancel()
    for handle in handles:
        with pytest.raises(TaskCancelledError):
            handle.result(PATIENCE)
    assert orch.get_stats().leaked == 0


@pytest.mark.parametrize(
    "error", [SystemExit(1), KeyboardInterrupt(), StopIteration(), GeneratorExit()]
)
def test_what_is_raised_on_a_thread_pool_is_wrapped_likewise(orch, error):
    """The pool's thread survives it too."""
    handle = orch.submit_task(Task.call(raise_it, error, executor="mine"))
    with pytest.raises(TaskFailedError) as caught:
        handle.result(PATIENCE)
    assert caught.value.__cause__ is error


def test_a_coroutine_that_nobody_awaits_is_told_there_too(orch):
    """As on our own threads."""
    handle = orch.submit_task(Task.call(return_coroutine_function, executor="mine"))
    with pytest.raises(TypeError, match="coroutine"):
        handle.result(PATIENCE)


# -- processes -----------------------------------------------------------------------


def test_a_function_runs_in_a_process_with_arguments_and_dependencies(orch):
    """What goes and what comes is pickled."""
    parent = orch.submit(pow, 2, 3)
    assert remotely(orch, pow, parent, 2).result(PATIENCE) == 64
    assert remotely(orch, sum, [parent, 1]).result(PATIENCE) == 9
    assert remotely(orch, dict, kwargs={"a": 1}).result(PATIENCE) == {"a": 1}
    assert remotely(orch, whereabouts).result(PATIENCE) != os.getpid()


def test_a_worker_in_a_process_gets_a_read_only_copy_of_its_context(orch):
    """With the results that it depends on, and ids in the place of handles."""
    orch.agent("far", capabilities={"look"}, executor="cpu")(look)
    parent = orch.submit_task(Task.call(pow, 2, 3, id="parent"))
    retry = RetryPolicy(max_attempts=2, retry_on=lambda error: False)
    handle = orch.submit_task(
        Task("look", {"a": 1}, id="t", after=[parent], retry=retry)
    )
    pid, *rest_ = handle.result(PATIENCE)
    assert pid != os.getpid()
    assert rest_ == [
        {"a": 1},
        "t",
        ("parent",),
        "t",
        1,
        (1, 1),
        {"parent": 8},
        Resources(),
        None,
        False,
    ]


def named_of_context(name):
    return getattr(taskorch.current_context(), name)


def spend(tokens):
    taskorch.current_context().spent(tokens=tokens)


def test_who_cannot_say_what_it_spends_is_told_and_counts_whole(orch):
    with orch.budget("release", tokens=100) as budget:
        needs = {"tokens": 20}
        task = Task.call(spend, 3, executor="cpu", resources=needs)
        error = orch.submit_task(task).exception(PATIENCE)
    assert isinstance(error, NotRunningError)
    assert "context.spent() does not reach" in str(error)
    assert budget.usage.spent == {"tokens": 20}


@pytest.mark.parametrize("name", ["workflow", "aio"])
def test_what_a_process_lacks_of_the_context_is_said(orch, name):
    wf = taskorch.Workflow("w")
    wf.task(named_of_context, name, executor="cpu", id="x")
    with pytest.raises(taskorch.WorkflowFailedError) as caught:
        orch.workflows.start(wf).result(PATIENCE)
    error = caught.value.failures["x"]
    assert isinstance(error, NotRunningError)
    assert f"context.{name} does not reach" in str(error)
    assert error.hint
    alone = remotely(orch, named_of_context, name)
    if name == "workflow":
        assert alone.result(PATIENCE) is None
    else:
        assert isinstance(alone.exception(PATIENCE), NotRunningError)


@pytest.mark.parametrize("method", ["progress", "checkpoint"])
def test_what_does_not_reach_us_from_another_process_says_so(orch, method):
    """The context's methods are refused there, with the remedy."""
    orch.agent("far", capabilities={"report"}, executor="cpu")(report)
    with pytest.raises(NotRunningError, match="another process") as caught:
        orch.submit_task(Task("report", method)).result(PATIENCE)
    assert method in str(caught.value)
    assert "return" in caught.value.hint


def test_an_exception_comes_back_as_it_was_with_its_traceback(orch):
    """The other process's traceback is its cause."""
    error = ValueError("far away")
    error.retry_after = 5
    with pytest.raises(ValueError, match="far away") as caught:
        remotely(orch, raise_it, error).result(PATIENCE)
    assert caught.value.retry_after == 5
    assert "raise_it" in str(caught.value.__cause__)


@pytest.mark.parametrize(
    ("fn", "kind", "message"),
    [
        (raise_needs_args, "NeedsArgs", "1 and 2"),
        (raise_bad_reduce, "BadReduce", "reduced"),
        (raise_bad_rebuild, "BadRebuild", "rebuilt"),
        (raise_no_str, "NoStr", ""),
        (raise_changeling, "Changeling", "mine"),
        (raise_exit, "SystemExit", "3"),
    ],
)
def test_an_exception_that_cannot_be_pickled_does_not_break_the_pool(
    orch, fn, kind, message
):
    """It arrives as it is, or as a TaskFailedError with its type, words and traceback."""
    if fn in (raise_no_str, raise_needs_args):
        error = remotely(orch, fn).exception(PATIENCE)
        assert type(error) is {"NoStr": NoStr, "NeedsArgs": NeedsArgs}[kind]
        assert fn is raise_no_str or str(error) == message
        return
    with pytest.raises(TaskFailedError) as caught:
        remotely(orch, fn, id="t").result(PATIENCE)
    error = caught.value
    assert error.type == kind
    assert f"task t raised {kind}: {message}" in str(error)
    if fn is not raise_exit:
        assert fn.__name__ in error.traceback


@pytest.mark.parametrize(
    ("fn", "kind"),
    [
        (return_lock, "lock"),
        (return_trap, "Trap"),
        (return_coroutine_function, "coroutine"),
    ],
)
@pytest.mark.filterwarnings("ignore:coroutine")
def test_a_result_that_cannot_be_pickled_fails_its_task_alone(orch, fn, kind):
    """The type and the reason are told."""
    with pytest.raises(TaskFailedError, match="cannot be pickled") as caught:
        remotely(orch, fn, id="t").result(PATIENCE)
    assert f"task t returned a {kind}" in str(caught.value)
    assert "another process" in caught.value.hint


@pytest.mark.parametrize("kind", ["function", "argument", "result"])
def test_what_cannot_be_sent_fails_its_task_with_what_to_do(orch, kind):
    """The executor is named, and what can be sent to it."""
    if kind == "function":
        task = Task.call(lambda: 5, executor="cpu", id="t")
    elif kind == "argument":
        task = Task.call(id, threading.Lock(), executor="cpu", id="t")
    else:
        lock = orch.submit(threading.Lock)
        task = Task.call(id, lock, executor="cpu", id="t")
    with pytest.raises(InvalidTaskError, match="sent to executor 'cpu'") as caught:
        orch.submit_task(task).result(PATIENCE)
    assert "task t" in str(caught.value)
    assert "pickled" in caught.value.hint


def test_large_results_come_back_whole(orch):
    """Megabytes pass through."""
    assert len(remotely(orch, bytes, 20_000_000).result(PATIENCE)) == 20_000_000


# -- workers that die ----------------------------------------------------------------


@pytest.fixture
def phoenix():
    executor = Phoenix()
    yield executor
    executor.shutdown()


def test_a_worker_that_is_killed_costs_the_task_no_attempt(phoenix, tmp_path):
    """The attempt is lost and tried again, with `max_attempts=1` too."""
    path = str(tmp_path / "count")
    retrying = []
    with TaskOrchestrator(executors={"cpu": phoenix}) as orch:
        orch.signals.task_retrying.connect(retrying.append)
        handle = remotely(orch, die, path, 2)
        assert handle.result(PATIENCE) == 3
        assert orch.get_task_status(handle.task_id).attempts == 3
        assert orch.submit(pow, 2, 5).result(PATIENCE) == 32
        assert orch.wait(PATIENCE)
    assert [(e.cause, e.charged) for e in retrying] == [("lost", False)] * 2


@pytest.mark.parametrize("fn", ["kill", "leave"])
def test_a_task_that_kills_its_worker_three_times_is_poisoned(phoenix, tmp_path, fn):
    """It ends, instead of killing workers for ever; others are not blamed."""
    failed = []
    with TaskOrchestrator(executors={"cpu": phoenix}) as orch:
        orch.signals.task_failed.connect(failed.append)
        if fn == "kill":
            handle = remotely(orch, die, str(tmp_path / "count"), 99)
        else:
            handle = remotely(orch, leave)
        error = handle.exception(PATIENCE)
        assert error is not None
        status = orch.get_task_status(handle.task_id)
        assert (status.state, status.attempts) == (TaskState.FAILED, 3)
        assert "killed their worker" in str(orch.explain(handle.task_id))
        assert orch.get_stats().failures == {"poisoned": 1}
        other = remotely(orch, pow, 2, 5)
        assert other.result(PATIENCE) == 32
        assert orch.wait(PATIENCE)
    assert [event.cause for event in failed] == ["poisoned"]


def test_a_pool_that_is_shut_down_over_waiting_calls_hangs_nobody():
    """It cancels them under its own lock; what waits behind them fails too."""
    free = threading.Event()
    pool = ThreadPoolExecutor(1)
    with TaskOrchestrator(executors={"cpu": pool}, concurrency=3) as orch:
        handles = [remotely(orch, free.wait, PATIENCE) for _ in range(6)]
        pool.shutdown(wait=False, cancel_futures=True)
        free.set()
        assert handles[0].result(PATIENCE) is True
        for handle in handles[1:]:
            assert isinstance(
                handle.exception(PATIENCE), TaskFailedError | RuntimeError
            )
        assert orch.submit(pow, 2, 5).result(PATIENCE) == 32


# -- odd executors -------------------------------------------------------------------


def odd_task(executor, **options):
    with TaskOrchestrator(executors={"odd": executor}) as orch:
        handle = orch.submit_task(Task.call(pow, 2, 3, executor="odd", **options))
        try:
            return handle.result(PATIENCE)
        finally:
            assert orch.submit(pow, 2, 5).result(PATIENCE) == 32
            assert orch.wait(PATIENCE)


def test_an_executor_that_has_been_shut_down_fails_its_tasks():
    """What it raises is the task's error."""
    pool = ThreadPoolExecutor(1)
    pool.shutdown()
    with pytest.raises(RuntimeError, match="shutdown"):
        odd_task(pool)


@pytest.mark.parametrize("error", [ValueError("no"), SystemExit(3)])
def test_an_executor_whose_submit_raises_fails_its_tasks(error):
    """Even if it raises more than an Exception."""

    class Bad:
        def submit(self, fn, /, *args, **kwargs):
            raise error

    with pytest.raises((ValueError, TaskFailedError)):
        odd_task(Bad())


@pytest.mark.parametrize("answer", [None, 5, "done"])
def test_an_executor_that_returns_no_future_fails_its_tasks(answer):
    """The executor is named, and what it returned."""

    class Bad:
        def submit(self, fn, /, *args, **kwargs):
            return answer

    with pytest.raises(TypeError, match="executor 'odd'") as caught:
        odd_task(Bad())
    assert "Future" in str(caught.value)


def test_an_executor_that_calls_at_once_will_do():
    """Done before `submit` returns."""

    class Now:
        def submit(self, fn, /, *args, **kwargs):
            future = Future()
            try:
                future.set_result(fn(*args, **kwargs))
            except BaseException as error:
                future.set_exception(error)
            return future

    assert odd_task(Now()) == 8


def test_an_executor_that_cancels_a_call_of_its_own_accord_fails_the_task():
    """Nobody asked for it, so the task was not cancelled."""

    class Lazy:
        def submit(self, fn, /, *args, **kwargs):
            future = Future()
            future.cancel()
            return future

    with pytest.raises(TaskFailedError) as caught:
        odd_task(Lazy())
    assert "cancelled" in str(caught.value)


def test_an_executor_that_answers_twice_settles_its_task_once():
    """The first answer counts."""

    class Twice:
        def submit(self, fn, /, *args, **kwargs):
            future = Future()
            future.set_result(fn(*args, **kwargs))
            future._invoke_callbacks()
            add = future.add_done_callback
            future.add_done_callback = lambda callback: (add(callback), add(callback))
            return future

    assert odd_task(Twice()) == 8


def test_an_executor_that_never_answers_is_bounded_by_the_timeout():
    """Its future is cancelled, and the task fails."""
    futures = []

    class Black:
        def submit(self, fn, /, *args, **kwargs):
            futures.append(Future())
            return futures[-1]

    with pytest.raises(TaskTimeoutError):
        odd_task(Black(), timeout=0.02)
    assert futures[0].cancelled()


def test_a_future_that_is_like_one_will_do():
    """Anything with `add_done_callback`, `exception`, `result` and `cancelled`."""

    class Like:
        def __init__(self, value):
            self.value = value

        def add_done_callback(self, callback):
            callback(self)

        def cancelled(self):
            return False

        def exception(self):
            return None

        def result(self):
            return self.value

    class Cluster:
        def submit(self, fn, /, *args, **kwargs):
            return Like(fn(*args, **kwargs))

    assert odd_task(Cluster()) == 8


def test_a_call_on_an_executor_is_awaited_like_any(orch):
    """Handles do not differ by where the work is done."""

    async def main():
        handles = [remotely(orch, pow, 2, n) for n in range(4)]
        return await asyncio.gather(*handles)

    assert asyncio.run(main()) == [1, 2, 4, 8]


# -- the context in another process --------------------------------------------------


def context_there(*_args):
    context = current_context()
    try:
        context.checkpoint("no")
    except NotRunningError as error:
        refused = error.message
    return {
        "task_id": context.task_id,
        "attempt": context.attempt,
        "results": dict(context.results),
        "cancelled": context.cancelled,
        "left": context.time_left,
        "refused": refused,
        "pid": os.getpid(),
    }


def is_the_same(task, context):
    return current_context() is context, context.task_id


def no_context_is_left(*_args):
    try:
        current_context()
    except NotRunningError:
        return True
    return False


def test_a_function_in_another_process_may_ask_for_its_context(orch):
    """It is a copy that can be read only, as a worker's handler has it there."""
    parent = orch.submit_task(Task.call(abs, -1, id="parent"))
    handle = remotely(orch, context_there, after=[parent], id="t", timeout=PATIENCE)
    there = handle.result(PATIENCE)
    assert (there["task_id"], there["attempt"]) == ("t", 1)
    assert there["results"] == {"parent": 1}
    assert there["cancelled"] is False
    assert 0 < there["left"] <= PATIENCE
    assert "from another process" in there["refused"]
    assert there["pid"] != os.getpid()


def test_what_cannot_be_pickled_keeps_no_function_from_running(orch):
    """Of results that it does not take, it has those that can go there."""
    lock = orch.submit_task(Task.call(threading.Lock, id="lock"))
    one = orch.submit_task(Task.call(abs, -1, id="one"))
    there = remotely(orch, context_there, after=[lock, one]).result(PATIENCE)
    assert there["results"] == {"one": 1}
    assert there["left"] is None


def test_a_handler_in_another_process_has_one_context(orch):
    orch.agent("far", capabilities={"x"}, executor="cpu")(is_the_same)
    assert orch.submit_task(Task("x", id="h")).result(PATIENCE) == (True, "h")


def test_a_context_ends_with_its_call(orch, workers):
    remotely(orch, context_there).result(PATIENCE)
    assert workers.submit(no_context_is_left).result(PATIENCE)


class Gone:
    """Can be sent, and not be received."""

    def __reduce__(self):
        return raise_it, (ValueError("it is gone"),)


@pytest.mark.parametrize(
    ("end", "said", "hint"),
    [
        (
            RemoteEnd(None, raised=False, kind="Odd", message="no way"),
            "task t returned an Odd that cannot be pickled: no way",
            "what is returned in another process comes back pickled",
        ),
        (
            RemoteEnd(pickle.dumps(Gone()), raised=False, kind="Gone"),
            "task t returned a Gone that cannot be pickled: it is gone",
            "what is returned in another process comes back pickled",
        ),
        (
            RemoteEnd(None, raised=True, kind="Odd", message="no way"),
            "task t raised Odd: no way",
            (
                "what is raised in another process comes back pickled, which this "
                "cannot be: retry_on and except see a TaskFailedError"
            ),
        ),
    ],
)
def test_what_cannot_come_back_is_said_with_its_reason(end, said, hint):
    value, error = end_of(end, "t")
    assert value is None
    assert (error.message, error.hint or "") == (said, hint)
    assert error.type == ("Odd" if end.raised else "PicklingError")
