"""
Runs of a function, each in a process of its own that may be killed.

A fresh interpreter imports the function once, and forks a child for each run before
there is any thread: a run costs milliseconds, and inherits nothing of the tests.
"""

from __future__ import annotations

import contextlib
import faulthandler
import gc
import importlib
import importlib.util
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from select import select
from types import ModuleType, TracebackType
from typing import IO, Any, Final, Self

import attrs

from taskorch.errors import InvalidTaskError
from taskorch.journal import _points
from taskorch.model._show import show

#: What the script itself is called in another process, as `multiprocessing` does.
_MAIN: Final = "__mp_main__"
#: Seconds that a run may take beyond its time, to say where it stands.
_MARGIN: Final = 10.0
#: Seconds that an interpreter may take to start and to import the function.
_START_TIME: Final = 60.0
#: Of what a run printed, so many bytes at its end are kept.
_TAIL: Final = 8_000
_START: Final = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from taskorch.testing._forks import serve; serve()"
)
_READY: Final = "ready"

#: Whether this is a process of `serve`.
_serves = False


@attrs.frozen
class ForkedRun:
    """
    How one run ended.

    Attributes:
        points: The names of the points that it reached, in order.
        killed: Whether it was killed, by whomever.
        failure: What it failed with, or None.
        output: The end of what it printed, tracebacks included.
    """

    points: tuple[str, ...]
    killed: bool
    failure: str | None
    output: str


def dying_at(n: int, tell: Callable[[str], object]) -> Callable[[str], None]:
    """What tells of each call, and kills this process at the *n*-th; 0: at none."""
    owner = os.getpid()
    counting = threading.Lock()
    count = 0

    def strike(point: str) -> None:
        nonlocal count
        if os.getpid() != owner:
            # A child of the one that is to die.
            return
        with counting:
            count += 1
            tell(point)
            if count == n:
                os.kill(owner, signal.SIGKILL)

    return strike


