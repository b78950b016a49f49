"""The table of what was measured, in a page of the documentation."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import date
from pathlib import Path

BEGIN = "<!-- measured: make bench PAGE=FILE writes what is below -->"
END = "<!-- measured, to here -->"
_NOTE = re.compile(r" {4}\S")
PAGE_HELP = "put the table into FILE, between its two marks, with the date"


def write_page(page: Path, table: Sequence[str], day: date) -> None:
    """
    Put the lines of a table into the page, in place of those that are there.

    The notes below its rows are for the terminal, where they are four blanks in.

    Raises:
        ValueError: The page does not say where.
    """
    text = page.read_text(encoding="utf-8")
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{page} has no lines {BEGIN!r} and {END!r}")
    rows = "\n".join(table).splitlines()
    lines = "\n".join(line for line in rows if not _NOTE.match(line))
    measured = f"Measured on {day.isoformat()}:\n\n```text\n{lines}\n```"
    page.write_text(f"{before}{BEGIN}\n\n{measured}\n\n{END}{after}", encoding="utf-8")
