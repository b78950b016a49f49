"""
Rereading: from a journal to the state that its facts lead to.

A snapshot is where it begins, if there is one that leads where it says; and what is
kept later is applied by going on. A new life does this, and whoever only looks.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain
from typing import Any, Final, Protocol

from taskorch.errors import InternalError, JournalError
from taskorch.events import TASK_ID
from taskorch.kernel import Restoration
from taskorch.model import Units
from taskorch.protocols import DurableJournal, Entry
from taskorch.runtime import _folding
from taskorch.runtime._folding import Folding

#: What a fact raises of which those before it are missing.
_MISFITS: Final = (AssertionError, AttributeError, LookupError, TypeError)


class RereadingHost(_folding.FoldingHost, Protocol):
    """What rereading asks of its runtime."""

    def new_kernel(self, pools: Units = ()) -> None:
        """Begin with nothing, but for *pools*."""
        ...


class Rereading:
    """
    Folds what *journal* keeps into the kernel of *owner*, which has done nothing yet.

    The journal need not be claimed.
    """

    def __init__(self, host: RereadingHost, journal: DurableJournal) -> None:
        self._owner = host
        self._journal = journal
        # The facts say what there is, up to the end of the last life.
        host.new_kernel()
        self.folding = Folding(host)
        #: The number of the last fact that was applied, and the time of the latest.
        self.last = self.at_ns = 0
        #: The number of the snapshot that it began with; 0: with none.
        self.snapshot_at = 0

    def run(self) -> None:
        """
        Apply all that is kept.

        Raises:
            JournalError: It cannot be read.
        """
        self.begin()
        self.apply(self._journal.read(after=self.last))

    def begin(self) -> None:
        """
        Begin with the latest snapshot, if there is one.

        Raises:
            JournalError: It cannot be read.
        """
        found = self._journal.snapshot()
        if found is not None and self._restore(found[1]):
            self.snapshot_at = self.last

    def apply(self, entries: Iterable[Entry]) -> None:
        """
        Apply *entries*, which come after all that was.

        Raises:
            JournalError: One does not fit those before it.
        """
        fold = self.folding.fold
        for entry in entries:
            fact = entry[0]
            try:
                fold(entry)
            except _MISFITS as error:
                where, kind = self._journal.description(), type(fact).__name__
                msg = f"{where} is damaged: fact {fact.seq}, {kind}, does not fit what "
                msg += f"came before it ({type(error).__name__}: {error})"
                hint = "restore it from a copy: facts before it may be missing"
                raise JournalError(msg, hint=hint) from error
            self.last, self.at_ns = fact.seq, max(self.at_ns, fact.at_ns)

    def _restore(self, state: dict[str, Any]) -> bool:
        """Begin with a snapshot; whether that worked."""
        owner, journal = self._owner, self._journal
        try:
            restoration = Restoration(owner.kernel, state)
        except ValueError:
            return False
        until = restoration.seq
        entries: list[Entry] = list(journal.select(restoration.ids, until))
        later = (entry[0] for entry in journal.read(after=until))
        missing = restoration.missing(chain((fact for fact, _ in entries), later))
        while missing:
            more = list(journal.select(missing, until))
            entries += more
            missing = restoration.missing(fact for fact, _ in more)
        apply_in_order(self.folding, restoration, entries)
        self._keep_events(restoration)
        try:
            restoration.finish()
        except (InternalError, LookupError):
            owner.new_kernel()
            self.folding = Folding(owner)
            return False
        self.last, self.at_ns = until, restoration.at_ns
        return True

    def _keep_events(self, restoration: Restoration) -> None:
        """Fold the events from outside that nobody had waited for."""
        numbers = dict.fromkeys(restoration.events)
        if not numbers:
            return
        # They are kept for a while only, so they are among the last.
        for entry in self._journal.read(after=min(numbers) - 1):
            number = entry[0].seq
            if number > restoration.seq:
                break
            if number in numbers:
                self.folding.fold(entry, restoration.fold)


def apply_in_order(
    folding: Folding, restoration: Restoration, entries: list[Entry]
) -> None:
    """Apply the facts up to a snapshot about its tasks, and those that they need."""
    entries.sort(key=lambda entry: entry[0].seq)
    for entry in entries:
        if restoration.is_kept(entry[0][TASK_ID]):
            folding.fold(entry, restoration.fold)
        else:
            folding.note_turned(entry[0])
            restoration.fold(entry[0])
