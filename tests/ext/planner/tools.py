"""What the tests of the planner share."""

from __future__ import annotations

from taskorch import Resources
from taskorch.ext.planner import Domain, TaskRequest


def do(what):
    return what


def release() -> Domain:
    """Parts are built, from sources that may have to be fetched, and published."""
    domain = Domain("release")

    @domain.operator(duration=30, cost=1, resources=Resources(cpu=2), run=do)
    def build(state, part):
        return state.set(("built", part), True) if state.get(("src", part)) else None

    @domain.operator(duration=1, cost=9, run=do)
    def fetch(state, part):
        return state.set(("src", part), True)

    @domain.operator(duration=5, cost=3, run=do)
    def publish(state, parts):
        built = all(state.get(("built", part)) for part in parts)
        return state.set("published", True) if built else None

    @domain.method("ship", cost=1)
    def from_here(state, parts):
        return [*(("build", part) for part in parts), ("publish", parts)]

    @domain.method("ship", cost=2)
    def from_far(state, parts):
        return [*(("fetch", part) for part in parts), *from_here(state, parts)]

    return domain


def request(*parts, **fields) -> TaskRequest:
    return TaskRequest("r1", "ship", context={"args": [list(parts)]}, **fields)
