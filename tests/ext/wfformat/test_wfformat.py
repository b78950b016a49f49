"""Recorded runs in WfFormat: read exactly, and refused with the place of the fault."""

import copy
import json
import re

import pytest

from taskorch import (
    CycleError,
    InvalidTaskError,
    TaskOrchestrator,
    ValidationFailedError,
)
from taskorch.ext import wfformat

NS = 1_000_000_000


def document(parents, lengths=None, **extra):
    """A recorded run: of each task, what it waits for."""
    children = {
        name: [c for c, of in parents.items() if name in of] for name in parents
    }
    return {
        "name": "small run/1",
        "schemaVersion": "1.5",
        "workflow": {
            "specification": {
                "tasks": [
                    {
                        "name": name,
                        "id": name,
                        "parents": list(of),
                        "children": children[name],
                        "inputFiles": [],
                        "outputFiles": [],
                    }
                    for name, of in parents.items()
                ]
            },
            "execution": {
                "tasks": [
                    {
                        "id": name,
                        "runtimeInSeconds": 1.5 if lengths is None else lengths[name],
                        **extra,
                    }
                    for name in parents
                ],
                "machines": [],
            },
        },
    }


DIAMOND = {
    "load_ID01": (),
    "left_1": ("load_ID01",),
    "left_2": ("load_ID01",),
    "end": ("left_1", "left_2"),
}


def test_a_file_becomes_a_workflow_with_what_was_recorded(tmp_path):
    given = document(DIAMOND, coreCount=2, memoryInBytes=3 << 20)
    given["workflow"]["execution"]["makespanInSeconds"] = 9
    given["workflow"]["execution"]["machines"] = [
        {"nodeName": "a", "cpu": {"coreCount": 48}, "memoryInBytes": 1 << 30},
        {"nodeName": "b", "cpu": {"coreCount": 16}},
    ]
    path = tmp_path / "run.json"
    path.write_text(json.dumps(given))

    recorded = wfformat.load(path, memory=True)

    wf = recorded.workflow
    assert wf.name == "small-run-1"
    assert {name: set(wf.dependencies[name]) for name in wf} == {
        name: set(of) for name, of in DIAMOND.items()
    }
    assert [wf[name].task.type for name in wf] == ["load", "left", "left", "end"]
    assert recorded.durations == dict.fromkeys(DIAMOND, 1.5)
    assert recorded.cores == dict.fromkeys(DIAMOND, 2.0)
    assert recorded.memory == dict.fromkeys(DIAMOND, 3.0)
    assert dict(recorded.machine) == {"cpu": 64.0, "memory_mb": 1_024.0}
    assert recorded.makespan == 9
    assert dict(wf["end"].task.resources) == {"cpu": 2.0, "memory_mb": 3.0}


def test_children_alone_are_enough_and_the_order_is_that_of_the_file():
    given = document({"b": ("a",), "c": (), "a": ()})
    for task in given["workflow"]["specification"]["tasks"]:
        del task["parents"]
    wf = wfformat.parse(given).workflow
    assert list(wf) == ["c", "a", "b"]
    assert wf.dependencies["b"] == ("a",)


def test_types_are_names_without_their_numbers():
    given = document({"x_ID0000012": (), "ALIGN_7": (), "42": (), "merge": ()})
    given["workflow"]["specification"]["tasks"][3]["name"] = 5
    wf = wfformat.parse(given).workflow
    assert [wf[name].task.type for name in wf] == ["x", "ALIGN", "42", "merge"]


def test_it_can_be_replayed():
    recorded = wfformat.parse(document(DIAMOND, dict.fromkeys(DIAMOND, 0)))
    with TaskOrchestrator(resources={"cpu": 4}) as orch:
        assert orch.workflows.start(recorded.workflow).result(timeout=30) == (
            dict.fromkeys(DIAMOND)
        )


# -- the gates ---------------------------------------------------------------------


def makespan(recorded, durations, cores):
    """In ns, on so many cores, of which each task takes one."""
    orch = TaskOrchestrator(resources={"cpu": cores}, concurrency=100)
    return round(orch.simulate(recorded.workflow, durations).makespan * NS)


# -- faults ------------------------------------------------------------------------

