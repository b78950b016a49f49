"""What is kept of the end of an attempt, besides the fact, and read back."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from typing import Any, Final

from taskorch._visible import masked
from taskorch.errors import (
    AttemptInterrupted,
    InvalidTaskError,
    ProgramFailedError,
    TaskFailedError,
    UnkeptResultError,
)
from taskorch.events import LateResultIgnored, TaskFailed, TaskRetrying
from taskorch.executors._ends import strip
from taskorch.model import ProgramResult

#: Of a traceback: frames, and characters.
_FRAMES: Final = 30
_MAX_TRACE: Final = 20_000


def document_of_end(
    document: Callable[[Any], Any],
    task_id: str,
    value: Any,
    error: BaseException | None,
) -> tuple[Any, BaseException | None]:
    """
    The document that the journal keeps of the end of an attempt, and its error.

    A result that cannot be kept is one: whoever asks for it later would not get it.
    """
    try:
        if error is None:
            return document(value), None
        if isinstance(error, AttemptInterrupted):
            return None, error
        strip(error)
        return document(_described(error)), error
    except InvalidTaskError as refused:
        msg = f"task {task_id}: {refused.message}"
        return None, UnkeptResultError(msg, hint=refused.hint, task_id=task_id)
    except Exception as fault:  # noqa: BLE001 - the error's own __str__, mostly
        if error is not None:
            return None, error
        msg = f"task {task_id}: result: it cannot be kept: {fault}"
        return None, UnkeptResultError(msg, task_id=task_id)


def document_of(document: Callable[[Any], Any], what: str, value: Any) -> Any:
    """
    What the journal is to keep of *value*, which is no task and no result.

    Raises:
        InvalidTaskError: It cannot; the message says where in *what*.
    """
    try:
        return document(value)
    except InvalidTaskError as refused:
        # What stands alone is a result, for all that a journal knows.
        path = refused.message.removeprefix("result")
        msg = refused.message if path == refused.message else f"{what}{path}"
        raise InvalidTaskError(msg, hint=refused.hint) from None


def trace_of(error: BaseException) -> str:
    """The traceback of *error* as text, of its end at least."""
    trace = "".join(traceback.format_exception(error, limit=-_FRAMES))
    return masked(trace)[-_MAX_TRACE:]


def told_trace(error: BaseException) -> str:
    """The traceback of *error* as text, also if that is all there is of it."""
    trace = error.traceback if isinstance(error, TaskFailedError) else ""
    return trace or trace_of(error)


def _described(error: BaseException) -> dict[str, Any]:
    described: dict[str, Any] = {"traceback": trace_of(error)}
    if isinstance(error, ProgramFailedError) and error.result is not None:
        described["result"] = error.result
    return described


def error_of_document(
    event: TaskFailed | TaskRetrying | LateResultIgnored, document: Any
) -> BaseException | None:
    """What an attempt raised of whose end *event* tells, as far as that was kept."""
    if not isinstance(document, dict):
        return None
    task_id, kind, message = event.task_id, event.error_type, event.message
    result = document.get("result")
    if isinstance(result, ProgramResult):
        return ProgramFailedError(message, result=result, task_id=task_id)
    trace = str(document.get("traceback", ""))
    # Errors of ours begin with the task.
    message = message.removeprefix(f"task {task_id}: ")
    text = f"task {task_id} raised {kind}: {message}".removesuffix(": ")
    return TaskFailedError(text, type=kind, traceback=trace, task_id=task_id)
