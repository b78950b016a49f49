"""What the work of an attempt comes to, and what is kept of one task."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextvars import Context
from random import Random
from typing import Any, Final, TypeAlias

import attrs

from taskorch.errors import AttemptLostError, InvalidTaskError
from taskorch.model import Call, Task
from taskorch.model._limits import NS
from taskorch.model._show import show
from taskorch.runtime._work import Work

__all__ = ("Job", "Outcome", "What", "as_outcome")

#: Seconds that work takes of which nothing is known.
_SECONDS: Final = 1.0


@attrs.frozen
class Outcome:
    """What one attempt comes to."""

    #: How long it takes on an agent of speed 1.
    seconds: float = _SECONDS
    result: Any = None
    #: What it raises; None: it completes.
    error: BaseException | None = None
    #: Its worker dies of it.
    crash: bool = False
    #: It does not end by itself.
    hang: bool = False
    #: It does not stop when it is asked to.
    stubborn: bool = False
    #: What it reports on the way, at equal distances.
    progress: tuple[Any, ...] = ()
    #: Of its seconds, in the middle, it waits for other work and gives its slot back;
    #: on a remote agent it does not.
    waits: float = 0.0


#: What is known of the work of a type: seconds, an outcome, or a function of the
#: task, the number of the attempt and a random source that gives either.
What: TypeAlias = float | Outcome | Callable[[Task, int, Random], "float | Outcome"]


def as_outcome(what: object) -> Outcome:
    """
    *what* as an outcome.

    Raises:
        InvalidTaskError: It is neither that nor a number of seconds.
    """
    if isinstance(what, Outcome):
        return what
    if isinstance(what, int | float) and not isinstance(what, bool) and what >= 0:
        return Outcome(what)
    msg = f"work takes seconds, or has an Outcome, not {show(what)}"
    raise InvalidTaskError(msg)


def end_of(outcome: Outcome, task_id: str) -> tuple[str, Any, BaseException | None]:
    """How an attempt ends by itself: outcome, result, error."""
    if outcome.crash:
        msg = f"task {task_id}: its worker died"
        return "lost", None, AttemptLostError(msg, task_id=task_id)
    if outcome.error is not None:
        return "failed", None, outcome.error
    return "completed", outcome.result, None


def nanoseconds(seconds: float) -> int:
    """*seconds* in ns."""
    return int(seconds * NS)


def is_call(task: Task | None) -> bool:
    """Whether *task* is a call of a function."""
    return task is not None and isinstance(task.payload, Call)


class Job(Work):
    """One task as the simulation has it: the cargo of its row."""

    __slots__ = ("_seq",)

    def __init__(
        self,
        runtime: Any,
        fn: Callable[..., Any] | None,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        how: int,
        ctx: Context,
    ) -> None:
        super().__init__(runtime, fn, args, kwargs, how, ctx)
        #: The number of the fact of its submission; 0 if that is kept.
        self._seq = 0
