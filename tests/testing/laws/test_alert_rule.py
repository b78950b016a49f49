"""check_alert_rule: right ones pass, and each planted mistake is named."""

from __future__ import annotations

import threading
import time

import pytest
from tests.testing.laws.tools import violation

from taskorch.ext.recovery import AlertRule, default_rules
from taskorch.protocols import AlertAction, AlertCondition
from taskorch.testing.laws import check_alert_rule
from taskorch.testing.laws._case import laws_of


def fails(measured):
    return measured["failure_rate"] > 0.2


def is_quiet(measured):
    return measured["failure_rate"] < 0.1


def hold(orch, alert):
    orch.hold_starts(alert.message, by="mine", lasts=False)
    return lambda undone, _: undone.release_starts("mine")


def shrink(orch, alert):
    """It sets what it sets, however often."""
    orch.resize({"cpu": 4})
    return lambda undone, _: undone.resize({"cpu": 8})


def tell(orch, alert):
    return None


@pytest.mark.parametrize("action", [hold, shrink, tell])
def test_right_ones_pass(action):
    rule = AlertRule.of("mine", fails, is_quiet, action=action)
    check_alert_rule(rule, patience=30.0, action_patience=30.0)


@pytest.mark.parametrize("rule", default_rules(), ids=lambda rule: rule.name)
def test_those_of_the_library_pass(rule):
    check_alert_rule(rule, patience=30.0, action_patience=30.0, examples=6)


class Counts:
    def __init__(self):
        self.calls = 0

    def __call__(self, measured):
        self.calls += 1
        return self.calls % 2


def flaps(measured):
    return measured["failure_rate"] < 0.3


def hangs(measured):
    threading.Event().wait(1.0)


@pytest.mark.parametrize(
    ("when", "until", "law", "patience"),
    [(Counts(), None, 2, 9.0), (fails, flaps, 5, 9.0), (hangs, None, 4, 0.05)],
)
def test_each_mistake_of_a_condition_is_named(when, until, law, patience):
    rule = AlertRule.of("mine", when, until)
    error = violation(check_alert_rule, rule, patience=patience)
    assert (error.protocol, error.law) == ("AlertCondition", law)


def test_what_a_condition_raises_passes_through():
    rule = AlertRule.of("mine", lambda measured: measured["runing"] > 1)
    with pytest.raises(KeyError, match="did you mean 'running'"):
        check_alert_rule(rule)


def leaves_a_hold(orch, alert):
    orch.hold_starts(alert.message, by="mine")
    return lambda undone, _: None


def adds_up(orch, alert):
    """Of what it finds it takes a half, and gives back what it has taken."""
    total = orch.get_stats().resources["cpu"].total
    orch.resize({"cpu": total / 2})
    return lambda undone, _: undone.resize({"cpu": total})


def says_text(orch, alert):
    return "done"


def is_slow(orch, alert):
    time.sleep(0.02)


@pytest.mark.parametrize(
    ("action", "law", "patience"),
    [
        (leaves_a_hold, 2, 9.0),
        (adds_up, 3, 9.0),
        (says_text, 1, 9.0),
        (is_slow, 4, 0.01),
    ],
)
def test_each_mistake_of_an_action_is_named(action, law, patience):
    rule = AlertRule.of("mine", "running > 3", action=action)
    error = violation(check_alert_rule, rule, action_patience=patience)
    assert (error.protocol, error.law) == ("AlertAction", law)


def test_what_an_action_raises_passes_through():
    def breaks(orch, alert):
        raise LookupError(alert.name)

    with pytest.raises(LookupError, match="mine"):
        check_alert_rule(AlertRule.of("mine", "running > 3", action=breaks))


def test_its_laws_are_those_of_the_protocols():
    assert sorted(laws_of(AlertCondition)) == [1, 2, 3, 4, 5]
    assert sorted(laws_of(AlertAction)) == [1, 2, 3, 4]
