from taskorch import Task, TaskOrchestrator


def change(paths: str) -> str:
    return f"changed {paths}"


with TaskOrchestrator() as orch:
    tasks = [
        Task.call(change, "the parser", id="parser", writes=["src/parser/**"]),
        Task.call(change, "all sources", id="rename", writes=["src/**", "README.md"]),
        Task.call(change, "a page", id="page", writes=["docs/parser.md"]),
    ]
    for handle in orch.submit_tasks(tasks):
        print(handle.result())
