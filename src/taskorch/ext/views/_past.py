"""A journal as of an earlier moment: later events are not read."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from datetime import datetime
from typing import Any, NoReturn, cast

from taskorch.core.journal import SqlJournal
from taskorch.errors import InvalidTaskError, JournalTakenError
from taskorch.events import (
    Event,
    OrchestratorStarted,
    TaskCancelled,
    TaskCompleted,
    TaskFailed,
)
from taskorch.kit.visible import show
from taskorch.kit.words import ns_of
from taskorch.model import TaskFilter
from taskorch.protocols import DurableJournal, Entry

_ENDS = TaskCompleted, TaskFailed, TaskCancelled


class PastJournal(DurableJournal):
    """
    A read-only view of *journal* up to the event *until*.

    Args:
        journal: The journal, which may grow meanwhile.
        until: The number of the last event that is read.
        now_ns: The time at that moment.
    """

    def __init__(self, journal: DurableJournal, until: int, now_ns: int) -> None:
        self._journal = journal
        self.until = until
        self.now_ns = now_ns

    def read(self, after: int = 0) -> Iterator[Entry]:
        """See `Journal.read`."""
        for entry in self._journal.read(after):
            if entry[0].seq > self.until:
                return
            yield entry

    def select(self, ids: Collection[str], until: int) -> Iterator[Entry]:
        """See `DurableJournal.select`."""
        return self._journal.select(ids, min(until, self.until))

    def snapshot(self) -> tuple[int, dict[str, Any]] | None:
        """See `DurableJournal.snapshot`; a later one is not returned."""
        kept = self._journal.snapshot()
        return kept if kept is not None and kept[0] <= self.until else None

    def ends(self, ids: Collection[str]) -> dict[str, str]:
        """See `DurableJournal.ends`."""
        return {
            event.task_id: type(event).__name__
            for event, _ in self.select(ids, self.until)
            if isinstance(event, _ENDS)
        }

    def began(self, ids: Collection[str]) -> dict[str, int]:
        """See `DurableJournal.began`."""
        numbers = self._journal.began(ids)
        return {name: seq for name, seq in numbers.items() if seq <= self.until}

    def ended_by(self, kind: str, until: int) -> Iterator[Event]:
        """See `DurableJournal.ended_by`."""
        return self._journal.ended_by(kind, min(until, self.until))

    def ids(self, prefix: str) -> Sequence[str]:
        """See `DurableJournal.ids`."""
        names = self._journal.ids(prefix)
        return [name for name in names if any(self.select((name,), self.until))]

    def submitted(self, after: int, until: int, most: int) -> Sequence[tuple[int, str]]:
        """See `DurableJournal.submitted`."""
        return self._journal.submitted(after, min(until, self.until), most)

    def candidates(
        self,
        which: TaskFilter,
        after: int,
        until: int,
        most: int,
        *,
        newest: bool = False,
        among: Collection[str] | None = None,
    ) -> Sequence[tuple[int, str]]:
        """See `DurableJournal.candidates`."""
        until = min(until, self.until)
        return self._journal.candidates(
            which, after, until, most, newest=newest, among=among
        )

    def about(self, ids: Collection[str], until: int) -> Iterator[Entry]:
        """See `DurableJournal.about`."""
        return self._journal.about(ids, min(until, self.until))

    def last_until(self, at_ns: int) -> int:
        """See `DurableJournal.last_until`."""
        return min(self._journal.last_until(at_ns), self.until)

    def id_of_key(self, key: str) -> str | None:
        """See `DurableJournal.id_of_key`."""
        name = self._journal.id_of_key(key)
        if name is None or any(self.select((name,), self.until)):
            return name
        return super().id_of_key(key)

    def description(self) -> str:
        """See `DurableJournal.description`."""
        return f"{self._journal.description()}, as of event {self.until}"

    def logs_folder(self) -> str | None:
        """See `DurableJournal.logs_folder`."""
        return self._journal.logs_folder()

    def latest_start(self) -> OrchestratorStarted | None:
        """Return the latest start of an orchestrator up to then."""
        if isinstance(self._journal, SqlJournal):
            latest = self._journal.latest_of(OrchestratorStarted.__name__)
            if latest is None:
                return None
            if latest[0].seq <= self.until:
                return cast("OrchestratorStarted", latest[0])
        starts = [f for f, _ in self.read() if type(f) is OrchestratorStarted]
        return max(starts, key=lambda event: event.seq, default=None)

    def claim(self) -> int:
        """Refuse to claim the journal."""
        self._refuse()

    def append(self, epoch: int, group: object) -> None:
        """Refuse to write."""
        del epoch, group
        self._refuse()

    def save(self, epoch: int, seq: int, state: dict[str, Any]) -> None:
        """Refuse to write."""
        del epoch, seq, state
        self._refuse()

    def document(self, value: object) -> object:
        """See `Journal.document`."""
        return value

    def close(self) -> None:
        """Close nothing: the journal belongs to the caller."""

    def _refuse(self) -> NoReturn:
        msg = f"{self.description()}: the past can only be read"
        raise JournalTakenError(msg)


def past_of(journal: DurableJournal, at: object) -> PastJournal:
    """
    Return *journal* as of the event of a number, or as of a moment.

    Raises:
        InvalidTaskError: *at* is neither, or the journal ends before that number.
        JournalError: It cannot be read.
    """
    if type(at) is int:
        last = _last(journal)
        if not 0 <= at <= last:
            msg = f"at={at}: the journal has events 1 to {last}"
            raise InvalidTaskError(msg, hint="the numbers are those of its events")
        # A removed event has no time any more: the time of the next one is taken.
        first = next(journal.read(max(at - 1, 0)), None)
        return PastJournal(journal, at, first[0].at_ns if first else 0)
    if not isinstance(at, datetime):
        msg = f"at: the number of an event or a datetime is needed, not {show(at)}"
        raise InvalidTaskError(msg)
    now_ns = ns_of(at)
    until = journal.last_until(now_ns)
    for event, _ in journal.read(until):
        # The numbers are in the order of the times, too.
        if event.at_ns > now_ns:
            break
        until = event.seq
    return PastJournal(journal, until, now_ns)


def _last(journal: DurableJournal) -> int:
    if isinstance(journal, SqlJournal):
        return journal.last
    return max((event.seq for event, _ in journal.read()), default=0)
