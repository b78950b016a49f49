"""`@taskorch.task`: options that go with a function wherever it is submitted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeVar, Unpack, cast

from taskorch._base._vocabulary import unknown_option
from taskorch.errors import InvalidTaskError
from taskorch.model import OPTIONS, Task
from taskorch.model._describe import DECLARED, Declared, declared
from taskorch.model._show import show
from taskorch.model._task import FunctionOptions, TaskOptions
from taskorch.policies._validator import findings_of

F = TypeVar("F", bound=Callable[..., Any])

_WHAT: Final = "@task"
_NAMES: Final = tuple(
    sorted(name for name, each in OPTIONS.items() if each.place == "function")
)
_NO_FUNCTIONS: Final = (type, staticmethod, classmethod)
#: What belongs to one task, and so to no function.
_OF_ONE: Final = OPTIONS.keys() - _NAMES


def task(
    *, executor: str | None = None, **task_options: Unpack[FunctionOptions]
) -> Callable[[F], F]:
    """
    Give a function the options of the tasks that call it.

    It stays the function that it was: it can be called, pickled and imported as before.
    `submit`, `map`, `Task.call`, `wf.task`, `wf.map`, `wf.reduce` and the documents of
    workflows take its options; what is said there comes before them. A bound method of
    it, a `functools.partial`, and an object whose `__call__` it is, have them too. Of
    two decorations, the outer one comes before the inner. An agent's handler has none,
    since its tasks have their own.

        @taskorch.task(retry=RetryPolicy(3), timeout=60)
        def fetch(url): ...

    Args:
        executor: Where it runs, as for `Task.call`.
        task_options: The keyword arguments of `Task`, but `id`, `after` and
            `idempotency_key`, which are for one task only.

    Raises:
        TypeError: There is no such option.
        InvalidTaskError: An option is out of its range, or what is decorated is no
            function.
    """
    for name in task_options:
        if name in _OF_ONE:
            msg = f"@task: {name} is for one task, and a function is submitted often"
            raise InvalidTaskError(msg, hint=f"Task.call(function, {name}=…)")
        if name not in _NAMES:
            raise unknown_option(_WHAT, name, ("executor", *_NAMES))
    options = cast("TaskOptions", dict(task_options))
    probe = Task.call(print, executor=executor, **options)
    findings = findings_of(probe)
    if findings:
        faults = "; ".join(f"{finding.path}: {finding.message}" for finding in findings)
        msg = f"@task: {faults}"
        raise InvalidTaskError(msg)
    # The options as the task holds them: an iterator among them has been read by now.
    checked = {name: getattr(probe, name) for name in options}
    noted = Declared(checked, executor)

    def decorate(fn: F) -> F:
        target: object = fn
        if not callable(target) or isinstance(target, _NO_FUNCTIONS):
            msg = f"@task is for functions, and {show(fn)} is none"
            hint = "put @staticmethod and @classmethod above @task"
            raise InvalidTaskError(msg, hint=hint)
        inner, all_noted = declared(fn), noted
        if inner is not None:
            all_options = {**inner.options, **noted.options}
            all_executors = inner.executor if executor is None else executor
            all_noted = Declared(all_options, all_executors)
        try:
            setattr(fn, DECLARED, all_noted)
        except AttributeError:
            msg = f"@task: nothing can be noted of {show(fn)}"
            hint = "Task.call(function, …) takes the options each time"
            raise InvalidTaskError(msg, hint=hint) from None
        return fn

    return decorate
