"""The journal in a file: what it keeps, whom it lets write, and what it refuses."""

import errno
import gc
import json
import os
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
from contextlib import closing, suppress
from functools import partial
from itertools import count
from pathlib import Path
from random import Random

import pytest
from tests.core.journal.tools import ENTRIES, GROUPS, an_event, edit, entries, filled

from taskorch.api.journal import MemoryJournal, SqliteJournal
from taskorch.core.journal import _file, _lock, _reader
from taskorch.core.journal._sqlite_session import SqliteSession
from taskorch.errors import (
    InvalidTaskError,
    JournalError,
    JournalTakenError,
    JournalUnavailableError,
)
from taskorch.events import TaskCompleted
from taskorch.protocols import Journal
from taskorch.testing.laws import check_journal

WORKLOAD = Path(__file__).with_name("deaths.py")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "journal.db"


@pytest.fixture
def opened(path):
    """Opens the journal, and closes it in the end."""
    made = []

    def make(**options):
        made.append(SqliteJournal(path, **{"durability": "process"} | options))
        return made[-1]

    yield make
    for journal in made:
        journal.close()


# -- the laws ----------------------------------------------------------------------


@pytest.mark.parametrize(("durability", "examples"), [("power", 1), ("process", 5)])
def test_it_keeps_the_laws_of_a_journal(tmp_path, durability, examples):
    numbers = count()
    latest = []

    def make():
        latest[:] = [tmp_path / f"{next(numbers)}.db"]
        return reopen()

    def reopen():
        return SqliteJournal(latest[0], durability=durability)

    check_journal(make, reopen=reopen, examples=examples)


def test_all_is_read_that_is_not_asked_for_from_somewhere():
    journal = MemoryJournal(keep_events=True)
    journal.append(journal.claim(), GROUPS[0])
    assert list(journal.read()) == GROUPS[0]
    assert [event.seq for event in journal.events()] == [1, 2]


def test_a_journal_in_memory_keeps_them_too():
    check_journal(lambda: MemoryJournal(keep_events=True), examples=8)


def test_it_is_a_journal(path):
    assert isinstance(SqliteJournal(path), Journal)


def test_another_word_for_durability_is_refused(path):
    with pytest.raises(ValueError, match="'power' or 'process'"):
        SqliteJournal(path, durability="forever")


# -- what is in the file -----------------------------------------------------------


def test_the_file_is_for_its_owner_and_reads_as_a_table(path):
    filled(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with closing(sqlite3.connect(path)) as db:
        rows = db.execute("SELECT seq, kind, task_id FROM facts WHERE seq < 4")
        assert rows.fetchall() == [
            (1, "OrchestratorStarted", None),
            (2, "TaskCancelled", "t"),
            (3, "TaskCancelled", "u"),
        ]
        query = (
            "SELECT json_extract(doc, '$.answer[0]') FROM facts WHERE doc IS NOT NULL"
        )
        assert db.execute(query).fetchall() == [(42,)]
        assert db.execute("PRAGMA application_id").fetchone() == (0x74736B6F,)
        assert db.execute("PRAGMA journal_mode").fetchone() == ("wal",)


@pytest.mark.parametrize(("durability", "level"), [("power", 2), ("process", 1)])
def test_the_connection_that_writes_is_set_up_as_promised(opened, durability, level):
    journal = opened(durability=durability)
    journal.claim()
    values = {
        name: journal._db.execute(f"PRAGMA {name}").fetchone()[0]
        for name in (
            "synchronous", "trusted_schema", "cell_size_check", "busy_timeout", "journal_mode",
            "cache_size",
        )
    }  # fmt: skip
    assert values == {
        "synchronous": level,
        "trusted_schema": 0,
        "cell_size_check": 1,
        "busy_timeout": 5000,
        "journal_mode": "wal",
        # 8 MiB, in KiB: SQLite's own are two.
        "cache_size": -8192,
    }


def test_the_checksum_is_the_same_for_ever():
    """Whoever changes it changes the layout, and leaves the old journals unreadable."""
    row = (1, "TaskDue", 2, "\U0001fae8 t", '[1,"t"]', "")
    assert _reader.checksum([row, row], 7, 1) == 1924960543


def flipped(data, place):
    return data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]


