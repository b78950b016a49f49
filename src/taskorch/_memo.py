"""
Results that are remembered: `orch.memo`.

Decision: 0085.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from taskorch.errors import InvalidTaskError
from taskorch.kit.verbs import verb

if TYPE_CHECKING:
    from taskorch.runtime import Runtime


class MemoManager:
    """
    `orch.memo`: what is remembered of tasks with a `Cache`.

    A result is that of the task which made it: once that has left memory, and there is
    no journal, it is made again.
    """

    def __init__(self, runtime: Any) -> None:
        self._rt: Runtime = runtime

    @verb(
        "Clear cached results: like tasks run again.",
        "thread",
        "POST /memo/clear",
        operation="clear_memo",
        gives="count",
        command="forget: clear cached results",
        is_final=True,
        preview="clearing_of_memo",
    )
    def clear(self, *, type: str | None = None, task: str | None = None) -> int:  # noqa: A002 - as Task calls it
        """
        Forget results: like tasks are made again.

        Args:
            type: Those of tasks of this type; None is all.
            task: That which a task of this id has made.

        Returns:
            How many there were.

        Raises:
            InvalidTaskError: They are no texts.
        """
        for name, value in (("type", type), ("task", task)):
            if value is not None and not isinstance(value, str):
                msg = f"{name}: a text is needed, not {value!r}"
                raise InvalidTaskError(msg)
        self._rt.look_up()
        return self._rt.memo.clear(type, task)

    def __len__(self) -> int:
        self._rt.look_up()
        return self._rt.memo.count()
