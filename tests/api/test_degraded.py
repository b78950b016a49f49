"""A journal that cannot be written: nothing starts, nothing is lost, nobody is fooled."""

import asyncio
import json
import os
import resource
import signal
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.api.tools import (
    PATIENCE,
    Recorder,
    Slow,
    eventually,
    in_loop,
)
from tests.ext.jobs.test_commands import EXAMPLE, body

from taskorch import (
    JournalTakenError,
    NotRunningError,
    Task,
    TaskOrchestrator,
    TaskState,
    Workflow,
    current_context,
)
from taskorch.api.journal import SqliteJournal
from taskorch.core.engine import _committer
from taskorch.errors import InternalError, JournalError, JournalUnavailableError
from taskorch.events import Event, OrchestratorStarted
from taskorch.ext import suites as suite
from taskorch.ext.command_line import _run, main
from taskorch.ext.jobs import JobSystem
from taskorch.ext.recovery import Alerts
from taskorch.ext.suites import _running
from taskorch.ext.views import JournalReader
from taskorch.kit.backoff import Backoff
from taskorch.protocols import Entry, Projection

CALLS: list[Any] = []
GO = threading.Event()
BEGAN = threading.Event()


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No call of another test is left, and nobody tries again for long."""
    CALLS.clear()
    GO.clear()
    BEGAN.clear()
    monkeypatch.setattr(_committer, "_PAUSES", Backoff(0.002, 0.01))
    yield
    GO.set()
    while AILING:
        # Of a test that has failed, it would be tried for ever.
        AILING.pop().mend()


@pytest.fixture(name="path")
def fixture_path(tmp_path: Path) -> Path:
    """A journal that is not there yet."""
    return tmp_path / "runs.db"


@contextmanager
def impatience() -> Iterator[None]:
    """Whoever waits in doubt is told so soon; what is well may take its time after it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_committer, "_COMMIT_TIMEOUT_S", 0.02)
        yield


def open_at(path: Path) -> TaskOrchestrator:
    """An orchestrator with a journal at *path* that does not wait for the disk."""
    return TaskOrchestrator(journal=path, durability="process")


def echo(value: Any = None) -> Any:
    CALLS.append(value)
    return value


def hold(value: Any = None) -> Any:
    CALLS.append(value)
    BEGAN.set()
    assert GO.wait(PATIENCE)
    return value


def hold_politely() -> None:
    BEGAN.set()
    while not GO.wait(0.002):
        current_context().checkpoint()


async def echo_async(value: Any = None) -> Any:
    return value


def _kind(entry: Any) -> str:
    """The class of the event of *entry*, encoded or not."""
    kind = entry[1] if isinstance(entry[0], int) else entry[0][0].__name__
    return str(kind)


#: Those of the test that runs.
AILING: list["Ailing"] = []


class Ailing(SqliteJournal):
    """A journal of which `append` fails while it is told to."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, durability="process")
        AILING.append(self)
        #: "": it is well; "before": nothing is kept; "after": all is kept, and it
        #: says that it does not know.
        self.ill = ""
        self.error: Callable[[], Exception] = lambda: JournalUnavailableError(
            "the disk is full"
        )
        self.tries = 0
        #: Fails when it is given an event of this class, from then on.
        self.falls_ill_at: tuple[str, str] | None = None

    def append(self, epoch: int, group: Sequence[Entry]) -> None:
        group = list(group)
        at = self.falls_ill_at
        if at and any(_kind(entry) == at[0] for entry in group):
            self.ill, self.falls_ill_at = at[1], None
        if self.ill != "before":
            super().append(epoch, group)
        if self.ill:
            self.tries += 1
            raise self.error()

    def fails(self, how: str = "before", at: str = "") -> None:
        """From now on, or from the first event of a class on."""
        if at:
            self.falls_ill_at = (at, how)
        else:
            self.ill = how

    def mend(self) -> None:
        self.ill = ""

    def wait_for(self, tries: int = 1, *, called: Sequence[Any] | None = None) -> None:
        """Until it has failed so often, from now; nothing but *called* was, if given."""
        wanted = self.tries + tries

        def is_over() -> bool:
            # What is called all the same may be kept, too: then it does not fail.
            return self.tries >= wanted or (called is not None and called != CALLS)

        eventually(is_over)
        assert called is None or called == CALLS


def degrade(orch: TaskOrchestrator, journal: Ailing, how: str = "before") -> None:
    """Let the journal fall ill, and let the orchestrator notice."""
    journal.fails(how)
    # Any event will do.
    orch._rt.note(OrchestratorStarted)
    eventually(lambda: orch.health().status == "degraded")


HOW = pytest.mark.parametrize("how", ["before", "after"])


class Taken(Projection):
    """Notes all events that it takes."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def take(self, event: Event, document: Any) -> None:
        self.events.append(event)


