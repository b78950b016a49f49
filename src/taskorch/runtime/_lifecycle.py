"""Starting and stopping."""

from __future__ import annotations

import atexit
import os
import threading
import warnings
import weakref
from contextlib import suppress
from time import monotonic
from typing import TYPE_CHECKING, Final

from taskorch.errors import InvalidTransitionError
from taskorch.events import OrchestratorStarted, OrchestratorStopped
from taskorch.kernel import Bucket, PolicyFault, StopAttempt, TaskRow
from taskorch.kernel import explain as explain_row
from taskorch.kernel._attempts import is_under_way
from taskorch.model import TERMINAL, StopReport, TaskState, Unfinished
from taskorch.runtime import _interrupts

if TYPE_CHECKING:
    from taskorch.runtime._runtime import Runtime

__all__ = ("Lifecycle",)

#: Runtimes that were started and not stopped, for the interpreter's exit.
_OPEN: Final[weakref.WeakSet[Runtime]] = weakref.WeakSet()
#: Seconds that the end allows beyond the grace of the attempts.
_MARGIN: Final = 2.0


def _after_fork() -> None:
    """In the child: what was begun is the parent's."""
    for runtime in list(_OPEN):
        # Some thread of the parent's may have held it, and is not here.
        runtime.lock = threading.Lock()
        runtime.deciders.asking = runtime.deciders.forked = -1
        _OPEN.discard(runtime)
    _interrupts.forget()


os.register_at_fork(after_in_child=_after_fork)


@atexit.register
def _at_exit() -> None:
    for runtime in list(_OPEN):
        runtime.attempts.close(0)
        # Not a ResourceWarning, which nobody sees unless he asks for it.
        warnings.warn(
            "a TaskOrchestrator was started and never stopped: use it in a with block",
            RuntimeWarning,
            stacklevel=1,
        )


