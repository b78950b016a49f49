"""What orchestrators do that spawn processes for workers, and are killed."""

import json
import os
import sys
import threading
import time

from tests.worlds.faults.tools import PATIENCE, say

from taskorch import Task, TaskOrchestrator
from taskorch.ext.service import create_app, serve

TOKEN = "a-token-of-sixteen-letters"
#: It heeds neither SIGTERM nor the end of its input, and what it has started is in
#: another session.
DEAF = "trap '' TERM HUP; setsid sleep 6000 & read -r line; sleep 6000; sleep 6000"


def agents(journal, port):
    """Three workers in processes, of which two have work; their pids are said."""
    os.environ["TASKORCH_TOKEN"] = TOKEN
    orch = TaskOrchestrator(journal=journal, unknown_capability="wait", grace=0.5)
    served = create_app(orch, token=TOKEN, agents=True)
    with orch, serve(served, port=int(str(port.name))) as server:
        command = [sys.executable, "-m", "taskorch", "agent", "--agent-id", "{id}"]
        command += ["--orchestrator-endpoint", server.url, "--lease", "2"]
        command += ["--call", "sleep=time:sleep"]
        orch.agents.template(
            "far", executor="service", capabilities=["sleep"], start=command
        )
        start = ["sh", "-c", DEAF]
        orch.agents.template(
            "deaf", executor="service", capabilities=["deaf"], start=start
        )
        orch.agents.template("l", executor="lines", capabilities=["l"], start=start)
        orch.agents.pool("far", min_agents=1, max_agents=1, interval=0.1)
        for name in ("deaf", "l"):
            orch.agents.spawn(name)
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            here = orch.agents.list()
            if any(one.status == "idle" and one.type == "far" for one in here):
                break
            time.sleep(0.01)
        orch.submit_task(Task("sleep", 6000, requires=["sleep"]))
        orch.submit_task(Task("l", 1, requires=["l"]))
        names = {one.id for one in here if one.pid}
        while not orch.agents.get("l-1").workload:
            time.sleep(0.01)
        say(json.dumps([orch.agents.get(name).pid for name in sorted(names)]))
        threading.Event().wait(PATIENCE)
