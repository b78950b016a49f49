"""
Values that users have a journal keep in their own way: by functions, or in files.

Large values are files in `runs.db.values/`.

Decision: kept-values.
"""

from __future__ import annotations

import contextlib
import os
import re
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

import attrs

from taskorch.core.journal._scripts import HERE
from taskorch.core.journal._values import (
    GoneError,
    RefusedError,
    is_known,
    refused_result,
)
from taskorch.errors import InvalidTaskError
from taskorch.kit.visible import show

#: The beginning of a file's name while it is written.
_UNDONE: Final = ".new-"
_CHUNK: Final = 2**20
_NAMES: Final = re.compile(r'\{"\$file":\["(?:[^"\\]|\\.)*","([^"/\\]+)"\]\}')


def keep(save: Callable[..., Any], value: Any, suffix: str) -> str:
    """
    Have *save* write *value* into a file that is synced to disk; return its name.

    The name is a hash of the content: the same content is one file.

    Raises:
        RefusedError: There is no place for it, or it could not be written.
    """
    import tempfile  # noqa: PLC0415 - few values are in files

    if not HERE.path:
        why = (
            f"register_file() keeps a {type(value).__qualname__} in a file beside the "
            "journal, and this journal is in no file"
        )
        hint = (
            "register() it in the place of that, and it is in the journal, up to 100 MB"
            "; or keep it where all machines see it, and hand over its name"
        )
        raise RefusedError(why, hint)
    folder = Path(f"{HERE.path}.values")
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        number, name = tempfile.mkstemp(suffix, _UNDONE, folder)
        os.close(number)
        path = Path(name)
        try:
            save(value, name)
            with path.open("rb") as file:
                digest = _digest(path)
                os.fsync(file.fileno())
            kept = folder / f"{digest}{suffix}"
            path.replace(kept)
        finally:
            path.unlink(missing_ok=True)
        _sync(folder)
    except OSError as error:
        why = f"its file could not be written: {error}"
        raise RefusedError(why, f"make room in {folder}, and run it again") from error
    except Exception as error:
        kind = type(error).__name__
        why = f"save of a {type(value).__qualname__} raised {kind}: {error}"
        raise RefusedError(why, "mend what was registered for it") from error
    return kept.name


def load(read: Callable[[str], Any], of: str, name: str) -> Any:
    """
    Return what *read* makes of the file *name*, a value of the class named *of*.

    Raises:
        GoneError: The file is gone or was changed, or cannot be read.
    """
    path = Path(f"{HERE.path}.values") / name
    try:
        is_as_kept = _digest(path) == name.partition(".")[0]
    except OSError as error:
        raise GoneError(of, f"{path} cannot be read: {error.strerror}") from error
    if not is_as_kept:
        raise GoneError(of, f"{path} is not as it was kept")
    try:
        return read(str(path))
    except Exception as error:
        why = f"load of {path} raised {type(error).__name__}: {error}"
        raise GoneError(of, why) from error


def clean(db: sqlite3.Connection, journal: Path) -> None:
    """Remove the files that no document in the journal names; only its leader may."""
    folder = Path(f"{journal}.values")
    if not folder.is_dir():
        return
    named: set[str] = set()
    rows = db.execute("SELECT doc FROM facts WHERE instr(doc, '{\"$file\":[') > 0")
    for (text,) in rows:
        named.update(_NAMES.findall(text))
    for path in folder.iterdir():
        if path.name not in named:
            with contextlib.suppress(OSError):
                path.unlink()


def _digest(path: Path) -> str:
    import hashlib  # noqa: PLC0415 - only for files beside

    digest = hashlib.blake2b(digest_size=20)
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _sync(folder: Path) -> None:
    number = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


T = TypeVar("T")
_SUFFIX: Final = re.compile(r"|\.[\w.-]{1,40}", re.ASCII)


@attrs.frozen(eq=False)
class Pair:
    """Functions that encode instances of a class for a journal, and decode them."""

    cls: type[Any]
    name: str
    encode: Callable[[Any], Any]
    decode: Callable[[Any], Any]
    #: The ending of the name of its file; None if it has none.
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

    Call it where the class is defined, so that every run of the program has done it
    before it opens its journal. It holds for *cls* alone: a subclass is registered by
    itself. A dataclass or an enum may be registered too; it is then kept by these
    functions only. The same class may be registered again, as when a cell of a notebook
    is run again.

    Args:
        cls: The class.
        encode: Turns an instance into something that a journal can keep: JSON values, a
            dict of them, tuples, dates, instances of other registered classes, …. It is
            called whenever one is submitted or returned, on any thread. It must not
            call the orchestrator.
        decode: Makes an equal instance of *cls* of that. It is called when the journal
            is read.
        name: The name of the class in the journal, for ever; None is the import path
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

    It is like `register`, for large values: arrays, tables, models. The file is in the
    folder `runs.db.values` and on the disk before the task is accepted, or its end is
    kept. A task that leaves the journal takes its files along. For arrays of NumPy:

        register_file(
            numpy.ndarray,
            lambda array, path: numpy.save(path, array, allow_pickle=False),
            numpy.load,
            suffix=".npy",
        )

    Args:
        cls: The class.
        save: Writes an instance into the file at a path, which exists and is empty.
        load: Makes an equal instance of *cls* from the file at a path.
        suffix: The ending of the names of the files: `".npy"`.
        name: As that of `register`.

    Raises:
        InvalidTaskError: See `register`; or *suffix* is no such ending.
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
