"""Retries by a list of delays, and by result."""

from __future__ import annotations

import asyncio
import json
import sys
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from datetime import timedelta
from itertools import pairwise
from multiprocessing import get_context

import pytest

from taskorch import (
    InvalidTaskError,
    RetryPolicy,
    Task,
    TaskOrchestrator,
    UnwantedResultError,
    ValidationFailedError,
    Workflow,
    task,
)
from taskorch.errors import UsageError
from taskorch.testing import Outcome, Simulation

PATIENCE = 60.0
FEW = 3
CALLS = []


def is_small(result):
    return result < FEW


def program_is_silent(result):
    return not result.stdout_tail


# -- delays --------------------------------------------------------------------------


def test_the_delays_are_those_of_the_list():
    """As they are, and one attempt more than there are of them."""
    shop = Simulation(seed=1)
    shop.agent("a", capabilities={"x"})
    shop.work("x", Outcome(1.0, error=OSError("no")))
    policy = RetryPolicy(delays=[2, timedelta(seconds=5), 15])
    shop.submit_tasks([Task("x", id="t", retry=policy)])
    shop.run()
    status = shop.get_task_status("t")
    assert (status.state, status.attempts) == ("failed", 4)
    begun = [e.at for e in status.history if e.state == "running"]
    gaps = [round(b - a, 6) for a, b in pairwise(begun)]
    assert gaps == [3, 6, 16]


def test_their_number_is_that_of_the_attempts():
    policy = RetryPolicy(delays=[2, 5, 15])
    assert (policy.max_attempts, policy.delays) == (4, (2, 5, 15))
    assert RetryPolicy(2, delays=[2, 5, 15]).max_attempts == 2
    assert policy == RetryPolicy(4, delays=(2.0, 5.0, 15.0))
    assert hash(policy) == hash(RetryPolicy(delays=[2, 5, timedelta(seconds=15)]))


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


def test_a_program_can_be_judged_by_what_it_wrote():
    with TaskOrchestrator() as orch:
        policy = RetryPolicy(2, base=0, retry_if_result=program_is_silent)
        bad = orch.submit_task(Task.program([sys.executable, "-c", ""], retry=policy))
        assert isinstance(bad.exception(PATIENCE), UnwantedResultError)
        assert orch.get_task_status(bad.task_id).attempts == 2
        good = Task.program([sys.executable, "-c", "print(1)"], retry=policy)
        assert orch.submit_task(good).result(PATIENCE).stdout_tail == "1\n"


def test_a_call_in_another_process_is_judged_here():
    with (
        ProcessPoolExecutor(1, mp_context=get_context("forkserver")) as pool,
        TaskOrchestrator(executors={"p": pool}) as orch,
    ):
        policy = RetryPolicy(2, base=0, retry_if_result=lambda result: result == 1)
        handle = orch.submit_task(Task.call(abs, -1, executor="p", retry=policy))
        with pytest.raises(UnwantedResultError) as caught:
            handle.result(PATIENCE)
        assert caught.value.result == 1


def test_the_last_one_is_the_error():
    with TaskOrchestrator() as orch:
        policy = RetryPolicy(2, base=0, retry_if_result=lambda result: True)
        handle = orch.submit_task(Task.call(int, "7", id="t", retry=policy))
        with pytest.raises(UnwantedResultError, match="t returned 7") as caught:
            handle.result(PATIENCE)
        assert caught.value.result == 7
        assert caught.value.code == "unwanted_result"
        status = orch.get_task_status("t")
        assert (status.state, status.attempts, status.result) == ("failed", 2, None)


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


def test_a_later_life_judges_as_well(tmp_path):
    """The predicate is kept by its name; one that has none is refused."""
    path = tmp_path / "j.db"
    with TaskOrchestrator(journal=path) as orch:
        made = Task.call(growing, id="t", retry=POLICY, not_before=3600)
        orch.submit_task(made)
        policy = RetryPolicy(2, retry_if_result=lambda result: True)
        with pytest.raises(InvalidTaskError, match="retry_if_result"):
            orch.submit_task(Task.call(growing, id="u", retry=policy))
        with_delays = RetryPolicy(delays=[0, timedelta(0)], retry_if_result=is_small)
        first = orch.submit_task(Task.wait_for("go", id="w"))
        orch.submit_task(Task.call(growing, id="v", after=[first], retry=with_delays))
        orch.stop(drain=False)
    with TaskOrchestrator(journal=path) as orch:
        orch.emit("go")
        assert orch.handle("v").result(PATIENCE) == FEW
        assert orch.get_task_status("v").attempts == FEW
        orch.cancel_task("t")


def test_it_is_part_of_what_checks_the_form_of_a_task():
    with pytest.raises(ValidationFailedError):
        TaskOrchestrator().submit_task(Task.call(int, retry="3"))
