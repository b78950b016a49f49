"""
A hash tree over rows: its root of 32 bytes identifies all of them.

The tree is that of RFC 6962: a leaf is a row. It is computed on request. For rows that
were left out, the hashes of the largest subtrees stay: so the root is the same as
before, and proves the remaining rows.

Decision: proofs-of-a-journal.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from hashlib import sha256
from itertools import repeat
from typing import Any, Final, NamedTuple, TypeVar

#: A row: six values that are told apart by their texts.
R = TypeVar("R", bound=tuple[Any, ...])

#: The prefixes of a leaf and of a node of the tree.
_LEAF: Final = "\0"
_NODE: Final = b"\1"
#: The hexadecimal digits of the hash over the rest of groups.
_DIGITS: Final = 32


def leaf_bytes(row: tuple[Any, ...]) -> bytes:
    """Return the bytes that are hashed for the leaf of *row*, without the prefix."""
    a, b, c, d, e, f = row
    return f"{a}\n{b}\n{c}\n{d}\n{e}\n{f}".encode()


def leaves(rows: Iterable[tuple[Any, ...]]) -> list[bytes]:
    """Return the leaves of *rows*."""
    return [
        sha256(f"{_LEAF}{a}\n{b}\n{c}\n{d}\n{e}\n{f}".encode()).digest()
        for a, b, c, d, e, f in rows
    ]


def leaf_of(data: bytes) -> bytes:
    """Return the leaf of bytes from `leaf_bytes`."""
    return sha256(_LEAF.encode() + data).digest()


def node(left: bytes, right: bytes) -> bytes:
    """Return the hash above two others."""
    return sha256(_NODE + left + right).digest()


class Subtree(NamedTuple):
    """
    The hash over some consecutive leaves.

    Attributes:
        place: The number of leaves before them; a multiple of their own number.
        level: The binary logarithm of their number.
        hash: The hash.
    """

    place: int
    level: int
    hash: bytes

    @property
    def end(self) -> int:
        """Number of leaves up to its last one."""
        return self.place + (1 << self.level)


def joined(subtrees: Iterable[Subtree]) -> list[Subtree]:
    """Return *subtrees*, which are in order, with siblings merged."""
    stack: list[Subtree] = []
    for subtree in subtrees:
        place, level, digest = subtree
        while stack:
            sibling = stack[-1]
            if sibling.level != level or sibling.place ^ place != 1 << level:
                break
            place, level, digest = sibling.place, level + 1, node(sibling.hash, digest)
            stack.pop()
        stack.append(Subtree(place, level, digest))
    return stack


def root_of(subtrees: Iterable[Subtree]) -> bytes:
    """Return the root above consecutive *subtrees*; b"" if there are none."""
    parts = joined(subtrees)
    if not parts:
        return sha256().digest()
    digest = parts[-1].hash
    for sibling in reversed(parts[:-1]):
        digest = node(sibling.hash, digest)
    return digest


def spread(
    rows: Sequence[R], size: int, gone: Sequence[Subtree]
) -> Iterator[tuple[Subtree, R | None]]:
    """
    Yield the leaves of a group, in order.

    Args:
        rows: The remaining rows.
        size: The number of leaves up to its last one.
        gone: The subtrees of rows that were left out.

    Yields:
        A leaf, and its row; or a subtree that was left out, and None.
    """
    hashes = leaves(rows)
    place = size - len(rows) - sum(1 << each.level for each in gone)
    if not gone:
        places = range(place, size)
        yield from zip(map(Subtree, places, repeat(0), hashes), rows, strict=True)
        return
    reached = 0
    for each in gone:
        while place < each.place and reached < len(rows):
            yield Subtree(place, 0, hashes[reached]), rows[reached]
            place, reached = place + 1, reached + 1
        yield each, None
        place = each.end
    for row, digest in zip(rows[reached:], hashes[reached:], strict=True):
        yield Subtree(place, 0, digest), row
        place += 1


# -- rests of groups of rows -----------------------------------------------------------


def gone_text(gone: Iterable[Subtree], head: str, texts: Iterable[bytes]) -> str:
    """
    Return the text that is kept for the rows that were left out.

    Args:
        gone: Their hashes.
        head: Further data of their groups.
        texts: The texts that the sum of the remaining rows is made of.
    """
    words = [f"{each.place}:{each.level}:{each.hash.hex()}" for each in gone]
    digest = sha256(" ".join((head, *words, "")).encode())
    for text in texts:
        digest.update(text)
    return " ".join((digest.hexdigest()[:_DIGITS], *words))


def gone_of(text: str) -> list[Subtree]:
    """
    Return the hashes of rows that were left out, from `gone_text`.

    Raises:
        ValueError: The text has another form.
    """
    subtrees = []
    for word in text.split(" ")[1:]:
        place, level, digest = word.split(":")
        subtrees.append(Subtree(int(place), int(level), bytes.fromhex(digest)))
    return subtrees
