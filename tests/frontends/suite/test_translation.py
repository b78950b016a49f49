"""A suite as a workflow: what follows what, within which limits, in virtual time."""

from pathlib import Path

import pytest
from tests.frontends.suite.tools import (
    BLOCKED,
    FAILED,
    OK,
    RESOURCES,
    RUN,
    TASKS,
    Virtual,
)

from taskorch import Resources, TaskOrchestrator, ValidationFailedError
from taskorch.frontends.suite import _translation, load
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


def test_each_phase_begins_when_the_one_before_has_passed():
    suite = Virtual(RESOURCES, TASKS).run()
    assert set(suite.states().values()) == {OK}
    assert suite.starts() == {
        "A1": 0.0,
        "A2": 0.0,
        "A3": 0.0,
        "PHASE_1_UNIT/gate": 100.0,
        # Two at once; B1 is complete when its parts are.
        "B1a": 100.0,
        "B1b": 100.0,
        "B1c": 200.0,
        "B1": 300.0,
        # In order, although B3 does not depend on B2.
        "B2": 300.0,
        "B2/ended": 400.0,
        "B3": 400.0,
        "PHASE_2_INTEGRATION/gate": 500.0,
        "C1": 500.0,
        "C2": 600.0,
        "C2/ended": 700.0,
        "C3": 700.0,
        "PHASE_3_PERFORMANCE/gate": 800.0,
    }


def test_order_is_no_dependency():
    """C3 comes after C2, and runs though C2 has failed."""
    suite = Virtual(RESOURCES, TASKS, fails=["C2"]).run()
    assert {n: s for n, s in suite.states().items() if s is not OK} == {"C2": FAILED}
    times = suite.times()
    assert times["C3"][0][0] == times["C2"][-1][1]


def test_what_is_in_order_waits_for_the_retries_of_the_one_before():
    suite = Virtual(RESOURCES, TASKS, fails={"C2": 1}).run()
    times = suite.times()
    assert times["C2"] == [(600.0, 700.0), (730.0, 830.0)]
    assert times["C3"] == [(830.0, 930.0)]


def test_order_goes_on_behind_what_is_blocked(write):
    text = small(
        ["{id: A}", "{id: B, dependencies: [A]}", "{id: C}"], mode="sequential"
    )
    suite = Virtual(write(text), fails=["A"]).run()
    assert suite.states() == {"A": FAILED, "B": BLOCKED, "C": OK}


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
    suite = Virtual(write(text), agents=[f"agent_{n}" for n in range(9)]).run()
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


def test_a_failure_blocks_what_depends_on_it_and_the_phases_after_it():
    suite = Virtual(RESOURCES, TASKS, fails=["A2"]).run()
    states = suite.states()
    assert [n for n, s in states.items() if s is OK] == ["A1", "A3"]
    assert states.pop("A2") is FAILED
    assert all(s is BLOCKED for n, s in states.items() if n[0] in "BC")
    said = str(suite.simulation.explain(f"{RUN}/C3"))
    assert "run/A2" in said


def test_a_subtask_that_fails_blocks_what_depends_on_its_task():
    suite = Virtual(RESOURCES, TASKS, fails=["B1b"]).run()
    states = suite.states()
    assert (states["B1a"], states["B1b"], states["B1c"]) == (OK, FAILED, OK)
    assert (states["B2"], states["B3"]) == (BLOCKED, BLOCKED)


def test_what_failed_can_be_run_again_and_the_rest_follows():
    suite = Virtual(RESOURCES, TASKS, fails={"B1b": 3})
    suite.run()
    assert suite.state("C3") is BLOCKED
    suite.simulation.world.by_type["integration_tests"] = Outcome(100.0)
    suite.simulation.workflows.restart(RUN)
    suite.run()
    assert set(suite.states().values()) == {OK}


def test_a_phase_that_may_fail_lets_the_next_one_begin(write):
    text = """\
phases:
  one: {tests: unit_tests, on_failure: continue}
  two: {tests: slow_tests}
orchestrator:
  task_definitions:
    unit_tests: [{id: A}, {id: B}]
    slow_tests: [{id: C}, {id: D, dependencies: [A]}]
"""
    suite = Virtual(write(text), fails=["A"]).run()
    assert suite.states() == {"A": FAILED, "B": OK, "C": OK, "D": BLOCKED}


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


# -- limits ------------------------------------------------------------------------


def test_as_many_run_at_once_as_the_class_allows(write):
    more = "resource_allocation: {unit_tests: {max_parallel: 2}}"
    tasks = [f"{{id: A{n}}}" for n in range(6)]
    more += "\nagent_limits: {max_agents: 6}"
    suite = Virtual(write(small(tasks, more=more))).run()
    starts = suite.starts()
    assert sorted(starts[f"A{n}"] for n in range(6)) == [0, 0, 100, 100, 200, 200]


