"""The callers of functions of steps: on threads, on a loop, in worker processes."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import copy_context
from datetime import timedelta
from functools import partial
from random import Random
from time import monotonic, sleep
from types import SimpleNamespace
from typing import Any, Final, TypeVar, cast, overload

import attrs

from taskorch.core.engine import CURRENT, ask_at_home
from taskorch.errors import StepError, TaskTimeoutError, UnwantedResultError
from taskorch.ext.steps._book import Book, Strand, book_of, needs_reading
from taskorch.ext.steps._step import (
    Asked,
    Ran,
    asked_for,
    document_of_error,
    error_of,
    name_of,
)
from taskorch.kit.checks import check_seconds
from taskorch.kit.clock import wall
from taskorch.kit.place import PLACE
from taskorch.kit.visible import show
from taskorch.model import RetryPolicy, Task
from taskorch.policies import BackoffRetryHandler
from taskorch.protocols import Failure

T = TypeVar("T")

#: The attribute of a marked function with the options of its steps.
OPTIONS: Final = "step_options"
#: The seconds between two checks whether an attempt must stop that waits for a retry.
_LOOK: Final = 0.05
_RANDOM: Final = Random()  # noqa: S311 - for pauses, not for secrets


#: The options of a task that calls a function, of which a step has two.
_OF_TASKS: Final = {"executor", *attrs.fields_dict(Task)} - {"retry", "timeout"}
#: The options of a function that is not marked.
_NONE: Final[Mapping[str, Any]] = {"retry": None, "timeout": None}


class _Tries:
    """The tries of one step: the rule for failures, and the time of all tries."""

    def __init__(self, asked: Asked, retry: RetryPolicy) -> None:
        self._asked = asked
        self._retry = retry
        self._began = monotonic()
        self._count = 0
        self._delay = 0.0

    def begin(self) -> None:
        self._count += 1

    @property
    def ran(self) -> Ran:
        return Ran(monotonic() - self._began, self._count)

    def check(self, value: Any) -> None:
        """Refuse a result that its RetryPolicy does not want."""
        unwanted = self._retry.retry_if_result
        if unwanted is not None and unwanted(value):
            msg = f"step {self._asked.name!r} returned {show(value)}, which "
            msg += "retry_if_result refuses"
            raise UnwantedResultError(msg, result=value)

    def delay_after(self, error: Exception) -> float | None:
        """Seconds until the next try; None: there is none."""
        if self._count >= self._retry.max_attempts:
            return None
        failure = Failure(
            task=Task.call(_nothing, retry=self._retry),
            error=error,
            attempts=self._count,
            elapsed=monotonic() - self._began,
            last_delay=self._delay,
            agent="",
        )
        context: Any = SimpleNamespace(now=wall(), random=_RANDOM)
        decision = BackoffRetryHandler().decide(failure, context)
        self._delay = decision.delay
        return decision.delay if decision.retry else None


def _nothing() -> None:
    """Stand for the function of a step."""


def _options(
    name: str, call: partial[Any], retry: Any, timeout: Any
) -> tuple[RetryPolicy, float | None]:
    """
    The options of a step.

    Raises:
        StepError: Nobody can tell whether they are its, or arguments of its function.
        InvalidTaskError: An option has an invalid value.
    """
    options = {"retry": retry, "timeout": timeout}
    options = {key: value for key, value in options.items() if value is not None}
    if options:
        try:
            # Arguments that a partial gives already are none, or have defaults.
            free = inspect.signature(partial(call.func, *call.args)).parameters
        except (TypeError, ValueError):
            free = cast("Any", {})
        for key in options:
            if key in free:
                msg = f"step {name!r}: {key} is an option of the step, and an argument "
                msg += "of its function"
                hint = f"functools.partial(function, {key}=…) is for the function"
                raise StepError(msg, hint=hint)
    if timeout is not None:
        timeout = check_seconds("timeout", timeout, zero=False, none=True)
    if retry is None:
        retry = RetryPolicy()
    elif not isinstance(retry, RetryPolicy):
        retry = RetryPolicy(max_attempts=retry)
    return retry, timeout


def refuse_options(name: str, function: Any, given: Mapping[str, Any]) -> None:
    """
    Refuse options of a task that are no arguments of *function*.

    Raises:
        StepError: There are some, such as an executor.
    """
    foreign = [key for key in given if key in _OF_TASKS]
    if not foreign:
        return
    try:
        form = inspect.signature(function).parameters
    except (TypeError, ValueError):
        return
    if any(each.kind is each.VAR_KEYWORD for each in form.values()):
        return
    for key in foreign:
        if key not in form:
            msg = f"step {name!r}: {key} is an option of a task, and not of a step: "
            msg += f"the function {name_of(function)} does not take it either"
            hint = f"a step is called where its task runs; context.child({name!r}, "
            hint += f"Task.call(function, …, {key}=…)) waits for a task of its own, "
            raise StepError(msg, hint=f"{hint}whose result is kept as well")


def is_coroutine(function: Any) -> bool:
    """Return whether a call of *function* must be awaited."""
    return any(
        inspect.iscoroutinefunction(each)
        for each in (function, getattr(function, "__call__", None))  # noqa: B004
    )


@contextmanager
def _within(name: str) -> Iterator[None]:
    token = PLACE.set(name)
    try:
        yield
    finally:
        PLACE.reset(token)


def refuse_inside(name: Any) -> None:
    """Refuse the step *name* if the caller is in a step."""
    outer = PLACE.get()
    if outer:
        msg = f"step {name!r} is asked for inside step {outer!r}"
        hint = "call its function there, which is then a part of that step; or ask for "
        raise StepError(msg, hint=f"{hint}both in the task, one after the other")


def _late(name: str, timeout: float) -> TaskTimeoutError:
    return TaskTimeoutError(f"step {name!r} took longer than {timeout:g} s")


# -- on threads, and in worker processes -----------------------------------------------


class StepCaller:
    """
    `context.step`: calls a function, and keeps its result.

    In a later attempt, the step returns the kept result, and calls nothing.
    """

    def __init__(self, context: Any) -> None:
        self._context: Any = context

    def __call__(
        self,
        name: str,
        function: Callable[..., T],
        /,
        *args: Any,
        retry: RetryPolicy | int | None = None,
        timeout: float | timedelta | None = None,
        **kwargs: Any,
    ) -> T:
        """
        Call *function*, or return the result that an earlier attempt has kept.

        Args:
            name: The name of the step; with the number of the times that the task has
                asked for it, it says which step is meant.
            function: The function to call.
            args: Its arguments.
            retry: The retry policy; a number is that of tries.
            timeout: Seconds that a try may take.
            kwargs: Further arguments.

        Raises:
            StepError: The request is invalid, or differs from the kept step.
            TaskTimeoutError: The last try has taken longer than *timeout*.
            AttemptInterrupted: The attempt is to stop. Let it pass.
        """
        refuse_inside(name)
        function, marked = getattr(function, OPTIONS, (function, _NONE))
        retry = marked["retry"] if retry is None else retry
        timeout = marked["timeout"] if timeout is None else timeout
        asked = asked_for(name, function, args, kwargs)
        refuse_options(name, function, kwargs)
        call = partial(function, *args, **kwargs)
        policy, limit = _options(name, call, retry, timeout)
        if is_coroutine(function):
            msg = f"step {name!r} is to call a coroutine function"
            hint = f'await context.aio.step("{name}", …), in a coroutine'
            raise StepError(msg, hint=hint)
        book, strand = self._book(), (threading.get_ident(), 0)
        number, kept = book.ask(asked, strand)
        if kept is not None:
            return cast("T", kept[0]) if not kept[1] else _raise(kept[1])
        tries = _Tries(asked, policy)
        try:
            with book.current(f"{name}#{number}"):
                value = self._try(asked, tries, call, limit)
        except Exception as error:
            book.raised(asked, number, tries.ran, document_of_error(error), strand)
            raise
        except BaseException:
            book.left(asked)
            raise
        return cast("T", book.returned(asked, number, tries.ran, value))

    def _book(self) -> Any:
        return _BookHere(book_of(self._context))

    def _try(
        self, asked: Asked, tries: _Tries, call: Callable[[], Any], limit: float | None
    ) -> Any:
        while True:
            tries.begin()
            try:
                with _within(asked.name):
                    value = (
                        call() if limit is None else self._in_time(asked, call, limit)
                    )
                tries.check(value)
            except Exception as error:
                delay = tries.delay_after(error)
                if delay is None:
                    raise
                self._pause(delay)
            else:
                return value

    def _pause(self, delay: float) -> None:
        end = monotonic() + delay
        while (rest := end - monotonic()) > 0 and not self._context.cancelled:
            sleep(min(rest, _LOOK))

    def _in_time(self, asked: Asked, call: Callable[[], Any], limit: float) -> Any:
        """Make *call* on a thread of its own, which goes on if it takes too long."""
        variables = copy_context()
        variables.run(CURRENT.set, self._context)
        ends: list[tuple[Any, BaseException | None]] = []

        def run() -> None:
            try:
                ends.append((variables.run(call), None))
            except BaseException as error:  # noqa: BLE001 - it is the step's
                ends.append((None, error))

        thread = threading.Thread(target=run, name=f"step-{asked.name}", daemon=True)
        thread.start()
        thread.join(limit)
        if not ends:
            raise _late(asked.name, limit)
        value, error = ends[0]
        if error is not None:
            raise error
        return value


def _raise(error: BaseException) -> Any:
    raise error


class _BookHere:
    """The book of an attempt, for a caller that may wait."""

    def __init__(self, book: Book) -> None:
        self._book = book

    def ask(self, asked: Asked, strand: Strand) -> tuple[int, Any]:
        number, kept, seq = self._book.ask(asked, strand)
        self._book.inside.wait(seq)
        if kept is None:
            return number, None
        return number, (None, error_of(kept)) if kept.step.error else (kept.value, None)

    def returned(self, asked: Asked, number: int, ran: Ran, value: Any) -> Any:
        first, seq = self._book.returned(asked, number, ran, value)
        self._book.inside.wait(seq)
        return value if first is None else first.value

    def current(self, key: str) -> AbstractContextManager[Any]:
        return self._book.current(key)

    def raised(self, *told: Any) -> None:
        self._book.raised(*told)

    def left(self, asked: Asked) -> None:
        self._book.left(asked)


class _BookElsewhere:
    """The book of an attempt, in its worker process."""

    def __init__(self, context: Any) -> None:
        self._task = context.task_id, context.attempt

    def current(self, _: str) -> AbstractContextManager[Any]:
        # The orchestrator makes its span.
        return nullcontext()

    def __getattr__(self, method: str) -> Callable[..., Any]:
        def ask(*told: Any) -> Any:
            return ask_at_home(
                self._task, "taskorch.ext.steps._calls:answer", (method, told)
            )

        return ask


class _RemoteCaller(StepCaller):
    """`context.step` in a worker process, which asks beside the orchestrator."""

    def _book(self) -> Any:
        return _BookElsewhere(self._context)


def step_elsewhere(context: Any) -> StepCaller:
    """`context.step` in a worker process."""
    return _RemoteCaller(context)


def answer(context: Any, question: tuple[str, tuple[Any, ...]]) -> Any:
    """Answer, beside the orchestrator, a request of a step in a worker process."""
    method, arguments = question
    return getattr(_BookHere(book_of(context)), method)(*arguments)


# -- on a loop -------------------------------------------------------------------------


class AsyncStepCaller:
    """`context.aio.step`: a `StepCaller` to await; plain functions have a thread."""

    def __init__(self, context: Any) -> None:
        self._context = context

    @overload
    async def __call__(
        self,
        name: str,
        function: Callable[..., Awaitable[T]],
        /,
        *args: Any,
        retry: RetryPolicy | int | None = None,
        timeout: float | timedelta | None = None,  # noqa: ASYNC109 - as there
        **kwargs: Any,
    ) -> T: ...

    @overload
    async def __call__(
        self,
        name: str,
        function: Callable[..., T],
        /,
        *args: Any,
        retry: RetryPolicy | int | None = None,
        timeout: float | timedelta | None = None,  # noqa: ASYNC109 - as there
        **kwargs: Any,
    ) -> T: ...

    async def __call__(
        self,
        name: str,
        function: Callable[..., Any],
        /,
        *args: Any,
        retry: RetryPolicy | int | None = None,
        timeout: float | timedelta | None = None,  # noqa: ASYNC109 - as there
        **kwargs: Any,
    ) -> Any:
        """See `StepCaller.__call__`."""
        refuse_inside(name)
        function, marked = getattr(function, OPTIONS, (function, _NONE))
        retry = marked["retry"] if retry is None else retry
        timeout = marked["timeout"] if timeout is None else timeout
        asked = asked_for(name, function, args, kwargs)
        refuse_options(name, function, kwargs)
        call = partial(function, *args, **kwargs)
        policy, limit = _options(name, call, retry, timeout)
        strand = (threading.get_ident(), id(asyncio.current_task()))
        if needs_reading(self._context):
            await asyncio.to_thread(book_of, self._context)
        book = book_of(self._context)
        number, kept, seq = book.ask(asked, strand)
        await book.inside.wait_async(seq)
        if kept is not None:
            return _raise(error_of(kept)) if kept.step.error else kept.value
        tries = _Tries(asked, policy)
        try:
            with book.current(f"{name}#{number}"):
                value = await self._try(asked, tries, call, limit)
        except Exception as error:
            book.raised(asked, number, tries.ran, document_of_error(error), strand)
            raise
        except BaseException:
            book.left(asked)
            raise
        first, seq = book.returned(asked, number, tries.ran, value)
        await book.inside.wait_async(seq)
        return value if first is None else first.value

    async def _try(
        self, asked: Asked, tries: _Tries, call: partial[Any], limit: float | None
    ) -> Any:
        while True:
            tries.begin()
            try:
                with _within(asked.name):
                    is_awaited = is_coroutine(call.func)
                    work = call() if is_awaited else asyncio.to_thread(call)
                    value = await _in_time(asked.name, work, limit)
                tries.check(value)
            except Exception as error:
                delay = tries.delay_after(error)
                if delay is None:
                    raise
                await asyncio.sleep(delay)
            else:
                return value


async def _in_time(name: str, work: Awaitable[Any], limit: float | None) -> Any:
    if limit is None:
        return await work
    scope = asyncio.timeout(limit)
    try:
        async with scope:
            return await work
    except TimeoutError:
        if scope.expired():
            raise _late(name, limit) from None
        raise
