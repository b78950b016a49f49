"""Attempts as calls on executors of the user's, and how their futures say the end."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable
from concurrent.futures import (
    Future,
    ProcessPoolExecutor,
    ThreadPoolExecutor,
)
from contextvars import Context, ContextVar
from typing import Any

import pytest

from taskorch.core.executors._futures import FuturesExecutor
from taskorch.errors import InvalidTaskError
from taskorch.model import Call, Task
from taskorch.testing.laws._attempt_executor import Try

PATIENCE = 60.0
VARIABLE: ContextVar[str] = ContextVar("VARIABLE", default="unset")


class Made(Try):
    """An attempt that says by which way it was told of its end, and what was asked."""

    def __init__(self, fn: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        super().__init__(Task("t", Call(fn, args, kwargs), id="t"))
        self.asked: list[Any] = []
        self.soon: list[BaseException | None] = []

    def call(self, *, elsewhere: bool = False) -> Any:
        self.asked.append(("call", elsewhere))
        return super().call(elsewhere=elsewhere)

    def portable(self) -> Any:
        self.asked.append("portable")
        return os.getpid

    def variables(self) -> Context:
        context = Context()
        context.run(VARIABLE.set, "of the attempt")
        return context

    def end_soon(self, value: Any = None, error: BaseException | None = None) -> None:
        self.soon.append(error)
        self.end(value, error)


class Own:
    """An executor of a library; it makes no call, and the test ends its futures."""

    def __init__(self) -> None:
        self.calls: list[Any] = []
        self.future: Any = Future()

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Any:
        self.calls.append((fn, args, kwargs))
        if isinstance(self.future, Exception):
            raise self.future
        return self.future


class OwnProcesses(Own, ProcessPoolExecutor):
    """One of which the calls go to other processes."""


def begun(executor: Any, attempt: Made) -> Any:
    attempt.begun = FuturesExecutor("theirs", executor).begin(attempt)
    return attempt.begun


@pytest.mark.parametrize("kind", [Own, OwnProcesses])
def test_without_room_it_is_told_and_not_raised(kind: type[Own]) -> None:
    """It may be made all the same: so it is not begun again."""
    own, attempt = kind(), Made(pow, 2, 3)
    own.future = OSError(errno.EMFILE, "too many open files")
    assert begun(own, attempt) is None
    assert attempt.ends == [(None, own.future)]


def test_what_else_is_wrong_is_raised_and_no_end_is_told() -> None:
    own, attempt = Own(), Made(pow, 2, 3)
    own.future = RuntimeError("it was shut down")
    with pytest.raises(RuntimeError, match="shut down"):
        begun(own, attempt)
    assert attempt.ends == []


def test_what_returns_no_future_is_named() -> None:
    own, attempt = Own(), Made(pow, 2, 3)
    own.future = 5
    with pytest.raises(TypeError, match=r"'theirs' returned .*5.*, not a Future"):
        begun(own, attempt)


def test_whatever_has_a_submit_gets_the_function_as_it_is() -> None:
    """A worker's handler gets what can be sent: nobody knows where that is made."""
    own, attempt = Own(), Made(int, "11", base=2)
    assert begun(own, attempt) is own.future
    assert own.calls == [(int, ("11",), {"base": 2})]
    assert attempt.asked == [("call", True)]
    own.future.set_result(3)
    assert attempt.ends == [(3, None)]
    assert attempt.soon == []


def test_what_is_no_future_of_pythons_cannot_be_stopped() -> None:
    FuturesExecutor("theirs", Own()).stop(None, 0)
    FuturesExecutor("theirs", Own()).stop(object(), 0)


def test_what_a_pool_of_processes_raises_itself_says_that_it_cannot_be_sent() -> None:
    """What the function raises is in the value."""
    own, attempt, error = OwnProcesses(), Made(pow, 2, 3), ValueError("no pickle")
    begun(own, attempt)
    own.future.set_exception(error)
    ((value, told),) = attempt.ends
    assert value is None
    assert isinstance(told, InvalidTaskError)
    assert told.__cause__ is error
    assert "cannot be sent to executor 'theirs'" in str(told)


def test_what_stands_in_the_queue_of_a_pool_that_refused_it_is_not_made() -> None:
    """It is begun again later, and would be made twice."""
    made: list[int] = []
    go_on, begun_first = threading.Event(), threading.Event()

    class Refusing(ThreadPoolExecutor):
        def submit(self, *call: Any, **options: Any) -> Any:
            super().submit(*call, **options)
            msg = "can't start new thread"
            raise RuntimeError(msg)

    with Refusing(1) as pool:

        def first() -> None:
            begun_first.set()
            go_on.wait(PATIENCE)

        ThreadPoolExecutor.submit(pool, first)
        assert begun_first.wait(PATIENCE)
        attempt = Made(made.append, 1)
        with pytest.raises(RuntimeError, match="new thread"):
            begun(pool, attempt)
        go_on.set()
    assert made == []
    assert attempt.ends == []
