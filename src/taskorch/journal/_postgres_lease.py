"""
The lease of a journal in PostgreSQL, as its owner knows it.

Decisions: 0093, 0103.
"""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Callable
from typing import Final

from taskorch._base.lease import Lease

#: It is renewed after this share of it.
_RENEWED: Final = 1 / 3
#: Of its end, the owner is sure so much earlier: clocks do not run alike.
_MARGIN: Final = 1 / 10
#: Seconds in which it can be given back, at the end, if the server answers.
_PATIENCE: Final = 5.0
#: It goes on while the machine sleeps, as the clock of the server does.
_CLOCK: Final = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def clock() -> float:
    """Seconds of a clock of this machine, which nobody sets."""
    return time.clock_gettime(_CLOCK)


class LeaseKeeper:
    """
    Keeps the lease in which nobody takes a journal from its owner, on a thread.

    Args:
        seconds: How long it lasts from each renewal.
        since: When it was first given, by `clock`, or earlier.
        renew: A method that renews it, and returns whether it is to be called again.
        release: A method that gives it back, called by `end`. Neither keeps its object
            in memory; without that, the thread ends.
    """

    def __init__(
        self,
        seconds: float,
        since: float,
        renew: Callable[[], bool],
        release: Callable[[], object],
    ) -> None:
        self._lease = Lease(seconds * (1 - _MARGIN), since)
        self._is_over = threading.Event()
        self._thread = threading.Thread(
            target=_keep,
            args=(
                weakref.WeakMethod(renew),
                weakref.WeakMethod(release),
                self._is_over,
                seconds * _RENEWED,
            ),
            name="taskorch-lease",
            daemon=True,
        )
        self._thread.start()

    def lasts(self) -> bool:
        """Whether nobody can have taken the journal, as far as clocks say."""
        return not self._lease.is_over(clock())

    def renewed(self, since: float) -> None:
        """It was renewed: by what was asked of the server at *since*, by `clock`."""
        self._lease.renew(since)

    def end(self) -> None:
        """Renew it no more, and give it back; a server that is silent may not hear."""
        self._is_over.set()
        if self._thread is not threading.current_thread():
            self._thread.join(_PATIENCE)


def _keep(
    renew: weakref.WeakMethod[Callable[[], bool]],
    release: weakref.WeakMethod[Callable[[], object]],
    is_over: threading.Event,
    pause: float,
) -> None:
    while not is_over.wait(pause):
        renewal = renew()
        if renewal is None or not renewal():
            return
        # Nobody else may need the journal.
        del renewal
    give_back = release()
    if give_back is not None:
        give_back()
