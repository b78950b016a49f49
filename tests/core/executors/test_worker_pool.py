"""Worker processes where the system, or somebody else, has no room for them."""

from __future__ import annotations

import errno
import logging
import os
import pickle
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from tests.api.tools import PATIENCE, eventually
from tests.core.executors import in_workers

from taskorch.api.executors.remote import HERE, pickled
from taskorch.core.executors import wire
from taskorch.core.executors._processes import _pool, _process
from taskorch.core.executors._processes._attempts import Processes
from taskorch.core.executors.remote import TooLargeError
from taskorch.errors import AttemptInterrupted, InvalidTaskError
from taskorch.model import Call, Task
from taskorch.testing.laws._attempt_executor import Try


class Made(Try):
    """An attempt that says what becomes of it."""

    def __init__(self, fn: Callable[..., Any], *args: Any, number: int = 1) -> None:
        super().__init__(Task("t", Call(fn, args), id=f"t{number}"))
        self.number = number
        self.refused: list[BaseException] = []
        self.heard: list[tuple[str, Any]] = []
        self.answer: BaseException | None = None

    def unstarted(self, error: BaseException) -> None:
        self.refused.append(error)
        super().unstarted(error)

    def told(self, what: str, value: Any) -> None:
        if what == "variables":
            # The pool asks, before it begins.
            return
        self.heard.append((what, value))
        if self.answer is not None:
            raise self.answer

    @property
    def ended(self) -> tuple[Any, BaseException | None]:
        assert self.wait(PATIENCE)
        ((value, error),) = self.ends
        return value, error


class Bare(Made):
    """One that sends its function as it is: what that returns comes back pickled."""

    def portable(self) -> Callable[[], Any]:
        fn, args, _ = self.call()
        return partial(fn, *args)


@pytest.fixture
def processes() -> Iterator[Processes]:
    executor = Processes(1)
    yield executor
    executor.close(PATIENCE)


def begun(processes: Processes, attempt: Made) -> Made:
    attempt.begun = processes.begin(attempt)
    return attempt


RUBBISH = b"this is no frame, and long enough to be taken for one"
NO_ROOM = OSError(errno.EMFILE, "too many open files")


def two_given(processes: Processes, first: Made, second: Made) -> Any:
    """The pool, once its one worker has the first, and the second in advance."""
    begun(processes, first)
    begun(processes, second)
    pool: Any = processes._pool
    eventually(lambda: any(len(worker.given) > 1 for worker in pool._workers))
    return pool


def deaf_until(pool: Any, path: Path) -> None:
    """Let *pool* hear nothing of what its workers say until *path* is there."""
    deaf = threading.Event()

    def wait() -> None:
        deaf.set()
        eventually(path.exists)

    pool._loop.call(wait)
    assert deaf.wait(PATIENCE)


def test_without_a_descriptor_it_is_made_later(
    processes: Processes, monkeypatch: pytest.MonkeyPatch
) -> None:
    def start(self: Any) -> None:
        raise NO_ROOM

    with monkeypatch.context() as patch:
        patch.setattr(_process.WorkerProcess, "start", start)
        refused = begun(processes, Made(pow, 2, 3))
        assert refused.ended == (None, NO_ROOM)
    processes.stop(refused.begun, 0)
    assert len(refused.ends) == 1
    attempt = begun(processes, Made(pow, 2, 3))
    assert attempt.ended == (8, None)
    assert attempt.refused == []


