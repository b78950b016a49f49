"""Executors that end with the orchestrator that they were given to."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable
from typing import TypeVar

from taskorch.protocols import AttemptExecutor

B = TypeVar("B")


class OwnedExecutor(AttemptExecutor[B]):
    """
    An executor that one orchestrator ends: nobody else has it.

    All others are ended by who has made them.
    """

    @abstractmethod
    def bind(
        self,
        run_id: Callable[[], str],
        cores: Callable[[], int],
        is_durable: Callable[[], bool],
    ) -> None:
        """Bind it to one life of an orchestrator with *cores* cores."""
        ...

    @abstractmethod
    def end_all(self, grace: float) -> None:
        """End all attempts within *grace* seconds."""
        ...

    @abstractmethod
    def close(self, patience: float) -> None:
        """End all that it has begun, and wait *patience* seconds for that."""
        ...

    def where(self, begun: B) -> str:
        """A sentence: where an attempt is, or what it waits for; or "" for none."""
        del begun
        return ""

    def findings(self) -> Iterable[tuple[str, str]]:
        """
        What is to be said of it: pairs of `ok`, `degraded` or `failed`, and words.

        It may take seconds.
        """
        return ()
