"""
Alerts: rules over metrics, with actions that are undone at the end of the alert.

Decision: alerts-and-messages.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from itertools import starmap
from math import inf, sqrt
from time import thread_time
from typing import Any, Final, Literal, TypeAlias, get_args

import attrs

from taskorch.errors import InvalidTaskError
from taskorch.events import AlertCleared, AlertRaised, Event
from taskorch.ext.recovery._aside import Aside
from taskorch.ext.recovery._metrics import (
    Condition,
    Measured,
    Pace,
    check_apart,
    from_stats,
    of_machine,
    paces,
    used_mb,
)
from taskorch.ext.recovery._own_type import OwnType, UnderWay
from taskorch.kit.checks import check_count, check_seconds, check_word
from taskorch.kit.fence import log_of
from taskorch.kit.forms import Number, Text, may_be, one_of
from taskorch.kit.frozen import frozen
from taskorch.kit.limits import MAX_SECONDS
from taskorch.kit.visible import as_text, is_text, show
from taskorch.kit.vocabulary import suggesting
from taskorch.model import SEVERITIES, TERMINAL, HealthCheck, Stats, TypeStats
from taskorch.protocols import Command, DriverView, RemoveAgent

_LOG: Final = log_of("taskorch.alerts")

Severity: TypeAlias = Literal["info", "warning", "critical"]
#: `ok`; `pending`: its condition holds, and not for long enough yet; `firing`; or
#: `no data`: nobody has measured what it asks for.
State: TypeAlias = Literal["ok", "pending", "firing", "no data"]
#: Called with the orchestrator and the alert; what it returns is called, likewise, to
#: undo it.
Act: TypeAlias = Callable[[Any, "Alert"], Any]

ACTIONS: Final = (
    "pause_new_tasks",
    "reduce_parallel_tasks",
    "reassign_tasks",
    "investigate_bottlenecks",
)
_PER: Final = ("system", "agent", "type", "task")
#: Additions to the health message, for the actions that hold starts.
_EFFECTS: Final = {
    "pause_new_tasks": "; no new task starts",
    "reduce_parallel_tasks": "; fewer tasks run at once",
}
#: Names for conditions, by `AlertRule.per`: the `METRICS` that are one number, and
#: these.
NAMES: Final[Mapping[str, tuple[str, ...]]] = {
    "system": (
        "failure_rate",
        "sure_failure_rate",
        "memory_usage",
        "cpu_usage",
        "avg_execution_time",
        "baseline_execution_time",
        "queue_age",
        "running",
        "active_agents_count",
        "total_memory_usage",
        "total_cpu_utilization",
        "task_queue_length",
        "completed_tasks_count",
        "failed_tasks_count",
        "policy_violations",
        *(f"{severity}_policy_violations" for severity in SEVERITIES),
        "machine_memory_usage",
        "machine_cpu_load",
    ),
    "agent": (
        "last_heartbeat",
        "error_rate",
        "running",
        "failed",
        "completed",
    ),
    "type": (
        "failure_rate",
        "sure_failure_rate",
        "avg_execution_time",
        "baseline_execution_time",
        "failed",
        "completed",
    ),
    "task": ("deadline_risk",),
}
#: Failures that say nothing about a type: of criteria, of other tasks, of the queue.
_OF_OTHERS: Final = (
    "CriteriaNotMetError",
    "DependencyFailedError",
    "GateFailedError",
    "TaskExpiredError",
    "TooManyFailuresError",
)
#: The most types that a report names.
_NAMED: Final = 5
#: Seconds without data after which a rule that holds all starts lets one task at a time
#: start. Otherwise there would be no data, and the alert would never end.
_PROBE: Final = 60.0
#: Seconds of processor time that one reading of ended tasks may take. The next one
#: waits so many times as long as it took.
_BUDGET: Final = 1.0
_PAUSE: Final = 20.0
#: Standard errors by which a share of failures may differ by chance.
_SURE: Final = 2.0
#: The most characters of a name.
_LONGEST: Final = 100
#: States of tasks that no longer have an end to come; None: the task is unknown.
_OVER: Final = (*TERMINAL, None)
#: Seconds until the same fault of a rule is logged again.
_AGAIN: Final = 60.0


@suggesting
@attrs.frozen
class AlertRule:
    """
    Rule for an alert: its condition, its end, and an action meanwhile.

    `failure_rate` is the share of failed attempts in `over` seconds.
    `sure_failure_rate` is the same less what chance explains (the lower end of Wilson's
    interval): five failures of ten are above 0.2, three are not. The latest minute
    alone counts too, with twenty attempts; so do the latest ten, if surely more of them
    fail than is usual for their types. Of a type or a worker, it is 0 until that surely
    fails more often than before: three tasks in a row of a type that has never failed.
    If the other types fail too, it stays 0. A type needs ten earlier tasks, and a task
    counts once all its retries have failed; `over` and `least` do not count there.

    `avg_execution_time` is the geometric mean of the latest attempts of the type that
    slowed most, and `baseline_execution_time` that of 1,024 earlier ones, with a margin
    for chance. Times below 20 ms do not count. If many types slow at once, both are
    those of all types: an attempt is slow once it has taken twice the median of its
    type, also while it still runs, and some eight in a row are enough.

    `memory_usage`, also called `total_memory_usage`, is what tasks use of the pool
    `memory_mb`, or else of the machine; in a simulation, what they reserve.
    `last_heartbeat` is the seconds since the last sign of life of a worker that has not
    left in order. `policy_violations` are the violations in `over` seconds;
    `low_policy_violations`, `medium_…`, `high_…` and `critical_…` are those of one
    severity. `deadline_risk`, from 0 to 1, is how likely a task ends after its
    deadline.

    An action has a thread of its own, and a condition that is a function has one
    second. Health names a rule that takes five or raises. A condition without a
    comparison, an unknown name, and an `until` that holds while `when` does are
    refused.

    Attributes:
        name: Its name.
        when: A condition on metrics (`failure_rate > 0.2`), or a function of them.
        until: The condition of its end; None: when `when` no longer holds.
        over: Seconds of a rate of the system.
        least: The fewest ended attempts for a rate of the system.
        wait: Seconds that `when` must hold first.
        hold: Seconds that `until` must hold.
        severity: `info`, `warning` or `critical`.
        action: `pause_new_tasks`, `reduce_parallel_tasks`, `reassign_tasks`,
            `investigate_bottlenecks`, or a function of the orchestrator and the alert,
            which returns another to undo it; None: only a message.
        per: `system`; `agent`, `type` or `task`: an alert for each worker, type of
            task, or task that has a deadline.

    Raises:
        InvalidTaskError: A value is out of its range, or a condition cannot be read.
    """

    name: str
    when: Condition = attrs.field(metadata=may_be(Text(), "condition"))
    until: Condition | None = attrs.field(default=None, metadata=may_be(Text()))
    over: float = attrs.field(
        default=300.0, metadata=may_be(Number(most=MAX_SECONDS, is_above=True))
    )
    least: int = attrs.field(
        default=10, metadata=may_be(Number(least=1, is_whole=True))
    )
    wait: float = attrs.field(
        default=0.0, metadata=may_be(Number(most=MAX_SECONDS), "for")
    )
    hold: float = attrs.field(default=60.0, metadata=may_be(Number(most=MAX_SECONDS)))
    severity: Severity = attrs.field(
        default="warning", metadata=may_be(one_of(*get_args(Severity)))
    )
    action: str | Act | None = attrs.field(
        default=None, metadata=may_be(one_of(*ACTIONS))
    )
    per: Literal["system", "agent", "type", "task"] = attrs.field(
        default="system", metadata=may_be(one_of(*_PER))
    )

    @classmethod
    def of(
        cls,
        name: str,
        when: str | Callable[[Any], object],
        until: str | Callable[[Any], object] | None = None,
        **fields: Any,
    ) -> AlertRule:
        """Make a rule with conditions as text or as functions."""
        rule = cls(name, Condition("", None, bool), **fields)
        names = NAMES[rule.per]
        begin = Condition.of(when, names, "when")
        end = None if until is None else Condition.of(until, names, "until")
        if end is not None:
            check_apart(begin, end)
        return attrs.evolve(rule, when=begin, until=end)

    def __attrs_post_init__(self) -> None:
        name: object = self.name
        if not is_text(name) or not 0 < len(name) <= _LONGEST:
            msg = f"the name of an alert has 1 to {_LONGEST} characters"
            raise InvalidTaskError(msg, hint=f"not {show(name)}")
        if not name.isprintable():
            msg = f"the name of an alert can be printed, not {show(name)}"
            raise InvalidTaskError(msg, hint="high_failure_rate")
        check_word("severity", self.severity, get_args(Severity))
        check_word("per", self.per, _PER)
        if not callable(self.action) and self.action is not None:
            check_word("action", self.action, ACTIONS)
        if self.action == "reassign_tasks" and self.per != "agent":
            msg = f"alert {self.name!r}: reassign_tasks is done to a worker"
            raise InvalidTaskError(msg, hint="per='agent'")
        check_seconds("over", self.over, zero=False)
        check_count("least", self.least, least=1)
        for field in ("wait", "hold"):
            check_seconds(field, getattr(self, field))


def default_rules() -> tuple[AlertRule, ...]:
    """Return the five rules that are watched by default."""
    return (
        AlertRule.of(
            "high_failure_rate",
            "sure_failure_rate > 0.2",
            "failure_rate < 0.1",
            severity="critical",
            action="pause_new_tasks",
        ),
        AlertRule.of(
            "memory_exhaustion",
            "memory_usage > 0.9",
            "memory_usage < 0.8",
            action="reduce_parallel_tasks",
        ),
        AlertRule.of(
            "agent_unresponsive",
            "last_heartbeat > 120",
            severity="critical",
            action="reassign_tasks",
            per="agent",
            hold=0.0,
        ),
        AlertRule.of(
            "performance_degradation",
            "avg_execution_time > baseline_execution_time * 2",
            "avg_execution_time < baseline_execution_time * 1.5",
            action="investigate_bottlenecks",
        ),
        AlertRule.of(
            "failing_type",
            "sure_failure_rate > 0.2",
            "failure_rate < 0.1",
            per="type",
        ),
    )


@frozen
class Alert:
    """
    State of a rule for the system, a worker, a type of task, or a task.

    Attributes:
        name: The name of the rule.
        subject: The worker, the type of task, or the task; "" for the system.
        state: `ok`, `pending`, `firing` or `no data`.
        since: Start of this state, in seconds since the epoch.
        severity: That of the rule.
        action: Name of the action while it fires.
        message: The measurements at the start of this state.
        has_data: Whether there is data now; an alert that fires goes on without.
        report: The bottlenecks, if the action asks for them.
    """

    name: str
    subject: str
    state: State
    since: float
    severity: Severity
    action: str
    message: str = ""
    has_data: bool = True
    report: str = ""


def _surely(good: int, bad: int) -> float:
    """
    Return a lower confidence bound for the true share of failures.

    Source: E. B. Wilson, *Probable Inference, the Law of Succession, and Statistical
    Inference*, Journal of the American Statistical Association 22(158), 1927.
    """
    count = good + bad
    if not count:
        return 0.0
    share, squared = bad / count, _SURE * _SURE
    middle = share + squared / (2 * count)
    half = _SURE * sqrt(share * (1 - share) / count + squared / (4 * count * count))
    return max(0.0, (middle - half) / (1 + squared / count))


@attrs.define(eq=False)
class _WatchedSubject:
    """State of a rule for one subject."""

    state: State = "ok"
    since: float = 0.0
    message: str = ""
    has_data: bool = True
    report: str = ""
    #: Start of the time in which `until` holds, while it fires, and of that without
    #: data.
    over_since: float | None = None
    blind_since: float | None = None
    probing: bool = False
    #: The function that its action returned, to undo the action.
    undo: Act | None = None

    @property
    def is_idle(self) -> bool:
        """True if this state need not be kept: no alert, and no action to undo."""
        return self.state in ("ok", "no data") and self.undo is None


def _unwatched(*, has_data: bool) -> _WatchedSubject:
    """Return the state of a rule that has found nothing yet."""
    return _WatchedSubject("ok" if has_data else "no data", has_data=has_data)


# -- commands ----------------------------------------------------------------------


@frozen
class _Hold:
    """Hold starts back while *most* run."""

    who: str
    most: int
    reason: str

    def apply(self, orchestrator: Any, /) -> object:
        """Hold them back."""
        hold = {"by": self.who, "most": self.most, "lasts": False}
        return orchestrator.hold_starts(self.reason, **hold)


@frozen
class _Release:
    who: str

    def apply(self, orchestrator: Any, /) -> object:
        """Let starts go on."""
        return orchestrator.release_starts(self.who)


@frozen
class _Tell:
    """Record an event, and log it."""

    event: type[Event]
    fields: tuple[Any, ...]

    def apply(self, orchestrator: Any, /) -> object:
        """Record and log the event."""
        name, *_, message = self.fields
        is_over = self.event is AlertCleared
        _LOG.log(
            logging.INFO if is_over else logging.WARNING,
            "alert %s is over (%s)" if is_over else "alert %s: %s",
            name,
            message,
        )
        return orchestrator.note_event(self.event, *self.fields)


@frozen
class _Call:
    """Call a function of the user on another thread, and keep its undo function."""

    function: Act
    alert: Alert
    watched: _WatchedSubject
    aside: Aside

    def apply(self, orchestrator: Any, /) -> object:
        """Call the function."""
        label = f"the action of {self.alert.name}"

        def call() -> None:
            undo = self.function(orchestrator, self.alert)
            self.watched.undo = undo if callable(undo) else None

        self.aside.call(orchestrator, label, call)
        return None


def _undoing(watched: _WatchedSubject) -> Act:
    """Return an act that undoes the action of *watched*, if that can be undone."""

    def undo(orchestrator: Any, alert: Alert) -> None:
        undo, watched.undo = watched.undo, None
        if undo is not None:
            undo(orchestrator, alert)

    return undo


@frozen
class _Say:
    """Report a fault of a rule."""

    error: Exception

    def apply(self, orchestrator: Any, /) -> object:
        """Report it."""
        return orchestrator.drivers.say(Alerts.name, self.error)


# -- the driver --------------------------------------------------------------------


class RuleError(Exception):
    """Error of a rule's condition, which stands as its cause."""


