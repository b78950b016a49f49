"""The commands, as a person types them."""

import itertools
import json
import os
import signal
import subprocess
import sys
import urllib.request

import pytest
from tests.api.tools import PATIENCE, Started, eventually
from tests.ext.command_line.test_pipes import unread

from taskorch.ext import command_line as cli

SUITE = """\
templates:
  sh: {command: [sh, -c, 'if [ -e "$0.sh" ]; then . "./$0.sh"; fi', "{id}"]}
failure_handling: {max_retries: 1}
orchestrator:
  name: mine
  task_definitions:
    unit_tests: [{id: A, template: sh, name: Ada}, {id: B, template: sh}]
    slow_tests: [{id: C, template: sh, dependencies: [A]}]
"""


def main(words):
    return cli.main(["suite", *words])


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "suite.yaml").write_text(SUITE)
    return tmp_path


def test_run_says_what_ends_and_how_it_ended(here, capsys):
    assert main(["run", "suite.yaml"]) == 0
    said = capsys.readouterr().out
    assert "[1/3] " in said
    assert "[3/3] C          passed\n" in said
    assert "mine passed: 3 of 3 tasks succeeded; " in said
    assert ".taskorch/suite/report.html has it all" in said
    assert (here / ".taskorch/suite/report.html").exists()


def test_what_has_no_effect_is_said_by_each_command_and_the_level_acts(here, capsys):
    (here / "more.yaml").write_text(
        "resource_allocation: {odd_tests: {cpu_cores: 1}}\n"
        "monitoring: {metrics_interval: 10}\n"
        "orchestrator: {version: '1.2', log_level: WARNING}\n"
    )
    (here / "B.sh").write_text("exit 3")
    files = ["suite.yaml", "more.yaml"]
    assert main(["run", *files]) == 1
    out, err = capsys.readouterr()
    assert err.count("without effect: resource_allocation.odd_tests (") == 1
    assert "B          failed" in out
    assert "A          passed" not in out
    assert "mine 1.2 FAILED" in out
    why = "more.yaml:1:23: resource_allocation.odd_tests: there are no such tasks"
    for words in (["plan", *files], ["report", *files]):
        main(words)
        said = capsys.readouterr().out
        assert "mine 1.2: " in said
        assert why in said.replace("\\", "")
    report = json.loads((here / ".taskorch/suite/report.json").read_text())
    assert report["version"] == "1.2"
    assert report["notes"][0].startswith(why)


def test_run_exits_with_1_if_a_task_failed_and_says_which_last(here, capsys):
    (here / "B.sh").write_text("echo broken; exit 3")
    assert main(["run", "suite.yaml", "--output", "out"]) == 1
    said = capsys.readouterr().out
    assert "B          failed, once more: it exited with 3" in said
    assert "B          failed (attempt 2): it exited with 3" in said
    assert "never began:\n  C: because of B\n" in said
    assert "failed:\n  B: it exited with 3\n    broken (see " in said
    assert "mine FAILED: 1 of 3 tasks succeeded" in said
    (here / "B.sh").unlink()
    assert main(["run", "suite.yaml", "--output", "out", "--failed", "-q"]) == 0
    said = capsys.readouterr().out
    assert "[" not in said
    assert "mine passed: 3 of 3 tasks succeeded" in said
    assert "Nothing was left to be run." not in said
    assert main(["run", "suite.yaml", "--output", "out", "--failed"]) == 0
    assert capsys.readouterr().out.startswith("Nothing was left to be run.\n")


