"""
Whether the tests would notice: small faults are planted, and the tests are run.

    python tests/mutants.py --part kernel --count 150 --seed 1

draws so many places of a part of the library, changes one of them at a time in a copy of
the project (a comparison, a condition, a number, a statement left out, …), runs the tests
that should notice, and lists the changes that none did. The same seed draws the same.

Some changes change nothing that anybody could see. Those are named in `mutants_equal.txt`
beside this file, each with the reason, and do not count.
"""

import argparse
import ast
import os
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from random import Random

ROOT = Path(__file__).resolve().parent.parent
LIBRARY = "src/taskorch"
EQUAL = Path(__file__).with_name("mutants_equal.txt")
FAST = ("-m", "not slow")
SLOW = ("-m", "slow")
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
#: A run of tests that takes longer than this many seconds hangs: that is noticed, too.
PATIENCE = 900


@dataclass(frozen=True)
class Part:
    """A part of the library, and the tests that should notice what is wrong in it."""

    #: Files and folders below `src/taskorch`.
    sources: tuple[str, ...]
    #: Folders and files of tests, the nearest first.
    tests: tuple[str, ...]


PARTS = {
    "kernel": Part(("kernel",), ("tests/kernel", "tests/simulation")),
    "runtime": Part(
        ("runtime", "_orchestrator.py", "_handles.py", "_aio.py"),
        ("tests/integration", "tests/faults"),
    ),
    "journal": Part(("journal",), ("tests/unit/journal", "tests/faults")),
    "workflows": Part(("workflows", "_managers"), ("tests/workflows",)),
    "executors": Part(("executors",), ("tests/unit/executors", "tests/faults")),
    "policies": Part(("policies",), ("tests/unit/policies",)),
}


@dataclass(frozen=True)
class Mutant:
    """One change of one place."""

    #: The file, from the root of the project.
    file: str
    #: The function that it is in, as `Class.method`.
    function: str
    line: int
    #: Where the text that changes begins and ends in the file, in bytes.
    start: int
    end: int
    before: str
    after: str

    @property
    def name(self) -> str:
        """What it is known by in `mutants_equal.txt`: line numbers change too often."""
        file = self.file.removeprefix(LIBRARY + "/")
        return f"{file} {self.function}: {self.before} => {self.after}"


# ------------------------------------------------------------------ what may be changed

COMPARISONS = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}
ARITHMETIC = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.FloorDiv,
    ast.FloorDiv: ast.Mult,
    ast.Div: ast.Mult,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
}
FUNCTIONS = {"min": "max", "max": "min", "any": "all", "all": "any"}


def changes(node: ast.AST) -> Iterator[ast.AST]:  # noqa: C901, PLR0912 - a table
    """What *node* is replaced by, one change at a time."""
    match node:
        case ast.Compare(left=left, ops=ops, comparators=others):
            for number, op in enumerate(ops):
                changed = [*ops]
                changed[number] = COMPARISONS[type(op)]()
                yield ast.Compare(left, changed, others)
        case ast.BoolOp(op=op, values=values):
            yield ast.BoolOp(ast.And() if isinstance(op, ast.Or) else ast.Or(), values)
            for number in range(len(values)):
                rest = values[:number] + values[number + 1 :]
                yield ast.BoolOp(op, rest) if len(rest) > 1 else rest[0]
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            yield operand
        case ast.BinOp(left=left, op=op, right=right) if type(op) in ARITHMETIC:
            yield ast.BinOp(left, ARITHMETIC[type(op)](), right)
        case ast.Constant(value=bool(value)):
            yield ast.Constant(not value)
        case ast.Constant(value=int(value)):
            yield ast.Constant(value + 1)
        case ast.Call(func=ast.Name(id=name), args=args, keywords=keywords) if (
            name in FUNCTIONS
        ):
            yield ast.Call(ast.Name(FUNCTIONS[name]), args, keywords)
        case ast.IfExp(test=test, body=body, orelse=orelse):
            yield ast.IfExp(test, orelse, body)
        case ast.Return(value=ast.expr() as value):
            if not (isinstance(value, ast.Constant) and value.value is None):
                yield ast.Return(ast.Constant(None))
        case ast.Break():
            yield ast.Continue()
        case ast.Continue():
            yield ast.Break()
        case ast.Expr(value=ast.Call() | ast.Await()) | ast.AugAssign() | ast.Delete():
            yield ast.Pass()
        case ast.Raise():
            yield ast.Pass()
        case ast.Assign(targets=[ast.Attribute() | ast.Subscript()]):
            yield ast.Pass()


def children(node: ast.AST) -> Iterator[ast.AST]:
    """The parts of *node* whose change could matter: no types, and no texts."""
    match node:
        case ast.JoinedStr() | ast.Assert() | ast.Import() | ast.ImportFrom():
            return
        case ast.Raise(exc=ast.Call()):
            return
        case ast.If(test=ast.Name(id="TYPE_CHECKING")):
            return
        case ast.Assign(targets=[ast.Name(id="msg" | "message" | "hint" | "text")]):
            return
        case ast.AnnAssign(value=value):
            if value is not None:
                yield value
        case ast.FunctionDef() | ast.AsyncFunctionDef():
            yield from node.args.defaults
            yield from filter(None, node.args.kw_defaults)
            yield from node.body
        case ast.ClassDef():
            yield from (part for part in node.body if isinstance(part, FUNCTION))
        case _:
            yield from ast.iter_child_nodes(node)


