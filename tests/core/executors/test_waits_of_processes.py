"""A wait in a worker process is as any other: it has no slot, and ends or is refused."""

import pytest
from tests.api.tools import PATIENCE

from taskorch import Task, TaskOrchestrator, current_context
from taskorch.errors import WouldDeadlockError


def one() -> int:
    return 1


def has_a_child(executor: str | None) -> int:
    return current_context().child("child", Task.call(one, executor=executor))


def sleeps() -> int:
    current_context().sleep(0.05)
    return 1


@pytest.mark.parametrize("call", [(has_a_child, None), (sleeps,)])
def test_those_who_wait_in_processes_leave_their_slot_to_others(call):
    with TaskOrchestrator(concurrency=1, executors={"process": 2}) as orch:
        handles = [
            orch.submit_task(Task.call(*call, executor="process")) for _ in range(2)
        ]
        assert [each.result(PATIENCE) for each in handles] == [1, 1]


def test_a_wait_for_which_the_processes_are_too_few_is_refused():
    with TaskOrchestrator(concurrency=4, executors={"process": 1}) as orch:
        call = Task.call(has_a_child, "process", executor="process")
        error = orch.submit_task(call).exception(PATIENCE)
        assert isinstance(error, WouldDeadlockError)
        assert "more threads" in str(error)
