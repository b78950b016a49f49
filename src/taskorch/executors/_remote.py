"""
Calls in another process, so that nothing that a function does breaks the pool.

A `ProcessPoolExecutor` pickles what a function returns or raises, and unpickles it on
the thread that manages the pool: an exception class with a constructor of its own is
enough to break the pool, and with it all other work. Here both halves are guarded.
"""

from __future__ import annotations

import pickle
import traceback
from collections.abc import Callable, Mapping
from typing import Any

import attrs

from taskorch._visible import said
from taskorch.errors import TaskFailedError


class RemoteTraceback(Exception):  # noqa: N818 - it is the cause of one
    """The traceback of the other process, as text: the cause of what was raised."""

    def __str__(self) -> str:
        return f"\n{self.args[0]}"


@attrs.frozen
class RemoteEnd:
    """How a call ended in another process: pickled there, not yet unpickled here."""

    #: What it returned or raised; None if that cannot be pickled.
    data: bytes | None
    #: Whether it raised.
    raised: bool
    #: The type of what it returned or raised.
    kind: str
    #: What it said, or why it cannot be pickled.
    message: str = ""
    traceback: str = ""


@attrs.frozen
class RemoteCall:
    """A call that is sent to another process, and made there: it raises nothing."""

    fn: Callable[..., Any]
    args: tuple[Any, ...]

    def __call__(self) -> RemoteEnd:
        return call_remotely(self.fn, self.args, {})


def call_remotely(
    fn: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> RemoteEnd:
    """In the other process: call *fn*; whatever comes of it can be sent back."""
    try:
        value = fn(*args, **kwargs)
    except BaseException as error:  # noqa: BLE001 - it is the caller's
        text = "".join(_lines(error))
        kind = type(error).__name__
        return RemoteEnd(
            _error_data(error),
            raised=True,
            kind=kind,
            message=_said(error),
            traceback=text,
        )
    kind = type(value).__name__
    try:
        return RemoteEnd(pickle.dumps(value), raised=False, kind=kind)
    except BaseException as error:  # noqa: BLE001 - whatever its __reduce__ does
        return RemoteEnd(None, raised=False, kind=kind, message=_said(error))


def open_end(end: RemoteEnd) -> Any:
    """
    Here: what the call returned, or raised.

    Raises:
        Exception: It cannot be unpickled.
    """
    if end.data is None:
        raise pickle.PicklingError(end.message)
    value = pickle.loads(end.data)  # noqa: S301 - from a process of our own
    if end.raised:
        value.__cause__ = RemoteTraceback(end.traceback)
    return value


def end_of(end: RemoteEnd, task_id: str) -> tuple[Any, BaseException | None]:
    """Here: the value and the error of the task of which *end* is the end."""
    try:
        value = open_end(end)
    except BaseException as error:  # noqa: BLE001 - whatever its unpickling does
        what = "raised" if end.raised else "returned"
        if end.raised:
            msg = f"task {task_id} raised {end.kind}: {end.message}"
        else:
            why = end.message or said(error)[1]
            msg = (
                f"task {task_id} returned {_a(end.kind)} that cannot be pickled: {why}"
            )
        hint = f"what is {what} in another process comes back pickled"
        failed = TaskFailedError(
            msg,
            type=end.kind if end.raised else "PicklingError",
            traceback=end.traceback,
            hint="" if end.raised else hint,
            task_id=task_id,
        )
        failed.__cause__ = RemoteTraceback(end.traceback) if end.raised else error
        return None, failed
    return (None, value) if end.raised else (value, None)


def _a(kind: str) -> str:
    return f"{'an' if kind[:1].lower() in 'aeiou' else 'a'} {kind}"


def _error_data(error: BaseException) -> bytes | None:
    """*error* pickled, if what comes out of that is *error* again."""
    try:
        data = pickle.dumps(error)
        same = type(pickle.loads(data)) is type(error)  # noqa: S301 - our own
    except BaseException:  # noqa: BLE001 - whatever its __reduce__ does
        return None
    return data if same else None


def _lines(error: BaseException) -> list[str]:
    try:
        return traceback.format_exception(error)
    except BaseException:  # noqa: BLE001 - its __str__ is the user's
        return traceback.format_tb(error.__traceback__)


def _said(error: BaseException) -> str:
    try:
        return str(error)
    except BaseException:  # noqa: BLE001 - its __str__ is the user's
        return "(it cannot be printed)"
