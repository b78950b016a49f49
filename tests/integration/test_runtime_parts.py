"""Parts of the runtime, each by itself: what shows from outside only at rare moments."""

import asyncio
import inspect
import signal
import threading
from asyncio.runners import Runner
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from pathlib import Path
from time import monotonic
from types import SimpleNamespace
from typing import Any

import pytest
from tests.integration.tools import PATIENCE, eventually, fail, in_loop

from taskorch import (
    RetryPolicy,
    SqliteJournal,
    Task,
    TaskOrchestrator,
    TaskState,
)
from taskorch._limits import NS
from taskorch.errors import (
    InternalError,
    JournalError,
    JournalUnavailableError,
    NotRunningError,
    ResultGoneError,
    WouldBlockError,
)
from taskorch.events import EventsLost, TaskCompleted
from taskorch.journal import MemoryJournal
from taskorch.policies import BackoffRetryHandler, PerformanceRouter, PriorityQueue
from taskorch.runtime import (
    _blocked,
    _calls,
    _committer,
    _interrupts,
    _lifecycle,
    _loops,
    _opening,
    _plain,
    _publisher,
    _reports,
    _runtime,
    _work,
)
from taskorch.runtime._bare_journal import BareJournal
from taskorch.runtime._notices import _PACE, _Failed
from taskorch.runtime._publisher import RECEIVING, Call, Receiver
from taskorch.runtime._room import _FIRST_PAUSE, _LONGEST_PAUSE, Room
from taskorch.runtime._timer import TimerThread
from taskorch.runtime._work import NEVER, Work, control_of, extra_of

# -- the publisher ---------------------------------------------------------------------


def test_a_publisher_at_work_is_looked_after_and_one_that_sleeps_is_not() -> None:
    """Between two calls, too: the next receiver may be slow."""
    publisher = TaskOrchestrator()._rt.publisher
    assert publisher.relieve() is None
    publisher._thread = threading.current_thread()
    assert publisher.relieve() == publisher.slow_after
    publisher._asleep = True
    assert publisher.relieve() is None


def test_calls_apart_are_waited_for_until_their_time_is_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Not those that wait themselves, and none that has lasted for all of it."""
    publisher = TaskOrchestrator()._rt.publisher
    call = Call(Receiver("done", print))
    publisher._apart[threading.current_thread()] = call
    monkeypatch.setattr(_publisher, "monotonic", lambda: 100.0)
    call.since = 100.0
    assert not publisher.is_served()
    with publisher.excused():
        assert call.excused
        assert publisher.is_served()
    assert not publisher.is_served()
    call.since = 100.0 - publisher.patience
    assert publisher.is_served()


def test_an_async_receiver_that_waits_is_not_waited_for() -> None:
    """It is on no thread of its own: its context says whose it is."""
    publisher = TaskOrchestrator()._rt.publisher
    call = Call(Receiver("done", print))
    publisher._apart[object()] = call
    token = RECEIVING.set(call)
    try:
        with publisher.excused():
            assert call.excused
            assert publisher.is_served()
    finally:
        RECEIVING.reset(token)
    assert not call.excused


def test_a_publisher_that_sleeps_is_woken_once_to_end() -> None:
    publisher = TaskOrchestrator()._rt.publisher
    publisher._asleep = True
    publisher.close()
    publisher.close()
    assert publisher._wake.acquire(blocking=False)
    assert not publisher._asleep


def test_what_nobody_can_be_found_to_tell_has_not_been_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The system may have no thread for the publisher, for a while."""

    orch = TaskOrchestrator()
    publisher = orch._rt.publisher
    told = threading.Event()
    assert publisher.is_served()
    with monkeypatch.context() as patch:
        patch.setattr(_publisher.Publisher, "_begin", out_of_threads)
        with orch._rt.lock:
            publisher.put([(lambda _: told.set(), None)])
        assert not publisher.is_served()
        assert not told.is_set()
    with orch:
        orch.submit(int).result(PATIENCE)
        publisher.begin()
        assert told.wait(PATIENCE)
        eventually(publisher.is_served)


def test_an_async_receiver_is_let_go_of_when_it_has_ended() -> None:
    heard: list[str] = []
    said: list[bool] = []

    async def hear(event: Any) -> None:
        heard.append(event.task_id)
        call = RECEIVING.get()
        assert call in publisher._apart.values()
        assert asyncio.current_task() in publisher._tasks
        said.append(True)

    async def fail_to_hear(_event: Any) -> None:
        raise ValueError

    with TaskOrchestrator() as orch:
        orch.signals.task_completed.connect(hear)
        orch.signals.task_completed.connect(fail_to_hear)
        publisher = orch._rt.publisher
        handle = orch.submit(int)
        assert orch.wait(PATIENCE)
        assert heard == [handle.task_id]
        assert said == [True]
        eventually(lambda: not publisher._tasks)
        assert publisher._apart == {}


def test_an_async_receiver_that_no_loop_is_left_for_is_closed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rt = TaskOrchestrator()._rt
    monkeypatch.setattr(rt.loops, "call", lambda _begin: False)

    async def hear() -> None:
        """Never called."""

    coroutine = hear()
    rt.publisher._await(Receiver("done", print), coroutine)
    assert inspect.getcoroutinestate(coroutine) == inspect.CORO_CLOSED
    assert rt.publisher._apart == {}


def test_who_is_called_is_known_while_he_is(monkeypatch: pytest.MonkeyPatch) -> None:
    publisher: Any = TaskOrchestrator()._rt.publisher
    monkeypatch.setattr(_publisher, "monotonic", lambda: 100.0)
    seen: list[Any] = []

    def receive(event: Any) -> None:
        seen.append((event, publisher._calling, publisher._calling.since))

    call = Call(Receiver("done", receive))
    call.since = 1.0
    publisher._deliver(call, "one")
    assert seen == [("one", call, 100.0)]
    assert publisher._calling is None


def test_who_was_slow_goes_on_with_what_has_come_for_him() -> None:
    """On the thread that he has kept, while another serves the others."""
    publisher: Any = TaskOrchestrator()._rt.publisher
    seen: list[Any] = []

    def receive(event: Any) -> None:
        seen.append(event)
        if event == "one":
            publisher._calling = None
            receiver.own = receiver.busy = True
            receiver.backlog.append("other")

    receiver = Receiver("done", receive)
    publisher._deliver(Call(receiver), "one")
    assert seen == ["one", "other"]
    assert not receiver.busy
    assert publisher._apart == {}


def test_a_slow_receiver_has_one_thread_of_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    publisher: Any = TaskOrchestrator()._rt.publisher
    receiver = Receiver("done", print)
    receiver.own = True
    monkeypatch.setattr(threading.Thread, "start", lambda _: None)
    for event in ("one", "other"):
        publisher._hand_over(receiver, event)
        assert receiver.busy
        [(thread, call)] = publisher._apart.items()
        assert thread.daemon
        assert call.receiver is receiver
    assert list(receiver.backlog) == ["one", "other"]


