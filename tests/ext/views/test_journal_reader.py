"""A journal that is read by others, while its owner runs or when nobody does."""

from __future__ import annotations

import os
import shutil
import sqlite3
import sys
import tempfile
import time
from datetime import timedelta
from pathlib import Path

import pytest
from tests.api.tools import PATIENCE, Hold, eventually
from tests.house.own_journal import LinesJournal
from tests.worlds.faults.tools import Process, say

from taskorch import RetryPolicy, SqliteJournal, Task, TaskOrchestrator
from taskorch.core.journal import _file, _layout
from taskorch.errors import (
    InvalidTaskError,
    JournalError,
    JournalUnavailableError,
    UnknownTaskError,
)
from taskorch.ext.views import JournalReader

HOLDS: dict[str, Hold] = {}


def hold(name):
    return HOLDS[name](name)


def fail():
    raise ValueError("no way")


def fill(orch):
    """Tasks in all states there are; an agent for none of them."""
    HOLDS["held"] = Hold()
    quick = RetryPolicy(max_attempts=2, delays=[0.001])
    slow = RetryPolicy(max_attempts=2, delays=[10_000.0])
    orch.submit_task(Task.call(len, "abc", id="good", metadata={"for": "acme"}))
    orch.submit_task(Task.call(fail, id="bad", retry=quick))
    orch.submit_task(Task.call(len, "x", id="blocked", after=["bad"]))
    orch.submit_task(Task.call(fail, id="retrying", retry=slow))
    orch.submit_task(Task.call(hold, "held", id="held"))
    orch.submit_task(Task.call(len, "x", id="pending", after=["held"]))
    orch.submit_task(Task.call(len, "x", id="later", after=["good", "pending"]))
    orch.submit_task(Task("nobody", {"secret": 1}, id="queued"))
    orch.submit_task(Task.call(len, "x", id="suspended", after=["held"]))
    orch.submit_task(Task.call(len, "x", id="cancelled", after=["held"]))
    orch.suspend_task("suspended")
    orch.cancel_task("cancelled")
    eventually(lambda: orch.get_task_status("retrying").state == "retrying")
    eventually(lambda: orch.get_task_status("bad").state == "failed")
    eventually(lambda: orch.get_task_status("held").state == "running")


STATES = {
    "good": "completed",
    "bad": "failed",
    "blocked": "blocked",
    "retrying": "retrying",
    "held": "running",
    "pending": "pending",
    "later": "pending",
    "queued": "queued",
    "suspended": "suspended",
    "cancelled": "cancelled",
}


def end(orch):
    """Let all end that can."""
    HOLDS["held"].release()
    for name in ("retrying", "queued", "suspended", "blocked"):
        orch.cancel_task(name)
    orch.handle("later").result(PATIENCE)


def told(status):
    """All of it that facts say."""
    found = status.to_dict()
    # The exception itself is not kept.
    found["error"] = found["error"] is not None
    return found


def files_of(folder):
    """What changes if somebody writes there."""
    return {
        path.name: (path.stat().st_ino, path.stat().st_size, path.stat().st_mtime_ns)
        for path in folder.iterdir()
        if path.is_file()
    }


def states(path):
    return {one.task_id: str(one.state) for one in JournalReader(path).tasks()}


@pytest.fixture(params=[LinesJournal, SqliteJournal])
def journal_class(request):
    return request.param


