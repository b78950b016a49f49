"""How long the attempts at a task took, of all its runs and in all lives."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, TypeAlias

from taskorch.kernel import LEFT_RUNNING, past_of
from taskorch.model import TaskState

if TYPE_CHECKING:
    from taskorch.kernel import TaskRow
    from taskorch.runtime import Runtime

#: When a task began to run, when it no longer did, in ns, and what it says of that.
Spell: TypeAlias = tuple[int, int | None, str]


def spells_of(row: TaskRow) -> Iterator[Spell]:
    """When *row* was running: its attempts, without the time that it was suspended."""
    began: int | None = None
    for state, at, detail in list(past_of(row)):
        if state is TaskState.RUNNING:
            began = at if began is None else began
        elif began is not None:
            yield began, at, detail
            began = None
    if began is not None:
        yield began, None, ""


def known_ends(rt: Runtime, rows: Iterable[TaskRow]) -> dict[int, int]:
    """
    What to take for the ends of attempts of *rows* that were cut off with a process.

    Their history has them end when the next life began. What is known of them is that
    they ran when the last fact of theirs came.

    Returns:
        By the instant in the history, that of the last fact before it, in ns.
    """
    last_facts: dict[int, int] = {}
    if rt.directory.recovered is None:
        return last_facts
    cut_off = {
        end: row.id
        for row in rows
        for _, end, detail in spells_of(row)
        if end is not None and LEFT_RUNNING in detail
    }
    for end, task_id in cut_off.items():
        last = rt.directory.recovered.last_before_life(task_id, end)
        if last is not None:
            last_facts[end] = last
    return last_facts
