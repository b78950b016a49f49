"""The journal is read when it is first needed, and is looked up from then on."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from typing import Protocol

from taskorch.errors import InternalError, JournalError
from taskorch.runtime import _recovery
from taskorch.runtime._committer import Committer
from taskorch.runtime._deciders import PolicyDeciders
from taskorch.runtime._driver import Driver
from taskorch.runtime._interrupts import (
    INTERRUPTS,
    defers_interrupts,
    guard,
    takes_interrupts,
    unguard,
)
from taskorch.runtime._loops import LoopHost
from taskorch.runtime._lost import LostFunctions
from taskorch.runtime._recovery import Recovery
from taskorch.runtime._timer import TimerThread


class OpeningHost(_recovery.RecoveryHost, Driver, Protocol):
    """What opening a journal asks of a runtime."""

    closed: bool
    deciders: PolicyDeciders
    loops: LoopHost
    #: Whether the journal has been read.
    opened: bool
    #: The last fact of earlier lives, and of taking up what they have left.
    opened_at: int
    timer: TimerThread

    _opening: threading.Lock
    lost: LostFunctions

    def open(self) -> None:
        """Read the journal, once."""
        ...

    def recall(self, names: Sequence[str]) -> None:
        """Look in the journal for tasks of *names* that have left memory."""
        ...

    def refuse_submission(self) -> None:
        """Under the lock: raise if nothing comes in any more."""
        ...


@defers_interrupts
def open_journal(rt: OpeningHost) -> None:
    """
    Read the journal, once, and take up what earlier lives have left.

    Raises:
        JournalError: It cannot be used; this orchestrator has ended.
    """
    with rt._opening:
        if rt.opened:
            return
        rt.refuse_submission()
        assert rt.committer is not None  # noqa: S101 - else nothing is opened
        # A submission opens it, too, before the start.
        guard(rt)
        try:
            wait_for_turn(rt)
            with rt.lock:
                Recovery(rt).run()
                rt.opened = True
                rt.committer.journal.when_lost(rt.fail_stop)
                rt.settle(rt.now())
                rt.opened_at = rt.committer.last
                rt.directory.earlier = rt.kernel.submissions
            rt.loops.opened_here()
            rt.lost.watch()
            # The fact that this life has begun is kept before anything is done in it.
            rt.committer.wait_kept(rt.committer.last)
        except BaseException as error:
            if rt.opened and isinstance(error, INTERRUPTS):
                # Only the wait for the commit is over.
                raise
            rt.closed = True
            unguard(rt)
            rt.committer.abandon()
            rt.timer.end()
            cause = None if rt.fault is None else rt.fault.__cause__
            if isinstance(error, InternalError) and isinstance(cause, JournalError):
                raise cause from None
            raise


@takes_interrupts
def wait_for_turn(rt: OpeningHost) -> None:
    """
    Wait until the journal may be claimed; others may stop *rt* meanwhile.

    Raises:
        JournalError: It cannot be used.
        NotRunningError: *rt* has stopped.
    """
    assert rt.committer is not None  # noqa: S101 - else nothing is opened
    rt.committer.journal.wait_for_turn(lambda: rt.closed)
    if rt.closed:
        rt.refuse_submission()


def durable(rt: OpeningHost) -> Committer | None:
    """
    What keeps the facts, if they are kept: called before something is submitted.

    Raises:
        JournalError: The journal cannot be used, or not now.
        NotRunningError: It has stopped.
        WouldBlockError: The caller is on an event loop, and would block it.
    """
    if rt.committer is not None:
        if not rt.opened:
            rt.open()
        if rt.closed:
            # Before a document is made: at the end of the process nothing is imported.
            rt.refuse_submission()
        rt.committer.refuse()
    return rt.committer


def look_up(rt: OpeningHost, *names: str) -> None:
    """
    Called where something is asked for: the journal has been read by then.

    Raises:
        JournalError: It cannot be.
        NotRunningError: It was not read before the end.
    """
    rt.deciders.refuse_reentry()
    rt.recall(names)
    committer = rt.committer
    if committer is not None and not committer.is_idle():
        # Answers say what is kept; what is on its way mostly is in a moment.
        committer.flush()


def recall(rt: OpeningHost, names: Iterable[str]) -> None:
    """
    Look in the journal for tasks of *names* that have left memory.

    Raises:
        JournalError: It cannot be read.
    """
    if not rt.opened:
        rt.open()
    rt.directory.recall(names, rt.lock)
