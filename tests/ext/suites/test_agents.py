"""The workers: what they find, what they leave behind, and how they end."""

import json
import os
import signal
import subprocess
import sys

import pytest
from tests.api.tools import eventually
from tests.house.pids import is_alive

from taskorch import TaskState
from taskorch.ext.suites import _process, _translation, load
from taskorch.ext.suites._folder import RunFolder
from taskorch.ext.suites._process import AgentDiedError, SuiteProcess
from taskorch.ext.suites._results import read_pytest

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
    process = SuiteProcess(sys.executable)
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


# -- the end -----------------------------------------------------------------------


def begun(folder):
    """Whether the task in *folder* has said who it is."""
    return (folder / "pid").exists() and (folder / "pid").read_text().endswith("\n")


def test_one_that_ignores_the_signal_is_killed_with_all_its_children(run):
    line = "trap '' TERM; sleep 600 & echo $! > pid; wait; wait; wait"
    end, _ = run(
        ["sh", "-c", line], "command", is_to_end=lambda: begun(run.folder), grace=0.2
    )
    assert end["exit_code"] == -signal.SIGKILL
    eventually(lambda: not is_alive(int((run.folder / "pid").read_text())))


@pytest.mark.slow("a process is killed")
def test_a_worker_that_dies_says_so_and_starts_again(run, process):
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
def test_tests_end_with_the_process_of_their_worker(run, process, seconds):
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
    process = SuiteProcess("/no/such/python")
    with pytest.raises(AgentDiedError, match="cannot be started"):
        process.run({}, hear=print, is_to_end=bool, grace=1)
    process.close()


def test_when_the_orchestrator_dies_its_tasks_die_too(tmp_path):
    code = f"""
import sys
from taskorch.ext.suites._process import SuiteProcess
job = dict(kind="command", args=["sh", "-c", "echo $$ > pid; sleep 600"],
           cwd={str(tmp_path)!r}, env={{}}, log="log")
SuiteProcess(sys.executable).run(job, hear=print, is_to_end=bool, grace=1)
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
    workers = []

    def worker(name):
        workers.append(_process.SuiteWorker(name, folder, suite.retries.grace))
        return workers[-1]

    with _translation.orchestrator_of(suite) as orch:
        _translation.add_workers(orch, suite, worker)
        orch.workflows.start(_translation.workflow_of(suite), id="r")
        # Ten attempts, of which each starts programs: as long as a test may take.
        assert orch.wait(50)
        tasks = {name: orch.get_task_status(f"r/{name}") for name in "ABCDE"}
    for one in workers:
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
    report = json.loads(folder.worker_report("B").read_text())
    assert report["agent_id"].startswith("agent_00")


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
