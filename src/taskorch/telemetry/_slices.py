"""
Attempts as slices of time, and the file that draws them.

The format is the JSON object form of Chrome's Trace Event Format, which Perfetto reads
too: each agent is a process, each of its slots a thread, each attempt a complete event
(`X`). Slices of one thread may not overlap, and so times are whole microseconds that
are rounded down, starts and ends alike.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from heapq import heappop, heappush
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import attrs

if TYPE_CHECKING:
    import os

#: Nanoseconds in a microsecond.
_US: Final = 1_000
#: Colours of chrome://tracing's own: amber, and red.
_CRITICAL: Final = "bad"
_FAILED: Final = "terrible"
#: States of attempts that came to nothing.
_FAILURES: Final = ("failed", "retrying", "stopped")


@attrs.frozen
class Slice:
    """One attempt, from its start to its end."""

    task_id: str
    type: str
    agent_id: str
    #: Counted from 1.
    attempt: int
    start_ns: int
    end_ns: int
    #: `completed`, `failed`, …; `running` if it had not ended.
    state: str
    #: What else there is to say of it: whatever JSON has.
    details: Mapping[str, Any] = attrs.field(factory=dict[str, Any])


def lanes(spans: Sequence[tuple[int, int]]) -> list[int]:
    """
    A lane for each of *spans* (start, end), so that no two in one lane overlap.

    The first lane that is free is taken, so there are as few as can be.
    """
    order = sorted(range(len(spans)), key=spans.__getitem__)
    lane_of = [0] * len(spans)
    free: list[int] = []
    busy: list[tuple[int, int]] = []
    most = 0
    for place in order:
        start, end = spans[place]
        while busy and busy[0][0] <= start:
            heappush(free, heappop(busy)[1])
        if not free:
            heappush(free, most)
            most += 1
        lane = lane_of[place] = heappop(free)
        heappush(busy, (end, lane))
    return lane_of


def write_slices(
    path: str | os.PathLike[str], slices: Iterable[Slice], critical: Iterable[str] = ()
) -> None:
    """
    Write *slices* to the file *path*, which is replaced, as a trace from time 0 on.

    The *critical* ones are the tasks of the critical path, by their ids.
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
    """What is shown together, and its name: the critical path, and each agent."""
    critical = [one for one in slices if one.task_id in marked]
    if critical:
        yield "critical path", critical
    agents: dict[str, list[Slice]] = {}
    for one in slices:
        agents.setdefault(one.agent_id, []).append(one)
    yield from agents.items()


def _names(pid: int, name: str, threads: int) -> Iterator[dict[str, Any]]:
    """The names of a group and of its tracks, and their order."""

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