@pytest.mark.parametrize(
    ("spoil", "is_read"),
    [
        (lambda log: log, True),
        # What comes after a commit may be of an older log, or have been cut off.
        (lambda log: log + b"older", True),
        (lambda log: log[:20], False),
        (lambda log: log[:32], False),
        # Cut off before the first commit is whole.
        (lambda log: log[: 32 + 24 + 100], False),
        (lambda log: bytes(len(log)), False),
        (lambda log: flipped(log, 3), False),
        (lambda log: flipped(log, 17), False),
        (lambda log: flipped(log, 30), False),
        (lambda log: flipped(log, 32 + 9), False),
        (lambda log: flipped(log, 32 + 24 + 50), False),
    ],
)
def test_a_copy_is_read_with_as_much_of_its_log_as_there_is(tmp_path, spoil, is_read):
    filled(tmp_path / "live.db", GROUPS[:1])
    with closing(SqliteJournal(tmp_path / "live.db")) as live:
        live.append(live.claim(), GROUPS[1])
        copy, log = tmp_path / "copy.db", tmp_path / "copy.db-wal"
        copy.write_bytes((tmp_path / "live.db").read_bytes())
        before = spoil((tmp_path / "live.db-wal").read_bytes())
    log.write_bytes(before)

    found = [*GROUPS[0], *GROUPS[1]] if is_read else GROUPS[0]
    assert entries(copy) == found
    # SQLite would remove a log in which it finds nothing, and who copies goes on to write.
    assert log.read_bytes() == before


def test_a_copy_of_a_living_journal_is_a_journal(path, opened, tmp_path):
    journal = opened()
    epoch = journal.claim()
    for group in GROUPS:
        journal.append(epoch, group)
    copy = tmp_path / "copy.db"
    with closing(sqlite3.connect(path)) as live, closing(sqlite3.connect(copy)) as to:
        live.backup(to)
    assert entries(copy) == ENTRIES
    with closing(SqliteJournal(copy)) as restored:
        assert restored.claim() == 2


def test_a_journal_with_two_names_has_one_owner(path, opened, tmp_path):
    opened().claim()
    other = tmp_path / "folder" / "link.db"
    other.parent.mkdir()
    other.symlink_to(path)
    with pytest.raises(JournalTakenError):
        SqliteJournal(other).claim()


def test_any_name_of_a_file_will_do(tmp_path):
    path = tmp_path / os.fsdecode(b"\xff a%20b?mode=memory#c.db")
    filled(path)
    assert entries(path) == ENTRIES
    assert path.exists()


def test_the_events_of_one_task_and_the_last_number(path):
    filled(path)
    journal = SqliteJournal(path)
    assert journal.last == 10
    of_u = [entry for entry in ENTRIES if entry[0][3] == "u"]
    assert list(journal.task_events("u")) == of_u
    assert list(journal.task_events("é")) == [ENTRIES[-2]]
    assert list(journal.task_events("nobody")) == []


def test_where_there_is_no_journal_there_is_nothing_to_read(path):
    journal = SqliteJournal(path)
    assert list(journal.read()) == []
    assert list(journal.task_events("t")) == []
    assert journal.last == 0
    assert list(path.parent.iterdir()) == []


def without_log(path):
    """What the file holds, whatever is in its log."""
    with closing(sqlite3.connect(f"file:{path}?immutable=1", uri=True)) as db:
        return [seq for (seq,) in db.execute("SELECT seq FROM facts ORDER BY seq")]


def test_a_long_log_is_moved_into_the_journal_when_there_is_time(
    path, opened, monkeypatch
):
    journal = opened()
    epoch = journal.claim()
    assert not journal.log_is_long
    journal.append(epoch, GROUPS[0])
    assert not journal.log_is_long
    assert without_log(path) == []
    monkeypatch.setattr(_file, "LONG_LOG", 10)
    large = [(TaskCompleted(3, 4, "t", 1, "a", 5), "x" * 50_000)]
    journal.append(epoch, large)
    assert journal.log_is_long
    journal.empty_log(epoch)
    assert not journal.log_is_long
    assert without_log(path) == [1, 2, 3]
    assert list(journal.read()) == GROUPS[0] + large
    assert journal.verify() == 3


