"""
Leaving out the facts about some tasks, for good, within one transaction.

A group of which something goes is written anew, as a *rest*: it keeps the checksum of
the group that it was, from which the next group goes on, and has one of its own over
what is left. Rests beside each other become one. So what stays is checked as before,
and no group behind is touched. A snapshot stays that names none of these tasks.

Decisions: 0051, 0220.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Iterator
from typing import Final

from taskorch.journal import _codec
from taskorch.journal._codec import Row
from taskorch.journal._points import reach
from taskorch.journal._reader import (
    KEEP_GROUP,
    NOTHING,
    REST,
    GroupRow,
    Reader,
    rest_checksum,
    snapshot_checksum,
)

#: A rest has no more facts than this, if the groups that it is made of allow it.
_MANY: Final = 1_000
#: The part of the pages of a file that must be free for it to be written anew, and how
#: many there must be.
_FREE_SHARE: Final = 0.25
_FREE_PAGES: Final = 64

_DROP: Final = "DELETE FROM {groups} WHERE {mine}last > :after AND last <= :last"
_DROP_FACTS: Final = """
    DELETE FROM {facts} WHERE {mine}seq IN (SELECT value FROM {numbers})
"""
_DROP_SNAPSHOT: Final = "DELETE FROM {snapshots} WHERE {mine}seq = :seq"
_CHANGE_SNAPSHOT: Final = "UPDATE {snapshots} SET crc = :crc WHERE {mine}seq = :seq"
_COUNT: Final = "SELECT count(*) FROM {facts} WHERE {mine}seq > :after AND seq <= :last"
_IS_SAME: Final = """
    SELECT count(*) FROM {groups} WHERE {mine}last = :last AND crc = :crc
    AND form = :form
"""
#: Those lists of a snapshot that name tasks.
_NAMING: Final = ("tasks", "gone")


def forget(reader: Reader, ids: Collection[str], facts: Collection[int] = ()) -> int:
    """
    Leave out the facts about the tasks of *ids*, and return how many they were.

    So are single *facts*, by their numbers, which are about no task.

    It is done within a transaction of the caller's.

    Raises:
        JournalError: A group that has some of them is damaged; nothing was changed.
    """
    session = reader.session
    names = {_codec.column(task_id) for task_id in ids}
    numbers = sorted({*(reader.numbers(names) if names else ()), *facts})
    if not numbers:
        return 0
    snapshots = _staying(reader, names)
    rests = list(_rests(reader, numbers, names, frozenset(facts)))
    reach("forget")
    if names:
        session.leave_out([*names])
    if facts:
        session.change(_DROP_FACTS, numbers=sorted(facts))
    reach("rests")
    for after, rest in rests:
        session.change(_DROP, after=after, last=rest.last)
        session.change(KEEP_GROUP, **rest.columns())
    for seq, (state, head) in snapshots.items():
        now = reader.group_of(seq)[0].crc
        if not state:
            session.change(_DROP_SNAPSHOT, seq=seq)
        elif now != head:
            crc = snapshot_checksum(seq, state, now)
            session.change(_CHANGE_SNAPSHOT, seq=seq, crc=crc)
    return len(numbers)


def _staying(reader: Reader, names: set[str]) -> dict[int, tuple[str, int]]:
    """
    The snapshots by their numbers: each as a text, and the checksum of its group.

    "" is one that names a task that goes, or is damaged.
    """
    snapshots: dict[int, tuple[str, int]] = {}
    for seq, text in reader.snapshots():
        state = json.loads(text) if text else {}
        named = (map(_codec.column, state.get(each, ())) for each in _NAMING)
        stays = all(names.isdisjoint(each) for each in named)
        snapshots[seq] = text if stays else "", reader.group_of(seq)[0].crc
    return snapshots


def parts(reader: Reader) -> Iterator[tuple[GroupRow, list[GroupRow]]]:
    """
    Groups of very many facts, and what each may become: rests of some of its facts.

    So that what is left out later takes the time of a rest. They are checked; the
    latest group is none of them, since it may be in doubt.
    """
    latest, before = reader.latest(), NOTHING
    while groups := reader.groups_after(before.last):
        for group in groups:
            after, before_it, before = before.last, before, group
            if group.last >= latest.last or group.last - after <= 2 * _MANY:
                continue
            ((count,),) = reader.session.ask(_COUNT, after=after, last=group.last)
            if count > 2 * _MANY:
                yield group, _parted(group, after, reader.whole(group, before_it))


def _parted(group: GroupRow, after: int, rows: list[Row]) -> list[GroupRow]:
    """What *group*, which is above *after* and has these *rows*, is made of."""
    rests: list[GroupRow] = []
    for place in range(0, len(rows), _MANY):
        some = rows[place : place + _MANY]
        # What goes on from it goes on from the last part.
        is_last = place + _MANY >= len(rows)
        last = group.last if is_last else some[-1][0]
        rests.append(_rest(after, group._replace(last=last), some))
        after = last
    return rests


def replace(reader: Reader, group: GroupRow, rests: list[GroupRow]) -> None:
    """Have *rests* in the place of *group*, unless it has become another since."""
    session = reader.session
    ((is_same,),) = session.ask(
        _IS_SAME, last=group.last, crc=group.kept, form=group.form
    )
    if is_same:
        reach("parts")
        session.change(_DROP, after=group.last - 1, last=group.last)
        for rest in rests:
            session.change(KEEP_GROUP, **rest.columns())


def _rests(
    reader: Reader, numbers: list[int], names: set[str], facts: frozenset[int]
) -> Iterator[tuple[int, GroupRow]]:
    """What groups become that have facts of *numbers*, each with where it begins."""
    latest, after, rest = NOTHING, 0, list[Row]()
    for group, start, rows in _pieces(reader, numbers, names, facts):
        if latest is not NOTHING and (start != latest.last or len(rest) >= _MANY):
            yield after, _rest(after, latest, rest)
            latest = NOTHING
        if latest is NOTHING:
            after, rest = start, []
        rest += rows
        latest = group
    yield after, _rest(after, latest, rest)


def _pieces(
    reader: Reader, numbers: list[int], names: set[str], facts: frozenset[int]
) -> Iterator[tuple[GroupRow, int, list[Row]]]:
    """
    Those groups, each with the number above which it begins, and the rows that stay.

    Each is checked: damage must not get a new checksum.
    """
    reached = 0
    for group, before, rows in reader.holding(numbers):
        # So that the rests of many times do not stay beside each other.
        if before.form == REST and before.last != reached:
            earlier = reader.before(before.last)
            yield before, earlier.last, reader.whole(before, earlier)
        stay = [row for row in rows if row[3] not in names and row[0] not in facts]
        yield group, before.last, stay
        reached = group.last


def _rest(after: int, latest: GroupRow, rows: list[Row]) -> GroupRow:
    """What is left of the groups above *after*, to *latest*, which has the *rows*."""
    last, first, epoch = latest.last, after + 1, latest.epoch
    kept = rest_checksum(rows, first, last, epoch, latest.crc)
    return GroupRow(last, first, epoch, latest.crc, REST, kept)


def has_room(db: sqlite3.Connection) -> bool:
    """Whether a file would become a good deal smaller if it was written anew."""
    ((free,),) = db.execute("PRAGMA freelist_count").fetchall()
    ((pages,),) = db.execute("PRAGMA page_count").fetchall()
    return bool(free >= _FREE_PAGES and free >= pages * _FREE_SHARE)
