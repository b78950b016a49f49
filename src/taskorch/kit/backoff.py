"""
Pauses between tries, each longer than the one before; waits for a store, with a limit.

Decisions: connections-to-peers, large-values.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from itertools import count
from typing import TYPE_CHECKING, Any

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


class KeptElsewhere(Future[Any]):
    """
    The document of a value that is on its way to a store; whoever gives one is first.

    Args:
        plain: The document that a journal keeps if the store takes too long.
        patience: The seconds after which that is so.
        note: Called with an error when they are over.
    """

    def __init__(
        self, plain: Any, patience: float, note: Callable[[TimeoutError], object]
    ) -> None:
        super().__init__()
        self.plain = plain
        self.patience = patience
        self._note = note

    def settle(self, document: Any) -> bool:
        """Let *document* be the one that is kept; return whether it is the first."""
        with suppress(InvalidStateError):
            self.set_result(document)
            return True
        return False

    def give_up(self) -> None:
        """Let the journal keep the value itself."""
        self.settle(self.plain)

    def is_late(self) -> None:
        """Let the journal keep the value itself, since the store is silent."""
        if self.settle(self.plain):
            self._note(TimeoutError(silent_for(self.patience)))

    def wait(self) -> Any:
        """Return the document that is kept, after no more than its patience."""
        with suppress(TimeoutError):
            return self.result(self.patience)
        self.is_late()
        return self.result()


def silent_for(seconds: float) -> str:
    """Return in words that a store has been silent for so long."""
    return f"the store has not answered within {seconds:.3g} s"
