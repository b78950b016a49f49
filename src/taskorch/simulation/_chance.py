"""The random source of a simulated orchestrator."""

from __future__ import annotations

from collections.abc import Callable
from random import Random


class StepRandom(Random):
    """
    Draws that depend on the seed and the instant, and not on what was drawn before.

    So two plans that differ in one thing see the same chance everywhere else ("common
    random numbers"), and a run with one fault less stays like the run with it.
    """

    def __init__(self, name: str, clock: Callable[[], int]) -> None:
        super().__init__(0)
        self._name = name
        self._clock = clock
        self._at = -1
        self._step = 0
        self._fresh = False

    def renew(self) -> None:
        """A step begins: its draws are its own, whatever others draw."""
        now = self._clock()
        self._step = self._step + 1 if now == self._at else 0
        self._at = now
        self._fresh = True

    def random(self) -> float:
        """A number from 0 up to, not including, 1."""
        if self._fresh:
            self._begin()
        return super().random()

    def getrandbits(self, k: int, /) -> int:
        """*k* random bits."""
        if self._fresh:
            self._begin()
        return super().getrandbits(k)

    def _begin(self) -> None:
        """The first draw of a step."""
        self._fresh = False
        super().seed(f"{self._name}/{self._at}/{self._step}")
