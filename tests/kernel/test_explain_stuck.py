"""What can never proceed as things stand: by cause, each task once."""

from collections.abc import Mapping

from tests.kernel.commands import SubmitTask
from tests.kernel.harness import SEC, Machine, Policies, S

from taskorch.kernel import Search, Spec, TaskRow, Terms
from taskorch.kernel._explain._stuck import SLICE, Waits
from taskorch.model import Resources, Stuck


def stuck(
    machine: Machine, waits: Mapping[str, tuple[tuple[str, ...], ...]] | None = None
) -> list[Stuck]:
    """The groups; *waits* says, by id, what an attempt waits for inside."""
    inside: dict[TaskRow, Waits] = {
        machine.row(name): [tuple(map(machine.row, any_of)) for any_of in every]
        for name, every in (waits or {}).items()
    }
    search = Search(machine.kernel, machine.now, inside)
    for _ in search.slices():
        pass
    return list(search.groups)


def groups(machine: Machine, **waits: tuple[tuple[str, ...], ...]) -> list[tuple]:
    return [(group.kind, group.tasks) for group in stuck(machine, waits)]


def test_nothing_is_stuck() -> None:
    """What runs, is queued, has ended or waits for a time, is not."""
    machine = Machine(concurrency=1)
    machine.submit_all("a", "b", "c")
    machine.end("a")
    machine.submit("later", not_before=machine.now + SEC)
    machine.submit("after", after=["b", "later"])
    assert stuck(machine) == []


def test_failed_dependencies_by_where_it_began() -> None:
    """All that a failure blocks is one group; two failures that block one, another."""
    machine = Machine()
    machine.submit_all("a", "b", "x")
    machine.submit("a1", after=["a"])
    machine.submit("a2", after=["a1", "x"])
    machine.submit("b1", after=["b"])
    machine.submit("ab", after=["a2", "b1"])
    machine.fail("a")
    machine.cancel("b")
    machine.end("b", "stopped")
    found = stuck(machine)
    assert [(group.kind, group.tasks) for group in found] == [
        ("dependency", ("a1", "a2")),
        ("dependency", ("b1",)),
        ("dependency", ("ab",)),
    ]
    assert found[0].detail == (
        "They need what did not complete: a failed (ValueError: it went wrong)."
    )
    assert [remedy.tasks for remedy in found[0].remedies] == [("a",)]
    assert "b is cancelled" in found[1].detail
    assert [remedy.tasks for remedy in found[2].remedies] == [("a", "b")]


def test_what_is_blocked_before_its_parents_are_looked_at() -> None:
    """A re-run is younger than what waits for it."""
    machine = Machine()
    machine.submit("a")
    machine.submit("b", after=["a"])
    machine.submit("c", after=["b"])
    machine.fail("a")
    name = machine.rerun("a")
    machine.submit("d", after=[name])
    machine.fail(name)
    kernel = machine.kernel
    first = kernel.tasks.pop("b")
    kernel.tasks["b"] = first
    assert {tasks for _, tasks in groups(machine)} == {("c", "d", "b")}


def test_what_was_skipped_passes_on_where_it_began() -> None:
    """It is the failure that is named, and not what was skipped because of it."""
    machine = Machine()
    machine.submit("a")
    machine.submit("skipped", after=["a"], on_failure="skip")
    machine.submit("b", after=["skipped"])
    machine.fail("a")
    assert machine.state("skipped") is S.CANCELLED
    (group,) = stuck(machine)
    assert "a failed" in group.detail
    assert group.tasks == ("b",)


def test_what_has_left_memory_cannot_be_run_again() -> None:
    machine = Machine(keep_finished=0)
    machine.submit("a")
    machine.submit("b", after=["a"])
    machine.fail("a")
    (group,) = stuck(machine)
    assert "a did not complete, and has left memory" in group.detail
    assert group.remedies == ()


def test_capabilities_that_nobody_has() -> None:
    """With all that waits for such a task, and whatever state it is in."""
    machine = Machine(refuse_unknown=False)
    machine.submit("a", requires=("z",))
    machine.submit("b", requires=("z",), not_before=machine.now + SEC)
    machine.submit("c", after=["b"])
    (group,) = stuck(machine)
    assert (group.kind, group.tasks) == ("capability", ("a", "b", "c"))
    assert group.detail == "No agent can do it: 0 match."
    assert [remedy.capabilities for remedy in group.remedies] == [("z",)]


def test_requests_that_are_larger_than_anything() -> None:
    machine = Machine(pools=Resources(cpu=4), policies=Policies(rigid=True))
    machine.submit("a", resources=Resources(cpu=2))
    machine.submit("b", resources=Resources(cpu=4))
    machine.kernel.pools["cpu"].total = 3_000_000
    machine.kernel.agents_version += 1
    (group,) = stuck(machine)
    assert (group.kind, group.tasks) == ("resource", ("b",))
    assert group.detail == (
        "It asks for 4 cpu, and the most there is, in the pool, is 3."
    )


