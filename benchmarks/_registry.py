"""The list of cases: `@case` enters one, `load` finds them all."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks._figures import Row
from benchmarks.cases import MODULES


@dataclass(frozen=True, slots=True)
class Run:
    """How thorough this run is; a case asks it for its sizes."""

    quick: bool = False
    #: Projects of PSPLIB with their optima, for the case that measures these.
    psplib: Path | None = None
    #: Recorded runs in WfFormat, for the cases that measure these.
    recorded: Path | None = None

    def size(self, full: int, *, quick: int) -> int:
        """Choose the number of tasks, or of anything else, for this run."""
        return quick if self.quick else full

    @property
    def pairs(self) -> int:
        """How many interleaved rounds a comparison takes."""
        return 1 if self.quick else 9


Measure = Callable[[Run], Iterator[Row]]


@dataclass(frozen=True, slots=True)
class Case:
    """A named measurement that yields rows."""

    name: str
    measure: Measure
    needs: tuple[str, ...] = ()
    #: The option that names what it measures; without it the case is left out.
    given: str = ""
    #: What else is missing, and is no module.
    lacks: Callable[[], tuple[str, ...]] = tuple

    @property
    def missing(self) -> tuple[str, ...]:
        """What the case needs and is not here: modules, and others."""
        absent = (name for name in self.needs if importlib.util.find_spec(name) is None)
        return (*absent, *self.lacks())


_cases: dict[str, Case] = {}


def case(
    name: str,
    *,
    needs: tuple[str, ...] = (),
    given: str = "",
    lacks: Callable[[], tuple[str, ...]] = tuple,
) -> Callable[[Measure], Measure]:
    """
    Enter the decorated function into the list of cases.

    Args:
        name: What `--only` calls it.
        needs: Modules of optional peers; without them the case is skipped.
        given: The option that names what it measures; without that it is skipped.
        lacks: What else it needs, and is not here; with any of that it is skipped.

    Returns:
        A decorator that gives the function back unchanged.
    """

    def enter(measure: Measure) -> Measure:
        if name in _cases:
            raise ValueError(f"two benchmark cases are named {name!r}")
        if not measure.__doc__:
            raise ValueError(f"benchmark case {name!r} does not say what it measures")
        _cases[name] = Case(name, measure, needs, given, lacks)
        return measure

    return enter


def load() -> tuple[dict[str, Case], list[str]]:
    """
    Import the modules of cases, in their order.

    Returns:
        Every case by name; and what kept a module from being imported, as where another
        commit of the library has not yet what it measures.
    """
    left_out = []
    for module in MODULES:
        try:
            importlib.import_module(f"benchmarks.cases.{module}")
        except ImportError as error:
            left_out.append(f"the cases of {module} are left out: {error}")
    return dict(_cases), left_out
