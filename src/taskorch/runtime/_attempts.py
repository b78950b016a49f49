"""Doing the work of an attempt: on a thread, on the loop, as a program, elsewhere."""

from __future__ import annotations

import concurrent.futures
import signal
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextvars import Context
from functools import partial
from pathlib import Path
from types import CoroutineType
from typing import TYPE_CHECKING, Any, Final

import attrs

from taskorch._references import replaced
from taskorch._visible import masked
from taskorch.errors import (
    AttemptInterrupted,
    InvalidTaskError,
    ProgramFailedError,
    ResultGoneError,
    TaskFailedError,
)
from taskorch.executors._remote import (
    RemoteEnd,
    RemoteTraceback,
    call_remotely,
    open_end,
)
from taskorch.kernel import (
    Bucket,
    Effect,
    HoldAttempt,
    ReleaseAttempt,
    ReturnSlot,
    Spec,
    StopAttempt,
    TaskRow,
    TypeRow,
)
from taskorch.model import (
    NO_RETRY,
    Missing,
    Program,
    ProgramResult,
    Reference,
    Task,
    TaskState,
)
from taskorch.model._show import show
from taskorch.runtime._asyncio import (
    asyncio,
    is_cancellation,
    is_coroutine_task,
)
from taskorch.runtime._context import (
    CURRENT,
    call_with,
    context_of,
    result_of,
)
from taskorch.runtime._effects import EffectQueue
from taskorch.runtime._interrupts import INTERRUPTS, defers_interrupts
from taskorch.runtime._room import is_no_room
from taskorch.runtime._work import (
    AGENT,
    COROUTINE,
    GONE,
    NAMED,
    NO_VARIABLES,
    PROGRAM,
    THREAD,
    Control,
    Work,
    after_of,
    control_of,
    extra_of,
    let_go_above,
    parent_named,
    task_of,
    works_above,
)

if TYPE_CHECKING:
    from taskorch.executors import ProgramEnd, ProgramExecutor
    from taskorch.runtime._runtime import Runtime

__all__ = (
    "ENDS_LOOPS",
    "Attempts",
    "gone",
    "outcome_of",
    "said",
    "strip",
    "tidy",
    "unawaited",
)

#: What a thread returns whose work goes on elsewhere.
_HANDED: Final = object()
#: What pools say of calls that they have given up.
_OF_POOLS: Final = (concurrent.futures.BrokenExecutor, AttemptInterrupted)
#: Exceptions that mean something to the loop of whoever asks for a result.
ENDS_LOOPS: Final = (StopIteration, StopAsyncIteration)
#: Characters of an error's message that facts keep; the error itself has them all.
_MAX_MESSAGE: Final = 10_000
#: Characters of what a program said last that its error begins with.
_MAX_LINE: Final = 500
#: Names of variables that the error of a program mentions.
_SOME_NAMES: Final = 3
#: Of the grace, what a program may need to go, and its output to be read, once it has
#: been killed; and the most of that in seconds.
_KILL_SHARE: Final = 0.25
_KILL_SECONDS: Final = 1.5
#: What there is to say of a signal 9 that we did not send.
_NOT_OURS: Final = (
    "taskorch did not send signal 9: it may have been the system, for want of memory "
    "(its log, dmesg, says so), or somebody's kill -9"
)


def outcome_of(
    error: BaseException, task_id: str, *, asked: bool
) -> tuple[str, BaseException, tuple[str, str]]:
    """
    What *error* says of the attempt that raised it.

    Returns:
        The outcome, the error as callers see it, and its type and message.
    """
    kind, message = said(error)
    stopped = isinstance(error, AttemptInterrupted) or is_cancellation(error)
    if stopped and asked:
        return "stopped", error, (kind, message)
    if isinstance(error, concurrent.futures.BrokenExecutor):
        return "lost", error, (kind, message)
    if not isinstance(error, Exception) or isinstance(error, ENDS_LOOPS):
        # SystemExit and the like must not end the program of whoever asks, and a
        # StopIteration not the loop.
        text = f"task {task_id} raised {kind}: {message}".removesuffix(": ")
        wrapped = TaskFailedError(text, type=kind, task_id=task_id)
        wrapped.__cause__ = error
        return "failed", wrapped, (kind, message)
    return "failed", error, (kind, message)


