"""The journal in memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from taskorch.errors import JournalTakenError
from taskorch.events import Event
from taskorch.protocols import Entry


class MemoryJournal:
    """
    The Journal that keeps events while the process lives, if asked to.

    Args:
        keep_events: True keeps every event (some 300 bytes each); False, the
            default, keeps none: the state and the histories of tasks do without.
    """

    def __init__(self, *, keep_events: bool = False) -> None:
        self.keep_events = keep_events
        self._entries: list[Entry] = []
        self._epoch = 0
        self._latest: list[Entry] = []

    def claim(self) -> int:
        """See `Journal.claim`."""
        self._epoch += 1
        return self._epoch

    @property
    def is_owned(self) -> bool:
        """Whether an orchestrator has claimed the journal."""
        return self._epoch > 0

    def document(self, value: object) -> object:
        """See `Journal.document`: *value* itself."""
        return value

    def append(self, epoch: int, group: Sequence[Entry]) -> None:
        """See `Journal.append`; without `keep_events`, it only checks the numbers."""
        if epoch != self._epoch:
            msg = f"the journal belongs to incarnation {self._epoch}, not {epoch}"
            raise JournalTakenError(msg)
        if not group:
            return
        # A group that raises while it is read must leave nothing behind.
        entries = list(group)
        first = entries[0][0].seq
        last = self._latest[-1][0].seq if self._latest else 0
        if first <= last:
            if entries == self._latest:
                return
            msg = f"event {first} comes after event {last} was kept"
            raise ValueError(msg)
        if self.keep_events:
            self._entries += entries
        self._latest = entries

    def read(self, after: int = 0) -> Iterator[Entry]:
        """See `Journal.read`."""
        for entry in self._entries:
            if entry[0].seq > after:
                yield entry

    def close(self) -> None:
        """Close the journal, which holds no file."""

    def events(self, after: int = 0) -> Iterator[Event]:
        """Yield the events with a number above *after*, in order."""
        for event, _ in self.read(after):
            yield event

    def __len__(self) -> int:
        return len(self._entries)
