"""Doing the work of attempts: which executor, when, and what it is asked besides."""

from __future__ import annotations

import concurrent.futures
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from contextvars import Context
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, Protocol

import attrs

from taskorch._visible import said
from taskorch.errors import (
    AttemptInterrupted,
    AttemptLostError,
    InvalidTaskError,
    InvalidTransitionError,
    TaskFailedError,
)
from taskorch.executors._owned import OwnedExecutor
from taskorch.executors._processes._attempts import Processes
from taskorch.executors._programs._attempts import Programs
from taskorch.executors._threads import WorkerThreads
from taskorch.kernel import (
    AttemptOutcome,
    Effect,
    HoldAttempt,
    ReleaseAttempt,
    ReturnSlot,
    StopAttempt,
    TaskRow,
)
from taskorch.model import Missing, Program, TaskState
from taskorch.model._show import show
from taskorch.protocols import AttemptExecutor
from taskorch.runtime._arguments import resolved
from taskorch.runtime._asyncio import is_cancellation
from taskorch.runtime._attempt import Attempt
from taskorch.runtime._context import context_of
from taskorch.runtime._coroutines import Coroutines
from taskorch.runtime._driver import Driver
from taskorch.runtime._effects import EffectQueue
from taskorch.runtime._interrupts import INTERRUPTS
from taskorch.runtime._loops import LoopHost
from taskorch.runtime._machine import whole_cores
from taskorch.runtime._tracing import Traced, variables_of
from taskorch.runtime._waiting import Waiting
from taskorch.runtime._work import (
    Control,
    Work,
    control_of,
    forget_above,
    is_cached,
    task_of,
)

if TYPE_CHECKING:
    from taskorch.runtime._memo import Memo

_LOG: Final = logging.getLogger(__name__)
#: What a thread returns whose work goes on elsewhere.
_HANDED: Final = object()
#: Exceptions that have a meaning to the event loop of a caller.
ENDS_LOOPS: Final = (StopIteration, StopAsyncIteration)


def outcome_of(
    error: BaseException, task_id: str, *, asked: bool
) -> tuple[AttemptOutcome, BaseException, tuple[str, str]]:
    """
    What *error* says of the attempt that raised it.

    Returns:
        The outcome, the error as callers see it, and its type and message.
    """
    kind, message = said(error)
    stopped = isinstance(error, AttemptInterrupted) or is_cancellation(error)
    if stopped and asked:
        return "stopped", error, (kind, message)
    if isinstance(error, concurrent.futures.BrokenExecutor) or (
        # Of another task, it is what this one was told.
        isinstance(error, AttemptLostError) and error.task_id == task_id
    ):
        return "lost", error, (kind, message)
    if not isinstance(error, Exception) or isinstance(error, ENDS_LOOPS):
        # SystemExit and the like must not end the program of whoever asks, and a
        # StopIteration not the loop.
        text = f"task {task_id} raised {kind}: {message}".removesuffix(": ")
        wrapped = TaskFailedError(text, type=kind, task_id=task_id)
        wrapped.__cause__ = error
        return "failed", wrapped, (kind, message)
    if type(error) is TaskFailedError and error.task_id == task_id and error.type:
        # In the place of what was raised in another process: that is what is kept.
        message = message.removeprefix(f"task {task_id} ")
        message = message.removeprefix(f"raised {error.type}: ")
        return "failed", error, (error.type, message)
    return "failed", error, (kind, message)


@attrs.define(eq=False)
class AgentRunner:
    """Name, handler and executor of an agent."""

    name: str
    handler: Callable[..., Any]
    executor: AttemptExecutor[Any]
    #: The handler returns the program that is to be run.
    program: bool = False


class AttemptsHost(Driver, Traced, Protocol):
    """What attempts ask of their runtime."""

    loops: LoopHost
    runners: dict[str, AgentRunner]
    run_id: str
    #: What agents try themselves when an attempt has failed; None: nothing.
    strategies: Any
    #: What keeps facts in a journal; None: nothing does.
    committer: Any
    threads: WorkerThreads
    waiting: Waiting

    @property
    def memo(self) -> Memo:
        """Looks for the results of like tasks."""
        ...


