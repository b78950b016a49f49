"""What a job says: its fields, checked all at once, and as a JSON Schema."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import attrs

from taskorch.errors import InvalidTaskError
from taskorch.frontends.jobs._config import JobConfig, nearest
from taskorch.model._checks import is_number
from taskorch.model._ids import check_id, has_segments
from taskorch.model._show import show

#: More units than this are no job, but a mistake.
MOST_UNITS: Final = 10_000
_RESOURCES: Final = ("compute_units", "memory_mb", "bandwidth_mbps")


@attrs.frozen
class Job:
    """
    A job, as its user has asked for it.

    Attributes:
        job_id: Its id: the same id is the same job.
        objective: What it is for: the name of a registered function.
        compute_units: How many compute units all its units ask for together.
        memory_mb: How much memory, likewise.
        bandwidth_mbps: How much bandwidth, likewise.
        tadpole_count: How many units do it.
        worker_id: The specialisation that is to do it, or None: any.
        expected_duration_seconds: How long a unit is expected to take, or None.
        reward_signal: How much it is worth, from -1 to 1, or None: that is not said.
        metadata: What its function is to know.
    """

    job_id: str
    objective: str
    compute_units: float
    memory_mb: float
    bandwidth_mbps: float
    tadpole_count: int
    worker_id: str | None = None
    expected_duration_seconds: float | None = None
    reward_signal: float | None = None
    metadata: Mapping[str, Any] = attrs.field(factory=dict, hash=False)

    def to_dict(self) -> dict[str, Any]:
        """The body that asks for it."""
        body = attrs.asdict(self, recurse=False)
        body["requested_resources"] = {name: body.pop(name) for name in _RESOURCES}
        body["metadata"] = dict(self.metadata)
        return {name: value for name, value in body.items() if value is not None}


def schema_of(config: JobConfig) -> dict[str, Any]:
    """The JSON Schema of a body that asks for a job."""
    amount = {"type": "number", "minimum": 0}
    resources = [
        name.partition(".")[2] for name in config.required if name.count(".") == 1
    ]
    fields: dict[str, Any] = {
        "job_id": {"type": "string", "minLength": 1},
        "objective": {"type": "string", "minLength": 1},
        "requested_resources": {
            "type": "object",
            "required": resources,
            "additionalProperties": False,
            "properties": dict.fromkeys(_RESOURCES, amount),
        },
        "tadpole_count": {"type": "integer", "minimum": 1, "maximum": MOST_UNITS},
        "worker_id": {"type": "string", "minLength": 1},
        "expected_duration_seconds": {"type": "number", "exclusiveMinimum": 0},
        "reward_signal": {"type": "number", "minimum": -1, "maximum": 1},
        "metadata": {"type": "object"},
    }
    tops = [name.partition(".")[0] for name in (*config.required, *config.optional)]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "required": list(
            dict.fromkeys(name.partition(".")[0] for name in config.required)
        ),
        "additionalProperties": False,
        "properties": {name: fields[name] for name in dict.fromkeys(tops)},
    }


def job_of(body: object, config: JobConfig) -> Job:
    """
    The job that *body* asks for.

    Raises:
        InvalidTaskError: It has faults; the message names all of them.
    """
    if not isinstance(body, Mapping):
        msg = f"a job is a mapping, not {show(body)}"
        raise InvalidTaskError(msg)
    fields = list(schema_of(config)["properties"])
    faults = [
        f"{name} is no field of a job{nearest(name, fields)}"
        for name in body
        if name not in fields
    ]
    asked = body.get("requested_resources", {})
    if not isinstance(asked, Mapping):
        faults.append(f"requested_resources is a mapping, not {show(asked)}")
        asked = dict.fromkeys(_RESOURCES, 0)
    faults += [
        f"requested_resources.{name} is not known{nearest(name, _RESOURCES)}"
        for name in asked
        if name not in _RESOURCES
    ]
    for path in config.required:
        top, _, inner = path.partition(".")
        if (inner or top) not in (asked if inner else body):
            faults.append(f"{path} is needed")
    for name in _RESOURCES:
        total = config.get(f"resource_pools.{name}_total")
        if name in asked and not is_number(asked[name], 0, total or 1e12):
            limit = f", and there is {total:g}" if total else ""
            faults.append(
                f"requested_resources.{name} is an amount from 0, not "
                f"{show(asked[name])}{limit}"
            )
    faults += _faults_of(body)
    if faults:
        raise InvalidTaskError("; ".join(faults))
    return kept_job(body)


def kept_job(body: Mapping[str, Any]) -> Job:
    """The job that *body* asked for once, whatever the configuration says by now."""
    asked = body.get("requested_resources", {})
    reward = body.get("reward_signal")
    return Job(
        job_id=body["job_id"],
        objective=body["objective"],
        tadpole_count=body["tadpole_count"],
        worker_id=body.get("worker_id"),
        expected_duration_seconds=body.get("expected_duration_seconds"),
        reward_signal=None if reward is None else float(reward),
        metadata=dict(body.get("metadata") or {}),
        **{name: float(asked.get(name, 0)) for name in _RESOURCES},
    )


def _faults_of(body: Mapping[str, Any]) -> list[str]:
    faults = []
    if "job_id" in body:
        try:
            check_id(body["job_id"])
            if has_segments(body["job_id"]):
                msg = f"no / may be in it: {show(body['job_id'])}"
                raise InvalidTaskError(msg)  # noqa: TRY301 - one handler for both
        except InvalidTaskError as error:
            faults.append(f"job_id: {error}")
    faults += [
        f"{name} is a text, not {show(body[name])}"
        for name in ("objective", "worker_id")
        if name in body and not (isinstance(body[name], str) and body[name])
    ]
    count = body.get("tadpole_count", 1)
    if not is_number(count, 1, MOST_UNITS) or not isinstance(count, int):
        faults.append(
            f"tadpole_count is a whole number from 1 to {MOST_UNITS:,}, not "
            f"{show(count)}"
        )
    expected = body.get("expected_duration_seconds", 1)
    if not is_number(expected, 1e-6, 1e9):
        faults.append(
            f"expected_duration_seconds is a number above 0, not {show(expected)}"
        )
    reward = body.get("reward_signal", 0)
    if not is_number(reward, -1, 1):
        faults.append(f"reward_signal is a number from -1 to 1, not {show(reward)}")
    if not isinstance(body.get("metadata", {}), Mapping):
        faults.append(f"metadata is a mapping, not {show(body['metadata'])}")
    return faults
