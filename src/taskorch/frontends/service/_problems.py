"""Errors as answers: `application/problem+json`, as RFC 9457 has it; values as JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.responses import Response

from taskorch._base.visible import visible
from taskorch._verbs.remedies import REMEDIES_HEADER, in_requests
from taskorch.errors import (
    DuplicateTaskError,
    TaskorchError,
    UsageError,
    ValidationFailedError,
)
from taskorch.model import plain, taken_apart

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.types import Scope


#: Made once: `json.dumps` makes one for each call that wants something of its own.
_ENCODER: Final = json.JSONEncoder(allow_nan=False, separators=(",", ":"))


def dumps(value: object) -> bytes:
    """*value*, which is plain, as bytes. What is no Unicode is escaped, too."""
    return _ENCODER.encode(value).encode("ascii")


def answer(value: object, status: int = 200, **headers: str) -> Response:
    """An answer that says *value*; of a name of a header, `_` is a hyphen."""
    named = {name.replace("_", "-"): text for name, text in headers.items()}
    return Response(dumps(value), status, named, media_type="application/json")


def document(value: object) -> Any:
    """*value* as JSON can say it: an object of attrs is its fields."""
    return plain(taken_apart(value))


#: What an error is for HTTP, by its code; another of the caller's making is 422.
_STATUS: Final[Mapping[str, int]] = {
    "allocation": 409,
    "answer_refused": 409,
    "duplicate_task": 409,
    "invalid_transition": 409,
    "journal_unavailable": 503,
    "not_running": 503,
    "queue_full": 429,
    "resources_taken": 409,
    "result_gone": 410,
    "unknown_agent": 404,
    "unknown_task": 404,
}
#: Seconds after which it is worth to try again.
_AGAIN: Final = {429: "1", 503: "5"}


class HttpProblem(Exception):  # noqa: N818 - the word of the RFC
    """
    An answer that says what is wrong with a request.

    Args:
        status: Of HTTP.
        code: A stable name for programs.
        detail: What is wrong.
        hint: What to do about it.
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
        """The answer to a request, with what the app has to add."""
        more = scope["app"].state.refused(scope, self)
        how = Headers(scope=scope).get(REMEDIES_HEADER, "requests")
        say: Callable[[str], str] = str if how == "calls" else in_requests
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


def problem_of(error: TaskorchError, status: int | None = None) -> HttpProblem:
    """What an error of ours is for HTTP; *status*, if not what it mostly is."""
    more: dict[str, Any] = {}
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
    otherwise = 422 if isinstance(error, UsageError) else 500
    status = status or _STATUS.get(error.code, otherwise)
    return HttpProblem(status, error.code, error.message, hint=error.hint, more=more)


async def on_problem(request: Request, error: Exception) -> Response:
    """Answer a problem, or an error of ours."""
    if isinstance(error, TaskorchError):
        error = problem_of(error)
    assert isinstance(error, HttpProblem)  # noqa: S101 - nothing else comes here
    return error.response(request.scope)


async def on_http_error(request: Request, error: Exception) -> Response:
    """Answer what routing refuses: a path or a method that there is not."""
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
    """Answer what should not have happened; what it was is for the server's log."""
    return HttpProblem(
        500, "internal", "the service has failed", hint="its log says more"
    ).response(request.scope)
