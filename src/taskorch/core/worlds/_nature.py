"""The faults of the world: by default, none."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import attrs

from taskorch.core.worlds._run import Fence, SimulatedRun
from taskorch.events import Event
from taskorch.protocols import Entry, Journal

_SECOND: Final = 1_000_000_000


@attrs.frozen
class Fate:
    """A fault of a worker during its work."""

    #: `dies` or `hangs`.
    kind: str
    #: The time in ns after which it happens.
    after_ns: int
    #: The time in ns until the worker is back; None is never.
    back_ns: int | None


class Nature:
    """
    A perfect world: nothing is lost, late, slow or broken.

    A subclass adds faults: each method is a place where something may go wrong.
    """

    #: Whether `dies` needs to be asked.
    mortal: bool = False
    #: Whether `hit` needs to be asked.
    prodding: bool = False
    #: The delay of a message to a remote worker, or from one.
    latency_ns: int = _SECOND // 1_000
    #: The duration of a commit; 0: it is done at the instant of its beginning.
    commit_ns: int = 0
    #: The time from a failed commit to the next try.
    retry_ns: int = _SECOND

    def travel(self, kind: str, worker: str, fence: Fence | None) -> Sequence[int]:
        """Return the delay of a message in ns, for each copy that arrives."""
        return (self.latency_ns,)

    def late(self, task_id: str, attempt: int, effect: str) -> int:
        """Return by how many ns *effect* on an attempt is carried out late."""
        return 0

    def pace(self, run: SimulatedRun) -> float:
        """Return the factor by which the work takes longer than it should."""
        return 1.0

    def fate(self, run: SimulatedRun, ns: int) -> Fate | None:
        """Return the fault of the worker of *run*, which takes *ns*."""
        return None

    def write(self, journal: Journal, epoch: int, group: Sequence[Entry]) -> None:
        """
        Append *group*.

        Raises:
            JournalUnavailableError: It was not written, or nobody knows.
        """
        journal.append(epoch, group)

    def dies(self, stage: str, event: Event) -> int | None:
        """
        Return for how many ns the orchestrator is dead from now on; None: it lives.

        This is the latest event of a *stage*: `made` (events in memory only), `sent`
        (also in memory only, but workers were told to begin), `kept` (in the journal,
        and nobody was told), `told` (everybody was told) or `recovering`.
        """
        return None

    def torn(self, entries: int) -> int:
        """
        Return how much of a group reached the journal when the process died.

        Of its entries, from 0 to all of them; one more is the mark that closes it.
        """
        return 0

    def jump(self) -> int:
        """Return by how many ns the wall clock was set while no orchestrator lived."""
        return 0

    def hit(self, name: str) -> bool:
        """Return whether our own code is to do the unusual thing called *name*."""
        return False
