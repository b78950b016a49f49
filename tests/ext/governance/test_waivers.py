"""Waivers as people ask for them, approve them and take them back."""

import time
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
from tests.api.tools import Hold, Recorder, eventually

from taskorch import (
    InvalidTaskError,
    Task,
    TaskOrchestrator,
    TaskState,
    UnknownTaskError,
)
from taskorch.api.journal import SqliteJournal
from taskorch.errors import (
    AnswerRefusedError,
    InvalidTransitionError,
    NotRunningError,
    PolicyDeniedError,
)
from taskorch.ext.governance import ConstitutionalRuntime, Operation
from taskorch.ext.views import JournalReader
from taskorch.kit.people import Caller, asking
from taskorch.protocols import RetryDecision

NO_DANGER = {
    "id": "no-danger",
    "principle": "safety",
    "severity": "critical",
    "rules": [
        {
            "id": "type",
            "condition": "task.type",
            "operator": "not_equals",
            "value": "danger",
            "message": "nothing dangerous",
        }
    ],
}
NOT_URGENT = {
    "id": "not-urgent",
    "principle": "fairness",
    "severity": "critical",
    "rules": [
        {"id": "p", "condition": "task.priority", "operator": "less_than", "value": 5}
    ],
}
AT_START = {**NO_DANGER, "at": ["start"]}
HOUR = 3_600


def policies(*documents):
    return ConstitutionalRuntime.from_dict(
        {"policies": list(documents or [NO_DANGER, NOT_URGENT])}
    )


def danger(name, fn=int, **options):
    return Task.call(fn, id=name, type="danger", **options)


@pytest.fixture
def governed():
    """An orchestrator with policies."""
    rt = policies()
    with TaskOrchestrator(governance=rt) as orch:
        yield SimpleNamespace(orch=orch, rt=rt)


def waiver_of(rt, policy="no-danger", pattern="*", **options):
    values = {"reason": "the yearly clean-up", "requested_by": "ada", "expires": HOUR}
    return rt.request_waiver(policy, pattern, **{**values, **options})


def active(rt, *args, by=("bob",), **options):
    waiver = waiver_of(rt, *args, approvals=len(by), **options)
    for name in by:
        waiver = rt.approve_waiver(waiver.id, by=name)
    assert waiver.state == "active"
    return waiver


# -- a story ---------------------------------------------------------------------------


def test_a_waiver_lets_violations_of_its_policy_pass_and_shows_them(governed):
    orch, rt = governed.orch, governed.rt
    told = Recorder(orch, "policy_violated", "task_started", "question_asked")
    with pytest.raises(PolicyDeniedError):
        orch.submit_task(danger("maintenance/a"))
    waiver = waiver_of(rt, pattern="maintenance/*", approvals=2)
    assert waiver.state == "asked"
    (question,) = orch.questions()
    assert question.id == waiver.id
    assert question.text.startswith("waive no-danger for maintenance/*, until ")
    assert question.details["reason"] == "the yearly clean-up"
    assert rt.approve_waiver(waiver.id, by="bob").state == "asked"
    with pytest.raises(PolicyDeniedError):
        orch.submit_task(danger("maintenance/a"))
    # Any way to answer a question answers it.
    assert orch.answer(waiver.id, "approve", by="cyd")
    waiver = rt.waiver(waiver.id)
    assert (waiver.state, waiver.approved_by) == ("active", ("bob", "cyd"))
    assert rt.waivers() == rt.waivers("active") == [waiver]

    counted = orch.get_stats().violations
    orch.submit_task(danger("maintenance/a")).result()
    # What is waived is shown, and is no violation that anybody must look at.
    assert orch.get_stats().violations == counted
    assert counted
    verdict = rt.validate_operation(danger("maintenance/b"))
    assert verdict.allowed
    assert verdict.compliant
    (violation,) = verdict.violations
    assert violation.waived_by == waiver.id
    assert "waived by" in verdict.reason
    for other in ("maintenances/a", "x/maintenance/a", "load"):
        with pytest.raises(PolicyDeniedError):
            orch.submit_task(danger(other))
    # It is a waiver of one policy, whatever else is violated.
    with pytest.raises(PolicyDeniedError, match="not-urgent"):
        orch.submit_task(danger("maintenance/c", priority=9))

    waiver = rt.revoke_waiver(waiver.id, by="Dan", reason="it is done")
    assert (waiver.state, waiver.ended_by, waiver.ended_for) == (
        "revoked",
        "Dan",
        "it is done",
    )
    with pytest.raises(PolicyDeniedError):
        orch.submit_task(danger("maintenance/d"))
    orch.wait()
    started = [each for each in told.events if type(each).__name__ == "TaskStarted"]
    assert [each.permit[1] for each in started] == [f"no-danger/type~{waiver.id}"]
    violated = [
        each.violations[0][4]
        for each in told.events
        if type(each).__name__ == "PolicyViolated" and each.task_id == "maintenance/a"
        # It was refused before there was a waiver.
        if each.decision != "deny"
    ]
    assert set(violated) == {waiver.id}


