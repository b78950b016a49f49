"""
Reading of the tables of a journal, with checks.

Decision: proofs-of-a-journal.
"""

from __future__ import annotations

import contextlib
import json
import threading
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from operator import attrgetter, itemgetter, lt
from typing import TYPE_CHECKING, Any, Final, NamedTuple, NoReturn
from zlib import crc32

from taskorch.core.journal import _chain, _codec, _lines, _stretches
from taskorch.core.journal._chain import ChainStart
from taskorch.core.journal._codec import Row, Rows
from taskorch.core.journal._scripts import Beside
from taskorch.core.journal._session import IS_RARE, Session, damage
from taskorch.core.journal._values import restored
from taskorch.errors import JournalError
from taskorch.events import CLS, Event, TaskCompleted, TaskSubmitted
from taskorch.kit import tree
from taskorch.kit.tree import Subtree
from taskorch.protocols import Entry

if TYPE_CHECKING:
    from taskorch.core.journal._sieve import Sieve
    from taskorch.kit.noted import NotedRuns
    from taskorch.model import TaskFilter

#: Groups, and rows, that are read at once; between them the writer can checkpoint.
_BATCH: Final = 2_000
#: Submissions that are looked through one by one, before all are, and events of tasks
#: that an index finds.
_NEAR: Final = 2_000
#: The number of events whose groups are looked for at once.
_FEW: Final = 500
#: Idle readers that are kept.
_IDLE: Final = 2
#: The largest number of an event.
MOST: Final = 2**63 - 1
#: Columns of text: class, task, fields and document.
_TEXTS: Final = (1, 3, 4, 5)
#: The number of rows whose checksum is computed at once.
_PART: Final = 1_000
#: The form of the checksums that this version writes.
FORM: Final = 1
_EVENTS: Final = (
    "SELECT seq, kind, at_ns, coalesce(task_id, ''), body, coalesce(doc, '') FROM "
)
_ROWS: Final = f"""
    {_EVENTS}{{facts}} WHERE {{mine}}seq > :after AND seq <= :until
    ORDER BY seq LIMIT :most
"""
_RANGED: Final = f"{_EVENTS}{{ranged}} ORDER BY seq"
_ABOUT: Final = f"""
    {_EVENTS}{{facts}} WHERE {{mine}}task_id = :name AND seq > :after
    ORDER BY seq LIMIT :most
"""
#: The condition is that of the index, which SQLite uses only if it is repeated.
_LATEST_OF: Final = f"""
    {_EVENTS}{{facts}} WHERE {{mine}}kind = :kind AND {IS_RARE} AND seq <= :until
    ORDER BY seq DESC LIMIT :most
"""
_GROUPS: Final = (
    "SELECT last, first, epoch, crc, form, size, hash, gone FROM {groups} WHERE {mine}"
)
_NEXT: Final = f"{_GROUPS}last > :after ORDER BY last LIMIT :most"
_AT: Final = f"{_GROUPS}last >= :number ORDER BY last LIMIT 1"
_BEFORE: Final = f"{_GROUPS}last < :number ORDER BY last DESC LIMIT 1"
#: The groups that have some events, and the groups before them.
_HOLDING: Final = f"""
    {_GROUPS}last IN (
        SELECT (SELECT min(last) FROM {{groups}} WHERE {{mine}}last >= value)
        FROM {{numbers}} UNION ALL
        SELECT (SELECT max(last) FROM {{groups}} WHERE {{mine}}last < value)
        FROM {{numbers}}
    ) ORDER BY last
"""  # noqa: S608 - of our own words
#: Writes the columns of `GroupRow.columns`.
KEEP_GROUP: Final = """
    INSERT INTO {groups} ({column}last, first, epoch, crc, form, size, hash, gone)
    VALUES ({value}:last, :first, :epoch, :crc, :form, :size, :hash, :gone)
"""
_END: Final = """
    SELECT (SELECT max(seq) FROM {facts} WHERE {mine}seq > 0), {kept}
"""
#: Rows before the first event, which no reader would find.
_AT_ZERO: Final = """
    SELECT (SELECT min(seq) FROM {facts} WHERE {mine}seq < 1),
        (SELECT max(seq) FROM {facts} WHERE {mine}seq < 1),
        (SELECT min(last) FROM {groups} WHERE {mine}last < 1)
"""
_SNAPSHOT_AT_ZERO: Final = "SELECT min(seq) FROM {snapshots} WHERE {mine}seq < 1"
_NUMBERS: Final = "SELECT seq FROM {named} WHERE seq <= :until ORDER BY seq"
_ENDS: Final = """
    SELECT task_id, kind FROM {named}
    WHERE kind IN ('TaskCompleted', 'TaskFailed', 'TaskCancelled') ORDER BY seq
"""
_BEGAN: Final = "SELECT task_id, min(seq) FROM {named} GROUP BY task_id"
_ENDED_BY: Final = """
    SELECT seq, kind, at_ns, coalesce(task_id, ''), body, '' FROM {facts}
    WHERE {mine}kind = :kind AND seq > :after AND seq <= :until
"""
_PAGED: Final = " ORDER BY seq LIMIT :most"
_BADLY_BY_TIME: Final = f"""
    SELECT at_ns / :every, kind, count(*) FROM {{facts}} WHERE {{mine}}
    kind IN ('TaskFailed', 'TaskCancelled') AND {IS_RARE} GROUP BY 1, 2
"""  # noqa: S608 - of our own words
_WELL_BY_TIME: Final = """
    SELECT at_ns / :every, count(*) FROM {facts} WHERE {mine}kind = 'TaskCompleted'
    AND seq > :after AND seq <= :until GROUP BY 1
"""
_COUNT: Final = """
    SELECT count(*) FROM {facts} WHERE {mine}kind = 'TaskSubmitted'
    AND seq > :after AND seq <= :until
"""
_IDS_FROM: Final = """
    SELECT task_id FROM {facts} WHERE {mine}task_id >= :prefix AND task_id < :above
    GROUP BY task_id ORDER BY min(seq)
"""
_SUBMITTED: Final = """
    SELECT seq, task_id FROM {facts} WHERE {mine}kind = 'TaskSubmitted'
    AND seq > :after AND seq <= :until ORDER BY seq LIMIT :most
"""
_CANDIDATES: Final = """
    SELECT seq, task_id FROM {facts} AS submission WHERE {mine}kind = 'TaskSubmitted'
"""
#: Few journals have any, and then no row is compared with them.
_ANY_CHANGED: Final = f"""
    SELECT seq FROM {{facts}} WHERE {{mine}}kind = 'TaskOptionsChanged'
    AND {IS_RARE} LIMIT 1
"""  # noqa: S608 - of our own words
_IN_ORDER: Final = "AND seq > :after AND seq <= :until ORDER BY seq"
_PLACE: Final = """
    SELECT seq FROM {facts} WHERE {mine}kind = 'TaskSubmitted'
    AND seq > :after AND seq <= :until ORDER BY seq
"""
_AFTER_SOME: Final = " LIMIT 1 OFFSET :most"
#: A database that estimates by a number does not read all in its order.
_BY_ID: Final = """
    AND task_id >= :prefix AND task_id < :above
    AND seq + 0 > :after AND seq + 0 <= :until ORDER BY seq + 0
"""
_AMONG: Final = """
    AND task_id IN (SELECT value FROM {names})
    AND seq + 0 > :after AND seq + 0 <= :until ORDER BY seq + 0
"""
_BEGIN_ALIKE: Final = """
    SELECT count(*) FROM (
        SELECT 1 FROM {facts} WHERE {mine}task_id >= :prefix AND task_id < :above
        LIMIT :most
    ) AS alike
"""
_ABOUT_THEM: Final = f"{_EVENTS}{{named}} WHERE seq <= :until ORDER BY seq"
_NEAREST: Final = """
    SELECT seq, at_ns FROM {facts} WHERE {mine}seq > 0 AND seq <= :number
    ORDER BY seq DESC LIMIT 1
"""
#: The form is `REST`.
_RESTS: Final = """
    SELECT 1 FROM {groups} WHERE {mine}form = 2 AND first <= :until LIMIT 1
"""
_SNAPSHOTS: Final = "SELECT seq FROM {snapshots} WHERE {mine}seq > 0 ORDER BY seq DESC"
_SNAPSHOT: Final = "SELECT state, crc FROM {snapshots} WHERE {mine}seq = :seq"


