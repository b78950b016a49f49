"""What this machine gives us: cores and memory, as affinity and cgroups limit them."""

from __future__ import annotations

import os
from typing import Final

from taskorch.model import Resources

__all__ = ("machine_resources", "whole_cores")

_CGROUP: Final = "/sys/fs/cgroup"
#: cgroup v1 says "no limit" with a number near 2 ** 63.
_NO_LIMIT: Final = 1 << 60


def machine_resources() -> Resources:
    """`cpu` in cores and `memory_mb` in MiB."""
    return Resources(cpu=_cores(), memory_mb=_memory_mb())


def whole_cores() -> int:
    """How many cores there are, at least one."""
    return max(1, int(_cores()))


def _cores() -> float:
    try:
        cores = float(len(os.sched_getaffinity(0)))
    except AttributeError:
        # Not on macOS.
        cores = float(os.cpu_count() or 1)
    quota = _read("cpu.max").split()
    if len(quota) == 2 and quota[0].isdigit() and quota[1].isdigit():  # noqa: PLR2004 - "quota period"
        cores = min(cores, max(0.01, int(quota[0]) / int(quota[1])))
    return cores


def _memory_mb() -> float:
    try:
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError):
        total = 1 << 30
    for name in ("memory.max", "memory/memory.limit_in_bytes"):
        text = _read(name).strip()
        if text.isdigit() and int(text) < _NO_LIMIT:
            total = min(total, int(text))
    return total // (1 << 20)


def _read(name: str) -> str:
    try:
        with open(f"{_CGROUP}/{name}", encoding="utf-8") as file:  # noqa: PTH123 - cheaper
            return file.read()
    except OSError:
        return ""
