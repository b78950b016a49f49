"""
Pauses between tries, each longer than the one before, up to the longest.

Decision: connections-to-peers.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from random import Random


class Backoff:
    """
    Pauses before further tries, as an immutable value.

    Args:
        first: The first pause, in seconds.
        longest: The longest pause in seconds, with jitter.
        factor: The factor from one pause to the next, at least 1.
        jitter: The share by which a drawn pause may be shorter or longer.
    """

    __slots__ = ("factor", "first", "jitter", "longest")

    def __init__(
        self, first: float, longest: float, factor: float = 2.0, jitter: float = 0.0
    ) -> None:
        self.first: float = first
        self.longest: float = longest
        self.factor: float = factor
        self.jitter: float = jitter

    def after(self, pauses: int, random: Random | None = None) -> float:
        """
        Return the pause after *number* earlier ones, in seconds.

        With *random* it is drawn, within `jitter`, but never above the longest pause,
        so that callers that began together do not meet there again.
        """
        try:
            ceiling = min(self.first * float(self.factor) ** pauses, self.longest)
        except OverflowError:
            ceiling = self.longest if self.first else 0.0
        if random is None or not self.jitter:
            return ceiling
        low = ceiling * (1 - self.jitter)
        high = min(ceiling * (1 + self.jitter), self.longest)
        # Rounding may carry a draw past its end.
        return min(random.uniform(low, high), high)

    def pauses(self, random: Random | None = None) -> Iterator[float]:
        """Yield all pauses, one after the other, without an end."""
        return (self.after(number, random) for number in count())
