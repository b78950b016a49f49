"""Kill a process at every point at which it writes a journal, and run it again."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Final

import attrs

from taskorch.errors import InvalidTaskError
from taskorch.journal import _points
from taskorch.model import check_count, check_seconds
from taskorch.model._show import show
from taskorch.testing._forks import ForkedRun, Forks, dying_at

_JOURNAL: Final = "journal.db"
#: Runs in a row that end before their point comes: threads make more groups of the
#: same facts at one time than at another.
_CALM: Final = 3


@contextmanager
def crash_at(n: int) -> Iterator[None]:
    """
    Kill this process, by SIGKILL, at a point of what is written to a journal.

        with crash_at(3), TaskOrchestrator(journal="runs.db") as orch: ...

    It is for a process that a test has started; children forked from it are spared.
    Nothing but the block switches it on, and what is reached after the block harms
    nobody.

    Args:
        n: Which point of those that are reached in the block, from 1.

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
    What `for_every_crash_point` has done.

    Attributes:
        names: The names of the points at which it crashed the first run, in order:
            `claim` and `claimed` around the start of a life, `begin`, `rows`, `commit`
            and `kept` in a group of facts, `save` and `saved` around a snapshot.
        runs: How many runs there were in all.
    """

    names: tuple[str, ...]
    runs: int


class CrashFailure(AssertionError):  # noqa: N818 - what it is, as in a report
    """
    After a crash, something was not as it should be.

    Attributes:
        only: What to give to `for_every_crash_point` to see just this one again.
        folder: Where the files that it has left are.
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
    point that it reaches, and then again, on what that has left, to its end. It is
    through when three runs, one after the other, have ended before their n-th point.

    Args:
        workload: A function at the top level of a module. It is given the path of a
            journal, makes an orchestrator with it, and ends when its work is done;
            what it writes besides belongs into the folder of that path, which is
            empty before a first run. What it raises is a failure.
        check: Called with the same path after the last run of each n, in the process
            of the test: it raises if something is not as it should be.
        recovery: True kills the second run too, at each of its points; a number, at so
            many of them, others for each n. A third run then comes to the end.
        only: A number n, or n and the point of the second run: just this crash.
        timeout: Seconds that one run may take.

    Returns:
        At which points it crashed, and how many runs that took.

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
        #: The points at which the runs were killed that led here: number and name.
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
        """On a fresh journal: whether the run died at point *n*, or ended before."""
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
        """Run it to its end, and check; how many points there were."""
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
    """The crash points to try in a second run: all, or a few that vary with *n*."""
    many = points if recovery is True else min(recovery, points)
    return sorted((n + place * points // many) % points + 1 for place in range(many))
