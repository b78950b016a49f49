"""A coding agent works in a project; the result names what it has changed."""

import subprocess
import sys
import tempfile

from taskorch import Task, TaskOrchestrator

#: In the place of "claude", "codex" or another that you have: it adds what it is told.
RUNNER = [
    sys.executable,
    "-c",
    "import sys; open('net.py', 'a').write(sys.stdin.read()); print('done')",
]

project = tempfile.mkdtemp()
subprocess.run(["git", "init", "-q", project], check=True)

with TaskOrchestrator() as orch:
    orch.agents.coding(RUNNER, folder=project)
    orch.agents.spawn("code")
    task = Task(
        "code",
        {"prompt": "Add a retry to fetch()", "files": ["net.py"]},
        requires=["code"],
        writes=["net.py"],
    )
    result = orch.submit_task(task).result()
    print(result["changed"], result["output"])
