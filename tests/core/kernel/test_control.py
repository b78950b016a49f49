"""Control from outside: each command in each situation that a task can be in."""

import pytest
from tests.core.kernel.harness import SEC, Machine, Policies, S

from taskorch.core.kernel import (
    check_invariants,
    hold_of_starts,
    words_of_holds,
)
from taskorch.errors import (
    InvalidTransitionError,
)
from taskorch.model import Resources


def pending(m):
    m.submit("parent")
    m.submit("t", after=["parent"])


def delayed(m):
    m.submit("t", not_before=m.now + 5 * SEC)


def queued(m):
    m.submit("runs", requires=("x",))
    m.submit("t", requires=("x",))


def vetoed(m):
    m.policies.vetoes["t", S.RUNNING] = "no"
    m.submit("t")


def running(m):
    m.submit("t")


def yielded(m):
    m.submit("t")
    m.kernel.yield_slot(m.row("t"), 1, m.now)


def suspending(m):
    m.submit("t")
    m.suspend("t")


def stopping(m):
    m.submit("t")
    m.cancel("t")


def timing_out(m):
    m.submit("t", timeout_ns=SEC)
    m.after(SEC)


def missing(m):
    m.submit("t", deadline=m.now + SEC)
    m.after(SEC)


def retrying(m):
    m.policies.delays["t"] = [5 * SEC]
    m.submit("t")
    m.fail("t")


def blocked(m):
    m.submit("parent")
    m.fail("parent")
    m.submit("t", after=["parent"])


def undecided(m):
    m.submit("t", idempotent=False)
    m.end("t", "lost")


def suspended(m):
    queued(m)
    m.suspend("t")


def held(m):
    m.submit("t")
    m.suspend("t", holdable=True)


def completed(m):
    m.submit("t")
    m.end("t")


def failed(m):
    m.submit("t")
    m.fail("t")


def cancelled(m):
    m.submit("t", requires=("x",), not_before=m.now + SEC)
    m.cancel("t")


#: Situation → its state, and for each command what it answers and the state after.
#: An exception's name: the command is refused, and nothing changes.
NO, YES = False, True
REFUSED = "InvalidTransitionError"
P, Q, R, C = S.PENDING, S.QUEUED, S.RUNNING, S.CANCELLED
SUSP, BLK, RETRY = S.SUSPENDED, S.BLOCKED, S.RETRYING
COMP, FAIL = S.COMPLETED, S.FAILED

#:             state, cancel,        suspend,         resume,         decide 'fail'
TABLE = {
    pending:    (P, (YES, C), (YES, SUSP), (NO, P), (REFUSED, P)),
    delayed:    (P, (YES, C), (YES, SUSP), (NO, P), (REFUSED, P)),
    queued:     (Q, (YES, C), (YES, SUSP), (NO, Q), (REFUSED, Q)),
    vetoed:     (Q, (YES, C), (YES, SUSP), (NO, Q), (REFUSED, Q)),
    running:    (R, (YES, R), (YES, R), (NO, R), (REFUSED, R)),
    yielded:    (R, (YES, R), (YES, R), (NO, R), (REFUSED, R)),
    suspending: (R, (YES, R), (YES, R), (YES, R), (REFUSED, R)),
    stopping:   (R, (YES, R), (NO, R), (NO, R), (REFUSED, R)),
    timing_out: (R, (YES, R), (YES, R), (NO, R), (REFUSED, R)),
    missing:    (R, (YES, R), (NO, R), (NO, R), (REFUSED, R)),
    retrying:   (RETRY, (YES, C), (YES, SUSP), (NO, RETRY), (REFUSED, RETRY)),
    blocked:    (BLK, (YES, C), (REFUSED, BLK), (NO, BLK), (YES, FAIL)),
    undecided:  (BLK, (YES, C), (REFUSED, BLK), (NO, BLK), (YES, FAIL)),
    suspended:  (SUSP, (YES, C), (NO, SUSP), (YES, Q), (REFUSED, SUSP)),
    held:       (SUSP, (YES, R), (NO, SUSP), (YES, R), (REFUSED, SUSP)),
    completed:  (COMP, (NO, COMP), (NO, COMP), (NO, COMP), (NO, COMP)),
    failed:     (FAIL, (NO, FAIL), (NO, FAIL), (NO, FAIL), (NO, FAIL)),
    cancelled:  (C, (NO, C), (NO, C), (NO, C), (NO, C)),
}  # fmt: skip

COMMANDS = {
    "cancel": lambda k, r, now: k.cancel(r, now, "called off"),
    "suspend": lambda k, r, now: k.suspend(r, now, holdable=False),
    "resume": lambda k, r, now: k.resume(r, now),
    "decide": lambda k, r, now: k.decide(r, "fail", now),
}


def in_situation(situation):
    policies = Policies()
    policies.watches = frozenset({(S.QUEUED, S.RUNNING)})
    machine = Machine(policies=policies, pools=Resources(cpu=4))
    machine.worker("a", "x", max_concurrency=1)
    situation(machine)
    return machine


