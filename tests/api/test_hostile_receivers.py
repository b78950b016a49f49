"""Receivers and done-callbacks: whatever they do, they harm nobody but themselves."""

# pyright: basic, reportArgumentType=false, reportAttributeAccessIssue=false
# pyright: reportCallIssue=false, reportOptionalMemberAccess=false
# pyright: reportAssignmentType=false
# What does not fit is the point here.

from __future__ import annotations

import asyncio
import threading

import pytest
from tests.api.tools import PATIENCE

from taskorch import Task, TaskOrchestrator, TaskState, as_completed, current_context
from taskorch.core.engine import _lifecycle
from taskorch.events import ReceiverFailed


class Seen:
    """A receiver that keeps what it got, and wakes who waits for it."""

    def __init__(self):
        self.changed = threading.Condition()
        self.events = []

    def __call__(self, event):
        with self.changed:
            self.events.append(event)
            self.changed.notify_all()

    def wait(self, count=1):
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.events) >= count, PATIENCE), (
                self.events
            )
            return list(self.events)


@pytest.fixture
def orch():
    with TaskOrchestrator() as orch:
        failures = Seen()
        orch.signals.receiver_failed.connect(failures)
        orch.failures = failures
        yield orch
        assert orch.submit(pow, 2, 5).result(PATIENCE) == 32
        assert orch.wait(PATIENCE)


class Mine(BaseException):
    pass


class NoStr(Exception):
    def __str__(self):
        raise RuntimeError

    __repr__ = __str__


class ExitStr(Exception):
    def __str__(self):
        raise SystemExit(5)

    __repr__ = __str__


ERRORS = [
    ValueError("no"),
    SystemExit(3),
    KeyboardInterrupt(),
    GeneratorExit(),
    StopIteration(),
    asyncio.CancelledError(),
    Mine(),
    NoStr(),
    ExitStr(),
    RecursionError(),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda e: type(e).__name__)
def test_a_receiver_that_raises_is_reported_and_the_next_is_served(orch, error):
    """The signal, the receiver and the error are named; it stays connected."""
    seen = Seen()

    def rude(event):
        raise error

    orch.signals.task_completed.connect(rude)
    orch.signals.task_completed.connect(seen)
    handles = [orch.submit(pow, 2, n) for n in range(2)]
    assert [handle.result(PATIENCE) for handle in handles] == [1, 2]
    seen.wait(2)
    first, second = orch.failures.wait(2)[:2]
    assert isinstance(first, ReceiverFailed)
    assert first.signal == second.signal == "task_completed"
    assert "rude" in first.receiver
    assert first.error_type == type(error).__name__


@pytest.mark.parametrize("error", ERRORS, ids=lambda e: type(e).__name__)
def test_a_done_callback_that_raises_is_reported_and_the_next_is_called(orch, error):
    """The same holds for callbacks of handles."""
    done = Seen()

    def rude(handle):
        raise error

    handle = orch.submit(pow, 2, 3)
    handle.add_done_callback(rude)
    handle.add_done_callback(done)
    assert done.wait() == [handle]
    (failed,) = orch.failures.wait()
    assert failed.signal == "done"
    assert "rude" in failed.receiver
    assert failed.error_type == type(error).__name__
    # So it is after the end.
    handle.add_done_callback(rude)
    orch.failures.wait(2)


@pytest.mark.parametrize(
    "error",
    # Cancelled is what it is at the end, and no failure.
    [e for e in ERRORS if not isinstance(e, asyncio.CancelledError)],
    ids=lambda e: type(e).__name__,
)
def test_a_coroutine_receiver_that_raises_is_reported(orch, error):
    """It runs on the loop, which goes on."""

    async def rude(event):
        await asyncio.sleep(0)
        raise error

    async def double(x):
        return 2 * x

    orch.signals.task_completed.connect(rude)
    assert orch.submit(pow, 2, 3).result(PATIENCE) == 8
    failed = orch.failures.wait()[0]
    assert "rude" in failed.receiver
    if not isinstance(error, StopIteration):
        # Python makes a RuntimeError of that one.
        assert failed.error_type == type(error).__name__
    orch.signals.task_completed.disconnect(rude)
    assert orch.submit(double, 4).result(PATIENCE) == 8


@pytest.fixture
def short_end(monkeypatch):
    """Let the end wait for less than two seconds for what does not come."""
    monkeypatch.setattr(_lifecycle, "_MARGIN", 0.2)


