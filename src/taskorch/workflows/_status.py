"""How far a run of a workflow is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import attrs

from taskorch.model import TaskState

__all__ = ("WorkflowStatus", "state_of")

_S: Final = TaskState
#: Names of a path that a sentence shows.
_SHOWN: Final = 8


@attrs.frozen
class WorkflowStatus:
    """
    How far a run of a workflow is, at one instant.

    `str()` of it is the answer in a sentence. Of a task that was run again, the state
    of the latest run counts.
    """

    workflow_id: str
    #: `running` while something runs or is about to; then `suspended`, `blocked` (a
    #: person must decide) or `pending` while something is; in the end `failed` or
    #: `cancelled` if it cannot complete without a restart, or `completed`.
    state: TaskState
    #: The state of each task, by its id in the workflow.
    tasks: Mapping[str, TaskState]
    #: How many tasks are in a state, of those states that occur.
    counts: Mapping[TaskState, int]
    #: The longest chain of tasks that have not completed.
    remaining_path: tuple[str, ...]

    @property
    def percent(self) -> float:
        """The share of tasks that have completed, from 0 to 100."""
        if not self.tasks:
            return 100.0
        return 100.0 * self.counts.get(_S.COMPLETED, 0) / len(self.tasks)

    def __str__(self) -> str:
        done = self.counts.get(_S.COMPLETED, 0)
        text = f"{self.workflow_id} is {self.state}: {done} of {len(self.tasks)} tasks"
        others = [
            f"{count} {state}"
            for state, count in self.counts.items()
            if state is not _S.COMPLETED
        ]
        text += f" completed{''.join(f', {other}' for other in others)}."
        if self.remaining_path:
            shown = " → ".join(self.remaining_path[:_SHOWN])
            more = " → …" if len(self.remaining_path) > _SHOWN else ""
            text += f" The longest chain left has {len(self.remaining_path)}"
            text += f": {shown}{more}."
        return text


def state_of(counts: Mapping[TaskState, int], stuck: int) -> TaskState:
    """
    What the states of tasks come to.

    Args:
        counts: How many are in which state.
        stuck: How many of the BLOCKED ones wait for what has failed.
    """
    if any(counts.get(state) for state in (_S.RUNNING, _S.QUEUED, _S.RETRYING)):
        return _S.RUNNING
    if counts.get(_S.SUSPENDED):
        return _S.SUSPENDED
    if counts.get(_S.BLOCKED, 0) > stuck:
        return _S.BLOCKED
    if counts.get(_S.PENDING):
        return _S.PENDING
    if counts.get(_S.FAILED):
        return _S.FAILED
    if counts.get(_S.CANCELLED):
        return _S.CANCELLED
    return _S.FAILED if stuck else _S.COMPLETED
