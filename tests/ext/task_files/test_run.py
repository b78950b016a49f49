"""Task files that are run, and the files that tell what became of them."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time

import pytest
from tests.api.tools import Started
from tests.ext.task_files.tools import Runs, cli, write
from tests.house.pids import is_alive

from taskorch.ext.task_files import Workspace

TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
PATIENCE = 60.0


def until(what):
    end = time.monotonic() + PATIENCE
    while not (found := what()):
        assert time.monotonic() < end
        time.sleep(0.01)
    return found


# -- what is written ---------------------------------------------------------------------


def test_a_completed_task_has_the_fields_of_the_protocol(runs):
    runs.write(a_one="outputs: [x.json, deep/y.txt]|do: echo out; echo err >&2")

    assert runs.run()[0] == 0

    status = runs.status("a/one")
    assert list(status) == [
        "task_id",
        "status",
        "started_at",
        "completed_at",
        "agent_id",
        "outputs_validated",
        "duration_seconds",
        "exit_code",
    ]
    assert (status["task_id"], status["status"]) == ("a/one", "completed")
    assert TIME.fullmatch(status["started_at"])
    assert TIME.fullmatch(status["completed_at"])
    assert (status["agent_id"], status["exit_code"]) == ("agent-1", 0)
    assert status["outputs_validated"] is True
    assert 0 < status["duration_seconds"] < PATIENCE
    workspace = runs.root / "workspace"
    assert (workspace / "outputs/a/one/deep/y.txt").exists()
    log = (workspace / "logs/a/one.log").read_text()
    assert sorted(log.splitlines()) == ["err", "out"]
    left = [str(p) for p in workspace.rglob("*") if p.is_file()]
    assert not [name for name in left if name.endswith((".tmp", ".pid"))]


def test_all_folders_are_there_from_the_start(runs):
    runs.write(a_one="do: ls workspace/*", b_two="x: 1")

    runs.run()

    log = (runs.root / "workspace/logs/a/one.log").read_text()
    for kind in ("status", "outputs", "logs", "pids"):
        assert f"workspace/{kind}:\na\nb\n" in log


def test_a_program_is_known_by_its_claim_once_its_runner_is_gone(runs):
    """The task's id alone is also that of a task of another workspace."""
    runs.write(a_one="do: cp -r workspace ../seen; echo $TASKORCH_CLAIM > ../claim")

    assert runs.run()[0] == 0

    ledger = (runs.root.parent / "seen/.taskorch/claims.jsonl").read_text()
    claim = json.loads(ledger.splitlines()[-1])
    mark = (runs.root.parent / "claim").read_text().strip()
    assert mark == f"{claim['runner']}.{claim['fence']}"


def test_while_it_runs_its_status_and_its_number_say_so(runs):
    runs.write(
        a_one='do: until [ -f workspace/pids/$TASK_ID.pid ]; do sleep 0.01; done; cp -r workspace ../seen; echo $$ > ../number; ps -p $(cat "$PWD/workspace/pids/$TASK_ID.pid") > ../ps'
    )

    assert runs.run()[0] == 0

    seen = runs.root.parent / "seen"
    status = json.loads((seen / "status/a/one.json").read_text())
    assert list(status) == ["task_id", "status", "started_at", "agent_id"]
    assert status["status"] == "running"
    number = (runs.root.parent / "number").read_text()
    assert (seen / "pids/a/one.pid").read_text() == number
    assert number.strip() in (runs.root.parent / "ps").read_text()


#: What is done to the output of a task, and how it is said that it is missing.
MISSING = [
    ("rm $TASK_OUTPUTS/x", ""),
    ("rm $TASK_OUTPUTS/x; mkdir $TASK_OUTPUTS/x", " (it is a folder)"),
    (
        "ln -sf /etc/hostname $TASK_OUTPUTS/x",
        " (a link that leads out of the workspace)",
    ),
    ("ln -sf nothing $TASK_OUTPUTS/x", " (a link that leads nowhere)"),
    ("rm $TASK_OUTPUTS/x; mkfifo $TASK_OUTPUTS/x", " (it is no file)"),
]


