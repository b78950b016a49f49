"""What comes in the body of a request: JSON, and bounded in every way."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Any, Final, NoReturn

from starlette.requests import ClientDisconnect, Request

from taskorch._base.limits import RECEIPT_SECONDS
from taskorch.frontends._checking import findings_of
from taskorch.frontends.channel import FrameError, Wire
from taskorch.frontends.service._problems import HttpProblem
from taskorch.workflows._documents import object_of, refuse_constant

#: Bytes of a body; levels of what it says.
MAX_BODY: Final = 1 << 20
_MAX_DEPTH: Final = 60
#: What reads bodies that are frames, and writes answers to who can read them.
WIRE: Final = Wire()
#: Of one body.
_MOST_FINDINGS: Final = 50
_NO_PARTS: Final[Mapping[str, Any]] = {}


async def read(request: Request) -> Any:
    """
    What the body of *request* says; None if there is none.

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
        parts: What the description refers to and is to be checked, by name.

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
    """Refuse, by an `HttpProblem`, what stands at *path* in a request."""
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


#: Made once: `json.loads` makes one for each call that wants something of its own.
_DECODER: Final = json.JSONDecoder(
    parse_constant=refuse_constant, object_pairs_hook=object_of
)