@pytest.mark.slow("two runs of a suite")
def test_what_has_ended_is_counted_of_all_that_there_is(here, capsys):
    """Parts of a task are tasks, and those of an earlier incarnation have ended."""
    text = SUITE.replace("templates:", "templates:\n  t: {pytest: [-q]}", 1)
    text += "    more_tests: [{id: D, template: t, arguments: [.], shards: 2}]\n"
    (here / "suite.yaml").write_text(text)
    for name in "xyz":
        (here / f"test_{name}.py").write_text("def test_it(): pass\n")
    (here / "C.sh").write_text("exit 1")
    assert main(["run", "suite.yaml"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert next(line for line in lines if line.startswith("[")).startswith("[1/5] ")
    assert any(line.startswith("[3/5] C          failed (") for line in lines)
    (here / "C.sh").unlink()
    assert main(["run", "suite.yaml", "--failed"]) == 0
    lines = capsys.readouterr().out.splitlines()
    counted = [line[:6] for line in lines if line.startswith("[")]
    assert counted == ["[3/5] ", "[4/5] ", "[5/5] "]


def test_report_shows_what_has_ended(here, capsys):
    assert main(["report", "suite.yaml"]) == 2
    assert (
        "there is no run in .taskorch/suite that has ended" in capsys.readouterr().err
    )
    main(["run", "suite.yaml", "-q"])
    capsys.readouterr()
    for kind, begin in (
        ("md", "# mine: passed"),
        ("json", "{"),
        ("xml", "<?xml"),
        ("html", "<!doctype html>"),
    ):
        assert main(["report", "suite.yaml", "--format", kind]) == 0
        assert capsys.readouterr().out.startswith(begin)


def test_plan_counts_shards_and_says_what_a_limit_would_cancel(here, capsys):
    text = """\
templates: {t: {pytest: [-q]}}
orchestrator:
  name: mine
  task_definitions:
    unit: [{id: A, template: t, arguments: [.], shards: 4}]
    more: [{id: B, template: t, dependencies: [A]}]
resource_allocation: {unit: {timeout_seconds: 20}}
phases: {one: {tests: unit, timeout_seconds: 30}, two: {tests: more}}
agent_limits: {max_agents: 2}
"""
    (here / "suite.yaml").write_text(text)
    assert main(["plan", "suite.yaml"]) == 0
    said = capsys.readouterr().out
    assert said.startswith("mine: 2 tasks in 5 parts, 2 workers\n")
    assert "It would take 40 s: what has not ended by then would be cancelled." in said
    assert "at 20 s  A-4 " in said
    assert "at 40 s  B (after A; t)" in said
    assert "taken as 1 min each, or as its timeout if that is less." in said


def test_plan_says_order_time_and_what_is_missing(here, capsys):
    text = SUITE.replace("unit_tests", "resource_tests", 1) + (
        "agent_limits: {max_agents: 2, total_cpu_cores: 4}\n"
        "resource_allocation: {resource_tests: {max_parallel: 1, timeout_seconds: 90}}\n"
    )
    (here / "suite.yaml").write_text(text)
    assert main(["plan", "suite.yaml"]) == 0
    assert capsys.readouterr().out == (
        "mine: 3 tasks, 2 workers\n"
        "\n"
        "RESOURCE_TESTS (resource_tests): parallel, 1 at once\n"
        "         at once  A Ada (sh)\n"
        "        at 1 min  B (sh)\n"
        "\n"
        "SLOW_TESTS (slow_tests): parallel\n"
        "        at 2 min  C (after A; sh)\n"
        "\n"
        "It would take 3 min.\n"
        "Of 3 of them nothing is known yet: taken as 1 min each. A run will tell.\n"
        "All together may reserve 4 cpu; use is not bounded.\n"
    )
    main(["run", "suite.yaml", "-q"])
    capsys.readouterr()
    assert main(["plan", "suite.yaml"]) == 0
    said = capsys.readouterr().out
    assert "Tasks take what they took in earlier runs." in said
    assert "A Ada (took " in said
    (here / "suite.yaml").write_text(text.replace("sh:", "shh:"))
    assert main(["plan", "suite.yaml"]) == 2
    said = capsys.readouterr().out
    assert "Before it can be run:\n  suite.yaml:" in said
    assert "template 'sh', of A, B, C, stands in no file: did you mean 'shh'?" in said
    (here / "suite.yaml").write_text("")
    assert main(["plan", "suite.yaml"]) == 0


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["run", "none.yaml"], "none.yaml"),
        (
            ["run", "suite.yaml", "bad.yaml"],
            "bad.yaml:1:1: there is no 'template' here",
        ),
        (["run", "suite.yaml", "--failed"], "there is no run in"),
    ],
)
def test_what_is_wrong_is_said_and_exits_with_2(arguments, part, here, capsys):
    (here / "bad.yaml").write_text("template: {}\n")
    assert main(arguments) == 2
    assert part in capsys.readouterr().err


def test_sigterm_leaves_a_report_and_the_same_command_goes_on(here, capsys):
    (here / "B.sh").write_text("echo > began; sleep 600")
    command = [sys.executable, "-m", "taskorch", "suite", "run", "suite.yaml"]
    at_once = {**os.environ, "TASKORCH_STOP_TIMEOUT": "0"}
    pipe = subprocess.PIPE
    process = subprocess.Popen(command, stderr=pipe, text=True, env=at_once)
    try:
        eventually((here / "began").exists)
    finally:
        process.terminate()
        _, said = process.communicate(timeout=PATIENCE)
    assert process.returncode == 128 + signal.SIGTERM
    assert "B (running): It was still running." in said
    assert said.endswith("\nstopped: the same command goes on from here\n")
    assert main(["report", "suite.yaml"]) == 0
    assert "(interrupted: the same command goes on)" in capsys.readouterr().out
    # It has not ended, so it is neither begun anew nor run again.
    assert main(["run", "suite.yaml", "--failed"]) == 2
    (here / "B.sh").unlink()
    assert main(["run", "suite.yaml"]) == 0
    assert main(["report", "suite.yaml"]) == 0
    assert "(interrupted" not in capsys.readouterr().out


