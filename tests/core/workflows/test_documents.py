"""Workflows as documents, and as graphs of networkx's: there, back, and refused."""

import json
import re
import sys
from datetime import UTC, datetime
from pathlib import Path

import jsonschema
import networkx as nx
import pytest
import yaml
from tests.core.workflows.functions import FUNCTIONS, add, echo, zero

from taskorch import (
    CycleError,
    InvalidTaskError,
    Program,
    Resources,
    RetryPolicy,
    Task,
    TaskOrchestrator,
    ValidationFailedError,
    Workflow,
)
from taskorch.api.workflows import document_schema
from taskorch.kit import yaml_text

SCHEMA = jsonschema.Draft202012Validator(document_schema())


def everything() -> Workflow:
    """A workflow with all that a document can say."""
    wf = Workflow("all")
    a = wf.task(zero, id="a")
    b = wf.task(
        echo, [a, {"x": None}], 1.5, kwargs={"y": [a], "z": {"deep": [True]}}, id="b/1"
    )
    c = wf.program(
        ["echo", ""],
        env={"A": "1"},
        inherit_env={"B"},
        cwd="/tmp",
        stdin="x",
        check=False,
        after=[b],
    )
    wf.program(["true"], inherit_env=True, type="probe", id="p")
    wf.program(["true"], enforce="if possible", id="held")
    watched = Program(["true"], log="true.log", pid_file="/tmp/true.pid")
    wf.add(Task("program", watched, id="w"))
    wf.add(
        Task(
            "kind",
            {"path": "a.py", "n": [1, 2.5, None, False]},
            id="k",
            after=[c, a],
            priority=-3,
            requires=["gpu", "kind"],
            resources=Resources(cpu=0.5, licence=1),
            timeout=5,
            expected=0,
            deadline=datetime(2100, 1, 31, 12, 30, tzinfo=UTC),
            not_before=0,
            retry=RetryPolicy(
                max_attempts=3, wait="fixed", base=0.5, jitter="full", stop_after=9
            ),
            idempotent=False,
            metadata={"team": "x"},
            owner="ann",
        )
    )
    wf.task(add, id="own", executor="cpu", type="adding")
    return wf


def test_what_a_document_can_say_comes_back():
    wf = everything()

    document = wf.to_dict(FUNCTIONS)
    back = Workflow.from_dict(
        json.loads(json.dumps(document)), FUNCTIONS, programs=True
    )

    assert back.to_dict(FUNCTIONS) == document
    assert back.name == "all"
    assert {k: set(v) for k, v in back.dependencies.items()} == {
        k: set(v) for k, v in wf.dependencies.items()
    }
    for name in wf:
        assert wf[name].task == back[name].task
    SCHEMA.validate(document)


#: What is refused, in JSON; the paths of its faults; and whether the schema sees one, too.
REFUSED = [
    re.split(" (→|⇢) ", line)
    for line in Path(__file__).with_name("refused.txt").read_text("utf-8").splitlines()
    if line and not line.startswith("#")
]
#: As `REFUSED`, where JSON has no word for it; the schema is not asked of a name that is no text.
NO_JSON = [
    ({"tasks": {"a": {"program": ["a\0"]}}}, "tasks.a.program", False),
    ({"tasks": {"a": {"type": "x", "payload": {1: 2}}}}, "tasks.a.payload", False),
    (
        {"tasks": {"a": {"type": "x", "payload": {"b": [float("nan")]}}}},
        "tasks.a.payload.b[0]",
        False,
    ),
    (
        {"tasks": {"a": {"type": "x", "payload": {"b": {1, 2}}}}},
        "tasks.a.payload.b",
        False,
    ),
    ({5: 6, "tasks": {}}, "", None),
    ({"tasks": {"a": {"program": ["a"], "env": {1: "b"}}}}, "tasks.a.env", False),
]


def faults(document):
    """The paths of the faults of a document, each with a text."""
    with pytest.raises(ValidationFailedError) as caught:
        Workflow.from_dict(document, FUNCTIONS, programs=True)
    assert all(text for _, text in caught.value.findings)
    return [path for path, _ in caught.value.findings]


