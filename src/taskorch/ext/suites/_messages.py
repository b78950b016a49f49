"""The messages between the orchestrator of a suite and its workers."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable, Mapping, Sequence
from importlib.resources import files
from typing import Any

from taskorch.errors import ValidationFailedError
from taskorch.ext.json_schema import schema_checker
from taskorch.ext.suites import _words
from taskorch.ext.suites._criteria import IN_MESSAGES
from taskorch.ext.suites._model import SuiteTask
from taskorch.kit.words import stamp
from taskorch.model import TaskState


def message_schema() -> dict[str, Any]:
    """The JSON Schema of all messages; `$defs` has one for each kind."""
    text = files(__package__ or "").joinpath("messages.schema.json").read_text("utf-8")
    schema: dict[str, Any] = json.loads(text)
    return schema


@functools.cache
def checkers() -> dict[str, Any]:
    """
    Return the checker of each kind of message, by the name of the kind.

    Raises:
        ImportError: jsonschema is not installed.
    """
    kinds = message_schema()["$defs"].items()
    try:
        return {name: schema_checker(name, one) for name, one in kinds}
    except ImportError as error:
        msg = "messages are checked by jsonschema: pip install 'taskorch[suite]'"
        raise ImportError(msg, name="jsonschema") from error


def check_message(message: object) -> None:
    """
    Check a message: one that is written, as well as one that was read.

    Raises:
        ValidationFailedError: It is none; all that is wrong is named.
        ImportError: jsonschema is not installed.
    """
    kind = message.get("message_type") if isinstance(message, Mapping) else None
    checker = checkers().get(kind) if isinstance(kind, str) else None
    if checker is None:
        problem = f"message_type is none of {', '.join(checkers())}"
        msg = f"the message was refused: {problem}"
        raise ValidationFailedError(msg, findings=(("message_type", problem),))
    problems = [
        (".".join(map(str, error.absolute_path)) or "the message", error.message)
        for error in checker.iter_errors(message)
    ]
    if problems:
        text = "; ".join(f"{path}: {problem}" for path, problem in sorted(problems))
        msg = f"the {kind} was refused: {text}"
        raise ValidationFailedError(msg, findings=tuple(sorted(problems)))


def assignment(orchestrator: str, worker: str, task: SuiteTask) -> dict[str, Any]:
    """A worker is given a task."""
    held = task.resources
    return {
        "orchestrator_id": orchestrator,
        "target_agent": worker,
        "task_details": {
            "task_id": task.id,
            "task_type": _words.task_type(task.kind),
            "role": task.role,
            "priority": _words.priority_word(task.priority),
            "timeout_seconds": task.timeout,
            "resources": {
                "memory_mb": held.get("memory_mb", 0.0),
                "cpu_cores": held.get("cpu", 0.0),
                "disk_mb": held.get("disk_mb", 0.0),
            },
            "execution_template": task.template or "none",
            "dependencies": list(task.dependencies),
            "success_criteria": {
                IN_MESSAGES.get(name, name): value
                for name, value in task.criteria.said().items()
            },
        },
    }


def progress(agent: str, task_id: str, figures: Mapping[str, Any]) -> dict[str, Any]:
    """The message on the progress of a task, and on the resources that it uses."""
    end = figures["estimated_completion"]
    tests = "percentage", "current_test", "tests_completed", "tests_remaining"
    used = "memory_usage_mb", "cpu_utilization", "disk_usage_mb"
    return {
        "agent_id": agent,
        "task_id": task_id,
        "progress": {
            **{name: figures[name] for name in tests},
            "estimated_completion": None if end is None else stamp(end),
        },
        "resources": {name: figures[name] for name in used},
        "status": _words.STATUS[TaskState.RUNNING],
    }


def completion(
    worker: str,
    task_id: str,
    state: TaskState,
    span: tuple[float, float],
    results: Mapping[str, Any],
    attempts: Sequence[tuple[int, str, str, float]] = (),
) -> dict[str, Any]:
    """A task has ended, for good; *span* is from its first attempt to that end."""
    counts = results.get("counts") or {}
    rate, coverage = results.get("pass_rate"), results.get("coverage")
    began, at = span
    return {
        "agent_id": worker,
        "task_id": task_id,
        "final_status": _words.FINAL_STATUS[state],
        "execution_summary": {
            "start_time": stamp(began),
            "end_time": stamp(at),
            "duration_seconds": round(max(0.0, at - began), 3),
            "exit_code": results.get("exit_code"),
        },
        "test_results": {
            "total_tests": sum(counts.values()),
            "passed": counts.get("passed", 0) + counts.get("xpassed", 0),
            "failed": counts.get("failed", 0) + counts.get("errors", 0),
            "pass_rate": None if rate is None else round(rate, 3),
            "coverage_percentage": (
                None if coverage is None else round(100 * coverage, 1)
            ),
        },
        **({"recovery_attempts": _tried(attempts)} if attempts else {}),
    }


def failure(
    worker: str,
    task_id: str,
    error_type: str,
    message: str,
    failed: Sequence[Mapping[str, Any]],
    attempts: Sequence[tuple[int, str, str, float]],
) -> dict[str, Any]:
    """An attempt has failed."""
    first: Mapping[str, Any] = failed[0] if failed else {}
    return {
        "agent_id": worker,
        "task_id": task_id,
        "failure_details": {
            "error_type": error_type,
            "error_message": message,
            "failed_tests": [test["id"] for test in failed],
            "error_context": {
                "test_file": first.get("file"),
                "line_number": first.get("failed_line") or first.get("line"),
                "function": first.get("function"),
            },
        },
        "recovery_attempts": _tried(attempts),
    }


def _tried(attempts: Iterable[tuple[int, str, str, float]]) -> list[dict[str, Any]]:
    names = "attempt", "action", "result", "timestamp"
    return [dict(zip(names, (*of, stamp(at)), strict=True)) for *of, at in attempts]
