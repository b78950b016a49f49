"""
Resources as a vector of named amounts; requests that may be granted in part.

They are kept in whole millionths, so that sums are exact: ten tasks of 0.1 cpu fill one
cpu, and when they have ended it is exactly free again.
"""

from __future__ import annotations

from collections.abc import ItemsView, Iterator, Mapping, Sequence
from typing import Any, ClassVar, Final, Literal, TypeAlias

import attrs

from taskorch.errors import InvalidTaskError
from taskorch.kit.checks import check_word, is_name, is_number
from taskorch.kit.limits import MAX_AMOUNT, MAX_UNIT_NAME, MAX_UNITS, MAX_WEIGHT
from taskorch.kit.visible import is_text, show
from taskorch.kit.vocabulary import OTHER_RESOURCES

#: `(name, whole millionths)` pairs, sorted by name, none of them zero.
Units = tuple[tuple[str, int], ...]

#: Named units: the resource, the name, whole millionths, and whether the worker owns
#: it.
HeldUnits = tuple[tuple[str, str, int, bool], ...]
#: The resources with named units, each with these names, sorted by resource.
UnitNames = tuple[tuple[str, tuple[str, ...]], ...]

_SCALE: Final = 1_000_000


@attrs.frozen(init=False, repr=False)
class NamedUnits:
    """
    Named units in place of an amount: `gpu=NamedUnits("0", "1")`.

    A task asks for an amount: a part of one unit (`gpu=0.5`), or whole ones (`gpu=2`).
    The start of an attempt chooses its units.

    A part is one of the fullest unit that has room for it; 1.5 is refused. Parts
    fragment: two units with 0.6 in use each have no room for 0.5, and `explain` names
    the free part of each. An `Elastic` request gets whole units, or a part of one, and
    keeps them from start to end.

    A worker process ends after a call that has units of `gpu`, since the devices that
    it has opened stay open. A worker whose `capacity` names units has these for its
    attempts, and a pool bounds the amount only. Units of a pool are of this machine: a
    worker elsewhere gets no variable for them. A template names none; `spawn(…,
    {"capacity": …})` names those of each worker. A name that leaves a pool and returns
    is free once its attempt has ended.

    With the extra `gpu`, GPUs of NVIDIA are found: their names are UUIDs, and parts of
    a divided one (MIG) are units. If `CUDA_VISIBLE_DEVICES` is set, only those are
    found; its numbers stay as they are, unless `CUDA_DEVICE_ORDER=PCI_BUS_ID`. One that
    does not answer is left out, and the log says so. Attempts on a GPU that falls off
    the bus go on or fail by themselves; nothing new starts there.
    `orch.agents.get(…).units` says what is in use of each unit of a worker.

    Args:
        names: The names, each a text or a whole number; without names there is no unit.

    Attributes:
        names: The names as texts, in this order.

    Raises:
        InvalidTaskError: A name is invalid or repeated, or there are more than 1,000.
    """

    names: tuple[str, ...]

    def __init__(self, *names: str | int) -> None:
        texts = tuple([_name_of_unit(name) for name in names])
        if len(texts) > MAX_UNITS:
            msg = f"{len(texts):,} units have names, and {MAX_UNITS:,} may"
            raise InvalidTaskError(
                msg, hint="say how many there are: Resources(x=5000)"
            )
        twice = [name for name in dict.fromkeys(texts) if texts.count(name) > 1]
        if twice:
            msg = f"the unit {twice[0]!r} is named twice"
            raise InvalidTaskError(msg, hint="each unit has a name of its own")
        object.__setattr__(self, "names", texts)

    def __repr__(self) -> str:
        return f"NamedUnits({', '.join(map(repr, self.names))})"


def _name_of_unit(name: object) -> str:
    """Return *name* as text if a unit may have it, or raise an error."""
    text = str(name) if type(name) is int and name >= 0 else name
    is_word = isinstance(text, str) and text.isprintable() and text.strip() == text
    if not (isinstance(text, str) and is_word and 0 < len(text) <= MAX_UNIT_NAME):
        msg = f"a unit has a name such as '0', not {show(name)}"
        hint = 'NamedUnits("0", "1") names two; of units without names, say how many'
        raise InvalidTaskError(msg, hint=hint)
    if "," in text:
        msg = f"the name of a unit has no comma: {show(name)}"
        raise InvalidTaskError(msg, hint='NamedUnits("0", "1") names two')
    return text