def test_a_bad_document_is_refused_with_the_paths_of_the_faults():
    for text, arrow, paths in REFUSED:
        document = json.loads(text.removeprefix("task "))
        if text.startswith("task "):
            document = {"tasks": {"a": document}}
        assert ", ".join(faults(document)) == paths.replace("itself", ""), text
        assert SCHEMA.is_valid(document) is (arrow == "⇢"), text


@pytest.mark.parametrize(("document", "path", "seen"), NO_JSON)
def test_so_is_one_that_json_cannot_say(document, path, seen):
    assert faults(document) == [path]
    if seen is not None:
        assert SCHEMA.is_valid(document) is not seen


@pytest.mark.parametrize(
    "kind",
    ["map", "wait_for", "question", "call", "program", "gather", "reduce", "type"],
)
def test_a_misspelt_kind_of_work_is_met_with_its_name(kind):
    """What stands beside it is not blamed for that."""
    document = {"tasks": {"a": {f"{kind}s": "x", "over": [], "env": {}}}}
    with pytest.raises(ValidationFailedError, match=f"mean '{kind}'") as caught:
        Workflow.from_dict(document, programs=True)
    assert len(caught.value.findings) == 2


def test_no_fault_shows_what_may_be_secret():
    program = {"program": ["x"], "env": {"TOKEN": 4711}, "stdin": 4711}
    with pytest.raises(ValidationFailedError, match="put it in quotes") as caught:
        Workflow.from_dict({"tasks": {"a": program}}, programs=True)
    assert len(caught.value.findings) == 2
    assert "4711" not in str(caught.value)


#: Of each kind of value some that are good somewhere, and some that are not.
VALUES = (
    *(True, False, 0, 1, 2.0, -1, 0.5, 10**13, "", " ", "x", "all", "skip", "full"),
    *("2030-01-31T12:00:00Z", "2030-13-31T12:00:00Z", "2030-01-31", "linear"),
    *([], ["x"], [""], [1], [0.5], {}, {"x": 1}, {"x": "1"}, {"x": -1}),
    *({"at_least": 2}, {"elastic": {"x": 1}}, {"elastic": 1}, {"max_attempts": 2}),
    {"elastic": {}},
)


def documents_of_one_value():
    options = document_schema()["$defs"]["options"]["properties"]
    for value in VALUES:
        for name in options:
            if name not in ("phase", "after"):
                yield {"type": "x", name: value}
        for name in ("env", "inherit_env", "cwd", "stdin", "check", "log", "program"):
            yield {"program": ["x"], name: value}
        for name in ("max_attempts", "wait", "base", "jitter", "stop_after", "delays"):
            yield {"type": "x", "retry": {name: value}}
        for name in ("expires", "version", "ignore", "key"):
            yield {"type": "x", "cache": {name: value}}
        for name in ("min", "weight", "fallback"):
            most = {"x": 1, "at_least": 2, "elastic": 1, "max_attempts": 2}
            yield {"type": "x", "resources": {"elastic": most, name: value}}


def test_the_schema_and_the_reader_agree():
    """Of what needs no other part of the document: what one takes, the other does."""
    differ = []
    for task in documents_of_one_value():
        document = {"tasks": {"a": task}}
        try:
            workflow = Workflow.from_dict(document, programs=True)
        except ValidationFailedError:
            is_read = False
        else:
            is_read = True
            again = workflow.to_dict()
            assert Workflow.from_dict(again, programs=True).to_dict() == again
        if is_read is not SCHEMA.is_valid(document):
            differ.append(task)
    assert not differ


def test_programs_are_started_only_where_that_is_allowed():
    document = {"tasks": {"a": {"program": ["rm", "-r", "x"]}}}
    with pytest.raises(ValidationFailedError, match="programs=True"):
        Workflow.from_dict(document)
    assert isinstance(
        Workflow.from_dict(document, programs=True)["a"].task.payload, Program
    )


def test_no_document_imports_anything():
    """A name is looked up in functions=, and nowhere else."""
    before = set(sys.modules)
    for name in (
        "os.system",
        "builtins.eval",
        "antigravity",
        "__import__",
        "tests.core.workflows.functions.zero",
    ):
        with pytest.raises(ValidationFailedError):
            Workflow.from_dict({"tasks": {"a": {"call": name}}}, {})
    assert "antigravity" not in set(sys.modules) - before


