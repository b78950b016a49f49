"""The pytest plugin, in runs of pytest of its own."""

from __future__ import annotations

import importlib.metadata
import json
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from taskorch.testing import _simulation, pytest_plugin

pytestmark = pytest.mark.slow("runs of pytest")

ROOT = Path(__file__).parents[2]

assert _simulation  # Imported here, so that every inner run finds the same one.


@pytest.fixture
def run(pytester):
    """Run pytest over the text of a test file; what came of it."""
    installed = importlib.metadata.entry_points(group="pytest11", name="taskorch")
    options = [] if installed else ["-p", pytest_plugin.__name__]

    def run(text, *args):
        if text is not None:
            pytester.makepyfile(test_it=text)
        return pytester.runpytest_inprocess(
            "-p", "no:cacheprovider", "--strict-markers", *options, *args
        )

    return run


def seeds(result):
    """The seeds of the tests of a verbose run, in order."""
    found = re.findall(r"seed(-?\d+)\S* (?:PASS|FAIL)ED", result.stdout.str())
    return [int(seed) for seed in found]


def lines(result):
    return result.stdout.str().splitlines()


USES_SEED = "def test_it(taskorch_seed): assert isinstance(taskorch_seed, int)\n"


# -- seeds -------------------------------------------------------------------------


def test_a_test_with_a_seed_runs_under_ten_of_its_own(run):
    """The same in every run, and others for another test."""
    text = USES_SEED + USES_SEED.replace("test_it", "test_other")

    first, second = run(text, "-v"), run(text, "-v")

    first.assert_outcomes(passed=20)
    assert seeds(first) == seeds(second)
    assert len(set(seeds(first))) == 20


def test_a_setting_says_how_many(run, pytester):
    pytester.makeini("[pytest]\ntaskorch_seeds = 3\n")

    run(USES_SEED).assert_outcomes(passed=3)


@pytest.mark.parametrize("value", ["0", "many", "-1", ""])
def test_a_setting_that_is_no_number_is_refused(run, pytester, value):
    pytester.makeini(f"[pytest]\ntaskorch_seeds = {value}\n")

    result = run(USES_SEED)

    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines([f"*taskorch_seeds is 1 or more, not '{value}'*"])


def test_fewer_seeds_are_the_first_of_more(run, pytester):
    """To raise the number keeps what is known."""
    ten = seeds(run(USES_SEED, "-v"))
    pytester.makeini("[pytest]\ntaskorch_seeds = 3\n")

    assert seeds(run(USES_SEED, "-v")) == ten[:3]


def test_the_option_gives_the_seeds(run):
    result = run(USES_SEED, "-v", "--taskorch-seed=5,-6", "--taskorch-seed", "7,5")

    assert seeds(result) == [5, -6, 7]


@pytest.mark.parametrize("value", ["x", "", "1,,2", "1.5"])
def test_an_option_that_is_no_number_is_refused(run, value):
    result = run(USES_SEED, f"--taskorch-seed={value}")

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*is neither a whole number nor a list such as*"])


def test_the_mark_gives_a_number_or_the_seeds(run):
    text = f"""
import pytest

@pytest.mark.taskorch_seeds(2)
{USES_SEED}
@pytest.mark.taskorch_seeds(seeds=[8, 9, 8])
{USES_SEED.replace("test_it", "test_these")}
"""
    result = run(text, "-v")

    assert len(seeds(result)) == 4
    assert seeds(result)[2:] == [8, 9]
    assert seeds(run(text, "-v", "--taskorch-seed=1")) == [1, 1]


@pytest.mark.parametrize(
    "args",
    [
        "",
        "0",
        "2, seeds=[1]",
        "seeds=[]",
        "seeds=['1']",
        "seeds=1",
        "'x'",
        "True",
        "m=1",
    ],
)
def test_a_mark_that_makes_no_sense_is_refused(run, args):
    result = run(f"""
import pytest

@pytest.mark.taskorch_seeds({args})
{USES_SEED}
""")

    result.assert_outcomes(errors=1)
    told = f"test_it.py::test_it: @pytest.mark.taskorch_seeds({args}): it takes "
    assert any(line.startswith(told) for line in lines(result))


