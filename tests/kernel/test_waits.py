"""Waits for what comes from outside: events, time, and a person's word."""

from contextlib import suppress
from functools import partial

import pytest
from hypothesis import given, strategies as st
from tests.kernel.harness import SEC, S, Twin

from taskorch.errors import InvalidTransitionError
from taskorch.events import (
    EventEmitted,
    TaskBlocked,
    TaskCompleted,
    TaskDue,
    TaskSubmitted,
    make,
)
from taskorch.kernel import Restoration, check_invariants, take_snapshot
from taskorch.kernel._dependencies import awaits
from taskorch.kernel._history import past_of
from taskorch.model import TERMINAL

GO = ("go", None, False)
FIVE = ("go", 5 * SEC, False)
ELSE = ("go", 5 * SEC, True)
TIMER = (None, 5 * SEC, True)


def waiting(wait=GO, **options):
    """A task that waits, and one that depends on it."""
    machine = Twin()
    machine.submit("t", wait=wait, **options)
    machine.submit("u", after=["t"])
    return machine


def handed(machine):
    """What is handed over from now on."""
    found = []
    machine.kernel.hand_over = lambda cargo, event: found.append((cargo, event))
    return found


# -- events ------------------------------------------------------------------------


def test_an_event_lets_go_all_who_wait_for_it():
    """With what came; nothing runs for it, and nobody is charged."""
    machine = waiting(cargo="mine")
    machine.submit("v", wait=GO, cargo="yours")
    machine.submit("w", wait=("stop", None, False))
    found = handed(machine)
    assert machine.states("t", "u", "v") == [S.BLOCKED, S.PENDING, S.BLOCKED]
    assert machine.kernel.quiescent()
    assert machine.emit("go", "payload") == ["u"]
    assert found == [("mine", "payload"), ("yours", "payload")]
    assert machine.states("t", "v", "w") == [S.COMPLETED, S.COMPLETED, S.BLOCKED]
    assert machine.told(EventEmitted) == [("go", 2)]
    assert machine.told(TaskCompleted)[0] == ("t", 0, "", 0, "event", "go came")
    told = ("t", (), (), "it waits for go", "event")
    assert machine.told(TaskBlocked)[0] == told
    assert [(state, why) for state, _, why in past_of(machine.row("t"))] == [
        (S.PENDING, ""),
        (S.BLOCKED, "it waits for go"),
        (S.COMPLETED, "go came"),
    ]
    assert machine.kernel.awaited == {"stop": {machine.row("w"): None}}


def test_the_fact_of_a_submission_says_what_it_waits_for():
    """A fold needs it."""
    machine = waiting(ELSE)
    fact = next(fact for fact, _ in machine.sink if fact[0] is TaskSubmitted)
    assert make(fact).wait == ("go", 5 * SEC, True)


def test_an_event_that_nobody_waits_for_is_kept():
    """For those who come in time, all of them; then it is forgotten."""
    machine = Twin()
    found = handed(machine)
    machine.emit("go", "early", keep=5 * SEC)
    machine.submit("t", wait=GO)
    machine.after(5 * SEC - 1)
    machine.submit("u", wait=GO)
    assert machine.states("t", "u") == [S.COMPLETED] * 2
    assert [event for _, event in found] == ["early", "early"]
    machine.after(1)
    assert machine.kernel.retained == {}
    machine.submit("v", wait=GO)
    assert machine.state("v") is S.BLOCKED
    machine.emit("go", "later", keep=5 * SEC)
    assert machine.state("v") is S.COMPLETED
    assert machine.kernel.retained == {}


def test_the_latest_of_one_name_counts():
    """One that is not kept changes nothing about the one that is."""
    machine = Twin()
    found = handed(machine)
    machine.emit("go", 1, keep=9 * SEC)
    machine.emit("go", 2, keep=5 * SEC)
    machine.emit("go", 3)
    machine.submit("t", wait=GO)
    assert found == [(None, 2)]
    machine.after(6 * SEC)
    machine.submit("u", wait=GO)
    assert machine.state("u") is S.BLOCKED


# -- time --------------------------------------------------------------------------


def test_a_wait_that_takes_too_long_fails():
    """Its time counts from when it begins to wait, and is a delay for `quiescent`."""
    machine = Twin()
    machine.submit("a")
    machine.submit("t", after=["a"], wait=FIVE)
    machine.after(9 * SEC)
    machine.end("a")
    assert not machine.kernel.quiescent()
    machine.after(5 * SEC - 1)
    assert machine.state("t") is S.BLOCKED
    machine.after(1)
    assert machine.error("t") == (
        "TaskTimeoutError",
        "go did not come within 5 s",
        "timeout",
    )
    assert machine.told(TaskDue) == [("t",)]
    assert machine.kernel.quiescent()
    assert machine.kernel.awaited == {}


