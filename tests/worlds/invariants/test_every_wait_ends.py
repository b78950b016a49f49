"""
Every wait ends: whoever waits is told when the orchestrator stops or loses its journal.

Nobody here loses patience, and no disk is given up: what ends, ends because it was told.
"""

from __future__ import annotations

import sys
import threading
import time
import traceback
from contextlib import ExitStack, suppress
from importlib import import_module
from random import Random
from typing import Any

import pytest
from tests.api.tools import PATIENCE, eventually
from tests.worlds.invariants import use
from tests.worlds.stress import delays

from taskorch import (
    JournalTakenError,
    SqliteJournal,
    Task,
    TaskorchError,
    TaskOrchestrator,
)
from taskorch.core.engine import _committer
from taskorch.errors import JournalError, JournalUnavailableError
from taskorch.kit.backoff import Backoff

#: Seconds that nobody waits in a test.
FOR_EVER = 1000.0
#: Seconds that a stop may take beyond its timeout, on a machine that is busy.
SLACK = PATIENCE / 2
USERS = 4


@pytest.fixture(autouse=True)
def _patient(monkeypatch):
    # Loaded now: pytest parses what is loaded, in which threads disturb each other.
    import_module("taskorch.api._aio")
    monkeypatch.setattr(_committer, "_COMMIT_TIMEOUT_S", FOR_EVER)
    monkeypatch.setattr(_committer, "_PAUSES", Backoff(0.002, 0.01))


class Ailing(SqliteJournal):
    """It raises `error` where it should write, if there is one."""

    error: Exception | None = None
    #: Seconds that each write takes.
    takes = 0.0

    def append(self, epoch: int, group: Any) -> None:
        time.sleep(self.takes)
        if self.error is not None:
            raise self.error
        super().append(epoch, group)


class Users:
    """Several at once, who wait for whatever they like until all is over."""

    def __init__(self, orch: Any, seed: object) -> None:
        self.over = threading.Event()
        #: What nobody should ever see.
        self.wrong: list[BaseException] = []
        self._orch = orch
        self._seed = seed
        self.threads = [
            threading.Thread(target=self._go_on, args=(n,), daemon=True)
            for n in range(USERS)
        ]
        #: Acts that have been done.
        self.done = 0
        for thread in self.threads:
            thread.start()

    def _go_on(self, number: int) -> None:
        user = use.Use(self._orch, f"{self._seed}/{number}", patience=FOR_EVER)
        user.acts = [act for act in use.ALL if act != "program"]
        try:
            while not self.over.is_set():
                user.act()
                self.done += 1
        except BaseException as error:
            self.wrong.append(error)
        finally:
            with suppress(TaskorchError, use.Oops):
                user.drop_all()

    def end(self) -> None:
        """They go when what they wait for has come, and no later."""
        self.over.set()
        end = time.monotonic() + PATIENCE
        for thread in self.threads:
            thread.join(max(0, end - time.monotonic()))
            assert not thread.is_alive(), stack_of(thread)
        assert self.wrong == []


def stack_of(thread: threading.Thread) -> str:
    frame = sys._current_frames().get(thread.ident or 0)
    return f"{thread.name} waits:\n" + "".join(traceback.format_stack(frame))


def keep_busy(orch: Any, random: Random, go: Any) -> list[Any]:
    """Some of its slots, or all, for good: what comes then waits for ever."""
    later = Task.call(use.give, use.Thing(1), not_before=FOR_EVER)
    handles = [orch.submit_task(later)]
    if random.random() < 0.5:
        handles.append(orch.submit(use.deaf, use.Thing(0), go))
    for _ in range(random.randrange(3)):
        handles.append(orch.submit(use.polite, use.Thing(0)))
    return handles


def have_it_written(orch: Any) -> None:
    """All users may wait for what has no end: then nothing else would be written."""

    def write() -> None:
        with suppress(TaskorchError):
            orch.submit(int)

    threading.Thread(target=write, daemon=True).start()


def stop_in_time(orch: Any, random: Random) -> None:
    drain, timeout = random.random() < 0.5, random.choice([0, 0.1, 0.3])
    began = time.monotonic()
    orch.stop(drain=drain, timeout=timeout)
    assert time.monotonic() - began < timeout + SLACK


