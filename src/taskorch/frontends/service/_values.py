"""Values as JSON can say them."""

from __future__ import annotations

import json
from typing import Any, Final

from starlette.responses import Response

from taskorch.model._plain import plain, taken_apart

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