@HOW
def test_a_projection_takes_what_tells_of_the_trouble_in_its_place(
    path: Path, how: str
) -> None:
    """It is told before it is kept, and what is older is told afterwards."""
    journal = Ailing(path)
    first, late = Taken(), Taken()
    with TaskOrchestrator(journal=journal) as orch:
        orch.signals.follow(first)
        assert orch.submit(echo, 1).result(PATIENCE) == 1
        degrade(orch, journal, how)
        with impatience():
            orch.signals.follow(late)
        journal.mend()
        eventually(lambda: orch.health().status == "ok")
        eventually(lambda: bool(late.events))
        assert orch.submit(echo, 2).result(PATIENCE) == 2
    assert first.events == late.events == [*JournalReader(path).happened()]


@HOW
def test_what_ends_meanwhile_is_told_afterwards(path: Path, how: str) -> None:
    """A task that ends while nothing can be kept resolves only once that is kept."""
    journal = Ailing(path)
    with TaskOrchestrator(journal=journal) as orch:
        ends = Recorder(orch, "task_completed", "journal_restored")
        handle = orch.submit(hold, 5)
        called = threading.Event()
        handle.add_done_callback(lambda _: called.set())
        future = handle.future()
        assert BEGAN.wait(PATIENCE)
        journal.fails(how, at="TaskCompleted")
        GO.set()
        journal.wait_for(2)
        assert not handle.done()
        assert not future.done()
        assert not called.is_set()
        assert ends.events == []
        status = orch.get_task_status(handle.task_id)
        assert (status.state, status.result) == (TaskState.RUNNING, None)
        assert status.history[-1].state is TaskState.RUNNING
        journal.mend()
        assert handle.result(PATIENCE) == 5
        assert future.result(PATIENCE) == 5
        assert called.wait(PATIENCE)
        ends.wait_for(2)
    assert CALLS == [5]


@HOW
def test_a_submission_in_doubt(path: Path, how: str) -> None:
    """Its outcome is unknown; the same again, with its id, settles what happened."""
    journal = Ailing(path)
    with TaskOrchestrator(journal=journal) as orch:
        for task in (
            Task.call(echo, 1, id="x"),
            Task.call(echo, 2, idempotency_key="k"),
        ):
            CALLS.clear()
            journal.fails(how, at="TaskSubmitted")
            with impatience(), pytest.raises(JournalUnavailableError) as caught:
                orch.submit_task(task)
            assert caught.value.outcome == "unknown"
            assert "same id" in caught.value.hint
            eventually(lambda: orch.health().status == "degraded")
            with pytest.raises(JournalUnavailableError) as again:
                orch.submit_task(task)
            assert again.value.outcome == "refused"
            assert CALLS == []
            journal.mend()
            eventually(lambda: orch.health().status == "ok")
            handle = orch.submit_task(task)
            assert handle.result(PATIENCE) == task.payload.args[0]
            assert list(task.payload.args) == CALLS
        assert orch.get_stats().state_machine.total == 2


@in_loop
async def test_doubt_and_refusal_on_the_loop(path: Path) -> None:
    """`orch.aio` says the same, and the loop goes on meanwhile."""
    journal = Ailing(path)
    async with TaskOrchestrator(journal=journal) as orch:
        first = await orch.aio.submit(echo_async, 0)
        assert await first == 0
        journal.fails(at="TaskSubmitted")
        with impatience(), pytest.raises(JournalUnavailableError) as caught:
            await orch.aio.submit(echo_async, 1)
        assert caught.value.outcome == "unknown"
        await asyncio.to_thread(eventually, lambda: orch.health().status == "degraded")
        for call in (
            lambda: orch.aio.submit(echo_async, 2),
            lambda: orch.aio.submit_task(Task.call(echo, 2)),
            lambda: orch.aio.submit_tasks([Task.call(echo, 2)]),
            lambda: orch.aio.cancel_task(first.task_id),
        ):
            with pytest.raises(JournalUnavailableError) as refused:
                await call()
            assert refused.value.outcome == "refused"
        assert (await orch.aio.health()).status == "degraded"
        journal.mend()
        await asyncio.to_thread(eventually, lambda: orch.health().status == "ok")
        assert await (await orch.aio.submit(echo_async, 3)) == 3


