"""
Whatever a value of a user's does, policies as data judge it, and the rest goes on.

The laws go over all values, all moments, all fields of an operation that hold users'
values, and all operators: a new one is in them, or fails until it is reached.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, get_args, get_type_hints

import attrs
import pytest
from tests.api.tools import PATIENCE
from tests.house.hostile import VALUES

from taskorch import (
    Task,
    TaskOrchestrator,
    current_context,
)
from taskorch.api.verbs.table import bound
from taskorch.ext.governance import (
    ConstitutionalRuntime,
    HistoryRule,
    Operation,
    Past,
    Policy,
    Rule,
)
from taskorch.ext.governance._policies import OPERATORS

MOMENTS: tuple[Any, ...] = get_args(get_type_hints(Operation)["moment"])
#: Fields of what is judged that hold anything that a user gives.
FIELDS = [one.name for one in attrs.fields(Operation) if "Any" in str(one.type)]
#: What an operator compares with.
EXPECTED: dict[str, Any] = {
    "in": ["x", 5],
    "not_in": ["x", 5],
    "regex_match": "x",
    "exists": None,
    "not_exists": None,
    "contains": "x",
    "not_contains": "x",
}


def rules(paths: Iterable[str], operators: Iterable[str]) -> list[Rule]:
    return [
        Rule(f"{path} {operator}", path, operator, EXPECTED.get(operator, 5))
        for path in paths
        for operator in operators
    ]


def policies(
    severity: str, field: str, operators: Iterable[str] = OPERATORS, **fields: Any
) -> list[Policy]:
    """One of each kind of demand about *field* and what is in it."""
    paths = [f"task.{field}", f"task.{field}.x", f"task.{field}.x[0].x"]
    when = f"has(task.{field}) && (task.{field} == 5.0 || task.{field}.x == 5.0)"
    past = Past("started")
    about: list[dict[str, Any]] = [
        {"rules": rules(paths, operators)},
        {"when": when},
        {"when": when, "rules": rules(paths[:1], operators)},
        {"history": [HistoryRule("h", count=past, at_most=9**9, same=paths)]},
        {"history": [HistoryRule("f", formerly=past, same=paths)]},
    ]
    return [
        Policy(f"{field}-{number}", "safety", severity, **one, **fields)
        for number, one in enumerate(about)
    ]


@pytest.mark.slow("all values in each field")
@pytest.mark.parametrize("field", FIELDS)
def test_each_value_in_each_field_is_judged_and_never_raises(field: str) -> None:
    strict = ConstitutionalRuntime(policies("critical", field))
    lenient = ConstitutionalRuntime(policies("low", field))
    for name, make in VALUES.items():
        for wrap in (None, "x"):
            value = make() if wrap is None else {wrap: make()}
            try:
                operation = Operation(**{field: value})
            except (TypeError, ValueError):
                continue
            verdict = strict.validate_operation(operation, now=1.0)
            failed = [one for one in verdict.evaluations if one.outcome != "held"]
            assert verdict.decision == ("deny" if failed else "allow"), name
            assert {one.policy_id for one in verdict.evaluations} <= {
                one.id for one in strict.policies
            }
            # What is said of it can be sent, and read.
            assert json.dumps(verdict.to_dict()).isascii(), name
            assert str(verdict), name
            if wrap is None:
                continue
            again = lenient.validate_operation(operation, now=1.0)
            assert again.decision == "allow", name
            assert len(again.violations) == len(verdict.violations), name


@pytest.mark.parametrize("path", ["payload.x", "metadata.x"])
def test_a_change_of_any_value_is_made_or_refused(path: str) -> None:
    rule = Rule("r", f"task.{path}", "equals", "masked")
    rt = ConstitutionalRuntime(
        [Policy("p", "privacy", "critical", rules=[rule], change={path: "masked"})]
    )
    field = path.partition(".")[0]
    for name, make in VALUES.items():
        for value in (make(), {"x": make()}):
            verdict = rt.validate_operation(Operation(**{field: value}), now=1.0)
            if verdict.decision == "allow":
                assert getattr(verdict.operation, field)["x"] == "masked", name
            else:
                assert verdict.decision == "deny", name


# -- a whole orchestrator --------------------------------------------------------------


def keep(value: Any) -> Any:
    del value
    return 1


def give(name: str) -> Any:
    return VALUES[name]()


def report(name: str) -> int:
    current_context().progress(VALUES[name]())
    return 1


def _submit(orch: TaskOrchestrator, name: str) -> Any:
    return orch.submit_task(Task.call(keep, give(name), metadata={"x": give(name)}))


#: What brings a value before the policies, at each moment there is.
REACHES: dict[str, Callable[[TaskOrchestrator, str], Any]] = {
    "submit": _submit,
    "start": _submit,
    "progress": lambda orch, name: orch.submit(report, name),
    "result": lambda orch, name: orch.submit(give, name),
    "verb": lambda orch, name: bound(orch, "emit")("e", give(name)),
}
#: Where the value is then.
WHERE = {
    "submit": "payload.args",
    "start": "payload.args",
    "progress": "result",
    "result": "result",
    "verb": "arguments.payload",
}


def lives(orch: TaskOrchestrator) -> None:
    """It does what is asked of it, and nothing of it has failed."""
    assert orch.submit(divmod, 7, 2).result(PATIENCE) == (3, 1)
    # What policies hold back or have found is told there, too.
    sick = [
        each
        for each in orch.health().checks
        if each.status != "ok" and each.component not in ("policies", "decisions")
    ]
    assert not sick, sick


#: Each moment with a severity, and with a third of the values, others at the next one.
PLACES = [
    *(
        pytest.param(moment, ("critical", "low")[number % 2], number % 3, 3)
        for number, moment in enumerate(MOMENTS)
    ),
    *(
        pytest.param(
            moment,
            severity,
            0,
            1,
            marks=pytest.mark.slow("both severities, and all values"),
        )
        for moment in MOMENTS
        for severity in ("low", "critical")
    ),
]


@pytest.mark.parametrize(("moment", "severity", "first", "apart"), PLACES)
def test_no_value_at_any_moment_ends_the_orchestrator_or_its_next_incarnation(
    moment: str, severity: str, first: int, apart: int, tmp_path: Path
) -> None:
    names = [*VALUES][first::apart]
    types = "*" if moment == "verb" else ("give", "report", "keep")
    fields = {"at": moment, "types": types, "verbs": "emit"}
    found = policies(severity, WHERE[moment], ["contains", "less_than"], **fields)
    for _ in range(2):
        rt = ConstitutionalRuntime(found)
        with TaskOrchestrator(governance=rt, journal=tmp_path / "runs.db") as orch:
            before = {each.task_id for each in orch.tasks()}
            lives(orch)
            told: list[Any] = []
            orch.signals.policy_violated.connect(told.append)
            orch.signals.task_rejected.connect(told.append)
            for name in names:
                try:
                    handle = REACHES[moment](orch, name)
                    is_held = moment == "start" and severity == "critical"
                    if moment != "verb" and not is_held:
                        handle.result(PATIENCE)
                except BaseException as error:
                    said = str(error)
                else:
                    said = ""
                # The task is refused, or fails, and nothing of ours.
                assert "taskorch itself" not in said, name
                assert severity == "critical" or "polic" not in said, name
            lives(orch)
            orch.stop(drain=False)
        assert any("it cannot be evaluated" in f"{one}" for one in told)
    # What was judged can be judged again, and each task has its audit and receipts: each
    # reads the whole journal, so only those of the last incarnation are asked for.
    path = tmp_path / "runs.db"
    again = ConstitutionalRuntime(found)
    assert json.dumps(again.replay(path).to_dict()).isascii()
    with TaskOrchestrator(governance=again, journal=path) as orch:
        ids = {each.task_id for each in orch.tasks()} - before
        orch.stop(drain=False)
    assert ids
    for task_id in sorted(ids)[::5]:
        audit, receipts = (
            again.audit_operation(task_id, path),
            again.receipts(task_id, path),
        )
        assert json.dumps([audit.to_dict(), receipts]).isascii(), task_id