@pytest.mark.parametrize("seed", range(4))
def test_tasks_that_wait_for_others_end_however_few_slots_there_are(seed, monkeypatch):
    """Threads are held up, now and then, where they hand things to one another."""
    random = Random(seed)
    monkeypatch.setattr(delays, "LONGEST", 2 * use.MOMENT)
    delays.plant(random, monkeypatch.setattr, chance=0.3)
    with TaskOrchestrator(concurrency=1 + seed % 2, stop_timeout=1) as orch:
        use.ORCH.set(orch)
        ways = [use.branches] * 4 + [
            use.above,
            use.above_later,
            use.hand_over,
            use.give,
        ]
        things = [use.Thing(number) for number in range(12)]
        handles = [orch.submit(random.choice(ways), thing) for thing in things]
        for handle in handles:
            handle.result(PATIENCE)


@pytest.mark.parametrize("seed", range(3))
def test_they_end_whoever_is_overtaken(seed, monkeypatch):
    """Threads that have left the lock are held up while others take many steps."""
    random = Random(seed)
    delays.let_overtake(random, monkeypatch.setattr)
    with TaskOrchestrator(concurrency=4, stop_timeout=1) as orch:
        use.ORCH.set(orch)
        things = [use.Thing(number) for number in range(12)]
        handles = [orch.submit(use.branches, thing, 2, 20) for thing in things]
        for handle in handles:
            handle.result(PATIENCE)


@pytest.mark.parametrize("durable", [False, True], ids=["in memory", "kept"])
@pytest.mark.parametrize("seed", range(4))
def test_a_stop_ends_all_waits_and_is_in_time(seed, durable, tmp_path):
    random, go = Random(seed), tmp_path / "go"
    with ExitStack() as stack:
        stack.callback(go.touch)
        folder = tmp_path if durable else None
        orch = use.orchestrator(stack, folder, grace=FOR_EVER)
        orch.start()
        users = Users(orch, seed)
        eventually(lambda: users.done > random.randrange(10))
        busy = keep_busy(orch, random, go)
        for handle in busy:
            handle.future()
        stop_in_time(orch, random)
        users.end()
        for handle in busy:
            with suppress(TaskorchError, use.Oops):
                handle.result(PATIENCE)


def taken() -> Exception:
    return JournalTakenError("it was taken over")


def damaged() -> Exception:
    return JournalError("it is damaged")


def odd() -> Exception:
    return ZeroDivisionError("a fault of the journal's")


@pytest.mark.parametrize("trouble", [False, True], ids=["at once", "after trouble"])
@pytest.mark.parametrize("error", [taken, damaged, odd])
@pytest.mark.parametrize("seed", range(2))
def test_a_journal_that_is_lost_ends_all_waits(seed, error, trouble, tmp_path):
    random, go = Random(seed), tmp_path / "go"
    journal = Ailing(tmp_path / "runs.db", durability="process")
    with ExitStack() as stack:
        stack.callback(go.touch)
        orch = use.orchestrator(stack, None, journal=journal, grace=FOR_EVER)
        orch.start()
        users = Users(orch, seed)
        eventually(lambda: users.done > random.randrange(10))
        if random.random() < 0.5:
            keep_busy(orch, random, go)
        if trouble:
            # Nobody knows whether what they submit is kept, so they wait.
            journal.takes = 0.02
            journal.error = JournalUnavailableError("the disk is full")
            have_it_written(orch)
            eventually(lambda: orch.health().status == "degraded")
        journal.error = error()
        have_it_written(orch)
        eventually(lambda: orch.health().status == "failed")
        users.end()
        assert orch.wait(PATIENCE)
        stop_in_time(orch, random)


@pytest.mark.parametrize("seed", range(2))
def test_one_whose_journal_is_taken_over_ends_all_waits(seed, tmp_path):
    random = Random(seed)
    with ExitStack() as stack:
        orch = use.orchestrator(stack, tmp_path)
        orch.start()
        users = Users(orch, seed)
        eventually(lambda: users.done > random.randrange(10))
        journal = SqliteJournal(
            tmp_path / "runs.db", durability="process", take_over=True
        )
        # It goes on with what was left, some of which has no end.
        other = TaskOrchestrator(journal=journal)
        stack.callback(other.stop, drain=False, timeout=0)
        other.start()
        eventually(lambda: orch.health().status == "failed")
        users.end()
        assert orch.wait(PATIENCE)
        stop_in_time(orch, random)
