"""
Processes of this machine: existence, exit codes, and forks of this one.

While `no_fork` is held, this process is not forked; `at_fork` names descriptors that a
forked child must close.

Decision: executors.
"""

from __future__ import annotations

import os
import subprocess
import threading
import weakref
from pathlib import Path
from typing import Any, Final, Protocol


def is_process(pid: Any) -> bool:
    """Return whether there is, or may be, a process *pid* on this machine."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError, TypeError):
        pass
    return True


def began_at(pid: int) -> int | None:
    """Return the start of a process in ticks since boot; None off Linux."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return None
    return int(text.rpartition(")")[2].split()[19])


def is_alive(pid: Any, started: Any) -> bool:
    """Return whether the process *pid* lives and is the one with this start."""
    if not is_process(pid):
        return False
    return started is None or began_at(pid) in (None, started)


def exit_code_of(process: subprocess.Popen[bytes]) -> int | None:
    """
    Return the exit code of *process*, or None if it runs; negative for a signal.

    It stays a zombie, so that no other process gets its id.

    Raises:
        ChildProcessError: Other code has waited for it.
    """
    pid = process.pid
    if not hasattr(os, "waitid"):  # macOS before Python 3.13
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            process.returncode = os.waitstatus_to_exitcode(status)
        return process.returncode
    info = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    if info is None:
        return None
    return info.si_status if info.si_code == os.CLD_EXITED else -info.si_status


# Seconds that a fork waits for the start of a program.
_FORK_PATIENCE = 5.0


class DescriptorHolder(Protocol):
    """An object with descriptors that a forked child must not keep."""

    def disown(self) -> None:
        """Close the descriptors, in the child."""


class _Gate:
    """
    A gate that prevents forks of this process while it starts a program.

    A child that is forked at that moment holds our ends of pipes, and does not close
    them: a program would not see the end of its input, and `Popen`, which waits for
    such a pipe to close, would hang until that child ends.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._forking: int | None = None

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    def before_fork(self) -> None:
        """Wait, with a limit, until no process is being started."""
        # A start that hangs, perhaps in a dead network folder, must not hold up others.
        if self._lock.acquire(timeout=_FORK_PATIENCE):
            self._forking = threading.get_ident()

    def after_fork(self) -> None:
        """Allow processes to be started again."""
        if self._forking == threading.get_ident():
            self._forking = None
            self._lock.release()

    def after_fork_in_child(self) -> None:
        """Reset the gate, without the threads of the parent."""
        # If a start hung, the thread that held the old lock is not in this process.
        self._lock = threading.Lock()
        self._forking = None
        for owner in list(_owners):
            owner.disown()


#: The gate that is held while a process is started: our own forks wait for it.
no_fork: Final = _Gate()

_owners: weakref.WeakSet[DescriptorHolder] = weakref.WeakSet()


def at_fork(owner: DescriptorHolder) -> None:
    """Close the descriptors of *owner* in every forked child."""
    _owners.add(owner)


os.register_at_fork(
    before=no_fork.before_fork,
    after_in_parent=no_fork.after_fork,
    after_in_child=no_fork.after_fork_in_child,
)
