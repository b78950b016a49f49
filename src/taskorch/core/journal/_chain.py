"""
The chain of hashes that proves a journal; `kit.tree` has the one over its rows.

The hash of a group continues that of the group before it, over the bytes whose checksum
is kept beside it. So a changed row shows, and so do all changes after it.

Decision: proofs-of-a-journal.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import sha256
from typing import NamedTuple


class ChainStart(NamedTuple):
    """
    Beginning of the chain of a journal.

    Attributes:
        log: The id of the journal, which its copies share.
        after: The number of the last event that is not in it: an earlier version wrote
            those.
    """

    log: str
    after: int

    @property
    def text(self) -> str:
        """The text of the start, as the journal has it."""
        return f"{self.log} {self.after}"

    @property
    def hash(self) -> bytes:
        """The hash that the first group continues."""
        return sha256(f"taskorch {self.text}\n".encode()).digest()


def link(previous: bytes, numbers: Iterable[int], texts: Iterable[bytes]) -> bytes:
    """
    Return the hash of a group.

    Args:
        previous: The hash of the group before it.
        numbers: The numbers that are kept of it: see `_reader.GroupRow`.
        texts: The bytes that its checksum covers.
    """
    head = " ".join(map(str, numbers)).encode()
    return sha256(b"".join((previous, head, b"\n", *texts))).digest()