def test_it_answers_as_the_orchestrator_does(journal_class, tmp_path):
    """Of each task and of all; a journal of one's own can be read so, too."""
    path = tmp_path / "runs"
    with TaskOrchestrator(
        journal=journal_class(path), unknown_capability="wait"
    ) as orch:
        fill(orch)
        reader = JournalReader(journal_class(path))
        theirs = [told(status) for status in orch.tasks()]
        assert {one["task_id"]: one["state"] for one in theirs} == STATES
        assert [told(status) for status in reader.tasks()] == theirs
        ones = [told(reader.get_task_status(one["task_id"])) for one in theirs]
        assert ones == theirs
        assert reader.get_stats().state_machine == orch.get_stats().state_machine
        stuck = [one.tasks for one in orch.stuck()]
        assert [one.tasks for one in reader.stuck()] == stuck

        end(orch)
        # It takes up what has come since.
        theirs = [told(status) for status in orch.tasks()]
        assert [told(status) for status in reader.tasks()] == theirs
        last = reader.last
        orch.submit(len, "x").result(PATIENCE)
        assert reader.last > last


def test_it_filters_as_the_orchestrator_does(tmp_path):
    path = tmp_path / "runs.db"
    with TaskOrchestrator(journal=path, unknown_capability="wait") as orch:
        fill(orch)
        reader = JournalReader(path)
        for words in (
            {"state": "failed"},
            {"type": "fail"},
            {"id": "b*"},
            {"agent": "local"},
            {"metadata": {"for": "acme"}},
            {"since": timedelta(hours=1)},
            {"older_than": 1_000.0},
        ):
            names = [status.task_id for status in orch.tasks(**words)]
            assert [status.task_id for status in reader.tasks(**words)] == names
        with pytest.raises(InvalidTaskError, match="there is no state"):
            reader.tasks("gone")
        end(orch)


def test_it_explains_what_waits_for_slots_and_resources(tmp_path):
    """How many there are is a fact of the incarnation that has them."""
    path = tmp_path / "runs.db"
    HOLDS["held"] = Hold()
    one = {"resources": {"gpu": 1}}
    with TaskOrchestrator(journal=path, concurrency=2, resources={"gpu": 1}) as orch:
        orch.submit_task(Task.call(hold, "held", id="first", **one))
        HOLDS["held"].wait()
        orch.submit_task(Task.call(len, "x", id="second", **one))

        words = str(JournalReader(path).explain("second"))
        assert "first" in words
        assert "gpu" in words
        assert words.splitlines()[:3] == str(orch.explain("second")).splitlines()[:3]
        assert "first is running" in str(JournalReader(path).explain("first"))
        HOLDS["held"].release()


def leave(path: Path) -> None:
    """In a process of its own, which is killed."""
    with TaskOrchestrator(journal=path, concurrency=1) as orch:
        orch.submit_task(Task.call(time.sleep, PATIENCE, id="first"))
        orch.submit_task(Task.call(len, "x", id="second"))
        eventually(lambda: orch.get_task_status("first").state == "running")
        # A start is kept with what comes next.
        orch.submit_task(Task.call(len, "x", id="third"))
        say("ready")
        time.sleep(PATIENCE)


def test_it_says_so_if_nobody_works_on_it(tmp_path):
    path = tmp_path / "runs.db"
    with Process(leave, path) as process:
        assert process.line() == "ready", process.errors()
        assert JournalReader(path).owner.lives
        assert "nothing starts" not in str(JournalReader(path).explain("second"))
    reader = JournalReader(path)
    assert reader.owner.lives is False
    assert "Run the program again that has this journal" in str(
        reader.explain("second")
    )


def test_the_id_of_a_journal_is_no_other_ones(tmp_path):
    paths = [tmp_path / "a.db", tmp_path / "b.db"]
    for path in paths:
        with TaskOrchestrator(journal=path):
            pass
    found = {JournalReader(path).uid for path in paths}
    assert len(found) == 2
    moved = paths[0].rename(tmp_path / "c.db")
    assert JournalReader(moved).uid in found
    assert JournalReader(LinesJournal(tmp_path / "lines")).uid == ""


