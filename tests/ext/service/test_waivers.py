"""Waivers, audits and receipts, asked of a service: by commands, clients and people."""

import json

import pytest

from taskorch import InvalidTaskError, Task, TaskOrchestrator
from taskorch.errors import InvalidTransitionError, PolicyDeniedError, UnknownTaskError
from taskorch.ext.client import Client, ServiceError
from taskorch.ext.command_line import main
from taskorch.ext.governance import ConstitutionalRuntime
from taskorch.ext.people import Tokens
from taskorch.ext.service import create_app, serve
from taskorch.kit.canonical import canonical

POLICIES = {
    "policies": [
        {
            "id": "no-danger",
            "principle": "safety",
            "severity": "critical",
            "when": "task.type == 'danger'",
        },
        # Whoever may do nothing may still ask that people let it pass.
        {
            "id": "no-verbs",
            "principle": "safety",
            "severity": "critical",
            "at": "verb",
            "verbs": ["revoke_*", "request_*"],
            "when": "operation.arguments.reason == 'denied'",
        },
    ]
}


@pytest.fixture
def house(tmp_path, monkeypatch):
    """A service with policies, and who may ask it, by the names of their roles."""
    tokens = Tokens(tmp_path / "tokens.json")
    rt = ConstitutionalRuntime.from_dict(POLICIES)
    with TaskOrchestrator(journal=tmp_path / "runs.db", governance=rt) as orch:
        app = create_app(orch, token=None, tokens=tokens)
        with serve(app, port=0) as server:

            def at(role, **options):
                token = tokens.add(f"{role}-{len(tokens.list())}", [role], **options)
                monkeypatch.setenv("TASKORCH_TOKEN", token)
                return Client(server.url, token=token)

            at.url, at.orch, at.path = server.url, orch, tmp_path / "runs.db"
            yield at


def told(capsys, *words, code=0):
    capsys.readouterr()
    assert main([str(word) for word in words]) == code
    out, err = capsys.readouterr()
    return err if code else out


def danger(name):
    return Task.call(int, id=name, type="danger")


def test_a_waiver_is_asked_for_approved_used_and_revoked_by_commands(house, capsys):
    orch, url = house.orch, house.url
    house("submit")
    assert told(capsys, "waivers", url) == "There are no waivers.\n"
    out = told(
        capsys,
        *("waivers", url, "request", "no-danger", "--pattern", "a/*"),
        *("--type", "dang*", "--reason", "the yearly clean-up", "--expires", "8h"),
    )
    asked, command = out.splitlines()
    waiver_id = asked.partition(":")[0]
    assert "no-danger for a/* of types dang* until" in asked
    assert asked.endswith("asked for by submit-0")
    whom, _, command = command.partition(": ")
    assert whom == "anybody but submit-0 may approve it"
    assert command == f"taskorch answer {url} {waiver_id} approve"
    boss = house("operate").waivers("asked")[0]
    assert abs(boss["expires"] - boss["requested_at"] - 8 * 3600) < 1
    told(capsys, *command.split()[1:])
    assert orch.governance.waiver(waiver_id).approved_by == ("operate-1",)
    orch.submit_task(danger("a/x")).result(60)
    with pytest.raises(PolicyDeniedError):
        orch.submit_task(danger("b"))

    house("look")
    assert told(capsys, "waivers", url, "--state", "active").startswith(waiver_id)
    assert told(capsys, "waivers", url, "--state", "asked") == "No waiver is asked.\n"
    (document,) = json.loads(told(capsys, "waivers", url, "--json"))
    assert document == orch.governance.waiver(waiver_id).to_dict()
    assert told(capsys, "audit", url, "a/x").startswith("a/x: 90 of 100\n")
    audit = orch.governance.audit_operation("a/x").to_dict()
    assert json.loads(told(capsys, "audit", url, "a/x", "--json")) == json.loads(
        json.dumps(audit)
    )
    (receipt,) = orch.governance.receipts("a/x")
    assert told(capsys, "receipt", url, "a/x").encode() == canonical(receipt) + b"\n"

    house("operate")
    out = told(capsys, "waivers", url, "revoke", waiver_id, "--reason", "it is done")
    assert out.endswith("revoked by operate-3: it is done\n")
    with pytest.raises(PolicyDeniedError):
        orch.submit_task(danger("a/y"))
    # A journal tells the same.
    assert told(capsys, "waivers", house.path) == out


