"""People hear of what policies find: by the log, events, messages, health, numbers."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator
from typing import Any, get_args

import attrs
import pytest
from tests.api.tools import PATIENCE, Recorder, eventually, part
from tests.ext.notices.test_notifying import Hook

from taskorch import Task, TaskOrchestrator, current_context
from taskorch.api.verbs.table import bound
from taskorch.core.kernel import BLOCKED_BY
from taskorch.errors import PolicyDeniedError
from taskorch.ext.governance import (
    ConstitutionalRuntime,
    Operation,
    Policy,
    Rule,
    Severity,
)
from taskorch.ext.governance._policies import Moment
from taskorch.ext.notices.causes import TELLINGS, telling_of
from taskorch.ext.notices.notifying import KINDS
from taskorch.ext.views import JournalReader
from taskorch.model import SEVERITIES

MOMENTS = get_args(Moment)
LEVELS = {
    "low": logging.INFO,
    "medium": logging.WARNING,
    "high": logging.ERROR,
    "critical": logging.CRITICAL,
}


def pay(amount: float, *more: Any, **others: Any) -> float:
    current_context().progress(0.5)
    return amount


def payment(amount: float, name: str, **options: Any) -> Task[Any]:
    return Task.call(pay, amount, id=name, type="pay", **options)


def at_most(limit: float, severity: str = "high", **more: Any) -> Policy:
    rule = Rule("amount", "payload.args[0]", "less_than_or_equal", limit, "too much")
    return Policy("large", "money", severity, rules=[rule], **more)


@pytest.fixture
def hook() -> Iterator[Hook]:
    made = Hook()
    yield made
    made.close()


def messages(hook: Hook, *kinds: str) -> list[dict[str, Any]]:
    found = [json.loads(body) for _, body in hook.got]
    return [each for each in found if not kinds or each["message_type"] in kinds]


def ask_for(orch: TaskOrchestrator, moment: str) -> str:
    """Have the policy of a *moment* be violated; what became of it."""
    if moment == "verb":
        orch.hold_starts("a moment")
        orch.submit_task(payment(100, "t"))
        try:
            bound(orch, "cancel_task")("t")
        except PolicyDeniedError:
            orch.release_starts()
            return "refused"
        return str(orch.get_task_status("t").state)
    try:
        orch.submit_task(payment(100, "t"))
    except PolicyDeniedError:
        return "refused"
    eventually(lambda: orch.get_task_status("t").is_terminal or is_blocked(orch, "t"))
    return str(orch.get_task_status("t").state)


def is_blocked(orch: TaskOrchestrator, name: str) -> bool:
    return str(orch.get_task_status(name).state) == "blocked"


#: What becomes of a task, as the page says it.
ENDS = {
    ("submit", "high"): "blocked",
    ("submit", "critical"): "refused",
    ("start", "high"): "blocked",
    ("start", "critical"): "blocked",
    ("progress", "high"): "cancelled",
    ("progress", "critical"): "cancelled",
    ("result", "high"): "failed",
    ("result", "critical"): "failed",
    ("verb", "low"): "cancelled",
    ("verb", "medium"): "cancelled",
    ("verb", "high"): "refused",
    ("verb", "critical"): "refused",
}


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("severity", SEVERITIES)
def test_each_severity_is_told_as_the_page_says_at_each_moment(
    hook: Hook, caplog: Any, moment: Any, severity: str
) -> None:
    at = ("submit", "start") if (moment, severity) == ("submit", "high") else moment
    rt = ConstitutionalRuntime([at_most(50, severity, at=at)])
    with (
        caplog.at_level(logging.INFO, "taskorch"),
        TaskOrchestrator(governance=rt) as orch,
    ):
        orch.notify(hook.url, allow_private=True)
        events = Recorder(orch, "policy_violated")
        end = ask_for(orch, moment)
        assert end == ENDS.get((moment, severity), "completed")
        # One line, however often it is judged, which shows what there is.
        eventually(lambda: lines(caplog))
        ((level, line),) = lines(caplog)
        assert level == LEVELS[severity]
        assert line.startswith("policy large (amount) is violated by ")
        assert line.endswith(" t: too much; payload.args[0] is 100")
        events.wait_for(1)
        (said,) = {event.violations for event in events.events}
        assert said[0][:6] == (
            *("large", "amount", severity, "too much", ""),
            "payload.args[0] is 100",
        )
        assert orch.get_stats().violations == {severity: {"large": 1}}
        assert orch.metrics()["policy_violations"] == {severity: 1}
        # Medium and worse is an alert, which the health has, too.
        is_alert = severity != "low"
        check = part(orch, "policies")
        assert check.status == ("degraded" if is_alert else "ok")
        assert ("payload.args[0] is 100" in check.detail) == is_alert
        if is_alert:
            eventually(lambda: messages(hook, "alert"))
            (alert,) = messages(hook, "alert")
            assert alert["name"] == "policy large"
            assert alert["policy_severity"] == severity
            assert alert["state"] == "raised"
            assert line in alert["text"]
        if end == "blocked":
            kind = "escalation" if severity == "high" else "blocked"
            eventually(lambda: messages(hook, kind))
            (told,) = messages(hook, kind)
            assert "payload.args[0] is 100" in told["text"]
            assert told["severity"] == severity
            assert told["issue_type"] == "policy"
            (violation,) = told["context"]["violations"]
            assert (violation["actual"], violation["expected"]) == (100, 50)
            decisions = part(orch, "decisions")
            assert ("payload.args[0] is 100" in decisions.detail) == (kind == "blocked")
            blocked = [r for r in caplog.records if r.name == "taskorch.blocked"]
            assert len(blocked) == (kind == "blocked")
            orch.cancel_task("t")
    if not is_alert:
        assert not messages(hook, "alert")


def lines(caplog: Any) -> list[tuple[int, str]]:
    return [
        (record.levelno, record.getMessage())
        for record in caplog.records
        if record.name == "taskorch.governance"
    ]


def test_every_cause_that_there_is_has_its_line_and_a_new_one_is_told() -> None:
    assert tuple(Severity) == SEVERITIES
    causes = {("blocked", cause) for cause in BLOCKED_BY}
    causes |= {("violated", severity) for severity in SEVERITIES}
    known = {key for key in TELLINGS if key[0] in ("blocked", "violated")}
    assert known == causes
    kinds = {each.message for each in TELLINGS.values()} - {""}
    assert kinds <= {*KINDS}
    # What is no trouble, or the end of one.
    assert {*KINDS} - kinds == {"question", "reminder", "recovered"}
    for telling in TELLINGS.values():
        assert telling.instead or (telling.level and telling.message and telling.health)
    unknown = telling_of("blocked", "a cause of tomorrow")
    assert (unknown.message, unknown.health) == ("blocked", "decisions")
    assert unknown.level == logging.WARNING


# -- what people are asked -------------------------------------------------------------


def test_tasks_that_differ_in_what_a_rule_looks_at_are_questions_of_their_own(
    tmp_path: Any,
) -> None:
    path = tmp_path / "runs.db"
    rt = ConstitutionalRuntime([at_most(50)])
    with TaskOrchestrator(governance=rt, journal=path) as orch:
        amounts = {"a": 100, "b": 999, "c": 100, "d": 1}
        orch.submit_tasks([payment(amount, name) for name, amount in amounts.items()])
        eventually(lambda: len(orch.escalations()) == 2)
        orch.stop(drain=False)
    read = JournalReader(path)._questions()
    assert [each.tasks for each in read] == [("a", "c"), ("b",)]
    assert "payload.args[0] is 999" in read[1].text
    rt = ConstitutionalRuntime([at_most(50)])
    with TaskOrchestrator(governance=rt, journal=path) as orch:
        eventually(lambda: len(orch.escalations()) == 2)
        first, second = orch.escalations()
        assert (first.tasks, second.tasks) == (("a", "c"), ("b",))
        assert "payload.args[0] is 100; severity high" in first.text
        assert "payload.args[0] is 999" in second.text
        assert second.context["violations"][0]["actual"] == 999
        first.answer("retry", by="bob")
        eventually(lambda: orch.get_task_status("c").is_terminal)
        assert str(orch.get_task_status("b").state) == "blocked"
        orch.cancel_task("b")


HIDDEN = [
    Rule("r", "payload.args[1].password", "equals", "x", missing="passes"),
    Rule("r", "payload.args[1].pin", "equals", "x", secret=True, missing="passes"),
    Rule("r", "payload.args[1].list", "not_exists"),
    Rule("r", "payload.args[1].long", "not_exists"),
]


@pytest.mark.parametrize("rule", HIDDEN, ids=["secret", "said", "size", "cut"])
def test_tasks_of_which_not_all_is_shown_are_never_taken_for_alike(rule: Rule) -> None:
    values = [
        {"password": name, "pin": name, "list": [name], "long": "x" * 500 + name}
        for name in ("hush-1", "hush-2")
    ]
    policies = [Policy("p", "privacy", "high", rules=[rule])]
    with TaskOrchestrator(governance=ConstitutionalRuntime(policies)) as orch:
        for name, value in zip("ab", values, strict=True):
            orch.submit_task(Task.call(pay, 1, value, id=name))
        eventually(lambda: len(orch.escalations()) == 2)
        asked = orch.escalations()
        assert {each.tasks for each in asked} == {("a",), ("b",)}
        assert "hush" not in json.dumps([each.to_dict() for each in asked])
        for name in "ab":
            orch.cancel_task(name)


def test_what_a_policy_changes_is_shown_by_no_other(caplog: Any, hook: Hook) -> None:
    """Not even by one that refuses the task for the value that is to be hidden."""
    card = "4000-1234"
    masks = Policy(
        "masked",
        "privacy",
        "medium",
        rules=[Rule("card", "payload.kwargs.card", "not_exists")],
        change={"payload.kwargs.card": "hidden"},
    )
    watches = [
        Policy(
            severity,
            "privacy",
            severity,
            at=("submit", "start"),
            rules=[Rule("r", path, "not_equals", "hidden", missing="passes")],
        )
        for severity, path in (("low", "payload.kwargs.card"), ("medium", "payload"))
    ]
    refuses = Policy(
        "none",
        "privacy",
        "critical",
        at="submit",
        types="never",
        rules=[Rule("r", "payload.kwargs.card", "equals", "no")],
    )
    rt = ConstitutionalRuntime([masks, *watches, refuses])
    with (
        caplog.at_level(logging.DEBUG),
        TaskOrchestrator(governance=rt) as orch,
    ):
        orch.notify(hook.url, allow_private=True)
        events = Recorder(orch, "policy_violated")
        orch.submit(pay, 1, card=card).result(PATIENCE)
        never = Task.call(pay, 1, kwargs={"card": card}, type="never")
        with pytest.raises(PolicyDeniedError) as caught:
            orch.submit_task(never)
        events.wait_for(2)
        eventually(lambda: len(lines(caplog)) >= 3)
        texts = [caplog.text, str(events.events), str(caught.value), str(orch.health())]
        texts += [repr(caught.value.verdict.violations), repr(messages(hook))]
        # It is told that it is mended, and it counts as no violation.
        changed = [line for line in lines(caplog) if ", and changes it: " in line[1]]
        assert changed
        assert {level for level, _ in changed} == {logging.INFO}
        assert "masked" not in orch.get_stats().violations.get("medium", {})
    assert card not in "".join(texts)


@attrs.frozen
class Card:
    number: str


@pytest.mark.parametrize("path", ["payload", "payload.number", "payload.number.last"])
def test_what_a_value_that_is_changed_is_in_is_not_shown_either(path: str) -> None:
    rule = Rule("r", "payload.number", "equals", "hidden")
    masks = Policy("m", "p", "low", rules=[rule], change={"payload.number": "hidden"})
    watches = Policy(
        "w", "p", "low", when=f"{path} == 1 || true".replace("payload", "task.payload")
    )
    looks = Policy("l", "p", "low", rules=[Rule("r", path, "not_exists")])
    rt = ConstitutionalRuntime([masks, watches, looks])
    # At a start there is a task of before the policy, which nothing has changed.
    for moment in ("submit", "start"):
        task = Task("pay", Card("4000-1234"))
        operation = Operation.of_task(task, moment=moment)  # type: ignore[arg-type]
        verdict = rt.validate_operation(operation)
        assert len(verdict.violations) >= 2
        assert "4000-1234" not in repr(verdict.violations)


@pytest.mark.parametrize(
    ("condition", "evidence"),
    [
        ("task.resources.memory_mb > 4.0", "resources.memory_mb is 8.0"),
        ("has(task.resources.memory_mb)", "resources.memory_mb is 8.0"),
        ("task.type.startsWith('task.priority')|| true", "type is 'pay'"),
        ("operation.payload.args[0] > 1 && task.priority < 9", None),
        ("task.payload.args[5] > 1 || task.priority < 9", None),
    ],
)
def test_a_condition_shows_the_values_that_it_names(
    condition: str, evidence: str | None
) -> None:
    policy = Policy("p", "p", "low", when=condition)
    task = payment(100, "t", resources={"memory_mb": 8})
    rt = ConstitutionalRuntime([policy])
    (violation,) = rt.validate_operation(task).violations
    if evidence is None:
        assert "priority is 0" in violation.evidence
        is_there = "[0]" in condition
        first = "payload.args[0] is 100" if is_there else "there is no payload.args[5]"
        assert violation.evidence.startswith(first)
    else:
        assert violation.evidence == evidence
    assert violation.is_whole


# -- alerts ----------------------------------------------------------------------------


def test_violations_are_names_in_rules_of_alerts() -> None:
    rt = ConstitutionalRuntime([at_most(50, "low")])
    with TaskOrchestrator(governance=rt) as orch:
        orch.alerts.interval = 0.05
        orch.alerts.rule("any", when="policy_violations > 0", hold=0, over=1)
        orch.alerts.rule("bad", when="critical_policy_violations > 0")
        orch.alerts.rule("little", when="low_policy_violations >= 1", over=3600)
        orch.submit_task(payment(100, "t")).result(PATIENCE)
        eventually(lambda: {a.name for a in orch.alerts.firing()} == {"any", "little"})
        # Those of the latest second count: it is over by itself.
        eventually(lambda: {a.name for a in orch.alerts.firing()} == {"little"})


# -- receipts --------------------------------------------------------------------------


def test_a_receipt_names_who_let_a_start_pass_and_what_they_saw(tmp_path: Any) -> None:
    path = tmp_path / "runs.db"
    rt = ConstitutionalRuntime([at_most(50)])
    with TaskOrchestrator(governance=rt, journal=path) as orch:
        for name, amount in (("a", 100), ("b", 200), ("c", 5), ("d", 300)):
            orch.submit_task(payment(amount, name))
        eventually(lambda: len(orch.escalations()) == 3)
        orch.answer("escalation/a", "retry", by="bob", note="as agreed")
        orch.decide("b", "retry")
        orch.answer("escalation/d", "abort", by="eve")
        orch.wait()
        governed = {n: rt.receipts(n)[0]["governance"] for n in "abc"}
        assert rt.receipts("d") == []
    (by_bob,) = governed["a"]["people"]
    assert by_bob["rules"] == ["large/amount~people"]
    assert by_bob["approval"]["by"] == ["bob"]
    assert by_bob["approval"]["at"].endswith("Z")
    assert by_bob["approval"]["note"] == "as agreed"
    assert "payload.args[0] is 100" in by_bob["question"]
    # Who decides by hand has no name, unless a token proves one.
    (by_hand,) = governed["b"]["people"]
    assert by_hand["approval"]["by"] == []
    assert governed["c"]["people"] == []


# -- what a task waits for -------------------------------------------------------------


def first_remedies(orch: TaskOrchestrator, name: str) -> set[str]:
    """What is to be done first about a task, as `explain` and `stuck` have it."""
    (blocker, *_) = orch.explain(name).blockers
    groups = [group for group in orch.stuck() if name in group.tasks]
    return {each.remedies[0].detail for each in (blocker, *groups)}


def test_a_task_that_waits_for_an_answer_about_something_else_names_the_question() -> (
    None
):
    policy = Policy(
        "never",
        "p",
        "critical",
        at="start",
        types="pay",
        when="true || task.type == ''",
    )
    rt = ConstitutionalRuntime([policy])
    with TaskOrchestrator(governance=rt, unknown_capability="wait") as orch:
        orch.submit_task(payment(1, "held"))
        eventually(lambda: is_blocked(orch, "held"))
        other = rt.request_waiver(
            "never", "x*", reason="r", requested_by="a", expires=9
        )
        (before,) = first_remedies(orch, "held") - {
            "Call orch.decide('held', 'retry' | 'fail' | 'complete')."
        }
        assert before == "It goes on when a waiver covers it, or the policies allow it."
        waiver = rt.request_waiver(
            "never", "h*", reason="r", requested_by="a", expires=9
        )
        call = f"Call orch.answer({waiver.id!r}, CHOICE, by=…)."
        assert first_remedies(orch, "held") == {call}
        orch.cancel_task(waiver.id)
        orch.cancel_task(other.id)
        orch.cancel_task("held")
        # A budget that is used up.
        with orch.budget("night", tokens=10):
            orch.submit(spend).result(PATIENCE)
            orch.submit_task(Task.call(len, "x", id="poor"))
            eventually(orch.questions)
            call = "Call orch.answer('budget-night/1', CHOICE, by=…)."
            assert first_remedies(orch, "poor") == {call}
            orch.answer("budget-night/1", "finish", by="ada")
            eventually(lambda: orch.get_task_status("poor").is_terminal)
        # A template of workers that is given up.
        orch.agents.template(
            "w",
            executor="service",
            capabilities=["w"],
            start=[sys.executable, "-c", "raise SystemExit(3)"],
        )
        orch.submit_task(Task("t", requires=["w"], id="t"))
        orch.agents.pool("w", min_agents=0, max_agents=2, interval=0.05)
        eventually(orch.questions)
        (asked,) = orch.questions()
        call = f"Call orch.answer({asked.id!r}, CHOICE, by=…)."
        eventually(lambda: first_remedies(orch, "t") == {call})
        asked.answer("leave it", by="ada")
        eventually(lambda: call not in first_remedies(orch, "t"))
        orch.cancel_task("t")


def spend() -> None:
    current_context().spent(tokens=10)


def test_a_schedule_whose_work_is_denied_is_told_once(hook: Hook) -> None:
    rt = ConstitutionalRuntime([at_most(50, "critical", at="submit")])
    with TaskOrchestrator(governance=rt) as orch:
        orch.notify(hook.url, allow_private=True, about=["skipped"])
        orch.schedules.add("nightly", "* * * * * *", Task.call(pay, 100, type="pay"))
        eventually(lambda: messages(hook, "skipped"))
        (told,) = messages(hook, "skipped")
        assert told["schedule"] == "nightly"
        assert told["reason"].startswith("it was refused: ")
        assert "too much" in told["reason"]
        assert "too much" in told["text"]
        assert "too much" in part(orch, "schedules").detail
        # As the page says, once a reason and hour.
        teller = orch._rt.notices.teller
        for amount in (7, 8):
            error = PolicyDeniedError(f"too much of {amount}")
            teller.refused("nightly", f"schedule nightly: {error}", error)
        eventually(lambda: len(messages(hook, "skipped")) == 2)
        orch.schedules.remove("nightly")
    assert len(messages(hook, "skipped")) == 2
