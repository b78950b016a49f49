"""
Programs as taskorch runs them, for authors of an executor or a worker that does so.

    programs = ProgramExecutor(run_id="mine")
    process = programs.start(Program(["make"]), name="make", env={}, on_end=print)

1. `ProgramExecutor` starts programs and ends them with all that they have started; a
   `ProgramProcess` can be asked to end, and a `ProgramEnd` is its outcome.
2. `as_declared`, `failure_of` and `spending_of` are for an attempt whose program runs
   elsewhere: its limits, its error if it fails, its spending of a budget.
3. A `Governor` holds processes that other code has started to limits.

Decision: executors.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from taskorch.kit import load_late as _load_late

if TYPE_CHECKING:
    from taskorch.core.executors._programs._attempts import (
        Spending,
        as_declared,
        failure_of,
        spending_of,
    )
    from taskorch.core.executors._programs._executor import ProgramExecutor
    from taskorch.core.executors._programs._family import Family
    from taskorch.core.executors._programs._governor import Governor, Hold, UnheldError
    from taskorch.core.executors._programs._process import ProgramEnd, ProgramProcess

__all__ = (
    "Family",
    "Governor",
    "Hold",
    "ProgramEnd",
    "ProgramExecutor",
    "ProgramProcess",
    "Spending",
    "UnheldError",
    "as_declared",
    "failure_of",
    "spending_of",
)

#: The file of each name: a front end that asks for one loads no others.
_LATE = {
    "Family": "_programs._family",
    "Governor": "_programs._governor",
    "Hold": "_programs._governor",
    "ProgramEnd": "_programs._process",
    "ProgramExecutor": "_programs._executor",
    "ProgramProcess": "_programs._process",
    "Spending": "_programs._attempts",
    "UnheldError": "_programs._governor",
    "as_declared": "_programs._attempts",
    "failure_of": "_programs._attempts",
    "spending_of": "_programs._attempts",
}

if not TYPE_CHECKING:
    __getattr__, __dir__ = _load_late(__name__, _LATE)
