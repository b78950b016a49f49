"""The first failure of a process loads what judges failures; nobody waits meanwhile."""

import subprocess
import sys

import pytest

#: While the first module is loaded, another thread submits.
WATCHES = """
import sys, threading
from taskorch import Task, TaskOrchestrator

def fails():
    raise ValueError("x")

def hook(event, arguments):
    if event == "import" and str(arguments[0]) == "taskorch.recovery" and not done:
        done.append(None)
        other = threading.Thread(target=lambda: done.append(orch.submit(int).result()))
        other.start()
        other.join(60)

done = []
with TaskOrchestrator() as orch:
    orch.submit(int).result()
    assert "taskorch.recovery" not in sys.modules
    sys.addaudithook(hook)
    assert orch.submit_task(TASK).exception(60) is not None
    assert done == [None, 0], done
"""


@pytest.mark.parametrize(
    "task",
    [
        "Task.call(fails)",
        "Task.call(threading.Event().wait, 5, timeout=0.05)",
        "Task.program([sys.executable, '-c', 'import sys; sys.exit(1)'])",
    ],
)
def test_others_go_on_while_the_first_failure_is_judged(task):
    program = WATCHES.replace("TASK", task)
    ended = subprocess.run(
        [sys.executable, "-c", program], check=False, capture_output=True
    )
    assert ended.returncode == 0, ended.stderr.decode()
