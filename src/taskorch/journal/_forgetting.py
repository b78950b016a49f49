"""
Leaving out the facts about some tasks, for good, within one transaction.

A group of which something goes is written anew, as a *rest*: it keeps the checksum of
the group that it was, from which the next group goes on, and has one of its own over
what is left. Rests beside each other become one. So what stays is checked as before,
and no group behind is touched.

Of the rows that go, a rest keeps hashes in the tree over all rows: see `_chain`.

Decisions: 0051, 0227.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterator
from typing import Final, NamedTuple

from taskorch.journal import _codec
from taskorch.journal._chain import Subtree, gone_of, joined, spread
from taskorch.journal._codec import Row
from taskorch.journal._points import reach
from taskorch.journal._reader import (
    KEEP_GROUP,
    REST,
    GroupRow,
    Reader,
    rest_checksum,
)

#: A rest has no more facts than this, if the groups that it is made of allow it.
_MANY: Final = 1_000
#: The part of the pages of a file that must be free for it to be written anew, and how
#: many there must be.
_FREE_SHARE: Final = 0.25
_FREE_PAGES: Final = 64

_DROP: Final = "DELETE FROM {groups} WHERE {mine}last > :after AND last <= :last"
_DROP_SNAPSHOTS: Final = "DELETE FROM {snapshots} WHERE {mine}seq > 0"


def forget(reader: Reader, ids: Collection[str]) -> int:
    """
    Leave out the facts about the tasks of *ids*, and return how many they were.

    It is done within a transaction of the caller's.

    Raises:
        JournalError: A group that has some of them is damaged; nothing was changed.
    """
    session = reader.session
    names = {_codec.column(task_id) for task_id in ids}
    numbers = reader.numbers(names)
    if not numbers:
        return 0
    rests = list(_rests(reader, numbers, names))
    reach("forget")
    session.leave_out([*names])
    reach("rests")
    for after, rest in rests:
        session.change(_DROP, after=after, last=rest.last)
        session.change(KEEP_GROUP, **rest.columns())
    # They name tasks that are gone, and are checked by groups that are.
    session.change(_DROP_SNAPSHOTS)
    return len(numbers)


class _Piece(NamedTuple):
    """A group of which something goes, or a rest before it."""

    group: GroupRow
    #: The number above which it begins.
    start: int
    #: The rows that stay.
    rows: list[Row]
    #: The hashes of those that go, or went before.
    gone: list[Subtree]


def _rests(
    reader: Reader, numbers: list[int], names: set[str]
) -> Iterator[tuple[int, GroupRow]]:
    """What groups become that have facts of *numbers*, each with where it begins."""
    pieces: list[_Piece] = []
    count = 0
    for piece in _pieces(reader, numbers, names):
        if pieces and (
            piece.start != pieces[-1].group.last
            or count >= _MANY
            # What an earlier version wrote is in no chain.
            or bool(piece.group.hash) != bool(pieces[-1].group.hash)
        ):
            yield _rest(pieces)
            pieces, count = [], 0
        pieces.append(piece)
        count += len(piece.rows)
    yield _rest(pieces)


def _pieces(reader: Reader, numbers: list[int], names: set[str]) -> Iterator[_Piece]:
    """
    Those groups; each is checked: damage must not get a new checksum.

    Raises:
        JournalError: One is damaged.
    """
    reached, start = 0, reader.chain_start()
    for group, before, rows in reader.holding(numbers):
        # So that the rests of many times do not stay beside each other.
        if before.form == REST and before.last != reached:
            earlier = reader.before(before.last)
            rest = reader.whole(before, earlier)
            reader.check_link(before, earlier, rest, start)
            yield _piece(before, earlier, rest, names)
        reader.check_link(group, before, rows, start)
        yield _piece(group, before, rows, names)
        reached = group.last


def _piece(
    group: GroupRow, before: GroupRow, rows: list[Row], names: set[str]
) -> _Piece:
    stay = [row for row in rows if row[3] not in names]
    gone: list[Subtree] = []
    if group.hash:
        gone = [
            subtree
            for subtree, row in spread(rows, group.size, gone_of(group.gone))
            if row is None or row[3] in names
        ]
    return _Piece(group, before.last, stay, gone)


def _rest(pieces: list[_Piece]) -> tuple[int, GroupRow]:
    """What is left of *pieces*, which follow each other, and where it begins."""
    latest, after = pieces[-1].group, pieces[0].start
    rows = [row for piece in pieces for row in piece.rows]
    last, first, epoch = latest.last, after + 1, latest.epoch
    kept = rest_checksum(rows, first, last, epoch, latest.crc)
    size, digest = latest.size, latest.hash
    rest = GroupRow(last, first, epoch, latest.crc, REST, kept, size, digest)
    if digest:
        gone = joined(subtree for piece in pieces for subtree in piece.gone)
        rest = rest._replace(gone=rest.gone_text(gone, rows))
    return after, rest


def has_room(db: sqlite3.Connection) -> bool:
    """Whether a file would become a good deal smaller if it was written anew."""
    ((free,),) = db.execute("PRAGMA freelist_count").fetchall()
    ((pages,),) = db.execute("PRAGMA page_count").fetchall()
    return bool(free >= _FREE_PAGES and free >= pages * _FREE_SHARE)
