from taskorch import Resources, TaskOrchestrator
from taskorch.ext.planner import MaxCost, State, TaskRequest

orch = TaskOrchestrator(resources={"cpu": 4}, concurrency=8)
release = orch.planner.domain("release")


@release.operator(duration=30, cost=1, resources=Resources(cpu=2), run=print)
def build(state: State, part: str) -> State | None:
    return state.set(("built", part), value=True) if state.get(("src", part)) else None


@release.operator(duration=1, cost=9, run=print)
def fetch(state: State, part: str) -> State:
    return state.set(("src", part), value=True)


@release.method("ship", cost=1)
def from_here(state: State, parts: list[str]) -> list[tuple[str, str]]:
    return [("build", part) for part in parts]


@release.method("ship", cost=2)
def from_far(state: State, parts: list[str]) -> list[tuple[str, str]]:
    return [*(("fetch", part) for part in parts), *from_here(state, parts)]


parts = {"args": [["a", "b", "c"]]}
request = TaskRequest("r1", "ship", context=parts, constraints=[MaxCost(40)])
plan = orch.planner.plan(request)
print(plan.explain())
