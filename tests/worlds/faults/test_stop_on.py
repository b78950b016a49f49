"""A signal that ends a process in good order: what runs is finished, what is left is said."""

import asyncio
import os
import signal
import sqlite3
import threading
from contextlib import closing

import pytest
from tests.worlds.faults import stopped_by_signal as programs
from tests.worlds.faults.tools import Process

from taskorch import InvalidTaskError, NotRunningError, TaskOrchestrator
from taskorch.errors import UsageError

TERMINATED = 128 + signal.SIGTERM


def at_length(program):
    return pytest.param(
        program, marks=pytest.mark.slow("the same with a loop, or without")
    )


def run(program, folder, number=signal.SIGTERM):
    """Start it, and send the signal when it is ready."""
    process = Process(program, folder)
    with process:
        assert process.line() == "ready"
        process.send(number)
        yield process


def kinds(folder):
    with closing(sqlite3.connect(f"file:{folder}/runs.db?mode=ro", uri=True)) as db:
        found = db.execute("SELECT kind, task_id FROM facts ORDER BY seq").fetchall()
    return [(kind, task_id) for kind, task_id in found if kind.startswith("TaskC")]


@pytest.mark.parametrize("program", [programs.drains, at_length(programs.loop_drains)])
def test_what_runs_is_finished(tmp_path, program):
    """And what waits for it, too; then the process ends with 143."""
    for process in run(program, tmp_path):
        while "SIGTERM: what " not in process.errors():
            assert process.line(0.01) is None
        (tmp_path / "go").touch()
        assert process.line() == "finished"
        assert process.line() == "the second"
        assert process.wait() == TERMINATED
        assert "SIGTERM: stopped after" in process.errors()
        assert "nothing was left" in process.errors()
        assert "Traceback" not in process.errors()
    assert ("TaskCompleted", "first") in kinds(tmp_path)


@pytest.mark.parametrize(
    "program", [at_length(programs.leaves_queue), programs.loop_leaves_queue]
)
def test_with_a_journal_the_queue_is_left_to_the_next_incarnation(tmp_path, program):
    for process in run(program, tmp_path):
        while "SIGTERM: what runs has" not in process.errors():
            assert process.line(0.01) is None
        (tmp_path / "go").touch()
        assert process.line() == "finished"
        assert process.wait() == TERMINATED
        assert (
            "1 task was left, and is kept for the next incarnation" in process.errors()
        )
        assert "  second (queued): " in process.errors()
    assert kinds(tmp_path) == [("TaskCompleted", "first")]


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGINT])
def test_any_signal_will_do(tmp_path, number):
    """Ctrl-C drains as well, if it is asked to."""
    for process in run(programs.drains_at_all, tmp_path, number):
        (tmp_path / "go").touch()
        assert process.line() == "finished"
        assert process.wait() == 128 + number
        assert "Traceback" not in process.errors()


@pytest.mark.parametrize(
    "program", [programs.runs_on, at_length(programs.loop_runs_on)]
)
def test_a_second_one_cancels_what_runs(tmp_path, program):
    """A journal keeps it for the next incarnation."""
    for process in run(program, tmp_path):
        while "SIGTERM: what " not in process.errors():
            assert process.line(0.01) is None
        process.send(signal.SIGTERM)
        assert process.line() == "asked to stop"
        assert process.wait() == TERMINATED
        assert "left" in process.errors()
        assert "Traceback" not in process.errors()
    assert kinds(tmp_path) == []


@pytest.mark.parametrize(
    "program",
    [
        programs.has_little_time,
        at_length(programs.ends_in_drain),
        at_length(programs.loop_has_little_time),
        programs.loop_ends_in_drain,
    ],
)
def test_when_its_time_is_over_what_runs_is_cancelled(tmp_path, program):
    """Also if the block had ended before, and drained without any limit."""
    for process in run(program, tmp_path):
        assert process.line() == "asked to stop"
        assert process.wait() == TERMINATED
        assert "Traceback" not in process.errors()


