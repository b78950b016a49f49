"""A map over a result that is known at run time only: a task that adds its calls."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from taskorch.core.engine import (
    current_context,
    error_of,
    is_hopeless,
    result_of,
    row_of,
)
from taskorch.core.handles.futures import cancel_pending
from taskorch.core.kernel import is_forgiven
from taskorch.core.runs._members import newest, slices, with_error
from taskorch.errors import (
    DependencyFailedError,
    InvalidTaskError,
    NotRunningError,
)
from taskorch.kit.allowance import Allowance
from taskorch.kit.visible import show
from taskorch.kit.words import some
from taskorch.model import TERMINAL, Call, Task, TaskState
from taskorch.model.ids import in_run, name_of, run_of

if TYPE_CHECKING:
    from taskorch.core.engine import AttemptContext
    from taskorch.core.handles.handles import TaskHandle
    from taskorch.core.kernel import TaskRow

#: The most failures that a message shows.
_SHOWN: Final = 3


async def mapped(
    call: Call,
    items: Iterable[Any],
    options: Mapping[str, Any],
    max_parallel: int | None,
    allow_failures: int | str | None = None,
) -> list[Any]:
    """
    Add a task that calls *call* for each of *items*; return their results, in order.

    The result of a call whose failure is allowed is its error.

    Raises:
        InvalidTaskError: *items* are none.
        DependencyFailedError: Some did not complete; all have ended.
        TooManyFailuresError: More have failed than may; others may run on.
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
    allowance = None if allow_failures is None else Allowance(allow_failures)
    if allowance is not None and not allowance.is_none:
        options = {**options, "allow_failure": True}
    tasks = [
        Task.call(call.fn, item, id=f"{name}/{number}", **options)
        for number, item in enumerate(items)
    ]
    limit = None if allowance is None else _Limit(context, allowance, len(tasks))
    if max_parallel is None:
        handles = await _all(context, run.add_all, tasks, limit)
    else:
        handles = await _some(context, run.add_all, tasks, max_parallel, limit)
    handles = await _latest(context, handles)
    context._rt.waiting.note_used(context, handles)
    if limit is not None:
        limit.check(handles)
    bad = [
        handle
        for handle in handles
        if (row := row_of(handle)).state is not TaskState.COMPLETED
        and not is_forgiven(row)
    ]
    if bad:
        raise _failed(context, bad, len(tasks))
    return [result_of(handle) for handle in handles]


class _Limit:
    """
    The limit on failed calls of a map.

    Args:
        context: The context of the map.
        allowance: The value of `allow_failures`.
        total: How many calls there are.
    """

    def __init__(
        self, context: AttemptContext, allowance: Allowance, total: int
    ) -> None:
        self._context = context
        self._allowance = allowance
        self._total = total
        self._failed = 0
        self._passed: asyncio.Event = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    def watch(self, handles: Iterable[TaskHandle[Any]]) -> None:
        """Count failures among *handles*, from now on."""
        for handle in handles:
            handle._rt.waiting.when(handle, is_hopeless, partial(self._tell, handle))

    def _tell(self, handle: TaskHandle[Any]) -> None:
        if row_of(handle).state is not TaskState.FAILED:
            return
        self._failed += 1
        if self._failed > (self._allowance.most(self._total) or 0):
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._passed.set)

    def check(self, added: Iterable[TaskHandle[Any] | None]) -> None:
        """
        Raise if more of the *added* calls have failed than may.

        Raises:
            TooManyFailuresError: More have; those that have not begun are cancelled.
        """
        handles = [handle for handle in added if handle is not None]
        failed = [h for h in handles if row_of(h).state is TaskState.FAILED]
        if len(failed) <= (self._allowance.most(self._total) or 0):
            return
        open_calls = [h for h in handles if row_of(h).state not in TERMINAL]
        cancel_pending(open_calls, keep=False)
        rest = "calls that have not begun are cancelled, and those that run go on"
        if not open_calls and len(handles) == self._total:
            rest = "all others have ended"
        task_id = self._context.task_id
        errors = [(handle.task_id, error_of(handle)) for handle in failed]
        whose = f"task {task_id}"
        raise self._allowance.error(whose, errors, self._total, rest, task_id)

    async def until(
        self,
        ended: Coroutine[Any, Any, None],
        handles: Sequence[TaskHandle[Any] | None],
    ) -> None:
        """
        Wait until *ended* is over, or more calls have failed than may.

        Raises:
            TooManyFailuresError: More have.
        """
        whole = asyncio.ensure_future(ended)
        passed = asyncio.ensure_future(self._passed.wait())
        try:
            await asyncio.wait((whole, passed), return_when=asyncio.FIRST_COMPLETED)
        finally:
            whole.cancel()
            passed.cancel()
            await asyncio.gather(whole, passed, return_exceptions=True)
        self.check(handles)
        await whole


