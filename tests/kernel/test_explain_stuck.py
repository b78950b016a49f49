"""What can never proceed as things stand: by cause, each task once."""

from collections.abc import Mapping
from itertools import combinations

import pytest
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


def test_what_is_queued_after_it_was_looked_at_is_told_the_next_time() -> None:
    machine = Machine(pools=Resources(cpu=2), policies=Policies(rigid=True))
    machine.submit("parent", resources=Resources(cpu=2))
    machine.submit("child", not_before=machine.now + SEC)
    machine.submit("waits", resources=Resources(cpu=1))
    machine.submit("later", resources=Resources(cpu=1), not_before=machine.now + SEC)
    machine.suspend("child")
    inside: dict[TaskRow, Waits] = {machine.row("parent"): [(machine.row("child"),)]}
    search = Search(machine.kernel, machine.now, inside)
    slices = search.slices()
    next(slices)
    next(slices)
    machine.after(SEC)
    assert machine.state("later") is S.QUEUED
    for _ in slices:
        pass
    assert [(group.kind, group.tasks) for group in search.groups] == [
        ("waiting", ("waits",)),
        ("suspended", ("child", "parent")),
    ]
    assert groups(machine, parent=(("child",),))[0] == ("waiting", ("waits", "later"))


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


def test_a_wait_needs_nobody_who_can_do_it() -> None:
    """Neither before nor after it has begun."""
    machine = Machine(refuse_unknown=False)
    machine.submit("runs")
    nobody = {"type": "wait", "requires": ("nobody",)}
    machine.submit("later", after=["runs"], wait=("go", 9 * SEC, True), **nobody)
    machine.submit("now", wait=("go", 9 * SEC, True), **nobody)
    assert machine.states("later", "now") == [S.PENDING, S.BLOCKED]
    assert stuck(machine) == []


def test_what_runs_is_not_stuck_although_nobody_could_do_it_now() -> None:
    """The registry has changed its mind since: of what is queued, that is told."""
    machine = Machine(refuse_unknown=False)
    machine.agent("a", "x", max_concurrency=1)
    machine.submit_all("runs", "queued", requires=("x",))
    machine.policies.knows = lambda row, agent: False
    machine.agent("b", "y")
    assert groups(machine) == [("capability", ("queued",))]


def test_a_wait_that_is_held_for_a_decision_waits_for_no_event() -> None:
    """Its join does not hold, so it has not begun: a person must say."""
    machine = Machine()
    machine.submit("a")
    machine.submit("w", after=["a"], join=2, wait=("go", None, False), type="wait")
    machine.end("a")
    assert machine.state("w") is S.BLOCKED
    (group,) = stuck(machine)
    assert (group.kind, group.outside, group.tasks) == ("decision", True, ("w",))


def test_what_nobody_can_do_does_not_wait_for_those_who_hold_something() -> None:
    """Their end would not help it; but it helps those that somebody can do."""
    machine = Machine(concurrency=1, refuse_unknown=False)
    machine.submit("p")
    machine.suspend("p", holdable=True)
    machine.submit("z", requires=("z",))
    machine.submit("local")
    assert groups(machine) == [
        ("capability", ("z",)),
        ("waiting", ("local",)),
        ("suspended", ("p",)),
    ]


def test_of_those_of_whom_nothing_can_be_kept_nothing_is_told() -> None:
    """They may wait for what is held, or not: only the first can be asked about."""
    policies = Policies()
    policies.keeps_match = False
    machine = Machine(policies=policies, refuse_unknown=False)
    machine.submit("p")
    machine.suspend("p", holdable=True)
    machine.submit_all("a", "b", requires=("z",))
    assert groups(machine) == [("capability", ("a",)), ("suspended", ("p",))]


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


def test_a_failure_that_was_decided_began_there() -> None:
    """Although something else had blocked what a person gave up."""
    machine = Machine()
    machine.submit("a")
    machine.submit("b", after=["a"])
    machine.submit("c", after=["b"])
    machine.fail("a")
    machine.decide("b", "fail", "given up")
    (group,) = stuck(machine)
    assert (group.kind, group.tasks) == ("dependency", ("c",))
    assert group.detail == (
        "They need what did not complete: b failed (TaskFailedError: failed by "
        "decision: given up)."
    )
    assert [remedy.tasks for remedy in group.remedies] == [("a", "b")]


def test_what_needs_something_that_has_left_memory_cannot_be_run_again() -> None:
    """Where it began is there; what that needs is not."""
    machine = Machine(keep_finished=1)
    machine.submit("a")
    machine.submit("b", after=["a"])
    machine.submit("c", after=["b"])
    machine.fail("a")
    machine.cancel("b")
    assert "a" not in machine.kernel.tasks
    (group,) = stuck(machine)
    assert "b is cancelled" in group.detail
    assert group.remedies == ()


def test_what_waits_for_an_approval() -> None:
    """Somebody gives it by its run and its phase."""
    machine = Machine()
    for name, run in (("one", "r1"), ("two", "r2")):
        event = f"approval of {run}/plan"
        machine.submit(name, wait=(event, None, False), type="wait")
    first, second = stuck(machine)
    assert first.detail == second.detail == "They wait for somebody to approve."
    told = {
        str(group.remedies[0]): group.remedies[0].tasks for group in (first, second)
    }
    assert told == {
        "Call orch.workflows.approve('r1', 'plan', by=…).": ("one",),
        "Call orch.workflows.approve('r2', 'plan', by=…).": ("two",),
    }


def test_what_asks_people() -> None:
    machine = Machine()
    machine.submit("q", wait=("answer to Deploy?", None, False), type="question")
    (group,) = stuck(machine)
    assert group.detail == "They ask: Deploy?"
    assert group.remedies[0].tasks == ("q",)


def test_one_that_is_stuck_is_enough_where_all_are_waited_for() -> None:
    """Though the other one goes on."""
    machine = Machine()
    machine.submit("parent")
    machine.submit("stops", not_before=machine.now + SEC)
    machine.submit("goes", not_before=machine.now + SEC)
    machine.suspend("stops")
    waits = (("stops",), ("goes",))
    assert groups(machine, parent=waits) == [("suspended", ("stops", "parent"))]
    assert groups(machine, parent=waits[::-1]) == [("suspended", ("stops", "parent"))]


def test_a_task_that_had_failed_before_it_was_cancelled_is_cancelled() -> None:
    machine = Machine()
    machine.policies.delays["a"] = [9 * SEC]
    machine.submit("a")
    machine.submit("b", after=["a"])
    machine.fail("a")
    machine.cancel("a")
    (group,) = stuck(machine)
    assert group.detail == "They need what did not complete: a is cancelled."


def test_what_nobody_can_do_is_one_group_of_like_tasks() -> None:
    machine = Machine(refuse_unknown=False)
    machine.submit_all(*"abcdef", requires=("z",))
    assert groups(machine) == [("capability", tuple("abcdef"))]


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