@pytest.mark.slow("processes that go on")
def test_ctrl_c_stops_and_the_same_command_goes_on(here):
    (here / "B.sh").write_text("echo > began; sleep 600")
    command = [sys.executable, "-m", "taskorch", "suite", "run", "suite.yaml"]
    pipe = subprocess.PIPE
    process = subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True)
    try:
        eventually((here / "began").exists)
        again = subprocess.run(command, capture_output=True, text=True, check=False)
        assert again.returncode == 75
        assert "journal.db belongs to process " in again.stderr
        assert "(wait for its end, or stop it: the same command goes" in again.stderr
    finally:
        process.send_signal(signal.SIGINT)
        told, said = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    # B has not failed: it goes on in the next incarnation.
    assert "B " not in told
    assert "B (running): It was still running." in said
    assert said.endswith("\nstopped: the same command goes on from here\n")
    (here / "B.sh").unlink()
    assert main(["run", "suite.yaml"]) == 0


def test_what_is_not_installed_is_said(here):
    for line, code, said in unread(
        "yaml|suite run suite.yaml", "jsonschema|suite run suite.yaml"
    ):
        assert code == 2, line
        assert "pip install 'taskorch[suite]'" in said, line
    assert not (here / ".taskorch").exists()


@pytest.mark.slow("a process that serves a page")
def test_a_run_is_shown_in_a_browser_and_stays_there_when_asked_to(here):
    words = [sys.executable, "-m", "taskorch", "suite", "run", "suite.yaml"]
    with Started(
        [*words, "--page", "--stay"], stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            lines = iter(process.stdout.readline, "")
            page = next(line for line in lines if line.startswith("page: "))
            address = page.removeprefix("page: ").partition("/#code=")[0]
            token = next(lines).removeprefix("token: ").strip()
            said = list(itertools.takewhile(lambda x: "page stays" not in x, lines))
            assert "mine passed" in "".join(said)
            ask = urllib.request.Request(f"{address}/api/v1/board")
            ask.add_header("Authorization", f"Bearer {token}")
            with urllib.request.urlopen(ask, timeout=PATIENCE) as answer:
                numbers = json.load(answer)["statistics"]["state_machine"]
            assert numbers["completed"] >= 3
            process.send_signal(signal.SIGINT)
            assert process.wait(PATIENCE) == 0
        finally:
            process.kill()


@pytest.mark.parametrize(
    "words", [["--stay"], ["--port", "0"], ["--listen", "0.0.0.0"], ["--host", "a"]]
)
def test_the_page_of_no_run_has_no_options(here, capsys, words):
    assert main(["run", "suite.yaml", *words]) == 2
    assert f"--page {words[0]}" in capsys.readouterr().err


def test_others_reach_the_page_of_a_run_if_it_listens_for_them(here, capsys):
    words = ["--page", "--listen", "0.0.0.0", "--host", "tests.example.org"]
    assert main(["run", "suite.yaml", *words]) == 0
    said = capsys.readouterr()
    assert "token: " in said.out
    assert "it listens on 0.0.0.0 port " in said.err
    assert "localhost, ::1, tests.example.org" in said.err


@pytest.mark.parametrize(
    ("alerts", "column", "what"),
    [
        ('{high_failure_rat: "off"}', 28, "did you mean 'high_failure_rate'?"),
        ("{high_failure_rate: of}", 29, "high_failure_rate"),
        ('{x: {whn: "running > 1"}}', 14, "did you mean 'when'?"),
        ('{x: {when: "runing > 1"}}', 13, "did you mean 'running'?"),
        ('{x: {when: "running > 1", least: -5}}', 42, "least"),
        ('{x: {when: "running > 1", over: 0}}', 41, "over"),
        ('{x: {when: "running > 1", hold: .nan}}', 41, "hold"),
        ('{x: {when: "running > 1", action: pause}}', 43, "pause_new_tasks"),
        ('{x: {when: "running > 1", severity: bad}}', 45, "critical"),
    ],
)
@pytest.mark.parametrize("command", [["suite", "plan"], ["serve", "--config"]])
def test_alerts_that_cannot_be_are_refused_where_they_stand(
    here, capsys, command, alerts, column, what
):
    (here / "alerts.yaml").write_text(f"alerts: {alerts}\n")
    assert cli.main([*command, "suite.yaml", "alerts.yaml"]) == 2
    said = "".join(capsys.readouterr())
    assert f"alerts.yaml:1:{column}: alerts." in said
    assert what in said
