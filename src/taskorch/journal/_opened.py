"""The journal that a text says: a file, or the address of a server."""

from __future__ import annotations

import os
import re
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, Final

from taskorch._base._address import SCHEMES, is_address, without_password
from taskorch._base._visible import masked
from taskorch.errors import InvalidTaskError

if TYPE_CHECKING:
    from taskorch.journal._postgres import PostgresJournal
    from taskorch.journal._sqlite import SqliteJournal

#: The address of another kind of server; a path may begin with one letter and a colon.
_OTHER: Final = re.compile(r"\s*[A-Za-z][A-Za-z0-9+.-]+://")


def open_journal(
    place: str | os.PathLike[str], **options: Any
) -> SqliteJournal | PostgresJournal:
    """
    The journal at *place*; nothing is done to it yet.

    Args:
        place: The path of a file, or an address: `postgresql://…`, or `host=… …`.
        options: Those that both have.

    Raises:
        InvalidTaskError: It is neither.
        JournalError: psycopg is not installed.
    """
    if isinstance(place, str) and is_address(place):
        from taskorch.journal._postgres import PostgresJournal  # noqa: PLC0415 - late

        return PostgresJournal(place, **options)
    if isinstance(place, PurePath) and place.parts[:1] and place.parts[0] in SCHEMES:
        shown = without_password(str(place))
        msg = f"{shown} is the path of a file, and looks like the address of a server"
        raise InvalidTaskError(msg, hint="give the address as text, not as a Path")
    if isinstance(place, str) and _OTHER.match(place):
        msg = f"{masked(place)}: there is no journal of this kind"
        hint = "the path of a file, or postgresql://host/database"
        raise InvalidTaskError(msg, hint=hint)
    from taskorch.journal._sqlite import SqliteJournal  # noqa: PLC0415 - it is large

    return SqliteJournal(place, **options)
