import sys

from taskorch import Task, TaskOrchestrator
from taskorch.policies import Measured

CODE = "import time; rows = bytearray(20_000_000); time.sleep(0.1)"

measured = Measured()
with TaskOrchestrator(allocator=measured, resources={"memory_mb": 8000}) as orch:
    for number in range(8):
        task = Task.program(
            [sys.executable, "-c", CODE],
            type="convert",
            id=f"convert-{number}",
            resources={"memory_mb": 4000},
            enforce="if possible",
        )
        orch.submit_task(task).result()
    print(orch.explain("convert-7").granted)
print(measured.sizes)  # {'convert': 64.0}
