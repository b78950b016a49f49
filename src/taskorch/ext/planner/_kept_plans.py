"""
The cache of plans, by equal requests and by tasks of the same shape.

Decision: planner.
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
from taskorch.ext.planner._problems import (
    like,
    shape_of,
)
from taskorch.ext.planner._stages import (
    Draft,
)
from taskorch.ext.planner._values import (
    Constraint,
    ExecutionPlan,
    PlannedTask,
    TaskRequest,
)
from taskorch.kit.digests import UndescribedError, digest_of

#: The number of plans in the cache.
_KEPT: Final = 256


class KeptPlans:
    """
    The latest plans, each as long as nothing has changed on which it depends.

    Args:
        version: Gives, by cause, the versions on which the plan of a request with tasks
            of some types depends; it raises an error where a function has no
            description.
    """

    def __init__(
        self, version: Callable[[TaskRequest, Sequence[str]], dict[str, Any]]
    ) -> None:
        self._version = version
        self._lock = threading.Lock()
        self._plans: OrderedDict[str, tuple[dict[str, Any], ExecutionPlan]] = (
            OrderedDict()
        )
        #: By shape, plans with the drafts that they were made of.
        self._shapes: OrderedDict[str, tuple[Draft, ExecutionPlan]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._plans)

    @staticmethod
    def key(request: TaskRequest) -> tuple[str | None, str]:
        """
        Return a key that is equal for requests that get the same plan.

        The key is None if the plan is not cached; then the second value says why.
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
        """Return the plan of the same request, if it is still valid; or why not."""
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
            # Without a version nobody could say later whether the plan is still valid.
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
        """Return the key that plans of the same shape share; None: there is none."""
        try:
            versions = self._version(request, [task.type for task in tasks])
            # A replaced stage has worked already: its draft is part of the shape.
            del versions["a stage was replaced"]
            versions["the priority"] = request.priority
            return shape_of(draft, tasks, constraints, versions)
        except (UndescribedError, InvalidTaskError, RecursionError):
            return None

    def like(
        self, shape: str, draft: Draft, request: TaskRequest
    ) -> ExecutionPlan | None:
        """Return the plan of a draft, by a cached plan of the same *shape*."""
        with self._lock:
            of_shape = self._shapes.get(shape)
        return None if of_shape is None else like(*of_shape, draft, request)

    def keep_shape(self, shape: str, draft: Draft, plan: ExecutionPlan) -> None:
        """Keep the plan of a draft for others of its shape."""
        with self._lock:
            _remember(self._shapes, shape, (draft, plan))


def _remember(table: OrderedDict[Any, Any], key: str, value: Any) -> None:
    """Put a value into a table, and drop the least recently used one."""
    table[key] = value
    table.move_to_end(key)
    while len(table) > _KEPT:
        table.popitem(last=False)
