"""`orch.options(…)`: calls of functions with the options of tasks."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping
from datetime import timedelta
from itertools import count
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast, overload

from taskorch.core.handles.handles import MapResults, map_calls
from taskorch.errors import InvalidTaskError
from taskorch.kit.described import Declared
from taskorch.kit.visible import is_text, show
from taskorch.kit.vocabulary import in_our_words, others_words, unknown_option
from taskorch.model import OPTIONS, Task, TaskOptions, call_type
from taskorch.model.ids import id_problem

if TYPE_CHECKING:
    from taskorch.core.engine import Runtime
    from taskorch.core.handles.allowed import MapFailures
    from taskorch.core.handles.handles import TaskHandle

T = TypeVar("T")

_WHAT: Final = "options()"
_NAMES: Final = tuple(sorted(TaskOptions.__optional_keys__))
#: The options by our names, and by those of other libraries.
_OPTIONS: Final = others_words(_NAMES) | {name: name for name in ("executor", *_NAMES)}
#: Advice about the `id` of a map.
_HINT: Final = "'night/{}' has the item in it, 'night/{n}' its number"


def refuse_options(fn: Callable[..., Any], kwargs: Mapping[str, Any]) -> None:
    """
    Refuse the options of a task among the arguments of *fn*, which does not take them.

    By the names that others have for them, too: `retries`, `depends_on`.

    Raises:
        InvalidTaskError: There is one: it says where it belongs.
    """
    if _OPTIONS.keys().isdisjoint(kwargs):
        return
    try:
        takes = inspect.signature(fn).parameters
    except (TypeError, ValueError):
        # A compiled function does not show its parameters.
        return
    kinds = {each.kind for each in takes.values()}
    if inspect.Parameter.VAR_KEYWORD in kinds:
        return
    for name in kwargs:
        option = _OPTIONS.get(name)
        if option is not None and name not in takes:
            # Values that other libraries count or list may be of another kind here.
            value = show(kwargs[name]) if option == name else "…"
            msg = f"{call_type(fn)} takes no argument {name}=, an option of tasks"
            hint = f"orch.options({option}={value}).submit(…), or Task.call(…)"
            raise InvalidTaskError(msg, hint=hint)


class CallOptions:
    """
    The options that tasks of calls have.

    Raises:
        TypeError: There is no such option.
    """

    def __init__(self, executor: str | None, options: TaskOptions) -> None:
        ours = in_our_words(_WHAT, options, OPTIONS)
        for name in ours:
            if name not in OPTIONS:
                raise unknown_option(_WHAT, name, ("executor", *_NAMES))
        self._executor = executor
        self._options = cast("TaskOptions", ours)
        #: Whether they only name who makes the calls.
        self.is_of_executor: bool = not ours

    @property
    def declared(self) -> Declared:
        """The options in the form of a function's options."""
        return Declared(self._options, self._executor)

    def changed(self, other: CallOptions) -> CallOptions:
        """Return these options with those of *other* in their place."""
        executor = self._executor if other._executor is None else other._executor
        both: Any = {**self._options, **other._options}
        return CallOptions(executor, both)

    def allowing(
        self, value: int | str | None, iterables: tuple[Iterable[Any], ...]
    ) -> tuple[CallOptions, MapFailures | None]:
        """
        Return the options of the calls of a map, and the counter of their failures.

        Args:
            value: How many may be: see `Allowance`; None: nobody has said.
            iterables: The values from which the arguments are made.

        Raises:
            InvalidTaskError: *value* says no number.
        """
        if value is None:
            return self, None
        from taskorch.core.handles.allowed import MapFailures  # noqa: PLC0415 - seldom needed

        failures = MapFailures(value, iterables)
        if failures.allowance.is_none:
            return self, failures
        return self.changed(CallOptions(None, {"allow_failure": True})), failures

    def task(
        self, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Task[Any]:
        """The task of one call."""
        options = self._options
        return Task.call(
            fn, *args, kwargs=kwargs or None, executor=self._executor, **options
        )

    def tasks_of(
        self, fn: Callable[..., Any], pattern: str | None
    ) -> Callable[[list[tuple[Any, ...]]], list[Task[Any]]]:
        """
        Return a function that makes the tasks of the calls of a map, some at a time.

        Args:
            fn: The function to call.
            pattern: Of their ids: `{}` is an argument, and `{n}` the number of the
                call; None is that of the options.
        """
        id_text = self._options.get("id") if pattern is None else pattern
        numbers = count()
        last = ""

        def tasks(calls: list[tuple[Any, ...]]) -> list[Task[Any]]:
            nonlocal last
            batch = []
            for args in calls:
                options = self._options
                if id_text is not None:
                    task_id = _formatted(id_text, args, next(numbers))
                    if task_id == last == id_text:
                        msg = (
                            f"id={id_text!r} is that of one task, and a map makes many"
                        )
                        raise InvalidTaskError(msg, hint=_HINT)
                    last = task_id
                    options = cast("TaskOptions", {**options, "id": task_id})
                batch.append(Task.call(fn, *args, executor=self._executor, **options))
            return batch

        return tasks


def _formatted(pattern: str, args: tuple[Any, ...], number: int) -> str:
    if not is_text(pattern):
        msg = f"id is a text such as 'night/{{}}', not {show(pattern)}"
        raise InvalidTaskError(msg)
    try:
        task_id = pattern.format(*args, n=number)
    except Exception as error:
        msg = f"id={pattern!r} cannot be filled in for {show(args)}: {error}"
        raise InvalidTaskError(msg, hint=_HINT) from error
    problem = id_problem(task_id)
    if problem is not None:
        msg = f"id={pattern!r}: {problem}"
        raise InvalidTaskError(msg, hint=_HINT)
    return task_id


class WithOptions:
    """
    Submits calls of functions as `TaskOrchestrator` does, with the options of tasks.

    It may be kept, and used often.
    """

    def __init__(self, runtime: Any, options: CallOptions) -> None:
        self._rt: Runtime = runtime
        self._options = options

    @overload
    def submit(
        self, fn: Callable[..., Coroutine[Any, Any, T]], /, *args: Any, **kwargs: Any
    ) -> TaskHandle[T]: ...

    @overload
    def submit(
        self, fn: Callable[..., T], /, *args: Any, **kwargs: Any
    ) -> TaskHandle[T]: ...

    def submit(
        self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any
    ) -> TaskHandle[Any]:
        """
        Run *fn* with *args* and *kwargs*: see `TaskOrchestrator.submit`.

        Raises:
            UsageError: The task was refused.
        """
        rt, options = self._rt, self._options
        if options.is_of_executor:
            works = rt.submit_calls(fn, ((args, kwargs),), by=options._executor)
        else:
            works = rt.submit_tasks((options.task(fn, args, kwargs),))
        return cast("TaskHandle[Any]", works[0])

    @overload
    def map(
        self,
        fn: Callable[..., Coroutine[Any, Any, T]],
        /,
        *iterables: Iterable[Any],
        id: str | None = None,
        timeout: float | timedelta | None = None,
        buffersize: int | None = None,
        allow_failures: int | str | None = None,
    ) -> Iterator[T]: ...

    @overload
    def map(
        self,
        fn: Callable[..., T],
        /,
        *iterables: Iterable[Any],
        id: str | None = None,
        timeout: float | timedelta | None = None,
        buffersize: int | None = None,
        allow_failures: int | str | None = None,
    ) -> Iterator[T]: ...

    def map(
        self,
        fn: Callable[..., Any],
        /,
        *iterables: Iterable[Any],
        id: str | None = None,  # noqa: A002 - as that of a task
        timeout: float | timedelta | None = None,
        buffersize: int | None = None,
        allow_failures: int | str | None = None,
    ) -> Iterator[Any]:
        """
        Call *fn* with the items of *iterables*: see `TaskOrchestrator.map`.

        Args:
            fn: The function to call.
            iterables: One for each argument; the shortest ends it.
            id: The ids of the tasks: in `"night/{}"` stands the item, in `"night/{n}"`
                the number of the call, from 0. So what was done is not done again when
                a program with a journal is.
            timeout: Seconds, or a timedelta, for all of it, from now. That of
                `options` is for each attempt.
            buffersize: Calls that are submitted before their results are taken.
            allow_failures: How many calls may fail: a number, or a share.

        Raises:
            InvalidTaskError: An id cannot be made so; or *allow_failures* is no number.
            UsageError: A task was refused.
        """
        options, failures = self._options.allowing(allow_failures, iterables)
        make = options.tasks_of(fn, id)

        def submit(calls: list[tuple[Any, ...]]) -> Any:
            handles = self._rt.submit_tasks(make(calls))
            return handles if failures is None else failures.watch(handles)

        results_of = MapResults if failures is None else failures.results
        return map_calls(self._rt, submit, iterables, timeout, buffersize, results_of)
