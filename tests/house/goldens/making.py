"""
What users see of taskorch, as texts, each always the same from the same code.

`python -m tests.house.goldens.making` writes them anew: what then differs is what a change
has changed for users.
"""

from __future__ import annotations

import contextlib
import inspect
import io
import json
import os
import re
import sqlite3
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final
from unittest import mock

from tests.ext.service.tools import orchestrator, served
from tests.house.goldens import recorded
from tests.house.goldens.documents import documents
from tests.house.packaging.public_names import public_names, public_values
from tests.house.tools.explore import explore

from taskorch import SqliteJournal, TaskOrchestrator, TaskState
from taskorch.core.kernel import Kernel, explain
from taskorch.errors import TaskorchError
from taskorch.events import Event
from taskorch.ext.command_line import COMMANDS, main
from taskorch.testing import Simulation

FOLDER: Final = Path(__file__).with_name("texts")

# -- the command line ------------------------------------------------------------------


def helps() -> str:
    """The help of each command."""
    words: list[list[str]] = [[], *([command] for command in COMMANDS)]
    texts: list[str] = []
    while words:
        command = words.pop(0)
        text = _help(command)
        texts.append(f"$ taskorch {' '.join([*command, '--help'])}\n{text}")
        if command and "COMMAND" in text.splitlines()[0]:
            words += [[*command, name] for name in _commands(text)]
    return "\n".join(texts)


def _help(command: Sequence[str]) -> str:
    out = io.StringIO()
    plain = {"COLUMNS": "88", "NO_COLOR": "1"}
    with (
        mock.patch.dict(os.environ, plain),
        contextlib.redirect_stdout(out),
        contextlib.suppress(SystemExit),
    ):
        main([*command, "--help"])
    return out.getvalue()


def _commands(text: str) -> list[str]:
    """The commands that a help lists."""
    return re.findall(r"^    (\w[\w-]*) ", text, re.MULTILINE)


# -- the service -----------------------------------------------------------------------


