"""
What import-linter does not see: names that are built in, and imports made by call.

The contracts on imports themselves stand in pyproject.toml, under `importlinter`.
"""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path
from typing import Any

import taskorch

SOURCE = Path(taskorch.__file__).parent
#: The packages that decide, and do no input or output.
PURE = ("errors.py", "events", "core/kernel", "model", "protocols")
#: Built in, and therefore never imported.
FORBIDDEN_CALLS = {
    "__import__",
    "breakpoint",
    "eval",
    "exec",
    "globals",
    "id",
    "input",
    "open",
    "print",
}
FORBIDDEN_MODULES = {"importlib", "io", "sys"}


def pure_files() -> list[Path]:
    found: list[Path] = []
    for part in PURE:
        path = SOURCE / part
        found += sorted(path.rglob("*.py")) if path.is_dir() else [path]
    return found


def name_of(path: Path) -> str:
    return str(path.relative_to(SOURCE))


def faults(tree: ast.AST) -> list[str]:
    found: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            if node.func.id in FORBIDDEN_CALLS:
                found.append(f"line {node.lineno}: {node.func.id}()")
        elif isinstance(node, ast.Import):
            names = {alias.name.partition(".")[0] for alias in node.names}
            found += [
                f"line {node.lineno}: import {name}"
                for name in names & FORBIDDEN_MODULES
            ]
        elif isinstance(node, ast.ImportFrom):
            name = (node.module or "").partition(".")[0]
            if name in FORBIDDEN_MODULES:
                found.append(f"line {node.lineno}: from {name} import …")
        elif isinstance(node, ast.Global):
            found.append(f"line {node.lineno}: global {', '.join(node.names)}")
    return found


#: A file with a fault has one of these words.
WORDS = re.compile(
    rf"(?<![.\w])(?:{'|'.join(FORBIDDEN_CALLS)})\(|\bglobal "
    rf"|\b(?:from|import) (?:{'|'.join(FORBIDDEN_MODULES)})\b"
)


def test_the_core_touches_nothing_outside_itself():
    texts = [(path, path.read_text(encoding="utf-8")) for path in pure_files()]
    suspects = [(path, text) for path, text in texts if WORDS.search(text)]
    assert len(suspects) > 3
    for path, text in suspects:
        assert not faults_of(path, text), path


def faults_of(path, text):
    """What a file of the core touches, but for what it may."""
    found = faults(ast.parse(text))
    if path.name in ("_task.py", "_event.py"):
        # They write functions of the names of their own fields, as attrs does.
        found = [fault for fault in found if not fault.endswith("exec()")]
    if path.name == "_arguments.py":
        # It knows again by it what is there twice; no result depends on the number.
        found = [fault for fault in found if not fault.endswith(" id()")]
    if path.name == "__init__.py":
        # A door loads parts of its own room when they are asked for.
        of_doors = (" from importlib import …", " globals()")
        found = [fault for fault in found if not fault.endswith(of_doors)]
    return found


def test_a_fault_would_be_seen():
    code = "def f():\n    global x\n    print(open('a'))\nfrom sys import path\n"

    assert len(faults(ast.parse(code))) == 4
    assert len(WORDS.findall(code)) == 4


def for_annotations(tree: ast.AST) -> set[ast.AST]:
    """What stands under `if TYPE_CHECKING`."""
    return {
        inside
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for part in node.body
        for inside in ast.walk(part)
    }


def imports_to_run(tree: ast.AST) -> list[tuple[int, list[str]]]:
    """The lines that import something, and not for annotations, each with the names."""
    annotations = for_annotations(tree)
    imports = []
    for node in ast.walk(tree):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            # A module is imported from its room, too.
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        if names and node not in annotations:
            imports.append((node.lineno, names))
    return imports


def imported_to_run(tree: ast.AST, name: str) -> list[int]:
    """The lines that import *name*, or something of it, and not for annotations."""
    return of_name(imports_to_run(tree), name)