def test_a_test_may_give_its_seeds_itself(run):
    result = run(
        """
import pytest

@pytest.mark.parametrize("taskorch_seed", [3, 4])
def test_one(taskorch_seed):
    assert taskorch_seed in (3, 4)

@pytest.mark.parametrize("x, taskorch_seed", [("a", 3)])
def test_two(x, taskorch_seed):
    assert (x, taskorch_seed) == ("a", 3)

@pytest.mark.parametrize(argnames=["taskorch_seed"], argvalues=[[3]])
def test_three(taskorch_seed):
    assert taskorch_seed == 3
"""
    )

    result.assert_outcomes(passed=4)


def test_a_seed_that_is_asked_for_late_is_one_of_the_test(run):
    """A fixture that is looked up while the test runs cannot be a parameter."""
    run(
        """
def test_it(request):
    seed = request.getfixturevalue("taskorch_seed")
    assert request.getfixturevalue("simulation").seed == seed == 4
""",
        "--taskorch-seed=4",
    ).assert_outcomes(passed=1)


def test_tests_without_a_seed_are_left_alone(run):
    run("def test_it(): pass").assert_outcomes(passed=1)


# -- simulations -------------------------------------------------------------------

TWO_TASKS = """
import pytest
from taskorch import Task

def work(simulation):
    simulation.agent("a", capabilities={"x"})
    simulation.submit_tasks([Task("x", id="t0"), Task("x", id="t1", after=["t0"])])
    simulation.run()
"""


def test_a_simulation_has_the_seed_of_the_test(run):
    result = run(
        TWO_TASKS
        + """
def test_it(simulation, taskorch_seed):
    work(simulation)
    assert simulation.seed == taskorch_seed
    assert simulation.get_task_status("t1").state == "completed"
"""
    )

    result.assert_outcomes(passed=10)


def test_simulations_are_made_with_the_options_given(run):
    result = run(
        TWO_TASKS
        + """
from taskorch.policies import FifoQueue

class Last:
    def route(self, task, candidates, context):
        from taskorch.protocols import Route
        return Route(candidates[-1].name, "the last")

def test_it(make_simulation, taskorch_seed):
    plain, other = make_simulation(), make_simulation(router=Last(), seed=5)
    assert (plain.seed, other.seed) == (taskorch_seed, 5)
    for simulation in (plain, other):
        simulation.agent("b", capabilities={"x"})
        work(simulation)
    assert {run.worker for run in other.attempts} == {"a"}
""",
        "--taskorch-seed=1",
    )

    result.assert_outcomes(passed=1)


def test_what_does_not_add_up_at_the_end_is_an_error(run):
    """Of every simulation that was made, if the test itself has passed."""
    result = run(
        TWO_TASKS
        + """
def test_it(make_simulation):
    work(make_simulation())
    bad = make_simulation()
    work(bad)
    bad.world.incarnation.kernel.completed += 1
""",
        "--taskorch-seed=1",
    )

    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(["*Breach*completed*"])


def test_one_that_is_down_at_the_end_is_not_checked(run):
    result = run(
        TWO_TASKS
        + """
def test_it(simulation):
    work(simulation)
    simulation.crash()
    assert not simulation.is_up
""",
        "--taskorch-seed=1",
    )

    result.assert_outcomes(passed=1)


def test_a_failure_says_how_to_repeat_it_and_what_happened(run):
    result = run(
        TWO_TASKS
        + """
@pytest.mark.taskorch_faults(agent_slow=1.0)
@pytest.mark.parametrize("x", ["it's"])
def test_it(simulation, x):
    work(simulation)
    assert not simulation.attempts
""",
        "--taskorch-seed=7",
    )

    result.assert_outcomes(failed=1)
    said = "\n".join(lines(result))
    section = said[said.index("- taskorch -") :]
    assert "seed 7; to repeat it:" in section
    found = re.search(r"^    pytest (.+) --taskorch-seed 7$", section, re.MULTILINE)
    assert found is not None
    assert found[1].startswith("'test_it.py::test_it[")
    assert "seed7" in found[1]
    assert "what chance brought about:" in section
    assert "agent_slow" in section
    assert "what happened last:" in section
    assert "TaskCompleted task_id='t1'" in section
    assert "add up" not in section


