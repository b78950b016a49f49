"""A journal that survives the crash of a simulated orchestrator."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from taskorch.errors import JournalTakenError
from taskorch.protocols import Entry


class _Mark:
    """A mark at the end of a group; a group without it was never kept."""


_MARK: Final = _Mark()


class SimulatedJournal:
    """
    A journal that keeps entries as a disk would, with a mark behind each group.

    A group whose mark is missing was torn by a crash: `read` does not show it, and
    the next owner cuts it off.
    """

    def __init__(self) -> None:
        self._frames: list[Entry | _Mark] = []
        self._epoch: int = 0
        self._latest: list[Entry] = []

    def claim(self) -> int:
        """See `Journal.claim`."""
        self._cut()
        self._epoch += 1
        return self._epoch

    def document(self, value: object) -> object:
        """See `Journal.document`: *value* itself."""
        return value

    def append(self, epoch: int, group: Sequence[Entry]) -> None:
        """See `Journal.append`."""
        self._check_owner(epoch)
        if not group:
            return
        # A group that raises an error while it is read must leave nothing behind.
        group = list(group)
        first = group[0][0].seq
        if first <= self.last:
            if group == self._latest:
                # The group was kept before, and the writer was not told.
                return
            msg = f"event {first} comes after event {self.last} was kept"
            raise ValueError(msg)
        self._cut()
        self._frames += group
        self._frames.append(_MARK)
        self._latest = group

    def tear(self, epoch: int, group: Sequence[Entry], frames: int) -> None:
        """Write the first *frames* of *group*, as if the power failed then."""
        if frames > len(group):
            self.append(epoch, group)
            return
        self._check_owner(epoch)
        self._cut()
        self._frames += group[:frames]

    def read(self, after: int = 0) -> Iterator[Entry]:
        """See `Journal.read`."""
        group: list[Entry] = []
        for frame in list(self._frames):
            if not isinstance(frame, _Mark):
                group.append(frame)
                continue
            yield from (entry for entry in group if entry[0].seq > after)
            group = []

    def close(self) -> None:
        """Close the journal, which holds no file."""

    @property
    def last(self) -> int:
        """The number of the last event that is kept, or 0."""
        return self._latest[-1][0].seq if self._latest else 0

    @property
    def is_torn(self) -> bool:
        """True if the last group was not written to its end."""
        return bool(self._frames) and self._frames[-1] is not _MARK

    def __len__(self) -> int:
        return sum(1 for _ in self.read())

    def _cut(self) -> None:
        while self.is_torn:
            self._frames.pop()

    def _check_owner(self, epoch: int) -> None:
        if epoch != self._epoch:
            msg = f"the journal belongs to incarnation {self._epoch}, not {epoch}"
            raise JournalTakenError(msg)
