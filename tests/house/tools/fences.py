"""
What keeps the core and its extensions apart, as lists that may only become shorter.

    python -m tests.house.tools.fences                   what differs from the lists
    python -m tests.house.tools.fences --write           write them, if none becomes longer
    python -m tests.house.tools.fences --write bound     what deletions break, too: minutes

What drives the core in virtual time (`core.worlds`), and what users test with
(`testing`), may use all of the core, and no list counts it.

The lists are in `tests/house/packaging/fences`, with an entry a line:

    taken       names that an extension takes from elsewhere, and that are neither public
                nor in the kit
    asked       names of extensions that the core imports, late ones and those for
                annotations included
    circles     files that import each other in a circle, annotations included
    private     private attributes of another room, by the file that uses them
    classes     classes that are too large
    conditions  functions with a condition that asks too much at once
    ways        what a task costs, in calls, changes of file and files
    bound       extensions that cannot be deleted, and what fails without each

Decision: extensions.
"""

from __future__ import annotations

import argparse
import ast
import gc
import re
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from operator import gt
from pathlib import Path
from typing import Final

from tests.house.tools.extensions import (
    EXTENSIONS,
    SOURCE,
    copy_without,
    environment,
    extension_of,
    faults_of_acts,
)

FOLDER: Final = Path(__file__).parents[1] / "packaging" / "fences"
PUBLIC: Final = FOLDER.with_name("exported_names.txt")
WAYS: Final = Path(__file__).with_name("ways.py")
COMMAND: Final = "python -m tests.house.tools.fences --write"
#: What any extension may use.
KIT: Final = "taskorch.kit."
#: The rooms that may use all of the core.
INSIDERS: Final = "core.worlds", "testing"
MOST_LINES: Final = 700
MOST_ATTRIBUTES: Final = 40
MOST_OPERANDS: Final = 7
#: What has no parts: of a million nodes these are most.
LEAVES: Final = frozenset(
    (
        *(str, int, type(None), ast.Name, ast.Constant, ast.Pass, ast.Global),
        *ast.expr_context.__subclasses__(),
        *ast.operator.__subclasses__(),
        *ast.unaryop.__subclasses__(),
        *ast.boolop.__subclasses__(),
        *ast.cmpop.__subclasses__(),
    )
)
#: What the lists are made of, besides classes and functions.
NOTED: Final = frozenset((ast.Attribute, ast.BoolOp, ast.Import, ast.ImportFrom))
#: Named tuples have these, and they are public.
OF_TUPLES: Final = frozenset(("_asdict", "_fields", "_make", "_replace"))

# -- what the sources say --------------------------------------------------------------


