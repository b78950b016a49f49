"""What users see is what it was; a change that is meant is seen in a difference."""

from __future__ import annotations

import gzip
import sys
from difflib import unified_diff
from pathlib import Path

import pytest
from tests.house.goldens import recorded
from tests.house.goldens.documents import documents, taken_apart
from tests.house.goldens.making import FOLDER, TEXTS

#: argparse, annotations and the words of HTTP have other texts in other versions.
OF_ONE_VERSION = {"help.txt", "openapi.json", "signatures.txt"}


AT_LENGTH = pytest.param(
    "documents.txt",
    marks=[pytest.mark.slow("reads thousands of documents"), pytest.mark.timeout(900)],
)


@pytest.mark.parametrize("name", [*sorted(TEXTS.keys() - {"documents.txt"}), AT_LENGTH])
def test_a_text_that_users_see_is_as_it_was(name: str) -> None:
    if name in OF_ONE_VERSION and sys.version_info[:2] != (3, 11):
        pytest.skip("its text is that of Python 3.11")
    before = (FOLDER / name).read_text(encoding="utf-8").splitlines()
    now = TEXTS[name]().splitlines()
    changes = list(unified_diff(before, now, "before", "now", lineterm="", n=1))
    assert not changes, (
        f"{name} differs; if that is meant: python -m tests.house.goldens.making {name}\n"
        + "\n".join(changes[:60])
    )


def test_a_quarter_of_what_is_said_of_each_key_of_a_document_is_as_it_was() -> None:
    before = (FOLDER / "documents.txt").read_text(encoding="utf-8")
    now = documents(few=True)
    assert sorted(taken_apart(now)) == sorted(taken_apart(before))


@pytest.fixture(
    params=sorted(recorded.KEPT.glob("*.db.gz")), ids=lambda path: path.name
)
def journal(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A copy of a journal that an earlier version wrote."""
    copy = tmp_path / request.param.name.removesuffix(".gz")
    copy.write_bytes(gzip.decompress(request.param.read_bytes()))
    return copy


def test_a_kept_journal_says_what_it_said(journal: Path) -> None:
    text = (recorded.KEPT / f"{journal.stem}.txt").read_text(encoding="utf-8")
    assert recorded.text(journal) == text


def test_what_waits_in_a_kept_journal_goes_on(journal: Path) -> None:
    assert recorded.go_on(journal) == {
        "plain": 3,
        "later": 5,
        "aside": 6,
        "second-life": 8,
        "recalled": 3,
        "half": ("ada", "bob"),
        "asked": "TaskFailedError",
        "tuesday/sizes": [3, 3, 4],
        "tuesday/sum": 10,
        "tuesday/ship": "slept",
        "blocked": True,
    }
