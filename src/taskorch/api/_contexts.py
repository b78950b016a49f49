"""The context of a running task, with the run that it is part of."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from taskorch.core.engine import Added, AttemptContext, _context
from taskorch.kit.vocabulary import other_attribute, remedy_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

    from taskorch.core.runs import AsyncWorkflowContext, WorkflowContext
    from taskorch.ext import steps


class TaskContext(AttemptContext):
    """
    The context of a task while an attempt of it runs.

    A worker's handler gets it as its second argument; a plain function asks
    `taskorch.current_context()`.
    """

    __slots__ = ()

    key: Added[str] = Added(
        "taskorch.ext.steps._book:key_of",
        "The id of the task without the number of its run, and a digest of its work. "
        "It is the same in all attempts, re-runs and forks of that work, and another "
        "for other work: give it, with the name of the step, to a service that can "
        "tell a second call.",
    )
    step: Added[steps.StepCaller] = Added(
        "taskorch.ext.steps:StepCaller",
        "Calls a function whose result is kept: "
        '`context.step("charge", charge, order)`.',
    )
    sleep: Added[steps.Sleeper] = Added(
        "taskorch.ext.steps:Sleeper",
        "Waits without a slot, and not anew when the task runs again: "
        "`context.sleep(days=3)`.",
    )
    wait: Added[steps.EventWaiter] = Added(
        "taskorch.ext.steps:EventWaiter",
        'Waits for an event, also over a restart: `context.wait("paid", timeout=60)`.',
    )
    ask: Added[steps.PeopleAsker] = Added(
        "taskorch.ext.steps:PeopleAsker",
        'Asks people, also over a restart: `context.ask("Ship?")`.',
    )
    child: Added[steps.ChildCaller] = Added(
        "taskorch.ext.steps:ChildCaller",
        "Runs a task or a workflow of its own, whose result is kept: "
        '`context.child("pack", pack, order)`.',
    )

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            return other_attribute(self, name)

        def __getitem__(self, name: object) -> Any:
            remedy = remedy_of(name, ("results", "parameters"))
            msg = f"the context is no mapping, and has no {name!r}: {remedy}"
            raise TypeError(msg)

    @property
    def workflow(self) -> WorkflowContext | None:
        """
        The run of a workflow that the task is part of, or None.

        It can add tasks to it, and meet others of it: see `WorkflowContext`.
        """
        if not self._run_id:
            return None
        from taskorch.core.runs import within  # noqa: PLC0415 - when needed

        return within(self._rt, self)

    def _begin_run(
        self, workflow: Any, run_id: str, given: Mapping[str, Any]
    ) -> tuple[Any, Callable[[str], bool]]:
        """Begin or find a run of *workflow*; return a function that cancels a run."""
        from taskorch.core.runs import manager_of  # noqa: PLC0415 - when needed

        manager = manager_of(self._rt)
        return manager.start(workflow, run_id, parameters=given or None), manager.cancel

    def _deployed_since(self, began: datetime) -> bool:
        """Return whether the latest act since *began* went over to what is deployed."""
        from taskorch.core.runs import _versions  # noqa: PLC0415 - when needed

        made_id = self._run_id or _versions.single(self.task_id)
        return _versions.is_deployed_since(self._rt, made_id, began)

    @property
    def aio(self) -> AsyncTaskContext:
        """The methods as awaitables, for a coroutine."""
        return AsyncTaskContext(self)

    def progress(self, value: Any) -> None:
        """
        Report how far the attempt is.

        Args:
            value: Anything: a fraction, a text, a mapping. The latest one stands in
                the task's status. With a journal, the event of one of more than 10,000
                characters has only its beginning.
        """
        self._rt.progress(self._work, self.attempt, value)


class AsyncTaskContext:
    """`context.aio`: the methods of a TaskContext as awaitables."""

    __slots__ = ("_context",)

    step: Added[steps.AsyncStepCaller] = Added(
        "taskorch.ext.steps:AsyncStepCaller", "See `TaskContext.step`."
    )
    sleep: Added[steps.AsyncSleeper] = Added(
        "taskorch.ext.steps:AsyncSleeper", "See `TaskContext.sleep`."
    )
    wait: Added[steps.AsyncEventWaiter] = Added(
        "taskorch.ext.steps:AsyncEventWaiter", "See `TaskContext.wait`."
    )
    ask: Added[steps.AsyncPeopleAsker] = Added(
        "taskorch.ext.steps:AsyncPeopleAsker", "See `TaskContext.ask`."
    )
    child: Added[steps.AsyncChildCaller] = Added(
        "taskorch.ext.steps:AsyncChildCaller", "See `TaskContext.child`."
    )

    def __init__(self, context: TaskContext) -> None:
        self._context = context

    @property
    def workflow(self) -> AsyncWorkflowContext | None:
        """See `TaskContext.workflow`."""
        workflow = self._context.workflow
        return None if workflow is None else workflow.aio

    async def progress(self, value: Any) -> None:
        """See `TaskContext.progress`."""
        self._context.progress(value)

    async def spent(self, **amounts: float) -> None:
        """See `TaskContext.spent`."""
        context = self._context
        await _context.until_kept(context, lambda: context.spent(**amounts))

    async def checkpoint(self, state: Any = None) -> None:
        """See `TaskContext.checkpoint`."""
        await _context.checkpoint_async(self._context, state)


def current_context() -> TaskContext:
    """
    The context of the task that the caller runs in.

    In another process it is a copy. In a worker process of ours, `executor="process"`,
    it reports and keeps checkpoints as elsewhere; in others it can be read only.

    Raises:
        NotRunningError: The caller is not part of a task.
    """
    return cast("TaskContext", _context.current_context())
