"""The end of an attempt: results, failures, retries, and work that would not stop."""

from functools import partial

import attrs
import pytest
from tests.kernel.commands import DecideTask, EndAttempt
from tests.kernel.harness import SEC, Machine, Policies, S, Twin

from taskorch.errors import OutcomeUnknownError
from taskorch.events import (
    AttemptStopping,
    LateResultIgnored,
    TaskBlocked,
    TaskCompleted,
    TaskFailed,
    TaskOptionsChanged,
    TaskRetrying,
)
from taskorch.kernel import Again, ReturnSlot, StopAttempt, check_invariants
from taskorch.kernel._history import past_of
from taskorch.model import Resources

GRACE = 10 * SEC


def past(machine, task_id):
    return [state for state, _, _ in past_of(machine.row(task_id))]


# -- good ends ---------------------------------------------------------------------


def test_a_plain_completion():
    """Counts, history, samples and the record of the agent after a plain end."""
    machine = Machine()
    machine.submit("t")
    machine.now += 3 * SEC
    row = machine.row("t")
    assert machine.kernel.complete(row, 1, machine.now)
    assert machine.told(TaskCompleted) == [("t", 1, "local", 3 * SEC)]
    assert row.extra is None
    assert past_of(row) == [
        (S.QUEUED, SEC, ""),
        (S.RUNNING, SEC, "local"),
        (S.COMPLETED, 4 * SEC, ""),
    ]
    assert list(row.bucket.type_row.samples) == [(SEC, SEC, SEC, 4 * SEC)]
    done = machine.kernel.agents["local"].view.performance("call")
    assert (done.completed, done.failed, done.latency) == (1, 0, 3)


def test_moving_average_of_latency():
    """The newest attempt weighs a fifth."""
    machine = Machine()
    for name, seconds in (("a", 1), ("b", 2)):
        machine.submit(name)
        machine.now += seconds * SEC
        machine.end(name)
    record = machine.kernel.agents["local"].records["call"]
    assert record.performance().latency == pytest.approx(1.2)


# -- the fence ---------------------------------------------------------------------


def test_a_late_result_is_noted_and_ignored():
    """What is not from the current attempt changes nothing."""
    machine = Machine()
    machine.policies.delays["t"] = [5 * SEC]
    machine.submit("t")
    machine.fail("t")
    row = machine.row("t")
    assert not machine.kernel.complete(row, 1, machine.now)
    machine.after(5 * SEC)
    assert row.attempt == 2
    assert not machine.kernel.complete(row, 1, machine.now)
    assert not machine.kernel.end_attempt(row, 1, "failed", machine.now)
    machine.end("t")
    assert not machine.kernel.complete(row, 2, machine.now)
    assert row.state is S.COMPLETED
    assert machine.told(LateResultIgnored) == [
        ("t", 1, "completed"),
        ("t", 1, "completed"),
        ("t", 1, "failed"),
        ("t", 2, "completed"),
    ]


# -- failures ----------------------------------------------------------------------


def test_a_failure_for_good():
    """Without another attempt the task fails with the error as it was described."""
    machine = Machine()
    machine.submit("t")
    machine.end("t", "failed", error=KeyError("k"))
    assert machine.state("t") is S.FAILED
    assert machine.error("t") == ("KeyError", "'k'", "error")
    assert machine.row("t").ended_ns == machine.now
    assert machine.told(TaskFailed) == [
        ("t", 1, "local", "KeyError", "'k'", "error", "no more attempts", True)
    ]
    kernel = machine.kernel
    assert kernel.causes == {"error": 1}
    assert kernel.types["call"].failures == {"KeyError": 1}
    assert kernel.types["call"].failed == kernel.agents["local"].failed == 1
    assert kernel.retries_exhausted == 0


class Reading(Policies):
    """A retry handler that reads the error of the task that it is asked about."""

    def __init__(self):
        super().__init__()
        self.read = []

    def retry(self, row, error, cause, elapsed_ns, now):
        self.read.append((row.attempt, row.extra.error, cause))
        return super().retry(row, error, cause, elapsed_ns, now)


