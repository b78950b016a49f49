"""The tasks of a run: how they are found; the data kept of runs beside them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from fnmatch import fnmatchcase
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

import attrs

from taskorch.core.engine import adder_of, names_above, row_of
from taskorch.core.handles.handles import TaskHandle
from taskorch.errors import TaskFailure
from taskorch.kit.raised import told_of
from taskorch.kit.visible import show
from taskorch.model import TaskState
from taskorch.model.ids import (
    ids_in_run,
    in_run,
    is_below as begins_below,
    joined,
    names_in_run,
    stem_of,
)

if TYPE_CHECKING:
    from taskorch.core.engine import Runtime, Work
    from taskorch.core.kernel import TaskRow


#: The most tasks that a run's tasks may add to it, unless `start` says otherwise.
MAX_ADDED: Final = 100_000
#: Characters that make a name a pattern.
WILD: Final = frozenset("*?[")


@attrs.define
class RunRecord:
    """Data about a run in this incarnation, beside its tasks."""

    #: The number of tasks of the workflow; None: it was started in an earlier
    #: incarnation.
    size: int | None = None
    #: The number of tasks added by its own tasks, and the most that may be.
    added: int = 0
    max_added: int = MAX_ADDED
    #: The paused parts: "" is all of it, other names are prefixes.
    paused: list[str] = attrs.field(factory=list[str])

    def is_paused_at(self, name: str) -> bool:
        """Return whether a task called *name* is to be suspended when added."""
        return any(is_below(name, below) for below in self.paused)


def is_below(name: str, part: str) -> bool:
    """Return whether *name* is *part*, or begins with it; "" is all."""
    if WILD.isdisjoint(part):
        return not part or name == part or begins_below(name, part)
    return fnmatchcase(name, part) or fnmatchcase(name, joined(part, "*"))


T = TypeVar("T")
R = TypeVar("R")

#: The tasks changed in one step: the lock is held for a few milliseconds.
_SLICE: Final = 500


def is_added(work: Work) -> bool:
    """Return whether another task of the run has added this one."""
    return bool(adder_of(work))


def with_error(name: str, error: BaseException) -> str:
    """Return *name* and the error of that task, without the advice."""
    kind, text = told_of(error)
    if isinstance(error, TaskFailure) and kind == type(error).__name__:
        text = error.message
    return f"{name} ({kind}: {show(text).strip(chr(39))})"


def blockers(row: TaskRow) -> tuple[str, ...]:
    """Return ids of parents of *row* that will not complete, if it is blocked."""
    if row.state is not TaskState.BLOCKED or row.extra is None:
        return ()
    return tuple(row.extra.blocked_by)


def slices(items: Sequence[T]) -> Iterable[Sequence[T]]:
    """Yield *items* in parts of a size that may be changed in one step."""
    return (items[i : i + _SLICE] for i in range(0, len(items), _SLICE))


def in_parts(
    rt: Runtime, items: Sequence[T], change: Callable[[Sequence[T], int], R]
) -> list[R]:
    """
    Make *change* of each part of *items* in a step of its own, and return the results.

    Once one is kept, the others wait for a slow journal: no act stays half done.
    """
    done: list[R] = []
    for part in slices(items):
        with rt.patience() if done else nullcontext():
            done.append(rt.step(partial(change, part), keep=True))
    return done


def of_run(
    run_id: str, works: Mapping[str, TaskHandle[Any]]
) -> dict[str, TaskHandle[Any]]:
    """Return those of *works* that are of a run."""
    return {name: work for name, work in works.items() if row_of(work).run == run_id}


def find(runtime: Runtime, run_id: str) -> dict[str, TaskHandle[Any]]:
    """
    Find the tasks under the ids of a run, by the rest of their ids.

    Some tasks that a journal finds may be of no run: see `of_run`.
    """
    ids: dict[str, None] = {}
    if runtime.directory.recovered is not None:
        # Ended tasks of earlier incarnations are in the journal only.
        ids.update(dict.fromkeys(runtime.directory.recovered.ids(in_run(run_id))))
    with runtime.lock:
        ids.update(dict.fromkeys(runtime.kernel.runs.get(run_id, ())))
    names = names_in_run(run_id, ids)
    handles: dict[str, TaskHandle[Any]] = {}
    seen = set(names)
    while names:
        runtime.recall(ids_in_run(run_id, names))
        above: list[str] = []
        latest = {
            runtime.directory.reruns.latest(in_run(run_id, name)): name
            for name in names
        }
        for task_id, work in runtime.directory.known_all(latest).items():
            handles[latest[task_id]] = cast("TaskHandle[Any]", work)
            above += names_above(work)
        # This journal cannot be asked for ids, so the waiting tasks are asked for
        # theirs.
        names = [name for name in names_in_run(run_id, above) if name not in seen]
        seen.update(names)
    return handles


def newest(runtime: Runtime, task_id: str) -> TaskHandle[Any]:
    """
    Return the handle of the latest run of a task.

    Raises:
        UnknownTaskError: There is none.
    """
    stem = stem_of(task_id)
    runtime.recall((stem,))
    return cast("TaskHandle[Any]", runtime.directory.latest(stem))
