"""What is read from a journal over one connection, and checked."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from operator import lt
from pathlib import Path
from typing import Any, Final, NamedTuple, NoReturn
from zlib import crc32

from taskorch.errors import JournalError
from taskorch.events import TASK_ID, TaskSubmitted
from taskorch.journal import _codec
from taskorch.journal._codec import Row, Rows
from taskorch.journal._file import FAILURES, is_passing
from taskorch.journal._layout import IS_RARE, LAYOUT, RESTORE
from taskorch.journal._scripts import Beside
from taskorch.protocols import Entry

#: Rows that are taken at once; between them the writer can checkpoint.
_BATCH: Final = 2_000
#: Ids that are looked up at once.
_IDS: Final = 500
#: Readers that are kept while nobody reads.
_IDLE: Final = 2
#: The largest number of a fact.
_MOST: Final = 2**63 - 1
#: Columns of text: class, task, fields and document.
_TEXTS: Final = (1, 3, 4, 5)
#: Rows of which the checksum is reckoned at once.
_PART: Final = 1_000
#: The form of the checksums that are written.
FORM: Final = 3

_FACTS: Final = (
    "SELECT seq, kind, at_ns, ifnull(task_id, ''), body, ifnull(doc, '') FROM facts "
)
_GROUPS: Final = {
    1: "SELECT last, first, epoch, crc, 1 FROM groups ",
    2: "SELECT last, first, epoch, crc, form FROM groups ",
    3: "SELECT last, first, epoch, crc, form FROM groups ",
}
_OF_IDS: Final = f"WHERE task_id IN ({','.join('?' * _IDS)}) "
_NUMBERS: Final = f"SELECT seq FROM facts {_OF_IDS} AND seq <= ?"  # noqa: S608
_ENDS: Final = f"""
    SELECT task_id, kind FROM facts {_OF_IDS}
    AND kind IN ('TaskCompleted', 'TaskFailed', 'TaskCancelled')
"""  # noqa: S608 - of our own words
#: The condition is that of the index, which is used only if it is said.
_LATEST_OF: Final = f"{_FACTS}WHERE kind = ? AND {IS_RARE} ORDER BY seq DESC LIMIT 1"
_ENDS_BY_TIME: Final = """
    SELECT at_ns / ?, kind, count(*) FROM facts
    WHERE kind IN ('TaskCompleted', 'TaskFailed', 'TaskCancelled') GROUP BY 1, 2
"""
_IDS_FROM: Final = """
    SELECT task_id FROM facts WHERE task_id >= ? AND task_id < ?
    GROUP BY task_id ORDER BY min(seq)
"""


_SUBMITTED: Final = """
    SELECT seq, task_id FROM facts
    WHERE kind = 'TaskSubmitted' AND seq > ? AND seq <= ? ORDER BY seq LIMIT ?
