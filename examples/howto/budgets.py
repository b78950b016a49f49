from taskorch import Resources, Task, TaskOrchestrator, current_context


def review(page: int) -> str:
    # What the model says that it has used.
    current_context().spent(tokens=11_840, eur=0.06)
    return f"page {page} is fine"


with TaskOrchestrator() as orch:
    with orch.budget("release", tokens=200_000, eur=15) as budget:
        most = Resources(tokens=20_000, eur=0.5)
        reviews = [Task.call(review, page, resources=most) for page in range(4)]
        for handle in orch.submit_tasks(reviews):
            print(handle.result())
    print(budget.usage.spent["tokens"], "of", budget.usage.total["tokens"])