#: The form of a group from which events were deleted.
REST: Final = 2
#: Its low bits are the checksum of the original group, which the next one continues,
#: and those above are its own: with so many bits, it is not negative.
_HEAD_BITS: Final = 32
_HEAD: Final = (1 << _HEAD_BITS) - 1
_OWN: Final = (1 << 31) - 1
#: The columns of a group that are always numbers; and the types of the others: for a
#: group in no chain, for one in a chain, and for a rest.
_NUMBERED: Final = 5
_CHAINED: Final = frozenset(
    {
        (type(None), type(None), type(None)),
        (int, bytes, type(None)),
        (int, bytes, str),
    }
)
#: The types of the columns of a row.
_TYPES: Final = frozenset({(int, str, int, str, str, str)})
#: The name of a task's key in a document.
_KEYED: Final = '"idempotency_key"'
_NUMBER: Final = itemgetter(0)
_LAST: Final = attrgetter("last")


def rest_checksum(
    rows: Sequence[Row], first: int, last: int, epoch: int, head: int
) -> int:
    """Return the checksum of a rest of groups, the last of which had *head*."""
    start = crc32(f"{first} {last} {head}".encode())
    own = checksum(rows, start, epoch) & _OWN
    return own << _HEAD_BITS | head


class GroupRow(NamedTuple):
    """One commit: the events from *first* to *last*."""

    last: int
    first: int
    #: The incarnation that wrote it.
    epoch: int
    #: Its checksum, which continues that of the group before.
    crc: int
    #: The form of the checksum.
    form: int
    #: The checksum as it is kept: with that of a rest over its rows.
    kept: int
    #: The number of rows in the chain up to its last, and its hash; b"" if it is in no
    #: chain.
    size: int = 0
    hash: bytes = b""
    #: The hashes of rows that are gone: see `tree.gone_text`.
    gone: str = ""

    def columns(self) -> dict[str, Any]:
        """Return its columns in the table: see `KEEP_GROUP`."""
        return {
            "last": self.last,
            "first": self.first,
            "epoch": self.epoch,
            "crc": self.kept,
            "form": self.form,
            "size": self.size if self.hash else None,
            "hash": self.hash or None,
            "gone": self.gone or None,
        }

    def chained(self, before: GroupRow, start: bytes, texts: Iterable[bytes]) -> bytes:
        """
        Return the hash that it must have in the chain.

        Args:
            before: The group before it.
            start: The hash that the chain begins with.
            texts: The bytes that its checksum covers: see `checked_texts`.
        """
        numbers = self.first, self.last, self.epoch, self.crc, self.size
        return _chain.link(before.hash or start, numbers, texts)

    @property
    def is_rest(self) -> bool:
        """Whether events of it were deleted."""
        return self.form == REST

    def rest(self, first: int, rows: Sequence[Row]) -> GroupRow:
        """Return the rest of the groups from event *first* to this one: *rows*."""
        kept = rest_checksum(rows, first, self.last, self.epoch, self.crc)
        return self._replace(first=first, form=REST, kept=kept, gone="")

    def gone_text(self, gone: Iterable[Subtree], rows: Sequence[Row]) -> str:
        """Return the hashes of rows that are *gone*, for a rest that has *rows*."""
        columns = self.first, self.last, self.epoch, self.kept, self.size
        head = " ".join((*map(str, columns), self.hash.hex()))
        return tree.gone_text(gone, head, checked_texts(rows, self.epoch))


