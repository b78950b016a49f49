"""
What hosts ask of an engine: to place them, to run single attempts, to keep results.

What it keeps in its store has something that stands for it, here and there.

Decision: 0105.
"""

from __future__ import annotations

import pickle
import threading
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final, Protocol, TypeAlias

from taskorch.errors import NotRunningError
from taskorch.executors.remote import HERE, RemoteEnd, end_of
from taskorch.kit.frozen import frozen

#: What a worker of a host has asked: its process, the number of its call, and that of
#: the question.
Asked: TypeAlias = tuple[int, bytes, int]


@frozen
class HostPlace:
    """Where a host may be started."""

    #: How many worker processes there are to be.
    slots: int
    #: What an engine finds it by.
    where: str = ""
    #: Amounts that it has there for attempts that ask for them, in millionths.
    amounts: Mapping[str, int] = {}


class NoPlaceError(Exception):
    """An engine can place nothing now, for the reason said; later it may."""


class HostEnded(Protocol):
    """Who is told of the end of a host."""

    def __call__(self, why: str, *, is_seen: bool = True) -> object:
        """Not *is_seen*: it ends soon, if it has not; the engine cannot see it."""
        ...


class Engine(Protocol):
    """
    An engine, on one thread; what raises has done nothing.

    What it gives back of hosts and single attempts is called a handle.
    """

    #: What it is called, as in "the Ray cluster".
    name: str

    @abstractmethod
    def open(self) -> None:
        """Connect to it; raises what is to be told if that cannot be."""
        ...

    @abstractmethod
    def addresses(self) -> Sequence[str]:
        """The names of this machine, as the nodes of the engine may know it."""
        ...

    @abstractmethod
    def place(self, taken: Sequence[Any]) -> HostPlace:
        """
        A place for one more host, besides handles *taken*.

        Raises:
            NoPlaceError: None is free, and why.
        """
        ...

    @abstractmethod
    def start(self, place: HostPlace, arguments: bytes, ended: HostEnded) -> Any:
        """Start a host; *ended* is told why it ended, on any thread."""
        ...

    @abstractmethod
    def end(self, handle: Any) -> None:
        """End a host that does not end by itself, as far as that is possible."""
        ...

    def abandon(self, handle: Any) -> None:
        """A host is lost to us, and may still run: end it, if that can be done."""
        self.end(handle)

    def check(self) -> None:
        """Look for what can never begin, since its node has gone; and tell it."""
        return

    @abstractmethod
    def keep(
        self, handle: Any, number: bytes, done: Callable[[Any, str], object]
    ) -> None:
        """
        Take into the store what a host has returned by a *number*: see `RunningHost`.

        *done* is told, on any thread, a reference to it, or why it cannot be kept. This
        process is its owner: it outlives the host, and ends with the reference.
        """
        ...

    @abstractmethod
    def bring(
        self,
        handle: Any,
        asked: Asked,
        reference: Any,
        failed: Callable[[str], object],
    ) -> None:
        """
        Answer what a worker has *asked* with what *reference* is, which stays there.

        *failed* is told, on any thread, why that cannot be. See `RunningHost.answer`.
        """
        ...

    @abstractmethod
    def fetch(self, reference: Any) -> bytes:
        """
        What *reference* is, on any thread.

        Raises:
            ConnectionError: It is lost, or the engine has been left.
        """
        ...

    @abstractmethod
    def run_one(
        self,
        call: tuple[bytes, bytes],
        needs: Mapping[str, int],
        done: Callable[[Any, BaseException | None], object],
    ) -> Any:
        """
        Run one call, with its number, as a task of the engine, once: see `run_single`.

        *done* is told, on any thread, what came of it; a `BrokenExecutor` says that it
        was lost.

        Raises:
            NoPlaceError: It cannot be run now.
        """
        ...

    @abstractmethod
    def cancel_one(self, handle: Any, *, force: bool) -> None:
        """Ask a single call to end; by *force*, kill what runs it."""
        ...

    @abstractmethod
    def close(self) -> None:
        """Let go of the engine: what we have started ends."""
        ...

    @abstractmethod
    def findings(self) -> Sequence[tuple[str, str]]:
        """What is to be said of it, and of each node: see `OwnedExecutor.findings`."""
        ...


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
