"""The executor of programs step by step, and what attempts make of their ends."""

# pyright: basic

import gc
import inspect
import json
import logging
import os
import shutil
import stat
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from tests.unit.executors.tools import Thread

from taskorch import Elastic
from taskorch.errors import AttemptInterrupted, ProgramFailedError
from taskorch.executors._programs import _attempts, _executor, _fork, _grant
from taskorch.executors._programs._attempts import Programs, failure_of
from taskorch.executors._programs._executor import ProgramExecutor
from taskorch.executors._programs._grant import Grant
from taskorch.executors._programs._process import ProgramEnd
from taskorch.model import Program, ProgramResult, Resources, Task

PROGRAM = Program(["true"])


class Run:
    """A program that does nothing, and what it was asked to do."""

    def __init__(self, *given, **options):
        self.did, self.given, self.options = [], given, options
        self.process = SimpleNamespace(
            terminate=lambda grace: self.did.append(("terminate", grace)),
            kill=lambda: self.did.append("kill"),
        )

    def __getattr__(self, name):
        return lambda *given: self.did.append((name, *given) if given else name)


class Steps:
    """An executor whose loop and guardian only note what they are asked for."""

    def __init__(self, **options):
        self.executor = ProgramExecutor(run_id="run", **options)
        self.did, self.called = [], []
        for name in ("open", "close", "run", "at"):
            setattr(self.executor._common.loop, name, self.noted(name))
        for name in ("close", "disown"):
            setattr(self.executor._common.guard, name, self.noted("guard", name))
        self.executor._common.loop.call = self.called.append

    def noted(self, *what):
        return lambda *given: self.did.append((*what, *given))

    def add(self, count):
        runs = [Run() for _ in range(count)]
        self.executor._runs.update(runs)
        return runs


@pytest.fixture
def steps(monkeypatch):
    monkeypatch.setattr(_executor, "ProgramRun", Run)
    return Steps()


def start(executor):
    return executor.start(PROGRAM, name="t/1", env={"A": "1"}, on_end=print)


def test_how_much_is_kept_and_awaited_unless_it_is_said(steps):
    """As its reference says."""
    common = steps.executor._common
    assert (common.max_log_bytes, common.tail_bytes) == (67_108_864, 65_536)
    assert (common.drain_quiet, common.drain_limit) == (0.5, 1.0)
    assert common.leftover_grace == 0.5
    options = inspect.signature(ProgramExecutor).parameters
    assert options["logs"].default is None


def test_a_program_is_begun_on_the_thread_that_is_made_with_the_first(
    steps, monkeypatch
):
    monkeypatch.setattr(_executor.threading, "Thread", Thread)
    processes = [start(steps.executor) for _ in range(2)]
    runs = steps.executor._runs
    assert {id(run.process) for run in runs} == {id(process) for process in processes}
    assert len(steps.called) == 2
    for act in steps.called:
        act()
    assert [run.did for run in runs] == [["start"], ["start"]]
    for run in list(runs):
        assert run.given == (steps.executor._common, PROGRAM)
        assert run.options["env"] == {"A": "1"}
        run.options["on_over"](run)
        run.options["on_over"](run)
    assert not runs


def test_its_thread_ends_with_the_interpreter(steps, monkeypatch):
    monkeypatch.setattr(_executor.threading, "Thread", Thread)
    start(steps.executor)
    thread = steps.executor._thread
    assert thread.started == 1
    assert thread.options["daemon"]
    assert steps.executor._owner == os.getpid()
    assert steps.executor in _fork._owners
    start(steps.executor)
    assert steps.executor._thread is thread


def test_without_a_thread_the_next_program_may_find_one(steps, monkeypatch):
    problem = RuntimeError("can't start new thread")
    with monkeypatch.context() as patch:
        patch.setattr(
            _executor.threading, "Thread", lambda **given: Thread(problem=problem)
        )
        with pytest.raises(RuntimeError, match="new thread"):
            start(steps.executor)
    assert steps.executor._thread is None
    assert not steps.executor._runs
    assert steps.called == []


