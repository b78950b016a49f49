"""
Steps that wait: `context.wait`, `context.ask` and `context.child`.

A wait is for a task, or a run of a workflow, whose id is kept as the wait begins. So
another attempt waits for the same one; and its end is kept with the task.

Decision: steps.
"""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import timedelta
from hashlib import blake2b
from typing import Any, Final, NamedTuple, cast

import attrs

from taskorch.core.engine import ask_at_home
from taskorch.errors import NotRunningError, StepError
from taskorch.ext.steps._book import Book, Strand, book_of
from taskorch.ext.steps._calls import refuse_inside
from taskorch.ext.steps._step import (
    Asked,
    KeptStep,
    Ran,
    check_name,
    code_of_all,
    digest_of,
    document_of_error,
    error_of,
    name_of,
    same_of,
    shown_arguments,
)
from taskorch.kit.checks import called_as
from taskorch.kit.limits import NS
from taskorch.kit.visible import show
from taskorch.model import TERMINAL, Answer, Call, Task, TaskState

#: An id with the task and the step of a child: the step has no full stop.
_PLAIN: Final = re.compile(r"\w[\w.-]{0,99}\.\w(?:[\w-]{0,80}\w)?", re.ASCII)
_UNSAFE: Final = re.compile(r"[^\w.-]+", re.ASCII)
_MAX_STEM: Final = 100


#: Stands for no default.
_RAISE: Final[Any] = object()


class WaitAsked(NamedTuple):
    """A request to wait: for a task, or a workflow with parameters."""

    asked: Asked
    what: Any
    parameters: Mapping[str, Any] | None = None


class EventWaiter:
    """`context.wait`: waits for an event, also over a restart."""

    def __init__(self, context: Any) -> None:
        self._context: Any = context

    def __call__(
        self,
        event: str,
        *,
        timeout: float | timedelta | None = None,
        default: Any = _RAISE,
        name: str | None = None,
    ) -> Any:
        """
        Wait until `orch.emit(event, payload)`; return the payload.

        Meanwhile the attempt gives its slot back. It keeps its resources, and its
        timeout goes on.

        Args:
            event: The name of the event.
            timeout: Seconds, or a timedelta, from when the first attempt begins to
                wait; None is for ever.
            default: The result when that time is over. Without it, the call raises a
                TaskTimeoutError then.
            name: The name of the step; None is that of the event.

        Raises:
            InvalidTaskError: The arguments are no such, or make no sense together.
            StepError: The request is invalid, or differs from the kept step.
            TaskTimeoutError: The time is over.
            AttemptInterrupted: The attempt is to stop. Let it pass.
        """
        return _outcome(self._context, _event(event, timeout, default, name))


class AsyncEventWaiter:
    """`context.aio.wait`: as `EventWaiter`, awaited."""

    def __init__(self, context: Any) -> None:
        self._context: Any = context

    async def __call__(
        self,
        event: str,
        *,
        timeout: float | timedelta | None = None,  # noqa: ASYNC109 - as there
        default: Any = _RAISE,
        name: str | None = None,
    ) -> Any:
        """See `EventWaiter.__call__`."""
        wanted = _event(event, timeout, default, name)
        return await _outcome_async(self._context, wanted)


class PeopleAsker:
    """`context.ask`: asks people, also over a restart, and keeps their answer."""

    def __init__(self, context: Any) -> None:
        self._context: Any = context

    @called_as("context.ask('Ship?', due=3600)", "ask")
    def __call__(
        self,
        text: str,
        *,
        name: str = "ask",
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
    ) -> Answer:
        """
        Ask people, and wait for their `Answer`.

        It is a question as `Task.question` makes it, which the arguments are for; its
        id is that of the task, a full stop, and the name: `A-17.ask`.

        Args:
            text: The question, in a line.
            name: The name of the step.
            options: The choices.
            no: The answers that raise a TaskFailedError; None: `reject` and `no`, if
                there.
            who: Who may answer.
            quorum: How many people must make the same choice.
            not_by: Who may not answer.
            asked_by: Who asks; None is the owner of the task.
            due: Seconds, or a timedelta, from when the first attempt asks.
            default: The choice that stands when that time is over. Not given, it raises
                a TaskTimeoutError then.
            remind: Seconds, or a timedelta, between two reminders.
            details: Data for the decision, as JSON has it.

        Raises:
            InvalidTaskError: The arguments are no such, or make no sense together.
            StepError: The request is invalid, or differs from the kept step.
            TaskFailedError: The answer is a no.
            TaskTimeoutError: The time is over.
            AttemptInterrupted: The attempt is to stop. Let it pass.
        """
        arguments = {key: value for key, value in locals().items() if key != "self"}
        return cast("Answer", _outcome(self._context, _question(**arguments)))


