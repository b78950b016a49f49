"""
Limits of programs with all that they start, by the means of this machine.

A group of the system (cgroup, version 2 or else 1) limits memory, cores and processes,
knows its members whatever they do, and counts their use. Where we may not make groups,
memory and processor time are watched: the processes of a program are found by its mark,
and their use is added up, each shared page once (PSS). Writes to disks are watched
everywhere, since groups count them late or not at all.

A limit that cannot be held is refused before the program starts. `TASKORCH_CGROUP`
names a folder of version 2 in which we may make groups; with `off`, none is made.

Decision: scopes-and-sandboxes.
"""

from __future__ import annotations

import math
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Final

import attrs

from taskorch.core.executors._programs import _guardian
from taskorch.core.executors._programs._family import Family
from taskorch.kit.fence import log_of
from taskorch.model import ProgramVariables

_log = log_of(__name__)

#: The name of the way to hold a limit without a group.
WATCH: Final = "watch"
#: The limits that are watched where no group holds them.
_WATCHED: Final = ("cpu_seconds", "memory_mb", "written_mb")
#: Limits whose use the system reports at the end, however little was measured.
_TOLD: Final = ("cpu_seconds", "written_mb")
#: The controller that a limit needs, in each version.
_NEEDED: Final = {"memory_mb": "memory", "cpu": "cpu", "processes": "pids"}
#: Further controllers of version 1, which count the use.
_COUNTING: Final = ("memory", "pids", "cpuacct")

_MIB: Final = 1 << 20
_PERIOD: Final = 100_000
#: The fewest microseconds of a period that the system accepts.
_LEAST_QUOTA: Final = 1_000
#: The share of its limit that a group must have used if that limit has killed.
_NEAR: Final = 0.9
#: Seconds between looks: the most, and the fewest for use that grows fast.
_LONGEST: Final = 0.2
_SHORTEST: Final = 0.005
#: Seconds between two looks for members, and the part of the time they may take.
_MEMBERS: Final = 0.05
_SHARE: Final = 10
#: Seconds in which a group must be empty once all in it are killed.
_PATIENCE: Final = 1.0
#: The flag of a process that has begun to end (PF_EXITING of Linux).
_ENDING: Final = 0x4
_TICKS: Final = os.sysconf("SC_CLK_TCK")
_PREFIX: Final = "taskorch-"
_names: Final = count(1)
#: Bytes in a unit of `ulimit -f`.
_BLOCK: Final = 512
#: Joins groups, limits each process, and becomes the program.
_LAUNCHER: Final = """\
t=$1 f=$2 u=$3 n=$4
shift 4
while [ "$n" -gt 0 ]; do
  echo 0 >"$1" || exit 126
  shift
  n=$((n - 1))
done
[ -z "$t" ] || ulimit -t "$t" || exit 126
[ -z "$f" ] || ulimit -f "$f" || exit 126
unset $u t f u n
exec "$@"
"""
#: The beginning of the command line of a process that has not become the program yet.
_LAUNCHING: Final = b"/bin/sh\0-c\0" + _LAUNCHER.encode()
#: Variables that shells set for the programs that they start.
_SET_BY_SHELLS: Final = ("PWD", "OLDPWD", "SHLVL", "_")

_OOM: Final = re.compile(r"^oom_kill (\d+)$", re.MULTILINE)
_UNRECLAIMED: Final = re.compile(
    r"^(?:total_rss|total_shmem|anon|shmem) (\d+)$", re.MULTILINE
)
_CPU_USEC: Final = re.compile(r"^usage_usec (\d+)$", re.MULTILINE)
_CACHED: Final = re.compile(r"^(?:total_cache|file) (\d+)$", re.MULTILINE)
_SHARED: Final = re.compile(r"^(?:total_shmem|shmem) (\d+)$", re.MULTILINE)
_PSS: Final = re.compile(rb"^(?:Pss|SwapPss): +(\d+) kB$", re.MULTILINE)
_WRITTEN: Final = re.compile(rb"^write_bytes: (\d+)$", re.MULTILINE)


class _Writer:
    """A process that writes: its bytes so far, and the parent that waits for it."""

    __slots__ = ("parent", "started", "written")

    def __init__(self, state: _guardian.ProcessState, written: int) -> None:
        self.parent = state.parent
        self.started = state.started
        self.written = written


