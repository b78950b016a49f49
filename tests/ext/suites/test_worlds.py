"""
Suites in virtual time, against a page of what the team lead must have been told.

A world has tasks that pass, fail in one way or another, or hang; workers that are lost;
and steps at which the process of the suite is killed, and another goes on. The model
knows nothing of how that is done: it says how often each task was tried, with how much
memory and time, how it ended, and who had to hear of it.
"""

from __future__ import annotations

from typing import Any

import attrs
import pytest
from hypothesis import given, settings, strategies as st
from tests.house.tools.examples import examples

from taskorch import Resources, Task
from taskorch.events import TaskFailed, TaskRetrying, TaskStarted
from taskorch.ext.suites import _translation
from taskorch.ext.suites._model import Retries, Suite
from taskorch.testing import Outcome, Simulation

#: What tests raise, by the class that it is; None: they hang.
RAISED: dict[str, Any] = {
    "import_error": ImportError("no module"),
    "permission_error": PermissionError(13, "no"),
    "memory_error": MemoryError(),
    "timeout_error": None,
    "calculation_error": ZeroDivisionError("division by zero"),
    "logic_error": AssertionError("not sorted"),
    "system_error": OSError(28, "No space left on device"),
    "network_error": ConnectionRefusedError(111, "refused"),
    "unknown": RuntimeError("it went wrong"),
}
WORKERS, MEMORY, CORES, TIMEOUT = 3, 4096.0, 8.0, 100.0


@attrs.frozen
class Behaviour:
    """A test: it *fails* so many times in this way, then it passes."""

    kind: str
    fails: int


@attrs.frozen
class Expected:
    """What must have come of it."""

    attempts: int
    passed: bool
    #: By attempt, MiB, cores and seconds.
    given: tuple[tuple[float, float, float], ...]


def model(test: Behaviour, retries: int) -> Expected:
    """What the page of recovery says, for one test that has 512 MiB, a core, 100 s."""
    if test.kind in ("calculation_error", "logic_error"):
        most = 1
    elif test.kind == "unknown":
        most = min(2, retries + 1)
    else:
        most = retries + 1
    passed = test.fails < most
    attempts = test.fails + 1 if passed else most
    given = []
    memory, cores, seconds = 512.0, 1.0, TIMEOUT
    for number in range(attempts):
        if number and test.kind == "memory_error":
            memory, seconds = min(2 * memory, MEMORY), seconds * 1.5
            cores = min(2 * cores, 4)
        if number and test.kind == "timeout_error":
            seconds, cores = min(1.5 * seconds, 2 * TIMEOUT), min(2 * cores, 4)
        given.append((memory, cores, seconds))
    return Expected(attempts, passed, tuple(given))


def world(tests: list[Behaviour], retries: int, seed: int) -> Simulation:
    """A suite of these tests, begun in virtual time."""
    suite = Suite(recovery=True, retries=Retries(max_retries=retries, delay=10))
    sim = Simulation(
        seed=seed,
        resources=Resources(memory_mb=MEMORY, cpu=CORES),
        concurrency=20,
        retry_handler=_translation._recovery_of(suite),
    )
    for number in range(WORKERS):
        sim.agent(f"agent_{number}", capabilities={"unit_tests"}, max_concurrency=4)

    def outcome(task: Task, attempt: int, _random: Any) -> Outcome:
        test = tests[int(str(task.id)[1:])]
        if attempt > test.fails:
            return Outcome(5.0)
        error = RAISED[test.kind]
        return Outcome(5.0, error=error) if error is not None else Outcome(1e6)

    sim.work("unit_tests", outcome)
    sim.submit_tasks(
        [
            Task(
                "unit_tests",
                id=f"t{number}",
                resources=Resources(memory_mb=512, cpu=1),
                timeout=TIMEOUT,
            )
            for number in range(len(tests))
        ]
    )
    return sim


