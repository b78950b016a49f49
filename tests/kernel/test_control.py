"""Control from outside: each command in each situation that a task can be in."""

import attrs
import pytest
from tests.kernel.commands import ChangeOptions, apply
from tests.kernel.harness import AGING, SEC, Machine, Policies, S

from taskorch.errors import (
    InvalidTransitionError,
    UnknownCapabilityError,
    UnsatisfiableError,
)
from taskorch.events import (
    TaskCancelled,
    TaskFailed,
    TaskOptionsChanged,
    TaskReprioritised,
)
from taskorch.kernel import (
    PolicyFault,
    Spec,
    check_invariants,
    hold_of_starts,
    is_unresolvable,
    words_of_holds,
)
from taskorch.kernel._history import past_of
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
    machine.agent("a", "x", max_concurrency=1)
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
def test_priority_in_each_situation(situation):
    """The place of a task is moved wherever it is, unless it has ended."""
    machine = in_situation(situation)
    row = machine.row("t")
    answer = machine.kernel.set_priority(row, 3, machine.now)
    assert answer is not row.state.is_terminal
    if answer:
        assert row.key == row.submitted_ns - 3 * AGING
        assert machine.extra("t").priority == 3
        assert machine.told(TaskReprioritised) == [("t", 3, row.key)]
    check_invariants(machine.kernel)


@pytest.mark.parametrize("situation", TABLE, ids=lambda s: s.__name__)
def test_expire_in_each_situation(situation):
    """Only what is queued expires."""
    machine = in_situation(situation)
    before = machine.state("t")
    machine.now += SEC
    gone = machine.kernel.expire(SEC - 1, machine.now)
    assert [row.id for row in gone] == (["t"] if before is S.QUEUED else [])
    check_invariants(machine.kernel)
    if before is S.QUEUED:
        assert machine.told(TaskFailed)[-1][3:6] == (
            "TaskExpiredError",
            "it was queued for 1 s",
            "expired",
        )
        assert machine.expire(0) == []


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


# -- the StateMachine has a say ----------------------------------------------------

CONTROLS = [
    (running, "cancel", S.CANCELLED),
    (queued, "suspend", S.SUSPENDED),
    (running, "suspend", S.SUSPENDED),
    (suspended, "resume", S.QUEUED),
    (held, "resume", S.RUNNING),
    (undecided, "decide", S.FAILED),
]


@pytest.mark.parametrize(("situation", "name", "after"), CONTROLS)
def test_a_vetoed_control(situation, name, after):
    """The caller is told why, and nothing has changed."""
    policies = Policies()
    machine = Machine(policies=policies)
    machine.agent("a", "x", max_concurrency=1)
    situation(machine)
    row = machine.row("t")
    state, seq = row.state, machine.kernel.seq
    policies.watches = None
    policies.vetoes["t", after] = "the user says no"
    with pytest.raises(InvalidTransitionError, match="the user says no"):
        COMMANDS[name](machine.kernel, row, machine.now)
    policies.broken.add("state_machine")
    with pytest.raises(PolicyFault):
        COMMANDS[name](machine.kernel, row, machine.now)
    assert (row.state, machine.kernel.seq) == (state, seq)
    check_invariants(machine.kernel)


@pytest.mark.parametrize(
    ("verdict", "after"), [("retry", S.QUEUED), ("complete", S.COMPLETED)]
)
def test_a_vetoed_decision(verdict, after):
    """It stays held."""
    machine = Machine()
    undecided(machine)
    machine.policies.watches = None
    machine.policies.vetoes["t", after] = "no"
    with pytest.raises(InvalidTransitionError):
        machine.decide("t", verdict)
    assert machine.kinds("t") == ["decision"]


# -- cancel ------------------------------------------------------------------------


def test_cancel_tells_why():
    """The fact has the reason; a task that waits is cancelled at once."""
    machine = Machine()
    delayed(machine)
    machine.cancel("t")
    assert machine.told(TaskCancelled) == [("t", "called off")]
    assert machine.kernel.types["call"].cancelled == 1
    machine.after(9 * SEC)
    assert machine.kernel.delayed == 0


# -- priority ----------------------------------------------------------------------


