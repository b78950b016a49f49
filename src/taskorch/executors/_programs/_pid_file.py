"""The file with the process id of a program, for watchers outside of the library."""

from __future__ import annotations

import logging
import os
from contextlib import suppress
from pathlib import Path

from taskorch._base.staged import Staged

_log = logging.getLogger(__name__)


class PidFile:
    """A file with the process id of a running program; never raises."""

    def __init__(self, path: str | None) -> None:
        self._path = None if path is None else str(Path(path).absolute())
        #: Where it is now.
        self._written: str | None = None

    def write(self, pid: int) -> None:
        """Write the file in one step: a reader finds the whole number."""
        path = self._path
        if path is None:
            return
        try:
            Staged(path, f"{pid}\n").commit()
            self._written = path
        except OSError as error:
            _log.warning("taskorch: %s could not be written: %s", path, error)

    def remove(self) -> None:
        """Remove it: the number may go to another process from now on."""
        written, self._written = self._written, None
        if written is not None:
            with suppress(OSError):
                os.unlink(written)  # noqa: PTH108
