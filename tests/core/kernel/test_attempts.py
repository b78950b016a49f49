"""The end of an attempt: results, failures, retries, and work that would not stop."""

import attrs
import pytest
from tests.core.kernel.harness import SEC, Machine, S

from taskorch.core.kernel import Again
from taskorch.core.kernel._history import past_of
from taskorch.events import (
    TaskOptionsChanged,
    TaskRetrying,
)
from taskorch.model import Resources


def past(machine, task_id):
    return [state for state, _, _ in past_of(machine.row(task_id))]


# -- failures ----------------------------------------------------------------------


def test_an_error_that_cannot_be_printed():
    """An exception whose `__str__` raises is described all the same."""

    class Rude(Exception):
        def __str__(self):
            raise RuntimeError

    machine = Machine()
    machine.submit("t")
    machine.end("t", "failed", error=Rude())
    assert machine.error("t")[0] == "Rude"


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


# -- lost workers ------------------------------------------------------------------


def held():
    machine = Machine()
    machine.submit("t", idempotent=False)
    machine.submit("child", after=["t"])
    machine.end("t", "lost")
    return machine


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


def returns(machine, name="t"):
    row = machine.row(name)
    goes = machine.kernel.yield_slot(row, row.attempt, machine.now, returned=True)
    machine.settle()
    return goes


def test_after_its_function_has_returned_an_attempt_neither_waits_nor_spends():
    machine = Machine()
    machine.submit("t")
    assert returns(machine)
    kernel, row, now = machine.kernel, machine.row("t"), machine.now
    assert not returns(machine)
    assert not kernel.yield_slot(row, 1, now)
    assert not kernel.spend(row, 1, (("tokens", 1),), now)


def test_an_attempt_whose_function_has_returned_is_not_held_where_it_stands():
    """There is nothing to hold: it has no slot, and completes once its value is kept."""
    machine = Machine(concurrency=1)
    machine.submit("t")
    assert returns(machine)
    kernel, row = machine.kernel, machine.row("t")
    assert kernel.suspend(row, machine.now, holdable=True)
    assert row.state is S.RUNNING
    machine.end("t")
    assert (row.state, kernel.running) == (S.COMPLETED, 0)


# -- what the retry handler chooses --------------------------------------------------


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
