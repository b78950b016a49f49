"""Attempts, from their start to the end that an executor tells."""

from __future__ import annotations

import concurrent.futures
import inspect
import threading
from collections.abc import (
    Callable,
    Generator,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import suppress
from contextvars import Context
from functools import partial
from time import monotonic
from types import CoroutineType
from typing import TYPE_CHECKING, Any, Final

import attrs

from taskorch.core.engine._asyncio import is_cancellation
from taskorch.core.engine._context import (
    CURRENT,
    answer_of,
    as_attempted,
    call_with,
    context_of,
    resolved,
    trace_of,
    units_there,
    variables_of,
    variables_of_units,
)
from taskorch.core.engine._loops import Coroutines
from taskorch.core.engine._translation import is_coroutine_function
from taskorch.core.engine._work import (
    Control,
    EffectQueue,
    Work,
    after_of,
    control_of,
    extra_of,
    forget_above,
    is_cached,
    task_of,
    why_unresolvable,
)
from taskorch.core.executors._futures import OwnedExecutor
from taskorch.core.executors._processes._attempts import Processes
from taskorch.core.executors._programs._attempts import Programs
from taskorch.core.executors.remote import RemoteEnd, end_of, remote_call
from taskorch.core.kernel import (
    AttemptOutcome,
    Effect,
    HoldAttempt,
    ReleaseAttempt,
    ReturnSlot,
    StopAttempt,
    TaskRow,
    describe,
    row_extra,
)
from taskorch.errors import (
    AttemptInterrupted,
    AttemptLostError,
    InvalidTaskError,
    InvalidTransitionError,
    TaskFailedError,
)
from taskorch.events import RecoveryAttempted
from taskorch.kit.ends import is_no_room, unawaited
from taskorch.kit.fence import is_values, log_of
from taskorch.kit.interrupts import INTERRUPTS
from taskorch.kit.machine import gpus, machine_amounts, may_have_gpus, whole_cores
from taskorch.kit.visible import said, show
from taskorch.kit.words import stamp
from taskorch.model import (
    NO_RETRY,
    Missing,
    NamedUnits,
    Program,
    ProgramResult,
    RecoveryAttempt,
    Resources,
    Task,
    TaskState,
    Units,
)
from taskorch.protocols import Attempt as AnyAttempt, AttemptExecutor, Failure

if TYPE_CHECKING:
    from taskorch.core.engine._runtime import Runtime
    from taskorch.core.kernel import WorkerRow


# -- the GPUs of this machine, as resources --------------------------------------------

_LOG: Final = log_of(__name__)


def machine_resources() -> Resources:
    """
    Return the resources of this machine: see `machine_amounts`, and `gpu`.

    `gpu` is found with the extra `gpu` only.
    """
    known: dict[str, Any] = dict(machine_amounts())
    if may_have_gpus():
        names, _, why = gpus()
        if names:
            known["gpu"] = NamedUnits(*names)
        if why:
            _LOG.warning("taskorch: %s", why)
    return Resources(**known)


#: A value in the place of an amount: as many units as the machine has.
FOUND: Final = "found"


def with_gpus_found(amounts: Any) -> Any:
    """
    Return *amounts*, with the names of the GPUs here for a `gpu` of `"found"`.

    Raises:
        InvalidTaskError: None can be found: it says why.
    """
    if not isinstance(amounts, Mapping) or amounts.get("gpu") != FOUND:
        return amounts
    names, _, why = gpus()
    if not names:
        msg = f"no GPU was found: {why}"
        hint = "name them, {'gpu': {'named': ['0', '1']}}, or leave gpu out"
        raise InvalidTaskError(msg, hint=hint)
    if why:
        _LOG.warning("taskorch: %s", why)
    return {**amounts, "gpu": NamedUnits(*names)}


# -- one attempt, as executors have it -------------------------------------------------


#: Fewer seconds of processor time in another process are not reported.
_NOTED: Final = 0.001


class Attempt:
    """
    One attempt, for its executor: see `taskorch.protocols.Attempt`.

    What runs on a thread of ours mostly has none, for that would cost it time: a tuple
    of row, number and work takes its place, which is what an attempt unpacks to. If the
    handler of its worker has returned a *program*, that is what is to be run; if it has
    yielded it, *rest* is what it does after that.
    """

    __slots__ = (
        "_program",
        "_rest",
        "_row",
        "_rt",
        "_used",
        "_work",
        "executor",
        "is_over",
        "number",
    )

    def __init__(
        self,
        row: TaskRow,
        number: int,
        work: Work,
        executor: AttemptExecutor[Any],
        program: Program | None = None,
        rest: Generator[Any, Any, Any] | None = None,
        used: Units = (),
    ) -> None:
        # Any: this module sees more of the runtime than the class of works declares.
        rt: Any = work._rt
        self._rt: Runtime = rt
        self._row = row
        self.number: int = number
        self._work = work
        self.executor: AttemptExecutor[Any] = executor
        self._program = program
        self._rest = rest
        #: The resources that its program used, where its handler made the result.
        self._used = used
        #: Whether an end was told; no other end is taken after it.
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
            program = as_attempted(program, self._rt, *self)
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
            # The handler has returned a program, which runs now.
            return
        if type(value) is CoroutineType:
            error = unawaited(value, row.id)
            value = None
        try:
            self.end(value, error)
        finally:
            # An error's frames lead to this one, so its locals would keep the task
            # alive.
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
        """Return the call that looks for a cached result before it does *called*."""
        if not is_cached(self._work):
            return called
        memo, row = self._rt.memo, self._row
        if elsewhere:
            return memo.elsewhere(row, task_of(row), *called)
        call = memo.call_async if is_coroutine_function(called[0]) else memo.call
        return call, (row, task_of(row), *called), {}

    def variables(self) -> Context:
        variables = variables_of(self._rt, *self)
        variables.run(CURRENT.set, context_of(self._work, self.number))
        return variables

    def portable(self) -> Callable[[], Any]:
        fn, args, kwargs = self.call(elsewhere=True)
        if self._work._executor is None:
            # A handler has the context among its arguments already.
            context = args[1]
        else:
            context = context_of(self._work, self.number).remote_of_call()
        if (trace := trace_of(self._rt, *self)) is not None:
            context.trace = trace
        return remote_call(call_with, (context, fn, args, kwargs))

    def told(self, what: str, value: Any) -> Any:
        if what in ("progress", "spending"):
            note = self._rt.progress if what == "progress" else self._rt.spend
            note(self._work, self.number, value)
            return None
        if what == "spent":
            context_of(self._work, self.number)._spend_units(value)
            return None
        if what == "reserved":
            return context_of(self._work, self.number)._told(what, value)
        if what in ("printed", "logged"):
            output = self._rt.output
            if output is not None:
                keep = output.keep if what == "printed" else output.keep_record
                keep(self.task_id, self.number, value)
            return None
        if what == "variables":
            return variables_of_units(self._rt, self._row)
        if what == "units":
            return units_there(self._rt, self._row)
        context = context_of(self._work, self.number)
        if what == "extension":
            place, question = value
            return answer_of(place)(context, question)
        if what == "checkpoint":
            context.checkpoint(value)
        return context.allocation.units

    # -- what came of it -----------------------------------------------------------

    def end(self, value: Any = None, error: BaseException | None = None) -> None:
        if self.is_over:
            return
        self.is_over = True
        if self._rest is not None:
            go_on = partial(self._go_on, self._rest, value, error)
            name = f"{self._rt.name}-handler"
            try:
                threading.Thread(target=go_on, name=name, daemon=True).start()
            except RuntimeError as no_thread:
                self._without_rest(value).end(error=error or no_thread)
            return
        used = usage_of(value) or self._used
        if type(value) is RemoteEnd:
            value, error = end_of(value, self.task_id)
        rt = self._rt
        row, number, work = self._row, self.number, self._work
        mends = rt.strategies
        if error is not None and mends and mends.takes(row, number, work, error):
            return
        name = rt.attempts.name_of(self.executor)
        if name and isinstance(error, concurrent.futures.BrokenExecutor):
            rt.notices.executor_broke(name, error)
        elif name and not isinstance(error, AttemptInterrupted):
            rt.notices.executor_works(name)
        try:
            rt.finish(row, number, work, value, error, used)
        finally:
            # The reason is the same as in `run`.
            del self, row, work, value, error

    def _go_on(
        self,
        rest: Generator[Any, Any, Any],
        value: Any,
        error: BaseException | None,
    ) -> None:
        """Let the handler go on that yielded a program, which has ended now."""
        variables, result, last = self.variables(), None, self._without_rest(value)
        try:
            if error is None:
                variables.run(rest.send, value)
            else:
                variables.run(rest.throw, error)
            variables.run(rest.close)
            msg = f"task {self.task_id}: its handler has yielded a second program"
            hint = "yield one Program, and return the result of the task"
            error = InvalidTaskError(msg, hint=hint, task_id=self.task_id)
        except StopIteration as end:
            result, error = end.value, None
        except BaseException as raised:  # noqa: BLE001 - the error is the task's
            error = raised
        try:
            last.end(result, error)
        finally:
            # The reason is the same as in `run`.
            del self, rest, value, result, error, last

    def _without_rest(self, value: Any) -> Attempt:
        """Return this attempt for its handler to end: its program returned *value*."""
        row, number, work = self._row, self.number, self._work
        return Attempt(row, number, work, self.executor, used=usage_of(value))

    def end_soon(self, value: Any = None, error: BaseException | None = None) -> None:
        end = partial(self.end, value, error)
        thread = threading.Thread(target=end, name=f"{self._rt.name}-end", daemon=True)
        try:
            thread.start()
        except RuntimeError:
            # The system has no further thread, so the thread of the listeners does it.
            with self._rt.lock:
                self._rt.publisher.put([(lambda _: end(), None)])

    def unstarted(self, error: BaseException) -> None:
        if not is_no_room(error):
            # The task fails whatever the error is.
            self.end(error=error)
        elif not self.is_over:
            self.is_over = True
            self._rt.room.refuse(self._row, self.number, self._work, error)

    def hold_gone(self) -> None:
        """Put the task on hold until its function is back or a person decides."""
        end, row, number = self._rt.kernel.end_attempt, self._row, self.number
        described = "InvalidTaskError", why_unresolvable(self._work)
        self._rt.step(lambda now: end(row, number, "gone", now, None, described))
        self._rt.lost.add(row)


def usage_of(result: object) -> Units:
    """Return the measured usage of *result*: of a program, or another process."""
    said: tuple[tuple[str, float | None], ...]
    if type(result) is ProgramResult:
        said = (
            ("cpu_seconds", result.cpu_seconds),
            ("memory_mb", result.memory_mb),
            ("processes", result.processes),
            ("written_mb", result.written_mb),
        )
    elif type(result) is RemoteEnd and (result.cpu_seconds or 0) >= _NOTED:
        said = (("cpu_seconds", result.cpu_seconds),)
    else:
        return ()
    # The kernel counts all amounts in millionths.
    return tuple([(name, int(much * 1e6)) for name, much in said if much])


class _Gone(AttemptExecutor[None]):
    """Executor of attempts whose function or program cannot be found any more."""

    def begin(self, attempt: AnyAttempt) -> None:
        assert isinstance(attempt, Attempt)  # noqa: S101 - only a runtime calls it
        attempt.hold_gone()


GONE: Final = _Gone()


def _portable(task: Task[Any], work: Work) -> Task[Any]:
    """Return *task* for another process: with ids for handles, and no functions."""
    retry = task.retry
    if (
        callable(retry.wait)
        or retry.retry_if_result is not None
        or not isinstance(retry.retry_on, type | tuple)
    ):
        # Only the orchestrator calls these functions, which are often lambdas.
        retry = NO_RETRY
    join = "all" if callable(task.join) else task.join
    return attrs.evolve(task, after=after_of(work), join=join, retry=retry)


# -- doing the work of attempts: which executor, when, and what it is asked besides ----


#: The return value of a thread whose work goes on elsewhere.
_HANDED: Final = object()
#: Exceptions that would end the event loop of a caller.
ENDS_LOOPS: Final = (StopIteration, StopAsyncIteration)


def outcome_of(
    error: BaseException,
    task_id: str,
    *,
    asked: bool,
    described: tuple[str, str] | None = None,
) -> tuple[AttemptOutcome, BaseException, tuple[str, str]]:
    """
    Return the outcome that *error* gives to the attempt that raised it.

    Its class and message are *described*, if the caller has read them.

    Returns:
        The outcome, the error as callers see it, and its type and message.
    """
    kind, message = described or said(error)
    stopped = isinstance(error, AttemptInterrupted) or is_cancellation(error)
    if stopped and asked:
        return "stopped", error, (kind, message)
    if isinstance(error, concurrent.futures.BrokenExecutor) or (
        # If the lost attempt is another task's, this task only passes its error on.
        isinstance(error, AttemptLostError) and error.task_id == task_id
    ):
        return "lost", error, (kind, message)
    if not isinstance(error, Exception) or isinstance(error, ENDS_LOOPS):
        # A SystemExit must not end the program of the caller of `result()`, nor a
        # StopIteration its loop.
        text = f"task {task_id} raised {kind}: {message}".removesuffix(": ")
        wrapped = TaskFailedError(text, type=kind, task_id=task_id)
        wrapped.__cause__ = error
        return "failed", wrapped, (kind, message)
    if type(error) is TaskFailedError and error.task_id == task_id and error.type:
        # The error stands for one that another process raised; that one is kept.
        message = message.removeprefix(f"task {task_id} ")
        message = message.removeprefix(f"raised {error.type}: ")
        return "failed", error, (error.type, message)
    return "failed", error, (kind, message)


@attrs.define(eq=False)
class WorkerRunner:
    """Name, handler and executor of a worker."""

    name: str
    handler: Callable[..., Any]
    executor: AttemptExecutor[Any]
    #: Whether the handler returns or yields a program that is to be run.
    program: bool = False


class Attempts:
    """Begins attempts, and stops and suspends them, through their executors."""

    def __init__(
        self, rt: Runtime, executors: Mapping[str, AttemptExecutor[Any]]
    ) -> None:
        self._rt = rt
        self.programs: Programs = Programs(lambda: rt.run_id)
        given = executors.get("process")
        #: The executor of worker processes; a setting can be their number.
        self.processes: Processes = (
            given if isinstance(given, Processes) else Processes()
        )
        #: All executors, by the names that tasks and workers give.
        self.executors: Mapping[str, AttemptExecutor[Any]] = {
            "thread": rt.threads,
            "asyncio": Coroutines(rt.loops),
            "program": self.programs,
            **executors,
            "process": self.processes,
        }
        #: The executors that end with the orchestrator.
        self._owned = {
            name: own
            for name, own in self.executors.items()
            if isinstance(own, OwnedExecutor)
        }
        for own in self._owned.values():
            own.bind(lambda: rt.run_id, whole_cores, lambda: rt.committer is not None)
        self._named = tuple(
            (name, own) for name, own in executors.items() if name not in self._owned
        )
        #: The executors of this machine; for others the place of the processes is
        #: unknown.
        self._here = [
            self.executors[name]
            for name in ("thread", "asyncio", "program", "process")
            if name not in executors or name == "process"
        ]

    # -- which executor ------------------------------------------------------------

    def executor_of(
        self, row: TaskRow, work: Work, other: WorkerRow | None = None
    ) -> AttemptExecutor[Any]:
        """Return the executor for the attempt of *row* on its worker, or on *other*."""
        executor, worker = work._executor, row.worker or other
        if executor is self.programs and worker is not None and worker.lease_ns:
            # The worker is in another process, which starts the programs, too.
            executor = None
        if executor is None and worker is not None:
            runner = self._rt.runners.get(worker.name)
            executor = None if runner is None else runner.executor
        return self._rt.threads if executor is None else executor

    def is_here(self, executor: AttemptExecutor[Any] | None) -> bool:
        """Return whether *executor* runs attempts on this machine (None: it does)."""
        return executor is None or any(executor is own for own in self._here)

    def runner_of(self, row: TaskRow) -> WorkerRunner:
        """Return the runner of the worker on which *row* runs."""
        assert row.worker is not None  # noqa: S101 - a running task has a worker
        return self._rt.runners[row.worker.name]

    def name_of(self, executor: AttemptExecutor[Any]) -> str:
        """Return the user's name of *executor*; "" if it is a built-in one."""
        # Most programs have no executors of their own.
        return next((name for name, own in self._named if own is executor), "")

    # -- beginning -----------------------------------------------------------------

    def begin(self, row: TaskRow, number: int, work: Work) -> None:
        """Begin an attempt; never blocks, never raises."""
        attempt = Attempt(row, number, work, self.executor_of(row, work))
        mends = self._rt.strategies
        # On a thread of the pool, `perform` resets what the earlier attempt left
        # behind.
        if (
            mends is None
            or number == 1
            or attempt.executor is self._rt.threads
            or not mends.resets(row, number)
        ):
            self._begin(attempt)
        else:
            mends.reset_first(attempt, self._begin)

    def _begin(self, attempt: Attempt) -> None:
        executor = attempt.executor
        try:
            if executor is self._rt.threads:
                # The attempt can see that it is to stop; nothing else can be done to
                # it.
                executor.begin(attempt)
            elif attempt.cancelled:
                attempt.end(error=AttemptInterrupted("stopped before it began"))
            else:
                begun = executor.begin(attempt)
                self._attach(attempt, executor, begun)
        except BaseException as error:
            attempt.unstarted(error)
            if isinstance(error, INTERRUPTS):
                # The thread that was interrupted raises the same error.
                raise

    def _attach(
        self, attempt: Attempt, executor: AttemptExecutor[Any], begun: Any
    ) -> None:
        """Register *attempt*, which has begun, so that it can be stopped or held."""
        row, number, work = attempt
        control = control_of(work, number)
        is_to_end = control.attach(executor, begun)
        if attempt.is_over:
            # The attempt had ended before it was registered.
            control.detach()
        elif is_to_end:
            self._ask(executor.stop, begun, self._grace())
        elif executor.can_hold():
            self._hold_if_asked(row, number)
        if row in self._rt.kernel.holders:
            # The allocation may have changed before the executor could be told.
            self._ask(executor.allocation_changed, begun)

    def _hold_if_asked(self, row: TaskRow, attempt: int) -> None:
        """Pause an attempt that has begun, if its task was suspended meanwhile."""

        def change(now: int) -> None:
            extra = row.extra
            asked = extra is not None and extra.suspending and extra.stop == "suspend"
            if asked and row.attempt == attempt:
                # The attempt has no checkpoint to wait for, so it is paused at once.
                self._rt.kernel.resume(row, now)
                with suppress(InvalidTransitionError):
                    self._rt.kernel.suspend(row, now, holdable=True)

        self._rt.step(change)

    def _grace(self) -> float:
        """Return the seconds that an attempt has to end after it was asked to."""
        return self._rt.kernel.config.grace_ns / 1e9

    # -- on a thread of ours -------------------------------------------------------

    def perform(
        self, row: TaskRow, number: int, work: Work, variables: Context | None = None
    ) -> tuple[bool, Any, BaseException | None]:
        """
        Do an attempt that is not the plainest, on a thread.

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
        except BaseException as error:  # noqa: BLE001 - the error is the task's
            return False, None, error
        finally:
            # An error's frames lead to this one, so its locals would keep the task
            # alive.
            del row, work, context
        return value is _HANDED, value, None

    def _call(self, row: TaskRow, number: int, work: Work, context: Any) -> Any:
        try:
            if work._executor is not None:
                fn, args, kwargs = resolved(work)
                if is_cached(work):
                    return self._rt.memo.call(row, task_of(row), fn, args, kwargs)
                return fn(*args, **kwargs)
            runner = self.runner_of(row)
            if is_cached(work) and not runner.program:
                task = task_of(row)
                return self._rt.memo.call(
                    row, task, runner.handler, (task, context), {}
                )
            value = runner.handler(task_of(row), context)
            if not runner.program:
                return value
            rest = None
            if issubclass(type(value), Generator):
                rest = value
                try:
                    value = next(rest)
                except StopIteration as end:
                    return end.value
            if not issubclass(type(value), Program):
                msg = (
                    f"worker {runner.name!r} runs programs: its handler returns a "
                    f"Program, not {show(value)}"
                )
                raise InvalidTaskError(msg, task_id=row.id)
            self._begin(Attempt(row, number, work, self.programs, value, rest))
            return _HANDED
        finally:
            # The reason is the same as in `perform`.
            del row, work, context

    # -- stopping ------------------------------------------------------------------

    def in_order(self, effects: Sequence[Effect]) -> list[Control]:
        """
        Make *effects* the latest decisions about their attempts; hold the lock.

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
        """Do what the kernel has decided besides starts; hold no lock."""
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
        """Ask an executor to stop, suspend or resume; log the error if it raises."""
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
        # The programs come last: ending them ends every process with the mark of the
        # run.
        for own in self._owned.values():
            own.close(max(0.0, end - monotonic()))
        self.programs.close(max(0.0, end - monotonic()))

    def findings(self) -> list[tuple[str, str, str]]:
        """Return the findings of our executors: name, `ok` or worse, and words."""
        return [
            (name, status, words)
            for name, own in self._owned.items()
            for status, words in own.findings()
        ]

    def holdable(self, row: TaskRow) -> bool:
        """Return whether the running attempt of *row* can be paused where it is."""
        control = _control_of(row)
        executor = None if control is None else control.executor
        return executor is not None and executor.can_hold()

    def place(self, row: TaskRow) -> str:
        """Return where the running attempt of *row* is; "" if that is unknown."""
        control = _control_of(row)
        if control is None or not isinstance(control.executor, OwnedExecutor):
            return ""
        return control.executor.where(control.handle)


def _control_of(row: TaskRow) -> Control | None:
    """Return the control of the running attempt; hold the lock."""
    work: Work | None = row.cargo
    control = None if work is None or work._extra is None else work._extra.control
    return control if control is not None and control.attempt == row.attempt else None


def tidy(row: TaskRow, work: Work) -> None:
    """Drop what *row*, which has ended, needed only while it lived; hold the lock."""
    if row.state is TaskState.COMPLETED and type(work._value) is not Missing:
        # The error is that of an earlier attempt.
        work._error = None
    forget_above(work)


# -- what workers try themselves when an attempt has failed, before it counts as failed

# The strategy for a function that ran on a thread of ours runs on the same thread; any
# other has a thread of its own. Each strategy has one try in each attempt, so that no
# attempt goes on for ever. The timeout of the attempt runs on, and ends a strategy that
# hangs.


#: A function of the task, the failure and the context.
Strategy = Callable[..., Any]
#: The most attempts that are kept of one task; the earliest go first.
_MOST: Final = 20
_NS: Final = 1e9
#: The mark among the classes tried in an attempt: its environment was reset.
_RESET: Final = ""


class Strategies:
    """Recovery strategies by class of failure, and their outcomes."""

    def __init__(self, rt: Runtime) -> None:
        self._rt = rt
        #: The strategies, by level and class.
        self._known: dict[tuple[int, str], Strategy] = {}
        #: The classes of strategies that were tried, by task and attempt.
        self._tried: dict[tuple[str, int], tuple[str, ...]] = {}
        #: Attempts that do not run because a strategy tries to mend them, by task and
        #: number.
        self.mending: dict[tuple[str, int], TaskRow] = {}
        #: The strategy that runs now, its class of failure and its start, by task and
        #: number.
        self._called: dict[tuple[str, int], tuple[str, str, int]] = {}
        #: Failed attempts that a strategy had run again.
        self.repaired: int = 0

    def add(self, kind: str, strategy: Strategy, level: int) -> None:
        """
        Add a strategy.

        Raises:
            InvalidTaskError: There is one, or it cannot be called with three arguments.
        """
        given: object = strategy
        if not callable(given) or inspect.iscoroutinefunction(strategy):
            msg = f"a recovery is a plain function, not {show(strategy)}"
            raise InvalidTaskError(msg, hint="def recover(task, failure, context): …")
        try:
            inspect.signature(strategy).bind(None, None, None)
        except TypeError as error:
            msg = f"{show(strategy)} is called with task, failure, context: {error}"
            raise InvalidTaskError(msg) from error
        except ValueError:
            # A function that is written in C may not tell its signature.
            pass
        if (level, kind) in self._known:
            msg = f"there is a recovery from {kind} on level {level} already"
            raise InvalidTaskError(msg, hint="let one function do both")
        self._known[level, kind] = strategy

    @property
    def known(self) -> Mapping[tuple[int, str], Strategy]:
        """Return all strategies, by level and class."""
        return dict(self._known)

    def under_way(self, row: TaskRow) -> str:
        """Return a sentence on what tries to mend the attempt of *row* now; or ""."""
        call = self._called.get((row.id, row.attempt))
        if call is None:
            return ""
        name, kind, since_ns = call
        return f"{name} recovers it from {kind}, since {stamp(since_ns / _NS)}."

    # -- on the thread of an attempt -------------------------------------------------

    def mend(
        self, row: TaskRow, number: int, work: Work, error: BaseException
    ) -> tuple[bool, Any, BaseException | None]:
        """
        Try to recover from *error*, and run the attempt again as long as that helps.

        Returns:
            As `perform`: whether it goes on elsewhere, the value, and the error.
        """
        failed: BaseException | None = error
        handed, value = False, None
        while failed is not None:
            final_error = self._left_of(row, number, work, failed)
            if final_error is not None:
                return handed, value, final_error
            handed, value, failed = self._rt.attempts.perform(row, number, work)
        self._tried.pop((row.id, number), None)
        return handed, value, None

    def takes(
        self, row: TaskRow, number: int, work: Work, error: BaseException
    ) -> bool:
        """Return whether a strategy tries to recover; the end is then told later."""
        if self._find(row, number, work, error) is None:
            return False

        def go_on() -> None:
            try:
                final_error = self._left_of(row, number, work, error)
                # If the worker was lost meanwhile, the kernel makes another attempt.
                goes_on = row.attempt == number and row.state is TaskState.RUNNING
                if final_error is None and goes_on:
                    self._rt.attempts.begin(row, number, work)
                else:
                    self._rt.finish(row, number, work, None, final_error or error)
            finally:
                self.mending.pop((row.id, number), None)

        name = f"{self._rt.name}-recovery"
        self.mending[row.id, number] = row
        try:
            threading.Thread(target=go_on, name=name, daemon=True).start()
        except RuntimeError:
            # The system has no further thread.
            self.mending.pop((row.id, number), None)
            return False
        return True

    def resets(self, row: TaskRow, number: int) -> bool:
        """Return whether attempt *number* of *row* needs its environment reset."""
        if (2, row_extra(row).failure_class) not in self._known:
            return False
        return number > 1 and _RESET not in self._tried.get((row.id, number), ())

    def reset_first(self, attempt: Attempt, begin: Callable[[Attempt], object]) -> None:
        """Reset the environment of *attempt*, on a thread, and then *begin* it."""
        row, number, work = attempt

        def go_on() -> None:
            try:
                self.reset(row, number, work)
            finally:
                self.mending.pop((row.id, number), None)
                # If the worker was lost meanwhile, the kernel makes another attempt.
                if row.attempt == number and row.state is TaskState.RUNNING:
                    begin(attempt)
                else:
                    attempt.end(error=AttemptInterrupted("stopped before it began"))

        self.mending[row.id, number] = row
        name = f"{self._rt.name}-recovery"
        try:
            threading.Thread(target=go_on, name=name, daemon=True).start()
        except RuntimeError as no_thread:
            self.mending.pop((row.id, number), None)
            attempt.unstarted(no_thread)

    def reset(self, row: TaskRow, number: int, work: Work) -> None:
        """Reset the environment of a later attempt, if that mends its failure."""
        if not self.resets(row, number):
            return
        kind = row_extra(row).failure_class
        self._note_tried(row.id, number, _RESET)
        failure = work._error if isinstance(work._error, Exception) else None
        # The attempt is to end, so it does not begin.
        with suppress(AttemptInterrupted):
            self._call(2, kind, self._known[2, kind], row, number, work, failure)

    def _note_tried(self, task_id: str, number: int, kind: str) -> None:
        tried = self._tried.get((task_id, number), ())
        self._tried[task_id, number] = (*tried, kind)
        while len(self._tried) > 1_000:  # noqa: PLR2004 - of attempts that have ended
            self._tried.pop(next(iter(self._tried)), None)

    def _left_of(
        self, row: TaskRow, number: int, work: Work, error: BaseException
    ) -> BaseException | None:
        """
        Try the strategy for *error*; return the error that is left.

        That is None if it is to be run again. A strategy that asks whether it is to
        stop ends with its attempt.
        """
        strategy_found = self._find(row, number, work, error)
        if strategy_found is None:
            return error
        kind, strategy = strategy_found
        self._note_tried(row.id, number, kind)
        try:
            result = self._call(1, kind, strategy, row, number, work, error)
        except AttemptInterrupted as why:
            return why
        return None if result == "retry" else error

    def _find(
        self, row: TaskRow, number: int, work: Work, error: BaseException
    ) -> tuple[str, Strategy] | None:
        if isinstance(error, AttemptInterrupted) or not self._known:
            return None
        if row.attempt != number or control_of(work, number).is_to_end:
            return None
        try:
            kind = self._rt.deciders.kind_of(error)
        except BaseException as raised:
            # A rule of the user's raised it, and would raise it again.
            if not is_values(raised):
                raise
            return None
        strategy = self._known.get((1, kind))
        if strategy is None or kind in self._tried.get((row.id, number), ()):
            return None
        return kind, strategy

    def _call(
        self,
        level: int,
        kind: str,
        strategy: Strategy,
        row: TaskRow,
        number: int,
        work: Work,
        error: BaseException | None,
    ) -> str:
        """Call *strategy*, note what came of it, and say whether to run it again."""
        extra = row_extra(row)
        failure = Failure(
            task_of(row),
            error if error is not None else RuntimeError(kind),
            extra.charged + 1,
            max(0, self._rt.now() - row.started_ns) / _NS,
            extra.last_delay_ns / _NS,
            "" if row.worker is None else row.worker.name,
            kind,
        )
        name = getattr(strategy, "__name__", type(strategy).__name__)
        message = ""
        self._called[row.id, number] = name, kind, self._rt.now()
        try:
            answer = strategy(failure.task, failure, context_of(work, number))
        except AttemptInterrupted:
            raise
        except BaseException as wrong:  # noqa: BLE001 - the strategy is the user's
            result, message = "failed", describe(wrong)
        else:
            result = "retry" if answer in ("retry", True) else "escalate"
            if level != 1:
                result = "done"
            elif answer not in ("retry", "escalate", True, False, None):
                message = f"it answered {show(answer)}, neither 'retry' nor 'escalate'"
            if result == "retry" and error is not None:
                message = describe(error)
                self.repaired += 1
        finally:
            self._called.pop((row.id, number), None)
        rt, event = self._rt, (number, level, kind, name, result, message)
        known, recovery = extra_of(work).recoveries, RecoveryAttempt(*event)
        extra_of(work).recoveries = (*known, recovery)[-_MOST:]
        _LOG.warning("taskorch: task %s: %s", row.id, recovery)

        def note(now: int) -> None:
            rt.kernel.note(RecoveryAttempted, now, row.id, *event, cargo=work)

        rt.step(note)
        return result