def test_one_who_holds_the_thread_for_too_long_keeps_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Another takes over then, and not before, if the system has one."""
    publisher: Any = TaskOrchestrator()._rt.publisher
    now, begun = [100.25], []
    monkeypatch.setattr(_publisher, "monotonic", lambda: now[0])
    publisher._thread = before = threading.current_thread()
    publisher._calling = call = Call(Receiver("done", print))
    publisher.slow_after = 1.0
    call.since = 100.0
    assert publisher.relieve() == 0.75
    assert publisher._calling is call
    now[0] = 101.0
    with monkeypatch.context() as patch:
        patch.setattr(_publisher.Publisher, "_begin", out_of_threads)
        assert publisher.relieve() == 1.0
        assert publisher._calling is call
        assert publisher._apart == {}
        assert not call.receiver.own
        assert not call.receiver.busy
    monkeypatch.setattr(_publisher.Publisher, "_begin", lambda _: begun.append(1))
    assert publisher.relieve() == 1.0
    assert publisher._calling is None
    assert publisher._apart == {before: call}
    assert call.receiver.own
    assert call.receiver.busy
    assert begun == [1]


def test_a_publisher_that_could_not_begin_is_begun_when_it_is_looked_after(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    publisher: Any = TaskOrchestrator()._rt.publisher
    begun: list[int] = []
    monkeypatch.setattr(_publisher.Publisher, "_begin", lambda _: begun.append(1))
    assert publisher.relieve() is None
    publisher.queue.append((print, None))
    assert publisher.relieve() == publisher.slow_after
    assert begun == [1]
    with monkeypatch.context() as patch:
        patch.setattr(_publisher.Publisher, "_begin", out_of_threads)
        assert publisher.relieve() == publisher.slow_after
    publisher._thread = threading.current_thread()
    assert publisher.relieve() == publisher.slow_after
    assert begun == [1]


def test_who_lost_events_is_told_but_not_that_he_lost_that(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rt: Any = TaskOrchestrator()._rt
    told: list[Any] = []
    monkeypatch.setattr(rt.__class__, "note_locked", lambda _, *said: told.append(said))
    receivers = [Receiver(name, print) for name in ("one", "events_lost", "other")]
    for lost, receiver in enumerate(receivers):
        receiver.lost = 2 - lost
    rt.publisher.receivers = {TaskCompleted: tuple(receivers)}
    rt.publisher._say_lost()
    assert told == [(EventsLost, "one", receivers[0].name, 2)]
    assert [receiver.lost for receiver in receivers] == [0, 0, 0]


def out_of_threads(_self: object) -> None:
    msg = "can't start new thread"
    raise RuntimeError(msg)


def test_a_slow_receiver_that_no_thread_is_left_for_is_called_by_this_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    publisher = TaskOrchestrator()._rt.publisher
    seen: list[Any] = []
    receiver = Receiver("done", seen.append)
    receiver.own = True
    monkeypatch.setattr(threading.Thread, "start", out_of_threads)
    publisher._hand_over(receiver, "one")  # type: ignore[arg-type]
    assert seen == ["one"]
    assert not receiver.busy
    assert publisher._apart == {}


def test_what_waits_for_a_slow_receiver_is_bounded_and_what_is_lost_is_counted() -> (
    None
):
    publisher: Any = TaskOrchestrator()._rt.publisher
    publisher.limit = 2
    receiver = Receiver("done", print)
    receiver.busy = True
    for event in range(4):
        publisher._hand_over(receiver, event)
    assert list(receiver.backlog) == [0, 1]
    assert (receiver.lost, publisher.lost) == (2, 2)
    assert publisher._apart == {}


def test_a_publisher_has_its_thread_once_and_is_looked_after(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As it begins, and when it is woken; one that is at work is so already."""
    rt: Any = TaskOrchestrator()._rt
    publisher, told = rt.publisher, []
    begun, watched = [], []
    monkeypatch.setattr(publisher.__class__, "_loop", lambda _: begun.append(1))
    monkeypatch.setattr(rt.timer, "watch", watched.append)
    publisher.begin()
    thread = publisher._thread
    assert thread is not None
    assert thread.daemon
    thread.join(PATIENCE)
    publisher.begin()
    publisher.put([(told.append, None)])
    assert publisher._thread is thread
    assert watched == [publisher.slow_after]
    publisher._asleep = True
    publisher.put([(told.append, None)])
    assert not publisher._asleep
    assert publisher._wake.acquire(blocking=False)
    assert len(watched) == 2
    publisher._thread = None
    publisher.put([(told.append, None)])
    assert publisher._thread is not None
    publisher._thread.join(PATIENCE)
    assert len(watched) == 3
    assert len(begun) == 2
    assert len(publisher.queue) == 3


def test_facts_are_dropped_once_so_many_wait_as_may() -> None:
    publisher: Any = TaskOrchestrator()._rt.publisher
    publisher._thread = threading.current_thread()
    publisher.limit = 2
    fact = (TaskCompleted, 1)
    for count in (1, 2, 2, 2):
        publisher.put([(fact, None)])
        assert len(publisher.queue) == count


def test_of_too_many_facts_the_newest_are_dropped_and_of_callbacks_none() -> None:
    """Each is lost for all that would have heard of it."""
    with TaskOrchestrator() as orch:
        heard: list[Any] = []
        orch.submit(int).result(PATIENCE)
        assert orch.wait(PATIENCE)
        publisher: Any = orch._rt.publisher
        receivers = [Receiver(name, heard.append) for name in ("one", "other")]
        publisher.receivers = {TaskCompleted: tuple(receivers)}
        fact = (TaskCompleted, 1)
        callback = (print, 1)
        assert publisher._drop([(fact, None), callback, (fact, None)]) == [callback]
        assert [receiver.lost for receiver in receivers] == [2, 2]
        assert publisher.lost == 4
        publisher.receivers = {}
        assert publisher._drop([(fact, None)]) == []
        assert publisher.lost == 4


