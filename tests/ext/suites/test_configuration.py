"""Configurations: read whole, merged, and refused with the place of every fault."""

import json
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings, strategies as st
from tests.house.tools.examples import examples

from taskorch import InvalidTaskError, ValidationFailedError
from taskorch.ext import suites as suite
from taskorch.ext.suites import _words
from taskorch.model import TaskState

DATA = Path(__file__).parent / "data"


TOLD = [
    block
    for block in (DATA / "told.txt").read_text("utf-8").rstrip("\n").split("\n\n")
    if not block.startswith("#")
]


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Writes a file into the current folder, and gives its name."""
    monkeypatch.chdir(tmp_path)

    def write(text, name="suite.yaml"):
        Path(name).write_text(text)
        return name

    return write


def findings(*paths):
    """What is wrong with a configuration, and that the message says all of it."""
    with pytest.raises(ValidationFailedError) as caught:
        suite.load(*paths)
    for place, what in caught.value.findings:
        assert f"{place}: {what}" in str(caught.value)
    return list(caught.value.findings)


def task(text, **sections):
    """A configuration with one task, and perhaps more."""
    more = "".join(f"{name}: {value}\n" for name, value in sections.items())
    return (
        f"orchestrator:\n  task_definitions:\n    unit_tests:\n      - {text}\n{more}"
    )


@pytest.mark.parametrize("block", TOLD, ids=lambda block: block.splitlines()[0])
def test_all_that_is_told_of_a_configuration(block, write):
    """What is wrong, with its place; what is missing; what nothing acts on."""
    lines = [line for line in block.splitlines() if line[0] not in "→?~"]
    text = "\n".join(f"      {line}" if line[0] == "-" else line for line in lines)
    if block.startswith("-"):
        text = f"orchestrator:\n  task_definitions:\n    unit_tests:\n{text}"
    name = write(f"{text}\n")
    try:
        found = suite.load(name)
    except ValidationFailedError:
        told = [("→", *each) for each in findings(name)]
    else:
        told = [("?", *each) for each in found.missing]
        told += [("~", *each) for each in found.without_effect]
    said = [
        f"{how} {where.removeprefix('suite.yaml:')} {what}" for how, where, what in told
    ]
    assert said == block.splitlines()[len(lines) :]


# -- merging -----------------------------------------------------------------------


def test_lists_of_tasks_are_put_together_by_their_ids(write):
    first = write(task("{id: A, template: t}\n      - {id: B}"), "a.yaml")
    second = write(task("{id: A, name: Ada}\n      - {id: C}"), "b.yaml")
    found = suite.load(first, second).tasks
    assert [(t.id, t.name, t.template) for t in found] == [
        ("A", "Ada", "t"),
        ("B", "B", None),
        ("C", "C", None),
    ]
    third = write(task("{id: A, template: u}"), "c.yaml")
    assert findings(first, second, third) == [
        ("c.yaml:4:27", "template is 'u' here, and 't' at a.yaml:4:27")
    ]


def test_other_lists_must_be_the_same(write):
    first = write(task("{id: A, arguments: [x]}"), "a.yaml")
    second = write(task("{id: A, arguments: [x, y]}"), "b.yaml")
    assert findings(first, second) == [
        ("b.yaml:4:28", "arguments is a list here, and a list at a.yaml:4:28")
    ]


# -- files -------------------------------------------------------------------------


def test_no_file(tmp_path):
    with pytest.raises(InvalidTaskError):
        suite.load()
    with pytest.raises(FileNotFoundError):
        suite.load(tmp_path / "none.yaml")


@pytest.mark.parametrize(
    ("text", "place", "part"),
    [
        (b"a: [1\nb: 2\n", "2:2", "expected ',' or ']'"),
        (b"? [a]\n: 1\n", "1:3", "a name is text"),
        (b"- a\n", "1:1", "a mapping is needed, not a list"),
        (b"[" * 200, "1:101", "more than 100 levels"),
        (b"a: \x07", "1:1", "characters are not allowed"),
        (b"a: " + b"9" * 5000, "1:4", "too many digits"),
        (b"a: 1\n# " + b"x" * (1 << 20), "1:1", "more than the 1,048,576 bytes"),
        (b"a: \xff\n", "1:1", "it is no UTF-8 text: byte 3 is not"),
    ],
)
def test_a_file_that_is_no_configuration(text, place, part, write):
    name = write("")
    Path(name).write_bytes(text)
    ((where, what),) = findings(name)
    assert where == f"suite.yaml:{place}"
    assert part in what


def test_of_very_many_faults_a_message_names_some(write):
    text = "".join(f"zz{n}: 1\n" for n in range(60))
    with pytest.raises(ValidationFailedError) as caught:
        suite.load(write(text))
    assert len(caught.value.findings) == 60
    assert str(caught.value).endswith("and 10 more")


@settings(max_examples=examples(60), deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(
                    [
                        "orchestrator",
                        "task_definitions",
                        "unit_tests",
                        "id",
                        "templates",
                        "subtasks",
                        "dependencies",
                        "resources",
                        "phases",
                        "tests",
                        "x",
                    ]
                ),
                inner,
                max_size=4,
            )
        ),
        max_leaves=12,
    )
)
def test_whatever_a_file_says_the_answer_is_a_suite_or_a_list_of_faults(value):
    """JSON is YAML."""
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        json.dump({"orchestrator": value, "templates": value, "phases": value}, file)
        file.flush()
        found = refusal(file.name)
        assert all(place.startswith(f"{file.name}:") for place, _ in found)


def refusal(path):
    """What is wrong with a configuration; nothing, if it is one."""
    try:
        suite.load(path)
    except ValidationFailedError as error:
        return error.findings
    return ()


# -- words -------------------------------------------------------------------------


def test_every_state_has_a_word():
    assert set(_words.STATUS) == set(TaskState)
    assert _words.STATUS[TaskState.COMPLETED] == "completed_success"
    assert _words.STATUS[TaskState.RUNNING] == "running"
    assert _words.STATUS[TaskState.PENDING] == "waiting"
    assert _words.FINAL_STATUS[TaskState.COMPLETED] == "success"


@pytest.mark.parametrize(
    ("number", "word"),
    [(999, "critical"), (239, "high"), (0, "medium"), (-1, "low"), (-999, "low")],
)
def test_a_priority_has_a_word(number, word):
    assert _words.priority_word(number) == word


@pytest.mark.parametrize(("word", "number"), [("high", 60), ("critical", 240)])
def test_a_word_is_the_same_priority_as_in_a_task_file(word, number, write):
    """For task files see `workspace/test_lint.py`."""
    name = write(f"""
orchestrator:
  name: o
  task_definitions: {{u: [{{id: A, template: t, priority: {word}}}]}}
templates: {{t: {{command: ["true"]}}}}
""")
    assert [task.priority for task in suite.load(name).tasks] == [number]
