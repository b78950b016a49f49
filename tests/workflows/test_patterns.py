"""
The basic workflow patterns of van der Aalst and others: those that hold, each as a test.

docs/howto/workflows.md has the table, also of those that do not apply.
"""

import threading

import pytest
from tests.integration.tools import PATIENCE, Hold
from tests.workflows.functions import CALLS, add, echo, step, total, zero
from tests.workflows.tools import inside

from taskorch import (
    AtLeast,
    Resources,
    TaskCancelledError,
    TaskOrchestrator,
    TaskState,
    Workflow,
    WorkflowFailedError,
    current_context,
)


def choose(*names: str) -> None:
    """Add the branches that were chosen: a choice is a task that adds what follows."""
    for name in names:
        inside().task(step, name, id=name)


def test_1_sequence(orch):
    wf = Workflow("w")
    wf.chain(*[wf.task(step, n, id=n) for n in "abc"])
    orch.workflows.start(wf).result(PATIENCE)
    assert CALLS == ["a", "b", "c"]


def test_2_parallel_split(orch):
    """All branches are under way at once."""
    together = threading.Barrier(3, timeout=PATIENCE)
    wf = Workflow("w")
    split = wf.task(zero, id="split")
    for n in range(3):
        wf.task(together.wait, id=f"b{n}", after=[split])
    results = orch.workflows.start(wf).result(PATIENCE)
    assert {results[f"b{n}"] for n in range(3)} == {0, 1, 2}


def test_3_synchronisation(orch):
    wf = Workflow("w")
    wf.task(total, [wf.task(add, n) for n in range(4)], id="sum")
    assert orch.workflows.start(wf).result(PATIENCE)["sum"] == 6


def test_4_exclusive_choice(orch):
    wf = Workflow("w")
    wf.task(choose, "left", id="choice")
    assert set(orch.workflows.start(wf).result(PATIENCE)) == {"choice", "left"}


def test_5_simple_merge(orch):
    """What comes after whichever branch was chosen: `before` says so."""

    def choice() -> None:
        inside().task(step, "left", id="left", before=["merge"])

    wf = Workflow("w")
    wf.task(step, "merge", id="merge", after=[wf.task(choice, id="choice")])
    orch.workflows.start(wf).result(PATIENCE)
    assert CALLS == ["left", "merge"]


def test_6_multi_choice_and_7_synchronising_merge(orch):
    """Some branches are chosen, and what follows waits for these."""

    def choice() -> None:
        for name in ("b", "c"):
            inside().task(step, name, id=name, before=["merge"])

    wf = Workflow("w")
    wf.task(step, "merge", id="merge", after=[wf.task(choice, id="choice")])
    orch.workflows.start(wf).result(PATIENCE)
    assert sorted(CALLS[:2]) == ["b", "c"]
    assert CALLS[2:] == ["merge"]


def test_8_multi_merge_is_a_task_for_each_branch(orch):
    """A task runs once; what is to follow each branch is a task of its own."""
    wf = Workflow("w")
    branches = [wf.task(step, n, id=n) for n in "ab"]
    for branch in branches:
        wf.task(step, "after", branch, id=f"{branch.id}/after")
    orch.workflows.start(wf).result(PATIENCE)
    assert CALLS.count("after") == 2


@pytest.mark.parametrize(("join", "enough"), [("any", 1), (AtLeast(2), 2)])
def test_9_discriminator(orch, join, enough):
    """The first, or the first few, let it go; the others go on, and it runs once."""
    holds = [Hold() for _ in range(3)]
    wf = Workflow("w")
    branches = [wf.task(hold, id=f"b{n}") for n, hold in enumerate(holds)]
    wf.task(step, "d", id="d", after=branches, join=join)
    run = orch.workflows.start(wf)
    for hold in holds[:enough]:
        hold.release()
    assert run.handles["d"].result(PATIENCE) == "d()"
    assert not run.handles["b2"].done()
    for hold in holds:
        hold.release()
    run.result(PATIENCE)
    assert CALLS == ["d"]


def test_10_arbitrary_cycles(orch):
    """A round adds the next one: there are no rings among tasks."""

    def attempt(n: int) -> int:
        if n < 4:
            inside().task(attempt, n + 1, id=f"round-{n + 1}")
        return n

    wf = Workflow("w")
    wf.task(attempt, 1, id="round-1")
    assert max(orch.workflows.start(wf).result(PATIENCE).values()) == 4


def test_11_implicit_termination(orch):
    """A run is over when nothing of it is left to do; nobody has to say so."""
    wf = Workflow("w")
    for n in "abc":
        wf.task(step, n, id=n)
    run = orch.workflows.start(wf)
    run.result(PATIENCE)
    assert run.status().state is TaskState.COMPLETED


