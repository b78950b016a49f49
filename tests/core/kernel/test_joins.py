"""Joins, and what follows when they cannot hold any more."""

from itertools import product

import pytest
from tests.core.kernel.commands import AddParents
from tests.core.kernel.harness import Policies, S, Twin

from taskorch.core.kernel._deciders import PolicyGone

#: What becomes of a parent, and the state of what waits for three of them.
GOOD, BAD = "completed", "failed"
FOLLOWS = {
    "block": S.BLOCKED,
    "skip": S.CANCELLED,
    "fail": S.FAILED,
    "run": S.RUNNING,
}


def three(join, on_failure="block", **config):
    """A task that waits for three others, which run."""
    machine = Twin(**config)
    machine.submit_all("a", "b", "c")
    machine.submit("t", after="abc", join=join, on_failure=on_failure)
    return machine


def expected(join, on_failure, ends):
    """The state of the task, by the rules, when its parents have ended so far so."""
    done, broken, total = ends.count(GOOD), ends.count(BAD), 3
    over = done + broken == total
    holds = {
        "all": done == total,
        "finished": over,
        "any": done >= 1,
        "asked": broken > 0,
    }.get(join, done >= join if isinstance(join, int) else False)
    never = {
        "all": broken > 0,
        "finished": False,
        "any": broken == total,
        "asked": over,
    }.get(join, total - broken < join if isinstance(join, int) else False)
    if holds or (on_failure == "run" and never and over):
        return S.RUNNING
    if not never or on_failure == "run":
        return S.PENDING
    return FOLLOWS[on_failure]


@pytest.mark.parametrize("on_failure", FOLLOWS)
@pytest.mark.parametrize("join", ["all", "finished", "any", "asked", 1, 2, 3])
def test_every_join_in_every_case(join, on_failure):
    """Whatever becomes of three parents, the task does what the rules say."""
    for ends in product((GOOD, BAD), repeat=3):
        machine = three(join, on_failure)
        for number, (name, end) in enumerate(zip("abc", ends, strict=True), 1):
            machine.end(name, end)
            state = expected(join, on_failure, ends[:number])
            assert machine.state("t") is state, (join, on_failure, ends[:number])
            if state is not S.PENDING:
                break


# -- what follows ------------------------------------------------------------------


def test_the_driver_learns_of_what_is_blocked_and_of_what_is_not_any_more():
    machine = Twin()
    machine.submit("a")
    machine.submit("t", after=["a"], cargo="its cargo")
    kernel, a, t = machine.kernel, machine.row("a"), machine.row("t")
    kernel.end_attempt(a, 1, "failed", machine.now, ValueError("it went wrong"))
    assert kernel.touched == [(a, None), (t, "its cargo")]
    kernel.touched.clear()
    again = kernel.submit_general("again", a.bucket, None, machine.now, rerun_of=a)
    kernel.repoint(a, again, machine.now)
    assert t.state is S.PENDING
    assert kernel.touched == [(t, "its cargo")]


# -- a function of the user's ------------------------------------------------------


def test_a_task_that_is_held_so_may_wait_for_more():
    gone = [True]

    def join(name, states):
        if gone:
            raise PolicyGone("join", RuntimeError("it is gone"))
        return len(states) == 4 and states["d"] is S.FAILED

    policies = Policies()
    policies.joins = join
    machine = three("asked", policies=policies)
    machine.end("a")
    machine.submit("d")
    machine.fail("d")
    machine.do(AddParents("t", ("d",)))
    assert machine.state("t") is S.BLOCKED
    assert machine.extra("t").blocked_by == {}
    gone.clear()
    assert machine.decide("t", "retry") == ["t"]


# -- together with the rest --------------------------------------------------------


@pytest.mark.parametrize("ends", list(product((GOOD, BAD), repeat=3)))
@pytest.mark.parametrize("join", ["all", "finished", "any", 2])
def test_it_is_decided_when_it_is_resumed(join, ends):
    """What becomes of its parents while it is suspended counts afterwards."""
    machine = three(join, "fail")
    machine.suspend("t")
    for name, end in zip("abc", ends, strict=True):
        machine.end(name, end)
    assert machine.state("t") is S.SUSPENDED
    machine.resume("t")
    assert machine.state("t") is expected(join, "fail", ends)