def test_what_has_left_memory_is_found_and_runs_by_their_numbers(tmp_path):
    path = tmp_path / "runs.db"
    with TaskOrchestrator(journal=path, keep_finished=2) as orch:
        orch.submit_task(Task.call(fail, id="x"))
        orch.wait(PATIENCE)
        orch.rerun_task("x")
        orch.wait(PATIENCE)
        for number in range(20):
            orch.submit_task(Task.call(len, "abc", id=f"n/{number}"))
        orch.wait(PATIENCE)
        reader = JournalReader(path)
        assert reader.get_task_status("n/0").result == 3
        assert len(list(reader.tasks())) == 22
        assert reader.get_task_status("x").task_id == "x~2"
        assert reader.get_task_status("x~1").task_id == "x"
        assert "failed" in str(reader.explain("x~1"))
        assert str(reader.explain("n/3")).startswith("n/3 is completed.")
        assert [type(event).__name__ for event in reader.events("n/7")] == [
            "TaskSubmitted",
            "TaskStarted",
            "TaskCompleted",
        ]
    # From the snapshot of the end.
    reader = JournalReader(path)
    assert len(list(reader.tasks("completed"))) == 20
    assert reader.get_stats().state_machine.completed == 20
    assert reader.get_stats().types["len"].completed == 20


def test_what_failed_was_mended_by_the_first_run_that_completed(tmp_path):
    path, missing = tmp_path / "runs.db", tmp_path / "missing"
    with TaskOrchestrator(journal=path) as orch:
        orch.submit_task(Task.call(os.listdir, str(missing), id="x"))
        orch.wait(PATIENCE)
        orch.rerun_task("x")
        orch.wait(PATIENCE)
        missing.mkdir()
        for _ in range(2):
            orch.rerun_task("x")
            orch.wait(PATIENCE)
        for asked in (orch, JournalReader(path)):
            status = asked.get_task_status("x~1")
            assert (status.mended_by, status.rerun) == ("x~3", "x~4")


def test_results_over_time(journal_class, tmp_path):
    path = tmp_path / "runs"
    with TaskOrchestrator(journal=journal_class(path)) as orch:
        orch.submit_task(Task.call(fail))
        for number in range(3):
            orch.submit_task(Task.call(len, "abc", id=f"n/{number}"))
        orch.wait(PATIENCE)
    ended = JournalReader(journal_class(path)).outcomes(timedelta(days=1))
    assert sum(one.completed for one in ended) == 3
    assert sum(one.failed for one in ended) == 1
    ends = [status.ended for status in JournalReader(journal_class(path)).tasks()]
    assert ended[0].begin <= min(ends)
    assert max(ends) < ended[-1].begin + timedelta(days=1)
    with pytest.raises(InvalidTaskError, match="every"):
        JournalReader(journal_class(path)).outcomes(0)


def test_all_come_of_more_than_it_reads_at_once(tmp_path):
    path = tmp_path / "runs.db"
    ids = [f"n/{number}" for number in range(450)]
    with TaskOrchestrator(journal=path, durability="process") as orch:
        orch.submit_tasks([Task.call(abs, 1, id=name) for name in ids])
        orch.wait(PATIENCE)
    reader = JournalReader(path)
    assert [status.task_id for status in reader.tasks()] == ids
    submitted = [e for e in reader.happened() if type(e).__name__ == "TaskSubmitted"]
    assert [event.task_id for event in submitted] == ids


def test_a_task_that_is_not_there(journal_class, tmp_path):
    path = tmp_path / "runs"
    with TaskOrchestrator(journal=journal_class(path)):
        reader = JournalReader(journal_class(path))
        for ask in (reader.get_task_status, reader.explain, reader.events):
            with pytest.raises(UnknownTaskError, match="no task has the id 'y'"):
                ask("y")
            with pytest.raises(UnknownTaskError, match="an id is a text"):
                ask(7)
    if journal_class is SqliteJournal:
        assert reader.owner.epoch == 1
    else:
        assert reader.owner.lives is None


