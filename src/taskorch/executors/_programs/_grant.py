"""
What a program of an elastic task holds, in a file, and how it says that it looks.

A program asks for its share by writing a line into a pipe: that is its checkpoint. The
file is then written anew, with the number of checkpoints so far in it, so that the
program knows when the answer to its own is there.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final, Protocol

from taskorch._base.staged import Staged
from taskorch.executors._programs._loop import Action, Loop
from taskorch.executors._programs._temporary import make_temporary
from taskorch.model import ALLOCATION_VARIABLE, CHECKPOINT_VARIABLE

_log = logging.getLogger(__name__)

#: Bytes of the pipe that are read at a time.
_SLICE: Final = 4096


class AttemptHolding(Protocol):
    """What an attempt holds."""

    def held(self) -> Mapping[str, float]:
        """Resources that the program holds now."""
        ...

    def reach_checkpoint(self) -> Mapping[str, float]:
        """Resources that the program holds from this checkpoint on."""
        ...


class ProgramGrant:
    """The file and the pipe of one program; all is for the supervisor's thread."""

    def __init__(
        self, loop: Loop, holding: AttemptHolding, *, safe: Callable[[Action], Action]
    ) -> None:
        self._loop = loop
        self._holding = holding
        self._safe = safe
        self._folder: Path | None = None
        self._fds: list[int] = []
        #: Checkpoints so far, and what is in the file.
        self._count = 0
        self._written = ""

    def open(self) -> dict[str, str]:
        """
        Make both; the variables that name them.

        Raises:
            OSError: There is no room for them.
        """
        folder = self._folder = make_temporary()
        pipe = folder / "checkpoint"
        os.mkfifo(pipe, 0o600)
        # With an end of ours to write to, it does not end whenever a writer does.
        for way in (os.O_RDONLY, os.O_WRONLY):
            self._fds.append(os.open(pipe, way | os.O_NONBLOCK | os.O_CLOEXEC))
        self._file = folder / "allocation.json"
        self._write(self._holding.held())
        self._loop.watch(self._fds[0], self._safe(self._read))
        return {ALLOCATION_VARIABLE: str(self._file), CHECKPOINT_VARIABLE: str(pipe)}

    def close(self) -> None:
        """Remove both, if they are there."""
        fds, self._fds = self._fds, []
        for fd in fds:
            self._loop.unwatch(fd)
            os.close(fd)
        folder, self._folder = self._folder, None
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)

    def _read(self) -> None:
        """Lines have come: it has been at as many checkpoints, and is at one now."""
        lines = 0
        with suppress(BlockingIOError):
            while data := os.read(self._fds[0], _SLICE):
                lines += data.count(b"\n")
        if not lines:
            return
        self._count += lines
        self._rewrite(self._holding.reach_checkpoint())

    def refresh(self) -> None:
        """Write the file anew if it holds something else than that says."""
        self._rewrite(self._holding.held())

    def _rewrite(self, held: Mapping[str, float]) -> None:
        try:
            self._write(held)
        except OSError as error:
            _log.warning("taskorch: %s could not be written: %s", self._file, error)

    def _write(self, held: Mapping[str, float]) -> None:
        amounts = {
            name: int(much) if much == int(much) else much
            for name, much in held.items()
        }
        text = f"{json.dumps({'checkpoints': self._count, 'allocation': amounts})}\n"
        if text != self._written:
            Staged(self._file, text).commit()
            self._written = text
