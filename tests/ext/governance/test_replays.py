"""What policies say of the past: replays, audits, receipts."""

import json
import re
from base64 import b64decode, b64encode

import pytest
from tests.api.tools import eventually
from tests.ext.governance.test_waivers import (
    AT_START,
    NO_DANGER,
    NOT_URGENT,
    active,
    danger,
    policies,
)

from taskorch import (
    InvalidTaskError,
    Task,
    TaskOrchestrator,
    TaskState,
    UnknownTaskError,
)
from taskorch.api.workflows import Workflow
from taskorch.errors import JournalError, PolicyDeniedError, WorkflowFailedError
from taskorch.ext import command_line as cli
from taskorch.ext.governance import (
    ConstitutionalRuntime,
    read_waivers,
    run_statement,
    sealed,
    unsealed,
)
from taskorch.ext.views import JournalReader
from taskorch.kit.canonical import canonical

COUNTED = {
    "id": "few",
    "principle": "cost",
    "severity": "critical",
    "at": ["start"],
    "history": [
        {"id": "two", "count": {"event": "started", "type": "fine"}, "at_most": 2}
    ],
}
BROKEN = {
    **NO_DANGER,
    "id": "broken",
    "severity": "low",
    "rules": [
        {
            "id": "number",
            "condition": "task.type",
            "operator": "greater_than",
            "value": 3,
        }
    ],
}


def fine(name, **options):
    return Task.call(int, id=name, type="fine", **options)


@pytest.fixture
def past(tmp_path):
    """The path of a journal with a past: two waivers, of which one is revoked."""
    path = tmp_path / "runs.db"
    with TaskOrchestrator(journal=path, governance=policies()) as orch:
        rt = orch.governance
        with pytest.raises(PolicyDeniedError):
            orch.submit_task(danger("a"))
        active(rt, pattern="a")
        first = active(rt, pattern="b", policy="not-urgent")
        orch.submit_task(danger("a")).result()
        orch.submit_task(fine("b", priority=7, owner="shop")).result()
        rt.revoke_waiver(first.id, by="bob", reason="done")
        orch.submit_task(fine("c")).result()
    return path


def test_the_same_policies_say_what_they_said_then(past):
    for journal in (past, str(past), JournalReader(past)):
        replay = policies().replay(journal)
        assert [(each.task_id, each.moment) for each in replay.moments] == [
            (name, moment) for name in "abc" for moment in ("submit", "start")
        ]
        assert not replay.differences
        assert all(each.verdict.allowed for each in replay.moments)
        waived = [each.task_id for each in replay.moments if each.verdict.violations]
        assert waived == ["a", "a", "b", "b"]
    assert str(replay) == "6 verdicts, 0 of them other than then"
    again = policies().replay(past)
    assert [each.to_dict() for each in replay.moments] == [
        each.to_dict() for each in again.moments
    ]


def test_other_policies_say_what_is_different(past, tmp_path):
    none, stricter = [], [NO_DANGER, {**NOT_URGENT, "id": "other"}]
    replay = policies().replay(
        past, ConstitutionalRuntime.from_dict({"policies": none}).policies
    )
    assert not replay.moments
    file = tmp_path / "new.json"
    file.write_text(json.dumps({"policies": stricter}))
    for rules in (file, str(file), policies(*stricter).policies):
        replay = policies().replay(past, rules)
        # A waiver of another policy is none of this one.
        assert [(each.task_id, each.then) for each in replay.differences] == [
            ("b", "allow"),
            ("b", "allow"),
        ]
        assert all(each.verdict.decision == "deny" for each in replay.differences)
    assert "b: allow, and now deny: policy other (p)" in str(replay)
    document = json.loads(json.dumps(replay.to_dict()))
    assert document["judged"] == 6
    assert (
        document["differences"][0]["verdict"]["violations"][0]["policy_id"] == "other"
    )
    assert document["policies_hash"] == policies(*stricter).policies_hash