@pytest.mark.parametrize("wait", [ELSE, TIMER])
def test_a_wait_with_a_default_completes(wait):
    """With that; a wait for no event is a timer."""
    machine = waiting(wait, cargo="mine")
    found = handed(machine)
    assert machine.after(5 * SEC) == ["u"]
    assert found == [("mine", None)]
    told = ("t", 0, "", 0, "timeout", "its time is over")
    assert machine.told(TaskCompleted) == [told]


@pytest.mark.parametrize("wait", [("go", 0, True), ("go", 0, False), (None, 0, True)])
def test_no_time_at_all(wait):
    """It is over at once, unless its event is there already."""
    machine = waiting(wait)
    assert machine.state("t") is (S.COMPLETED if wait[2] else S.FAILED)
    machine.emit("go", keep=SEC)
    machine.submit("v", wait=wait)
    assert machine.state("v") is (machine.state("t") if not wait[0] else S.COMPLETED)


# -- control -----------------------------------------------------------------------


@pytest.mark.parametrize("wait", [GO, FIVE])
def test_an_event_is_heard_while_it_is_suspended(wait):
    """It would be lost otherwise."""
    machine = waiting(wait)
    machine.suspend("t")
    assert machine.emit("go") == ["u"]
    assert machine.state("t") is S.COMPLETED
    machine.after(9 * SEC)


@pytest.mark.parametrize("wait", [GO, FIVE])
def test_it_is_suspended_before_it_begins_to_wait(wait):
    """It begins when it is resumed."""
    machine = Twin()
    machine.submit("a")
    machine.submit("t", after=["a"], wait=wait)
    machine.suspend("t")
    machine.end("a")
    machine.emit("go")
    machine.resume("t")
    assert machine.state("t") is S.BLOCKED
    machine.suspend("t")
    machine.resume("t")
    machine.emit("go")
    assert machine.state("t") is S.COMPLETED


@pytest.mark.parametrize("wait", [GO, ELSE, TIMER])
def test_a_person_decides(wait):
    """With a reason, which stands in the history; it cannot be run."""
    machine = waiting(wait)
    with pytest.raises(InvalidTransitionError, match="does not run") as caught:
        machine.decide("t", "retry")
    assert "emit" in caught.value.hint
    assert machine.decide("t", "complete", "ada said so") == ["u"]
    assert past_of(machine.row("t"))[-1][2] == "ada said so"
    told = ("t", 0, "", 0, "decision", "ada said so")
    assert machine.told(TaskCompleted) == [told]
    other = waiting(wait)
    other.decide("t", "fail", "bob said no")
    assert other.error("t") == (
        "TaskFailedError",
        "failed by decision: bob said no",
        "decision",
    )
    assert other.state("u") is S.BLOCKED
    other.after(9 * SEC)


@pytest.mark.parametrize("wait", [GO, FIVE])
@pytest.mark.parametrize("suspended", [True, False])
def test_it_is_cancelled(wait, suspended):
    """It waits for nothing any more."""
    machine = waiting(wait)
    if suspended:
        machine.suspend("t")
    machine.cancel("t")
    assert machine.kernel.awaited == {}
    assert not awaits(machine.row("t"))
    machine.emit("go")
    machine.after(9 * SEC)
    assert machine.state("t") is S.CANCELLED


def test_a_deadline_ends_it():
    """As it ends any other task."""
    machine = waiting(GO, deadline=SEC * 3)
    machine.after(4 * SEC)
    assert machine.error("t")[2] == "deadline"
    assert machine.kernel.awaited == {}


def test_a_queue_that_lets_tasks_expire():
    """A wait is never queued."""
    machine = Twin()
    machine.policies.admits_all = False
    machine.policies.admits = lambda row: (None, SEC)
    machine.submit("t", wait=GO)
    machine.after(9 * SEC)
    assert machine.state("t") is S.BLOCKED


def test_a_rerun_waits_again():
    """And what depended on the one that failed."""
    machine = waiting(FIVE)
    machine.after(5 * SEC)
    assert machine.state("u") is S.BLOCKED
    again = machine.rerun("t")
    assert machine.state(again) is S.BLOCKED
    assert machine.emit("go") == ["u"]


# -- other lives -------------------------------------------------------------------


