"""
A file that outlives every death: one line for each thing that was done or promised.

Lines are appended whole, so their order is that in which things happened.
"""

import os
from collections.abc import Iterator
from pathlib import Path

#: Where this process writes; a workload sets it before it begins.
_file = -1


def open_ledger(journal: Path) -> None:
    """Write to the ledger beside *journal* from now on."""
    global _file  # noqa: PLW0603 - one for each process
    flags = os.O_APPEND | os.O_CREAT | os.O_WRONLY
    _file = os.open(journal.with_name("ledger"), flags, 0o600)


def note(*words: object) -> None:
    """One line."""
    os.write(_file, (" ".join(map(str, words)) + "\n").encode())


def lines(journal: Path) -> list[list[str]]:
    """What has been noted so far, each line as its words."""
    file = journal.with_name("ledger")
    if not file.exists():
        return []
    return [line.split() for line in file.read_text().splitlines()]


def of(journal: Path, kind: str) -> Iterator[list[str]]:
    """The lines of one kind, without that word."""
    return (words for first, *words in lines(journal) if first == kind)
