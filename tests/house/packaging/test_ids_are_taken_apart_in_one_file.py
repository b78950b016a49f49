"""What an id says is read, and ids are made, by the functions of one file."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[3] / "src" / "taskorch"
OWN = "model/ids.py"
#: Files that take other texts apart, and which.
OTHER_TEXTS = {
    "ext/governance/_audit.py": "rules of permits",
    "model/scopes.py": "paths of files",
    "kit/machine.py": "paths of control groups",
    "core/executors/_programs/_governor.py": "paths of control groups",
    "core/executors/_programs/_isolation.py": "paths of files",
    "core/executors/_programs/_run.py": "names of logs, which are paths",
    "core/executors/_programs/_spawn.py": "names of programs",
    "model/_program.py": "paths of files",
    "ext/planner/_texts.py": "names of time zones",
    "policies/_rhythm.py": "keys of documents",
    "kit/findings.py": "references of a JSON Schema",
    "ext/mcp/_resources.py": "addresses",
    "ext/service/_submissions.py": "references of a JSON Schema",
    "ext/suites/_placeholders.py": "paths of files",
    "ext/task_files/_fields.py": "paths of files",
    "ext/task_files/_layout.py": "paths of files",
    "ext/task_files/_scan.py": "paths of files",
}
SIGNS = ("/", "~")
SPLITS = {"partition", "rpartition", "split", "rsplit"}
ENDS = {"startswith", "endswith", "removeprefix", "removesuffix"}
#: Variables whose value, followed by a sign, is the beginning of an id.
RUNS = {"run_id", "_run_id", "workflow_id", "_RUN", "stem"}
#: A text without any of it has nothing of ids.
SEEN = re.compile(rf"""[/~]["']|(?:{"|".join(RUNS)})\}}[/~]""")


def is_sign(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value in SIGNS


def is_text_with_sign(node: ast.expr) -> bool:
    """Whether it is f"{something}/": how what belongs to something begins."""
    return (
        isinstance(node, ast.JoinedStr)
        and isinstance(last := node.values[-1], ast.Constant)
        and str(last.value).endswith(SIGNS)
    )


def is_made(node: ast.JoinedStr) -> bool:
    """Whether it is f"{run_id}/…" or f"…~{number}"."""
    for part, after in zip(node.values, node.values[1:], strict=False):
        if not (
            isinstance(part, ast.FormattedValue) and isinstance(after, ast.Constant)
        ):
            continue
        name = part.value
        called = getattr(name, "attr", None) or getattr(name, "id", None)
        if called in RUNS and str(after.value).startswith(SIGNS):
            return True
    return False


def is_of_ids(node: ast.expr) -> bool:
    if (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.args
    ):
        first, verb = node.args[0], node.func.attr
        if verb in SPLITS:
            return is_sign(first)
        return verb in ENDS and is_text_with_sign(first)
    if isinstance(node, ast.Compare):
        return isinstance(node.ops[0], ast.In | ast.NotIn) and is_sign(node.left)
    return isinstance(node, ast.JoinedStr) and is_made(node)


def places(text: str) -> Iterator[int]:
    """The lines of *text* that take an id apart, or make one."""
    if SEEN.search(text):
        nodes = (n for n in ast.walk(ast.parse(text)) if isinstance(n, ast.expr))
        yield from (node.lineno for node in nodes if is_of_ids(node))


def test_ids_are_taken_apart_in_one_file() -> None:
    strays = [
        f"{name}:{line}"
        for file in sorted(SOURCE.rglob("*.py"))
        if (name := file.relative_to(SOURCE).as_posix()) not in {OWN, *OTHER_TEXTS}
        for line in places(file.read_text(encoding="utf-8"))
    ]
    assert not strays, f"call a function of {OWN}, or add one there: {strays}"


def test_every_file_with_other_texts_has_some() -> None:
    idle = [n for n in OTHER_TEXTS if not [*places((SOURCE / n).read_text("utf-8"))]]
    assert not idle, f"these need no exception any more: {idle}"


@pytest.mark.parametrize(
    "text",
    [
        "run, slash, _ = task_id.partition('/')",
        "stem = task_id.partition('~')[0]",
        "parts = name.rsplit('/', 1)",
        "is_again = '~' in task_id",
        "ours = row.id.startswith(f'{run}/')",
        "name = task_id.removeprefix(f'{run}/')",
        "task_id = f'{self.workflow_id}/{name}'",
        "later = f'{stem}~{number}'",
    ],
)
def test_what_takes_an_id_apart_is_noticed(text: str) -> None:
    assert [*places(text)] == [1]


@pytest.mark.parametrize(
    "text",
    ["path.split(':')", "x in '/~'", "url = f'{base}/tasks'", "a.startswith('/')"],
)
def test_other_texts_are_not_meant(text: str) -> None:
    assert not [*places(text)]
