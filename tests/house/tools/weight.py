"""
What the code weighs: words and signs, so that another layout changes nothing.

    python -m tests.house.tools.weight                what each room weighs, and all of them
    python -m tests.house.tools.weight --base REV     what has changed since a commit
    python -m tests.house.tools.weight --write        let the fence follow what has become less

In Python a name, a number, a text and an operator weigh one each, and so does the path of
an import; comments, docstrings, commas and brackets weigh nothing. It is the same on each
Python. In all other files a word and a sign weigh one. Prose weighs nothing, and what is
made of the code stands apart, since a test keeps it fresh; so does the bank of mistakes,
which judges the tests. Code that moves to the benchmarks, to the examples, to what CI runs
or into data is ours all the same.

The fence is `tests/house/packaging/fences/weight.txt`: what the sources and the tests may weigh
at most.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath
from typing import Final

ROOT: Final = Path(__file__).parents[3]
FENCE: Final = ROOT / "tests" / "house" / "packaging" / "fences" / "weight.txt"
COMMAND: Final = "python -m tests.house.tools.weight --write"
#: By total, the folders that belong to it.
TOTALS: Final[Mapping[str, Sequence[str]]] = {
    "src": ("src", "benchmarks", "examples", ".ci"),
    "tests": ("tests",),
}
#: Made by programs of ours, and kept fresh by tests: it stands apart.
MADE: Final = (
    *(
        "tests/house/goldens/texts/*",
        "tests/house/goldens/journals/*",
        "tests/house/packaging/fences/*",
    ),
    "tests/house/packaging/exported_names.txt",
)
BANK: Final = "tests/house/mistakes/*"
#: How the names of files end that weigh something; what CI runs has no ends.
ENDS: Final = frozenset(
    (
        *(".py", ".js", ".css", ".html", ".sql", ".sh", ".cfg", ".service"),
        *(".json", ".toml", ".yaml", ".txt"),
    )
)
#: Folders of the sources whose folders are rooms of their own.
DEEP: Final = frozenset(("api", "core", "ext"))
#: Of a hundred thousand, how much more than today the fence lets through, and how much
#: less there may be before it has to follow.
ROOM, SLACK = 100, 2_000
SHARES: Final = 100_000

_TEXT: Final = (
    r"(?:[rRbBuUfF]{0,2})(?:"
    r'"""(?:[^\\"]|\\.|"(?!""))*"""'
    r"|'''(?:[^\\']|\\.|'(?!''))*'''"
    r'|"(?:[^\\"\n]|\\.)*"'
    r"|'(?:[^\\'\n]|\\.)*')"
)
#: What has no weight of its own comes first, so that nothing in it is counted.
_PYTHON: Final = re.compile(
    rf"(\#[^\n]*|(?:\A\s*|:[ \t]*\n\s*){_TEXT}[ \t]*(?=\n|\Z))"
    rf"|{_TEXT}|(?:(?<=from )|(?<=import ))[\w.]+"
    r"|\.?\d[\w.]*(?:(?<=[eE])[-+]\d+)?|\w+|\.\.\.|->|:=|(?:\*\*|//|>>|<<|[-+*/%&|^@=!<>])=?"
    r"|[^\s\w,()\[\]{}\\]",
    re.DOTALL,
)
_OTHER: Final = re.compile(r"\w+|[^\s\w,()\[\]{}]")


def weight(text: str, *, is_python: bool = True) -> int:
    """Return what a text weighs."""
    if not is_python:
        return len(_OTHER.findall(text))
    tokens: list[str] = _PYTHON.findall(text)
    # The colon before a docstring weighs what it does elsewhere.
    return len(tokens) - sum(bool(each) and each[0] != ":" for each in tokens)


def room_of(path: str) -> str:
    """Return the room of a file, as it is shown."""
    if any(fnmatch(path, made) for made in MADE):
        return "apart: made"
    if fnmatch(path, BANK):
        return "apart: the bank of mistakes"
    first, *rest = PurePosixPath(path).parts
    if first == "src":
        rest = rest[1:]
        deep = 2 if len(rest) > 2 and rest[0] in DEEP else 1
        return "/".join(["src", *rest[: min(deep, len(rest) - 1)]])
    deep = 2 if first == "tests" else 1
    return "/".join([first, *rest[: min(deep, len(rest) - 1)]])


def has_weight(name: str) -> bool:
    """Return whether a file is weighed."""
    path = PurePosixPath(name)
    return path.suffix in ENDS or (path.parts[0] == ".ci" and not path.suffix)


def files(root: Path = ROOT) -> Iterator[tuple[str, Path]]:
    """The files that weigh something."""
    for folder in (folder for folders in TOTALS.values() for folder in folders):
        for path in (root / folder).rglob("*"):
            name = path.relative_to(root).as_posix()
            if has_weight(name) and path.is_file():
                yield name, path


def rooms(root: Path = ROOT) -> Counter[str]:
    """Return what each room weighs."""
    found: Counter[str] = Counter()
    for name, path in files(root):
        text = path.read_text(encoding="utf-8")
        found[room_of(name)] += weight(text, is_python=path.suffix == ".py")
    return found


def totals(by_room: Mapping[str, int]) -> dict[str, int]:
    """Return what the sources and the tests weigh."""
    return {
        total: sum(
            many for room, many in by_room.items() if room.split("/")[0] in folders
        )
        for total, folders in TOTALS.items()
    }


def changes(base: str) -> Counter[str]:
    """Return by how much each room has changed since the commit *base*."""
    folders = [folder for each in TOTALS.values() for folder in each]
    names = _git("diff", "--name-only", "--no-renames", base, "--", *folders)
    now, found = dict(files()), Counter[str]()
    for name in names.splitlines():
        is_python = name.endswith(".py")
        if name in now:
            text = now[name].read_text(encoding="utf-8")
            found[room_of(name)] += weight(text, is_python=is_python)
        if has_weight(name):
            before = _git("show", f"{base}:{name}")
            found[room_of(name)] -= weight(before, is_python=is_python)
    return found


def _git(*words: str) -> str:
    done = subprocess.run(
        ["git", *words], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return done.stdout


# -- the fence -------------------------------------------------------------------------


def most(text: str) -> dict[str, int]:
    """Return what each total may weigh, as the fence says it."""
    lines = (line.split(": ") for line in text.splitlines())
    return {total: int(number) for total, number in lines}


def faults(now: Mapping[str, int], limits: Mapping[str, int]) -> Iterator[str]:
    """Say of each total what is to be done about it, if anything is."""
    for total, limit in limits.items():
        if now[total] > limit:
            yield (
                f"{total} weighs {now[total]:,}, and may weigh {limit:,}: take away as "
                f"much as you add (python -m tests.house.tools.weight --base main shows where)"
            )
        elif now[total] < limit - limit * SLACK // SHARES:
            yield f"{total} weighs {now[total]:,}, less than {limit:,}: say {COMMAND}"


def followed(now: Mapping[str, int], limits: Mapping[str, int]) -> str:
    """Return the fence as it is to be written: no number becomes larger."""
    return "".join(
        f"{total}: {min(limits.get(total, new), new)}\n"
        for total, many in now.items()
        for new in [many + many * ROOM // SHARES]
    )


def _shown(many: Iterable[tuple[str, int]], sign: str = "") -> str:
    return "\n".join(f"{number:{sign}11,}  {room}" for room, number in many if number)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="tests.house.tools.weight")
    parser.add_argument("--base", metavar="REV", help="what has changed since")
    parser.add_argument("--write", action="store_true", help="let the fence follow")
    options = parser.parse_args(arguments)
    if options.base:
        by_room = changes(options.base)
        ordered = sorted(by_room.items(), key=lambda each: -abs(each[1]))
        print(_shown([*ordered, *totals(by_room).items()], "+"))
        return 0
    by_room = rooms()
    now = totals(by_room)
    if options.write:
        limits = most(FENCE.read_text("utf-8")) if FENCE.exists() else {}
        FENCE.write_text(followed(now, limits), "utf-8")
    print(_shown([*by_room.most_common(), *now.items()]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
