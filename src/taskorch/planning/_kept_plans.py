"""
Plans that are kept: of the same request, and of tasks of the same shape.

Decision: 0290.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import (
    Callable,
    Sequence,
)
from typing import Any, Final

import attrs

from taskorch.errors import (
    InvalidTaskError,
)
from taskorch.kit.digests import UndescribedError, digest_of
from taskorch.planning._problems import (
    like,
    shape_of,
)
from taskorch.planning._stages import (
    Draft,
)
from taskorch.planning._values import (
    Constraint,
    ExecutionPlan,
    PlannedTask,
    TaskRequest,
)

#: Plans that are kept.
_KEPT: Final = 256


class KeptPlans:
    """
    The plans that were made lately, as long as nothing has changed that they hang on.

    Args:
        version: By cause, what makes the plan of a request with tasks of some types
            another although the request is the same; it raises an error where a
            function has no description.
    """

    def __init__(
        self, version: Callable[[TaskRequest, Sequence[str]], dict[str, Any]]
    ) -> None:
        self._version = version
        self._lock = threading.Lock()
        self._plans: OrderedDict[str, tuple[dict[str, Any], ExecutionPlan]] = (
            OrderedDict()
        )
        #: By their shapes, plans with the drafts that they were made of.
        self._shapes: OrderedDict[str, tuple[Draft, ExecutionPlan]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._plans)

    @staticmethod
    def key(request: TaskRequest) -> tuple[str | None, str]:
        """
        What is the same for requests of which the plans are alike.

        None if a plan of it is not kept, and why.
        """
        deadline = request.deadline
        parts = (
            request.type,
            request.requirements,
            request.constraints,
            request.priority,
            dict(request.context),
            deadline if deadline is None else str(deadline),
        )
        try:
            return digest_of(parts), ""
        except (UndescribedError, RecursionError) as error:
            return None, f"not kept: the context has no description: {error}"

    def get(self, key: str, request: TaskRequest) -> tuple[ExecutionPlan | None, str]:
        """The plan of the same request, if it is as good as before; or why none is."""
        with self._lock:
            kept = self._plans.get(key)
        if kept is None:
            return None, "missed: no such request was planned yet"
        version, plan = kept
        try:
            now = self._version(request, [task.type for task in plan.tasks])
        except (UndescribedError, InvalidTaskError):
            now = {}
        for cause, value in version.items():
            if now.get(cause) != value:
                with self._lock:
                    self._plans.pop(key, None)
                return None, f"missed: {cause}"
        with self._lock:
            if key in self._plans:
                self._plans.move_to_end(key)
        return attrs.evolve(plan, id=request.id, request=request, cache="hit"), "hit"

    def keep(self, key: str, plan: ExecutionPlan) -> None:
        """Keep the plan of a request."""
        types = [task.type for task in plan.tasks]
        try:
            version = self._version(plan.request, types)
        except (UndescribedError, InvalidTaskError):
            # Nobody could say whether it is good.
            return
        with self._lock:
            _remember(self._plans, key, (version, plan))

    def shape(
        self,
        request: TaskRequest,
        draft: Draft,
        tasks: Sequence[PlannedTask],
        constraints: Sequence[Constraint],
    ) -> str | None:
        """What plans of the same tasks by other names share; None: nothing does."""
        try:
            versions = self._version(request, [task.type for task in tasks])
            # The stages before this one have done their part.
            del versions["a stage was replaced"]
            versions["the priority"] = request.priority
            return shape_of(draft, tasks, constraints, versions)
        except (UndescribedError, InvalidTaskError, RecursionError):
            return None

    def like(
        self, shape: str, draft: Draft, request: TaskRequest
    ) -> ExecutionPlan | None:
        """The plan of a draft whose tasks have a *shape* that was planned before."""
        with self._lock:
            of_shape = self._shapes.get(shape)
        return None if of_shape is None else like(*of_shape, draft, request)

    def keep_shape(self, shape: str, draft: Draft, plan: ExecutionPlan) -> None:
        """Keep the plan of a draft for others of its shape."""
        with self._lock:
            _remember(self._shapes, shape, (draft, plan))


def _remember(table: OrderedDict[Any, Any], key: str, value: Any) -> None:
    """Put a value into a table, from which the one longest unused leaves."""
    table[key] = value
    table.move_to_end(key)
    while len(table) > _KEPT:
        table.popitem(last=False)
