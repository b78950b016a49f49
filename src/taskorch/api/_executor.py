"""
An orchestrator as an executor of `concurrent.futures`.

Decision: executors.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor, Future
from queue import SimpleQueue
from typing import (
    TYPE_CHECKING,
    Any,
    Final,
    ParamSpec,
    TypeVar,
    Unpack,
    cast,
    overload,
)

from taskorch.api._orchestrator import SpelledOut, TaskOrchestrator
from taskorch.api._settings.fields import refuse_unknown
from taskorch.core.handles.futures import TaskFuture, cancel_all
from taskorch.core.inside import Inside
from taskorch.errors import InvalidTaskError, WouldBlockError
from taskorch.kit.checks import check_count
from taskorch.kit.visible import show

if TYPE_CHECKING:
    from taskorch.api._settings.fields import SettingsOptions

P = ParamSpec("P")
T = TypeVar("T")

#: The threads that will stop the orchestrators of executors, with a queue for each.
_CARETAKERS: Final[dict[threading.Thread, SimpleQueue[None]]] = {}
#: Set when the interpreter is about to end, and no thread can begin.
_EXITING: Final = threading.Event()


class TaskExecutor(Executor):
    """
    Runs calls as tasks of an orchestrator, wherever an Executor is taken.

    It has an orchestrator of its own, which begins with the first call and stops when
    the executor is shut down or nobody has it any more; or it is given one, whose life
    it leaves alone. Either way, calls that were accepted are done before the
    interpreter exits, as with a `ThreadPoolExecutor`; of a given orchestrator, as its
    owner stops it.

    `submit` takes what `TaskOrchestrator.submit` takes: a handle among the arguments is
    replaced by its result, and a coroutine function runs on a loop. A call may submit
    others and wait for them, however many do so at once.

    Args:
        max_workers: Calls that run at once; None is the `concurrency` that an
            orchestrator has by default.
        orchestrator: One that is there already: its `concurrency` counts.
        options: Options of the executor's own orchestrator: `resources`, `journal` and
            all others that `TaskOrchestrator` takes.

    Raises:
        InvalidTaskError: An argument is out of its range; or *orchestrator* is given
            together with options for one that the executor makes.
    """

    __signature__: Any = SpelledOut()

    def __init__(
        self,
        max_workers: int | None = None,
        *,
        orchestrator: TaskOrchestrator | None = None,
        **options: Unpack[SettingsOptions],
    ) -> None:
        settings = cast("dict[str, Any]", options)
        if orchestrator is None:
            self._owns = True
            orchestrator = _make(max_workers, settings)
        else:
            self._owns = False
            _refuse(orchestrator, max_workers, settings)
        self._orchestrator = orchestrator
        #: dask looks for this name.
        self._max_workers = orchestrator.concurrency
        # A validator of the user, for example, may submit while it is asked.
        self._lock = threading.RLock()
        self._closed = False
        #: The futures of calls that have no outcome yet.
        self._futures: set[TaskFuture[Any]] = set()
        self._caretaker: threading.Thread | None = None

    @overload
    def submit(
        self,
        fn: Callable[P, Coroutine[Any, Any, T]],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> Future[T]: ...

    @overload
    def submit(
        self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs
    ) -> Future[T]: ...

    def submit(
        self, fn: Callable[P, Any], /, *args: P.args, **kwargs: P.kwargs
    ) -> Future[Any]:
        """
        Call *fn* as a task; see `TaskHandle.future` for what is returned.

        Raises:
            RuntimeError: The executor has been shut down, or the interpreter ends.
            UsageError: The task was refused.
        """
        with self._lock:
            # The message and the error are those of concurrent.futures.
            if self._closed:
                msg = "cannot schedule new futures after shutdown"
                raise RuntimeError(msg)
            if _EXITING.is_set():
                msg = "cannot schedule new futures after interpreter shutdown"
                raise RuntimeError(msg)
            if self._owns and self._caretaker is None:
                self._caretaker = _start(self, self._orchestrator)
            future: Any = self._orchestrator.submit(fn, *args, **kwargs).future()
            self._futures.add(future)
        # `add_done_callback` of TaskFuture would count as somebody who sees the
        # outcome.
        Future.add_done_callback(future, self._futures.discard)
        plain: Future[Any] = future
        return plain

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """
        Take no more calls; those that were accepted are done.

        An orchestrator of the executor's own stops when they are.

        Args:
            wait: Whether to return only then. In a done-callback it returns at once:
                the thread that is there settles the futures that are left.
            cancel_futures: Whether to cancel those that have not begun.

        Raises:
            WouldDeadlockError: The caller is one of the calls that it would wait for.
            WouldBlockError: The caller is on the loop that does them; nothing changed.
        """
        if wait and (Inside(self._orchestrator).is_on_loop() or self._owns):
            self._refuse_to_block()
        with self._lock:
            self._closed = True
            unended = list(self._futures)
        if cancel_futures:
            cancel_all(unended)
        if self._caretaker is not None:
            _tell(self._caretaker)
        if not wait or Inside(self._orchestrator).is_telling():
            return
        for future in unended:
            future.join()
        if self._caretaker is not None:
            self._caretaker.join()

    def _refuse_to_block(self) -> None:
        """
        Refuse to wait where calls of this executor would never end.

        Raises:
            WouldBlockError: The caller is on the loop that does them.
            WouldDeadlockError: The caller is a call of an orchestrator of its own.
        """
        unended = sum(not future.done() for future in list(self._futures))
        if Inside(self._orchestrator).is_on_loop() and (unended or self._owns):
            calls = "1 call" if unended == 1 else f"{unended} calls"
            msg = (
                f"the executor's shutdown would block the event loop, with {calls} left"
            )
            hint = (
                "await them first, by asyncio.wrap_future(future); or, in place of "
                "`with`, call shutdown(wait=False)"
            )
            raise WouldBlockError(msg, hint=hint)
        if self._owns:
            Inside(self._orchestrator).refuse_within("shutdown(wait=True)")

    def __repr__(self) -> str:
        state = " shut down" if self._closed else ""
        return f"<TaskExecutor{state} over {self._orchestrator!r}>"


def _make(max_workers: int | None, options: dict[str, Any]) -> TaskOrchestrator:
    """
    An orchestrator of an executor's own.

    Raises:
        InvalidTaskError: An argument is out of its range.
    """
    if max_workers is not None:
        untyped: Any = max_workers
        if isinstance(untyped, int) and untyped <= 0:
            # The message is that of concurrent.futures.
            msg = "max_workers must be greater than 0"
            raise InvalidTaskError(msg, hint="None is as many as usual")
        check_count("max_workers", max_workers, least=1)
        if "concurrency" in options:
            msg = "max_workers= and concurrency= are the same thing: give one of them"
            raise InvalidTaskError(msg)
        options = {**options, "concurrency": max_workers}
    for name in ("thread_name_prefix", "initializer", "initargs"):
        if name in options:
            msg = f"TaskExecutor has no {name}=: its threads come and go"
            hint = (
                "keep what a call needs in a functools.cache or a threading.local; or "
                "give a pool to TaskOrchestrator(executors=…), and its name to "
                "Task.call(…, executor=…)"
            )
            raise InvalidTaskError(msg, hint=hint)
    refuse_unknown(TaskExecutor, options)
    # No finished task is kept in memory: the future of a call holds its result.
    settings: dict[str, Any] = {"keep_finished": 0, **options}
    return TaskOrchestrator(**settings)


def _refuse(
    orchestrator: object, max_workers: int | None, options: dict[str, Any]
) -> None:
    """
    Refuse what does not go with *orchestrator*.

    Raises:
        InvalidTaskError: It is none, or something else was given.
    """
    if not isinstance(orchestrator, TaskOrchestrator):
        msg = f"orchestrator= is a TaskOrchestrator, not {show(orchestrator)}"
        raise InvalidTaskError(msg)
    arguments = ["max_workers"] * (max_workers is not None) + list(options)
    if arguments:
        names = ", ".join(f"{name}=" for name in arguments)
        msg = f"{names}: the orchestrator that is given has its own"
        hint = "give them to TaskOrchestrator(…); max_workers is its concurrency"
        raise InvalidTaskError(msg, hint=hint)


# ------------------------------------------------------------------ caretakers


def _start(executor: TaskExecutor, orchestrator: TaskOrchestrator) -> threading.Thread:
    """Start *orchestrator*, and the thread that will stop it."""
    orchestrator.start()
    # At the exit, CPython 3.12.0 and 3.12.1 begin no threads any more.
    Inside(orchestrator).begin_telling()
    bell: SimpleQueue[None] = SimpleQueue()
    caretaker = threading.Thread(
        target=_stop_when_collected,
        args=(orchestrator, bell),
        name="taskorch-caretaker",
        # `_at_exit` joins it, before the interpreter waits for threads that are no
        # daemons.
        daemon=True,
    )
    _CARETAKERS[caretaker] = bell
    try:
        caretaker.start()
    except BaseException:
        # Nobody else would stop it.
        del _CARETAKERS[caretaker]
        orchestrator.stop(drain=False)
        raise
    # The garbage collector may call this at any point, and a put never blocks.
    weakref.finalize(executor, bell.put, None).atexit = False
    return caretaker


def _stop_when_collected(
    orchestrator: TaskOrchestrator, bell: SimpleQueue[None]
) -> None:
    """Wait for the end of an executor, and stop its orchestrator once all is done."""
    try:
        bell.get()
        orchestrator.stop()
    finally:
        _CARETAKERS.pop(threading.current_thread(), None)


def _tell(caretaker: threading.Thread) -> None:
    bell = _CARETAKERS.get(caretaker)
    if bell is not None:
        bell.put(None)


def _at_exit() -> None:
    """Wait at the exit of the process until accepted calls are done."""
    _EXITING.set()
    for caretaker in list(_CARETAKERS):
        _tell(caretaker)
        caretaker.join()


# This hook of concurrent.futures runs before the interpreter waits for threads, and so
# before all `atexit` functions. It has no public name.
getattr(threading, "_register_atexit")(_at_exit)  # noqa: B009
