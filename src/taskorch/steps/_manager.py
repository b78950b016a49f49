"""`orch.steps`: what is kept of the steps of tasks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from taskorch.errors import InvalidTransitionError, StepError
from taskorch.kit.verbs import verb
from taskorch.kit.visible import show
from taskorch.kit.vocabulary import meant
from taskorch.model import TERMINAL, TaskState
from taskorch.runtime import Noted
from taskorch.steps._book import NAME, drop, left, steps_of

if TYPE_CHECKING:
    from taskorch.steps._step import Step


class Steps:
    """
    `orch.steps`: says which steps of a task are kept, and drops them.

    Args:
        runtime: The runtime of the orchestrator.
        orch: The orchestrator.
    """

    def __init__(self, runtime: Any, orch: Any) -> None:
        self._noted = Noted(runtime, NAME)
        self._orch = orch

    @verb(
        "Steps of a task, in their order: which were kept, and which were called.",
        "journal",
        "GET /tasks/{task_id}/steps",
        operation="steps",
        gives="steps",
        refuses=(404,),
        command="steps TASK: list the steps of a task",
    )
    def of(self, task_id: str) -> list[Step]:
        """
        List the steps of a task, in their order.

        Args:
            task_id: Its id; `x` is the latest run of a task, and `x~1` the first. Steps
                that an earlier run has kept are among them.

        Raises:
            UnknownTaskError: No task has this id.
            JournalError: The journal cannot be read.
        """
        status = self._orch.get_task_status(task_id)
        run_id: str = status.task_id
        steps = steps_of(self._noted, run_id, status.attempts)
        return left(steps) if status.state in TERMINAL else steps

    @verb(
        "Drop what is kept of the steps of a task: they are called again.",
        "commit",
        "POST /tasks/{task_id}/steps/forget",
        operation="forget_steps",
        gives="dropped",
        refuses=(404, 409, 422),
        command="forget-steps TASK: drop what is kept of the steps of a task",
        is_final=True,
        preview="forgetting_of_steps",
    )
    def forget(self, task_id: str, *, at: str | None = None) -> list[str]:
        """
        Drop what is kept of a step, and of all that was kept after it.

        The next attempt, or the next run of the task, calls them again.

        Args:
            task_id: The id of the task.
            at: The step: its name, or, of a name that is there several times, the key
                that `of` says, such as `charge#2`. None: all steps.

        Returns:
            The keys of those that were dropped.

        Raises:
            UnknownTaskError: No task has this id.
            InvalidTransitionError: An attempt of it is under way.
            StepError: No such step is kept.
        """
        status = self._orch.get_task_status(task_id)
        run_id: str = status.task_id
        if status.state in (TaskState.RUNNING, TaskState.SUSPENDED):
            msg = (
                f"task {run_id} is {status.state}: its attempt knows its steps already"
            )
            hint = "cancel it first, or wait for its end"
            raise InvalidTransitionError(msg, hint=hint, task_id=run_id)
        steps = [each for each in self.of(run_id) if each.state != "running"]
        keys = [each.key for each in steps]
        if at is not None:
            place = _place_of(at, steps)
            if place is None:
                msg = f"task {run_id} keeps no step {show(at)}"
                hint = meant(at, keys) or f"orch.steps.of({run_id!r}) lists them"
                raise StepError(msg, hint=hint, task_id=run_id)
            keys = keys[place:]
        if keys:
            drop(self._noted, run_id, keys)
        return keys


def _place_of(at: str, steps: list[Step]) -> int | None:
    for place, step in enumerate(steps):
        if at in (step.key, step.name):
            return place
    return None