def to_units(name: str, amount: object) -> int:
    """
    Return *amount* in whole millionths.

    Raises:
        InvalidTaskError: It is not a finite number from 0 to 1e12.
    """
    if isinstance(amount, NamedUnits):
        return len(amount.names) * _SCALE
    if isinstance(amount, bool) or not isinstance(amount, int | float):
        msg = f"resource {name!r}: an amount is a number, not {show(amount)}"
        hint = None
        if isinstance(amount, str | list | tuple):
            # The user may have meant to name the units.
            hint = f'units that have names: {{"{name}": {{"named": ["0", "1"]}}}}'
        raise InvalidTaskError(msg, hint=hint)
    if not 0 <= amount <= MAX_AMOUNT:
        msg = f"resource {name!r}: {show(amount)} is not between 0 and {MAX_AMOUNT:g}"
        raise InvalidTaskError(msg)
    units = round(amount * _SCALE)
    if units == 0 and amount > 0:
        msg = (
            f"resource {name!r}: {show(amount)} is below the smallest amount, 0.000001"
        )
        raise InvalidTaskError(msg)
    return units


@attrs.frozen(init=False, repr=False)
class Resources(Mapping[str, float]):
    """
    Named amounts: `Resources(cpu=2, memory_mb=512, licence=1)`.

    A resource that is not named is 0. The usual names are `cpu` (cores),
    `memory_mb`, `disk_mb`, `bandwidth_mbps` and `gpu`; `cpus`, `cores`, `cpu_cores`,
    `gpus`, `memory_gb` and `disk_gb` mean these (a GB is 1,024 MB), and any other name
    is the user's own. Amounts are exact to a millionth.

    Attributes:
        units: The amounts in whole millionths, as the kernel counts them.
        zeros: The names with an amount of 0, which a capacity reads as "none". They do
            not count for equality.
        unit_names: The resources with named units, and the names: see `NamedUnits`. A
            document has `{"named": ["0", "1"]}` in place of the amount.

    Raises:
        InvalidTaskError: An amount is negative, not finite, or above 1e12; two names
            mean the same, or one cannot be printed.
    """

    units: Units
    zeros: tuple[str, ...] = attrs.field(eq=False)
    unit_names: UnitNames

    #: True if a part of it may be granted: see `Elastic`.
    is_elastic: ClassVar[bool] = False

    def __init__(self, **amounts: float | NamedUnits) -> None:
        if not OTHER_RESOURCES.keys().isdisjoint(amounts):
            amounts = _by_our_names(amounts)
        named: UnitNames = ()
        for name, amount in amounts.items():
            if not is_name(name):
                msg = f"resources: a name is a text such as 'gpu', not {show(name)}"
                raise InvalidTaskError(msg)
            if isinstance(amount, NamedUnits | Mapping):
                amounts = {**amounts, name: (units := _units_of(name, amount))}
                named += ((name, units.names),)
        object.__setattr__(self, "unit_names", tuple(sorted(named)))
        pairs = [(name, to_units(name, amounts[name])) for name in sorted(amounts)]
        object.__setattr__(self, "units", tuple(pair for pair in pairs if pair[1]))
        zeros = tuple([name for name, units in pairs if not units])
        object.__setattr__(self, "zeros", zeros)

    @classmethod
    def from_units(cls, units: Units, named: UnitNames = ()) -> Resources:
        """Make resources of *units*, sorted pairs of name and millionths."""
        resources = cls.__new__(cls)
        object.__setattr__(resources, "units", units)
        object.__setattr__(resources, "zeros", ())
        object.__setattr__(resources, "unit_names", named)
        return resources

    @classmethod
    def of(
        cls,
        amounts: Resources | Mapping[str, Any],
        what: str = "resources",
        *,
        named: bool = False,
    ) -> Resources:
        """
        Return the resources of a mapping: `{"cpu": 2}` is `Resources(cpu=2)`.

        Args:
            amounts: The mapping.
            what: The name of the argument, for messages.
            named: True if units may have names.

        Raises:
            InvalidTaskError: It is no mapping, or an amount is out of its range.
        """
        resources = cls._of(amounts, what)
        return resources if named else resources.unnamed(what)

    def unnamed(self, what: str = "resources") -> Resources:
        """
        Return these resources, if no unit has a name.

        Raises:
            InvalidTaskError: A unit has a name, while *what* needs an amount.
        """
        if self.unit_names:
            name, names = self.unit_names[0]
            msg = (
                f"{what}: units have names where they are, not where they are asked for"
            )
            hint = f"say how many: {name}={len(names) or 1}, or {name}=0.5 of one"
            raise InvalidTaskError(msg, hint=hint)
        return self

    @classmethod
    def _of(cls, amounts: Resources | Mapping[str, Any], what: str) -> Resources:
        if isinstance(amounts, Resources):
            if amounts.is_elastic:
                msg = f"{what}: {amounts!r} is a request of a task"
                raise InvalidTaskError(msg, hint="say how much it is: Resources(cpu=1)")
            return amounts
        unchecked: object = amounts
        if not isinstance(unchecked, Mapping):
            msg = f"{what}: a mapping of names to amounts, not {show(amounts)}"
            raise InvalidTaskError(msg, hint="Resources(cpu=1), or {'cpu': 1}")
        for name in amounts:
            if not is_text(name):
                msg = f"{what}: the name of a resource is a str, not {show(name)}"
                raise InvalidTaskError(msg)
        return cls(**amounts)

    def __getitem__(self, name: str) -> float:
        for key, units in self.units:
            if key == name:
                return units / _SCALE
        if name in OTHER_RESOURCES:
            ours, factor = OTHER_RESOURCES[name]
            return self[ours] / factor
        return 0.0

    def __iter__(self) -> Iterator[str]:
        return (name for name, _ in self.units)

    def items(self) -> ItemsView[str, float]:
        """Return names and amounts; an allocator reads them at every start."""
        return {name: units / _SCALE for name, units in self.units}.items()

    def __len__(self) -> int:
        return len(self.units)

    def __contains__(self, name: object) -> bool:
        return any(key == name for key, _ in self.units)

    def __repr__(self) -> str:
        amounts = {name: f"{units / _SCALE:g}" for name, units in self.units}
        amounts.update(
            (name, repr(NamedUnits(*names))) for name, names in self.unit_names
        )
        inner = ", ".join(f"{name}={amount}" for name, amount in amounts.items())
        return f"Resources({inner})"

    def __add__(self, other: Resources) -> Resources:
        total = dict(self.units)
        for name, units in other.units:
            total[name] = total.get(name, 0) + units
        # The names of units in a sum are known only if one of the two has some.
        named = [
            *(pair for pair in self.unit_names if pair[0] not in other),
            *(pair for pair in other.unit_names if pair[0] not in self),
        ]
        units_of_both = tuple(sorted(total.items()))
        return Resources.from_units(units_of_both, tuple(sorted(named)))

    def totals(self) -> Units:
        """Return all named amounts, with those of 0, in whole millionths."""
        return tuple(sorted((*self.units, *((name, 0) for name in self.zeros))))

    def fits_in(self, room: Resources) -> bool:
        """Return whether no amount is larger than the one in *room*."""
        have = dict(room.units)
        return all(units <= have.get(name, 0) for name, units in self.units)