@pytest.mark.parametrize(
    ("task", "error", "code", "line"),
    [
        ("outputs: [x]|do: exit 3", "Exit code 3", 3, None),
        ("do: kill -9 $$", "Killed by SIGKILL", -9, None),
        ("timeout: 0.2s|do: sleep 60", "Timeout", None, None),
        (
            "command: no-such-agent x",
            "'no-such-agent' could not be started",
            None,
            None,
        ),
        ("gate: [y]", "Missing outputs", 0, "ERROR: Missing output: y"),
        *(
            (
                *(f"outputs: [x]|do: {act}", "Missing outputs", 0),
                f"ERROR: Missing output: workspace/outputs/a/one/x{why}",
            )
            for act, why in MISSING
        ),
    ],
)
def test_a_failed_task_says_why(runs, task, error, code, line):
    runs.write(a_one=task)

    exit_code, printed = runs.run()

    status = runs.status("a/one")
    assert exit_code == 1
    assert status["status"] == "failed"
    assert status["error"].startswith(error)
    if error in ("Missing outputs", "Timeout"):
        assert status["error"] == error
    assert status.get("exit_code") == code
    assert status["outputs_validated"] is (code is not None and line is None)
    assert "ALERT: Task a/one failed, blocking 0 tasks" in printed
    assert "0 of 1 task are complete. The rest:" in printed
    assert printed[-1] == "Once they are mended: taskorch workspace run --retry-failed"
    assert not (runs.root / "workspace/pids/a/one.pid").exists()
    if line is not None:
        assert line in printed
        assert line in (runs.root / "workspace/logs/a/one.log").read_text()


def test_a_task_waits_for_inputs_that_are_not_there(runs):
    # Of two, another task is to make one, and says nothing of it: it does not.
    runs.write(
        a_maker="x: 1",
        a_no="inputs: [elsewhere/x.json]",
        a_unmade="inputs: [a/maker/x.json]",
        a_last="dependencies: [a/no, a/unmade]",
    )
    other = "workspace/outputs/elsewhere/x.json"
    unmade = "workspace/outputs/a/maker/x.json"

    code, printed = runs.run()

    assert code == 1
    assert runs.states() == {"a/maker": "completed"}
    left = {line.split()[0]: line for line in printed if line.startswith("  ")}
    assert f"waiting: it waits for its input {other}" in left["a/no"]
    assert f"waiting: it waits for its input {unmade}" in left["a/unmade"]
    assert f"its input {other} is not there" in cli("why", "a/no", runs.root)[1]
    assert f"its input {unmade} is not there" in cli("why", "a/unmade", runs.root)[1]

    write(runs.root, {other: "{}", unmade: "{}"})
    assert runs.run()[0] == 0


def test_an_input_that_comes_meanwhile_lets_its_task_run(runs):
    made = "workspace/outputs/elsewhere/x.json"
    runs.write(
        a_one="inputs: [elsewhere/x.json]",
        a_two=f"do: mkdir -p workspace/outputs/elsewhere; touch {made}",
    )

    assert runs.run()[0] == 0
    assert runs.began() == ["a/two", "a/one"]


def test_what_failed_is_run_again_as_often_as_it_may(runs):
    runs.write(
        a_mended="retries: 2|outputs: [x]|do: if ! test -e seen; then touch seen; exit 3; fi",
        a_never="retries: 1|do: exit 4",
    )

    code, printed = runs.run()

    assert code == 1
    assert runs.states() == {"a/mended": "completed", "a/never": "failed"}
    assert sorted(runs.began()) == ["a/mended"] * 2 + ["a/never"] * 2
    assert "Trying again: a/mended (Exit code 3; up to 2 times more)" in printed
    assert "Trying again: a/never (Exit code 4; once more)" in printed


def test_empty_outputs_and_links_inside_count_as_files(runs):
    runs.write(
        a_one="outputs: [x, y]|do: cat /dev/null > $TASK_OUTPUTS/x; ln -sf x $TASK_OUTPUTS/y"
    )

    assert runs.run()[0] == 0


