"""Durations, histories of tasks, and messages to attempts."""

from __future__ import annotations

from typing import Final, Literal, TypeAlias

from taskorch.core.kernel._rows import RowExtra, Stop, TaskRow, TypeRow
from taskorch.kit.frozen import frozen
from taskorch.model import TERMINAL, TaskState

# -- typical durations of tasks, by type -----------------------------------------------


#: The latest attempts of a type that its typical duration is computed from.
_LATEST: Final = 15
#: Durations below this, in ns, count as none: ordering such tasks would gain nothing.
_SHORT: Final = 10_000_000


def typical_ns(row: TypeRow) -> int | None:
    """Return the typical duration of a type of task in ns, or None if unknown.

    It is the median of the latest completed tasks, rounded to one digit, so that chance
    does not order types that take about as long.
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


# -- effects: work for the driver ------------------------------------------------------

# Starts are so frequent that they are no objects: `Kernel.starts` lists the rows.


@frozen(eq=False)
class StopAttempt:
    """An effect: ask the work to stop; the kernel waits for its end, for a grace."""

    row: TaskRow
    attempt: int
    #: A reason to stop; "stop" means that the orchestrator stops.
    why: Stop | Literal["stop"]


@frozen(eq=False)
class HoldAttempt:
    """An effect: stop a program in place (SIGSTOP)."""

    row: TaskRow
    attempt: int


@frozen(eq=False)
class ReleaseAttempt:
    """An effect: continue a program that was stopped in place (SIGCONT)."""

    row: TaskRow
    attempt: int


@frozen(eq=False)
class ReturnSlot:
    """An effect: an attempt that waited for another task may go on."""

    row: TaskRow
    attempt: int


@frozen(eq=False)
class TellAllocation:
    """An effect: an attempt holds more, though it has reached no checkpoint."""

    row: TaskRow
    attempt: int


Effect: TypeAlias = (
    StopAttempt | HoldAttempt | ReleaseAttempt | ReturnSlot | TellAllocation
)


# -- the history of a task, derived from its times while nothing unusual has happened --


_PENDING: Final = TaskState.PENDING
_QUEUED: Final = TaskState.QUEUED
_RUNNING: Final = TaskState.RUNNING


def row_extra(row: TaskRow) -> RowExtra:
    """Return the rarely used fields of *row*, made if need be."""
    if row.extra is None:
        row.extra = RowExtra()
    return row.extra


def remember(row: TaskRow, state: TaskState, now: int, detail: str = "") -> None:
    """Add to the history of *row* an entry that the usual path does not imply."""
    extra = row_extra(row)
    if extra.past is None:
        extra.past = plain_past(row)
    extra.past.append((state, now, detail))


def plain_past(row: TaskRow) -> list[tuple[TaskState, int, str]]:
    """Return the history of a task to which nothing unusual has happened."""
    past: list[tuple[TaskState, int, str]] = []
    if row.ready_ns != row.submitted_ns:
        past.append((_PENDING, row.submitted_ns, ""))
    if row.ready_ns:
        past.append((_QUEUED, row.ready_ns, ""))
    if row.attempt:
        worker = "" if row.worker is None else row.worker.name
        past.append((_RUNNING, row.started_ns, worker))
    if row.state in TERMINAL:
        past.append((row.state, row.ended_ns, ""))
    return past


def past_of(row: TaskRow) -> list[tuple[TaskState, int, str]]:
    """Return the history of *row* as `(state, ns, detail)` entries."""
    if row.extra is not None and row.extra.past is not None:
        return row.extra.past
    return plain_past(row)


def moves_of(row: TaskRow) -> list[tuple[TaskState, int, str]]:
    """Return the history of *row* without events inside a state."""
    past = past_of(row)
    return [
        entry
        for number, entry in enumerate(past)
        if not number or entry[0] is not past[number - 1][0]
    ]