class Attempts:
    """Begins attempts, and stops and holds them, by their executors."""

    def __init__(
        self, host: AttemptsHost, executors: Mapping[str, AttemptExecutor[Any]]
    ) -> None:
        self._rt = host
        self.programs = Programs(lambda: host.run_id)
        given = executors.get("process")
        #: They can be given by their number.
        self.processes: Processes = (
            given if isinstance(given, Processes) else Processes()
        )
        #: All, by the names that tasks and agents give.
        self.executors: Mapping[str, AttemptExecutor[Any]] = {
            "thread": host.threads,
            "asyncio": Coroutines(host.loops),
            "program": self.programs,
            **executors,
            "process": self.processes,
        }
        #: Those that end with us.
        self._owned = {
            name: own
            for name, own in self.executors.items()
            if isinstance(own, OwnedExecutor)
        }
        for own in self._owned.values():
            own.bind(
                lambda: host.run_id, whole_cores, lambda: host.committer is not None
            )
        self._named = tuple(
            (name, own) for name, own in executors.items() if name not in self._owned
        )

    # -- which executor ------------------------------------------------------------

    def executor_of(self, row: TaskRow, work: Work) -> AttemptExecutor[Any]:
        """Executor for the attempt of *row* on its agent."""
        executor, agent = work._executor, row.agent
        if executor is self.programs and agent is not None and agent.lease_ns:
            # It lives elsewhere, and so do the programs that need it.
            executor = None
        if executor is None and agent is not None:
            runner = self._rt.runners.get(agent.name)
            executor = None if runner is None else runner.executor
        return self._rt.threads if executor is None else executor

    def runner_of(self, row: TaskRow) -> AgentRunner:
        """How the agent of *row*, which runs, does its work."""
        assert row.agent is not None  # noqa: S101 - a running task has an agent
        return self._rt.runners[row.agent.name]

    def name_of(self, executor: AttemptExecutor[Any]) -> str:
        """What the user calls *executor*; empty if it is one of ours."""
        # Mostly there are none.
        return next((name for name, own in self._named if own is executor), "")

    # -- beginning -----------------------------------------------------------------

    def begin(self, row: TaskRow, number: int, work: Work) -> None:
        """Begin an attempt; never blocks, never raises."""
        self._begin(Attempt(row, number, work, self.executor_of(row, work)))

    def _begin(self, attempt: Attempt) -> None:
        executor = attempt.executor
        try:
            if executor is self._rt.threads:
                # It is told to stop, and asks: no more can be done to it.
                executor.begin(attempt)
            elif attempt.cancelled:
                attempt.end(error=AttemptInterrupted("stopped before it began"))
            else:
                begun = executor.begin(attempt)
                self._attach(attempt, executor, begun)
        except BaseException as error:
            attempt.unstarted(error)
            if isinstance(error, INTERRUPTS):
                # The interrupted thread raises it, too.
                raise

    def _attach(
        self, attempt: Attempt, executor: AttemptExecutor[Any], begun: Any
    ) -> None:
        """*attempt* was begun: from now on it can be stopped, and held."""
        row, number, work = attempt
        control = control_of(work, number)
        is_to_end = control.attach(executor, begun)
        if attempt.is_over:
            # It had ended before it could be found.
            control.detach()
        elif is_to_end:
            self._ask(executor.stop, begun, self._grace())
        elif executor.can_hold():
            self._hold_if_asked(row, number)
        if row in self._rt.kernel.holders:
            # That may have come before it could be told.
            self._ask(executor.allocation_changed, begun)

    def _hold_if_asked(self, row: TaskRow, attempt: int) -> None:
        """Pause an attempt that has begun, if its task was suspended meanwhile."""

        def change(now: int) -> None:
            extra = row.extra
            asked = extra is not None and extra.suspending and extra.stop == "suspend"
            if asked and row.attempt == attempt:
                # Not at a checkpoint, of which it has none, but where it stands.
                self._rt.kernel.resume(row, now)
                with suppress(InvalidTransitionError):
                    self._rt.kernel.suspend(row, now, holdable=True)

        self._rt.step(change)

    def _grace(self) -> float:
        """Seconds that an attempt has to end after it was asked to."""
        return self._rt.kernel.config.grace_ns / 1e9

    # -- on a thread of ours -------------------------------------------------------

    def perform(
        self, row: TaskRow, number: int, work: Work, variables: Context | None = None
    ) -> tuple[bool, Any, BaseException | None]:
        """
        On a thread: do an attempt that is not the plainest.

        Where no worker of ours tells of its context, *variables* do.

        Returns:
            Whether the work goes on elsewhere, the value, and the error.
        """
        context = context_of(work, number)
        if number > 1 and self._rt.strategies is not None:
            self._rt.strategies.reset(row, number, work)
        if context.cancelled:
            return False, None, AttemptInterrupted("stopped before it began")
        try:
            if variables is None:
                variables = variables_of(self._rt, row, number, work)
            value = variables.run(self._call, row, number, work, context)
        except BaseException as error:  # noqa: BLE001 - it is the task's
            return False, None, error
        finally:
            # The frames of an error lead to this one: it keeps no task alive.
            del row, work, context
        return value is _HANDED, value, None

    def _call(self, row: TaskRow, number: int, work: Work, context: Any) -> Any:
        try:
            if work._executor is not None:
                fn, args, kwargs = resolved(work)
                if is_cached(work):
                    return self._rt.memo.call(row, work, fn, args, kwargs)
                return fn(*args, **kwargs)
            runner = self.runner_of(row)
            if is_cached(work) and not runner.program:
                handed = task_of(row), context
                return self._rt.memo.call(row, work, runner.handler, handed, {})
            value = runner.handler(task_of(row), context)
            if not runner.program:
                return value
            if not isinstance(value, Program):
                msg = (
                    f"agent {runner.name!r} runs programs: its handler returns a "
                    f"Program, not {show(value)}"
                )
                raise InvalidTaskError(msg, task_id=row.id)
            self._begin(Attempt(row, number, work, self.programs, value))
            return _HANDED
        finally:
            # As in `perform`.
            del row, work, context

    # -- stopping ------------------------------------------------------------------

    def in_order(self, effects: Sequence[Effect]) -> list[Control]:
        """
        Under the lock: let *effects* be the latest decisions about their attempts.

        A slot that is returned is so at once: the attempt may give it back again before
        this thread has left the lock.

        Returns:
            What is to be given to `carry_out` once the lock is free.
        """
        told: dict[Control, None] = {}
        for effect in effects:
            if isinstance(effect, ReturnSlot):
                self._rt.waiting.returned(effect.row, effect.attempt)
                continue
            work: Work | None = effect.row.cargo
            if work is not None:
                control = control_of(work, effect.attempt)
                if control.effects is None:
                    control.effects = EffectQueue()
                control.effects.append(effect)
                told[control] = None
        return list(told)

    def carry_out(self, told: Iterable[Control]) -> None:
        """Outside the lock: do what the kernel says besides starts."""
        for control in told:
            if control.effects is not None:
                control.effects.drain(partial(self._carry_out, control))

    def _carry_out(self, control: Control, effect: Effect) -> None:
        if isinstance(effect, StopAttempt):
            executor, begun = control.tell(effect.why)
            if effect.why == "suspend":
                return
            if executor is not None:
                self._ask(executor.stop, begun, self._grace())
            self._rt.waiting.interrupt(effect.row, effect.attempt)
            return
        executor, begun = control.executor, control.handle
        if isinstance(effect, HoldAttempt):
            if executor is not None:
                self._ask(executor.hold, begun)
        elif isinstance(effect, ReleaseAttempt):
            if control.why == "suspend":
                control.why = ""
            if executor is not None and executor.can_hold():
                self._ask(executor.resume, begun)
        elif executor is not None:
            self._ask(executor.allocation_changed, begun)

    def _ask(self, method: Callable[..., object], *arguments: Any) -> None:
        """Ask an executor, which may be of the user's, to stop, hold or resume."""
        try:
            method(*arguments)
        except Exception:  # noqa: BLE001 - it harms no other attempt
            _LOG.exception("%s() of an executor failed", method.__qualname__)

    # -- the end -------------------------------------------------------------------

    def end_all(self, grace: float) -> None:
        """End all programs and worker processes within *grace* seconds."""
        self.programs.end_all(grace)
        for own in self._owned.values():
            own.end_all(grace)

    def close(self, patience: float) -> None:
        """Kill all programs and processes, and wait for that for *patience* seconds."""
        end = monotonic() + patience
        # The programs come last: with them goes all that carries the mark of the run.
        for own in self._owned.values():
            own.close(max(0.0, end - monotonic()))
        self.programs.close(max(0.0, end - monotonic()))

    def findings(self) -> list[tuple[str, str, str]]:
        """What our executors have to say: name, `ok` or worse, and words."""
        return [
            (name, status, words)
            for name, own in self._owned.items()
            for status, words in own.findings()
        ]

    def holdable(self, row: TaskRow) -> bool:
        """Whether the running attempt of *row* can be stopped where it stands."""
        control = _control_of(row)
        executor = None if control is None else control.executor
        return executor is not None and executor.can_hold()

    def place(self, row: TaskRow) -> str:
        """Where the running attempt of *row* is, if its executor can say that."""
        control = _control_of(row)
        if control is None or not isinstance(control.executor, OwnedExecutor):
            return ""
        return control.executor.where(control.handle)


def _control_of(row: TaskRow) -> Control | None:
    """Under the lock: the control of the running attempt."""
    work: Work | None = row.cargo
    control = None if work is None or work._extra is None else work._extra.control
    return control if control is not None and control.attempt == row.attempt else None


def tidy(row: TaskRow, work: Work) -> None:
    """Under the lock: *row* has ended; let go of what only its life needed."""
    if row.state is TaskState.COMPLETED and type(work._value) is not Missing:
        # Of an earlier attempt.
        work._error = None
    forget_above(work)
