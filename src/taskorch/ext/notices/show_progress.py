"""
One line on the progress of the work, in a terminal, a notebook or a log.

It is drawn on the listeners' thread, several times a second, from counts that exist
anyhow: tasks pay nothing for it.
"""

from __future__ import annotations

import os
import sys
from collections import deque
from collections.abc import Callable, Iterable
from itertools import islice
from threading import Lock
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, Protocol, Self, TextIO

import attrs

from taskorch.core.engine import row_of, totals
from taskorch.core.handles.handles import TaskHandle
from taskorch.core.runs import WorkflowRun
from taskorch.errors import InvalidTaskError
from taskorch.kit.backoff import Backoff
from taskorch.kit.limits import NS
from taskorch.kit.visible import cut, show, visible, width
from taskorch.kit.words import duration
from taskorch.model import TERMINAL, TaskState

if TYPE_CHECKING:
    from taskorch.core.engine import Runtime
    from taskorch.core.kernel import TaskRow

#: Seconds between two looks, and between two of those that take longer.
_LOOK: Final = 0.25
_LONG_LOOK: Final = 1.0
#: Seconds until the first line, and between lines, where lines stay.
_PAUSES: Final = Backoff(10.0, 600.0)
#: Seconds over which the rate is measured.
_WINDOW: Final = 30.0
#: The most tasks among which the one is looked for that runs longest.
_MANY: Final = 20_000
#: Characters of the bar, of a line that has one, of a line if the terminal does not
#: tell, and of a name.
_BAR: Final = 20
_WIDE: Final = 99
_USUAL: Final = 80
_MOST_OF_A_NAME: Final = 32
#: The narrowest last line: a shorter one would be of no use.
_NARROW: Final = 20
#: Seconds from which the line names how long a task runs.
_WORTH: Final = 1.0

_CLEAR: Final = "\x1b[K"
_RED: Final = "\x1b[31m"
_PLAIN: Final = "\x1b[0m"


def progress_of(
    runtime: Runtime,
    of: WorkflowRun | Iterable[TaskHandle[Any]] | None,
    label: str,
    file: TextIO | None,
) -> Progress:
    """
    Return the progress of *of*: see `TaskOrchestrator.show_progress`.

    Raises:
        InvalidTaskError: It is neither a run nor handles.
    """
    return Progress(runtime, _source_of(runtime, of), label, file)


@attrs.frozen
class ProgressCounts:
    """
    Counts of the work, at one instant.

    Attributes:
        ended: Tasks that have ended.
        total: All tasks.
        running: Tasks that run.
        failed: Tasks that have failed.
        cancelled: Tasks that were cancelled.
        blocked: Tasks that cannot go on by themselves.
        eta: Seconds that are left, if that is known better than by the rate.
    """

    ended: int
    total: int
    running: int
    failed: int
    cancelled: int
    blocked: int
    eta: float | None = None


class Source(Protocol):
    """Protocol: the subject of a progress line."""

    def counts(self, *, is_last: bool = False) -> ProgressCounts:
        """Return the counts; those of the last call are exact."""
        ...

    def rows(self) -> Iterable[TaskRow]:
        """Return the tasks among which to find the slowest; hold the runtime's lock."""
        ...


