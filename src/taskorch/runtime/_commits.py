"""
Commit, then release: which facts are kept, and who waits for that.

It does no input or output: the driver asks for the group that is to be appended, and
says what became of it. It holds a lock around every call.

Decision: 0015.
"""

from __future__ import annotations

from collections.abc import Callable, Sized
from heapq import heappop, heappush
from typing import Generic, TypeAlias, TypeVar, cast

G = TypeVar("G", bound=Sized)

#: What is to be done once a fact is kept.
Release: TypeAlias = Callable[[], object]


class Commits(Generic[G]):
    """
    Facts on their way into the journal: in groups, one at a time.

    A group that could not be written stays in hand, exactly as it is, until it could:
    meanwhile no other is begun, and what comes is pending behind it.

    Args:
        committed: The number of the last fact that is kept already.
        make: What makes a new group; None makes lists.
    """

    __slots__ = (
        "_failed",
        "_group",
        "_make",
        "_nothing",
        "_number",
        "_waiting",
        "committed",
        "pending",
    )

    def __init__(self, committed: int = 0, make: Callable[[], G] | None = None) -> None:
        self._make = cast("Callable[[], G]", list if make is None else make)
        #: The number of the last fact that is kept.
        self.committed: int = committed
        #: What is in no group yet.
        self.pending: G = self._make()
        #: What is in hand if nothing is.
        self._nothing: G = self._make()
        self._group: G = self._nothing
        self._failed: bool = False
        self._waiting: list[tuple[int, int, Release]] = []
        self._number: int = 0

    @property
    def degraded(self) -> bool:
        """Whether a group could not be written, and is still in hand."""
        return self._failed

    def when(self, seq: int, release: Release) -> None:
        """Call *release* once the fact number *seq* is kept: now, if it is."""
        if seq <= self.committed:
            release()
            return
        self._number += 1
        heappush(self._waiting, (seq, self._number, release))

    def begin(self) -> G | None:
        """
        The next group to append, which is all that is pending.

        None if there is nothing, or if another is in hand: then it is its turn.
        """
        if self._group or not self.pending:
            return None
        self._group, self.pending = self.pending, self._make()
        return self._group

    @property
    def in_hand(self) -> G:
        """The group that was begun and is not kept yet; empty if there is none."""
        return self._group

    def failed(self) -> None:
        """The group in hand could not be written, or nobody knows whether it was."""
        self._failed = True

    def succeeded(self, last: int) -> list[Release]:
        """The group in hand is kept, to fact *last*: what is to be done, in order."""
        self.committed = last
        self._group = self._nothing
        self._failed = False
        waiting = self._waiting
        released: list[Release] = []
        while waiting and waiting[0][0] <= self.committed:
            released.append(heappop(waiting)[2])
        return released