def said(error: BaseException) -> tuple[str, str]:
    """The type and the message of *error*, however long, and whatever its str does."""
    kind = type(error).__name__
    try:
        message = masked(str(error))
    except BaseException:  # noqa: BLE001 - its __str__ is the user's
        message = "(it cannot be printed)"
    if len(message) > _MAX_MESSAGE:
        message = f"{message[:_MAX_MESSAGE]}…"
    return kind, message


def unawaited(coroutine: CoroutineType[Any, Any, Any], task_id: str) -> TypeError:
    """The error of a plain function that returned *coroutine*, which nobody awaits."""
    name = coroutine.__qualname__
    coroutine.close()
    msg = (
        f"task {task_id} returned a coroutine of {name}(), which nobody would await: "
        "submit an async def itself, or give it to a task in an async def that awaits "
        "it"
    )
    return TypeError(msg)


def strip(error: BaseException) -> None:
    """
    Let the traceback of *error* begin in the user's code.

    Our frames are of no use to the user, and keep alive what they hold.
    """
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_globals.get("__name__", "").startswith(
        "taskorch.runtime."
    ):
        trace = trace.tb_next
    error.__traceback__ = trace


class Attempts:
    """Begins attempts, and stops them."""

    def __init__(self, runtime: Runtime) -> None:
        self._rt = runtime
        self._programs: ProgramExecutor | None = None
        self.logs: Path | None = None

    # -- which way -----------------------------------------------------------------

    def how_of(self, row: TaskRow, work: Work) -> int:
        """How the attempt of *row* is done, on the agent that it was given to."""
        how = work._how
        if how != AGENT or row.agent is None:
            return how
        runner = self._rt.runners.get(row.agent.name)
        return THREAD if runner is None else runner.how

    def begin(self, row: TaskRow, attempt: int, work: Work) -> None:
        """Begin an attempt; never blocks, never raises."""
        how = self.how_of(row, work)
        try:
            if how == THREAD:
                self._rt.threads.start((row, attempt, work), None)
            elif how == COROUTINE:
                if not self._rt.loops.call(self._begin_coroutine, row, attempt, work):
                    msg = f"task {row.id}: the event loop has been closed"
                    raise TaskFailedError(msg, task_id=row.id)  # noqa: TRY301
            elif how == PROGRAM:
                program = task_of(row).payload
                self._begin_program(row, attempt, work, program)
            elif how == GONE:
                self._rt.hold_gone(row, attempt, work)
            else:
                self._begin_named(row, attempt, work)
        except concurrent.futures.BrokenExecutor as error:
            # It had broken before.
            self._end_lost(self._executor_of(row, work), row, attempt, work, error)
        except BaseException as error:
            self._end_unbegun(how, row, attempt, work, error)
            if isinstance(error, INTERRUPTS):
                raise

    def _end_unbegun(
        self, how: int, row: TaskRow, attempt: int, work: Work, error: BaseException
    ) -> None:
        # What an executor of the user's was given it may do yet.
        if how in (THREAD, COROUTINE, PROGRAM) and is_no_room(error):
            self._rt.room.refuse(row, attempt, work, error)
        else:
            # Whatever it is, the task fails; whoever is interrupted is told as well.
            self._rt.finish(row, attempt, work, None, error)

    # -- threads -------------------------------------------------------------------

    def perform(
        self, row: TaskRow, attempt: int, work: Work
    ) -> tuple[bool, Any, BaseException | None]:
        """
        On a worker thread: do an attempt that is not the plainest.

        Returns:
            Whether the work goes on elsewhere, the value, and the error.
        """
        context = context_of(work, attempt)
        if context.cancelled:
            return False, None, AttemptInterrupted("stopped before it began")
        try:
            value = work._ctx.copy().run(self._call, row, attempt, work, context)
        except BaseException as error:  # noqa: BLE001 - it is the task's
            return False, None, error
        finally:
            # The frames of an error lead to this one: it keeps no task alive.
            del row, work, context
        return value is _HANDED, value, None

    def _call(self, row: TaskRow, attempt: int, work: Work, context: Any) -> Any:
        try:
            if work._how != AGENT:
                fn, args, kwargs = resolved(work)
                return fn(*args, **kwargs)
            assert row.agent is not None  # noqa: S101 - a running task has an agent
            runner = self._rt.runners[row.agent.name]
            value = runner.handler(task_of(row), context)
            if not runner.program:
                return value
            if not isinstance(value, Program):
                msg = (
                    f"agent {runner.name!r} runs programs: its handler returns a "
                    f"Program, not {show(value)}"
                )
                raise InvalidTaskError(msg, task_id=row.id)
            self._begin_program(row, attempt, work, value)
            return _HANDED
        finally:
            # As in `perform`.
            del row, work, context

    # -- coroutines ----------------------------------------------------------------

    @defers_interrupts
    def _begin_coroutine(self, row: TaskRow, attempt: int, work: Work) -> None:
        """On the loop: make the task that does the attempt."""
        context = context_of(work, attempt)
        control = context._control
        if context.cancelled:
            stopped = AttemptInterrupted("stopped before it began")
            self._rt.finish(row, attempt, work, None, stopped)
            return
        loop = asyncio.get_running_loop()
        driver = self._drive(row, attempt, work, context)
        try:
            task = loop.create_task(driver, name=row.id, context=work._ctx.copy())
        except Exception as error:  # noqa: BLE001 - a task factory of the user's
            driver.close()
            self._rt.finish(row, attempt, work, None, error)
            return

        def ended(task: asyncio.Task[None]) -> None:
            # Cancelled before its first step: it could not say so itself.
            if task.cancelled():
                cut_off = asyncio.CancelledError()
                self._rt.finish(row, attempt, work, None, cut_off)

        task.add_done_callback(ended)
        if control.attach(task):
            loop.call_soon(task.cancel)

    async def _drive(
        self, row: TaskRow, attempt: int, work: Work, context: Any
    ) -> None:
        CURRENT.set(context)
        value: Any = None
        error: BaseException | None = None
        try:
            if work._how == AGENT:
                assert row.agent is not None  # noqa: S101 - it runs
                runner = self._rt.runners[row.agent.name]
                value = await runner.handler(task_of(row), context)
            else:
                fn, args, kwargs = resolved(work)
                value = await fn(*args, **kwargs)
        except BaseException as raised:  # noqa: BLE001 - it is the task's
            error = raised
        try:
            self._rt.finish(row, attempt, work, value, error)
        finally:
            # As in `perform`.
            del row, work, context, value, error

    # -- programs ------------------------------------------------------------------

    def _begin_program(
        self, row: TaskRow, attempt: int, work: Work, program: Program
    ) -> None:
        control = context_of(work, attempt)._control
        fence = f"{self._rt.epoch}.{attempt}"

        def on_end(end: ProgramEnd) -> None:
            if end.error is not None and is_no_room(end.error):
                self._rt.room.refuse(row, attempt, work, end.error)
                return
            value, error = _program_end(row.id, program, end)
            self._rt.finish(row, attempt, work, value, error)

        executor = self._programs
        if executor is None:
            with self._rt.loops._lock:
                executor = self._programs
                if executor is None:
                    # Few need it, and it takes a tenth of our start-up.
                    from taskorch.executors import ProgramExecutor  # noqa: PLC0415

                    executor = self._programs = ProgramExecutor(
                        run_id=self._rt.run_id, logs=self.logs
                    )
        try:
            process = executor.start(
                program,
                name=f"{row.id}/{attempt}",
                env={"TASKORCH_TASK": row.id, "TASKORCH_FENCE": fence},
                on_end=on_end,
            )
        except RuntimeError as error:
            if not is_no_room(error):
                raise
            self._rt.room.refuse(row, attempt, work, error)
            return
        if control.attach(process):
            process.terminate(self._grace())
        self._rt.hold_if_asked(row, attempt)

    def _grace(self) -> float:
        """
        Seconds from SIGTERM to SIGKILL.

        They are less than the whole grace, or the kernel would give up a program in
        the moment in which it is killed.
        """
        return _grace_of_program(self._rt.kernel.config.grace_ns / 1e9)

    # -- executors of the user's ---------------------------------------------------

    def _executor_of(self, row: TaskRow, work: Work) -> str:
        if work._how == NAMED or row.agent is None:
            return extra_of(work).executor or ""
        return self._rt.runners[row.agent.name].executor or ""

    def _begin_named(  # noqa: C901 - one case after the other
        self, row: TaskRow, attempt: int, work: Work
    ) -> None:
        context = context_of(work, attempt)
        if work._how == NAMED:
            name = extra_of(work).executor or ""
            fn, args, kwargs = resolved(work)
        else:
            assert row.agent is not None  # noqa: S101 - it runs
            runner = self._rt.runners[row.agent.name]
            name = runner.executor or ""
            fn, kwargs = runner.handler, {}
            pool = self._rt.executors[name]
            inside = isinstance(pool, concurrent.futures.ThreadPoolExecutor)
            task = task_of(row)
            args = (
                (task, context) if inside else (_portable(task, work), context.remote())
            )
        pool = self._rt.executors[name]
        remote = False
        if isinstance(pool, concurrent.futures.ThreadPoolExecutor):
            variables = work._ctx.copy()
            variables.run(CURRENT.set, context)
            try:
                future = _submit_inside(pool, variables, fn, args, kwargs)
            except RuntimeError as error:
                if is_no_room(error):
                    self._rt.room.refuse(row, attempt, work, error)
                    return
                raise
        elif isinstance(pool, concurrent.futures.ProcessPoolExecutor):
            remote = True
            # An agent's handler has it among its arguments; then it is the same.
            copy = context.remote_of_call() if work._how == NAMED else args[1]
            future = pool.submit(call_remotely, call_with, (copy, fn, args, kwargs), {})
        else:
            future = pool.submit(fn, *args, **kwargs)
        if not hasattr(future, "add_done_callback"):
            msg = f"executor {name!r} returned {show(future)} for a call, not a Future"
            raise TypeError(msg)
        is_known = isinstance(future, concurrent.futures.Future)
        if is_known and context._control.attach(future):
            future.cancel()

        def done(future: concurrent.futures.Future[Any]) -> None:
            value, error = _future_end(future, row.id, name, remote=remote)
            if isinstance(error, _OF_POOLS):
                # It is said under the lock of a pool that breaks or is shut down, and
                # what starts next may be for the same pool.
                end = partial(self._end_lost, name, row, attempt, work, error)
                thread = threading.Thread(
                    target=end, name=f"{self._rt.name}-lost", daemon=True
                )
                try:
                    thread.start()
                except RuntimeError:
                    # There is no room for one more: that of the receivers must do.
                    with self._rt.lock:
                        self._rt.publisher.put([(lambda _: end(), None)])
            else:
                self._rt.notices.executor_works(name)
                self._rt.finish(row, attempt, work, value, error)

        future.add_done_callback(done)

    def _end_lost(
        self, name: str, row: TaskRow, attempt: int, work: Work, error: BaseException
    ) -> None:
        """The executor *name* has given up an attempt."""
        if isinstance(error, concurrent.futures.BrokenExecutor):
            self._rt.notices.executor_broke(name, error)
        self._rt.finish(row, attempt, work, None, error)

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
            self._stop(control, effect.why)
            if effect.why != "suspend":
                self._rt.waiting.interrupt(effect.row, effect.attempt)
        elif isinstance(effect, HoldAttempt):
            if hasattr(control.handle, "stop"):
                control.handle.stop()
        elif isinstance(effect, ReleaseAttempt):
            if control.why == "suspend":
                control.why = ""
            if hasattr(control.handle, "resume"):
                control.handle.resume()

    def _stop(self, control: Control, why: str) -> None:
        handle = control.tell(why)
        if why == "suspend":
            return
        if is_coroutine_task(handle):
            self._rt.loops.call(handle.cancel)
        elif isinstance(handle, concurrent.futures.Future):
            handle.cancel()
        elif handle is not None:
            handle.terminate(self._grace())

    def holdable(self, row: TaskRow) -> bool:
        """Whether the running attempt of *row* can be stopped where it stands."""
        work: Work | None = row.cargo
        if work is None or work._extra is None or work._extra.control is None:
            return False
        control = work._extra.control
        return control.attempt == row.attempt and hasattr(control.handle, "stop")

    # -- afterwards ----------------------------------------------------------------

    def end_programs(self, grace: float) -> None:
        """Ask all programs to end within *grace* seconds, of which they know less."""
        if self._programs is not None:
            self._programs.terminate(_grace_of_program(grace))

    def close(self, patience: float) -> None:
        """Kill all programs, and wait for their ends for *patience* seconds."""
        if self._programs is not None:
            self._programs.close(0, patience)


