"""Policies are asked about what is new, as it is now, and with all that has happened."""

from __future__ import annotations

import itertools
import re
import threading
from pathlib import Path
from typing import Any

import pytest
from tests.api.tools import PATIENCE, eventually
from tests.ext.proofs.proving import forget

from taskorch import (
    RetryPolicy,
    SqliteJournal,
    Task,
    TaskOrchestrator,
    Workflow,
    current_context,
)
from taskorch.errors import PolicyDeniedError, TaskorchError
from taskorch.ext.command_line import main
from taskorch.ext.governance import (
    ConstitutionalRuntime,
    HistoryRule,
    Operation,
    Past,
    Policy,
    PolicyCase,
)

SECRET = "4000-1234-5678"
MASK: dict[str, Any] = {
    "id": "mask",
    "principle": "privacy",
    "severity": "medium",
    "types": "deploy",
    "rules": [
        {
            "id": "card",
            "condition": "payload.args[0]",
            "operator": "not_contains",
            "value": "4000-",
            "missing": "passes",
        }
    ],
    "change": {"payload.args[0]": "hidden"},
}
NO_DEPLOYS: dict[str, Any] = {
    "id": "no-deploys",
    "principle": "safety",
    "severity": "critical",
    "rules": [
        {
            "id": "t",
            "condition": "task.type",
            "operator": "not_equals",
            "value": "deploy",
        }
    ],
}
COUNT: dict[str, Any] = {
    "id": "rate",
    "principle": "safety",
    "severity": "critical",
    "at": "submit",
    "types": "deploy",
    "history": [
        {
            "id": "n",
            "count": {"event": "submitted", "type": "deploy"},
            "at_most": 1,
            "within": 3600,
        }
    ],
}


def governed(
    path: Path | None, *policies: dict[str, Any], **options: Any
) -> TaskOrchestrator:
    runtime = ConstitutionalRuntime.from_dict({"policies": list(policies)})
    return TaskOrchestrator(governance=runtime, journal=path, **options)


def by_id(orch: TaskOrchestrator) -> list[Any]:
    task = Task.call(str, SECRET, id="load", type="deploy")
    return [orch.submit_task(task).result(PATIENCE)]


def by_key(orch: TaskOrchestrator) -> list[Any]:
    task = Task.call(str, SECRET, idempotency_key="k", type="deploy")
    return [orch.submit_task(task).result(PATIENCE) for _ in range(2)]


def in_a_batch(orch: TaskOrchestrator) -> list[Any]:
    deploy = Task.call(str, SECRET, id="load", type="deploy")
    other = Task.call(len, deploy, id="report", type="report")
    return [each.result(PATIENCE) for each in orch.submit_tasks([deploy, other])]


def in_a_workflow(orch: TaskOrchestrator) -> list[Any]:
    workflow = Workflow("night")
    deploy = workflow.add(Task.call(str, SECRET, id="load", type="deploy"))
    workflow.add(Task.call(len, deploy, id="report", type="report"))
    run = orch.workflows.start(workflow, id="night-1")
    run.result(PATIENCE)
    names = [f"night-1/{name}" for name in ("load", "report")]
    return [orch.handle(name).result(PATIENCE) for name in names]


SCRIPTS = (by_id, by_key, in_a_batch, in_a_workflow)
#: What the policies are in the first run and in the second; whether a waiver lets the
#: first run pass, which the second has not any more.
GOVERNED = {
    "a mask": ((MASK,), (MASK,), ""),
    "a mask and a count": ((MASK, COUNT), (MASK, COUNT), ""),
    "a mask that was waived": ((MASK,), (MASK,), "mask"),
    "a denial that was waived": ((NO_DEPLOYS,), (NO_DEPLOYS,), "no-deploys"),
    "a denial that is new": ((), (NO_DEPLOYS,), ""),
    "a count": ((COUNT,), (COUNT,), ""),
}


#: Each script, and each of the policies, with one of the others; at length, with all.
PAIRS = [
    pytest.param(
        script,
        policies,
        marks=()
        if number % len(SCRIPTS) == which
        else pytest.mark.slow("all scripts with all policies"),
        id=f"{script.__name__}-{policies}",
    )
    for which, script in enumerate(SCRIPTS)
    for number, policies in enumerate(GOVERNED)
]


