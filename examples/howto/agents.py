"""Train a model on a worker with a GPU."""

import subprocess
import sys

from taskorch import Program, Task, TaskOrchestrator
from taskorch.ext.service import create_app, new_token, serve

orch = TaskOrchestrator(unknown_capability="wait")
token = new_token()
app = create_app(orch, token=token, agents=True)
with orch, serve(app, port=0) as server:
    command = [sys.executable, "-m", "taskorch", "agent", "--agent-id", "gpu_1"]
    command += ["--orchestrator-endpoint", server.url, "--can", "gpu"]
    worker = subprocess.Popen(command, env={"TASKORCH_TOKEN": token})
    train = Task("program", Program(["echo", "trained"]), requires=["gpu"])
    print(orch.submit_task(train).result(60).stdout_tail)
    worker.terminate()
    worker.wait(60)
