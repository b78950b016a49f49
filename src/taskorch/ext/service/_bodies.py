"""
The bodies of requests, and errors as answers.

Bodies are JSON, and bounded in every way. Errors are `application/problem+json`, as RFC
9457 has it; values go out as JSON.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Mapping
from contextlib import nullcontext
from functools import partial
from http import HTTPStatus
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, NoReturn

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from taskorch.api.verbs.remedies import REMEDIES_HEADER, in_requests
from taskorch.errors import (
    DuplicateTaskError,
    ResourcesTakenError,
    TaskorchError,
    UsageError,
    ValidationFailedError,
)
from taskorch.ext.channel import FrameError, Wire
from taskorch.kit.findings import findings_of
from taskorch.kit.limits import RECEIPT_SECONDS
from taskorch.kit.people import asking
from taskorch.kit.plain import object_of, plain, refuse_constant, taken_apart
from taskorch.kit.visible import visible

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.types import Scope


#: The key in the scope of a request for its sender.
WHO: Final = "taskorch.who"
#: It is made once, because `json.dumps` makes an encoder for each call with options.
_ENCODER: Final = json.JSONEncoder(allow_nan=False, separators=(",", ":"))


def dumps(value: object) -> bytes:
    """Return *value*, which is plain, as bytes, with invalid Unicode escaped."""
    return _ENCODER.encode(value).encode("ascii")


def answer(value: object, status: int = 200, **headers: str) -> Response:
    """An answer that says *value*; of a name of a header, `_` is a hyphen."""
    named = {name.replace("_", "-"): text for name, text in headers.items()}
    return Response(dumps(value), status, named, media_type="application/json")


def document(value: object) -> Any:
    """Return *value* as JSON can say it: an object of attrs as its fields."""
    return plain(taken_apart(value))


#: The HTTP status of an error, by its code; other errors of the caller are 422.
_STATUS: Final[Mapping[str, int]] = {
    "allocation": 409,
    "answer_refused": 409,
    "duplicate_task": 409,
    "invalid_transition": 409,
    "journal_unavailable": 503,
    "store_unavailable": 503,
    "not_running": 503,
    "queue_full": 429,
    "resources_taken": 409,
    "result_gone": 410,
    "unknown_agent": 404,
    "unknown_task": 404,
}
#: The seconds after which another try is worth it.
_AGAIN: Final = {429: "1", 503: "5"}


class HttpProblem(Exception):  # noqa: N818 - the word of the RFC
    """
    An answer that names the fault of a request.

    Args:
        status: The status of HTTP.
        code: A stable name for programs.
        detail: The fault.
        hint: The remedy.
        headers: More headers of the answer.
        more: More members of the document.
    """

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        *,
        hint: str = "",
        headers: Mapping[str, str] | None = None,
        more: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail
        self.hint = hint
        self.headers: Mapping[str, str] = headers or {}
        self.more: Mapping[str, Any] = more or {}

    def response(self, scope: Scope) -> Response:
        """Return the answer to a request, with additions of the app."""
        more = scope["app"].state.refused(scope, self)
        how = Headers(scope=scope).get(REMEDIES_HEADER, "requests")
        say = partial(_said, scope, calls=how == "calls")
        details = {
            "type": f"urn:taskorch:error:{self.code}",
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "detail": visible(say(self.detail)),
            "code": self.code,
            **({"hint": say(self.hint)} if self.hint else {}),
            **self.more,
            **more,
        }
        headers = dict(self.headers)
        if self.status in _AGAIN:
            headers.setdefault("Retry-After", _AGAIN[self.status])
        return Response(
            dumps(details), self.status, headers, media_type="application/problem+json"
        )


def _said(scope: Scope, text: str, *, calls: bool) -> str:
    """Return *text* in the form that the sender of a request wants, if known."""
    with asking(scope[WHO]) if WHO in scope else nullcontext():
        return in_requests(text, calls=calls)


def problem_of(error: TaskorchError, status: int | None = None) -> HttpProblem:
    """Return an error of ours as an HTTP problem, maybe with another *status*."""
    more: dict[str, Any] = {}
    hint = error.hint
    if error.task_id is not None:
        more["task_id"] = error.task_id
    if isinstance(error, ValidationFailedError):
        more["findings"] = [
            {"path": path, "message": text} for path, text in error.findings
        ]
    if isinstance(error, DuplicateTaskError):
        more["differences"] = [
            {"task_id": task_id, "field": field, "was": was, "is": now}
            for task_id, field, was, now in error.differences
        ]
    if isinstance(error, ResourcesTakenError):
        more |= {"resource": error.resource, "holders": [*error.holders]}
        more |= {"need": error.need, "free": error.free}
        hint = "ask again later: over HTTP, nobody waits for it"
    otherwise = 422 if isinstance(error, UsageError) else 500
    status = status or _STATUS.get(error.code, otherwise)
    return HttpProblem(status, error.code, error.message, hint=hint, more=more)


async def on_problem(request: Request, error: Exception) -> Response:
    """Answer a problem, or an error of ours."""
    if isinstance(error, TaskorchError):
        error = problem_of(error)
    assert isinstance(error, HttpProblem)  # noqa: S101 - nothing else comes here
    return error.response(request.scope)


async def on_http_error(request: Request, error: Exception) -> Response:
    """Answer a request for an unknown path or method."""
    assert isinstance(error, HTTPException)  # noqa: S101 - nothing else comes here
    is_method = error.status_code == HTTPStatus.METHOD_NOT_ALLOWED
    subject = "method" if is_method else "path"
    return HttpProblem(
        error.status_code,
        f"unknown_{subject}",
        f"there is no such {subject}",
        hint="GET /openapi.json says what there is",
        headers=error.headers,
    ).response(request.scope)


async def on_fault(request: Request, _error: Exception) -> Response:
    """Answer after a bug, whose details only the server's log has."""
    return HttpProblem(
        500, "internal", "the service has failed", hint="its log says more"
    ).response(request.scope)


