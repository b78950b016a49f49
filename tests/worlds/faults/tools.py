"""Processes that a test starts, stops, wakes and kills."""

import importlib
import os
import select
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path

from tests.api.tools import end
from tests.house.pids import is_alive

from taskorch.core.executors._programs import _guardian
from taskorch.model._program import ProgramVariables

ROOT = Path(__file__).parents[3]
#: Seconds after which something that should long have happened never will.
PATIENCE = 60.0
#: One that says where its threads stand when it is ended by SIGABRT.
_PYTHON = [sys.executable, "-W", "ignore", "-X", "faulthandler"]
_START = "import sys; from tests.worlds.faults import tools; tools.begin(*sys.argv[1:])"


def begin(module, name, *args):
    """In the process that `Process` starts."""
    # Whoever runs the tests may ignore signals, or hold them back.
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    getattr(importlib.import_module(module), name)(*map(Path, args))


def say(*words):
    """A line to whoever has started this process."""
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


class Process:
    """
    A function that runs in an interpreter of its own, and is killed with the block.

    Args:
        function: One at the top level of a module.
        args: Texts or paths; it gets paths.
    """

    def __init__(self, function, *args):
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed with it
        where = function.__module__, function.__name__
        self._popen = subprocess.Popen(
            [*_PYTHON, "-c", _START, *where, *map(str, args)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=self._errors,
        )
        self.pid = self._popen.pid
        self._said = b""

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        if kind is not None:
            end(self._popen)
            print(self.errors(), file=sys.stderr)
        self._popen.kill()
        self._popen.wait()
        self._popen.stdout.close()
        self._errors.close()

    def line(self, timeout=PATIENCE):
        """The next line that it says, or None if none comes in time."""
        pipe = self._popen.stdout.fileno()
        end = time.monotonic() + timeout
        while b"\n" not in self._said:
            left = max(0.0, end - time.monotonic())
            if not select.select([pipe], [], [], left)[0]:
                return None
            if not (more := os.read(pipe, 65536)):
                raise AssertionError(f"it has ended:\n{self.errors()}")
            self._said += more
        line, _, self._said = self._said.partition(b"\n")
        return line.decode()

    def send(self, number):
        self._popen.send_signal(number)

    def hold(self):
        """Stop it where it stands."""
        self.send(signal.SIGSTOP)
        _, status = os.waitpid(self.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status)

    def poll(self):
        """Its exit code, or None while it runs."""
        return self._popen.poll()

    def wait(self):
        """Its exit code."""
        return self._popen.wait(PATIENCE)

    def errors(self):
        self._errors.seek(0)
        return self._errors.read().decode()


def programs(journal):
    """The living programs of a journal, of whichever life."""
    with closing(sqlite3.connect(f"file:{journal}?mode=ro", uri=True)) as db:
        ((uid,),) = db.execute("SELECT uid FROM meta").fetchall()
    return marked(f"{uid}-")


def marked(run_id):
    """The living programs whose mark of their run begins with *run_id*."""
    mark = f"{ProgramVariables.RUN}={run_id}".encode()

    def belongs(pid):
        words = read_words(pid, "environ")
        return any(word.startswith(mark) for word in words) and is_alive(pid)

    return _guardian.find(belongs)


def read_words(pid, name):
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes().split(b"\0")
    except OSError:
        return []


def await_program(journal):
    """The one program of a journal, once it is there: its pid."""
    end = time.monotonic() + PATIENCE
    while not (found := programs(journal)):
        assert time.monotonic() < end, "it was never started"
        time.sleep(0.002)
    (pid,) = found
    return pid


def guardian_of(pid):
    """The guardian that a process has started."""

    def belongs(other):
        state = _guardian.state_of(other)
        is_child = state is not None and state.parent == pid
        return is_child and any(
            b"_guardian" in word for word in read_words(other, "cmdline")
        )

    (guardian,) = _guardian.find(belongs)
    return guardian
