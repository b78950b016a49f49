"""Calls in another process: what is sent there, and what comes back of them."""

from __future__ import annotations

import pickle
import sys
from typing import Any

import pytest

from taskorch.api.executors.remote import (
    HERE,
    RemoteEnd,
    end_of,
    pickled,
    remote_call,
    unsendable,
)
from taskorch.core.executors.remote import RemoteTraceback, TooLargeError
from taskorch.errors import InvalidTaskError, TaskFailedError


class Unreadable:
    """It can be pickled, and not be read again."""

    def __reduce__(self) -> Any:
        return int, ("no number",)


class Unsendable:
    """It cannot be pickled, and does not say why."""

    def __reduce__(self) -> Any:
        raise TypeError


class PlainError(Exception):
    """As most are."""


class OtherArgumentsError(OSError):
    """Its constructor takes something else than it passes on."""

    def __init__(self, host: str, port: int) -> None:
        super().__init__(111, f"{host}:{port} refuses")
        self.port = port


class OtherTextError(Exception):
    """Made again the usual way, it says something else."""

    def __init__(self, text: str) -> None:
        super().__init__(f"<{text}>")


class UnsendableError(Exception):
    def __reduce__(self) -> Any:
        raise TypeError


class OwnWayError(Exception):
    """It says itself how it is pickled, and comes back as something else."""

    def __reduce__(self) -> Any:
        return PlainError, ("another",)


class SilentError(Exception):
    """It cannot be printed."""

    def __str__(self) -> str:
        raise ValueError


class Counted:
    """What it says is never the same."""

    count = 0

    def __repr__(self) -> str:
        Counted.count += 1
        return f"counted {Counted.count}"


def fail(error: BaseException) -> None:
    raise error


def came_of(fn: Any, *args: Any) -> tuple[Any, BaseException | None]:
    """What comes back of a call that was sent."""
    call = remote_call(fn, args)
    return end_of(pickle.loads(pickle.dumps(call())), "t1")


# -- sending ---------------------------------------------------------------------------


def test_how_much_it_may_be_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(TooLargeError, match=r"^it has more than 0\.5 MiB, pickled$"):
        pickled(bytes(2**20), 2**19)
    monkeypatch.setattr(HERE, "most_bytes", 2**18)
    with pytest.raises(TooLargeError, match=r"^it has more than 0\.25 MiB, pickled$"):
        pickled(bytes(2**20))
    assert pickle.loads(pickled(bytes(2**20), 2**21)) == bytes(2**20)
    monkeypatch.setattr(HERE, "most_bytes", None)
    assert pickle.loads(pickled(bytes(2**20))) == bytes(2**20)


def test_what_is_said_of_what_cannot_be_sent() -> None:
    cause = TypeError("cannot pickle it")
    error = unsendable(cause, "t1", "cpu")
    assert isinstance(error, InvalidTaskError)
    assert "task t1 cannot be sent to executor 'cpu': TypeError: cannot" in str(error)
    assert error.__cause__ is cause
    assert error.task_id == "t1"
    assert "a function of a module" in error.hint
    assert "to a file" in unsendable(TooLargeError("so much"), "t1", "cpu").hint


# -- what comes back -------------------------------------------------------------------


def test_an_end_says_of_which_kind_it_is() -> None:
    end = remote_call(pow, (2, 3))()
    assert (end.kind, end.raised, end.message, end.is_too_large) == (
        "int",
        False,
        "",
        False,
    )
    end = remote_call(fail, (PlainError("text"),))()
    assert (end.kind, end.raised, end.message) == ("PlainError", True, "text")
    assert not end.is_too_large


