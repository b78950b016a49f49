"""`taskorch run` and `taskorch simulate`."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest
from tests.api.tools import PATIENCE, Started, eventually
from tests.ext.command_line.tools import FLOW, forget, started, taskorch, told

from taskorch.ext.command_line import main

SLOW = """
import time
from pathlib import Path
from taskorch import Workflow

slow = Workflow("slow")


def hold(name):
    Path(name).touch()
    end = time.monotonic() + 60
    while not Path("go").exists() and time.monotonic() < end:
        time.sleep(0.01)


first = slow.task(hold, "began", id="first")
slow.task(len, "x", id="second", after=[first])
"""

STUBBORN = SLOW.replace(
    'slow.task(hold, "began", id="first")',
    'slow.program(["sh", "-c", "trap : TERM INT; touch began; while :; do sleep 0.1; done"], id="first")',
)


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = list(sys.path)
    (tmp_path / "flow_file.py").write_text(FLOW, encoding="utf-8")
    yield tmp_path
    forget(tmp_path)
    sys.path[:] = path


def test_the_last_block_is_what_a_person_needs(here, capsys):
    code, out, err = taskorch(capsys, "run", "flow_file.py")
    assert code == 1, err
    assert "\x1b" not in out
    lines, last = out.split("\nslowest:\n")
    assert "completed page-0" in lines
    assert r"failed page-3: ValueError: no page \x1b[31m3" in lines
    slowest, last = last.split("\nnot done:\n")
    assert 1 <= len(slowest.splitlines()) <= 5
    left, last = last.split("\nfailed:\n")
    assert left == "  total: waits for page-3\n"
    failed, summary, _ = last.split("\n\n")[0], *last.split("\n\n")[1:], ""
    assert r"cause   ValueError: no page \x1b[31m3" in failed
    assert "repeat  taskorch run flow_file.py --only page-3" in failed
    assert "tried   2 times" in failed
    assert "output  said" in failed
    assert summary == "FAILED: 1 blocked, 4 completed, 3 failed\n"


def test_the_calls_of_a_map_count_whenever_they_are_made(here, capsys):
    """They are no tasks of the workflow before the map has begun."""
    (here / "mapped.py").write_text(
        "import time\nfrom taskorch import Workflow\n"
        "def late():\n    time.sleep(0.2)\n    return [1, 2]\n"
        "wf = Workflow('wf')\nwf.map(abs, wf.task(late), id='sizes')\n"
    )
    code, out, err = taskorch(capsys, "run", "mapped.py")
    assert code == 0, err
    ends = [line for line in out.splitlines() if line.startswith("completed ")]
    assert sorted(ends) == [
        *("completed late", "completed sizes"),
        *("completed sizes/0", "completed sizes/1"),
    ]
    assert out.endswith("\ncompleted: 4 completed\n")


def test_with_a_journal_it_goes_on_and_runs_again_what_failed(here, capsys):
    assert taskorch(capsys, "run", "flow_file.py", "--journal", "runs.db")[0] == 1
    forget(here)
    (here / "flow_file.py").write_text(
        FLOW.replace("if n == 3", "if n == 7").replace("raise Conn", "return Conn"),
        encoding="utf-8",
    )
    words = "run", "flow_file.py", "--journal", "runs.db", "--only", "total", "--json"
    code, out, err = taskorch(capsys, *words)
    assert code == 0, err
    ended = [one["task"] for one in told(out)[:-1] if one["event"] == "completed"]
    assert ended == ["page-3", "total"]
    # The log of what failed is kept.
    forget(here)
    code, out, _ = taskorch(capsys, "run", "flow_file.py", "--journal", "runs.db", "-q")
    assert code == 1
    assert "runs.db.logs/flow/prog" in out
    assert "--journal runs.db --only prog" in out
    assert "completed page" not in out
    # What was done before is said.
    forget(here)
    out = taskorch(capsys, "run", "flow_file.py", "--journal", "runs.db")[1]
    assert (
        out.splitlines()[0] == "6 of 8 tasks had completed before: what is left is run."
    )
    assert "completed page" not in out


def test_what_a_file_can_define(here, capsys):
    (here / "made_tasks.py").write_text(
        "from taskorch import Task, TaskOrchestrator\n"
        "orch = TaskOrchestrator(concurrency=1)\n"
        "tasks = [Task.call(len, 'abc', id='one'), Task.call(abs, -1, id='two')]\n"
        "def more():\n    return Task.call(len, 'x', id='three')\n",
        encoding="utf-8",
    )
    code, out, _ = taskorch(capsys, "run", "made_tasks.py")
    assert code == 0
    assert out.endswith("completed: 2 completed\n")
    code, out, _ = taskorch(capsys, "run", "-m", "made_tasks:more")
    assert code == 2 or "three" in out
    sys.modules.pop("made_tasks")
    code, _, err = taskorch(capsys, "run", "made_tasks.py", "--journal", "x.db")
    assert code == 2
    assert "defines an orchestrator: --journal is not for that" in err
    sys.modules.pop("made_tasks")
    code, out, _ = taskorch(capsys, "run", "-m", "made_tasks:more")
    assert (code, "completed three" in out) == (0, True)


@pytest.mark.parametrize("name", ["made.json", "made.yaml"])
def test_a_document(name, here, capsys):
    (here / "made_functions.py").write_text(
        "def double(n):\n    return 2 * n\n", encoding="utf-8"
    )
    (here / name).write_text(
        '{"workflow": "made", "tasks": {"a": {"call": "double", "args": [3]},'
        ' "b": {"program": ["true"], "after": ["a"]}}}',
        encoding="utf-8",
    )
    words = "run", name, "--functions", "made_functions"
    code, out, err = taskorch(capsys, *words)
    assert (code, err) == (0, ""), out
    assert out.endswith("completed: 2 completed\n")


@pytest.mark.parametrize(
    ("words", "content", "said"),
    [
        (["none.py"], None, "no such file"),
        (["made.txt"], "", "is no Python module"),
        (["my flow.py"], "", "'my flow' is no identifier (give it a name such as"),
        (["class.py"], "", "'class' is no identifier"),
        (["made.py"], "", "defines no workflow"),
        (["made.py:x"], "", "does not define 'x'"),
        (["made.py:x"], "x = 7", "is no workflow, no task and no list"),
        (["made.json"], "{", "is no JSON"),
        (["made.json"], "\udcff", "is no JSON"),
        (["made.yaml"], "\udcff", "this is no YAML"),
        (["made.json"], "[]", "a mapping is needed"),
        (["made.json"], "{}", "tasks: it is missing"),
        (["json.py"], "", "give the file another name"),
        (["flow_file.py", "--only", "nobody"], None, "has no task 'nobody' (it has "),
        (["flow_file.py", "--only", "totl"], None, "did you mean 'total'?"),
        (["flow_file.py", "--resources", "x"], None, "write NAME=VALUE"),
        (["-m", "no_such_module_made"], None, "No module named"),
        (
            ["made.py"],
            "from taskorch import Workflow\na, b = Workflow('a'), Workflow('b')",
            "defines 2 workflows: a, b (say which: made.py:NAME)",
        ),
        (
            ["made.py"],
            "from taskorch import *\na, b = TaskOrchestrator(), TaskOrchestrator()",
            "defines 2 orchestrators",
        ),
    ],
)
def test_what_cannot_be_run(words, content, said, here, capsys):
    if content is not None:
        path = here / words[0].partition(":")[0]
        path.write_text(content, encoding="utf-8", errors="surrogateescape")
    code, _, err = taskorch(capsys, "run", *words)
    assert code == 2
    assert said in err
    assert len(err.splitlines()) < 4


@pytest.mark.timeout(600)
def test_the_first_ctrl_c_finishes_what_runs_and_begins_nothing(here, capsys):
    (here / "slow.py").write_text(SLOW, encoding="utf-8")
    with started("run", "slow.py", "--journal", "runs.db", cwd=here) as process:
        eventually((here / "began").exists)
        process.send_signal(signal.SIGINT)
        assert "Nothing new starts" in _until(process.stderr, "Nothing")
        (here / "go").touch()
        out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    assert "completed first" in out
    assert "second" not in out.partition("not done")[0]
    assert "the same command goes on from here" in err
    code, out, err = taskorch(capsys, "run", "slow.py", "--journal", "runs.db")
    assert code == 0, err
    assert "completed second" in out


@pytest.mark.timeout(600)
def test_the_second_stops_and_the_third_kills(here):
    (here / "slow.py").write_text(STUBBORN, encoding="utf-8")
    with started("run", "slow.py", cwd=here) as process:
        eventually((here / "began").exists)
        for said in ("Nothing new starts", "is asked to stop", "is killed"):
            process.send_signal(signal.SIGINT)
            _until(process.stderr, said)
        out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130, err
    assert "not done" in out or "cancelled" in out


ASKS = """
from pathlib import Path
from taskorch import Task, Workflow, current_context

