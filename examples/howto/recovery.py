from taskorch import Resources, Task, TaskOrchestrator
from taskorch.ext.recovery import RecoveryHandler


def load_table() -> None:
    raise MemoryError


with TaskOrchestrator(
    retry_handler=RecoveryHandler(retry_delay_seconds=0),
    resources=Resources(memory_mb=300),
) as orch:
    memory = Resources(memory_mb=100)
    orch.submit_task(Task.call(load_table, id="load", resources=memory, timeout=60))
    orch.wait()
    print(orch.explain("load"))
    orch.escalations()[0].answer("skip", by="ada")
