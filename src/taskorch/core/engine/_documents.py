"""Documents that a journal keeps of tasks and ends, and the objects made from them."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Mapping
from typing import Any, Final

from taskorch import errors
from taskorch.core.engine._work import NOTHING_LATE, Work, extra_of
from taskorch.errors import (
    AttemptInterrupted,
    InvalidTaskError,
    MemoryLimitError,
    ProgramFailedError,
    TaskFailedError,
    TaskorchError,
    UnkeptResultError,
)
from taskorch.events import LateResultIgnored, TaskFailed, TaskRetrying
from taskorch.kit.ends import strip
from taskorch.kit.fence import is_values
from taskorch.kit.frozen import ReadOnly
from taskorch.kit.raised import FRAMES, frames_of, trace_of
from taskorch.kit.visible import masked, said
from taskorch.model import ProgramResult

# -- what is kept of the end of an attempt, besides the event, and read back -----------


def document_of_end(
    document: Callable[[Any], Any],
    task_id: str,
    value: Any,
    error: BaseException | None,
) -> tuple[Any, BaseException | None]:
    """
    Return the document that the journal keeps of an attempt's end, and its error.

    A result that cannot be kept is an error: a caller who asks later would not get it.
    """
    try:
        if error is None:
            return document(value), None
        if isinstance(error, AttemptInterrupted):
            return None, error
        strip(error)
        return document(_described(error, document)), error
    except InvalidTaskError as refused:
        msg = f"task {task_id}: {refused.message}"
        unkept = UnkeptResultError(msg, hint=refused.hint, task_id=task_id)
        return document(_described(unkept, document)), unkept
    except BaseException as fault:
        # Mostly the `__str__` of the error has raised this.
        if not is_values(fault):
            raise
        if error is not None:
            return None, error
        msg = f"task {task_id}: result: it cannot be kept: {said(fault)[1]}"
        unkept = UnkeptResultError(msg, task_id=task_id)
        return document(_described(unkept, document)), unkept


def document_of(document: Callable[[Any], Any], what: str, value: Any) -> Any:
    """
    Return the document of *value*, which is neither a task nor a result.

    Raises:
        InvalidTaskError: It cannot be kept; the message says where in *what*.
    """
    try:
        return document(value)
    except InvalidTaskError as refused:
        # A journal takes a value by itself for a result, so its message says "result".
        path = refused.message.removeprefix("result")
        msg = refused.message if path == refused.message else f"{what}{path}"
        raise InvalidTaskError(msg, hint=refused.hint) from None


def _described(error: BaseException, document: Callable[[Any], Any]) -> dict[str, Any]:
    """Return the document of *error*: its traceback, and fields of our own errors."""
    described: dict[str, Any] = {"traceback": trace_of(error)}
    if not isinstance(error, TaskorchError) or not _is_ours(type(error)):
        return described
    fields = dict(vars(error))
    failures = fields.pop("failures", {})
    kept = {name: value for name, value in fields.items() if _fits(value, document)}
    texts = {name: masked(kept[name]) for name in ("message", "hint")}
    described["fields"] = kept | texts
    if failures:
        # The errors of a workflow's tasks are described in the same way.
        described["failures"] = {
            name: [*said(each), _described(each, document)]
            for name, each in failures.items()
        }
    return described


def _is_ours(cls: type) -> bool:
    return getattr(errors, cls.__name__, None) is cls


def _fits(value: Any, document: Callable[[Any], Any]) -> bool:
    """Return whether the journal can keep an attribute of an error."""
    try:
        document(value)
    except Exception:  # noqa: BLE001 - the other attributes are kept
        return False
    return True


def error_of_document(
    event: TaskFailed | TaskRetrying | LateResultIgnored, document: Any
) -> BaseException | None:
    """Return the error of the attempt that *event* ended, as far as it was kept."""
    if not isinstance(document, dict):
        return None
    error = event.task_id, event.error_type, event.message
    return _made_anew(*error, document)


def _made_anew(
    task_id: str, kind: str, message: str, document: dict[str, Any]
) -> BaseException:
    """Make an error of a type and message again from its *document*."""
    trace = str(document.get("traceback", ""))
    fields = document.get("fields")
    cls: Any = vars(errors).get(kind)
    if isinstance(fields, dict) and cls is not None:
        more: dict[str, Any] = {}
        if failures := document.get("failures"):
            parts = {
                name: _made_anew(task_id, *each) for name, each in failures.items()
            }
            more["failures"] = parts
        error: BaseException = cls(fields["message"], **more)
        vars(error).update(fields)
        if not isinstance(error, TaskFailedError):
            error.__cause__ = _raised(task_id, kind, message, trace)
        return error
    # Earlier versions kept the result of a program here.
    result = document.get("result")
    if isinstance(result, ProgramResult):
        if kind == MemoryLimitError.__name__:
            return MemoryLimitError(
                message,
                result=result,
                peak=result.memory_mb or 0.0,
                limit=result.limits["memory_mb"],
                how=result.enforced.partition(",")[0],
                task_id=task_id,
            )
        return ProgramFailedError(message, result=result, task_id=task_id)
    return _raised(task_id, kind, message, trace)


def _raised(task_id: str, kind: str, message: str, trace: str) -> TaskFailedError:
    """Return the error that stands for one of another class."""
    # Our own errors begin with the task.
    message = message.removeprefix(f"task {task_id}: ")
    text = f"task {task_id} raised {kind}: {message}".removesuffix(": ")
    return TaskFailedError(text, type=kind, traceback=trace, task_id=task_id)


# -- what attempts raised that were followed by another --------------------------------

# A journal has them beside the event, `TaskRetrying`; without one they are in memory as
# long as the task. The exceptions themselves are not kept, since their frames hold
# objects.


#: The most errors that are kept of one task; the earliest go first.
_MOST: Final = 10


def keep_earlier(
    work: Work, attempt: int, error: BaseException, described: tuple[str, str]
) -> None:
    """Keep *error*, whose type and message are *described*; hold the lock."""
    if isinstance(error, ProgramFailedError | TaskFailedError):
        _keep(work, attempt, error)
    else:
        frames = list(frames_of(error.__traceback__))[-FRAMES:]
        cause = error.__cause__
        remote = type(cause).__name__.endswith("RemoteTraceback")
        _keep(work, attempt, (*described, frames, str(cause) if remote else ""))


def recall_earlier(work: Work, event: TaskRetrying, document: Any) -> None:
    """Keep the error that an earlier incarnation kept beside *event*."""
    error = error_of_document(event, document)
    if error is not None:
        _keep(work, event.attempt, error)


def _keep(work: Work, attempt: int, kept: Any) -> None:
    extra = extra_of(work)
    earlier = {**extra.earlier, attempt: kept}
    extra.earlier = ReadOnly(dict(list(earlier.items())[-_MOST:]))


def earlier_of(work: Work) -> Mapping[int, BaseException]:
    """Return the errors of earlier attempts of *work*, by their numbers."""
    if work._extra is None or not work._extra.earlier:
        return ReadOnly({})
    return ReadOnly(
        {number: _error(work, kept) for number, kept in work._extra.earlier.items()}
    )


def _error(work: Work, kept: Any) -> BaseException:
    if isinstance(kept, BaseException):
        return kept
    kind, message, frames, trace = kept
    task_id = work._row.id
    text = f"task {task_id} raised {kind}: {message}".removesuffix(": ")
    if not trace and frames:
        # The source lines are read only when they are asked for.
        summary = traceback.StackSummary.from_list([(*frame, None) for frame in frames])
        head = "Traceback (most recent call last):\n"
        trace = "".join((head, *summary.format(), f"{kind}: {message}\n"))
    return TaskFailedError(text, type=kind, traceback=trace, task_id=task_id)


# -- what attempts brought that did not count any more: it changes nothing, and is
# kept

# An attempt is given up when it does not stop in its grace period, or when its worker
# is lost. It may have done its work, and somebody may want to see that. A journal has
# it beside the event, `LateResultIgnored`; without one it is in memory as long as the
# task.


#: Classes of errors by which an attempt stops.
_STOPPED: Final = ("AttemptInterrupted", "CancelledError")


def keep_late(work: Work, attempt: int, value: Any, raised: str = "") -> None:
    """
    Keep the late result of an attempt, or its error; hold the lock.

    An attempt that has stopped, as it was asked to, has no late result.
    """
    if raised in _STOPPED:
        return
    extra = extra_of(work)
    late = {**extra.late, attempt: value}
    extra.late = ReadOnly(dict(list(late.items())[-_MOST:]))


def recall_late(work: Work, event: LateResultIgnored, document: Any) -> None:
    """Keep the late result that an earlier incarnation kept beside *event*."""
    value = document
    if event.outcome == "failed":
        # Older journals do not say what was raised.
        value = error_of_document(event, document) if event.error_type else None
    # None says nothing; and a result that came after its task had left memory is in no
    # journal.
    if value is not None:
        keep_late(work, event.attempt, value, event.error_type)


def late_of(work: Work) -> Mapping[int, Any]:
    """Return the late results of *work*, by the numbers of the attempts."""
    return NOTHING_LATE if work._extra is None else work._extra.late


def describe_late(work: Work) -> tuple[str, ...]:
    """Return a line about each late result of *work*, without the values."""
    return tuple(
        f"attempt {attempt}, which had been given up, {_did(value)} later"
        for attempt, value in late_of(work).items()
    )


def _did(value: Any) -> str:
    if not isinstance(value, BaseException):
        return "returned"
    return f"raised {type(value).__name__}"
