"""Names that count as they are written: no pattern is accepted without effect."""

import pytest

from taskorch import Task, TaskOrchestrator
from taskorch.errors import InvalidTaskError
from taskorch.ext.people import Tokens
from taskorch.ext.recovery import Rule
from taskorch.model import Quota
from taskorch.policies import FairShareQueue

PLACES = {
    "a quota of a type": lambda name, _: Quota(type=name, max_parallel=1),
    "a quota of a tenant": lambda name, _: Quota(owner=name, soft=True),
    "a quota of a run": lambda name, _: Quota(workflow=name, max_parallel=1),
    "a quota of a document": lambda name, _: Quota.of({"type": name}),
    "the weight of a tenant": lambda name, _: FairShareQueue({name: 2}),
    "a capability of a worker": lambda name, orch: orch.agent("a", capabilities=[name]),
    "a budget": lambda name, orch: orch.budget(name, tokens=1),
    "a tenant of a token": lambda name, _: Tokens("tokens.json").add(
        "ada", roles=["operate"], tenants=[name]
    ),
    "who may answer": lambda name, _: Task.question("Go?", who=[name]),
    "a role that may answer": lambda name, _: Task.question(
        "Go?", who=[f"role:{name}"]
    ),
    "who may not answer": lambda name, _: Task.question("Go?", not_by=["ada", name]),
    "errors of a class of failures": lambda name, _: Rule("network", error=name),
    "tasks of a tenant": lambda name, orch: orch.tasks(owner=name),
    "tasks of a type": lambda name, orch: orch.tasks(type=name),
    "tasks of a worker": lambda name, orch: orch.tasks(agent=name),
    "allocations of a tenant": lambda name, orch: orch.resources.allocations(
        owner=name
    ),
    "an event that is emitted": lambda name, orch: orch.emit(name),
    "an event that is waited for": lambda name, _: Task.wait_for(name),
    "backfills of a schedule": lambda name, orch: orch.schedules.backfills(name),
    "results that are forgotten": lambda name, orch: orch.memo.clear(type=name),
}


@pytest.mark.parametrize("place", PLACES)
def test_a_pattern_is_refused_where_names_are_exact(place, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with TaskOrchestrator() as orch:
        for name in ("*", "a*", "a?", "*.b"):
            with pytest.raises(InvalidTaskError, match=r"pattern|no safe id") as caught:
                PLACES[place](name, orch)
            assert place == "a budget" or caught.value.hint, name
        PLACES[place]("name", orch)
