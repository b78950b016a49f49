"""How long tasks take, by those of their type that have completed."""

from __future__ import annotations

from typing import Final

from taskorch.kernel._rows import TypeRow

#: The latest attempts of a type that say how long it takes.
_LATEST: Final = 15
#: What was measured to be shorter, in ns, counts as no time at all: to put such tasks
#: in order would gain nothing.
_SHORT: Final = 10_000_000


def typical_ns(row: TypeRow) -> int | None:
    """
    How long tasks of a type take, by those that completed; None if that is not known.

    It is the median of the latest, to one digit: of types that take about as long, none
    shall come before the other by chance.
    """
    samples = row.samples
    if not samples:
        return None
    latest = sorted(
        samples[-number][3] - samples[-number][2]
        for number in range(1, min(len(samples), _LATEST) + 1)
    )
    typical = latest[len(latest) // 2]
    return 0 if typical < _SHORT else int(float(f"{typical:.0e}"))