def test_a_rerun_is_judged_as_it_starts_then_and_now(tmp_path):
    path, rt = tmp_path / "runs.db", policies({**NO_DANGER, "severity": "high"})
    with TaskOrchestrator(journal=path, governance=rt) as orch:
        waiver = active(rt)
        orch.submit_task(danger("a")).result()
        rt.revoke_waiver(waiver.id, by="bob", reason="done")
        orch.rerun_task("a")
        eventually(lambda: orch.get_task_status("a~2").state is TaskState.BLOCKED)
        orch.cancel_task("a~2")
    replay = rt.replay(path)
    assert [(each.task_id, each.moment, each.then) for each in replay.moments] == [
        ("a", "submit", "allow"),
        ("a", "start", "allow"),
        ("a~2", "start", "ask"),
    ]
    assert not replay.differences
    assert replay.skipped == ("a~2",)


def test_a_task_in_the_place_of_another_is_judged_as_it_starts_and_that_is_said(
    tmp_path,
):
    path = tmp_path / "runs.db"
    with TaskOrchestrator(journal=path, governance=policies()) as orch:
        orch.submit_task(fine("a")).result()
        other = Task.call(int, "7", id="a", type="fine")
        orch.submit_task(other, replace=True).result()
    replay = policies().replay(path)
    assert [(each.task_id, each.moment) for each in replay.moments] == [
        ("a", "submit"),
        ("a", "start"),
        ("a~2", "start"),
    ]
    assert replay.to_dict()["skipped"] == ["a~2"]
    assert str(replay).endswith(
        "Not judged: 1 submission of reruns, or in the place of other tasks. Their "
        "starts were."
    )
    # Where nobody is asked about submissions, none is skipped.
    assert not policies(AT_START).replay(path).skipped


def test_what_was_denied_then_and_would_be_allowed_is_different_too(tmp_path):
    path = tmp_path / "runs.db"
    with TaskOrchestrator(journal=path, governance=policies(AT_START, COUNTED)) as orch:
        orch.submit_task(danger("a"))
        for name in ("b", "c", "d"):
            orch.submit_task(fine(name))
        eventually(
            lambda: (
                [orch.get_task_status(name).state for name in "abcd"].count(
                    TaskState.BLOCKED
                )
                == 2
            )
        )
        orch.wait()
        orch.stop(drain=False)
    rt = policies(AT_START, COUNTED)
    assert not rt.replay(path).differences
    assert [each.then for each in rt.replay(path).moments].count("deny") == 2
    (different,) = policies(COUNTED).replay(path).differences
    assert (different.task_id, different.then) == ("a", "deny")
    lenient = {**AT_START, "rules": [{**NO_DANGER["rules"][0], "value": "worse"}]}
    for rules in (AT_START, lenient):
        last = policies(rules).replay(path).differences[-1]
        assert (last.then, last.verdict.decision) == ("deny", "allow")


def test_what_people_let_pass_is_no_difference(tmp_path):
    path = tmp_path / "runs.db"
    asks = {**AT_START, "severity": "high"}
    with TaskOrchestrator(journal=path, governance=policies(asks)) as orch:
        handle = orch.submit_task(danger("a"))
        eventually(orch.questions)
        orch.questions()[0].answer("retry", by="bob")
        handle.result(timeout=60)
    replay = policies(asks).replay(path)
    assert [(each.then, each.differs) for each in replay.moments] == [
        ("ask", False),
        ("allow", False),
    ]
    assert policies(AT_START).replay(path).differences


# -- audits -------------------------------------------------------------------------------


