"""
The timed work during a run: measurements, checks, and the end of late phases.

Decision: test-suites.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import attrs

from taskorch.core.workflows._phases import is_gate_id, phase_of
from taskorch.errors import UnknownTaskError
from taskorch.ext.recovery import Alerts, default_rules, metrics_of
from taskorch.ext.suites._folder import JsonLines, RunFolder, kept_in, write_json
from taskorch.ext.suites._model import RUN, Suite, SuitePhase, phases_of
from taskorch.kit.clock import MonotonicClock
from taskorch.kit.limits import NS
from taskorch.kit.plain import plain
from taskorch.kit.words import duration, stamp
from taskorch.model import TERMINAL, TaskState
from taskorch.model.ids import in_run, name_of, run_of, stem_of
from taskorch.protocols import Command, DriverView

if TYPE_CHECKING:
    from taskorch.api._orchestrator import TaskOrchestrator
    from taskorch.core.workflows import TaskReport
    from taskorch.events import Event, TaskEvent

#: Seconds between two notes of how much of its time a phase has spent.
_PACE: Final = 1.0


@attrs.frozen
class _Do:
    """Command: call something with the orchestrator."""

    what: Callable[[Any], object]

    def apply(self, orchestrator: Any, /) -> object:
        """Do it."""
        return self.what(orchestrator)


class Watching:
    """The driver that writes the files of the folder of the logs."""

    name: str = "suite"
    watches: Collection[type[Event]] = ()

    def __init__(self, suite: Suite, folder: RunFolder) -> None:
        watch = suite.monitoring

        def log(name: str) -> JsonLines:
            limits = watch.log_rotation_size, watch.log_retention_days
            return JsonLines(folder.logs / name, *limits)

        #: Of each file, the seconds between two lines, and what a line says.
        self._logs: tuple[tuple[JsonLines, float, Callable[[Any], Any]], ...] = (
            (log("metrics.jsonl"), watch.metrics_interval, metrics_of),
            (log("health.jsonl"), watch.health_check_interval, _health),
        )
        self._due = [0.0 for _ in self._logs]

    def tick(
        self, view: DriverView, now: float
    ) -> tuple[Iterable[Command], float | None]:
        """See `Driver.tick`."""
        del view
        commands: list[Command] = []
        for number, (lines, every, measure) in enumerate(self._logs):
            if self._due[number] <= now:
                commands.append(_Do(partial(_write, lines, measure, now)))
                self._due[number] = now + every
        return commands, min(self._due)


def _write(
    lines: JsonLines, measure: Callable[[Any], Any], now: float, orchestrator: Any
) -> None:
    """Write a line about this moment."""
    at = stamp(now, "microseconds")
    lines.write({"timestamp": at, **plain(measure(orchestrator))})


def _health(orchestrator: Any) -> Any:
    return orchestrator.health().to_dict()


def watch(orchestrator: TaskOrchestrator, suite: Suite, folder: RunFolder) -> None:
    """Have *orchestrator* measured, and its alerts watched, as *suite* says."""
    orchestrator.drivers.add(Watching(suite, folder))
    if suite.alerts is None:
        return
    # Tests that fail are results here: they hold up nothing, unless somebody says so.
    rules = {
        rule.name: attrs.evolve(rule, action=None)
        if rule.action == "pause_new_tasks"
        else rule
        for rule in default_rules()
    }
    for name, rule in suite.alerts.items():
        if rule is None:
            rules.pop(name, None)
        else:
            rules[name] = rule
    interval = suite.monitoring.metrics_interval
    alerts = Alerts(interval=interval, rules=rules.values(), machine=True)
    orchestrator.watch_alerts(alerts)


class PhaseClock:
    """
    The driver that cancels what has not ended of a phase, or a run, in its time.

    The time of a phase begins with the first attempt at one of its tasks. How much is
    spent is noted in the file *path* every second, so that a run that goes on in
    another process goes on with that; the time between two processes does not count.
    That of the run, *timeout* seconds, begins with this process. *late* is called with
    why, when that is over; *tell* with the name of a phase, or of the run, whose time
    is over, why, and the ids of the tasks that are cancelled.
    """

    name: str = "suite_phases"
    watches: Collection[type[Event]] = ()

    def __init__(
        self,
        orchestrator: TaskOrchestrator,
        suite: Suite,
        path: Path,
        timeout: float | None,
        late: Callable[[str], object],
        tell: Callable[[str, str, list[str]], object] | None = None,
    ) -> None:
        self._controllers = orchestrator.drivers
        self._path = path
        self._timeout = timeout
        #: When the time of the run is over; None: that is not known yet, or it is over.
        self._end_of_run: float | None = None
        self._late = late
        self._tell = tell
        self._names = phases_of(suite)
        self._timed = {
            in_run(RUN, name): phase
            for name, phase in self._names.items()
            if phase.timeout is not None
        }
        kept = kept_in(path)
        #: Seconds that phases had spent before they went on in this process.
        self._spent: dict[str, float] = kept.get("spent", {})
        #: The phases whose time was over before they had ended.
        self.over: list[str] = kept.get("over", [])
        #: The phases under way in this process, and when they began or went on.
        self._under_way: dict[str, tuple[SuitePhase, float]] = {}
        #: Guards these and the file.
        self._lock = threading.Lock()
        self._is_stopped = False
        signals = orchestrator.signals
        signals.task_started.connect(self._started)
        signals.task_completed.connect(self._ended)
        signals.task_failed.connect(self._ended)
        self._controllers.add(self)

    def stop(self) -> None:
        """Stop the clock: no phase times out any more."""
        # Nobody asks it any more once its orchestrator is about to stop.
        self._note(MonotonicClock().now_ns() / NS)
        with self._lock:
            self._is_stopped = True
        self._controllers.remove(self.name)

    def _started(self, event: TaskEvent) -> None:
        phase = self._timed.get(stem_of(event.task_id))
        if phase is None or phase.name in self._under_way:
            return
        with self._lock:
            self._under_way[phase.name] = phase, event.at
        self._controllers.wake(self.name)

    def _ended(self, event: TaskEvent) -> None:
        """A gate has looked: the phase is over, or will be run again as a whole."""
        name = name_of(event.task_id)
        if run_of(event.task_id) == RUN and is_gate_id(name):
            self._forget(phase_of(name))

    def _forget(self, name: str) -> None:
        with self._lock:
            self._under_way.pop(name, None)
            self._spent.pop(name, None)

    def tick(
        self, view: DriverView, now: float
    ) -> tuple[Iterable[Command], float | None]:
        """See `Driver.tick`."""
        del view
        if self._timeout is not None and self._end_of_run is None:
            self._end_of_run = now + self._timeout
        commands: list[Command] = []
        again: list[float] = []
        with self._lock:
            under_way = list(self._under_way.values())
            spent = self._spent_by(now)
        for phase, _ in under_way:
            seconds_left = (phase.timeout or 0.0) - spent[phase.name]
            if seconds_left > 0:
                again.append(now + min(_PACE, seconds_left))
            else:
                commands.append(_Do(partial(self._end_phase, phase)))
        if under_way:
            commands.append(_Do(lambda _: self._note(now)))
        if self._end_of_run is not None:
            if self._end_of_run <= now:
                commands.append(_Do(self._end_run))
            again.append(self._end_of_run if self._end_of_run > now else now + _PACE)
        return commands, min(again, default=None)

    def _spent_by(self, now: float) -> dict[str, float]:
        """Under the lock: seconds that phases have spent, in earlier processes too."""
        spent = dict(self._spent)
        for name, (_, since) in self._under_way.items():
            spent[name] = spent.get(name, 0.0) + now - since
        return spent

    def _note(self, now: float) -> None:
        # A full disk makes a phase longer, if the process is killed, too.
        with self._lock, suppress(OSError):
            if not self._is_stopped and (self._under_way or self.over):
                kept = {"spent": self._spent_by(now), "over": self.over}
                write_json(self._path, kept)

    def _end_phase(self, phase: SuitePhase, orchestrator: TaskOrchestrator) -> None:
        self._forget(phase.name)
        limit = duration(phase.timeout or 0.0)
        reason = f"phase {phase.name} took longer than its timeout of {limit}"
        # One that was run again has an id of its own.
        report = orchestrator.workflows.get(RUN).report()
        of_phase = [
            task for task in report.tasks if self._names.get(task.name) is phase
        ]
        # Running tasks come last: others would begin in their places.
        in_turn = sorted(of_phase, key=lambda task: task.state is TaskState.RUNNING)
        ended = {
            task.task_id
            for task in in_turn
            if orchestrator.cancel_task(task.task_id, reason=reason)
        }
        cancelled = [task for task in of_phase if task.task_id in ended]
        if cancelled:
            self.over.append(phase.name)
            self._say(phase.name, reason, cancelled)

    def _end_run(self, orchestrator: TaskOrchestrator) -> None:
        reason = f"the run took longer than its timeout_seconds, {self._timeout:g}"
        try:
            run = orchestrator.workflows.get(RUN)
        except UnknownTaskError:
            # It has not begun yet: the next look ends it.
            return
        self._timeout = self._end_of_run = None
        tasks = [task for task in run.report().tasks if task.state not in TERMINAL]
        if orchestrator.workflows.cancel(RUN, reason=reason):
            self._late(reason)
            self._say(RUN, reason, tasks)

    def _say(self, name: str, why: str, tasks: Iterable[TaskReport]) -> None:
        if self._tell is not None:
            ids = [task.task_id for task in tasks if task.name in self._names]
            self._tell(name, why, ids)