def test_who_waits_for_receivers_looks_up_now_and_then(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Until his patience is over, or nobody waits for them any more."""
    publisher: Any = TaskOrchestrator()._rt.publisher
    monkeypatch.setattr(_publisher, "monotonic", lambda: now[0])
    now, waits = [100.0], []
    publisher.queue.append((print, None))

    def wait(seconds: float) -> None:
        waits.append(seconds)
        now[0] += seconds
        if len(waits) == 4:
            publisher.queue.clear()

    publisher._idle.wait = wait
    slice_ = _publisher._SLICE
    assert publisher.flush(1.5 * slice_) is False
    assert waits == pytest.approx([slice_, 0.5 * slice_])
    assert not publisher.flush(0.0)
    assert len(waits) == 2
    assert publisher.flush(None)
    assert waits[2:] == [slice_, slice_]
    publisher.queue.append((print, None))
    publisher._rt.waiting.hurried = True
    assert publisher.flush(None) is False
    assert len(waits) == 4
    # The end itself waits for them, for all that it is in a hurry.
    publisher._closing = True
    assert not publisher.flush(slice_)
    assert len(waits) == 5
    publisher._thread = threading.current_thread()
    assert publisher.flush(None)
    assert len(waits) == 5


# -- room ------------------------------------------------------------------------------


def test_while_there_is_no_room_the_pauses_double_up_to_the_longest() -> None:
    """One pause for each look: what is refused before it is time changes nothing."""
    orch = TaskOrchestrator()
    rt: Any = SimpleNamespace(
        kernel=SimpleNamespace(
            end_attempt=lambda *_: None,
            concurrency=8,
            running=2,
            config=SimpleNamespace(concurrency=8),
            limit=lambda slots: setattr(rt.kernel, "concurrency", min(slots, 8)),
        ),
        timer=SimpleNamespace(wake_by=lambda _: None),
        notices=SimpleNamespace(no_room=lambda _: None),
        step=lambda change: change(rt.now),
        now=0,
    )
    room = Room(rt)
    row: Any = None
    work = Work(orch._rt, None, (), {}, "thread", None)  # type: ignore[arg-type]

    def refuse() -> Any:
        room.refuse(row, 1, work, OSError(11, "no more"))
        return room.due - rt.now

    pauses = [refuse(), refuse()]
    for number in range(6):
        rt.now = room.due
        if number % 2:
            # Otherwise the refusal comes before the look.
            room.try_more(rt.now)
        pauses.append(refuse())
    doubled = [_FIRST_PAUSE * 2**n for n in range(7)]
    assert pauses == [_FIRST_PAUSE] + [min(p, _LONGEST_PAUSE) for p in doubled]
    # Ever more are tried as long as there is room, and after a refusal one again.
    steps = []
    for refused in (False, False, True, False):
        if refused:
            rt.kernel.running = rt.kernel.concurrency = 0
            refuse()
        rt.now, before = room.due, rt.kernel.concurrency
        assert not room.try_more(rt.now)
        steps.append(rt.kernel.concurrency - before)
    assert steps == [1, 2, 1, 2]
    # All have begun since: the next time begins anew.
    rt.now, rt.kernel.concurrency = room.due, 8
    assert room.try_more(rt.now)
    assert refuse() == _FIRST_PAUSE


# -- works and controls ----------------------------------------------------------------


def test_what_tells_an_attempt_to_stop_is_made_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also if another thread makes it while this one waits to."""
    with TaskOrchestrator() as orch:
        work: Any = orch.submit(int)
        orch.wait(PATIENCE)

    class Slow:
        """A lock that another thread had, which made it."""

        def __enter__(self) -> None:
            extra_of(work).control = made

        def __exit__(self, *_: object) -> None:
            pass

    extra_of(work).control = None
    made = control_of(work, 5)
    extra_of(work).control = None
    monkeypatch.setattr(_work, "_MAKING", Slow())
    assert control_of(work, 5) is made


# -- the timer -------------------------------------------------------------------------


def a_timer(**owner: Any) -> tuple[Any, Any]:
    """A timer without a thread, and its owner, whose clock is `time`, in ns."""
    put: list[Any] = []
    rt: Any = SimpleNamespace(
        time=0,
        lock=threading.Lock(),
        put=put,
        publisher=SimpleNamespace(put=put.extend),
        **owner,
    )
    rt.now = lambda: rt.time
    timer: Any = TimerThread(rt)
    timer._thread = threading.current_thread()
    return timer, rt


def test_what_is_repeated_is_due_after_each_interval_and_not_while_it_lasts() -> None:
    timer, rt = a_timer()
    calls: list[int] = []
    end = timer.repeat(2.0, lambda: calls.append(rt.time))
    assert timer._until == timer._planned == 2 * NS
    rt.time = 2 * NS - 1
    assert timer._repeat(rt.time) == 2 * NS
    assert rt.put == []
    for seconds in (2, 5):
        # The second time it is under way still, and is not put there again.
        rt.time = seconds * NS
        assert timer._repeat(rt.time) == (seconds + 2) * NS
        assert len(rt.put) == 1
    # Of several, the first that is due.
    timer.repeat(0.5, lambda: None)()
    timer.repeat(9.0, lambda: None)
    assert timer._repeat(rt.time) == 7 * NS
    call, arg = rt.put.pop()
    call(arg)
    assert calls == [5 * NS]
    timer._repeat(7 * NS)
    assert len(rt.put) == 1
    end()
    assert timer._repeat(9 * NS) == 14 * NS
    end()
    assert len(rt.put) == 1


def test_what_is_repeated_though_it_raises_is_put_there_again() -> None:
    timer, rt = a_timer()
    timer.repeat(1.0, partial(fail, ValueError("no")))
    timer._repeat(NS)
    call, arg = rt.put.pop()
    with pytest.raises(ValueError, match="no"):
        call(arg)
    timer._repeat(2 * NS)
    assert rt.put == [(call, arg)]


def test_the_first_report_comes_an_interval_after_monitoring_began() -> None:
    timer, rt = a_timer(monitor_interval=3.0)
    rt.time = 5 * NS
    timer.monitor(on=True)
    assert timer._next_report == timer._until == 8 * NS
    rt.time = 6 * NS
    timer.monitor(on=True)
    assert timer._next_report == 8 * NS
    timer.monitor(on=False)
    assert timer._next_report == NEVER
    timer.monitor(on=False)
    assert not timer._wake.locked()


def test_the_timer_is_woken_for_what_is_due_before_it_meant_to_look() -> None:
    timer, rt = a_timer()
    rt.time = NS
    timer.watch(2.0)
    assert timer._until == timer._planned == 3 * NS
    assert timer._wake.acquire(blocking=False)
    timer.wake_by(4 * NS)
    assert timer._until == timer._planned == 3 * NS
    assert timer._wake.locked()
    timer._planned = 2 * NS
    timer.wake_by(NS)
    assert (timer._until, timer._planned) == (NS, NS)
    assert not timer._wake.locked()


def test_agents_are_excused_if_nobody_looked_for_a_part_of_their_lease() -> None:
    """Of the shortest of those that are here; who has none, or is lost, is not asked."""
    excused: list[int] = []
    agents = {
        name: SimpleNamespace(lease_ns=lease, lost=lost)
        for name, lease, lost in [("a", 0, False), ("b", 40, False), ("c", 8, True)]
    }
    kernel = SimpleNamespace(agents=agents, excuse=excused.append)
    timer, _ = a_timer(kernel=kernel)
    timer._planned = 100
    assert timer._see_that_we_ran(110) == 10
    assert excused == []
    assert timer._see_that_we_ran(111) == 10
    assert excused == [111]
    agents["c"].lost = False
    assert timer._see_that_we_ran(103) == 2
    assert excused == [111, 103]
    agents["b"].lost = agents["c"].lost = True
    assert timer._see_that_we_ran(1000) == NEVER
    assert excused == [111, 103]


@pytest.mark.parametrize(
    ("suspending", "stop", "attempt", "is_held"),
    [
        (True, "suspend", 1, True),
        (True, "cancel", 1, False),
        (False, "suspend", 1, False),
        (True, "suspend", 2, False),
    ],
)
def test_what_was_suspended_on_its_way_is_held_as_it_begins(
    suspending: bool, stop: str, attempt: int, is_held: bool
) -> None:
    """But not if it is to end, or is another attempt by now."""
    rt: Any = TaskOrchestrator()._rt
    told: list[Any] = []
    rt.kernel = SimpleNamespace(
        resume=lambda row, now: told.append(("resume", row, now)),
        suspend=lambda row, now, *, holdable: told.append((row, now, holdable)),
    )
    rt.step = lambda change: change(7)
    extra = SimpleNamespace(suspending=suspending, stop=stop)
    row: Any = SimpleNamespace(extra=extra, attempt=attempt)
    rt.attempts._hold_if_asked(row, 1)
    assert told == ([("resume", row, 7), (row, 7, True)] if is_held else [])
    row.extra = None
    told.clear()
    rt.attempts._hold_if_asked(row, 1)
    assert told == []


# -- failures that nobody asked for ----------------------------------------------------


def test_a_failure_that_somebody_was_just_given_is_not_noted() -> None:
    """It is marked before it is taken out, so whoever comes late sees the mark."""
    with TaskOrchestrator() as orch:
        work: Any = orch.submit(fail, ValueError("seen"))
        assert isinstance(work.exception(PATIENCE), ValueError)
        notices = orch._rt.notices
        assert extra_of(work).is_watched
        notices._enter(_Failed(work._row, work))
        assert not notices._failed


def test_failures_that_somebody_may_ask_for_are_looked_at_now_and_then() -> None:
    with TaskOrchestrator() as orch:
        notices, rt = orch._rt.notices, orch._rt
        work: Any = orch.submit(fail, ValueError("unseen"))
        eventually(lambda: notices._failed)
        with rt.lock:
            now = notices._look_at
            later = notices.look_for_lost(now)
            assert list(notices._failed) == [work.task_id]
            assert later == now + _PACE
            assert notices.look_for_lost(now) == later
        assert isinstance(work.exception(PATIENCE), ValueError)
        with rt.lock:
            assert notices.look_for_lost(later) == NEVER


def test_an_executor_of_ours_is_not_said_to_be_broken() -> None:
    """What a function raises says nothing of where it ran."""

    async def broken() -> None:
        msg = "that of the function"
        raise BrokenProcessPool(msg)

    with TaskOrchestrator() as orch:
        # One that must not run twice is held for a decision.
        work = orch.submit_task(Task.call(broken, idempotent=False, id="x"))
        eventually(lambda: work._row.state is TaskState.BLOCKED)
        assert "broke" not in str(orch.health())
        assert orch._rt.notices._broken == {}
        orch.decide("x", "complete")
        assert work.result(PATIENCE) is None


def test_health_says_what_a_receiver_raised_last() -> None:
    def bad(_event: Any) -> None:
        raise LookupError

    with TaskOrchestrator() as orch:
        orch.signals.task_completed.connect(bad)
        orch.submit(int).result(PATIENCE)
        assert orch.wait(PATIENCE)
        assert ".bad: LookupError" in str(orch.health())


# -- health ----------------------------------------------------------------------------


def health_of(orch: TaskOrchestrator) -> tuple[Any, dict[str, tuple[str, str]]]:
    found = orch.health()
    return found, {one.component: (one.status, one.detail) for one in found.checks}


def test_health_says_whether_it_is_open_and_why_not() -> None:
    orch = TaskOrchestrator()
    found, checks = health_of(orch)
    assert checks["scheduler"] == ("failed", "not started")
    assert (found.status, found.live, found.ready) == ("failed", False, False)
    with orch:
        found, checks = health_of(orch)
        assert checks["scheduler"] == ("ok", "")
        assert checks["slots"] == ("ok", "")
        assert checks["receivers"] == ("ok", "")
        assert checks["journal"][0] == "ok"
        assert (found.status, found.live, found.ready) == ("ok", True, True)
    found, checks = health_of(orch)
    assert checks["scheduler"] == ("failed", "stopped")
    assert (found.live, found.ready) == (False, False)
    orch._rt.notices.cut_short = "too late"
    assert health_of(orch)[1]["scheduler"] == ("failed", "stopped: too late")
    orch._rt.fault = InternalError("planted")
    assert health_of(orch)[1]["scheduler"] == ("failed", "planted")


def test_health_counts_slots_and_events_that_are_lost() -> None:
    with TaskOrchestrator(concurrency=2) as orch:
        rt: Any = orch._rt
        for count, ready in [(1, True), (2, False), (3, False)]:
            rt.kernel.leaked[f"x{count}", 1] = None
            found, checks = health_of(orch)
            said = f"{count} held by work that would not stop"
            assert checks["slots"] == ("degraded", said)
            assert (found.status, found.live, found.ready) == (
                "degraded",
                True,
                ready,
            )
        rt.kernel.leaked.clear()
        slow, busy, own = (Receiver("done", print) for _ in range(3))
        slow.own = slow.busy = busy.busy = own.own = True
        for number, receiver in enumerate((slow, busy, own)):
            receiver.name = f"r{number}"
        rt.publisher.receivers = {TaskCompleted: (slow, busy), EventsLost: (own,)}
        assert health_of(orch)[1]["receivers"] == ("degraded", "slow: r0")
        rt.publisher.lost = 2
        said = "slow: r0; 2 events lost"
        assert health_of(orch)[1]["receivers"] == ("degraded", said)
        rt.publisher.receivers = {}
        found, checks = health_of(orch)
        assert checks["receivers"] == ("degraded", "2 events lost")
        assert found.ready


def test_a_journal_says_itself_what_ails_it(committer: Any) -> None:
    """Or it is said for it."""
    rt = committer._rt
    troubles: list[str] = []
    committer.journal = SimpleNamespace(
        troubles=lambda: list(troubles), description=lambda: "all is well"
    )
    assert _reports._journal(rt).detail == "all is well"
    for trouble, said, detail in [
        ("full", [], "full"),
        ("full", ["full: of data", "old"], "full: of data; old"),
        ("full", ["old", "full"], "old; full"),
        ("full", ["old"], "full; old"),
        ("", ["old"], "old"),
    ]:
        committer.trouble, troubles[:] = trouble, said
        check = _reports._journal(rt)
        assert (check.component, check.status) == ("journal", "degraded")
        assert check.detail == detail
    rt.started, rt.opened = True, True
    committer.trouble = "full"
    assert not _reports.health(rt).ready
    committer.trouble = ""
    assert _reports.health(rt).ready
    rt.started = False


def test_a_status_says_no_more_than_there_is() -> None:
    with TaskOrchestrator() as orch:
        handle = orch.submit(int)
        handle.result(PATIENCE)
        status = orch.get_task_status(handle.task_id)
        assert (status.priority, status.progress, status.attempts) == (0, None, 1)
        assert (status.blocked_by, status.log_path, status.owner) == ((), None, None)
        assert (status.result, status.error) == (0, None)
        assert dict(status.metadata) == dict(status.late_results) == {}
        held = orch.submit_task(Task.wait_for("go"))
        eventually(lambda: held._row.state is TaskState.BLOCKED)  # type: ignore[attr-defined]
        status = orch.get_task_status(held.task_id)
        assert status.blocked_by == ("event",)
        assert (status.error, status.started, status.ended) == (None, None, None)
        orch.emit("go")


# -- the end ---------------------------------------------------------------------------


def test_a_stop_that_was_given_up_has_no_time_left() -> None:
    """Before, it has what it was given."""
    lifecycle = TaskOrchestrator()._lifecycle
    assert lifecycle._left(5.0) == 5.0
    lifecycle.give_up()
    assert lifecycle._left(5.0) == 0.0
    lifecycle._end = monotonic() + 1000
    assert lifecycle._left(5.0) == 5.0
    assert 5.0 < lifecycle._left(5000.0) <= 1000


def test_a_signal_leaves_what_its_time_has_not_used_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lifecycle = TaskOrchestrator()._lifecycle
    monkeypatch.setattr(_lifecycle, "monotonic", lambda: 103.0)
    lifecycle.signal_timeout = 10.0
    assert lifecycle.signal_left() == 10.0
    lifecycle.stop_signal = _interrupts.StopSignal(signal.SIGTERM)
    for came, left in [(100.0, 7.0), (90.0, 0.0)]:
        lifecycle.stop_signal.at = came
        assert lifecycle.signal_left() == left


@pytest.mark.parametrize(
    ("active", "starts", "is_calm"),
    [(0, [], True), (1, [], False), (0, ["x"], False), (1, ["x"], False)],
)
def test_once_it_is_closed_it_is_quiet_when_nothing_runs(
    active: int, starts: Any, is_calm: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is due later does not matter any more."""
    rt: Any = TaskOrchestrator()._rt
    kernel = SimpleNamespace(active=active, starts=starts, quiescent=lambda: False)
    monkeypatch.setattr(rt, "kernel", kernel)
    assert rt.is_quiet() is False
    rt.closed = True
    assert rt.is_quiet() is is_calm


def test_attempts_are_waited_for_as_long_as_there_is_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In slices, since somebody who has less of it may come."""
    orch = TaskOrchestrator()
    lifecycle, rt = orch._lifecycle, orch._rt
    kernel: Any = SimpleNamespace(active=1, tasks={})
    monkeypatch.setattr(rt, "kernel", kernel)
    now, waits = [100.0], []
    monkeypatch.setattr(_lifecycle, "monotonic", lambda: now[0])

    class Gate:
        def set(self) -> None:
            """Nobody does."""

        def wait(self, seconds: float) -> bool:
            waits.append(seconds)
            now[0] += seconds
            return not kernel.active

    monkeypatch.setattr(_lifecycle, "Gate", Gate)
    slice_, moment = _lifecycle._SLICE, _lifecycle._MOMENT
    for end, seconds, slices in [
        (None, 2.5 * slice_, [slice_, slice_, 0.5 * slice_]),
        (100.0 + 5 * slice_, 1.5 * slice_, [slice_, 0.5 * slice_]),
        (100.0 + 1.5 * slice_, 9 * slice_, [slice_, 0.5 * slice_]),
        (0.0, moment, [moment]),
    ]:
        now[0], lifecycle._end = 100.0, end
        lifecycle._await_end(seconds)
        assert waits == pytest.approx(slices)
        assert rt.waiting.quiet == []
        waits.clear()
    kernel.active = 0
    lifecycle._await_end(1.0)
    assert waits == []


def test_of_two_interrupts_in_the_drain_the_second_ends_it_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """After the first, it may be stopped once more."""
    orch = TaskOrchestrator()
    lifecycle = orch._lifecycle

    def drain() -> bool:
        raise KeyboardInterrupt

    monkeypatch.setattr(lifecycle, "_drain", drain)
    orch.start()
    for is_over in (False, True):
        with pytest.raises(KeyboardInterrupt):
            orch.stop()
        assert lifecycle.is_over is is_over
        assert not lifecycle._is_stopping
    assert orch.stop().drained is False


def test_a_drain_waits_for_the_end_of_a_trouble_that_passes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """And for what goes on then; it is over when that does not come."""
    orch = TaskOrchestrator()
    lifecycle, rt = orch._lifecycle, orch._rt
    asked: list[Any] = []
    committer: Any = SimpleNamespace(trouble="full")
    monkeypatch.setattr(rt, "committer", committer)
    monkeypatch.setattr(rt.__class__, "is_quiet", lambda _: True)
    monkeypatch.setattr(
        rt.waiting, "until_quiet", lambda left: asked.append(("quiet", left)) or True
    )

    def recovers(left: Any) -> bool:
        asked.append(("recovers", left))
        committer.trouble = "" if len(asked) > 3 else "full"
        return True

    committer.recovers = recovers
    assert lifecycle._drain() is True
    assert asked == [("quiet", 5.0), ("recovers", None)] * 2 + [("quiet", 5.0)]
    asked.clear()
    committer.trouble, committer.recovers = "full", lambda _left: False
    assert lifecycle._drain() is False
    assert len(asked) == 1
    committer.trouble = ""
    calm = [True, False]
    monkeypatch.setattr(rt.__class__, "is_quiet", lambda _: calm.pop())
    committer.recovers = lambda _left: True
    assert lifecycle._drain() is True
    assert len(asked) == 3


def test_the_end_waits_until_the_grace_is_over_and_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The kernel gives up what does not end in its grace: the end waits for that."""
    orch = TaskOrchestrator(grace=7.0, stop_timeout=PATIENCE)
    lifecycle = orch._lifecycle
    waits: list[tuple[str, float]] = []
    wait = lifecycle._wait

    def waiting(what: Any, most: float) -> Any:
        waits.append((what.__name__, most))
        return wait(what, most)

    monkeypatch.setattr(lifecycle, "_wait", waiting)
    with orch:
        orch.submit(int).result(PATIENCE)
    assert dict(waits)["_await_end"] > 7.0


def test_the_end_waits_for_what_is_being_written(tmp_path: Path) -> None:
    """As long as there is time."""
    waited: list[float] = []

    class Noting:
        """A lock that notes how long anybody would wait for it."""

        def __init__(self, lock: Any) -> None:
            self.lock = lock

        def acquire(self, *, timeout: float) -> bool:
            waited.append(timeout)
            taken: bool = self.lock.acquire(timeout=timeout)
            return taken

        def __getattr__(self, name: str) -> Any:
            return getattr(self.lock, name)

        def __enter__(self) -> None:
            self.lock.acquire()

        def __exit__(self, *_: object) -> None:
            self.lock.release()

    orch = TaskOrchestrator(journal=tmp_path / "runs.db", stop_timeout=PATIENCE)
    committer: Any = orch._rt.committer
    committer._writing = Noting(committer._writing)
    with orch:
        orch.submit(int).result(PATIENCE)
    assert waited[-1] > 0


def test_a_bare_journal_is_read_from_where_it_is_asked_for() -> None:
    journal = MemoryJournal(keep_events=True)
    with TaskOrchestrator(journal=journal) as orch:
        orch.submit(int).result(PATIENCE)
    entries = list(journal.read())
    assert len(entries) > 2
    assert list(BareJournal(journal).read()) == entries
    assert list(BareJournal(journal).read(2)) == entries[2:]


class Gated(SqliteJournal):
    """A journal that is not through with a group until the gate is open."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, durability="process")
        self.gate, self.came = threading.Event(), threading.Event()
        self.gate.set()

    def append(self, epoch: int, group: Any) -> None:
        if not self.gate.is_set():
            self.came.set()
        assert self.gate.wait(PATIENCE)
        super().append(epoch, group)


def test_an_end_that_is_on_its_way_is_not_said_to_be_lost(tmp_path: Path) -> None:
    journal = Gated(tmp_path / "runs.db")
    with TaskOrchestrator(journal=journal, stop_timeout=PATIENCE) as orch:
        orch.submit(int).result(PATIENCE)
        recovered: Any = orch._rt.directory.recovered
        commits: Any = orch._rt.committer.commits  # type: ignore[union-attr]
        eventually(lambda: not (commits.pending or commits.in_hand))
        with pytest.raises(ResultGoneError, match="not in the journal"):
            recovered.recollect("nobody", TaskState.COMPLETED)
        journal.gate.clear()
        other = threading.Thread(target=orch.submit, args=(int,))
        other.start()
        assert journal.came.wait(PATIENCE)
        assert commits.in_hand
        assert not commits.pending
        with pytest.raises(JournalUnavailableError, match="not kept yet"):
            recovered.recollect("nobody", TaskState.COMPLETED)
        journal.gate.set()
        other.join(PATIENCE)


def test_who_joins_releases_nobody_where_nobody_is_blocked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a hundred thousand tasks, to look at each of them would take a while."""
    looked: list[str] = []

    def look(kernel: Any, row: Any, now: int) -> None:
        looked.append(row.id)
        release(kernel, row, now)

    release = _runtime.release_if_back
    monkeypatch.setattr(_runtime, "release_if_back", look)
    with TaskOrchestrator(journal=tmp_path / "runs.db") as orch:
        orch.submit(int).result(PATIENCE)
        orch.agent("a", capabilities={"x"})(lambda task, context: None)
        assert looked == []
        held = orch.submit_task(Task.wait_for("go", id="w"))
        eventually(lambda: orch._rt.kernel.blocked)
        orch.agent("b", capabilities={"y"})(lambda task, context: None)
        assert "w" in looked
        orch.emit("go")
        held.result(PATIENCE)


def test_a_loop_that_does_the_work_is_not_blocked_though_it_opened_the_journal(
    tmp_path: Path,
) -> None:
    """In a notebook a plain call opens it: later the loop may be the orchestrator's."""

    async def main() -> None:
        orch = TaskOrchestrator(journal=tmp_path / "runs.db")
        assert orch.submit(int).task_id
        assert orch.submit(int).task_id
        async with orch:
            with pytest.raises(WouldBlockError):
                orch.submit(int)

    asyncio.run(main())


# -- the thread of the journal ---------------------------------------------------------


class Waits:
    """What a thread sleeps on: it notes for how long, and then comes what is to come."""

    def __init__(self, *comes: Any) -> None:
        self.comes = list(comes)
        self.seconds: list[float | None] = []

    def acquire(self, timeout: float | None = None) -> bool:
        self.seconds.append(timeout)
        come = self.comes.pop(0)
        return bool(come()) if callable(come) else bool(come)


@pytest.fixture(name="committer")
def _idle_committer(tmp_path: Path) -> Any:
    """One that writes nothing: nobody has begun."""
    return TaskOrchestrator(journal=tmp_path / "runs.db")._rt.committer


def test_while_the_journal_is_in_trouble_the_pauses_double_up_to_the_longest(
    committer: Any,
) -> None:
    def close() -> None:
        committer._closing = True

    committer.trouble = "the disk is full"
    committer._wake = wake = Waits(*[False] * 6, close)
    committer._write()
    first, longest = _committer._FIRST_PAUSE, _committer._LONGEST_PAUSE
    assert wake.seconds == [min(first * 2**n, longest) for n in range(7)]
    # At the end, nobody waits any more.
    committer._wake = wake = Waits()
    committer._write()
    assert wake.seconds == []


def test_after_the_trouble_the_pauses_begin_anew(committer: Any) -> None:
    def recover() -> None:
        committer.trouble = ""

    def fail_again() -> None:
        committer.trouble = "the disk is full"
        committer._hurry = True

    def close() -> None:
        committer._closing = True

    committer.trouble = "the disk is full"
    committer._wake = wake = Waits(False, recover, fail_again, close)
    committer._needs_upkeep = lambda: False
    committer._write()
    first = _committer._FIRST_PAUSE
    assert wake.seconds == [first, 2 * first, None, first]


def test_what_nobody_waits_for_waits_for_company_as_long_as_somebody_writes(
    committer: Any,
) -> None:
    """And after a large group for a moment anyhow."""

    def written() -> None:
        committer.commits.committed += 1

    def close() -> None:
        committer._closing = True

    leisure, breath = _committer._LEISURE, _committer._BREATH
    committer._needs_upkeep = lambda: False
    committer._is_busy = True
    committer._wake = wake = Waits(True, True, written, close)
    committer._woken = True
    committer._write()
    assert wake.seconds == [None, breath, leisure, leisure]
    assert not committer._woken
    committer._closing = committer._is_busy = False

    def hurry() -> None:
        committer._hurry = committer._closing = True

    committer._wake = wake = Waits(hurry)
    committer._write()
    assert wake.seconds == [None]
    assert not committer._hurry


def test_a_journal_puts_itself_in_order_when_there_is_nothing_to_write(
    committer: Any,
) -> None:
    kept: list[str] = []
    needs = [True, True, False]
    committer._needs_upkeep = lambda: needs.pop(0)
    committer._upkeep = lambda: kept.append("in order")
    calm, longest = _committer._CALM, _committer._LONGEST_PAUSE
    committer._wake = wake = Waits(False, False, True)
    committer._sleep()
    assert wake.seconds == [calm, longest, None]
    assert len(kept) == 2
    # What is to be written comes first.
    needs[:] = [True]
    committer._wake = wake = Waits(True)
    committer._sleep()
    assert wake.seconds == [calm]
    assert len(kept) == 2


def test_who_closes_a_journal_in_trouble_saves_no_state(committer: Any) -> None:
    saved: list[str] = []
    committer._save_last = lambda: saved.append("state")
    for trouble in ("the disk is full", ""):
        committer.trouble = trouble
        committer.close(PATIENCE)
    assert saved == ["state"]


def test_a_thread_that_is_closed_before_it_began_never_begins(committer: Any) -> None:
    committer._closing = True
    committer.begin()
    assert committer._thread is None


def test_an_attempt_waits_for_what_it_keeps_through_any_trouble(committer: Any) -> None:
    """Until it is over itself."""
    tried: list[int] = []

    def wait_kept(seq: int) -> None:
        tried.append(seq)
        if len(tried) < 3:
            msg = "the disk is full"
            raise JournalUnavailableError(msg, outcome="unknown")

    committer.wait_kept = wait_kept
    committer.wait_kept_unless(5, lambda: False)
    assert tried == [5, 5, 5]
    tried.clear()
    with pytest.raises(JournalUnavailableError):
        committer.wait_kept_unless(5, lambda: True)
    assert tried == [5]


def test_who_waits_for_the_end_of_the_trouble_hears_at_once_where_there_is_none(
    committer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []

    class Never:
        set = None

        def wait(self, seconds: float) -> bool:
            waits.append(seconds)
            return False

    monkeypatch.setattr(_committer, "Gate", Never)
    assert committer.recovers(0.0)
    committer.trouble = "the disk is full"
    committer.commits.committed = -1
    patience = _committer._PATIENCE
    for timeout in (None, 1.0, 2 * patience):
        assert not committer.recovers(timeout)
    assert waits == [patience, 1.0, patience]
    committer._rt.fault = InternalError("planted")
    assert not committer.recovers(None)
    assert len(waits) == 3


class Row:
    """What there is of a task, as far as its beginning goes."""

    def __init__(self) -> None:
        self.attempt = 1
        self.state = TaskState.RUNNING
        self.bucket = SimpleNamespace(spec=SimpleNamespace(idempotent=True))
        self.cargo = SimpleNamespace(_born=5)


def test_what_was_given_up_before_it_began_does_not_begin(
    committer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And an attempt that was called off is not ended once more."""
    rt = committer._rt
    ended: list[Any] = []
    monkeypatch.setattr(
        rt.kernel.__class__, "end_attempt", lambda _, *said: ended.append(said[:3])
    )
    row = Row()
    begin = committer._beginning_of(row, 1, "work")
    begin()
    assert committer.ready == ended == []
    committer.held[row, 1] = None
    begin()
    assert committer.ready == [(row, 1, "work")]
    assert committer.held == {}
    for row.attempt, row.state in [(1, TaskState.CANCELLED), (2, TaskState.RUNNING)]:
        committer.held[row, 1] = None
        begin()
        assert ended.pop() == (row, 1, "stopped")
        assert committer.held == {}
    assert len(committer.ready) == 1


def test_an_attempt_begins_at_once_if_its_submission_is_kept(committer: Any) -> None:
    """But where it must not run twice, or others are to begin first."""
    row = Row()
    spec = row.bucket.spec
    committer.commits.committed = 5
    committer.last = 6
    assert committer.may_begin(row)
    assert committer.starts([row]) == [(row, 1, row.cargo)]
    spec.idempotent = False
    assert not committer.may_begin(row)
    committer.hush = True
    assert committer.starts([row]) == []
    assert list(committer.held) == [(row, 1)]
    spec.idempotent = True
    row.cargo._born = 6
    assert not committer.may_begin(row)
    row.cargo._born = 5
    committer.ready.append("another")
    assert not committer.may_begin(row)
    assert committer.starts([row]) == ["another", (row, 1, row.cargo)]
    assert committer.ready == []


def test_the_thread_is_woken_for_what_is_held_back_unless_the_caller_writes(
    committer: Any,
) -> None:
    pokes: list[bool] = []
    committer.poke = lambda *, hurry=True: pokes.append(hurry)
    row = Row()
    committer.starts([row])
    assert pokes == [True]
    committer.hush = True
    committer.starts([row])
    committer.commits.committed = 5
    committer.hush = False
    committer.starts([row])
    assert pokes == [True]


@in_loop
async def test_a_coroutine_waits_until_what_it_asked_for_is_kept(
    committer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """But not where nothing will be kept any more."""
    monkeypatch.setattr(_committer, "_PATIENCE", 10 * PATIENCE)
    committer.commits.committed = 5
    await committer.wait_kept_async([])
    await committer.wait_kept_async([3, 5, 4])
    waits = [
        asyncio.create_task(committer.wait_kept_async(seqs)) for seqs in ([6], [3, 7])
    ]
    while len(committer._loops) < 2:  # noqa: ASYNC110 - they begin to wait
        await asyncio.sleep(0)
    committer._tell_loops(6)
    await waits[0]
    assert [seq for seq, *_ in committer._loops] == [7]
    assert not waits[1].done()
    committer._rt.fault = InternalError("planted")
    with committer._rt.lock:
        committer.lost()
    with pytest.raises(InternalError, match="planted"):
        await waits[1]
    assert committer._loops == []
    with pytest.raises(InternalError, match="planted"):
        await committer.wait_kept_async([8])
    assert committer._loops == []


@pytest.mark.parametrize("has_cause", [True, False])
def test_a_journal_that_is_lost_as_it_is_opened_is_told_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_cause: bool
) -> None:
    """And nothing else is told as if it were the journal."""
    lost = JournalError("gone")
    for raised in (InternalError("planted"), ValueError("planted")):
        orch = TaskOrchestrator(journal=tmp_path / f"{type(raised).__name__}.db")

        def run(_self: object, rt: Any = orch._rt, raised: Any = raised) -> None:
            rt.fault = InternalError("planted")
            rt.fault.__cause__ = lost if has_cause else ValueError("other")
            raise raised

        monkeypatch.setattr(_opening.Recovery, "run", run)
        with pytest.raises(Exception) as caught:
            orch.start()
        is_told = has_cause and isinstance(raised, InternalError)
        assert caught.value is (lost if is_told else raised)
        assert orch._rt.closed


def test_a_journal_whose_thread_the_system_has_not_is_not_begun_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    orch = TaskOrchestrator(journal=tmp_path / "runs.db")
    with monkeypatch.context() as patch:
        patch.setattr(_committer, "begin_thread", out_of_threads_for)
        with pytest.raises(NotRunningError, match="can't start new thread"):
            orch.start()
    with orch:
        assert orch.submit(int).result(PATIENCE) == 0


def out_of_threads_for(_run: object, _name: str) -> None:
    out_of_threads(None)


# -- what is known ---------------------------------------------------------------------


def test_what_is_known_of_functions_and_options_is_bounded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_plain, "_MANY", 3)
    monkeypatch.setattr(_calls, "_MANY", 3)
    with TaskOrchestrator() as orch:
        plain, known = orch._rt.submission.plain, orch._rt.known_calls
        bucket: Any = SimpleNamespace(forgotten=False)
        sizes = []
        for number in range(6):
            plain.remember(number, bucket)
            assert plain.known(number) is bucket

            def call(number: int = number) -> int:
                return number

            call.__qualname__ = f"call{number}"
            assert orch.submit(call).result(PATIENCE) == number
            sizes.append((len(plain._known), len(known)))
        assert sizes == [(1, 1), (2, 2), (3, 3), (4, 4), (1, 1), (2, 2)]
        bucket.forgotten = True
        assert plain.known(5) is None
        assert plain.known(None) is None
        assert plain.known("other") is None


# -- policies --------------------------------------------------------------------------


def test_whoever_is_asked_is_named_while_he_is() -> None:
    asked: dict[str, list[tuple[str, float, int]]] = {}

    class Router(PerformanceRouter):
        def route(self, task: Any, candidates: Any, context: Any) -> Any:
            asked["router"] = orch._rt.deciders.asked()
            return super().route(task, candidates, context)

    class Queue(PriorityQueue):
        def order(self, task: Any, context: Any) -> Any:
            asked["queue"] = orch._rt.deciders.asked()
            return super().order(task, context)

    orch = TaskOrchestrator(router=Router(), queue=Queue())
    orch.agent("a", capabilities={"x"})(lambda task, context: None)
    before = monotonic()
    with orch:
        orch.submit_task(Task("x")).result(PATIENCE)
        assert orch._rt.deciders.asked() == []
    for part in ("router", "queue"):
        [(name, since, _)] = asked[part]
        assert name == part
        assert before <= since <= monotonic()


def test_a_retry_handler_is_told_the_seconds_since_the_first_attempt() -> None:
    told: list[float] = []
    delays: list[float] = []

    class Handler(BackoffRetryHandler):
        def decide(self, failure: Any, context: Any) -> Any:
            told.append(failure.elapsed)
            delays.append(failure.last_delay)
            return super().decide(failure, context)

    begin = monotonic()
    with TaskOrchestrator(retry_handler=Handler()) as orch:
        retry = RetryPolicy(2, base=0.001)
        orch.submit_task(Task.call(divmod, 1, 0, retry=retry)).exception(PATIENCE)
    assert len(told) == 2
    assert delays[0] == 0.0 < delays[1] < 1.0
    assert 0 < told[0] < told[1] <= monotonic() - begin


# -- signals ---------------------------------------------------------------------------


def test_a_main_task_is_there_once_asyncio_run_has_made_it() -> None:
    """Not in the moments before, when its frame has none of it or only one half."""

    def found(**names: Any) -> Any:
        frame: Any = SimpleNamespace(
            f_code=Runner.run.__code__, f_locals=names, f_back=None
        )
        inner: Any = SimpleNamespace(f_code=None, f_locals={}, f_back=frame)
        return _interrupts._main_task(inner)

    assert found() is None
    assert found(self="runner") is None
    assert found(task="task") is None
    assert found(self="runner", task="task") == ("runner", "task")


def test_a_signal_to_stop_ends_the_process_as_a_shell_would_say_it() -> None:
    stop = _interrupts.StopSignal(signal.SIGTERM)
    assert stop.code == 128 + signal.SIGTERM
    assert stop.name == "SIGTERM"


# -- lives -----------------------------------------------------------------------------


def test_ids_of_the_second_lives_of_two_journals_differ(tmp_path: Path) -> None:
    """As those of any two do that were given no seed."""
    ids = set()
    for name in ("one.db", "other.db"):
        for _ in range(2):
            with TaskOrchestrator(journal=tmp_path / name) as orch:
                handle = orch.submit(int)
                handle.result(PATIENCE)
                ids.add(handle.task_id.partition("-")[0])
    assert len(ids) == 4


# -- who holds up all others -----------------------------------------------------------


def test_where_a_thread_stands_is_its_innermost_call() -> None:
    began, go = threading.Event(), threading.Lock()

    def innermost() -> None:
        began.set()
        # No function of Python's is called: this is where it stands.
        go.acquire()

    def outer() -> None:
        innermost()

    go.acquire()
    thread = threading.Thread(target=outer)
    thread.start()
    began.wait(PATIENCE)
    eventually(lambda: ": in innermost, " in _blocked._where(thread.ident or 0))
    assert f"{__file__}:" in _blocked._where(thread.ident or 0)
    go.release()
    thread.join(PATIENCE)
    assert _blocked._where(0) == ""


def test_a_loop_that_no_thread_is_left_for_is_closed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """And another is made once there is one."""
    loops = TaskOrchestrator()._rt.loops
    made: list[Any] = []
    make = asyncio.new_event_loop

    def new_loop() -> Any:
        made.append(make())
        return made[-1]

    monkeypatch.setattr(_loops.asyncio, "new_event_loop", new_loop)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", out_of_threads)
        with pytest.raises(RuntimeError, match="can't start"):
            loops.get()
    assert made[0].is_closed()
    assert loops.loop is None
    loop = loops.get()
    assert loop is loops.get() is made[1]
    assert loops._thread is not None
    assert loops._thread.daemon
    loops.close(PATIENCE)
    assert not loops._thread.is_alive()
    assert loop.is_closed()
    loops.close(PATIENCE)


def test_nobody_wakes_a_loop_for_an_orchestrator_that_has_ended():
    async def main():
        async with TaskOrchestrator() as orch:
            loops = orch._rt.loops
            assert loops._pulse is not None
        while not loops._pulse.cancelled():  # noqa: ASYNC110 - the loop does that
            await asyncio.sleep(0.001)

    asyncio.run(asyncio.wait_for(main(), PATIENCE))
