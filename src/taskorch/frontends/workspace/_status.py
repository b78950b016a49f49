"""
Status files: what became of a task, as JSON that any shell can read.

Decision: 0040.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any, Final, Literal, TypeAlias, cast, get_args

import attrs

from taskorch.frontends.workspace._layout import read_start
from taskorch.kit.checks import is_number
from taskorch.kit.visible import show
from taskorch.kit.vocabulary import guess
from taskorch.kit.words import stamp

#: What the status of a task can be. One that waits has no file.
State: TypeAlias = Literal["completed", "running", "blocked", "failed"]
_STATES: Final = get_args(State)
#: Seconds that a task may have taken: no end of time, and what a float can be.
_LONGEST: Final = 1e12
#: Bytes: whatever is larger is no status.
_MAX_BYTES: Final = 1 << 16
_as_json: Final = json.JSONEncoder(ensure_ascii=False).encode


class StatusRefusedError(ValueError):
    """A status file is there, and cannot be believed; the message says why."""


@attrs.frozen
class Status:
    """
    What stands in the status file of a task; None is not written.

    Attributes:
        task_id: The task.
        status: What it is.
        started_at: When it began: ISO 8601, UTC, with Z.
        completed_at: When it ended, however.
        agent_id: Who did it.
        outputs_validated: Whether all its outputs were there.
        duration_seconds: How long it took.
        exit_code: What its program returned; negative: the signal that killed it.
        error: Why it has failed.
        blocked_by: The task whose failure keeps it from running, or the gate: see
            `gate_of`.
        spent: What all its programs have spent of budgets, by resource.
    """

    task_id: str
    status: State
    started_at: str | None = None
    completed_at: str | None = None
    agent_id: str | None = None
    outputs_validated: bool | None = None
    duration_seconds: float | None = None
    exit_code: int | None = None
    error: str | None = None
    blocked_by: str | None = None
    spent: Mapping[str, float] | None = attrs.field(default=None, hash=False)

    @property
    def has_ended(self) -> bool:
        """Whether the status is `completed` or `failed`."""
        return self.status in ("completed", "failed")

    def to_dict(self) -> dict[str, Any]:
        """What is written."""
        fields = ((name, getattr(self, name)) for name in _NAMES)
        return {name: value for name, value in fields if value is not None}

    def to_json(self) -> str:
        """The status file's text, one field a line."""
        fields = self.to_dict().items()
        lines = ",\n".join(f'  "{name}": {_as_json(value)}' for name, value in fields)
        return f"{{\n{lines}\n}}\n"


def gate_of(phase: str) -> str:
    """What `blocked_by` says where all tasks of a phase are done, and more lacks."""
    return f"{_GATE}{phase}"


def phase_of_gate(by: str) -> str:
    """The phase of the gate that `blocked_by` names; "" if it names a task."""
    return by.removeprefix(_GATE) if by.startswith(_GATE) else ""


#: No task has such a name: there is a space in it.
_GATE: Final = "the gate of "
_NAMES: Final = tuple(attrs.fields_dict(Status))


def read_status(path: str | os.PathLike[str], task_id: str) -> Status | None:
    """
    What the status file at *path* says; None if there is none.

    Raises:
        StatusRefusedError: It is there, and cannot be believed.
    """
    try:
        data = read_start(path, _MAX_BYTES + 1)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        msg = f"it cannot be read: {error.strerror or error}"
        raise StatusRefusedError(msg) from error
    if len(data) > _MAX_BYTES:
        msg = f"it has more than {_MAX_BYTES:,} bytes"
        raise StatusRefusedError(msg)
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        msg = (
            "it is empty" if not data.strip() else "it is no JSON, or only a part of it"
        )
        raise StatusRefusedError(msg) from None
    if not isinstance(document, dict):
        msg = f"it is {show(document, 40)}, and no object"
        raise StatusRefusedError(msg)
    return _status(cast("Mapping[str, Any]", document), task_id)


def _status(document: Mapping[str, Any], task_id: str) -> Status:
    state: Any = document.get("status")
    if state not in _STATES:
        msg = f"its status is {show(state, 40)}, which is none of {', '.join(_STATES)}"
        msg += guess(str(state), _STATES)
        raise StatusRefusedError(msg)
    if document.get("task_id", task_id) != task_id:
        msg = f"it is that of task {show(document['task_id'], 80)}"
        raise StatusRefusedError(msg)
    duration = document.get("duration_seconds")
    exit_code = document.get("exit_code")
    validated = document.get("outputs_validated")
    return Status(
        task_id,
        state,
        started_at=_moment(document.get("started_at")),
        completed_at=_moment(document.get("completed_at")),
        agent_id=_text(document.get("agent_id")),
        outputs_validated=validated if isinstance(validated, bool) else None,
        duration_seconds=float(duration) if is_number(duration, 0, _LONGEST) else None,
        exit_code=exit_code if type(exit_code) is int else None,
        error=_text(document.get("error")),
        blocked_by=_text(document.get("blocked_by")),
        spent=_amounts(document.get("spent")),
    )


def _amounts(value: object) -> dict[str, float] | None:
    if not isinstance(value, dict):
        return None
    amounts = cast("dict[str, Any]", value)
    return {n: much for n, much in amounts.items() if is_number(much, 0, _LONGEST)}


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _moment(value: Any) -> str | None:
    """A moment as it is written; other tools write seconds since the epoch."""
    if is_number(value, 0, (1 << 33) - 1):
        return stamp(int(value))
    return _text(value)
