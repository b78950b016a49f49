"""
The task: one unit of work, as described by the user.

Decision: options-and-settings.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable, Mapping
from datetime import datetime, timedelta
from operator import attrgetter
from types import FunctionType, MappingProxyType
from typing import (
    TYPE_CHECKING,
    Any,
    Final,
    Generic,
    TypedDict,
    Unpack,
    cast,
    overload,
)

import attrs

from taskorch.errors import InvalidTaskError, TaskorchError
from taskorch.kit.checks import to_limit, to_seconds
from taskorch.kit.described import (
    FunctionWithOptions,
    declared,
    described,
    option,
)
from taskorch.kit.frozen import draft_of, shown
from taskorch.kit.visible import masked, show
from taskorch.kit.vocabulary import CountedRetries, suggesting
from taskorch.model._cache import Cache, to_cache
from taskorch.model._program import DEFAULT_ENV, Enforce, InheritEnv, Program
from taskorch.model._question import RAISE, Answer, Wait, to_question
from taskorch.model._resources import Resources
from taskorch.model._retry_policy import RetryPolicy
from taskorch.model._states import Join, OnParentFailure
from taskorch.model.scopes import to_writes

if TYPE_CHECKING:
    # The import is for annotations only: the model does no input or output.
    import os

    # Type checkers know it without its being installed; Python has it from 3.13 on.
    from typing_extensions import TypeVar

    from taskorch.model._program import ProgramResult

    #: The type of the task's result; `Any` by default.
    T = TypeVar("T", default=Any)
    R = TypeVar("R")
else:
    from typing import TypeVar

    T = TypeVar("T")
    R = TypeVar("R")

NO_RESOURCES = Resources()
NO_RETRY = RetryPolicy()
#: The keyword arguments of most calls: one immutable mapping for all.
_NONE: Mapping[str, Any] = MappingProxyType({})


def call_type(fn: Callable[..., object]) -> str:
    """Return the type of a task that calls *fn*: its qualified name."""
    name = getattr(fn, "__qualname__", None)
    return name if isinstance(name, str) else type(fn).__qualname__


def _one_if_empty(kwargs: Mapping[str, Any]) -> Mapping[str, Any]:
    return _NONE if type(kwargs) is dict and not kwargs else kwargs


def _shown(kwargs: Mapping[str, Any]) -> str:
    return masked(repr({} if kwargs is _NONE else kwargs))


@attrs.frozen(weakref_slot=False)
class Call:
    """
    A call of a function, as the payload of a task.

    Attributes:
        fn: The function.
        args: Its positional arguments.
        kwargs: Its keyword arguments.
        executor: The executor; None chooses by the kind of function.
    """

    fn: Callable[..., Any]
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = attrs.field(
        default=_NONE, converter=_one_if_empty, repr=_shown
    )
    executor: str | None = None

    __repr__ = shown

    def __reduce__(self) -> tuple[Any, ...]:
        # A view of a dict cannot be pickled.
        return Call, (self.fn, self.args, dict(self.kwargs), self.executor)


def _resources(value: Resources | Mapping[str, float]) -> Resources:
    # A value of another type is left to the validator, which reports all faults, and so
    # is a mapping that cannot be read. A request for its class may raise.
    unchecked = cast("Resources", value)
    if issubclass(type(value), Resources):
        return unchecked.unnamed() if unchecked.unit_names else unchecked
    if issubclass(type(value), Mapping):
        try:
            return Resources.of(value)
        except (TaskorchError, KeyboardInterrupt, SystemExit):
            raise
        except BaseException:  # noqa: BLE001 - it is the mapping's
            return unchecked
    return unchecked


def _retry_policy(value: RetryPolicy | int) -> RetryPolicy:
    unchecked: Any = value
    if type(unchecked) is CountedRetries:
        return _policy_of(unchecked)
    # A bool is an int, and no number of attempts: see `_resources`.
    return RetryPolicy(value) if type(value) is int else value  # type: ignore[return-value]


def _policy_of(retries: CountedRetries) -> RetryPolicy:
    attempts, delay = retries
    if isinstance(delay, list | tuple):
        missing = attempts - 1 - len(delay)
        delays = [*delay, *list(delay[-1:]) * missing][: attempts - 1]
        return RetryPolicy(delays=delays) if delays else RetryPolicy(attempts)
    return RetryPolicy(attempts, wait="fixed", base=delay, max_delay=delay, jitter=0)


def _moment(value: float | timedelta | datetime | None) -> float | datetime | None:
    moment: float | datetime | None = to_seconds(value)
    return moment


class _Shared(TypedDict, total=False):
    """Options that many tasks can have in common, except `timeout`."""

    type: str
    priority: int
    join: Join
    on_parent_failure: OnParentFailure
    requires: Iterable[str] | None
    resources: Resources | Mapping[str, float]
    expected: float | timedelta | None
    deadline: float | timedelta | datetime | None
    not_before: float | timedelta | datetime | None
    retry: RetryPolicy | int
    retries: int
    idempotent: bool
    allow_failure: bool
    metadata: Mapping[str, Any] | None
    owner: str | None
    cache: Cache | bool | None
    writes: Iterable[str] | None
    budget: str | None


class FunctionOptions(_Shared, total=False):
    """Options of `@taskorch.task`: options of a task, except names of single tasks."""

    timeout: float | timedelta | None


class UntimedOptions(_Shared, total=False):
    """Options of a task, except its `timeout`: see `TaskOptions`."""

    id: str | None
    after: Iterable[Any]
    idempotency_key: str | None


class TaskOptions(UntimedOptions, total=False):
    """
    Options of `Task`, `Task.call`, `wf.task` and others, as keyword arguments.

    A function of your own that passes them on has `**options: Unpack[TaskOptions]`. The
    attributes of `Task` describe each option.
    """

    timeout: float | timedelta | None


class FilterFields(TypedDict, total=False):
    """Criteria of a search for tasks, beside their state: see `TaskFilter`."""

    type: str | None
    id: str | None
    agent: str | None
    owner: str | None
    metadata: Mapping[str, Any] | None
    since: float | timedelta | datetime | None
    older_than: float | timedelta | None
    mended: bool | None


@suggesting
@attrs.frozen
class Task(Generic[T]):
    """
    One unit of work, with its needs and limits.

    A task is a plain description. Nothing is checked until it is submitted: then
    the validator names every fault at once. In Python, `retries=2` may be written for
    `retry=3`.

    Attributes:
        type: The kind of work; a worker with this capability does it.
        payload: The input of the work.
        id: Its name for ever; made up at submission if None.
        priority: Higher runs first; one level is worth a minute of waiting.
        after: Its parents: ids, handles or tasks; repeats are allowed.
        join: The condition to run: `"all"` or `"any"` of its parents, or `AtLeast(k)`,
            completed, or all `"finished"`, however; or a function of a mapping of their
            ids to states. As a policy, it is asked under the lock whenever one ends,
            answers at once, and calls nothing of the orchestrator.
        on_parent_failure: The rule if that cannot come true any more: `"block"` waits
            until failed parents run again, `"skip"` cancels it, `"fail"` fails it, and
            `"run"` runs it once all have ended.
        requires: Capabilities that the worker must have; None means one: the task's
            type.
        resources: Its resources while it runs; `Elastic(…)` may be granted in part.
        timeout: Seconds that one attempt may run.
        expected: Expected seconds of an attempt, for the order within a batch and for
            `simulate`. None: as its type took before.
        deadline: When it must have ended: seconds from submission, or an aware
            datetime.
        not_before: When it may start: seconds from submission, or an aware datetime.
        retry: The policy for retries; a number is that of attempts.
        idempotency_key: Submitting the same key again returns the first task's handle.
        idempotent: False if a person must decide after an attempt with an unknown end.
        allow_failure: True if dependents go on when it fails, with a `TaskFailedError`
            for its result, and its run completes.
        metadata: Your labels, to find it again; a router may read them.
        owner: Its tenant: a person or a team. With `FairShareQueue`, tenants share the
            machine.
        cache: A `Cache`, or True: it takes the cached result of a like task, if there
            is one.
        writes: The paths that it may write, below the folder of the project, such as
            `"src/a/**"`. Two tasks that may write the same file do not run together.
            None declares nothing; paths of a program are below its `cwd`.
        budget: The budget that it draws on: see `orch.budget`. It reserves the amounts
            in its `resources` that the budget has.
    """

    #: Among the arguments of another task: see `taskorch.model._arguments`.
    stands_for_result = True

    type: str = attrs.field(
        metadata=option("type", identity=True, kind=True, match="equal")
    )
    payload: Any = None
    id: str | None = attrs.field(
        default=None,
        kw_only=True,
        metadata=option("id", identity=True, place="submission", match="pattern"),
    )
    priority: int = attrs.field(
        default=0, kw_only=True, metadata=option("priority", kind=True)
    )
    after: Iterable[Any] = attrs.field(
        default=(),
        kw_only=True,
        metadata=option("ids", identity=True, place="workflow"),
    )
    join: Join = attrs.field(
        default="all", kw_only=True, metadata=option("join", identity=True)
    )
    on_parent_failure: OnParentFailure = attrs.field(
        default="block",
        kw_only=True,
        metadata=option("on_parent_failure", identity=True),
    )
    requires: Iterable[str] | None = attrs.field(
        default=None, kw_only=True, metadata=option("names", kind=True)
    )
    resources: Resources = attrs.field(
        default=NO_RESOURCES,
        kw_only=True,
        converter=_resources,
        metadata=option("resources", kind=True),
    )
    timeout: float | None = attrs.field(
        default=None,
        kw_only=True,
        converter=to_limit,
        metadata=option("duration", kind=True),
    )
    expected: float | None = attrs.field(
        default=None,
        kw_only=True,
        converter=to_limit,
        metadata=option("duration_or_zero"),
    )
    deadline: float | datetime | None = attrs.field(
        default=None, kw_only=True, converter=_moment, metadata=option("moment")
    )
    not_before: float | datetime | None = attrs.field(
        default=None,
        kw_only=True,
        converter=_moment,
        metadata=option("moment_or_zero"),
    )
    retry: RetryPolicy = attrs.field(
        default=NO_RETRY,
        kw_only=True,
        converter=_retry_policy,
        metadata=option("retry", kind=True),
    )
    idempotency_key: str | None = attrs.field(
        default=None,
        kw_only=True,
        metadata=option("key", identity=True, place="submission"),
    )
    idempotent: bool = attrs.field(
        default=True, kw_only=True, metadata=option("flag", kind=True)
    )
    metadata: Mapping[str, Any] | None = attrs.field(
        default=None, kw_only=True, metadata=option("values", match="contains")
    )
    owner: str | None = attrs.field(
        default=None, kw_only=True, metadata=option("name", kind=True, match="equal")
    )
    cache: Cache | None = attrs.field(
        default=None, kw_only=True, converter=to_cache, metadata=option("cache")
    )
    writes: Iterable[str] | None = attrs.field(
        default=None,
        kw_only=True,
        converter=to_writes,
        metadata=option("paths", identity=True, kind=True),
    )
    budget: str | None = attrs.field(
        default=None, kw_only=True, metadata=option("name", identity=True, kind=True)
    )
    allow_failure: bool = attrs.field(
        default=False,
        kw_only=True,
        metadata=option("flag", identity=True, kind=True),
    )
    # The id under which this object was last submitted, so that `after=[task]` finds a
    # task without an id.
    _submitted_as: str | None = attrs.field(
        default=None, init=False, eq=False, repr=False
    )

    __repr__ = shown

    def __hash__(self) -> int:
        # The payload may not be hashable.
        return hash((self.type, self.id))

    @overload
    @classmethod
    def call(
        cls,
        fn: Callable[..., Coroutine[Any, Any, R]],
        /,
        *args: Any,
        kwargs: Mapping[str, Any] | None = None,
        executor: str | None = None,
        **task_options: Unpack[TaskOptions],
    ) -> Task[R]: ...

    @overload
    @classmethod
    def call(
        cls,
        fn: Callable[..., R],
        /,
        *args: Any,
        kwargs: Mapping[str, Any] | None = None,
        executor: str | None = None,
        **task_options: Unpack[TaskOptions],
    ) -> Task[R]: ...

    @classmethod
    def call(
        cls,
        fn: Callable[..., Any],
        /,
        *args: Any,
        kwargs: Mapping[str, Any] | None = None,
        executor: str | None = None,
        **task_options: Unpack[TaskOptions],
    ) -> Task[Any]:
        """
        Make a task that calls *fn*, a function or a coroutine function.

        A handle or a task anywhere in *args* and *kwargs* is a dependency and is
        replaced by its result; see `TaskOrchestrator.submit`.

        Args:
            fn: The function to call.
            args: Its positional arguments.
            kwargs: Its keyword arguments.
            executor: `"thread"`, `"asyncio"`, `"process"`, or a name in `executors=`;
                None chooses by the kind of function.
            task_options: The keyword arguments of `Task`. They come before those that
                `@taskorch.task` gave to *fn*.

        Raises:
            InvalidTaskError: *fn* is not callable.
        """
        return call_of(cls, fn, args, kwargs, executor, task_options)

    @classmethod
    def wait_for(
        cls,
        event: str | None,
        *,
        timeout: float | timedelta | None = None,
        default: Any = RAISE,
        **task_options: Unpack[UntimedOptions],
    ) -> Task[Any]:
        """
        Make a task that waits for an event, without a thread or a slot.

        It begins to wait once its dependencies allow it, is BLOCKED from then on, and
        completes with the payload of `orch.emit(event, payload)`, even while it is
        suspended. `orch.decide(id, "complete" | "fail")` ends it, too.

        Args:
            event: The name of the event; None waits for the time only.
            timeout: Seconds, or a timedelta, from the beginning of the wait; not
                counted while it is suspended. None is for ever.
            default: Its result when the time is over. Without a default, it fails then
                with a TaskTimeoutError.
            task_options: The keyword arguments of `Task`, except its `timeout`, which
                is for an attempt; `type` is `"wait"`.

        Raises:
            InvalidTaskError: An argument is invalid, or they contradict each other.
        """
        task_options.setdefault("type", "wait")
        # The constructor knows `retries`, but type checkers do not; so for the
        # following ones.
        payload = Wait(event, timeout, default)
        return cls(payload=payload, **task_options)  # type: ignore[misc]

    @classmethod
    def question(
        cls,
        text: str,
        *,
        options: Iterable[str] = ("approve", "reject"),
        no: Iterable[str] | None = None,
        who: Iterable[str] | None = None,
        quorum: int = 1,
        not_by: Iterable[str] = (),
        asked_by: str | None = None,
        due: float | timedelta | None = None,
        default: str | None = None,
        remind: float | timedelta | None = None,
        details: Any = None,
        **task_options: Unpack[UntimedOptions],
    ) -> Task[Answer]:
        """
        Make a task that asks people, and completes with their `Answer`.

        It holds no thread and no slot. It is asked once its dependencies allow it, and
        is BLOCKED from then on, until `orch.answer(id, choice, by=…)` decides it. A no
        fails it, with a TaskFailedError; the end of its time does, too, with a
        TaskTimeoutError.

        Args:
            text: The question, in a line.
            options: The choices.
            no: The choices that fail it; None: `reject` and `no`, if there. A no of one
                person decides at once, whatever the quorum is.
            who: The people who may answer, by name; None is anybody. `role:approver` is
                anyone with a named token of this role.
            quorum: How many people must make the same choice.
            not_by: The people who may not answer; `"requester"` stands for the person
                who asks.
            asked_by: The person who asks; None is its `owner`.
            due: Seconds, or a timedelta, from the question on; None is for ever.
            default: The choice with which it completes when that time is over. Without
                a default, it fails then.
            remind: Seconds, or a timedelta, between two reminders, which are events:
                `QuestionReminded`.
            details: Details that help to decide, as JSON has them.
            task_options: The keyword arguments of `Task`, except its `timeout`; `type`
                is `"question"`.

        Raises:
            InvalidTaskError: An argument is invalid, or they contradict each other.
        """
        task_options.setdefault("type", "question")
        payload = to_question(
            text,
            options=options,
            no=no,
            who=who,
            quorum=quorum,
            not_by=not_by,
            asked_by=task_options.get("owner") if asked_by is None else asked_by,
            due=due,
            default=default,
            remind=remind,
            details=details,
        )
        return cls(payload=payload, **task_options)  # type: ignore[misc,return-value]

    @classmethod
    def program(
        cls,
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
    ) -> Task[ProgramResult]:
        """
        Make a task that runs a program, from an argument list and without a shell.

        Args:
            args: The program and its arguments.
            env: Variables to set.
            inherit_env: Variables of this process that it gets beside the default ones:
                names, or True for all.
            cwd: The folder to run in; None is the present one.
            stdin: Its standard input; None is empty.
            check: Whether an exit code other than 0 is a failure.
            limits: The most that it may use, beside its `resources`.
            reads: The folders and files that it may read; None allows all.
            network: False if it can open no socket.
            enforce: Whether to enforce all of that, with the `memory_mb`, `cpu` and
                `disk_mb` of its `resources`, and to its `writes`: see `Program`.
            task_options: The keyword arguments of `Task`; `type` is `"program"`.

        Raises:
            ValueError, TypeError: An argument is invalid.
        """
        payload = Program(
            args,
            env={} if env is None else env,
            inherit_env=inherit_env,
            cwd=cwd,
            stdin=stdin,
            check=check,
            limits={} if limits is None else limits,
            reads=reads,
            network=network,
            enforce=enforce,
        )
        task_options.setdefault("type", "program")
        return cls(payload=payload, **task_options)  # type: ignore[misc,return-value]


#: All options by name, as described at their fields.
OPTIONS: Final = described(Task)


def _written(text: str, usual: Mapping[str, Any]) -> Any:
    """
    Compile the function `made` in *text*; `usual_x` in it is `x` of *usual*.

    attrs makes the methods of a class in the same way. Every task of a batch is made
    and tested by these functions, and a loop over the fields takes four times as long.
    """
    names = {f"usual_{name}": value for name, value in usual.items()}
    exec(text, names)  # noqa: S102 - made of the names of our own fields
    return names["made"]


def plain_but(*names: str) -> Callable[[Task], bool]:
    """
    Make a test of tasks whether all options but these have their defaults.

    The test compares identities. An equal object, such as a text that was read from a
    file, fails it: such a task takes the longer path, with the same result.
    """
    usual = {
        each.name: each.default
        for each in OPTIONS.values()
        if each.name not in ("type", *names)
    }
    test = " and ".join(f"task.{name} is usual_{name}" for name in usual)
    predicate: Callable[[Task], bool] = _written(
        f"def made(task): return {test}", usual
    )
    return predicate


_KIND: Final = tuple(each.name for each in OPTIONS.values() if each.kind)
_KIND_USUAL: Final = tuple(OPTIONS[name].default for name in _KIND)
#: True for a task that has no option of its own, only those of its kind.
is_plain: Final = plain_but(*_KIND)
#: True for a task with default options of its kind, except type and priority: most
#: tasks.
_is_usual: Final = plain_but("priority", *(OPTIONS.keys() - _KIND))
_kind_values: Final = attrgetter(*_KIND)
#: Options whose equal values may have several types, of which a validator accepts one.
_numbers: Final = attrgetter(
    *[name for name in _KIND if OPTIONS[name].form in ("priority", "flag")]
)
#: Payloads that this process carries out itself, without a worker for the type.
LOCAL: Final = (Call, Program, Wait)


def kind_of(task: Task) -> tuple[Any, ...] | None:
    """
    Return the key of all tasks like *task*, or None if there is none.

    It leaves out the options that a task has for itself alone: see `is_plain`.
    """
    # A request for the class of a payload may raise.
    is_local = issubclass(type(task.payload), LOCAL)
    key: tuple[Any, ...]
    if _is_usual(task):
        key = task.type, task.priority, type(task.priority), is_local
    else:
        # Hashing the default values would take longer than the rest of this function.
        said = [
            (name, value)
            for name, value, usual in zip(
                _KIND, _kind_values(task), _KIND_USUAL, strict=True
            )
            if value is not usual
        ]
        key = *said, *map(type, _numbers(task)), is_local
    try:
        hash(key)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException:  # noqa: BLE001 - something in it is a list, or the user's
        return None
    return key


_TaskDraft = draft_of(Task)
_CallDraft = draft_of(Call)
#: The default of each field of a task that is not its own.
_USUAL: Final = {
    field.name: field.default
    for field in attrs.fields(Task)
    if field.name not in ("type", "payload", "id")
}
_put_usual: Final[Callable[[Any], None]] = _written(
    "def made(draft): " + "; ".join(f"draft.{name} = usual_{name}" for name in _USUAL),
    _USUAL,
)
_FIELDS: Final = tuple(
    field.name for field in attrs.fields(Task) if field.name != "_submitted_as"
)


def task_of_call(
    task_type: str,
    fn: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    task_id: str | None = None,
) -> Task[Any]:
    """
    Make a plain task quickly: `Task(task_type, Call(fn, args, kwargs), id=task_id)`.

    Batches consist of such tasks, and a user's policies see one for every call.
    """
    call = _CallDraft()
    call.fn = fn
    call.args = args
    call.kwargs = dict(kwargs) if kwargs else _NONE
    call.executor = None
    call.__class__ = Call
    task: Task[Any] = _TaskDraft()
    draft: Any = task
    draft.type = task_type
    draft.payload = call
    draft.id = task_id
    _put_usual(draft)
    draft.__class__ = Task
    return task


def named(task: Task[T], task_id: str | None, after: Iterable[Any]) -> Task[T]:
    """Return *task* with another id and other parents; nothing is checked again."""
    if type(task) is not Task:
        return attrs.evolve(task, id=task_id, after=after)
    copy: Task[T] = _TaskDraft()
    draft: Any = copy
    for name in _FIELDS:
        setattr(draft, name, getattr(task, name))
    draft.id = task_id
    draft.after = after
    draft._submitted_as = None  # noqa: SLF001 - of this very class
    draft.__class__ = Task
    return copy


_put_payload: Final = vars(Task)["payload"].__set__
#: For each option, the setter of its field, and its converter, if any. This does the
#: same as `__init__`, which takes four times as long for a few options.
_PUT: Final = {
    field.name: (
        vars(Task)[field.name].__set__,
        cast("Callable[[Any], Any] | None", field.converter),
    )
    for field in attrs.fields(Task)
    if field.init and field.name != "payload"
}


def call_of(
    cls: type[Task[Any]],
    fn: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any] | None,
    executor: str | None,
    options: TaskOptions,
) -> Task[Any]:
    """
    Make the task of `Task.call` from its arguments; *options* are its own.

    Raises:
        InvalidTaskError: *fn* is not callable.
    """
    if not callable(fn):
        msg = f"Task.call needs something that can be called, not {show(fn)}"
        raise InvalidTaskError(msg)
    is_bare = type(fn) is FunctionType and not fn.__dict__
    noted = None if is_bare else declared(fn)
    if noted is not None:
        options = cast("TaskOptions", {**noted.options, **options})
        executor = noted.executor if executor is None else executor
    if isinstance(fn, FunctionWithOptions):
        fn = fn.fn
    payload = None
    if kwargs is not None or executor is not None:
        payload = Call(fn, args, _NONE if kwargs is None else kwargs, executor)
    if cls is Task:
        task = task_of_call(call_type(fn), fn, args, _NONE)
        if payload is not None:
            _put_payload(task, payload)
        for name, value in options.items():
            if name not in _PUT:
                _refuse_argument(fn, name)
                # `__init__` raises an error that names the option that was meant.
                break
            put, convert = _PUT[name]
            put(task, value if convert is None else convert(value))
        else:
            return task
    options.setdefault("type", call_type(fn))
    payload = Call(fn, args) if payload is None else payload
    return cls(payload=payload, **options)  # type: ignore[misc]


def _refuse_argument(fn: Callable[..., Any], name: str) -> None:
    """
    Refuse *name* among the options, if it is an argument of *fn*, or for programs.

    Raises:
        TypeError: It is one; the message says where it belongs.
    """
    if name in ("enforce", "limits"):
        msg = (
            f"Task.call has no {name}: a function in a thread cannot be limited. Use "
            "executor='process', and executors={'process': processes(limits=…)} of "
            "taskorch.api.executors; or Task.program"
        )
        raise TypeError(msg)
    import inspect  # noqa: PLC0415 - for errors

    try:
        takes = inspect.signature(fn).parameters
    except (TypeError, ValueError):
        # A compiled function does not list its parameters.
        return
    if name in takes:
        msg = (
            f"Task has no option {name!r}: it is an argument of {call_type(fn)}, and "
            f"goes to kwargs={{{name!r}: …}}"
        )
        raise TypeError(msg)


def submitted_as(task: Task) -> str | None:
    """Return the id under which *task* was last submitted; None: it was not."""
    return task._submitted_as  # noqa: SLF001 - of this very class
