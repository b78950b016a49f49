"""
Classes of the user's that a journal keeps by functions of theirs.

Decision: 0101.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final, TypeVar

import attrs

from taskorch.errors import InvalidTaskError
from taskorch.journal._values import is_known, refused_result
from taskorch.model import show

T = TypeVar("T")
_SUFFIX: Final = re.compile(r"|\.[\w.-]{1,40}", re.ASCII)


@attrs.frozen(eq=False)
class Pair:
    """What makes of the instances of a class what a journal keeps, and back."""

    cls: type[Any]
    name: str
    encode: Callable[[Any], Any]
    decode: Callable[[Any], Any]
    #: How the name of its file ends; None: it has none.
    suffix: str | None = None


BY_CLASS: Final[dict[type[Any], Pair]] = {}
BY_NAME: Final[dict[str, Pair]] = {}


def register(
    cls: type[T],
    encode: Callable[[T], Any],
    decode: Callable[[Any], T],
    *,
    name: str | None = None,
) -> None:
    """
    Have durable journals of this process keep instances of *cls*.

    Call it where the class is defined, so that every life of the script has done it
    before it opens its journal. It holds for *cls* alone: a subclass is registered by
    itself. A dataclass or an enum may be registered too; it is then kept by these
    functions only. The same class may be registered again, as when a cell of a notebook
    is run again.

    Args:
        cls: The class.
        encode: Makes of an instance what a journal can keep: JSON values, a dict of
            them, tuples, dates, instances of other registered classes, …. It is called
            whenever one is submitted or returned, on any thread, and must not call the
            orchestrator.
        decode: Makes of that an equal instance of *cls*. It is called when the journal
            is read.
        name: Under which they stand in the journal, for ever; None is the import path
            of *cls*. With a name, the class may move to another module.

    Raises:
        InvalidTaskError: *cls* is no class, or one that is kept without this, or is
            registered under another name; or *name* is that of another class.
    """
    _register(cls, encode, decode, name, ("encode", "decode"), None)


def register_file(
    cls: type[T],
    save: Callable[[T, str], object],
    load: Callable[[str], T],
    *,
    suffix: str = "",
    name: str | None = None,
) -> None:
    """
    Have durable journals keep instances of *cls* in files beside them.

    As `register`, for what is large: arrays, tables, models. The file is in the folder
    `runs.db.values` and on the disk before the task is accepted, or its end is kept.
    What leaves the journal takes its files along. For arrays of NumPy:

        register_file(
            numpy.ndarray,
            lambda array, path: numpy.save(path, array, allow_pickle=False),
            numpy.load,
            suffix=".npy",
        )

    Args:
        cls: The class.
        save: Writes an instance into the file at a path, which is there and empty.
        load: Makes an equal instance of *cls* of what is in the file at a path.
        suffix: How the names of the files are to end: `".npy"`.
        name: As that of `register`.

    Raises:
        InvalidTaskError: See `register`; or *suffix* is no such thing.
    """
    ending: Any = suffix
    if not isinstance(ending, str) or not _SUFFIX.fullmatch(ending):
        msg = f"suffix: {show(suffix)} is no ending of a file as '.npy' is"
        raise InvalidTaskError(msg)
    _register(cls, save, load, name, ("save", "load"), suffix)


def _register(
    cls: Any,
    encode: Callable[..., Any],
    decode: Callable[..., Any],
    name: str | None,
    words: tuple[str, str],
    suffix: str | None,
) -> None:
    arguments: Any = cls, name
    if not isinstance(arguments[0], type):
        msg = f"a class is registered, not {show(cls)}"
        raise InvalidTaskError(msg)
    for word, function in zip(words, (encode, decode), strict=True):
        if not callable(function):
            msg = f"{word}: a function is needed, not {show(function)}"
            raise InvalidTaskError(msg)
    path = _path(cls)
    if is_known(cls):
        msg = f"{path} is kept exactly without being registered"
        raise InvalidTaskError(msg, hint="register classes of your own only")
    name = path if name is None else name
    if not isinstance(arguments[1], str | None) or not name.isprintable():
        msg = f"name: a text is needed, not {show(name)}"
        raise InvalidTaskError(msg)
    old = BY_NAME.get(name)
    if old is not None and _path(old.cls) != path:
        msg = f"the name {name!r} is taken by {_path(old.cls)}"
        raise InvalidTaskError(msg, hint="give each class a name of its own")
    old = BY_CLASS.get(cls)
    if old is not None and old.name != name:
        msg = f"{path} is registered under the name {old.name!r}"
        hint = "what is in journals has this name: keep it"
        raise InvalidTaskError(msg, hint=hint)
    BY_CLASS[cls] = BY_NAME[name] = Pair(cls, name, encode, decode, suffix)
    refused_result.cache_clear()


def _path(cls: type[Any]) -> str:
    return f"{cls.__module__}:{cls.__qualname__}"
