"""
Notes of a journal on runs, for displays.

Decision: lists-of-a-journal.
"""

from __future__ import annotations

from typing import Any, NamedTuple


class NotedLine(NamedTuple):
    """
    Summary of the settled tasks of one run that were noted together.

    Attributes:
        run: The key of its line.
        first: The number of the first submission.
        is_workflow: True for a run of a workflow.
        submitted_ns: The time of that submission.
        ended_ns: The time at which the last of them ended.
        total: The number of tasks.
        owners: Their tenants, as JSON.
        started_ns: The time of the first attempt; None if there was none.
        worked_ns: The time in which at least one attempt ran.
        spans: The spans of that time, as JSON; None if no other line overlaps them.
    """

    run: str
    first: int
    is_workflow: int
    submitted_ns: int
    ended_ns: int
    total: int
    owners: str
    started_ns: int | None
    worked_ns: int | None
    spans: str | None


class NotedRuns(NamedTuple):
    """
    Notes on runs up to one event.

    Attributes:
        last: Its number.
        at_ns: Its time.
        lines: The summaries of settled tasks, latest first.
        entries: The entries that are still to be folded, in order.
        made: The tasks and runs of schedules: number of the event, id, name, tick, and
            trigger.
        before: For each event that began an incarnation, the time of the event before.
    """

    last: int
    at_ns: int
    lines: list[NotedLine]
    entries: list[tuple[Any, Any]]
    made: list[tuple[int, str, str, int, str]]
    before: dict[int, int]
