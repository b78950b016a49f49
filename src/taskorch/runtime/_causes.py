"""Failures by their causes: what many tasks have in common that failed."""

from __future__ import annotations

from collections import Counter
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
    messages: dict[tuple[str, str], str] = {}
    ids: dict[tuple[str, str], list[str]] = {}
    counts: Counter[tuple[str, str]] = Counter()
    for status in statuses:
        if status.error is None:
            continue
        kind, message = _class_and_message(status.error)
        cause = cause_of(status.task_id, kind, message)
        counts[cause] += 1
        messages.setdefault(cause, message)
        named = ids.setdefault(cause, [])
        if len(named) < _NAMED:
            named.append(status.run_id)
    return tuple(
        FailureCause(*cause, messages[cause], count, tuple(ids[cause]))
        for cause, count in counts.most_common()
    )


def _class_and_message(error: BaseException) -> tuple[str, str]:
    """The class and the message of *error*; of one that stands for another, its."""
    kind, message = said(error)
    if not isinstance(error, TaskFailedError) or not error.type:
        return kind, message
    rest = message.partition(f"raised {error.type}")[2]
    return error.type, rest.removeprefix(": ") or message
