"""Texts for people that contain values of tasks or users."""

from __future__ import annotations

import re
from math import log10
from types import MethodDescriptorType, WrapperDescriptorType
from typing import Any, Final, TypeGuard

from taskorch.kit.address import without_password

#: Characters that a terminal or a page obeys instead of showing: control characters
#: except the end of a line and the tabulator, direction marks, other line ends, and
#: lone surrogates.
_OBEYED: Final = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069"
    "\ud800-\udfff\ufeff]"
)
#: The most bytes of a letter in UTF-8, and every byte that is not its first.
_MOST_BYTES: Final = 4
_CONTINUATION: Final = bytes(range(0x80, 0xC0))
#: The most characters of an error's message that events keep; the error itself has all.
_MAX_MESSAGE: Final = 10_000
#: The most characters of a value that a message shows.
_MAX_SHOWN: Final = 200
#: The most bits of an integer whose digits are shown.
_MOST_BITS: Final = 128
#: Credentials in a URL: user, password or token, before the host, or as a parameter.
_USERINFO: Final = r"""//[^\s/?#"'<>]*@"""
_PARAMETER: Final = r"""([?&]password=)[^\s&#"'<>]+"""


#: The classes of methods that no Python code has replaced, and the methods of a text.
_OF_PYTHON: Final = WrapperDescriptorType, MethodDescriptorType
_METHODS: Final = tuple(
    name
    for name, method in vars(str).items()
    if type(method) in _OF_PYTHON and name != "__repr__"
)


def is_text(value: Any) -> TypeGuard[str]:
    """
    Return whether *value* is a text whose methods are those of str.

    The methods of a user's own str class may do anything, or write another text than
    they compare, as those of an enum that is no StrEnum do.
    """
    cls = type(value)
    return cls is str or (
        issubclass(cls, str)
        and all(type(getattr(cls, name)) in _OF_PYTHON for name in _METHODS)
        # Only that of a StrEnum is a function of Python's own.
        and getattr(cls.__repr__, "__module__", "enum") == "enum"
    )


def as_text(value: Any) -> str:
    """Return *value* if it is a text, or else as messages show it."""
    return value if is_text(value) else show(value)


def visible(text: str) -> str:
    r"""Return *text*, `masked`, with control characters as in Python: `\x1b`."""
    return printable(masked(text))


def printable(text: str) -> str:
    r"""Return *text* with control characters as Python writes them: `\x1b`."""
    return _OBEYED.sub(_written, text)


def masked(text: str) -> str:
    """Return *text* without possible passwords in URLs."""
    if "postgres" in text.lower():
        text = without_password(text)
    if "//" not in text:
        return text
    return re.sub(_PARAMETER, r"\1…", re.sub(_USERINFO, "//…@", text))


def counted(number: int, noun: str) -> str:
    """Return *number* of a thing: `1 task`, `2,000 tasks`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def after_cut(data: bytes) -> bytes:
    """Return *data* of a text without the rest of a letter that a cut has split."""
    head = data[: _MOST_BYTES - 1]
    return head.lstrip(_CONTINUATION) + data[len(head) :]


def said(error: BaseException) -> tuple[str, str]:
    """Return the type and the message of *error*, even if its str raises."""
    kind = type(error).__name__
    try:
        # A user's str class may raise, too.
        message = masked(str.__str__(str(error)))
    except BaseException:  # noqa: BLE001 - its __str__ is the user's
        message = "(it cannot be printed)"
    if len(message) > _MAX_MESSAGE:
        message = f"{message[:_MAX_MESSAGE]}…"
    return kind, message


def show(value: object, most: int = _MAX_SHOWN) -> str:
    """Return *value* for a message: short, even if its repr raises."""
    if type(value) is int and value.bit_length() > _MOST_BITS:
        digits = round(value.bit_length() * log10(2))
        return f"an integer of about {digits:,} digits"
    try:
        # A user's str class may raise, too.
        text = masked(_repr(value))
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException:  # noqa: BLE001 - a message must not fail over what it shows
        return f"<{type(value).__name__}>"
    return text if len(text) <= most else f"{text[:most]}…"


def _repr(value: object) -> str:
    if not isinstance(value, str):
        return str.__str__(repr(value))
    text = str.__repr__(value)
    return text if is_text(value) else f"{type(value).__name__}({text})"


def written(record: Any) -> str:
    """Return the message of a log *record*, even if its arguments do not fit."""
    try:
        return str.__str__(record.getMessage())
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # noqa: BLE001 - logging raises nothing to who logs
        parts = f"{show(record.msg)} {show(record.args)}"
        return f"{parts} (it cannot be written: {type(error).__name__})"


def with_article(name: str) -> str:
    """Return *name* after `a` or `an`."""
    return f"{'an' if name[:1].lower() in 'aeiou' else 'a'} {name}"


def width(text: str) -> int:
    """Return the columns that *text* takes in a terminal: 0, 1 or 2 for each letter."""
    if text.isascii():
        return len(text)
    return sum(map(_columns, text))


def cut(text: str, room: int) -> str:
    """Return the beginning of *text* that fits into *room* columns."""
    if text.isascii():
        return text[:room]
    columns = 0
    for place, letter in enumerate(text):
        columns += _columns(letter)
        if columns > room:
            return text[:place]
    return text


def _columns(letter: str) -> int:
    from unicodedata import category, east_asian_width  # noqa: PLC0415 - when needed

    if category(letter) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if east_asian_width(letter) in "WF" else 1


def _written(match: re.Match[str]) -> str:
    return ascii(match.group())[1:-1]
