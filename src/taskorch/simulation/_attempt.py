"""One attempt of a life in virtual time, as its executors have it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextvars import Context
from typing import TYPE_CHECKING, Any, Protocol

from taskorch.errors import UsageError
from taskorch.kernel import AttemptOutcome, Kernel, TaskRow
from taskorch.model import Program, Task
from taskorch.runtime._attempts import outcome_of
from taskorch.runtime._context import CURRENT, AttemptContext, context_of, resolved
from taskorch.runtime._work import Work, is_cached, task_of
from taskorch.simulation import _agents
from taskorch.simulation._run import Fence
from taskorch.simulation._timeline import Agenda

if TYPE_CHECKING:
    from taskorch.runtime._memo import Memo


class AttemptLife(Protocol):
    """What an attempt, and the executor that makes it, ask of their life."""

    epoch: int
    kernel: Kernel
    timeline: Agenda

    @property
    def world(self) -> _agents.AgentWorld:
        """The world, which has the agents."""
        ...

    @property
    def memo(self) -> Memo:
        """Looks for the results of like tasks."""
        ...

    def now(self) -> int:
        """Time in ns, as the process has it."""
        ...

    def note_progress(self, row: TaskRow, attempt: int, value: Any) -> None:
        """Note the progress of an attempt."""
        ...

    def end(
        self,
        row: TaskRow,
        attempt: int,
        how: AttemptOutcome,
        result: Any,
        error: BaseException | None,
    ) -> None:
        """An attempt has ended."""
        ...


class SimulatedAttempt:
    """An attempt of a life: see `taskorch.protocols.Attempt`."""

    __slots__ = ("_life", "_work", "number", "row")

    def __init__(self, life: AttemptLife, row: TaskRow, number: int) -> None:
        self._life = life
        self._work: Work = row.cargo
        self.row: TaskRow = row
        self.number: int = number

    @property
    def task_id(self) -> str:
        return self.row.id

    @property
    def fence(self) -> tuple[int, int]:
        return self._life.epoch, self.number

    @property
    def full_fence(self) -> Fence:
        """With the task: as remote agents are told it."""
        return self._life.epoch, self.row.id, self.number

    @property
    def task(self) -> Task[Any]:
        return task_of(self.row)

    @property
    def is_program(self) -> bool:
        """Whether the attempt is a program, and can be stopped in place."""
        task = self._work._task
        return task is not None and isinstance(task.payload, Program)

    @property
    def context(self) -> AttemptContext:
        """The context of the attempt, for its function."""
        return context_of(self._work, self.number)

    @property
    def cancelled(self) -> bool:
        extra = self.row.extra
        is_told = extra is not None and bool(extra.stop)
        return is_told or self.row.attempt != self.number

    def run(self) -> None:
        try:
            fn, args, kwargs = self.call()
            value = self.variables().run(fn, *args, **kwargs)
        except Exception as error:  # noqa: BLE001 - it is the task's
            self.end(error=error)
        else:
            self.end(value)

    def call(
        self, *, elsewhere: bool = False
    ) -> tuple[Callable[..., Any], tuple[Any, ...], Mapping[str, Any]]:
        del elsewhere
        called = resolved(self._work)
        if not is_cached(self._work):
            return called
        return self._life.memo.wrapped(self.row, self._work, called, elsewhere=True)

    def variables(self) -> Context:
        variables = self._work._ctx.copy()
        variables.run(CURRENT.set, self.context)
        return variables

    def portable(self) -> Callable[[], Any]:
        msg = "in a simulation there is no other process"
        raise UsageError(msg, hint="say what the work comes to")

    def told(self, what: str, value: Any) -> None:
        del what, value
        self.portable()

    def end(self, value: Any = None, error: BaseException | None = None) -> None:
        how: AttemptOutcome = "completed"
        if error is not None:
            how, error, _ = outcome_of(error, self.task_id, asked=True)
        self.over(how, value, error)

    def over(
        self, how: AttemptOutcome, value: Any, error: BaseException | None
    ) -> None:
        """End the attempt; *how* is the kernel's word for the outcome."""
        self._life.end(self.row, self.number, how, value, error)

    def end_soon(self, value: Any = None, error: BaseException | None = None) -> None:
        timeline = self._life.timeline
        timeline.at(timeline.now, lambda _: self.end(value, error))

    def unstarted(self, error: BaseException) -> None:
        self.over("unstarted", None, error)
