"""The agents: what they find, what they leave behind, and how they end."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tests.integration.tools import eventually
from tests.pids import is_alive

from taskorch import TaskState
from taskorch.frontends.suite import _process, _translation, load
from taskorch.frontends.suite._folder import RunFolder
from taskorch.frontends.suite._process import AgentDiedError, AgentProcess
from taskorch.frontends.suite._results import read_pytest

TESTS = """
import os, sys, warnings
import pytest

@pytest.mark.parametrize("n", range(3))
def test_passes(n):
    assert n < 3

def test_fails():
    print("it says this")
    assert 1 + 1 == 3

@pytest.mark.xfail(reason="known")
def test_xfails():
    assert False

@pytest.mark.xfail
def test_xpasses():
    pass

@pytest.mark.xfail(strict=True)
def test_must_not_pass():
    pass

@pytest.mark.skip(reason="not today")
def test_skipped():
    pass

@pytest.fixture
def broken():
    raise RuntimeError("no database")

def test_breaks_before(broken):
    pass

@pytest.fixture
def leaking():
    yield
    raise RuntimeError("left open")

def test_breaks_after(leaking):
    pass
"""
OUTCOMES = {
    "test_passes[0]": "passed",
    "test_passes[1]": "passed",
    "test_passes[2]": "passed",
    "test_fails": "failed",
    "test_xfails": "xfailed",
    "test_xpasses": "xpassed",
    "test_must_not_pass": "failed",
    "test_skipped": "skipped",
    "test_breaks_before": "error",
    "test_breaks_after": "error",
}


@pytest.fixture(scope="module")
def process():
    process = AgentProcess(sys.executable)
    yield process
    process.close()


@pytest.fixture
def run(process, tmp_path):
    """Runs a job in a folder of its own; what it came to, and what was heard."""
    (tmp_path / "pytest.ini").write_text("[pytest]\n")

    def run(args, kind="pytest", *, is_to_end=lambda: False, grace=5.0, **more):
        heard = []
        job = {
            "kind": kind,
            "args": args,
            "cwd": str(tmp_path),
            "env": {},
            "log": str(tmp_path / "log"),
            "results": str(tmp_path / "results.json"),
            "coverage": [],
            "coverage_data": str(tmp_path / "data"),
            "coverage_json": str(tmp_path / "coverage.json"),
            **more,
        }
        end = process.run(job, hear=heard.append, is_to_end=is_to_end, grace=grace)
        # The first job of a process hears that it is ready, whichever test that is.
        return end, [event for event in heard if event["event"] != "ready"]

    run.folder = tmp_path
    run.log = (tmp_path / "log").read_text
    run.found = lambda: [
        test.to_dict() for test in read_pytest(tmp_path / "results.json", 0.0).tests
    ]
    return run


def write(folder, name, text):
    (folder / name).write_text(text)
    return name


# -- what pytest finds -------------------------------------------------------------


def test_every_outcome_of_pytest_is_noted(run):
    write(run.folder, "test_all.py", TESTS)
    end, heard = run(["-q"])
    assert end["exit_code"] == 1
    tests = {test["id"].partition("::")[2]: test for test in run.found()}
    assert {name: test["outcome"] for name, test in tests.items()} == OUTCOMES
    fails = tests["test_fails"]
    assert fails["message"] == "assert (1 + 1) == 3"
    assert (fails["file"], fails["line"]) == ("test_all.py", 9)
    assert fails["failed_line"] == 11
    assert "it says this" in fails["output"]
    assert "def test_fails" in fails["text"]
    assert tests["test_skipped"]["message"] == "Skipped: not today"
    assert tests["test_xfails"]["message"] == "known"
    assert "no database" in tests["test_breaks_before"]["message"]
    assert "XPASS(strict)" in tests["test_must_not_pass"]["message"]
    # Progress: the first and the last are always told.
    assert heard[-1]["done"] == heard[-1]["total"] == len(OUTCOMES)
    assert heard[-1]["memory_mb"] > 1
    assert end["memory_mb"] > 1
    assert end["cpu_seconds"] > 0
    # As a plain run counts, but a test that passes and then breaks is one: it broke.
    plain = subprocess.run(
        [sys.executable, "-m", "pytest", "-q"],
        cwd=run.folder,
        capture_output=True,
        text=True,
        check=False,
    )
    last = plain.stdout.splitlines()[-1]
    assert "2 failed, 4 passed, 1 skipped, 1 xfailed, 1 xpassed, 2 errors" in last


def test_files_that_cannot_be_read_or_are_skipped_are_noted(run):
    write(run.folder, "test_broken.py", "import nothing_of_this_name\n")
    write(
        run.folder,
        "test_out.py",
        "import pytest\npytest.skip('not here', allow_module_level=True)\n",
    )
    write(run.folder, "test_good.py", "def test_good(): pass\n")
    end, _ = run(["-q", "--continue-on-collection-errors"])
    assert end["exit_code"] == 1
    outcomes = {test["id"]: test["outcome"] for test in run.found()}
    assert outcomes == {
        "test_broken.py": "error",
        "test_out.py": "skipped",
        "test_good.py::test_good": "passed",
    }


def test_a_file_without_tests_is_no_success(run):
    write(run.folder, "test_none.py", "")
    end, _ = run(["-q"])
    assert end["exit_code"] == 5
    assert run.found() == []


def test_what_is_recorded_is_kept_and_what_is_long_is_cut(run):
    text = """
