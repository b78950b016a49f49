"""check_journal: a right one passes, and each planted mistake is named."""

from __future__ import annotations

import copy
from functools import partial

import attrs
import pytest
from tests.testing.laws.tools import each, violation

from taskorch.errors import JournalTakenError, JournalUnavailableError
from taskorch.protocols import Journal
from taskorch.testing.laws import check_journal
from taskorch.testing.laws._case import laws_of


@attrs.define
class Disk:
    """What stays when a journal is closed."""

    epoch: int = 0
    entries: list = attrs.Factory(list)
    latest: list = attrs.Factory(list)


def number(entry):
    return entry[0][1]


class Right:
    def __init__(self, disk=None):
        self.disk = Disk() if disk is None else disk

    def claim(self):
        self.disk.epoch += 1
        return self.disk.epoch

    def document(self, value):
        return value

    def append(self, epoch, group):
        self.check_owner(epoch)
        group = list(group)
        if not group or self.is_latest(group):
            return
        self.check_numbers(group)
        self.keep(group)

    def check_owner(self, epoch):
        if epoch != self.disk.epoch:
            raise JournalTakenError(f"epoch {self.disk.epoch} owns it")

    def is_latest(self, group):
        return group == self.disk.latest

    def check_numbers(self, group):
        if self.disk.entries and number(group[0]) <= number(self.disk.entries[-1]):
            raise ValueError("numbers rise")

    def keep(self, group):
        self.disk.entries += group
        self.disk.latest = group

    def read(self, after=0):
        return (entry for entry in self.disk.entries if number(entry) > after)

    def close(self):
        pass


class ClaimsAName(Right):
    def claim(self):
        return str(super().claim())


class ReadsEvents(Right):
    def read(self, after=0):
        return (event for event, _ in super().read(after))


class LosesTheValues(Right):
    def keep(self, group):
        super().keep(group)
        self.disk.entries[-len(group) :] = [(event, None) for event, _ in group]


class TurnsThemRound(Right):
    def keep(self, group):
        super().keep(group)
        self.disk.entries[-len(group) :] = group[::-1]


class KeepsALazyView(Right):
    """It looks at the caller's list when it is read, which is too late."""

    def __init__(self, disk=None):
        super().__init__(disk)
        self.groups = []

    def append(self, epoch, group):
        count = len(self.disk.entries)
        super().append(epoch, group)
        if len(self.disk.entries) > count:
            self.groups.append(group)

    def read(self, after=0):
        entries = [entry for group in self.groups for entry in group]
        return (entry for entry in entries if number(entry) > after)


class LosesTheLastOnClosing(Right):
    def close(self):
        if self.disk.latest:
            del self.disk.entries[-1:]
        self.disk.latest = []


class KeepsWhatItCouldRead(Right):
    def append(self, epoch, group):
        whole = []
        try:
            for entry in group:
                whole.append(entry)
        except JournalUnavailableError:
            super().append(epoch, whole)
            raise
        super().append(epoch, whole)


class SaysNothingOfIt(Right):
    def append(self, epoch, group):
        try:
            super().append(epoch, group)
        except JournalUnavailableError:
            return


class RefusesTheLatest(Right):
    def is_latest(self, group):
        return False


class KeepsTheLatestTwice(Right):
    def is_latest(self, group):
        if super().is_latest(group):
            self.keep(group)
            return True
        return False


class ClaimsTheSameNumber(Right):
    def claim(self):
        self.disk.epoch = 1
        return 1


class ForgetsTheEpochOnClosing(Right):
    def close(self):
        self.disk.epoch = 0


class LetsAnybodyWrite(Right):
    def check_owner(self, epoch):
        pass


class LetsAnybodyRepeat(Right):
    def append(self, epoch, group):
        group = list(group)
        if not self.is_latest(group):
            super().append(epoch, group)


class SaysTakenTooLate(Right):
    def append(self, epoch, group):
        super().append(self.disk.epoch, group)
        self.check_owner(epoch)


class TakesAnyNumber(Right):
    def check_numbers(self, group):
        pass


class TakesTheLastNumberAgain(Right):
    def check_numbers(self, group):
        if self.disk.entries and number(group[0]) < number(self.disk.entries[-1]):
            raise ValueError("numbers rise")


class KeepsWhatItRefuses(Right):
    def check_numbers(self, group):
        try:
            super().check_numbers(group)
        except ValueError:
            self.disk.entries += group
            raise


