"""
Meaning of the fields of a Task: how its function is called, what it needs, when.

No function here needs an orchestrator: they serve for a submission, for a task of an
earlier incarnation, and for a plan.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Container, Mapping, Sequence
from datetime import datetime
from functools import partial
from types import FunctionType
from typing import Any, Final

import attrs

from taskorch.core.engine._work import Work
from taskorch.core.executors._processes._attempts import refuse_unsendable
from taskorch.core.kernel import Spec, Terms
from taskorch.errors import InvalidTaskError
from taskorch.kit.building import WritesWorkflow, called_in
from taskorch.kit.limits import MAX_SECONDS, NS
from taskorch.kit.visible import is_text, show
from taskorch.kit.vocabulary import meant
from taskorch.kit.words import ns_of
from taskorch.model import (
    LOCAL,
    OPTIONS,
    RAISE,
    AtLeast,
    Call,
    Program,
    Question,
    Reference,
    Task,
    Wait,
    elasticity_of,
    plain_but,
    references,
    refuse_in,
    replaced,
    submitted_as,
)
from taskorch.model.ids import stem_of
from taskorch.model.scopes import prefixes_of
from taskorch.protocols import AttemptExecutor

#: Names of the built-in executors.
BUILT_IN: Final = ("auto", "thread", "asyncio", "program", "process")
_COROUTINE_FLAG: Final = inspect.CO_COROUTINE
_GENERATOR_FLAGS: Final = inspect.CO_GENERATOR | inspect.CO_ASYNC_GENERATOR
_NUMBERS: Final = (int, float)


def refuse_arguments(name: str, handler: Callable[..., Any]) -> None:
    """
    Refuse a *handler* of worker *name* that does not take a task and a context.

    Raises:
        InvalidTaskError: It takes other arguments.
    """
    try:
        takes = inspect.signature(handler, follow_wrapped=False)
    except (TypeError, ValueError):
        # A compiled function may not tell its arguments.
        return
    try:
        takes.bind(None, None)
    except TypeError:
        msg = f"worker {name!r} is called with (task, context), and takes {takes}"
        raise InvalidTaskError(msg) from None


def is_coroutine_function(fn: Any) -> bool:
    """Return whether calling *fn* gives a coroutine, even inside a partial."""
    if type(fn) is FunctionType:
        is_coroutine = bool(_flags_of(fn) & _COROUTINE_FLAG)
        is_marked = fn.__dict__ and inspect.iscoroutinefunction(called_in(fn))
        return is_coroutine or bool(is_marked)
    while isinstance(fn, partial):
        fn = fn.func
    if inspect.iscoroutinefunction(called_in(fn)):
        return True
    call = getattr(type(fn), "__call__", None)  # noqa: B004 - the method itself
    return not isinstance(fn, type) and inspect.iscoroutinefunction(called_in(call))


def _flags_of(fn: FunctionType) -> int:
    """Return the flags of the code of *fn*, or of the function that it wraps."""
    called = called_in(fn) if fn.__dict__ else fn
    flags: int = called.__code__.co_flags
    return flags


def kind_of_generator(fn: Any) -> str:
    """Return "a generator function", "an async generator function", or ""."""
    fn = called_in(fn)
    call = getattr(type(fn), "__call__", None)  # noqa: B004 - the method itself
    for each in (fn,) if isinstance(fn, type) else (fn, called_in(call)):
        if inspect.isgeneratorfunction(each):
            return "a generator function"
        if inspect.isasyncgenfunction(each):
            return "an async generator function"
    return ""


def _refuse_generator(fn: Any) -> None:
    if isinstance(fn, WritesWorkflow):
        msg = f"{show(fn)} writes down a workflow, and is no task"
        raise InvalidTaskError(msg, hint="orch.workflows.start(…) runs what it gives")
    kind = kind_of_generator(fn)
    if kind:
        msg = f"{show(fn)} is {kind}: nobody would go through what it yields"
        hint = "return a list: return list(…)"
        if kind.startswith("an async"):
            hint = "submit an async def that does: return [item async for item in …]"
        raise InvalidTaskError(msg, hint=hint)


def executor_for(
    fn: Any, name: str | None, executors: Mapping[str, AttemptExecutor[Any]]
) -> AttemptExecutor[Any]:
    """
    Return the one of *executors* that calls *fn*: *name*, or by the kind of *fn*.

    Raises:
        InvalidTaskError: There is no such executor.
    """
    is_async = is_coroutine_function(fn)
    if type(fn) is not FunctionType or _flags_of(fn) & _GENERATOR_FLAGS:
        _refuse_generator(fn)
    if name is None or name == "auto":
        return executors["asyncio" if is_async else "thread"]
    if not is_text(name):
        msg = f"executor: a name is needed, not {show(name)}"
        raise InvalidTaskError(msg)
    if name == "asyncio" and not is_async:
        msg = f"executor='asyncio' needs an async def, and {show(fn)} is none"
        raise InvalidTaskError(msg)
    own = [other for other in executors if other not in BUILT_IN]
    if name in ("thread", "process", *own) and is_async:
        msg = f"an async def runs on the loop, not with executor={name!r}"
        raise InvalidTaskError(msg, hint="use executor='asyncio', or a plain def")
    if name == "process":
        refuse_unsendable(fn)
    if name in ("thread", "asyncio", "process", *own):
        return executors[name]
    known = ("auto", "thread", "asyncio", "process", *own)
    msg = f"there is no executor {name!r}: there are {', '.join(map(repr, known))}"
    hint = meant(name, known, "name your own in TaskOrchestrator(executors=…)")
    raise InvalidTaskError(msg, hint=hint)


def portable(task: Task, name_of: Callable[[Any], Reference]) -> Task:
    """Return *task* with references for handles, which only this process has."""
    payload = task.payload
    if type(payload) is Call and needs_of(payload):
        args, kwargs = replaced(
            payload.args,
            payload.kwargs,
            lambda ref: ref if isinstance(ref, Reference) else name_of(ref),
        )
        payload = attrs.evolve(payload, args=args, kwargs=kwargs)
    elif task.after == ():
        return task
    # The event has the dependencies.
    return attrs.evolve(task, after=(), payload=payload)


def id_of(ref: Any) -> str:
    """Return the id of the task that a handle, a task or a reference stands for."""
    if isinstance(ref, Reference):
        return ref.task_id
    if isinstance(ref, Work):
        return ref._row.id
    if isinstance(ref, str):
        return ref
    return submitted_as(ref) or ref.id or ""


def bare(task: Task, name_of: Callable[[Any], str] = id_of) -> Task:
    """Return *task* for a comparison: with the bare ids of the tasks that it needs."""
    return portable(task, lambda ref: Reference(stem_of(name_of(ref))))


def needs_of_task(task: Task) -> Sequence[Any]:
    return needs_of(task.payload) if isinstance(task.payload, Call) else ()


def needs_of(call: Call) -> Sequence[Any]:
    """
    Return the handles and tasks among the arguments of *call*, however deep.

    Raises:
        InvalidTaskError: One is in a place where its result could not be put, or no
            task can depend on it.
    """
    refuse_in(call.fn)
    found = references(call.args, call.kwargs)
    for ref in found:
        if not isinstance(ref, Work | Task | Reference):
            msg = f"{show(ref)} is no task here: it is part of a workflow"
            raise InvalidTaskError(msg, hint="wf.task(…) takes it as an argument")
    return [ref for ref in found if not isinstance(ref, Reference)]


#: Returns whether a task sets no more of its own than a payload, an id, its
#: dependencies, and an expected duration.
_has_little: Final = plain_but(
    *("id", "after", "expected"),
    *(name for name, each in OPTIONS.items() if each.kind),
)
#: Returns whether it sets no option at all, not even for its kind.
is_usual: Final = plain_but("id", "after", "expected")


def is_simple(task: Task) -> bool:
    """Return whether only the kind and the parents of *task* need a look."""
    expected = task.expected
    return _has_little(task) and (
        expected is None
        or (type(expected) in _NUMBERS and 0 <= expected <= MAX_SECONDS)
    )


def said_ns(task: Task) -> float | None:
    """Return how long *task* takes, in ns, if the user has said so."""
    return None if task.expected is None else task.expected * NS


def terms_of(task: Task, parents: int) -> Terms | None:
    """
    Return the condition to start *task*; None: once all its parents completed.

    Raises:
        InvalidTaskError: So many parents could never meet it.
    """
    terms = unchecked_terms(task)
    if terms is None or terms.join in ("all", "finished"):
        return terms
    least = terms.join if isinstance(terms.join, int) else 1
    if parents < least:
        what = f"join={show(task.join)}"
        msg = f"{what} waits for {least} tasks, and `after` names {parents}"
        raise InvalidTaskError(msg, task_id=task.id)
    return terms


def unchecked_terms(task: Task) -> Terms | None:
    asked = "asked" if callable(task.join) else task.join
    join = asked.count if isinstance(asked, AtLeast) else asked
    wait, remind = None, 0
    payload = task.payload
    if isinstance(payload, Wait):
        timeout = None if payload.timeout is None else int(payload.timeout * NS)
        wait = (payload.event, timeout, payload.default is not RAISE)
        if isinstance(payload, Question) and payload.remind is not None:
            remind = max(1, int(payload.remind * NS))
    elif join == "all" and task.on_parent_failure == "block":
        return None
    return Terms(join, task.on_parent_failure, wait=wait, remind_ns=remind)


def spec_of(task: Task) -> Spec:
    requires: tuple[str, ...] | None
    if task.requires is not None:
        requires = tuple(sorted(set(task.requires)))
    elif isinstance(task.payload, LOCAL):
        requires = None
    else:
        requires = (task.type,)
    timeout = None if task.timeout is None else max(1, int(task.timeout * NS))
    return Spec(
        task.type,
        requires,
        task.resources.units,
        timeout,
        task.idempotent,
        task.owner,
        elasticity_of(task.resources),
        writes=prefixes_of(task.writes, _folder_of(task)) if task.writes else (),
        allow_failure=task.allow_failure,
    )


def drawing(spec: Spec, budget: str, names: Container[str]) -> Spec:
    """Return *spec* for a task that draws on *budget*, which has resources *names*."""
    return attrs.evolve(
        spec,
        budget=budget,
        resources=tuple(pair for pair in spec.resources if pair[0] not in names),
        spends=tuple(pair for pair in spec.resources if pair[0] in names),
    )


def _folder_of(task: Task) -> str:
    """
    Return the folder below which *task* writes: the `cwd` of a program.

    A folder elsewhere, such as a worktree, stands for the project.
    """
    if not isinstance(task.payload, Program) or task.payload.cwd is None:
        return ""
    folder = os.path.relpath(os.path.normpath(task.payload.cwd))
    return "" if folder.split(os.sep, 1)[0] == os.pardir else folder


def when(value: float | datetime | None, now: int) -> int | None:
    """Return a time in ns; seconds count from *now*."""
    if value is None:
        return None
    if isinstance(value, datetime):
        return ns_of(value)
    return now + int(value * NS)
