"""What a program's own handler of the log raises harms nobody, and is said."""

from __future__ import annotations

import logging
import threading

import pytest

from taskorch.kit.fence import is_values, log_of


class Raising(logging.Handler):
    def __init__(self, error):
        super().__init__()
        self.error = error

    def handle(self, record):
        raise self.error


@pytest.fixture
def log():
    made = log_of("taskorch.tests.of_the_fence")
    made.propagate = False
    yield made
    made.handlers.clear()
    made.propagate = True


@pytest.mark.parametrize("error", [ValueError("broken"), MemoryError()])
def test_a_handler_that_raises_ends_nothing_and_the_record_is_not_lost(
    log, error, monkeypatch
):
    said = []
    monkeypatch.setattr(
        "sys.__stderr__", type("Stream", (), {"write": staticmethod(said.append)})
    )
    log.addHandler(Raising(error))
    log.warning("the disk is %s", "full")
    text = "".join(said)
    assert type(error).__name__ in text
    assert "the disk is full" in text


def test_without_a_standard_error_it_ends_nothing_either(log, monkeypatch):
    monkeypatch.setattr("sys.__stderr__", None)
    log.addHandler(Raising(ValueError("broken")))
    log.warning("nobody hears it")


def test_one_logger_is_fenced_once_however_often_it_is_asked_for(log):
    handle = log.handle
    assert log_of(log.name) is log
    assert log.handle is handle


def on_another_thread(act):
    answers = []
    thread = threading.Thread(target=lambda: answers.append(act()))
    thread.start()
    thread.join()
    return answers[0]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(1)])
def test_an_interrupt_on_the_main_thread_is_the_users_and_elsewhere_a_values(
    log, error
):
    assert not is_values(error)
    assert on_another_thread(lambda: is_values(error))
    log.addHandler(Raising(error))
    with pytest.raises(type(error)):
        log.warning("interrupted")
