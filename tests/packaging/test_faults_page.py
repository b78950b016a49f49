"""
What docs/explanation/faults.md promises is shown by tests that exist, and the tests of
faults are behind that page.
"""

import ast
import re
import tomllib
from functools import cache
from pathlib import Path

TESTS = Path(__file__).parents[1]
PAGE = TESTS.parent / "docs" / "explanation" / "faults.md"
ENTRY = re.compile(r"- \*\*(.+?)\*\*: (.+)")
#: By heading and fault, the tests that show what happens then.
SHOWN = tomllib.loads((TESTS / "faults/promises.toml").read_text(encoding="utf-8"))
ALL_SHOWN = {
    test for faults in SHOWN.values() for tests in faults.values() for test in tests
}


@cache
def names_in(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {
        node.name
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.name.startswith("test_")
    }


def test_every_fault_has_a_promise_and_tests():
    """In the same order on the page and in the list of tests; none twice under a heading."""
    _, *sections = PAGE.read_text(encoding="utf-8").split("\n## ")
    faults = {}
    for section in sections:
        title, *lines = section.splitlines()
        entries = [line for line in lines if line.startswith("-")]
        matches = [ENTRY.fullmatch(line) for line in entries]
        assert [
            line for line, match in zip(entries, matches, strict=True) if not match
        ] == []
        faults[title] = [match[1] for match in matches]
    assert faults == {title: [*entries] for title, entries in SHOWN.items()}
    assert sum(map(len, faults.values())) > 200


def test_every_fault_names_tests_that_exist():
    for faults in SHOWN.values():
        for fault, tests in faults.items():
            assert tests, fault
            for file, _, test in (each.partition("::") for each in tests):
                assert test in names_in(TESTS / file), f"{fault}: {file}::{test}"


def test_every_file_of_tests_of_faults_is_behind_the_page():
    shown = {test.partition("::")[0] for test in ALL_SHOWN}
    files = {f"faults/{path.name}" for path in (TESTS / "faults").glob("test_*.py")}
    # Those are tests of a tool that users have too.
    assert files - {"faults/test_crash_tools.py"} <= shown
