"""
Go on from what a run has done: the train does not go, so the rest is planned by taxi.

What has completed stays; only the way that failed is replaced.
"""

from taskorch import TaskOrchestrator
from taskorch.ext.planner import State, TaskRequest

orch = TaskOrchestrator()
travel = orch.planner.domain("travel")
Steps = list[tuple[str, str]]


def ride(kind: str) -> str:
    if kind == "train":
        message = "there is no train today"
        raise OSError(message)
    return kind


@travel.operator(duration=600, run=ride)
def go(state: State, kind: str) -> State:
    return state.set("there", value=True)


@travel.operator(duration=60, run=print)
def pack(state: State, thing: str) -> State:
    return state.set("packed", thing)


@travel.method("travel")
def by_train(state: State) -> Steps:
    return [("pack", "a book"), ("go", "train")]


@travel.method("travel")
def by_taxi(state: State) -> Steps:
    return [("pack", "a book"), ("go", "taxi")]


def main() -> None:
    with orch:
        plan = orch.planner.plan(TaskRequest("trip", "travel"))
        run = orch.workflows.start(plan)
        print(run.handles["go-train"].exception())
        run.handles["pack-a-book"].result()
        rest = orch.planner.replan(run)
        print([task.id for task in rest.tasks])
        print(orch.workflows.start(rest).result())


if __name__ == "__main__":
    main()
