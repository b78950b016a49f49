"""Errors of calls that did not succeed, and the time for a kill."""

from __future__ import annotations

import errno
from types import CoroutineType
from typing import Any, Final

#: The errors of the system when processes, descriptors or their memory run out.
_NO_ROOM: Final = frozenset({errno.EAGAIN, errno.EMFILE, errno.ENFILE, errno.ENOMEM})
#: The message of Python when there is no thread left.
_NO_THREAD: Final = "can't start new thread"
#: The part of the grace that a killed process may need to end, and to be read; and the
#: most of that in seconds.
_KILL_SHARE: Final = 0.25
_KILL_SECONDS: Final = 1.5
#: The text on a signal 9 that we did not send.
KILLED_BY_OTHERS: Final = (
    "taskorch did not send signal 9: it may have been the system, for want of memory "
    "(its log, dmesg, says so), or somebody's kill -9"
)
#: The modules of our frames at the beginning of a traceback.
_OURS: Final = (
    "taskorch.core.engine.",
    "taskorch.core.executors.",
    "taskorch.ext.hosts.",
)


def until_kill(grace: float) -> float:
    """Return the seconds after which to kill, if *grace* is the whole time."""
    return grace - min(grace * _KILL_SHARE, _KILL_SECONDS)


def is_no_room(error: BaseException) -> bool:
    """Return whether *error* says that threads, processes or descriptors ran out."""
    if isinstance(error, OSError):
        return error.errno in _NO_ROOM
    return isinstance(error, RuntimeError) and str(error) == _NO_THREAD


def unawaited(coroutine: CoroutineType[Any, Any, Any], task_id: str) -> TypeError:
    """Return the error of a plain function that returned *coroutine*."""
    name = coroutine.__qualname__
    coroutine.close()
    msg = (
        f"task {task_id} returned a coroutine of {name}(), which nobody would await: "
        "submit an async def itself, or give it to a task in an async def that awaits "
        "it"
    )
    return TypeError(msg)


def strip(error: BaseException) -> None:
    """
    Remove the library's frames from the head of the traceback of *error*.

    These frames are of no use to the user, and keep objects alive.
    """
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_globals.get("__name__", "").startswith(
        _OURS
    ):
        trace = trace.tb_next
    error.__traceback__ = trace
