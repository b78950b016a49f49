"""
Plans of the same shape: what was found out for some names holds for others.

Two drafts have one shape if their tasks differ in ids and payloads alone, and wait for
each other in the same places. What a plan has beyond its draft is then the same for
both: an order, waits and estimates.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import attrs

from taskorch.model import Task
from taskorch.planning._problems import changed, dependencies_of
from taskorch.planning._stages import Draft
from taskorch.planning._values import (
    Before,
    Constraint,
    ExecutionPlan,
    PlannedTask,
    TaskRequest,
)
from taskorch.runtime._memo import digest_of

#: Fields of a task that are its name, or are looked at as a whole by places.
_NAMES: Final = frozenset({"type", "payload", "id", "after"})
_OPTIONS: Final = tuple(
    field.name for field in attrs.fields(Task) if field.name not in _NAMES
)
#: What an order gives to a task.
_ORDERED: Final = ("priority", "expected", "metadata")


def shape_of(
    draft: Draft,
    tasks: Sequence[PlannedTask],
    constraints: Sequence[Constraint],
    versions: Mapping[str, Any],
) -> str:
    """
    What is the same for drafts of one shape, under the same constraints.

    Args:
        draft: The draft.
        tasks: What its tasks are thought to take; two digits of it count.
        constraints: What must hold of its plan.
        versions: What else a plan depends on.

    Raises:
        UndescribedError: Something has no description.
    """
    place = {task.id: number for number, task in enumerate(tasks)}
    parts = [
        (
            task.type,
            [place[name] for name in task.after],
            [f"{task.duration:.2g}", f"{task.duration.p90:.2g}", f"{task.cost:.2g}"],
            task.agent,
            [getattr(draft.workflow[task.id].task, name) for name in _OPTIONS],
        )
        for task in tasks
    ]
    # What is to be before another waits for it in the draft.
    limits = [each for each in constraints if not isinstance(each, Before)]
    return "shape " + digest_of((parts, limits, dict(versions)))


def like(
    draft_before: Draft,
    before: ExecutionPlan,
    draft: Draft,
    request: TaskRequest,
) -> ExecutionPlan:
    """The plan of a draft, by the plan of another draft of its shape."""
    ids_before = draft_before.workflow.dependencies
    names = dict(zip(ids_before, draft.workflow.dependencies, strict=True))
    options: dict[str, dict[str, Any]] = {}
    edges: list[tuple[str, str]] = []
    reasons = dict(draft.reasons)
    waits = {(each.needs, each.task): each.reason for each in before.dependencies}
    for name_before, name in names.items():
        node, own = before.workflow[name_before], draft_before.workflow[name_before]
        options[name] = {
            field: getattr(node.task, field)
            for field in _ORDERED
            if getattr(node.task, field) != getattr(own.task, field)
        }
        for first in node.after:
            if first not in own.after:
                edges.append((names[first], name))
                reasons[name, names[first]] = waits[first, name_before]
    workflow = changed(draft.workflow, options, edges)
    return attrs.evolve(
        before,
        id=request.id,
        request=request,
        workflow=workflow,
        tasks=tuple(
            attrs.evolve(task, id=names[task.id], after=workflow[names[task.id]].after)
            for task in before.tasks
        ),
        dependencies=dependencies_of(workflow, reasons),
        critical_path=tuple(names[name] for name in before.critical_path),
        choices=draft.choices,
        cache="hit",
    )
