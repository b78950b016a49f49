"""What is measured and looked at while a suite runs, as often as it says."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final

import attrs

from taskorch.frontends.suite._folder import RunFolder
from taskorch.frontends.suite._json_lines import JsonLines
from taskorch.frontends.suite._model import Suite
from taskorch.model._plain import plain, stamp
from taskorch.protocols import Command, DriverView
from taskorch.recovery import Alerts, default_rules, metrics_of

if TYPE_CHECKING:
    from taskorch._orchestrator import TaskOrchestrator
    from taskorch.events import Event

#: Both are looked at more often only if somebody says so.
_FILES: Final = {"metrics": "metrics.jsonl", "health": "health.jsonl"}


@attrs.frozen
class _Write:
    """Write down the metrics, or the health, of this moment."""

    what: str
    lines: JsonLines
    now: float

    def apply(self, orchestrator: Any, /) -> object:
        """Do it."""
        if self.what == "metrics":
            document: Mapping[str, Any] = metrics_of(orchestrator)
        else:
            document = orchestrator.health().to_dict()
        at = stamp(self.now, "microseconds")
        self.lines.write({"timestamp": at, **plain(document)})
        return None


class Watching:
    """The driver that writes the files of the folder of the logs."""

    name: str = "suite"
    watches: Collection[type[Event]] = ()

    def __init__(self, suite: Suite, folder: RunFolder) -> None:
        watch = suite.monitoring
        limits = watch.log_rotation_size, watch.log_retention_days
        self._every = {
            "metrics": watch.metrics_interval,
            "health": watch.health_check_interval,
        }
        self._lines = {
            subject: JsonLines(folder.logs / name, *limits)
            for subject, name in _FILES.items()
        }
        self._due = dict.fromkeys(_FILES, 0.0)

    def tick(
        self, view: DriverView, now: float
    ) -> tuple[Iterable[Command], float | None]:
        """See `Driver.tick`."""
        del view
        commands: list[Command] = []
        for subject, due in self._due.items():
            if due <= now:
                commands.append(_Write(subject, self._lines[subject], now))
                self._due[subject] = now + self._every[subject]
        return commands, min(self._due.values())


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