def test_the_score_is_a_sum_that_anybody_can_repeat(past):
    rt = policies()
    audit = rt.audit_operation("a", past)
    assert audit.score == 100 - 50 // 5
    (violation,) = audit.violations
    assert violation.waived_by
    assert audit.recommendations == (
        "Mend what rule type of policy no-danger names before waiver WAIVER ends: "
        "nothing dangerous.".replace("WAIVER", violation.waived_by),
    )
    assert rt.audit_operation("c", past).score == 100
    assert not rt.audit_operation("c", past).recommendations
    for severity, score in {
        "low": 95,
        "medium": 90,
        "high": 75,
        "critical": 50,
    }.items():
        audit = policies(
            {**NO_DANGER, "severity": severity, "id": "x"}
        ).audit_operation("a", past)
        assert audit.score == score
    # Never below nothing, and each rule counts once.
    many = [{**NO_DANGER, "id": f"p{number}"} for number in range(3)]
    audit = policies(*many).audit_operation("a", past)
    assert audit.score == 0
    assert len(audit.violations) == 3
    assert "It ran, and today's policies deny it" in " ".join(audit.recommendations)
    assert "Other policies allowed it then" in " ".join(audit.recommendations)


def test_what_is_violated_after_its_waiver_is_no_longer_waived(tmp_path):
    """A rule that was waived once, and violated when no waiver covered it, is open."""
    path, rt = tmp_path / "runs.db", policies(NO_DANGER)
    with TaskOrchestrator(journal=path, governance=rt) as orch:
        orch.hold_starts("not yet", by="test")
        waiver = active(rt)
        orch.submit_task(danger("a"))
        rt.revoke_waiver(waiver.id, by="bob", reason="done")
        orch.release_starts(by="test")
        eventually(lambda: orch.get_task_status("a").state is TaskState.BLOCKED)
        open_then = rt.audit_operation("a")
        orch.cancel_task("a")
    for audit in (open_then, rt.audit_operation("a", path)):
        moments = [(m.moment, m.verdict.allowed) for m in audit.moments]
        assert moments == [("submit", True), ("start", False)]
        (violation,) = audit.violations
        assert violation.waived_by is None
        assert audit.score == 50
        (advice, *_) = audit.recommendations
        assert "waiver" not in advice
        assert "(waived" not in str(audit)


def test_an_audit_says_what_to_do(past):
    audit = policies(BROKEN).audit_operation("a", past)
    assert audit.score == 95
    assert any(
        each.startswith("Mend rule number of policy broken, which cannot be evaluated")
        for each in audit.recommendations
    )
    assert policies(AT_START).audit_operation("c", past).score == 100
    nobody = policies({**NO_DANGER, "types": ["other"]}).audit_operation("a", past)
    assert nobody.score == 100
    assert nobody.recommendations == (
        "No policy judges this task: write one, or let it be.",
    )
    document = json.loads(json.dumps(audit.to_dict()))
    assert document["score"] == audit.score
    assert [each["moment"] for each in document["moments"]] == ["submit", "start"]
    assert str(audit).startswith("a: 95 of 100\n  low broken, number: ")


def test_an_audit_is_of_the_run_that_is_meant(tmp_path):
    path = tmp_path / "runs.db"
    with TaskOrchestrator(journal=path, governance=policies()) as orch:
        active(orch.governance, pattern="a")
        orch.submit_task(danger("a")).result()
        orch.rerun_task("a").result()
        rt = orch.governance
        assert rt.audit_operation("a").task_id == "a~2"
        assert rt.audit_operation("a~1").task_id == "a"
        assert [each["id"] for each in rt.receipts("a")] == ["a~2#1"]
        assert [each["id"] for each in rt.receipts("a~1")] == ["a#1"]
        assert not rt.replay().differences
        for name in ("none", "a~3", ""):
            for call in (rt.audit_operation, rt.receipts):
                with pytest.raises(UnknownTaskError):
                    call(name)


# -- receipts -----------------------------------------------------------------------------


