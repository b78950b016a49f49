"""What can never proceed as things stand: by cause, each task once."""

from collections.abc import Mapping
from itertools import combinations

import pytest
from tests.core.kernel.harness import SEC, Machine, Policies, S

from taskorch.core.kernel import Search, Spec, TaskRow, Terms
from taskorch.core.kernel._explain._stuck import SLICE, Waits
from taskorch.model import Resources, Stuck


def stuck(
    machine: Machine, waits: Mapping[str, tuple[tuple[str, ...], ...]] | None = None
) -> list[Stuck]:
    """The groups; *waits* says, by id, what an attempt waits for inside."""
    inside: dict[TaskRow, Waits] = {
        machine.row(name): [(1, tuple(map(machine.row, any_of))) for any_of in every]
        for name, every in (waits or {}).items()
    }
    search = Search(machine.kernel, machine.now, inside)
    for _ in search.slices():
        pass
    return list(search.groups)


def groups(machine: Machine, **waits: tuple[tuple[str, ...], ...]) -> list[tuple]:
    return [(group.kind, group.tasks) for group in stuck(machine, waits)]


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
    search = Search(machine.kernel, machine.now, {parent: [(1, [child])]})
    slices = search.slices()
    next(slices)
    next(slices)
    machine.end("queued")
    for _ in slices:
        pass
    assert [group.tasks for group in search.groups] == [("child",)]


# -- what needs those that are stuck, by a plain rule ----------------------------------

#: What becomes of parents: they go on, never will, did not complete, or did.
FATES = ("runs", "stuck", "bad", "done")
PARENTS = [f"{fate}{number}" for fate in FATES for number in (1, 2)]
#: One, two or three of them, in every combination.
SOME = [names for many in (1, 2, 3) for names in combinations(PARENTS, many)]


def name_of(after: tuple[str, ...]) -> str:
    """The id of the task that waits for these."""
    return f"after {' '.join(after)}"


def family(machine: Machine) -> None:
    """Two parents of each fate."""
    for name in PARENTS:
        late = machine.now + SEC if name.startswith("stuck") else None
        machine.submit(name, not_before=late)
    for number in (1, 2):
        machine.fail(f"bad{number}")
        machine.end(f"done{number}")
        machine.suspend(f"stuck{number}")


def may_go_on(join: str | int, fates: list[str], *, mortal: bool, runs: bool) -> bool:
    """Whether a task may still start: what runs completes, what is stuck never ends."""
    if "stuck" not in fates:
        return True
    if mortal and (runs or join in ("finished", "asked")):
        # What is stuck may come to its deadline, and that is an end as well.
        return True
    if join in ("all", "finished"):
        return False
    if join == "asked":
        return "runs" in fates
    complete = fates.count("runs") + fates.count("done")
    return complete >= (1 if join == "any" else int(join))


@pytest.mark.parametrize("mortal", ["", "deadline", "max_age", "admission"])
@pytest.mark.parametrize("on_failure", ["block", "run"])
@pytest.mark.parametrize("join", ["all", "any", "finished", "asked", 2, 3])
def test_who_needs_what_is_stuck(join: str | int, on_failure: str, mortal: str) -> None:
    """Of all joins of one, two or three parents, whatever becomes of these."""
    policies = Policies()
    policies.joins = lambda name, states: False
    policies.max_age_ns = 900 * SEC if mortal == "max_age" else None
    policies.admits_all = mortal != "admission"
    machine = Machine(policies=policies)
    family(machine)
    kernel = machine.kernel
    for after in SOME:
        kernel.submit_general(
            name_of(after),
            kernel.bucket(Spec("call")),
            None,
            machine.now,
            parents=[machine.row(parent) for parent in after],
            terms=Terms(join, on_failure),
        )
    if mortal == "deadline":
        machine.submit("ends", deadline=machine.now + 99 * SEC)
    machine.settle()
    groups = [group for group in stuck(machine) if group.kind == "suspended"]
    found = {name for group in groups for name in group.tasks}
    waiting = [after for after in SOME if machine.state(name_of(after)) is S.PENDING]
    assert len(waiting) > 5
    for after in waiting:
        fates = [parent[:-1] for parent in after]
        runs = on_failure == "run"
        goes_on = may_go_on(join, fates, mortal=bool(mortal), runs=runs)
        assert (name_of(after) in found) is not goes_on, after


# -- each for itself -------------------------------------------------------------------


def test_who_waits_for_two_that_are_stuck_holds_what_it_holds_once() -> None:
    """One of two is held: another that needs one can have it."""
    machine = Machine(pools=Resources(cpu=2), policies=Policies(rigid=True))
    machine.submit("parent", resources=Resources(cpu=1))
    machine.submit("runs", resources=Resources(cpu=1))
    machine.submit("one", not_before=machine.now + SEC)
    machine.submit("two", not_before=machine.now + SEC)
    machine.submit("queued", resources=Resources(cpu=1))
    machine.suspend("one")
    machine.suspend("two")
    assert groups(machine, parent=(("one",), ("two",))) == [
        ("suspended", ("one", "two", "parent"))
    ]


@pytest.mark.parametrize("many", [1, SLICE - 1, SLICE, SLICE + 1, 3 * SLICE])
def test_how_many_slices_there_are(many: int) -> None:
    """As many as it takes, and no more: the lock is let go between two of them."""
    machine = Machine(listening=False)
    bucket = machine.kernel.bucket(Spec("call"))
    date = machine.now + SEC
    for number in range(many):
        row = machine.kernel.submit_general(
            f"t{number}", bucket, None, machine.now, not_before_ns=date
        )
        machine.kernel.suspend(row, machine.now, holdable=False)
    slices = sum(1 for _ in Search(machine.kernel, machine.now, {}).slices())
    each = -(-many // SLICE)
    # One to begin with; to look, to follow up and to gather, and one may be empty.
    assert 1 + 2 * each <= slices <= 2 + 3 * each


def test_two_of_three_are_waited_for() -> None:
    """As at a meeting: it can be held as long as enough may come."""
    machine = Machine()
    machine.submit("parent")
    for name in "abc":
        machine.submit(name, not_before=machine.now + SEC)
    rows = list(map(machine.row, "abc"))
    inside: dict[TaskRow, Waits] = {machine.row("parent"): [(2, rows)]}
    for name, group in (("a", ("a",)), ("b", ("a", "b", "parent"))):
        machine.suspend(name)
        search = Search(machine.kernel, machine.now, inside)
        for _ in search.slices():
            pass
        assert [each.tasks for each in search.groups] == [group]


def test_those_who_keep_each_other_from_going_on_are_one_group() -> None:
    machine = Machine(pools=Resources(cpu=1))
    machine.submit("parent", resources=Resources(cpu=1))
    machine.submit("child", resources=Resources(cpu=1))
    parent = machine.row("parent")
    inside: dict[TaskRow, Waits] = {parent: [(1, [machine.row("child")])]}
    search = Search(machine.kernel, machine.now, inside, [parent])
    for _ in search.slices():
        pass
    (group,) = search.groups
    assert (group.kind, group.tasks) == ("waiting", ("parent", "child"))
