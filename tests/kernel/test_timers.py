"""Timers: timeouts, graces, delays, deadlines, expiry; and what they cost."""

import pytest
from tests.kernel.harness import SEC, Machine, Only, S

from taskorch.events import AttemptStopping, TaskFailed
from taskorch.kernel import Spec
from taskorch.kernel._queue import FEW_TIMERS, LEASE, is_alive

GRACE = 10 * SEC


def test_those_that_are_left_by_a_clean_up_ring_in_their_order():
    machine = Machine()
    for name, seconds in (("t", 1), ("u", 5), ("v", 2)):
        machine.submit(name, timeout_ns=seconds * SEC)
    machine.end("t")
    machine.kernel.points = Only({"timers.rebuild"})
    machine.submit("w", timeout_ns=9 * SEC)
    assert machine.kernel.next_due() == machine.now + 2 * SEC
    for due, told in ((2, ["v"]), (5, ["v", "u"]), (9, ["v", "u", "w"])):
        machine.after(due * SEC - (machine.now - machine.row("u").started_ns))
        assert [what[0] for what in machine.told(AttemptStopping)] == told


def test_a_date_and_a_parent():
    """It waits for both, in either order."""
    machine = Machine()
    machine.submit_all("a", "b")
    machine.submit("t", after=["a"], not_before=machine.now + 5 * SEC)
    machine.submit("u", after=["b"], not_before=machine.now + 5 * SEC)
    machine.submit("v", after=["b"], not_before=machine.now + 9 * SEC)
    assert machine.end("a") == []
    assert not machine.kernel.quiescent()
    assert machine.after(5 * SEC) == ["t"]
    machine.now += 4 * SEC
    assert machine.extra("v").due_ns == machine.now
    assert machine.kernel.complete(machine.row("b"), 1, machine.now)
    assert machine.settle() == ["u", "v"]


PLACES = {
    "pending": lambda m: m.submit("t", deadline=m.now + SEC, after=["other"]),
    "delayed": lambda m: m.submit(
        "t", deadline=m.now + SEC, not_before=m.now + 9 * SEC
    ),
    "queued": lambda m: m.submit("t", deadline=m.now + SEC, requires=("x",)),
    "suspended": lambda m: (
        m.submit("t", deadline=m.now + SEC, requires=("x",)),
        m.suspend("t"),
    ),
    "retrying": lambda m: (
        m.policies.delays.update(t=[9 * SEC]),
        m.submit("t", deadline=m.now + SEC),
        m.fail("t"),
    ),
    "blocked": lambda m: (
        m.submit("bad"),
        m.fail("bad"),
        m.submit("t", deadline=m.now + SEC, after=["bad"]),
    ),
    "held for a decision": lambda m: (
        m.submit("t", deadline=m.now + SEC, idempotent=False),
        m.end("t", "lost"),
    ),
}


@pytest.mark.parametrize("place", PLACES)
def test_deadline_of_what_does_not_run(place):
    """Wherever it waits, a task fails when its deadline has passed."""
    machine = Machine(refuse_unknown=False)
    machine.submit("other")
    PLACES[place](machine)
    machine.submit("child", after=["t"])
    machine.after(SEC)
    assert machine.states("t", "child") == [S.FAILED, S.BLOCKED]
    assert machine.told(TaskFailed)[-1][5] == "deadline"
    machine.after(20 * SEC)
    assert machine.kernel.delayed == 0


def test_deadline_of_work_that_will_not_stop():
    """After the grace it fails all the same."""
    machine = Machine()
    machine.submit("t", deadline=machine.now + SEC)
    machine.after(SEC + GRACE)
    assert machine.state("t") is S.FAILED


@pytest.mark.parametrize("reusable", [False, True])
def test_expiry(reusable):
    """A task that has waited for as long as it may fails, unless it has begun."""
    machine = Machine(refuse_unknown=False)
    machine.policies.admits_all = reusable
    machine.policies.max_age_ns = 5 * SEC
    machine.policies.admits = lambda row: (None, 5 * SEC)
    machine.policies.delays["runs"] = [9 * SEC]
    machine.submit("runs")
    machine.submit("waits", requires=("x",))
    machine.submit("pending", after=["runs"])
    # On what terms it waits for others makes no difference.
    machine.submit("any", after=["runs"], join="any")
    machine.submit("ended", requires=("x",))
    machine.cancel("ended")
    machine.fail("runs")
    machine.after(5 * SEC)
    assert machine.state("any") is S.FAILED
    assert machine.states("runs", "waits", "pending") == [
        S.RETRYING,
        S.FAILED,
        S.FAILED,
    ]
    assert machine.state("ended") is S.CANCELLED
    assert machine.told(TaskFailed)[0][3:6] == (
        "TaskExpiredError",
        "it waited for longer than it may",
        "expired",
    )


