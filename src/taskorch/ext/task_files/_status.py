"""
Status files: what became of a task, as JSON that any shell can read.

Decision: task-files.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Literal, TypeAlias, cast, get_args

import attrs

from taskorch.ext.task_files._layout import WorkspaceLayout, read_start
from taskorch.kit.checks import is_number
from taskorch.kit.visible import show
from taskorch.kit.vocabulary import guess
from taskorch.kit.words import stamp

#: States in a status file; a task that waits has no file.
State: TypeAlias = Literal["completed", "running", "blocked", "failed"]
_STATES: Final = get_args(State)
#: The most seconds that a task may have taken.
_LONGEST: Final = 1e12
#: The most bytes of a file that is read as a status.
_MAX_BYTES: Final = 1 << 16
_as_json: Final = json.JSONEncoder(ensure_ascii=False).encode


class StatusRefusedError(ValueError):
    """
    A status file is there, and cannot be believed.

    Attributes:
        path: The file, as people see it.
        why: Why it cannot.
    """

    def __init__(self, path: str, why: str) -> None:
        super().__init__(path, why)
        self.path = path
        self.why = why

    def __str__(self) -> str:
        return f"{self.path} is not believed: {self.why}"


@attrs.frozen
class Status:
    """
    The contents of a task's status file; None: the file has no such field.

    Attributes:
        task_id: The task.
        status: The state of the task.
        started_at: When it began: ISO 8601, UTC, with Z.
        completed_at: When it ended, however.
        agent_id: The agent that did the task.
        outputs_validated: Whether all its outputs were there.
        duration_seconds: How long it took.
        exit_code: The exit code of its program; negative: the signal that killed it.
        error: Why it has failed.
        blocked_by: The task whose failure keeps it from running, or the gate: see
            `gate_of`.
        spent: The amounts of budgets that all its programs spent, by resource.
        unenforced: Limits that its program was not held to, as this machine cannot.
        repairs: What mended its programs, or tried to, a sentence each.
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
    unenforced: Sequence[str] | None = None
    repairs: Sequence[str] | None = None

    @property
    def has_ended(self) -> bool:
        """True if the status is `completed` or `failed`."""
        return self.status in ("completed", "failed")

    def to_dict(self) -> dict[str, Any]:
        """Return the fields that the status file has."""
        fields = ((name, getattr(self, name)) for name in _NAMES)
        return {name: value for name, value in fields if value is not None}

    def to_json(self) -> str:
        """The status file's text, one field a line."""
        fields = self.to_dict().items()
        lines = ",\n".join(f'  "{name}": {_as_json(value)}' for name, value in fields)
        return f"{{\n{lines}\n}}\n"


def gate_of(phase: str) -> str:
    """Return the value of `blocked_by` that names the gate of a phase."""
    return f"{_GATE}{phase}"


def phase_of_gate(by: str) -> str:
    """The phase of the gate that `blocked_by` names; "" if it names a task."""
    return by.removeprefix(_GATE) if by.startswith(_GATE) else ""


#: No task has such a name: there is a space in it.
_GATE: Final = "the gate of "
_NAMES: Final = tuple(attrs.fields_dict(Status))


def read_status(layout: WorkspaceLayout, task_id: str) -> Status | None:
    """
    Read the status file of a task; return None if there is none.

    Raises:
        StatusRefusedError: It is there, and cannot be believed.
    """
    path = layout.status(task_id)
    try:
        return _status(_document(read_start(path, _MAX_BYTES + 1)), task_id)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        why = f"it cannot be read: {error.strerror or error}"
        raise StatusRefusedError(layout.shown(path), why) from error
    except ValueError as error:
        raise StatusRefusedError(layout.shown(path), str(error)) from None


def _document(data: bytes) -> Mapping[str, Any]:
    """
    Return the object in a status file.

    Raises:
        ValueError: It has none.
    """
    if len(data) > _MAX_BYTES:
        msg = f"it has more than {_MAX_BYTES:,} bytes"
        raise ValueError(msg)
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        msg = "it is no JSON, or only a part of it"
        raise ValueError(msg if data.strip() else "it is empty") from None
    if not isinstance(document, dict):
        msg = f"it is {show(document, 40)}, and no object"
        raise ValueError(msg)  # noqa: TRY004 - of a document
    return cast("Mapping[str, Any]", document)


def _status(document: Mapping[str, Any], task_id: str) -> Status:
    """
    Return the status that *document* says.

    Raises:
        ValueError: It is no status of the task.
    """
    state: Any = document.get("status")
    if state not in _STATES:
        msg = f"its status is {show(state, 40)}, which is none of {', '.join(_STATES)}"
        raise ValueError(msg + guess(str(state), _STATES))
    if document.get("task_id", task_id) != task_id:
        msg = f"it is that of task {show(document['task_id'], 80)}"
        raise ValueError(msg)
    fields = {name: read(document.get(name)) for name, read in _READERS.items()}
    return Status(task_id, state, **fields)


def _texts(value: Any) -> tuple[str, ...] | None:
    return tuple(map(str, value)) if isinstance(value, list) else None


def _amounts(value: Any) -> dict[str, float] | None:
    if not isinstance(value, dict):
        return None
    return {n: much for n, much in value.items() if is_number(much, 0, _LONGEST)}


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _moment(value: Any) -> str | None:
    """A moment as it is written; other tools write seconds since the epoch."""
    if is_number(value, 0, (1 << 33) - 1):
        return stamp(int(value))
    return _text(value)


#: How each other field is read: a value that it may not have is none.
_READERS: Final[Mapping[str, Callable[[Any], Any]]] = {
    "started_at": _moment,
    "completed_at": _moment,
    "agent_id": _text,
    "outputs_validated": lambda value: value if isinstance(value, bool) else None,
    "duration_seconds": lambda value: (
        float(value) if is_number(value, 0, _LONGEST) else None
    ),
    "exit_code": lambda value: value if type(value) is int else None,
    "error": _text,
    "blocked_by": _text,
    "spent": _amounts,
    "unenforced": _texts,
    "repairs": _texts,
}
