"""One attempt, as executors have it."""

from __future__ import annotations

import concurrent.futures
import threading
from collections.abc import Callable, Iterator, Mapping
from contextvars import Context
from functools import partial
from types import CoroutineType
from typing import TYPE_CHECKING, Any, Final, Protocol

import attrs

from taskorch.errors import AttemptInterrupted
from taskorch.executors._ends import is_no_room, unawaited
from taskorch.executors._remote import RemoteEnd, end_of, remote_call
from taskorch.model import NO_RETRY, Program, ProgramResult, Task, Units
from taskorch.protocols import Attempt as AnyAttempt
from taskorch.protocols import AttemptExecutor
from taskorch.runtime._arguments import resolved
from taskorch.runtime._context import CURRENT, call_with, context_of
from taskorch.runtime._driver import Driver, Finishes
from taskorch.runtime._notices import Notices
from taskorch.runtime._publisher import Publisher
from taskorch.runtime._room import ResourceExhaustion
from taskorch.runtime._tracing import Traced, in_trace, trace_of, variables_of
from taskorch.runtime._work import (
    Work,
    after_of,
    control_of,
    is_cached,
    task_of,
    why_unresolvable,
)

if TYPE_CHECKING:
    from taskorch.kernel import TaskRow
    from taskorch.runtime._memo import Memo


#: Seconds of processor in another process that are told; less is of no use to anybody.
_NOTED: Final = 0.001


class Runner(Protocol):
    """What an agent's attempts call: a handler."""

    @property
    def handler(self) -> Callable[..., Any]:
        """What is called with the task and its context."""
        ...


class Begins(Protocol):
    """What begins attempts."""

    def name_of(self, executor: AttemptExecutor[Any]) -> str:
        """What the user calls *executor*; empty if it is one of ours."""
        ...

    def runner_of(self, row: TaskRow) -> Runner:
        """How the agent of *row*, which runs, does its work."""
        ...

    def perform(
        self, row: TaskRow, number: int, work: Work, variables: Context
    ) -> tuple[bool, Any, BaseException | None]:
        """On a thread: do an attempt that is not the plainest."""
        ...


class Lost(Protocol):
    """Looks for what is not here."""

    def add(self, row: TaskRow) -> None:
        """Look for what *row* needs."""
        ...


class AttemptHost(Driver, Finishes, Traced, Protocol):
    """What an attempt asks of its runtime."""

    epoch: int
    lost: Lost
    notices: Notices
    publisher: Publisher
    room: ResourceExhaustion
    #: What agents try themselves when an attempt has failed; None: nothing.
    strategies: Any

    @property
    def memo(self) -> Memo:
        """Looks for the results of like tasks."""
        ...

    @property
    def attempts(self) -> Begins:
        """What begins attempts."""
        ...

    def progress(self, work: Work, attempt: int, value: Any, /) -> None:
        """A task reported *value*."""
        ...


