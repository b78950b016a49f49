"""What is to be said of a call that came to nothing, and how long a kill may take."""

from __future__ import annotations

import errno
from types import CoroutineType
from typing import Any, Final

#: What the system says when there is no process or no descriptor, or no memory for one.
_NO_ROOM: Final = frozenset({errno.EAGAIN, errno.EMFILE, errno.ENFILE, errno.ENOMEM})
#: What Python says when there is no thread.
_NO_THREAD: Final = "can't start new thread"
#: Of the grace, what something may need to go, and to be read, once it was killed; and
#: the most of that in seconds.
_KILL_SHARE: Final = 0.25
_KILL_SECONDS: Final = 1.5
#: What there is to say of a signal 9 that we did not send.
KILLED_BY_OTHERS: Final = (
    "taskorch did not send signal 9: it may have been the system, for want of memory "
    "(its log, dmesg, says so), or somebody's kill -9"
)
#: Where frames of ours begin a traceback.
_OURS: Final = ("taskorch.runtime.", "taskorch.executors.")


def until_kill(grace: float) -> float:
    """Seconds of *grace* after which what can be killed is killed."""
    return grace - min(grace * _KILL_SHARE, _KILL_SECONDS)


def is_no_room(error: BaseException) -> bool:
    """Whether *error* says that the system has no thread, process or descriptor."""
    if isinstance(error, OSError):
        return error.errno in _NO_ROOM
    return isinstance(error, RuntimeError) and str(error) == _NO_THREAD


def unawaited(coroutine: CoroutineType[Any, Any, Any], task_id: str) -> TypeError:
    """The error of a plain function that returned *coroutine*, which nobody awaits."""
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

    These frames are of no use to the user, and keep alive what they hold.
    """
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_globals.get("__name__", "").startswith(
        _OURS
    ):
        trace = trace.tb_next
    error.__traceback__ = trace