@HOW
def test_the_journal_comes_back_during_the_stop(path: Path, how: str) -> None:
    """What ended meanwhile is kept after all."""
    journal = Ailing(path)
    orch = TaskOrchestrator(journal=journal)
    orch.start()
    handle = orch.submit_task(Task.call(hold, 1, id="one"))
    assert BEGAN.wait(PATIENCE)
    journal.fails(how, at="TaskCompleted")
    GO.set()
    journal.wait_for()
    journal.mend()
    orch.stop()
    assert handle.result(PATIENCE) == 1
    with open_at(path) as orch:
        assert orch.handle("one").result() == 1
    assert CALLS == [1]


@HOW
def test_nothing_acknowledged_is_lost(  # noqa: C901 - small steps
    path: Path, how: str
) -> None:
    """Many submit while the journal comes and goes: who was told yes is there."""
    journal = Ailing(path)
    accepted: list[str] = []
    over = threading.Event()

    def insist(task: Task) -> Any:
        while True:
            try:
                return orch.submit_task(task)
            except JournalUnavailableError:
                over.wait(0.001)

    def work(worker: int) -> None:
        for number in range(30):
            name = f"{worker}-{number}"
            handle = insist(Task.call(echo, number, id=name))
            accepted.append(name)
            if number % 3 == 0:
                assert handle.result(PATIENCE) == number

    def trouble() -> None:
        while not over.is_set():
            journal.fails(how)
            over.wait(0.01)
            journal.mend()
            over.wait(0.01)

    with TaskOrchestrator(journal=journal) as orch:
        threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
        troubler = threading.Thread(target=trouble)
        for thread in (*threads, troubler):
            thread.start()
        for thread in threads:
            thread.join(PATIENCE)
        over.set()
        troubler.join(PATIENCE)
        assert not any(thread.is_alive() for thread in threads)
    assert len(accepted) == len(set(accepted)) == 120
    assert len(CALLS) == 120
    with open_at(path) as orch:
        assert orch.get_stats().state_machine.completed == 120
        for name in accepted:
            assert orch.handle(name).result() == int(name.split("-")[1])


# -- what does not pass ----------------------------------------------------------------


def taken() -> Exception:
    return JournalTakenError("incarnation 2 owns it now")


def damaged() -> Exception:
    return JournalError("it is damaged: a page")


def odd() -> Exception:
    return ZeroDivisionError("a fault of the journal's")


FATAL = pytest.mark.parametrize("error", [taken, damaged, odd])


@FATAL
def test_a_journal_that_is_lost_stops_everything(
    path: Path, error: Callable[[], Exception]
) -> None:
    """Nothing starts any more, nobody waits for ever, and all say why."""
    kind = type(error()) if isinstance(error(), JournalError) else InternalError
    journal = Ailing(path)
    orch = TaskOrchestrator(journal=journal, concurrency=1)
    orch.start()
    one = orch.submit_task(Task.call(hold_politely, id="one"))
    two = orch.submit_task(Task.call(echo, 2, id="two"))
    assert BEGAN.wait(PATIENCE)
    future = two.future()
    called = threading.Event()
    two.add_done_callback(lambda _: called.set())
    heard: list[BaseException | None] = []
    waiter = threading.Thread(target=lambda: heard.append(one.exception(PATIENCE)))
    waiter.start()
    eventually(lambda: one._waiters)
    journal.error = error
    journal.fails()
    message = getattr(error(), "message", str(error()))
    with pytest.raises(kind) as caught:
        orch.submit(echo, 3)
    assert message in str(caught.value)
    waiter.join(PATIENCE)
    assert isinstance(heard[0], kind)
    for handle in (one, two):
        with pytest.raises(kind):
            handle.result(PATIENCE)
    with pytest.raises(kind):
        future.result(PATIENCE)
    assert called.wait(PATIENCE)
    health = orch.health()
    assert health.status == "failed"
    assert any(message in check.detail for check in health.checks)
    with pytest.raises(kind):
        orch.submit_task(Task.call(echo, 3))
    assert orch.wait(PATIENCE)
    GO.set()
    orch.stop(drain=False)
    assert CALLS == []
    with open_at(path) as orch:
        assert orch.handle("one").result(PATIENCE) is None
        assert orch.handle("two").result(PATIENCE) == 2


def test_another_takes_over(path: Path) -> None:
    """The old owner is told, stops, and has kept nothing since."""
    old = open_at(path)
    old.start()
    old.submit_task(Task.call(echo, 1, id="one")).result(PATIENCE)
    waiting = old.submit_task(Task.call(hold, 2, id="two"))
    assert BEGAN.wait(PATIENCE)
    new = TaskOrchestrator(journal=SqliteJournal(path, take_over=True))
    with new:
        with pytest.raises(JournalTakenError):
            old.submit_task(Task.call(echo, 3, id="three"))
        GO.set()
        with pytest.raises(JournalTakenError):
            waiting.result(PATIENCE)
        assert old.health().status == "failed"
        old.stop(drain=False)
        assert new.handle("one").result(PATIENCE) == 1
        assert new.handle("two").result(PATIENCE) == 2
        assert {status.task_id for status in new.tasks()} == {"one", "two"}
    assert CALLS == [1, 2, 2]