def test_all_are_asked_to_end(steps):
    runs = steps.add(2)
    steps.executor.terminate(7.0)
    assert [run.did for run in runs] == [[("terminate", 7.0)]] * 2
    assert not steps.executor._closed
    assert steps.called == []


@pytest.mark.parametrize("is_alive", [True, False])
@pytest.mark.parametrize(
    ("grace", "patience", "waits"),
    [
        (3.0, 4.0, 7.0),
        (-3.0, 4.0, 4.0),
        (0.0, 0.5, 0.5),
        (1e12, 4.0, threading.TIMEOUT_MAX),
    ],
)
def test_closing_waits_so_long_and_says_how_many_are_left(
    steps, grace, patience, waits, is_alive, caplog
):
    runs, thread = steps.add(2), Thread(is_alive=is_alive)
    steps.executor._thread = thread
    before = time.monotonic()
    steps.executor.close(grace, patience)
    assert thread.waits == [waits]
    for run in runs:
        assert run.did[0] == ("terminate", max(grace, 0.0))
        assert run.did[1:] == ["kill"] * is_alive
    assert ("2 programs cannot be ended in time" in caplog.text) is is_alive
    assert steps.called == [steps.executor._begin_all]
    by = steps.executor._close_by
    assert before + max(grace, 0.0) <= by <= time.monotonic() + max(grace, 0.0)
    with pytest.raises(RuntimeError, match="is closed and starts no more"):
        start(steps.executor)
    # Closed again, it can only be sooner.
    steps.executor.close(2e12, patience)
    assert steps.executor._close_by == by
    steps.executor.close(-1, patience)
    assert steps.executor._close_by <= by or grace <= 0
    assert len(thread.waits) == 3


def test_closing_before_its_first_or_on_its_own_thread_waits_for_nobody(steps):
    for thread in (None, threading.current_thread()):
        steps.executor._thread = thread
        steps.executor.close(1)
        assert steps.executor._closed
        assert steps.called == []


def test_once_it_is_closed_none_is_begun(steps):
    """An interrupt may have come before one was."""
    (run,) = steps.add(1)
    steps.executor._begin_all()
    assert run.did == ["start"]
    steps.executor._closed = True
    steps.executor._begin_all()
    assert run.did == ["start", "refuse"]


@pytest.mark.parametrize("closed", [True, False])
@pytest.mark.parametrize("count", [0, 1])
def test_it_is_over_once_it_is_closed_and_none_runs(steps, closed, count):
    steps.executor._closed = closed
    steps.add(count)
    assert bool(steps.executor._is_over()) is (closed and not count)


@pytest.mark.parametrize("problem", [None, OSError(24, "too many open files")])
def test_with_its_thread_goes_what_it_has_opened(steps, problem, caplog):
    (run,) = steps.add(1)
    steps.executor._thread = Thread()

    def strays():
        steps.did.append("strays")
        if problem is not None:
            raise problem

    steps.executor._end_strays = strays
    steps.executor._supervise()
    assert steps.did == [
        ("open",),
        ("run", steps.executor._is_over),
        "strays",
        ("guard", "close"),
        ("close",),
    ]
    gave_up = problem is not None
    assert run.did == ([("fail", problem)] if gave_up else [])
    assert ("has to give up" in caplog.text) is gave_up
    assert (steps.executor._thread is None) is gave_up


def test_strays_are_looked_for_until_none_is_left(steps, monkeypatch):
    made = []

    class Leftovers:
        def __init__(self, family, asked_at):
            made.append((family.group, family._mark, asked_at))
            self.whens = iter([5.0, 6.0, None])

        def end(self, kill_at):
            made.append(kill_at)
            return next(self.whens)

    monkeypatch.setattr(_executor, "Leftovers", Leftovers)
    steps.executor._close_by = 4711.0
    steps.executor._end_strays()
    assert made == [(None, b"TASKORCH_RUN=run", None), 4711.0, 4711.0, 4711.0]
    assert [what for what, *_ in steps.did] == ["at", "run", "at", "run"]
    assert steps.did[0][1] == 5.0
    (_, until) = steps.did[3]
    monkeypatch.setattr(_executor, "time", SimpleNamespace(monotonic=lambda: 6.0))
    assert until() is True
    monkeypatch.setattr(_executor, "time", SimpleNamespace(monotonic=lambda: 5.9))
    assert until() is False


