"""
Signals on the main thread: one that comes during a step is deferred to its end.

While an orchestrator lives that was started on the main thread, SIGINT has our handler
in place of Python's own. It looks at the functions that the main thread is in, the
innermost first. If one of them is ours and must not be cut short, the interrupt is
deferred: the step raises it when it ends, or a thread sends the signal again a moment
later. Without an interrupt this costs nothing.

The promise: each SIGINT that comes while none is deferred raises one KeyboardInterrupt;
further ones before that are merged with it, as signals are.

The same holds of signals that an orchestrator is to stop at (`stop_on`): they raise a
`StopSignal`.

Decision: faults-and-interrupts.
"""

from __future__ import annotations

import _thread
import logging
import opcode
import signal
import sys
import threading
import weakref
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from time import monotonic, sleep
from types import FrameType
from typing import Any, Final, TypeVar

F = TypeVar("F", bound=Callable[..., Any])


class StopSignal(SystemExit):
    """
    A signal asks the process to end in an orderly way.

    Args:
        number: The signal. The exit code is 128 plus its number, as in a shell.
    """

    def __init__(self, number: int) -> None:
        super().__init__(128 + number)
        self.number = number
        #: The time of the signal, on the monotonic clock.
        self.at: float = monotonic()

    @property
    def name(self) -> str:
        """The name of the signal."""
        return signal.Signals(self.number).name


#: The exceptions of signals that are sent to end the process.
INTERRUPTS: Final = (KeyboardInterrupt, StopSignal)
#: Seconds after which the main thread ends a wait to look for a signal: one that comes
#: at the very moment in which the wait begins does not end it.
SLICE: Final = 0.5
#: The signal while one is deferred, or the error of a handler: the code that pops it
#: raises it.
DEFERRED: Final[list[int | BaseException]] = []
#: Python's own functions that load modules, and lock them meanwhile.
_LOADER: Final = sys.modules["_frozen_importlib"]
_MODULE_LOCK: Final = vars(_LOADER).get("_ModuleLockManager")
_TABLE_LOCK: Final = vars(_LOADER).get("_ImportLockContext")
#: Functions that defer an interrupt in them, or take it, by the ids of their code
#: objects. They are module functions, so that no id is reused. In some of Python's own
#: functions, an interrupt would leave a lock that our threads need locked for ever,
#: such as that of a future, of logging or of a module that is loaded; or a condition
#: would release a lock that the thread has not got back after a wait.
_DEFERS: Final[dict[int, bool]] = {
    id(getattr(of, name).__code__): True
    for of, name in (
        (threading.Condition, "__enter__"),
        (threading.Condition, "__exit__"),
        (threading.Condition, "_release_save"),
        (threading.Condition, "_acquire_restore"),
        (logging.Handler, "acquire"),
        (logging.Handler, "release"),
        # This holds until CPython 3.12.
        (logging, "_acquireLock"),
        (logging, "_releaseLock"),
        (_LOADER, "_get_module_lock"),
        (_LOADER, "_lock_unlock_module"),
        (_MODULE_LOCK, "__enter__"),
        (_MODULE_LOCK, "__exit__"),
        (_TABLE_LOCK, "__enter__"),
        (_TABLE_LOCK, "__exit__"),
    )
    if hasattr(of, name)
}
#: Functions that Python calls when a weakly held object dies, by module and name.
_CALLBACKS: Final = {
    ("_weakrefset", "_remove"),
    ("weakref", "remove"),
    ("weakref", "_cb"),
    ("concurrent.futures.thread", "weakref_cb"),
    ("concurrent.futures.process", "weakref_cb"),
    ("importlib._bootstrap", "cb"),
}
#: Python calls a `weakref.finalize` so. Users call it, too, but without the second
#: argument, the dead reference.
_FINALIZE: Final = weakref.finalize.__call__.__code__
_DEAD: Final = _FINALIZE.co_varnames[1]
#: The wait at a condition: until it has this variable, an interrupt leaves the lock
#: released, and the holder of the condition would release a lock that it does not hold.
_WAIT: Final = threading.Condition.wait.__code__
_LET_GO: Final = "gotit"
#: The function that loads a module.
_IMPORT: Final = vars(_LOADER)["_find_and_load"].__code__
#: From CPython 3.14 on, `with` looks up `__enter__` by this instruction and calls it by
#: the next. An interrupt after that call comes before the block begins: a resource that
#: it took, such as a lock, would never be released.
_LOOKS_UP_ENTER: Final = bytes((opcode.opmap.get("LOAD_SPECIAL", 0), 0))
#: How often an interrupt finds such a call before that counts as a wait inside it.
_ENTERING: Final = 20
#: Runtimes that were started on the main thread and have not stopped.
_guarded: Final[weakref.WeakSet[Any]] = weakref.WeakSet()
#: For each signal of `stop_on`, its earlier handler, and the lifecycles that stop at
#: it.
_stopping_at: Final[dict[int, tuple[Any, weakref.WeakSet[Any]]]] = {}
#: Seconds after which a step counts as hung, and another Ctrl-C cuts it short.
_PATIENCE: Final = 5.0
#: Seconds until a deferred signal is sent again: the first and the longest pause.
_FIRST_PAUSE: Final = 0.001
_LONGEST_PAUSE: Final = 0.05