def test_the_retry_handler_sees_the_failure_that_it_is_asked_about():
    """In the task itself; and not the one before."""
    policies = Reading()
    machine = Machine(policies=policies)
    policies.delays["t"] = [0, 0]
    machine.submit("t", timeout_ns=SEC)
    machine.end("t", "failed", error=KeyError("k"))
    machine.end("t", "failed", error=ValueError("v"))
    machine.after(SEC)
    machine.end("t", "stopped")
    words = "attempt 3 ran longer than its timeout of 1 s"
    assert policies.read == [
        (1, ("KeyError", "'k'", "error"), "error"),
        (2, ("ValueError", "v", "error"), "error"),
        (3, ("TaskTimeoutError", words, "timeout"), "timeout"),
    ]


def test_an_error_that_cannot_be_printed():
    """An exception whose `__str__` raises is described all the same."""

    class Rude(Exception):
        def __str__(self):
            raise RuntimeError

    machine = Machine()
    machine.submit("t")
    machine.end("t", "failed", error=Rude())
    assert machine.error("t")[0] == "Rude"


def test_a_failure_without_an_error():
    """The driver may say no more than that it failed."""
    machine = Machine()
    machine.submit("t")
    machine.do(EndAttempt("t", 1, "failed"))
    assert machine.error("t") == ("", "", "error")


def test_retries():
    """A retry waits for its delay, and is charged; success after that is a recovery."""
    machine = Machine()
    machine.policies.delays["t"] = [2 * SEC, 0]
    machine.submit("t")
    machine.now += SEC
    assert machine.fail("t") == []
    assert machine.state("t") is S.RETRYING
    assert machine.extra("t").last_delay_ns == 2 * SEC
    assert not machine.kernel.quiescent()
    (blocker,) = machine.why("t").blockers
    assert (blocker.kind, blocker.until) == ("delay", 2)
    assert "Its next attempt" in blocker.detail
    machine.after(2 * SEC - 1)
    assert machine.state("t") is S.RETRYING
    assert machine.after(1) == ["t"]
    machine.now += SEC
    assert machine.fail("t") == ["t"]
    assert machine.extra("t").last_delay_ns == 0
    assert machine.policies.elapsed == [SEC, 4 * SEC]
    machine.end("t")
    assert past(machine, "t") == [
        *(S.QUEUED, S.RUNNING, S.RETRYING),
        *(S.QUEUED, S.RUNNING, S.RETRYING),
        *(S.QUEUED, S.RUNNING, S.COMPLETED),
    ]
    assert machine.told(TaskRetrying)[0] == (
        "t",
        1,
        "local",
        "ValueError",
        "it went wrong",
        "error",
        2 * SEC,
        True,
        "once more",
    )
    kernel = machine.kernel
    assert (kernel.retries_scheduled, kernel.retries_recovered) == (2, 1)
    assert machine.extra("t").last_delay_ns == 0


def test_a_failure_of_which_others_are_to_blame_is_not_charged():
    """It is told with their cause, and no agent is to blame."""
    machine = Machine()
    machine.submit("t")
    machine.policies.chosen["t"] = Again(
        retry=True, reason="so", kind="memory_error", blameless="undersized"
    )
    assert machine.fail("t") == ["t"]
    (told,) = machine.told(TaskRetrying)
    assert told[-6:] == ("undersized", 0, False, "so", (), "memory_error")
    assert machine.extra("t").charged == machine.kernel.retries_scheduled == 0
    assert not machine.row("t").extra.failed_on
    machine.fail("t")
    assert machine.state("t") is S.FAILED


# -- lost workers ------------------------------------------------------------------


