"""`orch.events`: what happens, one after another, for threads and for coroutines."""

import asyncio
import gc
import threading

import pytest
from tests.api.tools import PATIENCE, Hold, eventually, in_loop

from taskorch import (
    InvalidTaskError,
    NotRunningError,
    Task,
    TaskOrchestrator,
    current_context,
)
from taskorch.errors import WouldBlockError
from taskorch.events import EventsLost, TaskCompleted, TaskStarted


def report(value):
    current_context().progress(value)


def test_a_thread_follows_tasks_until_the_end():
    """By a pattern of ids and by kinds, from when it was asked for."""
    found = []
    with TaskOrchestrator() as orch:
        orch.submit_task(Task.call(abs, 0, id="night/0")).result(PATIENCE)
        events = orch.events(task="night/*", types=[TaskCompleted, "task_started"])

        def follow():
            found.extend((event.task_id, type(event)) for event in events)

        following = threading.Thread(target=follow)
        following.start()
        handle = orch.submit_task(Task.call(report, 0.5, id="night/1"))
        orch.submit_task(Task.call(abs, 1, id="day/1"))
        handle.result(PATIENCE)
        one = orch.submit_task(Task.call(abs, 1, id="night/2"))
        with orch.events(task=one, types="task_completed") as of_one:
            assert handle.status.state == "completed"
            assert (handle.progress, handle.status.progress) == (0.5, 0.5)
            assert one.progress is None
        assert list(of_one) == []
    following.join(PATIENCE)
    ids = ["night/1", "night/1", "night/2", "night/2"]
    assert [name for name, _ in found] == ids
    assert [kind for _, kind in found] == [TaskStarted, TaskCompleted] * 2
    assert handle.status.state == "completed"


@in_loop
async def test_a_coroutine_follows_until_the_end():
    async def follow(events):
        return [event.result async for event in events]

    async with TaskOrchestrator() as orch:
        events = orch.aio.events(types=TaskCompleted)
        following = asyncio.ensure_future(follow(events))
        assert await orch.aio.submit(abs, -1)
        await orch.submit(abs, -2)
        with pytest.raises(WouldBlockError, match="next event"):
            # None comes: nothing fails here.
            next(orch.events(types="task_failed"))
    assert sorted(await following) == [1, 2]


def test_what_is_not_taken_in_time_is_said():
    with TaskOrchestrator() as orch:
        events = orch.events(types=TaskCompleted, buffer=2)
        for number in range(5):
            orch.submit(abs, number).result(PATIENCE)
        orch.wait(PATIENCE)
        first = next(events)
        assert isinstance(first, EventsLost)
        assert first.lost == 3
        assert [next(events).result for _ in range(2)] == [3, 4]


def test_ten_thousand_events_wait_for_whoever_takes_them():
    with TaskOrchestrator() as orch:
        events = orch.events(types=TaskCompleted)
        orch.submit_tasks([Task.call(abs, number) for number in range(10_001)])
        orch.wait(PATIENCE)
        first = next(events)
        assert isinstance(first, EventsLost)
        assert first.lost == 1
    assert sum(1 for _ in events) == 10_000


def test_nobody_is_told_who_has_left():
    hold = Hold()
    with TaskOrchestrator() as orch:
        events = orch.events()
        handle = orch.submit(hold)
        del events
        gc.collect()
        hold.release()
        handle.result(PATIENCE)
        orch.submit(abs, 1).result(PATIENCE)
        eventually(lambda: not orch.signals.task_completed.ordered)
    with pytest.raises(NotRunningError):
        orch.events()


@pytest.mark.parametrize(
    ("which", "said"),
    [
        ({"types": "task_complete"}, "no event 'task_complete'"),
        ({"types": [int]}, "no event"),
        ({"types": 3}, "types are names"),
        ({"task": 3}, "task is an id"),
        ({"buffer": 0}, "buffer is an integer"),
    ],
)
def test_what_cannot_be_followed_is_refused(which, said):
    with pytest.raises(InvalidTaskError, match=said):
        TaskOrchestrator().events(**which)
