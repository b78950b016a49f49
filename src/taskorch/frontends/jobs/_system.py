"""
Jobs as a configuration describes them, done by an orchestrator that learns.

Decision: 0289.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import attrs

from taskorch._contexts import TaskContext
from taskorch._orchestrator import TaskOrchestrator
from taskorch.adaptive import Learning
from taskorch.errors import (
    DuplicateTaskError,
    InvalidTaskError,
    InvalidTransitionError,
)
from taskorch.frontends.jobs._aftermath import Aftermath
from taskorch.frontends.jobs._book import JobBook, state_of
from taskorch.frontends.jobs._choices import Choices, Objective
from taskorch.frontends.jobs._config import (
    ACTIONS,
    TRIGGERS,
    JobConfig,
    nearest,
)
from taskorch.frontends.jobs._contract import Job, job_of, kept_job, schema_of
from taskorch.frontends.jobs._cycles import Cycles
from taskorch.frontends.jobs._hearing import Hearing
from taskorch.frontends.jobs._improvement import Improvement, keeps_snapshots
from taskorch.frontends.jobs._metrics import JobMetrics
from taskorch.frontends.jobs._news import News
from taskorch.frontends.jobs._policies import JobQueue, JobRouter
from taskorch.frontends.jobs._record import PREFIX, JobRecord, unit_task_id
from taskorch.frontends.jobs._scores import WORTH, Scores
from taskorch.frontends.jobs._tasks import tasks_of
from taskorch.frontends.jobs._unit import Unit
from taskorch.kit.checks import check_reward, check_word
from taskorch.kit.visible import show
from taskorch.kit.words import ns_of
from taskorch.model import Task, TaskState, TaskStatus
from taskorch.model.ids import check_id, has_number
from taskorch.policies import ProportionalAllocator
from taskorch.workflows import Workflow

if TYPE_CHECKING:
    import os

F = TypeVar("F", bound=Callable[..., Any])


class JobSystem:
    """
    The jobs that a configuration describes.

    Args:
        document: The configuration, as YAML has it.
        algorithm: What learns: `"thompson"` or `"ucb1"`.
        floor: Of what the static choices come to, the part that learning may cost.
        memory: About how many rewards are remembered: fewer follow changes sooner.

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
        # A job is told apart by its type alone: there are no features for LinUCB.
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
        self._allocator = ProportionalAllocator({**self.config.chunks, "threads": 1})
        scored = "job_intake_pipeline.classification_engine.scoring_inputs"
        has = self.config.has
        self._queue = JobQueue(
            {n: worth for n, worth in WORTH.items() if has(scored, n)},
            lambda: self._choices.learners,
            self._restore,
            self._recall,
        )
        #: What runs the three cycles: for the drivers of a simulation, too.
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
        The jobs that a YAML file describes; for the rest see the class.

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

    # -- what is registered --------------------------------------------------------

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
            specialization: Which kind of unit does it so; None is the default one.
                With several, which does a unit is learnt.
            complexity: From 0 to 1; None is estimated from how long units took.
            own_rewards: Whether a reward that a unit gives itself counts.

        Raises:
            InvalidTaskError: The name is none, or that specialisation has a function.
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
                self._add_agent(name, kind, function)
                specialist = self._choices.specialise(name)
                if specialist is not None:
                    self._queue.join(specialist)
            return function

        return add

    def hook(self, name: str, function: Callable[..., Any]) -> None:
        """
        Bind a function to one of the hooks that the configuration names.

        `pre_spawn_judgement(job)` is asked before units are made: what is no True and
        no None refuses the job, and a text says why. All others are called with one
        mapping: `learning_feedback_pipeline` with each reward, `metadata_pipeline` with
        the metrics of each job that ends, `message_bus_infrastructure` with all that
        is published, `meta_feedback` with what units tell.

        Raises:
            InvalidTaskError: The configuration names no such hook.
        """
        self._news.bind(name, function)

    def hooks(self) -> dict[str, str]:
        """Each hook as the configuration names it, and whether it is `bound`."""
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
        """The path at which a service takes commands."""
        return str(self.config.get("job_intake_pipeline.api_endpoint", "/commands"))

    def about(self) -> dict[str, str]:
        """The name, the version and the mission that the configuration says."""
        path = "task_orchestration_metadata"
        texts = {
            name: self.config.get(f"{path}.{name}")
            for name in ("name", "version", "mission")
        }
        return {name: text for name, text in texts.items() if text is not None}

    def told(self) -> dict[str, Any]:
        """Whose jobs they are, what was learnt, and the metrics, as JSON has it."""
        return self._page(self._book.all())

    def _page(self, records: list[JobRecord]) -> dict[str, Any]:
        learnt = {
            name: [attrs.asdict(one) for one in learnings]
            for name, learnings in self.learned().items()
        }
        return {
            "about": self.about(),
            "learned": learnt,
            "metrics": self._metrics.together(records),
            "hooks": self.hooks(),
        }

    def diary(self) -> dict[str, Any] | None:
        """
        What `told` said when the journal kept it last: of an earlier life, at first.

        Its metrics are of the jobs of that life. None: nothing was kept, or the
        configuration does not have it kept.
        """
        return self._improvement.diary

    def schema(self) -> dict[str, Any]:
        """The JSON Schema of what `assign_job` takes."""
        return schema_of(self.config)

    def lifecycle(self) -> list[tuple[str, str, tuple[str, ...]]]:
        """Each transition, what triggers it, and what is done then."""
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
        The orchestrator of these jobs, not started.

        Args:
            settings: Those of TaskOrchestrator, but for the queue, the router, the
                allocator and the resources, which the configuration says.

        Raises:
            InvalidTransitionError: There is one already.
            InvalidTaskError: A setting is not right.
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
        arguments["router"] = JobRouter(self._book.records)
        arguments["resources"] = pools
        for name in self._objectives:
            self._choices.specialise(name)
        orch = TaskOrchestrator(**arguments)
        self._join(orch)
        return orch

    def _join(self, orch: TaskOrchestrator) -> None:
        """Do jobs with *orch*: add the agents, and hear what happens."""
        self._book.orch = orch
        for name, objective in self._objectives.items():
            for kind, function in objective.handlers.items():
                self._add_agent(name, kind, function)
        threshold = self.config.get(
            "job_intake_pipeline.classification_engine.escalation_policy"
            ".saturation_threshold",
            0.85,
        )
        orch.resources.set_saturation(threshold)
        self._threshold = float(threshold)
        for signal in (
            *("task_started", "task_completed", "task_failed", "task_retrying"),
            *("task_cancelled", "allocation_changed", "pool_saturated"),
            "pool_relieved",
        ):
            getattr(orch.signals, signal).connect(self._aftermath.hear)
        orch.drivers.add(self.cycles)

    def _add_agent(
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
        Take a job. Its id is its identity: the same body again is the same job.

        Args:
            body: See `schema`.

        Returns:
            Its status.

        Raises:
            InvalidTaskError: The body has faults; the message names all of them. Or
                there is no such objective or worker.
            DuplicateTaskError: The id is that of a job with another body.
            InvalidTaskError: `pre_spawn_judgement` refused it.
        """
        with self._book.lock:
            if self._is_kept(body):
                return self.status(body["job_id"])
        job = job_of(body, self.config)
        self._check_known(job)
        with self._book.lock:
            existing = self._book.found(job.job_id)
        # The judgement may take its time: nobody waits for it but who assigns the job.
        judged = job if existing is not None else self._judged(job)
        with self._book.lock:
            existing = self._book.found(job.job_id)
            if existing is not None:
                self._refuse_another(existing.asked, job)
                return self.status(job.job_id)
            score = self._scores.of(judged, self.pressure(), self._types)
            is_pressed = bool(self._aftermath.saturated)
            record = self._choices.record(judged, job, score, is_pressed=is_pressed)
            self._book.records[job.job_id] = record
            self._book.waiting[job.job_id] = self._choices.known()
            try:
                self._spawn(record)
            except BaseException:
                del self._book.records[job.job_id], self._book.waiting[job.job_id]
                raise
            pressed = sorted(self._aftermath.saturated)
        if pressed:
            pressure = {"pools": pressed, "units": record.units}
            message = {"event": "mitigated", "job_id": job.job_id, **pressure}
            message["threads"] = record.threads
            self._news.publish("job_events", message)
        return self.status(job.job_id)

    def _is_kept(self, body: object) -> bool:
        """Whether *body* asks for a job that was taken once, whatever holds by now."""
        job_id = body.get("job_id") if isinstance(body, Mapping) else None
        record = self._book.found(job_id) if isinstance(job_id, str) else None
        return record is not None and body == record.asked.to_dict()

    def _check_known(self, job: Job) -> None:
        faults = []
        if job.objective not in self._objectives:
            near = nearest(job.objective, self._objectives)
            faults.append(f"the objective {job.objective} is not registered{near}")
        elif job.worker_id is not None:
            kinds = self._objectives[job.objective].handlers
            if job.worker_id not in kinds:
                near = nearest(job.worker_id, kinds)
                faults.append(f"worker_id: nobody is {job.worker_id}{near}")
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
        The job as `pre_spawn_judgement` would have it.

        Raises:
            InvalidTaskError: It refused the job, changed what it may not, or failed.
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
        """Statistics by objectives: of this life nothing may be known yet."""
        return self._book.running.get_stats().types

    def pressure(self) -> float:
        """How full the fullest pool is, from 0 to 1."""
        usage = self._book.running.resources.usage()
        parts = [pool.used / pool.total for pool in usage.values() if pool.total]
        return min(1.0, max(parts, default=0.0))

    def _spawn(self, record: JobRecord) -> None:
        flow = Workflow("job")
        for task in self._tasks_of(record):
            flow.add(task)
        job_id = record.job.job_id
        self._book.running.workflows.start(flow, id=PREFIX + job_id)
        first = self._book.running.get_task_status(unit_task_id(job_id, 0))
        record.submitted_ns = _submitted_ns(first)

    def _tasks_of(self, record: JobRecord) -> list[Task]:
        return tasks_of(record, self.config, self._throttle())

    def _throttle(self) -> float:
        """Seconds between the starts of units: none below the threshold."""
        path = "resource_pools.thread_pool.adaptive_throttling"
        if self.config.get(path, "disabled") != "enabled":
            return 0.0
        above = self.pressure() - self._threshold
        return max(0.0, above / max(1e-6, 1 - self._threshold))

    def status(self, job_id: str) -> dict[str, Any]:
        """
        How far a job is: its state, its units, its score and its metrics.

        Raises:
            UnknownTaskError: There is no such job.
        """
        with self._book.lock:
            record = self._book.known(job_id)
            status = self._book.running.workflows.status(PREFIX + job_id)
            return {
                "job_id": job_id,
                "objective": record.job.objective,
                "state": state_of(status),
                "units": {str(k): str(v) for k, v in status.tasks.items()},
                "errors": dict(record.errors),
                "specialization": record.specialization,
                "threads": record.threads,
                "weight": record.weight,
                "metadata": dict(record.job.metadata),
                "score": dict(record.score),
                "recoveries": record.recoveries,
                "rewards": dict(record.rewards),
                "metrics": self._metrics.of(record),
            }

    def result(self, job_id: str, timeout: float | None = None) -> list[Any]:
        """
        Wait for a job: what its units returned, in their order.

        Args:
            job_id: The job.
            timeout: Seconds to wait, for all units together; None is for ever.

        Raises:
            UnknownTaskError: There is no such job.
            TimeoutError: It has not ended in that time.
            NotRunningError: The orchestrator has stopped before the end.
            Exception: What a unit raised that is not run again.
        """
        with self._book.lock:
            record = self._book.known(job_id)
        until = None if timeout is None else time.monotonic() + timeout
        return [
            self._unit_result(record, task_id, until) for task_id in record.unit_ids
        ]

    def _unit_result(self, record: JobRecord, task_id: str, until: float | None) -> Any:
        """The result of a unit: that of its second run, if the first fails."""
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
        """The state of each job that is known, of earlier lives as well, by its id."""
        return {
            record.job.job_id: self._book.state(record.job.job_id)
            for record in self._book.all()
        }

    def cancel(self, job_id: str, *, reason: str | None = None) -> bool:
        """
        Cancel what has not ended of a job; False if all of it has.

        That is no reward: nothing is learnt from it.

        Raises:
            UnknownTaskError: There is no such job.
        """
        with self._book.lock:
            self._book.known(job_id)
        return self._book.running.workflows.cancel(PREFIX + job_id, reason=reason)

    # -- reward and learning -------------------------------------------------------

    def reward(self, job_id: str, value: float, *, source: str = "user") -> bool:
        """
        Say how good a job was; False if that source has said so before.

        It is kept for each unit. What a crash has left out is made up for at the next
        start, or when it is said again: the value that was said first counts.

        Args:
            job_id: The job.
            value: From -1 to 1.
            source: Who says so: the first word of each counts.

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
        """What was learnt, for each target of adaptation."""
        return self._choices.learned()

    def reset(self) -> None:
        """Forget all that was learnt."""
        self._choices.reset()

    # -- what was measured ---------------------------------------------------------

    def ledger(self) -> list[dict[str, Any]]:
        """
        What was granted, changed and released, and when: the latest 10,000.

        Of earlier lives as well, if there is a journal: it is read for that.
        """
        return self._aftermath.ledger.with_earlier(self._book.earlier())

    def metrics(self) -> dict[str, float | None]:
        """
        The metrics of all jobs together, of earlier lives as well.

        None: nothing was measured. How long threads worked is known of this life alone.

        `job_latency_seconds` is the mean from assignment to completion;
        `compute_efficiency_ratio` the compute-unit seconds of attempts that completed,
        of those of all; `thread_utilisation` the seconds that threads of units have
        worked, of those that they were granted; `binary_channel_entropy` the bits for
        each byte of what units told.
        """
        return self._metrics.together(self._book.all())


def _submitted_ns(status: TaskStatus) -> int:
    return 0 if status.submitted is None else ns_of(status.submitted)