def test_what_there_is_no_room_for_steps_aside_and_is_not_charged():
    """However often: it is no fault of the task's, and others go first meanwhile."""
    machine = Machine(concurrency=1)
    machine.submit("t", idempotent=False)
    machine.submit("other")
    for number in range(1, 6):
        assert machine.row("t").attempt == number
        started = machine.end("t", "unstarted")
        assert started == (["other"] if number == 1 else [])
        assert machine.state("t") is S.RETRYING
        if number == 1:
            machine.end("other")
        assert machine.after(SEC) == ["t"]
    assert machine.extra("t").charged == machine.extra("t").crashes == 0
    assert {fact[5:8:2] for fact in machine.told(TaskRetrying)} == {
        ("unstarted", False)
    }
    machine.end("t")
    assert machine.state("t") is S.COMPLETED


def held():
    machine = Machine()
    machine.submit("t", idempotent=False)
    machine.submit("child", after=["t"])
    machine.end("t", "lost")
    return machine


def test_decided_to_complete():
    """A person knows that it is done."""
    machine = held()
    assert machine.decide("t", "complete") == ["child"]
    assert machine.state("t") is S.COMPLETED
    assert machine.told(TaskCompleted) == [("t", 1, "local", 0, "decision")]
    assert not machine.row("t").bucket.type_row.samples


# -- stopping ----------------------------------------------------------------------


def test_cancel_waits_for_the_end():
    """A running task is CANCELLED when its work has ended, however it ended."""
    for outcome in ("completed", "failed", "stopped", "lost"):
        machine = Machine(concurrency=1)
        machine.submit_all("t", "u")
        machine.cancel("t")
        assert machine.state("t") is S.RUNNING
        assert machine.kinds("t") == ["stopping"]
        assert machine.told(AttemptStopping)[-1][2] == "cancel"
        assert machine.end("t", outcome) == ["u"]
        assert machine.state("t") is S.CANCELLED
        assert machine.extra("t").stop_reason == "called off"


def test_a_timed_out_attempt_leaks_while_the_next_one_runs():
    """The books hold both: the attempt that would not stop, and its successor."""
    machine = Machine(pools=Resources(cpu=2))
    machine.policies.delays["t"] = [0]
    machine.submit("t", timeout_ns=SEC, resources=Resources(cpu=1))
    assert machine.after(SEC + GRACE) == ["t"]
    assert machine.kernel.running == 2
    assert machine.kernel.pools["cpu"].used == 2_000_000
    machine.kernel.yield_slot(machine.row("t"), 2, machine.now)
    machine.settle()
    assert machine.kernel.running == 1
    machine.end("t", attempt=1)
    machine.end("t")
    assert machine.state("t") is S.COMPLETED
    assert machine.policies.elapsed == [SEC + GRACE]


@pytest.mark.parametrize("delay", [0, 5 * SEC])
@pytest.mark.parametrize("outcome", ["failed", "lost"])
def test_it_fails_before_it_is_suspended(outcome, delay):
    """A request to suspend outlives the attempt: the next one waits for `resume`."""
    machine = Machine()
    machine.policies.delays["t"] = [delay]
    machine.submit("t")
    machine.suspend("t")
    assert machine.end("t", outcome) == []
    assert machine.state("t") is S.SUSPENDED
    waits = delay and outcome == "failed"
    assert machine.resume("t") == ([] if waits else ["t"])
    assert machine.after(delay) == (["t"] if waits else [])


# -- programs that are stopped where they stand ------------------------------------


def test_a_held_program_keeps_what_it_holds():
    """SIGSTOP: the same attempt, its slot and resources kept, its timeout stopped."""
    machine = Machine(concurrency=1, pools=Resources(cpu=1))
    machine.submit("t", timeout_ns=3 * SEC, resources=Resources(cpu=1))
    machine.now += SEC
    machine.suspend("t", holdable=True)
    assert machine.state("t") is S.SUSPENDED
    assert machine.kernel.running == 1
    assert machine.kernel.quiescent()
    machine.after(100 * SEC)
    assert machine.kernel.resume(machine.row("t"), machine.now)
    assert machine.row("t").attempt == 1
    machine.after(2 * SEC - 1)
    assert machine.effect_names() == ["HoldAttempt", "ReleaseAttempt"]
    machine.after(1)
    assert machine.effect_names()[-1] == "StopAttempt"
    machine.end("t", "stopped")
    assert machine.error("t")[2] == "timeout"


