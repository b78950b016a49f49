"""Configurations: read whole, merged, and refused with the place of every fault."""

import json
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings, strategies as st
from tests.tools.examples import examples

from taskorch import InvalidTaskError, Resources, ValidationFailedError
from taskorch.frontends import suite
from taskorch.frontends.suite import _words
from taskorch.model import TaskState

DATA = Path(__file__).parent / "data"
#: Two documents of one name: what there is, and what is to be done.
RESOURCES = DATA / "resources.yaml"
TASKS = DATA / "tasks.yaml"
TOLD = [
    block
    for block in (DATA / "told.txt").read_text("utf-8").rstrip("\n").split("\n\n")
    if not block.startswith("#")
]


TEMPLATES = """\
templates:
  template_a: {pytest: ["-q"], arguments: {A1: [a1.py], A2: [a2.py], A3: [a3.py]}}
  template_b: {command: [make, "{id}"], results: "{artifacts}/{id}.xml"}
  template_c: {command: [bench, "{arguments}", --json], results: out.json}
"""


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


# -- the two documents -------------------------------------------------------------


def test_a_task_waits_for_others_and_its_subtasks_name_none(write):
    text = task("{id: A, subtasks: [P], dependencies: [B]}\n      - ")
    text = text.rstrip() + " {id: B}\n"
    one = suite.load(write(text)).tasks[0]
    assert one.dependencies == ("B",)
    assert [part.dependencies for part in one.subtasks] == [()]


def test_a_task_may_need_all_that_there_is(write):
    text = task(
        "{id: A, resources: {cpu_cores: 8}}", agent_limits="{total_cpu_cores: 8}"
    )
    (one,) = suite.load(write(text)).tasks
    assert one.resources == Resources(cpu=8)


def test_what_there_is_loads_alone():
    found = suite.load(RESOURCES)
    assert found.phases == ()
    assert found.limits == suite.Limits(1, 6, Resources(cpu=8, memory_mb=8192))
    assert found.retries == suite.Retries(2, 30.0, 3, 60.0)


def test_what_is_to_be_done_loads_alone():
    found = suite.load(TASKS)
    assert (found.name, found.version) == ("cashcow_test_orchestrator", "1.0.0")
    assert [(p.name, p.mode) for p in found.phases] == [
        ("PHASE_1_UNIT", "parallel"),
        ("PHASE_2_INTEGRATION", "sequential_with_parallel_subtasks"),
        ("PHASE_3_PERFORMANCE", "sequential"),
    ]
    tasks = {task.id: task for task in found.tasks}
    assert list(tasks) == ["A1", "A2", "A3", "B1", "B2", "B3", "C1", "C2", "C3"]
    assert tasks["C3"].dependencies == ("C1",)
    assert tasks["C3"].resources == Resources(cpu=2, memory_mb=4096)
    assert tasks["C1"].criteria == suite.Criteria(
        execution_time_max=1800, memory_max=2048
    )
    assert [part.id for part in tasks["B1"].subtasks] == ["B1a", "B1b", "B1c"]
    monitoring = found.monitoring
    assert monitoring.log_rotation_size == 100_000_000
    assert monitoring.human_notification_webhook == "https://alerts.company.com/webhook"
    assert (monitoring.api_port, monitoring.metrics_port) == (8080, 9090)


@pytest.mark.parametrize("how", ["two files", "one text", "two documents"])
def test_both_together(how, write):
    texts = [RESOURCES.read_text(), TASKS.read_text()]
    if how == "two files":
        found = suite.load(RESOURCES, TASKS)
    else:
        found = suite.load(write(("---\n" * (how != "one text")).join(texts)))
    assert [(p.max_parallel, p.timeout) for p in found.phases] == [
        (3, None),
        (2, None),
        (1, None),
    ]
    assert found.limits.min_agents == 3
    assert found.retries == suite.Retries(2, 30.0, 3, 60.0, tests_again=True)
    first = found.tasks[0]
    assert first.resources == Resources(cpu=1, memory_mb=512, disk_mb=100)
    assert first.timeout == 600


def test_subtasks_inherit_template_resources_and_criteria():
    b1 = next(t for t in suite.load(RESOURCES, TASKS).tasks if t.id == "B1")
    for part in b1.subtasks:
        assert part.template == "template_b"
        assert part.resources == b1.resources
        assert part.timeout == 1800
        assert part.criteria == suite.Criteria(pass_rate=1.0)
    assert b1.run == b1.subtasks
    assert b1.subtasks[0].run == (b1.subtasks[0],)


