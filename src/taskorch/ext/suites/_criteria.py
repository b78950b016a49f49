"""The criteria by which a test task has succeeded."""

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
    The criteria by which a test task has succeeded; None: this one is not required.

    If all tests are skipped, the rate is 1. An unexpected pass is a pass, or a failure
    if strict. A broken setup or teardown is one error, and so is a test that began and
    did not end. The tests behind one that ended its process run in another process,
    however many do so; not with `-n` of xdist, which does so itself, nor where tests
    get other names each time. Behind a test that passed an enforced limit they run in a
    retry alone.

    `memory_max` judges the largest process; `memory_efficiency` is used / `memory_mb`.
    `speedup_min` needs `record_property("serial_seconds", …)` and `parallel_seconds`.

    `fail_under` of the project is ignored.

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
        """Return the criteria that are asked for, by name."""
        return attrs.asdict(self, filter=lambda _, value: value is not None)

    def __bool__(self) -> bool:
        return bool(self.said())


#: The field of each criterion, by each of its names in messages.
IN_MESSAGES: Final[Mapping[str, str]] = {
    name: word for name, one in keys_of(Criteria).items() for word in one.words
}
