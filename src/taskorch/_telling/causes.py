"""
How people hear of what keeps work from going on: one line for each cause.

A cause that has no line here is told as what a person must judge, so that a new one is
not left out in silence. What is told of it, and when, is in `troubles`.

Decision: 0245.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Final

import attrs


@attrs.frozen
class CauseTelling:
    """
    How people hear of one cause.

    Attributes:
        level: The level of its line in the log; 0: it has none.
        message: The kind of its message; "": it has none.
        health: The part of the health that names it; "": none does.
        instead: How people hear of it where one of these is missing.
    """

    level: int = 0
    message: str = ""
    health: str = ""
    instead: str = ""


#: A task waits until a person has judged it.
_JUDGED: Final = CauseTelling(logging.WARNING, "blocked", "decisions")
_SAYS_NOTHING_NEW: Final = "the failure that blocks it is told"

#: By what happens and why. `blocked`: the causes of `TaskBlocked`. `violated`: the
#: severities of what `PolicyViolated` names.
TELLINGS: Final[Mapping[tuple[str, str], CauseTelling]] = {
    ("blocked", "lost"): _JUDGED,
    ("blocked", "missing"): _JUDGED,
    ("blocked", "interrupted"): _JUDGED,
    ("blocked", "join"): _JUDGED,
    ("blocked", "gone"): _JUDGED,
    ("blocked", "policy"): _JUDGED,
    ("blocked", "asked"): CauseTelling(0, "escalation", "", "the question is listed"),
    ("blocked", "dependency"): CauseTelling(instead=_SAYS_NOTHING_NEW),
    ("blocked", "event"): CauseTelling(
        instead="the program has it wait; stuck() names it"
    ),
    ("violated", "low"): CauseTelling(logging.INFO, instead="get_stats() counts it"),
    ("violated", "medium"): CauseTelling(logging.WARNING, "alert", "policies"),
    ("violated", "high"): CauseTelling(logging.ERROR, "alert", "policies"),
    ("violated", "critical"): CauseTelling(logging.CRITICAL, "alert", "policies"),
    ("failed", "schedule"): CauseTelling(logging.ERROR, "failure", "schedules"),
    ("failed", "run"): CauseTelling(logging.ERROR, "failure", "runs"),
    ("failed", "task"): CauseTelling(logging.ERROR, "failure", "failures"),
    ("did not happen", "skipped"): CauseTelling(
        logging.WARNING, "skipped", "schedules"
    ),
    ("did not happen", "refused"): CauseTelling(
        logging.WARNING, "skipped", "schedules"
    ),
    ("measured", "alert"): CauseTelling(logging.WARNING, "alert", "alerts"),
    ("measured", "budget"): CauseTelling(logging.WARNING, "alert", "budgets"),
}


def telling_of(happened: str, cause: str) -> CauseTelling:
    """How people hear that something *happened* for a *cause*."""
    return TELLINGS.get((happened, cause), _JUDGED)