class _Deferral:
    """State of the deferral of interrupts; only the main thread's handler writes."""

    #: The time since which interrupts are deferred, on the monotonic clock; 0.0 if none
    #: is.
    since = 0.0
    #: True if the next signal may be one that was sent again.
    sent_again = False
    #: How often in a row the signal came where a `with` was entered.
    entering = 0


def defers_interrupts(fn: F) -> F:
    """Mark *fn*: an interrupt in it, or in its calls, waits for its end."""
    _DEFERS[id(fn.__code__)] = True
    return fn


def takes_interrupts(fn: F) -> F:
    """Mark *fn*: an interrupt in it is raised at once, whatever calls it."""
    _DEFERS[id(fn.__code__)] = False
    return fn


def join(thread: threading.Thread, timeout: float) -> None:
    """
    Wait for the end of *thread*, at most *timeout* seconds; an interrupt ends the wait.

    Until CPython 3.12, an interrupt that is raised inside `Thread.join` may leave the
    lock of the thread held, or release it twice. So *thread* is waited for a moment at
    a time, and an interrupt is raised between two of these waits.
    """
    end = monotonic() + timeout
    while not _ends_soon(thread, end) and monotonic() < end:
        if DEFERRED:
            raise_deferred()


@defers_interrupts
def _ends_soon(thread: threading.Thread, end: float) -> bool:
    thread.join(max(0.0, min(_LONGEST_PAUSE, end - monotonic())))
    return not thread.is_alive()


def _is_deferred_in(frame: FrameType | None) -> bool:
    while frame is not None:
        deferred = _DEFERS.get(id(frame.f_code))
        if deferred is not None:
            return deferred
        if frame.f_code is _IMPORT and _is_for_us(frame):
            return True
        if _is_ignored_in(frame) or _is_letting_go(frame):
            return True
        frame = frame.f_back
    return False


def _is_ignored_in(frame: FrameType) -> bool:
    """Return whether Python prints errors raised there, and goes on."""
    name = frame.f_code.co_name
    if name == "__del__":
        return True
    if frame.f_code is _FINALIZE:
        return frame.f_locals.get(_DEAD) is not None
    return (frame.f_globals.get("__name__"), name) in _CALLBACKS


def _is_letting_go(frame: FrameType) -> bool:
    """Return whether *frame* begins to wait at a condition and may release its lock."""
    if frame.f_code is not _WAIT or _LET_GO not in _WAIT.co_varnames:
        return False
    return _LET_GO not in frame.f_locals


def _is_entering(frame: FrameType | None) -> bool:
    """Return whether *frame* calls an `__enter__` that may have done its work."""
    if frame is None or sys.version_info < (3, 14):
        return False
    call = frame.f_lasti
    return frame.f_code.co_code[call - 2 : call] == _LOOKS_UP_ENTER


def _is_for_us(frame: FrameType | None) -> bool:
    """
    Return whether a module of ours imports the module that *frame* loads.

    Our modules import others on first need, and a module that was loaded by half cannot
    be loaded again.
    """
    name = ""
    while frame is not None:
        name = frame.f_globals.get("__name__", "")
        if name.partition(".")[0] != "importlib":
            break
        frame = frame.f_back
    return name.partition(".")[0] == "taskorch"


