"""Calls that hosts, or the engine itself, have been given; hosts, as we know them."""

from __future__ import annotations

import os
import pickle
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import BrokenExecutor
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from taskorch.core.executors import wire
from taskorch.core.executors.link import LinkedCall
from taskorch.core.executors.remote import HERE
from taskorch.errors import (
    AttemptInterrupted,
    InvalidTaskError,
    TaskFailedError,
    TaskorchError,
)
from taskorch.ext.hosts._engine import Engine, NoPlaceError
from taskorch.kit.loop import Loop
from taskorch.kit.visible import said, visible
from taskorch.protocols import Attempt

if TYPE_CHECKING:
    from taskorch.core.executors.link import Link
    from taskorch.ext.hosts._engine import HostPlace, StoredValue


#: Resources of every machine; unless given here, only the orchestrator counts them.
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
        #: The stored values that it uses, which stay there until its end.
        self.sent: Sequence[StoredValue] = sent
        #: The error of one of these that was lost, so that the call could not be read.
        self.gone: BaseException | None = None
        #: Amounts that it holds on its host, in millionths.
        self.needs: Mapping[str, int] = _needs(attempt)
        self.host: RemoteHost | None = None
        self.since: float = time.monotonic()
        #: The engine's handle, if it is a task of the engine itself.
        self.single: Any = None
        #: Whether it can be made again if it is lost before it has begun.
        self.is_idempotent: bool = attempt.task.idempotent
        #: Whether its host was asked to give it back.
        self.is_recalled: bool = False

    def trouble(
        self, engine: str, why: str, error: BaseException | None
    ) -> TaskFailedError:
        """Return the error of a call that cannot begin on *engine*."""
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
        #: The engine's handle; None before it was started.
        self.handle: Any = None
        #: None before it has come.
        self.link: Link | None = None
        #: The description of itself that it has sent.
        self.hello: dict[str, Any] = {}
        #: Its calls, in the order in which it got them.
        self.given: dict[bytes, GivenCall] = {}
        self.since: float = time.monotonic()
        self.is_over: bool = False
        #: Whether it was told to end, or will be: it gets no new call.
        self.is_leaving: bool = False

    @property
    def is_there(self) -> bool:
        """Whether it can be given calls."""
        if self.link is None or self.link.is_garbled:
            return False
        return not self.is_over and not self.is_leaving

    @property
    def load(self) -> float:
        """Calls per process."""
        return len(self.given) / self.place.slots

    def send(self, kind: int, number: bytes, *body: bytes) -> None:
        """Send a frame, without waiting; nothing is sent before it has come."""
        if self.link is not None:
            self.link.send(kind, number, *body)

    def give(self, call: GivenCall) -> None:
        """Give it a call."""
        call.host = self
        self._move(call.needs, -1)
        self.given[call.number] = call
        name = call.attempt.task_id.encode()
        self.send(wire.CALL, call.number, len(name).to_bytes(2), name, call.call)

    def take(self, number: bytes) -> GivenCall | None:
        """Take a call from it, and return that."""
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
    """Return whether *free* has all amounts in *needs*."""
    return all(
        amount <= free.get(name, amount if name in _ANYWHERE else 0)
        for name, amount in needs.items()
    )


def text_of(error: BaseException) -> str:
    """Return the message of *error*, without its hint."""
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


#: Seconds after which an engine that had no place is asked again.
_PAUSE: Final = 1.0