class Attempt:
    """
    One attempt, for its executor: see `taskorch.protocols.Attempt`.

    What runs on a thread of ours mostly has none, for that would cost it time: a tuple
    of row, number and work takes its place, which is what an attempt unpacks to. If the
    handler of its agent has returned a *program*, that is what is to be run.
    """

    __slots__ = ("_program", "_row", "_rt", "_work", "executor", "is_over", "number")

    def __init__(
        self,
        row: TaskRow,
        number: int,
        work: Work,
        executor: AttemptExecutor[Any],
        program: Program | None = None,
    ) -> None:
        self._rt: AttemptHost = work._rt
        self._row = row
        self.number: int = number
        self._work = work
        self.executor: AttemptExecutor[Any] = executor
        self._program = program
        #: An end was told: there will be no other.
        self.is_over: bool = False

    def __iter__(self) -> Iterator[Any]:
        return iter((self._row, self.number, self._work))

    def __repr__(self) -> str:
        return f"<Attempt {self.number} of {self.task_id}>"

    @property
    def task_id(self) -> str:
        return self._row.id

    @property
    def fence(self) -> tuple[int, int]:
        return self._rt.epoch, self.number

    @property
    def task(self) -> Task[Any]:
        task = task_of(self._row)
        program = task.payload if self._program is None else self._program
        if isinstance(program, Program):
            program = in_trace(program, self._rt, *self)
        return task if program is task.payload else attrs.evolve(task, payload=program)

    @property
    def cancelled(self) -> bool:
        return control_of(self._work, self.number).is_to_end

    # -- what is to be done --------------------------------------------------------

    def run(self) -> None:
        row, number, work = self._row, self.number, self._work
        perform, variables = self._rt.attempts.perform, self.variables()
        handed, value, error = perform(row, number, work, variables)
        if handed:
            # A program now runs for it.
            return
        if isinstance(value, CoroutineType):
            error = unawaited(value, row.id)
            value = None
        try:
            self.end(value, error)
        finally:
            # The frames of an error lead to this one: it keeps no task alive.
            del self, row, work, variables, value, error

    def call(
        self, *, elsewhere: bool = False
    ) -> tuple[Callable[..., Any], tuple[Any, ...], Mapping[str, Any]]:
        work = self._work
        if work._executor is not None:
            return self._remembered(resolved(work), elsewhere=elsewhere)
        task, context = task_of(self._row), context_of(work, self.number)
        handler = self._rt.attempts.runner_of(self._row).handler
        if elsewhere:
            return handler, (_portable(task, work), context.remote()), {}
        return self._remembered((handler, (task, context), {}), elsewhere=False)

    def _remembered(
        self,
        called: tuple[Callable[..., Any], tuple[Any, ...], Mapping[str, Any]],
        *,
        elsewhere: bool,
    ) -> tuple[Callable[..., Any], tuple[Any, ...], Mapping[str, Any]]:
        """What is called for *called*, if a like task may have its result."""
        if not is_cached(self._work):
            return called
        wrapped = self._rt.memo.wrapped
        return wrapped(self._row, self._work, called, elsewhere=elsewhere)

    def variables(self) -> Context:
        variables = variables_of(self._rt, *self)
        variables.run(CURRENT.set, context_of(self._work, self.number))
        return variables

    def portable(self) -> Callable[[], Any]:
        fn, args, kwargs = self.call(elsewhere=True)
        if self._work._executor is None:
            # A handler has it among its arguments: then it is the same.
            context = args[1]
        else:
            context = context_of(self._work, self.number).remote_of_call()
        context.trace = trace_of(self._rt, *self)
        return remote_call(call_with, (context, fn, args, kwargs))

    def told(self, what: str, value: Any) -> Any:
        if what == "progress":
            self._rt.progress(self._work, self.number, value)
            return None
        context = context_of(self._work, self.number)
        if what == "checkpoint":
            context._checkpoint(value)
        return context.allocation.units

    # -- what came of it -----------------------------------------------------------

    def end(self, value: Any = None, error: BaseException | None = None) -> None:
        if self.is_over:
            return
        self.is_over = True
        used = usage_of(value)
        if isinstance(value, RemoteEnd):
            value, error = end_of(value, self.task_id)
        rt = self._rt
        mends = rt.strategies
        if error is not None and mends is not None and mends.takes(*self, error):
            return
        name = rt.attempts.name_of(self.executor)
        if name and isinstance(error, concurrent.futures.BrokenExecutor):
            rt.notices.executor_broke(name, error)
        elif name and not isinstance(error, AttemptInterrupted):
            rt.notices.executor_works(name)
        try:
            rt.finish(self._row, self.number, self._work, value, error, used)
        finally:
            # As in `run`.
            del self, value, error

    def end_soon(self, value: Any = None, error: BaseException | None = None) -> None:
        end = partial(self.end, value, error)
        thread = threading.Thread(target=end, name=f"{self._rt.name}-end", daemon=True)
        try:
            thread.start()
        except RuntimeError:
            # There is no room for one more: that of the receivers must do.
            with self._rt.lock:
                self._rt.publisher.put([(lambda _: end(), None)])

    def unstarted(self, error: BaseException) -> None:
        if not is_no_room(error):
            # Whatever it is, the task fails.
            self.end(error=error)
        elif not self.is_over:
            self.is_over = True
            self._rt.room.refuse(self._row, self.number, self._work, error)

    def hold_gone(self) -> None:
        """Hold the task for its unresolvable function, for a decision or its return."""
        end, row, number = self._rt.kernel.end_attempt, self._row, self.number
        described = "InvalidTaskError", why_unresolvable(self._work)
        self._rt.step(lambda now: end(row, number, "gone", now, None, described))
        self._rt.lost.add(row)


def usage_of(result: object) -> Units:
    """What was seen to be used for *result*: of a program, or in another process."""
    said: tuple[tuple[str, float | None], ...]
    if type(result) is ProgramResult:
        said = (("cpu_seconds", result.cpu_seconds), ("memory_mb", result.memory_mb))
    elif type(result) is RemoteEnd and (result.cpu_seconds or 0) >= _NOTED:
        said = (("cpu_seconds", result.cpu_seconds),)
    else:
        return ()
    # In millionths, as all that the kernel knows.
    return tuple([(name, int(much * 1e6)) for name, much in said if much is not None])


class _Gone(AttemptExecutor[None]):
    """In the place of an executor where what is called was there in an earlier life."""

    def begin(self, attempt: AnyAttempt) -> None:
        assert isinstance(attempt, Attempt)  # noqa: S101 - it is for a runtime only
        attempt.hold_gone()


GONE: Final = _Gone()


def _portable(task: Task[Any], work: Work) -> Task[Any]:
    """*task* for another process: with ids for handles, and without functions."""
    retry = task.retry
    if (
        callable(retry.wait)
        or retry.retry_if_result is not None
        or not isinstance(retry.retry_on, type | tuple)
    ):
        # They are for the orchestrator, and often lambdas.
        retry = NO_RETRY
    join = "all" if callable(task.join) else task.join
    return attrs.evolve(task, after=after_of(work), join=join, retry=retry)
