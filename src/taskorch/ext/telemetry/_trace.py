"""
Executed attempts from events or histories, as slices of time in a file.

The format is the JSON object form of Chrome's Trace Event Format, which Perfetto reads
too: each worker is a process, each of its slots a thread, each attempt a complete event
(`X`). Slices of one thread may not overlap, and so times are whole microseconds that
are rounded down, starts and ends alike.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from graphlib import TopologicalSorter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import attrs

from taskorch.events import (
    Event,
    OrchestratorStarted,
    TaskCancelled,
    TaskFailed,
    TaskParentsAdded,
    TaskRepointed,
    TaskRetrying,
    TaskStarted,
    TaskSubmitted,
    signal_name,
)
from taskorch.events.ends import ENDS, end_of_attempt
from taskorch.ext.telemetry._conventions import AnySignals
from taskorch.kit.drawing import lanes
from taskorch.kit.limits import NS
from taskorch.model import Resources, TaskState, TaskStatus

if TYPE_CHECKING:
    import os


#: Nanoseconds in a microsecond.
_US: Final = 1_000
#: Colours of chrome://tracing: amber, and red.
_CRITICAL: Final = "bad"
_FAILED: Final = "terrible"
#: States of attempts without a result.
_FAILURES: Final = ("failed", "retrying", "stopped")


@attrs.frozen
class Slice:
    """One attempt, from its start to its end."""

    task_id: str
    type: str
    worker: str
    #: Counted from 1.
    attempt: int
    start_ns: int
    end_ns: int
    #: `completed`, `failed`, …; `running` if it had not ended.
    state: str
    #: More data about it, as JSON values.
    details: Mapping[str, Any] = attrs.field(factory=dict[str, Any])


def write_slices(
    path: str | os.PathLike[str], slices: Iterable[Slice], critical: Iterable[str] = ()
) -> None:
    """
    Write *slices* to the file *path*, which is replaced, as a trace from time 0 on.

    *critical* are the ids of the tasks of the critical path.
    """
    every = sorted(slices, key=lambda one: (one.start_ns, one.end_ns))
    begin = every[0].start_ns if every else 0
    marked = dict.fromkeys(critical)
    events: list[dict[str, Any]] = []
    for pid, (name, group) in enumerate(_groups(every, marked), 1):
        places = lanes([(one.start_ns // _US, one.end_ns // _US) for one in group])
        events += _names(pid, name, max(places) + 1)
        for one, lane in zip(group, places, strict=True):
            event = _event(one, begin, pid, lane + 1)
            if one.task_id in marked:
                event["cat"] += ",critical"
                event["cname"] = _CRITICAL
                event["args"]["critical"] = True
            if one.state in _FAILURES:
                event["cname"] = _FAILED
            events.append(event)
    document = {
        "traceEvents": events,
        "displayTimeUnit": "ms",
        "otherData": {"began_ns": begin, "critical_path": list(marked)},
    }
    Path(path).write_text(json.dumps(document, default=str), encoding="utf-8")


def _groups(
    slices: Sequence[Slice], marked: Mapping[str, None]
) -> Iterator[tuple[str, list[Slice]]]:
    """Yield the groups of tracks with names: the critical path, and each worker."""
    critical = [one for one in slices if one.task_id in marked]
    if critical:
        yield "critical path", critical
    workers: dict[str, list[Slice]] = {}
    for one in slices:
        workers.setdefault(one.worker, []).append(one)
    yield from workers.items()


def _names(pid: int, name: str, threads: int) -> Iterator[dict[str, Any]]:
    """Yield the names of a group and of its tracks, and their order."""

    def about(kind: str, tid: int, **args: Any) -> dict[str, Any]:
        return {"ph": "M", "name": kind, "pid": pid, "tid": tid, "ts": 0, "args": args}

    yield about("process_name", 0, name=name)
    yield about("process_sort_index", 0, sort_index=pid)
    for tid in range(1, threads + 1):
        yield about("thread_name", tid, name=f"slot {tid}")
        yield about("thread_sort_index", tid, sort_index=tid)


def _event(one: Slice, begin: int, pid: int, tid: int) -> dict[str, Any]:
    start, end = one.start_ns // _US, one.end_ns // _US
    args: dict[str, Any] = {
        "task": one.task_id,
        "type": one.type,
        "attempt": one.attempt,
        "state": one.state,
        **one.details,
    }
    return {
        "ph": "X",
        "name": one.task_id,
        "cat": "task",
        "pid": pid,
        "tid": tid,
        "ts": start - begin // _US,
        "dur": end - start,
        "args": args,
    }


_WANTED: Final[tuple[type[Event], ...]] = (
    OrchestratorStarted,
    TaskSubmitted,
    TaskParentsAdded,
    TaskRepointed,
    TaskStarted,
    *ENDS,
)


class Trace:
    """
    Records attempts, and writes them to a file that ui.perfetto.dev opens.

        trace = Trace(orch.signals)
        with orch:
            ...
        trace.write("run.json")

    Each worker is a group of tracks, one for each attempt that it ran at once, and the
    critical path has a track of its own.

    Args:
        signals: `orch.signals`, to record what happens from now on, until `close`.
            None records only what `take` and `add` are given.
    """

    def __init__(self, signals: AnySignals | None = None) -> None:
        self._lock = threading.Lock()
        self._slices: list[Slice] = []
        self._types: dict[str, str] = {}
        self._after: dict[str, tuple[str, ...]] = {}
        #: Attempts under way, by task.
        self._open: dict[str, TaskStarted] = {}
        #: The time of the latest event.
        self._latest = 0
        self._signals = signals
        if signals is not None:
            for cls in _WANTED:
                getattr(signals, signal_name(cls)).connect(self.take)

    def close(self) -> None:
        """Stop recording."""
        signals, self._signals = self._signals, None
        if signals is not None:
            for cls in _WANTED:
                getattr(signals, signal_name(cls)).disconnect(self.take)

    def take(self, event: Event) -> None:
        """Record an event; events that say nothing of an attempt are ignored."""
        with self._lock:
            self._latest = max(self._latest, event.at_ns)
            if isinstance(event, TaskStarted):
                self._open[event.task_id] = event
            elif isinstance(event, TaskSubmitted | TaskParentsAdded | TaskRepointed):
                self._connect(event)
            elif isinstance(event, OrchestratorStarted):
                # Attempts of an earlier incarnation have ended with it, at an unknown
                # time.
                self._open.clear()
            else:
                self._end(event)

    def _connect(self, event: TaskSubmitted | TaskParentsAdded | TaskRepointed) -> None:
        """Record the parents of tasks."""
        name = event.task_id
        if isinstance(event, TaskRepointed):
            for dependent in event.dependents:
                above = self._after.get(dependent, ())
                self._after[dependent] = tuple(
                    event.rerun_id if one == name else one for one in above
                )
            return
        if isinstance(event, TaskSubmitted):
            self._types[name] = event.type
            if event.rerun_of is not None:
                self._after[name] = (event.rerun_of,)
        if event.after:
            self._after[name] = (*self._after.get(name, ()), *event.after)

    def _end(self, event: Any) -> None:
        state = end_of_attempt(event)
        if state is None:
            return
        began = self._open.pop(event.task_id, None)
        if began is None:
            return
        details: dict[str, Any] = {}
        if isinstance(event, TaskFailed | TaskRetrying):
            details["error"] = f"{event.error_type}: {event.message}"
        elif isinstance(event, TaskCancelled):
            details["reason"] = event.reason
        self._slices.append(self._slice(began, event.at_ns, state.value, details))

    def _slice(
        self, began: TaskStarted, end: int, state: str, details: dict[str, Any]
    ) -> Slice:
        if began.allocation:
            held = Resources.from_units(began.allocation)
            details["holds"] = {name: held[name] for name in held}
        if began.reason:
            details["routed"] = began.reason
        return Slice(
            began.task_id,
            self._types.get(began.task_id, ""),
            began.agent_id,
            began.attempt,
            began.at_ns,
            max(end, began.at_ns),
            state,
            details,
        )

    def add(self, statuses: Iterable[TaskStatus]) -> None:
        """
        Add the attempts in histories, as in `trace.add(orch.tasks())`.

        Histories do not contain dependencies, so they add no critical path.
        """
        with self._lock:
            for status in statuses:
                self._slices += _from_history(status)

    def slices(self) -> list[Slice]:
        """Return all attempts so far; running ones last until the latest event."""
        with self._lock:
            state = TaskState.RUNNING.value
            return self._slices + [
                self._slice(began, self._latest, state, {})
                for began in self._open.values()
            ]

    def critical_path(self) -> tuple[str, ...]:
        """
        Return ids of the chain of tasks, each waiting for the last, that ran longest.

        Where resources are plenty, this chain sets the pace. A task that was run again
        comes after its first run; one without attempts, such as an approval, is not
        named.
        """
        took: dict[str, int] = {}
        for one in self.slices():
            took[one.task_id] = took.get(one.task_id, 0) + one.end_ns - one.start_ns
        with self._lock:
            # A task without attempts, such as an approval, is a link of a chain all the
            # same.
            after = {**dict.fromkeys(took, ()), **self._after}
        if not took or not any(after.values()):
            return ()
        length: dict[str, int] = {}
        before: dict[str, str | None] = {}
        for name in TopologicalSorter(after).static_order():
            last = max(after.get(name, ()), key=length.__getitem__, default=None)
            before[name] = last
            length[name] = took.get(name, 0) + (0 if last is None else length[last])
        at: str | None = max(length, key=length.__getitem__)
        chain: list[str] = []
        while at is not None:
            if at in took:
                chain.append(at)
            at = before[at]
        return tuple(reversed(chain))

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write the record to the file *path*, which is replaced."""
        write_slices(path, self.slices(), self.critical_path())

    def __len__(self) -> int:
        with self._lock:
            return len(self._slices) + len(self._open)


def _from_history(status: TaskStatus) -> list[Slice]:
    slices: list[Slice] = []
    history = status.history
    attempt = 0
    worker = status.agent_id or ""
    for place, entry in enumerate(history):
        if entry.state is not TaskState.RUNNING:
            continue
        if not place or history[place - 1].state is not TaskState.SUSPENDED:
            # Otherwise a program goes on that had been stopped where it stood.
            attempt += 1
            worker = entry.detail or worker
        end = history[place + 1] if place + 1 < len(history) else entry
        slices.append(
            Slice(
                status.task_id,
                status.type,
                worker,
                attempt,
                round(entry.at * NS),
                round(end.at * NS),
                end.state.value,
                {"detail": end.detail} if end is not entry and end.detail else {},
            )
        )
    return slices
