"""Retries by a list of delays, and by result."""

from __future__ import annotations

import asyncio
import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from taskorch import (
    InvalidTaskError,
    RetryPolicy,
    Task,
    TaskOrchestrator,
    UnwantedResultError,
    Workflow,
    task,
)
from taskorch.errors import UsageError

PATIENCE = 60.0
FEW = 3
CALLS = []


def is_small(result):
    return result < FEW


# -- delays --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"delays": []}, "there are none"),
        ({"delays": 5}, "a list of durations"),
        ({"delays": "25"}, "a list of durations"),
        ({"delays": [1, -1]}, r"delays\[1\]"),
        ({"delays": ["1"]}, r"delays\[0\]"),
        ({"delays": [1], "max_attempts": 3}, "1 delays are for 2 attempts"),
        ({"delays": [1], "wait": "fixed"}, "wait='fixed' has no meaning"),
        ({"delays": [1], "base": 2.0}, "base=2.0"),
        ({"delays": [1], "max_delay": 2.0}, "max_delay=2.0"),
        ({"delays": [1], "jitter": "full"}, "jitter='full'"),
        ({"delays": [1], "max_attempts": True}, "max_attempts"),
        ({"retry_if_result": 5}, "retry_if_result: 5 is no predicate"),
    ],
    ids=str,
)
def test_what_contradicts_itself_is_refused(options, word):
    with pytest.raises(InvalidTaskError, match=word):
        RetryPolicy(**options)


def test_documents_have_delays_and_no_predicates():
    wf = Workflow("w")
    wf.program(["ls"], id="t", retry=RetryPolicy(delays=[1, 2]))
    said = wf.to_dict()
    assert json.loads(json.dumps(said)) == said
    again = Workflow.from_dict(said, programs=True)
    assert again["t"].task.retry == RetryPolicy(delays=[1, 2])
    wf.program(["ls"], id="u", retry=RetryPolicy(retry_if_result=is_small))
    with pytest.raises(UsageError, match="retry_if_result"):
        wf.to_dict()


# -- by result -----------------------------------------------------------------------


def growing():
    CALLS.append(1)
    return len(CALLS)


async def growing_later():
    await asyncio.sleep(0)
    return growing()


POLICY = RetryPolicy(5, base=0, retry_on=(), retry_if_result=is_small)


@pytest.fixture(autouse=True)
def none_so_far():
    CALLS.clear()


@pytest.mark.parametrize("fn", [growing, growing_later])
@pytest.mark.parametrize("way", ["call", "batch", "decorated", "pool", "agent"])
@pytest.mark.parametrize("durable", [False, True])
def test_a_result_that_is_not_wanted_is_tried_again(fn, way, durable, tmp_path):
    """Until there is another; whatever `retry_on` says, which is about errors."""
    with (
        ThreadPoolExecutor(1) as pool,
        TaskOrchestrator(
            journal=tmp_path / "j.db" if durable else None, executors={"p": pool}
        ) as orch,
    ):
        options = {"retry": POLICY}
        if way == "agent":
            if fn is growing:
                orch.agent("a", capabilities={"x"})(lambda task, context: growing())
            else:

                @orch.agent("a", capabilities={"x"})
                async def do(task, context):
                    return await growing_later()

            handle = orch.submit_task(Task("x", **options))
        elif way == "decorated":
            if durable:
                pytest.skip("what is decorated here cannot be imported")

            @task(**options)
            def declared():
                return growing()

            handle = orch.submit(declared)
        elif way == "batch":
            (handle,) = orch.submit_tasks([Task.call(fn, **options)])
        else:
            executor = "p" if way == "pool" and fn is growing else None
            made = Task.call(fn, executor=executor, **options, id="t")
            handle = orch.submit_task(made)
        assert handle.result(PATIENCE) == FEW
        status = orch.get_task_status(handle.task_id)
        assert status.attempts == FEW
        assert [entry.state for entry in status.history].count("retrying") == FEW - 1


def test_without_a_retry_it_fails_at_once():
    with TaskOrchestrator() as orch:
        made = Task.call(int, retry=RetryPolicy(retry_if_result=lambda r: r == 0))
        handle = orch.submit_task(made)
        assert isinstance(handle.exception(PATIENCE), UnwantedResultError)


def test_a_predicate_that_raises_is_an_error_of_the_attempt():
    def bad(result):
        raise ZeroDivisionError

    with TaskOrchestrator() as orch:
        made = Task.call(int, retry=RetryPolicy(2, base=0, retry_if_result=bad))
        handle = orch.submit_task(made)
        assert isinstance(handle.exception(PATIENCE), ZeroDivisionError)
        assert orch.get_task_status(handle.task_id).attempts == 2
