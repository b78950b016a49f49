"""A journal in a file: everything works as in memory, and goes on at the next opening."""

import asyncio
import contextvars
import io
import shutil
import sqlite3
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import closing, redirect_stdout, suppress
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from random import Random
from types import ModuleType
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from tests.api.tools import PATIENCE, Recorder, eventually, in_loop, short_grace

import taskorch
from taskorch import (
    DependencyFailedError,
    DuplicateTaskError,
    InvalidTaskError,
    JournalTakenError,
    NotRunningError,
    Permanent,
    ProgramFailedError,
    Resources,
    RetryPolicy,
    Task,
    TaskCancelledError,
    TaskFailedError,
    TaskOrchestrator,
    TaskState,
    TaskTimeoutError,
    UnknownTaskError,
    Workflow,
    current_context,
)
from taskorch.api.journal import SqliteJournal
from taskorch.core.engine import _committer, _lifecycle
from taskorch.core.journal import _file
from taskorch.errors import (
    JournalError,
    JournalUnavailableError,
    TaskExpiredError,
    UnkeptResultError,
    WouldBlockError,
)
from taskorch.ext.views import JournalReader
from taskorch.policies import PerformanceRouter
from taskorch.protocols import Entry, Match, Permit, RetryDecision

# -- what the tasks call: a journal keeps the import path ------------------------------

#: How often each was called, in this process.
CALLS: list[Any] = []
GATES: dict[str, threading.Event] = {}
BEGAN: dict[str, threading.Event] = {}


@pytest.fixture(autouse=True)
def _clean() -> Iterator[None]:
    """No call and no gate of another test is left."""
    CALLS.clear()
    GATES.clear()
    BEGAN.clear()
    yield
    for gate in GATES.values():
        gate.set()


@pytest.fixture(name="path")
def fixture_path(tmp_path: Path) -> Path:
    """A journal that is not there yet."""
    return tmp_path / "runs.db"