def test_an_agent_prints_anything_and_leaves_nothing_behind(runs):
    runs.write(a_one=r"do: printf '\377\0\033[31m'; (sleep 600 & echo $! > ../child) &")

    assert runs.run()[0] == 0

    log = (runs.root / "workspace/logs/a/one.log").read_bytes()
    assert log == b"\xff\0\x1b[31m"
    child = int((runs.root.parent / "child").read_text())

    until(lambda: not is_alive(child))


# -- order -------------------------------------------------------------------------------


def test_what_waits_comes_after_and_phases_come_one_after_another(runs):
    runs.write(
        b_one="x: 1",
        a_three="dependencies: [a/two]",
        a_two="inputs: [a/zero/x.json]",
        a_zero="outputs: [x.json]",
        root="dependencies: [b/one]",
    )

    code, printed = runs.run()

    assert code == 0
    assert printed[-1] == "All tasks complete!"
    assert runs.began() == ["a/zero", "a/two", "a/three", "b/one", "root"]


def test_blocking_is_transitive_and_names_where_it_began(runs):
    runs.write(
        a_one="do: exit 1",
        a_two="dependencies: [a/one]",
        a_three="dependencies: [a/two]",
        a_free="x: 1",
        b_four="x: 1",
    )

    code, printed = runs.run()

    assert code == 1
    assert "ALERT: Task a/one failed, blocking 3 tasks" in printed
    for name in ("a/two", "a/three", "b/four"):
        assert runs.status(name) == {
            "task_id": name,
            "status": "blocked",
            "blocked_by": "a/one",
        }
    assert runs.began() == ["a/free", "a/one"] or runs.began() == ["a/one", "a/free"]
    assert "  a/three  blocked by a/one" in printed
    assert "  a/one  failed: Exit code 1 (see workspace/logs/a/one.log)" in printed


def test_tasks_that_appear_are_run_and_so_are_phases_in_between(runs):
    new = (
        "mkdir -p tasks/b tasks/c; for i in 1 2 3; do cp ../new.md tasks/b/$i.md; done"
    )
    (runs.root.parent / "new.md").write_text("---\noutputs: [x]\n---\n")
    runs.write(
        a_one=f"do: {new}; cp ../new.md tasks/a/two.md",
        c_last="inputs: [b/1/x, b/2/x, b/3/x]",
    )

    code, printed = runs.run()

    assert code == 0, printed
    began = runs.began()
    assert began[:2] == ["a/one", "a/two"]
    assert sorted(began[2:5]) == ["b/1", "b/2", "b/3"]
    assert began[5:] == ["c/last"]


def test_a_ring_through_a_later_phase_ends_the_run_and_is_told(runs):
    """A task in no phase may wait for any: then no phase before that may wait for it."""
    runs.write(
        loose="dependencies: [b/one]",
        a_one="dependencies: [loose]",
        b_one="do: true",
        b_two="do: true",
    )
    code, lines = runs.run()
    assert code == 1
    assert runs.began() == []
    why = "a/one: it waits for loose, and so for a later phase"
    assert f"The gate of a is shut: {why}" in lines
    blocked = {"b/one": "blocked", "b/two": "blocked", "loose": "blocked"}
    assert runs.states() == blocked
    assert runs.status("loose")["blocked_by"] == "a/one"


def test_a_task_in_no_phase_that_waits_for_a_later_one_is_blocked_with_it(runs):
    runs.write(loose="dependencies: [b/one]", a_one="do: exit 3", b_one="do: true")
    assert runs.run()[0] == 1
    assert runs.states() == {"a/one": "failed", "b/one": "blocked", "loose": "blocked"}
    write(runs.root, {"tasks/a/one.md": "do: true"})
    runs.run("--retry-failed")
    assert set(runs.states().values()) == {"completed"}
    assert runs.began()[-2:] == ["b/one", "loose"]


