"""A map over a result that is known at run time only: a task that adds its calls."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

from taskorch._managers._members import newest, slices, with_error
from taskorch.errors import (
    DependencyFailedError,
    InvalidTaskError,
    NotRunningError,
)
from taskorch.kit.visible import show
from taskorch.model import Call, Task, TaskState
from taskorch.model.ids import name_of, run_of
from taskorch.runtime import current_context, error_of, result_of

if TYPE_CHECKING:
    from taskorch._handles import TaskHandle
    from taskorch.runtime import AttemptContext

#: Failures that a message shows.
_SHOWN: Final = 3


async def mapped(
    call: Call,
    items: Iterable[Any],
    options: Mapping[str, Any],
    max_parallel: int | None,
) -> list[Any]:
    """
    Add a task that calls *call* for each of *items*; their results, in order.

    Raises:
        InvalidTaskError: *items* are none.
        DependencyFailedError: Some did not complete; all have ended.
        NotRunningError: It is not part of a run.
    """
    context = current_context()
    run = context.workflow
    if run is None:
        msg = "a map works in a run of its workflow only"
        raise NotRunningError(msg)
    if not isinstance(items, Iterable):
        msg = f"map needs what can be iterated over, not {show(items)}"
        raise InvalidTaskError(msg, task_id=context.task_id)
    name = name_of(context.task_id)
    tasks = [
        Task.call(call.fn, item, id=f"{name}/{number}", **options)
        for number, item in enumerate(items)
    ]
    if max_parallel is None:
        handles = await _all(context, run.add_all, tasks)
    else:
        handles = await _some(context, run.add_all, tasks, max_parallel)
    handles = await _latest(context, handles)
    context._rt.waiting.note_used(context, handles)
    bad = [h for h in handles if h._row.state is not TaskState.COMPLETED]
    if bad:
        raise _failed(context, bad, len(tasks))
    return [result_of(handle) for handle in handles]


async def _all(
    context: AttemptContext,
    add_all: Callable[[Iterable[Task]], list[TaskHandle[Any]]],
    tasks: list[Task],
) -> list[TaskHandle[Any]]:
    handles: list[TaskHandle[Any]] = []
    for part in slices(tasks):
        handles += await asyncio.to_thread(add_all, part)
    await _ends(context, handles)
    return handles


async def _latest(
    context: AttemptContext, handles: list[TaskHandle[Any]]
) -> list[TaskHandle[Any]]:
    """The latest runs of what *handles* stand for, when they have ended, too."""
    rt = context._rt
    is_latest = rt.directory.reruns.is_latest
    while not all(is_latest(handle.task_id) for handle in handles):
        handles = [newest(rt, handle.task_id) for handle in handles]
        await _ends(context, handles)
    return handles


async def _ends(context: AttemptContext, handles: list[TaskHandle[Any]]) -> None:
    waiting = context._rt.waiting
    # One wait for all: between two of them it would need its slot.
    targets = tuple(handle._row for handle in handles)
    waiting.enter(context, targets)
    try:
        for handle in handles:
            await waiting._until_settled(handle)
    finally:
        await waiting._leave_async(context, targets)


async def _some(
    context: AttemptContext,
    add_all: Callable[[Iterable[Task]], list[TaskHandle[Any]]],
    tasks: list[Task],
    at_once: int,
) -> list[TaskHandle[Any]]:
    """Add *tasks*, at most *at_once* unfinished; their handles, when all have ended."""
    waiting = context._rt.waiting
    handles: list[TaskHandle[Any] | None] = [None] * len(tasks)

    async def lane(todo: Iterator[tuple[int, Task]]) -> None:
        for number, task in todo:
            (handle,) = await asyncio.to_thread(add_all, [task])
            handles[number] = handle
            await waiting._until_settled(handle)

    todo = iter(enumerate(tasks))
    waiting.enter(context, ())
    try:
        async with asyncio.TaskGroup() as lanes:
            for _ in range(min(at_once, len(tasks))):
                lanes.create_task(lane(todo))
    finally:
        await waiting._leave_async(context, ())
    return [handle for handle in handles if handle is not None]


def _failed(
    context: AttemptContext, bad: list[TaskHandle[Any]], total: int
) -> DependencyFailedError:
    errors = [error_of(handle) for handle in bad[:_SHOWN]]
    shown = ", ".join(map(_shown, bad, errors))
    more = ", …" if len(bad) > _SHOWN else ""
    msg = (
        f"task {context.task_id} cannot complete: {len(bad)} of its {total} calls did "
        f"not: {shown}{more}"
    )
    failure = DependencyFailedError(
        msg,
        root_causes=tuple(handle.task_id for handle in bad),
        hint=f"orch.workflows.restart({run_of(context.task_id)!r}) runs them again",
        task_id=context.task_id,
    )
    failure.__cause__ = next(filter(None, errors), None)
    return failure


def _shown(handle: TaskHandle[Any], error: BaseException | None) -> str:
    if error is None:
        return f"{handle.task_id} ({handle._row.state})"
    return with_error(handle.task_id, error)
