"""The tasks and phases of a configuration, and what they say of each other."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Final

import attrs

from taskorch.budgets._declared import DeclaredBudgets
from taskorch.frontends.suite import _words
from taskorch.frontends.suite._criteria import Criteria
from taskorch.frontends.suite._keys import ClassAllocation, HeldByTask
from taskorch.frontends.suite._model import (
    Limits,
    Mode,
    SuitePhase,
    SuiteTask,
    Template,
)
from taskorch.kit.checks import find_ring
from taskorch.kit.forms import FaultList, ReadMapping, keys_of, near
from taskorch.kit.located import FilePlace, Located
from taskorch.model import Resources

#: Of the classes of tests that everybody has, the name and the mode of their phase.
_USUAL: Final[Mapping[str, tuple[str, Mode]]] = {
    "unit_tests": ("PHASE_1_UNIT", "parallel"),
    "integration_tests": ("PHASE_2_INTEGRATION", "sequential_with_parallel_subtasks"),
    "performance_tests": ("PHASE_3_PERFORMANCE", "sequential"),
}
#: What a class grants, and what we call it.
_GRANTED: Final = {"cpu_cores": "cpu", "memory_mb": "memory_mb", "disk_mb": "disk_mb"}


@attrs.frozen
class _Known:
    """A task, with its entry and place in the files."""

    task: SuiteTask
    place: FilePlace
    entry: ReadMapping
    phase: int

    @property
    def is_part(self) -> bool:
        """Whether the task is a subtask: *entry* is that of the whole task."""
        return bool(self.entry.get("id") != self.task.id)


def phases(
    sections: Mapping[str, ReadMapping],
    templates: Mapping[str, Template],
    limits: Limits,
    faults: FaultList,
) -> tuple[tuple[SuitePhase, ...], tuple[tuple[str, str], ...]]:
    """The phases with their tasks, and what is missing to run them."""
    allocation = sections["resource_allocation"]
    none = ReadMapping({}, {}, sections["orchestrator"].place)
    definitions: ReadMapping = sections["orchestrator"].get("task_definitions", none)
    plans = list(_plans(sections["phases"], definitions, faults))
    by_id: dict[str, _Known] = {}
    suite_phases: list[SuitePhase] = []
    budget = sections["orchestrator"].get("budget")
    for number, (name, kind, entry) in enumerate(plans):
        granted: ReadMapping = allocation.get(
            kind, ReadMapping({}, {}, allocation.place)
        )
        tasks: list[SuiteTask] = []
        for one in definitions.get(kind, ()):
            task = _task(one, kind, granted, granted.get("budget", budget))
            if task is None:
                continue
            tasks.append(task)
            _know(by_id, _Known(task, one.at("id"), one, number), faults)
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
    _check_limits(by_id.values(), limits, sections["agent_limits"], faults)
    _check_arguments(by_id, sections["templates"], faults)
    for one in by_id.values():
        _check_shards(one, by_id, templates, faults)
    return tuple(suite_phases), tuple(_missing(by_id.values(), templates))


def _plans(
    section: ReadMapping, definitions: ReadMapping, faults: FaultList
) -> Iterator[tuple[str, str, ReadMapping]]:
    """The phases: their names, their classes, and what is said of them."""
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
) -> SuiteTask | None:
    """The task of an entry, which usually draws on *budget*; None if it has no id."""
    task_id = entry.get("id")
    if task_id is None:
        return None
    resources, timeout = _resources(granted, entry.get("resources"))
    task = SuiteTask(
        task_id,
        entry.get("name", task_id),
        kind,
        entry.get("template"),
        tuple(dict.fromkeys(entry.get("dependencies", ()))),
        resources,
        timeout,
        _criteria(entry) or Criteria(),
        (),
        entry.get("priority", 0),
        entry.get("role", _words.role_of(kind)),
        _texts(entry, "arguments"),
        entry.get("shards", 1),
        _texts(entry, "writes"),
        entry.get("budget", budget),
    )
    parts = tuple(_subtask(task, part, granted) for part in entry.get("subtasks", ()))
    return attrs.evolve(task, subtasks=tuple(p for p in parts if p is not None))


def _subtask(
    task: SuiteTask, part: str | ReadMapping, granted: ReadMapping
) -> SuiteTask | None:
    """A part of a task: what it does not say itself is as the task says."""
    inherited = attrs.evolve(task, dependencies=(), arguments=None, shards=1)
    if isinstance(part, str):
        return attrs.evolve(inherited, id=part, name=f"{task.name} {part}")
    task_id = part.get("id")
    if task_id is None:
        return None
    resources, timeout = task.resources, task.timeout
    if "resources" in part.values:
        resources, timeout = _resources(granted, part.get("resources"))
    return attrs.evolve(
        inherited,
        id=task_id,
        name=part.get("name", f"{task.name} {task_id}"),
        resources=resources,
        timeout=timeout,
        criteria=_criteria(part) or task.criteria,
        arguments=_texts(part, "arguments"),
        writes=_texts(part, "writes") or task.writes,
        budget=part.get("budget", task.budget),
    )


def _texts(entry: ReadMapping, name: str) -> tuple[str, ...] | None:
    texts = entry.get(name)
    return None if texts is None else tuple(texts)


def _criteria(entry: ReadMapping) -> Criteria | None:
    criteria = entry.get("success_criteria")
    return None if criteria is None else Criteria(**criteria.values)


def _resources(
    granted: ReadMapping, own: ReadMapping | None
) -> tuple[Resources, float | None]:
    """What a task holds, and its timeout: as it says itself, or else its class."""
    merged = {**granted.values, **({} if own is None else own.values)}
    held = {ours: merged[name] for name, ours in _GRANTED.items() if name in merged}
    held |= {name: merged[name] for name in merged.keys() - keys_of(ClassAllocation)}
    return Resources(**held), merged.get("timeout_seconds")


def _know(by_id: dict[str, _Known], one: _Known, faults: FaultList) -> None:
    """Note the ids of a task and of its subtasks: each is there once."""
    places = [(one.task, one.place)]
    for part, node in zip(
        one.task.subtasks, _items(one.entry, "subtasks"), strict=False
    ):
        places.append((part, node.place))
    for task, place in places:
        if task.id in by_id:
            message = f"id {task.id!r} is that of {by_id[task.id].place} already"
            faults.add(place, message)
        else:
            by_id[task.id] = attrs.evolve(one, task=task, place=place)


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
        for node in _items(one.entry, "dependencies"):
            parent = by_id.get(node.value) if isinstance(node.value, str) else None
            if parent is None:
                if isinstance(node.value, str):
                    meant = near(node, by_id)
                    message = (
                        f"{task_id} depends on {node.value!r}, which there is not: "
                    )
                    faults.add(node.place, message + meant)
            elif parent.phase > one.phase:
                message = (
                    f"{task_id} depends on {node.value}, which comes later: in "
                    f"{names[parent.phase]}, after {names[one.phase]}"
                )
                faults.add(node.place, message)
            else:
                good.append(node.value)
        above[task_id] = tuple(good)
    # What depends on a subtask depends on what its task waits for.
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
    totals = {"cpu": "total_cpu_cores", "memory_mb": "total_memory_mb"}
    for one in records:
        for name, most in limits.resources.items():
            asked = one.task.resources.get(name, 0)
            if asked > most:
                message = (
                    f"{one.task.id} needs {asked:g} {name}, and {totals[name]} is "
                    f"{most:g} at {section.at(totals[name])}"
                )
                faults.add(one.place, message)


def check_budgets(
    sections: Mapping[str, ReadMapping],
    phases: Iterable[SuitePhase],
    budgets: DeclaredBudgets,
    faults: FaultList,
) -> None:
    """Note who draws on a budget that there is not, or on what it has not."""
    about, allocation = sections["orchestrator"], sections["resource_allocation"]
    budgets.check(about, "orchestrator", faults)
    for kind, granted in allocation.values.items():
        where = f"resource_allocation.{kind}"
        budgets.check(granted, where, faults)
        budget = granted.get("budget", about.get("budget"))
        budgets.check_reserved(granted, ClassAllocation, budget, where, faults)
    none = ReadMapping({}, {}, about.place)
    definitions: ReadMapping = about.get("task_definitions", none)
    for phase in phases:
        entries = {one.get("id"): one for one in definitions.get(phase.kind, ())}
        for task in phase.tasks:
            entry = entries[task.id]
            parts = {
                part.get("id"): part
                for part in entry.get("subtasks", ())
                if isinstance(part, ReadMapping)
            }
            _check_draws(entry, task, budgets, faults)
            for part in task.subtasks:
                _check_draws(parts.get(part.id, none), part, budgets, faults)


def _check_draws(
    entry: ReadMapping,
    task: SuiteTask,
    budgets: DeclaredBudgets,
    faults: FaultList,
) -> None:
    budgets.check(entry, task.id, faults)
    own: ReadMapping | None = entry.get("resources")
    if own is not None:
        where = f"{task.id}.resources"
        budgets.check_reserved(own, HeldByTask, task.budget, where, faults)
    if "budget" in entry.values and task.budget in budgets.totals:
        spent = budgets.resources(task.budget)
        for name in task.resources.keys() - spent - {*_GRANTED.values()}:
            if own is None or name not in own.values:
                message = f"{task.id} reserves {name}, as its class does, and there is "
                message += f"none in budget {task.budget!r}"
                faults.add(entry.at("budget"), message)


def _missing(
    records: Collection[_Known], templates: Mapping[str, Template]
) -> Iterator[tuple[str, str]]:
    """What must be added before the tasks can be run."""
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
