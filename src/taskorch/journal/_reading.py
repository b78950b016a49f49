"""Reading a journal in a file, with or without an owner."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, Final, NoReturn

from taskorch.errors import JournalError, JournalUnavailableError
from taskorch.journal import _file, _repair
from taskorch.journal._file import FAILURES
from taskorch.journal._layout import RESTORE, check_layout
from taskorch.journal._reader import IdleReaders, Reader
from taskorch.journal._scripts import Beside
from taskorch.protocols import Entry

#: In SQLite before this, two connections that write and checkpoint at the same moment
#: can lose what was committed.
_WAL_RESET_FIXED: Final = (3, 51, 3)


#: How a journal is opened that nobody has open.
_WITHOUT_LOCK: Final = ("alone", "immutable")


class ReadableJournal:
    """
    What can be asked of a journal without owning it, from any thread.

    Every question has a connection of its own, which cannot write.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        try:
            self.path: Path = Path(path).resolve()
        except FileNotFoundError as error:
            msg = f"{path} is a relative path, and the working folder is gone"
            raise JournalError(msg, hint="give an absolute path") from error
        self._name = str(self.path)
        self._beside = Beside(self._name)
        self._log = f"{self.path}-wal"
        self._pid = os.getpid()
        #: The files that are open: whether they are still what the paths name.
        self._files: dict[str, tuple[int, int]] = {}
        self._idle = IdleReaders()
        #: Whether the group in hand may have been kept, although we were told no.
        self._in_doubt = False

    @property
    def wal_reset_bug(self) -> bool:
        """
        Whether this SQLite may lose commits when two connections write at once.

        One connection writes here, so only another program that writes to the file
        can do that harm.
        """
        return sqlite3.sqlite_version_info < _WAL_RESET_FIXED

    def read(self, after: int = 0) -> Iterator[Entry]:
        """
        See `Journal.read`; the groups are checked as they are read.

        Raises:
            JournalError: The journal is damaged; nothing of the group in which that
                shows was given.
            JournalUnavailableError: It cannot be read now.
        """
        with self._reading() as reader:
            if reader is not None:
                yield from reader.entries(after)

    def select(self, ids: Collection[str], until: int) -> Iterator[Entry]:
        """
        The entries about any task of *ids* with a number to *until*, in order.

        The groups that hold them are found by the index, and checked as they are read.
        A start that is in one row with its end counts as that.

        Raises:
            JournalError: One of these groups is damaged; nothing of it was given.
            JournalUnavailableError: It cannot be read now.
        """
        with self._reading() as reader:
            if reader is not None:
                yield from reader.select(ids, until)

    def task_facts(self, task_id: str) -> Iterator[Entry]:
        """
        The entries about one task, in order, by the index and without a check.

        Raises:
            JournalError: The journal is damaged.
            JournalUnavailableError: It cannot be read now.
        """
        with self._reading() as reader:
            if reader is not None:
                yield from reader.about(task_id)

    def ends(self, ids: Collection[str]) -> dict[str, str]:
        """
        The class of the ending fact of each of *ids* that has ended, unchecked.

        Returns:
            The class of the fact that ended it, by id: `TaskCompleted`, `TaskFailed`
            or `TaskCancelled`.

        Raises:
            JournalError: The journal is damaged.
            JournalUnavailableError: It cannot be read now.
        """
        with self._reading() as reader:
            return {} if reader is None else reader.ends(ids)

    def ids(self, prefix: str) -> list[str]:
        """
        The ids of the tasks that begin with *prefix*, as they were submitted.

        Raises:
            JournalError: The journal is damaged.
            JournalUnavailableError: It cannot be read now.
        """
        with self._reading() as reader:
            return [] if reader is None else reader.ids(prefix)

    def submitted(self, after: int, until: int, most: int) -> list[tuple[int, str]]:
        """
        The next tasks in the order of their submission, without a check.

        Args:
            after: Only those with a number above this.
            until: And to this.
            most: At most so many.

        Returns:
            The numbers of the facts that say so, and the ids.

        Raises:
            JournalError: The journal is damaged.
            JournalUnavailableError: It cannot be read now.
        """
        with self._reading() as reader:
            return [] if reader is None else reader.submitted(after, until, most)

    def id_of_key(self, key: str) -> str | None:
        """
        The id of the task that was submitted with the idempotency key *key*.

        Raises:
            JournalError: The journal is damaged.
            JournalUnavailableError: It cannot be read now.
        """
        with self._reading() as reader:
            return None if reader is None else reader.id_of_key(key)

    def snapshot(self) -> tuple[int, dict[str, Any]] | None:
        """
        The latest snapshot that is whole, as `(seq, state)`, or None.

        Raises:
            JournalError: The journal is damaged.
            JournalUnavailableError: It cannot be read now.
        """
        with self._reading() as reader:
            return None if reader is None else reader.snapshot()

    def verify(self) -> int:
        """
        Check the whole journal: every checksum, document, key, snapshot and page.

        The log grows while it reads, if somebody writes at the same time.

        Returns:
            How many facts there are.

        Raises:
            JournalError: The journal is damaged; the first damage is said.
            JournalUnavailableError: It cannot be read now.
        """
        with self._reading() as reader:
            return 0 if reader is None else reader.verify()

    def latest_of(self, kind: str) -> Entry | None:
        """
        The latest fact of a class of which there are few, without a check.

        Raises:
            JournalError: The journal is damaged.
            JournalUnavailableError: It cannot be read now.
        """
        with self._reading() as reader:
            return None if reader is None else reader.latest_of(kind)

    def ends_by_time(self, every_ns: int) -> dict[tuple[int, str], int]:
        """
        How many tasks have ended, by when and how; without a check.

        Args:
            every_ns: What is told apart, in ns.

        Returns:
            How many, by the number of the period since 1970 and the class of the fact.

        Raises:
            JournalError: The journal is damaged.
            JournalUnavailableError: It cannot be read now.
        """
        with self._reading() as reader:
            return {} if reader is None else reader.ends_by_time(every_ns)

    def owner(self) -> dict[str, Any]:
        """
        The latest owner: `epoch`, `pid`, `host`, `since` and `started`.

        With `uid`, the id of the journal, if its layout has one.

        Raises:
            JournalError: The journal is damaged.
            JournalUnavailableError: It cannot be read now.
        """
        with self._reading() as reader:
            return {} if reader is None else reader.owner()

    def check_readable(self) -> None:
        """
        Check that there is a journal to read.

        Raises:
            JournalUnavailableError: Whoever asks may not read it.
            JournalError: There is none, or something else, or of another version.
        """
        if not self._files:
            _repair.check_readable(self.path)
        with self._reading():
            pass

    @property
    def last(self) -> int:
        """The number of the last fact that is kept, or 0."""
        with self._reading() as reader:
            return 0 if reader is None else reader.latest().last

    @property
    def lost_file(self) -> str:
        """The file that is no longer under its name, and what to do; or ""."""
        try:
            self._check_names()
        except JournalUnavailableError as error:
            return f"{error.message}; {error.hint}"
        except OSError:
            # A file that cannot be examined now may still be there: its next use
            # reports why.
            return ""
        return ""

    @contextlib.contextmanager
    def _reading(self) -> Iterator[Reader | None]:
        """What reads, over a connection of its own; None if there is no journal yet."""
        self._check_process()
        mode: _file.Mode = "ro"
        before = None
        try:
            if self._files:
                self._check_names()
            elif _file.is_absent(self.path):
                yield None
                return
            if self._files:
                reader = self._idle.borrow() or self._reader(mode)
            else:
                mode, before, reader = self._reader_of_others()
            try:
                yield reader
            except BaseException:
                # A question that is abandoned half-way leaves a statement open: such a
                # reader is not used again.
                reader.close()
                raise
            self._idle.give_back(reader)
            self._check_undisturbed(mode, before)
        except FAILURES as error:
            self._check_undisturbed(mode, before)
            raise self._error(error, "read") from error
        except JournalError:
            self._check_undisturbed(mode, before)
            raise

    def _reader_of_others(self) -> tuple[_file.Mode, object, Reader]:
        """A reader for those who do not own the journal; its mode and file state."""
        while True:
            before = _file.state_of(self.path)
            mode = _file.mode_for_readers(self.path)
            try:
                return mode, before, self._reader(mode)
            except sqlite3.Error:
                # The owner, with its log, may come and go between two looks.
                if _file.mode_for_readers(self.path) == mode:
                    raise

    def _check_undisturbed(self, mode: _file.Mode, before: object) -> None:
        """Check that no process wrote to a journal that was read without a lock."""
        if mode in _WITHOUT_LOCK and _file.state_of(self.path) != before:
            msg = f"{self.path} was opened by its owner while it was read"
            raise JournalUnavailableError(msg, outcome="refused", hint="ask again")

    def _reader(self, mode: _file.Mode) -> Reader:
        db = _file.connect(self.path, mode)
        try:
            return Reader(db, self.path, check_layout(db, self.path))
        except BaseException:
            db.close()
            raise

    # ------------------------------------------------------------------ complaints

    def _check_names(self) -> None:
        """What we have open must be what others find under its name."""
        for name in tuple(self._files):
            if fate := self._fate(name):
                msg = f"{name} {fate} while it was in use"
                raise JournalUnavailableError(
                    msg,
                    outcome="unknown" if self._in_doubt else "refused",
                    hint="put the same file back, or stop and restore it from a copy",
                )

    def _fate(self, name: str) -> str:
        """What has become of the file *name* that we have open; "" if nothing has."""
        identity = self._files.get(name)
        if identity is None:
            return ""
        try:
            fate = "" if _file.identity(name) == identity else "was replaced"
        except FileNotFoundError:
            fate = "vanished"
        # The writer may have closed the log meanwhile, and then SQLite removes the
        # file.
        return fate if self._files.get(name) == identity else ""

    def _check_process(self) -> None:
        if os.getpid() != self._pid:
            msg = (
                f"{self.path} was opened by process {self._pid}, before this one forked"
            )
            raise JournalError(msg, hint="only the process that opened it may use it")

    def _damaged(self, why: str) -> NoReturn:
        msg = f"{self.path} is damaged: {why}"
        raise JournalError(msg, hint=RESTORE)

    def _error(self, error: Exception, wanted: str) -> JournalError:
        """The error for the caller who *wanted* the journal, made from *error*."""
        if _file.may_be_unread(error):
            error = _repair.refusal(self.path) or error
        if _file.is_passing(error):
            outcome = "unknown" if self._in_doubt else "refused"
            why = str(error) or "out of memory"
            msg = f"{self.path} cannot be {wanted} now: {why}"
            hint = None
            if wanted == "read":
                hint = _file.advice(error)
            elif wanted == "claimed" and _file.is_forbidden(error):
                hint = f"{self.path.parent} must let you write: change its rights, or "
                hint += "choose another path; whoever only reads it needs no more"
            return JournalUnavailableError(msg, outcome=outcome, hint=hint)
        return JournalError(f"{self.path} is damaged: {error}", hint=RESTORE)