class Sources:
    """
    What is written in the files of the package.

    Attributes:
        places: The modules, and where each is below the package.
        imports: By module, the names that it imports of ours, each with its module.
        uses: Private attributes of others: the module, the attribute.
        owners: The rooms that define a private name.
        classes: Of each class, how many lines and how many attributes it has.
        conditions: Of each function with any, the operands of its longest condition.
    """

    def __init__(self, source: Path) -> None:
        self.places: dict[str, str] = {}
        self.imports: dict[str, set[tuple[str, str]]] = defaultdict(set)
        self.uses: set[tuple[str, str]] = set()
        self.owners: dict[str, set[str]] = defaultdict(set)
        self.classes: dict[str, tuple[int, int]] = {}
        self.conditions: dict[str, int] = defaultdict(int)
        for path in sorted(source.rglob("*.py")):
            place = path.relative_to(source)
            parts = ["taskorch", *place.with_suffix("").parts]
            name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            self.places[name] = place.as_posix()
        for name, below in self.places.items():
            self._read(name, ast.parse((source / below).read_text("utf-8")))

    def _read(self, module: str, tree: ast.AST) -> None:
        todo: list[tuple[ast.AST, set[str], str]] = [(tree, set(), "")]
        classes: list[tuple[str, int, set[str]]] = []
        while todo:
            # With each node, the attributes of the class that it is in, and its function.
            node, attributes, function = todo.pop()
            if isinstance(node, ast.ClassDef):
                attributes = _declared(node)
                lines = (node.end_lineno or 0) - node.lineno + 1
                classes.append((f"{module}:{node.name}", lines, attributes))
                self._own(module, attributes)
            elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                self._own(module, [node.name])
                function = node.name
            elif node.__class__ in NOTED:
                self._note(module, node, attributes, function)
            for value in node.__dict__.values():
                for part in value if value.__class__ is list else (value,):
                    if part.__class__ not in LEAVES:
                        todo.append((part, attributes, function))
        for name, lines, attributes in classes:
            self.classes[name] = lines, len(attributes)

    def _own(self, module: str, names: Iterable[str]) -> None:
        for name in names:
            if _is_private(name):
                self.owners[name].add(room_of(module))

    def _note(
        self, module: str, node: ast.AST, attributes: set[str], function: str
    ) -> None:
        if isinstance(node, ast.Attribute):
            self._attribute(module, node, attributes)
        elif isinstance(node, ast.BoolOp):
            place = f"{module}:{function}"
            self.conditions[place] = max(self.conditions[place], _operands(node))
        elif isinstance(node, ast.Import | ast.ImportFrom):
            self._import(module, node)

    def _attribute(
        self, module: str, node: ast.Attribute, attributes: set[str]
    ) -> None:
        if isinstance(node.value, ast.Name) and node.value.id in {"self", "cls"}:
            if isinstance(node.ctx, ast.Store):
                attributes.add(node.attr)
                self._own(module, [node.attr])
        elif _is_private(node.attr) and node.attr not in OF_TUPLES:
            self.uses.add((module, node.attr))

    def _import(self, module: str, node: ast.Import | ast.ImportFrom) -> None:
        for alias in node.names:
            path, name = alias.name, ""
            if isinstance(node, ast.ImportFrom):
                path, name = node.module or "", alias.name
                if f"{path}.{name}" in self.places:
                    path, name = f"{path}.{name}", ""
            if f"{path}.".startswith("taskorch.") and path != module:
                self.imports[module].add((path, name))


def _operands(node: ast.expr) -> int:
    """How many operands a condition has, those within its parts included."""
    if isinstance(node, ast.BoolOp):
        return sum(map(_operands, node.values))
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        return _operands(node.operand)
    return 1


def _declared(node: ast.ClassDef) -> set[str]:
    """The attributes that a class has in its body."""
    names: set[str] = set()
    for part in node.body:
        targets = part.targets if isinstance(part, ast.Assign) else []
        targets = [part.target] if isinstance(part, ast.AnnAssign) else targets
        names |= {target.id for target in targets if isinstance(target, ast.Name)}
    return names


def _is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def room_of(module: str) -> str:
    """The room of a module: a folder of the core, of ext or of the package; or the file."""
    _, *parts = module.split(".")
    return ".".join(parts[: 2 if parts[:1] in (["api"], ["core"], ["ext"]) else 1])


# -- the lists -------------------------------------------------------------------------


def taken(sources: Sources) -> Iterator[str]:
    """
    What extensions take that is not meant for them.

    An entry names no file, so that a name may move within its room, and the extension
    within its own.
    """
    public = {line for line in PUBLIC.read_text("utf-8").splitlines() if line[0] != "#"}
    packages = {name.rpartition(".")[0] or "taskorch" for name in public}
    for module, imports in sources.imports.items():
        extension = extension_of(sources.places[module])
        for path, name in imports if extension else ():
            other = extension_of(sources.places[path])
            room = room_of(path)
            is_kit = f"{path}.".startswith(KIT)
            full = _short(f"{path}.{name}".strip("."))
            # What is public of the core, users have by another way.
            outer = re.sub("^core", "api", full), re.sub("^core", "api", room)
            names = name, f"{room}.{name}", full, outer[0], f"{outer[1]}.{name}"
            is_public = not public.isdisjoint(names)
            is_public |= not packages.isdisjoint((full, outer[0]))
            is_public |= not other and extension in INSIDERS
            if other != extension and not is_public and not is_kit:
                last = name or path.rpartition(".")[2]
                yield f"{extension} takes {other or room or 'taskorch'}:{last}"