def test_if_there_is_another_worker_it_waits_for_that(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    processes, go = Processes(2), tmp_path / "go"
    try:
        first = begun(processes, Made(in_workers.until, str(go)))
        pool: Any = processes._pool
        eventually(lambda: any(worker.is_ready for worker in pool._workers))

        tried = threading.Event()

        def start(self: Any) -> None:
            tried.set()
            raise NO_ROOM

        monkeypatch.setattr(_process.WorkerProcess, "start", start)
        second = begun(processes, Made(pow, 2, 3, number=2))
        assert tried.wait(PATIENCE)
        go.touch()
        assert first.ended == (None, None)
        assert second.ended == (8, None)
    finally:
        processes.close(PATIENCE)


def test_without_a_python_there_are_none(
    processes: Processes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/application")
    attempt = begun(processes, Made(pow, 2, 3))
    assert "need a Python interpreter" in str(attempt.ended[1])


def test_without_a_thread_it_is_refused(
    processes: Processes, monkeypatch: pytest.MonkeyPatch
) -> None:
    def start(self: Any) -> None:
        msg = "can't start new thread"
        raise RuntimeError(msg)

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", start)
        with pytest.raises(RuntimeError, match="new thread"):
            processes.begin(Made(pow, 2, 3))
    assert begun(processes, Made(pow, 2, 3)).ended == (8, None)


def test_its_thread_gives_up_and_the_next_begins_anew(
    processes: Processes,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def broken(self: Any) -> None:
        raise NO_ROOM

    with monkeypatch.context() as patch:
        patch.setattr(_pool.Loop, "open", broken)
        attempt = begun(processes, Made(pow, 2, 3))
        assert attempt.ended == (None, NO_ROOM)
        pool: Any = processes._pool
        eventually(lambda: pool._thread is None)
    assert "has to give up" in caplog.text
    running, ahead = Made(time.sleep, 3600), Made(pow, 2, 3, number=2)
    two_given(processes, running, ahead)
    behind = begun(processes, Made(pow, 2, 3, number=3))

    def wait() -> float:
        raise NO_ROOM

    pool._loop._patience = wait
    pool._loop.call(lambda: None)
    eventually(lambda: pool._thread is None)
    assert "too many open files" in str(running.ended[1])
    assert ahead.ended[1] is not None
    assert behind.ended[1] is not None
    assert begun(processes, Made(pow, 2, 4)).ended == (16, None)


def test_what_was_returned_before_the_rubbish_is_not_lost_with_it(
    processes: Processes, tmp_path: Path
) -> None:
    """Though both have come by the time somebody looks."""
    go, done = tmp_path / "go", tmp_path / "done"
    first = Made(in_workers.wait_and_return, str(go), 8)
    second = Made(in_workers.writes_rubbish, str(go), RUBBISH, str(done), number=2)
    pool = two_given(processes, first, second)
    deaf_until(pool, done)
    go.touch()
    assert first.ended == (8, None)
    assert "t2 was killed: something in the task" in str(second.ended[1])


@pytest.mark.parametrize("rubbish", [RUBBISH, b"x"])
def test_rubbish_that_is_written_by_one_ends_the_next_too(
    processes: Processes, rubbish: bytes, tmp_path: Path
) -> None:
    """The worker has begun with it, and what it tells cannot be read."""
    go, done, next_ = (tmp_path / name for name in ("go", "done", "next"))
    first = Made(in_workers.writes_rubbish, str(go), rubbish, str(done))
    second = Made(in_workers.says_and_sleeps, str(next_), number=2)
    pool = two_given(processes, first, second)
    deaf_until(pool, next_)
    go.touch()
    for attempt in (first, second):
        assert "or in one before it, wrote to the desc" in str(attempt.ended[1])
    assert begun(processes, Made(pow, 2, 3, number=3)).ended == (8, None)


@pytest.mark.parametrize("rubbish", [b"x", b"tko2 and what is no kind"])
def test_rubbish_is_found_out_while_its_task_goes_on(
    processes: Processes, rubbish: bytes, tmp_path: Path
) -> None:
    go = tmp_path / "go"
    go.touch()
    attempt = Made(in_workers.writes_rubbish_and_sleeps, str(go), rubbish)
    assert "wrote to the descriptor" in str(begun(processes, attempt).ended[1])


def test_as_many_bytes_as_may_be_sent_can_be() -> None:
    value = {"n": list(range(100))}
    data = pickled(value, 2**20)
    assert pickle.loads(data) == value
    assert pickled(value, len(data)) == data
    with pytest.raises(TooLargeError):
        pickled(value, len(data) - 1)


def test_closed_what_was_given_in_advance_is_told(processes: Processes) -> None:
    first, second = Made(time.sleep, 3600), Made(pow, 2, 3, number=2)
    two_given(processes, first, second)
    processes.close(PATIENCE)
    assert first.ended[1] is not None
    assert isinstance(second.ended[1], AttemptInterrupted)


def test_once_closed_it_takes_no_more(processes: Processes) -> None:
    assert begun(processes, Made(pow, 2, 3)).ended == (8, None)
    processes.close(PATIENCE)
    processes.close(PATIENCE)
    with pytest.raises(RuntimeError, match="take no more"):
        processes.begin(Made(pow, 2, 3))


def test_closed_at_once_all_are_told(processes: Processes) -> None:
    attempts = [begun(processes, Made(pow, 2, n, number=n)) for n in range(5)]
    processes.close(PATIENCE)
    for attempt in attempts:
        value, error = attempt.ended
        assert isinstance(error, AttemptInterrupted) or value == 2**attempt.number


def test_closed_from_an_end_it_does_not_wait_for_itself(processes: Processes) -> None:
    attempt = Made(pow, 2, 3)
    attempt._on_end = partial(processes.close, PATIENCE)
    begun(processes, attempt)
    assert attempt.ended == (8, None)


def test_before_anything_was_begun_nothing_is_stopped() -> None:
    processes = Processes()
    processes.end_all(1)
    processes.close(1)


def test_where_the_system_tells_no_end_it_is_looked_for(
    processes: Processes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on macOS."""
    monkeypatch.delattr(os, "pidfd_open", raising=False)
    assert "code 3" in str(begun(processes, Made(in_workers.leave, 3)).ended[1])
    assert begun(processes, Made(pow, 2, 3)).ended == (8, None)


def test_somebody_else_may_take_its_exit_code(
    processes: Processes, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(process: Any) -> int:
        process.wait()
        raise ChildProcessError

    monkeypatch.setattr(_process, "exit_code_of", gone)
    error = begun(processes, Made(in_workers.leave, 3)).ended[1]
    assert "somebody else has taken its exit code" in str(error)


def test_a_message_may_be_too_long_for_the_system(
    processes: Processes, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Then a call goes over the wire, and none ahead of its time."""

    class Short:
        def __init__(self, sock: Any) -> None:
            self.close = sock.close

        def send(self, *args: Any) -> int:
            raise OSError(errno.EMSGSIZE, "too long")

    go = tmp_path / "go"
    first = begun(processes, Made(in_workers.until, str(go)))
    pool: Any = processes._pool
    eventually(lambda: any(worker.is_ready for worker in pool._workers))
    (worker,) = pool._workers
    worker._ours = Short(worker._ours)
    others = [begun(processes, Made(pow, 2, n, number=n)) for n in range(4)]
    go.touch()
    assert first.ended == (None, None)
    assert [other.ended[0] for other in others] == [1, 2, 4, 8]


def test_what_cannot_be_read_here_fails_its_attempt(processes: Processes) -> None:
    assert "not here" in str(begun(processes, Bare(in_workers.Explodes)).ended[1])
    assert "invalid literal" in str(begun(processes, Bare(int, "x")).ended[1])
    assert begun(processes, Bare(pow, 2, 3)).ended == (8, None)


class OnlyPickledError(Exception):
    """It can be pickled, and not be read again."""

    def __reduce__(self) -> Any:
        return int, ("no number",)


@pytest.mark.parametrize(
    "answer", [in_workers.LockedError(), OnlyPickledError("no entry")]
)
def test_what_a_task_tells_is_answered(
    processes: Processes, answer: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    """Though the answer cannot be sent as it is."""
    attempt = Made(in_workers.tells, "t1", 1)
    attempt.answer = answer
    begun(processes, attempt)
    assert attempt.ended == ("RuntimeError: no entry", None)
    assert attempt.heard == [("progress", 5), ("checkpoint", 6)]
    assert "progress() of task t1: no entry" in caplog.text


def test_without_a_thread_for_it_the_task_is_told(
    processes: Processes, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    go = tmp_path / "go"
    attempt = begun(processes, Made(in_workers.tells, "t1", 1, str(go)))
    pool: Any = processes._pool
    eventually(lambda: any(worker.is_ready for worker in pool._workers))

    def start(self: Any) -> None:
        msg = "can't start new thread"
        raise RuntimeError(msg)

    monkeypatch.setattr(threading.Thread, "start", start)
    go.touch()
    assert attempt.ended == ("RuntimeError: can't start new thread", None)


def test_records_that_cannot_be_read_are_said(
    processes: Processes, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    caplog.set_level(logging.INFO)
    go = tmp_path / "go"
    begun(processes, Made(in_workers.logs_later, str(go))).ended  # noqa: B018 - its end
    go.touch()
    eventually(lambda: "after the end" in caplog.text)
    assert "a record of a worker process cannot be read" in caplog.text


def test_a_worker_that_brings_in_its_script_begins_none(
    processes: Processes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(HERE, "is_importing_main", True)
    with pytest.raises(InvalidTaskError, match="once more") as got:
        processes.begin(Made(pow, 2, 3))
    assert "__main__" in got.value.hint


@pytest.mark.parametrize(
    ("name", "says"), [("ours.script", "8\n"), ("ours", "AttributeError")]
)
def test_a_module_may_be_the_script(name: str, says: str, tmp_path: Path) -> None:
    """`python -m`; the main module of a package is not brought in."""
    script = """
        from taskorch import Task, TaskOrchestrator

        def f():
            return 8

        if __name__ == "__main__":
            with TaskOrchestrator(executors={"process": 1}) as orch:
                handle = orch.submit_task(Task.call(f, executor="process"))
                print(handle.exception() or handle.result())
    """
    package = tmp_path / "ours"
    package.mkdir()
    for file in ("script.py", "__main__.py"):
        text = textwrap.dedent(script)
        (package / file).write_text(text, encoding="utf-8")
    (package / "__init__.py").touch()
    done = subprocess.run(
        [sys.executable, "-m", name],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=2 * PATIENCE,
        check=True,
    )
    assert says in done.stdout


@pytest.mark.slow("a worker for each false answer")
@pytest.mark.parametrize("kind", [wire.RETURNED, wire.END, wire.UNREADABLE])
@pytest.mark.parametrize("whose", ["another's", "nobody's"])
def test_an_answer_to_another_call_is_nobodys_result(
    processes: Processes, kind: int, whose: str, tmp_path: Path
) -> None:
    """The call, what it was told for, and the worker with all it has are given up."""
    go = tmp_path / "go"
    first = begun(processes, Made(in_workers.wait_and_return, str(go), 8))
    go.touch()
    assert first.ended == (8, None)
    number = first.begun.number if whose == "another's" else b"\xff" * wire.NUMBER
    body = pickle.dumps(("ValueError", "it was another"))
    if kind == wire.RETURNED:
        body = wire.RETURNED_BEFORE.pack(0, 0) + pickle.dumps(7)
    answer = wire.frame(kind, number, body)
    attempt = Made(in_workers.writes_rubbish_and_sleeps, str(go), answer, number=2)
    assert "wrote to the descriptor" in str(begun(processes, attempt).ended[1])
    assert first.ended == (8, None)
    assert begun(processes, Made(pow, 2, 3, number=3)).ended == (8, None)


def test_a_call_that_was_stopped_gives_its_result_to_no_other(
    processes: Processes,
) -> None:
    """Whatever the worker has taken by then, and in which order it goes on."""
    for round_ in range(100):
        attempts = [Made(pow, n, 1, number=n) for n in range(4)]
        for attempt in attempts:
            begun(processes, attempt)
        stopped = attempts[round_ % 4]
        processes.stop(stopped.begun, 600)
        for attempt in attempts:
            value, error = attempt.ended
            is_stopped = isinstance(error, AttemptInterrupted)
            assert value == attempt.number or (attempt is stopped and is_stopped)