@in_loop
async def test_a_coroutine_is_told_that_another_has_taken_over(path: Path) -> None:
    """In the words in which a thread is told; nobody waits until he is in doubt."""
    async with TaskOrchestrator(journal=path, durability="process") as orch:
        assert await (await orch.aio.submit(echo_async, 1)) == 1
        with closing(SqliteJournal(path, take_over=True)) as other:
            other.claim()
            with pytest.raises(JournalTakenError, match="taken over") as caught:
                await orch.aio.submit(echo_async, 2)
            with pytest.raises(JournalTakenError) as again:
                await orch.aio.submit(echo_async, 3)
        assert again.value.message == caught.value.message


def test_who_is_in_doubt_is_told_that_another_has_taken_over(path: Path) -> None:
    """It could not be written for a while, and then it was somebody else's."""
    journal = Ailing(path)
    with TaskOrchestrator(journal=journal) as orch:
        told: list[BaseException] = []

        def submit() -> None:
            with pytest.raises(JournalError) as caught:
                orch.submit(echo, 1)
            told.append(caught.value)

        journal.fails(at="TaskSubmitted")
        thread = threading.Thread(target=submit)
        thread.start()
        journal.wait_for(3)
        journal.error = lambda: JournalTakenError("it was taken over")
        thread.join(PATIENCE)
        assert isinstance(told[0], JournalTakenError)
        with pytest.raises(JournalTakenError):
            orch.submit(echo, 2)
    assert CALLS == []


@in_loop
async def test_a_coroutine_in_doubt_is_told_that_another_has_taken_over(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It waits for what could not be written until that is lost, and no longer."""
    monkeypatch.setattr(_committer, "_COMMIT_TIMEOUT_S", 100 * PATIENCE)
    journal = Ailing(path)
    async with TaskOrchestrator(journal=journal) as orch:
        # Of a function that is known, no other thread takes the call.
        assert await (await orch.aio.submit(echo_async, 0)) == 0
        journal.fails(at="TaskSubmitted")
        told = asyncio.ensure_future(orch.aio.submit(echo_async, 1))
        await asyncio.to_thread(journal.wait_for, 3)
        assert not told.done()
        journal.error = lambda: JournalTakenError("it was taken over")
        with pytest.raises(JournalTakenError):
            await asyncio.wait_for(told, PATIENCE)
    assert 1 not in CALLS


# -- real trouble ----------------------------------------------------------------------


@pytest.fixture(name="brief")
def fixture_brief(monkeypatch: pytest.MonkeyPatch) -> None:
    """SQLite waits for locks of others no longer than a moment."""
    from taskorch.core.journal import _file

    monkeypatch.setattr(_file, "_PATIENCE", 0.02)


def journal_of(orch: TaskOrchestrator) -> Any:
    """The SqliteJournal of *orch*."""
    assert orch._rt.committer is not None
    return orch._rt.committer.journal


def spoil(journal: Any, statement: str) -> Callable[[], None]:
    """Execute *statement* on every connection that writes, until what is returned."""
    connect = journal._connection

    def spoiled() -> Any:
        db = connect()
        db.execute(statement)
        return db

    def let_go() -> None:
        # Else the thread that commits has the connection closed under its hands, or
        # makes a spoiled one again before it cannot any more.
        with journal._mutex:
            journal._disconnect()
            del journal._connection

    journal._connection = spoiled
    return let_go


def accept_or_not(orch: TaskOrchestrator, task: Task) -> str:
    """What became of a submission."""
    try:
        with impatience():
            orch.submit_task(task)
    except JournalUnavailableError as error:
        if error.outcome == "unknown":
            # Who is told so soon may be told before the trouble is seen.
            eventually(lambda: orch.health().status == "degraded")
        return error.outcome
    return "accepted"


@pytest.mark.usefixtures("brief")
def test_a_full_disk(path: Path) -> None:
    """SQLite may add no page: nothing more is taken in until it may."""
    with open_at(path) as orch:
        first = orch.submit_task(Task.call(echo, "first", id="first"))
        assert first.result(PATIENCE) == "first"
        let_go = spoil(journal_of(orch), "PRAGMA max_page_count = 1")
        big = Task.call(echo, "x" * 100_000, id="big")
        assert accept_or_not(orch, big) == "unknown"
        assert "full" in str(orch.health())
        assert accept_or_not(orch, big) == "refused"
        assert first.result() == "first"
        let_go()
        eventually(lambda: orch.health().status == "ok")
        assert len(orch.submit_task(big).result(PATIENCE)) == 100_000
    with open_at(path) as orch:
        assert len(orch.handle("big").result()) == 100_000


@pytest.mark.usefixtures("brief")
def test_a_limit_on_the_size_of_files(path: Path) -> None:
    """The system refuses to write more: as a full disk, for as long as it lasts."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    old = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        with open_at(path) as orch:
            orch.submit_task(Task.call(echo, "first", id="first")).result(PATIENCE)
            size = max(p.stat().st_size for p in path.parent.iterdir())
            resource.setrlimit(resource.RLIMIT_FSIZE, (size + 4096, hard))
            task = Task.call(echo, "x" * 300_000, id="big")
            assert accept_or_not(orch, task) == "unknown"
            assert orch.health().status == "degraded"
            assert accept_or_not(orch, task) == "refused"
            assert orch.get_task_status("first").result == "first"
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
            eventually(lambda: orch.health().status == "ok")
            assert len(orch.submit_task(task).result(PATIENCE)) == 300_000
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, old)
    with open_at(path) as orch:
        assert len(orch.handle("big").result()) == 300_000
        assert orch.handle("first").result() == "first"