def test_a_fork_neither_closes_it_nor_starts_programs(steps):
    (run,) = steps.add(1)
    steps.executor._owner = os.getpid() + 1
    steps.executor._thread = Thread()
    steps.executor.close(0)
    assert not steps.executor._closed
    assert run.did == steps.executor._thread.waits == []
    with pytest.raises(RuntimeError, match="which this one is a fork"):
        start(steps.executor)
    steps.executor._owner = os.getpid()
    start(steps.executor)


def test_a_forked_child_closes_what_leads_to_programs(steps):
    runs = steps.add(2)
    steps.executor.disown()
    assert [run.did for run in runs] == [["disown"]] * 2
    assert steps.did == [("guard", "disown")]


# -- attempts --------------------------------------------------------------------------


class Attempt:
    """One that is a program, and what is told of it."""

    task_id, fence = "t", (1, 2)

    def __init__(self, **options):
        self.task = Task("program", PROGRAM, **options)
        self.told_of, self.asked, self.answer = [], [], None

    def end(self, value=None, error=None):
        self.told_of.append((value, error))

    def unstarted(self, error):
        self.told_of.append(("unstarted", error))

    def told(self, what, value):
        self.asked.append((what, value))
        if what == "checkpoint" and self.answer is not None:
            raise self.answer
        return (("cpu", 2_500_000),)


class Programmed:
    """An executor that notes what it is asked for."""

    def __init__(self, **given):
        self.given, self.did = given, []

    def start(self, program, **options):
        self.did.append(("start", program))
        self.options = options
        return "process"

    def __getattr__(self, name):
        return lambda *given: self.did.append((name, *given))


@pytest.fixture
def programs(monkeypatch):
    monkeypatch.setattr(_executor, "ProgramExecutor", Programmed)
    return Programs(lambda: "run")


def result(exit_code=0, **fields):
    return ProgramResult(
        **{
            "args": ("true",),
            "exit_code": exit_code,
            "stdout_tail": "",
            "stderr_tail": "",
            "log_path": None,
            "duration": 1.0,
            "withheld_env": (),
            "truncated_bytes": 0,
            "log_error": None,
            "oom_killed": False,
        }
        | fields
    )


def test_the_id_of_the_run_is_asked_for_with_the_first(programs):
    programs.end_all(1)
    programs.close(1)
    programs.logs = Path("/logs")
    assert programs.begin(Attempt()) == "process"
    executor = programs._executor
    assert executor.given == {"run_id": "run", "logs": Path("/logs")}
    assert executor.did == [("start", PROGRAM)]
    assert executor.options["name"] == "t/2"
    assert executor.options["env"]
    assert executor.options["holding"] is None
    elastic = Attempt(resources=Elastic(Resources(cpu=4)))
    programs.begin(elastic)
    assert executor.options["holding"]._attempt is elastic
    assert programs._executor is executor
    programs.end_all(100.0)
    programs.close(7.0)
    assert executor.did[2:] == [("terminate", 98.5), ("close", 0, 7.0)]


def test_what_is_asked_of_an_attempt_is_asked_of_its_process(programs):
    did = []
    process = SimpleNamespace(
        terminate=lambda grace: did.append(("terminate", grace)),
        stop=lambda: did.append("stop"),
        resume=lambda: did.append("resume"),
        look_again=lambda: did.append("look"),
        log_path=Path("/log"),
    )
    programs.stop(process, 2.0)
    programs.hold(process)
    programs.resume(process)
    programs.allocation_changed(process)
    assert did == [("terminate", 1.5), "stop", "resume", "look"]
    assert programs.log_path(process) == Path("/log")
    assert programs.can_hold() is True