@pytest.mark.parametrize(("script", "policies"), PAIRS)
def test_a_durable_script_gets_its_results_again(
    tmp_path: Path, script: Any, policies: str
) -> None:
    first, second, waived = GOVERNED[policies]
    path = tmp_path / "runs.db"
    with governed(path, *first) as orch:
        waiver = None
        if waived:
            waiver = orch.governance.request_waiver(
                waived, "*", reason="move", requested_by="ada", expires=3600
            )
            orch.governance.approve_waiver(waiver.id, by="bob")
        results = script(orch)
        if waiver is not None:
            orch.governance.revoke_waiver(waiver.id, by="bob", reason="done")
        # Within the same incarnation, too.
        assert script(orch) == results
    for _ in range(2):
        with governed(path, *second) as orch:
            assert script(orch) == results


def test_another_task_of_the_same_id_is_refused_and_shows_nothing_hidden(
    tmp_path: Path,
) -> None:
    path = tmp_path / "runs.db"
    with governed(path, MASK) as orch:
        orch.submit_task(Task.call(max, SECRET, "b", id="load", type="deploy")).result(
            PATIENCE
        )
        with pytest.raises(TaskorchError) as refused:
            orch.submit_task(Task.call(max, SECRET, "c", id="load", type="deploy"))
    assert "args[1]" in str(refused.value)
    assert SECRET not in str(refused.value)
    kept = [each.read_bytes() for each in tmp_path.iterdir() if each.is_file()]
    assert not any(SECRET.encode() in each for each in kept)


def test_a_task_that_is_run_again_is_masked_as_well(tmp_path: Path) -> None:
    """It had failed in an earlier incarnation, and its script submits it anew."""
    path = tmp_path / "runs.db"
    for _ in range(2):
        with governed(path, MASK) as orch:
            handle = orch.submit_task(Task.call(int, SECRET, id="load", type="deploy"))
            assert "hidden" in str(handle.exception(PATIENCE))
            assert SECRET not in str(handle.exception(PATIENCE))


def test_another_task_in_the_place_of_one_is_judged(tmp_path: Path) -> None:
    with governed(tmp_path / "runs.db", NO_DEPLOYS) as orch:
        orch.submit_task(Task.call(len, "a", id="d", type="report")).result(PATIENCE)
        with pytest.raises(PolicyDeniedError):
            orch.submit_task(Task.call(len, "a", id="d", type="deploy"), replace=True)


# -- as it is now ----------------------------------------------------------------------


def rule(path: str, operator: str, value: Any) -> dict[str, Any]:
    return {"id": "r", "condition": path, "operator": operator, "value": value}


def test_a_start_is_judged_with_the_options_that_a_task_has_by_then(
    tmp_path: Path,
) -> None:
    policy = {
        "id": "urgent",
        "principle": "x",
        "severity": "critical",
        "at": "start",
        "rules": [rule("task.priority", "less_than", 90)],
    }
    path = tmp_path / "runs.db"
    with governed(path, policy) as orch:
        first = orch.submit_task(Task.wait_for("go", id="first"))
        orch.submit_task(Task.call(len, "a", id="p", priority=1, after=[first]))
        orch.set_priority("p", 95)
        orch.emit("go", None)
        eventually(lambda: orch.get_task_status("p").state == "blocked")
        runtime = ConstitutionalRuntime.from_dict({"policies": [policy]})
    differences = [
        each
        for each in runtime.replay(path).moments
        if each.verdict.decision != each.then
    ]
    assert not differences


# -- what has happened -----------------------------------------------------------------


def history(event: str, form: str = "never_after", **fields: Any) -> dict[str, Any]:
    return {
        "id": "frozen",
        "principle": "safety",
        "severity": fields.pop("severity", "critical"),
        "at": "start",
        "types": "deploy",
        "history": [{"id": "n", form: {"event": event, "type": "canary"}, **fields}],
    }


def canary(orch: TaskOrchestrator, count: int = 1) -> None:
    for number in range(count):
        orch.submit_task(Task.call(int, "x", id=f"c{number}", type="canary")).exception(
            PATIENCE
        )