@pytest.mark.parametrize("functions", [5, [zero], {"zero": 5}])
def test_functions_are_a_mapping_of_names_to_functions(functions):
    with pytest.raises(InvalidTaskError, match="functions"):
        Workflow.from_dict({"tasks": {}}, functions)


def test_a_deep_document_is_refused():
    payload = deep = {}
    for _ in range(5_000):
        deep["x"] = deep = {}
    with pytest.raises(ValidationFailedError, match="50 levels"):
        Workflow.from_dict({"tasks": {"a": {"type": "x", "payload": payload}}})


UNSAYABLE = [
    ("functions=", lambda wf: wf.task(lambda: 0)),
    (r"args\[0\]", lambda wf: wf.task(echo, (1, 2))),
    (r"args\[0\]\[1\]", lambda wf: wf.task(echo, [1, {2}])),
    (r"kwargs\.x", lambda wf: wf.task(echo, kwargs={"x": float("inf")})),
    (r"\$result", lambda wf: wf.task(echo, {"$result": "a"})),
    (r"payload\.a", lambda wf: wf.add(Task("x", {"a": b""}))),
    ("payload", lambda wf: wf.add(Task("x", {1: 2}))),
    ("metadata", lambda wf: wf.add(Task("x", metadata={"a": object()}))),
    ("retry_on", lambda wf: wf.add(Task("x", retry=RetryPolicy(3, retry_on=OSError)))),
    ("retry.wait", lambda wf: wf.add(Task("x", retry=RetryPolicy(wait=lambda _: 1.0)))),
    ("stdin", lambda wf: wf.program(["x"], stdin=b"x")),
    ("program", lambda wf: wf.program(["x", b"x"])),
]


@pytest.mark.parametrize(("match", "build"), UNSAYABLE)
def test_what_a_document_cannot_say_is_refused_with_its_place(match, build):
    wf = Workflow("w")
    build(wf)
    with pytest.raises(InvalidTaskError, match=rf"cannot be written down.*{match}"):
        wf.to_dict(FUNCTIONS)


def test_what_waits_for_the_outside_cannot_be_written_down():
    wf = Workflow("w")
    with TaskOrchestrator() as orch:
        wf.task(zero, after=[orch.submit(int)])
    with pytest.raises(InvalidTaskError, match="outside of the workflow"):
        wf.to_dict(FUNCTIONS)


# ------------------------------------------------------------------------ YAML


def test_yaml_says_the_same():
    wf = everything()
    text = yaml.safe_dump(wf.to_dict(FUNCTIONS), sort_keys=False)

    for given in (text, text.encode()):
        back = Workflow.from_yaml(given, FUNCTIONS, programs=True)
        assert back.to_dict(FUNCTIONS) == wf.to_dict(FUNCTIONS)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("tasks: &t {}\nmore: *t", "alias"),
        ("tasks: {}\ntasks: {}", "twice"),
        ("tasks: {a: {type: x, type: y}}", "twice"),
        ("tasks: !!python/object/apply:os.system [echo]", "no tag"),
        ("tasks: !!set {a}", "no tag"),
        ("!mine {}", "no tag"),
        ("? [a]\n: 1", "a name is text"),
        ("tasks: [", "expected"),
        ("--- {}\n--- {}", "line 2:5: a second document begins here"),
        ("\x00", "characters are not allowed"),
        ("[" * 5_000, "100 levels deep"),
        ("tasks: " + "9" * 9_000, "line 1:8: this number has too many digits"),
        ('"\\UFFFFFFFF"', "line 1:4: .* Unicode character escape code"),
        ('"\\U00110000"', "Unicode character escape code"),
        ("", "names and values"),
        ("just a text", "names and values"),
    ],
)
def test_other_yaml_is_refused(text, match):
    with pytest.raises(ValidationFailedError, match=match):
        Workflow.from_yaml(text)


@pytest.mark.parametrize("text", [" " * (1 << 20) + "a", b"x: y\n" * 300_000])
def test_a_huge_yaml_is_refused_unread(text, monkeypatch):
    """It would take seconds for each megabyte."""
    monkeypatch.setattr("yaml.parse", None)
    with pytest.raises(ValidationFailedError, match="1,048,576 are allowed") as caught:
        Workflow.from_yaml(text)
    assert "json.loads" in caught.value.hint


