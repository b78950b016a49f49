"""
Whom the kernel of the machine has killed for want of memory, as far as it says so.

Linux counts such kills for each cgroup, and a program is in ours. That a program was
killed with signal 9 by nobody here, while the count grew by one that no other program
stands for, is all the proof that there is: the signal itself says nothing.
"""

from __future__ import annotations

import os
import re
from contextlib import suppress
from pathlib import Path
from typing import Final

_MOST_BYTES: Final = 4096
_COUNT: Final = re.compile(rb"^oom_kill (\d+)$", re.MULTILINE)


class MemoryKills:
    """The count of our cgroup, which *own* names; for one thread at a time."""

    def __init__(
        self,
        own: Path = Path("/proc/self/cgroup"),
        root: Path = Path("/sys/fs/cgroup"),
    ) -> None:
        self._file = _file_of(own, root)
        #: Number of kills that have been attributed to a program.
        self._claimed = 0

    def count(self) -> int:
        """How many there were so far; 0 if nobody says."""
        if self._file is None:
            return 0
        try:
            match = _COUNT.search(_content(self._file))
        except OSError:
            return 0
        return 0 if match is None else int(match[1])

    def claim(self, since: int) -> bool:
        """
        Whether there was one more than *since*, for which nobody stands yet.

        From now on the caller does.
        """
        claimed = max(since, self._claimed)
        if self.count() <= claimed:
            return False
        self._claimed = claimed + 1
        return True


def _content(path: Path) -> bytes:
    """What the system says, in one piece: it is asked before each program starts."""
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(file, _MOST_BYTES)
    finally:
        os.close(file)


def _file_of(own: Path, root: Path) -> Path | None:
    """The file with the count, of cgroup version 2 or 1."""
    try:
        lines = own.read_text(errors="replace").splitlines()
    except OSError:
        return None
    for line in lines:
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if "memory" in controllers.split(","):
            folder, name = root / "memory", "memory.oom_control"
        elif (number, controllers) == ("0", ""):
            folder, name = root, "memory.events"
        else:
            continue
        # In a container, ours may be mounted in the place of the uppermost one.
        for file in (folder / path.lstrip("/") / name, folder / name):
            with suppress(OSError):
                if _COUNT.search(file.read_bytes()):
                    return file
    return None
