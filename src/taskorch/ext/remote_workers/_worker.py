"""
A worker: it asks for work, renews its leases, and tells how attempts have ended.

Three threads speak with the service, each on a connection of its own: one asks for
work, one sends heartbeats, one reports ends. Messages may be lost or come twice, and
are repeated until there is an answer. A worker that is not heard for its lease ends its
programs: by then others are given their work.

Decision: workers-elsewhere.
"""

from __future__ import annotations

import json
import secrets
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from contextlib import suppress
from random import Random
from time import monotonic
from typing import Any, Final

from taskorch.core.engine import machine_resources, with_gpus_found
from taskorch.errors import InvalidTaskError
from taskorch.ext.remote_workers._line import Line, Refusal, ServiceAddress, Unreachable
from taskorch.ext.remote_workers._runs import (
    MAX_RESULT,
    Abilities,
    OrderRunner,
    WorkerRun,
)
from taskorch.kit.backoff import Backoff
from taskorch.kit.fence import log_of
from taskorch.kit.lease import Lease
from taskorch.kit.machine import host, machine_labels
from taskorch.kit.visible import counted, visible
from taskorch.model import Resources

_LOG: Final = log_of("taskorch.agent")
_PROTOCOL: Final = 1
#: The pauses between two tries, random so that many workers do not return at once.
_PAUSES: Final = Backoff(0.1, 2.0, jitter=0.5)
#: The seconds that an answer may take, beside those that it is asked to wait.
_PATIENCE: Final = 10.0
#: The seconds between two checks whether to end, and whether the system has room for
#: waiting attempts.
_LOOK: Final = 0.5
#: The number of begun attempts that it keeps in memory.
_SEEN: Final = 10_000
#: The number of characters of an error in the log.
_MAX_SHOWN: Final = 200
#: The seconds in which it tries to say goodbye.
_GOODBYE: Final = 3.0
#: The HTTP status of a refused file for which the service has no place.
_CONFLICT: Final = 409
#: After so many refused files of an attempt, no more are sent.
_MOST_REFUSED: Final = 100
#: The codes of a service that does not know the worker.
_UNKNOWN: Final = ("unknown_agent", "not_your_session")


