"""What the world does to us: by itself, nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import attrs

from taskorch.events import Fact
from taskorch.protocols import Entry, Journal
from taskorch.simulation._run import Fence, SimulatedRun

_SECOND: Final = 1_000_000_000


@attrs.frozen
class Fate:
    """What befalls an agent while it does its work."""

    #: `dies` or `hangs`.
    kind: str
    #: After so many ns.
    after_ns: int
    #: Until it is there again; None is never.
    back_ns: int | None


class Nature:
    """
    A perfect world: nothing is lost, late, slow or broken.

    Faults are a subclass: each method is a place where something may go wrong.
    """

    #: Whether `dies` is worth asking.
    mortal: bool = False
    #: Whether `hit` is worth asking.
    prodding: bool = False
    #: What a message takes to a remote agent, or from one.
    latency_ns: int = _SECOND // 1_000
    #: What a commit takes; 0: it is done in the instant in which it is begun.
    commit_ns: int = 0
    #: From a commit that failed to the next try.
    retry_ns: int = _SECOND

    def travel(self, kind: str, agent: str, fence: Fence | None) -> Sequence[int]:
        """What a message takes in ns: one number for each copy that arrives."""
        return (self.latency_ns,)

    def late(self, task_id: str, attempt: int, effect: str) -> int:
        """By how many ns *effect* is decided about an attempt is done later."""
        return 0

    def pace(self, run: SimulatedRun) -> float:
        """By how much the work takes longer than it should."""
        return 1.0

    def fate(self, run: SimulatedRun, ns: int) -> Fate | None:
        """What befalls the agent of *run*, which takes *ns*."""
        return None

    def write(self, journal: Journal, epoch: int, group: Sequence[Entry]) -> None:
        """
        Append *group*.

        Raises:
            JournalUnavailableError: It could not be, or nobody knows.
        """
        journal.append(epoch, group)

    def dies(self, stage: str, fact: Fact) -> int | None:
        """
        For how many ns the orchestrator is dead from now on; None: it lives.

        The *stage* of facts, of which this is the last, is `made` (they are in memory
        only), `sent` (so they are, but agents were told to begin), `kept` (in the
        journal, and nobody knows), `told` (everybody was told) or `recovering`.
        """
        return None

    def torn(self, entries: int) -> int:
        """
        How much of a group reached the journal when the process died.

        Of its entries, from 0 to all of them; one more is the mark that closes it.
        """
        return 0

    def jump(self) -> int:
        """By how many ns the wall clock was set while the orchestrator was dead."""
        return 0

    def hit(self, name: str) -> bool:
        """Whether our own code is to do the unusual thing called *name*."""
        return False