@pytest.mark.parametrize(
    ("outcome", "state"),
    [("completed", S.COMPLETED), ("failed", S.FAILED), ("lost", S.SUSPENDED)],
)
def test_a_held_program_ends_all_the_same(outcome, state):
    """It had ended just before it was stopped, or was killed: that counts."""
    machine = Machine(concurrency=1)
    machine.submit_all("t", "u")
    machine.suspend("t", holdable=True)
    assert machine.end("t", outcome) == ["u"]
    assert machine.state("t") is state


@pytest.mark.parametrize("how", ["cancel", "deadline"])
def test_a_held_program_is_continued_to_be_stopped(how):
    """It must be continued to see that it is to end."""
    machine = Machine()
    machine.submit("t", deadline=machine.now + 5 * SEC)
    machine.suspend("t", holdable=True)
    if how == "cancel":
        machine.cancel("t")
    else:
        machine.after(5 * SEC)
    assert machine.effect_names() == ["HoldAttempt", "ReleaseAttempt", "StopAttempt"]
    machine.end("t", "stopped")
    assert machine.state("t") is (S.CANCELLED if how == "cancel" else S.FAILED)


# -- waiting inside a task ---------------------------------------------------------


def test_a_slot_that_is_free_is_taken_at_once():
    """If there is room, the attempt goes on without an effect."""
    machine = Machine(concurrency=1)
    machine.submit("t")
    kernel, t = machine.kernel, machine.row("t")
    assert kernel.reclaim_slot(t, 1, machine.now)
    kernel.yield_slot(t, 1, machine.now)
    assert kernel.reclaim_slot(t, 1, machine.now)
    assert kernel.effects == []
    assert kernel.running == 1


def test_who_waits_for_a_slot_is_told_although_another_asks_and_has_its_own():
    """The one that asks has its answer; the other has waited for an effect."""
    machine = Machine(concurrency=2)
    machine.submit_all("first", "second")
    kernel, now = machine.kernel, machine.now
    first, second = machine.row("first"), machine.row("second")
    for row in (first, second):
        kernel.yield_slot(row, 1, now)
    assert machine.submit_all("third", "fourth") == ["third", "fourth"]
    assert not kernel.reclaim_slot(first, 1, now)
    for name in ("third", "fourth"):
        # Both slots are free, and nothing was dispatched yet.
        kernel.complete(machine.row(name), 1, now)
    assert kernel.reclaim_slot(second, 1, now)
    assert [effect.row.id for effect in kernel.effects] == ["first"]


def returns(machine, name="t"):
    row = machine.row(name)
    goes = machine.kernel.yield_slot(row, row.attempt, machine.now, returned=True)
    machine.settle()
    return goes


