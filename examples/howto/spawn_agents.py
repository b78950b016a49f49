from taskorch import Task, TaskOrchestrator


def check(task, context):
    return f"{task.payload} is fine"


orch = TaskOrchestrator(unknown_capability="wait")
orch.agents.template("checker", capabilities={"check": 3}, handler=check)
with orch:
    orch.agents.pool("checker", min_agents=1, max_agents=6)
    parcels = [Task("parcel", n, requires=["check:2"]) for n in range(20)]
    print([handle.result() for handle in orch.submit_tasks(parcels)][-1])
    for decision in orch.agents.explain_scaling():
        print(decision.before, "→", decision.after, decision.reason)

    orch.agents.spawn("checker", {"id": "night-shift"})
    for candidate in orch.agents.match(["check:4"]):
        print(candidate.agent.id, candidate.matches, candidate.reason)
    orch.agents.drain("night-shift", "its disk is full")
    orch.agents.terminate("night-shift")