def test_timers_are_cleared_away():
    """Timers that have lost their meaning do not pile up."""
    machine = Machine(listening=False, keep_finished=10)
    kernel = machine.kernel
    bucket = kernel.bucket(Spec("call", timeout_ns=10**6 * SEC))
    for n in range(3 * FEW_TIMERS):
        row = kernel.submit(f"t{n}", bucket, None, machine.now)
        kernel.dispatch(machine.now)
        kernel.complete(row, 1, machine.now)
        kernel.starts.clear()
        assert len(kernel.timers) <= FEW_TIMERS + 1


def test_timers_that_are_alive_are_not_looked_at_again_and_again():
    """With many live timers, a clean-up comes only when there are twice as many."""
    machine = Machine(concurrency=1, listening=False)
    machine.submit("runs")
    kernel = machine.kernel
    bucket = kernel.bucket(Spec("call"))
    for n in range(3 * FEW_TIMERS):
        kernel.submit_general(
            f"t{n}", bucket, None, machine.now, deadline_ns=10**9 * SEC
        )
    assert len(kernel.timers) == 3 * FEW_TIMERS
    assert kernel.most_timers > 3 * FEW_TIMERS


def test_a_date_survives_a_clean_up_while_its_task_is_blocked():
    """The timer of a blocked task is kept: it may be unblocked before it is due."""
    machine = Machine()
    machine.submit("a")
    machine.submit("b", after=["a"], not_before=machine.now + 9 * SEC)
    machine.fail("a")
    machine.kernel.most_timers = 0
    machine.submit("c", not_before=machine.now + SEC)
    again = machine.rerun("a")
    machine.end(again)
    machine.after(SEC)
    assert machine.after(8 * SEC) == ["b"]


def test_time_may_jump():
    """What is due is done in order, however late the driver comes."""
    machine = Machine()
    machine.submit("late", not_before=machine.now + 2 * SEC)
    machine.submit("soon", not_before=machine.now + SEC)
    machine.now += 100 * SEC
    assert machine.settle() == ["late", "soon"]
    assert machine.row("soon").ready_ns == machine.now


def test_an_attempt_that_is_held_just_as_its_timeout_is_over():
    """The least that can be left of it is a nanosecond."""
    machine = Machine()
    machine.submit("t", timeout_ns=5 * SEC)
    now = machine.now + 5 * SEC
    row = machine.row("t")
    machine.kernel.suspend(row, now, holdable=True)
    assert machine.state("t") is S.SUSPENDED
    machine.at(now + 9 * SEC)
    machine.resume("t")
    assert machine.kernel.next_due() == machine.now + 1
    machine.submit("u")
    machine.suspend("u", holdable=True)
    machine.resume("u")
    machine.after(1)
    assert [row.id for row in machine.kernel.tasks.values() if row.extra.stop] == ["t"]


def test_the_timers_of_an_agent_that_is_lost_have_lost_their_meaning():
    """Until it is there again; and it has no other than its latest."""
    machine = Machine()
    far = machine.agent("far", "x", lease=5.0)

    def alive():
        timers = machine.kernel.timers
        return [one[0] for one in timers if one[2] == LEASE and is_alive(one)]

    assert alive() == [machine.now + 5 * SEC]
    machine.after(2 * SEC)
    machine.kernel.excuse(machine.now)
    assert alive() == [machine.now + 5 * SEC]
    assert far.lease_due_ns == machine.now + 5 * SEC
    assert far.heard_ns == machine.now
    machine.after(5 * SEC)
    assert far.lost
    assert alive() == []
    heard = far.heard_ns
    machine.after(SEC)
    machine.kernel.excuse(machine.now)
    assert (alive(), far.heard_ns) == ([], heard)
    machine.beat("far")
    assert alive() == [machine.now + 5 * SEC]