def test_a_phase_whose_gate_is_shut_holds_up_what_comes_after(runs):
    write(runs.root, {"workspace.yaml": "phases: {a: {gate: [ready.txt]}}"})
    runs.write(a_one="x: 1", b_two="x: 1")

    code, printed = runs.run()

    assert code == 1
    assert runs.states() == {"a/one": "completed", "b/two": "blocked"}
    # What has completed is not to blame.
    assert runs.status("b/two")["blocked_by"] == "the gate of a"
    assert "The gate of a is shut: ready.txt is not there" in printed

    (runs.root / "ready.txt").write_text("")
    assert runs.run()[0] == 0


def test_what_cannot_be_run_is_held_back_and_the_rest_goes_on(runs):
    runs.write(
        a_one="timeout: soon",
        a_two="dependencies: [a/nothing]",
        a_three="x: 1",
        a_four="dependencies: [a/two]",
        b_five="x: 1",
    )

    code, printed = runs.run()

    assert code == 1
    assert runs.began() == ["a/three"]
    assert "tasks/a/one.md:2:10: timeout: hours" in "\n".join(printed)
    left = {
        line.split()[0]: line.split(maxsplit=1)[1]
        for line in printed
        if line.startswith("  ")
    }
    assert left["a/one"].startswith("waiting: its file has problems")
    assert left["a/two"] == "waiting: it waits for a/nothing, which does not exist"
    assert left["a/four"] == "waiting: it waits for a/two"
    assert left["b/five"].startswith("blocked by a/")


def test_limits_of_phases_and_of_agents_hold(runs):
    write(
        runs.root,
        {
            "workspace.yaml": "limits: {max_concurrent_agents: 3}\n"
            "phases: {analysis: {limit: 2}}"
        },
    )
    # Each waits for another one of its kind to run.
    meet = "do: i=0; while [ $(grep -c begin $AGENT_LOG) -lt %d ] && [ $i -lt 500 ]; do sleep 0.01; i=$((i+1)); done"
    for number in range(5):
        runs.write(**{f"01-analysis_{number}": meet % 2})
    assert runs.run()[0] == 0
    assert runs.most_at_once() == 2

    runs.log.write_text("")
    for number in range(6):
        runs.write(**{f"02-other_{number}": meet % 3})
    assert runs.run()[0] == 0
    assert runs.most_at_once() == 3


def test_the_more_important_task_runs_first(runs):
    write(runs.root, {"workspace.yaml": "limits: {max_concurrent_agents: 1}"})
    runs.write(
        a_1="priority: low", a_2="x: 1", a_3="priority: high", a_4="priority: 500"
    )

    assert runs.run()[0] == 0
    assert runs.began() == ["a/4", "a/3", "a/2", "a/1"]


# -- who does it -------------------------------------------------------------------------


def test_tasks_go_to_the_agent_that_they_ask_for(runs):
    agents = """
limits: {max_concurrent_agents: 1}
agents:
  one: {command: "sh -c 'echo one $0' {task_id}", capabilities: [review]}
  two: {command: "sh -c 'cat; echo two'", stdin: true, capabilities: [review, build]}
"""
    write(runs.root, {"workspace.yaml": agents})
    runs.write(
        a_1="agent: one",
        a_2="capability: build",
        a_3="command: sh -c 'echo own {task_file} {outputs} {other}'",
        a_4="agent: two|capability: review",
    )

    assert runs.run()[0] == 0

    logs = runs.root / "workspace/logs/a"
    assert (logs / "1.log").read_text() == "one a/1\n"
    assert (logs / "2.log").read_text() == "# 2\ntwo\n"
    assert (
        logs / "3.log"
    ).read_text() == "own tasks/a/3.md workspace/outputs/a/3 {other}\n"
    assert (logs / "4.log").read_text() == "# 4\ntwo\n"
    assert [runs.status(f"a/{n}")["agent_id"] for n in (1, 2, 3, 4)] == [
        "one-1",
        "two-1",
        "agent-1",
        "two-1",
    ]


