"""Configurations: read whole, merged, and refused with the place of every fault."""

import json
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.tools.examples import examples

from taskorch import InvalidTaskError, Resources, ValidationFailedError
from taskorch.frontends import suite
from taskorch.frontends.suite import _words
from taskorch.model import TaskState

DATA = Path(__file__).parent / "data"
#: Two documents of one name: what there is, and what is to be done.
RESOURCES = DATA / "resources.yaml"
TASKS = DATA / "tasks.yaml"
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


# -- the two documents -------------------------------------------------------------


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


def test_a_task_that_says_not_how_it_is_run_is_missing_that(write):
    text = task("{id: A}", templates="{}")
    assert suite.load(write(text)).missing == (
        ("suite.yaml:4:14", "A names no template"),
    )
    text = task(
        "{id: A, template: t}", templates="{t: {pytest: [], arguments: {B: []}}}"
    )
    assert findings(write(text)) == [
        ("suite.yaml:5:41", "templates.t.arguments: there is no 'B' here; there are A")
    ]
    more = "\n      - {id: B, template: t}"
    text = task(
        "{id: A, template: t}" + more,
        templates="{t: {pytest: [], arguments: {B: []}}}",
    )
    assert suite.load(write(text)).missing == (
        ("suite.yaml:4:14", "templates.t.arguments has none for A"),
    )


@pytest.mark.parametrize(
    ("template", "column", "what"),
    [
        ("{}", 13, "templates.t has neither pytest nor command: it needs one of them"),
        (
            "{pytest: [], command: [x]}",
            13,
            "templates.t has pytest and command: it needs one of them",
        ),
        (
            "{command: make all}",
            26,
            (
                "templates.t.command: a list, a program and its arguments, is needed, "
                "not 'make all'"
            ),
        ),
        (
            "{command: []}",
            26,
            (
                "templates.t.command: a list, a program and its arguments, is needed, "
                "not a list"
            ),
        ),
        (
            "{command: [x, '{artefacts}']}",
            30,
            "templates.t.command: nothing fills {artefacts}: did you mean 'artifacts'?",
        ),
        (
            "{command: [x, 'a={arguments}']}",
            30,
            "templates.t.command: {arguments} is several words: let it stand alone",
        ),
        (
            "{command: [x], env: {A: '{nobody}'}}",
            40,
            (
                "templates.t.env: nothing fills {nobody}: "
                "there are arguments, artifacts, id, name"
            ),
        ),
        (
            "{command: [x], results: a.txt}",
            40,
            "templates.t.results: a file that ends with .xml (JUnit) or .json is needed",
        ),
        (
            "{pytest: [x], results: a.xml}",
            39,
            "templates.t.results: what pytest finds is known without it",
        ),
    ],
)
def test_a_template_that_cannot_be(template, column, what, write):
    assert findings(write(f"templates: {{t: {template}}}")) == [
        (f"suite.yaml:1:{column}", what)
    ]


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
    name = write("agent_limits: {max_agents: 6, max_agents: 5}\n")
    assert findings(name) == [
        ("suite.yaml:1:43", "max_agents is 5 here, and 6 at suite.yaml:1:28")
    ]


@pytest.mark.parametrize(
    ("text", "place", "what"),
    [
        (
            "failure_handling: {max_retries: 2}\nrecovery: {max_retries: 3}\n",
            "2:25",
            "max_retries is 3 here, and 2 at suite.yaml:1:33",
        ),
        (
            "failure_handling: {retry_delay_seconds: 2}\nrecovery: {retry_delay: 3}\n",
            "2:25",
            "retry_delay_seconds is 3 here, and 2 at suite.yaml:1:41",
        ),
        (
            "agent_limits: {max_agents: 2}\nagent_pool: {max_agents: 3}\n",
            "2:26",
            "max_agents is 3 here, and 2 at suite.yaml:1:28",
        ),
        (
            "recovery: {retry_delay: 3, retry_delay_seconds: 4}\n",
            "1:49",
            (
                "recovery.retry_delay_seconds (retry_delay) is 4 here, and 3 at "
                "suite.yaml:1:25"
            ),
        ),
    ],
)
def test_names_that_mean_the_same_must_agree(text, place, what, write):
    assert findings(write(text)) == [(f"suite.yaml:{place}", what)]


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


# -- what has no effect --------------------------------------------------------------


def test_all_acts_that_two_whole_documents_say():
    assert suite.load(RESOURCES, TASKS).without_effect == ()


