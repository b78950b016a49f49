"""
What attempts raised that were followed by another.

A journal has it beside the fact, `TaskRetrying`; without one it is in memory as long as
its task. The exception itself is not kept, since its frames keep what they hold.
"""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from typing import Any, Final

from taskorch.errors import ProgramFailedError, TaskFailedError
from taskorch.events import TaskRetrying
from taskorch.model._places import frames_of
from taskorch.model._read_only import ReadOnly
from taskorch.runtime._documents import error_of_document
from taskorch.runtime._work import Work, extra_of

#: Of one task, as many are kept as this; the earliest go first.
_MOST: Final = 10
#: Frames of a traceback, the latest.
_FRAMES: Final = 30


def keep_earlier(
    work: Work, attempt: int, error: BaseException, described: tuple[str, str]
) -> None:
    """Under the lock: keep *error*, whose type and message are *described*."""
    if isinstance(error, ProgramFailedError | TaskFailedError):
        _keep(work, attempt, error)
    else:
        frames = list(frames_of(error.__traceback__))[-_FRAMES:]
        cause = error.__cause__
        remote = type(cause).__name__.endswith("RemoteTraceback")
        _keep(work, attempt, (*described, frames, str(cause) if remote else ""))


def recall_earlier(work: Work, event: TaskRetrying, document: Any) -> None:
    """Keep what an earlier life kept beside *event*."""
    error = error_of_document(event, document)
    if error is not None:
        _keep(work, event.attempt, error)


def _keep(work: Work, attempt: int, kept: Any) -> None:
    extra = extra_of(work)
    earlier = {**extra.earlier, attempt: kept}
    extra.earlier = ReadOnly(dict(list(earlier.items())[-_MOST:]))


def earlier_of(work: Work) -> Mapping[int, BaseException]:
    """What is kept of *work*, by the numbers of the attempts."""
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
        # The lines themselves are read when they are asked for.
        summary = traceback.StackSummary.from_list([(*frame, None) for frame in frames])
        head = "Traceback (most recent call last):\n"
        trace = "".join((head, *summary.format(), f"{kind}: {message}\n"))
    return TaskFailedError(text, type=kind, traceback=trace, task_id=task_id)