class _WriteCount:
    """
    Bytes that a family of processes has written, each byte counted once.

    The count of a process includes the children that it has waited for. So the bytes of
    a child that is gone are a debt of its parent, until the count of that has grown by
    them; if nobody waits for it they stay.
    """

    def __init__(self) -> None:
        self._writers: dict[int, _Writer] = {}
        #: By process id; 0 stands for no process.
        self._owed: dict[int, int] = {}

    def look(self, pids: Iterable[int]) -> int:
        """Return all bytes so far, of *pids* and of processes seen before."""
        writers = self._writers
        living: dict[int, int] = {}
        # Parents come first: the bytes of a child that is read later are not in theirs
        # yet.
        for pid in sorted({*writers, *pids}, key=self._age):
            written = self._read(pid)
            if written is not None:
                living[pid] = written
        gone = writers.keys() - living.keys()
        for pid in gone:
            heir = pid
            while heir in gone:
                heir = writers[heir].parent
            heir = heir if heir in living else 0
            owed = writers[pid].written + self._owed.pop(pid, 0)
            self._owed[heir] = self._owed.get(heir, 0) + owed
        for pid in gone:
            del writers[pid]
        for pid, written in living.items():
            writer = writers[pid]
            owed = self._owed.get(pid, 0) - max(0, written - writer.written)
            self._owed[pid] = max(0, owed)
            writer.written = max(written, writer.written)
            if writer.parent not in living:
                writer.parent = 0
        return sum(each.written for each in writers.values()) + sum(self._owed.values())

    def _age(self, pid: int) -> tuple[float, int]:
        writer = self._writers.get(pid)
        return (math.inf if writer is None else writer.started, pid)

    def _read(self, pid: int) -> int | None:
        """Return a process's bytes; None if it is gone, or its number was reused."""
        match = _WRITTEN.search(_bytes_of(f"/proc/{pid}/io"))
        written = int(match[1]) if match is not None else 0
        writer = self._writers.get(pid)
        if match is not None and writer is not None and written >= writer.written:
            return written
        state = _guardian.state_of(pid)
        if state is None or (writer is not None and writer.started != state.started):
            return None
        if writer is None:
            self._writers[pid] = _Writer(state, 0)
        return written


class UnheldError(OSError):
    """A limit cannot be held here; the message says why, and what helps."""

    is_unheld: bool = True


@attrs.define
class Used:
    """Use of a family of processes, as far as seen: the most, or the sum."""

    memory_mb: float = 0.0
    cpu_seconds: float = 0.0
    processes: int = 0
    written_mb: float = 0.0

    def exceeds(self, limits: Mapping[str, float]) -> str:
        """Return the name of a limit that was passed; "" for none."""
        for name, amount in limits.items():
            if name != "cpu" and getattr(self, name) > amount:
                return name
        return ""


