"""Files that are there as a whole, or not at all."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


class Staged:
    """
    A text that is written aside, and put into the place of a file as a whole.

    Nobody ever reads a part of it, and its name until then does not end in `.json`.

    Args:
        path: The file; its folder is made.
        text: All that is in it afterwards.
    """

    def __init__(self, path: Path, text: str) -> None:
        self._path = path
        folder = path.parent
        try:
            file, name = tempfile.mkstemp(dir=folder, prefix=".", suffix=".tmp")
        except FileNotFoundError:
            folder.mkdir(parents=True, exist_ok=True)
            file, name = tempfile.mkstemp(dir=folder, prefix=".", suffix=".tmp")
        self._fresh = Path(name)
        try:
            with open(file, "w", encoding="utf-8") as stream:  # noqa: PTH123 - a number
                os.fchmod(file, 0o644)
                stream.write(text)
        except BaseException:
            self.discard()
            raise

    def commit(self) -> None:
        """Put it there."""
        self._fresh.replace(self._path)

    def discard(self) -> None:
        """Forget it."""
        self._fresh.unlink(missing_ok=True)
