"""
Kill a process at every point at which it writes a journal, and run it again.

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
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from select import select
from types import ModuleType, TracebackType
from typing import IO, Any, Final, Self

import attrs

from taskorch.core.journal import _points
from taskorch.errors import InvalidTaskError
from taskorch.kit.checks import check_count, check_seconds
from taskorch.kit.visible import show

_JOURNAL: Final = "journal.db"
#: So many runs in a row may end before their point comes: threads make more groups of
#: the same events at one time than at another.
_CALM: Final = 3


@contextmanager
def crash_at(n: int) -> Iterator[None]:
    """
    Kill this process, by SIGKILL, at a point where it writes to a journal.

        with crash_at(3), TaskOrchestrator(journal="runs.db") as orch: ...

    It is for a process that a test has started; children forked from it are spared.
    Only the block switches it on; points after the block are harmless.

    Args:
        n: The number of the point in the block, from 1.

    Raises:
        InvalidTaskError: *n* is no count.
    """
    check_count("n", n, least=1)
    _points.install_fault(dying_at(n, str))
    try:
        yield
    finally:
        _points.install_fault(None)


@attrs.frozen
class CrashPoints:
    """
    The report of `for_every_crash_point`.

    Attributes:
        names: The names of the points at which it crashed the first run, in order:
            `claim` and `claimed` around the start of an incarnation, `begin`, `rows`,
            `commit` and `kept` in a group of events, `save` and `saved` around a
            snapshot.
        runs: How many runs there were in all.
    """

    names: tuple[str, ...]
    runs: int


class CrashFailure(AssertionError):  # noqa: N818 - what it is, as in a report
    """
    A run or a check after a crash has failed.

    Attributes:
        only: The argument of `for_every_crash_point` that repeats just this crash.
        folder: The folder with the files that it has left.
    """

    def __init__(self, message: str, only: tuple[int, ...], folder: Path) -> None:
        super().__init__(message, only, folder)
        self.only: tuple[int, ...] = only
        self.folder: Path = folder

    def __str__(self) -> str:
        return str(self.args[0])


def for_every_crash_point(
    workload: Callable[[Path], object],
    *,
    check: Callable[[Path], object] | None = None,
    recovery: bool | int = False,
    only: int | Sequence[int] | None = None,
    timeout: float = 60.0,
) -> CrashPoints:
    """
    Kill *workload* at each point of its journal, one by one, and run it again.

    For n = 1, 2, 3 … it runs *workload* in a process that dies by SIGKILL at the n-th
    point that it reaches, and then again, with the files that it left, to its end. It
    ends when three runs, one after the other, have ended before their n-th point.

    The points are `claim` and `claimed`, around an incarnation's beginning; `begin` and
    `rows`, before and amid writing events; `commit`: written, not kept; `kept`: kept,
    and nobody informed; `save` and `saved`, around a snapshot.

    Args:
        workload: A function at the top level of a module. It is given the path of a
            journal, makes an orchestrator with it, and ends when its work is done;
            other files belong into the folder of that path, which is empty before a
            first run. An error that it raises is a failure.
        check: Called with the same path after the last run of each n, in the process of
            the test: it raises an error if something is wrong.
        recovery: True kills the second run too, at each of its points; a number, at so
            many of them, others for each n. A third run then comes to the end.
        only: A number n, or n and the point of the second run: just this crash.
        timeout: Seconds that one run may take.

    Returns:
        The points at which it crashed, and the number of runs.

    Raises:
        CrashFailure: A run failed, or the check did.
        InvalidTaskError: An argument is out of its range.
        RuntimeError: *workload* cannot be run in a process of its own.
    """
    chosen = _chosen(only)
    check_seconds("timeout", timeout, zero=False)
    if not isinstance(recovery, bool):
        check_count("recovery", recovery, least=0)
    base = Path(tempfile.mkdtemp(prefix="taskorch-crash-"))
    keep = False
    try:
        with Forks(workload, timeout) as forks:
            crashes = _Crashes(forks, check, base)
            if chosen:
                crashes.just(chosen)
            else:
                crashes.all(recovery)
    except CrashFailure:
        # The error names the files, so they are kept for its reader.
        keep = True
        raise
    finally:
        if not keep:
            shutil.rmtree(base, ignore_errors=True)
    return CrashPoints(tuple(crashes.names), crashes.runs)


def _chosen(only: int | Sequence[int] | None) -> tuple[int, ...]:
    if only is None:
        return ()
    chosen = (only,) if isinstance(only, int) else tuple(only)
    if not 1 <= len(chosen) <= 2:  # noqa: PLR2004 - two runs are killed at most
        msg = f"only is the number of a point, or of two, not {show(only)}"
        raise InvalidTaskError(msg)
    for n in chosen:
        check_count("only", n, least=1)
    return chosen


class _Crashes:
    """The runs of one workload."""

    def __init__(
        self, forks: Forks, check: Callable[[Path], object] | None, base: Path
    ) -> None:
        self._forks = forks
        self._check = check
        self._folder = base / "run"
        self._saved = base / "crashed"
        self._path = self._folder / _JOURNAL
        #: The points at which the earlier runs were killed: number and name.
        self._crashes: list[tuple[int, str]] = []
        self.names: list[str] = []
        self.runs = 0

    def all(self, recovery: bool | int) -> None:
        """Crash at every point."""
        calm = 0
        for n in count(1):
            if self._crash_first(n):
                calm = 0
                self._recover(n, recovery)
            else:
                self._run_check(None)
                calm += 1
                if calm == _CALM:
                    return

    def _recover(self, n: int, recovery: bool | int) -> None:
        """After a crash at *n*: the next run, and others that crash as well."""
        first = list(self._crashes)
        if recovery:
            shutil.copytree(self._folder, self._saved)
        points = self._run_to_end()
        for m in _some(points, recovery, n):
            shutil.rmtree(self._folder)
            shutil.copytree(self._saved, self._folder)
            self._crashes = list(first)
            if self._crash(m):
                self._run_to_end()
            else:
                # This run reached fewer points than the one before.
                self._run_check(None)
        shutil.rmtree(self._saved, ignore_errors=True)

    def just(self, points: tuple[int, ...]) -> None:
        """Crash the first run at the first of *points*, the second at the other."""
        is_there = self._crash_first(points[0])
        for m in points[1:]:
            is_there = is_there and self._crash(m)
        if not is_there:
            self._fail(f"point {points[len(self._crashes)]} was not reached")
        self._run_to_end()

    def _crash_first(self, n: int) -> bool:
        """Crash a fresh run at point *n*; return False if it ended before."""
        shutil.rmtree(self._folder, ignore_errors=True)
        self._folder.mkdir()
        self._crashes = []
        if not self._crash(n):
            if not self.names and n == 1:
                self._fail("it wrote no journal: does it open the path that it gets?")
            return False
        self.names.append(self._crashes[0][1])
        return True

    def _crash(self, n: int) -> bool:
        run = self._run(n)
        if run.killed and len(run.points) == n:
            self._crashes.append((n, run.points[-1]))
            return True
        self._expect_end(run)
        return False

    def _run_to_end(self) -> int:
        """Run it to its end, and check; return how many points there were."""
        run = self._run(0)
        self._expect_end(run)
        self._run_check(run)
        return len(run.points)

    def _run(self, crash: int) -> ForkedRun:
        self.runs += 1
        try:
            return self._forks.run(self._path, crash)
        except RuntimeError as error:
            self._fail(str(error))
            raise

    def _expect_end(self, run: ForkedRun) -> None:
        if run.killed:
            self._fail("the run was killed by somebody else", run)
        if run.failure is not None:
            self._fail(f"the run failed: {run.failure}", run)

    def _run_check(self, run: ForkedRun | None) -> None:
        if self._check is None:
            return
        try:
            self._check(self._path)
        except Exception as error:  # noqa: BLE001 - it is passed on
            self._fail(f"check: {type(error).__name__}: {error}", run, error)

    def _fail(
        self,
        reason: str,
        run: ForkedRun | None = None,
        cause: BaseException | None = None,
    ) -> None:
        numbers = tuple(n for n, _ in self._crashes)
        lines = [f"{self._story()}: {reason}"]
        if numbers:
            only = str(numbers[0] if len(numbers) == 1 else numbers)
            lines += [f"just this one: for_every_crash_point(…, only={only})"]
        lines += [f"its files: {self._folder}"]
        if run is not None and run.output:
            lines += ["it printed:", run.output]
        raise CrashFailure("\n".join(lines), numbers, self._folder) from cause

    def _story(self) -> str:
        if not self._crashes:
            return "without a crash"
        places = [f"at point {n} ({name})" for n, name in self._crashes]
        return f"after a crash {', and one of the next run '.join(places)}"


def _some(points: int, recovery: bool | int, n: int) -> list[int]:
    """Return the crash points to try in a second run: all, or a few."""
    many = points if recovery is True else min(recovery, points)
    return sorted((n + place * points // many) % points + 1 for place in range(many))


#: The module name of the script in another process, as with `multiprocessing`.
_MAIN: Final = "__mp_main__"
#: The seconds that a run may take beyond its time, to report where it hangs.
_MARGIN: Final = 10.0
#: The seconds that an interpreter may take to start and to import the function.
_START_TIME: Final = 60.0
#: The bytes that are kept of the output of a run, from its end.
_TAIL: Final = 8_000
_START: Final = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from taskorch.testing._crash import serve; serve()"
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
        killed: Whether it was killed.
        failure: Its failure, or None.
        output: The end of what it printed, tracebacks included.
    """

    points: tuple[str, ...]
    killed: bool
    failure: str | None
    output: str