@pytest.mark.usefixtures("short_end")
def test_a_receiver_that_never_returns_does_not_hold_up_the_end():
    """`stop` waits for receivers, but not for ever."""
    free, begun = threading.Event(), threading.Event()

    def deaf(event):
        begun.set()
        free.wait(60)

    with TaskOrchestrator(stop_timeout=0.1) as orch:
        orch.signals.task_completed.connect(deaf)
        handle = orch.submit(pow, 2, 3)
        assert begun.wait(PATIENCE)
    assert handle.result(0) == 8
    assert orch.stop().completed == 1
    free.set()


def test_a_receiver_may_submit_cancel_and_ask(orch):
    """Receivers may call the orchestrator: they are outside the lock."""
    held = orch.submit_task(Task.call(pow, 2, 3, not_before=1_000))
    results = Seen()

    def follow(event):
        if event.type == "step":
            stats = orch.get_stats()
            cancelled = orch.cancel_task(held.task_id)
            value = orch.submit(pow, 2, 6).result(PATIENCE)
            state = orch.get_task_status(event.task_id).state
            known = orch.handle(event.task_id).task_id
            results((stats, cancelled, value, state, known))

    orch.signals.task_submitted.connect(follow)
    handle = orch.submit_task(Task.call(pow, 2, 4, type="step"))
    ((stats, cancelled, value, state, known),) = results.wait()
    assert stats.state_machine.total >= 1
    assert cancelled
    assert value == 64
    assert state in (TaskState.QUEUED, TaskState.RUNNING, TaskState.COMPLETED)
    assert known == handle.task_id
    assert held.cancelled()


def test_a_done_callback_may_chain_more_work(orch):
    """A chain of callbacks, each of which submits the next task."""
    end = Seen()

    def step(handle):
        n = handle.result(0)
        if n < 20:
            orch.submit(lambda x: x + 1, n).add_done_callback(step)
        else:
            end(n)

    orch.submit(int).add_done_callback(step)
    assert end.wait() == [20]


@pytest.mark.parametrize("drain", [True, False])
@pytest.mark.parametrize("kind", ["receiver", "callback"])
def test_a_receiver_may_stop_the_orchestrator(kind, drain):
    """It gets the report, and so does everybody who stops it afterwards."""
    reports = Seen()

    def stop(_):
        reports(orch.stop(drain=drain))

    with TaskOrchestrator() as orch:
        if kind == "receiver":
            orch.signals.task_completed.connect(stop)
        handle = orch.submit(pow, 2, 3)
        if kind == "callback":
            handle.add_done_callback(stop)
        assert handle.result(PATIENCE) == 8
        (report,) = reports.wait()
    assert report.completed == 1
    assert orch.stop() is report


def test_a_receiver_may_wait_for_quiet(orch):
    """It does not wait for itself."""
    seen = Seen()
    orch.signals.task_completed.connect(lambda event: seen(orch.wait(PATIENCE)))
    assert orch.submit(pow, 2, 3).result(PATIENCE) == 8
    assert seen.wait() == [True]


def test_a_receiver_that_disconnects_itself_is_called_once(orch):
    """And those after it are served as before."""
    once, after = Seen(), Seen()

    def leave(event):
        once(event)
        orch.signals.task_completed.disconnect(leave)

    orch.signals.task_completed.connect(leave)
    orch.signals.task_completed.connect(after)
    orch.submit(pow, 2, 1).result(PATIENCE)
    once.wait()
    assert orch.wait(PATIENCE)
    orch.submit(pow, 2, 2).result(PATIENCE)
    after.wait(2)
    assert orch.wait(PATIENCE)
    assert len(once.events) == 1


def test_a_receiver_that_connects_another_does_not_disturb_the_delivery(orch):
    """The new one gets what happens from then on."""
    late, connected = Seen(), Seen()

    def hire(event):
        if not connected.events:
            orch.signals.task_completed.connect(late)
            connected(event)

    orch.signals.task_completed.connect(hire)
    orch.submit(pow, 2, 1).result(PATIENCE)
    connected.wait()
    handle = orch.submit(pow, 2, 2)
    handle.result(PATIENCE)
    assert handle.task_id in [e.task_id for e in late.wait()]


def test_what_cannot_be_called_is_no_receiver(orch):
    """It is said when it is connected, and not at each event."""
    for junk in (None, 5, "print"):
        with pytest.raises(TypeError, match="receiver"):
            orch.signals.task_completed.connect(junk)
        with pytest.raises(TypeError, match="callback"):
            orch.submit(pow, 2, 3).add_done_callback(junk)