@pytest.mark.usefixtures("brief")
def test_a_lock_of_somebody_else(path: Path) -> None:
    """Another program holds the file: as long as it does, nothing is kept."""
    with open_at(path) as orch:
        orch.submit_task(Task.call(echo, 1, id="one")).result(PATIENCE)
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN EXCLUSIVE")
        task = Task.call(echo, 2, id="two")
        assert accept_or_not(orch, task) == "unknown"
        assert "locked" in str(orch.health())
        assert orch.get_task_status("one").result == 1
        other.execute("ROLLBACK")
        other.close()
        eventually(lambda: orch.health().status == "ok")
        assert orch.submit_task(task).result(PATIENCE) == 2
    assert CALLS == [1, 2]


@pytest.mark.usefixtures("brief")
def test_a_file_that_vanishes(path: Path) -> None:
    """It was moved away: nothing is written beside it, and it may come back."""
    with open_at(path) as orch:
        orch.submit_task(Task.call(echo, 1, id="one")).result(PATIENCE)
        eventually(orch._rt.is_quiet)
        aside = path.parent / "aside"
        path.rename(aside)
        # Before anybody writes.
        (check,) = [c for c in orch.health().checks if c.component == "journal"]
        assert check.status == "degraded"
        assert f"{path} vanished while it was in use; put the same" in check.detail
        # What has a name is looked up first, and that fails already.
        task = Task.call(echo, 2, id="two")
        assert accept_or_not(orch, task) == "refused"
        assert accept_or_not(orch, Task.call(echo, 3)) == "unknown"
        assert orch.health().status == "degraded"
        assert not path.exists()
        aside.rename(path)
        eventually(lambda: orch.health().status == "ok")
        assert orch.submit_task(task).result(PATIENCE) == 2
    with open_at(path) as orch:
        assert orch.handle("one").result() == 1
        assert orch.handle("two").result() == 2
    # The last two may run at once.
    assert sorted(CALLS) == [1, 2, 3]


@pytest.mark.usefixtures("brief")
def test_a_log_that_vanishes(path: Path) -> None:
    """The log beside the journal was removed: what it had is moved, and not lost."""
    with open_at(path) as orch:
        recorder = Recorder(orch, "journal_restored")
        orch.submit_task(Task.call(echo, 1, id="one")).result(PATIENCE)
        eventually(orch._rt.is_quiet)
        Path(f"{path}-wal").unlink()
        # In doubt for a moment, or done: it heals by itself.
        orch._rt.note(OrchestratorStarted)
        recorder.wait_for(1)
        assert orch.submit_task(Task.call(echo, 2, id="two")).result(PATIENCE) == 2
    with open_at(path) as orch:
        assert orch.handle("one").result() == 1
        assert orch.handle("two").result() == 2


@pytest.mark.usefixtures("brief")
def test_a_file_that_vanishes_for_good(path: Path) -> None:
    """Nothing is made in its place, by the stop or by the next opening."""
    orch = open_at(path)
    orch.start()
    orch.submit_task(Task.call(echo, 1, id="one")).result(PATIENCE)
    eventually(orch._rt.is_quiet)
    path.rename(path.parent / "aside")
    assert accept_or_not(orch, Task.call(echo, 2)) == "unknown"
    with impatience():
        orch.stop()
    assert not path.exists()
    with pytest.raises(JournalError, match="gone") as caught:
        open_at(path).start()
    assert caught.value.hint
    assert not path.exists()


