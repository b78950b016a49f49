"""What must hold for a test task to have succeeded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import attrs

from taskorch.kit.forms import Number, keys_of, may_be
from taskorch.kit.limits import MAX_SECONDS

_SHARE: Final = Number(most=1)
_ABOVE: Final = Number(is_above=True)
_SECONDS: Final = Number(most=MAX_SECONDS, is_above=True)


@attrs.frozen
class Criteria:
    """
    What must hold for a test task to have succeeded; None is not asked for.

    Attributes:
        pass_rate: The least share of tests that pass.
        coverage: The least share of covered lines.
        execution_time_max: Seconds that it may take.
        memory_max: MiB that it may use.
        speedup_min: The least speedup over a serial run.
        memory_efficiency: The least share of granted memory that is used.
    """

    pass_rate: float | None = attrs.field(
        default=None, metadata=may_be(_SHARE, "min_pass_rate")
    )
    coverage: float | None = attrs.field(
        default=None, metadata=may_be(_SHARE, "required_coverage")
    )
    execution_time_max: float | None = attrs.field(
        default=None, metadata=may_be(_SECONDS, "max_execution_time")
    )
    memory_max: float | None = attrs.field(default=None, metadata=may_be(_ABOVE))
    speedup_min: float | None = attrs.field(default=None, metadata=may_be(_ABOVE))
    memory_efficiency: float | None = attrs.field(default=None, metadata=may_be(_SHARE))

    def said(self) -> dict[str, float]:
        """What is asked for, by name."""
        return attrs.asdict(self, filter=lambda _, value: value is not None)

    def __bool__(self) -> bool:
        return bool(self.said())


#: What messages call them, by that name, and by ours.
IN_MESSAGES: Final[Mapping[str, str]] = {
    name: word for name, one in keys_of(Criteria).items() for word in one.words
}
