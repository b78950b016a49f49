"""
Attempts as calls on an executor of `concurrent.futures`, or on one like it.

It also has the base of our own executors, which end with their orchestrator.
"""

from __future__ import annotations

import concurrent.futures
from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping
from contextvars import Context
from types import CoroutineType
from typing import Any, Final, TypeVar

from taskorch.core.executors.remote import unsendable
from taskorch.errors import AttemptInterrupted
from taskorch.kit.ends import is_no_room, unawaited
from taskorch.kit.visible import show
from taskorch.protocols import Attempt, AttemptExecutor, Executor

B = TypeVar("B")


class OwnedExecutor(AttemptExecutor[B]):
    """
    An executor that one orchestrator uses, and ends.

    Other executors are ended by the code that has made them.
    """

    @abstractmethod
    def bind(
        self,
        run_id: Callable[[], str],
        cores: Callable[[], int],
        is_durable: Callable[[], bool],
    ) -> None:
        """Bind it to one incarnation of an orchestrator with *cores* cores."""
        ...

    @abstractmethod
    def end_all(self, grace: float) -> None:
        """End all attempts within *grace* seconds."""
        ...

    @abstractmethod
    def close(self, patience: float) -> None:
        """End all that it has begun, and wait up to *patience* seconds."""
        ...

    def where(self, begun: B) -> str:
        """Return a sentence on where an attempt is, or what it waits for; or ""."""
        del begun
        return ""

    def findings(self) -> Iterable[tuple[str, str]]:
        """
        Return findings about it: pairs of `ok`, `degraded` or `failed`, and words.

        It may take seconds.
        """
        return ()


#: Errors of calls that the executor has given up.
_GIVEN_UP: Final = (concurrent.futures.BrokenExecutor, AttemptInterrupted)


class FuturesExecutor(AttemptExecutor[Any]):
    """
    Makes each attempt a call, and sees its end by its future.

    On threads the call has the attempt's variables; in a process of a
    `ProcessPoolExecutor` it has a form whose outcome can always come back. Any other
    object with a `submit` gets the function unchanged.
    """

    def __init__(self, name: str, executor: Executor) -> None:
        self.name = name
        self._executor = executor
        #: The most calls at once, which may wait for each other; 0 if nobody can tell.
        self.room: int = 0
        if isinstance(executor, concurrent.futures.ThreadPoolExecutor):
            # There is no public name for it.
            self.room = getattr(executor, "_max_workers", 0)

    def begin(self, attempt: Attempt) -> Any:
        """Submit the call to the pool; if the pool has no room, end the attempt."""
        executor = self._executor
        is_remote = False
        if isinstance(executor, concurrent.futures.ThreadPoolExecutor):
            future = self._call_inside(executor, attempt)
        else:
            try:
                is_remote = isinstance(executor, concurrent.futures.ProcessPoolExecutor)
                future = self._submit(attempt, is_remote=is_remote)
            except Exception as error:
                if not is_no_room(error):
                    raise
                # The executor may still make the call, so it is not begun again.
                attempt.end(error=error)
                return None
        if not hasattr(future, "add_done_callback"):
            msg = (
                f"executor {self.name!r} returned {show(future)} for a call, not a "
                "Future"
            )
            raise TypeError(msg)

        def done(future: concurrent.futures.Future[Any]) -> None:
            value, error = self._end_of(future, attempt.task_id, is_remote=is_remote)
            if isinstance(error, _GIVEN_UP):
                # A pool that breaks or is shut down calls this under its lock, and the
                # next start may be for the same pool.
                attempt.end_soon(error=error)
            else:
                attempt.end(value, error)

        future.add_done_callback(done)
        return future

    def stop(self, begun: Any, grace: float) -> None:
        """Cancel the call, if it has not begun."""
        del grace
        if isinstance(begun, concurrent.futures.Future):
            begun.cancel()

    def _submit(self, attempt: Attempt, *, is_remote: bool) -> Any:
        if is_remote:
            return self._executor.submit(attempt.portable())
        fn, args, kwargs = attempt.call(elsewhere=True)
        return self._executor.submit(fn, *args, **kwargs)

    def _call_inside(
        self, pool: concurrent.futures.ThreadPoolExecutor, attempt: Attempt
    ) -> concurrent.futures.Future[Any]:
        """
        Submit the call to *pool*, to be made in its context variables.

        Raises:
            RuntimeError: There is no thread, or the pool was shut down: it is not made.
        """
        call = attempt.call()
        variables = [attempt.variables()]
        try:
            return pool.submit(_call, variables, *call)
        except RuntimeError:
            # The call may still be in the queue of the pool.
            variables.clear()
            raise

    def _end_of(
        self,
        future: concurrent.futures.Future[Any],
        task_id: str,
        *,
        is_remote: bool,
    ) -> tuple[Any, BaseException | None]:
        """
        Return the value and the error of a call.

        If it is *is_remote*, an error that the function raised is in the value.
        """
        if future.cancelled():
            return None, AttemptInterrupted("cancelled")
        error = future.exception()
        value = None if error is not None else future.result()
        if type(value) is CoroutineType:
            return None, unawaited(value, task_id)
        if error is None or not is_remote or isinstance(error, _GIVEN_UP):
            return value, error
        return None, unsendable(error, task_id, self.name)


def _call(
    variables: list[Context],
    fn: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
) -> Any:
    """Make a call on a thread of the user's executor, in the attempt's variables."""
    # They are not put into a local: frames of an error lead to those of the pool, which
    # keep their arguments, and would keep the task alive.
    return variables.pop().run(fn, *args, **kwargs)
