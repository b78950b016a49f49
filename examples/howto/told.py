import gc

from taskorch import TaskOrchestrator

with TaskOrchestrator() as orch:
    # orch.notify("https://alerts.example.com/hook", secret=…) or "mailto://…"
    orch.schedules.add("nightly", "0 3 * * *", gc.collect)
    print(orch.health())
