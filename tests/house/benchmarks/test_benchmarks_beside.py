"""The page that shows the benchmarks of two Pythons side by side."""

import json
import re

import pytest
from benchmarks import beside
from benchmarks._figures import Goal, Row, Samples, Unit
from benchmarks._page import BEGIN, END
from benchmarks._report import as_json, machine


def results(python, *rows):
    return {
        "machine": machine() | {"python": f"CPython {python}", "load": 0.5},
        "rows": [as_json("speed", row) for row in rows],
        "failed": [],
    }


def row(what, ratio):
    return Row(
        what=what,
        ours=Samples.of(5e-6, Unit.SECONDS),
        measured=Samples.of(ratio, Unit.RATIO),
        goal=Goal.no_less(1.2),
        note=f"of {ratio}",
    )


def test_the_oldest_and_the_newest_stand_side_by_side(tmp_path, capsys):
    """Versions are numbers, not text; those in between are left out."""
    files = []
    for python, ratio in (("3.15.2", 0.5), ("3.9.1", 1.5), ("3.11.7", 9.0)):
        file = tmp_path / python
        file.write_text(json.dumps(results(python, row("one by one", ratio))))
        files.append(str(file))

    page = tmp_path / "page.md"
    page.write_text(f"{BEGIN}{END}")

    assert beside.main([*files, "--page", str(page)]) == 0

    out = capsys.readouterr().out
    shown = page.read_text().partition("```text\n")[2].partition("\n```")[0]
    # But for the notes.
    rows = [each for each in out.splitlines() if not re.match(r" {4}\S", each)]
    assert shown.splitlines() == rows
    old, new, head, _, _, _, line, note, *_ = out.splitlines()
    assert old.startswith("CPython 3.9.1, ")
    assert new.startswith("CPython 3.15.2, ")
    assert head.split() == ["CPython", "3.9.1", "CPython", "3.15.2"]
    assert note == "    of 0.5"
    assert line.split()[3:] == [
        *("5.00", "us", "1.50x", "yes"),
        *("5.00", "us", "0.50x", "NO", ">=1.2x"),
    ]


def test_runs_of_some_cases_each_are_one(tmp_path, capsys):
    first = results("3.11.7", row("one by one", 1.5), row("map", 2.5))
    again = results("3.11.7", row("one by one", 1.25))
    first["rows"][1]["case"] = "maps"
    for number, run in enumerate((first, again, results("3.11.7 compiled"))):
        (tmp_path / str(number)).write_text(json.dumps(run))
    assert beside.main([str(tmp_path / str(number)) for number in range(3)]) == 0
    out = capsys.readouterr().out
    assert "1.25x" in out
    assert "2.50x" in out
    assert "1.50x" not in out
    old, new, *_ = out.splitlines()
    assert old.startswith("CPython 3.11.7, ")
    assert new.startswith("CPython 3.11.7 compiled, ")


def test_what_only_one_of_them_could_measure_has_its_place():
    long = "a name longer than its column, as some are"
    older = results("3.11.7", row("both", 2))
    newer = results("3.15.2", row("both", 2), row(long, 2))

    lines = beside.table([older, newer])

    assert (
        f"{'a name longer than its column, as s…':37}{'':26}"
        f"{'5.00 us':>11}{'2.00x':>10} yes {'>=1.2x':>11}"
    ) in lines


def test_a_case_that_did_not_run_is_named():
    newer = results("3.15.2", row("both", 2)) | {"failed": ["suite", "map"]}

    *_, last = beside.table([results("3.11.7", row("both", 2)), newer])

    assert last == "Failed to run on CPython 3.15.2: suite, map."


@pytest.mark.parametrize("text", [None, "", "5 us", "[]", '{"rows": []}', "\xff"])
def test_what_no_run_has_written_is_refused_in_one_sentence(text, tmp_path, capsys):
    file = tmp_path / "results"
    if text is not None:
        file.write_text(text, encoding="latin-1")
    with pytest.raises(SystemExit) as caught:
        beside.main([str(file)])
    assert caught.value.code == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.endswith("a FILE is what python -m benchmarks --json FILE wrote")
    assert str(file) in last
