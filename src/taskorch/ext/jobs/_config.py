"""
Configuration of adaptive jobs: every key has an effect, or is refused by name.

A key without a value counts as missing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any, Final

import attrs

from taskorch.errors import InvalidTaskError
from taskorch.kit import vocabulary
from taskorch.kit.forms import (
    DocumentOf,
    Each,
    FaultList,
    Number,
    Text,
    field,
    one_of,
)
from taskorch.kit.located import Located, located, places, plain
from taskorch.kit.visible import show

#: The possible actions of each transition, in the words of the configuration.
ACTIONS: Final[Mapping[str, tuple[str, ...]]] = {
    "queued_to_running": ("spawn_tadpoles", "publish_start_event"),
    "running_to_completed": (
        "release_resources",
        "record_metrics",
        "notify_judgement_system",
        "update_worker_improvement_metrics",
    ),
    "running_to_failed": (
        "release_resources",
        "publish_failure_event",
        "schedule_recovery_attempt",
    ),
}
TRIGGERS: Final = {
    "queued_to_running": "resource_allocation_success",
    "running_to_completed": "executor_signal_success",
    "running_to_failed": "executor_signal_failure",
}
#: Actions that are the transition itself, so they cannot be left out.
INHERENT: Final = ("spawn_tadpoles", "release_resources")
STATES: Final = ("queued", "running", "completed", "failed")
REQUIRED: Final = (
    "job_id",
    "objective",
    "requested_resources.compute_units",
    "requested_resources.memory_mb",
    "requested_resources.bandwidth_mbps",
    "tadpole_count",
)
OPTIONAL: Final = (
    "worker_id",
    "expected_duration_seconds",
    "reward_signal",
    "metadata",
)
SCORED: Final = ("reward_signal", "objective_complexity", "resource_pressure")
MITIGATIONS: Final = ("spawn_additional_tadpoles", "rebalance_thread_pools")
TARGETS: Final = (
    "resource_allocation_weights",
    "specialization_selection",
    "thread_pool_configuration",
)
METRICS: Final = (
    "job_latency_seconds",
    "compute_efficiency_ratio",
    "thread_utilisation",
    "binary_channel_entropy",
)
PERSISTED: Final = (
    "population_state.judgement_snapshots",
    "agent_state.metadata_diary",
)


_PATH: Final = re.compile(r"(/[A-Za-z0-9_-]+)+")
_COUNT: Final = Number(least=1, is_whole=True)
_CHUNK: Final = Number(is_above=True)
_THREADS: Final = Number(least=1, most=1_000, is_whole=True)
_FIELDS: Final = Each(one_of(*REQUIRED, *OPTIONAL), needs="a list of texts")


def _some(*words: str) -> Each:
    """Return the form of a list of some of these words."""
    return Each(one_of(*words), needs="a list of texts")


def _one(*words: str) -> Any:
    return field(one_of(*words))


def _section(cls: type) -> Any:
    return field(DocumentOf(cls, nulls=True))


@attrs.frozen
class AboutJobs:
    """
    Name and purpose of the jobs.

    Attributes:
        name: Its name.
        version: Its version.
        mission: Its purpose.
        integration_points: Hooks for functions of the user, as `FILE#HOOK`.
    """

    name: Any = field(Text())
    version: Any = field(Text())
    mission: Any = field(Text())
    integration_points: Any = field(Each(Text(is_any=True), needs="a list of texts"))


@attrs.frozen
class PayloadContract:
    """
    Fields of a job.

    Attributes:
        required_fields: Required.
        optional_fields: Optional.
    """

    required_fields: Any = field(_FIELDS)
    optional_fields: Any = field(_FIELDS)


@attrs.frozen
class EscalationPolicy:
    """
    Actions under pressure.

    Attributes:
        saturation_threshold: The share of the fullest pool that counts as pressure.
        mitigation_actions: Actions then, on new jobs, and on threads of units that run.
    """

    saturation_threshold: Any = field(Number(0.01, 1))
    mitigation_actions: Any = field(_some(*MITIGATIONS))


@attrs.frozen
class ClassificationEngine:
    """
    The order of jobs.

    Attributes:
        algorithm: By a score.
        scoring_inputs: Parts of the score.
        escalation_policy: Actions under pressure.
    """

    algorithm: Any = _one("multi-objective_priority_queue")
    scoring_inputs: Any = field(_some(*SCORED))
    escalation_policy: Any = _section(EscalationPolicy)


@attrs.frozen
class JobIntake:
    """
    Intake of jobs.

    Attributes:
        api_endpoint: The path over HTTP.
        payload_contract: Fields of a job.
        classification_engine: The order of jobs.
    """

    api_endpoint: Any = field(Text())
    payload_contract: Any = _section(PayloadContract)
    classification_engine: Any = _section(ClassificationEngine)


@attrs.frozen
class ThreadPool:
    """
    Threads of all units.

    Attributes:
        max_threads: The number of threads.
        allocation_strategy: `proportional_chunking`: shares are whole chunks.
        adaptive_throttling: Whether units start one by one under pressure.
    """

    max_threads: Any = field(Number(1, 100_000, is_whole=True))
    allocation_strategy: Any = _one("proportional_chunking")
    adaptive_throttling: Any = _one("disabled", "enabled")


@attrs.frozen
class Chunks:
    """
    Pieces in which pools are divided.

    Attributes:
        compute_units: Compute units.
        memory_mb: MiB.
        bandwidth_mbps: Bandwidth.
    """

    compute_units: Any = field(_CHUNK)
    memory_mb: Any = field(_CHUNK)
    bandwidth_mbps: Any = field(_CHUNK)


@attrs.frozen
class AllocationAlgorithm:
    """
    How pools are divided.

    Attributes:
        fallback_policy: The rule for a request if less than the whole of it is free.
        min_chunk: Pieces in which pools are divided.
        audit_logging: The topic of the ledger.
    """

    fallback_policy: Any = _one("best_effort", "all_or_nothing")
    min_chunk: Any = field(DocumentOf(Chunks))
    audit_logging: Any = field(Text())


@attrs.frozen
class ResourcePools:
    """
    The resource pools that all units share.

    Attributes:
        compute_units_total: Compute units.
        memory_mb_total: MiB.
        bandwidth_mbps_total: Bandwidth.
        thread_pool: Threads of all units.
        allocation_algorithm: How pools are divided.
    """

    compute_units_total: Any = field(_COUNT)
    memory_mb_total: Any = field(_COUNT)
    bandwidth_mbps_total: Any = field(_COUNT)
    thread_pool: Any = _section(ThreadPool)
    allocation_algorithm: Any = _section(AllocationAlgorithm)


@attrs.frozen
class SpawningRules:
    """
    The rules for new units.

    Attributes:
        default_specialization: The usual specialisation.
        communication_mode: How units report.
        id_format: The form of the ids of units.
    """

    default_specialization: Any = field(Text())
    communication_mode: Any = _one("binary_symbolic_protocol", "json")
    id_format: Any = _one("uuid4")


@attrs.frozen
class Multithreading:
    """
    Threads of a unit.

    Attributes:
        scheduler: The executor of units.
        default_threads_per_tadpole: The threads of a unit at first.
        max_threads_per_tadpole: The most threads of a unit.
        communication_channel: The channel for messages of units.
    """

    scheduler: Any = _one("thread_pool_executor")
    default_threads_per_tadpole: Any = field(_THREADS)
    max_threads_per_tadpole: Any = field(_THREADS)
    communication_channel: Any = _one("low_latency_binary_bus")


@attrs.frozen
class CommunicationEncoding:
    """
    How reports are packed.

    Attributes:
        symbol_set: Its symbols.
        negotiation_protocol: How both ends agree.
        compression: Whether a learnt dictionary packs frames.
        worker_feedback_channel: The hook that hears reports.
    """

    symbol_set: Any = _one("adaptive_binary_symbols")
    negotiation_protocol: Any = _one("capability_affinity_handshake")
    compression: Any = _one("dictionary_learning", "none")
    worker_feedback_channel: Any = field(Text())


@attrs.frozen
class UnitExecution:
    """
    Execution of units.

    Attributes:
        spawning_rules: Kind of the units.
        multithreading: Threads of a unit.
        communication_encoding: How reports are packed.
    """

    spawning_rules: Any = _section(SpawningRules)
    multithreading: Any = _section(Multithreading)
    communication_encoding: Any = _section(CommunicationEncoding)


def _transition(name: str) -> Any:
    """Make the class of a transition's section: a trigger, and its own actions."""
    cls = attrs.make_class(
        name,
        {
            "trigger": _one(TRIGGERS[name]),
            "actions": field(_some(*ACTIONS[name])),
        },
    )
    cls.__doc__ = """
    A transition.

    Attributes:
        trigger: Its cause.
        actions: The actions to do.
    """
    return _section(cls)


