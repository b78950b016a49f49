"""What has been: durations, histories of rows, and what is to be told to attempts."""

from __future__ import annotations

from typing import Final, Literal, TypeAlias

from taskorch.kernel._rows import RowExtra, Stop, TaskRow, TypeRow
from taskorch.kit.frozen import frozen
from taskorch.model import TERMINAL, TaskState

# -- how long tasks take, by those of their type that have completed -------------------


#: The latest attempts of a type that say how long it takes.
_LATEST: Final = 15
#: What was measured to be shorter, in ns, counts as no time at all: to put such tasks
#: in order would gain nothing.
_SHORT: Final = 10_000_000


def typical_ns(row: TypeRow) -> int | None:
    """
    How long tasks of a type take, by those that completed; None if that is not known.

    It is the median of the latest, to one digit: of types that take about as long, none
    shall come before the other by chance.
    """
    samples = row.samples
    if not samples:
        return None
    latest = sorted(
        samples[-number][3] - samples[-number][2]
        for number in range(1, min(len(samples), _LATEST) + 1)
    )
    typical = latest[len(latest) // 2]
    return 0 if typical < _SHORT else int(float(f"{typical:.0e}"))


# -- what must now be done outside -----------------------------------------------------

# Starts are so frequent that they are not objects: `Kernel.starts` lists the rows.


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


# -- the history of a task, which is derived while nothing unusual has happened --------


_PENDING: Final = TaskState.PENDING
_QUEUED: Final = TaskState.QUEUED
_RUNNING: Final = TaskState.RUNNING


def row_extra(row: TaskRow) -> RowExtra:
    """The rarer part of *row*, made if need be."""
    if row.extra is None:
        row.extra = RowExtra()
    return row.extra


def remember(row: TaskRow, state: TaskState, now: int, detail: str = "") -> None:
    """Add to the history of *row* what the plain path would not show."""
    extra = row_extra(row)
    if extra.past is None:
        extra.past = plain_past(row)
    extra.past.append((state, now, detail))


def plain_past(row: TaskRow) -> list[tuple[TaskState, int, str]]:
    """The history of a task to which nothing unusual has happened."""
    past: list[tuple[TaskState, int, str]] = []
    if row.ready_ns != row.submitted_ns:
        past.append((_PENDING, row.submitted_ns, ""))
    if row.ready_ns:
        past.append((_QUEUED, row.ready_ns, ""))
    if row.attempt:
        agent = "" if row.agent is None else row.agent.name
        past.append((_RUNNING, row.started_ns, agent))
    if row.state in TERMINAL:
        past.append((row.state, row.ended_ns, ""))
    return past


def past_of(row: TaskRow) -> list[tuple[TaskState, int, str]]:
    """The history of *row*: `(state, ns, detail)`."""
    if row.extra is not None and row.extra.past is not None:
        return row.extra.past
    return plain_past(row)


def moves_of(row: TaskRow) -> list[tuple[TaskState, int, str]]:
    """The history of *row* without what happened to it in a state."""
    past = past_of(row)
    return [
        entry
        for number, entry in enumerate(past)
        if not number or entry[0] is not past[number - 1][0]
    ]
