"""Results that stay where they were made: what stands for them here, and there."""

from __future__ import annotations

import pickle
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

from taskorch._frozen import frozen
from taskorch.errors import NotRunningError
from taskorch.executors._remote import HERE

#: What a worker asks its host for.
ASKS: Final = "kept"
_sending = threading.local()


@frozen
class KeptEnd:
    """A call has returned what its host has kept."""

    #: Its type.
    kind: str
    #: Bytes that it has, pickled.
    size: int


class RemoteValue:
    """
    A large result, which is still where it was made.

    Among the arguments of a task on the same executor the value takes its place. It
    goes to another host if need be, and nowhere on the one that has it. Functions on
    threads call `get`, and it goes to no other process. It is gone with its host, and
    given up with the last `RemoteValue`.

    Attributes:
        type: The type of the value.
        size: Bytes that it has, pickled.
        where: Which host has it.
    """

    def __init__(
        self,
        owner: object,
        number: bytes,
        end: KeptEnd,
        where: str,
        take: Callable[[], bytes],
    ) -> None:
        self._owner = owner
        self._number = number
        self._take = take
        self.type: str = end.kind
        self.size: int = end.size
        self.where: str = where

    def get(self) -> Any:
        """
        Bring the value here; each call brings it anew.

        Raises:
            ResultGoneError: Its host is gone.
        """
        return pickle.loads(self._take())  # noqa: S301 - from our own host

    def __repr__(self) -> str:
        return f"<RemoteValue: {self.type}, {self.size:,} bytes, on {self.where}>"

    def __reduce__(self) -> tuple[Any, ...]:
        if getattr(_sending, "owner", None) is self._owner:
            return brought, (self._number,)
        msg = "a RemoteValue goes to tasks on its own executor, and to no other process"
        raise TypeError(msg)


@contextmanager
def sending_by(owner: object) -> Iterator[None]:
    """What is pickled meanwhile, on this thread, goes to the hosts of *owner*."""
    _sending.owner = owner
    try:
        yield
    finally:
        _sending.owner = None


def brought(number: bytes) -> Any:
    """In a worker of a host: the value that some host keeps by *number*."""
    if HERE.link is None:
        msg = "a large result of a cluster was pickled for its workers alone"
        raise NotRunningError(msg)
    data: bytes = HERE.link.ask(ASKS, ("", 0), number)
    return pickle.loads(data)  # noqa: S301 - from a worker of ours
