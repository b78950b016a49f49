"""How urgent a job is: its reward, how complex it is, how full the pools are."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from statistics import median
from typing import Any, Final

from taskorch.frontends.jobs._choices import Objective
from taskorch.frontends.jobs._contract import Job

#: What each objective of the score is worth, in seconds of waiting.
WORTH: Final = {
    "reward_signal": 600.0,
    "objective_complexity": -60.0,
    "resource_pressure": -120.0,
}
#: Seconds of an attempt that count as half of the greatest complexity.
_HALF: Final = 60.0
#: Units of an objective whose median says how long one takes.
_LATEST: Final = 50


class Scores:
    """
    Scores jobs as they are taken, by how long units of their objectives took.

    Args:
        objectives: The objectives that there are, by their names.
    """

    def __init__(self, objectives: Mapping[str, Objective]) -> None:
        self._objectives = objectives
        #: How long the latest units of each objective took, in seconds.
        self._seconds: dict[str, deque[float]] = {}

    def note(self, objective: str, seconds: float) -> None:
        """A unit of an objective took so many seconds."""
        latest = deque[float](maxlen=_LATEST)
        self._seconds.setdefault(objective, latest).append(seconds)

    def of(
        self, job: Job, pressure: float, types: Callable[[], Mapping[str, Any]]
    ) -> dict[str, float]:
        """
        The score of a job.

        Args:
            job: The job.
            pressure: How full the fullest pool is.
            types: Gives statistics of earlier lives, by objectives.
        """
        return {
            "reward_signal": ((job.reward_signal or 0.0) + 1) / 2,
            "objective_complexity": self._complexity(job, types),
            "resource_pressure": pressure,
        }

    def _complexity(self, job: Job, types: Callable[[], Mapping[str, Any]]) -> float:
        """From 0 to 1: as was said, or as long as its units take."""
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
