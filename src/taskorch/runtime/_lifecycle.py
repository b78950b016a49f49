"""Starting and stopping."""

from __future__ import annotations

import atexit
import threading
import warnings
import weakref
from contextlib import suppress
from time import monotonic
from typing import TYPE_CHECKING, Final

from taskorch.errors import InvalidTransitionError
from taskorch.events import OrchestratorStarted, OrchestratorStopped
from taskorch.kernel import Bucket, PolicyFault, TaskRow
from taskorch.kernel import explain as explain_row
from taskorch.model import TERMINAL, StopReport, TaskState, Unfinished

if TYPE_CHECKING:
    from taskorch.runtime._runtime import Runtime

__all__ = ("Lifecycle",)

#: Runtimes that were started and not stopped, for the interpreter's exit.
_OPEN: Final[weakref.WeakSet[Runtime]] = weakref.WeakSet()
#: Seconds that the end allows beyond the grace of the attempts.
_MARGIN: Final = 2.0


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
    """One start, one stop."""

    def __init__(self, runtime: Runtime) -> None:
        self._rt = runtime
        self._starting = threading.Lock()
        self._lock = threading.Lock()
        self._report: StopReport | None = None

    def start(self) -> None:
        """Begin work; what was submitted before starts now."""
        rt = self._rt
        with self._starting:
            if rt.started or rt.closed:
                return
            _OPEN.add(rt)
            rt.note(OrchestratorStarted)
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
        drained = rt.waiting.until_quiet(timeout) if drain and rt.started else False

        def close(now: int) -> list[Unfinished]:
            rt.closed = True
            rt.kernel.paused = True
            known: dict[Bucket, str] = {}
            left = [
                Unfinished(row.id, row.state, self._why(row, now, known))
                for row in rt.kernel.tasks.values()
                if row.state not in TERMINAL
            ]
            for row in list(rt.kernel.tasks.values()):
                if row.state not in TERMINAL:
                    _cancel(rt, row, now)
            return left

        left: list[Unfinished] = rt.step(close)
        grace = rt.kernel.config.grace_ns / 1e9
        self._await_end(grace + _MARGIN)
        leaked = tuple(f"{i} (attempt {n})" for i, n in rt.kernel.leaked)
        kernel = rt.kernel
        rt.note(OrchestratorStopped)
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
                if not rt.kernel.active:
                    return
                rt.waiting.quiet.append(gate.release)
            if not gate.acquire(timeout=max(0.0, end - monotonic())):
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
        rt.threads.join(_MARGIN)
        rt.loops.close(_MARGIN)
        _OPEN.discard(rt)


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