def test_12_multiple_instances_without_synchronisation(orch):
    wf = Workflow("w")
    wf.task(choose, *"abcd", id="spawn")
    wf.task(step, "next", id="next", after=["spawn"])
    run = orch.workflows.start(wf)
    assert run.handles["next"].result(PATIENCE) == "next()"
    assert len(run.result(PATIENCE)) == 6


def test_13_multiple_instances_known_when_it_is_built(orch):
    wf = Workflow("w")
    wf.task(total, [wf.task(add, n, n) for n in range(5)], id="sum")
    assert orch.workflows.start(wf).result(PATIENCE)["sum"] == 20


def test_14_multiple_instances_known_at_run_time(orch):
    wf = Workflow("w")
    items = wf.task(lambda: list(range(5)), id="items")
    wf.task(total, wf.map(add, items, id="each"), id="sum")
    assert orch.workflows.start(wf).result(PATIENCE)["sum"] == 10


def test_15_multiple_instances_not_known_before_they_run(orch):
    """Instances add more instances, and what follows waits for all of them."""

    def crawl(depth: int) -> int:
        if depth:
            for n in range(2):
                name = f"{current_context().task_id.partition('/')[2]}-{n}"
                inside().task(crawl, depth - 1, id=name, before=["end"])
        return depth

    wf = Workflow("w")
    wf.task(step, "end", id="end", after=[wf.task(crawl, 3, id="page")])
    run = orch.workflows.start(wf)
    assert len(run.result(PATIENCE)) == 2 + 2 + 4 + 8
    assert run._needs("end")[0] == "page"
    assert len(run._needs("end")) == 15


def test_16_deferred_choice(orch):
    """Which branch it is, is decided outside, by the event that comes first."""
    wf = Workflow("w")
    yes, no = wf.wait_for("yes", id="yes"), wf.wait_for("no", id="no")
    wf.task(step, "choice", id="choice", after=[yes, no], join="any")
    run = orch.workflows.start(wf, id="x")
    assert orch.wait(PATIENCE)
    assert run.status().asks == ("yes", "no")
    orch.emit("no", "because")
    assert run.handles["choice"].result(PATIENCE) == "choice()"
    assert orch.workflows.cancel("x/yes")
    assert run.handles["no"].result() == "because"


def test_17_interleaved_parallel_routing(orch):
    """In any order, but one at a time: a phase, or a resource of which there is one."""
    running: list[int] = []

    def alone() -> None:
        running.append(1)
        assert len(running) == 1
        running.pop()

    wf = Workflow("w")
    phase = wf.phase("p", max_parallel=1)
    for _ in range(20):
        phase.task(alone)
    orch.workflows.start(wf).result(PATIENCE)
    with TaskOrchestrator(resources={"lock": 1}) as other:
        wf = Workflow("w")
        for _ in range(20):
            wf.task(alone, resources=Resources(lock=1))
        other.workflows.start(wf).result(PATIENCE)


@pytest.mark.parametrize("first", ["a", "closed"])
def test_18_milestone(orch, first):
    """A task may run while something has not come yet, and is skipped afterwards."""
    holds = {"a": Hold(), "closed": Hold()}

    def still_open(states) -> bool:
        done = {i for i, state in states.items() if state is TaskState.COMPLETED}
        return done == {"x/a"}

    wf = Workflow("w")
    parents = [wf.task(hold, id=name) for name, hold in holds.items()]
    wf.task(step, "b", id="b", after=parents, join=still_open, on_parent_failure="skip")
    run = orch.workflows.start(wf, id="x")
    holds.pop(first).release()
    assert run.handles[first].exception(PATIENCE) is None
    if first == "a":
        assert run.handles["b"].result(PATIENCE) == "b()"
    for hold in holds.values():
        hold.release()
    assert ("b" in run.result(PATIENCE)) is (first == "a")


def test_19_cancel_a_task(orch):
    hold = Hold()
    wf = Workflow("w")
    wf.task(hold, id="a")
    wf.task(zero, id="b")
    run = orch.workflows.start(wf, id="x")
    hold.wait()
    assert orch.workflows.cancel("x/a")
    hold.release()
    assert isinstance(run.handles["a"].exception(PATIENCE), TaskCancelledError)
    assert run.handles["b"].result(PATIENCE) == 0


def test_20_cancel_the_case(orch):
    hold = Hold()
    wf = Workflow("w")
    wf.task(echo, wf.task(hold, id="a"), id="b")
    run = orch.workflows.start(wf, id="x")
    hold.wait()
    assert orch.workflows.cancel("x")
    hold.release()
    with pytest.raises(WorkflowFailedError):
        run.result(PATIENCE)
    assert run.status().state is TaskState.CANCELLED
