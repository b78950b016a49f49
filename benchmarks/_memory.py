"""How memory is measured: what a process grows by while it makes many of one thing."""

from __future__ import annotations

import gc
import os
import resource
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path

_STATM = Path("/proc/self/statm")
_STATUS = Path("/proc/self/status")


def resident_bytes() -> int:
    """The memory of this process that is resident now."""
    if _STATM.exists():
        pages = int(_STATM.read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")
    shown = subprocess.run(
        ["ps", "-o", "rss=", "-p", str(os.getpid())],
        check=True,
        capture_output=True,
        text=True,
    )
    return int(shown.stdout) * 1024


def peak_bytes() -> int:
    """The most memory of this process that has been resident at once."""
    if _STATUS.exists():
        # Not getrusage: there a child begins with the peak of its parent.
        shown = _STATUS.read_text(encoding="ascii").partition("VmHWM:")[2]
        return int(shown.split()[0]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def growth(build: Callable[[], object], *, traced: bool) -> int:
    """
    Bytes that the process has more after `build` than before.

    Args:
        build: Makes the things; what it returns is held until after the measuring.
        traced: Count what Python allocated (tracemalloc) in place of resident
            memory. Tracing itself takes memory, so a process does one or the other.

    Returns:
        The growth in bytes.
    """
    gc.collect()
    if traced:
        tracemalloc.start()
        before = tracemalloc.get_traced_memory()[0]
    else:
        before = resident_bytes()
    held = build()
    gc.collect()
    after = tracemalloc.get_traced_memory()[0] if traced else resident_bytes()
    if traced:
        tracemalloc.stop()
    del held
    return after - before
