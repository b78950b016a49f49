"""
The bank of mistakes: what somebody could do wrong in our code, and would the tests notice?

    python -m tests.house.tools.mistakes reach             which tests reach which line: an hour
    python -m tests.house.tools.mistakes try               plant each, one at a time: hours
    python -m tests.house.tools.mistakes try --sample 30 --seed 7
    python -m tests.house.tools.mistakes try steps. kernel._rates      those of these objects
    python -m tests.house.tools.mistakes try --held        those of another hand
    python -m tests.house.tools.mistakes beside            by the tests beside the rooms: no reach

The mistakes are data: `tests/house/mistakes` has a file for each room, and `held_ROOM` for those
that only judge the whole. Each mistake says *of* which object it is, by its path; the *old*
text, which stands there once, and the *new* one; and the *promise* that it breaks. A rename
moves a mistake. One whose code is gone is planted anew in what came in its place, for the
same promise, by somebody else.

A mistake is planted in a copy of the sources. Those tests alone are run that reach the
lines that it changes, the quickest first: for a minute, unless told otherwise. `beside`
runs the few files of tests that name its object or its module, the most special ones first.
"""

from __future__ import annotations

import argparse
import ast
import importlib
import json
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from itertools import accumulate
from pathlib import Path
from typing import Any, Final

import attrs
import pytest
from coverage import Coverage, CoverageData

ROOT: Final = Path(__file__).parents[3]
SOURCE: Final = ROOT / "src"
BANK: Final = ROOT / "tests" / "house" / "mistakes"
REACH: Final = ROOT / "build" / "reach"
#: Tests that are run at most for a mistake: their names are arguments of a process.
MOST: Final = 2_000
#: Files of tests that stand beside a room.
NEAR: Final = 12


@attrs.frozen
class Mistake:
    """
    Something that somebody could do wrong.

    Attributes:
        of: The object in which it is planted, by its path.
        old: What stands there once.
        new: What stands there instead.
        promise: What users were promised, and have no more.
        name: The file of the bank, and which it is there.
        held: Whether it was drawn by another hand than that of the tests, and is looked at
            only to judge the whole.
    """

    of: str
    old: str
    new: str
    promise: str
    name: str
    held: bool = False

    def place(self, source: Path = SOURCE) -> tuple[Path, int]:
        """Return the file, and the place of the old text in it."""
        path, object_ = self.span(source)
        text = path.read_text(encoding="utf-8")
        return path, text.index(self.old, object_.start, object_.stop)

    def span(self, source: Path = SOURCE) -> tuple[Path, slice]:
        """
        Return the file, and the place of the object in it.

        Raises:
            LookupError: No such object, or the text does not stand there once.
        """
        path, inside = _file_of(self.of, source)
        text = path.read_text(encoding="utf-8")
        begin, end = _span(text, inside, self.of)
        count = text.count(self.old, begin, end)
        if count != 1:
            raise LookupError(f"{self.name}: {self.of} has the old text {count} times")
        return path, slice(begin, end)

    def lines(self) -> tuple[Path, range]:
        """Return the file, and the lines that it changes, from one on."""
        path, at = self.place()
        first = path.read_text(encoding="utf-8").count("\n", 0, at) + 1
        return path, range(first, first + self.old.count("\n") + 1)


def bank() -> list[Mistake]:
    """Return all mistakes that there are."""
    return [
        Mistake(**said, name=f"{path.stem}:{number}")
        for path in sorted(BANK.glob("*.toml"))
        for number, said in enumerate(
            tomllib.loads(path.read_text(encoding="utf-8"))["mistakes"], 1
        )
    ]


def _file_of(of: str, source: Path) -> tuple[Path, list[str]]:
    """Return the file of an object, and the names that lead to it there."""
    names = of.split(".")
    for many in range(len(names), 0, -1):
        place = source.joinpath(*names[:many])
        for path in (place.with_suffix(".py"), place / "__init__.py"):
            if path.is_file():
                return path, names[many:]
    raise LookupError(f"no module has {of}")


