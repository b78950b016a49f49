"""Policies in files: what is read, what is refused, and at which line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from taskorch import InvalidTaskError, Task, ValidationFailedError
from taskorch.ext.command_line import main
from taskorch.ext.governance import (
    ConstitutionalRuntime,
    Policy,
    Severity,
)

GOOD = """\
policies:
  - id: no-deletes
    principle: safety
    severity: critical
    rules:
      - {id: r1, condition: operation.type, operator: not_equals, value: system_delete,
         message: Nothing deletes a system.}
  - id: large
    principle: fairness
    severity: high
    when: task.resources.memory_mb > 4096 && !("gpu" in task.requires)
    types: [train, "fit-*"]
  - id: masked
    principle: privacy
    severity: low
    rules: [{id: m, condition: task.payload.token, operator: not_exists}]
    change: {task.payload.token: gone}
  - id: rare
    principle: safety
    severity: medium
    types: deploy
    at: start
    then: deny
    history:
      - {id: h, count: {event: started, type: deploy}, at_most: 2, within: 3600, same: owner}
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "policies.yaml"
    path.write_text(GOOD)
    return path


def test_a_folder_is_all_its_files(file: Path) -> None:
    (file.parent / "more.yml").write_text(
        "policies: [{id: z, principle: p, severity: low, when: 'task.priority > 3'}]"
    )
    (file.parent / "notes.txt").write_text("no policies")
    rt = ConstitutionalRuntime.from_yaml(file.parent)
    assert [policy.id for policy in rt.policies] == [
        *("z", "no-deletes", "large", "masked", "rare"),
    ]


#: Files, the place of the fault in each, and some of the words in which it is told.
REFUSED = [
    block.rpartition("\n→ ")[::2]
    for block in Path(__file__)
    .with_name("refused.txt")
    .read_text("utf-8")
    .split("\n\n")
    if not block.startswith("#")
]


@pytest.mark.parametrize(("text", "told"), REFUSED)
def test_what_is_wrong_is_named_with_its_line(
    tmp_path: Path, text: str, told: str, capsys: Any
) -> None:
    place, _, words = told.strip().partition(" ")
    path = tmp_path / "policies.yaml"
    path.write_text(text)
    with pytest.raises(ValidationFailedError) as caught:
        ConstitutionalRuntime.from_yaml(path)
    lines = str(caught.value).splitlines()
    said = [line for line in lines if f"policies.yaml:{place}" in line]
    assert any(words in line for line in said), lines
    assert main(["policy", "check", str(path)]) == 2
    assert words in capsys.readouterr().err


def test_two_policies_with_one_id_are_refused_in_python_too() -> None:
    policy = Policy("a", "p", "low", when="task.priority > 1")
    with pytest.raises(InvalidTaskError, match="two policies have the id 'a'"):
        ConstitutionalRuntime([policy, policy])


CASES = """\
cases:
  - name: a deletion
    operation: {type: system_delete}
    decision: deny
    violations: no-deletes
  - operation: {type: train, resources: {memory_mb: 5000}, requires: [train]}
    decision: ask
  - name: a third
    operation: {type: deploy, owner: ada, moment: start}
    decision: deny
    violations: [rare]
    before:
      - {event: started, ago: 100, type: deploy, owner: ada}
      - {event: started, ago: 20, type: deploy, owner: ada}
  - name: of others
    operation: {type: deploy, owner: ada, moment: start}
    decision: allow
    violations: []
    before:
      - {event: started, ago: 4000, type: deploy, owner: ada}
      - {event: started, ago: 20, type: deploy, owner: bob}
      - {event: started, ago: 20, type: deploy, owner: ada}
      - {event: completed, ago: 10, type: deploy, owner: ada}
"""


