from taskorch import Task, TaskOrchestrator
from taskorch.policies import FairShareQueue, FifoQueue
from taskorch.protocols import TaskQueue

MINUTES = {"report": 60.0, "training": 240.0}
NIGHT = [Task.call(print, type="report", owner="sales") for _ in range(4)]
NIGHT.append(Task.call(print, type="training", owner="research"))


def show(name: str, queue: TaskQueue | None) -> None:
    orch = TaskOrchestrator(concurrency=2, queue=queue)
    night = orch.simulate(NIGHT, MINUTES)
    print(f"{name}: {night.makespan:.0f} minutes")


show("default", None)  # long tasks first
show("fifo", FifoQueue())
show("fair", FairShareQueue())  # one slot for each tenant
