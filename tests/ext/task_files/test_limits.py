"""Limits, times and settings of a workspace, as the guide gives them."""

from __future__ import annotations

import pytest
from tests.ext.task_files.tools import write

from taskorch.ext.task_files import Workspace


@pytest.mark.parametrize(
    ("asked", "fits"),
    [
        ("cpu: 4", True),
        ("cpu: 4.1", False),
        ("memory_gb: 8", True),
        ("memory_gb: 8.1", False),
        ("memory_mb: 8193", False),
    ],
)
def test_a_task_may_ask_for_all_that_an_agent_has_and_no_more(tmp_path, asked, fits):
    write(tmp_path, {"tasks/a/one.md": f"resources: {{{asked}}}"})
    problems = Workspace(tmp_path).lint()
    assert (problems == []) is fits, problems
    if not fits:
        assert "one agent has" in str(problems[0])


@pytest.mark.parametrize(
    ("said", "seconds"),
    [("90s", 90), ("30m", 1_800), ("2h", 7_200), ("1d", 86_400), ("2", 7_200)],
)
def test_times_of_a_task_file(tmp_path, said, seconds):
    write(tmp_path, {"tasks/a/one.md": f"estimate: {said}\ntimeout: {said}"})
    (step,) = Workspace(tmp_path).dry_run().steps
    assert (step.seconds, step.timeout) == (seconds, seconds)


def test_a_program_that_does_not_end_is_killed_after_the_grace_of_the_settings(runs):
    write(runs.root, {"workspace.yaml": "grace: 0.2s"})
    wait = "trap '' TERM; i=0; while [ $i -lt 80 ]; do sleep 0.1; i=$((i+1)); done"
    runs.write(a_one=f"timeout: 0.5s|do: {wait}; touch survived")
    assert runs.run()[0] == 1
    assert runs.status("a/one")["error"] == "Timeout"
    assert not (runs.root / "survived").exists()


def test_a_moment_that_another_tool_wrote_in_seconds_is_told_as_a_date(tmp_path):
    write(tmp_path, {"tasks/a/one.md": "x: 1"})
    said = (
        '{"status": "completed", "started_at": 1763632800, "completed_at": 1763632860}'
    )
    write(tmp_path, {"workspace/status/a/one.json": said})
    status = Workspace(tmp_path).get_task_status("a/one")
    assert status["started_at"] == "2025-11-20T10:00:00Z"
    assert status["completed_at"] == "2025-11-20T10:01:00Z"


@pytest.mark.parametrize("limit", ["max_cpu_per_agent", "max_memory_gb"])
def test_a_limit_of_nothing_is_one(tmp_path, limit):
    asks = "resources: {cpu: 1, memory_gb: 1}"
    write(tmp_path, {"workspace.yaml": f"limits: {{{limit}: 0}}"})
    write(tmp_path, {"tasks/a/1.md": "x: 1", "tasks/a/2.md": asks})
    (step,) = Workspace(tmp_path).dry_run().steps
    assert step.task_id == "a/1"
