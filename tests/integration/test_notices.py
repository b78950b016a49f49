"""What goes wrong where nobody is told is in the log, once, and health says so."""

import asyncio
import gc
import logging
import os
import subprocess
import sys
import textwrap
import threading
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest
from tests.integration.tools import PATIENCE, Hold, eventually, fail

from taskorch import (
    ResultGoneError,
    Task,
    TaskOrchestrator,
    Workflow,
    WorkflowFailedError,
)
from taskorch.runtime import _notices


@pytest.fixture(name="log")
def _log(caplog: pytest.LogCaptureFixture) -> Any:
    caplog.set_level(logging.WARNING, logger="taskorch")
    return caplog


def unasked(log: Any) -> list[str]:
    """The first lines of what was said of failed tasks."""
    return [
        line.partition("\n")[0]
        for line in log.messages
        if "nobody asked" in line.partition("\n")[0]
    ]


def say_bad(text: str) -> None:
    raise ValueError(text)


def check(orch: TaskOrchestrator, component: str) -> Any:
    found = {check.component: check for check in orch.health().checks}
    return found.get(component)


# -- tasks that failed -----------------------------------------------------------------


@pytest.mark.parametrize("durable", [False, True])
def test_a_failure_that_nobody_asked_for_is_said_at_the_end(
    log: Any, tmp_path: Path, durable: bool
) -> None:
    """Once, with what was raised and where."""
    journal = tmp_path / "runs.db" if durable else None
    with TaskOrchestrator(journal=journal) as orch:
        orch.submit_task(Task.call(say_bad, "seen by nobody", id="t"))
        orch.submit_task(Task.call(abs, -1, id="fine"))
        orch.wait(PATIENCE)
        assert unasked(log) == []
        said = check(orch, "failures")
        assert said.status == "ok"
        assert said.detail.startswith("1 task failed, and nobody has asked for")
        assert said.detail.endswith(": t")
    assert unasked(log) == ["task t failed, and nobody asked for its result:"]
    assert "ValueError: seen by nobody" in log.text
    assert ", in say_bad" in log.text
    assert [record.name for record in log.records] == ["taskorch"]
    assert check(orch, "failures").detail.endswith(": t")
    orch.stop()
    assert len(unasked(log)) == 1


def ask_result(orch: TaskOrchestrator, handle: Any) -> None:
    with pytest.raises(ValueError, match="bad"):
        handle.result(PATIENCE)


def ask_late(orch: TaskOrchestrator, handle: Any) -> None:
    orch.wait(PATIENCE)
    assert handle.exception() is not None


def ask_status(orch: TaskOrchestrator, handle: Any) -> None:
    orch.wait(PATIENCE)
    assert orch.get_task_status(handle.task_id).error is not None


def ask_future(orch: TaskOrchestrator, handle: Any) -> None:
    assert handle.future().exception(PATIENCE) is not None


def ask_a_dependent(orch: TaskOrchestrator, handle: Any) -> None:
    assert orch.submit(abs, handle).exception(PATIENCE) is not None


def ask_by_await(orch: TaskOrchestrator, handle: Any) -> None:
    async def ask() -> None:
        await asyncio.gather(handle, return_exceptions=True)

    asyncio.run(ask())


def ask_by_running_again(orch: TaskOrchestrator, handle: Any) -> None:
    orch.wait(PATIENCE)
    orch.rerun_task(handle.task_id).exception(PATIENCE)


@pytest.mark.parametrize(
    "ask",
    [
        ask_result,
        ask_late,
        ask_status,
        ask_future,
        ask_a_dependent,
        ask_by_await,
        ask_by_running_again,
    ],
)
def test_whoever_asks_is_not_told_twice(log: Any, ask: Any) -> None:
    with TaskOrchestrator() as orch:
        ask(orch, orch.submit(fail, ValueError("bad")))
        assert check(orch, "failures") is None
    assert log.messages == []


def test_a_receiver_of_failures_is_enough(log: Any) -> None:
    seen: list[Any] = []
    with TaskOrchestrator() as orch:
        orch.signals.task_failed.connect(seen.append)
        orch.submit(fail, ValueError("bad"))
    assert len(seen) == 1
    assert log.messages == []


def test_one_that_a_callback_waits_for_is_told(log: Any) -> None:
    seen: list[Any] = []
    hold = Hold()
    with TaskOrchestrator() as orch:
        handle = orch.submit(lambda: fail(ValueError(str(hold()))))
        handle.add_done_callback(seen.append)
        hold.release()
        del handle
    assert len(seen) == 1
    assert log.messages == []


