"""
The workflow that this thread builds, and functions whose calls become its tasks.

Decision: names-and-docs.
"""

from __future__ import annotations

import inspect
import sys
import threading
from collections.abc import Callable
from functools import wraps
from types import FunctionType
from typing import Any, Final


class _Building(threading.local):
    """The workflows that each thread is building, the innermost last."""

    def __init__(self) -> None:
        self.workflows: list[Any] = []


_WRITTEN: Final = _Building()


def workflow_in_building() -> Any:
    """Return the workflow or phase that this thread builds, or None."""
    workflows = _WRITTEN.workflows
    return workflows[-1] if workflows else None


def begin_building(workflow: Any) -> None:
    """Make calls of decorated functions on this thread add tasks to *workflow*."""
    _WRITTEN.workflows.append(workflow)


def end_building() -> None:
    """End the innermost `begin_building` of this thread."""
    _WRITTEN.workflows.pop()


class WritesWorkflow:
    """A function that builds a workflow when it is called, and does no work."""

    #: The mark by which code that may not import this file knows it.
    writes_workflow: Final = True

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Build the workflow."""
        raise NotImplementedError


def as_workflow(work: Any) -> Any:
    """Return the workflow that *work* builds without arguments, or *work* as it is."""
    return work() if isinstance(work, WritesWorkflow) else work


def adding(fn: Any) -> Any:
    """
    Return *fn* wrapped to add a task while a workflow is built, or else be called.

    A function that its module already has under its name is returned as it is: a
    wrapper would not be found by that name.
    """
    if type(fn) is not FunctionType or fn.__code__ is _CODE:
        return fn
    if _stands_in_its_module(fn):
        return fn

    @wraps(fn)
    def call(*args: Any, **kwargs: Any) -> Any:
        workflow = workflow_in_building()
        if workflow is None:
            return fn(*args, **kwargs)
        return workflow.task(call, *args, kwargs=kwargs or None)

    if inspect.iscoroutinefunction(fn):
        _mark_coroutine_function(call)
    return call


def called_in(fn: Any) -> Any:
    """Return the function that *fn* calls, if `adding` has made *fn*, or *fn*."""
    return fn.__wrapped__ if getattr(fn, "__code__", None) is _CODE else fn


def _stands_in_its_module(fn: FunctionType) -> bool:
    place: Any = sys.modules.get(fn.__module__)
    for part in fn.__qualname__.split("."):
        place = getattr(place, part, None)
    return place is fn


def _mark_coroutine_function(fn: Callable[..., Any]) -> None:
    if sys.version_info >= (3, 12):
        inspect.markcoroutinefunction(fn)
    else:
        from asyncio import coroutines  # noqa: PLC0415 - of few functions

        setattr(fn, "_is_coroutine", vars(coroutines)["_is_coroutine"])  # noqa: B010


#: The code object that all functions of `adding` share.
_CODE: Final = next(
    each
    for each in adding.__code__.co_consts
    if inspect.iscode(each) and each.co_name == "call"
)