class Hold:
    """
    A family of processes that is held to *limits*.

    Args:
        limits: By name; those of `taskorch.model.LIMITS`.
    """

    #: The files that a process writes `0` to, to join the family.
    joins: tuple[str, ...] = ()
    #: Whether it finds and ends the whole family at once.
    knows_all: bool = False
    #: Limits that are only checked by measuring now and then.
    watched: tuple[str, ...] = _WATCHED

    def __init__(self, limits: Mapping[str, float]) -> None:
        self.limits: Mapping[str, float] = limits
        #: The way to hold each limit, by name.
        self.ways: Mapping[str, str] = {}
        self.used: Used = Used()
        #: The most MiB of all together, as the system counts; None if it does not.
        self._kept_mb: float | None = None
        #: The limit that was passed, and whether the system killed for lack of memory.
        self.exceeded: str = ""
        self.oom_killed: bool = False
        #: When to look next, in seconds of the monotonic clock.
        self.next_look: float = time.monotonic() + _SHORTEST
        self._family: Family | None = None
        self._members: list[int] = []
        self._members_at = 0.0
        self._began = self._looked_at = time.monotonic()
        self._last = Used()
        self._written = _WriteCount()

    def begin(self, family: Family) -> None:
        """Hold the processes of *family*."""
        self._family = family

    def look(self) -> str:
        """Measure; return the name of a limit that was passed, or ""."""
        pids = self._found()
        begun = time.monotonic()
        self._measure(pids)
        self._measure_written(pids)
        if not self.exceeded:
            self.exceeded = self.used.exceeds(self.limits)
        now = time.monotonic()
        pause = max(self._pause(now), _SHARE * (now - begun))
        self.next_look = now + pause
        return self.exceeded

    def most_memory(self, largest: float | None) -> float | None:
        """
        Return the most MiB that the family had at once; None if unknown.

        Looks miss short peaks, so their value alone is used only for a family that
        passed its limit by it. Otherwise the system must have recorded the most: of the
        group, or of the *largest* process, where None or 0 is unknown. A process counts
        files as its own, which a group does not, so the limit of that bounds it.
        """
        if largest and self.joins:
            largest = min(largest, self.limits.get("memory_mb", largest))
        seen = max(self.used.memory_mb, self._kept_mb or 0.0, largest or 0.0)
        is_known = largest or self._kept_mb is not None
        return seen if is_known or self.exceeded == "memory_mb" else None

    def count(self, *, cpu_seconds: float = 0.0, written_mb: float = 0.0) -> None:
        """Take the system's counts at the end, which no look may have seen."""
        used = self.used
        used.cpu_seconds = max(used.cpu_seconds, cpu_seconds)
        used.written_mb = max(used.written_mb, written_mb)
        limits = {name: self.limits[name] for name in _TOLD if name in self.limits}
        if not self.exceeded:
            self.exceeded = used.exceeds(limits)

    def raise_to(self, amounts: Mapping[str, float]) -> None:
        """Raise limits to *amounts*, where these are higher; none is lowered."""
        higher = {
            name: much
            for name, much in amounts.items()
            if much > self.limits.get(name, math.inf)
        }
        if higher:
            self.limits = {**self.limits, **higher}
            self._apply()

    def _apply(self) -> None:
        """Apply the limits from now on."""

    def kill(self) -> None:
        """Kill all of the family."""
        family = self._family
        if family is not None:
            for pid in family.find():
                family.signal(pid, signal.SIGKILL)

    def end(self) -> bool:
        """
        Measure for the last time, and release the family, which must be empty.

        Return False if a process is left, and is killed: then call it again.
        """
        return True

    def prefix(self, env: Mapping[str, str]) -> tuple[str, ...]:
        """Return the words before a program's own, with *env*, to join the family."""
        seconds, size = self.limits.get("cpu_seconds"), self.limits.get("written_mb")
        if not self.joins and seconds is None and size is None:
            return ()
        # One more second, so that a look sees it first.
        most = "" if seconds is None else str(math.ceil(seconds) + 1)
        blocks = "" if size is None else str(math.ceil(size * _MIB / _BLOCK))
        foreign = " ".join(name for name in _SET_BY_SHELLS if name not in env)
        words = (most, blocks, foreign, str(len(self.joins)))
        return ("/bin/sh", "-c", _LAUNCHER, "sh", *words, *self.joins)

    def _found(self) -> list[int]:
        now = time.monotonic()
        if self._family is not None and now >= self._members_at:
            self._members = [pid for pid in self._family.find() if pid > 0]
            took = time.monotonic() - now
            self._members_at = now + max(_MEMBERS, _SHARE * took)
        # To ask for children is quick, and finds all that do not hide.
        pids = dict.fromkeys(self._members)
        waiting = list(pids)
        while waiting:
            children = _children_of(waiting.pop())
            waiting += [pid for pid in children if pid not in pids]
            pids |= dict.fromkeys(children)
        return list(pids)

    def _measure(self, pids: list[int]) -> None:
        used, memory, seconds, threads = self.used, 0, 0.0, 0
        for pid in pids:
            memory += _memory_of(pid)
            times, many = _times_of(pid)
            seconds += times
            threads += many
        used.memory_mb = max(used.memory_mb, memory / _MIB)
        used.cpu_seconds = max(used.cpu_seconds, seconds)
        used.processes = max(used.processes, threads)

    def _measure_written(self, pids: Iterable[int]) -> None:
        self.used.written_mb = max(
            self.used.written_mb, self._written.look(pids) / _MIB
        )

    def _pause(self, now: float) -> float:
        """Return the seconds in which no watched limit can be passed, by its growth."""
        passed = max(now - self._looked_at, _SHORTEST)
        # Many programs are short.
        pause = min(_LONGEST, (now - self._began) / 2)
        for name in self.watched:
            if name in self.limits:
                amount, last = getattr(self.used, name), getattr(self._last, name)
                rest, grown = self.limits[name] - amount, (amount - last) / passed
                if grown > 0:
                    pause = min(pause, rest / grown / 2)
        self._looked_at = now
        self._last = attrs.evolve(self.used)
        return max(pause, _SHORTEST)


