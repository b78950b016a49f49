"""Errors of values that are looked at: they may raise anything."""

from __future__ import annotations

from threading import current_thread, main_thread


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
