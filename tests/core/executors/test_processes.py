"""executor="process": calls in worker processes, and what they do to themselves."""

from __future__ import annotations

import functools
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from concurrent.futures import BrokenExecutor
from pathlib import Path
from typing import Any

import pytest
from tests.api.tools import PATIENCE, Started, eventually
from tests.core.executors import in_workers
from tests.house.pids import is_alive

from taskorch import (
    InvalidTaskError,
    NotRunningError,
    Resources,
    RetryPolicy,
    Task,
    TaskCancelledError,
    TaskFailedError,
    TaskOrchestrator,
    TaskState,
    TaskTimeoutError,
    Workflow,
)
from taskorch.ext.logs import ContextFilter
from taskorch.policies import StructuralValidator
from taskorch.protocols import Verdict

#: Workers are started by hand, so a second one costs what an interpreter costs.
ONE: dict[str, Any] = {"process": 1}


@pytest.fixture(scope="module", name="orch")
def _orch() -> Iterator[TaskOrchestrator]:
    """With a worker that has started, for all whose task leaves it as it is."""
    with TaskOrchestrator(executors=ONE, resources={"cpu": 2}) as orch:
        yield orch


def in_worker(fn: Any, *args: Any, **options: Any) -> Task[Any]:
    return Task.call(fn, *args, executor="process", **options)


def pid_of(orch: TaskOrchestrator, handle: Any) -> Any:
    """The process in which a task runs that says so."""
    eventually(lambda: orch.get_task_status(handle.task_id).progress is not None)
    return orch.get_task_status(handle.task_id).progress


def test_what_an_attempt_used_is_told(orch: TaskOrchestrator) -> None:
    seen: dict[str, Any] = {}
    for signal_ in (orch.signals.task_completed, orch.signals.task_failed):
        signal_.connect(
            lambda event: seen.update({event.task_id: dict(event.usage)}),
            weak=False,
        )
    for fails in (False, True):
        orch.submit_task(in_worker(in_workers.works, fails, id=str(fails)))
    assert orch.wait(PATIENCE)
    assert all(seen[name]["cpu_seconds"] > 0 for name in ("False", "True"))


# -- the same code as on threads -----------------------------------------------------


def test_a_task_has_its_context(orch: TaskOrchestrator) -> None:
    first = orch.submit_task(Task.call(pow, 2, 3, id="first"))
    task = in_worker(
        in_workers.about,
        id="t",
        after=[first],
        timeout=1_000,
        resources=Resources(cpu=1),
    )
    said = orch.submit_task(task).result(PATIENCE)
    assert said.pop("pid") != os.getpid()
    assert 900 < said.pop("time_left") <= 1_000
    assert said == {
        "task_id": "t",
        "attempt": 1,
        "fence": (1, 1),
        "results": {"first": 8},
        "allocation": {"cpu": 1.0},
        "restored": None,
        "cancelled": False,
        "workflow": None,
        "log": {"task_id": "t", "attempt": 1},
    }


def test_workers_are_kept(orch: TaskOrchestrator) -> None:
    tasks = [in_worker(os.getpid) for _ in range(20)]
    pids = {handle.result(PATIENCE) for handle in orch.submit_tasks(tasks)}
    assert len(pids) == 1
    assert os.getpid() not in pids


def test_there_are_no_more_than_was_said(tmp_path: Path) -> None:
    go = tmp_path / "go"
    with TaskOrchestrator(executors={"process": 2}) as orch:
        tasks = [in_worker(in_workers.wait_for, str(go)) for _ in range(5)]
        handles = orch.submit_tasks(tasks)
        eventually(lambda: sum(progress_of(orch, h) is not None for h in handles) == 2)
        go.touch()
        assert len({handle.result(PATIENCE) for handle in handles}) == 2


def progress_of(orch: TaskOrchestrator, handle: Any) -> Any:
    return orch.get_task_status(handle.task_id).progress


async def nothing() -> None:
    """Do nothing, on the loop."""


class Seeing(StructuralValidator):
    """Notes who is to call the functions of the tasks that it is shown."""

    def __init__(self) -> None:
        self.seen: list[str | None] = []

    def validate(self, task: Task[Any], context: Any) -> Verdict:
        self.seen.append(task.payload.executor)
        return super().validate(task, context)


