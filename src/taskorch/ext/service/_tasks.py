"""Tasks."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

import attrs
from anyio import CapacityLimiter, fail_after, to_thread
from starlette.concurrency import run_in_threadpool

from taskorch.api.verbs.remedies import in_requests
from taskorch.core.handles.handles import TaskHandle
from taskorch.errors import (
    InvalidTaskError,
    ResultGoneError,
    StoreUnavailableError,
    TaskorchError,
)
from taskorch.ext.service._bodies import WHO, answer
from taskorch.ext.service._operations import (
    Current,
    Operation,
    bad_query,
    for_one_task,
    named,
    number,
    seconds,
    told,
)
from taskorch.kit.backoff import silent_for
from taskorch.kit.limits import MAX_SECONDS
from taskorch.kit.plain import plain, taken_apart
from taskorch.kit.raised import place_of, told_trace
from taskorch.kit.verbs import ANYTHING, OBJECT, TEXT, Schema, listed
from taskorch.kit.visible import said as said_by
from taskorch.model import Answer, Missing, TaskFilter, TaskState, TaskStatus

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from taskorch.ext.service._tenants import Tenancy

#: Seconds that an answer may wait for a task to end.
_MAX_WAIT: Final = 60.0
#: Seconds that an answer waits for a value from elsewhere, and the threads that read.
_PATIENCE: Final = 10.0
_READERS: Final = 16
#: The default number of tasks on a page, and the largest.
_PAGE: Final = 100
_MAX_PAGE: Final = 1_000
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
#: The microseconds since that time, for some centuries, and the id of a task.
_PLACE: Final = re.compile(r"[0-9]{1,16}-[A-Za-z0-9._/~-]*")
_SECONDS: Final = {"type": "number", "minimum": 0, "maximum": MAX_SECONDS}
#: The parameters of the query for each filter of tasks.
_FILTER_SCHEMAS: Final[Mapping[str, Schema]] = {
    "state": {"enum": [state.value for state in TaskState]},
    "equal": TEXT,
    "pattern": TEXT,
    "contains": TEXT,
    "since": {"anyOf": [_SECONDS, {"type": "string", "format": "date-time"}]},
    "longer": _SECONDS,
    "whether": {"type": "boolean"},
}


_RESULT: Final = told(
    task_id=TEXT,
    state=TEXT,
    result=ANYTHING,
    error={"anyOf": [OBJECT, {"type": "null"}]},
)
_STATUS: Final = {"type": "object", "required": ["task_id", "state"]}


class Tasks:
    """
    The operations on tasks.

    Args:
        orch: Returns the orchestrator.
        tenancy: The tasks that a caller may see.
    """

    def __init__(self, orch: Current, tenancy: Tenancy) -> None:
        self._orch = orch
        self._tenancy = tenancy
        self._ends = _Ends()
        self._readers = CapacityLimiter(_READERS)

    def operations(self) -> list[Operation]:
        """The operations on tasks."""
        one = "/api/v1/tasks/{task_id}"
        return [
            Operation(
                *("GET", "/api/v1/tasks", "tasks"),
                "List tasks, the first submitted first, or with `newest` the last one; "
                "`next` leads to the next page.",
                self._list,
                query={
                    **{
                        name: {"description": each.text, **_FILTER_SCHEMAS[each.how]}
                        for name, each in TaskFilter.FIELDS.items()
                    },
                    "newest": {"type": "boolean"},
                    "limit": {"type": "integer", "minimum": 1, "maximum": _MAX_PAGE},
                    "cursor": {"type": "string", "pattern": f"^{_PLACE.pattern}$"},
                },
                answer=told(
                    tasks=listed(_STATUS), next={"anyOf": [TEXT, {"type": "null"}]}
                ),
                refuses=(422,),
            ),
            Operation(
                *("GET", f"{one}/result", "result"),
                "The outcome of a task; 202 if it has not ended within `wait` s.",
                self._result,
                query={"wait": {"type": "number", "minimum": 0, "maximum": _MAX_WAIT}},
                answer=_RESULT,
                refuses=(404, 410),
            ),
        ]

    # -- questions -----------------------------------------------------------------

    async def _list(self, request: Request) -> Response:
        query, who = request.query_params, request.scope[WHO]
        limit = number(query, "limit", 1, _MAX_PAGE, _PAGE)
        which = _asked_for(query)
        cursor = query.get("cursor")
        since = None if cursor is None else _PageStart.of(cursor)
        newest = query.get("newest", "false")
        if newest not in ("true", "false"):
            raise bad_query(name="newest", text="true, or false")
        after = "" if since is None else since.task_id
        if since is not None and newest == "false":
            # The cursor is later than the filter, because it comes from a page of it.
            later: dict[str, Any] = {"since": since.at}
            which = TaskFilter(**{**which.fields, **later})
        # One more shows whether there is a next page.
        most = limit + 1 if who.tenants is None else None

        def page() -> list[TaskStatus]:
            statuses = self._orch()._some_tasks(  # noqa: SLF001
                which, most, after, newest=newest == "true"
            )
            return list(islice(self._tenancy.tasks(who, statuses), limit + 1))

        return _page_of(await run_in_threadpool(page), limit)

    async def _result(self, request: Request) -> Response:
        wait = seconds(request.query_params, "wait", _MAX_WAIT) or 0.0
        task_id = named(request, "task_id")
        orch = self._orch()
        handle = await for_one_task(orch, orch.handle, task_id)
        await self._ends.wait(handle, wait)
        status = await for_one_task(orch, orch.get_task_status, task_id)
        error, result = status.error, status.result
        is_elsewhere = issubclass(type(result), Missing)
        if status.is_terminal and (is_elsewhere or status.submitted is None):
            # The task has left memory; its handle still has the end, or an error.
            # Values from elsewhere have threads of their own, so that all else goes on.
            try:
                with fail_after(_PATIENCE):
                    error = await to_thread.run_sync(
                        handle.exception, 0, limiter=self._readers
                    )
            except TimeoutError:
                msg = f"the result of {task_id} is not read: {silent_for(_PATIENCE)}"
                raise StoreUnavailableError(msg) from None
            if isinstance(error, ResultGoneError):
                raise error
            result = None if error is not None else handle.result(0)
        ending = {
            "task_id": status.task_id,
            "state": status.state.value,
            "result": plain(_result(result)),
            "error": None if error is None else _error(error),
        }
        return answer(ending, 200 if status.is_terminal else 202)


def _result(value: object) -> object:
    """Return a result as JSON; an answer of people by its fields."""
    # A value with a class of the user may raise an error here.
    return taken_apart(value) if issubclass(type(value), Answer) else value


def _asked_for(query: Mapping[str, str]) -> TaskFilter:
    """
    The filter that a query says.

    Raises:
        InvalidTaskError: There is no such state.
        HttpProblem: Another value is not well formed.
    """
    TaskFilter(query.get("state"))
    try:
        return TaskFilter.from_query(query)
    except InvalidTaskError as error:
        name, _, text = error.message.partition(": ")
        raise bad_query(name, text) from None


def _error(error: BaseException) -> dict[str, Any]:
    kind, message = said_by(error)
    fields = {"type": kind, "message": message, "traceback": told_trace(error)}
    where = place_of(error)
    if where:
        fields["where"] = where
    if isinstance(error, TaskorchError):
        fields |= {"message": error.message, "code": error.code}
        fields["hint"] = in_requests(error.hint)
    return fields


class _Ends:
    """Waits for ends of tasks: one callback each, however many wait, and how often."""

    def __init__(self) -> None:
        self._waited: dict[tuple[int, str], asyncio.Event] = {}

    async def wait(self, handle: TaskHandle[Any], seconds: float) -> None:
        """Wait until a task has ended, at most *seconds*."""
        if handle.done() or not seconds:
            return
        loop = asyncio.get_running_loop()
        key = id(loop), handle.task_id
        ended = self._waited.get(key)
        if ended is None:
            ended = self._waited[key] = asyncio.Event()

            def tell(_handle: object) -> None:
                # The loop may have ended by now.
                with suppress(RuntimeError):
                    loop.call_soon_threadsafe(end)

            def end() -> None:
                self._waited.pop(key).set()

            handle.add_done_callback(tell)
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await ended.wait()


# -- pages -----------------------------------------------------------------------------


@attrs.frozen
class _PageStart:
    """
    The place where a page begins: behind a task, in the order of submission.

    Attributes:
        at: When that was submitted.
        task_id: Its id.
    """

    at: datetime
    task_id: str

    @classmethod
    def of(cls, cursor: str) -> _PageStart:
        """
        The place that a cursor says.

        Raises:
            HttpProblem: It says none.
        """
        if not _PLACE.fullmatch(cursor):
            raise bad_query(name="cursor", text="it is none: take that of `next`")
        at, _, task_id = cursor.partition("-")
        moment = _EPOCH + timedelta(microseconds=int(at))
        return cls(moment, task_id)

    def cursor(self) -> str:
        """Return the cursor with which a client goes on from here."""
        at = (self.at - _EPOCH) // timedelta(microseconds=1)
        return f"{at}-{self.task_id}"


def _page_of(statuses: list[TaskStatus], limit: int) -> Response:
    """The answer that has *limit* tasks, and where the next page begins."""
    following = None
    if len(statuses) > limit:
        statuses.pop()
        last = statuses[-1]
        following = _PageStart(last.submitted or _EPOCH, last.task_id).cursor()
    return answer({"tasks": [s.to_dict() for s in statuses], "next": following})
