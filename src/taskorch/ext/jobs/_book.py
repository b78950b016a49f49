"""All jobs, including those of earlier runs."""

from __future__ import annotations

from collections.abc import Iterator
from threading import RLock
from typing import Any, Final

from taskorch.api._orchestrator import TaskOrchestrator
from taskorch.core.workflows import WorkflowStatus
from taskorch.errors import InvalidTransitionError, UnknownTaskError
from taskorch.events import Event
from taskorch.ext.jobs._contract import kept_job
from taskorch.ext.jobs._record import PREFIX, JobRecord, unit_task_id
from taskorch.ext.jobs._scores import WORTH
from taskorch.ext.jobs._tasks import HALVED
from taskorch.model import TaskState
from taskorch.model.ids import in_run, run_of

_NO_END: Final = 1 << 62


class JobBook:
    """
    Records of jobs, made with the jobs or from events of earlier runs.

    Attributes:
        lock: Guards the records, their content, and the waiting jobs.
        records: The records by ids of jobs.
        waiting: Jobs of which no unit has begun, each with the number of rewards that
            its values were learnt from.
        orch: The orchestrator of the jobs, once there is one.
    """

    def __init__(self) -> None:
        self.lock = RLock()
        self.records: dict[str, JobRecord] = {}
        self.waiting: dict[str, dict[str, int]] = {}
        self.orch: TaskOrchestrator | None = None
        #: The journal with the events of earlier runs, if there is one.
        self._journal: Any = None
        self._recalled = 0
        #: Whether the records have all jobs of earlier runs.
        self._has_read_all = False

    @property
    def running(self) -> TaskOrchestrator:
        """
        The orchestrator of the jobs.

        Raises:
            InvalidTransitionError: There is none yet.
        """
        if self.orch is None:
            msg = "these jobs have no orchestrator yet"
            raise InvalidTransitionError(msg, hint="with jobs.orchestrator(): …")
        return self.orch

    def recall(self, journal: Any, last: int) -> None:
        """Read jobs of earlier runs in *journal*, whose last event has that number."""
        self._journal, self._recalled = journal, last

    def earlier(self) -> Iterator[Event]:
        """Return the events of earlier runs of the program."""
        for event, _ in () if self._journal is None else self._journal.read(0):
            if event.seq > self._recalled:
                break
            yield event

    def known(self, job_id: str) -> JobRecord:
        """
        The record of a job.

        Raises:
            UnknownTaskError: There is no such job.
        """
        record = self.found(job_id)
        if record is None:
            msg = f"no job has the id {job_id!r}"
            raise UnknownTaskError(msg, task_id=str(job_id))
        return record

    def found(self, job_id: str) -> JobRecord | None:
        """Return the record of a job, also of an earlier run; None: it is unknown."""
        record = self.records.get(job_id)
        if record is not None or self.orch is None or self.orch.journal is None:
            # Without a journal there are no jobs of earlier runs.
            return record
        try:
            status = self.orch.get_task_status(unit_task_id(job_id, 0))
        except UnknownTaskError:
            return None
        kept = (status.metadata or {}).get("job")
        if kept is None:
            return None
        job = kept_job(kept["body"])
        score = {name: status.metadata.get(name, 0.0) for name in WORTH}
        # An earlier version stored neither, and did the follow-ups at once.
        asked = kept_job(kept.get("asked") or kept["body"])
        record = JobRecord(
            *(job, asked, kept["units"], kept["threads"], kept["weight"], score),
            kept.get("specialization", job.worker_id),
            is_followed="asked" in kept,
            why=status.metadata.get("why") or kept.get("why", ""),
            is_halved=bool(status.metadata.get(HALVED)),
        )
        if self._journal is not None:
            ids = self._journal.ids(in_run(PREFIX + job_id))
            for event, _ in self._journal.select(ids, _NO_END):
                record.take_in(event)
                if event.seq <= self._recalled:
                    # The earlier run has reported it.
                    record.told = record.state
                    record.is_told_to_begin = record.has_begun
        self.records[job_id] = record
        return record

    def all(self) -> list[JobRecord]:
        """Return all records; those of earlier runs are read once."""
        if self._journal is not None and not self._has_read_all:
            task_ids = self._journal.ids(PREFIX)
            run_ids = filter(None, map(run_of, task_ids))
            for job_id in dict.fromkeys(i.removeprefix(PREFIX) for i in run_ids):
                with self.lock:
                    self.found(job_id)
            self._has_read_all = True
        return self.of_this_incarnation()

    def of_this_incarnation(self) -> list[JobRecord]:
        """Return the records that this run of the program has made or read."""
        with self.lock:
            return list(self.records.values())

    def state(self, job_id: str) -> str:
        """Return the state of a job: `queued`, `running`, `completed` or `failed`."""
        return state_of(self.running.workflows.status(PREFIX + job_id))


def state_of(status: WorkflowStatus) -> str:
    """Return the state of a job whose run has this *status*."""
    if status.state in ("completed", "failed"):
        return str(status.state)
    if status.state in ("cancelled", "blocked"):
        return "failed"
    states = (TaskState.RUNNING, TaskState.COMPLETED, TaskState.RETRYING)
    begun = any(status.counts.get(one) for one in states)
    return "running" if begun else "queued"
