"""Attempts that are calls in worker processes of hosts, which an engine places."""

from __future__ import annotations

import itertools
import json
import logging
import os
import pickle
import queue
import socket
import ssl
import sys
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import BrokenExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

from taskorch._visible import said, visible
from taskorch.errors import (
    AttemptInterrupted,
    InvalidTaskError,
    ResultGoneError,
    TaskFailedError,
    TaskorchError,
)
from taskorch.executors._ends import until_kill
from taskorch.executors._hosts._connection import (
    Connection,
    Seal,
    Stream,
    versions,
    welcome,
)
from taskorch.executors._hosts._engine import NoPlaceError
from taskorch.executors._hosts._kept import ASKS, KeptEnd, RemoteValue, sending_by
from taskorch.executors._owned import OwnedExecutor
from taskorch.executors._processes import _wire
from taskorch.executors._processes._process import surroundings
from taskorch.executors._processes._telling import Telling, handle_record
from taskorch.executors._programs._fork import at_fork
from taskorch.executors._programs._loop import Loop
from taskorch.executors._remote import pickled, unsendable
from taskorch.protocols import Attempt

if TYPE_CHECKING:
    from contextvars import Context

    from taskorch.executors._hosts._engine import Engine, Place

_log = logging.getLogger(__name__)

T = TypeVar("T")

_numbers = itertools.count(1)
_PID: Final = 8
#: Starts of hosts that fail, one after the other, before those who wait are told.
_MOST_FAILURES: Final = 3
#: Seconds between two looks at hosts that are idle, or do not come.
_LOOK: Final = 0.5
#: Seconds between two looks at what the engine has not begun.
_CHECK: Final = 2.0
#: Seconds after which an engine that had no place is asked again.
_PAUSE: Final = 1.0
#: Calls beyond those for its workers that a host has, so that these need not wait.
_AHEAD: Final = 8
#: What every machine has, and is counted by the orchestrator alone if not said here.
_ANYWHERE: Final = frozenset({"memory_mb", "disk_mb", "bandwidth_mbps"})


class GivenCall:
    """An attempt that waits for a host, or that one has."""

    __slots__ = (
        "attempt",
        "call",
        "host",
        "is_asked",
        "is_idempotent",
        "is_over",
        "is_recalled",
        "needs",
        "number",
        "since",
        "single",
        "variables",
    )

    def __init__(
        self, attempt: Attempt, number: bytes, call: bytes, needs: Mapping[str, int]
    ) -> None:
        self.attempt: Attempt = attempt
        self.number: bytes = number
        #: Pickled; empty once it was sent, and cannot be wanted again.
        self.call: bytes = call
        #: Amounts that it holds on its host, in millionths.
        self.needs: Mapping[str, int] = needs
        self.host: Host | None = None
        self.since: float = time.monotonic()
        #: What the engine finds it by, if it is a task of the engine itself.
        self.single: Any = None
        #: Whether it may be lost before it has begun, and is made again.
        self.is_idempotent: bool = attempt.task.idempotent
        self.is_asked: bool = False
        #: Its host was asked to give it back.
        self.is_recalled: bool = False
        self.is_over: bool = False
        self.variables: Context | None = None


class Host:
    """One host, as we see it."""

    def __init__(self, number: bytes, place: Place) -> None:
        self.number: bytes = number
        self.secret: bytes = os.urandom(32)
        self.place: Place = place
        self.free: dict[str, int] = dict(place.amounts)
        #: What the engine finds it by; None before it was started.
        self.handle: Any = None
        self.connection: Connection | None = None
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
        return self.connection is not None and not self.is_over and not self.is_leaving

    def __str__(self) -> str:
        if not self.hello:
            return f"host {int.from_bytes(self.number)}"
        node, pid = self.hello.get("node"), self.hello.get("pid")
        number = int.from_bytes(self.number)
        return f"host {number} (process {pid} on {visible(str(node))})"


