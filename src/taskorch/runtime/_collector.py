"""The garbage collector of the process, and when it may rest."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Final

_lock = Lock()
#: Those who let it rest now.
_resting: Final[set[object]] = set()


@contextmanager
def resting() -> Iterator[None]:
    """
    Let the garbage collector rest while much is made of which all stays.

    It would look through all of that several times, and find nothing. It is that of
    the whole process, so this is for moments only. Who has switched it off before finds
    it so again.
    """
    me = object()
    try:
        with _lock:
            if _resting or gc.isenabled():
                _resting.add(me)
                gc.disable()
        yield
    finally:
        with _lock:
            if me in _resting:
                try:
                    _resting.discard(me)
                finally:
                    if not _resting:
                        gc.enable()


def _after_fork() -> None:
    """In a child: who let it rest is not here."""
    global _lock  # noqa: PLW0603 - whoever held it is not here either
    _lock = Lock()
    if _resting:
        _resting.clear()
        gc.enable()


os.register_at_fork(after_in_child=_after_fork)
