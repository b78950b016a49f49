"""
The runs that are known: their objects, the data kept of them, and how they are found.

A run of an earlier incarnation is made again from its tasks, which the journal has.

Decision: workflows.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable
from contextlib import suppress
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, Final

from taskorch.core.engine import names_above, row_of
from taskorch.core.runs import _members
from taskorch.core.runs._meeting import Meetings
from taskorch.core.runs._members import RunRecord
from taskorch.core.runs._run import WorkflowRun
from taskorch.errors import UnknownTaskError
from taskorch.kit.visible import as_text, show
from taskorch.model import TERMINAL, TaskState
from taskorch.model.ids import names_in_run

if TYPE_CHECKING:
    from taskorch.core.engine import AttemptContext, Runtime
    from taskorch.core.handles.handles import TaskHandle
    from taskorch.core.workflows._graph import Parents

#: The number of attempts with counters for names above which ended ones are dropped.
_MANY: Final = 64
#: States that no task of a paused run has.
_GOING_ON: Final = frozenset(
    {TaskState.PENDING, TaskState.QUEUED, TaskState.RUNNING, TaskState.RETRYING}
)


class KnownRuns:
    """
    The runs of this incarnation, and earlier ones that somebody asked for.

    Attributes:
        rt: The runtime that has their tasks.
        runs: The objects of runs that somebody keeps.
        records: The data kept of runs beside their tasks.
        meetings: The barriers and exchanges of their tasks.
    """

    def __init__(self, runtime: Runtime) -> None:
        self.rt: Runtime = runtime
        self.runs: weakref.WeakValueDictionary[str, WorkflowRun] = (
            weakref.WeakValueDictionary()
        )
        self.records: dict[str, RunRecord] = {}
        self.meetings: Meetings = Meetings(runtime)
        #: By task that adds tasks: the attempt, and the number of its generated names.
        self._counts: dict[str, tuple[int, dict[str, int]]] = {}

    def get(self, run_id: str) -> WorkflowRun:
        """
        Return the run with an id.

        Raises:
            UnknownTaskError: No workflow runs, or ran, under this id.
        """
        self.rt.look_up()
        run_id = as_text(run_id)
        run = self.runs.get(run_id)
        if run is not None:
            return run
        return self._found(run_id)

    def tasks_of(self, run_id: str) -> dict[str, TaskHandle[Any]]:
        """Return the tasks of a run, by their ids in the workflow."""
        return _members.of_run(run_id, _members.find(self.rt, run_id))

    def _found(self, run_id: str) -> WorkflowRun:
        """
        Return a new object of a run, as nobody keeps one.

        Raises:
            UnknownTaskError: There is none.
        """
        works = self.tasks_of(run_id)
        record = self.records.get(run_id)
        if not works and (record is None or record.size != 0):
            msg = f"no workflow has been started with the id {show(run_id)}"
            raise UnknownTaskError(msg, hint="orch.workflows.start(workflow, id=…)")
        parents = {
            name: tuple(names_in_run(run_id, names_above(work)))
            for name, work in works.items()
        }
        return self.made(run_id, works, parents)

    def matching(self, pattern: str, *, only_live: bool) -> list[WorkflowRun]:
        """Return the runs whose ids match *pattern*, all or only unfinished ones."""
        rt = self.rt
        with rt.lock:
            rows = [row for row in rt.kernel.tasks.values() if row.run]
            live = {row.run for row in rows if row.state not in TERMINAL}
            run_ids = dict.fromkeys([*self.records, *(row.run for row in rows)])
        runs: list[WorkflowRun] = []
        for run_id in run_ids:
            if fnmatchcase(run_id, pattern) and (run_id in live or not only_live):
                # A run that is just being started has no tasks yet.
                with suppress(UnknownTaskError):
                    runs.append(self.runs.get(run_id) or self._found(run_id))
        return runs

    def made(
        self, run_id: str, works: dict[str, TaskHandle[Any]], parents: Parents
    ) -> WorkflowRun:
        """Return an object of the run of these tasks, and all that they have added."""
        rt = self.rt
        run = WorkflowRun(self, run_id, works, parents)
        run = self.runs.setdefault(run_id, run)
        record = self.records.get(run_id)
        added = 0 if record is None else record.added
        if added and added > sum(map(_members.is_added, run.handles.values())):
            # Its tasks may have added others before the run was entered in `runs`.
            handles = self.tasks_of(run_id)
            with rt.lock:
                for work in handles.values():
                    run._enter(work)
        return run

    def counts_of(self, inside: AttemptContext) -> dict[str, int]:
        """Return the counts of an attempt's generated names, by their first word."""
        attempt, counts = self._counts.get(inside.task_id, (0, {}))
        if attempt != inside.attempt:
            counts = {}
            if len(self._counts) > _MANY:
                for task_id in list(self._counts):
                    row = self.rt.kernel.tasks.get(task_id)
                    if row is None or row.state in TERMINAL:
                        self._counts.pop(task_id, None)
            self._counts[inside.task_id] = inside.attempt, counts
        return counts

    def record(self, run_id: str) -> RunRecord:
        """Return the record of a run; an earlier one is read from the journal."""
        record = self.records.get(run_id)
        if record is None:
            record = RunRecord()
            works = self.tasks_of(run_id)
            record.added = sum(map(_members.is_added, works.values()))
            states = {row_of(work).state for work in works.values()}
            if TaskState.SUSPENDED in states and states.isdisjoint(_GOING_ON):
                record.paused.append("")
            record = self.records.setdefault(run_id, record)
        return record

    def forget(self, run_ids: Iterable[str]) -> None:
        """Forget runs that have left the journal; hold the lock."""
        for run_id in run_ids:
            self.records.pop(run_id, None)
            self.runs.pop(run_id, None)

    def is_paused(self, run_id: str) -> bool:
        """Return whether all of a run was paused, and not resumed since."""
        return "" in self.record(run_id).paused
