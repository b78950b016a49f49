"""A suite as a workflow: what follows what, within which limits, in virtual time."""

from pathlib import Path

import pytest
from tests.ext.suites.tools import (
    BLOCKED,
    OK,
    RESOURCES,
    RUN,
    TASKS,
    Virtual,
)

from taskorch import ValidationFailedError
from taskorch.ext.suites import _translation, load
from taskorch.testing import Outcome


@pytest.fixture
def write(tmp_path):
    def write(text):
        path = tmp_path / "suite.yaml"
        path.write_text(text)
        return path

    return write


def small(tasks, *, mode="parallel", more=""):
    lines = "".join(f"      - {task}\n" for task in tasks)
    return (
        f"{more}\nphases: {{only: {{tests: unit_tests, mode: {mode}}}}}\n"
        f"orchestrator:\n  task_definitions:\n    unit_tests:\n{lines}"
    )


# -- order -------------------------------------------------------------------------


def test_what_may_write_the_same_is_not_tested_at_once(write):
    text = small(
        [
            "{id: A, writes: [build/**]}",
            "{id: B, writes: build/b/x.txt}",
            "{id: C, writes: [docs/**]}",
            "{id: D, subtasks: [P, {id: Q, writes: [docs/q]}], writes: [build/d]}",
            "{id: E}",
        ]
    )
    suite = Virtual(write(text), workers=[f"agent_{n}" for n in range(9)]).run()
    spans = {name: times[0] for name, times in suite.times().items()}
    parts = suite.suite.tasks[3].run
    assert [part.writes for part in parts] == [("build/d",), ("docs/q",)]

    def meet(*names):
        (begin, end), (other_begin, other_end) = (spans[name] for name in names)
        return begin < other_end and other_begin < end

    assert not meet("A", "B")
    assert not meet("A", "P")
    assert not meet("C", "Q")
    assert meet("A", "C") or meet("A", "Q")
    assert meet("B", "P")


@pytest.mark.parametrize(
    ("entry", "fault"),
    [
        ("{id: A, writes: [../x]}", "has '..'"),
        ("{id: A, writes: [/etc]}", "no path below the folder"),
        ("{id: A, writes: 7}", "a text is needed"),
        ("{id: A, writes: [x], shards: 2}", "would wait for each other"),
    ],
)
def test_what_cannot_be_written_is_refused(write, entry, fault):
    with pytest.raises(ValidationFailedError) as refused:
        load(write(small([entry])))
    assert fault in str(refused.value)


def test_what_failed_can_be_run_again_and_the_rest_follows():
    suite = Virtual(RESOURCES, TASKS, fails={"B1b": 3})
    suite.run()
    assert suite.state("C3") is BLOCKED
    suite.simulation.world.by_type["integration_tests"] = Outcome(100.0)
    suite.simulation.workflows.restart(RUN)
    suite.run()
    assert set(suite.states().values()) == {OK}


def test_subtasks_of_a_sequential_phase_come_one_after_another(write):
    text = small(["{id: A, subtasks: [P, Q, R]}", "{id: B}"], mode="sequential")
    suite = Virtual(write(text), fails=["Q"]).run()
    starts = suite.starts()
    assert [starts[n] for n in ("P", "Q", "R", "B")] == [0.0, 100.0, 200.0, 300.0]
    assert suite.state("A") is BLOCKED


def test_tasks_may_stand_in_any_order(write):
    tasks = ["{id: A, dependencies: [P]}", "{id: B, subtasks: [P]}", "{id: C}"]
    suite = Virtual(write(small(tasks, mode="sequential"))).run()
    starts = suite.starts()
    assert [starts[n] for n in ("P", "A", "C")] == [0.0, 100.0, 200.0]


# -- what a worker is told ---------------------------------------------------------


def test_a_task_says_how_it_is_run(write):
    text = """\
templates:
  p: {pytest: [-q], coverage: [pkg], env: {A: "{id} b"}, arguments: {A1: [a1.py]}}
  c: {command: [run, "{arguments}", --last, "{id}-{name}"], results: "{id}.xml", cwd: d}
  q: {pytest: [-q], python: other/bin/python}
orchestrator:
  task_definitions:
    unit_tests:
      - {id: A1, template: p}
      - {id: A2, template: p, arguments: [a2.py, x]}
      - {id: A3, template: c, name: Ada, arguments: [one, two]}
      - {id: A4, success_criteria: {pass_rate: 1, min_pass_rate: 1}, role: Boss}
      - {id: A5, template: q}
"""
    path = write(text)
    tasks = _translation.workflow_of(load(path)).tasks("r")
    payloads = {task.id: task.payload for task in tasks if task.type == "unit_tests"}
    here = str(Path(path).parent)
    common = {"template": "p", "cwd": here, "coverage": ["pkg"]}
    assert payloads == {
        "r/A1": {**common, "env": {"A": "A1 b"}, "pytest": ["-q", "a1.py"]},
        "r/A2": {**common, "env": {"A": "A2 b"}, "pytest": ["-q", "a2.py", "x"]},
        "r/A3": {
            "template": "c",
            "command": ["run", "one", "two", "--last", "A3-Ada"],
            "cwd": str(Path(here, "d")),
            "results": "A3.xml",
        },
        "r/A4": {"template": None},
        "r/A5": {
            "template": "q",
            "pytest": ["-q"],
            "cwd": here,
            "python": str(Path(here, "other/bin/python")),
        },
    }
    last = next(task for task in tasks if task.id == "r/A4")
    assert last.metadata == {
        "name": "A4",
        "phase": "PHASE_1_UNIT",
        "criteria": {"pass_rate": 1.0},
    }
