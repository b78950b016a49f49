"""
Projections: facts from a number on, over the journal and then as they are published.

A projection is one receiver of all the facts that it wants. The number of each says
whether it was taken already. Facts that were not told, since the projection began later
or was too slow, lie in a hole: the journal is read over it before the next fact is
taken. So nothing keeps a list of what comes meanwhile.

Decision: 0258.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from inspect import iscoroutinefunction
from typing import TYPE_CHECKING, Any, Final

import attrs

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
from taskorch.runtime._publisher import PROJECTION, Receiver
from taskorch.runtime._work import Emitted, task_of

if TYPE_CHECKING:
    from taskorch.runtime._runtime import Runtime

#: To say that one of these was taken badly would be taken badly, too.
_OF_RECEIVERS: Final = (ReceiverFailed, EventsLost)


class Following(Receiver):
    """
    One projection that follows: its receiver.

    Args:
        rt: Of the orchestrator.
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
        #: The number of the last fact that was taken, or is not wanted.
        self._position = projection.position
        #: Guards the three below.
        self._lock = threading.Lock()
        #: The highest number of a fact that was not told, or may not have been.
        self._hole = 0
        #: Whether the publisher has been given a mark to look for that.
        self._is_marked = False
        #: Whether the past has been read: until then nothing is taken that is told.
        self._is_ready = False

    # -- the beginning -------------------------------------------------------------

    def join(self) -> None:
        """Hear of what comes, and read the past, if work has begun; else as it does."""
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
        Read the past; from then on it takes what is told.

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
            # Numbers begin anew in each life.
            self._position = projection.position = last
        elif self._position > last:
            msg = f"{self.name} is at event {self._position}: the last is {last}"
            hint = "it belongs to another journal: begin anew, with position=0"
            raise InvalidTaskError(msg, hint=hint)
        else:
            self._moved(max(self._position, last - projection.past))
            # What is on its way now may have been wanted by nobody.
            with suppress(JournalUnavailableError):
                committer.wait_kept(last)
            self.miss(last)
            self._mend()
        with self._lock:
            self._is_ready, self._is_marked = True, self._hole > self._position
        if self._is_marked:
            # One that is slower than the events are would never come to the end here.
            with rt.lock:
                rt.publisher.put([(self, None)])

    def close(self) -> None:
        """Take no more."""
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
        """*event*, and what a journal has beside it."""
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
        """The fact of this number is not told; whether to mark its place."""
        if not self.can_read_again:
            return super().miss(seq)
        with self._lock:
            self._hole = max(self._hole, seq)
            is_marked, self._is_marked = self._is_marked, True
            return not is_marked

    def _take(self, entry: tuple[Event, Any] | None) -> None:
        """On the thread that publishes, or one of its own: the next fact, or a mark."""
        rt = self._rt
        seq = 0 if entry is None else entry[0].seq
        with self._lock:
            self._is_marked = self._is_marked and entry is not None
            # One that tells of trouble with the journal is told before it is kept.
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
        """Take what the journal has beyond the position, to the last that is kept."""
        committer = self._rt.committer
        if committer is None:
            return
        last = committer.commits.committed
        for fact, value in committer.journal.read(self._position):
            if fact.seq > last:
                break
            if type(fact) in self.classes:
                self._give(*_as_told(fact, value))
        self._moved(last)

    def _give(self, event: Event, document: Any) -> None:
        # Before the call: an interrupt of it is no reason to repeat it.
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
        """How far it is behind, if it is slow or has a hole; else ""."""
        if not (self.own and self.busy) and self._hole <= self._position:
            return ""
        if not self.can_read_again:
            return self.name
        behind = max(self._hole - self._position, len(self.backlog))
        return f"{self.name}, {counted(behind, 'event')} behind"


def follow(rt: Runtime, projection: Projection) -> Callable[[], None]:
    """
    Have *projection* follow; what ends that.

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
    """Work begins: each that follows already reads the past."""
    for following in rt.publisher.projections:
        following.begin()


def _as_told(fact: Any, value: Any) -> tuple[Event, Any]:
    """An entry of a journal, as it would be told."""
    if type(fact) is TaskCompleted:
        return fact.with_result(lambda: value), None
    if type(fact) is TaskSubmitted:
        if isinstance(value, Task) and value.id != fact.task_id:
            value = attrs.evolve(value, id=fact.task_id)
        return fact, value if isinstance(value, Task) else None
    return fact, value if type(fact) is EventEmitted else None


def _wanted(projection: Projection) -> frozenset[type[Event]]:
    """
    The classes of facts that *projection* wants.

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
