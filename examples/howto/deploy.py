"""A night fails, a new version is deployed, and the night is run again as deployed."""

from taskorch import TaskOrchestrator, Workflow


def extract():
    return [3, -1, 4]


def clean(rows):
    return [row for row in rows if row >= 0]


def load(rows):
    assert min(rows) >= 0, "a row is negative"
    return sum(rows)


def sales(version):
    flow = Workflow("sales")
    rows = flow.task(extract)
    if version == 2:
        rows = flow.task(clean, rows)
    flow.task(load, rows, timeout=10 * version)
    return flow


RUN = "sales-2026-11-24T0300Z"
with TaskOrchestrator(journal="sales.db") as orch:
    orch.schedules.add("sales", "0 3 * * *", sales(version=1))
    orch.schedules.backfill("sales", "2026-11-24", "2026-11-25")
    orch.wait()
    print(orch.workflows.status(RUN).state)

with TaskOrchestrator(journal="sales.db") as orch:
    orch.schedules.add("sales", "0 3 * * *", sales(version=2))
    print(orch.workflows.restart(RUN).result())
    for version in orch.workflows.versions(RUN):
        print(version)
