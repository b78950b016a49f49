"""
A router of your own: tasks of one customer go to the same agent, whose caches are warm.

The choice is a hash of customer and agent, so a restart keeps it. Only agents that have
room are candidates, so no task waits for a busy favourite.
"""

from collections.abc import Sequence
from zlib import crc32

from taskorch import Resources, Task, TaskContext, TaskOrchestrator
from taskorch.protocols import AgentView, Context, Route


class StickyRouter:
    def __init__(self, key: str) -> None:
        self.key = key

    def route(
        self, task: Task, candidates: Sequence[AgentView], context: Context
    ) -> Route:
        value = (task.metadata or {}).get(self.key)
        if value is None:
            least = min(candidates, key=lambda agent: agent.running)
            return Route(least.name, reason="no key, so the least busy")
        best = max(
            candidates, key=lambda agent: crc32(f"{value} {agent.name}".encode())
        )
        return Route(best.name, reason=f"favourite of {self.key}={value}")


orch = TaskOrchestrator(router=StickyRouter("customer"), resources=Resources(cpu=4))


@orch.agent("paris", capabilities={"invoice"}, max_concurrency=4)
@orch.agent("tokyo", capabilities={"invoice"}, max_concurrency=4)
def invoice(task: Task, context: TaskContext) -> str:
    return f"invoice for {task.payload['customer']}"


def main() -> None:
    customers = ["ada", "bob", "cleo", "dan"] * 2
    with orch:
        for customer in customers:
            metadata = {"customer": customer}
            handle = orch.submit_task(Task("invoice", metadata, metadata=metadata))
            handle.result()
            status = orch.get_task_status(handle.task_id)
            print(f"{customer:5} {status.agent_id}")


if __name__ == "__main__":
    main()
