"""Fields of a job, checked all at once, and as a JSON Schema."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import attrs

from taskorch.errors import InvalidTaskError
from taskorch.ext.jobs._config import JobConfig
from taskorch.kit.forms import (
    AnyNames,
    Anything,
    DocumentOf,
    FaultList,
    Number,
    ReadMapping,
    Text,
    field,
)
from taskorch.kit.located import located
from taskorch.kit.visible import show
from taskorch.model.ids import check_id, has_segments

#: The most units of a job, since more are a mistake.
MOST_UNITS: Final = 10_000
_RESOURCES: Final = ("compute_units", "memory_mb", "bandwidth_mbps")


@attrs.frozen
class Job:
    """
    Job, as its user has asked for it.

    Attributes:
        job_id: Its identity. objective: The name of a registered function.
        compute_units: The compute units of all its units together.
        memory_mb: The memory of all its units together, in MiB.
        bandwidth_mbps: The bandwidth of all its units together.
        tadpole_count: Units.
        worker_id: The specialisation that must do it; None: any.
        expected_duration_seconds: The expected duration of a unit, or None.
        reward_signal: Its worth as a reward, from -1 to 1; None: it is not given.
        metadata: For its function.
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
        """Return the job as the body that asks for it."""
        body = attrs.asdict(self, recurse=False)
        body["requested_resources"] = {name: body.pop(name) for name in _RESOURCES}
        body["metadata"] = dict(self.metadata)
        return {name: value for name, value in body.items() if value is not None}


def _job_id(text: str) -> str:
    check_id(text)
    if has_segments(text):
        msg = f"no / may be in it: {show(text)}"
        raise InvalidTaskError(msg)
    return text


@attrs.frozen
class Requested:
    """
    Resources of all units of a job together.

    Attributes:
        compute_units: Compute units.
        memory_mb: MiB.
        bandwidth_mbps: Bandwidth.
    """

    compute_units: float = field(Number())
    memory_mb: float = field(Number())
    bandwidth_mbps: float = field(Number())


@attrs.frozen
class JobEntry:
    """
    Job as a document; the configuration defines the keys.

    Attributes:
        job_id: The same id is the same job.
        objective: The name of a registered function.
        requested_resources: For all its units together.
        tadpole_count: Units.
        worker_id: Its specialisation.
        expected_duration_seconds: Expected seconds of a unit.
        reward_signal: Its worth.
        metadata: For its function.
    """

    job_id: str = field(Text(check=_job_id))
    objective: str = field(Text())
    requested_resources: Requested = field(DocumentOf(Requested))
    tadpole_count: int = field(Number(least=1, most=MOST_UNITS, is_whole=True))
    worker_id: str = field(Text())
    expected_duration_seconds: float = field(Number(most=1e9, is_above=True))
    reward_signal: float = field(Number(-1, 1))
    metadata: Mapping[str, Any] = field(AnyNames(Anything(), plain=True))


def schema_of(config: JobConfig) -> dict[str, Any]:
    """Return the JSON Schema of a body that asks for a job."""
    schema = DocumentOf(JobEntry).schema()
    paths = [name.partition(".") for name in config.required]
    properties = {name: schema["properties"][name] for name in config.fields}
    properties["requested_resources"]["required"] = [
        inner for _, _, inner in paths if inner
    ]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **schema,
        "properties": properties,
        "required": list(dict.fromkeys(top for top, _, _ in paths)),
    }


def job_of(body: object, config: JobConfig) -> Job:
    """
    Parse *body* as a job.

    Raises:
        InvalidTaskError: It has faults; the message names all of them.
    """
    faults = FaultList()
    node = located(body)
    if not isinstance(body, Mapping):
        faults.wrong(node, "", "a mapping")
        raise InvalidTaskError("; ".join(faults.lines))
    none = ReadMapping({}, {}, node.place)
    entry: ReadMapping = DocumentOf(JobEntry).read(node, "", faults)
    fields = config.fields
    for name, (place, _) in entry.nodes.items():
        if name not in fields:
            faults.unknown(place, "", fields)
    asked: ReadMapping = entry.get("requested_resources", none)
    for path in config.required:
        top, _, inner = path.partition(".")
        if (inner or top) not in (asked if inner else entry).nodes:
            faults.add(node.place, "it is missing", path)
    for name, amount in asked.values.items():
        total = config.get(f"resource_pools.{name}_total", amount)
        if amount > total:
            text = f"{amount:g} is more than there is: there is {total:g}"
            faults.add(asked.at(name), text, f"requested_resources.{name}")
    if faults:
        raise InvalidTaskError("; ".join(faults.lines))
    return kept_job({**body, "tadpole_count": entry.get("tadpole_count")})


def kept_job(body: Mapping[str, Any]) -> Job:
    """Parse the job of an earlier *body*, without the present configuration."""
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
