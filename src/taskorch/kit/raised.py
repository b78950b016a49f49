"""The class, message and place of an error."""

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
#: Folders of Python itself and of installed packages.
_INSTALLED: Final = (
    r"^<frozen|[/\\]lib\d*[/\\]python[\d.]+t?[/\\]|[/\\](?:site|dist)-packages[/\\]"
)
#: The folder of this library: no line of it is one of the user's.
_OURS: Final = re.split(r"kit[/\\]raised", __file__)[0]
#: The most frames, and the most characters, of a traceback.
FRAMES: Final = 30
_MAX_TRACE: Final = 20_000


def trace_of(error: BaseException) -> str:
    """Return the traceback of *error* as text, at least its end."""
    trace = "".join(traceback.format_exception(error, limit=-FRAMES))
    return masked(trace)[-_MAX_TRACE:]


def told_trace(error: BaseException) -> str:
    """Return the traceback of *error* as text, also if only text is left."""
    is_raised = error.__traceback__ is not None
    cause = None if is_raised else error.__cause__
    kept = (e.traceback for e in (error, cause) if isinstance(e, TaskFailedError))
    return next(kept, "") or trace_of(error)


def told_of(error: BaseException) -> tuple[str, str]:
    """
    Return the class and message of a task's failure, the same after a restart.

    For a stand-in of an exception that was raised elsewhere, they are those of that
    exception.
    """
    kind, message = said(error)
    if not isinstance(error, TaskFailedError) or not error.type:
        return kind, message
    # The message may begin with the incarnation of the error.
    whole = error.message
    _, own, text = whole.partition(f"task {error.task_id} raised {error.type}")
    return error.type, text.removeprefix(": ") if own else whole


def frames_of(trace: TracebackType | None) -> Iterator[Frame]:
    """Yield the frames of a traceback, the latest last."""
    while trace is not None:
        code = trace.tb_frame.f_code
        # Python does not know the line of some instructions.
        yield code.co_filename, trace.tb_lineno or code.co_firstlineno, code.co_name
        trace = trace.tb_next


def place_of(error: BaseException | None) -> str:
    """
    Return the place where *error* was raised: `flow.py:12 in work`, or "".

    It is the latest line outside installed packages, if there is one, and outside ours.
    """
    if error is None:
        return ""
    first = next(leaves(error), error)
    cause = first.__cause__
    if isinstance(first, DependencyFailedError) and cause is not None:
        # The first failure was raised where there is something to mend.
        return place_of(cause)
    if isinstance(first, TaskFailedError) and first.traceback:
        frames = _in_text(first.traceback)
    elif type(cause).__name__.endswith("RemoteTraceback"):
        # The error comes from another process.
        frames = _in_text(str(cause))
    elif isinstance(first, TaskFailedError) and cause is not None:
        frames = list(frames_of(cause.__traceback__))
    else:
        frames = list(frames_of(first.__traceback__))
    frames = [frame for frame in frames if not frame[0].startswith(_OURS)]
    if not frames:
        # The failure is our own error, so the place is that of its cause.
        return "" if cause is None else place_of(cause)
    own = (each for each in reversed(frames) if re.search(_INSTALLED, each[0]) is None)
    file, number, name = next(own, frames[-1])
    return f"{file}:{number} in {name}"


def _in_text(text: str) -> list[Frame]:
    return [(file, int(number), name) for file, number, name in re.findall(_LINE, text)]
