"""
Projections: events from a number on, of the journal and then as they are published.

A projection is one listener to all the events that it wants. The number of each says
whether it was taken already. Events that were not passed to it, since it began later
or was too slow, lie in a hole: the journal is read over it before the next event is
taken. So nothing keeps a list of what comes meanwhile.

Decision: followers-of-events.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from inspect import iscoroutinefunction
from typing import TYPE_CHECKING, Any, Final

import attrs

from taskorch.core.engine._publisher import PROJECTION, Receiver
from taskorch.core.engine._work import Emitted, task_of
from taskorch.errors import (
    InvalidTaskError,
    JournalUnavailableError,
    NotRunningError,
    TaskorchError,
)
from taskorch.events import (
    KEPT,
    Event,
    EventEmitted,
    EventsLost,
    ReceiverFailed,
    TaskCompleted,
    TaskSubmitted,
)
from taskorch.kit.visible import counted, show
from taskorch.model import Task
from taskorch.protocols import Projection

if TYPE_CHECKING:
    from taskorch.core.engine._runtime import Runtime

#: A report that one of these could not be taken could not be taken either.
_OF_RECEIVERS: Final = (ReceiverFailed, EventsLost)


class Following(Receiver):
    """
    The listener of one projection that follows.

    Args:
        rt: The runtime of the orchestrator.
        projection: The projection.
    """

    __slots__ = (
        "_hole",
        "_is_marked",
        "_is_ready",
        "_lock",
        "_position",
        "_projection",
        "_rt",
        "can_read_again",
        "classes",
    )

    is_projection = True

    def __init__(self, rt: Runtime, projection: Projection) -> None:
        super().__init__(PROJECTION, self._take)
        self.name = type(projection).__name__
        self.can_read_again = rt.committer is not None
        self.classes: frozenset[type[Event]] = _wanted(projection)
        self._rt = rt
        self._projection = projection
        #: The number of the last event that was taken, or is not wanted.
        self._position = projection.position
        #: Guards the three attributes below.
        self._lock = threading.Lock()
        #: The highest number of an event that was not passed on, or may not have been.
        self._hole = 0
        #: Whether the publisher has been given a mark to look for that.
        self._is_marked = False
        #: Whether the past has been read; until then no published event is taken.
        self._is_ready = False

    # -- the beginning -------------------------------------------------------------

    def join(self) -> None:
        """Listen to coming events; read the past now, or when work begins."""
        rt = self._rt
        publisher = rt.publisher
        with rt._changing:
            publisher.projections = (*publisher.projections, self)
        rt.receivers_changed()
        with rt.lock:
            has_begun = rt.started or rt.committer is None
        if has_begun:
            try:
                self.begin()
            except BaseException:
                self.close()
                raise

    def begin(self) -> None:
        """
        Read the past; from then on it takes published events.

        Raises:
            JournalError: The journal cannot be read.
            InvalidTaskError: It has taken more than the journal has.
        """
        rt, projection = self._rt, self._projection
        committer = rt.committer
        with rt.lock:
            last = rt.kernel.seq if committer is None else committer.last
        self._position = projection.position
        if committer is None:
            # Numbers begin anew in each incarnation without a journal.
            self._position = projection.position = last
        elif self._position > last:
            msg = f"{self.name} is at event {self._position}: the last is {last}"
            hint = "it belongs to another journal: begin anew, with position=0"
            raise InvalidTaskError(msg, hint=hint)
        else:
            self._moved(max(self._position, last - projection.past))
            # Events on their way now may not have been wanted by any listener.
            with suppress(JournalUnavailableError):
                committer.wait_kept(last)
            self.miss(last)
            self._mend()
        with self._lock:
            self._is_ready, self._is_marked = True, self._hole > self._position
        if self._is_marked:
            # A projection that is slower than the events would never come to the end
            # here.
            with rt.lock:
                rt.publisher.put([(self, None)])

    def close(self) -> None:
        """Take no more events."""
        rt = self._rt
        publisher = rt.publisher
        with rt._changing:
            publisher.projections = tuple(
                each for each in publisher.projections if each is not self
            )
        with self._lock:
            self._is_ready = False
        rt.receivers_changed()

    # -- what is told --------------------------------------------------------------

    def entry(self, event: Event, cargo: Any) -> tuple[Event, Any]:
        """Return *event* and the document that a journal has beside it."""
        document: Any = None
        if type(event) is TaskSubmitted:
            with self._rt.lock:
                row = self._rt.kernel.tasks.get(event.task_id)
                if row is not None and row.cargo is cargo:
                    document = task_of(row)
        elif type(event) is EventEmitted and isinstance(cargo, Emitted):
            document = cargo.value
        return event, document

    def miss(self, seq: int) -> bool:
        """Note that an event is not passed on; return whether to mark its place."""
        if not self.can_read_again:
            return super().miss(seq)
        with self._lock:
            self._hole = max(self._hole, seq)
            is_marked, self._is_marked = self._is_marked, True
            return not is_marked

    def _take(self, entry: tuple[Event, Any] | None) -> None:
        """Take the next event, or a mark; on a publishing thread."""
        rt = self._rt
        seq = 0 if entry is None else entry[0].seq
        with self._lock:
            self._is_marked = self._is_marked and entry is not None
            # An event about trouble with the journal is published before it is kept.
            if not self._is_ready or self._is_early(seq):
                self._hole = max(self._hole, seq)
                return
            is_behind = self._hole > self._position
        if is_behind:
            try:
                self._mend()
            except TaskorchError as error:
                if not rt.closed:
                    rt.publisher.failed(self, error)
                with self._lock:
                    self._hole = max(self._hole, seq)
                return
        if entry is not None and seq > self._position:
            self._give(*entry)

    def _is_early(self, seq: int) -> bool:
        committer = self._rt.committer
        return committer is not None and seq > committer.commits.committed

    def _mend(self) -> None:
        """Take the events of the journal from the position on, to the last kept."""
        committer = self._rt.committer
        if committer is None:
            return
        last = committer.commits.committed
        for event, value in committer.journal.read(self._position):
            if event.seq > last:
                break
            if type(event) in self.classes:
                self._give(*_as_told(event, value))
        self._moved(last)

    def _give(self, event: Event, document: Any) -> None:
        # The position moves first: an interrupt of the call is no reason to repeat it.
        self._position = event.seq
        try:
            self._projection.take(event, document)
        except Exception as error:  # noqa: BLE001 - a projection harms nobody
            if not isinstance(event, _OF_RECEIVERS):
                self._rt.publisher.failed(self, error)
        self._moved(event.seq)

    def _moved(self, seq: int) -> None:
        self._position = max(self._position, seq)
        self._projection.position = max(self._projection.position, seq)

    # -- how it is -----------------------------------------------------------------

    def trouble(self) -> str:
        """Return how far it is behind, if it is slow or has a hole; else ""."""
        if not (self.own and self.busy) and self._hole <= self._position:
            return ""
        if not self.can_read_again:
            return self.name
        behind = max(self._hole - self._position, len(self.backlog))
        return f"{self.name}, {counted(behind, 'event')} behind"


def follow(rt: Runtime, projection: Projection) -> Callable[[], None]:
    """
    Let *projection* follow; return a function that ends it.

    Raises:
        InvalidTaskError: It is malformed, or has taken more than the journal has.
        JournalError: The journal cannot be read.
        NotRunningError: The orchestrator has stopped.
    """
    rt.deciders.refuse_reentry()
    if rt.closed:
        msg = "the orchestrator has stopped: there is nothing to follow"
        raise NotRunningError(msg, hint="a JournalReader has what has happened")
    following = Following(rt, projection)
    following.join()
    return following.close


def begin_all(rt: Runtime) -> None:
    """Let all projections read the past, since work begins."""
    for following in rt.publisher.projections:
        following.begin()


def _as_told(event: Any, value: Any) -> tuple[Event, Any]:
    """Return an entry of a journal as it would be published."""
    if type(event) is TaskCompleted:
        return event.with_result(lambda: value), None
    if type(event) is TaskSubmitted:
        if isinstance(value, Task) and value.id != event.task_id:
            value = attrs.evolve(value, id=event.task_id)
        return event, value if isinstance(value, Task) else None
    return event, value if type(event) is EventEmitted else None


def _wanted(projection: Projection) -> frozenset[type[Event]]:
    """
    Return the classes of events that *projection* wants.

    Raises:
        InvalidTaskError: It is malformed.
    """
    name = show(projection)
    if not callable(getattr(projection, "take", None)):
        msg = f"{name} has no take(event, document)"
        raise InvalidTaskError(msg, hint="see taskorch.protocols.Projection")
    if iscoroutinefunction(projection.take):
        msg = f"{name}: take is no coroutine function, since events come one by one"
        raise InvalidTaskError(msg, hint="def take(self, event, document)")
    for field in ("past", "position"):
        value = getattr(projection, field, None)
        if type(value) is not int or value < 0:
            msg = f"{field} of {name} is a whole number from 0, not {show(value)}"
            raise InvalidTaskError(
                msg, hint="inherit from taskorch.protocols.Projection"
            )
    wants: Any = getattr(projection, "wants", None)
    if wants is None:
        return KEPT
    classes = frozenset(wants) if isinstance(wants, (set, frozenset)) else None
    if classes is None or not classes <= KEPT:
        strange = show(wants if classes is None else sorted(map(show, classes - KEPT)))
        msg = f"wants of {name} is a set of classes of events that are kept: {strange}"
        raise InvalidTaskError(msg, hint="orch.signals tells of all others")
    return classes
