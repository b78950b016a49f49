"""Build on the machines that a task names, and see why one waits."""

from taskorch import Task, TaskOrchestrator


def build(task, context):
    return f"{task.payload} is built"


with TaskOrchestrator(unknown_capability="wait") as orch:
    orch.agent("builder", capabilities={"build"})(build)
    here = "platform:" + orch.agents.get("builder").labels["platform"]
    done = orch.submit_task(Task("build", "the wheel", requires=[here]))
    print(done.result())

    waits = orch.submit_task(Task("build", "the old wheel", requires=["python:2.7"]))
    print(orch.explain(waits.task_id))
    orch.cancel_task(waits.task_id)
