"""
Recorded runs of real workflows, as WfCommons collects them: WfFormat 1.5 and 1.6.

    recorded = wfformat.load("montage.json")
    orch.simulate(recorded.workflow, recorded.durations)

The format is described at https://github.com/wfcommons/WfFormat; hundreds of recorded
runs are at https://github.com/wfcommons/WfInstances.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from heapq import heapify, heappop, heappush
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import attrs

from taskorch.core.workflows import Workflow
from taskorch.core.workflows._graph import refuse_rings
from taskorch.errors import InvalidTaskError, ValidationFailedError
from taskorch.kit.checks import check_seconds
from taskorch.kit.frozen import ReadOnly
from taskorch.kit.plain import object_of, refuse_constant
from taskorch.kit.visible import show
from taskorch.model import Resources, Task, to_units
from taskorch.model.ids import id_problem

if TYPE_CHECKING:
    import os

__all__ = ("Recording", "load", "parse", "replay")

#: Bytes in what `memory_mb` counts.
_MB: Final = 1 << 20
#: The number at the end of a name, which tells tasks of one kind apart.
_NUMBER: Final = re.compile(r"(_ID)?[_-]?\d+\Z")
#: Characters that the name of a workflow must not have.
_UNSAFE: Final = re.compile(r"[^A-Za-z0-9_-]+")
#: Bytes of a file: the largest of those that were collected have some tens of millions.
_MAX_SIZE: Final = 1 << 28
#: The most faults that a message names.
_SHOWN: Final = 10


@attrs.frozen(eq=False)
class Recording:
    """A workflow that was recorded while it ran; mappings are by the ids of tasks."""

    #: Its tasks `replay` what was recorded, and hold `cpu` (and `memory_mb`, if asked
    #: for) while they run. Their types are their names without the numbers.
    workflow: Workflow
    #: Seconds that each took: for `orch.simulate(…)`.
    durations: Mapping[str, float]
    #: Cores that each used; 1 where nothing is recorded.
    cores: Mapping[str, float]
    #: MiB that each used, of those for which that is recorded.
    memory: Mapping[str, float]
    #: All machines together, for `TaskOrchestrator(resources=…)`: `cpu`, and
    #: `memory_mb` if it is recorded.
    machine: Resources
    #: Seconds that the recorded run took, or None.
    makespan: float | None


def replay(seconds: float) -> None:
    """Stand for a recorded task: take as long as it took."""
    time.sleep(seconds)


def load(path: str | os.PathLike[str], *, memory: bool = False) -> Recording:
    """
    Read a recorded run from the file *path*.

    Args:
        path: A file in WfFormat, JSON.
        memory: Whether tasks hold the memory that they were recorded to use.

    Raises:
        OSError: The file cannot be read.
        InvalidTaskError: It is no JSON, names something twice in an object, or has more
            than 256 MiB.
        ValidationFailedError: It is no recorded run; all faults are named.
        CycleError: Its tasks wait for each other; the shortest ring is named.
    """
    with Path(path).open("rb") as file:
        text = file.read(_MAX_SIZE + 1)
    if len(text) > _MAX_SIZE:
        msg = f"{path} has more than the {_MAX_SIZE:,} bytes that are read"
        hint = "wfformat.parse(json.loads(…)) takes what you have read yourself"
        raise InvalidTaskError(msg, hint=hint)
    try:
        document = json.loads(
            text, object_pairs_hook=object_of, parse_constant=refuse_constant
        )
    except (ValueError, RecursionError) as error:
        msg = f"{path} is no JSON: {error}"
        raise InvalidTaskError(msg) from error
    return _read(document, str(path), memory=memory)


def parse(document: Mapping[str, Any], *, memory: bool = False) -> Recording:
    """
    Read a recorded run from a document that was JSON.

    Raises:
        ValidationFailedError, CycleError: As for `load`.
    """
    return _read(document, "the document", memory=memory)


@attrs.define(eq=False)
class _Recorded:
    """A task as the file records it."""

    id: str
    type: str
    parents: dict[str, None] = attrs.field(factory=dict[str, None])
    seconds: float | None = None
    cores: float = 1.0
    memory: float | None = None


def _read(document: object, where: str, *, memory: bool) -> Recording:
    reader = _RecordingReader()
    name, tasks, machine, makespan = reader.read(document)
    if reader.findings:
        shown = [f"{path}: {problem}" for path, problem in reader.findings[:_SHOWN]]
        if len(reader.findings) > _SHOWN:
            shown.append(f"and {len(reader.findings) - _SHOWN} more")
        msg = f"{where} is no recorded workflow: {'; '.join(shown)}"
        hint = "a file in WfFormat 1.5 is needed, with workflow.execution"
        raise ValidationFailedError(msg, findings=tuple(reader.findings), hint=hint)
    workflow = Workflow(name)
    for task in _in_order(tasks):
        held = {"cpu": task.cores}
        if memory and task.memory:
            held["memory_mb"] = task.memory
        workflow.add(
            Task.call(
                replay,
                task.seconds,
                type=task.type,
                id=task.id,
                after=tuple(task.parents),
                resources=Resources(**held),
            )
        )
    durations = {task.id: task.seconds or 0.0 for task in tasks.values()}
    cores = {task.id: task.cores for task in tasks.values()}
    used = {t.id: t.memory for t in tasks.values() if t.memory is not None}
    return Recording(
        workflow=workflow,
        durations=ReadOnly(durations),
        cores=ReadOnly(cores),
        memory=ReadOnly(used),
        machine=Resources(**machine),
        makespan=makespan,
    )


def _in_order(tasks: Mapping[str, _Recorded]) -> list[_Recorded]:
    """
    The tasks as they are in the file, but each after what it waits for.

    Raises:
        CycleError: That cannot be.
    """
    every = list(tasks.values())
    place = {task.id: number for number, task in enumerate(every)}
    waiting = [len(task.parents) for task in every]
    children: list[list[int]] = [[] for _ in every]
    for number, task in enumerate(every):
        for parent in task.parents:
            children[place[parent]].append(number)
    free = [number for number, count in enumerate(waiting) if not count]
    heapify(free)
    order: list[_Recorded] = []
    while free:
        number = heappop(free)
        order.append(every[number])
        for child in children[number]:
            waiting[child] -= 1
            if not waiting[child]:
                heappush(free, child)
    if len(order) < len(every):
        refuse_rings({task.id: tuple(task.parents) for task in every})
    return order


class _RecordingReader:
    """Reads a document, and notes all that is wrong with it."""

    def __init__(self) -> None:
        #: The place of a fault, and the fault.
        self.findings: list[tuple[str, str]] = []

    def read(
        self, document: object
    ) -> tuple[str, dict[str, _Recorded], dict[str, float], float | None]:
        """The name, the tasks, the machine, and how long the run took."""
        whole = self._mapping(document, "")
        workflow = self._mapping(whole.get("workflow"), "workflow")
        tasks: dict[str, _Recorded] = {}
        machine: dict[str, float] = {}
        makespan = None
        if workflow:
            plan = self._part(workflow, "specification")
            tasks = self._tasks(plan)
            run = self._part(workflow, "execution")
            if run:
                self._times(run, tasks)
                machine = self._machines(run.get("machines", []))
                if run.get("makespanInSeconds") is not None:
                    path = "workflow.execution.makespanInSeconds"
                    makespan = self._seconds(run["makespanInSeconds"], path)
        name = _UNSAFE.sub("-", str(whole.get("name") or "workflow")).strip("-_")
        return name[:80] or "workflow", tasks, machine, makespan

    def _part(self, workflow: Mapping[str, Any], name: str) -> Mapping[str, Any]:
        return self._mapping(workflow.get(name), f"workflow.{name}")

    # -- what the tasks are --------------------------------------------------------

    def _tasks(self, plan: Mapping[str, Any]) -> dict[str, _Recorded]:
        if not plan:
            return {}
        path = "workflow.specification.tasks"
        tasks: dict[str, _Recorded] = {}
        places: dict[str, str] = {}
        entries: list[tuple[str, Mapping[str, Any], _Recorded]] = []
        for number, item in enumerate(self._list(plan.get("tasks"), path)):
            here = f"{path}[{number}]"
            entry = self._mapping(item, here)
            name = entry.get("id")
            problem = id_problem(name) if entry else None
            if problem is not None:
                self._fault(f"{here}.id", problem)
            elif isinstance(name, str) and name in tasks:
                self._fault(f"{here}.id", f"{name!r} is that of {places[name]} already")
            elif isinstance(name, str):
                task = tasks[name] = _Recorded(name, _kind(entry.get("name"), name))
                places[name] = here
                entries.append((here, entry, task))
        for here, entry, task in entries:
            for parent in self._names(entry, "parents", here, tasks):
                task.parents[parent] = None
            for child in self._names(entry, "children", here, tasks):
                tasks[child].parents[task.id] = None
        return tasks

    def _names(
        self,
        entry: Mapping[str, Any],
        key: str,
        here: str,
        tasks: Mapping[str, _Recorded],
    ) -> Iterator[str]:
        path = f"{here}.{key}"
        for number, name in enumerate(self._list(entry.get(key, []), path)):
            if isinstance(name, str) and name in tasks:
                yield name
            else:
                self._fault(f"{path}[{number}]", f"there is no task {show(name)}")

    # -- how they ran --------------------------------------------------------------

    def _times(self, run: Mapping[str, Any], tasks: Mapping[str, _Recorded]) -> None:
        path = "workflow.execution.tasks"
        for number, item in enumerate(self._list(run.get("tasks"), path)):
            here = f"{path}[{number}]"
            entry = self._mapping(item, here)
            if not entry:
                continue
            name = entry.get("id")
            task = tasks.get(name) if isinstance(name, str) else None
            if task is None:
                self._fault(f"{here}.id", f"there is no task {show(name)}")
                continue
            seconds = self._seconds(
                entry.get("runtimeInSeconds"), f"{here}.runtimeInSeconds"
            )
            task.seconds = 0.0 if seconds is None else seconds
            if entry.get("coreCount") is not None:
                task.cores = self._amount(entry["coreCount"], f"{here}.coreCount")
            if entry.get("memoryInBytes") is not None:
                where = f"{here}.memoryInBytes"
                task.memory = self._amount(entry["memoryInBytes"], where) / _MB
        for task in tasks.values():
            if task.seconds is None and isinstance(run.get("tasks"), list):
                self._fault(path, f"nothing is recorded of task {task.id!r}")

    def _machines(self, machines: object) -> dict[str, float]:
        path = "workflow.execution.machines"
        total: dict[str, float] = {}
        for number, item in enumerate(self._list(machines, path)):
            here = f"{path}[{number}]"
            entry = self._mapping(item, here)
            cpu = self._mapping(entry.get("cpu", {}), f"{here}.cpu")
            for name, value, where, unit in (
                ("cpu", cpu.get("coreCount"), f"{here}.cpu.coreCount", 1),
                ("memory_mb", entry.get("memoryInBytes"), f"{here}.memoryInBytes", _MB),
            ):
                if value is not None:
                    amount = self._amount(value, where) / unit
                    total[name] = total.get(name, 0.0) + amount
        return total

    # -- values --------------------------------------------------------------------

    def _seconds(self, value: object, path: str) -> float | None:
        try:
            return check_seconds("a run time", value)
        except InvalidTaskError as error:
            self._fault(path, error.message)
            return None

    def _amount(self, value: object, path: str) -> float:
        try:
            to_units("amount", value)
        except InvalidTaskError:
            self._fault(path, f"an amount is a number from 0, not {show(value)}")
            return 0.0
        assert isinstance(value, int | float)  # noqa: S101 - to_units has looked
        return float(value)

    def _mapping(self, value: object, path: str) -> Mapping[str, Any]:
        if isinstance(value, Mapping):
            return value
        problem = (
            "is missing" if value is None else f"is {show(value, 40)}, not an object"
        )
        self._fault(path or "the file", problem)
        return {}

    def _list(self, value: object, path: str) -> Sequence[Any]:
        if isinstance(value, list):
            return value
        problem = (
            "is missing" if value is None else f"is {show(value, 40)}, not an array"
        )
        self._fault(path, problem)
        return []

    def _fault(self, path: str, problem: str) -> None:
        self.findings.append((path, problem))


def _kind(name: object, task_id: str) -> str:
    """The type of a task: its name without what tells it apart from others."""
    text = name if isinstance(name, str) and name.isprintable() else ""
    return _NUMBER.sub("", text.strip()).strip()[:200] or task_id