@pytest.mark.parametrize(
    ("text", "place", "part"),
    [
        (
            task("{id: A}", resource_allocation="{unit_test: {cpu_cores: 1}}"),
            "5:23",
            "resource_allocation.unit_test: there are no such tasks: did you mean 'un",
        ),
        (
            "templates: {t: {command: [x], coverage: [pkg]}}\n",
            "1:31",
            "templates.t.coverage: it is for pytest",
        ),
        (
            task("{id: A, subtasks: [B], arguments: [x]}"),
            "4:32",
            "A.arguments: its subtasks are run in its place",
        ),
        (
            task(
                "{id: A, template: t, subtasks: [B]}",
                templates="{t: {pytest: [], arguments: {A: [x], B: [y]}}}",
            ),
            "5:41",
            "templates.t.arguments.A: its subtasks are run in its place",
        ),
        (
            task(
                "{id: A, template: t}",
                templates="{t: {pytest: []}, u: {pytest: [], arguments: {A: [x]}}}",
            ),
            "5:58",
            "templates.u.arguments.A: A is run by t",
        ),
        (
            "recovery: {retry_delay: 30}\n",
            "1:12",
            "recovery.retry_delay_seconds: there are no retries: max_retries says",
        ),
    ],
)
def test_what_is_said_where_nothing_acts_on_it(text, place, part, write):
    ((where, what),) = suite.load(write(text)).without_effect
    assert where == f"suite.yaml:{place}"
    assert what.startswith(part)


# -- what is wrong -----------------------------------------------------------------


def test_all_problems_are_said_at_once_with_the_nearest_names(write):
    text = """\
agent_limit: {max_agents: 6}
failure_handling:
  max_retrys: 2
  retry_delay_seconds: soon
orchestrator:
  api_port: 80800
  task_definitions:
    unit_tests:
      - name: nameless
      - {id: A, sucess_criteria: {}, success_criteria: {pass_rate: 95}}
monitoring: {log_rotation_size: lots}
"""
    assert findings(write(text)) == [
        (
            "suite.yaml:1:1",
            "there is no 'agent_limit' here; did you mean 'agent_limits'?",
        ),
        (
            "suite.yaml:3:3",
            (
                "failure_handling: there is no 'max_retrys' here; "
                "did you mean 'max_retries'?"
            ),
        ),
        (
            "suite.yaml:4:24",
            "failure_handling.retry_delay_seconds: a number from 0 is needed, not 'soon'",
        ),
        (
            "suite.yaml:6:13",
            "orchestrator.api_port: a whole number from 1 to 65,535 is needed, not 80800",
        ),
        (
            "suite.yaml:9:9",
            "orchestrator.task_definitions.unit_tests[0].id: it is missing",
        ),
        (
            "suite.yaml:10:17",
            (
                "orchestrator.task_definitions.unit_tests[1]: "
                "there is no 'sucess_criteria' here; did you mean 'success_criteria'?"
            ),
        ),
        (
            "suite.yaml:10:68",
            (
                "orchestrator.task_definitions.unit_tests[1].success_criteria.pass_rate: "
                "a number from 0 to 1 is needed, not 95"
            ),
        ),
        (
            "suite.yaml:11:33",
            "monitoring.log_rotation_size: a size, such as 100MB, is needed, not 'lots'",
        ),
    ]


@pytest.mark.parametrize(
    ("text", "place", "what"),
    [
        ("{id: A}\n      - {id: A}", "5:14", None),
        ("{id: A, subtasks: [A]}", "4:28", "id 'A' is that of suite.yaml:4:14 already"),
        ("{id: a/b}", "4:14", None),
        ("{id: ../x}", "4:14", None),
        ("{id: A, priority: urgent}", "4:27", None),
        ("{id: A, name: ''}", "4:23", None),
        ("{id: A, subtasks: B}", "4:27", None),
        ("{id: A, subtasks: [{name: B}]}", "4:28", None),
        ("{id: A, success_criteria: [1]}", "4:35", None),
        ("{id: A, resources: {memory_mb: .inf}}", "4:40", None),
        ("{id: A, resources: {memory_mb: true}}", "4:40", None),
        ("{id: A, resources: {timeout: 0}}", "4:38", None),
        (
            "{id: A, resources: {timeout: 1e10}}",
            "4:38",
            (
                "orchestrator.task_definitions.unit_tests[0].resources.timeout: "
                "a number above 0 to 3.15576e+09 is needed, not 10000000000.0"
            ),
        ),
        (
            "{id: A, dependencies: [B]}",
            "4:32",
            "A depends on 'B', which there is not: there are A",
        ),
        ("{id: A, dependencies: [A]}", "4:31", "these wait for each other: A → A"),
    ],
)
def test_a_task_that_cannot_be(text, place, what, write):
    ((where, said),) = findings(write(task(text)))
    assert where == f"suite.yaml:{place}"
    assert what is None or said == what


