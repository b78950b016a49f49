"""Reading a journal in a file, with or without an owner."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from taskorch.errors import JournalError, JournalUnavailableError
from taskorch.events import SEQ
from taskorch.journal import _file, _repair
from taskorch.journal._file import FAILURES
from taskorch.journal._lock import host, is_alive
from taskorch.journal._reader import IdleReaders, Reader
from taskorch.journal._session import damage
from taskorch.journal._sql import SqlReading
from taskorch.journal._sqlite_session import owner_of, session_of

#: In SQLite before this, two connections that write and checkpoint at the same moment
#: can lose what was committed.
_WAL_RESET_FIXED: Final = (3, 51, 3)


#: How a journal is opened that nobody has open.
_WITHOUT_LOCK: Final = ("alone", "immutable")


class ReadableJournal(SqlReading):
    """
    What can be asked of a journal without owning it, from any thread.

    Every question has a connection of its own, which cannot write.
    """

    def __init__(self, path: str | os.PathLike[str], **options: Any) -> None:
        try:
            resolved = Path(path).resolve()
        except FileNotFoundError as error:
            msg = f"{path} is a relative path, and the working folder is gone"
            raise JournalError(msg, hint="give an absolute path") from error
        super().__init__(str(resolved), str(resolved), **options)
        self.path: Path = resolved
        self._log = f"{self.path}-wal"
        #: The files that are open: whether they are still what the paths name.
        self._files: dict[str, tuple[int, int]] = {}
        self._idle = IdleReaders()

    @property
    def wal_reset_bug(self) -> bool:
        """
        Whether this SQLite may lose commits when two connections write at once.

        One connection writes here, so only another program that writes to the file
        can do that harm.
        """
        return sqlite3.sqlite_version_info < _WAL_RESET_FIXED

    def owner(self) -> dict[str, Any]:
        """See `SqlReading.owner`; before `claim` by anybody, its `epoch` is 0."""
        return self._answer(lambda reader: owner_of(reader.session), {})

    def owner_lives(self, owner: Mapping[str, Any]) -> bool | None:
        """See `SqlReading.owner_lives`: nobody can say that from another machine."""
        if owner["host"] != host():
            return None
        # A journal that is open has a log beside it, which stays while others read.
        is_open = Path(self._log).exists() and is_alive(owner["pid"], owner["started"])
        return is_open and not self._has_stopped()

    def _has_stopped(self) -> bool:
        """Whether the last that is said of an orchestrator is that it has stopped."""
        kinds = ("OrchestratorStarted", "OrchestratorStopped")
        began, ended = (
            0 if latest is None else latest[0][SEQ]
            for latest in map(self.latest_of, kinds)
        )
        return bool(began < ended)

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
            return Reader(session_of(db, self.path), self._name)
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
        return damage(self._name, str(error))
