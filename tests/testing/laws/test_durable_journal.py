"""check_durable_journal: right ones pass, and each planted mistake is named."""

from __future__ import annotations

import os
import threading
from itertools import count

import pytest
from tests.house.own_journal import LinesJournal
from tests.testing.laws.tools import each, violation

from taskorch import MemoryJournal, SqliteJournal, Task
from taskorch.api.journal import document
from taskorch.errors import InvalidTaskError, JournalTakenError
from taskorch.model import Call
from taskorch.protocols import DurableJournal, Journal
from taskorch.testing import SimulatedJournal
from taskorch.testing.laws import check_durable_journal
from taskorch.testing.laws._case import laws_of


class LosesTheLatest(LinesJournal):
    """Of a group, what is in memory is not what is in the file."""

    def __init__(self, path):
        super().__init__(path)
        self.owned = []

    def _write(self, record):
        if record[0] == "group":
            self.owned.append(record)
        super()._write(record)

    def _records(self):
        records = list(super()._records())
        # Who has not written it does not see the latest of three groups.
        hide = not self.owned and len(records) in (3, 4)
        yield from records[:-1] if hide else records


class LocksNothing(LinesJournal):
    def _open(self):
        self._lock = os.open(self.path, os.O_RDWR | os.O_CREAT)
        self._file = os.open(self.path, os.O_RDWR | os.O_CREAT)


class SaysThatItIsLost(LinesJournal):
    def when_lost(self, tell):
        tell(JournalTakenError("by nobody"))


class IsReadByItsOwnerOnly(LinesJournal):
    """Another thread sees a part of a group."""

    def read(self, after=0):
        entries = list(super().read(after))
        if threading.current_thread() is not threading.main_thread():
            del entries[-1:]
        return iter(entries)


class KeepsPicturesOfValues(LinesJournal):
    def document(self, value):
        try:
            return super().document(value)
        except InvalidTaskError:
            return document(repr(value))


class TakesTheBadOnes(LinesJournal):
    def append(self, epoch, group):
        try:
            super().append(epoch, group)
        except InvalidTaskError:
            super().append(epoch, [(event, None) for event, _ in group])


class CallsEachEndAFailure(LinesJournal):
    def ends(self, ids):
        return dict.fromkeys(super().ends(ids), "TaskFailed")


class SortsItsIds(LinesJournal):
    def ids(self, prefix):
        return sorted(super().ids(prefix), key=lambda name: name[::-1])


class SelectsTooMuch(LinesJournal):
    def select(self, ids, until):
        return super().select(ids, until + 1000)


class KnowsTheFirstOfAKey(LinesJournal):
    def id_of_key(self, key):
        for _, value in self.read():
            if isinstance(value, Task) and value.idempotency_key == key:
                return value.id
        return None


class CountsTooMany(LinesJournal):
    def submitted(self, after, until, most):
        return super().submitted(after, until, most + 1)


class KeepsNoSnapshot(LinesJournal):
    def save(self, epoch, seq, state):
        if not 0 < seq <= self._last:
            raise ValueError(seq)


class KeepsItsFirstSnapshot(LinesJournal):
    def save(self, epoch, seq, state):
        if self.snapshot() is None or not 0 < seq <= self._last:
            super().save(epoch, seq, state)


class SavesAnywhere(LinesJournal):
    def save(self, epoch, seq, state):
        latest, self._latest = self._latest, [[2**62]]
        super().save(epoch, max(seq, 1), state)
        self._latest = latest


class ForgetsInItsUpkeep(LinesJournal):
    def upkeep(self, epoch):
        os.ftruncate(self._file, 0)


class LosesArguments(LinesJournal):
    def call_texts(self, task_type, fn):
        return lambda args: self.text(Task(task_type, Call(fn)))


class ForgetsTheLatest(list):
    def keep(self, event, text):
        self.append((event, text))

    @property
    def last(self):
        return self[0][0][1]


