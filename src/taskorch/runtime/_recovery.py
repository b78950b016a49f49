"""Recovery: a new life opens the journal, and takes up what is there."""

from __future__ import annotations

from collections.abc import Callable
from itertools import chain
from typing import Any, Final, Protocol

from taskorch.errors import (
    InternalError,
)
from taskorch.events import (
    AT_NS,
    CATALOGUE,
    SEQ,
    TASK_ID,
)
from taskorch.executors._programs._sweep import sweep
from taskorch.kernel import (
    Restoration,
    TaskRow,
    recover,
)
from taskorch.model import (
    TERMINAL,
    Agent,
    TaskState,
    Units,
)
from taskorch.protocols import Entry
from taskorch.runtime import _folding, _orphans, _recollection
from taskorch.runtime._attempts import Attempts
from taskorch.runtime._clock import MonotonicClock
from taskorch.runtime._folding import Folding
from taskorch.runtime._orphans import no_agent, release_if_back
from taskorch.runtime._recollection import Recollection
from taskorch.runtime._work import (
    NEVER,
    gone_of,
)

__all__ = ("Recovery",)

_ALL: Final = frozenset(CATALOGUE)
#: States of which those who wait are told.
_SETTLED: Final = frozenset(
    {TaskState.COMPLETED, TaskState.FAILED, TaskState.CANCELLED, TaskState.BLOCKED}
)


class Owner(_folding.Owner, _recollection.Owner, _orphans.Owner, Protocol):
    """What recovery asks of its runtime."""

    attempts: Attempts
    epoch: int
    joining: list[Agent]
    now: Callable[[], int]
    #: The pools that this life was given.
    pools: Units
    run_id: str

    def name_life(self) -> None:
        """Ids of one life differ from those of any other."""
        ...

    def new_kernel(self, pools: Units = ()) -> None:
        """Begin with nothing, but for *pools*."""
        ...


class Recovery:
    """Opens the journal of a runtime that has done nothing yet; under its lock."""

    def __init__(self, owner: Owner) -> None:
        assert owner.committer is not None  # noqa: S101 - it is durable
        self._rt = owner
        self._committer = owner.committer
        self._journal = owner.committer.journal
        # The facts say what there is, up to the end of the last life.
        owner.new_kernel()
        self._folding = Folding(owner)
        self._last = self._at_ns = 0

    def run(self) -> None:
        """
        Own the journal, fold it, and take up what is there.

        Raises:
            JournalError: It cannot be used.
        """
        rt, journal = self._rt, self._journal
        rt.epoch = journal.claim()
        rt.name_life()
        if self._committer.can_be_asked:
            rt.directory.recovered = Recollection(rt, journal)
        self._fold()
        kernel = rt.kernel
        now_ns = MonotonicClock(not_before=self._at_ns).now_ns
        rt.now = now_ns
        self._sweep()
        committer = self._committer
        committer.commits.committed = committer.last = rt.committed = self._last
        self._folding.reconnect()
        if rt.directory.recovered is not None:
            # It knows them all, and takes less room.
            kernel.forget_ended()
            keys, tasks = rt.directory.keys, kernel.tasks
            rt.directory.keys = {key: i for key, i in keys.items() if i in tasks}
        for row in kernel.tasks.values():
            if row.state not in _SETTLED:
                row.cargo._settled = NEVER
        # From now on, only what is kept leaves memory: see `Committer`.
        kernel.keep_finished()
        kernel.listen([], _ALL)
        recover(kernel, rt.epoch, now_ns())
        kernel.change_pools(rt.pools, now_ns())
        joining, rt.joining = rt.joining, []
        for info in joining:
            kernel.add_agent(info, now_ns())
        for row in list(kernel.tasks.values()):
            self._check_needs(row, now_ns())
        rows = kernel.tasks.values()
        kinds = {row.bucket.spec: row for row in rows if row.state not in TERMINAL}
        for spec, row in kinds.items():
            if no_agent(kernel, row, now_ns()):
                rt.orphans[spec] = None

    def _fold(self) -> None:
        journal = self._journal
        found = journal.snapshot()
        if found is not None and self._restore(found[1]):
            self._committer.snapshot_at = self._last
        fold = self._folding.fold
        for entry in journal.read(after=self._last):
            fold(entry)
            self._last, self._at_ns = entry[0][SEQ], max(self._at_ns, entry[0][AT_NS])

    def _restore(self, state: dict[str, Any]) -> bool:
        """Begin with a snapshot; whether that worked."""
        rt, journal = self._rt, self._journal
        try:
            restoration = Restoration(rt.kernel, state)
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
        entries.sort(key=lambda entry: entry[0][SEQ])
        for entry in entries:
            if restoration.is_kept(entry[0][TASK_ID]):
                self._folding.fold(entry, restoration.fold)
            else:
                restoration.fold(entry[0])
        self._keep_events(restoration)
        try:
            restoration.finish()
        except (InternalError, LookupError):
            rt.new_kernel()
            self._folding = Folding(rt)
            return False
        self._last, self._at_ns = until, restoration.at_ns
        return True

    def _keep_events(self, restoration: Restoration) -> None:
        """Fold the events from outside that nobody had waited for."""
        numbers = dict.fromkeys(restoration.events)
        if not numbers:
            return
        # They are kept for a while only, so they are among the last.
        for entry in self._journal.read(after=min(numbers) - 1):
            number = entry[0][SEQ]
            if number > restoration.seq:
                break
            if number in numbers:
                self._folding.fold(entry, restoration.fold)

    def _sweep(self) -> None:
        """End the programs of earlier lives, before anything is run again."""
        rt, journal = self._rt, self._journal
        identity, logs = journal.identity(), journal.logs_folder()
        if identity:
            if rt.epoch > 1:
                sweep(f"{identity}.")
            rt.run_id = f"{identity}.{rt.epoch}"
        if logs is not None:
            from pathlib import Path  # noqa: PLC0415 - for programs with a journal

            rt.attempts.programs.logs = Path(logs)

    def _check_needs(self, row: TaskRow, now: int) -> None:
        """Hold *row* if what it needs is gone; let it go if that is back."""
        kernel = self._rt.kernel
        if row.state is TaskState.QUEUED:
            why = gone_of(row.cargo) or no_agent(kernel, row, now)
            if why:
                kernel.miss(row, why, now)
        else:
            release_if_back(kernel, row, now)
