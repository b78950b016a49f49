from taskorch import Task, TaskContext, TaskOrchestrator, Workflow


def fetch(shop: str) -> str:
    return shop


def train(sales: str) -> str:
    return sales


wf = Workflow("night")
models = [
    wf.task(train, wf.task(fetch, shop), resources={"gpu": 1}, id=f"train/{shop}")
    for shop in ("lima", "oslo", "rome")
]
wf.add(Task("review", id="review", after=models))

orch = TaskOrchestrator(concurrency=4, resources={"gpu": 1})


@orch.agent("analyst", capabilities={"review"})
def review(task: Task, context: TaskContext) -> str:
    return "fine"


report = orch.simulate(wf, {"fetch": 60, "train": 3_600, "review": 1_800})
print(report)
