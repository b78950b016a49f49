from time import sleep

from taskorch import Task, TaskOrchestrator, task


@task
def render(page):
    sleep(0.04 + page % 5 / 100)


with TaskOrchestrator(concurrency=2) as orch:
    list(orch.map(render, range(20)))
    orch.submit_tasks(Task.call(render, n, id=f"page-{n}") for n in range(80))
    print(orch.when("page-79", deadline=60))
