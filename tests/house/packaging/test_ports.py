"""Tests that run beside each other listen where nobody else does."""

from __future__ import annotations

import ast
import re
from pathlib import Path

TESTS = Path(__file__).parents[2]
#: Programs in texts are calls, too: a test starts them.
CALL = re.compile(r"\bserve\(")
#: There a port makes no difference: what is served is refused.
REFUSED = {"tests/ext/service/test_server.py"}


def calls(tree: ast.AST) -> list[ast.Call]:
    """The calls that serve something, those in programs within texts included."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = getattr(node.func, "id", getattr(node.func, "attr", ""))
            found += [node] if name == "serve" else []
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            if "serve(" not in node.value or "\n" not in node.value:
                continue
            try:
                found += calls(ast.parse(node.value))
            except SyntaxError:
                continue
    return found


def says_where(call: ast.Call) -> bool:
    """Whether *call* names a port, or hands on what somebody else has named."""
    return any(word.arg in ("port", None) for word in call.keywords)


def test_no_test_listens_on_the_usual_port():
    files = [
        (path, text)
        for path in sorted(TESTS.rglob("*.py"))
        if CALL.search(text := path.read_text()) and path != Path(__file__)
    ]
    assert len(files) > 20
    for path, text in files:
        name = path.relative_to(TESTS.parent).as_posix()
        fixed = [c.lineno for c in calls(ast.parse(text)) if not says_where(c)]
        most = 1 if name in REFUSED else 0
        assert len(fixed) <= most, f"{name}: say port=0 in lines {fixed}"
