"""
Policies as data: what may be submitted, started and asked for, and why not.

They are values and documents, and know no orchestrator; `_governor` alone has them
asked by one. The seven policies of `taskorch.policies` choose among what may be
done; these say what may not. From the bottom up:

- `_operators`: the operators, and the values at dotted paths, as closures.
- `_cel`: conditions in CEL.
- `_policies`: policies as values, what is judged, and what the judgement says.
- `_history`: what has happened, as far as history rules ask.
- `_evidence`: what there is where a rule does not hold, in words for people.
- `_set`: policies made ready to judge, with an index.
- `_reading`: policies, and cases to test them, as documents.
- `_specification`: working specifications, and what a task must keep to.
- `_waivers`: violations that people let pass, and which of these waivers count.
- `_audit`: what policies say of the past: audits, and replays of a journal.
- `_receipts`: what is handed to others as proof, and what signs it.
- `_runtime`: the constitutional runtime, which puts these together.
- `_governor`: has them asked by an orchestrator: see `taskorch.runtime._governs`.

Decisions: 0223, 0224, 0225, 0226, 0250, 0288.
"""

from taskorch.governance._audit import (
    Audit,
    Replay,
    Replayed,
    read_waivers,
    run_statement,
)
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
from taskorch.governance._receipts import (
    sealed,
    signing_key,
    statement_of,
    unsealed,
)
from taskorch.governance._runtime import ConstitutionalRuntime
from taskorch.governance._specification import (
    Criterion,
    Specification,
    SpecificationValidator,
    WorkScope,
)
from taskorch.governance._waivers import Waiver
from taskorch.kit.canonical import canonical

__all__ = [
    "Audit",
    "ChangedValue",
    "ConstitutionalRuntime",
    "Criterion",
    "Evaluation",
    "HistoryRule",
    "Operation",
    "Past",
    "Policy",
    "PolicyCase",
    "Replay",
    "Replayed",
    "Rule",
    "Severity",
    "Specification",
    "SpecificationValidator",
    "Verdict",
    "Violation",
    "Waiver",
    "WorkScope",
    "canonical",
    "operation_of",
    "read_cases",
    "read_waivers",
    "run_statement",
    "sealed",
    "signing_key",
    "statement_of",
    "unsealed",
]
