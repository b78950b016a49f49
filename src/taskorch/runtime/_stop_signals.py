"""The end of a block, and signals that bring it about: they leave time to finish."""

from __future__ import annotations

import logging
import signal
import threading
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

from taskorch.errors import InvalidTaskError, NotRunningError, UsageError
from taskorch.model._show import show
from taskorch.runtime import _interrupts
from taskorch.runtime._asyncio import asyncio
from taskorch.runtime._interrupts import INTERRUPTS, StopSignal
from taskorch.runtime._lifecycle import Lifecycle

if TYPE_CHECKING:
    from taskorch.model import StopReport

_LOG: Final = logging.getLogger(__name__)
#: The part of the time of a stop that its drain has, on a loop.
_DRAIN_SHARE: Final = 0.75


def stop_on(
    lifecycle: Lifecycle, signals: tuple[Any, ...], timeout: float, *, drain: bool
) -> None:
    """
    See `TaskOrchestrator.stop_on`.

    Raises:
        UsageError: This is not the main thread.
        InvalidTaskError: One is no signal that can be handled.
        NotRunningError: The orchestrator has stopped.
    """
    if threading.current_thread() is not threading.main_thread():
        msg = "stop_on() is for the main thread: Python handles signals there only"
        raise UsageError(msg, hint="call it where the program begins, before threads")
    if lifecycle.is_over:
        msg = "the orchestrator has stopped: there is nothing to stop at a signal"
        raise NotRunningError(msg, hint="call stop_on() before or in the block")
    wanted = [_number(each) for each in signals]
    if not wanted:
        msg = "stop_on() was given no signal"
        raise InvalidTaskError(msg, hint="orch.stop_on(signal.SIGTERM)")
    lifecycle.signal_timeout, lifecycle.signal_drains = timeout, drain
    for number in wanted:
        try:
            _interrupts.stop_on(lifecycle, number)
        except (OSError, ValueError) as error:
            msg = f"nothing can be done at {number.name}: {error}"
            raise InvalidTaskError(msg, hint="orch.stop_on(signal.SIGTERM)") from error


def _number(given: Any) -> signal.Signals:
    try:
        # True is 1, and nobody means SIGHUP by it.
        return signal.Signals(-1 if given is True else given)
    except ValueError as error:
        msg = f"{show(given)} is no signal"
        raise InvalidTaskError(msg, hint="orch.stop_on(signal.SIGTERM)") from error


def end_block(
    lifecycle: Lifecycle, timeout: float | None, error: BaseException | None
) -> None:
    """
    Stop at the end of a `with` block: it drains, unless *error* has ended the block.

    One that a signal has brought about drains, too, as long as the signal allows; a
    second one, or Ctrl-C, cancels what runs. What is left then is said.
    """
    if lifecycle.stop_signal is not None:
        _end_at_signal(lifecycle)
        return
    try:
        report = lifecycle.stop(drain=error is None, timeout=timeout)
    except INTERRUPTS as interrupt:
        if lifecycle.stop_signal is None:
            # Ctrl-C, or a signal that is another's to stop at.
            report = lifecycle.stop(drain=False, timeout=timeout)
            lifecycle.say_left(report, _ended_by(interrupt))
        else:
            # It came while it drained: the block was left without it.
            _end_at_signal(lifecycle)
        raise
    lifecycle.say_left(report, _why_ended(report, error))


def _why_ended(report: StopReport, error: BaseException | None) -> str:
    if error is not None:
        return _ended_by(error)
    return "the block ended" if report.drained else "stop_timeout was over"


def _ended_by(error: BaseException) -> str:
    return f"the block ended by {type(error).__name__}"


def _end_at_signal(lifecycle: Lifecycle) -> None:
    _say_signal(lifecycle)
    try:
        report = lifecycle.stop(drain=True, timeout=lifecycle.signal_left())
    except INTERRUPTS:
        report = lifecycle.stop(drain=False, timeout=lifecycle.signal_left())
    _say_end(lifecycle, report)


async def end_block_of_coroutine(
    lifecycle: Lifecycle, stop: Any, error: BaseException | None
) -> None:
    """
    End an `async with` block, where a signal cancels the main task.

    The block has raised *error*, and *stop* is that of `orch.aio`.

    Raises:
        StopSignal: The block was cancelled by a signal.
        asyncio.CancelledError: It was cancelled meanwhile, by somebody else.
    """
    told = lifecycle.stop_signal
    if told is not None:
        _say_signal(lifecycle)
    stopping = asyncio.ensure_future(
        stop(
            drain=error is None or told is not None,
            timeout=None if told is None else lifecycle.signal_left(),
        )
    )
    cancelled = error if isinstance(error, asyncio.CancelledError) else None
    again: BaseException | None = None
    while not stopping.done():
        try:
            await asyncio.shield(stopping)
        except asyncio.CancelledError as cancellation:
            again = cancellation
            if told is None and lifecycle.stop_signal is not None and error is None:
                # It drains already, and has as long as the signal allows from now on.
                told = lifecycle.stop_signal
                _say_signal(lifecycle)
                left = _DRAIN_SHARE * lifecycle.signal_left()
                asyncio.get_running_loop().call_later(left, lifecycle.hurry)
            else:
                # Do not go on; and once more means: at once.
                lifecycle.hurry()
    report: StopReport = stopping.result()
    if told is not None:
        _say_end(lifecycle, report)
    else:
        lifecycle.say_left(report, _why_ended(report, error or again))
    if lifecycle.stop_signal is not None and (cancelled or again) is not None:
        raise lifecycle.stop_signal
    if again is not None:
        raise again


def _say_signal(lifecycle: Lifecycle) -> None:
    stop: StopSignal | None = lifecycle.stop_signal
    assert stop is not None  # noqa: S101 - that is why it ends
    if lifecycle.leaves_queue:
        # Before the message that says so: its readers rely on it.
        lifecycle.leave_queue()
    what = "what runs" if lifecycle.leaves_queue else "what can still proceed"
    _LOG.warning(
        "%s: %s has %.3g s%s; another signal cancels what runs",
        stop.name,
        what,
        lifecycle.signal_left(),
        ", and the queue is left" if lifecycle.leaves_queue else "",
    )


def _say_end(lifecycle: Lifecycle, report: StopReport) -> None:
    stop = lifecycle.stop_signal
    if stop is not None:
        seconds, left = monotonic() - stop.at, lifecycle.text_of_left(report)
        _LOG.warning("%s: stopped after %.3g s; %s", stop.name, seconds, left)