class AsyncPeopleAsker:
    """`context.aio.ask`: as `PeopleAsker`, awaited."""

    def __init__(self, context: Any) -> None:
        self._context: Any = context

    @called_as("await context.aio.ask('Ship?', due=3600)", "ask")
    async def __call__(
        self,
        text: str,
        *,
        name: str = "ask",
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
    ) -> Answer:
        """See `PeopleAsker.__call__`."""
        arguments = {key: value for key, value in locals().items() if key != "self"}
        wanted = _question(**arguments)
        return cast("Answer", await _outcome_async(self._context, wanted))


class ChildCaller:
    """`context.child`: runs a task or a workflow of its own, and keeps its result."""

    def __init__(self, context: Any) -> None:
        self._context: Any = context

    def __call__(self, name: str, what: Any, /, *args: Any, **kwargs: Any) -> Any:
        """
        Run something as a task or a workflow of its own, and return its result.

        Its id is that of the task, a full stop, and the name: `A-17.pack`. If the task
        ends before it, it is cancelled.

        Args:
            name: The name of the step.
            what: A Task without an id; a workflow, whose results are returned by id; or
                a function, which a task of its own calls.
            args: The arguments of the function.
            kwargs: Those by name, or the parameters of the workflow.

        Raises:
            StepError: The request is invalid, or differs from the kept step.
            TaskFailure: It did not complete; or the error that it raised.
            AttemptInterrupted: The attempt is to stop. Let it pass.
        """
        return _outcome(self._context, _child(name, what, args, kwargs))


class AsyncChildCaller:
    """`context.aio.child`: as `ChildCaller`, awaited."""

    def __init__(self, context: Any) -> None:
        self._context: Any = context

    async def __call__(self, name: str, what: Any, /, *args: Any, **kwargs: Any) -> Any:
        """See `ChildCaller.__call__`."""
        return await _outcome_async(self._context, _child(name, what, args, kwargs))


# -- requests --------------------------------------------------------------------------


def _asked(
    name: Any, method: str, shown: str, *values: Any, tasks: Sequence[Task] = ()
) -> Asked:
    check_name(name)
    refuse_inside(name)
    arguments = shown_arguments(shown)
    work = [(each.id, each.type, each.payload, each.after) for each in tasks]
    same = same_of((method, values, work))
    code = code_of_all(
        each.payload.fn for each in tasks if isinstance(each.payload, Call)
    )
    digest = digest_of(*values)
    return Asked(str(name), f"context.{method}", arguments, digest, same, code)


def _event(event: Any, timeout: Any, default: Any, name: Any) -> WaitAsked:
    has_default = default is not _RAISE
    options = {"default": default} if has_default else {}
    if event is None:
        msg = "context.wait waits for an event, and None is none"
        raise StepError(msg, hint="context.sleep(seconds) waits for a time")
    task = Task.wait_for(event, timeout=timeout, **options)
    wait = cast("Any", task.payload)
    values = event, wait.timeout, has_default, default if has_default else None
    shown = show(event)
    if wait.timeout is not None:
        shown += f", timeout={wait.timeout:g}"
    if has_default:
        shown += f", default={show(default)}"
    return WaitAsked(
        _asked(event if name is None else name, "wait", shown, *values), task
    )


def _question(name: Any, text: str, **rules: Any) -> WaitAsked:
    task = Task.question(text, **rules)
    # Who may answer, and until when, may change while it is open, as options of tasks
    # do.
    values = text, [*cast("Any", task.payload).options], rules["details"]
    return WaitAsked(_asked(name, "ask", show(text), *values), task)