def _span(text: str, inside: Sequence[str], of: str) -> tuple[int, int]:
    """Return where the object begins in *text*, and where it ends."""
    if not inside:
        return 0, len(text)
    spans = _spans(text)
    if ".".join(inside) not in spans:
        raise LookupError(f"there is no {of}")
    return spans[".".join(inside)]


@cache
def _spans(text: str) -> Mapping[str, tuple[int, int]]:
    """Return where each class and each function of *text* begins and ends."""
    begins = [0, *accumulate(map(len, text.splitlines(keepends=True)))]
    spans: dict[str, tuple[int, int]] = {}
    todo = [("", node) for node in _named(ast.parse(text).body)]
    for before, node in todo:
        name = f"{before}{node.name}"
        first = min([node, *node.decorator_list], key=lambda each: each.lineno)
        span = begins[first.lineno - 1], begins[node.end_lineno]
        # Of those with one name, such as overloads, the first is meant.
        spans.setdefault(name, span)
        todo += [(f"{name}.", each) for each in _named(node.body)]
    return spans


def _named(body: Iterable[ast.AST]) -> Iterator[Any]:
    for node in body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield node
        elif isinstance(node, ast.If | ast.Try | ast.With):
            yield from _named(ast.iter_child_nodes(node))


@contextmanager
def planted(mistake: Mistake) -> Iterator[Path]:
    """Plant *mistake* in a copy of the sources, and give the copy."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder, "src")
        shutil.copytree(SOURCE, copy, ignore=shutil.ignore_patterns("*.egg-info"))
        path, at = mistake.place(copy)
        text = path.read_text(encoding="utf-8")
        changed = text[:at] + mistake.new + text[at + len(mistake.old) :]
        compile(changed, str(path), "exec")
        path.write_text(changed, encoding="utf-8")
        yield copy


def notices(mistake: Mistake, tests: Sequence[str], patience: float) -> str:
    """Run *tests* with *mistake*; return the first that fails, "" if none does."""
    with planted(mistake) as copy:
        try:
            done = subprocess.run(
                [
                    *(sys.executable, "-m", "pytest", "-qx", "-p", "no:cacheprovider"),
                    *("-m", "not slow", "--hypothesis-profile=few", "--tb=no", "-rfE"),
                    *tests,
                ],
                cwd=ROOT,
                env={**os.environ, "PYTHONPATH": str(copy)},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=patience,
                check=False,
            )
        except subprocess.TimeoutExpired:
            # What hangs is noticed by the limit of the test, and what is slow is not.
            return ""
    if done.returncode in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
        return ""
    failed = [
        line for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERR"))
    ]
    return failed[0] if failed else f"pytest ended with {done.returncode}"


def reach(tests: Sequence[str]) -> None:
    """Run *tests*, and keep which of them reach which line, and how long each takes."""
    shutil.rmtree(REACH, ignore_errors=True)
    REACH.mkdir(parents=True)
    os.environ["REACH"] = str(REACH)
    reaching = importlib.import_module("tests.house.tools.reaching")
    reaching.SETTINGS.write_text(reaching.TEXT, encoding="utf-8")
    subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "-n", "6", "--dist", "worksteal"),
            *("-m", "not slow", "--hypothesis-profile=few", "-p", reaching.__name__),
            *tests,
        ],
        cwd=ROOT,
        check=False,
    )
    Coverage(config_file=str(reaching.SETTINGS)).combine()


class Reached:
    """What is known of which tests reach which lines."""

    def __init__(self) -> None:
        self._data = CoverageData(basename=str(REACH / "data"))
        self._data.read()
        self._seconds: dict[str, float] = dict(
            json.loads(line)
            for path in sorted(REACH.glob("*.times"))
            for line in path.read_text(encoding="utf-8").splitlines()
        )

    def by(self, mistake: Mistake) -> list[str]:
        """Return the tests that reach what *mistake* changes, the quickest first."""
        path, lines = mistake.lines()
        found = self._data.contexts_by_lineno(str(path))
        tests = {test for line in lines for test in found.get(line, ())} - {""}
        return sorted(tests, key=lambda test: self._seconds.get(test, 0.0))[:MOST]


class Beside:
    """What is known of which files of tests name what."""

    def __init__(self) -> None:
        self._names = {
            path: {
                *re.findall(r"taskorch[\w.]*|\w+", path.read_text(encoding="utf-8")),
                *(f"/{name}" for name in re.findall(r"[a-z]+", _from_root(path))),
            }
            for path in sorted((ROOT / "tests").rglob("test_*.py"))
            # Those name what has a name, wherever it stands.
            if path.parent.name != "packaging"
        }
        self._files = Counter(name for names in self._names.values() for name in names)

    def by(self, mistake: Mistake) -> list[str]:
        """
        Return the files beside the room of *mistake*: those with the rarest names first.

        Names are those of its object, its classes, its module and its room; a file may also
        be named after what is promised. Of files with the same ones, the largest is the last.
        """
        _, inside = _file_of(mistake.of, SOURCE)
        module = mistake.of.split(".")[: -len(inside) or None]
        room = [part for part in module if not part.startswith("_")]
        plain = [part.strip("_") for part in (*inside, *module[1:])]
        wanted = {".".join(module), ".".join(room), *inside, *plain}
        wanted |= {f"/{word}" for part in plain for word in part.split("_")}
        promised = re.findall(r"[a-z]{5,}", mistake.promise.lower())
        wanted |= {f"/{word}{end}" for word in promised for end in ("", "s")}
        worth = {
            path: sum(1 / self._files[name] for name in wanted & names)
            for path, names in self._names.items()
        }
        near = sorted(worth, key=lambda path: (-worth[path], path.stat().st_size))
        return [_from_root(path) for path in near[:NEAR] if worth[path]]


def _from_root(path: Path) -> str:
    return str(path.relative_to(ROOT))


def _chosen(args: argparse.Namespace) -> list[Mistake]:
    chosen = [
        mistake
        for mistake in bank()
        if mistake.held >= args.held
        and (
            not args.words
            or any(word in f"{mistake.of} {mistake.name}" for word in args.words)
        )
    ]
    if args.sample:
        order = random.Random(args.seed)
        chosen = order.sample(chosen, min(args.sample, len(chosen)))
    return chosen


def _try(args: argparse.Namespace, by: Callable[[Mistake], list[str]]) -> int:
    chosen, missed = _chosen(args), list[Mistake]()
    for mistake in chosen:
        tests = by(mistake)
        noticed = notices(mistake, tests, args.seconds) if tests else ""
        if not noticed:
            missed.append(mistake)
        said = noticed or f"NOT NOTICED: {mistake.promise}"
        print(f"{mistake.name} {mistake.of}: {said}", flush=True)
    for words, least in (("", False), (" of another hand", True)):
        all_, lost = (sum(m.held >= least for m in each) for each in (chosen, missed))
        print(f"{all_ - lost} of {all_} mistakes{words} are noticed")
    return int(10 * len(missed) > len(chosen))


def main(argv: Sequence[str] | None = None) -> int:
    """Do what *argv* says; return 1 if more than one mistake of ten is not noticed."""
    parser = argparse.ArgumentParser(description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("reach").add_argument("tests", nargs="*", default=["tests"])
    for verb in ("try", "beside"):
        trying = verbs.add_parser(verb)
        trying.add_argument("words", nargs="*")
        trying.add_argument("--held", action="store_true")
        trying.add_argument("--sample", type=int)
        trying.add_argument("--seed", type=int, default=1)
        trying.add_argument("--seconds", type=float, default=60.0)
    args = parser.parse_args(argv)
    if args.verb == "reach":
        reach(args.tests)
        return 0
    if args.verb == "beside":
        return _try(args, Beside().by)
    if not REACH.exists():
        print(
            "say first which tests reach what: python -m tests.house.tools.mistakes reach"
        )
        return 2
    return _try(args, Reached().by)


if __name__ == "__main__":
    sys.exit(main())
