"""Edges that come later: what they change, and what is refused."""

from contextlib import suppress
from itertools import pairwise
from random import Random

import pytest
from hypothesis import given, strategies as st
from tests.kernel.harness import SEC, Machine, S, Twin
from tests.tools.examples import seeds

from taskorch.errors import CycleError
from taskorch.events import TaskParentsAdded
from taskorch.kernel import Spec, is_waiting
from taskorch.kit.checks import find_ring
from taskorch.model import TERMINAL


def chain(*names):
    """Each waits for the one before it, and the first of all runs."""
    machine = Twin()
    for above, name in zip([None, *names], names, strict=False):
        machine.submit(name, after=[above] if above else [])
    return machine


# -- rings -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("task", "after", "ring"),
    [
        ("a", ["a"], ("a",)),
        ("b", ["e"], ("b", "e", "d", "c")),
        ("b", ["c"], ("b", "c")),
        ("d", ["x", "e"], ("d", "e")),
        ("c", ["b", "c"], ("c",)),
    ],
)
def test_a_ring_is_named_in_order(task, after, ring):
    """Each needs the next, and the last the first; nothing has changed."""
    machine = chain("root", "a", "b", "c", "d", "e")
    machine.submit("x")
    with pytest.raises(CycleError) as caught:
        machine.add_parents(task, *after)
    assert caught.value.cycle == ring
    assert caught.value.task_id == task
    assert " → ".join((*ring, ring[0])) in str(caught.value)
    assert machine.told(TaskParentsAdded) == []


@pytest.mark.parametrize("between", [0, 1, 2, 3])
def test_a_ring_that_is_found_from_below_is_named_in_order(between):
    """Where what it is to wait for waits for much else: that takes longer to look at."""
    line = ["a", *(f"m{number}" for number in range(between)), "z"]
    machine = chain("root", *line[:-1])
    others = [f"other-{number}" for number in range(9)]
    machine.submit_all(*others, after=["root"])
    machine.submit("z", after=[line[-2], *others])
    with pytest.raises(CycleError) as caught:
        machine.add_parents("a", "z")
    assert caught.value.cycle == ("a", *line[:0:-1])


def test_joins_that_would_wait_for_each_other():
    """A ring is refused, whatever its joins would make of it."""
    machine = chain("root")
    machine.submit("a", after=["root"], join="any")
    machine.submit("b", after=["a"], join="finished")
    with pytest.raises(CycleError) as caught:
        machine.add_parents("a", "b")
    assert caught.value.cycle == ("a", "b")


def test_a_ring_through_what_was_cancelled():
    """It may run again, and would wait as before."""
    machine = chain("root", "a", "b", "c", "d", "e")
    machine.cancel("b")
    with pytest.raises(CycleError) as caught:
        machine.add_parents("a", "e")
    assert caught.value.cycle == ("a", "e", "d", "c", "b")


def test_a_search_costs_the_smaller_side():
    """A new task at the end of a long chain, and one before it, are found at once."""
    machine = Machine(listening=False, concurrency=1)
    kernel = machine.kernel
    bucket = kernel.bucket(Spec("call"))
    row = kernel.submit("t0", bucket, None, machine.now)
    rows = [row]
    for number in range(1, 3_000):
        row = kernel.submit_general(
            f"t{number}", bucket, None, machine.now, parents=[row]
        )
        rows.append(row)
    looked = []
    for each in rows:
        each.links.parents = Noted(each.links.parents, looked)
    leaf = kernel.submit_general(
        "leaf", bucket, None, machine.now, not_before_ns=machine.now + SEC
    )
    kernel.add_parents(leaf, [rows[-1]], machine.now)
    new = kernel.submit("new", bucket, None, machine.now)
    kernel.add_parents(rows[1], [new], machine.now)
    assert len(looked) < 10


class Noted(list):
    def __init__(self, items, looked):
        super().__init__(items)
        self.looked = looked

    def __iter__(self):
        self.looked.append(self)
        return super().__iter__()


@given(
    st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=40),
)
def test_exactly_the_rings_are_refused(edges):
    """An edge is refused if, and only if, it would close a ring."""
    machine = Machine()
    machine.submit("root")
    names = [f"t{number}" for number in range(10)]
    machine.submit_all(*names, after=["root"])
    parents = {name: ["root"] for name in names}
    for child, parent in edges:
        task, above = names[child], names[parent]
        ring = find_ring({**parents, task: [*parents[task], above]})
        try:
            machine.add_parents(task, above)
        except CycleError as error:
            assert ring
            members = error.cycle
            assert task in members
            pairs = zip(members, (*members[1:], members[0]), strict=True)
            needs = {**parents, task: [*parents[task], above]}
            assert all(two in needs[one] for one, two in pairs)
        else:
            assert not ring
            parents[task].append(above)


