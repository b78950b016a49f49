"""Commit, then release; and a journal that survives a crash."""

import pytest

from taskorch.api.journal import MemoryJournal
from taskorch.core.engine._committer import Commits
from taskorch.errors import JournalTakenError
from taskorch.events import OrchestratorStarted
from taskorch.testing import SimulatedJournal
from taskorch.testing.laws import check_journal


def entries(*numbers):
    return [(OrchestratorStarted(number, 1), None) for number in numbers]


def numbers(group):
    return [event[1] for event, _ in group]


# -- commits ---------------------------------------------------------------------------


def test_a_group_is_all_that_is_pending():
    commits = Commits()
    assert commits.begin() is None
    commits.pending += entries(1, 2)
    commits.pending += entries(3)

    assert numbers(commits.begin()) == [1, 2, 3]
    assert commits.pending == []
    assert commits.committed == 0


def test_who_waits_for_what_is_kept_is_released_at_once():
    told = []
    Commits(committed=7).when(7, lambda: told.append(7))
    assert told == [7]


# -- journals --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "make", [SimulatedJournal, lambda: MemoryJournal(keep_events=True)]
)
def test_a_journal_keeps_its_laws(make):
    check_journal(make, examples=30)


@pytest.mark.parametrize("frames", range(4))
def test_a_torn_group_was_never_kept(frames):
    journal = SimulatedJournal()
    epoch = journal.claim()
    journal.append(epoch, entries(1, 2))
    journal.tear(epoch, entries(3, 4, 5), frames)

    assert journal.is_torn == (frames > 0)
    assert numbers(journal.read()) == [1, 2]
    epoch = journal.claim()
    assert not journal.is_torn
    journal.append(epoch, entries(3))
    assert numbers(journal.read()) == [1, 2, 3]
    assert len(journal) == journal.last == 3


def test_a_group_whose_mark_was_written_is_kept():
    journal = SimulatedJournal()
    epoch = journal.claim()
    journal.tear(epoch, entries(1, 2), 3)
    assert numbers(journal.read()) == [1, 2]


def test_who_has_lost_a_journal_writes_no_more():
    journal = SimulatedJournal()
    old = journal.claim()
    journal.claim()
    with pytest.raises(JournalTakenError):
        journal.append(old, entries(1))
    with pytest.raises(JournalTakenError):
        journal.tear(old, entries(1), 1)


def test_a_journal_in_memory_that_keeps_no_events_looks_at_the_numbers():
    journal = MemoryJournal()
    epoch = journal.claim()
    journal.append(epoch, entries(1, 2))
    with pytest.raises(ValueError, match="comes after"):
        journal.append(epoch, entries(2))
    assert list(journal.read()) == []