def _grace_of_program(grace: float) -> float:
    return grace - min(grace * _KILL_SHARE, _KILL_SECONDS)


def tidy(row: TaskRow, work: Work) -> None:
    """Under the lock: *row* has ended; let go of what only its life needed."""
    if row.state is TaskState.COMPLETED and type(work._value) is not Missing:
        # Of an earlier attempt.
        work._error = None
    let_go_above(work)


def gone(runtime: Runtime, task_id: str, state: TaskState) -> Work:
    """A handle for a task that has left memory."""
    work = runtime.new_work(None, (), {}, AGENT, NO_VARIABLES)
    row = TaskRow(task_id, 0, Bucket(Spec(""), TypeRow()), work, 0)
    row.state = state
    work._row = row
    msg = (
        f"task {task_id} is {state}, and finished so long ago that its result has "
        "left memory"
    )
    work._error = ResultGoneError(msg, task_id=task_id)
    return work


def _future_end(
    future: concurrent.futures.Future[Any],
    task_id: str,
    executor: str,
    *,
    remote: bool,
) -> tuple[Any, BaseException | None]:
    """
    What became of an attempt on an executor of the user's: its value, its error.

    If it is *remote*, what the function raised is among the values.
    """
    if future.cancelled():
        return None, AttemptInterrupted("cancelled")
    error = future.exception()
    value = None if error is not None else future.result()
    if type(value) is CoroutineType:
        return None, unawaited(value, task_id)
    if isinstance(value, RemoteEnd):
        return _remote_end(value, task_id)
    if remote and error is not None and not isinstance(error, _OF_POOLS):
        kind, message = said(error)
        msg = (
            f"task {task_id} cannot be sent to executor {executor!r}: {kind}: {message}"
        )
        wrapped = InvalidTaskError(
            msg,
            hint="what goes to another process is pickled: use a function of a module, "
            "and arguments that can be pickled",
            task_id=task_id,
        )
        wrapped.__cause__ = error
        return None, wrapped
    return value, error


