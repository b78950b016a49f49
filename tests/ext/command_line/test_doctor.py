"""`taskorch doctor` and `taskorch completion`, and what all commands share."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest
from tests.api.tools import PATIENCE, eventually
from tests.ext.command_line.tools import taskorch, told

from taskorch import Task, TaskOrchestrator
from taskorch.api.journal import SqliteJournal
from taskorch.core.engine import machine_resources
from taskorch.ext.command_line import COMMANDS, _doctor
from taskorch.kit.machine import machine_labels


@pytest.fixture
def journal(tmp_path):
    path = tmp_path / "runs.db"
    with TaskOrchestrator(journal=path) as orch:
        orch.submit_task(Task.call(len, "abc", id="one")).result(PATIENCE)
    return path


def found(capsys, *words):
    code, out, _ = taskorch(capsys, "doctor", *words, "--json")
    return code, {one["name"]: one for one in told(out)[0]}


def test_a_machine_that_is_fit(journal, capsys):
    code, by_name = found(capsys, journal)
    assert code == 0
    for name in ("taskorch", "python", "sqlite", "libraries", "machine", "disk"):
        assert by_name[name]["detail"]
    has = machine_resources()
    for name in ("cpu", "memory_mb", "disk_mb", "bandwidth_mbps"):
        is_known = f"{name} unknown" not in by_name["machine"]["detail"]
        assert is_known == (name in has)
        assert name in by_name["machine"]["detail"]
    assert by_name["labels"]["detail"] == ", ".join(machine_labels())
    assert "incarnation 1, not in use" in by_name[f"journal {journal}"]["detail"]
    old = SqliteJournal(journal).wal_reset_bug
    assert by_name["sqlite"]["status"] == ("warning" if old else "ok")
    code, out, _ = taskorch(capsys, "doctor", "--verify", journal)
    assert "events checked" in out


def test_what_is_wrong_is_said_with_what_to_do(journal, capsys, monkeypatch, tmp_path):
    (tmp_path / "runs.db.new-x").touch()
    monkeypatch.setattr(_doctor, "_FEW_FILES", 10**9)
    monkeypatch.setattr(_doctor, "_LITTLE", 1 << 62)
    monkeypatch.setattr(SqliteJournal, "held_log", 10**9)
    code, by_name = found(capsys, journal)
    assert code == 0
    assert by_name["disk"]["status"] == "warning"
    assert by_name["open files"]["what_now"].startswith("ulimit -n")
    out = taskorch(capsys, "doctor", journal)[1]
    assert "the log beside the journal" in out
    assert "runs.db.new-x" in out
    monkeypatch.setattr(_doctor, "_TOO_LITTLE", 1 << 61)
    code, out, _ = taskorch(capsys, "doctor")
    assert code == 1
    assert "make room" in out


def test_a_journal_that_cannot_be_read_is_an_error(capsys, tmp_path):
    code, by_name = found(capsys, tmp_path)
    assert code == 1
    assert "is a folder" in by_name[f"journal {tmp_path}"]["detail"]


def test_libraries_that_are_not_there(monkeypatch):
    monkeypatch.setattr(
        _doctor,
        "_LIBRARIES",
        {"gone": "no_such.module", "odd": "json", "attrs": "attr"},
    )
    said = {finding.name: finding.detail for finding in _doctor._versions()}
    assert said["not installed"] == "gone"
    assert said["libraries"].startswith("odd, attrs")


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_programs_that_are_left_are_named(capsys):
    """One whose orchestrator was killed, and its guardian too."""
    code = "import subprocess; print(subprocess.Popen(['sleep', '60'], stdout=-3, stderr=-3).pid)"
    env = {**os.environ, "TASKORCH_RUN": "of-a-test"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=env,
        capture_output=True,
        text=True,
        check=True,
    )
    pid = done.stdout.strip()
    try:
        left = _doctor._is_left(int(pid))
        if not left:
            pytest.skip("something here adopts what is left")
        _, by_name = found(capsys)
        assert pid in by_name["leftovers"]["detail"]
        assert f"kill {pid}" in by_name["leftovers"]["what_now"] or pid in str(by_name)
    finally:
        os.kill(int(pid), 9)
    eventually(lambda: not _doctor._is_left(int(pid)))


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_knows_all_commands_and_options(shell, capsys):
    code, out, _ = taskorch(capsys, "completion", shell)
    assert code == 0
    for word in (*COMMANDS, "json", "over-time", "suspended", "workspace"):
        assert word in out
    found = shutil.which(shell)
    if found is not None:
        check = [found, "--no-execute"] if shell == "fish" else [found, "-n"]
        subprocess.run([*check, "/dev/stdin"], input=out, text=True, check=True)


@pytest.mark.needs("suites")
@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("taskorch insp", "inspect"),
        ("taskorch inspect --sta", "--state"),
        ("taskorch inspect --state comp", "completed"),
        ("taskorch suite re", "report"),
        ("taskorch completion f", "fish"),
    ],
)
def test_bash_completes(typed, offered, capsys):
    script = taskorch(capsys, "completion", "bash")[1]
    *before, _ = words = typed.split()
    line = " ".join(words)
    ask = (
        f"{script}\nCOMP_WORDS=({line}); COMP_CWORD={len(before)}; _taskorch; "
        'echo "${COMPREPLY[@]}"'
    )
    done = subprocess.run(
        ["bash", "-c", ask], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == [offered]


def test_what_asks_for_no_command_imports_none():
    """The help imports what verbs are: they say which commands there are."""
    code = (
        "import sys; from taskorch.ext import command_line as cli\n"
        "try: cli.main([{}])\nexcept SystemExit: pass\n"
        "print([m for m in {} if m in sys.modules])"
    )
    heavy = "taskorch.model", "sqlite3", "attrs", "taskorch.core.kernel"
    commands = {module for _, module in COMMANDS.values()} - {
        "taskorch.ext.command_line._control"
    }
    for option, modules in (("--version", heavy), ("--help", tuple(commands))):
        done = subprocess.run(
            [sys.executable, "-c", code.format(repr(option), modules)],
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.endswith("[]\n")
    for name in COMMANDS:
        assert name in done.stdout
