"""check_attempt_executor: executors of ours pass, and each planted mistake is named."""

from __future__ import annotations

import multiprocessing
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs
import pytest
from tests.testing.laws.tools import Planted, each, violation

from taskorch import TaskHandle, TaskOrchestrator
from taskorch.core.engine._loops import Coroutines, LoopHost
from taskorch.core.executors._futures import FuturesExecutor
from taskorch.core.executors._processes._attempts import Processes
from taskorch.core.executors._programs._attempts import Programs
from taskorch.core.executors._threads import Worker, WorkerThreads
from taskorch.errors import AttemptInterrupted, TaskCancelledError
from taskorch.protocols import Attempt, AttemptExecutor
from taskorch.testing.laws import check_attempt_executor
from taskorch.testing.laws._case import laws_of

SLOW = pytest.mark.slow("the laws, for one like another")

EXAMPLES = Path(__file__).parents[3] / "examples"
PATIENCE = 60.0
#: Not `fork`: this process has threads.
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["taskorch.testing.laws"])


class Right(AttemptExecutor[threading.Thread]):
    """The shortest one that keeps the laws."""

    def begin(self, attempt: Attempt) -> threading.Thread:
        thread = threading.Thread(target=self.do, args=(attempt,), daemon=True)
        thread.start()
        return thread

    def do(self, attempt: Attempt) -> None:
        attempt.run()


# -- ours ----------------------------------------------------------------------------


@contextmanager
def threads() -> Iterator[AttemptExecutor[Any]]:
    def run(worker: Worker, attempt: Attempt) -> None:
        attempt.run()
        worker.leaving = True

    crashes: list[BaseException] = []
    workers = WorkerThreads("law", run, threading.local(), 4, crashes.append)
    yield workers
    for thread in workers.ending():
        thread.join(PATIENCE)
    assert crashes == []


@contextmanager
def loop() -> Iterator[AttemptExecutor[Any]]:
    crashes: list[BaseException] = []
    loops = LoopHost("law", crashes.append)
    yield Coroutines(loops)
    loops.close(PATIENCE)
    assert crashes == []


@contextmanager
def programs() -> Iterator[AttemptExecutor[Any]]:
    executor = Programs(lambda: "law")
    yield executor
    executor.close(PATIENCE)


@contextmanager
def processes() -> Iterator[AttemptExecutor[Any]]:
    executor = Processes(2)
    yield executor
    executor.close(PATIENCE)


@contextmanager
def orchestrator_of_processes() -> Iterator[AttemptExecutor[Any]]:
    with TaskOrchestrator(concurrency=50, executors={"process": 2}, grace=1) as orch:
        yield Through(orch, can_hold=False, executor="process")


@contextmanager
def thread_pool() -> Iterator[AttemptExecutor[Any]]:
    with ThreadPoolExecutor(2) as pool:
        yield FuturesExecutor("pool", pool)


@contextmanager
def like_a_pool() -> Iterator[AttemptExecutor[Any]]:
    class Like:
        def __init__(self, pool: ThreadPoolExecutor) -> None:
            self.submit = pool.submit
            self.shutdown = pool.shutdown

    with ThreadPoolExecutor(2) as pool:
        yield FuturesExecutor("like", Like(pool))


class Through(AttemptExecutor["TaskHandle[Any]"]):
    """All that an orchestrator does for an attempt, as if it were an executor."""

    def __init__(
        self, orch: TaskOrchestrator, *, can_hold: bool, executor: str | None = None
    ) -> None:
        self._orch, self._can_hold = orch, can_hold
        self._executor = executor

    def begin(self, attempt: Attempt) -> TaskHandle[Any]:
        task = attrs.evolve(attempt.task, id=None)
        if self._executor is not None:
            payload = attrs.evolve(task.payload, executor=self._executor)
            task = attrs.evolve(task, payload=payload)
        handle = self._orch.submit_task(task)

        def done(handle: TaskHandle[Any]) -> None:
            error: BaseException | None = TaskCancelledError("")
            if not handle.cancelled():
                error = handle.exception()
            attempt.end(None if error else handle.result(), error)

        handle.add_done_callback(done)
        return handle

    def stop(self, begun: TaskHandle[Any], grace: float) -> None:
        begun.cancel()

    def can_hold(self) -> bool:
        return self._can_hold

    def hold(self, begun: TaskHandle[Any]) -> None:
        self._orch.suspend_task(begun.task_id)

    def resume(self, begun: TaskHandle[Any]) -> None:
        self._orch.resume_task(begun.task_id)


@contextmanager
def orchestrator() -> Iterator[AttemptExecutor[Any]]:
    with TaskOrchestrator(concurrency=50) as orch:
        yield Through(orch, can_hold=False)


@contextmanager
def orchestrator_of_programs() -> Iterator[AttemptExecutor[Any]]:
    with TaskOrchestrator(concurrency=50) as orch:
        yield Through(orch, can_hold=True)


@contextmanager
def shortest() -> Iterator[AttemptExecutor[Any]]:
    yield Right()


@pytest.mark.parametrize(
    ("opened", "work"),
    [
        (shortest, "call"),
        (threads, "call"),
        (orchestrator, "call"),
        (thread_pool, "call"),
        pytest.param(like_a_pool, "call", marks=SLOW),
        (loop, "coroutine"),
        pytest.param(orchestrator, "coroutine", marks=SLOW),
        (programs, "program"),
        pytest.param(orchestrator_of_programs, "program", marks=SLOW),
        (processes, "call"),
        pytest.param(orchestrator_of_processes, "call", marks=SLOW),
    ],
)
def test_ours_keep_the_laws(opened: Any, work: Any) -> None:
    with opened() as executor:
        check_attempt_executor(
            lambda: executor, work=work, examples=3, patience=PATIENCE
        )


