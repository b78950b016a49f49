"""
All processes that a program has started: finding them, and ending those that are left.

Kills by the kernel of the machine for lack of memory are known as far as it reports
them: Linux counts them for each cgroup, and a program is in ours. The only evidence is
that a program was killed with signal 9 by nobody here, while the count grew by one that
no other program accounts for: the signal itself says nothing.
"""

from __future__ import annotations

import math
import os
import re
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

from taskorch.core.executors._programs import _guardian
from taskorch.kit.backoff import Backoff

# Pauses between checks whether the rest has gone.
_PAUSES = Backoff(0.005, 0.05)
# Seconds after which a process that was killed, and does not die, is left alone.
_GIVE_UP = 1.0
# Looks in a row that must find no process: one may begin another in between. And the
# number after which that is believed although some process still seems to execute
# another program, and so to hide its mark: 0.2 s.
_LOOKS = 2
_MOST_LOOKS = 8
_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


class Family:
    """
    The living processes of a program, or of a run.

    Args:
        group: The process group; None for none.
        mark: The mark in the environment of those that may have left the group, as
            `NAME=value`; None if they may leave. With it, all processes of the group's
            session count as well. Linux only.
    """

    def __init__(self, group: int | None, mark: bytes | None) -> None:
        self.group = group
        self._mark = mark

    def is_gone(self) -> bool:
        """Return whether the family has surely ended; quick, but may miss that."""
        has_group = self.group is not None and _group_exists(self.group)
        return not has_group and (self._mark is None or sys.platform != "linux")

    def may_hide(self) -> bool:
        """Return whether some process shows no mark, and may have one."""
        if self._mark is None or sys.platform != "linux":
            return False
        return bool(_guardian.find(_guardian.is_executing))

    def find(self) -> list[int]:
        """Return the process ids of the family, or its negative group id if unknown."""
        if self.is_gone():
            return []  # the usual case, and quick
        if sys.platform != "linux":
            return [-self.group] if self.group is not None else []
        return _guardian.find(self.belongs)

    def belongs(self, pid: int) -> bool:
        """Return whether a process is one of them."""
        if pid < 0:
            return pid == -(self.group or 0)
        state = _guardian.state_of(pid)
        if state is None or not state.alive:
            return False
        if state.group == self.group:
            return True
        if self._mark is None:
            return False
        return state.session == self.group or _guardian.carries(pid, self._mark)

    def signal(self, pid: int, *numbers: int) -> None:
        """Send signals to one of them, if it still is one."""
        _guardian.send(pid, self.belongs, *numbers)


class Leftovers:
    """
    Processes that a program leaves running: asked to end, killed when their time is up.

    None is asked twice, since a second SIGTERM tells some programs to hurry. A process
    that one of them has started for its cleanup is not asked either, unless it is left
    alone. *asked_at* is when the group was asked, in seconds of the boot clock; None:
    it was not.
    """

    def __init__(self, family: Family, asked_at: float | None) -> None:
        self._family = family
        self._asked_at = asked_at
        self._asked: set[int] = set()
        self._pauses = _PAUSES.pauses()
        self._first = True
        self._empty = 0
        #: When they were first killed, in seconds of the monotonic clock.
        self._killed_at = math.inf

    def end(self, kill_at: float) -> float | None:
        """
        Look for processes, and send the due signals: SIGKILL from *kill_at* on.

        Returns:
            When to call it again, in seconds of the monotonic clock as *kill_at* is;
            None if no process is left, or nothing more can be done.
        """
        now = time.monotonic()
        if self._family.is_gone():
            return None
        looks = _MOST_LOOKS if self._family.may_hide() else _LOOKS
        pids = self._family.find()
        self._empty = 0 if pids else self._empty + 1
        if self._empty >= looks or now >= self._killed_at + _GIVE_UP:
            return None
        if now >= kill_at:
            self._killed_at = min(self._killed_at, now)
        for pid in pids:
            if now >= kill_at:
                self._family.signal(pid, signal.SIGKILL)
            elif pid not in self._asked and self._should_ask(pid, pids):
                self._asked.add(pid)
                # A process that was stopped must go on to see it.
                self._family.signal(pid, signal.SIGTERM, signal.SIGCONT)
        self._first = False
        # They are not our children, and nobody is told when they end.
        pause = next(self._pauses)
        return now + pause if now >= kill_at else min(now + pause, kill_at)

    def _should_ask(self, pid: int, family: list[int]) -> bool:
        state = _guardian.state_of(pid) if pid > 0 else None
        if state is None:  # where only the group is known
            return self._asked_at is None
        in_time = self._asked_at is not None and state.group == self._family.group
        if in_time and state.started < int((self._asked_at or 0) * _TICKS_PER_SECOND):
            return False
        if state.parent not in family:
            return True
        return self._first and not in_time


def _group_exists(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # it has other rights than we, but it is there
    return True


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
        """Return the number of kills so far; 0 if unknown."""
        if self._file is None:
            return 0
        try:
            match = _COUNT.search(_content(self._file))
        except OSError:
            return 0
        return 0 if match is None else int(match[1])

    def claim(self, since: int) -> bool:
        """
        Return whether there was a kill after *since* that no program accounts for.

        From now on the caller's program does.
        """
        claimed = max(since, self._claimed)
        if self.count() <= claimed:
            return False
        self._claimed = claimed + 1
        return True


def _content(path: Path) -> bytes:
    """Return a file of the system, in one read: each start of a program needs it."""
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(file, _MOST_BYTES)
    finally:
        os.close(file)


def _file_of(own: Path, root: Path) -> Path | None:
    """Return the file with the count, of cgroup version 2 or 1."""
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
        # In a container, ours may be mounted in the place of the top one.
        for file in (folder / path.lstrip("/") / name, folder / name):
            with suppress(OSError):
                if _COUNT.search(file.read_bytes()):
                    return file
    return None
