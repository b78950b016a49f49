"""
Proofs by the tree over the rows of a journal, as in RFC 6962.

A proof is a list of hashes over ranges of leaves, from which the checker computes a
root that it knows.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final, TypeAlias

from taskorch.kit.tree import Subtree, joined, node, root_of

#: The first leaf, and the one behind the last.
Range: TypeAlias = tuple[int, int]

_FEW: Final = 64


def _middle(low: int, high: int) -> int:
    """Return where the two halves of the tree over some leaves meet."""
    return low + (1 << (high - low - 1).bit_length() - 1)


def inclusion(place: int, low: int, high: int) -> list[Range]:
    """Return ranges whose hashes prove that leaf *place* is in a range."""
    if high - low == 1:
        return []
    middle = _middle(low, high)
    if place < middle:
        return [*inclusion(place, low, middle), (middle, high)]
    return [*inclusion(place, middle, high), (low, middle)]


def included(place: int, low: int, high: int, leaf: bytes, path: list[bytes]) -> bytes:
    """
    Return the root that *path* leads to from *leaf*; remove the used part of *path*.

    Raises:
        IndexError: *path* is too short.
    """
    if high - low == 1:
        return leaf
    middle = _middle(low, high)
    if place < middle:
        first = included(place, low, middle, leaf, path)
        return node(first, path.pop(0))
    second = included(place, middle, high, leaf, path)
    return node(path.pop(0), second)


def consistency(old: int, low: int, high: int, *, is_whole: bool = True) -> list[Range]:
    """Return ranges whose hashes prove that the tree of *old* leaves is a prefix."""
    if old == high:
        return [] if is_whole else [(low, high)]
    middle = _middle(low, high)
    if old <= middle:
        first = consistency(old, low, middle, is_whole=is_whole)
        return [*first, (middle, high)]
    return [*consistency(old, middle, high, is_whole=False), (low, middle)]


def extended(
    old: int,
    low: int,
    high: int,
    root: bytes,
    path: list[bytes],
    *,
    is_whole: bool = True,
) -> tuple[bytes, bytes]:
    """
    Return the roots of the old and of the new tree that *path* leads to.

    Args:
        old: The number of leaves of the old one.
        low: Where the new one begins.
        high: Where it ends.
        root: The root of the old one.
        path: The hashes; those that are used are removed.
        is_whole: Whether the old tree is all that there is to the left.

    Raises:
        IndexError: *path* is too short.
    """
    if old == high:
        digest = root if is_whole else path.pop(0)
        return digest, digest
    middle = _middle(low, high)
    if old <= middle:
        before, now = extended(old, low, middle, root, path, is_whole=is_whole)
        return before, node(now, path.pop(0))
    before, now = extended(old, middle, high, root, path, is_whole=False)
    first = path.pop(0)
    return node(first, before), node(first, now)


class GrowingTree:
    """
    A tree whose leaves come in order, and its root at some sizes.

    Args:
        sizes: The sizes.
    """

    def __init__(self, sizes: Iterable[int] = ()) -> None:
        self._wanted = sorted(set(sizes), reverse=True)
        self._parts: list[Subtree] = []
        self.size = 0
        #: The roots by size; none for a size inside deleted leaves.
        self.roots: dict[int, bytes] = {}
        self._note()

    def add(self, subtrees: Sequence[Subtree]) -> None:
        """Add leaves."""
        while subtrees:
            wanted = self._wanted[-1] if self._wanted else None
            if wanted is None or subtrees[-1].end <= wanted:
                self._add(subtrees)
                return
            count = next(n for n, each in enumerate(subtrees) if each.end > wanted)
            # A subtree that reaches beyond the size has no root there.
            self._add(subtrees[: count or 1])
            subtrees = subtrees[count or 1 :]

    def _add(self, subtrees: Sequence[Subtree]) -> None:
        parts = self._parts
        for subtree in subtrees:
            place, level, digest = subtree
            while parts:
                first = parts[-1]
                if first[1] != level or first[0] ^ place != 1 << level:
                    break
                parts.pop()
                place, level, digest = first[0], level + 1, node(first[2], digest)
            parts.append(Subtree(place, level, digest))
        self.size = subtrees[-1].end
        self._note()

    def _note(self) -> None:
        while self._wanted and self._wanted[-1] <= self.size:
            wanted = self._wanted.pop()
            if wanted == self.size:
                self.roots[wanted] = self.root()

    def root(self) -> bytes:
        """Return the root over all leaves so far."""
        return root_of(self._parts)


class RangeHashes:
    """
    The hashes over some ranges of leaves that come in order.

    Args:
        ranges: The ranges, which do not overlap.
    """

    def __init__(self, ranges: Iterable[Range]) -> None:
        self._ranges = sorted(ranges)
        self._parts: dict[Range, list[Subtree]] = {each: [] for each in self._ranges}
        self._spot = 0
        #: Whether deleted leaves lie across a border, so that there is no proof.
        self.is_torn = False

    def add(self, subtrees: Iterable[Subtree]) -> None:
        """Add leaves."""
        for subtree in subtrees:
            while (
                self._spot < len(self._ranges)
                and subtree.place >= self._ranges[self._spot][1]
            ):
                self._spot += 1
            if self._spot == len(self._ranges):
                return
            low, high = self._ranges[self._spot]
            if subtree.place >= low and subtree.end <= high:
                parts = self._parts[low, high]
                parts.append(subtree)
                if len(parts) > _FEW:
                    parts[:] = joined(parts)
            elif subtree.end > low:
                self.is_torn = True

    def of(self, ranges: Iterable[Range]) -> Iterator[bytes]:
        """Yield the hashes over *ranges*."""
        for each in ranges:
            yield root_of(self._parts[each])
