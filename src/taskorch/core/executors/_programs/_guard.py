"""
Our side of the guardian: its start, and the list of our process groups.

Decision: worker-processes.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

from taskorch.core.executors._programs import _guardian
from taskorch.kit.fence import log_of
from taskorch.kit.processes import no_fork
from taskorch.model import ProgramVariables

_log = log_of(__name__)

# The variables that a Python needs to start. The mark of a run must not be among them,
# or the guardian of an outer run would take ours for a program and kill it before its
# work is done.
_ENV = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")
_QUIT_SECONDS = 2.0


def is_python(path: str | None) -> bool:
    """Return whether *path*, which is `sys.executable`, is a Python interpreter."""
    # Where Python is embedded this can be the application, which must not be started.
    name = Path(path or "").name.lower()
    return "python" in name or "pypy" in name


class Table:
    """
    Our process groups, in a file that the guardian reads when we die.

    It is in memory where the system has such files, and has no name: it goes with the
    processes that have it open.

    Raises:
        OSError: There is no descriptor left, or no place for it.
    """

    def __init__(self) -> None:
        self.fd = _open_unnamed()
        #: The place of each group, and the places that are free.
        self._places: dict[int, int] = {}
        self._free: list[int] = []

    def add(self, group: int) -> None:
        """
        Add *group*.

        Raises:
            OSError: There is no room for it.
        """
        place = self._free[-1] if self._free else len(self._places)
        self._write(place, group)
        if self._free:
            self._free.pop()
        self._places[group] = place

    def remove(self, group: int) -> None:
        """Remove *group* from the table, if it is there."""
        place = self._places.pop(group, None)
        if place is not None:
            self._write(place, 0)
            self._free.append(place)

    def _write(self, place: int, group: int) -> None:
        number = group.to_bytes(_guardian.PLACE, "little")
        os.pwrite(self.fd, number, place * _guardian.PLACE)

    def close(self) -> None:
        os.close(self.fd)


def _open_unnamed() -> int:
    with suppress(OSError, AttributeError):
        return os.memfd_create("taskorch-guardian")
    with tempfile.TemporaryFile(buffering=0) as file:
        return os.dup(file.fileno())


class ProcessGuard:
    """The guardian of one run, for the supervisor thread only."""

    def __init__(self, run_id: str) -> None:
        self._mark = f"{ProgramVariables.RUN}={run_id}"
        self._table: Table | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None
        self._impossible = False

    def start(self) -> None:
        """
        Start the guardian, unless it runs; also after it was killed from outside.

        Raises:
            OSError: The system has no process or descriptor left.
        """
        if self._impossible or (self._process and self._process.poll() is None):
            return
        script = Path(_guardian.__file__)
        if not is_python(sys.executable) or not script.is_file():
            self._impossible = True
            _log.warning(
                "programs may outlive this process if it is killed: there is no Python "
                "interpreter (sys.executable) or no file %s to watch over them",
                script,
            )
            return
        self._close_socket()
        if self._table is None:
            self._table = Table()
        table = self._table.fd
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
                        str(table),
                    ],
                    stdin=theirs.fileno(),
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    pass_fds=[table],
                    env={name: os.environ[name] for name in _ENV if name in os.environ},
                    cwd="/",
                    start_new_session=True,
                )
        except BaseException:
            ours.close()
            raise
        self._socket = ours

    def add(self, group: int) -> None:
        """Add a process group."""
        if self._table is None:
            return
        try:
            self._table.add(group)
        except OSError as error:
            # On Linux the guardian finds a group that is missing in the table by its
            # mark.
            _log.warning("the guardian of our programs cannot know one: %s", error)
        self._restart_if_dead()

    def remove(self, group: int) -> None:
        """Remove a process group that has ended, as its number may be reused."""
        if self._table is None:
            return
        self._table.remove(group)
        self._restart_if_dead()

    def close(self) -> None:
        """End the guardian, as nothing is left to watch."""
        process, self._process = self._process, None
        if process is not None:
            self._send_quit()
        self._close_socket()
        table, self._table = self._table, None
        if table is not None:
            table.close()
        if process is None:
            return
        try:
            process.wait(_QUIT_SECONDS)
        except subprocess.TimeoutExpired:  # stopped by a signal
            process.kill()
            process.wait()

    def disown(self) -> None:
        """Close the connection to the parent's guardian, in a forked child."""
        self._close_socket()
        if self._table is not None:
            self._table.close()
            self._table = None

    def _close_socket(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _restart_if_dead(self) -> None:
        try:
            self.start()
        except OSError as error:
            _log.warning("the guardian of our programs cannot be started: %s", error)

    def _send_quit(self) -> None:
        # A process may have chosen to die of SIGPIPE. This is the only message ever, so
        # there is room for it.
        flags = getattr(socket, "MSG_NOSIGNAL", 0) | socket.MSG_DONTWAIT
        if self._socket is not None:
            with suppress(OSError):
                self._socket.send(_guardian.QUIT, flags)
