"""What the commands say of a journal in PostgreSQL."""

from __future__ import annotations

import re

import pytest
from tests.ext.command_line.tools import forget, taskorch, told

from taskorch import Task, TaskOrchestrator
from taskorch.ext.command_line import USAGE


@pytest.fixture
def address(postgres):
    """Of a journal in which `b` has failed, and `c` waits for it."""
    found = postgres.address().replace("user=postgres", "user=postgres&password=secret")
    with TaskOrchestrator(journal=found) as orch:
        orch.submit_task(Task.call(str, 1, id="a")).result()
        orch.submit_task(Task.call(divmod, 1, 0, id="b"))
        orch.submit_task(Task.call(str, 3, id="c", after=["b"]))
        orch.wait()
        orch.stop(drain=False)
    return found


def test_it_is_looked_at_and_changed_by_its_address(address, capsys):
    code, out, err = taskorch(capsys, "inspect", address)
    assert (code, err) == (0, "")
    assert "nobody has it open; last opened by process" in out
    assert "3 tasks: 1 blocked, 1 completed, 1 failed" in out
    said = out
    code, out, _ = taskorch(capsys, "explain", address, "c")
    assert code == 0
    # What it says to do is a command that a shell takes.
    remedy = re.search(r"taskorch rerun '(postgresql://[^']*)' b", out)
    said += out
    code, out, _ = taskorch(capsys, "rerun", address, "b")
    assert (code, "b~2 is queued" in out) == (0, True)
    said += out
    for words in (
        ["prune", address, "--keep", "0", "--yes"],
        ["doctor", address, "--verify"],
        ["schedules", address],
        ["inspect", address, "--json"],
    ):
        code, out, _ = taskorch(capsys, *words)
        assert code == 0
        said += out
    assert "1 task was removed from postgresql://" in said
    assert "events checked, not in use" in said
    assert remedy
    assert "secret" not in said


def test_a_run_goes_on_where_it_was(postgres, tmp_path, capsys):
    address = postgres.address()
    (tmp_path / "kept_there.py").write_text(
        "from taskorch import Task\ntasks = [Task.call(pow, 2, 5, id='p')]\n"
    )
    for _ in range(2):
        words = ["run", tmp_path / "kept_there.py", "--journal", address]
        assert taskorch(capsys, *words)[::2] == (0, "")
        forget(tmp_path)
    (found,) = told(taskorch(capsys, "inspect", address, "kept_there/p", "--json")[1])
    assert (found["attempts"], found["result"]) == (1, 32)


def test_the_address_may_stand_in_the_environment(postgres, monkeypatch):
    address = postgres.address()
    monkeypatch.setenv("TASKORCH_JOURNAL", address)
    with TaskOrchestrator.from_config() as orch:
        assert orch.submit_task(Task.call(str, 1, id="t")).result() == "1"
        assert "postgresql://" in str(orch.health().to_dict())


def test_the_tables_can_be_made_before(postgres, capsys):
    postgres.run("CREATE DATABASE made")
    address = postgres.address("p", "made")
    for _ in range(2):
        code, out, err = taskorch(capsys, "migrate", address)
        assert (code, err) == (0, "")
        assert out.endswith("has layout 1.\n")
    # What it would do is what it does.
    postgres.run("CREATE DATABASE by_hand")
    code, out, _ = taskorch(capsys, "migrate", address, "--print")
    postgres.run(out, database="by_hand")
    code, _, err = taskorch(capsys, "inspect", postgres.address("p", "by_hand"))
    assert code == USAGE
    assert "no such partition" in err
    assert taskorch(capsys, "migrate", "runs.db")[0] == USAGE
