"""Calls that are given to hosts, and hosts, as the orchestrator knows them."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from taskorch._base.visible import said, visible
from taskorch.errors import TaskFailedError, TaskorchError
from taskorch.executors import _wire
from taskorch.executors._hosts._engine import NoPlaceError
from taskorch.executors._link import LinkedCall
from taskorch.protocols import Attempt

if TYPE_CHECKING:
    from taskorch.executors._hosts._engine import HostPlace
    from taskorch.executors._hosts._kept import StoredValue
    from taskorch.executors._link import Link

#: What every machine has, and is counted by the orchestrator alone if not said here.
_ANYWHERE: Final = frozenset({"memory_mb", "disk_mb", "bandwidth_mbps"})


class GivenCall(LinkedCall):
    """An attempt that waits for a host, or that one has."""

    __slots__ = (
        "gone",
        "host",
        "is_idempotent",
        "is_recalled",
        "needs",
        "sent",
        "since",
        "single",
    )

    def __init__(
        self,
        attempt: Attempt,
        number: bytes,
        call: bytes,
        sent: Sequence[StoredValue],
    ) -> None:
        super().__init__(attempt, number, call)
        #: What it names of that which the engine keeps: it stays there until its end.
        self.sent: Sequence[StoredValue] = sent
        #: Why one of these was not to be had: then it could not be read.
        self.gone: BaseException | None = None
        #: Amounts that it holds on its host, in millionths.
        self.needs: Mapping[str, int] = _needs(attempt)
        self.host: RemoteHost | None = None
        self.since: float = time.monotonic()
        #: What the engine finds it by, if it is a task of the engine itself.
        self.single: Any = None
        #: Whether it may be lost before it has begun, and is made again.
        self.is_idempotent: bool = attempt.task.idempotent
        #: Its host was asked to give it back.
        self.is_recalled: bool = False

    def trouble(
        self, engine: str, why: str, error: BaseException | None
    ) -> TaskFailedError:
        """What to say of it, if it cannot begin on *engine*."""
        task_id = self.attempt.task_id
        hint = error.hint if isinstance(error, TaskorchError) else ""
        failed = TaskFailedError(
            f"task {task_id} could not begin on {engine}: {why}",
            type="BrokenExecutor" if error is None else type(error).__name__,
            hint=hint
            or "orch.doctor() says what the engine and its nodes are; where "
            "no node can reach this machine, hosts=(0, 0) makes each attempt a task of "
            "the engine",
            task_id=task_id,
        )
        failed.__cause__ = error
        return failed


class RemoteHost:
    """One host, as we see it."""

    def __init__(self, number: bytes, place: HostPlace) -> None:
        self.number: bytes = number
        self.secret: bytes = os.urandom(32)
        self.place: HostPlace = place
        self.free: dict[str, int] = dict(place.amounts)
        #: What the engine finds it by; None before it was started.
        self.handle: Any = None
        #: None before it has come.
        self.link: Link | None = None
        #: What it has said of itself.
        self.hello: dict[str, Any] = {}
        #: What it has, in the order in which it was given.
        self.given: dict[bytes, GivenCall] = {}
        self.since: float = time.monotonic()
        self.is_over: bool = False
        #: It was told to end, or will: it gets nothing new.
        self.is_leaving: bool = False

    @property
    def is_there(self) -> bool:
        """Whether it can be given calls."""
        if self.link is None or self.link.is_garbled:
            return False
        return not self.is_over and not self.is_leaving

    @property
    def load(self) -> float:
        """How many calls each of its workers has."""
        return len(self.given) / self.place.slots

    def send(self, kind: int, number: bytes, *body: bytes) -> None:
        """Send a frame, without waiting; if it is not there, nothing is sent."""
        if self.link is not None:
            self.link.send(kind, number, *body)

    def give(self, call: GivenCall) -> None:
        """Let it have a call."""
        call.host = self
        self._move(call.needs, -1)
        self.given[call.number] = call
        name = call.attempt.task_id.encode()
        self.send(_wire.CALL, call.number, len(name).to_bytes(2), name, call.call)

    def take(self, number: bytes) -> GivenCall | None:
        """It has a call no more."""
        call = self.given.pop(number, None)
        if call is not None:
            self._move(call.needs, 1)
            call.host = None
            if not self.given:
                self.since = time.monotonic()
        return call

    def _move(self, needs: Mapping[str, int], sign: int) -> None:
        for name, amount in needs.items():
            if name in self.free:
                self.free[name] += sign * amount

    def __str__(self) -> str:
        if not self.hello:
            return f"host {int.from_bytes(self.number)}"
        node, pid = self.hello.get("node"), self.hello.get("pid")
        number = int.from_bytes(self.number)
        return f"host {number} (process {pid} on {visible(str(node))})"


def fits(needs: Mapping[str, int], free: Mapping[str, int]) -> bool:
    """Whether *needs* can be had of what is *free*."""
    return all(
        amount <= free.get(name, amount if name in _ANYWHERE else 0)
        for name, amount in needs.items()
    )


def text_of(error: BaseException) -> str:
    """What *error* says, without its hint."""
    kind, message = said(error)
    if isinstance(error, TaskorchError):
        return error.message
    if isinstance(error, NoPlaceError):
        return message
    return f"{kind}: {message}".removesuffix(": ")


def _needs(attempt: Attempt) -> Mapping[str, int]:
    resources = attempt.task.resources
    if resources.is_elastic:
        return dict(attempt.told("allocation", None))
    return dict(resources.units)
