"""
Whether the tests would notice: small faults are planted, and the tests are run.

    python -m tests.mutants --part kernel --count 150 --seed 1

draws so many places of a part of the library, changes one of them at a time in a copy of
the project (a comparison, a condition, a number, a statement left out, …), runs the tests
that run the line, the nearest and the fastest first, and lists the changes that none of
them noticed. One is noticed if a test fails, hangs or loses its process that passes
without it, after the same tests, in the same way.

Which tests run which lines is measured first, which takes as long as all tests at a third
of their speed; it is kept in build/mutants for as long as the library and a file of tests
stay as they are. Some changes change nothing that anybody could see: those are named in
`tests/mutants_equal.txt`, each with the reason, and do not count.
"""

import argparse
import contextlib
import dataclasses
import functools
import hashlib
import itertools
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from tests.mutants.changes import PARTS, ROOT, Mutant, Part, draw, known_equal

#: What is copied for the tests to run in.
NEEDED = (
    "src",
    "tests",
    "examples",
    "docs",
    "benchmarks",
    "pyproject.toml",
    "README.md",
)
KEPT = ROOT / "build/mutants"
#: Seconds that a test may take longer than ten times what it takes without a change.
SLACK = 15.0
#: The parts that end processes.
ENDING = ("executors", "runtime")
#: Seconds of tests that run what stands beside a change.
BESIDE = 10.0


def copied(folder: Path) -> Path:
    """*folder*, made, with a copy of the project."""
    folder.mkdir()
    # With what is compiled: that is valid for the same times.
    ignore = shutil.ignore_patterns(".*")
    for name in NEEDED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, ignore=ignore)
        else:
            shutil.copy2(ROOT / name, folder / name)
    return folder


@functools.cache
def isolation() -> list[str]:
    """
    What a command begins with that is to see, and can end, none but its own processes.

    Nothing, where the system does not offer that. A change in what ends programs may
    end any: so it did with the shell of whoever planted it.
    """
    init = ["sh", "-c", '"$@"; exit $?', "sh"]
    alone = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]
    for begin in (alone, [*alone, "--user", "--map-root-user"]):
        with contextlib.suppress(OSError):
            tried = subprocess.run(
                [*begin, *init, "true"], capture_output=True, check=False
            )
            if not tried.returncode:
                return [*begin, *init]
    return []


class WorkerDiedError(SystemExit):
    """A worker has ended by itself."""


