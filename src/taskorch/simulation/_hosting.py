"""
What `orch.workflows` needs of a runtime, in virtual time.

The managers of workflows are those that run in production: they change the state in
steps and take tasks in by the code of the runtime. Where that returns once a step is
kept, this returns at once: whether a caller was told is for the caller to see, by
`Commits.when`.

Decision: 0033.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from types import SimpleNamespace
from typing import Any, Protocol, TypeVar

from taskorch.errors import (
    NotRunningError,
    UsageError,
    WouldDeadlockError,
)
from taskorch.kernel import PolicyFault, TaskRow
from taskorch.runtime import TaskEngine, Work, is_settled

T = TypeVar("T")


class HostingWorld(Protocol):
    """What is asked of the world here."""

    @property
    def life(self) -> object:
        """The life of the orchestrator, or None."""
        ...

    def do(self, act: Callable[[], T]) -> T:
        """Call *act* in a step of the orchestrator, or as a part of one."""
        ...

    def run(self) -> None:
        """Run until nothing proceeds by itself."""
        ...


class Hosting(TaskEngine):
    """The part of a life that makes steps, and stands for a runtime to managers."""

    halted: bool = False
    runs: Any = None
    first_made: dict[str, Any]

    def _host(self, world: HostingWorld, holdable: Callable[[TaskRow], bool]) -> None:
        """Begin: to be called when the life is made."""
        self._world = world
        self.attempts: SimpleNamespace = SimpleNamespace(holdable=holdable)
        # What asks in virtual time is no attempt that runs.
        self.waiting: SimpleNamespace = SimpleNamespace(
            wait=self._wait, used=lambda _works: None
        )

    def step(self, change: Callable[[int], Any], *, keep: bool = False) -> Any:
        """
        Make *change*, given the time, and do what follows from it.

        With *keep*, a runtime would return only once that is kept; here nobody waits.

        Raises:
            NotRunningError: The orchestrator is dead, or has died of this step: then
                nobody knows whether it is kept.
        """
        del keep
        self.deciders.refuse_reentry()
        self.refuse_submission()
        try:
            result = self._world.do(lambda: change(self.now()))
        except PolicyFault as fault:
            raise self.component_error(fault, None) from fault.error
        self.refuse_submission()
        return result

    def refuse_submission(self) -> None:
        """
        Called where tasks come in.

        Raises:
            NotRunningError: The orchestrator has died.
        """
        if self._world.life is not self:
            msg = "this life of the orchestrator is over: it has crashed"
            hint = "let time pass, and ask simulation.workflows again"
            raise NotRunningError(msg, hint=hint)

    # A life that is simulated does not drain.
    refuse_new = refuse_submission

    def durable(self) -> None:
        """Open nothing: a simulated journal is open."""

    def look_up(self, *names: str) -> None:
        """What has left memory is known by its id only."""

    def recall(self, names: Iterable[str]) -> None:
        """What has left memory is known by its id only."""

    def is_left(self, row: TaskRow) -> bool:
        """Whether the orchestrator was stopped, and *row* had ended by then: never."""
        return False

    def _wait(self, work: Work, timeout: float | None) -> bool:
        """
        Run until *work* is settled, and nothing proceeds by itself.

        Raises:
            NotRunningError: The orchestrator has died meanwhile.
            UsageError: Patience has a limit, in a time that does not pass here.
            WouldDeadlockError: It is not settled even so.
        """
        row = work._row
        if is_settled(row):
            return True
        if timeout is not None:
            msg = "a wait in a simulation has no timeout"
            hint = "let time pass with simulation.run(until=…), and ask then"
            raise UsageError(msg, hint=hint)
        self._world.run()
        self.refuse_submission()
        if not is_settled(row):
            msg = f"task {row.id} is {row.state}, and nothing proceeds by itself"
            hint = "simulation.explain(id) says why"
            raise WouldDeadlockError(msg, hint=hint, task_id=row.id)
        return True
