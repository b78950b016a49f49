from taskorch import RetryPolicy, TaskOrchestrator, task


def is_busy(answer: str) -> bool:
    return answer == "busy"


@task(retry=RetryPolicy(delays=[1, 5, 60], retry_if_result=is_busy), timeout=30)
def download(shop: str) -> str:
    return f"prices of {shop}"


with TaskOrchestrator(journal="runs.db") as orch:
    nightly = orch.options(timeout=300, metadata={"team": "a"})
    list(nightly.map(download, ["oslo", "rome"], id="night/{}"))
    for status in orch.tasks("completed", metadata={"team": "a"}):
        print(status.task_id, status.duration)