def test_a_workflow_reports_its_failures_itself(log: Any) -> None:
    wf = Workflow("w")
    wf.task(fail, ValueError("one"), id="a")
    wf.task(fail, ValueError("two"), id="b")
    with TaskOrchestrator() as orch:
        with pytest.raises(WorkflowFailedError):
            orch.workflows.start(wf, id="x").result(PATIENCE)
        assert log.messages == []
        orch.workflows.start(wf, id="unasked")
    assert sorted(unasked(log)) == [
        "task unasked/a failed, and nobody asked for its result:",
        "task unasked/b failed, and nobody asked for its result:",
    ]


def test_a_failure_that_a_task_goes_on_after_is_dealt_with(log: Any) -> None:
    with TaskOrchestrator() as orch:
        gate = orch.submit_task(Task.wait_for("go", id="go"))
        bad = orch.submit_task(Task.call(fail, ValueError("bad"), after=[gate]))
        orch.submit_task(Task.call(abs, -1, after=[bad], join="finished"))
        orch.emit("go")
        del gate, bad
    assert log.messages == []


def test_a_map_that_ends_early_says_nothing_of_the_others(log: Any) -> None:
    hold = Hold()

    def work(n: int) -> None:
        if n:
            hold()
        raise ValueError(n)

    with TaskOrchestrator() as orch:
        with pytest.raises(ValueError, match="0"):
            list(orch.map(work, range(20)))
        hold.release()
    assert log.messages == []


def test_a_handle_that_is_still_there_may_be_asked_after_the_block(log: Any) -> None:
    """As a future of an executor's: only when it is gone, nobody will."""
    gc.collect()
    log.clear()  # of what others have left
    with TaskOrchestrator() as orch:
        asked, left = (orch.submit(fail, ValueError(n)) for n in range(2))
    assert log.messages == []
    with pytest.raises(ValueError, match="0"):
        asked.result()
    name = left.task_id
    del asked, orch
    gc.collect()
    log.clear()  # of what others have left
    del left
    gc.collect()
    assert unasked(log) == [f"task {name} failed, and nobody asked for its result:"]


def test_one_that_has_left_memory_is_said_when_its_handle_is_gone(log: Any) -> None:
    with TaskOrchestrator(keep_finished=0) as orch:
        kept = orch.submit_task(Task.call(fail, ValueError("kept"), id="kept"))
        orch.submit_task(Task.call(fail, ValueError("gone"), id="gone"))
        orch.wait(PATIENCE)
        orch.submit(abs, 1).result(PATIENCE)
        eventually(lambda: unasked(log))
        with pytest.raises(ValueError, match="kept"):
            kept.result()
    assert unasked(log) == ["task gone failed, and nobody asked for its result:"]


def test_many_failures_are_not_told_one_by_one(log: Any) -> None:
    with TaskOrchestrator() as orch:
        for n in range(25):
            orch.submit(fail, ValueError(n))
        orch.wait(PATIENCE)
        assert "25 tasks failed" in check(orch, "failures").detail
        assert check(orch, "failures").detail.endswith(", …")
    assert len(unasked(log)) == 11
    assert (
        log.messages[-1] == "15 more tasks failed, and nobody asked for their results"
    )


def test_what_a_person_has_said_is_no_news(log: Any) -> None:
    with TaskOrchestrator() as orch:
        orch.submit_task(Task.wait_for("never", id="w"))
        orch.decide("w", "fail")
    assert log.messages == []


def test_a_script_without_a_logger_prints_it_and_ends_well(tmp_path: Path) -> None:
    """Python does so with what nobody has configured; also at its exit."""
    script = tmp_path / "script.py"
    code = """
        from taskorch import TaskOrchestrator

        def bad(text):
            raise ValueError(text)

        with TaskOrchestrator() as orch:
            orch.submit(bad, "dropped")
            kept = orch.submit(bad, "kept")
        print("after the block", flush=True)
    """
    script.write_text(textwrap.dedent(code), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-B", str(script)],
        capture_output=True,
        text=True,
        timeout=PATIENCE * 2,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "after the block\n")
    assert done.stderr.count("failed, and nobody asked for its result") == 2
    assert done.stderr.index("ValueError: dropped") < done.stderr.index(
        "ValueError: kept"
    )


# -- receivers, blocks, executors ------------------------------------------------------


def test_a_receiver_and_a_callback_that_raise_are_said(log: Any) -> None:
    def receive(event: Any) -> None:
        raise KeyError("in the receiver")

    def call_back(handle: Any) -> None:
        raise OSError("in the callback")

    with TaskOrchestrator() as orch:
        assert check(orch, "receivers").status == "ok"
        orch.signals.task_completed.connect(receive)
        orch.submit(abs, 1).add_done_callback(call_back)
        orch.wait(PATIENCE)
        said = check(orch, "receivers")
        assert said.status == "degraded"
        assert said.detail.startswith("2 calls raised, the last ")
    assert sorted(log.messages) == [
        f"a done-callback, {call_back.__qualname__}, raised OSError",
        f"a receiver of task_completed, {receive.__qualname__}, raised KeyError",
    ]
    assert "in the receiver" in log.text
    assert "in the callback" in log.text