class Helper:
    """A worker in *folder*, which nobody else works in, and *tests* of those there."""

    def __init__(self, folder: Path, tests: list[str]) -> None:
        self.folder = folder
        self.tests = tests
        self._begin()

    def _begin(self) -> None:
        folder = self.folder
        (folder / "tmp").mkdir()
        self.process = subprocess.Popen(
            [*isolation(), sys.executable, "-m", "tests.mutants.worker", *self.tests],
            cwd=folder,
            env={
                # Nobody else measures here.
                **{k: v for k, v in os.environ.items() if k[:9] != "COVERAGE_"},
                # The one that can tell tests apart.
                "COVERAGE_CORE": "ctrace",
                "PYTHONPATH": f"{folder / 'src'}{os.pathsep}{ROOT}",
                "PYTHONDONTWRITEBYTECODE": "1",
                "TMPDIR": str(folder / "tmp"),
            },
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def attempt(self, order: Any) -> Any:
        """The answer to *order*; a change may end all processes there, this one too."""
        began = time.monotonic()
        try:
            return self.tell(order)
        except (WorkerDiedError, OSError):
            self.end()
            shutil.rmtree(self.folder)
            copied(self.folder)
            self._begin()
            self.hear()
        took = time.monotonic() - began
        return {
            "by": "all tests",
            "how": "lose their process",
            "ran": 0,
            "seconds": took,
        }

    def hear(self) -> Any:
        line = self.process.stdout.readline()
        if not line:
            log = (self.folder / "log").read_text(errors="replace")
            self.end()
            raise WorkerDiedError(f"the tests cannot be run here:\n{log[-3000:]}")
        return json.loads(line)

    def tell(self, order: Any) -> Any:
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()
        return self.hear()

    def end(self) -> None:
        with self.process:
            pass


class Footprints:
    """How long each test takes, and which lines it runs."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._lines: dict[tuple[str, int], set[str]] = defaultdict(set)

    def add(self, measured: Any) -> None:
        self.seconds |= measured["seconds"]
        for file, lines in measured["lines"].items():
            for line, tests in lines.items():
                self._lines[file, int(line)].update(tests)

    def tests_for(self, mutant: Mutant) -> set[str]:
        """The tests that pass and run what is changed."""
        first, last = mutant.lines
        lines = ((mutant.file, line) for line in range(first, last + 1))
        tests = itertools.chain.from_iterable(self._lines.get(one, ()) for one in lines)
        return self.seconds.keys() & set(tests)

    def tests_beside(self, mutant: Mutant) -> set[str]:
        """The tests that pass and run something else in the same file."""
        found = (
            tests for (file, _), tests in self._lines.items() if file == mutant.file
        )
        return self.seconds.keys() & set().union(*found) - self.tests_for(mutant)


def chosen(
    mutant: Mutant, footprints: Footprints, near: tuple[str, ...], budget: float
) -> list[tuple[str, float]]:
    """
    The tests that should notice, in order, and how long each takes.

    They are the fastest, as many as there is time for, of these the nearest first.
    After those that run the line come some that run others beside it: what a process
    that was forked or killed has run is not known. If none is known at all, any may.
    """

    seconds = footprints.seconds

    def rank(test: str) -> tuple[int, float]:
        places = [number for number, place in enumerate(near) if test.startswith(place)]
        return (min(places, default=len(near)), seconds[test])

    def fastest(tests: Iterable[str], budget: float) -> list[str]:
        tests = sorted(tests, key=seconds.__getitem__)
        ends = itertools.accumulate(map(seconds.__getitem__, tests))
        within = sum(1 for end in ends if end <= budget)
        return sorted(tests[:within], key=rank)

    known = footprints.tests_for(mutant)
    tests = fastest(known, budget) or sorted(known, key=rank)[:1]
    left = budget - sum(map(seconds.__getitem__, tests))
    tests += fastest(footprints.tests_beside(mutant), min(left, BESIDE))
    return [(test, seconds[test]) for test in tests or fastest(seconds, budget)]


def kept_as(file: str, tests: list[str]) -> Path:
    """Where the footprints of the tests of a file are kept while nothing has changed."""
    content = hashlib.sha256("\n".join([sys.version, *tests]).encode())
    others = (one for one in (ROOT / "tests").rglob("*.py") if one.name[:5] != "test_")
    worker = (ROOT / "tests/mutants").glob("*.py")
    helpers = sorted({*others} - {*worker})
    for one in (*sorted((ROOT / "src").rglob("*.py")), *helpers, ROOT / file):
        content.update(f"{one.relative_to(ROOT)}\n".encode() + one.read_bytes())
    return KEPT / f"{content.hexdigest()[:32]}.json"


def in_parallel(helpers: list[Helper], orders: list[Any]) -> Iterator[tuple[int, Any]]:
    """The number of each order and the answer to it, as the helpers finish them."""
    waiting: SimpleQueue[tuple[int, Any]] = SimpleQueue()
    done: SimpleQueue[tuple[int, Any]] = SimpleQueue()
    for order in enumerate(orders):
        waiting.put(order)

    def work(helper: Helper) -> None:
        try:
            while not waiting.empty():
                number, order = waiting.get_nowait()
                ask = helper.attempt if "mutant" in order else helper.tell
                done.put((number, ask(order)))
        except BaseException as error:
            done.put((-1, error))

    for helper in helpers:
        threading.Thread(target=work, args=(helper,), daemon=True).start()
    for _ in orders:
        number, answer = done.get()
        if number < 0:
            raise answer
        yield number, answer


def measure(
    helpers: list[Helper], tests: dict[str, list[str]], say: Callable[[str], None]
) -> Footprints:
    """The footprints of the tests of each file, from before or measured now."""
    KEPT.mkdir(parents=True, exist_ok=True)
    kept = {file: kept_as(file, names) for file, names in tests.items()}
    missing = [file for file in tests if not kept[file].exists()]
    orders = [{"measure": tests[file]} for file in missing]
    for done, (number, measured) in enumerate(in_parallel(helpers, orders)):
        file = missing[number]
        kept[file].write_text(json.dumps(measured))
        say(f"measured {done + 1} of {len(missing)}: {file}")
    footprints = Footprints()
    for path in kept.values():
        footprints.add(json.loads(path.read_text()))
    return footprints


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--part", choices=PARTS, required=True)
    parser.add_argument("--count", type=int, default=100, help="how many are drawn")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument(
        "--seconds", type=float, default=60.0, help="of tests for each, at most"
    )
    parser.add_argument("--slow", action="store_true", help="slow tests, too")
    parser.add_argument("--least", type=float, default=0.0, help="%% to be noticed")
    parser.add_argument("--only", default="", help="those of whose name this is a part")
    parser.add_argument("--list", action="store_true", help="show them, and run none")
    given = parser.parse_args()
    part = PARTS[given.part]
    drawn = draw(part, given.count, given.seed)
    drawn = [mutant for mutant in drawn if given.only in mutant.name]
    equal = known_equal()
    tried = [mutant for mutant in drawn if mutant.name not in equal]
    if given.list:
        for mutant in drawn:
            print(f"{mutant.file}:{mutant.lines[0]} {mutant.name}\n")
        return 0
    if given.part in ENDING and not isolation():
        parser.error(
            f"a change in {given.part} may end any process of yours, and there is no "
            "unshare here that keeps it among its own"
        )
    fast = [] if given.slow else ["-m", "not slow"]
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        helpers = [
            Helper(copied(Path(folder) / str(number)), [*fast, *part.tests])
            for number in range(given.jobs)
        ]
        try:
            survivors = attempt(helpers, tried, part, given.seconds)
        finally:
            for helper in helpers:
                helper.end()
    noticed = len(tried) - survivors
    percent = 100 * noticed / max(1, len(tried))
    print(
        f"{given.part}, seed {given.seed}: {len(drawn)} drawn,"
        f" {len(drawn) - len(tried)} of them change nothing;"
        f" {noticed} of {len(tried)} noticed, {percent:.1f} %"
    )
    return 1 if percent < given.least else 0


def attempt(
    helpers: list[Helper], mutants: list[Mutant], part: Part, budget: float
) -> int:
    """Try *mutants*, tell of each and in the end of those not noticed: how many."""
    begin = time.monotonic()

    def say(text: str) -> None:
        print(f"{time.monotonic() - begin:6.0f} s  {text}", flush=True)

    names, *_ = [helper.hear() for helper in helpers]
    tests = defaultdict(list)
    for name in names:
        tests[name.partition("::")[0]].append(name)
    footprints = measure(helpers, tests, say)
    total = sum(footprints.seconds.values())
    say(
        f"{len(footprints.seconds)} tests, {total:.0f} s; {len(mutants)} changes to try"
    )
    orders = [
        {
            "mutant": dataclasses.asdict(mutant),
            "tests": chosen(mutant, footprints, part.tests, budget),
            "alone": mutant.default or not footprints.tests_for(mutant),
            "slack": SLACK,
        }
        for mutant in mutants
    ]
    survivors = []
    for number, answer in in_parallel(helpers, orders):
        mutant = mutants[number]
        where = f"{mutant.file}:{mutant.lines[0]}"
        took = f"{answer['ran']} tests, {answer['seconds']:.1f} s"
        if answer["by"]:
            say(f"{where} noticed ({took}): {answer['by']} {answer['how']}")
        else:
            say(f"{where} NOT NOTICED ({took}) {answer['how']}")
            known = len(footprints.tests_for(mutant))
            ran = f"{answer['ran']} tests ran; {known} are known to run the line"
            survivors.append(f"{where} ({ran}) {answer['how']}\n{mutant.name}\n")
    for survivor in sorted(survivors):
        print(f"\nnot noticed: {survivor}", flush=True)
    return len(survivors)


if __name__ == "__main__":
    sys.exit(main())
