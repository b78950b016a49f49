"""Values in messages."""

from __future__ import annotations

from typing import Any, Final

import attrs

from taskorch.kit.visible import masked

#: Characters of a value that a message shows.
_MAX_SHOWN: Final = 200

#: Characters of a field that the repr of a value shows: it stays on one line.
_MAX_FIELD: Final = 72


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


def shown(self: Any) -> str:
    """The text of an attrs object: fields that differ from their defaults, one line."""
    parts: list[str] = []
    for field in attrs.fields(type(self)):
        value = getattr(self, field.name)
        if not field.repr or _is_usual(field, value):
            continue
        if callable(field.repr):
            text = _cut(str(field.repr(value)))
        else:
            text = show(value, _MAX_FIELD)
        parts.append(f"{field.name}={' '.join(text.splitlines())}")
    return f"{type(self).__name__}({', '.join(parts)})"


def _cut(text: str) -> str:
    return text if len(text) <= _MAX_FIELD else f"{text[:_MAX_FIELD]}…"


def _is_usual(field: attrs.Attribute[Any], value: Any) -> bool:
    usual: Any = field.default
    if isinstance(usual, attrs.Factory):  # type: ignore[arg-type]  # it is a class
        usual = usual.factory()
    return value is usual or (type(value) is type(usual) and bool(value == usual))
