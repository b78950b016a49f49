"""What holds at moments that come rarely: between an end and its commit, in a stop, …."""

import asyncio
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from time import monotonic
from typing import Any

import pytest
from tests.integration.tools import (
    PATIENCE,
    Hold,
    Recorder,
    eventually,
    in_loop,
    pass_time,
)

from taskorch import (
    DuplicateTaskError,
    NotRunningError,
    Task,
    TaskCancelledError,
    TaskOrchestrator,
    TaskState,
    current_context,
)
from taskorch.errors import InternalError, TaskorchError
from taskorch.policies import PerformanceRouter
from taskorch.runtime import _committer, _lifecycle, _waiting, _work
from taskorch.runtime._gate import Gate

HOLDS: dict[str, Hold] = {}


@pytest.fixture(autouse=True)
def _no_holds() -> Iterator[None]:
    HOLDS.clear()
    yield
    for hold in HOLDS.values():
        hold.release()


@pytest.fixture(name="path")
def _path(tmp_path: Path) -> Path:
    return tmp_path / "runs.db"


def hold_at(name: str) -> Any:
    """Run as `Hold` does, for a journal that keeps functions by their names."""
    return HOLDS.setdefault(name, Hold())(name)


def give(value: Any) -> Any:
    return value


# -- between an end and its commit -----------------------------------------------------


def test_what_has_ended_is_not_told_before_it_is_kept(path: Path) -> None:
    """Nor to a policy that is asked in the very step: in this life, or in the next."""
    told: list[bool] = []
    handles: list[Any] = []

    class Router(PerformanceRouter):
        def route(self, task: Any, candidates: Any, context: Any) -> Any:
            if task.id.startswith("after"):
                told.append(handles[-1].done())
            return super().route(task, candidates, context)

    def opened() -> TaskOrchestrator:
        orch = TaskOrchestrator(journal=path, router=Router())

        @orch.agent("a", capabilities={"x"}, max_concurrency=1)
        def work(task: Any, context: Any) -> Any:
            return task.payload and hold_at(task.payload)

        return orch

    HOLDS["early"], HOLDS["late"] = Hold(), Hold()
    orch = opened()
    handles.append(orch.submit_task(Task("x", "early", id="early")))
    orch.submit_task(Task("x", id="after/early"))
    orch.submit_task(Task("x", "late", id="late"))
    orch.submit_task(Task("x", id="after/late"))
    with orch:
        HOLDS["early"].release()
        HOLDS["late"].wait()
        assert handles[-1].result(PATIENCE) == "early"
        orch.stop(drain=False, timeout=0)
    assert told == [False]
    HOLDS.pop("late").release()
    HOLDS["late"] = Hold()
    with opened() as orch:
        handles.append(orch.handle("late"))
        HOLDS["late"].release()
        assert orch.wait(PATIENCE)
    assert told == [False, False]


