"""
What this machine gives us: cores, memory and disk, as affinity and cgroups limit them.

What cannot be known is left out, and whoever asks for it is told that it is unknown.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from typing import Final

from taskorch.model import Resources

#: What is looked for.
MEASURED: Final = ("cpu", "memory_mb", "disk_mb")
_CGROUP: Final = "/sys/fs/cgroup"
#: Which groups this process is in.
_GROUPS: Final = "/proc/self/cgroup"
#: cgroup v1 says "no limit" with a number near 2 ** 63.
_NO_LIMIT: Final = 1 << 60
_MEGA: Final = 1 << 20
#: The least of a core that a quota comes to.
_LEAST: Final = 0.01


def machine_resources() -> Resources:
    """
    `cpu` in cores; `memory_mb`, and `disk_mb` that is free here now, in MiB.

    A limit holds that was set for any group of ours, or for one that it is in.
    """
    found = {"cpu": _cores(), "memory_mb": _memory_mb(), "disk_mb": _disk_mb()}
    known = {name: amount for name, amount in found.items() if amount is not None}
    return Resources(**known)


def whole_cores() -> int:
    """How many cores there are, at least one."""
    return max(1, int(_cores() or 1))


def _cores() -> float | None:
    try:
        cores = float(len(os.sched_getaffinity(0)))
    except AttributeError:
        # Not on macOS.
        count = os.cpu_count()
        cores = float("inf") if count is None else float(count)
    for folder in _folders("cpu"):
        period = _read(f"{folder}/cpu.cfs_period_us")
        for text in (
            _read(f"{folder}/cpu.max"),
            f"{_read(f'{folder}/cpu.cfs_quota_us')} {period}",
        ):
            quota = text.split()
            if len(quota) == 2 and quota[0].isdigit() and quota[1].isdigit():  # noqa: PLR2004 - "quota period"
                cores = min(cores, max(_LEAST, int(quota[0]) / int(quota[1])))
    return None if cores == float("inf") else cores


def _memory_mb() -> float | None:
    total = _NO_LIMIT
    with suppress(ValueError, OSError):
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for folder in _folders("memory"):
        for name in ("memory.max", "memory.limit_in_bytes"):
            text = _read(f"{folder}/{name}").strip()
            if text.isdigit():
                total = min(total, int(text))
    return None if total >= _NO_LIMIT else float(total // _MEGA)


def _disk_mb() -> float | None:
    try:
        disk = os.statvfs(".")
    except (AttributeError, OSError):
        return None
    return float(disk.f_bavail * disk.f_frsize // _MEGA)


def _folders(controller: str) -> Iterator[str]:
    """Folders of the process's control groups and their parents, for *controller*."""
    yield _CGROUP
    yield f"{_CGROUP}/{controller}"
    for line in _read(_GROUPS).splitlines():
        _, _, rest = line.partition(":")
        names, _, path = rest.partition(":")
        if names and controller not in names.split(","):
            continue
        root = f"{_CGROUP}/{controller}" if names else _CGROUP
        parts = [part for part in path.split("/") if part]
        for depth in range(1, len(parts) + 1):
            yield "/".join([root, *parts[:depth]])


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as file:  # noqa: PTH123 - cheaper
            return file.read()
    except OSError:
        return ""