@pytest.mark.parametrize(
    ("settings", "agents"),
    [
        ("agent: mine\nagents: {mine: {command: true}}", ("mine-1", "mine-1")),
        ("agents: {agent: {command: true}}", ("agent-1", "agent-1")),
        (
            "agent: sh -c true\nagents: {agent: {command: true}}",
            ("default-agent-1", "agent-1"),
        ),
        ("agent: claude\nagents: {claude: {command: true}}", ("claude-1", "claude-1")),
    ],
)
def test_one_agent_may_be_the_usual_one_and_one_of_the_others(runs, settings, agents):
    named = agents[1].removesuffix("-1")
    settings += "\nlimits: {max_concurrent_agents: 1}"
    write(runs.root, {"workspace.yaml": settings.replace("true}", "'true'}")})
    runs.write(a_1="x: 1", a_2=f"agent: {named}")
    workspace = Workspace(runs.root, tell=None)
    assert workspace.lint() == []
    assert [step.task_id for step in workspace.dry_run().steps] == ["a/1", "a/2"]

    assert workspace.run().is_complete

    assert (runs.status("a/1")["agent_id"], runs.status("a/2")["agent_id"]) == agents


def test_the_agent_of_the_command_line_does_what_says_no_other(runs):
    settings = "agents: {agent: {command: sh -c 'echo other'}, mine: {command: echo}}"
    write(runs.root, {"workspace.yaml": settings})
    runs.write(a_1="x: 1", a_2="agent: agent")
    assert runs.run()[0] == 0
    assert runs.began() == ["a/1"]
    assert (runs.root / "workspace/logs/a/2.log").read_text() == "other\n"

    runs.write(b_1="x: 1")
    Workspace(runs.root, agent="mine", tell=None).run()
    assert runs.status("b/1")["agent_id"] == "mine-1"


def test_the_default_agent_is_that_of_the_protocol(runs, tmp_path, monkeypatch):
    agent = tmp_path / "bin/agent"
    write(tmp_path, {"bin/agent": '#!/bin/sh\necho "$@"; pwd'})
    agent.chmod(0o755)
    monkeypatch.setenv("PATH", f"{agent.parent}:{os.environ['PATH']}")
    runs.write(a_one="x: 1")

    assert Workspace(runs.root).run().is_complete

    log = (runs.root / "workspace/logs/a/one.log").read_text()
    assert log.splitlines() == ["run tasks/a/one.md", str(runs.root.resolve())]


# -- again -------------------------------------------------------------------------------


def test_what_is_done_is_not_done_again_and_what_failed_stays_failed(runs):
    runs.write(a_one="x: 1", a_two="do: exit 1", b_three="x: 1")
    runs.run()
    first = runs.status("a/two")
    runs.log.write_text("")

    code, _printed = runs.run()

    assert code == 1
    assert runs.began() == []
    assert runs.status("a/two") == first
    assert runs.states() == {
        "a/one": "completed",
        "a/two": "failed",
        "b/three": "blocked",
    }


def test_a_status_that_cannot_be_believed_is_refused_and_kept(runs):
    told = {
        "": "it is empty",
        '{"task_id": "a/one", "sta': "it is no JSON, or only a part of it",
        "[1]": "it is [1], and no object",
        '{"status": "done"}': "its status is 'done', which is none of completed,",
        '{"status": "completed", "task_id": "b"}': "it is that of task 'b'",
        "x" * 100_000: "it has more than 65,536 bytes",
    }
    runs.write(b="x: 1", **{f"a_{n}": "x: 1" for n in range(len(told))})
    files = [f"workspace/status/a/{n}.json" for n in range(len(told))]
    write(runs.root, dict(zip(files, told, strict=True)))

    code, printed = runs.run()

    assert code == 1
    assert runs.began() == ["b"]
    for file, (text, why) in zip(files, told.items(), strict=True):
        assert any(file in line and why in line for line in printed), printed
        assert (runs.root / file).read_text() == text


