"""
The protocol of policies as data, which an extension implements for the runtime.

Decision: rooms-and-loading.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NoReturn, Protocol

from taskorch.core.engine._deciders import JudgesStarts
from taskorch.core.engine._work import Work
from taskorch.core.kernel import TaskRow
from taskorch.events import Event
from taskorch.model import Task


class Governs(JudgesStarts, Protocol):
    """Protocol: judges submissions, starts and running tasks."""

    @property
    def constitution(self) -> Any:
        """The policies in force."""
        ...

    @property
    def violated(self) -> Mapping[tuple[str, str], int]:
        """Counts of violations, by severity and policy id."""
        ...

    @property
    def wants(self) -> frozenset[type[Event]]:
        """The events that it must hear of."""
        ...

    @property
    def due_ns(self) -> int:
        """The time of the next look at tasks on hold, in ns; 0 if none is due."""
        ...

    # -- on the way in -----------------------------------------------------------------

    def is_asked_of(self, fn: object) -> bool:
        """Return whether a policy judges submitted calls of *fn*."""
        ...

    def admit(self, task: Task) -> tuple[Task, Any]:
        """Judge *task*, which is submitted; return it as changed, and the verdict."""
        ...

    def changed(self, task: Task) -> Task:
        """Return *task* as policies would change it if there were no waivers."""
        ...

    def refuse(self, verdict: Any) -> NoReturn:
        """Report that a submission is denied, and raise the error."""
        ...

    def confirm(self, entries: Iterable[Any], now: int) -> None:
        """Refuse new tasks that are denied; hold the lock."""
        ...

    def admitted(self, entries: Iterable[Any], now: int) -> None:
        """Report the verdicts on tasks that were accepted; hold the lock."""
        ...

    def foreseen(self, tasks: Iterable[Task]) -> list[str]:
        """Return sentences on how policies would judge *tasks* now."""
        ...

    # -- events ------------------------------------------------------------------------

    def hear(self) -> None:
        """Take in the new events of this step; hold the lock."""
        ...

    def handed_over(self) -> None:
        """Note that the events of this step were taken away; hold the lock."""
        ...

    def recall(self, last: int) -> None:
        """Take in the events of the journal, up to event *last*; hold the lock."""
        ...

    def save_history(self, state: dict[str, Any]) -> None:
        """Put the history of the rules into *state*, a snapshot; hold the lock."""
        ...

    # -- what is on hold, and what goes on ---------------------------------------------

    def look(self, now: int) -> None:
        """Let tasks on hold try again that would be allowed now; hold the lock."""
        ...

    def look_if_due(self, now: int) -> None:
        """Look at the tasks on hold, if it is time; hold the lock."""
        ...

    def progressed(self, work: Work, attempt: int, value: Any) -> None:
        """Judge the progress of an attempt, and cancel it if denied."""
        ...

    def result_error(self, work: Work, attempt: int, value: Any) -> Exception | None:
        """Return the error by which an attempt with result *value* fails, if any."""
        ...

    # -- who asks ----------------------------------------------------------------------

    def refuse_verb(self, verb: str, arguments: Mapping[str, Any]) -> None:
        """Judge a call of somebody, and raise if it is denied."""
        ...

    def waivers_asked_for(self, row: TaskRow) -> list[str]:
        """Return the open requests of waivers for *row*; hold the lock."""
        ...

    def violations(self, row: TaskRow) -> Sequence[Any]:
        """Return the violations that keep *row* from starting now; hold the lock."""
        ...
