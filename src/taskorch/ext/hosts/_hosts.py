"""
Attempts that are calls in worker processes of hosts, which an engine places.

Decision: hosts-on-engines.
"""

from __future__ import annotations

import itertools
import os
import pickle
import queue
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import BrokenExecutor
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from taskorch.core.executors import wire
from taskorch.core.executors._futures import OwnedExecutor
from taskorch.core.executors._processes._telling import Telling, handle_record
from taskorch.core.executors.link import Link
from taskorch.core.executors.remote import pickled, unsendable
from taskorch.errors import AttemptInterrupted, InvalidTaskError
from taskorch.ext.hosts._door import HostDoor
from taskorch.ext.hosts._engine import KeptEnd, NoPlaceError, sending
from taskorch.ext.hosts._given import (
    GivenCall,
    RemoteHost,
    Singles,
    fits,
    text_of,
)
from taskorch.ext.hosts._references import References
from taskorch.kit.ends import until_kill
from taskorch.kit.fence import is_values, log_of
from taskorch.kit.loop import Loop
from taskorch.kit.processes import at_fork
from taskorch.kit.visible import counted, visible
from taskorch.protocols import Attempt

if TYPE_CHECKING:
    from taskorch.ext.hosts._engine import Engine

_log = log_of(__name__)

_numbers = itertools.count(1)
#: The failed starts of hosts in a row before waiting calls fail.
_MOST_FAILURES: Final = 3
#: Seconds between two looks at hosts that are idle, or do not come.
_LOOK: Final = 0.5
#: Seconds between two looks at calls that the engine has not begun.
_CHECK: Final = 2.0
#: Seconds after which an engine that has failed is asked again.
_PAUSE: Final = 1.0
#: Calls that a host has beyond those for its processes, so that these need not wait.
_AHEAD: Final = 8


