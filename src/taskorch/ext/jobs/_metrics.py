"""Metrics of jobs that a configuration collects."""

from __future__ import annotations

import math
from collections.abc import Iterable

from taskorch.ext.jobs._config import METRICS, JobConfig
from taskorch.ext.jobs._hearing import Hearing
from taskorch.ext.jobs._record import JobRecord


class JobMetrics:
    """
    Metrics of jobs. None: nothing was measured.

    Args:
        config: The names of the collected metrics.
        hearing: The channel of the units' messages.
    """

    def __init__(self, config: JobConfig, hearing: Hearing) -> None:
        self._config = config
        self._hearing = hearing

    def of(self, record: JobRecord) -> dict[str, float | None]:
        """Return the metrics of one job."""
        latency = record.latency if record.ended_ns else None
        used = _ratio(record.useful, record.spent)
        return self._collected(latency, used, _ratio(record.busy, record.granted))

    def together(self, records: Iterable[JobRecord]) -> dict[str, float | None]:
        """Return the metrics of many jobs together."""
        every = list(records)
        latencies = [record.latency for record in every if record.ended_ns]

        def total(name: str) -> float:
            return math.fsum(getattr(record, name) for record in every)

        return self._collected(
            _ratio(math.fsum(latencies), len(latencies)),
            _ratio(total("useful"), total("spent")),
            _ratio(total("busy"), total("granted")),
        )

    def _collected(
        self, latency: float | None, efficiency: float | None, worked: float | None
    ) -> dict[str, float | None]:
        if not self._config.does("running_to_completed", "record_metrics"):
            return {}
        metrics = {
            "job_latency_seconds": latency,
            "compute_efficiency_ratio": efficiency,
            "thread_utilisation": worked,
            "binary_channel_entropy": self._hearing.entropy or None,
        }
        path = "self_improvement.metadata_capture.metrics_collected"
        has = self._config.has
        return {name: metrics[name] for name in METRICS if has(path, name)}


def _ratio(part: float, whole: float) -> float | None:
    return part / whole if whole else None