def _units_of(name: str, amount: NamedUnits | Mapping[str, Any]) -> NamedUnits:
    """Return the units that a value or a document names."""
    if isinstance(amount, NamedUnits):
        return amount
    names = amount.get("named")
    is_text = isinstance(names, str | bytes)
    if len(amount) != 1 or is_text or not isinstance(names, Sequence):
        msg = f"resource {name!r}: an amount is a number, not {show(amount)}"
        hint = f'units that have names: {{"{name}": {{"named": ["0", "1"]}}}}'
        raise InvalidTaskError(msg, hint=hint)
    return NamedUnits(*names)


def _by_our_names(
    amounts: Mapping[str, float | NamedUnits],
) -> dict[str, float | NamedUnits]:
    """Return *amounts*, with known other names replaced by ours."""
    renamed: dict[str, float | NamedUnits] = {}
    names: dict[str, str] = {}
    for name, amount in amounts.items():
        ours, factor = OTHER_RESOURCES.get(name, (name, 1))
        if ours in names:
            msg = f"resources: {names[ours]!r} and {name!r} are the same resource"
            raise InvalidTaskError(msg, hint=f"say {ours!r} alone")
        names[ours] = name
        if factor == 1 and isinstance(amount, NamedUnits | Mapping):
            renamed[ours] = amount
            continue
        units = to_units(name, amount)
        renamed[ours] = amount if factor == 1 else units * factor / _SCALE
    return renamed


