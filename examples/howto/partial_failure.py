"""A map of which some calls may fail."""

from taskorch import TaskFailedError, TaskOrchestrator, Workflow, task


@task
def price(item: str) -> float:
    return float(item)


def total(prices: list[float | TaskFailedError]) -> str:
    good = [each for each in prices if not isinstance(each, TaskFailedError)]
    return f"{sum(good)}, without {len(prices) - len(good)}"


items = ["1.5", "2", "unknown", "4"]
with TaskOrchestrator() as orch:
    night = Workflow("night")
    prices = night.map(price, items, id="prices", allow_failures="25%")
    night.task(total, prices)
    run = orch.workflows.start(night, id="monday")
    print(run.result()["total"])  # 7.5, without 1
    print(run.status().allowed)  # ('prices/2',)
