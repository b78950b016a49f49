"""The garbage collector of the process, and when it may rest."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

__all__ = ("resting",)

_LOCK = Lock()
#: How many let it rest now.
_resting = 0


@contextmanager
def resting() -> Iterator[None]:
    """
    Let the garbage collector rest while much is made of which all stays.

    It would look through all of that several times, and find nothing. It is that of
    the whole process, so this is for moments only. Who has switched it off finds it
    so again.
    """
    global _resting  # noqa: PLW0603 - it is one for the process
    mine = False
    try:
        with _LOCK:
            mine = _resting > 0 or gc.isenabled()
            if mine:
                _resting += 1
                gc.disable()
        yield
    finally:
        if mine:
            with _LOCK:
                _resting -= 1
                if not _resting:
                    gc.enable()
