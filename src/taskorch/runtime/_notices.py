"""
What went wrong where nobody is told: records of the logger `taskorch`, and health.

The logger is never configured here: without a handler of the user's, Python prints
what is a warning or worse.
"""

from __future__ import annotations

import logging
import sys
import threading
import weakref
from collections import deque
from collections.abc import Mapping
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

from taskorch._visible import visible
from taskorch.events import TaskFailed
from taskorch.model import HealthCheck, StopReport
from taskorch.runtime._kept import trace_of
from taskorch.runtime._work import Work, extra_of, raised_by

if TYPE_CHECKING:
    from taskorch.kernel import TaskRow
    from taskorch.runtime._publisher import Receiver
    from taskorch.runtime._runtime import Runtime

__all__ = ("Notices", "told_of_log")

_LOG: Final = logging.getLogger("taskorch")
#: Seconds between two records of the same kind.
_PAUSE: Final = 10.0
#: Kinds that are remembered.
_MANY: Final = 1_000
#: Failed tasks that are named one by one at the end, and in one line of health.
_SHOWN: Final = 10
_NAMED: Final = 3
#: Causes of a failure that somebody has said, or that are told in another way.
_KNOWN: Final = frozenset({"decision", "internal", "dependency"})


class Notices:
    """
    What there is to say of one runtime.

    A task that failed is noted until somebody asks for its result or its status, and
    said when nobody can any more: when its handle is gone, or at the end.
    """

    def __init__(self, runtime: Runtime) -> None:
        self._rt = runtime
        #: Failed tasks that nobody has asked for, by id.
        self._failed: dict[str, Work] = {}
        #: Those of which somebody is told in this very step.
        self._told: set[str] = set()
        #: Those that have left memory, while somebody has their handles.
        self._away: dict[str, weakref.finalize[Any, Work]] = {}
        #: What has to be said, when the lock is free.
        self.due: deque[tuple[str, str]] = deque()
        #: Tasks that were said, and the latest of them.
        self._unasked = 0
        self._names: deque[str] = deque(maxlen=_NAMED)
        #: Calls of receivers that raised, and what the latest was.
        self._raised = 0
        self._latest = ""
        #: Executors of the user's that have broken, and how.
        self._broken: dict[str, str] = {}
        #: What held up all others when somebody last asked.
        self._blocked: set[str] = set()
        #: How the block ended, if its time was over.
        self.cut_short = ""
        #: Of each kind, when it was said, and how often it was not since.
        self._said: dict[object, tuple[float, int]] = {}
        self._lock = threading.Lock()
        self._is_closed = False

    # -- tasks that failed ---------------------------------------------------------

    def note_failed(self, row: TaskRow, work: Work) -> None:
        """Under the lock: *row* has failed."""
        if row.id in self._told:
            self._told.discard(row.id)
            return
        more, extra, links = row.more, work._extra, row.links
        cause = "" if more is None or more.error is None else more.error[2]
        if (
            cause in _KNOWN
            or (extra is not None and extra.is_watched)
            or TaskFailed in self._rt.publisher.receivers
            # What goes on after a failure is how the user deals with it.
            or (links is not None and any(map(_has_terms, links.dependents)))
        ):
            return
        self._failed[row.id] = work

    def note_told(self, row: TaskRow) -> None:
        """Under the lock: *row* has failed, and those who wait for it are told now."""
        self._told.add(row.id)

    def ask(self, work: Work) -> None:
        """Somebody asks why *work* has failed, from any thread."""
        if self._failed or self._away:
            name = work._row.id
            self._failed.pop(name, None)
            away = self._away.pop(name, None)
            if away is not None:
                away.detach()

    def ignore(self, work: Work) -> None:
        """Nobody will ask for *work*, and nobody needs to."""
        extra_of(work).is_watched = True
        self.ask(work)

    def forget(self, name: str, work: Work) -> None:
        """Under the lock: *work* leaves memory; whoever has the handle may ask yet."""
        if self._failed.pop(name, None) is not None:
            # Not the error itself: its frames may hold the handle, which then stays.
            text = _told(name, work)
            self._away[name] = weakref.finalize(work, self._gone, name, text)

    def _gone(self, name: str, text: str) -> None:
        if self._away.pop(name, None) is not None:
            self.due.append((name, text))
        # In the middle of anything: while it runs, handlers of the log's are called
        # later.
        if self._is_closed:
            self.say_due()

    def hand_over(self) -> None:
        """Under the lock: let the publisher say what is due."""
        self._rt.publisher.put([(self.say_due, None)])

    def say_due(self, _nothing: None = None) -> None:
        """Say what is due, on the publisher's thread or at the end."""
        while self.due:
            name, text = self.due.popleft()
            self._count(name)
            self._say("unasked", text)

    def close(self) -> None:
        """The orchestrator has stopped: say what failed, if nobody can ask any more."""
        self._is_closed = True
        self.say_due()
        shown = more = 0
        failed, self._failed = self._failed, {}
        for name in list(failed):
            work = failed[name]
            if _references(failed, name) > _OURS + _count_below(work):
                # Somebody has its handle, and may ask yet, but not after the exit.
                text = _told(name, work)
                self._away[name] = weakref.finalize(work, _LOG.error, "%s", text)
                continue
            self._count(name)
            if shown < _SHOWN:
                shown += 1
                _LOG.error("%s", _told(name, work))
            else:
                more += 1
        if more:
            _LOG.error("%d more tasks failed, and nobody asked for their results", more)

    def _count(self, name: str) -> None:
        self._unasked += 1
        self._names.append(name)

    # -- others --------------------------------------------------------------------

    def receiver_failed(self, receiver: Receiver, error: BaseException) -> None:
        """A receiver or a callback raised *error*."""
        what, where = _who(receiver)
        self._raised += 1
        self._latest = f"{receiver.name}: {type(error).__name__}"
        text = f"{what}{where}, {receiver.name}, raised {type(error).__name__}"
        self._say((receiver.signal, receiver.name), text, error)

    def executor_broke(self, name: str, error: BaseException) -> None:
        """An executor of the user's broke."""
        self._broken[name] = f"{type(error).__name__}: {error}"
        text = f"the executor {name!r} broke, and what ran there is lost: {error}"
        self._say(("executor", name), text, error)

    def executor_works(self, name: str) -> None:
        """It does again, or still."""
        if self._broken:
            self._broken.pop(name, None)

    def log_is_held(self, size: int) -> None:
        """The log of the journal grows, since somebody reads what it holds."""
        self._say("log", told_of_log(size))

    def policy_was_slow(self, slow: tuple[str, float]) -> None:
        """A policy has taken long: its name, and its seconds."""
        name, seconds = slow
        self._say(("slow", name), f"the {name} took {seconds:.1f} s for one answer")

    def receiver_was_slow(self, receiver: Receiver, seconds: float) -> None:
        """A receiver or a callback has taken long; the others did not wait for it."""
        what, where = _who(receiver)
        text = f"{what}{where}, {receiver.name}, took {seconds:.1f} s for one call"
        self._say(("slow", receiver.signal, receiver.name), text)

    def are_blocked(self, found: Mapping[str, str]) -> None:
        """What holds up all others now, a policy or a coroutine, and why."""
        for name in self._blocked - found.keys():
            self._blocked.discard(name)
            _LOG.info("the %s answers again, and holds nobody up any more", name)
        for name, text in found.items():
            self._blocked.add(name)
            self._say(("blocked", name), text)

    def no_room(self, why: str) -> None:
        """The system has no room for what was to begin."""
        text = f"the system has no room for more, and it is tried again: {why}"
        self._say("room", text)

    def has_room(self) -> None:
        """It has again."""
        _LOG.info("the system has room again for all that may run at once")

    def block_ended(self, report: StopReport) -> None:
        """A `with` block has ended; say so if that was by its `stop_timeout`."""
        if report.drained or not report.left:
            return
        count = len(report.left)
        names = ", ".join(f"{u.task_id} ({u.state})" for u in report.left[:_NAMED])
        more = f" and {count - _NAMED} more" if count > _NAMED else ""
        were = "1 task was" if count == 1 else f"{count} tasks were"
        self.cut_short = f"stop_timeout was over, and {were} left"
        _LOG.warning(
            "the block ended since its stop_timeout was over; left: %s%s", names, more
        )

    def _say(self, kind: object, text: str, error: BaseException | None = None) -> None:
        """Write a record, if there was none of this *kind* a moment ago."""
        with self._lock:
            now = monotonic()
            since, untold = self._said.get(kind, (now - _PAUSE, 0))
            if now - since < _PAUSE:
                self._said[kind] = since, untold + 1
                return
            if len(self._said) > _MANY:
                self._said.clear()
            self._said[kind] = now, 0
        more = f" (and {untold} times before, since it was last said)" if untold else ""
        _LOG.error("%s%s", visible(text), more, exc_info=error)

    # -- health --------------------------------------------------------------------

    def receivers(self) -> list[str]:
        """What health says of receivers."""
        count = self._raised
        what = "1 call" if count == 1 else f"{count} calls"
        return [f"{what} raised, the last {self._latest}"] if count else []

    def checks(self) -> list[HealthCheck]:
        """What health says of what is seldom there."""
        room = self._rt.room.check()
        found = [] if room is None else [room]
        if self._broken:
            said = "; ".join(
                f"{name} broke: {why}" for name, why in self._broken.items()
            )
            found.append(HealthCheck("executors", "degraded", said))
        count = self._unasked + len(self._failed) + len(self._away)
        if count:
            names = [*self._names, *self._failed, *self._away][-_NAMED:]
            what = "1 task" if count == 1 else f"{count} tasks"
            said = f"{what} failed, and nobody has asked for the result: "
            said += ", ".join(names) + (", …" if count > len(names) else "")
            found.append(HealthCheck("failures", "ok", said))
        return found


