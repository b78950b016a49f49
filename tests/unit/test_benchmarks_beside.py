"""The page that shows the benchmarks of two Pythons side by side."""

import json

from benchmarks import beside
from benchmarks._figures import Goal, Row, Samples, Unit
from benchmarks._report import as_json


def results(python, *rows):
    return {
        "machine": {"python": f"CPython {python}"},
        "rows": [as_json("speed", row) for row in rows],
    }


def row(what, ratio):
    return Row(
        what=what,
        ours=Samples.of(5e-6, Unit.SECONDS),
        measured=Samples.of(ratio, Unit.RATIO),
        goal=Goal.no_less(1.2),
    )


def test_the_oldest_and_the_newest_stand_side_by_side(tmp_path, capsys):
    """Versions are numbers, not text; those in between are left out."""
    files = []
    for python, ratio in (("3.15.2", 0.5), ("3.9.1", 1.5), ("3.11.7", 9.0)):
        file = tmp_path / python
        file.write_text(json.dumps(results(python, row("one by one", ratio))))
        files.append(str(file))

    assert beside.main(files) == 0

    head, _, _, _, line = capsys.readouterr().out.splitlines()
    assert head.split() == ["CPython", "3.9.1", "CPython", "3.15.2"]
    assert line.split()[3:] == [
        *("5.00", "us", "1.50x", "yes"),
        *("5.00", "us", "0.50x", "NO", ">=1.2x"),
    ]


def test_what_only_one_of_them_could_measure_has_its_place():
    long = "a name longer than its column, as some are"
    older = results("3.11.7", row("both", 2))
    newer = results("3.15.2", row("both", 2), row(long, 2))

    *_, line = beside.page([older, newer])

    assert line == (
        f"{'a name longer than its column, as s…':37}{'':26}"
        f"{'5.00 us':>11}{'2.00x':>10} yes {'>=1.2x':>11}"
    )
