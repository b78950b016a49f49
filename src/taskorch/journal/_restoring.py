"""Values as they were, from what `_writing` made of them."""

from __future__ import annotations

import base64
import contextlib
import importlib
import sys
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from taskorch.errors import JournalError
from taskorch.journal._scripts import OtherScriptError, main_named
from taskorch.model import (
    Agent,
    AgentStats,
    Answer,
    AtLeast,
    Call,
    Durations,
    Elastic,
    Health,
    HealthCheck,
    Missing,
    Performance,
    PoolStats,
    Program,
    ProgramResult,
    Question,
    QueueStats,
    Reference,
    Resources,
    RetryPolicy,
    RetryStats,
    StateStats,
    Stats,
    Task,
    TypeStats,
    Wait,
    requested,
)

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

#: Makes a value of what was written behind its tag, and of what an array stands for.
Reader: TypeAlias = Callable[[Any, type], Any]

#: What to do about something that is not known.
NEWER: Final = "open it with the taskorch that wrote it"

#: What is kept field by field, under its own name.
VALUES: Final[dict[str, type[Any]]] = {
    cls.__name__: cls
    for cls in (
        Agent,
        AgentStats,
        Answer,
        AtLeast,
        Call,
        Durations,
        Health,
        HealthCheck,
        Performance,
        PoolStats,
        Program,
        ProgramResult,
        Question,
        QueueStats,
        Reference,
        RetryPolicy,
        RetryStats,
        StateStats,
        Stats,
        Task,
        TypeStats,
        Wait,
    )
}


class GoneError(Exception):
    """What a value was made of, such as its class, is gone or not what it was."""

    def __init__(self, name: str, why: str) -> None:
        super().__init__(why)
        self.name = name
        self.why = why


def restored(value: Any, array: type) -> Any:
    """
    *value* restored, or a `Missing` with *value* if its class is unresolvable.

    So the journal can be opened all the same, and only what needs the value fails.
    """
    try:
        return restore(value, array)
    except GoneError as gone:
        return Missing(gone.name, gone.why, value)


def restore(value: Any, array: type) -> Any:
    """
    What *value*, which JSON has, was; *array* is what a JSON array stands for.

    Raises:
        GoneError: Its class, or the like, is gone or was changed.
        JournalError: A newer taskorch wrote it.
        TaskorchError, ValueError, TypeError, LookupError, AttributeError: It is
            damaged.
    """
    cls = type(value)
    if cls is list:
        items = [restore(item, array) for item in value]
        return items if array is list else tuple(items)
    if cls is not dict:
        return value
    if len(value) == 1:
        ((tag, inner),) = value.items()
        if tag[:1] == "$":
            return _tagged(tag[1:], inner, array)
    return {key: restore(item, array) for key, item in value.items()}


def _tagged(tag: str, inner: Any, array: type) -> Any:
    known = VALUES.get(tag)
    if known is not None:
        try:
            fields = {name: restore(item, array) for name, item in inner.items()}
        except GoneError:
            if known is not Task:
                raise
            fields = {name: _of_task(name, item) for name, item in inner.items()}
        if known is RetryPolicy and type(fields.get("retry_on")) is tuple:
            # Nobody can raise an exception class that is gone: it needs no retry.
            there = (cls for cls in fields["retry_on"] if not isinstance(cls, Missing))
            fields["retry_on"] = tuple(there)
        return known(**fields)
    read = _READERS.get(tag) or _find_other(tag)
    if read is None:
        msg = f"${tag} is nothing that this taskorch knows"
        raise JournalError(msg, hint=NEWER)
    return read(inner, array)


def _of_task(name: str, kept: Any) -> Any:
    """A field of a task, of which only some part is missing."""
    if name != "metadata" or type(kept) is not dict:
        return restored(kept, list)
    # The other entries may be what the user finds the task by.
    pairs = kept["$dict"] if kept.keys() == {"$dict"} else kept.items()
    return {restored(key, list): restored(item, list) for key, item in pairs}


def _zone_of(name: str) -> ZoneInfo:
    """
    The time zone *name*.

    Raises:
        GoneError: This machine does not know it.
    """
    from zoneinfo import ZoneInfo  # noqa: PLC0415 - few values have one

    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError) as error:
        why = f"the time zone {name!r} is not known here: install tzdata"
        raise GoneError(name, why) from error


def reader_of_zoned(cls: type[Any]) -> Reader:
    """What makes a time or a datetime of `[text]` or `[text, zone, fold]`."""

    def read(parts: list[Any], _array: type) -> Any:
        moment = cls.fromisoformat(parts[0])
        if len(parts) == 1:
            return moment
        _, zone, fold = parts
        zone = _zone_of(zone) if zone else moment.tzinfo
        return moment.replace(tzinfo=zone, fold=fold)

    return read


def _to_dict(pairs: list[Any], array: type) -> dict[Any, Any]:
    return {restore(key, array): restore(item, array) for key, item in pairs}


def imported(path: str) -> Any:
    """
    What *path*, `module:qualname`, names.

    Raises:
        ImportError, AttributeError: It is not there, or of another script.
    """
    module, _, name = path.rpartition(":")
    found: Any = sys.modules.get(module) or main_named(module, name)
    found = found or importlib.import_module(module)
    for part in name.split("."):
        found = getattr(found, part)
    return found


#: Whether a thread only reads: then nothing named by a path is imported.
_only_looks: Final = ContextVar("_only_looks", default=False)


@contextlib.contextmanager
def only_looking() -> Iterator[None]:
    """What is to be called is `Missing`, and not imported, if it is restored here."""
    token = _only_looks.set(True)
    try:
        yield
    finally:
        _only_looks.reset(token)


def _to_elastic(parts: Any, _array: type) -> Elastic:
    units, least, weight, fallback = parts
    pairs = (tuple(map(tuple, units)), tuple(map(tuple, least)))
    return requested(pairs[0], (pairs[1], weight, fallback))  # type: ignore[return-value]


def _to_function(path: str) -> Any:
    if _only_looks.get():
        return Missing(path)
    try:
        return imported(path)
    except OtherScriptError as error:
        return Missing(path, str(error))
    except Exception:  # noqa: BLE001 - a module that is imported may raise anything
        # Only the task that calls it is held up, and not the start of all others.
        return Missing(path)


TO_DATETIME: Final = reader_of_zoned(datetime)
_READERS: Final[dict[str, Reader]] = {
    "int": lambda text, _: int(text, 16),
    "float": lambda text, _: float(text),
    "str": lambda text, _: bytes.fromhex(text).decode(errors="surrogatepass"),
    "list": lambda items, array: [restore(item, array) for item in items],
    "tuple": lambda items, array: tuple(restore(item, array) for item in items),
    "dict": _to_dict,
    "set": lambda items, array: {restore(item, array) for item in items},
    "frozenset": lambda items, array: frozenset(restore(item, array) for item in items),
    "bytes": lambda text, _: base64.b64decode(text),
    "datetime": TO_DATETIME,
    "path": lambda text, array: Path(restore(text, array)),
    "Resources": lambda pairs, _: Resources.from_units(tuple(map(tuple, pairs))),
    "Elastic": _to_elastic,
    "import": lambda path, _: _to_function(path),
}

#: Asked for the reader of a tag that is not among these.
_find_other: Callable[[str], Reader | None]


def find_other_readers(find: Callable[[str], Reader | None]) -> None:
    """Have *find* give the readers of unknown tags; None if it knows none."""
    global _find_other  # noqa: PLW0603 - set once, by `_codec`, which stands above
    _find_other = find