@attrs.frozen
class Transitions:
    """
    Transitions of a job.

    Attributes:
        queued_to_running: When its first unit starts.
        running_to_completed: When its last unit has completed.
        running_to_failed: When a unit has failed.
    """

    queued_to_running: Any = _transition("queued_to_running")
    running_to_completed: Any = _transition("running_to_completed")
    running_to_failed: Any = _transition("running_to_failed")


@attrs.frozen
class Topics:
    """
    Topics of messages.

    Attributes:
        job_events: The events of a job: spawned, started, completed, failed.
        resource_updates: Grants and releases.
    """

    job_events: Any = field(Text())
    resource_updates: Any = field(Text())


@attrs.frozen
class JobLifecycle:
    """
    States of a job.

    Attributes:
        states: Its states: all of them.
        state_transitions: Actions between states.
        telemetry_topics: Topics of messages.
    """

    states: Any = field(_some(*STATES))
    state_transitions: Any = _section(Transitions)
    telemetry_topics: Any = _section(Topics)


@attrs.frozen
class RewardProcessing:
    """
    Learning from rewards.

    Attributes:
        reinforcement_signal_source: Where rewards come from.
        adaptation_targets: Adapted values.
    """

    reinforcement_signal_source: Any = _one("job_payload.reward_signal")
    adaptation_targets: Any = field(_some(*TARGETS))


