import time

from taskorch import Elastic, Resources, Task, TaskOrchestrator, current_context


def train(epochs: int) -> list[float]:
    context = current_context()
    cores = []
    for _ in range(epochs):
        cores.append(context.allocation["cpu"])
        time.sleep(0.1)  # trains on that many cores
        context.checkpoint()
    return cores


with TaskOrchestrator(resources={"cpu": 16}) as orch:
    wants = Elastic(Resources(cpu=16), min={"cpu": 2})
    large = orch.submit_task(Task.call(train, 8, resources=wants))
    time.sleep(0.25)
    orch.submit_task(Task.call(train, 2, resources=wants))
    print(large.result())  # such as 16, 16, 16, 8, 8, 16, 16, 16
