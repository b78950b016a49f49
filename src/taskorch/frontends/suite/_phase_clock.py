"""
The time that a phase may take.

Decision: 0063.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from time import monotonic
from typing import Final

from taskorch._orchestrator import TaskOrchestrator
from taskorch.errors import NotRunningError, UnknownTaskError
from taskorch.events import TaskEvent
from taskorch.frontends.suite._folder import kept_in, write_json
from taskorch.frontends.suite._model import Suite, SuitePhase, SuiteTask
from taskorch.model import TERMINAL, TaskState
from taskorch.model._ids import in_run, name_of, run_of, stem_of
from taskorch.workflows import TaskReport
from taskorch.workflows._phases import is_gate_id, phase_of
from taskorch.workflows._words import duration

#: Seconds between two notes of how much of its time a phase has spent.
_PACE: Final = 1.0


class PhaseClock:
    """
    Cancels what has not ended of a phase when its time is over.

    The time of a phase begins with the first attempt at one of its tasks. How much is
    spent is noted in the file *path* every second, so that a run that goes on in
    another process goes on with that; the time between two processes does not count.
    *tell* is called with the name of a phase, or of the run, whose time is over, why,
    and the ids of the tasks that are cancelled.
    """

    def __init__(
        self,
        orchestrator: TaskOrchestrator,
        suite: Suite,
        run_id: str,
        path: Path,
        tell: Callable[[str, str, list[str]], object] | None = None,
    ) -> None:
        self._orchestrator = orchestrator
        self._path = path
        self._tell = tell
        self._timer: threading.Timer | None = None
        self._run_id = run_id
        self._phases = {
            in_run(run_id, part.id): phase
            for phase in suite.phases
            if phase.timeout is not None
            for part in _run_of(phase)
        }
        self._names = {part.id for phase in suite.phases for part in _run_of(phase)}
        kept = kept_in(path)
        #: Seconds that phases had spent before they went on in this process.
        self._spent: dict[str, float] = kept.get("spent", {})
        #: The phases whose time was over before they had ended.
        self.over: list[str] = kept.get("over", [])
        #: The phases under way in this process, and when they began or went on.
        self._under_way: dict[str, tuple[SuitePhase, float]] = {}
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        signals = orchestrator.signals
        signals.task_started.connect(self._started)
        signals.task_completed.connect(self._ended)
        signals.task_failed.connect(self._ended)

    def stop(self) -> None:
        """Stop the clock: no phase times out any more."""
        self._stopped.set()
        if self._timer is not None:
            self._timer.cancel()
        thread = self._thread
        if thread is not None:
            thread.join()

    def limit(self, seconds: float | None, late: Callable[[str], object]) -> None:
        """Cancel what is left of the run in so many seconds, and tell *late* why."""
        if seconds is None:
            return

        def end() -> None:
            why = f"the run took longer than its timeout_seconds, {seconds:g}"
            # It may have ended by itself in this very moment, and all else with it.
            with suppress(NotRunningError, UnknownTaskError):
                run = self._orchestrator.workflows.get(self._run_id)
                open_ones = [t for t in run.report().tasks if t.state not in TERMINAL]
                if self._orchestrator.workflows.cancel(self._run_id, reason=why):
                    late(why)
                    self._say(self._run_id, why, open_ones)

        self._timer = threading.Timer(seconds, end)
        self._timer.daemon = True
        self._timer.start()

    def _say(self, name: str, why: str, tasks: Iterable[TaskReport]) -> None:
        names = [task.task_id for task in tasks if task.name in self._names]
        if self._tell is not None:
            self._tell(name, why, names)

    def _started(self, event: TaskEvent) -> None:
        phase = self._phases.get(stem_of(event.task_id))
        if phase is None:
            return
        with self._lock:
            self._under_way.setdefault(phase.name, (phase, monotonic()))
            if self._thread is None:
                # It is nothing to wait for at the end of the process. If there is no
                # thread for it, the next task of the phase tries again.
                thread = threading.Thread(target=self._watch, daemon=True)
                thread.start()
                self._thread = thread

    def _ended(self, event: TaskEvent) -> None:
        """A gate has looked: the phase is over, or will be run again as a whole."""
        name = name_of(event.task_id)
        if run_of(event.task_id) == self._run_id and is_gate_id(name):
            self._forget(phase_of(name))

    def _forget(self, name: str) -> None:
        with self._lock:
            self._under_way.pop(name, None)
            self._spent.pop(name, None)

    def _watch(self) -> None:
        pause = 0.0
        while not self._stopped.wait(pause):
            pause = _PACE
            spent = self._all_spent()
            with self._lock:
                under_way = [phase for phase, _ in self._under_way.values()]
            for phase in under_way:
                seconds_left = (phase.timeout or 0.0) - spent.get(phase.name, 0.0)
                if seconds_left > 0:
                    pause = min(pause, seconds_left)
                else:
                    del spent[phase.name]
                    self._end(phase)
            with suppress(OSError):
                # A full disk makes a phase longer, if the process is killed, too.
                write_json(self._path, {"spent": spent, "over": self.over})

    def _all_spent(self) -> dict[str, float]:
        """Seconds that each phase has spent, in earlier processes too."""
        now = monotonic()
        with self._lock:
            spent = dict(self._spent)
            for name, (_, since) in self._under_way.items():
                spent[name] = spent.get(name, 0.0) + now - since
        return spent

    def _end(self, phase: SuitePhase) -> None:
        self._forget(phase.name)
        limit = duration(phase.timeout or 0.0)
        reason = f"phase {phase.name} took longer than its timeout of {limit}"
        names = {part.id for part in _run_of(phase)}
        # The run may have ended in this very moment, and its orchestrator too.
        with suppress(NotRunningError):
            # One that was run again has an id of its own.
            report = self._orchestrator.workflows.get(self._run_id).report()
            of_phase = [task for task in report.tasks if task.name in names]
            # Those that run come last: others would begin in the places of theirs.
            in_turn = sorted(of_phase, key=lambda task: task.state is TaskState.RUNNING)
            ended = {
                task.task_id
                for task in in_turn
                if self._orchestrator.cancel_task(task.task_id, reason=reason)
            }
            cancelled = [task for task in of_phase if task.task_id in ended]
            if cancelled:
                self.over.append(phase.name)
                self._say(phase.name, reason, cancelled)


def _run_of(phase: SuitePhase) -> Iterator[SuiteTask]:
    """What is run of a phase."""
    for task in phase.tasks:
        yield from task.run
