"""A journal of the user's that keeps facts, and can be asked for nothing else."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from taskorch.events import make
from taskorch.protocols import DurableJournal, Entry, Journal


class BareJournal(DurableJournal):
    """
    A `Journal` in the place of a `DurableJournal`: it has no snapshots.

    It is asked for no task: all of it would be read each time.
    """

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    def claim(self) -> int:
        return self._journal.claim()

    def document(self, value: object) -> object:
        return self._journal.document(value)

    def append(self, epoch: int, group: Sequence[Entry]) -> None:
        self._journal.append(epoch, group)

    def read(self, after: int = 0) -> Iterator[Entry]:
        # It may give back plain tuples, which are equal to facts.
        return ((make(fact), value) for fact, value in self._journal.read(after))

    def close(self) -> None:
        self._journal.close()

    def save(self, epoch: int, seq: int, state: dict[str, Any]) -> None:
        """Keep nothing."""

    def snapshot(self) -> None:
        """None: there are no snapshots."""

    def description(self) -> str:
        """Name of the journal, and what is lost with it."""
        name = type(self._journal).__name__
        return f"{name} is no DurableJournal: what has left memory is forgotten"
