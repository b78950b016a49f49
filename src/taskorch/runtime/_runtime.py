"""
The runtime: drives the kernel under one short lock, and does what it says.

`Engine` has its parts and makes its steps; each verb is a function of its own, and here
stands which one.
"""

from __future__ import annotations

from typing import Final

from taskorch.runtime import _calls, _intake
from taskorch.runtime._engine import Engine


class Runtime(Engine):
    """One orchestrator. The facade is a thin layer over it."""

    # Plain calls, on their way in and to the end.
    submit_call: Final = _calls.submit_call
    submit_calls: Final = _calls.submit_calls
    knows: Final = _calls.knows
    run = _calls.run
    finish = _calls.finish

    # What else comes in.
    submit_tasks: Final = _intake.submit_tasks
    submit_run: Final = _intake.submit_run
    rerun: Final = _intake.rerun
    add_parents: Final = _intake.add_parents
    emit: Final = _intake.emit
