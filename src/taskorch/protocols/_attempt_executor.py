"""
Executors of attempts, and the interface that they need.

Decision: executors.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, runtime_checkable

if TYPE_CHECKING:
    from concurrent.futures import Future
    from contextvars import Context
    from pathlib import Path

    from taskorch.model import Task


@runtime_checkable
class Executor(Protocol):
    """
    Protocol: runs calls; any `concurrent.futures.Executor` is one.

    Laws:
        1. The future of a call is resolved with the returned value, or with the very
           error that it raised (in another process: with an equal one).
        2. A call is made once.
        3. A call that fails harms no other, before or after.
        4. `submit` does not wait for the call to end.
        5. `shutdown(wait=True)` returns when every call that was accepted has ended
           or was cancelled; every future is resolved by then.
        6. After `shutdown`, `submit` raises a RuntimeError, and makes no call.
        7. `shutdown(cancel_futures=True)` cancels calls that have not begun; others
           come to their end.
    """

    def submit(
        self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any
    ) -> Future[Any]:
        """Call *fn* in some worker at some time."""
        ...

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more calls, and free all resources."""
        ...


B = TypeVar("B")


class Attempt(Protocol):
    """
    One attempt at a task, for its executor.

    One of `run`, `call` and `portable` gives the work; `end` takes the outcome. All
    methods may be called from any thread.
    """

    @property
    def task_id(self) -> str:
        """Id of the task."""
        ...

    @property
    def number(self) -> int:
        """Number of the attempt, from 1."""
        ...

    @property
    def fence(self) -> tuple[int, int]:
        """Pair (incarnation, number) that rises with every attempt of the task."""
        ...

    @property
    def task(self) -> Task[Any]:
        """Task, with its id; its payload is a `Program` for an attempt of a program."""
        ...

    @property
    def cancelled(self) -> bool:
        """True if the attempt was told to end, so its end may be an interruption."""
        ...

    def run(self) -> None:
        """Call the function now, on this thread, and `end` the attempt; never raise."""
        ...

    def call(
        self, *, elsewhere: bool = False
    ) -> tuple[Callable[..., Any], tuple[Any, ...], Mapping[str, Any]]:
        """
        Return the function to call, its arguments and its keyword arguments.

        Make the call in `variables()`; an `async def` returns a coroutine to await.

        Args:
            elsewhere: True if a worker's handler gets a task and a context that can be
                sent to another process: without functions, and read only.

        Raises:
            Exception: A result that it needs is gone.
        """
        ...

    def variables(self) -> Context:
        """Return a copy of the context variables at the submission."""
        ...

    def portable(self) -> Callable[[], Any]:
        """
        Return a function that makes the attempt in another process, sent pickled.

        Called there, it raises nothing, and returns the value for `end`: an object for
        the result or error of the function that can be pickled.

        Raises:
            Exception: A result that it needs is gone.
        """
        ...

    def told(self, what: str, value: Any) -> Any:
        """
        Take a call of a context method by its function in another process.

        Args:
            what: `"progress"`, `"checkpoint"`, `"allocation"`, `"spent"`, `"spending"`
                or `"reserved"`. A checkpoint with a value, and `"spent"`, return once
                the journal has them: call them on a thread for which others need not
                wait. `"spending"` is the same as `"spent"`, and does not wait. Code
                that starts a process for it, or sends it elsewhere, asks for
                `"variables"` and `"units"`.
            value: The argument of the method; spent amounts are in whole millionths.

        Returns:
            The answer for that process. For a checkpoint, the amounts that the attempt
            holds from now on; for `"allocation"`, those that it holds; for
            `"reserved"`, those that it has still reserved of its budget, or None
            without a budget: all in whole millionths, as in `Resources.units`. For
            `"variables"`, a mapping of additional variables of the process, such as
            `CUDA_VISIBLE_DEVICES` for its GPUs. For `"units"`, the names of its units
            that its worker owns, by resource.

        Raises:
            Exception: The error that the method raises there, such as an
                `AttemptInterrupted`.
        """
        ...

    def end(self, value: Any = None, error: BaseException | None = None) -> None:
        """
        End the attempt; only the first end counts.

        The next attempt may begin on the same executor before this returns: hold no
        lock that its methods need.

        Args:
            value: The returned value, or the result of `portable()`.
            error: The error that it raised. A `concurrent.futures.BrokenExecutor` means
                that it was lost, and is to be made again; an `AttemptInterrupted` that
                it was stopped on request.
        """
        ...

    def end_soon(self, value: Any = None, error: BaseException | None = None) -> None:
        """End the attempt on another thread, where such a lock is held: see `end`."""
        ...

    def unstarted(self, error: BaseException) -> None:
        """
        Report that the attempt could not be begun.

        If *error* says that the system has no thread, process or descriptor left, the
        attempt is made later, and counts as no try; else it fails. `begin` may raise
        the error instead.
        """
        ...


@runtime_checkable
class AttemptExecutor(Protocol[B]):
    """
    Protocol: runs attempts, and can stop or hold them as far as it can.

    Inherit from it and write `begin`; each other method has a default here, for an
    executor that cannot do this. A class that has all methods need not inherit. Shut
    down your own executor: the orchestrator does not. `B` is the type of the value of
    `begin`, by which the other methods find the attempt.

    Laws:
        1. `begin` does not wait for the attempt to end. It may be called on any thread,
           and from within `end`.
        2. An attempt that was begun is made once, and `end` gets its result or error
           once: in this process the very object, from another one an equal object.
        3. A `begin` that raises has begun nothing, and `end` is never called for it.
        4. An attempt that fails or is stopped harms no other.
        5. `stop` asks the attempt to end, and does not wait for that. One that can be
           stopped ends soon, whatever it does; one that cannot goes on to its end.
           `end` is called in either case.
        6. If `can_hold`, an attempt does nothing from `hold` until `resume`, and then
           goes on. A held attempt can be stopped.
        7. An attempt that has ended, or was stopped, may be stopped, held and resumed,
           again and again: that does nothing, and raises nothing.

    For one attempt, `begin` returns before any other method is called, and the calls
    come one at a time, in the order in which they were decided.
    """

    @abstractmethod
    def begin(self, attempt: Attempt) -> B:
        """
        Begin *attempt*.

        Returns:
            A value by which the other methods find it, such as a future or a process.

        Raises:
            Exception: It cannot be begun: see `Attempt.unstarted`.
        """
        ...

    def stop(self, begun: B, grace: float) -> None:
        """
        Ask an attempt to end, from any thread.

        A function can ask `context.cancelled` as well, which needs no executor.

        Args:
            begun: The value that `begin` returned.
            grace: Seconds after which the slot of an attempt that has not ended counts
                as leaked: kill before that, if possible.
        """
        del begun, grace

    def can_hold(self) -> bool:
        """
        Return whether attempts can be stopped in place.

        It is called under the orchestrator's lock: it answers at once, and always the
        same.
        """
        return False

    def hold(self, begun: B) -> None:
        """Stop an attempt in place; only called if `can_hold`."""
        del begun

    def resume(self, begun: B) -> None:
        """Continue an attempt that was stopped in place."""
        del begun

    def allocation_changed(self, begun: B) -> None:
        """
        Take note that an elastic attempt may hold more, though it is at no checkpoint.

        `Attempt.told("allocation", None)` returns the amounts.
        """
        del begun

    def log_path(self, begun: B) -> Path | None:
        """
        Return the file with the output of an attempt, or None.

        It is called under the orchestrator's lock: it answers at once.
        """
        del begun
        return None
