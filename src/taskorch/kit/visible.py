"""Texts for people that hold what tasks or users have supplied."""

from __future__ import annotations

import re
from types import WrapperDescriptorType
from typing import Any, Final, TypeGuard

from taskorch.kit.address import without_password

#: What a terminal or a page obeys instead of showing it: control characters but for
#: the end of a line and the tabulator, marks of direction, other ends of lines, and
#: halves of characters.
_OBEYED: Final = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069"
    "\ud800-\udfff\ufeff]"
)
#: Of a letter in UTF-8: its bytes at most, and every byte but its first.
_MOST_BYTES: Final = 4
_CONTINUATION: Final = bytes(range(0x80, 0xC0))
#: Characters of an error's message that facts keep; the error itself has them all.
_MAX_MESSAGE: Final = 10_000
#: Characters of a value that a message shows.
_MAX_SHOWN: Final = 200
#: Credentials in a URL: user, password or token; before the host, or as a parameter.
_USERINFO: Final = r"""//[^\s/?#"'<>]*@"""
_PARAMETER: Final = r"""([?&]password=)[^\s&#"'<>]+"""


#: What finds a text among others, and takes it apart.
_METHODS: Final = (
    *("__eq__", "__hash__", "__lt__", "__len__"),
    *("__iter__", "__getitem__", "__contains__"),
)


def is_text(value: Any) -> TypeGuard[str]:
    """
    Whether *value* is a text that does what Python's do, as one of an enum does.

    Nobody knows what methods do that somebody has written for a class of texts.
    """
    cls = type(value)
    return cls is str or (
        issubclass(cls, str)
        and all(type(getattr(cls, name)) is WrapperDescriptorType for name in _METHODS)
    )


def visible(text: str) -> str:
    r"""*text*, `masked`, with what would be obeyed as Python writes it: `\x1b`."""
    return printable(masked(text))


def printable(text: str) -> str:
    r"""*text* with what would be obeyed as Python writes it: `\x1b`."""
    return _OBEYED.sub(_written, text)


def masked(text: str) -> str:
    """*text* without what in a URL may be a password."""
    if "postgres" in text.lower():
        text = without_password(text)
    if "//" not in text:
        return text
    return re.sub(_PARAMETER, r"\1…", re.sub(_USERINFO, "//…@", text))


def counted(number: int, noun: str) -> str:
    """*number* of a thing: `1 task`, `2,000 tasks`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def after_cut(data: bytes) -> bytes:
    """*data* of a text without the rest of a letter that was cut through before it."""
    head = data[: _MOST_BYTES - 1]
    return head.lstrip(_CONTINUATION) + data[len(head) :]


def said(error: BaseException) -> tuple[str, str]:
    """The type and the message of *error*, however long, and whatever its str does."""
    kind = type(error).__name__
    try:
        # A text of a class of the user's may raise, too.
        message = masked(str.__str__(str(error)))
    except BaseException:  # noqa: BLE001 - its __str__ is the user's
        message = "(it cannot be printed)"
    if len(message) > _MAX_MESSAGE:
        message = f"{message[:_MAX_MESSAGE]}…"
    return kind, message


def show(value: object, most: int = _MAX_SHOWN) -> str:
    """*value* for a message: short, whatever it is, and whatever its repr does."""
    try:
        # A text of a class of the user's may raise, too.
        text = masked(str.__str__(repr(value)))
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException:  # noqa: BLE001 - a message must not fail over what it shows
        return f"<{type(value).__name__}>"
    return text if len(text) <= most else f"{text[:most]}…"


def written(record: Any) -> str:
    """The message of *record*, one of logging's, whatever its arguments do."""
    try:
        return str.__str__(record.getMessage())
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # noqa: BLE001 - logging raises nothing to who logs
        parts = f"{show(record.msg)} {show(record.args)}"
        return f"{parts} (it cannot be written: {type(error).__name__})"


def with_article(name: str) -> str:
    """*name* after `a` or `an`."""
    return f"{'an' if name[:1].lower() in 'aeiou' else 'a'} {name}"


def width(text: str) -> int:
    """Columns that *text* takes in a terminal: some letters take two, some none."""
    if text.isascii():
        return len(text)
    return sum(map(_columns, text))


def cut(text: str, room: int) -> str:
    """The beginning of *text* that fits into *room* columns."""
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
