import time

from taskorch import TaskOrchestrator


def load_sales() -> None:
    raise TimeoutError


with TaskOrchestrator() as orch:
    # orch.notify("https://alerts.example.com/hook", secret=…) or "mailto://…"
    orch.schedules.add("nightly", "0 3 * * *", load_sales)
    orch.schedules.trigger("nightly")  # now
    while orch.health().status == "ok":  # some seconds
        time.sleep(0.1)
    print(*[check.detail for check in orch.health().checks if check.status != "ok"])
