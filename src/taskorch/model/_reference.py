"""A task that is named among the arguments of another."""

from __future__ import annotations

import attrs

__all__ = ("Reference",)


@attrs.frozen
class Reference:
    """
    Stands for the handle of a task among the arguments of a `Call`.

    It is what a journal can keep of a handle: a direct argument, or an item of a list
    that is one. When the task runs, its result takes this place.
    """

    task_id: str
