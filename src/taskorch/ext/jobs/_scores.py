"""Urgency of a job, by its reward, its complexity and the usage of the pools."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from statistics import median
from typing import Any, Final

from taskorch.ext.jobs._choices import Objective
from taskorch.ext.jobs._contract import Job

#: The worth of each part of the score, in seconds of waiting.
WORTH: Final = {
    "reward_signal": 600.0,
    "objective_complexity": -60.0,
    "resource_pressure": -120.0,
}
#: Seconds of an attempt that count as half of the largest complexity.
_HALF: Final = 60.0
#: The latest units of an objective whose median is the expected duration.
_LATEST: Final = 50


class Scores:
    """
    Scoring of new jobs, by the durations of earlier units of their objectives.

    Args:
        objectives: The objectives by their names.
    """

    def __init__(self, objectives: Mapping[str, Objective]) -> None:
        self._objectives = objectives
        #: The durations of the latest units of each objective, in seconds.
        self._seconds: dict[str, deque[float]] = {}

    def note(self, objective: str, seconds: float) -> None:
        """Record how many seconds a unit of an objective took."""
        latest = deque[float](maxlen=_LATEST)
        self._seconds.setdefault(objective, latest).append(seconds)

    def of(
        self, job: Job, pressure: float, types: Callable[[], Mapping[str, Any]]
    ) -> dict[str, float]:
        """
        The score of a job.

        Args:
            job: The job.
            pressure: The usage of the fullest pool, from 0 to 1.
            types: Returns statistics by objective.
        """
        return {
            "reward_signal": ((job.reward_signal or 0.0) + 1) / 2,
            "objective_complexity": self._complexity(job, types),
            "resource_pressure": pressure,
        }

    def _complexity(self, job: Job, types: Callable[[], Mapping[str, Any]]) -> float:
        """Return the complexity from 0 to 1: as set, or from its units' duration."""
        complexity = self._objectives[job.objective].complexity
        if complexity is not None:
            return complexity
        seconds = job.expected_duration_seconds
        latest = self._seconds.get(job.objective)
        if seconds is None and latest:
            seconds = median(latest)
        elif seconds is None:
            statistics = types().get(job.objective)
            if statistics is not None and statistics.running is not None:
                seconds = float(statistics.running.p50)
        return 0.0 if seconds is None else seconds / (seconds + _HALF)
