"""
The main module, under a name that contains the script.

`__main__` is another module in every script. In a journal it is `__main__@` and the
path of the script, seen from the folder of the journal: so both may move together, and
no script gets the functions of another. In a session without a file it is `__main__@`
alone; `__main__`, as earlier versions wrote it, is that of any script.
"""

from __future__ import annotations

import os
import sys
import threading
from functools import lru_cache
from types import ModuleType, TracebackType
from typing import Any, Final

_MAIN: Final = "__main__"
_MARK: Final = f"{_MAIN}@"
#: Variables by which IPython knows the notebook whose cells run.
_NOTEBOOK: Final = ("__vsc_ipynb_file__", "JPY_SESSION_NAME", ".ipynb")


class _Here(threading.local):
    """The file of the journal that this thread writes values for, or reads; or ""."""

    path: str = ""


HERE: Final = _Here()


class OtherScriptError(ImportError):
    """A name belongs to another script than the one that runs."""


class Beside:
    """Block in which this thread writes or reads values of the journal *path*."""

    __slots__ = ("_path",)

    def __init__(self, path: str) -> None:
        self._path = path

    def __enter__(self) -> None:
        HERE.path = self._path

    def __exit__(
        self,
        _type: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        HERE.path = ""


def named_module(module: str) -> str:
    """Return the name under which the journal keeps objects of *module*."""
    if module != _MAIN:
        return module
    return f"{_MARK}{_seen_from(os.path.dirname(HERE.path), _script())}"  # noqa: PTH120


def main_named(module: str, name: str) -> ModuleType | None:
    """
    Return the main module that *module* names, to look for *name* in it.

    A module that was imported from the file of the script will do. Return None if
    *module* is no main module.

    Raises:
        OtherScriptError: It is that of another script.
    """
    if not module.startswith(_MARK):
        return None
    kept, ours = module[len(_MARK) :], _script()
    folder = os.path.dirname(HERE.path)  # noqa: PTH120
    file = kept and os.path.abspath(os.path.join(folder, kept))  # noqa: PTH100, PTH118
    if _is_same(file, ours):
        return sys.modules[_MAIN]
    if not kept:
        msg = (
            f"{name} was made in a session without a file, and the journal was opened "
            f"by {_seen_from(folder, ours)}: make {name} in such a session again, "
            "before the journal is opened"
        )
        raise OtherScriptError(msg)
    imported = sys.modules.get(_imported_from(file, len(sys.modules)))
    if imported is not None:
        return imported
    who = _seen_from(folder, ours) or "a session without a file"
    msg = (
        f"{name} is a function or class of the script {kept}, and the journal was "
        f"opened by {who}: run {kept} again, or import it before the journal is opened"
    )
    raise OtherScriptError(msg)


@lru_cache(64)
def _imported_from(file: str, _loaded: int) -> str:
    """Return the module of a *file*, or ""; look anew when others were *loaded*."""
    for name, candidate in sys.modules.copy().items():
        path = getattr(candidate, "__dict__", {}).get("__file__")
        if not isinstance(path, str) or _name(path) != _name(file):
            continue
        if _is_one_file(file, path):
            return name
    return ""


def _script() -> str:
    """Return the absolute path of the script or notebook that runs; or ""."""
    namespace: dict[str, Any] = vars(sys.modules[_MAIN])
    path = namespace.get("__file__")
    if path is None and "ipykernel" in sys.modules:
        variable, name, ending = _NOTEBOOK
        path = namespace.get(variable) or os.environ.get(name)
        path = path if isinstance(path, str) and path.endswith(ending) else None
    return os.path.abspath(path) if isinstance(path, str) else ""  # noqa: PTH100


@lru_cache(64)
def _seen_from(folder: str, path: str) -> str:
    if not (folder and path):
        return path
    try:
        return os.path.relpath(path, folder).replace(os.sep, "/")
    except ValueError:
        # The script is on another drive.
        return path


def _is_same(kept: str, ours: str) -> bool:
    """Return whether the script *ours* is the one that was *kept*, perhaps moved."""
    if kept == ours or _is_one_file(kept, ours):
        return True
    was_moved = not os.path.exists(kept)  # noqa: PTH110
    return _name(kept) == _name(ours) and was_moved


def _is_one_file(one: str, other: str) -> bool:
    try:
        return os.path.samefile(one, other)  # noqa: PTH121
    except (OSError, ValueError):
        return False


def _name(path: str) -> str:
    folder, name = os.path.split(path)
    # The main module of a package or an archive has the name of its folder.
    return f"{os.path.basename(folder)}/{name}" if name == "__main__.py" else name  # noqa: PTH119
