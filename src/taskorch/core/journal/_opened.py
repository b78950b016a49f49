"""The journal at a path or an address: a file, or a server."""

from __future__ import annotations

import os
import re
from importlib import import_module
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, Final

from taskorch.errors import InvalidTaskError
from taskorch.kit.address import KINDS, kind_of, without_password
from taskorch.kit.visible import masked

if TYPE_CHECKING:
    from taskorch.core.journal._sql import SqlJournal

#: The address of another kind of server; a path may begin with one letter and a colon.
_OTHER: Final = re.compile(r"\s*[A-Za-z][A-Za-z0-9+.-]+://")


def open_journal(place: str | os.PathLike[str], **options: Any) -> SqlJournal:
    """
    Return the journal at *place*; nothing is done to it yet.

    Args:
        place: The path of a file, or an address: `postgresql://…`, or `host=… …`.
        options: Options that all journals have.

    Raises:
        InvalidTaskError: It is neither.
        JournalError: psycopg is not installed.
    """
    kind = kind_of(place)
    if kind is not None:
        module, _, name = KINDS[kind].partition(":")
        journal: SqlJournal = getattr(import_module(module), name)(place, **options)
        return journal
    # A path that was made of an address has lost a slash.
    if isinstance(place, PurePath) and place.parts[:1] and kind_of(place.parts[0]):
        shown = without_password(str(place))
        msg = f"{shown} is the path of a file, and looks like the address of a server"
        raise InvalidTaskError(msg, hint="give the address as text, not as a Path")
    if isinstance(place, str) and _OTHER.match(place):
        msg = f"{masked(place)}: there is no journal of this kind"
        hint = "the path of a file, or postgresql://host/database"
        raise InvalidTaskError(msg, hint=hint)
    from taskorch.core.journal._sqlite import SqliteJournal  # noqa: PLC0415 - it is large

    return SqliteJournal(place, **options)
