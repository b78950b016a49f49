"""The pages of the documentation lead somewhere, and somebody leads to them."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = [*sorted(DOCS.rglob("*.md")), ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
LINK = re.compile(r"\]\((?!https?:|#|mailto:)([^)#]+)(?:#[^)]*)?\)")


def links_of(page):
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    return [page.parent / link for link in LINK.findall(text)]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    assert [link for link in links_of(page) if not link.exists()] == []


def test_the_index_leads_to_every_page():
    there = {page for page in PAGES if page.parent.parent == DOCS}
    pages = {page for page in there if page.parent.name != "decisions"}
    found = {link.resolve() for link in links_of(DOCS / "index.md")}
    assert pages - found == set()
