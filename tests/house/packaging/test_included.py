"""Pages show the files of examples as they are, and each program of a how-to is shown."""

import pytest
from tests.house.packaging import _included

ROOT = _included.ROOT
PAGES = {page: page.read_text(encoding="utf-8") for page in _included.pages()}
SHOWING = [page for page, text in PAGES.items() if _included.named(text)]


@pytest.mark.parametrize("page", SHOWING, ids=lambda page: str(page.relative_to(ROOT)))
def test_a_page_shows_files_as_they_are(page):
    """Else: python tests/house/packaging/_included.py (which copies files into pages)."""
    text = PAGES[page]
    assert _included.shown(text) == _included.named(text), "a block follows the comment"
    assert _included.with_files(text) == text


def test_each_program_of_a_how_to_is_on_a_page():
    """There it is run as each block of a page is; what a page does not run, a test does."""
    programs = {
        str(path.relative_to(ROOT))
        for path in ROOT.glob("examples/howto/**/*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    shown = {name for page in SHOWING for name in _included.shown(PAGES[page])}
    assert programs - shown == set()

    not_run = [
        name
        for page in SHOWING
        for name in _included.shown(PAGES[page])
        if f"<!-- {name} -->\n```python no-run\n" in PAGES[page]
    ]
    tests = (ROOT / "tests/house/packaging/test_examples.py").read_text(
        encoding="utf-8"
    )
    assert [name for name in not_run if name not in tests] == []


def test_a_file_is_copied_below_its_name(tmp_path, monkeypatch):
    monkeypatch.setattr(_included, "ROOT", tmp_path)
    (tmp_path / "examples").mkdir()
    (tmp_path / "examples/a.md").write_text("```sh\nls\n```\n")
    page = "# T\n\n<!-- examples/a.md -->\n````md\nold\n````\n\n```sh\nold\n```\n"

    assert _included.shown(page) == _included.named(page) == ["examples/a.md"]
    assert _included.with_files(page) == page.replace("old", "```sh\nls\n```", 1)

    page = "<!-- examples/a.md -->\n\n```md\nold\n```\n"
    assert _included.shown(page) != _included.named(page)
