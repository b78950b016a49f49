"""
What docs/explanation/faults.md promises is shown by tests that exist, and the tests of
faults are on that page.
"""

import ast
import re
from pathlib import Path

TESTS = Path(__file__).parents[1]
PAGE = TESTS.parent / "docs" / "explanation" / "faults.md"
ROWS = [
    [cell.strip() for cell in line.strip("|\n").split("|")]
    for line in PAGE.read_text(encoding="utf-8").splitlines()
    if line.startswith("| ") and not line.startswith("| fault")
]


def named(cell):
    return re.findall(r"`([\w/]+\.py)::(\w+)`", cell)


def names_in(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {
        node.name
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.name.startswith("test_")
    }


def test_every_fault_names_tests_that_exist_or_a_reason():
    for fault, happens, shown in ROWS:
        assert happens, fault
        assert named(shown) or shown.startswith("not promised: "), fault
        for file, test in named(shown):
            assert test in names_in(TESTS / file), f"{fault}: {file}::{test}"


def test_every_file_of_tests_of_faults_is_on_the_page():
    shown = {file for row in ROWS for file, _ in named(row[-1])}
    files = {f"faults/{path.name}" for path in (TESTS / "faults").glob("test_*.py")}
    # Those are tests of a tool that users have too.
    assert files - {"faults/test_crash_tools.py"} <= shown


def test_no_fault_is_named_twice():
    assert len({row[0] for row in ROWS}) == len(ROWS) > 50
