"""Our side of the guardian: starting it, and telling it what is ours."""

from __future__ import annotations

import logging
import os
import socket
import subprocess
import sys
from pathlib import Path

from taskorch.executors import _guardian
from taskorch.executors._program_fork import no_fork
from taskorch.model._program import RUN_VARIABLE

_log = logging.getLogger("taskorch.executors")

# What a Python needs to start; the mark of a run must not be among it, or the guardian
# of an outer run would take ours for a program and kill it before its work is done.
_ENV = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")
_QUIT_SECONDS = 2.0


def _is_python(path: str | None) -> bool:
    # Where Python is embedded this can be the application, which must not be started.
    name = Path(path or "").name.lower()
    return "python" in name or "pypy" in name


class Guard:
    """
    The guardian of one run, for the supervisor thread only.

    Args:
        run_id: The run whose mark the programs carry.
    """

    def __init__(self, run_id: str) -> None:
        self._mark = f"{RUN_VARIABLE}={run_id}"
        self._groups: set[int] = set()
        self._process: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None
        self._impossible = False

    def start(self) -> None:
        """
        See that the guardian runs; start it again if somebody has killed it.

        Raises:
            OSError: No process or no descriptor is to be had.
        """
        if self._impossible or (self._process and self._process.poll() is None):
            return
        script = Path(_guardian.__file__)
        if not _is_python(sys.executable) or not script.is_file():
            self._impossible = True
            _log.warning(
                "programs may outlive this process if it is killed: there is no Python "
                "interpreter (sys.executable) or no file %s to watch over them",
                script,
            )
            return
        self._drop()
        ours, theirs = socket.socketpair()
        try:
            with no_fork, theirs:
                self._process = subprocess.Popen(  # noqa: S603 - our own script
                    [
                        sys.executable,
                        "-I",
                        "-S",
                        str(script),
                        str(os.getpid()),
                        self._mark,
                    ],
                    stdin=theirs.fileno(),
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    env={name: os.environ[name] for name in _ENV if name in os.environ},
                    cwd="/",
                    start_new_session=True,
                )
        except BaseException:
            ours.close()
            raise
        self._socket = ours
        for group in self._groups:
            self._say(f"+{group}")

    def add(self, group: int) -> None:
        """A process group is ours from now on."""
        self._groups.add(group)
        self._tell(f"+{group}")

    def remove(self, group: int) -> None:
        """A process group has ended, and its number may go to another."""
        if group in self._groups:
            self._groups.remove(group)
            self._tell(f"-{group}")

    def close(self) -> None:
        """Send the guardian home: nothing is left to watch over."""
        process = self._process
        if process is None:
            return
        self._say("quit")
        self._drop()
        try:
            process.wait(_QUIT_SECONDS)
        except subprocess.TimeoutExpired:  # somebody has stopped it
            process.kill()
            process.wait()
        self._process = None

    def disown(self) -> None:
        """In a forked child: let go of the guardian, which is not the child's."""
        self._drop()

    def _drop(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _tell(self, line: str) -> None:
        if self._say(line):
            return
        try:
            self.start()  # tells it all groups, this one too
        except OSError as error:
            _log.warning("the guardian of our programs cannot be started: %s", error)

    def _say(self, line: str) -> bool:
        """Whether the guardian has been told, or need not be."""
        if self._impossible:
            return True
        if self._socket is None:
            return False
        # A process may have chosen to die of SIGPIPE, and must not wait for a guardian
        # that somebody has stopped: the mark finds what it is not told.
        flags = getattr(socket, "MSG_NOSIGNAL", 0) | socket.MSG_DONTWAIT
        try:
            self._socket.send(f"{line}\n".encode(), flags)
        except BlockingIOError:
            return True
        except OSError:
            return False
        return True