def test_what_it_says_repeats_the_failure(run):
    """The command runs that one case."""
    text = TWO_TASKS + "def test_it(simulation): assert not simulation.seed % 2\n"
    failed = run(text)
    odd = [s for s in seeds(run(text, "-v")) if s % 2]
    assert odd, "ten seeds, and none of them odd"
    failed.assert_outcomes(passed=10 - len(odd), failed=len(odd))

    command = next(line for line in lines(failed) if line.startswith("    pytest "))
    again = run(None, *shlex.split(command)[1:])

    again.assert_outcomes(failed=1)


def test_a_failure_that_is_expected_says_nothing(run):
    result = run(
        TWO_TASKS
        + """
@pytest.mark.xfail
def test_it(simulation):
    simulation.world.incarnation.kernel.completed += 1
    assert False

def test_skipped(simulation):
    pytest.skip()
""",
        "--taskorch-seed=7",
    )

    result.assert_outcomes(xfailed=1, skipped=1)
    assert "to repeat it" not in result.stdout.str()


def test_a_test_that_fails_says_too_what_does_not_add_up(run):
    """Instead of a second error: it may be the cause."""
    result = run(
        TWO_TASKS
        + """
def test_it(make_simulation):
    work(make_simulation())
    bad = make_simulation()
    work(bad)
    bad.world.incarnation.kernel.completed += 1
    assert bad.get_stats().state_machine.completed == 2
""",
        "--taskorch-seed=7",
    )

    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "what happened last in simulation 1:",
            "what happened last in simulation 2:",
            "something does not add up in simulation 2: *completed*",
        ]
    )


def test_a_test_without_a_simulation_fails_as_ever(run):
    result = run("def test_it(): assert False")

    result.assert_outcomes(failed=1)
    assert "taskorch -" not in result.stdout.str()


# -- faults and crashes ------------------------------------------------------------


def test_a_mark_says_what_goes_wrong(run):
    result = run(
        TWO_TASKS
        + """
@pytest.mark.taskorch_faults(lose=0.5, crash=0.25)
def test_it(simulation, faults):
    assert (faults.lose, faults.crash, faults.zombie) == (0.5, 0.25, 0.0)
    assert simulation.nature.faults is faults

def test_none(simulation, faults):
    assert simulation.nature.faults == type(faults).none()
""",
        "--taskorch-seed=1",
    )

    result.assert_outcomes(passed=2)


@pytest.mark.parametrize(
    ("args", "why"), [("loose=0.1", "'loose'"), ("lose=3", "from 0 to 1, not 3")]
)
def test_faults_that_there_are_not_are_refused(run, args, why):
    """What the report has is the mark and what is wrong with it, and no code of ours."""
    result = run(f"""
import pytest

@pytest.mark.taskorch_faults({args})
def test_it(simulation): pass
""")

    result.assert_outcomes(errors=10)
    told = [line for line in lines(result) if line.startswith("@pytest.mark.")]
    assert len(told) == 10
    assert why in told[0]


def test_a_module_may_say_what_goes_wrong(run):
    """By a fixture of the same name."""
    result = run(
        TWO_TASKS
        + """
from taskorch.testing._faults import Faults

@pytest.fixture
def faults():
    return Faults(lose=0.5)

def test_it(simulation):
    assert simulation.nature.faults.lose == 0.5
""",
        "--taskorch-seed=1",
    )

    result.assert_outcomes(passed=1)


def test_crash_points_crash_at_each_event_that_the_test_makes(run):
    """A worker that joins, two tasks, two attempts: seven events, then no crash."""
    result = run(
        TWO_TASKS
        + """
@pytest.mark.taskorch_crash_points(8)
def test_it(simulation, taskorch_crash_point):
    work(simulation)
    assert simulation.get_task_status("t1").state == "completed"
    crashes = sum(1 for event in simulation.events if hasattr(event, "epoch")) - 1
    assert crashes == (taskorch_crash_point <= 7)
""",
        "-v",
    )

    result.assert_outcomes(passed=8)
    assert set(re.findall(r"crash(\d)", result.stdout.str())) == set("12345678")
    assert len(set(seeds(result))) == 1


