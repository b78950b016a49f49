"""
The past on the dashboard: counts, rates, and the attempts of each worker.

The board hears every event and keeps what a picture needs. A picture is asked for by
its width, and the answer has as many rectangles as can be told apart on it, however
many attempts there were.

Decision: dashboard-and-views.
"""

from __future__ import annotations

import secrets
import threading
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from taskorch.errors import NotRunningError
from taskorch.events import (
    Event,
    OrchestratorStarted,
    TaskCompleted,
    TaskFailed,
    TaskStarted,
)
from taskorch.events.ends import end_of_attempt
from taskorch.ext.service._waiting import Waiter
from taskorch.ext.views._runs import READ, RunIndex
from taskorch.kit.clock import MonotonicClock
from taskorch.protocols import Projection

if TYPE_CHECKING:
    from taskorch.core.signals import Signals
    from taskorch.ext.views import JournalReader

#: The ends of so many seconds are counted; an answer has at most so many rectangles,
#: and at most so many attempts that have ended are kept.
_SECONDS: Final = 600
_RECTANGLES: Final = 10_000
#: The rows of one worker that are shown apart, for attempts at once.
_ROWS: Final = 8
_NS: Final = 1_000_000_000
#: States of an attempt, by importance: a rectangle for several shows the last.
OUTCOMES: Final = (
    *("running", "completed", "suspended", "cancelled", "retrying", "blocked"),
    "failed",
)


class _Span(NamedTuple):
    """An attempt that has ended: times are nanoseconds since 1970."""

    worker: str
    start: int
    end: int
    task_id: str
    outcome: str


class _Open(NamedTuple):
    """An attempt that runs."""

    worker: str
    start: int


class Rectangle(NamedTuple):
    """
    The attempts of one worker in some columns of a picture.

    Attributes:
        lane: The number of the worker in the answer.
        row: The row within its worker, from 0.
        first: The first column.
        last: The last column.
        outcome: A number of `OUTCOMES`.
        many: How many attempts it stands for.
        task_id: The task of the latest of these.
    """

    lane: int
    row: int
    first: int
    last: int
    outcome: int
    many: int
    task_id: str


class Board(Projection):
    """
    Follows an orchestrator's events, once it is to `follow`, until `close`.

    Earlier events count as well, as many as `past` says.
    """

    past = READ

    def __init__(self) -> None:
        self._is_closed = False
        self._lock = threading.Lock()
        self._clock = MonotonicClock()
        self._spans: deque[_Span] = deque(maxlen=_RECTANGLES)
        self._open: dict[str, _Open] = {}
        #: The time of the latest event, at which attempts of earlier incarnations
        #: ended.
        self._latest = 0
        self._left: dict[str, int] = {}
        #: The number of completed and failed tasks, by seconds since 1970.
        self._ends: OrderedDict[int, list[int]] = OrderedDict()
        #: The number of events so far.
        self.heard = 0
        #: The name of this board, different from that of another server or an earlier
        #: run.
        self.name = secrets.token_hex(8)
        #: The callers that wait for the next event.
        self.followers: set[Waiter] = set()
        #: The number of the last event that was entered and is still in the queue.
        self._entered = 0
        #: The index of runs.
        self._runs = RunIndex()
        #: Whether earlier events are still being read.
        self.is_reading = True
        self._leave: Callable[[], object] = bool

    def follow(
        self,
        signals: Signals,
        enter: Callable[[RunIndex], int] = lambda _: 0,
        journal: JournalReader | None = None,
    ) -> None:
        """
        Take the events of before, and then those that come.

        Args:
            signals: The signals of the orchestrator.
            enter: Without a journal, enters the tasks of before, and returns the number
                of the latest event.
            journal: A reader of the journal of the orchestrator, which may have
                stopped.

        Raises:
            JournalError: It cannot be read.
        """
        if journal is not None:
            with self._lock:
                last = self.position = self._runs.begin(journal)
                # An attempt has about three events.
                for event in journal.happened(max(0, last - 3 * _RECTANGLES)):
                    if event.seq > last:
                        break
                    self._show(event)
        try:
            self._leave = signals.follow(self)
        except NotRunningError:
            # No more events come.
            if journal is not None:
                for event in journal.happened(self.position):
                    self.take(event, None)
        with self._lock:
            self._entered = enter(self._runs)
        self.is_reading = False
        self._wake()

    @contextmanager
    def runs(self) -> Iterator[RunIndex]:
        """Yield the index of runs, which nobody changes within the block."""
        with self._lock:
            yield self._runs

    @property
    def is_closed(self) -> bool:
        """True if no more events come."""
        return self._is_closed

    def close(self) -> None:
        """Hear of nothing any more."""
        self._is_closed = True
        self._leave()
        self._wake()

    def _wake(self) -> None:
        for follower in list(self.followers):
            follower.wake()

    def now(self) -> int:
        """Nanoseconds since 1970, of the clock that events have their times from."""
        return self._clock.now_ns()

    def take(self, event: Event, document: Any) -> None:
        """Take *event* in; one that says nothing about an attempt is only counted."""
        del document
        with self._lock:
            if event.seq > self._entered:
                self._take(event)
        if not self.is_reading:
            self._wake()

    def _take(self, event: Event) -> None:
        self._runs.take(event)
        self._show(event)

    def _show(self, event: Event) -> None:
        """Note what an event says of an attempt, for the timeline."""
        self.heard += 1
        if isinstance(event, TaskStarted):
            self._open[event.task_id] = _Open(event.agent_id, event.at_ns)
        elif isinstance(event, OrchestratorStarted):
            # The next events tell what becomes of their tasks.
            self._left = dict.fromkeys(self._open, self._latest)
        elif (state := end_of_attempt(event)) is not None:
            self._end(event, state.value)
        self._latest = max(self._latest, event.at_ns)

    def _end(self, event: Any, outcome: str) -> None:
        started = self._open.pop(event.task_id, None)
        if started is not None:
            end = self._left.pop(event.task_id, event.at_ns)
            self._spans.append(
                _Span(started.worker, started.start, end, event.task_id, outcome)
            )
        if isinstance(event, (TaskCompleted, TaskFailed)):
            second = event.at_ns // _NS
            counts = self._ends.setdefault(second, [0, 0])
            counts[isinstance(event, TaskFailed)] += 1
            while len(self._ends) > _SECONDS:
                self._ends.popitem(last=False)

    def rates(self, now: int, seconds: int = 120) -> list[list[int]]:
        """Return how many tasks completed and failed in each of the last *seconds*."""
        last = now // _NS
        with self._lock:
            return [
                list(self._ends.get(second, (0, 0)))
                for second in range(last - seconds + 1, last + 1)
            ]

    def timeline(
        self, start: int, end: int, width: int, lanes: int, now: int
    ) -> dict[str, Any]:
        """
        Return the attempts between two moments, for a picture of *width* columns.

        Each attempt that has any part in that time is counted, whether it has a
        rectangle of its own or none.

        Args:
            start: Nanoseconds since 1970; 0 is the first attempt that is kept.
            end: The same; 0 is *now*.
            width: Columns of the picture.
            lanes: Workers that it has room for, those that came first.
            now: Until when what runs has run.
        """
        with self._lock:
            spans = list(self._spans)
            spans += (
                _Span(each.worker, each.start, now, task_id, "running")
                for task_id, each in self._open.items()
            )
        spans.sort(key=lambda span: span.start)
        start = start or (spans[0].start if spans else now - _NS)
        end = max(end or now, start + width)
        shown = [s for s in spans if s.end >= start and s.start <= end]
        workers = list(dict.fromkeys(sorted({span.worker for span in shown})))
        picture = _Picture(start, end, width, workers[:lanes])
        rectangles = list(picture.rectangles(shown))
        counts = Counter((span.worker, span.outcome) for span in shown)
        return {
            "start": start / _NS,
            "end": end / _NS,
            "agents": workers[:lanes],
            "agents_left_out": max(0, len(workers) - lanes),
            "rows": picture.rows(),
            "outcomes": OUTCOMES,
            "counts": [
                [counts[worker, outcome] for outcome in OUTCOMES]
                for worker in workers[:lanes]
            ],
            "attempts": len(shown),
            "attempts_left_out": picture.left_out,
            "rectangles": rectangles,
        }


