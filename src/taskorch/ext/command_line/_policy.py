"""`taskorch policy`: checks of policy files, and their verdicts."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, Final

import attrs

from taskorch.errors import InvalidTaskError
from taskorch.ext.command_line import FAILED, OK
from taskorch.ext.command_line._terminal import (
    add_json,
    coloured,
    line,
    read_json,
    tell,
)
from taskorch.ext.governance import (
    ConstitutionalRuntime,
    Operation,
    PolicyCase,
    Verdict,
    operation_of,
    read_cases,
)
from taskorch.ext.views import JournalReader
from taskorch.kit.visible import counted, show, visible
from taskorch.model import Task

_ACTS: Final = ("check", "test", "explain", "replay")
#: Further keys of a document of a task, which no policy uses.
_OTHERS: Final = {field.name for field in attrs.fields(Task)} | {"function"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.set_defaults(run=_run)
    parser.add_argument(
        "act",
        choices=_ACTS,
        help="check: are they well formed? test: do they say of cases what they are to "
        "say? explain: what do they say of a task, and why? replay: what would they "
        "have said of a journal's past?",
    )
    parser.add_argument(
        "files",
        metavar="FILE",
        nargs="+",
        help="a file of policies, or a folder of such; `cases` may stand there, or in "
        "a file of their own",
    )
    parser.add_argument(
        "--task",
        metavar="FILE",
        help="of explain: the task, or the operation, as JSON or YAML; - reads it",
    )
    parser.add_argument(
        "--journal",
        metavar="JOURNAL",
        help="of replay: the journal, which is only read",
    )
    parser.add_argument(
        "--at",
        choices=("submit", "start", "progress", "result", "verb"),
        help="of explain: when it is judged (as the file says, or at the submission)",
    )
    add_json(parser)


def _run(args: argparse.Namespace) -> int:
    if (args.task is not None) != (args.act == "explain"):
        msg = "--task names what `explain` is about"
        raise InvalidTaskError(
            msg, hint="taskorch policy explain FILE --task TASK.json"
        )
    if (args.journal is not None) != (args.act == "replay"):
        msg = "--journal names what `replay` is about"
        raise InvalidTaskError(
            msg, hint="taskorch policy replay FILE --journal runs.db"
        )
    constitution = ConstitutionalRuntime.from_yaml(*args.files)
    if args.act == "check":
        return _check(args, constitution)
    if args.act == "test":
        return _test(args, constitution)
    if args.act == "replay":
        return _replay(args, constitution)
    return _explain(args, constitution)


def _check(args: argparse.Namespace, constitution: ConstitutionalRuntime) -> int:
    policies = constitution.policies
    rules = sum(len(one.rules) + len(one.history) for one in policies)
    digest, number = constitution.policies_hash, len(policies)
    document = {
        "policies": [one.to_dict() for one in policies],
        "policies_hash": digest,
    }
    many = f"{number:,} {'policy' if number == 1 else 'policies'}"
    tell(args, document, f"{many}, {counted(rules, 'rule')}: {digest}")
    return OK


def _replay(args: argparse.Namespace, constitution: ConstitutionalRuntime) -> int:
    replay = constitution.replay(JournalReader(args.journal))
    tell(args, replay.to_dict(), *map(line, str(replay).split("\n")))
    return FAILED if replay.differences else OK


def _test(args: argparse.Namespace, constitution: ConstitutionalRuntime) -> int:
    cases = read_cases(args.files)
    if not cases:
        msg = "there is no case to test"
        raise InvalidTaskError(msg, hint="cases: [{operation: …, decision: deny}]")
    results = [_result(constitution, case) for case in cases]
    failed = sum(bool(result["problem"]) for result in results)
    lines = []
    for result in results:
        word = "failed" if result["problem"] else "ok"
        problem = f": {result['problem']}" if result["problem"] else ""
        lines.append(line(f"{coloured(word)} {result['name']}{problem}"))
    lines.append(f"{counted(len(cases), 'case')}, {failed} failed")
    tell(args, {"cases": results, "failed": failed}, *lines)
    return FAILED if failed else OK


def _result(constitution: ConstitutionalRuntime, case: PolicyCase) -> dict[str, Any]:
    verdict = constitution.judge_case(case)
    violated = sorted({one.policy_id for one in verdict.violations})
    problem = ""
    if verdict.decision != case.decision:
        problem = f"{case.decision} is expected, and it is {verdict.decision}"
        problem += f": {verdict.reason}" if verdict.reason else ""
    elif case.violations is not None and violated != sorted({*case.violations}):
        expected = ", ".join(sorted(case.violations)) or "nothing"
        actual = ", ".join(violated) or "nothing"
        problem = f"{expected} is to be violated, and it is {actual}"
    return {
        "name": case.name or case.operation.name,
        "decision": verdict.decision,
        "violations": violated,
        "problem": problem,
    }


def _explain(args: argparse.Namespace, constitution: ConstitutionalRuntime) -> int:
    operation = _operation(args.task)
    if args.at is not None:
        operation = attrs.evolve(operation, moment=args.at)
    verdict = constitution.validate_operation(operation)
    tell(args, verdict.to_dict(), *map(visible, _lines(verdict)))
    return OK if verdict.decision == "allow" else FAILED


def _operation(path: str) -> Operation:
    """
    Read an operation from a file, which may be the document of a task.

    Raises:
        InvalidTaskError: It has no operation.
        ValidationFailedError: It is no YAML.
    """
    if path == "-" or path.endswith(".json"):
        document = read_json(path)
    else:
        from taskorch.kit.located import plain as without_places  # noqa: PLC0415
        from taskorch.kit.yaml_text import load  # noqa: PLC0415 - optional

        document = without_places(load(Path(path).read_bytes(), "the task", file=path))
    if not isinstance(document, dict):
        msg = f"{path}: a mapping of a task's fields is needed, not {show(document)}"
        raise InvalidTaskError(msg)
    fields = {field.name for field in attrs.fields(Operation)}
    unused = _OTHERS - fields
    return operation_of({k: v for k, v in document.items() if k not in unused})


def _lines(verdict: Verdict) -> list[str]:
    """Return a verdict as lines for people."""
    lines = [
        f"{verdict.operation.name}, at {verdict.operation.moment}: {verdict.decision}"
    ]
    messages = {(one.policy_id, one.rule_id): one for one in verdict.violations}
    for one in verdict.evaluations:
        text = f"  {one.outcome}: {one.policy_id}/{one.rule_id}"
        violation = messages.get((one.policy_id, one.rule_id))
        if violation is not None:
            text += f" ({violation.severity}): {violation.message}"
            if violation.actual is not None:
                text += f"; it is {show(violation.actual)}"
        lines.append(text)
    if not verdict.evaluations:
        lines.append("  No policy is about it.")
    lines += [
        f"  changed: {change.path} is {show(change.value)}"
        for change in verdict.changes
    ]
    return lines
