"""The times of a report tell of all attempts, in all runs and all incarnations."""

import json
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from tests.api.tools import PATIENCE

from taskorch import (
    RetryPolicy,
    TaskOrchestrator,
    Workflow,
    WorkflowFailedError,
    current_context,
)

#: Seconds that each attempt took, by its own clock; and how many fail.
TOOK: list[float] = []
LEFT_TO_FAIL: list[str] = []
BEGAN = threading.Event()


@pytest.fixture(autouse=True)
def _empty() -> Any:
    TOOK.clear()
    LEFT_TO_FAIL.clear()


def work() -> int:
    began = time.monotonic()
    time.sleep(0.03)
    TOOK.append(time.monotonic() - began)
    if LEFT_TO_FAIL:
        raise ValueError(LEFT_TO_FAIL.pop())
    return len(TOOK)


def flaky(retries: int) -> Workflow:
    wf = Workflow("w")
    retry = RetryPolicy(retries + 1, base=0.01)
    wf.phase("p").task(work, retry=retry, id="a")
    return wf


def check(report: Any, attempts: int) -> None:
    (task,) = (task for task in report.tasks if task.name == "a")
    (phase,) = report.phases
    assert task.attempts == len(TOOK) == attempts
    assert sum(TOOK) <= task.duration <= task.ended - task.started
    assert task.duration <= report.work
    assert task.ended - task.started <= phase.duration <= report.duration


def test_the_attempts_before_the_last_count_too() -> None:
    LEFT_TO_FAIL.extend("abc")
    with TaskOrchestrator() as orch:
        run = orch.workflows.start(flaky(3), id="x")
        assert run.result(PATIENCE)["a"] == 4
        # What was between them is waiting, and no work.
        check(run.report(), 4)
        assert run.report().to_dict()["tasks"][0]["duration"] >= sum(TOOK)


@pytest.mark.parametrize("keep_finished", [10_000, 0])
def test_the_runs_before_the_last_count_too(tmp_path: Path, keep_finished: int) -> None:
    """Also of what has left memory."""
    LEFT_TO_FAIL.extend("abc")
    journal = tmp_path / "runs.db"
    with TaskOrchestrator(journal=journal, keep_finished=keep_finished) as orch:
        run = orch.workflows.start(flaky(1), id="x")
        with pytest.raises(WorkflowFailedError):
            run.result(PATIENCE)
        check(run.report(), 2)
        orch.workflows.restart("x")
        assert run.result(PATIENCE)["a"] == 4
        check(run.report(), 4)


def test_what_a_stop_cut_off_counts_until_its_end(tmp_path: Path) -> None:
    journal = tmp_path / "runs.db"
    wf = Workflow("w")
    wf.phase("p").task(work_until_stopped, id="a")
    orch = TaskOrchestrator(journal=journal)
    orch.start()
    BEGAN.clear()
    orch.workflows.start(wf, id="x")
    assert BEGAN.wait(PATIENCE)
    orch.stop(drain=False)
    assert len(TOOK) == 1
    with TaskOrchestrator(journal=journal) as orch:
        run = orch.workflows.start(wf, id="x")
        assert run.result(PATIENCE)["a"] == 2
        check(run.report(), 2)


def work_until_stopped() -> int:
    began = time.monotonic()
    BEGAN.set()
    time.sleep(0.03)
    while not TOOK and not current_context().cancelled:
        time.sleep(0.01)
    TOOK.append(time.monotonic() - began)
    if len(TOOK) == 1:
        current_context().checkpoint()
    return len(TOOK)


def test_what_a_crash_cut_off_counts_until_the_last_event(tmp_path: Path) -> None:
    """And not the time in which no process ran."""
    script = tmp_path / "script.py"
    code = """
        import json, os, sys, time
        from taskorch import TaskOrchestrator, Workflow, current_context

        def slow():
            if current_context().attempt == 1:
                time.sleep(60)

        def mark():
            time.sleep(0.1)

        def crash():
            if not os.path.exists(sys.argv[2]):
                open(sys.argv[2], "w").close()
                # When it is kept, so is all that came before it.
                current_context().checkpoint("here")
                os._exit(3)

        wf = Workflow("w")
        wf.task(slow, id="slow")
        wf.task(mark, id="mark")
        wf.task(crash, id="crash", after=["mark"])
        with TaskOrchestrator(journal=sys.argv[1]) as orch:
            run = orch.workflows.start(wf, id="x")
            run.result(60)
            history = orch.get_task_status("x/slow").history
            running = [entry.at for entry in history if entry.state == "running"]
            print(json.dumps([run.report().to_dict(), running]))
    """
    script.write_text(textwrap.dedent(code), encoding="utf-8")
    command = [sys.executable, "-B", str(script), str(tmp_path / "runs.db")]
    command.append(str(tmp_path / "crashed"))

    def run() -> Any:
        return subprocess.run(
            command, capture_output=True, text=True, timeout=3 * PATIENCE, check=False
        )

    assert run().returncode == 3
    between = time.time()
    done = run()
    assert done.returncode == 0, done.stderr
    report, running = json.loads(done.stdout)
    tasks = {task["name"]: task for task in report["tasks"]}
    slow, mark = tasks["slow"], tasks["mark"]
    first, last = running
    assert slow["attempts"] == tasks["crash"]["attempts"] == 2
    assert slow["started"] == pytest.approx(first, abs=0.001)
    until = first + slow["duration"] - (slow["ended"] - last)
    assert mark["ended"] <= until + 0.001
    assert until <= between + 0.001 < last
    assert report["duration"] >= last - first
    assert report["work"] == pytest.approx(sum(t["duration"] for t in tasks.values()))
