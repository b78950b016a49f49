"""One change to many tasks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, Final

from taskorch.core.engine import is_gone, since_when
from taskorch.core.runs._manager import manager_of
from taskorch.core.runs._members import in_parts
from taskorch.errors import CycleError, InvalidTaskError, InvalidTransitionError
from taskorch.kit.visible import is_text, show
from taskorch.model import TERMINAL, TaskState
from taskorch.model._made_for import MadeFor
from taskorch.model.ids import stem_of

if TYPE_CHECKING:
    from taskorch.core.engine import Runtime
    from taskorch.core.kernel import TaskRow
    from taskorch.model import Task

ACTIONS: Final = ("cancel", "suspend", "resume", "rerun", "set_priority")


def change_tasks(
    runtime: Runtime,
    action: str,
    *,
    ids: str,
    type: str | None,  # noqa: A002 - the facade's name
    state: TaskState | None,
    older_than: float | None,
    priority: int | None,
) -> list[str]:
    """
    See `TaskOrchestrator.change_tasks`; the arguments have been checked.

    Raises:
        InvalidTaskError: *ids* or *type* is no text.
    """
    kernel = runtime.kernel
    is_meant = _condition(ids=ids, type=type, state=state, older_than=older_than)
    act = _acts_by_name(runtime, priority)[action]

    def change(rows: Sequence[TaskRow], now: int) -> list[str]:
        changed: list[str] = []
        for row in rows:
            # A row may have changed its state, or left memory, since it was selected.
            if row.id in kernel.tasks and is_meant(row, now):
                with suppress(CycleError, InvalidTransitionError):
                    if act(row, now):
                        changed.append(row.id)
        return changed

    meant = _rows(runtime, is_meant)
    if action != "rerun":
        # Dependents come before their parents: mostly they were submitted later.
        meant.reverse()
    changed = _gone_over(runtime, meant) if action == "rerun" else []
    return sum(in_parts(runtime, meant, change), changed)


def _gone_over(runtime: Runtime, meant: Sequence[TaskRow]) -> list[str]:
    """
    Move selected tasks of runs that are deployed otherwise to today's definition.

    Returns:
        The ids of the tasks that run again; nothing is done for the others.
    """
    reruns = manager_of(runtime)._reruns
    rows = [row for row in meant if _ALLOWED["rerun"](row) and _is_defined(row)]
    ids = {row.id for row in rows}
    changed: list[str] = []
    for made_id in dict.fromkeys(row.run or stem_of(row.id) for row in rows):
        move = reruns.move(made_id, None)
        if move:
            due = move.due(lambda handle: handle.task_id in ids)
            move.carry_out(due)
            changed += [each for each in due.values() if each in ids]
    return changed


def _is_defined(row: TaskRow) -> bool:
    """Return whether a task has a current definition: by its run, or a schedule."""
    task: Task | None = row.cargo._task
    return bool(row.run) or (
        task is not None and MadeFor(task.metadata).schedule is not None
    )


def touched(
    runtime: Runtime,
    action: str,
    *,
    ids: str,
    type: str | None,  # noqa: A002 - the facade's name
    state: TaskState | None,
    older_than: float | None,
) -> list[str]:
    """
    Return the ids of the tasks that `change_tasks` would change, as things stand.

    Raises:
        InvalidTaskError: *ids* or *type* is no text.
    """
    is_meant = _condition(ids=ids, type=type, state=state, older_than=older_than)
    rows = _rows(runtime, lambda row, now: is_meant(row, now) and _ALLOWED[action](row))
    return [row.id for row in rows if not runtime.is_left(row)]


#: Predicates on the state of a task, by action: whether the action changes the task.
_ALLOWED: Final[Mapping[str, Callable[[Any], bool]]] = {
    "cancel": lambda row: row.state not in TERMINAL,
    "suspend": lambda row: row.state not in {*TERMINAL, TaskState.SUSPENDED},
    "resume": lambda row: row.state is TaskState.SUSPENDED or _is_suspending(row),
    "rerun": lambda row: (
        row.state in TERMINAL and _again(row) is None and not is_gone(row)
    ),
    "set_priority": lambda row: row.state not in TERMINAL,
}


def _is_suspending(row: TaskRow) -> bool:
    return row.extra is not None and row.extra.suspending


def _again(row: TaskRow) -> str | None:
    """Return the id of the later run of a task, or None."""
    return None if row.extra is None else row.extra.rerun_id


def _condition(
    *,
    ids: str,
    type: str | None,  # noqa: A002 - the facade's name
    state: TaskState | None,
    older_than: float | None,
) -> Callable[[TaskRow, int], bool]:
    for name, value in (("ids", ids), ("type", "" if type is None else type)):
        if not is_text(value):
            msg = f"{name}: a text is needed, not {show(value)}"
            raise InvalidTaskError(msg)

    def is_meant(row: TaskRow, now: int) -> bool:
        return (
            (state is None or row.state is state)
            and (type is None or fnmatchcase(row.bucket.spec.type, type))
            and fnmatchcase(row.id, ids)
            and (older_than is None or (now - since_when(row)) / 1e9 > older_than)
        )

    return is_meant


def _rows(runtime: Runtime, is_meant: Callable[[TaskRow, int], bool]) -> list[TaskRow]:
    runtime.look_up()
    with runtime.lock:
        now = runtime.now()
        return [row for row in runtime.kernel.tasks.values() if is_meant(row, now)]


def _acts_by_name(
    runtime: Runtime, priority: int | None
) -> dict[str, Callable[[Any, int], bool]]:
    kernel = runtime.kernel
    # It is loaded before the lock is held.
    succession = runtime.succession

    def live(row: TaskRow) -> bool:
        return not runtime.is_left(row)

    def rerun(row: TaskRow, now: int) -> bool:
        runtime.refuse_submission()
        if not _ALLOWED["rerun"](row):
            return False
        succession.rerun(row.id, now, anew=True)
        return True

    return {
        "cancel": lambda row, now: (
            live(row) and kernel.cancel(row, now, "cancelled by the user")
        ),
        "suspend": lambda row, now: (
            live(row)
            and kernel.suspend(row, now, holdable=runtime.attempts.holdable(row))
        ),
        "resume": lambda row, now: live(row) and kernel.resume(row, now),
        "rerun": rerun,
        "set_priority": lambda row, now: (
            live(row) and kernel.set_priority(row, priority or 0, now)
        ),
    }
