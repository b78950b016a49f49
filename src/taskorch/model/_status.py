"""What the orchestrator says of one task."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

import attrs

from taskorch._base._frozen import frozen
from taskorch.model._ids import has_number, numbered
from taskorch.model._places import place_of
from taskorch.model._plain import fields_of, plain
from taskorch.model._read_only import ReadOnly
from taskorch.model._resources import Resources
from taskorch.model._show import shown
from taskorch.model._states import TaskState

if TYPE_CHECKING:
    # For annotations only: the model does no input or output.
    from pathlib import Path


@frozen
class HistoryEntry:
    """
    One step in the life of a task.

    Attributes:
        state: The state that it came into.
        label: The user's name for the state, where a StateMachine gives one.
        at: Seconds since the epoch.
        detail: Why, or by whom; "" on the plain path.
    """

    state: TaskState
    label: str
    at: float
    detail: str = ""


@frozen
class RecoveryAttempt:
    """
    What was tried to mend a failed attempt, where it ran.

    Attributes:
        attempt: The number of the attempt, from 1.
        level: 1 inside the failed attempt; 2 before the next one.
        kind: The class of the failure.
        action: The name of the function that tried.
        result: `retry`, `escalate`, `done` or `failed`.
        message: What it raised, or is wrong with its answer.
    """

    attempt: int
    level: int
    kind: str
    action: str
    result: str
    message: str = ""


@frozen
class TaskStatus:
    """
    The state of a task at one moment, with its history.

    Attributes:
        task_id: The id of the task.
        type: The type of the task.
        state: Its state.
        label: The user's name for the state.
        result: What it returned, once it has completed.
        error: Why it failed or was cancelled, or None.
        attempts: Attempts begun so far.
        history: What has become of it, step by step.
        agent_id: Who runs it, or ran it last.
        allocation: What it holds now.
        blocked_by: Ids of the dependencies that block it, or a word for what else does.
        priority: The priority of the task.
        progress: The latest report of `TaskContext.progress`.
        submitted: When it was accepted, in UTC; None if nobody knows any more.
        started: When its latest attempt began, in UTC; None before the first.
        ended: When it ended, in UTC; None before that.
        metadata: What the task was given as `metadata`.
        log_path: The file with what the program of its latest attempt writes, also
            while it runs; None if it runs none, or the file could not be made.
        late_results: What attempts returned, or the exceptions that they raised, after
            they had been given up, by their numbers: the latest ten. They changed
            nothing.
        owner: For whom it is done.
        earlier_errors: What attempts raised that were followed by another, by their
            numbers: the latest ten. Their tracebacks are texts.
        recovery_attempts: What was tried to mend its attempts, where they ran.
        stopping: Why its attempt, which runs on, was asked to stop: it was cancelled or
            suspended, or its time is over; or "". A function stops at a checkpoint.
        stale: Whether a task that it depends on, however indirectly, was run again
            since: it has, or works with, what the run before that had come to.
        rerun: The id of the latest run of the task, if this is an earlier one; or "".
        mended_by: The id of the first later run that has completed; or "".
    """

    task_id: str
    type: str
    state: TaskState
    label: str
    result: Any
    error: BaseException | None
    attempts: int
    history: tuple[HistoryEntry, ...]
    agent_id: str | None
    allocation: Resources
    blocked_by: tuple[str, ...]
    priority: int = 0
    progress: Any = None
    submitted: datetime | None = None
    started: datetime | None = None
    ended: datetime | None = None
    metadata: Mapping[str, Any] = ReadOnly({})
    log_path: Path | None = None
    late_results: Mapping[int, Any] = ReadOnly({})
    owner: str | None = None
    earlier_errors: Mapping[int, BaseException] = ReadOnly({})
    stale: bool = False
    stopping: str = ""
    recovery_attempts: tuple[RecoveryAttempt, ...] = ()
    rerun: str = ""
    mended_by: str = ""

    __repr__ = shown

    @property
    def is_terminal(self) -> bool:
        """Whether the task has ended for good."""
        return self.state.is_terminal

    @property
    def run_id(self) -> str:
        """The id that means this run: the bare one of a task means its latest."""
        is_first = self.rerun and not has_number(self.task_id)
        return numbered(self.task_id, 1) if is_first else self.task_id

    @property
    def duration(self) -> float | None:
        """
        Seconds from the beginning of its latest attempt to its end.

        None until it has ended, and if no attempt ever began.
        """
        if self.started is None or self.ended is None:
            return None
        return (self.ended - self.started).total_seconds()

    @property
    def where(self) -> str:
        """
        The line that failed, as in `flow.py:12 in work`; "" if nobody knows.

        It is that of `error`, or of the latest attempt that has failed.
        """
        errors = self.error, *reversed(list(self.earlier_errors.values()))
        return next(filter(None, map(place_of, errors)), "")

    def to_dict(self) -> dict[str, Any]:
        """
        The status as JSON can say it, for a log, a page or another program.

        Dates are texts of ISO 8601. An error is its `type`, its `message`, and `where`
        it was raised, as in `flow.py:12 in work`, if that is known. What JSON has no
        word for, in a result too, is shown as a text.
        """
        fields = {name: getattr(self, name) for name in attrs.fields_dict(TaskStatus)}
        fields |= {
            "state": self.state.value,
            "error": None if self.error is None else _told(self.error),
            "earlier_errors": {
                str(number): _told(error)
                for number, error in self.earlier_errors.items()
            },
            "history": [fields_of(entry) for entry in self.history],
            "recovery_attempts": [fields_of(each) for each in self.recovery_attempts],
            "duration": self.duration,
            "run_id": self.run_id,
            "log_path": None if self.log_path is None else str(self.log_path),
        }
        return {name: plain(value) for name, value in fields.items()}


def _told(error: BaseException) -> dict[str, str]:
    try:
        message = str(error)
    except Exception:  # noqa: BLE001 - its __str__ is the user's
        message = "(it cannot be printed)"
    document = {"type": type(error).__name__, "message": message}
    where = place_of(error)
    return {**document, "where": where} if where else document
