"""Whatever ends a thread of ours ends the orchestrator, and says so: nobody waits."""

from __future__ import annotations

import asyncio
import ctypes
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from tests.api.tools import PATIENCE, Hold, eventually

from taskorch import Program, ProgramFailedError, Task, TaskOrchestrator
from taskorch.errors import InternalError
from taskorch.events import OrchestratorStarted

# CPython 3.11 may never return from a frame that is traced when such an exception meets
# it.
pytestmark = pytest.mark.slow("not to be measured")


class Planted(BaseException):
    """What no code of ours expects."""


def end_thread(orch: TaskOrchestrator, name: str, wake: Callable[[], object]) -> None:
    """Raise in the thread of that name, as CPython lets one; *wake* lets it run."""
    threads = [t for t in threading.enumerate() if t.name == f"taskorch-{name}"]
    mine = [t for t in threads if t in threads_of(orch)]
    assert len(mine) == 1, threads
    raise_in(mine[0], wake)


def raise_in(thread: threading.Thread, wake: Callable[[], object]) -> None:
    """As `end_thread`."""
    ident, planted = ctypes.c_ulong(thread.ident or 0), ctypes.py_object(Planted)

    def is_over() -> bool:
        # Python prints what is raised in the midst of a finaliser, and goes on.
        if ctypes.pythonapi.PyThreadState_SetAsyncExc(ident, planted):
            wake()
            thread.join(0.2)
        return not thread.is_alive()

    eventually(is_over)


def threads_of(orch: TaskOrchestrator) -> list[threading.Thread | None]:
    """The threads of *orch*, and of no other that is there yet."""
    rt: Any = orch._rt
    return [
        rt.timer._thread,
        rt.publisher._thread,
        rt.loops._thread,
        None if rt.committer is None else rt.committer._thread,
        *rt.publisher._apart,
        *rt.threads._threads,
    ]


def assert_stopped(orch: TaskOrchestrator, handle: Any) -> None:
    """Health names the cause, those who wait are told, and nothing more is taken."""
    eventually(lambda: orch.health().status == "failed")
    assert "Planted" in str(orch.health())
    assert not orch.health().ready
    with pytest.raises(InternalError, match="Planted"):
        handle.result(PATIENCE)
    with pytest.raises(InternalError):
        orch.submit(int)


async def sleep_long() -> None:
    await asyncio.sleep(PATIENCE)


def note_later(orch: TaskOrchestrator) -> None:
    """The timer has something to do from now on."""
    orch._rt.step(orch._rt.timer.wake_by)


def note_now(orch: TaskOrchestrator) -> None:
    """There is something to keep, which nobody waits for."""
    orch._rt.note(OrchestratorStarted)


def tell_now(orch: TaskOrchestrator) -> None:
    """There is something to tell."""
    with orch._rt.lock:
        orch._rt.publisher.put([(len, ())])


HOLDS: list[Hold] = []


def hold_on() -> None:
    """Hold, for a journal that keeps functions by their names."""
    HOLDS[-1]()


@pytest.fixture(name="hold")
def fixture_hold(caplog: pytest.LogCaptureFixture) -> Iterator[Hold]:
    caplog.set_level(logging.CRITICAL + 1, "taskorch")
    HOLDS.append(Hold())
    yield HOLDS[-1]
    HOLDS.pop().release()


@pytest.mark.parametrize("durable", [False, True], ids=["memory", "file"])
@pytest.mark.parametrize("name", ["timer", "publisher", "journal", "loop", "1"])
def test_what_ends_a_thread_of_ours_stops_all(
    tmp_path: Path, hold: Hold, name: str, *, durable: bool
) -> None:
    """The timer, the publisher, the one that commits, the loop, an idle worker."""
    if name == "journal" and not durable:
        pytest.skip("there is none in memory")
    journal = tmp_path / "journal.db" if durable else None
    with TaskOrchestrator(journal=journal, stop_timeout=5) as orch:
        seen: list[Any] = []
        orch.signals.task_completed.connect(seen.append)
        orch.submit_task(Task.call(int, not_before=3600))
        orch.submit(int, "1").result(PATIENCE)
        eventually(lambda: seen)
        assert orch.wait(0) is False
        if name == "1":
            handle = orch.submit(sleep_long)
            eventually(lambda: orch._rt._idle)

            def wake() -> None:
                with suppress(InternalError):
                    orch.submit(int)
        else:
            orch.submit(sleep_long)
            handle = orch.submit(hold_on)
            hold.wait()

            def wake() -> None:
                wakes = {
                    "timer": note_later,
                    "publisher": tell_now,
                    "journal": note_now,
                    "loop": lambda orch: orch._rt.loops.call(int),
                }
                with suppress(InternalError):
                    wakes[name](orch)

        end_thread(orch, name, wake)
        assert_stopped(orch, handle)
        hold.release()


def test_what_ends_the_thread_of_a_slow_receiver_stops_all(hold: Hold) -> None:
    """It has one of its own by then, which is waited for at the end."""
    with TaskOrchestrator(stop_timeout=5) as orch:
        orch._rt.publisher.slow_after = 0.01
        orch.signals.task_completed.connect(hold)
        handle = orch.submit(sleep_long)
        orch.submit(int).result(PATIENCE)
        hold.wait()
        eventually(lambda: orch._rt.publisher._apart)
        publisher = orch._rt.publisher
        (thread,) = [t for t in publisher._apart if isinstance(t, threading.Thread)]
        hold.release()
        thread.join(PATIENCE)
        hold.go.clear()
        hold.began.clear()
        orch.submit(int).result(PATIENCE)
        hold.wait()
        call = publisher._call
        publisher._call = lambda *_: (_ for _ in ()).throw(Planted)  # type: ignore[method-assign]
        orch.submit(int).result(PATIENCE)
        hold.release()
        assert_stopped(orch, handle)
        publisher._call = call  # type: ignore[method-assign]


def test_what_ends_the_supervisor_of_programs_fails_those_it_had(hold: Hold) -> None:
    """Each is told, and the next one has a new thread."""
    with TaskOrchestrator(stop_timeout=5) as orch:
        first = orch.submit_task(Task("x", Program(["sleep", "600"])))
        eventually(lambda: orch._rt.attempts.programs._executor)
        executor: Any = orch._rt.attempts.programs._executor
        eventually(lambda: executor._runs)
        (run,) = executor._runs
        eventually(lambda: run.process.pid)
        raise_in(executor._thread, lambda: executor._common.loop.call(int))
        with pytest.raises(ProgramFailedError, match="Planted"):
            first.result(PATIENCE)
        again = orch.submit_task(Task("x", Program(["true"])))
        assert again.result(PATIENCE).exit_code == 0
        assert orch.health().status != "failed"
