"""What whoever drives the kernel says of itself: no event tells of it."""

import pytest
from tests.core.kernel.harness import SEC, Machine, S

from taskorch.events import TaskCompleted


def test_nothing_starts_between_pause_and_unpause():
    machine = Machine()
    before = machine.names()
    machine.kernel.pause()
    assert machine.submit("t") == []
    machine.kernel.unpause()
    assert machine.settle() == ["t"]
    machine.kernel.pause()
    assert machine.names() == [*before, "TaskSubmitted", "TaskStarted"]
    assert machine.end("t") == []


@pytest.mark.parametrize(("slots", "allowed"), [(1, 1), (2, 2), (3, 2), (9, 2), (0, 0)])
def test_no_more_run_than_there_is_room_for(slots, allowed):
    """Nor than the configuration says."""
    machine = Machine(concurrency=2)
    machine.kernel.limit(slots)
    machine.submit_all("a", "b", "c")
    assert len(machine.running()) == machine.kernel.concurrency == allowed


def test_an_event_of_the_drivers_own_has_the_next_number():
    """It goes to nobody who listens: the driver has it."""
    machine = Machine()
    seq, told = machine.kernel.seq, len(machine.sink)
    event = machine.kernel.own_event(TaskCompleted, 7, "t", 1, "local", 3)
    assert event == TaskCompleted(seq + 1, 7, "t", 1, "local", 3)
    assert machine.kernel.seq == seq + 1
    assert len(machine.sink) == told
    machine.submit("t")
    assert machine.sink[told][0][1] == seq + 2


def test_what_has_left_memory_is_remembered_and_forgotten():
    machine = Machine()
    machine.kernel.remember_ended({"old": S.FAILED, "older": S.COMPLETED})
    view = machine.kernel.context.view
    assert [view.state_of(name) for name in ("old", "older")] == [S.FAILED, S.COMPLETED]
    machine.kernel.forget_ended()
    assert view.state_of("old") is None


def test_finished_tasks_stay_until_the_driver_says():
    machine = Machine(keep_finished=0)
    machine.kernel.keep_finished()
    machine.submit_all("a", "b")
    machine.end("a")
    machine.end("b")
    assert list(machine.kernel.tasks) == ["a", "b"]
    machine.kernel.evict()
    assert list(machine.kernel.tasks) == ["b"]
    assert dict(machine.kernel.evicted.items()) == {"a": S.COMPLETED}


def test_a_driver_that_has_failed_starts_nothing_and_fails_all():
    """Without an event; and nothing is expected of the kernel after that."""
    machine = Machine(concurrency=1)
    machine.submit("runs")
    machine.submit("later", not_before=machine.now + SEC)
    kernel = machine.kernel
    bucket = kernel.bucket(machine.row("runs").bucket.spec)
    queued = kernel.submit("queued", bucket, None, machine.now)
    kernel.concurrency = 2
    kernel.dispatch(machine.now)
    before = machine.names()
    now = machine.now + 5
    kernel.fail_everything([machine.row("runs"), queued], "it broke", now)
    assert kernel.paused
    assert kernel.starts == []
    assert kernel.quiescent()
    for name in ("runs", "queued"):
        assert machine.state(name) is S.FAILED
        assert machine.error(name) == ("InternalError", "it broke", "internal")
        assert machine.row(name).ended_ns == now
    assert machine.state("later") is S.PENDING
    assert machine.names() == before