FUNCTION = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


def mutants_of(file: Path) -> Iterator[Mutant]:
    """All changes of what stands in the functions of *file*."""
    source = file.read_bytes()
    starts = [0]
    for line in source.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    where = str(file.relative_to(ROOT))

    def within(node: ast.AST, function: str) -> Iterator[Mutant]:
        for part in children(node):
            if isinstance(part, FUNCTION):
                yield from within(part, f"{function}.{part.name}".lstrip("."))
                continue
            if isinstance(part, ast.stmt | ast.expr):
                begin = starts[part.lineno - 1] + part.col_offset
                end = starts[(part.end_lineno or 0) - 1] + (part.end_col_offset or 0)
                for changed in changes(part):
                    after = ast.unparse(ast.fix_missing_locations(changed))
                    yield Mutant(
                        where,
                        function,
                        part.lineno,
                        begin,
                        end,
                        ast.unparse(part),
                        after if isinstance(part, ast.stmt) else f"({after})",
                    )
            yield from within(part, function)

    for top in ast.parse(source).body:
        if isinstance(top, FUNCTION):
            yield from within(top, top.name)


def draw(part: Part, count: int, seed: int) -> list[Mutant]:
    """So many different changes of *part*, by chance; all, if there are no more."""
    files: list[Path] = []
    for name in part.sources:
        path = ROOT / LIBRARY / name
        files += sorted(path.rglob("*.py")) if path.is_dir() else [path]
    found = [mutant for file in files for mutant in mutants_of(file)]
    return Random(seed).sample(found, min(count, len(found)))


# ---------------------------------------------------------------------- running the tests


class Copy:
    """A copy of the project, in which one change at a time is made."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in NEEDED:
            origin = ROOT / name
            if origin.is_dir():
                ignore = shutil.ignore_patterns("__pycache__", ".*")
                shutil.copytree(origin, folder / name, ignore=ignore)
            elif origin.exists():
                shutil.copy(origin, folder / name)
        self.env = {
            **os.environ,
            "PYTHONPATH": str(folder / "src"),
            "PYTHONDONTWRITEBYTECODE": "1",
            "CI": "true",
            "TMPDIR": str(folder / "tmp"),
        }
        (folder / "tmp").mkdir()

    def survives(self, mutant: Mutant, part: Part) -> bool:
        """Whether no test notices *mutant*."""
        file = self.folder / mutant.file
        source = file.read_bytes()
        changed = source[: mutant.start] + mutant.after.encode() + source[mutant.end :]
        file.write_bytes(changed)
        try:
            return self.is_green(part)
        finally:
            file.write_bytes(source)

    def is_green(self, part: Part) -> bool:
        """Whether all tests pass: the nearest, then all fast ones, then the slow ones."""
        others = [f"--ignore={name}" for name in part.tests]
        return (
            self._pass(*FAST, *part.tests)
            and self._pass(*FAST, "tests", *others)
            and self._pass(*SLOW, *part.tests)
        )

    def _pass(self, *options: str) -> bool:
        # What has noticed a change before comes first.
        command = (sys.executable, "-m", "pytest", "-x", "-q", "--ff", *options)
        tests = subprocess.Popen(
            command,
            cwd=self.folder,
            env=self.env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            self.output = tests.communicate(timeout=PATIENCE)[0]
        except subprocess.TimeoutExpired:
            os.killpg(tests.pid, 9)
            tests.communicate()
            return False
        # 5: there are no such tests.
        return tests.returncode in (0, 5)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--part", choices=PARTS, required=True)
    parser.add_argument("--count", type=int, default=100, help="how many are drawn")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--least", type=float, default=0.0, help="%% to be noticed")
    parser.add_argument("--list", action="store_true", help="show them, and run none")
    given = parser.parse_args()
    part = PARTS[given.part]
    equal = {
        line.split("  # ")[0].strip()
        for line in (EQUAL.read_text().splitlines() if EQUAL.exists() else ())
        if line and not line.startswith("#")
    }
    drawn = draw(part, given.count, given.seed)
    if given.list:
        for mutant in drawn:
            print(f"{mutant.file}:{mutant.line} {mutant.name}")
        return 0
    tried = [mutant for mutant in drawn if mutant.name not in equal]
    print(
        f"{len(drawn)} drawn, {len(drawn) - len(tried)} of them known to change nothing"
    )
    copies: SimpleQueue[Copy] = SimpleQueue()
    results: Counter[bool] = Counter()
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        for number in range(given.jobs):
            copies.put(Copy(Path(folder) / str(number)))

        def run(mutant: Mutant) -> tuple[Mutant, bool]:
            copy = copies.get()
            try:
                return mutant, copy.survives(mutant, part)
            finally:
                copies.put(copy)

        copy = copies.get()
        if not copy.is_green(part):
            print(copy.output.decode(errors="replace")[-2000:])
            print("the tests fail although nothing was changed: mend that first")
            return 2
        copies.put(copy)
        with ThreadPoolExecutor(given.jobs) as pool:
            for mutant, survived in pool.map(run, tried):
                results[survived] += 1
                if survived:
                    print(
                        f"not noticed: {mutant.file}:{mutant.line} {mutant.name}",
                        flush=True,
                    )
    noticed = 100 * results[False] / max(1, len(tried))
    print(f"{given.part}: {results[False]} of {len(tried)} noticed, {noticed:.0f} %")
    return 1 if noticed < given.least else 0


if __name__ == "__main__":
    sys.exit(main())
