"""What workers say of their tasks besides ends, and what is said of workers."""

# pyright: basic

import logging
import pickle
import signal
import threading
from concurrent.futures import BrokenExecutor
from contextvars import Context, ContextVar

import pytest

from taskorch.errors import AttemptInterrupted, TaskFailedError
from taskorch.executors._processes import _telling, _wire
from taskorch.executors._processes._process import Assignment
from taskorch.executors._processes._telling import (
    Telling,
    handle_record,
    lost,
    unborn,
    unreadable,
)

PATIENCE = 20.0
VARIABLE = ContextVar("VARIABLE", default="unset")


class Attempt:
    """What is told of it, and what that returns or raises."""

    task_id, number = "t1", 2

    def __init__(self, answer=None):
        self.answer, self.heard, self.asked = answer, [], 0

    def told(self, what, value):
        self.heard.append((what, value, threading.current_thread()))
        if isinstance(self.answer, BaseException):
            raise self.answer
        return self.answer

    def variables(self):
        self.asked += 1
        context = Context()
        context.run(VARIABLE.set, "of the attempt")
        return context


class Worker:
    """It notes what it is sent; *sent* is set then."""

    def __init__(self, exit_code=3, **fields):
        self.answers, self.has_sent = [], threading.Event()
        self.exit_code = exit_code
        self.is_garbled = self.is_mute = False
        self.__dict__.update(fields)

    def send(self, kind, body):
        assert kind == _wire.ANSWER
        self.answers.append(pickle.loads(body))
        self.has_sent.set()


def said(value, *, number=None, task=("t1", 2), what="progress"):
    data = value if isinstance(value, bytes) else pickle.dumps(value)
    return pickle.dumps((task, what, number, data))


def assigned(attempt):
    return Assignment(attempt, b"1", b"call")


# -- what a task tells -----------------------------------------------------------------


def test_what_nobody_waits_for_is_done_at_once_and_not_answered(caplog):
    attempt, worker = Attempt("returned"), Worker()
    Telling(worker, assigned(attempt), said(5)).begin()
    assert attempt.heard == [("progress", 5, threading.current_thread())]
    assert worker.answers == []
    assert caplog.text == ""


def test_what_somebody_waits_for_is_done_elsewhere_and_answered():
    """It may take until it is kept."""
    attempt, worker = Attempt({"cpu": 1}), Worker()
    Telling(worker, assigned(attempt), said(6, number=3, what="checkpoint")).begin()
    assert worker.has_sent.wait(PATIENCE)
    ((what, value, thread),) = attempt.heard
    assert (what, value) == ("checkpoint", 6)
    assert thread is not threading.current_thread()
    assert thread.daemon
    assert worker.answers == [(3, None, {"cpu": 1})]


def test_what_it_raised_is_the_answer():
    attempt, worker = Attempt(AttemptInterrupted("suspended")), Worker()
    Telling(worker, assigned(attempt), said(6, number=3)).begin()
    assert worker.has_sent.wait(PATIENCE)
    ((number, error, told),) = worker.answers
    assert (number, told) == (3, None)
    assert isinstance(error, AttemptInterrupted)


class UnreadableError(Exception):
    """It can be pickled, and not be read again."""

    def __reduce__(self):
        return int, ("no number",)


class UnpickledError(Exception):
    def __reduce__(self):
        raise TypeError


@pytest.mark.parametrize("kind", [UnreadableError, UnpickledError])
def test_what_cannot_be_sent_is_answered_by_what_it_says(kind):
    attempt, worker = Attempt(kind("its text")), Worker()
    Telling(worker, assigned(attempt), said(6, number=3)).begin()
    assert worker.has_sent.wait(PATIENCE)
    ((number, error, told),) = worker.answers
    assert (number, told) == (3, None)
    assert type(error) is RuntimeError
    assert str(error) == "its text"


def test_what_it_raised_is_logged_if_nobody_waits(caplog):
    attempt, worker = Attempt(ValueError("no number")), Worker()
    Telling(worker, assigned(attempt), said(6)).begin()
    assert "progress() of task t1: no number" in caplog.text
    assert worker.answers == []


def test_what_cannot_be_read_is_an_error_as_well(caplog):
    attempt, worker = Attempt(), Worker()
    Telling(worker, assigned(attempt), said(b"rubbish")).begin()
    assert "progress() of task t1: " in caplog.text
    assert attempt.heard == []


@pytest.mark.parametrize("task", [("t1", 1), ("t2", 2), None])
@pytest.mark.parametrize("number", [None, 3])
def test_what_is_of_another_attempt_is_not_done(task, number, caplog):
    """A thread of an earlier task has said it, or the worker has none now."""
    attempt, worker = Attempt(), Worker()
    body = said(5, number=number, task=task or ("t1", 2))
    Telling(worker, assigned(attempt) if task else None, body).begin()
    if number is None:
        assert worker.answers == []
    else:
        assert worker.has_sent.wait(PATIENCE)
        ((_, error, _),) = worker.answers
        assert isinstance(error, AttemptInterrupted)
        assert str(error) == "its attempt is over"
    assert attempt.heard == []
    assert caplog.text == ""


