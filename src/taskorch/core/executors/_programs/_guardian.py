"""
The guardian: a small process that ends our programs if we die and cannot.

It runs as a script beside us and imports nothing of taskorch, so that it starts in
milliseconds and keeps little memory. Its standard input, whose other end only we hold,
shows that we live; the word `quit` there says that all is well, and it ends.

If that input ends without the word, or we are gone, it kills our process groups. They
stand in a file that we share, a number in each place of eight bytes, and 0 in those
that are free. It reads them then and not before, so it knows the latest state, even if
it was stopped for long. Then it looks through the environment of every process for the
mark of our run and kills those that have it, so that processes that left their group
die too (Linux only).

The functions that look for processes serve the executor as well.

Decision: worker-processes.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress

_IGNORED = ("SIGHUP", "SIGINT", "SIGQUIT", "SIGTERM", "SIGPIPE", "SIGTSTP", "SIGUSR1")

# Seconds between two looks for processes with the mark: they double as long as none is
# found; after the longest, all is well.
_FIRST_PAUSE = 0.005
_LONGEST_PAUSE = 1.0
_MOST_ROUNDS = 200

#: The flag of the kernel's own threads (PF_KTHREAD of Linux).
_KERNEL_THREAD = 0x0020_0000
#: Bytes of the file for each group.
PLACE = 8
#: The message that all is well.
QUIT = b"quit\n"

#: Function that says whether a process, by its number, is meant.
Belongs = Callable[[int], bool]


class ProcessState:
    """State of a process, from its `stat` in /proc."""

    __slots__ = (
        "alive",
        "group",
        "is_kernel",
        "letter",
        "parent",
        "session",
        "started",
    )

    def __init__(self, stat: bytes) -> None:
        # The name before it may contain anything, brackets too.
        fields = stat[stat.rfind(b")") + 1 :].split()
        self.letter = fields[0].decode()
        #: A process that has ended exists until its parent has waited for it.
        self.alive = self.letter not in "ZXx"
        self.parent = int(fields[1])
        self.group = int(fields[2])
        self.session = int(fields[3])
        #: Whether it is a thread of the kernel.
        self.is_kernel = bool(int(fields[6]) & _KERNEL_THREAD)
        #: When it started, in ticks since the start of the machine.
        self.started = int(fields[19])


def state_of(pid: int) -> ProcessState | None:
    """Return the state of a process; None if it is gone."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:  # noqa: PTH123 - starts fast
            return ProcessState(file.read())
    except OSError:
        return None


def environment_of(pid: int) -> bytes:
    """Return each `NAME=value` of a process, with a NUL behind; empty if it is gone."""
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:  # noqa: PTH123 - starts fast
            return file.read()
    except OSError:
        return b""


def carries(pid: int, mark: bytes) -> bool:
    """Return whether a process has exactly *mark* (`NAME=value`) in its environment."""
    return mark in environment_of(pid).split(b"\0")


def is_executing(pid: int) -> bool:
    """
    Return whether a process is just beginning to execute another program.

    Until that has its memory it shows neither arguments nor an environment, and so no
    mark: for some hundredths of a second on a busy machine.
    """
    state = state_of(pid)
    if state is None or not state.alive or state.is_kernel:
        return False
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:  # noqa: PTH123 - starts fast
            return not file.read(1)
    except OSError:
        return False


def find(belongs: Belongs) -> list[int]:
    """Return the ids of all processes but this one that *belongs* accepts."""
    try:
        names = os.listdir("/proc")  # noqa: PTH208 - starts fast
    except OSError:
        return []
    own = os.getpid()
    pids = (int(name) for name in names if name.isdecimal())
    return [pid for pid in pids if pid != own and belongs(pid)]


def send(pid: int, belongs: Belongs, *numbers: int) -> None:
    """Send signals to a process, unless its number has been reused since."""
    if sys.platform != "linux":
        _kill(pid, numbers)
        return
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    except (OSError, AttributeError):  # no pidfds here, or none left
        if belongs(pid):
            _kill(pid, numbers)
        return
    try:
        # From here on the handle means one process: check that it is the right one.
        if belongs(pid):
            for number in numbers:
                signal.pidfd_send_signal(handle, number)
    except OSError:
        pass  # it is gone, or beyond our rights
    finally:
        os.close(handle)


def _kill(pid: int, numbers: tuple[int, ...]) -> None:
    with suppress(OSError):
        for number in numbers:
            os.kill(pid, number)


def _watch(parent: int) -> bool:
    """Wait until the parent has died; return False if it says `quit` first."""
    poll = select.poll()
    poll.register(0, select.POLLIN)
    # Another child of the parent, forked without exec, can hold the other end of our
    # input open, so its end alone is not enough.
    patience: int | None = 1000
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):
            poll.register(os.pidfd_open(parent), select.POLLIN)
            patience = None
    while True:
        # It may have died before we had a descriptor for it.
        gone = os.getppid() != parent
        ready = {fd for fd, _ in poll.poll(0 if gone else patience)}
        if 0 in ready:
            try:
                return not os.read(0, len(QUIT))
            except OSError:
                return True
        elif ready or gone:
            return True


def listed(table: int) -> set[int]:
    """Return the process groups in the file with the descriptor *table*."""
    data = b""
    while chunk := os.pread(table, 65536, len(data)):
        data += chunk
    places = range(0, len(data), PLACE)
    groups = {int.from_bytes(data[at : at + PLACE], "little") for at in places}
    # As a group to kill, 0 would be our own, and 1 all processes.
    return {group for group in groups if group > 1}


def _end(groups: set[int], mark: bytes) -> None:
    for group in groups:
        with suppress(OSError):
            os.killpg(group, signal.SIGKILL)

    def belongs(pid: int) -> bool:
        return carries(pid, mark)

    # A process shows no environment while it executes another program, which can take a
    # while on a busy machine: so several looks must find none. One that cannot be
    # killed must not keep us here for ever.
    pause = _FIRST_PAUSE
    for _ in range(_MOST_ROUNDS):
        pids = find(belongs)
        for pid in pids:
            # Its group is killed, too, since another member may have dropped the mark:
            # we may have died before the group was in the table.
            state = state_of(pid)
            if state is not None and state.group > 1 and belongs(pid):
                _kill(-state.group, (signal.SIGKILL,))
            send(pid, belongs, signal.SIGKILL)
        pause = _FIRST_PAUSE if pids else 2 * pause
        if pause > _LONGEST_PAUSE:
            break
        time.sleep(pause)


def main(parent: int, mark: bytes, table: int) -> None:
    """Watch *parent*, whose programs have *mark*, and whose groups are in *table*."""
    for name in _IGNORED:
        signal.signal(getattr(signal, name), signal.SIG_IGN)
    if _watch(parent):
        _end(listed(table), mark)


if __name__ == "__main__":
    main(int(sys.argv[1]), os.fsencode(sys.argv[2]), int(sys.argv[3]))
