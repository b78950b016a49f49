"""When to try again, in the words of the error."""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import UTC

from taskorch._base._limits import MAX_SECONDS

_HEADER = "Retry-After"


def retry_after(error: BaseException, now: float) -> float | None:
    """
    The seconds after which *error* asks to be tried again, or None if it does not.

    It is looked for in `error.retry_after`, then in the header `Retry-After` of
    `error.response` (as requests and httpx raise it) and of the error itself (as urllib
    does). It is a number of seconds, the same as text, or a date as in HTTP; source:
    RFC 9110, section 10.2.3. What is none of these is ignored. A date that has passed
    (*now* is in seconds since the epoch) is 0, and nothing is longer than a hundred
    years.
    """
    for value in _hints(error):
        asked = _seconds(value, now)
        if asked is not None:
            return min(asked, MAX_SECONDS)
    return None


def _hints(error: BaseException) -> Iterator[object]:
    yield _attribute(error, "retry_after")
    for holder in (_attribute(error, "response"), error):
        yield _header(_attribute(holder, "headers"))


def _attribute(holder: object, name: str) -> object:
    # The attribute may be a property that raises.
    try:
        return getattr(holder, name, None)
    except Exception:  # noqa: BLE001 - a hint is not worth a failure
        return None


def _header(headers: object) -> object:
    get = _attribute(headers, "get")
    try:
        return get(_HEADER) if callable(get) else None
    except Exception:  # noqa: BLE001 - as above
        return None


def _seconds(value: object, now: float) -> float | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        # Not `isfinite`, which cannot take every int.
        return float(min(value, MAX_SECONDS)) if 0 <= value < math.inf else None
    if not isinstance(value, str):
        return None
    try:
        return _seconds(float(value), now)
    except ValueError:
        return _until(value, now)


def _until(date: str, now: float) -> float | None:
    from email.utils import parsedate_to_datetime  # noqa: PLC0415 - it loads sockets

    try:
        moment = parsedate_to_datetime(date)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        return max(0.0, moment.timestamp() - now)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
