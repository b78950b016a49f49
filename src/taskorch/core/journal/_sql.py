"""
A journal in the tables of any database.

A database gives a `Session`, with its dialect, and a class with the methods that begin
with "_": who may read and write, and how a group is written. How a journal gets its
leader, and knows it, is up to the database.

Decision: journal-in-postgresql.
"""

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import (
    Callable,
    Collection,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import AbstractContextManager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn, TypeVar
from zlib import crc32

from taskorch.core.journal._chain import ChainStart
from taskorch.core.journal._codec import Row, Rows
from taskorch.core.journal._encoding import EncodingJournal
from taskorch.core.journal._logs import remove_logs
from taskorch.core.journal._points import reach
from taskorch.core.journal._reader import (
    FORM,
    KEEP_GROUP,
    MOST,
    NOTHING,
    GroupRow,
    Reader,
    checked_texts,
)
from taskorch.core.journal._scripts import Beside
from taskorch.core.journal._session import Durability, Session, damage
from taskorch.core.journal._values import state_text
from taskorch.errors import (
    InvalidTaskError,
    JournalError,
    JournalTakenError,
    JournalUnavailableError,
)
from taskorch.events import Event
from taskorch.kit.checks import built_in, check_count, check_seconds, check_word
from taskorch.model import Retention
from taskorch.protocols import Entry

if TYPE_CHECKING:
    from taskorch.kit.noted import NotedRuns
    from taskorch.model import TaskFilter

T = TypeVar("T")

#: The call that an error names if the extension for it was deleted.
_FORGETTING: Final = "forget() of a journal"
#: The number of rows and groups of another journal that are written at once.
_MANY: Final = 5_000
_DROP_GROUP: Final = "DELETE FROM {groups} WHERE {mine}last = :last"
_DROP_SNAPSHOT: Final = "DELETE FROM {snapshots} WHERE {mine}seq = :seq"
_SAVE: Final = """
    INSERT INTO {snapshots} ({column}seq, crc, state) VALUES ({value}:seq, :crc, :state)
"""
_DROP_OLD: Final = """
    DELETE FROM {snapshots} WHERE {mine}seq NOT IN (
        SELECT seq FROM {snapshots} WHERE {mine}seq > 0 ORDER BY seq DESC LIMIT 2
    )
"""


class SqlReading(EncodingJournal):
    """
    Questions to a journal that need no claim, from any thread.

    Args:
        name: The journal, for people.
        beside: The path of the journal, if values of it are in files beside it.
    """

    def __init__(self, name: str, beside: str = "") -> None:
        self._name = name
        self._beside = Beside(beside)
        self._pid = os.getpid()
        #: The latest group that was reported as kept.
        self._acknowledged = NOTHING
        #: Whether the group in hand may have been kept, although an error was raised.
        self._in_doubt = False

    @abstractmethod
    def _reading(self) -> AbstractContextManager[Reader | None]:
        """Yield a reader with a connection of its own; None if no journal exists."""

    @abstractmethod
    def owner(self) -> dict[str, Any]:
        """
        Return the latest leader: `epoch`, `pid`, `host`, `since` and `started`.

        It has `uid`, the id of the journal, too, if its layout has one.

        Raises:
            JournalError: The journal is damaged.
            JournalUnavailableError: It cannot be read now.
        """

    @abstractmethod
    def owner_lives(self, owner: Mapping[str, Any]) -> bool | None:
        """
        Return whether a leader still has it open; None if that cannot be known here.

        Args:
            owner: A value of `owner`, which names a leader.

        Raises:
            JournalUnavailableError: It cannot be read now.
        """

    @abstractmethod
    def check_readable(self) -> None:
        """
        Check that there is a journal to read.

        Raises:
            JournalUnavailableError: The caller may not read it.
            JournalError: There is none, or something else, or of another version.
        """

    def _answer(self, question: Callable[[Reader], T], otherwise: T) -> T:
        """Return the answer to *question*; *otherwise* if there is no journal yet."""
        with self._reading() as reader:
            return otherwise if reader is None else question(reader)

    def read(self, after: int = 0) -> Iterator[Entry]:
        """
        See `Journal.read`; the groups are checked as they are read.

        Raises:
            JournalError: The journal is damaged; no event of that group was given.
            JournalUnavailableError: It cannot be read now.
        """
        with self._reading() as reader:
            if reader is not None:
                yield from reader.entries(after)

    def facts(self, after: int = 0) -> Iterator[Event]:
        """
        See `DurableJournal.facts`; the groups are checked as they are read.

        Raises:
            JournalError: The journal is damaged.
            JournalUnavailableError: It cannot be read now.
        """
        with self._reading() as reader:
            if reader is not None:
                yield from reader.facts(after)

    def rows(self) -> Iterator[Row]:
        """
        Yield all rows, in order, as `append` takes them; the groups are checked.

        Raises:
            JournalError: The journal is damaged.
            JournalUnavailableError: It cannot be read now.
        """
        with self._reading() as reader:
            if reader is not None:
                for begin, rows in reader.parts(0):
                    yield from (row for row in rows if row[0] > begin)

    def proved(
        self, visit: Callable[[GroupRow, list[Row]], object] = lambda *_: None
    ) -> ChainStart | None:
        """
        Check all rows, as of one moment, without restoring a value of them.

        It does what `verify` does but for that, and takes a third of the time.

        Args:
            visit: Is called with each group, and its rows.

        Returns:
            Where the chain of hashes begins; None: the journal has none.

        Raises:
            JournalError: The journal is damaged; it names the first damage.
            JournalUnavailableError: It cannot be read now.
        """
        with self._reading() as reader:
            if reader is None:
                return None
            for _ in reader.proved(visit):
                pass
            return reader.chain_start()

    def select(self, ids: Collection[str], until: int) -> Iterator[Entry]:
        """
        Yield the entries about tasks of *ids* with a number up to *until*, in order.

        The groups that hold them are found by the index, and checked as they are read.
        A start in the row of its end has the number of that.

        Raises:
            JournalError: One of these groups is damaged; no event of it was given.
            JournalUnavailableError: It cannot be read now.
        """
        with self._reading() as reader:
            if reader is not None:
                yield from reader.select(ids, until)

    def task_events(self, task_id: str) -> Iterator[Entry]:
        """
        Yield the entries about one task, in order, by the index and without a check.

        Raises:
            JournalError: The journal is damaged.
            JournalUnavailableError: It cannot be read now.
        """
        with self._reading() as reader:
            if reader is not None:
                yield from reader.about(task_id)

    def ends(self, ids: Collection[str]) -> dict[str, str]:
        """
        Return the class of the final event of each of *ids* that has ended.

        It does not check the rows.

        Returns:
            The class of the event that ended it, by id: `TaskCompleted`, `TaskFailed`
            or `TaskCancelled`.

        Raises:
            JournalError: The journal is damaged.
            JournalUnavailableError: It cannot be read now.
        """
        return self._answer(lambda reader: reader.ends(ids), {})

    def began(self, ids: Collection[str]) -> dict[str, int]:
        """
        Return the number of the first event about each of *ids* that has one.

        Raises:
            JournalError: The journal is damaged.
            JournalUnavailableError: It cannot be read now.
        """
        return self._answer(lambda reader: reader.began(ids), {})

    def ended_by(self, kind: str, until: int) -> Iterator[Event]:
        """
        Yield the events of one class that ended tasks, in order and without a check.

        Args:
            kind: `TaskFailed` or `TaskCancelled`: of these there are few.
            until: The last number: those above it are left out.

        Raises:
            JournalError: The journal is damaged.
            JournalUnavailableError: It cannot be read now.
        """
        with self._reading() as reader:
            if reader is not None:
                yield from reader.ended_by(kind, until)

    def ids(self, prefix: str) -> list[str]:
        """
        Return the ids of tasks that begin with *prefix*, in the order of submission.

        Raises:
            JournalError: The journal is damaged.
            JournalUnavailableError: It cannot be read now.
        """
        return self._answer(lambda reader: reader.ids(prefix), [])

    def submitted(self, after: int, until: int, most: int) -> list[tuple[int, str]]:
        """
        Return the next tasks in the order of their submission, without a check.

        Args:
            after: Only those with a number above this.
            until: Only those with a number up to this.
            most: The largest number of tasks.

        Returns:
            The numbers of the events of submission, and the ids.

        Raises:
            JournalError: The journal is damaged.
            JournalUnavailableError: It cannot be read now.
        """
        return self._answer(lambda reader: reader.submitted(after, until, most), [])

    def candidates(
        self,
        which: TaskFilter,
        after: int,
        until: int,
        most: int,
        *,
        newest: bool = False,
        among: Collection[str] | None = None,
    ) -> list[tuple[int, str]]:
        """
        See `DurableJournal.candidates`; rows are searched as texts.

        Raises:
            JournalError: The journal is damaged.
            JournalUnavailableError: It cannot be read now.
        """
        none: list[tuple[int, str]] = []
        return self._answer(
            lambda r: r.candidates(
                which, after, until, most, newest=newest, among=among
            ),
            none,
        )

    def about(self, ids: Collection[str], until: int) -> Iterator[Entry]:
        """
        See `DurableJournal.about`: by the index, and without a check.

        Raises:
            JournalError: The journal is damaged.
            JournalUnavailableError: It cannot be read now.
        """
        with self._reading() as reader:
            if reader is not None:
                yield from reader.about_all(ids, until)

    def id_of_key(self, key: str) -> str | None:
        """
        Return the id of the task that was submitted with the idempotency key *key*.

        Raises:
            JournalError: The journal is damaged.
            JournalUnavailableError: It cannot be read now.
        """
        return self._answer(lambda reader: reader.id_of_key(key), None)

    def snapshot(self) -> tuple[int, dict[str, Any]] | None:
        """
        Return the latest undamaged snapshot, as `(seq, state)`, or None.

        Raises:
            JournalError: The journal is damaged.
            JournalUnavailableError: It cannot be read now.
        """
        return self._answer(lambda reader: reader.snapshot(), None)

    def verify(self) -> int:
        """
        Check the whole journal: every checksum, document, key, snapshot and page.

        The log of a file grows while it reads, if another process writes at the same
        time.

        Returns:
            The number of events.

        Raises:
            JournalError: The journal is damaged; it names the first damage.
            JournalUnavailableError: It cannot be read now.
        """
        return self._answer(lambda reader: reader.verify(), 0)

    def latest_of(self, kind: str) -> Entry | None:
        """
        Return the latest event of a class of which there are few, without a check.

        Raises:
            JournalError: The journal is damaged.
            JournalUnavailableError: It cannot be read now.
        """
        return self._answer(lambda reader: reader.latest_of(kind), None)

    def of_kinds(self, kinds: Iterable[str], until_ns: int, most: int) -> list[Entry]:
        """
        Return the latest events of classes of which there are few, without a check.

        Args:
            kinds: The names of the classes.
            until_ns: The time after which no event counts.
            most: The most events of each class.

        Returns:
            The events of all these classes, in their order.

        Raises:
            JournalError: The journal is damaged.
            JournalUnavailableError: It cannot be read now.
        """
        return self._answer(lambda reader: reader.of_kinds(kinds, until_ns, most), [])

    def ends_by_time(self, every_ns: int) -> dict[tuple[int, str], int]:
        """
        Return how many tasks have ended, by time and by class; without a check.

        Args:
            every_ns: The length of a period, in ns.

        Returns:
            The counts, by the number of the period since 1970 and the event's class.

        Raises:
            JournalError: The journal is damaged.
            JournalUnavailableError: It cannot be read now.
        """
        return self._answer(lambda reader: reader.ends_by_time(every_ns), {})

    def noted_runs(self, most: int) -> NotedRuns | None:
        """
        Return the notes about runs; without a check.

        Args:
            most: The largest number of lines; they are the latest.

        Raises:
            JournalError: The journal is damaged.
            JournalUnavailableError: It cannot be read now.
        """
        return self._answer(lambda reader: reader.noted_runs(most), None)

    def count(self) -> int:
        """
        Return the number of tasks; without a check.

        Raises:
            JournalError: The journal is damaged.
            JournalUnavailableError: It cannot be read now.
        """
        return self._answer(lambda reader: reader.count(), 0)

    def last_until(self, at_ns: int) -> int:
        """
        Return the number of the last event with a row, up to a time in ns; or 0.

        Raises:
            JournalError: The journal is damaged.
            JournalUnavailableError: It cannot be read now.
        """
        return self._answer(lambda reader: reader.last_until(min(at_ns, MOST)), 0)

    def has_left_out(self, until: int | None = None) -> bool:
        """
        Return whether events up to *until* were deleted.

        Raises:
            JournalError: The journal is damaged.
            JournalUnavailableError: It cannot be read now.
        """
        until = MOST if until is None else until
        return self._answer(lambda reader: reader.has_left_out(until), otherwise=False)

    @property
    def last(self) -> int:
        """Return the number of the last event that is kept, or 0."""
        return self._answer(lambda reader: reader.latest().last, 0)

    def _check_process(self) -> None:
        if os.getpid() != self._pid:
            msg = (
                f"{self._name} was opened by process {self._pid}, before this one "
                "forked"
            )
            raise JournalError(msg, hint="only the process that opened it may use it")

    def _damaged(self, why: str) -> NoReturn:
        raise damage(self._name, why)


class SqlJournal(SqlReading):
    """
    A DurableJournal in the tables of a database.

    Args:
        name: The journal, for people.
        beside: See `SqlReading`.
        durability: Whether groups that `append` has written survive a loss of power, or
            only a death of the process.
        take_over: Claim it although its leader lives.
        keep_for: How long tasks are kept after their end, in seconds or as a timedelta;
            None: for ever.
        keep_latest: How many ended tasks are kept, the latest; None: all.

    Raises:
        ValueError: *durability* is neither.
        InvalidTaskError: *keep_for* or *keep_latest* is out of its range.
    """

    def __init__(
        self,
        name: str,
        beside: str = "",
        *,
        durability: Durability,
        take_over: bool,
        keep_for: float | timedelta | None,
        keep_latest: int | None,
    ) -> None:
        check_word("durability", durability, ("power", "process"))
        if keep_for is not None:
            keep_for = check_seconds("keep_for", keep_for)
        if keep_latest is not None:
            check_count("keep_latest", keep_latest, least=0)
        super().__init__(name, beside)
        self._retention = Retention(keep_for, keep_latest)
        self.durability: Durability = durability
        self.take_over: bool = take_over
        self._epoch = 0
        self._is_closed = False
        #: The latest group; None: it must be read from the journal.
        self._latest: GroupRow | None = NOTHING
        #: The hash that the chain begins with; b"" if it has none.
        self._start = b""

    def _set_start(self, start: ChainStart | None, latest: GroupRow) -> None:
        """Begin an incarnation: *start* of the chain, *latest* group."""
        self._start = b"" if start is None else start.hash
        self._latest = self._acknowledged = latest

    def exists(self) -> bool:
        """
        Return whether it exists, empty or not.

        Raises:
            JournalUnavailableError: It cannot be read now.
        """
        return bool(self.owner())

    def draft(self) -> SqlJournal:
        """
        Return an empty journal that may become this one, which does not exist yet.

        Raises:
            InvalidTaskError: A journal of this kind cannot be made by a copy.
        """
        msg = f"{self._name} cannot be made by a copy"
        raise InvalidTaskError(msg, hint="copy it to a file, or into PostgreSQL")

    def replace_by(self, draft: SqlJournal) -> None:
        """
        Become *draft*, which is closed and was made by `draft`.

        Raises:
            InvalidTaskError: This one has come to exist meanwhile.
            JournalUnavailableError: It cannot be written now.
        """
        raise NotImplementedError

    @abstractmethod
    def _writing(self, epoch: int) -> AbstractContextManager[Any]:
        """
        Yield the session that writes, for one thread at a time.

        Errors of its database are translated into ours.
        """

    @abstractmethod
    def _owning(self, session: Any) -> AbstractContextManager[None]:
        """
        Begin a transaction in which no other can claim the journal, or write to it.

        Raises:
            JournalTakenError: Another incarnation has begun.
        """

    @abstractmethod
    def _keep(self, session: Any, rows: Rows, group: GroupRow, before: int) -> None:
        """
        Write *rows* and their *group*, completely or not at all.

        If another incarnation has begun, nothing is kept, however late it comes. Before
        an error is possible although the group was kept, `_in_doubt` is set.

        Args:
            session: The session from `_writing`.
            rows: The events.
            group: Their numbers, incarnation and checksum.
            before: The last event that was kept before.
        """

    def _adopt_chain(self, session: Any, start: ChainStart) -> None:
        """Begin the chain as another journal does."""
        raise NotImplementedError

    def _adopt(
        self, session: Any, groups: Sequence[tuple[GroupRow, list[Row]]]
    ) -> None:
        """Write groups of another journal unchanged, within `_owning`."""
        raise NotImplementedError

    def _wrote(self, size: int) -> None:
        """Note that *size* bytes of text were written."""

    def _make_room(self, session: Any) -> None:
        """Give back the room of deleted events."""

    # -------------------------------------------------------------------- writing

    def append(self, epoch: int, group: Iterable[Entry | Row] | Rows) -> None:
        """
        See `Journal.append`; it also takes a group of `new_group`, or its rows.

        Raises:
            InvalidTaskError: Something in it cannot be restored exactly; nothing of
                it was kept.
            JournalError: The journal is damaged.
        """
        self._check_owner(epoch)
        rows = self._rows_of(group)
        if not rows:
            return
        with self._writing(epoch) as session:
            self._append(session, rows)
        self._in_doubt = False

    def adopt(self, epoch: int, other: SqlReading) -> int:
        """
        Write all groups of *other*, with checksums and hashes; this one is empty.

        Args:
            epoch: The number from `claim`, above all incarnations of *other*.
            other: A journal that nobody writes to meanwhile.

        Returns:
            The number of rows.

        Raises:
            JournalError: *other* is damaged.
            JournalTakenError, JournalUnavailableError: See `append`.
        """
        batch: list[tuple[GroupRow, list[Row]]] = []
        count = waiting = 0

        def write() -> None:
            nonlocal batch, waiting
            with self._writing(epoch) as session, self._owning(session):
                self._adopt(session, batch)
                self._wrote(
                    sum(len(row[4]) + len(row[5]) for _, r in batch for row in r)
                )
            if batch:
                self._latest = self._acknowledged = batch[-1][0]
            batch, waiting = [], 0

        def visit(group: GroupRow, rows: list[Row]) -> None:
            nonlocal count, waiting
            batch.append((group, rows))
            count, waiting = count + len(rows), waiting + len(rows) + 1
            if waiting >= _MANY:
                write()

        start = other.proved(visit)
        write()
        # A journal without a chain is like one of an earlier version.
        start = start or ChainStart(os.urandom(16).hex(), self.last)
        with self._writing(epoch) as session, self._owning(session):
            self._adopt_chain(session, start)
        self._start = start.hash
        return count

    def _append(self, session: Session, rows: Rows) -> None:
        first, last = rows.numbers[0], rows.numbers[-1]
        reach("begin")
        before = self._latest or NOTHING
        if self._latest is None or first <= before.last:
            with self._owning(session):
                before = self._find_latest(session)
                if first <= before.last:
                    self._check_again(session, list(rows), before.last)
                    reach("commit")
                    self._in_doubt = True
            if first <= before.last:
                self._latest = self._acknowledged = before
                reach("kept")
                return
        # If a step fails from here on, the latest group must be read again.
        self._latest = None
        texts, crc = [*checked_texts(rows, self._epoch)], before.crc
        for text in texts:
            crc = crc32(text, crc)
        size = before.size + len(rows)
        group = GroupRow(last, first, self._epoch, crc, FORM, crc, size)
        if self._start:
            group = group._replace(hash=group.chained(before, self._start, texts))
        self._keep(session, rows, group, before.last)
        self._latest = self._acknowledged = group
        self._wrote(sum(map(len, texts)))
        reach("kept")

    def _find_latest(self, session: Session) -> GroupRow:
        """
        Return the latest group that exists, after trouble.

        Raises:
            JournalError: A group that was reported as kept is missing.
        """
        reader = Reader(session)
        latest, mine = reader.latest(), self._acknowledged
        last = mine.last
        if latest.last < last or (
            last and not _is_same(reader.group_of(last)[0], mine)
        ):
            now = latest.last
            self._damaged(f"event {last} was kept, and it ends with event {now} now")
        return latest

    def _check_again(self, session: Session, rows: list[Row], kept: int) -> None:
        """
        Check that *rows* are the latest group, whose commit was in doubt.

        Raises:
            ValueError: It is not that group.
        """
        reader = Reader(session)
        group, before = reader.group_of(kept)
        first, last = rows[0][0], rows[-1][0]
        if (first, last) == group[1::-1] and reader.whole(group, before) == rows:
            # The log of a file was rewritten, and so is this: SQLite syncs nothing for
            # an UPDATE that changes no value.
            session.change(_DROP_GROUP, last=last)
            session.change(KEEP_GROUP, **group.columns())
            return
        msg = f"event {first} comes after event {kept} was kept"
        raise ValueError(msg)

    def save(self, epoch: int, seq: int, state: dict[str, Any]) -> None:
        """
        See `DurableJournal.save`.

        The one before it is kept too, and older ones are not. A death in the middle
        harms nothing.

        Raises:
            JournalTakenError: Another process has claimed it since.
            JournalUnavailableError: It cannot be written now.
            JournalError: The journal is damaged.
            ValueError, TypeError: *seq* was not kept, or *state* is no JSON.
        """
        self._check_owner(epoch)
        text = state_text(state)
        with self._writing(epoch) as session:
            reach("save")
            with self._owning(session):
                reader = Reader(session)
                if not 0 < seq <= reader.latest().last:
                    msg = f"a snapshot at event {seq}, which was not kept"
                    raise ValueError(msg)
                crc = reader.snapshot_sum(seq, text)
                session.change(_DROP_SNAPSHOT, seq=seq)
                session.change(_SAVE, seq=seq, crc=crc, state=text)
                session.change(_DROP_OLD)
            self._wrote(len(text))
            reach("saved")
            if stretches := session.unnoted(seq):
                with self._owning(session):
                    session.note(stretches)
            for after, until in session.runs_to_note(seq):
                with self._owning(session):
                    session.note_runs(after, until)

    def retention(self) -> Retention:
        """See `DurableJournal.retention`: `keep_for` and `keep_latest`."""
        return self._retention

    def forget(self, epoch: int, ids: Collection[str]) -> int:
        """
        See `DurableJournal.forget`; the room that becomes free is used again.

        Raises:
            JournalTakenError: Another process has claimed it since.
            JournalUnavailableError: It cannot be written now; nothing was deleted.
            JournalError: The journal is damaged; nothing was deleted.
        """
        forgetting = built_in("retention._forgetting", _FORGETTING)
        self._check_owner(epoch)
        with self._writing(epoch) as session:
            with self._owning(session):
                count: int = forgetting.forget(Reader(session), ids)
            reach("forgotten")
        folder = self.logs_folder()
        if folder is not None:
            remove_logs(Path(folder), ids)
        return count

    def prepare_to_forget(self, epoch: int) -> None:
        """
        See `DurableJournal.prepare_to_forget`: it splits very large groups.

        Raises:
            JournalTakenError: Another process has claimed it since.
            JournalUnavailableError: It cannot be read or written now.
            JournalError: The journal is damaged.
        """
        forgetting = built_in("retention._forgetting", _FORGETTING)
        self._check_owner(epoch)
        with self._reading() as reader:
            for group, rests in () if reader is None else forgetting.parts(reader):
                with self._writing(epoch) as session, self._owning(session):
                    forgetting.replace(Reader(session), group, rests)

    def forget_events(self, epoch: int, numbers: Collection[int]) -> int:
        """
        See `DurableJournal.forget_events`.

        Raises:
            JournalTakenError: Another process has claimed it since.
            JournalUnavailableError: It cannot be written now; nothing was deleted.
            JournalError: The journal is damaged; nothing was deleted.
        """
        forgetting = built_in("retention._forgetting", _FORGETTING)
        self._check_owner(epoch)
        with self._writing(epoch) as session, self._owning(session):
            many: int = forgetting.forget(Reader(session), (), numbers)
        return many

    def make_room(self, epoch: int) -> None:
        """
        See `DurableJournal.make_room`.

        Raises:
            JournalTakenError: Another process has claimed it since.
            JournalUnavailableError: It cannot be written now.
        """
        self._check_owner(epoch)
        with self._writing(epoch) as session:
            self._make_room(session)

    def upkeep(self, epoch: int) -> None:
        """See `DurableJournal.upkeep`: it only checks that the claim still holds."""
        with self._writing(epoch) as session, self._owning(session):
            pass

    # ------------------------------------------------------------------ complaints

    def _check_owner(self, epoch: int) -> None:
        self._check_usable()
        if epoch != self._epoch or epoch == 0:
            msg = f"{self._name}: incarnation {self._epoch} owns it here, not {epoch}"
            raise JournalTakenError(msg)

    def _check_usable(self) -> None:
        self._check_process()
        if self._is_closed:
            msg = f"{self._name} was closed"
            raise JournalUnavailableError(msg, outcome="refused", hint="open it anew")


def _is_same(group: GroupRow, acknowledged: GroupRow) -> bool:
    """Return whether *group* is the one that was reported as kept, or its rest."""
    hashes = {group.hash, acknowledged.hash}
    return group.crc == acknowledged.crc and len(hashes) == 1