def guard(runtime: object) -> None:
    """Defer interrupts for *runtime*, if this is the main thread."""
    if threading.current_thread() is threading.main_thread():
        _guarded.add(runtime)
        _install()
        # A notebook restores Python's own handler before every cell.
        ipython: Any = sys.modules.get("IPython")
        shell = None if ipython is None else ipython.get_ipython()
        if shell is not None:
            shell.events.register("pre_run_cell", _install)


def unguard(runtime: object) -> None:
    """Note that *runtime* has ended; after the last, Python's handler comes back."""
    _guarded.discard(runtime)
    restore_handlers()


def restore_handlers() -> None:
    """Put earlier handlers back, on the main thread, if nobody needs ours."""
    if threading.current_thread() is not threading.main_thread():
        return
    for number, (before, waiting) in list(_stopping_at.items()):
        if not waiting:
            del _stopping_at[number]
            if signal.getsignal(number) is _on_interrupt:
                # None stands for a handler that is not Python's, and cannot be set from
                # here.
                signal.signal(number, signal.SIG_DFL if before is None else before)
            _install()
    if (
        not _guarded
        and signal.SIGINT not in _stopping_at
        and signal.getsignal(signal.SIGINT) is _on_interrupt
    ):
        signal.signal(signal.SIGINT, signal.default_int_handler)


def stop_on(lifecycle: Any, number: int) -> None:
    """
    Raise a `StopSignal` at signal *number* on the main thread, until `no_more`.

    It is noted as the `stop_signal` of *lifecycle*. An earlier handler is called first.
    An ignored signal stays ignored: so nohup protects a process from SIGHUP.

    Raises:
        OSError: No handler can be set for it, as for SIGKILL.
        ValueError: There is no such signal, or this is not the main thread.
    """
    found = signal.getsignal(number)
    if found is signal.SIG_IGN:
        return
    if number not in _stopping_at:
        signal.signal(number, _on_interrupt)
        if found is _on_interrupt:
            found = signal.default_int_handler
        _stopping_at[number] = found, weakref.WeakSet()
    _stopping_at[number][1].add(lifecycle)


