"""
Limits of programs with all that they start, held by what this machine has.

A group of the system's (cgroup, version 2 or else 1) holds memory, cores and processes,
knows its members whatever they do, and counts what they use. Where there is none that
we may make, memory and the time of processors are watched: the processes of a program
are found by its mark, and what they have is added up, each shared page once (PSS). What
is written to disks is watched everywhere, since groups count it late or not at all.

What no way holds is refused before anything starts. `TASKORCH_CGROUP` names a folder
of version 2 that is ours to make groups in; with `off`, none is made.

Decision: 0229.
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

from taskorch.executors._programs import _guardian
from taskorch.executors._programs._family import Family
from taskorch.kit.fence import log_of
from taskorch.model import ProgramVariables

_log = log_of(__name__)

#: What limits are held by, where it is no group.
WATCH: Final = "watch"
#: The limits that are watched, where there is no group for them.
_WATCHED: Final = ("cpu_seconds", "memory_mb", "written_mb")
#: Those of which the system tells at the end, whatever the looks have seen.
_TOLD: Final = ("cpu_seconds", "written_mb")
#: The controller that a limit needs, in each version.
_NEEDED: Final = {"memory_mb": "memory", "cpu": "cpu", "processes": "pids"}
#: Those of version 1 that count what is used, besides.
_COUNTING: Final = ("memory", "pids", "cpuacct")

_MIB: Final = 1 << 20
_PERIOD: Final = 100_000
#: The least microseconds of a period that the system takes.
_LEAST_QUOTA: Final = 1_000
#: Of its limit, what a group must have come to if it was the limit that killed.
_NEAR: Final = 0.9
#: Seconds between looks: at the most, and at the least for what grows fast.
_LONGEST: Final = 0.2
_SHORTEST: Final = 0.005
#: Seconds between two looks for members, and how much of the time these may take.
_MEMBERS: Final = 0.05
_SHARE: Final = 10
#: Seconds in which a group must be empty once all in it are killed.
_PATIENCE: Final = 1.0
#: The flag of a process that has begun to end (PF_EXITING of Linux).
_ENDING: Final = 0x4
_TICKS: Final = os.sysconf("SC_CLK_TCK")
_PREFIX: Final = "taskorch-"
_names: Final = count(1)
#: Bytes of what `ulimit -f` counts.
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
#: How the command line of a process begins that has not become the program yet.
_LAUNCHING: Final = b"/bin/sh\0-c\0" + _LAUNCHER.encode()
#: Variables that shells set for what they start.
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
    """A process that writes: what it has written, and who waits for its end."""

    __slots__ = ("parent", "started", "written")

    def __init__(self, state: _guardian.ProcessState, written: int) -> None:
        self.parent = state.parent
        self.started = state.started
        self.written = written


class _WriteCount:
    """
    Bytes that a family of processes has written, each byte counted once.

    The number of a process has those of the children that it has waited for. So what a
    child wrote that is gone is owed by its parent, until the number of that has grown
    by it; what nobody waits for stays owed.
    """

    def __init__(self) -> None:
        self._writers: dict[int, _Writer] = {}
        #: By process id; 0 is nobody.
        self._owed: dict[int, int] = {}

    def look(self, pids: Iterable[int]) -> int:
        """All that was written so far, by those of *pids* and those seen before."""
        writers = self._writers
        living: dict[int, int] = {}
        # Parents first: what a child has when it is read, they have not yet.
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
        """What a process has written; None if it is gone, or another has its number."""
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
    """What was declared cannot be held here; the message says why, and what helps."""

    is_unheld: bool = True


@attrs.define
class Used:
    """What a family of processes was seen to use, at the most or in all."""

    memory_mb: float = 0.0
    cpu_seconds: float = 0.0
    processes: int = 0
    written_mb: float = 0.0

    def exceeds(self, limits: Mapping[str, float]) -> str:
        """The name of a limit that was passed; "" for none."""
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

    #: The files that a process writes `0` to, to be of the family.
    joins: tuple[str, ...] = ()
    #: Whether it finds all of the family at once, and ends it.
    knows_all: bool = False
    #: The limits that nothing but a look sees.
    watched: tuple[str, ...] = _WATCHED

    def __init__(self, limits: Mapping[str, float]) -> None:
        self.limits: Mapping[str, float] = limits
        #: By the name of each limit, what holds it.
        self.ways: Mapping[str, str] = {}
        self.used: Used = Used()
        #: The most MiB that all had together, as the system has kept; None: it has not.
        self._kept_mb: float | None = None
        #: The limit that was passed, and whether the system killed for want of memory.
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
        """The processes of *family* are those that are held."""
        self._family = family

    def look(self) -> str:
        """Measure; the name of the limit that was passed, or ""."""
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
        The most MiB that the family had at once; None: nobody knows.

        Looks miss what is short, so what they saw is told alone only of a family that
        passed its limit by it. Else the system must have kept the most: of the group,
        or of the *largest* process, where None or 0 is unknown. A process counts files
        as its own, which a group does not, so the limit of that bounds it.
        """
        if largest and self.joins:
            largest = min(largest, self.limits.get("memory_mb", largest))
        seen = max(self.used.memory_mb, self._kept_mb or 0.0, largest or 0.0)
        is_known = largest or self._kept_mb is not None
        return seen if is_known or self.exceeded == "memory_mb" else None

    def count(self, *, cpu_seconds: float = 0.0, written_mb: float = 0.0) -> None:
        """Take what the system says of it at its end, which no look may have seen."""
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
        """Have the limits hold from now on."""

    def kill(self) -> None:
        """Kill all of the family."""
        family = self._family
        if family is not None:
            for pid in family.find():
                family.signal(pid, signal.SIGKILL)

    def end(self) -> bool:
        """
        Take the last measure, and release the family, of which nobody is to be left.

        False if somebody is, and is killed: then this is to be asked again.
        """
        return True

    def prefix(self, env: Mapping[str, str]) -> tuple[str, ...]:
        """The words before those of a program with *env*, to join the family."""
        seconds, size = self.limits.get("cpu_seconds"), self.limits.get("written_mb")
        if not self.joins and seconds is None and size is None:
            return ()
        # A second more: who looks is to see it first.
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
        # To ask for children is quick, and finds all but those who hide.
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
        """Seconds in which nothing that is watched can pass its limit, as it grows."""
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
    """A family in a group of the system's; a folder for each controller."""

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
        # There may be no swap that is counted.
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
        Measure; the name of the limit that was passed, or "".

        A process that has left the group is no longer held: it is "group" then.
        """
        if not super().look() and self._has_left():
            self.exceeded = "group"
        return self.exceeded

    def _has_left(self) -> bool:
        """Whether a process with the mark of the family is in another group."""
        now = time.monotonic()
        if self._family is None or now < self._members_at:
            return False
        family, launcher = self._family, self._family.group
        names = {folder.name for folder in self._each}

        def is_outside(pid: int) -> bool:
            # It joins before it becomes the program: so this is asked before the group.
            if pid == launcher and _bytes_of(f"/proc/{pid}/cmdline").startswith(
                _LAUNCHING
            ):
                return False
            lines = _bytes_of(f"/proc/{pid}/cgroup").decode(errors="replace")
            # It may have made groups of its own below, whose limits are ours, too.
            inside = [
                not names.isdisjoint(line.split("/")) for line in lines.splitlines()
            ]
            if sum(inside) == len(self._each):
                return False
            # Who is about to end has left it already.
            gone = not inside or _is_ending(pid)
            return not gone and family.belongs(pid)

        outside = any(is_outside(pid) for pid in family.find() if pid > 0)
        took = time.monotonic() - now
        self._members_at = now + max(_LONGEST, 10 * _SHARE * took)
        return outside

    def _peak(self) -> int:
        """The most bytes that the group had at once, files included; 0: unknown."""
        raise NotImplementedError

    def _measure_peak(self) -> None:
        peak = self._peak() if "memory" in self._folders else 0
        if peak:
            # The cache of files is no need: what is left of it was there at the most.
            stat = _without_parts(_text_of(self._folders["memory"] / "memory.stat"))
            cached = sum(map(int, _CACHED.findall(stat)))
            shared = sum(map(int, _SHARED.findall(stat)))
            self._kept_mb = max(0, peak - max(0, cached - shared)) / _MIB

    def _killed_for_memory(self) -> bool:
        """Whether the system has killed one of them for want of memory, so far."""
        raise NotImplementedError

    def _note_kill(self, most: float) -> None:
        """It was killed for want of memory; *most* is the most it had, in MiB."""
        self.oom_killed = True
        limit = self.limits.get("memory_mb")
        # Less than that: the machine had no more, or a group above ours.
        if limit is not None and most >= _NEAR * limit - 1:
            self.exceeded = self.exceeded or "memory_mb"
            self.used.memory_mb = max(self.used.memory_mb, most)

    def kill(self) -> None:
        """Kill all that is in the group, whatever it does meanwhile."""
        if "pids" in self._folders:
            # Nobody is born any more.
            with suppress(OSError):
                _write(self._folders["pids"] / "pids.max", "0")
        for folder in self._each:
            for below in _with_all_below(folder):
                for pid in _members_of(below):
                    with suppress(OSError):
                        os.kill(pid, signal.SIGKILL)

    def end(self) -> bool:
        """Take the last measure, kill who is left, and remove the group if it can."""
        if self._remove_by == math.inf:
            self._members_at = 0.0
            if self._has_left():
                # It has ended, and a process that it has begun goes on outside.
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
        """Remove the group; whether it is gone."""
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
        # Each group has its own number, also those that its members have made.
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
            # Systems before 5.19 know no peak: then its limit is taken for it.
            most = peak / _MIB if peak else self.limits.get("memory_mb", 0.0)
            self._note_kill(most)

    def _peak(self) -> int:
        return _number_in(self._each[0] / "memory.peak")

    def _killed_for_memory(self) -> bool:
        match = _OOM.search(_text_of(self._each[0] / "memory.events"))
        return match is not None and match[1] != "0"

    def kill(self) -> None:
        """Kill all that is in the group, at once where the system can."""
        for folder in self._each:
            with suppress(OSError):
                _write(folder / "cgroup.kill", "1")
        super().kill()


def _measure_group(group: Hold, memory: Path | None, pids: Path | None) -> None:
    """What both versions say of memory that cannot be given back, and of processes."""
    if memory is not None:
        # Not what it says of all: the cache of files counts there, and is no need.
        stat = _text_of(memory / "memory.stat")
        own = sum(map(int, _UNRECLAIMED.findall(_without_parts(stat))))
        group.used.memory_mb = max(group.used.memory_mb, own / _MIB)
    if pids is not None:
        many = _number_in(pids / "pids.peak") or _number_in(pids / "pids.current")
        group.used.processes = max(group.used.processes, many)


def _without_parts(stat: str) -> str:
    """*stat* of version 1 with its totals alone; of version 2 as it is."""
    return stat[stat.find("\ntotal_") :] if "\ntotal_rss " in stat else stat


@attrs.frozen
class _Place:
    """Where groups can be made: the folder above them, by controller."""

    how: str
    folders: Mapping[str, Path]

    @property
    def holds(self) -> frozenset[str]:
        """The limits that a group there holds."""
        names = {name for name, needs in _NEEDED.items() if needs in self.folders}
        if "cpuacct" in self.folders or self.how == "cgroup-v2":
            names.add("cpu_seconds")
        return frozenset(names)


class Governor:
    """Holds families of processes to limits; looks what this machine has when asked."""

    def __init__(self) -> None:
        self._looking = threading.Lock()
        self._places: tuple[_Place, ...] | None = None

    def ways(self) -> dict[str, str]:
        """By the name of each limit that can be held here, by what it is held."""
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
            partly: Whether what cannot be held is left out.

        Returns:
            The hold, and the names of the limits that it does not hold.

        Raises:
            UnheldError: One cannot be, and is not to be left out.
        """
        ways = self.ways()
        unheld = tuple(sorted(name for name in limits if name not in ways))
        if unheld and not partly:
            raise UnheldError(_missing(unheld))
        kept = {name: much for name, much in limits.items() if name not in unheld}
        hold = self._hold(kept)
        # What holds the memory comes first.
        names = sorted(kept, key=lambda name: name != "memory_mb")
        hold.ways = {name: ways[name] for name in names}
        return hold, unheld

    def _hold(self, limits: Mapping[str, float]) -> Hold:
        places = self._found() if limits else ()
        holding = [each for each in places if each.holds.intersection(limits)]
        # What is only watched is watched in a group, too: nobody hides there.
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
    """Where groups can be made, the best first."""
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
    """By controller, the group that we are in; "" is that of version 2."""
    own: dict[str, str] = {}
    for line in _text_of(Path("/proc/self/cgroup")).splitlines():
        _, _, rest = line.partition(":")
        names, _, path = rest.partition(":")
        own |= dict.fromkeys(names.split(","), path)
    return own