def test_one_function_may_be_called_here_and_there() -> None:
    validator = Seeing()
    with TaskOrchestrator(executors=ONE, validator=validator) as orch:
        there = orch.options(executor="process")
        handles = [way.submit(os.getpid) for way in (orch, there, orch, there)]
        more = [way.submit(in_workers.size_of, b"4") for way in (orch, there)]
        here, elsewhere, *again = [handle.result() for handle in handles]
        assert [handle.result() for handle in more] == [1, 1]
        named = there.submit(int, "11", base=2)
        assert named.result() == 3
        above = there.submit(abs, there.submit(int, "-4"))
        assert above.result() == 4
        assert orch.submit(nothing).result() is None
        with pytest.raises(InvalidTaskError, match="an async def runs on the loop"):
            there.submit(nothing)
    assert (here, again) == (os.getpid(), [here, elsewhere])
    assert elsewhere != here
    assert validator.seen[:6] == [None, "process"] * 3


def test_by_options_alone_a_call_is_kept_with_its_executor(tmp_path: Path) -> None:
    go, journal = tmp_path / "go", tmp_path / "runs.db"
    with TaskOrchestrator(executors=ONE, journal=journal) as orch:
        there = orch.options(executor="process")
        there.submit(in_workers.until, str(go))
        left = there.submit(os.getpid)
        orch.stop(drain=False, timeout=0)
    go.touch()
    with TaskOrchestrator(executors=ONE, journal=journal) as orch:
        assert orch.handle(left.task_id).result() != os.getpid()


def test_a_worker_works_there(orch: TaskOrchestrator) -> None:
    add = orch.agent("a", capabilities={"x"}, executor="process")
    add(in_workers.handler)
    task = Task("x", [1], id="of-an-agent")
    found = orch.submit_task(task).result(PATIENCE)
    assert found == ("x", [1], "of-an-agent", True)


def test_a_checkpoint_is_there_for_the_next_attempt(orch: TaskOrchestrator) -> None:
    task = in_worker(in_workers.counts, 10, retry=RetryPolicy(2, base=0))
    assert orch.submit_task(task).result(PATIENCE) == (5, 10)


def test_a_checkpoint_outlives_the_orchestrator(tmp_path: Path) -> None:
    journal, go = tmp_path / "runs.db", tmp_path / "go"
    task = in_worker(in_workers.checkpoints, str(go), id="t")
    with TaskOrchestrator(journal=journal, executors=ONE) as orch:
        first = orch.submit_task(task)
        pid = pid_of(orch, first)
        orch.stop(drain=False, timeout=PATIENCE)
    go.touch()
    with TaskOrchestrator(journal=journal, executors=ONE) as orch:
        assert orch.submit_task(task).result(PATIENCE) == str(pid)


def test_a_checkpoint_suspends(tmp_path: Path, orch: TaskOrchestrator) -> None:
    go = tmp_path / "go"
    handle = orch.submit_task(in_worker(in_workers.checkpoints, str(go)))
    pid = pid_of(orch, handle)
    assert orch.suspend_task(handle.task_id)
    eventually(
        lambda: orch.get_task_status(handle.task_id).state is TaskState.SUSPENDED
    )
    # Its worker is free for others.
    assert orch.submit_task(in_worker(os.getpid)).result(PATIENCE) == pid
    go.touch()
    orch.resume_task(handle.task_id)
    assert handle.result(PATIENCE) == str(pid)


def test_what_cannot_be_sent_is_refused_where_it_is_said(
    orch: TaskOrchestrator,
) -> None:
    task = in_worker(in_workers.checkpoints_what_cannot_be_sent)
    error = orch.submit_task(task).exception(PATIENCE)
    assert isinstance(error, NotRunningError)
    assert "checkpoint() cannot be sent" in str(error)


def test_the_run_of_its_workflow_cannot_be_reached_from_there(
    orch: TaskOrchestrator,
) -> None:
    workflow = Workflow("w")
    workflow.task(in_workers.asks_for_its_workflow, id="t", executor="process")
    run_id = orch.workflows.start(workflow).workflow_id
    error = orch.handle(f"{run_id}/t").exception(PATIENCE)
    assert isinstance(error, NotRunningError)
    assert "context.workflow does not reach the orchestrator" in str(error)


