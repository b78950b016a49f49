"""`taskorch inspect` and `taskorch explain`: what a stranger sees of a journal."""

from __future__ import annotations

import os
import pty
import sqlite3
import sys
from contextlib import closing
from itertools import count
from pathlib import Path

import pytest
from tests.api.tools import PATIENCE, Hold
from tests.ext.command_line.tools import read_until, started, taskorch, told

from taskorch import RetryPolicy, Task, TaskOrchestrator
from taskorch.core.journal import _file
from taskorch.ext.command_line import _terminal
from taskorch.ext.views import JournalReader

HOLD = Hold()


def fail():
    raise ValueError("no way \x1b[31m\nout")


def wait():
    return HOLD("late")


@pytest.fixture(scope="module")
def journal(tmp_path_factory):
    path = tmp_path_factory.mktemp("journal") / "runs.db"
    quick = RetryPolicy(max_attempts=2, delays=[0.001])
    with TaskOrchestrator(journal=path) as orch:
        for number in range(60):
            meta = {"customer": "acme", "n": number}
            task = Task.call(len, "abc", id=f"good/{number}", metadata=meta)
            orch.submit_task(task)
        orch.submit_task(Task.call(fail, id="bad", retry=quick))
        orch.submit_task(Task.call(len, "x", id="after", after=["bad"]))
        orch.submit_task(Task.program(["sh", "-c", "echo hi"], id="prog"))
        orch.wait(PATIENCE)
    return path


def test_all_of_it_at_a_glance(journal, capsys):
    code, out, err = taskorch(capsys, "inspect", journal)
    assert (code, err) == (0, "")
    assert "nobody has it open; last opened by process" in out
    assert "63 tasks: 1 blocked, 61 completed, 1 failed" in out
    assert "fail" in out
    assert "1 task stuck: after." in out
    assert f"taskorch inspect {journal} --state failed" in out
    (found,) = told(taskorch(capsys, "inspect", journal, "--json")[1])
    assert found["stats"]["state_machine"]["completed"] == 61
    assert found["stats"]["types"]["fail"]["failures"] == {"ValueError": 1}
    assert found["owner"]["lives"] is False
    assert found["stuck"][0]["tasks"] == ["after"]


def test_one_task_with_its_history(journal, capsys):
    code, out, _ = taskorch(capsys, "inspect", journal, "bad")
    assert code == 0
    assert out.startswith("bad is failed\n")
    assert "\x1b" not in out
    assert out.count("retrying") == 1
    assert out.count("running") == 2
    assert r"ValueError: no way \x1b[31m out" in out
    assert "  3\n" in taskorch(capsys, "inspect", journal, "good/1")[1]
    assert "prog/1.log" in taskorch(capsys, "inspect", journal, "prog")[1]
    (found,) = told(taskorch(capsys, "inspect", journal, "bad", "--json")[1])
    assert found["state"] == "failed"
    assert [event["event"] for event in found["events"]] == [
        "TaskSubmitted",
        "TaskStarted",
        "TaskRetrying",
        "TaskDue",
        "TaskStarted",
        "TaskFailed",
    ]


@pytest.mark.parametrize(
    ("words", "names"),
    [
        (["--state", "failed"], ["bad"]),
        (["--type", "fail"], ["bad"]),
        (["--id", "good/1?"], [f"good/1{n}" for n in range(10)]),
        (["--metadata", "n=7", "--metadata", "customer=acme"], ["good/7"]),
        (["--agent", "local", "--state", "failed"], ["bad"]),
        (["--since", "1h", "--state", "blocked"], ["after"]),
        (["--since", "2020-01-01", "--state", "blocked"], ["after"]),
        (["--older-than", "1d"], []),
        (["--tasks", "--limit", "2"], ["good/0", "good/1"]),
    ],
)
def test_tasks_by_the_words_of_the_orchestrator(words, names, journal, capsys):
    code, out, _ = taskorch(capsys, "inspect", journal, *words, "--json")
    assert code == 0
    assert [one["task_id"] for one in told(out)] == names
    _, out, _ = taskorch(capsys, "inspect", journal, *words)
    assert [line.split()[0] for line in out.splitlines()[1 : len(names) + 1]] == names
    if not names:
        assert out == "No task is like that.\n"


def test_a_list_says_if_there_are_more(journal, capsys):
    assert taskorch(capsys, "inspect", journal, "--tasks")[1].endswith(
        "There are more than 50: --limit 0 shows all.\n"
    )
    out = taskorch(capsys, "inspect", journal, "--tasks", "--limit", "0")[1]
    assert len(out.splitlines()) == 64