#: The checksum before the first group.
NOTHING: Final = GroupRow(0, 0, 0, 0, FORM, 0)


def checksum(rows: Rows | Sequence[Row], crc: int, epoch: int) -> int:
    """Return the checksum of *rows*, continued from *crc*, that of the group before."""
    for text in checked_texts(rows, epoch):
        crc = crc32(text, crc)
    return crc


def checked_texts(rows: Rows | Sequence[Row], epoch: int) -> Iterator[bytes]:
    """Yield the bytes that the checksum of *rows* covers."""
    if len(rows) == 1:
        # Most groups are so, and the result is the same as below.
        one: Any = rows
        a, b, c, d, e, f = one.values if isinstance(rows, Rows) else one[0]
        yield f"{epoch}\n{a}\n{b}\n{c}\n{d}\n{e}\n{f}\n".encode()
        return
    columns: Iterable[Sequence[Any]]
    columns = rows.columns if isinstance(rows, Rows) else zip(*rows, strict=True)
    yield f"{epoch}\n".encode()
    # It takes one column at a time, so that no text is made for each row, and some rows
    # at a time, whose text stays in the cache of the processor.
    for place, column in enumerate(columns):
        for start in range(0, len(column), _PART):
            part = column[start : start + _PART]
            if place in _TEXTS:
                text = "\n".join(part) + "\n"
            else:
                # This takes a third of the time of a str of each.
                text = "%s\n" * len(part) % tuple(part)
            yield text.encode()


def snapshot_checksum(seq: int, state: str, chain: int) -> int:
    """Return the checksum of a snapshot at *seq*, continued from its group's."""
    return crc32(f"{seq}\n{state}".encode(), chain)


class IdleReaders:
    """Readers that are kept for the next question, while the journal is in use."""

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._readers: list[Reader] = []
        self._is_open = False

    def borrow(self) -> Reader | None:
        """Return an idle reader, if there is one."""
        with self._mutex:
            return self._readers.pop() if self._readers else None

    def give_back(self, reader: Reader) -> None:
        """Keep *reader* for the next question, or close it."""
        with self._mutex:
            if self._is_open and len(self._readers) < _IDLE:
                self._readers.append(reader)
                return
        reader.close()

    def open(self) -> None:
        """Keep readers from now on."""
        self._is_open = True

    def close(self) -> None:
        """Close all, and keep none any more."""
        with self._mutex:
            self._is_open = False
            readers, self._readers = self._readers, []
        for reader in readers:
            reader.close()


