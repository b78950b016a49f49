"""
Policies as data: what may be submitted, started and asked for, and why not.

They are values and documents, and know no orchestrator: its runtime has them asked, by
`runtime/_governor`. The seven policies of `taskorch.policies` choose among what may be
done; these say what may not. From the bottom up:

- `_operators`: the operators, and the values at dotted paths, as closures.
- `_cel`: conditions in CEL.
- `_policies`: policies as values, what is judged, and what the judgement says.
- `_history`: what has happened, as far as history rules ask.
- `_set`: policies made ready to judge, with an index.
- `_reading`: policies, and cases to test them, as documents.
- `_runtime`: the constitutional runtime, which puts these together.

Decisions: 0223, 0224.
"""

from taskorch.governance._policies import (
    ChangedValue,
    Evaluation,
    HistoryRule,
    Operation,
    Past,
    Policy,
    Rule,
    Severity,
    Verdict,
    Violation,
    operation_of,
)
from taskorch.governance._reading import PolicyCase, read_cases
from taskorch.governance._runtime import ConstitutionalRuntime

__all__ = [
    "ChangedValue",
    "ConstitutionalRuntime",
    "Evaluation",
    "HistoryRule",
    "Operation",
    "Past",
    "Policy",
    "PolicyCase",
    "Rule",
    "Severity",
    "Verdict",
    "Violation",
    "operation_of",
    "read_cases",
]
