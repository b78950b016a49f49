"""The search for seeds that break something, and for the few things that do it."""

from functools import partial

import pytest
from tests.house.tools import soak
from tests.house.tools.examples import seeds
from tests.house.tools.explore import FailedRun, explore, find_failure
from tests.worlds.simulation.test_exhaustive import wakes_nobody

from taskorch.core.runs import _gates
from taskorch.errors import InvalidTaskError
from taskorch.events import AgentJoined, AgentLost, TaskSuspended
from taskorch.testing import Breach, Faults, Simulation, minimise


class Fussy:
    """An observer that finds fault with what is none: a bug, planted."""

    def step(self, kernel, items, now):
        for event, _ in items:
            assert event[0] is not TaskSuspended, f"task {event[3]} was suspended"

    def crashed(self, acknowledged):
        pass

    def recovered(self, kernel, now):
        pass

    def finished(self, kernel):
        pass


@pytest.mark.parametrize("seed", seeds(5, 12))
def test_random_worlds_keep_their_promises(seed):
    """Commands, policies, workers and faults at random; all laws after every step."""
    simulation = explore(seed)

    incarnation = simulation.world.incarnation
    assert incarnation is not None
    assert incarnation.kernel.seq == simulation.events[-1].seq
    assert not any(status.state == "running" for status in simulation.tasks())


@pytest.mark.parametrize("seed", [254, 137_216])
def test_a_worker_may_be_heard_of_after_it_went(seed):
    """
    What it had said was on its way, and another incarnation takes it for one that is
    there.
    """
    simulation = explore(seed, 40)
    assert simulation.world.crashes
    assert "terminate" in simulation.schedule.kinds()


def test_a_worker_that_was_let_go_is_not_back():
    """Its signs of life end with it."""
    simulation = Simulation(seed=1)
    simulation.agent("far", lease=9.0)
    simulation.run(until=20.0)
    assert simulation.terminate("far")
    simulation.run(until=200.0)
    assert isinstance(simulation.events[-1], AgentLost)


def test_all_faults_at_once_are_borne():
    runs = [explore(seed, 40, faults=Faults.all()) for seed in range(14)]
    assert sum(run.world.crashes for run in runs) > 2
    kinds = {kind for run in runs for kind in run.schedule.kinds()}
    assert kinds > {"lose", "zombie", "crash", "commit_failure", "points", "submit"}


def test_commands_of_the_workload_are_not_all_refused():
    """A refusal is borne in silence: so each kind of command must bear fruit somewhere."""
    runs = [explore(seed, faults=Faults.none()) for seed in range(12)]
    names = {event.agent.name for run in runs for event in run.events if is_join(event)}
    assert {"a", "b", "c", "d", "n1", "n2"} <= names
    kinds = {type(event).__name__ for run in runs for event in run.events}
    assert {"AgentDraining", "AgentTripped", "AgentProbed"} <= kinds
    assert {"QuestionAnswered", "AnswerRefused"} <= kinds


def is_join(event):
    return isinstance(event, AgentJoined)


@pytest.mark.parametrize("search", [explore, find_failure])
def test_a_seed_and_a_number_of_steps_are_needed(search):
    with pytest.raises(InvalidTaskError, match="seed is an int, not 'x'"):
        search("x")
    with pytest.raises(InvalidTaskError, match="steps is an integer of 0 or more"):
        search(1, -1)


def test_a_run_with_all_that_happened_is_the_same_run():
    whole = explore(5)
    again = explore(5, keep=whole.schedule.names)
    assert again.trace() == whole.trace()
    assert explore(5, keep=()).get_stats().state_machine.completed == 0


def planted():
    """The first of some failures that took more than a few things."""
    for seed in range(20):
        failure = find_failure(seed, faults=Faults.all(), check=Fussy())
        if failure is not None and failure.before > 20:
            return failure
    raise LookupError


