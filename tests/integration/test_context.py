"""What a task is given: its context."""

import asyncio
import concurrent.futures
import logging
import threading

import pytest
from tests.integration.tools import PATIENCE, fail

from taskorch import (
    NotRunningError,
    Resources,
    RetryPolicy,
    Task,
    TaskOrchestrator,
    current_context,
)


def test_the_allocation_is_what_the_attempt_holds() -> None:
    """Its own request, or the agent's."""
    with TaskOrchestrator(resources=Resources(cpu=4)) as orch:

        @orch.agent("worker", capabilities={"work"}, request=Resources(cpu=2))
        def work(task, context):
            return context.allocation

        assert orch.submit_task(Task("work")).result(PATIENCE) == Resources(cpu=2)
        own = Task("work", resources=Resources(cpu=1))
        assert orch.submit_task(own).result(PATIENCE) == Resources(cpu=1)


def test_there_is_no_context_outside() -> None:
    """Outside a task `current_context` raises, on the publisher's thread, too."""
    with pytest.raises(NotRunningError, match="no current task"):
        current_context()
    errors = []

    def receiver(event) -> None:
        try:
            current_context()
        except NotRunningError as error:
            errors.append(error)

    with TaskOrchestrator() as orch:
        orch.signals.task_completed.connect(receiver)
        orch.submit(int).add_done_callback(receiver)
        assert orch.wait(PATIENCE)
    assert len(errors) == 2


def test_the_context_of_a_task_that_was_submitted_by_a_task() -> None:
    """Each has its own, thread or coroutine, whoever submitted it."""
    with TaskOrchestrator() as orch:

        def inner() -> str:
            return current_context().task_id

        async def inner_async() -> str:
            return current_context().task_id

        async def outer() -> tuple:
            children = [orch.submit(inner), orch.submit(inner_async)]
            ids = await asyncio.gather(*children)
            return current_context().task_id, ids, [c.task_id for c in children]

        handle = orch.submit(outer)
        own, ids, expected = handle.result(PATIENCE)
        assert own == handle.task_id
        assert ids == expected


def test_the_context_in_a_thread_pool_of_the_users() -> None:
    """There, too, the task knows what it is."""
    with (
        concurrent.futures.ThreadPoolExecutor(1) as pool,
        TaskOrchestrator(executors={"pool": pool}) as orch,
    ):
        task = Task.call(lambda: current_context().task_id, id="x", executor="pool")
        assert orch.submit_task(task).result(PATIENCE) == "x"

        @orch.agent("pooled", capabilities={"work"}, executor="pool")
        def work(task, context) -> bool:
            context.checkpoint(1)
            return current_context().task_id == context.task_id == task.id

        assert orch.submit_task(Task("work")).result(PATIENCE) is True


def test_checkpoints_survive_a_failure() -> None:
    """The next attempt finds the state of the last checkpoint."""
    with TaskOrchestrator() as orch:

        def work() -> list[int]:
            context = current_context()
            done = list(context.restored or [])
            done.append(context.attempt)
            context.checkpoint(done)
            if context.attempt < 3:
                fail(ValueError())
            return done

        policy = RetryPolicy(3, base=0)
        assert orch.submit_task(Task.call(work, retry=policy)).result(PATIENCE) == [
            1,
            2,
            3,
        ]


def test_the_log_carries_the_task(caplog) -> None:
    """Records of `context.log` have task_id and attempt."""
    with TaskOrchestrator() as orch, caplog.at_level(logging.INFO, "taskorch.task"):
        task = Task.call(lambda: current_context().log.info("hello"), id="x")
        orch.submit_task(task).result(PATIENCE)
    record = caplog.records[0]
    assert (record.message, record.task_id, record.attempt) == ("hello", "x", 1)


def logs() -> tuple[str, dict[str, object]]:
    log = current_context().log
    log.info("hello from elsewhere")
    return log.logger.name, dict(log.extra or {})


def test_the_log_of_another_process_carries_the_task() -> None:
    with (
        concurrent.futures.ProcessPoolExecutor(1) as pool,
        TaskOrchestrator(executors={"pool": pool}) as orch,
    ):
        task = Task.call(logs, id="x", executor="pool")
        said = orch.submit_task(task).result(PATIENCE)
    assert said == ("taskorch.task", {"task_id": "x", "attempt": 1})


def test_aio_of_the_context() -> None:
    """A coroutine may await progress and checkpoint."""
    with TaskOrchestrator() as orch:

        async def work() -> str:
            context = current_context()
            await context.aio.progress(0.5)
            await context.aio.checkpoint("state")
            return context.restored

        handle = orch.submit(work)
        assert handle.result(PATIENCE) == "state"
        assert orch.get_task_status(handle.task_id).progress == 0.5


def test_asking_for_the_context_at_once_with_the_cancellation() -> None:
    """Both make what tells the task to stop; neither's is lost."""
    with TaskOrchestrator(concurrency=4) as orch:
        handles = []

        def work(began: threading.Event) -> None:
            began.set()
            while not current_context().cancelled:
                pass

        for _ in range(50):
            began = threading.Event()
            handles.append(orch.submit(work, began))
            assert began.wait(PATIENCE)
            handles[-1].cancel()
        for handle in handles:
            handle.exception(PATIENCE)
            assert handle.cancelled()


def test_python_calls_the_context_by_its_name_where_a_call_of_it_is_wrong() -> None:
    with TaskOrchestrator() as orch:
        wrong = orch.submit(lambda: current_context().progress())
        with pytest.raises(TypeError, match=r"^TaskContext\.progress\(\) missing"):
            wrong.result(PATIENCE)
        wrong = orch.submit(lambda: current_context().checkpoint(1, 2))
        with pytest.raises(TypeError, match=r"^TaskContext\.checkpoint\(\) takes"):
            wrong.result(PATIENCE)