class Hosts(OwnedExecutor[GivenCall]):
    """
    Makes calls in the processes of hosts, which an engine starts on its nodes.

    Nothing is begun before the first call. The engine is asked on one thread, and
    frames of hosts are heard on another.

    Args:
        engine: The engine that starts hosts.
        hosts: The least and the largest number; None: as many as there is room for.
            (0, 0): none, and each attempt is a task of the engine.
        idle: Seconds after which a host that has nothing to do is ended.
        lease: Seconds of silence after which a host is lost.
        patience: Seconds in which a host must come.
        tls: The files of a certificate and its key. None: they are made, where hosts
            are not on this machine.
        keeps_above: Bytes above which the engine keeps a result; None: it keeps none.
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
        self._least, self._most = hosts
        self._idle, self._lease, self._patience = idle, lease, patience
        self._run_id: Callable[[], str] | None = None
        # Guards the next attributes; never held while other code is called.
        self._lock = threading.Lock()
        self._waiting: deque[GivenCall] = deque()
        self._hosts: dict[bytes, RemoteHost] = {}
        #: Hosts for which the engine has reserved a place; used on its thread.
        self._placed: set[RemoteHost] = set()
        self._is_closed = False
        #: Jobs for the thread of the engine.
        self._jobs: queue.SimpleQueue[Callable[[], object] | None] = queue.SimpleQueue()
        self._starting = 0
        self._is_full_until = 0.0
        self._failures = 0
        self._short_since: float | None = None
        #: The reason why the engine had no place, at the last try.
        self._shortage = ""
        #: The most of each amount that a host had; None before there was one.
        self._largest: dict[str, int] | None = None
        self._owner: int | None = None
        self._threads: tuple[threading.Thread, ...] = ()
        self._loop = loop = Loop()
        ask = self._jobs.put
        self._door = HostDoor(loop, self._hosts, self._joined, tls)
        self._singles = Singles(engine, ask, loop, self._open, patience)
        self._references = References(engine, ask, loop, self._ended)
        self._is_open = False
        self._is_finished = False
        #: When the engine last checked its hosts, by the monotonic clock.
        self._checked_at = 0.0

    def bind(
        self,
        run_id: Callable[[], str],
        cores: Callable[[], int],
        is_durable: Callable[[], bool],
    ) -> None:
        """Bind the hosts to one orchestrator; *is_durable*: it keeps results itself."""
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
            RuntimeError: The executor takes no more calls.
        """
        portable = attempt.portable()
        fetch = self._references.fetch if self._most != 0 else None
        try:
            with sending(fetch) as sent:
                data = pickled(portable, wire.MOST_BYTES, elsewhere=True)
        except Exception as error:
            raise unsendable(error, attempt.task_id, self._engine.name) from error
        number = next(_numbers).to_bytes(wire.NUMBER)
        call = GivenCall(attempt, number, data, sent)
        with self._lock:
            self._check()
            if not self._threads:
                self._launch()
            if self._most == 0:
                self._singles.begin(call)
            else:
                self._waiting.append(call)
                self._serve()
        return call

    def stop(self, begun: GivenCall, grace: float) -> None:
        """Tell the call to end; if it does not, kill its process."""
        seconds = until_kill(grace)
        with self._lock:
            if begun.is_over or self._is_forked():
                return
            begun.is_asked = True
            if self._singles.stop(begun, seconds):
                return
            if begun.host is None:
                self._waiting.remove(begun)
                begun.is_over = True
            else:
                begun.host.send(wire.STOP, begun.number, repr(seconds).encode())
        if begun.is_over:
            interrupted = AttemptInterrupted("stopped before it began")
            begun.attempt.end(error=interrupted)

    def end_all(self, grace: float) -> None:
        """End all calls within *grace* seconds."""
        with self._lock:
            calls = [*self._waiting, *self._singles.calls()]
            calls += [g for host in self._hosts.values() for g in host.given.values()]
        for call in calls:
            self.stop(call, grace)

    def close(self, patience: float) -> None:
        """End all hosts, wait up to *patience* seconds; may be called again."""
        if self._is_forked():
            return
        with self._lock:
            was_closed, self._is_closed = self._is_closed, True
            threads = self._threads
        if not threads or threading.current_thread() in threads:
            return
        if not was_closed:
            self.end_all(0)
            self._references.close()
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
        """Return findings on the engine, its nodes and the hosts."""
        done: queue.SimpleQueue[Sequence[tuple[str, str]]] = queue.SimpleQueue()
        ended: Sequence[tuple[str, str]]
        ended = [("failed", "its hosts were ended with their orchestrator")]

        def ask() -> None:
            try:
                self._open()
                done.put(self._engine.findings())
            except Exception as error:  # noqa: BLE001 - it is a finding
                done.put([("failed", text_of(error))])

        with self._lock:
            if self._is_closed or self._is_forked():
                return ended
            if not self._threads:
                self._launch()
        self._jobs.put(ask)
        findings: list[tuple[str, str]] = []
        while not findings:
            try:
                findings += done.get(timeout=_LOOK)
            except queue.Empty:
                if not self._threads[1].is_alive():
                    return ended
        with self._lock:
            hosts = [host for host in self._hosts.values() if host.is_there]
            texts = [
                f"{host}: {counted(len(host.given), 'attempt')}, "
                f"{counted(host.place.slots, 'worker')}"
                for host in hosts
            ]
            waiting, coming = len(self._waiting), len(self._hosts) - len(hosts)
        if not self._is_open:
            return findings
        findings += [("ok", text) for text in texts]
        how = (
            "each attempt is a task of its own"
            if self._most == 0
            else (
                f"{len(hosts)} hosts, {coming + self._starting} are coming, "
                f"{waiting} attempts wait"
            )
        )
        if self._keeps_above is not None and self._is_durable():
            how += "; keep_mb does nothing here: the journal has all results"
        return [*findings, ("ok", how)]

    def where(self, begun: GivenCall) -> str:
        """Return where an attempt is, or what it waits for."""
        name = self._engine.name
        with self._lock:
            host = begun.host
            if host is not None:
                ends = ", which gets nothing new, and ends soon" * host.is_leaving
                return f"It is with {host}{ends}."
            if begun.single is not None:
                return f"It is a task of {name} itself."
            is_coming = bool(self._starting or self._hosts)
        is_single = begun in self._singles.calls()
        shortage = self._singles.shortage if is_single else self._shortage
        if shortage:
            return f"It waits for {name}: {shortage}."
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
        """Start the two threads; hold the lock."""
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
        """Give waiting calls to hosts with room, or order a host; hold the lock."""
        waiting = self._waiting
        if not waiting:
            self._balance()
            if self._count_waiting():
                self._order()
            return
        kept: list[GivenCall] = []
        tried: set[frozenset[tuple[str, int]]] = set()
        while waiting:
            call = waiting.popleft()
            kind = frozenset(call.needs.items())
            host = None if kind in tried else self._room_for(call)
            if host is None and self._is_too_large(call):
                # The engine may have resources that no host has reserved.
                self._singles.begin(call)
            elif host is None:
                kept.append(call)
                if not call.needs:
                    break
                tried.add(kind)
            else:
                host.give(call)
        waiting.extendleft(reversed(kept))
        if waiting:
            self._order()

    def _room_for(self, call: GivenCall) -> RemoteHost | None:
        best: RemoteHost | None = None
        for host in self._hosts.values():
            if not host.is_there or not fits(call.needs, host.free):
                continue
            if best is None or host.load < best.load:
                best = host
        if best is None:
            return None
        slots = best.place.slots
        if len(best.given) >= slots:
            # It goes to that host ahead of its turn, if no other host would come for
            # it.
            most = 2 * slots + _AHEAD
            can_wait = not call.needs and call.is_idempotent and self._is_full()
            if not can_wait or len(best.given) >= most:
                return None
        return best

    def _is_too_large(self, call: GivenCall) -> bool:
        """Return whether no host will ever have what it needs; hold the lock."""
        return self._largest is not None and not fits(call.needs, self._largest)

    def _end_if_leaving(self, host: RemoteHost) -> None:
        """End a host that gets no new call and has none left; hold the lock."""
        if host.is_leaving and not host.given:
            self._tell_to_leave(host)

    def _balance(self) -> None:
        """Give an idle host calls that wait at another; hold the lock."""
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
            donor.send(wire.GIVE_BACK, last.number)

    def _is_full(self) -> bool:
        """Return whether no host can be started now; hold the lock."""
        count = len(self._hosts) + self._starting
        if self._most is not None and count >= self._most:
            return True
        return time.monotonic() < self._is_full_until

    def _count_waiting(self) -> int:
        """Count the calls that wait, here or at their host; hold the lock."""
        present = [host for host in self._hosts.values() if host.is_there]
        ahead = (max(0, len(host.given) - host.place.slots) for host in present)
        return len(self._waiting) + sum(ahead)

    def _order(self) -> None:
        """Start one more host, if more calls wait than are served; hold the lock."""
        coming = [h.place.slots for h in self._hosts.values() if h.link is None]
        is_short = self._count_waiting() > sum(coming) + self._starting
        count = len(self._hosts) + self._starting
        if (is_short or count < self._least) and not self._is_full():
            self._starting += 1
            self._jobs.put(self._start_host)

    # -- on the thread of the engine -----------------------------------------------

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            self._do(job)
            # It may hold the result of the last call while there is nothing to do.
            del job

    def _do(self, job: Callable[[], object]) -> None:
        try:
            job()
        except BaseException:  # noqa: BLE001 - the next job is to be done
            _log.exception("taskorch: what asks %s has failed", self._engine.name)

    def _open(self) -> None:
        """Connect to the engine."""
        if self._is_open:
            return
        self._engine.open()
        self._is_open = True

    def _start_host(self) -> None:
        host: RemoteHost | None = None
        try:
            self._open()
            with self._lock:
                # Other hosts were ordered before it was known that there is no place.
                if self._is_closed or time.monotonic() < self._is_full_until:
                    return
                handles = [h.handle for h in self._hosts.values()]
            place = self._engine.place(handles)
            # Another node may have come, which knows this machine by another name.
            self._door.open(self._engine.addresses())
            self._shortage = ""
            host = RemoteHost(next(_numbers).to_bytes(wire.NUMBER), place)
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
            self._placed.add(host)
        except NoPlaceError as error:
            self._no_place(str(error))
        except BaseException as error:  # noqa: BLE001 - waiting calls are told
            if host is not None:
                host.is_over = True
                with self._lock:
                    self._hosts.pop(host.number, None)
            self._failed(text_of(error), error, at_once=host is None)
        finally:
            with self._lock:
                self._starting -= 1
                if not self._is_closed:
                    self._serve()

    def _no_place(self, why: str) -> None:
        with self._lock:
            self._shortage = why
            now = time.monotonic()
            # The resources of a lost host are free a moment later.
            self._is_full_until = now + _LOOK / 2
            if self._hosts or not self._waiting:
                self._short_since = None
                return
            since = self._short_since = self._short_since or now
        if now - since > self._patience:
            seconds = f"{now - since:.0f} s"
            name = self._engine.name
            text = f"{name} has had no place for a host in {seconds}: {why}"
            self._failed(text, None, at_once=True)

    def _arguments(self, host: RemoteHost) -> bytes:
        run_id = self._run_id() if self._run_id else f"hosts-{os.getpid()}"
        return pickle.dumps(
            {
                "addresses": self._door.addresses,
                "number": host.number,
                "secret": host.secret,
                "slots": host.place.slots,
                "lease": self._lease,
                "certificate": self._door.certificate,
                "run_id": run_id,
                "most": None if self._is_durable() else self._keeps_above,
            }
        )

    def _close_engine(self) -> None:
        if self._is_open:
            end = time.monotonic() + _PAUSE
            # They end by themselves, and then the engine has nothing to kill.
            while self._placed and (seconds_left := end - time.monotonic()) > 0:
                with suppress(queue.Empty):
                    if job := self._jobs.get(timeout=seconds_left):
                        self._do(job)
            for host in list(self._placed):
                self._do(partial(self._end, host))
        self._engine.close()
        self._jobs.put(None)
        self._loop.call(self._finish)

    def _end(self, host: RemoteHost) -> None:
        """Free the place that a host has reserved."""
        self._placed.discard(host)
        self._engine.end(host.handle)

    # -- on the thread that hears hosts --------------------------------------------

    def _hear(self) -> None:
        loop = self._loop
        loop.open()
        loop.at(time.monotonic() + _LOOK, self._look)
        try:
            loop.run(lambda: self._is_finished)
        finally:
            loop.close()
            self._door.close()

    def _finish(self) -> None:
        for host in list(self._hosts.values()):
            self._lost(host, "the orchestrator has ended")
        self._is_finished = True

    def _leave(self) -> None:
        for host in list(self._hosts.values()):
            self._tell_to_leave(host)

    def _tell_to_leave(self, host: RemoteHost) -> None:
        host.is_leaving = True
        host.send(wire.LEAVE, wire.NOBODY)

    def _look(self) -> None:
        """End hosts that are idle, and give up those that do not come."""
        now = time.monotonic()
        self._loop.at(now + _LOOK, self._look)
        late: list[RemoteHost] = []
        is_checked = now - self._checked_at < _CHECK
        with self._lock:
            present = [host for host in self._hosts.values() if host.is_there]
            spare = len(present) - self._least
            # Single attempts may wait for resources that idle hosts have reserved.
            idle = min(self._idle, _CHECK) if self._singles.calls() else self._idle
            for host in self._hosts.values():
                if host.link is None and now - host.since > self._patience:
                    late.append(host)
                is_idle = host.is_there and not host.given
                if is_idle and now - host.since >= idle and spare > 0:
                    spare -= 1
                    self._tell_to_leave(host)
            if not self._is_closed:
                self._serve()
            coming = [h for h in self._hosts.values() if h.link is None]
            if (coming or self._singles.calls()) and not is_checked and self._is_open:
                self._checked_at = now
                self._jobs.put(self._engine.check)
        for host in late:
            text = f"{host} has not come within {self._patience:g} s"
            self._lost(host, text)
            self._jobs.put(partial(self._end, host))

    def _joined(self, host: RemoteHost, sock: socket.socket) -> None:
        if host.is_over or self._is_closed:
            sock.close()
            return
        heard = partial(self._heard, host)
        lost = partial(self._lost, host)
        link = Link(self._loop, sock, host.given, heard, lost, self._lease)
        link.open()
        with self._lock:
            self._failures = 0
            host.since = time.monotonic()
            host.link = link
            self._serve()

    def _heard(self, host: RemoteHost, kind: int, number: bytes, rest: bytes) -> None:
        call = host.given.get(number)
        assert host.link is not None  # noqa: S101 - it was heard
        if kind == wire.LOGGED:
            handle_record(call, rest[wire.PID :])
        elif kind == wire.TOLD:
            pid, message = rest[: wire.PID], rest[wire.PID :]
            if not self._references.answer(host, call, int.from_bytes(pid), message):
                Telling(_HostWorker(host, pid), call, number, message).begin()
        elif kind == wire.GIVEN_BACK:
            self._given_back(host, number)
        elif kind in {wire.END, wire.UNSTARTED}:
            self._hear_end(host, number, rest, has_begun=kind == wire.END)
        else:
            host.link.refuse()

    def _given_back(self, host: RemoteHost, number: bytes) -> None:
        with self._lock:
            call = host.take(number)
            if call is None:
                return
            self._end_if_leaving(host)
            call.is_recalled = False
            call.is_over = call.is_asked
            if not call.is_over:
                self._waiting.appendleft(call)
            self._serve()
        if call.is_over:
            call.attempt.end(error=AttemptInterrupted("stopped before it began"))

    def _hear_end(
        self, host: RemoteHost, number: bytes, body: bytes, *, has_begun: bool
    ) -> None:
        try:
            value, error = pickle.loads(body)  # noqa: S301 - from our own host
        except BaseException as problem:
            # To unpickle the value may raise anything.
            if not is_values(problem):
                raise
            value, error = None, problem
        call = host.given.get(number)
        if type(value) is KeptEnd and call is not None:
            self._references.keep(host, call, value)
        else:
            self._ended(host, number, value, error, has_begun=has_begun)

    def _ended(
        self,
        host: RemoteHost,
        number: bytes,
        value: Any,
        error: Any = None,
        *,
        has_begun: bool = True,
    ) -> None:
        with self._lock:
            call = host.take(number)
            if call is None:
                return
            self._end_if_leaving(host)
            call.is_over = True
            self._serve()
        call.call, call.sent, call.variables = b"", (), None
        if has_begun:
            call.attempt.end(value, call.gone or error)
        else:
            call.attempt.unstarted(error)

    # -- the end of hosts ----------------------------------------------------------

    def _engine_ended(
        self, host: RemoteHost, why: str, *, is_seen: bool = True
    ) -> None:
        """Note that the engine says a host has ended; on any thread."""
        hear = self._has_ended if is_seen else self._unseen
        self._loop.call(partial(hear, host, why))

    def _has_ended(self, host: RemoteHost, why: str) -> None:
        """Note that the task or actor of a host has ended."""
        self._jobs.put(partial(self._end, host))
        if host.is_over:
            return
        if host.link is None:
            self._lost(host, why)
        else:
            self._lost(host, f"{self._engine.name} says: {why}")

    def _unseen(self, host: RemoteHost, why: str) -> None:
        """Let the calls of a host end that the engine cannot see any more."""
        if host.is_over or host.is_leaving:
            return
        if host.link is None:
            # It will not come, and no call is to blame for it.
            host.is_over = True
            with self._lock:
                self._hosts.pop(host.number, None)
            return
        _log.warning("taskorch: %s gets nothing new: %s", host, visible(why))
        with self._lock:
            host.is_leaving = True
            self._end_if_leaving(host)

    def _lost(self, host: RemoteHost, why: str) -> None:
        """Note that a host has gone, with all its calls."""
        if host.is_over:
            return
        host.is_over = True
        with self._lock:
            self._hosts.pop(host.number, None)
            lost = list(host.given.values())
            for call in lost:
                call.is_over, call.host, call.sent = True, None, ()
        if host.link is None:
            if not self._is_closed:
                self._failed(why, None)
        else:
            host.link.close()
            if lost or not host.is_leaving:
                _log.warning("taskorch: %s is lost: %s", host, visible(why))
                self._jobs.put(partial(self._engine.abandon, host.handle))
        for call in lost:
            error: BaseException = BrokenExecutor(
                f"the {host} of task {call.attempt.task_id} is lost: {why}"
            )
            if call.is_asked:
                error = AttemptInterrupted(f"its host is lost: {why}")
            call.attempt.end(error=error)
        with self._lock:
            if not self._is_closed:
                self._serve()

    def _failed(
        self, why: str, error: BaseException | None, *, at_once: bool = False
    ) -> None:
        """Note that a host could not be started; after some, fail waiting calls."""
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
            for call in waiting:
                call.is_over = True
        for call in waiting:
            call.attempt.unstarted(call.trouble(self._engine.name, why, error))

    # -- forked --------------------------------------------------------------------

    def _is_forked(self) -> bool:
        return self._owner is not None and os.getpid() != self._owner

    def disown(self) -> None:
        """Close copies of the parent's connections, in a forked child."""
        self._door.close()
        for host in list(self._hosts.values()):
            if host.link is not None:
                host.link.disown()


class _HostWorker:
    """A process of a host, to answer a question of its task."""

    def __init__(self, host: RemoteHost, pid: bytes) -> None:
        self._host = host
        self._pid = pid

    def send(self, kind: int, number: bytes, *body: bytes) -> None:
        self._host.send(kind, number, self._pid, *body)
