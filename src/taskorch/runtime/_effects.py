"""
What is to be done about attempts, in the order in which it was decided.

It is decided under the lock and done outside, by whichever thread has left the lock
first: without an order of its own, a SIGSTOP could follow the SIGCONT that takes it
back, and the kernel would take a program for running that stands still.

Decision: 0022.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable

from taskorch.kernel import Effect


class EffectQueue:
    """What is still to be done about one attempt."""

    __slots__ = ("_carrier", "_todo")

    def __init__(self) -> None:
        self._todo: deque[Effect] = deque()
        #: Held by the thread that carries them out.
        self._carrier = threading.Lock()

    def append(self, effect: Effect) -> None:
        """Under the lock of the runtime: *effect* is the latest decision."""
        self._todo.append(effect)

    def drain(self, carry_out: Callable[[Effect], object]) -> None:
        """
        Outside that lock: do all that is left, unless another thread is at it.

        That one then does what was to be done here, too: nobody waits for it, since it
        may be in a callback of the user's that waits for us.
        """
        while self._todo and self._carrier.acquire(blocking=False):
            try:
                while self._todo:
                    carry_out(self._todo.popleft())
            finally:
                self._carrier.release()
