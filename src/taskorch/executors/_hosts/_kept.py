"""
Results that an engine keeps in its store: what stands for them here, and there.

Decision: 0105.
"""

from __future__ import annotations

import pickle
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

from taskorch._base.frozen import frozen
from taskorch.errors import NotRunningError
from taskorch.executors._remote import HERE, RemoteEnd, end_of

#: What a worker asks the orchestrator for.
ASKS: Final = "kept"
_sending = threading.local()


@frozen
class KeptEnd:
    """A call has returned what its host has, and has not sent."""

    #: Its type.
    kind: str
    #: Bytes that it has, pickled.
    size: int


class StoredValue:
    """A value in the store of the engine: it is there as long as this is."""

    def __init__(self, number: bytes, task_id: str, found_by: Any) -> None:
        self.number: bytes = number
        #: Of which task it is the result.
        self.task_id: str = task_id
        #: What the engine finds it by.
        self.found_by: Any = found_by


class RemoteValue:
    """
    A large result, which is in the store of the engine.

    Among the arguments of a task on the same executor the value takes its place, and
    goes there from node to node. Functions on threads call `get`, and it goes to no
    other process. It is given up with the last `RemoteValue`.

    Attributes:
        type: The type of the value.
        size: Bytes that it has, pickled.
        where: Which host has made it.
        task_id: Of which task it is the result.
    """

    def __init__(
        self,
        reference: StoredValue,
        end: KeptEnd,
        where: str,
        fetch: Callable[[StoredValue], bytes],
    ) -> None:
        self._reference = reference
        self._fetch = fetch
        self.type: str = end.kind
        self.size: int = end.size
        self.where: str = where
        self.task_id: str = reference.task_id

    def get(self) -> Any:
        """
        Bring the value here; each call brings it anew.

        Raises:
            ResultGoneError: The engine has lost it, or its orchestrator has ended.
            TaskFailedError: It cannot be unpickled.
        """
        data = self._fetch(self._reference)
        end = RemoteEnd(data, raised=False, kind=self.type)
        value, error = end_of(end, self.task_id)
        if error is not None:
            raise error
        return value

    def __repr__(self) -> str:
        return f"<RemoteValue: {self.type}, {self.size:,} bytes, of {self.task_id}>"

    def __reduce__(self) -> tuple[Any, ...]:
        if getattr(_sending, "fetch", None) == self._fetch:
            _sending.sent.append(self._reference)
            return brought, (self._reference.number,)
        msg = "a RemoteValue goes to tasks on its own executor, and to no other process"
        raise TypeError(msg)


@contextmanager
def sending(
    fetch: Callable[[StoredValue], bytes] | None,
) -> Iterator[list[StoredValue]]:
    """What is pickled meanwhile goes where *fetch* brings from; which is among that."""
    sent: list[StoredValue] = []
    _sending.fetch, _sending.sent = fetch, sent
    try:
        yield sent
    finally:
        del _sending.fetch, _sending.sent


def brought(number: bytes) -> Any:
    """In a worker of a host: the value that the engine keeps by *number*."""
    if HERE.link is None:
        msg = "a large result of a cluster was pickled for its workers alone"
        raise NotRunningError(msg)
    data: bytes = HERE.link.ask(ASKS, ("", 0), number)
    return pickle.loads(data)  # noqa: S301 - from a worker of ours