def test_receivers_that_cannot_be_hashed_printed_or_compared_are_served(orch):
    """A receiver only has to be callable."""

    class Odd(list):
        def __call__(self, event):
            self.append(event)

        def __repr__(self):
            raise RuntimeError

        def __eq__(self, other):
            raise RuntimeError

        __hash__ = None

    odd = Odd()
    orch.signals.task_completed.connect(odd)
    assert orch.submit(pow, 2, 3).result(PATIENCE) == 8
    assert orch.wait(PATIENCE)
    assert len(odd) == 1
    orch.signals.task_completed.disconnect(odd)
    assert orch.submit(pow, 2, 3).result(PATIENCE) == 8
    assert orch.wait(PATIENCE)
    assert len(odd) == 1


@pytest.mark.parametrize("drain", [True, False])
def test_a_receiver_that_stops_while_the_block_ends_does_not_hang(drain):
    """Two ends at once are one."""
    reports = Seen()
    with TaskOrchestrator() as orch:
        orch.signals.task_completed.connect(lambda _: reports(orch.stop(drain=drain)))
        orch.submit(pow, 2, 3)
    assert reports.wait() == [orch.stop()]


def test_a_receiver_with_a_wrong_arity_is_reported(orch):
    """The error names the receiver."""

    def narrow():
        pass

    orch.signals.task_completed.connect(narrow)
    assert orch.submit(pow, 2, 3).result(PATIENCE) == 8
    (failed,) = orch.failures.wait()
    assert failed.error_type == "TypeError"
    assert "narrow" in failed.message


def test_a_receiver_is_no_part_of_a_task(orch):
    """It runs on the publisher's thread, where there is no current task."""
    seen = Seen()

    def ask(event):
        try:
            seen(current_context())
        except Exception as error:
            seen(error.code)

    async def ask_async(event):
        ask(event)

    orch.signals.task_completed.connect(ask)
    orch.signals.task_completed.connect(ask_async)
    orch.submit(pow, 2, 3).add_done_callback(ask)
    assert seen.wait(3) == ["not_running"] * 3


def test_coroutine_receivers_under_way_at_the_end_are_waited_for():
    """What has been received before the end of the block is served."""
    finished = []

    async def slow(event):
        await asyncio.sleep(0.05)
        finished.append(event.task_id)

    with TaskOrchestrator() as orch:
        orch.signals.task_completed.connect(slow)
        handles = [orch.submit(pow, 2, n) for n in range(3)]
    assert sorted(finished) == sorted(handle.task_id for handle in handles)


@pytest.mark.usefixtures("short_end")
def test_a_coroutine_receiver_that_never_returns_does_not_hold_up_the_end(caplog):
    """It is cancelled with the loop, and leaves no complaint behind."""
    begun, cancelled = threading.Event(), threading.Event()

    async def deaf(event):
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    with TaskOrchestrator(stop_timeout=0.1) as orch:
        orch.signals.task_completed.connect(deaf)
        assert orch.submit(pow, 2, 3).result(PATIENCE) == 8
        assert begun.wait(PATIENCE)
    assert cancelled.wait(PATIENCE)
    assert not caplog.records


def test_handles_of_failed_tasks_are_completed_for_callbacks_too(orch):
    """A callback sees the end, whichever it is, once."""
    seen = Seen()

    def fail():
        raise ValueError

    handles = [orch.submit(fail), orch.submit(pow, 2, 3)]
    handles.append(orch.submit_task(Task.call(pow, 2, 3, not_before=1_000)))
    for handle in handles:
        handle.add_done_callback(seen)
    handles[2].cancel()
    assert set(seen.wait(3)) == set(handles)
    assert set(as_completed(handles, PATIENCE)) == set(handles)
    assert orch.wait(PATIENCE)
    assert len(seen.events) == 3


def test_health_says_what_a_receiver_raised_last():
    def bad(_event):
        raise LookupError

    with TaskOrchestrator() as orch:
        orch.signals.task_completed.connect(bad)
        orch.submit(int).result(PATIENCE)
        assert orch.wait(PATIENCE)
        assert ".bad: LookupError" in str(orch.health())


def test_who_holds_the_thread_for_a_second_delays_the_others_no_longer():
    """He waits for what others hear only once they are told without him."""
    told, heard = threading.Event(), []
    orch = TaskOrchestrator()

    @orch.signals.task_started.connect
    def slow(event):
        if event.task_id == "a":
            heard.append(told.wait(PATIENCE))

    @orch.signals.task_completed.connect
    def other(event):
        told.set()

    with orch:
        orch.submit_task(Task.call(abs, -1, id="a")).result(PATIENCE)
    assert heard == [True]