def test_without_a_block_its_stop_drains(tmp_path):
    """As long as the signal allows."""
    for process in run(programs.by_hand, tmp_path):
        assert process.line() == "heard"
        (tmp_path / "go").touch()
        assert process.line() == "finished"
        assert process.line() == "1 True"
        assert process.wait() == TERMINATED


def test_a_terminal_that_closes_does_no_harm(tmp_path):
    """Nothing of ours fails over what cannot be written to it."""
    with Process(programs.loses_its_terminal, tmp_path) as process:
        assert process.line() == "11 10 0", process.errors()
        assert process.wait() == 0


@pytest.fixture(name="called")
def fixture_called():
    called = []
    before = signal.signal(signal.SIGUSR1, lambda number, frame: called.append(number))
    yield called
    signal.signal(signal.SIGUSR1, before)


def test_a_handler_of_before_is_called_and_put_back(called):
    """Of two that stop at it, the last one puts it back."""
    before = signal.getsignal(signal.SIGUSR1)
    first, second = TaskOrchestrator(), TaskOrchestrator()
    with first:
        first.stop_on(signal.SIGUSR1)
        with pytest.raises(SystemExit), second:  # noqa: PT012 - it ends the block
            second.stop_on(signal.SIGUSR1)
            signal.raise_signal(signal.SIGUSR1)
        assert called == [signal.SIGUSR1]
        assert signal.getsignal(signal.SIGUSR1) is not before
    assert signal.getsignal(signal.SIGUSR1) is before


class Signals:
    """One comes when this dies, where Python would swallow what is raised."""

    def __del__(self):
        signal.raise_signal(signal.SIGUSR1)


@pytest.mark.parametrize("started", [False, True])
def test_a_signal_that_is_deferred_when_it_stops_is_raised(called, started):
    """The process does not end as if nobody had asked it to."""
    orch = TaskOrchestrator()
    orch.stop_on(signal.SIGUSR1)
    if started:
        orch.start()
    with pytest.raises(SystemExit) as caught:  # noqa: PT012 - it may be raised sooner
        Signals()
        orch.stop()
    assert caught.value.code == 128 + signal.SIGUSR1
    orch.stop()
    assert called == [signal.SIGUSR1]


def test_one_that_stopped_on_another_thread_is_out_of_the_way(called):
    """It cannot put the handler back there; the next signal does."""
    orch = TaskOrchestrator()
    orch.stop_on(signal.SIGUSR1)
    orch.start()
    thread = threading.Thread(target=orch.stop)
    thread.start()
    thread.join()
    signal.raise_signal(signal.SIGUSR1)
    assert called == [signal.SIGUSR1]
    assert orch.stop().drained


def test_a_child_of_a_fork_dies_of_it():
    """It is not its orchestrator."""
    with TaskOrchestrator() as orch:
        orch.stop_on(signal.SIGTERM)
        child = os.fork()
        if not child:
            try:
                signal.raise_signal(signal.SIGTERM)
            finally:
                os._exit(3)
        assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGTERM


def test_what_is_ignored_stays_ignored():
    """As SIGHUP is under nohup."""
    before = signal.signal(signal.SIGUSR2, signal.SIG_IGN)
    try:
        with TaskOrchestrator() as orch:
            orch.stop_on(signal.SIGUSR2)
            signal.raise_signal(signal.SIGUSR2)
            assert orch.submit(int, "3").result() == 3
    finally:
        signal.signal(signal.SIGUSR2, before)


@pytest.mark.parametrize("wrong", [(), (0,), (True,), ("SIGTERM",), (signal.SIGKILL,)])
def test_what_is_no_signal_is_refused(wrong):
    """With what to do."""
    with pytest.raises(InvalidTaskError) as caught:
        TaskOrchestrator().stop_on(*wrong)
    assert "stop_on(signal.SIGTERM)" in caught.value.hint


def test_it_is_for_the_main_thread_and_for_those_that_live():
    """Elsewhere, Python has no signals."""
    orch = TaskOrchestrator()
    with pytest.raises(UsageError, match="is for the main"):
        asyncio.run(asyncio.to_thread(orch.stop_on, signal.SIGTERM))
    orch.stop()
    with pytest.raises(NotRunningError):
        orch.stop_on(signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
