"""
What the runtime asks of policies as data: a role, which an extension takes on.

Decision: 0288.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NoReturn, Protocol

from taskorch.events import Event
from taskorch.kernel import TaskRow
from taskorch.model import Task
from taskorch.runtime._deciders import JudgesStarts
from taskorch.runtime._work import Work


class Governs(JudgesStarts, Protocol):
    """Protocol: has what comes in, starts and goes on judged."""

    @property
    def constitution(self) -> Any:
        """What judges."""
        ...

    @property
    def violated(self) -> Mapping[tuple[str, str], int]:
        """How often policies were violated, by their severity and their id."""
        ...

    @property
    def wants(self) -> frozenset[type[Event]]:
        """The events that it must hear of."""
        ...

    @property
    def due_ns(self) -> int:
        """When to look at what is on hold, in ns; 0: nothing is to be looked at."""
        ...

    # -- on the way in -----------------------------------------------------------------

    def is_asked_of(self, fn: object) -> bool:
        """Whether a policy judges calls of *fn* that are submitted."""
        ...

    def admit(self, task: Task) -> tuple[Task, Any]:
        """Judge *task*, which is submitted: as it is now, and the verdict or None."""
        ...

    def changed(self, task: Task) -> Task:
        """Return *task* as policies would change it if there were no waivers."""
        ...

    def refuse(self, verdict: Any) -> NoReturn:
        """Tell that a submission is denied, and raise so."""
        ...

    def confirm(self, entries: Iterable[Any], now: int) -> None:
        """Under the lock: refuse what is new and denied."""
        ...

    def admitted(self, entries: Iterable[Any], now: int) -> None:
        """Under the lock: say what there was to tell of tasks that were accepted."""
        ...

    def foreseen(self, tasks: Iterable[Task]) -> list[str]:
        """What policies say now of *tasks* in a forecast, in sentences."""
        ...

    # -- facts -------------------------------------------------------------------------

    def hear(self) -> None:
        """Under the lock: take in the facts of this step that are new."""
        ...

    def handed_over(self) -> None:
        """Under the lock: the facts of this step were taken away."""
        ...

    def recall(self, last: int) -> None:
        """Under the lock: take in what the journal has, up to the event *last*."""
        ...

    def save_history(self, state: dict[str, Any]) -> None:
        """Under the lock: put what history rules keep into *state*, a snapshot."""
        ...

    # -- what is on hold, and what goes on ---------------------------------------------

    def look(self, now: int) -> None:
        """Under the lock: let what is on hold try again, if it would be allowed."""
        ...

    def look_if_due(self, now: int) -> None:
        """Under the lock: look at what is on hold, if it is time."""
        ...

    def progressed(self, work: Work, attempt: int, value: Any) -> None:
        """Judge the progress of an attempt: what is denied is cancelled."""
        ...

    def result_error(self, work: Work, attempt: int, value: Any) -> Exception | None:
        """Why an attempt that returned *value* fails all the same, if it does."""
        ...

    # -- who asks ----------------------------------------------------------------------

    def refuse_verb(self, verb: str, arguments: Mapping[str, Any]) -> None:
        """Judge what somebody asks for, and raise if it is denied."""
        ...

    def waivers_asked_for(self, row: TaskRow) -> list[str]:
        """Under the lock: the open requests of waivers that *row* waits for."""
        ...

    def violations(self, row: TaskRow) -> Sequence[Any]:
        """Under the lock: what keeps *row* from starting, as it is judged now."""
        ...