def gate():
    asked = current_context().workflow.add(Task.question("go?", id="q"))
    Path("asked").touch()
    return asked

flow = Workflow("flow")
flow.task(print, "loaded", id="load", after=[flow.task(gate, id="gate")])
"""


@pytest.mark.timeout(600)
def test_sigterm_ends_a_run_that_waits_and_the_question_waits_on(here, capsys):
    """A supervisor waits for nobody's answer; the next incarnation does."""
    (here / "asks.py").write_text(ASKS, encoding="utf-8")
    words = ("run", "asks.py", "--journal", "runs.db")
    with started(*words, cwd=here) as process:
        eventually((here / "asked").exists)
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    assert "the same command goes on from here" in err
    assert "go?" in taskorch(capsys, "questions", str(here / "runs.db"))[1]


def _until(stream, words):
    for line in stream:
        if words in line:
            return line
    raise AssertionError(words)


def test_simulate(here, capsys):
    words = "simulate", "flow_file.py", "--duration", "60", "--duration", "fetch=1m30s"
    code, out, _ = taskorch(capsys, *words)
    assert code == 0
    assert "8 tasks would take 2 min 30 s." in out
    forget(here)
    (found,) = told(taskorch(capsys, *words, "--json")[1])
    assert found["seconds"] == 150.0
    forget(here)
    slots = "--concurrency", "1", "--resources", "cpu=1"
    out = taskorch(capsys, *words, *slots)[1]
    assert "One more slot" in out
    forget(here)
    code, _, err = taskorch(capsys, "simulate", "flow_file.py", "--duration", "x=soon")
    assert code == 2
    assert "is no time" in err