def test_a_receipt_says_what_allowed_a_start(past):
    rt = policies()
    (receipt,) = rt.receipts("b", past)
    waiver = receipt["governance"]["waivers"][0]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", receipt["ts"])
    seq = next(
        event.seq
        for event in JournalReader(past).events("b")
        if type(event).__name__ == "TaskStarted"
    )
    assert receipt == {
        "spec": "taskorch.receipt/1",
        "id": "b#1",
        "ts": receipt["ts"],
        "scope": {"tenant": "shop"},
        "agent": {"id": "local", "principal": None},
        "action": {
            "id": "b",
            "canonical": "fine",
            "paramsHash": receipt["action"]["paramsHash"],
            "attempt": 1,
            "riskClass": "CRITICAL",
        },
        "governance": {
            "mode": "on",
            "verdict": "ALLOWED",
            "rules": ["no-danger/type", f"not-urgent/p~{waiver['id']}"],
            "compliance": {"policyHash": rt.policies_hash, "verdict": "ALLOW"},
            "waivers": [waiver],
            "people": [],
        },
        "chain": {"seq": seq},
    }
    # As of the start: that it was revoked came later.
    assert waiver["approval"]["by"] == ["bob"]
    assert waiver["requestedBy"] == "ada"
    assert json.loads(canonical(receipt)) == receipt
    assert receipt == policies().receipts("b", JournalReader(past))[0]
    other = rt.receipts("c", past)[0]["action"]["paramsHash"]
    assert other == receipt["action"]["paramsHash"], "the same call without arguments"


def test_a_receipt_of_what_nobody_judged_says_so(tmp_path):
    path = tmp_path / "runs.db"
    with TaskOrchestrator(journal=path) as orch:
        orch.submit_task(fine("a")).result()
    (receipt,) = policies().receipts("a", path)
    assert receipt["governance"]["mode"] == "off"
    assert receipt["governance"]["compliance"]["policyHash"] is None
    assert receipt["action"]["riskClass"] is None


def test_what_is_no_journal_is_refused(tmp_path):
    rt = policies()
    for journal in (3, object(), tmp_path / "none.db"):
        with pytest.raises((InvalidTaskError, JournalError)):
            rt.replay(journal)
    with pytest.raises(InvalidTaskError, match="journal="):
        rt.replay()
    with TaskOrchestrator(governance=rt), pytest.raises(InvalidTaskError):
        rt.audit_operation("a")


# -- statements ---------------------------------------------------------------------------


def test_a_statement_on_a_run_of_a_schedule_says_what_ran_and_how_it_ended(tmp_path):
    path = tmp_path / "runs.db"
    wf = Workflow("night")
    load = wf.task(int, "7", id="load")
    wf.task(int, load, id="report")
    with TaskOrchestrator(journal=path) as orch:
        orch.schedules.add("night", "0 0 1 1 *", wf)
        run_id = orch.schedules.trigger("night")
        orch.workflows.get(run_id).result()
        bad = Workflow("bad")
        bad.task(int, "x", id="load")
        with pytest.raises(WorkflowFailedError):
            orch.workflows.start(bad, id="bad").result()
        waits = Workflow("open")
        waits.add(Task.question("go?", id="q"))
        orch.workflows.start(waits, id="open")
        with pytest.raises(InvalidTaskError, match="has not ended: open/q"):
            run_statement("open", JournalReader(path))
        orch.cancel_task("open/q")
    statement = run_statement(run_id, path)
    predicate = statement["predicate"]
    assert predicate["result"] == "PASSED"
    assert predicate["passedTests"] == [f"{run_id}/load", f"{run_id}/report"]
    (what,) = predicate["configuration"]
    assert statement["subject"] == [{"name": run_id, "digest": what["digest"]}]
    tasks = json.loads(b64decode(what["content"]))
    assert list(tasks) == predicate["passedTests"]
    assert sealed(statement).encode() == canonical(statement)
    predicate = run_statement("bad", path)["predicate"]
    assert (predicate["result"], predicate["failedTests"]) == ("FAILED", ["bad/load"])
    with pytest.raises(UnknownTaskError):
        run_statement("none", path)


# -- commands -----------------------------------------------------------------------------


