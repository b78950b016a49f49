"""The page of the documentation that a run of the benchmarks writes."""

from __future__ import annotations

from datetime import date

import pytest
from benchmarks import _cli
from benchmarks._page import BEGIN, END, write_page
from benchmarks._registry import load


def test_a_table_takes_the_place_of_the_one_before(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(f"above\n\n{BEGIN}\n{END}\n\nbelow\n")

    for line in ("old", "new"):
        table = ["head", f"{line}\n    a note", "          names of columns"]
        write_page(page, table, date(2026, 11, 22))

    text = page.read_text()
    assert text.startswith(f"above\n\n{BEGIN}\n")
    assert text.endswith(f"{END}\n\nbelow\n")
    assert (
        "Measured on 2026-11-22:\n\n```text\nhead\nnew\n          names of columns\n```"
        in text
    )
    assert "old" not in text


def test_a_page_that_does_not_say_where_is_left_alone(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("above\n")
    with pytest.raises(ValueError, match="has no lines"):
        write_page(page, ["head"], date(2026, 11, 22))
    assert page.read_text() == "above\n"


def test_the_page_of_the_documentation_names_every_case():
    page = (_cli.Path(__file__).parents[3] / "docs/reference/benchmarks.md").read_text()
    cases, left_out = load()
    assert left_out == []
    assert [name for name in cases if f"`{name}`" not in page] == []
    assert BEGIN in page
    assert END in page
