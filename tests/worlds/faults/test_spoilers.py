"""Tasks that change what belongs to the whole process: we go on, and undo nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

#: Each of these is done by a task, and afterwards all is tried that we do.
SPOILERS = {
    "folder": "os.chdir('/')",
    "variables": "os.environ.clear()",
    "mask": "os.umask(0o777)",
    "locale": "locale.setlocale(locale.LC_ALL, 'C')",
    "log": "logging.disable(); logging.root.handlers.clear(); logging.shutdown()",
    "warnings": "warnings.simplefilter('error')",
    "random": "random.seed(0)",
    "collector": "gc.disable()",
    "output": "sys.stdout = sys.stderr = None",
    "path": "sys.path.insert(0, '/nowhere')",
    "hooks": "sys.excepthook = threading.excepthook = print",
    "switching": "sys.setswitchinterval(0.2)",
    "alarm": "signal.setitimer(signal.ITIMER_REAL, 0)",
    "timeouts": "socket.setdefaulttimeout(0.0001)",
}

SCRIPT = """
import gc, json, locale, logging, os, random, signal, socket, sys, threading, warnings
from taskorch import Task, TaskOrchestrator

said = os.dup(1)

def spoil(code):
    exec(code)

with TaskOrchestrator(journal="runs.db") as orch:
    before = signal.getsignal(signal.SIGINT)
    orch.submit_task(Task.call(spoil, sys.argv[1], id="spoil")).result(60)
    found = [orch.submit_task(Task.call(pow, 2, n)).result(60) for n in range(3)]
    done = orch.submit_task(Task.program([sys.executable, "-c", "print(7)"]))
    found.append(done.result(60).stdout_tail.strip())
    async def answer():
        return "async"
    orch.agent("a", capabilities={"x"})(lambda task, context: task.payload)
    found.append(orch.submit_task(Task("x", "agent")).result(60))
    found.append(orch.health().status)
    assert signal.getsignal(signal.SIGINT) is before
assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
os.write(said, json.dumps(found).encode())
"""


@pytest.mark.slow("a process for each spoiler")
@pytest.mark.parametrize("name", SPOILERS)
def test_what_a_task_changes_for_all_harms_no_other_task(
    name: str, tmp_path: Path
) -> None:
    """The journal had a relative path, and is where it was, and ours alone."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, SPOILERS[name]],
        cwd=tmp_path,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [1, 2, 4, "7", "agent", "ok"]
    assert (tmp_path / "runs.db").exists()
