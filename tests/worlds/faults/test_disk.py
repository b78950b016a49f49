"""
The disk fails, below SQLite, at any call: nothing that was acknowledged is lost.

What is acknowledged is compared at once with what there would be after a loss of power.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from tests.api.tools import PATIENCE, Recorder, eventually
from tests.core.journal.tools import ENTRIES, GROUPS, an_event, filled
from tests.worlds.faults.disk import Disk, is_available

from taskorch import Task, TaskOrchestrator
from taskorch.api.journal import SqliteJournal
from taskorch.core.engine import _committer
from taskorch.core.journal import _file
from taskorch.errors import JournalError, JournalTakenError, JournalUnavailableError
from taskorch.events import TaskSubmitted
from taskorch.kit.backoff import Backoff

pytestmark = [
    pytest.mark.timeout(600),
    pytest.mark.skipif(
        not is_available(), reason="this Python's SQLite cannot be reached by ctypes"
    ),
]

#: Each way in which something can fail.
WAYS = [
    ("read", "EIO"),
    ("read", "refused"),
    ("read", "ENOMEM"),
    ("write", "EIO"),
    ("write", "ENOSPC"),
    ("write", "short"),
    ("write", "ENOMEM"),
    ("sync", "EIO"),
    ("truncate", "EIO"),
]


@pytest.fixture(name="disk")
def fixture_disk(tmp_path: Path) -> Iterator[Disk]:
    folder = tmp_path / "disk"
    folder.mkdir()
    with Disk(folder).below_sqlite() as disk:
        yield disk


def left_after_power_loss(disk: Disk, aside: Path) -> list[Any]:
    """What the next incarnation would find."""
    disk.after_power_loss(aside)
    journal = SqliteJournal(aside / "runs.db")
    with closing(journal):
        return list(journal.read())


class Owner:
    """Writes a journal, tries again what fails, and looks what is safe each time."""

    def __init__(self, disk: Disk, aside: Path, *, mends_after: int) -> None:
        self.disk, self.aside, self.mends_after = disk, aside, mends_after
        self.kept: list[Any] = []
        self.calls: list[tuple[str, str]] = []
        self.journal = SqliteJournal(disk.folder / "runs.db")
        self.epoch = 0

    def until_it_works(self, do: Callable[[], Any]) -> Any:
        """All that fails may pass: it says so, and a mended disk is enough."""
        for _ in range(self.mends_after):
            with suppress(JournalUnavailableError):
                return do()
        self.disk.mend()
        return do()

    def claim(self) -> None:
        self.epoch = self.until_it_works(self.journal.claim)

    def append(self, group: list[Any]) -> None:
        self.until_it_works(lambda: self.journal.append(self.epoch, group))
        # It was said to be safe: then it is.
        self.kept += group
        assert (
            left_after_power_loss(self.disk, self.aside)[: len(self.kept)] == self.kept
        )

    def save(self) -> None:
        self.journal.save(self.epoch, self.kept[-1][0][1], {})

    def live(self) -> None:
        """An incarnation with all that a journal does."""
        self.claim()
        for number, group in enumerate(GROUPS):
            self.append(group)
            assert self.until_it_works(lambda: list(self.journal.read())) == self.kept
            if number == 1:
                self.until_it_works(self.save)
                self.until_it_works(lambda: self.journal.empty_log(self.epoch))
        # The next one finds the log as a crash leaves it.
        with closing(self.journal):
            self.journal = SqliteJournal(self.journal.path, take_over=True)
            self.claim()
            self.append([an_event(101), an_event(102)])
            self.calls = list(self.disk.calls)
            self.disk.mend()
        assert list(self.journal.read()) == self.kept
        self.journal.verify()
        self.journal.close()
        assert left_after_power_loss(self.disk, self.aside) == self.kept


def calls_of_an_incarnation(tmp_path: Path, what: str) -> int:
    """How often there is occasion to fail."""
    folder = tmp_path / "well"
    folder.mkdir()
    with Disk(folder).below_sqlite() as disk:
        owner = Owner(disk, tmp_path / "aside", mends_after=0)
        owner.live()
        return sum(asked == what for asked, _ in owner.calls)


def fail_at_every_call(
    tmp_path: Path, what: str, how: str, *, once: bool, reverts: bool
) -> None:
    """Live as often as an incarnation has such calls."""
    count = calls_of_an_incarnation(tmp_path, what)
    assert count
    for number in range(1, count + 1):
        folder = tmp_path / f"{number}"
        folder.mkdir()
        with Disk(folder).below_sqlite() as disk:
            disk.reverts = reverts
            disk.fail_at(number, how, what, once=once)
            try:
                Owner(disk, tmp_path / "aside", mends_after=3).live()
            except BaseException as error:
                error.add_note(f"the {number}. {what} of {count} failed: {disk.failed}")
                raise
            assert disk.failed


@pytest.mark.slow("fails each call in turn")
@pytest.mark.parametrize("reverts", [False, True], ids=["stays", "reverts"])
@pytest.mark.parametrize("once", [True, False], ids=["once", "for a while"])
def test_any_sync_may_fail(tmp_path: Path, once: bool, reverts: bool) -> None:
    fail_at_every_call(tmp_path, "sync", "EIO", once=once, reverts=reverts)


def test_a_disk_that_cannot_have_a_log_is_refused(tmp_path: Path) -> None:
    """As a file system of another machine; elsewhere the same file can be opened."""
    disk = Disk(tmp_path)
    disk.shares = False
    with disk.below_sqlite(), closing(SqliteJournal(tmp_path / "runs.db")) as journal:
        with pytest.raises(JournalError, match="no write-ahead log") as caught:
            journal.claim()
        assert "disk of this machine" in caught.value.hint
    with closing(SqliteJournal(tmp_path / "runs.db")) as journal:
        assert journal.claim() == 1


def test_a_log_that_is_torn_at_any_frame_is_whole_without_it(tmp_path: Path) -> None:
    """What was acknowledged is there, and of the group on its way all or nothing."""
    folder, aside = tmp_path / "disk", tmp_path / "torn"
    folder.mkdir()
    ends = [sum(map(len, GROUPS[:count])) for count in range(len(GROUPS) + 1)]
    seen: set[tuple[int, int]] = set()
    wrong: list[str] = []

    def look(what: str, name: str) -> None:
        if what != "sync" or not name.endswith("-wal"):
            return
        disk.watch = lambda *_: None
        for torn in disk.torn_log(name):
            disk.after_power_loss(aside)
            (aside / Path(name).name).write_bytes(torn)
            left: list[Any] = []
            try:
                with closing(SqliteJournal(aside / "runs.db")) as journal:
                    journal.claim()
                    left = list(journal.read())
                    journal.verify()
            except Exception as error:
                # Below SQLite nobody would hear of it.
                wrong.append(repr(error))
            if left != ENTRIES[: len(left)]:
                wrong.append(f"{left} is no prefix")
            seen.add((len(owner.kept), len(left)))
        disk.watch = look

    with Disk(folder).below_sqlite() as disk:
        owner = Owner(disk, tmp_path / "aside", mends_after=0)
        owner.claim()
        for group in GROUPS:
            disk.watch = look
            owner.append(group)
            disk.watch = lambda *_: None
        owner.journal.close()
    assert wrong == []
    # Each group was seen lost, and seen whole, and nothing else was.
    assert seen == {*pairwise(ends), *zip(ends[:-1], ends[:-1], strict=True)}


@pytest.mark.slow("what is left, after each write")
@pytest.mark.parametrize("early", ["-", "runs.db"], ids=["in time", "early"])
def test_the_power_may_fail_at_any_moment_too(tmp_path: Path, early: str) -> None:
    """Also where pages of the journal reach the disk before anybody asks for that."""
    aside = tmp_path / "watched"
    wrong: list[str] = []

    def look(disk: Disk, owner: Owner, what: str, name: str) -> None:
        if what == "read" or (what == "write" and not name.endswith(early)):
            # Nothing has reached the disk since the last time.
            return
        disk.watch = lambda *_: None
        disk.after_power_loss(aside, early)
        made = SqliteJournal(aside / "runs.db", durability="process")
        with closing(made) as journal:
            try:
                journal.claim()
                kept = list(journal.read())
                if kept[: len(owner.kept)] != owner.kept:
                    wrong.append(f"{len(kept)} of {len(owner.kept)} are left")
                journal.verify()
            except Exception as error:
                wrong.append(repr(error))
        disk.watch = partial(look, disk, owner)

    for number in range(1, calls_of_an_incarnation(tmp_path, "sync") + 1):
        folder = tmp_path / f"{number}"
        folder.mkdir()
        with Disk(folder).below_sqlite() as disk:
            owner = Owner(disk, tmp_path / "aside", mends_after=3)
            disk.fail_at(number, "EIO", "sync", once=False)
            disk.watch = partial(look, disk, owner)
            owner.live()
        assert wrong == []


@pytest.mark.slow("fails each call in turn")
@pytest.mark.parametrize("once", [True, False], ids=["once", "for a while"])
@pytest.mark.parametrize(("what", "how"), [way for way in WAYS if way[0] != "sync"])
def test_any_call_may_fail(tmp_path: Path, what: str, how: str, once: bool) -> None:
    fail_at_every_call(tmp_path, what, how, once=once, reverts=False)


@pytest.mark.parametrize("once", [True, False], ids=["once", "for a while"])
def test_a_read_that_is_refused_is_no_damage(disk: Disk, once: bool) -> None:
    """SQLite says "malformed" of it; it may pass, and then all is there."""
    path = disk.folder / "runs.db"
    filled(path)
    journal = SqliteJournal(path)
    for ask in (journal.claim, lambda: list(journal.read()), journal.verify):
        # The first read of a connection is about the kind of file.
        disk.fail_at(2, "EIO", "read", once=once)
        with pytest.raises(JournalUnavailableError, match="cannot be") as caught:
            ask()
        assert disk.failed
        assert "malformed" not in str(caught.value) or once
        disk.mend()
    assert list(journal.read()) == ENTRIES
    assert journal.claim() == 2
    journal.close()


@pytest.mark.parametrize("what", ["read", "write"])
def test_memory_that_runs_out_is_trouble_that_passes(disk: Disk, what: str) -> None:
    with closing(SqliteJournal(disk.folder / "runs.db")) as journal:
        epoch = journal.claim()
        journal.append(epoch, GROUPS[0])
        # So that it has to read again.
        journal._disconnect()
        disk.fail("ENOMEM", what)
        with pytest.raises(JournalUnavailableError, match="out of memory"):
            journal.append(epoch, GROUPS[1])
        disk.mend()
        journal.append(epoch, GROUPS[1])
        assert list(journal.read()) == GROUPS[0] + GROUPS[1]


@pytest.mark.parametrize(
    ("is_synced", "words"),
    [
        (False, "in incarnation 1, and 2 wrote to it"),
        (True, "event 5 was kept, and it ends"),
    ],
    ids=["with its claim", "since its claim"],
)
def test_what_was_acknowledged_and_is_gone_is_damage(
    disk: Disk, is_synced: bool, words: str
) -> None:
    """Without a sync of each group, one that fails later may take many with it."""
    disk.reverts = True
    path = disk.folder / "runs.db"
    filled(path, GROUPS[:1])
    with closing(SqliteJournal(path, durability="process")) as journal:
        epoch = journal.claim()
        journal.append(epoch, GROUPS[1])
        if is_synced:
            journal.empty_log(epoch)
        journal.append(epoch, GROUPS[2])
        disk.fail("EIO", "sync")
        with pytest.raises(JournalUnavailableError):
            journal.empty_log(epoch)
        disk.mend()
        with pytest.raises(JournalError, match=words) as caught:
            journal.append(epoch, GROUPS[3])
        assert not isinstance(caught.value, JournalTakenError)
        left = GROUPS[0] + GROUPS[1] if is_synced else GROUPS[0]
        assert list(journal.read()) == left


def test_what_was_acknowledged_and_is_another_now_is_damage(disk: Disk) -> None:
    """It has the same number, and is not what was kept."""
    path = disk.folder / "runs.db"
    with closing(SqliteJournal(path, durability="process")) as journal:
        epoch = journal.claim()
        journal.append(epoch, GROUPS[0])
        disk.fail("EIO", "write")
        with pytest.raises(JournalUnavailableError):
            journal.append(epoch, GROUPS[1])
        disk.mend()
        with closing(sqlite3.connect(path)) as other:
            other.execute("UPDATE groups SET crc = crc + 1")
            other.commit()
        with pytest.raises(JournalError, match="was kept, and it ends"):
            journal.append(epoch, GROUPS[1])


# -- an orchestrator ---------------------------------------------------------------------


@pytest.fixture(name="_brief")
def fixture_brief(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is tried again soon."""
    monkeypatch.setattr(_file, "_PATIENCE", 0.02)
    monkeypatch.setattr(_committer, "_PAUSES", Backoff(0.002, 0.01))