def _child(
    name: Any, child: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> WaitAsked:
    from taskorch.core.workflows import Workflow, WorkflowFunction  # noqa: PLC0415 - by few

    if isinstance(child, Workflow | WorkflowFunction):
        if args:
            msg = f"step {name!r}: the parameters of a workflow are given by name"
            hint = f"context.child({name!r}, workflow, **parameters)"
            raise StepError(msg, hint=hint)
        title = child.name if isinstance(child, Workflow) else name_of(child)
        shown = ", ".join(f"{key}={show(value)}" for key, value in kwargs.items())
        shown = f"{title}{shown and ', '}{shown}"
        tasks = (
            child.tasks(title) if isinstance(child, Workflow) else [Task.call(child.fn)]
        )
        asked = _asked(name, "child", shown, title, kwargs, tasks=tasks)
        return WaitAsked(asked, child, kwargs)
    if not isinstance(child, Task):
        if not callable(child):
            msg = f"step {name!r} is to run {show(child)}, which is no task, no "
            msg += "workflow and no function"
            raise StepError(msg)
        child = Task.call(child, *args, kwargs=kwargs or None)
    elif args or kwargs:
        msg = f"step {name!r}: a task has its arguments already"
        raise StepError(
            msg, hint="Task.call(function, argument), or the function alone"
        )
    if child.id is not None or child.idempotency_key is not None:
        msg = f"step {name!r}: the task of a step has no id and no idempotency key"
        raise StepError(msg, hint="leave it out: the name of the step says which it is")
    values = child.type, child.payload
    asked = _asked(name, "child", child.type, *values, tasks=[child])
    return WaitAsked(asked, child)


def _id_of(book: Book, asked: Asked, number: int) -> str:
    """
    The id of what this attempt begins to wait for.

    No other step, attempt or run of the task makes the same.
    """
    inside = book.inside
    plain = f"{inside.task_id}.{asked.name}"
    if number == inside.attempt == 1 and _PLAIN.fullmatch(plain):
        return plain
    exact = inside.task_id, asked.name, number, inside.attempt
    mark = blake2b(repr(exact).encode(), digest_size=5).hexdigest()
    stem = _UNSAFE.sub("-", plain).strip("-.")[:_MAX_STEM]
    return f"{stem or 'step'}-{mark}"


# -- children --------------------------------------------------------------------------


@attrs.define
class _TaskAwaited:
    """A wait for a task."""

    handle: Any

    @property
    def works(self) -> list[Any]:
        return [self.handle]

    def is_over(self) -> bool:
        return cast("bool", self.handle.done())

    def has_completed(self) -> bool:
        return self.is_over() and self.handle.exception() is None

    def result(self) -> Any:
        return self.handle.result()

    def leave(self) -> None:
        self.handle.cancel()


@attrs.define
class _RunAwaited:
    """A wait for a run of a workflow."""

    handle: Any
    cancel: Callable[[str], bool]

    @property
    def works(self) -> list[Any]:
        return [*self.handle.handles.values()]

    def is_over(self) -> bool:
        return self.handle.status().state in TERMINAL

    def has_completed(self) -> bool:
        return self.handle.status().state is TaskState.COMPLETED

    def result(self) -> Any:
        return self.handle.result()

    def leave(self) -> None:
        if not self.is_over():
            self.cancel(self.handle.workflow_id)


class _OpenWait(NamedTuple):
    """A step that waits."""

    book: Book
    asked: Asked
    number: int
    child: str
    wait: _TaskAwaited | _RunAwaited
    began_ns: int

    @property
    def key(self) -> str:
        return f"{self.asked.name}#{self.number}"

    @property
    def ran(self) -> Ran:
        took = max(0, self.book.inside.now() - self.began_ns) / NS
        return Ran(took, child=self.child)

    def leave(self) -> None:
        self.wait.leave()

    def returned(self, value: Any) -> tuple[Any, int]:
        self.book.waited(self.key)
        first, seq = self.book.returned(self.asked, self.number, self.ran, value)
        return (value if first is None else first.value), seq

    def raised(self, error: Exception, strand: Strand) -> int:
        """
        Note that the wait has raised *error*; it goes on if that is not its end.

        The number is for `InsideAttempt.wait`.
        """
        if not self.wait.is_over():
            self.book.left(self.asked)
            return 0
        self.book.waited(self.key)
        seq = self.book.begin_anew(self.key)
        document = document_of_error(error)
        self.book.raised(self.asked, self.number, self.ran, document, strand)
        return seq


def _open(
    context: Any, wanted: WaitAsked, strand: Strand
) -> tuple[Book, _OpenWait | None, KeptStep | None]:
    """Return the wait for the wanted child, or its kept result."""
    book, asked = book_of(context), wanted.asked
    number, kept, seq = book.ask(asked, strand)
    book.inside.wait(seq)
    if kept is not None and kept.is_over:
        return book, None, kept
    wait, child, began_ns = None, "", book.inside.now()
    try:
        if kept is not None:
            child, began_ns = kept.step.child, round(kept.step.began.timestamp() * NS)
            wait = _begin(book, wanted, child)
            if kept.step.task_id != book.inside.task_id and not wait.has_completed():
                # The run of the task that waited for the child has left it.
                wait.leave()
                wait, began_ns = None, book.inside.now()
        if wait is None:
            child = _id_of(book, asked, number)
            book.begun(asked, number, child)
            wait = _begin(book, wanted, child)
    except BaseException:
        book.left(asked)
        raise
    opened = _OpenWait(book, asked, number, child, wait, began_ns)
    book.waits(opened.key, opened)
    return book, opened, None


def _begin(book: Book, wanted: WaitAsked, child: str) -> _TaskAwaited | _RunAwaited:
    inside = book.inside
    try:
        if wanted.parameters is None:
            return _TaskAwaited(inside.begin(attrs.evolve(wanted.what, id=child)))
        run, cancel = inside.begin_run(wanted.what, child, wanted.parameters)
        return _RunAwaited(run, cancel)
    except NotRunningError:
        # The next incarnation begins it, if this one stops.
        inside.stop_if_asked()
        raise


def _given(kept: KeptStep) -> Any:
    if kept.step.error:
        raise error_of(kept)
    return kept.value


def _outcome(context: Any, wanted: WaitAsked, strand: Strand | None = None) -> Any:
    """Wait on this thread for the wanted child."""
    strand = strand or (threading.get_ident(), 0)
    if isinstance(context, _ContextElsewhere):
        task = context.context.task_id, context.context.attempt
        place = "taskorch.ext.steps._waits:outcome_at_home"
        return ask_at_home(task, place, (wanted, strand))
    book, opened, kept = _open(context, wanted, strand)
    if opened is None:
        return _given(cast("KeptStep", kept))
    try:
        for work in opened.wait.works:
            book.inside.until(work)
        value = opened.wait.result()
    except Exception as error:
        book.inside.wait(opened.raised(error, strand))
        raise
    except BaseException:
        book.left(wanted.asked)
        raise
    value, seq = opened.returned(value)
    book.inside.wait(seq)
    return value


async def _outcome_async(context: Any, wanted: WaitAsked) -> Any:
    """Wait on the running loop for the wanted child."""
    strand = threading.get_ident(), id(asyncio.current_task())
    # This thread reads the journal, and waits for it.
    book, opened, kept = await asyncio.to_thread(_open, context, wanted, strand)
    if opened is None:
        return _given(cast("KeptStep", kept))
    try:
        for work in opened.wait.works:
            await book.inside.until_async(work)
        value = await opened.wait.handle
    except Exception as error:
        await book.inside.wait_async(opened.raised(error, strand))
        raise
    except BaseException:
        book.left(wanted.asked)
        raise
    value, seq = opened.returned(value)
    await book.inside.wait_async(seq)
    return value


# -- in worker processes ---------------------------------------------------------------


@attrs.define
class _ContextElsewhere:
    """The context of an attempt in a worker process."""

    context: Any


def wait_elsewhere(context: Any) -> EventWaiter:
    """`context.wait` in a worker process."""
    return EventWaiter(_ContextElsewhere(context))


def ask_elsewhere(context: Any) -> PeopleAsker:
    """`context.ask` in a worker process."""
    return PeopleAsker(_ContextElsewhere(context))


def child_elsewhere(context: Any) -> ChildCaller:
    """`context.child` in a worker process."""
    return ChildCaller(_ContextElsewhere(context))


def outcome_at_home(context: Any, asked: tuple[WaitAsked, Strand]) -> Any:
    """Wait beside the orchestrator for what a worker process wants."""
    return _outcome(context, *asked)
