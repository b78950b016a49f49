"""Whether a task may be accepted."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from taskorch._base.frozen import frozen
from taskorch.model import Task
from taskorch.protocols._context import Context
from taskorch.protocols._reuse import Reuse


@frozen
class Finding:
    """
    A fault of a task.

    Attributes:
        path: Where: `payload.path`, `retry.base`, ….
        message: What is wrong, and what would be right.
    """

    path: str
    message: str


@frozen
class Verdict:
    """
    The answer of a Validator: accepted if there are no findings.

    Attributes:
        findings: What is wrong; none: it is accepted.
        reusable: Whether it holds for every task with the same type and options,
            whatever the payload.
    """

    findings: tuple[Finding, ...] = ()
    reusable: Reuse = False

    @property
    def accepted(self) -> bool:
        """Whether the task may be submitted."""
        return not self.findings


@runtime_checkable
class Validator(Protocol):
    """
    Protocol: accepts or refuses a task before it is submitted.

    It is asked outside the lock, on the submitter's thread, and may do I/O.

    Laws:
        1. Every finding is named at once, not only the first.
        2. A task that was accepted is accepted again.
        3. It changes none of its arguments.
    """

    def validate(self, task: Task, context: Context) -> Verdict:
        """What is wrong with *task*, if anything."""
        ...