@attrs.frozen
class MetadataCapture:
    """
    Metrics.

    Attributes:
        metrics_collected: The metrics that are collected of each job.
        persistence_targets: Learnt values that the journal keeps.
    """

    metrics_collected: Any = field(_some(*METRICS))
    persistence_targets: Any = field(_some(*PERSISTED))


@attrs.frozen
class OptimisationHooks:
    """
    The three cycles.

    Attributes:
        micro_cycle: Each second.
        macro_cycle: Each ten seconds.
        meta_cycle: Each minute.
    """

    micro_cycle: Any = _one("adjust_thread_weights")
    macro_cycle: Any = _one("reallocate_resources")
    meta_cycle: Any = _one("evolve_symbolic_protocol")


@attrs.frozen
class SelfImprovement:
    """
    Settings of learning.

    Attributes:
        reward_processing: Learning from rewards.
        metadata_capture: Metrics.
        optimisation_hooks: The three cycles.
    """

    reward_processing: Any = _section(RewardProcessing)
    metadata_capture: Any = _section(MetadataCapture)
    optimisation_hooks: Any = _section(OptimisationHooks)


@attrs.frozen
class AdaptiveJobs:
    """
    All of a configuration of adaptive jobs.

    Attributes:
        task_orchestration_metadata: Name and purpose of the jobs.
        job_intake_pipeline: Intake of jobs.
        resource_pools: The resource pools that all units share.
        tadpole_execution: Execution of units.
        job_lifecycle: States of a job.
        self_improvement: Settings of learning.
    """

    task_orchestration_metadata: Any = _section(AboutJobs)
    job_intake_pipeline: Any = _section(JobIntake)
    resource_pools: Any = _section(ResourcePools)
    tadpole_execution: Any = _section(UnitExecution)
    job_lifecycle: Any = _section(JobLifecycle)
    self_improvement: Any = _section(SelfImprovement)


#: The form of a whole configuration.
CONFIGURATION: Final = DocumentOf(AdaptiveJobs, nulls=True)


