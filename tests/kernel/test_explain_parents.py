"""What a task needs of others, and what would help."""

import pytest
from tests.kernel.harness import SEC, Machine, S

from taskorch.kernel import explain
from taskorch.kernel._explain import _parents as parents
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


def test_a_long_way_up() -> None:
    """Beyond the bound it is believed what was known when it was blocked."""
    machine = Machine(keep_finished=1)
    machine.submit("t0")
    for number in range(1, 50):
        machine.submit(f"t{number}", after=[f"t{number - 1}"])
    machine.fail("t0")
    assert only(machine, "t49").remedies[0].tasks == ("t0",)
    machine.cancel("t20")
    near = machine.why("t49").blockers[0]
    assert near.remedies[0].kind == "decide"
    machine = Machine()
    machine.submit("t0")
    for number in range(1, 50):
        machine.submit(f"t{number}", after=[f"t{number - 1}"])
    machine.fail("t0")
    machine.cancel("t20")
    assert only(machine, "t49").remedies[0].tasks == ("t0",)
    told = explain(machine.kernel, machine.row("t49"), machine.now, whole=True)
    assert told.blockers[0].remedies[0].tasks == ("t0", "t20")


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


@pytest.mark.parametrize("join", ["all", "any"])
def test_many_ways_lead_up_to_where_it_began(join: str) -> None:
    """Each task on the way is looked at once: a billion ways lead through these."""
    machine = Machine()
    machine.submit("a")
    below = ["a"]
    for number in range(30):
        level = [f"l{number}", f"r{number}"]
        machine.submit_all(*level, after=below)
        below = level
    machine.submit("t", after=below, join=join)
    machine.fail("a")
    told = explain(machine.kernel, machine.row("t"), machine.now, whole=True)
    assert {remedy.tasks for b in told.blockers for remedy in b.remedies[:1]} == {
        ("a",)
    }


def test_beyond_the_bound_each_way_is_followed() -> None:
    """Two long chains meet: both began somewhere."""
    machine = Machine()
    for chain in "xy":
        machine.submit(f"{chain}0")
        for number in range(1, 9):
            machine.submit(f"{chain}{number}", after=[f"{chain}{number - 1}"])
    machine.submit("z")
    machine.submit("meets", after=["x8", "y8", "z"])
    machine.submit("t", after=["meets"])
    for name in ("x0", "y0", "z"):
        machine.fail(name)
    rerun, decide = only(machine, "t").remedies
    assert set(rerun.tasks) == {"x0", "y0", "z"}
    assert decide.tasks == ("meets",)


def test_what_some_do_without_is_not_decided_by_the_rest() -> None:
    """That a person calls them complete helps only if that is possible for all."""
    machine = Machine(concurrency=2)
    machine.submit_all("a", "b")
    machine.submit("blocked", after=["a"])
    machine.submit("one", after=["blocked"], join="any")
    machine.submit("both", after=["blocked", "b"], join=2)
    machine.submit("asked", after=["blocked"], join="asked")
    machine.policies.joins = lambda name, states: False
    machine.fail("a")
    machine.fail("b")

    def kinds(name: str) -> list[tuple[str, tuple[str, ...]]]:
        return [(one.kind, one.tasks) for one in only(machine, name).remedies]

    assert kinds("one") == [("rerun", ("a",)), ("decide", ("blocked",))]
    assert kinds("both") == [("rerun", ("a", "b"))]
    # Its join may say something else to a parent that a person calls complete.
    assert kinds("asked") == [("rerun", ("a",))]


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


def test_the_join_of_what_is_not_suspended_is_not_asked_again() -> None:
    """It is asked when something changes; what it says of that stands."""
    machine = Machine()
    machine.policies.joins = lambda name, states: False
    machine.submit_all("a", "b")
    machine.submit("t", after=["a", "b"], join="asked")
    machine.policies.asked.clear()
    assert machine.kinds("t") == ["dependency"]
    assert "join" not in machine.policies.asked


@pytest.mark.parametrize("length", [5, 6, 7, 8, 9])
def test_how_far_up_it_is_looked(length: int) -> None:
    """Through five; above, it began where it was known to when it was blocked."""
    machine = Machine()
    machine.submit("t0")
    for number in range(1, length + 1):
        machine.submit(f"t{number}", after=[f"t{number - 1}"])
    machine.fail("t0")
    machine.cancel("t1")
    near = only(machine, f"t{length}").remedies[0]
    assert set(near.tasks) == ({"t0", "t1"} if length <= 7 else {"t0"})