#: What is put where; where it is told, if that is another place; and some of the words.
FAULTS = """\
all = [] → the file: not an object
workflow = null → is missing
workflow.specification = 5 → is 5
workflow.execution = null → is missing
SPEC = {} → not an array
EXEC = null → is missing
SPEC[1] = "x" → not an object
SPEC[1].id = "../x" → no safe id
SPEC[1].id = 7 → is a str
SPEC[1].id = "end" → SPEC[3].id: already
SPEC[3].parents[1] = "x" → no task 'x'
SPEC[0].children = 5 → not an array
SPEC[0].children[0] = ["x"] → no task
EXEC[2] = null → is missing
EXEC[2].id = "x" → no task 'x'
EXEC[2].id = {} → no task
EXEC[2].id = "end" → EXEC: nothing is recorded of task 'left_2'
EXEC[2].runtimeInSeconds = "1" → number of seconds
EXEC[2].runtimeInSeconds = -1 → -1
EXEC[2].runtimeInSeconds = NaN → nan
EXEC[2].coreCount = "two" → 'two'
EXEC[2].memoryInBytes = -5 → -5
workflow.execution.machines = {} → not an array
workflow.execution.machines = [{"cpu": {"coreCount": "x"}}] → workflow.execution.machines[0].cpu.coreCount: 'x'
workflow.execution.makespanInSeconds = "x" → 'x'
""".replace("SPEC", "workflow.specification.tasks").replace(
    "EXEC", "workflow.execution.tasks"
)


@pytest.mark.parametrize("fault", FAULTS.splitlines())
def test_a_fault_is_named_with_its_place(fault):
    path, _, rest = fault.partition(" = ")
    value, _, told = rest.partition(" → ")
    place, _, what = told.rpartition(": ")
    given = copy.deepcopy(document(DIAMOND))
    if path == "all":
        given = json.loads(value)
    else:
        *above, last = [
            int(key) if key.isdigit() else key for key in re.findall(r"\w+", path)
        ]
        target = given
        for key in above:
            target = target[key]
        target[last] = json.loads(value)

    with pytest.raises(ValidationFailedError, match="no recorded workflow") as info:
        wfformat.parse(given)

    assert what in dict(info.value.findings)[place or path]


def test_all_faults_are_named_and_a_message_shows_some():
    given = document({f"t{n}": () for n in range(15)}, coreCount=-1)
    with pytest.raises(ValidationFailedError, match="and 5 more") as info:
        wfformat.parse(given)
    assert len(info.value.findings) == 15


def test_a_ring_is_named():
    given = document({"a": ("c",), "b": ("a",), "c": ("b",), "d": ()})
    with pytest.raises(CycleError, match="ring"):
        wfformat.parse(given)
    given = document({"a": ("a",)})
    with pytest.raises(CycleError, match="itself"):
        wfformat.parse(given)


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, b"\xff\xfe\x00"])
def test_what_is_no_json_is_refused_with_the_name_of_the_file(tmp_path, text):
    path = tmp_path / "run.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(InvalidTaskError, match=r"run\.json is no JSON"):
        wfformat.load(path)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ('{"name": "a", "workflow": {}, "name": "b"}', "'name' stands twice"),
        ('{"workflow": {"a": 1, "a": 1}}', "'a' stands twice"),
        ('{"name": NaN}', "NaN is no number"),
        ('{"name": -Infinity}', "-Infinity is no number"),
        ("[" * 200_000, "no JSON"),
        ("1" * 5_000, "no JSON"),
        ('{"name": "a"} {}', "no JSON"),
    ],
)
def test_what_could_be_read_in_two_ways_is_refused(tmp_path, text, match):
    path = tmp_path / "recorded.json"
    path.write_text(text)
    with pytest.raises(InvalidTaskError, match=match) as caught:
        wfformat.load(path)
    assert str(path) in str(caught.value)


def test_a_file_that_is_too_large_is_refused_unread(tmp_path, monkeypatch):
    """Only as much of it is read as shows that."""
    monkeypatch.setattr(wfformat, "_MAX_SIZE", 100)
    path = tmp_path / "recorded.json"
    with path.open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(InvalidTaskError, match="more than the 100 bytes"):
        wfformat.load(path)
