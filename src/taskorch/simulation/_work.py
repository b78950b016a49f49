"""What the work of an attempt comes to, and what is kept of one task."""

from __future__ import annotations

from collections.abc import Callable
from inspect import iscoroutinefunction
from random import Random
from typing import Any, Final, TypeAlias, cast

import attrs

from taskorch._base._limits import NS
from taskorch.errors import AttemptLostError, InvalidTaskError
from taskorch.kernel import AttemptOutcome
from taskorch.model import Call, Task, check_seconds
from taskorch.model._show import show

#: Seconds that work takes of which nothing is known.
_SECONDS: Final = 1.0


@attrs.frozen
class Outcome:
    """
    What one attempt comes to.

    Raises:
        InvalidTaskError: A number of seconds is none, or the error is no exception.
    """

    #: How long it takes on an agent of speed 1.
    seconds: float = _SECONDS
    result: Any = None
    #: What it raises; None: it completes.
    error: BaseException | None = None
    #: Its function is called at the end, and what it returns or raises is its own.
    calls: bool = False
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

    def __attrs_post_init__(self) -> None:
        check_seconds("seconds", self.seconds)
        if self.waits:
            check_seconds("waits", self.waits)
        error: object = self.error
        if error is not None and not isinstance(error, BaseException):
            msg = (
                f"error: an exception is needed, as in OSError('…'), not {show(error)}"
            )
            raise InvalidTaskError(msg)
        progress: object = self.progress
        if not isinstance(progress, tuple):
            msg = f"progress is a tuple of reports, not {show(progress)}"
            raise InvalidTaskError(msg)


#: What is known of the work of a type: seconds, an outcome, or a function of the
#: task, the number of the attempt and a random source that gives either.
What: TypeAlias = float | Outcome | Callable[[Task, int, Random], "float | Outcome"]


def as_outcome(work: object) -> Outcome:
    """
    *work* as an outcome.

    Raises:
        InvalidTaskError: It is neither that nor a number of seconds, from 0 to a
            hundred years.
    """
    if isinstance(work, Outcome):
        return work
    if isinstance(work, int | float) and not isinstance(work, bool):
        return Outcome(work)
    msg = f"work takes seconds, or has an Outcome, not {show(work)}"
    raise InvalidTaskError(msg)


def as_what(work: object) -> What:
    """
    *work* as what is known of some work.

    Raises:
        InvalidTaskError: It is neither a number of seconds, an outcome nor a function
            of which one of them comes.
    """
    if not callable(work):
        return as_outcome(work)
    if isinstance(work, type) or iscoroutinefunction(work):
        kind = "a class" if isinstance(work, type) else "an async function"
        msg = f"work is seconds, an Outcome or a plain function, not {kind}"
        hint = "as in lambda task, attempt, random: 5.0"
        raise InvalidTaskError(msg, hint=hint)
    return cast("What", work)


#: The outcome of an attempt, its result and its error.
End: TypeAlias = tuple[AttemptOutcome, Any, "BaseException | None"]


def end_of(outcome: Outcome, task_id: str) -> End:
    """How an attempt ends by itself."""
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