class _Group(Hold):
    """A family in a group of the system; a folder for each controller."""

    knows_all: bool = True

    def __init__(
        self, limits: Mapping[str, float], folders: Mapping[str, Path]
    ) -> None:
        super().__init__(limits)
        self._folders = folders
        self._each = sorted(set(folders.values()))
        self._remove_by = math.inf
        # Most programs are over before they could leave.
        self._members_at = time.monotonic() + _LONGEST
        if "memory" in folders:
            self.watched = tuple(set(_WATCHED) - {"memory_mb"})
        self.joins = tuple(str(each / "cgroup.procs") for each in self._each)

    def open(self) -> None:
        """
        Make the group, and set its limits.

        Raises:
            OSError: The system refuses.
        """
        for folder in self._each:
            folder.mkdir()
        try:
            for controller, name, value in self._settings():
                _write(self._folders[controller] / name, value)
        except OSError:
            self.remove()
            raise
        self._limit_swap()

    def _limit_swap(self) -> None:
        # Swap may not be counted.
        for name, value in self._swap():
            with suppress(OSError):
                _write(self._folders["memory"] / name, value)

    def _apply(self) -> None:
        # In version 1, memory with swap is never less than memory.
        self._limit_swap()
        for controller, name, value in self._settings():
            with suppress(OSError):
                _write(self._folders[controller] / name, value)

    def _settings(self) -> Iterator[tuple[str, str, str]]:
        raise NotImplementedError

    def _swap(self) -> Iterator[tuple[str, str]]:
        raise NotImplementedError

    def _quota(self) -> int:
        return max(_LEAST_QUOTA, round(self.limits["cpu"] * _PERIOD))

    def _bytes(self) -> str:
        return str(int(self.limits["memory_mb"] * _MIB))

    def _found(self) -> list[int]:
        if not self._each:
            return super()._found()
        return _members_of(self._each[0])

    def look(self) -> str:
        """
        Measure; return the name of the limit that was passed, or "".

        If a process has left the group, so that it is not held any more, that is
        "group".
        """
        if not super().look() and self._has_left():
            self.exceeded = "group"
        return self.exceeded

    def _has_left(self) -> bool:
        """Return whether a process with the family's mark is in another group."""
        now = time.monotonic()
        if self._family is None or now < self._members_at:
            return False
        family, launcher = self._family, self._family.group
        names = {folder.name for folder in self._each}

        def is_outside(pid: int) -> bool:
            # It joins before it becomes the program, so this check comes before the
            # group's.
            if pid == launcher and _bytes_of(f"/proc/{pid}/cmdline").startswith(
                _LAUNCHING
            ):
                return False
            lines = _bytes_of(f"/proc/{pid}/cgroup").decode(errors="replace")
            # It may have made groups of its own below, to which our limits apply, too.
            inside = [
                not names.isdisjoint(line.split("/")) for line in lines.splitlines()
            ]
            if sum(inside) == len(self._each):
                return False
            # A process that is about to end has left it already.
            gone = not inside or _is_ending(pid)
            return not gone and family.belongs(pid)

        outside = any(is_outside(pid) for pid in family.find() if pid > 0)
        took = time.monotonic() - now
        self._members_at = now + max(_LONGEST, 10 * _SHARE * took)
        return outside

    def _peak(self) -> int:
        """Return the most bytes of the group, files included; 0 if unknown."""
        raise NotImplementedError

    def _measure_peak(self) -> None:
        peak = self._peak() if "memory" in self._folders else 0
        if peak:
            # The cache of files is no need: its present size was part of the peak.
            stat = _without_parts(_text_of(self._folders["memory"] / "memory.stat"))
            cached = sum(map(int, _CACHED.findall(stat)))
            shared = sum(map(int, _SHARED.findall(stat)))
            self._kept_mb = max(0, peak - max(0, cached - shared)) / _MIB

    def _killed_for_memory(self) -> bool:
        """Return whether the system killed a member for lack of memory."""
        raise NotImplementedError

    def _note_kill(self, most: float) -> None:
        """Note a kill for lack of memory; *most* is the most it had, in MiB."""
        self.oom_killed = True
        limit = self.limits.get("memory_mb")
        # With less than that, the machine had no more, or a group above ours.
        if limit is not None and most >= _NEAR * limit - 1:
            self.exceeded = self.exceeded or "memory_mb"
            self.used.memory_mb = max(self.used.memory_mb, most)

    def kill(self) -> None:
        """Kill all processes in the group, whatever they do meanwhile."""
        if "pids" in self._folders:
            # No process can begin any more.
            with suppress(OSError):
                _write(self._folders["pids"] / "pids.max", "0")
        for folder in self._each:
            for below in _with_all_below(folder):
                for pid in _members_of(below):
                    with suppress(OSError):
                        os.kill(pid, signal.SIGKILL)

    def end(self) -> bool:
        """Measure a last time, kill the rest, and remove the group if possible."""
        if self._remove_by == math.inf:
            self._members_at = 0.0
            if self._has_left():
                # The program has ended, and a process of it goes on outside.
                self.exceeded = self.exceeded or "group"
                Hold.kill(self)
            self._measure([])
            self._measure_peak()
            self._remove_by = time.monotonic() + _PATIENCE
        if self.remove():
            return True
        self.kill()
        if time.monotonic() < self._remove_by:
            return False
        text = "taskorch: a group cannot be removed, and is left: %s"
        _log.warning(text, ", ".join(map(str, self._each)))
        return True

    def remove(self) -> bool:
        """Remove the group; return whether it is gone."""
        for folder in self._each:
            for below in _with_all_below(folder):
                try:
                    below.rmdir()
                except FileNotFoundError:
                    pass
                except OSError:
                    return False
        return True