def test_agents_that_are_lost() -> None:
    machine = Machine()
    machine.agent("far", "x", lease=5.0)
    machine.after(6 * SEC)
    machine.submit("a", requires=("x",))
    (group,) = stuck(machine)
    assert (group.kind, group.tasks) == ("agent", ("a",))
    assert [remedy.kind for remedy in group.remedies] == ["agent_back", "add_agent"]


def test_a_registry_whose_answers_cannot_be_kept() -> None:
    """Only of the first in the queue it is known what it says."""
    policies = Policies()
    policies.keeps_match = False
    machine = Machine(policies=policies, refuse_unknown=False)
    machine.submit_all("a", "b", requires=("z",))
    assert groups(machine) == [("capability", ("a",))]


def test_what_waits_for_a_word_is_told_apart() -> None:
    """Suspended tasks and decisions come last, each with what it holds up."""
    machine = Machine()
    machine.submit_all("held", "alike", idempotent=False)
    machine.submit("s", not_before=machine.now + SEC)
    machine.submit("t", not_before=machine.now + SEC)
    machine.submit("after", after=["s", "held"])
    machine.submit("failed")
    machine.submit("blocked", after=["failed"])
    machine.end("held", "lost")
    machine.end("alike", "lost")
    machine.suspend("s")
    machine.suspend("t")
    machine.fail("failed")
    found = stuck(machine)
    assert [(group.kind, group.outside) for group in found] == [
        ("dependency", False),
        ("suspended", True),
        ("decision", True),
    ]
    (decide,) = found[2].remedies
    assert decide.tasks == ("held", "alike")
    assert decide.detail == (
        "Call orch.decide('held', 'retry' | 'fail' | 'complete'), and so on for alike."
    )
    assert "not safe to run twice" in found[2].detail
    assert {*found[1].tasks, *found[2].tasks} == {"held", "alike", "s", "t", "after"}
    (resume,) = found[1].remedies
    assert resume.tasks == ("s", "t")


def test_what_needs_something_that_is_gone() -> None:
    machine = Machine()
    machine.submit("t")
    machine.end("t", "gone")
    assert [(g.kind, g.outside) for g in stuck(machine)] == [("gone", True)]


def test_joins_that_can_still_hold() -> None:
    """What does not need those that are stuck, goes on without them."""
    machine = Machine()
    machine.submit("s", not_before=machine.now + SEC)
    machine.submit("p", not_before=machine.now + SEC)
    machine.submit_all("runs")
    for join in ("any", "asked", 1, 2, "finished"):
        machine.submit(f"one {join}", after=["s", "runs"], join=join)
        machine.submit(f"two {join}", after=["s", "p"], join=join)
    machine.submit("resumed", after=["s"])
    machine.submit("two suspended", after=["s", "p"], join="any")
    machine.suspend("two suspended")
    machine.suspend("s")
    machine.suspend("p")
    found = {name for group in stuck(machine) for name in group.tasks}
    assert found == {
        "s",
        "p",
        "one 2",
        "one finished",
        *(f"two {join}" for join in ("any", "asked", 1, 2, "finished")),
        "resumed",
        "two suspended",
    }


def test_a_join_that_holds_does_not_care() -> None:
    """Once it has held, its other parents have no say."""
    machine = Machine(concurrency=1)
    machine.submit("a")
    machine.submit("s", not_before=machine.now + SEC)
    machine.submit("later", after=["a", "s"], join="any", not_before=machine.now + SEC)
    machine.end("a")
    machine.suspend("s")
    assert groups(machine) == [("suspended", ("s",))]


def test_who_waits_inside_for_what_is_stuck() -> None:
    """It is stuck as well, and so is what waits for what it holds."""
    machine = Machine(pools=Resources(cpu=2), policies=Policies(rigid=True))
    machine.submit("parent", resources=Resources(cpu=2))
    machine.submit("free")
    machine.submit("child", not_before=machine.now + SEC)
    machine.submit("waits", resources=Resources(cpu=1))
    machine.submit("after", after=["waits"])
    machine.kernel.yield_slot(machine.row("parent"), 1, machine.now)
    assert groups(machine, parent=(("child",),)) == []
    machine.suspend("child")
    found = stuck(machine, {"parent": (("child",),), "free": (("child", "waits"),)})
    assert [(group.kind, group.tasks) for group in found] == [
        ("waiting", ("waits", "after", "free")),
        ("suspended", ("child", "parent")),
    ]
    assert found[0].detail == "They need what parent holds, which cannot end."
    assert found[0].remedies[0].tasks == ("parent",)
    # One of two is enough.
    machine.submit("other", not_before=machine.now + SEC)
    assert groups(machine, parent=(("child", "other"),)) == [("suspended", ("child",))]


