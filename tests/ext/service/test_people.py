"""Who may do what: by routes, roles and tenants; names that were proved; sessions."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import stat
import threading
import time
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

import pytest
from starlette.routing import Route
from tests.api.tools import eventually
from tests.ext.remote_workers.tools import at_work
from tests.ext.service.tools import orchestrator, served

from taskorch import Task, TaskOrchestrator, Workflow
from taskorch.errors import InvalidTaskError
from taskorch.events import CATALOGUE, CAUSED, fields_of
from taskorch.ext.client import Client, ServiceError
from taskorch.ext.people import ProxyHeader, Tokens, caller_of, role_of
from taskorch.ext.remote_workers import Abilities, Agent
from taskorch.ext.service import create_app, new_token
from taskorch.ext.service._app import make_app
from taskorch.ext.service._guard import Doors
from taskorch.ext.service._operations import Operation
from taskorch.ext.views import JournalReader

ROLES = ("look", "submit", "operate", "administer", "worker", "speak_for")
#: What each role may do, of what changes something or is not for who looks.
DOES = {
    "submit": {
        *("submit_task", "submit_tasks", "start_workflow", "simulate"),
        *("make_plan", "validate_plan", "optimize_plan", "estimate_plan", "start_plan"),
        "request_waiver",
    },
    "operate": {
        *("cancel_task", "suspend_task", "resume_task", "set_priority", "decide"),
        *("hold_starts", "release_starts", "answer", "reward_task", "emit"),
        *("rerun_task", "change_tasks", "expire_tasks", "drain_agent", "clear_memo"),
        *("remove_schedule", "pause_schedule", "resume_schedule", "trigger_schedule"),
        *("backfill_schedule", "edit_schedule", "cancel_workflow", "pause_workflow"),
        *("resume_workflow", "restart_workflow", "approve_workflow"),
        *("allocate_resources", "release_resources"),
        *("reject_workflow", "cancel_backfill", "pause_backfill", "resume_backfill"),
        *("raise_budget", "revoke_waiver", "forget_steps"),
        *("fork", "fork_many"),
    },
    "administer": {
        *("spawn_agent", "terminate_agent", "resize_resources", "prune", "tokens"),
        "set_quotas",
        *("make_token", "rotate_token", "change_token", "revoke_token", "make_role"),
    },
    "worker": {
        *("agent_hello", "agent_claim", "agent_heartbeat", "agent_complete"),
        *("agent_artifact", "agent_leave"),
    },
}
FOR_ALL = {"me", "login", "logout"}
#: Of what tells of many tasks, what is left to whom is bound to tenants: their own.
LISTS = {
    *("tasks", "questions", "escalations", "find_workflows", "events", "runs"),
    *("follow_events", "submit_task", "submit_tasks", "start_workflow", "board"),
    *("preview", "verbs"),
}


def expected(operation: Operation, role: str) -> bool:
    """Whether a role may do an operation, as the documentation has it."""
    name = operation.name
    if name in FOR_ALL:
        return True
    of = next((each for each, names in DOES.items() if name in names), "look")
    above = {
        "look": {"look", "submit", "operate", "administer"},
        "submit": {"submit", "administer"},
        "operate": {"operate", "administer"},
        "worker": {"worker", "administer"},
    }
    return role in above.get(of, {"administer"})


@dataclass
class Said:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def code(self) -> str:
        is_problem = self.body and self.status >= 400
        return json.loads(self.body).get("code", "") if is_problem else ""


def ask(
    app,
    method,
    path,
    token=None,
    said=None,
    query="",
    address="127.0.0.1",
    *,
    raw=False,
    headers=(),
    **more,
) -> Said:
    """
    One request to an app, without a server; *said* is a text of JSON if it is *raw*.

    The *headers* are sent as they are.
    """
    sent = {
        "host": "127.0.0.1:8080",
        **{k.replace("_", "-"): v for k, v in more.items()},
    }
    if token is not None:
        sent["authorization"] = f"Bearer {token}"
    text = said if raw or said is None else json.dumps(said)
    body = (text or "").encode()
    if body:
        sent |= {"content-type": "application/json", "content-length": str(len(body))}
    return ask_bare(app, method, path, body, (*sent.items(), *headers), query, address)


def ask_bare(
    app, method, path, body=b"", headers=(), query="", address="127.0.0.1"
) -> Said:
    """One request to an app, of which nothing is made up."""
    got: dict[str, Any] = {"body": b""}
    coming = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive():
        # Who follows leaves at once.
        return coming.pop() if coming else {"type": "http.disconnect"}

    async def send(message):
        if message["type"] == "http.response.start":
            got["status"] = message["status"]
            got["headers"] = {k.decode(): v.decode() for k, v in message["headers"]}
        else:
            got["body"] += message["body"]

    scope = {
        "type": "http",
        "method": method,
        "path": unquote(path),
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "headers": [(k.encode(), v.encode()) for k, v in headers],
        "client": (address, 1),
        "server": ("127.0.0.1", 8080),
        "scheme": "http",
        "http_version": "1.1",
        "asgi": {"version": "3.0"},
        "root_path": "",
    }
    asyncio.run(app(scope, receive, send))
    return Said(got["status"], got["headers"], got["body"])


@pytest.fixture
def tokens(tmp_path):
    return Tokens(tmp_path / "tokens.json")


@pytest.fixture
def house(tmp_path, tokens):
    """An app with all that it can have, and an orchestrator with two tenants."""
    orch = orchestrator()
    app = create_app(
        orch,
        token=None,
        tokens=tokens,
        functions={"double": lambda n: 2 * n},
        agents=True,
        artifacts=tmp_path / "files",
        page=True,
    )
    with orch:
        for tenant in ("acme", "beta"):
            orch.submit_task(Task("echo", tenant, id=f"of-{tenant}", owner=tenant))
            orch.submit_task(Task.question("go?", id=f"ask-{tenant}", owner=tenant))
            flow = Workflow(f"night-{tenant}")
            flow.add(Task("echo", tenant, id="one", owner=tenant))
            orch.workflows.start(flow, f"run-{tenant}")
        yield app, orch
        app.state.close()


def path_for(operation, task="nobody", run="nobody"):
    path = operation.path.replace("{task_id}", task)
    path = re.sub(r"{(workflow_id|run_id)}", run, path)
    return re.sub(r"{\w+}", "x", path)


def shown(operations):
    return [each for each in operations if not each.is_open]


# -- routes, verbs, roles --------------------------------------------------------------


def test_each_role_may_do_what_it_is_for_and_nothing_else(house, tokens):
    app, _ = house
    holders = {role: tokens.add(f"a {role}", [role]) for role in ROLES}
    tokens.set_role("own", ["rerun_task", "tasks"])
    holders["own"] = tokens.add("an own", ["own"])
    for operation in shown(app.state.operations):
        for role, token in holders.items():
            answer = ask(app, operation.method, path_for(operation), token)
            may = (
                operation.name in {"rerun_task", "tasks", *FOR_ALL}
                if role == "own"
                else expected(operation, role)
            )
            is_refused = answer.status == 403 and answer.code == "not_allowed"
            assert is_refused != may, (operation.name, role, answer)
            assert answer.status != 401
            assert token.encode() not in answer.body


def test_no_route_is_without_a_line_of_its_own(house):
    """A new route is for nobody until the table says for whom it is."""
    app, orch = house
    paths = {each.path for each in app.state.operations}
    assert {each.path for each in app.routes if isinstance(each, Route)} == {
        *paths,
        "/openapi.json",
    }
    for operation in shown(app.state.operations):
        assert role_of(operation.name), operation.name

    async def tell(_request):
        raise AssertionError

    new = Operation("GET", "/api/v1/new", "brand_new", "New.", tell)
    plain = new_token()
    app = make_app(
        [new],
        doors=Doors(plain),
        orch=lambda: orch,
        hosts=["127.0.0.1"],
        close=lambda: None,
    )
    assert ask(app, "GET", "/api/v1/new", plain).code == "not_allowed"


def test_one_plain_token_may_do_all_as_before_under_any_name(house):
    _, orch = house
    token = new_token()
    app = create_app(orch, token=token, page=True)
    for operation in shown(app.state.operations):
        answer = ask(app, operation.method, path_for(operation), token)
        assert answer.status not in (401, 403), (operation.name, answer)
    said = {"choice": "approve", "by": "anybody at all"}
    assert ask(app, "POST", "/api/v1/tasks/ask-beta/answer", token, said).status == 200
    me = json.loads(ask(app, "GET", "/api/v1/me", token).body)
    assert (me["name"], me["speaks_for"]) == ("", True)


# -- tenants ---------------------------------------------------------------------------


def test_who_is_bound_to_tenants_sees_and_touches_theirs_alone(house, tokens):
    app, orch = house
    eventually(lambda: orch.get_task_status("run-beta/one").is_terminal)
    eventually(lambda: orch.get_task_status("of-acme").is_terminal)
    token = tokens.add("acme's", ["administer"], tenants=["acme"])
    of_all = {"compare", "explain", "earlier_runs"}
    for operation in shown(app.state.operations):
        has_part = any(
            each in operation.path
            for each in ("{task_id}", "{workflow_id}", "{run_id}")
        )
        at = (operation.method, path_for(operation))
        nobody = ask(app, *at, token)
        if operation.name in FOR_ALL | LISTS:
            assert nobody.status not in (401, 403), operation.name
        elif operation.name in of_all or not has_part:
            assert nobody.code == "not_for_tenants", operation.name
        else:
            theirs = (operation.method, path_for(operation, "ask-acme", "run-acme"))
            other = (operation.method, path_for(operation, "ask-beta", "run-beta"))
            assert nobody.code == "unknown_task", (operation.name, nobody)
            # As if it were not there, to the letter.
            asked = ask(app, *other, token)
            text = asked.body.replace(b"ask-beta", b"nobody")
            assert (asked.status, text.replace(b"run-beta", b"nobody")) == (
                nobody.status,
                nobody.body,
            ), operation.name
            if operation.name not in ("revoke_token", "cancel_task"):
                answer = ask(app, *theirs, token)
                assert answer.code != "unknown_task", (operation.name, answer)
                assert answer.status != 403
        if not has_part:
            assert b"beta" not in nobody.body, operation.name


def test_what_is_submitted_is_for_the_tenant_of_who_submits(house, tokens):
    app, orch = house
    one = tokens.add("acme's", ["submit"], tenants=["acme"])
    two = tokens.add("both's", ["submit"], tenants=["acme", "gamma"])

    def submit(token, status, **fields):
        said = {"type": "echo", "payload": 1, **fields}
        answer = ask(app, "POST", "/api/v1/tasks", token, said)
        assert answer.status == status, answer
        return json.loads(answer.body).get("task_id")

    assert orch.get_task_status(submit(one, 202)).owner == "acme"
    assert orch.get_task_status(submit(one, 202, owner="acme")).owner == "acme"
    submit(one, 422, owner="beta")
    submit(two, 422)
    assert orch.get_task_status(submit(two, 202, owner="gamma")).owner == "gamma"
    # Neither the id, the key nor the result of another's task is theirs.
    submit(one, 422, id="of-beta")
    assert orch.get_task_status("of-beta").owner == "beta"
    submit(one, 422, after=["of-beta"])
    call = {"call": "double", "args": [{"$result": "of-beta"}]}
    assert ask(app, "POST", "/api/v1/tasks", one, call).status == 422
    call = {"call": "double", "args": [{"$result": "of-acme"}]}
    assert ask(app, "POST", "/api/v1/tasks", one, call).status == 202
    orch.submit_task(
        Task("echo", 2, idempotency_key="night", owner="beta", id="theirs")
    )
    assert submit(one, 202, idempotency_key="night") != "theirs"

    flow = {"workflow": "f", "tasks": {"one": {"type": "echo"}}}
    run = {"workflow": flow, "id": "fresh"}
    begun = ask(app, "POST", "/api/v1/workflows", one, run)
    assert begun.status == 202, begun
    assert orch.get_task_status("fresh/one").owner == "acme"
    taken = {"workflow": flow, "id": "run-beta"}
    assert ask(app, "POST", "/api/v1/workflows", one, taken).status == 422
    orch.submit_task(Task("echo", 1, id="loose/one", owner="beta"))
    loose = {"workflow": flow, "id": "loose"}
    assert ask(app, "POST", "/api/v1/workflows", one, loose).status in (409, 422)
    # The same run of theirs, again, is that run.
    assert ask(app, "POST", "/api/v1/workflows", one, run).status == 202
    other = {"workflow": "f", "tasks": {"one": {"type": "echo", "owner": "beta"}}}
    refused = ask(app, "POST", "/api/v1/workflows", one, {"workflow": other})
    assert refused.status == 422


def test_a_rerun_that_would_run_tasks_of_others_again_is_refused(house, tokens):
    app, orch = house
    token = tokens.add("acme's", ["operate"], tenants=["acme"])
    flow = Workflow("shared")
    first = flow.add(Task("echo", 1, id="first", owner="acme"))
    flow.add(Task("echo", 2, id="second", owner="beta", after=[first]))
    orch.workflows.start(flow, "shared").result(timeout=30)
    answer = ask(app, "POST", "/api/v1/tasks/shared%2Ffirst/rerun", token)
    assert (answer.status, answer.code) == (403, "not_for_tenants")
    # A run that others have a part in is not theirs.
    answer = ask(app, "POST", "/api/v1/workflows/shared/restart", token)
    assert answer.code == "unknown_task"


# -- names -----------------------------------------------------------------------------


def test_the_proved_name_stands_in_all_that_somebody_caused(tmp_path, tokens):
    """In the journal, too, and it does not follow a task into its own acts."""
    token = tokens.add("ada", ["administer"])
    orch = orchestrator(journal=tmp_path / "runs.db")
    heard = []
    for cls in CAUSED:
        name = re.sub(r"(?<!^)(?=[A-Z])", "_", cls.__name__).lower()
        getattr(orch.signals, name).connect(heard.append, weak=False)
    app = create_app(orch, token=None, tokens=tokens, page=True)

    def post(path, said=None):
        answer = ask(app, "POST", f"/api/v1{path}", token, said)
        assert answer.status in (200, 201, 202), (path, answer)

    with orch:
        orch.schedules.add("hourly", 3_600, Task("echo", 1))
        orch.schedules.add("nightly", "0 3 * * *", Task("echo", 1))
        orch.wait(timeout=30)
        before = len(heard)
        post("/starts/hold", {"reason": "a look"})
        post("/tasks", {"type": "echo", "id": "one"})
        post("/tasks/one/priority", {"priority": 3})
        post("/tasks/one/suspend")
        post("/tasks/one/resume")
        post("/tasks/one/cancel")
        post("/starts/release")
        post("/events", {"name": "go"})
        post("/tasks", {"question": "go?", "id": "ask"})
        post("/tasks/ask/answer", {"choice": "approve"})
        post("/tasks", {"type": "echo", "id": "two"})
        orch.handle("two").result(timeout=30)
        post("/tasks/two/reward", {"value": 1})
        post("/tasks/two/rerun")
        orch.handle("two").result(timeout=30)
        post("/resources/resize", {"resources": {"licences": 2}})
        period = {"since": "2026-11-01", "until": "2026-11-03"}
        post("/schedules/nightly/backfill", period)
        for verb in ("pause", "resume", "trigger", "remove"):
            post(f"/schedules/hourly/{verb}")
        orch.wait(timeout=30)
        mine = heard[before:]
    kept = {each.seq: each for each in JournalReader(tmp_path / "runs.db").happened(0)}
    ends = {"TaskCompleted", "AgentLost"}
    asked = [each for each in mine if type(each).__name__ not in ends]
    # A backfill goes on by itself, once it has begun.
    begun = next(each for each in asked if type(each).__name__ == "ExtensionKept")
    assert (begun.caller, json.loads(begun.document)["by"]) == ("ada", "ada")
    asked = [each for each in asked if "nightly" not in repr(each)]
    assert {type(each).__name__ for each in asked} >= {
        *("TaskSubmitted", "TaskSuspended", "TaskResumed", "TaskCancelled"),
        *("TaskReprioritised", "StartsHeld", "StartsReleased", "EventEmitted"),
        *("QuestionAnswered", "TaskRewarded", "PoolsChanged", "ScheduleChanged"),
        "ScheduleFired",
    }
    assert {type(e).__name__ for e in asked if e.caller != "ada"} <= {
        # What follows by itself.
        *("TaskBlocked", "TaskReleased", "TaskUnblocked"),
    }
    assert all(
        kept[each.seq].caller == each.caller for each in asked if each.seq in kept
    )
    spoken = {type(e).__name__: e for e in asked}
    assert spoken["StartsHeld"].by == spoken["QuestionAnswered"].by == "ada"
    assert spoken["TaskRewarded"].source == "ada"
    assert spoken["TaskCancelled"].reason == "cancelled by ada"


def test_nobody_speaks_for_others_but_who_may(house, tokens):
    app, orch = house
    ada = tokens.add("Ada Łovelace", ["operate"])
    bot = tokens.add("chat", ["operate", "speak_for"], kind="program")
    heard = []
    orch.signals.question_answered.connect(heard.append)
    said = {"choice": "approve", "by": "bob"}
    path = "/api/v1/tasks/ask-acme/answer"
    assert ask(app, "POST", path, ada, said).code == "not_your_name"
    assert (
        ask(
            app,
            "POST",
            "/api/v1/tasks/of-acme/reward",
            ada,
            {"value": 1, "source": "bob"},
        ).code
        == "not_your_name"
    )
    assert (
        ask(app, "POST", "/api/v1/starts/hold", ada, {"reason": "x", "by": "bob"}).code
        == "not_your_name"
    )
    # Another spelling is the same person, and the name is as it was proved.
    said["by"] = "  \uff21DA   łovelace "
    assert ask(app, "POST", path, ada, said).status == 200
    said["by"] = "bob"
    path = "/api/v1/tasks/ask-beta/answer"
    assert ask(app, "POST", path, bot, said).status == 200
    eventually(lambda: len(heard) == 2)
    assert [(each.by, each.caller) for each in heard] == [
        ("Ada Łovelace", "Ada Łovelace"),
        ("bob", "chat"),
    ]


@pytest.mark.parametrize("spelling", ["ADA", " ada", "\uff41\uff44\uff41", "aDa"])
def test_another_spelling_of_a_name_is_the_same_person(house, tokens, spelling):
    """Who asks may not answer, however the name is typed."""
    app, orch = house
    tokens.add("ada", ["operate"])
    with pytest.raises(InvalidTaskError, match="ada has a token already"):
        tokens.add(spelling, ["administer"])
    bot = tokens.add("bot", ["operate", "speak_for"])
    ask_first = Task.question("go?", id="own", owner="ada", not_by="requester")
    orch.submit_task(ask_first)
    said = {"choice": "approve", "by": spelling}
    answer = ask(app, "POST", "/api/v1/tasks/own/answer", bot, said)
    assert answer.code == "answer_refused"
    orch.submit_task(Task.question("go?", id="hers", who=["ada"]))
    assert ask(app, "POST", "/api/v1/tasks/hers/answer", bot, said).status == 200


def test_who_asks_is_who_has_proved_it(house, tokens):
    """So nobody approves what they have asked for themselves."""
    app, _ = house
    ada = tokens.add("ada", ["submit", "operate"])
    bob = tokens.add("bob", ["operate"])
    said = {"question": "ship?", "id": "own", "not_by": ["requester"], "owner": "acme"}
    assert ask(app, "POST", "/api/v1/tasks", ada, said).status == 202
    said = {**said, "id": "other", "asked_by": "bob"}
    refused = ask(app, "POST", "/api/v1/tasks", ada, said)
    assert (refused.status, b"name of another" in refused.body) == (422, True)
    path, said = "/api/v1/tasks/own/answer", {"choice": "approve"}
    assert ask(app, "POST", path, ada, said).code == "answer_refused"
    assert ask(app, "POST", path, bob, said).status == 200


def test_every_event_that_names_a_caller_reads_as_before_without_one():
    for cls in CATALOGUE:
        if cls not in CAUSED:
            continue
        names = cls.__match_args__
        event = cls(*range(names.index("caller")))
        assert "caller" not in fields_of(event)
        named = event.__replace__(caller="ada")
        assert fields_of(named)["caller"] == "ada"


# -- tokens ----------------------------------------------------------------------------


def test_a_token_is_kept_as_a_hash_for_its_owner_alone(tokens):
    token = tokens.add("ada", ["operate"], lasts=60)
    text = tokens.path.read_text()
    assert token not in text
    assert token.split("_", 2)[2] not in text
    assert stat.S_IMODE(tokens.path.stat().st_mode) == 0o600
    assert token not in repr(tokens.list())
    assert "hash" not in json.dumps([each.to_dict() for each in tokens.list()])
    # Another process, or the next incarnation, knows it; and nothing that looks like
    # it.
    name, who = Tokens(tokens.path).find(token)
    assert (who.name, name) == ("ada", tokens.list()[0].id)
    for wrong in (token[:-1], f"{token}x", token.upper(), "", "tko__", f"tko_{name}_"):
        assert tokens.find(wrong) is None


def test_two_tokens_are_valid_at_once_until_the_first_has_ended(tokens):
    first = tokens.add("ada", ["look"])
    second = tokens.rotate("ADA", grace=60)
    assert tokens.find(first)[1] == tokens.find(second)[1]
    third = tokens.rotate("ada", grace=0)
    assert [tokens.find(each) is None for each in (first, second, third)] == [
        *(True, True, False),
    ]
    with pytest.raises(InvalidTaskError, match="nobody has a token by 'bob'"):
        tokens.rotate("bob")


@pytest.mark.parametrize(
    ("lasts", "grace", "ends"), [(60, 3_600, 60), (3_600, 60, 60), (None, 60, 60)]
)
def test_a_token_that_is_rotated_lives_no_longer_than_it_would(
    tokens, monkeypatch, lasts, grace, ends
):
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now)
    first = tokens.add("ada", ["look"], lasts=lasts)
    second = tokens.rotate("ada", grace=grace)
    for seconds in (0, ends - 1, ends, ends + 1):
        monkeypatch.setattr(time, "time", lambda s=seconds: now + s)
        assert (tokens.find(first) is not None) == (seconds < ends)
        assert tokens.find(second)


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o660])
def test_neither_the_group_nor_others_may_write_a_file_of_tokens(tokens, mode):
    token = tokens.add("ada", ["look"])
    tokens.path.chmod(mode)
    assert tokens.find(token) is None
    with pytest.raises(InvalidTaskError, match="others than its owner may write it"):
        Tokens(tokens.path)
    tokens.path.chmod(0o640)
    assert tokens.find(token)


def test_a_token_ends_and_a_clock_that_is_set_back_brings_it_not_back(
    tokens, monkeypatch
):
    token = tokens.add("ada", ["look"], lasts=60)
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 61)
    assert tokens.find(token) is None
    monkeypatch.setattr(time, "time", lambda: now)
    assert tokens.find(token) is None
    assert tokens.list()[0].expires is not None


def test_a_file_that_others_may_write_or_that_is_damaged_lets_nobody_in(tokens, caplog):
    token = tokens.add("ada", ["look"])
    assert tokens.find(token)
    text = tokens.path.read_text()
    tokens.path.write_text(text[: len(text) // 2])
    with caplog.at_level(logging.ERROR):
        assert tokens.find(token) is None
    assert "nobody is let in" in caplog.text
    with pytest.raises(InvalidTaskError, match="is no file of tokens"):
        Tokens(tokens.path)
    tokens.path.write_text(text)
    tokens.path.chmod(0o666)
    assert tokens.find(token) is None
    with pytest.raises(InvalidTaskError, match="others than its owner may write it"):
        create_app(TaskOrchestrator(), token=None, tokens=tokens.path)
    tokens.path.chmod(0o600)
    assert tokens.find(token)
    tokens.path.unlink()
    assert tokens.find(token) is None


@pytest.mark.parametrize(
    ("say", "words"),
    [
        (lambda t: t.add("ada", []), "roles: at least one is needed"),
        (lambda t: t.add("ada", ["lok"]), "there is no role 'lok'.*look"),
        (lambda t: t.add("ada", "look"), "roles: a collection of names"),
        (lambda t: t.add("", ["look"]), "name"),
        (lambda t: t.add("a:b", ["look"]), "without a colon"),
        (lambda t: t.add("ada\n", ["look"]), "can be printed"),
        (lambda t: t.add(f"tko_{'0' * 12}_x", ["look"]), "a token is no name"),
        (lambda t: t.add("ada", ["look"], kind="robot"), "kind"),
        (lambda t: t.add("ada", ["look"], lasts=-1), "a time above 0"),
        (lambda t: t.add("ada", ["look"], tenants="acme"), "tenants: a collection"),
        (lambda t: t.set_role("look", ["tasks"]), "has a meaning already"),
        (lambda t: t.set_role("own", ["rerun"]), "there is no verb 'rerun'"),
        (lambda t: t.set_role("own", ["make_token"]), "may do all"),
        (lambda t: t.revoke("ada"), "nobody has a token by 'ada'"),
        (lambda t: t.revoke("tko_123_abc"), "by its id, or by a name"),
        (lambda t: t.change("ada", ["look"]), "nobody has a token"),
    ],
)
def test_what_is_no_token_or_role_is_refused(tokens, say, words):
    with pytest.raises(InvalidTaskError, match=words) as caught:
        say(tokens)
    assert "tko_123_abc" not in str(caught.value)


def test_tokens_are_made_changed_and_ended_over_http(house, tokens):
    app, _ = house
    root = tokens.add("root", ["administer"])

    def post(path, said=None, status=200):
        answer = ask(app, "POST", f"/api/v1{path}", root, said)
        assert answer.status == status, answer
        return json.loads(answer.body)

    said = {"name": "ada", "roles": ["look"], "lasts": 60, "tenants": ["acme"]}
    first = post("/tokens", said, 201)["token"]
    assert ask(app, "GET", "/api/v1/tasks", first).status == 200
    second = post("/tokens/ada/rotate", status=201)["token"]
    post("/roles", {"name": "night", "verbs": ["rerun_task"]})
    assert post("/tokens/ada/change", {"roles": ["night"]})["count"] == 2
    for token in (first, second):
        assert ask(app, "GET", "/api/v1/tasks", token).status == 403
        assert tokens.find(token)[1].tenants == {"acme"}
    listed = json.loads(ask(app, "GET", "/api/v1/tokens", root).body)
    assert listed["roles"] == {"night": ["rerun_task"]}
    assert [each["name"] for each in listed["tokens"]] == ["root", "ada", "ada"]
    assert listed["tokens"][0]["used"]
    assert post("/tokens/ada/revoke")["count"] == 2
    for token in (first, second):
        assert ask(app, "GET", "/api/v1/me", token).status == 401
    post("/tokens/ada/revoke", status=404)
    post("/tokens/ada/rotate", status=404)
    post("/tokens/ada/change", {"roles": ["look"]}, 404)
    post("/tokens", {**said, "roles": ["lok"]}, 422)
    post("/tokens", {"name": "ada"}, 422)


# -- what is open, and what was proved otherwise ---------------------------------------


@pytest.mark.parametrize("change", ["revoke", "roles", "expiry"])
def test_a_stream_ends_soon_after_its_reader_may_not_read_it(tokens, change):
    token = tokens.add("ada", ["look"], lasts=2 if change == "expiry" else None)
    with served(orchestrator(), token=None, tokens=tokens) as service:
        service.token = token
        with service.follow() as stream:
            assert stream.status == 200
            stream.response.readline()
            if change == "revoke":
                tokens.revoke("ada")
            elif change == "roles":
                tokens.change("ada", ["worker"])
            # To its end: a stream that goes on would time out.
            assert b"event: task" not in stream.response.read()
        status = 403 if change == "roles" else 401
        assert service.ask("GET", "/api/v1/events").status == status


def test_a_wait_ends_soon_after_its_asker_may_not_ask(tokens):
    token = tokens.add("ada", ["look"])
    with served(orchestrator(), token=None, tokens=tokens) as service:
        service.orch.submit_task(Task.question("go?", id="q"))
        service.token = token
        began = time.monotonic()
        threading.Timer(0.2, tokens.revoke, ["ada"]).start()
        answer = service.ask("GET", "/api/v1/tasks/q/result?wait=25")
        assert answer.status == 401
        assert time.monotonic() - began < 15


def test_a_header_counts_only_from_the_proxy_that_checks_it(house):
    _, orch = house
    people = {"ada": caller_of("ada", ["operate"]), "lou": caller_of("lou", ["look"])}
    proxy = ProxyHeader("X-Forwarded-User", proxies=["10.0.0.1"], people=people.get)
    plain = new_token()
    app = create_app(orch, token=plain, identity=proxy, page=True)

    def me(address, token=None, **more):
        answer = ask(app, "GET", "/api/v1/me", token, address=address, **more)
        return json.loads(answer.body).get("name", answer.status)

    assert me("10.0.0.1", x_forwarded_user="ada") == "ada"
    assert me("10.0.0.1", x_forwarded_user="lou") == "lou"
    assert me("10.0.0.1") == 401
    for header in ("x-forwarded-user", "x_forwarded_user", "X-FORWARDED-USER"):
        sent = {header: "ada"}
        # Nor does the token help whoever makes up a name.
        for token in (None, plain):
            answer = ask(app, "GET", "/api/v1/me", token, address="10.0.0.2", **sent)
            assert (answer.status, answer.code) == (403, "not_identified")
    for name in ("eve", "", "ada:x", "ada\x00"):
        assert me("10.0.0.1", x_forwarded_user=name) == 403
    # One of two may be from outside, and a server may take both spellings for one.
    ada = "x-forwarded-user", "ada"
    for second in ("x_forwarded_user", "x-forwarded-user"):
        assert me("10.0.0.1", headers=[ada, (second, "lou")]) == 403
        assert me("10.0.0.2", headers=[(second, "lou")]) == 403
    assert me("10.0.0.2", plain) == ""
    path = "/api/v1/tasks/of-acme/cancel"
    sent = {"x_forwarded_user": "lou"}
    assert ask(app, "POST", path, address="10.0.0.1", **sent).code == "not_allowed"
    with pytest.raises(InvalidTaskError, match="proxies is a collection"):
        ProxyHeader("x", proxies="10.0.0.1", people=people.get)


def test_a_session_is_a_cookie_that_no_other_page_can_use(house, tokens):
    app, _ = house
    token = tokens.add("ada", ["operate"])
    answer = ask(app, "POST", "/api/v1/login", token)
    cookie = answer.headers["set-cookie"]
    assert token not in cookie
    assert {"HttpOnly", "SameSite=Strict", "Path=/"} <= set(cookie.split("; "))
    secure = ask(app, "POST", "/api/v1/login", token, origin="https://127.0.0.1:8080")
    assert "; Secure" in secure.headers["set-cookie"]
    sent = {"cookie": cookie.partition(";")[0]}
    assert ask(app, "GET", "/api/v1/me", **sent).status == 200
    path, said = "/api/v1/starts/hold", {"reason": "x"}
    own = {"origin": "http://127.0.0.1:8080"}
    for more, status in (
        ({}, 403),
        ({"origin": "http://127.0.0.1:9999"}, 403),
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"sec-fetch-site": "same-site"}, 403),
        ({"sec-fetch-site": "none"}, 403),
        ({"sec-fetch-site": "same-origin"}, 200),
        (own, 200),
    ):
        answer = ask(app, "POST", path, said=said, **sent, **more)
        assert answer.status == status, more
    for site in ("same-site", "cross-site"):
        answer = ask(app, "GET", "/api/v1/tasks", **sent, **{"sec-fetch-site": site})
        assert answer.status == 403
    # Two of one name, one on another port, one that was changed: none.
    name, _, session = sent["cookie"].partition("=")
    for wrong in (
        f"{name}={session}; {name}=x",
        f"taskorch-9999={session}",
        f"{name}={session[:-1]}",
        f"{name}=0{session[1:]}",
        f"{name}={session.replace('.', '..', 1)}",
    ):
        assert ask(app, "GET", "/api/v1/me", cookie=wrong).status == 401
    # A wrong token is not made right by a cookie.
    assert ask(app, "GET", "/api/v1/me", new_token(), **sent).status == 401
    tokens.change("ada", ["look"])
    assert ask(app, "POST", path, said=said, **sent, **own).code == "not_allowed"
    ended = ask(app, "POST", "/api/v1/logout", **sent, **own)
    assert "Max-Age=0" in ended.headers["set-cookie"]
    assert ask(app, "GET", "/api/v1/me", **sent).status == 401
    again = ask(app, "POST", "/api/v1/login", token).headers["set-cookie"]
    sent = {"cookie": again.partition(";")[0]}
    assert ask(app, "GET", "/api/v1/me", **sent).status == 200
    tokens.revoke("ada")
    assert ask(app, "GET", "/api/v1/me", **sent).status == 401
    # By a cookie alone no other session begins.
    assert ask(app, "POST", "/api/v1/login", **sent, **own).status == 401


@pytest.mark.parametrize(("lasts", "after"), [(60, 61), (None, 7 * 86_400 + 5)])
def test_a_session_ends_with_its_token_and_at_its_own_time(
    house, tokens, monkeypatch, lasts, after
):
    app, _ = house
    token = tokens.add("ada", ["look"], lasts=lasts)
    answer = ask(app, "POST", "/api/v1/login", token)
    sent = {"cookie": answer.headers["set-cookie"].partition(";")[0]}
    assert ask(app, "GET", "/api/v1/me", **sent).status == 200
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + after)
    assert ask(app, "GET", "/api/v1/me", **sent).status == 401


def test_of_two_tokens_in_one_request_none_counts(house, tokens):
    app, _ = house
    token = tokens.add("ada", ["look"])
    for other in (token, tokens.add("lou", ["look"]), "x"):
        second = [("authorization", f"Bearer {other}")]
        assert ask(app, "GET", "/api/v1/me", token, headers=second).status == 401


# -- that nothing gives a token away ---------------------------------------------------


def test_a_token_stands_nowhere_but_where_it_was_told(tmp_path, tokens, caplog):
    token = tokens.add("ada", ["operate", "submit"])
    wrong = f"{token[:-4]}AAAA"
    orch = orchestrator(journal=tmp_path / "runs.db")
    texts = []
    with caplog.at_level(logging.DEBUG), served(orch, token=None, tokens=tokens) as one:
        for each in (token, wrong):
            one.token = each
            for method, path, said in (
                ("GET", "/api/v1/events", None),
                ("GET", "/metrics", None),
                ("GET", "/openapi.json", None),
                ("GET", "/api/v1/nowhere", None),
                ("GET", "/api/v1/tasks?what=1", None),
                ("POST", "/api/v1/tasks", {"type": "echo"}),
                ("POST", "/api/v1/tasks", {"type": 5}),
                ("POST", "/api/v1/starts/hold", {"reason": "x", "by": "bob"}),
                ("POST", "/api/v1/tokens", {}),
            ):
                answer = one.ask(method, path, said)
                texts += [answer.body.decode(), str(answer.headers)]
        with pytest.raises(ServiceError) as caught:
            Client(one.server.url, token=wrong).tasks().__next__()
        texts.append(repr(caught.value.__dict__) + str(caught.value))
    texts.append(caplog.text)
    texts += [each.read_bytes().decode("latin-1") for each in tmp_path.glob("runs.db*")]
    texts.append(tokens.path.read_text())
    for text in texts:
        for secret in (token, wrong, token.split("_", 2)[2]):
            assert secret not in text


def test_a_worker_with_a_token_of_its_own_may_be_nothing_else(tokens):
    """Its token does work, and shows nothing."""
    token = tokens.add("worker-7", ["worker"], kind="program")
    orch = TaskOrchestrator(unknown_capability="wait")
    with served(orch, token=None, tokens=tokens, agents=True) as service:
        url = service.server.url
        abilities = Abilities((), {"add": sum})
        with at_work(Agent("elsewhere", url, token=token, abilities=abilities)):
            assert orch.submit_task(Task("add", [1, 2])).result(timeout=30) == 3
        service.token = token
        for path in ("/api/v1/tasks", "/api/v1/agents/elsewhere", "/metrics"):
            assert service.ask("GET", path).status == 403
