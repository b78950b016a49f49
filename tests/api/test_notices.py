"""What goes wrong where nobody is told is in the log, once, and health says so."""

import asyncio
import gc
import logging
import os
import subprocess
import sys
import textwrap
import threading
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest
from tests.api.tools import PATIENCE, Hold, eventually, fail

from taskorch import (
    DependencyFailedError,
    NotRunningError,
    RetryPolicy,
    Task,
    TaskExecutor,
    TaskOrchestrator,
    Workflow,
    WorkflowFailedError,
)
from taskorch.core.engine import _notices
from taskorch.errors import ResultGoneError


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


def look(orch: TaskOrchestrator) -> None:
    """Look now, and not in a second, for failures that nobody can be given any more."""
    rt = orch._rt
    with rt.lock:
        rt.notices._look_at = 0
        rt.notices.look_for_lost(rt.now())
        if rt.notices.due:
            rt.notices.hand_over()
    assert orch.wait(PATIENCE)


def held(orch: TaskOrchestrator) -> bool:
    """Whether the one failure that there is can be given to somebody yet."""
    look(orch)
    return bool(orch._rt.notices._failed)


def run_bad(orch: TaskOrchestrator, **options: Any) -> None:
    """Run what fails, and keep no handle."""
    orch.submit_task(Task.call(say_bad, "seen by nobody", id="t", **options))


async def say_bad_later(text: str) -> None:
    await asyncio.sleep(0)
    say_bad(text)


def run_bad_coroutine(orch: TaskOrchestrator) -> None:
    orch.submit_task(Task.call(say_bad_later, "seen by nobody", id="t"))


def run_bad_program(orch: TaskOrchestrator) -> None:
    orch.submit_task(Task.program([sys.executable, "-c", "1/0"], id="t"))


def run_bad_by_a_worker(orch: TaskOrchestrator) -> None:
    orch.agent("a", capabilities={"x"})(lambda task, context: say_bad(task.payload))
    orch.submit_task(Task("x", "seen by nobody", id="t"))


def run_bad_elsewhere(orch: TaskOrchestrator) -> None:
    run_bad(orch, executor="pool")


def run_bad_after_a_retry(orch: TaskOrchestrator) -> None:
    retry = RetryPolicy(max_attempts=3, base=0.01)
    run_bad(orch, retry=retry)


def run_bad_by_its_time(orch: TaskOrchestrator) -> None:
    orch.submit_task(Task.call(asyncio.sleep, PATIENCE, id="t", timeout=0.01))


@pytest.mark.parametrize("durable", [False, True])
@pytest.mark.parametrize(
    "run",
    [
        run_bad,
        run_bad_coroutine,
        run_bad_program,
        run_bad_by_a_worker,
        run_bad_elsewhere,
        run_bad_after_a_retry,
        run_bad_by_its_time,
    ],
)
def test_a_failure_is_said_soon_after_the_last_handle_is_gone(
    log: Any, tmp_path: Path, durable: bool, run: Any
) -> None:
    """Once, with what was raised and where; nothing of ours holds the handle."""
    journal = tmp_path / "runs.db" if durable else None
    pool = ThreadPoolExecutor(1)
    with pool, TaskOrchestrator(journal=journal, executors={"pool": pool}) as orch:
        run(orch)
        orch.submit_task(Task.call(abs, -1, id="fine")).result(PATIENCE)
        orch.wait(PATIENCE)
        said = check(orch, "failures")
        assert said.status == "ok"
        assert said.detail.startswith("1 task failed, and nobody has asked for")
        assert said.detail.endswith(": t")
        eventually(lambda: unasked(log))
        assert unasked(log) == ["task t failed, and nobody asked for its result:"]
        assert check(orch, "failures").detail.endswith(": t")
    if run is run_bad:
        assert "ValueError: seen by nobody" in log.text
        assert ", in say_bad" in log.text
    assert [record.name for record in log.records] == ["taskorch.core.engine._notices"]
    orch.stop()
    assert len(unasked(log)) == 1


def test_it_is_not_said_while_somebody_has_the_handle(log: Any) -> None:
    with TaskOrchestrator() as orch:
        handle = orch.submit_task(Task.call(say_bad, "kept", id="t"))
        orch.wait(PATIENCE)
        assert held(orch)
        future = handle.future()
        del handle
        assert held(orch)
        assert unasked(log) == []
        del future
        assert not held(orch)
        assert len(unasked(log)) == 1


def use_executor(orch: TaskOrchestrator) -> Any:
    return TaskExecutor(orchestrator=orch).submit(fail, ValueError("bad"))


def use_handle(orch: TaskOrchestrator) -> Any:
    return orch.submit(fail, ValueError("bad")).future()


def use_late(orch: TaskOrchestrator) -> Any:
    handle = orch.submit(fail, ValueError("bad"))
    orch.wait(PATIENCE)
    return handle.future()