def test_what_a_thread_says_after_the_end_is_not_of_the_next(
    tmp_path: Path, orch: TaskOrchestrator
) -> None:
    go = tmp_path / "go"
    said = tmp_path / "go.said"
    orch.submit_task(in_worker(in_workers.speaks_late, str(go))).result(PATIENCE)
    after = orch.submit_task(in_worker(in_workers.wait_for, str(said)))
    pid = pid_of(orch, after)
    go.touch()
    assert after.result(PATIENCE) == pid
    assert progress_of(orch, after) == pid
    assert said.read_text(encoding="utf-8") == "its attempt is over"


def test_records_are_handed_up(caplog: pytest.LogCaptureFixture) -> None:
    """As its loggers are set here, with what there is to say of the task."""
    caplog.set_level("INFO")
    caplog.handler.addFilter(ContextFilter())
    with TaskOrchestrator(executors=ONE) as orch:
        orch.submit_task(in_worker(in_workers.logs, "text", id="t")).result(PATIENCE)
    records = [r for r in caplog.records if getattr(r, "task_id", "") == "t"]
    said = [(r.name, r.levelname, r.getMessage()) for r in records]
    assert said == [
        ("tests.workers", "WARNING", "text of tests"),
        ("taskorch.task", "INFO", "adapted"),
        ("tests.workers", "WARNING", "strange"),
        ("tests.workers", "ERROR", "caught"),
    ]
    found: Any = records
    assert {(r.attempt, r.agent) for r in found} == {(1, "local")}
    assert found[2].number == 5
    assert "lock" in found[2].lock
    assert "ValueError: text" in found[3].exc_text
    assert all(r.process != os.getpid() for r in records)


