"""Failures by their causes: what many tasks have in common that failed."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from taskorch._visible import said
from taskorch.errors import TaskFailedError
from taskorch.model import FailureCause, TaskStatus
from taskorch.runtime._escalations import cause_of

#: Ids that are named of each cause.
_NAMED: Final = 100


def by_cause(statuses: Iterable[TaskStatus]) -> tuple[FailureCause, ...]:
    """The causes of the failures that *statuses* tell of; the commonest first."""
    found: dict[tuple[str, str], list[TaskStatus]] = {}
    counts: dict[tuple[str, str], int] = {}
    for status in statuses:
        if status.error is None:
            continue
        cause = cause_of(status.task_id, *_told(status.error))
        counts[cause] = counts.get(cause, 0) + 1
        some = found.setdefault(cause, [])
        if len(some) < _NAMED:
            some.append(status)
    causes = [
        FailureCause(
            *cause,
            _told(error)[1],
            counts[cause],
            tuple(status.run_id for status in some),
        )
        for cause, some in found.items()
        if (error := some[0].error) is not None
    ]
    return tuple(sorted(causes, key=lambda each: -each.count))


def _told(error: BaseException) -> tuple[str, str]:
    """The class and the message of *error*; of one that stands for another, its."""
    kind, message = said(error)
    if not isinstance(error, TaskFailedError) or not error.type:
        return kind, message
    rest = message.partition(f"raised {error.type}")[2]
    return error.type, rest.removeprefix(": ") or message