async def _all(
    context: AttemptContext,
    add_all: Callable[[Iterable[Task]], list[TaskHandle[Any]]],
    tasks: list[Task],
    limit: _Limit | None,
) -> list[TaskHandle[Any]]:
    handles: list[TaskHandle[Any]] = []
    for part in slices(tasks):
        handles += await asyncio.to_thread(add_all, part)
    if limit is None:
        await _ends(context, handles)
    else:
        limit.watch(handles)
        await limit.until(_ends(context, handles), handles)
    return handles


async def _latest(
    context: AttemptContext, handles: list[TaskHandle[Any]]
) -> list[TaskHandle[Any]]:
    """Return the latest runs of the tasks of *handles*, when they have ended, too."""
    rt = context._rt
    is_latest = rt.directory.reruns.is_latest
    while not all(is_latest(handle.task_id) for handle in handles):
        handles = [newest(rt, handle.task_id) for handle in handles]
        await _ends(context, handles)
    return handles


async def _ends(context: AttemptContext, handles: list[TaskHandle[Any]]) -> None:
    waiting = context._rt.waiting
    # One wait for all: between two waits the task would need its slot.
    targets = tuple(map(row_of, handles))
    waiting.enter(context, targets)
    try:
        for handle in handles:
            await waiting.until_settled(handle)
    finally:
        await waiting.leave_async(context, targets)


class _Added:
    """The latest calls that a map has added, of which one must end for the next."""

    def __init__(self, context: AttemptContext, left: int) -> None:
        self._tasks = context._rt.kernel.tasks
        self.latest: dict[int, str] = {}
        #: How many calls are to be added still.
        self.left: int = left

    def missing(self) -> tuple[int, Sequence[TaskRow]]:
        """Return how many of which calls must end; none while it adds one."""
        rows = list(filter(None, map(self._tasks.get, [*self.latest.values()])))
        if len(rows) < len(self.latest):
            return 0, ()
        return min(1, len(rows)) if self.left else len(rows), rows

    def words(self) -> str:
        """Return a sentence for an explanation."""
        return (
            f"It waits for {some([*self.latest.values()])}, and adds {self.left} more."
        )


async def _some(
    context: AttemptContext,
    add_all: Callable[[Iterable[Task]], list[TaskHandle[Any]]],
    tasks: list[Task],
    at_once: int,
    limit: _Limit | None,
) -> list[TaskHandle[Any]]:
    """Add *tasks*, at most *at_once* unfinished; return their handles at the end."""
    waiting, added = context._rt.waiting, _Added(context, len(tasks))
    handles: list[TaskHandle[Any] | None] = [None] * len(tasks)

    async def lane(lane: int, todo: Iterator[tuple[int, Task]]) -> None:
        for number, task in todo:
            added.latest[lane] = in_run(run_of(context.task_id), str(task.id))
            added.left -= 1
            adding = asyncio.ensure_future(asyncio.to_thread(add_all, [task]))
            try:
                await asyncio.shield(adding)
            finally:
                # The call exists, though this loop is left.
                (handle,) = await adding
                handles[number] = handle
            if limit is not None:
                limit.watch([handle])
            await waiting.until_settled(handle)

    todo = iter(enumerate(tasks))

    async def all_lanes() -> None:
        async with asyncio.TaskGroup() as lanes:
            for number in range(min(at_once, len(tasks))):
                lanes.create_task(lane(number, todo))

    waiting.enter(context, added)
    try:
        if limit is None:
            await all_lanes()
        else:
            await limit.until(all_lanes(), handles)
    finally:
        await waiting.leave_async(context, added)
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
        return f"{handle.task_id} ({row_of(handle).state})"
    return with_error(handle.task_id, error)