@pytest.mark.slow("the laws, with processes")
def test_so_does_one_of_processes() -> None:
    with ProcessPoolExecutor(2, mp_context=PROCESSES) as pool:
        executor = FuturesExecutor("cpu", pool)
        check_attempt_executor(lambda: executor, examples=3, patience=PATIENCE)


@pytest.mark.slow("the laws, with processes")
def test_so_does_the_example(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(EXAMPLES))
    module = __import__("own_executor")
    # Each of many processes that begin with nothing would import the library.
    monkeypatch.setattr(module, "SPAWN", PROCESSES)
    try:
        check_attempt_executor(module.Processes, examples=2, patience=PATIENCE)
    finally:
        del sys.modules["own_executor"]


# -- planted mistakes ----------------------------------------------------------------


class Waits(Right):
    def begin(self, attempt: Attempt) -> threading.Thread:
        thread = super().begin(attempt)
        thread.join()
        return thread


class EndsUnderALock(AttemptExecutor[Any]):
    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.todo: list[Attempt] = []

    def begin(self, attempt: Attempt) -> None:
        threading.Thread(target=self.do, args=(attempt,), daemon=True).start()
        with self.lock:
            self.todo.append(attempt)

    def do(self, attempt: Attempt) -> None:
        error = value = None
        try:
            fn, args, kwargs = attempt.call()
            value = fn(*args, **kwargs)
        except Exception as raised:
            error = raised
        with self.lock:
            attempt.end(value, error)


class DoesTwice(Right):
    def do(self, attempt: Attempt) -> None:
        fn, args, _ = attempt.call()
        threading.Thread(target=fn, args=args, daemon=True).start()
        attempt.run()


class EndsTwice(Right):
    def do(self, attempt: Attempt) -> None:
        attempt.run()
        attempt.end()


class NeverEnds(AttemptExecutor[None]):
    def begin(self, attempt: Attempt) -> None:
        fn, args, _ = attempt.call()
        threading.Thread(target=fn, args=args, daemon=True).start()


class Copies(Right):
    def do(self, attempt: Attempt) -> None:
        fn, args, _ = attempt.call()
        try:
            value = fn(*args)
        except Exception as error:
            attempt.end(error=type(error)("another"))
        else:
            attempt.end((value,))


class KeepsAll(Right):
    """It has a list of all attempts that were begun."""

    def __init__(self) -> None:
        self.all: list[Attempt] = []

    def begin(self, attempt: Attempt) -> threading.Thread:
        self.all.append(attempt)
        return super().begin(attempt)


class TellsByOrder(KeepsAll):
    """What ends last is told of the one that was begun last, and so on."""

    def do(self, attempt: Attempt) -> None:
        error = value = None
        try:
            fn, args, _ = attempt.call()
            value = fn(*args)
        except Exception as raised:
            error = raised
        # Others are begun meanwhile.
        time.sleep(0.01)
        self.all.pop().end(value, error)


class RaisesAndTells(Right):
    def begin(self, attempt: Attempt) -> threading.Thread:
        try:
            attempt.call()
        except Exception as error:
            attempt.end(error=error)
            raise
        return super().begin(attempt)


class StopsAll(KeepsAll):
    def stop(self, begun: threading.Thread, grace: float) -> None:
        for attempt in self.all:
            attempt.end(error=AttemptInterrupted("stopped"))


class StopWaits(Right):
    def stop(self, begun: threading.Thread, grace: float) -> None:
        begun.join()


class StoppedInSilence(AttemptExecutor[Attempt]):
    """What was stopped comes to no end."""

    def __init__(self) -> None:
        self.stopped: list[Attempt] = []

    def begin(self, attempt: Attempt) -> Attempt:
        threading.Thread(target=self.do, args=(attempt,), daemon=True).start()
        return attempt

    def do(self, attempt: Attempt) -> None:
        error = value = None
        try:
            fn, args, _ = attempt.call()
            value = fn(*args)
        except Exception as raised:
            error = raised
        if attempt not in self.stopped:
            attempt.end(value, error)

    def stop(self, begun: Attempt, grace: float) -> None:
        self.stopped.append(begun)


class HoldsNothing(Right):
    def can_hold(self) -> bool:
        return True


class RaisesAtTheEnd(Right):
    def stop(self, begun: threading.Thread, grace: float) -> None:
        begun.join(0.2)
        if not begun.is_alive():
            raise ProcessLookupError


PLANTED: Planted = {
    1: (Waits, EndsUnderALock),
    2: (DoesTwice, EndsTwice, NeverEnds, Copies, TellsByOrder),
    3: (RaisesAndTells,),
    4: (StopsAll,),
    5: (StopWaits, StoppedInSilence),
    6: (HoldsNothing,),
    7: (RaisesAtTheEnd,),
}


@pytest.mark.slow("waits for what never comes")
@pytest.mark.parametrize(("law", "made"), each(PLANTED))
def test_a_planted_mistake_is_named(law: int, made: Callable[[], Any]) -> None:
    found = violation(check_attempt_executor, made, patience=2.0, examples=6)
    assert (found.protocol, found.law) == ("AttemptExecutor", law), found


def test_a_mistake_of_each_law_is_planted() -> None:
    assert list(PLANTED) == list(laws_of(AttemptExecutor))


def test_what_is_no_executor_is_refused() -> None:
    with pytest.raises(TypeError, match=r"begin"):
        check_attempt_executor(BrokenExecutor)  # type: ignore[arg-type]
