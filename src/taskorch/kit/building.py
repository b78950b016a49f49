"""
The workflow that this thread writes down, and functions whose calls become tasks of it.

Decision: 0212.
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
    """Of each thread, what is being written down, the innermost last."""

    def __init__(self) -> None:
        self.workflows: list[Any] = []


_WRITTEN: Final = _Building()


def workflow_in_building() -> Any:
    """The workflow, or the phase, that this thread writes down, or None."""
    workflows = _WRITTEN.workflows
    return workflows[-1] if workflows else None


def begin_building(workflow: Any) -> None:
    """From now on, calls of decorated functions on this thread are tasks of it."""
    _WRITTEN.workflows.append(workflow)


def end_building() -> None:
    """What was begun last is written down."""
    _WRITTEN.workflows.pop()


class WritesWorkflow:
    """What writes down a workflow when it is called, and so is no work itself."""

    #: By this, those know it that may not import this file.
    writes_workflow: Final = True

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Write it down."""
        raise NotImplementedError


def as_workflow(work: Any) -> Any:
    """The workflow that *work* writes down without arguments; all else as it is."""
    return work() if isinstance(work, WritesWorkflow) else work


def adding(fn: Any) -> Any:
    """
    *fn*, which adds a task where a workflow is written down; elsewhere it is called.

    One that stands in its module under its name already is returned as it is: another
    in its place would not be found by that name.
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
    """The function that *fn* calls, if it is one that `adding` has made; or *fn*."""
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


#: The code that all functions of `adding` share.
_CODE: Final = next(
    each
    for each in adding.__code__.co_consts
    if inspect.iscode(each) and each.co_name == "call"
)
