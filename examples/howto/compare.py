from time import sleep

from taskorch import TaskOrchestrator, task, workflow


@task
def extract(rows):
    return [*range(rows)]


@task
def load(rows):
    sleep(len(rows) / 100)


@workflow
def night(rows=2):
    load(extract(rows))


with TaskOrchestrator() as orch:
    orch.workflows.start(night, id="monday").result()
    orch.workflows.start(night(rows=60), id="tuesday").result()
    print(orch.compare("monday", "tuesday"))
