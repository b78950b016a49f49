"""
The runs that are known: their objects, what is remembered of them, how they are found.

A run of an earlier life is made again of its tasks, which the journal has.

Decision: 0298.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Mapping
from contextlib import suppress
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, Final

from taskorch.errors import UnknownTaskError
from taskorch.kit.visible import show
from taskorch.model import TERMINAL, TaskState
from taskorch.model.ids import names_in_run, stem_of
from taskorch.runs import _members
from taskorch.runs._meeting import Meetings
from taskorch.runs._members import RunRecord
from taskorch.runs._run import WorkflowRun
from taskorch.runtime import names_above

if TYPE_CHECKING:
    from taskorch._handles import TaskHandle
    from taskorch.runtime import AttemptContext, Runtime
    from taskorch.workflows._graph import Parents

#: Attempts that have made up names, before those that are over are forgotten.
_MANY: Final = 64
#: States of which a run that is paused has none.
_GOING_ON: Final = frozenset(
    {TaskState.PENDING, TaskState.QUEUED, TaskState.RUNNING, TaskState.RETRYING}
)


class KnownRuns:
    """
    The runs of this life, and those of earlier lives that somebody asked for.

    Attributes:
        rt: The runtime that has their tasks.
        runs: The objects of runs that somebody keeps.
        records: What is remembered of runs beside their tasks.
        meetings: The barriers and exchanges of their tasks.
    """

    def __init__(self, runtime: Runtime) -> None:
        self.rt: Runtime = runtime
        self.runs: weakref.WeakValueDictionary[str, WorkflowRun] = (
            weakref.WeakValueDictionary()
        )
        self.records: dict[str, RunRecord] = {}
        self.meetings: Meetings = Meetings(runtime)
        #: Of tasks that add tasks, the attempt, and the names that it has made up.
        self._counts: dict[str, tuple[int, dict[str, int]]] = {}

    def get(self, run_id: str) -> WorkflowRun:
        """
        The run with an id.

        Raises:
            UnknownTaskError: No workflow runs, or ran, under this id.
        """
        self.rt.look_up()
        run = self.runs.get(run_id)
        if run is not None:
            return run
        return self._found(str(run_id))

    def tasks_of(self, run_id: str) -> dict[str, TaskHandle[Any]]:
        """The tasks of a run, by their ids in the workflow."""
        return _members.of_run(run_id, _members.find(self.rt, run_id))

    def _found(self, run_id: str) -> WorkflowRun:
        """
        The run that nobody keeps.

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
        self.recall_reruns(works)
        return self.made(run_id, works, parents)

    def matching(self, pattern: str, *, only_live: bool) -> list[WorkflowRun]:
        """The runs whose ids match *pattern*, all of them or those that go on."""
        rt = self.rt
        with rt.lock:
            rows = [row for row in rt.kernel.tasks.values() if row.run]
            live = {row.run for row in rows if row.state not in TERMINAL}
            run_ids = dict.fromkeys([*self.records, *(row.run for row in rows)])
        runs: list[WorkflowRun] = []
        for run_id in run_ids:
            if fnmatchcase(run_id, pattern) and (run_id in live or not only_live):
                # One that is just being started has no tasks yet.
                with suppress(UnknownTaskError):
                    runs.append(self.runs.get(run_id) or self._found(run_id))
        return runs

    def recall_reruns(self, works: Mapping[str, TaskHandle[Any]]) -> None:
        """Look for ended re-runs of an earlier incarnation: the journal has them."""
        self.rt.recall(stem_of(work.task_id) for work in works.values())

    def made(
        self, run_id: str, works: dict[str, TaskHandle[Any]], parents: Parents
    ) -> WorkflowRun:
        """The object of a run of these tasks, and of all that they have added."""
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
        """How often an attempt has made up a name, by the word that it begins with."""
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
        """A run as known; one of an earlier incarnation as the journal shows it."""
        record = self.records.get(run_id)
        if record is None:
            record = RunRecord()
            works = self.tasks_of(run_id)
            record.added = sum(map(_members.is_added, works.values()))
            states = {work._row.state for work in works.values()}
            if TaskState.SUSPENDED in states and states.isdisjoint(_GOING_ON):
                record.paused.append("")
            record = self.records.setdefault(run_id, record)
        return record

    def forget(self, run_ids: Iterable[str]) -> None:
        """Under the lock: the journal has these runs no longer."""
        for run_id in run_ids:
            self.records.pop(run_id, None)
            self.runs.pop(run_id, None)

    def is_paused(self, run_id: str) -> bool:
        """Whether all of a run was told to pause, and not to resume since."""
        return "" in self.record(run_id).paused
