"""The tasks of a run: which they are, how they are called, and how they are found."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice, takewhile
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

from taskorch._handles import TaskHandle
from taskorch.errors import TaskFailure
from taskorch.model import TaskState
from taskorch.model._ids import ids_in_run, in_run, names_in_run, run_of, stem_of
from taskorch.model._show import show
from taskorch.runtime._work import ADDED, names_above

if TYPE_CHECKING:
    from taskorch.kernel import TaskRow
    from taskorch.runtime._runtime import Runtime
    from taskorch.runtime._work import Work

T = TypeVar("T")

#: Tasks that are changed in one step: the lock is held for a few milliseconds.
_SLICE: Final = 500


def is_added(work: Work) -> bool:
    """Whether another task of the run has added this one."""
    task = work._task
    return task is not None and bool((task.metadata or {}).get(ADDED))


def with_error(name: str, error: BaseException) -> str:
    """*name* and the error of that task, without what to do about it."""
    text = error.message if isinstance(error, TaskFailure) else str(error)
    return f"{name} ({type(error).__name__}: {show(text).strip(chr(39))})"


def blockers(row: TaskRow) -> tuple[str, ...]:
    """The ids of what *row* waits for and will not complete, if it is blocked."""
    if row.state is not TaskState.BLOCKED or row.extra is None:
        return ()
    return tuple(row.extra.blocked_by)


def slices(items: Sequence[T]) -> Iterable[Sequence[T]]:
    """*items* in parts of a size that may be changed in one step."""
    return (items[i : i + _SLICE] for i in range(0, len(items), _SLICE))


class Seen:
    """
    The ids of the tasks of each run, as far as memory has had them.

    It is asked seldom, and looks then at the tasks that have come since.
    """

    def __init__(self, runtime: Runtime) -> None:
        self._rt = runtime
        self._ids: dict[str, dict[str, None]] = {}
        #: The number of the last task that was looked at, and how many ids had left.
        self._last = -1
        self._left = 0

    def ids(self, run_id: str) -> list[str]:
        """The ids of the tasks of a run, without the numbers of their re-runs."""
        kernel = self._rt.kernel
        with self._rt.lock:
            evicted = kernel.evicted.by_id
            if len(evicted) < self._left:
                self._left = 0
            self._note(list(islice(reversed(evicted), len(evicted) - self._left)))
            self._left = len(evicted)
            # What came last stands last.
            came = list(takewhile(self._is_new, reversed(kernel.tasks.values())))
            self._note([row.id for row in came])
            if came:
                self._last = came[0].seq
            return list(self._ids.get(run_id, ()))

    def _is_new(self, row: TaskRow) -> bool:
        return row.seq > self._last

    def _note(self, task_ids: list[str]) -> None:
        """Note ids, of which the last comes first."""
        for task_id in reversed(task_ids):
            run_id = run_of(task_id)
            if run_id:
                self._ids.setdefault(run_id, {})[stem_of(task_id)] = None


def find(
    runtime: Runtime, run_id: str, in_memory: Iterable[str]
) -> dict[str, TaskHandle[Any]]:
    """
    The tasks of a run that are known, by their ids in the workflow.

    *in_memory* are the ids of its tasks that memory has, or has had.
    """
    ids: dict[str, None] = {}
    if runtime.directory.recovered is not None:
        # Of earlier lives, what has ended is in the journal only.
        ids.update(dict.fromkeys(runtime.directory.recovered.ids(in_run(run_id))))
    ids.update(dict.fromkeys(in_memory))
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