def is_denied(orch: TaskOrchestrator, name: str) -> bool:
    handle = orch.submit_task(Task.call(len, "abc", id=name, type="deploy"))
    eventually(lambda: orch.get_task_status(name).state in ("blocked", "completed"))
    del handle
    return orch.get_task_status(name).state == "blocked"


@pytest.mark.slow("three lives for each rule")
@pytest.mark.parametrize(
    "policy",
    [
        history("failed"),
        history("failed", "count", at_most=1),
        history("failed", within=3600),
    ],
)
@pytest.mark.parametrize("by", ["command", "journal"])
def test_what_a_rule_counts_outlives_retention(
    tmp_path: Path, policy: dict[str, Any], by: str
) -> None:
    path = tmp_path / "runs.db"
    with governed(path, policy) as orch:
        canary(orch, 2)
        assert is_denied(orch, "d1")
    options: dict[str, Any] = {}
    if by == "command":
        assert main(["prune", str(path), "--yes", "--older-than", "0s"]) == 0
    else:
        options = {"keep_latest": 0}
    for incarnation in range(2):
        runtime = ConstitutionalRuntime.from_dict({"policies": [policy]})
        journal = SqliteJournal(path, **options)
        with TaskOrchestrator(governance=runtime, journal=journal) as orch:
            assert is_denied(orch, f"d2-{incarnation}")
    assert not any(status.type == "canary" for status in _statuses(path)), (
        "nothing was pruned: this tests nothing"
    )


def _statuses(path: Path) -> list[Any]:
    from taskorch.ext.views import JournalReader

    return list(JournalReader(path).tasks())


@pytest.mark.parametrize(("severity", "denied"), [("critical", True), ("low", False)])
def test_of_events_that_nobody_counted_it_is_said_that_nobody_knows(
    tmp_path: Path, severity: str, denied: bool
) -> None:
    """The rule is new, and events have left the journal before."""
    path = tmp_path / "runs.db"
    with TaskOrchestrator(journal=path) as orch:
        canary(orch)
    assert main(["prune", str(path), "--yes", "--older-than", "0s"]) == 0
    with governed(path, history("failed", severity=severity)) as orch:
        assert is_denied(orch, "d1") == denied
        told = str(orch.explain("d1")) if denied else ""
        assert not denied or re.search("have left the journal", told)
    # What is too long ago to count does not matter.
    with governed(path, history("failed", within=1e-9)) as orch:
        assert not is_denied(orch, "d3")


def verdict(rule: HistoryRule, *events: dict[str, Any], kind: str = "deploy") -> bool:
    policy = Policy("p", "safety", "critical", history=[rule], at=("submit", "start"))
    asked = Operation(type=kind, id="new", moment="start")
    case = PolicyCase(asked, "allow", before=list(events))
    return bool(ConstitutionalRuntime([policy]).judge_case(case, now=1_000.0).compliant)


def event(
    name: str, ago: float, task_id: str = "a", kind: str = "deploy"
) -> dict[str, Any]:
    return {"event": name, "ago": ago, "id": task_id, "type": kind}


def test_an_id_that_starts_again_has_ended_before_whatever_it_is_now() -> None:
    rule = HistoryRule("h", count=Past("started", "deploy"), at_most=1, within=10)
    long_ago = event("started", 40)
    assert not verdict(rule, long_ago)
    assert verdict(rule, long_ago, event("started", 30, kind="review"))


def test_of_an_attempt_of_long_ago_another_one_counts_alone() -> None:
    rule = HistoryRule("h", count=Past("started", "deploy"), at_most=2, within=10)
    assert verdict(rule, event("started", 40), event("started", 5))
    assert not verdict(rule, event("started", 40), event("started", 5, "b"))
    # The same if the window has gone on since the latest.
    assert verdict(rule, event("started", 12), event("started", 5))
    assert not verdict(rule, event("started", 12), event("started", 5, "b"))
    assert verdict(
        rule, event("started", 40), event("started", 30), event("failed", 20)
    )


def go_on_until(end: threading.Event, error: str) -> None:
    context = current_context()
    while not end.wait(0.005):
        context.checkpoint()
    if error:
        raise OSError(error)


