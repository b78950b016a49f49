"""
Jobs of a configuration, done by an orchestrator that learns.

Decision: learning-and-jobs.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import attrs

from taskorch.api._contexts import TaskContext
from taskorch.api._orchestrator import TaskOrchestrator
from taskorch.core.workflows import Workflow
from taskorch.errors import (
    DuplicateTaskError,
    InvalidTaskError,
    InvalidTransitionError,
    TaskorchError,
    UnknownTaskError,
)
from taskorch.ext.jobs._aftermath import Aftermath
from taskorch.ext.jobs._book import JobBook, state_of
from taskorch.ext.jobs._choices import Choices, Objective
from taskorch.ext.jobs._config import (
    ACTIONS,
    TRIGGERS,
    JobConfig,
    nearest,
)
from taskorch.ext.jobs._contract import Job, job_of, kept_job, schema_of
from taskorch.ext.jobs._cycles import Cycles
from taskorch.ext.jobs._hearing import Hearing
from taskorch.ext.jobs._improvement import Improvement, keeps_snapshots
from taskorch.ext.jobs._metrics import JobMetrics
from taskorch.ext.jobs._news import News
from taskorch.ext.jobs._policies import JobAllocator, JobQueue, JobRouter
from taskorch.ext.jobs._record import PREFIX, JobRecord
from taskorch.ext.jobs._scores import WORTH, Scores
from taskorch.ext.jobs._tasks import tasks_of
from taskorch.ext.jobs._unit import Unit
from taskorch.ext.learning import Learning
from taskorch.kit.checks import check_reward, check_word
from taskorch.kit.visible import show
from taskorch.model import Task, TaskState
from taskorch.model.ids import check_id, has_number

if TYPE_CHECKING:
    import os

F = TypeVar("F", bound=Callable[..., Any])


class JobSystem:
    """
    Jobs that a configuration describes.

    Args:
        document: The configuration, as read from YAML.
        algorithm: The learning algorithm: `"thompson"`, which also notices changes and
            late rewards, or `"ucb1"`, which draws nothing by chance: use it if rewards
            come before the next job.
        floor: The part of the rewards of the usual threads and weight that learning
            may cost at most, counted from -1, even while rewards are late. A lower
            floor is safer and learns later; 1.0 learns soonest.
        memory: About how many rewards count: fewer follow changes sooner.

    Raises:
        InvalidTaskError: It has faults; the message names all of them. Or a number is
            out of its range, or there is no such algorithm.
    """

    def __init__(
        self,
        document: object,
        *,
        algorithm: Literal["thompson", "ucb1"] = "thompson",
        floor: float = 0.2,
        memory: int = 200,
    ) -> None:
        self.config: JobConfig = JobConfig(document)
        # Only their type tells jobs apart, so LinUCB would have no features.
        check_word("algorithm", algorithm, ("thompson", "ucb1"))
        learns: dict[str, Any] = {
            "algorithm": algorithm,
            "floor": floor,
            "memory": memory,
            "keep": keeps_snapshots(self.config),
        }
        self._book = JobBook()
        self._objectives: dict[str, Objective] = {}
        self._random = Random()  # noqa: S311 - no secret
        self._choices = Choices(self.config, self._objectives, learns, self._random)
        self._scores = Scores(self._objectives)
        self._news = News(self.config)
        #: The channel between units and the orchestrator.
        self._hearing = Hearing(self.config)
        self._metrics = JobMetrics(self.config, self._hearing)
        self._aftermath = Aftermath(
            self.config,
            self._book,
            self._news,
            self._hearing,
            self._scores,
            self._metrics,
        )
        self._improvement = Improvement(
            self.config,
            self._book,
            self._choices,
            self._hearing,
            self._tasks_of,
            self._page,
        )
        self._threshold = float(
            self.config.get(
                "job_intake_pipeline.classification_engine.escalation_policy"
                ".saturation_threshold",
                0.85,
            )
        )
        self._relief = max(0.0, self._threshold - 0.1)
        self._allocator = JobAllocator(
            {**self.config.chunks, "threads": 1},
            lambda: self._aftermath.saturated if self._choices.rebalances else (),
            self._relief,
        )
        scored = "job_intake_pipeline.classification_engine.scoring_inputs"
        has = self.config.has
        self._queue = JobQueue(
            {n: worth for n, worth in WORTH.items() if has(scored, n)},
            lambda: self._choices.learners,
            self._restore,
            self._recall,
        )
        #: The controller of the three cycles, also for a simulation.
        self.cycles: Cycles = self._improvement.cycles(self._aftermath.keep)

    @classmethod
    def from_yaml(
        cls,
        path: str | os.PathLike[str],
        *,
        algorithm: Literal["thompson", "ucb1"] = "thompson",
        floor: float = 0.2,
        memory: int = 200,
    ) -> JobSystem:
        """
        Read jobs from a YAML file; for the rest see the class.

        Raises:
            ImportError: PyYAML is not installed: `pip install 'taskorch[yaml]'`.
            InvalidTaskError: It has faults; the message names all of them.
            ValidationFailedError: The file is no YAML.
            OSError: It cannot be read.
        """
        from taskorch.kit.yaml_text import load  # noqa: PLC0415 - optional

        text = Path(path).read_bytes()
        document = load(text, "adaptive jobs", file=str(path))
        return cls(document, algorithm=algorithm, floor=floor, memory=memory)

    # -- registration --------------------------------------------------------------

    def objective(
        self,
        name: str,
        *,
        specialization: str | None = None,
        complexity: float | None = None,
        own_rewards: bool = False,
    ) -> Callable[[F], F]:
        """
        Decorate `function(unit, job)` as what does the units of an objective.

        Args:
            name: The objective.
            specialization: The kind of unit that does it so; None is the default one.
                With several, the best one is learnt.
            complexity: From 0 to 1; None: estimated from the durations of units.
            own_rewards: Whether a reward that a unit gives itself counts.

        Raises:
            InvalidTaskError: The name is invalid, or that specialisation has a
            function.
        """
        check_id(name)
        default = "tadpole_execution.spawning_rules.default_specialization"
        kind = specialization or self.config.get(default, "generalist")
        check_id(kind)
        if complexity is not None and not 0 <= complexity <= 1:
            msg = f"a complexity is a number from 0 to 1, not {show(complexity)}"
            raise InvalidTaskError(msg)

        def add(function: F) -> F:
            objective = self._objectives.setdefault(name, Objective())
            if kind in objective.handlers:
                msg = f"the objective {name} has a function as {kind} already"
                raise InvalidTaskError(msg)
            objective.handlers[kind] = function
            objective.complexity = (
                complexity if complexity is not None else objective.complexity
            )
            objective.counts_own = objective.counts_own or own_rewards
            if self._book.orch is not None:
                self._add_worker(name, kind, function)
                specialist = self._choices.specialise(name)
                if specialist is not None:
                    self._queue.join(specialist)
            return function

        return add

    def hook(self, name: str, function: Callable[..., Any]) -> None:
        """
        Bind a function to one of the hooks that the configuration names.

        `pre_spawn_judgement(job)` is called before units are made. A mapping changes
        fields of the job. Any other result except True and None refuses it, and a text
        is the reason. The other hooks get one mapping: `learning_feedback_pipeline`
        each reward, `metadata_pipeline` the metrics of each job that ends,
        `message_bus_infrastructure` each published message, `meta_feedback` the
        messages of units.

        Raises:
            InvalidTaskError: The configuration names no such hook.
        """
        self._news.bind(name, function)

    def hooks(self) -> dict[str, str]:
        """Return each hook by its configured name, and whether it is `bound`."""
        return self._news.hooks()

    def subscribe(self, topic: str, reader: Callable[[dict[str, Any]], Any]) -> None:
        """
        Have *reader* called with each message that is published to *topic*.

        Raises:
            InvalidTaskError: The configuration names no such topic.
        """
        self._news.subscribe(topic, reader)

    @property
    def endpoint(self) -> str:
        """Path at which a service takes commands."""
        return str(self.config.get("job_intake_pipeline.api_endpoint", "/commands"))

    def about(self) -> dict[str, str]:
        """Return the name, version and mission of the configuration."""
        path = "task_orchestration_metadata"
        texts = {
            name: self.config.get(f"{path}.{name}")
            for name in ("name", "version", "mission")
        }
        return {name: text for name, text in texts.items() if text is not None}

    def told(self) -> dict[str, Any]:
        """
        Return the name, learnt values, metrics, hooks and workers of the jobs, as JSON.

        Of each worker it has the attempts that completed and failed, in this run.
        """
        return self._page(self._book.all())

    def _page(self, records: list[JobRecord]) -> dict[str, Any]:
        learnt = {
            name: [attrs.asdict(one) for one in learnings]
            for name, learnings in self.learned().items()
        }
        orch = self._book.orch
        stats = {} if orch is None else orch.get_stats().agents
        return {
            "about": self.about(),
            "learned": learnt,
            "metrics": self._metrics.together(records),
            "hooks": self.hooks(),
            "workers": {
                name: {"completed": one.completed, "failed": one.failed}
                for name, one in stats.items()
            },
        }

    def diary(self) -> dict[str, Any] | None:
        """
        Return the last result of `told` in the journal, maybe of an earlier run.

        Its metrics and workers are of that run. None: nothing was stored, or the
        configuration does not store it.
        """
        return self._improvement.diary

    def schema(self) -> dict[str, Any]:
        """Return the JSON Schema of the body that `assign_job` takes."""
        return schema_of(self.config)

    def lifecycle(self) -> list[tuple[str, str, tuple[str, ...]]]:
        """Return each transition, with its trigger and its actions."""
        path = "job_lifecycle.state_transitions"
        return [
            (
                name,
                TRIGGERS[name],
                tuple(
                    a for a in actions if self.config.has(f"{path}.{name}.actions", a)
                ),
            )
            for name, actions in ACTIONS.items()
        ]

    # -- the orchestrator ----------------------------------------------------------

    def orchestrator(self, **settings: Any) -> TaskOrchestrator:
        """
        Make the orchestrator of these jobs, without a start.

        Args:
            settings: Those of TaskOrchestrator, except the queue, the router, the
                allocator and the resources, which the configuration defines.

        Raises:
            InvalidTransitionError: The jobs have an orchestrator already.
            InvalidTaskError: A setting is invalid.
        """
        if self._book.orch is not None:
            msg = "these jobs have an orchestrator already"
            raise InvalidTransitionError(msg, hint="make another JobSystem")
        for name in ("queue", "router", "allocator", "resources"):
            if name in settings:
                msg = f"{name}: the configuration says it"
                raise InvalidTaskError(msg)
        if "seed" in settings:
            self._random.seed(settings["seed"])
        threads = int(self.config.get("resource_pools.thread_pool.max_threads", 128))
        pools = {"threads": float(threads)}
        for name in ("compute_units", "memory_mb", "bandwidth_mbps"):
            total = self.config.get(f"resource_pools.{name}_total")
            if total:
                pools[name] = float(total)
        arguments: dict[str, Any] = {"concurrency": threads, **settings}
        arguments |= {"queue": self._queue, "allocator": self._allocator}
        arguments["router"] = JobRouter()
        arguments["resources"] = pools
        for name in self._objectives:
            self._choices.specialise(name)
        orch = TaskOrchestrator(**arguments)
        self._join(orch)
        return orch

    def _join(self, orch: TaskOrchestrator) -> None:
        """Do jobs with *orch*: add the workers, and listen to events."""
        self._book.orch = orch
        for name, objective in self._objectives.items():
            for kind, function in objective.handlers.items():
                self._add_worker(name, kind, function)
        orch.resources.set_saturation(self._threshold, self._relief)
        for signal in (
            *("task_submitted", "task_started", "task_completed", "task_failed"),
            *("task_retrying", "task_cancelled", "allocation_changed"),
            *("pool_saturated", "pool_relieved"),
        ):
            getattr(orch.signals, signal).connect(self._aftermath.hear)
        orch.drivers.add(self.cycles)

    def _add_worker(
        self, name: str, kind: str, function: Callable[[Unit, Job], Any]
    ) -> None:
        def handler(task: Task[Any], context: TaskContext) -> Any:
            return self._run_unit(name, function, task, context)

        capabilities = {f"objective:{name}", f"worker:{kind}"}
        self._book.running.agent(
            f"{kind}.{name}",
            capabilities=capabilities,
            max_concurrency=None,
            executor="thread",
        )(handler)

    def _restore(self, kept: Callable[[str], Mapping[str, Any]]) -> None:
        self._aftermath.restore(kept)
        self._improvement.restore(kept)

    def _recall(self, journal: Any, last: int) -> None:
        self._book.recall(journal, last)
        self._aftermath.recall(journal, last)

    # -- units ---------------------------------------------------------------------

    def _run_unit(
        self,
        name: str,
        function: Callable[[Unit, Job], Any],
        task: Task[Any],
        context: TaskContext,
    ) -> Any:
        payload = task.payload
        job = kept_job(payload["job"])
        unit = Unit(
            context,
            payload["unit"],
            payload["units"],
            self._choices.most_threads,
            self._hearing.joined(),
            self._heard,
        )
        if not unit.index and unit.count > 1:
            self._spawn_others(job.job_id, context)
        try:
            result = function(unit, job)
        finally:
            unit.threads.close()
            with self._book.lock:
                record = self._book.records.get(job.job_id)
                if record is not None:
                    record.busy += unit.threads.busy_seconds
                    record.granted += unit.threads.granted_seconds
        own = self._objectives[name].counts_own
        if unit.own_reward is not None and own:
            self._aftermath.give(job.job_id, unit.own_reward, f"unit {unit.id}")
        return result

    def _heard(self, unit: Unit, message: Any) -> None:
        unit.context.progress(message)
        notice = {"kind": "told", "unit": unit.id, "message": message}
        self._news.call("meta_feedback", notice)
        if isinstance(message, Mapping):
            self._hearing.note(message)

    # -- jobs ----------------------------------------------------------------------

    def assign_job(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """
        Take a job. Its id is its identity: the same body twice is one job.

        Args:
            body: See `schema`.

        Returns:
            Its status, which for a new job is `queued`.

        Raises:
            InvalidTaskError: The body has faults; the message names all of them. Or
                there is no such objective or worker.
            DuplicateTaskError: The id is that of a job with another body.
            InvalidTaskError: `pre_spawn_judgement` refused it.
        """
        with self._book.lock:
            existing = self._asked_before(body)
            if existing is not None and body == existing.asked.to_dict():
                # The present configuration and handlers do not matter.
                return self.status(body["job_id"])
        job = job_of(body, self.config)
        self._check_known(job)
        # The judgement may be slow, so it runs without the lock.
        judged = job if existing is not None else self._judged(job)
        with self._book.lock:
            # Another thread may have assigned the same job meanwhile.
            existing = existing or self._book.records.get(job.job_id)
            if existing is not None:
                self._refuse_another(existing.asked, job)
                return self.status(job.job_id)
            score = self._scores.of(judged, self.pressure(), self._types)
            is_pressed = bool(self._aftermath.saturated)
            record = self._choices.record(judged, job, score, is_pressed=is_pressed)
            self._book.records[job.job_id] = record
            self._book.waiting[job.job_id] = self._choices.known()
            try:
                self._queue_up(record)
            except BaseException:
                # An interrupt may have come once it was queued up.
                if not self._is_queued(record):
                    del self._book.records[job.job_id], self._book.waiting[job.job_id]
                raise
            pressed = sorted(self._aftermath.saturated)
        if pressed:
            pressure = {"pools": pressed, "units": record.units}
            message = {"event": "mitigated", "job_id": job.job_id, **pressure}
            message["threads"] = record.threads
            self._news.publish("job_events", message)
        # The job is new, so its state needs no query.
        return self._told_of(record, "queued", {})

    def _asked_before(self, body: object) -> JobRecord | None:
        """Return the record of the job that *body* names, if it was taken before."""
        job_id = body.get("job_id") if isinstance(body, Mapping) else None
        return self._book.found(job_id) if isinstance(job_id, str) else None

    def _check_known(self, job: Job) -> None:
        faults = []
        if job.objective not in self._objectives:
            near = nearest(job.objective, self._objectives)
            faults.append(f"the objective {job.objective} is not registered{near}")
        elif job.worker_id is not None:
            kinds = self._objectives[job.objective].handlers
            if job.worker_id not in kinds:
                near = (
                    nearest(job.worker_id, kinds) or f": there are {', '.join(kinds)}"
                )
                faults.append(f"worker_id: no specialisation {job.worker_id}{near}")
        if faults:
            hint = "@jobs.objective(name) registers a function, as does --objective"
            raise InvalidTaskError("; ".join(faults), hint=hint)

    @staticmethod
    def _refuse_another(existing: Job, job: Job) -> None:
        one, other = existing.to_dict(), job.to_dict()
        names = dict.fromkeys([*one, *other])
        differs = [name for name in names if one.get(name) != other.get(name)]
        if differs:
            msg = f"job {job.job_id} is known with another {', '.join(differs)}"
            hint = "use another job_id"
            raise DuplicateTaskError(msg, task_id=PREFIX + job.job_id, hint=hint)

    def _judged(self, job: Job) -> Job:
        """
        Return the job as `pre_spawn_judgement` changes it.

        Raises:
            InvalidTaskError: It refused the job, changed a fixed field, or failed.
        """
        judge = self._news.bound("pre_spawn_judgement")
        if judge is None:
            return job
        try:
            verdict = judge(job)
        except Exception as error:
            msg = f"pre_spawn_judgement has failed on job {job.job_id}: {error}"
            hint = "the hook decides what may be spawned; it is to be mended"
            raise InvalidTaskError(msg, hint=hint) from error
        if verdict is None or verdict is True:
            return job
        if isinstance(verdict, Mapping):
            changed = job_of({**job.to_dict(), **verdict}, self.config)
            if changed.job_id != job.job_id:
                msg = f"pre_spawn_judgement gave job {job.job_id} another id"
                raise InvalidTaskError(msg, hint="it may change all fields but job_id")
            self._check_known(changed)
            return changed
        why = verdict if isinstance(verdict, str) and verdict else "no reason given"
        refused = {"event": "refused", "job_id": job.job_id, "why": why}
        self._news.publish("job_events", refused)
        msg = f"pre_spawn_judgement refused job {job.job_id}: {why}"
        raise InvalidTaskError(msg, hint="the hook decides what may be spawned")

    def _types(self) -> Mapping[str, Any]:
        """Return the statistics by objective."""
        return self._book.running.get_stats().types

    def pressure(self) -> float:
        """Return the usage of the fullest pool, from 0 to 1."""
        usage = self._book.running.resources.usage()
        parts = [pool.used / pool.total for pool in usage.values() if pool.total]
        return min(1.0, max(parts, default=0.0))

    def _queue_up(self, record: JobRecord) -> None:
        """Queue the first unit of the job, which makes the other units as it begins."""
        flow = Workflow("job")
        (first,) = self._tasks_of(record, range(1))
        flow.add(first)
        self._book.running.workflows.start(flow, id=PREFIX + record.job.job_id)

    def _is_queued(self, record: JobRecord) -> bool:
        try:
            self._book.running.get_task_status(record.unit_ids[0])
        except TaskorchError:
            return False
        return True

    def _spawn_others(self, job_id: str, context: TaskContext) -> None:
        """Make all units but the first, unless they are made."""
        with self._book.lock:
            record = self._book.known(job_id)
        try:
            # All other units are made at once.
            self._book.running.get_task_status(record.unit_ids[-1])
        except UnknownTaskError:
            others = self._tasks_of(record, range(1, record.units))
            assert context.workflow is not None  # noqa: S101 - a unit is of a run
            context.workflow.add_all(others)

    def _tasks_of(self, record: JobRecord, indexes: range) -> list[Task]:
        return tasks_of(record, self.config, self._throttle(), indexes)

    def _throttle(self) -> float:
        """Return the seconds between starts of units: 0 below the threshold."""
        path = "resource_pools.thread_pool.adaptive_throttling"
        if self.config.get(path, "disabled") != "enabled":
            return 0.0
        above = self.pressure() - self._threshold
        return max(0.0, above / max(1e-6, 1 - self._threshold))

    def status(self, job_id: str) -> dict[str, Any]:
        """
        Return the status of a job: its state, its units, its score and its metrics.

        Raises:
            UnknownTaskError: There is no such job.
        """
        with self._book.lock:
            record = self._book.known(job_id)
            run = self._book.running.workflows.status(PREFIX + job_id)
            state = state_of(run)
            # The queued task of the job becomes its first unit as it begins.
            units = {} if state == "queued" else run.tasks
            return self._told_of(record, state, units)

    def _told_of(
        self, record: JobRecord, state: str, units: Mapping[str, TaskState]
    ) -> dict[str, Any]:
        """Describe a job in this *state*, whose *units* are in theirs, as JSON."""
        with self._book.lock:
            return {
                "job_id": record.job.job_id,
                "objective": record.job.objective,
                "state": state,
                "units": {str(k): str(v) for k, v in units.items()},
                "unit_count": record.units,
                "threads_held": dict(record.threads_held),
                "errors": dict(record.errors),
                "specialization": record.specialization,
                "threads": record.threads,
                "weight": record.weight,
                "why": record.why,
                "metadata": dict(record.job.metadata),
                "score": dict(record.score),
                "recoveries": record.recoveries,
                "rewards": dict(record.rewards),
                "metrics": self._metrics.of(record),
            }

    def result(self, job_id: str, timeout: float | None = None) -> list[Any]:
        """
        Wait for a job, and return the results of its units in order.

        Args:
            job_id: The job.
            timeout: Seconds to wait, for all units together; None is for ever.

        Raises:
            UnknownTaskError: There is no such job.
            TimeoutError: The job has not ended in that time.
            NotRunningError: The orchestrator stopped before the end of the job.
            Exception: The error of a unit that is not run again.
        """
        with self._book.lock:
            record = self._book.known(job_id)
        until = None if timeout is None else time.monotonic() + timeout
        return [
            self._unit_result(record, task_id, until) for task_id in record.unit_ids
        ]

    def _unit_result(self, record: JobRecord, task_id: str, until: float | None) -> Any:
        """Return the result of a unit; of its second run if the first fails."""
        handle = self._book.running.handle(task_id)
        left = None if until is None else max(0.0, until - time.monotonic())
        error = handle.exception(left)
        recovers = self._aftermath.recovers
        is_first = not has_number(handle.task_id)
        if error is not None and recovers and is_first and record.is_followed:
            if handle.status.state is TaskState.FAILED:
                self._aftermath.recover(record, task_id)
            again = self._book.running.handle(task_id)
            if again.task_id != handle.task_id:
                return self._unit_result(record, task_id, until)
        return handle.result(0)

    def all_jobs(self) -> dict[str, str]:
        """Return the state of each known job by id, also of earlier runs."""
        return {
            record.job.job_id: self._book.state(record.job.job_id)
            for record in self._book.all()
        }

    def cancel(self, job_id: str, *, reason: str | None = None) -> bool:
        """
        Cancel the units of a job that have not ended; return False if all have.

        A cancelled job gives no reward, so nothing is learnt from it.

        Raises:
            UnknownTaskError: There is no such job.
        """
        with self._book.lock:
            self._book.known(job_id)
        return self._book.running.workflows.cancel(PREFIX + job_id, reason=reason)

    # -- reward and learning -------------------------------------------------------

    def reward(self, job_id: str, value: float, *, source: str = "user") -> bool:
        """
        Reward a job; return False if that source has rewarded it before.

        The reward is stored for each unit. After a crash, missing units get it at the
        next start, or when it is given again: the first value counts.

        Args:
            job_id: The job.
            value: From -1 to 1.
            source: The source of the reward: only the first one of each counts.

        Raises:
            UnknownTaskError: There is no such job.
            InvalidTaskError: *value* is no number from -1 to 1, or *source* no name.
            InvalidTransitionError: The job has not ended.
        """
        with self._book.lock:
            self._book.known(job_id)
            check_reward(value, source)
            if self._book.state(job_id) not in ("completed", "failed"):
                msg = f"job {job_id} has not ended: it cannot be rewarded yet"
                raise InvalidTransitionError(msg)
        return self._aftermath.give(job_id, float(value), source)

    def learned(self) -> dict[str, tuple[Learning, ...]]:
        """Return the rewards learnt for each target of adaptation."""
        return self._choices.learned()

    def reset(self) -> None:
        """Forget all that was learnt."""
        self._choices.reset()

    # -- measurements --------------------------------------------------------------

    def ledger(self) -> list[dict[str, Any]]:
        """
        Return the latest 10,000 grants, changes and releases, with their times.

        With a journal, it reads those of earlier runs, too.
        """
        return self._aftermath.ledger.with_earlier(self._book.earlier())

    def metrics(self) -> dict[str, float | None]:
        """
        Return the metrics of all jobs together, also of earlier runs.

        None: nothing was measured. The time of threads is known for this run only.

        `job_latency_seconds` is the mean time from assignment to completion;
        `compute_efficiency_ratio` the share of completed attempts in all compute-unit
        seconds; `thread_utilisation` the share of granted thread seconds in which
        threads worked; `binary_channel_entropy` the bits for each byte of the units'
        messages.
        """
        return self._metrics.together(self._book.all())