class _Group1(_Group):
    """A group of version 1."""

    def _settings(self) -> Iterator[tuple[str, str, str]]:
        if "memory_mb" in self.limits:
            yield "memory", "memory.limit_in_bytes", self._bytes()
        if "processes" in self.limits:
            yield "pids", "pids.max", str(int(self.limits["processes"]))
        if "cpu" in self.limits:
            yield "cpu", "cpu.cfs_period_us", str(_PERIOD)
            yield "cpu", "cpu.cfs_quota_us", str(self._quota())

    def _swap(self) -> Iterator[tuple[str, str]]:
        if "memory_mb" in self.limits:
            yield "memory.memsw.limit_in_bytes", self._bytes()

    def _measure(self, pids: list[int]) -> None:
        folders, used = self._folders, self.used
        if "memory" not in folders or "cpuacct" not in folders:
            super()._measure(pids)
        if "cpuacct" in folders:
            spent = _number_in(folders["cpuacct"] / "cpuacct.usage") / 1e9
            used.cpu_seconds = max(used.cpu_seconds, spent)
        _measure_group(self, folders.get("memory"), folders.get("pids"))
        if "memory" in folders and self._killed_for_memory():
            self._note_kill(self._peak() / _MIB)

    def _peak(self) -> int:
        return _number_in(self._folders["memory"] / "memory.max_usage_in_bytes")

    def _killed_for_memory(self) -> bool:
        # Each group has a count of its own, also those that its members have made.
        groups = _with_all_below(self._folders["memory"])
        texts = [_text_of(each / "memory.oom_control") for each in groups]
        return any(int(many) for text in texts for many in _OOM.findall(text))