@pytest.mark.parametrize("use", [use_executor, use_handle, use_late])
@pytest.mark.parametrize("how", ["nobody", "result", "exception", "callback", "loop"])
def test_of_a_future_it_is_whether_its_outcome_was_given(
    log: Any, use: Any, how: str
) -> None:
    with TaskOrchestrator() as orch:
        future = use(orch)
        orch.wait(PATIENCE)
        assert unasked(log) == []
        if how == "result":
            with pytest.raises(ValueError, match="bad"):
                future.result(PATIENCE)
        elif how == "exception":
            assert isinstance(future.exception(PATIENCE), ValueError)
        elif how == "callback":
            future.add_done_callback(lambda _: None)
        elif how == "loop":

            async def ask(future: Any) -> None:
                with pytest.raises(ValueError, match="bad"):
                    await asyncio.wrap_future(future)

            asyncio.run(ask(future))
        del future
        gc.collect()
        assert not held(orch)
    assert len(unasked(log)) == (how == "nobody")


def test_a_handle_leads_to_it_by_two_ways_and_counts_once(log: Any) -> None:
    """What needs both is reached by each of them."""
    with TaskOrchestrator() as orch:
        bad = orch.submit(say_bad, "x")
        one, other = orch.submit(abs, bad), orch.submit(abs, bad)
        both = orch.submit(divmod, one, other)
        orch.wait(PATIENCE)
        del bad, other, both
        assert held(orch)
        assert unasked(log) == []
        assert isinstance(one.exception(PATIENCE), DependencyFailedError)
    assert unasked(log) == []


def test_what_is_no_list_is_not_read_again(log: Any) -> None:
    """It is the user's, and this is under the lock."""

    class Once(tuple[Any, ...]):
        __slots__ = ()
        is_over = False

        def __iter__(self) -> Any:
            assert not self.is_over
            return super().__iter__()

    with TaskOrchestrator() as orch:
        bad = orch.submit(say_bad, "x")
        orch.submit_task(Task.call(abs, 1, after=Once([bad])))
        orch.wait(PATIENCE)
        Once.is_over = True
        assert held(orch)
        assert orch.health().ready
        assert isinstance(bad.exception(PATIENCE), ValueError)


def test_one_whose_end_is_not_kept_yet_is_not_said(log: Any, tmp_path: Path) -> None:
    with TaskOrchestrator(journal=tmp_path / "runs.db") as orch:
        run_bad(orch)
        orch.wait(PATIENCE)
        rt = orch._rt
        with rt.lock:
            committed, rt.committed = rt.committed, 0
            rt.notices._look_at = 0
            rt.notices.look_for_lost(rt.now())
            rt.committed = committed
            assert list(rt.notices._failed) == ["t"]
        assert not held(orch)
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
    assert unasked(log) == []


def test_a_receiver_of_failures_is_enough(log: Any) -> None:
    seen: list[Any] = []
    with TaskOrchestrator() as orch:
        orch.signals.task_failed.connect(seen.append)
        orch.submit(fail, ValueError("bad"))
    assert len(seen) == 1
    assert log.messages == []


def test_who_follows_failures_is_told(log: Any) -> None:
    with TaskOrchestrator() as orch, orch.events(types="task_failed") as events:
        orch.submit(say_bad, "followed")
        assert next(events).task_id
        orch.wait(timeout=PATIENCE)
    assert not unasked(log)


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


def test_what_is_dealt_with_is_no_news_when_its_handle_goes(log: Any) -> None:
    with TaskOrchestrator() as orch:
        bad = orch.submit(say_bad, "dealt with")
        orch.wait(PATIENCE)
        orch.submit_task(Task.call(abs, -1, after=[bad], join="finished"))
        del orch
    gc.collect()
    log.clear()  # of what others have left
    del bad
    gc.collect()
    assert "dealt with" not in log.text


def test_what_is_replaced_is_no_news(log: Any) -> None:
    with TaskOrchestrator() as orch:
        run_bad(orch)
        orch.wait(PATIENCE)
        task = Task.call(abs, -1, id="t")
        assert orch.submit_task(task, replace=True).result(PATIENCE) == 1
        assert check(orch, "failures") is None
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


