"""Whether a process is there."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path


def is_alive(pid: int) -> bool:
    """
    Whether there is such a process that has not ended.

    A zombie has ended: its parent only knows nothing of it yet. A process may go away
    at any moment of the question, as a missing file or as one that cannot be read.
    """
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    with suppress(OSError):
        stat = Path(f"/proc/{pid}/stat").read_text()
        return stat.rpartition(")")[2].split()[0] not in "ZX"
    # It is gone by now, or this is not Linux.
    return not Path("/proc/self").exists()
