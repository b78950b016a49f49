"""Translation of the words of configurations and messages into ours."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal

from taskorch.kit.limits import PRIORITIES
from taskorch.model import TaskState

#: The word for each state of a task.
STATUS: Final[Mapping[TaskState, str]] = {
    **dict.fromkeys(TaskState, "waiting"),
    TaskState.RUNNING: "running",
    TaskState.COMPLETED: "completed_success",
    TaskState.FAILED: "completed_failure",
    TaskState.CANCELLED: "cancelled",
}

#: How a task ended, in a message of its completion.
FINAL_STATUS: Final[Mapping[TaskState, Literal["success", "failed", "cancelled"]]] = {
    TaskState.COMPLETED: "success",
    TaskState.FAILED: "failed",
    TaskState.CANCELLED: "cancelled",
}


def priority_word(priority: int) -> str:
    """The nearest word for a priority that is not above it."""
    words = sorted(PRIORITIES, key=lambda word: (-PRIORITIES[word], word))
    return next((word for word in words if PRIORITIES[word] <= priority), "low")


def task_type(kind: str) -> str:
    """The class of a task as messages say it: `unit_tests` is `unit_test`."""
    return kind.removesuffix("s") if kind.endswith("tests") else kind


def role_of(kind: str) -> str:
    """Role for a class of tests: `Unit Test Specialist` for `unit_tests`."""
    return f"{task_type(kind).replace('_', ' ').title()} Specialist"