class Forks:
    """
    Runs a function of one path, as often as is wanted, each time in a fresh process.

    Args:
        function: A function at the top level of a module, or of the script.
        timeout: Seconds that a run may take.

    Raises:
        InvalidTaskError: Another process would not find the function.
        RuntimeError: It cannot be imported there; the message says why.
    """

    def __init__(self, function: Callable[[Path], object], timeout: float) -> None:
        if _serves:
            msg = (
                "the module of the workload starts this when it is imported: put the "
                "call into a test, or under: if __name__ == '__main__'"
            )
            raise RuntimeError(msg)
        where = _whereabouts(function)
        self._timeout = timeout
        self._server = subprocess.Popen(  # noqa: S603 - ourselves
            [sys.executable, "-c", _START, json.dumps(sys.path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            # A Ctrl-C is for the tests: they end it.
            start_new_session=True,
        )
        try:
            self._ask({"function": where, "timeout": timeout})
            answer = self._answer(_START_TIME)
            if answer != _READY:
                raise RuntimeError(answer)  # noqa: TRY301 - as after any other failure
        except BaseException:
            self.close()
            raise

    def run(self, path: Path, crash: int) -> ForkedRun:
        """
        Call the function with *path*.

        Args:
            path: What it is given.
            crash: The number of the point at which it is killed, from 1; 0: at none.
        """
        self._ask({"path": str(path), "crash": crash})
        report = self._answer(self._timeout + _MARGIN)
        return ForkedRun(
            tuple(report["points"]),
            report["killed"],
            report["failure"],
            report["output"],
        )

    def _ask(self, question: dict[str, Any]) -> None:
        stdin = _pipe(self._server.stdin)
        # If the server is gone, `_answer` says so.
        with contextlib.suppress(BrokenPipeError):
            stdin.write(json.dumps(question).encode() + b"\n")
            stdin.flush()

    def _answer(self, timeout: float) -> Any:
        stdout = _pipe(self._server.stdout)
        # Each question has one line for an answer: none waits in the buffer.
        if not select([stdout], [], [], timeout)[0]:
            msg = f"a run was still going on after {timeout:g} seconds"
            raise RuntimeError(msg)
        line = stdout.readline()
        if not line:
            msg = f"the process that runs it ended with {self._server.wait()}"
            raise RuntimeError(msg)
        return json.loads(line)

    def close(self) -> None:
        """End the server, and a run that is under way."""
        server = self._server
        if server.poll() is None:
            # Nobody has waited for it, so its number cannot be another group's.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(server.pid, signal.SIGKILL)
        server.wait()
        for pipe in (server.stdin, server.stdout):
            with contextlib.suppress(BrokenPipeError):
                _pipe(pipe).close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
    assert pipe is not None  # noqa: S101 - it was asked for
    return pipe


def _whereabouts(function: Callable[[Path], object]) -> list[str]:
    """The module, the file and the name of *function*, for another process."""
    name = getattr(function, "__name__", "")
    module = sys.modules.get(getattr(function, "__module__", ""))
    if getattr(module, name or "?", None) is not function:
        msg = f"{show(function)} is not at the top level of a module"
        hint = "the process that is killed imports it: def it there, with one argument"
        raise InvalidTaskError(msg, hint=hint)
    file = getattr(module, "__file__", None)
    if file is None:
        msg = f"{show(function)} is in no file, so no other process can import it"
        raise InvalidTaskError(msg, hint="put it into a module")
    if function.__module__ == "__main__":
        # Journals of the runs name functions of the script by this module.
        sys.modules.setdefault(_MAIN, sys.modules["__main__"])
    return [function.__module__, str(Path(file).resolve()), name]


# -- in the process that forks ---------------------------------------------------------


def serve() -> None:
    """Answer the questions on the standard input; see `Forks`."""
    global _serves  # noqa: PLW0603 - of this process, for good
    _serves = True
    # The answers keep the pipe to themselves: what the function prints goes to stderr.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def say(answer: object) -> None:
        answers.write(json.dumps(answer) + "\n")
        answers.flush()

    order = json.loads(sys.stdin.readline())
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        function = _find(*order["function"])
    except BaseException:  # noqa: BLE001 - a module may raise anything
        say(f"it cannot be imported in a fresh process:\n{traceback.format_exc()}")
        return
    if len(threads := threading.enumerate()) > 1:
        names = ", ".join(thread.name for thread in threads[1:])
        say(f"to import it starts threads, which a fork would leave behind: {names}")
        return
    # What every run would load again.
    importlib.import_module("taskorch._orchestrator")
    importlib.import_module("asyncio")
    gc.collect()
    gc.freeze()
    say(_READY)
    for line in sys.stdin:
        say(_run(function, json.loads(line), order["timeout"]))


def _find(module: str, file: str, name: str) -> Callable[[Path], object]:
    if module == "__main__":
        imported = _load(_MAIN, file)
        sys.modules["__main__"] = imported
    else:
        try:
            imported = importlib.import_module(module)
        except ImportError:
            imported = _load(module, file)
        path = getattr(imported, "__file__", None)
        if path is None or not Path(file).samefile(path):
            # Another module of the same name comes first on the path.
            imported = _load(module, file)
    function: Callable[[Path], object] = getattr(imported, name)
    return function


def _load(name: str, file: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        msg = f"{file} is no file of Python"
        raise ImportError(msg)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def _run(
    function: Callable[[Path], object], question: dict[str, Any], timeout: float
) -> dict[str, Any]:
    """Fork a run, and wait for its end."""
    with tempfile.TemporaryFile() as points, tempfile.TemporaryFile() as output:
        pid = os.fork()
        if not pid:
            strike = dying_at(
                question["crash"],
                lambda point: os.write(points.fileno(), f"{point}\n".encode()),
            )
            _become(function, Path(question["path"]), strike, output, timeout)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        points.seek(0)
        output.seek(max(0, output.seek(0, os.SEEK_END) - _TAIL))
        printed = output.read().decode(errors="replace").rstrip()
        failure = None
        if status > 0:
            failure = (printed.splitlines() or ["it failed"])[-1]
            if "Timeout (" in printed and "most recent call first" in printed:
                failure = f"it was still running after {timeout:g} seconds"
        elif status not in (0, -signal.SIGKILL):
            failure = f"it was ended by {signal.Signals(-status).name}"
        return {
            "points": points.read().decode().split(),
            "killed": status == -signal.SIGKILL,
            "failure": failure,
            "output": printed,
        }


def _become(
    function: Callable[[Path], object],
    path: Path,
    strike: Callable[[str], object],
    output: IO[bytes],
    timeout: float,
) -> None:
    """In the child: run the function, and end."""
    code = 1
    try:
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        os.dup2(output.fileno(), 1)
        os.dup2(output.fileno(), 2)
        # A thread of its own, that needs no lock of ours, looks at the time.
        faulthandler.dump_traceback_later(timeout, exit=True, file=output)
        _points.install_fault(strike)
        function(path)
        code = 0
    except BaseException:  # noqa: BLE001 - it says what it was, and ends
        # After what it printed: the last line is taken for the failure.
        with contextlib.suppress(Exception):
            sys.stdout.flush()
        traceback.print_exc()
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)