import atexit, pathlib
atexit.register(pathlib.Path("ended").touch)
def test_speed(record_property):
    record_property("serial_seconds", 8)
    record_property("what", {1: 2})
def test_long():
    assert 0, "x" * 100_000
"""
    write(run.folder, "test_it.py", text)
    run(["-q"])
    speed, long = run.found()
    assert speed["properties"] == {"serial_seconds": 8, "what": "{1: 2}"}
    assert len(long["message"]) < 21_000
    assert "…" in long["message"]
    # What is to be called at the end of its process is.
    assert (run.folder / "ended").exists()


def test_a_task_sees_nothing_of_the_one_before(run, process):
    write(
        run.folder,
        "test_mess.py",
        """
import os, sys, json
def test_mess():
    assert "MESS" not in os.environ and not hasattr(json, "mess")
    os.environ["MESS"] = "1"
    json.mess = 1
    os.chdir("/")
""",
    )
    pids = []
    for _ in range(2):
        end, _ = run(["-q"])
        assert end["exit_code"] == 0
        pids.append(process._process.pid)
    assert len(set(pids)) == 1


def test_variables_that_an_interpreter_reads_when_it_starts_are_there_then(run):
    (run.folder / "lib").mkdir()
    write(run.folder, "lib/only_there.py", "")
    text = """
import sys, time
def test():
    import only_there
    assert time.tzname[0] == "JST" and sys.flags.dont_write_bytecode
    assert sys.get_int_max_str_digits() == 700 and "" not in sys.path
"""
    write(run.folder, "test_it.py", text)
    env = {"PYTHONPATH": "lib", "TZ": "Asia/Tokyo", "PYTHONDONTWRITEBYTECODE": "1"}
    env |= {"PYTHONINTMAXSTRDIGITS": "700", "PYTHONSAFEPATH": "1"}
    end, heard = run(["-q"], env=env)
    assert end["exit_code"] == 0, run.log()
    assert heard[-1]["done"] == 1


def test_lines_that_are_run_are_measured(run):
    (run.folder / "pkg").mkdir()
    (run.folder / "pkg/__init__.py").write_text(
        "def f(x):\n    if x:\n        return 1\n    return 2\n"
    )
    write(run.folder, "test_f.py", "from pkg import f\ndef test(): assert f(1) == 1\n")
    run(["-q"], coverage=["pkg"])
    totals = json.loads((run.folder / "coverage.json").read_text())["totals"]
    assert (totals["covered_lines"], totals["num_statements"]) == (3, 4)
    assert (run.folder / "data").exists()


def test_a_project_may_measure_in_parallel_and_what_its_tests_start(run):
    (run.folder / "pkg").mkdir()
    (run.folder / "pkg/__init__.py").write_text(
        "def f(x):\n    if x:\n        return 1\n    return 2\n"
    )
    write(
        run.folder,
        ".coveragerc",
        "[run]\nparallel = true\npatch = subprocess\n",
    )
    write(
        run.folder,
        "test_f.py",
        "import subprocess, sys\n"
        "from pkg import f\n"
        "def test(): assert f(1) == 1\n"
        "def test_program():\n"
        "    subprocess.run([sys.executable, '-c', 'import pkg; pkg.f(0)'], check=True)\n",
    )
    run(["-q"], coverage=["pkg"])
    totals = json.loads((run.folder / "coverage.json").read_text())["totals"]
    assert (totals["covered_lines"], totals["num_statements"]) == (4, 4)
    assert [path.name for path in run.folder.glob("data*")] == ["data"]


def test_what_pytest_itself_needs_is_measured_from_its_import(run):
    import pluggy

    write(run.folder, "test_it.py", "import pluggy\ndef test(): pass\n")
    end, heard = run(["-q"], coverage=["pluggy"])
    assert end["exit_code"] == 0
    assert [event["done"] for event in heard if event["event"] == "test"][-1] == 1
    files = json.loads((run.folder / "coverage.json").read_text())["files"]
    whole = next(f for name, f in files.items() if Path(name).name == "_manager.py")
    source = Path(pluggy.__file__).with_name("_manager.py").read_text().splitlines()
    line = next(n for n, text in enumerate(source, 1) if text.startswith("class "))
    assert line in whole["executed_lines"]


@pytest.mark.slow("pytest collects anew after each death")
def test_however_many_tests_end_their_process_the_others_run(run):
    """Each in another process, which collects anew."""
    text = """
