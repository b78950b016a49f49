"""
All chance of a simulated world, and the schedule of what it brought about.

A draw has a name (what it is about, and the how-manieth of that name it is), and its
value is a hash of seed and name. So a fault that is left out moves no other draw:
that is what makes it possible to find the few that matter, by leaving out the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from hashlib import blake2b
from typing import Final, TypeVar

import attrs

T = TypeVar("T")

_ALL: Final = 1 << 64


@attrs.frozen
class Hit:
    """A fault, or a command of the workload, that chance brought about."""

    #: Which draw it was.
    name: str
    #: Seconds since the beginning.
    at: float
    kind: str
    detail: str

    def __str__(self) -> str:
        return f"{self.at:>12.6f} s  {self.kind:<18} {self.detail}"


@attrs.frozen
class Schedule:
    """What chance brought about in a run, in order; `str()` has a line for each."""

    hits: tuple[Hit, ...]

    @property
    def names(self) -> frozenset[str]:
        """What to keep to have the same again."""
        return frozenset(hit.name for hit in self.hits)

    def kinds(self) -> dict[str, int]:
        """How often each kind of thing happened."""
        counts: dict[str, int] = {}
        for hit in self.hits:
            counts[hit.kind] = counts.get(hit.kind, 0) + 1
        return counts

    def __len__(self) -> int:
        return len(self.hits)

    def __str__(self) -> str:
        return "\n".join(map(str, self.hits))


class Dice:
    """
    Draws, from a seed.

    Args:
        seed: The same gives the same.
        keep: Only what has one of these names happens; None: all that is drawn.
    """

    def __init__(self, seed: object, keep: Iterable[str] | None = None) -> None:
        self._key = blake2b(str(seed).encode(), digest_size=16).digest()
        self._keep = None if keep is None else frozenset(keep)
        self._counts: dict[str, int] = {}
        self.hits: list[Hit] = []
        #: Says what time it is, in seconds since the beginning.
        self.clock: Callable[[], float] = float
        #: Is told of every hit.
        self.tell: Callable[[Hit], object] = _nobody

    @property
    def schedule(self) -> Schedule:
        """What has happened so far."""
        return Schedule(tuple(self.hits))

    def _draw(self, name: str) -> tuple[float, int]:
        number = self._counts.get(name, 0)
        self._counts[name] = number + 1
        text = f"{name}#{number}".encode()
        value = blake2b(text, digest_size=8, key=self._key).digest()
        return int.from_bytes(value, "big") / _ALL, number

    def draw(self, name: str) -> float:
        """A number from 0 up to, not including, 1."""
        return self._draw(name)[0]

    def uniform(self, name: str, low: float, high: float) -> float:
        """A number between the two."""
        return low + (high - low) * self.draw(name)

    def integer(self, name: str, low: int, high: int) -> int:
        """A whole number between the two, which are included."""
        return low + int((high - low + 1) * self.draw(name))

    def choice(self, name: str, options: Sequence[T]) -> T:
        """A random choice from *options*."""
        return options[int(len(options) * self.draw(name))]

    def chance(self, kind: str, probability: float, detail: str) -> bool:
        """Whether an event of *probability* happens; if so, it is on the schedule."""
        return self.one_of(detail, ((kind, probability),)) is not None

    def one_of(
        self, detail: str, kinds: Sequence[tuple[str, float]], *, topic: str = ""
    ) -> str | None:
        """
        The one of *kinds* that happens to *detail*, by their probabilities, if any.

        At most one does; if so, it is on the schedule.
        """
        name = f"{topic or kinds[0][0]} {detail}"
        value, number = self._draw(name)
        for kind, probability in kinds:
            value -= probability
            if value < 0:
                return kind if self._happens(kind, f"{name}#{number}", detail) else None
        return None

    def happens(self, kind: str, name: str, detail: str) -> bool:
        """What is certain, unless it is left out; *name* is of its own."""
        return self._happens(kind, name, detail)

    def remark(self, text: str) -> None:
        """Say more of the latest hit."""
        hit = self.hits[-1]
        self.hits[-1] = attrs.evolve(hit, detail=f"{hit.detail}: {text}")

    def _happens(self, kind: str, name: str, detail: str) -> bool:
        if self._keep is not None and name not in self._keep:
            return False
        hit = Hit(name, self.clock(), kind, detail)
        self.hits.append(hit)
        self.tell(hit)
        return True


def _nobody(_: Hit) -> None:
    """Ignore a hit."""


def minimise(
    fails: Callable[[Collection[str]], bool], names: Sequence[str], tries: int = 300
) -> list[str]:
    """
    The least of *names* that still fails, or as near to it as *tries* allow.

    No single one of them can be left out, unless the tries were used up. Source: A.
    Zeller and R. Hildebrandt, *Simplifying and Isolating Failure-Inducing Input*,
    IEEE Transactions on Software Engineering 28(2), 2002: the algorithm ddmin.

    Args:
        fails: Whether a run with only these fails.
        names: What the failing run had.
        tries: The most calls of *fails*.
    """
    remaining = list(dict.fromkeys(names))
    pieces = 2
    while len(remaining) > 1 and tries > 0:
        size = -(-len(remaining) // pieces)
        chunks = [remaining[i : i + size] for i in range(0, len(remaining), size)]
        # Leave one piece out: most of them make no difference.
        for chunk in chunks:
            gone = frozenset(chunk)
            rest = [name for name in remaining if name not in gone]
            tries -= 1
            if fails(rest):
                remaining = rest
                pieces = max(pieces - 1, 2)
                break
            if tries <= 0:
                break
        else:
            if size == 1:
                break
            pieces = min(len(remaining), pieces * 2)
    if len(remaining) == 1 and tries > 0 and fails([]):
        return []
    return remaining
