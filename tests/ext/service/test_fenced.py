"""Whatever a body holds, the service answers with what is wrong, never with a 500."""

from __future__ import annotations

import json
import re
from contextlib import suppress

import pytest
from tests.api.tools import PATIENCE
from tests.ext.service.tools import JSON, orchestrator, served
from tests.house.hostile import JSON as VALUES, VALUES as HOSTILE

from taskorch import (
    InvalidTaskError,
    Task,
    TaskorchError,
    TaskOrchestrator,
    current_context,
)
from taskorch.ext.governance import ConstitutionalRuntime, Policy
from taskorch.ext.mcp import TOOLS, OrchestratorPlace
from taskorch.ext.mcp._calls import ToolUser
from taskorch.ext.mcp._tools import Effect

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


@pytest.mark.slow("each field of each body")
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


# -- what is shown ---------------------------------------------------------------------


class Telling(Exception):
    """An error whose own text is a value."""

    def __str__(self):
        return HOSTILE[self.args[0]]()


def use(name, value):
    """A task that has a value wherever a task can have one."""
    context = current_context()
    context.progress(HOSTILE[name]())
    context.checkpoint(HOSTILE[name]())
    return HOSTILE[name]()


def fail(name):
    raise Telling(name)


def test_no_value_that_is_shown_brings_a_route_or_a_tool_down():
    orch = TaskOrchestrator()
    with served(orch, token=None, agents=True, page=True) as service:
        ids = []
        for number, (name, make) in enumerate(HOSTILE.items()):
            ids += [f"u{number}", f"f{number}"]
            with suppress(InvalidTaskError):
                task = Task.call(use, name, make(), id=ids[-2], metadata={"x": make()})
                orch.submit_task(task).exception(PATIENCE)
            orch.submit_task(Task.call(fail, name, id=ids[-1])).exception(PATIENCE)
            orch.submit_task(Task.question("Go?", details={"x": make()}))
        for path, methods in service.get("/openapi.json")["paths"].items():
            if "get" not in methods or path.endswith("/stream"):
                continue
            for task_id in ids if "{task_id}" in path else ["x"]:
                answer = service.ask("GET", re.sub(r"\{\w+\}", task_id, path))
                assert answer.status < 500, (path, task_id, answer.body[:200])
        place = OrchestratorPlace(orch, {})
        for tool in TOOLS:
            if tool.effect is Effect.NONE and tool.name != "plan":
                needed = tool.input_schema.get("required", ())
                for task_id in ids if "task" in needed else ["x"]:
                    said = {"task": task_id} if "task" in needed else {}
                    with suppress(TaskorchError):
                        json.dumps(tool.use(place, said, ToolUser("mcp")))
        assert service.get("/api/v1/questions")["questions"][0]["id"]
        orch.stop(drain=False)
