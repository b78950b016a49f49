import json
from pathlib import Path

from taskorch import Task, TaskOrchestrator

SHOPS = ["berlin", "lima", "osaka"]


def download(shop: str) -> int:
    print(f"downloading the sales of {shop}")
    return 100 * len(shop)  # a long request


def write_report(sales: list[int]) -> str:
    Path("report.json").write_text(json.dumps(dict(zip(SHOPS, sales, strict=True))))
    return f"{sum(sales)} in all"


for _ in range(2):  # the second run repeats nothing
    with TaskOrchestrator(journal="night.db") as orch:
        sales = [Task.call(download, shop, id=f"download/{shop}") for shop in SHOPS]
        report = Task.call(write_report, orch.submit_tasks(sales), id="report")
        text = orch.submit_task(report)
        key = "mail 2031-01-01"
        orch.submit_task(Task.call(print, "mail:", text, idempotency_key=key))
        print(text.result())  # 1500 in all
