"""Recovery: a new life opens the journal, and takes up what is there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

from taskorch.events import CATALOGUE
from taskorch.executors._programs._sweep import sweep
from taskorch.kernel import TaskRow, recover
from taskorch.model import TERMINAL, Agent, TaskState, Units
from taskorch.runtime import _orphans, _recollection, _rereading
from taskorch.runtime._attempts import Attempts
from taskorch.runtime._clock import MonotonicClock
from taskorch.runtime._lost import LostFunctions
from taskorch.runtime._orphans import no_agent
from taskorch.runtime._recollection import Recollection
from taskorch.runtime._rereading import Rereading
from taskorch.runtime._restored import release_if_back
from taskorch.runtime._retention import prune
from taskorch.runtime._weights import Weights
from taskorch.runtime._work import NEVER, why_unresolvable

_ALL: Final = frozenset(CATALOGUE)
#: States of which those who wait are told.
_SETTLED: Final = frozenset(
    {TaskState.COMPLETED, TaskState.FAILED, TaskState.CANCELLED, TaskState.BLOCKED}
)


class RecoveryHost(
    _rereading.RereadingHost,
    _recollection.RecollectionHost,
    _orphans.OrphansHost,
    Protocol,
):
    """What recovery asks of its runtime."""

    attempts: Attempts
    epoch: int
    joining: list[Agent]
    lost: LostFunctions
    now: Callable[[], int]
    #: The pools that this life was given.
    pools: Units
    run_id: str
    weights: Weights
    #: Whether it runs what earlier lives have left; if not, it only changes that.
    takes_up: bool

    def name_life(self) -> None:
        """Ids of one life differ from those of any other."""
        ...


class Recovery:
    """Opens the journal of a runtime that has done nothing yet; under its lock."""

    def __init__(self, host: RecoveryHost) -> None:
        assert host.committer is not None  # noqa: S101 - it is durable
        self._rt = host
        self._committer = host.committer
        self._journal = host.committer.journal

    def run(self) -> None:
        """
        Own the journal, fold it, and take up what is there.

        Raises:
            JournalError: It cannot be used.
        """
        rt, journal = self._rt, self._journal
        rt.epoch = journal.claim()
        rt.name_life()
        prune(journal, rt.epoch, journal.retention(), rt.now())
        if self._committer.can_be_asked:
            rt.directory.recovered = Recollection(rt, journal)
        past = Rereading(rt, journal)
        past.run()
        kernel = rt.kernel
        now_ns = MonotonicClock(not_before=past.at_ns).now_ns
        rt.now = now_ns
        self._sweep()
        committer = self._committer
        committer.snapshot_at = past.snapshot_at or committer.snapshot_at
        committer.commits.committed = committer.last = rt.committed = past.last
        past.folding.reconnect()
        if rt.directory.recovered is not None:
            # It knows them all, and takes less room.
            kernel.forget_ended()
            keys, tasks = rt.directory.keys, kernel.tasks
            rt.directory.keys = {key: i for key, i in keys.items() if i in tasks}
        for row in kernel.tasks.values():
            if row.state not in _SETTLED:
                row.cargo._visible_after = NEVER
        # From now on, only what is kept leaves memory: see `Committer`.
        kernel.keep_finished()
        for row in kernel.finished:
            rt.weights.note(row, rt.weights.weigh(row.cargo, row.cargo._value, None))
        rt.weights.let_go(committer.last)
        kernel.listen([], _ALL)
        recover(kernel, rt.epoch, now_ns())
        if rt.takes_up:
            self._take_up(now_ns)

    def _take_up(self, now_ns: Callable[[], int]) -> None:
        """Pools and agents of this life; and what has lost what it needs."""
        rt, kernel = self._rt, self._rt.kernel
        kernel.change_pools(rt.pools, now_ns())
        joining, rt.joining = rt.joining, []
        for info in joining:
            kernel.add_agent(info, now_ns())
        for row in list(kernel.tasks.values()):
            self._check_needs(row, now_ns())
        rows = kernel.tasks.values()
        rt.lost.rows = {
            row: None
            for row in rows
            if row.state not in TERMINAL and row.cargo is not None
            if why_unresolvable(row.cargo)
        }
        kinds = {row.bucket.spec: row for row in rows if row.state not in TERMINAL}
        for spec, row in kinds.items():
            if no_agent(kernel, row, now_ns()):
                rt.orphans[spec] = None

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
            why = why_unresolvable(row.cargo) or no_agent(kernel, row, now)
            if why:
                kernel.miss(row, why, now)
        else:
            release_if_back(kernel, row, now)
