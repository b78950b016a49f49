from taskorch import Task, TaskOrchestrator
from taskorch.ext.governance import ConstitutionalRuntime
from taskorch.kit.canonical import canonical

policies = {
    "policies": [
        {
            "id": "no-deletes",
            "principle": "safety",
            "severity": "critical",
            "rules": [
                {
                    "id": "type",
                    "condition": "task.type",
                    "operator": "not_equals",
                    "value": "delete",
                    "message": "nothing is deleted",
                }
            ],
        }
    ]
}
rt = ConstitutionalRuntime.from_dict(policies)
with TaskOrchestrator(journal="runs.db", governance=rt) as orch:
    waiver = rt.request_waiver(
        "no-deletes",
        "maintenance/*",
        reason="the yearly clean-up",
        requested_by="ada",
        expires=3_600,
        approvals=2,
    )
    rt.approve_waiver(waiver.id, by="bob")
    print(rt.approve_waiver(waiver.id, by="cyd").state)  # active
    clean = Task.call(print, "deleted", id="maintenance/logs", type="delete")
    orch.submit_task(clean).result()
    print(rt.audit_operation("maintenance/logs"))
    print(canonical(rt.receipts("maintenance/logs")[0]).decode())
    rt.revoke_waiver(waiver.id, by="bob", reason="it is done")

print(rt.replay("runs.db"))