def test_a_phase_alone_waits_for_one_before_whose_status_is_not_believed(runs):
    runs.write(a_one="x: 1", b_two="dependencies: [a/one]", b_three="x: 1")
    write(runs.root, {"workspace/status/a/one.json": "{"})

    code, printed = runs.run("--phase", "b", "--force")

    assert code == 1
    assert runs.began() == ["b/three"]
    why = "b/two  waiting: it waits for a/one: workspace/status/a/one.json is not believed"
    assert any(why in line for line in printed), printed


def test_what_is_blocked_and_has_a_status_that_is_not_believed_keeps_it(runs, caplog):
    spoil = "mkdir -p workspace/status/a; echo { > workspace/status/a/two.json; exit 1"
    runs.write(a_one=f"do: {spoil}", a_two="dependencies: [a/one]")

    code, printed = runs.run()

    assert code == 1
    told = "a/two  refused: workspace/status/a/two.json: it is no JSON"
    assert any(told in line for line in printed), printed
    assert not [record for record in caplog.records if record.exc_info]


@pytest.mark.parametrize("seconds", ["NaN", "Infinity", "-1", "1" + 400 * "0"])
def test_a_time_that_no_task_takes_counts_for_nothing(runs, seconds):
    runs.write(a_one="x: 1", a_two="x: 1")
    text = f'{{"status": "completed", "duration_seconds": {seconds}}}'
    write(runs.root, {"workspace/status/a/one.json": text})

    assert Workspace(runs.root).dry_run().seconds == 60.0
    assert runs.run()[0] == 0


def test_a_status_file_that_is_a_pipe_holds_up_nobody(runs):
    """To open one waits for whoever writes to it."""
    runs.write(a_one="x: 1", a_two="x: 1")
    (runs.root / "workspace/status/a").mkdir(parents=True)
    os.mkfifo(runs.root / "workspace/status/a/one.json")

    code, printed = runs.run()

    assert code == 1
    assert runs.began() == ["a/two"]
    assert any("it is empty" in line for line in printed), printed


def test_the_word_of_other_tools_is_taken(runs):
    runs.write(a_one="outputs: [x]", a_two="dependencies: [a/one]", a_three="x: 1")
    write(
        runs.root,
        {
            "workspace/outputs/a/one/x": "by hand",
            "workspace/status/a/one.json": '{"status": "completed", "by": "hand"}',
            "workspace/status/a/three.json": '{"task_id": "a/three", "status": "running", "started_at": 1763632800.5}',
            "workspace/pids/a/three.pid": "999999999",
        },
    )

    assert runs.run()[0] == 0
    assert sorted(runs.began()) == ["a/three", "a/two"]
    assert (runs.root / "workspace/outputs/a/one/x").read_text() == "by hand"


def test_what_another_tool_runs_is_waited_for(runs):
    runs.write(a_one="x: 1")
    status = runs.root / "workspace/status/a/one.json"
    code = (
        "import time, pathlib; time.sleep(0.5); "
        f'pathlib.Path({str(status)!r}).write_text(\'{{"status": "completed"}}\')'
    )
    # It says so first: what it says at its end comes after that.
    write(runs.root, {"workspace/status/a/one.json": '{"status": "running"}'})
    other = subprocess.Popen([sys.executable, "-c", code])
    write(runs.root, {"workspace/pids/a/one.pid": f"{other.pid}\n"})

    assert runs.run()[0] == 0
    assert runs.began() == []
    other.wait()


def test_completed_without_its_outputs_is_not_believed(runs):
    runs.write(a_one="outputs: [x]", a_two="inputs: [a/one/x]")
    write(runs.root, {"workspace/status/a/one.json": '{"status": "completed"}'})

    code, printed = runs.run()

    assert code == 1
    assert runs.began() == []
    line = "a/one  waiting: it is completed, but workspace/outputs/a/one/x is not there"
    assert line in "\n".join(printed)