class Agent:
    """
    One worker of a service.

    Args:
        name: Its name, such as `agent_001`: no other has it at the same time.
        url: Where the service is, such as `http://127.0.0.1:8080`.
        token: The token that the service asks for.
        abilities: Its abilities.
        at_once: Attempts at once.
        lease: Seconds without a heartbeat after which the service gives its work to
            others; None: as the service says.
        drain: Seconds that what runs has to end by itself when the worker is to end.
        grace: Seconds that a program has from SIGTERM to SIGKILL.
        capacity: Its resources, instead of those of its machine, or besides.

    Raises:
        InvalidTaskError: *url* is no address, or the capacity is malformed.
    """

    def __init__(
        self,
        name: str,
        url: str,
        *,
        token: str | None = None,
        abilities: Abilities | None = None,
        at_once: int = 1,
        lease: float | None = None,
        drain: float = 0.0,
        grace: float = 5.0,
        capacity: Mapping[str, Any] | None = None,
    ) -> None:
        own = with_gpus_found({} if capacity is None else capacity)
        has = Resources.of(own, "capacity", named=True)
        #: A copy of the arguments, so that each hello is the same.
        self._capacity = {
            **_document(machine_resources()),
            **_document(has),
            **dict.fromkeys(has.zeros, 0.0),
        }
        #: The labels; None: the service does not support them.
        self._labels: list[str] | None = [*machine_labels()]
        #: The name of its machine; "": the service does not take it.
        self._host: str = host()
        session = secrets.token_urlsafe(32)
        self.name = name
        self._address = ServiceAddress(url, name, session, token)
        self._abilities = Abilities() if abilities is None else abilities
        self._at_once = at_once
        #: The lease in seconds; None: the service decides.
        self._asked_lease = lease
        self._lease = Lease(15.0 if lease is None else lease, monotonic())
        self._drain = drain
        self._grace = grace
        self._runner = OrderRunner(
            self._abilities, at_once, f"agent-{secrets.token_hex(8)}", self._ended
        )
        self._random = Random()  # noqa: S311 - nobody guards a pause
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        #: All attempts whose end it has not reported yet.
        self._runs: dict[str, WorkerRun] = {}
        self._seen: OrderedDict[str, None] = OrderedDict()
        self._unbegun: list[str] = []
        #: The ends that it has still to report.
        self._ends: list[tuple[WorkerRun, dict[str, Any]]] = []
        #: Set while the service knows it.
        self._is_known = False
        self._takes_files = False
        #: Whether the service asks for the round trip; and the latest one, in seconds.
        self._asks_round_trip = False
        self._round_trip: float | None = None
        self._is_to_end = threading.Event()
        self._is_to_end_now = threading.Event()
        self._has_ended = threading.Event()
        self._fault: InvalidTaskError | None = None
        self._said_last = ""

    # -- its life ------------------------------------------------------------------

    def run(self) -> None:
        """
        Work until `stop` is called.

        Raises:
            InvalidTaskError: The service will never take it: the token is wrong, or its
                description makes no sense.
        """
        _LOG.info("%s: begins, for %s", self.name, self._address.url)
        lines = [Line(self._address) for _ in range(3)]
        threads = [
            threading.Thread(
                target=self._speak, args=(say, line), name="taskorch-agent", daemon=True
            )
            for say, line in zip(
                (self._ask, self._beat, self._tell_ends), lines, strict=True
            )
        ]
        for thread in threads:
            thread.start()
        try:
            while not self._is_to_end.wait(_LOOK):
                # A signal that another thread has got is handled when this one runs;
                # and there may be room by now.
                self._runner.begin_waiting()
            if self._fault is None:
                self._finish()
        finally:
            self._has_ended.set()
            with self._lock:
                self._changed.notify_all()
            self._runner.close()
            for line, thread in zip(lines, threads, strict=True):
                # Nobody wants the answer to its request any more.
                line.cut()
                thread.join(_GOODBYE)
        if self._fault is not None:
            raise self._fault
        self._leave()
        _LOG.info("%s: has ended", self.name)

    def _speak(self, say: Callable[[Line], None], line: Line) -> None:
        """Call *say* on a thread of its own, and again after a fault."""
        try:
            while not self._has_ended.is_set():
                try:
                    say(line)
                except Exception:  # noqa: BLE001 - logged, and tried again
                    # No other thread does this work, so that it must go on.
                    _LOG.exception("%s: a fault, after which it goes on", self.name)
                    self._has_ended.wait(_PAUSES.longest)
                else:
                    break
        finally:
            line.close()

    def stop(self) -> None:
        """
        Stop the worker; for any thread, or a signal handler.

        What runs has the time of `drain`, and is ended then; so it is at once if this
        is called again.
        """
        if self._is_to_end.is_set():
            self._is_to_end_now.set()
        self._is_to_end.set()

    def _finish(self) -> None:
        """Let attempts end or stop them, and report all ends."""
        count = len(self._runs)
        state = f"{counted(count, 'attempt')} under way" if count else "idle"
        _LOG.info("%s: ends, %s", self.name, state)
        end = monotonic() + self._drain
        while self._runs and monotonic() < end and not self._is_to_end_now.is_set():
            self._is_to_end_now.wait(min(0.05, self._drain))
            self._runner.begin_waiting()
        with self._lock:
            unended = self._under_way()
            for run in unended:
                # The attempt is given back, and made elsewhere.
                run.is_dropped = True
        for run in unended:
            self._runner.stop(run, self._grace)
        end = monotonic() + self._grace + _GOODBYE
        with self._changed:
            while monotonic() < end and any(
                run.process is not None or not run.is_dropped
                for run in self._runs.values()
            ):
                self._changed.wait(0.1)

    def _leave(self) -> None:
        end = monotonic() + _GOODBYE
        line = Line(self._address)
        while monotonic() < end:
            try:
                with suppress(Refusal):
                    line.say("leave", {"unbegun": self._unbegun}, _GOODBYE)
                break
            except Unreachable:
                threading.Event().wait(_PAUSES.first)
        line.close()

    # -- asking for work -----------------------------------------------------------

    def _ask(self, line: Line) -> None:
        pauses = _PAUSES.pauses(self._random)
        while not self._is_to_end.is_set():
            try:
                if not self._is_known:
                    self._say_hello(line)
                    self._await_telling()
                self._claim(line)
            except Unreachable as error:
                self._note(f"waits for {self._address.url}: {error}")
            except Refusal as error:
                if error.code in _UNKNOWN and self._is_known:
                    # The service was started anew, or has given us up.
                    self._is_known = False
                    self._note(f"is not known any more: {error}")
                    continue
                why = "it takes no workers" if error.code == "unknown_path" else error
                self._note(f"is not taken by {self._address.url}: {why}")
                if self._is_final(error):
                    self._give_up(error)
                    return
            else:
                pauses = _PAUSES.pauses(self._random)
                continue
            self._is_to_end.wait(next(pauses))

    def _say_hello(self, line: Line) -> None:
        sent = monotonic()
        hello = {
            "protocol": _PROTOCOL,
            "session": self._address.session,
            "capabilities": self._abilities.capabilities(),
            "max_concurrency": self._at_once,
            "capacity": self._capacity,
        }
        if self._asked_lease is not None:
            hello["lease"] = self._asked_lease
        if self._labels is not None:
            hello["labels"] = self._labels
        if self._host:
            hello["host"] = self._host
        try:
            welcome = line.say("hello", hello, _PATIENCE)
        except Refusal as error:
            if not error.is_of_content or self._labels is None:
                raise
            # A service of an earlier version knows no machines, or no labels either;
            # another cause comes back as an error.
            refused = "machine" if self._host else "labels"
            if self._host:
                self._host = ""
            else:
                self._labels = None
            self._say_hello(line)
            _LOG.warning("%s: the service does not take its %s", self.name, refused)
            return
        self._lease.length = float(welcome["lease"])
        self._takes_files = bool(welcome["artifacts"])
        self._asks_round_trip = bool(welcome.get("round_trip"))
        self._lease.renew(sent)
        self._is_known = True
        self._note(f"is taken by {self._address.url}")

    def _await_telling(self) -> None:
        """Wait until earlier results are reported: the next work may be the same."""
        with self._changed:
            self._changed.notify_all()
            self._changed.wait_for(lambda: not self._ends, _PATIENCE)

    def _claim(self, line: Line) -> None:
        with self._lock:
            running = self._names()
        wait = self._lease.length / 3
        sent = monotonic()
        # The service counts them, so that there are never more than it accepts.
        message = {"running": running, "most": self._at_once, "wait": wait}
        self._hear(line.say("claim", message, wait + _PATIENCE), sent)

    def _names(self) -> list[str]:
        """Return the attempts that the service may know of, under the lock."""
        return [name for name, run in self._runs.items() if not run.is_dropped]

    def _under_way(self) -> list[WorkerRun]:
        """Return the unfinished attempts of these, under the lock."""
        ended = {run.name for run, _ in self._ends}
        return [
            run
            for name, run in self._runs.items()
            if not run.is_dropped and name not in ended
        ]

    def _hear(self, answer: Mapping[str, Any], sent: float) -> None:
        """Take in the answer of the service to a request sent at *sent*."""
        self._lease.renew(sent)
        for name in answer.get("stop", ()):
            self._stop(name)
        for order in answer.get("orders", ()):
            self._begin(order)

    def _begin(self, order: Mapping[str, Any]) -> None:
        name = str(order["attempt"])
        with self._lock:
            if name in self._seen:
                return
            if self._is_to_end.is_set():
                self._unbegun.append(name)
                return
            self._seen[name] = None
            if len(self._seen) > _SEEN:
                self._seen.popitem(last=False)
            run = self._runs[name] = self._runner.prepare(order)
        _LOG.info(
            "%s: begins %s, attempt %s", self.name, order["task_id"], order["number"]
        )
        self._runner.begin(run)

    def _stop(self, name: str) -> None:
        with self._lock:
            # The service may have the end by now of an attempt that ended during the
            # request.
            runs = [run for run in self._under_way() if run.name == name]
        for run in runs:
            if not run.is_to_stop:
                _LOG.info(
                    "%s: stops %s, as it was told to", self.name, run.order["task_id"]
                )
                self._runner.stop(run, self._grace)

    # -- heartbeats ----------------------------------------------------------------

    def _beat(self, line: Line) -> None:
        while not self._has_ended.wait(self._lease.length / (6 if self._runs else 3)):
            self._keep_leases()
            if not self._is_known:
                continue
            with self._lock:
                runs = [run for run in self._runs.values() if not run.is_dropped]
            news = {run.name: run.news() for run in runs}
            progress = {
                name: value for name, value in news.items() if value is not None
            }
            try:
                self._give_sign(line, [*news], progress)
            except (Unreachable, Refusal) as error:
                # The next request for work gets the same error, and acts on it.
                _LOG.debug("%s: no sign of life got through: %s", self.name, error)
            self._keep_leases()

    def _give_sign(
        self, line: Line, running: list[str], progress: Mapping[str, Any]
    ) -> None:
        """Send a heartbeat with running attempts and progress."""
        message: dict[str, Any] = {"running": running, "progress": progress}
        if self._asks_round_trip and self._round_trip is not None:
            message["round_trip"] = round(self._round_trip, 6)
        sent = monotonic()
        try:
            answer = line.say("heartbeat", message, max(1.0, self._lease.length / 3))
        except Refusal as error:
            if not (progress and error.is_of_content):
                raise
            if len(progress) == 1:
                text = "%s: the progress of %s is not taken: %s"
                (name,) = progress
                _LOG.warning(text, self.name, visible(name), visible(str(error)))
                self._give_sign(line, running, {})
            for name, value in progress.items() if len(progress) > 1 else ():
                self._give_sign(line, running, {name: value})
        else:
            self._round_trip = monotonic() - sent
            self._hear(answer, sent)

    def _keep_leases(self) -> None:
        """End the programs if nothing was heard of it for its lease."""
        now = monotonic()
        if not self._lease.is_over(now):
            return
        with self._lock:
            lost = [
                run
                for run in self._under_way()
                if run.process is not None or self._runner.is_waiting(run)
            ]
            for run in lost:
                run.is_dropped = True
        for run in lost:
            _LOG.warning(
                "%s: ends %s: the lease is over, nothing was heard for %.1f s",
                *(self.name, run.order["task_id"], self._lease.silence(now)),
            )
            self._runner.stop(run, self._grace)

    # -- reports of ends -----------------------------------------------------------

    def _ended(self, run: WorkerRun, end: dict[str, Any]) -> None:
        """Note that an attempt has ended, on any thread."""
        with self._changed:
            if run.is_dropped:
                self._runs.pop(run.name, None)
            else:
                result = {"attempt": run.name, **end, **run.in_result()}
                self._ends.append((run, result))
            self._changed.notify_all()
        if run.is_dropped:
            self._runner.forget(run)

    def _tell_ends(self, line: Line) -> None:
        while (batch := self._next_ends()) is not None:
            self._tell_until_heard(line, batch)

    def _tell_until_heard(
        self, line: Line, batch: list[tuple[WorkerRun, dict[str, Any]]]
    ) -> None:
        pauses = _PAUSES.pauses(self._random)
        while not self._has_ended.is_set():
            try:
                self._tell(line, batch)
            except Unreachable as error:
                self._note(f"has ends to tell: {error}")
            except Refusal as error:
                if error.is_of_content:
                    self._tell_otherwise(line, batch, error)
                    return
                if error.is_passing:
                    self._note(f"has ends to tell: {error}")
                elif error.code not in _UNKNOWN:
                    self._note(f"cannot tell how attempts have ended: {error}")
            else:
                return
            with self._changed:
                self._changed.wait(next(pauses))

    def _tell_otherwise(
        self, line: Line, batch: list[tuple[WorkerRun, dict[str, Any]]], error: Refusal
    ) -> None:
        """Report refused ends one by one, or as failures."""
        if len(batch) > 1:
            for each in batch:
                self._tell_until_heard(line, [each])
            return
        ((run, end),) = batch
        why = f"the service does not take its end: {visible(str(error))}"
        failure = {"outcome": "failed", "error": {"type": "ValueError", "message": why}}
        if end["outcome"] == "failed" and end["error"] == failure["error"]:
            # If even that fails, the service misses the attempt, and gives it to
            # another worker.
            _LOG.error("%s: %s: %s", self.name, run.order["task_id"], why)
            self._has_told([run])
            return
        with self._lock:
            end.clear()
            end.update({"attempt": run.name, **failure, **run.in_result()})
        self._tell_until_heard(line, batch)

    def _next_ends(self) -> list[tuple[WorkerRun, dict[str, Any]]] | None:
        """Ends that fit into one message; waits for them."""
        with self._changed:
            while not (self._ends or self._has_ended.is_set()):
                self._changed.wait()
            if self._has_ended.is_set():
                return None
            batch: list[tuple[WorkerRun, dict[str, Any]]] = []
            size = 0
            for run, end in self._ends:
                size += len(json.dumps(end))
                if batch and size > MAX_RESULT:
                    break
                batch.append((run, end))
            return batch

    def _tell(self, line: Line, batch: list[tuple[WorkerRun, dict[str, Any]]]) -> None:
        if self._takes_files:
            for run, _ in batch:
                self._send_files(line, run)
        with self._lock:
            ended = {run.name for run, _ in batch}
            running = [name for name in self._names() if name not in ended]
        most = 0 if self._is_to_end.is_set() else self._at_once
        message = {
            "results": [end for _, end in batch],
            "running": running,
            "most": most,
        }
        sent = monotonic()
        answer = line.say("complete", message, _PATIENCE)
        fates = {each["attempt"]: each["fate"] for each in answer["results"]}
        for run, end in batch:
            fate = fates.get(run.name, "unknown")
            say = _LOG.info if fate == "counted" else _LOG.warning
            words = (self.name, run.order["task_id"], _shown(end), fate)
            say("%s: ended %s: %s, %s", *words)
        self._has_told([run for run, _ in batch])
        self._hear(answer, sent)

    def _has_told(self, runs: list[WorkerRun]) -> None:
        """Note that these ends, the first ones, are reported."""
        with self._changed:
            del self._ends[: len(runs)]
            for run in runs:
                self._runs.pop(run.name, None)
            self._changed.notify_all()
        for run in runs:
            self._runner.forget(run)

    def _send_files(self, line: Line, run: WorkerRun) -> None:
        """Send the files of an attempt; leave out and log refused ones."""
        refused = 0
        for name, path in run.files():
            if refused == _MOST_REFUSED:
                text = "%s: more files of %s are not sent, after so many refusals"
                _LOG.warning(text, self.name, run.order["task_id"])
                return
            try:
                for part in run.parts(name, path):
                    line.say("artifact", part, _PATIENCE)
            except (Refusal, OSError) as error:
                if isinstance(error, Refusal) and not (
                    error.is_of_content
                    or (error.status == _CONFLICT and error.code not in _UNKNOWN)
                ):
                    raise
                refused += 1
                _LOG.warning(
                    "%s: %s of %s was not sent: %s",
                    *(self.name, visible(name), run.order["task_id"]),
                    visible(str(error)),
                )

    # -- its own description -------------------------------------------------------

    def _note(self, text: str) -> None:
        """Say something in the log, once."""
        if text != self._said_last:
            self._said_last = text
            _LOG.info("%s: %s", self.name, visible(text))

    def _is_final(self, error: Refusal) -> bool:
        """Return whether the service will never accept this request."""
        waits = ("agent_taken", "too_many_agents", "unknown_path", *_UNKNOWN)
        return not error.is_passing and error.code not in waits

    def _give_up(self, error: Refusal) -> None:
        hint = "the token is in TASKORCH_TOKEN" if error.code == "no_token" else ""
        msg = f"the service does not take worker {self.name!r}: {error}"
        self._fault = InvalidTaskError(msg, hint=hint)
        self._is_to_end.set()


def _document(resources: Resources) -> dict[str, Any]:
    """Return *resources* as a message has them: named units as lists of names."""
    units = {name: {"named": [*names]} for name, names in resources.unit_names}
    return {**resources, **units}


def _shown(end: Mapping[str, Any]) -> str:
    """Return the end of an attempt in words."""
    if "error" in end:
        text = "failed: {type}: {message}".format(**end["error"])
    elif "program" in end:
        code = end["program"]["exit_code"]
        text = f"exit code {code}" if code else end["outcome"]
    else:
        text = end["outcome"]
    return visible(" ".join(text[:_MAX_SHOWN].split()))