class Singles:
    """
    Single calls that the engine has been given, and has not ended.

    Args:
        engine: The engine.
        ask: Does something on the thread of the engine.
        loop: The loop that counts the time until one is ended by force.
        open_engine: Called before the engine is asked.
        patience: Seconds in which the engine must have a place.
    """

    def __init__(
        self,
        engine: Engine,
        ask: Callable[[Callable[[], object]], object],
        loop: Loop,
        open_engine: Callable[[], object],
        patience: float,
    ) -> None:
        self._engine, self._ask, self._loop = engine, ask, loop
        self._open, self._patience = open_engine, patience
        #: The reason why the engine had no place for one, at the last try.
        self.shortage: str = ""
        #: When it is asked again, by the monotonic clock.
        self._ask_again_at = 0.0
        # Guards the calls.
        self._lock = threading.Lock()
        self._calls: set[GivenCall] = set()

    def calls(self) -> Iterable[GivenCall]:
        """Return all calls."""
        with self._lock:
            return list(self._calls)

    def begin(self, call: GivenCall) -> None:
        """Give the engine a call."""
        with self._lock:
            self._calls.add(call)
        self._ask(partial(self._run, call))

    def stop(self, call: GivenCall, seconds: float) -> bool:
        """Cancel *call*, by force after *seconds*; return False if it is unknown."""
        with self._lock:
            if call not in self._calls:
                return False
        call.is_asked = True
        force = partial(self._ask, partial(self._cancel, call, force=True))
        self._ask(partial(self._cancel, call, force=False))
        when = time.monotonic() + max(0.0, seconds)
        self._loop.call(partial(self._loop.at, when, force))
        return True

    def _run(self, call: GivenCall) -> None:
        done = partial(self._answered, call)
        if call.is_over:
            return
        try:
            self._open()
            if call.is_asked:
                self._ended(call, None, AttemptInterrupted("stopped before it began"))
                return
            if call.sent:
                msg = (
                    "it needs a large result, and no host has what it asks for besides"
                )
                hint = "let per_host= have that, or take the value from get()"
                raise InvalidTaskError(msg, hint=hint)  # noqa: TRY301 - as all that fails
            call.single = self._place(call, done)
        except BaseException as error:  # noqa: BLE001 - the caller is told
            now = time.monotonic()
            if isinstance(error, NoPlaceError) and now - call.since < self._patience:
                again = partial(self._ask, partial(self._run, call))
                self._loop.call(partial(self._loop.at, now + _PAUSE, again))
                return
            if self._remove(call):
                name = self._engine.name
                call.attempt.unstarted(call.trouble(name, text_of(error), error))

    def _place(self, call: GivenCall, done: Callable[..., object]) -> Any:
        if time.monotonic() < self._ask_again_at:
            # The engine was asked for another a moment ago, which may have taken
            # seconds.
            raise NoPlaceError(self.shortage)
        try:
            handle = self._engine.run_one((call.number, call.call), call.needs, done)
        except NoPlaceError as error:
            self.shortage = str(error)
            self._ask_again_at = time.monotonic() + _PAUSE / 2
            raise
        self.shortage = ""
        return handle

    def _answered(
        self, call: GivenCall, value: Any, error: BaseException | None
    ) -> None:
        if type(value) is tuple:
            number, value = value
            if number != call.number:
                name = self._engine.name
                value, error = None, BrokenExecutor(f"{name} has mixed up two calls")
        self._ended(call, value, error)

    def _ended(self, call: GivenCall, value: Any, error: BaseException | None) -> None:
        if not self._remove(call):
            return
        if call.is_asked and (error is not None or value.raised):
            # The error is the same, however it was ended.
            value, error = None, AttemptInterrupted("it was cancelled")
        call.attempt.end(value, error)

    def _remove(self, call: GivenCall) -> bool:
        """Remove *call*; return whether it was not over before."""
        with self._lock:
            was_over, call.is_over = call.is_over, True
            self._calls.discard(call)
        return not was_over

    def _cancel(self, call: GivenCall, *, force: bool) -> None:
        if call.single is None:
            self._ended(call, None, AttemptInterrupted("stopped before it began"))
        elif not call.is_over:
            self._engine.cancel_one(call.single, force=force)


def run_single(call: tuple[bytes, bytes]) -> tuple[bytes, Any]:
    """Make *call*, a number and pickled bytes; return the number and a `RemoteEnd`."""
    number, data = call
    HERE.drops_progress = True
    function: Callable[[], Any] = pickle.loads(data)  # noqa: S301 - ours
    return number, function()
