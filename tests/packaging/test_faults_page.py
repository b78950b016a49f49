"""
What docs/explanation/faults.md promises is shown by tests that exist, and the tests of
faults are on that page.
"""

import ast
import re
from pathlib import Path

TESTS = Path(__file__).parents[1]
PAGE = TESTS.parent / "docs" / "explanation" / "faults.md"
ENTRY = re.compile(r"- \*\*(.+?)\*\*: (.+?)((?: `[\w/]+\.py::[\w,]+`)+)")
LINES = [
    line for line in PAGE.read_text(encoding="utf-8").splitlines() if line[:1] == "-"
]
ROWS = [match.groups() for match in map(ENTRY.fullmatch, LINES) if match]


def named(tests):
    return [
        (file, test)
        for file, names in re.findall(r"`([\w/]+\.py)::([\w,]+)`", tests)
        for test in names.split(",")
    ]


def names_in(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {
        node.name
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.name.startswith("test_")
    }


def test_every_fault_has_a_promise_and_tests_that_exist():
    assert [line for line in LINES if not ENTRY.fullmatch(line)] == []
    for fault, _, shown in ROWS:
        for file, test in named(shown):
            assert test in names_in(TESTS / file), f"{fault}: {file}::{test}"


def test_every_file_of_tests_of_faults_is_on_the_page():
    shown = {file for row in ROWS for file, _ in named(row[-1])}
    files = {f"faults/{path.name}" for path in (TESTS / "faults").glob("test_*.py")}
    # Those are tests of a tool that users have too.
    assert files - {"faults/test_crash_tools.py"} <= shown


def test_no_fault_is_named_twice():
    assert len({row[0] for row in ROWS}) == len(ROWS) > 50
