"""How long attempts take: what `durations=` may be, and what was measured."""

import pytest
from tests.ext.simulation.plans.plans import work

from taskorch import (
    InvalidTaskError,
    Task,
    TaskOrchestrator,
)
from taskorch.policies import FifoQueue


def lengths(report):
    return {one.task_id: one.end - one.start for one in report.schedule}


def simulate(durations, **options):
    tasks = [Task.call(work, id="a"), Task.call(len, id="b")]
    return lengths(TaskOrchestrator().simulate(tasks, durations, **options))


def test_a_function_may_be_built_in():
    """One that has no signature takes the task alone."""
    assert simulate({"a": 1, "b": {Task.call(len, id="b"): 4}.get}) == {"a": 1, "b": 4}


@pytest.mark.parametrize(
    "durations",
    [
        -1,
        float("nan"),
        float("inf"),
        True,
        [1, 2],
        "soon",
        {"a": -1, "b": 1},
        {"a": "x", "b": 1},
        lambda task: "x",
        lambda task, random: -1,
    ],
)
def test_bad_durations_are_refused(durations):
    with pytest.raises(InvalidTaskError, match="durations"):
        simulate(durations)


@pytest.mark.parametrize("durations", [None, "history", {}, lambda task: None])
def test_what_was_never_measured_is_an_error_that_names_the_types(durations):
    with pytest.raises(InvalidTaskError, match="types 'work' and 'len' take") as info:
        simulate(durations)
    assert "{'work': seconds}" in info.value.hint


def test_the_error_guesses_what_was_meant():
    with pytest.raises(InvalidTaskError, match=r"type 'work' takes.*mean 'wrok'"):
        simulate({"wrok": 1, "len": 1})
    many = [Task(f"type-{n}", requires=()) for n in range(8)]
    with pytest.raises(InvalidTaskError, match="and 3 more take"):
        TaskOrchestrator().simulate(many)


def measured(orch, seconds):
    """Let *orch* measure attempts of `step`, in no time: the clock is ours."""
    now = [orch._rt.now()]

    @orch.agent("stepper", capabilities={"step"})
    def step(task, context):
        now[0] += round(task.payload * 1e9)

    with orch:
        orch._rt.now = lambda: now[0]
        for length in seconds:
            orch.submit_task(Task("step", length)).result(timeout=30)


@pytest.mark.parametrize("durations", [None, "history", {"other": 5}])
def test_history_is_the_median_of_what_was_measured(durations):
    orch = TaskOrchestrator(concurrency=1)
    measured(orch, [1, 2, 9, 3, 1])
    tasks = [Task("step"), Task("step")]
    report = orch.simulate(tasks, durations)
    assert report.makespan == 4.0


def test_history_is_drawn_from_if_there_are_draws():
    orch = TaskOrchestrator(concurrency=1)
    measured(orch, [1, 2, 9])
    report = orch.simulate([Task("step")], draws=60)
    assert set(report.makespans) == {1.0, 2.0, 9.0}


def test_history_of_a_durable_orchestrator_is_in_its_journal(tmp_path):
    """It is read without starting anything, and without touching the journal."""
    path = tmp_path / "runs.db"
    measured(TaskOrchestrator(journal=path, durability="process"), [4, 4, 6])
    before = path.read_bytes()
    orch = TaskOrchestrator(journal=path)
    orch.agent("stepper", capabilities={"step"})(lambda task, context: None)
    report = orch.simulate([Task("step")])
    assert report.makespan == 4.0
    assert path.read_bytes() == before
    assert not orch._rt.opened
    with orch:
        assert orch.simulate([Task("step")]).makespan == 4.0


def test_what_must_end_first_starts_first():
    """The median of a distribution counts; what is drawn from it does not."""
    kinds = ("short", "drawn", "long")
    tasks = [Task.call(work, id=kind, type=kind) for kind in kinds]
    drawn = {"short": 1, "drawn": lambda task, random: random.choice([3, 5]), "long": 9}
    report = TaskOrchestrator(concurrency=1).simulate(tasks, drawn)
    assert [one.task_id for one in report.schedule] == ["long", "drawn", "short"]
    fifo = TaskOrchestrator(concurrency=1, queue=FifoQueue()).simulate(tasks, drawn)
    assert [one.task_id for one in fifo.schedule] == list(kinds)


def test_what_a_task_is_expected_to_take():
    """Where `durations` does not name it; and before what was measured."""
    tasks = [Task.call(work, id=name, expected=7) for name in "ab"]
    report = TaskOrchestrator().simulate(tasks)
    assert lengths(report) == {"a": 7, "b": 7}
    assert lengths(TaskOrchestrator().simulate(tasks, {"a": 1})) == {"a": 1, "b": 7}
    unsaid = TaskOrchestrator().simulate(tasks, lambda task: None)
    assert lengths(unsaid) == {"a": 7, "b": 7}
