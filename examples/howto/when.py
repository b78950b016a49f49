from time import sleep

from taskorch import TaskOrchestrator, task


@task
def render(page):
    sleep(page / 200)


with TaskOrchestrator(concurrency=2) as orch:
    list(orch.map(render, range(20)))
    handles = [orch.submit(render, page) for page in range(40)]
    print(orch.when(handles[-1].task_id, deadline=60))