def test_slots_and_capacities_that_are_held() -> None:
    """What a program holds that is stopped where it stands, is not free again."""
    pools = Resources(cpu=2)
    machine = Machine(concurrency=4, pools=pools, policies=Policies(rigid=True))
    room = Resources(gpu=2)
    machine.agent("c", "z")
    machine.agent("a", "x", max_concurrency=2, capacity=room)
    machine.agent("b", "y", max_concurrency=1)
    machine.submit("p", requires=("x",), resources=Resources(gpu=1))
    machine.submit("q", requires=("y",))
    machine.suspend("p", holdable=True)
    machine.suspend("q", holdable=True)
    machine.submit("r", requires=("x",), resources=Resources(gpu=1))
    machine.submit("small", requires=("x",), resources=Resources(gpu=1))
    machine.submit("large", requires=("x",), resources=Resources(gpu=2))
    machine.submit("y", requires=("y",))
    machine.submit("lost", requires=("z",), resources=Resources(cpu=1))
    assert machine.state("lost") is S.RUNNING
    assert groups(machine) == [
        ("waiting", ("large", "y")),
        ("suspended", ("p", "q")),
    ]
    machine.submit("z", requires=("z",), resources=Resources(cpu=2))
    assert ("waiting", ("large", "y")) in groups(machine)
    machine.suspend("lost", holdable=True)
    machine.suspend("r", holdable=True)
    machine.submit("local")
    assert groups(machine) == [
        ("waiting", ("small", "large", "y", "z", "local")),
        ("suspended", ("p", "q", "r", "lost")),
    ]


def test_what_moves_on_meanwhile_is_left_out() -> None:
    """The lock is held for a slice only; what has changed by the end is not told."""
    machine = Machine()
    ids = [f"t{number}" for number in range(SLICE + 5)]
    for name in ids:
        machine.kernel.submit_general(
            name,
            machine.kernel.bucket(Spec("call")),
            None,
            machine.now,
            not_before_ns=machine.now + SEC,
        )
    for name in ids:
        machine.kernel.suspend(machine.row(name), machine.now, holdable=False)
    search = Search(machine.kernel, machine.now, {})
    slices = search.slices()
    for _ in range(4):
        next(slices)
    machine.kernel.resume(machine.row("t0"), machine.now)
    for _ in slices:
        pass
    (group,) = search.groups
    assert group.tasks[0] == "t1"
    assert len(group.tasks) == len(ids) - 1
    assert "and so on for t2, t3, t4, t5, t6 and 998 more" in str(group)


def test_events_that_nobody_has_emitted() -> None:
    """What waits for one without an end waits for outside; with one, for its time."""
    machine = Machine(refuse_unknown=False)
    waits = {
        "one": ("go", None, False),
        "two": ("go", None, False),
        "three": ("stop", None, False),
        "ends": ("go", 9 * SEC, False),
        "time": (None, 9 * SEC, True),
    }
    for name, wait in waits.items():
        machine.do(SubmitTask(name, Spec("wait", ("nobody",)), terms=Terms(wait=wait)))
    machine.submit("after", after=["one", "ends"])
    machine.submit("later", after=["ends"])
    found = stuck(machine)
    assert [(group.kind, group.outside) for group in found] == [("event", True)] * 2
    assert set(found[0].tasks) == {"one", "two", "after"}
    assert found[0].detail == "They wait for the event 'go'."
    assert found[0].remedies[0].name == "go"
    assert found[1].tasks == ("three",)


def test_work_that_would_not_stop() -> None:
    """What it holds may never be free again."""
    machine = Machine(concurrency=1)
    machine.submit("a")
    machine.submit("b")
    machine.cancel("a")
    machine.after(11 * SEC)
    (group,) = stuck(machine)
    assert (group.kind, group.tasks) == ("waiting", ("b",))
    assert group.detail == (
        "They need what a (attempt 1, which would not stop) holds, which cannot end."
    )


def test_what_starts_or_ends_in_between() -> None:
    """What has been looked at may have moved on before it is followed up."""
    machine = Machine(concurrency=1)
    machine.submit("p")
    machine.suspend("p", holdable=True)
    machine.submit("queued")
    search = Search(machine.kernel, machine.now, {})
    slices = search.slices()
    next(slices)
    next(slices)
    next(slices)
    machine.resume("p")
    machine.end("p")
    assert machine.state("queued") is S.RUNNING
    for _ in slices:
        pass
    assert search.groups == ()

    machine.submit("child", not_before=machine.now + SEC)
    machine.suspend("child")
    parent, child = machine.row("queued"), machine.row("child")
    search = Search(machine.kernel, machine.now, {parent: [(child,)]})
    slices = search.slices()
    next(slices)
    next(slices)
    machine.end("queued")
    for _ in slices:
        pass
    assert [group.tasks for group in search.groups] == [("child",)]