#: The largest number of bytes of a body, and of levels in it.
MAX_BODY: Final = 1 << 20
_MAX_DEPTH: Final = 60
#: Readers of bodies that are frames, and writers of such answers.
WIRE: Final = Wire()
#: The limits of one body.
_MOST_FINDINGS: Final = 50
_NO_PARTS: Final[Mapping[str, Any]] = {}


async def read(request: Request) -> Any:
    """
    Read the body of *request*; None if there is none.

    Raises:
        HttpProblem: It is too long, too slow, too deep, or no JSON.
    """
    body = bytearray()
    try:
        async with asyncio.timeout(RECEIPT_SECONDS):
            async for chunk in request.stream():
                body += chunk
                if len(body) > MAX_BODY:
                    raise too_long()
    except TimeoutError:
        raise HttpProblem(
            408, "slow_body", f"the body has not come within {RECEIPT_SECONDS:g} s"
        ) from None
    except ClientDisconnect:
        raise HttpProblem(400, "no_body", "the body has not come to its end") from None
    if not body:
        return None
    try:
        plain = WIRE.unpacked(
            bytes(body), request.headers.get("content-type"), MAX_BODY
        )
    except FrameError as error:
        raise HttpProblem(400, "bad_frame", str(error)) from None
    return loads(plain)


async def read_object(
    request: Request,
    schema: Mapping[str, Any],
    *,
    is_needed: bool = True,
    parts: Mapping[str, Any] = _NO_PARTS,
) -> dict[str, Any]:
    """
    The members of the object that is the body of *request*.

    Args:
        request: The request.
        schema: The description of the body, by which it is checked.
        is_needed: Whether there must be one; if not, none says nothing.
        parts: Schemas to which the description refers, by name.

    Raises:
        HttpProblem: It is none, or not as described: all that is wrong is told.
    """
    body = await read(request)
    if body is None and not is_needed:
        return {}
    if not isinstance(body, dict):
        refuse("", "a JSON object is needed")
    findings = list(islice(findings_of(schema, body, parts), _MOST_FINDINGS))
    if findings:
        refuse_all(findings)
    return body


def loads(body: bytes) -> Any:
    """
    The value of a document.

    Raises:
        HttpProblem: It is no JSON, or too deep.
    """
    try:
        value = _DECODER.decode(body.decode("utf-8"))
    except RecursionError:
        raise _too_deep() from None
    except ValueError as error:
        raise HttpProblem(400, "bad_json", f"the body is no JSON: {error}") from None
    level: list[Any] = [value]
    for _ in range(_MAX_DEPTH):
        level = [
            item
            for holder in level
            for item in (
                holder.values()
                if isinstance(holder, dict)
                else holder
                if isinstance(holder, list)
                else ()
            )
        ]
        if not level:
            return value
    raise _too_deep()


def refuse(path: str, text: str) -> NoReturn:
    """Refuse the value at *path* in a request, by an `HttpProblem`."""
    refuse_all([(path, text)])


def refuse_all(faults: Iterable[tuple[str, str]]) -> NoReturn:
    """Refuse, by an `HttpProblem`, a request that has these *faults*."""
    findings = [{"path": path, "message": text} for path, text in faults]
    detail = "; ".join(f"{one['path']}: {one['message']}" for one in findings)
    more = {"findings": findings}
    raise HttpProblem(422, "invalid_request", detail.removeprefix(": "), more=more)


def too_long() -> HttpProblem:
    """The body has too many bytes."""
    return HttpProblem(413, "body_too_long", f"a body has at most {MAX_BODY:,} bytes")


def _too_deep() -> HttpProblem:
    text = f"the body is nested more than {_MAX_DEPTH} levels deep"
    return HttpProblem(400, "body_too_deep", text)


#: It is made once, because `json.loads` makes a decoder for each call with options.
_DECODER: Final = json.JSONDecoder(
    parse_constant=refuse_constant, object_pairs_hook=object_of
)
