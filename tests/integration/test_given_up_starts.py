"""A start that is given up at any of its steps: nothing stays open, and nothing starts."""

from __future__ import annotations

import asyncio
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any

import pytest
from tests.integration.tools import PATIENCE, eventually, threads_since

import taskorch
from taskorch import NotRunningError, Task, TaskOrchestrator
from taskorch.journal import SqliteJournal
from taskorch.runtime import _lifecycle

OURS = str(Path(taskorch.__file__).parent)
RAN: list[int] = []


class BrokenError(Exception):
    """What no part expects."""


class Watched(TaskOrchestrator):
    """Does something at one step of its start: a call of a function of the library."""

    step = 0
    seen = 0
    act: Callable[[], object] = staticmethod(lambda: None)

    def start(self) -> None:
        sys.setprofile(self._note)
        try:
            super().start()
        finally:
            sys.setprofile(None)

    def _note(self, frame: Any, event: str, _: object) -> None:
        if event == "call" and frame.f_code.co_filename.startswith(OURS):
            self.seen += 1
            if self.seen == self.step:
                sys.setprofile(None)
                self.act()


def ran(number: int) -> int:
    RAN.append(number)
    return number


def has_begun_to_stop(orch: TaskOrchestrator, ended: threading.Event) -> None:
    """Wait until a stop of *orch* is as far as it gets while the start stands still."""
    for _ in range(50):
        if ended.wait(0.001) or "stopped" in repr(orch):
            return


def stopped_by_a_thread(orch: Watched) -> None:
    threads = []

    def act() -> None:
        ended = threading.Event()

        def stop() -> None:
            orch.stop(drain=False)
            ended.set()

        threads.append(threading.Thread(target=stop))
        threads[0].start()
        has_begun_to_stop(orch, ended)

    orch.act = act
    with suppress(NotRunningError):
        orch.start()
    for thread in threads:
        thread.join(PATIENCE)
        assert not thread.is_alive()
    orch.stop(drain=False)


def cancelled(orch: Watched) -> None:
    async def block() -> None:
        async with orch:
            pass

    async def main() -> None:
        loop = asyncio.get_running_loop()
        entering = asyncio.ensure_future(block())

        def act() -> None:
            loop.call_soon_threadsafe(entering.cancel)
            has_begun_to_stop(orch, threading.Event())

        orch.act = act
        with suppress(asyncio.CancelledError, NotRunningError):
            await asyncio.wait_for(entering, PATIENCE)

    asyncio.run(main())


def broken(orch: Watched) -> None:
    def act() -> None:
        raise BrokenError

    orch.act = act
    # Some of it is a fault of ours, if it comes from within a step.
    with suppress(BrokenError, taskorch.TaskorchError), orch:
        pass


def interrupted(orch: Watched) -> None:
    orch.act = lambda: signal.raise_signal(signal.SIGINT)
    with suppress(KeyboardInterrupt), orch:
        threading.Event().wait(0.01)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


WAYS = [stopped_by_a_thread, cancelled, broken, interrupted]


@pytest.fixture
def journal(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "file":
        return str(tmp_path / "runs.db")
    return str(request.getfixturevalue("postgres").address())


@pytest.fixture(autouse=True)
def _handler() -> Iterator[None]:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    RAN.clear()
    yield
    signal.signal(signal.SIGINT, before)


def kept(journal: str, number: int) -> None:
    """Leave a task for the next life."""
    orch = TaskOrchestrator(journal=journal, durability="process")
    orch.submit_task(Task.call(ran, number, id=f"n{number}"))
    orch.stop()


@pytest.mark.usefixtures("unmeasured")
@pytest.mark.parametrize("journal", ["file", "server"], indirect=True)
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    "count",
    [12, pytest.param(500, marks=[pytest.mark.slow, pytest.mark.timeout(1800)])],
)
def test_a_start_that_is_given_up_leaves_nothing(
    journal: str, way: Callable[[Watched], None], count: int
) -> None:
    """No thread, no claim of the journal; the next start has what was kept."""
    kept(journal, 0)
    whole = Watched(journal=journal, durability="process")
    with whole:
        whole.handle("n0").result(PATIENCE)
    random = Random(count)
    for number in range(1, count + 1):
        kept(journal, number)
        before = set(threading.enumerate())
        orch = Watched(journal=journal, durability="process")
        orch.step = random.randint(1, whole.seen)
        way(orch)
        at = f"at step {orch.step} of {whole.seen}"
        eventually(lambda old=before: not threads_since(old), at)
        with TaskOrchestrator(journal=journal, durability="process") as following:
            assert following.handle(f"n{number}").result(PATIENCE) == number, at
        assert RAN.count(number) == 1, at


class Held(SqliteJournal):
    """A journal whose disk answers the claim when it is told to."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.began, self.go = threading.Event(), threading.Event()

    def claim(self) -> int:
        self.began.set()
        assert self.go.wait(PATIENCE)
        return super().claim()


@pytest.mark.parametrize(
    "begin", [TaskOrchestrator.start, lambda orch: orch.submit(ran, 1)]
)
def test_a_stop_does_not_wait_for_a_disk_that_hangs_in_the_start(
    begin: Callable[[TaskOrchestrator], object],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Whoever opens the journal lets go of it, as soon as the disk answers."""
    monkeypatch.setattr(_lifecycle, "_JOURNAL_MARGIN", 0.0)
    before = set(threading.enumerate())
    journal = Held(tmp_path / "runs.db")
    orch = TaskOrchestrator(journal=journal)
    with ThreadPoolExecutor(1) as pool:
        opening = pool.submit(begin, orch)
        assert journal.began.wait(PATIENCE)
        assert orch.stop(timeout=0).left == ()
        assert "the journal is not closed yet" in caplog.text
        journal.go.set()
        with pytest.raises(NotRunningError):
            opening.result(PATIENCE)
    eventually(lambda: not threads_since(before))
    with TaskOrchestrator(journal=tmp_path / "runs.db") as following:
        assert following.wait(PATIENCE)
    assert RAN == []
