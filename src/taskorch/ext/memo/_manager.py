"""
`orch.memo`: how many results are cached, and how to clear them.

Decision: reruns.
"""

from __future__ import annotations

from typing import Protocol

from taskorch.errors import InvalidTaskError
from taskorch.ext.memo._results import Memo
from taskorch.kit.checks import check_exact
from taskorch.kit.verbs import verb
from taskorch.kit.visible import is_text, show


class HasMemo(Protocol):
    """Protocol: what the manager asks of a runtime, or of a simulated one."""

    @property
    def memo(self) -> Memo:
        """Looks for cached results."""
        ...

    def look_up(self) -> None:
        """Read the journal, if that was not done yet."""
        ...


class MemoManager:
    """
    `orch.memo`: the cached results of tasks with a `Cache`.

    A result is that of the task which made it: once that has left memory, and there is
    no journal, it is made again.
    """

    def __init__(self, runtime: HasMemo) -> None:
        self._rt = runtime

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
        Clear cached results, so that like tasks run again.

        Args:
            type: Only those of tasks of this type; None: all.
            task: Only the one that the task of this id has made.

        Returns:
            The number of cleared results.

        Raises:
            InvalidTaskError: They are no texts.
        """
        for name, value in (("type", type), ("task", task)):
            if value is not None and not is_text(value):
                msg = f"{name}: a text is needed, not {show(value)}"
                raise InvalidTaskError(msg)
            check_exact(name, value or "", "name one, or neither to clear all")
        self._rt.look_up()
        return self._rt.memo.clear(type, task)

    def __len__(self) -> int:
        self._rt.look_up()
        return self._rt.memo.count()
