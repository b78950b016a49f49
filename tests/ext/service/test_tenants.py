"""What a token that is bound to tenants reaches: of other tenants, and of us, nothing."""

from __future__ import annotations

import json
from urllib.parse import quote

import pytest
from tests.api.tools import PATIENCE, eventually
from tests.ext.service.test_people import ask
from tests.ext.service.tools import Service, shown

from taskorch import Task, TaskOrchestrator, Workflow, current_context
from taskorch.api.verbs.table import VERBS
from taskorch.api.workflows import document_schema
from taskorch.ext.incoming._whose import ARGUMENTS, TASK, WORKFLOW, Keys
from taskorch.ext.people import Tokens
from taskorch.ext.service import create_app
from taskorch.ext.service._submissions import work_schemas
from taskorch.ext.service._tenants import is_for_bound
from taskorch.protocols import RetryDecision

SAY = (
    "say in taskorch/ext/incoming/_whose.py whose {} is: what a token that is bound to "
    "tenants may say there, so that it reaches no other tenant"
)


class AskPeople:
    def decide(self, failure, context):
        return RetryDecision(retry=False, ask="What now?")


calls = []


def double(n):
    calls.append(n)
    return 2 * n


def fail(n):
    msg = "no disk left"
    raise RuntimeError(msg)


def spend(n):
    current_context().spent(tokens=n)
    return n


@pytest.fixture
def house(tmp_path):
    tokens = Tokens(tmp_path / "tokens.json")
    held = {
        "ann": tokens.add("ann", ["submit", "operate"], tenants=["acme"]),
        "gil": tokens.add("gil", ["submit", "operate"], tenants=["globex"]),
        "sue": tokens.add("sue", ["submit"]),
        "bob": tokens.add("bob", ["operate", "speak_for"]),
        "eve": tokens.add("eve", ["operate"]),
        "root": tokens.add("root", ["administer"]),
    }
    orch = TaskOrchestrator(retry_handler=AskPeople())
    functions = {"double": double, "fail": fail, "spend": spend}
    app = create_app(
        *(orch,), token=None, tokens=tokens, functions=functions, programs=True
    )

    def asked(who, method, path, body=None, **more):
        got = ask(app, method, f"/api/v1{path}", held[who], body, **more)
        return got.status, json.loads(got.body or b"null")

    with orch:
        yield asked, orch
        app.state.close()
        # Those that wait for what never comes are not waited for.
        orch.stop(drain=False)


def submit(asked, who, **document):
    return asked(who, "POST", "/tasks", document)


# -- each field, each argument ---------------------------------------------------------


