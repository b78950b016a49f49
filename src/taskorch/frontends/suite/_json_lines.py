"""A log of JSON, a line each: what is large is put aside, what is old forgotten."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from taskorch._base._limits import NS
from taskorch.runtime._clock import MonotonicClock

_DAY: Final = 86_400


class JsonLines:
    """
    A log of JSON, a line each.

    When a line would make it larger than *max_bytes*, it is put aside under its time
    (`messages.20310102T030405-000.jsonl`), and begun anew. What was put aside longer
    than *keep_days* ago is removed.
    """

    def __init__(self, path: Path, max_bytes: int, keep_days: float) -> None:
        self.path: Path = path
        self._max_bytes = max_bytes
        self._keep_days = keep_days
        self._clock = MonotonicClock()
        self._lock = threading.Lock()
        self._is_whole = False

    def write(self, value: Any) -> None:
        """Add *value* as a line."""
        line = json.dumps(value, ensure_ascii=False).encode("utf-8", "replace") + b"\n"
        with self._lock:
            size = self._size()
            if size and size + len(line) > self._max_bytes:
                self._put_aside()
            if not self._is_whole:
                # What a crash cut off stays a line by itself.
                self._is_whole = True
                line = self._cut_off() + line
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
            with os.fdopen(os.open(self.path, flags, 0o600), "ab", 0) as file:
                file.write(line)

    def read(self) -> Iterator[Any]:
        """All lines of the files, the oldest first, but for one that was cut off."""
        for path in [*self.put_aside(), self.path]:
            with suppress(FileNotFoundError), path.open("rb") as file:
                for line in file:
                    with suppress(ValueError):
                        yield json.loads(line)

    def put_aside(self) -> list[Path]:
        """The files that were put aside, the oldest first."""
        name = f"{self.path.stem}.*{self.path.suffix}"
        return sorted(self.path.parent.glob(name))

    def _size(self) -> int:
        try:
            return self.path.stat().st_size
        except FileNotFoundError:
            return 0

    def _cut_off(self) -> bytes:
        with suppress(OSError), self.path.open("rb") as file:
            file.seek(-1, os.SEEK_END)
            return b"" if file.read() == b"\n" else b"\n"
        return b""

    def _put_aside(self) -> None:
        now = self._clock.now_ns() / NS
        moment = datetime.fromtimestamp(now, UTC)
        for number in range(1_000):
            name = (
                f"{self.path.stem}.{moment:%Y%m%dT%H%M%S}-{number:03}{self.path.suffix}"
            )
            target = self.path.with_name(name)
            if not target.exists():
                self.path.rename(target)
                break
        for path in self.put_aside():
            with suppress(OSError):
                if path.stat().st_mtime < now - self._keep_days * _DAY:
                    path.unlink()
