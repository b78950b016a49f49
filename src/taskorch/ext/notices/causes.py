"""
How people hear of each cause that keeps work from going on, one line for each.

A cause without a line here is reported as one that a person must judge, so that no new
one is left out silently. The text of a report, and its time, are in `troubles`.

Decision: alerts-and-messages.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Final

import attrs


@attrs.frozen
class CauseTelling:
    """
    The ways in which people hear of one cause.

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


#: The report of a task that waits until a person has judged it.
_JUDGED: Final = CauseTelling(logging.WARNING, "blocked", "decisions")
_SAYS_NOTHING_NEW: Final = "the failure that blocks it is told"

#: By event and cause. `blocked`: the causes of `TaskBlocked`. `violated`: the
#: severities in `PolicyViolated`.
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
    """Return the ways in which people hear that something *happened* for a *cause*."""
    return TELLINGS.get((happened, cause), _JUDGED)