def test_lists_with_an_id_twice_in_one_file_are_no_merge(write):
    ((_, said),) = findings(write(task("{id: A}\n      - {id: A, name: b}")))
    assert said == "id 'A' is that of suite.yaml:4:14 already"


def test_a_ring_is_named(write):
    text = task("{id: A, dependencies: [B]}\n      - {id: B, dependencies: [A]}")
    ((place, said),) = findings(write(text))
    assert place == "suite.yaml:4:31"
    assert said == "these wait for each other: A → B → A"


def test_a_ring_through_a_subtask_is_one(write):
    text = task("{id: A, subtasks: [P], dependencies: [B]}\n      - ")
    text = text.rstrip() + " {id: B, dependencies: [P]}\n"
    ((_, said),) = findings(write(text))
    assert said == "these wait for each other: B → P → B"


def test_what_a_task_depends_on_does_not_come_later(write):
    text = """\
orchestrator:
  task_definitions:
    unit_tests: [{id: A, dependencies: [B]}]
    other_tests: [{id: B}]
"""
    ((place, said),) = findings(write(text))
    assert place == "suite.yaml:3:41"
    assert (
        said == "A depends on B, which comes later: in OTHER_TESTS, after PHASE_1_UNIT"
    )


def test_what_a_task_needs_is_within_the_limits(write):
    text = task(
        "{id: A, resources: {cpu_cores: 9}}", agent_limits="{total_cpu_cores: 8}"
    )
    assert findings(write(text)) == [
        (
            "suite.yaml:4:14",
            "A needs 9 cpu, and total_cpu_cores is 8 at suite.yaml:5:33",
        )
    ]


def test_fewest_agents_are_no_more_than_most(write):
    name = write("agent_limits: {max_agents: 2}\nagent_pool: {min_agents: 3}\n")
    assert findings(name) == [
        ("suite.yaml:2:26", "min_agents is 3, and max_agents 2 at suite.yaml:1:28")
    ]


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


def test_phases_that_cannot_be(write):
    text = """\
phases:
  one: {tests: unit_test}
  two: {tests: unit_tests}
  three: {tests: unit_tests}
  four: {mode: at-once}
orchestrator:
  task_definitions:
    unit_tests: []
    slow_tests: []
"""
    assert [place for place, _ in findings(write(text))] == [
        f"suite.yaml:{place}" for place in ("2:16", "4:18", "5:9", "5:16", "9:5")
    ]


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
        ("a: [1\nb: 2\n", "2:2", "expected ',' or ']'"),
        ("a: &x 1\nb: *x\n", "2:4", "an alias"),
        ("a: !!python/object:os.system 1\n", "1:4", "no tag"),
        ("a: !!set {x}\n", "1:4", "no tag"),
        ("? [a]\n: 1\n", "1:3", "a name is text"),
        ("[" * 200, "1:101", "more than 100 levels"),
        ("a: \x07", "1:1", "characters are not allowed"),
        ("a: " + "9" * 5000, "1:4", "too many digits"),
        ("- a\n", "1:1", "a mapping is needed, not a list"),
        ("a: 1\n# " + "x" * (1 << 20), "1:1", "more than the 1,048,576 bytes"),
    ],
)
def test_a_file_that_is_no_configuration(text, place, part, write):
    ((where, what),) = findings(write(text))
    assert where == f"suite.yaml:{place}"
    assert part in what


def test_a_file_that_is_no_text(write):
    name = write("")
    Path(name).write_bytes(b"a: \xff\n")
    assert findings(name) == [("suite.yaml:1:1", "it is no UTF-8 text: byte 3 is not")]


def test_of_very_many_faults_a_message_names_some(write):
    text = "".join(f"zz{n}: 1\n" for n in range(60))
    with pytest.raises(ValidationFailedError) as caught:
        suite.load(write(text))
    assert len(caught.value.findings) == 60
    assert str(caught.value).endswith("and 10 more")


@settings(max_examples=examples(200), deadline=None)
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