def asked(sources: Sources) -> Iterator[str]:
    """What the core imports of extensions."""
    for module, imports in sources.imports.items():
        if not extension_of(sources.places[module]):
            for path, name in imports:
                if extension := extension_of(sources.places[path]):
                    last = name or path.rpartition(".")[2]
                    yield f"{_short(module)} imports {extension}:{last}"


def circles(sources: Sources) -> Iterator[str]:
    """The files that reach themselves by imports."""
    graph = {
        module: {path for path, _ in imports}
        for module, imports in sources.imports.items()
    }
    for module in graph:
        if module in _reached(graph, module):
            yield _short(module)


def _reached(graph: Mapping[str, set[str]], module: str) -> set[str]:
    reached: set[str] = set()
    todo = [module]
    while todo:
        new = graph.get(todo.pop(), set()) - reached
        reached |= new
        todo += new
    return reached


def private(sources: Sources) -> Iterator[str]:
    """Private attributes that another room has, and not that of who uses them."""
    for module, attribute in sources.uses:
        room, owners = room_of(module), sources.owners.get(attribute, {room_of(module)})
        is_core = any(owner.startswith("core.") for owner in owners)
        if room not in owners and not (is_core and room in INSIDERS):
            yield f"{_short(module)} uses {attribute}"


def classes(sources: Sources) -> Iterator[str]:
    """Classes that nobody can hold in mind."""
    for name, (lines, attributes) in sources.classes.items():
        if lines > MOST_LINES:
            yield f"{_short(name)} has over {MOST_LINES} lines"
        if attributes > MOST_ATTRIBUTES:
            yield f"{_short(name)} has over {MOST_ATTRIBUTES} attributes"


def conditions(sources: Sources) -> Iterator[str]:
    """The functions that ask so much at once that nobody sees what is missing."""
    for name, operands in sources.conditions.items():
        if operands > MOST_OPERANDS:
            yield f"{_short(name)}: {operands} operands"


def _short(module: str) -> str:
    return module.removeprefix("taskorch.")


#: The lists that are read from the sources.
OF_SOURCES: Final[Mapping[str, Callable[[Sources], Iterator[str]]]] = {
    "taken": taken,
    "asked": asked,
    "circles": circles,
    "private": private,
    "classes": classes,
    "conditions": conditions,
}
#: The lists with numbers, of which none may become larger.
COUNTED: Final = ("conditions", "ways")
#: What to do about a new entry.
ADVICE: Final[Mapping[str, str]] = {
    "taken": "Take a public name, or one of the kit; or put the code into the room "
    "that has the name.",
    "asked": "The core works without extensions: let the extension come to it, as a "
    "policy, a driver, a part or a verb; or put into the core what it asks for.",
    "circles": "Give the lower file what it needs as an argument, by a protocol that "
    "stands below both.",
    "private": "Use what is public of its room, or make it public there.",
    "classes": "Divide it: what has a state of its own becomes a class of its own.",
    "conditions": "Ask the list of the limits of a kind, or one flag that is set where "
    "something changes; or divide it by whose the operands are.",
    "bound": "The core needs what it should do without: a late import, or a call of a "
    "part that is not there.",
}


def lists_of(source: Path = SOURCE) -> dict[str, list[str]]:
    """What the lists of the sources would have to say."""
    was_on = gc.isenabled()
    # It would look at each of a million nodes again and again.
    gc.disable()
    try:
        sources = Sources(source)
    finally:
        if was_on:
            gc.enable()
    return {name: sorted({*read(sources)}) for name, read in OF_SOURCES.items()}


def ways() -> list[str]:
    """What the ways of a task cost, a line each."""
    done = subprocess.run(
        [sys.executable, "-P", str(WAYS)],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        env=environment(SOURCE),
    )
    return done.stdout.splitlines()


