"""A fault of our own stops everything, and nobody waits for ever."""

from __future__ import annotations

import linecache
import logging
import sys
from itertools import count

import pytest
from tests.api.tools import PATIENCE

from taskorch import Resources, Task, TaskOrchestrator
from taskorch.core.kernel import check_invariants
from taskorch.errors import InternalError
from taskorch.policies import PerformanceRouter


def _break(orch, method):
    def broken(*_args, **_kwargs):
        raise AssertionError("planted")

    setattr(orch._rt.kernel, method, broken)


@pytest.mark.parametrize("method", ["complete", "dispatch"])
def test_a_fault_on_a_worker_fails_all_that_wait(method):
    """A fault in the kernel on a worker thread raises InternalError at all who wait."""
    orch = TaskOrchestrator(concurrency=1)
    first = orch.submit(lambda: 1)
    second = orch.submit(lambda: 2)
    orch.start()
    first.result(timeout=60)
    second.result(timeout=60)
    _break(orch, method)

    with pytest.raises(InternalError, match="planted"):
        orch.submit(lambda: 3).result(timeout=60)
    with pytest.raises(InternalError, match="taskorch itself failed"):
        orch.submit(lambda: 4)
    assert orch.wait(timeout=60)
    health = orch.health()
    assert health.status == "failed"
    assert not health.ready
    assert "planted" in str(health.checks)
    orch.stop(drain=False, timeout=1)


def test_a_fault_in_a_step_of_the_users_is_told_and_stops_all(caplog):
    """Whoever is in it has the error, and those who wait are told."""
    orch = TaskOrchestrator()
    waits = orch.submit_task(Task.wait_for("go"))
    with orch:
        _break(orch, "dispatch")
        with pytest.raises(InternalError, match="planted"):
            orch.submit_task(Task.call(int, id="x"))
        with pytest.raises(InternalError, match="planted"):
            waits.result(timeout=60)
        assert orch.health().status == "failed"
    assert "planted" in caplog.text


async def _five():
    return 5


def test_a_fault_at_the_end_of_a_coroutine_is_told_to_those_who_wait():
    """A fault of ours on the loop's thread does not leave a waiter waiting."""
    with TaskOrchestrator() as orch:
        assert orch.submit(_five).result(timeout=60) == 5
        _break(orch, "complete")
        with pytest.raises(InternalError, match="planted"):
            orch.submit(_five).result(timeout=60)


# -- interrupts --------------------------------------------------------------------

OURS = ("/taskorch/core/engine/", "/taskorch/core/kernel/", "/taskorch/policies/")


def interrupt_at(number, act):
    """Call *act*, with a Ctrl-C at the line of ours that comes as number *number*."""
    left = number
    entered = {}

    def lines(frame, event, arg):
        nonlocal left
        if event == "line":
            place = frame, frame.f_lineno
            text = linecache.getline(frame.f_code.co_filename, frame.f_lineno).strip()
            if text == "try:" or (text.startswith("with ") and place in entered):
                # Python lets no signal in here: nothing is called, or only the end
                # of the block.
                return lines
            entered[place] = None
            left -= 1
            if left == 0:
                raise KeyboardInterrupt
        return lines

    def calls(frame, event, arg):
        ours = any(part in frame.f_code.co_filename for part in OURS)
        return lines if ours and left > 0 else None

    before = sys.gettrace()
    sys.settrace(calls)
    try:
        act()
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(before)
    return left <= 0


def plain(orch):
    orch.submit(int, "7")


def with_dependencies(orch):
    first = Task.call(int, "1", id="first", resources=Resources(cpu=1), timeout=60)
    orch.submit_tasks([first, Task.call(int, "2", id="second", after=["first"])])


def cancelled(orch):
    orch.cancel_task("waits")


@pytest.mark.slow("an interrupt at every line")
@pytest.mark.parametrize("act", [plain, with_dependencies, cancelled])
def test_an_interrupt_at_any_line_leaves_nobody_waiting(act, caplog):
    """It is whole and goes on, or it says that it is not: there is no third way."""
    caplog.set_level(logging.CRITICAL + 1, "taskorch")
    stopped = went_on = 0
    for number in count(1):
        with TaskOrchestrator(
            resources=Resources(cpu=2), concurrency=2, stop_timeout=10
        ) as orch:
            orch.submit(int, "3").result(PATIENCE)
            orch.submit_task(Task.call(int, "4", id="waits", not_before=3600))
            reached = interrupt_at(number, lambda orch=orch: act(orch))
            if orch.health().status == "failed":
                with pytest.raises(InternalError, match="KeyboardInterrupt"):
                    orch.submit(int, "5")
                assert orch.wait(PATIENCE)
                stopped += 1
                continue
            assert orch.submit(int, "5").result(PATIENCE) == 5
            orch.cancel_task("waits")
            assert orch.wait(PATIENCE)
            with orch._rt.lock:
                check_invariants(orch._rt.kernel)
            went_on += 1
        if not reached:
            break
    assert stopped > 5
    assert went_on > 5


class Interrupted(PerformanceRouter):
    """Somebody presses Ctrl-C while it is asked for the first time."""

    asked = 0

    def route(self, task, candidates, context):
        self.asked += 1
        if self.asked == 1:
            raise KeyboardInterrupt
        return super().route(task, candidates, context)


def test_an_interrupt_while_a_policy_is_asked_is_no_fault_of_the_task(tmp_path):
    """
    It reaches the caller; the next incarnation of a durable one goes on with the task.
    """
    journal = tmp_path / "journal.db"
    orch = TaskOrchestrator(journal=journal, router=Interrupted())
    with pytest.raises(KeyboardInterrupt), orch:
        orch.submit_tasks([Task.call(int, "7", id="seven")])
    assert orch.health().status == "failed"
    with TaskOrchestrator(journal=journal) as orch:
        assert orch.wait(PATIENCE)
        states = [status.state for status in orch.tasks()]
        assert states in ([], ["completed"])
