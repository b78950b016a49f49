"""The time that a phase may take."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Protocol

from taskorch._orchestrator import TaskOrchestrator
from taskorch.events import TaskEvent
from taskorch.frontends.suite._model import Suite, SuitePhase


class Timer(Protocol):
    """Protocol: what calls something later, as `threading.Timer` does."""

    def start(self) -> None:
        """Let the time begin."""
        ...

    def cancel(self) -> None:
        """Do not call it any more."""
        ...


class PhaseClock:
    """
    Cancels what has not ended of a phase when its time is over.

    The time of a phase begins with the first attempt at one of its tasks, and anew
    when an interrupted run goes on.
    """

    def __init__(
        self,
        orchestrator: TaskOrchestrator,
        suite: Suite,
        run_id: str,
        timer: Callable[[float, Callable[[], Any]], Timer] = threading.Timer,
    ) -> None:
        self._orchestrator = orchestrator
        self._prefix = f"{run_id}/"
        self._make = timer
        self._phases = {
            f"{run_id}/{part.id}": phase
            for phase in suite.phases
            if phase.timeout is not None
            for task in phase.tasks
            for part in task.run
        }
        self._timers: dict[str, Timer] = {}
        self._lock = threading.Lock()
        #: The phases whose time was over before they had ended.
        self.over: list[str] = []
        signals = orchestrator.signals
        signals.task_started.connect(self._started)
        signals.task_completed.connect(self._ended)
        signals.task_failed.connect(self._ended)

    def stop(self) -> None:
        """Let no time be over any more."""
        with self._lock:
            timers, self._phases = list(self._timers.values()), {}
        for timer in timers:
            timer.cancel()

    def _started(self, event: TaskEvent) -> None:
        with self._lock:
            phase = self._phases.get(event.task_id.partition("~")[0])
            if phase is None or phase.name in self._timers:
                return
            timer = self._make(phase.timeout or 0.0, lambda: self._end(phase))
            if isinstance(timer, threading.Timer):
                # It is nothing to wait for at the end of the process.
                timer.daemon = True
            # If there is no thread for it, the next task of the phase tries again.
            timer.start()
            self._timers[phase.name] = timer

    def _ended(self, event: TaskEvent) -> None:
        """A gate has looked: the phase is over, or will be run again as a whole."""
        name, _, gate = event.task_id.removeprefix(self._prefix).rpartition("/")
        if gate.partition("~")[0] != "gate":
            return
        with self._lock:
            timer = self._timers.pop(name, None)
        if timer is not None:
            timer.cancel()

    def _end(self, phase: SuitePhase) -> None:
        with self._lock:
            if phase.name not in self._timers:
                return
            del self._timers[phase.name]
            self.over.append(phase.name)
        for task in phase.tasks:
            for part in task.run:
                self._orchestrator.cancel_task(f"{self._prefix}{part.id}")