@pytest.mark.parametrize("number", range(4), ids=list(COMMANDS))
@pytest.mark.parametrize("situation", TABLE, ids=lambda s: s.__name__)
def test_each_command_in_each_situation(situation, number):
    """What the command answers, and the state that follows, stand in the table."""
    machine = in_situation(situation)
    row = machine.row("t")
    before, *answers = TABLE[situation]
    assert row.state is before
    command = list(COMMANDS.values())[number]
    answer, after = answers[number]
    seq = machine.kernel.seq
    if answer == REFUSED:
        with pytest.raises(InvalidTransitionError) as caught:
            command(machine.kernel, row, machine.now)
        assert caught.value.story[-1][0] == before.value
        assert machine.kernel.seq == seq
    else:
        assert command(machine.kernel, row, machine.now) is answer
    assert row.state is after
    check_invariants(machine.kernel)
    if answer is NO:
        assert machine.kernel.seq == seq


@pytest.mark.parametrize("situation", TABLE, ids=lambda s: s.__name__)
def test_all_ends_well_from_each_situation(situation):
    """Resumed, decided and ended, every task comes to an end and all is free."""
    machine = in_situation(situation)
    machine.policies.vetoes.clear()
    row = machine.row("t")
    for _ in range(8):
        if row.state is S.BLOCKED:
            machine.decide("t", "complete")
        elif row.state is S.SUSPENDED:
            machine.resume("t")
        elif row.state is S.QUEUED:
            machine.prioritise("t", 1)
        elif row.state is S.RUNNING:
            machine.kernel.reclaim_slot(row, row.attempt, machine.now)
        for name in machine.running():
            machine.end(name)
        machine.after(5 * SEC)
    assert row.state.is_terminal
    assert machine.kernel.running == 0


# -- other options ---------------------------------------------------------------------


def test_a_refusal_tells_what_has_become_of_the_task():
    """Its states so far, each with its time in seconds."""
    machine = Machine(concurrency=1)
    machine.submit("runs")
    machine.after(2 * SEC)
    machine.submit("t")
    machine.after(SEC // 2)
    with pytest.raises(InvalidTransitionError) as caught:
        machine.decide("t", "fail")
    assert caught.value.story == (("queued", 3.0),)
    machine.end("runs")
    machine.after(SEC)
    machine.fail("t")
    with pytest.raises(InvalidTransitionError) as caught:
        machine.change("t", timeout_ns=SEC)
    assert caught.value.story == (("queued", 3.0), ("running", 3.5), ("failed", 4.5))
    assert caught.value.task_id == "t"


def test_what_was_queued_for_too_long_says_for_how_long():
    """Longer than that, and not just as long."""
    machine = Machine(concurrency=1)
    machine.submit("runs")
    machine.submit("t")
    machine.after(7 * SEC)
    machine.expire(7 * SEC)
    assert machine.state("t") is S.QUEUED
    machine.now += SEC // 2
    machine.expire(7 * SEC)
    assert machine.error("t") == (
        "TaskExpiredError",
        "it was queued for 7.5 s",
        "expired",
    )


def test_starts_that_are_held():
    """Nothing new starts, or only so many run; each who holds them lets go himself."""
    m = Machine(concurrency=4)
    kernel = m.kernel
    kernel.unpause()
    assert kernel.hold_starts("ann", 0, "too much fails", m.now, lasts=True)
    m.submit("a")
    assert m.state("a") is S.QUEUED
    seq = kernel.seq
    assert not kernel.hold_starts("ann", 0, "too much fails", m.now, lasts=True)
    assert kernel.seq == seq
    kernel.hold_starts("ben", 1, "memory is short", m.now, lasts=False)
    assert words_of_holds(kernel) == [
        "Starts are held by ann: too much fails.",
        "No more than 1 run at once, held by ben: memory is short.",
    ]
    assert kernel.release_starts("ann", m.now)
    assert not kernel.release_starts("ann", m.now)
    assert hold_of_starts(kernel) is None
    assert m.do() == ["a"]
    m.submit("b")
    (blocker,) = m.why("b").blockers
    assert blocker.detail == "No more than 1 run at once, held by ben: memory is short."
    assert blocker.remedies[-1].kind == "release_starts"
    kernel.limit(1)
    assert kernel.release_starts("ben", m.now)
    (blocker,) = m.why("b").blockers
    assert "The system has room for 1" in blocker.detail
    kernel.limit(4)
    assert m.do() == ["b"]


def test_dates_move_while_they_are_waited_for():
    """Sooner, later, at once, or never again; a deadline, too."""
    machine = in_situation(delayed)
    machine.change("t", "not_before", not_before=machine.now + 9 * SEC)
    machine.after(6 * SEC)
    assert machine.state("t") is S.PENDING
    machine.change("t", "not_before", not_before=machine.now + SEC)
    machine.after(SEC)
    assert machine.state("t") is S.RUNNING
    machine = in_situation(delayed)
    machine.change("t", "not_before")
    machine.after(0)
    assert machine.state("t") is S.RUNNING
    machine = in_situation(lambda m: m.submit("t", deadline=m.now + SEC))
    machine.change("t", "deadline")
    machine.after(9 * SEC)
    assert machine.extra("t").stop == ""
    machine.change("t", "deadline", deadline=machine.now - 1)
    assert machine.extra("t").stop == "deadline"
