"""The journal in memory."""

from __future__ import annotations

from collections.abc import Iterator

from taskorch.events import Event, Fact, make

__all__ = ("MemoryJournal",)


class MemoryJournal:
    """
    Keeps events while the process lives, if asked to.

    Args:
        keep_events: True keeps every event (some 300 bytes each); False, the
            default, keeps none: the state and the histories of tasks do without.
    """

    def __init__(self, *, keep_events: bool = False) -> None:
        self.keep_events = keep_events
        self._facts: list[Fact] = []

    def append(self, facts: list[Fact]) -> None:
        """Add *facts*, in the order of their numbers."""
        if self.keep_events:
            self._facts += facts

    def events(self, after: int = 0) -> Iterator[Event]:
        """The events with a number above *after*, in order."""
        for fact in self._facts:
            if fact[1] > after:
                yield make(fact)

    def __len__(self) -> int:
        return len(self._facts)