def test_cases_are_tested_and_those_that_fail_are_named(
    file: Path, capsys: Any
) -> None:
    cases = file.parent / "cases.yaml"
    cases.write_text(CASES)
    assert main(["policy", "test", str(file), str(cases)]) == 0
    assert "4 cases, 0 failed" in capsys.readouterr().out
    cases.write_text(CASES.replace("decision: ask", "decision: allow"))
    assert main(["policy", "test", str(file), str(cases)]) == 1
    printed = capsys.readouterr().out
    assert "failed train: allow is expected, and it is ask" in printed
    cases.write_text(CASES.replace("violations: no-deletes", "violations: large"))
    assert main(["policy", "test", str(file), str(cases), "--json"]) == 1
    assert "large is to be violated, and it is no-deletes" in capsys.readouterr().out


def test_the_verdict_on_the_document_of_a_task_is_explained(
    file: Path, capsys: Any
) -> None:
    task = file.parent / "task.json"
    task.write_text('{"type": "fit-a", "resources": {"memory_mb": 9000}, "retry": 3}')
    arguments = ["policy", "explain", str(file), "--task", str(task)]
    assert main(arguments) == 1
    printed = capsys.readouterr().out
    assert "fit-a, at submit: ask" in printed
    assert "held: no-deletes/r1" in printed
    assert "violated: large/when (high)" in printed
    task.write_text('{"type": "report", "payload": {"token": "hush"}}')
    assert main(arguments) == 0
    printed = capsys.readouterr().out
    assert "changed: task.payload.token is 'gone'" in printed
    assert "hush" not in printed
    assert main([*arguments, "--json"]) == 0
    assert "hush" not in capsys.readouterr().out


def test_a_condition_that_fails_is_not_lost_among_others() -> None:
    """All are asked in one go first; an error there has each asked by itself."""
    fails = Policy("fails", "s", "critical", when="task.payload.size > 3")
    others = [
        Policy(f"o{n}", "s", "critical", when=f"task.priority == {n + 1}")
        for n in range(3)
    ]
    verdict = ConstitutionalRuntime([*others, fails]).validate_operation(Task("t", {}))
    assert verdict.decision == "deny"
    assert [one.policy_id for one in verdict.violations] == ["fails"]


def _with_when(condition: str) -> ConstitutionalRuntime:
    policy = {"id": "p", "principle": "x", "severity": "critical", "when": condition}
    return ConstitutionalRuntime.from_dict({"policies": [policy]})


@pytest.mark.parametrize(
    ("condition", "why"),
    [
        ("task.priority", "the condition is int, not true or false"),
        ("task.type", "the condition is str"),
        ("task.timeout + 1.0", "the condition is float"),
        ("has(task.owner) ? task.owner : task.type", "the condition is str"),
        ("sum(task.resources) > 3.0", "no function sum .*Task.budget="),
        ("task.payload.args.sum() > 3", "no function sum"),
        ("task.type.startswith('a')", "did you mean 'startsWith'"),
        ("task.prioritty > 3", "did you mean 'priority'"),
        ("task.type == 'a' || operation.colour == 'red'", "no 'colour'"),
    ],
)
def test_a_condition_that_can_have_no_answer_is_refused_with_its_file(
    condition: str, why: str
) -> None:
    with pytest.raises(ValidationFailedError, match=why):
        _with_when(condition)
    with pytest.raises(InvalidTaskError, match=why):
        Policy(id="p", principle="x", severity=Severity.LOW, when=condition)


@pytest.mark.parametrize(
    "condition",
    [
        "task.metadata.urgent",
        "task.result",
        "task.payload.args.size() > 3",
        "task.resources.cpu > 3.0",
        "task.owner.startsWith('a') && 'task.colour' != \"\"",
        "task.priority > 3 // and no task.colour",
        'task.type != """a "task.colour" b"""',
        "task.writes.exists(path, path.endsWith('.py'))",
        "timestamp('2026-01-01T00:00:00Z').getFullYear() > task.priority",
    ],
)
def test_a_condition_that_may_have_an_answer_is_taken(condition: str) -> None:
    assert _with_when(condition).validate_operation(Task("t")).decision