def _remote_end(end: RemoteEnd, task_id: str) -> tuple[Any, BaseException | None]:
    try:
        value = open_end(end)
    except BaseException as error:  # noqa: BLE001 - whatever its unpickling does
        what = "raised" if end.raised else "returned"
        if end.raised:
            msg = f"task {task_id} raised {end.kind}: {end.message}"
        else:
            why = end.message or said(error)[1]
            msg = (
                f"task {task_id} returned {_a(end.kind)} that cannot be pickled: {why}"
            )
        hint = f"what is {what} in another process comes back pickled"
        failed = TaskFailedError(
            msg,
            type=end.kind if end.raised else "PicklingError",
            traceback=end.traceback,
            hint="" if end.raised else hint,
            task_id=task_id,
        )
        failed.__cause__ = RemoteTraceback(end.traceback) if end.raised else error
        return None, failed
    return (None, value) if end.raised else (value, None)


def _a(kind: str) -> str:
    return f"{'an' if kind[:1].lower() in 'aeiou' else 'a'} {kind}"


def _portable(task: Task, work: Work) -> Task:
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


def _submit_inside(
    pool: concurrent.futures.ThreadPoolExecutor, variables: Context, *call: Any
) -> concurrent.futures.Future[Any]:
    """
    Have the *call* done on a thread of *pool*, in these context variables.

    Raises:
        RuntimeError: There is no thread, or the pool was shut down: it is not done.
    """
    given = [variables]
    try:
        return pool.submit(_call_inside, given, *call)
    except RuntimeError:
        # It may stand in the queue of the pool all the same.
        given.clear()
        raise