class Lifecycle:
    """
    One start, one stop.

    What has not ended by then is cancelled; a durable orchestrator leaves it to its
    next life.
    """

    def __init__(self, runtime: Runtime) -> None:
        self._rt = runtime
        self._starting = threading.Lock()
        self._lock = threading.Lock()
        self._report: StopReport | None = None

    @_interrupts.defers_interrupts
    def start(self) -> None:
        """Begin work; what was submitted before starts now."""
        rt = self._rt
        with self._starting:
            if rt.started or rt.closed:
                return
            _OPEN.add(rt)
            _interrupts.guard(rt)
            if rt.committer is None:
                rt.note(OrchestratorStarted)
            elif not rt.opened:
                try:
                    rt.open()
                except BaseException:
                    _OPEN.discard(rt)
                    _interrupts.unguard(rt)
                    raise
            rt.begin_work()

    def stop(self, *, drain: bool, timeout: float | None) -> StopReport:
        """
        End everything; the second call returns the first one's report.

        Args:
            drain: Whether to wait until nothing can proceed.
            timeout: Seconds to wait for that; None is for ever.

        Raises:
            WouldBlockError: The caller is on the loop that must do the work.
            WouldDeadlockError: The caller is a task, which would wait for itself.
        """
        if self._report is not None:
            return self._report
        self._rt.waiting.refuse_within("stop()")
        # Of two receivers that call this, neither waits for the other.
        with self._rt.publisher.excused(), self._lock:
            if self._report is None:
                self._report = self._stop(drain=drain, timeout=timeout)
            return self._report

    def hurry(self) -> None:
        """End the drain that is under way."""
        self._rt.waiting.hurry()

    def _stop(self, *, drain: bool, timeout: float | None) -> StopReport:
        rt = self._rt
        drained = self._drain(timeout) if drain and rt.started else False
        if not rt.opened:
            rt.closed = True
            return StopReport(0, 0, 0, (), (), drained)

        def close(now: int) -> list[Unfinished]:
            rt.closed = True
            rt.kernel.paused = True
            if rt.committer is not None:
                rt.committer.call_off(now)
            known: dict[Bucket, str] = {}
            left = [
                Unfinished(row.id, row.state, self._why(row, now, known))
                for row in rt.kernel.tasks.values()
                if row.state not in TERMINAL
            ]
            for row in list(rt.kernel.tasks.values()):
                if row.state not in TERMINAL:
                    if rt.committer is None:
                        _cancel(rt, row, now)
                    elif is_under_way(row):
                        # Its attempt ends as one that was interrupted.
                        effect = StopAttempt(row, row.attempt, "stop")
                        rt.kernel.effects.append(effect)
            return left

        left: list[Unfinished] = rt.step(close)
        grace = rt.kernel.config.grace_ns / 1e9
        self._await_end(grace + _MARGIN)
        rt.halt()
        leaked = tuple(f"{i} (attempt {n})" for i, n in rt.kernel.leaked)
        kernel = rt.kernel
        rt.note(OrchestratorStopped)
        if rt.committer is not None:
            rt.committer.flush()
        report = StopReport(
            kernel.completed,
            kernel.failed,
            kernel.cancelled,
            tuple(left),
            leaked,
            drained,
        )
        self._close()
        return report

    def _drain(self, timeout: float | None) -> bool:
        """Wait until nothing can proceed; whether that came in time."""
        rt, committer = self._rt, self._rt.committer
        end = None if timeout is None else monotonic() + timeout
        while True:
            left = None if end is None else max(0.0, end - monotonic())
            if not rt.waiting.until_quiet(left):
                return False
            if committer is None:
                return True
            with rt.lock:
                if not committer.trouble and rt.is_quiet():
                    return True
            # The journal may have been in trouble for a moment only.
            if not committer.recovers(left):
                return False

    def _why(self, row: TaskRow, now: int, known: dict[Bucket, str]) -> str:
        if row.state is not TaskState.QUEUED:
            return self._ask_why(row, now)
        # Queued tasks with like requirements all wait for the same.
        if row.bucket not in known:
            known[row.bucket] = self._ask_why(row, now)
        return known[row.bucket]

    def _ask_why(self, row: TaskRow, now: int) -> str:
        kernel = self._rt.kernel
        kernel.paused = False
        try:
            blockers = explain_row(kernel, row, now).blockers
        except PolicyFault as fault:
            return f"Nobody knows: {fault.component} failed."
        finally:
            kernel.paused = True
        if row.state is TaskState.RUNNING and not blockers:
            return "It was still running."
        return (
            " ".join(blocker.detail for blocker in blockers) or "Its turn had not come."
        )

    def _await_end(self, timeout: float) -> None:
        """Wait until every attempt has ended or been given up."""
        rt = self._rt
        end = monotonic() + timeout
        while True:
            gate = threading.Lock()
            gate.acquire()
            with rt.lock:
                if not rt.kernel.active and not _has_held(rt):
                    return
                rt.waiting.quiet.append(gate.release)
            if not gate.acquire(timeout=max(0.0, end - monotonic())):
                rt.waiting.forget_quiet(gate.release)
                return

    def _close(self) -> None:
        rt = self._rt
        rt.attempts.close(0)
        with rt.lock:
            # After a fault, a step may have been left with a thread in its hand.
            rt.threads.send_home(astray=rt.fault is not None)
            publisher = rt.publisher.close()
        # The timer still looks after the receivers.
        served = rt.publisher.flush(_MARGIN)
        if served and publisher not in (None, threading.current_thread()):
            with suppress(RuntimeError):  # an interrupt came before it began
                publisher.join(_MARGIN)
        rt.timer.close()
        if rt.committer is not None:
            rt.committer.close(_MARGIN)
        rt.threads.join(_MARGIN)
        rt.loops.close(_MARGIN)
        _OPEN.discard(rt)
        _interrupts.unguard(rt)


def _has_held(rt: Runtime) -> bool:
    """Whether programs are stopped where they stand, and are to end."""
    return rt.committer is not None and any(
        is_under_way(row) for row in rt.kernel.tasks.values()
    )


def _cancel(rt: Runtime, row: TaskRow, now: int) -> None:
    try:
        rt.kernel.cancel(row, now, "the orchestrator stopped")
    except (InvalidTransitionError, PolicyFault):
        # Not even a veto keeps work alive in an orchestrator that is gone.
        watches, rt.kernel.deciders.watches = rt.kernel.deciders.watches, frozenset()
        try:
            rt.kernel.cancel(row, now, "the orchestrator stopped")
        finally:
            rt.kernel.deciders.watches = watches
