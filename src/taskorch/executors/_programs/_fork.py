"""Forks of this process: what they must not keep open, and when they must wait."""

from __future__ import annotations

import os
import threading
import weakref
from typing import Protocol

# Seconds that a fork waits for a program that is just being started.
_FORK_PATIENCE = 5.0


class DescriptorHolder(Protocol):
    """An object with descriptors that a forked child must not keep."""

    def disown(self) -> None:
        """In the child: close them."""


class _Gate:
    """
    Keeps this process from being forked while it starts a program.

    A child that is forked in that moment holds our ends of pipes which nobody closes
    in it: the end of a program's input would not be seen, and `Popen`, which waits for
    such a pipe to be closed, would hang until that child ends.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._forking: int | None = None

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    def before_fork(self) -> None:
        """Wait until no process is being started, but not for ever."""
        # A start that hangs, in a dead network folder perhaps, must not hold up others.
        if self._lock.acquire(timeout=_FORK_PATIENCE):
            self._forking = threading.get_ident()

    def after_fork(self) -> None:
        """Allow processes to be started again."""
        if self._forking == threading.get_ident():
            self._forking = None
            self._lock.release()

    def after_fork_in_child(self) -> None:
        """Begin anew, without what is the parent's."""
        # If a start hung, the thread that held the old lock is not in this process.
        self._lock = threading.Lock()
        self._forking = None
        for owner in list(_owners):
            owner.disown()


#: Held while a process is started: a fork of ours waits for it.
no_fork = _Gate()

_owners: weakref.WeakSet[DescriptorHolder] = weakref.WeakSet()


def at_fork(owner: DescriptorHolder) -> None:
    """Close the descriptors of *owner* in every forked child."""
    _owners.add(owner)


os.register_at_fork(
    before=no_fork.before_fork,
    after_in_parent=no_fork.after_fork,
    after_in_child=no_fork.after_fork_in_child,
)
