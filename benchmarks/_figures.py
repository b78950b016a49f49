"""What a case reports: samples with a unit, goals, and the rows that hold both."""

from __future__ import annotations

import enum
import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

THREADS = "threads"
ASYNCIO = "asyncio"
SEED = "seed 002"
PEERS = (THREADS, ASYNCIO, SEED)
"""The peers that have a column in the table, in its order."""


class Unit(enum.Enum):
    """What a number counts; decides how it is written."""

    SECONDS = "s"
    BYTES = "B"
    MEGABYTES = "MB"
    RATIO = "x"
    PER_CENT = "%"
    PER_SECOND = "/s"
    PER_MINUTE = "/min"

    def write(self, value: float) -> str:
        """Write `value` with three significant digits and a readable unit."""
        if self is Unit.SECONDS:
            for factor, name in ((1.0, "s"), (1e3, "ms"), (1e6, "us")):
                if value * factor >= 1:
                    return f"{_digits(value * factor)} {name}"
            return f"{_digits(value * 1e9)} ns"
        if self is Unit.BYTES:
            return f"{value:,.0f} B"
        if self is Unit.MEGABYTES:
            return f"{_digits(value)} MB"
        if self is Unit.RATIO:
            return f"{_digits(value)}x"
        if self is Unit.PER_CENT:
            return f"{_digits(value)} %"
        for factor, letter in ((1e6, " M"), (1e3, " k")):
            if value >= factor:
                return f"{_digits(value / factor)}{letter}{self.value}"
        return f"{_digits(value)} {self.value}"


def _digits(value: float) -> str:
    """Write a number with three significant digits, never in powers of ten."""
    magnitude = abs(value)
    places = 0 if magnitude >= 99.95 else 1 if magnitude >= 9.995 else 2
    return f"{value:,.{places}f}"


@dataclass(frozen=True, slots=True)
class Samples:
    """The values of one quantity that one run measured, in the order of measuring."""

    values: tuple[float, ...]
    unit: Unit

    def __post_init__(self) -> None:
        """Refuse an empty measurement: it has no median."""
        if not self.values:
            raise ValueError("a measurement without samples")

    @classmethod
    def of(cls, values: Iterable[float] | float, unit: Unit) -> Samples:
        """Make samples of one value or of several."""
        if isinstance(values, int | float):
            return cls((float(values),), unit)
        return cls(tuple(values), unit)

    @property
    def median(self) -> float:
        """The middle value, which one disturbed sample does not move."""
        return statistics.median(self.values)

    @property
    def low(self) -> float:
        """The smallest value."""
        return min(self.values)

    @property
    def high(self) -> float:
        """The largest value."""
        return max(self.values)

    def over(self, other: Samples) -> Samples:
        """Divide by `other`, sample by sample: pairs were measured side by side."""
        if len(other.values) == 1:
            divisors = other.values * len(self.values)
        else:
            divisors = other.values
        pairs = zip(self.values, divisors, strict=True)
        return Samples(tuple(mine / theirs for mine, theirs in pairs), Unit.RATIO)

    def write(self) -> str:
        """Write the median."""
        return self.unit.write(self.median)

    def write_spread(self) -> str:
        """Write the median and, of several samples, the least and the greatest."""
        if len(self.values) == 1:
            return self.write()
        if self.unit is Unit.RATIO:
            return f"{self.write()} ({_digits(self.low)}-{_digits(self.high)})"
        if self.unit is Unit.BYTES:
            return f"{self.write()} ({self.low:,.0f}-{self.high:,.0f})"
        return (
            f"{self.write()} ({self.unit.write(self.low)}-{self.unit.write(self.high)})"
        )


@dataclass(frozen=True, slots=True)
class Goal:
    """The bound that a figure must keep, and the better one that is aimed at."""

    bound: float
    unit: Unit
    at_least: bool
    aim: float | None = None

    @classmethod
    def no_less(
        cls, bound: float, unit: Unit = Unit.RATIO, *, aim: float | None = None
    ) -> Goal:
        """Demand a figure of at least `bound`."""
        return cls(bound, unit, at_least=True, aim=aim)

    @classmethod
    def no_more(
        cls, bound: float, unit: Unit = Unit.RATIO, *, aim: float | None = None
    ) -> Goal:
        """Demand a figure of at most `bound`."""
        return cls(bound, unit, at_least=False, aim=aim)

    def met(self, value: float) -> bool:
        """Say whether `value` keeps the bound."""
        return value >= self.bound if self.at_least else value <= self.bound

    def aim_met(self, value: float) -> bool:
        """Say whether `value` reaches what is aimed at."""
        if self.aim is None:
            return False
        return value >= self.aim if self.at_least else value <= self.aim

    def write(self) -> str:
        """Write the bound with its direction."""
        number = f"{self.bound:,g}"
        name = "x" if self.unit is Unit.RATIO else f" {self.unit.value}"
        return f"{'>=' if self.at_least else '<='}{number}{name}"


class Verdict(enum.Enum):
    """What a row says of its goal."""

    NONE = ""
    MISSED = "NO"
    MET = "yes"
    AIM = "aim"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """
    One line of the report.

    Attributes:
        what: What was measured, in a few words.
        ours: The figure of taskorch.
        peers: The figures of the peers, by the name of their column.
        measured: The figure that the goal bounds, mostly a ratio; *ours* if none is
            given beside a goal.
        goal: The goal, where there is one.
        note: Sizes, conditions and further figures, for the line below.
    """

    what: str
    ours: Samples
    peers: Mapping[str, Samples] = field(default_factory=dict)
    measured: Samples | None = None
    goal: Goal | None = None
    note: str = ""

    def __post_init__(self) -> None:
        if self.goal is not None and self.measured is None:
            object.__setattr__(self, "measured", self.ours)

    @property
    def verdict(self) -> Verdict:
        """Compare the median of what was measured with the goal."""
        if self.goal is None or self.measured is None:
            return Verdict.NONE
        if not self.goal.met(self.measured.median):
            return Verdict.MISSED
        if self.goal.aim_met(self.measured.median):
            return Verdict.AIM
        return Verdict.MET
