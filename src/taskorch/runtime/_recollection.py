"""
What a journal knows of tasks that have left memory.

Decision: 0117.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from itertools import islice, pairwise
from typing import Any, Final, Protocol

from taskorch.errors import JournalUnavailableError, ResultGoneError
from taskorch.events import (
    TASK_ID,
    LateResultIgnored,
    OrchestratorStarted,
    ResultsUsed,
    TaskCompleted,
    TaskFailed,
    TaskOptionsChanged,
    TaskParentsAdded,
    TaskRenewed,
    TaskReprioritised,
    TaskRetrying,
    TaskStarted,
    TaskSubmitted,
)
from taskorch.kernel import (
    AgentRow,
    Bucket,
    Spec,
    TaskRow,
    TypeRow,
    remember,
    row_extra,
)
from taskorch.model import TERMINAL, Agent, TaskState
from taskorch.model._ids import number_of, numbered
from taskorch.protocols import DurableJournal, Entry
from taskorch.runtime._committer import Keeps
from taskorch.runtime._documents import error_of_document
from taskorch.runtime._earlier import recall_earlier
from taskorch.runtime._identity import changed_task
from taskorch.runtime._late import recall_late
from taskorch.runtime._restored import MakesWork, work_of
from taskorch.runtime._work import Work, extra_of, note_bonds, set_result, task_of

_ENDED: Final = {
    "TaskCompleted": TaskState.COMPLETED,
    "TaskFailed": TaskState.FAILED,
    "TaskCancelled": TaskState.CANCELLED,
}


class RecollectionHost(MakesWork, Keeps, Protocol):
    """What a recollection asks of its runtime."""

    #: The number of the last fact that is kept.
    committed: int


class Recollection:
    """What a journal knows of tasks that have left memory."""

    def __init__(self, host: RecollectionHost, journal: DurableJournal) -> None:
        self._rt = host
        self._journal = journal

    def ends(self, ids: Collection[str]) -> dict[str, TaskState]:
        """How those of *ids* ended that have."""
        found = self._journal.ends(ids)
        return {task_id: _ENDED[kind] for task_id, kind in found.items()}

    def ids(self, prefix: str) -> Sequence[str]:
        """The ids that begin with *prefix*, in order."""
        return self._journal.ids(prefix)

    def entries(self, task_id: str) -> list[Entry]:
        """The facts about a run of a task, with what was kept of each, in order."""
        return list(self._journal.select((task_id,), self._rt.committed))

    def latest(self, stem: str) -> str:
        """The latest run of a task, by the id that all its runs have."""
        begin = numbered(stem)
        runs = [name for name in self.ids(begin) if name.startswith(begin)]
        return max(runs, key=number_of, default=stem)

    def id_of_key(self, key: str) -> str | None:
        """The task that was submitted with an idempotency key."""
        return self._journal.id_of_key(key)

    def submitted(self, after: int, until: int, most: int) -> Sequence[tuple[int, str]]:
        """The next submissions, by their numbers."""
        return self._journal.submitted(after, until, most)

    def last_before_life(self, task_id: str, began: int) -> int | None:
        """
        When the last fact came of the life before that which began at *began*.

        Args:
            task_id: A task that the earlier life had left, of which a fact says so.
            began: A time, in ns.

        Returns:
            The time, in ns; None if no life began then.
        """
        about = self._journal.select((task_id,), self._rt.committed)
        number = next((fact.seq for fact, _ in about if fact.at_ns == began), 0)
        # A life begins with what became of all that was left: one fact for each, at
        # the same time.
        for many in (100, 100_000):
            first = max(0, number - many)
            facts = [fact for fact, _ in islice(self._journal.read(first), many)]
            for last, fact in pairwise(facts):
                if type(fact) is OrchestratorStarted and fact.at_ns == began:
                    at: int = last.at_ns
                    return at
            if not facts or facts[0].at_ns < began:
                # All that came at that time has been seen.
                break
        return None

    def recollect(self, task_id: str, state: TaskState) -> Work:
        """
        A handle for a task that has ended, with its result or its error.

        Raises:
            JournalUnavailableError: Its end is still on its way into the journal.
            ResultGoneError: The journal does not know it.
        """
        rt = self._rt
        work = self.recollect_all((task_id,)).get(task_id)
        ended = work is not None and work._row.state in TERMINAL
        commits = None if rt.committer is None else rt.committer.commits
        on_its_way = commits is not None and bool(commits.pending or commits.in_hand)
        if not ended and (work is not None or on_its_way):
            msg = f"task {task_id} is {state}, and its end is not kept yet"
            raise JournalUnavailableError(msg, outcome="refused", hint="ask again")
        if work is None:
            msg = f"task {task_id} is {state}, and its facts are not in the journal"
            raise ResultGoneError(msg, task_id=task_id)
        # As of those that have left memory, the row does not lead back to the handle.
        work._row.cargo = None
        return work

    def recollect_all(self, ids: Collection[str]) -> dict[str, Work]:
        """The tasks of *ids* that the journal knows, with rows that no kernel has."""
        rt = self._rt
        works: dict[str, Work] = {}
        for fact, document in self._journal.select(ids, rt.committed):
            if type(fact) is TaskSubmitted:
                event = fact
                work = works[event.task_id] = work_of(rt, document)
                work._after = event.after
                if event.trace is not None:
                    extra_of(work).trace = event.trace
                bucket = Bucket(Spec(event.type, owner=event.owner), TypeRow())
                row = TaskRow(event.task_id, 0, bucket, work, event.at_ns)
                work._row = row
                extra = row_extra(row)
                extra.priority = event.priority
                extra.past = [(TaskState.QUEUED, event.at_ns, "")]
            elif (known := works.get(fact[TASK_ID])) is not None:
                _recollect(known, fact, document)
        return works


def _recollect(work: Work, event: Any, document: Any) -> None:
    """Note what *event*, a later fact, says of *work*, which is in no kernel."""
    cls, row = type(event), work._row
    now = event.at_ns
    state = _ENDED.get(cls.__name__)
    if cls is TaskStarted:
        row.started_ns, row.attempt = now, event.attempt
        row.agent = AgentRow(Agent(event.agent_id))
        remember(row, TaskState.RUNNING, now, event.agent_id)
    elif cls is TaskRetrying:
        remember(row, TaskState.RETRYING, now, f"{event.error_type}: {event.message}")
        recall_earlier(work, event, document)
    elif cls is TaskReprioritised:
        row_extra(row).priority = event.priority
    elif cls in (TaskParentsAdded, TaskRenewed, ResultsUsed):
        note_bonds(work, event)
    elif cls is TaskOptionsChanged:
        work._task = changed_task(task_of(row), event, document)
        row_extra(row).priority = event.priority
        remember(row, row.state, now, f"options changed: {', '.join(event.changed)}")
    elif cls is LateResultIgnored:
        recall_late(work, event, document)
    elif state is not None:
        row.state, row.ended_ns, work._visible_after = state, now, event.seq
        detail = ""
        if cls is TaskCompleted:
            set_result(work, document)
        elif cls is TaskFailed:
            work._error = error_of_document(event, document)
            _fail(row, event)
            detail = f"{event.error_type}: {event.message}"
        else:
            detail = row_extra(row).stop_reason = event.reason
        remember(row, state, now, detail)


def _fail(row: TaskRow, event: TaskFailed) -> None:
    """Note in *row*, which is in no kernel, how it failed."""
    extra = row_extra(row)
    extra.error = (event.error_type, event.message, event.cause)
    extra.first_roots = event.root_causes
