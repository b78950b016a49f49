"""What executors have to say of an attempt that came to nothing."""

from __future__ import annotations

import errno
from types import CoroutineType
from typing import Any, Final

#: What the system says when there is no process or no descriptor, or no memory for one.
_NO_ROOM: Final = frozenset({errno.EAGAIN, errno.EMFILE, errno.ENFILE, errno.ENOMEM})
#: What Python says when there is no thread.
_NO_THREAD: Final = "can't start new thread"


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