class JobConfig:
    """
    Checked configuration, with defaults for missing settings.

    Args:
        document: The document as read from YAML, with or without places.

    Raises:
        InvalidTaskError: It has faults; the message names all of them.
    """

    def __init__(self, document: object) -> None:
        node = document if isinstance(document, Located) else located(document)
        faults = FaultList()
        if node.value is None:
            faults.wrong(node, "", CONFIGURATION.needs)
        CONFIGURATION.read(node, "", faults)
        if not faults:
            self._said: Mapping[str, Any] = plain(node)
            #: A cache of values by path, since each job asks for dozens of them.
            self._found: dict[str, Any] = {}
            by_path = dict(places(node))
            for path, text in (*self._apart(), *self._left_out()):
                faults.add(by_path.get(path, node.place), text, path)
        if faults:
            raise InvalidTaskError("; ".join(faults.lines))

    def _apart(self) -> Iterator[tuple[str, str]]:
        """Yield each setting that contradicts another: its path, and why."""
        path = "resource_pools.allocation_algorithm.min_chunk"
        for total, chunk in self.chunks.items():
            if chunk > self.get(f"resource_pools.{total}_total", chunk):
                yield f"{path}.{total}", "a chunk of it is more than there is"
        path = "tadpole_execution.multithreading."
        most = self.get(f"{path}max_threads_per_tadpole", 16)
        usual = self.threads
        if usual > most:
            yield (
                f"{path}default_threads_per_tadpole",
                f"it is {usual}, above max_threads_per_tadpole, {most}",
            )
        path = "job_intake_pipeline.api_endpoint"
        endpoint = self.get(path, "/commands")
        if not _PATH.fullmatch(endpoint) or endpoint.startswith("/api/"):
            yield path, f"a path such as /commands is needed, not {show(endpoint)}"
        path = "job_intake_pipeline.payload_contract"
        both = set(self.required) & set(self.optional)
        if both:
            yield path, f"{', '.join(sorted(both))} is in both lists"
        unasked = [name for name in REQUIRED if name not in self.required]
        if unasked:
            yield f"{path}.required_fields", f"{', '.join(unasked)} is needed"

    def _left_out(self) -> Iterator[tuple[str, str]]:
        """Yield each list without an entry that it must have: its path, and why."""
        states = self.get("job_lifecycle.states", STATES)
        for state in STATES:
            if state not in states:
                yield "job_lifecycle.states", f"{state} cannot be left out"
        for name, actions in ACTIONS.items():
            path = f"job_lifecycle.state_transitions.{name}.actions"
            for action in actions:
                if action in INHERENT and not self.has(path, action):
                    yield path, f"{action} cannot be left out: it is the transition"

    def get(self, path: str, default: Any = None) -> Any:
        """Return the value at *path*, with dots, or *default*."""
        if path not in self._found:
            part: Any = self._said
            for name in path.split("."):
                part = part.get(name) if isinstance(part, Mapping) else None
            self._found[path] = part
        value = self._found[path]
        return default if value is None else value

    def does(self, transition: str, action: str) -> bool:
        """Return whether *action* is done at a *transition* of a job."""
        path = f"job_lifecycle.state_transitions.{transition}.actions"
        return self.has(path, action)

    @cached_property
    def required(self) -> tuple[str, ...]:
        """Fields that a job must have."""
        path = "job_intake_pipeline.payload_contract.required_fields"
        return tuple(self.get(path, REQUIRED))

    @cached_property
    def optional(self) -> tuple[str, ...]:
        """Fields that a job may have."""
        path = "job_intake_pipeline.payload_contract.optional_fields"
        return tuple(self.get(path, OPTIONAL))

    @cached_property
    def fields(self) -> tuple[str, ...]:
        """All fields that a job may have."""
        tops = [name.partition(".")[0] for name in (*self.required, *self.optional)]
        return tuple(dict.fromkeys(tops))

    @property
    def chunks(self) -> dict[str, float]:
        """Amounts of which grants from the pools are multiples."""
        path = "resource_pools.allocation_algorithm.min_chunk"
        return dict(self.get(path, {}))

    @cached_property
    def threads(self) -> int:
        """Number of threads of a unit that asks for no number."""
        path = "tadpole_execution.multithreading.default_threads_per_tadpole"
        return int(self.get(path, 4))

    def has(self, path: str, name: str) -> bool:
        """Return whether the list at *path* has *name*; no list has all names."""
        names = self.get(path)
        return names is None or name in names

    @property
    def hooks(self) -> dict[str, str]:
        """Hook names, short, with the full names of the configuration."""
        written = list(self.get("task_orchestration_metadata.integration_points", ()))
        path = "tadpole_execution.communication_encoding.worker_feedback_channel"
        written += [self.get(path)] if self.get(path) else []
        return {name.rpartition("#")[2]: name for name in written}


def nearest(name: str, names: Any) -> str:
    """Return a question whether the nearest of *names* was meant, or ""."""
    near = vocabulary.nearest(str(name), names, 0.5)
    return f": did you mean {near}?" if near else ""
