"""
`orch.steps`: the kept steps of tasks, and runs that begin from one.

Decision: steps.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from taskorch.core.engine import Noted
from taskorch.errors import (
    InvalidTaskError,
    InvalidTransitionError,
    StepError,
    UnknownTaskError,
)
from taskorch.ext.steps._book import NAME, drop, fork, steps_in, steps_of
from taskorch.kit.verbs import verb
from taskorch.kit.visible import show
from taskorch.kit.vocabulary import meant
from taskorch.kit.words import some
from taskorch.model import TERMINAL, TaskState

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from taskorch.core.handles.handles import TaskHandle
    from taskorch.events import Event
    from taskorch.ext.steps._step import Step
    from taskorch.model import FilterFields, TaskStatus


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

        An explanation has only the latest ten that this process has seen.

        Args:
            task_id: Its id; `x` is the latest run of a task, and `x~1` the first. Steps
                that an earlier run has kept are among them.

        Raises:
            UnknownTaskError: No task has this id.
            JournalError: The journal cannot be read.
        """
        return steps_of(self._noted, self._orch.get_task_status(task_id))

    @staticmethod
    def told_by(events: Iterable[Event], status: TaskStatus) -> list[Step]:
        """
        List the steps that the events of a task and of its earlier runs tell of.

        Args:
            events: The events, in their order, as a `JournalReader` has them.
            status: The state of the task.
        """
        return steps_in(events, status)

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
        Drop a kept step, and all that were kept after it.

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
            StepError: No such step is kept, or several of that name.
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
            keys = keys[_place_of(at, steps, run_id) :]
        if keys:
            drop(self._noted, run_id, keys)
        return keys

    @verb(
        "Run a finished task again from one of its steps: what was kept before stays.",
        "commit",
        "POST /tasks/{task_id}/fork",
        operation="fork",
        gives="task_id",
        status=202,
        refuses=(404, 409, 422),
        forms={"downstream": {"type": ["boolean", "null"]}},
        command="fork TASK: run a task again from one of its steps",
        preview="fork_of_task",
    )
    def fork(
        self, task_id: str, *, at: str, downstream: bool | None = None
    ) -> TaskHandle[Any]:
        """
        Run a finished task again, as `id~2`, with the steps that were kept before one.

        That step and all that were kept after it are called anew, with the functions of
        today. The run before keeps its own. Arguments and options are as they were.

        Args:
            task_id: The id of the task.
            at: The step from which on all is called anew: its name, or, of a name that
                is there several times, the key that `of` says, such as `charge#2`.
            downstream: Whether what had the result of the run before is run again, too.
                None: what is of the same run of a workflow.

        Raises:
            UnknownTaskError: No task has this id.
            InvalidTransitionError: It has not ended, or was run again since.
            StepError: It keeps no such step, or several of that name.
            InvalidTaskError: *downstream* is none of these.
        """
        if not isinstance(downstream, bool | None):
            msg = f"downstream is True, False or None, not {show(downstream)}"
            raise InvalidTaskError(msg, hint="True runs what depends on it again, too")
        _, anew = self.split(task_id, at=at)
        again = fork(self._noted, task_id, anew[0].key, downstream=downstream)
        handle: TaskHandle[Any] = self._orch.handle(again)
        return handle

    def split(self, task_id: str, *, at: str) -> tuple[list[Step], list[Step]]:
        """
        The steps that `fork` would keep, and those that it would call anew.

        Args:
            task_id: The id of the task.
            at: The step: see `fork`.

        Raises:
            UnknownTaskError: No task has this id.
            InvalidTransitionError: It has not ended.
            StepError: It keeps no such step, or several of that name.
        """
        status = self._orch.get_task_status(task_id)
        run_id: str = status.task_id
        if status.state not in TERMINAL:
            msg = f"task {run_id} is {status.state}: a fork begins with what a run has "
            msg += "kept by its end"
            hint = "cancel it first, or wait for its end"
            raise InvalidTransitionError(msg, hint=hint, task_id=run_id)
        # A call that was cut off, and waited for nothing, is not kept.
        steps = [
            each
            for each in steps_of(self._noted, status)
            if each.state != "left" or each.child
        ]
        place = _place_of(at, steps, run_id)
        return steps[:place], steps[place:]

    @verb(
        "Fork all finished tasks for which every condition holds, at the same step.",
        "journal",
        "POST /task-forks",
        operation="fork_many",
        gives="task_ids",
        refuses=(422,),
        forms={"state": {"enum": [s.value for s in TaskState if s in TERMINAL]}},
        command="fork-many STEP: run all tasks of a kind again from the same step",
        preview="fork_of_tasks",
    )
    def fork_many(
        self,
        at: str,
        *,
        ids: str = "*",
        type: str | None = None,  # noqa: A002 - the name that tasks have for it
        state: TaskState | str | None = None,
    ) -> list[str]:
        """
        Fork all finished tasks for which every condition holds, at the same step.

        Those are left out that keep no such step, or several of its name, and those
        that were run again since. It is done one by one: after a crash, ask again.

        Args:
            at: The step: see `fork`.
            ids: A pattern of their ids: `"nightly/*"`.
            type: Their type.
            state: Their state: `failed`, `completed` or `cancelled`.

        Returns:
            The ids of the new runs.

        Raises:
            InvalidTaskError: An argument is not well formed.
            JournalError: The journal cannot be read.
        """
        forked: list[str] = []
        for task_id in self.forkable(at, ids=ids, type=type, state=state):
            with suppress(InvalidTransitionError, UnknownTaskError, StepError):
                forked.append(self.fork(task_id, at=at).task_id)
        return forked

    def forkable(
        self,
        at: str,
        *,
        ids: str = "*",
        type: str | None = None,  # noqa: A002 - the name that tasks have for it
        state: TaskState | str | None = None,
    ) -> list[str]:
        """
        The ids of the tasks that `fork_many` would fork now.

        Args:
            at: The step: see `fork`.
            ids: A pattern of their ids.
            type: Their type.
            state: Their state.

        Raises:
            InvalidTaskError: An argument is not well formed.
            JournalError: The journal cannot be read.
        """
        fields: FilterFields = {"id": ids}
        if type is not None:
            fields["type"] = type
        task_ids: list[str] = []
        for status in self._orch.tasks(state, **fields):
            if status.state in TERMINAL and not status.rerun:
                with suppress(StepError, UnknownTaskError):
                    self.split(status.task_id, at=at)
                    task_ids.append(status.task_id)
        return task_ids


def _place_of(at: Any, steps: Sequence[Step], task_id: str) -> int:
    """
    Return the place in *steps* of the step that *at* names.

    Raises:
        StepError: None is, or several are.
    """
    keys = [each.key for each in steps]
    places = [n for n, each in enumerate(steps) if at in (each.key, each.name)]
    if len(places) == 1:
        return places[0]
    if places:
        several = [keys[place] for place in places]
        msg = f"task {task_id} keeps several steps {show(at)}: {some(several)}"
        raise StepError(msg, hint=f"at={several[0]!r} is the first", task_id=task_id)
    msg = f"task {task_id} keeps no step {show(at)}"
    msg += f": it keeps {some(keys)}" if keys else ", nor any other"
    hint = f"orch.steps.of({task_id!r}) lists them; orch.rerun_task({task_id!r}) calls "
    hint = meant(at, keys) or f"{hint}what was not kept"
    raise StepError(msg, hint=hint, task_id=task_id)
