"""A journal's file: nobody opens it but SQLite, and it has one owner by all its names."""

import os
import subprocess
import sys
from contextlib import closing

import pytest

from taskorch import SqliteJournal, Task, TaskOrchestrator
from taskorch.core.journal._file import connect
from taskorch.errors import JournalTakenError
from taskorch.ext.views import JournalReader

#: A program that has the journal open and does with it what its arguments say, and names
#: each call that opens the file besides SQLite: its end drops the locks of SQLite.
WATCHES = """
import os, sys, traceback
path, opened = sys.argv[1], []

def hook(event, arguments):
    if event == "open" and isinstance(arguments[0], (str, bytes, os.PathLike)):
        if os.path.realpath(os.fsdecode(arguments[0])) != path:
            return
        frame = sys._getframe(1)
        # One module may, which closes what it opens once that harms nobody.
        while frame and not frame.f_code.co_filename.endswith("_descriptors.py"):
            frame = frame.f_back
        if frame is None:
            opened.append(event)
            traceback.print_stack()

sys.addaudithook(hook)
from taskorch import TaskOrchestrator, Task
from taskorch.ext.command_line import main
from taskorch.errors import TaskorchError
with TaskOrchestrator(journal=path) as orch:
    orch.submit_task(Task.call(abs, -1, id="t")).result()
    for command in {commands}:
        try:
            main(command.replace("JOURNAL", path).split())
        except (TaskorchError, SystemExit):
            pass
    try:
        TaskOrchestrator(journal=path).start()
    except TaskorchError:
        pass
    assert orch.submit_task(Task.call(abs, -2)).result() == 2
sys.exit(len(opened))
"""
COMMANDS = (
    "inspect JOURNAL",
    "explain JOURNAL t",
    "doctor JOURNAL",
    "doctor --verify JOURNAL",
    "verify JOURNAL",
    "prune JOURNAL --older-than 1d",
    "copy JOURNAL JOURNAL.copy",
    "runs JOURNAL",
    "logs JOURNAL t",
    "migrate JOURNAL",
    "serve JOURNAL",
    "run JOURNAL",
    "top JOURNAL --once",
)
#: Reads the journal as any program may, and is the last that closes it if locks are lost.
READS = """
import sqlite3, sys
with sqlite3.connect(sys.argv[1]) as db:
    db.execute("SELECT count(*) FROM facts").fetchone()
db.close()
"""


def run(program, *arguments):
    command = [sys.executable, "-c", program, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_nothing_of_ours_opens_the_file_of_a_journal(tmp_path):
    path = tmp_path.resolve() / "runs.db"
    ended = run(WATCHES.replace("{commands}", repr(COMMANDS)), path)
    assert ended.returncode == 0, ended.stderr[-3000:]


def test_a_second_start_that_is_refused_costs_the_first_nothing(tmp_path):
    path = tmp_path / "runs.db"
    with TaskOrchestrator(journal=path) as orch:
        orch.submit_task(Task.call(abs, -1)).result()
        with pytest.raises(JournalTakenError):
            TaskOrchestrator(journal=path).start()
        assert run(READS, path).returncode == 0
        for number in range(3):
            assert orch.submit_task(Task.call(abs, -number)).result() == number
        assert orch.health().status == "ok"


def test_a_connection_without_locks_that_is_closed_costs_the_owner_nothing(tmp_path):
    """It was made before somebody owned the journal."""
    path = tmp_path / "runs.db"
    with TaskOrchestrator(journal=path) as orch:
        orch.submit_task(Task.call(abs, -1)).result()
    reading = connect(path, "alone")
    reading.execute("SELECT count(*) FROM facts").fetchall()
    with TaskOrchestrator(journal=path) as orch:
        orch.submit_task(Task.call(abs, -1)).result()
        reading.close()
        ended = run(READS, path)
        assert ended.returncode == 0, ended.stderr
        for number in range(3):
            assert orch.submit_task(Task.call(abs, -number)).result(60) == number
        assert orch.health().status == "ok"


def test_a_file_with_two_names_has_one_owner(tmp_path):
    path, other = tmp_path / "a.db", tmp_path / "b.db"
    starts = "from taskorch import TaskOrchestrator as O; import sys; O(journal=sys.argv[1]).start()"
    with TaskOrchestrator(journal=path) as orch:
        orch.submit_task(Task.call(abs, -1, id="t")).result()
        os.link(path, other)
        for refused in (
            lambda: TaskOrchestrator(journal=other).start(),
            lambda: JournalReader(other).get_task_status("t"),
        ):
            with pytest.raises(JournalTakenError, match=r"calls it .*a\.db"):
                refused()
        ended = run(starts, other)
        assert "JournalTakenError" in ended.stderr
        assert str(path) in ended.stderr
        assert JournalReader(path).get_task_status("t").state == "completed"
    # Once nobody has it, each name will do.
    for name in (other, path):
        with TaskOrchestrator(journal=name) as orch:
            assert orch.get_task_status("t").state == "completed"
        with closing(SqliteJournal(name)) as journal:
            journal.claim()
