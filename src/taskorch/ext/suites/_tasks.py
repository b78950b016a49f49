"""The tasks and phases of a configuration, and the references between them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any, Final

import attrs

from taskorch.ext.budgets._declared import DeclaredBudgets
from taskorch.ext.suites import _words
from taskorch.ext.suites._criteria import Criteria
from taskorch.ext.suites._keys import ClassAllocation, HeldByTask
from taskorch.ext.suites._model import (
    Limits,
    Mode,
    SuitePhase,
    SuiteTask,
    Template,
)
from taskorch.ext.suites._placeholders import fields_in
from taskorch.kit.checks import find_ring
from taskorch.kit.forms import FaultList, ReadMapping, keys_of, near
from taskorch.kit.located import FilePlace, Located
from taskorch.model import Resources

#: The name and the mode of the phase for each usual class of tests.
_USUAL: Final[Mapping[str, tuple[str, Mode]]] = {
    "unit_tests": ("PHASE_1_UNIT", "parallel"),
    "integration_tests": ("PHASE_2_INTEGRATION", "sequential_with_parallel_subtasks"),
    "performance_tests": ("PHASE_3_PERFORMANCE", "sequential"),
}
#: The resources that a class grants: our name for each key.
_GRANTED: Final = {"cpu_cores": "cpu", "memory_mb": "memory_mb", "disk_mb": "disk_mb"}
#: The keys of the totals of a fleet, by resource.
TOTALS: Final = {"cpu": "total_cpu_cores", "memory_mb": "total_memory_mb"}


@attrs.frozen
class _Known:
    """A task, or a subtask, with what the files say of it."""

    task: SuiteTask
    place: FilePlace
    #: What is said of itself; of a subtask, it may be nothing.
    own: ReadMapping
    #: The whole entry: of a subtask, that of its task.
    entry: ReadMapping
    phase: int

    @property
    def is_part(self) -> bool:
        """True if it is a subtask."""
        return self.own is not self.entry


def phases(
    whole: ReadMapping,
    templates: Mapping[str, Template],
    limits: Limits,
    budgets: DeclaredBudgets,
    faults: FaultList,
) -> tuple[tuple[SuitePhase, ...], tuple[tuple[str, str], ...]]:
    """Return the phases with their tasks, and the parts that a run still lacks."""
    about, allocation = whole.part("orchestrator"), whole.part("resource_allocation")
    definitions = about.part("task_definitions")
    plans = list(_plans(whole.part("phases"), definitions, faults))
    by_id: dict[str, _Known] = {}
    suite_phases: list[SuitePhase] = []
    for number, (name, kind, entry) in enumerate(plans):
        granted = allocation.part(kind)
        budget = granted.get("budget", about.get("budget"))
        tasks: list[SuiteTask] = []
        for one in definitions.get(kind, ()):
            if "id" in one.values:
                tasks.append(_task(one, kind, granted, budget))
                _know(by_id, tasks[-1], one, number, budgets, faults)
        mode: Mode = entry.get("mode", _USUAL.get(kind, ("", "parallel"))[1])
        suite_phases.append(
            SuitePhase(
                name,
                kind,
                mode,
                tuple(tasks),
                entry.get("timeout_seconds"),
                granted.get("max_parallel"),
                entry.get("on_failure", "stop"),
            )
        )
    _check_dependencies(by_id, plans, faults)
    _check_limits(by_id.values(), limits, whole.part("agent_limits"), faults)
    _check_arguments(by_id, whole.part("templates"), faults)
    _check_budgets(about, allocation, budgets, faults)
    for each in by_id.values():
        _check_shards(each, by_id, templates, faults)
    return tuple(suite_phases), tuple(_missing(by_id.values(), templates))


def _plans(
    section: ReadMapping, definitions: ReadMapping, faults: FaultList
) -> Iterator[tuple[str, str, ReadMapping]]:
    """Yield each phase: its name, its class of tests, and its section."""
    named: set[str] = set()
    for name, entry in section.values.items():
        kind = entry.get("tests")
        if kind is None:
            continue
        if kind not in definitions.nodes:
            meant = near(entry.node("tests"), definitions.nodes)
            message = f"phases.{name}: there are no {kind} in task_definitions: {meant}"
            faults.add(entry.at("tests"), message)
        elif kind in named:
            message = f"phases.{name}: {kind} are those of another phase already"
            faults.add(entry.at("tests"), message)
        else:
            named.add(kind)
            yield name, kind, entry
    for kind, (key, _) in definitions.nodes.items():
        if kind not in named:
            if section.values:
                faults.add(key.place, f"{kind} are in none of the phases")
            name = _USUAL.get(kind, (kind.upper(), ""))[0]
            yield name, kind, ReadMapping({}, {}, key.place)


def _task(
    entry: ReadMapping, kind: str, granted: ReadMapping, budget: str | None
) -> SuiteTask:
    """The task of an entry, which usually draws on *budget*."""
    fields = {
        "name": entry.get("id"),
        "role": _words.role_of(kind),
        "budget": budget,
        **_fields(entry),
    }
    fields["dependencies"] = tuple(dict.fromkeys(entry.get("dependencies", ())))
    resources, timeout = _resources(granted, entry)
    task = SuiteTask(kind=kind, resources=resources, timeout=timeout, **fields)
    parts = (_subtask(task, part, granted) for part, _ in _parts_in(entry))
    return attrs.evolve(task, subtasks=tuple(parts))


def _parts_in(entry: ReadMapping) -> list[tuple[str | ReadMapping, FilePlace]]:
    """Return the subtasks of an entry that have an id, each with its place."""
    parts = zip(entry.get("subtasks", ()), _items(entry, "subtasks"), strict=False)
    return [
        (part, node.place)
        for part, node in parts
        if isinstance(part, str) or "id" in part.values
    ]


def _subtask(
    task: SuiteTask, part: str | ReadMapping, granted: ReadMapping
) -> SuiteTask:
    """A part of a task: what it does not say itself is as the task says."""
    fields: dict[str, Any] = {"id": part} if isinstance(part, str) else _fields(part)
    fields = {"name": f"{task.name} {fields['id']}", **fields}
    fields["writes"] = fields.get("writes") or task.writes
    if isinstance(part, ReadMapping) and "resources" in part.values:
        fields["resources"], fields["timeout"] = _resources(granted, part)
    inherited = attrs.evolve(task, dependencies=(), arguments=None, shards=1)
    return attrs.evolve(inherited, **fields)


def _fields(entry: ReadMapping) -> dict[str, Any]:
    """Return the fields that *entry* says itself, as those of a task."""
    fields = fields_in(entry)
    for name in ("resources", "subtasks", "success_criteria"):
        fields.pop(name, None)
    criteria = Criteria(**entry.part("success_criteria").values)
    return {**fields, "criteria": criteria} if criteria else fields


def _resources(
    granted: ReadMapping, entry: ReadMapping
) -> tuple[Resources, float | None]:
    """Return the resources and the timeout of a task: its own, or of its class."""
    merged = {**granted.values, **entry.part("resources").values}
    held = {ours: merged[name] for name, ours in _GRANTED.items() if name in merged}
    held |= {name: merged[name] for name in merged.keys() - keys_of(ClassAllocation)}
    return Resources(**held), merged.get("timeout_seconds")


def _know(
    by_id: dict[str, _Known],
    task: SuiteTask,
    entry: ReadMapping,
    phase: int,
    budgets: DeclaredBudgets,
    faults: FaultList,
) -> None:
    """Note a task and its subtasks: the id of each is there once."""
    entries = [_Known(task, entry.at("id"), entry, entry, phase)]
    for part, (fields, place) in zip(task.subtasks, _parts_in(entry), strict=True):
        own = ReadMapping({}, {}, place) if isinstance(fields, str) else fields
        entries.append(_Known(part, place, own, entry, phase))
    for one in entries:
        _check_draws(one.own, one.task, budgets, faults)
        if one.task.id in by_id:
            message = (
                f"id {one.task.id!r} is that of {by_id[one.task.id].place} already"
            )
            faults.add(one.place, message)
        else:
            by_id[one.task.id] = one


def _items(entry: ReadMapping, name: str) -> list[Located]:
    value = entry.node(name).value if name in entry.nodes else []
    return list(value) if isinstance(value, list) else []


def _check_dependencies(
    by_id: Mapping[str, _Known],
    plans: Iterable[tuple[str, str, ReadMapping]],
    faults: FaultList,
) -> None:
    names = [name for name, _, _ in plans]
    above: dict[str, tuple[str, ...]] = {}
    for task_id, one in by_id.items():
        if one.is_part:
            continue
        good: list[str] = []
        nodes = _items(one.entry, "dependencies")
        for node in (node for node in nodes if isinstance(node.value, str)):
            parent = by_id.get(node.value)
            if parent is None:
                message = f"{task_id} depends on {node.value!r}, which there is not: "
                faults.add(node.place, message + near(node, by_id))
            elif parent.phase > one.phase:
                message = (
                    f"{task_id} depends on {node.value}, which comes later: in "
                    f"{names[parent.phase]}, after {names[one.phase]}"
                )
                faults.add(node.place, message)
            else:
                good.append(node.value)
        above[task_id] = tuple(good)
    # A task that depends on a subtask also waits for the parents of its task.
    for task_id, one in by_id.items():
        if task_id not in above:
            above[task_id] = above.get(one.entry.get("id"), ())
    ring = find_ring(above)
    if ring:
        message = "these wait for each other: " + " → ".join((*ring, ring[0]))
        faults.add(by_id[ring[0]].entry.at("dependencies"), message)


def _check_limits(
    records: Iterable[_Known],
    limits: Limits,
    section: ReadMapping,
    faults: FaultList,
) -> None:
    for one in records:
        for name, most in limits.resources.items():
            asked = one.task.resources.get(name, 0)
            if asked > most:
                message = (
                    f"{one.task.id} needs {asked:g} {name}, and {TOTALS[name]} is "
                    f"{most:g} at {section.at(TOTALS[name])}"
                )
                faults.add(one.place, message)


def _check_budgets(
    about: ReadMapping,
    allocation: ReadMapping,
    budgets: DeclaredBudgets,
    faults: FaultList,
) -> None:
    """Note uses of a budget that does not exist, or of a resource that it lacks."""
    budgets.check(about, "orchestrator", faults)
    for kind, granted in allocation.values.items():
        where = f"resource_allocation.{kind}"
        budgets.check(granted, where, faults)
        budget = granted.get("budget", about.get("budget"))
        budgets.check_reserved(granted, ClassAllocation, budget, where, faults)


def _check_draws(
    entry: ReadMapping,
    task: SuiteTask,
    budgets: DeclaredBudgets,
    faults: FaultList,
) -> None:
    budgets.check(entry, task.id, faults)
    own = entry.part("resources")
    where = f"{task.id}.resources"
    budgets.check_reserved(own, HeldByTask, task.budget, where, faults)
    if "budget" in entry.values and task.budget in budgets.totals:
        spent = budgets.resources(task.budget)
        for name in task.resources.keys() - spent - {*_GRANTED.values()}:
            if name not in own.values:
                message = f"{task.id} reserves {name}, as its class does, and there is "
                message += f"none in budget {task.budget!r}"
                faults.add(entry.at("budget"), message)


def _missing(
    records: Collection[_Known], templates: Mapping[str, Template]
) -> Iterator[tuple[str, str]]:
    """Yield what must be added before the tasks can run, each with its place."""
    users: dict[str, list[_Known]] = {}
    for one in records:
        name = one.task.template
        if one.is_part:
            continue
        if name is None:
            yield str(one.place), f"{one.task.id} names no template"
        elif name not in templates:
            users.setdefault(name, []).append(one)
    for name, those in users.items():
        ids = ", ".join(one.task.id for one in those)
        place = those[0].entry.at("template")
        meant = "name it under templates:"
        if templates:
            meant = near(Located(name, place), templates)
        message = f"template {name!r}, of {ids}, stands in no file: {meant}"
        yield str(place), message
    for one in records:
        template = templates.get(one.task.template or "")
        if template is None or one.task.subtasks or not template.arguments:
            continue
        if one.task.arguments is None and one.task.id not in template.arguments:
            message = f"templates.{template.name}.arguments has none for {one.task.id}"
            yield str(one.place), message


def _check_shards(
    one: _Known,
    by_id: Mapping[str, _Known],
    templates: Mapping[str, Template],
    faults: FaultList,
) -> None:
    """Note what cannot be split, or not under these names."""
    task = one.task
    if task.shards == 1 or one.is_part:
        return
    template = templates.get(task.template or "")
    if task.subtasks:
        faults.add(one.entry.at("shards"), f"{task.id} has shards and subtasks")
    elif task.writes is not None:
        message = f"{task.id} has shards, which would wait for each other: all of them "
        message += "may write what it says"
        faults.add(one.entry.at("writes"), message)
    elif template is not None and template.pytest is None:
        message = f"{task.id} has shards, and only what pytest runs can be split"
        faults.add(one.entry.at("shards"), message)
    for name in shard_ids(task):
        if name in by_id:
            message = f"id {name!r} is that of a shard of {task.id}"
            faults.add(by_id[name].place, message)


def shard_ids(task: SuiteTask) -> list[str]:
    """The ids of the shards of *task*."""
    width = len(str(task.shards))
    return [f"{task.id}-{n:0{width}}" for n in range(1, task.shards + 1)]


def _check_arguments(
    by_id: Mapping[str, _Known], section: ReadMapping, faults: FaultList
) -> None:
    """Note what templates say of tasks that there are not."""
    for name, entry in section.values.items():
        arguments: ReadMapping | None = entry.get("arguments")
        for key, _ in () if arguments is None else arguments.nodes.values():
            if by_id and key.value not in by_id:
                faults.unknown(key, f"templates.{name}.arguments", by_id)
