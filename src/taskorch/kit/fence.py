"""
Protection from errors in a program's values and log handlers.

They may raise anything. `logging` itself catches errors of its own handlers as they
write; a handler of a program may raise on any of our threads that logs.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from threading import current_thread, main_thread
from typing import Any, Final

_FENCED: Final = "_taskorch_is_fenced"


class SimulatedDeath(BaseException):
    """The death of the process in a simulation, which nobody may catch."""


def is_values(error: BaseException) -> bool:
    """
    Return whether *error* came from reading a user's value, of any class.

    On the main thread, an interrupt may come from a signal instead.
    """
    if isinstance(error, SimulatedDeath):
        return False
    return (
        not isinstance(error, KeyboardInterrupt | SystemExit)
        or current_thread() is not main_thread()
    )


@contextmanager
def as_errors() -> Iterator[None]:
    """Raise a panic of a foreign library, which is no Exception, as a RuntimeError."""
    try:
        yield
    except (Exception, KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except BaseException as panic:
        msg = f"{type(panic).__name__}: {panic}"
        raise RuntimeError(msg) from panic


def log_of(name: str) -> logging.Logger:
    """Return the logger *name*; errors of its handlers do not reach callers."""
    logger = logging.getLogger(name)
    if not hasattr(logger, _FENCED):
        setattr(logger, _FENCED, True)
        logger.handle = partial(hand_on, logger.handle)  # type: ignore[method-assign]
    return logger


def hand_on(handle: Callable[[logging.LogRecord], object], record: Any) -> None:
    """Handle a log record, even if a handler of the program raises an error."""
    try:
        handle(record)
    except BaseException as error:
        if not is_values(error):
            raise
        _tell(record, error)


def _tell(record: logging.LogRecord, error: BaseException) -> None:
    """Print on standard error, as `logging` does, that a record was not logged."""
    stream = sys.__stderr__
    if stream is None or not logging.raiseExceptions:
        return
    import traceback  # noqa: PLC0415 - when needed

    with suppress(Exception):
        lines = traceback.format_exception(error, limit=-4)
        stream.write(f"--- Logging error: {record.name} ---\n{''.join(lines)}")
        stream.write(f"It was to log: {record.getMessage()}\n")
