"""
One worker process, as we see it: its start, its link, its end.

Decision: worker-processes.
"""

from __future__ import annotations

import json
import logging
import os
import pickle
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from taskorch.core.executors import wire
from taskorch.core.executors._programs._family import Family, Leftovers
from taskorch.core.executors._programs._governor import Hold
from taskorch.core.executors._programs._guard import is_python
from taskorch.core.executors._programs._output import FLAGS
from taskorch.core.executors.link import Link, LinkedCall
from taskorch.core.executors.remote import is_session
from taskorch.kit.processes import exit_code_of, no_fork
from taskorch.model import ProgramVariables
from taskorch.protocols import Attempt

if TYPE_CHECKING:
    from taskorch.kit.loop import Loop

#: The first statements of a worker's interpreter: it finds modules where we find them.
_FIRST: Final = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from taskorch.core.executors._processes._worker import main; "
    "main(int(sys.argv[2]), int(sys.argv[3]))"
)
#: Seconds that a worker may need to exit by itself once it has closed the wire.
_MOMENT: Final = 0.5
#: Seconds between two checks for its end where the system cannot tell.
_POLL: Final = 0.02


class Assignment(LinkedCall):
    """An attempt that waits for a worker, or is made by one."""

    __slots__ = ("is_last", "worker")

    def __init__(
        self, attempt: Attempt, number: bytes, call: bytes, *, is_last: bool = False
    ) -> None:
        super().__init__(attempt, number, call)
        #: Whether its worker makes no other after it: a GPU, for example, that it has
        #: opened through its environment stays open as long as the process lives.
        self.is_last: bool = is_last
        #: The worker that has it, begun or not.
        self.worker: WorkerProcess | None = None


