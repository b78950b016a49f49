"""`@step`: a function whose calls inside a task are steps."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from functools import wraps
from typing import Any, TypeVar, cast, overload

from taskorch.core.engine import current_or_none
from taskorch.errors import StepError
from taskorch.ext.steps._calls import OPTIONS, is_coroutine
from taskorch.ext.steps._step import name_of
from taskorch.kit.place import PLACE
from taskorch.kit.visible import show
from taskorch.model import RetryPolicy

F = TypeVar("F", bound=Callable[..., Any])


@overload
def step(function: F, /) -> F: ...


@overload
def step(
    *,
    name: str | None = None,
    retry: RetryPolicy | int | None = None,
    timeout: float | timedelta | None = None,
) -> Callable[[F], F]: ...


def step(
    function: Any = None,
    /,
    *,
    name: str | None = None,
    retry: RetryPolicy | int | None = None,
    timeout: float | timedelta | None = None,
) -> Any:
    """
    Decorate a function: its calls inside a task are steps.

        @step
        def charge(order): ...

    Elsewhere, and inside another step, it is called as it is.

    Args:
        function: The function.
        name: The name of the steps; None is that of the function.
        retry: See `StepCaller.__call__`.
        timeout: See `StepCaller.__call__`.

    Raises:
        StepError: It is no function.
    """
    if function is None:
        return lambda decorated: _marked(decorated, name, retry, timeout)
    return _marked(function, name, retry, timeout)


def _marked(function: Any, name: str | None, retry: Any, timeout: Any) -> Any:
    if not callable(function) or isinstance(function, type | staticmethod):
        msg = f"@step stands above a function, not {show(function)}"
        raise StepError(msg, hint='@step, or @step(name="charge")')
    called = name or name_of(function)
    options: dict[str, Any] = {"retry": retry, "timeout": timeout}
    if is_coroutine(function):
        awaited: Callable[..., Any] = function

        @wraps(function)
        async def call_async(*args: Any, **kwargs: Any) -> Any:
            context = current_or_none()
            if context is None or PLACE.get():
                return await awaited(*args, **kwargs)
            step_in = cast("Any", context).aio.step
            return await step_in(called, function, *args, **options, **kwargs)

        vars(call_async)[OPTIONS] = function, options
        return call_async

    @wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        context = current_or_none()
        if context is None or PLACE.get():
            return function(*args, **kwargs)
        step_in = cast("Any", context).step
        return step_in(called, function, *args, **options, **kwargs)

    vars(call)[OPTIONS] = function, options
    return call