def double(value: int) -> int:
    return 2 * value


class Submitter:
    """Submits, and looks at once whether what was acknowledged is safe."""

    def __init__(self, disk: Disk, aside: Path) -> None:
        self.disk, self.aside = disk, aside
        self.acknowledged: list[str] = []

    def submit(self, orch: TaskOrchestrator, name: str) -> str:
        """What became of it."""
        task = Task.call(double, 4, id=name)
        try:
            orch.submit_task(task)
        except JournalUnavailableError as error:
            return error.outcome
        self.acknowledged.append(name)
        self.check()
        return "acknowledged"

    def doubtful(self, orch: TaskOrchestrator, recorder: Recorder) -> None:
        """The disk fails before it is known whether this one was kept."""
        # Elsewhere a slow machine has all its time to write.
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(_committer, "_COMMIT_TIMEOUT_S", 0.05)
            assert self.submit(orch, "doubtful") == "unknown"
        recorder.wait_for(1)

    def refused(self, orch: TaskOrchestrator, rounds: int) -> None:
        """While the disk fails, nothing is taken in, however often it is tried."""
        for number in range(rounds):
            seen = len(self.disk.failed)
            eventually(lambda seen=seen: len(self.disk.failed) > seen + 2)
            assert self.submit(orch, f"{number}") == "refused"
            assert orch.health().status == "degraded"

    def mended(self, orch: TaskOrchestrator, recorder: Recorder) -> None:
        """Once the disk is mended, what was in doubt is safe, and all goes on."""
        self.disk.mend()
        recorder.wait_for(2)
        assert recorder.names() == ["JournalDegraded", "JournalRestored"]
        self.acknowledged.append("doubtful")
        self.check()
        assert self.submit(orch, "after") == "acknowledged"
        assert orch.handle("doubtful").result(PATIENCE) == 8
        assert orch.handle("after").result(PATIENCE) == 8

    def check(self) -> None:
        events = left_after_power_loss(self.disk, self.aside)
        found = {event[3] for event, _ in events if event[0] is TaskSubmitted}
        assert found >= set(self.acknowledged)