class MiscountsItsGroups(LinesJournal):
    def new_group(self):
        return ForgetsTheLatest()


class GoesOnAfterItsEnd(LinesJournal):
    def close(self):
        self._let_go()


class HasOneName(LinesJournal):
    def identity(self):
        return "journal"


class HasManyNames(LinesJournal):
    def identity(self):
        return f"{os.urandom(8).hex()}"


class HasAnOddName(LinesJournal):
    def identity(self):
        return f"{self.path}"


class ForgetsNothing(LinesJournal):
    def forget(self, epoch, ids):
        return len(ids)


PLANTED = {
    0: tuple(
        type("SaysNothing", (LinesJournal,), {name: lambda _: None})
        for name in ("description", "is_owned")
    ),
    1: (LosesTheLatest,),
    2: (LocksNothing, SaysThatItIsLost),
    3: (IsReadByItsOwnerOnly,),
    4: (KeepsPicturesOfValues, TakesTheBadOnes),
    5: (
        CallsEachEndAFailure,
        SortsItsIds,
        SelectsTooMuch,
        KnowsTheFirstOfAKey,
        CountsTooMany,
    ),
    6: (KeepsNoSnapshot, KeepsItsFirstSnapshot),
    7: (SavesAnywhere, ForgetsInItsUpkeep),
    8: (LosesArguments, MiscountsItsGroups),
    9: (GoesOnAfterItsEnd,),
    10: (HasOneName, HasManyNames, HasAnOddName),
    11: (ForgetsNothing,),
}


@pytest.fixture
def checked(tmp_path):
    """Checks journals of a class, each in a file of its own."""

    def check(made, examples=2, **options):
        numbers, path = count(), []

        def make():
            path[:] = [tmp_path / f"{next(numbers)}"]
            return reopen()

        def reopen():
            return made(path[0], **options)

        check_durable_journal(make, reopen=reopen, examples=examples)

    return check


class TakesOver(SqliteJournal):
    """The second object takes it from the first."""

    def __init__(self, path):
        super().__init__(path, durability="process", take_over=True)


@pytest.mark.slow("the laws, for each")
@pytest.mark.parametrize("made", [LinesJournal, SqliteJournal, TakesOver])
def test_a_right_one_passes(checked, made):
    checked(made, examples=4)


@pytest.mark.slow("thirty cases")
def test_ours_passes_at_length(checked):
    checked(SqliteJournal, examples=30)


@pytest.mark.parametrize(("law", "made"), each(PLANTED))
def test_a_planted_mistake_is_named(checked, law, made):
    # Only names are those of two journals.
    found = violation(checked, made, examples=2 if law == 10 else 1)
    assert (found.protocol, found.law) == ("DurableJournal", law)


def test_every_law_has_a_planted_mistake():
    assert set(laws_of(DurableJournal)) == set(PLANTED) - {0}


def test_what_is_missing_is_named():
    with pytest.raises(TypeError, match="has no save and no snapshot") as caught:
        check_durable_journal(MemoryJournal, reopen=MemoryJournal)
    assert "no claim" not in str(caught.value)


@pytest.mark.parametrize("made", [MemoryJournal, SimulatedJournal])
def test_what_ends_with_the_process_is_not_durable(made):
    assert isinstance(made(), Journal)
    assert not isinstance(made(), DurableJournal)


def test_one_that_inherits_and_lacks_a_method_cannot_be_made():
    class Unfinished(DurableJournal):
        pass

    with pytest.raises(TypeError, match=r"append.*claim.*read.*save.*snapshot"):
        Unfinished()


def test_all_that_is_not_written_has_a_definition(tmp_path):
    journal = LinesJournal(tmp_path / "journal")
    definitions = DurableJournal
    assert definitions.description(journal) == "LinesJournal"
    assert definitions.identity(journal) == ""
    assert definitions.logs_folder(journal) is None
    assert not journal.needs_upkeep()
    assert journal.troubles() == ()
