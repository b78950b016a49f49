"""A program, for its users: the process to signal, and its end."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import attrs

from taskorch.model import ProgramResult


@attrs.frozen
class ProgramEnd:
    """The end of a program: exactly one of `result` and `error` is set."""

    #: The result, if it ran.
    result: ProgramResult | None
    #: Why there is no result: an `OSError` if the program could not be started (its
    #: `errno` says why, its message what to do), `concurrent.futures.CancelledError`
    #: if it was ended before that, `ChildProcessError` if other code took its exit
    #: code.
    error: BaseException | None
    #: Whether we had asked it to end, or killed it.
    was_asked: bool = False


class ProgramProcess:
    """
    A program that is to be started, runs, or has ended. Safe in every thread.

    After a fork, the copy in the child does nothing: the program is the parent's.

    Args:
        changed: Called when the supervisor has something to do about it.
    """

    __slots__ = (
        "_exited",
        "_lock",
        "_owner",
        "_released",
        "asked_at",
        "is_stopped",
        "kill_at",
        "log_path",
        "look_again",
        "pid",
    )

    def __init__(self, changed: Callable[[], object]) -> None:
        #: Lets the supervisor check whether there is something to do about it.
        self.look_again: Callable[[], object] = changed
        self._owner = os.getpid()
        self._lock = threading.Lock()
        #: Its process id, which is its group's and session's too; None before the
        #: start.
        self.pid: int | None = None
        #: When it will be killed, in seconds of the monotonic clock; None: not yet.
        self.kill_at: float | None = None
        #: When its group got SIGTERM, in seconds of the boot clock; None: not yet.
        self.asked_at: float | None = None
        #: Whether it has been stopped, and not resumed since.
        self.is_stopped: bool = False
        #: The file with its output, once that exists.
        self.log_path: Path | None = None
        # Whether the program has ended, though others in its group may live.
        self._exited = False
        # Whether its number may be reused, so that no more signals may be sent.
        self._released = False

    def terminate(self, grace: float) -> None:
        """
        Ask the program to end, and kill it after *grace* seconds if it has not.

        Its group gets SIGTERM now (and SIGCONT, so that one which was stopped can see
        it), and SIGKILL when the grace is over. Both also reach processes that have
        left the group but still carry the program's mark, once the program itself has
        ended or its grace is over. Called again, it can only shorten the grace. It does
        not wait.
        """
        self._limit(time.monotonic() + max(grace, 0.0), signal.SIGTERM)

    def kill(self) -> None:
        """Kill the program, and all that it has started. It does not wait."""
        self._limit(time.monotonic(), signal.SIGKILL)

    def stop(self) -> bool:
        """
        Stop the program's group where it is, as SIGSTOP does.

        A program that has not been started waits until it is resumed. Processes that
        have left the group, as `timeout` and shells with job control do, are not
        stopped. Return False if the program has ended, or is being ended.
        """
        return self._pause(signal.SIGSTOP)

    def resume(self) -> bool:
        """Continue a stopped program; return False if it ends or has ended."""
        return self._pause(signal.SIGCONT)

    def attach(self, pid: int) -> None:
        """Note that the program was started, and do what was asked meanwhile."""
        with self._lock:
            self.pid = pid
            if self.kill_at is not None:
                if self.kill_at <= time.monotonic():
                    self._send(signal.SIGKILL)
                self._ask()
            elif self.is_stopped:
                self._send(signal.SIGSTOP)

    def note_exit(self) -> None:
        """Note that the program has ended; others of its group may live."""
        with self._lock:
            self._exited = True

    def release(self) -> None:
        """Send no more signals, since the process id may be reused."""
        with self._lock:
            self._exited = self._released = True

    def kill_group(self) -> None:
        """Kill the group, as long as it is known to be the program's."""
        with self._lock:
            self._send(signal.SIGKILL)

    def _limit(self, kill_at: float, number: signal.Signals) -> None:
        if os.getpid() != self._owner:
            return
        with self._lock:
            first = self.kill_at is None
            if self.kill_at is None or kill_at < self.kill_at:
                self.kill_at = kill_at
            if number == signal.SIGKILL:
                self._send(signal.SIGKILL)
            elif first:
                self._ask()
        self.look_again()

    def _pause(self, number: signal.Signals) -> bool:
        if os.getpid() != self._owner:
            return False
        with self._lock:
            if self._exited or self.kill_at is not None:
                return False
            self.is_stopped = number == signal.SIGSTOP
            if self.pid is not None:
                return self._send(number)
        self.look_again()
        return True

    def _ask(self) -> None:
        if self.pid is None or self._released:
            return
        if sys.platform == "linux":
            self.asked_at = time.clock_gettime(time.CLOCK_BOOTTIME)
        self._send(signal.SIGTERM)
        # If it was stopped, it must go on to see that.
        self._send(signal.SIGCONT)

    def _send(self, number: signal.Signals) -> bool:
        """Signal the group; hold the lock, so that its number stays its own."""
        if self.pid is None or self._released:
            return False
        try:
            os.killpg(self.pid, number)
        except (ProcessLookupError, PermissionError):
            return False
        return True
