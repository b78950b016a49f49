"""What is loaded when it is first asked for is not loaded while the lock is held."""

from __future__ import annotations

import subprocess
import sys

import pytest

#: Says which modules of ours are loaded by somebody who holds the lock.
WATCH = """
import sys, threading
from taskorch import Task, TaskOrchestrator

PATIENCE = 2
orch = TaskOrchestrator(concurrency=1)
lock, found = orch._rt.lock, []


class Finder:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] != "taskorch":
            return
        # Others let it go in a moment; whoever loads this does not meanwhile.
        if lock.acquire(timeout=PATIENCE):
            lock.release()
        else:
            found.append(name)


sys.meta_path.insert(0, Finder())


def fail():
    raise ValueError


orch.start()
"""
ASKED = {
    "status": "orch.submit(pow, 2, 2).status",
    "explain": "orch.submit_task(Task.call(pow, 2, 2, id='one')); orch.explain('one')",
    "stuck": "orch.stuck()",
    "health": "orch.health()",
    "get_stats": "orch.get_stats()",
    "tasks": "list(orch.tasks())",
    "hold_starts": "orch.hold_starts('why'); orch.release_starts()",
    "questions": "orch.questions()",
    "rerun": (
        "orch.submit_task(Task.call(pow, 2, 2, id='one')).result(60); "
        "orch.rerun_task('one')"
    ),
    "rerun of a run": (
        "from taskorch import Workflow; flow = Workflow('flow'); "
        "flow.task(fail, id='one'); orch.workflows.start(flow, id='run'); "
        "orch.wait(60); orch.workflows.restart('run')"
    ),
    "failure": (
        "from taskorch.questions import failure_of; "
        "orch.submit_task(Task.call(fail, id='one')).exception(60); "
        "failure_of(orch._rt, 'one')"
    ),
    "failures": "orch.submit(fail).exception(60); orch.failures()",
    "left at the end": (
        "gate = threading.Event(); orch.submit(gate.wait, 60); "
        "orch.submit(pow, 2, 2); threading.Timer(0.1, gate.set).start(); "
        "orch.stop(drain=False)"
    ),
}


@pytest.mark.parametrize("asked", ASKED)
def test_nothing_is_loaded_under_the_lock(asked):
    code = f"{WATCH}\n{ASKED[asked]}\norch.stop(drain=False)\nprint(found)"

    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )

    assert ended.stdout.strip() == "[]"