class Progress:
    """A line on the progress of the work, in a `with` block."""

    def __init__(
        self, runtime: Runtime, source: Source, label: str, file: TextIO | None
    ) -> None:
        self._rt = runtime
        self._source = source
        self._label = " ".join(visible(label).split())
        self._given = file
        self._screen: Screen | None = None
        self._end_timer: Callable[[], None] = _nothing
        self._began = 0.0
        #: The number of tasks that had ended at the start.
        self._first = 0
        self._ended: deque[tuple[float, int]] = deque()
        self._slowest: TaskRow | None = None
        self._look_at = 0.0

    def __enter__(self) -> Self:
        file = sys.stderr if self._given is None else self._given
        self._began = monotonic()
        self._ended.append((self._began, self._source.counts().ended))
        self._first = self._ended[0][1]
        if file is not None:
            self._screen = Screen(file, self._began)
            self._end_timer = self._rt.timer.repeat(_LOOK, self._draw)
        return self

    def __exit__(self, *_: object) -> None:
        self._end_timer()
        if self._screen is not None:
            self._screen.finish(self._last_line())

    def print(self, *values: object) -> None:
        """
        Write a line above the progress line, as `print` does, from any thread.

        Control characters are shown as text; outside the block nothing is written.
        """
        if self._screen is not None:
            self._screen.print(visible(" ".join(map(str, values))))

    def _draw(self) -> None:
        """Draw the progress, if it is time to."""
        screen = self._screen
        now = monotonic()
        if screen is not None and screen.is_due(now):
            counts = self._source.counts()
            share = counts.ended / counts.total if counts.total else 1.0
            screen.draw(self._line(now, counts), share)

    def _line(self, now: float, counts: ProgressCounts) -> list[str]:
        """Return the parts of the line, the most important first."""
        parts = [self._begin(counts), *_states(counts)]
        rate = self._rate(now, counts.ended)
        if rate:
            parts.append(_per_second(rate))
        unended = counts.total - counts.ended
        eta = counts.eta if counts.eta is not None else unended / rate if rate else None
        if eta is not None and unended:
            parts.append(f"about {_rounded(eta)} left")
        slowest = self._slowest_of(now)
        if slowest:
            parts.append(slowest)
        return parts

    def _begin(self, counts: ProgressCounts) -> str:
        return f"{self._label} {counts.ended:,} of {counts.total:,}".lstrip()

    def _last_line(self) -> list[str]:
        counts = self._source.counts(is_last=True)
        took = monotonic() - self._began
        parts = [f"{self._begin(counts)} in {_rounded(took)}", *_states(counts)]
        done = counts.ended - self._first
        if took > _WORTH and done > 0:
            parts.append(_per_second(done / took))
        return parts

    def _rate(self, now: float, ended: int) -> float:
        """Return the ends per second, lately."""
        seen = self._ended
        if ended < seen[-1][1]:
            # A task runs again.
            seen.clear()
        seen.append((now, ended))
        while now - seen[0][0] > _WINDOW:
            seen.popleft()
        since, before = seen[0]
        return (ended - before) / (now - since) if now > since else 0.0

    def _slowest_of(self, now: float) -> str:
        """Return the task that runs longest, if it runs for long; or ""."""
        slowest = self._slowest
        if now >= self._look_at or (
            slowest is not None and slowest.state is not TaskState.RUNNING
        ):
            self._look_at = now + _LONG_LOOK
            with self._rt.lock:
                running = [
                    row
                    for row in islice(self._source.rows(), _MANY)
                    if row.state is TaskState.RUNNING
                ]
            slowest = min(running, key=lambda row: row.started_ns, default=None)
            self._slowest = slowest
        if slowest is None:
            return ""
        seconds = (self._rt.now() - slowest.started_ns) / NS
        if seconds < _WORTH:
            return ""
        name = visible(slowest.id)
        if len(name) > _MOST_OF_A_NAME:
            name = f"…{name[1 - _MOST_OF_A_NAME :]}"
        return f"{name} for {_rounded(seconds)}"


