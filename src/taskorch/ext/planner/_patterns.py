"""Templates, and parts of recorded runs that come back."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

import attrs

from taskorch.core.workflows import Workflow
from taskorch.errors import PlanningError
from taskorch.ext.planner._values import TaskRequest
from taskorch.kit.checks import check_count
from taskorch.kit.visible import show
from taskorch.model import Task, TaskStatus
from taskorch.model.ids import run_of

#: The largest number of tasks of a part that is looked for.
_MOST: Final = 50


@attrs.frozen(eq=False)
class Template:
    """
    A part that is used again: a function that makes a workflow.

    Attributes:
        name: Its name, the type of its requests.
        version: Its version: plans of another are not taken from the cache.
        build: Called with the context of a request by names, and with `request`, if
            it takes one of that name.
    """

    name: str
    version: str
    build: Callable[..., Workflow]

    @property
    def parameters(self) -> tuple[str, ...]:
        """The names of its parameters."""
        names = inspect.signature(self.build).parameters
        return tuple(name for name in names if name != "request")

    def make(self, request: TaskRequest) -> Workflow:
        """
        The workflow of a request.

        Raises:
            PlanningError: It does not take the context, or it makes no workflow.
        """
        arguments: dict[str, Any] = dict(request.context)
        if "request" in inspect.signature(self.build).parameters:
            arguments["request"] = request
        try:
            inspect.signature(self.build).bind(**arguments)
        except TypeError as error:
            takes = ", ".join(self.parameters) or "nothing"
            msg = f"template {self.name!r} takes {takes}: {error}"
            raise PlanningError(msg, hint="give it in the context") from None
        try:
            workflow = self.build(**arguments)
        except PlanningError:
            raise
        except Exception as error:
            msg = f"template {self.name!r} failed: {type(error).__name__}: {error}"
            raise PlanningError(msg, hint="mend the function") from error
        if not isinstance(workflow, Workflow):
            msg = f"template {self.name!r} gave {show(workflow)}: a Workflow is needed"
            raise PlanningError(msg)
        return workflow


@attrs.frozen
class Proposal:
    """
    A part that came back in recorded runs.

    Attributes:
        name: A name for it, made of the types.
        types: The types of its tasks, each after those that it waits for.
        after: The places of the parents of each task.
        runs: In how many runs it was found.
    """

    name: str
    types: tuple[str, ...]
    after: tuple[tuple[int, ...], ...]
    runs: int

    def __str__(self) -> str:
        return f"{' → '.join(self.types)}, in {self.runs} runs"

    def template(self, name: str | None = None) -> Template:
        """Return a template that takes a payload for each task by `payloads`."""

        def build(payloads: Mapping[str, Any] | None = None) -> Workflow:
            workflow = Workflow(name or self.name)
            ids: list[str] = []
            for kind, above in zip(self.types, self.after, strict=True):
                stem = kind.replace("/", "-")
                count = sum(one.rpartition("-")[0] == stem for one in ids)
                ids.append(f"{stem}-{count + 1}")
                payload = (payloads or {}).get(ids[-1], (payloads or {}).get(kind))
                workflow.add(
                    Task(kind, payload, id=ids[-1], after=[ids[n] for n in above])
                )
            return workflow

        return Template(name or self.name, f"of {self.runs} runs", build)


def proposals(
    statuses: Iterable[TaskStatus],
    after: Callable[[str], Iterable[str]],
    *,
    least: int = 3,
) -> list[Proposal]:
    """
    Parts that came back in at least so many runs of workflows, the largest first.

    A part is a task with all that it waits for. A part within a larger one that came
    back as often is left out.

    Args:
        statuses: The tasks that were run.
        after: The parents of each task, by ids.
        least: In how many runs.

    Raises:
        InvalidTaskError: *least* is below 2: once is no pattern.
    """
    check_count("least", least, least=2)
    kinds = {s.task_id: s.type for s in statuses if run_of(s.task_id)}
    above = {name: [up for up in after(name) if up in kinds] for name in kinds}
    runs_by_shape: dict[Any, set[str]] = {}
    shapes: dict[str, Any] = {}
    for name in kinds:
        shape = _shape(name, above, kinds)
        if shape is not None:
            shapes[name] = shape
            runs_by_shape.setdefault(shape, set()).add(run_of(name))
    inner: dict[Any, int] = {}
    for name in shapes:
        for up in above[name]:
            if up in shapes:
                often = len(runs_by_shape[shapes[name]])
                inner[shapes[up]] = max(inner.get(shapes[up], 0), often)
    parts = []
    for (types, waits), runs in runs_by_shape.items():
        if len(runs) >= least and inner.get((types, waits), 0) < len(runs):
            name = "-then-".join(dict.fromkeys(t.replace("/", "-") for t in types))
            parts.append(Proposal(name[:60], types, waits, len(runs)))
    return sorted(parts, key=lambda p: (-len(p.types), -p.runs, p.name))


def _shape(
    name: str, above: Mapping[str, list[str]], kinds: Mapping[str, str]
) -> tuple[tuple[str, ...], tuple[tuple[int, ...], ...]] | None:
    """Return the types of a task and of all that it waits for, in a fixed order."""
    order: list[str] = []
    seen: set[str] = set()
    stack = [(name, False)]
    while stack:
        task, ready = stack.pop()
        if ready:
            order.append(task)
        elif task not in seen:
            seen.add(task)
            stack.append((task, True))
            below = sorted(above[task], key=lambda up: (kinds[up], len(above[up]), up))
            stack += [(up, False) for up in reversed(below)]
        if len(seen) > _MOST:
            return None
    if len(order) < 2:  # noqa: PLR2004 - one task is no part
        return None
    place = {task: number for number, task in enumerate(order)}
    return (
        tuple(kinds[task] for task in order),
        tuple(tuple(sorted(place[up] for up in above[task])) for task in order),
    )
