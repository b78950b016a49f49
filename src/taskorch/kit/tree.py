"""
A tree of hashes over rows: its root says in 32 bytes what all of them are.

The tree is that of RFC 6962: a leaf is a row. It is reckoned when somebody asks for it.
Of rows that were left out, the hashes of the largest subtrees stay: so the root is the
same as before, and what is still there can be proved by it.

Decision: 0227.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from hashlib import sha256
from itertools import repeat
from typing import Any, Final, NamedTuple, TypeVar

#: A row: six values that are told apart by their texts.
R = TypeVar("R", bound=tuple[Any, ...])

#: What a leaf, and what a node of the tree begins with.
_LEAF: Final = "\0"
_NODE: Final = b"\1"
#: Hexadecimal digits of the hash over what is left of groups.
_DIGITS: Final = 32


def leaf_bytes(row: tuple[Any, ...]) -> bytes:
    """What the leaf of *row* is the hash of, but for the byte that says so."""
    a, b, c, d, e, f = row
    return f"{a}\n{b}\n{c}\n{d}\n{e}\n{f}".encode()


def leaves(rows: Iterable[tuple[Any, ...]]) -> list[bytes]:
    """The leaves of *rows*."""
    return [
        sha256(f"{_LEAF}{a}\n{b}\n{c}\n{d}\n{e}\n{f}".encode()).digest()
        for a, b, c, d, e, f in rows
    ]


def leaf_of(data: bytes) -> bytes:
    """The leaf of what `leaf_bytes` has made."""
    return sha256(_LEAF.encode() + data).digest()


def node(left: bytes, right: bytes) -> bytes:
    """The hash above two others."""
    return sha256(_NODE + left + right).digest()


class Subtree(NamedTuple):
    """
    The hash over some leaves that follow each other.

    Attributes:
        place: How many leaves are before them; a multiple of their number.
        level: Its binary logarithm.
        hash: Theirs.
    """

    place: int
    level: int
    hash: bytes

    @property
    def end(self) -> int:
        """How many leaves there are up to its last."""
        return self.place + (1 << self.level)


def joined(subtrees: Iterable[Subtree]) -> list[Subtree]:
    """*Subtrees*, which are in order, where two that belong together are one."""
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
    """The root above *subtrees*, which follow each other; b"" if there are none."""
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
    The leaves of a group, in order.

    Args:
        rows: Those that are there.
        size: How many leaves there are up to its last.
        gone: Those that are not.

    Yields:
        A leaf, and its row; or what is gone, and None.
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


# -- what is left of groups of rows ----------------------------------------------------


def gone_text(gone: Iterable[Subtree], head: str, texts: Iterable[bytes]) -> str:
    """
    What is kept of the rows that were left out.

    Args:
        gone: Their hashes.
        head: What else is kept of the groups that they were in.
        texts: What the sum of the rows that are left is made of.
    """
    words = [f"{each.place}:{each.level}:{each.hash.hex()}" for each in gone]
    digest = sha256(" ".join((head, *words, "")).encode())
    for text in texts:
        digest.update(text)
    return " ".join((digest.hexdigest()[:_DIGITS], *words))


def gone_of(text: str) -> list[Subtree]:
    """
    The hashes of rows that were left out, as `gone_text` has written them.

    Raises:
        ValueError: It has not.
    """
    subtrees = []
    for word in text.split(" ")[1:]:
        place, level, digest = word.split(":")
        subtrees.append(Subtree(int(place), int(level), bytes.fromhex(digest)))
    return subtrees