class Screen:
    """
    The output for progress lines: on a terminal, each replaces the last.

    An output that cannot be written to is not tried again.
    """

    def __init__(self, file: TextIO, now: float) -> None:
        self._file = file
        self._is_notebook = type(file).__module__.startswith("ipykernel.")
        self._is_terminal = not self._is_notebook and _is_terminal(file)
        self._has_colors = self._is_terminal and not os.environ.get("NO_COLOR")
        self._is_live = self._is_terminal or self._is_notebook
        self._pauses = _PAUSES.pauses()
        self._due = now if self._is_live else now + next(self._pauses)
        self._drawn = 0
        self._is_over = False
        # One thread draws the line, and others may print.
        self._lock = Lock()

    @property
    def width(self) -> int:
        """Characters of a line; 0 where lines stay."""
        if not self._is_live:
            return 0
        try:
            columns = os.get_terminal_size(self._file.fileno()).columns
        except (OSError, ValueError, AttributeError):
            columns = 0
        # Some terminals do not know.
        return columns or _USUAL

    def is_due(self, now: float) -> bool:
        """Return whether it is time for a line."""
        if self._is_over or now < self._due:
            return False
        if not self._is_live:
            self._due = now + next(self._pauses)
        return True

    def draw(self, parts: list[str], share: float) -> None:
        """
        Write a line of as many *parts* as fit, the most important first.

        A wide one has a bar, of which a *share* is full, from 0 to 1.
        """
        if not self._is_live:
            self._write(f"{', '.join(parts)}\n")
            return
        # A full line would begin a new one.
        room = self.width - 1
        if room >= _WIDE:
            bar = f"[{'#' * int(share * _BAR):.<{_BAR}}]"
            parts = [f"{bar} {parts[0]}", *parts[1:]]
        while len(parts) > 1 and width(", ".join(parts)) > room:
            parts = parts[:-1]
        line = cut(", ".join(parts), room)
        with self._lock:
            self._write(f"\r{self._colored(line)}{self._rest(line)}")

    def finish(self, parts: list[str]) -> None:
        """Write the last line, which stays."""
        line = ", ".join(parts)
        room = max(self.width, _NARROW) if self._is_live else width(line)
        if width(line) > room:
            # The label is cut first, so that the numbers at the end stay.
            line = f"…{cut(line[::-1], room - 1)[::-1]}"
        start = "\r" if self._is_live else ""
        with self._lock:
            self._write(f"{start}{self._colored(line)}{self._rest(line)}\n")
            self._is_over = True

    def print(self, text: str) -> None:
        """Write *text* in the place of the line, which is redrawn below it."""
        start = "\r" if self._is_live else ""
        first, *others = text.split("\n")
        with self._lock:
            lines = "\n".join([f"{start}{first}{self._rest(first)}", *others])
            self._write(f"{lines}\n")
            self._drawn = 0

    def _rest(self, line: str) -> str:
        """Return the characters that erase the rest of a longer line before."""
        if self._is_terminal:
            return _CLEAR
        # A notebook only supports a return to the beginning of the line.
        excess, self._drawn = self._drawn - width(line), width(line)
        return " " * max(0, excess)

    def _colored(self, line: str) -> str:
        if not self._has_colors:
            return line
        return ", ".join(
            f"{_RED}{part}{_PLAIN}" if part.endswith(" failed") else part
            for part in line.split(", ")
        )

    def _write(self, text: str) -> None:
        if self._is_over:
            return
        try:
            self._file.write(text)
            self._file.flush()
        except UnicodeEncodeError:
            self._write(text.encode("ascii", "replace").decode())
        except (OSError, ValueError):
            self._is_over = True


# -- what it is about --------------------------------------------------------------


class _OfOrchestrator:
    """All tasks of an orchestrator that had not ended before."""

    def __init__(self, runtime: Runtime) -> None:
        self._rt = runtime
        before = totals(runtime).state_machine
        self._ended = before.completed + before.failed + before.cancelled
        self._failed, self._cancelled = before.failed, before.cancelled

    def counts(self, *, is_last: bool = False) -> ProgressCounts:
        del is_last
        tasks = totals(self._rt).state_machine
        ended = tasks.completed + tasks.failed + tasks.cancelled
        # A task that had ended before may run again.
        ended = max(0, ended - self._ended)
        unended = tasks.pending + tasks.queued + tasks.running + tasks.retrying
        unended += tasks.blocked + tasks.suspended
        failed = max(0, tasks.failed - self._failed)
        cancelled = max(0, tasks.cancelled - self._cancelled)
        total = ended + unended
        return ProgressCounts(
            ended, total, tasks.running, failed, cancelled, tasks.blocked
        )

    def rows(self) -> Iterable[TaskRow]:
        return self._rt.kernel.tasks.values()