def dying_at(n: int, tell: Callable[[str], object]) -> Callable[[str], None]:
    """Return a function that counts calls and kills the process at the *n*-th."""
    owner = os.getpid()
    counting = threading.Lock()
    count = 0

    def strike(point: str) -> None:
        nonlocal count
        if os.getpid() != owner:
            # A child of the process that is to die must not kill it.
            return
        with counting:
            count += 1
            tell(point)
            if count == n:
                os.kill(owner, signal.SIGKILL)

    return strike


class Forks:
    """
    A runner of a function of one path, each time in a fresh process.

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
            # A Ctrl-C is for the tests, which end this process.
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
            path: The path for the function.
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
            # Nobody has waited for the process, so that no other group has its number.
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
    # The answers have the pipe for themselves: output of the function goes to stderr.
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
    # Modules that every run would load again are loaded once here.
    importlib.import_module("taskorch.api._orchestrator")
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
    """Run the function in the child process, and end the process."""
    code = 1
    try:
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        os.dup2(output.fileno(), 1)
        os.dup2(output.fileno(), 2)
        # A thread that needs no lock of ours watches the time.
        faulthandler.dump_traceback_later(timeout, exit=True, file=output)
        _points.install_fault(strike)
        function(path)
        code = 0
    except BaseException:  # noqa: BLE001 - it says what it was, and ends
        # This comes after all output: the last line is taken for the failure.
        with contextlib.suppress(Exception):
            sys.stdout.flush()
        traceback.print_exc()
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)
