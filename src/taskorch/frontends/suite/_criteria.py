"""What must hold for a test task to have succeeded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import attrs

#: The names that messages have for them.
SYNONYMS: Final[Mapping[str, str]] = {
    "min_pass_rate": "pass_rate",
    "required_coverage": "coverage",
    "max_execution_time": "execution_time_max",
}


@attrs.frozen
class Criteria:
    """
    What must hold for a test task to have succeeded; None is not asked for.

    Attributes:
        pass_rate: The share of tests that pass, at least.
        coverage: The share of lines that are covered, at least.
        execution_time_max: Seconds that it may take.
        memory_max: MiB that it may use.
        speedup_min: Seconds of the serial run over those of the parallel one, at
            least.
        memory_efficiency: The share of the memory granted that is used, at least.
    """

    pass_rate: float | None = None
    coverage: float | None = None
    execution_time_max: float | None = None
    memory_max: float | None = None
    speedup_min: float | None = None
    memory_efficiency: float | None = None

    def said(self) -> dict[str, float]:
        """What is asked for, by name."""
        return attrs.asdict(self, filter=lambda _, value: value is not None)

    def __bool__(self) -> bool:
        return bool(self.said())
