import sys

from taskorch import Resources, Task, TaskOrchestrator, current_context
from taskorch.model import NamedUnits

SHOW = "import os; print('a program has', os.environ['CUDA_VISIBLE_DEVICES'])"


def evaluate() -> str:
    (gpu,) = current_context().units("gpu")
    return f"a thread has part of {gpu}"


with TaskOrchestrator(resources=Resources(cpu=4, gpu=NamedUnits("0", "1"))) as orch:
    program = Task.program([sys.executable, "-c", SHOW], resources={"gpu": 2})
    print(orch.submit_task(program).result().stdout_tail.strip())
    half = Task.call(evaluate, resources={"gpu": 0.5})
    print(orch.submit_task(half).result())
