"""The tasks of one orchestrator by their ids: in memory, or in its journal."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from contextlib import nullcontext
from threading import Lock
from typing import Any, Final, Protocol

from taskorch.errors import ResultGoneError, UnknownTaskError
from taskorch.kernel import Bucket, Kernel, Spec, TaskRow, TypeRow
from taskorch.model import Task, TaskState
from taskorch.model._ids import has_number, run_of, stem_of
from taskorch.model._show import show
from taskorch.runtime._recollection import Recollection
from taskorch.runtime._reruns import Reruns, refuse_itself
from taskorch.runtime._restored import MakesWork
from taskorch.runtime._work import NO_VARIABLES, Work

#: What to do about a task of another orchestrator.
_FOREIGN: Final = "wait there, with handle.result(), and hand over what it returns"


class DirectoryHost(MakesWork, Protocol):
    """What a directory asks of its runtime."""

    kernel: Kernel


class Directory:
    """
    Finds the task, and the run of it, that an id means.

    The caller has the lock, but for what only asks for one id.
    """

    def __init__(self, host: DirectoryHost) -> None:
        self._owner = host
        #: What the ids of tasks that were run again stand for.
        self.reruns: Reruns = Reruns()
        #: What the journal knows of tasks that have left memory, if it can be asked.
        self.recovered: Recollection | None = None
        #: Idempotency keys.
        self.keys: dict[str, str] = {}
        #: The runs of workflows that this life knows; how many tasks there were before.
        self.runs: Collection[str] = ()
        self.earlier: int = 0

    def is_known(self, task_id: str) -> bool:
        """Whether there is, or was, such a run of a task, as far as memory goes."""
        kernel = self._owner.kernel
        return task_id in kernel.tasks or task_id in kernel.evicted

    def run_of(self, row: TaskRow) -> str:
        """
        The run of a workflow that a task is of; "" if of none, whatever its id is.

        Of what earlier lives have submitted, nothing but the id says it.
        """
        run_id = run_of(row.id)
        if not run_id or run_id in self.runs:
            return run_id
        first: TaskRow | None = row
        if has_number(row.id):
            first = self._owner.kernel.tasks.get(stem_of(row.id))
        number = 0 if first is None else first.seq
        return run_id if number < self.earlier else ""

    def known(self, task_id: str, by: Task | None = None) -> Work:
        """
        The work of a run of a task, by the id of the run.

        Raises:
            UnknownTaskError: There is none.
        """
        kernel = self._owner.kernel
        row = kernel.tasks.get(task_id)
        if row is not None and row.cargo is not None:
            work: Work = row.cargo
            return work
        state = kernel.evicted.get(task_id)
        if state is not None:
            if self.recovered is not None:
                return self.recovered.recollect(task_id, state)
            return _gone(self._owner, task_id, state)
        who = "" if by is None else f"{_name_of(by)} needs {task_id!r}, but "
        msg = f"{who}no task has the id {task_id!r}"
        raise UnknownTaskError(msg, task_id=task_id)

    def latest(self, task_id: str) -> Work:
        """
        The work of the run that *task_id* means: the latest, if it does not say which.

        Raises:
            UnknownTaskError: There is none.
        """
        return self.known(self.reruns.latest(task_id))

    def find(self, ref: Any, by: Task) -> Work:
        """
        The work that *ref*, an id, a handle or a submitted Task, stands for.

        Raises:
            UnknownTaskError: There is none.
            CycleError: It is a run of *by* itself, the task that depends on it.
        """
        work = self._of_work(ref, by) if isinstance(ref, Work) else self._find(ref, by)
        refuse_itself(work._row.id, by)
        return work

    def _find(self, ref: Any, by: Task) -> Work:
        if isinstance(ref, str):
            return self.known(self.reruns.latest(ref), by)
        if not isinstance(ref, Task):
            msg = f"{_name_of(by)} needs {show(ref)}, which is no id, handle or task"
            raise UnknownTaskError(msg, task_id=by.id)
        name = ref._submitted_as or ref.id
        if name is None:
            msg = f"{_name_of(by)} needs {_name_of(ref)}, which was not submitted"
            hint = "submit it first, or in the same list of tasks"
            raise UnknownTaskError(msg, hint=hint, task_id=by.id)
        name = self.reruns.latest(stem_of(name))
        if not self.is_known(name):
            msg = (
                f"{_name_of(by)} needs task {name}, which was not submitted here, or "
                "was submitted to another orchestrator since"
            )
            raise UnknownTaskError(msg, hint=_FOREIGN, task_id=by.id)
        return self.known(name, by)

    def _of_work(self, work: Work, by: Task) -> Work:
        """What a handle stands for: a later run, if this one came to nothing."""
        if work._rt is not self._owner:
            msg = f"{_name_of(by)} needs {work!r}, which is of another orchestrator"
            raise UnknownTaskError(msg, hint=_FOREIGN, task_id=by.id)
        row = work._row
        if row.state not in (TaskState.FAILED, TaskState.CANCELLED):
            return work
        latest = self.reruns.latest(stem_of(row.id))
        return work if latest == row.id else self.known(latest)

    # -- what has left memory ------------------------------------------------------

    def recall(self, names: Iterable[str], lock: Lock | None = None) -> None:
        """
        Look in the journal for tasks of *names* that have left memory.

        It is read without the *lock*, unless the caller has that: then it is None.

        Raises:
            JournalError: It cannot be read.
        """
        if self.recovered is None:
            return
        unknown = self._unknown(names)
        while unknown:
            found = self.recovered.ends(unknown)
            with nullcontext() if lock is None else lock:
                unknown = self._recalled(found)

    def _unknown(self, names: Iterable[str]) -> set[str]:
        """The latest runs of *names* of which memory says nothing."""
        latest = map(self.reruns.latest, names)
        return {name for name in latest if not self.is_known(name)}

    def _recalled(self, found: Mapping[str, TaskState]) -> set[str]:
        """Note what has ended; the re-runs that may have, too, are returned."""
        self._owner.kernel.remember_ended(found)
        for name in found:
            self.reruns.note(name)
        return self._unknown(self.reruns.next_id(name) for name in found)


def _gone(owner: MakesWork, task_id: str, state: TaskState) -> Work:
    """A handle for a task that has left memory."""
    work = owner.new_work(None, (), {}, None, NO_VARIABLES)
    # As those that have left memory, it does not lead back to the handle.
    row = TaskRow(task_id, 0, Bucket(Spec(""), TypeRow()), None, 0)
    row.state = state
    work._row = row
    msg = (
        f"task {task_id} is {state}, and finished so long ago that its result has "
        "left memory"
    )
    work._error = ResultGoneError(msg, task_id=task_id)
    return work


def _name_of(task: Task) -> str:
    return f"task {task.id}" if task.id else f"a task of type {task.type!r}"