class Hosts(OwnedExecutor[GivenCall]):
    """
    Makes calls in the worker processes of hosts, which an engine starts on its nodes.

    Nothing is begun before the first call. The engine is asked on one thread, and what
    hosts say is heard on another.

    Args:
        engine: What starts hosts.
        hosts: How many there are, at the least and at the most; None: as many as there
            is room for. (0, 0): none, and each attempt is a task of the engine.
        idle: Seconds after which a host that has nothing to do is ended.
        lease: Seconds of silence after which a host is lost.
        patience: Seconds in which a host must come.
        tls: The files of a certificate and its key. None: they are made, where hosts
            are not on this machine.
        keeps_above: Bytes above which a result stays with its host; None: none does.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        hosts: tuple[int, int | None],
        idle: float,
        lease: float,
        patience: float,
        tls: tuple[str, str] | None,
        keeps_above: int | None,
    ) -> None:
        self._engine = engine
        self._keeps_above = keeps_above
        self._is_durable: Callable[[], bool] = bool
        #: Who waits for what hosts have kept, by its number.
        self._takers: dict[bytes, list[Callable[[bytes], object]]] = {}
        #: Which host has what.
        self._keepers: dict[bytes, Host] = {}
        self._least, self._most = hosts
        self._idle, self._lease, self._patience = idle, lease, patience
        self._tls = tls
        self._run_id: Callable[[], str] | None = None
        # Guards what follows; never held while anything of others is called.
        self._lock = threading.Lock()
        self._waiting: deque[GivenCall] = deque()
        self._hosts: dict[bytes, Host] = {}
        self._singles: set[GivenCall] = set()
        self._is_closed = False
        #: What the thread of the engine is to do.
        self._jobs: queue.SimpleQueue[Callable[[], object] | None] = queue.SimpleQueue()
        self._starting = 0
        self._is_full_until = 0.0
        self._failures = 0
        self._short_since: float | None = None
        #: Why the engine had no place, when it was last asked for one.
        self._shortage = ""
        #: When it is asked again for a single attempt, by the monotonic clock.
        self._ask_again_at = 0.0
        #: The most of each amount that a host had; None before there was one.
        self._largest: dict[str, int] | None = None
        self._owner: int | None = None
        self._threads: tuple[threading.Thread, ...] = ()
        self._loop = Loop()
        self._listener: socket.socket | None = None
        self._context: ssl.SSLContext | None = None
        self._certificate: str | None = None
        self._is_open = False
        self._is_finished = False
        #: When the engine was last asked how what it starts is, by the monotonic clock.
        self._checked_at = 0.0

    def bind(
        self,
        run_id: Callable[[], str],
        cores: Callable[[], int],
        is_durable: Callable[[], bool],
    ) -> None:
        """Bind the hosts to one orchestrator; a durable one has results itself."""
        del cores
        self._is_durable = is_durable
        if self._run_id is not None:
            msg = (
                f"this executor of {self._engine.name} belongs to another orchestrator"
            )
            hint = "make another one for this orchestrator"
            raise InvalidTaskError(msg, hint=hint)
        self._run_id = run_id

    # -- from any thread -----------------------------------------------------------

    def begin(self, attempt: Attempt) -> GivenCall:
        """
        Give the call to a host, or let it wait for one.

        Raises:
            InvalidTaskError: It cannot be sent.
            RuntimeError: There can be no more here.
        """
        portable = attempt.portable()
        owner = self if self._most != 0 else None
        try:
            with sending_by(owner):
                call = pickled(portable, _wire.MOST_BYTES, elsewhere=True)
        except Exception as error:
            raise unsendable(error, attempt.task_id, self._engine.name) from error
        number = next(_numbers).to_bytes(_wire.NUMBER)
        given = GivenCall(attempt, number, call, _needs(attempt))
        with self._lock:
            self._check()
            if not self._threads:
                self._launch()
            if self._most == 0:
                self._singles.add(given)
            else:
                self._waiting.append(given)
                self._serve()
        if self._most == 0:
            self._jobs.put(partial(self._run_one, given))
        return given

    def stop(self, begun: GivenCall, grace: float) -> None:
        """Tell the call that it is to end; if it does not, its worker is killed."""
        seconds = until_kill(grace)
        with self._lock:
            if begun.is_over or self._is_forked():
                return
            begun.is_asked = True
            host = begun.host
            if begun in self._singles:
                self._jobs.put(partial(self._cancel_one, begun, force=False))
                self._loop.call(
                    partial(
                        self._loop.at,
                        time.monotonic() + max(0.0, seconds),
                        lambda: self._jobs.put(
                            partial(self._cancel_one, begun, force=True)
                        ),
                    )
                )
                return
            if host is None:
                self._waiting.remove(begun)
                begun.is_over = True
            elif host.connection is not None:
                host.connection.send(_wire.STOP, begun.number, repr(seconds).encode())
        if begun.is_over:
            interrupted = AttemptInterrupted("stopped before it began")
            begun.attempt.end(error=interrupted)

    def end_all(self, grace: float) -> None:
        """End all calls within *grace* seconds."""
        with self._lock:
            found = [*self._waiting, *self._singles]
            found += [g for host in self._hosts.values() for g in host.given.values()]
        for given in found:
            self.stop(given, grace)

    def close(self, patience: float) -> None:
        """End all hosts, wait *patience* seconds for that; may be called again."""
        if self._is_forked():
            return
        with self._lock:
            was_closed, self._is_closed = self._is_closed, True
            threads = self._threads
        if not threads or threading.current_thread() in threads:
            return
        if not was_closed:
            self.end_all(0)
            self._loop.call(self._leave)
            self._jobs.put(self._close_engine)
        end = time.monotonic() + patience
        for thread in threads:
            thread.join(max(0.0, end - time.monotonic()))
        if any(thread.is_alive() for thread in threads):
            _log.error(
                "taskorch: hosts of %s cannot be ended in time", self._engine.name
            )

    def findings(self) -> Iterable[tuple[str, str]]:
        """What is to be said of the engine, its nodes and the hosts."""
        done: queue.SimpleQueue[Sequence[tuple[str, str]]] = queue.SimpleQueue()
        ended: Sequence[tuple[str, str]]
        ended = [("failed", "its hosts were ended with their orchestrator")]

        def ask() -> None:
            try:
                self._open()
                done.put(self._engine.findings())
            except Exception as error:  # noqa: BLE001 - it is what is to be said
                done.put([("failed", _text(error))])

        with self._lock:
            if self._is_closed or self._is_forked():
                return ended
            if not self._threads:
                self._launch()
        self._jobs.put(ask)
        found = [*_answer(done, self._threads[1], ended)]
        with self._lock:
            hosts = [host for host in self._hosts.values() if host.is_there]
            texts = [
                f"{host}: {len(host.given)} attempts, {host.place.slots} workers"
                for host in hosts
            ]
            waiting, coming = len(self._waiting), len(self._hosts) - len(hosts)
        if not self._is_open:
            return found
        found += [("ok", text) for text in texts]
        how = (
            "each attempt is a task of its own"
            if self._most == 0
            else (
                f"{len(hosts)} hosts, {coming + self._starting} are coming, "
                f"{waiting} attempts wait"
            )
        )
        return [*found, ("ok", how)]

    def where(self, begun: GivenCall) -> str:
        """Where an attempt is, or what it waits for."""
        name = self._engine.name
        with self._lock:
            host = begun.host
            if host is not None:
                ends = ", which gets nothing new, and ends soon" * host.is_leaving
                return f"It is with {host}{ends}."
            if begun in self._singles and begun.single is not None:
                return f"It is a task of {name} itself."
            is_coming = bool(self._starting or self._hosts)
        if self._shortage:
            return f"It waits for {name}: {self._shortage}."
        return f"It waits for a host of {name}" + ", which comes." * is_coming

    def _check(self) -> None:
        if self._is_forked():
            msg = (
                f"these hosts belong to process {self._owner}, of which this one is a "
                "fork; make a new orchestrator here"
            )
            raise RuntimeError(msg)
        if self._is_closed:
            msg = f"the hosts of {self._engine.name} were ended, and take no more calls"
            raise RuntimeError(msg)

    def _launch(self) -> None:
        """Under the lock: start the two threads."""
        at_fork(self)
        self._owner = os.getpid()
        name = f"taskorch-{self._engine.name.lower()}"
        threads = (
            threading.Thread(target=self._hear, name=f"{name}-hosts", daemon=True),
            threading.Thread(target=self._work, name=name, daemon=True),
        )
        for thread in threads:
            thread.start()
        self._threads = threads

    # -- giving calls to hosts -----------------------------------------------------

    def _serve(self) -> None:
        """Under the lock: give those who wait to hosts with room, or order a host."""
        waiting = self._waiting
        if not waiting:
            self._balance()
            return
        kept: list[GivenCall] = []
        tried: set[frozenset[tuple[str, int]]] = set()
        while waiting:
            given = waiting.popleft()
            kind = frozenset(given.needs.items())
            host = None if kind in tried else self._room_for(given)
            if host is None and self._is_too_large(given):
                # The engine may have what no host has reserved.
                self._singles.add(given)
                self._jobs.put(partial(self._run_one, given))
            elif host is None:
                kept.append(given)
                if not given.needs:
                    break
                tried.add(kind)
            else:
                self._give(host, given)
        waiting.extendleft(reversed(kept))
        if waiting:
            self._order()

    def _room_for(self, given: GivenCall) -> Host | None:
        best: Host | None = None
        for host in self._hosts.values():
            if not host.is_there or not _fits(given.needs, host.free):
                continue
            if best is None or _load(host) < _load(best):
                best = host
        if best is None:
            return None
        slots = best.place.slots
        if len(best.given) >= slots:
            # Ahead of its turn, where no other host would come for it.
            most = 2 * slots + _AHEAD
            can_wait = not given.needs and given.is_idempotent and self._is_full()
            if not can_wait or len(best.given) >= most:
                return None
        return best

    def _is_too_large(self, given: GivenCall) -> bool:
        """Under the lock: whether no host of ours will ever have what it asks for."""
        return self._largest is not None and not _fits(given.needs, self._largest)

    def _give(self, host: Host, given: GivenCall) -> None:
        given.host = host
        _move(given.needs, host.free, -1)
        host.given[given.number] = given
        name = given.attempt.task_id.encode()
        assert host.connection is not None  # noqa: S101 - it is there
        size = len(name).to_bytes(2)
        host.connection.send(_wire.CALL, given.number, size, name, given.call)

    def _take(self, host: Host, number: bytes) -> GivenCall | None:
        """Under the lock: *host* has a call no more."""
        given = host.given.pop(number, None)
        if given is not None:
            _move(given.needs, host.free, 1)
            given.host = None
            if not host.given:
                host.since = time.monotonic()
                self._end_if_leaving(host)
        return given

    def _end_if_leaving(self, host: Host) -> None:
        """Under the lock: a host that gets nothing new ends when it has nothing."""
        # What it keeps would go with it.
        if host.is_leaving and not host.given and host not in self._keepers.values():
            self._tell_to_leave(host)

    def _balance(self) -> None:
        """Under the lock: a host with nothing to do gets what another waits with."""
        hosts = [host for host in self._hosts.values() if host.is_there]
        if len(hosts) < 2:  # noqa: PLR2004 - there is no other
            return
        if all(len(host.given) >= host.place.slots for host in hosts):
            return
        donor = max(hosts, key=lambda host: len(host.given) - host.place.slots)
        if len(donor.given) <= donor.place.slots:
            return
        last = next(reversed(donor.given.values()))
        if not last.is_recalled and not last.needs:
            last.is_recalled = True
            assert donor.connection is not None  # noqa: S101 - it is there
            donor.connection.send(_wire.GIVE_BACK, last.number)

    def _is_full(self) -> bool:
        """Under the lock: whether no host can be started now."""
        count = len(self._hosts) + self._starting
        if self._most is not None and count >= self._most:
            return True
        return time.monotonic() < self._is_full_until

    def _order(self) -> None:
        """Under the lock: start one more host, if those who wait are more than come."""
        coming = [h.place.slots for h in self._hosts.values() if h.connection is None]
        is_short = len(self._waiting) + self._ahead() > sum(coming) + self._starting
        count = len(self._hosts) + self._starting
        if (is_short or count < self._least) and not self._is_full():
            self._starting += 1
            self._jobs.put(self._start_host)

    def _ahead(self) -> int:
        """Under the lock: how many calls hosts have that are more than their slots."""
        hosts = self._hosts.values()
        return sum(max(0, len(host.given) - host.place.slots) for host in hosts)

    # -- on the thread of the engine -----------------------------------------------

    def _work(self) -> None:
        while True:
            job = self._jobs.get()
            if job is None:
                return
            try:
                job()
            except BaseException:  # noqa: BLE001 - the next is to be done
                _log.exception("taskorch: what asks %s has failed", self._engine.name)

    def _open(self) -> None:
        """Connect to the engine, and listen for hosts."""
        if self._is_open:
            return
        self._engine.open()
        if self._most != 0:
            names = self._engine.addresses()
            is_local = all(_is_loopback(name) for name in names)
            if not is_local or self._tls is not None:
                self._seal()
            listener = socket.create_server(("127.0.0.1" if is_local else "", 0))
            listener.setblocking(False)  # noqa: FBT003 - it takes no name
            self._listener = listener
            self._loop.call(partial(self._loop.watch, listener.fileno(), self._accept))
        self._is_open = True

    def _seal(self) -> None:
        from taskorch.executors._hosts._certificate import made_certificate  # noqa: PLC0415 - for few

        with made_certificate(self._tls) as (certificate, key):
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate, key)
            self._certificate = Path(certificate).read_text()
        self._context = context

    def _start_host(self) -> None:
        host: Host | None = None
        try:
            self._open()
            with self._lock:
                # Others were ordered before it was known that there is no place.
                if self._is_closed or time.monotonic() < self._is_full_until:
                    return
                handles = [h.handle for h in self._hosts.values()]
            place = self._engine.place(handles)
            if place is None:
                self._no_place("")
                return
            self._shortage = ""
            host = Host(next(_numbers).to_bytes(_wire.NUMBER), place)
            with self._lock:
                self._hosts[host.number] = host
                largest = self._largest or {}
                for name, much in place.amounts.items():
                    largest[name] = max(much, largest.get(name, 0))
                self._largest = largest
            host.handle = self._engine.start(
                place,
                self._arguments(host),
                partial(self._engine_ended, host),
            )
        except NoPlaceError as error:
            self._no_place(str(error))
        except BaseException as error:  # noqa: BLE001 - those who wait are told
            if host is not None:
                host.is_over = True
                with self._lock:
                    self._hosts.pop(host.number, None)
            self._failed(_text(error), error, at_once=host is None)
        finally:
            with self._lock:
                self._starting -= 1
                if not self._is_closed:
                    self._serve()

    def _no_place(self, why: str) -> None:
        with self._lock:
            self._shortage = why or f"{self._engine.name} has no place for a host now"
            now = time.monotonic()
            self._is_full_until = now + _PAUSE
            if self._hosts or not self._waiting:
                self._short_since = None
                return
            since = self._short_since = self._short_since or now
        if now - since > self._patience:
            seconds = f"{now - since:.0f} s"
            text = f"{self._engine.name} has had no place for a host in {seconds}"
            text += f": {why}" if why else ""
            self._failed(text, None, at_once=True)

    def _arguments(self, host: Host) -> bytes:
        assert self._listener is not None  # noqa: S101 - it is open
        port = self._listener.getsockname()[1]
        run_id = self._run_id() if self._run_id else f"hosts-{os.getpid()}"
        return pickle.dumps(
            {
                "addresses": [(name, port) for name in self._engine.addresses()],
                "number": host.number,
                "secret": host.secret,
                "slots": host.place.slots,
                "lease": self._lease,
                "certificate": self._certificate,
                "run_id": run_id,
                "most": None if self._is_durable() else self._keeps_above,
            }
        )

    def _close_engine(self) -> None:
        if self._is_open:
            end = time.monotonic() + _PAUSE
            while self._hosts and time.monotonic() < end:
                # They end by themselves, and then the engine has nothing to kill.
                time.sleep(0.01)
            for host in list(self._hosts.values()):
                with suppress(Exception):
                    self._engine.end(host.handle)
        self._engine.close()
        self._jobs.put(None)
        self._loop.call(self._finish)

    # -- single attempts -----------------------------------------------------------

    def _run_one(self, given: GivenCall) -> None:
        done = partial(self._one_ended, given)
        if given.is_over:
            return
        try:
            self._open()
            if given.is_asked:
                done(None, AttemptInterrupted("stopped before it began"))
                return
            given.single = self._place_one(given, done)
        except BaseException as error:  # noqa: BLE001 - it is told
            now = time.monotonic()
            if isinstance(error, NoPlaceError) and now - given.since < self._patience:
                again = partial(self._jobs.put, partial(self._run_one, given))
                self._loop.call(partial(self._loop.at, now + _PAUSE, again))
                return
            with self._lock:
                self._singles.discard(given)
                given.is_over = True
            given.attempt.unstarted(self._trouble(given, _text(error), error))

    def _place_one(self, given: GivenCall, done: Callable[..., object]) -> Any:
        if time.monotonic() < self._ask_again_at:
            # It was asked for another a moment ago, which may have taken seconds.
            raise NoPlaceError(self._shortage)
        try:
            return self._engine.run_one(given.call, given.needs, done)
        except NoPlaceError as error:
            self._shortage = str(error)
            self._ask_again_at = time.monotonic() + _PAUSE / 2
            raise

    def _one_ended(
        self, given: GivenCall, value: Any, error: BaseException | None
    ) -> None:
        with self._lock:
            if given.is_over:
                return
            self._singles.discard(given)
            given.is_over = True
        if given.is_asked and (error is not None or value.raised):
            # However it was ended.
            value, error = None, AttemptInterrupted("it was cancelled")
        given.attempt.end(value, error)

    def _cancel_one(self, given: GivenCall, *, force: bool) -> None:
        if given.single is None:
            self._one_ended(given, None, AttemptInterrupted("stopped before it began"))
        elif not given.is_over:
            self._engine.cancel_one(given.single, force=force)

    # -- on the thread that hears hosts --------------------------------------------

    def _hear(self) -> None:
        loop = self._loop
        loop.open()
        loop.at(time.monotonic() + _LOOK, self._look)
        try:
            loop.run(lambda: self._is_finished)
        finally:
            loop.close()
            if self._listener is not None:
                self._listener.close()

    def _finish(self) -> None:
        for host in list(self._hosts.values()):
            self._lost(host, "the orchestrator has ended")
        # After their connections, which the loop has been asked to close.
        self._loop.call(self._finished)

    def _finished(self) -> None:
        self._is_finished = True

    def _leave(self) -> None:
        for host in list(self._hosts.values()):
            self._tell_to_leave(host)

    def _tell_to_leave(self, host: Host) -> None:
        host.is_leaving = True
        if host.connection is not None:
            host.connection.send(_wire.LEAVE, bytes(_wire.NUMBER))

    def _look(self) -> None:
        """Now and then: end hosts that are idle, and give up those that do not come."""
        now = time.monotonic()
        self._loop.at(now + _LOOK, self._look)
        late: list[Host] = []
        is_checked = now - self._checked_at < _CHECK
        with self._lock:
            there = [host for host in self._hosts.values() if host.is_there]
            spare = len(there) - self._least
            keepers = set(self._keepers.values())
            # A single attempt may wait for what a host has reserved.
            is_wanted = any(given.single is None for given in self._singles)
            idle = min(self._idle, _PAUSE) if is_wanted else self._idle
            for host in self._hosts.values():
                if host.connection is None and now - host.since > self._patience:
                    late.append(host)
                # What it keeps would go with it.
                is_idle = host.is_there and not host.given and host not in keepers
                if is_idle and now - host.since >= idle and spare > 0:
                    spare -= 1
                    self._tell_to_leave(host)
            if (self._waiting or self._ahead()) and not self._is_closed:
                self._serve()
                self._order()
            coming = [h for h in self._hosts.values() if h.connection is None]
            if (coming or self._singles) and not is_checked and self._is_open:
                self._checked_at = now
                self._jobs.put(self._engine.check)
        for host in late:
            text = f"{host} has not come within {self._patience:g} s"
            self._lost(host, text)
            self._jobs.put(partial(self._engine.end, host.handle))

    def _accept(self) -> None:
        assert self._listener is not None  # noqa: S101 - it is watched
        try:
            sock, _ = self._listener.accept()
        except OSError:
            return
        # It may take its time, and be a stranger.
        thread = threading.Thread(
            target=self._welcome, args=(sock,), name="taskorch-welcome", daemon=True
        )
        try:
            thread.start()
        except RuntimeError:
            sock.close()

    def _welcome(self, sock: socket.socket) -> None:
        try:
            seal = (
                None if self._context is None else Seal(self._context, is_server=True)
            )
            stream = Stream(sock, seal)
            number = welcome(stream, self._secret_of)
            hello = self._hello(stream)
            host = self._hosts[number]
            why = self._objection(host, hello)
            if why:
                stream.put(_wire.frame(_wire.LEAVE, why.encode()))
                msg = f"{host} was refused: {why}"
                raise ConnectionError(msg)
            begin = {**surroundings(), "main_name": None, "main_path": None}
            begin["path"] = [p for p in sys.path if p]
            stream.put(_wire.frame(_wire.BEGIN, pickle.dumps(begin)))
        except (OSError, LookupError, ValueError) as error:
            _log.warning("taskorch: a connection was refused: %s", visible(str(error)))
            sock.close()
            return
        self._loop.call(partial(self._joined, host, stream, hello))

    def _secret_of(self, number: bytes) -> bytes | None:
        host = self._hosts.get(number)
        return None if host is None else host.secret

    def _hello(self, stream: Stream) -> dict[str, Any]:
        frames = _wire.Frames()
        found: list[tuple[int, bytes]] = []
        while not found:
            found = frames.feed(stream.take(1))
            if frames.is_garbled:
                msg = "what it says of itself is no frame"
                raise ConnectionError(msg)
        hello: dict[str, Any] = json.loads(found[0][1])
        return hello

    def _objection(self, host: Host, hello: Mapping[str, Any]) -> str:
        if host.hello:
            return "this host is there already: the engine has begun it a second time"
        for what, ours in versions().items():
            theirs = hello.get(what)
            if theirs != ours:
                return (
                    f"the node {hello.get('node')} has {what} {theirs}, and the "
                    f"orchestrator {what} {ours}: install the same there"
                )
        host.hello = dict(hello)
        return ""

    def _joined(self, host: Host, stream: Stream, hello: dict[str, Any]) -> None:
        del hello
        if host.is_over or self._is_closed:
            stream.sock.close()
            return
        heard = partial(self._heard, host)
        lost = partial(self._lost, host)
        connection = Connection(self._loop, stream, heard, lost, self._lease)
        connection.open()
        with self._lock:
            self._failures = 0
            host.since = time.monotonic()
            host.connection = connection
            self._serve()

    def _heard(self, host: Host, kind: int, body: bytes) -> None:
        number, rest = body[: _wire.NUMBER], body[_wire.NUMBER :]
        given = host.given.get(number)
        if kind == _wire.LOGGED:
            handle_record(given, rest[_PID:])
        elif kind == _wire.KEPT:
            self._bring(number, rest)
        elif kind == _wire.TOLD and self._hand_on(host, rest):
            pass
        elif kind == _wire.TOLD:
            Telling(_Worker(host, rest[:_PID]), given, rest[_PID:]).begin()
        elif kind == _wire.GIVEN_BACK:
            self._given_back(host, number)
        else:
            self._ended(host, number, rest, has_begun=kind == _wire.END)

    def _given_back(self, host: Host, number: bytes) -> None:
        with self._lock:
            given = self._take(host, number)
            if given is None:
                return
            given.is_recalled = False
            given.is_over = given.is_asked
            if not given.is_over:
                self._waiting.appendleft(given)
            self._serve()
        if given.is_over:
            given.attempt.end(error=AttemptInterrupted("stopped before it began"))

    def _ended(
        self, host: Host, number: bytes, body: bytes, *, has_begun: bool
    ) -> None:
        with self._lock:
            given = self._take(host, number)
            if given is None:
                return
            given.is_over = True
            self._serve()
        given.call, given.variables = b"", None
        try:
            value, error = pickle.loads(body)  # noqa: S301 - from our own host
        except Exception as problem:  # noqa: BLE001 - whatever its unpickling does
            value, error = None, problem
        if type(value) is KeptEnd:
            value = self._kept_by(host, number, value, given.attempt.task_id)
        if has_begun:
            given.attempt.end(value, error)
        else:
            given.attempt.unstarted(error)

    # -- results that stay with their hosts ----------------------------------------

    def _kept_by(
        self, host: Host, number: bytes, end: KeptEnd, task_id: str
    ) -> RemoteValue:
        self._keepers[number] = host

        def take() -> bytes:
            found: queue.SimpleQueue[bytes] = queue.SimpleQueue()
            self._loop.call(partial(self._want, number, found.put))
            if data := _answer(found, self._threads[0], b""):
                return data
            msg = (
                f"task {task_id} has completed, and its result is lost: {host} is gone"
            )
            hint = "orch.rerun_task(id) runs it again; or let results come at once: "
            hint += "keep_mb=None"
            raise ResultGoneError(msg, hint=hint, task_id=task_id)

        value = RemoteValue(self, number, end, str(host), take)
        weakref.finalize(value, self._give_up_value, number)
        return value

    def _give_up_value(self, number: bytes) -> None:
        host = self._keepers.pop(number, None)
        if host is not None and host.connection is not None:
            host.connection.send(_wire.FORGET, number)

    def _want(self, number: bytes, taker: Callable[[bytes], object]) -> None:
        """On the loop: *taker* gets what some host keeps; nothing, if it is gone."""
        host = self._keepers.get(number)
        if host is None or host.is_over or host.connection is None:
            taker(b"")
            return
        takers = self._takers.setdefault(number, [])
        takers.append(taker)
        if len(takers) == 1:
            host.connection.send(_wire.TAKE, number)

    def _bring(self, number: bytes, data: bytes) -> None:
        for taker in self._takers.pop(number, ()):
            taker(data)

    def _hand_on(self, host: Host, told: bytes) -> bool:
        """Whether a worker asks for what another host keeps: then it will get it."""
        _, what, question, data = pickle.loads(told[_PID:])  # noqa: S301 - our own host
        if what != ASKS:
            return False
        worker = _Worker(host, told[:_PID])

        def answer(found: bytes) -> None:
            error = None
            if not found:
                error = ResultGoneError("a large result is lost: its host is gone")
            worker.send(_wire.ANSWER, pickle.dumps((question, error, found)))

        self._want(pickle.loads(data), answer)  # noqa: S301 - our own host
        return True

    # -- the end of hosts ----------------------------------------------------------

    def _engine_ended(self, host: Host, why: str, *, is_seen: bool = True) -> None:
        """On any thread: the engine says that a host has ended."""
        known = self._known_to_end if is_seen else self._unseen
        self._loop.call(partial(known, host, why))

    def _known_to_end(self, host: Host, why: str) -> None:
        if host.is_over:
            return
        if host.connection is None:
            self._lost(host, why)
        else:
            self._lost(host, f"{self._engine.name} says: {why}")

    def _unseen(self, host: Host, why: str) -> None:
        """The engine sees a host no more: what it has may end, until it ends itself."""
        if host.is_over or host.is_leaving:
            return
        if host.connection is None:
            # It will not come; and nobody has it to blame.
            host.is_over = True
            with self._lock:
                self._hosts.pop(host.number, None)
            return
        _log.warning("taskorch: %s gets nothing new: %s", host, visible(why))
        with self._lock:
            host.is_leaving = True
            self._end_if_leaving(host)

    def _lost(self, host: Host, why: str) -> None:
        """A host has gone, and all that it had."""
        if host.is_over:
            return
        host.is_over = True
        with self._lock:
            self._hosts.pop(host.number, None)
            lost = list(host.given.values())
            kept = [n for n, keeper in self._keepers.items() if keeper is host]
            for given in lost:
                given.is_over, given.host = True, None
        if host.connection is None:
            if not self._is_closed:
                self._failed(why, None)
        else:
            host.connection.close()
            if lost or not host.is_leaving:
                _log.warning("taskorch: %s is lost: %s", host, visible(why))
                self._jobs.put(partial(self._engine.abandon, host.handle))
        for number in kept:
            self._bring(number, b"")
        for given in lost:
            error: BaseException = BrokenExecutor(
                f"the {host} of task {given.attempt.task_id} is lost: {why}"
            )
            if given.is_asked:
                error = AttemptInterrupted(f"its host is lost: {why}")
            given.attempt.end(error=error)
        with self._lock:
            if not self._is_closed:
                self._serve()

    def _failed(
        self, why: str, error: BaseException | None, *, at_once: bool = False
    ) -> None:
        """A host could not be started: too often, and those who wait are told."""
        _log.warning(
            "taskorch: a host of %s failed: %s", self._engine.name, visible(why)
        )
        with self._lock:
            self._failures += 1
            self._is_full_until = time.monotonic() + _PAUSE
            others = any(host.is_there for host in self._hosts.values())
            if others or (self._failures < _MOST_FAILURES and not at_once):
                return
            self._failures = 0
            waiting, self._waiting = list(self._waiting), deque()
            for given in waiting:
                given.is_over = True
        for given in waiting:
            given.attempt.unstarted(self._trouble(given, why, error))

    def _trouble(
        self, given: GivenCall, why: str, error: BaseException | None
    ) -> BaseException:
        task_id = given.attempt.task_id
        hint = error.hint if isinstance(error, TaskorchError) else ""
        failed = TaskFailedError(
            f"task {task_id} could not begin on {self._engine.name}: {why}",
            type="BrokenExecutor" if error is None else type(error).__name__,
            hint=hint
            or "orch.doctor() says what the engine and its nodes are; where "
            "no node can reach this machine, hosts=(0, 0) makes each attempt a task of "
            "the engine",
            task_id=task_id,
        )
        failed.__cause__ = error
        return failed

    # -- forked --------------------------------------------------------------------

    def _is_forked(self) -> bool:
        return self._owner is not None and os.getpid() != self._owner

    def disown(self) -> None:
        """In a forked child: close what would keep the connections of the parent."""
        if self._listener is not None:
            self._listener.close()
        for host in list(self._hosts.values()):
            if host.connection is not None:
                host.connection.disown()


class _Worker:
    """A worker of a host, for what one of its tasks has asked."""

    def __init__(self, host: Host, pid: bytes) -> None:
        self._host = host
        self._pid = pid

    def send(self, kind: int, *body: bytes) -> None:
        if self._host.connection is not None:
            self._host.connection.send(kind, self._pid, *body)


def _needs(attempt: Attempt) -> Mapping[str, int]:
    resources = attempt.task.resources
    if resources.is_elastic:
        return dict(attempt.told("allocation", None))
    return dict(resources.units)


def _fits(needs: Mapping[str, int], free: Mapping[str, int]) -> bool:
    return all(
        amount <= free.get(name, amount if name in _ANYWHERE else 0)
        for name, amount in needs.items()
    )


def _text(error: BaseException) -> str:
    """What *error* says, without its hint."""
    kind, message = said(error)
    if isinstance(error, TaskorchError):
        return error.message
    if isinstance(error, NoPlaceError):
        return message
    return f"{kind}: {message}".removesuffix(": ")


def _answer(found: queue.SimpleQueue[T], thread: threading.Thread, nothing: T) -> T:
    """What *thread* puts into *found*; *nothing* if it has ended."""
    while True:
        try:
            return found.get(timeout=_LOOK)
        except queue.Empty:
            if not thread.is_alive():
                return nothing


def _move(needs: Mapping[str, int], free: dict[str, int], sign: int) -> None:
    for name, amount in needs.items():
        if name in free:
            free[name] += sign * amount


def _load(host: Host) -> float:
    return len(host.given) / host.place.slots


def _is_loopback(name: str) -> bool:
    return name == "localhost" or name.startswith("127.")
