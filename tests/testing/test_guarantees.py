"""What the documentation says is watched, and what is."""

import re
from pathlib import Path

from taskorch.testing import _simulation, _watch

ROOT = Path(__file__).parents[2]


def names_in(module):
    """The laws whose breach a module tells of."""
    text = Path(module.__file__).read_text(encoding="utf-8")
    said = re.findall(r'_breach\(\s*"([a-z ]+)"', text)
    for line in re.findall(r"^ +law = (.+)$", text, re.MULTILINE):
        said += re.findall(r'"([a-z ]+)"', line)
    return set(said)


def test_the_page_has_every_law_and_no_other():
    page = ROOT / "docs/explanation/simulation.md"
    _, _, text = page.read_text(encoding="utf-8").partition("## What is watched\n")
    laws, _, _ = text.partition("\nA breach is")
    told = re.findall(r"^- `([a-z ]+)`: .+$", laws, re.MULTILINE)

    assert sorted(told) == sorted(names_in(_watch) | names_in(_simulation))


def test_the_numbers_in_the_documentation_are_those_of_the_code():
    assert (_simulation._MOST_ATTEMPTS, _simulation._MOST_STEPS) == (10_000, 1_000_000)
