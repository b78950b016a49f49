"""The table of all waits in `docs/howto/explain.md` is complete, and says what is so."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from tests.integration.tools import Hold, eventually

from taskorch import Task, TaskOrchestrator, Workflow
from taskorch.model import Blocker, Quota

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/howto/explain.md").read_text("utf-8").partition("## All waits")[2]
ROWS = {
    kind: cells
    for line in PAGE.splitlines()
    if line.startswith("| `")
    for cells in [[cell.strip() for cell in line.strip("|").split("|")]]
    for kind in re.findall(r"`(\w+)`", cells[0])
}


def test_each_kind_of_a_blocker_has_a_line():
    """Those of the docstring, and those that any file makes: no kind is left out."""
    texts = [f.read_text("utf-8") for f in (ROOT / "src/taskorch").rglob("*.py")]
    made = {
        kind for text in texts for kind in re.findall(r"\bBlocker\(\s*\"(\w+)\"", text)
    }
    assert made
    assert made <= ROWS.keys()
    told = Blocker.__doc__.partition("The kinds, with")[2]
    named = [
        kind
        for line in re.findall(r"- ((?:`\w+`(?:, )?)+):", told)
        for kind in re.findall(r"`(\w+)`", line)
    ]
    assert set(named) == ROWS.keys()


def needing(**options):
    return lambda orch: orch.submit_task(Task.call(int, id="x", **options))


def event(orch):
    wf = Workflow("w")
    wf.wait_for("paid")
    (handle,) = orch.workflows.start(wf).handles.values()
    eventually(lambda: orch.get_task_status(handle.task_id).state == "blocked")
    return handle


def suspended(orch):
    handle = needing(not_before=3600)(orch)
    orch.suspend_task("x")
    return handle


#: What waits, and the kind of its group in `stuck()`; "" if it is in none.
WAITS = {
    "dependency": (needing(after=["held"]), ""),
    "event": (event, "event"),
    "delay": (needing(not_before=3600), ""),
    "slot": (needing(), ""),
    "resource": (needing(resources={"cpu": 1}), ""),
    "quota": (needing(owner="o"), ""),
    "scope": (needing(writes=["src/a"]), ""),
    "suspended": (suspended, "suspended"),
}


@pytest.mark.parametrize("kind", WAITS)
def test_a_wait_is_told_as_the_page_says(kind):
    make, group = WAITS[kind]
    hold = Hold()
    slots = 1 if kind == "slot" else 5
    with TaskOrchestrator(concurrency=slots, resources={"cpu": 1}) as orch:
        orch.resources.set_quotas(Quota(owner="o", max_parallel=1))
        held = {"resources": {"cpu": 1}, "writes": ["src"], "owner": "o"}
        orch.submit_task(Task.call(hold, id="held", **held))
        hold.wait()
        handle = make(orch)
        kinds = [each.kind for each in orch.explain(handle.task_id).blockers]
        assert kinds == [kind]
        groups = [(each.kind, each.outside) for each in orch.stuck()]
        assert groups == ([(group, True)] if group else [])
        assert bool(group) == ("outside" in ROWS[kind][2])
        assert orch.health().status == "ok"
        hold.release()
        handle.cancel()


def test_holds_of_starts_are_told_as_the_page_says():
    with TaskOrchestrator() as orch:
        orch.hold_starts("a release", by="ann")
        handle = needing()(orch)
        kinds = [each.kind for each in orch.explain(handle.task_id).blockers]
        assert kinds == ["starts_held"]
        assert orch.stuck() == ()
        bad = [c.component for c in orch.health().checks if c.status != "ok"]
        assert bad == ["queue"]
        assert "`queue`" in ROWS["starts_held"][3]
        handle.cancel()


def test_a_task_that_no_worker_can_do_is_told_as_the_page_says():
    with TaskOrchestrator(unknown_capability="wait") as orch:
        handle = orch.submit_task(Task("paint"))
        (blocker,) = orch.explain(handle.task_id).blockers
        (group,) = orch.stuck()
        assert (blocker.kind, group.kind) == ("capability", "capability")
        assert not group.outside
        assert orch.health().status == "ok"
        handle.cancel()


def test_a_task_before_the_start_is_told_as_the_page_says():
    orch = TaskOrchestrator()
    handle = needing()(orch)
    kinds = [each.kind for each in orch.explain(handle.task_id).blockers]
    assert kinds == ["not_started"]
    assert orch.stuck() == ()
    bad = [c.component for c in orch.health().checks if c.status != "ok"]
    assert bad == ["scheduler"]
    orch.stop(drain=False)
