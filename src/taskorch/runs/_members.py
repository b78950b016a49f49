"""The tasks of a run: how they are found; what is remembered of runs beside them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

import attrs

from taskorch._handles import TaskHandle
from taskorch.errors import TaskFailure
from taskorch.kit.visible import said, show
from taskorch.model import TaskState
from taskorch.model.ids import ids_in_run, in_run, joined, names_in_run, stem_of
from taskorch.model.ids import is_below as begins_below
from taskorch.runtime import adder_of, names_above

if TYPE_CHECKING:
    from taskorch.kernel import TaskRow
    from taskorch.runtime import Runtime, Work


#: Tasks that the tasks of one run may add to it, unless `start` says otherwise.
MAX_ADDED: Final = 100_000
#: What makes a name a pattern.
WILD: Final = frozenset("*?[")


@attrs.define
class RunRecord:
    """What is remembered of a run in this life, beside its tasks."""

    #: How many tasks the workflow had; None: it was started in an earlier life.
    size: int | None = None
    #: How many were added by tasks of its own, and how many may be.
    added: int = 0
    max_added: int = MAX_ADDED
    #: Where it is paused: "" is all of it, else names below which it is.
    paused: list[str] = attrs.field(factory=list[str])

    def is_paused_at(self, name: str) -> bool:
        """Whether a task called *name* is to be suspended when it is added."""
        return any(is_below(name, below) for below in self.paused)


def is_below(name: str, part: str) -> bool:
    """Whether *name* is *part*, or begins with it; "" is all."""
    if WILD.isdisjoint(part):
        return not part or name == part or begins_below(name, part)
    return fnmatchcase(name, part) or fnmatchcase(name, joined(part, "*"))


T = TypeVar("T")

#: Tasks that are changed in one step: the lock is held for a few milliseconds.
_SLICE: Final = 500


def is_added(work: Work) -> bool:
    """Whether another task of the run has added this one."""
    return bool(adder_of(work))


def with_error(name: str, error: BaseException) -> str:
    """*name* and the error of that task, without what to do about it."""
    kind, text = said(error)
    text = error.message if isinstance(error, TaskFailure) else text
    return f"{name} ({kind}: {show(text).strip(chr(39))})"


def blockers(row: TaskRow) -> tuple[str, ...]:
    """The ids of what *row* waits for and will not complete, if it is blocked."""
    if row.state is not TaskState.BLOCKED or row.extra is None:
        return ()
    return tuple(row.extra.blocked_by)


def slices(items: Sequence[T]) -> Iterable[Sequence[T]]:
    """*items* in parts of a size that may be changed in one step."""
    return (items[i : i + _SLICE] for i in range(0, len(items), _SLICE))


def of_run(
    run_id: str, works: Mapping[str, TaskHandle[Any]]
) -> dict[str, TaskHandle[Any]]:
    """Those of *works* that are of a run."""
    return {name: work for name, work in works.items() if work._row.run == run_id}


def find(runtime: Runtime, run_id: str) -> dict[str, TaskHandle[Any]]:
    """
    The tasks that are known under the ids of a run, by what follows in their ids.

    Some of what a journal finds may be of no run: see `of_run`.
    """
    ids: dict[str, None] = {}
    if runtime.directory.recovered is not None:
        # Of earlier lives, what has ended is in the journal only.
        ids.update(dict.fromkeys(runtime.directory.recovered.ids(in_run(run_id))))
    with runtime.lock:
        ids.update(dict.fromkeys(runtime.kernel.runs.get(run_id, ())))
    names = names_in_run(run_id, ids)
    handles: dict[str, TaskHandle[Any]] = {}
    seen = set(names)
    while names:
        runtime.recall(ids_in_run(run_id, names))
        above: list[str] = []
        for name in names:
            latest = runtime.directory.reruns.latest(in_run(run_id, name))
            if runtime.directory.is_known(latest):
                work = runtime.directory.known(latest)
                handles[name] = cast("TaskHandle[Any]", work)
                above += names_above(work)
        # A journal that cannot be asked for ids: those who wait know what for.
        names = [name for name in names_in_run(run_id, above) if name not in seen]
        seen.update(names)
    return handles


def newest(runtime: Runtime, task_id: str) -> TaskHandle[Any]:
    """
    The handle of the latest run of a task.

    Raises:
        UnknownTaskError: There is none.
    """
    stem = stem_of(task_id)
    runtime.recall((stem,))
    return cast("TaskHandle[Any]", runtime.directory.latest(stem))
