"""Controller of the three cycles of self-improvement, on the clock of its caller."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

import attrs

from taskorch.protocols import DriverView, Tick

#: The name of the document of jobs.
DOCUMENTS: Final = "adaptive_jobs"
#: Seconds between two cycles of each kind, and its act in the configuration.
CYCLES: Final[Mapping[str, tuple[float, str]]] = {
    "micro_cycle": (1.0, "adjust_thread_weights"),
    "macro_cycle": (10.0, "reallocate_resources"),
    "meta_cycle": (60.0, "evolve_symbolic_protocol"),
    # This one is not configurable: it stores the progress of follow-ups.
    "followed": (10.0, ""),
}


@attrs.frozen
class Act:
    """Command that calls *do* with the orchestrator."""

    do: Callable[[Any], object]

    def apply(self, orchestrator: Any, /) -> object:
        """Call it."""
        return self.do(orchestrator)


class Cycles:
    """
    Controller of the three cycles.

    Args:
        acts: For each cycle by name, a function that returns its commands.
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
        # A simulation has the same jobs, and its cycles start anew.
        return Cycles(self._acts)