def test_the_end_of_a_program_is_that_of_its_attempt(programs):
    attempt, good, bad = Attempt(), result(), result(3)
    programs.begin(attempt)
    on_end = programs._executor.options["on_end"]
    on_end(ProgramEnd(good, None))
    on_end(ProgramEnd(bad, None))
    on_end(ProgramEnd(None, OSError(24, "too many open files")))
    on_end(ProgramEnd(None, OSError(2, "no such file")))
    first, (value, error), (what, no_room), (nothing, unstarted) = attempt.told_of
    assert first == (good, None)
    assert value is nothing is None
    assert isinstance(error, ProgramFailedError)
    assert error.result is bad
    assert (what, no_room.errno) == ("unstarted", 24)
    assert isinstance(unstarted, ProgramFailedError)
    assert unstarted.message == "task t: no such file"


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (OSError(2, "no such file"), "no such file"),
        (ValueError("no name"), "no name"),
        (ValueError(), "ValueError"),
    ],
)
def test_why_a_program_was_not_started(error, why):
    made = _attempts._unstarted("t", error)
    assert (made.message, made.task_id) == (f"task t: {why}", "t")


@pytest.mark.parametrize("answer", [None, AttemptInterrupted("to end")])
def test_what_an_elastic_one_holds_is_asked_of_its_attempt(programs, answer):
    attempt = Attempt()
    attempt.answer = answer
    holding = _attempts._Holding(attempt)
    assert holding.held() == Resources(cpu=2.5)
    assert attempt.asked == [("allocation", None)]
    assert holding.reach_checkpoint() == Resources(cpu=2.5)
    assert attempt.asked[1:] == [("checkpoint", None), ("allocation", None)]


def failed(code, *, check=True, was_asked=False, **fields):
    return failure_of(
        "t",
        Program(["prog", "x"], check=check),
        result(code, **fields),
        was_asked=was_asked,
    )


@pytest.mark.parametrize(("code", "check"), [(0, True), (0, False), (3, False)])
def test_what_is_no_failure(code, check):
    assert failed(code, check=check) is None


@pytest.mark.parametrize(
    ("code", "fields", "says", "hint"),
    [
        (1, {}, "exited with code 1", ""),
        (3, {}, "exited with code 3", ""),
        (-15, {}, "was ended by signal 15", ""),
        (-1, {}, "was ended by signal 1", ""),
        (-9, {}, "was ended by signal 9", "taskorch did not send signal 9"),
        (-9, {"was_asked": True}, "was ended by signal 9", ""),
        (-15, {"was_asked": True}, "was ended by signal 15", ""),
        (
            -9,
            {"oom_killed": True},
            "by signal 9: it was killed by the system for want of memory",
            "let fewer run at once",
        ),
        (
            1,
            {"oom_killed": True},
            "exited with code 1: a process of it was killed by the system",
            "let fewer run at once",
        ),
    ],
)
def test_what_is_said_of_a_failure(code, fields, says, hint):
    error = failed(code, **fields)
    assert isinstance(error, ProgramFailedError)
    assert error.message.startswith("program 'prog' ")
    assert error.message.endswith(" (task t)")
    assert says in error.message
    assert error.hint.startswith(hint)
    assert bool(error.hint) is bool(hint)
    assert error.task_id == "t"
    assert error.result.exit_code == code


@pytest.mark.parametrize(
    ("out", "err", "last"),
    [
        ("out\n", "first\nlast of err\n \n", ": last of err (task"),
        ("first\nlast of out\n", " \n", ": last of out (task"),
        ("only", "", ": only (task"),
        ("", "", "code 3 (task"),
        ("", "x" * 499 + "y" * 500, ": " + "y" * 500 + " (task"),
    ],
)
def test_a_failure_begins_with_what_was_said_last(out, err, last):
    assert last in failed(3, stdout_tail=out, stderr_tail=err).message


@pytest.mark.parametrize(
    ("names", "hint"),
    [
        ((), ""),
        (("A", "B", "C"), "not inherited: A, B, C; see inherit_env="),
        (("A", "B", "C", "D"), "not inherited: D, A, B and 1 more; see inherit_env="),
        (
            ("A", "B", "C", "D", "E"),
            "not inherited: D, A, B and 2 more; see inherit_env=",
        ),
    ],
)
def test_a_failure_says_what_it_had_not_first_what_it_speaks_of(names, hint):
    assert failed(3, withheld_env=names, stderr_tail="no $D").hint == hint
    if names:
        both = failed(-9, withheld_env=names, stderr_tail="no $D").hint
        assert both.endswith(f"somebody's kill -9; {hint}")