def start(runs, *words: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "taskorch", "workspace", "run", str(runs.root)]
    return Started(
        [*command, "--agent", runs.agent, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


#: Bytes that a file may have: nothing at all; half of a claim; all but the last status.
@pytest.mark.slow("a process for each size")
@pytest.mark.parametrize("most", [0, 60, 200])
@pytest.mark.usefixtures("unmeasured")
def test_a_disk_that_is_full_is_said_and_ends_the_run(runs, most):
    runs.write(a_one="outputs: []", a_two="dependencies: [a/one]", b_three="x: 1")
    code = (
        "import resource, sys; from taskorch.ext.command_line import main\n"
        # Nor may it leave half of what it compiles, which others would load.
        "sys.dont_write_bytecode = True\n"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({most}, {most}))\n"
        f"sys.exit(main(['workspace', 'run', {str(runs.root)!r}, '--agent', 'true']))"
    )

    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )

    assert done.returncode == 1
    assert "Traceback" not in done.stdout + done.stderr
    why = "its files cannot be written: "
    told = [line for line in done.stdout.splitlines() if line.startswith("ERROR")]
    assert len(told) == 1
    assert told[0].startswith(f"ERROR: a/one: {why}")
    assert f"  a/one  waiting: {why}" in done.stdout
    # With room, it goes on.
    assert runs.run()[0] == 0
    assert set(runs.states().values()) == {"completed"}


@pytest.mark.slow("a process for each signal")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_interrupted_in_any_way_it_goes_on(runs, number):
    stay = "do: if ! test -e ../go; then sleep 60; fi"
    runs.write(a_one="x: 1", a_two=stay, b_three="x: 1")
    process = start(runs)
    until(lambda: runs.states().get("a/one") == "completed")
    until(lambda: "a/two" in runs.began())

    process.send_signal(number)
    out, _ = process.communicate(timeout=PATIENCE)

    assert process.returncode == {2: 130, 15: 143, 9: -9}[number], out
    assert "Traceback" not in out
    if number == signal.SIGKILL:
        assert runs.status("a/two")["status"] == "running"
    else:
        assert runs.states() == {"a/one": "completed"}
    (runs.root.parent / "go").write_text("")
    assert runs.run()[0] == 0
    assert runs.began().count("a/one") == 1
    assert runs.began().count("a/two") == 2
    assert len(runs.states()) == 3


def test_a_task_that_takes_more_than_it_says_is_ended(runs):
    """If the workspace says so; else what a task says is for the plan alone."""
    hog = f"{sys.executable} -I -S -c 'x = bytearray(90 << 20)'"
    # It stays until somebody has seen what it takes.
    stays = 'import os, time; x = bytearray(90 << 20); time.sleep(0 if os.path.exists("free") else 600)'
    runs.write(
        a_small=f"resources: {{memory_mb: 200}}|do: {hog}",
        a_large=f"resources: {{memory_mb: 40}}|do: {sys.executable} -I -S -c '{stays}'",
    )
    (runs.root / "free").touch()
    runs.run()
    assert runs.states() == {"a/large": "completed", "a/small": "completed"}
    write(runs.root, {"workspace.yaml": "limits: {enforce: true}\n"})
    (runs.root / "free").unlink()
    for path in (runs.root / "workspace/status").rglob("*.json"):
        path.unlink()
    runs.run()
    assert runs.states() == {"a/large": "failed", "a/small": "completed"}
    assert "of 40 MB of memory" in runs.status("a/large")["error"]


@pytest.mark.skipif(sys.platform != "linux", reason="limits are of Linux")
def test_a_task_that_says_no_amount_is_held_to_those_of_the_document(runs):
    stays = "import time; x = bytearray(90 << 20); time.sleep(600)"
    runs.write(
        a_silent=f"do: {sys.executable} -I -S -c '{stays}'",
        a_small="resources: {memory_mb: 30}|do: true",
    )
    write(
        runs.root, {"workspace.yaml": "limits: {max_memory_gb: 0.04, enforce: true}\n"}
    )
    runs.run()
    assert runs.states() == {"a/silent": "failed", "a/small": "completed"}
    assert "of 40.96 MB of memory" in runs.status("a/silent")["error"]