def _mounts() -> Iterator[tuple[str, Path, str, list[str]]]:
    """Mounts of groups: what is mounted, where, of which kind, with which options."""
    for line in _text_of(Path("/proc/self/mountinfo")).splitlines():
        before, _, after = line.partition(" - ")
        fields, kind = before.split(" "), after.split(" ")
        if kind[0] in ("cgroup", "cgroup2"):
            yield fields[3], Path(fields[4]), kind[0], kind[-1].split(",")


def _below(root: str, mount: Path, path: str) -> Path:
    """The folder of the group *path*, where *root* is what stands at *mount*."""
    if root != "/":
        # In a container, ours may be mounted in the place of the uppermost one.
        inside = path.startswith(f"{root}/")
        path = path[len(root) :] if inside else ""
    return mount / path.lstrip("/")


def _controllers(folder: Path) -> list[str]:
    """The controllers that groups in *folder* of version 2 can have."""
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
            # only ones, we can go into one ourselves.
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
    # Two that look at once must not take each other's away.
    probe = folder / f"{_PREFIX}{os.getpid()}-{next(_names)}"
    try:
        # One of a process that is gone may have had this name.
        probe.mkdir(exist_ok=True)
    except OSError:
        return False
    with suppress(OSError):
        probe.rmdir()
    return os.access(folder / "cgroup.procs", os.W_OK)


