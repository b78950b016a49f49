"""Ends processes that earlier runs have left behind."""

from __future__ import annotations

import signal
import sys
import time
from typing import Final

from taskorch.core.executors._programs import _guardian
from taskorch.model import ProgramVariables

#: Seconds between two looks, of which two must find no process.
_PAUSE: Final = 0.005
#: Seconds in which a look does not count while some process begins to execute another
#: program: until it has begun, it shows no environment.
_HIDDEN: Final = 1.0
#: Seconds after which a process that cannot be killed is left alone.
_PATIENCE: Final = 5.0


def sweep(runs: str) -> int:
    """
    Kill processes with the mark of a run whose id begins with *runs* (Linux only).

    Return how many processes there were. The guardian of such a run does the same,
    unless it was killed as well.
    """
    if sys.platform != "linux":
        return 0
    mark = f"{ProgramVariables.RUN}={runs}".encode()

    later = b"\0" + mark

    def has_mark(environment: bytes) -> bool:
        return environment.startswith(mark) or later in environment

    def belongs(pid: int) -> bool:
        return has_mark(_guardian.environment_of(pid))

    def may_belong(pid: int) -> bool:
        environment = _guardian.environment_of(pid)
        if environment:
            return has_mark(environment)
        return _guardian.is_executing(pid)

    killed: set[int] = set()
    begun = time.monotonic()
    calm = 0
    while calm < 2 and time.monotonic() < begun + _PATIENCE:  # noqa: PLR2004 - see above
        may_hide = time.monotonic() < begun + _HIDDEN
        candidates = _guardian.find(may_belong)
        alive = [pid for pid in candidates if belongs(pid) and _is_alive(pid)]
        for pid in alive:
            _guardian.send(pid, belongs, signal.SIGKILL)
        killed.update(alive)
        hidden = may_hide and len(alive) < len(candidates)
        calm = 0 if alive or hidden else calm + 1
        time.sleep(_PAUSE)
    return len(killed)


def _is_alive(pid: int) -> bool:
    state = _guardian.state_of(pid)
    return state is not None and state.alive