def test_types_narrow_a_waiver(governed):
    active(governed.rt, types=["dang*"])
    governed.orch.submit_task(danger("a")).result()
    active(governed.rt, policy="not-urgent", types="other")
    with pytest.raises(PolicyDeniedError, match="not-urgent"):
        governed.orch.submit_task(danger("b", priority=9))


# -- who may -----------------------------------------------------------------------------


def test_nobody_approves_their_own_request_in_whatever_spelling(governed):
    waiver = waiver_of(governed.rt)
    for by in ("ada", "Ada", "ADA", "\uff41\uff44\uff41", " ada", "ada  "):
        with pytest.raises(AnswerRefusedError, match="asks"):
            governed.rt.approve_waiver(waiver.id, by=by)
        with pytest.raises(AnswerRefusedError):
            governed.orch.answer(waiver.id, "approve", by=by)
    assert governed.rt.waiver(waiver.id).state == "asked"


def test_one_person_counts_once_and_who_may_is_said(governed):
    rt = governed.rt
    waiver = waiver_of(rt, approvals=2, who=["bob", "cyd", "dan"])
    rt.approve_waiver(waiver.id, by="bob")
    for by in ("bob", "eve", "Bob"):
        with pytest.raises(AnswerRefusedError):
            rt.approve_waiver(waiver.id, by=by)
    assert rt.waiver(waiver.id).state == "asked"
    assert rt.approve_waiver(waiver.id, by="cyd").state == "active"
    anybody = waiver_of(rt, approvals=2)
    rt.approve_waiver(anybody.id, by="bob")
    for by in ("BOB", "\uff42\uff4f\uff42"):
        with pytest.raises(AnswerRefusedError, match="before"):
            rt.approve_waiver(anybody.id, by=by)


def test_who_is_known_to_ask_speaks_for_nobody_else(governed):
    eve = Caller("eve", grants=frozenset({"operate"}))
    with asking(eve):
        with pytest.raises(InvalidTaskError, match="may not speak for ada"):
            waiver_of(governed.rt)
        assert waiver_of(governed.rt, requested_by="Eve").requested_by == "Eve"
    with asking(Caller("eve", grants=frozenset({"speak_for"}))):
        waiver = waiver_of(governed.rt)
    governed.rt.approve_waiver(waiver.id, by="bob")
    with asking(eve), pytest.raises(InvalidTaskError, match="may not speak for bob"):
        governed.rt.revoke_waiver(waiver.id, by="bob", reason="done")
    with asking(eve):
        assert (
            governed.rt.revoke_waiver(waiver.id, by="eve", reason="x").state
            == "revoked"
        )


