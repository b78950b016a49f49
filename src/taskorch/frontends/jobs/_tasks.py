"""The tasks that a job is."""

from __future__ import annotations

import math
from typing import Any

from taskorch.frontends.jobs._config import JobConfig
from taskorch.frontends.jobs._record import JobRecord, unit_id
from taskorch.model import Elastic, Resources, Task


def tasks_of(record: JobRecord, config: JobConfig, delay: float) -> list[Task]:
    """
    The tasks of a job, as its record has it.

    Args:
        record: Says how many there are, and what is asked for them together.
        config: Says in what chunks resources are granted.
        delay: Seconds from the start of one to that of the next.
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
    resources = Elastic(
        Resources.of(amounts, "requested_resources"),
        min=least,
        weight=record.weight,
        fallback=config.get(fallback, "best_effort"),
    )
    requires = [f"objective:{job.objective}"]
    if record.specialization is not None:
        requires.append(f"worker:{record.specialization}")
    body = job.to_dict()
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
