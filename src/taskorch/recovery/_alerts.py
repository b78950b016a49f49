"""
Alerts: rules over what is measured, with actions that act, and are undone.

Decisions: 0081, 0123, 0282.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from itertools import starmap
from math import inf, sqrt
from typing import Any, Final, Literal, TypeAlias, get_args

import attrs

from taskorch.errors import InvalidTaskError
from taskorch.events import AlertCleared, AlertRaised, Event
from taskorch.kit.checks import check_count, check_seconds, check_word
from taskorch.kit.fence import log_of
from taskorch.kit.forms import Number, Text, may_be, one_of
from taskorch.kit.frozen import frozen
from taskorch.kit.limits import MAX_SECONDS
from taskorch.kit.visible import show
from taskorch.kit.vocabulary import suggesting
from taskorch.model import SEVERITIES, HealthCheck, Stats, TypeStats
from taskorch.protocols import Command, DriverView, RemoveAgent
from taskorch.recovery._aside import Aside
from taskorch.recovery._metrics import (
    Condition,
    Measured,
    Pace,
    check_apart,
    from_stats,
    of_machine,
    paces,
    used_mb,
)
from taskorch.recovery._own_type import OwnType, UnderWay

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
_PER: Final = ("system", "agent", "type")
#: What health says of the actions that hold something.
_EFFECTS: Final = {
    "pause_new_tasks": "; no new task starts",
    "reduce_parallel_tasks": "; fewer tasks run at once",
}
#: What rules may name, by what they are per; those of `METRICS` that are one number,
#: and these.
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
}
#: Failures that say nothing of how a type does: of criteria, of others, of the queue.
_OF_OTHERS: Final = (
    "CriteriaNotMetError",
    "DependencyFailedError",
    "GateFailedError",
    "TaskExpiredError",
    "TooManyFailuresError",
)
#: Types that a report names.
_NAMED: Final = 5
#: Seconds without data after which a rule that holds all starts lets one at a time
#: through: nothing could be measured otherwise, and nothing would ever clear it.
_PROBE: Final = 60.0
#: By how many standard errors a share of failures may differ by chance.
_SURE: Final = 2.0
#: The longest name.
_LONGEST: Final = 100
#: Seconds until the same fault of a rule is told again.
_AGAIN: Final = 60.0


@suggesting
@attrs.frozen
class AlertRule:
    """
    When an alert is raised, when it is over, and what is done meanwhile.

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
        per: `system`; `agent` or `type`: an alert for each worker, or type of task.

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
    per: Literal["system", "agent", "type"] = attrs.field(
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
        """Make one, with conditions as text or as functions."""
        rule = cls(name, Condition("", None, bool), **fields)
        names = NAMES[rule.per]
        begin = Condition.of(when, names, "when")
        end = None if until is None else Condition.of(until, names, "until")
        if end is not None:
            check_apart(begin, end)
        return attrs.evolve(rule, when=begin, until=end)

    def __attrs_post_init__(self) -> None:
        name: object = self.name
        if not isinstance(name, str) or not 0 < len(name) <= _LONGEST:
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
            msg = f"alert {self.name!r}: reassign_tasks is done to an agent"
            raise InvalidTaskError(msg, hint="per='agent'")
        check_seconds("over", self.over, zero=False)
        check_count("least", self.least, least=1)
        for field in ("wait", "hold"):
            check_seconds(field, getattr(self, field))


def default_rules() -> tuple[AlertRule, ...]:
    """The five that are watched if nothing else is said."""
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
    How a rule stands, for the system, for one worker, or for one type of task.

    Attributes:
        name: The name of the rule.
        subject: The worker, or the type of task; "" for the system.
        state: `ok`, `pending`, `firing` or `no data`.
        since: Since when, in seconds since the epoch.
        severity: That of the rule.
        action: What is done about it while it fires, in a word.
        message: What was measured when that began.
        has_data: Whether there is data now: one that fires goes on without.
        report: What slowed things down, if that was asked for.
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
    The least share of failures that so many may have come of, but for chance.

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
    """What is remembered of a rule for one subject."""

    state: State = "ok"
    since: float = 0.0
    message: str = ""
    has_data: bool = True
    report: str = ""
    #: Since when `until` holds, of one that fires; and since when there is no data.
    over_since: float | None = None
    blind_since: float | None = None
    probing: bool = False
    #: What its action returned, to undo it.
    undo: Act | None = None

    @property
    def is_idle(self) -> bool:
        """Whether nothing is to be remembered."""
        return self.state in ("ok", "no data") and self.undo is None


def _unwatched(*, has_data: bool) -> _WatchedSubject:
    """What stands for a rule that has found nothing, or looked at nothing yet."""
    return _WatchedSubject("ok" if has_data else "no data", has_data=has_data)


# -- commands ----------------------------------------------------------------------


@frozen
class _Hold:
    """Hold starts back while *most* run."""

    who: str
    most: int
    reason: str

    def apply(self, orchestrator: Any, /) -> object:
        """Do it."""
        hold = {"by": self.who, "most": self.most, "lasts": False}
        return orchestrator.hold_starts(self.reason, **hold)


@frozen
class _Release:
    who: str

    def apply(self, orchestrator: Any, /) -> object:
        """Do it."""
        return orchestrator.release_starts(self.who)


@frozen
class _Tell:
    """Record a fact, and log it."""

    event: type[Event]
    fields: tuple[Any, ...]

    def apply(self, orchestrator: Any, /) -> object:
        """Do it."""
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
    """Call a function of the user's, beside the drivers; what it returns undoes it."""

    function: Act
    alert: Alert
    watched: _WatchedSubject
    aside: Aside

    def apply(self, orchestrator: Any, /) -> object:
        """Do it."""
        label = f"the action of {self.alert.name}"

        def call() -> None:
            undo = self.function(orchestrator, self.alert)
            self.watched.undo = undo if callable(undo) else None

        self.aside.call(orchestrator, label, call)
        return None


def _undoing(watched: _WatchedSubject) -> Act:
    """What undoes an action, once that has ended and said how."""

    def undo(orchestrator: Any, alert: Alert) -> None:
        undo, watched.undo = watched.undo, None
        if undo is not None:
            undo(orchestrator, alert)

    return undo


@frozen
class _Say:
    """Say what is wrong with a rule."""

    error: Exception

    def apply(self, orchestrator: Any, /) -> object:
        """Do it."""
        return orchestrator.drivers.say(Alerts.name, self.error)


# -- the driver --------------------------------------------------------------------


class RuleError(Exception):
    """A condition of a rule has raised what is its cause."""


class Alerts:
    """
    A driver that watches rules: `orch.alerts`, or `simulation.drivers.add(Alerts())`.

    All is measured at fixed times, on the orchestrator's clock. What an alert has done
    is undone once it is over, and once its rule is removed; in a new incarnation
    nothing is held, and what is still so is found again. An alert that fires does not
    end because data is missing.

    Args:
        interval: Seconds between two measurements.
        rules: The rules; None is `default_rules()`.
        machine: Whether memory and processors of this machine are looked at too.
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
        #: Of rules that were removed or replaced.
        self._left: list[tuple[AlertRule, str, _WatchedSubject]] = []
        #: Where functions of the user's are called.
        self._aside = Aside()
        #: What is wrong with rules, and when it was told.
        self._faults: dict[str, tuple[str, float]] = {}
        #: `(time, attempts that completed, and that failed)`, of the latest looks.
        self._samples: deque[tuple[float, int, int]] = deque(maxlen=10_000)
        #: `(time, violations of policies by severity)`, of looks at which they differ.
        self._violations: deque[tuple[float, dict[str, int]]] = deque(
            [(-inf, {})], maxlen=10_000
        )
        #: How long tasks of each type take, and after how many ends that was so.
        self._paces: dict[str, Pace] = {}
        self._counts: dict[str, tuple[int, int]] = {}
        #: Tasks beside earlier ones of their types.
        self._own_type = OwnType()
        #: The orchestrator, if there is one: tasks of a simulation use no memory, and
        #: what it calls is called at once.
        self.real: Any = None
        #: The memory of this process when it was looked at first, in MB.
        self._own_mb: float | None = None

    def rule(
        self,
        name: str,
        *,
        when: str | Callable[[Any], object],
        until: str | Callable[[Any], object] | None = None,
        **fields: Any,
    ) -> AlertRule:
        """
        Watch a rule, in the place of one of this name if there is one.

        Args:
            name: Its name.
            when: Its condition.
            until: When it is over.
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
        """Watch a rule no more, and undo what it did; False if there is none."""
        rule = self._rules.pop(name, None)
        if rule is None:
            return False
        self._leave(rule)
        if self.real is not None:
            # Nothing is held until the next look for a rule that there is no more.
            with suppress(InvalidTaskError):
                self.real.drivers.wake(self.name)
        return True

    def list(self) -> tuple[Alert, ...]:
        """How all rules stand."""
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
                for name, rule in list(self._rules.items())
                if name not in names
            ),
        )

    def firing(self) -> tuple[Alert, ...]:
        """Those that fire."""
        return tuple(alert for alert in self.list() if alert.state == "firing")

    def check(self) -> HealthCheck:
        """How all is, as a part of `TaskOrchestrator.health`."""
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
        # A driver is copied as it was added: nothing has been watched yet.
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
        completed = sum(agent.completed for agent in stats.agents.values())
        failed = sum(agent.failed for agent in stats.agents.values())
        self._samples.append((now, completed, failed))
        violations = {n: sum(each.values()) for n, each in stats.violations.items()}
        if violations != self._violations[-1][1]:
            self._violations.append((now, violations))
        general = self._of_system(view, stats, now)
        agents = _of_agents(stats)
        for rule in rules:
            try:
                commands += self._look_at(rule, general, agents, stats, now)
            except Exception as error:  # noqa: BLE001 - the user's: others are watched
                commands += self._fault(rule, error, now)
            else:
                self._faults.pop(rule.name, None)
        for name in self._faults.keys() - self._rules.keys():
            del self._faults[name]
        for rule in rules:
            if self._rules.get(rule.name) is not rule:
                # It was removed as it was looked at, and the next look is at once.
                self._leave(rule)
        return commands, now + self.interval

    def _leave(self, rule: AlertRule) -> None:
        """Watch what a rule has found no more."""
        for key in [key for key in self._watched if key[0] == rule.name]:
            self._left.append((rule, key[1], self._watched.pop(key)))

    def _look_at(
        self,
        rule: AlertRule,
        general: Mapping[str, Any],
        agents: Mapping[str, Measured],
        stats: Stats,
        now: float,
    ) -> Sequence[Command]:
        """What follows from what is measured, for one rule."""
        commands: list[Command] = []
        if rule.per == "agent":
            every: Mapping[str, Measured] = agents
        elif rule.per == "type":
            every = self._of_types(rule)
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
            if rule.per == "type" and self._watched[rule.name, subject].is_idle:
                # There may be thousands, and most are as they are to be.
                del self._watched[rule.name, subject]
        return commands

    def _fault(
        self, rule: AlertRule, error: Exception, now: float
    ) -> Iterable[Command]:
        """A rule cannot be looked at: it is told by its name, and others go on."""
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
        Of the attempts that ended within the rule's time, the share that failed.

        Besides, what that share is at least, but for chance. For that, the latest fifth
        of the time is looked at alone, too, if twice as many ended in it, and so are
        the latest that fail more often than others of their types: what begins to fail
        is noticed before it outweighs the time before.
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
        """How often policies were violated since a time: of all, and by severity."""
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
        """How many attempts have ended well, and badly, since a time."""
        first = None
        # From the latest on: there may be many of before.
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
        return {
            **{name: measured[name] for name in NAMES["system"] if name in measured},
            **machine,
            "memory_usage": self._memory(stats, measured, machine),
            "cpu_usage": measured["total_cpu_utilization"],
            "avg_execution_time": None if pace is None else pace.lately,
            "baseline_execution_time": None if pace is None else pace.usual,
            "queue_age": stats.queue.oldest or 0.0,
            "running": stats.queue.processing,
        }

    def _memory(
        self, stats: Stats, measured: Mapping[str, Any], machine: Mapping[str, float]
    ) -> float | None:
        """The share of the memory that is used: of the pool, or of the machine."""
        pool = stats.resources.get("memory_mb")
        if pool is None or not pool.total:
            return machine.get("machine_memory_usage")
        if self.real is None:
            # Simulated work uses what it asks for.
            share: float | None = measured["total_memory_usage"]
            return share
        used = used_mb()
        if used is None:
            return None
        own, others = used
        if self._own_mb is None:
            # What the program needs without any task is not theirs.
            self._own_mb = own
        return (max(0.0, own - self._own_mb) + others) / pool.total

    def _pace(self, view: DriverView, stats: Stats, now: float) -> Pace | None:
        """Of the type of task that is slowed most, or of all of them, what it takes."""
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
        """What is measured of each type that has changed, or that an alert is about."""
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

    def _holds(
        self, rule: AlertRule, condition: Condition, measured: Measured
    ) -> bool | None:
        """Whether a condition holds; None: there is no data, or its function hangs."""
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
            # What is not known anymore is not over.
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
        """Let one at a time through, if all that could be measured is held."""
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
            # What one that is lost had is with others already.
            yield RemoveAgent(subject)
        elif callable(action):
            alert = self._alert(rule, subject, watched)
            yield _Call(action, alert, watched, self._aside)

    def _slowed(self) -> str:
        """Which types take more than twice what is usual for them, in a line."""
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
    """How many tasks of a type have completed, and how many have failed themselves."""
    others = sum(of.failures.get(name, 0) for name in _OF_OTHERS)
    return of.completed, of.failed - others


