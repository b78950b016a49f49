"""
Delays at the points where threads hand things to one another.

They stand around functions of the library, in the process under stress only: the
library itself knows nothing of them.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from random import Random

from taskorch.executors._programs import _run
from taskorch.executors._programs._guard import Guard
from taskorch.executors._programs._process import ProgramProcess
from taskorch.executors._threads import WorkerThreads
from taskorch.journal import _lock
from taskorch.journal._lock import Lock
from taskorch.journal._sqlite import SqliteJournal
from taskorch.runtime._attempts import Attempts
from taskorch.runtime._committer import Committer
from taskorch.runtime._effects import EffectQueue
from taskorch.runtime._loops import LoopHost
from taskorch.runtime._publisher import Publisher
from taskorch.runtime._runtime import Runtime
from taskorch.runtime._timer import TimerThread

#: Before each of these one may have to wait.
POINTS = (
    (Runtime, "launch"),  # out of the lock, with something to do
    (EffectQueue, "drain"),
    (Attempts, "begin"),
    (Attempts, "_carry_out"),
    (WorkerThreads, "start"),
    (LoopHost, "call"),
    (TimerThread, "_ring"),
    (Publisher, "_deliver"),
    (Committer, "_commit"),
    (Committer, "_release"),
    (SqliteJournal, "append"),
    (Lock, "check"),
    (Lock, "sign"),
    (_lock, "_put_another"),
    (_run, "spawn"),
    (ProgramProcess, "attach"),
    (ProgramProcess, "note_exit"),
    (ProgramProcess, "release"),
    (ProgramProcess, "_send"),
    (Guard, "add"),
    (Guard, "remove"),
)

#: How often there is a delay, and for how many seconds at most.
CHANCE = 0.03
LONGEST = 0.02


def plant(
    random: Random,
    put: Callable[[object, str, object], None] = setattr,
    chance: float = CHANCE,
) -> None:
    """Have delays at all points: *put* puts them there."""
    for owner, name in POINTS:
        put(owner, name, _delayed(getattr(owner, name), random, chance))


def _delayed(function, random, chance):
    @functools.wraps(function)
    def delayed(*args, **kwargs):
        if random.random() < chance:
            time.sleep(LONGEST * random.random())
        return function(*args, **kwargs)

    return delayed