def test_what_tasks_call_is_not_imported(tmp_path, monkeypatch):
    (tmp_path / "loud_module.py").write_text(
        "def call(n):\n    return n\n", encoding="utf-8"
    )
    monkeypatch.syspath_prepend(tmp_path)
    import loud_module

    path = tmp_path / "runs.db"
    with TaskOrchestrator(journal=path) as orch:
        orch.submit_task(Task.call(loud_module.call, 7, id="one")).result(PATIENCE)
    monkeypatch.delitem(sys.modules, "loud_module")

    reader = JournalReader(path)
    assert reader.get_task_status("one").result == 7
    assert [one.task_id for one in reader.tasks()] == ["one"]
    assert "loud_module" not in sys.modules


# -- who has it open, and what lies beside it ----------------------------------------


def live(path: Path) -> None:
    """In a process of its own."""
    with TaskOrchestrator(journal=path, unknown_capability="wait") as orch:
        fill(orch)
        # The start of what runs is kept with this.
        orch.submit_task(Task.call(len, "x", id="last")).result(PATIENCE)
        say("ready")
        time.sleep(PATIENCE)


def look(where: Path) -> None:
    """In a process of its own, as a user who may write nowhere, and read two of three."""
    folders = [where / "live", where / "copied"]
    if os.getuid() == 0:
        user = 2**24 + os.getpid()
        for folder in folders:
            for name in (folder, *folder.iterdir()):
                os.chown(name, user, user)
        os.setresuid(user, user, user)
    else:
        (where / "runs.db").chmod(0)
    names = []
    for folder in folders:
        folder.chmod(0o500)
        for each in folder.iterdir():
            each.chmod(0o400)
        reader = JournalReader(folder / "runs.db")
        names += [status.task_id for status in reader.tasks("running")]
        folder.chmod(0o700)
    say(*names)
    with pytest.raises(JournalUnavailableError) as caught:
        JournalReader(where / "runs.db")
    say(str(caught.value).replace("\n", " "))


@pytest.fixture(scope="module")
def folders():
    """A journal whose owner lives, and its copy without the index of its log."""
    where = Path(tempfile.mkdtemp(prefix="taskorch-"))
    made, copied = where / "live", where / "copied"
    made.mkdir()
    copied.mkdir()
    with Process(live, made / "runs.db") as process:
        assert process.line() == "ready", process.errors()
        for name in ("runs.db", "runs.db-wal"):
            shutil.copy(made / name, copied)
        yield {"live": made, "copied": copied, "pid": process.pid}
    shutil.rmtree(where, ignore_errors=True)


def copy_of(folder, to):
    shutil.copytree(folder, to)
    return to / "runs.db"


def named(found):
    return {name: state for name, state in found.items() if name in STATES}


def test_another_process_reads_it_while_its_owner_runs(folders):
    path = folders["live"] / "runs.db"
    before = files_of(path.parent)
    assert named(states(path)) == STATES
    owner = JournalReader(path).owner
    assert owner.lives
    assert owner.pid == folders["pid"]
    assert "is running" in str(JournalReader(path).explain("held"))
    assert files_of(path.parent) == before


@pytest.mark.parametrize("how", ["killed", "copied", "copied alone", "with an index"])
def test_nothing_is_written_beside_it(how, folders, tmp_path):
    """Killed, its log stays; copied, the index of that may be left out."""
    source = folders["copied" if how == "copied" else "live"]
    path = copy_of(source, tmp_path / "journal")
    if how in ("copied alone", "with an index"):
        # All that it has is in the file.
        db = sqlite3.connect(path)
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        db.close()
        assert not Path(f"{path}-wal").exists()
    if how == "with an index":
        shutil.copy(folders["live"] / "runs.db-shm", path.parent)
    before = files_of(path.parent)
    assert named(states(path)) == STATES
    assert JournalReader(path).get_task_status("good").result == 3
    assert files_of(path.parent) == before