def test_what_it_prints_goes_where_ours_goes(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the end of the task, though a worker that lives on keeps what is printed."""
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)
    with TaskOrchestrator(executors=ONE) as orch:
        assert orch.submit_task(in_worker(in_workers.prints, "said")).result(60) is None
        out, err = capfd.readouterr()
    assert sorted(out.split()) == ["raw", "said"]
    assert err == "said\n"


SESSION = """
from dataclasses import dataclass
from taskorch import Task, TaskOrchestrator

@dataclass
class Point:
    x: int

class Bad(ValueError):
    pass

STEP = 5
def move(n):
    return Point(n + STEP)
def fail(point):
    raise Bad(point.x)
def inner():
    return lambda point: point.x + STEP

orch = TaskOrchestrator(executors={"process": 1})
orch.start()
call = lambda fn, *args: orch.submit_task(Task.call(fn, *args, executor="process"))
point = call(move, 1)
print(type(point.result()) is Point, call(inner(), point).result())
print(type(call(fail, point).exception()) is Bad)
orch.stop()
"""


def test_functions_of_a_session_go_to_workers() -> None:
    """As of a notebook: lambdas, classes, what they use, and what is raised."""
    pytest.importorskip("cloudpickle")
    done = subprocess.run(
        [sys.executable, "-"],
        input=SESSION,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("True 11\nTrue\n", "")


# -- what is refused -----------------------------------------------------------------


@pytest.fixture(name="no_cloudpickle")
def _no_cloudpickle(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only with it can be sent what has no name."""
    monkeypatch.setitem(sys.modules, "cloudpickle", None)


async def coroutine() -> None:
    pass


@pytest.mark.parametrize(
    ("fn", "why"),
    [
        (lambda: 1, "is a lambda"),
        (functools.partial(lambda n: n, 1), "is a lambda"),
        (coroutine, "an async def runs on the loop"),
    ],
)
@pytest.mark.usefixtures("no_cloudpickle")
def test_what_a_worker_cannot_find_is_refused(fn: Any, why: str) -> None:
    with TaskOrchestrator() as orch, pytest.raises(InvalidTaskError, match=why) as got:
        orch.submit_task(in_worker(fn))
    assert got.value.hint


@pytest.mark.usefixtures("no_cloudpickle")
def test_so_is_a_closure() -> None:
    def inner() -> None:
        pass

    add = TaskOrchestrator().agent("a", executor="process")
    with pytest.raises(InvalidTaskError, match="inside another function") as got:
        add(inner)
    assert "top level of a module" in got.value.hint


@pytest.mark.usefixtures("no_cloudpickle")
def test_and_what_a_session_has(monkeypatch: pytest.MonkeyPatch) -> None:
    main = type(sys)("__main__")
    monkeypatch.setitem(sys.modules, "__main__", main)
    exec("def f(task=None, context=None): pass", main.__dict__)
    with TaskOrchestrator() as orch, pytest.raises(InvalidTaskError, match="session"):
        orch.submit_task(in_worker(main.f))
    main.__file__ = __file__
    TaskOrchestrator().agent("a", executor="process")(main.f)


@pytest.mark.parametrize(
    ("given", "why"),
    [
        (0, "executors: process"),
        (True, "the name 'process' is taken"),
        (subprocess, "the name 'process' is taken"),
    ],
)
def test_their_number_is_one(given: Any, why: str) -> None:
    with pytest.raises(InvalidTaskError, match=why):
        TaskOrchestrator(executors={"process": given})


def test_arguments_that_cannot_be_sent_fail_the_task(orch: TaskOrchestrator) -> None:
    lock = orch.submit_task(in_worker(id, threading.Lock()))
    large = orch.submit_task(in_worker(in_workers.size_of, bytes(2**30)))
    for handle, hint in ((lock, "function of a module"), (large, "to a file")):
        error = handle.exception(PATIENCE)
        assert isinstance(error, InvalidTaskError)
        assert "cannot be sent to executor 'process'" in str(error)
        assert hint in error.hint
    # Less than that goes through, in pieces.
    size = 10 * 2**20
    half = orch.submit_task(in_worker(in_workers.size_of, bytes(size)))
    assert half.result(PATIENCE) == size


def test_an_exception_comes_back_though_its_constructor_takes_something_else(
    orch: TaskOrchestrator,
) -> None:
    """So retry_on and except see it, as they do on threads."""
    task = in_worker(in_workers.raises_own_init, 2)
    error: Any = orch.submit_task(task).exception(PATIENCE)
    assert type(error) is in_workers.OwnInitError
    assert (error.errno, error.port) == (111, 5432)
    assert str(error) == "[Errno 111] db:5432 refuses"
    text = str(error.__cause__)
    assert "KeyError: 'cause'" in text
    # Ours are not among its frames.
    assert "in_workers.py" in text
    assert "_remote.py" not in text

    retry = RetryPolicy(3, base=0, retry_on=in_workers.OwnInitError)
    task = in_worker(in_workers.raises_own_init, 3, retry=retry)
    assert orch.submit_task(task).result(PATIENCE) == 3


def test_one_that_never_says_the_same_comes_back_too(orch: TaskOrchestrator) -> None:
    handle = orch.submit_task(in_worker(in_workers.raises_an_object))
    error: Any = handle.exception(PATIENCE)
    assert type(error) is ValueError
    assert type(error.args[0]) is in_workers.Plain


def test_one_that_cannot_be_sent_at_all_is_described(tmp_path: Path) -> None:
    """And its class and its text are kept as its own."""
    task = in_worker(in_workers.raises_locked, id="t")
    for said in (
        "task t raised LockedError: no entry",
        "in an earlier incarnation, on ",
    ):
        with TaskOrchestrator(journal=tmp_path / "runs.db", executors=ONE) as orch:
            error: Any = orch.submit_task(task).exception(PATIENCE)
            assert type(error) is TaskFailedError
            assert error.type == "LockedError"
            assert said in error.message
            assert error.message.count("task t raised") == 1
    assert "task t raised LockedError: no entry" in error.message


# -- what tasks do to their workers ----------------------------------------------------


@pytest.mark.slow("a gigabyte, among others")
@pytest.mark.parametrize(
    ("fn", "args", "kind", "text"),
    [
        (in_workers.returns_lock, (), TaskFailedError, "a lock that cannot be pickled"),
        (in_workers.returns_bytes, (2**30,), TaskFailedError, "too large to come back"),
        (in_workers.raises_bytes, (2**28,), TaskFailedError, "raised LargeError: xxx"),
        (in_workers.exit_politely, (), TaskFailedError, "raised SystemExit: 4"),
        (id, (in_workers.Explodes(),), TaskFailedError, "RuntimeError: not here"),
    ],
)
def test_a_worker_goes_on(fn: Any, args: Any, kind: Any, text: str) -> None:
    with TaskOrchestrator(executors=ONE) as orch:
        pid = orch.submit_task(in_worker(os.getpid)).result(PATIENCE)
        error = orch.submit_task(in_worker(fn, *args)).exception(PATIENCE)
        assert type(error) is kind
        assert text in str(error)
        assert len(str(error)) < 2**20
        assert orch.submit_task(in_worker(os.getpid)).result(PATIENCE) == pid


@pytest.mark.slow("workers for each way to end")
@pytest.mark.parametrize(
    ("fn", "args", "text"),
    [
        (in_workers.leave, (3,), "exited with code 3"),
        (in_workers.leave, (0,), "exited with code 0"),
        (in_workers.kill_self, (), "signal 9 (SIGKILL); taskorch did not send"),
        (in_workers.kill_self, (signal.SIGSEGV,), "signal 11 (SIGSEGV)"),
        (in_workers.kill_self, (signal.SIGRTMIN + 1,), "was ended by signal"),
        (in_workers.on_all_descriptors, ("write",), "wrote to the descriptor"),
        (in_workers.on_all_descriptors, ("close",), "closed the descriptor"),
        (id, (in_workers.LeavesAsItComes(),), "exited with code 7"),
    ],
)
def test_a_worker_is_replaced(fn: Any, args: Any, text: str, tmp_path: Path) -> None:
    """And nothing but its own attempt is lost."""
    go = tmp_path / "go"
    with TaskOrchestrator(executors={"process": 2}) as orch:
        beside = orch.submit_task(in_worker(in_workers.wait_for, str(go)))
        pid = pid_of(orch, beside)
        task = in_worker(fn, *args)
        behind = [in_worker(os.getpid) for _ in range(3)]
        broken, *others = orch.submit_tasks([task, *behind])
        error = broken.exception(PATIENCE)
        assert isinstance(error, BrokenExecutor)
        assert broken.task_id in str(error)
        assert text in str(error)
        assert pid not in {handle.result(PATIENCE) for handle in others}
        assert {orch.get_task_status(h.task_id).attempts for h in others} == {1}
        go.touch()
        assert beside.result(PATIENCE) == pid


def test_what_is_lost_is_made_again_but_not_for_ever(tmp_path: Path) -> None:
    with TaskOrchestrator(executors=ONE) as orch:
        poison = orch.submit_task(in_worker(in_workers.leave, 5))
        error = poison.exception(2 * PATIENCE)
        assert "exited with code 5" in str(error)
        assert orch.get_task_status(poison.task_id).attempts > 1


def test_one_that_was_killed_while_it_was_idle_costs_no_attempt() -> None:
    with TaskOrchestrator(executors=ONE) as orch:
        pid = orch.submit_task(in_worker(os.getpid)).result(PATIENCE)
        # It reads nothing any more, and is given something.
        os.kill(pid, signal.SIGSTOP)
        handle = orch.submit_task(in_worker(os.getpid, idempotent=False))
        os.kill(pid, signal.SIGKILL)
        assert handle.result(PATIENCE) != pid
        assert orch.get_task_status(handle.task_id).attempts == 1


def test_what_waits_behind_a_call_is_not_lost_with_it(tmp_path: Path) -> None:
    """Nor does it wait for it, once another worker has nothing to do."""
    go, end = tmp_path / "go", tmp_path / "end"
    with TaskOrchestrator(executors={"process": 2}) as orch:
        first = orch.submit_task(in_worker(in_workers.wait_for, str(end)))
        pid = pid_of(orch, first)
        second = orch.submit_task(in_worker(in_workers.wait_for, str(go)))
        pid_of(orch, second)
        # One of them is given to each worker in advance.
        behind = [in_worker(os.getpid, idempotent=False) for _ in range(2)]
        handles = orch.submit_tasks([in_worker(pow, 2, 3), *behind])
        go.touch()
        # All of them end, though one worker makes none.
        assert handles[0].result(PATIENCE) == 8
        assert {h.result(PATIENCE) for h in handles[1:]} == {second.result(PATIENCE)}
        assert not first.done()
        # And now behind both.
        go.unlink()
        second = orch.submit_task(in_worker(in_workers.wait_for, str(go)))
        pid_of(orch, second)
        handles = orch.submit_tasks([in_worker(os.getpid) for _ in range(4)])
        os.kill(pid, signal.SIGKILL)
        go.touch()
        assert pid not in {handle.result(PATIENCE) for handle in handles}
        assert {orch.get_task_status(h.task_id).attempts for h in handles} == {1}
        end.touch()
        assert first.result(PATIENCE) != pid
        assert orch.get_task_status(first.task_id).attempts == 2


def test_what_waits_behind_a_call_can_be_called_off(
    tmp_path: Path, orch: TaskOrchestrator
) -> None:
    go, end = tmp_path / "go", tmp_path / "end"
    first = orch.submit_task(in_worker(in_workers.wait_for, str(go)))
    pid = pid_of(orch, first)
    tasks = [in_worker(in_workers.wait_for, str(end)) for _ in range(4)]
    handles = orch.submit_tasks(tasks)
    go.touch()
    # With the first of them it is given the second.
    eventually(lambda: progress_of(orch, handles[0]) == pid)
    for handle in handles[1:]:
        handle.cancel()
        with pytest.raises(TaskCancelledError):
            handle.result(PATIENCE)
    assert not handles[0].done()
    end.touch()
    assert handles[0].result(PATIENCE) == pid


class Starts:
    """What interpreters run as they start, from now on: some end so, and are counted."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._counted = folder / "starts"
        self._script = folder / "sitecustomize.py"
        path = os.pathsep.join([str(folder), *sys.path])
        monkeypatch.setenv("PYTHONPATH", path)

    def end(self, count: int, how: str) -> None:
        """Let the first *count* that start from now on end by a statement."""
        self._counted.write_text("")
        self._script.write_text(
            "import os, signal, sys\n"
            f"with open({str(self._counted)!r}, 'a') as file:\n"
            "    file.write('x')\n"
            f"if os.path.getsize({str(self._counted)!r}) <= {count}:\n"
            f"    {how}\n"
        )

    def count(self) -> int:
        return self._counted.stat().st_size


@pytest.fixture
def starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Starts:
    return Starts(tmp_path, monkeypatch)


KILLED = "os.kill(os.getpid(), signal.SIGKILL)"
LEFT = "sys.stderr.flush(); os._exit(1)"


def test_one_that_ends_while_it_starts_costs_no_attempt(
    starts: Starts, caplog: pytest.LogCaptureFixture
) -> None:
    """Nor does the task wait for a decision: nothing of it was begun."""
    starts.end(2, LEFT)
    with TaskOrchestrator(executors=ONE) as orch:
        handle = orch.submit_task(in_worker(pow, 2, 3, idempotent=False))
        assert handle.result(PATIENCE) == 8
        assert orch.get_task_status(handle.task_id).attempts == 1
        assert starts.count() == 3
    assert caplog.text.count("before it could begin") == 2


def test_those_that_could_not_begin_are_forgotten_with_one_that_can(
    starts: Starts,
) -> None:
    with TaskOrchestrator(executors=ONE) as orch:
        for _ in range(2):
            starts.end(2, KILLED)
            pid = orch.submit_task(in_worker(os.getpid)).result(PATIENCE)
            os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize(
    ("how", "text"),
    [
        (KILLED, r"was ended by signal 9 \(SIGKILL\) before it could begin"),
        (LEFT, "exited with code 1 before it could begin"),
    ],
)
def test_where_none_can_begin_all_that_wait_are_told(
    how: str, text: str, starts: Starts
) -> None:
    starts.end(3, how)
    with TaskOrchestrator(executors={"process": 2}) as orch:
        for handle in orch.submit_tasks([in_worker(os.getpid) for _ in range(5)]):
            with pytest.raises(TaskFailedError, match=text):
                handle.result(PATIENCE)
        assert starts.count() == 3
        # And what comes after that is tried anew.
        assert orch.submit_task(in_worker(pow, 2, 3)).result(PATIENCE) == 8


def test_while_one_works_what_waits_is_not_lost_with_those_that_cannot_begin(
    starts: Starts, tmp_path: Path
) -> None:
    go = tmp_path / "go"
    starts.end(0, KILLED)
    with TaskOrchestrator(executors={"process": 2}) as orch:
        first = orch.submit_task(in_worker(in_workers.wait_for, str(go)))
        pid = pid_of(orch, first)
        starts.end(1000, KILLED)
        handles = orch.submit_tasks([in_worker(os.getpid) for _ in range(4)])
        eventually(lambda: starts.count() >= 3)
        go.touch()
        assert {handle.result(PATIENCE) for handle in handles} == {pid}
        # Each that was submitted may have had one more tried.
        assert starts.count() <= 3 + len(handles)


def test_a_request_to_end_is_for_its_own_call_alone(tmp_path: Path) -> None:
    """Though it is read when the next is made, which the worker has already."""
    go, end = tmp_path / "go", tmp_path / "end"
    with TaskOrchestrator(executors=ONE, grace=600) as orch:
        before = orch.submit_task(in_worker(in_workers.wait_for, str(go)))
        first = orch.submit_task(in_worker(in_workers.wait_for, str(end)))
        second = orch.submit_task(in_worker(in_workers.is_cancelled))
        go.touch()
        pid = pid_of(orch, first)
        first.cancel()
        end.touch()
        assert second.result(PATIENCE) == (pid, False)
        assert before.result(PATIENCE) == pid


def test_who_ends_in_time_does_not_get_the_next_killed(tmp_path: Path) -> None:
    go = tmp_path / "go"
    with TaskOrchestrator(executors=ONE, grace=0.5) as orch:
        first = orch.submit_task(in_worker(in_workers.wait_for, str(go)))
        pid_of(orch, first)
        first.cancel()
        go.touch()
        # Beyond the time at which the first would have been killed.
        second = orch.submit_task(in_worker(time.sleep, 1))
        assert second.exception(PATIENCE) is None
        assert orch.get_task_status(second.task_id).attempts == 1


def test_a_child_that_a_task_forks_is_not_the_worker() -> None:
    with TaskOrchestrator(executors=ONE) as orch:
        assert orch.submit_task(in_worker(in_workers.forks)).result(PATIENCE) == 12
        sleeper = orch.submit_task(in_worker(in_workers.forks_a_sleeper))
        pid = sleeper.result(PATIENCE)
        assert orch.submit_task(in_worker(pow, 2, 3)).result(PATIENCE) == 8
        assert is_alive(pid)
    eventually(lambda: not is_alive(pid))


# -- the end -------------------------------------------------------------------------


def test_a_call_that_asks_ends_by_itself(
    tmp_path: Path, orch: TaskOrchestrator
) -> None:
    told = tmp_path / "told"
    task = in_worker(in_workers.asks_until_cancelled, str(told))
    handle = orch.submit_task(task)
    pid = pid_of(orch, handle)
    handle.cancel()
    with pytest.raises(TaskCancelledError):
        handle.result(PATIENCE)
    # What it was told is not meant for the next.
    said = orch.submit_task(in_worker(in_workers.about)).result(PATIENCE)
    assert (said["pid"], said["cancelled"]) == (pid, False)
    assert told.read_text(encoding="utf-8") == "was told"


def test_one_that_does_not_is_killed() -> None:
    """After a timeout, and when it is cancelled, though its process was stopped."""
    with TaskOrchestrator(executors=ONE, grace=0.2) as orch:
        task = in_worker(in_workers.ignores_the_end, timeout=0.5)
        assert isinstance(orch.submit_task(task).exception(PATIENCE), TaskTimeoutError)
        handle = orch.submit_task(in_worker(in_workers.ignores_the_end))
        pid = pid_of(orch, handle)
        os.kill(pid, signal.SIGSTOP)
        handle.cancel()
        with pytest.raises(TaskCancelledError):
            handle.result(PATIENCE)
        eventually(lambda: not is_alive(pid))
        assert orch.submit_task(in_worker(os.getpid)).result(PATIENCE) != pid
        assert orch.get_stats().leaked == 0


def test_a_stop_kills_and_nothing_is_left() -> None:
    before = set(threading.enumerate())
    with TaskOrchestrator(grace=0.2, executors={"process": 2}) as orch:
        # The first use of the system's things is not ours.
        orch.submit_task(in_worker(pow, 2, 3)).result(PATIENCE)
    fds = len(list(Path("/proc/self/fd").iterdir()))
    orch = TaskOrchestrator(grace=0.2, executors={"process": 2})
    orch.start()
    handles = orch.submit_tasks(
        [in_worker(in_workers.ignores_the_end), in_worker(in_workers.forks_a_sleeper)]
    )
    pids = {pid_of(orch, handles[0]), handles[1].result(PATIENCE)}
    waiting = orch.submit_tasks([in_worker(in_workers.sleep) for _ in range(3)])
    orch.stop(drain=False, timeout=PATIENCE)
    assert all(handle.cancelled() for handle in waiting)
    eventually(lambda: not any(map(is_alive, pids)))
    assert len(list(Path("/proc/self/fd").iterdir())) == fds
    left = [t.name for t in threading.enumerate() if t not in before]
    assert not [name for name in left if "processes" in name]


def run(tmp_path: Path, script: str, **options: Any) -> subprocess.Popen[str]:
    path = tmp_path / "script.py"
    path.write_text(textwrap.dedent(script), encoding="utf-8")
    return Started(
        [sys.executable, str(path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # What measures coverage has modules of its own.
        env={k: v for k, v in os.environ.items() if not k.startswith("COVERAGE_")},
        **options,
    )


def test_none_outlives_a_parent_that_was_killed(tmp_path: Path) -> None:
    script = """
        import os, subprocess, sys, time
        from taskorch import Task, TaskOrchestrator

        def work():
            child = subprocess.Popen(["sleep", "3600"], start_new_session=True)
            # In one piece: the other process prints, too.
            os.write(1, f"{os.getpid()} {child.pid}\\n".encode())
            time.sleep(3600)

        if __name__ == "__main__":
            with TaskOrchestrator(executors={"process": 2}) as orch:
                orch.submit_task(Task.call(work, executor="process"))
                idle = orch.submit_task(Task.call(os.getpid, executor="process"))
                os.write(1, f"{idle.result()}\\n".encode())
                time.sleep(3600)
    """
    parent = run(tmp_path, script)
    try:
        assert parent.stdout is not None
        words = (parent.stdout.readline() + parent.stdout.readline()).split()
        pids = [int(word) for word in words]
        assert len(pids) == 3
    finally:
        parent.kill()
        parent.communicate(timeout=PATIENCE)
    eventually(lambda: not any(map(is_alive, pids)))


def test_a_script_finds_its_own_functions_and_classes(tmp_path: Path) -> None:
    script = """
        import sys
        from dataclasses import dataclass
        from taskorch import Task, TaskOrchestrator

        @dataclass
        class Point:
            x: int

        def moved(point):
            assert "multiprocessing" not in sys.modules
            return Point(point.x + 1), sys.argv[1:]

        if __name__ == "__main__":
            sys.argv.append("argument")
            with TaskOrchestrator() as orch:
                print(*orch.submit_task(
                    Task.call(moved, Point(1), executor="process")).result())
            assert "multiprocessing" not in sys.modules
    """
    out, err = run(tmp_path, script).communicate(timeout=PATIENCE)
    assert (out, err) == ("Point(x=2) ['argument']\n", "")


def test_a_script_without_the_condition_is_told(tmp_path: Path) -> None:
    script = """
        import os
        from taskorch import Task, TaskOrchestrator

        def f():
            pass

        with TaskOrchestrator(executors={"process": 1}) as orch:
            # What is not of the script does not bring it in.
            orch.submit_task(Task.call(os.getpid, executor="process")).result()
            error = orch.submit_task(Task.call(f, executor="process")).exception()
            print(error)
            print(error.hint)
    """
    out, _ = run(tmp_path, script).communicate(timeout=2 * PATIENCE)
    assert "could not be read in its worker process: InvalidTaskError" in out
    assert 'if __name__ == "__main__":' in out
