"""
A runtime for `orch.workflows`, in virtual time.

The managers of workflows are those that run in production: they change the state in
steps and take tasks in by the code of the runtime. The runtime returns once a step is
kept; this returns at once, and a caller learns by `Commits.when` that it is kept.

Decision: simulation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from types import SimpleNamespace
from typing import Any, ClassVar, Protocol, TypeVar

from taskorch.core.engine import TaskEngine, Work, is_settled, row_of
from taskorch.core.kernel import PolicyFault, TaskRow
from taskorch.errors import (
    NotRunningError,
    UsageError,
    WouldDeadlockError,
)

T = TypeVar("T")


class HostingWorld(Protocol):
    """The interface of the world for this module."""

    @property
    def incarnation(self) -> object:
        """The incarnation of the orchestrator, or None."""
        ...

    def do(self, act: Callable[[], T]) -> T:
        """Call *act* in a step of the orchestrator, or as a part of one."""
        ...

    def run(self) -> None:
        """Run until nothing proceeds by itself."""
        ...


class Hosting(TaskEngine):
    """The part of an incarnation that makes steps, and is a runtime to managers."""

    #: In virtual time, nobody waits for a journal.
    patience: ClassVar[Callable[..., AbstractContextManager[None]]] = staticmethod(
        nullcontext
    )
    halted: bool = False
    runs: Any = None
    first_made: dict[str, Any]

    def _host(self, world: HostingWorld, holdable: Callable[[TaskRow], bool]) -> None:
        """Set up this part, when the incarnation is made."""
        self._world = world
        self.attempts: SimpleNamespace = SimpleNamespace(holdable=holdable)
        # A question in virtual time does not come from a running attempt.
        self.waiting: SimpleNamespace = SimpleNamespace(
            wait=self._wait, used=lambda _works: None
        )

    def step(self, change: Callable[[int], Any], *, keep: bool = False) -> Any:
        """
        Make *change*, given the time, and carry out its effects.

        With *keep*, a runtime would return only once that is kept; here nobody waits.

        Raises:
            NotRunningError: The orchestrator is dead, or has died in this step: then
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
        Check that tasks can be submitted.

        Raises:
            NotRunningError: The orchestrator has died.
        """
        if self._world.incarnation is not self:
            msg = "this incarnation of the orchestrator is over: it has crashed"
            hint = "let time pass, and ask simulation.workflows again"
            raise NotRunningError(msg, hint=hint)

    # A simulated incarnation does not drain.
    refuse_new = refuse_submission

    def durable(self) -> None:
        """Do nothing: a simulated journal is open."""

    def look_up(self, *names: str) -> None:
        """Do nothing: tasks that have left memory are known by their ids only."""

    def recall(self, names: Iterable[str]) -> None:
        """Do nothing: tasks that have left memory are known by their ids only."""

    def is_left(self, row: TaskRow) -> bool:
        """Return False: a simulated orchestrator is never stopped."""
        return False

    def _wait(self, work: Work, timeout: float | None) -> bool:
        """
        Run until *work* is settled, and nothing proceeds by itself.

        Raises:
            NotRunningError: The orchestrator has died meanwhile.
            UsageError: Patience has a limit, in a time that does not pass here.
            WouldDeadlockError: It is not settled even so.
        """
        row = row_of(work)
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