def test_one_that_raises_each_time_is_said_once_in_a_while(
    log: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def receive(event: Any) -> None:
        raise KeyError("again")

    now = [0.0]
    monkeypatch.setattr(_notices, "monotonic", lambda: now[0])
    with TaskOrchestrator() as orch:
        orch.signals.task_completed.connect(receive)
        for _ in range(50):
            orch.submit(abs, 1).result(PATIENCE)
        orch.wait(PATIENCE)
        assert check(orch, "receivers").detail.startswith("50 calls raised")
        assert len(log.messages) == 1
        now[0] = 60.0
        orch.submit(abs, 1).result(PATIENCE)
    assert len(log.messages) == 2
    assert log.messages[1].endswith("(and 49 times before, since it was last said)")


def test_what_is_remembered_of_receivers_is_bounded(
    log: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_notices, "_MANY", 2)
    notices = TaskOrchestrator()._rt.notices
    for n in range(10):
        notices.executor_broke(f"pool {n}", OSError(n))
    assert len(notices._said) <= 3
    assert len(log.messages) == 10


@pytest.mark.parametrize("is_async", [False, True])
def test_a_block_that_ended_by_its_timeout_says_what_was_left(
    log: Any, is_async: bool
) -> None:
    hold = Hold()
    orch = TaskOrchestrator(stop_timeout=0.01)
    task = Task.call(hold, id="slow")

    async def block() -> None:
        async with orch:
            await orch.aio.submit_task(task)
            hold.wait()
            asyncio.get_running_loop().call_later(0.5, hold.release)

    if is_async:
        asyncio.run(block())
    else:
        releasing = []
        with orch:
            orch.submit_task(task)
            hold.wait()
            releasing.append(threading.Timer(0.5, hold.release))
            releasing[0].start()
    assert log.messages == [
        "the block ended since its stop_timeout was over; left: slow (running)"
    ]
    said = check(orch, "scheduler")
    assert said.detail == "stopped: stop_timeout was over, and 1 task was left"


def test_a_block_that_ended_otherwise_says_nothing(log: Any) -> None:
    hold = Hold()
    with TaskOrchestrator() as orch:
        orch.submit(abs, 1)
    assert check(orch, "scheduler").detail == "stopped"
    with TaskOrchestrator() as orch:
        orch.submit_task(Task.wait_for("never"))
        # Whoever stops it himself has the report.
        assert len(orch.stop(drain=False).left) == 1
    hold.release()
    assert log.messages == []


def die() -> None:
    os._exit(3)


def test_a_pool_that_broke_is_said(log: Any) -> None:
    """And health says so, as long as it does not work again."""
    pool = ProcessPoolExecutor(1, mp_context=get_context("spawn"))
    with pool, TaskOrchestrator(executors={"cpu": pool}) as orch:
        assert (
            orch.submit_task(Task.call(abs, -1, executor="cpu")).result(PATIENCE) == 1
        )
        assert check(orch, "executors") is None
        handle = orch.submit_task(Task.call(die, executor="cpu", idempotent=False))
        eventually(lambda: check(orch, "executors"))
        said = check(orch, "executors")
        assert said.status == "degraded"
        assert said.detail.startswith("cpu broke: BrokenProcessPool: ")
        again = orch.submit_task(Task.call(die, executor="cpu", idempotent=False))
        orch.wait(PATIENCE)
        del handle, again
    assert len(log.messages) == 1
    assert log.messages[0].startswith("the executor 'cpu' broke, and what ran there")
    orch._rt.notices.executor_works("cpu")
    assert check(orch, "executors") is None


def test_one_that_raised_what_we_raise_ourselves_can_be_asked_for(log: Any) -> None:
    """A result that is gone is an error of ours, and may be that of a task."""
    with TaskOrchestrator() as orch:
        handle = orch.submit(fail, ResultGoneError("of another task"))
        orch.wait(PATIENCE)
        assert isinstance(handle.exception(), ResultGoneError)
        assert check(orch, "failures") is None
    assert log.messages == []


def test_who_gave_up_before_the_failure_was_not_told(log: Any) -> None:
    hold = Hold()
    with TaskOrchestrator() as orch:
        handle = orch.submit(lambda: fail(ValueError(str(hold()))))
        with pytest.raises(TimeoutError):
            handle.result(0.01)
        hold.release()
        orch.wait(PATIENCE)
        assert check(orch, "failures") is not None
        del handle
    assert len(unasked(log)) == 1
