#!/usr/bin/env python3
"""
An agent without a mind: does what stands in the head of a task file.

It surveys modules of Python's own library, so that there is something real to do:

    agent.py tasks/01-analysis/json.md
"""

from __future__ import annotations

import ast
import json
import os
import re
import sys
import tokenize
from pathlib import Path
from typing import Any

OUTPUTS = Path("workspace/outputs")
#: Tasks that the planning writes for the next phase.
FEATURES = 10


def main(task_file: str) -> None:
    head = read_head(Path(task_file).read_text(encoding="utf-8"))
    here = Path(os.environ["TASK_OUTPUTS"])
    names = head.get("of", "").split()
    name, value = JOBS[head["does"]](names)
    text = value if isinstance(value, str) else json.dumps(value, indent=1)
    (here / name).write_text(text + "\n", encoding="utf-8")
    print(f"{head['does']} {' '.join(names)}: {here / name}")


def read_head(text: str) -> dict[str, str]:
    """The plain fields of the frontmatter."""
    head = text.split("---")[1]
    return dict(re.findall(r"^(\w+): *(.+)$", head, re.MULTILINE))


def source_of(module: str) -> str:
    library = Path(os.__file__).parent
    path = library / f"{module}.py"
    if not path.exists():
        path = library / module / "__init__.py"
    with tokenize.open(path) as file:
        return file.read()


def facts_of(module: str) -> dict[str, Any]:
    facts = json.loads((OUTPUTS / f"01-analysis/{module}/facts.json").read_text())
    return dict(facts)


def measure(names: list[str]) -> tuple[str, Any]:
    (module,) = names
    text = source_of(module)
    nodes = list(ast.walk(ast.parse(text)))
    functions = [n for n in nodes if isinstance(n, ast.FunctionDef)]
    longest = max(functions, key=length, default=None)
    return "facts.json", {
        "module": module,
        "lines": text.count("\n"),
        "functions": len(functions),
        "classes": sum(isinstance(n, ast.ClassDef) for n in nodes),
        "longest": longest.name if longest else None,
        "longest_lines": length(longest) if longest else 0,
        "imports": sorted(
            {a.name for n in nodes if isinstance(n, ast.Import) for a in n.names}
        ),
    }


def length(function: ast.FunctionDef) -> int:
    return (function.end_lineno or function.lineno) - function.lineno + 1


def total(names: list[str]) -> tuple[str, Any]:
    facts = [facts_of(name) for name in names]
    keys = ("lines", "functions", "classes")
    return "totals.json", {key: sum(fact[key] for fact in facts) for key in keys}


def rank(names: list[str]) -> tuple[str, Any]:
    return "ranking.json", sorted(names, key=lambda n: -facts_of(n)["lines"])


def imports(names: list[str]) -> tuple[str, Any]:
    return "imports.json", {
        name: [other for other in facts_of(name)["imports"] if other in names]
        for name in names
    }


def plan(_: list[str]) -> tuple[str, Any]:
    """Write the next phase: an index for each of the longest modules."""
    ranking = json.loads((OUTPUTS / "02-planning/rank/ranking.json").read_text())
    folder = Path("tasks/03-implementation")
    folder.mkdir(exist_ok=True)
    for name in ranking[:FEATURES]:
        text = (
            f"---\ndoes: index\nof: {name}\noutputs: [index.md]\n---\n# Index {name}\n"
        )
        # As a whole, so that nobody reads the half of a task.
        fresh = folder / f".{name}.fresh"
        fresh.write_text(text, encoding="utf-8")
        fresh.rename(folder / f"{name}.md")
    return "features.json", ranking[:FEATURES]


def summarize(_: list[str]) -> tuple[str, Any]:
    totals = json.loads((OUTPUTS / "02-planning/total/totals.json").read_text())
    return "summary.md", f"# {totals['lines']:,} lines, {totals['functions']} functions"


def index(names: list[str]) -> tuple[str, Any]:
    (module,) = names
    lines = [f"# {module}"]
    for node in ast.parse(source_of(module)).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            first, *_ = (ast.get_docstring(node) or "").splitlines() or [""]
            lines.append(f"- `{node.name}`: {first}")
    return "index.md", "\n".join(lines)


def check(names: list[str]) -> tuple[str, Any]:
    """Count again, in another way."""
    for name in names:
        words = re.findall(r"^ *def \w+", source_of(name), re.MULTILINE)
        if len(words) < facts_of(name)["functions"] // 2:
            sys.exit(f"{name}: {len(words)} functions were found in the text")
    return "checked.json", names


def shorten(names: list[str]) -> tuple[str, Any]:
    lines = []
    for name in names:
        fact = facts_of(name)
        lines.append(f"- {name}.{fact['longest']}: {fact['longest_lines']} lines")
    return "advice.md", "\n".join(lines)


JOBS = {
    "measure": measure,
    "total": total,
    "rank": rank,
    "imports": imports,
    "plan": plan,
    "summarize": summarize,
    "index": index,
    "check": check,
    "shorten": shorten,
}

if __name__ == "__main__":
    main(sys.argv[1])