#: The rule if an elastic request cannot have its whole share now.
Fallback: TypeAlias = Literal["best_effort", "all_or_nothing"]
FALLBACKS: Final[tuple[Fallback, ...]] = ("best_effort", "all_or_nothing")

#: The kernel's fields of an elastic request: the least that the user named, the weight
#: in millionths, and the fallback.
Elasticity: TypeAlias = tuple[Units, int, Fallback]


@attrs.frozen(init=False, repr=False)
class Elastic(Resources):  # type: ignore[override]  # it has more fields
    """
    A request that may be granted in part: `Elastic(Resources(cpu=8), min={"cpu": 2})`.

    It is granted in whole chunks, whose sizes the allocator sets, between its least and
    the whole request. While others contend, each has a share in proportion to its
    weight and its request. A grant shrinks to its share at the task's next checkpoint.
    From the first one on, it grows when resources come free that no waiting task can
    use; `context.allocation` is the present grant. An allocator without chunks grants
    it whole.

    Args:
        resources: The most that it could use.
        min: The least useful amounts of some resources; for the others it is one chunk,
            or the whole request if that is below a chunk.
        weight: Its weight against other requests, relative to its size; above 0.
        fallback: `"best_effort"` starts with any free amount from its least up;
            `"all_or_nothing"` starts only when its whole share of all that there is is
            free: it waits for what others hold.

    Attributes:
        units: The amounts of the whole request, in whole millionths.
        min: The named least amounts, or empty.
        weight: Its weight.
        fallback: The rule if the whole share is not free.

    Raises:
        InvalidTaskError: It asks for nothing, *min* is not part of it, or the weight or
            the fallback is invalid.
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
        object.__setattr__(self, "unit_names", ())
        object.__setattr__(self, "min", least)
        object.__setattr__(self, "weight", weight)
        object.__setattr__(self, "fallback", fallback)

    @property
    def elasticity(self) -> Elasticity:
        """Fields that the kernel knows of it, without the amounts."""
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
    """Return the kernel's fields of elastic *resources*, or None for others."""
    return resources.elasticity if isinstance(resources, Elastic) else None


def requested(units: Units, elasticity: Elasticity | None) -> Resources:
    """Make resources of the kernel's units and elasticity."""
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


#: The smallest amount.
_LEAST: Final = 0.000_001


def units_spent(amounts: Mapping[str, float]) -> Units:
    """
    Return spent amounts in whole millionths, rounded up.

    Raises:
        InvalidTaskError: An amount is negative, or no number.
    """
    checked = Resources.of(
        {
            name: _LEAST if is_number(amount, 0, _LEAST) and amount else amount
            for name, amount in amounts.items()
        }
    )
    return tuple(sorted((*checked.units, *((name, 0) for name in checked.zeros))))


def units_in(line: bytes) -> Units | None:
    """Return the amounts in a line of JSON (`units_spent`), or None if invalid."""
    import json  # noqa: PLC0415 - few programs say what they spend

    try:
        pairs = json.loads(line, object_pairs_hook=list)
        amounts = dict(pairs)
        return units_spent(amounts) if len(amounts) == len(pairs) else None
    except (ValueError, TypeError, RecursionError):
        return None
