"""
Policies as data: rules for submissions, starts and commands.

They are values and documents, and know no orchestrator; only `_governor` connects them
to one. The seven policies of `taskorch.policies` choose among the allowed actions;
these say which actions are not allowed. From the bottom up:

- `_operators`: the operators, and the values at dotted paths, as closures.
- `_cel`: conditions in CEL.
- `_policies`: policies, operations and verdicts, as values.
- `_history`: past events, as far as history rules need them.
- `_evidence`: the values behind a violation, in words for people.
- `_set`: policies made ready to judge, with an index.
- `_reading`: policies, and cases to test them, as documents.
- `_specification`: working specifications, which limit a task.
- `_waivers`: waivers, by which people let violations pass.
- `_audit`: verdicts on the past: audits, and replays of a journal.
- `_receipts`: receipts for others as proof, and their signatures.
- `_runtime`: the constitutional runtime, which combines these.
- `_governor`: the connection to an orchestrator: see `taskorch.core.engine._governs`.

Decisions: policies-as-data, rooms-and-loading, waivers-and-audits.
"""

from taskorch.ext.governance._audit import (
    Audit,
    Replay,
    Replayed,
    read_waivers,
    run_statement,
)
from taskorch.ext.governance._policies import (
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
from taskorch.ext.governance._reading import PolicyCase, read_cases
from taskorch.ext.governance._receipts import (
    sealed,
    signing_key,
    statement_of,
    unsealed,
)
from taskorch.ext.governance._runtime import ConstitutionalRuntime
from taskorch.ext.governance._specification import (
    Criterion,
    Specification,
    SpecificationValidator,
    WorkScope,
)
from taskorch.ext.governance._waivers import Waiver
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
