"""
The small faults: which changes of which places of the library are drawn.

A comparison, a condition, a number, a statement left out, …: one change at a time of what
stands in a function. The same seed draws the same.
"""

import ast
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random

ROOT = Path(__file__).resolve().parent.parent.parent
LIBRARY = "src/taskorch"
#: Changes that change nothing that anybody could see, each with the reason.
EQUAL = ROOT / "tests/mutants_equal.txt"


@dataclass(frozen=True)
class Part:
    """A part of the library, and the tests that should notice what is wrong in it."""

    #: Files and folders below `src/taskorch`.
    sources: tuple[str, ...]
    #: Folders and files of tests, the nearest first.
    tests: tuple[str, ...]

    @property
    def files(self) -> list[Path]:
        """The files that the changes are drawn from."""
        files: list[Path] = []
        for name in self.sources:
            path = ROOT / LIBRARY / name
            files += sorted(path.rglob("*.py")) if path.is_dir() else [path]
        return files


PARTS = {
    "kernel": Part(("kernel",), ("tests/kernel", "tests/simulation")),
    "runtime": Part(
        ("runtime", "_orchestrator.py", "_handles.py", "_aio.py"),
        (
            "tests/integration",
            "tests/faults",
            "tests/simulation/test_commits.py",
            "tests/workflows",
            "tests/telemetry",
        ),
    ),
    "journal": Part(
        ("journal",), ("tests/unit/journal", "tests/faults", "tests/integration")
    ),
    "workflows": Part(
        ("workflows", "_managers"), ("tests/workflows", "tests/integration")
    ),
    "executors": Part(
        ("executors",), ("tests/unit/executors", "tests/faults", "tests/integration")
    ),
    "policies": Part(
        ("policies",), ("tests/unit/policies", "tests/packaging/test_exports.py")
    ),
}


@dataclass(frozen=True)
class Mutant:
    """One change of one place."""

    #: The file, from the root of the project.
    file: str
    #: The function that it is in, as `Class.method`.
    function: str
    #: The functions that it is in, from the outermost: name and first line of each.
    functions: tuple[tuple[str, int], ...]
    #: First and last line of the statement, up to the change: a test that runs one of
    #: these may notice.
    lines: tuple[int, int]
    #: Where the text that changes begins and ends in the file, in bytes.
    start: int
    end: int
    #: What stands there instead.
    text: str
    #: The statement before and after, in one line each.
    before: str
    after: str
    #: Which of several such statements of the function it is, from 1.
    number: int = 1
    #: Whether it changes a default of an argument.
    default: bool = False

    @property
    def name(self) -> str:
        """What it is known by in `mutants_equal.txt`: line numbers change too often."""
        number = f" ({self.number})" if self.number > 1 else ""
        file = self.file.removeprefix(LIBRARY + "/")
        return f"{file} {self.function}{number}\n- {self.before}\n+ {self.after}"

    def plant_in(self, source: bytes) -> bytes:
        """The text of the whole file with the change."""
        return source[: self.start] + self.text.encode() + source[self.end :]


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


def one_line(text: bytes) -> str:
    """A statement in one line, without its comments."""
    lines = (line.partition("  # ")[0] for line in text.decode().splitlines())
    return " ".join(" ".join(line for line in lines if line.strip()[:1] != "#").split())


@dataclass(frozen=True)
class _Place:
    """Where in a file something stands."""

    names: tuple[str, ...]
    functions: tuple[tuple[str, int], ...]
    statement: ast.stmt

    def inside(self, node: ast.AST) -> "_Place":
        if not isinstance(node, ast.stmt):
            return self
        if not isinstance(node, FUNCTION):
            return replace(self, statement=node)
        functions = self.functions
        if not isinstance(node, ast.ClassDef):
            first = min([node.lineno, *(one.lineno for one in node.decorator_list)])
            functions = (*functions, (node.name, first))
        return _Place((*self.names, node.name), functions, node)


def mutants_of(file: Path, root: Path = ROOT) -> Iterator[Mutant]:  # noqa: C901 - one walk
    """All changes of what stands in the functions of *file*, which is below *root*."""
    source = file.read_bytes()
    starts = [0]
    for line in source.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    where = str(file.relative_to(root))
    seen: Counter[str] = Counter()

    def span(node: ast.stmt | ast.expr) -> tuple[int, int]:
        begin = starts[node.lineno - 1] + node.col_offset
        return begin, starts[(node.end_lineno or 0) - 1] + (node.end_col_offset or 0)

    def mutant(
        node: ast.stmt | ast.expr, changed: ast.AST, place: _Place, default: bool
    ) -> Mutant:
        start, end = span(node)
        text = ast.unparse(ast.fix_missing_locations(changed))
        text = text if isinstance(node, ast.stmt) else f"({text})"
        first, last = span(place.statement)
        last_line = node.end_lineno or node.lineno
        if default:
            # Whoever calls the function may notice.
            last_line = place.statement.end_lineno or 0
        body = getattr(place.statement, "body", None)
        if isinstance(body, list):
            last = span(body[0])[0]
        made = Mutant(
            where,
            ".".join(place.names),
            place.functions,
            (place.statement.lineno, last_line),
            start,
            end,
            text,
            one_line(source[first:last]),
            one_line(source[first:start] + text.encode() + source[end:last]),
            default=default,
        )
        seen[made.name] += 1
        return replace(made, number=seen[made.name])

    def within(node: ast.AST, place: _Place) -> Iterator[Mutant]:
        for part in children(node):
            inner = place.inside(part)
            if isinstance(part, ast.stmt | ast.expr):
                default = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
                default = default and isinstance(part, ast.expr)
                for changed in changes(part):
                    yield mutant(part, changed, inner, default)
            yield from within(part, inner)

    for top in ast.parse(source).body:
        if isinstance(top, FUNCTION):
            yield from within(top, _Place((), (), top).inside(top))


def draw(part: Part, count: int, seed: int) -> list[Mutant]:
    """So many different changes of *part*, by chance; all, if there are no more."""
    found = [mutant for file in part.files for mutant in mutants_of(file)]
    return Random(seed).sample(found, min(count, len(found)))


def known_equal() -> dict[str, str]:
    """The reason of each change that is known to change nothing, by its name."""
    reasons = {}
    for block in EQUAL.read_text().split("\n\n"):
        lines = block.strip().splitlines()
        name = "\n".join(line for line in lines if not line.startswith("#"))
        if name:
            reason = [line.strip("# ") for line in lines if line.startswith("#")]
            reasons[name] = " ".join(reason)
    return reasons
