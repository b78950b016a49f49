"""What became of promises: how many of those that were made have held."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

import attrs

from taskorch.errors import UnknownTaskError
from taskorch.kit.kept import kept_by
from taskorch.kit.words import ns_of
from taskorch.model import Promise, TaskState

if TYPE_CHECKING:
    from datetime import datetime

    from taskorch.runtime import Runtime

#: Under this name the documents are kept, and these are their keys.
_PROMISES: Final = "promises"
_MADE: Final = "made"
_HELD: Final = "held"
#: Promises whose time has not come, at the most: the latest count.
_MOST: Final = 100


def recorded(rt: Runtime, orch: Any, promise: Promise) -> Promise:
    """
    *promise*, with the record of those before it; from now on it is one of them.

    Of one task or run, the first promise counts until it has ended: those that follow
    it know more, and hold or break with it.
    """
    if not rt.takes_up or rt.closed:
        # Whoever only looks at a journal promises nothing for those who work in it.
        return promise
    promises = json.loads(rt.kernel.kept.get(_PROMISES, {}).get(_MADE, "{}"))
    ends = {of: _end_of(orch, of) for of in promises}
    kept = kept_by(rt, _PROMISES)
    held = [0, 0, 0]

    def change(now: int) -> None:
        documents = rt.kernel.kept.get(_PROMISES, {})
        pending = json.loads(documents.get(_MADE, "{}"))
        held[:] = json.loads(documents.get(_HELD, "[0, 0, 0]"))
        for of, end in ends.items():
            if end is None or of not in pending:
                continue
            p50, p90 = pending.pop(of)
            if end:
                held[0] += 1
                held[1] += end <= p50
                held[2] += end <= p90
        if promise.p50 is not None and promise.p90 is not None:
            pending.setdefault(promise.id, [ns_of(promise.p50), ns_of(promise.p90)])
        if len(pending) > _MOST:
            pending = dict([*pending.items()][-_MOST:])
        if documents or pending:
            kept.note(_MADE, pending, now)
            kept.note(_HELD, held, now)

    rt.durable()
    rt.step(change, keep=True)
    return attrs.evolve(promise, settled=held[0], held_p50=held[1], held_p90=held[2])


def _end_of(orch: Any, of: str) -> int | None:
    """When it ended, in ns; 0 if nobody can say that it held; None: it is open."""
    with suppress(UnknownTaskError):
        state, ended = end_of(orch, of)
        if state not in _OVER:
            return None
        # What was called off has not shown how long it would have taken.
        return ns_of(ended) if ended is not None and state != "cancelled" else 0
    return 0


_OVER: Final = frozenset({"completed", "failed", "cancelled"})


def end_of(orch: Any, of: str) -> tuple[str, datetime | None]:
    """
    The state of a task or a run, and when the latest of it ended that has.

    Raises:
        UnknownTaskError: There is no such task or run.
    """
    try:
        run = orch.workflows.get(of)
    except UnknownTaskError:
        status = orch.get_task_status(of)
        return status.state.value, status.ended
    state: TaskState = run.report().state
    statuses = (handle.status for handle in run.handles.values())
    return state.value, max(
        (each.ended for each in statuses if each.ended), default=None
    )