@pytest.mark.parametrize(
    "how", ["completed", "failed", "retrying", "cancelled", "suspended"]
)
def test_an_attempt_counts_on_until_it_ends_in_whatever_way(how: str) -> None:
    """One deployment at a time, however long it takes: its start is long ago."""
    policy = {
        "id": "one",
        "principle": "safety",
        "severity": "critical",
        "at": "start",
        "types": "deploy",
        "history": [
            {
                "id": "n",
                "count": {"event": "started", "type": "deploy"},
                "at_most": 1,
                "within": 1e-6,
            }
        ],
    }
    end = threading.Event()
    error = "no" if how in ("failed", "retrying") else ""
    retry = RetryPolicy(max_attempts=2 if how == "retrying" else 1, base=3600)
    with governed(None, policy) as orch:
        first = Task.call(go_on_until, end, error, type="deploy", retry=retry)
        running = orch.submit_task(first)
        eventually(lambda: running.status.state == "running")
        second = orch.submit_task(Task.call(len, "abc", type="deploy"))
        eventually(lambda: second.status.state == "blocked")
        if how == "cancelled":
            running.cancel()
        elif how == "suspended":
            orch.suspend_task(running.task_id)
        else:
            end.set()
        assert second.result(PATIENCE) == 3
        assert running.status.state == how
        running.cancel()


def test_a_count_is_exact_at_its_limit() -> None:
    past = Past("completed", "deploy")
    for most, count in itertools.product(range(4), range(6)):
        rule = HistoryRule("h", count=past, at_most=most, within=10)
        events = [event("completed", 9, f"t{number}") for number in range(count)]
        assert verdict(rule, *events) == (count <= most)
        aged = [event("completed", 11, f"o{number}") for number in range(count)]
        assert verdict(rule, *aged, *events) == (count <= most)


@pytest.mark.parametrize("form", ["formerly", "never_after", "count"])
def test_what_is_exactly_as_old_as_the_window_counts(form: str) -> None:
    fields: dict[str, Any] = {form: Past("completed", "deploy")}
    if form == "count":
        fields["at_most"] = 0
    rule = HistoryRule("h", within=3600, **fields)
    outcomes = [verdict(rule, event("completed", ago)) for ago in (3600, 3600.001)]
    assert outcomes == ([True, False] if form == "formerly" else [False, True])


def test_after_a_restart_the_first_event_of_a_window_is_known(tmp_path: Path) -> None:
    """The journal is read from the window on; its first event is not left out."""
    path = tmp_path / "runs.db"
    with TaskOrchestrator(journal=path) as orch:
        canary(orch)
    for within in (1e6, 1e5, 1e4):
        with governed(path, history("failed", within=within)) as orch:
            assert is_denied(orch, f"d{within:.0f}")


def test_many_policies_judge_a_task_once(tmp_path: Path) -> None:
    """A submission that means an existing task changes no number."""
    with governed(tmp_path / "runs.db", MASK, COUNT) as orch:
        orch.submit_task(Task.call(str, SECRET, id="load", type="deploy")).result(
            PATIENCE
        )
        numbers = orch.get_stats().violations
        for _ in itertools.repeat(None, 3):
            orch.submit_task(Task.call(str, SECRET, id="load", type="deploy"))
        assert orch.get_stats().violations == numbers


def test_what_came_after_the_latest_and_was_not_counted_may_have_been_a_change(
    tmp_path: Path,
) -> None:
    """The review is kept, and what has left the journal since may be a change."""
    path = tmp_path / "runs.db"
    rule = history("completed", "since", no={"event": "started", "type": "change"})
    rule["history"][0]["since"]["type"] = "review"

    def done(orch: TaskOrchestrator, kind: str, name: str) -> None:
        orch.submit_task(Task.call(int, id=name, type=kind)).result(PATIENCE)

    with TaskOrchestrator(journal=path) as orch:
        done(orch, "review", "first")
        done(orch, "change", "changed")
    assert forget(str(path), "changed")
    with governed(path, rule) as orch:
        assert is_denied(orch, "d1")
        assert "have left the journal" in str(orch.explain("d1"))
        # A review that comes after all that counts from then on.
        done(orch, "review", "second")
        assert not is_denied(orch, "d2")
