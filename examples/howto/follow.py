from pathlib import Path

from taskorch import TaskOrchestrator
from taskorch.events import TaskFailed

orch = TaskOrchestrator()


@orch.signals.task_failed.connect
def warn(event: TaskFailed) -> None:
    print(event.task_id, "failed:", event.error_type)


with orch, orch.show_progress(label="sales"):
    events = orch.events(types=["task_completed"])
    orch.map(Path.read_text, [Path(__file__), Path("may.csv")])
    orch.wait()

print(*events)  # they end with the orchestrator
