"""A start that is given up at any of its steps: nothing stays open, and nothing starts."""

from __future__ import annotations

import asyncio
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path
from random import Random
from typing import Any

import pytest
from tests.api.tools import PATIENCE, eventually, in_loop, threads_since
from tests.house.pids import is_alive

import taskorch
from taskorch import NotRunningError, PostgresJournal, Task, TaskOrchestrator
from taskorch.api.journal import SqliteJournal
from taskorch.core.engine import _lifecycle
from taskorch.core.inside import Inside
from taskorch.model import AgentTemplate, HealthCheck
from taskorch.policies import AgentPool

SLOW = pytest.mark.slow("many of the steps of a start")

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


LONG = pytest.mark.timeout(1800)
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
    """Leave a task for the next incarnation."""
    orch = TaskOrchestrator(journal=journal, durability="process")
    orch.submit_task(Task.call(ran, number, id=f"n{number}"))
    orch.stop()


def steps(whole: Watched, count: int, way: Callable[..., None]) -> Iterator[int]:
    """One step of each of *count* equal parts of a whole start, others for each way."""
    random = Random(f"{way.__name__} {count}")
    for number in range(count):
        part = range(whole.seen * number // count, whole.seen * (number + 1) // count)
        yield 1 + random.choice(part)


@pytest.mark.usefixtures("unmeasured")
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("journal", "count"),
    [
        ("file", 3),
        ("server", 2),
        pytest.param("file", 500, marks=[SLOW, LONG]),
        pytest.param("server", 500, marks=[SLOW, LONG]),
    ],
    indirect=["journal"],
)
def test_a_start_that_is_given_up_leaves_nothing(
    journal: str, way: Callable[[Watched], None], count: int
) -> None:
    """No thread, no claim of the journal; the next start has what was kept."""
    kept(journal, 0)
    whole = Watched(journal=journal, durability="process")
    with whole:
        whole.handle("n0").result(PATIENCE)
    for number, step in enumerate(steps(whole, count, way), 1):
        kept(journal, number)
        before = set(threading.enumerate())
        orch = Watched(journal=journal, durability="process")
        orch.step = step
        way(orch)
        at = f"at step {orch.step} of {whole.seen}"
        eventually(lambda old=before: not threads_since(old), at)
        with TaskOrchestrator(journal=journal, durability="process") as following:
            assert following.handle(f"n{number}").result(PATIENCE) == number, at
        assert RAN.count(number) == 1, at


def children() -> set[int]:
    """The processes that this one has begun, and that have not ended."""
    found: set[int] = set()
    for file in Path("/proc/self/task").glob("*/children"):
        # A thread that has ended since has no file any more.
        with suppress(OSError):
            found.update(map(int, file.read_text().split()))
    return {pid for pid in found if is_alive(pid)}


def with_pool(orch: TaskOrchestrator, _folder: Path) -> None:
    """A fleet that grows with the work, a schedule and a budget."""
    template = AgentTemplate("more", capabilities={"x": 1}, handler=print)
    orch.drivers.add(AgentPool(template, min_agents=1, max_agents=3, interval=60))
    orch.schedules.add("hourly", 3600.0, Task.call(ran, -1))
    orch.budget("calls", calls=5)


def with_readers(orch: TaskOrchestrator, _folder: Path) -> None:
    """A health check and a listener that look at everything."""
    orch.signals.orchestrator_started.connect(lambda _event: orch.get_stats())
    Inside(orch).add_check(lambda: HealthCheck("mine", "ok", str(orch.get_stats())))


@pytest.mark.usefixtures("unmeasured")
@pytest.mark.parametrize("way", [stopped_by_a_thread, cancelled, broken])
@pytest.mark.parametrize(
    ("equip", "count"),
    [
        (with_pool, 2),
        (with_readers, 2),
        pytest.param(with_pool, 60, marks=[SLOW, LONG]),
    ],
)
def test_a_start_with_more_parts_that_is_given_up_leaves_nothing(
    tmp_path: Path,
    equip: Callable[[TaskOrchestrator, Path], None],
    way: Callable[[Watched], None],
    count: int,
) -> None:
    """No thread, no process, no claim; the next start has what was kept."""
    journal = str(tmp_path / "runs.db")
    whole = Watched(journal=journal, durability="process")
    equip(whole, tmp_path)
    with whole:
        whole.stop(drain=False)
    for number, step in enumerate(steps(whole, count, way), 1):
        kept(journal, number)
        threads, processes = set(threading.enumerate()), children()
        orch = Watched(journal=journal, durability="process")
        equip(orch, tmp_path)
        orch.step = step
        way(orch)
        at = f"at step {orch.step} of {whole.seen}"
        eventually(lambda old=threads: not threads_since(old), at)
        eventually(lambda old=processes: children() <= old, at)
        with TaskOrchestrator(journal=journal, durability="process") as following:
            assert following.handle(f"n{number}").result(PATIENCE) == number, at
            following.stop(drain=False)


async def standing_by_in_a_coroutine(orch: TaskOrchestrator) -> None:
    async with orch:
        pass


@pytest.mark.parametrize("in_a_coroutine", [False, True])
def test_a_standby_that_is_given_up_leaves_nothing(
    postgres: Any, *, in_a_coroutine: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """It says aloud that it waits, and never becomes the leader."""
    address = str(postgres.address())
    kept(address, 1)
    before = set(threading.enumerate())

    def waits() -> bool:
        return "this one waits until it can have it" in caplog.text

    with closing(PostgresJournal(address)) as leader:
        leader.claim()
        journal = PostgresJournal(address, standby=True)
        orch = TaskOrchestrator(journal=journal)
        if in_a_coroutine:

            async def main() -> None:
                waiting = asyncio.ensure_future(standing_by_in_a_coroutine(orch))
                await asyncio.to_thread(eventually, waits)
                waiting.cancel()
                with suppress(asyncio.CancelledError, NotRunningError):
                    await asyncio.wait_for(waiting, PATIENCE)

            asyncio.run(main())
        else:
            with ThreadPoolExecutor(1) as pool:
                starting = pool.submit(orch.start)
                eventually(waits)
                orch.stop()
                with pytest.raises(NotRunningError):
                    starting.result(PATIENCE)
        (said,) = [one for one in caplog.records if "this one waits" in one.message]
        assert said.levelname == "WARNING"
        assert "is in use" in said.message
    eventually(lambda: not threads_since(before))
    with TaskOrchestrator(journal=address) as following:
        assert following.handle("n1").result(PATIENCE) == 1
    assert RAN.count(1) == 1


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


@in_loop
async def test_a_start_whose_coroutine_is_cancelled_has_stopped(tmp_path: Path) -> None:
    """Nobody else would stop it, where no block is entered."""
    journal = Held(tmp_path / "runs.db")
    orch = TaskOrchestrator(journal=journal)
    starting = asyncio.ensure_future(orch.aio.start())
    assert await asyncio.to_thread(journal.began.wait, PATIENCE)
    starting.cancel()
    asyncio.get_running_loop().call_soon(journal.go.set)
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert "stopped" in repr(orch)
