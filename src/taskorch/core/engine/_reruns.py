"""Runs of one task, and the run that its id means."""

from __future__ import annotations

from typing import Any

from taskorch.errors import CycleError, UnknownTaskError
from taskorch.kit.fence import is_values
from taskorch.kit.visible import is_text, show
from taskorch.model import Task
from taskorch.model.ids import (
    has_number,
    next_id,
    number_of,
    numbered,
    run_id_of,
    stem_of,
)

# -- runs of one task: what its id stands for once it was run again --------------------

# The first run has the id that was given, and the others that with a number: `x`,
# `x~2`, `x~3`. The bare id means the latest of them, and `x~1` the first.


def refuse_itself(parent_id: str, by: Task) -> None:
    """
    Refuse a dependency of a task on a run of its own.

    The next run of *by* would wait for that which it replaces, and so for itself.

    Raises:
        CycleError: *parent_id* is a run of *by*.
    """
    if by.id is None or stem_of(parent_id) != stem_of(by.id):
        return
    name = stem_of(by.id)
    msg = f"task {name!r} waits for itself: {parent_id} is a run of it"
    hint = (
        "leave the dependency out, and hand over what that run has made instead: "
        f"orch.handle({parent_id!r}).result()"
    )
    raise CycleError(msg, cycle=(name,), hint=hint)


def _no_id(value: Any) -> UnknownTaskError:
    """Return the error for a *value* in the place of an id that is no text."""
    try:
        handle_id = value.task_id
    except BaseException as error:
        if not is_values(error):
            raise
        handle_id = None
    if type(handle_id) is str:
        msg = f"{show(value)} is a handle, and no id"
        return UnknownTaskError(msg, hint="handle.task_id", task_id=handle_id)
    msg = f"no task has the id {show(value)}: an id is a str"
    return UnknownTaskError(msg, task_id=show(value))


class Reruns:
    """
    Latest known run of each task that was run again, and the tasks that add others.

    Attributes:
        adders: The ids, without numbers, of tasks that have added tasks to their runs.
        left: The ids, without numbers, of tasks that were added, and are no part of
            their runs any more.
    """

    __slots__ = ("_latest", "adders", "is_empty", "left")

    def __init__(self) -> None:
        self._latest: dict[str, int] = {}
        #: Whether no task is known to have been run again.
        self.is_empty: bool = True
        self.adders: set[str] = set()
        self.left: set[str] = set()

    def note(self, task_id: str) -> None:
        """Note that the run *task_id* exists."""
        if not has_number(task_id):
            return
        stem, number = stem_of(task_id), number_of(task_id)
        if number > self._latest.get(stem, 1):
            self._latest[stem] = number
            self.is_empty = False
            self.left.discard(stem)

    def latest(self, task_id: str) -> str:
        """
        Return the run that *task_id* means: the latest, if it has no number.

        Raises:
            UnknownTaskError: It is a handle, or something else that is no text: it may
                do anything where it is looked up.
        """
        if type(task_id) is not str and not is_text(task_id):
            raise _no_id(task_id)
        if has_number(task_id):
            return run_id_of(task_id)
        number = self._latest.get(task_id)
        return task_id if number is None else numbered(task_id, number)

    def forget(self, task_id: str) -> None:
        """Forget the task of which this is a run, since none exists any more."""
        self._latest.pop(stem_of(task_id), None)
        self.is_empty = not self._latest

    def is_latest(self, task_id: str) -> bool:
        """Return whether no later run than this one is known."""
        return self.latest(stem_of(task_id)) == task_id

    def later_than(self, task_id: str) -> list[str]:
        """Return the ids of the known runs of its task after this one."""
        stem = stem_of(task_id)
        last = self._latest.get(stem, 1)
        return [numbered(stem, n) for n in range(number_of(task_id) + 1, last + 1)]

    def next_id(self, task_id: str) -> str:
        """Return the id of the next run of the task of which this is one."""
        return next_id(self.latest(stem_of(task_id)))