class KnowsTheLatestByItsFirst(Right):
    def is_latest(self, group):
        return number(group[0]) == number((self.disk.latest or [((0, 0), 0)])[0])


class KnowsTheLatestByItsNumbers(Right):
    def is_latest(self, group):
        return list(map(number, group)) == list(map(number, self.disk.latest))


class RefusesSilently(Right):
    def append(self, epoch, group):
        try:
            super().append(epoch, group)
        except ValueError:
            return


class ReadsAll(Right):
    def read(self, after=0):
        return super().read(0)


class ReadsOneTooMany(Right):
    def read(self, after=0):
        return super().read(after - 1)


class GoesOnWhereItStopped(Right):
    """One cursor for all readers, put back when it has come to the end."""

    def __init__(self, disk=None):
        super().__init__(disk)
        self.place = 0

    def read(self, after=0):
        while self.place < len(self.disk.entries):
            entry = self.disk.entries[self.place]
            self.place += 1
            if number(entry) > after:
                yield entry
        self.place = 0


class KeepsWhatItIsByThen(Right):
    def keep(self, group):
        super().keep([(event, copy.deepcopy(value)) for event, value in group])


class KeepsItsWrapping(Right):
    def document(self, value):
        return None if value is None else [copy.deepcopy(value)]


class MakesSomethingOfNone(Right):
    def document(self, value):
        return "nothing" if value is None else value


class ForgetsWhatItTook(Right):
    def document(self, value):
        return None


PLANTED = {
    0: (ClaimsAName, ReadsEvents),
    1: (LosesTheValues, TurnsThemRound, KeepsALazyView, LosesTheLastOnClosing),
    2: (KeepsWhatItCouldRead, SaysNothingOfIt),
    3: (RefusesTheLatest, KeepsTheLatestTwice),
    4: (
        ClaimsTheSameNumber,
        ForgetsTheEpochOnClosing,
        LetsAnybodyWrite,
        LetsAnybodyRepeat,
        SaysTakenTooLate,
    ),
    5: (
        TakesAnyNumber,
        TakesTheLastNumberAgain,
        KeepsWhatItRefuses,
        KnowsTheLatestByItsFirst,
        KnowsTheLatestByItsNumbers,
        RefusesSilently,
    ),
    6: (ReadsAll, ReadsOneTooMany, GoesOnWhereItStopped),
    7: (KeepsWhatItIsByThen, KeepsItsWrapping, MakesSomethingOfNone, ForgetsWhatItTook),
}


def checked(made, **options):
    """Check journals of a class, each on a disk of its own, which outlives it."""
    disks = []

    def make():
        disks.append(Disk())
        return made(disks[-1])

    check_journal(make, reopen=lambda: made(disks[-1]), **options)


class Snapshot(list):
    """What a journal that copies makes of a value."""


class Copies(Right):
    def document(self, value):
        return None if value is None else Snapshot([copy.deepcopy(value)])

    def append(self, epoch, group):
        super().append(
            epoch,
            [
                (event, value[0] if isinstance(value, Snapshot) else value)
                for event, value in group
            ],
        )


@pytest.mark.parametrize("made", [Right, Copies])
def test_a_right_one_passes(made):
    check_journal(made)
    checked(made)


def test_one_that_is_opened_again_and_again_passes():
    """What was in it before is let be."""
    disk = Disk()
    open_it = partial(Right, disk)
    check_journal(open_it, reopen=open_it, examples=8)
    check_journal(open_it, examples=8)

    numbers = [number(entry) for entry in disk.entries]
    assert numbers == sorted(set(numbers))
    assert len(numbers) > 60


@pytest.mark.parametrize(("law", "made"), each(PLANTED))
def test_a_planted_mistake_is_named(law, made):
    assert violation(checked, made).law == law


def test_every_law_has_a_planted_mistake():
    assert set(laws_of(Journal)) == set(PLANTED) - {0}


def test_what_a_journal_raises_passes_through_with_the_case():
    class Full(Right):
        def keep(self, group):
            raise OSError(28, "no space left")

    with pytest.raises(OSError, match="no space left") as caught:
        check_journal(Full, seed=3)

    assert caught.value.__notes__ == ["in case 1, seed 3: check_journal(..., seed=3)"]


def test_a_journal_itself_is_not_enough():
    with pytest.raises(
        TypeError, match=r"what makes a Journal is needed, .* its class"
    ):
        check_journal(Right())
