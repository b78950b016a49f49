"""
Where attempts run, and what the orchestrator asks of whatever runs them.

Decision: 0038.
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
        1. The future of a call is resolved with what the call returned, or with the
           very error that it raised (in another process: with an equal one).
        2. A call is made once.
        3. A call that fails harms no other, before or after.
        4. `submit` does not wait for the call to end.
        5. `shutdown(wait=True)` returns when every call that was accepted has ended
           or was cancelled; every future is resolved by then.
        6. After `shutdown`, `submit` raises a RuntimeError, and makes no call.
        7. `shutdown(cancel_futures=True)` cancels what has not begun; what has begun
           comes to its end.
    """

    def submit(
        self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any
    ) -> Future[Any]:
        """Call *fn* somewhere, some time."""
        ...

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more calls, and free what was held."""
        ...


B = TypeVar("B")


class Attempt(Protocol):
    """
    One attempt at a task, as its executor has it: what to do, and whom to tell.

    One of `run`, `call` and `portable` gives what is to be done; `end` is told what
    came of it. All of it may be used from any thread.
    """

    @property
    def task_id(self) -> str:
        """The id of the task."""
        ...

    @property
    def number(self) -> int:
        """Number of the attempt, from 1."""
        ...

    @property
    def fence(self) -> tuple[int, int]:
        """(life of the orchestrator, number): rises with every attempt of the task."""
        ...

    @property
    def task(self) -> Task[Any]:
        """The task, with its id. Its payload is a `Program` if that is to be run."""
        ...

    @property
    def cancelled(self) -> bool:
        """Whether the attempt was told to end: then its end may be an interruption."""
        ...

    def run(self) -> None:
        """Make the call now, on this thread, and `end` the attempt; raises nothing."""
        ...

    def call(
        self, *, elsewhere: bool = False
    ) -> tuple[Callable[..., Any], tuple[Any, ...], Mapping[str, Any]]:
        """
        The function to call, its arguments and its keyword arguments.

        The call is to be made in `variables()`; of an `async def` it gives the
        coroutine to await.

        Args:
            elsewhere: Whether a worker's handler gets a task and a context that can be
                sent to another process: without functions, and to be read only.

        Raises:
            Exception: A result that it needs is gone.
        """
        ...

    def variables(self) -> Context:
        """A copy of the context variables of the place of submission."""
        ...

    def portable(self) -> Callable[[], Any]:
        """
        What does it in another process, where it is sent pickled.

        Called there, it raises nothing, and returns what `end` is given as the value:
        it stands for what the function returned or raised, and can be pickled.

        Raises:
            Exception: A result that it needs is gone.
        """
        ...

    def told(self, what: str, value: Any) -> Any:
        """
        In another process, its function has called a method of its context.

        Args:
            what: `"progress"`, `"checkpoint"`, `"allocation"`, `"spent"`, `"spending"`
                or `"reserved"`. A checkpoint with a value, and `"spent"`, return once
                that is kept: call them where others need not wait. `"spending"` is the
                same as `"spent"`, and does not wait. `"variables"` and `"units"` are
                asked for by whoever starts a process for it, or sends it elsewhere.
            value: What the method was given; what was spent is in whole millionths.

        Returns:
            What that process is to know: of a checkpoint, what the attempt holds from
            now on; of `"allocation"`, what it holds; of `"reserved"`, what it has still
            reserved of its budget, or None if it draws on none. All in whole
            millionths, as `Resources.units` has it. Of `"variables"`, a mapping of
            those that the process is to have besides: `CUDA_VISIBLE_DEVICES` tells of
            its GPUs. Of `"units"`, the names of the units that are its own where it
            runs, by resource.

        Raises:
            Exception: What the method is to raise there, such as an
                `AttemptInterrupted`.
        """
        ...

    def end(self, value: Any = None, error: BaseException | None = None) -> None:
        """
        End the attempt; only the first end counts.

        What starts next may be begun before this returns, on the same executor: hold no
        lock that its methods need.

        Args:
            value: What it returned, or what came of `portable()`.
            error: What it raised. A `concurrent.futures.BrokenExecutor` says that it
                was lost, and is to be made again; an `AttemptInterrupted` that it was
                stopped, as it was asked to.
        """
        ...

    def end_soon(self, value: Any = None, error: BaseException | None = None) -> None:
        """End the attempt on another thread, where such a lock is held: see `end`."""
        ...

    def unstarted(self, error: BaseException) -> None:
        """
        Report that the attempt could not be begun.

        If *error* says that the system has no thread, process or descriptor left, it is
        made later, without a try, else it fails. `begin` says the same by raising it.
        """
        ...


@runtime_checkable
class AttemptExecutor(Protocol[B]):
    """
    Protocol: runs attempts, and can stop or hold them as far as it can.

    Inherit from it and write `begin`; each other method has a body here, which says
    that the executor cannot do this. A class that has all methods need not inherit.
    Whoever makes an executor ends it: the orchestrator does not. `B` is the type of
    what `begin` returns, by which the other methods find the attempt again.

    Laws:
        1. `begin` does not wait for the attempt to end. It may be called on any thread,
           and from within `end`.
        2. An attempt that was begun is done once, and `end` is told once what it
           returned or raised: in this process the very object, from another one an
           equal one.
        3. A `begin` that raises has begun nothing, and `end` is never told of it.
        4. An attempt that fails or is stopped harms no other.
        5. `stop` asks the attempt to end, and does not wait for that. One that can be
           stopped ends soon, whatever it does; one that cannot goes on to its end. Its
           end is told in either case.
        6. If `can_hold`, an attempt does nothing from `hold` until `resume`, and then
           goes on where it stood. One that is held can be stopped.
        7. An attempt that has ended, or was stopped, may be stopped, held and resumed,
           again and again: that does nothing, and raises nothing.

    Of one attempt, `begin` has returned before anything else is asked, and one thing is
    asked at a time, in the order in which it was decided.
    """

    @abstractmethod
    def begin(self, attempt: Attempt) -> B:
        """
        Begin *attempt*.

        Returns:
            What the other methods are given to find it again, such as a future or a
            process.

        Raises:
            Exception: It cannot be begun: see `Attempt.unstarted`.
        """
        ...

    def stop(self, begun: B, grace: float) -> None:
        """
        Ask an attempt to end, from any thread.

        A function asks `context.cancelled` besides: that says so by itself.

        Args:
            begun: What `begin` returned.
            grace: Seconds after which the slot of an attempt that has not ended counts
                as leaked: what can be killed is killed before.
        """
        del begun, grace

    def can_hold(self) -> bool:
        """
        Whether attempts can be held where they stand.

        Asked under the orchestrator's lock: it answers at once, and always the same.
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
        An attempt of an elastic task may hold more than it did, at no checkpoint.

        How much that is, `Attempt.told("allocation", None)` says.
        """
        del begun

    def log_path(self, begun: B) -> Path | None:
        """
        The file with what an attempt writes, if there is one.

        Asked under the orchestrator's lock: it answers at once.
        """
        del begun
        return None
