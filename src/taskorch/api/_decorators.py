"""
`@taskorch.task`: options that go with a function wherever it is submitted.

The function stays what it was, and has `submit`, `map` and `options` besides. Where a
workflow is written down, its calls are tasks of that.

Decision: names-and-docs.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable, Iterator
from datetime import timedelta
from functools import partial
from types import FunctionType
from typing import (
    TYPE_CHECKING,
    Any,
    Final,
    Generic,
    NoReturn,
    ParamSpec,
    Protocol,
    TypeVar,
    Unpack,
    cast,
    overload,
)

from taskorch.errors import InvalidTaskError
from taskorch.kit.building import adding, called_in, workflow_in_building
from taskorch.kit.checks import called_as
from taskorch.kit.described import (
    DECLARED,
    Declared,
    FunctionWithOptions,
    declared,
)
from taskorch.kit.visible import show
from taskorch.kit.vocabulary import (
    NOT_OF_FUNCTIONS,
    OF_FUNCTIONS,
    in_our_words,
    other_attribute,
    unknown_option,
)
from taskorch.model import OPTIONS, Task, TaskOptions, call_type
from taskorch.model._task import FunctionOptions
from taskorch.policies._validator import findings_of

if TYPE_CHECKING:
    from taskorch.api._options import CallOptions, WithOptions
    from taskorch.core.engine import Runtime
    from taskorch.core.handles.handles import TaskHandle

P = ParamSpec("P")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)
T = TypeVar("T")

_WHAT: Final = "@task"
_NAMES: Final = tuple(
    sorted(name for name, each in OPTIONS.items() if each.place == "function")
)
_NO_FUNCTIONS: Final = (type, staticmethod, classmethod)
#: Options that belong to one task, and so to no function.
_OF_ONE: Final = OPTIONS.keys() - _NAMES


class SubmitsCalls(FunctionWithOptions, Generic[T]):
    """
    Submits calls of one function: what `f.submit`, `f.map` and `f.options` do.

    It asks the orchestrator that it was made for, by `@orch.task`; or else that of the
    task in which it is called; or else the only one that is open in this process. Where
    a workflow is written down, it adds tasks to that. It may stand for the function
    wherever a task is made of one: `orch.submit(f.options(timeout=5), 1)`.

    Args:
        fn: The function to call.
        options: The options of each call; None: only those of the function.
        runtime: The runtime that runs them; None looks for it at each call.
    """

    def __init__(
        self,
        fn: Callable[..., Any],
        options: CallOptions | None = None,
        runtime: Runtime | None = None,
    ) -> None:
        super().__init__(fn)
        self._options = options
        self._rt = runtime

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            return other_attribute(self, name)

    @property
    def with_noted(self) -> Declared:
        """The options of its calls, with those of the function."""
        noted = declared(self.fn) or Declared({})
        if self._options is None:
            return noted
        own = self._options.declared
        executor = noted.executor if own.executor is None else own.executor
        return Declared({**noted.options, **own.options}, executor)

    def __call__(self, /, *args: Any, **kwargs: Any) -> T:
        """
        Add a call to the workflow that is being written down.

        Raises:
            InvalidTaskError: None is: options are for tasks.
        """
        workflow = workflow_in_building()
        if workflow is None:
            name = call_type(self.fn)
            msg = f"{name}.options(…) has options for tasks, and this call makes none"
            raise InvalidTaskError(msg, hint=f"{name}.options(…).submit(…)")
        node: T = workflow.task(self, *args, kwargs=kwargs or None)
        return node

    def __reduce__(self) -> tuple[Any, ...]:
        # The program that unpickles it has another orchestrator, or none.
        return SubmitsCalls, (self.fn, self._options)

    def _calls(self) -> WithOptions:
        from taskorch.api._options import (  # noqa: PLC0415 - a function may wait long
            CallOptions,
            WithOptions,
        )
        from taskorch.core.engine import open_runtime  # noqa: PLC0415 - the same

        runtime = self._rt
        if runtime is None:
            runtime = open_runtime(call_type(self.fn))
        return WithOptions(runtime, self._options or CallOptions(None, {}))

    def submit(self, /, *args: Any, **kwargs: Any) -> TaskHandle[T]:
        """
        Submit a call: see `TaskOrchestrator.submit`.

        Raises:
            NotRunningError: It cannot be told which orchestrator is meant.
            UsageError: The task was refused.
        """
        from taskorch.api._options import (  # noqa: PLC0415 - as above
            refuse_options,
        )

        refuse_options(self.fn, kwargs)
        if workflow_in_building() is not None:
            node: Any = self(*args, **kwargs)
            return cast("TaskHandle[T]", node)
        return self._calls().submit(self.fn, *args, **kwargs)

    @called_as("options of tasks go before it: f.options(id='n/{}').map(items)")
    def map(
        self,
        /,
        *iterables: Iterable[Any],
        timeout: float | timedelta | None = None,
        buffersize: int | None = None,
        allow_failures: int | str | None = None,
    ) -> Iterator[T]:
        """
        Submit a call for each item: see `TaskOrchestrator.map`.

        Raises:
            NotRunningError: It cannot be told which orchestrator is meant.
            UsageError: A task was refused.
        """
        workflow = workflow_in_building()
        if workflow is not None:
            node = _map_in(workflow, self, iterables, allow_failures)
            return cast("Iterator[T]", node)
        return self._calls().map(
            self.fn,
            *iterables,
            timeout=timeout,
            buffersize=buffersize,
            allow_failures=allow_failures,
        )

    def options(
        self, *, executor: str | None = None, **task_options: Unpack[TaskOptions]
    ) -> SubmitsCalls[T]:
        """
        Submit calls with options: `f.options(timeout=5).submit(1)`.

        They come before those of the function. See `TaskOrchestrator.options`.

        Raises:
            TypeError: There is no such option.
        """
        from taskorch.api._options import CallOptions  # noqa: PLC0415 - as above

        options = CallOptions(executor, task_options)
        if self._options is not None:
            options = self._options.changed(options)
        return SubmitsCalls(self.fn, options, self._rt)


def _map_in(
    workflow: Any,
    fn: Any,
    iterables: tuple[Iterable[Any], ...],
    allow_failures: int | str | None,
) -> Any:
    """
    The node of a map in a workflow that is being written down.

    Raises:
        InvalidTaskError: Its function has not one argument.
    """
    if len(iterables) != 1:
        msg = f"in a workflow, {call_type(fn.fn)}.map takes one list, or one node"
        hint = "map over pairs, or call the function in a loop"
        raise InvalidTaskError(msg, hint=hint)
    return workflow.map(fn, *iterables, allow_failures=allow_failures)


class TaskFunction(Protocol[P, R_co, T]):
    """
    A function that `@taskorch.task` has decorated, as type checkers see it.

    Called, it is the function that it was.
    """

    __name__: str
    __qualname__: str

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co: ...

    def __get__(
        self, instance: Any, owner: type | None = None, /
    ) -> Callable[..., R_co]: ...

    def submit(self, /, *args: Any, **kwargs: Any) -> TaskHandle[T]:
        """Submit a call: see `TaskOrchestrator.submit`."""
        raise NotImplementedError

    def map(
        self,
        /,
        *iterables: Iterable[Any],
        timeout: float | timedelta | None = None,
        buffersize: int | None = None,
        allow_failures: int | str | None = None,
    ) -> Iterator[T]:
        """Submit a call for each item: see `TaskOrchestrator.map`."""
        raise NotImplementedError

    def options(
        self, *, executor: str | None = None, **task_options: Unpack[TaskOptions]
    ) -> SubmitsCalls[T]:
        """Submit calls with options: see `TaskOrchestrator.options`."""
        raise NotImplementedError


class TaskDecorator(Protocol):
    """The decorator that `@taskorch.task(…)` makes."""

    @overload
    def __call__(
        self, fn: Callable[P, Coroutine[Any, Any, T]], /
    ) -> TaskFunction[P, Coroutine[Any, Any, T], T]: ...

    @overload
    def __call__(self, fn: Callable[P, R], /) -> TaskFunction[P, R, R]: ...


@overload
def task(
    fn: Callable[P, Coroutine[Any, Any, T]], /
) -> TaskFunction[P, Coroutine[Any, Any, T], T]: ...


@overload
def task(fn: Callable[P, R], /) -> TaskFunction[P, R, R]: ...


@overload
def task(
    *, executor: str | None = None, **task_options: Unpack[FunctionOptions]
) -> TaskDecorator: ...


def task(
    fn: Callable[..., Any] | None = None,
    /,
    *,
    executor: str | None = None,
    **task_options: Unpack[FunctionOptions],
) -> Any:
    """
    Let a function be submitted by itself, and give it options for the tasks of it.

    It stays the function that it was: it can be called, pickled and imported as before.
    `submit`, `map`, `Task.call`, `wf.task`, `wf.map`, `wf.reduce` and the documents of
    workflows take its options; what is said there comes before them. A bound method of
    it, a `functools.partial`, and an object whose `__call__` it is, have them too. Of
    two decorations, the outer one comes before the inner. A worker's handler has none,
    since its tasks have their own. Of a function that was defined without it, as in
    `check = task(double)`, a `@workflow` makes the call at once, as of any function:
    there, put `@task` above the definition.

        @taskorch.task(retries=2, timeout=60)
        def fetch(url): ...

        with TaskOrchestrator():
            page = fetch.submit("https://…").result()

    `fetch.submit`, `fetch.map` and `fetch.options` ask the orchestrator of the task in
    which they are called, or else the only one that is open in this process. With
    `@orch.task`, they ask *orch*.

    Args:
        fn: The function, where there are no options: `@taskorch.task`.
        executor: Where it runs, as for `Task.call`.
        task_options: The keyword arguments of `Task`, but `id`, `after` and
            `idempotency_key`, which are for one task only.

    Raises:
        TypeError: There is no such option.
        InvalidTaskError: An option is out of its range, or what is decorated is no
            function.
    """
    return decorated(fn, None, executor, task_options)


def _lead_on(word: str, /, *_args: Any, **_options: Any) -> NoReturn:
    """Refuse a decorator of Airflow, such as `@task.branch`, with our counterpart."""
    from taskorch.kit.others import elsewhere  # noqa: PLC0415 - for errors

    msg = f"@task has no {word}"
    raise InvalidTaskError(msg, hint=elsewhere(word))


for _each in (
    *("branch", "short_circuit", "sensor", "bash", "virtualenv", "external_python"),
    *("docker", "kubernetes", "run_if", "skip_if"),
):
    vars(task)[_each] = partial(_lead_on, _each)


def decorated(
    fn: Callable[..., Any] | None,
    runtime: Runtime | None,
    executor: str | None,
    task_options: FunctionOptions,
) -> Any:
    """
    Return *fn* as `task` decorates it, for *runtime*; without *fn*, a decorator.

    Raises:
        TypeError, InvalidTaskError: As for `task`.
    """
    ours = in_our_words(_WHAT, task_options, OPTIONS)
    for name in ours:
        if name in _OF_ONE:
            msg = f"@task: {name} is for one task, and a function is submitted often"
            raise InvalidTaskError(msg, hint=f"Task.call(function, {name}=…)")
        if name not in _NAMES:
            raise unknown_option(_WHAT, name, ("executor", *_NAMES))
    options = cast("TaskOptions", ours)
    probe = Task.call(print, executor=executor, **options)
    findings = findings_of(probe)
    if findings:
        faults = "; ".join(f"{finding.path}: {finding.message}" for finding in findings)
        msg = f"@task: {faults}"
        raise InvalidTaskError(msg)
    # The options are those of the task, which has consumed any iterator among them.
    checked = {name: getattr(probe, name) for name in options}
    noted = Declared(checked, executor)

    def decorate(fn: Callable[..., Any]) -> Callable[..., Any]:
        target: object = fn
        if not callable(target) or isinstance(target, _NO_FUNCTIONS):
            msg = f"@task is for functions, and {show(fn)} is none"
            hint = "put @staticmethod and @classmethod above @task"
            raise InvalidTaskError(msg, hint=hint)
        if workflow_in_building() is not None and adding(fn) is fn:
            # The function has its name elsewhere, where it stays unchanged.
            from taskorch.api._options import CallOptions  # noqa: PLC0415 - as above

            return SubmitsCalls(fn, CallOptions(executor, options), runtime)
        fn = _noting(fn, noted)
        if type(fn) is FunctionType:
            _let_submit(fn, runtime)
        return fn

    return decorate if fn is None else decorate(fn)


def _noting(fn: Any, noted: Declared) -> Any:
    """
    Return *fn* with the options of a decorator noted on it, before its earlier ones.

    Raises:
        InvalidTaskError: Nothing can be noted of it.
    """
    inner = declared(fn)
    if inner is not None:
        options = {**inner.options, **noted.options}
        executor = inner.executor if noted.executor is None else noted.executor
        noted = Declared(options, executor)
    try:
        # The decorated function may be submitted itself, under another name.
        setattr(fn, DECLARED, noted)
        if type(fn) is FunctionType:
            setattr(called_in(fn), DECLARED, noted)
            fn = adding(fn)
    except AttributeError:
        msg = f"@task: nothing can be noted of {show(fn)}"
        hint = "Task.call(function, …) takes the options each time"
        raise InvalidTaskError(msg, hint=hint) from None
    return fn


def _refuse_word(calls: SubmitsCalls[Any], name: str, *_: Any, **_options: Any) -> None:
    """
    Refuse what others have as the attribute *name* of a function.

    Raises:
        InvalidTaskError: Always: it says what is here in the place of it.
    """
    fn = call_type(calls.fn)
    msg = f"{fn}.{name} is what others have"
    raise InvalidTaskError(msg, hint=NOT_OF_FUNCTIONS[name].format(fn=fn))


def _let_submit(fn: Any, runtime: Runtime | None) -> None:
    """Give *fn* its `submit`, `map` and `options`, unless it has other such names."""
    calls: SubmitsCalls[Any] = SubmitsCalls(fn, runtime=runtime)
    ours: dict[str, Any] = {
        "submit": calls.submit,
        "map": calls.map,
        "options": calls.options,
    }
    ours |= {name: getattr(calls, name) for name in OF_FUNCTIONS}
    ours |= {name: partial(_refuse_word, calls, name) for name in NOT_OF_FUNCTIONS}
    for name, method in ours.items():
        old = getattr(fn, name, None)
        if isinstance(old, partial):
            old = old.args[0]
        is_ours = isinstance(getattr(old, "__self__", old), SubmitsCalls)
        if is_ours or not hasattr(fn, name):
            setattr(fn, name, method)
