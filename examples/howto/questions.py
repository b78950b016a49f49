from taskorch import Task, TaskOrchestrator

with TaskOrchestrator() as orch:
    question = Task.question(
        "Publish tonight's prices?",
        id="approval",
        who=("ada", "bob", "cy"),  # nobody else
        quorum=2,  # two must agree
        owner="cy",
        not_by="requester",  # not cy, who asks
        due=86_400,
        remind=3_600,
        details={"changed": 12},
    )
    orch.submit(print, "published:", orch.submit_task(question))
    for each in orch.questions():
        print(each.text, each.options, each.details)
        each.answer("approve", by="ada")
    orch.answer("approval", "approve", by="bob", note="looks right")