import os, pytest
@pytest.mark.parametrize("n", range(69))
def test(n):
    if n % 3 == 1:
        os._exit(0) if n % 2 else os.kill(os.getpid(), 9)
"""
    write(run.folder, "test_ends.py", text)
    end, _ = run(["-q", "-p", "no:cacheprovider"])
    outcomes = [test["outcome"] for test in run.found()]
    assert outcomes.count("passed") == 46
    assert outcomes.count("error") == 23
    assert end["exit_code"] == 1


def test_tests_whose_names_are_drawn_come_to_an_end(run):
    text = """
import os, uuid, pytest
@pytest.mark.parametrize("n", [uuid.uuid4().hex for _ in range(3)])
def test(n):
    os._exit(0)
"""
    write(run.folder, "test_drawn.py", text)
    run(["-q", "-p", "no:cacheprovider"])
    outcomes = [test["outcome"] for test in run.found()]
    assert "error" in outcomes
    assert "passed" not in outcomes


# -- commands ----------------------------------------------------------------------


def test_a_command_gets_its_folder_its_environment_and_a_log(run):
    end, heard = run(
        ["sh", "-c", "pwd; echo $MINE >&2; exit 3"], "command", env={"MINE": "x y"}
    )
    assert (end["exit_code"], heard) == (3, [])
    assert run.log() == f"{run.folder}\nx y\n"


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["no-such-program"], "no-such-program"),
        (["/"], "/"),
    ],
)
def test_a_command_that_cannot_be_started(args, said, run):
    end, _ = run(args, "command")
    assert end["exit_code"] == 127
    assert run.log().startswith(f"taskorch: {said}")


def test_a_command_that_is_killed(run):
    end, _ = run(["sh", "-c", "kill -9 $$"], "command")
    assert end["exit_code"] == -9


def test_a_command_dies_of_a_pipe_that_nobody_reads(run):
    end, _ = run(["sh", "-c", "yes | head -1; exit 0"], "command")
    assert end["exit_code"] == 0
    assert "rror" not in run.log()


# -- the end -----------------------------------------------------------------------


def begun(folder):
    """Whether the task in *folder* has said who it is."""
    return (folder / "pid").exists() and (folder / "pid").read_text().endswith("\n")


def test_a_task_that_is_to_end_gets_a_signal_and_then_what_it_found_is_kept(run):
    text = """
import os, pathlib, time
def test_quick(): pass
def test_slow():
    pathlib.Path("pid").write_text(f"{os.getpid()}\\n")
    time.sleep(600)
