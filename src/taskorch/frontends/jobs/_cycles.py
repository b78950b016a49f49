"""The three cycles of self-improvement: a driver, by the clock of who asks it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

import attrs

from taskorch.protocols import DriverView, Tick

#: The name of the documents of jobs.
DOCUMENTS: Final = "adaptive_jobs"
#: Seconds between two cycles of each kind, and what the configuration calls it.
CYCLES: Final[Mapping[str, tuple[float, str]]] = {
    "micro_cycle": (1.0, "adjust_thread_weights"),
    "macro_cycle": (10.0, "reallocate_resources"),
    "meta_cycle": (60.0, "evolve_symbolic_protocol"),
    # No words of the configuration: how far what follows from facts was done.
    "followed": (10.0, ""),
}


@attrs.frozen
class Act:
    """A command: *do* is called with the orchestrator."""

    do: Callable[[Any], object]

    def apply(self, orchestrator: Any, /) -> object:
        """Do it."""
        return self.do(orchestrator)


class Cycles:
    """
    The driver of the three cycles.

    Args:
        acts: By the name of a cycle, what says what is to be done in it now.
    """

    name: str = "adaptive-jobs"
    watches: tuple[()] = ()

    def __init__(self, acts: Mapping[str, Callable[[], Iterable[Act]]]) -> None:
        self._acts = acts
        self._due: dict[str, float] = {}

    def tick(self, view: DriverView, now: float) -> Tick:
        """See `Driver.tick`: no cycle is due when it is asked for the first time."""
        del view
        commands: list[Act] = []
        for name, act in self._acts.items():
            every, _ = CYCLES[name]
            due = self._due.setdefault(name, now + every)
            if now >= due:
                commands += act()
                self._due[name] = now + every
        return commands, min(self._due.values(), default=None)

    def __deepcopy__(self, memo: object) -> Cycles:
        # A simulation has the same jobs, and begins each life with all cycles to come.
        return Cycles(self._acts)
