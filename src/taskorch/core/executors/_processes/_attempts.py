"""Attempts that are calls in worker processes, as the orchestrator knows them."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping
from types import FunctionType
from typing import TYPE_CHECKING, Any

from taskorch.core.executors._futures import OwnedExecutor
from taskorch.core.executors.remote import by_value, is_session
from taskorch.errors import InvalidTaskError
from taskorch.kit.checks import check_count
from taskorch.kit.ends import until_kill
from taskorch.kit.visible import show
from taskorch.model import NO_RESOURCES, Program, Resources
from taskorch.protocols import Attempt

if TYPE_CHECKING:
    from taskorch.core.executors._processes._pool import WorkerPool
    from taskorch.core.executors._processes._process import Assignment


class Processes(OwnedExecutor["Assignment"]):
    """
    Makes calls in worker processes, each of which makes one at a time.

    They are started as they are needed, and kept: a new one takes as long as a new
    interpreter. All that they need is loaded with the first.

    Args:
        count: The most processes; None: as many as there are cores.
        limits: The limits of each, by name; none by default.
    """

    def __init__(
        self, count: int | None = None, limits: Resources = NO_RESOURCES
    ) -> None:
        self._count = count
        self._limits = limits
        self._run_id: Callable[[], str] = _own_id
        self._cores: Callable[[], int] = _cores
        self._making = threading.Lock()
        self._pool: WorkerPool | None = None

    def bind(
        self,
        run_id: Callable[[], str],
        cores: Callable[[], int],
        is_durable: Callable[[], bool],
    ) -> None:
        """Bind them to one incarnation of an orchestrator with *cores* cores."""
        del is_durable
        self._run_id, self._cores = run_id, cores

    @property
    def room(self) -> int:
        """The most calls at once."""
        return self._count or self._cores()

    def begin(self, attempt: Attempt) -> Assignment:
        """Give the call to a process that is idle, or to the next one that will be."""
        pool = self._pool or self._opened()
        return pool.begin(attempt)

    def stop(self, begun: Assignment, grace: float) -> None:
        """
        Tell the call to end, and kill its process if it does not in time.

        A call that has not begun never does.
        """
        if self._pool is not None:
            self._pool.stop(begun, until_kill(grace))

    def end_all(self, grace: float) -> None:
        """End all calls within *grace* seconds, of which tasks are told fewer."""
        if self._pool is not None:
            self._pool.end_all(until_kill(grace))

    def close(self, patience: float) -> None:
        """End all processes; kill those left over, and wait *patience* seconds."""
        if self._pool is not None:
            self._pool.close(patience)

    def _opened(self) -> WorkerPool:
        with self._making:
            if self._pool is None:
                # It is loaded with the first call.
                from taskorch.core.executors._processes._pool import WorkerPool  # noqa: PLC0415

                self._pool = WorkerPool(
                    self._run_id(),
                    self.room,
                    limits=self._limits,
                )
            return self._pool


def refuse_unsendable(fn: Any) -> None:
    """
    Refuse a function that a worker process cannot find, as far as can be seen at once.

    Raises:
        InvalidTaskError: A lambda, a function inside another one, or one of a session,
            and cloudpickle, which can send these, is not installed.
    """
    # A functools.partial is sent with the function that it calls.
    while not isinstance(fn, FunctionType) and callable(getattr(fn, "func", None)):
        fn = fn.func
    if not isinstance(fn, FunctionType):
        return
    why = ""
    if "<lambda>" in fn.__qualname__:
        why = "is a lambda"
    elif "<locals>" in fn.__qualname__:
        why = "is defined inside another function"
    elif fn.__module__ == "__main__" and is_session():
        why = "is defined in an interactive session"
    if why and not _has_cloudpickle():
        msg = (
            f"{show(fn)} {why}, and a worker process could not find it: it imports "
            "functions by their names"
        )
        hint = (
            "define it with def at the top level of a module, and give it arguments; "
            "or pip install 'taskorch[notebook]', and it is sent as it is"
        )
        raise InvalidTaskError(msg, hint=hint)


def _has_cloudpickle() -> bool:
    try:
        by_value()
    except ImportError:
        return False
    return True


def _own_id() -> str:
    return f"processes-{os.getpid()}-{os.urandom(4).hex()}"


def _cores() -> int:
    return os.cpu_count() or 1


def processes(
    count: int | None = None, *, limits: Mapping[str, float] | None = None
) -> Processes:
    """
    Return the executor of worker processes on this machine, each held to limits.

    It is for one orchestrator: `executors={"process": processes(4, limits=…)}`. A call
    that passes a limit ends its process, and fails; the next call has a new one. A
    function in a thread cannot be limited.

    Args:
        count: The most processes; None: as many as there are cores.
        limits: The most that each may use, with all that it starts: see `Program`.

    Raises:
        InvalidTaskError: An argument is out of its range.
    """
    if count is not None:
        check_count("processes", count, least=1)
    return Processes(count, Program(["?"], limits=limits or {}).limits)