def test_nothing_gets_round_the_rules_of_a_request(governed):
    orch, rt = governed.orch, governed.rt
    waiver = waiver_of(rt, approvals=2)
    with pytest.raises(InvalidTaskError):
        orch.decide(waiver.id, "complete", result=True)
    orch.emit(waiver.id, {"policy_id": "no-danger", "pattern": "*"})
    # What only looks like one is a question like others.
    alike = Task.question(
        waiver.id,
        id="waiver/mine",
        type="waiver",
        asked_by="eve",
        details=orch.questions()[0].details,
    )
    orch.submit_task(alike)
    orch.answer("waiver/mine", "approve", by="eve")
    assert [each.id for each in rt.waivers()] == [waiver.id]
    with pytest.raises(UnknownTaskError):
        rt.approve_waiver("waiver/mine", by="bob")
    with pytest.raises(PolicyDeniedError):
        orch.submit_task(danger("a"))


@pytest.mark.parametrize("document", [1, [], "x", {}, {"at_ns": "x"}, {"policy_id": 1}])
def test_a_document_that_is_no_waiver_is_left_out_and_others_count(
    document, tmp_path, caplog
):
    """
    Whatever a program writes under the name of waivers, in this incarnation and the
    next.
    """
    for incarnation in range(2):
        rt = policies(NO_DANGER)
        with TaskOrchestrator(journal=tmp_path / "runs.db", governance=rt) as orch:
            if not incarnation:
                orch.kept("waivers").update(
                    {"waiver/x": document, "y revoked": document}
                )
                waiver = waiver_of(rt)
                rt.approve_waiver(waiver.id, by="bob")
            assert [each.state for each in rt.waivers()] == ["active"]
            assert "the document waiver/x of waivers is left out" in caplog.text
            assert "the document y revoked of waivers is left out" in caplog.text
            caplog.clear()


def test_policies_that_concern_every_task_can_be_waived():
    every = {**NO_DANGER, "rules": [{**NO_DANGER["rules"][0], "operator": "equals"}]}
    rt = policies(every)
    with TaskOrchestrator(governance=rt) as orch:
        with pytest.raises(PolicyDeniedError):
            orch.submit_task(Task.call(int, type="fine", id="a"))
        active(rt)
        assert orch.submit_task(Task.call(int, type="fine", id="a")).result() == 0


# -- the end of a waiver -------------------------------------------------------------------


def test_what_has_ended_cannot_be_approved_and_what_is_not_in_force_not_revoked(
    governed,
):
    orch, rt = governed.orch, governed.rt
    rejected, withdrawn, revoked, approved, asked = [waiver_of(rt) for _ in range(5)]
    rejected = rt.reject_waiver(rejected.id, by="bob", note="not now")
    assert "not now" in rejected.ended_for
    orch.cancel_task(withdrawn.id, reason="no need")
    rt.approve_waiver(revoked.id, by="bob")
    rt.revoke_waiver(revoked.id, by="cyd", reason="done")
    rt.approve_waiver(approved.id, by="bob")
    expired = waiver_of(rt, expires=0.2)
    was_active = waiver_of(rt, expires=0.2)
    with suppress(AnswerRefusedError):  # on a machine so busy that it has expired
        rt.approve_waiver(was_active.id, by="bob")
    for each in (expired, was_active):
        eventually(lambda each=each: rt.waiver(each.id).state == "expired")
    states = {"rejected": rejected, "withdrawn": withdrawn, "revoked": revoked}
    states |= {"active": approved, "expired": expired}
    for state, waiver in states.items():
        assert rt.waiver(waiver.id).state == state
        with pytest.raises(AnswerRefusedError):
            rt.approve_waiver(waiver.id, by="dan")
        with pytest.raises(AnswerRefusedError):
            rt.reject_waiver(waiver.id, by="dan")
        with pytest.raises(AnswerRefusedError):
            orch.answer(waiver.id, "approve", by="dan")
    for waiver in (rejected, withdrawn, revoked, expired, asked, was_active):
        before = rt.waiver(waiver.id)
        with pytest.raises(InvalidTransitionError, match="is not in force"):
            rt.revoke_waiver(waiver.id, by="dan", reason="x")
        assert rt.waiver(waiver.id) == before
    rt.revoke_waiver(approved.id, by="dan", reason="x")
    with pytest.raises(PolicyDeniedError):
        orch.submit_task(danger("a"))
    # Ended ones stay to be seen.
    assert len(rt.waivers()) == 7
    assert {each.state for each in rt.waivers()} == {
        *("asked", "rejected", "withdrawn", "revoked", "expired")
    }


