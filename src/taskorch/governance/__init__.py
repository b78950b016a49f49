"""
Policies as data: what may be submitted, started and asked for, and why not.

- `_policies`: policies as values, what is judged, and what the judgement says.

Decisions: 0223, 0224.
"""

from taskorch.governance._policies import (
    Change,
    Evaluation,
    History,
    Operation,
    Past,
    Policy,
    Rule,
    Severity,
    Verdict,
    Violation,
)

__all__ = [
    "Change",
    "Evaluation",
    "History",
    "Operation",
    "Past",
    "Policy",
    "Rule",
    "Severity",
    "Verdict",
    "Violation",
]
