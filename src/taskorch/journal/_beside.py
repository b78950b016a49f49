"""
Files of large values, beside the journal: `runs.db.values/`.

Decision: 0067.
"""

from __future__ import annotations

import contextlib
import os
import re
import sqlite3
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import Any, Final

from taskorch.journal._scripts import HERE
from taskorch.journal._values import GoneError, RefusedError

#: What a file is called while it is written.
_UNDONE: Final = ".new-"
_CHUNK: Final = 2**20
_NAMES: Final = re.compile(r'\{"\$file":\["(?:[^"\\]|\\.)*","([^"/\\]+)"\]\}')
#: Whether values in files are left out, since only facts are asked for.
_is_left_out: Final = ContextVar("_is_left_out", default=False)


@contextlib.contextmanager
def without_files() -> Iterator[None]:
    """Values in files are not loaded here."""
    token = _is_left_out.set(True)
    try:
        yield
    finally:
        _is_left_out.reset(token)


def keep(save: Callable[..., Any], value: Any, suffix: str) -> str:
    """
    Have *save* write *value* into a file that is synced to the disk; its name.

    The name is made of what is in it: the same content is one file.

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
    What *read* makes of the file *name*, a value of the class that is called *of*.

    Raises:
        GoneError: The file is gone or was changed, or cannot be read.
    """
    path = Path(f"{HERE.path}.values") / name
    if _is_left_out.get():
        raise GoneError(of, f"it is in {path}")
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
    """Remove the files that nothing in the journal names; its owner alone may."""
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
