"""What a task needs of others, and what would help."""

import pytest
from tests.core.kernel.harness import SEC, Machine, S

from taskorch.core.kernel._explain import _parents as parents
from taskorch.model import Blocker


def only(machine: Machine, name: str) -> Blocker:
    (blocker,) = machine.why(name).blockers
    return blocker


def words(machine: Machine, name: str) -> list[str]:
    return [
        str(remedy)
        for blocker in machine.why(name).blockers
        for remedy in blocker.remedies
    ]


def test_a_parent_that_still_can_complete() -> None:
    """What to do is said by its state."""
    machine = Machine(concurrency=1)
    machine.submit("runs", idempotent=False)
    machine.submit("queued")
    machine.submit("late", not_before=machine.now + SEC)
    machine.suspend("late")
    for name in ("runs", "queued", "late"):
        machine.submit(f"after {name}", after=[name])
    assert words(machine, "after runs") == ["runs must complete; it runs."]
    assert words(machine, "after queued") == [
        "queued must complete: orch.explain('queued') says what it waits for."
    ]
    assert words(machine, "after late") == [
        "Call orch.resume_task('late'), and let it complete."
    ]
    # Whatever else is known of it.
    machine.prioritise("runs", 3)
    assert words(machine, "after runs") == ["runs must complete; it runs."]
    machine.cancel("runs")
    assert words(machine, "after runs") == [
        "runs was asked to stop: run it again when it has."
    ]
    machine = Machine()
    machine.submit("held", idempotent=False)
    machine.submit("after", after=["held"])
    machine.end("held", "lost")
    assert words(machine, "after") == [
        "Decide on it, by orch.decide('held', …), and let it complete."
    ]


def test_many_parents(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hundred are named, those that will not complete first; the rest is counted."""
    monkeypatch.setattr(parents, "_REACH", 120)
    machine = Machine(concurrency=1)
    ids = [f"t{number}" for number in range(150)]
    machine.submit_all(*ids)
    machine.submit("all", after=ids)
    machine.submit("few", after=ids[:5])
    machine.end("t0")
    machine.cancel("t140")
    blockers = machine.why("all").blockers
    assert len(blockers) == 101
    assert blockers[0].name == "t140"
    assert blockers[1].name == "t1"
    assert blockers[-1].detail == "It needs 49 more tasks that have not completed."
    assert blockers[-1].need == 49
    assert [b.name for b in machine.why("few").blockers] == ["t1", "t2", "t3", "t4"]
    machine.submit("most", after=ids[:102])
    for name in ids[1:]:
        if machine.state(name) is S.RUNNING:
            machine.end(name)
        if machine.row("most").links.waiting == 3:
            break
    assert len(machine.why("most").blockers) == 3


def test_joins() -> None:
    """How many have completed, how many are needed, and of which."""
    machine = Machine(concurrency=1)
    machine.submit_all("a", "b", "c", "d")
    for join in ("any", 3, "finished", "asked"):
        machine.submit(f"{join}", after=["a", "b", "c", "d"], join=join)
    machine.end("a", "completed")
    assert machine.state("any") is S.QUEUED
    three = only(machine, "3")
    assert three.detail == (
        "1 of the 4 tasks that it depends on has completed, and 3 are needed."
    )
    assert (three.need, three.have, three.holders) == (3, 1, ("b", "c", "d"))
    assert words(machine, "3") == ["It is enough that 2 of b, c and d complete."]
    assert three.remedies[0].amount == 2
    assert only(machine, "finished").detail == (
        "1 of the 4 tasks that it depends on has ended, and all must have, however "
        "they do."
    )
    assert words(machine, "finished") == ["All must end that have not: b, c and d."]
    assert only(machine, "asked").detail == (
        "1 of the 4 tasks that it depends on has completed, and its join has not said "
        "yes to that."
    )
    machine.fail("b")
    assert words(machine, "3") == ["It is enough that 2 of c and d complete."]
    machine.fail("c")
    lost = only(machine, "3")
    assert lost.detail.endswith("3 are needed. 2 will not complete unless run again.")
    assert lost.remedies[0].tasks == ("b",)
    assert words(machine, "finished") == ["All must end that have not: d."]


def test_a_join_that_runs_all_the_same() -> None:
    """It is lost, and waits for the rest to end."""
    machine = Machine(concurrency=1)
    machine.submit_all("a", "b")
    machine.submit("t", after=["a", "b"], on_failure="run")
    assert [blocker.name for blocker in machine.why("t").blockers] == ["a", "b"]
    machine.fail("a")
    assert only(machine, "t").detail.endswith("and all must have, however they do.")
    machine.fail("b")
    assert machine.state("t") is S.RUNNING


def test_a_function_that_said_no_is_asked_about_what_runs_again() -> None:
    machine = Machine()
    machine.policies.joins = lambda name, states: False
    machine.submit_all("a")
    machine.submit("t", after=["a"], join="asked")
    machine.fail("a")
    assert machine.state("t") is S.BLOCKED
    assert [remedy.tasks for remedy in only(machine, "t").remedies] == [("a",)]


@pytest.mark.parametrize("many", [99, 100, 101, 102])
@pytest.mark.parametrize("twice", [False, True])
def test_a_hundred_parents(many: int, twice: bool) -> None:
    """The rest is counted where they are more; who is named twice is one of them."""
    machine = Machine(concurrency=1)
    ids = [f"t{number}" for number in range(many - twice)]
    machine.submit_all(*ids)
    machine.submit("all", after=[*ids, *ids[: int(twice)]])
    blockers = machine.why("all").blockers
    named = [blocker for blocker in blockers if blocker.name]
    assert [blocker.name for blocker in named] == ids[:100]
    rest = blockers[len(named) :]
    assert len(rest) == (many > 100)
    for blocker in rest:
        assert (blocker.need, blocker.have) == (many - 100, 0)
        assert blocker.remedies[0].amount == many - 100
        text, remedy = str(blocker.detail), str(blocker.remedies[0])
        assert ("1 more task that has not" in text) == (many == 101)
        assert remedy.endswith("all 2." if many == 102 else "It must complete.")


@pytest.mark.parametrize("done", [0, 1, 2])
@pytest.mark.parametrize("need", [1, 2, 3])
def test_how_many_have_and_how_many_are_needed_in_words(need: int, done: int) -> None:
    machine = Machine(concurrency=1)
    names = ["a", "b", "c", "d"]
    machine.submit_all(*names)
    machine.submit("t", after=names, join=need)
    for name in names[:done]:
        machine.end(name)
    if done >= need:
        assert machine.state("t") is S.QUEUED
        return
    blocker = only(machine, "t")
    has, is_needed = "has" if done == 1 else "have", "is" if need == 1 else "are"
    assert blocker.detail == (
        f"{done} of the 4 tasks that it depends on {has} completed, and {need} "
        f"{is_needed} needed."
    )
    left = need - done
    them = ", ".join(names[done:-1]) + " and d"
    assert words(machine, "t") == [
        f"It is enough that {left} of {them} complete{'s' if left == 1 else ''}."
    ]
    assert (blocker.need, blocker.have) == (need, done)