@pytest.mark.usefixtures("bound_by_modes")
def test_a_file_that_is_read_only(path: Path) -> None:
    """It can be opened by nobody who is to write."""
    with open_at(path) as orch:
        orch.submit_task(Task.call(echo, 1, id="one")).result(PATIENCE)
    path.chmod(0o400)
    with pytest.raises(JournalUnavailableError):
        open_at(path).start()
    path.chmod(0o600)
    with open_at(path) as orch:
        assert orch.handle("one").result() == 1


@pytest.mark.usefixtures("brief")
def test_a_connection_that_may_only_read(path: Path) -> None:
    """As if the file system had become read-only while it was open."""
    with open_at(path) as orch:
        orch.submit_task(Task.call(echo, 1, id="one")).result(PATIENCE)
        let_go = spoil(journal_of(orch), "PRAGMA query_only = ON")
        task = Task.call(echo, 2, id="two")
        assert accept_or_not(orch, task) == "unknown"
        assert "readonly" in str(orch.health())
        assert orch.handle("one").result() == 1
        let_go()
        eventually(lambda: orch.health().status == "ok")
        assert orch.submit_task(task).result(PATIENCE) == 2


def test_an_opening_that_fails_may_be_tried_by_another(path: Path) -> None:
    """A journal that is locked is refused in plain words, and left as it is."""
    with open_at(path) as orch:
        orch.submit_task(Task.call(echo, 1, id="one")).result(PATIENCE)
        with pytest.raises(JournalTakenError) as caught:
            open_at(path).submit(echo)
        assert str(os.getpid()) in str(caught.value)
        second = open_at(path)
        with pytest.raises(JournalTakenError):
            second.start()
        with pytest.raises(NotRunningError):
            second.submit(echo)
        second.stop()
    with open_at(path) as orch:
        assert orch.handle("one").result() == 1


# -- a slow journal --------------------------------------------------------------------


def test_a_slow_disk(path: Path) -> None:
    """Who waits for too long is told that nobody knows; it is done in the end."""
    journal = Slow(path)
    with TaskOrchestrator(journal=journal) as orch:
        orch.submit(echo, 0).result(PATIENCE)
        eventually(orch._rt.is_quiet)
        journal.go.clear()
        first = threading.Thread(target=orch.submit, args=(echo, 1))
        first.start()
        assert journal.waits.wait(PATIENCE)
        slow = pytest.raises(JournalUnavailableError, match="slow")
        with impatience(), slow as caught:
            orch.submit_task(Task.call(echo, 2, id="two"))
        assert caught.value.outcome == "unknown"
        assert CALLS == [0]
        journal.go.set()
        first.join(PATIENCE)
        assert orch.submit_task(Task.call(echo, 2, id="two")).result(PATIENCE) == 2
    assert sorted(CALLS) == [0, 1, 2]


def test_what_must_not_run_twice_waits_for_its_start(path: Path) -> None:
    """`idempotent=False`: the event that it starts is kept before it does."""
    journal = Ailing(path)
    with TaskOrchestrator(journal=journal, concurrency=1) as orch:
        one = orch.submit(hold, 1)
        assert BEGAN.wait(PATIENCE)
        two = orch.submit_task(Task.call(echo, 2, id="two", idempotent=False))
        journal.fails(at="TaskStarted")
        GO.set()
        journal.wait_for(2, called=[1])
        journal.mend()
        assert two.result(PATIENCE) == 2
        assert one.result(PATIENCE) == 1
    assert CALLS == [1, 2]


@HOW
def test_an_attempt_that_was_held_back_is_no_attempt(path: Path, how: str) -> None:
    """It stops before its start is known to be kept: it has not run."""
    journal = Ailing(path)
    with TaskOrchestrator(journal=journal, concurrency=1) as orch:
        orch.submit_task(Task.call(hold, 1, id="one"))
        assert BEGAN.wait(PATIENCE)
        orch.submit_task(Task.call(echo, 2, id="two", idempotent=False))
        journal.fails(how, at="TaskStarted")
        GO.set()
        journal.wait_for(called=[1])
        with impatience():
            report = orch.stop()
    assert "two" in {left.task_id for left in report.left}
    assert CALLS == [1]
    with open_at(path) as orch:
        assert orch.handle("one").result(PATIENCE) == 1
        if how == "after":
            # The journal has its start, and no more: a person decides.
            assert orch.get_task_status("two").blocked_by == ("decision",)
            assert orch.decide("two", "retry")
        assert orch.handle("two").result(PATIENCE) == 2
    assert CALLS.count(2) == 1


@in_loop
async def test_an_async_opening_that_fails(tmp_path: Path) -> None:
    """`async with` raises what is wrong: here a folder has the name."""
    path = tmp_path
    with pytest.raises(JournalError):
        async with open_at(path):
            pytest.fail("it must not open")