class _OfRun:
    """A run of a workflow, which may grow."""

    def __init__(self, run: WorkflowRun) -> None:
        self._run = run
        self._status = run.status()
        self._look_at = 0.0

    def counts(self, *, is_last: bool = False) -> ProgressCounts:
        status, now = self._status, monotonic()
        if is_last or now >= self._look_at:
            # The estimate goes through all tasks.
            self._status = status = self._run.status()
            self._look_at = now + min(_LONG_LOOK, len(status.tasks) * 1e-4)
        states = status.counts
        return ProgressCounts(
            sum(states.get(state, 0) for state in TERMINAL),
            len(status.tasks),
            status.running,
            states.get(TaskState.FAILED, 0),
            states.get(TaskState.CANCELLED, 0),
            states.get(TaskState.BLOCKED, 0),
            status.eta,
        )

    def rows(self) -> Iterable[TaskRow]:
        return [row_of(work) for work in self._run.handles.values()]


class _OfHandles:
    """Handles, which are not looked at again once they have ended."""

    def __init__(self, handles: list[TaskHandle[Any]]) -> None:
        self._total = len(handles)
        self._left = handles
        self._ended = 0
        self._failed = self._cancelled = 0

    def counts(self, *, is_last: bool = False) -> ProgressCounts:
        del is_last
        running = blocked = 0
        unended: list[TaskHandle[Any]] = []
        for handle in self._left:
            state = row_of(handle).state
            if state in TERMINAL:
                self._ended += 1
                self._failed += state is TaskState.FAILED
                self._cancelled += state is TaskState.CANCELLED
                continue
            unended.append(handle)
            running += state is TaskState.RUNNING
            blocked += state is TaskState.BLOCKED
        self._left = unended
        ended = self._failed, self._cancelled
        return ProgressCounts(self._ended, self._total, running, *ended, blocked)

    def rows(self) -> Iterable[TaskRow]:
        return (row_of(handle) for handle in self._left)


def _source_of(runtime: Runtime, of: Any) -> Source:
    if of is None:
        return _OfOrchestrator(runtime)
    if isinstance(of, WorkflowRun):
        return _OfRun(of)
    handles = list(of) if isinstance(of, Iterable) else None
    if handles is None or not all(isinstance(one, TaskHandle) for one in handles):
        msg = f"show_progress is for a run of a workflow or for handles, not {show(of)}"
        hint = "without an argument it is for all that the orchestrator does, as a map"
        raise InvalidTaskError(msg, hint=hint)
    return _OfHandles(handles)


# -- words -------------------------------------------------------------------------


def _states(counts: ProgressCounts) -> list[str]:
    numbers = {
        "running": counts.running,
        "failed": counts.failed,
        "cancelled": counts.cancelled,
        "blocked": counts.blocked,
    }
    return [f"{number:,} {state}" for state, number in numbers.items() if number]


def _per_second(rate: float) -> str:
    if rate >= 1:
        return f"{rate:,.0f}/s"
    per_minute = rate * 60
    return f"{per_minute:.1f}/min" if per_minute >= 1 else f"{rate * 3600:.1f}/h"


def _rounded(seconds: float) -> str:
    return duration(round(seconds, 1) if seconds < 10 else round(seconds))  # noqa: PLR2004 - two figures


def _is_terminal(file: TextIO) -> bool:
    try:
        return file.isatty() and os.environ.get("TERM") != "dumb"
    except (AttributeError, ValueError):
        return False


def _nothing() -> None:
    """Do nothing: nothing was begun."""