def bound() -> list[str]:
    """The extensions that cannot be deleted, and what fails without each."""
    return [f"{name}: {reason}" for name in EXTENSIONS if (reason := broken_by([name]))]


def broken_by(extensions: Iterable[str]) -> str:
    """What fails without the files of *extensions*, and with what; "" if nothing."""
    with tempfile.TemporaryDirectory() as folder:
        faults = faults_of_acts(copy_without(extensions, Path(folder)))
    if not faults:
        return ""
    [error, *_] = faults.values()
    return f"{', '.join(faults)}: {error.replace(f'{folder}/', '')}"


def unbound() -> list[str]:
    """The extensions that could be deleted, as the list of the others says."""
    names = {entry.partition(":")[0] for entry in golden("bound")}
    return [name for name in EXTENSIONS if name not in names]


# -- comparing and writing -------------------------------------------------------------


def golden(name: str) -> list[str]:
    """What the list of that *name* says."""
    return (FOLDER / f"{name}.txt").read_text("utf-8").splitlines()


def differences(name: str, entries: Sequence[str]) -> str:
    """What is to be done if *entries* are not what the list *name* says; or ""."""
    listed = golden(name)
    new = "\n    ".join(entry for entry in entries if entry not in listed)
    gone = "\n    ".join(entry for entry in listed if entry not in entries)
    if new and name == "ways":
        return _of_ways(new, gone)
    if new:
        return (
            f"tests/house/packaging/fences/{name}.txt may only become shorter, and does not "
            f"have\n    {new}\n{ADVICE[name]} If it is an entry under a new name, and "
            f"that of before is gone: {COMMAND} {name}"
        )
    return gone and f"shrink the golden, by {COMMAND} {name}: it has\n    {gone}"


def _of_ways(new: str, gone: str) -> str:
    return (
        f"a task costs\n    {new}\nin place of\n    {gone}\nIf that is less, write it "
        f"down, by {COMMAND} ways\nIf it is more, see what the new calls are for: what "
        "a task does not use costs it nothing, or one look at a flag."
    )


def grown(name: str, entries: Sequence[str]) -> str:
    """Why a list may not become *entries*; or ""."""
    if not (FOLDER / f"{name}.txt").exists():
        return ""
    listed = golden(name)
    if name in COUNTED:
        before = {line.partition(": ")[0]: line for line in listed}
        more = [
            f"{before[title]} -> {line}"
            for line in entries
            if (title := line.partition(": ")[0]) in before
            and any(map(gt, _numbers(line), _numbers(before[title])))
        ]
        if more or name == "ways":
            return "\n    ".join(more)
    new = [entry for entry in entries if entry not in listed]
    return "\n    ".join(new) if len(entries) > len(listed) else ""


def _numbers(line: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", line.rpartition(": ")[2])]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="tests.house.tools.fences")
    parser.add_argument("--write", action="store_true", help="write the lists anew")
    names = [*OF_SOURCES, "ways", "bound"]
    parser.add_argument("lists", nargs="*", metavar="LIST", help=", ".join(names))
    options = parser.parse_args(arguments)
    wanted = options.lists or names[:-1]
    entries: dict[str, list[str]] = lists_of() if {*wanted} & {*OF_SOURCES} else {}
    made = {"ways": ways, "bound": bound}
    entries |= {name: made[name]() for name in wanted if name in made}
    code = 0
    for name in wanted:
        if not options.write:
            print(differences(name, entries[name]) or f"{name}: {len(entries[name])}")
        elif fault := grown(name, entries[name]):
            print(f"{name} would become longer, and is left as it is:\n    {fault}")
            code = 1
        else:
            FOLDER.mkdir(exist_ok=True)
            text = "".join(f"{entry}\n" for entry in entries[name])
            (FOLDER / f"{name}.txt").write_text(text, "utf-8")
            print(f"{name}: {len(entries[name])}")
    return code


if __name__ == "__main__":
    sys.exit(main())
