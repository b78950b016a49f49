from taskorch import Approval, TaskOrchestrator, Workflow


def check(region: str) -> dict[str, int]:
    return {"rows": 100 * len(region), "errors": 0}


def no_errors(results: dict[str, dict[str, int]]) -> bool:
    return all(result["errors"] == 0 for result in results.values())


night = Workflow("night")
checks = night.phase("checks", max_parallel=2, gate=[no_errors, Approval()])
for region in ("africa", "asia", "europe"):
    checks.task(check, region, id=region)
night.phase("publish", on_failure="skip").task(print, "published")

with TaskOrchestrator() as orch:
    run = orch.workflows.start(night, id="monday")
    orch.wait()  # for all but a person
    orch.workflows.approve("monday", "checks", by="ada", note="looks right")
    run.result()
    print(run.report())