def _word(action: str | Act | None) -> str:
    if callable(action):
        return str(getattr(action, "__name__", "a function"))
    return action or ""


def _who(rule: AlertRule, subject: str) -> str:
    return f"alert {rule.name}{f' of {subject}' if subject else ''}"


def _of_agents(stats: Stats) -> dict[str, Measured]:
    return {
        name: {
            "last_heartbeat": agent.silent,
            "error_rate": agent.failed / (agent.completed + agent.failed)
            if agent.completed + agent.failed
            else None,
            "running": agent.running,
            "failed": agent.failed,
            "completed": agent.completed,
        }
        for name, agent in stats.agents.items()
    }


def bottlenecks(stats: Stats) -> str:
    """What slows things down, in a few lines, the worst first."""
    lines: list[str] = []
    slow: list[tuple[float, str]] = []
    for agent_name, agent in stats.agents.items():
        for name, done in agent.performance.items():
            durations = stats.types[name].running if name in stats.types else None
            if done.latency is None or durations is None or not durations.p50:
                continue
            ratio = done.latency / durations.p50
            text = (
                f"{name} on {agent_name} takes {done.latency:.3g} s lately, "
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
    """The usual alerts, which *orch* watches from now on."""
    alerts = Alerts(machine=True)
    orch.watch_alerts(alerts)
    return alerts