def test_a_number_of_thousands_of_digits_is_shown_as_a_text(tmp_path, capsys):
    path = tmp_path / "runs.db"
    with TaskOrchestrator(journal=path) as orch:
        orch.submit_task(Task.call(pow, 10, 5_000, id="t")).result()
    for words in (("t",), ("--tasks",)):
        code, out, err = taskorch(capsys, "inspect", path, *words, "--json")
        assert (code, err) == (0, "")
        assert [one["task_id"] for one in told(out)] == ["t"]
    assert int(
        told(taskorch(capsys, "inspect", path, "t", "--json")[1])[0]["result"], 16
    )


def test_results_over_time(journal, capsys):
    out = taskorch(capsys, "inspect", journal, "--over-time", "365d")[1]
    assert out.splitlines()[-1].split()[-3:] == ["61", "1", "0"]
    (*_, last) = told(
        taskorch(capsys, "inspect", journal, "--over-time", "365d", "--json")[1]
    )
    assert last["completed"] == 61


def test_explain(journal, capsys):
    code, out, _ = taskorch(capsys, "explain", journal, "after")
    assert code == 0
    assert "It needs bad, which has failed" in out
    assert "1 task stuck: after." in taskorch(capsys, "explain", journal)[1]
    (found,) = told(taskorch(capsys, "explain", journal, "after", "--json")[1])
    assert found["blockers"][0]["kind"] == "dependency"
    ((group,),) = told(taskorch(capsys, "explain", journal, "--json")[1])
    assert group["tasks"] == ["after"]