def without_its_thread(orch: TaskOrchestrator, monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on only those write who wait for it."""
    committer: Any = orch._rt.committer
    eventually(committer.is_idle)
    monkeypatch.setattr(committer, "poke", lambda **_: None)


def test_an_event_from_outside_is_kept_when_that_has_returned(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with TaskOrchestrator(journal=path) as orch:
        orch.submit(int).result(PATIENCE)
        without_its_thread(orch, monkeypatch)
        before = orch._rt.committed
        orch.emit("go", 7)
        assert orch._rt.committed > before
        monkeypatch.undo()


def test_a_checkpoint_is_kept_when_that_has_returned(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    HOLDS["checkpoint"] = Hold()
    with TaskOrchestrator(journal=path) as orch:
        ORCHESTRATORS[:] = [orch]
        handle = orch.submit(save_and_say)
        HOLDS["checkpoint"].wait()
        without_its_thread(orch, monkeypatch)
        HOLDS["checkpoint"].release()
        eventually(lambda: SAVED)
        monkeypatch.undo()
        assert handle.result(PATIENCE) is None
    assert SAVED == [True]


ORCHESTRATORS: list[Any] = []
SAVED: list[bool] = []


def save_and_say() -> None:
    """Save something, and note whether more is kept than before."""
    hold_at("checkpoint")
    before = ORCHESTRATORS[-1]._rt.committed
    current_context().checkpoint([1])
    SAVED.append(ORCHESTRATORS[-1]._rt.committed > before)


def test_who_waits_for_what_has_not_ended_wakes_no_thread(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is nothing to write for him."""
    pokes: list[Any] = []
    with TaskOrchestrator(journal=path) as orch:
        handle = orch.submit_task(Task.wait_for("go"))
        without_its_thread(orch, monkeypatch)
        monkeypatch.setattr(orch._rt.committer, "poke", lambda **_: pokes.append(1))
        with pytest.raises(TimeoutError):
            handle.result(0.01)
        assert pokes == []
        monkeypatch.undo()
        orch.emit("go")


def test_what_nobody_waits_for_is_written_at_leisure(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that many ends are one commit."""
    hurries: list[bool] = []
    HOLDS["one"] = Hold()
    with TaskOrchestrator(journal=path) as orch:
        handle = orch.submit(hold_at, "one")
        HOLDS["one"].wait()
        poke = orch._rt.committer.poke

        def note(*, hurry: bool = True) -> None:
            hurries.append(hurry)
            poke(hurry=hurry)

        monkeypatch.setattr(orch._rt.committer, "poke", note)
        HOLDS["one"].release()
        eventually(handle.done)
        monkeypatch.undo()
    assert hurries[0] is False


@in_loop
async def test_what_is_kept_in_time_leaves_no_timer_behind(path: Path) -> None:
    """It would stay for seconds on a loop that submits thousands of tasks."""
    loop: Any = asyncio.get_running_loop()
    async with TaskOrchestrator(journal=path) as orch:
        await (await orch.aio.submit(int))
        live = [handle for handle in loop._scheduled if not handle.cancelled()]
        for _ in range(5):
            await orch.aio.submit(int)
        more = [handle for handle in loop._scheduled if not handle.cancelled()]
        assert len(more) <= len(live)


def test_what_is_not_kept_yet_is_listed_as_what_it_was(path: Path) -> None:
    """As its status says."""
    with TaskOrchestrator(journal=path) as orch:
        handle = orch.submit_task(Task.call(int, id="t"))
        assert handle.result(PATIENCE) == 0
        committed, handle._settled = handle._settled, _work.NEVER
        assert [status.task_id for status in orch.tasks("running")] == ["t"]
        assert list(orch.tasks("completed")) == []
        handle._settled = committed
        assert [status.task_id for status in orch.tasks("completed")] == ["t"]


@pytest.mark.parametrize(
    ("method", "wrong"),
    [("write_all", "trouble"), ("write_all", "fault"), ("recovers", "trouble")],
)
def test_a_journal_that_is_not_written_is_not_waited_for_longer_than_was_said(
    method: str, wrong: str, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To write all is not tried; its recovery, as long as the caller has time."""
    monkeypatch.setattr(_committer, "_PATIENCE", 10 * PATIENCE)
    with TaskOrchestrator(journal=path) as orch:
        committer: Any = orch._rt.committer
        orch.submit(int).result(PATIENCE)
        orch.emit("kept", keep=100)
        if wrong == "trouble":
            monkeypatch.setattr(committer, "trouble", "the disk is full")
        else:
            monkeypatch.setattr(orch._rt, "fault", InternalError("planted"))
        committer.last += 1
        begin = monotonic()
        wait = {"write_all": 10 * PATIENCE, "recovers": 0.01}[method]
        assert not getattr(committer, method)(wait)
        assert monotonic() - begin < PATIENCE
        committer.last -= 1
        monkeypatch.undo()


def test_what_is_kept_begins_before_its_beginning_is_kept(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also if its submission is the very last that was written."""
    HOLDS["due"] = Hold()
    with TaskOrchestrator(journal=path) as orch:
        orch.submit(int).result(PATIENCE)
        without_its_thread(orch, monkeypatch)
        orch.submit_task(Task.call(hold_at, "due", id="due", not_before=0.2))
        HOLDS["due"].wait()
        monkeypatch.undo()
        HOLDS["due"].release()


def test_nobody_who_waits_has_to_wait_for_company(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is written at leisure is what nobody waits for."""
    monkeypatch.setattr(_lifecycle, "_JOURNAL_MARGIN", 0.1)
    monkeypatch.setattr(_committer, "_LEISURE", 2 * PATIENCE)
    with TaskOrchestrator(journal=path) as orch:
        for _ in range(3):
            assert orch.submit(int).result(PATIENCE) == 0


def test_a_rerun_has_the_latest_runs_of_what_it_needs(path: Path) -> None:
    """Also if these have left memory, and nobody asks for them by name."""
    with TaskOrchestrator(journal=path, keep_finished=0) as orch:
        orch.submit_task(Task.call(give, 1, id="p")).result(PATIENCE)
        task = Task.call(give, orch.handle("p"), id="c")
        assert orch.submit_task(task).result(PATIENCE) == 1
        task = Task.call(give, 2, id="p")
        assert orch.submit_task(task, replace=True).result(PATIENCE) == 2
    with TaskOrchestrator(journal=path, keep_finished=0) as orch:
        assert orch.rerun_task("c").result(PATIENCE) == 2


def test_two_runs_of_one_task_are_told_apart_in_the_next_life(path: Path) -> None:
    """By what needs both: each gives it what that run has made."""
    with TaskOrchestrator(journal=path) as orch:
        first = orch.submit_task(Task.call(give, 1, id="p"))
        first.result(PATIENCE)
        second = orch.submit_task(Task.call(give, 2, id="p"), replace=True)
        go = orch.submit_task(Task.wait_for("go"))
        orch.submit_task(Task.call(give_both, first, second, id="c", after=[go]))
        second.result(PATIENCE)
        orch.stop(drain=False)
    with TaskOrchestrator(journal=path) as orch:
        orch.emit("go")
        assert orch.handle("c").result(PATIENCE) == [1, 2]


def give_both(one: int, other: int) -> list[int]:
    return [one, other]


def test_what_is_gone_is_held_before_it_begins(path: Path) -> None:
    """No attempt is made of what nobody can do."""
    with ThreadPoolExecutor(1) as pool:
        orch = TaskOrchestrator(journal=path, executors={"pool": pool})
        orch.submit_task(Task.call(give, 1, id="t", executor="pool"))
        orch.stop(drain=False)
    with TaskOrchestrator(journal=path) as orch:
        assert orch.wait(PATIENCE)
        status = orch.get_task_status("t")
        assert status.state is TaskState.BLOCKED
        assert "running" not in [entry.state for entry in status.history]


@pytest.mark.parametrize("how", ["rerun", "replace"])
def test_a_later_run_that_has_left_memory_is_known_by_its_content(how: str) -> None:
    """As the first one is: the same is the same task, and other content is refused."""
    with TaskOrchestrator(keep_finished=1) as orch:
        orch.submit_task(Task.call(give, 1, id="t")).result(PATIENCE)
        latest = Task.call(give, 1, id="t")
        if how == "rerun":
            run = orch.rerun_task("t")
        else:
            latest = Task.call(give, 2, id="t")
            run = orch.submit_task(latest, replace=True)
        run.result(PATIENCE)
        orch.submit(int).result(PATIENCE)
        assert run.task_id not in [status.task_id for status in orch.tasks()]
        assert orch.submit_task(latest).task_id == run.task_id
        with pytest.raises(DuplicateTaskError):
            orch.submit_task(Task.call(give, 3, id="t"))


# -- before and after it has stopped ---------------------------------------------------


def test_nothing_begins_while_it_stops(path: Path) -> None:
    """What ends meanwhile leaves room, which is not used."""
    HOLDS["one"] = Hold()
    orch = TaskOrchestrator(journal=path, concurrency=1)
    with orch:
        orch.submit_task(Task.call(hold_at, "one", id="one"))
        orch.submit_task(Task.call(hold_at, "two", id="two"))
        HOLDS["one"].wait()
        stopping = threading.Thread(target=orch.stop, kwargs={"drain": False})
        stopping.start()
        eventually(lambda: orch._rt.closed)
        HOLDS["one"].release()
        stopping.join(PATIENCE)
    assert orch.get_task_status("one").state is TaskState.COMPLETED
    assert orch.get_task_status("two").attempts == 0
    assert "two" not in HOLDS


def test_what_ends_badly_while_it_stops_takes_with_it_what_needs_it(path: Path) -> None:
    """Both have ended, and are nothing that it has left."""
    HOLDS["bad"] = Hold()
    orch = TaskOrchestrator(journal=path)
    with orch:
        parent = orch.submit_task(Task.call(hold_and_fail, id="bad"))
        orch.submit_task(
            Task.call(int, id="skipped", after=[parent], on_parent_failure="skip")
        )
        orch.submit_task(Task.wait_for("go", id="left"))
        HOLDS["bad"].wait()
        stopping = threading.Thread(target=orch.stop, kwargs={"drain": False})
        stopping.start()
        eventually(lambda: orch._rt.closed)
        HOLDS["bad"].release()
        stopping.join(PATIENCE)
        report = orch.stop()
    assert orch.get_task_status("skipped").state is TaskState.CANCELLED
    assert [each.task_id for each in report.left] == ["left"]


def hold_and_fail() -> None:
    hold_at("bad")
    raise ValueError


@pytest.mark.parametrize("durable", [False, True])
def test_one_that_was_never_used_has_nothing_to_report(
    durable: bool, path: Path
) -> None:
    report = TaskOrchestrator(journal=path if durable else None).stop()
    assert (report.completed, report.failed, report.cancelled) == (0, 0, 0)
    assert (report.left, report.leaked) == ((), ())
    assert not path.exists()


@in_loop
async def test_a_block_that_was_stopped_within_was_not_cut_short(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Whoever stopped it knows what was left."""
    async with TaskOrchestrator() as orch:
        orch.submit(asyncio.sleep, 10 * PATIENCE)
        report = await orch.aio.stop(drain=False)
    assert len(report.left) == 1
    assert "the block ended" not in caplog.text


def test_whoever_listens_hears_of_checkpoints() -> None:
    """In memory, too."""
    with TaskOrchestrator() as orch:
        seen = Recorder(orch, "task_checkpointed")
        handle = orch.submit(lambda: current_context().checkpoint(1))
        handle.result(PATIENCE)
        assert seen.wait_for(1)[0].task_id == handle.task_id


def test_what_still_runs_as_one_in_memory_stops_may_be_cancelled() -> None:
    """Only what is left to a next life may not; and that says so."""
    hold = Hold()
    orch = TaskOrchestrator()
    with orch:
        handle = orch.submit(hold)
        hold.wait()
        stopping = threading.Thread(target=orch.stop, kwargs={"drain": False})
        stopping.start()
        eventually(lambda: orch._rt.closed)
        assert handle.cancel()
        hold.release()
        stopping.join(PATIENCE)
    assert not handle.cancel()


def test_what_is_left_to_the_next_life_is_not_touched(path: Path) -> None:
    orch = TaskOrchestrator(journal=path)
    with orch:
        done = orch.submit_task(Task.call(give, 1, id="done"))
        left = orch.submit_task(Task.wait_for("go", id="left"))
        done.result(PATIENCE)
        orch.stop(drain=False)
    assert not done.cancel()
    for act in (left.cancel, lambda: orch.set_priority("left", 1)):
        with pytest.raises(NotRunningError, match="left task left"):
            act()
    assert not orch.set_priority("done", 1)


@pytest.mark.parametrize("busy", [False, True])
def test_what_is_told_to_stop_on_its_way_to_a_thread_does_not_begin(
    busy: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To one that is idle, or to one that is made for it."""
    called: list[int] = []
    hold = Hold()
    with TaskOrchestrator() as orch:
        orch.submit(int).result(PATIENCE)
        eventually(lambda: orch._rt._idle)
        if busy:
            orch.submit(hold)
            hold.wait()
        start = orch._rt.threads.start

        def cancel_and_start(item: Any, *worker: Any) -> None:
            row, *_ = item
            orch.cancel_task(row.id)
            start(item, *worker)

        monkeypatch.setattr(orch._rt.threads, "start", cancel_and_start)
        handle = orch.submit(called.append, 1)
        with pytest.raises(TaskCancelledError):
            handle.result(PATIENCE)
        hold.release()
    assert called == []


def test_an_async_generator_that_was_left_open_is_closed_at_the_end() -> None:
    closed = threading.Event()
    kept: list[Any] = []

    async def numbers() -> AsyncIterator[int]:
        try:
            yield 1
        finally:
            await asyncio.sleep(0)
            closed.set()

    async def begin() -> int:
        kept.append(numbers())
        return int(await anext(kept[0]))

    with TaskOrchestrator() as orch:
        assert orch.submit(begin).result(PATIENCE) == 1
        assert not closed.is_set()
    assert closed.wait(PATIENCE)


def test_a_journal_on_which_somebody_still_writes_is_closed_by_its_thread(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The end does not wait for ever, and the next life may have the journal then."""
    with TaskOrchestrator(journal=path) as orch:
        orch.submit(int).result(PATIENCE)
        monkeypatch.setattr(_lifecycle, "_JOURNAL_MARGIN", 0.1)
        committer: Any = orch._rt.committer

        def sleeps() -> bool:
            frame = sys._current_frames()[committer._thread.ident]
            return frame.f_code.co_name == "_sleep"

        # If it still had to write, it would not wait to be woken.
        eventually(sleeps)
        with committer._writing:
            # The thread is on its way to write, and was woken once more.
            committer.poke()
            eventually(committer._wake.locked)
            committer.poke()
            closing = threading.Thread(target=committer.close, args=(0.01,))
            closing.start()
            closing.join(PATIENCE)
            assert committer._thread.is_alive()
        eventually(lambda: not committer._thread.is_alive())
        with TaskOrchestrator(journal=path) as other:
            assert other.submit(int).result(PATIENCE) == 0


def test_what_was_held_back_for_the_journal_ends_with_the_stop(path: Path) -> None:
    """It has not begun, and nobody waits for it."""
    with TaskOrchestrator(journal=path) as orch:
        orch.submit(int).result(PATIENCE)
        committer: Any = orch._rt.committer

        def submit() -> None:
            with suppress(TaskorchError):
                orch.submit_task(Task.call(hold_at, "never", id="never"))

        submitting = threading.Thread(target=submit)
        with committer._writing:
            submitting.start()
            eventually(lambda: committer.held)
            report = orch.stop(drain=False, timeout=1)
        submitting.join(PATIENCE)
    assert report.leaked == ()
    assert "never" not in HOLDS


# -- threads of ours -------------------------------------------------------------------


def test_one_thread_tells_of_all_events() -> None:
    """It sleeps between two of them."""
    with TaskOrchestrator() as orch:
        seen = Recorder(orch, "task_completed")
        publisher: Any = orch._rt.publisher
        orch.submit(int)
        seen.wait_for(1)
        eventually(lambda: publisher._asleep)
        thread = publisher._thread
        orch.submit(int)
        seen.wait_for(2)
        assert publisher._thread is thread


def test_no_thread_of_ours_keeps_the_process(path: Path) -> None:
    """One that is never stopped ends with it."""
    before = {*threading.enumerate()}
    with TaskOrchestrator(journal=path) as orch:
        Recorder(orch, "task_completed")
        orch.submit(int).result(PATIENCE)
        orch.submit(asyncio.sleep, 0).result(PATIENCE)
        ours = {*threading.enumerate()} - before
        names = {thread.name.rpartition("-")[2] for thread in ours}
        assert {"timer", "publisher", "journal", "loop"} <= names
        assert all(thread.daemon for thread in ours)


def test_the_end_waits_for_every_thread_of_ours(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever forks or measures after a stop finds none of them."""
    orch = TaskOrchestrator(journal=path)
    with orch:
        Recorder(orch, "task_completed")
        orch.submit(int).result(PATIENCE)
        orch.submit(asyncio.sleep, 0).result(PATIENCE)
        eventually(lambda: orch._rt._idle)
        rt: Any = orch._rt
        ours = [
            *(rt.publisher._thread, rt.timer._thread, rt.loops._thread),
            rt.committer._thread,
        ]
        workers = [*rt.threads._threads]
        joined: list[threading.Thread] = []
        join = threading.Thread.join

        def note(thread: threading.Thread, timeout: float | None = None) -> None:
            joined.append(thread)
            join(thread, timeout)

        monkeypatch.setattr(threading.Thread, "join", note)
        orch.stop()
    assert {*ours} <= {*joined}
    # A worker that has come to its end already needs no wait.
    assert not any(thread.is_alive() for thread in (*ours, *workers))


def break_timer(orch: Any) -> None:
    orch._rt.kernel.tick = fail_on
    pass_time(orch, 1)


def break_publisher(orch: Any) -> None:
    orch._rt.publisher._expand = fail_on
    orch._rt.publisher.put([(len, ())])


def break_journal(orch: Any) -> None:
    orch._rt.committer._sleep = fail_on
    orch._rt.committer.poke()


def break_loop(orch: Any) -> None:
    orch._rt.loops.get().call_soon_threadsafe(exit_loop)


def exit_loop() -> None:
    raise SystemExit(3)


def fail_on(*_: Any) -> Any:
    msg = "planted"
    raise AssertionError(msg)


@pytest.mark.parametrize(
    "do_break", [break_timer, break_publisher, break_journal, break_loop]
)
def test_a_fault_on_a_thread_of_ours_stops_all(
    path: Path, do_break: Callable[[Any], None], caplog: pytest.LogCaptureFixture
) -> None:
    """Nobody waits for what will never come, and the log says why."""
    with TaskOrchestrator(journal=path, stop_timeout=1) as orch:
        waits = orch.submit_task(Task.wait_for("go"))
        do_break(orch)
        with pytest.raises(InternalError):
            waits.result(PATIENCE)
        assert orch.health().status == "failed"
    assert any(record.levelname == "CRITICAL" for record in caplog.records)


def test_monitoring_reports_once_an_interval() -> None:
    with TaskOrchestrator(monitor_interval=3600) as orch:
        timer = orch._rt.timer

        def pass_and_look(seconds: int) -> int:
            pass_time(orch, seconds)
            eventually(lambda: timer._until)
            assert orch._rt.publisher.flush(PATIENCE)
            return len(stats.events)

        stats = Recorder(orch, "stats_reported")
        assert pass_and_look(3500) == 0
        # Another one who listens does not put it off.
        Recorder(orch, "health_reported")
        counts = [pass_and_look(each) for each in (200, 3300, 3600, 3000)]
        assert counts == [1, 1, 2, 2]


def test_without_anybody_who_listens_no_facts_are_made() -> None:
    orch = TaskOrchestrator()
    assert orch._rt.kernel.sink is None
    receive = Recorder(orch, "task_completed")._receive
    assert orch._rt.kernel.sink is not None
    orch.signals.task_completed.disconnect(receive)
    assert orch._rt.kernel.sink is None


def test_a_drain_that_is_hurried_before_it_waits_does_not_wait(monkeypatch):
    """A thread can be held up between a look and its wait for longer than a signal allows."""
    hold = Hold()
    with TaskOrchestrator(grace=0) as orch:
        orch.submit(hold)
        hold.wait()

        def hurried_gate() -> Any:
            """What the drain makes before it waits; only then it is hurried."""
            monkeypatch.setattr(_waiting, "Gate", Gate)
            orch._lifecycle.hurry()
            return Gate()

        monkeypatch.setattr(_waiting, "Gate", hurried_gate)
        stop = threading.Thread(target=orch.stop, daemon=True)
        stop.start()
        stop.join(PATIENCE)
        assert not stop.is_alive()
        hold.release()
