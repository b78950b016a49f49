from pathlib import Path

from taskorch import SqliteJournal, Task, TaskOrchestrator
from taskorch.events import TaskCompleted
from taskorch.testing import for_every_crash_point


def load(shop: str) -> str:
    return f"sales of {shop}"


def workload(journal: Path) -> None:
    with TaskOrchestrator(journal=journal, durability="process") as orch:
        task = Task.call(load, "oslo", id="load/oslo")
        assert orch.submit_task(task).result(timeout=30) == "sales of oslo"


def check(journal: Path) -> None:
    kinds = [type(event) for event, _ in SqliteJournal(journal).read()]
    assert kinds.count(TaskCompleted) == 1


if __name__ == "__main__":
    print(for_every_crash_point(workload, check=check))