def check(sim: Simulation, tests: list[Behaviour], retries: int) -> None:
    """Hold what came against the model."""
    for number, test in enumerate(tests):
        name = f"t{number}"
        expected = model(test, retries)
        events = [each for each in sim.events if getattr(each, "task_id", "") == name]
        status = sim.get_task_status(name)
        assert status.state.value == ("completed" if expected.passed else "failed"), (
            test,
            status,
        )
        begun = [each for each in events if isinstance(each, TaskStarted)]
        assert len(begun) == expected.attempts, (test, [e.reason for e in begun])
        held = [dict(Resources.from_units(each.allocation)) for each in begun]
        assert [(h["memory_mb"], h["cpu"]) for h in held] == [
            (memory, cores) for memory, cores, _ in expected.given
        ], test
        failures = [e for e in events if isinstance(e, TaskRetrying | TaskFailed)]
        assert {each.failure_class for each in failures} <= {test.kind}
        assert len(failures) == min(test.fails, expected.attempts)
        # What is said to be tried again is tried again, and the end is told once.
        final = [each for each in failures if isinstance(each, TaskFailed)]
        assert len(final) == (not expected.passed)
        if test.kind == "timeout_error":
            seconds = [float(e.message.rpartition("of ")[2][:-2]) for e in failures]
            assert seconds == [s for _, _, s in expected.given][: len(seconds)]
        if test.kind in (
            "permission_error",
            "system_error",
            "network_error",
            "unknown",
        ):
            by = [each.agent_id for each in begun]
            assert len(set(by[:WORKERS])) == len(by[:WORKERS]), (test, by)
        delays = [each.delay for each in failures if isinstance(each, TaskRetrying)]
        factor = 2 if test.kind == "network_error" else 1
        assert delays == [10.0 * factor**n for n in range(len(delays))], test


def check_killed(sim: Simulation, tests: list[Behaviour], retries: int) -> None:
    """
    The same where the process was killed meanwhile.

    An attempt that a kill cut off is made again, is charged to nobody, and teaches
    nothing; all else is as if there had been one incarnation.
    """
    for number, test in enumerate(tests):
        name = f"t{number}"
        events = [each for each in sim.events if getattr(each, "task_id", "") == name]
        all_fail = model(attrs.evolve(test, fails=99), retries)
        charged = 0
        for each in events:
            if isinstance(each, TaskStarted):
                held = dict(Resources.from_units(each.allocation))
                memory, cores, _ = all_fail.given[charged]
                assert (held["memory_mb"], held["cpu"]) == (memory, cores), test
            elif isinstance(each, TaskRetrying | TaskFailed) and each.charged:
                assert each.failure_class == test.kind
                if test.kind == "timeout_error":
                    said = float(each.message.rpartition("of ")[2][:-2])
                    assert said == all_fail.given[charged][2]
                charged += 1
        status = sim.get_task_status(name)
        # It was given up after as many failures as it may have, and not before.
        assert (status.state.value == "failed") == (charged == all_fail.attempts), test
        assert status.state.value in ("completed", "failed")


TESTS = st.lists(
    st.builds(Behaviour, st.sampled_from(sorted(RAISED)), st.integers(0, 5)),
    min_size=1,
    max_size=8,
)


@given(TESTS, st.integers(0, 4), st.integers(0, 99))
@settings(max_examples=examples(25), deadline=None)
def test_what_a_suite_tries_and_tells_is_what_the_page_says(tests, retries, seed):
    """However many tests fail at once, and in however many ways."""
    sim = world(tests, retries, seed)
    sim.run(1_000_000)
    check(sim, tests, retries)


KILLS = st.lists(
    st.tuples(st.integers(2, 120), st.sampled_from(["made", "sent", "kept", "told"])),
    max_size=3,
    unique_by=lambda kill: kill[0],
)


def killed(tests, retries, seed, kills):
    """A world whose process is killed at these events, and one that goes on."""
    sim = world(tests, retries, seed)
    for event, stage in kills:
        sim.crash_at(event, stage)
    sim.run(1_000_000)
    check_killed(sim, tests, retries)


@given(TESTS, st.integers(0, 4), st.integers(0, 99), KILLS)
@settings(max_examples=examples(15), deadline=None)
def test_kills_at_any_step_change_nothing_of_it(tests, retries, seed, kills):
    """How often, with what, and how it ends."""
    killed(tests, retries, seed, kills)


@pytest.mark.slow("many random worlds")
@given(TESTS, st.integers(0, 4), st.integers(0, 9_999), KILLS)
@settings(max_examples=examples(150), deadline=None)
def test_it_is_so_in_many_worlds(tests, retries, seed, kills):
    """The same, for longer."""
    sim = world(tests, retries, seed)
    sim.run(1_000_000)
    check(sim, tests, retries)
    killed(tests, retries, seed, kills)
