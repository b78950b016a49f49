"""What follows from the facts about units: news, rewards, second runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from threading import Lock
from typing import Any, Final

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
)
from taskorch.frontends.jobs._book import JobBook
from taskorch.frontends.jobs._config import JobConfig
from taskorch.frontends.jobs._cycles import DOCUMENTS, Act
from taskorch.frontends.jobs._hearing import Hearing
from taskorch.frontends.jobs._ledger import JobLedger
from taskorch.frontends.jobs._metrics import JobMetrics
from taskorch.frontends.jobs._news import News
from taskorch.frontends.jobs._record import PREFIX, JobRecord
from taskorch.frontends.jobs._scores import Scores
from taskorch.kit.fence import log_of
from taskorch.model.ids import first_of, has_number

_LOG: Final = log_of(__name__)
#: The document that says up to which fact all that follows from facts was done.
_FOLLOWED: Final = "followed"
#: Who says how good a job was that has failed for good, and one that says it itself.
_FAILURE: Final = "failure"
_SIGNAL: Final = "job_payload.reward_signal"


class Aftermath:
    """
    Hears the facts about units, and does what follows for their jobs.

    What a crash has left out is done by the next life: the facts from a number on are
    read again, and a document keeps the number.

    Args:
        config: Says what is done at which transition.
        book: The jobs.
        news: Who is told.
        hearing: Remembers what messages are like.
        scores: Hear how long units took.
        metrics: What is measured of jobs.
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
        self.saturated: set[str] = set()
        #: Held while a unit is run again; the lock of the book may be taken in it.
        self._recovering = Lock()
        #: The number of the last fact from which all that follows was done, and that
        #: which the journal has kept of it.
        self._followed = self._followed_kept = 0

    @property
    def recovers(self) -> bool:
        """Whether a unit that has failed is run again."""
        return self._config.does("running_to_failed", "schedule_recovery_attempt")

    # -- facts ---------------------------------------------------------------------

    def hear(self, event: Event) -> None:
        """Take in a fact of this life."""
        if isinstance(event, PoolSaturated | PoolRelieved):
            with self._book.lock:
                if isinstance(event, PoolSaturated):
                    self.saturated.add(event.pool)
                else:
                    self.saturated.discard(event.pool)
            self._enter(event)
        elif isinstance(event, TaskEvent) and event.task_id.startswith(PREFIX):
            run_id = first_of(event.task_id)
            self._of_unit(event, run_id.removeprefix(PREFIX))
            self._followed = max(self._followed, event.seq)

    def _of_unit(self, event: TaskEvent, job_id: str) -> None:
        with self._book.lock:
            record = self._book.found(job_id)
            if record is None:
                return
            record.take_in(event)
            self._book.waiting.pop(job_id, None)
            # Facts may be known before they are told of: what is new is the state.
            was, record.told = record.told, record.state
        if (
            isinstance(event, TaskStarted)
            and was == "queued"
            and self._config.does("queued_to_running", "publish_start_event")
        ):
            self._publish("started", record, event)
        elif isinstance(event, TaskCompleted | TaskRetrying | TaskFailed):
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
            # What was said of the job before this unit had begun counts for it, too.
            for source in [*record.rewards]:
                self._try(job_id, self._make_up, record, source)
        self._follow(record)

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
        """Enter in the ledger what *event* says of resources, and publish it."""
        message = self.ledger.enter(event)
        if message is not None:
            for about in ("resource_updates", "audit_logging"):
                self._news.publish(about, message)

    # -- rewards -------------------------------------------------------------------

    def give(self, job_id: str, value: float, source: str) -> bool:
        """Reward a job, unit by unit; False if that *source* has said so before."""
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
        """Have the word of *source* kept of each unit; whether that was not so."""
        changed = False
        for task_id in record.unrewarded(source):
            value = record.rewards[source]
            if self._book.running.reward_task(task_id, value, source=source):
                record.rewarded[source].add(task_id)
                changed = True
        return changed

    # -- what follows --------------------------------------------------------------

    def _follow(self, record: JobRecord) -> None:
        """
        Do what follows from what has become of a job, if it was not done.

        A unit that has failed once is run again; a job of which one has failed again is
        rewarded with -1, one that completed with its signal. That somebody cancelled it
        says nothing of how good it was.
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
        """Run a unit that has failed again, once, whoever sees it first."""
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
        """Do one thing that follows; if it fails, that is told, and others are done."""
        try:
            act(*arguments)
        except Exception as error:  # noqa: BLE001 - told: the job stays as it is
            _LOG.warning("what follows for job %s: %s", job_id, error)

    # -- earlier lives -------------------------------------------------------------

    def restore(self, kept: Callable[[str], Mapping[str, Any]]) -> None:
        """Begin where an earlier life has ended, as the document says."""
        followed = kept(DOCUMENTS).get(_FOLLOWED)
        # A program may have written others under our name: then all is followed.
        self._followed = self._followed_kept = followed if type(followed) is int else 0

    def recall(self, journal: Any, last: int) -> None:
        """Do what earlier lives have left out: *last* is their last fact's number."""
        ids: dict[str, None] = {}
        for fact, _ in journal.read(self._followed) if self._followed < last else ():
            if isinstance(fact, TaskEvent) and fact.task_id.startswith(PREFIX):
                ids[first_of(fact.task_id).removeprefix(PREFIX)] = None
        self._followed = max(self._followed, last)
        # Before anything begins: a program may end as soon as it has started.
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
        """The command that keeps how far all was done, if it went on since."""
        number = self._followed
        if number == self._followed_kept:
            return []
        self._followed_kept = number
        return [Act(lambda orch: orch.kept(DOCUMENTS).update({_FOLLOWED: number}))]