def test_an_attempt_whose_function_has_returned_holds_nothing():
    """Its time is over with it, and its task completes once its value is kept."""
    machine = Machine(concurrency=1, pools=Resources(cpu=1))
    cpu = Resources(cpu=1)
    machine.submit("t", resources=cpu, timeout_ns=SEC, deadline=machine.now + SEC)
    machine.submit("u", resources=cpu)
    machine.after(SEC // 2)
    assert returns(machine)
    assert machine.running() == ["t", "u"]
    assert machine.kinds("t") == ["store"]
    machine.after(SEC + GRACE)
    assert machine.state("t") is S.RUNNING
    machine.end("u")
    machine.end("t")
    assert machine.state("t") is S.COMPLETED
    # The time for which the value was on its way is no part of its latency.
    (fields,) = [told for told in machine.told(TaskCompleted) if told[0] == "t"]
    assert fields[3] == SEC // 2
    assert machine.kernel.running == 0
    assert machine.kernel.pools["cpu"].used == 0


def test_an_attempt_that_is_to_stop_ends_at_once():
    machine = Machine()
    machine.submit("t")
    machine.cancel("t")
    assert not returns(machine)


def test_after_its_function_has_returned_an_attempt_neither_waits_nor_spends():
    machine = Machine()
    machine.submit("t")
    assert returns(machine)
    kernel, row, now = machine.kernel, machine.row("t"), machine.now
    assert not returns(machine)
    assert not kernel.yield_slot(row, 1, now)
    assert not kernel.spend(row, 1, (("tokens", 1),), now)


def test_a_task_is_cancelled_at_once_while_its_value_is_on_its_way():
    machine = Machine()
    machine.submit("t")
    assert returns(machine)
    machine.cancel("t")
    assert machine.state("t") is S.CANCELLED
    machine.end("t")
    assert machine.state("t") is S.CANCELLED


def test_slots_are_returned_in_order_and_by_agent():
    """One whose agent is full does not hold up another; among equals, first come."""
    machine = Machine(concurrency=3)
    machine.agent("a", "x", max_concurrency=1)
    machine.submit_all("x1", "x2", requires=("x",))
    machine.submit_all("p1", "p2")
    kernel = machine.kernel
    for name in ("x1", "p1", "p2"):
        kernel.yield_slot(machine.row(name), 1, machine.now)
    assert machine.submit_all("q1", "q2") == ["x2", "q1", "q2"]
    assert machine.running() == ["x1", "x2", "p1", "p2", "q1", "q2"]
    for name in ("x1", "p1", "p2"):
        assert not kernel.reclaim_slot(machine.row(name), 1, machine.now)
    machine.end("q1")
    machine.end("q2")
    assert [e.row.id for e in machine.effects] == ["p1", "p2"]
    machine.end("x2")
    assert [e.row.id for e in machine.effects] == ["p1", "p2", "x1"]


def test_an_attempt_that_ends_while_it_waits_for_a_slot():
    """It is stopped meanwhile: nobody keeps a slot for it."""
    machine = Machine(concurrency=1)
    machine.submit_all("t", "u")
    kernel, t = machine.kernel, machine.row("t")
    kernel.yield_slot(t, 1, machine.now)
    machine.settle()
    kernel.reclaim_slot(t, 1, machine.now)
    machine.cancel("t")
    machine.end("t", "stopped")
    machine.submit("v")
    assert machine.end("u") == ["v"]
    assert list(kernel.returning) == []
    assert machine.effect_names() == ["StopAttempt"]


def test_yield_of_an_old_attempt():
    """What is not the current attempt neither gives nor takes a slot."""
    machine = Machine()
    machine.submit("t")
    kernel, t = machine.kernel, machine.row("t")
    assert not kernel.yield_slot(t, 2, machine.now)
    machine.end("t")
    assert not kernel.yield_slot(t, 1, machine.now)
    assert kernel.reclaim_slot(t, 1, machine.now)


@pytest.mark.parametrize("name", ["a", "b", "c"])
def test_why_this_agent_is_said_of_each(name):
    """Whether the router was asked, or its answer kept."""
    machine = Machine()
    machine.submit_all("a", "b", "c")
    assert machine.row(name).reason == "first of 1"


def test_who_has_its_slot_at_once_is_told_nothing_and_nothing_else_is_lost():
    """Another attempt is told that it has its own, and this one still that it is to stop."""
    machine = Machine(concurrency=2)
    kernel, now = machine.kernel, machine.now
    machine.submit_all("a", "b")
    a, b = machine.row("a"), machine.row("b")
    for row in (a, b):
        kernel.yield_slot(row, 1, now)
    machine.submit_all("c", "d")
    assert not kernel.reclaim_slot(b, 1, now)
    kernel.complete(machine.row("c"), 1, now)
    kernel.complete(machine.row("d"), 1, now)
    kernel.cancel(a, now, "called off")
    assert kernel.reclaim_slot(a, 1, now)
    told = [(type(effect), effect.row) for effect in kernel.effects]
    assert told == [(StopAttempt, a), (ReturnSlot, b)]


def test_an_attempt_may_say_why_nobody_knows_what_it_has_done():
    """By the class of its error; what any other says is beside the reason."""
    machine = Machine()
    machine.submit("t", idempotent=False)
    machine.end("t", "lost", error=OutcomeUnknownError("the bank is silent"))
    ((_, _, _, reason, *_),) = machine.told(TaskBlocked)
    assert reason == "the bank is silent, and it is not safe to run twice: decide()"


def test_an_attempt_says_whether_it_may_be_made_again():
    """From then on, in this life and the next; one that is over says nothing."""
    machine = Twin()
    machine.submit_all("t", "u")
    row = machine.row("t")
    allow = partial(machine.kernel.allow_repeat, row, now=machine.now)
    assert not allow(1, allowed=True, reason="as it is")
    assert not allow(2, allowed=False, reason="no such attempt")
    assert allow(1, allowed=False, reason="it pays")
    assert "idempotent (it pays)" in past_of(row)[-1][2]
    machine.mirror()
    machine.restart()
    assert machine.states("t", "u") == [S.BLOCKED, S.QUEUED]
    machine.decide("t", "retry")
    machine.reopen()
    row = machine.row("t")
    allow = partial(machine.kernel.allow_repeat, row, now=machine.now)
    assert allow(2, allowed=True, reason="it only asks")
    machine.restart()
    assert machine.states("t", "u") == [S.QUEUED, S.QUEUED]
    assert not machine.kernel.allow_repeat(
        machine.row("t"), 2, machine.now, allowed=False, reason="it does not run"
    )


def test_a_failure_that_is_told_after_a_restart_says_nothing_of_how_long_it_took():
    machine = Machine()
    machine.agent("far", "y")
    machine.submit("t", requires=("y",))
    machine.reopen()
    machine.restart()
    gone = OutcomeUnknownError("it broke")
    described = ("RuntimeError", "it broke")
    machine.kernel.fail_late(machine.row("t"), gone, machine.now, described)
    assert machine.states("t") == [S.FAILED]
    assert not any(row.failing for row in machine.kernel.types.values())


def test_what_was_gone_before_it_began_runs_by_decision():
    """It was queued, and waits for nothing else."""
    machine = Machine()
    machine.kernel.pause()
    machine.submit("t")
    machine.kernel.miss(machine.row("t"), "no such function", machine.now)
    machine.kernel.unpause()
    assert machine.settle() == []
    assert machine.state("t") is S.BLOCKED
    assert machine.decide("t", "retry") == ["t"]


# -- what the retry handler chooses --------------------------------------------------


def test_the_next_attempt_may_be_like_another():
    """More of what it was short of, more time, and another agent."""
    machine = Machine(pools=Resources(cpu=4))
    for name in ("near", "far"):
        machine.agent(name, "x")
    machine.submit("t", requires=("x",), resources=Resources(cpu=1))
    first = machine.row("t").agent.name
    spec = attrs.evolve(
        machine.row("t").bucket.spec,
        resources=Resources(cpu=2).units,
        timeout_ns=SEC,
        avoid=(first,),
    )
    machine.policies.chosen["t"] = Again(
        retry=True, reason="it was short", kind="memory_error", spec=spec, cargo="new"
    )
    assert machine.fail("t") == ["t"]
    row = machine.row("t")
    assert row.alloc == Resources(cpu=2).units
    assert row.agent.name != first
    assert machine.extra("t").limit_ns == SEC
    assert machine.extra("t").failure_class == "memory_error"
    assert machine.policies.changes == [("t", "new")]
    (told,) = machine.told(TaskOptionsChanged)
    assert told[1] == ("resources", "timeout", "avoid")
    assert told[-2:] == ((first,), "it was short")


def test_an_agent_is_avoided_as_long_as_there_is_another():
    """If all that there are were to be avoided, nothing would be left to do it."""
    machine = Machine()
    machine.agent("near", "x")
    machine.submit("t", requires=("x",))
    spec = attrs.evolve(machine.row("t").bucket.spec, avoid=("near",))
    machine.policies.chosen["t"] = Again(retry=True, spec=spec)
    assert machine.fail("t") == ["t"]
    assert machine.row("t").agent.name == "near"
    machine.policies.chosen["t"] = Again(retry=True, spec=spec)
    assert machine.fail("t") == ["t"]
    (told,) = machine.told(TaskOptionsChanged)
    assert told[-1] == "the retry handler chose them"


@pytest.mark.parametrize("reason", ["more", ""])
def test_more_than_there_is_changes_nothing(reason):
    """It is tried again as it was, and that is said."""
    machine = Machine(pools=Resources(cpu=4))
    machine.submit("t", resources=Resources(cpu=1))
    spec = attrs.evolve(machine.row("t").bucket.spec, resources=Resources(cpu=8).units)
    machine.policies.chosen["t"] = Again(retry=True, reason=reason, spec=spec)
    assert machine.fail("t") == ["t"]
    assert machine.row("t").alloc == Resources(cpu=1).units
    (told,) = machine.told(TaskRetrying)
    words = "it keeps what it had, since no worker that can do it has more cpu than 4"
    assert told[8] == (f"{reason}; {words}" if reason else words)
    assert machine.told(TaskOptionsChanged) == []


def test_a_person_is_asked():
    """The task is held, what waits for it waits on, and the attempt is charged."""
    machine = Machine()
    machine.submit("t")
    machine.submit("below", after=["t"])
    machine.policies.chosen["t"] = Again(
        retry=False, reason="no rule", kind="logic_error", ask="What now?"
    )
    machine.end("t", "failed", error=KeyError("k"), usage=Resources(memory_mb=9).units)
    assert machine.state("t") is S.BLOCKED
    assert machine.state("below") is S.PENDING
    assert machine.error("t") == ("KeyError", "'k'", "asked")
    assert machine.extra("t").charged == 1
    assert machine.kernel.agents["local"].failed == 1
    (told,) = machine.told(TaskRetrying)
    assert told[-2:] == (Resources(memory_mb=9).units, "logic_error")
    assert machine.why("t").blockers[0].detail.count("What now?") == 1
    machine.do(DecideTask("t", "retry"))
    machine.end("t")
    assert machine.state("below") is S.RUNNING


@pytest.mark.parametrize("how", ["retry", "fail", "complete", "cancel"])
def test_people_are_asked_about_what_is_held_for_them_and_nothing_else(how):
    machine = Machine()
    machine.submit("t")
    machine.submit("q", wait=("answer to go?", None, False))
    machine.submit("e", wait=("go", None, False))
    machine.policies.chosen["t"] = Again(retry=False, ask="What now?")
    machine.fail("t")
    held, asked = machine.row("t"), machine.row("q")
    assert list(machine.kernel.asked) == [asked, held]
    # What is put aside is asked about again when it is taken up.
    machine.suspend("q")
    assert list(machine.kernel.asked) == [asked, held]
    if how == "cancel":
        machine.cancel("t")
    else:
        machine.kernel.decide(held, how, machine.now)
    assert list(machine.kernel.asked) == [asked]
    check_invariants(machine.kernel)
    machine.cancel("q")
    assert not machine.kernel.asked
    check_invariants(machine.kernel)


def test_each_failure_counts_as_a_try():
    machine = Twin()
    machine.policies.delays["t"] = [0, 0]
    machine.submit("t")
    machine.fail("t")
    machine.fail("t")
    assert machine.extra("t").charged == 2
