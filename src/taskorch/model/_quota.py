"""How much those of one kind may have at once."""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from taskorch._frozen import frozen
from taskorch.errors import InvalidTaskError
from taskorch.model._resources import Resources, Units
from taskorch.model._show import show

#: What a quota bounds besides resources: how many attempts run at once.
TASKS = "tasks"


def _resources(value: Resources | Mapping[str, float]) -> Resources:
    return Resources.of(value)


@frozen(kw_only=True)
class Quota:
    """
    How much all tasks of a type, or all that is of an owner, may have at once.

    What would exceed it waits, and `explain` says for what. One that becomes less than
    what is in use takes nothing from anybody. A quota without limits lifts the one that
    was there.

    Attributes:
        type: It is for tasks of this type.
        owner: It is for the tasks of this owner, and for what they take by hand.
        resources: The most of each resource that is named; of the others, there is no
            limit but the pools.
        max_parallel: The most that may run at once; None is without limit.

    Raises:
        InvalidTaskError: It is for nobody, or for both; or a limit is none.
    """

    type: str = ""
    owner: str = ""
    resources: Resources = attrs.field(default=Resources(), converter=_resources)
    max_parallel: int | None = None

    def __attrs_post_init__(self) -> None:
        given: tuple[tuple[str, object], ...] = (
            ("type", self.type),
            ("owner", self.owner),
        )
        for name, value in given:
            if not isinstance(value, str) or (value and not value.isprintable()):
                msg = f"{name}: the {name} that the quota is for, not {show(value)}"
                raise InvalidTaskError(msg)
        if bool(self.type) == bool(self.owner):
            msg = "a quota is for a type of task or for an owner: give one of the two"
            raise InvalidTaskError(
                msg, hint="Quota(type='render', resources={'cpu': 4})"
            )
        most = self.max_parallel
        if isinstance(most, bool) or not isinstance(most, int | None):
            msg = f"max_parallel is a whole number or None, not {show(most)}"
            raise InvalidTaskError(msg)
        if most is not None and most < 0:
            msg = f"max_parallel is {most}, and 0 is the least"
            raise InvalidTaskError(msg, hint="None is without limit")
        if TASKS in self.resources or TASKS in self.resources.zeros:
            msg = "how many tasks run at once is max_parallel, and no resource"
            raise InvalidTaskError(msg)

    @property
    def subject(self) -> tuple[str, str]:
        """Whom it is for: `type` or `owner`, and which."""
        return ("type", self.type) if self.type else ("owner", self.owner)

    @property
    def limits(self) -> Units:
        """What it bounds, in millionths; `tasks` is how many run at once."""
        found = self.resources.totals()
        if self.max_parallel is not None:
            found = tuple(sorted((*found, (TASKS, self.max_parallel * 1_000_000))))
        return found
