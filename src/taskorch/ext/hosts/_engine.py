"""
The protocol of engines: to place hosts, run single attempts, and keep results.

A value in its store has a stand-in, here and there.

Decision: hosts-on-engines.
"""

from __future__ import annotations

import pickle
import threading
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final, Protocol, TypeAlias

from taskorch.core.executors.remote import HERE, RemoteEnd, end_of
from taskorch.errors import NotRunningError
from taskorch.kit.frozen import frozen

#: A question from a process of a host: its process, the number of its call, and that of
#: the question.
Asked: TypeAlias = tuple[int, bytes, int]


@frozen
class HostPlace:
    """A place where a host may be started."""

    #: The number of worker processes.
    slots: int
    #: The engine's name for it.
    where: str = ""
    #: Amounts for attempts that ask for them there, in millionths.
    amounts: Mapping[str, int] = {}


class NoPlaceError(Exception):
    """An engine can place nothing now, for the reason said; later it may."""


class HostEnded(Protocol):
    """Protocol: hears of the end of a host."""

    def __call__(self, why: str, *, is_seen: bool = True) -> object:
        """Note its end; without *is_seen* the engine cannot see it, and it is near."""
        ...


class Engine(Protocol):
    """
    An engine, used on one thread; a method that raises has done nothing.

    Its reference to a host or a single attempt is called a handle.
    """

    #: Its name, as in "the Ray cluster".
    name: str

    @abstractmethod
    def open(self) -> None:
        """Connect to it, or raise an error for users."""
        ...

    @abstractmethod
    def addresses(self) -> Sequence[str]:
        """Return names of this machine that the nodes of the engine may know."""
        ...

    @abstractmethod
    def place(self, taken: Sequence[Any]) -> HostPlace:
        """
        Return a place for one more host, besides handles *taken*.

        Raises:
            NoPlaceError: None is free, and why.
        """
        ...

    @abstractmethod
    def start(self, place: HostPlace, arguments: bytes, ended: HostEnded) -> Any:
        """Start a host; call *ended* with the reason of its end, on any thread."""
        ...

    @abstractmethod
    def end(self, handle: Any) -> None:
        """End a host that does not end by itself, as far as that is possible."""
        ...

    def abandon(self, handle: Any) -> None:
        """End a host that is lost to us and may still run, if that is possible."""
        self.end(handle)

    def check(self) -> None:
        """Find attempts that can never begin, since their node has gone."""
        return

    @abstractmethod
    def keep(
        self, handle: Any, number: bytes, done: Callable[[Any, str], object]
    ) -> None:
        """
        Take the value that a host has by a *number* into the store: see `RunningHost`.

        *done* is called, on any thread, with a reference to it, or the reason why it
        cannot be kept. This process owns it: it outlives the host, and ends with the
        reference.
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
        Answer the question *asked* of a process with the value of *reference*.

        *failed* is called, on any thread, if that cannot be. See `RunningHost.answer`.
        """
        ...

    @abstractmethod
    def fetch(self, reference: Any) -> bytes:
        """
        Return the value of *reference*, on any thread.

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

        *done* is called, on any thread, with its outcome; a `BrokenExecutor` says that
        it was lost.

        Raises:
            NoPlaceError: It cannot be run now.
        """
        ...

    @abstractmethod
    def cancel_one(self, handle: Any, *, force: bool) -> None:
        """Ask a single call to end; by *force*, kill its process."""
        ...

    @abstractmethod
    def close(self) -> None:
        """Leave the engine; all that was started on it ends."""
        ...

    @abstractmethod
    def findings(self) -> Sequence[tuple[str, str]]:
        """Return findings on it and each node: see `OwnedExecutor.findings`."""
        ...


#: The question by which a process asks the orchestrator for a kept value.
ASKS: Final = "kept"
_sending = threading.local()


@frozen
class KeptEnd:
    """The end of a call whose result its host still has."""

    #: The type of the result.
    kind: str
    #: Its bytes, pickled.
    size: int


class StoredValue:
    """A value in the store of the engine, which lives as long as this object."""

    def __init__(self, number: bytes, task_id: str, found_by: Any) -> None:
        self.number: bytes = number
        #: The task whose result it is.
        self.task_id: str = task_id
        #: The engine's reference to it.
        self.found_by: Any = found_by


class RemoteValue:
    """
    A large result, which is in the store of the engine.

    Among the arguments of a task on the same executor the value takes its place, and
    goes there from node to node. Functions on threads call `get`, and it goes to no
    other process. The store drops it with the last `RemoteValue`.

    Attributes:
        type: The type of the value.
        size: Bytes that it has, pickled.
        where: The host that has made it.
        task_id: The task whose result it is.
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
    """Let stored values be pickled in the block for *fetch*; yield those that were."""
    sent: list[StoredValue] = []
    _sending.fetch, _sending.sent = fetch, sent
    try:
        yield sent
    finally:
        del _sending.fetch, _sending.sent


def brought(number: bytes) -> Any:
    """Return the value that the engine keeps by *number*; in a process of a host."""
    if HERE.link is None:
        msg = "a large result of a cluster was pickled for its workers alone"
        raise NotRunningError(msg)
    data: bytes = HERE.link.ask(ASKS, ("", 0), number)
    return pickle.loads(data)  # noqa: S301 - from our process