@pytest.fixture(name="folded", params=["snapshot", "facts"])
def fixture_folded(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    The next incarnation begins with the snapshot of the last, or reads all events.
    """
    if request.param == "facts":
        monkeypatch.setattr(_committer.Snapshots, "save_last", lambda *_: None)


FOLDED = pytest.mark.usefixtures("folded")


def open_at(path: Path, **options: Any) -> TaskOrchestrator:
    """An orchestrator with a journal at *path* that does not wait for the disk."""
    return TaskOrchestrator(journal=path, durability="process", **options)


def add(one: int, other: int = 0) -> int:
    CALLS.append((one, other))
    return one + other


def echo(value: Any = None) -> Any:
    CALLS.append(value)
    return value


async def echo_async(value: Any = None) -> Any:
    await asyncio.sleep(0)
    return value


def total(values: list[int]) -> int:
    return sum(values)


def break_down(text: str = "no good") -> None:
    CALLS.append(text)
    raise ZeroDivisionError(text)


def refuse() -> None:
    raise Permanent("never")


def make_object() -> object:
    CALLS.append("object")
    return object()


def make_generator() -> Iterator[int]:
    return iter([1])


def gate(name: str) -> threading.Event:
    """The gate at which `hold(name)` waits; makes it."""
    BEGAN[name] = threading.Event()
    GATES[name] = threading.Event()
    return GATES[name]


def hold(name: str, value: Any = None) -> Any:
    """Run until the gate opens or the attempt is to stop."""
    CALLS.append(name)
    context = current_context()
    if name in BEGAN:
        BEGAN[name].set()
        while not GATES[name].wait(0.005):
            context.checkpoint(context.restored)
    return value


def hold_deaf(name: str, value: Any = None) -> Any:
    """Run until the gate opens, whatever else is asked."""
    CALLS.append(name)
    if name in BEGAN:
        BEGAN[name].set()
        assert GATES[name].wait(PATIENCE)
    return value


def flaky(name: str, failures: int) -> int:
    """Fail the first times."""
    CALLS.append(name)
    if CALLS.count(name) <= failures:
        raise ConnectionError(name)
    return CALLS.count(name)


def step_by_step(name: str) -> list[int]:
    """Leave a checkpoint a step, and go on from the latest."""
    context = current_context()
    done = list(context.restored or [])
    CALLS.append((name, list(done)))
    while len(done) < 3:
        done.append(len(done))
        context.checkpoint(done)
        if name in BEGAN:
            BEGAN[name].set()
            while not GATES[name].wait(0.005):
                context.checkpoint(done)
    return done


async def step_async(name: str) -> list[int]:
    """As `step_by_step`, on the loop."""
    context = current_context()
    done = list(context.restored or [])
    CALLS.append((name, list(done)))
    done.append(len(done))
    await context.aio.checkpoint(done)
    await context.aio.progress(len(done))
    if name in BEGAN:
        BEGAN[name].set()
        while not GATES[name].is_set():  # noqa: ASYNC110 - others set it, too
            await asyncio.sleep(0.002)
    return done


def call_another(value: int) -> Any:
    """Submit from inside a task, and wait for it."""
    orch = ORCH[0]
    return orch.submit(add, value, 1).result(PATIENCE)


ORCH: list[TaskOrchestrator] = []
VARIABLE: contextvars.ContextVar[str] = contextvars.ContextVar("v", default="unset")


def read_variable() -> str:
    return VARIABLE.get()


def is_quiet(said: str) -> bool:
    """Whether nothing is said but what a block that ended has left."""
    return all(line.startswith(("the block ended", "  ")) for line in said.splitlines())


def incarnation(folder: Path, source: str, module: str = "") -> str:
    """Run a program in *folder*, beside a module `work`; what it said."""
    if module:
        (folder / "work.py").write_text(textwrap.dedent(module), encoding="utf-8")
    said, program = io.StringIO(), ModuleType(f"program{len(sys.modules)}")
    # It stays there: what was missing is looked for again where more is loaded.
    sys.modules[program.__name__] = program
    with pytest.MonkeyPatch.context() as patched, redirect_stdout(said):
        patched.chdir(folder)
        patched.syspath_prepend(folder)
        patched.setattr(sys, "dont_write_bytecode", True)
        patched.delitem(sys.modules, "work", raising=False)
        exec(textwrap.dedent(source), vars(program))
        sys.modules.pop("work", None)
    return said.getvalue()


# -- one incarnation -------------------------------------------------------------------


def test_the_ways_to_submit_work_as_in_memory(path: Path) -> None:
    """Functions, tasks, batches, maps, handles as arguments and `after`."""
    with open_at(path) as orch:
        one = orch.submit(add, 1, other=2)
        two = orch.submit_task(Task.call(add, one, 4, id="two"))
        batch = orch.submit_tasks(
            [
                Task.call(echo, "late", after=["first"], id="late"),
                Task.call(echo, "first", id="first"),
            ]
        )
        listed = orch.submit(total, [one, two, 10])
        forward = Task.call(echo, "x")
        pair = orch.submit_tasks([Task.call(echo, forward), forward])
        assert list(orch.map(add, range(5), range(5))) == [0, 2, 4, 6, 8]
        assert list(orch.map(add, [one, two])) == [3, 7]
        assert (one.result(PATIENCE), two.result(PATIENCE)) == (3, 7)
        assert [handle.result(PATIENCE) for handle in batch] == ["late", "first"]
        assert listed.result(PATIENCE) == 20
        assert [handle.result(PATIENCE) for handle in pair] == ["x", "x"]
        assert orch.handle("two") is two
        assert orch.wait(PATIENCE)
    assert path.exists()


def test_submission_before_the_start_waits_for_it(path: Path) -> None:
    """What is submitted earlier is kept, and runs when the block is entered."""
    orch = open_at(path)
    handle = orch.submit(add, 1, 1)
    assert not handle.done()
    with orch:
        assert handle.result(PATIENCE) == 2


def test_what_is_changed_before_the_start_is_kept(path: Path) -> None:
    with TaskOrchestrator(journal=path) as orch:
        orch.submit_task(Task.wait_for("go", id="wait"))
        orch.submit_task(Task.call(len, "x", id="after", after=["wait"]))
        orch.suspend_task("after")
    for change, state in (
        (lambda orch: orch.resume_task("after"), "pending"),
        (lambda orch: orch.suspend_task("after"), "suspended"),
        (lambda orch: orch.cancel_task("after"), "cancelled"),
    ):
        orch = TaskOrchestrator(journal=path)
        assert change(orch)
        orch.stop(drain=False)
        assert JournalReader(path).get_task_status("after").state == state


def test_callbacks_futures_and_as_completed(path: Path) -> None:
    """The other ways to hear of an end."""
    heard: list[Any] = []
    told = threading.Event()

    def tell(handle: Any) -> None:
        heard.append(handle)
        told.set()

    with open_at(path) as orch:
        go = gate("a")
        handle = orch.submit(hold, "a", 7)
        handle.add_done_callback(tell)
        future = handle.future()
        assert not handle.done()
        assert not future.done()
        go.set()
        assert future.result(PATIENCE) == 7
        assert told.wait(PATIENCE)
        handles = [orch.submit(echo, number) for number in range(20)]
        ended = list(taskorch.as_completed(handles, PATIENCE))
        assert sorted(handle.result() for handle in ended) == list(range(20))
    assert heard == [handle]


def test_errors_are_the_original_ones_in_this_incarnation(path: Path) -> None:
    """The process that saw an exception raises that one."""
    with open_at(path) as orch:
        handle = orch.submit(break_down, "seen")
        with pytest.raises(ZeroDivisionError, match="seen"):
            handle.result(PATIENCE)
        with pytest.raises(Permanent, match="never"):
            orch.submit(refuse).result(PATIENCE)


@in_loop
async def test_inside_async_with(path: Path) -> None:
    """`orch.aio` has all of it as awaitables; handles are awaited."""
    async with open_at(path) as orch:
        first = await orch.aio.submit(add, 1, 2)
        again = await orch.aio.submit(add, 3, 4)
        coroutine = await orch.aio.submit(echo_async, "c")
        third = await orch.aio.submit_task(Task.call(add, first, again, id="third"))
        batch = await orch.aio.submit_tasks([Task.call(echo, n) for n in range(3)])
        assert await third == 10
        assert await coroutine == "c"
        assert await asyncio.gather(*batch) == [0, 1, 2]
        assert [n async for n in orch.aio.map(add, range(4))] == [0, 1, 2, 3]
        many = await asyncio.gather(*(orch.aio.submit(add, n) for n in range(50)))
        assert await asyncio.gather(*many) == list(range(50))
        assert (await orch.aio.get_task_status("third")).result == 10
        assert await orch.aio.cancel_task("third") is False
        again = await orch.aio.rerun_task("third")
        assert again.task_id == "third~2"
        assert await again == 10
        assert await orch.aio.wait(PATIENCE)
        with pytest.raises(ZeroDivisionError):
            await (await orch.aio.submit(break_down))


@in_loop
async def test_plain_calls_on_a_running_loop_are_refused(path: Path) -> None:
    """They would block it; the hint names `orch.aio`, and nothing was accepted."""
    async with open_at(path) as orch:
        held = await orch.aio.submit_task(Task.call(echo, id="x"))
        await held
        calls: list[Callable[[], Any]] = [
            lambda: orch.submit(add, 1),
            lambda: orch.submit_task(Task.call(add, 1)),
            lambda: orch.submit_task(Task.call(add, 1, id="y")),
            lambda: orch.submit_tasks([Task.call(add, 1)]),
            lambda: orch.map(add, [1]),
            lambda: orch.cancel_task("x"),
            lambda: orch.set_priority("x", 2),
            lambda: orch.suspend_task("x"),
            lambda: orch.resume_task("x"),
            lambda: orch.rerun_task("x"),
            lambda: orch.expire_tasks(5),
            held.cancel,
        ]
        for call in calls:
            with pytest.raises(WouldBlockError, match="durable") as caught:
                call()
            assert "orch.aio" in caught.value.hint
        assert [status.task_id for status in orch.tasks()] == ["x"]


@in_loop
async def test_plain_calls_may_wait_on_the_loop_where_one_has_opened_it(
    path: Path,
) -> None:
    """A cell of a notebook: `with` has blocked its loop, so a commit may, too."""
    orch = open_at(path)

    @orch.agent("async", capabilities={"nested"})
    async def _nested(task: Task, context: Any) -> Any:
        orch.submit(echo)

    with orch:
        squares = orch.submit_tasks([Task.call(add, n, n, id=f"{n}") for n in range(3)])
        assert orch.submit_task(Task.call(sum, squares)).result(PATIENCE) == 6
        assert list(orch.map(add, [1, 2])) == [1, 2]
        late = orch.submit_task(Task.call(add, 1, not_before=3600, id="late"))
        assert orch.set_priority("late", 3)
        assert late.cancel()
        assert orch.rerun_task("0").result(PATIENCE) == 0
        wf = Workflow("w")
        wf.task(add, 1, id="one")
        assert orch.workflows.start(wf).result(PATIENCE) == {"one": 1}

        # The loop of the tasks is another.
        with pytest.raises(WouldBlockError):
            orch.submit_task(Task("nested")).result(PATIENCE)

    orch = open_at(path)
    assert await orch.submit_task(Task.call(add, 1, 1, id="1")) == 2
    orch.start()
    assert orch.submit(add, 2).result(PATIENCE) == 2
    orch.stop()


@pytest.mark.parametrize("opened", ["elsewhere", "by another loop", "by aio"])
def test_plain_calls_may_not_wait_on_a_loop_that_was_not_asked(
    path: Path, opened: str
) -> None:
    """Whoever opens it in a main program, or by aio, has said nothing of this loop."""
    orch = open_at(path)

    async def start() -> None:
        orch.start()

    async def handler() -> None:
        if opened == "by aio":
            await orch.aio.submit(echo)
        with pytest.raises(WouldBlockError, match=r"durable") as caught:
            orch.submit_task(Task.call(add, 1))
        assert "write await orch.aio.submit_task(…) for" in caught.value.hint

    if opened == "elsewhere":
        orch.start()
    elif opened == "by another loop":
        asyncio.run(start())
    asyncio.run(handler())
    orch.stop()


@in_loop
async def test_workers_of_both_kinds(path: Path) -> None:
    """Workers with def and async def, checkpoints and progress."""
    orch = open_at(path)

    @orch.agent("plain", capabilities={"p"})
    def _plain(task: Task, context: Any) -> Any:
        context.progress(0.5)
        context.checkpoint({"seen": task.payload})
        return (task.id, task.payload)

    @orch.agent("async", capabilities={"a"})
    async def _async(task: Task, context: Any) -> Any:
        await context.aio.progress(0.5)
        await context.aio.checkpoint({"seen": task.payload})
        return (task.id, task.payload)

    async with orch:
        one = await orch.aio.submit_task(Task("p", {"x": 1}, id="one"))
        two = await orch.aio.submit_task(Task("a", {"x": 2}, id="two"))
        assert await one == ("one", {"x": 1})
        assert await two == ("two", {"x": 2})
        assert (await orch.aio.get_task_status("one")).progress == 0.5
    with open_at(path) as orch:
        assert orch.handle("one").result() == ("one", {"x": 1})
        assert orch.get_task_status("two").result == ("two", {"x": 2})


def test_named_executors(path: Path) -> None:
    """Calls on pools of the user's, of threads and of processes."""
    with ThreadPoolExecutor(2) as threads, ProcessPoolExecutor(1) as processes:
        executors = {"threads": threads, "cpu": processes}
        with open_at(path, executors=executors) as orch:
            one = orch.submit_task(Task.call(add, 1, 2, executor="threads", id="one"))
            two = orch.submit_task(Task.call(add, one, 4, executor="cpu", id="two"))
            bad = orch.submit_task(Task.call(break_down, executor="cpu", id="bad"))
            assert two.result(PATIENCE) == 7
            with pytest.raises(ZeroDivisionError):
                bad.result(PATIENCE)
        with open_at(path, executors=executors) as orch:
            assert orch.handle("two").result() == 7
            with pytest.raises(TaskFailedError, match="no good"):
                orch.handle("bad").result()


def test_programs(path: Path) -> None:
    """Programs run, and their results and failures are kept whole."""
    ok = [sys.executable, "-c", "print('hello')"]
    bad = [
        sys.executable,
        "-c",
        "import sys; print('oh', file=sys.stderr); sys.exit(3)",
    ]
    with open_at(path) as orch:
        one = orch.submit_task(Task.program(ok, id="ok"))
        two = orch.submit_task(Task.program(bad, id="bad"))
        result = one.result(PATIENCE)
        assert result.stdout_tail == "hello\n"
        assert Path(result.log_path).is_relative_to(f"{path}.logs")
        with pytest.raises(ProgramFailedError) as seen:
            two.result(PATIENCE)
        said = str(orch.explain("bad"))
    with open_at(path, keep_finished=0) as orch:
        assert str(orch.explain("bad")) in said
        assert orch.handle("ok").result() == result
        with pytest.raises(ProgramFailedError) as caught:
            orch.handle("bad").result()
        assert caught.value.result == seen.value.result
        assert caught.value.message.endswith(seen.value.message)
        assert caught.value.hint.startswith(seen.value.hint)


def test_retries_timeouts_and_deadlines(path: Path) -> None:
    """Policies of retries and limits of time hold as in memory."""
    retry = RetryPolicy(max_attempts=3, base=0.001, retry_on=ConnectionError)
    with open_at(path) as orch:
        gate("slow")
        ok = orch.submit_task(Task.call(flaky, "f", 2, retry=retry, id="ok"))
        late = orch.submit_task(Task.call(hold, "slow", timeout=0.05, id="late"))
        go = gate("before")
        before = orch.submit(hold, "before")
        dead = orch.submit_task(
            Task.call(echo, after=[before], deadline=0.05, id="dead")
        )
        assert ok.result(PATIENCE) == 3
        for handle in (late, dead):
            with pytest.raises(TaskTimeoutError):
                handle.result(PATIENCE)
        go.set()
        assert orch.get_stats().retries.recovered == 1
    with open_at(path) as orch:
        assert orch.get_task_status("ok").attempts == 3
        for name in ("late", "dead"):
            with pytest.raises(TaskTimeoutError):
                orch.handle(name).result()
        assert orch.get_stats().retries.recovered == 1


def test_control_in_one_incarnation(path: Path) -> None:
    """Cancel, suspend, resume, move, expire, rerun and decide."""
    with open_at(path, concurrency=1) as orch:
        go = gate("a")
        running = orch.submit_task(Task.call(hold, "a", id="a"))
        assert BEGAN["a"].wait(PATIENCE)
        queued = orch.submit_task(Task.call(echo, "b", id="b"))
        assert orch.set_priority("b", 7)
        assert orch.get_task_status("b").priority == 7
        assert orch.suspend_task("b")
        assert orch.get_task_status("b").state is TaskState.SUSPENDED
        assert orch.resume_task("b")
        assert queued.cancel()
        assert queued.cancelled()
        with pytest.raises(TaskCancelledError):
            queued.result(PATIENCE)
        stale = orch.submit_task(Task.call(echo, "c", id="c"))
        assert orch.expire_tasks(0) == ["c"]
        with pytest.raises(TaskExpiredError):
            stale.result(PATIENCE)
        go.set()
        assert running.result(PATIENCE) is None
        again = orch.rerun_task("a")
        assert again.task_id == "a~2"
        assert again.result(PATIENCE) is None
    with open_at(path) as orch:
        assert orch.handle("b").cancelled()
        with pytest.raises(TaskCancelledError, match="by the user"):
            orch.handle("b").result()
        with pytest.raises(TaskExpiredError):
            orch.handle("c").result()
        third = orch.rerun_task("a")
        assert third.task_id == "a~3"
        assert third.result(PATIENCE) is None


def test_a_running_task_is_suspended_at_its_checkpoint(path: Path) -> None:
    """Its state is there when it is resumed, also in the next incarnation."""
    with open_at(path) as orch:
        gate("s")
        orch.submit_task(Task.call(step_by_step, "s", id="s"))
        assert BEGAN["s"].wait(PATIENCE)
        assert orch.suspend_task("s")
        eventually(lambda: orch.get_task_status("s").state is TaskState.SUSPENDED)
    assert CALLS == [("s", [])]
    with open_at(path) as orch:
        assert orch.get_task_status("s").state is TaskState.SUSPENDED
        GATES["s"].set()
        assert orch.resume_task("s")
        assert orch.handle("s").result(PATIENCE) == [0, 1, 2]
    assert CALLS == [("s", []), ("s", [0])]


async def checkpoint_on_the_loop() -> None:
    current_context().checkpoint([1])


def test_a_coroutine_may_not_wait_for_its_checkpoint_on_the_loop(path: Path) -> None:
    """It is told how it may."""
    with open_at(path) as orch:
        handle = orch.submit_task(Task.call(checkpoint_on_the_loop, id="c"))
        error = handle.exception(PATIENCE)
        assert isinstance(error, WouldBlockError)
        assert "await context.aio.checkpoint" in str(error.hint)


def test_tasks_inside_tasks(path: Path) -> None:
    """A task submits another and waits for it, with one slot."""
    with open_at(path, concurrency=1) as orch:
        ORCH[:] = [orch]
        assert orch.submit(call_another, 4).result(PATIENCE) == 5
    ORCH.clear()


def test_context_variables_are_copied(path: Path) -> None:
    """A task of this incarnation sees the variables of whoever submitted it."""
    with open_at(path) as orch:
        token = VARIABLE.set("here")
        try:
            handle = orch.submit(read_variable)
        finally:
            VARIABLE.reset(token)
        assert handle.result(PATIENCE) == "here"


def test_many_threads_submit_at_once(path: Path) -> None:
    """Nothing is lost or done twice."""
    with open_at(path) as orch:
        with ThreadPoolExecutor(8) as pool:
            handles = list(pool.map(lambda n: orch.submit(echo, n), range(60)))
        assert [handle.result(PATIENCE) for handle in handles] == list(range(60))
        ids = [handle.task_id for handle in handles]
    assert sorted(CALLS) == list(range(60))
    with open_at(path) as orch:
        assert [orch.handle(name).result() for name in ids] == list(range(60))
        assert orch.get_stats().state_machine.completed == 60


# -- values ----------------------------------------------------------------------------

VALUES = [
    None,
    True,
    0,
    -1,
    2**70,
    10**2000,
    1.5,
    -0.0,
    float("inf"),
    float("nan"),
    "",
    "text ünï \N{SNOWMAN} \x00 \ud800",
    b"",
    b"\x00\xff",
    [],
    [1, [2, [3]]],
    (),
    (1, (2, [3, (4,)])),
    {},
    {"a": {"b": [1, 2, (3,)]}},
    {1: "one", (1, 2): "pair", None: 0},
    {"$tuple": [1], "$": 2},
    {1, 2, 3},
    frozenset({"a"}),
    datetime(2026, 1, 2, 3, 4, 5, 6),  # noqa: DTZ001 - a naive one, on purpose
    datetime(2026, 1, 2, tzinfo=UTC),
    datetime(2026, 10, 25, 2, 30, fold=1, tzinfo=ZoneInfo("Europe/Berlin")),
    datetime(2026, 1, 2, tzinfo=timezone(timedelta(hours=5, minutes=30))),
    Path("a/b"),
    Resources(cpu=1, gpu=2),
]


def test_values_come_back_as_they_went(path: Path) -> None:
    """
    Arguments and results of all kinds, with their exact types, in the next incarnation.
    """
    with open_at(path) as orch:
        handles = [
            orch.submit_task(Task.call(echo, value, id=f"v{number}"))
            for number, value in enumerate(VALUES)
        ]
        for handle, value in zip(handles, VALUES, strict=True):
            assert repr(handle.result(PATIENCE)) == repr(value)
    with open_at(path) as orch:
        for number, value in enumerate(VALUES):
            assert repr(orch.handle(f"v{number}").result()) == repr(value)
            again = orch.submit_task(Task.call(echo, value, id=f"v{number}"))
            assert again is orch.handle(f"v{number}")
            rerun = orch.rerun_task(f"v{number}")
            assert repr(rerun.result(PATIENCE)) == repr(value)


def test_an_argument_is_kept_as_it_was_when_it_was_submitted(path: Path) -> None:
    """What changes later is not what the journal has."""
    gate("m")
    orch = open_at(path)
    payload = {"n": [1]}
    orch.submit_task(Task.call(echo, payload, id="m"))
    payload["n"].append(2)
    orch.stop(drain=False)
    with open_at(path) as orch:
        assert orch.handle("m").result(PATIENCE) == {"n": [1]}


# -- stopping with work left -----------------------------------------------------------


def left_of(report: Any) -> dict[str, str]:
    """What a stop report says is left, by id."""
    return {left.task_id: str(left.state) for left in report.left}


def test_what_is_left_goes_on_at_the_next_opening(path: Path) -> None:
    """`stop(drain=False)` leaves running and queued tasks, and says so."""
    orch = open_at(path, concurrency=1)
    orch.start()
    go = gate("a")
    one = orch.submit_task(Task.call(hold, "a", 1, id="a"))
    two = orch.submit_task(Task.call(echo, 2, id="b"))
    three = orch.submit_task(Task.call(add, two, 1, id="c"))
    assert BEGAN["a"].wait(PATIENCE)
    report = orch.stop(drain=False)
    assert left_of(report) == {"a": "running", "b": "queued", "c": "pending"}
    assert not report.drained
    assert all(left.reason for left in report.left)
    for handle in (one, two, three):
        assert not handle.done()
        with pytest.raises(NotRunningError, match="has not ended") as caught:
            handle.result(PATIENCE)
        assert caught.value.task_id == handle.task_id
        assert "opened again" in caught.value.hint
    with pytest.raises(NotRunningError):
        orch.submit(echo)
    go.set()
    with open_at(path) as orch:
        assert orch.handle("a").result(PATIENCE) == 1
        assert orch.handle("c").result(PATIENCE) == 3
        assert orch.get_task_status("a").attempts == 2
        assert orch.get_stats().state_machine.completed == 3


def test_futures_of_what_is_left_say_so(path: Path) -> None:
    """A future that was asked for before or after the stop is resolved."""
    orch = open_at(path)
    handle = orch.submit(echo)
    future = handle.future()
    orch.stop(drain=False)
    for resolved in (future, handle.future()):
        with pytest.raises(NotRunningError):
            resolved.result(PATIENCE)


def test_nothing_is_changed_after_the_stop(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is left belongs to the next incarnation: this one refuses to touch it."""
    monkeypatch.setattr(_committer, "_COMMIT_TIMEOUT_S", 0.1)
    orch = open_at(path)
    handle = orch.submit_task(Task.call(echo, id="x"))
    orch.submit_task(Task.call(echo, id="y", not_before=3600))
    orch.submit_task(Task.call(break_down, id="z"))
    orch.stop(drain=False)
    calls: list[Callable[[], Any]] = [
        lambda: orch.cancel_task("x"),
        lambda: orch.suspend_task("x"),
        lambda: orch.resume_task("x"),
        lambda: orch.set_priority("x", 3),
        lambda: orch.expire_tasks(0),
        handle.cancel,
    ]
    for call in calls:
        with pytest.raises(NotRunningError):
            call()
    assert orch.get_task_status("x").state is TaskState.QUEUED
    assert orch.wait(PATIENCE)
    assert [status.task_id for status in orch.tasks()] == ["x", "y", "z"]
    assert orch.health().status == "failed"
    with open_at(path) as orch:
        assert orch.handle("x").result(PATIENCE) is None
        orch.cancel_task("y")


@in_loop
async def test_a_stop_in_a_coroutine_lets_go_of_who_awaits(path: Path) -> None:
    """An exception in the async block leaves the work to the next incarnation."""
    gate("a")
    with pytest.raises(KeyError):  # noqa: PT012 - the block is what raises
        async with open_at(path) as orch:
            handle = await orch.aio.submit_task(Task.call(hold, "a", 5, id="a"))
            task = await orch.aio.submit_task(Task.call(step_async, "s", id="s"))
            gate("s")
            waiting = asyncio.ensure_future(asyncio.wait_for(handle, PATIENCE))
            await asyncio.to_thread(BEGAN["a"].wait, PATIENCE)
            raise KeyError
    with pytest.raises(NotRunningError):
        await waiting
    assert task.task_id == "s"
    GATES["a"].set()
    GATES["s"].set()
    async with open_at(path) as orch:
        assert await (await orch.aio.handle("a")) == 5
        assert len(await (await orch.aio.handle("s"))) in (1, 2)


def test_an_exception_in_the_block_leaves_the_work(path: Path) -> None:
    """It stops without a drain; what has not ended is there next time."""
    gate("a")
    with pytest.raises(KeyError), open_at(path) as orch:  # noqa: PT012 - as above
        orch.submit_task(Task.call(hold, "a", 5, id="a"))
        assert BEGAN["a"].wait(PATIENCE)
        raise KeyError
    GATES["a"].set()
    with open_at(path) as orch:
        assert orch.handle("a").result(PATIENCE) == 5


def test_the_stop_timeout_leaves_the_work(path: Path) -> None:
    """The end of the block waits no longer than it was told."""
    gate("a")
    with open_at(path, stop_timeout=0.02) as orch:
        orch.submit_task(Task.call(hold, "a", 5, id="a"))
        assert BEGAN["a"].wait(PATIENCE)
    report = orch.stop()
    assert left_of(report) == {"a": "running"}
    GATES["a"].set()
    with open_at(path) as orch:
        assert orch.handle("a").result(PATIENCE) == 5


def test_a_checkpoint_survives_the_stop(path: Path) -> None:
    """
    The next incarnation goes on from the latest state, in functions and coroutines.
    """
    orch = open_at(path)
    orch.start()
    gate("s")
    gate("t")
    orch.submit_task(Task.call(step_by_step, "s", id="s"))
    orch.submit_task(Task.call(step_async, "t", id="t"))
    assert BEGAN["s"].wait(PATIENCE)
    assert BEGAN["t"].wait(PATIENCE)
    orch.stop(drain=False)
    GATES["s"].set()
    GATES["t"].set()
    with open_at(path) as orch:
        assert orch.handle("s").result(PATIENCE) == [0, 1, 2]
        assert orch.handle("t").result(PATIENCE) == [0, 1]
    assert sorted(CALLS) == [("s", []), ("s", [0]), ("t", []), ("t", [0])]


def test_a_task_that_ends_while_it_stops_has_ended(path: Path) -> None:
    """What completes within the grace of a stop is kept as completed."""
    orch = open_at(path)
    orch.start()
    go = gate("d")
    handle = orch.submit_task(Task.call(hold_deaf, "d", 4, id="d"))
    assert BEGAN["d"].wait(PATIENCE)
    stopping = threading.Thread(target=orch.stop, kwargs={"drain": False})
    stopping.start()
    eventually(lambda: "stopped" in repr(orch))
    go.set()
    stopping.join(PATIENCE)
    assert handle.result(PATIENCE) == 4
    with open_at(path) as orch:
        assert orch.handle("d").result() == 4
    assert CALLS == ["d"]


@FOLDED
def test_a_task_that_must_not_run_twice_is_held(path: Path) -> None:
    """`idempotent=False` and interrupted: a person decides, in whichever life."""
    orch = open_at(path)
    orch.start()
    for name in ("a", "b", "c"):
        gate(name)
        orch.submit_task(Task.call(hold, name, 1, id=name, idempotent=False))
        assert BEGAN[name].wait(PATIENCE)
    orch.stop(drain=False)
    for opening in GATES.values():
        opening.set()
    with open_at(path) as orch:
        for name in ("a", "b", "c"):
            status = orch.get_task_status(name)
            assert status.state is TaskState.BLOCKED
            assert status.blocked_by == ("decision",)
        assert orch.decide("a", "retry")
        assert orch.handle("a").result(PATIENCE) == 1
    with open_at(path) as orch:
        assert orch.get_task_status("b").state is TaskState.BLOCKED
        assert orch.decide("b", "complete", {"by": ("hand",)})
        assert orch.handle("b").result(PATIENCE) == {"by": ("hand",)}
        assert orch.decide("c", "fail")
        with pytest.raises(TaskFailedError, match="decision"):
            orch.handle("c").result(PATIENCE)
    with open_at(path) as orch:
        assert orch.handle("a").result() == 1
        assert orch.handle("b").result() == {"by": ("hand",)}
        with pytest.raises(TaskFailedError, match="decision"):
            orch.handle("c").result()
        assert not orch.decide("b", "retry")
    assert CALLS == ["a", "b", "c", "a"]


def test_stop_is_idempotent_and_lets_go_of_the_file(path: Path) -> None:
    """The second call gives the same report; another may open the journal then."""
    orch = open_at(path)
    orch.start()
    with pytest.raises(JournalTakenError):
        open_at(path).start()
    report = orch.stop()
    assert orch.stop() is report
    with open_at(path):
        pass


# -- reopening -------------------------------------------------------------------------

#: How many that have ended stay in memory, and what the next incarnation begins with.
KEEP = pytest.mark.parametrize(
    ("keep_finished", "folded"),
    [(0, "facts"), (2, "snapshot"), (10_000, "facts")],
    indirect=["folded"],
)


@KEEP
@FOLDED
def test_results_and_errors_of_earlier_incarnations(
    path: Path, keep_finished: int
) -> None:
    """Whoever asks later gets the same, whether it has left memory or not."""
    with open_at(path, keep_finished=keep_finished) as orch:
        orch.submit_task(Task.call(add, 1, 2, id="one"))
        orch.submit_task(Task.call(break_down, "lost", id="bad"))
        orch.submit_task(Task.call(refuse, id="never"))
        orch.submit_task(Task.call(echo, "x", not_before=3600, id="off"))
        assert orch.cancel_task("off")
        orch.submit_task(Task.call(echo, None, id="none"))
        assert orch.wait(PATIENCE)
    for _ in range(2):
        with open_at(path, keep_finished=keep_finished) as orch:
            assert orch.handle("one").result() == 3
            assert orch.handle("none").result() is None
            assert orch.handle("none").done()
            bad = orch.handle("bad")
            assert bad.done()
            with pytest.raises(TaskFailedError) as caught:
                bad.result()
            error = caught.value
            assert error.type == "ZeroDivisionError"
            assert "UTC: task bad raised ZeroDivisionError: lost" in str(error)
            assert "in break_down" in error.traceback
            assert error.traceback.endswith("ZeroDivisionError: lost\n")
            assert error.task_id == "bad"
            never = orch.handle("never").exception()
            assert isinstance(never, TaskFailedError)
            assert never.type == "Permanent"
            with pytest.raises(TaskCancelledError, match="cancelled by the user"):
                orch.handle("off").result()
            status = orch.get_task_status("one")
            assert (status.state, status.result) == (TaskState.COMPLETED, 3)
            assert status.is_terminal
            assert type(orch.get_task_status("bad").error) is TaskFailedError
            with pytest.raises(UnknownTaskError):
                orch.handle("unknown")
            with pytest.raises(UnknownTaskError):
                orch.get_task_status("unknown")
            counts = orch.get_stats().state_machine
            assert (counts.completed, counts.failed, counts.cancelled) == (2, 2, 1)


@KEEP
@FOLDED
def test_running_the_same_script_again(path: Path, keep_finished: int) -> None:
    """Known ids give the handles that are there; other content is refused."""

    def script(orch: TaskOrchestrator) -> list[Any]:
        first = orch.submit_task(Task.call(add, 1, 2, id="first"))
        second = orch.submit_task(Task.call(add, first, 4, id="second"))
        third = orch.submit_task(
            Task.call(total, [first, second], id="third", priority=2, timeout=60)
        )
        key = orch.submit_task(Task.call(echo, (1, 2), idempotency_key="key"))
        return [first, second, third, key]

    ids: list[list[str]] = []
    for _ in range(3):
        with open_at(path, keep_finished=keep_finished) as orch:
            handles = script(orch)
            ids.append([handle.task_id for handle in handles])
            assert [h.result(PATIENCE) for h in handles] == [3, 7, 10, (1, 2)]
            assert orch.wait(PATIENCE)
            script(orch)
            for other in (
                Task.call(add, 1, 3, id="first"),
                Task.call(echo, 1, id="first"),
                Task.call(add, 1, 2, id="first", after=["second"]),
                Task.call(add, 3, 4, id="second"),
                Task.call(echo, (1, 3), idempotency_key="key"),
                Task.call(echo, [1, 2], idempotency_key="key"),
            ):
                with pytest.raises(DuplicateTaskError):
                    orch.submit_task(other)
            assert orch.get_stats().state_machine.total == 4
    assert CALLS == [(1, 2), (1, 2), (3, 4)] or len(CALLS) == 3
    assert ids[0] == ids[1] == ids[2]


@KEEP
@FOLDED
def test_dependencies_on_tasks_of_earlier_incarnations(
    path: Path, keep_finished: int
) -> None:
    """By id and by handle, in arguments, lists and `after`."""
    with open_at(path, keep_finished=keep_finished) as orch:
        orch.submit_task(Task.call(add, 1, 2, id="old"))
        orch.submit_task(Task.call(break_down, id="bad"))
        assert orch.wait(PATIENCE)
        for number in range(4):
            orch.submit(echo, number)
    with open_at(path, keep_finished=keep_finished) as orch:
        old = orch.handle("old")
        assert orch.submit(add, old, 1).result(PATIENCE) == 4
        assert orch.submit(total, [old, old]).result(PATIENCE) == 6
        after = orch.submit_task(Task.call(echo, "after", after=["old"], id="after"))
        assert after.result(PATIENCE) == "after"
        by_task = Task.call(add, 1, 2, id="old")
        assert orch.submit(add, by_task, 5).result(PATIENCE) == 8
        blocked = orch.submit_task(Task.call(echo, after=["bad"], id="blocked"))
        with pytest.raises(DependencyFailedError) as caught:
            blocked.result(PATIENCE)
        assert "bad" in str(caught.value)
        with pytest.raises(UnknownTaskError):
            orch.submit_task(Task.call(echo, after=["unknown"]))
    with open_at(path, keep_finished=keep_finished) as orch:
        by_task = Task.call(add, 1, 2, id="old")
        assert orch.submit(add, by_task, 5).result(PATIENCE) == 8
        with pytest.raises(DependencyFailedError):
            orch.handle("blocked").result(PATIENCE)
        again = orch.submit_task(Task.call(echo, "after", after=["old"], id="after"))
        assert again.result(PATIENCE) == "after"


def test_a_handle_of_this_incarnation_outlives_memory(path: Path) -> None:
    """Its task has left memory, and it is a dependency all the same."""
    with open_at(path, keep_finished=0) as orch:
        first = orch.submit(add, 1, 2)
        assert first.result(PATIENCE) == 3
        for number in range(5):
            orch.submit(echo, number).result(PATIENCE)
        assert orch.submit(add, first, 1).result(PATIENCE) == 4
        assert orch.submit(total, [first]).result(PATIENCE) == 3
        assert orch.handle(first.task_id).result(PATIENCE) == 3
        assert orch.get_task_status(first.task_id).result == 3


@FOLDED
def test_every_state_goes_on_where_it_was(path: Path) -> None:
    """Pending, delayed, retrying, suspended, blocked, held and queued, over a stop."""
    retry = RetryPolicy(max_attempts=2, base=3600, jitter=0)
    options: dict[str, Any] = {"resources": Resources(cpu=1, memory_mb=100)}
    orch = open_at(path, **options)
    orch.start()
    for name in ("run", "held"):
        gate(name)
    orch.submit_task(
        Task.call(hold, "run", "ran", id="run", resources=Resources(cpu=1))
    )
    orch.submit_task(Task.call(hold, "held", 1, id="held", idempotent=False))
    assert BEGAN["run"].wait(PATIENCE)
    assert BEGAN["held"].wait(PATIENCE)
    orch.submit_task(
        Task.call(echo, "q", id="queued", resources=Resources(cpu=1), priority=3)
    )
    orch.submit_task(Task.call(echo, "p", id="pending", after=["run", "queued"]))
    orch.submit_task(Task.call(echo, "d", id="delayed", not_before=3600))
    orch.submit_task(Task.call(flaky, "f", 1, id="retrying", retry=retry))
    eventually(lambda: orch.get_task_status("retrying").state is TaskState.RETRYING)
    orch.submit_task(Task.call(echo, "s", id="suspended", not_before=3600))
    orch.suspend_task("suspended")
    orch.submit_task(Task.call(break_down, id="bad"))
    orch.submit_task(Task.call(echo, "b", id="blocked", after=["bad"]))
    eventually(lambda: orch.get_task_status("blocked").state is TaskState.BLOCKED)
    report = orch.stop(drain=False)
    assert left_of(report) == {
        "run": "running",
        "held": "running",
        "queued": "queued",
        "pending": "pending",
        "delayed": "pending",
        "retrying": "retrying",
        "suspended": "suspended",
        "blocked": "blocked",
    }
    # Once more: nothing is done, and nothing changes.
    orch = open_at(path, **options)
    report = orch.stop()
    assert left_of(report) == {}
    orch = open_at(path, **options)
    orch.tasks()
    states = left_of(orch.stop(drain=False))
    assert states == {
        "run": "queued",
        "held": "blocked",
        "queued": "queued",
        "pending": "pending",
        "delayed": "pending",
        "retrying": "retrying",
        "suspended": "suspended",
        "blocked": "blocked",
    }
    for opening in GATES.values():
        opening.set()
    with open_at(path, **options) as orch:
        assert orch.handle("run").result(PATIENCE) == "ran"
        assert orch.handle("queued").result(PATIENCE) == "q"
        assert orch.handle("pending").result(PATIENCE) == "p"
        assert orch.get_task_status("delayed").state is TaskState.PENDING
        assert orch.get_task_status("retrying").state is TaskState.RETRYING
        assert orch.get_task_status("queued").priority == 3
        with pytest.raises(DependencyFailedError):
            orch.handle("blocked").result(PATIENCE)
        again = orch.rerun_task("bad")
        assert isinstance(again.exception(PATIENCE), ZeroDivisionError)
        assert orch.get_task_status("blocked").blocked_by == ("bad~2",)
        assert orch.resume_task("suspended")
        assert orch.get_task_status("suspended").state is TaskState.PENDING
        assert orch.decide("held", "complete", "done")
        for name in ("delayed", "retrying", "suspended", "blocked"):
            assert orch.cancel_task(name)
    assert len([call for call in CALLS if call == "f"]) == 1


def test_deadlines_and_dates_count_across_a_restart(path: Path) -> None:
    """Seconds from the submission go on while nobody runs."""
    orch = open_at(path)
    orch.submit_task(Task.call(echo, "late", id="late", deadline=0.05))
    orch.submit_task(Task.call(echo, "due", id="due", not_before=0.05))
    orch.submit_task(Task.call(echo, "far", id="far", not_before=3600))
    date = datetime.now(UTC) + timedelta(hours=2)
    orch.submit_task(Task.call(echo, "dated", id="dated", not_before=date))
    orch.stop()
    over = time.time() + 0.06
    eventually(lambda: time.time() > over)
    with open_at(path) as orch:
        with pytest.raises(TaskTimeoutError, match="deadline"):
            orch.handle("late").result(PATIENCE)
        assert orch.handle("due").result(PATIENCE) == "due"
        for name in ("far", "dated"):
            assert orch.get_task_status(name).state is TaskState.PENDING
            same = {
                "far": Task.call(echo, "far", id="far", not_before=3600),
                "dated": Task.call(echo, "dated", id="dated", not_before=date),
            }[name]
            assert orch.submit_task(same) is orch.handle(name)
            orch.cancel_task(name)


@FOLDED
def test_time_does_not_go_back_with_the_clock(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Set back an hour between two incarnations, also if nothing is left in memory."""
    with open_at(path, keep_finished=0) as orch:
        orch.map(echo, range(5))
        orch.wait()
    wall = time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: wall() - 3600 * 10**9)
    for _ in range(2):
        with open_at(path, keep_finished=0) as orch:
            assert orch.submit(echo, 1).result(PATIENCE) == 1
    times = [event[2] for event, _ in SqliteJournal(path).read()]
    assert times == sorted(times)


@FOLDED
def test_priorities_are_kept(path: Path) -> None:
    """The order of the queue is the same in the next incarnation."""
    orch = open_at(path, concurrency=1)
    for name, priority in (("low", -5), ("mid", 0), ("high", 5), ("moved", 0)):
        orch.submit_task(Task.call(echo, name, id=name, priority=priority))
    orch.set_priority("moved", 9)
    assert {*left_of(orch.stop())} == {"low", "mid", "high", "moved"}
    with open_at(path, concurrency=1) as orch:
        assert orch.wait(PATIENCE)
    assert CALLS == ["moved", "high", "mid", "low"]


@FOLDED
def test_statistics_are_kept(path: Path) -> None:
    """Counts, causes, durations and the records of workers go on."""

    def incarnation() -> TaskOrchestrator:
        orch = open_at(path)
        orch.agent("reviewer", capabilities={"review"})(review)
        return orch

    with incarnation() as orch:
        for number in range(5):
            orch.submit_task(Task("review", number))
        for _ in range(2):
            orch.submit(break_down)
        orch.submit(echo)
        assert orch.wait(PATIENCE)
        first = orch.get_stats()
    with incarnation() as orch:
        second = orch.get_stats()
        assert second.state_machine == first.state_machine
        assert second.retries == first.retries
        assert second.failures == first.failures
        assert second.types == first.types
        assert second.agents["reviewer"].completed == 5
        assert (
            second.agents["reviewer"].performance
            == first.agents["reviewer"].performance
        )


def review(task: Task, context: Any) -> Any:
    del context
    CALLS.append(task.payload)
    return task.payload


@FOLDED
def test_a_rerun_of_an_earlier_incarnation(path: Path) -> None:
    """What failed is run again, and what it blocked goes on, over two restarts."""
    with open_at(path) as orch:
        orch.submit_task(Task.call(flaky, "f", 1, id="f"))
        orch.submit_task(Task.call(add, 1, after=["f"], id="next"))
        orch.submit_task(
            Task.call(add, Task.call(flaky, "f", 1, id="f"), 10, id="uses")
        )
        assert orch.wait(PATIENCE)
    orch = open_at(path)
    again = orch.rerun_task("f")
    assert again.task_id == "f~2"
    orch.stop()
    with open_at(path) as orch:
        assert orch.handle("f~2").result(PATIENCE) == 2
        assert orch.handle("next").result(PATIENCE) == 1
        assert orch.handle("uses").result(PATIENCE) == 12
        assert isinstance(orch.handle("f~1").exception(), TaskFailedError)
        assert orch.handle("f") is orch.handle("f~2")
    with open_at(path, keep_finished=0) as orch:
        assert orch.handle("uses").result(PATIENCE) == 12
        assert orch.handle("f").result(PATIENCE) == 2
        assert orch.handle("f~2").result(PATIENCE) == 2
        assert isinstance(orch.handle("f~1").exception(), TaskFailedError)


def test_ids_of_two_incarnations_differ(path: Path) -> None:
    """Also with a seed; and the fence rises."""
    names: set[str] = set()
    fences = []
    for _ in range(3):
        with open_at(path, seed=7) as orch:
            names.update(orch.submit(echo).task_id for _ in range(3))
            fences.append(orch.submit(fence).result(PATIENCE))
    assert len(names) == 9
    assert fences == sorted(set(fences))


def fence() -> tuple[int, int]:
    return current_context().fence


def test_events_tell_of_this_incarnation_only(path: Path) -> None:
    """Receivers hear of what is kept, once, in the incarnation in which it happened."""
    names = ("task_submitted", "task_started", "task_completed")
    with open_at(path) as orch:
        recorder = Recorder(orch, *names)
        orch.submit_task(Task.call(add, 1, id="x")).result(PATIENCE)
        recorder.wait_for(3)
    orch = open_at(path)
    later = Recorder(orch, *names, "orchestrator_started")
    with orch:
        orch.submit_task(Task.call(add, 2, id="y")).result(PATIENCE)
        later.wait_for(4)
    assert recorder.names() == ["TaskSubmitted", "TaskStarted", "TaskCompleted"]
    assert later.names() == ["OrchestratorStarted", *recorder.names()]
    numbers = [event.seq for event in (*recorder.events, *later.events)]
    assert numbers == sorted(set(numbers))


def test_the_first_look_opens_the_journal(path: Path) -> None:
    """Questions before the start see what earlier incarnations have left."""
    with open_at(path) as orch:
        orch.submit_task(Task.call(add, 1, 2, id="x")).result(PATIENCE)
    asks: list[Callable[[TaskOrchestrator], Any]] = [
        lambda orch: orch.get_task_status("x").result == 3,
        lambda orch: orch.handle("x").result() == 3,
        lambda orch: [status.task_id for status in orch.tasks()] == ["x"],
        lambda orch: orch.get_stats().state_machine.completed == 1,
        lambda orch: orch.submit_task(Task.call(add, 1, 2, id="x")).result() == 3,
        lambda orch: "completed" in str(orch.explain("x")),
        lambda orch: not orch.cancel_task("x"),
        lambda orch: orch.rerun_task("x").task_id == "x~2",
    ]
    for ask in asks:
        orch = open_at(path)
        assert ask(orch)
        orch.stop()


# -- what cannot be kept ---------------------------------------------------------------


class Thing:
    """Nothing that a journal knows."""

    def method(self) -> None:
        """Of an object."""


def local_function() -> Callable[[], int]:
    def inside() -> int:
        return 1

    return inside


def workflow_with(value: object) -> Workflow:
    wf = Workflow("w")
    wf.task(echo, value, id="a")
    return wf


REFUSED: list[tuple[str, Callable[[TaskOrchestrator], Any], str, str]] = [
    ("lambda", lambda o: o.submit(lambda: 1), "payload.fn", "top level"),
    ("closure", lambda o: o.submit(local_function()), "payload.fn", "top level"),
    ("method", lambda o: o.submit(Thing().method), "payload.fn", "top level"),
    ("object", lambda o: o.submit(echo, Thing()), r"payload.args\[0\]", "JSON"),
    ("in a list", lambda o: o.submit(echo, [1, Thing()]), r"args\[0\]\[1\]", "JSON"),
    ("keyword", lambda o: o.submit(echo, value=Thing()), "kwargs.value", "JSON"),
    ("map", lambda o: o.map(echo, [1, Thing()]), r"args\[0\]", "JSON"),
    ("map lambda", lambda o: o.map(lambda x: x, [1]), "payload.fn", "top level"),
    (
        "batch",
        lambda o: o.submit_tasks([Task.call(echo, 1), Task.call(echo, Thing())]),
        r"a task of type '\S+' cannot be kept: payload.args\[0\]",
        "JSON",
    ),
    (
        "named batch",
        lambda o: o.submit_tasks([Task.call(echo, 1, id="a"), Task.call(lambda: 1)]),
        "payload.fn",
        "top level",
    ),
    (
        "workflow",
        lambda o: o.workflows.start(workflow_with(Thing()), id="run"),
        r"task 'run/a' cannot be kept: payload.args\[0\]",
        "JSON",
    ),
    (
        "metadata",
        lambda o: o.submit_task(Task.call(echo, metadata={"m": Thing()})),
        "metadata.m",
        "JSON",
    ),
    (
        "retry_on",
        lambda o: o.submit_task(
            Task.call(echo, retry=RetryPolicy(retry_on=lambda e: True))
        ),
        "retry.retry_on",
        "top level",
    ),
    (
        "agent",
        lambda o: o.submit_task(Task("work", {"x": [Thing()]})),
        r"payload.x\[0\]",
        "JSON",
    ),
]


@pytest.mark.parametrize(
    ("submit", "place", "remedy"),
    [case[1:] for case in REFUSED],
    ids=[case[0] for case in REFUSED],
)
def test_what_cannot_be_kept_is_refused(
    path: Path, submit: Callable[[TaskOrchestrator], Any], place: str, remedy: str
) -> None:
    """At the submission, naming the path and the remedy; nothing was accepted."""
    orch = open_at(path)
    orch.agent("worker", capabilities={"work"})(review)
    with orch:
        # Twice: the second time the validator has seen the like.
        for _ in range(2):
            with pytest.raises(InvalidTaskError, match=place) as caught:
                submit(orch)
            assert remedy in str(caught.value.hint)
            assert caught.value.hint
        assert orch.wait(PATIENCE)
        # The handle that was nested had a task of its own.
        assert all(status.type == "echo" for status in orch.tasks())
        assert all(status.state is TaskState.COMPLETED for status in orch.tasks())
        assert orch.submit(add, 1, 1).result(PATIENCE) == 2
    assert not [call for call in CALLS if call not in (None, (1, 1))]


def test_the_loop_refuses_what_cannot_be_kept(path: Path) -> None:
    """So does `orch.aio`, and the loop goes on."""

    async def main() -> None:
        async with open_at(path) as orch:
            for _ in range(2):
                with pytest.raises(InvalidTaskError, match="top level"):
                    await orch.aio.submit(lambda: 1)
                with pytest.raises(InvalidTaskError, match="args"):
                    await orch.aio.submit(echo, Thing())
            assert await (await orch.aio.submit(add, 1)) == 1

    asyncio.run(main())


@pytest.mark.parametrize("fn", [make_object, make_generator])
def test_a_result_that_cannot_be_kept_fails_its_task(
    path: Path, fn: Callable[[], Any]
) -> None:
    """Whoever asks later would not get it: the error says where and what to do."""
    with open_at(path) as orch:
        one = orch.submit_task(Task.call(fn, id="one"))
        two = orch.submit_task(Task.call(echo, one, id="two"))
        with pytest.raises(InvalidTaskError, match="task one: result") as caught:
            one.result(PATIENCE)
        assert caught.value.hint
        with pytest.raises(DependencyFailedError):
            two.result(PATIENCE)
        assert orch.get_task_status("one").state is TaskState.FAILED
        assert orch.get_task_status("one").result is None
    with open_at(path) as orch:
        with pytest.raises(InvalidTaskError, match="cannot keep it") as again:
            orch.handle("one").result()
        assert type(again.value) is type(caught.value)
        assert again.value.hint == caught.value.hint
        with pytest.raises(InvalidTaskError):
            orch.decide("two", "complete", Thing())


class AlwaysAgain:
    """A RetryHandler that never gives up."""

    def decide(self, failure: Any, context: Any) -> RetryDecision:
        del failure, context
        return RetryDecision(retry=True)


def test_a_result_that_cannot_be_kept_is_not_made_again(path: Path) -> None:
    """It would be the like: whatever the policy says, and the handler."""
    with open_at(path, retry_handler=AlwaysAgain()) as orch:
        retry = RetryPolicy(max_attempts=3, base=0.001, retry_on=UnkeptResultError)
        handle = orch.submit_task(Task.call(make_object, id="one", retry=retry))
        with pytest.raises(UnkeptResultError, match="task one: result") as caught:
            handle.result(PATIENCE)
        assert caught.value.code == "unkept_result"
        assert caught.value.hint
        assert orch.get_task_status("one").attempts == 1
    assert CALLS == ["object"]


def checkpoint_thing() -> str:
    try:
        current_context().checkpoint(Thing())
    except InvalidTaskError as error:
        return str(error)
    return "kept"


def progress_thing() -> None:
    current_context().progress(Thing())


def test_a_checkpoint_that_cannot_be_kept_is_refused(path: Path) -> None:
    """The task hears of it where it said so; a progress report is shown as it is."""
    with open_at(path) as orch:
        assert "cannot be restored exactly" in orch.submit(checkpoint_thing).result(
            PATIENCE
        )
        handle = orch.submit_task(Task.call(progress_thing, id="p"))
        assert handle.result(PATIENCE) is None
        assert isinstance(orch.get_task_status("p").progress, Thing)


def progress_at_length() -> None:
    current_context().progress("x" * 100_000)


def test_the_event_of_a_long_progress_has_its_beginning_alone(path: Path) -> None:
    """The status has all of it."""
    with open_at(path) as orch:
        recorder = Recorder(orch, "task_progressed")
        orch.submit_task(Task.call(progress_at_length, id="p")).result(PATIENCE)
        assert len(orch.get_task_status("p").progress) == 100_000
        eventually(lambda: recorder.events)
        assert len(recorder.events[0].value) < 10_000


class BadStrError(Exception):
    """An error that cannot say what it is."""

    def __str__(self) -> str:
        raise RuntimeError


def raise_bad_str() -> None:
    raise BadStrError


def raise_surrogate() -> None:
    raise ValueError("\ud800 alone")


def raise_long() -> None:
    raise ValueError("x" * 200_000)


def raise_group() -> None:
    raise ExceptionGroup("many", [ValueError(str(number)) for number in range(50)])


def quit_it() -> None:
    raise SystemExit(3)


class CommandError(Exception):
    """An exception with arguments of its own, that cannot be made from its text."""

    def __init__(self, code: int, where: str) -> None:
        super().__init__(f"{where}: {code}")
        self.code = code


def raise_own() -> None:
    raise CommandError(3, "there")


@pytest.mark.parametrize(
    ("fn", "kind", "said"),
    [
        (raise_bad_str, "BadStrError", "BadStrError"),
        (raise_surrogate, "ValueError", "alone"),
        (raise_long, "ValueError", "xxx"),
        (raise_group, "ExceptionGroup", "many"),
        (quit_it, "SystemExit", "3"),
        (raise_own, "CommandError", "there: 3"),
    ],
)
def test_odd_errors_are_kept(
    path: Path, fn: Callable[[], None], kind: str, said: str
) -> None:
    """Whatever a task raises, its failure is kept, and the rest goes on."""
    with open_at(path) as orch:
        handle = orch.submit_task(Task.call(fn, id="odd"))
        assert handle.exception(PATIENCE) is not None
        assert orch.submit(add, 1).result(PATIENCE) == 1
        assert orch.health().status == "ok"
    with open_at(path) as orch:
        error = orch.handle("odd").exception()
        assert isinstance(error, TaskFailedError)
        assert error.type == kind
        assert said in str(error)


# -- what is gone ----------------------------------------------------------------------

FIRST = """
from taskorch import TaskOrchestrator, Task, current_context
import work
orch = TaskOrchestrator(journal="runs.db", durability="process")
orch.submit_task(Task.call(work.one, 1, id="one"))
orch.submit_task(Task.call(work.two, 2, id="two"))
orch.submit_task(Task.call(work.use, Task.call(work.one, 1, id="one"), id="use"))
orch.submit_task(Task.call(work.two, 3, id="later", after=["two"]))
orch.stop()
"""

LOOK = """
from taskorch import TaskOrchestrator, Task
with TaskOrchestrator(journal="runs.db", durability="process") as orch:
    orch.wait(60)
    for status in orch.tasks():
        blocked = ",".join(status.blocked_by)
        print(status.task_id, status.state, status.result, blocked)
    print(orch.get_task_status("one").history[-1].detail)
"""

WORK = """
def one(x):
    return x
def two(x):
    return x * 10
def use(x):
    return x + 100
"""


def test_a_function_that_is_gone_blocks_its_tasks(tmp_path: Path) -> None:
    """The others go on; it says what is missing; back again, they go on by themselves."""
    incarnation(tmp_path, FIRST, WORK)
    said = incarnation(tmp_path, LOOK, WORK.replace("def one", "def one_more"))
    assert said.splitlines()[:4] == [
        "one blocked None decision",
        "two completed 20 ",
        "use pending None ",
        "later completed 30 ",
    ]
    assert "work:one" in said
    (tmp_path / "work.py").unlink()
    said = incarnation(tmp_path, LOOK)
    assert said.splitlines()[0] == "one blocked None decision"
    said = incarnation(tmp_path, LOOK, WORK)
    assert said.splitlines()[:4] == [
        "one completed 1 ",
        "two completed 20 ",
        "use completed 101 ",
        "later completed 30 ",
    ]


WAITING = """
from taskorch import Task, TaskOrchestrator
import work

orch = TaskOrchestrator(journal="runs.db", durability="process")
first = orch.submit_task(Task.call(int, id="first"))
orch.submit_task(Task.call(work.one, first, id="then"))
orch.stop()
"""
AND_THEN = """
from taskorch import TaskOrchestrator

orch = TaskOrchestrator(journal="runs.db", durability="process")
orch.start()
assert orch.wait(60)
print(orch.get_task_status("first").state, orch.get_task_status("then").state)
orch.stop(drain=False)
"""


def test_a_function_that_is_gone_blocks_a_task_whose_turn_comes_later(
    tmp_path: Path,
) -> None:
    """
    It waits for another at the start of the incarnation: then it is held, and not
    failed.
    """
    incarnation(tmp_path, WAITING, WORK)
    gone = WORK.replace("def one", "def one_more")
    assert incarnation(tmp_path, AND_THEN, gone) == "completed blocked\n"
    assert incarnation(tmp_path, AND_THEN, WORK) == "completed completed\n"


JOINS = """
from taskorch import Task, TaskOrchestrator
import work

orch = TaskOrchestrator(journal="runs.db", durability="process")
orch.submit_task(Task.call(int, id="first"))
orch.submit_task(Task.call(int, "not a number", id="second"))
orch.submit_task(Task.call(int, id="third", after=["second"]))
after = ["first", "second", "third"]
orch.submit_task(Task.call(int, id="then", after=after, join=work.most))
orch.stop()
"""
MOST = """
def most(states):
    return list(states.values()).count("completed") >= NEEDED
"""


def test_a_join_that_is_gone_blocks_its_task(tmp_path: Path) -> None:
    """Back again, it is asked, about what has become of the others by then."""
    incarnation(tmp_path, JOINS, MOST.replace("NEEDED", "1"))
    gone = MOST.replace("most", "least")
    assert incarnation(tmp_path, AND_THEN, gone) == "completed blocked\n"
    explained = AND_THEN.replace(
        "print(",
        "orch.rerun_task('second'); orch.wait(60); print(orch.explain('then'));print(",
    )
    said = incarnation(tmp_path, explained, gone)
    assert "What it needs is gone: work:most cannot be imported any more" in said
    assert said.endswith("completed blocked\n")
    # Without it, a person may decide.
    decided = AND_THEN.replace("assert", "orch.decide('then', 'complete'); assert")
    (tmp_path / "kept.db").write_bytes((tmp_path / "runs.db").read_bytes())
    back = incarnation(tmp_path, AND_THEN, MOST.replace("NEEDED", "1"))
    assert back == "completed completed\n"
    (tmp_path / "runs.db").unlink()
    (tmp_path / "kept.db").rename(tmp_path / "runs.db")
    assert incarnation(tmp_path, decided, gone) == "completed completed\n"


def test_a_join_that_is_back_may_not_hold(tmp_path: Path) -> None:
    incarnation(tmp_path, JOINS, MOST.replace("NEEDED", "1"))
    gone = MOST.replace("most", "least")
    assert incarnation(tmp_path, AND_THEN, gone) == "completed blocked\n"
    told = AND_THEN.replace("print(", "print(orch.explain('then'));print(")
    said = incarnation(tmp_path, told, MOST.replace("NEEDED", "3"))
    assert "second" in said
    assert "gone" not in said
    assert said.endswith("completed blocked\n")


def test_a_module_that_cannot_be_imported_blocks_its_tasks(tmp_path: Path) -> None:
    """Whatever it raises: the start of the others does not fail."""
    incarnation(tmp_path, FIRST, WORK)
    said = incarnation(tmp_path, LOOK, "raise RuntimeError('half done')\n")
    assert said.splitlines()[0] == "one blocked None decision"
    assert incarnation(tmp_path, LOOK, WORK).splitlines()[0] == "one completed 1 "


MAIN = """
from taskorch import TaskOrchestrator, Task

def double(x):
    return 2 * x

if __name__ == "__main__":
    orch = TaskOrchestrator(journal="runs.db", durability="process")
    if not LEAVES:
        orch.start()
    handle = orch.submit_task(Task.call(double, 4, id="d"))
    if not LEAVES:
        print(handle.result(60), orch.get_task_status("d").attempts)
    orch.stop()
"""


def test_functions_of_a_script_are_found_when_it_runs_again(tmp_path: Path) -> None:
    """`__main__` is the same script."""
    script = tmp_path / "script.py"
    for leaves, said in ((True, ""), (False, "8 1\n")):
        script.write_text(MAIN.replace("LEAVES", repr(leaves)), encoding="utf-8")
        done = subprocess.run(
            [sys.executable, "-B", script.name],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        assert (done.returncode, done.stdout) == (0, said), done.stderr
        assert is_quiet(done.stderr), done.stderr


SCRIPT = """
import sys
from dataclasses import dataclass
from taskorch import Task, TaskOrchestrator, Workflow

@dataclass
class Point:
    x: int

def work(point):
    return f"{NAME}{point.x}"

if __name__ == "__main__":
    orch = TaskOrchestrator(journal=sys.argv[1], durability="process", concurrency=1)
    if sys.argv[2:] == ["leave"]:
        one = orch.submit_task(Task.call(work, Point(1), id="one"))
        orch.submit_task(Task.call(str, one, id="then"))
        workflow = Workflow("w")
        workflow.task(str, workflow.task(work, Point(2), id="a"), id="b")
        orch.workflows.start(workflow, id="run")
        orch.stop()
    else:
        with orch:
            waits = orch.handle("then"), orch.workflows.get("run")
            for wait in (*waits, orch.submit(str, waits[0])):
                try:
                    print(wait.result())
                except Exception as error:
                    print(type(error).__name__, error)
"""


@pytest.mark.slow("starts fifteen interpreters")
def test_a_function_of_a_script_is_not_looked_for_in_another(tmp_path: Path) -> None:
    """Script and journal may move; who waits for another script's function is told."""

    def run(script: Path, journal: Path, *more: str, by: tuple[str, ...] = ()) -> str:
        name = script.stem if not by else "A"
        script.write_text(SCRIPT.replace("{NAME}", name), encoding="utf-8")
        done = subprocess.run(
            [sys.executable, "-B", *(by or (str(script),)), str(journal), *more],
            cwd=script.parent if by else tmp_path,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        assert (done.returncode, is_quiet(done.stderr)) == (0, True), done.stderr
        return done.stdout

    def case(name: str) -> Path:
        return Path(shutil.copytree(tmp_path / "here", tmp_path / name))

    here = tmp_path / "here"
    here.mkdir()
    run(here / "A.py", here / "runs.db", "leave")
    done = "A1\n{'a': 'A2', 'b': 'A2'}\nA1\n"
    # A copy of both, while the first is there; as a module; and moved alone.
    for name, by in (("copy", ()), ("module", ("-m", "A"))):
        folder = case(name)
        assert run(folder / "A.py", folder / "runs.db", by=by) == done
    folder = case("moved")
    (folder / "A.py").unlink()
    (folder / "sub").mkdir()
    assert run(folder / "sub" / "A.py", folder / "runs.db") == done
    for name, script in (("other", "B.py"), ("same name", "sub/A.py")):
        folder = case(name)
        (folder / "sub").mkdir()
        said = run(folder / script, folder / "runs.db").splitlines()
        assert len(said) == 3
        for line in said:
            assert f"script A.py, and the journal was opened by {script}: run" in line
        assert run(folder / "A.py", folder / "runs.db") == done
    # Imported under its own name, it is the script all the same.
    folder = case("imported")
    script = folder / "B.py"
    source = SCRIPT.replace("import sys", "import sys, A", 1)
    script.write_text(source.replace("{NAME}", "B"), encoding="utf-8")
    command = [sys.executable, "-B", str(script), str(folder / "runs.db")]
    ran = subprocess.run(command, capture_output=True, text=True, check=True)
    assert ran.stdout == done


def test_a_policy_function_that_is_gone_blocks_its_task(tmp_path: Path) -> None:
    """A predicate of a retry policy is a function, too."""
    module = "def one(x):\n    raise OSError\ndef again(e):\n    return False\n"
    script = """
    from taskorch import RetryPolicy, TaskOrchestrator, Task
    import work
    orch = TaskOrchestrator(journal="runs.db", durability="process")
    policy = RetryPolicy(max_attempts=2, retry_on=work.again)
    orch.submit_task(Task.call(work.one, 1, id="one", retry=policy))
    orch.stop()
    """
    look = """
    from taskorch import TaskOrchestrator
    with TaskOrchestrator(journal="runs.db", durability="process") as orch:
        print(repr(orch.handle("one").exception(60)))
    """
    incarnation(tmp_path, script, module)
    said = incarnation(tmp_path, look, module.replace("again", "anew"))
    assert "work:again cannot be imported any more" in said


def test_an_executor_that_is_gone_blocks_its_tasks(path: Path) -> None:
    """It is named; with it back again they go on by themselves."""
    with ThreadPoolExecutor(1) as pool:
        orch = open_at(path, executors={"pool": pool})
        orch.submit_task(Task.call(add, 1, 2, executor="pool", id="x"))
        orch.submit_task(Task.call(add, 5, id="y"))
        orch.stop()
        with open_at(path) as orch:
            assert orch.handle("y").result(PATIENCE) == 5
            status = orch.get_task_status("x")
            assert status.state is TaskState.BLOCKED
            assert "'pool'" in status.history[-1].detail
            assert "'pool'" in str(orch.explain("x"))
            # No attempt is made of what nobody can do.
            assert "running" not in [entry.state for entry in status.history]
            assert not orch.handle("x").done()
        with open_at(path) as orch:
            assert orch.get_task_status("x").state is TaskState.BLOCKED
        with open_at(path, executors={"pool": pool}) as orch:
            assert orch.handle("x").result(PATIENCE) == 3


def test_a_task_that_is_held_may_be_decided_otherwise(path: Path) -> None:
    """What is gone for good is settled by hand."""
    with ThreadPoolExecutor(1) as pool:
        orch = open_at(path, executors={"pool": pool})
        for name in ("a", "b", "c"):
            orch.submit_task(Task.call(add, 1, executor="pool", id=name))
        orch.stop()
    with open_at(path) as orch:
        assert orch.decide("a", "complete", 9)
        assert orch.handle("a").result(PATIENCE) == 9
        assert orch.decide("b", "fail")
        with pytest.raises(TaskFailedError, match="'pool'"):
            orch.handle("b").result(PATIENCE)
        assert orch.decide("c", "retry")
        orch.wait(PATIENCE)
        assert orch.get_task_status("c").state in (TaskState.BLOCKED, TaskState.FAILED)


def test_a_worker_that_is_gone_blocks_its_tasks(path: Path) -> None:
    """
    With a worker that can do it, in a later incarnation, they go on by themselves.
    """
    orch = open_at(path)
    orch.agent("reviewer", capabilities={"review"})(review)
    orch.submit_task(Task("review", 1, id="x"))
    orch.submit_task(Task.call(add, 1, after=["x"], id="y"))
    orch.stop()
    for starts in (False, True):
        orch = open_at(path)
        if starts:
            orch.start()
        status = orch.get_task_status("x")
        assert status.state is TaskState.BLOCKED
        assert status.blocked_by == ("decision",)
        assert "review" in status.history[-1].detail
        assert orch.get_task_status("y").state is TaskState.PENDING
        orch.stop()
    orch = open_at(path)
    orch.agent("another", capabilities={"review", "more"})(review)
    with orch:
        assert orch.handle("x").result(PATIENCE) == 1
        assert orch.handle("y").result(PATIENCE) == 1
        assert orch.get_task_status("x").agent_id == "another"


@pytest.mark.parametrize("comes", ["now", "later"])
def test_a_worker_that_is_gone_blocks_a_task_whose_turn_comes_later(
    path: Path, comes: str
) -> None:
    orch = open_at(path)
    orch.agent("reviewer", capabilities={"review"})(review)
    first = orch.submit_task(Task.call(add, 1, id="first"))
    orch.submit_tasks([Task("review", n, after=[first], id=f"x{n}") for n in (1, 2)])
    orch.stop()
    with open_at(path) as orch:
        assert orch.wait(PATIENCE)
        for name in ("x1", "x2"):
            status = orch.get_task_status(name)
            assert status.state is TaskState.BLOCKED
            assert "no worker can do review any more" in status.history[-1].detail
        if comes == "now":
            orch.agent("another", capabilities={"review"})(review)
            assert orch.handle("x1").result(PATIENCE) == 1
            assert orch.handle("x2").result(PATIENCE) == 2
            return
    orch = open_at(path)
    orch.agent("another", capabilities={"review"})(review)
    with orch:
        assert orch.handle("x1").result(PATIENCE) == 1
        assert orch.handle("x2").result(PATIENCE) == 2


def test_a_worker_that_is_back_before_the_turn_comes(path: Path) -> None:
    orch = open_at(path)
    orch.agent("reviewer", capabilities={"review"})(review)
    first = orch.submit_task(Task.call(add, 1, id="first"))
    orch.submit_task(Task("review", 1, after=[first], id="x"))
    orch.stop()
    orch = open_at(path)
    assert orch.get_task_status("x").state is TaskState.PENDING
    orch.agent("another", capabilities={"review"})(review)
    with orch:
        assert orch.handle("x").result(PATIENCE) == 1


def test_a_worker_may_join_after_the_opening(path: Path) -> None:
    """What was held for the want of it goes on in the same incarnation."""
    orch = open_at(path)
    orch.agent("reviewer", capabilities={"review"})(review)
    for number in range(3):
        orch.submit_task(Task("review", number, id=f"x{number}"))
    orch.stop()
    with open_at(path) as orch:
        assert orch.get_task_status("x0").state is TaskState.BLOCKED
        orch.agent("other", capabilities={"else"})(review)
        assert orch.get_task_status("x0").state is TaskState.BLOCKED
        orch.agent("reviewer", capabilities={"review"})(review)
        handles = [orch.handle(f"x{number}") for number in range(3)]
        assert [handle.result(PATIENCE) for handle in handles] == [0, 1, 2]
    assert CALLS == [0, 1, 2]


# -- long memories ---------------------------------------------------------------------


def test_receivers_may_submit(path: Path) -> None:
    """A receiver, a done-callback and an async receiver hand on work."""
    seen: list[Any] = []
    orch = open_at(path)

    def on_completed(event: Any) -> None:
        if event.task_id == "first":
            orch.submit_task(Task.call(echo, "by receiver", id="second"))

    async def on_failed(event: Any) -> None:
        seen.append(await orch.aio.submit_task(Task.call(echo, "async", id="third")))

    orch.signals.task_completed.connect(on_completed)
    orch.signals.task_failed.connect(on_failed)
    with orch:
        first = orch.submit_task(Task.call(echo, 1, id="first"))
        first.add_done_callback(
            lambda _: orch.submit_task(Task.call(echo, "by callback", id="fourth"))
        )
        orch.submit(break_down)
        assert orch.wait(PATIENCE)
    with open_at(path) as orch:
        assert orch.handle("second").result() == "by receiver"
        assert orch.handle("third").result() == "async"
        assert orch.handle("fourth").result() == "by callback"


class Moody:
    """A registry that fails, or a StateMachine that forbids, when it is told to."""

    def __init__(self) -> None:
        self.bad = False

    def matches(self, task: Task, agents: Any, context: Any) -> Any:
        del task, context
        if self.bad:
            raise ZeroDivisionError("moody")
        return Match(tuple(worker.name for worker in agents))

    def check(self, transition: Any, context: Any) -> Any:
        del context
        if self.bad:
            raise ZeroDivisionError("moody")
        return Permit(allowed=True)

    def label(self, state: TaskState) -> str:
        return str(state)


@pytest.mark.parametrize("part", ["registry", "state_machine"])
def test_a_policy_that_fails_at_the_opening(path: Path, part: str) -> None:
    """The orchestrator comes up; only the tasks at hand are touched."""
    moody = Moody()
    orch = open_at(path, **{part: moody})
    orch.agent("reviewer", capabilities={"review"})(review)
    orch.submit_task(Task.call(add, 1, id="done"))
    orch.submit_task(Task("review", 2, id="x"))
    orch.stop()
    moody.bad = True
    orch = open_at(path, **{part: moody})
    orch.agent("reviewer", capabilities={"review"})(review)
    with orch:
        assert orch.wait(PATIENCE)
        assert orch.get_task_status("x").state in (TaskState.FAILED, TaskState.QUEUED)
    moody.bad = False
    with open_at(path) as orch:
        assert orch.handle("done").done()


def test_a_blocked_task_of_an_earlier_incarnation_tells_who_waits(path: Path) -> None:
    """In all ways to wait; and a re-run lets it go on."""
    with open_at(path) as orch:
        orch.submit_task(Task.call(flaky, "f", 1, id="f"))
        orch.submit_task(Task.call(echo, "after", id="after", after=["f"]))
        assert orch.wait(PATIENCE)
    with open_at(path) as orch:
        handle = orch.handle("after")
        with pytest.raises(DependencyFailedError):
            handle.future().result(PATIENCE)
        assert list(taskorch.as_completed([handle], PATIENCE)) == [handle]
        assert isinstance(handle.exception(PATIENCE), DependencyFailedError)
        assert isinstance(orch.get_task_status("after").error, DependencyFailedError)
        called = threading.Event()
        handle.add_done_callback(lambda _: called.set())
        assert not handle.done()
        orch.rerun_task("f")
        assert called.wait(PATIENCE)
        assert handle.result() == "after"


def test_a_journal_of_relative_path_and_odd_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A str, a Path, relative, with characters that mean something in a URL."""
    monkeypatch.chdir(tmp_path)
    name = "a b?c#d%41&mode=ro ü.db"
    with TaskOrchestrator(journal=name, durability="process") as orch:
        orch.submit_task(Task.call(add, 1, id="x")).result(PATIENCE)
    assert (tmp_path / name).exists()
    with open_at(Path(name)) as orch:
        assert orch.handle("x").result() == 1


def test_a_journal_of_many_tasks(path: Path) -> None:
    """Many, most of them out of memory, and each with its own result."""
    with open_at(path, keep_finished=10) as orch:
        assert list(orch.map(add, range(100))) == list(range(100))
        names = [
            handle.task_id
            for handle in orch.submit_tasks(
                [Task.call(add, n, id=f"t{n}") for n in range(50)]
            )
        ]
        assert orch.wait(PATIENCE)
    with open_at(path, keep_finished=10) as orch:
        again = orch.submit_tasks([Task.call(add, n, id=f"t{n}") for n in range(50)])
        assert [handle.result() for handle in again] == list(range(50))
        assert [handle.task_id for handle in again] == names
        assert len(list(orch.tasks())) == 150
        assert orch.get_stats().state_machine.completed == 150


def test_the_log_is_emptied_once_nobody_waits(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_file, "LONG_LOG", 0)
    journal = SqliteJournal(path, durability="process")
    with TaskOrchestrator(journal=journal) as orch:
        assert list(orch.map(add, range(100))) == list(range(100))
        eventually(lambda: not journal.log_is_long)
        # Whatever is in the log.
        with closing(sqlite3.connect(f"file:{path}?immutable=1", uri=True)) as db:
            ((count,),) = db.execute("SELECT count(*) FROM facts").fetchall()
        assert count >= 200
        assert orch.submit(add, 1, 2).result(PATIENCE) == 3


class Disorderly(SqliteJournal):
    """A journal that cannot empty its log."""

    def __init__(self, path: Path, error: Exception) -> None:
        super().__init__(path, durability="process")
        self.error = error
        self.tried = threading.Event()

    def empty_log(self, epoch: int) -> None:
        self.tried.set()
        raise self.error


@pytest.mark.parametrize(
    "error", [JournalUnavailableError("the disk is full"), JournalError("damaged")]
)
def test_a_log_that_cannot_be_emptied_is_no_trouble(
    path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """What is wrong shows where something is written, and perhaps it has passed."""
    monkeypatch.setattr(_file, "LONG_LOG", 0)
    journal = Disorderly(path, error)
    with TaskOrchestrator(journal=journal) as orch:
        for number in range(3):
            assert orch.submit(add, number).result(PATIENCE) == number
            assert journal.tried.wait(PATIENCE)
            journal.tried.clear()
        assert orch.health().status == "ok"
    assert SqliteJournal(path).verify() > 9


# -- by chance -------------------------------------------------------------------------


def number_of(name: str, parents: list[int]) -> int:
    """A value that only this task has, and that depends on all before it."""
    CALLS.append(name)
    return (hash_of(name) + sum(parents)) % 1_000_003


def patient(ask: Callable[[], Any]) -> Any:
    """Ask again while the end of a task is on its way into the journal."""
    while True:
        with suppress(JournalUnavailableError):
            return ask()


def hash_of(name: str) -> int:
    return int.from_bytes(name.encode(), "big")


@FOLDED
@pytest.mark.parametrize(
    "seed",
    [
        0,
        *(
            pytest.param(seed, marks=pytest.mark.slow("other lives by chance"))
            for seed in range(1, 8)
        ),
    ],
)
def test_lives_by_chance(path: Path, seed: int) -> None:  # noqa: C901 - small steps
    """However often it is stopped, and with whatever in memory, all of it gets done."""
    random = Random(seed)
    parents: dict[str, list[str]] = {}
    cancelled: set[str] = set()

    def some(names: list[str], most: int) -> list[str]:
        return random.sample(names, min(len(names), most))

    def submit(orch: TaskOrchestrator) -> None:
        names = []
        alive = [name for name in parents if name not in cancelled]
        for _ in range(random.choice([1, 1, 1, 4])):
            name = f"t{len(parents)}"
            parents[name] = some(alive, 2)
            names.append(name)
        patient(lambda: orch.submit_tasks([task_of(name) for name in names]))

    def submit_again(orch: TaskOrchestrator) -> None:
        for name in some(list(parents), 1):
            same = patient(lambda name=name: orch.submit_task(task_of(name)))
            assert same.task_id == name

    def cancel(orch: TaskOrchestrator) -> None:
        needed = {name for above in parents.values() for name in above}
        for name in some([name for name in parents if name not in needed], 1):
            # Whatever depended on it would be blocked.
            if orch.cancel_task(name):
                cancelled.add(name)

    def move(orch: TaskOrchestrator) -> None:
        for name in some(list(parents), 1):
            orch.set_priority(name, random.randrange(9))

    def work(orch: TaskOrchestrator) -> None:
        acts = [submit] * 15 + [cancel] * 2 + [submit_again] * 2 + [move]
        for _ in range(random.randrange(1, 25)):
            random.choice(acts)(orch)

    def task_of(name: str) -> Task:
        given = [current[0].handle(each) for each in parents[name]]
        return Task.call(number_of, name, given, id=name)

    current: list[TaskOrchestrator] = []
    for incarnation in range(5):
        keep = random.choice([0, 2, 1000])
        orch = open_at(path, keep_finished=keep, concurrency=random.choice([1, 3]))
        current[:] = [orch]
        if random.random() < 0.8:
            orch.start()
        work(orch)
        if incarnation == 4:
            orch.start()
        orch.stop(drain=incarnation == 4 or random.random() < 0.3)
    with open_at(path, keep_finished=random.choice([0, 1000])) as orch:
        current[:] = [orch]
        values: dict[str, int] = {}
        for name, above in parents.items():
            handle = orch.handle(name)
            if handle.cancelled():
                assert name in cancelled
                values[name] = 0
                continue
            expected = hash_of(name) + sum(values[each] for each in above)
            values[name] = expected % 1_000_003
            assert handle.result(PATIENCE) == values[name]
        counts = orch.get_stats().state_machine
        assert counts.total == len(parents)
        assert counts.completed + counts.cancelled == len(parents)


# -- asked before the stop, and done after it ------------------------------------------


@pytest.mark.parametrize(
    ("folded", "suspended"),
    [("snapshot", True), ("facts", True), ("facts", False)],
    indirect=["folded"],
)
@FOLDED
def test_programs_end_with_the_stop_and_run_again(
    path: Path, tmp_path: Path, *, suspended: bool
) -> None:
    """One that is suspended begins anew when it is resumed, in the next incarnation."""
    source = (
        "import pathlib, sys, time\n"
        "where = pathlib.Path(sys.argv[1])\n"
        "if where.exists(): print('again'); sys.exit(0)\n"
        "where.touch()\n"
        "time.sleep(60)\n"
    )
    mark = tmp_path / "mark"
    orch = open_at(path)
    orch.start()
    args = [sys.executable, "-c", source, str(mark)]
    orch.submit_task(Task.program(args, id="p", timeout=30))
    eventually(mark.exists)
    if suspended:
        assert orch.suspend_task("p")
        assert orch.get_task_status("p").state is TaskState.SUSPENDED
    report = orch.stop(drain=suspended)
    assert left_of(report) == {"p": "suspended" if suspended else "running"}
    with open_at(path) as orch:
        if suspended:
            assert orch.get_task_status("p").state is TaskState.SUSPENDED
            assert orch.resume_task("p")
        assert orch.handle("p").result(PATIENCE).stdout_tail == "again\n"


@FOLDED
@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("ask", ["cancel_task", "suspend_task"])
def test_what_was_asked_of_a_running_task_is_done(path: Path, ask: str) -> None:
    """It had not heard of it when the orchestrator stopped."""
    orch = open_at(path)
    short_grace(orch)
    orch.start()
    gate("d")
    orch.submit_task(Task.call(hold_deaf, "d", id="d"))
    assert BEGAN["d"].wait(PATIENCE)
    assert getattr(orch, ask)("d")
    orch.stop(drain=False)
    GATES["d"].set()
    state = TaskState.CANCELLED if ask == "cancel_task" else TaskState.SUSPENDED
    with open_at(path) as orch:
        assert orch.get_task_status("d").state is state
        if ask == "suspend_task":
            assert orch.resume_task("d")
            orch.handle("d").result(PATIENCE)
        else:
            assert orch.handle("d").cancelled()


@pytest.mark.usefixtures("hasty")
def test_a_thread_that_does_not_answer_is_left(path: Path) -> None:
    """The stop gives up on it; what it returns later changes nothing."""
    orch = open_at(path)
    short_grace(orch)
    orch.start()
    gate("d")
    handle = orch.submit_task(Task.call(hold_deaf, "d", "late", id="d"))
    assert BEGAN["d"].wait(PATIENCE)
    report = orch.stop(drain=False)
    assert left_of(report) == {"d": "running"}
    assert handle.exception(PATIENCE) is not None
    orch = open_at(path)
    before = threading.active_count()
    GATES["d"].set()
    eventually(lambda: threading.active_count() < before)
    with orch:
        assert orch.handle("d").result(PATIENCE) == "late"
    assert CALLS == ["d", "d"]


@pytest.fixture(name="hasty")
def fixture_hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stop waits for threads that do not answer no longer than a moment."""
    monkeypatch.setattr(_lifecycle, "_MARGIN", 0.1)


@FOLDED
def test_a_retry_goes_on_with_its_count(path: Path) -> None:
    """
    Attempts of earlier incarnations are charged; those that a stop cut short are not.
    """
    retry = RetryPolicy(max_attempts=3, base=0.001, jitter=0)
    orch = open_at(path, concurrency=1)
    orch.start()
    gate("g")
    orch.submit_task(Task.call(fail_twice, "g", id="x", retry=retry))
    assert BEGAN["g"].wait(PATIENCE)
    orch.stop(drain=False)
    GATES["g"].set()
    with open_at(path) as orch:
        with pytest.raises(ZeroDivisionError):
            orch.handle("x").result(PATIENCE)
        assert orch.get_task_status("x").attempts == 4
        assert orch.get_stats().retries.exhausted == 1


def fail_twice(name: str) -> None:
    """Fail, but hold at the second attempt."""
    CALLS.append(name)
    if len(CALLS) == 2:
        hold(name)
    raise ZeroDivisionError


def test_waiting_for_a_capability_over_incarnations(path: Path) -> None:
    """With `unknown_capability="wait"` it waits, and nobody has to decide."""
    orch = open_at(path, unknown_capability="wait")
    orch.submit_task(Task("review", 1, id="x"))
    orch.stop()
    with open_at(path, unknown_capability="wait") as orch:
        assert orch.get_task_status("x").state is TaskState.QUEUED
        orch.agent("reviewer", capabilities={"review"})(review)
        assert orch.handle("x").result(PATIENCE) == 1


# -- what is told and not kept ---------------------------------------------------------


def test_statistics_that_are_only_told_hold_up_nobody(path: Path) -> None:
    """They have a number, and none of the events that are waited for has it."""
    with TaskOrchestrator(
        journal=path, durability="process", monitor_interval=0.01
    ) as orch:
        handle = orch.submit_task(Task.call(echo, id="x"))
        assert handle.result(PATIENCE) is None
        told = threading.Semaphore(0)
        orch.signals.stats_reported.connect(lambda _: told.release())
        for _ in range(3):
            assert told.acquire(timeout=PATIENCE)
        kernel, committer = orch._rt.kernel, orch._rt.committer
        assert committer is not None
        eventually(lambda: kernel.seq > committer.last)
        assert not orch.cancel_task("x")
        assert orch.get_task_status("x").state is TaskState.COMPLETED


def test_what_has_ended_is_not_told_before_it_is_kept(path: Path) -> None:
    """
    Nor to a policy that is asked in the very step: in this incarnation, or in the next.
    """
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
            return task.payload and hold_deaf(task.payload, task.payload)

        return orch

    gate("early")
    gate("late")
    orch = opened()
    handles.append(orch.submit_task(Task("x", "early", id="early")))
    orch.submit_task(Task("x", id="after/early"))
    orch.submit_task(Task("x", "late", id="late"))
    orch.submit_task(Task("x", id="after/late"))
    with orch:
        GATES["early"].set()
        assert BEGAN["late"].wait(PATIENCE)
        assert handles[-1].result(PATIENCE) == "early"
        orch.stop(drain=False, timeout=0)
    assert told == [False]
    GATES["late"].set()
    gate("late")
    with opened() as orch:
        handles.append(orch.handle("late"))
        GATES["late"].set()
        assert orch.wait(PATIENCE)
    assert told == [False, False]


def test_a_rerun_has_the_latest_runs_of_what_it_needs(path: Path) -> None:
    """Also if these have left memory, and nobody asks for them by name."""
    with TaskOrchestrator(journal=path, keep_finished=0) as orch:
        orch.submit_task(Task.call(echo, 1, id="p")).result(PATIENCE)
        task = Task.call(echo, orch.handle("p"), id="c")
        assert orch.submit_task(task).result(PATIENCE) == 1
        task = Task.call(echo, 2, id="p")
        assert orch.submit_task(task, replace=True).result(PATIENCE) == 2
    with TaskOrchestrator(journal=path, keep_finished=0) as orch:
        assert orch.rerun_task("c").result(PATIENCE) == 2


def test_two_runs_of_one_task_are_told_apart_in_the_next_incarnation(
    path: Path,
) -> None:
    """By what needs both: each gives it what that run has made."""
    with TaskOrchestrator(journal=path) as orch:
        first = orch.submit_task(Task.call(echo, 1, id="p"))
        first.result(PATIENCE)
        second = orch.submit_task(Task.call(echo, 2, id="p"), replace=True)
        go = orch.submit_task(Task.wait_for("go"))
        orch.submit_task(Task.call(echo, [first, second], id="c", after=[go]))
        second.result(PATIENCE)
        orch.stop(drain=False)
    with TaskOrchestrator(journal=path) as orch:
        orch.emit("go")
        assert orch.handle("c").result(PATIENCE) == [1, 2]


def test_nothing_begins_while_it_stops(path: Path) -> None:
    """What ends meanwhile leaves room, which is not used."""
    gate("one")
    orch = TaskOrchestrator(journal=path, concurrency=1)
    with orch:
        orch.submit_task(Task.call(hold_deaf, "one", id="one"))
        orch.submit_task(Task.call(hold_deaf, "two", id="two"))
        assert BEGAN["one"].wait(PATIENCE)
        stopping = threading.Thread(target=orch.stop, kwargs={"drain": False})
        stopping.start()
        eventually(lambda: "stopped" in repr(orch))
        GATES["one"].set()
        stopping.join(PATIENCE)
    assert orch.get_task_status("one").state is TaskState.COMPLETED
    assert orch.get_task_status("two").attempts == 0
    assert CALLS == ["one"]


def test_what_ends_badly_while_it_stops_takes_with_it_what_needs_it(path: Path) -> None:
    """Both have ended, and are nothing that it has left."""
    gate("bad")
    orch = TaskOrchestrator(journal=path)
    with orch:
        parent = orch.submit_task(Task.call(hold_and_fail, id="bad"))
        orch.submit_task(
            Task.call(int, id="skipped", after=[parent], on_parent_failure="skip")
        )
        orch.submit_task(Task.wait_for("go", id="left"))
        assert BEGAN["bad"].wait(PATIENCE)
        stopping = threading.Thread(target=orch.stop, kwargs={"drain": False})
        stopping.start()
        eventually(lambda: "stopped" in repr(orch))
        GATES["bad"].set()
        stopping.join(PATIENCE)
        report = orch.stop()
    assert orch.get_task_status("skipped").state is TaskState.CANCELLED
    assert [each.task_id for each in report.left] == ["left"]


def hold_and_fail() -> None:
    hold_deaf("bad")
    raise ValueError


def test_what_is_left_to_the_next_incarnation_is_not_touched(path: Path) -> None:
    orch = TaskOrchestrator(journal=path)
    with orch:
        done = orch.submit_task(Task.call(echo, 1, id="done"))
        left = orch.submit_task(Task.wait_for("go", id="left"))
        done.result(PATIENCE)
        orch.stop(drain=False)
    assert not done.cancel()
    for act in (left.cancel, lambda: orch.set_priority("left", 1)):
        with pytest.raises(NotRunningError, match="incarnation has task left"):
            act()
    assert not orch.set_priority("done", 1)


def test_ids_of_the_second_incarnations_of_two_journals_differ(tmp_path: Path) -> None:
    """As those of any two do that were given no seed."""
    ids = set()
    for name in ("one.db", "other.db"):
        for _ in range(2):
            with TaskOrchestrator(journal=tmp_path / name) as orch:
                handle = orch.submit(int)
                handle.result(PATIENCE)
                ids.add(handle.task_id.partition("-")[0])
    assert len(ids) == 4


class Doomed(SqliteJournal):
    """It notes how much a start reads, and may keep no snapshot, as when killed."""

    is_killed, read_at_start = False, 0

    def read(self, after: int = 0) -> Iterator[Entry]:
        entries = [*super().read(after)]
        self.read_at_start = max(self.read_at_start, len(entries))
        return iter(entries)

    def save(self, *snapshot: Any) -> None:
        if not self.is_killed:
            super().save(*snapshot)


def test_short_lives_cost_later_ones_no_more(path: Path) -> None:
    for _ in range(4):
        with TaskOrchestrator(journal=(journal := Doomed(path))) as orch:
            list(orch.map(abs, range(800)))
            journal.is_killed = True
    assert 0 < journal.read_at_start < 2_500
