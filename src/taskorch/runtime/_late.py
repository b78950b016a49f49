"""
What attempts brought that did not count any more: it changes nothing, and is kept.

An attempt is given up when it does not stop in its grace, or when its agent is lost. It
may have done its work all the same, and somebody may want to look at that. A journal
has it beside the fact, `LateResultIgnored`; without one it is in memory as long as its
task.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from taskorch.events import LateResultIgnored
from taskorch.model._read_only import ReadOnly
from taskorch.runtime._documents import error_of_document
from taskorch.runtime._work import NOTHING_LATE, Work, extra_of

#: Of one task, as many are kept as this; the earliest go first.
_MOST: Final = 10
#: Classes of what an attempt raises that stops.
_STOPPED: Final = ("AttemptInterrupted", "CancelledError")


def keep_late(work: Work, attempt: int, value: Any, raised: str = "") -> None:
    """
    Under the lock: keep what an attempt returned, or its error, of the class *raised*.

    One that has stopped, as it was asked to, brings nothing.
    """
    if raised in _STOPPED:
        return
    extra = extra_of(work)
    late = {**extra.late, attempt: value}
    extra.late = ReadOnly(dict(list(late.items())[-_MOST:]))


def recall_late(work: Work, event: LateResultIgnored, document: Any) -> None:
    """Keep what an earlier life kept beside *event*."""
    value = document
    if event.outcome == "failed":
        # Older journals do not say what was raised.
        value = error_of_document(event, document) if event.error_type else None
    # None is as good as nothing; and what came after its task had left memory, no
    # journal has.
    if value is not None:
        keep_late(work, event.attempt, value, event.error_type)


def late_of(work: Work) -> Mapping[int, Any]:
    """What is kept of *work*, by the numbers of the attempts."""
    return NOTHING_LATE if work._extra is None else work._extra.late


def describe_late(work: Work) -> tuple[str, ...]:
    """What of that an explanation says, without the values."""
    return tuple(
        f"attempt {attempt}, which had been given up, {_did(value)} later"
        for attempt, value in late_of(work).items()
    )


def _did(value: Any) -> str:
    if not isinstance(value, BaseException):
        return "returned"
    return f"raised {type(value).__name__}"
