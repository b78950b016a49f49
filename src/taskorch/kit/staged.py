"""Files that appear as a whole, or not at all."""

from __future__ import annotations

import os
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Final

#: A random name that no other process has, also on machines that share a folder.
_PROCESS: Final = os.urandom(6).hex()
_numbers: Final = count()


class Staged:
    """
    A text that is written to a temporary file, and then moved into place.

    No reader sees a part of it, and the temporary name does not end in `.json`.

    Args:
        path: The file; its folder is made.
        text: Its whole content.
        mode: Its permissions.

    Raises:
        OSError: It cannot be written; nothing is left of it.
    """

    def __init__(
        self, path: str | os.PathLike[str], text: str, mode: int = 0o644
    ) -> None:
        self._path = os.fspath(path)
        folder = os.path.dirname(self._path)  # noqa: PTH120 - made for each text
        name = f".{_PROCESS}-{os.getpid()}-{next(_numbers)}.tmp"
        self._fresh = os.path.join(folder, name)  # noqa: PTH118
        flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC
        try:
            file = os.open(self._fresh, flags, 0o600)
        except FileNotFoundError:
            Path(folder).mkdir(parents=True, exist_ok=True)
            file = os.open(self._fresh, flags, 0o600)
        try:
            try:
                os.fchmod(file, mode)
                _write(file, text.encode())
            finally:
                os.close(file)
        except BaseException:
            self.discard()
            raise

    def commit(self) -> None:
        """
        Move the file to its path, over an older one.

        Raises:
            OSError: It cannot be moved; nothing is left of it.
        """
        try:
            os.replace(self._fresh, self._path)  # noqa: PTH105
        except BaseException:
            self.discard()
            raise

    def discard(self) -> None:
        """Remove the staged file."""
        with suppress(FileNotFoundError):
            os.unlink(self._fresh)  # noqa: PTH108


def _write(file: int, data: bytes) -> None:
    done = 0
    while done < len(data):
        done += os.write(file, data[done:])
