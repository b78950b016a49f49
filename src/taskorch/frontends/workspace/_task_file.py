"""A task file: Markdown, with a head of YAML that says how the task is run."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Final

import attrs

from taskorch.frontends.workspace._fields import Fields, Place
from taskorch.frontends.workspace._layout import phase_of, read_start
from taskorch.frontends.workspace._problems import Problem

#: Bytes in which the head must end.
MAX_HEAD: Final = 1 << 16
#: Bytes of the whole file, where it is handed to a program.
_MAX_FILE: Final = 1 << 24
_BEGIN: Final = re.compile(rb"(?:\xef\xbb\xbf)?---[ \t]*\r?\n")
_END: Final = re.compile(rb"^(?:---|\.\.\.)[ \t]*\r?$", re.MULTILINE)


@attrs.frozen
class TaskFile:
    """
    The head of a task file.

    Attributes:
        task_id: Its path in the folder of tasks, without the suffix.
        path: Its path as seen from the folder of the workspace.
        dependencies: Ids of tasks that must have completed.
        inputs: Files that must be there before it starts, in the folder of outputs.
        outputs: Files that must be there when it has ended, in its folder of outputs.
        gate: Files that must be there when it has ended, in the workspace.
        agent: The name of the agent that does it; None is any that can.
        command: The program that does it, in the place of the agent's.
        capability: What its agent must be capable of.
        timeout: Seconds; None is what holds for its phase.
        estimate: Seconds that it will take, by whoever wrote it.
        cpu: Cores that it takes.
        memory_mb: MiB that it takes.
        priority: Higher runs first.
        retries: How often it is run again if it has failed.
        rest: Texts in fields that mean nothing here, by the name of the field.
        places: Where its fields, and the items of its lists, stand.
    """

    task_id: str
    path: str
    dependencies: tuple[str, ...] = ()
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    gate: tuple[str, ...] = ()
    agent: str | None = None
    command: tuple[str, ...] | None = None
    capability: tuple[str, ...] = ()
    timeout: float | None = None
    estimate: float | None = None
    cpu: float = 0.0
    memory_mb: float = 0.0
    priority: int = 0
    retries: int = 0
    rest: dict[str, frozenset[str]] = attrs.field(
        factory=dict[str, frozenset[str]], repr=False, eq=False
    )
    places: dict[str, Place] = attrs.field(
        factory=dict[str, Place], repr=False, eq=False
    )

    @property
    def phase(self) -> str:
        """The folder of the task; "" for none."""
        return phase_of(self.task_id)


def read_task_file(
    file: Path, task_id: str, shown: str, problems: list[Problem]
) -> TaskFile | None:
    """
    The task in *file*.

    What is wrong with it goes to *problems*, under the path *shown*.

    Returns:
        The task, as far as it could be read; None if nothing could.
    """
    fields = _head(file, shown, problems)
    return None if fields is None else _task(fields, task_id, shown)


def head_of(file: Path, shown: str, problems: list[Problem]) -> dict[str, Any] | None:
    """What the head of *file* says, as it stands there; None if it cannot be read."""
    fields = _head(file, shown, problems)
    if fields is None:
        return None
    head = fields.plain()
    for name in ("dependencies", "inputs", "outputs"):
        head[name] = list(fields.texts(name))
    return head


def body_of(file: Path) -> str:
    """
    The Markdown of a task file, without its head.

    Raises:
        OSError: It cannot be read.
        ValueError: It is no UTF-8, or has more than 16 MiB.
    """
    data = read_start(file, _MAX_FILE + 1)
    if len(data) > _MAX_FILE:
        msg = f"{file} has more than {_MAX_FILE:,} bytes"
        raise ValueError(msg)
    begin = _BEGIN.match(data)
    end = _END.search(data, begin.end()) if begin else None
    rest = data[end.end() :] if end else data
    return rest.decode().lstrip("\r\n")


def _head(file: Path, shown: str, problems: list[Problem]) -> Fields | None:
    """The fields of the head."""

    def note(text: str, line: int = 1) -> None:
        problems.append(Problem(shown, line, 1, text))

    try:
        data = read_start(file, MAX_HEAD + 1)
    except OSError as error:
        note(f"this file cannot be read: {error.strerror or error}")
        return None
    begin = _BEGIN.match(data)
    if begin is None:
        note(_no_head(data))
        return None
    end = _END.search(data, begin.end())
    if end is None:
        where = f" within {MAX_HEAD:,} bytes" if len(data) > MAX_HEAD else ""
        note(f"the frontmatter that begins here has no end: add a line '---'{where}")
        return None
    head = data[begin.end() : end.start()]
    try:
        text = head.decode()
    except UnicodeDecodeError as error:
        line = head.count(b"\n", 0, error.start) + 2
        note("the frontmatter is no UTF-8: save the file as that", line)
        return None
    return Fields.of_text(shown, text, 1, problems)


def _no_head(data: bytes) -> str:
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "the file is in UTF-16: save it as UTF-8"
    if data.lstrip().startswith(b"---"):
        return "frontmatter begins with a line '---', which must be the first one"
    return (
        "there is no frontmatter: begin with a line '---', then `dependencies: []` and "
        "so on, then a line '---'"
    )


def _task(fields: Fields, task_id: str, path: str) -> TaskFile:
    resources = fields.mapping("resources")
    cpu = memory = 0.0
    if resources is not None:
        cpu, memory = resources.amounts("cpu", "memory_mb")
        resources.note_unknown(all_of_them=True)
    task = TaskFile(
        task_id=task_id,
        path=path,
        dependencies=tuple(dict.fromkeys(fields.texts("dependencies"))),
        inputs=fields.paths("inputs", "inputs are in the folder of outputs"),
        outputs=fields.paths("outputs", "outputs are in the folder of the task"),
        gate=fields.paths("gate", "a gate is in the folder of the workspace"),
        agent=fields.text("agent"),
        command=fields.command("command"),
        capability=fields.texts("capability"),
        timeout=fields.seconds("timeout"),
        estimate=fields.seconds("estimate"),
        cpu=cpu,
        memory_mb=memory,
        priority=fields.priority("priority"),
        retries=fields.count("retries", least=0) or 0,
        places=fields.items,
    )
    for name in ("resources", "agent", "capability"):
        task.places[name] = fields.place(name)
    task.rest.update(fields.note_unknown(all_of_them=False))
    return task
