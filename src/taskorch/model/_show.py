"""Values in messages."""

from __future__ import annotations

from typing import Final

__all__ = ("show",)

#: Characters of a value that a message shows.
_MAX_SHOWN: Final = 200


def show(value: object, most: int = _MAX_SHOWN) -> str:
    """*value* for a message: short, whatever it is, and whatever its repr does."""
    try:
        text = repr(value)
    except Exception:  # noqa: BLE001 - a message must not fail over what it shows
        return f"<{type(value).__name__}>"
    return text if len(text) <= most else f"{text[:most]}…"