"""


#: The form of a group from which something was left out.
REST: Final = 4
#: Its checksum is that of the group that it was, which the next one goes on from, and
#: above that one of its own: with so many bits, it is no negative number.
_HEAD_BITS: Final = 32
_HEAD: Final = (1 << _HEAD_BITS) - 1
_OWN: Final = (1 << 31) - 1


def rest_checksum(
    rows: Sequence[Row], first: int, last: int, epoch: int, head: int
) -> int:
    """The checksum of what is left of groups, the last of which had *head*."""
    start = crc32(f"{first} {last} {head}".encode())
    own = checksum(rows, start, epoch) & _OWN
    return own << _HEAD_BITS | head


class GroupRow(NamedTuple):
    """One commit: the facts from *first* to *last*."""

    last: int
    first: int
    #: The life that wrote it.
    epoch: int
    #: Computed from that of the group before.
    crc: int
    #: How that was reckoned.
    form: int
    #: As it is kept: with that of a rest over what is left.
    kept: int


#: The checksum before the first group.
_NOTHING: Final = GroupRow(0, 0, 0, 0, FORM, 0)


def checksum(rows: Rows | Iterable[Row], crc: int, epoch: int) -> int:
    """The checksum of *rows*, continued from *crc*, that of the group before."""
    for text in checked_texts(rows, epoch):
        crc = crc32(text, crc)
    return crc


def checked_texts(rows: Rows | Iterable[Row], epoch: int) -> Iterator[bytes]:
    """What the checksum of *rows* is made of."""
    columns: Iterable[Sequence[Any]]
    columns = rows.columns if isinstance(rows, Rows) else zip(*rows, strict=True)
    yield f"{epoch}\n".encode()
    # A column at a time: then no text has to be made for each row. And some rows at a
    # time: what is made of them stays in the cache of the processor.
    for place, column in enumerate(columns):
        for start in range(0, len(column), _PART):
            part = column[start : start + _PART]
            if place in _TEXTS:
                text = "\n".join(part) + "\n"
            else:
                # Takes a third of the time of a str of each.
                text = "%s\n" * len(part) % tuple(part)
            yield text.encode()


def _checksum_by_rows(rows: Iterable[Row], crc: int, epoch: int) -> int:
    """The checksum of the first journals of layout 2."""
    text = "\n".join([f"{a}\n{b}\n{c}\n{d}\n{e}\n{f}" for a, b, c, d, e, f in rows])
    return crc32(f"{epoch}\n{text}\n".encode(), crc)


def _first_checksum(rows: Sequence[Row], crc: int, epoch: int) -> int:
    """The checksum of layout 1."""
    lines = [f"{(a, b, c, d or None, e, f or None)!a}" for a, b, c, d, e, f in rows]
    return crc32("\n".join([str(epoch), *lines, ""]).encode("ascii"), crc)


_CHECKSUMS: Final = {1: _first_checksum, 2: _checksum_by_rows, 3: checksum}


def snapshot_checksum(seq: int, state: str, chain: int) -> int:
    """The checksum of a snapshot at *seq*, continued from that of its group."""
    return crc32(f"{seq}\n{state}".encode(), chain)


class IdleReaders:
    """Readers that are kept for the next question, while the journal is in use."""

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._readers: list[Reader] = []
        self._is_open = False

    def borrow(self) -> Reader | None:
        """An idle reader, if there is one."""
        with self._mutex:
            return self._readers.pop() if self._readers else None

    def give_back(self, reader: Reader) -> None:
        """Keep *reader* for the next one, or close it."""
        with self._mutex:
            if self._is_open and len(self._readers) < _IDLE:
                self._readers.append(reader)
                return
        reader.close()

    def open(self) -> None:
        """Keep some from now on."""
        self._is_open = True

    def close(self) -> None:
        """Keep none any more."""
        with self._mutex:
            self._is_open = False
            readers, self._readers = self._readers, []
        for reader in readers:
            reader.close()


class Reader:
    """Reads a journal, whose tables have a *layout*, over the connection *db*."""

    def __init__(self, db: sqlite3.Connection, path: Path, layout: int) -> None:
        self._db = db
        self._path = path
        self._layout = layout
        self._beside = Beside(str(path))

    def _entries(self, rows: Iterable[_codec.Row], after: int = 0) -> list[Entry]:
        """See `_codec.entries`."""
        with self._beside:
            return _codec.entries(rows, after)

    def close(self) -> None:
        self._db.close()

    # --------------------------------------------------------------------- entries

    def entries(self, after: int) -> Iterator[Entry]:
        """All entries above *after*, in order; incomplete groups are left out."""
        before = self.before(min(after, _MOST - 1) + 1)
        while groups := self._groups(
            "WHERE last > ? ORDER BY last LIMIT ?", (before.last, _BATCH)
        ):
            self._check_order(before.last, groups)
            for group in groups:
                yield from self._entries(self.whole(group, before), after)
                before = group
        self._check_end()

    def about(self, task_id: str) -> Iterator[Entry]:
        """The entries about one task, in order, by the index and without a check."""
        name, after = _codec.column(task_id), 0
        while rows := self._db.execute(
            _FACTS + "WHERE task_id = ? AND seq > ? ORDER BY seq LIMIT ?",
            (name, after, _BATCH),
        ).fetchall():
            self._check_order(after, rows)
            after = rows[-1][0]
            yield from self._entries(rows)

    def select(self, ids: Iterable[str], until: int) -> Iterator[Entry]:
        """The entries about any task of *ids* to *until*, of groups that are whole."""
        names = {_codec.column(task_id) for task_id in ids}
        numbers = [
            number
            for some in _some(names)
            for (number,) in self._db.execute(_NUMBERS, (*some, min(until, _MOST)))
        ]
        reached = 0
        for number in sorted(numbers):
            if number <= reached:
                continue
            group, before = self.group_of(number)
            yield from self._entries(
                row
                for row in self.whole(group, before)
                if row[3] in names and row[0] <= until
            )
            reached = group.last

    def ends(self, ids: Iterable[str]) -> dict[str, str]:
        """The class of the ending fact of each of *ids* that has ended."""
        names = {_codec.column(task_id): task_id for task_id in ids}
        return {
            names[name]: kind
            for some in _some(names)
            for name, kind in self._db.execute(_ENDS, some)
        }

    def ids(self, prefix: str) -> list[str]:
        """The ids that begin with *prefix*, in the order in which they came."""
        begin = _codec.column(prefix)
        rows = self._db.execute(_IDS_FROM, (begin, _codec.above(begin)))
        return [task_id for (task_id,) in rows]

    def submitted(self, after: int, until: int, most: int) -> list[tuple[int, str]]:
        """The next *most* submissions above *after*, to *until*: number and id."""
        return self._db.execute(_SUBMITTED, (after, min(until, _MOST), most)).fetchall()

    def ends_by_time(self, every_ns: int) -> dict[tuple[int, str], int]:
        """How many ended, by the period of *every_ns* and the class of the fact."""
        rows = self._db.execute(_ENDS_BY_TIME, (every_ns,))
        return {(period, kind): count for period, kind, count in rows}

    def owner(self) -> dict[str, Any]:
        """The latest owner of the journal, and the journal's id, if there is one."""
        rows = self._db.execute("SELECT * FROM meta")
        names = [column[0] for column in rows.description]
        return dict(zip(names, next(iter(rows), ()), strict=False))

    def latest_of(self, kind: str) -> Entry | None:
        """The latest fact of a class that is rare, by its index and without a check."""
        rows = self._db.execute(_LATEST_OF, (kind,)).fetchall()
        return next(iter(self._entries(rows)), None)

    def id_of_key(self, key: str) -> str | None:
        """The task that was submitted with *key*."""
        if self._layout < LAYOUT:
            msg = f"{self._path} has layout {self._layout}, which knows no keys"
            raise JournalError(msg, hint="claim it: it is brought up to date then")
        row = self._db.execute(
            "SELECT task_id FROM keys WHERE key = ?", (_codec.column(key),)
        ).fetchone()
        return None if row is None else row[0]

    def verify(self) -> int:
        """Read all, in one transaction; the number of facts."""
        self._db.execute("BEGIN")
        count, submitted = 0, dict[str, str]()
        for fact, task in self.entries(0):
            count += 1
            if type(fact) is TaskSubmitted and task.idempotency_key is not None:
                key, task_id = task.idempotency_key, fact[TASK_ID]
                submitted[_codec.column(key)] = _codec.column(task_id)
        if self._layout >= LAYOUT:
            keys = dict(self._db.execute("SELECT key, task_id FROM keys"))
            if keys != submitted:
                self.damaged("its idempotency keys are not those of its tasks")
            for (seq,) in self._db.execute("SELECT seq FROM snapshots").fetchall():
                if self._snapshot(seq) is None:
                    self.damaged(f"the snapshot at fact {seq} was changed")
        # This reads the indexes, too, which nothing above has used.
        ((verdict,),) = self._db.execute("PRAGMA integrity_check(1)").fetchall()
        if verdict != "ok":
            self.damaged(verdict)
        self._db.execute("COMMIT")
        return count

    # ------------------------------------------------------------------- snapshots

    def snapshot(self) -> tuple[int, dict[str, Any]] | None:
        """The latest snapshot that is whole, as `(seq, state)`."""
        if self._layout < LAYOUT:
            return None
        with _as_good_as_none():
            numbers = self._db.execute("SELECT seq FROM snapshots").fetchall()
            for (seq,) in sorted(numbers, reverse=True):
                with _as_good_as_none():
                    if (state := self._snapshot(seq)) is not None:
                        return seq, state
        return None

    def _snapshot(self, seq: int) -> dict[str, Any] | None:
        """The state that was kept at fact *seq*, if it is whole."""
        state, crc = self._db.execute(
            "SELECT state, crc FROM snapshots WHERE seq = ?", (seq,)
        ).fetchone()
        groups = self._groups("WHERE last >= ? ORDER BY last LIMIT 1", (seq,))
        if not groups or snapshot_checksum(seq, state, groups[0].crc) != crc:
            return None
        snapshot: dict[str, Any] = json.loads(state)
        return snapshot

    # --------------------------------------------------------------------- checking

    def check_latest(self) -> GroupRow:
        """
        The latest group, checked: whole, and of no later life than this.

        Raises:
            JournalError: It is not.
        """
        lives = self._db.execute("SELECT epoch FROM meta").fetchall()
        if len(lives) != 1 or type(lives[0][0]) is not int:
            self.damaged("it does not say in which life it is")
        latest = self.latest()
        if latest is not _NOTHING:
            self.whole(latest, self.before(latest.last))
            if latest.epoch > lives[0][0]:
                msg = f"life {latest.epoch} wrote it, and this is {lives[0][0]}"
                self.damaged(msg)
        self._check_end()
        return latest

    def latest(self) -> GroupRow:
        """The latest group, without a check; one that ends at 0 if there is none."""
        groups = self._groups("ORDER BY last DESC LIMIT 1")
        return groups[0] if groups else _NOTHING

    def group_of(self, number: int) -> tuple[GroupRow, GroupRow]:
        """The group that holds the fact *number*, and the one before it."""
        groups = self._groups("WHERE last >= ? ORDER BY last LIMIT 1", (number,))
        if not groups:
            self.damaged(f"fact {number} is in no group")
        return groups[0], self.before(groups[0].last)

    def before(self, number: int) -> GroupRow:
        """The last group that ends before the fact *number*."""
        groups = self._groups("WHERE last < ? ORDER BY last DESC LIMIT 1", (number,))
        return groups[0] if groups else _NOTHING

    def count(self, after: int, until: int) -> int:
        """How many facts there are above *after*, to *until*."""
        ((count,),) = self._db.execute(
            "SELECT count(*) FROM facts WHERE seq > ? AND seq <= ?", (after, until)
        )
        return int(count)

    def rows(self, after: int, until: int) -> list[Row]:
        """The facts above *after*, to *until*; taken in some short transactions."""
        rows: list[Row] = []
        is_over = False
        while not is_over:
            more = self._db.execute(
                _FACTS + "WHERE seq > ? AND seq <= ? ORDER BY seq LIMIT ?",
                (after, until, _BATCH),
            ).fetchall()
            self._check_order(after, more)
            rows += more
            is_over = len(more) < _BATCH or more[-1][0] == until
            after = rows[-1][0] if rows else until
        return rows

    def whole(self, group: GroupRow, before: GroupRow) -> list[Row]:
        """
        The facts of *group*, which comes after *before*.

        Raises:
            JournalError: They are not as they were kept.
        """
        last, first, epoch, crc, form, kept = group
        rows = self.rows(before.last, last)
        if form == REST:
            if rest_checksum(rows, first, last, epoch, crc) != kept:
                self.damaged(f"what is left of facts {first} to {last} was changed")
            return rows
        is_whole = rows and rows[0][0] == first and rows[-1][0] == last
        check = _CHECKSUMS.get(form)
        computed = None
        if is_whole and check is not None:
            # Where tables are not strict, a text may have become a number.
            with contextlib.suppress(TypeError):
                computed = check(rows, before.crc, epoch)
        if computed != crc:
            self.damaged(f"facts {first} to {last} were changed")
        return rows

    def _groups(self, which: str, values: tuple[int, ...] = ()) -> list[GroupRow]:
        rows = self._db.execute(_GROUPS[self._layout] + which, values).fetchall()
        for group in rows:
            if not all(type(number) is int for number in group):
                self.damaged(f"the group up to fact {group[0]} cannot be read")
        return [
            GroupRow(
                last, first, epoch, crc & _HEAD if form == REST else crc, form, crc
            )
            for last, first, epoch, crc, form in rows
        ]

    def _check_order(self, after: int, rows: Sequence[tuple[Any, ...]]) -> None:
        """A damaged tree may lead back to where one was: then nothing would end."""
        numbers = [after, *[row[0] for row in rows]]
        if not all(map(lt, numbers, numbers[1:])):
            self.damaged(f"what follows fact {after} is not in order")

    def _check_end(self) -> None:
        last, of_groups = self._db.execute(
            "SELECT max(seq), (SELECT max(last) FROM groups) FROM facts"
        ).fetchone()
        is_rest = self.latest().form == REST
        if last != of_groups and not (is_rest and (last or 0) < of_groups):
            self.damaged(f"fact {last} is the last, and not {of_groups}")

    def damaged(self, why: str) -> NoReturn:
        """Raise the JournalError that says *why*."""
        msg = f"{self._path} is damaged: {why}"
        raise JournalError(msg, hint=RESTORE)


@contextlib.contextmanager
def _as_good_as_none() -> Iterator[None]:
    """A snapshot that is damaged is no loss: the facts are there."""
    try:
        yield
    except FAILURES as error:
        if is_passing(error):
            raise


def _some(names: Iterable[str]) -> Iterator[tuple[str, ...]]:
    """*names* in parts, each as long as a statement wants it."""
    rest = iter(names)
    while some := tuple(islice(rest, _IDS)):
        # The last part is filled up with a name that is in it: it is found only once.
        yield some + some[-1:] * (_IDS - len(some))