@pytest.mark.usefixtures("_brief")
@pytest.mark.parametrize("reverts", [False, True], ids=["stays", "reverts"])
def test_nothing_is_acknowledged_while_no_sync_succeeds(
    disk: Disk, tmp_path: Path, reverts: bool
) -> None:
    disk.reverts = reverts
    submitter = Submitter(disk, tmp_path / "aside")
    with TaskOrchestrator(journal=disk.folder / "runs.db") as orch:
        recorder = Recorder(orch, "journal_degraded", "journal_restored")
        assert submitter.submit(orch, "before") == "acknowledged"
        assert orch.handle("before").result(PATIENCE) == 8
        disk.fail("EIO", "sync")
        submitter.doubtful(orch, recorder)
        submitter.refused(orch, 5)
        assert recorder.names() == ["JournalDegraded"]
        submitter.mended(orch, recorder)
    submitter.check()
    disk.after_power_loss(submitter.aside)
    with TaskOrchestrator(journal=submitter.aside / "runs.db") as orch:
        results = {status.task_id: status.result for status in orch.tasks()}
    assert results == {"before": 8, "doubtful": 8, "after": 8}


@pytest.mark.usefixtures("_brief")
def test_a_disk_that_becomes_read_only_while_it_is_in_use(
    disk: Disk, tmp_path: Path
) -> None:
    """As Linux makes it after an error: all waits, and goes on when it is mounted anew."""
    submitter = Submitter(disk, tmp_path / "aside")
    with TaskOrchestrator(journal=disk.folder / "runs.db") as orch:
        recorder = Recorder(orch, "journal_degraded", "journal_restored")
        assert submitter.submit(orch, "before") == "acknowledged"
        assert orch.handle("before").result(PATIENCE) == 8
        disk.fail("EROFS")
        submitter.doubtful(orch, recorder)
        submitter.refused(orch, 3)
        # It is opened anew meanwhile, and can only be read.
        eventually(lambda: ("open", str(disk.folder / "runs.db")) in disk.failed)
        assert not orch.handle("doubtful").done()
        submitter.mended(orch, recorder)
        assert orch.health().status == "ok"