def test_a_waiver_that_expires_between_submission_and_start_starts_nothing():
    rt = policies(NO_DANGER)
    hold = Hold()
    with TaskOrchestrator(governance=rt, concurrency=1) as orch:
        orch.submit(hold)
        hold.wait()
        waiver = active(rt, expires=0.5)
        handle = orch.submit_task(danger("a"))
        eventually(lambda: rt.waiver(waiver.id).state == "expired")
        hold.release()
        eventually(lambda: orch.get_task_status("a").state is TaskState.BLOCKED)
        assert "nothing dangerous" in str(orch.explain("a"))
        # Another lets it go, by itself.
        active(rt)
        assert handle.result(timeout=60) == 0


def test_a_waiver_that_is_revoked_during_the_submission_lets_nothing_in(tmp_path):
    class Interrupted(ConstitutionalRuntime):
        """Somebody revokes a waiver just after it was asked for."""

        revoked = None

        def judge(self, operation, now_ns):
            verdict = super().judge(operation, now_ns)
            waiver, self.revoked = self.revoked, None
            if waiver is not None:
                self.revoke_waiver(waiver, by="bob", reason="done")
            return verdict

    rt = Interrupted.from_dict({"policies": [NO_DANGER]})
    with TaskOrchestrator(governance=rt, journal=tmp_path / "runs.db") as orch:
        rt.revoked = active(rt).id
        with pytest.raises(PolicyDeniedError):
            orch.submit_task(danger("a"))
        assert not list(orch.tasks(type="danger"))
    assert not rt.replay(tmp_path / "runs.db").moments


def test_what_is_on_hold_goes_on_when_its_waiver_is_approved(tmp_path):
    rt = policies(AT_START)
    with TaskOrchestrator(governance=rt, journal=tmp_path / "runs.db") as orch:
        handles = [orch.submit_task(danger(name)) for name in ("a/x", "b/x")]
        eventually(lambda: orch.get_task_status("b/x").state is TaskState.BLOCKED)
        active(rt, pattern="a/*")
        assert handles[0].result(timeout=60) == 0
        assert orch.get_task_status("b/x").state is TaskState.BLOCKED
        orch.cancel_task("b/x")


ASKS = {**AT_START, "severity": "high"}
URGENT_ASKS = {**NOT_URGENT, "severity": "high", "at": ["start"]}


def is_blocked(orch, *names):
    return all(orch.get_task_status(n).state is TaskState.BLOCKED for n in names)


def test_people_are_asked_no_more_about_what_a_later_waiver_covers(tmp_path):
    path, rt = tmp_path / "runs.db", policies(ASKS, URGENT_ASKS)
    with TaskOrchestrator(governance=rt, journal=path) as orch:
        covered = orch.submit_task(danger("a/x"))
        orch.submit_task(danger("b/x"))
        both = orch.submit_task(danger("a/both", priority=9))
        eventually(lambda: is_blocked(orch, "a/x", "b/x", "a/both"))
        assert "It goes on when a waiver covers it" in str(orch.explain("a/x"))
        asked = {question.tasks: question.text for question in orch.questions()}
        assert {*asked} == {("a/x", "b/x"), ("a/both",)}
        first = active(rt, pattern="a/*")
        assert covered.result(timeout=60) == 0
        # Of another task, and of a task that violates another policy, people are asked.
        assert is_blocked(orch, "b/x", "a/both")
        left = {question.tasks: question.text for question in orch.questions()}
        assert left == {("b/x",): asked["a/x", "b/x"], ("a/both",): asked["a/both",]}
        with pytest.raises(AnswerRefusedError, match=f"waived by {first.id}"):
            orch.answer("escalation/a/x", "retry", by="eve")
        second = active(rt, "not-urgent", pattern="a/both")
        assert both.result(timeout=60) == 0
        history = [entry.detail for entry in orch.get_task_status("a/both").history]
        assert f"waived by {first.id} and {second.id}" in " ".join(history)
        orch.cancel_task("b/x")
        assert not orch.questions()
    starts = {
        event.task_id: event.permit[1:]
        for event in JournalReader(path).happened()
        if type(event).__name__ == "TaskStarted"
    }
    assert starts == {
        "a/x": (f"no-danger/type~{first.id}", "not-urgent/p"),
        "a/both": (f"no-danger/type~{first.id}", f"not-urgent/p~{second.id}"),
    }


