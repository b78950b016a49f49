"""What a configuration of adaptive jobs says: every key acts, or is refused by name."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

import attrs

from taskorch._base import _vocabulary
from taskorch.errors import InvalidTaskError
from taskorch.model._checks import is_number
from taskorch.model._show import show

#: What each transition may do, in the words of the configuration.
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
#: Actions without which there is no transition: they cannot be left out.
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


@attrs.frozen
class _One:
    """One of these texts."""

    known: tuple[str, ...]


@attrs.frozen
class _Some:
    """A list of some of these texts."""

    known: tuple[str, ...]


@attrs.frozen
class _Number:
    least: float = 0
    most: float = 1e12
    is_whole: bool = True


_PATH: Final = re.compile(r"(/[A-Za-z0-9_-]+)+")
_TEXT: Final = object()
_TEXTS: Final = object()
_AMOUNTS: Final = object()

#: Every key that there is, and what may stand there.
_KNOWN: Final[Mapping[str, Any]] = {
    "task_orchestration_metadata": {
        "name": _TEXT,
        "version": _TEXT,
        "mission": _TEXT,
        "integration_points": _TEXTS,
    },
    "job_intake_pipeline": {
        "api_endpoint": _TEXT,
        "payload_contract": {
            "required_fields": _Some(REQUIRED + OPTIONAL),
            "optional_fields": _Some(REQUIRED + OPTIONAL),
        },
        "classification_engine": {
            "algorithm": _One(("multi-objective_priority_queue",)),
            "scoring_inputs": _Some(SCORED),
            "escalation_policy": {
                "saturation_threshold": _Number(0.01, 1, is_whole=False),
                "mitigation_actions": _Some(MITIGATIONS),
            },
        },
    },
    "resource_pools": {
        "compute_units_total": _Number(1),
        "memory_mb_total": _Number(1),
        "bandwidth_mbps_total": _Number(1),
        "thread_pool": {
            "max_threads": _Number(1, 100_000),
            "allocation_strategy": _One(("proportional_chunking",)),
            "adaptive_throttling": _One(("disabled", "enabled")),
        },
        "allocation_algorithm": {
            "fallback_policy": _One(("best_effort", "all_or_nothing")),
            "min_chunk": _AMOUNTS,
            "audit_logging": _TEXT,
        },
    },
    "tadpole_execution": {
        "spawning_rules": {
            "default_specialization": _TEXT,
            "communication_mode": _One(("binary_symbolic_protocol", "json")),
            "id_format": _One(("uuid4",)),
        },
        "multithreading": {
            "scheduler": _One(("thread_pool_executor",)),
            "default_threads_per_tadpole": _Number(1, 1_000),
            "max_threads_per_tadpole": _Number(1, 1_000),
            "communication_channel": _One(("low_latency_binary_bus",)),
        },
        "communication_encoding": {
            "symbol_set": _One(("adaptive_binary_symbols",)),
            "negotiation_protocol": _One(("capability_affinity_handshake",)),
            "compression": _One(("dictionary_learning", "none")),
            "worker_feedback_channel": _TEXT,
        },
    },
    "job_lifecycle": {
        "states": _Some(STATES),
        "state_transitions": {
            name: {"trigger": _One((TRIGGERS[name],)), "actions": _Some(actions)}
            for name, actions in ACTIONS.items()
        },
        "telemetry_topics": {"job_events": _TEXT, "resource_updates": _TEXT},
    },
    "self_improvement": {
        "reward_processing": {
            "reinforcement_signal_source": _One(("job_payload.reward_signal",)),
            "adaptation_targets": _Some(TARGETS),
        },
        "metadata_capture": {
            "metrics_collected": _Some(METRICS),
            "persistence_targets": _Some(PERSISTED),
        },
        "optimisation_hooks": {
            "micro_cycle": _One(("adjust_thread_weights",)),
            "macro_cycle": _One(("reallocate_resources",)),
            "meta_cycle": _One(("evolve_symbolic_protocol",)),
        },
    },
}


class JobConfig:
    """
    A configuration that was checked: what stands there, and defaults for the rest.

    Args:
        document: As YAML has it.

    Raises:
        InvalidTaskError: It has faults; the message names all of them.
    """

    def __init__(self, document: object) -> None:
        faults: list[str] = []
        _check("", document, _KNOWN, faults)
        if not faults:
            self._said: Mapping[str, Any] = document  # type: ignore[assignment]
            self._check_together(faults)
        if faults:
            raise InvalidTaskError("; ".join(faults))

    def _check_together(self, faults: list[str]) -> None:
        for total in ("compute_units", "memory_mb", "bandwidth_mbps"):
            chunk = self.chunks.get(total, 1)
            if chunk > self.get(f"resource_pools.{total}_total", chunk):
                faults.append(f"min_chunk: a chunk of {total} is more than there is")
        most = self.get("tadpole_execution.multithreading.max_threads_per_tadpole", 16)
        usual = self.threads
        if usual > most:
            faults.append(
                f"default_threads_per_tadpole is {usual}, above "
                f"max_threads_per_tadpole, {most}"
            )
        path = self.get("job_intake_pipeline.api_endpoint", "/commands")
        if not _PATH.fullmatch(path) or path.startswith("/api/"):
            faults.append(
                f"job_intake_pipeline.api_endpoint is a path such as /commands, not "
                f"{show(path)}"
            )
        states = self.get("job_lifecycle.states", STATES)
        faults += [
            f"job_lifecycle.states: {state} cannot be left out"
            for state in STATES
            if state not in states
        ]
        faults += [
            f"job_lifecycle.state_transitions.{name}.actions: {action} cannot be left "
            "out: it is the transition"
            for name, actions in ACTIONS.items()
            for action in set(actions) & set(INHERENT)
            if not self.has(f"job_lifecycle.state_transitions.{name}.actions", action)
        ]
        both = set(self.required) & set(self.optional)
        if both:
            faults.append(f"payload_contract: {', '.join(both)} is in both lists")
        unasked = [name for name in REQUIRED if name not in self.required]
        if unasked:
            faults.append(
                f"payload_contract.required_fields: {', '.join(unasked)} is needed"
            )

    def get(self, path: str, default: Any = None) -> Any:
        """What stands at *path*, with dots, or *default*."""
        part: Any = self._said
        for name in path.split("."):
            if not isinstance(part, Mapping) or part.get(name) is None:
                return default
            part = part[name]
        return part

    @property
    def required(self) -> tuple[str, ...]:
        """The fields that a job must have."""
        path = "job_intake_pipeline.payload_contract.required_fields"
        return tuple(self.get(path, REQUIRED))

    @property
    def optional(self) -> tuple[str, ...]:
        """The fields that it may have."""
        path = "job_intake_pipeline.payload_contract.optional_fields"
        return tuple(self.get(path, OPTIONAL))

    @property
    def chunks(self) -> dict[str, float]:
        """The pieces in which pools are granted."""
        path = "resource_pools.allocation_algorithm.min_chunk"
        return dict(self.get(path, {}))

    @property
    def threads(self) -> int:
        """How many threads a unit asks for that does not say."""
        path = "tadpole_execution.multithreading.default_threads_per_tadpole"
        return int(self.get(path, 4))

    def has(self, path: str, name: str) -> bool:
        """Whether the list at *path* names *name*; without such a list, all act."""
        names = self.get(path)
        return names is None or name in names

    @property
    def hooks(self) -> dict[str, str]:
        """The functions that others bind: by their short names, as they are written."""
        written = list(self.get("task_orchestration_metadata.integration_points", ()))
        path = "tadpole_execution.communication_encoding.worker_feedback_channel"
        written += [self.get(path)] if self.get(path) else []
        return {name.rpartition("#")[2]: name for name in written}


def _check(path: str, setting: object, schema: Any, faults: list[str]) -> None:  # noqa: C901, PLR0912 - one branch a kind
    where = path or "the configuration"
    if isinstance(schema, Mapping):
        if not isinstance(setting, Mapping):
            faults.append(f"{where}: a mapping is needed, not {show(setting)}")
            return
        for name, value in setting.items():
            inner = f"{path}.{name}" if path else str(name)
            if name not in schema:
                faults.append(f"{inner} is not known{nearest(str(name), schema)}")
            elif value is not None:
                _check(inner, value, schema[name], faults)
    elif isinstance(schema, _One):
        if setting not in schema.known:
            faults.append(
                f"{where} is {show(setting)}, and {' or '.join(schema.known)} is known"
            )
    elif isinstance(schema, _Number):
        if not is_number(setting, schema.least, schema.most) or (
            schema.is_whole and setting != int(setting)
        ):
            faults.append(
                f"{where}: a {'whole ' * schema.is_whole}number from {schema.least:g} "
                f"to {schema.most:g} is needed, not {show(setting)}"
            )
    elif schema is _TEXT:
        if not isinstance(setting, str) or not setting:
            faults.append(f"{where}: a text is needed, not {show(setting)}")
    elif schema is _AMOUNTS:
        if not isinstance(setting, Mapping):
            faults.append(f"{where}: a mapping is needed, not {show(setting)}")
            return
        names = ("compute_units", "memory_mb", "bandwidth_mbps")
        for name, size in setting.items():
            if name not in names:
                faults.append(f"{where}.{name} is not known{nearest(name, names)}")
            elif not is_number(size, 1e-6, 1e12):
                faults.append(f"{where}.{name}: an amount above 0, not {show(size)}")
    elif not isinstance(setting, list) or not all(
        isinstance(one, str) for one in setting
    ):
        faults.append(f"{where}: a list of texts is needed, not {show(setting)}")
    elif isinstance(schema, _Some):
        faults.extend(
            f"{where}: {one} is not known{nearest(one, schema.known)}"
            for one in setting
            if one not in schema.known
        )


def nearest(name: str, names: Any) -> str:
    """A question whether the nearest of *names* was meant, or nothing."""
    near = _vocabulary.nearest(str(name), names, 0.5)
    return f": did you mean {near}?" if near else ""
