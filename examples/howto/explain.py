import threading

from taskorch import Resources, Task, TaskOrchestrator

go = threading.Event()


def train() -> None:
    go.wait(30)


with TaskOrchestrator(resources=Resources(memory_mb=100)) as orch:
    large, small = Resources(memory_mb=80), Resources(memory_mb=30)
    orch.submit_task(Task.call(train, id="train", resources=large))
    orch.submit_task(Task.call(print, "scores", id="score", resources=small))
    print(orch.explain("score"))
    go.set()

    orch.submit_task(Task.call(open, "prices.csv", id="load"))
    orch.submit_task(Task.call(print, "report", id="report", after=["load"]))
    orch.wait()
    print(*orch.stuck())
