"""What is told of an error: its class, its message, and where it was raised."""

from __future__ import annotations

import re
import traceback
from collections.abc import Iterator
from types import TracebackType
from typing import Final, TypeAlias

from taskorch.errors import DependencyFailedError, TaskFailedError, leaves
from taskorch.kit.visible import masked, said

#: A file, a line, and the function in it.
Frame: TypeAlias = tuple[str, int, str]

_LINE: Final = r'(?m)^[\s|+-]*File "(.+)", line (\d+), in (.+)$'
#: Code of Python itself and of what is installed.
_INSTALLED: Final = (
    r"^<frozen|[/\\]lib\d*[/\\]python[\d.]+t?[/\\]|[/\\](?:site|dist)-packages[/\\]"
)
#: Where this library is: no line of it is one of the user's.
_OURS: Final = re.split(r"kit[/\\]raised", __file__)[0]
#: Of a traceback: frames, and characters.
FRAMES: Final = 30
_MAX_TRACE: Final = 20_000


def trace_of(error: BaseException) -> str:
    """The traceback of *error* as text, of its end at least."""
    trace = "".join(traceback.format_exception(error, limit=-FRAMES))
    return masked(trace)[-_MAX_TRACE:]


def told_trace(error: BaseException) -> str:
    """The traceback of *error* as text, also if that is all there is of it."""
    is_raised = error.__traceback__ is not None
    cause = None if is_raised else error.__cause__
    kept = (e.traceback for e in (error, cause) if isinstance(e, TaskFailedError))
    return next(kept, "") or trace_of(error)


def told_of(error: BaseException) -> tuple[str, str]:
    """
    The class and the message of why a task failed, which each life tells the same.

    Of an exception that stands for another, which was raised elsewhere, they are those
    of that one.
    """
    kind, message = said(error)
    if not isinstance(error, TaskFailedError) or not error.type:
        return kind, message
    own = f"task {error.task_id} raised {error.type}"
    return error.type, message.removeprefix(own).removeprefix(": ")


def frames_of(trace: TracebackType | None) -> Iterator[Frame]:
    """The frames of a traceback, the latest last."""
    while trace is not None:
        code = trace.tb_frame.f_code
        # Of some instructions Python does not know the line.
        yield code.co_filename, trace.tb_lineno or code.co_firstlineno, code.co_name
        trace = trace.tb_next


def place_of(error: BaseException | None) -> str:
    """
    The place where *error* was raised: `flow.py:12 in work`; "" if unknown.

    It is the latest line that is of no installed package, if there is one, and none of
    ours.
    """
    if error is None:
        return ""
    first = next(leaves(error), error)
    cause = first.__cause__
    if isinstance(first, DependencyFailedError) and cause is not None:
        # What failed first was raised where there is something to mend.
        return place_of(cause)
    if isinstance(first, TaskFailedError) and first.traceback:
        frames = _in_text(first.traceback)
    elif type(cause).__name__.endswith("RemoteTraceback"):
        # Of another process.
        frames = _in_text(str(cause))
    elif isinstance(first, TaskFailedError) and cause is not None:
        frames = list(frames_of(cause.__traceback__))
    else:
        frames = list(frames_of(first.__traceback__))
    frames = [frame for frame in frames if not frame[0].startswith(_OURS)]
    if not frames:
        # What we say of a failure: where that was.
        return "" if cause is None else place_of(cause)
    own = (each for each in reversed(frames) if re.search(_INSTALLED, each[0]) is None)
    file, number, name = next(own, frames[-1])
    return f"{file}:{number} in {name}"


def _in_text(text: str) -> list[Frame]:
    return [(file, int(number), name) for file, number, name in re.findall(_LINE, text)]
