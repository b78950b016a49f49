"""The description of the service is true: what it says, the service does."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st
from tests.ext.service import suites
from tests.ext.service.tools import JSON, orchestrator, served
from tests.house.tools.examples import examples

from taskorch.ext import service as package

SCHEMES = {"type": "echo"}, {"call": "double", "args": [1]}, {"wait_for": "x"}


@pytest.fixture(scope="module")
def described(tmp_path_factory):
    with served(
        orchestrator(),
        functions={"double": lambda n: 2 * n},
        token=None,
        agents=True,
        artifacts=tmp_path_factory.mktemp("artifacts"),
        page=True,
    ) as service:
        yield service, service.get("/openapi.json")


@pytest.fixture(scope="module", params=["orchestrator", "suite"])
def each(request, described, tmp_path_factory):
    """Both services, and what they say of themselves."""
    if request.param == "orchestrator":
        yield described
        return
    folder = tmp_path_factory.mktemp("suite")
    (folder / "suite.yaml").write_text(suites.SUITE)
    with suites.served(folder, token=None) as service:
        yield service, service.get("/openapi.json")


def operations(description):
    return [
        (method.upper(), path, operation)
        for path, methods in description["paths"].items()
        for method, operation in methods.items()
    ]


def schema(description, part):
    """A schema of it that stands by itself."""
    text = json.dumps({**part, "components": description["components"]})
    return jsonschema.Draft202012Validator(json.loads(text))


def references(value):
    if isinstance(value, dict):
        yield from ([value["$ref"]] if isinstance(value.get("$ref"), str) else [])
        for item in value.values():
            yield from references(item)
    elif isinstance(value, list):
        for item in value:
            yield from references(item)


def test_it_is_whole(each):
    _, description = each
    known = {
        f"#/components/schemas/{name}" for name in description["components"]["schemas"]
    }

    assert description["openapi"] == "3.1.0"
    assert set(references(description)) <= known
    for part in description["components"]["schemas"].values():
        schema(description, part).check_schema(part)
    names = [operation["operationId"] for _, _, operation in operations(description)]
    assert len(set(names)) == len(names)


def test_it_has_every_operation_of_the_app(each):
    service, description = each
    operations_of_app = service.server._app.state.operations
    expected = {(o.method, o.path) for o in operations_of_app}

    assert {(method, path) for method, path, _ in operations(description)} == expected


@pytest.mark.parametrize(
    ("document", "is_good"),
    [
        ({"type": "echo"}, True),
        ({"type": "echo", "id": "x", "idempotency_key": "k", "priority": 3}, True),
        ({"type": "echo", "id": None, "idempotency_key": None}, True),
        ({"call": "double", "args": [{"$result": "x"}]}, True),
        ({"wait_for": "x", "timeout": 3}, True),
        ({"type": "echo", "prioritty": 3}, False),
        ({"type": "echo", "id": "../x"}, False),
        ({"payload": 1}, False),
        ({"map": "double", "over": [1]}, False),
        ({"type": "echo", "phase": None}, False),
        ({"gather": ["x"]}, False),
        ({"reduce": "double", "over": "x"}, False),
        ([], False),
    ],
)
def test_a_task_by_the_schema_is_a_task_for_the_service(described, document, is_good):
    service, description = described
    part = {"$ref": "#/components/schemas/Task"}
    service.orch.submit_tasks([package_task("x")])

    assert schema(description, part).is_valid(document) == is_good
    document = document if isinstance(document, list) else {**document}
    if isinstance(document, dict) and document.get("id") == "x":
        document["id"] = "other"
    assert service.post("/api/v1/tasks", document).status == (202 if is_good else 422)


def package_task(name):
    from taskorch import Task

    return Task("echo", id=name)


# -- whatever comes --------------------------------------------------------------------

WORDS = st.sampled_from(
    [
        "type",
        "echo",
        "id",
        "x",
        "tasks",
        "call",
        "double",
        "args",
        "workflow",
        "payload",
        "after",
        "$result",
        "priority",
        "verdict",
        "complete",
        "name",
        "keep",
        "gate",
        "by",
        "wait_for",
        "timeout",
        "retry",
        "phases",
        "join",
        "at_least",
        "resources",
        "cpu",
        "deadline",
        "max_attempts",
        "metadata",
        "../..",
        "\x00",
        "é",
        "a" * 300,
        "",
    ]
)
ATOMS = st.one_of(
    WORDS,
    st.none(),
    st.booleans(),
    st.integers(-(10**20), 10**20),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=5),
)
VALUES = st.recursive(
    ATOMS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(WORDS, inner, max_size=5)
    ),
    max_leaves=12,
)


def nearly(part, description, depth=0):
    """Values that mostly are what a schema says."""
    if isinstance(part, bool):
        return VALUES
    if "$ref" in part:
        name = part["$ref"].rpartition("/")[2]
        part = description["components"]["schemas"][name]
    if "enum" in part:
        return st.one_of(st.sampled_from(part["enum"]), ATOMS)
    if part.get("properties") and depth < 4:
        inner = {
            name: st.one_of(nearly(item, description, depth + 1), VALUES)
            for name, item in part["properties"].items()
        }
        needed = {n: inner.pop(n) for n in part.get("required", ()) if n in inner}
        return st.one_of(st.fixed_dictionaries(needed, optional=inner), VALUES)
    if part.get("type") == "array":
        items = nearly(part.get("items", {}), description, depth + 1)
        return st.one_of(st.lists(items, max_size=4), VALUES)
    return VALUES


@st.composite
def requests(draw, description, method, path, operation):
    for parameter in operation.get("parameters", ()):
        if parameter["in"] == "path":
            value = draw(st.sampled_from(["x", "y~2", "%2F", "%ff", "a%20b", "%C3%A9"]))
            path = path.replace(f"{{{parameter['name']}}}", value)
    query = draw(
        st.lists(
            st.tuples(
                st.sampled_from(
                    ["limit", "cursor", "state", "wait", "names", "after", "id", "task"]
                ),
                st.sampled_from(
                    ["1", "0", "", "-1", "x", "completed", "1e400", "0.01"]
                ),
            ),
            max_size=2,
        )
    )
    if query:
        path += "?" + "&".join(f"{name}={value}" for name, value in query)
    said = None
    if "requestBody" in operation:
        part = operation["requestBody"]["content"][JSON]["schema"]
        said = draw(nearly(part, description))
    return method, path, said


def test_what_stands_in_a_path_may_be_unknown(each):
    """Such as bytes that are no text."""
    service, description = each
    for method, path, operation in operations(description):
        if "{" in path and method != "DELETE":
            answer = service.ask(method, re.sub(r"{\w+}", "%ff", path), {})
            assert str(answer.status) in operation["responses"], (method, path, answer)


@pytest.mark.slow("hundreds of random requests")
@pytest.mark.timeout(600)
def test_whatever_is_asked_the_answer_is_one_that_the_description_has(each):
    """Nothing that anybody can send is a fault of the service."""
    service, description = each
    every = [
        one
        for one in operations(description)
        if one[2]["operationId"] != "follow_events"
    ]

    @settings(
        max_examples=examples(800),
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
    @given(st.data())
    def check(data):
        method, path, operation = data.draw(st.sampled_from(every))
        method, path, said = data.draw(requests(description, method, path, operation))
        answer = service.ask(method, path, said)
        told = operation["responses"].get(str(answer.status))

        assert told is not None, (answer, method, path, said)
        kind = answer.headers["content-type"].partition(";")[0]
        assert kind in told["content"], answer
        if kind.endswith("json"):
            part = told["content"][kind]["schema"]
            schema(description, part).validate(answer.said)

    check()
    assert service.get("/livez")


# -- what it needs ---------------------------------------------------------------------


def test_without_its_libraries_it_says_what_to_install():
    code = (
        "import sys; sys.modules['starlette'] = None\n"
        "try: import taskorch.ext.service\n"
        "except ImportError as error: print(error)"
    )
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert "pip install 'taskorch[serve]'" in found.stdout


def test_its_names_are_there():
    assert all(hasattr(package, name) for name in package.__all__)
