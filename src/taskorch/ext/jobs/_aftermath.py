"""Follow-ups of the events of units: messages, rewards, second runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from threading import Lock
from typing import Any, Final

from taskorch.errors import UnknownTaskError
from taskorch.events import (
    Event,
    PoolRelieved,
    PoolSaturated,
    TaskCancelled,
    TaskCompleted,
    TaskEvent,
    TaskFailed,
    TaskRetrying,
    TaskStarted,
    TaskSubmitted,
)
from taskorch.ext.jobs._book import JobBook
from taskorch.ext.jobs._config import JobConfig
from taskorch.ext.jobs._cycles import DOCUMENTS, Act
from taskorch.ext.jobs._hearing import Hearing
from taskorch.ext.jobs._ledger import JobLedger
from taskorch.ext.jobs._metrics import JobMetrics
from taskorch.ext.jobs._news import News
from taskorch.ext.jobs._record import PREFIX, JobRecord
from taskorch.ext.jobs._scores import Scores
from taskorch.kit.fence import log_of
from taskorch.model.ids import first_of, has_number, last_of

_LOG: Final = log_of(__name__)
#: The document with the number of the last event whose follow-ups are done.
_FOLLOWED: Final = "followed"
#: The sources of the reward for a failed job, and of that in a job's body.
_FAILURE: Final = "failure"
_SIGNAL: Final = "job_payload.reward_signal"


class Aftermath:
    """
    Listener for events of units, which does the follow-ups for their jobs.

    After a crash, the next run of the program does the missing follow-ups: it reads the
    events from a number on again, and a document stores the number.

    Args:
        config: The actions at each transition.
        book: The jobs.
        news: The hooks and topics.
        hearing: Collects samples of messages.
        scores: Get the durations of units.
        metrics: The metrics of jobs.
    """

    def __init__(
        self,
        config: JobConfig,
        book: JobBook,
        news: News,
        hearing: Hearing,
        scores: Scores,
        metrics: JobMetrics,
    ) -> None:
        self._config = config
        self._book = book
        self._news = news
        self._hearing = hearing
        self._scores = scores
        self._metrics = metrics
        self.ledger: JobLedger = JobLedger()
        #: The pools that are nearly full.
        self.saturated: frozenset[str] = frozenset()
        #: The lock for running a unit again, taken before the lock of the book.
        self._recovering = Lock()
        #: The number of the last event whose follow-ups are done, and the number in the
        #: journal.
        self._followed = self._followed_kept = 0

    @property
    def recovers(self) -> bool:
        """True if units that have failed are run again."""
        return self._config.does("running_to_failed", "schedule_recovery_attempt")

    # -- events --------------------------------------------------------------------

    def hear(self, event: Event) -> None:
        """Handle an event of this run of the program."""
        if isinstance(event, PoolSaturated | PoolRelieved):
            with self._book.lock:
                if isinstance(event, PoolSaturated):
                    self.saturated |= {event.pool}
                else:
                    self.saturated -= {event.pool}
            self._enter(event)
        elif isinstance(event, TaskEvent) and event.task_id.startswith(PREFIX):
            run_id = first_of(event.task_id)
            job_id = run_id.removeprefix(PREFIX)
            with self._book.lock:
                record = self._book.found(job_id)
                if record is not None:
                    record.take_in(event)
            if record is not None:
                if not isinstance(event, TaskSubmitted):
                    self._of_unit(event, record)
                if isinstance(event, TaskSubmitted | TaskStarted):
                    self._begin(event, record)
            self._followed = max(self._followed, event.seq)

    def _of_unit(self, event: TaskEvent, record: JobRecord) -> None:
        job_id = record.job.job_id
        with self._book.lock:
            self._book.waiting.pop(job_id, None)
            # The record may know an event before it is heard, so a change of state
            # counts.
            was, record.told = record.told, record.state
        if isinstance(event, TaskStarted):
            # A start has no other follow-up.
            self._enter(event)
            return
        if isinstance(event, TaskCompleted | TaskRetrying | TaskFailed):
            if isinstance(event, TaskCompleted):
                with self._book.lock:
                    self._scores.note(record.job.objective, event.latency)
            self._hearing.note(
                {
                    "event": type(event).__name__,
                    "seq": event.seq,
                    "at_ns": event.at_ns,
                    "task_id": event.task_id,
                    "attempt": event.attempt,
                    "job_id": job_id,
                    "objective": record.job.objective,
                }
            )
        self._enter(event)
        if record.told != was and record.told == "completed":
            self._completed(record, event)
        elif record.told != was and record.told == "failed":
            self._failed(record, event)
        if isinstance(event, TaskCompleted | TaskFailed | TaskCancelled):
            # Rewards of the job from before this unit began count for the unit, too.
            for source in [*record.rewards]:
                self._try(job_id, self._make_up, record, source)
        self._follow(record)

    def _begin(self, event: TaskEvent, record: JobRecord) -> None:
        """Report once that all units are made and the job has begun."""
        with self._book.lock:
            if record.is_told_to_begin or not record.has_begun:
                return
            record.is_told_to_begin = True
        units = [last_of(each) for each in record.unit_ids]
        self._publish("spawned", record, event, units=units)
        if self._config.does("queued_to_running", "publish_start_event"):
            self._publish("started", record, event)

    def _completed(self, record: JobRecord, event: Event) -> None:
        metrics = self._metrics.of(record)
        self._publish("completed", record, event, metrics=metrics)
        if self._config.does("running_to_completed", "notify_judgement_system"):
            notice = {"kind": "completed", "job_id": record.job.job_id, **metrics}
            self._news.call("metadata_pipeline", notice)

    def _failed(self, record: JobRecord, event: Any) -> None:
        if self._config.does("running_to_failed", "publish_failure_event"):
            why = getattr(event, "message", "") or getattr(event, "reason", "")
            self._publish("failed", record, event, why=why)

    def _publish(self, kind: str, record: JobRecord, event: Event, **more: Any) -> None:
        message = {"event": kind, "job_id": record.job.job_id, "at": event.at, **more}
        self._news.publish("job_events", message)

    def _enter(self, event: Event) -> None:
        """Enter the resources of *event* in the ledger, and publish the entry."""
        message = self.ledger.enter(event)
        if message is not None:
            for about in ("resource_updates", "audit_logging"):
                self._news.publish(about, message)

    # -- rewards -------------------------------------------------------------------

    def give(self, job_id: str, value: float, source: str) -> bool:
        """Reward the units of a job; return False if that *source* did so before."""
        with self._book.lock:
            record = self._book.found(job_id)
            if record is None or source in record.rewards:
                return record is not None and self._make_up(record, source)
            record.rewards[source] = value
            record.rewarded[source] = set()
            self._make_up(record, source)
        notice = {"kind": "reward", "job_id": job_id, "value": value, "source": source}
        self._news.call("learning_feedback_pipeline", notice)
        return True

    def _make_up(self, record: JobRecord, source: str) -> bool:
        """Store the reward of *source* for each unit; return whether any lacked it."""
        changed = False
        for task_id in record.unrewarded(source):
            value = record.rewards[source]
            # The other units do not exist before the first one begins.
            with suppress(UnknownTaskError):
                if self._book.running.reward_task(task_id, value, source=source):
                    record.rewarded[source].add(task_id)
                    changed = True
        return changed

    # -- follow-ups ----------------------------------------------------------------

    def _follow(self, record: JobRecord) -> None:
        """
        Do the follow-ups of a job's state that were not done yet.

        A unit that has failed once is run again. A job with a unit that has failed
        again gets the reward -1, a completed one the reward in its body. A cancelled
        job gets none, since that does not tell how good it was.
        """
        job_id, signal = record.job.job_id, record.job.reward_signal
        recovers = self.recovers
        improves = self._config.does(
            "running_to_completed", "update_worker_improvement_metrics"
        )
        with self._book.lock:
            to_recover = record.to_recover if recovers else []
        for task_id in to_recover:
            self._try(job_id, self.recover, record, task_id)
        has_failed = record.has_failed_again or (record.to_recover and not recovers)
        if has_failed and _FAILURE not in record.rewards:
            self._try(job_id, self.give, job_id, -1.0, _FAILURE)
        has_done = record.state == "completed" and improves and signal is not None
        if has_done and _SIGNAL not in record.rewards:
            self._try(job_id, self.give, job_id, signal, _SIGNAL)

    def recover(self, record: JobRecord, task_id: str) -> None:
        """Run a failed unit again, once, even if several callers see the failure."""
        orch = self._book.running
        with self._recovering:
            with self._book.lock:
                was_run_again = record.was_run_again(task_id)
                record.recover(task_id)
            latest = orch.get_task_status(task_id).task_id
            if not (was_run_again or has_number(latest)):
                orch.rerun_task(task_id)

    @staticmethod
    def _try(job_id: str, act: Callable[..., object], *arguments: Any) -> None:
        """Do one follow-up; log its error, so that the others are done."""
        try:
            act(*arguments)
        except Exception as error:  # noqa: BLE001 - told: the job stays as it is
            _LOG.warning("what follows for job %s: %s", job_id, error)

    # -- earlier runs --------------------------------------------------------------

    def restore(self, kept: Callable[[str], Mapping[str, Any]]) -> None:
        """Continue where an earlier run of the program ended, by the document."""
        followed = kept(DOCUMENTS).get(_FOLLOWED)
        # Another program may have written this document: then all events are read.
        self._followed = self._followed_kept = followed if type(followed) is int else 0

    def recall(self, journal: Any, last: int) -> None:
        """Do what earlier runs left undone; *last* numbers their last event."""
        ids: dict[str, None] = {}
        for event, _ in journal.read(self._followed) if self._followed < last else ():
            if isinstance(event, TaskEvent) and event.task_id.startswith(PREFIX):
                ids[first_of(event.task_id).removeprefix(PREFIX)] = None
        self._followed = max(self._followed, last)
        # This happens before any attempt, since a program may end soon after its start.
        for job_id in ids:
            self._try(job_id, self._follow_job, job_id)

    def _follow_job(self, job_id: str) -> None:
        with self._book.lock:
            record = self._book.found(job_id)
        if record is not None and record.is_followed:
            for source in list(record.rewards):
                self._make_up(record, source)
            self._follow(record)

    def keep(self) -> Iterable[Act]:
        """Return the command that stores the progress, if there was any since."""
        number = self._followed
        if number == self._followed_kept:
            return []
        self._followed_kept = number
        return [Act(lambda orch: orch.kept(DOCUMENTS).update({_FOLLOWED: number}))]