def test_crash_points_and_seeds_multiply(run):
    text = (
        TWO_TASKS
        + """
@pytest.mark.taskorch_crash_points(3)
@pytest.mark.taskorch_seeds(2)
def test_it(make_simulation):
    work(make_simulation())
"""
    )
    run(text).assert_outcomes(passed=6)
    run(text, "--taskorch-seed=1").assert_outcomes(passed=3)


@pytest.mark.parametrize("args", ["", "0", "'x'", "2.5", "1, 2"])
def test_a_number_of_crash_points_that_makes_no_sense_is_refused(run, args):
    result = run(f"""
import pytest

@pytest.mark.taskorch_crash_points({args})
def test_it(simulation): pass
""")

    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(
        [
            "test_it.py::test_it: *taskorch_crash_points(*): it takes a number of 1 or more"
        ]
    )


def test_crash_points_without_a_simulation_change_nothing(run):
    run(
        """
import pytest

@pytest.mark.taskorch_crash_points(5)
def test_it(): pass
"""
    ).assert_outcomes(passed=1)


def test_crash_at_crashes_the_simulation_of_the_test(run):
    result = run(
        TWO_TASKS
        + """
def test_it(simulation, crash_at):
    crash_at(6)
    work(simulation)
    assert [run.epoch for run in simulation.attempts] == [2, 2]
""",
        "--taskorch-seed=1",
    )

    result.assert_outcomes(passed=1)


# -- captured events ---------------------------------------------------------------


def test_captured_events(run):
    result = run(
        """
from taskorch import TaskOrchestrator
from taskorch.events import TaskCompleted

def test_it(capture_events):
    with TaskOrchestrator() as orch, capture_events(orch, TaskCompleted) as seen:
        orch.submit(pow, 2, 5)
    assert [event.result for event in seen.events] == [32]
"""
    )

    result.assert_outcomes(passed=1)


# -- the how-to --------------------------------------------------------------------


def test_the_tests_that_the_how_to_shows_pass(run, pytester):
    """They use the router of its first block, which runs by itself elsewhere."""
    page = (ROOT / "docs/howto/test-your-parts.md").read_text("utf-8")
    blocks = re.findall(r"^```python(.*?)\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    shown = [code for tag, code in blocks if "no-run" in tag]
    assert len(shown) == 1
    pytester.makeini("[pytest]\ntaskorch_seeds = 2\n")

    result = run(blocks[0][1] + shown[0])

    # Three tests with two, forty and a hundred runs, and the two of the first block.
    result.assert_outcomes(passed=2 + 40 + 100 + 2)


# -- what it costs -----------------------------------------------------------------


def test_pytest_finds_it():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]

    assert project["entry-points"]["pytest11"] == {"taskorch": pytest_plugin.__name__}


def test_it_loads_nothing_before_it_is_used():
    """Every run of pytest has to bear it, wherever taskorch is installed."""
    code = """if True:
        import sys, json, pytest
        before = set(sys.modules)
        import taskorch.testing.pytest_plugin
        print(json.dumps(sorted(set(sys.modules) - before)))
    """

    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )

    assert json.loads(done.stdout) == [
        "taskorch",
        "taskorch.testing",
        "taskorch.testing.pytest_plugin",
    ]


def test_its_marks_and_fixtures_are_documented(run):
    marks = run(None, "--markers").stdout.str()
    # Other plugins have theirs, below headings of their own.
    _, _, rest = (
        run(None, "--fixtures")
        .stdout.str()
        .partition(" from taskorch.testing.pytest_plugin --")
    )
    fixtures = rest.partition(" fixtures defined from ")[0]

    for mark in ("taskorch_seeds(n", "taskorch_crash_points(n", "taskorch_faults(*"):
        assert f"@pytest.mark.{mark}" in marks
    for name in (
        "capture_events",
        "crash_at",
        "faults",
        "make_simulation",
        "simulation",
        "taskorch_crash_point",
        "taskorch_seed",
    ):
        assert re.search(rf"^{name} -- ", fixtures, re.MULTILINE)
    assert "no docstring available" not in fixtures