def test_what_a_waiver_let_go_is_asked_about_again_when_it_is_revoked(tmp_path):
    """Nobody has answered: no start may count as one that people let pass."""
    path, rt = tmp_path / "runs.db", policies(ASKS)
    with TaskOrchestrator(governance=rt, journal=path) as orch:
        orch.submit_task(danger("a"))
        eventually(lambda: is_blocked(orch, "a"))
        orch.hold_starts("a moment")
        waiver = active(rt)
        eventually(lambda: orch.get_task_status("a").state is TaskState.QUEUED)
        orch.stop(drain=False)
    with TaskOrchestrator(governance=policies(ASKS), journal=path) as orch:
        orch.governance.revoke_waiver(waiver.id, by="bob", reason="done")
        orch.release_starts()
        eventually(lambda: is_blocked(orch, "a"))
        (question,) = orch.questions()
        assert question.id == "escalation/a@2"
        orch.cancel_task("a")


def test_a_waiver_that_was_approved_where_no_policies_were_counts_at_the_opening(
    tmp_path,
):
    path, rt = tmp_path / "runs.db", policies(ASKS)
    with TaskOrchestrator(governance=rt, journal=path) as orch:
        orch.submit_task(danger("a"))
        eventually(lambda: is_blocked(orch, "a"))
        waiver = waiver_of(rt)
        orch.stop(drain=False)
    with TaskOrchestrator(journal=path) as orch:
        assert orch.answer(waiver.id, "approve", by="bob")
        assert is_blocked(orch, "a")
        orch.stop(drain=False)
    with TaskOrchestrator(governance=policies(ASKS), journal=path) as orch:
        assert orch.handle("a").result(timeout=60) == 0


def test_policies_that_ask_no_more_close_their_questions_and_stricter_ones_do_not():
    rt = policies(ASKS)
    with TaskOrchestrator(governance=rt) as orch:
        handle = orch.submit_task(danger("a"))
        eventually(lambda: is_blocked(orch, "a"))
        rt.replace(policies(AT_START).policies)
        assert is_blocked(orch, "a")
        (question,) = orch.questions()
        rt.replace(policies(NOT_URGENT).policies)
        assert handle.result(timeout=60) == 0
        with pytest.raises(AnswerRefusedError, match="policies allow it to start"):
            question.answer("retry", by="bob")


class PolicyAskedError(Exception):
    """An error of a user, whose name policies use too."""


def break_down():
    raise PolicyAskedError


class AsksPeople:
    """A retry handler that asks people about each failure."""

    def decide(self, _failure, _context):
        return RetryDecision(retry=False, ask="What now?")


def test_no_waiver_answers_a_question_about_a_failure():
    rt = policies(AT_START)
    with TaskOrchestrator(governance=rt, retry_handler=AsksPeople()) as orch:
        # It was denied before, so that it was looked at for waivers once.
        orch.submit_task(danger("a", break_down))
        eventually(lambda: is_blocked(orch, "a"))
        active(rt)
        eventually(orch.questions)
        (question,) = orch.questions()
        active(rt)
        rt.changed()
        assert [each.id for each in orch.questions()] == [question.id]
        orch.cancel_task("a")