def keys_in(schema, parts, path=""):
    """The paths of all keys that a schema has, with those in what it refers to."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        if name in ("argument", "item", "id", "name"):
            return
        yield from keys_in(parts[name], parts, path)
    for key, part in schema.get("properties", {}).items():
        yield f"{path}{key}"
        yield from keys_in(part, parts, f"{path}{key}.")
    for key in ("then", "else", "if", "items", "additionalProperties"):
        if isinstance(part := schema.get(key), dict):
            below = f"{path}*." if key == "additionalProperties" else path
            yield from keys_in(part, parts, below)
    for part in (*schema.get("anyOf", ()), *schema.get("allOf", ())):
        yield from keys_in(part, parts, path)


def is_said(keys, path):
    """Whether the table has a line for what stands at *path*."""
    for part in path.split("."):
        if not isinstance(keys, Keys):
            return True
        keys = keys.each if keys.each is not None else keys.rules.get(part)
        if keys is None:
            return False
    return True


def test_of_each_key_of_a_document_it_is_said_whose_it_is():
    schema = document_schema()
    parts = schema.pop("$defs")
    found = {*keys_in(schema, parts)}
    assert {"tasks.*.wait_for", "tasks.*.cache.key", "phases.*.gate.file"} <= found
    for path in sorted(found):
        assert is_said(WORKFLOW, path), SAY.format(path)
    alone = work_schemas(["double"], programs=True)["Task"]["anyOf"]
    for key in {key for kind in alone for key in kind["properties"]}:
        assert key in TASK.rules, SAY.format(key)


def test_of_each_argument_of_a_verb_it_is_said_whose_it_is():
    class Asked:
        def __init__(self, verb):
            self.name, self.path = verb.operation, f"/api/v1{verb.path}"
            self.role = ""

    theirs = [v for v in VERBS.values() if v.request and is_for_bound(Asked(v))]
    assert {"decide", "answer", "rerun_task", "find_workflows"} <= {
        verb.operation for verb in theirs
    }
    for verb in theirs:
        for each in verb.arguments:
            assert each.key in ARGUMENTS.rules, SAY.format(
                f"{verb.operation}.{each.key}"
            )


def test_a_key_that_nobody_has_thought_about_is_refused_to_them(house, monkeypatch):
    asked, _ = house
    rules = {**TASK.rules}
    del rules["timeout"]
    monkeypatch.setattr("taskorch.ext.incoming.TASK", Keys(rules))
    status, said = submit(asked, "ann", call="double", args=[1], timeout=9)
    assert status == 422
    assert said["findings"][0]["path"] == "tasks[0].timeout"
    assert submit(asked, "sue", call="double", args=[1], timeout=9)[0] == 202


#: What reaches others, and what is like it and does not.
REACHES = [
    ({"wait_for": "secret/globex"}, {"wait_for": "acme/secret"}),
    ({"wait_for": "globex/secret"}, {"wait_for": "acme"}),
    ({"wait_for": "acmex/secret"}, {"wait_for": None, "timeout": 60, "default": 1}),
    ({"wait_for": "approval of night x"}, {"wait_for": "acme/approval of night x"}),
    ({"budget": "globex"}, {"budget": "acme"}),
    ({"budget": "globex-part"}, {"budget": "acme-part"}),
    ({"budget": "all"}, {"budget": "acme-part"}),
    ({"budget": "nobody"}, {}),
    ({"writes": ["**"]}, {"writes": ["acme/**"]}),
    ({"writes": ["acme/**", "globex/a"]}, {"writes": ["./acme/a", "acme/b"]}),
    ({"writes": ["acm*/**"]}, {"writes": ["acme/*/b"]}),
    ({"writes": ["acmex/**"]}, {"writes": []}),
    ({"priority": 1}, {"priority": 0}),
    ({"priority": 1_000}, {"priority": -5}),
    ({"resources": {"night/build:2": 1}}, {"resources": {"cpu": 1}}),
    ({"resources": {"elastic": {"night/build:2": 1}}}, {"resources": {}}),
    ({"owner": "globex"}, {"owner": "acme"}),
    ({"after": ["theirs"]}, {"after": []}),
    ({"program": ["cat", "runs.db"]}, {}),
]


@pytest.mark.slow("an orchestrator for each field")
@pytest.mark.parametrize(("other", "own"), REACHES)
def test_a_bound_token_reaches_no_other_tenant_by_a_field(house, other, own):
    asked, orch = house
    orch.budget("all", tokens=100)
    for name in ("acme", "globex"):
        orch.budget(name, parent="all", tokens=50)
        orch.budget(f"{name}-part", parent=name, tokens=20)
    orch.submit_task(Task.wait_for("never", id="theirs", owner="globex"))
    call = {"call": "double", "args": [1]}

    def kind(said):
        return said if {"wait_for", "program"} & {*said} else {**call, **said}

    before = {each.task_id for each in orch.tasks()}
    status, said = submit(asked, "ann", **kind(other))
    assert status == 422, said
    flow = {"workflow": "w", "tasks": {"one": kind(other)}}
    status, said = asked("ann", "POST", "/workflows", {"workflow": flow})
    assert status == 422, said
    assert {each.task_id for each in orch.tasks()} == before
    assert submit(asked, "ann", **kind(own))[0] == 202
    flow = {"workflow": "w", "tasks": {"one": kind(own)}}
    assert asked("ann", "POST", "/workflows", {"workflow": flow})[0] == 202
    # Whoever is bound to no tenant may say it as before, if it is there.
    if "owner" in other or "priority" in other or "wait_for" in other:
        assert submit(asked, "sue", **kind(other))[0] == 202


def test_an_event_of_another_is_no_result_of_theirs(house):
    asked, orch = house
    orch.emit("secret/globex", {"card": 4711}, keep=600)
    status, said = submit(asked, "ann", wait_for="secret/globex", id="spy")
    assert status == 422
    assert "4711" not in json.dumps(said)
    assert asked("ann", "GET", "/tasks/spy/result")[0] == 404
    orch.emit("acme/arrived", 7, keep=600)
    assert submit(asked, "ann", wait_for="acme/arrived", id="mine")[0] == 202
    assert orch.handle("mine").result(60) == 7


def test_what_is_taken_says_nothing_of_whom_it_is(house):
    asked, orch = house
    orch.submit_task(Task.call(double, {"card": 4711}, id="pay", owner="globex"))
    orch.submit_task(Task.wait_for("x", id="loose/secret-name", owner="globex"))
    task = {"call": "double", "args": [1]}
    status, said = submit(asked, "ann", id="pay", **task)
    assert (status, said["findings"][0]["message"]) == (422, "it is taken")
    run = {"workflow": {"workflow": "w", "tasks": {"secret-name": task}}, "id": "loose"}
    status, said = asked("ann", "POST", "/workflows", run)
    assert (status, said["findings"][0]["message"]) == (422, "it is taken")
    assert "secret" not in json.dumps(said)


def test_a_key_is_another_one_for_each_tenant(tmp_path):
    tokens = Tokens(tmp_path / "tokens.json")
    one = tokens.add("one", ["submit"], tenants=["a"])
    two = tokens.add("two", ["submit"], tenants=["a:b"])
    orch = TaskOrchestrator()
    app = create_app(orch, token=None, tokens=tokens, functions={"double": double})

    def send(path, token, said, **more):
        got = ask(app, "POST", f"/api/v1{path}", token, said, **more)
        assert got.status == 202, got
        said = json.loads(got.body)
        return said.get("task_id") or said["workflow_id"]

    with orch:
        task = {"call": "double", "args": [1]}
        ids = {
            send("/tasks", one, {**task, "idempotency_key": "b:k"}),
            send("/tasks", two, {**task, "idempotency_key": "k"}),
        }
        assert len(ids) == 2
        flow = {"workflow": {"workflow": "w", "tasks": {"a": task}}}
        same = {"idempotency_key": "night"}
        runs = [send("/workflows", each, flow, **same) for each in (one, one, two)]
        assert runs[0] == runs[1] != runs[2]
        app.state.close()


def test_a_cached_result_is_its_tenants(house):
    asked, orch = house
    calls.clear()
    task = {"call": "double", "args": [21], "cache": {"key": "k", "version": "1"}}
    names = []
    for who in ("ann", "ann", "gil"):
        status, said = submit(asked, who, **task)
        assert status == 202, said
        names.append(said["task_id"])
        assert orch.handle(names[-1]).result(60) == 42
    assert calls == [21, 21]


def test_a_verb_takes_no_argument_that_reaches_others(house):
    asked, _ = house
    assert submit(asked, "ann", wait_for="acme/x", id="mine")[0] == 202
    for priority, status in ((1, 422), (1_000, 422), (0, 200), (-3, 200)):
        said = {"priority": priority}
        assert asked("ann", "POST", "/tasks/mine/priority", said)[0] == status
    assert asked("eve", "POST", "/tasks/mine/priority", {"priority": 9})[0] == 200


def test_an_escalation_tells_a_tenant_of_theirs_alone(house):
    asked, orch = house
    orch.submit_task(Task.wait_for("never", id="others", owner="globex"))
    assert submit(asked, "ann", call="fail", args=[1], id="ann/1")[0] == 202
    orch.submit_task(Task.call(double, 1, id="below", owner="globex", after=["ann/1"]))

    def open_now(who):
        return asked(who, "GET", "/escalations")[1]["escalations"]

    eventually(lambda: open_now("ann"))
    (told,), (whole,) = open_now("ann"), open_now("root")
    assert whole["system_state"]["blocked_tasks"]
    assert whole["blocking_tasks"] == ["below"]
    assert told["system_state"] == told["details"]["system_state"] == {}
    assert told["blocking_tasks"] == told["details"]["blocking_tasks"] == []
    assert "below" not in json.dumps(told)
    assert not open_now("gil")


def test_an_event_about_no_task_is_of_all_and_not_for_a_tenant(house):
    asked, orch = house
    assert submit(asked, "ann", call="double", args=[1], id="mine")[0] == 202
    orch.hold_starts("the press of globex is cleaned")
    eventually(lambda: "starts_held" in str(asked("root", "GET", "/events")))
    told = str(asked("ann", "GET", "/events"))
    assert "mine" in told
    assert "globex" not in told


def test_of_runs_each_counts_its_own_and_all_of_them(tmp_path):
    tokens = Tokens(tmp_path / "tokens.json")
    tenants = {"root": None, "ann": ["acme"], "gil": ["globex"]}
    held = {n: tokens.add(n, ["operate"], tenants=t) for n, t in tenants.items()}
    with shown(tokens=tokens) as service:
        for number, tenant in enumerate(("acme", "globex", "acme", "acme")):
            flow = Workflow("flow")
            flow.add(Task.call(double, 1, id="a", owner=tenant))
            service.orch.workflows.start(flow, f"run-{number}").result(PATIENCE)
        # A run of both is for neither.
        flow = Workflow("flow")
        for tenant in ("acme", "globex"):
            flow.add(Task.call(double, 1, id=tenant, owner=tenant))
        service.orch.workflows.start(flow, "mixed").result(PATIENCE)

        def listed(who):
            own = Service(service.orch, service.server, held[who])
            return own.get("/api/v1/runs?limit=1")

        eventually(lambda: listed("root")["total"] == 5)
        for who, total in (("ann", 3), ("gil", 1)):
            page = listed(who)
            assert (len(page["runs"]), page["total"]) == (1, total), who


def test_a_restart_that_would_run_tasks_of_others_is_refused(house):
    asked, orch = house
    flow = Workflow("shared")
    flow.add(Task.call(fail, 1, id="first", owner="acme"))
    flow.add(Task.call(fail, 2, id="second"))
    run = orch.workflows.start(flow, "shared")
    eventually(lambda: len(orch.questions()[0].tasks) == 2)
    path = "/workflows/shared"
    assert asked("ann", "GET", path)[0] == 200
    assert asked("gil", "POST", f"{path}/restart")[0] == 404
    orch.decide("shared/first", "fail")
    orch.decide("shared/second", "fail")
    eventually(lambda: run.status().state == "failed")
    assert asked("ann", "POST", f"{path}/restart")[0] == 202


def test_tools_are_of_all_tenants_and_refused_to_them(tmp_path):
    pytest.importorskip("mcp")
    tokens = Tokens(tmp_path / "tokens.json")
    ann = tokens.add("ann", ["administer"], tenants=["acme"])
    app = create_app(TaskOrchestrator(), token=None, tokens=tokens, mcp=[])
    assert ask(app, "POST", "/mcp", ann, {}).code == "not_for_tenants"
    app.state.close()


# -- names of ours ---------------------------------------------------------------------


def test_ids_that_we_make_are_refused_from_outside(house):
    asked, orch = house
    orch.schedules.add("nightly", "0 3 * * *", Task("double", 1))
    orch.budget("b", tokens=10)
    flow = Workflow("flow")
    flow.add(Task.wait_for("never", id="a"))
    orch.workflows.start(flow, "night")
    own = submit(asked, "sue", call="double", args=[1])[1]["task_id"]
    prefix, _, number = own.rpartition("-")
    ours = {
        "escalation/gil/1": "escalations",
        f"waiver/{prefix}-9": "waivers",
        "budget-b/1": "questions about budgets",
        "budget-b/1-2": "questions about budgets",
        "nightly/2031-01-01T0300Z": "ticks of nightly",
        "nightly/2031-01-01T030000.500000Z": "ticks of nightly",
        "nightly-2031-01-01T0300Z/one": "ticks of nightly",
        f"{prefix}-{int(number) + 1}": "tasks without an id",
        f"night-{prefix}-7/a": "tasks without an id",
        "night/b": "the tasks of the run night",
        "night/a/added/3": "the tasks of the run night",
    }
    for name, of in ours.items():
        for who in ("sue", "ann"):
            status, said = submit(asked, who, call="double", args=[1], id=name)
            assert status == 422, (name, said)
            assert f"those of {of}" in said["findings"][0]["message"]
        run, _, task = name.partition("/")
        if task and run != "night":
            tasks = {task: {"call": "double", "args": [1]}}
            body = {"workflow": {"workflow": "w", "tasks": tasks}, "id": run}
            assert asked("sue", "POST", "/workflows", body)[0] == 422, name
    assert submit(asked, "sue", call="double", args=[1], id="x~2")[0] == 422
    for name in ("nightly/fix", "other/2031-01-01T0300Z", "budget-b/all", "escalation"):
        assert submit(asked, "sue", call="double", args=[1], id=name)[0] == 202, name
    # A schedule alone says what it has made.
    for name in ("schedule", "slot", "parameters"):
        said = {"call": "double", "args": [1], "metadata": {f"taskorch.{name}": "x"}}
        assert submit(asked, "sue", **said)[0] == 422
        body = {"workflow": {"workflow": "w", "tasks": {"a": said}}}
        assert asked("sue", "POST", "/workflows", body)[0] == 422


def test_one_token_counts_once_however_many_it_speaks_for(house):
    asked, orch = house
    orch.submit_task(Task.question("go?", id="q", quorum=2))

    def answer(who, **said):
        status, said = asked(
            who, "POST", "/tasks/q/answer", {"choice": "approve", **said}
        )
        return status, said.get("decided"), said.get("detail", "")

    assert answer("bob", by="ada")[:2] == (200, False)
    for name in ("lou", "\u0430da", "bob"):
        status, _, why = answer("bob", by=name)
        assert status == 409
        assert "counts once" in why
    assert answer("eve")[:2] == (200, True)
    assert orch.handle("q").result(60).by == ("ada", "eve")


def test_answers_keep_whose_token_they_are_of_in_the_next_incarnation(tmp_path):
    tokens = Tokens(tmp_path / "tokens.json")
    bob = tokens.add("bob", ["operate", "speak_for"])
    path = f"/api/v1/tasks/{quote('q', safe='')}/answer"
    for name, status in (("ada", 200), ("lou", 409)):
        orch = TaskOrchestrator(journal=tmp_path / "runs.db")
        app = create_app(orch, token=None, tokens=tokens)
        with orch:
            orch.submit_task(Task.question("go?", id="q", quorum=2))
            said = {"choice": "approve", "by": name}
            assert ask(app, "POST", path, bob, said).status == status
            app.state.close()
            orch.stop(drain=False)


# -- what would be touched -------------------------------------------------------------


def test_a_preview_says_of_others_nothing(house):
    asked, orch = house
    orch.submit_task(Task.wait_for("never", id="a", owner="acme"))
    orch.submit_task(Task.call(double, 1, id="b", after=["a"], owner="globex"))
    query = "operation=cancel_task&subject=a"
    assert "1 task waits" in asked("root", "GET", "/previews", query=query)[1]["text"]
    status, said = asked("ann", "GET", "/previews", query=query)
    assert status == 200
    assert said == {
        "text": "",
        "tasks": [],
        "count": 0,
        "parameters": [],
        "does_something": True,
    }


@pytest.mark.parametrize("call", [c for c, verb in VERBS.items() if verb.preview])
def test_a_preview_of_what_is_not_theirs_is_refused(house, call):
    asked, orch = house
    orch.submit_task(Task.wait_for("never", id="b", owner="globex"))
    query = f"operation={VERBS[call].operation}&subject=b"
    assert asked("ann", "GET", "/previews", query=query)[0] in (403, 404)
