"""
The operations of the service, each with its description: OpenAPI 3.1.

Decision: service.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from http import HTTPStatus
from typing import Any, Final, TypeAlias, TypeVar
from urllib.parse import unquote

import attrs
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp

import taskorch
from taskorch.api._aio import is_prompt
from taskorch.api._orchestrator import TaskOrchestrator
from taskorch.api.verbs.remedies import all_in_requests
from taskorch.errors import UnknownTaskError
from taskorch.ext.service._bodies import HttpProblem, read_object
from taskorch.kit.verbs import ID, OBJECT, TEXT, Schema

Endpoint: TypeAlias = Callable[[Request], Awaitable[Response | ASGIApp]]
_T = TypeVar("_T")


def told(**members: Schema) -> Schema:
    """An object in an answer: all of these are there."""
    return {"type": "object", "required": [*members], "properties": members}


def asked(*needed: str, **members: Schema) -> Schema:
    """Return the schema of a body with these members only, some *needed*."""
    return {
        "type": "object",
        "required": [*needed],
        "additionalProperties": False,
        "properties": members,
    }


def ref(name: str) -> Schema:
    """Return a reference to a schema of the description."""
    return {"$ref": f"#/components/schemas/{name}"}


#: The schema for whether there was anything to change.
CHANGED: Final = told(changed={"type": "boolean"})
#: The schema for the form of remedies: requests or calls.
REMEDIES: Final[Schema] = {"enum": ["requests", "calls"]}
#: The schemas for a new task, and for a new run.
TASK_ID: Final = told(task_id=TEXT)
RUN: Final = told(workflow_id=TEXT)

#: Returns the orchestrator to ask: of a service with one after another, the latest.
Current: TypeAlias = Callable[[], TaskOrchestrator]


@attrs.frozen
class Operation:
    """
    One method of one path.

    Attributes:
        method: The method.
        path: The path, with the names of what varies in braces.
        name: Its name for programs.
        summary: A sentence on its effect.
        endpoint: Does it.
        query: The parameters of the query, by name.
        header: The headers of its own, by name.
        needs: The ones of these that must be given.
        body: The schema of the body; None: there is none.
        is_body_needed: Whether it must be there.
        status: The status of the answer, if all is well.
        answer: The schema of the answer.
        media: The media type of the answer.
        refuses: Statuses of its own, beside those of every operation.
        is_open: Whether it needs no token.
        role: The role that it needs, if it is a verb of an extension; else "".
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
    role: str = ""


async def for_one_task(orch: object, call: Callable[..., _T], *args: object) -> _T:
    """
    Return the result of *call*, which concerns one task of *orch*.

    It is called on a thread if it may have to wait there; otherwise the way to a thread
    and back would be most of the cost of a request.
    """
    if isinstance(orch, TaskOrchestrator) and is_prompt(orch):
        return call(*args)
    return await run_in_threadpool(call, *args)


def with_remedies(request: Request, explanation: Any) -> Any:
    """
    Return an explanation with remedies as requests, or as calls if so asked for.

    Raises:
        HttpProblem: The query asks for something else.
    """
    name = "remedies"
    how = request.query_params.get(name, "requests")
    if how not in REMEDIES["enum"]:
        raise bad_query(name, f"{how!r} is neither requests nor calls")
    return all_in_requests(explanation, calls=how == "calls")


def named(request: Request, name: str) -> str:
    """
    Return the part of the path in the place of *name*.

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
    Refuse a request with names that *operation* does not know.

    The endpoint of an operation with a body checks the body.

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
    # Python refuses to read a number of very many digits.
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


#: Errors of any operation, with their meanings.
_ALWAYS: Final = (400, 403, 421, 503)
_BODY: Final = (408, 413, 415, 422)
_TOKEN: Final = (401, 429)
PROBLEM: Final[dict[str, Any]] = {
    "type": "object",
    "description": "The error, by RFC 9457.",
    "required": ["type", "title", "status", "detail", "code"],
    "properties": {
        "type": TEXT,
        "title": TEXT,
        "status": {"type": "integer"},
        "detail": TEXT,
        "code": {"type": "string", "description": "A stable name for programs."},
        "hint": {"type": "string", "description": "The remedy."},
    },
}


def description(
    operations: Iterable[Operation], schemas: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the document; *schemas* has the named schemas of operations."""
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _of(operation)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "taskorch",
            "version": taskorch.__version__,
            "description": "An orchestrator as a service.",
        },
        "paths": paths,
        "components": {
            "schemas": {"Problem": PROBLEM, **schemas},
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{"token": []}],
    }


def _of(operation: Operation) -> dict[str, Any]:
    parameters = [
        {
            "name": name,
            "in": "path",
            "required": True,
            "schema": ID if name == "agent_id" else TEXT,
        }
        for name in re.findall(r"{(\w+)}", operation.path)
    ]
    for place, schemas in (("query", operation.query), ("header", operation.header)):
        parameters += [
            {
                "name": name,
                "in": place,
                "schema": schema,
                **({"required": True} if name in operation.needs else {}),
            }
            for name, schema in schemas.items()
        ]
    refused = {*_ALWAYS, *operation.refuses}
    if not operation.is_open:
        refused |= {*_TOKEN}
    if operation.method == "POST":
        refused |= {*_BODY}
    content = {operation.media: {"schema": operation.answer}}
    description: dict[str, Any] = {
        "operationId": operation.name,
        "summary": operation.summary,
        "responses": {
            str(operation.status): {"description": "Done.", "content": content},
            **{str(status): _refusal(status) for status in sorted(refused)},
        },
    }
    if operation.name == "result":
        description["responses"]["202"] = {
            "description": "Not ended.",
            "content": content,
        }
    if parameters:
        description["parameters"] = parameters
    if operation.body is not None:
        description["requestBody"] = {
            "required": operation.is_body_needed,
            "content": {"application/json": {"schema": operation.body}},
        }
    if operation.is_open:
        description["security"] = []
    return description


def _refusal(status: int) -> dict[str, Any]:
    return {
        "description": HTTPStatus(status).phrase,
        "content": {"application/problem+json": {"schema": ref("Problem")}},
    }
