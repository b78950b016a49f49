"""Building: the methods that a workflow and its phases share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final, Generic, Self, TypeVar, Unpack, cast

from taskorch.core.workflows import _steps
from taskorch.errors import InvalidTaskError
from taskorch.kit.allowance import Allowance
from taskorch.kit.building import begin_building, end_building
from taskorch.kit.checks import check_count
from taskorch.kit.described import Declared, FunctionWithOptions, declared
from taskorch.kit.vocabulary import in_our_words, other_attribute, unknown_option
from taskorch.model import (
    DEFAULT_ENV,
    OPTIONS,
    RAISE,
    Call,
    Task,
    TaskOptions,
    UntimedOptions,
    call_of,
)

if TYPE_CHECKING:
    import os

    from taskorch.model import Enforce, InheritEnv

NodeT = TypeVar("NodeT")

#: Arguments of the map that no task has.
_OF_MAP: Final = ("max_parallel", "allow_failures")
#: Options of the map itself; the others are for its calls.
_OWN: Final = ("id", "after", "join", "on_parent_failure")


class Builder(Generic[NodeT]):
    """The methods that add tasks as nodes: `add`, and shorter ways to say it."""

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            return other_attribute(self, name)

    def __enter__(self) -> Self:
        """Let calls of `@task` functions on this thread add tasks."""
        begin_building(self)
        return self

    def __exit__(self, *_: object) -> None:
        end_building()

    def add(self, task: Task) -> NodeT:
        """
        Add any task.

        Raises:
            UsageError: As for `task`.
        """
        raise NotImplementedError

    def _add_task(self, task: Task) -> NodeT:
        """Add a task that the builder has made."""
        raise NotImplementedError

    def task(
        self,
        fn: Callable[..., Any],
        /,
        *args: Any,
        kwargs: Mapping[str, Any] | None = None,
        executor: str | None = None,
        **task_options: Unpack[TaskOptions],
    ) -> NodeT:
        """
        Add a task that calls *fn*, as `Task.call` describes it.

        A node anywhere in the arguments is a dependency and is replaced by its result,
        as a handle is by `TaskOrchestrator.submit`. Without `id=`, the id is the name
        of the function.

        Args:
            fn: The function to call.
            args: Its positional arguments.
            kwargs: Its keyword arguments.
            executor: Where it runs, as for `Task.call`.
            task_options: The keyword arguments of `Task`; `after` takes nodes, ids of
                this workflow, handles, and runs of workflows.

        Raises:
            InvalidTaskError: Something in it is not well formed, or of another
                workflow, or not known.
            DuplicateTaskError: The id is taken.
            CycleError: It is to come after itself.
        """
        return self._add_task(call_of(Task, fn, args, kwargs, executor, task_options))

    def program(
        self,
        args: Iterable[str | bytes | os.PathLike[str]],
        *,
        env: Mapping[str, str] | None = None,
        inherit_env: InheritEnv = DEFAULT_ENV,
        cwd: str | os.PathLike[str] | None = None,
        stdin: str | bytes | None = None,
        check: bool = True,
        limits: Mapping[str, float] | None = None,
        reads: Iterable[str | os.PathLike[str]] | None = None,
        network: bool | None = None,
        enforce: Enforce = None,
        **task_options: Unpack[TaskOptions],
    ) -> NodeT:
        """
        Add a task that runs a program, as `Task.program` describes it.

        Raises:
            ValueError, TypeError: The program is not well formed.
            UsageError: As for `task`.
        """
        return self._add_task(
            Task.program(
                args,
                env=env,
                inherit_env=inherit_env,
                cwd=cwd,
                stdin=stdin,
                check=check,
                limits=limits,
                reads=reads,
                network=network,
                enforce=enforce,
                **task_options,
            )
        )

    def wait_for(
        self,
        event: str | None,
        *,
        timeout: float | timedelta | None = None,
        default: Any = RAISE,
        **task_options: Unpack[UntimedOptions],
    ) -> NodeT:
        """
        Add a task that waits for an event, or a timer, as `Task.wait_for` describes it.

        Raises:
            UsageError: As for `task`.
        """
        return self._add_task(
            Task.wait_for(event, timeout=timeout, default=default, **task_options)
        )

    def gather(
        self, nodes: Sequence[Any], **task_options: Unpack[TaskOptions]
    ) -> NodeT:
        """
        Add a task that is complete when its parts are: its result is a list of theirs.

        Args:
            nodes: The parts, nodes of this workflow.
            task_options: The keyword arguments of `Task`.

        Raises:
            UsageError: As for `task`.
        """
        task_options.setdefault("type", "gather")
        return self.task(_steps.gathered, list(nodes), **task_options)

    def map(
        self,
        fn: Callable[..., Any],
        /,
        over: Any,
        *,
        max_parallel: int | None = None,
        allow_failures: int | str | None = None,
        **task_options: Unpack[TaskOptions],
    ) -> NodeT:
        """
        Add a task that calls *fn* with each item of a result, as tasks of their own.

        How many they are is known when it runs. They are called after it: `pages/0`,
        `pages/1`. Its result is the list of theirs; it fails, once all have ended, if
        one of them does.

        Args:
            fn: The function to call with one item.
            over: A node whose result can be iterated over, or a list.
            max_parallel: How many of them run at once; None is without limit.
            allow_failures: How many of them may fail: a number, or a share such as
                `"5%"`. In the list stands the `TaskFailedError` of each. As soon as
                more have failed, the map fails, and calls that have not begun are
                cancelled.
            task_options: The keyword arguments of `Task`: `id`, `after`, `join` and
                `on_parent_failure` are for the map, all others for each call.

        Raises:
            UsageError: As for `task`.
        """
        if not callable(fn):
            msg = f"map needs something that can be called, not {fn!r}"
            raise InvalidTaskError(msg)
        if max_parallel is not None:
            check_count("max_parallel", max_parallel, least=1)
        _refuse_arguments("map", task_options, "kwargs", "executor")
        # The options as a task holds them: Resources from mappings, durations in
        # seconds.
        here = "map"
        ours = in_our_words(here, task_options, OPTIONS)
        for name in ours:
            if name not in OPTIONS:
                raise unknown_option(here, name, (*OPTIONS, *_OF_MAP))
        each = Task.call(fn, **cast("TaskOptions", ours))
        noted = declared(fn)
        names = {**({} if noted is None else noted.options), **ours}
        options = {name: getattr(each, name) for name in names}
        own = {name: options.pop(name) for name in _OWN if name in options}
        args: tuple[Any, ...] = (Call(each.payload.fn), over, options, max_parallel)
        if allow_failures is not None:
            Allowance(allow_failures)
            args = (*args, allow_failures)
        return self.task(
            _steps.mapped, *args, **cast("TaskOptions", {**own, "type": "map"})
        )

    def reduce(
        self,
        fn: Callable[[Any, Any], Any],
        /,
        over: Any,
        *start: Any,
        **task_options: Unpack[TaskOptions],
    ) -> NodeT:
        """
        Add a task that puts the items of a result together, as `functools.reduce`.

        Args:
            fn: The function that makes one value of two.
            over: A node whose result can be iterated over, or a list.
            start: The value to begin with, if any.
            task_options: The keyword arguments of `Task`. They come before those that
                `@taskorch.task` gave to *fn*.

        Raises:
            UsageError: As for `task`.
        """
        if not callable(fn):
            msg = f"reduce needs something that can be called, not {fn!r}"
            raise InvalidTaskError(msg)
        _refuse_arguments("reduce", task_options, "kwargs")
        noted = declared(fn) or Declared({})
        options: dict[str, Any] = {
            "type": "reduce",
            "executor": noted.executor,
            **noted.options,
            **task_options,
        }
        unchecked: object = fn
        call = Call(unchecked.fn if isinstance(unchecked, FunctionWithOptions) else fn)
        return self.task(_steps.reduced, call, over, *start, **options)


def _refuse_arguments(method: str, options: Mapping[str, Any], *names: str) -> None:
    """
    Refuse options *names* of `wf.task` that *method* does not take.

    Raises:
        InvalidTaskError: One is among *options*.
    """
    hints = {
        "kwargs": f"wf.{method}(functools.partial(function, name=value), over)",
        "executor": "put it with the function: @task(executor='name')",
    }
    for name in names:
        if name in options:
            msg = f"wf.{method} takes no {name}="
            raise InvalidTaskError(msg, hint=hints[name])
