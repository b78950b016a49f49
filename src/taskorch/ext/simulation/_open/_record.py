"""The record of promises: how many of them have held."""

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

    from taskorch.core.engine import Runtime

#: The name of the kept documents, and their keys.
_PROMISES: Final = "promises"
_MADE: Final = "made"
_HELD: Final = "held"
#: At most so many promises are open, the latest.
_MOST: Final = 100


def recorded(rt: Runtime, orch: Any, promise: Promise) -> Promise:
    """
    Return *promise* with the record of earlier ones, and add it to the record.

    The first promise for a task or run counts until it has ended: later ones know more,
    and are not recorded.
    """
    committer = rt.committer
    is_sick = committer is not None and bool(committer.trouble)
    if not rt.takes_up or rt.closed or is_sick:
        # A program that only reads a journal makes no promises for the ones that write
        # it; and an answer needs no journal that can be written.
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
    """Return the end in ns; 0: nobody knows whether it held; None: still open."""
    with suppress(UnknownTaskError):
        state, ended = end_of(orch, of)
        if state not in _OVER:
            return None
        # A cancelled task has not shown how long it would have taken.
        return ns_of(ended) if ended is not None and state != "cancelled" else 0
    return 0


_OVER: Final = frozenset({"completed", "failed", "cancelled"})


def end_of(orch: Any, of: str) -> tuple[str, datetime | None]:
    """
    Return the state of a task or a run, and its latest end so far.

    Raises:
        UnknownTaskError: There is no such task or run.
    """
    try:
        run = orch.workflows.get(of)
    except UnknownTaskError:
        status = orch.get_task_status(of)
        return status.state.value, status.ended
    state: TaskState = run.status().state
    statuses = (handle.status for handle in run.handles.values())
    return state.value, max(
        (each.ended for each in statuses if each.ended), default=None
    )