@pytest.fixture(scope="module")
def looked(folders):
    """What another user has found: tasks of two journals, and why not those of one."""
    where = Path(tempfile.mkdtemp(prefix="taskorch-"))
    for how in ("live", "copied"):
        copy_of(folders[how], where / how)
    a_journal(where / "runs.db")
    where.chmod(0o755)
    with Process(look, where) as process:
        yield process.line() or process.errors(), process.line() or process.errors()
    # They are the other user's now.
    for folder in where.iterdir():
        os.chown(folder, os.getuid(), os.getgid())
    shutil.rmtree(where)


def test_a_folder_that_may_only_be_read_is_no_obstacle(looked):
    assert looked[0] == "held held"


def test_what_was_read_while_somebody_opened_it_is_not_answered(tmp_path):
    """Nobody had it open, so there was no lock."""
    path = a_journal(tmp_path / "runs.db")
    entries = SqliteJournal(path).read()
    next(entries)
    with TaskOrchestrator(journal=path) as orch:
        orch.submit_task(Task.call(len, "abc", id="two")).result(PATIENCE)
        with pytest.raises(JournalUnavailableError, match="was opened by its owner"):
            list(entries)
        # The next question finds the log of its owner.
        assert states(path) == {"one": "completed", "two": "completed"}


# -- what cannot be read -------------------------------------------------------------


def a_journal(path):
    with TaskOrchestrator(journal=path) as orch:
        orch.submit_task(Task.call(len, "abc", id="one")).result(PATIENCE)
    return path


def newer(path):
    db = sqlite3.connect(a_journal(path))
    db.execute(f"PRAGMA user_version = {_layout.LAYOUT + 9}")
    db.close()


def torn(path):
    """Its end is gone."""
    content = a_journal(path).read_bytes()
    path.write_bytes(content[: len(content) // 2])


def other(path):
    db = sqlite3.connect(path)
    db.execute("CREATE TABLE t (x)")
    db.commit()
    db.close()


def lost(path):
    """Only its log is left."""
    Path(f"{path}-wal").write_bytes(b"x")


@pytest.mark.parametrize(
    ("make", "says", "hint"),
    [
        (lambda path: None, "there is no journal", "check the path"),
        (lambda path: path.mkdir(), "is a folder", "name a file"),
        (lambda path: path.touch(), "is empty", "check the path"),
        (lambda path: path.write_text("no " * 99), "is no journal", "check the path"),
        (other, "of something else", "another path"),
        (newer, "of a newer taskorch", "open it with the taskorch that wrote it"),
        (torn, "is damaged", "restore"),
        (lost, "is gone, and its log", "restore"),
    ],
    ids=["absent", "folder", "empty", "text", "other", "newer", "torn", "lost"],
)
def test_what_is_no_journal_is_refused_with_what_to_do(make, says, hint, tmp_path):
    path = tmp_path / "runs.db"
    make(path)
    before = files_of(tmp_path)
    with pytest.raises(JournalError, match=says) as caught:
        list(JournalReader(path).tasks())
    assert hint in caught.value.hint
    assert str(path) in str(caught.value)
    assert files_of(tmp_path) == before


def test_a_journal_of_somebody_elses_is_refused(looked):
    assert "may not be read by this user" in looked[1]
    assert "as the user who runs the orchestrator" in looked[1]


def test_one_that_is_locked_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setattr(_file, "_PATIENCE", 0.05)
    path = a_journal(tmp_path / "runs.db")
    reader = JournalReader(path)
    db = sqlite3.connect(path, isolation_level=None)
    db.execute("PRAGMA locking_mode = EXCLUSIVE")
    db.execute("CREATE TABLE other (x)")
    # Its log is there, and it lets nobody in.
    Path(f"{path}-shm").touch()
    with pytest.raises(JournalUnavailableError, match="locked") as caught:
        reader.get_task_status("one")
    assert "another program has locked it" in caught.value.hint
    db.close()


def test_what_is_no_journal_at_all_is_refused():
    with pytest.raises(InvalidTaskError, match="is no path"):
        JournalReader(7)