class WorkerProcess:
    """
    A worker. `send` and `kill` are for every thread, the rest for the loop's.

    Args:
        loop: The loop whose thread looks after it.
        mark: The unique mark in its environment.
        run_id: The run that it belongs to.
        heard: Called with each frame that comes.
        ended: Called once it and all its processes are gone or killed.
        surroundings: Settings of the program that it works for: see `surroundings`.
            None: those of this one.
    """

    def __init__(
        self,
        loop: Loop,
        mark: str,
        run_id: str,
        heard: Callable[[WorkerProcess, int, bytes, bytes], object],
        ended: Callable[[WorkerProcess], object],
        surroundings: dict[str, Any] | None = None,
    ) -> None:
        self._loop = loop
        self._surroundings = surroundings
        self._mark = mark
        self._run_id = run_id
        self._heard = heard
        self._ended = ended
        self._process: subprocess.Popen[bytes] | None = None
        self._pidfd = -1
        #: None before it was started.
        self._link: Link | None = None
        # Guards that its process id is its own when it is killed.
        self._lock = threading.Lock()
        self._has_exited = False
        self._is_over = False
        # The sockets for messages to it: our end, and its own.
        self._ours: socket.socket | None = None
        self._theirs: socket.socket | None = None
        #: Its call, and those that it was given ahead, in no known order; the pool's
        #: lock guards them.
        self.given: dict[bytes, Assignment] = {}
        #: Whether it has said that it can be given work.
        self.is_ready: bool = False
        #: Whether it was told to go, or is about to end: it gets no more calls.
        self.is_leaving: bool = False
        #: Whether it was killed because it had closed the wire.
        self.is_mute: bool = False
        #: Holds it to its limits, if it has any.
        self.hold: Hold | None = None
        #: Its exit code once it has ended, negative for a signal; None if it is lost.
        self.exit_code: int | None = None

    @property
    def pid(self) -> int:
        """Process id of the worker; also the id of its group and session."""
        assert self._process is not None  # noqa: S101 - it was started
        return self._process.pid

    # -- its start -----------------------------------------------------------------

    def start(self) -> None:
        """
        Start the process.

        Raises:
            OSError: The system has no process or descriptor left.
        """
        if not is_python(sys.executable):
            msg = (
                "worker processes need a Python interpreter, and sys.executable "
                f"is {sys.executable!r}"
            )
            raise OSError(msg)
        settings = self._surroundings or surroundings()
        path = settings.get("path", sys.path)
        ours, theirs = socket.socketpair()
        try:
            kind = socket.SOCK_DGRAM
            self._ours, self._theirs = socket.socketpair(socket.AF_UNIX, kind)
            prefix = () if self.hold is None else self.hold.prefix(os.environ)
            with no_fork, theirs:
                self._process = subprocess.Popen(  # noqa: S603 - our own words
                    [
                        *prefix,
                        sys.executable,
                        *_flags(),
                        "-c",
                        _FIRST,
                        json.dumps(path, default=str),
                        str(theirs.fileno()),
                        str(self._theirs.fileno()),
                    ],
                    stdin=subprocess.DEVNULL,
                    pass_fds=[theirs.fileno(), self._theirs.fileno()],
                    env={
                        **os.environ,
                        ProgramVariables.RUN: self._run_id,
                        ProgramVariables.PROGRAM: self._mark,
                    },
                    start_new_session=True,
                )
        except BaseException:
            ours.close()
            self.close_messages()
            if self.hold is not None:
                self.hold.end()
            raise
        if self.hold is not None:
            self.hold.begin(self._family())
            self._measure()
        heard = partial(self._heard, self)
        self._link = Link(self._loop, ours, self.given, heard, self._unheard)
        self._link.open()
        self._watch_end()
        self.send(wire.BEGIN, wire.NOBODY, pickle.dumps(settings))

    def _watch_end(self) -> None:
        if hasattr(os, "pidfd_open"):
            with suppress(OSError):
                self._pidfd = os.pidfd_open(self.pid)
        if self._pidfd >= 0:
            self._loop.watch(self._pidfd, self._look)
        else:
            self._loop.at(time.monotonic() + _POLL, self._look_again)

    # -- the wire ------------------------------------------------------------------

    def send(self, kind: int, number: bytes, *body: bytes) -> None:
        """Send a frame, without waiting; if it is dying, its end shows that."""
        link = self._link
        if link is not None:
            link.send(kind, number, *body)

    def _unheard(self, why: str) -> None:
        """Note that no more frames come from it."""
        del why
        self.is_leaving = True
        if self.is_garbled:
            self.kill()
        else:
            # Either it is about to end, or code in it has closed the wire.
            self._loop.at(time.monotonic() + _MOMENT, self._kill_mute)

    @property
    def is_garbled(self) -> bool:
        """Whether it sent no frame, or one of no call of its own."""
        return self._link is not None and self._link.is_garbled

    def give_up(self) -> None:
        """Hear no more of it and kill it, as its answer cannot be right."""
        if self._link is not None:
            self._link.refuse()

    # -- calls ---------------------------------------------------------------------

    def give(self, assignment: Assignment, *, ahead: bool = False) -> bool:
        """Send it a call; return False if it is busy and cannot get it *ahead*."""
        call = assignment.call
        if len(call) <= wire.SMALL:
            assert self._ours is not None  # noqa: S101 - it was started
            try:
                self._ours.send(wire.frame(wire.CALL, assignment.number, call), FLAGS)
            except OSError:
                # On some systems a message must not be so long.
                pass
            else:
                return True
        if not ahead:
            assignment.call = b""
            self.send(wire.CALL, assignment.number, call)
        return not ahead

    def take_one_back(self) -> bytes | None:
        """Return the number of a call that it has not taken, or None."""
        if self._theirs is not None:
            with suppress(OSError):
                # The rest of the message is dropped.
                head = wire.read_head(self._theirs.recv(wire.HEAD, FLAGS))
                return None if head is None else head[1]
        return None

    def take_all_back(self) -> set[bytes]:
        """Return the numbers of all calls that it has not taken."""
        return set(iter(self.take_one_back, None))

    def close_messages(self) -> None:
        """Close the channel for messages to the worker."""
        for sock in (self._ours, self._theirs):
            if sock is not None:
                sock.close()
        self._ours = self._theirs = None

    # -- its end -------------------------------------------------------------------

    def leave(self) -> None:
        """Ask the worker to end after its call, and set a time limit for that."""
        self.is_leaving = True
        if self._link is not None:
            self._link.finish()
        self._loop.at(time.monotonic() + 2 * _MOMENT, self.kill)

    def kill(self) -> None:
        """Kill the worker and its process group; for any thread."""
        with self._lock:
            if self._process is not None and not self._is_over:
                with suppress(OSError):
                    os.killpg(self._process.pid, signal.SIGKILL)

    def _kill_mute(self) -> None:
        self.is_mute = not self._has_exited and bool(self.given)
        self.kill()

    def _look_again(self) -> None:
        if not self._look():
            self._loop.at(time.monotonic() + _POLL, self._look_again)

    def _look(self) -> bool:
        """Look whether the process has ended; then read its last messages and close."""
        assert self._process is not None  # noqa: S101 - it is watched
        try:
            code = exit_code_of(self._process)
            if code is None:
                return False
            self.exit_code = code
        except ChildProcessError:
            # Another part of the program has waited for it.
            self.exit_code = None
        self.is_leaving = self._has_exited = True
        if self._link is not None:
            while self._link.read():
                pass
            self._link.close()
        self._close()
        self._clear(Leftovers(self._family(), None))
        return True

    def _family(self) -> Family:
        return Family(self.pid, os.fsencode(f"{ProgramVariables.PROGRAM}={self._mark}"))

    def _measure(self) -> None:
        """Measure its use, repeatedly, and kill it above its limits."""
        hold = self.hold
        if hold is None or self._has_exited:
            return
        if hold.look():
            hold.kill()
        else:
            self._loop.at(hold.next_look, self._measure)

    def _clear(self, leftovers: Leftovers) -> None:
        """Kill the processes that it left; it stays a zombie until then."""
        when = leftovers.end(time.monotonic())
        if when is None and self.hold is not None and not self.hold.end():
            when = time.monotonic() + _POLL
        if when is not None:
            self._loop.at(when, partial(self._clear, leftovers))
            return
        with self._lock:
            self._is_over = True
            assert self._process is not None  # noqa: S101 - it was started
            self._process.wait()
        self._ended(self)

    def _close(self) -> None:
        if self._pidfd >= 0:
            self._loop.unwatch(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = -1

    def abandon(self) -> None:
        """Kill it, where no loop looks after it any more."""
        self.kill()
        self.disown()
        if self._process is not None:
            # Otherwise the system keeps it until we end.
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(_MOMENT)

    def disown(self) -> None:
        """Close all descriptors for it; a forked child does so, too."""
        if self._pidfd >= 0:
            os.close(self._pidfd)
            self._pidfd = -1
        if self._link is not None:
            self._link.disown()
        for sock in (self._ours, self._theirs):
            if sock is not None:
                sock.close()


def _flags() -> list[str]:
    """Return the flags of our own interpreter: -O, -W, -X and the like."""
    flags: list[str] = getattr(subprocess, "_args_from_interpreter_flags", list)()
    return flags


def surroundings() -> dict[str, Any]:
    """Return our settings for workers: arguments, main module, levels of loggers."""
    main: Any = sys.modules["__main__"]
    # Objects of the main module that it sends back have this name.
    sys.modules.setdefault("__mp_main__", main)
    spec = getattr(main, "__spec__", None)
    path = getattr(main, "__file__", None)
    root = logging.getLogger()
    # Other threads may make loggers meanwhile.
    loggers = list(root.manager.loggerDict.items())
    levels = {
        name: logger.level
        for name, logger in [("", root), *loggers]
        if isinstance(logger, logging.Logger) and logger.level
    }
    return {
        "argv": list(sys.argv),
        "main_name": None if spec is None else spec.name,
        "main_path": None if is_session() else path and os.path.abspath(path),  # noqa: PTH100
        "levels": levels,
        "disabled": root.manager.disable,
    }