@pytest.mark.parametrize(
    "text", ["[" * 500_000, "{a: " * 250_000, "- " * 500_000, "? " * 500_000]
)
def test_a_deep_yaml_is_refused_where_it_is_too_deep(text):
    """With the place, and long before the end of it."""
    with pytest.raises(
        ValidationFailedError, match=r"line 1:\d+: this is nested more than 100 levels"
    ):
        Workflow.from_yaml(text)


@pytest.mark.parametrize(
    ("text", "place", "problem"),
    [
        ("a: 1\nb: [", "f.yaml:2:5", "node"),
        ("a: !x 1", "f.yaml:1:4", "no tag '!x'"),
        ("a: 1\n? [1]\n: 2", "f.yaml:2:3", "a name is text"),
        ("[" * 2000, "f.yaml:1", "deep"),
        ("%YAML " + "9" * 9_000 + ".1\n--- a", "f.yaml:1:1", "version number"),
        ('a: "\\UFFFFFFFF"', "f.yaml:1:7", "Unicode character escape code"),
        ("a:\n  - " + "9" * 9_000, "f.yaml:2:5", "too many digits"),
    ],
)
def test_a_plan_that_is_refused_has_the_place_of_the_fault(text, place, problem):
    _, ((where, said),) = yaml_text.read(text, "f.yaml")
    assert str(where).startswith(place)
    assert problem in said


def test_all_faults_of_a_workflow_in_yaml_are_told_with_their_places():
    text = """\
tasks:
  a:
    type: x
    timout: 3
  b: {type: x, after: [c], timeout: -1}
"""
    with pytest.raises(ValidationFailedError) as caught:
        Workflow.from_yaml(text)

    assert [path for path, _ in caught.value.findings] == [
        "tasks.a",
        "tasks.b.after[0]",
        "tasks.b.timeout",
    ]
    for place in ("line 3:5: tasks.a", "line 5:24: tasks.b.after[0]", "line 5:37: "):
        assert place in str(caught.value)


def test_all_that_is_no_yaml_of_ours_is_told_at_once():
    with pytest.raises(ValidationFailedError) as caught:
        Workflow.from_yaml("tasks: &t {a: 1, a: 2}\nmore: *t\nother: !x 1")

    assert [place for place, _ in caught.value.findings] == [
        "line 1:18",
        "line 2:7",
        "line 3:8",
    ]


def test_a_text_is_needed(tmp_path):
    with pytest.raises(InvalidTaskError, match="read_text"):
        Workflow.from_yaml(tmp_path)


def test_without_pyyaml_it_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "yaml", None)
    monkeypatch.delitem(sys.modules, "taskorch.kit.yaml_text", raising=False)
    monkeypatch.delattr("taskorch.kit.yaml_text", raising=False)
    with pytest.raises(ImportError, match=r"pip install 'taskorch\[yaml\]'"):
        Workflow.from_yaml("tasks: {}")


# -------------------------------------------------------------------- networkx


def test_a_graph_becomes_a_workflow():
    graph = nx.DiGraph()
    graph.add_node("b", work=Task.call(add, 2))
    graph.add_node("a", work=zero)
    graph.add_node(3, work=Task("kind", id="3"))
    graph.add_edges_from([("a", "b"), ("b", 3), ("a", 3)])

    wf = Workflow.from_networkx(graph, task="work", name="graph")

    assert wf.name == "graph"
    assert wf.dependencies == {"b": ("a",), "a": (), "3": ("b", "a")}
    assert wf["a"].task.payload.fn is zero


def test_a_workflow_becomes_a_graph_and_comes_back():
    wf = everything()

    graph = wf.to_networkx()
    back = Workflow.from_networkx(graph, name=wf.name)

    assert isinstance(graph, nx.DiGraph)
    assert set(graph.predecessors("k")) == set(wf["k"].after)
    assert back.to_dict(FUNCTIONS) == wf.to_dict(FUNCTIONS)
    assert [back[name].task for name in back] == [wf[name].task for name in wf]


