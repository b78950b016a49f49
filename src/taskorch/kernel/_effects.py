"""
What must now be done outside.

Starts are so frequent that they are not objects: `Kernel.starts` lists the rows.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

from taskorch._frozen import frozen
from taskorch.kernel._rows import Stop, TaskRow


@frozen(eq=False)
class StopAttempt:
    """Ask the work to stop; the kernel waits for its end, for a grace."""

    row: TaskRow
    attempt: int
    #: Or the orchestrator stops.
    why: Stop | Literal["stop"]


@frozen(eq=False)
class HoldAttempt:
    """Hold a program (SIGSTOP)."""

    row: TaskRow
    attempt: int


@frozen(eq=False)
class ReleaseAttempt:
    """Continue a program that is held (SIGCONT)."""

    row: TaskRow
    attempt: int


@frozen(eq=False)
class ReturnSlot:
    """An attempt that waited for another task may go on."""

    row: TaskRow
    attempt: int


@frozen(eq=False)
class TellAllocation:
    """An attempt holds more than it did, though it was at no checkpoint."""

    row: TaskRow
    attempt: int


Effect: TypeAlias = (
    StopAttempt | HoldAttempt | ReleaseAttempt | ReturnSlot | TellAllocation
)
