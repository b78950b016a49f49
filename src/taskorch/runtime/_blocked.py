"""Who holds up all others, while it lasts: a policy that is asked, or a coroutine."""

from __future__ import annotations

import sys
import traceback
from time import monotonic

from taskorch._limits import BLOCKING_SECONDS
from taskorch.model import HealthCheck
from taskorch.runtime._runtime import Runtime


def blocked(runtime: Runtime) -> list[HealthCheck]:
    """
    What health says of those who block; takes no lock, and waits for nobody.

    Whether the loop is blocked is known from the second question on: the first one has
    it say when it comes to that.
    """
    found = []
    now = monotonic()
    for component, since, ident in runtime.deciders.asked():
        if now - since > BLOCKING_SECONDS:
            said = f"the {component} has been asked for {now - since:.0f} s"
            found.append(HealthCheck(component, "degraded", said + _where(ident)))
    since, ident, name = runtime.loops.unanswered()
    if now - since > BLOCKING_SECONDS:
        who = f"task {name}" if name else "something"
        said = f"{who} has blocked the event loop for {now - since:.0f} s"
        found.append(HealthCheck("loop", "degraded", said + _where(ident)))
    runtime.notices.are_blocked({check.component: check.detail for check in found})
    return found


def _where(ident: int) -> str:
    """The innermost call of a thread, if it is there still."""
    frame = sys._current_frames().get(ident)
    if frame is None:
        return ""
    last = traceback.extract_stack(frame)[-1]
    return f": in {last.name}, {last.filename}:{last.lineno}"
