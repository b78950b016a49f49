"""
A router of your own that learns: the agent that has failed the least is next.

What it has learnt is kept in the journal, so the next run of the program knows it.
"""

from collections import Counter
from collections.abc import Callable, MutableMapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from taskorch import Task, TaskContext, TaskOrchestrator
from taskorch.events import TaskFailed
from taskorch.protocols import AgentView, Context, Route


class FewestFailures:
    def __init__(self) -> None:
        self.failures: Counter[str] = Counter()
        self.chosen: dict[str, str] = {}

    def route(
        self, task: Task, candidates: Sequence[AgentView], context: Context
    ) -> Route:
        best = min(candidates, key=lambda agent: self.failures[agent.name])
        self.chosen[str(task.id)] = best.name
        return Route(best.name, f"{self.failures[best.name]} failures")

    # These three make it one that learns: see `taskorch.protocols.Learns`.

    def choice_of(self, task_id: str, attempt: int) -> tuple[str, float]:
        return self.chosen.pop(task_id), 1.0

    def attach(self, orchestrator: TaskOrchestrator) -> None:
        orchestrator.signals.task_failed.connect(self.learn)

    def restore(self, kept: Callable[[str], MutableMapping[str, int]]) -> None:
        self.kept = kept("failures")
        self.failures.update(self.kept)

    def learn(self, event: TaskFailed) -> None:
        name = str(event.agent_id)
        self.failures[name] += 1
        self.kept[name] = self.failures[name]


def shaky(task: Task, context: TaskContext) -> Any:
    msg = "the blade is blunt"
    raise OSError(msg)


def sound(task: Task, context: TaskContext) -> Any:
    return "done"


def failed_in(night: str, journal: Path) -> list[str]:
    """The tasks of *night* that have failed."""
    orch = TaskOrchestrator(journal=journal, router=FewestFailures())
    orch.agent("shaky", capabilities={"cut"})(shaky)
    orch.agent("sound", capabilities={"cut"})(sound)
    with orch:
        for hour in range(3):
            orch.submit_task(Task("cut", id=f"{night}-{hour}"))
            orch.wait()
        return [task.task_id for task in orch.tasks("failed", id=f"{night}-*")]


def main() -> None:
    with TemporaryDirectory() as folder:
        journal = Path(folder, "runs.db")
        for night in ("monday", "tuesday"):
            print(night, failed_in(night, journal))


if __name__ == "__main__":
    main()