def test_priority_by_a_key_of_the_users():
    """The queue is asked, as of the time of submission."""
    machine = Machine(concurrency=1)
    machine.policies.aging_ns = None
    machine.submit_all("runs", "t")
    machine.now += SEC
    machine.prioritise("t", 4)
    assert machine.row("t").key == (-4, SEC)
    machine.policies.broken.add("queue")
    with pytest.raises(PolicyFault):
        machine.prioritise("t", 5)
    assert machine.extra("t").priority == 4


# -- other options ---------------------------------------------------------------------


@pytest.mark.parametrize("situation", TABLE, ids=lambda s: s.__name__)
def test_other_options_in_each_situation(situation):
    """They are taken wherever a task is, unless it has ended; its state stays."""
    machine = in_situation(situation)
    row = machine.row("t")
    state, seq, alloc = row.state, machine.kernel.seq, row.alloc
    if state.is_terminal:
        with pytest.raises(InvalidTransitionError, match="do not matter"):
            machine.change("t", timeout_ns=SEC)
        assert machine.kernel.seq == seq
        return
    spec = Spec("task", ("x",), Resources(cpu=1).units, 7 * SEC, False)
    spec = attrs.evolve(spec, type=row.bucket.spec.type)
    machine.kernel.paused = True
    apply(machine.kernel, ChangeOptions("t", ("priority",), spec, 3), machine.now)
    assert (row.state, row.alloc) == (state, alloc)
    assert row.bucket.spec == spec
    assert row.key == row.submitted_ns - 3 * AGING
    assert machine.extra("t").priority == 3
    assert past_of(row)[-1][2] == "options changed: priority"
    told = machine.told(TaskOptionsChanged)[0]
    assert told[:3] == ("t", ("priority",), 3)
    assert told[4:8] == (("x",), (("cpu", 1_000_000),), 7 * SEC, False)
    check_invariants(machine.kernel)


def test_a_priority_that_was_not_named_stays():
    """Who moved a task since it was submitted has the last word."""
    machine = in_situation(queued)
    machine.prioritise("t", 5)
    machine.change("t", timeout_ns=SEC)
    assert machine.extra("t").priority == 5
    assert machine.row("t").key == machine.row("t").submitted_ns - 5 * AGING


def test_what_runs_misses_nothing():
    assert not is_unresolvable(in_situation(running).row("t"))


def test_without_a_priority_it_stays_without_one():
    machine = in_situation(queued)
    machine.change("t", timeout_ns=SEC)
    assert machine.row("t").key == machine.row("t").submitted_ns


def test_other_needs_let_it_start_elsewhere_at_once():
    """A queued task moves to the tasks that are like it now."""
    machine = in_situation(queued)
    assert machine.change("t", requires=None) == ["t"]
    assert machine.running() == ["runs", "t"]


def test_what_nobody_can_do_is_refused_whole():
    """Then nothing of it has changed."""
    machine = in_situation(queued)
    row = machine.row("t")
    spec, seq = row.bucket.spec, machine.kernel.seq
    with pytest.raises(UnknownCapabilityError):
        machine.change("t", "priority", requires=("nobody",), priority=3)
    with pytest.raises(UnsatisfiableError):
        machine.change("t", "priority", resources=Resources(cpu=99), priority=3)
    machine.policies.aging_ns = None
    machine.policies.broken.add("queue")
    with pytest.raises(PolicyFault):
        machine.change("t", "priority", timeout_ns=SEC, priority=3)
    assert (row.bucket.spec, row.extra, machine.kernel.seq) == (spec, None, seq)


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


@pytest.mark.parametrize("checkpoints", [1, 3])
def test_a_task_can_be_suspended_in_each_of_its_attempts(checkpoints):
    """What an attempt before was asked to do is over with that attempt."""
    machine = Machine()
    machine.submit("t")
    for number in range(1, checkpoints + 1):
        assert machine.kinds("t") == []
        machine.suspend("t")
        stop = machine.effects[-1]
        assert (type(stop).__name__, stop.attempt, stop.why) == (
            "StopAttempt",
            number,
            "suspend",
        )
        assert machine.kinds("t") == ["stopping"]
        machine.end("t", "stopped")
        assert machine.state("t") is S.SUSPENDED
        assert machine.resume("t") == ["t"]
    machine.end("t")
    assert machine.state("t") is S.COMPLETED


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
