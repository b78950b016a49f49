"""The tutorial is followed as it stands, and comes to the program in `examples/night`."""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path

import pytest
from tests.ext.remote_workers.tools import free_port
from tests.house.packaging import following

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs/tutorial/night.md").read_text(encoding="utf-8")
#: Today, on the page.
PAGE_DAY = date(2026, 11, 26)


@pytest.mark.slow("a whole tutorial, in processes")
def test_the_night_goes_as_the_page_says(tmp_path):
    """In real processes: its files, its commands, and what they show."""
    began = datetime.now(UTC)
    folder = tmp_path / "shops"
    folder.mkdir()
    with following.Reader(folder, PAGE_DAY, free_port()) as reader:
        try:
            reader.follow(PAGE)
        except AssertionError:
            now = datetime.now(UTC)
            if (began.date(), began.hour < 3) != (now.date(), now.hour < 3):
                pytest.skip("a day or a slot began meanwhile")
            raise

    for name in ("app.py", "press.py", "tills.py"):
        file = (ROOT / "examples/night" / name).read_text("utf-8")
        assert without_blanks((folder / name).read_text("utf-8")) == without_blanks(
            file
        )


def without_blanks(text: str) -> list[str]:
    return [line for line in text.splitlines() if line]


FILE = '''"""T."""

import csv

from taskorch import Task


def one():
    return 1


a = one()
run(a, 1)
'''


def test_a_file_grows_by_what_is_new():
    """What it has is changed where it stands; the rest goes beside its neighbours."""
    block = (
        "from taskorch import Task, Workflow\n\n# Two.\ndef two():\n    return 2\n\n"
        "b = two()\na = one() + b\nrun(b, 1)\nrun(a, 2)\n"
    )
    text = following.grown(FILE, "import sqlite3\nfrom taskorch import Task\n")
    for _ in range(2):
        text = following.grown(text, block)
    assert without_blanks(text) == [
        *('"""T."""', "import csv", "import sqlite3"),
        *("from taskorch import Task, Workflow", "# Two.", "def two():"),
        *("    return 2", "b = two()", "def one():", "    return 1"),
        *("a = one() + b", "run(b, 1)", "run(a, 2)"),
    ]


def test_what_differs_from_the_page_is_named(tmp_path):
    """A number, a line too few or too many, or another id than before."""
    reader = following.Reader(tmp_path, PAGE_DAY, 8080)
    one, two, other = (f"run-2026-11-{day}T160047.3Z" for day in (26, 27, 28))

    def follow(printed, shown):
        (tmp_path / "printed").write_text(printed)
        reader.follow(f"```console\n$ head printed\n{shown}\n```\n")

    follow("1 task took 3 ms\n", "1 task took 12.5 ms")
    follow(f"a\n{two} ended\nb\n", f"…\n{one} ended\n…")
    follow(f"{two} has ended\n", f"{one} … ended")
    for printed, shown in (
        *(("2 tasks\n", "1 task"), (f"{other}\n", one)),
        *(("1 task\nb\n", "1 task"), ("1 task\n", "1 task\nb")),
        *(("a\nb\nc\n", "a\n…\nb"), ("a\nb\nc\n", "b\n…")),
    ):
        with pytest.raises(AssertionError, match=r"the page has|and it has not"):
            follow(printed, shown)
