"""Collecting the events of a real orchestrator."""

from __future__ import annotations

import asyncio
import threading

import pytest

from taskorch import RetryPolicy, Task, TaskOrchestrator
from taskorch.events import (
    CATALOGUE,
    VIEWS,
    EventsLost,
    TaskCompleted,
    TaskEvent,
    TaskFailed,
    TaskRetrying,
    TaskRouted,
    TaskStarted,
    TaskSubmitted,
    TaskValidated,
)
from taskorch.testing._capture import capture_events
from taskorch.testing._matchers import assert_events, event

PATIENCE = 60.0
INCARNATION = [TaskSubmitted, TaskValidated, TaskRouted, TaskStarted, TaskCompleted]


def boom():
    raise ValueError("boom")


def test_all_that_a_block_does_is_there_when_it_ends():
    """Without waiting for anything inside it."""
    with TaskOrchestrator() as orch:
        with capture_events(orch) as seen:
            orch.submit(pow, 2, 5)

        assert_events(seen.events, INCARNATION)
        assert seen.of(TaskCompleted)[0].result == 32


def test_what_happened_before_the_block_or_after_it_is_not_there():
    """Nor what had happened, and had not been published."""
    held, entered = threading.Event(), threading.Event()
    with TaskOrchestrator() as orch:

        @orch.signals.task_submitted.connect
        def hold(event):
            entered.set()
            held.wait(PATIENCE)

        orch.submit_task(Task.call(pow, 1, 1, id="before"))
        assert entered.wait(PATIENCE)
        orch.submit_task(Task.call(pow, 1, 1, id="untold"))
        with capture_events(orch) as seen:
            held.set()
            orch.submit_task(Task.call(pow, 1, 1, id="inside"))
        orch.submit_task(Task.call(pow, 1, 1, id="after"))
        orch.wait()

        assert len(seen.for_task("inside")) == len(INCARNATION)
        # It may have started, and then it is a matter of threads when it ended.
        assert seen.of(TaskSubmitted) == [event(task_id="inside")]
        assert seen.for_task("after") == []


def test_a_base_class_stands_for_all_below_it():
    orch = TaskOrchestrator()

    with capture_events(orch, TaskEvent) as seen, orch:
        orch.agent("a")(print)
        orch.submit(pow, 2, 5)

    assert_events(seen.events, INCARNATION)


def test_retries_and_their_delays_are_waited_for():
    with TaskOrchestrator() as orch, capture_events(orch) as seen:
        orch.submit_task(
            Task.call(boom, id="a", retry=RetryPolicy(2, base=0.01, jitter=0))
        )

    assert_events(
        seen.for_task("a"),
        [event(TaskRetrying, delay=0.01), event(TaskFailed, message="boom")],
        order="subsequence",
    )


def test_events_can_be_looked_at_inside_the_block():
    """They are there as soon as they have been published."""
    with TaskOrchestrator() as orch, capture_events(orch) as seen:
        assert seen.events == []
        orch.submit(pow, 2, 5)
        orch.wait()
        assert_events(seen.of(TaskCompleted), [TaskCompleted])


def test_for_task_finds_what_only_names_a_task_too():
    class Broken:
        def route(self, task, candidates, context):
            raise ZeroDivisionError

    with TaskOrchestrator(router=Broken()) as orch, capture_events(orch) as seen:
        orch.submit_task(Task.call(pow, 1, 1, id="a"))

    names = [type(e).__name__ for e in seen.for_task("a")]
    assert "ComponentFailed" in names
    assert seen.for_task("b") == []


def test_the_catalogue_has_views_in_the_order_in_which_they_are_sent():
    """What a capture puts events of one number in order by."""
    for views in VIEWS.values():
        places = [CATALOGUE.index(view) for view in views]
        assert places == sorted(places)


def test_work_that_does_not_end_is_an_error():
    release = threading.Event()
    with TaskOrchestrator() as orch:
        with (
            pytest.raises(TimeoutError, match=r"1 running.*longer timeout"),
            capture_events(orch, timeout=0.01),
        ):
            orch.submit(release.wait, PATIENCE)
        release.set()

        assert orch.signals.connected() == {}


def test_events_that_were_lost_are_an_error():
    """Better none than some."""
    with TaskOrchestrator() as orch:
        capture = capture_events(orch, TaskSubmitted)
        with pytest.raises(RuntimeError, match="fewer classes"), capture:
            orch._rt.note(EventsLost, "task_submitted", "Capture._receive", 3)

        assert capture.events == []


def test_a_full_backlog_is_noticed():
    """The same, brought about by a publisher that keeps little."""
    held, entered = threading.Event(), threading.Event()
    with TaskOrchestrator() as orch:

        @orch.signals.task_submitted.connect
        def hold(event):
            entered.set()
            held.wait(PATIENCE)

        def overflow():
            with capture_events(orch):
                orch.submit(pow, 1, 1)
                assert entered.wait(PATIENCE)
                orch._rt.publisher.limit = 20
                for _ in range(20):
                    orch.submit(pow, 1, 1).result()
                held.set()

        with pytest.raises(RuntimeError, match="some were lost"):
            overflow()


def test_inside_async_with():
    async def main():
        orch = TaskOrchestrator()
        async with orch, capture_events(orch) as seen:
            orch.submit(asyncio.sleep, 0)
        return seen

    assert_events(asyncio.run(main()).events, INCARNATION)


def test_an_async_block_that_raises_leaves_nothing_connected():
    orch = TaskOrchestrator()

    async def main():
        async with capture_events(orch):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        asyncio.run(main())
    assert orch.signals.connected() == {}


@pytest.mark.parametrize("cls", [int, "task_started", TaskStarted(1, 2, "a", 1, "x")])
def test_only_classes_of_events_are_captured(cls):
    with pytest.raises(TypeError, match="classes of events"):
        capture_events(TaskOrchestrator(), cls)
