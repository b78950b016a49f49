"""The first failure of a process loads what judges failures; nobody waits meanwhile."""

import subprocess
import sys

#: While the first module is loaded, another thread submits. Each failure is the first of
#: a process, which begins with what this one has imported.
WATCHES = """
import os, sys, threading
from taskorch import Task, TaskOrchestrator

ROOM = "taskorch.ext.recovery."

def fails():
    raise ValueError("x")

def hook(event, arguments):
    if event == "import" and f"{arguments[0]}".startswith(ROOM) and not done:
        done.append(None)
        other = threading.Thread(target=lambda: done.append(orch.submit(int).result()))
        other.start()
        other.join(60)

FIRST = {
    "an error": Task.call(fails),
    "a timeout": Task.call(threading.Event().wait, 5, timeout=0.05),
    "a program": Task.program([sys.executable, "-c", "raise SystemExit(1)"]),
}
with TaskOrchestrator() as orch:
    orch.submit(int).result()
for name, task in FIRST.items():
    if child := os.fork():
        assert os.waitpid(child, 0)[1] == 0, name
        continue
    done = []
    with TaskOrchestrator() as orch:
        orch.submit(int).result()
        assert "taskorch.ext.recovery" not in sys.modules
        sys.addaudithook(hook)
        assert orch.submit_task(task).exception(60) is not None
        assert done == [None, 0], done
    break
"""


def test_others_go_on_while_the_first_failure_is_judged():
    ended = subprocess.run(
        [sys.executable, "-c", WATCHES], check=False, capture_output=True
    )
    assert ended.returncode == 0, ended.stderr.decode()
