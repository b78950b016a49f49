"""
Calls in another process, so that nothing that a function does breaks the pool.

A `ProcessPoolExecutor` pickles what a function returns or raises, and unpickles it on
the thread that manages the pool: an exception class with a constructor of its own is
enough to break the pool, and with it all other work. Here both halves are guarded.
"""

from __future__ import annotations

import pickle
import traceback
from collections.abc import Callable
from typing import Any

from taskorch._frozen import frozen
from taskorch._visible import said
from taskorch.errors import TaskFailedError
from taskorch.model._show import with_article


class RemoteTraceback(Exception):  # noqa: N818 - it is the cause of one
    """The traceback of the other process, as text: the cause of what was raised."""

    def __str__(self) -> str:
        return f"\n{self.args[0]}"


@frozen
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


@frozen
class RemoteCall:
    """A call that is sent to another process, and made there: it raises nothing."""

    fn: Callable[..., Any]
    args: tuple[Any, ...]

    def __call__(self) -> RemoteEnd:
        """In the other process: whatever comes of the call can be sent back."""
        try:
            value = self.fn(*self.args)
        except BaseException as error:  # noqa: BLE001 - it is the caller's
            return RemoteEnd(
                _error_data(error),
                raised=True,
                kind=type(error).__name__,
                message=_said(error),
                traceback="".join(_lines(error)),
            )
        kind = type(value).__name__
        try:
            return RemoteEnd(pickle.dumps(value), raised=False, kind=kind)
        except BaseException as error:  # noqa: BLE001 - whatever its __reduce__ does
            return RemoteEnd(None, raised=False, kind=kind, message=_said(error))


def end_of(end: RemoteEnd, task_id: str) -> tuple[Any, BaseException | None]:
    """Here: the value and the error of the task of which *end* is the end."""
    try:
        value = _unpickled(end)
    except BaseException as error:  # noqa: BLE001 - whatever its unpickling does
        return None, _failure(end, task_id, error)
    return (None, value) if end.raised else (value, None)


def _unpickled(end: RemoteEnd) -> Any:
    if end.data is None:
        raise pickle.PicklingError(end.message)
    value = pickle.loads(end.data)  # noqa: S301 - from a process of our own
    if end.raised:
        value.__cause__ = RemoteTraceback(end.traceback)
    return value


def _failure(end: RemoteEnd, task_id: str, error: BaseException) -> TaskFailedError:
    """In the place of what cannot be unpickled, as *error* says."""
    if end.raised:
        failed = TaskFailedError(
            f"task {task_id} raised {end.kind}: {end.message}",
            type=end.kind,
            traceback=end.traceback,
            hint="",
            task_id=task_id,
        )
        failed.__cause__ = RemoteTraceback(end.traceback)
        return failed
    why = end.message or said(error)[1]
    failed = TaskFailedError(
        f"task {task_id} returned {with_article(end.kind)} that cannot be pickled: "
        f"{why}",
        type="PicklingError",
        hint="what is returned in another process comes back pickled",
        task_id=task_id,
    )
    failed.__cause__ = error
    return failed


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