def _call_inside(
    given: list[Context],
    fn: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
) -> Any:
    """On a thread of the user's executor, in the context variables of the attempt."""
    # Taken out of it, and into no variable: the frames of an error lead to those of the
    # pool, which keep what they were given, and would keep the task alive.
    return given.pop().run(fn, *args, **kwargs)


def resolved(work: Work) -> tuple[Any, tuple[Any, ...], Mapping[str, Any]]:
    """What to call, with results in the place of dependencies."""
    fn, args, kwargs = work._fn, work._args, work._kwargs
    if work._above and (args or kwargs):
        parents = works_above(work)
        args, kwargs = replaced(args, kwargs, lambda ref: _value(ref, parents))
    return fn, args, kwargs


def _value(arg: Any, parents: Mapping[str, Work]) -> Any:
    if isinstance(arg, Work):
        # Not its own result, if it was run again meanwhile.
        return result_of(parent_named(arg._row.id, parents) or arg)
    if isinstance(arg, Task):
        arg = Reference(arg._submitted_as or arg.id or "")
    if isinstance(arg, Reference):
        # A handle, in an earlier life.
        parent = parent_named(arg.task_id, parents)
        assert parent is not None  # noqa: S101 - a reference is a dependency
        return result_of(parent)
    return arg


def _program_end(
    task_id: str, program: Program, end: ProgramEnd
) -> tuple[Any, BaseException | None]:
    name = str(program.args[0])
    if end.result is None:
        why = getattr(end.error, "strerror", None) or str(end.error)
        why = why or type(end.error).__name__
        msg = f"task {task_id}: {why}"
        return None, ProgramFailedError(msg, task_id=task_id)
    result = end.result
    if result.exit_code == 0 or not program.check:
        return result, None
    how, why = _how_ended(result, was_asked=end.was_asked)
    tail = result.stderr_tail.strip() or result.stdout_tail.strip()
    last = tail.rpartition("\n")[2].strip()[-_MAX_LINE:]
    said = f": {last}" if last else ""
    msg = f"program {name!r} {how}{said} (task {task_id})"
    hint = "; ".join(filter(None, (why, _withheld(result.withheld_env, tail))))
    return None, ProgramFailedError(msg, result=result, hint=hint, task_id=task_id)


def _how_ended(result: ProgramResult, *, was_asked: bool) -> tuple[str, str]:
    """How a program ended that failed, and a hint, if there is one."""
    code = result.exit_code
    how = f"exited with code {code}" if code > 0 else f"was ended by signal {-code}"
    if result.oom_killed:
        who = "a process of it" if code > 0 else "it"
        how += f": {who} was killed by the system for want of memory"
        return how, "let fewer run at once, by resources=, or give them more memory"
    if code == -signal.SIGKILL and not was_asked:
        return how, _NOT_OURS
    return how, ""


def _withheld(names: tuple[str, ...], tail: str) -> str:
    """Some of the variables that a program had not: those first that it speaks of."""
    if not names:
        return ""
    shown = sorted(names, key=lambda name: name not in tail)[:_SOME_NAMES]
    more = len(names) - len(shown)
    others = f" and {more} more" if more else ""
    return f"not inherited: {', '.join(shown)}{others}; see inherit_env="