class _Group2(_Group):
    """A group of version 2."""

    def _settings(self) -> Iterator[tuple[str, str, str]]:
        if "memory_mb" in self.limits:
            yield "memory", "memory.max", self._bytes()
            yield "memory", "memory.oom.group", "1"
        if "processes" in self.limits:
            yield "pids", "pids.max", str(int(self.limits["processes"]))
        if "cpu" in self.limits:
            yield "cpu", "cpu.max", f"{self._quota()} {_PERIOD}"

    def _swap(self) -> Iterator[tuple[str, str]]:
        if "memory_mb" in self.limits:
            yield "memory.swap.max", "0"

    def _measure(self, pids: list[int]) -> None:
        folder, used = self._each[0], self.used
        if "memory" not in self._folders:
            super()._measure(pids)
        match = _CPU_USEC.search(_text_of(folder / "cpu.stat"))
        if match is not None:
            used.cpu_seconds = max(used.cpu_seconds, int(match[1]) / 1e6)
        _measure_group(self, folder, folder)
        if "memory" in self._folders and self._killed_for_memory():
            peak = self._peak()
            # Systems before 5.19 report no peak, so the limit stands for it.
            most = peak / _MIB if peak else self.limits.get("memory_mb", 0.0)
            self._note_kill(most)

    def _peak(self) -> int:
        return _number_in(self._each[0] / "memory.peak")

    def _killed_for_memory(self) -> bool:
        match = _OOM.search(_text_of(self._each[0] / "memory.events"))
        return match is not None and match[1] != "0"

    def kill(self) -> None:
        """Kill all processes in the group, at once where the system can."""
        for folder in self._each:
            with suppress(OSError):
                _write(folder / "cgroup.kill", "1")
        super().kill()


def _measure_group(group: Hold, memory: Path | None, pids: Path | None) -> None:
    """Measure unreclaimable memory, and processes, in both versions."""
    if memory is not None:
        # The total is not used: it contains the cache of files, which is no need.
        stat = _text_of(memory / "memory.stat")
        own = sum(map(int, _UNRECLAIMED.findall(_without_parts(stat))))
        group.used.memory_mb = max(group.used.memory_mb, own / _MIB)
    if pids is not None:
        many = _number_in(pids / "pids.peak") or _number_in(pids / "pids.current")
        group.used.processes = max(group.used.processes, many)


def _without_parts(stat: str) -> str:
    """Return *stat* of version 1 with its totals alone; of version 2 unchanged."""
    return stat[stat.find("\ntotal_") :] if "\ntotal_rss " in stat else stat


@attrs.frozen
class _Place:
    """A place where groups can be made: the folder above them, by controller."""

    how: str
    folders: Mapping[str, Path]

    @property
    def holds(self) -> frozenset[str]:
        """The limits that a group there can hold."""
        names = {name for name, needs in _NEEDED.items() if needs in self.folders}
        if "cpuacct" in self.folders or self.how == "cgroup-v2":
            names.add("cpu_seconds")
        return frozenset(names)


class Governor:
    """Holds families of processes to limits; finds the machine's means when asked."""

    def __init__(self) -> None:
        self._looking = threading.Lock()
        self._places: tuple[_Place, ...] | None = None

    def ways(self) -> dict[str, str]:
        """Return the ways to hold limits here, by their names."""
        ways: dict[str, str] = {}
        if sys.platform == "linux":
            ways |= dict.fromkeys(_WATCHED, WATCH)
        for place in reversed(self._found()):
            ways |= dict.fromkeys(place.holds, place.how)
        return dict(sorted(ways.items()))

    def hold(
        self, limits: Mapping[str, float], *, partly: bool
    ) -> tuple[Hold, tuple[str, ...]]:
        """
        Hold a family that is to be started to *limits*.

        Args:
            limits: By name.
            partly: Whether limits that cannot be held are left out.

        Returns:
            The hold, and the names of the limits that it does not hold.

        Raises:
            UnheldError: A limit cannot be held, and may not be left out.
        """
        ways = self.ways()
        unheld = tuple(sorted(name for name in limits if name not in ways))
        if unheld and not partly:
            raise UnheldError(_missing(unheld))
        kept = {name: much for name, much in limits.items() if name not in unheld}
        hold = self._hold(kept)
        # The way to hold the memory comes first.
        names = sorted(kept, key=lambda name: name != "memory_mb")
        hold.ways = {name: ways[name] for name in names}
        return hold, unheld

    def _hold(self, limits: Mapping[str, float]) -> Hold:
        places = self._found() if limits else ()
        holding = [each for each in places if each.holds.intersection(limits)]
        # Limits that are only watched are watched in a group, too, where no process can
        # hide.
        for place in (holding or places)[:1]:
            group = self._group(place, limits)
            try:
                group.open()
            except OSError as error:
                if not holding:
                    break
                msg = f"the system refuses a group with these limits: {error}"
                raise UnheldError(msg) from error
            return group
        return Hold(limits)

    def _group(self, place: _Place, limits: Mapping[str, float]) -> _Group:
        name = f"{_PREFIX}{os.getpid()}-{next(_names)}"
        wanted = {_NEEDED[each] for each in limits if each in _NEEDED}
        wanted.update(_COUNTING)
        folders = {
            each: folder / name
            for each, folder in place.folders.items()
            if each in wanted
        }
        kind = _Group2 if place.how == "cgroup-v2" else _Group1
        return kind(limits, folders)

    def _found(self) -> tuple[_Place, ...]:
        with self._looking:
            if self._places is None:
                self._places = tuple(_places())
                for place in self._places:
                    _sweep(place)
            return self._places


