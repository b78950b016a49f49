"""Jobs as a configuration describes them, done by an orchestrator that learns."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from random import Random
from statistics import median
from threading import Lock, RLock
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar

import attrs

from taskorch._contexts import TaskContext
from taskorch._orchestrator import TaskOrchestrator
from taskorch.adaptive import SNAPSHOTS, LearnedValue, Learning
from taskorch.errors import (
    DuplicateTaskError,
    InvalidTaskError,
    InvalidTransitionError,
    UnknownTaskError,
)
from taskorch.events import (
    AllocationChanged,
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
from taskorch.frontends.channel import Channel, train
from taskorch.frontends.jobs._config import (
    ACTIONS,
    METRICS,
    TRIGGERS,
    JobConfig,
    nearest,
)
from taskorch.frontends.jobs._contract import Job, job_of, kept_job, schema_of
from taskorch.frontends.jobs._cycles import Act, Cycles
from taskorch.frontends.jobs._record import PREFIX, JobRecord, unit_id, unit_task_id
from taskorch.frontends.jobs._unit import Unit
from taskorch.kit.checks import check_reward, check_word
from taskorch.kit.fence import log_of
from taskorch.kit.visible import counted, show
from taskorch.kit.words import ns_of
from taskorch.model import TERMINAL, Elastic, Resources, Task, TaskState, TaskStatus
from taskorch.model.ids import check_id, first_of, has_number, in_run, run_of
from taskorch.policies import PerformanceRouter, ProportionalAllocator, ScoreQueue
from taskorch.protocols import AgentView, Context, Route
from taskorch.workflows import Workflow, WorkflowStatus

if TYPE_CHECKING:
    import os

F = TypeVar("F", bound=Callable[..., Any])
_LOG: Final = log_of(__name__)
#: What each objective of the score is worth, in seconds of waiting.
_WORTH: Final = {
    "reward_signal": 600.0,
    "objective_complexity": -60.0,
    "resource_pressure": -120.0,
}
#: Seconds of an attempt that count as half of the greatest complexity.
_HALF: Final = 60.0
#: How much more units there are under pressure, with each saturation, and at the most.
_MORE: Final = 0.25
_KEPT: Final = 10_000
#: Units of an objective whose median says how long one takes.
_LATEST: Final = 50
_DIARY: Final = "agent_state.metadata_diary"
#: The name of the documents of jobs.
_JOBS: Final = "adaptive_jobs"
#: The document that says up to which fact all that follows from facts was done.
_FOLLOWED: Final = "followed"
_SPECIALIZATION: Final = "specialization_selection"
#: Who says how good a job was that has failed for good, and one that says it itself.
_FAILURE: Final = "failure"
_SIGNAL: Final = "job_payload.reward_signal"
_KEEPS: Final = "self_improvement.metadata_capture.persistence_targets"
_ADAPTS: Final = "self_improvement.reward_processing.adaptation_targets"
#: Waiting jobs that a cycle looks at, at the most.
_LOOKED_AT: Final = 200
_NO_END: Final = 1 << 62
#: Facts with which a unit holds nothing any more, if it did.
_RELEASES: Final = (TaskCompleted, TaskRetrying, TaskFailed, TaskCancelled)


@attrs.define
class _Objective:
    handlers: dict[str, Callable[[Unit, Job], Any]] = attrs.Factory(dict)
    complexity: float | None = None
    counts_own: bool = False
    #: What learns which of its specialisations does best, if there are several.
    specialist: LearnedValue | None = None


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
        self._learns: dict[str, Any] = {
            "algorithm": algorithm,
            "floor": floor,
            "memory": memory,
            "keep": self.config.has(_KEEPS, SNAPSHOTS),
        }
        self._lock = RLock()
        #: Held while a unit is run again; `_lock` may be taken in it.
        self._recovering = Lock()
        self._objectives: dict[str, _Objective] = {}
        self._hooks: dict[str, Callable[..., Any]] = {}
        self._records: dict[str, JobRecord] = {}
        #: Jobs of which nothing has begun, each with what was learnt when it was asked.
        self._waiting: dict[str, dict[str, int]] = {}
        #: The facts of earlier lives, if there is a journal.
        self._journal: Any = None
        self._recalled = 0
        #: The number of the last fact from which all that follows was done, and that
        #: which the journal has kept of it.
        self._followed = self._followed_kept = 0
        self._diary: dict[str, Any] | None = None
        #: Whether the records have all jobs of earlier lives.
        self._has_read_all = False
        self._readers: dict[str, list[Callable[[dict[str, Any]], Any]]] = {}
        self._ledger: deque[dict[str, Any]] = deque(maxlen=_KEPT)
        #: The units to which something is granted.
        self._holders: set[str] = set()
        self._envelopes: deque[dict[str, Any]] = deque(maxlen=2_000)
        #: How long the latest units of each objective took, in seconds.
        self._seconds: dict[str, deque[float]] = {}
        self._saturated: set[str] = set()
        self._written: dict[str, int] = {}
        self._random = Random()  # noqa: S311 - no secret
        self._orch: TaskOrchestrator | None = None
        self._make_parts()
        packed = (
            self.config.get(
                "tadpole_execution.spawning_rules.communication_mode",
                "binary_symbolic_protocol",
            )
            != "json"
        )
        #: The two ends of the channel between units and the orchestrator.
        self._there = Channel()
        self._here = Channel(self._there.capabilities if packed else None)
        self._compresses = packed and (
            self.config.get(
                "tadpole_execution.communication_encoding.compression",
                "dictionary_learning",
            )
            == "dictionary_learning"
        )

    def _make_parts(self) -> None:
        config = self.config
        self._allocator = ProportionalAllocator({**config.chunks, "threads": 1})
        scored = "job_intake_pipeline.classification_engine.scoring_inputs"
        usual = config.threads
        most = self._most_threads
        threads = sorted({max(1, usual // 2), usual, min(most, 2 * usual)})
        self._threads = LearnedValue(
            threads if len(threads) > 1 else [usual, most + usual],
            baseline=threads.index(usual) if len(threads) > 1 else 0,
            context=("type",),
            reward="given",
            name="thread_pool_configuration",
            **self._learns,
        )
        self._weights = LearnedValue(
            [1.0, 2.0, 0.5],
            context=("type",),
            reward="given",
            name="resource_allocation_weights",
            **self._learns,
        )
        self._queue = _JobQueue(
            {n: worth for n, worth in _WORTH.items() if config.has(scored, n)},
            lambda: self._learners,
            self._restore,
            self._recall,
        )
        #: What runs the three cycles: for the drivers of a simulation, too.
        self.cycles: Cycles = self._make_cycles()

    @property
    def _most_threads(self) -> int:
        path = "tadpole_execution.multithreading.max_threads_per_tadpole"
        return int(self.config.get(path, 16))

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
            objective = self._objectives.setdefault(name, _Objective())
            if kind in objective.handlers:
                msg = f"the objective {name} has a function as {kind} already"
                raise InvalidTaskError(msg)
            objective.handlers[kind] = function
            objective.complexity = (
                complexity if complexity is not None else objective.complexity
            )
            objective.counts_own = objective.counts_own or own_rewards
            if self._orch is not None:
                self._add_agent(name, kind, function)
                self._add_specialist(name)
            return function

        return add

    def _add_specialist(self, name: str) -> None:
        """Have it learnt which specialisation of the objective *name* does best."""
        objective = self._objectives[name]
        kinds = sorted(objective.handlers)
        if len(kinds) < 2 or not self.config.has(_ADAPTS, _SPECIALIZATION):  # noqa: PLR2004 - something to choose
            return
        if objective.specialist is not None:
            objective.specialist.change(kinds)
            return
        # None of them is the static choice, so there is no floor to keep to; and what
        # has no reward yet is drawn by chance, whichever was registered first.
        objective.specialist = specialist = LearnedValue(
            kinds,
            context=("type",),
            reward="given",
            name=f"{_SPECIALIZATION}/{name}",
            **{**self._learns, "floor": 1.0},
        )
        if self._orch is not None:
            self._queue.join(specialist)

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
        if name not in self.config.hooks:
            msg = f"{name} is no hook of this configuration"
            raise InvalidTaskError(msg + nearest(name, self.config.hooks))
        self._hooks[name] = function

    def hooks(self) -> dict[str, str]:
        """Each hook as the configuration names it, and whether it is `bound`."""
        return {
            written: "bound" if name in self._hooks else "unbound"
            for name, written in self.config.hooks.items()
        }

    def subscribe(self, topic: str, reader: Callable[[dict[str, Any]], Any]) -> None:
        """
        Have *reader* called with each message that is published to *topic*.

        Raises:
            InvalidTaskError: The configuration names no such topic.
        """
        topics = self._topics.values()
        if topic not in topics:
            msg = f"{topic} is no topic{nearest(topic, topics)}"
            raise InvalidTaskError(msg, hint=f"there are {', '.join(topics)}")
        self._readers.setdefault(topic, []).append(reader)

    @property
    def _topics(self) -> dict[str, str]:
        path = "job_lifecycle.telemetry_topics"
        usual = {
            "job_events": "control_plane.job_events",
            "resource_updates": "control_plane.resource_updates",
        }
        topics = {**usual, **self.config.get(path, {})}
        ledger = self.config.get("resource_pools.allocation_algorithm.audit_logging")
        return topics if ledger is None else {**topics, "audit_logging": ledger}

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
        return self._page(self._all_records())

    def _page(self, records: list[JobRecord]) -> dict[str, Any]:
        learnt = {
            name: [attrs.asdict(one) for one in learnings]
            for name, learnings in self.learned().items()
        }
        return {
            "about": self.about(),
            "learned": learnt,
            "metrics": self._metrics_together(records),
            "hooks": self.hooks(),
        }

    def diary(self) -> dict[str, Any] | None:
        """
        What `told` said when the journal kept it last: of an earlier life, at first.

        Its metrics are of the jobs of that life. None: nothing was kept, or the
        configuration does not have it kept.
        """
        return self._diary

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

    def _does(self, transition: str, action: str) -> bool:
        path = f"job_lifecycle.state_transitions.{transition}.actions"
        return self.config.has(path, action)

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
        if self._orch is not None:
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
        arguments["router"] = _JobRouter(self._records)
        arguments["resources"] = pools
        for name in self._objectives:
            self._add_specialist(name)
        self._orch = orch = TaskOrchestrator(**arguments)
        self._join(orch)
        return orch

    def _join(self, orch: TaskOrchestrator) -> None:
        """Add the agents, and hear what happens."""
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
            getattr(orch.signals, signal).connect(self._hear)
        orch.drivers.add(self.cycles)

    def _add_agent(
        self, name: str, kind: str, function: Callable[[Unit, Job], Any]
    ) -> None:
        def handler(task: Task[Any], context: TaskContext) -> Any:
            return self._run_unit(name, function, task, context)

        capabilities = {f"objective:{name}", f"worker:{kind}"}
        self._running.agent(
            f"{kind}.{name}",
            capabilities=capabilities,
            max_concurrency=None,
            executor="thread",
        )(handler)

    @property
    def _running(self) -> TaskOrchestrator:
        if self._orch is None:
            msg = "these jobs have no orchestrator yet"
            raise InvalidTransitionError(msg, hint="with jobs.orchestrator(): …")
        return self._orch

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
            self._most_threads,
            self._here_to_there(),
            self._heard,
        )
        try:
            result = function(unit, job)
        finally:
            unit.threads.close()
            with self._lock:
                record = self._records.get(job.job_id)
                if record is not None:
                    record.busy += unit.threads.busy_seconds
                    record.granted += unit.threads.granted_seconds
        own = self._objectives[name].counts_own
        if unit.own_reward is not None and own:
            self._give(job.job_id, unit.own_reward, f"unit {unit.id}")
        return result

    def _here_to_there(self) -> Channel:
        return _JoinedChannel(self._here, self._there)

    def _heard(self, unit: Unit, message: Any) -> None:
        unit.context.progress(message)
        notice = {"kind": "told", "unit": unit.id, "message": message}
        self._call("meta_feedback", notice)
        if isinstance(message, Mapping):
            with self._lock:
                self._envelopes.append({**message})

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
        with self._lock:
            if self._is_kept(body):
                return self.status(body["job_id"])
        job = job_of(body, self.config)
        self._check_known(job)
        with self._lock:
            existing = self._found(job.job_id)
        # The judgement may take its time: nobody waits for it but who assigns the job.
        judged = job if existing is not None else self._judged(job)
        with self._lock:
            existing = self._found(job.job_id)
            if existing is not None:
                self._refuse_another(existing.asked, job)
                return self.status(job.job_id)
            record = self._made(judged, job)
            self._records[job.job_id] = record
            self._waiting[job.job_id] = self._known()
            try:
                self._spawn(record)
            except BaseException:
                del self._records[job.job_id], self._waiting[job.job_id]
                raise
            pressed = sorted(self._saturated)
        if pressed:
            pressure = {"pools": pressed, "units": record.units}
            message = {"event": "mitigated", "job_id": job.job_id, **pressure}
            message["threads"] = record.threads
            self._send(self._topics["job_events"], message)
        return self.status(job.job_id)

    def _is_kept(self, body: object) -> bool:
        """Whether *body* asks for a job that was taken once, whatever holds by now."""
        job_id = body.get("job_id") if isinstance(body, Mapping) else None
        record = self._found(job_id) if isinstance(job_id, str) else None
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
        judge = self._hooks.get("pre_spawn_judgement")
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
        self._send(self._topics["job_events"], refused)
        msg = f"pre_spawn_judgement refused job {job.job_id}: {why}"
        raise InvalidTaskError(msg, hint="the hook decides what may be spawned")

    def _made(self, job: Job, asked: Job) -> JobRecord:
        has = self.config.has
        threads, weight = self.config.threads, 1.0
        if has(_ADAPTS, self._threads.name):
            threads = int(min(self._picked(self._threads, job), self._most_threads))
        if has(_ADAPTS, self._weights.name):
            weight = float(self._picked(self._weights, job))
        units = job.tadpole_count
        if self._saturated:
            path = "job_intake_pipeline.classification_engine.escalation_policy"
            path += ".mitigation_actions"
            if has(path, "spawn_additional_tadpoles"):
                # More and smaller units fit into what is left.
                units += max(1, math.ceil(units * _MORE))
            if has(path, "rebalance_thread_pools"):
                threads = max(1, threads // 2)
        kind = job.worker_id
        specialist = self._objectives[job.objective].specialist
        if kind is None and specialist is not None:
            kind = self._picked(specialist, job)
        record = JobRecord(job, asked, units, threads, weight, self._score(job), kind)
        record.why = self._why(record)
        return record

    def _why(self, record: JobRecord) -> str:
        """The threads, weight and specialisation of a job, each with its why."""
        first, objective = unit_task_id(record.job.job_id, 0), record.job.objective
        specialist = self._objectives[objective].specialist
        kind = record.specialization
        unlearnt = "the job names it" if record.job.worker_id else "there is no other"
        parts = (
            (counted(record.threads, "thread"), self._threads, record.threads, "usual"),
            (f"weight {record.weight:g}", self._weights, record.weight, "usual"),
            (f"specialisation {kind}", specialist, kind, unlearnt),
        )
        phrases: list[str] = []
        for phrase, part, value, otherwise in parts:
            why = otherwise
            chosen = None if part is None else part.learner.begin(first, 1)
            if part is not None and chosen is not None:
                pulls, mean = part.learner.record(chosen)
                why = f"mean reward {mean:.2f} of {pulls:.0f}" if pulls else "untried"
                why = f"{why}, chance {chosen.propensity:.2f}"
                if chosen.arm != (f"{value:g}" if part is not specialist else value):
                    why = f"{chosen.arm} was learnt ({why}), and pressure or a limit"
            if value is not None:
                phrases.append(f"{phrase} ({why})")
        return ", ".join(phrases)

    def _picked(self, part: LearnedValue, job: Job) -> Any:
        """What *part* has a job ask for; it hears the reward of the first unit."""
        first = unit_task_id(job.job_id, 0)
        return part.pick(first, job.objective, self._random)

    def _score(self, job: Job) -> dict[str, float]:
        return {
            "reward_signal": ((job.reward_signal or 0.0) + 1) / 2,
            "objective_complexity": self._complexity(job),
            "resource_pressure": self.pressure(),
        }

    def _complexity(self, job: Job) -> float:
        """From 0 to 1: as was said, or as long as its units take."""
        complexity = self._objectives[job.objective].complexity
        if complexity is not None:
            return complexity
        seconds = job.expected_duration_seconds
        latest = self._seconds.get(job.objective)
        if seconds is None and latest:
            seconds = median(latest)
        elif seconds is None:
            # Of this life nothing is known: the statistics know of earlier ones.
            types = self._running.get_stats().types
            statistics = types.get(job.objective)
            seconds = None if statistics is None else _median(statistics)
        return 0.0 if seconds is None else seconds / (seconds + _HALF)

    def pressure(self) -> float:
        """How full the fullest pool is, from 0 to 1."""
        usage = self._running.resources.usage()
        parts = [pool.used / pool.total for pool in usage.values() if pool.total]
        return min(1.0, max(parts, default=0.0))

    def _spawn(self, record: JobRecord) -> None:
        flow = Workflow("job")
        for task in self._units_of(record):
            flow.add(task)
        job_id = record.job.job_id
        self._running.workflows.start(flow, id=PREFIX + job_id)
        first = self._running.get_task_status(unit_task_id(job_id, 0))
        record.submitted_ns = _submitted_ns(first)

    def _units_of(self, record: JobRecord) -> list[Task]:
        """The tasks of a job, as its record has it."""
        job, units = record.job, record.units
        chunks = self.config.chunks
        amounts: dict[str, float] = {"threads": float(record.threads)}
        least: dict[str, float] = {"threads": 1.0}
        for name in ("compute_units", "memory_mb", "bandwidth_mbps"):
            whole, chunk = getattr(job, name), chunks.get(name, 0)
            if whole and self.config.get(f"resource_pools.{name}_total"):
                part = whole / units
                amounts[name] = math.ceil(part / chunk) * chunk if chunk else part
                if chunk:
                    least[name] = chunk
        fallback = "resource_pools.allocation_algorithm.fallback_policy"
        resources = Elastic(
            Resources.of(amounts, "requested_resources"),
            min=least,
            weight=record.weight,
            fallback=self.config.get(fallback, "best_effort"),
        )
        requires = [f"objective:{job.objective}"]
        if record.specialization is not None:
            requires.append(f"worker:{record.specialization}")
        body = job.to_dict()
        delay: float = self._throttle()
        tasks = []
        for index in range(units):
            about_job: dict[str, Any] = {}
            if not index:
                about_job["job"] = {
                    "body": body,
                    "asked": record.asked.to_dict(),
                    "units": units,
                    "threads": record.threads,
                    "weight": record.weight,
                    "specialization": record.specialization,
                    "why": record.why,
                }
            tasks.append(
                Task(
                    job.objective,
                    {"job": body, "unit": index, "units": units},
                    id=unit_id(job.job_id, index),
                    requires=requires,
                    resources=resources,
                    expected=job.expected_duration_seconds,
                    not_before=delay * (index + 1) if delay else None,
                    metadata={"job_id": job.job_id, **record.score, **about_job},
                )
            )
        return tasks

    def _throttle(self) -> float:
        """Seconds between the starts of units: none below the threshold."""
        path = "resource_pools.thread_pool.adaptive_throttling"
        if self.config.get(path, "disabled") != "enabled":
            return 0.0
        above = self.pressure() - self._threshold
        return max(0.0, above / max(1e-6, 1 - self._threshold))

    def _known_record(self, job_id: str) -> JobRecord:
        """
        The record of a job.

        Raises:
            UnknownTaskError: There is no such job.
        """
        record = self._found(job_id)
        if record is None:
            msg = f"no job has the id {job_id!r}"
            raise UnknownTaskError(msg, task_id=str(job_id))
        return record

    def _found(self, job_id: str) -> JobRecord | None:
        """The record of a job, of an earlier life as well; None: it is not known."""
        record = self._records.get(job_id)
        if record is not None or self._orch is None:
            return record
        try:
            status = self._orch.get_task_status(unit_task_id(job_id, 0))
        except UnknownTaskError:
            return None
        kept = (status.metadata or {}).get("job")
        if kept is None:
            return None
        job = kept_job(kept["body"])
        score = {name: status.metadata.get(name, 0.0) for name in _WORTH}
        # An earlier version has kept neither, and has done what followed at once.
        asked = kept_job(kept.get("asked", kept["body"]))
        record = JobRecord(
            *(job, asked, kept["units"], kept["threads"], kept["weight"], score),
            kept.get("specialization", job.worker_id),
            is_followed="asked" in kept,
            why=kept.get("why", ""),
        )
        if self._journal is not None:
            ids = self._journal.ids(in_run(PREFIX + job_id))
            for fact, _ in self._journal.select(ids, _NO_END):
                record.take_in(fact)
                if fact.seq <= self._recalled:
                    # Its life has told of it.
                    record.told = record.state
        self._records[job_id] = record
        return record

    def _state(self, job_id: str) -> str:
        return self._state_of(self._running.workflows.status(PREFIX + job_id))

    @staticmethod
    def _state_of(status: WorkflowStatus) -> str:
        if status.state in ("completed", "failed"):
            return str(status.state)
        if status.state in ("cancelled", "blocked"):
            return "failed"
        states = (TaskState.RUNNING, TaskState.COMPLETED, TaskState.RETRYING)
        begun = any(status.counts.get(one) for one in states)
        return "running" if begun else "queued"

    def status(self, job_id: str) -> dict[str, Any]:
        """
        How far a job is: its state, its units, its score and its metrics.

        Raises:
            UnknownTaskError: There is no such job.
        """
        with self._lock:
            record = self._known_record(job_id)
            status = self._running.workflows.status(PREFIX + job_id)
            return {
                "job_id": job_id,
                "objective": record.job.objective,
                "state": self._state_of(status),
                "units": {str(k): str(v) for k, v in status.tasks.items()},
                "errors": dict(record.errors),
                "specialization": record.specialization,
                "threads": record.threads,
                "weight": record.weight,
                "metadata": dict(record.job.metadata),
                "score": dict(record.score),
                "recoveries": record.recoveries,
                "rewards": dict(record.rewards),
                "metrics": self._metrics_of(record),
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
        with self._lock:
            record = self._known_record(job_id)
        until = None if timeout is None else time.monotonic() + timeout
        return [
            self._unit_result(record, task_id, until) for task_id in record.unit_ids
        ]

    def _unit_result(self, record: JobRecord, task_id: str, until: float | None) -> Any:
        """The result of a unit: that of its second run, if the first fails."""
        handle = self._running.handle(task_id)
        left = None if until is None else max(0.0, until - time.monotonic())
        error = handle.exception(left)
        recovers = self._does("running_to_failed", "schedule_recovery_attempt")
        is_first = not has_number(handle.task_id)
        if error is not None and recovers and is_first and record.is_followed:
            if handle.status.state is TaskState.FAILED:
                self._recover(record, task_id)
            again = self._running.handle(task_id)
            if again.task_id != handle.task_id:
                return self._unit_result(record, task_id, until)
        return handle.result(0)

    def all_jobs(self) -> dict[str, str]:
        """The state of each job that is known, of earlier lives as well, by its id."""
        return {
            record.job.job_id: self._state(record.job.job_id)
            for record in self._all_records()
        }

    def _all_records(self) -> list[JobRecord]:
        """Those of earlier lives as well, which are read once."""
        if self._journal is not None and not self._has_read_all:
            task_ids = self._journal.ids(PREFIX)
            run_ids = filter(None, map(run_of, task_ids))
            for job_id in dict.fromkeys(i.removeprefix(PREFIX) for i in run_ids):
                with self._lock:
                    self._found(job_id)
            self._has_read_all = True
        with self._lock:
            return list(self._records.values())

    def cancel(self, job_id: str, *, reason: str | None = None) -> bool:
        """
        Cancel what has not ended of a job; False if all of it has.

        That is no reward: nothing is learnt from it.

        Raises:
            UnknownTaskError: There is no such job.
        """
        with self._lock:
            self._known_record(job_id)
        return self._running.workflows.cancel(PREFIX + job_id, reason=reason)

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
        with self._lock:
            self._known_record(job_id)
            check_reward(value, source)
            if self._state(job_id) not in ("completed", "failed"):
                msg = f"job {job_id} has not ended: it cannot be rewarded yet"
                raise InvalidTransitionError(msg)
        return self._give(job_id, float(value), source)

    def _give(self, job_id: str, value: float, source: str) -> bool:
        with self._lock:
            record = self._found(job_id)
            if record is None or source in record.rewards:
                return record is not None and self._make_up(record, source)
            record.rewards[source] = value
            record.rewarded[source] = set()
            self._make_up(record, source)
        notice = {"kind": "reward", "job_id": job_id, "value": value, "source": source}
        self._call("learning_feedback_pipeline", notice)
        return True

    def _make_up(self, record: JobRecord, source: str) -> bool:
        """Have the word of *source* kept of each unit; whether that was not so."""
        changed = False
        for task_id in record.unrewarded(source):
            value = record.rewards[source]
            if self._running.reward_task(task_id, value, source=source):
                record.rewarded[source].add(task_id)
                changed = True
        return changed

    def _recall(self, journal: Any, last: int) -> None:
        self._journal, self._recalled = journal, last
        ids: dict[str, None] = {}
        for fact, _ in journal.read(self._followed) if self._followed < last else ():
            if isinstance(fact, TaskEvent) and fact.task_id.startswith(PREFIX):
                ids[first_of(fact.task_id).removeprefix(PREFIX)] = None
        self._followed = max(self._followed, last)
        # Before anything begins: a program may end as soon as it has started.
        for job_id in ids:
            self._try(job_id, self._follow_job, job_id)

    def _restore(self, kept: Callable[[str], Mapping[str, Any]]) -> None:
        documents = kept(_JOBS)
        followed, diary = documents.get(_FOLLOWED), documents.get(_DIARY)
        # A program may have written others under our name: then all is followed.
        self._followed = self._followed_kept = followed if type(followed) is int else 0
        self._diary = diary if isinstance(diary, dict) else None

    def learned(self) -> dict[str, tuple[Learning, ...]]:
        """What was learnt, for each target of adaptation."""
        return {
            self._weights.name: self._weights.learned(),
            _SPECIALIZATION: tuple(
                one for part in self._specialists for one in part.learned()
            ),
            self._threads.name: self._threads.learned(),
        }

    @property
    def _specialists(self) -> list[LearnedValue]:
        every = [objective.specialist for objective in self._objectives.values()]
        return [one for one in every if one is not None]

    @property
    def _learners(self) -> tuple[LearnedValue, ...]:
        return self._weights, self._threads, *self._specialists

    def reset(self) -> None:
        """Forget all that was learnt."""
        for part in self._learners:
            part.reset()

    # -- what happens --------------------------------------------------------------

    def _hear(self, event: Event) -> None:
        if isinstance(event, PoolSaturated | PoolRelieved):
            self._pressed(event)
        elif isinstance(event, TaskEvent) and event.task_id.startswith(PREFIX):
            run_id = first_of(event.task_id)
            self._of_unit(event, run_id.removeprefix(PREFIX))
            self._followed = max(self._followed, event.seq)

    def _pressed(self, event: PoolSaturated | PoolRelieved) -> None:
        with self._lock:
            if isinstance(event, PoolSaturated):
                self._saturated.add(event.pool)
            else:
                self._saturated.discard(event.pool)
        self._enter(event)

    def _of_unit(self, event: TaskEvent, job_id: str) -> None:
        with self._lock:
            record = self._found(job_id)
            if record is None:
                return
            record.take_in(event)
            self._waiting.pop(job_id, None)
            # Facts may be known before they are told of: what is new is the state.
            was, record.told = record.told, record.state
        if (
            isinstance(event, TaskStarted)
            and was == "queued"
            and self._does("queued_to_running", "publish_start_event")
        ):
            self._publish("job_events", "started", job_id, event)
        elif isinstance(event, TaskCompleted | TaskRetrying | TaskFailed):
            with self._lock:
                if isinstance(event, TaskCompleted):
                    latest = deque[float](maxlen=_LATEST)
                    latest = self._seconds.setdefault(record.job.objective, latest)
                    latest.append(event.latency)
                self._envelopes.append(
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
        job_id = record.job.job_id
        metrics = self._metrics_of(record)
        self._publish("job_events", "completed", job_id, event, metrics=metrics)
        if self._does("running_to_completed", "notify_judgement_system"):
            notice = {"kind": "completed", "job_id": job_id, **metrics}
            self._call("metadata_pipeline", notice)

    def _failed(self, record: JobRecord, event: Any) -> None:
        if self._does("running_to_failed", "publish_failure_event"):
            why = getattr(event, "message", "") or getattr(event, "reason", "")
            self._publish("job_events", "failed", record.job.job_id, event, why=why)

    def _follow(self, record: JobRecord) -> None:
        """
        Do what follows from what has become of a job, if it was not done.

        A unit that has failed once is run again; a job of which one has failed again is
        rewarded with -1, one that completed with its signal. That somebody cancelled it
        says nothing of how good it was.
        """
        job_id, signal = record.job.job_id, record.job.reward_signal
        recovers = self._does("running_to_failed", "schedule_recovery_attempt")
        improves = self._does(
            "running_to_completed", "update_worker_improvement_metrics"
        )
        with self._lock:
            to_recover = record.to_recover if recovers else []
        for task_id in to_recover:
            self._try(job_id, self._recover, record, task_id)
        has_failed = record.has_failed_again or (record.to_recover and not recovers)
        if has_failed and _FAILURE not in record.rewards:
            self._try(job_id, self._give, job_id, -1.0, _FAILURE)
        has_done = record.state == "completed" and improves and signal is not None
        if has_done and _SIGNAL not in record.rewards:
            self._try(job_id, self._give, job_id, signal, _SIGNAL)

    def _recover(self, record: JobRecord, task_id: str) -> None:
        """Run a unit that has failed again, once, whoever sees it first."""
        with self._recovering:
            with self._lock:
                was_run_again = record.was_run_again(task_id)
                record.recover(task_id)
            latest = self._running.get_task_status(task_id).task_id
            if not (was_run_again or has_number(latest)):
                self._running.rerun_task(task_id)

    @staticmethod
    def _try(job_id: str, act: Callable[..., object], *arguments: Any) -> None:
        """Do one thing that follows; if it fails, that is told, and others are done."""
        try:
            act(*arguments)
        except Exception as error:  # noqa: BLE001 - told: the job stays as it is
            _LOG.warning("what follows for job %s: %s", job_id, error)

    def _follow_job(self, job_id: str) -> None:
        with self._lock:
            record = self._found(job_id)
        if record is not None and record.is_followed:
            for source in list(record.rewards):
                self._make_up(record, source)
            self._follow(record)

    def _keep_followed(self) -> list[Act]:
        number = self._followed
        if number == self._followed_kept:
            return []
        self._followed_kept = number
        return [Act(lambda orch: orch.kept(_JOBS).update({_FOLLOWED: number}))]

    def _publish(
        self, topic: str, kind: str, job_id: str, event: Event, **more: Any
    ) -> None:
        message = {"event": kind, "job_id": job_id, "at": event.at, **more}
        self._send(self._topics[topic], message)

    def _enter(self, event: Event) -> None:
        """Enter in the ledger what *event* says of resources, and publish it."""
        with self._lock:
            message = _entry(event, self._holders)
            if message is None:
                return
            self._ledger.append(message)
        for topic in ("resource_updates", "audit_logging"):
            if topic in self._topics:
                self._send(self._topics[topic], message)

    def _send(self, topic: str, message: dict[str, Any]) -> None:
        for reader in self._readers.get(topic, ()):
            try:
                reader(message)
            except Exception:  # noqa: BLE001 - it is not ours, and is told of
                _LOG.exception("a reader of the topic %s has failed", topic)
        self._call("message_bus_infrastructure", {"topic": topic, **message})

    def _call(self, hook: str, notice: dict[str, Any]) -> None:
        function = self._hooks.get(hook)
        if function is not None:
            try:
                function(notice)
            except Exception:  # noqa: BLE001 - it is not ours, and is told of
                _LOG.exception("the hook %s has failed", hook)

    def ledger(self) -> list[dict[str, Any]]:
        """
        What was granted, changed and released, and when: the latest 10,000.

        Of earlier lives as well, if there is a journal: it is read for that.
        """
        earlier: deque[dict[str, Any]] = deque(maxlen=_KEPT)
        holders: set[str] = set()
        for fact, _ in () if self._journal is None else self._journal.read(0):
            if fact.seq > self._recalled:
                break
            if not isinstance(fact, TaskEvent) or fact.task_id.startswith(PREFIX):
                message = _entry(fact, holders)
                if message is not None:
                    earlier.append(message)
        with self._lock:
            return [*earlier, *self._ledger][-_KEPT:]

    # -- the three cycles ----------------------------------------------------------

    def _make_cycles(self) -> Cycles:
        hooks = self.config.get("self_improvement.optimisation_hooks")
        acts = {
            "micro_cycle": self._adjust_thread_weights,
            "macro_cycle": self._reallocate_resources,
            "meta_cycle": self._evolve_protocol,
        }
        named = {n: act for n, act in acts.items() if hooks is None or n in hooks}
        return Cycles({**named, "followed": self._keep_followed})

    def _adjust_thread_weights(self) -> list[Act]:
        """What waits asks for as many threads as are best by now."""
        return self._ask_again(self._threads)

    def _reallocate_resources(self) -> list[Act]:
        """What waits has the weight that is best by now; what was learnt is kept."""
        commands = self._ask_again(self._weights)
        learnt = self._known()
        if learnt != self._written:
            self._written = learnt
            commands += [Act(part.save) for part in self._learners]
            if self.config.has(_KEEPS, _DIARY):
                commands.append(Act(self._write_diary))
        return commands

    def _write_diary(self, orchestrator: Any) -> None:
        # The jobs of earlier lives are not read for it: that may take seconds.
        with self._lock:
            records = list(self._records.values())
        page = self._page(records)
        orchestrator.kept(_JOBS)[_DIARY] = page
        self._diary = page

    def _evolve_protocol(self) -> list[Act]:
        """A new dictionary, which both ends agree on."""
        return [Act(self._train)] if self._compresses else []

    def _train(self, _orchestrator: object) -> None:
        with self._lock:
            samples = list(self._envelopes)
        content = train(samples)
        if content:
            self._there.learn(content)
            self._here.learn(content)
            self._here.agree(self._there.capabilities)

    def _known(self) -> dict[str, int]:
        """How many rewards each part has learnt from."""
        return {part.name: part.rewards for part in self._learners}

    def _ask_again(self, part: LearnedValue) -> list[Act]:
        """Commands that have jobs that wait ask for what *part* has learnt since."""
        if not self.config.has(_ADAPTS, part.name):
            return []
        with self._lock:
            job_ids = [
                job_id
                for job_id, rewards in self._waiting.items()
                if rewards[part.name] != part.rewards
            ]
        return [
            Act(partial(self._asked_again, part, job_id))
            for job_id in job_ids[:_LOOKED_AT]
        ]

    def _asked_again(self, part: LearnedValue, job_id: str, orch: Any) -> None:
        with self._lock:
            rewards, record = self._waiting.get(job_id), self._records.get(job_id)
            if rewards is None or record is None:
                return
            first = orch.get_task_status(unit_task_id(job_id, 0))
            if first.attempts or first.state in TERMINAL:
                return
            rewards[part.name] = part.rewards
            picked = float(self._picked(part, record.job))
            before = record.threads, record.weight
            if part is self._threads:
                record.threads = int(min(picked, self._most_threads))
            else:
                record.weight = picked
            if before == (record.threads, record.weight):
                return
            record.why = self._why(record)
            for task in self._units_of(record):
                task_id = in_run(PREFIX + job_id, str(task.id))
                orch.submit_task(attrs.evolve(task, id=task_id))

    # -- metrics -------------------------------------------------------------------

    def _metrics_of(self, record: JobRecord) -> dict[str, float | None]:
        metrics = {
            "job_latency_seconds": record.latency if record.ended_ns else None,
            "compute_efficiency_ratio": _ratio(record.useful, record.spent),
            "thread_utilisation": _ratio(record.busy, record.granted),
            "binary_channel_entropy": self._here.entropy or None,
        }
        return self._collected(metrics)

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
        return self._metrics_together(self._all_records())

    def _metrics_together(self, records: list[JobRecord]) -> dict[str, float | None]:
        latencies = [record.latency for record in records if record.ended_ns]

        def total(name: str) -> float:
            return math.fsum(getattr(record, name) for record in records)

        return self._collected(
            {
                "job_latency_seconds": _ratio(math.fsum(latencies), len(latencies)),
                "compute_efficiency_ratio": _ratio(total("useful"), total("spent")),
                "thread_utilisation": _ratio(total("busy"), total("granted")),
                "binary_channel_entropy": self._here.entropy or None,
            }
        )

    def _collected(self, metrics: dict[str, float | None]) -> dict[str, float | None]:
        path = "self_improvement.metadata_capture.metrics_collected"
        if not self._does("running_to_completed", "record_metrics"):
            return {}
        return {name: metrics[name] for name in METRICS if self.config.has(path, name)}


class _JoinedChannel(Channel):
    """Both ends of a channel in one process: what one sends the other receives."""

    def __init__(self, here: Channel, remote: Channel) -> None:
        super().__init__()
        self._sends, self._receives = here, remote

    def send(self, message: Any) -> bytes:
        """See `Channel.send`."""
        return self._sends.send(message)

    def receive(self, frame: bytes) -> Any:
        """See `Channel.receive`."""
        return self._receives.receive(frame)


class _JobRouter(PerformanceRouter):
    """The router of jobs: its reason says what was chosen for the job, and why."""

    def __init__(self, records: Mapping[str, JobRecord]) -> None:
        super().__init__()
        self._records = records

    def route(
        self, task: Task, candidates: Sequence[AgentView], context: Context
    ) -> Route:
        """See `TaskRouter.route`."""
        route = super().route(task, candidates, context)
        record = self._records.get((task.metadata or {}).get("job_id", ""))
        if record is None or not record.why:
            return route
        return Route(route.agent, f"{route.reason}; {record.why}")

    def __deepcopy__(self, memo: object) -> PerformanceRouter:
        # A simulation knows no jobs of this process.
        return PerformanceRouter()


class _JobQueue(ScoreQueue):
    """
    The queue of jobs; what was picked for one is said as its first unit begins.

    Args:
        weights: As of ScoreQueue.
        learners: Asked for what picks values for jobs, by their first units.
        restored: Called at the start with what gives the payloads of kept events.
        recalled: Called then with the journal and the number of its last fact.
    """

    def __init__(
        self,
        weights: Mapping[str, float],
        learners: Callable[[], tuple[LearnedValue, ...]],
        restored: Callable[[Callable[[str], Any]], None],
        recalled: Callable[[Any, int], None],
    ) -> None:
        super().__init__(weights)
        self._learners = learners
        self._restored = restored
        self._recalled = recalled
        self._orch: Any = None
        #: What gives documents by names.
        self._kept: Callable[[str], Mapping[str, Any]] | None = None

    def attach(self, orchestrator: Any) -> None:
        """See `Learned.attach`."""
        self._orch = orchestrator
        for part in self._learners():
            part.attach(orchestrator)

    def join(self, part: LearnedValue) -> None:
        """Have one more learn, as those that were there from the beginning."""
        if self._kept is not None:
            part.restore(self._kept)
        part.attach(self._orch)

    def choice_of(self, task_id: str, attempt: int) -> tuple[str, float] | None:
        """See `Learned.choice_of`: what was picked, all together."""
        choices = [part.choice_of(task_id, attempt) for part in self._learners()]
        picked = [one for one in choices if one is not None]
        if not picked:
            return None
        arms, chances = zip(*picked, strict=True)
        return " + ".join(arms), math.prod(chances)

    def restore(self, kept: Callable[[str], Mapping[str, Any]]) -> None:
        """See `Learned.restore`."""
        self._kept = kept
        for part in self._learners():
            part.restore(kept)
        self._restored(kept)

    def recall(self, journal: Any, last: int) -> None:
        """See `Learned.recall`."""
        self._recalled(journal, last)

    def __deepcopy__(self, memo: object) -> ScoreQueue:
        # In a simulation nothing is learnt.
        return ScoreQueue(self.weights)


def _entry(event: Event, holders: set[str]) -> dict[str, Any] | None:
    """
    What the ledger says of *event*; None: nothing.

    Args:
        event: The next one.
        holders: The units to which something is granted, before it, and then after it.
    """
    entry: dict[str, Any] = {"seq": event.seq, "at": event.at}
    if isinstance(event, PoolSaturated | PoolRelieved):
        word = "saturated" if isinstance(event, PoolSaturated) else "relieved"
        amounts = {"used": event.used / 1e6, "total": event.total / 1e6}
        return {"event": word, **entry, "pool": event.pool, **amounts}
    amount: Iterable[tuple[str, int]] = ()
    if isinstance(event, TaskStarted):
        word, amount = "granted", event.allocation
        holders.add(event.task_id)
    elif isinstance(event, AllocationChanged):
        word, amount = "changed", event.after
    elif isinstance(event, _RELEASES) and event.task_id in holders:
        word = "released"
        holders.remove(event.task_id)
    else:
        return None
    resources = {name: units / 1e6 for name, units in amount}
    return {"event": word, **entry, "unit": event.task_id, "resources": resources}


def _ratio(part: float, whole: float) -> float | None:
    return part / whole if whole else None


def _submitted_ns(status: TaskStatus) -> int:
    return 0 if status.submitted is None else ns_of(status.submitted)


def _median(statistics: Any) -> float | None:
    return None if statistics.running is None else float(statistics.running.p50)