def test_a_new_life_goes_on_waiting():
    """For the rest of the time; what was kept is kept, and what is over is over."""
    machine = waiting(FIVE)
    machine.submit("v", wait=ELSE)
    machine.after(2 * SEC)
    machine.emit("stop", "early", keep=60 * SEC)
    machine.emit("gone", "early", keep=SEC)
    machine.restart()
    found = handed(machine)
    assert machine.states("t", "v") == [S.BLOCKED] * 2
    machine.now += 3 * SEC
    machine.settle()
    assert machine.states("t", "v") == [S.FAILED, S.COMPLETED]
    machine.submit("w", wait=("stop", None, False))
    machine.submit("x", wait=("gone", None, False))
    assert machine.states("w", "x") == [S.COMPLETED, S.BLOCKED]
    assert [event for _, event in found] == [None, "early"]


def test_a_snapshot_knows_what_is_kept():
    """By the numbers of the facts, with which the documents are."""
    machine = waiting(FIVE)
    machine.emit("stop", "early", keep=60 * SEC)
    state = take_snapshot(machine.kernel, machine.now)
    (number,) = state["events"]
    kernel = machine.folded(0)
    restoration = Restoration(kernel, state)
    assert restoration.events == [number]
    for fact, cargo in machine.sink:
        if fact[1] == number or (len(fact) > 3 and fact[3] in restoration.ids):
            restoration.fold(fact, cargo)
    restoration.finish()
    check_invariants(kernel)
    assert kernel.retained["stop"].cargo == "early"
    assert [row.id for row in kernel.awaited["go"]] == ["t"]


# -- many --------------------------------------------------------------------------

#: What is done with a few waits, at random.
STEPS = st.one_of(
    st.builds(
        lambda n, keep: partial(Twin.emit, name=n, keep=keep),
        st.sampled_from(["a", "b"]),
        st.sampled_from([0, SEC, 9 * SEC]),
    ),
    st.builds(lambda ns: lambda m: m.after(ns), st.sampled_from([1, SEC, 4 * SEC])),
    st.builds(lambda n: lambda m: touch(m, Twin.suspend, n), st.integers(0, 9)),
    st.builds(lambda n: lambda m: touch(m, Twin.resume, n), st.integers(0, 9)),
    st.builds(lambda n: lambda m: touch(m, Twin.cancel, n), st.integers(0, 9)),
    st.just(lambda m: m.restart() or m.reopen()),
    st.builds(
        lambda *wait: (
            lambda m: m.submit(
                f"t{len(m.kernel.tasks)}", wait=wait, after=list(m.kernel.tasks)[-1:]
            )
        ),
        st.sampled_from(["a", "b"]),
        st.sampled_from([None, 0, SEC, 5 * SEC]),
        st.booleans(),
    ),
)


def touch(machine, act, number):
    names = [
        row.id for row in machine.kernel.tasks.values() if row.state not in TERMINAL
    ]
    if names:
        with suppress(InvalidTransitionError):
            act(machine, names[number % len(names)])


@given(st.lists(STEPS, max_size=25))
def test_events_and_time_in_any_order(steps):
    """Whatever happens: who waits is known, nobody waits for what is kept."""
    machine = Twin()
    for step in steps:
        step(machine)
        kernel = machine.kernel
        waits = {
            row.links.terms.wait[0]
            for row in kernel.tasks.values()
            if row.links and row.links.terms and row.links.terms.awaits
        }
        assert set(kernel.awaited) == waits
        kept = [
            name
            for name, each in kernel.retained.items()
            if each.until_ns > machine.now
        ]
        assert not set(kept) & waits


def test_a_rerun_that_ends_at_once():
    """What depended on the first run goes on, or follows its own rule."""
    machine = Twin()
    machine.submit("t", wait=FIVE)
    machine.submit("u", after=["t"])
    machine.submit("a")
    machine.submit("v", after=["t", "a"], join="any", on_failure="fail")
    machine.after(5 * SEC)
    machine.emit("go", keep=SEC)
    machine.rerun("t")
    assert machine.states("t~2", "u", "v") == [S.COMPLETED, S.RUNNING, S.RUNNING]
    machine.fail("a")
    machine.submit("b", after=["a"], on_failure="skip")
    machine.submit("c")
    machine.submit("w", after=["b", "c"], join="any", on_failure="fail")
    machine.rerun("b")
    assert machine.states("b~2", "w") == [S.CANCELLED, S.PENDING]
    machine.fail("c")
    assert machine.error("w")[2] == "dependency"
