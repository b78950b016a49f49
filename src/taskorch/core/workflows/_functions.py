"""
`@taskorch.workflow`: a function that writes down a workflow, in plain Python.

Decisions: names-and-docs, workflows.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from datetime import datetime
from functools import update_wrapper
from typing import TYPE_CHECKING, Any, Final, Generic, ParamSpec, overload

from taskorch.core.workflows import _parameters
from taskorch.core.workflows._workflow import Node, Phase, Workflow
from taskorch.errors import InvalidTaskError, UsageError
from taskorch.kit.building import WritesWorkflow, workflow_in_building
from taskorch.kit.visible import show
from taskorch.kit.vocabulary import other_attribute
from taskorch.model.ids import check_name

P = ParamSpec("P")

#: The advice for code that needs a result while the workflow is written down.
_NOT_YET: Final = (
    "a node stands for a result that is known when the workflow runs: f.map(node) "
    "calls f with each item, and a task may add tasks: context.workflow"
)


class WorkflowFunction(WritesWorkflow, Generic[P]):
    """
    A function that writes down a workflow; made by `taskorch.workflow`.

    Called, it gives a new `Workflow`. Where a workflow is taken, it stands for the one
    that it gives without arguments.

    Attributes:
        name: The name of its workflows.
        fn: The function.

    Raises:
        InvalidTaskError: *fn* is no plain function, a default is not of the type of its
            parameter, or *name* is no safe word.
    """

    def __init__(self, fn: Callable[P, Any], name: str | None = None) -> None:
        unfit = inspect.iscoroutinefunction(fn) or inspect.isgeneratorfunction(fn)
        if not inspect.isfunction(fn) or unfit:
            msg = f"@workflow is for plain functions, and {show(fn)} is none"
            raise InvalidTaskError(msg, hint="a plain def that calls task functions")
        _parameters.of_function(fn)
        self.name: str = check_name(
            "the name of a workflow", fn.__name__ if name is None else name
        )
        self.fn: Callable[P, Any] = fn
        update_wrapper(self, fn)

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            return other_attribute(self, name)

    def __reduce__(self) -> str:
        # The module has this object under the function's name, so pickle finds it
        # there.
        return self.fn.__qualname__

    @property
    def parameters(self) -> Mapping[str, inspect.Parameter]:
        """Parameters by name, with their annotations and defaults."""
        return inspect.signature(self.fn).parameters

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Workflow:
        """
        Write down a workflow: call the function now, once.

        Raises:
            InvalidTaskError: Another is being written down; or the function returns
                a value that is no node.
            TypeError: It has no such parameters, or needs a result.
        """
        if workflow_in_building() is not None:
            msg = f"{self.name} is a workflow, and another is being written down"
            hint = "call a function without @workflow, or wf.include(…) one by hand"
            raise InvalidTaskError(msg, hint=hint)
        workflow = Workflow(self.name)
        try:
            with workflow:
                returned = self.fn(*args, **kwargs)
        except TypeError as error:
            if "Node" in str(error):
                error.add_note(_NOT_YET)
            raise
        nodes = returned if isinstance(returned, list | tuple) else [returned]
        if not all(node is None or isinstance(node, Node) for node in nodes):
            msg = f"{self.name} returns {show(returned)}, which goes nowhere"
            hint = "return nothing, or nodes; results are in run.result()"
            raise InvalidTaskError(msg, hint=hint)
        bound = inspect.signature(self.fn).bind(*args, **kwargs)
        bound.apply_defaults()
        workflow._values = _parameters.kept(bound.arguments)  # noqa: SLF001 - its maker
        return workflow

    def __repr__(self) -> str:
        return f"<WorkflowFunction {self.name!r}{inspect.signature(self.fn)}>"


def current_workflow() -> Workflow:
    """
    Return the workflow that a `@workflow` function writes down; call it therein.

        @taskorch.workflow
        def night(day: str):
            rows = extract(day)
            asked = current_workflow().add(Task.question("Load?", after=[rows]))
            asked >> load(rows)

    It takes tasks that no function stands for: questions, programs, waits, phases,
    other workflows. In a `with` block of a workflow it is that one.

    Raises:
        UsageError: No workflow is being written down on this thread.
    """
    building = workflow_in_building()
    if building is None:
        msg = "no workflow is being written down here"
        hint = "call it in a function with @workflow; a task has context.workflow"
        raise UsageError(msg, hint=hint)
    workflow: Workflow
    workflow = building.workflow if isinstance(building, Phase) else building
    return workflow


def checked(
    work: Workflow | WorkflowFunction[...],
    parameters: object,
    tick: datetime | None = None,
) -> dict[str, Any]:
    """
    Return the values of the parameters of a workflow; all, if it declares none.

    Args:
        work: The workflow, or the function that writes it down.
        parameters: Values by name.
        tick: The scheduled time, if a schedule makes the run.

    Raises:
        InvalidTaskError: A value is of another type, or one is missing or unknown.
    """
    if isinstance(work, WorkflowFunction):
        named = declared_by(work)
        return _parameters.values_of(work.name, named, parameters, tick)
    values = _parameters.by_names(parameters)
    if work._values is not None and values:  # noqa: SLF001 - see below
        msg = f"{work.name} is written down, with its parameters"
        hint = f"hand on the function itself: start({work.name}, parameters=…)"
        raise InvalidTaskError(msg, hint=hint)
    if work.parameters is None:
        return values
    return _parameters.values_of(work.name, work.parameters, values, tick)


def declared_by(work: Workflow | WorkflowFunction[...]) -> _parameters.Parameters:
    """Return the parameters that a workflow declares; none, if it takes all."""
    if isinstance(work, WorkflowFunction):
        return _parameters.of_function(work.fn)
    return work.parameters or {}


def written(
    work: Workflow | WorkflowFunction[...],
    parameters: object,
    slot: datetime | None = None,
) -> tuple[Workflow, dict[str, Any]]:
    """
    Return the workflow of these parameters, and the values kept with its run.

    Raises:
        InvalidTaskError: As for `checked`.
    """
    values = checked(work, parameters, slot)
    if isinstance(work, WorkflowFunction):
        work = work(**values)
    own = work._values  # noqa: SLF001 - it is a part of it
    if own is not None:
        return work, own
    return work, values if work.parameters is None else _parameters.kept(values)


@overload
def workflow(fn: Callable[P, Any], /) -> WorkflowFunction[P]: ...


@overload
def workflow(
    *, name: str | None = None
) -> Callable[[Callable[P, Any]], WorkflowFunction[P]]: ...


def workflow(
    fn: Callable[..., Any] | None = None, /, *, name: str | None = None
) -> Any:
    """
    Let a function write down a workflow: `for` and `if` are those of Python.

        @taskorch.workflow
        def night(day: str, regions: tuple[str, ...] = ("eu", "us")):
            rows = extract(day)
            for region in regions:
                load.options(id=f"load/{region}")(rows, region)

        orch.workflows.start(night("monday"), id="monday")

    In it, a call of a function that `@task` has decorated is a task, and what it gives
    is a node, to be handed to others. `f.submit(x)` and `f.map(node)` are tasks, too.
    All other code runs now. The parameters are those of the workflow.

    Args:
        fn: The function, where there are no options: `@taskorch.workflow`.
        name: The name of its workflows; None is that of the function.

    Raises:
        InvalidTaskError: It is no plain function, or *name* no safe word.
    """

    def decorate(function: Callable[..., Any]) -> WorkflowFunction[...]:
        return WorkflowFunction(function, name)

    return decorate if fn is None else decorate(fn)
