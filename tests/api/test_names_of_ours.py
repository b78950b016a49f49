"""Ids that the orchestrator makes itself, which a program has taken before."""

from __future__ import annotations

import logging
from datetime import timedelta

import pytest
from tests.api.tools import eventually

from taskorch import Resources, Task, TaskOrchestrator, Workflow, current_context
from taskorch.ext.governance import ConstitutionalRuntime

RAN = []


def tick():
    RAN.append(current_context().task_id)


def spend(n):
    current_context().spent(tokens=n)


@pytest.mark.parametrize("is_run", [False, True])
def test_a_tick_that_finds_its_id_taken_says_so_and_the_next_comes(caplog, is_run):
    RAN.clear()
    flow = Workflow("flow")
    flow.add(Task.call(tick, id="one"))
    with TaskOrchestrator() as orch, caplog.at_level(logging.WARNING):
        orch.schedules.add("often", "every 1s", flow if is_run else tick)
        slots = orch.schedules.next("often", 12)
        sign, end = ("-", "/one") if is_run else ("/", "")
        names = [f"often{sign}{slot:%Y-%m-%dT%H%M%SZ}{end}" for slot in slots]
        orch.submit_tasks([Task.wait_for("never", id=name) for name in names[2:12:2]])
        eventually(
            lambda: sum(name.partition("~")[0] not in names[2:12:2] for name in RAN) > 3
        )
        eventually(
            lambda: "was not made: its id" in orch.schedules.status("often").trouble
        )
        text = str(orch.health().to_dict())
        assert "is that of another task" in text
        assert not {*RAN} & {*names[2:12:2]}
        orch.change_tasks("cancel", ids="*")
    assert "is that of another task" in caplog.text


def test_a_question_about_a_budget_is_asked_under_the_next_number():
    with TaskOrchestrator() as orch:
        taken = ["budget-b/1", "budget-b/1-2"]
        orch.submit_tasks([Task.question("lunch?", id=name) for name in taken])
        orch.budget("b", tokens=10)
        orch.submit_task(Task.call(spend, 10, budget="b")).result(60)
        more = Task.call(spend, 5, budget="b", resources=Resources(tokens=5))
        handle = orch.submit_task(more)
        eventually(lambda: [q for q in orch.questions() if q.id == "budget-b/1-3"])
        (usage,) = orch.resources.budgets()
        assert usage.question == "budget-b/1-3"
        orch.answer("budget-b/1", "approve", by="ann")
        assert not handle.done()
        orch.answer("budget-b/1-3", "raise", by="ann", changes={"tokens": 50})
        handle.result(60)
        orch.change_tasks("cancel", ids="*")


def test_the_question_of_a_budget_is_found_again_in_the_next_incarnation(tmp_path):
    journal = tmp_path / "j.db"
    for incarnation in (1, 2):
        with TaskOrchestrator(journal=journal) as orch:
            orch.submit_task(Task.question("lunch?", id="budget-b/1"))
            orch.budget("b", tokens=10)
            orch.submit_task(Task.call(spend, 10, budget="b", id="all")).result(60)
            more = Resources(tokens=5)
            task = Task.call(spend, 5, budget="b", id="more", resources=more)
            handle = orch.submit_task(task)
            eventually(lambda orch=orch: len(orch.questions()) == 2)
            assert {q.id for q in orch.questions()} == {"budget-b/1", "budget-b/1-2"}
            if incarnation == 2:
                orch.answer("budget-b/1-2", "finish", by="ann")
                handle.result(60)
                orch.cancel_task("budget-b/1", reason="over")
            orch.stop(drain=False)


POLICY = {
    "policies": [
        {
            "id": "no-danger",
            "principle": "s",
            "severity": "critical",
            "rules": [
                {
                    "id": "t",
                    "condition": "task.type",
                    "operator": "not_equals",
                    "value": "danger",
                }
            ],
        }
    ]
}


def test_a_waiver_takes_the_next_number_and_no_policy_is_passed_by_a_name():
    rules = ConstitutionalRuntime.from_dict(POLICY)

    def ask():
        return rules.request_waiver(
            "no-danger", reason="r", requested_by="ann", expires=timedelta(minutes=5)
        )

    class WaiverRequest:
        pass

    with TaskOrchestrator(governance=rules) as orch:
        base, _, number = ask().id.rpartition("-")
        taken = [f"{base}-{int(number) + n}" for n in (1, 2)]
        orch.submit_tasks([Task.question("lunch?", id=name) for name in taken])
        assert ask().id not in taken
        with pytest.raises(Exception, match="no-danger"):
            orch.submit_task(Task("danger", WaiverRequest()))
        orch.change_tasks("cancel", ids="*")