@pytest.mark.parametrize(
    "error",
    [
        PlainError("text", 5),
        OtherArgumentsError("db", 5432),
        OtherTextError("text"),
        KeyError("key"),
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid"),
        SilentError(),
    ],
)
def test_what_is_raised_comes_back_as_it_was(error: Exception) -> None:
    """Whatever its constructor takes; where it was raised is text."""
    value, got = came_of(fail, error)
    assert value is None
    assert type(got) is type(error)
    assert got.args == error.args
    assert vars(got) == vars(error)
    assert isinstance(got.__cause__, RemoteTraceback)
    if not isinstance(error, SilentError):
        assert str(got) == str(error)
        assert str(got.__cause__).startswith("\nTraceback (most recent call last):")
    assert "in fail" in str(got.__cause__)
    # The frames that made the call are ours.
    assert "core/executors/remote.py" not in str(got.__cause__)


def test_the_number_of_an_error_of_the_system_comes_back() -> None:
    _, got = came_of(fail, OtherArgumentsError("db", 5432))
    assert isinstance(got, OtherArgumentsError)
    assert (got.errno, got.port) == (111, 5432)


def test_one_that_never_says_the_same_comes_back_too() -> None:
    _, got = came_of(fail, PlainError(Counted()))
    assert type(got) is PlainError
    assert type(got.args[0]) is Counted


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (UnsendableError("text"), "task t1 raised UnsendableError: text"),
        (OwnWayError("text"), "task t1 raised OwnWayError: text"),
        (PlainError(Unreadable()), "task t1 raised PlainError: <"),
        (PlainError(Unsendable()), "task t1 raised PlainError: <"),
    ],
)
def test_what_was_raised_and_cannot_come_back_is_described(
    error: Exception, says: str
) -> None:
    value, got = came_of(fail, error)
    assert value is None
    assert type(got) is TaskFailedError
    assert says in str(got)
    assert got.type == type(error).__name__
    assert got.task_id == "t1"
    assert "in fail" in got.traceback
    assert "retry_on" in got.hint
    assert isinstance(got.__cause__, RemoteTraceback)


@pytest.mark.parametrize(
    ("value", "why"), [(Unreadable(), "invalid literal"), (Unsendable(), "pickled: ")]
)
def test_what_was_returned_and_cannot_come_back_is_described(
    value: Any, why: str
) -> None:
    """Whether that is seen there, or here."""
    got, error = came_of(lambda: value)
    assert got is None
    assert type(error) is TaskFailedError
    kind = type(value).__name__
    assert f"task t1 returned an {kind} that cannot be pickled: " in str(error)
    assert why in str(error)
    assert error.type == "PicklingError"
    assert error.task_id == "t1"
    assert error.hint == "what is returned in another process comes back pickled"
    assert error.__cause__ is not None


def test_what_is_too_large_to_come_back_is_told_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(HERE, "most_bytes", 2**18)
    end = remote_call(bytes, (2**20,))()
    assert (end.data, end.raised, end.is_too_large) == (None, False, True)
    value, error = end_of(end, "t1")
    assert value is None
    assert "task t1 returned a bytes that is too large to come back" in str(error)
    assert "it has more than 0.25 MiB" in str(error)
    assert isinstance(error, TaskFailedError)
    assert error.hint == "write it to a file, and return its path"


def test_why_it_cannot_come_back_may_be_long() -> None:
    class Talking:
        def __reduce__(self) -> Any:
            raise TypeError("x" * 20_000)

    _, error = came_of(Talking)
    assert "x" * 20_000 in str(error)


def test_what_cannot_be_printed_is_said_to_be_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "cloudpickle", None)

    class Silent(SilentError):
        """It is not found by its name."""

    _, error = came_of(fail, Silent())
    assert "raised Silent: (it cannot be printed)" in str(error)
    assert isinstance(error, TaskFailedError)
    assert "in fail" in error.traceback


def test_of_what_is_very_long_the_ends_come_back() -> None:
    text = "a" * 100_000 + "b" * 100_000
    end = remote_call(fail, (UnsendableError(text),))()
    assert end.message == "a" * 100_000
    assert len(end.traceback) == 100_000
    assert end.traceback.endswith("b\n")
    assert isinstance(end, RemoteEnd)
