"""Tests that were to be run and did not, or did not end: they are not forgotten."""

import sys

import pytest

from taskorch.ext.suites import load, run

#: One of its tasks hangs until it is out of time, on a machine that may be slow.
pytestmark = pytest.mark.timeout(300)

SUITE = """\
templates:
  p: {pytest: [-q, -p, "no:cacheprovider"]}
orchestrator:
  task_definitions:
    unit:
      - {id: first, template: p, arguments: [test_bad.py, -x],
         success_criteria: {pass_rate: 0.5}}
      - {id: rate, template: p, arguments: [test_bad.py, -x],
         success_criteria: {pass_rate: 0.1}}
      - {id: leaves, template: p, arguments: [test_leaves.py]}
      - {id: dies, template: p, arguments: [test_dies.py]}
      - {id: crash, template: p, arguments: [test_good.py, test_crash.py, test_bad.py]}
      - {id: kills, template: p, arguments: [test_kills.py]}
      - {id: good, template: p, arguments: [test_good.py, -x]}
      - {id: hangs, template: p, arguments: [test_hangs.py], resources: {timeout: 15}}
failure_handling: {timeout_grace_period: 10}
agent_limits: {max_agents: 2}
"""
MORE_TASKS = """\
      - {id: workers, template: p, arguments: [test_bad.py, -x, -n1]}
      - {id: crash_x, template: p, arguments: [test_crash.py, test_bad.py, --maxfail=2]}
      - {id: crash_n, template: p, arguments: [test_crash.py, -n1, --max-worker-restart=9]}
"""
#: Its second test ends all that runs.
LEAVES = (
    "import pytest\ndef test_a(): pass\ndef test_b(): pytest.exit('x', returncode=0)\n"
)
#: Two of its tests end their process, each in a way of its own.
CRASH = """
import os
def test_a(): pass
def test_out(): print("so far"); os._exit(0)
def test_b(): pass
def test_signal(): os.kill(os.getpid(), 11)
def test_c(): pass
"""
MORE = "".join(f"def test_{n}(): pass\n" for n in range(8))


def done_in(here, suite):
    """The tasks of a suite that was run, and the folder of the run."""
    for name, text in {
        "pytest.ini": "[pytest]\n",
        "suite.yaml": suite,
        "test_bad.py": "def test_a(): pass\ndef test_b(): assert 0\n" + MORE,
        "test_leaves.py": LEAVES + MORE,
        "test_dies.py": "import os\n" + LEAVES.replace("pytest.exit", "os._exit(0) #"),
        "test_crash.py": CRASH,
        "test_kills.py": "import os, time\ndef test_a(): pass\n"
        "def test_k():\n    os.kill(os.getppid(), 9)\n    time.sleep(600)\n",
        "test_good.py": MORE,
        "test_hangs.py": "import time\n" + MORE + "def test_h(): time.sleep(600)\n",
    }.items():
        (here / name).write_text(text)
    report = run(load(here / "suite.yaml"), here / "out")
    return {task.id: task for task in report.tasks}, here / "out"


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    return done_in(tmp_path_factory.mktemp("early"), SUITE)


@pytest.mark.parametrize(
    ("task", "counts"),
    [
        ("first", "1 passed, 1 failed, 8 not run"),
        ("leaves", "1 passed, 1 error, 8 not run"),
        ("dies", "1 passed, 1 error"),
        ("crash", "20 passed, 1 failed, 2 errors"),
    ],
)
def test_a_run_that_ends_early_is_no_success(task, counts, done):
    assert not done[0][task].has_passed
    assert str(done[0][task].counts) == counts


@pytest.mark.slow("workers of xdist load all anew")
def test_nor_is_one_that_workers_of_xdist_end_early(tmp_path):
    head, unit, _ = SUITE.partition("    unit:\n")
    done, folder = done_in(tmp_path, head + unit + MORE_TASKS)
    counts = {name: str(task.counts) for name, task in done.items()}
    assert counts == {
        "workers": "1 passed, 1 failed, 8 not run",
        "crash_x": "2 passed, 2 errors, 11 not run",
        "crash_n": "3 passed, 2 errors",
    }
    assert not any(task.has_passed for task in done.values())
    xml = (folder / "report.xml").read_text()
    assert xml.count("not run: the run has ended before") == 8 + 11


def test_which_tests_ended_their_process_is_said_and_those_behind_them_run(done):
    tasks, folder = done
    error = tasks["crash"].error
    for name, how in (("out", "exit code 0"), ("signal", "signal 11")):
        said = f"test_crash.py::test_{name}: its process has ended before pytest had"
        assert f"{said}: {how}" in error
    (log,) = (folder / "logs").glob("**/crash[!_]*.log")
    text = log.read_text()
    assert "test_signal: the tests behind it run in another process" in text


def test_which_test_killed_its_worker_is_said(done):
    error = done[0]["kills"].error
    assert "has ended: signal 9" in error
    assert "under way: test_kills.py::test_k (for " in error


@pytest.mark.skipif(sys.platform != "linux", reason="limits are of Linux")
@pytest.mark.parametrize("way", ["cgroup", "off"])
def test_the_rest_is_run_under_limits_too_unless_they_have_ended_it(
    tmp_path, monkeypatch, way
):
    """And what the processes have used together is what the task has used."""
    if way == "off":
        monkeypatch.setenv("TASKORCH_CGROUP", "off")
    for name, how in {
        "exits": "os._exit(0)" if way == "off" else "os.kill(os.getpid(), 11)",
        "killed": "os.kill(os.getpid(), 9)",
        "large": "held = bytearray(300 << 20); time.sleep(600)",
    }.items():
        (tmp_path / f"test_{name}.py").write_text(
            f"import os, time\ndef test_a(): pass\ndef test_it(): {how}\n" + MORE
        )
    tasks = ", ".join(
        f"{{id: {name}, template: p, arguments: [test_{name}.py],"
        " resources: {memory_mb: 200}}"
        for name in ("exits", "killed", "large")
    )
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    (tmp_path / "suite.yaml").write_text(
        'templates: {p: {pytest: [-q, -p, "no:cacheprovider"]}}\n'
        "agent_limits: {total_memory_mb: 4096, enforce: true}\n"
        f"orchestrator: {{task_definitions: {{unit: [{tasks}]}}}}\n"
    )
    report = run(load(tmp_path / "suite.yaml"), tmp_path / "out")
    tasks = {task.id: task for task in report.tasks}
    counts = {name: str(task.counts) for name, task in tasks.items()}
    assert counts == {
        "exits": "9 passed, 1 error",
        "killed": "9 passed, 1 error",
        "large": "1 passed, 1 error, 8 not run",
    }
    for name, how in (
        ("exits", "exit code 0" if way == "off" else "signal 11"),
        ("killed", "signal 9"),
    ):
        said = f"test_it: its process has ended before pytest had: {how}"
        assert said in tasks[name].error
    assert "of 200 MB of memory, and was ended" in tasks["large"].error
    (log,) = (tmp_path / "out/logs").glob("**/large[!_]*.log")
    assert "in another process" not in log.read_text()
    assert not any(task.has_passed for task in report.tasks)