def test_each_may_do_what_their_role_is_for(house):
    orch, options = house.orch, {"reason": "why", "expires": 60}
    house.orch.submit_task(Task.call(int, id="a")).result(60)
    with pytest.raises(ServiceError, match="may not do request_waiver"):
        house("look").request_waiver("no-danger", requested_by="ada", **options)
    ask = house("submit").request_waiver
    waiver = ask("no-danger", requested_by="submit-1", **options)["id"]
    with pytest.raises(ServiceError, match="may not speak for others"):
        ask("no-danger", requested_by="ada", **options)
    orch.governance.approve_waiver(waiver, by="bob")
    revoke = {"by": "submit-2", "reason": "done"}
    with pytest.raises(ServiceError, match="may not do revoke_waiver"):
        house("submit").revoke_waiver(waiver, **revoke)
    with pytest.raises(ServiceError, match="may not speak for others"):
        house("operate").revoke_waiver(waiver, **revoke)
    assert [each["state"] for each in house("look").waivers()] == ["active"]
    # Waivers concern all tenants; what is said of a task does not.
    orch.submit_task(Task.call(int, id="theirs", owner="acme")).result(60)
    bound = house("administer", tenants=["acme"])
    for refused in (
        bound.waivers,
        lambda: bound.request_waiver("no-danger", requested_by="x", **options),
        lambda: bound.revoke_waiver(waiver, by="x", reason="done"),
    ):
        with pytest.raises(ServiceError, match="tells of all tenants"):
            refused()
    assert bound.audit("theirs")["score"] == 100
    assert len(bound.receipts("theirs")) == 1
    for refused in (bound.audit, bound.receipts):
        with pytest.raises(UnknownTaskError):
            refused("a")


def test_what_makes_no_sense_is_refused_and_says_what_to_do(house, capsys):
    url, client = house.url, house("administer")
    options = {"reason": "why", "requested_by": "administer-0"}
    for wrong in (
        {"policy_id": "no-dangers"},
        {"reason": ""},
        {"expires": 0},
        {"approvals": 0},
        {"types": ["a\nb"]},
        {"pattern": ""},
    ):
        arguments = {"policy_id": "no-danger", "expires": 60, **options, **wrong}
        with pytest.raises(InvalidTaskError):
            pytest.fail(f"{arguments}: {client.request_waiver(**arguments)}")
    with pytest.raises(ServiceError, match="asked, active, expired"):
        client.waivers("activ")
    waiver = client.request_waiver("no-danger", expires=60, **options)["id"]
    with pytest.raises(InvalidTransitionError, match="it is asked"):
        client.revoke_waiver(waiver, by="administer-0", reason="done")
    with pytest.raises(UnknownTaskError):
        client.revoke_waiver("waiver/none", by="administer-0", reason="done")
    for refused in (client.audit, client.receipts):
        with pytest.raises(UnknownTaskError):
            refused("none")
    for words, text in (
        (("request", "no-danger"), "--reason TEXT and --expires TIME must be said"),
        (("revoke",), "WAIVER and --reason TEXT must be said"),
        (("revoke", waiver, "--reason", "x", "--pattern", "a"), "takes no --pattern"),
        (("request", "p", "--state", "active"), "takes no --state"),
        (("list", "no-danger"), "one name too many"),
        (("revoke", waiver, "--reason", "x"), f"taskorch answer {url} {waiver} reject"),
    ):
        assert text in told(capsys, "waivers", url, *words, code=2)
    more = ("request", "no-danger", "--reason", "x", "--expires", "1h")
    assert "name the service" in told(capsys, "waivers", house.path, *more, code=2)
    assert "--policies FILE" in told(capsys, "audit", house.path, "a", code=2)
    for command in ("audit", "receipt"):
        words = (command, url, "a", "--policies", "p.yaml")
        assert "judges by its own" in told(capsys, *words, code=2)


def test_a_service_without_policies_or_a_journal_says_so(capsys):
    with (
        TaskOrchestrator() as orch,
        serve(create_app(orch, token=None), port=0) as server,
    ):
        client = Client(server.url)
        for refused in (
            client.waivers,
            lambda: client.audit("a"),
            lambda: client.revoke_waiver("x", by="bob", reason="done"),
        ):
            with pytest.raises(InvalidTaskError, match="no policies"):
                refused()
    rt = ConstitutionalRuntime.from_dict(POLICIES)
    orch = TaskOrchestrator(governance=rt)
    with orch, serve(create_app(orch, token=None), port=0) as server:
        client = Client(server.url)
        words = ("request", "no-danger", "--reason", "x", "--expires", "1h")
        out = told(capsys, "waivers", server.url, *words, code=2)
        assert "does not say who acts (--by NAME)" in out
        with pytest.raises(InvalidTaskError, match="the past is in a journal"):
            client.audit("a")
        options = {"reason": "why", "requested_by": "ada", "expires": 60}
        waiver = client.request_waiver("no-danger", who=["bob"], **options)
        assert client.answer(waiver["id"], "approve", by="bob")
        orch.submit_task(danger("a")).result(60)
        assert client.waivers("active")
