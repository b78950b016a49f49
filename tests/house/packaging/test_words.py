"""
One thing has one word, in names as in texts.

`fences/words.toml` says which word stands for what, and which identifiers keep the other word,
with the reason. A variable of a function is looked at apart from its parameters, and from all other
names: an option is called `agent`, what it names is a `worker`.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from fnmatch import fnmatch
from functools import cache
from importlib.machinery import SourceFileLoader
from inspect import CO_OPTIMIZED, CO_VARARGS, CO_VARKEYWORDS
from pathlib import Path
from types import CodeType
from typing import Any

ROOT = Path(__file__).parents[3]
WORDS = tomllib.loads((ROOT / "tests/house/packaging/fences/words.toml").read_text())
#: How many are named at most.
NAMED = 20


def words_of(name: str) -> set[str]:
    """The words of an identifier, in small letters: of `AgentRow`, agent and row."""
    for phrase in WORDS["phrases"]["stay"]:
        name = name.replace(phrase, "")
    parts = re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z0-9]+", name)
    return {part.lower() for part in parts}


def within(code: CodeType) -> Iterator[CodeType]:
    """The code of a file, of a class or of a function, and all that stands in it."""
    yield code
    for part in code.co_consts:
        if isinstance(part, CodeType):
            yield from within(part)


def identifiers(code: CodeType) -> Iterator[tuple[str, str, int]]:
    """Each identifier, `param`, `local` or any other `name`, and a line before it."""
    for part in within(code):
        line = part.co_firstlineno
        is_function = bool(part.co_flags & CO_OPTIMIZED)
        first = part.co_argcount + part.co_kwonlyargcount
        first += bool(part.co_flags & CO_VARARGS) + bool(part.co_flags & CO_VARKEYWORDS)
        given = {*part.co_varnames[:first]}
        for name in {each for each in part.co_names if each.isidentifier()}:
            yield name, "name", line
        for name in given:
            yield name, "param", line
        if is_function:
            for name in {*part.co_varnames[first:], *part.co_cellvars} - given:
                yield name, "local", line
        if part.co_name.isidentifier():
            yield part.co_name, "name", line


def is_in(place: str, folders: list[str]) -> bool:
    """True if *place* is one of the files or below one of the folders."""
    return any(fnmatch(place, f"{each}*") for each in folders)


def stay(words: Mapping[str, Any], kind: str) -> Iterator[tuple[str, list[str]]]:
    """The identifiers of one kind that keep the other word, and where they do."""
    for entry in words["stays"]:
        if kind in entry.get("kinds", ["name"]):
            for name in entry["names"]:
                yield name, entry.get("where", [""])


def faults_of(
    place: str, code: CodeType, words: Mapping[str, Any] = WORDS
) -> Iterator[str]:
    """What is wrong with the identifiers of one file."""
    wrong = {
        each: entry["say"]
        for entry in words["words"]
        if is_in(place, entry.get("where", [""]))
        and not is_in(place, entry.get("but", []))
        for each in entry["not"]
    }
    kept: dict[str, set[str]] = {
        kind: {name for name, where in stay(words, kind) if is_in(place, where)}
        for kind in ("name", "param", "local")
    }
    seen: set[tuple[str, str]] = set()
    for name, kind, line in identifiers(code):
        bad = words_of(name) & wrong.keys()
        if bad and name not in kept[kind] and (name, kind) not in seen:
            seen.add((name, kind))
            say = ", ".join(sorted(wrong[each] for each in bad))
            yield f"{place}:{line} {name}: say {say}"


@cache
def code_of(path: Path) -> CodeType:
    return SourceFileLoader(path.stem, str(path)).get_code(path.stem)  # type: ignore[return-value]


def sources() -> Iterator[Path]:
    for folder in ("src", "tests", "benchmarks"):
        yield from sorted((ROOT / folder).rglob("*.py"))


def test_one_thing_has_one_word():
    faults = [
        fault
        for path in sources()
        for fault in faults_of(str(path.relative_to(ROOT)), code_of(path))
    ]
    more = f"\nand {len(faults) - NAMED} more" if len(faults) > NAMED else ""
    assert not faults, (
        "these identifiers use a word for the wrong thing. If it is the right thing, "
        "write the identifier into tests/house/packaging/fences/words.toml with the reason:\n"
        + "\n".join(faults[:NAMED])
        + more
    )


def test_what_stays_is_there():
    """An exception goes with the last place that has its name."""
    left = {name for entry in WORDS["stays"] for name in entry["names"]}
    for path in sources():
        left -= {name for name, _, _ in identifiers(code_of(path))}
    assert not left, f"no such identifiers: {sorted(left)}"


def test_a_word_that_is_put_back_is_found():
    """As a variable, a parameter, an attribute, a class, a function and a constant."""
    text = (
        "class AgentRow:\n    def of(self, fact):\n        life = self.drivers\n"
        "        return life\n_FACTS = AgentRow\ndef add_owner(): ...\n"
    )
    code = compile(text, "there.py", "exec")
    found = [
        fault.split()[1] for fault in faults_of("src/taskorch/core/kernel/x.py", code)
    ]
    expected = ["AgentRow:", "_FACTS:", "add_owner:", "fact:", "life:"]
    assert sorted({*found} - {"drivers:"}) == expected


def test_an_option_keeps_its_name_and_a_variable_does_not():
    code = compile("def f(agent): ...\ndef g():\n    agent = 1\n", "x.py", "exec")
    faults = [*faults_of("src/taskorch/core/workers/_manager.py", code)]
    assert faults == ["src/taskorch/core/workers/_manager.py:2 agent: say worker"]
    assert len([*faults_of("src/taskorch/core/kernel/x.py", code)]) == 2