def test_later(): pass
"""
    write(run.folder, "test_slow.py", text)
    end, _ = run(["-q"], is_to_end=lambda: begun(run.folder), grace=45.0)
    assert end["exit_code"] == 2
    outcomes = {test["id"]: test["outcome"] for test in run.found()}
    assert outcomes == {
        "test_slow.py::test_quick": "passed",
        "test_slow.py::test_slow": "error",
        "test_slow.py::test_later": "not_run",
    }


def test_one_that_ignores_the_signal_is_killed_with_all_its_children(run):
    line = "trap '' TERM; sleep 600 & echo $! > pid; wait; wait; wait"
    end, _ = run(
        ["sh", "-c", line], "command", is_to_end=lambda: begun(run.folder), grace=0.2
    )
    assert end["exit_code"] == -signal.SIGKILL
    eventually(lambda: not is_alive(int((run.folder / "pid").read_text())))


def test_what_a_task_leaves_running_ends_with_it(run):
    end, _ = run(["sh", "-c", "sleep 600 & echo $! > pid"], "command")
    assert end["exit_code"] == 0
    eventually(lambda: not is_alive(int((run.folder / "pid").read_text())))


@pytest.mark.slow("a process is killed")
def test_an_agent_that_dies_says_so_and_starts_again(run, process):
    def kill():
        if begun(run.folder):
            os.kill(process._process.pid, signal.SIGKILL)
        return False

    with pytest.raises(AgentDiedError, match="signal 9"):
        run(["sh", "-c", "echo $$ > pid; sleep 600"], "command", is_to_end=kill)
    # Not while what is tried again may still be running.
    eventually(lambda: not is_alive(int((run.folder / "pid").read_text())))
    (run.folder / "pid").unlink()
    end, _ = run(["true"], "command")
    assert end["exit_code"] == 0


TELLING = """
import os, pathlib, time
import pytest

@pytest.mark.parametrize("n", range(200))
def test_one(n):
    if not n:
        pathlib.Path("pid").write_text(f"{{os.getpid()}}\\n")
    time.sleep({seconds})
"""


@pytest.mark.parametrize("seconds", [600, 0.5], ids=["hangs", "tells"])
def test_tests_end_with_the_process_of_their_agent(run, process, seconds):
    # They hold the pipe by which it would be seen that the process has ended.
    tests = write(run.folder, "test_telling.py", TELLING.format(seconds=seconds))

    def kill():
        if begun(run.folder):
            os.kill(process._process.pid, signal.SIGKILL)
            return True
        return False

    with pytest.raises(AgentDiedError, match="signal 9"):
        run(["-q", tests], is_to_end=kill)
    eventually(lambda: not is_alive(int((run.folder / "pid").read_text())))


def test_an_interpreter_that_there_is_not():
    process = AgentProcess("/no/such/python")
    with pytest.raises(AgentDiedError, match="cannot be started"):
        process.run({}, hear=print, is_to_end=bool, grace=1)
    process.close()


def test_when_the_orchestrator_dies_its_tasks_die_too(tmp_path):
    code = f"""
import sys
from taskorch.frontends.suite._process import AgentProcess
job = dict(kind="command", args=["sh", "-c", "echo $$ > pid; sleep 600"],
           cwd={str(tmp_path)!r}, env={{}}, log="log")
AgentProcess(sys.executable).run(job, hear=print, is_to_end=bool, grace=1)
"""
    orchestrator = subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path)
    try:
        eventually(lambda: begun(tmp_path))
    finally:
        orchestrator.kill()
        orchestrator.wait()
    eventually(lambda: not is_alive(int((tmp_path / "pid").read_text())))


# -- the whole ---------------------------------------------------------------------

SUITE = """\
templates:
  unit: {pytest: [-q], coverage: [pkg], arguments: {A: [test_all.py], B: [test_f.py]}}
  junit: {command: [cp, "../{id}.xml", "{artifacts}"], results: "{artifacts}/{id}.xml"}
  json: {command: [sh, -c, "cp ../$NAME.json {artifacts}; exit 9"], env: {NAME: "{id}"},
         results: "{artifacts}/{id}.json"}
  slow: {command: [sleep, "600"]}
failure_handling: {max_retries: 1, timeout_grace_period: 5}
orchestrator:
  task_definitions:
    unit_tests:
      - {id: A, template: unit, success_criteria: {pass_rate: 0.75}}
      - {id: B, template: unit, success_criteria: {coverage: 0.75, speedup_min: 4}}
      - {id: C, template: junit, success_criteria: {pass_rate: 0.5}}
      - {id: D, template: json, success_criteria: {pass_rate: 0.9, speedup_min: 2}}
      - {id: E, template: slow, resources: {timeout: 0.5}}
