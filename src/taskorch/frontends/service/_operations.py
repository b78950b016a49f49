"""What the service can do, each with what its description says."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, TypeAlias, TypeVar
from urllib.parse import unquote

import attrs
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp

from taskorch._aio import is_prompt
from taskorch._base._limits import MAX_ID_LENGTH
from taskorch._base._remedies import all_in_requests
from taskorch._orchestrator import TaskOrchestrator
from taskorch.errors import UnknownTaskError
from taskorch.frontends.service._bodies import read_object
from taskorch.frontends.service._problems import HttpProblem
from taskorch.frontends.service._values import answer

Schema: TypeAlias = Mapping[str, Any]
Endpoint: TypeAlias = Callable[[Request], Awaitable[Response | ASGIApp]]
_T = TypeVar("_T")


def told(**members: Schema) -> Schema:
    """An object in an answer: all of these are there."""
    return {"type": "object", "required": [*members], "properties": members}


def asked(*needed: str, **members: Schema) -> Schema:
    """The body of a request: there is nothing but these, of which some are *needed*."""
    return {
        "type": "object",
        "required": [*needed],
        "additionalProperties": False,
        "properties": members,
    }


def ref(name: str) -> Schema:
    """What the description has by this name."""
    return {"$ref": f"#/components/schemas/{name}"}


def listed(items: Schema) -> Schema:
    """A list of these."""
    return {"type": "array", "items": items}


ANYTHING: Final[Schema] = {}
TEXT: Final[Schema] = {"type": "string"}
#: A name that can be printed, without a space at either end. Not only ASCII is taken.
NAME: Final[Schema] = {
    "type": "string",
    "minLength": 1,
    "maxLength": 500,
    "pattern": "^[!-~]([ -~]*[!-~])?$",
}
ID: Final[Schema] = {
    "type": "string",
    "maxLength": MAX_ID_LENGTH,
    "pattern": r"^[A-Za-z0-9_]([A-Za-z0-9._\-]*[A-Za-z0-9_\-])?"
    r"(/[A-Za-z0-9_]([A-Za-z0-9._\-]*[A-Za-z0-9_\-])?)*$",
}
OBJECT: Final[Schema] = {"type": "object"}
#: Whether there was anything to change.
CHANGED: Final = told(changed={"type": "boolean"})
#: How it is told what is to be done.
REMEDIES: Final[Schema] = {"enum": ["requests", "calls"]}
#: What has begun.
TASK_ID: Final = told(task_id=TEXT)
RUN: Final = told(workflow_id=TEXT)

#: Who is asked: of a service that has one orchestrator after another, the latest.
Current: TypeAlias = Callable[[], TaskOrchestrator]


@attrs.frozen
class Operation:
    """
    One method of one path.

    Attributes:
        method: The method.
        path: The path, with the names of what varies in braces.
        name: What programs call it.
        summary: What it does.
        endpoint: Does it.
        query: What may stand in the query, by name.
        header: What may stand in a header of its own, by name.
        needs: Which of these must be there.
        body: What the body says; None: there is none.
        is_body_needed: Whether it must be there.
        status: Of the answer, if all is well.
        answer: What the answer says.
        media: How it says that.
        refuses: Statuses of its own, beside those of every operation.
        is_open: Whether it needs no token.
    """

    method: str
    path: str
    name: str
    summary: str
    endpoint: Endpoint = attrs.field(repr=False)
    query: Mapping[str, Schema] = attrs.field(factory=dict)
    header: Mapping[str, Schema] = attrs.field(factory=dict)
    needs: tuple[str, ...] = ()
    body: Schema | None = None
    is_body_needed: bool = True
    status: int = 200
    answer: Schema = OBJECT
    media: str = "application/json"
    refuses: tuple[int, ...] = ()
    is_open: bool = False


async def for_one_task(orch: object, call: Callable[..., _T], *args: object) -> _T:
    """
    What *call*, which concerns one task of *orch*, returns.

    It is called on a thread if it may have to wait there; otherwise the way to a thread
    and back would be most of what a request costs.
    """
    if isinstance(orch, TaskOrchestrator) and is_prompt(orch):
        return call(*args)
    return await run_in_threadpool(call, *args)


async def changed(
    manager: Callable[[], _T],
    change: Callable[[_T, str], bool],
    name: str,
    request: Request,
) -> Response:
    """Answer whether *change* has changed in *manager* what the path has for *name*."""
    subject = named(request, name)
    done = await run_in_threadpool(lambda: change(manager(), subject))
    return answer({"changed": done})


def with_remedies(request: Request, explanation: Any) -> Any:
    """
    What explains, with what is to be done as requests, or as calls if so asked for.

    Raises:
        HttpProblem: The query asks for something else.
    """
    name = "remedies"
    how = request.query_params.get(name, "requests")
    if how not in REMEDIES["enum"]:
        raise bad_query(name, f"{how!r} is neither requests nor calls")
    return explanation if how == "calls" else all_in_requests(explanation)


def named(request: Request, name: str) -> str:
    """
    What stands in the path in the place of *name*.

    Raises:
        UnknownTaskError: It is no text.
    """
    escaped: str = request.path_params[name]
    try:
        return unquote(escaped, errors="strict")
    except UnicodeDecodeError:
        msg = f"no task has the id {escaped!r}"
        raise UnknownTaskError(msg) from None


async def check(operation: Operation, request: Request) -> None:
    """
    Refuse a request that says what *operation* does not know.

    What stands in the body of one that has a body is for its endpoint to read.

    Raises:
        HttpProblem: There is such a name in the query, or one twice, or in the body.
    """
    seen: set[str] = set()
    for name, _ in request.query_params.multi_items():
        if name not in operation.query:
            names = ", ".join(operation.query) or "none"
            raise bad_query(name, f"it is not known here: there are {names}")
        if name in seen:
            raise bad_query(name, "it is there twice")
        seen.add(name)
    if operation.method == "POST" and operation.body is None:
        await read_object(request, asked(), is_needed=False)


def number(
    query: Mapping[str, str], name: str, least: int, most: int, otherwise: int
) -> int:
    """
    A whole number in the query.

    Raises:
        HttpProblem: It is none, or not within its bounds.
    """
    text = query.get(name)
    if text is None:
        return otherwise
    # Python reads no number of very many digits.
    is_short = text.isascii() and text.isdigit() and len(text) <= len(str(most))
    if is_short and least <= int(text) <= most:
        return int(text)
    raise bad_query(name, f"a whole number from {least:,} to {most:,} is needed")


def seconds(query: Mapping[str, str], name: str, most: float) -> float | None:
    """
    A number of seconds in the query, or None.

    Raises:
        HttpProblem: It is none, or not within its bounds.
    """
    text = query.get(name)
    if text is None:
        return None
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= most:
        raise bad_query(name, f"seconds are needed, from 0 to {most:g}")
    return value


def bad_query(name: str, text: str) -> HttpProblem:
    """A fault of the query."""
    findings = [{"path": name, "message": text}]
    return HttpProblem(
        400, "invalid_query", f"{name}: {text}", more={"findings": findings}
    )