def _sweep(place: _Place) -> None:
    """Remove the empty groups of processes that are gone, and what could not be."""
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
    """A group, and before it those that its members have made in it."""
    return [Path(top) for top, _, _ in os.walk(folder, topdown=False)] or [folder]


def _members_of(folder: Path) -> list[int]:
    """The processes of a group, but for this one."""
    pids = map(int, _text_of(folder / "cgroup.procs").split())
    # Of another namespace the number is 0, which would be our own process group.
    return [pid for pid in pids if pid > 1 and pid != os.getpid()]


def _memory_of(pid: int) -> int:
    """Bytes of memory of a process, its part of what it shares; 0 if it is gone."""
    sizes = _PSS.findall(_bytes_of(f"/proc/{pid}/smaps_rollup"))
    if sizes:
        return 1024 * sum(map(int, sizes))
    # Of one with other rights, all that it has in memory but files is told.
    pages = _bytes_of(f"/proc/{pid}/statm").split()
    own = int(pages[1]) - int(pages[2]) if pages else 0
    return max(0, own) * os.sysconf("SC_PAGE_SIZE")


def _children_of(pid: int) -> list[int]:
    """The processes that the first thread of a process has begun, as far as known."""
    return [*map(int, _bytes_of(f"/proc/{pid}/task/{pid}/children").split())]


def _is_ending(pid: int) -> bool:
    """Whether a process has begun to end, or has ended."""
    stat = _bytes_of(f"/proc/{pid}/stat")
    fields = stat[stat.rfind(b")") + 1 :].split()
    return not fields or bool(int(fields[6]) & _ENDING)


def _times_of(pid: int) -> tuple[float, int]:
    """Seconds of processors of a process and children it waited for; its threads."""
    stat = _bytes_of(f"/proc/{pid}/stat")
    fields = stat[stat.rfind(b")") + 1 :].split()
    if not fields or fields[0] in b"ZXx":
        return 0.0, 0
    return sum(map(int, fields[11:15])) / _TICKS, int(fields[17])


def _bytes_of(path: str) -> bytes:
    try:
        with open(path, "rb") as file:  # noqa: PTH123 - it is asked often
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
