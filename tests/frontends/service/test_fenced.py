"""Whatever a body holds, the service answers with what is wrong, never with a 500."""

from __future__ import annotations

import re

import pytest
from tests.frontends.service.tools import JSON, orchestrator, served
from tests.hostile import JSON as VALUES
from tests.integration.tools import PATIENCE

from taskorch.governance import ConstitutionalRuntime, Policy

TASKS = "/api/v1/tasks"
#: Routes after which the service takes nothing more.
ENDINGS = re.compile("drain|stop|shutdown")


def policy(moment, severity):
    about = "task" if moment != "verb" else "operation"
    what = {"progress": "result", "result": "result", "verb": "arguments"}
    when = f"{about}.{what.get(moment, 'payload')} == 5.0"
    return Policy(f"{moment}-{severity}", "s", severity, when=when, at=moment)


@pytest.fixture(params=["low", "critical"])
def service(request):
    moments = ("submit", "start", "progress", "result", "verb")
    rt = ConstitutionalRuntime([policy(each, request.param) for each in moments])
    with served(
        orchestrator(governance=rt),
        functions={"double": lambda n: n},
        token=None,
        agents=True,
    ) as found:
        yield found


def routes(description):
    """Each route that takes a body, and the names of its fields."""
    for path, methods in description["paths"].items():
        for method, said in methods.items():
            content = said.get("requestBody", {}).get("content", {})
            if JSON not in content or ENDINGS.search(path):
                continue
            schema = content[JSON]["schema"]
            while "$ref" in schema:
                schema = description["components"]["schemas"][
                    schema["$ref"].rpartition("/")[2]
                ]
            several = [schema, *schema.get("oneOf", []), *schema.get("anyOf", [])]
            fields = {name for each in several for name in each.get("properties", {})}
            yield method.upper(), path, sorted(fields)


def test_no_field_of_any_body_brings_the_service_down(service):
    description = service.get("/openapi.json")
    found = list(routes(description))
    assert {path for _, path, _ in found} >= {TASKS, "/api/v1/events"}
    for method, template, fields in found:
        path = re.sub(r"\{\w+\}", "x", template)
        for name, value in VALUES.items():
            bodies = [value, *(f'{{"{field}": {value}}}' for field in fields)]
            if fields:
                bodies.append(
                    "{" + ", ".join(f'"{field}": {value}' for field in fields) + "}"
                )
            for body in bodies:
                answer = service.send(
                    method, path, body.encode(), {"Content-Type": JSON}
                )
                assert answer.status < 500, (method, path, name, body[:80], answer)
    assert service.get("/livez")


def test_each_way_into_a_task_answers_and_the_next_task_runs(service):
    ways = (
        '{{"type": "echo", "payload": {}, "id": "{}"}}',
        '{{"call": "double", "args": [{}], "id": "{}"}}',
        '{{"type": "echo", "payload": 1, "metadata": {{"x": {}}}, "id": "{}"}}',
    )
    for number, value in enumerate(VALUES.values()):
        for way, body in enumerate(ways):
            sent = body.format(value, f"{way}-{number}").encode()
            answer = service.send("POST", TASKS, sent, {"Content-Type": JSON})
            assert answer.status < 500, (sent[:80], answer)
    assert service.get(f"{TASKS}?limit=1000")["tasks"]
    service.orch.submit(divmod, 7, 2).result(PATIENCE)
