"""The ledger of a workspace: which runner has claimed which task, line by line."""

from __future__ import annotations

import errno
import json
import os
import threading
from pathlib import Path
from typing import Any, Final, cast

import attrs

from taskorch._base._staged import Staged

#: A ledger is written anew if it has more lines than this for each task in it.
_MOST_LINES: Final = 4
_FEW_LINES: Final = 1_000


@attrs.frozen
class LedgerEntry:
    """
    What the ledger says of a task.

    Attributes:
        fence: How often it was claimed.
        runner: Who has claimed it; None if nobody has, or it has ended.
    """

    fence: int = 0
    runner: str | None = None


class Ledger:
    """
    A file that all runners append to; the last line about a task counts.

    One file for all tasks, since to make a file for each takes the system longer than
    all else that a claim is. Whoever writes holds what all runners share; whoever reads
    need not.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = -1
        self._is_writable = False
        #: Up to where it was read: the end of a line.
        self._read_to = 0
        self._lines = 0
        self._known: dict[str, LedgerEntry] = {}
        self._lock = threading.Lock()

    def entry(self, task_id: str) -> LedgerEntry:
        """
        The latest entry of a task.

        Raises:
            OSError: There is a ledger, and it cannot be read.
        """
        with self._lock:
            self._read()
            return self._known.get(task_id, LedgerEntry())

    def add(self, task_id: str, entry: LedgerEntry) -> None:
        """
        Say something else of a task, in one piece: who is killed has said all or none.

        Raises:
            OSError: It cannot be written; then nothing was said.
        """
        data = _line(task_id, entry).encode()
        with self._lock:
            size = self._read()
            if not self._is_writable:
                self._open(os.O_CREAT | os.O_RDWR)
            if size > self._read_to:
                # What stands behind the last line was begun by one that was killed.
                os.ftruncate(self._file, self._read_to)
            if os.pwrite(self._file, data, self._read_to) < len(data):
                os.ftruncate(self._file, self._read_to)
                full = errno.ENOSPC
                raise OSError(full, os.strerror(full), str(self._path))
            self._read_to += len(data)
            self._lines += 1
            self._known[task_id] = entry

    def shorten(self) -> None:
        """
        Write it anew, if most of its lines count no more.

        Nobody may be about to write to it: all that live hold what all runners share.
        """
        with self._lock:
            self._read()
            if self._lines > _FEW_LINES + _MOST_LINES * len(self._known):
                lines = (_line(name, entry) for name, entry in self._known.items())
                Staged(self._path, "".join(lines)).commit()

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._close()

    # -- the file ------------------------------------------------------------------

    def _open(self, flags: int) -> None:
        """Open the file that is there now, in the place of one that is open."""
        file = os.open(self._path, flags | os.O_CLOEXEC, 0o644)
        if self._file >= 0:
            os.close(self._file)
        self._file, self._is_writable = file, bool(flags & os.O_RDWR)

    def _close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file, self._is_writable = -1, False
        self._read_to = self._lines = 0
        self._known = {}

    def _read(self) -> int:
        """Learn what was written since; how long the file is."""
        if self._file >= 0:
            now = os.fstat(self._file)
            if now.st_nlink:
                return self._read_up_to(now.st_size)
            # It was written anew, or removed.
            self._close()
        try:
            self._open(os.O_RDONLY)
        except FileNotFoundError:
            return 0
        return self._read_up_to(os.fstat(self._file).st_size)

    def _read_up_to(self, size: int) -> int:
        if size < self._read_to:
            # The file was cut by hand.
            self._read_to, self._known = 0, {}
        if size > self._read_to:
            self._learn(os.pread(self._file, size - self._read_to, self._read_to))
        return size

    def _learn(self, data: bytes) -> None:
        whole = data[: data.rfind(b"\n") + 1]
        self._read_to += len(whole)
        for line in whole.splitlines():
            self._lines += 1
            try:
                record: Any = json.loads(line)
            except ValueError:
                continue
            if isinstance(record, dict):
                self._believe(cast("dict[str, Any]", record))

    def _believe(self, record: dict[str, Any]) -> None:
        task_id, fence, runner = (
            record.get("task"),
            record.get("fence"),
            record.get("runner"),
        )
        is_sound = isinstance(task_id, str) and type(fence) is int and fence > 0
        if is_sound and (runner is None or isinstance(runner, str)):
            self._known[cast("str", task_id)] = LedgerEntry(cast("int", fence), runner)


def _line(task_id: str, entry: LedgerEntry) -> str:
    record: dict[str, Any] = {"task": task_id, "fence": entry.fence}
    if entry.runner is not None:
        record["runner"] = entry.runner
    return json.dumps(record) + "\n"