# -- what an elastic one holds ---------------------------------------------------------


class Granted:
    """A grant whose loop is the test."""

    def __init__(self):
        self.watched, self.unwatched, self.checkpoints = {}, [], 0
        self.now = {"cpu": 2.0, "gpu": 0.5}
        loop = SimpleNamespace(
            watch=lambda fd, act: self.watched.update({fd: act}),
            unwatch=self.unwatched.append,
        )
        self.grant = Grant(loop, self, safe=lambda act: act)
        gc.collect()
        self.before = len(list(Path("/dev/fd").iterdir()))
        self.variables = self.grant.open()
        self.file, self.pipe = map(Path, self.variables.values())

    def held(self):
        return self.now

    def reach_checkpoint(self):
        self.checkpoints += 1
        self.now = {"cpu": 1.0}
        return self.now

    def says(self):
        return json.loads(self.file.read_text())


@pytest.fixture
def granted():
    found = Granted()
    yield found
    found.grant.close()


def test_what_it_holds_is_in_a_file_in_whole_numbers_where_it_can(granted):
    assert list(granted.variables) == ["TASKORCH_ALLOCATION", "TASKORCH_CHECKPOINT"]
    assert granted.file.read_text() == (
        '{"checkpoints": 0, "allocation": {"cpu": 2, "gpu": 0.5}}\n'
    )
    mode = granted.pipe.stat().st_mode
    assert stat.S_ISFIFO(mode)
    assert stat.S_IMODE(mode) == 0o600


def test_each_line_is_a_checkpoint_and_several_are_answered_at_once(granted):
    ((_, act),) = granted.watched.items()
    act()
    assert granted.checkpoints == 0
    assert granted.says()["checkpoints"] == 0
    with granted.pipe.open("w") as pipe:
        pipe.write("\n\n")
    act()
    assert granted.says() == {"checkpoints": 2, "allocation": {"cpu": 1}}
    with granted.pipe.open("w") as pipe:
        pipe.write("no line")
    act()
    assert granted.checkpoints == 1
    with granted.pipe.open("w") as pipe:
        pipe.write("\n" * 5000)
    act()
    assert granted.says()["checkpoints"] == 5002
    assert granted.checkpoints == 2


def test_the_file_is_written_anew_only_if_it_says_something_else(granted):
    written = granted.file.stat().st_ino
    granted.grant.refresh()
    assert granted.file.stat().st_ino == written
    granted.now = {"cpu": 3.0}
    granted.grant.refresh()
    assert granted.says() == {"checkpoints": 0, "allocation": {"cpu": 3}}
    written = granted.file.stat().st_ino
    granted.grant.refresh()
    assert granted.file.stat().st_ino == written


def test_a_file_that_cannot_be_written_is_said(granted, monkeypatch, caplog):
    caplog.set_level(logging.WARNING)

    def full(*_):
        raise OSError(28, "No space left on device")

    granted.now = {"cpu": 3.0}
    with monkeypatch.context() as patch:
        patch.setattr(_grant, "Staged", full)
        granted.grant.refresh()
    assert "allocation.json could not be written: [Errno 28]" in caplog.text
    # It is tried again the next time.
    granted.grant.refresh()
    assert granted.says()["allocation"] == {"cpu": 3}


def test_with_its_end_both_are_gone_and_nothing_is_open(granted):
    granted.grant.close()
    assert not granted.file.parent.exists()
    assert set(granted.watched) <= set(granted.unwatched)
    assert len(list(Path("/dev/fd").iterdir())) == granted.before
    granted.grant.close()
    Grant(SimpleNamespace(), granted, safe=print).close()


def test_others_may_have_removed_both(granted):
    """Those who tidy up what was not used for long."""
    shutil.rmtree(granted.file.parent)
    granted.grant.close()
    assert set(granted.watched) <= set(granted.unwatched)


def test_it_does_not_end_when_a_writer_does(granted):
    with granted.pipe.open("w"):
        pass
    ((fd, _),) = granted.watched.items()
    with pytest.raises(BlockingIOError):
        os.read(fd, 1)
    assert not os.get_inheritable(fd)
