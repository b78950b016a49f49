"""Tasks."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

import attrs
from starlette.concurrency import run_in_threadpool

from taskorch._base._limits import MAX_PRIORITY, MAX_SECONDS
from taskorch._base._remedies import in_requests
from taskorch._base._visible import said as said_by
from taskorch._handles import TaskHandle
from taskorch._orchestrator import TaskOrchestrator
from taskorch.errors import InvalidTaskError, TaskorchError
from taskorch.frontends.service._bodies import read_object
from taskorch.frontends.service._operations import (
    ANYTHING,
    CHANGED,
    OBJECT,
    REMEDIES,
    TASK_ID,
    TEXT,
    Current,
    Operation,
    Schema,
    asked,
    bad_query,
    changed,
    for_one_task,
    listed,
    named,
    number,
    seconds,
    told,
    with_remedies,
)
from taskorch.frontends.service._values import answer, document
from taskorch.model import FILTERS, Answer, TaskFilter, TaskState, TaskStatus
from taskorch.model._places import place_of
from taskorch.model._plain import plain, taken_apart
from taskorch.runtime._documents import told_trace

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

#: Seconds that an answer may wait for a task to end.
_MAX_WAIT: Final = 60.0
#: Tasks of a page, and the most of them.
_PAGE: Final = 100
_MAX_PAGE: Final = 1_000
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
#: Microseconds since then, for some centuries, and the id of a task.
_PLACE: Final = re.compile(r"[0-9]{1,16}-[A-Za-z0-9._/~-]*")
_SECONDS: Final = {"type": "number", "minimum": 0, "maximum": MAX_SECONDS}
#: How the query says what tasks are looked for by.
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
_PRIORITY: Final = asked(
    "priority",
    priority={
        "type": "integer",
        "minimum": -MAX_PRIORITY,
        "maximum": MAX_PRIORITY,
    },
)
_RERUN: Final = asked(downstream={"type": ["boolean", "null"]})
_DECISION: Final = asked(
    "verdict",
    verdict={"enum": ["retry", "fail", "complete"]},
    result=ANYTHING,
    reason=TEXT,
)
_ANSWER: Final = asked(
    *("choice", "by"),
    choice=TEXT,
    by={**TEXT, "pattern": "^[!-9;-~]([ -9;-~]*[!-9;-~])?$"},
    note={**TEXT, "pattern": "^[ -~]*$"},
    changes={"type": ["object", "null"]},
)
_DECIDED: Final = {
    "type": "object",
    "required": ["decided"],
    "properties": {"decided": {"type": "boolean"}},
}
_QUESTIONS: Final = {
    "type": "object",
    "required": ["questions"],
    "properties": {"questions": {"type": "array", "items": {"type": "object"}}},
}
_ESCALATIONS: Final = {
    "type": "object",
    "required": ["escalations"],
    "properties": {"escalations": {"type": "array", "items": {"type": "object"}}},
}
_STATUS: Final = {"type": "object", "required": ["task_id", "state"]}


class Tasks:
    """
    The operations on tasks.

    Args:
        orch: Whose tasks they are.
    """

    def __init__(self, orch: Current) -> None:
        self._orch = orch
        self._ends = _Ends()

    def operations(self) -> list[Operation]:
        """The operations on tasks."""
        one = "/api/v1/tasks/{task_id}"
        changes = {
            "cancel": ("Call a task off.", _cancel),
            "suspend": ("Put a task aside.", TaskOrchestrator.suspend_task),
            "resume": ("Let a suspended task go on.", TaskOrchestrator.resume_task),
        }
        return [
            Operation(
                *("GET", "/api/v1/tasks", "tasks"),
                "List tasks, the first submitted first; `next` leads to the next page.",
                self._list,
                query={
                    **{
                        name: {"description": each.text, **_FILTER_SCHEMAS[each.how]}
                        for name, each in FILTERS.items()
                    },
                    "limit": {"type": "integer", "minimum": 1, "maximum": _MAX_PAGE},
                    "cursor": {"type": "string", "pattern": f"^{_PLACE.pattern}$"},
                },
                answer=told(
                    tasks=listed(_STATUS), next={"anyOf": [TEXT, {"type": "null"}]}
                ),
                refuses=(422,),
            ),
            Operation(
                *("GET", one, "get_task_status", "The state of a task."),
                self._status,
                answer=_STATUS,
                refuses=(404,),
            ),
            Operation(
                *("GET", f"{one}/result", "result"),
                "What a task has come to; 202 if it has not ended within `wait` s.",
                self._result,
                query={"wait": {"type": "number", "minimum": 0, "maximum": _MAX_WAIT}},
                answer=_RESULT,
                refuses=(404, 410),
            ),
            Operation(
                *("GET", f"{one}/explanation", "explain"),
                "Why a task does not run, and what would start it.",
                self._explain,
                query={"remedies": REMEDIES},
                refuses=(404,),
            ),
            *(
                Operation(
                    *("POST", f"{one}/{verb}", f"{verb}_task"),
                    f"{words} `changed` is false if it has ended, or is so already.",
                    partial(changed, self._orch, change, "task_id"),
                    answer=CHANGED,
                    refuses=(404, 409),
                )
                for verb, (words, change) in changes.items()
            ),
            Operation(
                *("POST", f"{one}/rerun", "rerun_task", "Run a finished task again."),
                self._rerun,
                body=_RERUN,
                is_body_needed=False,
                status=202,
                answer=TASK_ID,
                refuses=(404, 409, 422),
            ),
            Operation(
                *("POST", f"{one}/priority", "set_priority"),
                "Move a task in the queue.",
                self._set_priority,
                body=_PRIORITY,
                answer=CHANGED,
                refuses=(404, 422),
            ),
            Operation(
                *("POST", f"{one}/decision", "decide"),
                "Settle a task that is held for a decision, or waits.",
                self._decide,
                body=_DECISION,
                answer=CHANGED,
                refuses=(404, 409, 422),
            ),
            Operation(
                *("POST", f"{one}/answer", "answer", "Answer a question."),
                self._answer,
                body=_ANSWER,
                answer=_DECIDED,
                refuses=(404, 409, 422),
            ),
            Operation(
                *("GET", "/api/v1/questions", "questions"),
                "The questions that wait for an answer.",
                self._questions,
                answer=_QUESTIONS,
            ),
            Operation(
                *("GET", "/api/v1/failures", "failures"),
                "What has failed and was not mended since, by cause.",
                self._failures,
                answer=told(failures=listed(OBJECT)),
            ),
            Operation(
                *("GET", "/api/v1/escalations", "escalations"),
                "The failures about which a person is asked.",
                self._escalations,
                answer=_ESCALATIONS,
            ),
        ]

    # -- asking --------------------------------------------------------------------

    async def _status(self, request: Request) -> Response:
        task_id = named(request, "task_id")
        orch = self._orch()
        status = await for_one_task(orch, orch.get_task_status, task_id)
        return answer(status.to_dict())

    async def _list(self, request: Request) -> Response:
        query = request.query_params
        limit = number(query, "limit", 1, _MAX_PAGE, _PAGE)
        which = _asked_for(query)
        cursor = query.get("cursor")
        since = None if cursor is None else _PageStart.of(cursor)
        if since is not None:
            # It is later than what the filter says: those of the last page held, too.
            later: dict[str, Any] = {"since": since.at}
            which = TaskFilter(**{**which.fields, **later})

        def page() -> list[TaskStatus]:
            statuses = self._orch().tasks(which)
            # One more tells whether there is a next page.
            return list(islice(_after(since, statuses), limit + 1))

        statuses = await run_in_threadpool(page)
        following = None
        if len(statuses) > limit:
            statuses.pop()
            last = statuses[-1]
            following = _PageStart(last.submitted or _EPOCH, last.task_id).cursor()
        return answer({"tasks": [s.to_dict() for s in statuses], "next": following})

    async def _result(self, request: Request) -> Response:
        wait = seconds(request.query_params, "wait", _MAX_WAIT) or 0.0
        task_id = named(request, "task_id")
        orch = self._orch()
        handle = await for_one_task(orch, orch.handle, task_id)
        await self._ends.wait(handle, wait)
        status = await for_one_task(orch, orch.get_task_status, task_id)
        error = status.error
        ending = {
            "task_id": status.task_id,
            "state": status.state.value,
            "result": plain(_result(status.result)),
            "error": None if error is None else _error(error),
        }
        return answer(ending, 200 if status.is_terminal else 202)

    async def _explain(self, request: Request) -> Response:
        task_id = named(request, "task_id")
        explanation = await run_in_threadpool(self._orch().explain, task_id)
        fields = {**document(explanation.to_dict()), "text": str(explanation)}
        return answer(with_remedies(request, fields))

    # -- changing ------------------------------------------------------------------

    async def _rerun(self, request: Request) -> Response:
        body = await read_object(request, _RERUN, is_needed=False)
        rerun = partial(self._orch().rerun_task, named(request, "task_id"), **body)
        handle = await run_in_threadpool(rerun)
        return answer({"task_id": handle.task_id}, 202)

    async def _set_priority(self, request: Request) -> Response:
        body = await read_object(request, _PRIORITY)
        change = partial(
            self._orch().set_priority, named(request, "task_id"), body["priority"]
        )
        return answer({"changed": await run_in_threadpool(change)})

    async def _decide(self, request: Request) -> Response:
        body = await read_object(request, _DECISION)
        change = partial(self._orch().decide, named(request, "task_id"), **body)
        return answer({"changed": await run_in_threadpool(change)})

    async def _answer(self, request: Request) -> Response:
        body = await read_object(request, _ANSWER)
        reply = partial(self._orch().answer, named(request, "task_id"), **body)
        return answer({"decided": await run_in_threadpool(reply)})

    async def _questions(self, _: Request) -> Response:
        questions = await run_in_threadpool(self._orch().questions)
        return answer({"questions": [question.to_dict() for question in questions]})

    async def _failures(self, _: Request) -> Response:
        failures = await run_in_threadpool(self._orch().failures)
        return answer({"failures": [document(each) for each in failures]})

    async def _escalations(self, _: Request) -> Response:
        escalations = await run_in_threadpool(self._orch().escalations)
        return answer({"escalations": [each.to_dict() for each in escalations]})


def _result(value: object) -> object:
    """A result as JSON can say it: what people have answered is its fields."""
    return taken_apart(value) if isinstance(value, Answer) else value


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
        """What a client sends to go on from here."""
        at = (self.at - _EPOCH) // timedelta(microseconds=1)
        return f"{at}-{self.task_id}"


def _after(
    place: _PageStart | None, statuses: Iterable[TaskStatus]
) -> Iterator[TaskStatus]:
    """
    The *statuses* that are behind *place*.

    If the task that the place is behind is not among them any more, the others that
    were submitted together with it come again: none is left out.
    """
    if place is None:
        yield from statuses
        return
    together: list[TaskStatus] = []
    rest = iter(statuses)
    for status in rest:
        at = status.submitted or place.at
        if at < place.at:
            continue
        if at > place.at:
            yield from together
            yield status
            break
        if status.task_id == place.task_id:
            break
        together.append(status)
    else:
        yield from together
    yield from rest


def _cancel(orch: TaskOrchestrator, task_id: str) -> bool:
    return orch.cancel_task(task_id, reason="cancelled over HTTP")
