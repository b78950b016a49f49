"""What an orchestrator does by policies: on the way in, before a start, and since."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Any

import attrs
import pytest
from hypothesis import given, strategies as st
from tests.api.tools import PATIENCE, Recorder, eventually

from taskorch import (
    InvalidTaskError,
    RetryPolicy,
    Task,
    TaskFailedError,
    TaskOrchestrator,
    ValidationFailedError,
    Workflow,
    current_context,
)
from taskorch.api.verbs.table import bound
from taskorch.errors import PolicyDeniedError, TaskCancelledError
from taskorch.events import PolicyViolated, TaskBlocked, TaskRejected, TaskStarted
from taskorch.ext.governance import (
    ConstitutionalRuntime,
    HistoryRule,
    Past,
    Policy,
    Rule,
)
from taskorch.ext.views import JournalReader
from taskorch.kit.people import Caller, asking
from taskorch.model import TaskState
from taskorch.policies import PriorityQueue, StandardStateMachine
from taskorch.protocols import Permit

NO_DELETES = Policy(
    "no-deletes",
    "safety",
    "critical",
    rules=[Rule("r", "task.type", "not_equals", "delete", "Nothing is deleted.")],
)


def rule(path: str, operator: str, value: Any = None, **more: Any) -> Rule:
    return Rule("r", path, operator, value, missing="passes", **more)


def keep(*args: Any, **kwargs: Any) -> Any:
    """What it is given."""
    return [*args, kwargs]


def deploy(name: str = "") -> str:
    return name


def fail() -> None:
    raise OSError


def states(orch: TaskOrchestrator, *ids: str) -> list[str]:
    return [str(orch.get_task_status(name).state) for name in ids]


def is_blocked(orch: TaskOrchestrator, name: str) -> bool:
    return orch.get_task_status(name).state is TaskState.BLOCKED


# -- on the way in ---------------------------------------------------------------------


def test_what_is_denied_is_refused_with_its_verdict_and_nothing_is_kept() -> None:
    with TaskOrchestrator(governance=ConstitutionalRuntime([NO_DELETES])) as orch:
        seen = Recorder(orch, "task_rejected")
        with pytest.raises(PolicyDeniedError, match="Nothing is deleted") as caught:
            orch.submit_task(Task("delete", {}, id="d"))
        assert isinstance(caught.value, ValidationFailedError)
        verdict = caught.value.verdict
        assert (verdict.decision, verdict.compliant) == ("deny", False)
        assert verdict.policies_hash == orch.governance.policies_hash
        assert [(v.policy_id, v.rule_id) for v in verdict.violations] == [
            ("no-deletes", "r")
        ]
        assert caught.value.findings == (
            ("policy no-deletes/r", "Nothing is deleted."),
        )
        with pytest.raises(PolicyDeniedError):
            orch.submit_tasks([Task.call(deploy, id="a"), Task("delete", {})])
        assert list(orch.tasks()) == []
        wf = Workflow("w")
        wf.task(deploy, id="x", type="delete")
        with pytest.raises(PolicyDeniedError):
            orch.workflows.start(wf)
        seen.wait_for(3)
    assert {type(event) for event in seen.events} == {TaskRejected}


def test_calls_of_a_function_are_judged_however_they_come() -> None:
    policy = Policy(
        "p", "safety", "critical", rules=[rule("task.payload.args[0]", "not_equals", 3)]
    )
    with TaskOrchestrator(governance=ConstitutionalRuntime([policy])) as orch:
        assert orch.submit(keep, 1).result(PATIENCE) == [1, {}]
        assert list(orch.map(keep, [1, 2])) == [[1, {}], [2, {}]]
        for submit in (
            lambda: orch.submit(keep, 3),
            lambda: list(orch.map(keep, [1, 3])),
            lambda: orch.task(keep).submit(3),
            lambda: orch.options(retry=3).submit(keep, 3),
            lambda: orch.submit_task(Task.call(keep, 3)),
        ):
            with pytest.raises(PolicyDeniedError):
                submit()


def test_an_argument_is_masked_before_anything_keeps_it(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    policy = Policy(
        "masked",
        "privacy",
        "medium",
        rules=[Rule("m", "task.payload.kwargs.token", "not_exists")],
        change={"task.payload.kwargs.token": "gone", "task.metadata.masked": True},
    )
    rt = ConstitutionalRuntime([policy])
    with TaskOrchestrator(journal=path, governance=rt) as orch:
        task = Task.call(keep, 1, kwargs={"token": "hush", "b": 2}, metadata={"a": 1})
        handle = orch.submit_task(task)
        after = orch.submit_task(Task.call(deploy, after=[task]))
        assert handle.result(PATIENCE) == [1, {"token": "gone", "b": 2}]
        after.result(PATIENCE)
        assert orch.submit(keep, token="hush").result(PATIENCE) == [{"token": "gone"}]
        assert dict(task.payload.kwargs) == {"token": "hush", "b": 2}
        assert list(orch.tasks(metadata={"a": 1, "masked": True}))
    files = b"".join(file.read_bytes() for file in tmp_path.glob("runs.db*"))
    assert b"hush" not in files
    events = JournalReader(path).happened()
    told = [event for event in events if isinstance(event, PolicyViolated)]
    assert [event.changes for event in told] == [
        ("task.payload.kwargs.token", "task.metadata.masked")
    ] * 2
    assert {event.decision for event in told} == {"allow"}


@pytest.mark.parametrize(
    "path", ["task.payload.args[5]", "task.payload.args[0].deep", "task.payload.a.b"]
)
def test_what_cannot_be_changed_is_denied(path: str) -> None:
    policy = Policy(
        "masked", "privacy", "low", when="task.type == 'keep'", change={path: "gone"}
    )
    with (
        TaskOrchestrator(governance=ConstitutionalRuntime([policy])) as orch,
        pytest.raises(PolicyDeniedError, match="cannot be changed"),
    ):
        orch.submit(keep, 1)


def test_severity_says_what_follows(caplog: Any) -> None:
    policies = [
        Policy(
            name, "p", name, rules=[rule("task.payload.args[0]", "not_equals", name)]
        )
        for name in ("low", "medium", "high", "critical")
    ]
    rt = ConstitutionalRuntime(policies)
    levels = {"low": logging.INFO, "medium": logging.WARNING, "high": logging.ERROR}
    with (
        caplog.at_level(logging.INFO, "taskorch.governance"),
        TaskOrchestrator(governance=rt) as orch,
    ):
        for name in ("low", "medium", "high"):
            handle = orch.submit(keep, name)
            if name == "high":
                eventually(lambda: is_blocked(orch, handle.task_id))  # noqa: B023
                assert [q.tasks for q in orch.questions()] == [(handle.task_id,)]
                orch.cancel_task(handle.task_id)
            else:
                assert handle.result(PATIENCE) == [name, {}]
        with pytest.raises(PolicyDeniedError):
            orch.submit(keep, "critical")
        eventually(lambda: len(caplog.records) >= 4)
    told = {record.message.split()[1]: record.levelno for record in caplog.records}
    assert told == {**levels, "critical": logging.CRITICAL}


def test_a_rule_that_fails_is_told_and_closed_where_it_is_serious(caplog: Any) -> None:
    for severity, decision in (
        *(("low", "allow"), ("medium", "allow"), ("high", "ask"), ("critical", "deny")),
    ):
        policy = Policy(
            "p", "safety", severity, rules=[rule("task.payload.n", "less_than", 5)]
        )
        for then in (None, "deny"):
            made = Policy(
                "p",
                "safety",
                severity,
                rules=policy.rules,
                then=then,
                at=("submit", "start"),
            )
            rt = ConstitutionalRuntime([made])
            verdict = rt.validate_operation(Task("t", {"n": "many"}))
            is_open = severity in ("low", "medium")
            expected = decision if then is None or is_open else "deny"
            assert (verdict.decision, verdict.compliant) == (expected, False)
            assert "cannot be evaluated" in verdict.reason
            assert "many" not in verdict.reason


def test_a_plain_task_is_judged_by_nobody() -> None:
    with TaskOrchestrator(governance=ConstitutionalRuntime([])) as orch:
        assert orch.submit(deploy, "a").result(PATIENCE) == "a"
        assert orch.governance.policies == ()
    with pytest.raises(InvalidTaskError, match="no policies"):
        TaskOrchestrator().governance  # noqa: B018


def test_a_file_of_policies_is_a_setting(tmp_path: Path) -> None:
    file = tmp_path / "policies.yaml"
    file.write_text(
        "policies: [{id: a, principle: p, severity: critical, when: task.priority > 5}]"
    )
    config = tmp_path / "taskorch.toml"
    config.write_text(f'governance = "{file}"')
    with pytest.raises(PolicyDeniedError):
        TaskOrchestrator.from_config(config).submit_task(Task.call(deploy, priority=6))
    for wrong in ("", 5, ConstitutionalRuntime):
        with pytest.raises(InvalidTaskError, match="governance"):
            TaskOrchestrator(governance=wrong)
    with pytest.raises(OSError, match=r"none\.yaml"):
        TaskOrchestrator(governance=tmp_path / "none.yaml")
    rt = ConstitutionalRuntime([])
    TaskOrchestrator(governance=rt)
    with pytest.raises(InvalidTaskError, match="another orchestrator"):
        TaskOrchestrator(governance=rt)


# -- before a start --------------------------------------------------------------------


AT_START = Policy(
    "no-friday",
    "safety",
    "critical",
    at="start",
    rules=[rule("task.payload.args[0]", "not_equals", "friday")],
)


def test_a_denied_start_is_on_hold_and_goes_on_when_policies_allow_it(
    tmp_path: Path,
) -> None:
    path = tmp_path / "runs.db"
    rt = ConstitutionalRuntime([AT_START])
    with TaskOrchestrator(journal=path, governance=rt) as orch:
        orch.submit_task(Task.call(deploy, "friday", id="d"))
        orch.submit_task(Task.call(deploy, "after", id="e", after=["d"]))
        assert orch.submit(deploy, "monday").result(PATIENCE) == "monday"
        assert states(orch, "d", "e") == ["blocked", "pending"]
        explanation = str(orch.explain("d"))
        assert "Policies deny its start: policy no-friday (r)" in explanation
        assert [blocker.kind for blocker in orch.explain("d").blockers] == ["policy"]
        # A person cannot let pass what policies deny.
        orch.decide("d", "retry")
        eventually(lambda: is_blocked(orch, "d"))
        orch.stop(drain=False)
    with TaskOrchestrator(
        journal=path, governance=ConstitutionalRuntime([AT_START])
    ) as orch:
        assert states(orch, "d") == ["blocked"]
        orch.governance.replace([NO_DELETES])
        assert orch.handle("d").result(PATIENCE) == "friday"
        assert orch.handle("e").result(PATIENCE) == "after"
    events = list(JournalReader(path).happened())
    held = [e for e in events if isinstance(e, TaskBlocked) and e.task_id == "d"]
    assert {(e.cause, e.error_type) for e in held} == {("policy", "PolicyDeniedError")}
    permits = [
        e.permit for e in events if isinstance(e, TaskStarted) and e.task_id == "d"
    ]
    assert permits == [
        (ConstitutionalRuntime([NO_DELETES]).policies_hash, "no-deletes/r")
    ]


def test_what_is_on_hold_may_start_after_a_restart_with_other_policies(
    tmp_path: Path,
) -> None:
    path = tmp_path / "runs.db"
    rt = ConstitutionalRuntime([AT_START])
    with TaskOrchestrator(journal=path, governance=rt) as orch:
        orch.submit_task(Task.call(deploy, "friday", id="d"))
        eventually(lambda: is_blocked(orch, "d"))
        orch.stop(drain=False)
    with TaskOrchestrator(journal=path, governance=ConstitutionalRuntime([])) as orch:
        assert orch.handle("d").result(PATIENCE) == "friday"


ASKS = Policy(
    "prod", "safety", "high", rules=[rule("task.payload.args[0]", "not_equals", "prod")]
)


def test_people_are_asked_before_a_start_and_answer_for_this_alone(
    tmp_path: Path,
) -> None:
    path = tmp_path / "runs.db"
    rt = ConstitutionalRuntime([ASKS])
    with TaskOrchestrator(journal=path, governance=rt) as orch:
        orch.submit_task(Task.call(deploy, "prod", id="first"))
        orch.submit_task(Task.call(deploy, "prod", id="second"))
        eventually(lambda: is_blocked(orch, "second"))
        (question,) = orch.questions()
        assert question.tasks == ("first", "second")
        assert "policies ask whether it may start: policy prod" in question.text
        assert "policies ask" in str(orch.explain("first"))
        orch.stop(drain=False)
    with TaskOrchestrator(
        journal=path, governance=ConstitutionalRuntime([ASKS])
    ) as orch:
        (question,) = orch.questions()
        assert question.answer("retry", by="ada")
        assert orch.handle("first").result(PATIENCE) == "prod"
        assert orch.handle("second").result(PATIENCE) == "prod"
        orch.submit_task(Task.call(deploy, "prod", id="c"))
        eventually(lambda: is_blocked(orch, "c"))
        orch.answer("escalation/c", "abort", by="bob")
        with pytest.raises(TaskFailedError):
            orch.handle("c").result(PATIENCE)
    starts = [e for e in JournalReader(path).happened() if isinstance(e, TaskStarted)]
    assert [event.permit[1:] for event in starts] == [("prod/r~people",)] * 2


def test_an_answer_counts_for_the_policies_that_people_were_asked_about(
    tmp_path: Path,
) -> None:
    """Policies that changed meanwhile ask again; an answer survives a restart."""
    path = tmp_path / "runs.db"
    other = Policy("prod", "safety", "high", rules=ASKS.rules, description="stricter")
    with TaskOrchestrator(
        journal=path, governance=ConstitutionalRuntime([ASKS]), concurrency=1
    ) as orch:
        orch.submit_task(Task.call(deploy, "prod", id="a"))
        eventually(lambda: is_blocked(orch, "a"))
        orch.governance.replace([other])
        assert orch.answer("escalation/a", "retry", by="ada")
        eventually(lambda: len(orch.questions()) == 1 and is_blocked(orch, "a"))
        orch.hold_starts("a moment")
        assert orch.answer("escalation/a@2", "retry", by="ada")
        assert states(orch, "a") == ["queued"]
        orch.stop(drain=False)
    with TaskOrchestrator(
        journal=path, governance=ConstitutionalRuntime([other])
    ) as orch:
        orch.release_starts()
        assert orch.handle("a").result(PATIENCE) == "prod"


def test_an_answer_holds_for_the_next_attempts_too() -> None:
    tries: list[int] = []

    def flaky(where: str) -> str:
        tries.append(1)
        if len(tries) < 3:
            raise OSError
        return where

    with TaskOrchestrator(governance=ConstitutionalRuntime([ASKS])) as orch:
        handle = orch.submit_task(
            Task.call(flaky, "prod", id="a", retry=RetryPolicy(3, base=0.01))
        )
        eventually(lambda: is_blocked(orch, "a"))
        orch.answer("escalation/a", "retry", by="ada")
        assert handle.result(PATIENCE) == "prod"


def test_a_task_that_waits_is_explained_by_what_policies_would_say() -> None:
    rt = ConstitutionalRuntime([AT_START])
    with TaskOrchestrator(governance=rt, concurrency=1) as orch:
        orch.hold_starts("a moment")
        orch.submit_task(Task.call(deploy, "friday", id="d"))
        kinds = [blocker.kind for blocker in orch.explain("d").blockers]
        assert {"policy", "starts_held"} <= {*kinds}
        orch.cancel_task("d")
        orch.release_starts()


# -- history ---------------------------------------------------------------------------


def limited(most: int, within: float | None, **more: Any) -> Policy:
    count = HistoryRule(
        "h", count=Past("started", "deploy"), at_most=most, within=within, **more
    )
    return Policy(
        "limit", "safety", "critical", types="deploy", at="start", history=[count]
    )


def test_no_more_start_within_a_window_than_may_and_the_rest_goes_on_by_itself() -> (
    None
):
    with TaskOrchestrator(governance=ConstitutionalRuntime([limited(2, 0.5)])) as orch:
        seen = Recorder(orch, "task_started")
        handles = [orch.submit(deploy, str(n)) for n in range(6)]
        assert [handle.result(PATIENCE) for handle in handles] == list("012345")
        seen.wait_for(6)
    at = [event.at_ns for event in seen.events]
    assert all(later - at[n] >= 5e8 for n, later in enumerate(at[2:]))
    # The permit names the latest event that was counted, if there was one.
    permits = [event.permit[1] for event in seen.events]
    numbers = [event.seq for event in seen.events]
    assert permits[:2] == ["limit/h", f"limit/h@{numbers[0]}"]
    for permit, before in zip(permits[1:], numbers[:-1], strict=True):
        assert permit in ("limit/h", f"limit/h@{before}")


def test_what_has_happened_is_known_after_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    never = Policy(
        "never",
        "safety",
        "critical",
        types="ship",
        at="start",
        history=[HistoryRule("n", never_after=Past("failed", "deploy"), same="owner")],
    )
    needs = Policy(
        "needs",
        "safety",
        "critical",
        types="ship",
        at="start",
        history=[HistoryRule("f", formerly=Past("completed", "review"), within=3600)],
    )

    def policies() -> list[Policy]:
        return [never, needs, limited(2, 3600)]

    def submit(orch: TaskOrchestrator, name: str, kind: str, **options: Any) -> None:
        function = fail if options.pop("fails", False) else deploy
        orch.submit_task(Task.call(function, id=name, type=kind, **options))

    with TaskOrchestrator(
        journal=path, governance=ConstitutionalRuntime(policies())
    ) as orch:
        submit(orch, "s0", "ship", owner="ada")
        eventually(lambda: is_blocked(orch, "s0"))
        submit(orch, "r1", "review")
        # It goes on by itself once that has happened.
        orch.handle("s0").result(PATIENCE)
        submit(orch, "d1", "deploy", owner="bob", fails=True)
        submit(orch, "d2", "deploy")
        with pytest.raises(OSError):
            orch.handle("d1").result(PATIENCE)
        orch.handle("d2").result(PATIENCE)
    for incarnation in range(2):
        with TaskOrchestrator(
            journal=path, governance=ConstitutionalRuntime(policies())
        ) as orch:
            submit(orch, f"s{incarnation}a", "ship", owner="ada")
            orch.handle(f"s{incarnation}a").result(PATIENCE)
            for name, kind in (
                (f"s{incarnation}b", "ship"),
                (f"d{incarnation}", "deploy"),
            ):
                submit(orch, f"{name}x", kind, owner="bob")
                eventually(lambda: is_blocked(orch, f"{name}x"))  # noqa: B023
            orch.stop(drain=False)
    events = list(JournalReader(path).happened())
    (review,) = [
        e.seq
        for e in events
        if type(e).__name__ == "TaskCompleted" and e.task_id == "r1"
    ]
    permits = {
        e.task_id: e.permit for e in events if isinstance(e, TaskStarted) and e.permit
    }
    assert f"needs/f@{review}" in permits["s1a"]


def test_rules_that_are_new_know_what_the_journal_has(tmp_path: Path) -> None:
    rt = ConstitutionalRuntime([])
    with TaskOrchestrator(journal=tmp_path / "runs.db", governance=rt) as orch:
        for _ in range(2):
            orch.submit(deploy).result(PATIENCE)
        orch.governance.replace([limited(2, None)])
        orch.submit_task(Task.call(deploy, id="third"))
        eventually(lambda: is_blocked(orch, "third"))
        orch.governance.replace([limited(3, None)])
        orch.handle("third").result(PATIENCE)
        orch.submit_task(Task.call(deploy, id="fourth"))
        eventually(lambda: is_blocked(orch, "fourth"))
        orch.stop(drain=False)


# -- progress, results, and what somebody asks for -------------------------------------


def test_progress_that_is_denied_cancels_the_task() -> None:
    policy = Policy(
        "slow",
        "safety",
        "critical",
        at="progress",
        rules=[rule("operation.progress", "less_than", 0.5)],
    )

    def work() -> None:
        for done in (0.1, 0.6):
            current_context().progress(done)
        current_context().sleep(PATIENCE)

    with TaskOrchestrator(governance=ConstitutionalRuntime([policy])) as orch:
        handle = orch.submit(work)
        with pytest.raises(TaskCancelledError, match="policies deny it to go on"):
            handle.result(PATIENCE)


def test_a_result_that_is_denied_fails_the_task_for_good() -> None:
    policy = Policy(
        "no-keys",
        "privacy",
        "critical",
        at="result",
        rules=[rule("operation.result.key", "not_exists")],
    )
    tries: list[int] = []

    def work(key: str | None) -> dict[str, str | None]:
        tries.append(1)
        return {"key": key}

    with TaskOrchestrator(governance=ConstitutionalRuntime([policy])) as orch:
        assert orch.submit(work, None).result(PATIENCE) == {"key": None}
        handle = orch.submit_task(Task.call(work, "hush", retry=5))
        with pytest.raises(PolicyDeniedError, match="no-keys") as caught:
            handle.result(PATIENCE)
        assert caught.value.verdict.operation.moment == "result"
        assert "hush" not in str(caught.value)
    assert len(tries) == 2


def test_verbs_that_somebody_asks_for_are_judged_by_who_asks() -> None:
    policy = Policy(
        "operators",
        "safety",
        "critical",
        at="verb",
        verbs=["cancel_*", "set_priority"],
        types="night*",
        rules=[Rule("r", "operation.roles", "contains", "operate")],
    )
    with TaskOrchestrator(governance=ConstitutionalRuntime([policy])) as orch:
        seen = Recorder(orch, "policy_violated")
        orch.hold_starts("a moment")
        for name, kind in (("a", "night-run"), ("b", "day")):
            orch.submit_task(Task.call(deploy, id=name, type=kind))
        with asking(Caller("eve", frozenset({"look"}))):
            with pytest.raises(PolicyDeniedError, match="cancel_task of a was refused"):
                bound(orch, "cancel_task")("a")
            with pytest.raises(PolicyDeniedError):
                bound(orch, "set_priority")("a", priority=5)
            assert bound(orch, "suspend_task")("a")
            assert bound(orch, "cancel_task")("b")
        with asking(Caller("ada", frozenset({"operate"}))):
            assert bound(orch, "cancel_task")("a")
        seen.wait_for(2)
    assert [(e.task_id, e.verb, e.caller) for e in seen.events] == [
        ("a", "cancel_task", "eve"),
        ("a", "set_priority", "eve"),
    ]


def test_what_a_program_does_itself_is_asked_for_by_nobody() -> None:
    policy = Policy(
        "p", "s", "critical", at="verb", rules=[rule("operation.verb", "not_exists")]
    )
    with TaskOrchestrator(governance=ConstitutionalRuntime([policy])) as orch:
        orch.hold_starts("a moment")
        orch.submit_task(Task.call(deploy, id="a"))
        assert orch.cancel_task("a")
        with pytest.raises(PolicyDeniedError):
            bound(orch, "cancel_task")("a")


# -- secrets ---------------------------------------------------------------------------


#: Names by which values are hidden, and the kinds of values that are hidden there.
_TEXTS_OF = ("token", "access_token", "accessToken", "authtoken", "api-key", "API_KEY")
_TEXTS_OF += ("secrets", "clientSecret", "credentials", "x-api-key", "token_of_api")
_ALL_OF = ("password", "dbPassword", "passphrase", "user_passwd")
_NONE_OF = ("secretary", "tokenizer", "gpu", "monkey", "keys", "authorized")
_AMOUNTS = ("tokens", "max_tokens", "token_count", "tokenBudget", "secrets_left")


def _seen(name: str, value: Any, secret: bool | None = None) -> list[bool]:
    """Whether the text of a rule, evidence and a condition show the value at a name."""
    made = Rule("r", f"metadata.{name}", "in", ["x"], "no", secret=secret)
    if type(value) is not str:
        made = attrs.evolve(made, operator="less_than", value=1)
    policies = [Policy("r", "p", "low", rules=[made])]
    if name.isidentifier():
        policies.append(Policy("w", "p", "low", when=f"has(task.metadata.{name})"))
    task = Task.call(keep, 1, metadata={name: value})
    rt = ConstitutionalRuntime(policies)
    return [
        str(value) in text
        for one in rt.validate_operation(task).violations
        for text in (one.evidence, str(one.actual))[: 2 if one.rule_id == "r" else 1]
    ]


@given(
    st.sampled_from([*_TEXTS_OF, *_ALL_OF, *_NONE_OF, *_AMOUNTS]),
    st.sampled_from(["hush-hush", 250_000, 2.5]),
    st.sampled_from([None, True, False]),
)
def test_amounts_are_shown_and_a_rule_says_what_is_secret(
    name: str, value: Any, secret: bool | None
) -> None:
    by_name = name not in _NONE_OF
    if type(value) is not str:
        by_name = name in _ALL_OF
    seen = _seen(name, value, secret)
    assert seen
    assert seen[:2] == [not (by_name if secret is None else secret)] * 2
    # A condition has no rule that could say it.
    assert seen[2:] in ([], [not by_name])


def test_a_value_that_a_policy_changes_is_hidden_whatever_a_rule_says() -> None:
    made = Rule("r", "metadata.card", "equals", "x", secret=False)
    first = Policy("r", "p", "low", rules=[made])
    second = Policy("c", "p", "low", rules=[made], change={"metadata.card": "gone"})
    rt = ConstitutionalRuntime([first, second])
    task = Task.call(keep, 1, metadata={"card": "4000"})
    assert "4000" not in str(rt.validate_operation(task).violations)


@pytest.mark.parametrize(
    ("path", "secret"), [("task.payload.password", None), ("task.payload.pin", True)]
)
def test_no_evidence_shows_what_is_secret(
    tmp_path: Path, caplog: Any, path: str, secret: bool | None
) -> None:
    made = Rule("r", path, "equals", "the-right-one", secret=secret)
    low = Policy("low", "privacy", "low", rules=[made])
    high = Policy("critical", "privacy", "critical", types="x", rules=[made])
    rt = ConstitutionalRuntime([low, high])
    payload = {"password": "hush-hush", "pin": "hush-hush"}
    with (
        caplog.at_level(logging.DEBUG),
        TaskOrchestrator(
            governance=rt, journal=tmp_path / "r.db", unknown_capability="wait"
        ) as orch,
    ):
        with pytest.raises(PolicyDeniedError) as caught:
            orch.submit_task(Task("x", payload))
        texts = [
            str(caught.value),
            repr(caught.value.verdict),
            repr(caught.value.__dict__),
        ]
        texts += [str(caught.value.verdict.to_dict())]
        for text in texts:
            assert "hush-hush" not in text
            assert "the-right-one" not in text
    assert "hush-hush" not in caplog.text


def test_the_values_in_a_container_are_no_evidence() -> None:
    made = Rule("r", "task.payload", "contains", "b")
    rt = ConstitutionalRuntime([Policy("p", "privacy", "critical", rules=[made])])
    (violation,) = rt.validate_operation(Task("x", {"a": "hush-hush"})).violations
    assert violation.actual == "a mapping of 1"


# -- what seldom happens ---------------------------------------------------------------


def test_a_change_mends_a_submission_and_no_start(tmp_path: Path) -> None:
    """A task of before the policy is not masked, so the severity says what follows."""
    path = tmp_path / "runs.db"
    policy = Policy(
        "masked",
        "privacy",
        "critical",
        rules=[Rule("m", "task.payload.kwargs.token", "not_exists")],
        change={"task.payload.kwargs.token": "gone"},
    )
    with TaskOrchestrator(journal=path) as orch:
        orch.hold_starts("a moment", lasts=False)
        orch.submit_task(Task.call(keep, kwargs={"token": "hush"}, id="old"))
        orch.stop(drain=False)
    rt = ConstitutionalRuntime([policy])
    with TaskOrchestrator(journal=path, governance=rt) as orch:
        eventually(lambda: is_blocked(orch, "old"))
        assert orch.submit(keep, token="hush").result(PATIENCE) == [{"token": "gone"}]
        orch.stop(drain=False)


def test_rules_that_are_new_hear_what_happens_without_a_journal() -> None:
    with TaskOrchestrator(governance=ConstitutionalRuntime([])) as orch:
        orch.governance.replace([limited(1, None)])
        orch.submit(deploy).result(PATIENCE)
        orch.submit_task(Task.call(deploy, id="second"))
        eventually(lambda: is_blocked(orch, "second"))
        orch.stop(drain=False)


def test_a_start_counts_that_was_submitted_long_before_its_window(
    tmp_path: Path,
) -> None:
    path = tmp_path / "runs.db"
    window = 1.0

    def incarnation(name: str) -> None:
        rt = ConstitutionalRuntime([limited(1, window)])
        with TaskOrchestrator(journal=path, governance=rt) as orch:
            orch.hold_starts("a moment")
            orch.submit_task(Task.call(deploy, id=name))
            if name == "first":
                time.sleep(1.1 * window)
            orch.release_starts()
            orch.handle(name).result(PATIENCE)

    incarnation("first")
    incarnation("second")
    happened = JournalReader(path).happened()
    starts = [event.at_ns for event in happened if isinstance(event, TaskStarted)]
    assert starts[1] - starts[0] >= window * 1e9


def test_what_is_denied_keeps_nobody_from_passing() -> None:
    rt = ConstitutionalRuntime([AT_START])
    with TaskOrchestrator(
        governance=rt, queue=PriorityQueue(backfill=True), concurrency=1
    ) as orch:
        orch.submit_task(Task.call(deploy, "friday", id="d", priority=9))
        assert orch.submit(deploy, "monday").result(PATIENCE) == "monday"
        eventually(lambda: is_blocked(orch, "d"))
        orch.cancel_task("d")


class Stubborn(StandardStateMachine):
    watches = frozenset({(TaskState.RUNNING, TaskState.CANCELLED)})

    def check(self, transition: Any, context: Any) -> Permit:
        return Permit(False, "it goes on")


def test_what_the_state_machine_lets_nobody_cancel_goes_on(caplog: Any) -> None:
    policy = Policy("slow", "safety", "critical", at="progress", when="task.type != ''")

    def work() -> str:
        current_context().progress("half")
        return "done"

    rt = ConstitutionalRuntime([policy])
    with TaskOrchestrator(governance=rt, state_machine=Stubborn()) as orch:
        assert orch.submit(work).result(PATIENCE) == "done"
    assert "it goes on" in caplog.text