def test_without_a_thread_for_it_that_is_the_answer(monkeypatch):
    def refuse(thread):
        raise RuntimeError("can't start new thread")

    attempt, worker = Attempt(), Worker()
    monkeypatch.setattr(_telling.threading.Thread, "start", refuse)
    Telling(worker, assigned(attempt), said(5, number=3)).begin()
    ((number, error, told),) = worker.answers
    assert (number, str(error), told) == (3, "can't start new thread", None)
    assert attempt.heard == []


# -- records ---------------------------------------------------------------------------


@pytest.fixture
def logger():
    """One that notes each record, and the variables in which it has it."""
    found, seen = logging.getLogger("tests.telling"), []

    class Notes(logging.Handler):
        def emit(self, record):
            seen.append((record.getMessage(), VARIABLE.get()))

    handler = Notes()
    found.addHandler(handler)
    found.setLevel(logging.INFO)
    yield seen
    found.removeHandler(handler)
    found.setLevel(logging.NOTSET)


def record(text, level=logging.INFO):
    return pickle.dumps(
        {"name": "tests.telling", "levelno": level, "msg": text, "args": None}
    )


def test_records_are_handled_in_the_variables_of_the_attempt(logger):
    """Which are asked for once."""
    attempt = Attempt()
    given = assigned(attempt)
    handle_record(given, record("one"))
    handle_record(given, record("two"))
    assert logger == [("one", "of the attempt"), ("two", "of the attempt")]
    assert attempt.asked == 1
    assert given.variables is not None


def test_records_of_no_attempt_are_handled_as_they_are(logger):
    handle_record(None, record("one"))
    assert logger == [("one", "unset")]


def test_records_that_nobody_wants_here_are_dropped(logger):
    """The level of a logger may have changed since its worker has begun."""
    attempt = Attempt()
    handle_record(assigned(attempt), record("quiet", logging.DEBUG))
    handle_record(None, record("quiet", logging.DEBUG))
    assert logger == []
    assert attempt.asked == 0


def test_records_that_cannot_be_read_are_said_with_the_reason(logger, caplog):
    handle_record(assigned(Attempt()), b"rubbish")
    assert "a record of a worker process cannot be read" in caplog.text
    assert "UnpicklingError" in caplog.text
    assert logger == []


# -- what became of calls --------------------------------------------------------------


@pytest.mark.parametrize(
    ("worker", "says", "says_not"),
    [
        (Worker(0), "of task t1 exited with code 0", "signal"),
        (Worker(3), "of task t1 exited with code 3", "did not send"),
        (Worker(1), "of task t1 exited with code 1", "did not send"),
        (Worker(-9), "by signal 9 (SIGKILL); taskorch did not send signal 9", "code"),
        (Worker(-15), "was ended by signal 15 (SIGTERM)", "did not send"),
        (
            Worker(-signal.SIGRTMIN - 1),
            f"was ended by signal {signal.SIGRTMIN + 1}",
            "(",
        ),
        (Worker(None), "somebody else has taken its exit code", "signal"),
        (
            Worker(-9, is_garbled=True),
            "wrote to the descriptor by which the worker speaks",
            "signal",
        ),
        (
            Worker(-9, is_mute=True),
            "closed the descriptor by which the worker speaks",
            "signal",
        ),
    ],
)
def test_what_is_said_of_a_call_whose_worker_has_ended(worker, says, says_not):
    error = lost(assigned(Attempt()), worker)
    assert type(error) is BrokenExecutor
    assert "task t1" in str(error)
    assert says in str(error)
    assert says_not not in str(error)


def test_one_that_was_asked_to_end_was_not_lost():
    given = assigned(Attempt())
    given.is_asked = True
    error = lost(given, Worker(-9))
    assert type(error) is AttemptInterrupted
    assert str(error) == "its worker process was killed"


def test_what_is_said_of_a_call_whose_worker_never_began():
    error = unborn(assigned(Attempt()), Worker(7))
    assert isinstance(error, TaskFailedError)
    assert "for task t1 exited with code 7 before it could begin" in str(error)
    assert error.type == "BrokenExecutor"
    assert error.task_id == "t1"
    assert "standard error" in error.hint


@pytest.mark.parametrize(
    ("message", "says"), [("no module", "KeyError: no module"), ("", "KeyError")]
)
def test_what_is_said_of_a_call_that_could_not_be_read(message, says):
    error = unreadable("t1", "KeyError", message)
    assert isinstance(error, TaskFailedError)
    text = f"task t1 could not be read in its worker process: {says}"
    assert error.message == text
    assert (error.type, error.task_id) == ("KeyError", "t1")
    assert "__main__" in error.hint