"""
JUNIT = """<?xml version="1.0"?><testsuites><testsuite name="s">
<testcase classname="c" name="a" time="1,000.5"/><testcase name="b" line="7">
<failure message="no">long</failure><system-out>said</system-out></testcase>
<testcase classname="c" name="d"><skipped type="pytest.xfail" message="m"/></testcase>
</testsuite></testsuites>"""


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A suite that was run to its end: its folder, and its tasks."""
    here = tmp_path_factory.mktemp("suite")
    (here / "pytest.ini").write_text("[pytest]\n")
    (here / "suite.yaml").write_text(SUITE)
    (here / "test_all.py").write_text(TESTS)
    (here / "pkg").mkdir()
    (here / "pkg/__init__.py").write_text(
        "def f(x):\n    if x:\n        return 1\n    2\n"
    )
    text = "from pkg import f\ndef test(record_property):\n    f(1)\n"
    text += "    record_property('serial_seconds', 8)\n"
    text += "    record_property('parallel_seconds', 2.0)\n"
    (here / "test_f.py").write_text(text)
    (here.parent / "C.xml").write_text(JUNIT)
    said = {"test_results": {"passed": 9, "failed": 1}, "speedup": 1.5}
    (here.parent / "D.json").write_text(json.dumps(said))
    suite = load(here / "suite.yaml")
    folder = RunFolder(here / "out").make()
    agents = []

    def agent(name):
        agents.append(_process.SuiteAgent(name, folder, suite.retries.grace))
        return agents[-1]

    with _translation.orchestrator_of(suite) as orch:
        _translation.add_agents(orch, suite, agent)
        orch.workflows.start(_translation.workflow_of(suite), id="r")
        # Ten attempts, of which each starts programs: as long as a test may take.
        assert orch.wait(50)
        tasks = {name: orch.get_task_status(f"r/{name}") for name in "ABCDE"}
    for one in agents:
        one.close()
    return folder, tasks


def test_a_rate_decides_although_pytest_exits_with_1(whole):
    """A lucky one passes, and what is skipped does not count."""
    folder, tasks = whole
    assert tasks["A"].state is TaskState.FAILED
    assert "pass_rate is 0.5 (4 of 8), and at least 0.75" in str(tasks["A"].error)
    assert "test_all.py::test_fails: assert (1 + 1) == 3" in str(tasks["A"].error)
    assert tasks["A"].attempts == 2
    kept = json.loads(folder.results("A").read_text())
    assert kept["counts"]["errors"] == 2
    assert kept["attempt"] == 2
    assert len(kept["tests"]) == len(OUTCOMES)
    assert tasks["A"].progress["tests_completed"] == len(OUTCOMES)
    assert tasks["A"].progress["percentage"] == 100


def test_coverage_and_speedup_decide(whole):
    folder, tasks = whole
    assert tasks["B"].state is TaskState.COMPLETED
    assert tasks["B"].result["covered"] == [3, 4]
    assert tasks["B"].result["speedup"] == 4.0
    totals = json.loads(folder.coverage("B").read_text())["totals"]
    assert totals["num_statements"] == 4
    report = json.loads(folder.agent_report("B").read_text())
    assert report["agent_id"].startswith("agent_00")


def test_a_command_is_judged_by_its_report(whole):
    folder, tasks = whole
    assert tasks["C"].state is TaskState.COMPLETED
    tests = json.loads(folder.results("C").read_text())["tests"]
    assert [test["outcome"] for test in tests] == ["passed", "failed", "xfailed"]
    assert tests[0]["id"] == "c::a"
    assert tests[0]["seconds"] == 1000.5
    assert tests[1]["line"] == 7
    assert tests[1]["output"] == "said"
    assert json.loads(folder.coverage("C").read_text()) == {"measured": False}


def test_a_command_may_say_its_numbers_itself(whole):
    _, tasks = whole
    assert tasks["D"].state is TaskState.FAILED
    said = str(tasks["D"].error)
    assert "speedup is 1.5, and at least 2 is asked for" in said
    assert "pass_rate" not in said


def test_a_task_out_of_time_is_ended(whole):
    _, tasks = whole
    assert tasks["E"].state is TaskState.FAILED
    assert type(tasks["E"].error).__name__ == "TaskTimeoutError"
    assert tasks["E"].attempts == 2


def test_nothing_is_left_beside_what_is_promised(whole):
    folder, _ = whole
    names = {path.name for path in folder.artifacts.iterdir()}
    assert {
        f"A_{what}.json" for what in ("results", "coverage", "agent_report")
    } <= names
    assert not [name for name in names if name.endswith((".part", ".pytest.json"))]
