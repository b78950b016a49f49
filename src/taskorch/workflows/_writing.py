"""From tasks to a document."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from taskorch.errors import InvalidTaskError
from taskorch.model import (
    DEFAULT_ENV,
    NO_RETRY,
    Call,
    Program,
    Reference,
    RetryPolicy,
    Task,
    call_type,
)
from taskorch.model._show import show
from taskorch.workflows._documents import MAX_SHOWN, RESULT, RETRY, Functions, plain

__all__ = ("write",)


def write(
    name: str, tasks: Iterable[tuple[Task, Iterable[str]]], functions: Functions
) -> dict[str, Any]:
    """
    The document of a workflow.

    Args:
        name: Its name.
        tasks: Its tasks, each with the ids of what it waits for.
        functions: What it calls, by name.

    Raises:
        InvalidTaskError: A task has what a document cannot say.
    """
    made: dict[str, Any] = {}
    for task, after in tasks:
        try:
            made[str(task.id)] = _written(task, after, functions)
        except _UnsayableError as error:
            msg = f"task {task.id!r} cannot be written down: {error.args[0]}"
            raise InvalidTaskError(msg, hint=error.hint, task_id=task.id) from None
    return {"workflow": name, "tasks": made}


class _UnsayableError(Exception):
    """What a document cannot say."""

    def __init__(self, text: str, hint: str = "") -> None:
        super().__init__(text)
        self.hint = hint


def _written(task: Task, after: Iterable[str], functions: Functions) -> dict[str, Any]:
    if task.after != ():
        msg = "it waits for tasks outside of the workflow"
        raise _UnsayableError(msg)
    payload = task.payload
    implied: set[str] = set()
    said: dict[str, Any]
    if isinstance(payload, Call):
        said = _written_call(payload, functions, implied)
        usual = call_type(payload.fn)
    elif isinstance(payload, Program):
        said = _written_program(payload)
        usual = "program"
    else:
        said = {"type": task.type}
        usual = task.type
        if payload is not None:
            said["payload"] = _value("payload", payload)
    if task.type != usual:
        said["type"] = task.type
    others = [parent for parent in after if parent not in implied]
    if others:
        said["after"] = others
    return said | _written_options(task)


def _written_options(task: Task) -> dict[str, Any]:
    said: dict[str, Any] = {}
    if task.priority:
        said["priority"] = task.priority
    if task.requires is not None:
        said["requires"] = sorted(task.requires)
    if task.resources:
        said["resources"] = dict(task.resources)
    for name in ("timeout", "deadline", "not_before"):
        value = getattr(task, name)
        if isinstance(value, datetime):
            value = value.isoformat()
        if value is not None:
            said[name] = value
    if task.retry != NO_RETRY:
        said["retry"] = _written_retry(task.retry)
    if task.idempotent is not True:
        said["idempotent"] = task.idempotent
    if task.metadata is not None:
        said["metadata"] = _value("metadata", task.metadata)
    return said


def _written_retry(policy: RetryPolicy) -> dict[str, Any]:
    if not isinstance(policy.wait, str):
        msg = "retry.wait is a strategy of its own"
        raise _UnsayableError(msg)
    if policy.retry_on is not NO_RETRY.retry_on:
        msg = "retry.retry_on is not the usual one"
        raise _UnsayableError(msg)
    said = {name: getattr(policy, name) for name in RETRY}
    return {k: v for k, v in said.items() if v != getattr(NO_RETRY, k)}


def _written_call(
    call: Call, functions: Functions, implied: set[str]
) -> dict[str, Any]:
    name = next((name for name, fn in functions.items() if fn == call.fn), None)
    if name is None:
        text = f"{show(call.fn, MAX_SHOWN)} has no name"
        raise _UnsayableError(text, "to_dict(functions={'name': function})")

    def single(where: str, arg: Any) -> Any:
        if type(arg) is Reference:
            implied.add(arg.task_id)
            return {RESULT: arg.task_id}
        if type(arg) is dict and RESULT in arg:
            text = f"{where} has the name {RESULT!r}, which means another task"
            raise _UnsayableError(text)
        return _value(where, arg, 1)

    def argument(where: str, arg: Any) -> Any:
        if type(arg) is list:
            return [single(f"{where}[{i}]", item) for i, item in enumerate(arg)]
        return single(where, arg)

    said: dict[str, Any] = {"call": name}
    if call.args:
        said["args"] = [argument(f"args[{i}]", arg) for i, arg in enumerate(call.args)]
    if call.kwargs:
        pairs = call.kwargs.items()
        said["kwargs"] = {key: argument(f"kwargs.{key}", arg) for key, arg in pairs}
    if call.executor is not None:
        said["executor"] = call.executor
    return said


def _written_program(program: Program) -> dict[str, Any]:
    args: list[Any] = list(program.args)
    said: dict[str, Any] = {"program": _value("program", args)}
    if program.env:
        said["env"] = dict(program.env)
    if program.inherit_env is True:
        said["inherit_env"] = True
    elif names := sorted(frozenset(program.inherit_env) - DEFAULT_ENV):
        said["inherit_env"] = names
    if program.cwd is not None:
        said["cwd"] = _value("cwd", program.cwd)
    if program.stdin is not None:
        said["stdin"] = _value("stdin", program.stdin)
    if not program.check:
        said["check"] = False
    return said


def _value(where: str, value: object, depth: int = 0) -> Any:
    findings: list[tuple[str, str]] = []
    made = plain(where, value, findings, depth, exact=True)
    if findings:
        raise _UnsayableError(": ".join(findings[0]))
    return made
