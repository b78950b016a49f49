from operator import add

from taskorch import TaskOrchestrator, Workflow, WorkflowFailedError

ANSWERING = {"berlin", "osaka"}


def list_shops() -> list[str]:
    return ["berlin", "lima", "osaka"]


def download(shop: str) -> int:
    if shop not in ANSWERING:
        raise ConnectionError(shop)
    return 100 * len(shop)


def write_report(total: int) -> str:
    return f"sales: {total}"


night = Workflow("night")
sales = night.map(download, night.task(list_shops), id="sales", max_parallel=2)
total = night.reduce(add, sales, id="total")
night.task(write_report, total, id="report", timeout=30)

with TaskOrchestrator() as orch:
    run = orch.workflows.start(night, id="monday")
    try:
        run.result()
    except WorkflowFailedError as error:
        print(error.failures)
    ANSWERING.add("lima")  # mended
    orch.workflows.restart("monday")
    print(run.result()["report"])  # sales: 1500
