"""Whether the functions of an AlertRule keep their laws."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import wait
from functools import partial
from random import Random
from time import monotonic
from typing import Any, Final

import attrs

from taskorch.model import Task
from taskorch.protocols import AlertAction, AlertCondition
from taskorch.recovery import AlertRule, Alerts
from taskorch.recovery._alerts import NAMES_OF_AGENT, NAMES_OF_SYSTEM
from taskorch.recovery._conditions import Condition
from taskorch.testing._simulation import Simulation
from taskorch.testing.laws._case import Case, brief, cases, snapshot
from taskorch.testing.laws._home import elsewhere

_CHECK: Final = "check_alert_rule"
_TYPE: Final = "work"
#: Values that are measured: amounts, shares, numbers of things; and nothing.
_VALUES: Final = (None, 0, 0.0, 1e-9, 0.05, 0.25, 0.5, 0.85, 0.95, 1.0, 3, 40, 1e4, 1e9)


def check_alert_rule(
    rule: AlertRule,
    *,
    patience: float = 1.0,
    action_patience: float = 5.0,
    seed: int = 0,
    examples: int = 50,
) -> None:
    """
    Check the laws of AlertCondition and AlertAction, of all that a rule has.

    How the laws are seen:

    - Conditions are asked about values of all sorts, and about none.
    - An action is called in a simulation in which tasks wait, run and fail: the alert
      is raised, and is over; and in every second one the orchestrator dies between, so
      that it is called twice before it is undone. What is held, how large pools are,
      and which agents get no work is the same afterwards as before.

    Args:
        rule: The rule; its conditions and its action may be text, or functions.
        patience: Seconds in which a condition answers.
        action_patience: Seconds in which an action returns.
        seed: Of the questions.
        examples: How many of them.

    Raises:
        LawViolation: A law is broken.
        Exception: What a function of the rule raised, with a note.
    """
    for case in cases(AlertCondition, _CHECK, seed, examples, 3):
        measured = _some_values(case.random, rule)
        begins = _asked(case, rule.when, measured, patience)
        ends = None
        if rule.until is not None:
            ends = _asked(case, rule.until, measured, patience)
        did = f"Both hold where {brief(measured)}."
        case.expect(not (begins and ends), 5, did)
    if rule.action is not None:
        for case in cases(AlertAction, _CHECK, seed, max(2, examples // 10)):
            _check_action(case, rule, action_patience)


def _some_values(dice: Random, rule: AlertRule) -> dict[str, Any]:
    names = NAMES_OF_AGENT if rule.per == "agent" else NAMES_OF_SYSTEM
    if dice.random() < 0.1:  # noqa: PLR2004 - of a new orchestrator
        return dict.fromkeys(names)
    values = {name: dice.choice(_VALUES) for name in names}
    # What a rate is at least is no more than that.
    rate, least = (values.get(name) for name in ("failure_rate", "sure_failure_rate"))
    if rate is None or least is None:
        least = None
    elif least > rate:
        least = rate
    return {**values, "sure_failure_rate": least} if rule.per == "system" else values


def _asked(
    case: Case, condition: Condition, measured: Mapping[str, Any], patience: float
) -> bool | None:
    """What a condition answers, twice the same."""
    before = snapshot(measured)
    answers: list[bool | None] = []
    for _ in range(2):
        asked = elsewhere(partial(condition.holds, measured))
        wait([asked], patience)
        did = f"{condition.text} did not answer within {patience:g} s."
        case.expect(asked.done(), 4, did)
        with case.noted(measured=measured):
            answers.append(asked.result())
    did = f"{condition.text} changed what was measured, which is {brief(measured)}."
    case.expect(snapshot(measured) == before, 3, did)
    first, second = answers
    did = f"{condition.text} answered {first}, then {second}, to {brief(measured)}."
    case.expect(first == second, 2, did)
    return first


@attrs.define(eq=False)
class _WatchedAction:
    """The action of a rule, and what came of its calls."""

    action: Callable[[Any, Any], Any]
    longest: float = 0.0
    answers: list[object] = attrs.Factory(list)
    errors: list[Exception] = attrs.Factory(list)

    def __call__(self, orchestrator: Any, alert: Any) -> Any:
        undo = self._timed(self.action, orchestrator, alert)
        self.answers.append(undo)
        return partial(self._timed, undo) if callable(undo) else undo

    def _timed(self, act: Callable[..., Any], *arguments: Any) -> Any:
        began = monotonic()
        try:
            return act(*arguments)
        except Exception as error:
            self.errors.append(error)
            raise
        finally:
            self.longest = max(self.longest, monotonic() - began)


def _check_action(case: Case, rule: AlertRule, patience: float) -> None:
    """Have the alert raised and over, with or without a death between."""
    sim = _some_simulation(case.random)
    dies = case.number % 2 == 0
    fires = [False]
    names = NAMES_OF_AGENT if rule.per == "agent" else NAMES_OF_SYSTEM
    when = Condition.of(lambda _: fires[0], names, "when")
    watched = _WatchedAction(rule.action) if callable(rule.action) else None
    action = rule.action if watched is None else watched
    changed = attrs.evolve(rule, when=when, until=None, action=action)
    sim.drivers.add(Alerts(interval=1.0, rules=[changed]))
    _go_on(sim, 2.0)
    before = _effects(sim)
    fires[0] = True
    _go_on(sim, rule.wait + 3.0)
    if dies:
        sim.crash(downtime=1.0)
        _go_on(sim, rule.wait + 4.0)
    fires[0] = False
    _go_on(sim, rule.hold + 3.0)
    if watched is not None:
        with case.noted(action=rule.action):
            for error in watched.errors:
                raise error
        for answer in watched.answers:
            is_right = answer is None or callable(answer)
            case.expect(is_right, 1, f"It returned {brief(answer)}.")
        did = f"A call took {watched.longest:.1f} s."
        case.expect(watched.longest <= patience, 4, did)
    after = _effects(sim)
    # One that never said how to undo it is to be for ever, as a word to somebody is.
    did = f"Before it was {brief(before)}, and afterwards {brief(after)}."
    case.expect(after == before, 3 if dies else 2, did)


def _some_simulation(dice: Random) -> Simulation:
    """One in which tasks wait, run and fail."""
    sim = Simulation(seed=dice.getrandbits(32), resources={"cpu": 8, "memory_mb": 64})
    for name in ("one", "two"):
        sim.agent(name, capabilities=[_TYPE], max_concurrency=2, lease=30.0)
    sim.work(_TYPE, lambda _task, _attempt, random: random.uniform(1, 60))
    for number in range(dice.randint(0, 12)):
        sim.submit_task(Task(_TYPE, id=f"some/{number}"))
    return sim


def _go_on(sim: Simulation, seconds: float) -> None:
    sim.run(until=sim.now + seconds)


def _effects(sim: Simulation) -> dict[str, object]:
    """What an action may have changed, and has to leave as it was."""
    stats, kernel = sim.get_stats(), sim.world.living().kernel
    return {
        "holds": sorted(kernel.holds),
        "pools": {name: pool.total for name, pool in stats.resources.items()},
        "drained": sorted(name for name, row in kernel.agents.items() if row.draining),
    }
