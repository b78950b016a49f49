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

from taskorch.core.engine._attempts import Attempts
from taskorch.core.engine._committer import Committer
from taskorch.core.engine._loops import LoopHost
from taskorch.core.engine._publisher import Publisher
from taskorch.core.engine._runtime import Runtime
from taskorch.core.engine._timer import TimerThread
from taskorch.core.engine._work import EffectQueue
from taskorch.core.executors._programs import _run
from taskorch.core.executors._programs._guard import ProcessGuard
from taskorch.core.executors._programs._process import ProgramProcess
from taskorch.core.executors._threads import WorkerThreads
from taskorch.core.journal import _lock
from taskorch.core.journal._lock import Lock
from taskorch.core.journal._sqlite import SqliteJournal

#: Before each of these one may have to wait.
POINTS = (
    (Runtime, "launch"),  # out of the lock, with something to do
    (EffectQueue, "drain"),
    (Attempts, "begin"),
    (Attempts, "_carry_out"),
    (WorkerThreads, "start"),
    (LoopHost, "call"),
    (TimerThread, "_fire"),
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
    (ProcessGuard, "add"),
    (ProcessGuard, "remove"),
)

#: How often there is a delay, and for how many seconds at most.
CHANCE = 0.03
LONGEST = 0.02

#: How often a thread is held up, for how many steps of others and seconds at most.
CHANCE_TO_HOLD = 0.2
MOST_STEPS = 200
LONGEST_HOLD = 0.1


def plant(
    random: Random,
    put: Callable[[object, str, object], None] = setattr,
    chance: float = CHANCE,
) -> None:
    """Have delays at all points: *put* puts them there."""
    for owner, name in POINTS:
        put(owner, name, _delayed(getattr(owner, name), random, chance))


def let_overtake(random: Random, put: Callable[[object, str, object], None]) -> None:
    """
    Hold up some of the threads that leave the lock with something to do.

    Each until others have left it up to MOST_STEPS times, or for LONGEST_HOLD seconds; the
    thread of a loop never, which would hold up all of its coroutines. As in probabilistic
    concurrency testing (Burckhardt et al., ASPLOS 2010): what is wrong only if one thread is
    overtaken far is hardly ever met by delays that are all alike.
    """
    launch = Runtime.launch
    steps = 0

    @functools.wraps(launch)
    def held_up(runtime, what):
        nonlocal steps
        steps += 1
        if what and random.random() < CHANCE_TO_HOLD and not runtime.loops.is_mine():
            until = steps + random.randint(1, MOST_STEPS)
            end = time.monotonic() + LONGEST_HOLD
            while steps < until and time.monotonic() < end:
                time.sleep(0.0002)
        launch(runtime, what)

    put(Runtime, "launch", held_up)


def _delayed(function, random, chance):
    @functools.wraps(function)
    def delayed(*args, **kwargs):
        if random.random() < chance:
            time.sleep(LONGEST * random.random())
        return function(*args, **kwargs)

    return delayed
