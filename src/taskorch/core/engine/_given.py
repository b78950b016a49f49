"""
What extensions give to the engine, if they are there: `kit.checks.built_in` finds them.

The classes of failures are `recovery.classify`, with the rules of a retry handler.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from contextvars import Context
from typing import TYPE_CHECKING, Any, Protocol

from taskorch.model import Task

if TYPE_CHECKING:
    from taskorch.core.kernel import TaskRow


class Tracer(Protocol):
    """Spans of submissions, attempts, steps and runs: `telemetry`."""

    def connect(self, signals: Any) -> None:
        """Listen to events from now on."""
        ...

    def capture(self) -> Context:
        """Return the caller's variables, with the span of a submission as current."""
        ...

    def trace_in(self, variables: Context) -> str | None:
        """Return the trace in which a task was submitted, as text."""
        ...

    def has_submission(self, variables: Context) -> bool:
        """Return whether *variables* hold a submission of this tracer."""
        ...

    def workflow(self, name: str, run_id: str) -> AbstractContextManager[None]:
        """Submit the tasks of a run inside its span."""
        ...

    def enter(
        self, variables: Context, task_id: str, attempt: int, origin: Any, began: int
    ) -> None:
        """Make the span of an attempt, which *began* at that ns, current in them."""
        ...

    def environment(
        self, task_id: str, attempt: int, origin: Any, began: int
    ) -> Mapping[str, str]:
        """Return the variables that bring the span of an attempt to its program."""
        ...

    def step(
        self,
        attempt: tuple[str, int],
        name: str,
        number: int,
        *,
        is_kept: bool,
        is_here: bool,
    ) -> Any:
        """Begin the span of a step."""
        ...


class Meter(Protocol):
    """Measurements of tasks and commits: `telemetry`."""

    def connect(self, signals: Any) -> None:
        """Listen to events from now on."""
        ...

    def committed(self, seconds: float) -> None:
        """Measure a commit of the journal."""
        ...


class Caching(Protocol):
    """Results of like tasks, each made once: `memo`."""

    #: Remarks on the results of the latest tasks.
    said: dict[str, str]

    def call(
        self,
        row: TaskRow,
        task: Task,
        fn: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
    ) -> Any:
        """Return the result of a like task, or of *fn*."""
        ...

    @property
    def call_async(self) -> Callable[..., Any]:
        """Does as `call`, for coroutine functions."""
        ...

    def elsewhere(
        self,
        row: TaskRow,
        task: Task,
        fn: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
    ) -> tuple[Callable[..., Any], tuple[Any, ...], Mapping[str, Any]]:
        """Return the call for another process."""
        ...

    def keys(self, kind: str | None = None, task_id: str | None = None) -> list[str]:
        """Return keys of cached results: all, those of a type, or that of a task."""
        ...


class Pruning(Protocol):
    """Removes from a journal what ended long ago: `retention`."""

    @property
    def journal_retention(self) -> Any:
        """The retention of the journal."""
        ...

    def begin(self) -> None:
        """Look for it again and again, until the orchestrator stops."""
        ...

    def run(
        self, retention: Any, *, schedule: str, by_hand: bool, dry_run: bool
    ) -> Any:
        """Remove it now; return how much."""
        ...
