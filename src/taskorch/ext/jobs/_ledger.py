"""Grants of units, their changes and releases, with times."""

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
from taskorch.ext.jobs._record import PREFIX

_KEPT: Final = 10_000
#: Events after which a unit holds no resources.
_RELEASES: Final = (TaskCompleted, TaskRetrying, TaskFailed, TaskCancelled)


class JobLedger:
    """Latest entries about resources: of this run, and read from a journal."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._entries: deque[dict[str, Any]] = deque(maxlen=_KEPT)
        #: The units with grants.
        self._holders: set[str] = set()

    def enter(self, event: Event) -> dict[str, Any] | None:
        """Enter the resources of *event* and return the entry; None: it has none."""
        with self._lock:
            entry = _entry(event, self._holders)
            if entry is not None:
                self._entries.append(entry)
            return entry

    def with_earlier(self, events: Iterable[Event]) -> list[dict[str, Any]]:
        """Return the latest entries, with those of the earlier *events* first."""
        earlier: deque[dict[str, Any]] = deque(maxlen=_KEPT)
        holders: set[str] = set()
        for event in events:
            if not isinstance(event, TaskEvent) or event.task_id.startswith(PREFIX):
                entry = _entry(event, holders)
                if entry is not None:
                    earlier.append(entry)
        with self._lock:
            return [*earlier, *self._entries][-_KEPT:]


def _entry(event: Event, holders: set[str]) -> dict[str, Any] | None:
    """
    Return the ledger's entry for *event*; None: it has none.

    Args:
        event: The next event.
        holders: The units with grants; it is updated by the event.
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
        entry["why"] = event.reason
    elif isinstance(event, _RELEASES) and event.task_id in holders:
        word = "released"
        holders.remove(event.task_id)
    else:
        return None
    resources = {name: units / 1e6 for name, units in amount}
    return {"event": word, **entry, "unit": event.task_id, "resources": resources}
