"""Who did what when in a run, in all the processes that it took."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final

import attrs

from taskorch.events import (
    TaskCancelled,
    TaskCompleted,
    TaskFailed,
    TaskRetrying,
    TaskStarted,
)
from taskorch.frontends.suite._attempt import name_of
from taskorch.frontends.suite._folder import JsonLines, RunFolder


@attrs.frozen
class Slice:
    """
    One attempt, as a bar in a picture.

    Attributes:
        task: The id of the task.
        attempt: The number of the attempt.
        agent: Who did it.
        start: When it began, in seconds since the epoch.
        end: When it ended. One that was killed with the process of the run ended when
            that had left its last trace.
        outcome: `completed`, `retrying`, `failed` or `cancelled`.
    """

    task: str
    attempt: int
    agent: str
    start: float
    end: float
    outcome: str


#: What a line says of the attempt, beside its `run`: the id of its task there.
_FIELDS: Final = tuple(attrs.fields_dict(Slice))


class AttemptTimeline:
    """
    The attempts of a run, kept in its folder.

    There is a line when an attempt begins, without an end, and another when it has
    ended; so what was under way in a process that was killed is known to the next.
    """

    def __init__(self, folder: RunFolder) -> None:
        self._folder = folder
        self._lines = JsonLines(folder.attempts, 1 << 40, 1e6)
        #: The latest attempt at each task, by its id in the run.
        self._latest: dict[str, Slice] = {}
        #: When the first one began.
        self._first: dict[str, float] = {}
        #: When the process that was killed has left its last trace.
        self._last_trace = 0.0
        for path in (folder.attempts, folder.messages, folder.events):
            with suppress(OSError):
                self._last_trace = max(self._last_trace, path.stat().st_mtime)
        for line in self._lines.read():
            self._note(line.get("run", line["task"]), _slice(line))
        self._killed = {run for run, one in self._latest.items() if not one.outcome}

    def begins(self, event: TaskStarted) -> None:
        """Note that an attempt has begun."""
        name = name_of(event.task_id)
        one = Slice(name, event.attempt, event.agent_id, event.at, event.at, "")
        self._killed.discard(event.task_id)
        self._write(event.task_id, one)

    def ends(
        self, event: TaskCompleted | TaskRetrying | TaskFailed | TaskCancelled
    ) -> None:
        """Note that the attempt under way has ended, if there is one."""
        one = self._latest.get(event.task_id)
        outcome = type(event).__name__.removeprefix("Task").lower()
        if one is None or (one.outcome and not self._is_late(event, one)):
            return
        end = event.at
        if event.task_id in self._killed:
            end = max(one.start, min(end, self._last_trace))
            # Its agent may have ended it when nobody was there to be told.
            results = self._folder.results_of(one.task, event.task_id, one.attempt)
            end = max(end, results.get("ended", end))
        self._write(event.task_id, attrs.evolve(one, end=end, outcome=outcome))

    def _is_late(
        self,
        event: TaskCompleted | TaskRetrying | TaskFailed | TaskCancelled,
        one: Slice,
    ) -> bool:
        """Whether the end of *one* is told, which was taken for interrupted."""
        if isinstance(event, TaskCancelled) or event.task_id not in self._killed:
            return False
        return event.attempt == one.attempt and one.outcome == "retrying"

    def first(self, task_id: str) -> float | None:
        """When the first attempt at a task of the run began; None if none has."""
        return self._first.get(task_id)

    def latest(self, task_id: str) -> Slice | None:
        """The latest attempt at a task of the run, if there is one."""
        return self._latest.get(task_id)

    def slices(self) -> tuple[Slice, ...]:
        """All attempts that have ended; of each, what was told last."""
        latest = {
            (line.get("run", line["task"]), line["attempt"]): _slice(line)
            for line in self._lines.read()
            if line["outcome"]
        }
        return tuple(latest.values())

    def _write(self, run: str, one: Slice) -> None:
        self._note(run, one)
        self._lines.write({"run": run, **attrs.asdict(one)})

    def _note(self, run: str, one: Slice) -> None:
        self._latest[run] = one
        self._first.setdefault(run, one.start)


def _slice(line: Mapping[str, Any]) -> Slice:
    return Slice(**{name: line[name] for name in _FIELDS})