def test_nothing_is_stuck_where_nothing_is(tmp_path, capsys):
    with TaskOrchestrator(journal=tmp_path / "runs.db"):
        pass
    assert taskorch(capsys, "explain", tmp_path / "runs.db")[1] == "Nothing is stuck.\n"


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["inspect", "none.db"], 2, "there is no journal"),
        (["explain", "none.db", "x"], 2, "check the path"),
        (["inspect", "."], 2, "is a folder"),
        (["inspect", "JOURNAL", "nobody"], 2, "--id '*part*'"),
        (["explain", "JOURNAL", "nope"], 2, "by a part of its id: taskorch inspect "),
        (["explain", "JOURNAL", "nobody"], 2, "no task has the id 'nobody'"),
        (["inspect", "JOURNAL", "--since", "soon"], 2, "write 90s, 15m, 1h30m or 30d"),
        (["inspect", "JOURNAL", "--older-than", "-1"], 2, "argument"),
        (["inspect", "JOURNAL", "--metadata", "x"], 2, "write NAME=VALUE"),
        (["inspect", "JOURNAL", "--state", "gone"], 2, "invalid choice"),
    ],
)
def test_what_cannot_be_is_said_with_what_to_do(
    words, code, said, journal, capsys, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    given = [journal if word == "JOURNAL" else word for word in words]
    got, _, err = taskorch(capsys, *given)
    assert got == code
    assert said in err


def test_times_as_they_are_typed():
    assert _terminal.seconds("90") == 90
    assert _terminal.seconds("1h30m") == 5_400
    assert _terminal.seconds("0.5d") == 43_200


def test_it_follows_what_happens_until_the_end(tmp_path):
    """One task until it has ended; all until nobody has the journal open."""
    path = tmp_path / "runs.db"
    with TaskOrchestrator(journal=path) as orch:
        orch.submit_task(Task.call(wait, id="late"))
        HOLD.wait()
        with (
            started("inspect", path, "late", "--follow", "--every", "0.01") as one,
            started("inspect", path, "--follow", "--json", "--every", "0.01") as every,
        ):
            assert "late is" in one.stdout.readline()
            HOLD.release()
            orch.submit_task(Task.call(len, "abc", id="more")).result(PATIENCE)
            out, err = one.communicate(timeout=PATIENCE)
            assert "late  completed" in out, err
            assert one.returncode == 0
            orch.stop()
            out, err = every.communicate(timeout=PATIENCE)
            assert every.returncode == 0, err
    # It may have begun after that was submitted.
    assert {event["task_id"] for event in told(out)} <= {"late", "more"}


def test_who_follows_a_service_hears_that_it_began_anew():
    """Without a journal, the events of the new one are others."""
    token = "t" * 40
    with TaskOrchestrator() as orch, orch.serve(port=0, token=token) as server:
        words = ("inspect", server.url, "--follow", "--every", "0.05")
        process = started(*words, TASKORCH_TOKEN=token)
        # It has asked for what there is before it says how all stands.
        assert process.stdout.readline()
        orch.submit_task(Task.call(len, "abc", id="before")).result(PATIENCE)
        read_until(process, "before")
    with (
        process,
        TaskOrchestrator() as orch,
        orch.serve(port=server.port, token=token),
    ):
        orch.submit_task(Task.call(len, "abc", id="behind")).result(PATIENCE)
        read_until(process, "behind")
        assert "Some events are missing here" in process.stderr.readline()
        process.terminate()


def test_it_follows_no_longer_though_a_log_stays_because_somebody_reads(tmp_path):
    """SQLite removes it with the last connection only, whoever has that."""
    path = tmp_path / "runs.db"
    with TaskOrchestrator(journal=path) as orch:
        orch.submit_task(Task.call(len, "abc", id="one")).result(PATIENCE)
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as other:
            other.execute("SELECT count(*) FROM facts").fetchall()
            orch.stop()
            assert Path(f"{path}-wal").exists()
            with started("inspect", path, "--follow", "--every", "0.01") as process:
                out, err = process.communicate(timeout=PATIENCE)
            assert process.returncode == 0, err
            assert "1 completed" in out


@pytest.mark.parametrize(("disturbed", "code"), [(15, 0), (10**6, 75)])
def test_who_follows_asks_again_while_an_owner_comes_or_goes(
    tmp_path, capsys, monkeypatch, disturbed, code
):
    path = tmp_path / "runs.db"
    with TaskOrchestrator(journal=path) as orch:
        orch.submit_task(Task.call(len, "abc", id="one")).result(PATIENCE)
    looks = count()
    state_of = _file.state_of

    def state_between_two_owners(name):
        look = next(looks)
        return look if look < disturbed else state_of(name)

    reader_last = JournalReader.last.fget
    # Before it follows, it is as quiet as ever.
    monkeypatch.setattr(
        JournalReader,
        "last",
        property(
            lambda reader: (
                reader_last(reader),
                monkeypatch.setattr(_file, "state_of", state_between_two_owners),
            )[0]
        ),
    )
    words = ("inspect", path, "--follow", "--json", "--every", "0.001")
    got, _, err = taskorch(capsys, *words)
    assert got == code, err
    assert ("was opened by its owner" in err) is (code == 75)


# -- in a terminal -------------------------------------------------------------------


def in_a_terminal(*words, **env):
    """What a command writes to a terminal of 80 columns."""
    pid, file = pty.fork()
    if pid == 0:
        os.environ |= {"TERM": "xterm", "COLUMNS": "80", **env}
        os.execv(sys.executable, [sys.executable, "-m", "taskorch", *map(str, words)])
    out = b""
    while True:
        try:
            part = os.read(file, 65_536)
        except OSError:
            break
        if not part:
            break
        out += part
    os.waitpid(pid, 0)
    os.close(file)
    return out.decode()


def test_in_a_terminal_there_are_colours_and_no_line_is_longer(journal):
    out = in_a_terminal("inspect", journal, "--state", "failed", COLUMNS="66")
    assert "\x1b[31mfailed\x1b[0m" in out
    bare = out.replace("\x1b[31m", "").replace("\x1b[0m", "")
    assert max(map(len, bare.splitlines())) <= 66
    assert "…" in out


def test_no_color_is_heeded(journal):
    out = in_a_terminal("inspect", journal, "--state", "failed", NO_COLOR="1")
    assert "\x1b" not in out


# -- prune -----------------------------------------------------------------------------


def test_what_is_still_broken_is_told_from_what_was_mended(tmp_path, capsys):
    """By the name of the run, a mark, and a filter; in later incarnations, too."""
    path, mended = tmp_path / "runs.db", tmp_path / "mended"

    def lines(*words):
        return taskorch(capsys, "inspect", path, *words)[1].splitlines()

    with TaskOrchestrator(journal=path) as orch:
        for name in ("a", "b", "c"):
            orch.submit_task(Task.call(unless, mended, id=name))
        orch.wait(PATIENCE)
        # Another run, which fails again.
        with pytest.raises(ValueError, match="not yet"):
            orch.rerun_task("b").result(PATIENCE)
        mended.touch()
        assert orch.rerun_task("a").result(PATIENCE) == "done"
        assert orch.get_task_status("a~1").mended_by == "a~2"
        assert orch.get_task_status("a").run_id == "a~2"
        assert orch.get_task_status("b~1").rerun == "b~2"
        assert not orch.get_task_status("b~1").mended_by
    for _ in range(2):
        rows = [line.split() for line in lines("--state", "failed")[1:]]
        assert [row[0] for row in rows] == ["a~1", "b~1", "c", "b~2"]
        said = "\n".join(lines("--state", "failed"))
        assert "mended since by a~2" in said
        assert "run again as b~2" in said
        still = lines("--state", "failed", "--no-mended")[1:]
        assert [line.split()[0] for line in still] == ["b~1", "c", "b~2"]
        assert len(lines("--mended")) == 2
        assert lines("a~1")[0] == "a~1 is failed, and mended since by a~2"
        assert lines("b~1")[0] == "b~1 is failed, and run again since: b~2"
        assert lines("a")[0] == "a~2 is completed"
        last = lines()[-1]
        assert last.startswith("Failed, and not mended since, 3: taskorch inspect")
        assert last.endswith("--state failed --no-mended")
        # In the next incarnation all of them have left memory.
        with TaskOrchestrator(journal=path, keep_finished=0) as orch:
            broken = orch.tasks("failed", mended=False)
            assert [each.run_id for each in broken] == ["b~1", "c", "b~2"]
            assert [each.task_id for each in orch.tasks(mended=True)] == ["a"]
    with TaskOrchestrator(journal=path) as orch:
        for name in ("b", "c"):
            orch.rerun_task(name).result(PATIENCE)
        # What is mended stays so, though a later run fails.
        mended.unlink()
        orch.rerun_task("c").exception(PATIENCE)
        assert orch.get_task_status("c~1").mended_by == "c~2"
        assert orch.get_task_status("c~1").rerun == "c~3"
        assert not orch.get_task_status("c~3").rerun
        assert JournalReader(path).get_task_status("c~1").mended_by == "c~2"
        assert lines()[-1].startswith("Failed, and not mended since, 1:")
        mended.touch()
        orch.rerun_task("c").result(PATIENCE)
    assert lines()[-1] == (
        "Nothing that is kept is still broken: each failure is allowed, or was "
        "mended by a later run."
    )


def unless(mended):
    if not mended.exists():
        raise ValueError("not yet")
    return "done"


def test_prune(journal, tmp_path, capsys):
    path = tmp_path / "runs.db"
    path.write_bytes(journal.read_bytes())
    words = "prune", path, "--keep", "10"
    assert (
        taskorch(capsys, *words, "--dry-run")[1]
        == f"51 tasks would be removed from {path}.\n"
    )
    (told_,) = told(taskorch(capsys, *words, "--dry-run", "--json")[1])
    assert told_["tasks"] == 51
    code, out, _ = taskorch(capsys, *words, "--yes")
    assert code == 0
    assert out.startswith(f"51 tasks were removed from {path}: ")
    assert "12 tasks" not in out
    said = taskorch(capsys, "inspect", path)[1]
    assert "63 tasks: 1 blocked, 61 completed, 1 failed" in said
    assert "51 of them have left the journal: it has 12" in said
    assert "have left" not in taskorch(capsys, "inspect", journal)[1]
    assert len(told(taskorch(capsys, "inspect", path, "--tasks", "--json")[1])) == 12
    assert (
        "0 tasks were removed"
        in taskorch(capsys, "prune", path, "--older-than", "1d")[1]
    )
    (told_,) = told(
        taskorch(capsys, "prune", path, "--older-than", "0s", "--json", "--yes")[1]
    )
    assert told_["tasks"] == 10
    code, _, err = taskorch(capsys, "prune", path)
    assert (code, "--older-than 30d, or --keep 10000" in err) == (2, True)
    code, _, err = taskorch(capsys, "prune", tmp_path / "none.db", "--keep", "1")
    assert (code, "there is no journal" in err) == (2, True)
    assert not (tmp_path / "none.db").exists()
    assert taskorch(capsys, "prune", path, "--keep", "-1")[0] == 2


def test_prune_of_what_is_in_use_says_so(tmp_path, capsys):
    path = tmp_path / "runs.db"
    with TaskOrchestrator(journal=path):
        code, _, err = taskorch(capsys, "prune", path, "--keep", "0")
    assert code == 75
    assert "belongs to process" in err
    assert "if it is a service, name its URL here" in err