@pytest.mark.skipif(sys.platform != "linux", reason="limits are of Linux")
@pytest.mark.parametrize(
    ("limits", "head", "state", "unheld"),
    [
        ("max_cpu_per_agent: 2, enforce: true", "x: 1", "completed", ["cpu"]),
        ("enforce: true", "x: 1", "completed", ["cpu"]),
        ("enforce: if possible", "resources: {cpu: 2}", "completed", ["cpu"]),
        ("enforce: true, measured: true", "x: 1", "completed", ["cpu"]),
        ("enforce: true", "resources: {cpu: 2}", "failed", None),
        ("max_cpu_per_agent: 2", "resources: {cpu: 2}", "completed", None),
    ],
)
def test_the_status_names_each_limit_that_this_machine_cannot_hold(
    runs, monkeypatch, limits, head, state, unheld
):
    """A task that says its cores does not begin; the limit of its agent is named."""
    monkeypatch.setenv("TASKORCH_CGROUP", "off")
    write(runs.root, {"workspace.yaml": f"limits: {{{limits}}}\n"})
    runs.write(a_one=f"{head}|do: true")
    _, lines = runs.run()
    assert runs.status("a/one")["status"] == state
    assert runs.status("a/one").get("unenforced") == unheld
    is_told = any("not held to cpu" in line for line in lines)
    assert is_told is (unheld is not None), lines
    if state == "failed":
        assert "cpu cannot be held" in runs.status("a/one")["error"]


@pytest.mark.skipif(sys.platform != "linux", reason="limits are of Linux")
def test_a_task_that_says_its_disk_is_held_to_it_or_said_not_to_be(
    on_disk, monkeypatch
):
    runs = Runs(on_disk, monkeypatch)
    # Of several files: one alone cannot grow beyond the limit.
    writes = "for i in 1 2 3 4 5; do head -c 9000000 /dev/zero > big$i; done"
    runs.write(a_one=f"resources: {{disk_mb: 10}}|do: {writes}")
    runs.run()
    assert runs.states() == {"a/one": "completed"}
    (problem,) = Workspace(runs.root).lint()
    assert "disk_mb is not held" in problem.text
    assert not problem.stops
    write(runs.root, {"workspace.yaml": "limits: {enforce: true}\n"})
    assert Workspace(runs.root).lint() == []
    (runs.root / "workspace/status/a/one.json").unlink()
    runs.run()
    assert runs.states() == {"a/one": "failed"}
    assert "of 10 MB written to disks" in runs.status("a/one")["error"]


@pytest.mark.parametrize("limit", ["max_cpu_per_agent", "max_memory_gb"])
def test_no_program_can_be_held_to_nothing(runs, limit):
    write(runs.root, {"workspace.yaml": f"limits: {{{limit}: 0, enforce: true}}\n"})
    runs.write(a_one="x: 1")
    (problem,) = Workspace(runs.root).lint()
    assert f"{limit}: no program can be held to 0" in problem.text


@pytest.mark.needs("recovery")
@pytest.mark.skipif(sys.platform != "linux", reason="limits are of Linux")
def test_a_task_reserves_what_others_of_its_agent_have_used(runs):
    """One that needs more than that is begun again, with all that it says."""

    def hog(many):
        return f"{sys.executable} -I -S -c 'x = bytearray({many} << 20); import time; time.sleep(0.3)'"

    limits = "{max_concurrent_agents: 3, enforce: true, measured: true}"
    write(runs.root, {"workspace.yaml": f"limits: {limits}\n"})
    small = f"resources: {{memory_mb: 400}}|do: {hog(20)}"
    large = f"resources: {{memory_mb: 400}}|do: {hog(150)}"
    runs.write(**{f"a_{number}": small for number in range(9)}, b_large=large)
    assert runs.run()[0] == 0
    assert set(runs.states().values()) == {"completed"}
    assert len(runs.states()) == 10
    assert runs.began().count("b/large") == 2
    assert runs.began().count("a/0") == 1
    # What needs more than it says fails, as without.
    runs.write(c_larger=f"resources: {{memory_mb: 100}}|do: {hog(150)}")
    runs.run()
    assert runs.states()["c/larger"] == "failed"
    assert "of 100 MB of memory" in runs.status("c/larger")["error"]