class Alerts:
    """
    Controller that watches rules: `orch.alerts`, or `simulation.drivers.add(Alerts())`.

    Metrics are measured at fixed intervals, on the orchestrator's clock. The action of
    an alert is undone when the alert ends or its rule is removed. A new incarnation
    holds nothing until a rule fires again. An alert that fires does not
    end because data is missing.

    Args:
        interval: Seconds between two measurements.
        rules: The rules; None is `default_rules()`.
        machine: Whether to measure memory and processors of this machine, too.
    """

    name: str = "alerts"
    watches: Collection[type[Event]] = ()

    def __init__(
        self,
        *,
        interval: float = 10.0,
        rules: Iterable[AlertRule] | None = None,
        machine: bool = False,
    ) -> None:
        self.interval: float = check_seconds("interval", interval, zero=False)
        self.machine = machine
        self._rules: dict[str, AlertRule] = {
            rule.name: rule for rule in (default_rules() if rules is None else rules)
        }
        self._watched: dict[tuple[str, str], _WatchedSubject] = {}
        #: Subjects of rules that were removed or replaced, whose actions are to be
        #: undone.
        self._left: list[tuple[AlertRule, str, _WatchedSubject]] = []
        #: The caller of the user's functions, on other threads.
        self._aside = Aside()
        #: The faults of rules, and when each was logged.
        self._faults: dict[str, tuple[str, float]] = {}
        #: `(time, completed attempts, failed attempts)` of the latest ticks.
        self._samples: deque[tuple[float, int, int]] = deque(maxlen=10_000)
        #: `(time, policy violations by severity)` of the ticks at which they changed.
        self._violations: deque[tuple[float, dict[str, int]]] = deque(
            [(-inf, {})], maxlen=10_000
        )
        #: The pace of each type, and the number of ended tasks that it rests on.
        self._paces: dict[str, Pace] = {}
        self._counts: dict[str, tuple[int, int]] = {}
        #: The comparison of tasks with earlier ones of their types.
        self._own_type = OwnType()
        #: The orchestrator; None in a simulation, whose tasks use no memory and whose
        #: functions are called at once.
        self.real: Any = None
        #: The latest estimates of the risk of each task to miss its deadline, the time
        #: of the next estimates, and whether a thread makes them now.
        self._risks: dict[str, Measured] = {}
        #: The estimates that each rule has seen.
        self._risks_seen: dict[str, Mapping[str, Measured]] = {}
        self._risks_due: float = -inf
        self._asks_risks: bool = False
        #: The memory of this process at the first measurement, in MB.
        self._own_mb: float | None = None
        #: The metrics of the memory at the latest tick.
        self.memory: Mapping[str, Any] = {}

    def rule(
        self,
        name: str,
        *,
        when: str | Callable[[Any], object],
        until: str | Callable[[Any], object] | None = None,
        **fields: Any,
    ) -> AlertRule:
        """
        Watch a rule, which replaces one of the same name.

        Args:
            name: Its name.
            when: Its condition.
            until: The condition of its end.
            fields: The other fields of `AlertRule`; `for` is `wait`.

        Raises:
            InvalidTaskError: It is not well formed.
        """
        if "for" in fields:
            if "wait" in fields:
                msg = f"alert {show(name)}: for and wait are the same"
                raise InvalidTaskError(msg, hint="give one of them")
            fields["wait"] = fields.pop("for")
        rule = AlertRule.of(name, when, until, **fields)
        self.remove(name)
        self._rules[name] = rule
        return rule

    def remove(self, name: str) -> bool:
        """Stop watching a rule and undo its action; return False if there is none."""
        rule = self._rules.pop(as_text(name), None)
        if rule is None:
            return False
        self._leave(rule)
        if self.real is not None:
            # A removed rule must not hold starts until the next tick.
            with suppress(InvalidTaskError):
                self.real.drivers.wake(self.name)
        return True

    def list(self) -> tuple[Alert, ...]:
        """Return the alerts of all rules, firing or not."""
        alerts = [
            self._alert(self._rules[name], subject, watched)
            for (name, subject), watched in list(self._watched.items())
            if name in self._rules
        ]
        names = {alert.name for alert in alerts}
        is_well = self._own_type.has_data
        return (
            *alerts,
            *(
                self._alert(
                    rule, "", _unwatched(has_data=is_well and rule.per == "type")
                )
                for name, rule in self._rules.copy().items()
                if name not in names
            ),
        )

    def firing(self) -> tuple[Alert, ...]:
        """Return the alerts that fire now."""
        return tuple(alert for alert in self.list() if alert.state == "firing")

    def check(self) -> HealthCheck:
        """Return the health of the alerts, as a part of `TaskOrchestrator.health`."""
        bad = [
            f"{alert.name}{f' of {alert.subject}' * bool(alert.subject)}: "
            f"{alert.message}{_EFFECTS.get(alert.action, '')}"
            for alert in self.firing()
            if alert.severity != "info"
        ]
        bad += self._aside.hanging()
        bad += [text for text, _ in list(self._faults.values())]
        return HealthCheck("alerts", "degraded" if bad else "ok", "; ".join(bad))

    def __deepcopy__(self, memo: dict[int, Any]) -> Alerts:
        # A copy of a controller starts as a new one, without any watched subject.
        return Alerts(
            interval=self.interval,
            rules=tuple(self._rules.values()),
            machine=self.machine,
        )

    def tick(
        self, view: DriverView, now: float
    ) -> tuple[Iterable[Command], float | None]:
        """See `Driver.tick`."""
        stats = view.get_stats()
        commands: list[Command] = []
        left, self._left = self._left, []
        for rule, subject, watched in left:
            if watched.state == "firing":
                commands += self._end(rule, subject, watched, now, "its rule is gone")
        rules = list(self._rules.values())
        completed = sum(worker.completed for worker in stats.agents.values())
        failed = sum(worker.failed for worker in stats.agents.values())
        self._samples.append((now, completed, failed))
        violations = {n: sum(each.values()) for n, each in stats.violations.items()}
        if violations != self._violations[-1][1]:
            self._violations.append((now, violations))
        general = self._of_system(view, stats, now)
        workers = _of_workers(stats)
        for rule in rules:
            try:
                commands += self._look_at(rule, general, workers, view, stats, now)
            except Exception as error:  # noqa: BLE001 - the user's: others are watched
                commands += self._fault(rule, error, now)
            else:
                self._faults.pop(rule.name, None)
        for name in self._faults.keys() - self._rules.keys():
            del self._faults[name]
        for rule in rules:
            if self._rules.get(rule.name) is not rule:
                # The rule was removed during this tick, and the next tick follows at
                # once.
                self._leave(rule)
        return commands, now + self.interval

    def _leave(self, rule: AlertRule) -> None:
        """Stop watching the subjects of a rule."""
        self._risks_seen.pop(rule.name, None)
        for key in [key for key in self._watched if key[0] == rule.name]:
            self._left.append((rule, key[1], self._watched.pop(key)))

    def _look_at(
        self,
        rule: AlertRule,
        general: Mapping[str, Any],
        workers: Mapping[str, Measured],
        view: DriverView,
        stats: Stats,
        now: float,
    ) -> Sequence[Command]:
        """Evaluate one rule and return the commands that follow."""
        commands: list[Command] = []
        if rule.per == "agent":
            every: Mapping[str, Measured] = workers
        elif rule.per == "type":
            every = self._of_types(rule)
        elif rule.per == "task":
            every = self._of_tasks(rule, view, now)
        else:
            rates = self._failure_rates(rule, now)
            every = {"": {**general, **rates, **self._violated(now - rule.over)}}
        for name, subject in [*self._watched]:
            if name == rule.name and subject not in every:
                watched = self._watched.pop((name, subject))
                if watched.state == "firing":
                    commands += self._end(rule, subject, watched, now, "it has left")
        for subject, measured in every.items():
            commands += self._look(rule, subject, measured, stats, now)
            is_one_of_many = rule.per in ("type", "task")
            if is_one_of_many and self._watched[rule.name, subject].is_idle:
                # There may be thousands of subjects, and most need no change.
                del self._watched[rule.name, subject]
        return commands

    def _fault(
        self, rule: AlertRule, error: Exception, now: float
    ) -> Iterable[Command]:
        """Report that a rule cannot be evaluated, by its name; other rules go on."""
        why = (
            f"the rule {rule.name} cannot be looked at: {type(error).__name__}: {error}"
        )
        for (name, _), watched in self._watched.items():
            if name == rule.name:
                watched.has_data = False
                if watched.state != "firing":
                    watched.state = "no data"
        text, since = self._faults.get(rule.name, ("", 0.0))
        if text == why and now - since < _AGAIN:
            return
        self._faults[rule.name] = why, now
        fault = RuleError(why)
        fault.__cause__ = error
        yield _Say(fault)

    # -- measuring -----------------------------------------------------------------

    def _failure_rates(self, rule: AlertRule, now: float) -> dict[str, float | None]:
        """
        Return the share of failed attempts within the rule's time, and a sure part.

        The sure part is a lower confidence bound of that share. It also looks at the
        latest fifth of the time alone, if enough attempts ended in it, and at the
        latest tasks that fail more often than others of their types. So it notices new
        failures before they outweigh the time before.
        """
        least = max(1, rule.least)
        good, bad = self._ended(now - rule.over)
        if good + bad < least:
            return {"failure_rate": None, "sure_failure_rate": None}
        sure = _surely(good, bad)
        latest = self._ended(now - rule.over / 5)
        if sum(latest) >= 2 * least:
            sure = max(sure, _surely(*latest))
        unusual = self._own_type.failing()
        if sum(unusual) >= least:
            sure = max(sure, _surely(*unusual))
        return {"failure_rate": bad / (good + bad), "sure_failure_rate": sure}

    def _violated(self, since: float) -> dict[str, int]:
        """Count the policy violations since a time: in all, and by severity."""
        latest, before = self._violations[-1][1], self._violations[0][1]
        for time, violations in reversed(self._violations):
            if time < since:
                before = violations
                break
        counts = {n: latest.get(n, 0) - before.get(n, 0) for n in SEVERITIES}
        return {
            "policy_violations": sum(counts.values()),
            **{f"{name}_policy_violations": count for name, count in counts.items()},
        }

    def _ended(self, since: float) -> tuple[int, int]:
        """Count the attempts since a time that completed and that failed."""
        first = None
        # The search begins with the latest, since there may be many older samples.
        for sample in reversed(self._samples):
            if sample[0] < since:
                break
            first = sample
        if first is None:
            return 0, 0
        _, completed, failed = self._samples[-1]
        return max(0, completed - first[1]), max(0, failed - first[2])

    def _of_system(self, view: DriverView, stats: Stats, now: float) -> dict[str, Any]:
        measured = from_stats(stats)
        machine = of_machine() if self.machine else {}
        pace = self._pace(view, stats, now)
        # Simulated work uses what it asks for.
        memory = measured["total_memory_usage"]
        if self.real is not None:
            memory = self._memory(stats, machine)
            names = "total_memory_usage", "total_memory_usage_is"
            values = () if memory is None else (memory, "measured")
            self.memory = dict(zip(names, values, strict=False))
            measured |= self.memory
        return {
            **{name: measured[name] for name in NAMES["system"] if name in measured},
            **machine,
            "memory_usage": memory,
            "cpu_usage": measured["total_cpu_utilization"],
            "avg_execution_time": None if pace is None else pace.lately,
            "baseline_execution_time": None if pace is None else pace.usual,
            "queue_age": stats.queue.oldest or 0.0,
            "running": stats.queue.processing,
        }

    def _memory(self, stats: Stats, machine: Mapping[str, float]) -> float | None:
        """Return the share of the memory that is used: of the pool, or the machine."""
        pool = stats.resources.get("memory_mb")
        if pool is None or not pool.total:
            return machine.get("machine_memory_usage")
        used = used_mb()
        if used is None:
            return None
        own, others = used
        if self._own_mb is None:
            # The memory that the program needs without tasks does not count as theirs.
            self._own_mb = own
        return (max(0.0, own - self._own_mb) + others) / pool.total

    def _pace(self, view: DriverView, stats: Stats, now: float) -> Pace | None:
        """Return the pace of the most slowed type, or of all types together."""
        ask = getattr(view, "ended", None)
        if ask is None:
            return None
        counts = {name: _ends_of(of) for name, of in stats.types.items()}
        fresh = {
            name: ends
            for name, ends in counts.items()
            if self._counts.get(name) != ends
        }
        latest = ask(fresh)
        running: Any = getattr(view, "under_way", tuple)()
        self._own_type.note(fresh, latest, starmap(UnderWay, running), now)
        seconds = {name: [each for _, each in latest[name]] for name in latest}
        self._paces.update(paces(seconds))
        self._counts = counts
        candidates = [self._paces[name] for name in counts if name in self._paces]
        together = self._own_type.pace()
        if together is not None:
            candidates.append(together)
        return max(candidates, key=lambda pace: pace.ratio, default=None)

    def _of_types(self, rule: AlertRule) -> dict[str, Measured]:
        """Return the metrics of each type that has changed or has an alert."""
        names = {subject for name, subject in self._watched if name == rule.name}
        by_type: dict[str, Measured] = {}
        for name in sorted(names.union(self._own_type.changed)):
            measured = self._own_type.measured(name)
            if measured is not None:
                pace = self._paces.get(name)
                sure = _surely(*measured.pop("sure_failures"))
                rate = measured["failure_rate"]
                by_type[name] = {
                    **measured,
                    "sure_failure_rate": None if rate is None else min(sure, rate),
                    "avg_execution_time": None if pace is None else pace.lately,
                    "baseline_execution_time": None if pace is None else pace.usual,
                }
        return by_type

    def _of_tasks(
        self, rule: AlertRule, view: DriverView, now: float
    ) -> Mapping[str, Measured]:
        """
        Return the risk of each task to miss its deadline, if there are new estimates.

        Of the older estimates, it returns only those of tasks with an alert, since
        there may be 100,000. Another thread makes the estimates, in a small part of the
        time. A simulation has none.
        """
        if self.real is not None and not self._asks_risks and now >= self._risks_due:
            self._asks_risks = True
            find = partial(self._find_risks, now)
            self._aside.call(self.real, "the ends of tasks", find)
        risks = self._risks
        if self._risks_seen.get(rule.name) is risks:
            watched = (subject for name, subject in self._watched if name == rule.name)
            risks = {name: risks[name] for name in watched if name in risks}
        else:
            self._risks_seen[rule.name] = risks
        return {
            task_id: risk
            for task_id, risk in risks.items()
            if view.state_of(task_id) not in _OVER
        }

    def _find_risks(self, now: float) -> None:
        begun = thread_time()
        # If the estimate fails, the older ones are no longer valid.
        risks: dict[str, Measured] = {
            task_id: {"deadline_risk": None} for task_id in self._risks
        }
        try:
            promises = self.real.at_risk(least=0.0, budget=_BUDGET)
            risks = {each.id: {"deadline_risk": each.risk} for each in promises}
        finally:
            self._risks = risks
            pause = max(self.interval, _PAUSE * (thread_time() - begun))
            self._risks_due = now + pause
            self._asks_risks = False
        if self._risks:
            with suppress(InvalidTaskError):
                self.real.drivers.wake(self.name)

    def _holds(
        self, rule: AlertRule, condition: Condition, measured: Measured
    ) -> bool | None:
        """Return whether a condition holds; None: no data, or its function hangs."""
        if self.real is None or not condition.is_function:
            return condition.holds(measured)
        label = f"the condition of {rule.name}"
        return self._aside.ask(self.real, label, lambda: condition.holds(measured))

    # -- deciding ------------------------------------------------------------------

    def _look(
        self,
        rule: AlertRule,
        subject: str,
        measured: Measured,
        stats: Stats,
        now: float,
    ) -> Iterable[Command]:
        key = rule.name, subject
        watched = self._watched.setdefault(key, _WatchedSubject(since=now))
        holds = self._holds(rule, rule.when, measured)
        watched.has_data = holds is not None
        if watched.state == "firing":
            yield from self._while_firing(rule, subject, watched, measured, holds, now)
            return
        state: State = "no data" if holds is None else "pending" if holds else "ok"
        if state != watched.state:
            watched.state, watched.since = state, now
        if state == "pending" and now - watched.since >= rule.wait:
            watched.state, watched.since = "firing", now
            watched.message = rule.when.shown(measured)
            watched.over_since = watched.blind_since = None
            watched.probing = False
            yield from self._begin(rule, subject, watched, stats)

    def _while_firing(
        self,
        rule: AlertRule,
        subject: str,
        watched: _WatchedSubject,
        measured: Measured,
        holds: bool | None,
        now: float,
    ) -> Iterable[Command]:
        is_over = None if holds is None else not holds
        if rule.until is not None:
            is_over = self._holds(rule, rule.until, measured)
        if is_over is None:
            # A lack of data does not end an alert.
            watched.over_since = None
            if watched.blind_since is None:
                watched.blind_since = now
            yield from self._probe(rule, subject, watched, now)
            return
        watched.blind_since = None
        if watched.probing and holds:
            watched.probing = False
            if rule.action == "pause_new_tasks":
                reason = f"alert {rule.name}: {rule.when.shown(measured)}"
                yield _Hold(_who(rule, subject), 0, reason)
        if not is_over:
            watched.over_since = None
            return
        if watched.over_since is None:
            watched.over_since = now
        if now - watched.over_since >= rule.hold:
            message = (rule.until or rule.when).shown(measured)
            yield from self._end(rule, subject, watched, now, message)

    def _probe(
        self, rule: AlertRule, subject: str, watched: _WatchedSubject, now: float
    ) -> Iterable[Command]:
        """Let one task at a time start if a lack of data would hold all for ever."""
        since = watched.blind_since
        if rule.action != "pause_new_tasks" or watched.probing or since is None:
            return
        if now - since >= _PROBE:
            watched.probing = True
            reason = f"alert {rule.name}: one at a time is tried: {watched.message}"
            yield _Hold(_who(rule, subject), 1, reason)

    def _begin(
        self, rule: AlertRule, subject: str, watched: _WatchedSubject, stats: Stats
    ) -> Iterable[Command]:
        action, who = rule.action, _who(rule, subject)
        about = f"{subject}: " if subject else ""
        reason = f"alert {rule.name}: {watched.message}"
        message = f"{about}{watched.message}"
        if action == "investigate_bottlenecks":
            watched.report = f"{self._slowed()}{bottlenecks(stats)}"
            message = f"{message}\n{watched.report}"
        yield _Tell(AlertRaised, (rule.name, rule.severity, _word(action), message))
        if action == "pause_new_tasks":
            yield _Hold(who, 0, reason)
        elif action == "reduce_parallel_tasks":
            yield _Hold(who, max(1, stats.queue.processing // 2), reason)
        elif action == "reassign_tasks" and not stats.agents[subject].lost:
            # The tasks of a lost worker are with other workers already.
            yield RemoveAgent(subject)
        elif callable(action):
            alert = self._alert(rule, subject, watched)
            yield _Call(action, alert, watched, self._aside)

    def _slowed(self) -> str:
        """Name the types that take more than twice their usual time, in a line."""
        slowed = self._own_type.slowed()
        if not slowed:
            return ""
        names = [f"{name} ({count:,})" for name, count in slowed.items()]
        more = f" and {len(names) - _NAMED:,} more" if len(names) > _NAMED else ""
        return f"twice as slow as usual: {', '.join(names[:_NAMED])}{more}\n"

    def _end(
        self,
        rule: AlertRule,
        subject: str,
        watched: _WatchedSubject,
        now: float,
        message: str,
    ) -> Iterable[Command]:
        seconds = now - watched.since
        watched.state, watched.since, watched.message = "ok", now, ""
        watched.report = ""
        about = f"{subject}: " if subject else ""
        yield _Tell(AlertCleared, (rule.name, seconds, f"{about}{message}"))
        if rule.action in ("pause_new_tasks", "reduce_parallel_tasks"):
            yield _Release(_who(rule, subject))
        elif callable(rule.action):
            alert = self._alert(rule, subject, watched)
            yield _Call(_undoing(watched), alert, watched, self._aside)

    def _alert(self, rule: AlertRule, subject: str, watched: _WatchedSubject) -> Alert:
        return Alert(
            rule.name,
            subject,
            watched.state,
            watched.since,
            rule.severity,
            _word(rule.action),
            watched.message,
            watched.has_data,
            watched.report,
        )


def _ends_of(of: TypeStats) -> tuple[int, int]:
    """Count the tasks of a type that completed, and that failed by themselves."""
    others = sum(of.failures.get(name, 0) for name in _OF_OTHERS)
    return of.completed, of.failed - others


def _word(action: str | Act | None) -> str:
    if callable(action):
        return str(getattr(action, "__name__", "a function"))
    return action or ""


def _who(rule: AlertRule, subject: str) -> str:
    return f"alert {rule.name}{f' of {subject}' if subject else ''}"


def _of_workers(stats: Stats) -> dict[str, Measured]:
    return {
        name: {
            "last_heartbeat": worker.silent,
            "error_rate": worker.failed / (worker.completed + worker.failed)
            if worker.completed + worker.failed
            else None,
            "running": worker.running,
            "failed": worker.failed,
            "completed": worker.completed,
        }
        for name, worker in stats.agents.items()
    }


def bottlenecks(stats: Stats) -> str:
    """Describe what slows tasks down, in a few lines, the worst first."""
    lines: list[str] = []
    slow: list[tuple[float, str]] = []
    for worker_name, worker in stats.agents.items():
        for name, done in worker.performance.items():
            durations = stats.types[name].running if name in stats.types else None
            if done.latency is None or durations is None or not durations.p50:
                continue
            ratio = done.latency / durations.p50
            text = (
                f"{name} on {worker_name} takes {done.latency:.3g} s lately, "
                f"{ratio:.1f} times the median of {durations.p50:.3g} s"
            )
            slow.append((ratio, text))
    lines += [text for _, text in sorted(slow, reverse=True)[:5]]
    full = [
        f"{name}: {pool.used:.4g} of {pool.total:.4g} is held"
        for name, pool in stats.resources.items()
        if pool.total and pool.used / pool.total > 0.9  # noqa: PLR2004 - nearly all
    ]
    lines += full[:5]
    oldest = stats.queue.oldest or 0.0
    lines.append(f"{stats.queue.queued:,} wait, the oldest for {oldest:.3g} s")
    return "\n".join(lines)


def watched(_rt: Any, orch: Any) -> Alerts:
    """Have *orch* watch the usual alerts, and return them."""
    alerts = Alerts(machine=True)
    orch.watch_alerts(alerts)
    return alerts