@pytest.mark.parametrize(
    ("limits", "at_once"),
    [
        ("{max_agents: 2}", 2),
        ("{max_agents: 9, total_cpu_cores: 6}", 3),
        ("{max_agents: 9, total_memory_mb: 1024}", 1),
    ],
)
def test_the_fleet_is_not_over_committed(limits, at_once, write):
    tasks = [
        f"{{id: A{n}, resources: {{cpu_cores: 2, memory_mb: 1000, disk_mb: 5}}}}"
        for n in range(4)
    ]
    if "memory" not in limits:
        tasks = [task.replace("memory_mb: 1000", "memory_mb: 1") for task in tasks]
    if "cpu" not in limits:
        tasks = [task.replace("cpu_cores: 2", "cpu_cores: 0.01") for task in tasks]
    suite = Virtual(write(small(tasks, more=f"agent_limits: {limits}"))).run()
    starts = list(suite.starts().values())
    assert sum(start == 0.0 for start in starts) == at_once
    assert set(suite.states().values()) == {OK}


def test_without_limits_there_is_room_for_the_largest_task():
    """Whatever this machine has: C1 asks for 4 cores."""
    suite = load(TASKS)
    pools = _translation.pools_of(suite)
    assert pools["cpu"] >= 4
    assert pools["memory_mb"] >= 4096
    assert set(Virtual(TASKS).run().states().values()) == {OK}


def test_there_are_as_many_agents_as_there_is_work_for(write):
    assert len(_translation.agents_of(load(RESOURCES, TASKS))) == 6
    more = "agent_limits: {max_agents: 6}"
    few = load(write(small(["{id: A, subtasks: [P, Q]}", "{id: B}"], more=more)))
    assert _translation.agents_of(few) == ["agent_001", "agent_002", "agent_003"]
    none = load(write("agent_pool: {min_agents: 2}"))
    assert _translation.agents_of(none) == ["agent_001"]
    many = [f"{{id: A{n}}}" for n in range(301)]
    most = load(write(small(many, more="agent_pool: {min_agents: 300}")))
    assert len(_translation.agents_of(most)) == 300
    some = load(write(small([f"{{id: A{n}}}" for n in range(99)])))
    assert 1 <= len(_translation.agents_of(some)) < 99


def test_words_of_priority_decide_who_is_first(write):
    tasks = ["{id: L, priority: low}", "{id: N}", "{id: H, priority: high}"]
    more = "agent_limits: {max_agents: 1}"
    suite = Virtual(write(small(tasks, more=more))).run()
    starts = suite.starts()
    assert sorted("LNH", key=starts.__getitem__) == ["H", "N", "L"]


# -- retries, timeouts and grace ---------------------------------------------------


def test_two_retries_are_three_attempts_thirty_seconds_apart():
    suite = Virtual(RESOURCES, TASKS, fails=["A1"]).run()
    assert suite.times()["A1"] == [(0.0, 100.0), (130.0, 230.0), (260.0, 360.0)]
    assert suite.state("A1") is FAILED


def test_without_retries_there_is_one_attempt(write):
    suite = Virtual(write(small(["{id: A}"])), fails=["A"]).run()
    assert suite.times()["A"] == [(0.0, 100.0)]
    more = "failure_handling: {max_retries: 2}"
    suite = Virtual(write(small(["{id: A}"], more=more)), fails=["A"]).run()
    assert suite.times()["A"] == [(0.0, 100.0), (100.0, 200.0), (200.0, 300.0)]


def test_a_timeout_is_a_failure_and_leaves_its_grace_to_end():
    """An attempt that does not stop is given up when its grace is over."""
    slow = Outcome(9_000.0)
    stubborn = Outcome(10_000.0, stubborn=True)
    suite = Virtual(RESOURCES, TASKS, work={"A1": slow, "A2": stubborn}).run()
    retrying = {
        event.task_id: event.at
        for event in reversed(suite.simulation.events)
        if type(event).__name__ == "TaskRetrying"
    }
    began = suite.simulation.events[0].at
    assert retrying["run/A1"] - began == pytest.approx(600, abs=1)
    assert retrying["run/A2"] - began == pytest.approx(660, abs=1)
    assert suite.states()["A1"] is FAILED
    assert suite.times()["A1"][1][0] == pytest.approx(630, abs=1)


# -- what an agent is told ---------------------------------------------------------


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


def test_a_suite_runs_on_a_real_orchestrator():
    suite = load(RESOURCES, TASKS)
    done = []

    def work(task, context):
        done.append((task.id, dict(context.allocation)))
        return {"id": task.id}

    orchestrator = _translation.orchestrator_of(suite)
    _translation.add_agents(orchestrator, suite, lambda _name: work)
    assert isinstance(orchestrator, TaskOrchestrator)
    with orchestrator as orch:
        run = orch.workflows.start(_translation.workflow_of(suite), id="r")
        run.result(timeout=30)
        agents = {
            orch.get_task_status(f"r/{name}").agent_id for name in ("A1", "B1a", "C3")
        }
    assert {task_id.partition("/")[2] for task_id, _ in done} == {
        *("A1", "A2", "A3", "B1a", "B1b", "B1c", "B2", "B3", "C1", "C2", "C3")
    }
    held = dict(done)["r/C3"]
    assert Resources(**{n: held[n] for n in ("cpu", "memory_mb")}) == Resources(
        cpu=2, memory_mb=4096
    )
    assert all(name.startswith("agent_00") for name in agents)