def _missing(unheld: tuple[str, ...]) -> str:
    if sys.platform != "linux":
        return f"{', '.join(unheld)} cannot be held on {sys.platform}: Linux can"
    needs = ", ".join(sorted({_NEEDED[name] for name in unheld}))
    return (
        f"{', '.join(unheld)} cannot be held: there is no cgroup that this process may "
        f"use with the controllers {needs}. Run it in one that is its own "
        "(systemd-run --user --scope -p Delegate=yes …), or set "
        f"{ProgramVariables.CGROUP} to the folder of one"
    )


# -- what this machine has


def _places() -> Iterator[_Place]:
    """Yield places where groups can be made, the best first."""
    where = os.environ.get(ProgramVariables.CGROUP, "")
    if sys.platform != "linux" or where == "off":
        return
    own = _own_groups()
    version_2: Path | None = None
    version_1: dict[str, Path] = {}
    for root, mount, kind, options in _mounts():
        if kind == "cgroup2":
            version_2 = _below(root, mount, own.get("", "/"))
        else:
            for name in options:
                if name in own:
                    version_1[name] = _below(root, mount, own[name])
    if where:
        version_2 = Path(where)
    if version_2 is not None:
        controllers = _controllers(version_2)
        if controllers and _can_make_in(version_2):
            yield _Place("cgroup-v2", dict.fromkeys(controllers, version_2))
    usable = {
        name: folder
        for name, folder in version_1.items()
        if name in (*_NEEDED.values(), *_COUNTING) and _can_make_in(folder)
    }
    if usable:
        yield _Place("cgroup-v1", usable)


def _own_groups() -> dict[str, str]:
    """Return our own group, by controller; "" is that of version 2."""
    own: dict[str, str] = {}
    for line in _text_of(Path("/proc/self/cgroup")).splitlines():
        _, _, rest = line.partition(":")
        names, _, path = rest.partition(":")
        own |= dict.fromkeys(names.split(","), path)
    return own


def _mounts() -> Iterator[tuple[str, Path, str, list[str]]]:
    """Yield mounts of groups: the group, the folder, the kind, and options."""
    for line in _text_of(Path("/proc/self/mountinfo")).splitlines():
        before, _, after = line.partition(" - ")
        fields, kind = before.split(" "), after.split(" ")
        if kind[0] in ("cgroup", "cgroup2"):
            yield fields[3], Path(fields[4]), kind[0], kind[-1].split(",")


def _below(root: str, mount: Path, path: str) -> Path:
    """Return the folder of the group *path*, where *root* is mounted at *mount*."""
    if root != "/":
        # In a container, ours may be mounted in the place of the top one.
        inside = path.startswith(f"{root}/")
        path = path[len(root) :] if inside else ""
    return mount / path.lstrip("/")


def _controllers(folder: Path) -> list[str]:
    """Return the controllers that groups in *folder* of version 2 can have."""
    wanted = {"memory", "pids", "cpu"}.intersection(
        _text_of(folder / "cgroup.controllers").split()
    )
    control = folder / "cgroup.subtree_control"
    missing = wanted.difference(_text_of(control).split())
    if missing:
        words = " ".join(f"+{name}" for name in sorted(missing))
        try:
            _write(control, words)
        except OSError:
            # A group with members cannot have groups with limits in it: if we are the
            # only member, we can move into one ourselves.
            with suppress(OSError, ValueError):
                _step_down(folder)
                _write(control, words)
    return sorted(wanted.intersection(_text_of(control).split()))