def test_a_map_that_is_left_meanwhile_says_nothing_of_the_journal(path: Path) -> None:
    """It could not cancel the rest, which is no answer to what its caller did."""
    journal = Ailing(path)
    with TaskOrchestrator(journal=journal, concurrency=1) as orch:
        results = orch.map(hold, [1, 2, 3])
        GO.set()
        assert next(results) == 1
        degrade(orch, journal)

        results.close()  # type: ignore[attr-defined]

        journal.mend()


def test_a_start_without_the_journal_leaves_no_thread(path: Path) -> None:
    """It belongs to another, and the orchestrator that was refused it has ended."""
    with open_at(path):
        before = set(threading.enumerate())
        with pytest.raises(JournalTakenError):
            open_at(path).start()
        eventually(lambda: set(threading.enumerate()) <= before)


# -- what the library, or a task, does itself waits as steps do -------------------------


def submits() -> Any:
    return CALLER[0].submit(echo, 1).result(PATIENCE)


def cancels() -> Any:
    later = CALLER[0].submit_task(Task.call(echo, 2, not_before=3_600))
    return 1 if later.cancel() else 0


async def submits_on_a_loop() -> Any:
    handle = await CALLER[0].aio.submit(echo, 1)
    return await handle


def steps() -> Any:
    return current_context().step("one", echo, 1)


def asks_a_child() -> Any:
    return current_context().child("one", echo, 1)


def adds() -> Any:
    return current_context().workflow.task(echo, 1).result(PATIENCE)


def maps() -> Any:
    return sum(CALLER[0].map(echo, [1], buffersize=1))


CALLER: list[TaskOrchestrator] = []


INSIDE = {
    each.__name__: each
    for each in (submits, cancels, submits_on_a_loop, steps, asks_a_child, adds, maps)
}


def held_up(work: str) -> Any:
    """Call *work* once the journal is ill."""
    BEGAN.set()
    assert GO.wait(PATIENCE)
    return INSIDE[work]()


@HOW
@pytest.mark.parametrize("work", INSIDE)
def test_what_a_task_asks_for_waits_for_the_journal(
    path: Path, how: str, work: str
) -> None:
    journal = Ailing(path)
    with TaskOrchestrator(journal=journal) as orch:
        CALLER[:] = [orch]
        workflow = Workflow("waits")
        if work == submits_on_a_loop.__name__:
            workflow.task(work_on_a_loop, id="one")
        else:
            workflow.task(held_up, work, id="one")
        run = orch.workflows.start(workflow, id="run")
        assert BEGAN.wait(PATIENCE)
        with impatience():
            journal.fails(how)
            orch._rt.note(OrchestratorStarted)
            eventually(lambda: orch.health().status == "degraded")
            GO.set()
            # Longer than anybody from outside waits.
            journal.wait_for(20)
            journal.mend()
            assert run.result(PATIENCE)["one"] == 1


async def work_on_a_loop() -> Any:
    BEGAN.set()
    await asyncio.to_thread(GO.wait, PATIENCE)
    return await submits_on_a_loop()


@HOW
@pytest.mark.parametrize("most", [None, 1, 3])
def test_a_map_that_adds_its_calls_waits_for_the_journal(
    path: Path, how: str, most: int | None
) -> None:
    journal = Ailing(path)
    with TaskOrchestrator(journal=journal, concurrency=4) as orch:
        workflow = Workflow("maps")
        mapped = workflow.map(hold, list(range(20)), id="m", max_parallel=most)
        workflow.task(len, mapped, id="all")
        run = orch.workflows.start(workflow, id="run")
        assert BEGAN.wait(PATIENCE)
        with impatience():
            journal.fails(how)
            GO.set()
            journal.wait_for(20)
            journal.mend()
            assert run.result(PATIENCE)["all"] == 20


@HOW
def test_the_rest_of_a_map_from_outside_waits_for_the_journal(
    path: Path, how: str
) -> None:
    journal = Ailing(path)
    with TaskOrchestrator(journal=journal) as orch:
        results = orch.map(echo, range(50), buffersize=2)
        assert next(results) == 0
        with impatience():
            degrade(orch, journal, how)
            rest: list[int] = []
            taker = threading.Thread(target=lambda: rest.extend(results))
            taker.start()
            journal.wait_for(20)
            journal.mend()
            taker.join(PATIENCE)
            assert rest == list(range(1, 50))


