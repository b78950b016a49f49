"""A task file: Markdown, with a head of YAML that says how the task is run."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any, Final

import attrs

from taskorch.ext.budgets._declared import BUDGET
from taskorch.ext.task_files._fields import (
    LINE,
    LINES,
    CommandLine,
    Duration,
    Paths,
    Place,
    Priority,
    Problem,
    meant_by,
    read_fields,
    texts_in,
)
from taskorch.ext.task_files._layout import read_start
from taskorch.kit.forms import AMOUNT, DocumentOf, Number, ReadMapping, may_be
from taskorch.kit.located import Located, plain
from taskorch.kit.visible import show
from taskorch.kit.vocabulary import OTHER_RESOURCES
from taskorch.model.forms import SCOPES
from taskorch.model.ids import folder_of

#: The most bytes of the head.
MAX_HEAD: Final = 1 << 16
#: The most bytes of a whole file that is handed to a program.
_MAX_FILE: Final = 1 << 24
_BEGIN: Final = re.compile(rb"(?:\xef\xbb\xbf)?---[ \t]*\r?\n")
#: Fields that are lists, and those of them that name files.
_FILES: Final = ("inputs", "outputs", "gate")
_LISTS: Final = ("dependencies", "capability", "writes", *_FILES)
_END: Final = re.compile(rb"^(?:---|\.\.\.)[ \t]*\r?$", re.MULTILINE)


def _words(resource: str, factor: float) -> list[str]:
    """Other words for a resource, in a unit of so many of ours."""
    meant = (resource, factor)
    return [word for word, meaning in OTHER_RESOURCES.items() if meaning == meant]


@attrs.frozen
class HeldByFile:
    """
    The resources that a task takes, and its budget; each key has several names.

    Attributes:
        cpu: Cores.
        memory_mb: MiB.
        memory_gb: Or GiB.
        disk_mb: MiB that its program may write, where limits are enforced.
        spends: The amounts that it reserves of its budget.
    """

    cpu: float = attrs.field(default=0.0, metadata=may_be(Number(), *_words("cpu", 1)))
    memory_mb: float = attrs.field(
        default=0.0, metadata=may_be(Number(), *_words("memory_mb", 1))
    )
    memory_gb: float = attrs.field(
        default=0.0, metadata=may_be(Number(), *_words("memory_mb", 1024)[1:])
    )
    disk_mb: float = attrs.field(default=0.0, metadata=may_be(Number()))
    spends: Mapping[str, float] = attrs.field(factory=dict[str, float])


def _held(
    cpu: float = 0.0,
    memory_mb: float = 0.0,
    memory_gb: float = 0.0,
    disk_mb: float = 0.0,
    **spends: float,
) -> HeldByFile:
    if memory_mb and memory_gb:
        msg = "memory_gb: memory_mb is said, too"
        raise ValueError(msg)
    memory_mb = memory_mb or 1024 * memory_gb
    return HeldByFile(cpu, memory_mb, disk_mb=disk_mb, spends=spends)


@attrs.frozen
class TaskFile:
    """
    The head of a task file.

    Attributes:
        task_id: Its path in the folder of tasks, without the suffix.
        path: Its path as seen from the folder of the workspace.
        dependencies: Tasks that must complete before.
        inputs: Files of the folder of outputs that must exist at its start.
        outputs: Files of its folder of outputs that must exist at its end.
        gate: Files of the workspace that must exist at its end.
        writes: Paths that it may write; tasks that may write the same do not run
            together.
        agent: Its worker; None is any that can.
        command: Its program, instead of the worker's.
        capability: Capabilities that it needs.
        timeout: Seconds; None is that of its phase.
        estimate: Seconds, as its author estimates.
        resources: At most what a worker has.
        priority: Higher runs first.
        retries: Retries after a failure.
        budget: The budget that it draws on; None is that of its phase, or of all.
        rest: Texts in fields that mean nothing here, by the name of the field.
        places: Where its fields, and the items of its lists, stand.
    """

    task_id: str
    path: str
    dependencies: tuple[str, ...] = attrs.field(default=(), metadata=may_be(LINES))
    inputs: tuple[str, ...] = attrs.field(
        default=(), metadata=may_be(Paths("inputs are in the folder of outputs"))
    )
    outputs: tuple[str, ...] = attrs.field(
        default=(), metadata=may_be(Paths("outputs are in the folder of the task"))
    )
    gate: tuple[str, ...] = attrs.field(
        default=(), metadata=may_be(Paths("a gate is in the folder of the workspace"))
    )
    writes: tuple[str, ...] | None = attrs.field(default=None, metadata=may_be(SCOPES))
    agent: str | None = attrs.field(default=None, metadata=may_be(LINE))
    command: tuple[str, ...] | None = attrs.field(
        default=None, metadata=may_be(CommandLine())
    )
    capability: tuple[str, ...] = attrs.field(default=(), metadata=may_be(LINES))
    timeout: float | None = attrs.field(default=None, metadata=may_be(Duration()))
    estimate: float | None = attrs.field(default=None, metadata=may_be(Duration()))
    resources: HeldByFile = attrs.field(
        default=HeldByFile(),
        metadata=may_be(DocumentOf(HeldByFile, make=_held, nulls=True, rest=AMOUNT)),
    )
    priority: int = attrs.field(default=0, metadata=may_be(Priority()))
    retries: int = attrs.field(default=0, metadata=may_be(Number(is_whole=True)))
    budget: str | None = attrs.field(default=None, metadata=may_be(BUDGET))
    rest: dict[str, frozenset[str]] = attrs.field(
        factory=dict[str, frozenset[str]], repr=False, eq=False
    )
    places: dict[str, Place] = attrs.field(
        factory=dict[str, Place], repr=False, eq=False
    )

    def problem(self, key: str, text: str, *, stops: bool = True) -> Problem:
        """Return a problem of a field, or an item such as `inputs/a.md`."""
        return Problem(self.path, *self.places.get(key, (1, 1)), text, stops)

    @property
    def cpu(self) -> float:
        """Cores that it takes."""
        return self.resources.cpu

    @property
    def memory_mb(self) -> float:
        """MiB that it takes."""
        return self.resources.memory_mb

    @property
    def phase(self) -> str:
        """The folder of the task; "" for none."""
        return folder_of(self.task_id)


def read_task_file(
    file: Path, task_id: str, shown: str, problems: list[Problem]
) -> TaskFile | None:
    """
    Return the task in *file*.

    Its faults go to *problems*, under the path *shown*.

    Returns:
        The task, as far as it could be read; None if nothing could.
    """
    text = _head(file, shown, problems)
    if text is None:
        return None
    rest: dict[str, frozenset[str]] = {}
    places: dict[str, Place] = {}

    def other(name: Located, value: Located) -> None:
        near, stops = meant_by(TaskFile, name.value, value)
        place = name.place.line, name.place.column
        if near is None:
            rest[name.value] = frozenset(texts_in(value))
            places[name.value] = place
        else:
            message = f"there is no {show(name.value, 60)} here; did you mean {near!r}?"
            problems.append(Problem(shown, *place, message, stops))

    entry, _ = read_fields(TaskFile, text, shown, problems, offset=1, others=other)
    if entry is None:
        return None
    values: dict[str, Any] = {
        name: tuple(dict.fromkeys(value)) if name in _LISTS else value
        for name, value in entry.values.items()
    }
    places |= _places_of(entry)
    return TaskFile(task_id, shown, **values, rest=rest, places=places)


def _places_of(entry: ReadMapping) -> dict[str, Place]:
    """Return the places of the fields of a head, and of their items."""
    names = "resources", "agent", "capability", "budget"
    places: dict[str, Place] = dict.fromkeys(names, (2, 1))
    for name, (_, node) in entry.nodes.items():
        places[name] = node.place.line, node.place.column
        if isinstance(node.value, dict):
            for word, _ in node.value.values():
                place = word.place.line, word.place.column
                places.setdefault(f"{name}/{word.value}", place)
            continue
        for item in node.value if isinstance(node.value, list) else [node]:
            if name in _LISTS and isinstance(item.value, str):
                text = item.value.strip()
                text = str(PurePosixPath(text)) if name in _FILES else text
                place = item.place.line, item.place.column
                places.setdefault(f"{name}/{text}", place)
    return places


def head_of(file: Path, shown: str, problems: list[Problem]) -> dict[str, Any] | None:
    """Return the head of *file* as it stands there; None if it cannot be read."""
    text = _head(file, shown, problems)
    if text is None:
        return None
    entry, node = read_fields(
        TaskFile, text, shown, problems, offset=1, others=lambda *_: None
    )
    if entry is None:
        return None
    head: dict[str, Any] = plain(node)
    for name in ("dependencies", "inputs", "outputs"):
        value = head.get(name)
        items = [] if value is None else value if isinstance(value, list) else [value]
        head[name] = [each.strip() for each in items if isinstance(each, str)]
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


def _head(file: Path, shown: str, problems: list[Problem]) -> str | None:
    """The text of the head."""

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
        return head.decode()
    except UnicodeDecodeError as error:
        line = head.count(b"\n", 0, error.start) + 2
        note("the frontmatter is no UTF-8: save the file as that", line)
        return None


def _no_head(data: bytes) -> str:
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "the file is in UTF-16: save it as UTF-8"
    if data.lstrip().startswith(b"---"):
        return "frontmatter begins with a line '---', which must be the first one"
    return (
        "there is no frontmatter: begin with a line '---', then `dependencies: []` and "
        "so on, then a line '---'"
    )
