"""
Policies as data: what may be submitted, started and asked for, and why not.

- `_policies`: policies as values, what is judged, and what the judgement says.
- `_receipts`: what is handed to others as proof, and what signs it.

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
from taskorch.governance._receipts import (
    sealed,
    signing_key,
    statement_of,
    unsealed,
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
    "sealed",
    "signing_key",
    "statement_of",
    "unsealed",
]