def test_a_waiver_lets_more_start_than_a_rule_about_the_past_would():
    rate = {"id": "rate", "count": {"event": "started"}, "at_most": 1, "within": HOUR}
    few = {**AT_START, "id": "few", "types": "danger", "rules": [], "history": [rate]}
    rt = policies(few)
    with TaskOrchestrator(governance=rt) as orch:
        orch.submit_task(danger("a")).result(timeout=60)
        handles = [orch.submit_task(danger(name)) for name in ("b", "c")]
        eventually(lambda: is_blocked(orch, "b", "c"))
        active(rt, "few")
        assert [handle.result(timeout=60) for handle in handles] == [0, 0]


@pytest.mark.parametrize("follows", ["finish", "stop"])
def test_a_revocation_lets_what_runs_finish_or_stops_it_as_the_policy_says(follows):
    rt = policies(NOT_URGENT)
    holds = {name: Hold() for name in ("a", "b", "fine", "before")}
    with TaskOrchestrator(governance=rt, concurrency=4, grace=0) as orch:
        # What began under other policies began by no waiver.
        orch.submit_task(danger("before", holds["before"]))
        holds["before"].wait()
        rt.replace(policies({**AT_START, "revoked": follows}, NOT_URGENT).policies)
        waiver = active(rt, pattern="a")
        active(rt, pattern="b")
        for name in ("a", "b"):
            orch.submit_task(danger(name, holds[name]))
        orch.submit_task(Task.call(holds["fine"], id="fine"))
        for hold in holds.values():
            hold.wait()
        rt.revoke_waiver(waiver.id, by="bob", reason="too dangerous")
        state = orch.get_task_status("a").state
        expected = TaskState.CANCELLED if follows == "stop" else TaskState.RUNNING
        eventually(lambda: orch.get_task_status("a").state is expected)
        assert state in (expected, TaskState.RUNNING)
        for name in ("b", "fine", "before"):
            assert orch.get_task_status(name).state is TaskState.RUNNING
        for hold in holds.values():
            hold.release()
    assert ("too dangerous" in str(orch.explain("a"))) == (follows == "stop")


# -- restarts --------------------------------------------------------------------------------


def test_waivers_outlive_the_process_and_a_clock_that_is_set_back(
    tmp_path, monkeypatch
):
    path = tmp_path / "runs.db"
    with TaskOrchestrator(journal=path, governance=policies()) as orch:
        rt = orch.governance
        short, long = active(rt, pattern="s*", expires=0.3), active(rt, pattern="l*")
        revoked, rejected = active(rt, pattern="r*"), waiver_of(rt)
        half = waiver_of(rt, pattern="h*", approvals=2)
        rt.approve_waiver(half.id, by="bob")
        rt.revoke_waiver(revoked.id, by="bob", reason="done")
        rt.reject_waiver(rejected.id, by="bob")
        eventually(lambda: rt.waiver(short.id).state == "expired")
        before = rt.waivers()
    monkeypatch.setattr(
        time, "time_ns", lambda now=time.time_ns: now() - 86_400 * 10**9
    )
    # Even what memory has no room for.
    with TaskOrchestrator(journal=path, governance=policies(), keep_finished=0) as orch:
        rt = orch.governance
        assert rt.waivers() == before
        for name in ("s", "r", "h", "x"):
            with pytest.raises(PolicyDeniedError):
                orch.submit_task(danger(name))
        orch.submit_task(danger("l")).result()
        assert rt.waiver(long.id).state == "active"
        rt.approve_waiver(half.id, by="cyd")
        orch.submit_task(danger("h")).result()
        rt.revoke_waiver(long.id, by="cyd", reason="done")
    monkeypatch.undo()
    with TaskOrchestrator(journal=path, governance=policies()) as orch:
        states = {each.id: each.state for each in orch.governance.waivers()}
        assert states[long.id] == states[revoked.id] == "revoked"
        with pytest.raises(PolicyDeniedError):
            orch.submit_task(danger("l2"))


