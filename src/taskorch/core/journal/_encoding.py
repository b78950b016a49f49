"""Values and groups as text, for our own journals."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from operator import lt
from typing import Any

from taskorch.core.journal import _codec
from taskorch.core.journal._codec import Row, Rows
from taskorch.core.journal._scripts import Beside
from taskorch.protocols import DurableJournal, Entry


class EncodingJournal(DurableJournal):
    """Turns values into the text that is kept; subclasses write and read it."""

    _beside: Beside

    def document(self, value: object) -> object:
        """
        See `Journal.document`: the text of *value*.

        Raises:
            InvalidTaskError: Something in it cannot be restored exactly.
        """
        if value is None:
            return None
        with self._beside:
            return _codec.document(value)

    def text(self, value: object) -> str | None:
        """
        See `DurableJournal.text`.

        Raises:
            InvalidTaskError: Something in it cannot be restored exactly.
        """
        if value is None:
            return None
        if type(value) is int or type(value) is str:
            # Most results are so, and no part of them is in a file.
            return _codec.text_of(value)
        with self._beside:
            return _codec.text_of(value)

    def call_texts(
        self, task_type: str, fn: Callable[..., Any]
    ) -> Callable[[tuple[Any, ...]], Any]:
        """See `DurableJournal.call_texts`."""
        with self._beside:
            encoder = _codec.call_texts(task_type, fn, self._beside)
        return encoder or super().call_texts(task_type, fn)

    def new_group(self) -> Rows:
        """Return a group to fill, which encodes each entry once."""
        return Rows()

    def _rows_of(self, group: Iterable[Entry | Row] | Rows) -> Rows:
        """
        Return the rows of *group*, all encoded before any of them is written.

        Raises:
            InvalidTaskError: Something in it cannot be restored exactly.
            ValueError: The numbers of its events do not rise.
        """
        if isinstance(group, Rows):
            rows = group
        else:
            with self._beside:
                rows = Rows(group)
        numbers = rows.numbers
        if not all(map(lt, numbers, numbers[1:])):
            msg = f"the numbers of {len(rows)} events from {numbers[0]} on do not rise"
            raise ValueError(msg)
        return rows
