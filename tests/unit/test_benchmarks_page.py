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


def test_a_run_names_the_peers_that_are_not_there(tmp_path, capsys, monkeypatch):
    page = tmp_path / "page.md"
    page.write_text(f"{BEGIN}{END}")
    monkeypatch.setattr(
        "benchmarks._registry.importlib.util.find_spec", lambda name: None
    )
    assert _cli.main(["--quick", "--only", "peers-ray", "--page", str(page)]) == 0
    assert "[peers-ray] skipped: needs ray" in page.read_text()
    assert page.read_text().count("\n") < 40
    assert "[peers-ray] skipped: needs ray" in capsys.readouterr().out


def test_the_page_of_the_documentation_names_every_case():
    page = (_cli.Path(__file__).parents[2] / "docs/reference/benchmarks.md").read_text()
    cases, left_out = load()
    assert left_out == []
    assert [name for name in cases if f"`{name}`" not in page] == []
    assert BEGIN in page
    assert END in page
