"""Tasks of the units of a job."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any, Final, Literal

from taskorch.ext.jobs._config import JobConfig
from taskorch.ext.jobs._record import JobRecord
from taskorch.model import Elastic, Resources, Task
from taskorch.model.ids import last_of

#: The key in the metadata of units that ask for half the threads.
HALVED: Final = "half_threads"


def tasks_of(
    record: JobRecord, config: JobConfig, delay: float, indexes: range
) -> list[Task]:
    """
    Return the tasks of some units of a job, by its record.

    Args:
        record: The number of units, and their resources together.
        config: The chunks in which resources are granted.
        delay: Seconds from the start of a unit to that of the next.
        indexes: The units. The first one waits in the queue for the job.
    """
    job, units = record.job, record.units
    chunks = config.chunks
    amounts: dict[str, float] = {"threads": float(record.threads)}
    least: dict[str, float] = {"threads": 1.0}
    for name in ("compute_units", "memory_mb", "bandwidth_mbps"):
        whole, chunk = getattr(job, name), chunks.get(name, 0)
        if whole and config.get(f"resource_pools.{name}_total"):
            part = whole / units
            amounts[name] = math.ceil(part / chunk) * chunk if chunk else part
            if chunk:
                least[name] = chunk
    fallback = "resource_pools.allocation_algorithm.fallback_policy"
    resources = _request(
        tuple(amounts.items()),
        tuple(least.items()),
        record.weight,
        config.get(fallback, "best_effort"),
    )
    requires = [f"objective:{job.objective}"]
    if record.specialization is not None:
        requires.append(f"worker:{record.specialization}")
    body = job.to_dict()
    tasks = []
    for place, index in enumerate(indexes, 1):
        about_job: dict[str, Any] = {"why": record.why}
        if record.is_halved:
            about_job[HALVED] = True
        if not index:
            about_job["job"] = {
                "body": body,
                # None means that it is the same as the body.
                "asked": None if record.asked == job else record.asked.to_dict(),
                "units": units,
                "threads": record.threads,
                "weight": record.weight,
                "specialization": record.specialization,
            }
        tasks.append(
            Task(
                job.objective,
                {"job": body, "unit": index, "units": units},
                id=last_of(record.unit_ids[index]),
                requires=requires,
                resources=resources,
                expected=job.expected_duration_seconds,
                not_before=delay * place if delay else None,
                metadata={"job_id": job.job_id, **record.score, **about_job},
            )
        )
    return tasks


@lru_cache
def _request(
    amounts: tuple[tuple[str, float], ...],
    least: tuple[tuple[str, float], ...],
    weight: float,
    fallback: Literal["best_effort", "all_or_nothing"],
) -> Elastic:
    """Return the request of a unit; it is cached, since most jobs ask for the same."""
    resources = Resources.of(dict(amounts), "requested_resources")
    return Elastic(resources, min=dict(least), weight=weight, fallback=fallback)
