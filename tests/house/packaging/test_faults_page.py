"""
What the pages of faults, of security and of other promises say is shown by tests that
exist, and the tests of faults are behind their page.
"""

import re
import tomllib
from functools import cache
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[2]
PAGES = TESTS.parent / "docs" / "explanation"
ENTRY = re.compile(r"- \*\*(.+?)\*\*: (.+)")
#: By page, heading and fault, the tests that show what happens then.
SHOWN = {
    page: tomllib.loads((TESTS / place).read_text(encoding="utf-8"))
    for page, place in (
        ("faults.md", "worlds/faults/promises.toml"),
        ("security.md", "ext/service/security.toml"),
        ("promises.md", "house/promises.toml"),
    )
}


@cache
def names_in(path):
    text = path.read_text(encoding="utf-8")
    return {*re.findall(r"^ *(?:async )?def (test_\w+)", text, re.MULTILINE)}


@pytest.mark.parametrize(
    ("page", "least"), [("faults.md", 150), ("security.md", 20), ("promises.md", 40)]
)
def test_every_fault_has_a_promise_and_tests(page, least):
    """In the same order on the page and in the list of tests; none twice under a heading."""
    _, *sections = (PAGES / page).read_text(encoding="utf-8").split("\n## ")
    faults = {}
    for section in sections:
        title, *lines = section.splitlines()
        entries = [line for line in lines if line.startswith("-")]
        matches = [ENTRY.fullmatch(line) for line in entries]
        assert [
            line for line, match in zip(entries, matches, strict=True) if not match
        ] == []
        faults[title] = [match[1] for match in matches]
    assert faults == {title: [*entries] for title, entries in SHOWN[page].items()}
    assert sum(map(len, faults.values())) >= least


@pytest.mark.parametrize("page", SHOWN)
def test_every_fault_names_tests_that_exist(page):
    for faults in SHOWN[page].values():
        for fault, tests in faults.items():
            assert tests, fault
            for file, _, test in (each.partition("::") for each in tests):
                assert test in names_in(TESTS / file), f"{fault}: {file}::{test}"


def test_every_file_of_tests_of_faults_is_behind_the_page():
    shown = {
        test.partition("::")[0]
        for faults in SHOWN["faults.md"].values()
        for tests in faults.values()
        for test in tests
    }
    files = {f"faults/{path.name}" for path in (TESTS / "faults").glob("test_*.py")}
    # Those are tests of a tool that users have too.
    assert files - {"worlds/faults/test_crash_tools.py"} <= shown
