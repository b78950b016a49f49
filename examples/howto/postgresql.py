from taskorch import PostgresJournal, Task, TaskOrchestrator

journal = PostgresJournal(
    "postgresql://db.example.com/jobs", partition="billing", standby=True
)
with TaskOrchestrator(journal=journal) as orch:
    invoices = [Task.call(sum, [20, n], id=f"invoice/{n}") for n in range(3)]
    total = Task.call(sum, orch.submit_tasks(invoices), id="total")
    print(orch.submit_task(total).result())  # 63