def test_a_subtask_may_say_what_differs(write):
    text = "{id: A, success_criteria: {pass_rate: 1}, resources: {cpu_cores: 2}, "
    text += "subtasks: [P, {id: Q, name: Queue, arguments: [q.py], "
    text += "resources: {cpu_cores: 1, timeout: 9}, success_criteria: {coverage: 0}}]}"
    p, q = suite.load(write(task(text))).tasks[0].subtasks
    assert (p.name, p.criteria.pass_rate, p.resources) == ("A P", 1, Resources(cpu=2))
    assert (q.name, q.timeout, q.resources) == ("Queue", 9, Resources(cpu=1))
    assert q.criteria == suite.Criteria(coverage=0)
    assert q.arguments == ("q.py",)


# -- templates ---------------------------------------------------------------------


def test_templates_come_from_a_second_file(write):
    name = write(TEMPLATES)
    found = suite.load(RESOURCES, TASKS, name)
    assert found.missing == ()
    assert found.templates["template_a"].pytest == ("-q",)
    assert found.templates["template_a"].arguments["A2"] == ("a2.py",)
    assert found.templates["template_b"].results == "{artifacts}/{id}.xml"
    # Folders are relative to the first file.
    assert found.templates["template_b"].cwd == DATA


def test_a_template_that_is_missing_is_named_with_those_that_need_it(write):
    name = write(TEMPLATES.replace("template_b", "template_bb"))
    (place, what), *rest = suite.load(TASKS, name).missing
    line = TASKS.read_text().splitlines().index('        template: "template_b"') + 1
    assert place == f"{TASKS}:{line}:19"
    assert what == (
        "template 'template_b', of B1, B2, B3, stands in no file: "
        "did you mean 'template_bb'?"
    )
    assert rest == []


# -- merging -----------------------------------------------------------------------


def test_what_disagrees_names_both_places(write):
    first = write("agent_limits:\n  max_agents: 6\n", "a.yaml")
    second = write("agent_limits:\n  max_agents: 7\n", "b.yaml")
    assert findings(first, second) == [
        ("b.yaml:2:15", "max_agents is 7 here, and 6 at a.yaml:2:15")
    ]


def test_a_name_may_stand_twice_if_it_says_the_same(write):
    name = write("agent_limits: {max_agents: 6}\nagent_limits: {max_agents: 6.0}\n")
    assert suite.load(name).limits.max_agents == 6


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


def test_all_acts_that_two_whole_documents_say():
    assert suite.load(RESOURCES, TASKS).without_effect == ()


# -- phases ------------------------------------------------------------------------


def test_phases_as_the_configuration_says(write):
    text = """\
phases:
  second: {tests: slow_tests, mode: sequential, timeout: 5, on_failure: continue}
  first: {tests: unit_tests}
orchestrator:
  task_definitions:
    unit_tests: [{id: A}]
    slow_tests: [{id: B}]
"""
    second, first = suite.load(write(text)).phases
    assert (second.name, second.mode, second.timeout) == ("second", "sequential", 5)
    assert (second.kind, second.on_failure) == ("slow_tests", "continue")
    assert (first.name, first.mode, first.timeout) == ("first", "parallel", None)


def test_a_phase_has_no_limit_that_nobody_has_set(write):
    text = """\
resource_allocation: {unit_tests: {timeout_seconds: 10}}
phases: {one: {tests: unit_tests}, two: {tests: more_tests, timeout_seconds: 30}}
orchestrator:
  task_definitions: {unit_tests: [{id: A}], more_tests: [{id: B}]}
"""
    assert [phase.timeout for phase in suite.load(write(text)).phases] == [None, 30]


# -- files -------------------------------------------------------------------------


def test_no_file(tmp_path):
    with pytest.raises(InvalidTaskError):
        suite.load()
    with pytest.raises(FileNotFoundError):
        suite.load(tmp_path / "none.yaml")


@pytest.mark.parametrize("text", ["", "---\n", "# nothing\n", "phases:\n"])
def test_a_file_without_anything_says_nothing(text, write):
    assert suite.load(write(text)) == suite.Suite()


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


def test_classes_have_types_and_roles():
    assert _words.task_type("unit_tests") == "unit_test"
    assert _words.task_type("lint") == "lint"
    assert _words.role_of("unit_tests") == "Unit Test Specialist"