def test_retention_ends_no_waiver_that_is_in_force(tmp_path):
    path = tmp_path / "runs.db"
    with TaskOrchestrator(journal=path, governance=policies()) as orch:
        waiver = active(orch.governance, by=("bob", "cyd"))
    journal = SqliteJournal(path, keep_latest=0)
    with TaskOrchestrator(journal=journal, governance=policies()) as orch:
        with pytest.raises(UnknownTaskError):
            orch.get_task_status(waiver.id)
        orch.submit_task(danger("a")).result()
        assert orch.governance.waivers() == [waiver]


def test_without_policies_a_journal_can_be_answered_all_the_same(tmp_path):
    path = tmp_path / "runs.db"
    with TaskOrchestrator(journal=path, governance=policies()) as orch:
        waiver = waiver_of(orch.governance)
    with TaskOrchestrator(journal=path) as orch:
        orch.answer(waiver.id, "approve", by="bob")
    with TaskOrchestrator(journal=path, governance=policies()) as orch:
        assert orch.governance.waiver(waiver.id).state == "active"
        orch.submit_task(danger("a")).result()
    assert any(event.task_id == "a" for event in JournalReader(path).events("a"))


# -- bad input -------------------------------------------------------------------------------


SENSELESS = [
    {"policy": "no-dangers"},
    {"policy": None},
    {"pattern": ""},
    {"pattern": " a"},
    {"pattern": "x" * 501},
    {"pattern": 3},
    {"pattern": "a\nb"},
    {"types": [""]},
    {"types": [None]},
    {"reason": ""},
    {"reason": "a\nb"},
    {"requested_by": ""},
    {"requested_by": "a:b"},
    {"expires": 0},
    {"expires": -1},
    {"expires": float("nan")},
    {"expires": float("inf")},
    {"expires": "tomorrow"},
    {"expires": None},
    {"expires": timedelta(0)},
    {"expires": datetime(2099, 1, 1)},  # noqa: DTZ001 - that is the fault
    {"expires": datetime(2001, 1, 1, tzinfo=UTC)},
    {"approvals": 0},
    {"approvals": True},
    {"approvals": 2, "who": ["bob", "ada"]},
]


def test_what_makes_no_sense_is_refused(governed):
    for arguments in SENSELESS:
        with pytest.raises(InvalidTaskError):
            pytest.fail(f"{arguments}: {waiver_of(governed.rt, **arguments)}")
    assert not governed.rt.waivers()
    assert not governed.orch.questions()


def test_what_is_no_waiver_is_said(governed):
    orch, rt = governed.orch, governed.rt
    orch.submit_task(Task.call(int, id="a")).result()
    for name in ("a", "waiver/none", "", None, 3):
        for call in (rt.approve_waiver, rt.reject_waiver):
            with pytest.raises(UnknownTaskError):
                call(name, by="bob")
        with pytest.raises(UnknownTaskError):
            rt.revoke_waiver(name, by="bob", reason="x")
    waiver = waiver_of(rt)
    for by in ("", "a:b", 3, "a\nb"):
        with pytest.raises(InvalidTaskError):
            rt.approve_waiver(waiver.id, by=by)
        with pytest.raises(InvalidTaskError):
            rt.revoke_waiver(waiver.id, by=by, reason="x")
    with pytest.raises(InvalidTaskError):
        rt.revoke_waiver(waiver.id, by="bob", reason="")
    with pytest.raises(InvalidTaskError, match="active"):
        rt.waivers("activ")
    with pytest.raises(NotRunningError, match="governance="):
        waiver_of(policies())


def test_an_expiry_is_a_time_or_a_duration(governed):
    now = datetime.now(UTC)
    for expires in (HOUR, timedelta(hours=1), now + timedelta(hours=1)):
        waiver = waiver_of(governed.rt, expires=expires)
        assert abs(waiver.expires - now.timestamp() - HOUR) < 60
    assert Operation(id="a").id == "a"