@pytest.mark.parametrize(
    ("nodes", "edges", "error", "match"),
    [
        ({"a": 5}, [], InvalidTaskError, "node 'a' has no task"),
        ({"a": None}, [], InvalidTaskError, "graph.add_node"),
        ({"a": zero}, [("a", "b")], InvalidTaskError, "node 'b' has no task"),
        ({"a": Task("x", id="b")}, [], InvalidTaskError, "another id"),
        ({"a": zero, "b": zero}, [("a", "b"), ("b", "a")], CycleError, "ring"),
        ({"a": zero}, [("a", "a")], CycleError, "waits for itself"),
        ({"a": Task("x", after=["c"])}, [], InvalidTaskError, "'c'"),
    ],
)
def test_a_graph_that_is_no_workflow_is_refused(nodes, edges, error, match):
    graph = nx.DiGraph()
    for name, task in nodes.items():
        graph.add_node(name, task=task)
    graph.add_edges_from(edges)
    with pytest.raises(error, match=match):
        Workflow.from_networkx(graph)


@pytest.mark.parametrize("graph", [nx.Graph(), 5, None, {"a": []}])
def test_a_graph_is_directed(graph):
    with pytest.raises(InvalidTaskError, match="directed graph"):
        Workflow.from_networkx(graph)


# ----------------------------------------------------- joins, steps and phases

WHOLE = """
workflow: suite
phases:
  unit: {max_parallel: 3, gate: [{file: report.json}, {call: zero}], gate_timeout: 5}
  integration: {on_failure: skip, gate: [{approval: 60}]}
  performance: {}
tasks:
  A1: {phase: unit, call: zero}
  A2: {phase: unit, call: zero, join: finished}
  B1a: {phase: integration, call: zero}
  B1b: {phase: integration, call: zero, retry: {max_attempts: 2}}
  B1: {phase: integration, gather: [B1a, B1b]}
  B2: {phase: integration, call: echo, after: [B1a, B1b], join: {at_least: 1}}
  C1:
    phase: performance
    map: add
    over: {$result: B1}
    max_parallel: 2
    timeout: 5
    type: square
    on_parent_failure: run
  C2: {phase: performance, reduce: add, over: {$result: C1}, start: 1}
  C3: {phase: performance, reduce: add, over: [1, {$result: C2}]}
  D: {map: add, over: [1, 2], after: [C3], join: any, on_parent_failure: fail}
  E: {wait_for: payment, timeout: 60, default: null, after: [D]}
  F: {wait_for: null, timeout: 1.5, default: {late: true}}
  G: {wait_for: go, type: signal, join: finished, after: [F]}
"""


def test_phases_joins_and_steps_as_a_document():
    """Written down again it is the same, and the schema knows it."""
    wf = Workflow.from_yaml(WHOLE, FUNCTIONS)
    document = wf.to_dict(FUNCTIONS)
    again = Workflow.from_dict(document, FUNCTIONS)
    assert again.to_dict(FUNCTIONS) == document
    assert [(t, list(d)) for t, d in again.dependencies.items()] == [
        (t, list(d)) for t, d in wf.dependencies.items()
    ]
    assert again.tasks("x") == wf.tasks("x")
    assert list(wf.phases) == ["unit", "integration", "performance"]
    assert wf.phases["unit"].checks == (Path("report.json"), FUNCTIONS["zero"])
    assert wf.phases["integration"].tasks == ["B1a", "B1b", "B1", "B2"]
    assert wf["B1a"].after == ("unit/gate",)
    assert wf["B2"].after == ("B1a", "B1b")
    assert "B2" in wf["integration/gate"].after
    assert dict(wf.tasks("x")[0].resources) == {"x/unit:3": 1}
    assert document["tasks"]["C1"]["max_parallel"] == 2
    assert (
        wf["F"].task.payload
        == Task.wait_for(None, timeout=1.5, default={"late": True}).payload
    )
    SCHEMA.validate(document)
    SCHEMA.validate(yaml.safe_load(WHOLE))


def test_what_phases_and_joins_cannot_say():
    for build in (
        lambda wf: wf.task(zero, join=bool, id="t"),
        lambda wf: wf.phase("p", gate=len),
        lambda wf: wf.map(len, [1]),
        lambda wf: wf.include(phased()),
    ):
        wf = Workflow("w")
        build(wf)
        with pytest.raises(InvalidTaskError, match="cannot be written down"):
            wf.to_dict(FUNCTIONS)


def phased() -> Workflow:
    wf = Workflow("phased")
    wf.phase("p").task(zero)
    return wf
