"""The log and output of a task."""

from __future__ import annotations

from typing import Any

from taskorch.kit.frozen import document_of, frozen


@frozen
class TaskLog:
    """
    A part of the log and output of one attempt of a task.

    Attributes:
        task_id: The id of the task.
        attempt: The number of the attempt, from 1; 0 if none has begun.
        text: The part, as it was written.
        next: The position of the next part, in bytes: `orch.log(id, after=log.next)`.
        exists: Whether a file was found; without one, *text* is empty.
    """

    task_id: str
    attempt: int
    text: str
    next: int
    exists: bool

    def to_dict(self) -> dict[str, Any]:
        """Return the log as JSON has it."""
        return document_of(self)

    def __str__(self) -> str:
        return self.text
