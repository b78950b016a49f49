"""
Errors of what a program supplies: values that are looked at, and handlers of the log.

They may raise anything. `logging` itself catches what its own handlers raise as they
write; one that somebody has written may raise on whichever thread of ours has something
to say.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from threading import current_thread, main_thread
from typing import Any, Final

_FENCED: Final = "_taskorch_is_fenced"


class SimulatedDeath(BaseException):
    """The process dies here, in a simulation: nobody may catch it."""


def is_values(error: BaseException) -> bool:
    """
    Whether a value that was looked at has raised *error*, whatever the error is.

    On the main thread, an interrupt may be that of a signal instead.
    """
    if isinstance(error, SimulatedDeath):
        return False
    return (
        not isinstance(error, KeyboardInterrupt | SystemExit)
        or current_thread() is not main_thread()
    )


def log_of(name: str) -> logging.Logger:
    """The logger of this *name*, which is one of ours."""
    logger = logging.getLogger(name)
    if not hasattr(logger, _FENCED):
        setattr(logger, _FENCED, True)
        logger.handle = partial(hand_on, logger.handle)  # type: ignore[method-assign]
    return logger


def hand_on(handle: Callable[[logging.LogRecord], object], record: Any) -> None:
    """Have a record handled, whatever those raise that the program has for it."""
    try:
        handle(record)
    except BaseException as error:
        if not is_values(error):
            raise
        _tell(record, error)


def _tell(record: logging.LogRecord, error: BaseException) -> None:
    """Say on the standard error, as `logging` does, what could not be logged."""
    stream = sys.__stderr__
    if stream is None or not logging.raiseExceptions:
        return
    import traceback  # noqa: PLC0415 - when needed

    with suppress(Exception):
        lines = traceback.format_exception(error, limit=-4)
        stream.write(f"--- Logging error: {record.name} ---\n{''.join(lines)}")
        stream.write(f"It was to log: {record.getMessage()}\n")