class _Picture:
    """A picture of attempts in rows, where very short ones share a rectangle."""

    def __init__(self, start: int, end: int, width: int, workers: list[str]) -> None:
        self._start = start
        self._scale = width / (end - start)
        self._width = width
        self._lane_of = {name: place for place, name in enumerate(workers)}
        #: For each lane, the latest rectangle of each of its rows.
        self._latest: list[list[Rectangle]] = [[] for _ in workers]
        self.left_out = 0

    def rows(self) -> list[int]:
        """Return the number of rows of each lane."""
        return [max(1, len(rows)) for rows in self._latest]

    def rectangles(self, spans: Iterable[_Span]) -> Iterator[Rectangle]:
        """The rectangles of *spans*, which are in the order of their starts."""
        drawn = 0
        for span in spans:
            lane = self._lane_of.get(span.worker)
            if lane is None or drawn >= _RECTANGLES:
                self.left_out += 1
                continue
            done = self._add(lane, span)
            if done is not None:
                drawn += 1
                yield done
        for rows in self._latest:
            yield from rows

    def _add(self, lane: int, span: _Span) -> Rectangle | None:
        """Add a span; return the rectangle of its row that it completes, if any."""
        first, last = self._column(span.start), self._column(span.end)
        outcome = OUTCOMES.index(span.outcome)
        rows = self._latest[lane]
        new = Rectangle(lane, 0, first, last, outcome, 1, span.task_id)
        place = next((i for i, old in enumerate(rows) if old.last < first), None)
        if place is not None:
            done, rows[place] = rows[place], new._replace(row=place)
            return done
        # Attempts in the same columns share one rectangle.
        columns = [(old.first, old.last) for old in rows]
        place = columns.index((first, last)) if (first, last) in columns else None
        if place is None and len(rows) < _ROWS:
            rows.append(new._replace(row=len(rows)))
            return None
        if place is None:
            # Without room, an attempt shares the rectangle that ends nearest to it.
            place = min(range(len(rows)), key=lambda i: abs(rows[i].last - last))
        old = rows[place]
        rows[place] = old._replace(
            last=max(old.last, last),
            outcome=max(old.outcome, outcome),
            many=old.many + 1,
            task_id=span.task_id,
        )
        return None

    def _column(self, at: int) -> int:
        return min(self._width - 1, max(0, int((at - self._start) * self._scale)))