def test_a_stop_ends_the_patience_of_tasks(path: Path) -> None:
    journal = Ailing(path)
    orch = TaskOrchestrator(journal=journal, stop_timeout=0.1)
    with orch:
        CALLER[:] = [orch]
        orch.submit_task(Task.call(held_up, submits.__name__, id="one"))
        assert BEGAN.wait(PATIENCE)
        with impatience():
            degrade(orch, journal)
            GO.set()
            journal.wait_for(5)
            orch.stop()
    journal.mend()
    CALLER[:] = [TaskOrchestrator(journal=path)]
    with CALLER[0] as again:
        assert again.handle("one").result(PATIENCE) == 1


# -- what a caller from outside has begun goes on ---------------------------------------


def run_suite(folder: Path, patch: pytest.MonkeyPatch, how: str) -> bool:
    test = "{command: ['true']}"
    (folder / "suite.yaml").write_text(
        f"templates: {{ok: {test}}}\n"
        "orchestrator: {task_definitions: {unit_tests: [{id: A, template: ok}]}}\n"
    )
    make = _running.orchestrator_of

    def ailing(*args: Any, journal: Path, **options: Any) -> TaskOrchestrator:
        return make(*args, journal=ail(journal, how), **options)

    patch.setattr(_running, "orchestrator_of", ailing)
    return suite.run(suite.load(folder / "suite.yaml"), folder / "out").passed


def run_jobs(folder: Path, patch: pytest.MonkeyPatch, how: str) -> bool:
    make = JobSystem.orchestrator

    def ailing(jobs: JobSystem, **settings: Any) -> TaskOrchestrator:
        return make(jobs, **settings, journal=ail(folder / "jobs.db", how))

    patch.setattr(JobSystem, "orchestrator", ailing)
    patch.syspath_prepend(folder)
    (folder / "counts_units.py").write_text("def f(unit, job): return 1\n")
    (folder / "job.json").write_text(json.dumps(body()))
    words = ["jobs", "run", str(EXAMPLE), str(folder / "job.json")]
    return main([*words, "--objective", "count=counts_units:f"]) == 0


def run_file(folder: Path, patch: pytest.MonkeyPatch, how: str) -> bool:
    def ailing(journal: Path, **options: Any) -> TaskOrchestrator:
        return TaskOrchestrator(journal=ail(journal, how), **options)

    patch.setattr(_run, "TaskOrchestrator", ailing)
    (folder / f"flow_{folder.name}.py").write_text(
        "from taskorch import Workflow\n"
        "workflow = Workflow('flow')\n"
        "workflow.task(len, 'three', id='one')\n"
    )
    words = [
        str(folder / f"flow_{folder.name}.py"),
        "--journal",
        str(folder / "runs.db"),
        "-q",
    ]
    return main(["run", *words]) == 0


def ail(path: Path, how: str) -> Ailing:
    """A journal that falls ill once a task is submitted, and is well again later."""
    journal = Ailing(path)
    journal.fails(how, at="TaskSubmitted")
    return journal


@HOW
@pytest.mark.parametrize(
    "command", [run_suite, run_jobs, run_file], ids=["suite", "jobs", "file"]
)
def test_what_a_command_submits_waits_for_the_journal(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    how: str,
    command: Callable[..., bool],
) -> None:
    def mend() -> None:
        eventually(lambda: AILING)
        AILING[-1].wait_for(20)
        AILING[-1].mend()

    mending = threading.Thread(target=mend)
    mending.start()
    with impatience():
        assert command(tmp_path, monkeypatch, how)
    mending.join(PATIENCE)


def test_ctrl_c_ends_the_patience_of_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The journal is not well again before."""

    def interrupt() -> None:
        eventually(lambda: AILING)
        AILING[-1].wait_for(20)
        os.kill(os.getpid(), signal.SIGINT)

    interrupting = threading.Thread(target=interrupt)
    interrupting.start()
    with impatience():
        assert not run_file(tmp_path, monkeypatch, "before")
    interrupting.join(PATIENCE)


@HOW
def test_the_action_of_an_alert_waits_for_the_journal(path: Path, how: str) -> None:
    journal = Ailing(path)
    with TaskOrchestrator(journal=journal) as orch:
        recorder = Recorder(orch, "component_failed")

        def act(orch: TaskOrchestrator, _: object) -> None:
            BEGAN.set()
            assert GO.wait(PATIENCE)
            orch.submit_task(Task.call(echo, 1, id="one"))

        orch.watch_alerts(Alerts(interval=0.05, rules=()))
        orch.alerts.rule("mine", when=lambda _: True, hold=0, action=act)
        assert BEGAN.wait(PATIENCE)
        with impatience():
            degrade(orch, journal, how)
            GO.set()
            journal.wait_for(20)
            journal.mend()
            eventually(lambda: len([*orch.tasks(id="one")]) == 1)
            assert recorder.events == []
