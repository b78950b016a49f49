"""
Requests that nobody means well, with the tokens of all roles and tenants.

They are made by chance of the routes, keys and parameters that the service describes.
Nobody gets in who may not, nobody is answered by a 500, and who is bound to a tenant
neither sees nor changes anything of another one. `TASKORCH_REQUESTS=20000` tries so many, and another `TASKORCH_REQUESTS_SEED` others.
"""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from random import Random
from urllib.parse import quote

import pytest
from tests.ext.service.test_people import FOR_ALL, ROLES, ask, expected, shown
from tests.ext.service.tools import JSON, orchestrator
from tests.house.hostile import JSON as VALUES

from taskorch import Task, Workflow
from taskorch.ext.people import Tokens
from taskorch.ext.service import create_app

REQUESTS = int(os.environ.get("TASKORCH_REQUESTS", "400"))
SEED = int(os.environ.get("TASKORCH_REQUESTS_SEED", "12"))
SECRET = "SECRET-of-beta"
#: Routes after which the service takes nothing more.
ENDINGS = re.compile("drain|stop|shutdown|follow_events")
#: What stands in the place of an id, a name, or a number.
WORDS = [
    *("of-acme", "of-beta", "ask-acme", "ask-beta", "run-beta", "run-beta/one", "x"),
    *("of-beta~1", "../of-beta", "%2e%2e", "*", "beta", "acme", "a" * 300, "é\x00", ""),
    *("-1", "0", "1e999", "NaN", "true", "null", "[]", "{}", "0.01", "of-beta?x=1"),
]
FORGED = [None, "", "x", "x" * 64, "Bearer", "é", "' OR 1=1 --"]


@pytest.fixture
def house(tmp_path):
    """An app with all that it can have, tokens of all kinds, and two tenants."""
    tokens = Tokens(tmp_path / "tokens.json")
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
    orch.budget("beta", tokens=10)
    with orch:
        for tenant in ("acme", "beta"):
            said = f"SECRET-of-{tenant}"
            task = Task("echo", said, id=f"of-{tenant}", owner=tenant)
            orch.submit_task(task).result(60)
            ask_task = Task.question(said, id=f"ask-{tenant}", owner=tenant)
            orch.submit_task(ask_task)
            flow = Workflow(f"night-{tenant}")
            flow.add(Task("echo", said, id="one", owner=tenant))
            orch.workflows.start(flow, f"run-{tenant}").result(60)
        yield app, orch, tokens
        app.state.close()
        orch.stop(drain=False)


class Hostile:
    """Makes requests by chance."""

    def __init__(self, app, token, seed):
        self.app, self.rng = app, Random(seed)
        description = json.loads(ask(app, "GET", "/openapi.json", token).body)
        self.parts = description["components"]["schemas"]
        self.described = description["paths"]
        self.operations = [
            each
            for each in shown(app.state.operations)
            if not ENDINGS.search(each.name)
        ]

    def value(self):
        """A text of JSON."""
        rng = self.rng
        return rng.choice(
            [
                rng.choice([*VALUES.values()]),
                json.dumps(rng.choice(WORDS)),
                json.dumps([rng.choice(WORDS)]),
                json.dumps({rng.choice(WORDS): rng.choice(WORDS)}),
                rng.choice(["0", "-1", "1e400", "true", "null", "0.001"]),
            ]
        )

    def fields(self, schema):
        """The names of what a body may have."""
        while "$ref" in schema:
            schema = self.parts[schema["$ref"].rpartition("/")[2]]
        several = [schema, *schema.get("oneOf", []), *schema.get("anyOf", [])]
        return sorted({name for each in several for name in each.get("properties", {})})

    def request(self):
        """An operation, the path, the query, and the body or None."""
        rng = self.rng
        operation = rng.choice(self.operations)
        path = re.sub(
            r"{\w+}", lambda _: quote(rng.choice(WORDS), safe=""), operation.path
        )
        said = self.described.get(operation.path, {}).get(operation.method.lower(), {})
        names = [
            each["name"] for each in said.get("parameters", ()) if each["in"] == "query"
        ]
        pairs = [
            f"{name}={quote(rng.choice(WORDS))}"
            for name in [*names, "unheard_of"]
            if name != "wait" and rng.random() < 0.3
        ]
        content = said.get("requestBody", {}).get("content", {}).get(JSON)
        if content is None or rng.random() < 0.1:
            return operation, path, "&".join(pairs), None
        kept = [n for n in self.fields(content["schema"]) if rng.random() < 0.6]
        body = ", ".join(f"{json.dumps(n)}: {self.value()}" for n in kept)
        return operation, path, "&".join(pairs), f"{{{body}}}"


def test_nobody_gets_in_and_nothing_breaks(house):
    app, orch, tokens = house
    hostile = Hostile(app, tokens.add("ops", ["administer"]), SEED)
    rng = hostile.rng
    free = {role: tokens.add(f"a {role}", [role]) for role in ROLES}
    bound = {
        role: tokens.add(f"acme's {role}", [role], tenants=["acme"])
        for role in ROLES
        if role not in ("worker", "speak_for")
    }
    statuses = Counter()

    def said(token, address="127.0.0.1"):
        operation, path, query, body = hostile.request()
        where = {"query": query, "address": address, "raw": True}
        answer = ask(app, operation.method, path, token, body, **where)
        at = (operation.name, path, query, body, answer)
        assert answer.status < 500, at
        statuses[answer.status // 100] += 1
        return operation, answer, at

    def of_beta():
        tasks = {
            each.task_id: str(each) for each in orch.tasks() if "beta" in str(each)
        }
        return tasks, orch.resources.budgets(), orch.resources.quotas()

    before = of_beta()
    for _ in range(REQUESTS // 2):
        role, token = rng.choice([*bound.items()])
        operation, answer, at = said(token)
        assert SECRET.encode() not in answer.body, (role, at)
        is_refused = answer.status == 403 or answer.code == "unknown_path"
        assert is_refused or expected(operation, role), (role, at)
        assert of_beta() == before, (role, at)
    for turn in range(REQUESTS // 2):
        if rng.random() < 0.2:
            # From one address there may be 20 a second.
            operation, answer, at = said(rng.choice(FORGED), f"10.0.0.{turn % 200}")
            assert answer.status in (400, 401) or operation.name in FOR_ALL, at
            continue
        role, token = rng.choice([*free.items()])
        operation, answer, at = said(token)
        is_refused = answer.code in ("not_allowed", "unknown_path")
        assert is_refused or expected(operation, role), (role, at)
    assert min(statuses[2], statuses[4]) > REQUESTS // 20, statuses
    assert orch.submit(divmod, 7, 2).result(60) == (3, 1)