def _who(receiver: Receiver) -> tuple[str, str]:
    """What *receiver* is, and of what."""
    if receiver.signal == "done":
        return "a done-callback", ""
    return "a receiver", f" of {receiver.signal}"


def told_of_log(size: int) -> str:
    """What there is to say of a log of so many bytes that cannot be moved."""
    return (
        f"the log beside the journal has {size / 2**20:.0f} MiB and grows: somebody "
        "has read the journal for so long that it cannot be emptied; end what reads it "
        "(a tool, a backup, a program that was left), and it is emptied"
    )


def _references(table: dict[str, Any], name: str) -> int:
    """The references to what is in *table*; to what is nowhere else, always as many."""
    found = table[name]
    return sys.getrefcount(found)


#: References to a failed work that are ours while we look: those of an object that is
#: in a table only, one of its row, and one of whoever asks.
_OURS: Final = _references({"": object()}, "") + 2


def _has_terms(row: TaskRow) -> bool:
    return row.links is not None and row.links.terms is not None


def _count_below(work: Work) -> int:
    """The references that the works of those have that wait for *work*."""
    links = work._row.links
    below = () if links is None else links.dependents
    return sum(
        each is work
        for row in below
        if row.cargo is not None
        for each in row.cargo._above
    )


def _told(name: str, work: Work) -> str:
    error = raised_by(work)
    trace = "" if error is None else f":\n{trace_of(error).rstrip()}"
    return visible(f"task {name} failed, and nobody asked for its result{trace}")
