"""The commands: what would be run, one phase, again, why, and a new workspace."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time

import pytest
from tests.api.tools import PATIENCE, eventually
from tests.ext.task_files.tools import cli, write

from taskorch.errors import (
    InvalidTaskError,
    InvalidTransitionError,
    TaskCancelledError,
    UnknownTaskError,
)
from taskorch.ext.task_files import Workspace


def files_of(root) -> list[str]:
    return sorted(str(path) for path in root.rglob("*"))


# -- --dry-run ---------------------------------------------------------------------------


def test_a_dry_run_says_what_and_when_and_touches_nothing(runs):
    runs.write(
        a_one="estimate: 30m",
        a_two="dependencies: [a/one]|estimate: 1h",
        a_three="estimate: 10m",
        b_four="x: 1",
        b_five="dependencies: [b/report-of-june]",
        c_six="x: 1",
        d_seven="inputs: [outside/x.json]",
        none="inputs: [outside/y.json]",
    )
    before = files_of(runs.root)

    code, out, err = cli("run", runs.root, "--dry-run")

    assert code == 0
    assert err == (
        "tasks/b/five.md:2:16: there is no task 'b/report-of-june'; it waits until there is\n"
    )
    assert files_of(runs.root) == before
    assert out.splitlines() == [
        "4 tasks would be run.",
        "",
        "       after       takes     at most  task",
        "         0 s      30 min              a/one",
        "         0 s      10 min              a/three",
        "      30 min         1 h              a/two",
        "  1 h 30 min       1 min              b/four",
        "",
        "All of it would take 1 h 31 min.",
        "There is no estimate for 1 of them: `estimate: 30m` in a task file gives one.",
        "",
        "Missing:",
        "  workspace/outputs/outside/y.json: an input of none",
        "  workspace/outputs/outside/x.json: an input of d/seven",
        "",
        "These would not be run:",
        "  none: it waits for its input workspace/outputs/outside/y.json",
        "  b/five: it waits for b/report-of-june, which does not exist",
        "  c/six: the gate of b stays shut",
        "  d/seven: the gate of b stays shut",
    ]


def test_a_dry_run_keeps_to_the_limits_and_to_what_was_measured(runs):
    write(runs.root, {"workspace.yaml": "phases: {a: {limit: 2}}"})
    runs.write(**{f"a_{n}": "x: 1" for n in range(5)})
    done = '{"status": "completed", "duration_seconds": 100}'
    write(runs.root, {"workspace/status/a/0.json": done})

    plan = Workspace(runs.root).dry_run()

    assert [(step.task_id, step.start) for step in plan.steps] == [
        ("a/1", 0.0),
        ("a/2", 0.0),
        ("a/3", 100.0),
        ("a/4", 100.0),
    ]
    assert (plan.seconds, plan.completed, plan.guessed) == (200.0, 1, 0)


def test_a_task_in_no_phase_takes_as_long_as_others_in_none(runs):
    runs.write(one="x: 1", two="x: 1", one_three="x: 1")
    for name, seconds in (("one", 7), ("one/three", 9)):
        text = f'{{"status": "completed", "duration_seconds": {seconds}}}'
        write(runs.root, {f"workspace/status/{name}.json": text})
    plan = Workspace(runs.root).dry_run()
    assert [(step.task_id, step.seconds) for step in plan.steps] == [("two", 7.0)]
    assert plan.guessed == 0


def test_what_failed_in_one_phase_alone_is_run_again_and_what_is_in_none(runs):
    runs.write(one="do: exit 1", one_two="do: exit 1", two_three="do: exit 1")
    runs.run()
    for phase, again in (("one", "one/two"), ("", "one")):
        runs.log.write_text("")
        runs.run("--phase", phase, "--retry-failed")
        assert runs.began() == [again]


def test_to_retry_a_task_in_no_phase_undoes_no_approval(runs):
    """Though a phase has its name."""
    write(runs.root, {"workspace.yaml": "phases: {one: {approval: true}}"})
    runs.write(one="x: 1", one_two="x: 1")
    runs.run()
    workspace = Workspace(runs.root)
    assert workspace.approve("one", by="Ada")
    workspace.retry("one")
    assert not workspace.approve("one", by="Ada")


def test_a_dry_run_is_what_a_run_does(runs):
    runs.write(
        a_one="do: exit 1",
        a_two="dependencies: [a/one]",
        a_three="x: 1",
        b_four="x: 1",
    )
    runs.run()
    runs.log.write_text("")
    plan = Workspace(runs.root).dry_run()
    assert plan.steps == ()
    assert "it has failed: --retry-failed runs it again" in str(plan)
    again = Workspace(runs.root).dry_run(retry_failed=True)
    assert [s.task_id for s in again.steps] == ["a/one", "a/two", "b/four"]

    runs.write(a_one="x: 1")
    assert runs.run("--retry-failed")[0] == 0
    assert runs.began() == ["a/one", "a/two", "b/four"]


# -- --phase -----------------------------------------------------------------------------


def test_one_phase_is_run_if_those_before_have_passed(runs):
    runs.write(a_one="outputs: [x]", b_two="x: 1", c_three="x: 1")

    code, printed = runs.run("--phase", "b")
    assert code == 2
    assert (
        "before b, a gate is shut: a: 1 of 1 task has not completed: a/one"
        in (printed[-1])
    )
    assert runs.began() == []

    assert runs.run("--phase", "a")[0] == 0
    assert runs.began() == ["a/one"]
    (runs.root / "workspace/outputs/a/one/x").unlink()
    assert (
        "workspace/outputs/a/one/x of a/one is not there"
        in runs.run("--phase", "b")[1][-1]
    )
    assert runs.run("--phase", "b", "--force") == (
        0,
        [
            *("Launching task: b/two", *runs_lines("b/two", runs)),
            "All tasks of phase b are complete.",
        ],
    )
    assert runs.began() == ["a/one", "b/two"]


def runs_lines(task_id, runs):
    seconds = runs.status(task_id)["duration_seconds"]
    return [f"Completed: {task_id} ({seconds:.1f} s)"]


def test_a_forced_phase_still_waits_for_what_its_tasks_name(runs):
    runs.write(a_one="x: 1", b_two="dependencies: [a/one]", b_three="x: 1")

    code, printed = runs.run("--phase", "b", "--force")

    assert code == 1
    assert runs.began() == ["b/three"]
    assert "  b/two  waiting: it waits for a/one" in printed


def test_a_phase_that_there_is_not_is_named(runs):
    runs.write(**{"01-analysis_one": "x: 1"})

    code, printed = runs.run("--phase", "01-analisys")

    assert code == 2
    assert "there is no phase '01-analisys'; did you mean '01-analysis'?" in printed[-1]


# -- why, status, retry ------------------------------------------------------------------


def test_why_a_task_is_where_it_is(runs):
    write(runs.root, {"workspace.yaml": "phases: {a: {gate: go.txt}}"})
    runs.write(
        a_one="do: exit 1",
        a_two="dependencies: [a/one]",
        a_three="x: 1",
        a_four="inputs: [x/y]",
        a_bad="timeout: x",
        b_five="x: 1",
    )
    ws = Workspace(runs.root)
    assert ws.why("a/one") == "a/one can be launched: taskorch workspace run does it."
    assert ws.why("a/four") == (
        "a/four waits:\n  its input workspace/outputs/x/y is not there"
    )
    assert "tasks/a/bad.md:2:10: timeout" in ws.why("a/bad")
    assert "the gate of a is shut: go.txt is not there" in ws.why("b/five")
    runs.run()

    code, out, _ = cli("why", "a/one", runs.root)

    assert (code, out) == (
        0,
        (
            "a/one has failed: Exit code 1.\n"
            "  What it printed: workspace/logs/a/one.log\n"
            "  → taskorch workspace retry a/one\n"
        ),
    )
    assert ws.why("a/two") == (
        "a/two is blocked by a/one.\n"
        "  it waits for a/one, which has failed\n"
        "  → taskorch workspace retry a/one"
    )
    assert ws.why("a/three").startswith("a/three completed at 20")
    with pytest.raises(
        UnknownTaskError, match="there is no task 'a/tow'; did you mean"
    ):
        ws.why("a/tow")
    write(runs.root, {"workspace/status/a/three.json": "{"})
    assert "is not believed: it is no JSON" in ws.why("a/three")
    write(runs.root, {"workspace/status/a/three.json": '{"status": "running"}'})
    assert ws.why("a/three") == "a/three runs since None."


def test_at_a_gate_nobody_is_told_to_do_again_what_is_done(runs):
    write(runs.root, {"workspace.yaml": "phases: {a: {gate: go.txt, approval: true}}"})
    runs.write(a_one="outputs: [x]", b_two="x: 1")
    assert runs.run()[0] == 1

    told = cli("why", "b/two", runs.root)[1]
    assert told.splitlines() == [
        "b/two is blocked by the gate of a.",
        "  the gate of a is shut: go.txt is not there",
        (
            "  the gate of a is shut: nobody has approved it "
            "(taskorch workspace approve a --by NAME)"
        ),
        "  → once that is mended: taskorch workspace run",
    ]
    assert "b/two  blocked by the gate of a" in "\n".join(runs.run()[1])

    # What one of its tasks made has gone: that one is to be run again.
    (runs.root / "workspace/outputs/a/one/x").unlink()
    told = cli("why", "b/two", runs.root)[1]
    assert told.splitlines()[-1] == "  → taskorch workspace retry a/one"


def test_a_phase_is_approved_by_somebody_once_its_tasks_have_completed(runs):
    write(runs.root, {"workspace.yaml": "phases: {a: {approval: true}}"})
    runs.write(a_one="x: 1", b_two="x: 1")

    def approve(*words):
        return cli("approve", *words, runs.root, "--by", "Ada")

    assert "1 of 1 task has not completed: a/one" in approve("a")[2]
    assert "asks for no approval" in approve("b")[2]
    assert "there is no phase 'c'" in approve("c")[2]
    assert cli("approve", "a", runs.root, "--by", " ")[0] == 2
    assert runs.run()[0] == 1
    assert runs.began() == ["a/one"]
    assert "an approval of a: its gate" in cli("run", runs.root, "--dry-run")[1]

    assert approve("a")[:2] == (0, "a was approved: taskorch workspace run goes on\n")
    assert "was approved before" in approve("a")[1]
    kept = json.loads((runs.root / "workspace/approvals/a.json").read_text())
    assert (kept["phase"], kept["by"]) == ("a", "Ada")
    assert runs.run()[0] == 0

    # What is called as the phase is, and is not in it, was not approved.
    runs.write(a="x: 1")
    assert runs.run()[0] == 0
    assert cli("retry", "a", runs.root)[0] == 0
    assert (runs.root / "workspace/approvals/a.json").exists()

    # What was approved is done anew: it is to be approved anew.
    cli("retry", "a/one", runs.root)
    assert not (runs.root / "workspace/approvals/a.json").exists()


def test_lines_of_tasks_that_end_at_once_are_not_glued_together(runs):
    runs.write(**{f"a_{n}": "x: 1" for n in range(20)})
    written = []

    class Slow(io.StringIO):
        def write(self, text):
            # Whoever waits to write something else may do so now.
            time.sleep(0.001)
            written.append(text)
            return len(text)

    with contextlib.redirect_stdout(Slow()):
        Workspace(runs.root, agent=runs.agent).run()

    lines = "".join(written).splitlines()
    assert len(lines) == 40
    assert all(re.fullmatch(r"[A-Z][^:]*: a/\d+( \([\d.]+ s\))?", x) for x in lines)


def test_phases_come_by_their_numbers_and_those_without_tasks_are_shown(runs):
    runs.write(**{f"phase-{n}_t": "x: 1" for n in (1, 2, 9, 10, 11)})
    (runs.root / "tasks/phase-3").mkdir()

    assert runs.run()[0] == 0
    assert runs.began() == [f"phase-{n}/t" for n in (1, 2, 9, 10, 11)]
    shown = [line for line in cli("status", runs.root)[1].splitlines() if line]
    assert [line for line in shown if line.startswith("Phase")] == [
        f"Phase: phase-{n}" for n in (1, 2, 3, 9, 10, 11)
    ]
    assert shown[shown.index("Phase: phase-3") + 1] == "  Total: 0"


def test_a_dry_run_says_how_long_a_task_may_take(runs):
    runs.write(a_one="estimate: 30m|timeout: 2h")

    assert re.search(r"30 min +2 h  a/one", cli("run", runs.root, "--dry-run")[1])


def test_the_dashboard_counts_each_phase(runs):
    runs.write(
        **{"01-a_one": "do: exit 1", "01-a_two": "x: 1", "01-a_three": "x: 1"},
        **{"02-b_four": "x: 1", "five": "x: 1"},
    )
    runs.run()

    code, out, _ = cli("status", runs.root)

    assert code == 0
    assert out.splitlines() == [
        "=== ws Status ===",
        "",
        "Phase: (none)",
        "  Total: 1",
        "  Completed: 1 (100%)",
        "  Running: 0",
        "  Blocked: 0",
        "",
        "Phase: 01-a",
        "  Total: 3",
        "  Completed: 2 (66%)",
        "  Running: 0",
        "  Blocked: 0",
        "  Failed: 1",
        "",
        "Phase: 02-b",
        "  Total: 1",
        "  Completed: 0 (0%)",
        "  Running: 0",
        "  Blocked: 1",
    ]


def test_retry_lets_a_task_wait_again_and_what_it_blocks(runs):
    runs.write(a_one="do: exit 1", a_two="dependencies: [a/one]", a_three="x: 1")
    runs.run()
    runs.write(a_one="x: 1")

    assert cli("retry", "a/one", runs.root) == (
        0,
        "a/one waits to be run\na/two waits to be run\n",
        "",
    )
    assert runs.states() == {"a/three": "completed"}
    code, _, err = cli("retry", "a/one", runs.root)
    assert code == 2
    assert "a/one has not ended: there is nothing to run again" in err
    assert runs.run()[0] == 0


def test_a_status_that_is_not_believed_can_be_retried(runs):
    runs.write(a_one="x: 1")
    write(runs.root, {"workspace/status/a/one.json": "{"})
    with pytest.raises(InvalidTaskError, match="is not believed"):
        Workspace(runs.root).get_task_status("a/one")

    assert cli("retry", "a/one", runs.root)[0] == 0
    assert runs.run()[0] == 0


def test_a_runner_takes_up_what_is_retried_meanwhile(runs):
    stay = "do: while ! test -e ../go; do sleep 0.01; done"
    runs.write(
        a_one="do: if ! test -e ../fixed; then exit 1; fi",
        a_two="dependencies: [a/one]",
        a_stay=stay,
        b_three="x: 1",
    )
    failed = threading.Event()
    workspace = Workspace(
        runs.root,
        agent=runs.agent,
        tell=lambda line: failed.set() if line.startswith("ALERT") else None,
    )
    reports = []
    thread = threading.Thread(target=lambda: reports.append(workspace.run()))
    thread.start()
    assert failed.wait(60)

    other = Workspace(runs.root)
    with pytest.raises(InvalidTransitionError, match="a/stay runs now: runner"):
        other.retry("a/stay")
    (runs.root.parent / "fixed").write_text("")
    other.retry("a/one")
    while runs.states().get("a/two") != "completed":
        threading.Event().wait(0.01)
    (runs.root.parent / "go").write_text("")
    thread.join(60)

    assert str(reports[0]) == "All tasks complete!"
    assert runs.began().count("a/one") == 2
    assert runs.began()[-1] == "b/three"


def test_a_runner_takes_up_what_has_completed_and_is_retried_meanwhile(runs):
    """Here, or before it began; what waited for it is not done again."""
    runs.write(a_before="outputs: [x]")
    assert runs.run()[0] == 0
    runs.write(
        a_one="x: 1",
        a_two="dependencies: [a/one, a/before]",
        a_stay="dependencies: [a/two]|do: while ! test -e ../go; do sleep 0.01; done",
    )
    stays = threading.Event()
    workspace = Workspace(
        runs.root,
        agent=runs.agent,
        tell=lambda line: stays.set() if line.endswith("task: a/stay") else None,
    )
    reports = []
    thread = threading.Thread(
        target=lambda: reports.append(workspace.run()), daemon=True
    )
    thread.start()
    assert stays.wait(60)

    other = Workspace(runs.root)
    for task_id in ("a/before", "a/one"):
        assert other.retry(task_id) == [task_id]
    eventually(lambda: runs.began().count("a/before") == 2)
    eventually(lambda: runs.began().count("a/one") == 2)
    (runs.root.parent / "go").write_text("")
    thread.join(60)

    assert str(reports[0]) == "All tasks complete!"
    assert runs.began().count("a/two") == 1


def test_the_last_page_that_watch_shows_has_all_that_ended(runs, monkeypatch):
    runs.write(a_one="x: 1")
    read = Workspace.status

    def status(workspace):
        page = read(workspace)
        if not runs.began():
            runs.run()  # all of it, after the page was read
        return page

    monkeypatch.setattr(Workspace, "status", status)

    code, out, _ = cli("watch", runs.root, "--every", "0.01")

    assert code == 0
    assert out.startswith("=== ws Status ===\n")
    assert out.splitlines()[-1] == "All tasks complete!"
    assert out.count("Completed: 0 (0%)") == 1
    assert "  Completed: 1 (100%)" in out.split("=== ws Status ===")[-1]


def test_watch_can_be_interrupted(runs):
    runs.write(a_one="x: 1")
    command = [sys.executable, "-m", "taskorch", "workspace", "watch", str(runs.root)]
    watch = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert watch.stdout is not None
    watch.stdout.readline()
    watch.send_signal(signal.SIGINT)

    _, err = watch.communicate(timeout=30)
    assert (watch.returncode, err) == (130, "taskorch: interrupted\n")


# -- from Python -------------------------------------------------------------------------


def test_the_methods_of_the_protocol(runs):
    runs.write(
        a_one="outputs: [x]|note: {deep: [1, two]}",
        a_two="dependencies: [a/one]",
        b_three="x: 1",
    )
    told = []
    with Workspace(runs.root, agent=runs.agent, tell=told.append) as workspace:
        assert workspace.get_task_status("a/one") is None
        assert [i for i in workspace.task_ids if workspace.can_launch(i)] == ["a/one"]
        assert workspace.parse_frontmatter("tasks/a/one.md") == {
            "outputs": ["x"],
            "note": {"deep": [1, "two"]},
            "dependencies": [],
            "inputs": [],
        }
        assert workspace.parse_frontmatter("a/two")["dependencies"] == ["a/one"]

        workspace.launch_task("a/one").result(60)

        status = workspace.get_task_status("a/one")
        assert status is not None
        assert status["status"] == "completed"
        assert not workspace.can_launch("a/one")
        assert workspace.can_launch("a/two")
        assert not workspace.can_launch("b/three")
        assert not workspace.check_all_complete()
        workspace.launch_task("a/two")
    assert runs.began() == ["a/one", "a/two"]

    report = workspace.main_loop()

    assert report.is_complete
    assert report.completed == ("a/one", "a/two", "b/three")
    assert workspace.check_all_complete()
    assert told[-1] == "All tasks complete!"
    assert repr(workspace) == f"<Workspace {str(runs.root)!r}>"


def test_what_cannot_be_launched_says_so(runs):
    runs.write(a_bad="timeout: x", a_one="do: exit 1")
    workspace = Workspace(runs.root, agent=runs.agent, tell=None)

    with pytest.raises(InvalidTaskError, match=r"bad\.md:2:10: timeout"):
        workspace.launch_task("a/bad")
    with pytest.raises(UnknownTaskError):
        workspace.launch_task("a/none")
    handle = workspace.launch_task("a/one")
    assert str(handle.exception(60)) == "Exit code 1"
    workspace.close()
    workspace.close()
    with pytest.raises(ValueError, match="this file cannot be read"):
        workspace.parse_frontmatter("nothing.md")


def test_a_launched_task_that_is_cancelled_has_failed_and_its_program_is_gone(runs):
    """And it is not tried again, however often it may be."""
    runs.write(a_one="do: sleep 600|retries: 3")
    pid_file = runs.root / "workspace/pids/a/one.pid"
    told: list[str] = []
    with Workspace(runs.root, agent=runs.agent, tell=told.append) as workspace:
        handle = workspace.launch_task("a/one")
        eventually(lambda: runs.began() == ["a/one"] and pid_file.exists())
        pid = int(pid_file.read_text())
        assert handle.cancel()
        # Nobody else has the task as long as its program runs.
        eventually(lambda: runs.states() == {"a/one": "failed"})
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
        assert not pid_file.exists()
        assert isinstance(handle.exception(PATIENCE), TaskCancelledError)
    status = runs.status("a/one")
    assert (status["error"], status["outputs_validated"]) == ("Cancelled", False)
    assert "exit_code" not in status
    assert runs.began() == ["a/one"]
    # A second try is cancelled before its program runs: what is told shows it.
    assert told.count("Launching task: a/one") == 1


def test_settings_that_cannot_be_used_stop_a_run(runs):
    runs.write(a_one="x: 1")
    write(runs.root, {"workspace.yaml": "limits: 3"})

    code, printed = runs.run()

    assert code == 2
    assert "workspace.yaml:1:9: limits: a mapping is needed" in printed[-1]
    assert len(printed) == 1
    assert runs.began() == []
    with pytest.raises(InvalidTaskError, match="cannot be split as a shell does"):
        Workspace(runs.root, agent="a 'b")
    with pytest.raises(InvalidTaskError, match="the program of the agent is missing"):
        Workspace(runs.root, agent="")


def test_a_reader_that_goes_away_is_no_error(runs):
    runs.write(**{f"a_{n}": "timeout: x" for n in range(1200)})
    command = f"{sys.executable} -m taskorch workspace lint {runs.root} | head -1"

    done = subprocess.run(
        ["sh", "-c", command], capture_output=True, text=True, check=True
    )

    assert done.stdout.startswith("tasks/a/0.md:2:10: timeout")
    assert done.stderr == ""


def test_there_is_nothing_to_do_in_an_empty_folder(tmp_path):
    (tmp_path / "tasks").mkdir()

    assert cli("run", tmp_path) == (0, "There are no tasks.\n", "")
    assert cli("run", tmp_path, "--dry-run")[1] == "0 tasks would be run.\n"
    assert list((tmp_path / "workspace/status").iterdir()) == []