def _step_down(folder: Path) -> None:
    if "0" in _text_of(folder / "cgroup.procs").split():
        return
    pids = [*_members_of(folder), os.getpid()]
    for pid in pids:
        state = _guardian.state_of(pid)
        if pid != os.getpid() and (state is None or state.parent != os.getpid()):
            return
    own = folder / f"{_PREFIX}{os.getpid()}-own"
    own.mkdir(exist_ok=True)
    for pid in pids:
        _write(own / "cgroup.procs", str(pid))


def _can_make_in(folder: Path) -> bool:
    # Two that look at once must not remove each other's.
    probe = folder / f"{_PREFIX}{os.getpid()}-{next(_names)}"
    try:
        # A process that is gone may have used this name.
        probe.mkdir(exist_ok=True)
    except OSError:
        return False
    with suppress(OSError):
        probe.rmdir()
    return os.access(folder / "cgroup.procs", os.W_OK)


def _sweep(place: _Place) -> None:
    """Remove the empty groups of processes that are gone."""
    for folder in {*place.folders.values()}:
        with suppress(OSError):
            for name in os.listdir(folder):  # noqa: PTH208 - names are enough
                owner = name.removeprefix(_PREFIX).partition("-")[0]
                is_ours = name.startswith(_PREFIX) and owner.isdecimal()
                if is_ours and _guardian.state_of(int(owner)) is None:
                    for below in _with_all_below(folder / name):
                        with suppress(OSError):
                            below.rmdir()


# -- what processes have


def _with_all_below(folder: Path) -> list[Path]:
    """Return a group, after those that its members have made in it."""
    return [Path(top) for top, _, _ in os.walk(folder, topdown=False)] or [folder]


def _members_of(folder: Path) -> list[int]:
    """Return the processes of a group, but for this one."""
    pids = map(int, _text_of(folder / "cgroup.procs").split())
    # A process of another namespace has the number 0, which would be our own process
    # group.
    return [pid for pid in pids if pid > 1 and pid != os.getpid()]


def _memory_of(pid: int) -> int:
    """Return the bytes of a process, with its part of shared ones; 0 if gone."""
    sizes = _PSS.findall(_bytes_of(f"/proc/{pid}/smaps_rollup"))
    if sizes:
        return 1024 * sum(map(int, sizes))
    # For a process with other rights, all its memory but files counts.
    pages = _bytes_of(f"/proc/{pid}/statm").split()
    own = int(pages[1]) - int(pages[2]) if pages else 0
    return max(0, own) * os.sysconf("SC_PAGE_SIZE")


def _children_of(pid: int) -> list[int]:
    """Return the children of the first thread of a process, as far as known."""
    return [*map(int, _bytes_of(f"/proc/{pid}/task/{pid}/children").split())]


def _is_ending(pid: int) -> bool:
    """Return whether a process has begun to end, or has ended."""
    stat = _bytes_of(f"/proc/{pid}/stat")
    fields = stat[stat.rfind(b")") + 1 :].split()
    return not fields or bool(int(fields[6]) & _ENDING)


def _times_of(pid: int) -> tuple[float, int]:
    """Return processor seconds of a process and reaped children, and its threads."""
    stat = _bytes_of(f"/proc/{pid}/stat")
    fields = stat[stat.rfind(b")") + 1 :].split()
    if not fields or fields[0] in b"ZXx":
        return 0.0, 0
    return sum(map(int, fields[11:15])) / _TICKS, int(fields[17])


def _bytes_of(path: str) -> bytes:
    try:
        with open(path, "rb") as file:  # noqa: PTH123 - called often
            return file.read()
    except OSError:
        return b""


def _text_of(path: Path) -> str:
    return _bytes_of(str(path)).decode(errors="replace")


def _number_in(path: Path) -> int:
    text = _text_of(path).strip()
    return int(text) if text.isdecimal() else 0


def _write(path: Path, value: str) -> None:
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC)
    try:
        os.write(file, value.encode())
    finally:
        os.close(file)