def test_a_rerun_takes_over_all_who_wait():
    """One that looks how it ended is called back; one that it had blocked waits again."""
    machine = Twin(concurrency=1)
    machine.submit("a")
    machine.submit("looks", after=["a"], join="finished")
    machine.submit("needs", after=["a"])
    machine.submit("asks", after=["a"], join="any", on_failure="block")
    machine.submit("busy", priority=9)
    machine.fail("a")
    assert machine.states("looks", "needs", "asks") == [S.QUEUED, S.BLOCKED, S.BLOCKED]
    again = machine.rerun("a")
    names = ("looks", "needs", "asks")
    assert machine.states(*names) == [S.PENDING] * 3
    for name in names:
        assert [row.id for row in machine.row(name).links.parents] == [again]
    machine.end("busy")
    machine.end(again)
    assert machine.states("looks", "needs", "asks") == [S.RUNNING, S.QUEUED, S.QUEUED]


# -- rings that a re-run would close -----------------------------------------------


def ran_beside_its_parent():
    """`late` ran while `p`, above it, was blocked; by now `p` waits again."""
    machine = Twin()
    machine.submit_all("root", "other")
    machine.submit("p", after=["root"])
    machine.submit("late", after=["p"], join="any", on_failure="run")
    machine.fail("root")
    assert machine.states("p", "late") == [S.BLOCKED, S.RUNNING]
    machine.rerun("root")
    assert machine.state("p") is S.PENDING
    return machine


@pytest.mark.parametrize("between", [0, 1, 9])
@pytest.mark.parametrize("end", ["fail", "cancel"])
def test_a_rerun_does_not_wait_for_what_waits_for_it(between, end):
    """It would wait for all that it was submitted after; nothing has changed."""
    machine = ran_beside_its_parent()
    line = ["late", *(f"m{number}" for number in range(between))]
    for above, name in pairwise(line):
        machine.submit(name, after=[above])
    machine.add_parents("p", line[-1])
    getattr(machine, end)("late")
    told = len(machine.sink)
    with pytest.raises(CycleError) as caught:
        machine.rerun("late")
    assert caught.value.cycle == ("late~2", "p", *line[:0:-1])
    assert caught.value.task_id == "late~2"
    assert len(machine.sink) == told
    waits = (*line[1:], "p")[0]
    assert f"cancel_task({waits!r})" in caught.value.hint
    machine.cancel(waits)
    assert machine.rerun("late") == "late~2"


def test_what_may_be_recalled_is_waited_for():
    """A clean-up that has not begun waits again once its parent is not blocked."""
    machine = Twin(concurrency=1)
    machine.submit("root")
    machine.submit("p", after=["root"])
    machine.submit("clean", after=["p"], join="finished")
    machine.submit("busy", priority=9)
    machine.fail("root")
    assert machine.states("p", "clean") == [S.BLOCKED, S.QUEUED]
    with pytest.raises(CycleError) as caught:
        machine.add_parents("p", "clean")
    assert caught.value.cycle == ("p", "clean")
    machine.end("busy")
    assert machine.state("clean") is S.RUNNING
    machine.add_parents("p", "clean")
    machine.rerun("root")
    assert machine.state("p") is S.PENDING


#: In which states of a task there is something to do with it.
STATES = {
    "add_parents": {S.PENDING, S.BLOCKED},
    "rerun": {S.FAILED, S.CANCELLED},
    "cancel": set(S) - TERMINAL,
    "fail": {S.RUNNING},
    "end": {S.RUNNING},
}


@pytest.mark.parametrize("part", seeds(1, 5))
def test_nobody_ever_waits_in_a_ring(part):
    """Whatever is run again, called back, or let wait for more."""
    for seed in range(100 * part, 100 * (part + 1)):
        dice = Random(seed)
        machine = Machine(concurrency=1)
        machine.submit_all("t0", "busy")
        for above, name in pairwise(["t0", "t1", "t2", "t3"]):
            join, then = dice.choice(["any", "finished"]), dice.choice(["block", "run"])
            machine.submit(name, after=[above], join=join, on_failure=then)
        machine.fail("t0")
        latest = ["t0", "t1", "t2", "t3", "busy"]
        for _ in range(20):
            verb = dice.choice([*STATES, "add_parents", "rerun"])
            found = [name for name in latest if machine.state(name) in STATES[verb]]
            if not found:
                continue
            name = dice.choice(found)
            with suppress(CycleError):
                if verb == "rerun":
                    latest[latest.index(name)] = machine.rerun(name)
                elif verb == "add_parents":
                    machine.add_parents(name, dice.choice(latest))
                else:
                    getattr(machine, verb)(name)
            waits = {
                row.id: [parent.id for parent in row.links.parents]
                for row in machine.kernel.tasks.values()
                if row.state not in TERMINAL and is_waiting(row)
            }
            assert find_ring(waits) == (), f"seed {seed}"
