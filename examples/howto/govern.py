from pathlib import Path

from taskorch import Task, TaskOrchestrator
from taskorch.errors import PolicyDeniedError

Path("policies.yaml").write_text("""
policies:
  - id: no-deletes
    principle: safety
    severity: critical
    rules:
      - {id: type, condition: task.type, operator: not_equals, value: delete}
  - id: no-cards
    principle: privacy
    severity: medium
    rules:
      - {id: card, condition: task.payload.kwargs.card, operator: not_exists}
    change: {task.payload.kwargs.card: hidden}
  - id: large
    principle: fairness
    severity: high
    when: has(task.resources.memory_mb) && task.resources.memory_mb > 4096.0
""")


def call(**arguments):
    return arguments


with TaskOrchestrator(governance="policies.yaml") as orch:
    try:
        orch.submit_task(Task.call(call, type="delete"))
    except PolicyDeniedError as error:
        print(error.verdict.reason)
    print(orch.submit(call, card="4000 1234").result())