def test_a_flood_of_failures_is_let_go_of_as_it_comes(
    log: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also of calls that leave memory at once, without a word to us."""
    monkeypatch.setattr(_notices, "_ROWS", 2)
    with TaskOrchestrator(keep_finished=0) as orch:
        kept = orch.submit(say_bad, "kept")
        for n in range(50):
            orch.submit(fail, ValueError(n))
        orch.wait(PATIENCE)
        # One look a second would take longer than that.
        eventually(lambda: len(orch._rt.notices._failed) == 1)
        assert "51 tasks failed" in check(orch, "failures").detail
        with pytest.raises(ValueError, match="kept"):
            kept.result(PATIENCE)
        assert "50 tasks failed" in check(orch, "failures").detail
    assert len(unasked(log)) == 11


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


def test_of_many_failures_those_besides_are_said_when_the_pause_is_over(
    log: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr(_notices, "monotonic", lambda: now[0])
    with TaskOrchestrator() as orch:
        for n in range(11):
            orch.submit(fail, ValueError(n))
        orch.wait(PATIENCE)
        assert not held(orch)
        look(orch)
        assert len(unasked(log)) == 10
        now[0] = 60.0
        look(orch)
        assert log.messages[10:] == [
            "1 more task failed, and nobody asked for its result"
        ]
        orch.submit(fail, ValueError("one more"))
        orch.wait(PATIENCE)
        assert not held(orch)
        assert "one more" in log.text
    assert len(log.messages) == 12


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

    try:
        if is_async:
            asyncio.run(block())
        else:
            with orch:
                orch.submit_task(task)
                hold.wait()
    finally:
        hold.release()
    (said,) = log.messages
    assert said.splitlines() == [
        "stop_timeout was over; 1 task was left, and is cancelled:",
        "  slow (running): It was still running.",
        "  given up as they did not stop: slow (attempt 1)",
    ]
    said = check(orch, "scheduler")
    assert said.detail == "stopped: stop_timeout was over, and 1 task was left"


def test_a_block_says_what_it_leaves_and_why(log: Any, tmp_path: Path) -> None:
    """Each reason once, whatever it is that never comes; and what becomes of it."""
    for journal, fate in (
        (None, "cancelled"),
        (tmp_path / "j.db", "kept for the next"),
    ):
        with TaskOrchestrator(journal=journal, unknown_capability="wait") as orch:
            orch.submit_tasks([Task("paint", n, id=f"wall/{n}") for n in range(5)])
            paid = orch.submit_task(Task.wait_for("payment", id="paid"))
            orch.submit_task(Task.call(print, id="ship", after=[paid]))
        said = log.messages[-1]
        assert said.startswith(f"the block ended; 7 tasks were left, and are {fate}")
        assert (
            "\n  wall/0, wall/1, wall/2 and 2 more (queued): No worker can do" in said
        )
        assert "\n  paid (blocked): It waits for the event 'payment'" in said
        assert "\n  ship (pending): It needs paid" in said


def test_a_block_that_lasts_says_what_it_waits_for(log: Any) -> None:
    hold, orch = Hold(), TaskOrchestrator(concurrency=1)

    def let_go() -> None:
        eventually(lambda: "and waits for 2 tasks" in log.text)
        hold.release()

    with orch:
        orch.submit_task(Task.call(hold, id="long"))
        orch.submit_task(Task.call(int, id="next"))
        releasing = threading.Thread(target=let_go)
        releasing.start()
    releasing.join()
    (said,) = log.messages
    assert "\n  long (running for " in said
    assert "\n  next (queued): The one slot is taken" in said


def test_a_drain_takes_new_work_only_from_the_work(log: Any) -> None:
    """Tasks and receivers may submit yet; whoever is outside is refused, and told."""
    hold, refused, taken = Hold(), [], []
    orch = TaskOrchestrator()

    def from_outside() -> None:
        eventually(lambda: not orch.health().ready)
        (scheduler,) = (c for c in orch.health().checks if c.component == "scheduler")
        assert scheduler.detail.startswith("draining")
        for submit in (
            lambda: orch.submit(abs, 1),
            lambda: orch.submit_task(Task.call(abs, 1)),
            lambda: orch.submit_tasks([Task.call(abs, 1), Task("x", after=["y"])]),
            lambda: list(orch.map(abs, [1])),
            lambda: orch.workflows.start(Workflow("w")),
            lambda: orch.rerun_task("done"),
        ):
            with pytest.raises(NotRunningError, match="draining") as caught:
                submit()
            refused.append(caught.value)
        hold.release()

    def work() -> None:
        hold()
        taken.append(orch.submit(abs, -2))

    async def work_on_the_loop() -> None:
        await asyncio.to_thread(hold)
        taken.append(await orch.aio.submit(abs, -3))

    def on_end(_handle: Any) -> None:
        taken.append(orch.submit_task(Task.call(abs, -4)))

    with orch:
        orch.submit_task(Task.call(int, id="done")).result(PATIENCE)
        orch.submit(work).add_done_callback(on_end)
        orch.submit(work_on_the_loop)
        outside = threading.Thread(target=from_outside)
        outside.start()
    outside.join(PATIENCE)
    assert len(refused) == 6
    assert sorted(handle.result(PATIENCE) for handle in taken) == [2, 3, 4]
    assert log.messages == []


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