def test_a_journal_is_not_opened_on_a_disk_that_is_read_only(disk: Disk) -> None:
    """It is refused in words, and opens as it was when it can be written again."""
    path = disk.folder / "runs.db"
    filled(path)
    disk.fail("EROFS")
    with closing(SqliteJournal(path)) as journal:
        with pytest.raises(JournalUnavailableError, match="cannot be claimed now"):
            journal.claim()
        assert disk.failed
        disk.mend()
        assert journal.claim() == 2
        assert list(journal.read()) == ENTRIES


def started(disk: Disk) -> TaskOrchestrator:
    """An orchestrator; if it could not be opened, the disk is mended first."""
    for _ in range(2):
        orch = TaskOrchestrator(journal=disk.folder / "runs.db")
        try:
            orch.start()
        except JournalUnavailableError:
            disk.mend()
        else:
            return orch
    raise AssertionError


def live_through(disk: Disk, aside: Path) -> None:
    """Three tasks, and whatever fails is over once the disk is mended."""
    submitter = Submitter(disk, aside)
    orch = started(disk)
    for name in "abc":
        while submitter.submit(orch, name) != "acknowledged":
            disk.mend()
            eventually(lambda: orch.health().status == "ok")
    handles = [orch.handle(name) for name in "abc"]
    eventually(
        lambda: orch.health().status == "degraded" or all(h.done() for h in handles)
    )
    calls = len(disk.calls)
    disk.mend()
    assert [handle.result(PATIENCE) for handle in handles] == [8, 8, 8]
    submitter.check()
    orch.stop()
    disk.after_power_loss(aside)
    with TaskOrchestrator(journal=aside / "runs.db") as orch:
        assert [status.result for status in orch.tasks()] == [8, 8, 8]
    del disk.calls[calls:]


@pytest.mark.slow("lives for each call that fails")
@pytest.mark.usefixtures("_brief")
@pytest.mark.parametrize("once", [True, False], ids=["once", "for a while"])
@pytest.mark.parametrize(
    ("what", "how"),
    [("read", "EIO"), ("write", "EIO"), ("write", "ENOMEM"), ("sync", "EIO")],
)
def test_an_orchestrator_comes_back_from_any_failure(
    tmp_path: Path, what: str, how: str, once: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_committer, "_COMMIT_TIMEOUT_S", 0.05)
    folder = tmp_path / "well"
    folder.mkdir()
    with Disk(folder).below_sqlite() as disk:
        live_through(disk, tmp_path / "aside")
    count = sum(asked == what for asked, _ in disk.calls)
    for number in range(1, count + 1):
        folder = tmp_path / f"{number}"
        folder.mkdir()
        with Disk(folder).below_sqlite() as disk:
            disk.fail_at(number, how, what, once=once)
            try:
                live_through(disk, tmp_path / "aside")
            except BaseException as error:
                error.add_note(f"the {number}. {what} of {count} failed: {disk.failed}")
                raise