def openapi() -> str:
    """What the service says of itself, with all that it may have."""
    with (
        tempfile.TemporaryDirectory() as artifacts,
        served(
            orchestrator(),
            functions={"double": lambda n: 2 * n},
            token=None,
            agents=True,
            artifacts=Path(artifacts),
            page=True,
        ) as service,
    ):
        document = service.get("/openapi.json")
    document["info"].pop("version", None)
    return json.dumps(document, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


# -- names -----------------------------------------------------------------------------


def signatures() -> str:
    """Of each public function, class and method, what it takes and gives."""
    lines: list[str] = []
    for name, value in sorted(public_names().items()):
        if not inspect.isclass(value):
            lines.append(f"{name}{_signature(value)}")
            continue
        bases = ", ".join(base.__name__ for base in value.__bases__)
        lines.append(f"class {name}({bases}){_signature(value)}")
        for part, member in sorted(_members(value)):
            if isinstance(member, property):
                lines.append(f"    {part}: {_annotation(member.fget)}")
            else:
                lines.append(f"    {part}{_signature(member)}")
    return "\n".join(lines) + "\n"


def _members(cls: type) -> Iterator[tuple[str, Any]]:
    for name, member in vars(cls).items():
        inner = inspect.unwrap(getattr(member, "__func__", member))
        if name.startswith("_"):
            continue
        if inspect.isfunction(inner) or isinstance(member, property):
            yield name, member if isinstance(member, property) else inner


def _annotation(function: Any) -> str:
    return str(function.__annotations__.get("return", "Any"))


def _signature(value: Any) -> str:
    if not callable(value):
        return f" = {type(value).__name__}"
    try:
        text = str(inspect.signature(value))
    except (TypeError, ValueError):
        return "(…)"
    # The order of a set is another in each process.
    text = re.sub(r"frozenset\(\{([^}]*)\}\)", _in_order, text)
    return re.sub(r" at 0x[0-9a-f]+", "", text)


def _in_order(names: re.Match[str]) -> str:
    return f"frozenset({{{', '.join(sorted(names[1].split(', ')))}}})"


# -- what is refused -------------------------------------------------------------------

WRONG: Final[Sequence[Any]] = (
    *(None, True, -1, 0, 10**400, 0.5, float("nan"), float("inf")),
    *("", "no such", " x ", "a/b", "a~1", "x\n", b"x", (), ["x"], ["", "x"]),
    *({}, {"x": 1}, {"cpu": -1}, {1: 2}, object),
)
#: What classes must be given.
NEEDED: Final = {
    **dict.fromkeys(("name", "question", "text", "type", "task_id", "id"), "x"),
    "args": ["x"],
    "choices": ["yes", "no"],
    "least": 1,
    "seconds": 1.0,
    "units": {"cpu": 2},
    "max_attempts": 3,
    "fn": abs,
    "state": TaskState.COMPLETED,
    "by": "x",
}


def refusals() -> str:
    """What is said of wrong values for what public values and settings are given."""
    lines: list[str] = []
    untried: list[str] = []
    classes = [cls for cls in public_values() if "events" not in cls.__module__]
    for cls in sorted(classes, key=lambda cls: cls.__name__):
        parameters = inspect.signature(cls).parameters.values()
        needed = {
            each.name: NEEDED.get(each.name)
            for each in parameters
            if each.default is each.empty and each.kind is not each.VAR_KEYWORD
        }
        try:
            cls(**needed)
        except Exception:
            untried.append(cls.__name__)
            continue
        for name in inspect.signature(cls).parameters:
            lines += _refused(cls, needed, name)
    for name in inspect.signature(TaskOrchestrator).parameters:
        lines += _refused(TaskOrchestrator, {}, name)
    lines.append(f"Not tried: {', '.join(untried)}.")
    return "\n".join(lines) + "\n"


def _refused(cls: type, needed: dict[str, Any], name: str) -> list[str]:
    """A line for each text, with all values for which it comes."""
    values: dict[str, list[str]] = {}
    for value in WRONG:
        try:
            cls(**{**needed, name: value})
        except TaskorchError as error:
            hint = getattr(error, "hint", None)
            text = f"{type(error).__name__}: {error}" + f" | {hint}" * bool(hint)
        except Exception as error:
            text = f"{type(error).__name__} of Python: {error}"
        else:
            continue
        shown = "10**400" if value == 10**400 else repr(value)
        pattern = rf"(?<![\w.]){re.escape(repr(value))}(?!\w)"
        text = re.sub(pattern, "…", text)
        text = re.sub(r"10{50,}…?|an integer of about \d+ digits", "…", text)
        text = text.replace("\n", "\\n")
        values.setdefault(text, []).append(shown)
    return [
        f"{cls.__name__}.{name} = {', '.join(shown)}: {text}"
        for text, shown in values.items()
    ]


# -- explanations and the journal, of seeded runs --------------------------------------

#: Others take as long as all of these, and hardly a sentence comes of them alone.
SEEDS: Final = (*range(3), *(4, 5, 6, 9, 10, 12, 13, 15, 16, 17, 19, 20, 22, 23))
RUNS: Final = range(12)
#: Steps between two looks at the tasks, and how many tasks each has at most.
EVERY: Final = 3
MOST: Final = 8


class _Explained:
    """Observer of a simulation: what is said of tasks, but for numbers and names."""

    def __init__(self) -> None:
        self.states = 0
        self.sentences: set[str] = set()
        self._steps = 0

    def step(
        self, kernel: Kernel, items: Sequence[tuple[Event, Any]], now: int
    ) -> None:
        """Look at the tasks, now and then."""
        del items
        self._steps += 1
        if self._steps % EVERY:
            return
        rows = [*kernel.tasks.values()]
        apart = -(-len(rows) // MOST) or 1
        # Others at each look, so that all have their turn.
        for row in rows[self._steps // EVERY % apart :: apart]:
            self.states += 1
            text = str(explain(kernel, row, now))
            self.sentences.update(map(_plain, text.splitlines()))

    def crashed(self, acknowledged: Any) -> None:
        """See `Observer.crashed`."""

    def recovered(self, kernel: Kernel, now: int) -> None:
        """See `Observer.recovered`."""

    def finished(self, kernel: Kernel) -> None:
        """See `Observer.finished`."""


def _plain(sentence: str) -> str:
    """A sentence without numbers, drawn names, and the lengths of lists."""
    sentence = re.sub(r"\d+(\.\d+)?", "#", sentence)
    sentence = re.sub(r"(\w#(-#)?[~#/]*)+", "#", sentence)
    sentence = re.sub(r"\b(worker,?) \w\b", r"\1 #", sentence)
    return re.sub(r"(#, )+#", "#, …", sentence)


def explanations() -> str:
    """The sentences on tasks in states of seeded runs."""
    observer = _Explained()
    for seed in SEEDS:
        explore(seed, check=observer)
    for seed in RUNS:
        explore(seed, check=observer, workflows=True)
    return "\n".join([f"states: {observer.states}", *sorted(observer.sentences), ""])


def journals() -> str:
    """The rows that a journal has of seeded runs."""
    lines: list[str] = []
    for seed in range(4):
        lines += [f"seed {seed}", *_rows(explore(seed))]
    return "\n".join(lines) + "\n"


def _rows(simulation: Simulation) -> Iterable[str]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "journal.db"
        journal = SqliteJournal(path)
        owner = journal.claim()
        simulated = simulation.world.journal
        assert simulated is not None
        journal.append(
            owner,
            [
                (event, None if value is None else journal.document(value))
                for event, value in simulated.read()
            ],
        )
        journal.close()
        with contextlib.closing(sqlite3.connect(path)) as database:
            return [repr(row) for row in database.execute("SELECT * FROM facts")]


TEXTS: Final[dict[str, Callable[[], str]]] = {
    "help.txt": helps,
    "openapi.json": openapi,
    "signatures.txt": signatures,
    "refusals.txt": refusals,
    "documents.txt": documents,
    "explanations.txt": explanations,
    "journals.txt": journals,
}

if __name__ == "__main__":
    if sys.argv[1:2] == ["--journal"]:
        recorded.keep(sys.argv[2])
        sys.exit()
    for file, make in TEXTS.items():
        if not sys.argv[1:] or file in sys.argv[1:]:
            (FOLDER / file).write_text(make(), encoding="utf-8")