def test_a_planted_failure_is_found_with_few_things():
    """One task, and somebody who puts it aside: not much more is left."""
    failure = planted()
    seed = failure.seed

    assert isinstance(failure, FailedRun)
    assert "was suspended" in failure.error
    kinds = failure.schedule.kinds()
    assert kinds["suspend"] == 1
    assert kinds["submit"] >= 1
    assert len(failure.schedule) <= 5
    text = str(failure)
    assert f"seed {seed}" in text
    call = f"explore({seed}, {failure.steps}, faults={Faults.all()!r}, keep="
    assert call in text
    assert "TaskSuspended" in failure.trace
    with pytest.raises(AssertionError, match="was suspended"):
        explore(seed, keep=failure.schedule.names, faults=Faults.all(), check=Fussy())


def every_gate_passes(monkeypatch):
    monkeypatch.setattr(_gates, "_all_completed", lambda _: ("all", True, "so"))


@pytest.mark.parametrize(
    ("plant", "workflows"), [(wakes_nobody, False), (every_gate_passes, True)]
)
def test_a_planted_mistake_breaks_a_promise(monkeypatch, plant, workflows):
    plant(monkeypatch)
    with pytest.raises(Breach):
        list(map(partial(explore, workflows=workflows), range(40)))


@pytest.mark.parametrize("name", ["explore", "find_failure", "FailedRun"])
def test_who_asks_the_package_for_it_is_told_where_it_is(name):
    """Also where one would hear no more than that it cannot be imported."""
    with pytest.raises(
        ImportError, match=f"{name} is not in the package .*tests/house/tools"
    ):
        exec(f"from taskorch.testing import {name}", {})


# -- minimise --------------------------------------------------------------------------


def test_what_makes_no_difference_is_left_out():
    names = [f"n{i}" for i in range(50)]

    def fails(keep):
        return {"n3", "n31", "n47"} <= set(keep)

    assert minimise(fails, names) == ["n3", "n31", "n47"]


def test_nothing_is_left_if_nothing_was_needed():
    assert minimise(lambda keep: True, ["a", "b", "c"]) == []


def test_all_is_left_if_all_is_needed():
    names = ["a", "b", "c", "d"]
    assert minimise(lambda keep: len(keep) == 4, names) == names


def test_the_search_ends_when_its_tries_are_used_up():
    calls = []

    def fails(keep):
        calls.append(keep)
        return "n7" in keep

    left = minimise(fails, [f"n{i}" for i in range(1000)], tries=5)
    assert len(calls) == 5
    assert "n7" in left


# -- soak ------------------------------------------------------------------------------


def test_a_soak_without_time_runs_nothing(capsys):
    assert soak.main(["--minutes", "0"]) == 0
    assert capsys.readouterr().out == "no seed was run\n"


def test_a_soak_tells_of_a_failure(monkeypatch, capsys):
    """The error, the schedule, how to repeat it; and the exit code."""
    found = planted()
    monkeypatch.setattr(
        soak,
        "find_failure",
        lambda seed, steps, **which: found if seed == 1 and which else None,
    )

    words = ["--seed", "0", "--seeds", "5", "--workflows"]
    assert soak.main(words) == 1
    told = capsys.readouterr().out
    assert str(found) in told
    assert told.endswith("seeds 0 to 1: 1 failed\n")
    assert soak.main([*words, "--keep-going"]) == 1
    assert capsys.readouterr().out.endswith("seeds 0 to 4: 1 failed\n")


@pytest.mark.parametrize("option", ["--steps=-4", "--jobs=x", "--seeds=1.5"])
def test_a_soak_refuses_what_is_no_number(option, capsys):
    with pytest.raises(SystemExit):
        soak.main([option])
    assert "is not a whole number of 0 or more" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("seed", "names", "rooms"),
    [
        # Options that are not kept yet said that a task may run twice, and it began.
        (141_225_633, {"command 27", "command 42"}, False),
        # A task waited for an earlier run of its own, and so its next run for itself.
        (
            141_227_123,
            {"command 7", "command 10", "command 11", "command 15"},
            False,
        ),
        # Of two tasks that failed at one instant, the next incarnation told of the
        # other one.
        (183, {"crash 4", "crash 13", "job 27", "job 28", "crash 41"}, True),
    ],
)
def test_what_broke_once_breaks_no_more(seed, names, rooms):
    explore(seed, 60, keep=names, rooms=rooms)
    explore(seed, rooms=rooms)
