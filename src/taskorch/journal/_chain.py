"""
What proves a journal: a hash of each group; `kit.tree` has that over its rows.

The hash of a group goes on from that of the group before it, over the bytes whose sum
is kept beside it. So a row that was changed is found, and all that comes after it.

Decision: 0227.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import sha256
from typing import NamedTuple


class ChainStart(NamedTuple):
    """
    Where the chain of a journal begins.

    Attributes:
        log: Which journal it is; its copies have the same.
        after: The number of the last event that is not in it: an earlier version wrote
            those.
    """

    log: str
    after: int

    @property
    def text(self) -> str:
        """As it is kept."""
        return f"{self.log} {self.after}"

    @property
    def hash(self) -> bytes:
        """The hash that the first group goes on from."""
        return sha256(f"taskorch {self.text}\n".encode()).digest()


def link(previous: bytes, numbers: Iterable[int], texts: Iterable[bytes]) -> bytes:
    """
    The hash of a group.

    Args:
        previous: That of the group before it.
        numbers: What is kept of it: see `_reader.GroupRow`.
        texts: What its sum is made of.
    """
    head = " ".join(map(str, numbers)).encode()
    return sha256(b"".join((previous, head, b"\n", *texts))).digest()
