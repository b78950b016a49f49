"""`context.time_left`: what is left of a timeout and of a deadline."""

from __future__ import annotations

import asyncio
import threading
from datetime import UTC, datetime, timedelta

import pytest
from tests.integration.tools import PATIENCE, eventually, pass_time

from taskorch import RetryPolicy, Task, TaskOrchestrator, current_context


def left():
    return current_context().time_left


@pytest.mark.parametrize(
    ("options", "least", "most"),
    [
        ({"timeout": 60}, 1, 60),
        ({"deadline": 60}, 1, 60),
        ({"timeout": 60, "deadline": 600}, 1, 60),
        ({"timeout": 600, "deadline": 60}, 1, 60),
        ({"deadline": datetime.now(UTC) + timedelta(hours=1)}, 60, 3600),
        ({"timeout": timedelta(minutes=1)}, 1, 60),
    ],
    ids=["timeout", "deadline", "sooner timeout", "sooner deadline", "date", "delta"],
)
def test_it_is_the_sooner_of_the_two(options, least, most):
    with TaskOrchestrator() as orch:
        found = orch.submit_task(Task.call(left, **options)).result(PATIENCE)
    assert least < found <= most


def test_without_either_there_is_none():
    with TaskOrchestrator() as orch:
        assert orch.submit(left).result(PATIENCE) is None
        handle = orch.submit_task(Task.call(left, priority=3, retry=RetryPolicy(3)))
        assert handle.result(PATIENCE) is None


def test_it_grows_less_and_ends_at_nothing():
    seen = []

    def work():
        context = current_context()
        seen.append(context.time_left)
        began.set()
        eventually(lambda: context.cancelled)
        seen.append(context.time_left)

    began = threading.Event()
    with TaskOrchestrator() as orch:
        handle = orch.submit_task(Task.call(work, timeout=3600))
        assert began.wait(PATIENCE)
        pass_time(orch, 3600)
        handle.exception(PATIENCE)
        orch.wait(PATIENCE)
    assert 0 <= seen[0] <= 3600
    assert seen[1] == 0


def test_each_attempt_has_its_own():
    seen = []

    def work():
        seen.append(left())
        raise OSError

    with TaskOrchestrator() as orch:
        task = Task.call(work, timeout=3600, retry=RetryPolicy(3, base=0))
        orch.submit_task(task).exception(PATIENCE)
    assert len(seen) == 3
    assert all(3600 - PATIENCE < found <= 3600 for found in seen)


def test_agents_and_coroutines_have_it_too():
    orch = TaskOrchestrator()

    @orch.agent("a", capabilities={"x"})
    async def do(task, context):
        await asyncio.sleep(0)
        return context.time_left

    with orch:
        assert 0 < orch.submit_task(Task("x", timeout=60)).result(PATIENCE) <= 60
