"""Where the facts are kept."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol, TypeAlias, runtime_checkable

from taskorch.events import Fact

__all__ = ("Entry", "Journal")

#: A fact, and what the orchestrator keeps beside it: the task of a submission, the
#: result of a completion; None for most.
Entry: TypeAlias = tuple[Fact, Any]


@runtime_checkable
class Journal(Protocol):
    """
    Protocol: keeps the facts, in groups.

    One orchestrator at a time owns a journal. It is called from one thread at a time.

    Laws:
        1. What `append` has returned from is read back: equal, whole and in order,
           by whoever opens the journal next.
        2. A group is kept whole or not at all.
        3. After `append` has raised `JournalUnavailableError`, the same group may be
           appended again, and is then kept once, whatever had become of it before.
        4. `claim` gives numbers that rise. An `append` of an earlier owner raises
           `JournalTakenError`, and keeps nothing.
        5. The numbers of the facts rise. A group that begins at or below the last
           number kept is refused with a ValueError, and nothing of it is kept; only
           the latest group itself may come again (law 3).
        6. `read` gives the entries above a number, in order, and changes nothing.
    """

    def claim(self) -> int:
        """
        Own the journal from now on.

        Returns:
            The number of this life of the orchestrator, from 1: its *epoch*.

        Raises:
            JournalUnavailableError: It cannot be written.
        """
        ...

    def append(self, epoch: int, group: Sequence[Entry]) -> None:
        """
        Keep *group*, all of it or nothing; it is safe when this returns.

        Args:
            epoch: What `claim` gave to the caller.
            group: Entries in the order of their numbers; an empty one does nothing.

        Raises:
            JournalUnavailableError: It cannot be written now; whether the group was
                kept is not known.
            JournalTakenError: Somebody else has claimed it since.
            ValueError: The numbers do not follow those that are kept.
        """
        ...

    def read(self, after: int = 0) -> Iterator[Entry]:
        """The entries whose facts have a number above *after*, in order."""
        ...

    def close(self) -> None:
        """Let go of it; what was kept stays kept. Closing twice does no harm."""
        ...
