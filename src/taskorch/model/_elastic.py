"""A request that may be granted in part."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Final, Literal, TypeAlias

import attrs

from taskorch._base._limits import MAX_WEIGHT
from taskorch.errors import InvalidTaskError
from taskorch.model._checks import check_word, is_number
from taskorch.model._resources import Resources, Units
from taskorch.model._show import show

#: What follows where an elastic request cannot have its whole share now.
Fallback: TypeAlias = Literal["best_effort", "all_or_nothing"]
FALLBACKS: Final[tuple[Fallback, ...]] = ("best_effort", "all_or_nothing")

#: What the kernel and the facts know of an elastic request: the least that the user
#: named, the weight in millionths, and the fallback.
Elasticity: TypeAlias = tuple[Units, int, Fallback]

_SCALE: Final = 1_000_000


@attrs.frozen(init=False, repr=False)
class Elastic(Resources):  # type: ignore[override]  # it has more fields
    """
    A request that may be granted in part: `Elastic(Resources(cpu=8), min={"cpu": 2})`.

    It is granted in whole chunks, whose sizes are the allocator's, between its least
    and all of it. While others contend, each has a share in proportion to its weight
    and its request. A grant shrinks to its share at the task's next checkpoint. From
    the first one on it grows when resources come free that nobody who waits could use:
    `context.allocation` says at any time what it is. An allocator that knows no chunks
    grants it whole.

    Args:
        resources: All that it could use.
        min: The least that is of use, of some of these; of the others it is one chunk,
            or all that is asked for if that is below a chunk.
        weight: How much it counts against others, for what it asks for; above 0.
        fallback: `"best_effort"` starts with what there is, from its least up;
            `"all_or_nothing"` starts only when its whole share is free.

    Attributes:
        units: The amounts of all of it, in whole millionths.
        min: The least that was named; nothing, if none was.
        weight: How much it counts.
        fallback: What follows where the whole share is not free.

    Raises:
        InvalidTaskError: It asks for nothing, *min* is not part of it, or the weight or
            the fallback is none.
    """

    min: Resources
    weight: float
    fallback: Fallback

    is_elastic: ClassVar[bool] = True

    def __init__(
        self,
        resources: Resources | Mapping[str, float],
        *,
        min: Resources | Mapping[str, float] | None = None,  # noqa: A002 - as in the contract
        weight: float = 1,
        fallback: Fallback = "best_effort",
    ) -> None:
        wanted = Resources.of(resources, "Elastic(resources)")
        if not wanted.units:
            msg = "Elastic(resources) asks for nothing, so there is nothing to divide"
            raise InvalidTaskError(msg, hint="Elastic(Resources(cpu=4))")
        least = Resources() if min is None else Resources.of(min, "min")
        asked = dict(wanted.units)
        for name, units in least.units:
            if units > asked.get(name, 0):
                _refuse_least(name, units, asked)
        if not is_number(weight, 1 / _SCALE, MAX_WEIGHT):
            words = f"a number from 0.000001 to {MAX_WEIGHT:,}"
            msg = f"weight is {words}, not {show(weight)}"
            hint = "weight=2 counts twice as much as weight=1"
            raise InvalidTaskError(msg, hint=hint)
        check_word("fallback", fallback, FALLBACKS)
        object.__setattr__(self, "units", wanted.units)
        object.__setattr__(self, "zeros", wanted.zeros)
        object.__setattr__(self, "min", least)
        object.__setattr__(self, "weight", weight)
        object.__setattr__(self, "fallback", fallback)

    @property
    def elasticity(self) -> Elasticity:
        """What the kernel knows of it, but for the amounts."""
        return self.min.units, round(self.weight * _SCALE), self.fallback

    def __add__(self, other: Resources) -> Elastic:
        return Elastic(
            super().__add__(other),
            min=self.min,
            weight=self.weight,
            fallback=self.fallback,
        )

    def __repr__(self) -> str:
        arguments = [repr(Resources.from_units(self.units))]
        if self.min:
            arguments.append(f"min={self.min!r}")
        if self.weight != 1:
            arguments.append(f"weight={self.weight:g}")
        if self.fallback != FALLBACKS[0]:
            arguments.append(f"fallback={self.fallback!r}")
        return f"Elastic({', '.join(arguments)})"


def elasticity_of(resources: Resources) -> Elasticity | None:
    """What the kernel knows of *resources* if they are elastic; None: they are not."""
    return resources.elasticity if isinstance(resources, Elastic) else None


def requested(units: Units, elasticity: Elasticity | None) -> Resources:
    """The resources that the kernel knows like this: the inverse of both."""
    if elasticity is None:
        return Resources.from_units(units)
    least, weight, fallback = elasticity
    return Elastic(
        Resources.from_units(units),
        min=Resources.from_units(least),
        weight=weight / _SCALE,
        fallback=fallback,
    )


def _refuse_least(name: str, units: int, asked: Mapping[str, int]) -> None:
    least = f"{units / _SCALE:g}"
    if name not in asked:
        msg = f"min names {least} {name}, and the request has no {name}"
        hint = f"ask for {name} in the resources, or leave it out of min"
    else:
        msg = f"min is {least} {name}, more than the {asked[name] / _SCALE:g} asked for"
        hint = f"a min of {name} up to {asked[name] / _SCALE:g}"
    raise InvalidTaskError(msg, hint=hint)
