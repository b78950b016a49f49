"""A task that is named among the arguments of another."""

from __future__ import annotations

from taskorch._base._frozen import frozen


@frozen
class Reference:
    """
    Stands for the handle of a task among the arguments of a `Call`.

    It is what a journal can keep of a handle, wherever that is in the arguments. When
    the task runs, its result takes this place.

    Attributes:
        task_id: The id of the task whose result is meant.
    """

    #: See `taskorch.model._arguments`.
    stands_for_result = True

    task_id: str