class Reader:
    """Reads and checks a journal over a connection."""

    def __init__(self, session: Session, beside: str = "") -> None:
        self.session = session
        self._ask = session.ask
        self._beside = Beside(beside)

    def _entries(self, rows: Iterable[_codec.Row], after: int = 0) -> list[Entry]:
        """See `_codec.entries`."""
        with self._beside:
            return _codec.entries(rows, after)

    def close(self) -> None:
        self.session.close()

    # --------------------------------------------------------------------- entries

    def entries(self, after: int) -> Iterator[Entry]:
        """Yield all entries above *after*, in order, without incomplete groups."""
        for begin, rows in self.parts(after):
            yield from self._entries(rows, begin)

    def facts(self, after: int) -> Iterator[Event]:
        """Yield all events above *after*, in order, without documents."""
        for begin, rows in self.parts(after):
            bare = [(*row[:5], "") for row in rows]
            yield from (event for event, _ in _codec.entries(bare, begin))

    def parts(self, after: int) -> Iterator[tuple[int, list[Row]]]:
        """Yield all rows above *after* by groups, each with the number before it."""
        before = self.before(min(after, MOST - 1) + 1)
        while window := self._window(before):
            for group, rows in window:
                self._check(group, before, rows)
                # Rows that were given may be in a larger rest, made meanwhile.
                yield max(after, before.last), rows
                before = group
        self._check_end()

    def _window(self, before: GroupRow) -> list[tuple[GroupRow, list[Row]]]:
        """Return some groups after *before*, and their rows; none at the end."""
        with self.session.at_once():
            groups = self._groups(_NEXT, after=before.last, most=_BATCH)
            if not groups:
                return []
            self._check_order(before.last, groups)
            reached, until = _start(groups[0], before), groups[-1].last
            rows: list[Row] = []
            whole: list[GroupRow] = []
            while not whole:
                more = self._rows(reached, until)
                rows += more
                if len(more) < _BATCH:
                    whole = groups
                else:
                    reached = more[-1][0]
                    whole = groups[: bisect_right(groups, reached, key=_LAST)]
        return list(zip(whole, _parted(rows, map(_LAST, whole)), strict=True))

    def about(self, task_id: str) -> Iterator[Entry]:
        """Yield the entries about one task, in order, by the index, unchecked."""
        name, after = _codec.column(task_id), 0
        while rows := self._ask(_ABOUT, name=name, after=after, most=_BATCH):
            self._check_order(after, rows)
            after = rows[-1][0]
            yield from self._entries(rows)

    def select(self, ids: Iterable[str], until: int) -> Iterator[Entry]:
        """Yield the entries about tasks of *ids* up to *until*, from checked groups."""
        names = {_codec.column(task_id) for task_id in ids}
        for _, _, rows in self.holding(self.numbers(names, min(until, MOST))):
            yield from self._entries(
                row for row in rows if row[3] in names and row[0] <= until
            )

    def numbers(self, names: Iterable[str], until: int = MOST) -> list[int]:
        """Return the numbers of the events about *names* up to *until*, in order."""
        rows = self._ask(_NUMBERS, names=[*names], until=until)
        return [number for (number,) in rows]

    @staticmethod
    def names_of(ids: Iterable[str]) -> set[str]:
        """Return *ids* as the tables have them."""
        return {_codec.column(task_id) for task_id in ids}

    def ends(self, ids: Iterable[str]) -> dict[str, str]:
        """Return the class of the final event of each of *ids* that has ended."""
        names = {_codec.column(task_id): task_id for task_id in ids}
        rows = self._ask(_ENDS, names=[*names])
        return {names[name]: kind for name, kind in rows if name in names}

    def began(self, ids: Iterable[str]) -> dict[str, int]:
        """Return the number of the first event about each of *ids*."""
        names = {_codec.column(task_id): task_id for task_id in ids}
        rows = self._ask(_BEGAN, names=[*names])
        return {names[name]: int(seq) for name, seq in rows if name in names}

    def ended_by(self, kind: str, until: int) -> Iterator[Event]:
        """Yield the final events of one kind up to *until*, in order."""
        after, until = 0, min(until, MOST)
        where = "" if kind == TaskCompleted.__name__ else f"AND {IS_RARE}"
        asked = f"{_ENDED_BY}{where}{_PAGED}"
        while rows := self._ask(
            asked, kind=kind, after=after, until=until, most=_BATCH
        ):
            after = rows[-1][0]
            # The start in the row of its end is another event.
            yield from (f for f, _ in self._entries(rows) if f[CLS].__name__ == kind)

    def ids(self, prefix: str) -> list[str]:
        """Return the ids that begin with *prefix*, in the order of submission."""
        begin = _codec.column(prefix)
        rows = self._ask(_IDS_FROM, prefix=begin, above=_codec.above(begin))
        return [task_id for (task_id,) in rows]

    def submitted(self, after: int, until: int, most: int) -> list[tuple[int, str]]:
        """Return the next *most* submissions above *after*, up to *until*."""
        until = min(until, MOST)
        return self._ask(_SUBMITTED, after=after, until=until, most=most)

    def candidates(
        self,
        which: TaskFilter,
        after: int,
        until: int,
        most: int,
        *,
        newest: bool,
        among: Collection[str] | None,
    ) -> list[tuple[int, str]]:
        """Return some of the submissions that may pass *which*; none at the end."""
        from taskorch.core.journal._sieve import Sieve  # noqa: PLC0415 - for lists

        is_changed = bool(self._ask(_ANY_CHANGED))
        sieve, until = Sieve(which, is_changed=is_changed), min(until, MOST)
        end = f"{' DESC' if newest else ''} LIMIT :most"
        submissions: list[tuple[int, str]] = []
        if among is not None:
            values = sieve.values | {"names": [*map(_codec.column, among)]}
            between = after, until
            return self._sifted(sieve.where, between, values, end, most, order=_AMONG)
        if sieve.is_far_other:
            # If many pass, enough of them are near.
            place = _PLACE + ("DESC" if newest else "") + _AFTER_SOME
            places = self._ask(place, after=after, until=until, most=_NEAR)
            middle = places[0][0] if places else after if newest else until
            near = (middle, until) if newest else (after, middle)
            submissions = self._sifted(sieve.where, near, sieve.values, end, most)
            after, until = (after, near[0]) if newest else (near[1], until)
        if len(submissions) < most and after < until:
            submissions += self._far(
                sieve, (after, until), end, most - len(submissions)
            )
        return submissions

    def _far(
        self, sieve: Sieve, between: tuple[int, int], end: str, most: int
    ) -> list[tuple[int, str]]:
        """Return some of the submissions that may pass, if these are far apart."""
        order, values = _IN_ORDER, dict[str, Any](sieve.values | sieve.ids)
        after, until = between
        places: Iterable[tuple[int, int]] = [between]
        if self._has_few(sieve.ids):
            order = _BY_ID
        elif not sieve.ran:
            newest = end.startswith(" DESC")
            places = _stretches.places(
                self.session, sieve.words, after, until, newest=newest
            )
        if sieve.ran:
            ran = [*_stretches.places(self.session, sieve.ran, after, MOST)]
            began, ended = (ran[0][0], ran[-1][1]) if ran else (after, after)
            values |= {"began": began, "ended": ended}
        submissions: list[tuple[int, str]] = []
        for place in places:
            room = most - len(submissions)
            submissions += self._sifted(
                sieve.far, place, values, end, room, order=order
            )
            if len(submissions) == most:
                break
        return submissions

    def _sifted(
        self,
        where: str,
        between: tuple[int, int],
        values: Mapping[str, object],
        end: str,
        most: int,
        *,
        order: str = _IN_ORDER,
    ) -> list[tuple[int, str]]:
        after, until = between
        statement = f"{_CANDIDATES}{where} {order}{end}"
        return self._ask(statement, **values, after=after, until=until, most=most)

    def _has_few(self, ids: dict[str, str]) -> bool:
        """Return whether few events are about tasks with ids in the range *ids*."""
        return bool(ids) and self._ask(_BEGIN_ALIKE, **ids, most=_NEAR)[0][0] < _NEAR

    def about_all(self, ids: Iterable[str], until: int) -> Iterator[Entry]:
        """Yield the entries about tasks of *ids* up to *until*, in order, unchecked."""
        names = {_codec.column(task_id) for task_id in ids}
        rows = self._ask(_ABOUT_THEM, names=[*names], until=min(until, MOST))
        return iter(self._entries(rows))

    def ends_by_time(self, every_ns: int) -> dict[tuple[int, str], int]:
        """Return how many ended, by period of *every_ns* and class of event."""
        rows = self._ask(_BADLY_BY_TIME, every=every_ns)
        ends = {(period, kind): count for period, kind, count in rows}
        counts, places = self._counted(every_ns)
        well = [(period, completed) for period, _, completed in counts]
        for after, until in places:
            well += self._ask(_WELL_BY_TIME, every=every_ns, after=after, until=until)
        for period, count in well:
            if count:
                key = period, TaskCompleted.__name__
                ends[key] = ends.get(key, 0) + count
        return ends

    def count(self) -> int:
        """Return how many tasks were submitted, of those that are kept."""
        counts, places = self._counted(MOST)
        many = sum(submitted for _, submitted, _ in counts)
        for after, until in places:
            ((more,),) = self._ask(_COUNT, after=after, until=until)
            many += more
        return many

    def _counted(
        self, every_ns: int
    ) -> tuple[list[tuple[int, int, int]], list[tuple[int, int]]]:
        """See `_stretches.counted`."""
        is_noted = self.session.has_stretches and not self.has_left_out(MOST)
        return _stretches.counted(self.session, every_ns, is_noted=is_noted)

    def noted_runs(self, most: int) -> NotedRuns | None:
        """Return the notes about runs, as of one moment: see `_lines`."""
        with self.session.at_once():
            return _lines.asked(self.session, most, self._entries)

    def last_until(self, at_ns: int) -> int:
        """Return the number of the last row up to a time; 0 if there is none."""
        # The numbers rise with the times.
        found, low, middle = 0, 1, MOST
        high = MOST
        while low <= high:
            rows = self._ask(_NEAREST, number=middle)
            if not rows:
                low = middle + 1
            elif rows[0][1] <= at_ns:
                found, low = int(rows[0][0]), middle + 1
            else:
                high = rows[0][0] - 1
            middle = (low + high) // 2
        return found

    def has_left_out(self, until: int) -> bool:
        """Return whether there is a rest that begins up to event *until*."""
        return bool(self._ask(_RESTS, until=until))

    def latest_of(self, kind: str) -> Entry | None:
        """Return the latest event of a rare class, by its index, unchecked."""
        rows = self._ask(_LATEST_OF, kind=kind, until=MOST, most=1)
        return next(iter(self._entries(rows)), None)

    def of_kinds(self, kinds: Iterable[str], until_ns: int, most: int) -> list[Entry]:
        """Return the latest events of rare classes, in order, unchecked."""
        until = self.last_until(until_ns)
        rows = [
            row
            for kind in kinds
            for row in self._ask(_LATEST_OF, kind=kind, until=until, most=most)
        ]
        return self._entries(sorted(rows))

    def id_of_key(self, key: str) -> str | None:
        """Return the task that was submitted with *key*."""
        return self.session.id_of_key(_codec.column(key))

    def verify(self) -> int:
        """Read all, as of one moment; return the number of events."""
        count = 0
        for begin, rows in self.proved():
            count += len(self._entries(rows, begin.last))
        return count

    def chain_start(self) -> ChainStart | None:
        """Return where the chain begins; None if the journal has none."""
        ((text,),) = self._ask("SELECT {chain}")
        if text is None:
            return None
        log, _, after = str(text).partition(" ")
        if not (log and after.isdecimal()):
            self.damaged("it does not say where its chain begins")
        return ChainStart(log, int(after))

    def proved(
        self, visit: Callable[[GroupRow, list[Row]], object] | None = None
    ) -> Iterator[tuple[GroupRow, list[Row]]]:
        """
        Yield all rows by groups, each with the group before it, as of one moment.

        All is checked: checksums and hashes, and, after the last group, keys,
        snapshots and pages.

        Args:
            visit: Is called with each group and its rows.

        Raises:
            JournalError: It is damaged; it names the first damage.
        """
        with self.session.at_once():
            start = self.chain_start()
            ((lowest, highest, group_before),) = self._ask(_AT_ZERO)
            if lowest is not None:
                self.damaged(_in_no_group(lowest, highest))
            if group_before is not None:
                self.damaged(f"a group up to event {group_before} was inserted")
            keys, before = dict[str, str](), NOTHING
            while window := self._window(before):
                for group, rows in window:
                    texts = self._texts(group, rows)
                    self._check(group, before, rows, texts)
                    self.check_link(group, before, rows, start, texts)
                    if visit is not None:
                        visit(group, rows)
                    keys |= _keys_of(rows)
                    yield before, rows
                    before = group
            self._check_end()
            if (number := self.session.misfit()) is not None:
                self.damaged(f"event {number} was changed")
            self._check_beside(before, keys)
            # This reads the indexes, too, which no statement above has used.
            if verdict := self.session.check_pages():
                self.damaged(verdict)

    def _check_beside(self, latest: GroupRow, keys: dict[str, str]) -> None:
        """Check the snapshots and keys of all events up to *latest*."""
        ((seq,),) = self._ask(_SNAPSHOT_AT_ZERO)
        if seq is not None:
            self.damaged(f"a snapshot of event {seq} was inserted")
        for (seq,) in self._ask(_SNAPSHOTS):
            if seq > latest.last:
                end = f"the end after {latest.last} is gone"
                if not latest.last:
                    end = f"all events, up to {seq}, are gone"
                self.damaged(f"{end}: a snapshot is of event {seq}")
            if self._snapshot(seq) is None:
                self.damaged(f"the snapshot at event {seq} was changed")
        if self.session.keys() != keys:
            self.damaged("its idempotency keys are not those of its tasks")

    def check_link(
        self,
        group: GroupRow,
        before: GroupRow,
        rows: list[Row],
        start: ChainStart | None,
        texts: list[bytes] | None = None,
    ) -> None:
        """
        Check that *group*, whose checksum is right, came after *before*.

        Raises:
            JournalError: Its hash is not right, or missing.
        """
        last, first = group.last, group.first
        if start is None or last <= start.after:
            if group.hash:
                self.damaged(f"its chain begins before event {first}, and should not")
            return
        if not group.hash:
            self.damaged(f"events {first} to {last} are in no chain")
        if group.is_rest:
            self._check_rest(group, before, rows)
        elif (
            group.gone
            or group.size != before.size + len(rows)
            or group.hash
            != group.chained(
                before, start.hash, texts or checked_texts(rows, group.epoch)
            )
        ):
            self.damaged(
                f"events {first} to {last} were changed: their hash is another"
            )

    def _check_rest(self, group: GroupRow, before: GroupRow, rows: list[Row]) -> None:
        with contextlib.suppress(ValueError):
            gone = tree.gone_of(group.gone)
            count = len(rows) + sum(1 << each.level for each in gone)
            if (
                group.size == before.size + count
                and group.gone_text(gone, rows) == group.gone
            ):
                return
        self.damaged(
            f"what is left of events {group.first} to {group.last} was changed"
        )

    def _texts(self, group: GroupRow, rows: list[Row]) -> list[bytes] | None:
        """Return the bytes under the checksum of *group*, if of the present form."""
        # Where tables are not strict, a text may have become a number.
        kinds = {tuple(map(type, row)) for row in rows}
        if kinds and kinds != _TYPES:
            self.damaged(f"events {rows[0][0]} to {rows[-1][0]} were changed")
        if group.form != FORM:
            return None
        return [*checked_texts(rows, group.epoch)]

    # ------------------------------------------------------------------- snapshots

    def snapshot(self) -> tuple[int, dict[str, Any]] | None:
        """Return the latest undamaged snapshot, as `(seq, state)`."""
        # A damaged snapshot is no loss, since the events are there.
        with self._as_good_as_none():
            for (seq,) in self._ask(_SNAPSHOTS):
                with self._as_good_as_none():
                    if (state := self._snapshot(seq)) is not None:
                        return seq, state
        return None

    def snapshots(self) -> Iterator[tuple[int, str]]:
        """Yield the numbers and texts of all snapshots; "" if damaged."""
        for (seq,) in self._ask(_SNAPSHOTS):
            text = ""
            with self._as_good_as_none():
                if self._snapshot(seq) is not None:
                    ((text, _),) = self._ask(_SNAPSHOT, seq=seq)
            yield seq, text

    def snapshot_sum(self, seq: int, state: str) -> int:
        """Return the checksum of a snapshot at *seq*, continued from its group's."""
        return snapshot_checksum(seq, state, self.group_of(seq)[0].crc)

    @contextlib.contextmanager
    def _as_good_as_none(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            if not self.session.is_damage(error):
                raise

    def _snapshot(self, seq: int) -> dict[str, Any] | None:
        """Return the state that was kept at event *seq*, if undamaged."""
        for state, crc in self._ask(_SNAPSHOT, seq=seq):
            groups = self._groups(_AT, number=seq)
            if groups and snapshot_checksum(seq, state, groups[0].crc) == crc:
                snapshot: dict[str, Any] = json.loads(state)
                return snapshot
        return None

    # --------------------------------------------------------------------- checking

    def check_latest(self, life: int) -> GroupRow:
        """
        Return the latest group, checked: complete, not later than *life*.

        Raises:
            JournalError: It is not.
        """
        latest = self.latest()
        if latest is not NOTHING:
            self.whole(latest, self.before(latest.last))
            if latest.epoch > life:
                self.damaged(f"incarnation {latest.epoch} wrote it, and this is {life}")
        self._check_end()
        return latest

    def latest(self) -> GroupRow:
        """Return the latest group, unchecked; one that ends at 0 if there is none."""
        return self.before(MOST)

    def group_of(self, number: int) -> tuple[GroupRow, GroupRow]:
        """Return the group that holds event *number*, and the one before it."""
        groups = self._groups(_AT, number=number)
        if not groups:
            self.damaged(f"event {number} is in no group")
        return groups[0], self.before(groups[0].last)

    def groups_after(self, number: int) -> list[GroupRow]:
        """Return some groups that end after event *number*, in order."""
        return self._groups(_NEXT, after=number, most=_BATCH)

    def before(self, number: int) -> GroupRow:
        """Return the last group that ends before event *number*."""
        groups = self._groups(_BEFORE, number=number)
        return groups[0] if groups else NOTHING

    def holding(
        self, numbers: Sequence[int]
    ) -> Iterator[tuple[GroupRow, GroupRow, list[Row]]]:
        """
        Yield the groups that have the events of *numbers*, in order, and their rows.

        Each comes with the group before it, and is checked.
        """
        reached = 0
        for place in range(0, len(numbers), _FEW):
            wanted = [n for n in numbers[place : place + _FEW] if n > reached]
            for asked in self._holding(wanted):
                if asked[0].last > reached:
                    group, before, rows = self._checked(*asked)
                    # Rows that were given may be in a larger rest, made meanwhile.
                    yield group, before, [row for row in rows if row[0] > reached]
                    reached = group.last

    def _checked(
        self, group: GroupRow, before: GroupRow, rows: list[Row]
    ) -> tuple[GroupRow, GroupRow, list[Row]]:
        """Return the group that was read; read it again if it fails its check."""
        try:
            self._check(group, before, rows)
        except JournalError:
            # Events may have been deleted between two questions.
            with self.session.at_once():
                group, before = self.group_of(group.last)
                return group, before, self.whole(group, before)
        return group, before, rows

    def _holding(
        self, numbers: Sequence[int]
    ) -> Iterator[tuple[GroupRow, GroupRow, list[Row]]]:
        """Yield the groups of a few events, unchecked."""
        groups = self._groups(_HOLDING, numbers=numbers) if numbers else []
        pairs: list[tuple[GroupRow, GroupRow]] = []
        for number in numbers:
            if pairs and number <= pairs[-1][0].last:
                continue
            spot = bisect_left(groups, number, key=_LAST)
            if spot == len(groups):
                self.damaged(f"event {number} is in no group")
            pairs.append((groups[spot], groups[spot - 1] if spot else NOTHING))
        starts = [_start(group, before) for group, before in pairs]
        ends = [group.last for group, _ in pairs]
        rows = self._ask(_RANGED, lows=starts, highs=ends) if pairs else []
        self._check_order(0, rows)
        for pair, part in zip(pairs, _parted(rows, ends), strict=True):
            yield (*pair, part)

    def whole(self, group: GroupRow, before: GroupRow) -> list[Row]:
        """
        Return the rows of *group*, which comes after *before*.

        Raises:
            JournalError: They have been changed.
        """
        rows: list[Row] = []
        reached = _start(group, before)
        while more := self._rows(reached, group.last):
            rows += more
            reached = more[-1][0]
        self._check(group, before, rows)
        return rows

    def _rows(self, after: int, until: int) -> list[Row]:
        """Return the next rows above *after*, up to *until*."""
        rows: list[Row] = self._ask(_ROWS, after=after, until=until, most=_BATCH)
        self._check_order(after, rows)
        return rows

    def _check(
        self,
        group: GroupRow,
        before: GroupRow,
        rows: list[Row],
        texts: list[bytes] | None = None,
    ) -> None:
        last, first, epoch, crc, form, kept, *_ = group
        computed = None
        # Where tables are not strict, a text may have become a number.
        with contextlib.suppress(TypeError):
            if form == REST:
                computed = rest_checksum(rows, first, last, epoch, crc)
            elif form == FORM and rows and rows[0][0] == first and rows[-1][0] == last:
                computed = before.crc
                for text in checked_texts(rows, epoch) if texts is None else texts:
                    computed = crc32(text, computed)
        if form == REST and first > before.last + 1:
            self.damaged(_missing_between(before, first))
        if computed != kept:
            if form == REST:
                self.damaged(f"what is left of events {first} to {last} was changed")
            self.damaged(_how_changed(group, before, rows))

    def _groups(self, statement: str, **values: Any) -> list[GroupRow]:
        rows = self._ask(statement, **values)
        for group in rows:
            if not (
                all(type(number) is int for number in group[:_NUMBERED])
                and tuple(map(type, group[_NUMBERED:])) in _CHAINED
            ):
                self.damaged(f"the group up to event {group[0]} cannot be read")
        return [
            GroupRow(
                last,
                first,
                epoch,
                crc & _HEAD if form == REST else crc,
                form,
                crc,
                size or 0,
                digest or b"",
                gone or "",
            )
            for last, first, epoch, crc, form, size, digest, gone in rows
        ]

    def _check_order(self, after: int, rows: Sequence[tuple[Any, ...]]) -> None:
        """Check that *rows* rise: a damaged tree may lead back, without an end."""
        numbers = [after, *[row[0] for row in rows]]
        if not all(map(lt, numbers, numbers[1:])):
            self.damaged(f"what follows event {after} is not in order")

    def _check_end(self) -> None:
        with self.session.at_once():
            latest = self.latest()
            ((last, kept),) = self._ask(_END)
        if kept is not None and kept != latest.last:
            self.damaged(f"the end after {latest.last} is gone: {kept} was the last")
        last = last or 0
        if last != latest.last and not (last < latest.last and latest.is_rest):
            if last > latest.last:
                self.damaged(_in_no_group(latest.last + 1, last))
            self.damaged(f"events {last + 1} to {latest.last} are missing")

    def damaged(self, why: str) -> NoReturn:
        """Raise the JournalError that says *why*."""
        raise damage(self.session.name, why)


def _keys_of(rows: Iterable[Row]) -> dict[str, str]:
    """Return the ids of tasks by their idempotency keys, from *rows*."""
    keys = {}
    for _, kind, _, task_id, _, text in rows:
        if kind == TaskSubmitted.__name__ and _KEYED in text:
            with contextlib.suppress(KeyError, TypeError, ValueError):
                key = json.loads(text)["$Task"]["idempotency_key"]
                # A key that is no valid text is kept in another way.
                key = restored(key, list)
                if isinstance(key, str):
                    keys[_codec.column(key)] = task_id
    return keys


def _missing_between(before: GroupRow, first: int) -> str:
    if before.last:
        return f"events {before.last + 1} to {first - 1} are missing"
    return f"the beginning, up to {first - 1}, is gone"


def start_in(row: Row) -> int | None:
    """Return the number of the start that *row*, the end of an attempt, has with it."""
    if row[1] != TaskCompleted.__name__:
        return None
    match json.loads(row[4])[-1]:
        case [int(number), *_]:
            return number
    return None


def _how_changed(group: GroupRow, before: GroupRow, rows: Sequence[Row]) -> str:
    """Return in words how *rows* differ from those of *group*."""
    first, last = group.first, group.last
    changed = f"events {max(first, before.last + 1)} to {last} were changed"
    numbers = [row[0] for row in rows]
    if first <= before.last or any(type(number) is not int for number in numbers):
        return changed
    if strange := [number for number in numbers if number < first]:
        return _in_no_group(strange[0], strange[-1])
    count = group.size - before.size
    if not group.hash or (before.last and not before.hash) or count < 0:
        # Nothing says how many rows there were.
        count = len(rows)
    elif len(rows) == count:
        return changed
    starts: list[int | None] = []
    with contextlib.suppress(LookupError, TypeError, ValueError, RecursionError):
        # The end of an attempt may contain the number of its start.
        starts = [start_in(row) for row in rows]
    if missing := sorted({*range(first, last + 1)} - {*numbers, *starts}):
        return f"events {missing[0]} to {missing[-1]} are missing"
    more = len(rows) - count
    if more > 0:
        are = "was" if more == 1 else "were"
        return f"{more} {are} inserted among events {first} to {last}"
    return _missing_between(before, first) if more < 0 else changed


def _in_no_group(first: int, last: int) -> str:
    why = "they were inserted, or what guards them is gone"
    return f"events {first} to {last} are in no group: {why}"


def _start(group: GroupRow, before: GroupRow) -> int:
    """Return the number above which the rows of *group* begin."""
    return group.first - 1 if group.is_rest else before.last


def _parted(rows: list[Row], ends: Iterable[int]) -> Iterator[list[Row]]:
    """Yield *rows*, which are in order, in parts, each up to one of *ends*."""
    place = 0
    for last in ends:
        end = bisect_right(rows, last, place, key=_NUMBER)
        yield rows[place:end]
        place = end
