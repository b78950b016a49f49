"""The history of a task, which is derived while nothing unusual has happened."""

from __future__ import annotations

from typing import Final

from taskorch.kernel._rows import RowExtra, TaskRow
from taskorch.model import TERMINAL, TaskState

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