def test_commands_say_the_same(past, tmp_path, capsys):
    def run(*words):
        code = cli.main([str(word) for word in words])
        return code, capsys.readouterr().out

    rules, stricter = tmp_path / "rules.json", tmp_path / "stricter.json"
    rules.write_text(json.dumps({"policies": [NO_DANGER, NOT_URGENT]}))
    stricter.write_text(json.dumps({"policies": [{**NO_DANGER, "id": "other"}]}))
    rt = policies()
    kept, revoked = read_waivers(past)
    assert (kept.state, revoked.state) == ("active", "revoked")
    code, out = run("waivers", past)
    assert code == 0
    assert out == f"{kept}\n{revoked}\n"
    assert "no-danger for a until" in out
    assert "revoked by bob: done" in out
    assert run("waivers", past, "--state", "revoked")[1] == f"{revoked}\n"
    assert run("waivers", past, "--state", "asked")[1] == "No waiver is asked.\n"
    assert json.loads(run("waivers", past, "--json")[1])[0] == kept.to_dict()
    code, out = run("audit", past, "a", "--policies", rules)
    assert code == 0
    assert out.startswith("a: 90 of 100\ncritical no-danger, type (waived by waiver/")
    out = run("audit", past, "a", "--policies", rules, "--json")[1]
    assert json.loads(out) == json.loads(
        json.dumps(rt.audit_operation("a", past).to_dict())
    )
    code, out = run("receipt", past, "a", "--policies", rules)
    assert out.encode() == canonical(rt.receipts("a", past)[0]) + b"\n"
    assert json.loads(run("receipt", past, "a")[1])["action"]["riskClass"] is None
    assert run("policy", "replay", rules, "--journal", past) == (
        0,
        "6 verdicts, 0 of them other than then\n",
    )
    code, out = run("policy", "replay", stricter, "--journal", past)
    assert code == 1
    assert "start of a: allow, and now deny: policy other (type)" in out
    code, out = run("policy", "replay", stricter, "--journal", past, "--json")
    assert len(json.loads(out)["differences"]) == 2
    for words in (
        ("policy", "replay", rules),
        ("policy", "check", rules, "--journal", past),
        ("audit", past, "none", "--policies", rules),
        ("receipt", past, "none"),
        ("waivers", tmp_path / "none.db"),
    ):
        assert run(*words)[0] == 2


def test_an_audit_without_a_number_is_of_the_latest_run(tmp_path):
    path, rt = tmp_path / "runs.db", policies()
    with TaskOrchestrator(journal=path, governance=rt) as orch:
        active(rt, pattern="a")
        orch.submit_task(danger("a")).result()
        orch.submit_task(fine("a"), replace=True).result()
    latest, first = (rt.audit_operation(name, path) for name in ("a", "a~1"))
    assert (latest.task_id, latest.score) == ("a~2", 100)
    assert [each.moment for each in latest.moments] == ["start"]
    assert first.score == 90
    assert [each.moment for each in first.moments] == ["submit", "start"]


def test_waivers_of_a_journal_are_as_of_a_moment_that_is_not_before_its_end(past):
    states = {each.state for each in read_waivers(past, at=1.0)}
    assert (
        states == {each.state for each in read_waivers(past)} == {"active", "revoked"}
    )
    later = max(each.expires for each in read_waivers(past)) + 1
    assert {each.state for each in read_waivers(past, at=later)} == {
        "expired",
        "revoked",
    }


def test_a_policy_that_is_not_enabled_is_asked_nothing():
    rt = policies({**NO_DANGER, "enabled": False})
    with TaskOrchestrator(governance=rt) as orch:
        assert orch.submit_task(danger("a")).result(60) == 0
        assert orch.get_stats().violations == {}


def test_only_a_statement_is_taken_out_of_an_envelope():
    """What the same key has signed for another purpose is none."""
    ed25519 = pytest.importorskip("cryptography.hazmat.primitives.asymmetric.ed25519")
    key = ed25519.Ed25519PrivateKey.generate()
    text = sealed({"x": 1}, key)
    assert unsealed(text, key.public_key()) == {"x": 1}
    envelope = json.loads(text)
    kind, payload = b"text/plain", b'{"x": 1}'
    signed = b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)
    envelope["payloadType"] = kind.decode()
    envelope["payload"] = b64encode(payload).decode()
    envelope["signatures"][0]["sig"] = b64encode(key.sign(signed)).decode()
    with pytest.raises(InvalidTaskError, match="has not signed it"):
        unsealed(json.dumps(envelope), key.public_key())
