"""The tables of a file: what they must have, and the id that a journal keeps."""

from contextlib import closing

import pytest
from tests.core.journal.tools import edit, entries, filled

from taskorch.api.journal import SqliteJournal
from taskorch.errors import JournalError


@pytest.fixture
def path(tmp_path):
    return tmp_path / "runs.db"


@pytest.mark.parametrize("layout", [0, 2, 99])
def test_another_layout_is_refused_and_nothing_is_changed(path, layout):
    filled(path)
    edit(path, f"PRAGMA user_version = {layout}")
    before = path.read_bytes()
    with pytest.raises(JournalError, match=r"tables are missing|of a newer taskorch"):
        SqliteJournal(path).claim()
    with pytest.raises(JournalError, match=r"tables are missing|of a newer taskorch"):
        entries(path)
    assert path.read_bytes() == before


def test_the_id_of_a_journal_stays_and_is_its_own(path, tmp_path):
    filled(path)
    filled(tmp_path / "other.db")
    seen = []
    for name in (path, path, tmp_path / "other.db"):
        with closing(SqliteJournal(name)) as journal:
            with pytest.raises(JournalError, match="not claimed"):
                journal.uid  # noqa: B018 - it raises
            journal.claim()
            seen.append(journal.uid)
    assert seen[0] == seen[1] != seen[2]