def interrupt() -> None:
    """
    Interrupt the main thread, which calls this in a handler, as Ctrl-C does.

    A step ends first. A shell has background commands ignore Ctrl-C, and not this.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        _install()
    signal.raise_signal(signal.SIGINT)


def no_more(lifecycle: object) -> None:
    """Note that *lifecycle* has ended, and needs no signal to stop."""
    for _, waiting in list(_stopping_at.values()):
        waiting.discard(lifecycle)
    restore_handlers()


def forget() -> None:
    """Drop all deferrals of the parent, in the child of a fork."""
    _guarded.clear()
    for _, waiting in _stopping_at.values():
        waiting.clear()
    # A signal that is sent to end the child must end it.
    with suppress(ValueError):  # it was not the main thread that has forked
        restore_handlers()
    DEFERRED.clear()
    _Deferral.since = 0.0


def _install(*_: object) -> None:
    # A handler of the program's own stays.
    if _guarded and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        # Some interpreters have no signals.
        with suppress(ValueError):
            signal.signal(signal.SIGINT, _on_interrupt)


def _on_interrupt(number: int, frame: FrameType | None) -> None:
    sent_again, _Deferral.sent_again = _Deferral.sent_again, False
    # The last one may have been stopped by another thread, which could not restore
    # them.
    restore_handlers()
    if number != signal.SIGINT and number not in _stopping_at:
        # No lifecycle stops at it any more, so it has its earlier effect.
        signal.raise_signal(number)
        return
    if sent_again and not _Deferral.since:
        # It was delivered, with a later one, just before it was sent again.
        return
    deferred = _is_deferred_in(frame)
    if deferred or _is_entering(frame):
        now = monotonic()
        _Deferral.since = since = _Deferral.since or now
        _Deferral.entering = 0 if deferred else _Deferral.entering + 1
        waits = sent_again or now - since < _PATIENCE
        if waits if deferred else _Deferral.entering < _ENTERING:
            _defer(number, now - since)
            return
    _deliver(number, frame)


def _defer(number: int, waited: float) -> None:
    if DEFERRED:
        return
    DEFERRED.append(number)
    pause = min(max(_FIRST_PAUSE, waited / 4), _LONGEST_PAUSE)
    # This is no threading.Thread, as the main thread may hold the lock that its start
    # takes. Without a thread, the end of the step must do.
    with suppress(RuntimeError):
        _thread.start_new_thread(_send_again, (pause,))


def defer_error(error: BaseException) -> None:
    """
    Defer the error of a user's handler to the end of the step, on the main thread.

    If an interrupt is deferred already, the two are merged.
    """
    if not DEFERRED:
        DEFERRED.append(error)


def _send_again(pause: float) -> None:
    """Send the deferred signal again, unless the step has raised it meanwhile."""
    sleep(pause)
    with suppress(IndexError):
        if isinstance(DEFERRED[-1], BaseException):
            # A signal cannot deliver an error of a handler: the end of a step raises
            # it.
            return
        number: Any = DEFERRED.pop()
        _Deferral.sent_again = True
        # The signal goes to the thread, so it also ends a wait that has begun since.
        signal.pthread_kill(threading.main_thread().ident or 0, number)


def raise_deferred() -> None:
    """
    Raise the deferred interrupt at the end of a step; called if `DEFERRED`.

    Raises:
        KeyboardInterrupt: This is the main thread, and no outer step defers it.
        StopSignal: The signal was one of `stop_on`, on the main thread.
    """
    if threading.current_thread() is not threading.main_thread():
        return
    frame = sys._getframe(1).f_back  # noqa: SLF001 - as `inspect` does
    if not _is_deferred_in(frame):
        with suppress(IndexError):
            deferred = DEFERRED.pop()
            if isinstance(deferred, BaseException):
                raise deferred
            _deliver(deferred, frame)


def _deliver(number: int, frame: FrameType | None) -> None:
    DEFERRED.clear()
    _Deferral.since = 0.0
    _Deferral.entering = 0
    if number in _stopping_at:
        _deliver_stop(number, frame)
    elif not _cancel_main_task(number, frame):
        raise KeyboardInterrupt


def _deliver_stop(number: int, frame: FrameType | None) -> None:
    before, waiting = _stopping_at[number]
    if callable(before) and before is not signal.default_int_handler:
        before(number, frame)
    stop = StopSignal(number)
    for lifecycle in list(waiting):
        # The second signal gives no more time than the first.
        lifecycle.stop_signal = lifecycle.stop_signal or stop
    found = _main_task(frame)
    if found is None:
        raise stop
    runner, task = found
    task.cancel()
    # The loop may be asleep.
    runner.get_loop().call_soon_threadsafe(int)


def _main_task(frame: FrameType | None) -> tuple[Any, Any] | None:
    """Return the runner and task of `asyncio.run` on the main thread, or None."""
    runners: Any = sys.modules.get("asyncio.runners")
    if runners is None:
        return None
    code = runners.Runner.run.__code__
    while frame is not None and frame.f_code is not code:
        frame = frame.f_back
    if frame is None:
        return None
    found = frame.f_locals
    runner, task = found.get("self"), found.get("task")
    return None if runner is None or task is None else (runner, task)


def _cancel_main_task(number: int, frame: FrameType | None) -> bool:
    """
    Cancel the main task as `asyncio.run` does, if the main thread runs one.

    asyncio leaves that to us, since our handler is not Python's own.
    """
    found = _main_task(frame)
    if found is None:
        return False
    runner, task = found
    cancel = getattr(runner, "_on_sigint", None)
    if cancel is None or not hasattr(runner, "_interrupt_count"):
        return False
    cancel(number, frame, task)
    return True


def is_of_handler(error: BaseException) -> bool:
    """Return whether a signal handler raised *error*, such as by sys.exit()."""
    handlers = [signal.getsignal(number) for number in signal.valid_signals()]
    codes = {_code_of(handler) for handler in handlers if callable(handler)}
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code in codes:
            return True
        trace = trace.tb_next
    return False


def _code_of(handler: Any) -> Any:
    """Return the code that runs when *handler* is called, if it is Python code."""
    while isinstance(handler, partial):
        handler = handler.func
    if not hasattr(handler, "__code__"):
        # A bound method has its function's code; an object, that of its class.
        handler = vars(type(handler)).get("__call__")
    return getattr(handler, "__code__", None)


def begin_thread(run: Callable[[], object], name: str) -> threading.Thread:
    """
    Start a daemon thread of ours.

    Raises:
        RuntimeError: The system has no thread left.
    """
    thread = threading.Thread(target=run, name=name, daemon=True)
    thread.start()
    return thread
