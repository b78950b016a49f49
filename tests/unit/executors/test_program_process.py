"""What others hold of a program: which signals its group gets, and when."""

# pyright: basic

import os
import signal
import sys
import time
from types import SimpleNamespace

import pytest

from taskorch.executors._programs import _process
from taskorch.executors._programs._process import ProgramProcess

TERM, CONT, STOP, KILL = (
    signal.SIGTERM,
    signal.SIGCONT,
    signal.SIGSTOP,
    signal.SIGKILL,
)
PID = 4711


class Group:
    """A program whose group only notes what it gets."""

    def __init__(self, monkeypatch):
        self.sent, self.looks, self.problem = [], 0, None
        monkeypatch.setattr(_process.os, "killpg", self.killpg)
        self.process = ProgramProcess(self.look)

    def killpg(self, group, number):
        assert group == PID
        if self.problem is not None:
            raise self.problem
        self.sent.append(number)

    def look(self):
        self.looks += 1


@pytest.fixture
def group(monkeypatch):
    return Group(monkeypatch)


def test_one_that_was_made_has_done_nothing(group):
    process = group.process
    assert not process.is_stopped
    assert process.pid is process.kill_at is process.asked_at is None
    process.attach(PID)
    assert process.pid == PID
    assert (group.sent, group.looks) == ([], 0)
    assert process.kill_at is process.asked_at is None


@pytest.mark.parametrize(("grace", "later"), [(5.0, 5.0), (0.0, 0.0), (-5.0, 0.0)])
def test_asked_to_end_it_gets_one_signal_and_a_time(group, grace, later):
    process = group.process
    process.attach(PID)
    before = time.monotonic()
    process.terminate(grace)
    assert group.sent == [TERM, CONT]
    assert before + later <= process.kill_at <= time.monotonic() + later
    assert group.looks == 1
    if sys.platform == "linux":
        assert process.asked_at <= time.clock_gettime(time.CLOCK_BOOTTIME)
    kill_at, asked_at = process.kill_at, process.asked_at
    process.terminate(3600)
    assert (process.kill_at, process.asked_at) == (kill_at, asked_at)
    assert group.sent == [TERM, CONT]
    process.terminate(-1)
    assert process.kill_at <= kill_at or later == 0
    assert group.sent == [TERM, CONT]
    assert group.looks == 3


def test_a_shorter_grace_counts(group):
    process = group.process
    process.attach(PID)
    process.terminate(3600)
    process.terminate(10)
    assert process.kill_at < time.monotonic() + 11


def test_killed_it_gets_nothing_else(group):
    process = group.process
    process.attach(PID)
    process.kill()
    assert group.sent == [KILL]
    assert process.kill_at <= time.monotonic()
    assert process.asked_at is None
    assert group.looks == 1
    process.kill_group()
    assert group.sent == [KILL, KILL]
    assert group.looks == 1


@pytest.mark.parametrize(
    ("ask", "sent"),
    [
        (lambda process: process.terminate(3600), [TERM, CONT]),
        (lambda process: process.kill(), [KILL, TERM, CONT]),
        (lambda process: process.stop(), [STOP]),
        (lambda process: process.stop() and process.resume(), []),
        (lambda process: process.stop() and process.terminate(3600), [TERM, CONT]),
    ],
)
def test_what_was_asked_before_its_start_is_done_then(group, ask, sent):
    process = group.process
    ask(process)
    assert group.sent == []
    assert process.asked_at is None
    process.attach(PID)
    assert group.sent == sent


def test_the_moment_of_its_kill_may_be_that_of_its_start(group, monkeypatch):
    process = group.process
    process.terminate(3600)
    clock = SimpleNamespace(
        monotonic=lambda: process.kill_at,
        clock_gettime=lambda _: 0.0,
        CLOCK_BOOTTIME=7,
    )
    monkeypatch.setattr(_process, "time", clock)
    process.attach(PID)
    assert group.sent == [KILL, TERM, CONT]


def test_stopped_and_resumed_it_says_so(group):
    process = group.process
    assert process.stop() is True
    assert process.is_stopped
    assert group.looks == 1
    assert process.resume() is True
    assert not process.is_stopped
    assert group.looks == 2
    process.attach(PID)
    assert process.stop() is True
    assert process.is_stopped
    assert process.resume() is True
    assert not process.is_stopped
    assert group.sent == [STOP, CONT]
    # There is nothing for the supervisor to do.
    assert group.looks == 2


@pytest.mark.parametrize(
    "end",
    [
        lambda process: process.note_exit(),
        lambda process: process.release(),
        lambda process: process.terminate(3600),
        lambda process: process.kill(),
    ],
)
def test_one_that_ends_is_not_stopped_any_more(group, end):
    process = group.process
    process.attach(PID)
    end(process)
    group.sent.clear()
    assert process.stop() is False
    assert process.resume() is False
    assert not process.is_stopped
    assert group.sent == []


def test_the_others_of_its_group_are_reached_until_its_number_is_free(group):
    process = group.process
    process.attach(PID)
    process.note_exit()
    process.terminate(3600)
    process.kill_group()
    assert group.sent == [TERM, CONT, KILL]
    process.release()
    process.kill()
    process.kill_group()
    assert group.sent == [TERM, CONT, KILL]


def test_once_its_number_is_free_nobody_is_asked(group):
    """That decides whom of its children is."""
    process = group.process
    process.attach(PID)
    process.release()
    process.terminate(0)
    assert process.asked_at is None
    assert group.sent == []


@pytest.mark.parametrize("problem", [ProcessLookupError(), PermissionError()])
def test_a_group_that_cannot_be_reached_was_not_stopped(group, problem):
    process = group.process
    process.attach(PID)
    group.problem = problem
    assert process.stop() is False
    assert process.resume() is False
    process.terminate(1)
    process.kill()
    assert process.kill_at is not None


def test_the_copy_in_a_forked_child_does_nothing(group):
    """The program is the parent's."""
    process = group.process
    process.attach(PID)
    process._owner = os.getpid() + 1
    assert process.stop() is False
    assert process.resume() is False
    process.terminate(0)
    process.kill()
    assert (group.sent, group.looks) == ([], 0)
    assert process.kill_at is None
    assert not process.is_stopped
