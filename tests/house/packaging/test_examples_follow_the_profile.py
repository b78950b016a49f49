"""How many random examples a law has is said by the profile of a run, in all tests."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[2]
#: It says what the profiles are.
PROFILES = TESTS / "conftest.py"
NUMBER = re.compile(r"\bmax_examples=\s*\d")


def fixed(text: str) -> Iterator[int]:
    """
    The lines where a number of examples is the same in each run.

    A search for what is known to be there has its own, and ends with what it finds.
    """
    for call in ast.walk(ast.parse(text)):
        if isinstance(call, ast.Call):
            said = {each.arg: each.value for each in call.keywords}
            if isinstance(said.get("max_examples"), ast.Constant) and (
                "derandomize" not in said
            ):
                yield call.lineno


def test_no_law_has_more_examples_than_its_run() -> None:
    found = [
        f"{path.relative_to(TESTS)}:{line}"
        for path in sorted(TESTS.rglob("*.py"))
        if path != PROFILES and NUMBER.search(text := path.read_text("utf-8"))
        for line in fixed(text)
    ]
    assert not found, f"say examples(…) of tests/house/tools/examples.py: {found}"


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("@settings(max_examples=60, deadline=None)\ndef test(): pass", [1]),
        ("few = settings(max_examples=5)", [1]),
        ("@settings(max_examples=examples(60))\ndef test(): pass", []),
        ("settings(max_examples=2_000, derandomize=True)", []),
    ],
)
def test_what_the_law_forbids_is_seen(text: str, lines: list[int]) -> None:
    assert [*fixed(text)] == lines
    assert NUMBER.search(text) or not lines