def of_name(imports: list[tuple[int, list[str]]], name: str) -> list[int]:
    return [
        line
        for line, names in imports
        if any(f"{each}.".startswith(f"{name}.") for each in names)
    ]


def under(layers: list[str], name: str) -> list[str]:
    """What stands on the floor of *name*, but for itself, or below."""
    floors = [re.findall(r"\w+", layer) for layer in layers]
    (floor,) = [i for i, names in enumerate(floors) if name in names]
    return [each for names in floors[floor:] for each in names if each != name]


#: The kit stands on both sides of the errors: contracts of its own hold what is where.
BOTH_SIDES = "taskorch.kit.*"
#: What is asked of extensions is to go, wherever it stands.
OF_EXTENSIONS = "taskorch.ext."


def ignored_in(contract: dict[str, Any]) -> list[tuple[str, str]]:
    """What is imported for annotations alone, as a contract has it: modules, by pairs."""
    pairs: list[tuple[str, str]] = []
    for each in contract.get("ignore_imports", ()):
        module, name = each.split(" -> ")
        if module == BOTH_SIDES or name.startswith(OF_EXTENSIONS):
            continue
        room, _, last = module.rpartition(".")
        modules = [module]
        if last == "*":
            # What stands above may import it anyway.
            target = name.removeprefix(f"{room}.")
            modules = [f"{room}.{one}" for one in under(contract["layers"], target)]
        pairs += [(module, name) for module in modules]
    return pairs


def test_what_the_contracts_ignore_is_imported_for_annotations():
    project = Path(__file__).parents[3] / "pyproject.toml"
    contracts = tomllib.loads(project.read_text("utf-8"))["tool"]["importlinter"][
        "contracts"
    ]
    ignored = [pair for contract in contracts for pair in ignored_in(contract)]
    assert ("taskorch.core.engine._work", "taskorch.core.engine._runtime") in ignored
    imports: dict[Path, list[tuple[int, list[str]]]] = {}
    faults = []
    for module, name in ignored:
        path = SOURCE.parent / f"{module.replace('.', '/')}.py"
        if not path.exists():
            path = path.with_suffix("") / "__init__.py"
        if path not in imports:
            imports[path] = imports_to_run(ast.parse(path.read_text("utf-8")))
        lines = of_name(imports[path], name)
        faults += [f"{name_of(path)}:{line} imports {name}" for line in lines]
    assert faults == []


def test_an_import_that_is_made_would_be_seen():
    code = """
import os
from os.path import join
if TYPE_CHECKING:
    from os import PathLike
else:
    from os import fspath
def join():
    import os
"""

    assert imported_to_run(ast.parse(code), "os") == [2, 3, 7, 9]
    assert imported_to_run(ast.parse(code), "os.path") == [3]
    assert imported_to_run(ast.parse("from os import path"), "os.path") == [1]


def test_all_that_stands_below_is_asked_for():
    contract = {
        "layers": ["_top", "_a : _b", "_c | (_d)"],
        "ignore_imports": ["room.* -> room._a", "room._d -> room._c"],
    }
    below = [("room._b", "room._a"), ("room._c", "room._a"), ("room._d", "room._a")]
    assert ignored_in(contract) == [*below, ("room._d", "room._c")]


def by_number(tree: ast.AST) -> list[int]:
    """The lines that read a field of a fact by its number."""
    return [
        node.lineno
        for node in ast.walk(tree)
        if isinstance(node, ast.Subscript)
        and ast.unparse(node.value) in {"fact", "entry[0]"}
        and any(isinstance(part, ast.Constant) for part in ast.walk(node.slice))
    ]


def test_events_are_read_by_name():
    """As attributes, or at a place that has the name of the field."""
    found = {
        f"{path.relative_to(SOURCE)}:{line}"
        for path in SOURCE.rglob("*.py")
        if re.search(r"(\bfact|\bentry\[0\])\s*\[", text := path.read_text("utf-8"))
        for line in by_number(ast.parse(text))
    }
    assert not found
    assert by_number(ast.parse("fact[3]; entry[0][1]; fact[4:]; fact[SEQ]")) == [1] * 3
