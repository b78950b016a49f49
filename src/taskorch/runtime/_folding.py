"""
Folding: what the facts of earlier lives lead to.

It gives the kernel the facts, and tasks their work; the simulation folds its journals
by it, too.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Protocol

from taskorch.events import (
    EventEmitted,
    Fact,
    LateResultIgnored,
    RecoveryAttempted,
    ResultsUsed,
    TaskCheckpointed,
    TaskCompleted,
    TaskFailed,
    TaskOptionsChanged,
    TaskParentsAdded,
    TaskRenewed,
    TaskRepointed,
    TaskRetrying,
    TaskSubmitted,
)
from taskorch.kernel import Kernel, fold
from taskorch.model import Task
from taskorch.protocols import Entry
from taskorch.runtime._committer import Keeps
from taskorch.runtime._directory import Directory
from taskorch.runtime._documents import error_of_document
from taskorch.runtime._earlier import recall_earlier
from taskorch.runtime._identity import changed_task
from taskorch.runtime._late import recall_late
from taskorch.runtime._restored import MakesWork, work_of
from taskorch.runtime._submission import Submission
from taskorch.runtime._work import (
    Emitted,
    Work,
    extra_of,
    note_bonds,
    set_result,
    tried,
    turn,
)

#: Facts that change nothing but what is kept beside a task.
_BESIDE: Final = frozenset(
    {
        LateResultIgnored,
        RecoveryAttempted,
        ResultsUsed,
        TaskCheckpointed,
        TaskRenewed,
        TaskRetrying,
    }
)


class FoldingHost(MakesWork, Keeps, Protocol):
    """What folding asks of its runtime."""

    kernel: Kernel
    directory: Directory

    @property
    def submission(self) -> Submission:
        """What takes tasks in."""
        ...


class Folding:
    """
    Applies the facts of earlier lives, and gives the tasks their work again.

    The runtime, or what stands for one in a simulation, has a kernel that is new.
    """

    def __init__(self, host: FoldingHost) -> None:
        self._owner = host
        self._kernel = host.kernel
        #: Works of tasks that the user named.
        self._named: list[Work] = []

    def fold(self, entry: Entry, apply: Callable[..., None] | None = None) -> None:
        """
        Apply one fact, with what was kept beside it.

        It is about a task that gets a row, or an event from outside. *apply* gives it
        with its cargo to the kernel; None folds it.
        """
        fact: Any
        fact, document = entry
        kernel, cls = self._kernel, type(fact)
        cargo: Work | None = None
        if cls is TaskSubmitted:
            cargo = self._submitted(fact, document)
        elif cls is TaskCompleted:
            set_result(kernel.tasks[fact.task_id].cargo, document)
        elif cls is TaskFailed:
            kernel.tasks[fact.task_id].cargo._error = error_of_document(fact, document)
        elif cls is TaskOptionsChanged:
            work = kernel.tasks[fact.task_id].cargo
            work._task = changed_task(work._task, fact, document)
        elif cls is TaskParentsAdded:
            note_bonds(kernel.tasks[fact.task_id].cargo, fact)
        elif cls is TaskRepointed:
            self.note_turned(fact)
        elif cls in _BESIDE:
            self._keep_beside(fact, document)
        given: Any = Emitted(document) if cls is EventEmitted else cargo
        if apply is None:
            fold(kernel, fact, given)
        else:
            apply(fact, given)
        if cargo is not None:
            cargo._row = kernel.tasks[fact.task_id]

    def note_turned(self, fact: Fact) -> None:
        """If *fact* repoints tasks, turn them to the other run of their parent."""
        if type(fact) is not TaskRepointed:
            return
        for name in fact.dependents:
            if name in self._kernel.tasks:
                turn(self._kernel.tasks[name].cargo, fact.task_id, fact.rerun_id)

    def _keep_beside(self, fact: Any, document: Any) -> None:
        """What tells the kernel nothing, and is kept for the task and its user."""
        row = self._kernel.tasks.get(fact.task_id)
        if row is None:
            return
        if type(fact) is LateResultIgnored:
            recall_late(row.cargo, fact, document)
        elif type(fact) is RecoveryAttempted:
            extra = extra_of(row.cargo)
            extra.recoveries = (*extra.recoveries, tried(fact))
        elif type(fact) in (ResultsUsed, TaskRenewed):
            note_bonds(row.cargo, fact)
        elif type(fact) is TaskRetrying:
            if document is not None:
                recall_earlier(row.cargo, fact, document)
        else:
            extra_of(row.cargo).checkpoint = document

    def _submitted(self, fact: TaskSubmitted, task: Task) -> Work:
        work = work_of(self._owner, task)
        work._after = fact.after
        if fact.trace is not None:
            extra_of(work).trace = fact.trace
        self._owner.directory.reruns.note(fact.task_id)
        if task.idempotency_key is not None:
            self._owner.directory.keys[task.idempotency_key] = fact.task_id
        owner = self._owner
        can_be_asked = owner.committer is not None or owner.directory.recovered
        if fact.named and not can_be_asked:
            self._named.append(work)
        return work

    def reconnect(self) -> None:
        """After folding: let tasks have the work of their parents."""
        named, self._named = self._named, []
        for work in named:
            row = work._row
            if row.id not in self._kernel.tasks:
                # There is no journal that could be asked for it.
                self._owner.submission.remember(row, work)
        for row in self._kernel.tasks.values():
            if row.links is not None:
                parents = row.links.parents
                row.cargo._above = tuple(
                    [self._owner.directory.known(p.id) for p in parents]
                )
