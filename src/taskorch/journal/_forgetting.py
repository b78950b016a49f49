"""
Leaving out the facts about some tasks, for good, within one transaction.

A group of which something goes is written anew, as a *rest*: it keeps the checksum of
the group that it was, from which the next group goes on, and has one of its own over
what is left. Rests beside each other become one. So what stays is checked as before,
and no group behind is touched.

Decision: 0051.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Final

from taskorch.journal import _codec
from taskorch.journal._file import FAILURES
from taskorch.journal._layout import KEY, LAYOUT, RESTS
from taskorch.journal._points import reach
from taskorch.journal._reader import REST, GroupRow, Reader, rest_checksum

#: A rest has no more facts than this, if the groups that it is made of allow it.
_MANY: Final = 1_000
#: The part of the pages that must be free for the file to be written anew, and how many
#: there must be.
_FREE_SHARE: Final = 0.25
_FREE_PAGES: Final = 64

_GONE: Final = "CREATE TEMP TABLE gone (name TEXT PRIMARY KEY)"
_NUMBERS: Final = "SELECT seq FROM facts JOIN temp.gone ON task_id = name ORDER BY seq"
_LOST: Final = "INSERT INTO temp.lost SELECT key FROM keys JOIN gone ON task_id = name"
_KEYS_AGAIN: Final = f"""
    INSERT OR REPLACE INTO keys SELECT {KEY}, task_id FROM facts
    WHERE kind = 'TaskSubmitted' AND {KEY} IN (SELECT key FROM temp.lost) ORDER BY seq
"""  # noqa: S608 - of our own words


def forget(db: sqlite3.Connection, path: Path, ids: Collection[str]) -> int:
    """
    Leave out the facts about the tasks of *ids*, and return how many they were.

    It is done within a transaction of the caller's.

    Raises:
        JournalError: A group that has some of them is damaged; nothing was changed.
    """
    with _temporary(db, ids):
        numbers = [number for (number,) in db.execute(_NUMBERS)]
        if not numbers:
            return 0
        reader = Reader(db, path, LAYOUT)
        runs = list(_runs(reader, numbers))
        reach("forget")
        db.execute(
            "DELETE FROM facts WHERE seq IN"
            " (SELECT seq FROM facts JOIN temp.gone ON task_id = name)"
        )
        db.execute(_LOST)
        db.execute("DELETE FROM keys WHERE key IN (SELECT key FROM temp.lost)")
        db.execute(_KEYS_AGAIN)
        reach("rests")
        for before, groups in runs:
            for rest, members in _rests(reader, before, groups):
                last = [(group.last,) for group in members]
                db.executemany("DELETE FROM groups WHERE last = ?", last)
                db.execute("INSERT INTO groups VALUES (?, ?, ?, ?, ?)", rest)
        # They name tasks that are gone, and are checked by groups that are.
        db.execute("DELETE FROM snapshots")
        db.execute(f"PRAGMA user_version = {RESTS}")
        return len(numbers)


@contextlib.contextmanager
def _temporary(db: sqlite3.Connection, ids: Collection[str]) -> Iterator[None]:
    db.execute("PRAGMA temp_store = MEMORY")
    db.execute(_GONE)
    db.execute("CREATE TEMP TABLE lost (key TEXT PRIMARY KEY)")
    names = {_codec.column(task_id) for task_id in ids}
    db.executemany("INSERT INTO temp.gone VALUES (?)", ((name,) for name in names))
    try:
        yield
    finally:
        # If all is rolled back, they are gone already.
        with contextlib.suppress(*FAILURES):
            db.execute("DROP TABLE temp.gone")
            db.execute("DROP TABLE temp.lost")


def _runs(
    reader: Reader, numbers: list[int]
) -> Iterator[tuple[GroupRow, list[GroupRow]]]:
    """
    Groups beside each other that have facts of *numbers*, and the one before them.

    Each is checked: damage must not get a new checksum.
    """
    run: list[GroupRow] = []
    start = reader.before(0)
    reached = 0
    for number in numbers:
        if number <= reached:
            continue
        group, before = reader.group_of(number)
        reader.whole(group, before)
        if run and before.last != run[-1].last:
            yield start, run
            run = []
        if not run:
            start = before
            # So that the rests of many times do not stay beside each other.
            if before.form == REST:
                start = reader.before(before.last)
                reader.whole(before, start)
                run.append(before)
        run.append(group)
        reached = group.last
    if run:
        yield start, run


def _rests(
    reader: Reader, before: GroupRow, groups: list[GroupRow]
) -> Iterator[tuple[tuple[int, ...], list[GroupRow]]]:
    """What *groups* become: the values of each rest, and what it is made of."""
    members: list[GroupRow] = []
    reached, count = before.last, 0
    for group in groups:
        members.append(group)
        count += reader.count(reached, group.last)
        reached = group.last
        if count < _MANY and group is not groups[-1]:
            continue
        rows = reader.rows(before.last, group.last)
        first = before.last + 1
        crc = rest_checksum(rows, first, group.last, group.epoch, group.crc)
        yield (group.last, first, group.epoch, crc, REST), members
        before, members, count = group, [], 0


def has_room(db: sqlite3.Connection) -> bool:
    """Whether the file would become a good deal smaller if it was written anew."""
    ((free,),) = db.execute("PRAGMA freelist_count").fetchall()
    ((pages,),) = db.execute("PRAGMA page_count").fetchall()
    return bool(free >= _FREE_PAGES and free >= pages * _FREE_SHARE)
