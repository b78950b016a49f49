import sys
from pathlib import Path

from taskorch import Task, TaskOrchestrator
from taskorch.errors import ValidationFailedError
from taskorch.ext.governance import Specification, SpecificationValidator
from taskorch.policies import StructuralValidator, ValidatorChain

Path("throttle.yaml").write_text(f"""
id: throttle
title: Slow down whoever guesses passwords
risk_tier: 2
scope: {{in: [src/auth], out: [src/billing]}}
budget: release
resources: {{tokens: 50000}}
acceptance:
  - id: waits
    given: five wrong passwords
    then: the sixth guess waits
    run: [{sys.executable}, -c, "import sys; sys.exit(0)"]
""")
Path("policies.yaml").write_text("""
policies:
  - id: careful
    principle: safety
    severity: critical
    types: change
    rules:
      - {id: tier, condition: task.metadata.specification.risk_tier,
         operator: greater_than, value: 1, message: tier 1 is for people}
""")


def change():
    return "changed"


specification = Specification.from_yaml("throttle.yaml")
registered = {specification.id: specification.digest}
validator = ValidatorChain(
    StructuralValidator(), SpecificationValidator("change", registered=registered)
)
with TaskOrchestrator(validator=validator, governance="policies.yaml") as orch:
    orch.budget("release", tokens=200_000)
    try:
        orch.submit_task(Task.call(change, type="change"))
    except ValidationFailedError as error:
        print(error.findings[0][1])
    work = Task.call(change, type="change")
    for handle in orch.submit_tasks(specification.tasks(work)):
        handle.result()
        print(handle.task_id, handle.status.state)
