"""Where the facts are kept."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any, Protocol, TypeAlias, runtime_checkable

from taskorch.events import Fact

#: A fact, and what the orchestrator keeps beside it: the task of a submission, the
#: result of a completion; None for most.
Entry: TypeAlias = tuple[Fact, Any]


@runtime_checkable
class Journal(Protocol):
    """
    Protocol: keeps the facts, in groups.

    One orchestrator at a time owns a journal. It is called from one thread at a time,
    but for `document`.

    One that can also be asked what it keeps is a `DurableJournal`. Any other is asked
    no more than this: then tasks that have left memory are forgotten.

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
        7. What `document` accepted, `append` keeps, and `read` gives back equal to what
           the value was when `document` was called. Only a journal in memory may give
           back the value itself, whatever has become of it.
    """

    @abstractmethod
    def claim(self) -> int:
        """
        Own the journal from now on.

        Returns:
            The number of this life of the orchestrator, from 1: its *epoch*.

        Raises:
            JournalUnavailableError: It cannot be written.
        """
        ...

    @abstractmethod
    def document(self, value: object) -> object:
        """
        What `append` is given beside a fact in the place of *value*.

        It is a snapshot of it, taken now. It may be asked for from any thread, also
        while `append` runs. None gives None.

        Raises:
            InvalidTaskError: *value* cannot be kept; the message says what in it, as
                in `payload.items[2].when`.
        """
        ...

    @abstractmethod
    def append(self, epoch: int, group: Sequence[Entry]) -> None:
        """
        Keep *group*, all of it or nothing; it is safe when this returns.

        Args:
            epoch: What `claim` gave to the caller.
            group: Entries in the order of their numbers; an empty one does nothing.
                Beside a fact stands a value, or what `document` made of it.

        Raises:
            InvalidTaskError: A value cannot be kept; nothing of the group was.
            JournalUnavailableError: It cannot be written now; whether the group was
                kept is not known.
            JournalTakenError: Somebody else has claimed it since.
            ValueError: The numbers do not follow those that are kept.
        """
        ...

    @abstractmethod
    def read(self, after: int = 0) -> Iterator[Entry]:
        """The entries whose facts have a number above *after*, in order."""
        ...

    @abstractmethod
    def close(self) -> None:
        """Release it; what was kept stays kept. Closing twice does no harm."""
        ...
