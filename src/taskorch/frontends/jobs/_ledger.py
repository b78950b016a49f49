"""What was granted to units, changed and released, and when."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from threading import Lock
from typing import Any, Final

from taskorch.events import (
    AllocationChanged,
    Event,
    PoolRelieved,
    PoolSaturated,
    TaskCancelled,
    TaskCompleted,
    TaskEvent,
    TaskFailed,
    TaskRetrying,
    TaskStarted,
)
from taskorch.frontends.jobs._record import PREFIX

_KEPT: Final = 10_000
#: Facts with which a unit holds nothing any more, if it did.
_RELEASES: Final = (TaskCompleted, TaskRetrying, TaskFailed, TaskCancelled)


class JobLedger:
    """The latest entries about resources: of this life, and read from a journal."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._entries: deque[dict[str, Any]] = deque(maxlen=_KEPT)
        #: The units to which something is granted.
        self._holders: set[str] = set()

    def enter(self, event: Event) -> dict[str, Any] | None:
        """Enter what *event* says of resources, and return that; None: nothing."""
        with self._lock:
            entry = _entry(event, self._holders)
            if entry is not None:
                self._entries.append(entry)
            return entry

    def with_earlier(self, facts: Iterable[Event]) -> list[dict[str, Any]]:
        """The latest entries, after those of the *facts* of earlier lives."""
        earlier: deque[dict[str, Any]] = deque(maxlen=_KEPT)
        holders: set[str] = set()
        for fact in facts:
            if not isinstance(fact, TaskEvent) or fact.task_id.startswith(PREFIX):
                entry = _entry(fact, holders)
                if entry is not None:
                    earlier.append(entry)
        with self._lock:
            return [*earlier, *self._entries][-_KEPT:]


def _entry(event: Event, holders: set[str]) -> dict[str, Any] | None:
    """
    What the ledger says of *event*; None: nothing.

    Args:
        event: The next one.
        holders: The units to which something is granted, before it, and then after it.
    """
    entry: dict[str, Any] = {"seq": event.seq, "at": event.at}
    if isinstance(event, PoolSaturated | PoolRelieved):
        word = "saturated" if isinstance(event, PoolSaturated) else "relieved"
        amounts = {"used": event.used / 1e6, "total": event.total / 1e6}
        return {"event": word, **entry, "pool": event.pool, **amounts}
    amount: Iterable[tuple[str, int]] = ()
    if isinstance(event, TaskStarted):
        word, amount = "granted", event.allocation
        holders.add(event.task_id)
    elif isinstance(event, AllocationChanged):
        word, amount = "changed", event.after
    elif isinstance(event, _RELEASES) and event.task_id in holders:
        word = "released"
        holders.remove(event.task_id)
    else:
        return None
    resources = {name: units / 1e6 for name, units in amount}
    return {"event": word, **entry, "unit": event.task_id, "resources": resources}
