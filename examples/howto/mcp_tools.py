import sys

from taskorch import Task, TaskOrchestrator

with TaskOrchestrator(journal="night.db") as night:
    night.submit(sum, [20, 70]).result()

orch = TaskOrchestrator()
orch.agents.mcp("night", command=[sys.executable, "-m", "taskorch", "mcp", "night.db"])
with orch:
    find = Task("ask", {"state": "completed"}, requires=["night.find"], timeout=60)
    print(orch.submit_task(find).result())
