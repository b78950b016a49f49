"""The journal that a text says: a file, or the address of a server."""

from __future__ import annotations

import os
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from taskorch._address import SCHEMES, is_address
from taskorch.errors import InvalidTaskError

if TYPE_CHECKING:
    from taskorch.journal._postgres import PostgresJournal
    from taskorch.journal._sqlite import SqliteJournal


def open_journal(
    place: str | os.PathLike[str], **options: Any
) -> SqliteJournal | PostgresJournal:
    """
    The journal at *place*; nothing is done to it yet.

    Args:
        place: The path of a file, or an address: `postgresql://…`.
        options: Those that both have.

    Raises:
        InvalidTaskError: It is neither.
        JournalError: psycopg is not installed.
    """
    if isinstance(place, str) and is_address(place):
        from taskorch.journal._postgres import PostgresJournal  # noqa: PLC0415 - late

        return PostgresJournal(place, **options)
    if isinstance(place, PurePath) and place.parts[:1] and place.parts[0] in SCHEMES:
        msg = f"{place} is the path of a file, and looks like the address of a server"
        raise InvalidTaskError(msg, hint="give the address as text, not as a Path")
    from taskorch.journal._sqlite import SqliteJournal  # noqa: PLC0415 - it is large

    return SqliteJournal(place, **options)
