"""A flag that one thread waits for, and others set."""

from __future__ import annotations

import threading
from contextlib import suppress
from time import monotonic
from typing import Any

from taskorch.runtime._interrupts import SLICE, defers_interrupts


class Latch:
    """
    A flag to wait for, like `threading.Event`, that an interrupt cannot break.

    An interrupt inside of an Event can leave its lock taken for ever, and a thread
    that sets it then waits in our critical section. The end of a wait clears the flag.
    """

    __slots__ = ("_lock",)

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lock.acquire()

    def is_set(self) -> bool:
        """Whether the flag is set."""
        return not self._lock.locked()

    def set(self) -> None:
        """Set the flag and wake the waiting thread; more calls change nothing."""
        with suppress(RuntimeError):
            self._lock.release()

    def clear(self) -> None:
        """Clear the flag."""
        self._lock.acquire(blocking=False)

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the flag is set, and clear it; whether it was set in time."""
        end = None if timeout is None else monotonic() + timeout
        return wait_for_lock(self._lock, end)


def wait_for_lock(lock: Any, end: float | None) -> bool:
    """
    Acquire *lock*, until *end* of the monotonic clock at the longest; whether it came.

    In slices: an interrupt that comes in the very moment in which a wait begins does
    not end it, and would wait as long.
    """
    while True:
        left = seconds_until(end)
        if lock.acquire(timeout=SLICE if left is None else min(left, SLICE)):
            return True
        if left is not None and left <= SLICE:
            return False


@defers_interrupts
def release_if_mine(lock: Any) -> None:
    """Release an RLock, of which an interrupt may have come as it was acquired."""
    if lock._is_owned():
        lock.release()


def seconds_until(end: float | None) -> float | None:
    """The seconds until *end* of the monotonic clock; None is for ever."""
    if end is None:
        return None
    return min(max(0.0, end - monotonic()), threading.TIMEOUT_MAX)