def test_simulate_with_what_a_journal_has_measured(here, capsys):
    taskorch(capsys, "run", "flow_file.py", "--journal", "runs.db")
    forget(here)
    words = "simulate", "flow_file.py", "--journal", "runs.db", "--duration", "5"
    (found,) = told(taskorch(capsys, *words, "--json")[1])
    assert 5 <= found["seconds"] < 20


def test_a_part_of_a_workflow_is_a_run_to_which_its_tasks_add(here, capsys):
    (here / "adding.py").write_text(
        "from taskorch import Workflow, current_context\n"
        "def more():\n"
        "    return current_context().workflow.task(int, id='added').task_id\n"
        "wf = Workflow('w')\n"
        "wf.task(more, id='x')\n"
        "wf.task(int, id='y')\n",
        encoding="utf-8",
    )
    code, out, err = taskorch(capsys, "run", "adding.py", "--only", "x", "--json")
    assert code == 0, err
    ended = [one["task"] for one in told(out)[:-1] if one["event"] == "completed"]
    assert "x" in ended
    assert "y" not in ended


# -- schedules -------------------------------------------------------------------------


SCHEDULED = """
from pathlib import Path
from taskorch import TaskOrchestrator, Workflow
import time

def note():
    with open("ticks", "a") as file:
        file.write("tick\\n")

orch = TaskOrchestrator()
# Less often than a tick takes on a busy machine: a run ends once nothing goes on.
orch.schedules.add("often", 2, note)
wf = Workflow("wf")

def until_then():
    end = time.monotonic() + WAIT
    while time.monotonic() < end and not Path("ticks").exists():
        time.sleep(0.01)

wf.task(until_then, id="wait")
"""


@pytest.mark.parametrize(("options", "seconds"), [([], 3), (["--schedules"], 60)])
def test_a_run_fires_no_schedules_unless_it_is_asked(
    tmp_path, monkeypatch, capsys, options, seconds
):
    monkeypatch.chdir(tmp_path)
    # It is imported here, under its name.
    name = f"scheduled_{len(options)}"
    (tmp_path / f"{name}.py").write_text(SCHEDULED.replace("WAIT", str(seconds)))
    assert main(["run", f"{name}.py:wf", *options]) == 0
    assert (tmp_path / "ticks").exists() == bool(options)
    told = "--schedules lets them" in capsys.readouterr().err
    assert told != bool(options)


SHIPS = """
from taskorch import Workflow, current_context

def ship():
    return current_context().ask("Ship the parts?", options=["yes", "no"])

night = Workflow("night")
night.task(ship, id="ship")
"""


@pytest.mark.parametrize(
    ("options", "how"),
    [
        pytest.param(
            [],
            "--journal PATH",
            marks=pytest.mark.slow("a process, for the other line"),
        ),
        (["--journal", "j.db"], "taskorch answer j.db night-ship"),
    ],
)
def test_it_says_at_once_that_people_are_asked_and_how_to_answer(here, options, how):
    (here / "asks.py").write_text(SHIPS, encoding="utf-8")
    words = [sys.executable, "-m", "taskorch", "run", "asks.py", "--quiet", *options]
    with Started(words, cwd=here, stderr=subprocess.PIPE, text=True) as run:
        try:
            asked, answer = run.stderr.readline(), run.stderr.readline()
        finally:
            run.kill()
    assert asked.endswith("asks: Ship the parts?\n")
    assert how in answer