def test_a_log_that_is_not_there_is_not_held(opened):
    journal = opened()
    assert (journal.held_log, journal.needs_upkeep()) == (0, False)
    journal.append(journal.claim(), GROUPS[0])
    journal.close()
    assert (journal.held_log, journal.needs_upkeep()) == (0, False)


def test_a_log_that_was_held_is_emptied_whole_once_nobody_reads(
    path, opened, monkeypatch
):
    """Though it is not long for what was written: somebody has held it for so long."""
    journal = opened()
    epoch = journal.claim()
    journal.append(epoch, GROUPS[0])
    log = Path(f"{path}-wal")
    monkeypatch.setattr(_file, "HELD_LOG", log.stat().st_size)
    assert (journal.held_log, journal.needs_upkeep()) == (0, False)
    monkeypatch.setattr(_file, "HELD_LOG", log.stat().st_size - 1)
    assert (journal.log_is_long, journal.held_log) == (False, log.stat().st_size)
    assert journal.needs_upkeep()
    (trouble,) = journal.troubles()
    assert "it cannot be emptied" in trouble
    journal.upkeep(epoch)
    assert log.stat().st_size == 0
    assert (journal.needs_upkeep(), journal.troubles()) == (False, [])


def test_what_somebody_reads_stays_as_it_was(path, opened):
    journal = opened()
    epoch = journal.claim()
    journal.append(epoch, GROUPS[0])
    with closing(sqlite3.connect(path, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        assert reader.execute("SELECT count(*) FROM facts").fetchone() == (2,)
        journal.append(epoch, GROUPS[1])
        journal.empty_log(epoch)
        assert reader.execute("SELECT count(*) FROM facts").fetchone() == (2,)
        reader.execute("COMMIT")
    journal.empty_log(epoch)
    assert without_log(path) == [1, 2, 3]


def test_a_log_is_emptied_by_its_owner_alone(path, opened):
    first = opened()
    epoch = first.claim()
    first.append(epoch, GROUPS[0])
    second = opened(take_over=True)
    second.append(second.claim(), GROUPS[1])
    before = without_log(path)
    with pytest.raises(JournalTakenError, match="taken over from incarnation 1 by 2"):
        first.empty_log(epoch)
    with pytest.raises(JournalTakenError):
        first.empty_log(2)
    assert without_log(path) == before == []
    second.empty_log(2)
    assert without_log(path) == [1, 2, 3]


def test_reading_begins_in_the_middle_of_a_group(path):
    filled(path)
    assert [e[0][1] for e in SqliteJournal(path).read(8)] == [9, 10]
    assert list(SqliteJournal(path).read(2**80)) == []


def test_numbers_that_do_not_rise_in_a_group_are_refused(opened, path):
    journal = opened()
    with pytest.raises(ValueError, match="do not rise"):
        journal.append(journal.claim(), [an_event(2), an_event(2)])
    assert entries(path) == []


def test_what_cannot_be_restored_is_refused_whole(opened, path):
    journal = opened()
    epoch = journal.claim()
    with pytest.raises(InvalidTaskError, match=r"result\.x"):
        journal.append(epoch, [an_event(1), (an_event(2)[0], {"x": object()})])
    assert entries(path) == []
    journal.append(epoch, GROUPS[0])


# -- who owns it -------------------------------------------------------------------


def test_a_second_opener_is_told_who_has_it(path, opened):
    first = opened()
    epoch = first.claim()
    with pytest.raises(JournalTakenError) as caught:
        opened().claim()
    who = f"process {os.getpid()} on {os.uname().nodename}, since 20"
    assert who in caught.value.message
    assert caught.value.hint == "stop that one first"
    first.append(epoch, GROUPS[0])
    first.close()
    assert opened().claim() == 2


def test_taking_over_ends_the_incarnation_before(path, opened):
    first = opened()
    first.append(first.claim(), GROUPS[0])
    second = opened(take_over=True)
    assert second.claim() == 2
    with pytest.raises(JournalTakenError, match="taken over from incarnation 1 by 2"):
        first.append(1, GROUPS[1])
    with pytest.raises(JournalTakenError, match="taken over from incarnation 1 by 2"):
        first.forget(1, ["t"])
    with pytest.raises(JournalTakenError, match=f"process {os.getpid()}"):
        first.claim()
    # The new one is protected as the old one was, even when that is gone.
    first.close()
    with pytest.raises(JournalTakenError):
        opened().claim()
    second.append(2, GROUPS[1])
    assert entries(path) == GROUPS[0] + GROUPS[1]


def test_one_that_was_taken_over_is_told_so_whatever_was_written_since(path, opened):
    """It remembers where the journal ended in its own life."""
    for number, more in enumerate((0, 1, 2), 1):
        first = opened(take_over=True)
        epoch = first.claim()
        first.append(epoch, [an_event(number * 100)])
        second = opened(take_over=True)
        second.append(
            second.claim(), [an_event(number * 100 + n) for n in range(1, 1 + more)]
        )
        with pytest.raises(JournalTakenError, match="taken over"):
            first.append(epoch, [an_event(number * 100 + 1)])
        with pytest.raises(JournalTakenError, match="taken over"):
            first.append(epoch, [an_event(number * 100)])
    assert SqliteJournal(path).verify() == 6


def test_an_event_in_the_way_is_damage(path, opened):
    journal = opened()
    epoch = journal.claim()
    edit(path, "INSERT INTO facts VALUES (2, 'TaskDue', 1, 't', '[1]', NULL)")
    with pytest.raises(JournalError, match="is damaged"):
        journal.append(epoch, GROUPS[0])


def test_a_journal_that_names_no_owner_is_damaged(path, opened):
    journal = opened()
    epoch = journal.claim()
    edit(path, "DELETE FROM meta")
    with pytest.raises(JournalError, match="nobody is named"):
        journal.append(epoch, GROUPS[0])
    assert entries(path) == []


def test_nobody_appends_without_a_claim(opened, path):
    with pytest.raises(JournalTakenError):
        opened().append(0, GROUPS[0])
    assert not path.exists()


def test_a_closed_journal_is_not_written(opened):
    journal = opened()
    epoch = journal.claim()
    journal.close()
    for use in (journal.claim, partial(journal.append, epoch, GROUPS[0])):
        with pytest.raises(JournalUnavailableError) as caught:
            use()
        assert caught.value.outcome == "refused"


def child(code, *args):
    """A process of its own, after it has said something."""
    process = subprocess.Popen(
        [sys.executable, "-c", code, *map(str, args)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    return process, process.stdout.readline()


HOLDER = """if True:
    import sys
    from taskorch.api.journal import SqliteJournal
    journal = SqliteJournal(sys.argv[1])
    print(journal.claim(), flush=True)
    sys.stdin.read()
"""


def test_of_two_who_take_over_at_once_the_owner_has_the_lock(path, opened, monkeypatch):
    """Both have replaced the lock file, and the first one to do so claims last."""
    first = opened()
    first.append(first.claim(), GROUPS[0])
    slow, quick = opened(take_over=True), opened(take_over=True)
    begin = slow._begin_incarnation

    def late(lock):
        assert quick.claim() == 2
        return begin(lock)

    monkeypatch.setattr(slow, "_begin_incarnation", late)
    with pytest.raises(JournalTakenError, match="at the same moment") as caught:
        slow.claim()
    assert caught.value.hint
    quick.append(2, GROUPS[1])
    # Nobody else gets it while its owner lives.
    for _ in range(2):
        with pytest.raises(JournalTakenError, match="belongs to process"):
            opened().claim()
        slow.close()
    quick.append(2, GROUPS[2])


def test_many_may_take_over_at_once(path):
    """In one process: some are told of another, and no file stays open or lies about."""
    filled(path)
    # What earlier tests have left open is no matter of this one.
    gc.collect()
    known, descriptors = {*path.parent.iterdir()}, len([*Path("/dev/fd").iterdir()])
    for _ in range(10):
        journals = [SqliteJournal(path, take_over=True) for _ in range(4)]
        start = threading.Barrier(len(journals))
        told = []

        def claim(journal, start=start, told=told):
            start.wait()
            try:
                told.append(journal.claim())
            except JournalTakenError as error:
                told.append(error)

        threads = [threading.Thread(target=claim, args=(j,)) for j in journals]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(told) == len(journals)
        epoch = max(each for each in told if isinstance(each, int))
        (owner,) = [journal for journal in journals if journal._epoch == epoch]
        assert owner._lock.is_current()
        owner.append(epoch, [an_event(owner.last + 1)])
        for journal in journals:
            journal.close()
    assert {*path.parent.iterdir()} == known
    assert len([*Path("/dev/fd").iterdir()]) == descriptors


def test_a_journal_that_was_read_only_once_is_written_again(path):
    """SQLite gives the files beside it the mode that it has at that moment."""
    filled(path)
    path.chmod(0o400)
    beside = [Path(f"{path}{end}") for end in ("-wal", "-shm")]
    with closing(sqlite3.connect(path)) as reader:
        reader.execute("SELECT * FROM meta").fetchall()
        assert [stat.S_IMODE(file.stat().st_mode) for file in beside] == [0o400] * 2
        path.chmod(0o600)
        with closing(SqliteJournal(path)) as journal:
            journal.append(journal.claim(), [an_event(11)])
            assert [stat.S_IMODE(file.stat().st_mode) for file in beside] == [0o600] * 2
            assert journal.last == 11


def test_the_name_of_a_new_log_is_on_the_disk(path, opened, monkeypatch):
    """Else a loss of power may take the log, whatever was synced in it."""
    filled(path)
    asked = []

    def sync_folder(folder):
        asked.append(folder)
        if len(asked) == 1:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(_file, "sync_folder", sync_folder)
    journal = opened(durability="power")
    with pytest.raises(JournalUnavailableError, match="claimed now"):
        journal.claim()
    epoch = journal.claim()
    journal.append(epoch, [an_event(11)])
    journal.append(epoch, [an_event(12)])
    assert asked == [path.parent] * 2


def test_nothing_is_left_beside_a_journal_that_is_read_only(path, opened, monkeypatch):
    """It is refused before SQLite makes files that nobody can write to."""
    filled(path)
    before = {*path.parent.iterdir()}
    # As for everybody but root.
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(JournalUnavailableError, match="Permission denied"):
        opened().claim()
    assert {*path.parent.iterdir()} == before


def test_a_living_process_keeps_it_and_a_dead_one_does_not(path, opened):
    process, said = child(HOLDER, path)
    with process:
        assert said == "1\n"
        with pytest.raises(JournalTakenError, match=f"process {process.pid} on "):
            opened().claim()
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert opened().claim() == 2


FORKED = """if True:
    import os, sys
    from taskorch.errors import JournalError, JournalTakenError
    from taskorch.api.journal import SqliteJournal
    path = sys.argv[1]
    journal = SqliteJournal(path)
    epoch = journal.claim()
    told, tell = os.pipe()
    if not (pid := os.fork()):
        said = []
        for use in (journal.claim, lambda: journal.append(epoch, []),
                    lambda: list(journal.read()), lambda: journal.last):
            try:
                use()
            except JournalError as error:
                said.append("forked" in error.message)
        journal.close()
        os.write(tell, repr(said).encode())
        os.read(0, 1)
        os._exit(0)
    print(os.read(told, 100).decode(), journal.claim(), flush=True)
    sys.stdin.close()
    os.kill(os.getpid(), 9)
"""


def test_a_child_after_a_fork_is_refused_and_keeps_nothing_alive(path, opened):
    process, said = child(FORKED, path)
    with process:
        assert said == "[True, True, True, True] 2\n"
        process.wait()
        # The child lives on, and yet the journal is free.
        assert opened().claim() == 3


# -- what goes wrong ---------------------------------------------------------------


def test_a_place_where_no_journal_can_be_is_said(path, tmp_path):
    with pytest.raises(JournalError, match="there is no folder") as caught:
        SqliteJournal(path.parent / "no such folder" / "journal.db").claim()
    assert "make the folder" in caught.value.hint
    with pytest.raises(JournalError, match="is a folder"):
        SqliteJournal(tmp_path).claim()
    with pytest.raises(JournalError, match="no ordinary file"):
        SqliteJournal("/dev/null").claim()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("bound_by_modes")
def test_a_read_only_folder_is_said(path):
    path.parent.chmod(0o500)
    try:
        with pytest.raises(JournalUnavailableError, match="cannot be claimed"):
            SqliteJournal(path).claim()
    finally:
        path.parent.chmod(0o700)


@pytest.mark.parametrize("replaced", [False, True])
def test_a_file_that_vanishes_is_not_made_anew(path, opened, replaced):
    journal = opened()
    epoch = journal.claim()
    journal.append(epoch, GROUPS[0])
    aside = path.rename(path.with_suffix(".aside"))
    if replaced:
        path.write_bytes(aside.read_bytes())
    words = "was replaced" if replaced else "vanished"
    uses = (
        partial(journal.append, epoch, GROUPS[1]),
        lambda: journal.last,
        journal.claim,
    )
    for use in uses:
        with pytest.raises(JournalUnavailableError, match=words):
            use()
    assert path.exists() == replaced
    # It goes on when the very same file is back.
    aside.replace(path)
    journal.append(epoch, GROUPS[1])
    assert entries(path) == GROUPS[0] + GROUPS[1]


@pytest.mark.parametrize("replaced", [False, True])
def test_a_log_that_vanishes_costs_nothing(path, opened, replaced):
    journal = opened()
    epoch = journal.claim()
    journal.append(epoch, GROUPS[0])
    log = Path(f"{path}-wal")
    held = log.rename(log.with_suffix(".aside"))
    if replaced:
        log.write_bytes(held.read_bytes())
    words = "wal was replaced" if replaced else "wal vanished"
    # A reader says so too, and leaves the connection that writes alone.
    for _ in range(2):
        with pytest.raises(JournalUnavailableError, match=words):
            list(journal.read())
    with pytest.raises(JournalUnavailableError, match=words):
        journal.append(epoch, GROUPS[1])
    journal.append(epoch, GROUPS[1])
    assert entries(path) == GROUPS[0] + GROUPS[1]


def test_a_lost_shared_memory_file_is_rebuilt(path):
    filled(path)
    Path(f"{path}-shm").unlink(missing_ok=True)
    assert entries(path) == ENTRIES


def remains(path):
    """What a crash leaves: the file with its log, as they are while it is owned."""
    with closing(SqliteJournal(path, durability="process")) as journal:
        epoch = journal.claim()
        for group in GROUPS:
            journal.append(epoch, group)
        return path.read_bytes(), Path(f"{path}-wal").read_bytes()


def assert_refused(path, words):
    before = path.read_bytes() if path.exists() else None
    with pytest.raises(JournalError, match=words) as caught:
        SqliteJournal(path).claim()
    assert caught.value.hint
    assert (path.read_bytes() if path.exists() else None) == before


def test_an_empty_file_is_as_good_as_none(path):
    path.touch()
    filled(path)
    assert entries(path) == ENTRIES


@pytest.mark.parametrize("is_there", [False, True])
def test_an_emptied_or_lost_journal_does_not_become_a_fresh_one(path, is_there):
    filled(path)
    path.write_bytes(b"")
    if not is_there:
        path.unlink()
    assert_refused(path, "is gone or empty, and process")
    Path(f"{path}.lock").unlink()
    assert SqliteJournal(path).last == 0


def test_a_lock_file_that_was_half_written_still_tells_of_a_journal(path):
    Path(f"{path}.lock").write_text('{"pid": 12')
    assert_refused(path, "is gone or empty, and a process")


def test_a_file_system_without_a_log_is_refused(path):
    class Refusing:
        def execute(self, _):
            return self

        def fetchall(self):
            return [("delete",)]

    with pytest.raises(JournalError, match="no write-ahead log") as caught:
        _file.prepare(Refusing(), path, "power")
    assert "disk of this machine" in caught.value.hint


def test_a_lock_that_was_replaced_while_it_was_taken_is_taken_anew(path, monkeypatch):
    """Between opening the file and locking it, somebody took over and went."""
    flock, name = _lock.fcntl.flock, Path(f"{path}.lock")

    def late(file, how):
        monkeypatch.setattr(_lock.fcntl, "flock", flock)
        name.unlink()
        flock(file, how)

    monkeypatch.setattr(_lock.fcntl, "flock", late)
    with closing(SqliteJournal(path)) as journal:
        assert journal.claim() == 1
        with pytest.raises(JournalTakenError):
            SqliteJournal(path).claim()


def test_an_emptied_journal_with_a_log_is_refused(path):
    _, log = remains(path)
    path.write_bytes(b"")
    Path(f"{path}.lock").unlink()
    Path(f"{path}-wal").write_bytes(log)
    assert_refused(path, "its log")
    with pytest.raises(JournalError, match="its log"):
        entries(path)


@pytest.mark.parametrize(
    ("statements", "words"),
    [
        (["PRAGMA application_id = 7"], "something else"),
        (["PRAGMA user_version = 99"], "newer taskorch"),
        (["PRAGMA user_version = 0"], "damaged"),
        (["DROP TABLE groups"], "tables are missing"),
        (["DELETE FROM meta"], "which incarnation"),
        (["UPDATE meta SET epoch = 0"], "incarnation 1 wrote it, and this is 0"),
        (["UPDATE facts SET body = '[1]' WHERE seq = 9"], "8 to 10"),
        (["DELETE FROM facts WHERE seq = 9"], "events 9 to 9 are missing"),
        (["DELETE FROM facts WHERE seq > 4"], "8 to 10"),
        (
            ["INSERT INTO facts VALUES (11, 'TaskDue', 1, 't', '[1]', NULL)"],
            "events 11 to 11 are in no group",
        ),
        (["UPDATE groups SET crc = crc + 1 WHERE last = 10"], "8 to 10"),
        (["UPDATE groups SET epoch = 1 + 1 WHERE last = 10"], "8 to 10"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_what_is_foreign_newer_or_damaged_is_refused(path, statements, words):
    filled(path)
    edit(path, *statements)
    assert_refused(path, words)


@pytest.mark.parametrize(
    ("statement", "whole", "words"),
    [
        ("UPDATE facts SET at_ns = at_ns + 1 WHERE seq = 3", 2, "3 to 3 were changed"),
        ("UPDATE facts SET task_id = 'v' WHERE seq = 3", 2, "3 to 3 were changed"),
        ("DELETE FROM facts WHERE seq = 3", 2, "3 to 3 are missing"),
        ("DELETE FROM groups WHERE last = 3", 2, "3 to 3 are in no group"),
        (
            "INSERT INTO facts VALUES (7, 'TaskDue', 1, 't', '[1,\"t\"]', NULL)",
            5,
            "7 to 7 are in no group",
        ),
    ],
)
def test_a_broken_chain_ends_the_reading(path, statement, whole, words):
    """The groups before it are given, and not one after."""
    filled(path)
    edit(path, statement)
    journal = SqliteJournal(path).read()
    assert [next(journal) for _ in range(whole)] == ENTRIES[:whole]
    with pytest.raises(JournalError, match=words):
        next(journal)


@pytest.mark.parametrize("seed", range(3))
def test_a_tree_that_leads_back_is_refused_and_not_read_for_ever(path, seed):
    """As damage to the pages between root and leaves can have it."""
    filled(path)
    with closing(sqlite3.connect(path)) as db:
        reader = _reader.Reader(SqliteSession(db, str(path)))
        rows = db.execute("SELECT seq FROM facts WHERE seq > ?", (seed,)).fetchall()
    with pytest.raises(JournalError, match="not in order"):
        reader._check_order(seed, [*rows, rows[0]])
    with pytest.raises(JournalError, match="not in order"):
        reader._check_order(rows[0][0], rows)
    reader._check_order(seed, rows)


def test_text_that_does_not_decode_is_damage(path):
    filled(path)
    damaged = path.read_bytes().replace(b"facts_by_task", b"facts_by_t\xa0sk")
    path.write_bytes(damaged)
    assert_refused(path, "is damaged")
    with pytest.raises(JournalError, match="is damaged"):
        entries(path)


def test_another_file_of_sqlite_is_left_alone(path):
    edit(path, "CREATE TABLE notes (x)")
    assert_refused(path, "something else")


def test_a_file_of_something_else_is_left_alone(path):
    path.write_text("once upon a time " * 100)
    assert_refused(path, "not a database")


def assert_prefix(path, db, log, *, claimed=True):
    """Whole groups from the first one on, and nothing that was never written."""
    path.write_bytes(db)
    Path(f"{path}-shm").unlink(missing_ok=True)
    Path(f"{path}-wal").write_bytes(log)
    seen = []
    with suppress(JournalError):
        for entry in SqliteJournal(path).read():
            seen.append(entry)
        if claimed:
            with closing(SqliteJournal(path, durability="process")) as journal:
                assert journal.claim() > 1
                assert journal.last == max((e[0][1] for e in seen), default=0)
    assert seen == ENTRIES[: len(seen)]
    assert len(seen) in (0, 2, 3, 5, 8)
    return len(seen)


@pytest.fixture
def spread(path):
    """A journal of which the first groups are in the file, and the others in its log."""
    with closing(SqliteJournal(path, durability="process")) as journal:
        epoch = journal.claim()
        for group in GROUPS[:2]:
            journal.append(epoch, group)
        journal._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        for group in GROUPS[2:]:
            journal.append(epoch, group)
        found = path.read_bytes(), Path(f"{path}-wal").read_bytes()
    for file in path.parent.iterdir():
        file.unlink()
    return found


@pytest.mark.slow("cut off at every 64th byte")
def test_a_log_that_was_cut_off_leaves_a_prefix(path, spread):
    db, log = spread
    seen = {
        assert_prefix(path, db, log[:end], claimed=end % 1024 == 0)
        for end in range(0, len(log), 64)
    }
    assert seen >= {3, 5}
    assert assert_prefix(path, db, log) == 8


@pytest.mark.slow("cut off at every 64th byte")
def test_a_file_that_was_cut_off_leaves_a_prefix_or_is_refused(path, spread):
    db, log = spread
    for end in range(64, len(db), 64):
        assert_prefix(path, db[:end], log, claimed=end % 1024 == 0)


@pytest.mark.slow("200 flipped bits")
@pytest.mark.parametrize("part", ["file", "log", "whole"])
def test_a_flipped_bit_leaves_a_prefix_or_is_refused(path, spread, part):
    db, log = spread
    if part == "whole":
        path.write_bytes(db)
        Path(f"{path}-wal").write_bytes(log)
        edit(path, "PRAGMA wal_checkpoint(TRUNCATE)")
        db, log = path.read_bytes(), b""
    dice = Random(part)
    target = log if part == "log" else db
    # Most of a page is empty: there a flip changes nothing.
    places = [place for place, byte in enumerate(target) if byte]
    for place in dice.sample(places, min(len(places), 200)):
        flipped = bytearray(target)
        flipped[place] ^= 1 << dice.randrange(8)
        damaged = bytes(flipped)
        assert_prefix(path, *((db, damaged) if part == "log" else (damaged, log)))


# -- sudden death ------------------------------------------------------------------


@pytest.mark.slow("a death at each statement")
def test_killed_at_any_statement_it_keeps_what_it_said_it_kept(tmp_path):
    """
    And of the group on its way all or nothing; the next incarnation goes on from there.
    """
    run = subprocess.run(
        [sys.executable, WORKLOAD, tmp_path],
        check=True,
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[3],
    )
    deaths = json.loads(run.stdout)
    # The last run came to its end.
    assert [death["signal"] for death in deaths] == [9] * (len(deaths) - 1) + [0]
    assert len(deaths) > 40
    written = {0, 2, 3, 6}
    for death in deaths:
        assert death["kept"] in written
        assert death["kept"] >= death["said"], death
        assert death["numbers"] == list(range(1, death["kept"] + 1))
        # The latest snapshot, or the one before if it died while it was kept.
        at = 0 if death["snapshot"] is None else death["snapshot"][0]
        assert at in written
        assert death["snapshot"] in (None, [at, {"at": at}])
        assert at <= death["kept"]
        assert not [n for n in written if at < n < death["said"]]
    assert {death["kept"] for death in deaths} == written
    # Some died after the commit and before they could say so.
    assert any(death["kept"] > death["said"] for death in deaths)


@pytest.mark.parametrize(
    ("until_ns", "most", "numbers"),
    [
        (10**9, 9, [1, 2, 3, 4, 8, 9, 10]),
        (10**9, 2, [1, 9, 10]),
        (80, 2, [1, 4, 8]),
        (79, 9, [1, 2, 3, 4]),
        (4, 9, []),
    ],
)
def test_the_latest_events_of_some_classes_are_read_until_a_time(
    path, until_ns, most, numbers
):
    filled(path)
    kinds = ["TaskCancelled", "OrchestratorStarted"]
    with closing(SqliteJournal(path)) as journal:
        found = journal.of_kinds(kinds, until_ns, most)
    assert found == [entry for entry in ENTRIES if entry[0].seq in numbers]
