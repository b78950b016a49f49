from taskorch import AtLeast, Task, TaskOrchestrator


def download(mirror: str) -> str:
    if mirror == "oslo":
        raise ConnectionError(mirror)
    return f"prices of {mirror}"


def compare(*prices: str | None) -> str:
    return f"{len(prices) - prices.count(None)} prices"


with TaskOrchestrator() as orch:
    prices = [orch.submit(download, name) for name in ("kyiv", "lima", "oslo")]
    two = Task.call(compare, *prices, join=AtLeast(2))
    print(orch.submit_task(two).result())  # 2 prices
    orch.submit_task(Task.call(print, "clean-up", after=prices, join="finished"))
    orch.submit_task(Task.call(print, *prices, on_parent_failure="skip"))
