"""
Copies of a journal, in another database or in the same.

The copy has another name until it is complete: a program that opens it finds all, or
none. It has the same groups, with their checksums and hashes: a proof of one is a proof
of the other.

Decisions: journal-in-postgresql, proofs-of-a-journal.
"""

from __future__ import annotations

import shutil
from contextlib import closing
from pathlib import Path
from typing import Final

import attrs

from taskorch.core.journal._opened import open_journal
from taskorch.core.journal._sql import SqlJournal
from taskorch.core.journal._sqlite import SqliteJournal
from taskorch.errors import InvalidTaskError
from taskorch.kit.address import without_password

#: The beginning of a value, in a document, that is in a file beside its journal.
_IN_A_FILE: Final = '{"$file":['


@attrs.frozen
class Copied:
    """
    Size and place of a copy.

    Attributes:
        events: The number of events.
        source: The journal that was copied, as it was named, without a password.
        target: The new one, likewise.
        logs: The folder of logs that stays where it is, since the new journal has none;
            None: they were copied, or there are none.
    """

    events: int
    source: str
    target: str
    logs: Path | None


def copy_journal(source: str, target: str) -> Copied:
    """
    Make a journal with all events of *source*, under the same numbers.

    No other program may use *source* meanwhile: it is claimed. An orchestrator that
    opens the copy runs all unfinished tasks; so does one that opens *source*, so let
    only one of them do it.

    Args:
        source: The path of a journal, or its address.
        target: The path or the address of one that does not exist.

    Raises:
        InvalidTaskError: *target* exists, or cannot keep something that *source* has.
        JournalTakenError: Another program uses *source*.
        JournalError: *source* is damaged, or there is none; nothing was copied.
    """
    with closing(open_journal(source)) as old, closing(open_journal(target)) as new:
        old.check_readable()
        if new.exists():
            msg = f"{without_password(target)} exists already"
            raise InvalidTaskError(msg, hint="name one that does not")
        epoch = old.claim()
        if not isinstance(new, SqliteJournal):
            _refuse_files(old, without_password(source))
        draft = new.draft()
        with closing(draft):
            count = _fill(draft, old, epoch)
        if isinstance(old, SqliteJournal) and isinstance(new, SqliteJournal):
            _copy_folder(Path(f"{old.path}.values"), Path(f"{new.path}.values"))
        new.replace_by(draft)
        names = without_password(source), without_password(target)
        return Copied(count, *names, _copy_logs(old, new))


def _fill(draft: SqlJournal, old: SqlJournal, epoch: int) -> int:
    """Write all events of *old* into *draft*, in an incarnation above *epoch*."""
    incarnation = draft.claim()
    while incarnation <= epoch:
        # The fence that a task gets must not be lower than before.
        incarnation = draft.claim()
    count = draft.adopt(incarnation, old)
    saved = old.snapshot()
    if saved is not None and saved[0] <= draft.last:
        draft.save(incarnation, *saved)
    return count


def _refuse_files(journal: SqlJournal, name: str) -> None:
    """
    Refuse a journal, named *name*, that has values in files beside it.

    Raises:
        InvalidTaskError: It has.
    """
    for number, _, _, task_id, _, text in journal.rows():
        if _IN_A_FILE in text:
            msg = (
                f"{name} keeps a value of task {task_id} in a file "
                f"beside it (event {number}), and a database has no such place"
            )
            hint = "prune those tasks first, or copy it to another file"
            raise InvalidTaskError(msg, hint=hint)


def _copy_logs(old: SqlJournal, new: SqlJournal) -> Path | None:
    folder = old.logs_folder()
    if folder is None or not Path(folder).is_dir():
        return None
    target = new.logs_folder()
    if target is None:
        return Path(folder)
    _copy_folder(Path(folder), Path(target))
    return None


def _copy_folder(folder: Path, target: Path) -> None:
    if folder.is_dir():
        shutil.copytree(folder, target, dirs_exist_ok=True)
